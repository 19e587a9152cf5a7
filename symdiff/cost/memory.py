"""Memory: bytes of a type, and the largest memory alive at once over the order of instructions.

The peak of a program with named dimensions may lie at different places for different sizes, so it is a few
polynomials, and their maximum is the answer. One that is nowhere above another in any coefficient is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from symdiff.cost.poly import Poly, never_below, polynomial
from symdiff.ir.dims import Monomial, product
from symdiff.ir.graph import Function, Value, loop_key
from symdiff.ir.types import TensorType

ITEMSIZE: Final[Mapping[str, int]] = {"f64": 8, "f32": 4, "i64": 8, "bool": 1, "c128": 16}
# Incomparable peaks kept; more than a few only arise in programs with many unrelated dimensions.
_MOST = 64


def storage(kind: TensorType) -> Poly:
    """Bytes of one array of this type."""
    return Poly(product(kind.shape)) * ITEMSIZE[kind.dtype]


def peak_memory(function: Function) -> tuple[Poly, ...]:
    """Candidates for the most bytes alive at once, parameters always alive; single constants take none."""
    last: dict[Value, int] = {}
    for position, value in enumerate(function.instrs):
        for operand in value.args:
            last[operand] = position
    for value in (*function.params, *function.results):
        last[value] = len(function.instrs)
    sizes: dict[TensorType, tuple[tuple[Monomial, Fraction | int], ...]] = {}

    def bytes_of(value: Value) -> tuple[tuple[Monomial, Fraction | int], ...]:
        if value.op.name in ("const", "size"):
            return ()
        found = sizes.get(value.type)
        if found is None:
            # Whole numbers stay ints: a Fraction costs ten times as much to add.
            terms = storage(value.type).terms
            found = sizes[value.type] = tuple([(m, int(c) if c.denominator == 1 else c) for m, c in terms])
        return found

    alive: dict[Monomial, Fraction | int] = {}
    for parameter in function.params:
        for monomial, amount in bytes_of(parameter):
            alive[monomial] = alive.get(monomial, 0) + amount
    tops: list[dict[Monomial, Fraction | int]] = [dict(alive)]
    loops: set[object] = set()
    for position, value in enumerate(function.instrs):
        if value.op.picks and (key := loop_key(value)) not in loops:
            loops.add(key)
            for within in _within(value.attr("body")):
                tops.append(_plus(alive, within))
        for monomial, amount in bytes_of(value):
            alive[monomial] = alive.get(monomial, 0) + amount
        if not any(_covers(top, alive) for top in tops):
            tops = [*[top for top in tops if not _covers(alive, top)][-_MOST:], dict(alive)]
        for operand in dict.fromkeys((*value.args, value)):
            if last.get(operand, -1) <= position:
                for monomial, amount in bytes_of(operand):
                    alive[monomial] -= amount
    return _largest([polynomial(top) for top in tops])


def _within(body: Function) -> list[Poly]:
    """What one step of a loop holds besides its operands, at most."""
    given = sum([storage(p.type) for p in body.params], Poly())
    return [peak - given for peak in peak_memory(body)]


def _plus(alive: Mapping[Monomial, Fraction | int], more: Poly) -> dict[Monomial, Fraction | int]:
    total = dict(alive)
    for monomial, amount in more.terms:
        total[monomial] = total.get(monomial, 0) + amount
    return total


def _covers(a: Mapping[Monomial, Fraction | int], b: Mapping[Monomial, Fraction | int]) -> bool:
    return all(amount <= a.get(monomial, 0) for monomial, amount in b.items()) and all(
        amount >= 0 for monomial, amount in a.items() if monomial not in b
    )


def _largest(candidates: list[Poly]) -> tuple[Poly, ...]:
    kept: list[Poly] = []
    for number, poly in enumerate(candidates):
        rivals = [*kept, *candidates[number + 1 :]]
        if not any(never_below(rival, poly) for rival in rivals):
            kept.append(poly)
    return tuple(kept)
