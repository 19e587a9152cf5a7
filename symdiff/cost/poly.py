"""Counts as polynomials in named dimensions with rational coefficients.

`Poly` is a `Dim` whose coefficients need not make integers: it borrows the algebra of `Dim` and adds rational factors,
evaluation to a number, a text form (`n**3/3 + 2*m*n`), and the questions a bill asks: which is larger for all sizes,
where do two cross, what is their ratio when sizes grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ShapeError
from symdiff.ir.dims import Atom, Dim, Monomial, Size, named

Number: TypeAlias = "int | Fraction"


class Poly:
    """An immutable polynomial. Arithmetic takes polynomials, sizes and exact numbers."""

    __slots__ = ("_size",)

    def __init__(self, value: Poly | Size | Fraction = 0) -> None:
        if isinstance(value, Poly):
            self._size: Size = value._size
        elif isinstance(value, Fraction):
            # A Dim holds rational coefficients; only its text form expects integers.
            self._size = int(value) if value.denominator == 1 else Dim({(): value})
        else:
            self._size = value

    @property
    def terms(self) -> tuple[tuple[Monomial, Fraction], ...]:
        """Monomials and coefficients, by falling degree; empty for zero."""
        size = self._size
        if isinstance(size, Dim):
            return size.terms
        return (((), Fraction(size)),) if size else ()

    @property
    def names(self) -> frozenset[str]:
        return self._size.names if isinstance(self._size, Dim) else frozenset()

    # ---------------------------------------------------------------- arithmetic
    def __add__(self, other: Poly | Size | Fraction) -> Poly:
        return Poly(self._size + Poly(other)._size)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly(-self._size)

    def __sub__(self, other: Poly | Size | Fraction) -> Poly:
        return Poly(self._size - Poly(other)._size)

    def __rsub__(self, other: Poly | Size | Fraction) -> Poly:
        return Poly(other) - self

    def __mul__(self, other: Poly | Size | Fraction) -> Poly:
        return Poly(self._size * Poly(other)._size)

    __rmul__ = __mul__

    def __truediv__(self, number: Number) -> Poly:
        return self * (Fraction(1) / number)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Poly, int, Dim, Fraction)):
            return self._size == Poly(other)._size
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._size)

    def __bool__(self) -> bool:
        return self._size != 0

    # ---------------------------------------------------------------- values, text
    def at(self, sizes: Mapping[str, int]) -> Number:
        """The number at the given sizes, an int when it is whole. Raises `ShapeError` when a name has no size."""
        size = self._size
        if isinstance(size, int):
            return size
        value = size.substitute(sizes)
        if isinstance(value, int):
            return value
        if value.names:
            missing = ", ".join(sorted(value.names))
            raise ShapeError(f"count {self}: no size is known for {missing}; sizes given: {dict(sizes)}")
        return value.terms[0][1]

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
            text += sign + _term(monomial, abs(coefficient))
        return text or "0"

    def __repr__(self) -> str:
        return f"Poly({self})"


def _term(monomial: Monomial, coefficient: Fraction) -> str:
    factors = [f"{atom}**{power}" if power > 1 else str(atom) for atom, power in monomial]
    if not factors or coefficient.numerator != 1:
        factors.insert(0, str(coefficient.numerator))
    return "*".join(factors) + (f"/{coefficient.denominator}" if coefficient.denominator != 1 else "")


def polynomial(terms: Mapping[Monomial, Number]) -> Poly:
    """The polynomial with these coefficients."""
    kept = {m: Fraction(c) for m, c in terms.items() if c}
    if set(kept) <= {()}:
        return Poly(kept.get((), Fraction(0)))
    return Poly(Dim(kept))


# -------------------------------------------------------------------- questions about two polynomials
def never_below(a: Poly, b: Poly) -> bool:
    """Whether a >= b is certain for all sizes of at least 1: a - b has no negative coefficient in sizes minus 1."""
    difference = a - b
    if all(c >= 0 for _, c in difference.terms):
        return True
    size = difference._size  # pyright: ignore[reportPrivateUsage]
    if isinstance(size, Dim):
        size = size.substitute({name: named(name) + 1 for name in size.names})
    return all(c >= 0 for _, c in Poly(size).terms)


def growth_ratio(a: Poly, b: Poly) -> float | None:
    """The limit of a / b when all sizes grow together; None when a outgrows b or b is zero."""
    if not b:
        return None
    ordered, top = _leading(a), _leading(b)
    if ordered[0] > top[0]:
        return None
    return float(ordered[1] / top[1]) if ordered[0] == top[0] and top[1] else 0.0


def _leading(poly: Poly) -> tuple[int, Fraction]:
    """Total degree, and the sum of the coefficients of that degree; a floor p//k counts as p/k."""
    by_degree: dict[int, Fraction] = {}
    for monomial, coefficient in poly.terms:
        degree, factor = 0, coefficient
        for atom, power in monomial:
            if isinstance(atom, str):
                degree += power
            else:
                inner = _leading(Poly(atom.numerator))
                degree += inner[0] * power
                factor *= (inner[1] / atom.divisor) ** power
        by_degree[degree] = by_degree.get(degree, Fraction(0)) + factor
    kept = {d: c for d, c in by_degree.items() if c}
    return max(kept.items(), default=(0, Fraction(0)))


