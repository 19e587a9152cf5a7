"""The entries of a sparse derivative by formulas of their own: no sweep, no seed, nothing but the non-zeros.

Takes a Jacobian program per variable; gives programs for the values and what is needed to say where they stand. Where
every term runs along a diagonal the values come row by row (`Entries.rows`); else term by term, to be put in order by
an index array that sizes and index arguments determine (`Entries.terms`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import contract
from symdiff.ir.dims import Shape, Size, evaluate, named, product, size_names
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.types import TensorType
from symdiff.structured.bands import Segment, by_rows, joined, mirrored, run_of
from symdiff.structured.local import local_blocks
from symdiff.structured.moves import embedded, flattened
from symdiff.structured.propagate import Structure
from symdiff.structured.terms import Indirect, NoStructureError, Place, Term, collected

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """terms: with a row place and a column place each. values: of every term, flat, in the order of its placed labels.
    rows: all values row by row, where `segments` say, or None. assumed: sizes that must not be negative."""

    builder: Builder
    params: tuple[Value, ...]
    terms: tuple[Term, ...]
    values: list[Value]
    assumed: tuple[Size, ...]
    segments: list[Segment]
    rows: Value | None

    # ---------------------------------------------------------------- programs
    def by_row(self) -> Function:
        """The values row by row."""
        assert self.rows is not None
        return Function.of(self.params, [self.rows], "entries")

    def by_term(self) -> Function:
        """The values term by term."""
        return Function.of(self.params, [joined(self.builder, self.values)], "entries")

    def gathered(self, count: int, tag: str = "") -> Function:
        """Every entry from `count` places of the values term by term, behind which stands a zero: takes one array of
        positions each besides the parameters. tag: ends new names, so that programs can be put into one."""
        builder = self.builder
        dtype = self.values[0].type.dtype
        everything = joined(builder, [*self.values, builder.const(0, (1,), dtype)])
        taken = {*(p.name for p in self.params)}
        dims = {str(d) for v in self.params for d in size_names(v.type.shape)}
        length = named(_fresh(f"entries{tag}", dims))
        kind = TensorType("i64", (length,))
        sources = [builder.param(_fresh(f"source_{i}{tag}", taken), kind) for i in range(count)]
        values = builder.handle(everything)
        parts = [values.op("gather", builder.handle(s), axis=-1) for s in sources]
        return Function.of([*self.params, *sources], [functools.reduce(operator.add, parts).value], "entries")

    def scattered(self, tag: str = "") -> tuple[Function, str]:
        """Every value added where an array of positions says, and the name of the dimension that counts the entries."""
        builder = self.builder
        values = joined(builder, self.values)
        dims = {str(d) for v in self.params for d in size_names(v.type.shape)}
        length = _fresh(f"entries{tag}", dims)
        kind = TensorType("i64", values.type.shape)
        target = builder.param(_fresh(f"target{tag}", {p.name for p in self.params}), kind)
        attrs = (("axis", -1), ("sizes", (named(length),)))
        added = builder.make(builder.opset["scatter_add"], (values, target), attrs)
        return Function.of([*self.params, target], [added], "entries"), length

    # ---------------------------------------------------------------- places
    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the sizes are as large as the comparison of symbolic sizes took them to be."""
        return all(evaluate(s, sizes) >= 0 for s in self.assumed)

    def count(self, sizes: Mapping[str, int]) -> int:
        """Entries of all terms."""
        return sum(evaluate(product(t.box), sizes) for t in self.terms)

    def index_program(self) -> Function:
        """The index arrays of all places, from the integer parameters that they need."""
        indices = self._indices()
        return Function.of([v for v in topological(indices) if v.is_param], indices, "indices")

    def _indices(self) -> list[Value]:
        return [p.index for t in self.terms for p in t.places if isinstance(p, Indirect)]

    def places(self, sizes: Mapping[str, int], indices: Sequence[Array]) -> tuple[Array, Array]:
        """Row and column numbers of the values, term by term, from the results of `index_program`."""
        found = dict(zip(self._indices(), indices, strict=True))
        sides: tuple[list[Array], list[Array]] = ([np.zeros(0, np.int64)], [np.zeros(0, np.int64)])
        for term in self.terms:
            for place, side in zip(term.places, sides, strict=True):
                side.append(_positions(place, term, sizes, found).ravel())
        return np.concatenate(sides[0]), np.concatenate(sides[1])

    def row_places(self, sizes: Mapping[str, int]) -> tuple[Array, Array] | None:
        """Row and column numbers of the values row by row; None where they do not come in order at these sizes."""
        rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for segment in self.segments:
            offsets = np.array([evaluate(o, sizes) for o in segment.offsets])
            if np.any(np.diff(offsets) <= 0):
                return None
            start, count = evaluate(segment.start, sizes), evaluate(segment.count, sizes)
            own = np.arange(start, start + count)
            rows.append(np.repeat(own, len(offsets)))
            columns.append((own[:, None] + offsets[None, :]).ravel())
        return np.concatenate(rows), np.concatenate(columns)


