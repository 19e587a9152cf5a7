"""Kernels that pass over the same long axis run block by block, so that a block's data stay in the cache.

`in_blocks` takes the kernels and the axis (see `codegen.axes`) and gives fewer: a group of kernels that touch the axis
row by row becomes one loop over blocks, each kernel running over the current block. Temporaries that live in the group
alone shrink to one block. What a kernel folds over the axis is folded block by block into a part for each of a few
chunks of the axis, and the parts are folded in the end: threads may share the chunks, and bits depend on sizes alone.
How the axis is cut is decided from the sizes of the call (`Block`).

A kernel belongs to the group when all it shares with others of the group, and one of them writes, is touched at the
same row of the axis by both. Kernels that need a finished fold come after the group; large matrix products stay out, as
they block their own operands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from codegen.again import made_again
from codegen.gemm import ADD
from codegen.index import Index, combine, contiguous_strides, flatten, var
from codegen.loops import (
    Block,
    Buffer,
    Call,
    Count,
    For,
    Kernel,
    Let,
    Load,
    Pointer,
    Stmt,
    Store,
    Trap,
    statements,
    touched,
)
from codegen.nests import Memory, Nest
from codegen.placing import place
from codegen.rows import join_rows, never_more, row_loop
from codegen.scalars import neutral
from codegen.text import BYTES
from symdiff.ir.dims import Dim, Size, product

_NAME = "r0"
_SIZE, _CHUNKS, _SPAN = (Dim({((name, 1),): Fraction(1)}) for name in ("#0", "#1", "#2"))
"""No user can call a dimension so."""
_CHUNK = "c0"
_GEMM = {0: ((3, 4), (9, 10)), 1: ((6, 8), (9, None)), 2: ((3, 5), (6, 7), (11, None))}
"""For the size argument of a matrix product that runs over the axis: pointers that move, and the argument that says
how far (None: one element)."""
_STEPS = {3: range(4, 6), 6: range(7, 9), 9: range(10, 11)}
"""The strides that belong to a pointer."""

_SUMS = 2

_Context: TypeAlias = "tuple[For, ...]"


# -------------------------------------------------------------------- what a kernel does along the axis
@dataclass(eq=False, slots=True)
class _Unit:
    """A kernel that can run over a block of the axis: its loops over it, and how it touches buffers.

    An axis number says that row i of the buffer's axis is touched in iteration i, -1 that it is touched otherwise.
    """

    kernel: Kernel
    reads: dict[Buffer, set[int]] = field(default_factory=dict[Buffer, "set[int]"])
    writes: dict[Buffer, set[int]] = field(default_factory=dict[Buffer, "set[int]"])
    loops: list[tuple[For, Size]] = field(default_factory=list["tuple[For, Size]"])
    calls: list[tuple[Call, int]] = field(default_factory=list["tuple[Call, int]"])
    folds: list[tuple[Store, str]] = field(default_factory=list["tuple[Store, str]"])
    usable: bool = True

    def clashes(self, other: _Unit) -> bool:
        """Whether the two may not run in the same block."""
        shared = {b for b in self.writes if b in other.reads or b in other.writes}
        shared |= {b for b in self.reads if b in other.writes}
        for buffer in shared:
            axes = set[int]().union(*(d.get(buffer, ()) for u in (self, other) for d in (u.reads, u.writes)))
            if len(axes) != 1 or -1 in axes or not (self.usable and other.usable):
                return True
        return False


def _walk(body: Sequence[Stmt]) -> Iterator[tuple[Stmt, _Context]]:
    """Every statement with the loops around it, outermost first."""
    stack: list[tuple[Iterator[Stmt], _Context]] = [(iter(body), ())]
    while stack:
        statements, context = stack[-1]
        for stmt in statements:
            yield stmt, context
            if isinstance(stmt, For):
                stack.append((iter(stmt.body), (*context, stmt)))
                break
        else:
            stack.pop()


class _Reader:
    """Reads one kernel."""

    def __init__(self, kernel: Kernel, axis: Size) -> None:
        self.axis, self.unit = axis, _Unit(kernel)
        self.extents: dict[str, Size] = {_NAME: 1}
        self.totals: dict[int, str] = {}  # values that are folds over the axis: their kind
        items = list(_walk(kernel.body))
        for stmt, context in items:
            if isinstance(stmt, For):
                self._loop(stmt, context)
        self._chains(items)
        for stmt, context in items:
            self._statement(stmt, context)
        unit = self.unit
        if not unit.loops and not unit.calls:
            unit.usable = False

    def _loop(self, loop: For, context: _Context) -> None:
        self.extents[loop.var] = loop.extent
        self.unit.usable &= not loop.steps
        share = self._share(loop)
        if share is None:
            return
        if any(self._share(outer) is not None for outer in context) or any(c.inside >= 0 for c in loop.carries):
            self.unit.usable = False
        self.unit.loops.append((loop, share))
        self.totals.update({c.out: c.kind for c in loop.carries})

    def _share(self, loop: For) -> Size | None:
        """1 for a loop over the axis, k for one over the axis and k elements behind it, None for other loops."""
        if loop.step != 1 or loop.within or loop.once:
            return None
        if loop.extent == self.axis:
            return 1
        if not isinstance(loop.extent, Dim):
            return None
        for stmt in loop.body:
            if isinstance(stmt, (Load, Store)) and stmt.index == (var(loop.var),):
                shape = stmt.buffer.root.shape
                if shape and shape[0] == self.axis and product(shape) == loop.extent:
                    return product(shape[1:])
        return None

    def _chains(self, items: Sequence[tuple[Stmt, _Context]]) -> None:
        """Folds of such folds over outer loops."""
        for stmt, _ in reversed(items):
            if isinstance(stmt, For) and self._share(stmt) is None:
                for carry in stmt.carries:
                    kind = self.totals.get(carry.value)
                    if kind is not None:
                        if carry.kind != kind:
                            self.unit.usable = False
                        self.totals[carry.out] = kind

    def _statement(self, stmt: Stmt, context: _Context) -> None:
        unit = self.unit
        over = next((loop for loop in context if self._share(loop) is not None), None)
        if isinstance(stmt, Trap):
            unit.usable = False
        elif isinstance(stmt, Let):
            unit.usable &= not self.totals.keys() & set(stmt.args)
        elif isinstance(stmt, Load):
            self._touch(unit.reads, stmt.buffer, stmt.index, over)
        elif isinstance(stmt, Store):
            self._store(stmt, over)
        elif isinstance(stmt, Call):
            self._call(stmt, context, over)

    def _touch(
        self, side: dict[Buffer, set[int]], buffer: Buffer, index: tuple[Index, ...], over: For | None
    ) -> int:
        axis = -1
        if over is not None:
            share = next(share for loop, share in self.unit.loops if loop is over)
            axis = row_axis(buffer, index, over.var, self.axis, share, self.extents)
        side.setdefault(buffer.root, set()).add(axis)
        return axis

    def _store(self, stmt: Store, over: For | None) -> None:
        unit = self.unit
        if over is not None:
            unit.usable &= self._touch(unit.writes, stmt.buffer, stmt.index, over) >= 0
            return
        unit.writes.setdefault(stmt.buffer.root, set()).add(-1)
        kind = self.totals.get(stmt.value)
        names = [n for i in stmt.index for n, _ in i.terms]
        whole = not any(n[0] == "%" for n in names) and (
            product([self.extents[n] for n in names]) == product(stmt.buffer.shape)
        )
        if kind is None or stmt.fold or not whole:
            unit.usable = False
        else:
            unit.folds.append((stmt, kind))

    def _call(self, stmt: Call, context: _Context, over: For | None) -> None:
        unit = self.unit
        pointers = [a for a in stmt.args if isinstance(a, Pointer)]
        roles = [i for i in range(3) if stmt.args[i] == self.axis] if stmt.routine == "gemm" else []
        if stmt.routine != "gemm" or not context or (over is None and len(roles) != 1):
            unit.usable = False
            for pointer in pointers:
                for side in (unit.reads, unit.writes) if pointer.buffer in stmt.writes else (unit.reads,):
                    side.setdefault(pointer.buffer.root, set()).add(-1)
            return
        moving = {} if over is not None else _moving(stmt, roles[0])
        for position, arg in enumerate(stmt.args):
            if not isinstance(arg, Pointer):
                continue
            side = unit.writes if position == 9 else unit.reads
            if over is not None:
                axis = self._touch(side, arg.buffer, arg.index, over)
            else:
                axis = -1
                if position in moving:
                    index = (combine([(1, arg.index[0]), (moving[position], var(_NAME))]),)
                    axis = row_axis(arg.buffer, index, _NAME, self.axis, 1, self.extents)
                side.setdefault(arg.buffer.root, set()).add(axis)
            if axis < 0 and (position in moving or (position == 9 and over is not None)):
                unit.usable = False
        if over is None:
            unit.calls.append((stmt, roles[0]))


def _moving(call: Call, role: int) -> dict[int, Size]:
    """Positions of the pointers that step along the axis, and their steps."""
    steps: dict[int, Size] = {}
    for position, step in _GEMM[role]:
        if call.args[position] is not None:
            size = 1 if step is None else call.args[step]
            assert isinstance(size, (int, Dim))
            steps[position] = size
    return steps


def row_axis(
    buffer: Buffer, index: tuple[Index, ...], name: str, extent: Size, share: Size, extents: dict[str, Size]
) -> int:
    """The axis of the buffer's root whose row `name` this access stays in, or -1."""
    root = buffer.root
    if share != 1:
        rows = root.shape and root.shape[0] == extent and product(root.shape[1:]) == share
        return 0 if rows and flatten(index, buffer.shape) == var(name) else -1
    if buffer is root:
        found = [a for a, one in enumerate(index) if one.coefficient(name) != 0]
        good = len(found) == 1 and index[found[0]] == var(name) and root.shape[found[0]] == extent
        return found[0] if good else -1
    flat, strides = flatten(index, buffer.shape), contiguous_strides(root.shape)
    step = flat.coefficient(name)
    axis = next((a for a, (s, w) in enumerate(zip(root.shape, strides, strict=True)) if (s, w) == (extent, step)), -1)
    rest: Size = flat.const
    for other, factor in flat.terms:
        if other == name or factor in strides[: max(axis, 0)]:
            continue
        if other not in extents:
            return -1
        rest = rest + factor * (extents[other] - 1)
    return axis if axis >= 0 and (rest == 0 or never_more(rest, strides[axis] - 1)) else -1


