"""A loop taken apart: what the operands, the parameters and the results of its body are to each other.

A loop is an instruction whose op picks (see `Op.picks`): operands (*starts, *slices, *constants), a body that takes
(*carries, *slices, *constants) and gives (*new carries, *step outputs). With C carries, `pick` k < C is the last carry
k, C <= k < 2C the carry k - C before every step, from 2C on step output k - 2C of every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from symdiff.ir.dims import Size
from symdiff.ir.graph import Function, Value, loop_key


@dataclass(frozen=True, slots=True)
class Loop:
    """carries: parameter, start (an operand), next value (of the body). slices, consts: parameter, operand."""

    value: Value
    body: Function
    length: Size
    reverse: bool
    carries: tuple[tuple[Value, Value, Value], ...]
    slices: tuple[tuple[Value, Value], ...]
    consts: tuple[tuple[Value, Value], ...]
    outputs: tuple[Value, ...]

    @staticmethod
    def of(value: Value) -> Loop:
        attrs = dict(value.attrs)
        body: Function = attrs["body"]
        count, end = attrs["carries"], attrs["carries"] + attrs["slices"]
        pairs = tuple(zip(body.params, value.args, strict=True))
        carries = tuple([(p, start, after) for (p, start), after in zip(pairs[:count], body.results, strict=False)])
        return Loop(value, body, attrs["length"], attrs["reverse"], carries, pairs[count:end], pairs[end:],
                    body.results[count:])  # fmt: skip


def groups_of(function: Function) -> dict[Any, list[Value]]:
    """The results of every loop that a function has, by loop."""
    found: dict[Any, list[Value]] = {}
    for value in function.instrs:
        if value.op.picks:
            found.setdefault(loop_key(value), []).append(value)
    return found
