"""The normal form of sums: like terms collected with exact coefficients, in one order.

`total` takes (coefficient, value) pairs of one shape and gives the canonical value: nested sums opened, equal terms
added, axes that no term depends on broadcast from outside, the whole transposed when that reads with fewer transposes.
A sum is a left chain of `add`; its terms are remembered by the context.

Identities that look at several terms at once are passes of the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.dims import Shape
from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify.exact import first_sign
from symdiff.simplify.products import flipped, product, rearranged, scaled
from symdiff.simplify.views import Context, Factor, Labels, Number, Product, normal

# A sum with more terms is one term of the next: chains of sums stay linear to build.
MOST_TERMS = 24

Collected: TypeAlias = "dict[Value, Number]"


def total(ctx: Context, terms: Iterable[tuple[Number, Value]], shape: Shape, dtype: str) -> Value:
    """The canonical sum of coefficient * value over `terms`, all of one shape."""
    collected = _collect(ctx, terms)
    while len(collected) > 1 and any(step(ctx, collected) for step in ctx.passes.sums):
        collected = _collect(ctx, [(c, t) for t, c in collected.items()])
    if not collected:
        return ctx.const(0, shape, dtype)
    if len(collected) == 1:
        ((term, number),) = collected.items()
        return scaled(ctx, number, term)
    views = [ctx.view(t) for t in collected]
    free = [k for k in range(len(shape)) if all(_free(v, k) for v in views)]
    if free:
        return _narrowed(ctx, collected, free, shape, dtype)
    tied = _tied(views)
    if tied is not None:
        return _on_diagonal(ctx, collected, tied, shape, dtype)
    if len(shape) == 2 and _backward(ctx, collected):
        turned = [(c, flipped(ctx, t)) for t, c in collected.items()]
        return flipped(ctx, _chain(ctx, turned))
    return _chain(ctx, [(c, t) for t, c in collected.items()])


def _collect(ctx: Context, terms: Iterable[tuple[Number, Value]]) -> Collected:
    """Equal terms together, nested sums opened, zeros gone."""
    collected: Collected = {}
    pending = list(terms)[::-1]
    while pending:
        number, value = pending.pop()
        if number == 0:
            continue
        own, term = ctx.split(value)
        number = number * own
        inner = opened(ctx, term)
        if inner is not None and len(inner) <= MOST_TERMS:
            pending.extend([(number * c, t) for c, t in reversed(inner)])
            continue
        if ctx.view(term).coefficient == 0:
            continue
        collected[term] = normal(collected.get(term, 0) + number)
    return {t: c for t, c in collected.items() if c != 0}


def opened(ctx: Context, term: Value) -> Sequence[tuple[Number, Value]] | None:
    """The terms of a sum, or of a sum whose axes are moved, broadcast or put on a diagonal."""
    if ctx.is_sum(term):
        return ctx.terms(term)
    view = ctx.view(term)
    if len(view.factors) != 1 or not ctx.is_sum(view.factors[0].base):
        return None
    base, power, labels = view.factors[0]
    if power != 1 or not view.pointwise or len(set(labels)) < len(labels):
        return None
    return [
        (c, product(ctx, 1, [Factor(t, 1, labels)], view.output, view.sizes, t.type.dtype)) for c, t in ctx.terms(base)
    ]


def _free(view: Product, axis: int) -> bool:
    """Nothing depends on this axis of the output."""
    label = view.output[axis]
    return view.output.count(label) == 1 and all(label not in f.labels for f in view.factors)


def free_axes(ctx: Context, value: Value) -> set[int]:
    """Axes along which the value is constant."""
    view = ctx.view(value)
    return {k for k in range(value.type.rank) if _free(view, k)}


def without_axes(ctx: Context, value: Value, axes: Sequence[int]) -> Value:
    """The value without axes along which it is constant."""
    if value.op.name == "const":
        shape = tuple([s for k, s in enumerate(value.shape) if k not in axes])
        return ctx.const(value.attr("value"), shape, value.type.dtype)
    view = ctx.view(value)
    gone = {view.output[k] for k in axes}
    output = tuple([x for x in view.output if x not in gone])
    sizes = {x: s for x, s in view.sizes.items() if x not in gone}
    return product(ctx, view.coefficient, view.factors, output, sizes, value.type.dtype)


def spread_axes(ctx: Context, value: Value, axes: Sequence[int], shape: Shape) -> Value:
    """The value broadcast over the axes that `without_axes` removed; `shape` is that of the result."""
    rank = value.type.rank
    numbers = iter(range(rank))
    order = [rank + i if k in axes else next(numbers) for i, k in enumerate(range(len(shape)))]
    sizes = {label: shape[k] for k, label in enumerate(order) if label >= rank}
    return rearranged(ctx, value, order, sizes)


def _narrowed(ctx: Context, collected: Collected, free: Sequence[int], shape: Shape, dtype: str) -> Value:
    inner = [(c, without_axes(ctx, t, free)) for t, c in collected.items()]
    small = total(ctx, inner, tuple([s for k, s in enumerate(shape) if k not in free]), dtype)
    return spread_axes(ctx, small, free, shape)


def _tied(views: Sequence[Product]) -> tuple[int, int] | None:
    """Two axes that a Kronecker delta ties in every term."""
    first = views[0].output
    for a in range(len(first)):
        for b in range(a + 1, len(first)):
            if all(v.output[a] == v.output[b] for v in views):
                return a, b
    return None


def _on_diagonal(ctx: Context, collected: Collected, tied: tuple[int, int], shape: Shape, dtype: str) -> Value:
    """diag(x) + diag(y) = diag(x + y)."""
    kept, gone = tied
    inner: list[tuple[Number, Value]] = []
    for term, number in collected.items():
        view = ctx.view(term)
        output = (*view.output[:gone], *view.output[gone + 1 :])
        inner.append((number, product(ctx, view.coefficient, view.factors, output, view.sizes, dtype)))
    small = total(ctx, inner, (*shape[:gone], *shape[gone + 1 :]), dtype)
    labels = labels_of(small)
    output = (*labels[:gone], labels[kept], *labels[gone:])
    return product(ctx, 1, [Factor(small, 1, labels)], output, dict(enumerate(small.shape)), dtype)


def forwardness(view: Product) -> int:
    """How much more a matrix product reads forward than transposed."""
    if len(view.output) != 2:
        return 0
    first, last = view.output
    score = 0
    for f in view.factors:
        if len(f.labels) == 2:
            score += (f.labels[0] == first) + (f.labels[1] == last) - (f.labels[0] == last) - (f.labels[1] == first)
    return score


def _backward(ctx: Context, collected: Collected) -> bool:
    """Whether the transpose of a sum is the one to keep."""
    score = sum(forwardness(ctx.view(t)) for t in collected)
    if score:
        return score < 0
    own, other = (
        _up_to_sign([(ctx.key(t), Fraction(c)) for t, c in terms])
        for terms in (collected.items(), [(flipped(ctx, t), c) for t, c in collected.items()])
    )
    return other < own


def _up_to_sign(terms: list[tuple[Any, Fraction]]) -> list[tuple[Any, Fraction]]:
    """In order, the first one positive: a sum and its negative are turned alike."""
    terms.sort()
    return terms if terms[0][1] > 0 else [(key, -c) for key, c in terms]


def _chain(ctx: Context, terms: Sequence[tuple[Number, Value]]) -> Value:
    """Positive terms first, numbers last, then by structure."""
    ordered = sorted(terms, key=lambda t: (t[0] < 0, t[1].op.name == "const", ctx.key(t[1])))
    value = scaled(ctx, *ordered[0])
    for number, term in ordered[1:]:
        value = ctx.plain("add", (value, scaled(ctx, number, term)))
    ctx.put_terms(value, tuple(ordered))
    first_sign(ctx, ordered)
    return value


def plus(ctx: Context, terms: Sequence[tuple[Number, Value]]) -> Value:
    """`total` of terms, at least one, whose type is that of the first."""
    kind = terms[0][1].type
    return total(ctx, terms, kind.shape, kind.dtype)


# -------------------------------------------------------------------- handlers
def make_add(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return plus(ctx, [(1, args[0]), (1, args[1])])


def make_sub(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return plus(ctx, [(1, args[0]), (-1, args[1])])


def make_scale(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """number * value, a sum term by term."""
    number = attrs[0][1]
    if ctx.is_sum(args[0]) and number != 1:
        return plus(ctx, [(normal(number * c), t) for c, t in ctx.terms(args[0])])
    return scaled(ctx, number, args[0])


def labels_of(value: Value) -> Labels:
    return tuple(range(value.type.rank))


def make_total(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """The sum of the operands, each with its number."""
    return plus(ctx, list(zip(attrs[0][1], args, strict=True)))


def make_distribute(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """A sum with its axes moved, term by term."""
    named: dict[str, Any] = dict(attrs)
    output, sizes = named["output"], dict(named["sizes"])
    terms = ctx.terms(args[0])
    dtype = args[0].type.dtype
    return plus(ctx, [(c, product(ctx, 1, [Factor(t, 1, named["labels"])], output, sizes, dtype)) for c, t in terms])