# -------------------------------------------------------------------- groups
def in_blocks(kernels: Sequence[Kernel], axis: Size, memory: Memory) -> tuple[list[Kernel], list[Block]]:
    """The kernels, the best group of them as one loop over blocks; and the size of its blocks."""
    units = [_Reader(kernel, axis).unit for kernel in kernels]
    best: tuple[float, tuple[list[_Unit], list[_Unit], list[_Unit]]] | None = None
    for start, unit in enumerate(units):
        if unit.usable:
            parts = _split(units, start)
            gain = _gain(parts[1], units)
            if gain and (best is None or gain > best[0]):
                best = gain, parts
    if best is None:
        return list(kernels), []
    before, group, after = best[1]
    outside = {b for u in (*before, *after) for side in (u.reads, u.writes) for b in side}
    targets = _targets(group)
    for unit in group:
        _enter(unit)
    fills, folds, parts = _parts(targets, [u.kernel for u in group], memory)
    kept = [b for b in _kept(group, units) if b.kind != "temp"]
    repeated = made_again([u.kernel for u in group], memory, outside)
    joined = join_rows(repeated, memory.temps, outside, _NAME)
    used = {b for k in joined for side in touched(k.body) for b in side}
    kept += [b for b in memory.temps if b in used - outside and b.shape.count(axis) == 1]
    each = _bytes(kept, axis)
    loop = For(_NAME, axis, [s for k in joined for s in k.body], step=_SIZE, block=(_CHUNK, _SPAN))
    for number, buffer in enumerate(memory.temps):
        if buffer not in outside and axis in buffer.shape:
            memory.temps[number] = _shrunk(buffer, loop, axis)
    chunks = For(_CHUNK, _CHUNKS, [*fills, loop], apart=True)
    made = [*(u.kernel for u in before), Kernel(group[0].kernel.name, [chunks]), *folds, *(u.kernel for u in after)]
    single = not any(u.calls or any(loop.vector and share == 1 for loop, share in u.loops) for u in group)
    return made, [Block(_SIZE, _CHUNKS, _SPAN, axis, each, parts, single)]


