"""Factored or expanded: for every sum and every product with a sum in it, the shorter of its forms.

Takes canonical values, gives equal canonical values. A common factor is found by what it is and where its axes go:
`A.T @ W @ r + A.T @ W.T @ r` shares r, then A, and becomes `A.T @ ((W + W.T) @ r)`. Products are distributed over a sum
where terms then cancel or merge. Candidates are ranked by the estimated length of what is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symdiff.ir.graph import Value
from symdiff.simplify.common import Place, common_factors, unguarded
from symdiff.simplify.defined import harmless, is_indicator, known
from symdiff.simplify.pointwise import COMPARISONS
from symdiff.simplify.products import product
from symdiff.simplify.prospects import fewest_terms
from symdiff.simplify.rational import by_roots, denominators, over_one_denominator
from symdiff.simplify.size import size, sum_size
from symdiff.simplify.sums import labels_of, plus
from symdiff.simplify.views import Context, Factor, Labels, Number, Product, children, normal, number_in, walk

# Sums with more terms are neither factored nor made by expansion.
MOST_TERMS = 16
# Terms of a sum in a product that are looked for among the other terms.
MOST_APART = 6
# Common factors that are followed in a step; steps of factoring within factoring.
MOST_DEEP = 2
MOST_DEPTH = 6
# An expansion is followed only when merging makes it this much shorter than its terms one by one.
LEAST_MERGED = 2
# Terms of a product change their company for no less: matters of taste do not decide it.
LEAST_REGROUPED = 0.5
# Lengths closer than this are one length.
TIE = 0.03
# Products made in search of shorter forms, per result and for so many results; what is found by then stands.
MOST_WORK = 400
MOST_RESULTS = 6


def choose(ctx: Context, results: Sequence[Value]) -> tuple[list[Value], bool]:
    """Shorter equal values, and whether all was tried that is worth it."""
    most = MOST_WORK * min(len(results), MOST_RESULTS)
    ctx.memo("search").update({"end": ctx.work + most, "spare": most})
    for step in (_at_once, shorter):
        made: dict[Value, Value] = {}
        for value in walk(ctx, results):
            made[value] = step(ctx, _rebuilt(ctx, value, made))
        results = [made[r] for r in results]
    return list(results), ctx.work <= ctx.memo("search")["end"]


def _rebuilt(ctx: Context, value: Value, made: dict[Value, Value]) -> Value:
    """The value from the chosen forms of its parts."""
    if all(made[c] is c for c in children(ctx, value)):
        return value
    if ctx.is_sum(value):
        return plus(ctx, [(c, made[t]) for c, t in ctx.terms(value)])
    view = ctx.view(value)
    if len(view.factors) == 1 and view.factors[0].base is value:
        return ctx.make(value.op.name, [made[a] for a in value.args], value.attrs)
    factors = [f._replace(base=made[f.base]) for f in view.factors]
    return product(ctx, view.coefficient, factors, view.output, view.sizes, value.type.dtype)


def _at_once(ctx: Context, value: Value) -> Value:
    """Distributed while terms cancel so that no more are left than there were."""
    view = ctx.view(value)
    component = ctx.memo("component")
    parts = {f.base: _at_once(ctx, f.base) for f in view.factors if f.base in component and f.base is not value}
    if any(new is not old for old, new in parts.items()):
        factors = [f._replace(base=parts.get(f.base, f.base)) for f in view.factors]
        value = product(ctx, view.coefficient, factors, view.output, view.sizes, value.type.dtype)
    while value.type.floating and ctx.work < ctx.memo("search")["end"]:
        count = len(ctx.terms(value))
        merged = [e for e in _expansions(ctx, value, count) if len(ctx.terms(e)) <= count]
        best = min(merged, key=lambda e: size(ctx, e), default=value)
        if size(ctx, best) >= size(ctx, value):
            break
        value = best
    return value


def shorter(ctx: Context, value: Value, depth: int = MOST_DEPTH) -> Value:
    """The shortest form found of a sum or product whose parts are chosen."""
    memo = ctx.memo("shorter")
    found = memo.get(value)
    if found is None:
        if ctx.work > ctx.memo("search")["end"]:
            return value
        memo[value] = value  # a form met again on the way to itself is no candidate
        found = memo[value] = _shorter(ctx, value, depth) if value.type.floating else _compared(ctx, value)
        memo.setdefault(found, found)
    return found


def _shorter(ctx: Context, value: Value, depth: int) -> Value:
    best = value
    if not ctx.is_sum(value) and depth > 0:
        view = ctx.view(value)
        inner = {f.base: shorter(ctx, f.base, depth - 1) for f in view.factors if ctx.is_sum(f.base)}
        if any(new is not old for old, new in inner.items()):
            factors = [f._replace(base=inner.get(f.base, f.base)) for f in view.factors]
            made = product(ctx, view.coefficient, factors, view.output, view.sizes, value.type.dtype)
            return _better(ctx, best, [shorter(ctx, made, depth - 1)])
    at_once = _at_once(ctx, value) if depth > 0 else value
    if at_once is not value:
        return shorter(ctx, at_once, depth - 1)
    if ctx.is_sum(value):
        if len(ctx.terms(value)) > MOST_TERMS:
            return value
        best = _better(ctx, best, [factored(ctx, value, depth), by_roots(ctx, value) or value])
        best = _better(ctx, best, [_over_one(ctx, value, depth), _fractions_apart(ctx, value, depth)])
        best = _regrouped(ctx, best, depth) if ctx.is_sum(best) else best
    best = _better(ctx, best, [_cleared(ctx, value, depth)])
    return _better(ctx, best, [shorter(ctx, e, depth - 1) for e in (_expansions(ctx, value) if depth > 0 else ())])


def _compared(ctx: Context, value: Value) -> Value:
    """A comparison with 0 where that is shorter: a r > (a - 1) r is r > 0."""
    if value.op.name not in COMPARISONS or ctx.settings.keep_kinks:
        return value
    a, b = value.args
    if not a.type.floating or number_in(b) is not None or not (known(ctx, a) and known(ctx, b)):
        return value
    difference = shorter(ctx, plus(ctx, [(1, a), (-1, b)]))
    if size(ctx, difference) + 1 >= size(ctx, a) + size(ctx, b):
        return value
    return ctx.make(value.op.name, (difference, ctx.const(0, a.shape, a.type.dtype)))


def _better(ctx: Context, best: Value, candidates: Iterable[Value]) -> Value:
    for candidate in candidates:
        gain = size(ctx, best) - size(ctx, candidate)
        if gain > 0 or (gain > -TIE and _merges_better(ctx, candidate, best)):
            best = candidate
    return best


def _merges_better(ctx: Context, candidate: Value, best: Value) -> bool:
    """Of two forms of one length a sum of fewer terms, or a product of no larger arrays: its factors may merge with
    what stands beside it."""
    if not ctx.is_sum(best) or ctx.is_sum(candidate):
        return len(ctx.terms(candidate)) < len(ctx.terms(best))
    return all(f.base.type.rank <= best.type.rank for f in ctx.view(candidate).factors)


# -------------------------------------------------------------------- flat products
def flat(ctx: Context, value: Value) -> Product:
    """The view of a term with its inner contractions opened; scalar ones stay whole."""
    view = ctx.view(value)
    component = ctx.memo("component")
    whole = value.type.rank > 0
    if not any(f.base in component and (f.labels or not whole) and f.power == 1 for f in view.factors):
        return view
    factors: list[Factor] = []
    sizes = dict(view.sizes)
    for f in view.factors:
        if not (f.base in component and (f.labels or not whole) and f.power == 1):
            factors.append(f)
            continue
        inner = ctx.view(f.base)
        places = dict(zip(inner.output, f.labels, strict=True))
        for x, s in inner.sizes.items():
            if x not in places:
                places[x] = ctx.fresh()
                sizes[places[x]] = s
        factors += [Factor(b, p, tuple([places[x] for x in own])) for b, p, own in inner.factors]
    return Product(view.coefficient, tuple(factors), view.output, sizes)


# -------------------------------------------------------------------- expanding
def _expansions(ctx: Context, value: Value, most: int = MOST_TERMS * 2) -> list[Value]:
    """The value with products distributed over sums that are factors, where something merges or cancels by it.

    Only such as may come out with at most so many terms.
    """
    memo = ctx.memo("expansions")
    known = memo.get(value)
    if known is None:
        known = memo[value] = _Expansions(ctx, value)
    found: list[Value] = []
    for least, chosen in known.prospects:
        if least <= most:
            expanded = known.expanded(ctx, chosen)
            if expanded is not None:
                found.append(expanded)
    return list(dict.fromkeys(found))


class _Expansions:
    """The sums of a value over which it may pay to distribute, and what came of it."""

    def __init__(self, ctx: Context, value: Value) -> None:
        self.value = value
        self.views = [(c, flat(ctx, t), size(ctx, t)) for c, t in ctx.terms(value)]
        self.made: dict[frozenset[Value], Value | None] = {}
        bases = list(
            {f.base: None for _, v, _ in self.views for f in v.factors if ctx.is_sum(f.base) and f.power in (1, 2)}
        )
        several = [frozenset(bases)] if len(bases) > 1 else []
        choices = [*[frozenset({b}) for b in bases], *several] if len(bases) <= 6 else []
        found = [(fewest_terms(ctx, self.views, chosen, flat), chosen) for chosen in choices]
        self.prospects = [(least, chosen) for least, chosen in found if least is not None]

    def expanded(self, ctx: Context, chosen: frozenset[Value]) -> Value | None:
        if chosen not in self.made:
            self.made[chosen] = None  # a value met again on the way to its own expansion is none
            self.made[chosen] = self._expanded(ctx, chosen)
        return self.made[chosen]

    def _expanded(self, ctx: Context, chosen: frozenset[Value]) -> Value | None:
        found = _distributed(ctx, self.views, chosen, self.value.type.dtype)
        if found is None or found[0] is self.value:
            return None
        total, expected = found
        shortened = size(ctx, total) < size(ctx, self.value)
        return total if shortened or size(ctx, total) + LEAST_MERGED <= expected else None


def _distributed(
    ctx: Context, views: Sequence[tuple[Number, Product, float]], bases: frozenset[Value], dtype: str
) -> tuple[Value, float] | None:
    """All products distributed over the given sums, and the length of its terms one by one; None for too many."""
    terms: list[tuple[Number, Value]] = []
    expected: float = -1
    for number, view, length in views:
        pending = [(normal(number * view.coefficient), view.factors, length)]
        while pending:
            c, factors, own_length = pending.pop()
            at = next((i for i, f in enumerate(factors) if f.base in bases and f.power in (1, 2)), None)
            if at is None:
                terms.append((c, _at_once(ctx, product(ctx, 1, factors, view.output, view.sizes, dtype))))
                expected += own_length + 1 + (2 if abs(c) != 1 else 0)
                if len(terms) > MOST_TERMS * 2:
                    return None
                continue
            f = factors[at]
            rest = (*factors[:at], *factors[at + 1 :])
            if f.power == 2:
                rest = (*rest, f._replace(power=1))
            left = own_length - size(ctx, f.base)
            for own, term in reversed(ctx.terms(f.base)):
                added = -1 if number_in(term) == 1 else size(ctx, term)
                pending.append((normal(c * own), (*rest, Factor(term, 1, f.labels)), left + added))
    if not terms:
        return None
    return plus(ctx, terms), expected


def _regrouped(ctx: Context, value: Value, depth: int) -> Value:
    """A product over a sum taken apart where a term of that sum shares more with another: a u + (v - u) b is
    u (a - b) + v b. It has work of its own to spend, so that what else is sought is found as without it."""
    search = ctx.memo("search")
    start, end, spare = ctx.work, search["end"], search["spare"]
    if depth <= 0 or spare <= 0:
        return value
    found = _in_other_groups(ctx, value, depth)
    used = ctx.work - start
    search["end"], search["spare"] = end + used, spare - used
    return found


def _in_other_groups(ctx: Context, value: Value, depth: int) -> Value:
    terms = ctx.terms(value)
    best = value
    for i, (number, term) in enumerate(terms):
        view = flat(ctx, term)
        beside = {f.base for j, (_, t) in enumerate(terms) if j != i for f in flat(ctx, t).factors}
        beside -= {f.base for f in view.factors}
        for f in view.factors:
            if f.power != 1 or not ctx.is_sum(f.base) or len(ctx.terms(f.base)) > MOST_APART:
                continue
            if beside.isdisjoint([g.base for _, t in ctx.terms(f.base) for g in flat(ctx, t).factors]):
                continue
            apart = _distributed(ctx, [(number, view, size(ctx, term))], frozenset({f.base}), value.type.dtype)
            if apart is not None:
                rest = [t for j, t in enumerate(terms) if j != i]
                found = factored(ctx, plus(ctx, [*rest, (1, apart[0])]), depth - 1)
                best = found if size(ctx, found) < size(ctx, best) - LEAST_REGROUPED else best
    return best


def _over_one(ctx: Context, value: Value, depth: int) -> Value:
    """Fractions over one denominator, where terms of the numerator then cancel: (1 - y)/(1 - p) - y/p."""
    split = over_one_denominator(ctx, value) if depth > 0 else None
    if split is None:
        return value
    above = _at_once(ctx, split[0])
    if size(ctx, above) >= size(ctx, value):
        return value
    labels = labels_of(value)
    factors = [Factor(shorter(ctx, above, depth - 1), 1, labels), *split[1]]
    return product(ctx, 1, factors, labels, dict(enumerate(value.shape)), value.type.dtype)


def _fractions_apart(ctx: Context, value: Value, depth: int) -> Value:
    """The fractions of a sum at their shortest without the other terms: 1/(1 + x) + 1/(1 - x) - a."""
    fractions: list[tuple[Number, Value]] = []
    others: list[tuple[Number, Value]] = []
    for number, term in ctx.terms(value):
        view = ctx.view(term)
        below = any(f.power < 0 and set(f.labels) <= set(view.output) for f in view.factors)
        (fractions if below else others).append((number, term))
    if len(fractions) < 2 or not others or depth <= 0:
        return value
    whole = plus(ctx, fractions)
    made = shorter(ctx, whole, depth - 1)
    return value if made is whole else plus(ctx, [(1, made), *others])


def _cleared(ctx: Context, value: Value, depth: int) -> Value:
    """Denominators inside a sum that is a factor moved outside: s (1 + q/s) = s + q, where that is shorter."""
    if ctx.is_sum(value) or depth <= 0:
        return value
    view = flat(ctx, value)
    dtype = value.type.dtype
    best = value
    for f in view.factors:
        if not ctx.is_sum(f.base) or not isinstance(f.power, int) or len(set(f.labels)) < len(f.labels):
            continue
        for below, labels in denominators(ctx, f):
            sizes = {x: view.sizes[x] for x in f.labels}
            above = Factor(below.base, -below.power, labels)
            terms = ctx.terms(f.base)
            inner = plus(
                ctx,
                [(c, product(ctx, 1, [Factor(t, 1, f.labels), above], f.labels, sizes, dtype)) for c, t in terms],
            )
            guards = [g for _, t in terms for g in ctx.view(t).factors if is_indicator(g)]
            others = [h for h in view.factors if h is not f]
            # A divisor that counts stays with its mean, which may stand elsewhere too.
            cancels = below.base.op.name != "size" and any(h.base is below.base and h.labels == labels for h in others)
            if (size(ctx, inner) >= size(ctx, f.base) and not cancels) or not all(
                harmless(ctx, below, g.base.args[0], g.labels) for g in guards
            ):
                continue
            inner = shorter(ctx, inner, depth - 1)
            moved = Factor(below.base, normal(below.power * f.power), labels)
            made = product(
                ctx,
                view.coefficient,
                [*others, moved, Factor(inner, f.power, f.labels)],
                view.output,
                view.sizes,
                dtype,
            )
            best = _better(ctx, best, [made])
    return best if best is value else shorter(ctx, best, depth - 1)


# -------------------------------------------------------------------- factoring
def factored(ctx: Context, value: Value, depth: int) -> Value:
    """Common factors taken out, the best gain first, as long as the sum gets shorter."""
    current = value
    while ctx.is_sum(current) and depth > 0:
        terms = ctx.terms(current)
        views = [flat(ctx, t) for _, t in terms]
        found: list[tuple[float, int, list[Place]]] = []
        for places in common_factors(ctx, views):
            if ctx.work > ctx.memo("search")["end"]:
                break
            made = _taken_out(ctx, terms, views, places, current, 0)
            if made is not None:
                found.append((size(ctx, made), len(found), places))
        found.sort(key=lambda f: f[:2])
        best = current
        for _, _, places in found[:MOST_DEEP]:
            made = _taken_out(ctx, terms, views, places, current, depth)
            if made is not None:
                best = _better(ctx, best, [made])
        if best is current:
            break
        current = best
    return current


def _taken_out(
    ctx: Context, terms: Sequence[tuple[Number, Value]], views: Sequence[Product], places: Sequence[Place],
    whole: Value, depth: int,
) -> Value | None:  # fmt: skip
    """The sum with the factor at `places` in front of the sum of what is left of their terms."""
    first = places[0].factor
    powers = [p.factor.power for p in places]
    common = min(powers, key=abs)
    if len({(x < 0) for x in powers}) > 1:
        return None
    dtype = whole.type.dtype
    rank = whole.type.rank
    axes = places[0].axes
    if not unguarded(ctx, places, views):
        return None
    rests: list[tuple[Number, list[Factor], Product, Labels]] = []
    needed: set[int] = set()
    for p in places:
        view = views[p.term]
        left = [f for number, f in enumerate(view.factors) if number != p.number]
        if p.factor.power != common:
            left.insert(p.number, p.factor._replace(power=normal(p.factor.power - common)))
        used = {x for f in left for x in f.labels}
        summed = {x for x, a in zip(p.factor.labels, axes, strict=True) if a == "s"}
        repeated = {x for x in view.output if view.output.count(x) > 1}
        for k, x in enumerate(view.output):
            if x in used or x in repeated or x in summed:
                needed.add(k)
        rests.append((normal(terms[p.term][0] * view.coefficient), left, view, p.factor.labels))
    slots = sorted(needed)
    inner_axes = [a for a, x in enumerate(axes) if x == "s"]
    if len(slots) + len(inner_axes) > max(2, rank):
        return None
    inner_terms: list[tuple[Number, Value]] = []
    for c, left, view, labels in rests:
        output = tuple([view.output[k] for k in slots] + [labels[a] for a in inner_axes])
        alive = {x for f in left for x in f.labels} | set(output)
        # A label that only the factor had is summed with it, outside.
        sizes = {x: s for x, s in view.sizes.items() if x in alive}
        inner_terms.append((c, product(ctx, 1, left, output, sizes, dtype)))
    inner = plus(ctx, inner_terms)
    if depth > 0:
        inner = shorter(ctx, inner, depth - 1)
    outer = tuple(range(rank))
    sizes = dict(enumerate(whole.shape))
    fresh = {a: rank + i for i, a in enumerate(inner_axes)}
    sizes.update({fresh[a]: first.base.shape[a] for a in inner_axes})
    own = tuple([fresh[a] if x == "s" else x[0] for a, x in enumerate(axes)])
    place = (*slots, *fresh.values())
    joined = product(ctx, 1, [Factor(first.base, common, own), Factor(inner, 1, place)], outer, sizes, dtype)
    gone = {p.term for p in places}
    rest = [t for i, t in enumerate(terms) if i not in gone]
    return plus(ctx, [*rest, (1, joined)])


__all__ = ["choose", "factored", "flat", "shorter", "sum_size"]
