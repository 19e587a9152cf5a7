"""Identities between factors of one contraction, each a pass over a product in the making.

A pass looks at the factors and labels of a `Work`, changes it in place and gives the name of the identity it used, or
"" when it found nothing. A label that an identity consumes is removed from the sizes: what is left dangling is a sum
over ones and counts as its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from symdiff.ir.graph import Value, topological
from symdiff.simplify import facts
from symdiff.simplify.defined import generic, harmless, known
from symdiff.simplify.views import Context, Factor, Labels, Product, Work, normal, number_in


def _summed_pair(work: Work, label: int) -> bool:
    """A summed label that stands at exactly two factor axes."""
    return label not in work.output and work.uses(label) == 2


def inverse_cancels(ctx: Context, work: Work) -> str:
    """inverse(A) @ A = A @ inverse(A) = I, through a label that nothing else has."""
    inverses = [f for f in work.factors if f.power == 1 and f.base.op.name == "inverse" and len(f.labels) == 2]
    for f in inverses:
        matrix = f.base.args[0]
        turns = (f.labels, f.labels[::-1]) if facts.symmetric(ctx, matrix) else (f.labels,)
        for g in work.factors:
            if g.base is not matrix or g.power != 1:
                continue
            for p, q in turns:
                for r, s in (g.labels, g.labels[::-1]) if len(turns) == 2 else (g.labels,):
                    if q == r and p != q and r != s and _summed_pair(work, q):
                        work.replace([f, g], [])
                        work.sizes.pop(q)
                        work.join(p, s)
                        return "inverse(A) A = I"
                    if p == s and p != q and r != s and _summed_pair(work, p):
                        work.replace([f, g], [])
                        work.sizes.pop(p)
                        work.join(q, r)
                        return "A inverse(A) = I"
    return ""


def orthogonal_cancels(ctx: Context, work: Work) -> str:
    """Q.T @ Q = Q @ Q.T = I for a matrix declared orthogonal."""
    found: dict[tuple[Value, int, int], Factor] = {}
    for f in work.factors:
        if f.power != 1 or len(f.labels) != 2 or "orthogonal" not in facts.declared(ctx, f.base):
            continue
        for axis, label in enumerate(f.labels):
            g = found.setdefault((f.base, axis, label), f)
            if g is not f and _summed_pair(work, label):
                a, b = f.labels[1 - axis], g.labels[1 - axis]
                work.replace([f, g], [])
                work.sizes.pop(label)
                work.join(a, b)
                return "Q.T Q = I"
    return ""


def diagonal_fact(ctx: Context, work: Work) -> str:
    """A matrix declared diagonal has one label."""
    for f in work.factors:
        if len(f.labels) == 2 and f.labels[0] != f.labels[1] and "diagonal" in facts.declared(ctx, f.base):
            if set(f.labels) <= set(work.output) and len(work.factors) == 1:
                continue
            work.join(*sorted(f.labels, key=lambda x: x not in work.output))
            return "a diagonal matrix has one index"
    return ""


def softmax_sums_to_one(ctx: Context, work: Work) -> str:
    for f in work.factors:
        if f.base.op.name != "softmax" or f.power != 1:
            continue
        labels = [f.labels[a] for a in f.base.attr("axes")]
        if all(x not in work.output and work.uses(x) == 1 for x in labels):
            work.replace([f], [])
            for x in labels:
                work.sizes.pop(x)
            return "sum of softmax = 1"
    return ""


def softmax_quotient(ctx: Context, work: Work) -> str:
    """exp(z) / sum(exp(z)) = softmax(z)."""
    for g in work.factors:
        if g.power == 1 or not isinstance(g.power, int) or g.power >= 0:
            continue
        reduced = sum_of_exponentials(ctx, g.base)
        if reduced is None:
            continue
        exponent, axes = reduced
        kept = [k for k in range(exponent.type.rank) if k not in axes]
        for f in work.factors:
            if f.power == 1 and f.base.op.name == "exp" and tuple([f.labels[k] for k in kept]) == g.labels:
                times = _multiple(ctx, f.base.args[0], exponent, -g.power)
                if not times:
                    continue
                attrs = (("axes", tuple([a - exponent.type.rank for a in axes])),)
                quotient = ctx.make("softmax", (exponent,), attrs)
                rest = [g._replace(power=normal(g.power + times))] if g.power != -times else []
                work.replace([f, g], [Factor(quotient, times, f.labels), *rest])
                return "exp(z) / sum(exp(z)) = softmax(z)"
    return ""


def _multiple(ctx: Context, value: Value, unit: Value, most: int) -> int:
    """k up to `most` with value = k unit, or 0."""
    for k in range(1, min(most, 4) + 1):
        if ctx.make("scale", (unit,), (("by", k),)) is value:
            return k
    return 0


def sum_of_exponentials(ctx: Context, value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """(z, summed axes) when the value is a sum of exp(z) over axes, the others in order."""
    view = ctx.view(value)
    if view.coefficient != 1 or len(view.factors) != 1:
        return None
    base, power, labels = view.factors[0]
    if power != 1 or base.op.name != "exp" or len(set(labels)) < len(labels):
        return None
    axes = tuple([k for k, x in enumerate(labels) if x not in view.output])
    kept = tuple([x for x in labels if x in view.output])
    return (base.args[0], axes) if axes and kept == view.output else None


def indicators(ctx: Context, work: Work) -> str:
    """[a and b] = [a] [b]; [c] [not c] = 0; a mask over terms that vanish with it is dropped."""
    casts = [f for f in work.factors if f.base.op.name == "cast" and f.base.args[0].type.dtype == "bool"]
    for f in casts:
        condition = f.base.args[0]
        if condition.op.name == "and":
            parts = [ctx.make("cast", (a,), f.base.attrs) for a in condition.args]
            work.replace([f], [Factor(p, f.power, f.labels) for p in parts])
            return "[a and b] = [a] [b]"
    for i, f in enumerate(casts):
        opposite = ctx.make("not", (f.base.args[0],))
        if any(g.base.args[0] is opposite and g.labels == f.labels for g in casts[i + 1 :]):
            work.coefficient = 0
            return "[c] [not c] = 0"
        if f.power == 1 and _redundant(ctx, work, f):
            work.replace([f], [])
            return "a mask over terms that vanish with it"
    return ""


def relu_with_root(ctx: Context, work: Work) -> str:
    """relu(x) beside a root of x is x where x is positive: their powers add."""
    for f in work.factors:
        if f.base.op.name != "relu" or not isinstance(f.power, int) or f.power < 0:
            continue
        x = f.base.args[0]
        for g in work.factors:
            if g.base is x and g.labels == f.labels and isinstance(g.power, Fraction):
                positive = ctx.make("gt", (x, ctx.const(0, x.shape, x.type.dtype)))
                mask = ctx.make("cast", (positive,), (("dtype", x.type.dtype),))
                work.replace([f, g], [g._replace(power=normal(f.power + g.power)), Factor(mask, 1, f.labels)])
                return "relu beside a root of its argument"
    return ""


def _redundant(ctx: Context, work: Work, mask: Factor) -> bool:
    """[count != 0] beside factors that are zero wherever the count of live places is zero."""
    condition = mask.base.args[0]
    if condition.op.name not in ("ne", "gt") or number_in(condition.args[1]) != 0:
        return False
    view = ctx.view(condition.args[0])
    if not view.factors or view.coefficient <= 0 or not all(facts.nonnegative(ctx, f.base) for f in view.factors):
        return False
    live = [f for f in view.factors if f.base.op.name == "cast"]
    if len(live) != len(view.factors) or len(live) != 1:
        return False
    places = dict(zip(view.output, mask.labels, strict=True))
    wanted = tuple([places.get(x) for x in live[0].labels])
    others = [f for f in work.factors if f is not mask]
    if not all(harmless(ctx, f, condition, mask.labels) for f in others):
        return False
    return _vanishes(ctx, live[0].base, wanted, others, 4)


def _vanishes(ctx: Context, base: Value, wanted: tuple[int | None, ...], factors: list[Factor], depth: int) -> bool:
    """Whether some factor is zero when `base` is zero at the wanted labels (None: at every index)."""
    for f in factors:
        if f.power < 0 or not isinstance(f.power, int):
            continue
        # A factor vanishes with the indicator when multiplying by it changes nothing.
        if (
            f.base.shape == base.shape
            and all(w is None or w == x for w, x in zip(wanted, f.labels, strict=True))
            and (f.base is base or ctx.make("mul", (f.base, base)) is f.base)
        ):
            return True
        if depth == 0:
            continue
        if ctx.is_sum(f.base):
            views = [_relabelled(ctx, ctx.view(t), f.labels) for _, t in ctx.terms(f.base)]
            if all(_vanishes(ctx, base, wanted, v, depth - 1) for v in views):
                return True
            continue
        view = ctx.view(f.base)
        inside = _relabelled(ctx, view, f.labels)
        if not (len(inside) == 1 and inside[0].base is f.base) and _vanishes(ctx, base, wanted, inside, depth - 1):
            return True
    return False


def _relabelled(ctx: Context, view: Product, labels: Labels) -> list[Factor]:
    places: dict[int, int] = dict(zip(view.output, labels, strict=True))
    for x in view.sizes:
        if x not in places:
            places[x] = ctx.fresh()
    return [Factor(b, p, tuple([places[x] for x in own])) for b, p, own in view.factors]


def single_extremum(ctx: Context, work: Work) -> str:
    """The number of places where the maximum is attained is 1 but for ties, where entries are free to differ."""
    if ctx.settings.keep_kinks:
        return ""
    for f in work.factors:
        view = ctx.view(f.base)
        if len(view.factors) != 1 or view.coefficient != 1 or view.pointwise:
            continue
        hit, _, labels = view.factors[0]
        if hit.op.name != "cast" or hit.args[0].op.name != "eq" or len(set(labels)) < len(labels):
            continue
        summed = tuple([k for k, x in enumerate(labels) if x not in view.output])
        for entry, extremum in (hit.args[0].args, hit.args[0].args[::-1]):
            inner = ctx.view(extremum).factors
            if len(inner) != 1 or inner[0].base.op.name not in ("reduce_max", "reduce_min"):
                continue
            axes = tuple([entry.type.rank + a for a in inner[0].base.attr("axes")])
            if inner[0].base.args[0] is entry and axes == summed and _differ(ctx, entry, axes):
                work.replace([f], [])
                return "one maximum"
    return ""


# Equal results only from equal operands.
_INJECTIVE = frozenset(
    {"exp", "expm1", "log", "log1p", "tanh", "sinh", "arctan", "arcsinh", "sigmoid", "softplus", "sqrt", "erf"}
)
_STRUCTURED = frozenset({"symmetric", "positive_definite", "diagonal", "lower", "upper", "orthogonal"})


def _differ(ctx: Context, value: Value, axes: Sequence[int]) -> bool:
    """Entries along `axes` are equal on a set of measure zero only: each has an own entry of a parameter in it.

    The entries of relu(x), of A + A^T or of x next to x may be equal everywhere.
    """
    while value.op.name in _INJECTIVE:
        value = value.args[0]
    terms = [t for _, t in ctx.terms(value)] if ctx.is_sum(value) else [value]
    used = [{v for v in topological([t]) if v.is_param} for t in terms]
    for number, term in enumerate(terms):
        view = ctx.view(term)
        own = {view.output[a] for a in axes}
        bases = [f.base for f in view.factors]
        if not view.distinct or not all(b.is_param or b.op.name == "size" for b in bases):
            continue
        for f in view.factors:
            alone = bases.count(f.base) == 1 and not any(f.base in u for k, u in enumerate(used) if k != number)
            free = f.base.is_param and f.base.type.floating and not (facts.declared(ctx, f.base) & _STRUCTURED)
            if alone and free and own <= set(f.labels) and len(set(f.labels)) == len(f.labels):
                return True
    return False


def product_of_others(ctx: Context, work: Work) -> str:
    """The product of all entries but one is the product of all over that one, where it is not zero."""
    for f in work.factors:
        if f.base.op.name != "prod_others" or not isinstance(f.power, int):
            continue
        x, axis = f.base.args[0], f.base.attr("axis")
        whole = ctx.make("reduce_prod", (x,), (("axis", axis),))
        kept = tuple([y for k, y in enumerate(f.labels) if k != len(f.labels) + axis])
        divided = any(g.base is whole and g.labels == kept and g.power < 0 for g in work.factors)
        if not (divided or (not ctx.settings.keep_kinks and generic(ctx, x) and known(ctx, x))):
            continue
        work.replace([f], [Factor(whole, f.power, kept), Factor(x, -f.power, f.labels)])
        return "product of the others"
    return ""


def declared_equal(ctx: Context, work: Work) -> str:
    """Factors that make up the left side of a declared equality give way to its right side."""
    for left, right in ctx.equal.items():
        view = ctx.view(left)
        if not view.factors or (len(view.factors) == 1 and view.factors[0].base is left):
            continue
        found = embedded(view, work)
        if found is None:
            continue
        members, places = found
        labels = tuple([places[x] for x in view.output])
        if not view.distinct:
            continue
        inner = {places[x] for x in view.sizes if x not in view.output}
        work.coefficient = normal(work.coefficient / Fraction(view.coefficient))
        work.replace(members, [Factor(right, 1, labels)])
        for x in inner:
            work.sizes.pop(x, None)
        return "declared equal"
    return ""


def embedded(view: Product, work: Work) -> tuple[list[Factor], dict[int, int]] | None:
    """Factors of `work` that are the factors of `view` with other labels, its summed labels used by nothing else."""
    stack: list[tuple[int, list[Factor], dict[int, int]]] = [(0, [], {})]
    summed = {x for x in view.sizes if x not in view.output}
    while stack:
        at, members, places = stack.pop()
        if at == len(view.factors):
            used = [places[x] for x in summed]
            inside = {x: sum(f.labels.count(x) for f in members) for x in used}
            if len(set(used)) == len(used) and all(x not in work.output and work.uses(x) == inside[x] for x in used):
                return members, places
            continue
        wanted = view.factors[at]
        for f in work.factors:
            if f.base is not wanted.base or f.power != wanted.power or any(f is m for m in members):
                continue
            extended = dict(places)
            if all(extended.setdefault(x, y) == y for x, y in zip(wanted.labels, f.labels, strict=True)):
                stack.append((at + 1, [*members, f], extended))
    return None


PASSES = (
    inverse_cancels, orthogonal_cancels, diagonal_fact, softmax_sums_to_one, softmax_quotient, indicators,
    relu_with_root, declared_equal, product_of_others, single_extremum,
)  # fmt: skip
