"""Kernels that pass over the same long axis run block by block, so that a block's data stay in the cache.

`in_blocks` takes the kernels and the axis (see `codegen.arrays.axes`) and gives fewer: a group of kernels that touch
the axis row by row becomes one loop over blocks, each kernel running over the current block. Temporaries that live in
the group alone shrink to one block. What a kernel folds over the axis is folded block by block into a part for each of
a few chunks of the axis, and the parts are folded in the end: threads may share the chunks, and bits depend on sizes
alone. How the axis is cut is decided from the sizes of the call (`Block`).

A kernel belongs to the group when all it shares with others of the group, and one of them writes, is touched at the
same row of the axis by both. Kernels that need a finished fold come after the group. Of a matrix product the group
computes a block of rows at a time, so that what is made of the rows is made while they are in the cache, and rows of
its left operand when they are needed; its right operand is packed once, before the group (`codegen.products.panels`).
Products that sum over the axis stay out, as they would write their result again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from codegen.analysis.along import NAME, SUMS, Unit, Units, moving, read, row_axis, row_by_row
from codegen.ir.index import ZERO, Index, combine, contiguous_strides, flatten, var
from codegen.ir.loops import (
    Block,
    Buffer,
    Call,
    Count,
    For,
    Kernel,
    Load,
    Pointer,
    Stmt,
    Store,
    extents_of,
    statements,
    touched,
    walk,
)
from codegen.llvm.scalars import neutral
from codegen.llvm.text import BYTES
from codegen.products.gemm import ADD
from codegen.products.panels import room
from codegen.schedule.again import made_again
from codegen.schedule.nests import Memory, Nest
from codegen.schedule.placing import place
from codegen.schedule.rows import join_rows, row_loop
from symdiff.ir.dims import Dim, Size, product

_CHUNK = "c0"
_STEPS = {3: range(4, 6), 6: range(7, 9), 9: range(10, 11)}
"""The strides that belong to a pointer."""

# -------------------------------------------------------------------- groups
@dataclass(frozen=True, slots=True)
class _Cut:
    """The sizes that say how one group's axis is cut."""

    number: int
    size: Dim
    chunks: Dim
    span: Dim

    def name(self, name: str) -> str:
        """A kernel's name, other groups have another."""
        return f"{name}_{self.number}" if self.number else name


def _cut(number: int) -> _Cut:
    """No user can call a dimension so."""
    return _Cut(number, *(Dim({((f"#{3 * number + i}", 1),): Fraction(1)}) for i in range(3)))


def in_blocks(kernels: Sequence[Kernel], axis: Size, memory: Memory) -> tuple[list[Kernel], list[Block]]:
    """The kernels, the best group of them as one loop over blocks; and how its blocks are cut.

    Before and after that group there may be others with matrix products.
    """
    units = [read(kernel, axis) for kernel in kernels]
    users: dict[Buffer, set[Unit]] = {}
    for unit in units:
        for buffer in unit.reads.keys() | unit.writes.keys():
            users.setdefault(buffer, set()).add(unit)
    made: list[Kernel] = []
    blocks: list[Block] = []
    pending: list[list[Unit] | list[Kernel]] = [units]
    while pending:
        part = pending.pop()
        own = [u for u in part if isinstance(u, Unit)]
        best = _best(own, users, bool(blocks))
        if best is None:
            made += [u.kernel if isinstance(u, Unit) else u for u in part]
            continue
        before, group, after = best
        finished, block = _together(group, users, axis, memory, _cut(len(blocks)))
        blocks.append(block)
        pending += [after, finished, before]
    return made, blocks


def _best(
    own: Sequence[Unit], users: Mapping[Buffer, set[Unit]], products: bool
) -> tuple[list[Unit], list[Unit], list[Unit]] | None:
    """What runs before the best group, the group, and what runs after it."""
    best: tuple[float, tuple[list[Unit], list[Unit], list[Unit]]] | None = None
    most = _most(own, users)
    for start, unit in enumerate(own):
        if best is not None and most[start] <= best[0]:  # no group that begins here or later is better
            break
        if unit.usable:
            parts = _split(own, start)
            multiplies = any(isinstance(s, Call) for u in parts[1] for s in u.kernel.body)
            if multiplies:
                parts = _without_spare_folds(*parts, users)
            gain = _gain(parts[1], users) if multiplies or not products else 0.0
            if gain and (best is None or gain > best[0]):
                best = gain, parts
    return None if best is None else best[1]


