"""Normal forms of inverse, solve and determinants: they pass through numbers, transposes, diagonals and products.

inverse(c A B) = inverse(B) inverse(A) / c and log|det(A B)| = log|det A| + log|det B| for square A and B: a chain is
split where all its matrices have one size, since a product is invertible only if each of them is. `solve` becomes a
contraction with an inverse, which cancels and merges like any factor; `finish` brings it back.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from symdiff.ir.dims import Size
from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify import facts
from symdiff.simplify.exact import content_of, exact_power
from symdiff.simplify.products import component, flipped, powered, product, scaled
from symdiff.simplify.reshapes import kronecker, kronecker_determinant, kronecker_factors
from symdiff.simplify.sums import plus
from symdiff.simplify.views import Context, Factor, Number, Product, Work, normal, number_in
from symdiff.simplify.whole import remember_determinant, remember_inverse


def _square_chain(view: Product) -> bool:
    """A product of at least two square matrices of one size in a row, diagonal scalings between them allowed."""
    if len(view.output) != 2 or not view.distinct or len(view.factors) < 2:
        return False
    side = view.sizes[view.output[0]]
    if any(s != side for s in view.sizes.values()) or any(len(f.labels) not in (1, 2) for f in view.factors):
        return False
    matrices = [f for f in view.factors if len(f.labels) == 2]
    if any(f.power != 1 or f.labels[0] == f.labels[1] for f in matrices):
        return False
    ends: dict[int, int] = {}
    for f in matrices:
        for x in f.labels:
            ends[x] = ends.get(x, 0) + 1
    if len(ends) != len(matrices) + 1 or any(x not in ends for f in view.factors for x in f.labels):
        return False
    return all(n == (1 if x in view.output else 2) for x, n in ends.items())


def _inverted_chain(ctx: Context, view: Product, dtype: str) -> Value:
    factors: list[Factor] = []
    for f in view.factors:
        if len(f.labels) == 2:
            factors.append(Factor(ctx.make("inverse", (f.base,)), 1, f.labels[::-1]))
        else:
            factors.append(f._replace(power=-f.power))
    return product(ctx, normal(1 / Fraction(view.coefficient)), factors, view.output[::-1], view.sizes, dtype)


def make_inverse(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    (x,) = args
    if x.type.rank != 2:
        return ctx.plain("inverse", args)
    dtype = x.type.dtype
    if x.op.name == "inverse":
        return x.args[0]
    if "orthogonal" in facts.declared(ctx, x):
        return flipped(ctx, x)
    if ctx.is_sum(x):
        content = content_of(ctx, ctx.terms(x))
        if content != 1:
            back = normal(1 / Fraction(content))
            return scaled(ctx, back, ctx.make("inverse", (ctx.make("scale", (x,), (("by", back),)),)))
        return ctx.plain("inverse", args)
    crossed = kronecker_factors(ctx, x)
    if crossed is not None:
        return kronecker(ctx, [(m and ctx.make("inverse", (m,)), n) for m, n in crossed], x)
    view = ctx.view(x)
    if view.coefficient == 0:
        return ctx.plain("inverse", args)
    if not view.distinct:
        if view.pointwise:
            factors = [f._replace(power=-f.power) for f in view.factors]
            return product(ctx, normal(1 / Fraction(view.coefficient)), factors, view.output, view.sizes, dtype)
        return ctx.plain("inverse", args)
    if _square_chain(view):
        inverted = _inverted_chain(ctx, view, dtype)
        remember_inverse(ctx, x, inverted)
        return inverted
    scalars = [f for f in view.factors if not f.labels]
    if view.coefficient != 1 or scalars:
        rest = product(ctx, 1, [f for f in view.factors if f.labels], view.output, view.sizes, dtype)
        below = [Factor(ctx.make("inverse", (rest,)), 1, (0, 1)), *[f._replace(power=-f.power) for f in scalars]]
        return product(ctx, normal(1 / Fraction(view.coefficient)), below, (0, 1), dict(enumerate(x.shape)), dtype)
    turned = _turned(ctx, x, view)
    if turned is not None:
        return flipped(ctx, ctx.make("inverse", (turned,)))
    return ctx.plain("inverse", args)


def _turned(ctx: Context, x: Value, view: Product) -> Value | None:
    """The transpose, when that is the orientation in which the matrix is kept."""
    if len(view.factors) == 1:
        f = view.factors[0]
        return f.base if f.power == 1 and f.labels == view.output[::-1] else None
    if view.pointwise:
        return None
    value, labels = component(ctx, view.factors, view.output, view.sizes, x.type.dtype)
    return value if labels != view.output else None


def make_solve(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    a, b = args
    if a.type.rank != 2:
        return ctx.plain("solve", args)
    ctx.memo("solved")[ctx.make("inverse", (a,))] = True
    lead = tuple(range(3, 1 + b.type.rank))
    sizes = {0: a.shape[0], 1: a.shape[1], **dict(zip((*lead, 1, 2), b.shape, strict=True))}
    factors = [Factor(ctx.make("inverse", (a,)), 1, (0, 1)), Factor(b, 1, (*lead, 1, 2))]
    return product(ctx, 1, factors, (*lead, 0, 2), sizes, b.type.dtype)


def _parts(ctx: Context, x: Value) -> tuple[Number, list[Value], list[Factor]] | None:
    """(coefficient, square matrices, diagonal factors) of a chain."""
    view = ctx.view(x)
    if not _square_chain(view):
        return None
    matrices = [f.base for f in view.factors if len(f.labels) == 2]
    return view.coefficient, matrices, [f for f in view.factors if len(f.labels) == 1]


def _flip_free(ctx: Context, x: Value) -> Value:
    """The matrix or its transpose, whichever is kept: they have one determinant."""
    view = ctx.view(x)
    if view.coefficient != 1 or not view.distinct or ctx.is_sum(x):
        return x
    return _turned(ctx, x, view) or x


def make_determinant(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    """det, log|det| and the sign of det."""

    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        (x,) = args
        if x.type.rank != 2:
            return ctx.plain(name, args)
        kind = x.type.dtype
        if x.op.name == "inverse":
            inner = ctx.make(name, (x.args[0],))
            return inner if name == "signdet" else powered(ctx, inner, -1) if name == "det" else scaled(ctx, -1, inner)
        crossed = kronecker_factors(ctx, x)
        if crossed is not None and name != "signdet":
            return kronecker_determinant(ctx, name, x, crossed)
        view = ctx.view(x)
        chain = _parts(ctx, x)
        if chain is not None and (chain[0] == 1 or isinstance(x.shape[0], int)) and not chain[2]:
            number, matrices, _ = chain
            parts = [ctx.make(name, (m,)) for m in matrices]
            if number == 1:
                remember_determinant(ctx, name, x, parts)
            if name == "logabsdet":
                terms = [(1, p) for p in parts]
                if number != 1:
                    terms.append((x.shape[0], ctx.make("log", (ctx.const(abs(number), (), kind),))))  # pyright: ignore[reportArgumentType]
                return plus(ctx, terms)
            factor = exact_power(number, x.shape[0]) if isinstance(x.shape[0], int) else 1
            if factor is not None:
                if name == "signdet":
                    factor = 1 if factor > 0 else -1
                return product(ctx, factor, [Factor(p, 1, ()) for p in parts], (), {}, kind)
        if not view.distinct and view.pointwise and name != "signdet":
            return _diagonal(ctx, name, view, kind)
        kept = _flip_free(ctx, x)
        return ctx.plain(name, args) if kept is x else ctx.make(name, (kept,))

    return make


def _diagonal(ctx: Context, name: str, view: Product, dtype: str) -> Value:
    """The determinant of a diagonal matrix."""
    label = view.output[0]
    entries = product(ctx, view.coefficient, view.factors, (label,), view.sizes, dtype)
    if number_in(entries) == 1:
        return ctx.const(0 if name == "logabsdet" else 1, (), dtype)
    if name == "det":
        return ctx.make("reduce_prod", (entries,), (("axis", -1),))
    logs = ctx.make("log", (ctx.make("abs", (entries,)),))
    return product(ctx, 1, [Factor(logs, 1, (0,))], (), {0: entries.shape[0]}, dtype)


def inverse_of_sum(ctx: Context, work: Work) -> str:
    """inverse(A) inverse(M) = inverse(M A) where M is a sum and M A is shorter: inverse(S) inverse(I + inverse(S))."""
    inverses = [f for f in work.factors if f.power == 1 and f.base.op.name == "inverse" and len(f.labels) == 2]
    for f in inverses:
        if not ctx.is_sum(f.base.args[0]):
            continue
        for g in inverses:
            if g is f or g.base is f.base:
                continue
            for first, second in ((f, g), (g, f)):
                joint = first.labels[1]
                if joint != second.labels[0] or joint in work.output or work.uses(joint) != 2:
                    continue
                merged = _merged_sum(ctx, second.base.args[0], first.base.args[0], f.base.args[0])
                if merged is None:
                    continue
                inverse = ctx.make("inverse", (merged,))
                work.replace([f, g], [Factor(inverse, 1, (first.labels[0], second.labels[1]))])
                work.sizes.pop(joint)
                return "inverse(A) inverse(M) = inverse(M A)"
    return ""


def _merged_sum(ctx: Context, left: Value, right: Value, whole: Value) -> Value | None:
    """left @ right, one of which is the sum `whole`, term by term, if no term grows and one gets shorter."""
    other = left if right is whole else right
    sizes: dict[int, Size] = dict.fromkeys(range(3), whole.shape[0])
    terms: list[tuple[Number, Value]] = []
    shorter = False
    for number, term in ctx.terms(whole):
        pair = (term, other) if left is whole else (other, term)
        chain = [Factor(pair[0], 1, (0, 1)), Factor(pair[1], 1, (1, 2))]
        made = product(ctx, 1, chain, (0, 2), sizes, other.type.dtype)
        grown = len(ctx.view(made).factors) - len(ctx.view(term).factors)
        identity = not ctx.view(term).factors and not ctx.view(term).distinct
        if grown > 0 and not (identity and made is other):
            return None
        shorter = shorter or grown < 0
        terms.append((number, made))
    return plus(ctx, terms) if shorter else None


PASSES = (inverse_of_sum,)