def _positions(place: Place, term: Term, sizes: Mapping[str, int], indices: Mapping[Value, Array]) -> Array:
    labels = term.placed
    extents = [evaluate(term.sizes[x], sizes) for x in labels]
    if isinstance(place, Indirect):
        moved = np.transpose(indices[place.index], np.argsort([labels.index(x) for x in place.labels]))
        total = moved.reshape([n if x in place.labels else 1 for x, n in zip(labels, extents, strict=True)])
    else:
        total = np.full([1] * len(labels), evaluate(place.start, sizes), np.int64)
        for label, step in place.steps:
            at = labels.index(label)
            shape = [-1 if i == at else 1 for i in range(len(labels))]
            total = total + evaluate(step, sizes) * np.arange(extents[at]).reshape(shape)
    return np.broadcast_to(total, extents)


def find_entries(
    function: Function, out: Shape, variables: Sequence[Shape], *, symmetric: bool, transposed: bool
) -> Entries | None:
    """The entries of a derivative whose results are its blocks side by side, of shapes out + variable.

    transposed: the rows are those of the transpose. None where an index depends on numbers that are no integers.
    """
    structure = Structure(function)
    builder, order = structure.builder, structure.order
    dtype = function.results[0].type.dtype
    terms: list[Term] = []
    first: Size = 0
    for own, shape in zip(structure.results, variables, strict=True):
        for term in own:
            row = flattened(builder, term, range(len(out)), out)
            column = flattened(builder, term, range(len(out), len(term.places)), shape)
            flat = Term(term.factors, term.sizes, (row, column))
            moved = embedded(builder, flat, 1, first, 1, product(shape))
            terms.append(Term(moved.factors, moved.sizes, moved.places[::-1]) if transposed else moved)
        first = first + product(shape)
    terms = collected(builder, terms, dtype)
    indices = [p.index for t in terms for p in t.places if isinstance(p, Indirect)]
    if any(v.is_param and v.type.floating for v in topological(indices)):
        return None
    rows, columns = (first, product(out)) if transposed else (product(out), first)
    try:
        runs = [run_of(builder, t, (rows,), (columns,), dtype) for t in terms]
        segments, by_row = by_rows(builder, order, mirrored(order, runs) if symmetric else runs)
    except NoStructureError:
        segments, by_row = list[Segment](), None
        placed = [(number, term) for number, own in enumerate(structure.results) for term in own]
        blocks = local_blocks(builder, placed, out, variables, dtype)
        if blocks is not None:
            terms = [Term(t.factors, t.sizes, t.places[::-1]) for t in blocks] if transposed else blocks
    values = [_value(builder, t, dtype) for t in terms]
    return Entries(builder, tuple(structure.params), tuple(terms), values, tuple(order.assumed), segments, by_row)


def _value(builder: Builder, term: Term, dtype: str) -> Value:
    """The product of a term's factors over its placed labels, flat."""
    labels = term.placed
    args = [f.value for f in term.factors]
    value = contract(builder, args, [f.labels for f in term.factors], labels, term.sizes, dtype)
    attrs = (("rank", len(labels)), ("shape", (product(term.box),)))
    return builder.make(builder.opset["reshape"], (value,), attrs)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
