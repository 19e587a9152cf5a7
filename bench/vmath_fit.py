"""Fit the polynomials of codegen/vmath and write codegen/vmath/tables.py.

Each entry of FITS names a smooth function g, an interval, a degree and a weight: the polynomial p minimises the
largest |weight * (g - p)| (Remez exchange in 60-digit arithmetic), then its coefficients are rounded to binary64.
The weight is chosen so that the error counts relative to the final result. Run: python bench/vmath_fit.py
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp

mp.mp.dps = 60
Real = Any  # mpmath ships no types
Function = Callable[[Real], Real]


class Fit(NamedTuple):
    """What to approximate, where, how well, and the sentence that goes into the table."""

    g: Function
    low: Real
    high: Real
    degree: int
    weight: Function
    about: str


def remez(fit: Fit, rounds: int = 15) -> tuple[list[float], float]:
    """Coefficients (lowest first) and the largest weighted error before rounding."""
    low, high, count = mp.mpf(fit.low), mp.mpf(fit.high), fit.degree + 2
    cells = 16 * count
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + mp.mpf(1) / 3) / cells) for i in range(cells)]
    values, weights = [fit.g(x) for x in grid], [fit.weight(x) for x in grid]
    nodes = [int((2 * i + 1) * cells / (2 * count)) for i in range(count)]
    coefficients: list[Real] = []
    worst = mp.inf
    for _ in range(rounds):
        system, right = mp.matrix(count, count), mp.matrix(count, 1)
        for i, node in enumerate(nodes):
            for j in range(fit.degree + 1):
                system[i, j] = weights[node] * grid[node] ** j
            system[i, fit.degree + 1], right[i] = (-1) ** i, weights[node] * values[node]
        solved = mp.lu_solve(system, right)
        coefficients, level = [solved[j] for j in range(fit.degree + 1)], abs(solved[fit.degree + 1])
        error = [w * (v - mp.polyval(coefficients[::-1], x)) for x, v, w in zip(grid, values, weights, strict=True)]
        worst = max(abs(e) for e in error)
        peaks: list[int] = []
        for i, e in enumerate(error):
            if not peaks or (e >= 0) != (error[peaks[-1]] >= 0):
                peaks.append(i)
            elif abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = i
        while len(peaks) > count:
            peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
        if len(peaks) < count or worst < level * mp.mpf("1.01"):
            break
        nodes = peaks
    return [float(c) for c in coefficients], float(worst)


def in_square(f: Function) -> Function:
    """g(z) = f(sqrt(z)), with more digits because the fs below cancel near zero."""

    def g(z: Real) -> Real:
        with mp.workdps(160):
            return f(mp.sqrt(z))

    return g


def careful(f: Function) -> Function:
    def g(x: Real) -> Real:
        with mp.workdps(160):
            return f(x)

    return g


LN2 = mp.log(2)
HALF = LN2 / 2 * mp.mpf("1.0005")
QUARTER = mp.pi / 4 * mp.mpf("1.01")
LOG_S = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.0001")) ** 2

def odd(f: Function, high: Real, degree: int, about: str) -> Fit:
    """f(x) = x + x^3 p(x^2) on |x| <= high, error relative to x."""
    return Fit(in_square(lambda x: (f(x) - x) / x**3), 0, mp.mpf(high) ** 2, degree, lambda z: z, about)


ERFC_CENTRE = mp.mpf("3.5")


def erfcx_factor(t: Real) -> Real:
    """(1 + 2a) exp(a^2) erfc(a) with t = (a - 3.5) / (a + 3.5)."""
    a = ERFC_CENTRE * (1 + t) / (1 - t)
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


def stirling(w: Real) -> Real:
    """x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2) with w = 1/x^2."""
    if w < mp.mpf("1e-12"):
        return mp.mpf(1) / 12 - w / 360
    x = 1 / mp.sqrt(w)
    with mp.workdps(80):
        return x * (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


def digamma_tail(w: Real) -> Real:
    """x^2 (log(x) - 1/(2x) - digamma(x)) with w = 1/x^2."""
    if w < mp.mpf("1e-12"):
        return mp.mpf(1) / 12 - w / 120
    x = 1 / mp.sqrt(w)
    with mp.workdps(80):
        return x * x * (mp.log(x) - 1 / (2 * x) - mp.digamma(x))


DIGAMMA_ROOT = mp.findroot(mp.digamma, mp.mpf("1.4616"))


def near(f: Function, slope: Function) -> Function:
    """f, or slope where f would divide zero by zero."""

    def g(t: Real) -> Real:
        return slope(t) if abs(t) < mp.mpf("1e-25") else f(t)

    return g


FITS = {
    "EXP": Fit(careful(lambda x: (mp.expm1(x) - x) / x**2), -HALF, HALF, 9, lambda x: x**2,
               "exp(r) = 1 + r + r^2 p(r), |r| <= ln(2)/2"),
    "EXPM1": Fit(careful(lambda x: (mp.expm1(x) - x) / x**2), -HALF, HALF, 10, lambda x: abs(x) + mp.mpf("1e-3"),
                 "expm1(r) = r + r^2 p(r), |r| <= ln(2)/2"),
    "EXP2": Fit(careful(lambda x: (mp.expm1(x * LN2) - x * LN2) / x**2), -0.5001, 0.5001, 9, lambda x: x**2,
                "2^r = 1 + r ln(2) + r^2 p(r), |r| <= 1/2"),
    "LOG": Fit(in_square(lambda s: (mp.log((1 + s) / (1 - s)) - 2 * s) / s**3), 0, LOG_S, 6, lambda z: z,
               "log((1+s)/(1-s)) = 2s + s^3 p(s^2), |s| <= 0.1716"),
    "LOG_TAIL": Fit(in_square(lambda s: (mp.log((1 + s) / (1 - s)) - 2 * s - 2 * s**3 / 3) / s**5), 0, LOG_S, 7,
                    lambda z: z * z, "log((1+s)/(1-s)) = 2s + 2/3 s^3 + s^5 p(s^2), |s| <= 0.1716, to 2^-70"),
    "SIN": Fit(in_square(lambda x: (mp.sin(x) - x) / x**3), 0, QUARTER**2, 5, lambda z: z,
               "sin(r) = r + r^3 p(r^2), |r| <= pi/4"),
    "COS": Fit(in_square(lambda x: (mp.cos(x) - 1 + x * x / 2) / x**4), 0, QUARTER**2, 5, lambda z: z * z,
               "cos(r) = 1 - r^2/2 + r^4 p(r^2), |r| <= pi/4"),
    "COTH": Fit(in_square(lambda x: (x * mp.coth(x) - 1) / x**2), mp.mpf("1e-40"), (HALF / 2) ** 2, 4, lambda z: z,
                "r coth(r) = 1 + r^2 p(r^2), |r| <= ln(2)/4"),
    "SINH": odd(mp.sinh, 1.001, 6, "sinh(x) = x + x^3 p(x^2), |x| <= 1"),
    "ASINH": odd(mp.asinh, 0.5, 11, "arcsinh(x) = x + x^3 p(x^2), |x| <= 1/2"),
    "ASIN": odd(mp.asin, 0.5, 12, "arcsin(x) = x + x^3 p(x^2), |x| <= 1/2"),
    "ATAN": odd(mp.atan, mp.tan(mp.pi / 8) * mp.mpf("1.001"), 10, "arctan(x) = x + x^3 p(x^2), |x| <= tan(pi/8)"),
    "CBRT": Fit(lambda m: m ** (-mp.mpf(1) / 3), 0.3535, 2.8285, 5, lambda m: m ** (mp.mpf(1) / 3),
                "m^(-1/3) roughly, 2^-1.5 <= m <= 2^1.5: the start of the iteration"),
    "ERF": Fit(in_square(lambda x: mp.erf(x) / x - 1), mp.mpf("1e-40"), 1, 11, lambda z: mp.mpf(1),
               "erf(x) = x + x p(x^2), |x| <= 1"),
    "ERFC": Fit(careful(erfcx_factor), -1, mp.mpf("0.7735"), 23, lambda t: 1 / erfcx_factor(t),
                "(1 + 2a) exp(a^2) erfc(a) = p((a - 3.5)/(a + 3.5)), 0 <= a <= 27.4"),
    "ERFC_SLOPE": Fit(lambda t: mp.diff(erfcx_factor, t, h=mp.mpf("1e-15")), mp.mpf("-0.9999"), mp.mpf("0.7735"), 4,
                      lambda t: mp.mpf(1), "derivative of the above, roughly: it multiplies the low half of t only"),
    "LGAMMA": Fit(near(careful(lambda t: (mp.loggamma(2 + t) - (1 - mp.euler) * t) / t**2),
                       lambda t: mp.zeta(2, 2) / 2), -0.5, 0.5, 17, abs,
                  "lgamma(2 + t) = (1 - gamma) t + t^2 p(t), |t| <= 1/2"),
    "STIRLING": Fit(stirling, 0, mp.mpf(1) / 36, 6, lambda w: mp.mpf(1),
                    "lgamma(x) = (x - 1/2) log(x) - x + log(2 pi)/2 + p(1/x^2)/x, x >= 6"),
    "DIGAMMA": Fit(near(careful(lambda t: mp.digamma(t + 1.5) / (t + 1.5 - DIGAMMA_ROOT)), lambda t: mp.mpf("0.9674")),
                   -0.5, 0.5, 22, lambda t: mp.mpf(1), "digamma(t + 3/2) = (t + 3/2 - root) p(t), |t| <= 1/2"),
    "DIGAMMA_TAIL": Fit(digamma_tail, 0, mp.mpf(1) / 36, 6, lambda w: mp.mpf(1),
                        "digamma(x) = log(x) - 1/(2x) - p(1/x^2)/x^2, x >= 6"),
}
ALL_FITS: dict[str, Fit] = FITS | {  # the same functions to about 2^-35, for results in binary32
    f"SHORT_{name}": FITS[name]._replace(degree=degree)
    for name, degree in {"EXP": 5, "EXPM1": 6, "EXP2": 5, "LOG": 3, "SIN": 3, "COS": 3}.items()
}


def table(name: str, fit: Fit) -> str:
    coefficients, error = remez(fit)
    rows = "".join(f"    {c!r},\n" for c in coefficients)
    bits = float(mp.log(error, 2))
    print(f"{name:20} degree {fit.degree:2}  weighted error 2^{bits:.1f}")
    return f"# {fit.about}. Weighted error 2^{bits:.1f}.\n{name} = (\n{rows})\n"


HEADER = '''"""Polynomial coefficients of the vector math functions, lowest order first.