def _most(own: Sequence[Unit], users: Mapping[Buffer, set[Unit]]) -> list[float]:
    """What groups that begin with each unit or later gain at most: all that they may keep a block of."""
    made, total, seen = [0.0] * len(own), 0.0, set[Buffer]()
    for number in range(len(own) - 1, -1, -1):
        unit = own[number]
        if unit.usable:
            new = {b for b in unit.reads.keys() | unit.writes.keys() if row_by_row(unit.axes(b))} - seen
            seen |= new
            total += _worth(b for b in new if b.kind == "temp" or len(users[b]) > 1)
        made[number] = total
    return made


def _together(
    group: Sequence[Unit], users: Mapping[Buffer, set[Unit]], axis: Size, memory: Memory, cut: _Cut
) -> tuple[list[Kernel], Block]:
    """The kernels of a group as one loop over blocks, what comes before and behind it, and how blocks are cut."""
    inside = set(group)
    outside = {b for b, own in users.items() if not own <= inside}
    targets = _targets(group)
    for unit in group:
        _enter(unit)
    fills, folds, parts = _parts(targets, [u.kernel for u in group], memory, cut)
    packing, fixed = _packed_once(group, axis, memory, cut)
    kept = [b for b in _kept(group, users) if b.kind != "temp" or b in outside]
    repeated = made_again([u.kernel for u in group], memory, outside)
    joined = join_rows(repeated, memory.temps, outside, NAME)
    used = {b for k in joined for side in touched(k.body) for b in side}
    # Parts of what is folded may have an axis as long as the one that is cut; a chunk keeps them whole.
    kept += [b for b in memory.temps if b in used - outside and axis in b.shape and b.shape[0] != cut.chunks]
    each = _bytes(kept, axis)
    loop = For(NAME, axis, [s for k in joined for s in k.body], step=cut.size, block=(_CHUNK, cut.span))
    accesses = _accesses(loop)
    for number, buffer in enumerate(memory.temps):
        if buffer in used - outside and axis in buffer.shape:
            memory.temps[number] = _shrunk(buffer, accesses, axis, cut)
    chunks = For(_CHUNK, cut.chunks, [*fills, loop], apart=True)
    made = [*packing, Kernel(group[0].kernel.name, [chunks]), *folds]
    single = not any(u.calls or any(loop.vector and share == 1 for loop, share in u.loops) for u in group)
    return made, Block(cut.size, cut.chunks, cut.span, axis, each, parts, single, fixed)


def _packed_once(group: Sequence[Unit], axis: Size, memory: Memory, cut: _Cut) -> tuple[list[Kernel], Size]:
    """What all blocks multiply with, packed before they begin; and the bytes of that."""
    packing: list[Stmt] = []
    fixed: Size = 0
    for call in [s for u in group for s in u.kernel.body if isinstance(s, Call)]:
        _, n, k, _, _, _, *right = call.args[:9]
        assert isinstance(n, (int, Dim)) and isinstance(k, (int, Dim))
        out = memory.temp((room(n, k, call.dtype),), call.dtype)
        target = Pointer(out, (ZERO,))
        packing.append(Call("panels", call.dtype, (n, k, *right, call.args[11], target, axis, cut.size), writes=(out,)))
        call.args = (*call.args[:13], target)
        fixed = fixed + n * k * BYTES[call.dtype]
    return [Kernel(cut.name("packed"), packing)] if packing else [], fixed


def _split(units: Sequence[Unit], start: int) -> tuple[list[Unit], list[Unit], list[Unit]]:
    """What runs before the group that begins with unit `start`, the group, and what runs after it."""
    before, group, after = list(units[:start]), Units(), Units()
    group.add(units[start])
    for unit in units[start + 1 :]:
        if after.before(unit):
            after.add(unit)
        elif unit.usable and not group.clash(unit):
            group.add(unit)
        elif group.before(unit):
            after.add(unit)
        else:
            before.append(unit)
    return before, group.members, after.members


def _without_spare_folds(
    before: list[Unit], group: list[Unit], after: list[Unit], users: Mapping[Buffer, set[Unit]]
) -> tuple[list[Unit], list[Unit], list[Unit]]:  # fmt: skip
    """The same without folds of columns of what is kept as a whole anyway: reading it once more costs less than parts
    for every chunk."""
    inside = set(group)

    def spare(unit: Unit) -> bool:
        read = [b for b in unit.reads if len(b.shape) > 1]
        only = unit.writes.keys() <= {s.buffer.root for s, _ in unit.folds if s.index}
        kept = all(any(b in u.reads for u in users[b] - inside) for b in read)
        return bool(unit.folds) and only and kept

    spared = {u for u in group if spare(u)}
    return before, [u for u in group if u not in spared], [*(u for u in group if u in spared), *after]


