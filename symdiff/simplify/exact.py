"""Exact numbers of the normal forms: rational powers, the content of a sum and the sign in which it is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from symdiff.ir.dims import Dim, Size
from symdiff.ir.graph import Value
from symdiff.simplify.views import Context, Factor, Number, normal

# Numbers are not made longer than this: squared again and again they would double in length each time.
MOST_BITS = 512


def _bits(number: Number) -> int:
    fraction = Fraction(number)
    return max(fraction.numerator.bit_length(), fraction.denominator.bit_length())


def exact_power(number: Number, power: Number) -> Number | None:
    """number ** power when it is rational and small enough to write down."""
    if isinstance(power, int) or power.denominator == 1:
        if (number == 0 and power < 0) or abs(power) > 64 or _bits(number) * abs(power) > MOST_BITS:
            return None
        return normal(Fraction(number) ** int(power))
    if number < 0 or power.denominator > 4 or abs(power) > 64 or (number == 0 and power < 0):
        return None
    fraction = Fraction(number)
    roots = [_root(x, power.denominator) for x in (fraction.numerator, fraction.denominator)]
    if roots[0] is None or not roots[1]:
        return None
    return normal(Fraction(roots[0], roots[1]) ** power.numerator)


def _root(number: int, degree: int) -> int | None:
    guess = round(number ** (1.0 / degree)) if number < 1 << 52 else 0
    return next((g for g in (guess - 1, guess, guess + 1) if g >= 0 and g**degree == number), None)


def content_of(ctx: Context, terms: Sequence[tuple[Number, Value]]) -> Number:
    """The rational number whose extraction leaves coprime integers.

    Its sign makes terms positive when all are negative. A sum of mixed signs keeps the sign in which it was first
    made, so `x - a` is not turned into `a - x` behind the user's back.
    """
    numerator, denominator = 0, 1
    for c, _ in terms:
        numerator = math.gcd(numerator, c.numerator)
        denominator = math.lcm(denominator, c.denominator)
    content = normal(Fraction(numerator, denominator)) if denominator != 1 else numerator
    if content != 1 and _bits(content) > MOST_BITS // 8:
        content = 1
    return content if first_sign(ctx, terms) > 0 else -content


def first_sign(ctx: Context, terms: Sequence[tuple[Number, Value]]) -> int:
    """-1 when this sum is the negative of one seen before, or all negative."""
    if all(c > 0 for c, _ in terms):
        return 1
    if all(c < 0 for c, _ in terms):
        return -1
    ordered = sorted(terms, key=lambda term: ctx.key(term[1]))
    lead = ordered[0][0]
    shape = tuple([(t, c * lead if abs(lead) == 1 else Fraction(c) / lead) for c, t in ordered])
    own = 1 if lead > 0 else -1
    return own * ctx.memo("sign of sums").setdefault(shape, own)


def size_factors(ctx: Context, size: Size, dtype: str) -> tuple[Number, list[Factor]]:
    """A size as a number and rank-0 factors: 2*n*m as 2 and n, m; a polynomial stays one factor."""
    if isinstance(size, int):
        return size, []
    parts: list[tuple[Size, int]] = [(size, 1)]
    number: Number = 1
    if len(size.terms) == 1 and all(isinstance(atom, str) for atom, _ in size.terms[0][0]):
        monomial, number = size.terms[0]
        parts = [(Dim({((atom, 1),): Fraction(1)}), power) for atom, power in monomial]
    factors = [Factor(ctx.plain("size", (), (("dtype", dtype), ("size", s))), power, ()) for s, power in parts]
    return normal(number), factors
