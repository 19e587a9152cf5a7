"""Which declared facts a formula really uses: it is derived again without each of them, and compared."""

from __future__ import annotations

from collections.abc import Callable

from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render import to_text

# A weaker fact that may do as well.
_WEAKER = {"positive_definite": "symmetric", "diagonal": "symmetric", "positive": "nonnegative"}


def used_facts(program: Function, shown: Callable[[Function], Function]) -> list[tuple[Value, str]]:
    """(parameter, fact) for every declared fact without which `shown(program)` reads differently.

    Where a weaker fact gives the same formula, that one is listed.
    """
    declared = [p for p in program.params if p.type.facts]
    if not declared:
        return []
    text = to_text(shown(program))
    found: list[tuple[Value, str]] = []
    for p in declared:
        for fact in sorted(p.type.facts):
            rest = p.type.facts - {fact}
            if to_text(shown(redeclared(program, p, rest))) == text:
                continue
            weaker = _WEAKER.get(fact)
            enough = weaker and to_text(shown(redeclared(program, p, rest | {weaker}))) == text
            found.append((p, weaker if weaker and enough else fact))
    return found


def redeclared(function: Function, param: Value, facts: frozenset[str]) -> Function:
    """The function with other facts declared of one parameter."""
    builder = Builder(OPSET)
    new: dict[Value, Value] = {}
    for p in function.params:
        kind = TensorType(p.type.dtype, p.type.shape, facts) if p is param else p.type
        new[p] = builder.param(p.name, kind)
    for v in function.instrs:
        new[v] = builder.remake(v, tuple([new[a] for a in v.args]))
    return Function.of([new[p] for p in function.params], [new[r] for r in function.results], function.name)
