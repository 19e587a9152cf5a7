"""Slices, windows, reshapes, joins and index arrays: how operations that move elements move the places of a term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import expand
from symdiff.ir.dims import Shape, Size, product
from symdiff.structured.joining import Workspace, put
from symdiff.structured.reading import index_of
from symdiff.structured.terms import (
    Affine,
    Indirect,
    NoStructureError,
    Order,
    Place,
    Term,
    highest,
    single_label,
    whole,
)


def opened(builder: Builder, order: Order, term: Term) -> Workspace:
    """A term alone in a workspace, for substitutions; its places are `placed`."""
    space = Workspace(builder, order)
    space.placed = space.take(term)
    return space


def closed(space: Workspace) -> Term:
    return Term(tuple(space.factors), dict(space.sizes), space.placed)


def replaced(term: Term, axis: int, place: Place) -> Term:
    return Term(term.factors, term.sizes, (*term.places[:axis], place, *term.places[axis + 1 :]))


# -------------------------------------------------------------------- windows
def cut(
    builder: Builder, order: Order, term: Term, axis: int, start: Size, step: int, count: Size, size: Size
) -> Term | None:
    """Elements start, start + step, ... of one axis of `size`, `count` of them; None when none is left."""
    place = term.places[axis]
    if start == 0 and step == 1 and count == size:
        return term
    if not isinstance(place, Affine):
        raise NoStructureError
    if not place.steps:
        return _cut_fixed(order, term, axis, place.start - start, step, count)
    rising = step == 1 and all(isinstance(s, int) and s > 0 for _, s in place.steps)
    inside = rising and order.nonnegative(place.start - start)
    if inside and order.nonnegative(count - 1 - highest(place, term.sizes) + start):
        return replaced(term, axis, place.moved(-start))
    if len(place.steps) != 1:
        raise NoStructureError
    label, own = place.steps[0]
    space = opened(builder, order, term)
    label = 1 + list(term.sizes).index(label)
    if place.start == 0 and own == 1 and term.sizes[place.steps[0][0]] == size:
        new = space.fresh(count)
        space.substitute(label, Affine(start, ((new, step),)))
        return replaced(closed(space), axis, whole(new))
    if own not in (1, -1) or step not in (1, -1):
        raise NoStructureError
    assert isinstance(own, int)
    # label = sign * q + shift for the q-th element of the window.
    sign, shift, length = own * step, own * (start - place.start), space.sizes[label]
    if sign == 1:
        low, high = order.larger(0, -shift), order.smaller(count, length - shift)
    else:
        low, high = order.larger(0, shift - length + 1), order.smaller(count, shift + 1)
    left = order.larger(0, high - low)
    if left == 0:
        return None
    new = space.fresh(left)
    space.substitute(label, Affine(shift + sign * low, ((new, sign),)))
    return replaced(closed(space), axis, Affine(low, ((new, 1),)))


def _cut_fixed(order: Order, term: Term, axis: int, at: Size, step: int, count: Size) -> Term | None:
    """A fixed position `at` elements behind the start of a window."""
    if isinstance(at, int) and step not in (1, -1):
        if at % step:
            return None
        at, step = at // step, 1
    if step not in (1, -1):
        raise NoStructureError
    at = at * step
    if order.nonnegative(at) and order.nonnegative(count - 1 - at):
        return replaced(term, axis, Affine(at))
    if order.nonnegative(-1 - at) or order.nonnegative(at - count):
        return None
    raise NoStructureError


def embedded(builder: Builder, term: Term, axis: int, start: Size, step: int, size: Size) -> Term:
    """One axis of `size` written at start, start + step, ... of a longer one."""
    place = term.places[axis]
    if start == 0 and step == 1:
        return replaced(term, axis, place if isinstance(place, Affine) else counted(builder, place, size))
    if isinstance(place, Affine):
        return replaced(term, axis, place.moved(start, step))
    inner = counted(builder, place, size)
    fresh = 1 + max(term.sizes, default=-1)
    return replaced(term, axis, put(builder, Affine(start, ((fresh, step),)), fresh, inner, dict(term.sizes)))


def counted(builder: Builder, place: Indirect, size: Size) -> Indirect:
    """The same positions on an axis of `size`, none of them negative: the axis may then become longer."""
    index = builder.handle(place.index)
    length = builder.handle(builder.make(builder.opset["size"], (), (("dtype", "i64"), ("size", size))))
    wrapped = index.op("lt", 0).op("select", index + expand(length, index.shape), index)
    return Indirect(wrapped.value, place.labels)


# -------------------------------------------------------------------- reshape
def reshaped(builder: Builder, order: Order, term: Term, old: Shape, new: Shape) -> Term:
    """The last axes, of sizes `old`, become axes of sizes `new`, row-major."""
    lead = len(term.places) - len(old)
    if any(s == 0 for s in (*old, *new)):
        raise NoStructureError
    space = opened(builder, order, term)
    found: list[Place] = [Affine(0) for _ in new]  # axes of size 1 have position 0
    for olds, news in _groups(old, new):
        before, after = tuple([old[i] for i in olds]), tuple([new[j] for j in news])
        own = [space.placed[lead + i] for i in olds]
        place = own[0] if len(own) == 1 else merged(own, before)
        if len(news) == 1:
            found[news[0]] = place
            continue
        if not isinstance(place, Affine):
            raise NoStructureError
        label = single_label(place, product(after), space.sizes)
        if label is not None:
            # The places found so far follow the split of their label.
            space.placed = (*space.placed, *found)
            labels = space.split(label, after)
            found = list(space.placed[len(term.places) :])
            space.placed = space.placed[: len(term.places)]
            parts: list[Place] = [whole(x) for x in labels]
        else:
            parts = _digits(order, place, after, space.sizes)
        for j, part in zip(news, parts, strict=True):
            found[j] = part
    return Term(tuple(space.factors), dict(space.sizes), (*space.placed[:lead], *found))


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Runs of axes with equal numbers of elements, as short as can be seen; axes of size 1 are left out."""
    olds = [i for i, s in enumerate(old) if s != 1]
    news = [j for j, s in enumerate(new) if s != 1]
    reached = {product([old[i] for i in olds[:count]]): count for count in range(len(olds) + 1)}
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    for count in range(1, len(news) + 1):
        at = reached.get(product([new[x] for x in news[:count]]), 0)
        if at > i:
            found.append((olds[i:at], news[j:count]))
            i, j = at, count
    return found


