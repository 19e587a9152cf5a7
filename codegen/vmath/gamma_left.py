"""lgamma and digamma of negative numbers, right near their roots too.

Between two poles lgamma has two roots from -2 on, digamma has one. There the terms of every formula cancel, so all is
carried as pairs:

* lgamma(x), x > -20: lgamma(2 + t) - log|x (x+1) .. (1+t)|, the shifts being exact; further left
  -log(a |sin(pi a)| / pi) - lgamma(a), a = -x. The roots come so close to the poles that beyond -10 no number between
  root and pole is left; nearer roots are tabulated, with a series for arguments next to them.
* digamma(x) = digamma(1 + a) + pi cot(pi a), to about 2**-100; next to the first roots, which are tabulated, a series.

These functions are rare: they are cold functions of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import gamma_tables as tables
from .build import Build, Value
from .double import (
    Pair,
    chosen,
    constant,
    fast_two_sum,
    negative,
    plus,
    quotient,
    series,
    times,
    two_product,
    two_sum,
)
from .explog import LN2_SHORT, log_double, reduce

_INF = float("inf")
_NAN = float("nan")
_HALF_LOG_2PI = (0.9189385332046728, -3.878294158067242e-17)
_FAR = 20.0
_SERIES_FROM = 24.0


def _trigonometry(b: Build, a: Value) -> tuple[Value, Pair, Pair]:
    """Distance r of a from the nearest integer, sin(pi r) and cos(pi r) (sign of r kept) as pairs."""
    r = a - b.intrinsic("rint", a)
    size = b.fabs(r)
    far = size > 0.25
    angle = times(b, constant(b, tables.PI), Pair(b.select(far, 0.5 - size, size), b.const(0.0, "f64")))
    square = times(b, angle, angle)
    s = times(b, angle, series(b, square, tables.SINE, tables.SINE_REST))
    c = series(b, square, tables.COSINE, tables.COSINE_REST)
    sine, cosine = chosen(b, far, c, s), chosen(b, far, s, c)
    return r, chosen(b, r < 0.0, negative(sine), sine), cosine


def _near(b: Build, x: Value, roots: Sequence[tuple[float, ...]]) -> tuple[Value, Value]:
    """Which lanes lie next to a tabulated root, and the value of the series about it.

    A row of the table: the root as a pair, the radius of its series, and the coefficients.
    """
    found = b.const(False, "i1")
    row = [b.const(c, "f64") for c in roots[0]]
    for root in roots:
        here = b.fabs(x - root[0]) < root[2]
        found = found | here
        row = [b.select(here, b.const(new, "f64"), old) for new, old in zip(root, row, strict=True)]
    t = (x - row[0]) - row[1]
    value = row[-1]
    for c in reversed(row[3:-1]):
        value = b.fma(t, value, c)
    return found, value * t


# -- lgamma ---------------------------------------------------------------------------------------------------------


def _log_of(b: Build, x: Pair) -> Pair:
    """log of a positive pair to about 2**-64."""
    hi, lo = fast_two_sum(*log_double(b, x.hi))
    return Pair(hi, lo + x.lo / x.hi)


def _by_shifts(b: Build, x: Value) -> Value:
    """-20 < x < -1/2; other lanes get some number."""
    start = b.select((x > -_FAR) & (x < 1.5), x, 1.5)
    zero, one = b.const(0.0, "f64"), b.const(1.0, "f64")

    def shift(values: Sequence[Value]) -> Sequence[Value]:
        y, hi, lo = values
        product, rest = two_product(b, hi, y)
        following = fast_two_sum(product, b.fma(lo, y, rest))
        on = y < 1.5
        return b.select(on, y + 1.0, y), b.select(on, following.hi, hi), b.select(on, following.lo, lo)

    y, hi, lo = b.repeat([start, one, zero], lambda values: values[0] < 1.5, shift)
    minus = hi < 0.0
    log = _log_of(b, chosen(b, minus, Pair(-hi, -lo), Pair(hi, lo)))
    t = Pair(y - 2.0, zero)
    value = times(b, t, series(b, t, tables.LGAMMA, tables.LGAMMA_REST))
    return sum_of(plus(b, value, negative(log)))


def _by_reflection(b: Build, x: Value) -> Value:
    a = b.select(x <= -_FAR, -x, _FAR)
    _, sine, _ = _trigonometry(b, b.select(a < _INF, a, 0.5))
    sine = chosen(b, sine.hi < 0.0, negative(sine), sine)
    scaled = times(b, times(b, sine, constant(b, tables.ONE_OVER_PI)), Pair(a, b.const(0.0, "f64")))
    reflected = _log_of(b, scaled)
    log = fast_two_sum(*log_double(b, a))
    less = two_sum(log.hi, b.const(-1.0, "f64"))
    inverse = 1.0 / a
    tail = inverse * b.horner(inverse * inverse, tables.STIRLING)
    total = times(b, Pair(a - 0.5, b.const(0.0, "f64")), Pair(less.hi, less.lo + log.lo))
    total = plus(b, total, Pair(b.const(_HALF_LOG_2PI[0] - 0.5, "f64"), tail))
    return -sum_of(plus(b, total, reflected))


def sum_of(x: Pair) -> Value:
    return x.hi + x.lo


def lgamma(b: Build, inputs: Sequence[Value]) -> list[Value]:
    """x < -1/2; infinite at the integers."""
    x = inputs[0]
    result = b.select(x > -_FAR, _by_shifts(b, x), _by_reflection(b, x))
    near, value = _near(b, x, tables.LGAMMA_ROOTS)
    result = b.select(near, value, result)
    whole = b.intrinsic("rint", x).equals(x)
    return [b.select(x.unordered(), x, b.select(whole, _INF, result))]


# -- digamma --------------------------------------------------------------------------------------------------------


def _log_to_the_end(b: Build, x: Pair) -> Pair:
    """log of a pair from 1 to 2**60, to about 2**-102."""
    k, f, exponent = reduce(b, x.hi)
    low = x.lo * b.float((b.const(2046, "i64") - exponent) << 52)
    top = two_sum(f, low)
    below = two_sum(f, b.const(2.0, "f64"))
    s = quotient(b, top, Pair(below.hi, below.lo + low))
    square = times(b, s, s)
    value = times(b, s, series(b, square, tables.ATANH, tables.ATANH_REST))
    second = two_product(b, k, b.const(tables.LN2[1], "f64"))
    low_part = fast_two_sum(second.hi, b.fma(k, tables.LN2[2], second.lo))
    return plus(b, Pair(k * LN2_SHORT, b.const(0.0, "f64")), plus(b, value, low_part))


def _digamma_of_next(b: Build, a: Value) -> Pair:
    """digamma(1 + a), 0 < a < 2**52: shifted to `_SERIES_FROM`, the sum of reciprocals kept as one fraction."""
    zero, one = b.const(0.0, "f64"), b.const(1.0, "f64")

    def shift(values: Sequence[Value]) -> Sequence[Value]:
        y, up, down = (Pair(*values[i : i + 2]) for i in (0, 2, 4))
        on = y.hi < _SERIES_FROM
        following = two_sum(y.hi, one)
        new = (Pair(following.hi, following.lo + y.lo), plus(b, times(b, up, y), down), times(b, down, y))
        return [part for old, new_ in zip((y, up, down), new, strict=True) for part in chosen(b, on, new_, old)]

    y0, y1, u0, u1, d0, d1 = b.repeat(
        [*two_sum(a, one), zero, zero, one, zero], lambda values: values[0] < _SERIES_FROM, shift
    )
    y = Pair(y0, y1)
    inverse = quotient(b, Pair(one, zero), y)
    tail = series(b, times(b, inverse, inverse), tables.PSI, tables.PSI_REST)
    value = plus(b, _log_to_the_end(b, y), negative(times(b, inverse, plus(b, Pair(b.const(0.5, "f64"), zero), times(
        b, inverse, tail)))))  # fmt: skip
    return plus(b, value, negative(quotient(b, Pair(u0, u1), Pair(d0, d1))))


def digamma(b: Build, inputs: Sequence[Value]) -> list[Value]:
    """x <= 0; no value at the negative integers."""
    x = inputs[0]
    a = b.fabs(x)  # not -x: the summation must end in the other lanes too
    inside = (a < _INF) & (a > 2.0**-60)
    own = b.select(inside, a, 0.5)
    r, sine, cosine = _trigonometry(b, own)
    cotangent = times(b, quotient(b, cosine, sine), constant(b, tables.PI))
    result = sum_of(plus(b, _digamma_of_next(b, own), cotangent))
    near, value = _near(b, x, tables.DIGAMMA_ROOTS)
    result = b.select(near, value, result)
    result = b.select(r.equals(0.0) | a.equals(_INF), _NAN, result)
    return [b.select(a <= 2.0**-60, -1.0 / x, result)]
