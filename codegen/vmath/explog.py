"""Exponentials and logarithms: exp exp2 expm1 log log2 log10 log1p, and the cores that other families reuse.

exp: x = n ln(2) + r with |r| <= ln(2)/2, exp(x) = 2^n (1 + r + r^2 p(r)); r is exact up to its last rounding because
n * ln(2)_hi is subtracted in one fma. log: x = 2^k m with m in [sqrt(1/2), sqrt(2)], f = m - 1 exactly,
s = f / (2 + f), log(m) = f - (f^2/2 - s (f^2/2 + s^2 p(s^2))).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import tables
from .build import Build, Value
from .double import Pair, fast_two_sum, two_product, two_sum

LN2, LN2_LOW = 0.6931471805599453, 2.3190468138462996e-17
# ln(2) to 42 bits (k times it is exact for every exponent k) and the rest
LN2_SHORT, LN2_SHORT_REST = float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45")
LOG2_E, LOG2_E_LOW = 1.4426950408889634, 2.0355273740931033e-17
LOG10_E, LOG10_E_LOW = 0.4342944819032518, 1.098319650216765e-17
LOG10_2, LOG10_2_LOW = 0.3010299956639812, -2.8037281277851704e-18

_ONE = 0x3FF0000000000000
_ROOT_HALF = 0x3FE6A09E667F3BCD
_SMALLEST_NORMAL = 2.0**-1022
_INF = float("inf")
_NAN = float("nan")


# -- exp ------------------------------------------------------------------------------------------------------------


def power_of_two(b: Build, word: Value) -> Value:
    """2**n for -1022 <= n <= 1023, n in the low bits of the word that Build.rint gives."""
    return b.float((word << 52) + _ONE)


def exp_sum(b: Build, x: Value, low: Value | None = None) -> tuple[Value, Pair]:
    """exp(x + low) = 2**n (hi + lo) to about 2**-58: the word of n and the pair, where a NaN ends up too."""
    n, word = b.rint_of_product(x, LOG2_E)
    r = b.fma(n, -LN2, x)
    tail = n * -LN2_LOW if low is None else b.fma(n, -LN2_LOW, low)
    reduced = fast_two_sum(r, tail) if low is None else two_sum(r, tail)
    hi, lo = fast_two_sum(b.const(1.0, "f64"), reduced.hi)
    square = reduced.hi * reduced.hi
    return word, Pair(hi, b.fma(square, b.polynomial(reduced.hi, tables.EXP), lo + reduced.lo))


def _times_power(b: Build, x: Value, y: Value, word: Value, low: float, finite: Value) -> Value:
    """y * 2**n; denormal below x = low, infinite (or NaN) where not `finite`.

    n = 1024 with y < 1 is still finite: the exponent is added to the bits of y instead of forming 2**1024.
    """
    small = x < low
    word = b.select(small, word + 64, word)
    result = b.float(b.bits(y) + (word << 52)) * b.select(small, b.const(2.0**-64, "f64"), 1.0)
    return b.select(finite, result, x + _INF)


def exp(b: Build, x: Value) -> Value:
    """Where the result is normal in line; the ends of the range take their answer from a function of their own."""
    n, word = b.rint_of_product(x, LOG2_E)
    r = b.fma(n, -LN2_SHORT_REST, b.fma(n, -LN2_SHORT, x))
    hi = r + 1.0
    y = hi + b.fma(r * r, b.polynomial(r, tables.EXP), r - (hi - 1.0))
    common = b.float(b.bits(y) + (word << 52))
    rare = b.compare("ugt", "sgt", b.fabs(x), 708.0)
    return b.rare(rare, [common], lambda: [b.select(rare, b.outlined("ends", [x], _exp_ends)[0], common)])[0]


def _exp_ends(b: Build, inputs: Sequence[Value]) -> list[Value]:
    """exp of any number."""
    x = inputs[0]
    clamped = b.at_least(x, -746.0)
    n, word = b.rint_of_product(clamped, LOG2_E)
    r = b.fma(n, -LN2_LOW, b.fma(n, -LN2, clamped))
    hi = r + 1.0
    y = hi + b.fma(r * r, b.polynomial(r, tables.EXP), r - (hi - 1.0))
    return [_times_power(b, x, y, word, -708.0, x <= 709.782712893384)]


def exp_of_sum(b: Build, x: Value, low: Value, wide: bool) -> Value:
    """exp(x + low), |x| <= 700 or (wide) up to 760, where overflow and underflow are met."""
    n, word = b.rint_of_product(x, LOG2_E)
    first, second = b.fma(n, -LN2, x), b.fma(n, -LN2_LOW, low)
    r = first + second
    hi = r + 1.0
    rest = (second - (r - first)) + (r - (hi - 1.0))
    y = hi + b.fma(r * r, b.polynomial(r, tables.EXP), rest)
    if not wide:
        return b.float(b.bits(y) + (word << 52))
    big, small = x > 690.0, x < -690.0
    shift = b.select(big, b.const(-64, "i64"), b.select(small, b.const(64, "i64"), 0))
    back = b.select(big, b.const(2.0**64, "f64"), b.select(small, b.const(2.0**-64, "f64"), 1.0))
    return b.float(b.bits(y) + ((word + shift) << 52)) * back


def exp2(b: Build, x: Value) -> Value:
    clamped = b.at_least(x, -1080.0)
    n, word = b.rint(clamped)
    r = clamped - n
    tail = b.fma(r, b.polynomial(r, tables.EXP2), LN2_LOW)
    y = b.fma(r, LN2, r * tail) + 1.0
    return _times_power(b, x, y, word, -1020.0, x < 1024.0)


def expm1(b: Build, x: Value) -> Value:
    clamped = b.at_least(x, -45.0)
    n, word = b.rint_of_product(clamped, LOG2_E)
    r = b.fma(n, -LN2_LOW, b.fma(n, -LN2, clamped))
    p = b.fma(r * r, b.polynomial(r, tables.EXPM1), r)
    half = power_of_two(b, word - 1)  # 2**(n-1): n reaches 1024
    result = b.fma(half, p, half - 0.5) * 2.0
    result = b.select(b.fabs(x) < 2.0**-54, x, result)
    return b.select(x <= 709.782712893384, result, x + _INF)


# -- log ------------------------------------------------------------------------------------------------------------


class Reduced(NamedTuple):
    """x = 2**k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)]; exponent holds k + 1023 in its low bits."""

    k: Value
    f: Value
    exponent: Value


def reduce(b: Build, x: Value, bias: Value | float = 1023.0) -> Reduced:
    """Split a positive normal number; `bias` is subtracted from the stored exponent."""
    shifted = b.bits(x) + (_ONE - _ROOT_HALF)
    exponent = shifted >> 52
    offset = 2.0**52 + bias if isinstance(bias, float) else bias + 2.0**52
    k = b.float(exponent | 0x4330000000000000) - offset
    m = b.float((shifted & 0x000FFFFFFFFFFFFF) + _ROOT_HALF)
    return Reduced(k, m - 1.0, exponent)


def log1p_sum(b: Build, f: Value) -> Pair:
    """log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)], relative error about 2**-57; lo is not small against hi's ulp."""
    half = f * 0.5
    square = half * f
    square_low = b.fma(half, f, -square)
    s = f / (f + 2.0)
    z = s * s
    inner = b.fma(z, b.polynomial(z, tables.LOG), square)
    hi = f - square
    lo = ((f - hi) - square) - square_low
    return Pair(hi, b.fma(s, inner, lo))


