"""What structure a derivative has: the kind of every term, and bands joined into whole diagonals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from symdiff.ir.dims import Shape, Size, product
from symdiff.structured.bands import Band, Run, find_bands, mirrored, run_of
from symdiff.structured.moves import merged
from symdiff.structured.propagate import Structure
from symdiff.structured.terms import Affine, Factor, Indirect, NoStructureError, Place, Term, single_label

KINDS = (
    "diagonal", "banded", "stencil", "block diagonal", "block banded", "kronecker", "low rank", "scattered", "dense"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A term with its kind. rows and columns are its places; `out` and `inside` the sizes of the axes they stand on.

    (A band stands on the flattened axes.)
    """

    kind: str
    factors: tuple[Factor, ...]
    sizes: Mapping[int, Size]
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    out: Shape
    inside: Shape


def parts_of(
    structure: Structure, terms: Sequence[Term], out: Shape, inside: Shape, dtype: str, symmetric: bool
) -> list[Part]:
    """The parts of a derivative of shape out + inside, in the order of `KINDS`."""
    found: list[Part] = []
    runs: list[Run] = []
    ran: list[Term] = []
    for term in terms:
        try:
            runs.append(run_of(structure.builder, term, out, inside, dtype))
            ran.append(term)
        except NoStructureError:
            found.append(_part(term, out, inside))
    try:
        if symmetric and not found:
            runs = mirrored(structure.order, runs)
        found += _band_parts(find_bands(structure.builder, structure.order, runs), out, inside)
    except NoStructureError:  # dimensions that do not compare
        found += [_part(term, out, inside) for term in ran]
    return sorted(found, key=lambda p: KINDS.index(p.kind))


def _part(term: Term, out: Shape, inside: Shape) -> Part:
    rows, columns = term.places[: len(out)], term.places[len(out) :]
    return Part(_kind(term, rows, columns, out, inside), term.factors, term.sizes, rows, columns, out, inside)


def _kind(term: Term, rows: Sequence[Place], columns: Sequence[Place], out: Shape, inside: Shape) -> str:
    places = list(zip((*rows, *columns), (*out, *inside), strict=True))
    shifted = _shifted(term, rows, columns, out, inside)
    if shifted:
        return shifted
    if any(isinstance(p, Indirect) or single_label(p, size, term.sizes) is None for p, size in places):
        return "scattered"
    left, right = ({x for p in side for x in p.labels} for side in (rows, columns))
    carried = {x for f in term.factors for x in f.labels}
    if tuple(rows) == tuple(columns) and len(left) == len(rows):
        return "diagonal"
    if left & right:
        return "block diagonal" if left & right <= carried else "kronecker"
    if not left or not right:
        return "dense"
    if not any(set(f.labels) & left and set(f.labels) & right for f in term.factors):
        return "low rank"
    return "dense" if len(term.factors) == 1 and left | right <= carried else "kronecker"


def _shifted(
    term: Term, rows: Sequence[Place], columns: Sequence[Place], out: Shape, inside: Shape
) -> str:
    """The kind of entries at a constant distance from the diagonal along some axes, and anywhere along the others;
    empty for others, and where every distance is 0 on axes that go together."""
    if len(rows) != len(columns):
        try:
            same = merged(rows, out) == merged(columns, inside)
        except NoStructureError:
            return ""
        return "diagonal" if same and len(term.placed) == max(len(rows), len(columns)) else ""
    moving: list[int] = []
    free: list[int] = []
    distant = False
    for row, column, high, wide in zip(rows, columns, out, inside, strict=True):
        if not isinstance(row, Affine) or not isinstance(column, Affine):
            return ""
        if row.steps and row.steps == column.steps and len(row.steps) == 1 and row.steps[0][1] == 1:
            moving.append(row.steps[0][0])
            distant = distant or row != column or single_label(row, high, term.sizes) is None
            continue
        ends = single_label(row, high, term.sizes), single_label(column, wide, term.sizes)
        if ends[0] is None or ends[1] is None:
            return ""
        free += [x for x in ends if x is not None]
    if not moving or not distant or len({*moving, *free}) < len(moving) + len(free):
        return ""
    return "block banded" if free else "stencil"


def _band_parts(bands: Sequence[Band], out: Shape, inside: Shape) -> list[Part]:
    rows, columns = product(out), product(inside)
    found: list[Part] = []
    for band in bands:
        alone = len(bands) == 1 and out == inside and band.offset == 0 and band.start == 0 and band.count == rows
        labels = (0,) if band.value.type.rank else ()
        found.append(Part(
            "diagonal" if alone else "banded", (Factor(band.value, labels),), {0: band.count},
            (Affine(band.start, ((0, 1),)),), (Affine(band.start + band.offset, ((0, 1),)),), (rows,), (columns,),
        ))  # fmt: skip
    return found
