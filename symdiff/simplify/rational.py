"""Sums of powers and of fractions in other forms: a polynomial by its roots, a sum over one denominator.

Each function takes a canonical sum and gives an equal product of a smaller sum, or None; whether it is shorter is for
the caller to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from symdiff.ir.graph import Value
from symdiff.simplify.products import powered, product
from symdiff.simplify.sums import labels_of, plus
from symdiff.simplify.views import Context, Factor, Labels, Number, normal, number_in

# Polynomials of higher degree, or with larger numbers at their ends, are not searched for roots.
MOST_DEGREE = 6
MOST_NUMBER = 720
# A sum with more terms or more denominators is not brought over one.
MOST_TERMS = 6
MOST_DENOMINATORS = 3


# -------------------------------------------------------------------- roots
def by_roots(ctx: Context, value: Value) -> Value | None:
    """1 - 2 s + s^2 as (1 - s)^2: the rational roots of a polynomial in one value as factors."""
    read = _polynomial(ctx, value)
    if read is None:
        return None
    base, coefficients = read
    rest, roots = _split(coefficients)
    if not roots:
        return None
    kind = value.type
    parts: list[tuple[Value, int]] = []
    number = Fraction(1)
    for root in dict.fromkeys(roots):
        times = roots.count(root)
        line = [(root.denominator, base), (-root.numerator, ctx.const(1, kind.shape, kind.dtype))]
        parts.append((plus(ctx, line), times))
        number /= Fraction(root.denominator) ** times
    left = [
        (normal(c), powered(ctx, base, k) if k else ctx.const(1, kind.shape, kind.dtype))
        for k, c in enumerate(rest)
        if c
    ]
    labels = labels_of(value)
    factors = [Factor(v, p, labels) for v, p in (*parts, (plus(ctx, left), 1))]
    return product(ctx, normal(number), factors, labels, dict(enumerate(value.shape)), kind.dtype)


def _polynomial(ctx: Context, value: Value) -> tuple[Value, list[Fraction]] | None:
    """(x, coefficients from the lowest power) of a sum of at least three powers of one value with a constant term."""
    terms = ctx.terms(value)
    base: Value | None = None
    found: dict[int, Fraction] = {}
    if not 3 <= len(terms) <= MOST_DEGREE + 1:
        return None
    for number, term in terms:
        view = ctx.view(term)
        if number_in(term) == 1:
            found[0] = Fraction(number)
            continue
        if len(view.factors) != 1 or not view.distinct or view.factors[0].labels != view.output:
            return None
        own, power, _ = view.factors[0]
        if base not in (None, own) or not isinstance(power, int) or not 0 < power <= MOST_DEGREE:
            return None
        base = own
        found[power] = Fraction(number) * Fraction(view.coefficient)
    if base is None or 0 not in found:
        return None
    return base, [found.get(k, Fraction(0)) for k in range(max(found) + 1)]


def _split(coefficients: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """(what is left, the rational roots) of a polynomial, lowest power first."""
    shared = lcm(*[c.denominator for c in coefficients])
    left = [c * shared for c in coefficients]
    ends = [abs(left[k].numerator) for k in (0, -1)]
    if max(ends) > MOST_NUMBER:
        return list(coefficients), []
    left = list(coefficients)
    roots: list[Fraction] = []
    for p in _divisors(ends[0]):
        for q in _divisors(ends[1]):
            for root in (Fraction(p, q), Fraction(-p, q)):
                while gcd(p, q) == 1 and len(left) > 1 and (divided := _divided(left, root)) is not None:
                    left = divided
                    roots.append(root)
    return left, roots


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _divided(coefficients: Sequence[Fraction], root: Fraction) -> list[Fraction] | None:
    """The polynomial over (x - root), when the root is one."""
    found: list[Fraction] = []
    carry = Fraction(0)
    for c in reversed(coefficients):
        carry = carry * root + c
        found.append(carry)
    return found[-2::-1] if not carry else None


# -------------------------------------------------------------------- denominators
def denominators(ctx: Context, factor: Factor) -> list[tuple[Factor, Labels]]:
    """Factors with negative powers in the terms of a sum, the lowest power of each, at the labels of the sum."""
    found: dict[tuple[Value, Labels], Factor] = {}
    for _, term in ctx.terms(factor.base):
        view = ctx.view(term)
        places = dict(zip(view.output, factor.labels, strict=True))
        for g in view.factors:
            if g.power >= 0 or any(x not in places for x in g.labels):
                continue
            key = (g.base, tuple([places[x] for x in g.labels]))
            if key not in found or found[key].power > g.power:
                found[key] = g
    return [(g, labels) for (_, labels), g in found.items()]


def over_one_denominator(ctx: Context, value: Value) -> tuple[Value, list[Factor]] | None:
    """(numerator, factors below) of a sum of fractions with different denominators, none of them a sum over axes."""
    terms = ctx.terms(value)
    labels = labels_of(value)
    below = denominators(ctx, Factor(value, 1, labels))
    if len(terms) > MOST_TERMS or not 1 < len(below) <= MOST_DENOMINATORS:
        return None
    sizes = dict(enumerate(value.shape))
    up = [Factor(g.base, -g.power, own) for g, own in below]
    above: list[tuple[Number, Value]] = [
        (c, product(ctx, 1, [Factor(t, 1, labels), *up], labels, sizes, value.type.dtype)) for c, t in terms
    ]
    return plus(ctx, above), [Factor(g.base, g.power, own) for g, own in below]
