"""Whether distributing products over sums can pay, told from the factors alone before any product is made.

It pays where terms come out alike and merge or cancel, where a factor meets one that it simplifies with, or where a
term is an identity or a broadcast that vanishes into what it is multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.defined import is_mask
from symdiff.simplify.views import Context, Factor, Number, Product

Flat = Callable[[Context, Value], Product]
# With more terms than this it is too long to write, and to look at.
MOST_TERMS = 32
# What may sum to a number: a softmax to 1, a centred value to 0.
_SUMMING = frozenset({"softmax", "add"})
# Functions that merge with others of the same argument, or with the argument.
_RELATED = frozenset({
    "relu", "abs", "sign", "cast", "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "sigmoid", "minimum", "maximum",
})  # fmt: skip


def fewest_terms(
    ctx: Context, views: Sequence[tuple[Number, Product, float]], chosen: frozenset[Value], flat: Flat
) -> int | None:
    """Of all products distributed over the chosen sums, how many terms might be left; None when it cannot pay.

    0 stands for any number: some factor meets one that it may simplify with.
    """
    seen: set[Any] = set()
    count = 0
    pays = False
    for _, view, _ in views:
        pending: list[tuple[Factor, ...]] = [view.factors]
        while pending:
            factors = pending.pop()
            at = next((i for i, f in enumerate(factors) if f.base in chosen and f.power in (1, 2)), None)
            if at is None:
                count += 1
                seen.add(_signature(factors))
                if count > MOST_TERMS:
                    return None
                continue
            f = factors[at]
            rest = (*factors[:at], *factors[at + 1 :])
            if f.power == 2:
                rest = (*rest, f._replace(power=1))
            for _, term in ctx.terms(f.base):
                inner = flat(ctx, term)
                if not inner.distinct or _dissolves(inner, f, rest, view):
                    return 0
                placed = _placed(ctx, inner, f)
                special = [b for b in rest if _special(b.base)]
                for a in placed:
                    if any(_meet(a, b) for b in (rest if _special(a.base) else special)):
                        return 0
                pays = pays or any(_same(ctx, a, b) for a in placed for b in rest)
                pending.append((*placed, *rest))
    return len(seen) if pays or len(seen) < count else None


def _dissolves(term: Product, factor: Factor, rest: Sequence[Factor], whole: Product) -> bool:
    """Whether a broadcast axis of a term is summed, alone or over a factor that may sum to a number."""
    used = {x for f in term.factors for x in f.labels}
    for x, label in zip(term.output, factor.labels, strict=True):
        if label in whole.output:
            continue
        beside = [f for f in rest if label in f.labels]
        if not beside or (x not in used and len(beside) == 1 and beside[0].base.op.name in _SUMMING):
            return True
    return False


def _placed(ctx: Context, view: Product, factor: Factor) -> list[Factor]:
    """The factors of a term where its sum stands."""
    places = dict(zip(view.output, factor.labels, strict=True))
    for x in view.sizes:
        if x not in places:
            places[x] = ctx.fresh()
    return [Factor(b, p, tuple([places[x] for x in own])) for b, p, own in view.factors]


def _signature(factors: Sequence[Factor]) -> frozenset[tuple[Value, Number]]:
    """Bases with their powers added, wherever they stand."""
    powers: dict[Value, Number] = {}
    for f in factors:
        powers[f.base] = powers.get(f.base, 0) + f.power
    return frozenset([(b, p) for b, p in powers.items() if p])


def _same(ctx: Context, a: Factor, b: Factor) -> bool:
    """Whether powers of two factors add."""
    if a.base is not b.base:
        return False
    return a.labels == b.labels or (a.labels == b.labels[::-1] and facts.symmetric(ctx, a.base))


def _special(value: Value) -> bool:
    """What may turn into something else beside another factor."""
    return (
        value.op.name in _RELATED or value.op.name == "inverse" or (value.is_param and "orthogonal" in value.type.facts)
    )


def _meet(a: Factor, b: Factor) -> bool:
    """Whether two factors beside each other, one of them special, may become another."""
    one, two = a.base, b.base
    if one is two:
        return one.is_param
    if a.labels and b.labels and set(a.labels).isdisjoint(b.labels):
        return False
    if one.op.name == two.op.name == "exp" or any(_inverts(p, q) for p, q in ((one, two), (two, one))):
        return True
    return not _about(one).isdisjoint(_about(two)) and (one.op.name in _RELATED or two.op.name in _RELATED)


def _inverts(one: Value, two: Value) -> bool:
    """inverse(A) beside A, exp(z) over a sum of it."""
    return two in one.args and (one.op.name == "inverse" or (two.op.name == "exp" and not one.op.elementwise))


def _about(value: Value) -> frozenset[Value]:
    """The value and what it is a function of, through indicators."""
    operands = value.args[0].args if is_mask(value) else value.args if value.op.name in _RELATED else ()
    return frozenset((value, *operands))