def _kept(group: Sequence[Unit], users: Mapping[Buffer, set[Unit]]) -> list[Buffer]:
    """Buffers of which one block stays in the cache: temporaries of the group, and matrices that it reads twice."""
    axes: dict[Buffer, set[int]] = {}
    for unit in group:
        for side in (unit.reads, unit.writes):
            for buffer, own in side.items():
                axes.setdefault(buffer, set()).update(own)
    inside = set(group)
    kept: list[Buffer] = []
    for buffer, own in axes.items():
        if not row_by_row(own):
            continue
        members = users[buffer] & inside
        temporary = buffer.kind == "temp" and members == users[buffer]
        if temporary or (len(members) > 1 and len(buffer.shape) > 1):
            kept.append(buffer)
    return kept


def _by_row(unit: Unit) -> bool:
    """Whether a kernel is one loop over rows: such kernels join row by row, which is better."""
    loop = row_loop(unit.kernel.body)
    return loop is not None and any(loop is own for own, _ in unit.loops)


def _worth(buffers: Iterable[Buffer]) -> float:
    return float(sum(max(len(b.shape) - 1, 0) for b in buffers))


def _gain(group: Sequence[Unit], users: Mapping[Buffer, set[Unit]]) -> float:
    """What blocks are good for: matrices and more that pass between kernels, unless these join row by row anyway."""
    loose = {b for u in group if not _by_row(u) for side in (u.reads, u.writes) for b in side}
    return _worth(b for b in _kept(group, users) if b in loose)


def _bytes(buffers: Sequence[Buffer], axis: Size) -> Size:
    """Bytes of one row of each."""
    total: Size = 0
    for buffer in buffers:
        total = total + _row(buffer, axis) * BYTES[buffer.dtype]
    return total


def _row(buffer: Buffer, axis: Size) -> Size:
    at = buffer.shape.index(axis)
    return product((*buffer.shape[:at], *buffer.shape[at + 1 :]))


def _targets(group: Sequence[Unit]) -> dict[Buffer, str]:
    """What the group folds into, and how."""
    targets = {s.buffer.root: kind for u in group for s, kind in u.folds}
    for unit in group:
        for call, role in unit.calls:
            if role == SUMS:
                targets.update({b.root: "sum" for b in call.writes})
    return targets


def _parts(
    targets: dict[Buffer, str], kernels: Sequence[Kernel], memory: Memory, cut: _Cut
) -> tuple[list[Stmt], list[Kernel], Size]:
    """Turn the kernels to parts for each chunk: what parts begin from, kernels that fold them, bytes for a chunk."""
    fills: list[Stmt] = []
    folds: list[Kernel] = []
    bytes_: Size = 0
    parts: dict[Buffer, Buffer] = {}
    for number, (buffer, kind) in enumerate(targets.items()):
        nest = Nest(memory, buffer.shape)
        nest.store(buffer, nest.index, nest.const(neutral(kind, buffer.dtype), buffer.dtype))
        fills += place(nest)
        parts[buffer] = memory.temp((cut.chunks, *buffer.shape), buffer.dtype)
        bytes_ = bytes_ + product(buffer.shape) * BYTES[buffer.dtype]
        last = Nest(memory, (*buffer.shape, cut.chunks))
        *own, chunk = last.index
        value = last.load(parts[buffer], (chunk, *own))
        last.fold(kind, buffer.dtype, value, len(own), lambda out, b=buffer, i=tuple(own): Store(b, i, out))
        folds.append(Kernel(cut.name(f"f{number}"), place(last)))
    for stmt in (s for body in (fills, *(k.body for k in kernels)) for s in statements(body)):
        places = [a for a in stmt.args if isinstance(a, Pointer)] if isinstance(stmt, Call) else [stmt]
        for one in places:
            if isinstance(one, (Store, Pointer)) and one.buffer.root in parts:
                own = parts[one.buffer.root]
                one.index = (var(_CHUNK), *one.index)
                one.buffer = memory.reshaped(own, (cut.chunks, *one.buffer.shape))
        if isinstance(stmt, Call):
            stmt.writes = tuple([parts.get(b.root, b) for b in stmt.writes])
    return fills, folds, bytes_


