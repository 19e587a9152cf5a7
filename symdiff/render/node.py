"""One node of notation, and what can be read off it: coefficients, powers, runs in chains, the cost of reading.

A `Node` is one mathematical expression with a shape. `size` counts its operators, calls and leaves; `weight` adds small
preferences between forms of one size. A matrix knows its transpose in the shortest form, `flip`; a symmetric one is
its own. Nodes are made by `symdiff.render.notation.Notation`, equal ones once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.builder import nearest
from symdiff.ir.dims import Shape

Number: TypeAlias = "int | Fraction"

LONG = 2**63
"""Integers from here on are written as floats: targets have no others."""


class Node:
    """One expression. `data` depends on `kind`; see the constructors of `Notation`."""

    __slots__ = ("args", "data", "flip", "key", "kind", "latest", "pointwise", "shape", "size", "weight")

    def __init__(
        self, kind: str, args: tuple[Node, ...], data: Any, shape: Shape, size: int, weight: float, key: int
    ) -> None:
        self.kind = kind
        self.args = args
        self.data = data
        self.shape = shape
        self.size = size
        self.weight = weight
        self.key = key
        self.flip: Node = self
        self.latest = max([a.latest for a in args], default=-1)  # which symbol in it was introduced last
        self.pointwise = kind in ("pow", "prod")  # entry by entry; a sum may spread its terms

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def symmetric(self) -> bool:
        return self.flip is self

    def __repr__(self) -> str:
        return f"<{self.kind} {self.data!r} {self.shape}>"


def topological(roots: Iterable[Node]) -> list[Node]:
    """Every node below the roots, operands first."""
    order: list[Node] = []
    done: set[Node] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.args) if a not in done)
    return order


def decimal(number: Number) -> str | None:
    """A short exact decimal of a fraction, or None: 1/2 -> 0.5, 1/3 -> None. Of long integers the nearest float."""
    if isinstance(number, int) or number.denominator == 1:
        return str(int(number)) if abs(number) < LONG else floating(number)
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    text = floating(number)
    exact = rest == 1 and Fraction(text) == number and len(text) <= 20
    return text if exact or max(abs(number.numerator), number.denominator) >= LONG else None


def floating(number: Number) -> str:
    """A number as a float is written; in the same way with 17 digits where no float is near it."""
    value = nearest(number)
    if math.isfinite(value) and (value or not number):
        return repr(value)
    fraction = Fraction(number)
    with localcontext(prec=17):
        return str(+(Decimal(fraction.numerator) / Decimal(fraction.denominator)).normalize()).lower()


def coefficient_parts(number: Number) -> tuple[Number, int]:
    """A coefficient as (factor in front, divisor): 1/3 -> (1, 3), 1/2 -> (1/2, 1)."""
    if decimal(number) is not None:
        return number, 1
    fraction = Fraction(number)
    return fraction.numerator, fraction.denominator


def peeled(node: Node) -> tuple[Number, list[Node], Node, list[Node]]:
    """Number, scalar factors, the one array and scalar divisors of a product; anything else is its own array."""
    if node.kind == "prod":
        number, count = node.data
        above, below = node.args[:count], node.args[count:]
        arrays = [f for f in above if f.rank]
        if len(arrays) == 1 and not any(f.rank for f in below):
            return number, [f for f in above if not f.rank], arrays[0], list(below)
    return 1, [], node, []


def is_triangle(node: Node, lower: bool) -> bool:
    """Whether a matrix is its own lower (upper) triangle by what made it."""
    made = node.data[0] if node.kind == "call" else ""
    return made in ("cholesky", "tril") if lower else made == "triu"


def starts_with_number(node: Node) -> bool:
    """Whether a number leads, which takes a minus sign into itself."""
    if node.kind == "prod":
        return coefficient_parts(node.data[0])[0] != 1 or node.data[1] == 0
    return node.kind == "num"


def split_power(node: Node) -> tuple[Node, Number]:
    if node.kind == "pow" and node.args[1].kind == "num" and isinstance(node.args[1].data, (int, Fraction)):
        return node.args[0], node.args[1].data
    return node, 1


def product_cost(number: Number, upper: Sequence[Node], lower: Sequence[Node]) -> float:
    """Operators and numbers of a product beyond its factors."""
    front, divisor = coefficient_parts(number)
    if not upper and number == 1 and len(lower) == 1 and split_power(lower[0])[1] != 1:
        return 0  # x**(-2): the sign is part of the number
    leading = 1 if front not in (1, -1) or not upper else 0
    minus = 1 if front == -1 and upper else 0
    divisors = len(lower) + (1 if divisor != 1 else 0)
    return minus + leading + (len(upper) + leading - 1) + divisors + (1 if divisor != 1 else 0)


def chain_runs(factors: Sequence[Node]) -> list[tuple[Node, int]]:
    """Equal neighbours of a chain with their number."""
    runs: list[tuple[Node, int]] = []
    for factor in factors:
        if runs and runs[-1][0] is factor and factor.rank == 2:
            runs[-1] = (factor, runs[-1][1] + 1)
        else:
            runs.append((factor, 1))
    return runs


def uses_matrix_power(factor: Node, count: int) -> bool:
    return count > 2 or (count == 2 and factor.size > 1)


def inverted(factor: Node) -> Node | None:
    """The matrix whose inverse, perhaps transposed, the factor is."""
    base = factor.args[0] if factor.kind == "T" else factor
    return base.args[0] if base.kind == "call" and base.data[0] == "inverse" else None


def solves(factors: Sequence[Node]) -> bool:
    """Whether inverses in a chain are solved with: there is a vector at its end."""
    return factors[-1].rank == 1


def chain_cost(factors: Sequence[Node], for_papers: bool = False) -> int:
    """Operators, calls and leaves of a chain; papers write a power of an inverse where source code solves again."""
    total = 0
    runs = chain_runs(factors)
    for place, (factor, count) in enumerate(runs):
        if place < len(runs) - 1 and solves(factors) and inverted(factor) is not None:
            total += (1 if for_papers else count) * factor.size  # solve(a, rest) for inv(a) @ rest
        elif uses_matrix_power(factor, count):
            total += factor.size + 2 + (place < len(runs) - 1)
        else:
            total += count * (factor.size + 1) - (place == len(runs) - 1)
    return total


def unit_vector(node: Node) -> bool:
    """Whether a subscript is a row of the identity."""
    return node.args[0].kind == "eye" and len(node.data) == 2 and node.rank == 1 and node.data[1] is None


def nested(texts: Sequence[str], shape: Shape) -> str:
    """Texts in nested square brackets, rows first."""
    rows = list(texts)
    for size in shape[:0:-1]:
        assert isinstance(size, int)
        rows = [f"[{', '.join(rows[i : i + size])}]" for i in range(0, len(rows), size)]
    return f"[{', '.join(rows)}]"