def _split(units: Sequence[_Unit], start: int) -> tuple[list[_Unit], list[_Unit], list[_Unit]]:
    """What runs before the group that begins with unit `start`, the group, and what runs after it."""
    before, group, after = list(units[:start]), [units[start]], list[_Unit]()
    for unit in units[start + 1 :]:
        if any(_depends(unit, other) for other in after):
            after.append(unit)
        elif unit.usable and not any(unit.clashes(other) for other in group):
            group.append(unit)
        elif any(_depends(unit, other) for other in group):
            after.append(unit)
        else:
            before.append(unit)
    return before, group, after


def _depends(one: _Unit, other: _Unit) -> bool:
    return any(b in other.reads or b in other.writes for b in one.writes) or any(b in other.writes for b in one.reads)


def _kept(group: Sequence[_Unit], units: Sequence[_Unit]) -> list[Buffer]:
    """Buffers of which one block stays in the cache: temporaries of the group, and matrices that it reads twice."""
    axes: dict[Buffer, set[int]] = {}
    users: dict[Buffer, set[_Unit]] = {}
    for unit in units:
        for side in (unit.reads, unit.writes):
            for buffer, own in side.items():
                users.setdefault(buffer, set()).add(unit)
                if unit in group:
                    axes.setdefault(buffer, set()).update(own)
    inside = set(group)
    kept: list[Buffer] = []
    for buffer, own in axes.items():
        if len(own) != 1 or -1 in own:
            continue
        members = users[buffer] & inside
        temporary = buffer.kind == "temp" and members == users[buffer]
        if temporary or (len(members) > 1 and len(buffer.shape) > 1):
            kept.append(buffer)
    return kept


