"""Functions of one scalar that are computed together: sine and cosine, erf and the bell exp(-x x) of its derivative.

Takes the statements of a kernel; says for each such function which pair of `codegen.vmath` it is a half of. A half that
stands in another loop than the other one is computed alone, and so is a bell that stands before what it is made with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from codegen.ir.loops import Let
from codegen.vmath import PAIRS

_SINGLE = "sincos"
"""The pair that float32 has a body of its own for: others would cost what they do in float64."""
_WHERE = {half: (pair, part) for pair, halves in PAIRS.items() for part, half in enumerate(halves) if half != "bell"}


@dataclass(frozen=True, slots=True)
class Half:
    """One of two functions that are computed together."""

    pair: str
    argument: int
    """The scalar that both are functions of."""
    part: int
    begins: bool = True
    """Whether both are computed where this one stands, if they are not yet; a bell is cheaper alone."""


def couples(lets: Iterable[tuple[int, Let]]) -> Mapping[int, Half]:
    """The halves by their names; statements come in order, with the number of the loop each stands in."""
    defined: dict[int, Let] = {}
    waiting: dict[tuple[int, str, int], tuple[int, Half]] = {}
    made: dict[int, Half] = {}
    for loop, stmt in lets:
        op = stmt.op
        defined[stmt.name] = stmt
        if op == "exp" and stmt.dtype == "f64":
            base = _root_of_square(defined, stmt.args[0])
            other = None if base is None else waiting.pop((loop, "bell", base), None)
            if other is not None:
                made[other[0]], made[stmt.name] = other[1], replace(other[1], part=1, begins=False)
        elif op in _WHERE and (stmt.dtype == "f64" or _WHERE[op][0] == _SINGLE):
            pair, part = _WHERE[op]
            half, bell = Half(pair, stmt.args[0], part), PAIRS[pair][1] == "bell"
            key = (loop, "bell", _but_for_sign(defined, half.argument)) if bell else (loop, pair, half.argument)
            other = waiting.setdefault(key, (stmt.name, half))
            if other[1].pair == pair and other[1].part != part:
                made[other[0]], made[stmt.name] = other[1], half
    return made


def _but_for_sign(defined: Mapping[int, Let], name: int) -> int:
    stmt = defined.get(name)
    return stmt.args[0] if stmt is not None and stmt.op == "neg" else name


def _root_of_square(defined: Mapping[int, Let], name: int) -> int | None:
    """The scalar whose square with the other sign this is, but for its sign."""
    outer = defined.get(name)
    square = defined.get(outer.args[0]) if outer is not None and outer.op == "neg" else None
    if square is None:
        return None
    if square.op == "mul" and square.args[0] == square.args[1]:
        return _but_for_sign(defined, square.args[0])
    return _but_for_sign(defined, square.args[0]) if square.op == "pow_int" and square.attr == 2 else None
