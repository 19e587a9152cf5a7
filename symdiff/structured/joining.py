"""Contractions of terms: labels of the contraction bound to places, equal places made one."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import Labels, Spec, contract
from symdiff.ir.dims import Shape, Size, product
from symdiff.ir.graph import Value
from symdiff.structured.reading import index_of, read
from symdiff.structured.terms import (
    Affine,
    Factor,
    Indirect,
    NoStructureError,
    Order,
    Place,
    Term,
    renamed,
    single_label,
    whole,
)


class Workspace:
    """Terms being joined: shared labels, factors so far, and substitutions in all of them."""

    def __init__(self, builder: Builder, order: Order) -> None:
        self.builder = builder
        self.order = order
        self.sizes: dict[int, Size] = {}
        self.factors: list[Factor] = []
        self.bound: dict[int, Place] = {}
        self.placed: tuple[Place, ...] = ()  # places that follow substitutions besides the bound ones
        self.zero = False
        self._next = 0

    def fresh(self, size: Size) -> int:
        self._next += 1
        self.sizes[self._next] = size
        return self._next

    def take(self, term: Term) -> tuple[Place, ...]:
        """Add a term's factors under labels of its own; returns its places."""
        numbers = {x: self.fresh(size) for x, size in term.sizes.items()}
        self.factors += [Factor(f.value, tuple([numbers[x] for x in f.labels])) for f in term.factors]
        return tuple([renamed(p, numbers) for p in term.places])

    def bind(self, label: int, place: Place, size: Size) -> None:
        """Require label == place."""
        known = self.bound.get(label)
        if known is None:
            self.bound[label] = place
        elif known != place:
            self._equate(label, known, place, size)

    def _equate(self, label: int, a: Place, b: Place, size: Size) -> None:
        own = single_label(b, size, self.sizes)
        if own is not None and own not in a.labels:
            self.substitute(own, a)
            return
        own = single_label(a, size, self.sizes)
        if own is not None and own not in b.labels:
            self.substitute(own, b)
            return
        if not isinstance(a, Affine) or not isinstance(b, Affine):
            raise NoStructureError
        if not a.steps and not b.steps:
            difference = a.start - b.start
            if not isinstance(difference, int):
                raise NoStructureError
            self.zero = self.zero or difference != 0
        elif not a.steps or not b.steps:
            fixed, moving = (a, b) if not a.steps else (b, a)
            self._pin(fixed, moving)
        else:
            self._overlap(a, b)

    def _pin(self, fixed: Affine, moving: Affine) -> None:
        """A label at a fixed position."""
        label, step = self._only(moving)
        at = fixed.start - moving.start
        if isinstance(at, int) and isinstance(step, int) and step != 1:
            if at % step:
                self.zero = True
                return
            at, step = at // step, 1
        if step != 1:
            raise NoStructureError
        if self.order.nonnegative(at) and self.order.nonnegative(self.sizes[label] - 1 - at):
            self.substitute(label, Affine(at))
        elif self.order.nonnegative(-1 - at) or self.order.nonnegative(at - self.sizes[label]):
            self.zero = True
        else:
            raise NoStructureError

    def _overlap(self, a: Affine, b: Affine) -> None:
        """Two windows on one axis: the labels of their overlap."""
        (x, step), (y, other) = self._only(a), self._only(b)
        if step != other or step not in (1, -1) or x == y:
            raise NoStructureError
        assert isinstance(step, int)
        # y = x + shift.
        shift = step * (a.start - b.start)
        low = self.order.larger(0, -shift)
        high = self.order.smaller(self.sizes[x], self.sizes[y] - shift)
        count = self.order.larger(0, high - low)
        label = self.fresh(count)
        self.substitute(x, Affine(low, ((label, 1),)))
        self.substitute(y, Affine(low + shift, ((label, 1),)))

    def _only(self, place: Affine) -> tuple[int, Size]:
        if len(place.steps) != 1:
            raise NoStructureError
        return place.steps[0]

    def substitute(self, label: int, place: Place) -> None:
        """Put a place for a label, everywhere."""
        self.factors = [self._substituted(f, label, place) for f in self.factors]
        self.bound = {x: put(self.builder, p, label, place, self.sizes) for x, p in self.bound.items()}
        self.placed = tuple([put(self.builder, p, label, place, self.sizes) for p in self.placed])
        del self.sizes[label]

    def split(self, label: int, shape: Shape) -> Labels:
        """Put labels of sizes `shape`, row-major, for one label."""
        fresh = tuple([self.fresh(size) for size in shape])
        self.factors = [self._split_factor(f, label, fresh, shape) for f in self.factors]
        steps = tuple((x, product(shape[i + 1 :])) for i, x in enumerate(fresh))
        self.bound = {x: put(self.builder, p, label, Affine(0, steps), self.sizes) for x, p in self.bound.items()}
        self.placed = tuple([put(self.builder, p, label, Affine(0, steps), self.sizes) for p in self.placed])
        del self.sizes[label]
        return fresh

    def _split_factor(self, factor: Factor, label: int, fresh: Labels, shape: Shape) -> Factor:
        if label not in factor.labels:
            return factor
        others = tuple(x for x in factor.labels if x != label)
        last = contract(self.builder, [factor.value], [factor.labels], (*others, label))
        attrs = (("rank", 1), ("shape", shape))
        return Factor(self.builder.make(self.builder.opset["reshape"], (last,), attrs), (*others, *fresh))

    def _substituted(self, factor: Factor, label: int, place: Place) -> Factor:
        if label not in factor.labels:
            return factor
        at: list[Place] = [place if x == label else whole(x) for x in factor.labels]
        return read(self.builder, factor.value, at, self.sizes)


