"""What several values make up together: logsumexp and softmax in their spelled-out forms, both cases of a condition."""

from __future__ import annotations

from fractions import Fraction

from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.contractions import sum_of_exponentials
from symdiff.simplify.exact import content_of
from symdiff.simplify.products import product
from symdiff.simplify.sums import plus, spread_axes
from symdiff.simplify.views import Context, Factor, Number, Work, normal, number_in


def logsumexp(ctx: Context, name: str, args: tuple[Value, ...]) -> Value | None:
    """log(sum(exp(z))) = logsumexp(z)."""
    if name != "log":
        return None
    found = sum_of_exponentials(ctx, args[0])
    if found is None:
        return None
    exponent, axes = found
    return ctx.make("logsumexp", (exponent,), (("axes", tuple([a - exponent.type.rank for a in axes])),))


def softmax(ctx: Context, name: str, args: tuple[Value, ...]) -> Value | None:
    """exp(z - logsumexp(z)) = softmax(z)."""
    if name != "exp" or not ctx.is_sum(args[0]):
        return None
    terms = ctx.terms(args[0])
    for number, term in terms:
        if number != -1:
            continue
        view = ctx.view(term)
        inner = view.factors[0].base if len(view.factors) == 1 else term
        if inner.op.name != "logsumexp" or (inner is not term and view.factors[0].power != 1):
            continue
        exponent, attrs = inner.args[0], inner.attrs
        rest = plus(ctx, [(c, t) for c, t in terms if t is not term])
        axes = [exponent.type.rank + a for a in attrs[0][1]]
        if rest is exponent and spread_axes(ctx, inner, axes, exponent.shape) is term:
            return ctx.make("softmax", (exponent,), attrs)
    return None


def joint_softmax(ctx: Context, work: Work) -> str:
    """softmax over rows of log sums over columns, times softmax over columns, is softmax over both."""
    for f in work.factors:
        inner = f.base.args[0] if f.base.op.name == "softmax" and f.power == 1 else None
        if inner is None or inner.op.name != "logsumexp":
            continue
        (scores,), attrs = inner.args, inner.attrs
        rank = scores.type.rank
        summed = [rank + a for a in attrs[0][1]]
        left = [k for k in range(rank) if k not in summed]
        conditional = ctx.make("softmax", (scores,), attrs)
        for g in work.factors:
            if g.base is conditional and g.power == 1 and tuple([g.labels[k] for k in left]) == f.labels:
                axes = sorted([*summed, *[left[len(left) + a] for a in f.base.attr("axes")]])
                both = ctx.make("softmax", (scores,), (("axes", tuple([a - rank for a in axes])),))
                work.replace([f, g], [Factor(both, 1, g.labels)])
                return "softmax of logsumexp times softmax"
    return ""


def raised_product(ctx: Context, work: Work) -> str:
    """(x/c)^(k - 1) x/c is (x/c)^k: a power beside all the factors of its base."""
    for f in work.factors:
        if f.base.op.name != "pow" or f.power != 1 or number_in(f.base.args[1]) is not None:
            continue
        base, exponent = f.base.args
        view = ctx.view(base)
        if len(view.factors) < 2 or not view.pointwise or not view.distinct or view.coefficient != 1:
            continue
        places = dict(zip(view.output, f.labels, strict=True))
        own = [Factor(g.base, g.power, tuple([places[x] for x in g.labels])) for g in view.factors]
        for step in (1, -1):
            wanted = [g._replace(power=step * g.power) for g in own]
            if all(g in work.factors for g in wanted) and facts.positive(ctx, base):
                one = ctx.const(step, exponent.shape, exponent.type.dtype)
                raised = ctx.make("pow", (base, ctx.make("add", (exponent, one))))
                work.replace([f, *[h for h in work.factors if h in wanted]], [Factor(raised, 1, f.labels)])
                return "power times its base"
    return ""


def both_cases(ctx: Context, collected: dict[Value, Number]) -> str:
    """[c] x + [not c] x = x, also where both are summed over axes."""
    for term, number in collected.items():
        view = ctx.view(term)
        for f in view.factors:
            if f.base.op.name != "cast" or f.base.args[0].type.dtype != "bool" or f.power != 1:
                continue
            opposite = ctx.make("cast", (ctx.make("not", (f.base.args[0],)),), f.base.attrs)
            others = [g for g in view.factors if g is not f]
            dtype = term.type.dtype
            turned = product(ctx, 1, [*others, f._replace(base=opposite)], view.output, view.sizes, dtype)
            if turned is term or collected.get(turned) != number:
                continue
            own, whole = ctx.split(product(ctx, 1, others, view.output, view.sizes, dtype))
            del collected[term], collected[turned]
            collected[whole] = normal(collected.get(whole, 0) + number * own)
            return "[c] x + [not c] x = x"
    return ""


def logarithms_of_multiples(ctx: Context, collected: dict[Value, Number]) -> str:
    """log(c u) - log(c v) is log(u) - log(v) for a number c, and log(1 + t) - log(1 - t) is 2 arctanh(t)."""
    found = [(t, n, *_multiple(ctx, t.args[0])) for t, n in collected.items() if t.op.name == "log"]
    for i, (first, number, factor, u) in enumerate(found):
        for second, opposite, same, v in found[i + 1 :]:
            if opposite != -number or same != factor or factor <= 0:
                continue
            argument = _above_one(ctx, u, v)
            if argument is None and factor == 1:
                continue
            del collected[first], collected[second]
            if argument is None:
                made = [(number, ctx.make("log", (u,))), (-number, ctx.make("log", (v,)))]
            else:
                made = [(2 * number, ctx.make("arctanh", (argument,)))]
            for n, value in made:
                for own, term in ctx.terms(value):
                    collected[term] = normal(collected.get(term, 0) + n * own)
            return "logarithms of multiples"
    return ""


def _multiple(ctx: Context, x: Value) -> tuple[Number, Value]:
    """A number and what it multiplies."""
    if not ctx.is_sum(x):
        return ctx.split(x)
    number = abs(content_of(ctx, ctx.terms(x)))
    return number, x if number == 1 else ctx.make("scale", (x,), (("by", normal(1 / Fraction(number))),))


def _above_one(ctx: Context, u: Value, v: Value) -> Value | None:
    """t where u is 1 + t and v is 1 - t."""
    if not (ctx.is_sum(u) and ctx.is_sum(v)) or all(number_in(t) is None for _, t in ctx.terms(u)):
        return None
    if number_in(plus(ctx, [(1, u), (1, v)])) != 2:
        return None
    t = plus(ctx, [(1, u), (-1, ctx.const(1, u.shape, u.type.dtype))])
    return None if any(number_in(term) is not None for _, term in ctx.terms(t)) else t


ROOTS = (logsumexp, softmax)
PRODUCTS = (joint_softmax, raised_product)
SUMS = (both_cases, logarithms_of_multiples)
