"""Independent values for the vector math functions: mpmath at 200 bits, the error in ulp, and where to look.

`samples` mixes a central interval, every binade of the domain and hard spots (zeros of the function, ends of the
domain, borders between the branches of the implementation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp
from numpy.typing import NDArray

from codegen.vmath.gamma_tables import DIGAMMA_ROOTS, LGAMMA_ROOTS

Array = NDArray[np.floating]
Reference = Callable[..., Any]
_PRECISION = 200
_INF = math.inf


def _guarded(f: Reference, low: float, below: float, high: float = _INF, above: float = _INF) -> Reference:
    """f between low and high, the limits outside (mpmath would run for ever on exp(1e300))."""

    def g(x: Any) -> Any:
        return mp.mpf(below) if x < low else mp.mpf(above) if x > high else f(x)

    return g


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _softplus(x: Any) -> Any:
    return x + mp.log1p(mp.exp(-x)) if x > 0 else mp.log1p(mp.exp(x))


def _log_gamma(x: Any) -> Any:
    """log|gamma(x)| with enough bits for the roots at 1 and 2 and below zero."""
    with mp.workprec(600):
        if x > 0:
            return mp.loggamma(x)
        if x == mp.floor(x):
            return mp.inf
        return mp.log(mp.pi / abs(x * mp.sinpi(x))) - mp.loggamma(-x)


def _digamma(x: Any) -> Any:
    with mp.workprec(600):
        if x < 0 and x == mp.floor(x):
            return mp.nan
        return mp.digamma(x) if abs(x) > mp.mpf(2) ** -300 else -1 / x


def _polygamma(k: int) -> Reference:
    def g(x: Any) -> Any:
        with mp.workprec(400):
            if abs(x) < mp.mpf(2) ** -150:
                return (-1) ** (k + 1) * mp.factorial(k) / x ** (k + 1)
            return mp.polygamma(k, x)

    return g


REFERENCES: dict[str, Reference] = {
    "exp": _guarded(mp.exp, -1e4, 0.0, 1e4), "exp2": _guarded(lambda x: mp.mpf(2) ** x, -1e4, 0.0, 1e4),
    "expm1": _guarded(mp.expm1, -1e4, -1.0, 1e4),
    "log": mp.log, "log2": lambda x: mp.log(x) / mp.log(2), "log10": mp.log10, "log1p": mp.log1p,
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan,
    "arctan2": mp.atan2, "sinh": _guarded(mp.sinh, -1e4, -_INF, 1e4), "cosh": _guarded(mp.cosh, -1e4, _INF, 1e4),
    "tanh": _guarded(mp.tanh, -1e3, -1.0, 1e3, 1.0), "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh,
    "pow": lambda x, y: mp.power(x, y), "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)), "hypot": mp.hypot,
    "erf": _guarded(mp.erf, -30.0, -1.0, 30.0, 1.0), "erfc": _guarded(mp.erfc, -30.0, 2.0, 40.0, 0.0),
    "normcdf": _guarded(lambda x: mp.erfc(-x / mp.sqrt(2)) / 2, -60.0, 0.0, 40.0, 1.0),
    "sigmoid": _guarded(_sigmoid, -1e4, 0.0, 1e4, 1.0),
    "softplus": lambda x: mp.mpf(0) if x < -1e4 else x if x > 1e4 else _softplus(x),
    "lgamma": _log_gamma, "digamma": _digamma,
    **{f"polygamma_{k}": _polygamma(k) for k in (1, 2, 3, 7)},
}


class Domain(NamedTuple):
    """Where to draw samples: the interval of interest, the ends of the domain, spots to surround closely."""

    low: float
    high: float
    least: float = -_INF
    most: float = _INF
    spots: tuple[float, ...] = (0.0,)


_ROOT = 1.4616321449683623
DOMAINS: dict[str, Domain] = {
    "exp": Domain(-746, 710, spots=(0.0, 0.34657, -708.4, 709.78)),
    "exp2": Domain(-1076, 1025, spots=(0.0, 0.5, -1022.0, 1024.0)),
    "expm1": Domain(-50, 710, spots=(0.0, 0.34657, -0.34657, 709.78)),
    "log": Domain(0.5, 2, 5e-324, spots=(1.0, 2.0**0.5, 0.5**0.5)), "log2": Domain(0.5, 2, 5e-324, spots=(1.0, 0.7072)),
    "log10": Domain(0.5, 2, 5e-324, spots=(1.0, 1.4142)), "log1p": Domain(-0.99, 3, -1 + 2**-53, spots=(0.0, 0.4142)),
    "sin": Domain(-30, 30, spots=(math.pi, 1e5 * math.pi, 1e14)), "cos": Domain(-30, 30, spots=(math.pi / 2, 1e14)),
    "tan": Domain(-30, 30, spots=(math.pi / 2, math.pi / 4, 1e14)),
    "arcsin": Domain(-1, 1, -1, 1, (0.5, -0.5, 1 - 2**-20)), "arccos": Domain(-1, 1, -1, 1, (0.5, -0.5, 1 - 2**-20)),
    "arctan": Domain(-5, 5, spots=(0.41421356, 1.0, 2.41421356)),
    "sinh": Domain(-711, 711, spots=(1.0, 710.4758)), "cosh": Domain(-711, 711, spots=(0.0, 0.34657, 710.4758)),
    "tanh": Domain(-20, 20, spots=(0.0, 0.1732, 0.2, 19.06)), "arcsinh": Domain(-3, 3, spots=(0.5, 2.0**500)),
    "arccosh": Domain(1, 5, 1, spots=(1.0, 2.0**500)),
    "arctanh": Domain(-1, 1, -1 + 2**-53, 1 - 2**-53, (0.17, 2**-28)),
    "cbrt": Domain(-30, 30, spots=(1.0, 2.0, 4.0)), "erf": Domain(-6, 6, spots=(1.0, 5.9)),
    "erfc": Domain(-6, 27.3, spots=(0.0, 3.5, 26.5)), "normcdf": Domain(-38.6, 9, spots=(0.0, -37.5)),
    "sigmoid": Domain(-746, 40, spots=(0.0,)), "softplus": Domain(-746, 40, spots=(0.0, -37.0)),
    "lgamma": Domain(-9, 12, -2.0**52, spots=(1.0, 2.0, 0.5, 1.5, 5.99, 6.0)),
    "digamma": Domain(-9, 12, -2.0**52, spots=(_ROOT, 1.0, 2.0, 5.99, 6.0)),
    **{f"polygamma_{k}": Domain(0.01, 20, 5e-324, 1e9, (1.0, 8.0)) for k in (1, 2, 3, 7)},
}


def _binades(rng: np.random.Generator, count: int, domain: Domain, dtype: np.dtype[Any]) -> Array:
    """Numbers of every size and both signs, folded into the domain where the reciprocal helps."""
    info = np.finfo(dtype)
    x = rng.choice([-1.0, 1.0], count) * np.ldexp(
        rng.uniform(0.5, 1, count), rng.integers(info.minexp - info.nmant + 1, info.maxexp, count))
    bad = (x < domain.least) | (x > domain.most)
    with np.errstate(all="ignore"):
        x = np.where(bad, -x if domain.least > -_INF and domain.most == _INF else 1 / x, x)
    return x[(x >= domain.least) & (x <= domain.most) & np.isfinite(x)]


def hard(name: str, count: int) -> list[float]:
    """Numbers next to multiples of pi/2 of all sizes, or next to the negative roots and poles of the gamma family."""
    if name in ("sin", "cos", "tan"):
        with mp.workprec(1200):
            whole = [int(mp.mpf(10) ** mp.mpf(300 * i / count)) for i in range(count)]
            return [s * float(k * mp.pi / 2) for k in whole for s in (1, -1)]
    if name in ("lgamma", "digamma"):
        roots = [row[0] for row in (LGAMMA_ROOTS if name == "lgamma" else DIGAMMA_ROOTS)]
        ends = [math.nextafter(-float(n), side) for n in range(1, 25) for side in (0.0, -30.0)]
        return [*ends, *(math.nextafter(r, side) for r in roots for side in (r, 0.0, -30.0))]
    return []


def samples(name: str, dtype: np.dtype[Any], rng: np.random.Generator, count: int) -> list[Array]:
    """Operand arrays for one function, about `count` long, rounded to the dtype."""
    if name == "pow":
        x = np.abs(_binades(rng, count, Domain(0, 1), dtype))
        near = rng.uniform(0.5, 2, count // 2)
        x[: count // 2] = near
        limit = 0.999 * np.log(float(np.finfo(dtype).max))
        y = rng.uniform(-limit, limit, x.size) / np.log(x.astype(np.float64))
        y[::5] = rng.integers(-4, 5, y[::5].size)
        return [x.astype(dtype), y.astype(dtype)]
    if name in ("arctan2", "hypot"):
        x = _binades(rng, count, Domain(0, 1), dtype)
        x = np.where(np.abs(x) > float(np.finfo(dtype).max) * 2.0**-13, x * 2.0**-13, x)
        y = x * 2.0 ** rng.uniform(-12, 12, x.size)
        y[::3] = rng.permutation(x)[: y[::3].size]
        y, x = y.astype(dtype), x.astype(dtype)
        y[y == 0] = 1.0  # mpmath has no -0.0
        return [y, x]
    domain = DOMAINS[name]
    parts = [rng.uniform(domain.low, domain.high, count // 2), _binades(rng, count // 4, domain, dtype)]
    for spot in domain.spots:
        each = max(4, count // 4 // len(domain.spots))
        offsets = rng.choice([-1.0, 1.0], each) * np.ldexp(rng.uniform(0.5, 1, each), rng.integers(-52, -2, each))
        parts.append(spot + offsets * max(1.0, abs(spot)))
    parts.append(np.array(hard(name, count // 20)))
    x = np.concatenate(parts)
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    return [x[(x >= domain.least) & (x <= domain.most) & np.isfinite(x)]]


def ulp_error(exact: Any, got: float, dtype: np.dtype[Any]) -> float:
    """|got - exact| in units of the last place of the exact value; infinite for a wrong infinity or NaN."""
    info = np.finfo(dtype)
    digits, least = info.nmant + 1, info.minexp - info.nmant
    if mp.isnan(exact) or mp.isinf(exact) or math.isnan(got):
        return 0.0 if (mp.isnan(exact) and math.isnan(got)) or exact == got else _INF
    top = mp.mpf(float(info.max))
    if math.isinf(got):  # right where the exact value rounds to infinity
        half = mp.ldexp(1, info.maxexp - digits - 1)
        if (exact > 0) != (got > 0) or abs(exact) < top - half:
            return _INF
        return 0.0 if abs(exact) >= top + half else 1.0
    if exact == 0:
        return 0.0 if got == 0 else _INF
    exponent = max(int(mp.frexp(exact)[1]) - digits, least)
    return float(mp.ldexp(abs(mp.mpf(got) - exact), -exponent))


def worst_error(name: str, dtype: np.dtype[Any], result: Array, *arguments: Array) -> tuple[float, tuple[float, ...]]:
    """The largest error over the arrays and where it is."""
    worst, place = 0.0, tuple(float(a[0]) for a in arguments)
    reference = REFERENCES[name]
    with mp.workprec(_PRECISION):
        for got, *point in zip(result, *arguments, strict=True):
            error = ulp_error(reference(*(mp.mpf(float(p)) for p in point)), float(got), dtype)
            if error > worst:
                worst, place = error, tuple(float(p) for p in point)
    return worst, place
