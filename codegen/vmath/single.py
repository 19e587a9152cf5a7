"""binary32 versions of the common functions: binary64 inside, with polynomials as short as the result allows.

Every binary32 number is a normal binary64 number far from the ends of the range, and 29 bits are to spare: no
denormals, no overflow, no compensation; the conversion at the end rounds, overflows and underflows. Errors stay below
0.51 ulp. Functions that are not here go through their binary64 body.
"""

from __future__ import annotations

from . import tables
from .build import Build, Value
from .explog import LN2, LOG2_E, LOG10_E, log_ends, power_of_two, reduce
from .power import pow_any
from .trig import FAST_LIMIT, PI_2, TWO_OVER_PI, exact_reduction, flip, is_odd, mixed_coefficients

_INF = float("inf")
_NAN = float("nan")


def _exp_times(b: Build, x: Value) -> tuple[Value, Value]:
    """2**n and p with exp(x) = 2**n (1 + p), |x| < 700."""
    n, word = b.rint_of_product(x, LOG2_E)
    r = b.fma(n, -LN2, x)
    return power_of_two(b, word), b.fma(r * r, b.polynomial(r, tables.SHORT_EXP), r)


def exp(b: Build, x: Value) -> Value:
    scale, p = _exp_times(b, b.at_most(b.at_least(x, -120.0), 120.0))
    return b.fma(scale, p, scale)


def exp2(b: Build, x: Value) -> Value:
    clamped = b.at_most(b.at_least(x, -170.0), 170.0)
    n, word = b.rint(clamped)
    r = clamped - n
    p = r * b.fma(r, b.polynomial(r, tables.SHORT_EXP2), LN2)
    scale = power_of_two(b, word)
    return b.fma(scale, p, scale)


def _expm1(b: Build, x: Value) -> Value:
    n, word = b.rint_of_product(x, LOG2_E)
    r = b.fma(n, -LN2, x)
    p = b.fma(r * r, b.polynomial(r, tables.SHORT_EXPM1), r)
    scale = power_of_two(b, word)
    return b.fma(scale, p, scale - 1.0)


def expm1(b: Build, x: Value) -> Value:
    result = _expm1(b, b.at_most(b.at_least(x, -40.0), 120.0))
    return b.select(x.equals(0.0), x, result)


def tanh(b: Build, x: Value) -> Value:
    e = _expm1(b, b.at_most(b.fabs(x) * 2.0, 40.0))
    return b.copysign(e / (e + 2.0), x)


def sigmoid(b: Build, x: Value) -> Value:
    return 1.0 / (exp(b, -x) + 1.0)


def _log(b: Build, x: Value) -> Value:
    """Natural logarithm of a positive finite number."""
    k, f, _ = reduce(b, x)
    s = f / (f + 2.0)
    z = s * s
    square = (f * 0.5) * f
    low = s * b.fma(z, b.polynomial(z, tables.SHORT_LOG), square)
    return b.fma(k, LN2, f - (square - low))


def log(b: Build, x: Value) -> Value:
    return log_ends(b, x, _log(b, x))


def log2(b: Build, x: Value) -> Value:
    return log_ends(b, x, _log(b, x) * LOG2_E)


def log10(b: Build, x: Value) -> Value:
    return log_ends(b, x, _log(b, x) * LOG10_E)


def _log1p(b: Build, x: Value) -> Value:
    """The rounding of 1 + x matters for small x only, where the correction needs no division by 1 + x."""
    u = x + 1.0
    return _log(b, u) + b.select(x > 1.0, 0.0, x - (u - 1.0))  # a NaN comes through here


def log1p(b: Build, x: Value) -> Value:
    result = b.select(x.equals(0.0), x, _log1p(b, x))
    return log_ends(b, x + 1.0, result)


def softplus(b: Build, x: Value) -> Value:
    scale, p = _exp_times(b, b.at_least(-b.fabs(x), -120.0))
    return b.select(x > 0.0, x, 0.0) + _log1p(b, b.fma(scale, p, scale))


def _reduced(b: Build, size: Value, turns: int = 0) -> tuple[Value, Value]:
    n, word = b.rint_of_product(size, TWO_OVER_PI, turns)
    r = b.fma(n, -PI_2[1], b.fma(n, -PI_2[0], size))

    def exact() -> list[Value]:
        q, remainder = exact_reduction(b, size, word - turns, r)
        return [q + turns, remainder]

    word, r = b.rare(size > FAST_LIMIT, (word, r), exact)
    return word, r


def _sin(b: Build, r: Value) -> Value:
    z = r * r
    return b.fma(z * r, b.polynomial(z, tables.SHORT_SIN), r)


def _cos(b: Build, r: Value) -> Value:
    z = r * r
    return b.fma(z * z, b.polynomial(z, tables.SHORT_COS), b.fma(z, -0.5, 1.0))


def _one_of(b: Build, r: Value, word: Value) -> Value:
    """cos(r) in the odd lanes, sin(r) in the others."""
    z, odd = r * r, is_odd(b, word)
    mixed = mixed_coefficients(b, word, tables.SHORT_COS, tables.SHORT_SIN)
    return b.fma(z * b.select(odd, z, r), b.polynomial(z, mixed), b.select(odd, b.fma(z, -0.5, 1.0), r))


def sin(b: Build, x: Value) -> Value:
    word, r = _reduced(b, b.fabs(x))
    return flip(b, _one_of(b, r, word), word, x)


def cos(b: Build, x: Value) -> Value:
    word, r = _reduced(b, b.fabs(x), turns=1)
    return flip(b, _one_of(b, r, word), word)


def sincos(b: Build, x: Value) -> tuple[Value, Value]:
    word, r = _reduced(b, b.fabs(x))
    odd, s, c = is_odd(b, word), _sin(b, r), _cos(b, r)
    return flip(b, b.select(odd, c, s), word, x), flip(b, b.select(odd, s, c), word + 1)


def tan(b: Build, x: Value) -> Value:
    word, r = _reduced(b, b.fabs(x))
    odd, s, c = is_odd(b, word), _sin(b, r), _cos(b, r)
    return flip(b, b.select(odd, -c, s) / b.select(odd, s, c), b.const(0, "i64"), x)


def power(b: Build, x: Value, y: Value) -> Value:
    """Positive finite bases in line; 2**-35 of |y log x| <= 120 is far below an ulp."""
    exponent = b.at_most(b.at_least(y * _log(b, x), -120.0), 120.0)
    scale, p = _exp_times(b, exponent)
    common = b.fma(scale, p, scale)
    rare = ~((x > 0.0) & (x < _INF) & (b.fabs(y) < _INF))
    return b.rare(rare, [common], lambda: [b.select(rare, b.outlined("any", [x, y], pow_any)[0], common)])[0]
