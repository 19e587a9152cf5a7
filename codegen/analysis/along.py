"""What kernels do along one long axis: which loops run over it, and which rows of every buffer they touch.

`read` takes a kernel and gives a `Unit`, from which `codegen.schedule.blocks` makes groups of kernels that run block by
block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from codegen.ir.index import Index, combine, contiguous_strides, flatten, stays, var, without
from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Load, Pointer, Stmt, Store, Trap, extents_of, walk
from symdiff.ir.dims import Dim, Size, product

NAME = "r0"
"""The loop over blocks, whose counter is the first row of a block."""
_GEMM = {0: ((3, 4), (9, 10)), 1: ((6, 8), (9, None)), 2: ((3, 5), (6, 7), (11, None))}
"""For the size argument of a matrix product that runs over the axis: pointers that move, and the argument that says
how far (None: one element)."""
SUMS = 2

Context: TypeAlias = "tuple[For, ...]"


@dataclass(eq=False, slots=True)
class Unit:
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

    def axes(self, buffer: Buffer) -> set[int]:
        """All axes of a buffer that it goes along."""
        return self.reads.get(buffer, set()) | self.writes.get(buffer, set())


def row_by_row(axes: set[int]) -> bool:
    """Whether a buffer that is touched so has a row for each iteration."""
    return len(axes) == 1 and -1 not in axes


class Units:
    """Kernels taken together, for questions about one more of them that are answered without going through them."""

    def __init__(self) -> None:
        self.members: list[Unit] = []
        self._touched: dict[Buffer, set[int]] = {}  # how any member touches a buffer
        self._written: dict[Buffer, set[int]] = {}  # how those touch it that write it

    def add(self, unit: Unit) -> None:
        """One more, which runs last."""
        self.members.append(unit)
        for side in (unit.reads, unit.writes):
            for buffer, axes in side.items():
                self._touched.setdefault(buffer, set()).update(axes)
        for buffer in unit.writes:
            self._written.setdefault(buffer, set()).update(unit.axes(buffer))

    def before(self, unit: Unit) -> bool:
        """Whether a later kernel has to stay behind one of them."""
        return any(b in self._touched for b in unit.writes) or any(b in self._written for b in unit.reads)

    def clash(self, unit: Unit) -> bool:
        """Whether a usable kernel may not run in the same block as one of these, all usable, too."""
        for side, others in ((unit.writes, self._touched), (unit.reads, self._written)):
            for buffer in side:
                if buffer in others and not row_by_row(unit.axes(buffer) | others[buffer]):
                    return True
        return False


def read(kernel: Kernel, axis: Size) -> Unit:
    """What the kernel does."""
    return _Reader(kernel, axis).unit


class _Reader:
    """Reads one kernel."""

    def __init__(self, kernel: Kernel, axis: Size) -> None:
        self.axis, self.unit = axis, Unit(kernel)
        self.totals: dict[int, str] = {}  # values that are folds over the axis: their kind
        self.shares: dict[int, Size] = {}  # loops over the axis by identity: elements of a row that they run over
        items = list(walk(kernel.body))
        for stmt, context in items:
            if isinstance(stmt, For):
                self._loop(stmt, context)
        self._chains(items)
        for stmt, context in items:
            self._statement(stmt, context)
        unit = self.unit
        if not (unit.loops or unit.calls) or any(map(self._early, unit.writes)):
            unit.usable = False

    def _early(self, buffer: Buffer) -> bool:
        """Whether other rows are read than those that are written in the same block."""
        both = self.unit.writes[buffer] | self.unit.reads.get(buffer, set())
        return buffer in self.unit.reads and (len(both) > 1 or -1 in both)

    def _loop(self, loop: For, context: Context) -> None:
        self.unit.usable &= not loop.steps
        share = self._share(loop)
        if share is None or self._over(context) is not None:  # rows and columns may be equally many
            return
        if any(c.inside >= 0 for c in loop.carries):
            self.unit.usable = False
        self.unit.loops.append((loop, share))
        self.shares[id(loop)] = share
        self.totals.update({c.out: c.kind for c in loop.carries})

    def _over(self, context: Context) -> For | None:
        """The loop over the axis among these."""
        return next((loop for loop in context if id(loop) in self.shares), None)

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

    def _chains(self, items: Sequence[tuple[Stmt, Context]]) -> None:
        """Folds of such folds over outer loops."""
        for stmt, _ in reversed(items):
            if isinstance(stmt, For) and id(stmt) not in self.shares:
                for carry in stmt.carries:
                    kind = self.totals.get(carry.value)
                    if kind is not None:
                        if carry.kind != kind:
                            self.unit.usable = False
                        self.totals[carry.out] = kind

    def _statement(self, stmt: Stmt, context: Context) -> None:
        unit = self.unit
        if isinstance(stmt, Trap):
            unit.usable = False
        elif isinstance(stmt, Let):
            unit.usable &= not self.totals.keys() & set(stmt.args)
        elif isinstance(stmt, Load):
            self._touch(unit.reads, stmt.buffer, stmt.index, context)
        elif isinstance(stmt, Store):
            self._store(stmt, context)
        elif isinstance(stmt, Call):
            self._call(stmt, context)

    def _touch(
        self, side: dict[Buffer, set[int]], buffer: Buffer, index: tuple[Index, ...], context: Context
    ) -> int:
        axis, over = -1, self._over(context)
        if over is not None:
            axis = row_axis(buffer, index, over.var, self.axis, self.shares[id(over)], extents_of(context))
        side.setdefault(buffer.root, set()).add(axis)
        return axis

    def _store(self, stmt: Store, context: Context) -> None:
        unit = self.unit
        if self._over(context) is not None:
            unit.usable &= self._touch(unit.writes, stmt.buffer, stmt.index, context) >= 0
            return
        unit.writes.setdefault(stmt.buffer.root, set()).add(-1)
        kind = self.totals.get(stmt.value)
        names, extents = [n for i in stmt.index for n, _ in i.terms], extents_of(context)
        whole = not any(n[0] == "%" for n in names) and (
            product([extents[n] for n in names]) == product(stmt.buffer.shape)
        )
        if kind is None or stmt.fold or not whole:
            unit.usable = False
        else:
            unit.folds.append((stmt, kind))

    def _call(self, stmt: Call, context: Context) -> None:
        unit, over = self.unit, self._over(context)
        pointers = [a for a in stmt.args if isinstance(a, Pointer)]
        roles = _roles(stmt, self.axis, bool(context))
        if stmt.routine != "gemm" or (over is None and len(roles) != 1):
            unit.usable = False
            for pointer in pointers:
                for side in (unit.reads, unit.writes) if pointer.buffer in stmt.writes else (unit.reads,):
                    side.setdefault(pointer.buffer.root, set()).add(-1)
            return
        steps = {} if over is not None else moving(stmt, roles[0])
        for position, arg in enumerate(stmt.args):
            if not isinstance(arg, Pointer):
                continue
            side = unit.writes if position == 9 else unit.reads
            if over is not None:
                axis = self._touch(side, arg.buffer, arg.index, context)
            else:
                axis = -1
                if position in steps:
                    index = (combine([(1, arg.index[0]), (steps[position], var(NAME))]),)
                    axis = row_axis(arg.buffer, index, NAME, self.axis, 1, extents_of(context))
                side.setdefault(arg.buffer.root, set()).add(axis)
            if axis < 0 and (position in steps or (position == 9 and over is not None)):
                unit.usable = False
        if over is None:
            unit.calls.append((stmt, roles[0]))


def _roles(call: Call, axis: Size, inside: bool) -> list[int]:
    """The size arguments of a matrix product that run over the axis.

    A product that is no part of a stack is computed rows by rows alone: its sums would go to memory again and again,
    and its columns would have A packed anew.
    """
    if call.routine != "gemm":
        return []
    if not inside:
        return [0] if call.args[0] == axis and call.args[12] == 0 else []
    return [i for i in range(3) if call.args[i] == axis]


def moving(call: Call, role: int) -> dict[int, Size]:
    """Positions of the pointers that step along the axis, and their steps."""
    steps: dict[int, Size] = {}
    for position, step in _GEMM[role]:
        if call.args[position] is not None:
            size = 1 if step is None else call.args[step]
            assert isinstance(size, (int, Dim))
            steps[position] = size
    return steps


def row_axis(
    buffer: Buffer, index: tuple[Index, ...], name: str, extent: Size, share: Size, extents: Mapping[str, Size]
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
    if axis < 0:
        return -1
    # Whole steps of axes before it leave the row what it is; all else has to stay within one row.
    rest = without(flat, {name, *[n for n, factor in flat.terms if factor in strides[:axis]]})
    return axis if stays(rest, extents, strides[axis]) else -1
