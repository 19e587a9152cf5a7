"""What several values make up together: logsumexp and softmax in their spelled-out forms, both cases of a condition."""

from __future__ import annotations

from symdiff.ir.graph import Value
from symdiff.simplify.contractions import sum_of_exponentials
from symdiff.simplify.products import product
from symdiff.simplify.sums import plus, spread_axes
from symdiff.simplify.views import Context, Number, normal


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


ROOTS = (logsumexp, softmax)
SUMS = (both_cases,)
