"""Hyperbolic functions and the smooth steps built from exp: sinh cosh tanh sigmoid softplus.

tanh(x) = e / (e + 2) with e = expm1(2|x|); sigmoid and softplus use exp(-|x|), which never overflows.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum
from .explog import LN2, LN2_LOW, LOG2_E, exp, exp_sum, log1p_pair, power_of_two

_INF = float("inf")
_OVERFLOW = 710.4758600739439  # the largest argument with a finite hyperbolic sine and cosine


def tanh(b: Build, x: Value) -> Value:
    y = b.at_most(b.fabs(x) * 2.0, 45.0)
    n, word = b.rint_of_product(y, LOG2_E)
    r = b.fma(n, -LN2_LOW, b.fma(n, -LN2, y))
    p = b.fma(r * r, b.polynomial(r, tables.EXPM1), r)
    t = power_of_two(b, word)
    # e = expm1(y) as a pair, so that only the roundings of p and of the quotient are left
    head = t - 1.0
    e = b.fma(t, p, head)
    low = b.fma(t, p, head - e)
    below = e + 2.0
    below_low = (e - (below - 2.0)) + low
    inverse = 1.0 / below
    q = e * inverse
    rest = b.fma(-q, below, e) + b.fma(-q, below_low, low)
    return b.copysign(b.fma(rest, inverse, q), x)


def _quarter_exp(b: Build, size: Value) -> tuple[Value, Value]:
    """exp(size) / 4 as an unevaluated sum; size at most 711 (cosh is still finite there, exp is not)."""
    word, (hi, lo) = exp_sum(b, b.at_most(size, 712.0))
    scale = power_of_two(b, word - 2)
    return scale * hi, scale * lo


def sinh(b: Build, x: Value) -> Value:
    size = b.fabs(x)
    z = x * x
    near = b.fma(z * x, b.polynomial(z, tables.SINH), x)
    hi, lo = _quarter_exp(b, size)
    far = fast_two_sum(hi, -0.0625 / (hi + lo))
    result = (far.hi + (far.lo + lo)) * 2.0
    result = b.select(size > _OVERFLOW, size + _INF, result)
    return b.select(size < 1.0, b.select(size < 2.0**-28, x, near), b.copysign(result, x))


def cosh(b: Build, x: Value) -> Value:
    size = b.fabs(x)
    hi, lo = _quarter_exp(b, size)
    far = fast_two_sum(hi, 0.0625 / (hi + lo))
    return b.select(size > _OVERFLOW, size + _INF, (far.hi + (far.lo + lo)) * 2.0)


def sigmoid(b: Build, x: Value) -> Value:
    e = exp(b, -b.fabs(x))
    top, below = b.select(x < 0.0, e, 1.0), e + 1.0
    inverse = 1.0 / below
    q = top * inverse
    # what the roundings of 1 + e and of the quotient left
    return b.fma(b.fma(-q, below, top) - q * ((1.0 - below) + e), inverse, q)


def softplus(b: Build, x: Value) -> Value:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    e = exp(b, -b.fabs(x))
    small = log1p_pair(b, Pair(e, b.const(0.0, "f64")))
    small = b.select(e < 2.0**-54, e, small)
    return b.select(x > 0.0, x, 0.0) + b.select(x.unordered(), x, small)