def _by_row(unit: _Unit) -> bool:
    """Whether a kernel is one loop over rows: such kernels join row by row, which is better."""
    loop = row_loop(unit.kernel.body)
    return loop is not None and any(loop is own for own, _ in unit.loops)


def _gain(group: Sequence[_Unit], units: Sequence[_Unit]) -> float:
    """What blocks are good for: matrices and more that pass between kernels, unless these join row by row anyway."""
    loose = {b for u in group if not _by_row(u) for side in (u.reads, u.writes) for b in side}
    return float(sum(len(b.shape) - 1 for b in _kept(group, units) if b in loose))


def _bytes(buffers: Sequence[Buffer], axis: Size) -> Size:
    """Bytes of one row of each."""
    total: Size = 0
    for buffer in buffers:
        total = total + _row(buffer, axis) * BYTES[buffer.dtype]
    return total


def _row(buffer: Buffer, axis: Size) -> Size:
    at = buffer.shape.index(axis)
    return product((*buffer.shape[:at], *buffer.shape[at + 1 :]))


def _targets(group: Sequence[_Unit]) -> dict[Buffer, str]:
    """What the group folds into, and how."""
    targets = {s.buffer.root: kind for u in group for s, kind in u.folds}
    for unit in group:
        for call, role in unit.calls:
            if role == _SUMS:
                targets.update({b.root: "sum" for b in call.writes})
    return targets


