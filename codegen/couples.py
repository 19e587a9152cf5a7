"""Functions of one scalar that are computed together: sine and cosine, erf and the bell exp(-x x) of its derivative.

Takes the statements of a kernel; says for each such function which pair of `codegen.vmath` it is a half of. A half that
stands in another loop than the other one is computed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codegen.loops import Let
from codegen.vmath import PAIRS

_ONCE = "sincos"
"""The pair that there is for every dtype: functions of float32 have bodies of their own, which are cheap."""
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
    """The halves by their names; with each statement comes the number of the loop it stands in."""
    defined: dict[int, Let] = {}
    bells: dict[tuple[int, int], Let] = {}
    found: dict[tuple[int, str, int], dict[int, Let]] = {}
    for loop, stmt in lets:
        op = stmt.op
        defined[stmt.name] = stmt
        if op == "exp" and stmt.dtype == "f64":
            base = _root_of_square(defined, stmt.args[0])
            if base is not None:
                bells.setdefault((loop, base), stmt)
        elif op in _WHERE and (stmt.dtype == "f64" or _WHERE[op][0] == _ONCE):
            pair, part = _WHERE[op]
            found.setdefault((loop, pair, stmt.args[0]), {}).setdefault(part, stmt)
    made: dict[int, Half] = {}
    for (loop, pair, argument), halves in found.items():
        if len(halves) > 1:
            made.update({stmt.name: Half(pair, argument, part) for part, stmt in halves.items()})
        elif PAIRS[pair][1] == "bell":
            bell = bells.pop((loop, _but_for_sign(defined, argument)), None)
            if bell is not None:
                made[halves[0].name], made[bell.name] = Half(pair, argument, 0), Half(pair, argument, 1, begins=False)
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
