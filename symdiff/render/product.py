"""Products in index form: every multiplicative value as labelled factors, before matrix notation is sought.

A `Product` is coefficient * factor * factor * ... summed over the labels that are not axes of the result. The axes of
the result are the labels 0, 1, ...; a `delta` says that two of them are equal. A factor need not have every axis: an
axis that no factor has is a broadcast. Contractions, elementwise products, quotients and scalar multiples all become
Products, and Products of Products merge, so that the search for the shortest notation sees all of it at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from symdiff.ir.contraction import Spec
from symdiff.ir.dims import Dim, Size
from symdiff.render.notation import Node, Notation, Number

Labels = tuple[int, ...]

# A product with more factors than this is one factor of the next: search and memory stay bounded.
MOST_FACTORS = 12


@dataclass(frozen=True, slots=True)
class Factor:
    """node ** power with its labels."""

    node: Node
    labels: Labels
    power: Number = 1


@dataclass(frozen=True, slots=True)
class Product:
    """coefficient * factors * deltas with `rank` axes; `sizes` has every label that a factor, delta or axis has."""

    rank: int
    factors: tuple[Factor, ...]
    sizes: Mapping[int, Size]
    coefficient: Fraction = Fraction(1)
    deltas: tuple[tuple[int, int], ...] = field(default=())

    @property
    def elementwise(self) -> bool:
        """Whether it is a plain elementwise product: no sums, no deltas."""
        return not self.deltas and all(x < self.rank for f in self.factors for x in f.labels)

    def scaled(self, number: Fraction) -> Product:
        return Product(self.rank, self.factors, self.sizes, self.coefficient * number, self.deltas)

    def inverted(self) -> Product:
        """One over an elementwise product."""
        assert self.elementwise
        factors = tuple([Factor(f.node, f.labels, -f.power) for f in self.factors])
        return Product(self.rank, factors, self.sizes, 1 / self.coefficient)


def atom(node: Node, axes: Labels, shape: Sequence[Size]) -> Product:
    """One expression whose axes are `axes` of a result of the given shape."""
    sizes = dict(enumerate(shape))
    if node.kind == "num" and type(node.data) in (int, Fraction):
        return Product(len(shape), (), sizes, Fraction(node.data))
    return Product(len(shape), (Factor(node, axes),), sizes)


class _Labels:
    """Equal labels found while merging: the smaller stands for both."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, label: int) -> int:
        while label in self._parent:
            label = self._parent[label]
        return label

    def join(self, a: int, b: int) -> None:
        a, b = sorted((self.find(a), self.find(b)))
        if a != b:
            self._parent[b] = a


def multiply(
    notation: Notation, operands: Sequence[Product], spec: Spec, sizes: Mapping[int, Size]
) -> Product:
    """The contraction `spec` of Products; `sizes` gives the size of every label of the spec."""
    rank = len(spec.output)
    place: dict[int, int] = {}  # label of the spec -> label here
    deltas: list[tuple[int, int]] = []
    known: dict[int, Size] = {}
    for axis, label in enumerate(spec.output):
        known[axis] = sizes[label]
        if label in place:
            deltas.append((place[label], axis))
        else:
            place[label] = axis
    fresh = rank
    for label in spec.summed:
        place[label] = fresh
        known[fresh] = sizes[label]
        fresh += 1
    coefficient = Fraction(1)
    factors: list[Factor] = []
    for word, operand in zip(spec.operands, operands, strict=True):
        mapping = {axis: place[label] for axis, label in enumerate(word)}
        for label, size in operand.sizes.items():
            if label >= operand.rank:
                mapping[label] = fresh
                known[fresh] = size
                fresh += 1
        coefficient *= operand.coefficient
        factors += [Factor(f.node, tuple([mapping[x] for x in f.labels]), f.power) for f in operand.factors]
        deltas += [(mapping[a], mapping[b]) for a, b in operand.deltas]
    return _settle(notation, rank, factors, known, coefficient, deltas)


def _settle(
    notation: Notation, rank: int, factors: list[Factor], sizes: dict[int, Size], coefficient: Fraction,
    deltas: list[tuple[int, int]],
) -> Product:  # fmt: skip
    """Use up deltas on summed labels, put equal axes on the first of them, and count labels that nothing has."""
    same = _Labels()
    for a, b in deltas:
        same.join(a, b)
    kept: list[tuple[int, int]] = []
    for axis in range(rank):
        root = same.find(axis)
        if root != axis:
            kept.append((root, axis))
    placed = [Factor(f.node, tuple([same.find(x) for x in f.labels]), f.power) for f in factors]
    used = {x for f in placed for x in f.labels} | set(range(rank))
    for label, size in sizes.items():
        if label in used or same.find(label) != label:
            continue
        if isinstance(size, Dim):
            placed.append(Factor(notation.dimension(size), ()))
        else:
            coefficient *= size
    known = {x: s for x, s in sizes.items() if x in used}
    return Product(rank, tuple(_merged(placed)), known, coefficient, tuple(kept))


def _merged(factors: list[Factor]) -> list[Factor]:
    """Equal factors at equal labels become a power; a factor and its inverse stay, for they may be 0/0."""
    powers: dict[tuple[Node, Labels, bool], Number] = {}
    for factor in factors:
        node, labels = factor.node, factor.labels
        if len(labels) == 2 and labels[0] > labels[1] and node.symmetric:
            labels = labels[::-1]
        key = (node, labels, factor.power > 0)
        powers[key] = powers.get(key, 0) + factor.power
    return [Factor(node, labels, power) for (node, labels, _), power in powers.items()]
