"""Bands: terms along one label each, as whole diagonals of the matrix, and their entries in compressed-row order.

A matrix whose terms all run along diagonals, column - row fixed, is cut at the rows where some term begins or ends.
Between two cuts every row has the same columns and every entry the same formula, so the entries of all rows are a few
stacked slices: no index array, no zeros filled in, every entry written once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Value
from symdiff.structured.moves import merged
from symdiff.structured.terms import NoStructureError, Order, Term


@dataclass(frozen=True, slots=True)
class Band:
    """The entries (row, row + offset) for `count` rows from `start`; a value of rank 0 is the same in all of them."""

    offset: Size
    start: Size
    count: Size
    value: Value


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` rows from `start`, each with the columns row + offset of `offsets`, in rising order."""

    start: Size
    count: Size
    offsets: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of a diagonal."""

    offset: Size
    start: Size
    count: Size
    value: Value  # over the rows, or a scalar


def find_bands(builder: Builder, order: Order, runs: Sequence[Run]) -> list[Band]:
    """The bands by rising offset. Raises NoStructureError when dimensions do not compare."""
    by_offset: dict[Size, list[Run]] = {}
    for run in runs:
        by_offset.setdefault(run.offset, []).append(run)
    bands = [_band(builder, order, own) for own in by_offset.values()]
    return sorted(bands, key=functools.cmp_to_key(lambda a, b: _compared(order, a.offset, b.offset)))


def run_of(builder: Builder, term: Term, out: Shape, inside: Shape, dtype: str) -> Run:
    """A term as a run; NoStructureError for one that is none."""
    cut = len(out)
    row, column = merged(term.places[:cut], out), merged(term.places[cut:], inside)
    if len(term.factors) > 1 or len(term.placed) > 1 or row.steps != column.steps:
        raise NoStructureError
    if row.steps and row.steps[0][1] != 1:
        raise NoStructureError
    value = term.factors[0].value if term.factors else builder.const(1, (), dtype)
    count = term.sizes[row.steps[0][0]] if row.steps else 1
    if not row.steps:
        value = contract(builder, [value], [()], (0,), {0: 1})
    return Run(column.start - row.start, row.start, count, value)


def _compared(order: Order, a: Size, b: Size) -> int:
    return 0 if a == b else 1 if order.larger(a, b) == a else -1


def _sorted(order: Order, sizes: Sequence[Size]) -> list[Size]:
    return sorted(dict.fromkeys(sizes), key=functools.cmp_to_key(functools.partial(_compared, order)))


def _band(builder: Builder, order: Order, runs: Sequence[Run]) -> Band:
    """Runs on one diagonal as one: their sum where they overlap, zeros where none is."""
    if len(runs) == 1:
        return Band(runs[0].offset, runs[0].start, runs[0].count, runs[0].value)
    cuts = _sorted(order, [c for r in runs for c in (r.start, r.start + r.count)])
    parts: list[Value] = []
    dtype = runs[0].value.type.dtype
    for low, high in itertools.pairwise(cuts):
        total: Handle | None = None
        for run in runs:
            if _covers(order, run.start, run.start + run.count, low, high):
                piece = Handle(builder, taken(builder, run.value, low - run.start, high - low))
                total = piece if total is None else total + piece
        parts.append(builder.const(0, (high - low,), dtype) if total is None else total.value)
    return Band(runs[0].offset, cuts[0], cuts[-1] - cuts[0], joined(builder, parts))


def _covers(order: Order, start: Size, stop: Size, low: Size, high: Size) -> bool:
    return _compared(order, start, low) <= 0 and _compared(order, high, stop) <= 0


def taken(builder: Builder, value: Value, start: Size, count: Size) -> Value:
    """`count` elements of a vector, or of a number repeated."""
    if not value.type.rank:
        return contract(builder, [value], [()], (0,), {0: count})
    attrs = (("sizes", (count,)), ("starts", (start,)), ("steps", (1,)))
    return builder.make(builder.opset["slice"], (value,), attrs)


def joined(builder: Builder, parts: Sequence[Value]) -> Value:
    """Arrays one behind the other along the last axis."""
    return parts[0] if len(parts) == 1 else builder.make(builder.opset["concatenate"], tuple(parts), (("axis", -1),))


def mirrored(order: Order, runs: Sequence[Run]) -> list[Run]:
    """All runs of a symmetric matrix, those below the diagonal made of those above."""
    found: list[Run] = []
    for run in runs:
        side = _compared(order, run.offset, 0)
        if side >= 0:
            found.append(run)
        if side > 0:
            found.append(Run(-run.offset, run.start + run.offset, run.count, run.value))
    return found


def by_rows(builder: Builder, order: Order, runs: Sequence[Run]) -> tuple[list[Segment], Value | None]:
    """All entries row by row, columns rising, as one vector; and the segments that say where they stand."""
    cuts = _sorted(order, [c for r in runs for c in (r.start, r.start + r.count)])
    segments: list[Segment] = []
    parts: list[Value] = []
    for low, high in itertools.pairwise(cuts):
        count = high - low
        columns: dict[Size, Handle] = {}
        for run in runs:
            if _covers(order, run.start, run.start + run.count, low, high):
                piece = Handle(builder, taken(builder, run.value, low - run.start, count))
                columns[run.offset] = columns[run.offset] + piece if run.offset in columns else piece
        if columns:
            offsets = _sorted(order, list(columns))
            segments.append(Segment(low, count, tuple(offsets)))
            parts.append(_interleaved(builder, [columns[o].value for o in offsets], count))
    return segments, joined(builder, parts) if parts else None


def _interleaved(builder: Builder, columns: Sequence[Value], count: Size) -> Value:
    if len(columns) == 1:
        return columns[0]
    attrs = (("rank", 1), ("shape", (count, 1)))
    standing = [builder.make(builder.opset["reshape"], (c,), attrs) for c in columns]
    table = builder.make(builder.opset["concatenate"], tuple(standing), (("axis", -1),))
    flat = (("rank", 2), ("shape", (count * len(columns),)))
    return builder.make(builder.opset["reshape"], (table,), flat)
