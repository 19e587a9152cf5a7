"""Local blocks: terms that touch the same few rows and columns at each of many places, summed entry by entry.

The residuals of a bundle adjustment depend on one camera and one point each, an element of a mesh on its own vertices.
A sweep gives their derivatives as many terms: products of windows on small axes, placed by index arrays on long ones.
Here small axes are unrolled: every position in a local block becomes one array over the places, the sum of what all
terms have there. Blocks in the same rows become one, its positions row by row, so that its entries come in the order of
compressed rows where the index arrays do.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import Labels, contract
from symdiff.ir.dims import Shape, Size, product, size_names
from symdiff.ir.graph import ArrayConstant, Function, Value, attribute_sizes, topological
from symdiff.ir.run import Program
from symdiff.ops.helpers import undefined
from symdiff.structured.bands import joined
from symdiff.structured.moves import embedded, flattened
from symdiff.structured.reading import index_of, read
from symdiff.structured.terms import Affine, Factor, Indirect, Place, Term, renamed, whole

SMALL = 16
"""Labels of at most so many elements, a number, are unrolled."""

MOST = 400
"""Positions in all local blocks beyond which nothing is unrolled: each is a stream of code of its own."""

Places: TypeAlias = "tuple[Place, ...]"
Offsets: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True, slots=True)
class _Base:
    """Where blocks stand: the variable, places of rows and columns over long labels 0, 1, ..., sizes of the labels."""

    variable: int
    rows: Places
    columns: Places
    sizes: Shape


@dataclass(frozen=True, slots=True)
class _Position:
    """One entry of a local block: offsets from the base, and its values over the long labels."""

    base: _Base
    rows: Offsets
    columns: Offsets
    value: Value


def local_blocks(
    builder: Builder, terms: Sequence[tuple[int, Term]], out: Shape, variables: Sequence[Shape], dtype: str
) -> list[Term] | None:
    """Terms (with the number of their variable, places on the axes of `out`, then of the variable) as blocks over long
    labels and positions, placed in the rows and columns of the whole matrix. None where nothing would be put together,
    or there is too much to unroll, or a term has no long label.
    """
    found: dict[_Base, dict[tuple[Offsets, Offsets], Value]] = {}
    unrolled = 0
    for variable, term in terms:
        small = _small(term)
        unrolled += math.prod(small.values())
        if unrolled > 4 * MOST or len(small) == len(term.placed):
            return None
        for position in _unrolled(builder, variable, term, out, variables[variable], dtype):
            own = found.setdefault(position.base, {})
            at = position.rows, position.columns
            value = builder.handle(position.value)
            own[at] = (builder.handle(own[at]) + value).value if at in own else position.value
    if sum(map(len, found.values())) > MOST:
        return None
    numbers = {base: i for i, base in enumerate(sorted(found, key=lambda b: b.variable))}
    frames: dict[object, list[_Position]] = {}
    for base in numbers:
        bound = {x for p in base.rows for x in p.labels}
        frame: object = (base.rows, base.sizes) if len(bound) == len(base.sizes) else base
        own = [_Position(base, r, c, v) for (r, c), v in found[base].items()]
        # Offsets on axes in front of a long one are rows apart: blocks of their own.
        lead = max((i + 1 for i, p in enumerate(base.rows) if p.labels), default=0)
        for position in own:
            frames.setdefault((frame, position.rows[:lead]), []).append(position)
    if len(frames) == len(terms):
        return None
    return [
        _block(builder, sorted(own, key=lambda p: (p.rows, numbers[p.base], p.columns)), out, variables)
        for own in frames.values()
    ]


def _small(term: Term) -> dict[int, int]:
    """The labels to unroll, with their sizes."""
    sizes = {x: term.sizes[x] for x in term.placed}
    return {x: s for x, s in sizes.items() if isinstance(s, int) and s <= SMALL}


def _unrolled(
    builder: Builder, variable: int, term: Term, out: Shape, inside: Shape, dtype: str
) -> list[_Position]:
    """The positions of one term."""
    small = _small(term)
    found: list[_Position] = []
    for numbers in itertools.product(*map(range, small.values())):
        at = dict(zip(small, numbers, strict=True))
        factors = [
            read(builder, f.value, [Affine(at[x]) if x in at else whole(x) for x in f.labels], term.sizes)
            for f in term.factors
        ]
        placed = [_fixed(builder, p, at, s, term.sizes) for p, s in zip(term.places, (*out, *inside), strict=True)]
        long = {x: i for i, x in enumerate(dict.fromkeys(x for base, _ in placed for x in base.labels))}
        value = contract(
            builder, [f.value for f in factors] or [builder.const(1, (), dtype)], [f.labels for f in factors] or [()],
            tuple(long), term.sizes,
        )  # fmt: skip
        bases = [renamed(base, long) for base, _ in placed]
        offsets = tuple([offset for _, offset in placed])
        sizes = tuple([term.sizes[x] for x in long])
        cut = len(out)
        base = _Base(variable, tuple(bases[:cut]), tuple(bases[cut:]), sizes)
        found.append(_Position(base, offsets[:cut], offsets[cut:], value))
    return found


def _fixed(
    builder: Builder, place: Place, at: Mapping[int, int], size: Size, sizes: Mapping[int, Size]
) -> tuple[Place, int]:
    """A place with some labels at numbers: what is left, and an offset that is a number."""
    if isinstance(place, Affine):
        start = place.start
        for label, step in place.steps:
            if label in at:
                start = start + step * at[label]
        left = tuple((x, s) for x, s in place.steps if x not in at)
        return (Affine(0, left), start) if isinstance(start, int) else (Affine(start, left), 0)
    index = read(builder, place.index, [Affine(at[x]) if x in at else whole(x) for x in place.labels], sizes)
    number = None if index.labels else _constant(index.value)
    if number is not None and (number >= 0 or isinstance(size, int)):
        return Affine(0), number if number >= 0 else number + size
    return Indirect(index.value, index.labels), 0


def _constant(index: Value) -> int | None:
    """The number of a scalar that depends on no argument and no size; None for others."""
    order = topological([index])
    for value in order:
        if value.is_param or size_names(value.type.shape) or value.op.name == "size":
            return None
        if any(size_names(attribute_sizes(attribute)) for _, attribute in value.attrs):
            return None
    return None if undefined(order) else int(Program(Function("index", (), order, (index,)), {})()[0])


def _block(builder: Builder, own: Sequence[_Position], out: Shape, variables: Sequence[Shape]) -> Term:
    """Positions over the same long labels as one term, whose last label numbers them."""
    long = own[0].base.sizes
    labels = tuple(range(len(long) + 1))
    groups: dict[_Base, list[int]] = {}
    for number, position in enumerate(own):
        groups.setdefault(position.base, []).append(number)
    sides: tuple[list[Value], list[Value]] = ([], [])
    for base, group in groups.items():
        sizes = dict(enumerate((*long, len(group))))
        shape = variables[base.variable]
        shifts = zip(*[(*own[i].rows, *own[i].columns) for i in group], strict=True)
        placed = [
            _shifted(builder, place, shift, labels, sizes)
            for place, shift in zip((*base.rows, *base.columns), shifts, strict=True)
        ]
        term = Term((), sizes, tuple(placed))
        row = flattened(builder, term, range(len(out)), out)
        column = flattened(builder, term, range(len(out), len(placed)), shape)
        before = functools.reduce(operator.add, map(product, variables[: base.variable]), 0)
        moved = embedded(builder, Term((), sizes, (row, column)), 1, before, 1, product(shape))
        for side, place in zip(sides, moved.places, strict=True):
            side.append(index_of(builder, place, labels, sizes))
    order = [number for group in groups.values() for number in group]
    back = builder.make(builder.opset["array"], (), (("value", ArrayConstant(np.argsort(order))),))
    places: list[Place] = []
    for side in sides:
        index = builder.make(builder.opset["gather"], (joined(builder, side), back), (("axis", -1),))
        places.append(Indirect(index, labels))
    value = _stacked(builder, [p.value for p in own])
    return Term((Factor(value, labels),), dict(enumerate((*long, len(own)))), tuple(places))


def _shifted(
    builder: Builder, place: Place, shifts: Sequence[int], labels: Labels, sizes: Mapping[int, Size]
) -> Place:
    """A place moved by a number of its own for every position, the last label."""
    if isinstance(place, Indirect):
        return place
    if len(set(shifts)) == 1:
        return place.moved(shifts[0])
    array = builder.make(builder.opset["array"], (), (("value", ArrayConstant(np.array(shifts, np.int64))),))
    along = builder.handle(contract(builder, [array], [labels[-1:]], labels, sizes))
    return Indirect((builder.handle(index_of(builder, place, labels, sizes)) + along).value, labels)


def _stacked(builder: Builder, values: Sequence[Value]) -> Value:
    """Arrays side by side along a new last axis."""
    last = values[0].type.shape[-1:]
    attrs = (("rank", len(last)), ("shape", (*last, 1)))
    return joined(builder, [builder.make(builder.opset["reshape"], (v,), attrs) for v in values])

