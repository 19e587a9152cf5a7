"""Evaluating a sparse derivative: what sizes fix once, and what every call computes.

Two ways. *Directly*: every non-zero has a formula of its own (`symdiff.structured.entries`), computed in the order in
which scipy.sparse wants it. *Compressed*: a colouring says which columns (or rows) share a sweep, native code pushes
(or pulls) one seed per colour through the program together, or pushes some and pulls others, and the entries are picked
from the result. The pattern comes from the program either way; no dense matrix is formed.

Compression adds up what shares a sweep, with factors 0 and 1: where one entry of a row is infinite or nan, others of
that row may come out as nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from symdiff.api.native import cheapest, typical_seconds
from symdiff.api.pieces import Native, Piece
from symdiff.api.sparse_layout import Layout
from symdiff.diff import jacobians
from symdiff.diff.forward import forward
from symdiff.diff.reverse import reverse
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.dims import Size, evaluate, named
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet
from symdiff.ir.types import NUMPY_TYPES, TensorType
from symdiff.ops import OPSET
from symdiff.simplify import optimize, stabilized
from symdiff.sparsity import Colouring
from symdiff.structured.entries import Entries, find_entries

Shapes: TypeAlias = Mapping[int, "tuple[int, ...]"]
"""Of the variables, by number of the parameter."""

SEEDED = 1 << 22
"""Elements of one block of seeds: when colours are many, sweeps go in blocks, so that memory stays bounded."""

MOST_SOURCES = 3
"""Terms that may meet in one entry and still be gathered; more are scattered."""

MOVED = 5e-9
"""Seconds to put one value of a formula where it belongs, from an array of all values; on a two-core Zen 3."""


# -------------------------------------------------------------------- direct
class Direct:
    """Formulas for the entries, by sweep; programs are made when a size first needs them."""

    def __init__(self, entries: Entries, tag: str) -> None:
        self.entries = entries
        self._tag = tag
        self._programs: dict[Any, Function] = {}
        self._price: Callable[[Mapping[str, int]], float] | None = None

    def seconds(self, sizes: Mapping[str, int]) -> float:
        """What the values term by term, each then moved to its place, are predicted to take on a typical core."""
        if self._price is None:
            self._price = typical_seconds(self._piece("terms", self.entries.by_term).program)
        return self._price(sizes) + MOVED * self.entries.count(sizes)

    def plan(
        self, layout: Layout, sizes: Mapping[str, int], known: Mapping[str, Any]
    ) -> Piece:
        """How to compute the data of a layout, at sizes where the formulas hold."""
        entries = self.entries
        columns = layout.shape[1]
        if entries.rows is not None and layout.slots is None:
            places = entries.row_places(sizes)
            if places is not None and np.array_equal(places[0] * columns + places[1], layout.keys):
                return self._piece("rows", entries.by_row)
        index = entries.index_program()
        rows, own = entries.places(sizes, interpret(index, [known[p.name] for p in index.params], sizes))
        keys = rows * columns + own
        if layout.slots is None and np.array_equal(keys, layout.keys):
            return self._piece("terms", entries.by_term)
        at = np.searchsorted(layout.keys, keys)
        inside = at < len(layout.keys)
        inside[inside] = layout.keys[at[inside]] == keys[inside]
        target = at[inside] if layout.slots is None else layout.slots[at[inside]]
        source = np.flatnonzero(inside)
        if len(target) == layout.length == len(keys) and np.array_equal(target, np.arange(len(target))):
            return self._piece("terms", entries.by_term)
        order = np.argsort(target, kind="stable")
        target, source = target[order], source[order]
        heads = np.flatnonzero(np.diff(target, prepend=-1))
        depth = np.arange(len(target)) - np.repeat(heads, np.diff(np.append(heads, len(target))))
        most = int(depth.max(initial=0)) + 1
        if most > MOST_SOURCES:
            return self._scattered(layout, keys, inside, at)
        sources = np.full((most, layout.length), len(keys), np.int64)  # the zero behind all values
        sources[depth, target] = source
        return self._piece(("gathered", most), lambda: entries.gathered(most, self._tag), tuple(sources))

    def _piece(self, key: Any, make: Callable[[], Function], extras: tuple[Any, ...] = ()) -> Piece:
        if key not in self._programs:
            self._programs[key] = cheapest(make())
        return Piece(self._programs[key], only, extras)

    def _scattered(self, layout: Layout, keys: Any, inside: Any, at: Any) -> Piece:
        function, length = self.entries.scattered(self._tag)
        function = self._programs.setdefault("scattered", function)
        # What lies outside the pattern is an exact zero and goes to a place of its own.
        target = np.full(len(keys), layout.length, np.int64)
        target[inside] = at[inside] if layout.slots is None else layout.slots[at[inside]]
        return Piece(function, lambda found: found[0][:-1], (target,), {length: layout.length + 1})


def only(found: Any) -> Any:
    """The result of a program that has one."""
    return found[0]


def direct_forms(
    function: Function, wrt: Sequence[int], *, symmetric: bool, transposed: bool, opset: OpSet = OPSET, tag: str = ""
) -> list[Direct]:
    """The formulas that each sweep leads to, those with fewer instructions first."""
    found: list[Entries] = []
    for mode in ("forward", "reverse"):
        builder = Builder(opset)
        mapping = stabilized(builder, builder.inline(function), ())
        y = mapping[function.results[0]]
        xs = [mapping[function.params[i]] for i in wrt]
        blocks = jacobians(builder, [y], xs, mode)[0]
        program = optimize(Function.of([mapping[p] for p in function.params], blocks, "jacobian"), OPSET)
        shapes = [x.type.shape for x in xs]
        entries = find_entries(program, y.type.shape, shapes, symmetric=symmetric, transposed=transposed)
        if entries is not None and entries.terms:
            found.append(entries)
    found.sort(key=lambda e: len(optimize(e.by_term(), OPSET).instrs))
    return [Direct(e, tag) for e in found]


# -------------------------------------------------------------------- compressed
@dataclass(frozen=True, slots=True, eq=False)
class Compression:
    """Sweeps in one direction. entries: which of the pattern they show. places: where each of these stands in the
    (colours, width) result; with `solve`, elements of it from which that computes the entries.
    """

    mode: Literal["forward", "reverse"]
    colouring: Colouring
    places: Any
    width: int
    seeded: int
    entries: Any
    solve: Callable[[Any], Any] | None = None
    seeds: dict[tuple[int, int], list[Any]] = field(default_factory=dict[tuple[int, int], "list[Any]"])


class Sweeps:
    """The sweeps of a function, pushing or pulling one seed per colour. native: where their code is kept."""

    def __init__(
        self, function: Function, wrt: Sequence[int], native: Native, opset: OpSet = OPSET, tag: str = ""
    ) -> None:
        self.function = function
        self._wrt = tuple(wrt)
        self._native = native
        self._opset = opset
        self._tag = tag
        self._programs: dict[str, Function] = {}
        self._prices: dict[str, tuple[Size, Callable[[Mapping[str, int]], float]]] = {}

    def seconds(self, mode: Literal["forward", "reverse"], colours: int, sizes: Mapping[str, int]) -> float:
        """What the sweeps of so many colours are predicted to take, on a typical core."""
        found = self._prices.get(mode)
        if found is None:
            program = self.program(mode)
            found = self._prices[mode] = program.params[-1].type.shape[0], typical_seconds(program)
        name, at = found
        return at({str(name): max(colours, 1), **sizes})

    def piece(self, shapes: Shapes, sizes: Mapping[str, int], plan: Compression) -> Piece | None:
        """The entries of one compression, where one block of seeds does."""
        count = plan.colouring.count
        if not count or count * max(plan.seeded, 1) > SEEDED:
            return None

        def finish(found: Any) -> Any:
            picked = _beside(found, count).take(plan.places)
            return picked if plan.solve is None else plan.solve(picked)

        return Piece(self.program(plan.mode), finish, tuple(self._seeds(shapes, sizes, plan, 0, count)))

    def program(self, mode: Literal["forward", "reverse"]) -> Function:
        """`seeded`, made once."""
        if mode not in self._programs:
            self._programs[mode] = self.seeded(mode)
        return self._programs[mode]

    def values(self, given: Sequence[Any], shapes: Shapes, sizes: Mapping[str, int], plan: Compression) -> Any:
        """The entries of one compression, block by block of seeds."""
        picked = self._picked(given, shapes, sizes, plan)
        return picked if plan.solve is None else plan.solve(picked)

    def _picked(self, given: Sequence[Any], shapes: Shapes, sizes: Mapping[str, int], plan: Compression) -> Any:
        count = plan.colouring.count
        block = max(1, min(count, SEEDED // max(plan.seeded, 1)))
        dtype = NUMPY_TYPES[self.function.results[0].type.dtype]
        if count <= block:
            return self._sweep(given, shapes, sizes, plan, 0, count).take(plan.places) if count else np.zeros(0, dtype)
        data = np.zeros(len(plan.places), dtype)
        colour = plan.places // plan.width
        order = np.argsort(colour, kind="stable")
        bounds = np.searchsorted(colour[order], np.arange(0, count + block, block))
        for number, first in enumerate(range(0, count, block)):
            own = order[bounds[number] : bounds[number + 1]]
            swept = self._sweep(given, shapes, sizes, plan, first, min(first + block, count))
            data[own] = swept.take(plan.places[own] - first * plan.width)
        return data

    def _sweep(
        self, given: Sequence[Any], shapes: Shapes, sizes: Mapping[str, int], plan: Compression, first: int, last: int
    ) -> Any:
        """The compressed derivative of the colours first .. last - 1, flat."""
        native = self._native.of(self.program(plan.mode))
        return _beside(native(*given, *self._seeds(shapes, sizes, plan, first, last)), last - first)

    def _seeds(
        self, shapes: Shapes, sizes: Mapping[str, int], plan: Compression, first: int, last: int
    ) -> list[Any]:
        """Ones at the elements of each colour, shaped like the variables (forward) or the function (reverse)."""
        if (first, last) in plan.seeds:
            return plan.seeds[first, last]
        colours = plan.colouring.colours
        matrix = np.zeros((last - first, len(colours)), np.float64)
        inside = np.flatnonzero((colours >= first) & (colours < last))
        matrix[colours[inside] - first, inside] = 1.0
        if plan.mode == "reverse":
            y = self.function.results[0].type
            seeds = [matrix.reshape(last - first, *[evaluate(s, sizes) for s in y.shape]).astype(NUMPY_TYPES[y.dtype])]
        else:
            seeds: list[Any] = []
            at = 0
            for i in self._wrt:
                count = math.prod(shapes[i])
                own = matrix[:, at : at + count].reshape(last - first, *shapes[i])
                seeds.append(np.ascontiguousarray(own, NUMPY_TYPES[self.function.params[i].type.dtype]))
                at += count
        if last - first == plan.colouring.count:
            plan.seeds[first, last] = seeds
        return seeds

    def seeded(self, mode: Literal["forward", "reverse"]) -> Function:
        """The program of the sweeps: the inputs and one seed per colour in, the compressed derivative out."""
        function = self.function
        builder = Builder(self._opset)
        mapping = builder.inline(function)
        y = mapping[function.results[0]]
        xs = [mapping[function.params[i]] for i in self._wrt]
        taken = {*function.dims, *(p.name for p in function.params)}
        colours = named(_fresh(f"colours{self._tag}", taken))

        def seed(like: Value, number: int) -> Value:
            kind = TensorType(like.type.dtype, (colours, *like.shape))
            return builder.param(_fresh(f"seed_{number}{self._tag}", taken), kind)

        if mode == "forward":
            seeds = [seed(x, i) for i, x in enumerate(xs)]
            tangents = {x: Handle(builder, s) for x, s in zip(xs, seeds, strict=True)}
            results = [_or_zero(builder, forward(builder, [y], tangents, 1)[0], (colours, *y.shape), y)]
        else:
            seeds = [seed(y, 0)]
            pulled = reverse(builder, [(y, Handle(builder, seeds[0]))], xs)
            results = [_or_zero(builder, c, (colours, *x.shape), x) for c, x in zip(pulled, xs, strict=True)]
        params = [mapping[p] for p in function.params]
        return optimize(Function.of([*params, *seeds], results, f"sparse_{function.name}"), OPSET)


def _beside(found: Any, count: int) -> Any:
    """The compressed derivative of `count` colours in all variables: an array per colour, one behind the other."""
    return found[0] if len(found) == 1 else np.concatenate([p.reshape(count, -1) for p in found], axis=1)


def _or_zero(builder: Builder, found: Handle | None, shape: tuple[Size, ...], like: Value) -> Value:
    return builder.const(0, shape, like.type.dtype) if found is None else found.value


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