def normal(b: Build, x: Value) -> tuple[Value, Value]:
    """x with denormals scaled up by 2**54, and the bias that undoes the scaling."""
    tiny = x < _SMALLEST_NORMAL
    return b.select(tiny, x * 2.0**54, x), b.select(tiny, b.const(1077.0, "f64"), 1023.0)


def log_ends(b: Build, x: Value, result: Value) -> Value:
    """The answers of every logarithm at 0, infinity, NaN and negative numbers."""
    # nested selects: LLVM turns a test of both ends into slower integer classification
    end = b.select(x.equals(0.0), b.const(-_INF, "f64"), _NAN)
    return b.select(x < _INF, b.select(x > 0.0, result, end), x)


def log_sum(b: Build, x: Value, bias: Value | float = 1023.0) -> Pair:
    """log(x) of a positive normal number as hi + lo, relative error about 2**-57."""
    k, f, _ = reduce(b, x, bias)
    hi, lo = log1p_sum(b, f)
    total = fast_two_sum(k * LN2, hi)
    # k ln2_hi is rounded: its error is below 2**-53 of k, so it goes into the low part.
    rounding = b.fma(k, LN2, -(k * LN2))
    return Pair(total.hi, total.lo + (lo + b.fma(k, LN2_LOW, rounding)))


def log(b: Build, x: Value) -> Value:
    """Positive normal numbers in line; every other lane takes its answer from a function of its own."""
    common = _log_of_normal(b, x, 1023.0)
    rare = ~((x >= _SMALLEST_NORMAL) & (x < _INF))
    return b.rare(rare, [common], lambda: [b.select(rare, b.outlined("ends", [x], _log_of_any)[0], common)])[0]


