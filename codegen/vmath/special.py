"""erf, erfc and the normal distribution function normcdf; erf and erfc together with exp(-x x), which they are made of.

erfc(a) = exp(-a^2) G(t) / (1 + 2a) with t = (a - 3.5)/(a + 3.5), one polynomial G for 0 <= a <= 27.4; all factors
are carried as pairs, because a^2 reaches 745. erf is a polynomial below 1 and 1 - erfc above.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum, two_product
from .explog import exp_sum, power_of_two

_CENTRE = 3.5
_ROOT_HALF, _ROOT_HALF_LOW = 0.7071067811865476, -4.833646656726457e-17


def _erfc(b: Build, a: Pair, square: Pair, exponent: int) -> Value:
    """2**exponent erfc(a) for 0 <= a <= 28, given a^2; correct into the denormals."""
    word, e = exp_sum(b, -square.hi, -square.lo)
    # One division serves both quotients; what their roundings leave is found from the remainders.
    above, below, d = a.hi - _CENTRE, a.hi + _CENTRE, b.fma(a.hi, 2.0, 1.0)
    reciprocal = 1.0 / (below * d)
    inverse = d * reciprocal
    t = above * inverse
    rest = b.fma(-t, below, above) + b.fma(-t, a.hi - (below - _CENTRE), a.hi - (above + _CENTRE))
    inner = t * b.polynomial(t, tables.ERFC[1:])
    inner = b.fma(rest * inverse, b.horner(t, tables.ERFC_SLOPE), inner)
    g = fast_two_sum(b.const(tables.ERFC[0], "f64"), inner)
    d_low = b.fma(a.lo, 2.0, b.fma(a.hi, 2.0, 1.0 - d))
    inverse = below * reciprocal
    ratio = g.hi * inverse
    ratio_low = (b.fma(-ratio, d, g.hi) + b.fma(-ratio, d_low, g.lo)) * inverse
    y = ratio * e.hi
    y_low = b.fma(ratio, e.lo, b.fma(ratio_low, e.hi, b.fma(ratio, e.hi, -y)))
    return _scaled(b, y + y_low, word + exponent if exponent else word, square.hi)


def _scaled(b: Build, y: Value, word: Value, square: Value) -> Value:
    """y 2**n for n down to -1220, which is far below only where the square is large."""
    small = square > 600.0
    return y * power_of_two(b, b.select(small, word + 128, word)) * b.select(small, b.const(2.0**-128, "f64"), 1.0)


def _bell(b: Build, square: Pair) -> Value:
    """exp(-square.hi), whose parts are those of exp(-square)."""
    word, e = exp_sum(b, -square.hi, -square.lo)
    return _scaled(b, e.hi + b.fma(e.hi + e.lo, square.lo, e.lo), word, square.hi)


def erfc(b: Build, x: Value) -> Value:
    a = b.at_most(b.fabs(x), 27.5)
    positive = _erfc(b, Pair(a, b.const(0.0, "f64")), two_product(b, a, a), 0)
    return b.select(x < 0.0, 2.0 - positive, positive)


def erfc_bell(b: Build, x: Value) -> tuple[Value, Value]:
    a = b.at_most(b.fabs(x), 27.5)
    return erfc(b, x), _bell(b, two_product(b, a, a))


def normcdf(b: Build, x: Value) -> Value:
    size = b.at_most(b.fabs(x), 38.9)
    a = size * _ROOT_HALF
    pair = Pair(a, b.fma(size, _ROOT_HALF_LOW, b.fma(size, _ROOT_HALF, -a)))
    tail = _erfc(b, pair, two_product(b, size * 0.5, size), -1)
    return b.select(x > 0.0, 1.0 - tail, tail)


def erf(b: Build, x: Value) -> Value:
    a = b.at_most(b.fabs(x), 6.0)
    square, square_low = two_product(b, a, a)
    word, e = exp_sum(b, -square, -square_low)
    return _erf(b, x, a, (e.hi + e.lo) * power_of_two(b, word))


def erf_bell(b: Build, x: Value) -> tuple[Value, Value]:
    a = b.at_most(b.fabs(x), 27.5)
    square = two_product(b, a, a)
    word, e = exp_sum(b, -square.hi, -square.lo)
    return _erf(b, x, a, _scaled(b, e.hi + e.lo, word, square.hi)), _bell(b, square)


def _erf(b: Build, x: Value, a: Value, bell: Value) -> Value:
    """erf(x), given its size, or 6 at least where it is larger, and exp(-a^2)."""
    z = x * x
    near = b.fma(x, b.polynomial(z, tables.ERF), x)
    t = (a - _CENTRE) / (a + _CENTRE)
    tail = b.polynomial(t, tables.ERFC) / b.fma(a, 2.0, 1.0) * bell
    return b.select(b.fabs(x) < 1.0, near, b.copysign(1.0 - tail, x))
