"""Unevaluated sums hi + lo of two floats (about 106 bits), the few operations the functions need.

Takes and gives pairs of values with |lo| at most half an ulp of hi, unless a name says otherwise. Products use fma, so
each costs two instructions.
"""

from __future__ import annotations

from typing import NamedTuple

from .build import Build, Value


class Pair(NamedTuple):
    """The number hi + lo."""

    hi: Value
    lo: Value


def fast_two_sum(x: Value, y: Value) -> Pair:
    """x + y exactly, for |x| >= |y| (or x == 0)."""
    hi = x + y
    return Pair(hi, y - (hi - x))


def two_sum(x: Value, y: Value) -> Pair:
    hi = x + y
    z = hi - x
    return Pair(hi, (x - (hi - z)) + (y - z))


def two_product(b: Build, x: Value, y: Value) -> Pair:
    hi = x * y
    return Pair(hi, b.fma(x, y, -hi))


def quotient(b: Build, x: Pair, y: Pair) -> Pair:
    """x / y with one division; y must be far from the ends of the exponent range."""
    reciprocal = 1.0 / y.hi
    hi = x.hi * reciprocal
    rest = b.fma(-hi, y.hi, x.hi) + b.fma(-hi, y.lo, x.lo)
    return fast_two_sum(hi, rest * reciprocal)


def root(b: Build, x: Pair) -> Pair:
    """Square root of a positive number (of zero: zero)."""
    hi = b.sqrt(x.hi)
    rest = b.fma(-hi, hi, x.hi) + x.lo
    twice = hi + hi
    return fast_two_sum(hi, rest / b.select(twice.equals(0.0), 1.0, twice))