def _log_of_any(b: Build, inputs: Sequence[Value]) -> list[Value]:
    return [log_ends(b, inputs[0], _log_of_normal(b, *normal(b, inputs[0])))]


def _log_of_normal(b: Build, scaled_x: Value, bias: Value | float) -> Value:
    k, f, _ = reduce(b, scaled_x, bias)
    s = f / (f + 2.0)
    z = s * s
    square = (f * 0.5) * f
    inner = b.fma(z, b.polynomial(z, tables.LOG), square)
    low = b.fma(s, inner, k * LN2_LOW)
    return b.fma(k, LN2, f - (square - low))


def _log_base(b: Build, x: Value, factor: float, factor_low: float, unit: float, unit_low: float) -> Value:
    """log(m) * factor + k * unit, with log(m) carried as a pair."""
    scaled_x, bias = normal(b, x)
    k, f, _ = reduce(b, scaled_x, bias)
    hi, lo = fast_two_sum(*log1p_sum(b, f))
    high, rest = two_product(b, hi, b.const(factor, "f64"))
    rest = b.fma(hi, factor_low, b.fma(lo, factor, rest))
    whole, below = (k, None) if unit_low == 0.0 else two_product(b, k, b.const(unit, "f64"))
    total = fast_two_sum(whole, high)
    low = total.lo + rest
    if below is not None:
        low = low + b.fma(k, unit_low, below)
    return log_ends(b, x, total.hi + low)


def log2(b: Build, x: Value) -> Value:
    return _log_base(b, x, LOG2_E, LOG2_E_LOW, 1.0, 0.0)


def log10(b: Build, x: Value) -> Value:
    return _log_base(b, x, LOG10_E, LOG10_E_LOW, LOG10_2, LOG10_2_LOW)


def log_pair(b: Build, x: Pair, bias: Value | float = 1023.0) -> Value:
    """log(hi + lo) for hi normal, positive and finite and any lo up to a few ulp of hi."""
    k, f, exponent = reduce(b, x.hi, bias)
    # lo * 2**-k / (1 + f): lo is so small that a quadratic for 1 / (1 + f) is enough.
    inverse = b.float((b.const(2046, "i64") - exponent) << 52)
    correction = b.select(x.hi < 2.0**70, x.lo * inverse * b.horner(f, (1.0, -1.0, 0.8)), 0.0)
    square = (f * 0.5) * f
    s = f / (f + 2.0)
    z = s * s
    inner = b.fma(z, b.polynomial(z, tables.LOG), square)
    low = b.fma(s, inner, b.fma(k, LN2_LOW, correction))
    return b.fma(k, LN2, f - (square - low))


def log1p_pair(b: Build, x: Pair) -> Value:
    """log(1 + hi + lo), for 1 + hi positive, normal and finite."""
    u, rest = two_sum(b.const(1.0, "f64"), x.hi)
    return log_pair(b, Pair(u, rest + x.lo))


def log1p(b: Build, x: Value) -> Value:
    result = log1p_pair(b, Pair(x, b.const(0.0, "f64")))
    result = b.select(b.fabs(x) < 2.0**-54, x, result)
    end = b.select(x.equals(-1.0), b.const(-_INF, "f64"), _NAN)
    return b.select(x < _INF, b.select(x > -1.0, result, end), x)


def log_double(b: Build, x: Value, bias: Value | float = 1023.0) -> Pair:
    """log of a positive normal number to about 2**-64 relative: what pow needs. lo may exceed half an ulp of hi.

    2s and 2/3 s^3 are carried as sums of two parts; the rest of the series is below 2**-12 of the result.
    """
    k, f, _ = reduce(b, x, bias)
    below = f + 2.0
    inverse = 1.0 / below
    s = f * inverse
    rest = b.fma(-s, f - (below - 2.0), b.fma(-s, below, f))
    s_low = rest * inverse
    z = s * s
    z_low = b.fma(s + s, s_low, b.fma(s, s, -z))
    tail = z * b.polynomial(z, tables.LOG_TAIL)
    third, third_low = fast_two_sum(b.const(2.0 / 3.0, "f64"), tail)
    cube = s * z
    cube_low = b.fma(s, z_low, b.fma(s_low, z, b.fma(s, z, -cube)))
    cubic = cube * third
    cubic_low = b.fma(cube, third_low + 3.700743415417188e-17, b.fma(cube_low, third, b.fma(cube, third, -cubic)))
    hi, lo = fast_two_sum(s + s, cubic)
    lo = lo + b.fma(s_low, 2.0, cubic_low)
    total = fast_two_sum(k * LN2_SHORT, hi)
    return Pair(total.hi, total.lo + b.fma(k, LN2_SHORT_REST, lo))
