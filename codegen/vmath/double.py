"""Unevaluated sums hi + lo of two floats (about 106 bits), the few operations the functions need.

Takes and gives pairs of values with |lo| at most half an ulp of hi, unless a name says otherwise. Products use fma, so
each costs two instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def plus(b: Build, x: Pair, y: Pair) -> Pair:
    """x + y, right to about 2**-104 of the larger also where they cancel."""
    head, rest = two_sum(x.hi, y.hi), two_sum(x.lo, y.lo)
    head = fast_two_sum(head.hi, head.lo + rest.hi)
    return fast_two_sum(head.hi, head.lo + rest.lo)


def times(b: Build, x: Pair, y: Pair) -> Pair:
    """x y, right to about 2**-104."""
    hi, lo = two_product(b, x.hi, y.hi)
    return fast_two_sum(hi, b.fma(x.hi, y.lo, b.fma(x.lo, y.hi, lo)))


def constant(b: Build, value: tuple[float, float]) -> Pair:
    return Pair(b.const(value[0], "f64"), b.const(value[1], "f64"))


def negative(x: Pair) -> Pair:
    return Pair(-x.hi, -x.lo)


def chosen(b: Build, mask: Value, yes: Pair, no: Pair) -> Pair:
    return Pair(b.select(mask, yes.hi, no.hi), b.select(mask, yes.lo, no.lo))


def series(b: Build, x: Pair, pairs: Sequence[tuple[float, float]], rest: Sequence[float]) -> Pair:
    """sum of c_i x**i by Horner's rule; the first coefficients are pairs, the others have so little weight."""
    value = Pair(b.horner(x.hi, rest), b.const(0.0, "f64"))
    for c in reversed(pairs):
        value = plus(b, times(b, x, value), constant(b, c))
    return value


def _divided(b: Build, x: Pair, y: Pair) -> tuple[Value, Value, Value]:
    """About x / y, what it leaves of x, and about 1 / y, with one division."""
    reciprocal = 1.0 / y.hi
    hi = x.hi * reciprocal
    return hi, b.fma(-hi, y.hi, x.hi) + b.fma(-hi, y.lo, x.lo), reciprocal


def quotient(b: Build, x: Pair, y: Pair) -> Pair:
    """x / y; y must be far from the ends of the exponent range."""
    hi, rest, reciprocal = _divided(b, x, y)
    return fast_two_sum(hi, rest * reciprocal)


def rounded_quotient(b: Build, x: Pair, y: Pair) -> Value:
    """x / y to a little more than half an ulp."""
    hi, rest, reciprocal = _divided(b, x, y)
    return b.fma(rest, reciprocal, hi)


def root(b: Build, x: Pair) -> Pair:
    """Square root of a positive number (of zero: zero)."""
    hi = b.sqrt(x.hi)
    rest = b.fma(-hi, hi, x.hi) + x.lo
    twice = hi + hi
    return fast_two_sum(hi, rest / b.select(twice.equals(0.0), 1.0, twice))
