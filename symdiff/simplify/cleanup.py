"""Cleaning up before native code: linear in the program, never costs speed or accuracy."""

from __future__ import annotations

from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet


def optimize(function: Function, opset: OpSet) -> Function:
    """Fold exact constants, merge equal instructions, drop what no result needs."""
    builder = Builder(opset)
    mapping: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    for value in function.instrs:
        mapping[value] = builder.make(value.op, tuple([mapping[a] for a in value.args]), value.attrs)
    return Function.of([mapping[p] for p in function.params], [mapping[r] for r in function.results], function.name)
