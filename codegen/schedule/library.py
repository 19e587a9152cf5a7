"""Kernels of the nodes that are neither a map nor a fold: placing, scattering, running sums, matrix routines.

Each writer takes a `Writer`, a node and the buffer for its elements, and appends nests and calls. `WRITERS` maps node
kinds to them. Operands that are inline are computed where they are read, so producers fuse into these kernels too.
Calls name routines of `codegen.products.routines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from codegen.arrays.lowered import OUT_OF_MEMORY
from codegen.arrays.nodes import Node, ViewMap
from codegen.ir.index import ZERO, Index, combine, contiguous_strides, flatten, var
from codegen.ir.loops import Buffer, Call, For, Pointer, Stmt, Trap, statements
from codegen.products.gemm import HALF, MIRROR
from codegen.schedule.nests import Memory, Nest
from codegen.schedule.placing import place
from symdiff.ir.dims import Dim, Shape, Size, evaluate, product

_FLOATS = ("f64", "f32")
_EDGE = 8
"""Windows that start and end so close to the ends of an axis are added in one pass."""


class Writer:
    """One kernel under construction: nests and finished statements, in order."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.parts: list[Nest | Stmt | Choice] = []
        self.cuts: list[int] = []
        """Parts that begin a kernel of their own."""

    def nest(self, space: Sequence[Size], serial: Iterable[int] = ()) -> Nest:
        """Begin a nest behind the parts so far."""
        nest = Nest(self.memory, space, f"{'ijklabcdefgh'[len(self.parts) % 12]}", serial)
        self.parts.append(nest)
        return nest

    def loops(self, space: Shape, body: Callable[[tuple[Index, ...]], Stmt]) -> None:
        """Plain loops around one statement, made from its index."""
        index = tuple(ZERO if size == 1 else var(f"b{axis}") for axis, size in enumerate(space))
        stmt = body(index)
        for axis in range(len(space) - 1, -1, -1):
            if space[axis] != 1:
                stmt = For(f"b{axis}", space[axis], [stmt])
        self.parts.append(stmt)

    def fill(self, buffer: Buffer, number: object) -> None:
        """Set every element of a buffer."""
        nest = self.nest(buffer.shape)
        nest.store(buffer, nest.index, nest.const(number, buffer.dtype))

    def copy(self, node: Node, buffer: Buffer, order: Sequence[int] | None = None) -> None:
        """Write the elements of `node` to a buffer of its shape, or of its axes in another order."""
        nest = self.nest(buffer.shape)
        place = range(node.rank) if order is None else sorted(range(node.rank), key=order.__getitem__)
        nest.store(buffer, nest.index, nest.value(node, tuple([nest.index[p] for p in place])))


_Write: TypeAlias = "Callable[[Writer, Node, Buffer], None]"


def _zero(dtype: str) -> object:
    return False if dtype == "bool" else 0


# -------------------------------------------------------------------- placing
def _delta(writer: Writer, node: Node, buffer: Buffer) -> None:
    writer.fill(buffer, _zero(node.dtype))
    x = node.args[0]
    nest = writer.nest(x.shape)
    nest.store(buffer, tuple([nest.index[a] for a in node.data]), nest.value(x, nest.index))


class Choice:
    """Two ways to do the same: `then` where a size is at least 0, otherwise the other."""

    def __init__(self, memory: Memory, size: Size) -> None:
        self.size = size
        self.then, self.otherwise = Writer(memory), Writer(memory)

    def statements(self, axis: Size | None) -> list[Stmt]:
        """The finished statements."""
        ways = ("then", self.then, self.size + 1), ("else", self.otherwise, -1 * self.size)
        made: list[Stmt] = []
        for name, writer, extent in ways:
            body: list[Stmt] = []
            for part in writer.parts:
                assert not isinstance(part, Choice)
                body += place(part, axis) if isinstance(part, Nest) else [part]
            if writer is self.otherwise:  # for a few elements only
                for stmt in statements(body):
                    if isinstance(stmt, For):
                        stmt.vector = False
            made.append(For(name, extent, body, once=True))
        return made


def _place(writer: Writer, node: Node, buffer: Buffer) -> None:
    window = _windows(node)
    if window is None:
        _place_apart(writer, node, buffer)
        return
    axis, starts, ends = window
    keeping, writer.memory.keeping = writer.memory.keeping, len(starts) == 1 and writer.memory.keeping
    _inside(writer, node, buffer, axis, starts, ends)
    writer.cuts.append(len(writer.parts))
    if len(starts) == 1:
        _edges(writer, node, buffer, axis, starts, ends)
    else:  # windows of a few elements may not overlap at all
        choice = Choice(writer.memory, node.shape[axis] - max(starts) - max(ends))
        writer.parts.append(choice)
        _edges(choice.then, node, buffer, axis, starts, ends)
        _place_apart(choice.otherwise, node, buffer)
    writer.memory.keeping = keeping


