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
from symdiff.ir.run import Program, evaluated


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
    functions. watch(value, operands, result) sees every instruction as it runs, those of a body once per step.
    """
    if len(args) != len(function.params):
        raise ArgumentError(
            f"{function.name}: {len(args)} arguments given, expected {len(function.params)} "
            f"({', '.join(p.name for p in function.params)})"
        )
    arrays = [_array(p, a) for p, a in zip(function.params, args, strict=True)]
    known = bind_sizes(function.params, [a.shape for a in arrays], sizes)

    def call(values: Sequence[Value], operands: tuple[Any, ...], attrs: dict[str, Any]) -> Sequence[Any]:
        first = values[0]
        given = (functions or {}).get(attrs["name"]) if first.op.name in ("apply", "functional") else None
        results = (given(*operands, wrt=attrs["wrt"]),) if given is not None else _evaluated(values, operands, attrs)
        if watch is not None:
            for value, result in zip(values, results, strict=True):
                watch(value, operands, result)
        return results

    with np.errstate(all="ignore"):
        return tuple([np.asarray(r) for r in Program(function, known, call)(*arrays)])


def _array(parameter: Value, given: Any) -> Any:
    """An argument as an array of numbers that its parameter can stand for."""
    array = np.asarray(given)
    wanted = parameter.type.dtype
    if array.dtype.kind not in {"bool": "b", "i64": "biu"}.get(wanted, "biufc"):
        raise DtypeError(f"{parameter.name}: expected numbers of dtype {wanted}, given {array.dtype}")
    return array


def _evaluated(values: Sequence[Value], operands: tuple[Any, ...], attrs: dict[str, Any]) -> Sequence[Any]:
    try:
        return evaluated(values, operands, attrs)
    except SymdiffError:
        raise
    except (ValueError, IndexError, np.linalg.LinAlgError) as error:  # what NumPy refuses, such as max of nothing
        raise EvaluationError(f"{values[0].op.name}: {error}") from error