def crossover(difference: Poly) -> tuple[str, str, bool] | None:
    """(dimension, its value, whether `difference` is positive above it) where `difference` changes sign, when it is
    linear in one dimension after division by a common monomial: 2*m*n**2 - 6*m*n gives ("n", "3", True). A polynomial
    in one dimension is solved by numbers when it changes sign once above 1. None otherwise."""
    terms = _primitive(dict(difference.terms))
    if any(not isinstance(atom, str) for m in terms for atom, _ in m):
        return None
    for name in sorted({str(atom) for m in terms for atom, _ in m}):
        powers = {m: dict(m).get(name, 0) for m in terms}
        if set(powers.values()) != {0, 1}:
            continue
        slope = polynomial({_without(m, name): c for m, c in terms.items() if powers[m] == 1})
        rest = polynomial({m: c for m, c in terms.items() if powers[m] == 0})
        if len(slope.terms) != 1:
            continue
        monomial, coefficient = slope.terms[0]
        if not monomial:
            root = -rest / coefficient
            return (name, str(root), coefficient > 0) if any(c > 0 for _, c in root.terms) else None
        top = -rest / coefficient
        text = str(top) if len(top.terms) == 1 else f"({top})"
        below = "*".join(f"{a}**{p}" if p > 1 else str(a) for a, p in monomial)
        under = below if len(monomial) == 1 and monomial[0][1] == 1 else f"({below})"
        return (name, f"{text}/{under}", coefficient > 0) if any(c > 0 for _, c in top.terms) else None
    return _root(terms)


def _root(terms: Mapping[Monomial, Fraction]) -> tuple[str, str, bool] | None:
    """The one sign change above 1 of a polynomial in one dimension, to a tenth."""
    names = {str(atom) for m in terms for atom, _ in m}
    if len(names) != 1:
        return None
    powers = {dict(m).get(next(iter(names)), 0): float(c) for m, c in terms.items()}
    roots = np.roots([powers.get(i, 0.0) for i in range(max(powers), -1, -1)])
    above = sorted(float(r.real) for r in roots if abs(r.imag) < 1e-9 * abs(r) and r.real > 1)
    if len(above) != 1:
        return None
    return next(iter(names)), f"{above[0]:.4g}", powers[max(powers)] > 0


def highest(poly: Poly) -> Poly:
    """The terms of the highest total degree: what counts when sizes are large."""
    degrees = {monomial: sum(p for _, p in monomial) for monomial, _ in poly.terms}
    top = max(degrees.values(), default=0)
    return polynomial({m: c for m, c in poly.terms if degrees[m] == top})


def _primitive(terms: dict[Monomial, Fraction]) -> dict[Monomial, Fraction]:
    """Divide by the greatest monomial that divides every term."""
    if not terms:
        return terms
    common: dict[Atom, int] = dict(next(iter(terms)))
    for monomial in terms:
        powers = dict(monomial)
        common = {a: min(p, powers.get(a, 0)) for a, p in common.items() if powers.get(a, 0)}
    return {tuple((a, p - common.get(a, 0)) for a, p in m if p > common.get(a, 0)): c for m, c in terms.items()}


def _without(monomial: Monomial, name: Any) -> Monomial:
    return tuple((a, p) for a, p in monomial if a != name)