def _windows(node: Node) -> tuple[int, list[int], list[int]] | None:
    """For sums of windows along one axis, a few elements apart: the axis, and where windows start and end."""
    fill, maps, _ = node.data
    if not fill or node.dtype == "bool" or any(x.rank != node.rank for x in node.args):
        return None
    moved = {
        a for x, places in zip(node.args, maps, strict=True) for a in range(node.rank)
        if (places[a], x.shape[a]) != ((((a, 1),), 0), node.shape[a])
    }  # fmt: skip
    if len(moved) != 1:
        return None
    axis = moved.pop()
    starts: list[int] = []
    ends: list[int] = []
    for x, places in zip(node.args, maps, strict=True):
        terms, start = places[axis]
        end = node.shape[axis] - start - x.shape[axis]
        if terms != ((axis, 1),) or not isinstance(start, int) or not isinstance(end, int):
            return None
        starts.append(start)
        ends.append(end)
    near = max(starts) + max(ends) <= _EDGE and min(*starts, *ends) >= 0
    return (axis, starts, ends) if near else None


def _range(writer: Writer, node: Node, axis: int, extent: Size, start: Size) -> tuple[Nest, tuple[Index, ...]]:
    """A nest over a part of one axis, and the place of its elements."""
    made = writer.nest((*node.shape[:axis], extent, *node.shape[axis + 1 :]))
    return made, _shifted(made.index, axis, start)


def _shifted(index: tuple[Index, ...], axis: int, start: Size) -> tuple[Index, ...]:
    return (*index[:axis], combine([(1, index[axis])], start), *index[axis + 1 :])


def _inside(writer: Writer, node: Node, buffer: Buffer, axis: int, starts: list[int], ends: list[int]) -> None:
    """What lies in all windows, in one pass; nothing where they do not meet."""
    low, high = max(starts), max(ends)
    inner, place_ = _range(writer, node, axis, node.shape[axis] - low - high, low)
    total = -1
    for x, start in zip(node.args, starts, strict=True):
        value = inner.value(x, _shifted(place_, axis, -start))
        total = value if total < 0 else inner.let("add", (total, value), node.dtype)
    inner.store(buffer, place_, total)


def _edges(writer: Writer, node: Node, buffer: Buffer, axis: int, starts: list[int], ends: list[int]) -> None:
    """What lies in some windows, window by window."""
    low, high = max(starts), max(ends)
    whole = node.shape[axis]
    for extent, first in ((low, 0), (high, whole - high)):
        if extent:
            edge, at = _range(writer, node, axis, extent, first)
            edge.store(buffer, at, edge.const(0, node.dtype))
    for x, start, end in zip(node.args, starts, ends, strict=True):
        for extent, first in ((low - start, start), (high - end, whole - high)):
            if extent:
                edge, at = _range(writer, node, axis, extent, first)
                edge.store(buffer, at, edge.value(x, _shifted(at, axis, -start)), "sum")


def _place_apart(writer: Writer, node: Node, buffer: Buffer) -> None:
    """Zeros, then window by window."""
    fill, maps, adds = node.data
    if fill:
        writer.fill(buffer, _zero(node.dtype))
    # Parts of one shape (a stack) are computed in one pass, so that they share what they have in common. What is added
    # may lie on what is written, so it comes afterwards.
    passes: dict[tuple[object, ...], list[tuple[tuple[int, ...], int]]] = {}
    for number, (x, places, add) in enumerate(zip(node.args, maps, adds, strict=True)):
        if not add:
            passes.setdefault((False, x.shape), []).append(((), number))
            continue
        form, way = _form_and_way(places)
        passes.setdefault((True, x.shape, number if form is None else form), []).append((way, number))
    for (add, *_), parts in sorted(passes.items(), key=lambda item: bool(item[0][0])):
        nest = writer.nest(node.args[parts[0][1]].shape)
        for _, number in sorted(parts):
            value = nest.value(node.args[number], nest.index)
            nest.store(buffer, placed(maps[number], nest.index), value, "sum" if add else "")


