"""erf, erfc and the normal distribution function normcdf.

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
    small = square.hi > 600.0
    word = b.select(small, word + (128 + exponent), word + exponent)
    return (y + y_low) * power_of_two(b, word) * b.select(small, b.const(2.0**-128, "f64"), 1.0)


def erfc(b: Build, x: Value) -> Value:
    a = b.at_most(b.fabs(x), 27.5)
    positive = _erfc(b, Pair(a, b.const(0.0, "f64")), two_product(b, a, a), 0)
    return b.select(x < 0.0, 2.0 - positive, positive)


def normcdf(b: Build, x: Value) -> Value:
    size = b.at_most(b.fabs(x), 38.9)
    a = size * _ROOT_HALF
    pair = Pair(a, b.fma(size, _ROOT_HALF_LOW, b.fma(size, _ROOT_HALF, -a)))
    tail = _erfc(b, pair, two_product(b, size * 0.5, size), -1)
    return b.select(x > 0.0, 1.0 - tail, tail)


def erf(b: Build, x: Value) -> Value:
    size = b.fabs(x)
    z = x * x
    near = b.fma(x, b.polynomial(z, tables.ERF), x)
    a = b.at_most(size, 6.0)
    square, square_low = two_product(b, a, a)
    word, e = exp_sum(b, -square, -square_low)
    t = (a - _CENTRE) / (a + _CENTRE)
    tail = b.polynomial(t, tables.ERFC) / b.fma(a, 2.0, 1.0) * ((e.hi + e.lo) * power_of_two(b, word))
    return b.select(size < 1.0, near, b.copysign(1.0 - tail, x))
