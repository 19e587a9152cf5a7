"""Powers and roots: pow cbrt hypot.

pow(x, y) = exp(y log|x|) with the logarithm and the product carried to about 2**-64, IEEE 754 special cases by selects.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum, root, two_product
from .explog import exp_of_sum, log_double, normal, power_of_two, reduce

_INF = float("inf")
_NAN = float("nan")


def _times_log(b: Build, y: Value, log: Pair) -> Pair:
    hi, lo = two_product(b, y, log.hi)
    return Pair(hi, b.fma(y, log.lo, lo))


def pow_any(b: Build, inputs: Sequence[Value]) -> list[Value]:
    """pow of any two numbers, with the special cases of IEEE 754."""
    x, y = inputs
    size = b.fabs(x)
    hi, lo = _times_log(b, y, log_double(b, *normal(b, size)))
    steep = b.fabs(hi) > 760.0
    clamped = b.at_most(b.at_least(hi, -760.0), 760.0)
    result = exp_of_sum(b, clamped, b.select(steep, 0.0, lo), wide=True)
    result = b.select(hi > 709.79, _INF, b.select(hi < -745.2, 0.0, result))

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
    return [b.select(one, 1.0, result)]


def power(b: Build, x: Value, y: Value) -> Value:
    """Positive normal bases and results in line; every other lane takes its answer from a function of its own."""
    hi, lo = _times_log(b, y, log_double(b, x))
    common = exp_of_sum(b, hi, lo, wide=False)
    rare = ~((x >= 2.0**-1022) & (x < _INF) & (b.fabs(hi) < 690.0))
    return b.rare(rare, [common], lambda: [b.select(rare, b.outlined("any", [x, y], pow_any)[0], common)])[0]


def cbrt(b: Build, x: Value) -> Value:
    """x = 2^(3k) m; r = m^(-1/3) by two cubically convergent steps, y = m r^2, one exact residual at the end."""
    size = b.fabs(x)
    scaled, bias = normal(b, size)
    exponent, f, _ = reduce(b, scaled, bias)
    k, word = b.rint_of_product(exponent, 1.0 / 3.0)
    _, left = b.rint(b.fma(k, -3.0, exponent))
    m = (f + 1.0) * power_of_two(b, left)
    r = b.polynomial(m, tables.CBRT)
    for _ in range(2):
        e = b.fma(-m * r, r * r, 1.0)
        r = b.fma(r * e, b.fma(e, 2.0 / 9.0, 1.0 / 3.0), r)
    y = m * (r * r)
    square, square_low = two_product(b, y, y)
    rest = b.fma(-y, square_low, b.fma(-y, square, m))
    y = b.fma(rest, (r * r) * (1.0 / 3.0), y)
    inside = (size > 0.0) & (size < _INF)
    return b.select(inside, b.copysign(y * power_of_two(b, word), x), x)


def scale_two(b: Build, larger: Value) -> tuple[Value, Value]:
    """A power of two that takes `larger` (and what is below it) clear of overflow and underflow, and its inverse."""
    big, small = larger > 2.0**500, larger < 2.0**-500
    up = b.select(big, b.const(2.0**-600, "f64"), b.select(small, b.const(2.0**600, "f64"), 1.0))
    down = b.select(big, b.const(2.0**600, "f64"), b.select(small, b.const(2.0**-600, "f64"), 1.0))
    return up, down


def hypot(b: Build, x: Value, y: Value) -> Value:
    x, y = b.fabs(x), b.fabs(y)
    swap = x < y
    larger, smaller = b.select(swap, y, x), b.select(swap, x, y)
    up, down = scale_two(b, larger)
    large_hi, large_lo = two_product(b, larger * up, larger * up)
    small_hi, small_lo = two_product(b, smaller * up, smaller * up)
    total = fast_two_sum(large_hi, small_hi)
    result = root(b, Pair(total.hi, total.lo + (large_lo + small_lo))).hi * down
    return b.select(x.equals(_INF) | y.equals(_INF), _INF, result)