def _form_and_way(places: ViewMap) -> tuple[tuple[object, ...] | None, tuple[int, ...]]:
    """What parts have in common that are added in one pass, and what they come in the order of.

    Parts that lie a few elements apart are added to an element in the order in which loops reach it: what lies farthest
    ahead comes first. Else sums would depend on how many elements are added at a time.
    """
    form: list[object] = []
    way: list[int] = []
    for terms, start in places:
        number = evaluate(start, dict.fromkeys(start.names, 0)) if isinstance(start, Dim) else start
        ups = {factor > 0 for _, factor in terms}
        if len(ups) > 1:
            return None, ()
        form.append((terms, start - number))
        way.append(number if ups == {False} else -number)
    return tuple(form), tuple(way)


def placed(places: ViewMap, index: tuple[Index, ...]) -> tuple[Index, ...]:
    """Where the element of a part at `index` is written."""
    return tuple([combine([(f, index[a]) for a, f in terms], c) for terms, c in places])


# -------------------------------------------------------------------- indices
def _check_index(writer: Writer, node: Node, buffer: Buffer) -> None:
    status, sizes = node.data
    nest = writer.nest(node.args[0].shape)
    bad: int | None = None
    for index, size in zip(node.args, sizes, strict=True):
        name = nest.value(index, nest.index)
        low = nest.let("lt", (name, nest.let("neg", (nest.let("size", (), "i64", size),), "i64")), "bool")
        high = nest.let("ge", (name, nest.let("size", (), "i64", size)), "bool")
        either = nest.let("or", (low, high), "bool")
        bad = either if bad is None else nest.let("or", (bad, either), "bool")
    assert bad is not None
    nest.fold("or", "bool", bad, 0, lambda out: Trap(out, status))
    nest = writer.nest(())
    nest.store(buffer, (), nest.const(True, "bool"))


def _scatter_add(writer: Writer, node: Node, buffer: Buffer) -> None:
    at, count = node.data
    updates, _, *indices = node.args
    rank = indices[0].rank
    writer.fill(buffer, _zero(node.dtype))
    rest = writer.memory.temp(node.shape, node.dtype) if node.dtype in _FLOATS else None
    if rest is not None:
        writer.fill(rest, 0)
    nest = writer.nest(updates.shape, serial=range(at, at + rank))
    own = nest.index[at : at + rank]
    places = [nest.wrapped(nest.value(x, own), node.shape[at + j]) for j, x in enumerate(indices)]
    target = (*nest.index[:at], *places, *nest.index[at + rank :])
    assert len(indices) == count
    value = nest.value(updates, nest.index)
    if rest is None:
        nest.store(buffer, target, value, "sum")
        return
    before = nest.load(buffer, target, written=True)
    total, error = _sum_and_error(nest, before, value, node.dtype)
    nest.store(buffer, target, total)
    nest.store(rest, target, nest.let("add", (nest.load(rest, target, written=True), error), node.dtype))
    last = writer.nest(node.shape)
    head, left = (last.load(one, last.index) for one in (buffer, rest))
    last.store(buffer, last.index, _with_rest(last, head, left, node.dtype))


def _sum_and_error(nest: Nest, a: int, b: int, dtype: str) -> tuple[int, int]:
    """A sum of two and what its rounding leaves (Knuth)."""

    def minus(x: int, y: int) -> int:
        return nest.let("sub", (x, y), dtype)

    total = nest.let("add", (a, b), dtype)
    second = minus(total, a)
    return total, nest.let("add", (minus(a, minus(total, second)), minus(b, second)), dtype)


def _with_rest(nest: Nest, total: int, rest: int, dtype: str) -> int:
    """A sum and what its roundings left; that is no number where the sum is none."""
    return nest.let("add", (total, nest.let("finite_or_zero", (rest,), dtype)), dtype)


def _last_writer(writer: Writer, node: Node, buffer: Buffer) -> None:
    _, *indices = node.args
    writer.fill(buffer, -1)
    shape = indices[0].shape
    nest = writer.nest(shape, serial=range(len(shape)))
    places = [nest.wrapped(nest.value(x, nest.index), node.shape[j]) for j, x in enumerate(indices)]
    number = nest.at(flatten(nest.index, shape)) if shape else nest.const(0, "i64")
    nest.store(buffer, tuple(places), number)


# -------------------------------------------------------------------- running values
def _moved(nest: Nest, axis: int, extent: Size, reverse: bool) -> tuple[Index, ...]:
    """The index of the array where the nest's last axis runs along `axis`."""
    *others, last = nest.index
    if reverse:
        last = combine([(-1, last)], extent - 1)
    return (*others[:axis], last, *others[axis:])


def _running_space(node: Node) -> tuple[Size, ...]:
    axis = node.data[0]
    return (*node.shape[:axis], *node.shape[axis + 1 :], node.shape[axis])