def _enter(unit: Unit) -> None:
    """Make a kernel run over the current block."""
    for loop, share in unit.loops:
        loop.within, loop.share = NAME, share
    for store, kind in unit.folds:
        store.fold = kind
    for call, role in unit.calls:
        args = list(call.args)
        for position, step in moving(call, role).items():
            pointer = args[position]
            assert isinstance(pointer, Pointer)
            args[position] = Pointer(pointer.buffer, (combine([(1, pointer.index[0]), (step, var(NAME))]),))
        args[role] = Count(NAME)
        if role == SUMS:
            flags = args[12]
            assert isinstance(flags, int)
            args[12] = flags | ADD
        call.args = tuple(args)


@dataclass(eq=False, slots=True)
class _Accesses:
    """Where one buffer is touched, each with the loops around it; and the calls that do."""

    places: list[tuple[Load | Store | Pointer, Sequence[For]]] = field(
        default_factory=list["tuple[Load | Store | Pointer, Sequence[For]]"]
    )
    calls: list[Call] = field(default_factory=list[Call])


def _accesses(loop: For) -> dict[Buffer, _Accesses]:
    """How a loop touches what it touches."""
    found: dict[Buffer, _Accesses] = {}
    for stmt, context in walk([loop]):
        targets: list[Load | Store | Pointer] = [stmt] if isinstance(stmt, (Load, Store)) else []
        if isinstance(stmt, Call):
            targets = [a for a in stmt.args if isinstance(a, Pointer)]
            for root in {b.root for b in (*stmt.writes, *(target.buffer for target in targets))}:
                found.setdefault(root, _Accesses()).calls.append(stmt)
        for target in targets:
            found.setdefault(target.buffer.root, _Accesses()).places.append((target, context))
    return found


def _shrunk(buffer: Buffer, accesses: Mapping[Buffer, _Accesses], axis: Size, cut: _Cut) -> Buffer:
    """A buffer for one block, if every access stays in its row; else the buffer as it was."""
    own = accesses.get(buffer, _Accesses())
    places: list[tuple[Load | Store | Pointer, int]] = []
    for target, context in own.places:
        over = next((one for one in context if one.within), None)
        name, share = (over.var, over.share) if over is not None else (NAME, 1)
        places.append((target, row_axis(target.buffer, target.index, name, axis, share, extents_of(context))))
    calls = own.calls
    axes = {a for _, a in places}
    if len(axes) != 1 or -1 in axes:
        return buffer
    at = axes.pop()
    small = Buffer(
        buffer.name, buffer.dtype, (*buffer.shape[:at], cut.size, *buffer.shape[at + 1 :]), buffer.kind, buffer.number,
        private=True,
    )  # fmt: skip
    old, new = contiguous_strides(buffer.shape), contiguous_strides(small.shape)
    steps: dict[Size, Size] = dict(zip(old, new, strict=True))
    strided: list[tuple[Call, list[Any]]] = []
    for call in calls:
        args: list[Any] = list(call.args)
        for position, own in _STEPS.items() if call.routine == "gemm" else ():
            pointer = args[position]
            if at and isinstance(pointer, Pointer) and pointer.buffer.root is buffer:
                if not all(args[i] in steps for i in own):
                    return buffer
                args[own.start : own.stop] = [steps[args[i]] for i in own]
        strided.append((call, args))
    flat = small
    if len(small.shape) != 1:
        flat = Buffer(f"{small.name}'", small.dtype, (product(small.shape),), small.kind, 0, small)
    for target, _ in places:
        if target.buffer is buffer:
            own = combine([(1, target.index[at]), (-1, var(NAME))])
            target.buffer, target.index = small, (*target.index[:at], own, *target.index[at + 1 :])
            continue
        offset = flatten(target.index, target.buffer.shape)
        moved: list[tuple[Size, Index]] = [(-old[at], var(NAME))]
        for name, factor in offset.terms:
            outer = old[:at].index(factor) if factor in old[:at] else -1
            moved.append((new[outer] if outer >= 0 else factor, _name(name)))
        target.buffer, target.index = flat, (combine(moved, offset.const),)
    for call in calls:
        call.writes = tuple([small if b.root is buffer else b for b in call.writes])
    for call, args in strided:
        call.args = tuple(args)
    return small


def _name(name: str) -> Index:
    return var(name) if name[0] != "%" else Index(((name, 1),))
