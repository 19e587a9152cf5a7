"""The verifier: single definition, operands before uses, known ops, inferred type equal to written type.

Takes a Function and its op set, returns the Function, raises `VerifyError` with the program around the fault.
"""

from __future__ import annotations

from symdiff.errors import SymdiffError, VerifyError
from symdiff.ir.graph import PARAM, Function, Value, bodies
from symdiff.ir.op import OpSet
from symdiff.ir.text import excerpt
from symdiff.ir.types import check_type


def verify(function: Function, opset: OpSet) -> Function:
    """Check `function` and every Function its instructions carry; linear in its size."""
    _verify_one(function, opset)
    for body in bodies(function.instrs):
        _verify_one(body, opset)
    return function


def _verify_one(function: Function, opset: OpSet) -> None:
    defined: set[Value] = set()
    names: set[str] = set()
    for parameter in function.params:
        if parameter.op is not PARAM:
            raise VerifyError(f"function {function.name}: parameter list holds {parameter!r}, expected parameters")
        if parameter.name in names:
            raise VerifyError(f"function {function.name}: parameter {parameter.name} is defined twice")
        check_type(parameter.type, f"function {function.name}: parameter {parameter.name}")
        names.add(parameter.name)
        defined.add(parameter)
    for position, value in enumerate(function.instrs):
        fault = _fault(value, defined, opset)
        if fault:
            where = f"function {function.name}, instruction {position}"
            raise VerifyError(f"{where}: {fault}\n{excerpt(function, position)}")
        defined.add(value)
    for number, result in enumerate(function.results):
        if result not in defined:
            raise VerifyError(f"function {function.name}: result {number} ({result!r}) is not defined in it")


def _fault(value: Value, defined: set[Value], opset: OpSet) -> str:
    if value in defined:
        return f"{value.op.name} is defined twice"
    if opset.get(value.op.name) is not value.op:
        return f"op {value.op.name!r} is not in the op set"
    for number, operand in enumerate(value.args):
        if operand not in defined:
            return f"{value.op.name}: operand {number} ({operand!r}) is used before it is defined"
    if value.op.arity is not None and len(value.args) != value.op.arity:
        return f"{value.op.name}: {len(value.args)} operands, expected {value.op.arity}"
    try:
        kind = value.op.infer([a.type for a in value.args], dict(value.attrs))
    except SymdiffError as error:
        return f"{value.op.name}: {error}"
    return "" if kind == value.type else f"{value.op.name}: written type {value.type}, inferred type {kind}"