def put(builder: Builder, place: Place, label: int, inner: Place, sizes: dict[int, Size]) -> Place:
    """`place` with `inner` in place of a label."""
    if label not in place.labels:
        return place
    if isinstance(place, Indirect):
        at: list[Place] = [inner if x == label else whole(x) for x in place.labels]
        found = read(builder, place.index, at, sizes)
        return Indirect(found.value, found.labels)
    step = dict(place.steps)[label]
    if isinstance(inner, Affine):
        steps = {x: s for x, s in place.steps if x != label}
        for x, s in inner.steps:
            steps[x] = steps.get(x, 0) + step * s
        kept = sorted(((x, s) for x, s in steps.items() if s != 0), key=lambda p: p[0])
        return Affine(place.start + step * inner.start, tuple(kept))
    if place == whole(label):
        return inner
    labels = tuple(dict.fromkeys((*(x for x in place.labels if x != label), *inner.labels)))
    rest = Affine(place.start, tuple((x, s) for x, s in place.steps if x != label))
    base = builder.handle(index_of(builder, rest, labels, sizes))
    along = builder.handle(index_of(builder, inner, labels, sizes))
    factor = builder.handle(index_of(builder, Affine(step), labels, sizes))
    return Indirect((base + along * factor).value, labels)


def join(
    builder: Builder, order: Order, spec: Spec, operands: Sequence[Value | Term], sizes: dict[int, Size]
) -> Term | None:
    """One term of a contraction, of one term per structured operand; None when it is zero.

    operands: terms, and plain values, which are read where the terms have them. sizes: of the contraction's labels.
    """
    space = Workspace(builder, order)
    for operand, labels in zip(operands, spec.operands, strict=True):
        if isinstance(operand, Term):
            # Binding one axis may substitute labels in the places of the next.
            space.placed = space.take(operand)
            for number, label in enumerate(labels):
                space.bind(label, space.placed[number], sizes[label])
                if space.zero:
                    return None
            space.placed = ()
    for label, size in sizes.items():
        if label not in space.bound:
            space.bound[label] = whole(space.fresh(size))
    for operand, labels in zip(operands, spec.operands, strict=True):
        if not isinstance(operand, Term):
            space.factors.append(read(builder, operand, [space.bound[x] for x in labels], space.sizes))
    return Term(tuple(space.factors), dict(space.sizes), _places(space, spec.output))


def _places(space: Workspace, output: Labels) -> tuple[Place, ...]:
    return tuple([space.bound[x] for x in output])
