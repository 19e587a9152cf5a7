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
    if sum(map(is_dear, body)) < 2:
        return body
    read = {s.buffer.root for s in body if isinstance(s, Load)}
    if any(isinstance(s, Store) and (s.fold or s.buffer.root in read) for s in body):
        return body
    depth: dict[int, int] = {}
    wave: dict[int, int] = {}
    reads = [scalars_read(stmt) for stmt in body]
    for position, stmt in enumerate(body):
        below = max([depth.get(n, 0) for n in reads[position]], default=0)
        if is_dear(stmt):
            wave[position] = below
            below += 1
        if isinstance(stmt, (Let, Load)):
            depth[stmt.name] = below
    if alike and max(Counter((at, _kind(body[p])) for p, at in wave.items()).values()) < 2:
        return body
    # What a wave needs comes before it, everything else behind the last one.
    wanted: dict[int, int] = {}
    phase = [_END] * len(body)
    for position in range(len(body) - 1, -1, -1):
        stmt = body[position]
        if not isinstance(stmt, Store):
            assert isinstance(stmt, (Let, Load))
            phase[position] = wave.get(position, wanted.get(stmt.name, _END))
        for name in reads[position]:
            wanted[name] = min(wanted.get(name, _END), phase[position])

    def key(position: int) -> tuple[int, bool, str, int]:
        dear = position in wave
        return phase[position], dear, _kind(body[position]) if dear else "", position

    return [body[position] for position in sorted(range(len(body)), key=key)]


def _kind(stmt: Stmt) -> str:
    """What equal functions have in common."""
    return f"{stmt.op} {stmt.dtype} {stmt.attr}" if isinstance(stmt, Let) else ""
