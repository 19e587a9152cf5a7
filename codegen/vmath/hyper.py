"""Hyperbolic functions and the smooth steps built from exp: sinh cosh tanh sigmoid softplus.

tanh(x) = (e - 1) / (e + 1) with e = exp(2|x|); sigmoid and softplus use exp(-|x|), which never overflows.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum, rounded_quotient
from .explog import LN2, LN2_LOW, LOG2_E, exp, exp_sum, log1p_pair, power_of_two

_INF = float("inf")
_OVERFLOW = 710.4758600739439  # the largest argument with a finite hyperbolic sine and cosine


def _half_reduced(b: Build, size: Value) -> tuple[Value, Value]:
    """The word of n, and r with 2 size = n ln(2) + 2 r."""
    n, word = b.rint_of_product(size, 2.0 * LOG2_E)
    return word, b.fma(n, -0.5 * LN2_LOW, b.fma(n, -0.5 * LN2, size))


def tanh(b: Build, x: Value) -> Value:
    """exp(2 r) = (c + r) / (c - r) with the even function c = r coth(r): one division for the whole quotient."""
    word, r = _half_reduced(b, b.at_most(b.fabs(x), 22.5))
    z = r * r
    t = power_of_two(b, word)
    less, more = t - 1.0, t + 1.0
    rest = z * b.polynomial(z, tables.COTH)  # c - 1
    top = fast_two_sum(less, b.fma(more, r, less * rest))
    bottom = fast_two_sum(more, b.fma(less, r, more * rest))
    return b.copysign(rounded_quotient(b, top, bottom), x)


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


def sinhcosh(b: Build, x: Value) -> tuple[Value, Value]:
    return sinh(b, x), cosh(b, x)


def sigmoid(b: Build, x: Value) -> Value:
    return _sigmoid(b, x, exp(b, -b.fabs(x)))


def softplus(b: Build, x: Value) -> Value:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return _softplus(b, x, exp(b, -b.fabs(x)))


def softplus_sigmoid(b: Build, x: Value) -> tuple[Value, Value]:
    e = exp(b, -b.fabs(x))
    return _softplus(b, x, e), _sigmoid(b, x, e)


def _sigmoid(b: Build, x: Value, e: Value) -> Value:
    top, below = b.select(x < 0.0, e, 1.0), e + 1.0
    inverse = 1.0 / below
    q = top * inverse
    # what the roundings of 1 + e and of the quotient left
    return b.fma(b.fma(-q, below, top) - q * ((1.0 - below) + e), inverse, q)


def _softplus(b: Build, x: Value, e: Value) -> Value:
    small = log1p_pair(b, Pair(e, b.const(0.0, "f64")))
    small = b.select(e < 2.0**-54, e, small)
    return b.select(x > 0.0, x, 0.0) + b.select(x.unordered(), x, small)
