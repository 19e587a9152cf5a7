"""The normal form of products: one flat list of labelled factors for everything multiplicative.

`product` takes a coefficient, factors with labels and output labels, and gives the canonical value: nested products
and contractions opened, deltas substituted, powers of equal factors merged, numbers gathered in one coefficient.
Parts that no summed label connects become contractions of their own, so `(x @ A @ x) * x` keeps its scalar and
`X.T @ M @ X` squared elementwise is seen as a square. Factors and labels are ordered by structure alone: equal products
are one value whatever they were called and however they were built.

Identities that look at several factors at once (an inverse beside its matrix, ...) are passes of the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from symdiff.ir.contraction import contract
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.arrange import arrange, tensor_order
from symdiff.simplify.defined import generic, is_indicator, is_mask
from symdiff.simplify.exact import content_of, exact_power, size_factors
from symdiff.simplify.parts import groups_of, masked_sum, together
from symdiff.simplify.views import Context, Factor, Labels, Number, Product, Work, normal, number_in

# A product with more factors than this is one factor of the next: chains of products stay linear to build.
MOST_FACTORS = 24


def product(
    ctx: Context, coefficient: Number, factors: Iterable[Factor], output: Sequence[int], sizes: Mapping[int, Size],
    dtype: str,
) -> Value:  # fmt: skip
    """The canonical value of a product; `sizes` has every label of the factors and of the output, and no other."""
    # Searches make the same product again and again with other labels.
    names: dict[int, int] = {}
    factors = tuple(factors)
    rows = tuple([(b, p, tuple([names.setdefault(x, len(names)) for x in own])) for b, p, own in factors])
    place = tuple([names.setdefault(x, len(names)) for x in output])
    known = tuple([sizes[x] for x in names])
    rest = tuple([s for x, s in sizes.items() if x not in names]) if len(names) < len(sizes) else ()
    key = (coefficient, rows, place, known, rest, dtype)
    memo = ctx.memo("product")
    found = memo.get(key)
    if found is None:
        ctx.work += 1
        found = _product(ctx, Work(coefficient, factors, output, sizes, dtype))
        if not ctx.asking:
            memo[key] = found
    return found


def _product(ctx: Context, work: Work) -> Value:
    while True:
        _open(ctx, work)
        _merge(ctx, work)
        if work.coefficient == 0:
            return ctx.const(0, tuple([work.sizes[x] for x in work.output]), work.dtype)
        if _rewritten(ctx, work):
            continue
        inner: list[Factor] = []
        if not _alone(ctx, work, inner):
            break
        work.factors = inner[::-1]
    _count(ctx, work)
    if work.coefficient == 0:
        return ctx.const(0, tuple([work.sizes[x] for x in work.output]), work.dtype)
    spread = _spreads(ctx, work)
    if spread is not None:
        return spread
    sole = _sole_sum(ctx, work)
    if sole is not None:
        return sole
    _nest(ctx, work)
    return _build(ctx, work)


def _rewritten(ctx: Context, work: Work) -> bool:
    """Apply the first pass that finds something."""
    before = (
        Work(work.coefficient, work.factors, work.output, work.sizes, work.dtype) if ctx.trace is not None else None
    )
    name = next((found for step in ctx.passes.products if (found := step(ctx, work))), "")
    if name and before is not None:
        ctx.note(name, _build(ctx, before), _build(ctx, work))
    return bool(name)


def scaled(ctx: Context, number: Number, value: Value) -> Value:
    """number * value."""
    if number == 1:
        return value
    labels = tuple(range(value.type.rank))
    sizes = dict(enumerate(value.shape))
    return product(ctx, number, [Factor(value, 1, labels)], labels, sizes, value.type.dtype)


def rearranged(ctx: Context, value: Value, axes: Sequence[int], sizes: Mapping[int, Size] | None = None) -> Value:
    """The value with its axes in the order `axes`; axes not below its rank are broadcasts of the given sizes."""
    known = {**dict(enumerate(value.shape)), **(sizes or {})}
    labels = tuple(range(value.type.rank))
    return product(ctx, 1, [Factor(value, 1, labels)], tuple(axes), known, value.type.dtype)


def flipped(ctx: Context, value: Value) -> Value:
    """The transpose of a matrix."""
    return rearranged(ctx, value, (1, 0))


def powered(ctx: Context, value: Value, power: Number) -> Value:
    labels = tuple(range(value.type.rank))
    return product(ctx, 1, [Factor(value, power, labels)], labels, dict(enumerate(value.shape)), value.type.dtype)


# -------------------------------------------------------------------- opening nested products
def _spreads(ctx: Context, work: Work) -> Value | None:
    """A sum beyond matrices is distributed where a summed index meets a delta or a broadcast in one of its terms."""
    for f in work.factors:
        if len(f.labels) < 3 or f.power != 1 or not ctx.is_sum(f.base):
            continue
        order = tensor_order(ctx, f, work.output)
        if order != f.labels and len(work.factors) > 1:
            sizes = tuple(zip(f.labels, f.base.shape, strict=True))
            moved = ctx.make("distribute", (f.base,), (("labels", f.labels), ("output", order), ("sizes", sizes)))
            others = [g for g in work.factors if g is not f]
            return product(
                ctx, work.coefficient, [*others, Factor(moved, 1, order)], work.output, work.sizes, work.dtype
            )
        summed = [k for k, x in enumerate(f.labels) if x not in work.output or f.labels.count(x) > 1]
        views = [ctx.view(t) for _, t in ctx.terms(f.base)]
        outer = all(len({frozenset(g.labels) for g in v.factors if g.labels}) > 1 for v in views)
        if not (outer and summed) and not any(
            v.output.count(v.output[k]) > 1 or all(v.output[k] not in g.labels for g in v.factors)
            for v in views
            for k in summed
        ):
            continue
        others = [g for g in work.factors if g is not f]
        terms = [
            (c, product(ctx, work.coefficient, [*others, Factor(t, 1, f.labels)], work.output, work.sizes, work.dtype))
            for c, t in ctx.terms(f.base)
        ]
        return ctx.make("total", tuple([t for _, t in terms]), (("by", tuple([c for c, _ in terms])),))
    return None


def _open(ctx: Context, work: Work) -> None:
    """Replace every factor that is itself a product by its factors, where that is an identity."""
    pending, work.factors = work.factors[::-1], []
    while pending or _alone(ctx, work, pending):
        factor = pending.pop()
        number = number_in(factor.base)
        if number is not None and _take_number(ctx, work, number, factor.power):
            continue
        opened = _opened(ctx, work, factor)
        if opened is None:
            work.factors.append(factor)
            continue
        inner, joins = opened
        pending.extend(reversed(inner))
        if joins:
            # A joined label may repeat in a factor that was kept whole: look at all of them again.
            work.factors = work.factors + pending[::-1]
            work.join_all(joins)
            pending, work.factors = work.factors[::-1], []


def _alone(ctx: Context, work: Work, pending: list[Factor]) -> bool:
    """A contraction that is all there is stands open, not as one factor: its factors become pending."""
    if len(work.factors) != 1:
        return False
    base, power, labels = work.factors[0]
    if power != 1 or base not in ctx.memo("component"):
        return False
    inner, joins = _placed(ctx, work, ctx.view(base), labels)
    assert not joins
    work.factors = []
    pending.extend(reversed(inner))
    return True


def _take_number(ctx: Context, work: Work, number: Number, power: Number) -> bool:
    """Multiply the coefficient by number ** power if that is exact."""
    if power == 1:
        work.coefficient = normal(work.coefficient * number)
        return True
    taken = exact_power(number, power)
    if taken is None:
        return False
    work.coefficient = normal(work.coefficient * taken)
    return True


Opened: TypeAlias = "tuple[list[Factor], list[tuple[int, int]]]"


def _opened(ctx: Context, work: Work, factor: Factor) -> Opened | None:
    """Factors, and labels to join, that a factor stands for; None when it stands for itself."""
    base, power, labels = factor
    if ctx.is_sum(base):
        return _opened_sum(ctx, work, factor)
    view = ctx.view(base)
    if len(view.factors) == 1 and view.factors[0].base is base:
        return None
    if len(view.factors) > MOST_FACTORS:
        return None
    if power == 1:
        if not view.pointwise and base in ctx.memo("component"):
            kept = set(work.output)
            if len(set(labels)) == len(labels) and all(x in kept for x in labels):
                return None
        if not view.pointwise and masked_sum(view) and view.distinct and set(labels) <= set(work.output):
            return _powered_component(ctx, work, view, 1, factor)
        work.coefficient = normal(work.coefficient * view.coefficient)
        return _placed(ctx, work, view, labels)
    if view.pointwise and (view.distinct or power > 0):
        return _powered_product(ctx, work, view, power, labels)
    if view.coefficient != 1 or (not view.pointwise and base not in ctx.memo("component")):
        return _powered_component(ctx, work, view, power, factor)
    return None


def _placed(ctx: Context, work: Work, view: Product, labels: Labels) -> Opened:
    """The factors of a view with the labels of the place where it stands."""
    names: dict[int, int] = {}
    joins: list[tuple[int, int]] = []
    for inner, outer in zip(view.output, labels, strict=True):
        if inner in names:
            joins.append((names[inner], outer))
        else:
            names[inner] = outer
    for label, size in view.sizes.items():
        if label not in names:
            names[label] = ctx.fresh()
            work.sizes[names[label]] = size
    return [Factor(b, p, tuple([names[x] for x in own])) for b, p, own in view.factors], joins


def _powered_product(ctx: Context, work: Work, view: Product, power: Number, labels: Labels) -> Opened | None:
    """(c x^a y^b)^p, a pointwise product: what may have any sign stays inside a fractional power."""
    if isinstance(power, int):
        taken = exact_power(view.coefficient, power)
        if taken is None:
            return None
        work.coefficient = normal(work.coefficient * taken)
        inner = view._replace(
            coefficient=1, factors=tuple([f._replace(power=normal(f.power * power)) for f in view.factors])
        )
        return _placed(ctx, work, inner, labels)
    number = view.coefficient
    fixed = [
        f for f in view.factors if facts.nonnegative(ctx, f.base) or (isinstance(f.power, int) and f.power % 2 == 0)
    ]
    if power > 0 and (number < 0 or len(fixed) < len(view.factors)):
        # sqrt(x^2 y) is 0 where x is; |x| sqrt(y) is not where y is negative. An indicator is 0 beside anything.
        fixed = [f for f in fixed if is_indicator(f) or generic(ctx, f.base)]
    inside = [f for f in view.factors if f not in fixed]
    outside: list[Factor] = []
    for f in fixed:
        size = f.base if facts.nonnegative(ctx, f.base) else ctx.make("abs", (f.base,))
        outside.append(Factor(size, normal(f.power * power), f.labels))
    if number < 0:
        if not inside:
            return None
        outer: Number = -number
        left: Number = -1
    else:
        outer, left = number, 1
    if not outside and outer == 1:
        return None
    taken = exact_power(outer, power)
    if taken is None:
        if not view.factors:
            return None  # an irrational root of a number stands for itself
        outside.append(Factor(ctx.const(outer, (), work.dtype), power, ()))
    else:
        work.coefficient = normal(work.coefficient * taken)
    if inside:
        value = product(ctx, left, inside, view.output, view.sizes, work.dtype)
        outside.append(Factor(value, power, view.output))
    return _placed(ctx, work, view._replace(coefficient=1, factors=tuple(outside)), labels)


def _powered_component(ctx: Context, work: Work, view: Product, power: Number, factor: Factor) -> Opened | None:
    """(c C)^p for a contraction C: the number leaves, the contraction is turned to its own orientation."""
    number = view.coefficient
    if not view.distinct:
        return None
    outer: Number = number if isinstance(power, int) else abs(number)
    taken = exact_power(outer, power)
    # Axes that the contraction is merely broadcast over are no part of it.
    held = {x for f in view.factors for x in f.labels}
    outer_labels = tuple([x for x in view.output if x in held])
    inner, own = component(ctx, view.factors, outer_labels, view.sizes, work.dtype)
    inner = scaled(ctx, normal(number / Fraction(outer)), inner)
    if inner is factor.base:
        return None
    places = dict(zip(view.output, factor.labels, strict=True))
    opened = [Factor(inner, power, tuple([places[x] for x in own]))]
    if taken is None:
        opened.append(Factor(ctx.const(outer, (), work.dtype), power, ()))
    else:
        work.coefficient = normal(work.coefficient * taken)
    return opened, []


def _opened_sum(ctx: Context, work: Work, factor: Factor) -> Opened | None:
    """A sum as a factor is primitive: its rational content is in the coefficient."""
    terms = ctx.terms(factor.base)
    content = content_of(ctx, terms)
    if isinstance(factor.power, Fraction) and content < 0:
        content = -content
    taken = exact_power(content, factor.power)
    if taken is None or content == 1:
        return None
    work.coefficient = normal(work.coefficient * taken)
    primitive = ctx.make("scale", (factor.base,), (("by", normal(1 / Fraction(content))),))
    return [factor._replace(base=primitive)], []


# -------------------------------------------------------------------- merging
def _merge(ctx: Context, work: Work) -> None:
    """Equal bases at equal labels add their powers."""
    if len(work.factors) == 1 and work.factors[0].base.op.name not in ("exp", "cast", "pow"):
        return
    powers: dict[tuple[Value, Labels], Number] = {}
    for base, power, labels in work.factors:
        if base.type.rank == 2 and labels[0] > labels[1] and facts.symmetric(ctx, base):
            labels = labels[::-1]
        key = (base, labels)
        found = powers.get(key)
        if found is not None and is_mask(base):
            powers[key] = max(found, power)  # an indicator is 0 beside its own reciprocal too
        else:
            powers[key] = power if found is None else found + power
    work.factors = []
    exponents: dict[Labels, list[tuple[Number, Value]]] = {}
    symbolic: dict[tuple[Value, Labels], list[tuple[Number, Value]]] = {}
    for (base, labels), power in powers.items():
        if power == 0:
            continue
        power = normal(power)
        number = number_in(base)
        if number is not None and _take_number(ctx, work, number, power):
            continue
        name = base.op.name
        if name == "exp":
            exponents.setdefault(labels, []).append((power, base.args[0]))
        elif name == "pow":
            symbolic.setdefault((base.args[0], labels), []).append((power, base.args[1]))
        elif is_mask(base):
            work.factors.append(Factor(base, 1 if power > 0 else -1, labels))
        elif name == "abs" and isinstance(power, int) and power % 2 == 0:
            work.factors.append(Factor(base.args[0], power, labels))
        else:
            work.factors.append(Factor(base, power, labels))
    for labels, scaled_terms in exponents.items():
        _merge_exponentials(ctx, work, labels, scaled_terms)
    for (base, labels), scaled_terms in symbolic.items():
        _merge_powers(ctx, work, base, labels, scaled_terms)


def _merge_exponentials(ctx: Context, work: Work, labels: Labels, terms: list[tuple[Number, Value]]) -> None:
    """exp(u)^a exp(v)^b = exp(a u + b v)."""
    if len(terms) == 1 and terms[0][0] == 1:
        base = ctx.make("exp", (terms[0][1],))
    else:
        total = ctx.make("scale", (terms[0][1],), (("by", terms[0][0]),))
        for number, exponent in terms[1:]:
            total = ctx.make("add", (total, ctx.make("scale", (exponent,), (("by", number),))))
        base = ctx.make("exp", (total,))
    if number_in(base) != 1:
        work.factors.append(Factor(base, 1, labels))


def _merge_powers(ctx: Context, work: Work, base: Value, labels: Labels, terms: list[tuple[Number, Value]]) -> None:
    """x^u x^v = x^(u + v) for exponents that are no numbers, a numeric power of x taken along."""
    numeric = next((f for f in work.factors if f.base is base and f.labels == labels), None)
    if len(terms) == 1 and terms[0][0] == 1 and numeric is None:
        work.factors.append(Factor(ctx.plain("pow", (base, terms[0][1])), 1, labels))
        return
    exponent = ctx.make("scale", (terms[0][1],), (("by", terms[0][0]),))
    for number, more in terms[1:]:
        exponent = ctx.make("add", (exponent, ctx.make("scale", (more,), (("by", number),))))
    if numeric is not None:
        work.replace([numeric], [])
        exponent = ctx.make("add", (exponent, ctx.const(numeric.power, exponent.shape, exponent.type.dtype)))
    number = number_in(exponent)
    if number is None:
        work.factors.append(Factor(ctx.make("pow", (base, exponent)), 1, labels))
    elif number != 0:
        work.factors.append(Factor(base, number, labels))


def _sole_sum(ctx: Context, work: Work) -> Value | None:
    """A sum times a number is the sum of the scaled terms."""
    if len(work.factors) != 1 or not ctx.is_sum(work.factors[0].base) or work.factors[0].power != 1:
        return None
    base, _, labels = work.factors[0]
    if set(labels) - set(work.output) or len(set(labels)) < len(labels):
        return None
    if work.coefficient != 1:
        base = ctx.make("scale", (base,), (("by", work.coefficient),))
        work.coefficient = 1
        work.factors = [Factor(base, 1, labels)]
        if not ctx.is_sum(base):
            return product(ctx, 1, work.factors, work.output, work.sizes, work.dtype)
    if tuple(work.output) == labels:
        return base
    if len(labels) > 2 and sorted(work.output) == sorted(labels):
        # Beyond matrices no notation moves the axes of a sum: its terms move theirs. Broadcasts stay outside.
        return ctx.make(
            "distribute",
            (base,),
            (("labels", labels), ("output", tuple(work.output)), ("sizes", tuple(work.sizes.items()))),
        )
    return None


# -------------------------------------------------------------------- parts of their own
def _count(ctx: Context, work: Work) -> None:
    """A summed label that no factor has counts its size."""
    used = {x for f in work.factors for x in f.labels} | set(work.output)
    for label in [x for x in work.sizes if x not in used]:
        number, counted = size_factors(ctx, work.sizes.pop(label), work.dtype)
        work.coefficient = normal(work.coefficient * number)
        work.factors += counted


def _nest(ctx: Context, work: Work) -> None:
    """Contract each connected part by itself, unless it is all there is."""
    groups = together(ctx, groups_of(work.factors, set(work.output)))
    if len(groups) < 2 or not any(summed for _, summed in groups):
        _merge(ctx, work)
        return
    kept: list[Factor] = []
    for members, summed in groups:
        if not summed:
            kept += members
            continue
        have = {x for f in members for x in f.labels}
        outer = tuple([x for x in dict.fromkeys(work.output) if x in have])
        value, labels = component(ctx, members, outer, work.sizes, work.dtype)
        kept.append(Factor(value, 1, labels))
    work.factors = kept
    used = {x for f in kept for x in f.labels} | set(work.output)
    work.sizes = {x: s for x, s in work.sizes.items() if x in used}
    _merge(ctx, work)
    # A merged power may have vanished or become a number: labels are all in the output here, nothing dangles.


def component(
    ctx: Context, factors: Sequence[Factor], outer: Labels, sizes: Mapping[int, Size], dtype: str
) -> tuple[Value, Labels]:
    """A connected contraction with its output axes in its own order: (value, the outer labels in that order)."""
    ordered, output = arrange(ctx, factors, outer, free_order=True)
    used = {x for f in ordered for x in f.labels}
    value = _emit(ctx, 1, ordered, output, {x: sizes[x] for x in used}, dtype)
    ctx.memo("component")[value] = True
    return value, output


# -------------------------------------------------------------------- building
def _build(ctx: Context, work: Work) -> Value:
    output = tuple(work.output)
    if not work.factors:
        return _emit(ctx, work.coefficient, (), output, work.sizes, work.dtype)
    ordered, _ = arrange(ctx, work.factors, output)
    return _emit(ctx, work.coefficient, ordered, output, work.sizes, work.dtype)


def _emit(
    ctx: Context, coefficient: Number, factors: Sequence[Factor], output: Labels, sizes: Mapping[int, Size], dtype: str
) -> Value:
    """The value of canonical factors, its view and its split remembered."""
    if not factors and len(set(output)) == len(output):
        return ctx.const(coefficient, tuple([sizes[x] for x in output]), dtype)
    args = [base_power(ctx, f) for f in factors]
    monic = contract(ctx.builder, args, [f.labels for f in factors], output, sizes, dtype)
    view = Product(1, tuple(factors), output, sizes)
    if not (len(factors) == 1 and monic is factors[0].base):
        ctx.put_view(monic, view)
    if coefficient == 1:
        return monic
    number = ctx.const(coefficient, (), dtype)
    value = contract(ctx.builder, [number, *args], [(), *[f.labels for f in factors]], output, sizes, dtype)
    ctx.put_view(value, view._replace(coefficient=coefficient))
    ctx.put_split(value, coefficient, monic)
    return value


def base_power(ctx: Context, factor: Factor) -> Value:
    """base ** power as a value."""
    if factor.power == 1:
        return factor.base
    kind = factor.base.type
    return ctx.plain("pow", (factor.base, ctx.const(factor.power, kind.shape, kind.dtype)))