def merged(places: Sequence[Place], sizes: Shape) -> Affine:
    """Several axes as one."""
    start: Size = 0
    steps: dict[int, Size] = {}
    for place, size in zip(places, sizes, strict=True):
        if not isinstance(place, Affine):
            raise NoStructureError
        start = start * size + place.start
        steps = {x: s * size for x, s in steps.items()}
        for x, s in place.steps:
            steps[x] = steps.get(x, 0) + s
    return Affine(start, tuple(sorted(steps.items(), key=lambda item: item[0])))


def flattened(builder: Builder, term: Term, axes: Sequence[int], shape: Shape) -> Place:
    """The position on axes of sizes `shape`, counted row-major."""
    places = [term.places[a] for a in axes]
    if all(isinstance(p, Affine) for p in places):
        return merged(places, shape)
    labels = tuple(dict.fromkeys(x for p in places for x in p.labels))
    total: Handle | None = None
    for place, size in zip(places, shape, strict=True):
        inner = place if isinstance(place, Affine) else counted(builder, place, size)
        index = builder.handle(index_of(builder, inner, labels, term.sizes))
        if total is not None:
            length = builder.handle(builder.make(builder.opset["size"], (), (("dtype", "i64"), ("size", size))))
            index = index + total * expand(length, total.shape)
        total = index
    assert total is not None
    return Indirect(total.value, labels)


def _digits(order: Order, place: Affine, sizes: Shape, lengths: Mapping[int, Size]) -> list[Place]:
    """One axis as several: every part of the position goes where its step belongs."""
    found: list[Place] = []
    rest = place
    for number in range(1, len(sizes)):
        stride = product(sizes[number:])
        start, remainder = _divided(rest.start, stride)
        own: list[tuple[int, Size]] = []
        left: list[tuple[int, Size]] = []
        for label, step in rest.steps:
            quotient, over = _divided(step, stride)
            if over == 0:
                own.append((label, quotient))
            else:
                left.append((label, step))
        rest = Affine(remainder, tuple(left))
        steady = order.nonnegative(rest.start) and all(order.nonnegative(s) for _, s in rest.steps)
        if not steady or not order.nonnegative(stride - 1 - highest(rest, lengths)):
            raise NoStructureError
        found.append(Affine(start, tuple(own)))
    return [*found, rest]


def _divided(size: Size, stride: Size) -> tuple[Size, Size]:
    """Quotient and rest, by the leading coefficients where sizes have names."""
    if isinstance(size, int) and isinstance(stride, int):
        return divmod(size, stride)
    if isinstance(stride, int):
        quotient = size // stride
        return quotient, size - quotient * stride
    if isinstance(size, int):
        return 0, size
    monomial, coefficient = stride.terms[0]
    ratio = dict(size.terms).get(monomial, Fraction(0)) / coefficient
    quotient = int(ratio) if ratio.denominator == 1 else 0
    return quotient, size - quotient * stride
