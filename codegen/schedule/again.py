"""Cheap arrays that are needed twice, far apart, are computed twice: one row in the cache beats a matrix in memory.

`made_again` takes the kernels of one loop over blocks in their order. A kernel that does nothing but write one
temporary, element by element at little cost, becomes part of a later kernel that reads it, when both are loops over the
same rows and something between them needs all rows: what it hands over is then a single row (see
`codegen.schedule.rows`). The values are the same ones, computed from the same operands.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from codegen.arrays.nodes import CHEAP
from codegen.ir.costs import scalar_cost
from codegen.ir.index import Index
from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Load, Pointer, Stmt, Store, statements, touched
from codegen.schedule.nests import Memory
from codegen.schedule.rows import joined, row_loop


def made_again(kernels: Sequence[Kernel], memory: Memory, outside: Collection[Buffer]) -> list[Kernel]:
    """The kernels, cheap ones repeated where that pays; `outside`: buffers that other kernels use as well."""
    made = list(kernels)
    for kernel in kernels:
        target = _cheap(kernel)
        if target is None or target in outside:
            continue
        writes = [k for k in kernels if target in touched(k.body)[1]]
        start = made.index(kernel)
        far = _far(made[start + 1 :], kernel, target)
        if far is None or len(writes) > 1 or _changed(made[start + 1 : start + 1 + far], kernel):
            continue
        own = memory.temp(target.shape, target.dtype)
        later = start + 1 + far
        for reader in made[later:]:
            _retarget(reader.body, target, own, memory)
        again = Kernel(made[later].name, _copied(kernel.body, own, memory))
        made[later] = joined(again, made[later])
    return made


def _rows(kernel: Kernel) -> tuple[object, ...] | None:
    loop = row_loop(kernel.body)
    return None if loop is None else (loop.extent, loop.within, loop.share)


def _cheap(kernel: Kernel) -> Buffer | None:
    """The temporary that a loop over rows fills at little cost and without folding anything."""
    if row_loop(kernel.body) is None:
        return None
    written: set[Buffer] = set()
    cost = 0
    for stmt in statements(kernel.body):
        names = {n for i in _indices(stmt) for n, _ in i.terms}
        if any(n[0] == "%" for n in names):
            return None
        if isinstance(stmt, Let):
            cost += scalar_cost(stmt.op)
        elif isinstance(stmt, Store) and not stmt.fold:
            written.add(stmt.buffer.root)
        elif not isinstance(stmt, (Load, For)) or (isinstance(stmt, For) and (stmt.carries or stmt.once)):
            return None
    target = written.pop() if len(written) == 1 else None
    good = target is not None and target.kind == "temp" and len(target.shape) > 2 and cost <= CHEAP
    return target if good and target not in touched(kernel.body)[0] else None


def _indices(stmt: Stmt) -> Sequence[Index]:
    if isinstance(stmt, (Load, Store)):
        return stmt.index
    return (stmt.attr,) if isinstance(stmt, Let) and isinstance(stmt.attr, Index) else ()


def _far(following: Sequence[Kernel], kernel: Kernel, target: Buffer) -> int | None:
    """The first kernel that reads the target behind one that runs over other rows, if one before that reads it too."""
    near = apart = False
    for number, other in enumerate(following):
        reads = target in touched(other.body)[0]
        if _rows(other) != _rows(kernel):
            if reads:
                return None
            apart = apart or near
        elif reads and apart:
            return number
        else:
            near = near or reads
    return None


def _changed(between: Sequence[Kernel], kernel: Kernel) -> bool:
    """Whether something that the kernel reads is written by others."""
    read = touched(kernel.body)[0]
    return any(read & touched(other.body)[1] for other in between)


def _retarget(body: list[Stmt], old: Buffer, new: Buffer, memory: Memory) -> None:
    for stmt in statements(body):
        places: list[Load | Store | Pointer] = [stmt] if isinstance(stmt, (Load, Store)) else []
        if isinstance(stmt, Call):
            places = [a for a in stmt.args if isinstance(a, Pointer)]
        for place in places:
            if place.buffer.root is old:
                place.buffer = memory.reshaped(new, place.buffer.shape)


def _copied(body: Sequence[Stmt], new: Buffer, memory: Memory) -> list[Stmt]:
    """The statements with fresh names for their scalars, writing to another buffer."""
    names: dict[int, int] = {}
    made: list[Stmt] = []
    stack: list[tuple[Sequence[Stmt], list[Stmt]]] = [(body, made)]
    while stack:
        source, target = stack.pop()
        for stmt in source:
            if isinstance(stmt, For):
                loop = replace(stmt, body=[], carries=[])
                target.append(loop)
                stack.append((stmt.body, loop.body))
            else:
                target.append(replace(stmt))  # type: ignore[type-var]
    for stmt in statements(made):
        if isinstance(stmt, (Let, Load)):
            names[stmt.name] = memory.name()
            stmt.name = names[stmt.name]
        if isinstance(stmt, Let):
            stmt.args = tuple([names[a] for a in stmt.args])
        if isinstance(stmt, Store):
            stmt.value = names[stmt.value]
            stmt.buffer = memory.reshaped(new, stmt.buffer.shape)
    return made