def _cumsum(writer: Writer, node: Node, buffer: Buffer) -> None:
    axis, reverse = node.data
    nest = writer.nest(_running_space(node))
    index = _moved(nest, axis, node.shape[axis], reverse)
    value = nest.value(node.args[0], index)
    before = nest.scan(node.dtype, 0)
    if node.dtype in _FLOATS:
        total, error = _sum_and_error(nest, before, value, node.dtype)
        left = nest.scan(node.dtype, 0)
        rest = nest.let("add", (left, error), node.dtype)
        nest.step(left, rest)
        nest.store(buffer, index, _with_rest(nest, total, rest, node.dtype))
    else:
        total = nest.let("add", (before, value), node.dtype)
        nest.store(buffer, index, total)
    nest.step(before, total)


def _prod_others(writer: Writer, node: Node, buffer: Buffer) -> None:
    axis, _ = node.data
    for reverse in (False, True):
        nest = writer.nest(_running_space(node))
        index = _moved(nest, axis, node.shape[axis], reverse)
        before = nest.scan(node.dtype, 1)
        nest.step(before, nest.let("mul", (before, nest.value(node.args[0], index)), node.dtype))
        out = nest.let("mul", (before, nest.load(buffer, index)), node.dtype) if reverse else before
        nest.store(buffer, index, out)


# -------------------------------------------------------------------- matrix product
def _grouped(strides: Sequence[Size], shape: Shape) -> Size | None:
    """The one stride that steps through several axes as if they were one; None when there is none."""
    kept = [(st, s) for st, s in zip(strides, shape, strict=True) if s != 1]
    if not kept:
        return 1
    for (outer, _), (inner, size) in pairwise(kept):
        if outer != size * inner:
            return None
    return kept[-1][0]


def _operand(
    writer: Writer, node: Node, counts: tuple[int, int, int], batch: tuple[Index, ...]
) -> tuple[Pointer, Size, Size]:
    """Where an operand [batch, first, second] of a matrix product starts in a batch, and its two strides."""
    memory = writer.memory
    base, maps = (node.args[0], node.data) if node.kind == "view" and node not in memory.buffers else (node, None)
    if base.kind == "alias":
        buffer = memory.reshaped(memory.buffers[base.args[0]], base.shape)
    else:
        buffer = memory.buffers[base]
    own = contiguous_strides(base.shape)
    strides: list[Size] = [0] * node.rank
    start: Size = 0
    if maps is None:
        strides = list(own)
    else:
        for (terms, const), step in zip(maps, own, strict=True):
            start = start + const * step
            for axis, factor in terms:
                strides[axis] = strides[axis] + factor * step
    b, first, _ = counts
    one = _grouped(strides[b : b + first], node.shape[b : b + first])
    two = _grouped(strides[b + first :], node.shape[b + first :])
    if one is None or two is None:
        # The axis whose elements lie side by side stays the last one.
        turned = first > 0 and strides[b + first - 1] == 1 and strides[-1] != 1
        order = [*range(b), *range(b + first, node.rank), *range(b, b + first)] if turned else list(range(node.rank))
        shape = tuple([node.shape[axis] for axis in order])
        buffer = memory.temp(shape, node.dtype)
        writer.copy(node, buffer, order)
        start = 0
        for axis, step in zip(order, contiguous_strides(shape), strict=True):
            strides[axis] = step
        one, two = strides[b + first - 1], strides[-1]
    flat = memory.reshaped(buffer, (product(buffer.shape),))
    offset = combine([(s, i) for s, i in zip(strides[:b], batch, strict=True)], start)
    return Pointer(flat, (offset,)), one, two


def _gemm(writer: Writer, node: Node, buffer: Buffer) -> None:
    b, rows, columns, sums, symmetric = node.data
    batch = tuple(ZERO if size == 1 else var(f"b{axis}") for axis, size in enumerate(node.shape[:b]))
    left, row_step, sum_step = _operand(writer, node.args[0], (b, rows, sums), batch)
    right, right_sum, column_step = _operand(writer, node.args[1], (b, sums, columns), batch)
    m, n = product(node.shape[b : b + rows]), product(node.shape[b + rows :])
    k = product(node.args[0].shape[b + rows :])
    factors = None
    if len(node.args) > 2:
        factors = _operand(writer, node.args[2], (b, 0, sums), batch)[0]
    flat = writer.memory.reshaped(buffer, (product(buffer.shape),))
    strides = contiguous_strides((*node.shape[:b], m * n))[:b]
    target = Pointer(flat, (combine([(s, i) for s, i in zip(strides, batch, strict=True)]),))
    flags = HALF | MIRROR if symmetric else 0
    args = (m, n, k, left, row_step, sum_step, right, right_sum, column_step, target, n, factors, flags, None)
    writer.loops(node.shape[:b], lambda _: Call("gemm", node.dtype, args, OUT_OF_MEMORY, (flat,)))


