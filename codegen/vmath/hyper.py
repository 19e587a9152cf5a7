"""Hyperbolic functions and the smooth steps built from exp: sinh cosh tanh sigmoid softplus, and the inverses.

tanh(x) = t / (t + 2) with t = expm1(2|x|); sigmoid and softplus use exp(-|x|), which never overflows.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .double import Pair
from .explog import LN2, LN2_LOW, LOG2_E, exp, log1p_pair, power_of_two


def tanh(b: Build, x: Value) -> Value:
    y = b.at_most(b.fabs(x) * 2.0, 45.0)
    n, word = b.rint_of_product(y, LOG2_E)
    r = b.fma(n, -LN2_LOW, b.fma(n, -LN2, y))
    p = b.fma(r * r, b.polynomial(r, tables.EXPM1), r)
    t = power_of_two(b, word)
    e = b.fma(t, p, t - 1.0)
    return b.copysign(e / (e + 2.0), x)


def sigmoid(b: Build, x: Value) -> Value:
    e = exp(b, -b.fabs(x))
    return b.select(x < 0.0, e, 1.0) / (e + 1.0)


def softplus(b: Build, x: Value) -> Value:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    e = exp(b, -b.fabs(x))
    small = log1p_pair(b, Pair(e, b.const(0.0, "f64")))
    small = b.select(e < 2.0**-54, e, small)
    return b.select(x > 0.0, x, 0.0) + b.select(x.unordered(), x, small)