def _parts(
    targets: dict[Buffer, str], kernels: Sequence[Kernel], memory: Memory
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
        parts[buffer] = memory.temp((_CHUNKS, *buffer.shape), buffer.dtype)
        bytes_ = bytes_ + product(buffer.shape) * BYTES[buffer.dtype]
        last = Nest(memory, (*buffer.shape, _CHUNKS))
        *own, chunk = last.index
        value = last.load(parts[buffer], (chunk, *own))
        last.fold(kind, buffer.dtype, value, len(own), lambda out, b=buffer, i=tuple(own): Store(b, i, out))
        folds.append(Kernel(f"f{number}", place(last)))
    for stmt in (s for body in (fills, *(k.body for k in kernels)) for s in statements(body)):
        places = [a for a in stmt.args if isinstance(a, Pointer)] if isinstance(stmt, Call) else [stmt]
        for one in places:
            if isinstance(one, (Store, Pointer)) and one.buffer.root in parts:
                own = parts[one.buffer.root]
                one.index = (var(_CHUNK), *one.index)
                one.buffer = memory.reshaped(own, (_CHUNKS, *one.buffer.shape))
        if isinstance(stmt, Call):
            stmt.writes = tuple([parts.get(b.root, b) for b in stmt.writes])
    return fills, folds, bytes_


def _enter(unit: _Unit) -> None:
    """Make a kernel run over the current block."""
    for loop, share in unit.loops:
        loop.within, loop.share = _NAME, share
    for store, kind in unit.folds:
        store.fold = kind
    for call, role in unit.calls:
        args = list(call.args)
        for position, step in _moving(call, role).items():
            pointer = args[position]
            assert isinstance(pointer, Pointer)
            args[position] = Pointer(pointer.buffer, (combine([(1, pointer.index[0]), (step, var(_NAME))]),))
        args[role] = Count(_NAME)
        if role == _SUMS:
            flags = args[12]
            assert isinstance(flags, int)
            args[12] = flags | ADD
        call.args = tuple(args)


def _shrunk(buffer: Buffer, loop: For, axis: Size) -> Buffer:
    """A buffer for one block, if every access in the loop stays in its row; else the buffer as it was."""
    extents: dict[str, Size] = {_NAME: 1}
    places: list[tuple[Load | Store | Pointer, int]] = []
    calls: list[Call] = []
    for stmt, context in _walk([loop]):
        if isinstance(stmt, For):
            extents[stmt.var] = stmt.extent
        over = next((one for one in context if one.within), None)
        targets: list[Load | Store | Pointer] = [stmt] if isinstance(stmt, (Load, Store)) else []
        if isinstance(stmt, Call):
            targets = [a for a in stmt.args if isinstance(a, Pointer)]
            calls.append(stmt)
        for target in targets:
            if target.buffer.root is buffer:
                name, share = (over.var, over.share) if over is not None else (_NAME, 1)
                places.append((target, row_axis(target.buffer, target.index, name, axis, share, extents)))
    axes = {a for _, a in places}
    if len(axes) != 1 or -1 in axes:
        return buffer
    at = axes.pop()
    small = Buffer(
        buffer.name, buffer.dtype, (*buffer.shape[:at], _SIZE, *buffer.shape[at + 1 :]), buffer.kind, buffer.number,
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
            own = combine([(1, target.index[at]), (-1, var(_NAME))])
            target.buffer, target.index = small, (*target.index[:at], own, *target.index[at + 1 :])
            continue
        offset = flatten(target.index, target.buffer.shape)
        moved: list[tuple[Size, Index]] = [(-old[at], var(_NAME))]
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