Each set is the weighted minimax polynomial of the function named above it (Remez exchange, 60 digits), rounded to
binary64. Written by bench/vmath_fit.py; edit the fits there, not this file.
"""

'''


# -- what pairs need: numbers as two floats, series to 2^-104, roots ---------------------------------------------------


def pair(x: Real, parts: int = 2) -> tuple[float, ...]:
    """x as the sum of floats."""
    made: list[float] = []
    for _ in range(parts):
        made.append(float(x - mp.fsum(map(mp.mpf, made))))
    return tuple(made)


def bisected(f: Function, low: Real, high: Real) -> Real:
    rising = f(high) > 0
    for _ in range(320):
        middle = (low + high) / 2
        low, high = (low, middle) if (f(middle) > 0) == rising else (middle, high)
    return (low + high) / 2


def lgamma_roots() -> list[tuple[float, ...]]:
    """Roots of lgamma from -2 to -10, as far as numbers lie between them and the poles: root, radius, Taylor series."""
    rows: list[tuple[float, ...]] = []
    for n in range(3, 11):
        for low in (mp.mpf(-n), mp.mpf(-n) + mp.mpf(1) / 2):
            f = lambda x: mp.log(abs(mp.gamma(x)))  # noqa: E731
            tiny = mp.mpf(10) ** -25
            root = bisected(f, low + tiny, low + mp.mpf(1) / 2 - tiny)
            radius = mp.mpf(2) ** mp.floor(mp.log(abs(root - mp.nint(root)), 2) - 11)
            taylor = [mp.polygamma(k - 1, root) / mp.factorial(k) for k in range(1, 7)]
            rows.append((*pair(root), float(radius), *map(float, taylor)))
    return rows


def digamma_roots() -> list[tuple[float, ...]]:
    """The roots of digamma from 0 to -17, a small radius, and the Taylor series."""
    rows: list[tuple[float, ...]] = []
    for n in range(17):
        tiny = mp.mpf(10) ** -25
        root = bisected(mp.digamma, mp.mpf(-n - 1) + tiny, mp.mpf(-n) - tiny)
        taylor = [mp.polygamma(k, root) / mp.factorial(k) for k in range(1, 5)]
        rows.append((*pair(root), 2.0**-18, *map(float, taylor)))
    return rows


def pairs_text() -> str:
    def row(name: str, values: Sequence[object], about: str) -> str:
        body = "".join(textwrap.fill(f"{v!r},", 116, initial_indent="    ", subsequent_indent="     ") + "\n"
                       for v in values)  # fmt: skip
        return f"# {about}\n{name} = (\n{body})\n"

    def split(name: str, terms: list[Real], exact: int, about: str) -> list[str]:
        return [row(name, [pair(t) for t in terms[:exact]], about),
                row(f"{name}_REST", [float(t) for t in terms[exact:]], "The rest of it, where floats are enough.")]

    with mp.workdps(110):
        short = mp.mpf(float.fromhex("0x1.62e42fefa3800p-1"))
        lgamma = Fit(near(careful(lambda t: (mp.loggamma(2 + t) - mp.fsum(c * t ** (k + 1) for k, c in enumerate(LEAD)))
                                  / t**6), lambda t: LEAD_NEXT), -0.51, 0.51, 16, lambda t: mp.mpf(1), "")
        rest, _ = remez(lgamma)
        parts = [
            f"PI = {pair(mp.pi)}\nONE_OVER_PI = {pair(1 / mp.pi)}\n",
            "# ln(2) to 42 bits, and two more floats\n" + f"LN2 = {(float(short), *pair(mp.log(2) - short))}\n",
            *split("SINE", [(-1) ** k / mp.factorial(2 * k + 1) for k in range(15)], 8, "sin(r) / r in r^2"),
            *split("COSINE", [(-1) ** k / mp.factorial(2 * k) for k in range(16)], 9, "cos(r) in r^2"),
            *split("ATANH", [mp.mpf(2) / (2 * k + 1) for k in range(22)], 11, "log((1 + s)/(1 - s)) / s in s^2"),
            *split("PSI", [mp.bernoulli(2 * k) / (2 * k) for k in range(1, 15)], 5,
                   "z^2 (log(z) - 1/(2 z) - digamma(z)) in 1/z^2"),
            row("STIRLING", [float(mp.bernoulli(2 * k) / (2 * k * (2 * k - 1))) for k in range(1, 9)],
                "z (lgamma(z) - (z - 1/2) log(z) + z - log(2 pi)/2) in 1/z^2"),
            row("LGAMMA", [pair(c) for c in LEAD], "lgamma(2 + t) / t, |t| <= 1/2"),
            row("LGAMMA_REST", rest, "The rest of it, where floats are enough."),
            row("LGAMMA_ROOTS", lgamma_roots(), "Roots of lgamma (two floats), radius, Taylor coefficients"),
            row("DIGAMMA_ROOTS", digamma_roots(), "The same of digamma"),
        ]  # fmt: skip
    return PAIRS_HEADER + "\n".join(parts)


PAIRS_HEADER = '''"""Numbers for functions that are computed with pairs of floats (`gamma_left`), lowest order first.

Written by bench/vmath_fit.py.
"""

'''
with mp.workdps(110):
    LEAD = [1 - mp.euler, *[(-1) ** k * (mp.zeta(k) - 1) / k for k in range(2, 6)]]
    LEAD_NEXT = (mp.zeta(6) - 1) / 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(__file__).resolve().parent.parent / "codegen" / "vmath"
    parser.add_argument("--output", type=Path, default=folder)
    folder = parser.parse_args().output
    (folder / "gamma_tables.py").write_text(pairs_text())
    (folder / "tables.py").write_text(HEADER + "\n".join(table(name, fit) for name, fit in ALL_FITS.items()))


if __name__ == "__main__":
    main()
