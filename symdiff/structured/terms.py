"""Structured arrays: sums of terms, each a product of factor arrays over labels that says where it stands.

A term over labels l with factors F is the array

    A[a_1, ..., a_r] = sum over l of prod F(l) * [a_1 = place_1(l)] * ... * [a_r = place_r(l)]

One label in two places is a Kronecker delta, a start is an offset (a band), an index array is a gather or a
scatter-add, and labels that no place has are summed. A label that no factor has repeats the term: an identity is two
places and no factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, contract
from symdiff.ir.dims import Shape, Size, at_least, product
from symdiff.ir.graph import Value


class NoStructureError(Exception):
    """An operation that these terms cannot follow; its operands are then taken as they are."""


@dataclass(frozen=True, slots=True)
class Affine:
    """start + sum of step * label. No label: a fixed position."""

    start: Size
    steps: tuple[tuple[int, Size], ...] = ()

    @property
    def labels(self) -> Labels:
        return tuple(x for x, _ in self.steps)

    def moved(self, start: Size, step: Size = 1) -> Affine:
        """start + step * self."""
        return Affine(start + step * self.start, tuple((x, step * s) for x, s in self.steps))


@dataclass(frozen=True, slots=True)
class Indirect:
    """The integers of an array with one axis per label; negative ones count from the end."""

    index: Value
    labels: Labels


Place: TypeAlias = "Affine | Indirect"


@dataclass(frozen=True, slots=True)
class Factor:
    """An array with one axis per label, all different."""

    value: Value
    labels: Labels


@dataclass(frozen=True, slots=True)
class Term:
    """Factors, the size of every label, and a place per axis."""

    factors: tuple[Factor, ...]
    sizes: Mapping[int, Size]
    places: tuple[Place, ...]

    @property
    def placed(self) -> Labels:
        """Labels that some place has, in order of first appearance."""
        return tuple(dict.fromkeys(x for p in self.places for x in p.labels))

    @property
    def box(self) -> Shape:
        """Sizes of the placed labels: so many entries the term has."""
        return tuple([self.sizes[x] for x in self.placed])


def whole(label: int) -> Affine:
    """The place that runs through an axis."""
    return Affine(0, ((label, 1),))


def single_label(place: Place, size: Size, sizes: Mapping[int, Size]) -> int | None:
    """The label, when the place runs through all of an axis of this size."""
    if isinstance(place, Affine) and place.start == 0 and len(place.steps) == 1:
        label, step = place.steps[0]
        if step == 1 and sizes[label] == size:
            return label
    return None


# -------------------------------------------------------------------- sizes without numbers
class Order:
    """What is known of symbolic sizes: those that occur as sizes of axes are not negative.

    Where that does not decide a comparison, dimensions are taken as large; `assumed` lists the sizes that must then
    not be negative, so that a user of the outcome can check them against numbers.
    """

    def __init__(self, sizes: Iterable[Size]) -> None:
        self._facts = list(dict.fromkeys(s for s in sizes if not isinstance(s, int)))
        self.assumed: dict[Size, None] = {}

    def nonnegative(self, size: Size) -> bool:
        """Whether it is known to be at least 0."""
        return any(at_least(size, fact) for fact in (0, *self._facts))

    def larger(self, a: Size, b: Size) -> Size:
        """The larger of two; raises NoStructureError when that depends on how dimensions compare."""
        if self.nonnegative(a - b):
            return a
        if self.nonnegative(b - a):
            return b
        for one, other in ((a, b), (b, a)):
            difference = one - other
            if not isinstance(difference, int) and all(c > 0 for m, c in difference.terms if m):
                self.assumed[difference] = None
                return one
        raise NoStructureError

    def smaller(self, a: Size, b: Size) -> Size:
        return a if self.larger(a, b) == b else b


def highest(place: Affine, sizes: Mapping[int, Size]) -> Size:
    """The last position of a place whose steps are not negative."""
    total = place.start
    for label, step in place.steps:
        total = total + step * (sizes[label] - 1)
    return total


# -------------------------------------------------------------------- normal form
def scaled(builder: Builder, factor: Factor, other: Factor) -> Factor:
    """The product of two factors over the union of their labels."""
    labels = tuple(dict.fromkeys((*factor.labels, *other.labels)))
    value = contract(builder, [factor.value, other.value], [factor.labels, other.labels], labels)
    return Factor(value, labels)


def normal(builder: Builder, term: Term, dtype: str) -> Term | None:
    """Summed labels gone, factors that fit into one another multiplied, labels numbered by first appearance.

    None for a term that is zero.
    """
    term = _without_units(builder, term)
    kept = set(term.placed)
    carried = {x for f in term.factors for x in f.labels}
    factors = list(term.factors)
    if any(_is_constant(f.value, 0) for f in factors) or any(s == 0 for s in term.box):
        return None
    for label, size in term.sizes.items():
        if label not in kept and label not in carried:
            handle = builder.make(builder.opset["size"], (), (("dtype", dtype), ("size", size)))
            factors.append(Factor(handle, ()))
    factors = _merged(builder, _summed(builder, factors, kept))
    numbers = {x: i for i, x in enumerate(dict.fromkeys((*term.placed, *(x for f in factors for x in f.labels))))}
    ordered = [_renamed_factor(builder, f, numbers) for f in factors]
    places = tuple(renamed(p, numbers) for p in term.places)
    return Term(
        tuple(sorted(ordered, key=lambda f: f.labels)), {i: term.sizes[x] for x, i in numbers.items()}, places
    )


def _without_units(builder: Builder, term: Term) -> Term:
    """Labels of size 1 left out."""
    units = {x for x, size in term.sizes.items() if size == 1}
    if not units:
        return term

    def cleared(value: Value, labels: Labels) -> tuple[Value, Labels]:
        kept = tuple(x for x in labels if x not in units)
        return (contract(builder, [value], [labels], kept) if kept != labels else value), kept

    places: list[Place] = []
    for place in term.places:
        if isinstance(place, Indirect):
            places.append(Indirect(*cleared(place.index, place.labels)))
        else:
            places.append(Affine(place.start, tuple(p for p in place.steps if p[0] not in units)))
    factors = tuple([Factor(*cleared(f.value, f.labels)) for f in term.factors])
    return Term(factors, {x: s for x, s in term.sizes.items() if x not in units}, tuple(places))


def renamed(place: Place, numbers: Mapping[int, int]) -> Place:
    if isinstance(place, Indirect):
        return Indirect(place.index, tuple(numbers[x] for x in place.labels))
    return Affine(place.start, tuple(sorted(((numbers[x], s) for x, s in place.steps), key=lambda p: p[0])))


def _renamed_factor(builder: Builder, factor: Factor, numbers: Mapping[int, int]) -> Factor:
    labels = tuple(numbers[x] for x in factor.labels)
    target = tuple(sorted(labels))
    return Factor(contract(builder, [factor.value], [labels], target), target)


def _is_constant(value: Value, number: int) -> bool:
    return value.op.name == "const" and value.attr("value") == number and value.type.dtype != "bool"


def _summed(builder: Builder, factors: Sequence[Factor], kept: set[int]) -> list[Factor]:
    """Factors that share a summed label contracted into one."""
    groups: list[tuple[list[Factor], set[int]]] = []
    for factor in factors:
        gone = set(factor.labels) - kept
        joined, rest = [factor], list[tuple[list[Factor], set[int]]]()
        for members, own in groups:
            if gone & own:
                joined, gone = [*members, *joined], gone | own
            else:
                rest.append((members, own))
        groups = [*rest, (joined, gone)]
    result: list[Factor] = []
    for members, gone in groups:
        if not gone or _low_rank(members, gone):
            result += members
            continue
        # Factors without summed labels of their own that fit are taken along by the merging that follows.
        labels = tuple(dict.fromkeys(x for f in members for x in f.labels if x not in gone))
        value = contract(builder, [f.value for f in members], [f.labels for f in members], labels)
        result.append(Factor(value, labels))
    return result


def _low_rank(members: Sequence[Factor], gone: set[int]) -> bool:
    """Whether a product A B over a summed label is better kept as its two factors: the label's size is a number, and
    the factors have named sizes, or smaller numbers than their product."""
    if len(members) != 2:
        return False
    a, b = members
    own = [dict(zip(f.labels, f.value.type.shape, strict=True)) for f in members]
    shared = set(a.labels) & set(b.labels)
    if shared != gone or not all(isinstance(own[0][x], int) for x in gone):
        return False
    left, right = (product([s for x, s in sizes.items() if x not in gone]) for sizes in own)
    rank = product([own[0][x] for x in gone])
    if isinstance(left, int) and isinstance(right, int) and isinstance(rank, int):
        return rank * (left + right) < left * right
    return not isinstance(left, int) and not isinstance(right, int)


def _merged(builder: Builder, factors: Sequence[Factor]) -> list[Factor]:
    """A factor whose labels another one has is multiplied into it: no array grows."""
    kept: list[Factor] = []
    for factor in sorted(factors, key=lambda f: -len(f.labels)):
        if _is_constant(factor.value, 1):
            continue
        hosts = [i for i, other in enumerate(kept) if set(factor.labels) <= set(other.labels)]
        if hosts:
            host = min(hosts, key=lambda i: len(kept[i].labels))
            kept[host] = scaled(builder, kept[host], factor)
        else:
            kept.append(factor)
    return kept


def collected(builder: Builder, terms: Iterable[Term], dtype: str) -> list[Term]:
    """Terms in normal form; those in the same places whose factors differ in one at most are added up."""
    found: dict[object, list[Term]] = {}
    for given in terms:
        term = normal(builder, given, dtype)
        if term is None:
            continue
        alike = found.setdefault((term.places, term.box), [])
        for number, other in enumerate(alike):
            total = _sum(builder, other, term, dtype)
            if total is not None:
                alike[number] = total
                break
        else:
            alike.append(term)
    return [t for alike in found.values() for t in alike]


def _sum(builder: Builder, a: Term, b: Term, dtype: str) -> Term | None:
    """Two terms in the same places as one, when no array grows by it."""
    one = Factor(builder.const(1, (), dtype), ())
    if len(a.factors) <= 1 and len(b.factors) <= 1:
        left, right = ([*t.factors, one][0] for t in (a, b))
        labels = left.labels if set(right.labels) <= set(left.labels) else right.labels
        if set(left.labels) <= set(labels):
            parts = [contract(builder, [f.value], [f.labels], labels, a.sizes) for f in (left, right)]
            total = Handle(builder, parts[0]) + Handle(builder, parts[1])
            return Term((Factor(total.value, labels),), a.sizes, a.places)
    if not a.factors or a.sizes != b.sizes or [f.labels for f in a.factors] != [f.labels for f in b.factors]:
        return None
    differ = [i for i, (f, g) in enumerate(zip(a.factors, b.factors, strict=True)) if f.value is not g.value]
    if len(differ) > 1:
        return None
    at = differ[0] if differ else 0
    total = Handle(builder, a.factors[at].value) + Handle(builder, b.factors[at].value)
    factors = (*a.factors[:at], Factor(total.value, a.factors[at].labels), *a.factors[at + 1 :])
    return Term(factors, a.sizes, a.places)
