"""The reference meaning of a Function: run it with NumPy, one instruction after the other.

Slow and plain on purpose; compiled code must agree with it to rounding. Sizes come from the arguments' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, EvaluationError, ShapeError, SymdiffError
from symdiff.ir.dims import Dim, evaluate, format_shape
from symdiff.ir.graph import Function, Value


def bind_sizes(
    params: Sequence[Value], shapes: Sequence[tuple[int, ...]], sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The number of every named dimension, from argument shapes; all sizes are checked.

    A dimension binds where it stands alone as an axis; polynomials are checked afterwards.
    """
    known = dict(sizes or {})
    origin = dict.fromkeys(known, "the given sizes")
    for parameter, shape in zip(params, shapes, strict=True):
        expected = parameter.type.shape
        if len(shape) != len(expected):
            raise ShapeError(
                f"{parameter.name}: expected shape {format_shape(expected)}, given {format_shape(shape)}"
            )
        for axis, (size, number) in enumerate(zip(expected, shape, strict=True)):
            if isinstance(size, Dim) and len(size.names) == 1 and str(size) in size.names:
                name = str(size)
                if known.setdefault(name, number) != number:
                    raise ShapeError(
                        f"{parameter.name}: dimension {name} is {number} here (axis {axis}) "
                        f"but {known[name]} in {origin[name]}"
                    )
                origin.setdefault(name, f"{parameter.name} (axis {axis})")
    for parameter, shape in zip(params, shapes, strict=True):
        for axis, (size, number) in enumerate(zip(parameter.type.shape, shape, strict=True)):
            if evaluate(size, known) != number:
                at = f" = {evaluate(size, known)}" if isinstance(size, Dim) else ""
                raise ShapeError(f"{parameter.name}: axis {axis} has size {number}, expected {size}{at}")
    return known


def interpret(
    function: Function,
    args: Sequence[Any],
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    watch: Callable[[Value, tuple[Any, ...], Any], None] | None = None,
) -> tuple[Any, ...]:
    """Run `function` on arrays; returns one array per result.

    sizes: numbers for dimensions that no argument shows. functions: name -> callable(*arrays, wrt) for undefined
    functions. watch(value, operands, result) sees every instruction as it runs.
    """
    if len(args) != len(function.params):
        raise ArgumentError(
            f"{function.name}: {len(args)} arguments given, expected {len(function.params)} "
            f"({', '.join(p.name for p in function.params)})"
        )
    arrays = [_array(p, a) for p, a in zip(function.params, args, strict=True)]
    known = bind_sizes(function.params, [a.shape for a in arrays], sizes)
    values: dict[Value, Any] = dict(zip(function.params, arrays, strict=True))
    uses: dict[Value, int] = {}
    for value in function.instrs:
        for operand in value.args:
            uses[operand] = uses.get(operand, 0) + 1
    kept = set(function.results)
    with np.errstate(all="ignore"):
        for value in function.instrs:
            operands = tuple([values[a] for a in value.args])
            attrs = {k: resolve(v, known) for k, v in value.attrs}
            given = (functions or {}).get(attrs["name"]) if value.op.name in ("apply", "functional") else None
            if given is not None:
                result = given(*operands, wrt=attrs["wrt"])
            else:
                result = _evaluated(value, operands, attrs)
            if watch is not None:
                watch(value, operands, result)
            values[value] = result
            for operand in value.args:
                uses[operand] -= 1
                if not uses[operand] and operand not in kept:
                    values.pop(operand, None)
    return tuple([np.asarray(values[r]) for r in function.results])


def _array(parameter: Value, given: Any) -> Any:
    """An argument as an array of numbers that its parameter can stand for."""
    array = np.asarray(given)
    wanted = parameter.type.dtype
    if array.dtype.kind not in {"bool": "b", "i64": "biu"}.get(wanted, "biufc"):
        raise DtypeError(f"{parameter.name}: expected numbers of dtype {wanted}, given {array.dtype}")
    return array


def _evaluated(value: Value, operands: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    try:
        return value.op.evaluate(*operands, **attrs)
    except SymdiffError:
        raise
    except (ValueError, IndexError, np.linalg.LinAlgError) as error:  # what NumPy refuses, such as max of nothing
        raise EvaluationError(f"{value.op.name}: {error}") from error


def resolve(attribute: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with every size a number."""
    if isinstance(attribute, tuple):
        return tuple([resolve(a, sizes) for a in attribute])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return evaluate(attribute, sizes) if isinstance(attribute, Dim) else attribute
