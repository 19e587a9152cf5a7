"""Function -> notation: one expression per value, built along the instructions.

Takes a Function, gives one full-shape node per result and the Notation that made them.
"""

from __future__ import annotations

from symdiff.ir.graph import Function, Value
from symdiff.render.forms import Recovery
from symdiff.render.notation import Node, Notation
from symdiff.render.structure import RULES

# Programs longer than this are not read for the order of their sums.
MOST_READ = 200


def recover(
    function: Function, shared: bool = False, like: Function | None = None, for_papers: bool = False
) -> tuple[Notation, list[Node]]:
    """The notation of every result.

    shared: a value used twice is one expression, kept out of what uses it. like: a program whose sums and products
    that occur again keep the order in which they are written there: W x + b. for_papers: of forms that differ little
    the one that papers have.
    """
    recovery = Recovery(RULES)
    recovery.notation.for_papers = for_papers
    if like is not None and len(like.instrs) <= MOST_READ:
        recovery.read(like)
    if shared:
        recovery.whole_values = _used_twice(function)
    for parameter in function.params:
        recovery.forms[parameter] = recovery.leaf(parameter)
    for value in function.instrs:
        recovery.forms[value] = recovery.instruction(value)
    return recovery.notation, [recovery.whole(r) for r in function.results]


def _used_twice(function: Function) -> frozenset[Value]:
    uses: dict[Value, int] = {}
    for operands in (function.results, *[v.args for v in function.instrs]):
        for operand in operands:
            uses[operand] = uses.get(operand, 0) + 1
    return frozenset([v for v, count in uses.items() if count > 1 and not v.is_param])
