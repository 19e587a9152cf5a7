"""Inverse trigonometric and hyperbolic functions: arcsin arccos arctan arctan2 arcsinh arccosh arctanh.

arctan and arctan2 share one routine on the ratio of two positive numbers, reduced to |q| <= tan(pi/8) with the quotient
carried as a pair; the inverse hyperbolics feed a pair into the logarithm.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum, quotient, root, two_product, two_sum
from .explog import log1p_pair, log_pair

_INF = float("inf")
_NAN = float("nan")
_PI_2, _PI_2_LOW = 1.5707963267948966, 6.123233995736766e-17
_PI_4, _PI_4_LOW = 0.7853981633974483, 3.061616997868383e-17
_TAN_PI_8 = 0.41421356237309503


def _half_angle(b: Build, size: Value) -> tuple[Value, Value, Value]:
    """Above 1/2: arcsin(x) = pi/2 - 2 arcsin(s), s = sqrt((1-x)/2). Gives the mask, s and arcsin(s) - s."""
    big = size > 0.5
    halved = 0.5 - size * 0.5
    exact = root(b, Pair(halved, b.const(0.0, "f64")))
    s = b.select(big, exact.hi, size)
    z = b.select(big, halved, size * size)
    rest = b.fma(s * z, b.polynomial(z, tables.ASIN), b.select(big, exact.lo, 0.0))
    return big, s, rest


def arcsin(b: Build, x: Value) -> Value:
    big, s, rest = _half_angle(b, b.fabs(x))
    whole = fast_two_sum(b.const(_PI_2, "f64"), s * -2.0)
    far = whole.hi + b.fma(rest, -2.0, whole.lo + _PI_2_LOW)
    return b.copysign(b.select(big, far, s + rest), x)


def arccos(b: Build, x: Value) -> Value:
    big, s, rest = _half_angle(b, b.fabs(x))
    negative = x < 0.0
    # |x| <= 1/2: pi/2 -+ arcsin|x|; x > 1/2: 2 arcsin(s); x < -1/2: pi - 2 arcsin(s)
    base = b.select(big, b.select(negative, b.const(2.0 * _PI_2, "f64"), 0.0), _PI_2)
    base_low = b.select(big, b.select(negative, b.const(2.0 * _PI_2_LOW, "f64"), 0.0), _PI_2_LOW)
    factor = b.select(big, b.const(2.0, "f64"), 1.0)
    factor = b.select(big ^ negative, factor, -factor)
    factor = b.select(big & negative, b.const(-2.0, "f64"), factor)
    first = s * factor
    total = fast_two_sum(base, first)
    return total.hi + b.fma(rest, factor, total.lo + base_low)


def _angle(b: Build, y: Value, x: Value, turned: Value | None) -> Value:
    """arctan(y/x), y and x >= 0 within 2**+-960; pi minus that where `turned`."""
    swap = y > x
    smaller, larger = b.select(swap, x, y), b.select(swap, y, x)
    middle = smaller > larger * _TAN_PI_8
    difference, total = fast_two_sum(larger, -smaller), fast_two_sum(larger, smaller)
    zero = b.const(0.0, "f64")
    top = Pair(b.select(middle, -difference.hi, smaller), b.select(middle, -difference.lo, zero))
    bottom = Pair(b.select(middle, total.hi, larger), b.select(middle, total.lo, zero))
    q = quotient(b, top, bottom)
    z = q.hi * q.hi
    tail = b.fma(z * q.hi, b.polynomial(z, tables.ATAN), q.lo)
    # the result is (number of eighth turns) pi/4 +- arctan(q)
    eighths = b.select(middle, b.const(1.0, "f64"), 0.0)
    eighths = b.select(swap, 2.0 - eighths, eighths)
    minus = swap
    if turned is not None:
        eighths = b.select(turned, 4.0 - eighths, eighths)
        minus = swap ^ turned
    head = b.select(minus, -q.hi, q.hi)
    tail = b.select(minus, -tail, tail)
    base = eighths * _PI_4
    base_low = b.fma(eighths, _PI_4_LOW, b.fma(eighths, _PI_4, -base))
    summed = fast_two_sum(base, head)
    return summed.hi + (summed.lo + (base_low + tail))


def arctan(b: Build, x: Value) -> Value:
    size = b.at_most(b.fabs(x), 2.0**60)
    return b.copysign(_angle(b, size, b.const(1.0, "f64"), None), x)


def arctan2(b: Build, y: Value, x: Value) -> Value:
    turned = b.compare("olt", "slt", b.bits(x), 0)  # -0.0 counts as negative
    nan = x.unordered() | y.unordered()
    up, across = b.fabs(y), b.fabs(x)
    endless = up.equals(_INF) | across.equals(_INF)
    one = b.const(1.0, "f64")
    up = b.select(endless, b.select(up.equals(_INF), one, 0.0), up)
    across = b.select(endless, b.select(across.equals(_INF), one, 0.0), across)
    larger = b.select(up > across, up, across)
    # both far from overflow, and the smaller far from underflow wherever the ratio is not itself denormal
    factor = b.select(larger > 2.0**400, b.const(2.0**-64, "f64"), 2.0**500)
    across = b.select(larger.equals(0.0), one, across)  # 0/0 means the angle 0
    result = b.copysign(_angle(b, up * factor, across * factor, turned), y)
    return b.select(nan, _NAN, result)


def _double_log(b: Build, size: Value, sum_: Pair) -> Value:
    """log(sum), or log(2 size) where size is so large that the sum would overflow."""
    large = size > 2.0**500
    hi, lo = b.select(large, size, sum_.hi), b.select(large, b.const(0.0, "f64"), sum_.lo)
    return log_pair(b, Pair(hi, lo), b.select(large, b.const(1022.0, "f64"), 1023.0))


def arcsinh(b: Build, x: Value) -> Value:
    size = b.fabs(x)
    z = x * x
    near = b.fma(z * x, b.polynomial(z, tables.ASINH), x)
    y = b.at_most(size, 2.0**500)
    square, square_low = two_product(b, y, y)
    plus = two_sum(square, b.const(1.0, "f64"))
    s = root(b, Pair(plus.hi, plus.lo + square_low))
    total = two_sum(s.hi, y)
    far = _double_log(b, size, Pair(total.hi, total.lo + s.lo))
    result = b.select(size < 0.5, b.select(size < 2.0**-28, x, near), b.copysign(far, x))
    return b.select(size < _INF, result, x)


def arccosh(b: Build, x: Value) -> Value:
    y = b.at_most(x, 2.0**500)
    t = y - 1.0
    above = two_sum(y, b.const(1.0, "f64"))
    product, product_low = two_product(b, t, above.hi)
    s = root(b, Pair(product, b.fma(t, above.lo, product_low)))
    total = two_sum(s.hi, t)
    low = total.lo + s.lo
    one = two_sum(b.const(1.0, "f64"), total.hi)
    far = _double_log(b, x, Pair(one.hi, one.lo + low))
    return b.select((x >= 1.0) & (x < _INF), far, b.select(x < 1.0, _NAN, x))


def arctanh(b: Build, x: Value) -> Value:
    size = b.fabs(x)
    below = fast_two_sum(b.const(1.0, "f64"), -size)
    ratio = quotient(b, Pair(size + size, b.const(0.0, "f64")), below)
    result = b.copysign(log1p_pair(b, ratio) * 0.5, x)
    result = b.select(size < 2.0**-28, x, result)
    end = b.select(size.equals(1.0), b.copysign(b.const(_INF, "f64"), x), _NAN)
    return b.select(size < 1.0, result, end)
