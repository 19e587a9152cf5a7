"""Loops over nearly the same stretch become one: memory that both read is read once, and reading overlaps writing.

`abreast` takes kernels in their order and gives fewer. Two vector loops over elements, of which the second ends a few
elements before the first, become one loop that carries the second in its body, for as long as it lasts (`For.along`).
They share what they read and do not touch what the other writes. (Loops of one extent are one nest from the beginning;
these are sums of shifted slices, edges apart, beside maps and totals.) The order of sums stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codegen.ir.index import flatten
from codegen.ir.loops import For, Kernel, Let, Load, Stmt, Store, scalars_read, statements, touched
from codegen.schedule.rows import rename
from symdiff.ir.dims import Size

_LOOK_BACK = 8
_FEW = 8
_LARGEST = 200
"""Statements up to which bodies are joined."""


def abreast(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels, some of them joined."""
    made: list[Kernel] = []
    for kernel in kernels:
        loop, host = _plain(kernel), _host(made, kernel)
        if loop is None or host is None:
            made.append(kernel)
            continue
        stores = [s for s in kernel.body if isinstance(s, Store)]
        body: list[Stmt] = [*_scalars(kernel, [loop]), *made[host].body]
        at = next(i for i, s in enumerate(body) if isinstance(s, For))
        outer = body[at]
        assert isinstance(outer, For)
        guest = replace(loop, var=outer.var, body=_renamed(loop, outer.var), vector=False, along=True)
        body[at] = replace(outer, body=[*outer.body, guest])
        made[host] = replace(made[host], body=body)
        if stores:
            made.append(replace(kernel, body=[*_scalars(kernel, stores), *stores]))
    return made


def _scalars(kernel: Kernel, wanted: Sequence[Stmt]) -> list[Stmt]:
    """The scalars in front of a kernel's loop that statements need."""
    names = {n for s in statements(list(wanted)) for n in scalars_read(s)}
    found: list[Stmt] = []
    for stmt in reversed(kernel.body[:-1]):
        if isinstance(stmt, (Let, Load)) and stmt.name in names:
            names.update(scalars_read(stmt))
            found.append(stmt)
    return found[::-1]


def _plain(kernel: Kernel) -> For | None:
    """The vector loop over elements that a kernel is, scalars in front of it; densely and without folds."""
    loop = kernel.body[-1] if kernel.body else None
    if not isinstance(loop, For) or not loop.vector or loop.carries or loop.block or loop.within or loop.once:
        return None
    straight = all(isinstance(s, (Let, Load, Store)) for s in kernel.body[:-1])
    return loop if straight and all(_dense(s, loop) for s in loop.body) else None


def _dense(stmt: Stmt, loop: For) -> bool:
    """Whether a statement is no loop, and touches memory element by element."""
    if isinstance(stmt, (Load, Store)):
        index = flatten(stmt.index, stmt.buffer.shape)
        return index.coefficient(loop.var) == 1 and all(n[0] != "%" for n, _ in index.terms)
    return isinstance(stmt, Let) and stmt.op != "index"


def _leader(kernel: Kernel) -> For | None:
    """The one vector loop over elements of a kernel, which may fold."""
    loops = [s for s in kernel.body if isinstance(s, For)]
    loop = loops[0] if len(loops) == 1 else None
    if loop is None or not loop.vector or loop.block or loop.within or any(c.inside >= 0 for c in loop.carries):
        return None
    inner = [s for s in loop.body if not isinstance(s, (Let, Load, Store))]
    return loop if all(isinstance(s, For) and s.along for s in inner) else None


def _host(made: Sequence[Kernel], kernel: Kernel) -> int | None:
    """The earlier kernel that this one can run beside."""
    loop = _plain(kernel)
    if loop is None:
        return None
    reads, writes = touched(kernel.body)
    for back in range(len(made) - 1, max(-1, len(made) - 1 - _LOOK_BACK), -1):
        own_reads, own_writes = touched(made[back].body)
        if own_writes & (reads | writes) or own_reads & writes:
            return None
        leader = _leader(made[back])
        if leader is not None and own_reads & reads and _longer(leader.extent, loop.extent):
            length = sum(1 for k in (made[back], kernel) for _ in statements(k.body))
            return back if length <= _LARGEST else None
    return None


def _longer(size: Size, other: Size) -> bool:
    rest = size - other
    return isinstance(rest, int) and 0 <= rest <= _FEW


def _renamed(loop: For, name: str) -> list[Stmt]:
    """The body, which holds no loops, with another name for its variable."""
    made = [replace(stmt) for stmt in loop.body]  # type: ignore[type-var]
    rename(made, loop.var, name)
    return made
