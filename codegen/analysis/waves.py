"""The order of a straight stretch of code: dear functions that do not wait for each other stand side by side.

A processor looks a few hundred instructions ahead, about as many as one dear function has. Two calls that come one
behind the other are therefore computed one after the other, although nothing forces them. `in_waves` puts calls into
waves (a call is one wave behind the last call that it needs), equal functions of a wave next to each other, and keeps
the order of everything else; what is next to each other is then computed as one (see `codegen.kernels.gangs`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codegen.ir.costs import scalar_cost
from codegen.ir.loops import Let, Load, Stmt, Store, scalars_read

_DEAR = 20
_END = 1 << 30
_OF_TWO = ("pow", "hypot", "arctan2", "logaddexp")


def is_dear(stmt: Stmt) -> bool:
    """Whether a statement is a function of numbers that fills the pipeline by itself."""
    if not isinstance(stmt, Let) or scalar_cost(stmt.op) < _DEAR:
        return False
    return len(stmt.args) == 1 or stmt.op in _OF_TWO


def in_waves(body: Sequence[Stmt], alike: bool = False) -> Sequence[Stmt]:
    """The stretch in an order of waves, or as it is where no two calls could stand side by side; `alike`: or where
    none of those that could are equal functions."""
    dear = [is_dear(stmt) for stmt in body]
    if sum(dear) < 2:
        return body
    read = {s.buffer.root for s in body if isinstance(s, Load)}
    if any(isinstance(s, Store) and (s.fold or s.buffer.root in read) for s in body):
        return body
    depth: dict[int, int] = {}
    wave: dict[int, int] = {}
    reads = [scalars_read(stmt) for stmt in body]
    for position, names in enumerate(reads):
        below = 0
        for name in names:
            if depth.get(name, 0) > below:
                below = depth[name]
        if dear[position]:
            wave[position] = below
            below += 1
        stmt = body[position]
        if below and isinstance(stmt, (Let, Load)):
            depth[stmt.name] = below
    if alike and max(Counter((at, _kind(body[p])) for p, at in wave.items()).values()) < 2:
        return body
    # What a wave needs comes before it, everything else behind the last one.
    wanted: dict[int, int] = {}
    order: list[tuple[int, bool, str, int]] = []
    for position in range(len(body) - 1, -1, -1):
        stmt = body[position]
        phase = wave.get(position, _END)
        if phase == _END and isinstance(stmt, (Let, Load)):
            phase = wanted.get(stmt.name, _END)
        if phase < _END:
            for name in reads[position]:
                if phase < wanted.get(name, _END):
                    wanted[name] = phase
        order.append((phase, dear[position], _kind(stmt) if dear[position] else "", position))
    return [body[position] for _, _, _, position in sorted(order)]


def _kind(stmt: Stmt) -> str:
    """What equal functions have in common."""
    return f"{stmt.op} {stmt.dtype} {stmt.attr}" if isinstance(stmt, Let) else ""
