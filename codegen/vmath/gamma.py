"""lgamma = log|gamma(x)|, digamma and polygamma_k.

Positive arguments below 6 are shifted by the recurrence to an interval with one polynomial (lgamma: around 2, digamma:
[1, 2] with the root 1.4616... factored out), larger ones use the asymptotic series. Negative arguments are rare: they
go through functions of their own (`gamma_left`).

Accuracy: within 4 ulp, at the roots of lgamma and digamma too. polygamma_k by the reflection formula, which cancels at
its negative roots: there 4 ulp of the larger term for k <= 3, in proportion to k beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb, factorial, log2, pi

from . import gamma_left, tables
from .build import Build, Value
from .double import Pair, fast_two_sum, quotient, two_product, two_sum
from .explog import log, log_sum, normal
from .trig import cos_parts, sin_parts

_INF = float("inf")
_NAN = float("nan")
_PI_LOW = 1.2246467991473532e-16
_HALF_LOG_2PI = 0.9189385332046728
_ROOT, _ROOT_LOW = 1.4616321449683622, 9.549995429965697e-17
_SLOPE_AT_2, _SLOPE_AT_2_LOW = 0.42278433509846713, 4.942915152430645e-18
_LARGE = 6.0


def _sin_cos_pi(b: Build, a: Value) -> tuple[Value, Pair, Pair]:
    """Distance r of |a| < 2**51 from the nearest integer, sin(pi r) and cos(pi r) (sign of r kept)."""
    r = a - b.rint(a)[0]
    size = b.fabs(r)
    far = size > 0.25
    angle = b.select(far, 0.5 - size, size)
    turned, rest = two_product(b, angle, b.const(pi, "f64"))
    reduced = Pair(turned, b.fma(angle, _PI_LOW, rest))
    s, c = fast_two_sum(*sin_parts(b, reduced)), fast_two_sum(*cos_parts(b, reduced))
    sine = Pair(b.select(far, c.hi, s.hi), b.select(far, c.lo, s.lo))
    cosine = Pair(b.select(far, s.hi, c.hi), b.select(far, s.lo, c.lo))
    negative = r < 0.0
    return r, Pair(b.select(negative, -sine.hi, sine.hi), b.select(negative, -sine.lo, sine.lo)), cosine


# -- lgamma ---------------------------------------------------------------------------------------------------------


def _lgamma_right(b: Build, x: Value) -> Value:
    """x >= -1/2. Below 6: t p(t) plus or minus the log of the product that the shift to 2 + t leaves."""
    n, _ = b.rint(b.at_most(x, _LARGE))
    t = x - n
    shift = b.const(1.0, "f64")
    for j in range(1, 5):
        shift = shift * b.select(n > j + 1.5, x - float(j), 1.0)
    low = b.select(n > 0.5, b.fabs(x), b.fabs(x) * (x + 1.0))
    far = x >= _LARGE
    argument, bias = normal(b, b.select(far, x, b.select(n > 1.5, shift, low)))
    hi, lo = fast_two_sum(*log_sum(b, argument, bias))
    # the linear term and the logarithm cancel for x < 2: both are pairs, the rest of the polynomial is small
    linear, linear_low = two_product(b, t, b.const(_SLOPE_AT_2, "f64"))
    inverted = n < 1.5
    total = two_sum(b.select(inverted, -hi, hi), linear)
    rest = b.fma(t * t, b.polynomial(t, tables.LGAMMA), b.fma(t, _SLOPE_AT_2_LOW, linear_low))
    near = total.hi + (rest + (total.lo + b.select(inverted, -lo, lo)))
    inverse = 1.0 / x
    series = b.fma(inverse, b.polynomial(inverse * inverse, tables.STIRLING), _HALF_LOG_2PI - 0.5)
    less = x - 0.5
    large = b.fma(less, hi - 1.0, b.fma(less, lo, series))
    result = b.select(far, large, near)
    return b.select((b.fabs(x) > 0.0) & (x < _INF), result, b.fabs(x) + _INF)


def lgamma(b: Build, x: Value) -> Value:
    left = x < -0.5
    right = _lgamma_right(b, x)
    return b.rare(left, [right], lambda: [b.select(left, b.shared("lgamma.left", x, gamma_left.lgamma), right)])[0]


# -- digamma --------------------------------------------------------------------------------------------------------


def _digamma_right(b: Build, x: Value) -> Value:
    """x > 0. Below 6: the polynomial on [1, 2] plus a sum of reciprocals, kept as one fraction."""
    n = b.at_least(b.rint(b.at_most(x, _LARGE) - 1.5)[0], -1.0)
    y = x - n
    up, down = b.const(0.0, "f64"), b.const(1.0, "f64")
    for i in range(1, 5):
        used = n > i - 0.5
        factor = b.select(used, x - float(i), 1.0)
        up = b.fma(up, factor, b.select(used, down, 0.0))
        down = down * factor
    far, below = x >= _LARGE, n < -0.5
    up = b.select(far, -0.5, b.select(below, -1.0, up))
    down = b.select(far | below, x, down)
    fraction = up / down
    distance, distance_low = fast_two_sum(y - _ROOT, b.const(-_ROOT_LOW, "f64"))
    t = y - 1.5
    linear, linear_low = two_product(b, distance, b.const(tables.DIGAMMA[0], "f64"))
    rest = b.fma(distance_low, tables.DIGAMMA[0], linear_low)
    rest = b.fma(distance * t, b.polynomial(t, tables.DIGAMMA[1:]), rest)
    total = two_sum(linear, fraction)
    near = total.hi + (total.lo + rest)
    w = (fraction * fraction) * 4.0
    large = log(b, x) + b.fma(-w, b.polynomial(w, tables.DIGAMMA_TAIL), fraction)
    near = b.select(x < 2.0**-60, fraction, near)  # -1/x may be infinite, which no pair survives
    return b.select(far, large, near)


def digamma(b: Build, x: Value) -> Value:
    left = x <= 0.0
    right = _digamma_right(b, x)
    return b.rare(left, [right], lambda: [b.select(left, b.shared("digamma.left", x, gamma_left.digamma), right)])[0]


# -- polygamma ------------------------------------------------------------------------------------------------------


def _bernoulli(count: int) -> list[Fraction]:
    numbers: list[Fraction] = []
    for m in range(count):
        numbers.append(Fraction(m == 0) - sum((comb(m, j) * numbers[j] / (m - j + 1) for j in range(m)), Fraction(0)))
    return numbers


def _series(k: int) -> tuple[int, list[Fraction]]:
    """Where the asymptotic series is good to 2**-58, and its coefficients: of w^j, w = 1/x^2, relative to (k-1)!."""
    numbers = _bernoulli(34)
    for start in range(8, 400):
        terms: list[Fraction] = []
        for j in range(1, 17):
            ratio = Fraction(factorial(2 * j + k - 1), factorial(2 * j) * factorial(k - 1))
            terms.append(numbers[2 * j] * ratio)
            if abs(terms[-1]) / start ** (2 * j) < Fraction(1, 2**58):
                return start, terms[:-1]
    raise ValueError(f"polygamma_{k}: no asymptotic series within reach")


def _power(b: Build, x: Pair, exponent: int) -> Value:
    """x**exponent by squaring in pairs: no error grows with the exponent."""
    result: Pair | None = None
    while True:
        if exponent & 1:
            result = x if result is None else _product(b, result, x)
        exponent >>= 1
        if not exponent:
            assert result is not None
            return result.hi + result.lo
        x = _product(b, x, x)


def _product(b: Build, x: Pair, y: Pair) -> Pair:
    """x y without a final renormalisation: the low parts stay small enough here."""
    hi, lo = two_product(b, x.hi, y.hi)
    return Pair(hi, b.fma(x.hi, y.lo, b.fma(x.lo, y.hi, lo)))


def _polygamma_right(b: Build, x: Value, k: int) -> Value:
    """|polygamma_k(x)|, x > 0: k! sum of 1/(x+i)^(k+1) up to the start of the series, then the series."""
    start, terms = _series(k)
    s = k + 1
    # k! = unit^s rest and (k-1)! = scale^k rest: powers of the scaled argument neither overflow nor underflow early
    unit, scale = 2.0 ** round(log2(factorial(k)) / s), 2.0 ** round(log2(factorial(k - 1)) / k)
    rest, rest_series = factorial(k) / unit**s, factorial(k - 1) / scale**k
    one = b.const(1.0, "f64")

    def term(y: Pair) -> Value:
        return _power(b, Pair(y.hi * (1.0 / unit), y.lo * (1.0 / unit)), s)

    def plus_one(y: Pair) -> Pair:
        hi, lo = two_sum(y.hi, one)
        return Pair(hi, lo + y.lo)

    def chosen(mask: Value, yes: Pair, no: Pair) -> Pair:
        return Pair(b.select(mask, yes.hi, no.hi), b.select(mask, yes.lo, no.lo))

    first = Pair(x, b.const(0.0, "f64"))
    active = x < float(start)
    total = b.select(active, rest / term(first), 0.0)
    y = chosen(active, plus_one(first), first)

    def step(values: Sequence[Value]) -> Sequence[Value]:
        y, total = Pair(*values[:2]), values[2]
        after = plus_one(y)
        p, q = term(y), term(after)
        used = y.hi < float(start)
        following = chosen(used, plus_one(after), y)
        return *following, b.select(used, total + (p + q) * rest / (p * q), total)

    hi, lo, total = b.repeat([*y, total], lambda values: values[0] < float(start), step)
    r = 1.0 / hi
    r_low = (b.fma(-r, hi, 1.0) - r * lo) * r
    w = r * r
    bracket = b.polynomial(w, [rest_series * float(t) for t in terms])
    bracket = b.fma(w, bracket, r * (k / 2.0 * rest_series)) + rest_series
    result = b.fma(_power(b, Pair(r * scale, r_low * scale), k), bracket, total)
    return b.select(x.equals(_INF), 0.0, result)


def _cotangent_derivative(k: int) -> list[int]:
    """Coefficients in c = cot(z) of the k-th derivative of cot."""
    p = [0, 1]
    for _ in range(k):
        slope = [i * p[i] for i in range(1, len(p))]
        p = [-u for u in slope] + [0, 0]
        for i, u in enumerate(slope):
            p[i + 2] -= u
    return p


def _polygamma_left(b: Build, inputs: Sequence[Value], k: int) -> list[Value]:
    """x < 0, signed: (-1)^k polygamma_k(1 + a) - pi^(k+1) cot^(k)(pi x), a = -x."""
    x = inputs[0]
    a = b.fabs(x)  # not -x: the summation must end in the other lanes too
    whole = a >= 2.0**51
    r, sine, cosine = _sin_cos_pi(b, b.select(whole, 0.0, a))
    c = quotient(b, cosine, sine)
    # cot^(k) has the parity of k + 1, and x = -a
    factor = -(pi ** (k + 1)) if k % 2 else pi ** (k + 1)
    coefficients = [factor * u for u in _cotangent_derivative(k)]
    slope = [i * u for i, u in enumerate(coefficients)][1:]
    pole = b.fma(c.lo, b.horner(c.hi, slope), b.horner(c.hi, coefficients))
    result = pole - _polygamma_right(b, a + 1.0, k)
    infinite = b.const(_INF if k % 2 else -_INF, "f64")
    return [b.select(r.equals(0.0), infinite, result)]


def polygamma(b: Build, x: Value, k: int) -> Value:
    # the absolute value keeps the summation of the lanes that the reflection replaces finite
    size = _polygamma_right(b, b.fabs(x), k)
    # next to the pole at 0 the first term is all, on both sides
    right = size if k % 2 else b.select(x < 0.0, size, -size)
    left = x < -(2.0**-100)
    return b.rare(left, [right], lambda: [
        b.select(left, b.outlined("left", [x], lambda inner, inputs: _polygamma_left(inner, inputs, k))[0], right)])[0]
