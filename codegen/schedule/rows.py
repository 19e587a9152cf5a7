"""Kernels that run over the same rows become one, row by row, and what they hand over shrinks to a single row.

Takes kernels of the loop IR and the list of temporary buffers; gives fewer kernels. Two kernels `for i < m` are joined
when each touches only row i of every buffer that one of them writes and the other uses; nothing between them may stand
in the way. A temporary that is then used in one such loop alone, row i in iteration i, becomes a buffer for one row, so
that what was written to memory and read back stays in the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from codegen.ir.costs import scalar_cost
from codegen.ir.index import Index, combine, flatten, make, stays, var, without
from codegen.ir.loops import (
    Buffer,
    Call,
    For,
    Kernel,
    Let,
    Load,
    Pointer,
    Stmt,
    Store,
    extents_of,
    places_of,
    statements,
    touched,
    walk,
)
from symdiff.ir.dims import Size, product

_LOOK_BACK = 12
_SOFT, _SOFT_LENGTH = 5, 24
_LARGEST = 400
"""Loops are not joined beyond so many statements: long bodies gain nothing and compile slowly."""


@dataclass(eq=False, slots=True)
class _Part:
    """A kernel, its buffers, and its row loop if that is all it does."""

    kernel: Kernel
    reads: set[Buffer]
    writes: set[Buffer]
    loop: For | None
    rows: set[Buffer]
    """Buffers of which iteration i touches row i alone."""

    def conflicts(self, other: _Part) -> set[Buffer]:
        """Buffers that one of the two writes and the other uses."""
        return (self.writes & (other.reads | other.writes)) | (self.reads & other.writes)


def join_rows(
    kernels: Sequence[Kernel], temps: list[Buffer], outside: Collection[Buffer] = (), block: str = ""
) -> list[Kernel]:
    """Join what can be joined; `temps` gets the smaller buffers. `outside`: buffers that other kernels use as well.

    `block` is the loop over blocks of another axis that the kernels stand in: routines begin at that place of a row.
    """
    parts: list[_Part] = []
    for number, kernel in enumerate(kernels):
        following = kernels[number + 1].body if number + 1 < len(kernels) else []
        part = _softened(parts, _part(kernel, block), row_loop(following))
        host = _host(parts, part)
        if host is None:
            parts.append(part)
        else:
            parts[host] = _joined(parts[host], part, block)
    _shrink(parts, temps, outside)
    return [p.kernel for p in parts]


def joined(first: Kernel, second: Kernel) -> Kernel:
    """Two loops over the same rows as one."""
    return _joined(_part(first), _part(second), "").kernel


def row_loop(body: Sequence[Stmt]) -> For | None:
    """The loop over rows, if that and scalars in front of it are all there is."""
    loop = body[-1] if body else None
    if not isinstance(loop, For) or loop.vector or loop.carries or loop.step != 1 or loop.once or loop.steps:
        return None
    return loop if all(isinstance(s, (Let, Load)) for s in body[:-1]) else None


def _reach(loop: For) -> tuple[Size, str, Size]:
    """What a loop runs over."""
    return loop.extent, loop.within, loop.share


def _part(kernel: Kernel, block: str = "") -> _Part:
    reads, writes = touched(kernel.body)
    loop = row_loop(kernel.body)
    if loop is None:
        return _Part(kernel, reads, writes, None, set())
    return _Part(kernel, reads, writes, loop, row_buffers(loop, kernel.body[:-1], block))


def _softened(parts: Sequence[_Part], part: _Part, following: For | None) -> _Part:
    """A few cheap scalars for each row, between two loops over the same rows, are computed row by row as well."""
    loop = part.kernel.body[-1] if part.kernel.body else None
    if not parts or following is None or not isinstance(loop, For) or not loop.vector or loop.carries:
        return part
    before = parts[-1]
    if before.loop is None or not _reach(before.loop) == _reach(loop) == _reach(following):
        return part
    cheap = all(not isinstance(s, Let) or scalar_cost(s.op) <= _SOFT for s in loop.body)
    handed = before.writes & part.reads and part.writes & touched(following.body)[0]
    if not cheap or not handed or len(part.kernel.body) + len(loop.body) > _SOFT_LENGTH:
        return part
    plain = Kernel(part.kernel.name, [*part.kernel.body[:-1], replace(loop, vector=False)])
    soft = _part(plain)
    return soft if part.conflicts(before) <= soft.rows & before.rows else part


def row_buffers(loop: For, before: Sequence[Stmt], block: str = "") -> set[Buffer]:
    """Buffers of which iteration i touches only row i."""
    good: set[Buffer] = set()
    bad = touched(before)[0]
    for stmt, around in walk(loop.body):
        for buffer, index in places_of(stmt):
            if _in_row(buffer, index, loop, around, isinstance(stmt, Call), block):
                good.add(buffer.root)
            else:
                bad.add(buffer.root)
    return good - bad


def _row_shape(buffer: Buffer, loop: For) -> tuple[Size, ...]:
    """The axes of one row: a loop may run over several of the first axes as over one."""
    count = next((j for j in range(1, len(buffer.shape) + 1) if product(buffer.shape[:j]) == loop.extent), 1)
    return buffer.shape[1 if loop.within else count :]


def _in_row(
    buffer: Buffer, index: tuple[Index, ...], loop: For, around: Sequence[For], call: bool, block: str
) -> bool:
    root, name = buffer.root, loop.var
    if not root.shape:
        return False
    if buffer is root:
        return index[0] == var(name) and (not call or all(i == Index() for i in index[1:]))
    if len(buffer.shape) != 1:
        return False
    # A flat index stays in its row when the rest of it does; routines begin at a row.
    row = product(_row_shape(root, loop))
    if index[0].coefficient(name) != row:
        return False
    if call:
        return without(index[0], {name, block}) == Index()
    return stays(without(index[0], {name}), extents_of(around), row)


def _host(parts: Sequence[_Part], part: _Part) -> int | None:
    """The earlier part that can take this one in."""
    if part.loop is None:
        return None
    for back in range(len(parts) - 1, max(-1, len(parts) - 1 - _LOOK_BACK), -1):
        other = parts[back]
        conflicts = other.conflicts(part)
        if other.loop is not None and _reach(other.loop) == _reach(part.loop):
            fits = conflicts <= (other.rows & part.rows)
            shared = conflicts or (other.reads & part.reads)
            if fits and shared and _length(other) + _length(part) <= _LARGEST:
                return back
        if conflicts:
            return None
    return None


def _length(part: _Part) -> int:
    return sum(1 for _ in statements(part.kernel.body))


def _joined(first: _Part, second: _Part, block: str) -> _Part:
    one, two = first.loop, second.loop
    assert one is not None and two is not None
    name = one.var
    if two.var != name:
        taken = {s.var for loop in (one, two) for s in statements(loop.body) if isinstance(s, For)}
        name = next(v for v in (one.var, two.var, *(f"row{i}" for i in range(len(taken) + 1))) if v not in taken)
        for loop in (one, two):
            if loop.var != name:
                rename(loop.body, loop.var, name)
    loop = replace(one, var=name, body=[*one.body, *two.body])
    before = [*first.kernel.body[:-1], *second.kernel.body[:-1]]
    kernel = Kernel(first.kernel.name, [*before, loop])
    rows = row_buffers(loop, before, block)
    return _Part(kernel, first.reads | second.reads, first.writes | second.writes, loop, rows)


def rename(body: list[Stmt], old: str, new: str) -> None:
    """Write `new` for `old`; loops inside that are called `new` already are called `old` from now on."""
    other = {old: new, new: old}

    def renamed(index: Index) -> Index:
        if index.coefficient(old) == index.coefficient(new) == 0:
            return index
        return make({other.get(n, n): c for n, c in index.terms}, index.const)

    for stmt in statements(body):
        if isinstance(stmt, For):
            stmt.var = other.get(stmt.var, stmt.var)
        elif isinstance(stmt, Let):
            if isinstance(stmt.attr, Index):
                stmt.attr = renamed(stmt.attr)
        elif isinstance(stmt, (Load, Store)):
            stmt.index = tuple(map(renamed, stmt.index))
        elif isinstance(stmt, Call):
            for arg in stmt.args:
                if isinstance(arg, Pointer):
                    arg.index = tuple(map(renamed, arg.index))


def _shrink(parts: Sequence[_Part], temps: list[Buffer], outside: Collection[Buffer]) -> None:
    """Temporaries of one row loop alone become buffers for one row."""
    users: dict[Buffer, list[_Part]] = {}
    for part in parts:
        for buffer in part.reads | part.writes:
            users.setdefault(buffer, []).append(part)
    for number, buffer in enumerate(temps):
        own = users.get(buffer, [])
        if buffer in outside or len(own) != 1 or own[0].loop is None or buffer not in own[0].rows:
            continue
        temps[number] = _one_row(buffer, own[0].loop)


def _one_row(buffer: Buffer, loop: For) -> Buffer:
    shape = _row_shape(buffer, loop)
    small = Buffer(buffer.name, buffer.dtype, shape, buffer.kind, buffer.number, private=True)
    row = product(small.shape)
    flat = small if small.shape == (row,) else Buffer(f"{small.name}'", small.dtype, (row,), small.kind, 0, small)
    for stmt in statements(loop.body):
        targets: list[Load | Store | Pointer] = []
        if isinstance(stmt, (Load, Store)):
            targets = [stmt]
        elif isinstance(stmt, Call):
            targets = [a for a in stmt.args if isinstance(a, Pointer)]
            stmt.writes = tuple([small if b.root is buffer else b for b in stmt.writes])
        for target in targets:
            if target.buffer is buffer:
                target.buffer, target.index = small, target.index[1:]
            elif target.buffer.root is buffer:
                offset = combine([(1, flatten(target.index, target.buffer.shape)), (-row, var(loop.var))])
                target.buffer, target.index = (flat, (offset,)) if shape else (small, ())
    return small
