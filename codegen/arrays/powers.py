"""Powers by fixed exponents: products, square roots and reciprocals instead of a transcendental function."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

T = TypeVar("T")
Make = Callable[[str, tuple[T, ...], Any], T]
"""Makes a scalar operation from its name, operands and attribute."""


def power(number: Any, base: T, exponent: T, one: Callable[[], T], make: Make[T]) -> T:
    """`base ** exponent`; number: the exact number that the exponent is, or anything else where it is none."""
    if isinstance(number, int) and not isinstance(number, bool) and 0 < abs(number) <= 64:
        return _whole(number, base, one, make)
    if isinstance(number, Fraction) and number.denominator == 2 and abs(number) <= 8:
        root, whole = make("sqrt", (base,), None), (abs(number.numerator) - 1) // 2
        found = make("mul", (root, _whole(whole, base, one, make)), None) if whole else root
        # The reciprocal comes last: sqrt(inf) times a power of 1/inf would be NaN.
        return found if number > 0 else make("div", (one(), found), None)
    return make("pow", (base, exponent), None)


def _whole(number: int, base: T, one: Callable[[], T], make: Make[T]) -> T:
    """Products; negative powers of the reciprocal, which derivatives often need as well."""
    if number < 0:
        base = make("div", (one(), base), None)
    return base if abs(number) == 1 else make("pow_int", (base,), abs(number))
