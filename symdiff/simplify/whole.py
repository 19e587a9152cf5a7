"""What a normal form split so that its parts could cancel, put together again where all parts are left.

inverse(A B) is held as inverse(B) inverse(A) and det(A B) as det(A) det(B); the products are remembered when they are
taken apart. A power of one matrix stays apart: it has a notation of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.contractions import embedded
from symdiff.simplify.products import product
from symdiff.simplify.views import Context, Factor, Number, Product, Terms, Work


def remember_inverse(ctx: Context, matrix: Value, parts: Value) -> None:
    """`parts`, a product of inverses, is the inverse of `matrix`."""
    view = ctx.view(parts)
    bases = {f.base for f in view.factors}
    if view.coefficient == 1 and len(bases) > 1 and all(b.op.name == "inverse" for b in bases):
        ctx.memo("inverses taken apart").setdefault(parts, matrix)


def remember_determinant(ctx: Context, name: str, matrix: Value, parts: Sequence[Value]) -> None:
    """`parts` are the (log-)determinants of the factors of `matrix`."""
    if len(set(parts)) == len(parts) > 1:
        ctx.memo("determinants taken apart").setdefault((name, frozenset(parts)), matrix)


def joined_factors(ctx: Context, view: Product) -> list[Factor]:
    """The factors of a product with inverses and determinants of products whole."""
    factors = list(view.factors)
    for (name, parts), matrix in ctx.memo("determinants taken apart").items():
        powers = {f.base: f.power for f in factors if f.base in parts}
        if name == "det" and len(powers) == len(parts) and len(set(powers.values())) == 1:
            (power,) = set(powers.values())
            factors = [f for f in factors if f.base not in parts]
            factors.insert(0, Factor(ctx.plain(name, (matrix,)), power, ()))
    for parts, matrix in ctx.memo("inverses taken apart").items():
        bases = {f.base for f in factors}
        own = ctx.view(parts)
        if any(f.base not in bases or f.base in ctx.memo("solved") for f in own.factors):
            continue
        work = Work(1, factors, view.output, view.sizes, matrix.type.dtype)
        found = embedded(own, work)
        if found is not None:
            members, places = found
            whole = Factor(ctx.plain("inverse", (matrix,)), 1, tuple([places[x] for x in own.output]))
            factors = [f for f in factors if not any(f is m for m in members)] + [whole]
    return factors


def joined_terms(ctx: Context, terms: Terms) -> Terms:
    """The terms of a sum with log-determinants of products whole, and log(a) - log(b) as log(a / b)."""
    for (name, parts), matrix in ctx.memo("determinants taken apart").items():
        numbers: dict[Value, Number] = {t: c for c, t in terms if t in parts}
        if name == "logabsdet" and len(numbers) == len(parts) and len(set(numbers.values())) == 1:
            (number,) = set(numbers.values())
            terms = (*[p for p in terms if p[1] not in parts], (number, ctx.plain(name, (matrix,))))
    # A quotient may leave the range of numbers where the logarithms do not: not where numbers are computed.
    return terms if ctx.settings.keep_kinks else _joined_logarithms(ctx, terms)


def _joined_logarithms(ctx: Context, terms: Terms) -> Terms:
    left = list(terms)
    for pair in terms:
        number, term = pair
        above = _logarithm(ctx, term) if number > 0 else None
        if above is None:
            continue
        for other in left:
            below = _logarithm(ctx, other[1]) if other[0] == -number else None
            if below is not None:
                view = ctx.view(term)
                places = dict(zip(ctx.view(other[1]).output, view.output, strict=True))
                under = below._replace(power=-1, labels=tuple([places[x] for x in below.labels]))
                quotient = product(ctx, 1, [above, under], view.output, view.sizes, term.type.dtype)
                left[left.index(pair)] = (number, ctx.make("log", (quotient,)))
                left.remove(other)
                break
    return tuple(left)


def _logarithm(ctx: Context, term: Value) -> Factor | None:
    """What a term is the logarithm of, where it is positive; its labels are those of the term's view."""
    view = ctx.view(term)
    if len(view.factors) != 1 or not view.distinct or not view.pointwise:
        return None
    base, power, labels = view.factors[0]
    if base.op.name != "log" or power != 1 or len(set(labels)) < len(labels) or not facts.positive(ctx, base.args[0]):
        return None
    return Factor(base.args[0], 1, labels)
