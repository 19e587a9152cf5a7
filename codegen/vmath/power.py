"""Powers and roots: pow cbrt hypot.

pow(x, y) = exp(y log|x|) with the logarithm and the product carried to about 2**-66, IEEE 754 special cases by selects.
"""

from __future__ import annotations

from .build import Build, Value
from .double import two_product
from .explog import exp_accurate, log_double

_INF = float("inf")
_NAN = float("nan")


def pow(b: Build, x: Value, y: Value) -> Value:
    size = b.fabs(x)
    log = log_double(b, size)
    hi, lo = two_product(b, y, log.hi)
    lo = b.fma(y, log.lo, lo)
    steep = b.fabs(hi) > 800.0
    result = exp_accurate(b, hi, b.select(steep, b.const(0.0, "f64"), lo))
    result = b.select(hi > 709.79, _INF, b.select(hi < -745.2, 0.0, result))
    result = b.select(hi.unordered() | lo.unordered() & ~steep, _NAN, result)

    # Base zero or infinite: the result is zero or infinite by the sign of y.
    zero, infinite = size.equals(0.0), size.equals(_INF)
    grows = (zero & (y < 0.0)) | (infinite & (y > 0.0))
    result = b.select(zero | infinite, b.select(grows, b.const(_INF, "f64"), 0.0), result)

    # Negative base: only integer exponents are real, odd ones keep the sign.
    whole = b.intrinsic("rint", y).equals(y)
    half = y * 0.5
    odd = whole & ~b.intrinsic("rint", half).equals(half)
    result = b.select((x < 0.0) & ~infinite & ~whole, _NAN, result)
    result = b.select(odd, b.copysign(result, x), result)

    result = b.select(x.unordered() | y.unordered(), _NAN, result)
    # |x| == 1 with infinite y, x == 1 or y == 0 with anything: one.
    one = x.equals(1.0) | y.equals(0.0) | (size.equals(1.0) & b.fabs(y).equals(_INF))
    return b.select(one, 1.0, result)
