"""Exact positive numbers that constants are folded to: rationals times powers of roots, of pi and of e.

A product of constants is rounded once, when code is emitted: 1/sqrt(2) times 1/sqrt(2) is 1/2.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, log2
from typing import Any, NamedTuple, TypeAlias

from symdiff.ir.builder import DIGITS
from symdiff.ir.builder import exact as exact_number

Base: TypeAlias = "int | str"

_DIGITS = 60
_LARGEST = 2**200
"""Numerators and denominators of constants that are worth folding."""


class Exact(NamedTuple):
    """rational * product of base ** (1/2), each base an integer or a name."""

    rational: Fraction
    roots: tuple[tuple[Base, int], ...] = ()
    """Bases and their exponents in halves, sorted; none has a whole exponent but the names."""


ONE = Exact(Fraction(1))


def exact(attr: Any) -> tuple[int, Exact] | None:
    """The sign and the size of a constant, None for 0, infinities, NaN and booleans."""
    if isinstance(attr, str):
        return (1, Exact(Fraction(1), ((attr, 2),))) if attr in DIGITS else None
    if isinstance(attr, bool) or not isinstance(attr, (int, Fraction)) or attr == 0:
        return None
    size = abs(Fraction(attr))
    if size.numerator > _LARGEST or size.denominator > _LARGEST:
        return None
    return (1 if attr > 0 else -1), ONE if size == 1 else Exact(size)


def times(a: Exact, b: Exact) -> Exact | None:
    """The product; None where it grows too long."""
    if a is ONE or b is ONE:
        return b if a is ONE else a
    if not a.roots and not b.roots:
        return _checked(a.rational * b.rational, ())
    halves: dict[Base, int] = dict(a.roots)
    for base, power in b.roots:
        halves[base] = halves.get(base, 0) + power
    return _settled(a.rational * b.rational, halves)


def inverse(a: Exact) -> Exact | None:
    """The reciprocal; None where it grows too long: 1/sqrt(n) is sqrt(n)/n."""
    return _settled(1 / a.rational, {base: -power for base, power in a.roots})


def root(a: Exact) -> Exact | None:
    """The square root, where one notation for it is known."""
    if any(power % 2 for _, power in a.roots):
        return None
    number = a.rational.numerator * a.rational.denominator
    halves: dict[Base, int] = {base: power // 2 for base, power in a.roots}
    whole = isqrt(number)
    if whole * whole == number:
        return _settled(Fraction(whole, a.rational.denominator), halves)
    halves[number] = halves.get(number, 0) + 1
    return _settled(Fraction(1, a.rational.denominator), halves)


def _settled(rational: Fraction, halves: dict[Base, int]) -> Exact | None:
    kept: dict[Base, int] = {}
    for base, power in halves.items():
        if isinstance(base, int):
            whole, power = power // 2, power % 2
            rational *= Fraction(base) ** whole
        if power:
            kept[base] = power
    return _checked(rational, tuple(sorted(kept.items(), key=str)))


def _checked(rational: Fraction, roots: tuple[tuple[Base, int], ...]) -> Exact | None:
    if rational.numerator > _LARGEST or rational.denominator > _LARGEST:
        return None
    return ONE if rational == 1 and not roots else Exact(rational, roots)


def binades(a: Exact) -> float:
    """How many powers of two a constant is away from 1."""
    return abs(exponent(a))


def exponent(a: Exact) -> float:
    """The logarithm to base 2."""
    total = log2(a.rational.numerator) - log2(a.rational.denominator)
    for base, power in a.roots:
        total += log2(base if isinstance(base, int) else float(DIGITS[base])) * power / 2
    return total


def number(a: Exact) -> int | Fraction | str:
    """What a constant instruction holds: the number itself, or the float64 next to it."""
    value = a.rational
    if not a.roots:
        return value.numerator if value.denominator == 1 else value
    if value == 1 and len(a.roots) == 1 and a.roots[0][1] == 2:
        return a.roots[0][0]
    square = Fraction(1)
    for base, power in a.roots:
        square *= (Fraction(base) if isinstance(base, int) else Fraction(DIGITS[base])) ** power
    scale = 10**_DIGITS
    return exact_number(float(value * Fraction(isqrt(square.numerator * scale**2 // square.denominator), scale)))