# -------------------------------------------------------------------- linear algebra
def _matrix(buffer: Buffer, index: tuple[Index, ...], rank: int) -> Pointer:
    return Pointer(buffer, (*index, *(ZERO for _ in range(rank))))


def _lu(writer: Writer, node: Node, buffer: Buffer) -> None:
    x = node.args[0]
    writer.copy(x, buffer)
    n, lead = x.shape[-1], x.shape[:-2]
    writer.loops(lead, lambda index: Call("lu", node.dtype, (n, _matrix(buffer, index, 2)), writes=(buffer,)))


def _lu_inverse(writer: Writer, node: Node, buffer: Buffer) -> None:
    n, lead = node.shape[-1], node.shape[:-2]
    factors = writer.memory.buffers[node.args[0]]
    work = writer.memory.temp((n, 64), node.dtype, private=True)

    def call(index: tuple[Index, ...]) -> Stmt:
        args = (n, _matrix(factors, index, 2), _matrix(buffer, index, 2), _matrix(work, (), 2))
        return Call("inverse", node.dtype, args, node.data, (buffer, work))

    writer.loops(lead, call)


def _stacked(writer: Writer, routine: str, node: Node, factors: Buffer, rank: int, buffer: Buffer,
             flags: tuple[int, ...], status: int) -> None:  # fmt: skip
    """Right sides [extra, lead, n, k] against factors [lead, ...]."""
    n, k = node.shape[-2:]
    lead = node.shape[:-2]
    extra = len(lead) - rank
    work = writer.memory.temp((k, n), node.dtype, private=True)

    def call(index: tuple[Index, ...]) -> Stmt:
        args = (n, k, *flags, _matrix(factors, index[extra:], 2), _matrix(buffer, index, 2), _matrix(work, (), 2))
        return Call(routine, node.dtype, args, status, (buffer, work))

    writer.loops(lead, call)


def _lu_solve(writer: Writer, node: Node, buffer: Buffer) -> None:
    factors, b = node.args
    writer.copy(b, buffer)
    _stacked(writer, "solve", node, writer.memory.buffers[factors], factors.rank - 2, buffer, (), node.data)


def _triangular_solve(writer: Writer, node: Node, buffer: Buffer) -> None:
    a, b = node.args
    lower, trans, status = node.data
    factors = writer.memory.temp(a.shape, a.dtype)
    writer.copy(a, factors)
    writer.copy(b, buffer)
    flags = (int(lower), int(trans))
    _stacked(writer, "triangular_solve", node, factors, a.rank - 2, buffer, flags, status)


def _lu_value(routine: str) -> _Write:
    def write(writer: Writer, node: Node, buffer: Buffer) -> None:
        factors = writer.memory.buffers[node.args[0]]
        n = factors.shape[-1]

        def call(index: tuple[Index, ...]) -> Stmt:
            return Call(routine, node.dtype, (n, _matrix(factors, index, 2), Pointer(buffer, index)), writes=(buffer,))

        writer.loops(node.shape, call)

    return write


def _cholesky(writer: Writer, node: Node, buffer: Buffer) -> None:
    x = node.args[0]
    n, lead = node.shape[-1], node.shape[:-2]
    nest = writer.nest(node.shape)
    *front, i, j = nest.index
    both = nest.let("add", (nest.value(x, (*front, i, j)), nest.value(x, (*front, j, i))), node.dtype)
    nest.store(buffer, nest.index, nest.let("mul", (both, nest.const(Fraction(1, 2), node.dtype)), node.dtype))
    writer.loops(lead, lambda index: Call(
        "cholesky", node.dtype, (n, _matrix(buffer, index, 2)), node.data, (buffer,)
    ))  # fmt: skip


WRITERS: dict[str, _Write] = {
    "delta": _delta, "place": _place, "check_index": _check_index, "scatter_add": _scatter_add,
    "last_writer": _last_writer, "cumsum": _cumsum, "prod_others": _prod_others, "gemm": _gemm, "lu": _lu,
    "lu_inverse": _lu_inverse, "lu_solve": _lu_solve, "triangular_solve": _triangular_solve, "cholesky": _cholesky,
    "lu_det": _lu_value("det"), "lu_logabsdet": _lu_value("logabsdet"), "lu_signdet": _lu_value("signdet"),
}  # fmt: skip
