"""Ops whose attribute is a program: `scan`, a loop with state.

One loop has several results. Each is an instruction of its own, equal to the others but for `pick`, so every value has
one type and unused results vanish like any unused value; whoever runs the program runs the loop once for all of them.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, ShapeError
from symdiff.ir.dims import Dim, Size, format_shape
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import Attrs, Op, Region
from symdiff.ir.run import Program
from symdiff.ir.types import NUMPY_TYPES, TensorType


def _scan_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    body, carries, slices, length, pick = (attrs[k] for k in ("body", "carries", "slices", "length", "pick"))
    if not isinstance(body, Function):
        raise ArgumentError(f"scan: body is {body!r}, expected a function")
    for name in ("carries", "slices", "pick"):
        if not isinstance(attrs[name], int) or isinstance(attrs[name], bool) or attrs[name] < 0:
            raise ArgumentError(f"scan: {name} is {attrs[name]!r}, expected an integer of at least 0")
    if not isinstance(attrs["reverse"], bool):
        raise ArgumentError(f"scan: reverse is {attrs['reverse']!r}, expected True or False")
    if isinstance(length, bool) or not isinstance(length, (int, Dim)) or (isinstance(length, int) and length < 0):
        raise ArgumentError(f"scan: length is {length!r}, expected a size")
    trails = _stacked_types(types, body, carries, slices, length)
    if pick < carries:
        return TensorType(types[pick].dtype, types[pick].shape)
    if pick - carries >= len(trails):
        made = f"{carries} carries, as many trails, {len(trails) - carries} step outputs"
        raise ArgumentError(f"scan: pick {pick}, expected less than {carries + len(trails)}: {made}")
    return trails[pick - carries]


class _Checked(NamedTuple):
    """What was checked last: the results of one loop are made one after the other, and the checks are the same."""

    given: tuple[Any, ...] = ()
    trails: tuple[TensorType, ...] = ()


_last = [_Checked()]


def _stacked_types(
    types: Sequence[TensorType], body: Function, carries: int, slices: int, length: Size
) -> tuple[TensorType, ...]:
    """The types of trails and step outputs. Raises for operands that do not fit the body."""
    given = (body, length, carries, slices, *types)
    checked = _last[0]
    if len(checked.given) == len(given) and all(map(operator.is_, checked.given, given)):
        return checked.trails
    trails = _fitting(types, body, carries, slices, length)
    _last[0] = _Checked(given, trails)
    return trails


def _fitting(
    types: Sequence[TensorType], body: Function, carries: int, slices: int, length: Size
) -> tuple[TensorType, ...]:
    if carries + slices > len(types):
        raise ArgumentError(f"scan: {carries} carries and {slices} slices, but {len(types)} operands")
    if len(body.params) != len(types):
        raise ArgumentError(f"scan: {len(types)} operands, but the body has {len(body.params)} parameters")
    if len(body.results) < carries:
        raise ArgumentError(f"scan: {carries} carries, but the body has {len(body.results)} results")
    for place, (kind, parameter) in enumerate(zip(types, body.params, strict=True)):
        _check_parameter(place, kind, parameter, carries, slices, length)
    for place in range(carries):
        before, after = body.params[place].type, body.results[place].type
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            raise (DtypeError if before.dtype != after.dtype else ShapeError)(
                f"scan: carry {place} ({body.params[place].name}) is {_shown(before)} before a step and "
                f"{_shown(after)} after it, expected one type"
            )
    stacked = [v.type for v in (*body.params[:carries], *body.results[carries:])]
    return tuple([TensorType(kind.dtype, (length, *kind.shape)) for kind in stacked])


def _check_parameter(
    place: int, given: TensorType, parameter: Value, carries: int, slices: int, length: Any
) -> None:
    wanted, shape, sliced = parameter.type, given.shape, carries <= place < carries + slices
    if not sliced and given.dtype == wanted.dtype and shape == wanted.shape and not wanted.facts:
        return
    role = "carry" if place < carries else "slice" if sliced else "constant"
    where = f"scan: operand {place}, the {role} {parameter.name},"
    if wanted.facts:
        raise ArgumentError(f"{where} has facts in the body ({wanted}); parameters of a body have none")
    if sliced:
        if not shape or shape[0] != length:
            raise ShapeError(f"{where} has shape {format_shape(shape)}, expected a first axis of length {length}")
        shape = shape[1:]
    if given.dtype != wanted.dtype:
        raise DtypeError(f"{where} has dtype {given.dtype}, in the body {wanted.dtype}")
    if shape != wanted.shape:
        raise ShapeError(f"{where} has shape {format_shape(shape)} in a step, in the body {format_shape(wanted.shape)}")


def _shown(kind: TensorType) -> str:
    return f"{kind.dtype}[{', '.join(str(s) for s in kind.shape)}]"


def _scan(
    *arrays: Any, body: Program | Function, carries: int, slices: int, length: int, reverse: bool, pick: Any
) -> Any:
    """The loop; `pick` may be a tuple, which gives a tuple from one run."""
    program = Program(body, {}) if isinstance(body, Function) else body
    wanted = pick if isinstance(pick, tuple) else (pick,)
    state, xs, rest = arrays[:carries], arrays[carries : carries + slices], arrays[carries + slices :]
    trails = [k for k in wanted if carries <= k < 2 * carries]
    outputs = [k for k in wanted if k >= 2 * carries]
    stacks: dict[int, list[Any]] = {k: [] for k in (*trails, *outputs)}
    for t in reversed(range(length)) if reverse else range(length):
        for k in trails:
            stacks[k].append(state[k - carries])
        results = program(*state, *[x[t] for x in xs], *rest)
        state = results[:carries]
        for k in outputs:
            stacks[k].append(results[k - carries])
    found: dict[int, Any] = dict(enumerate(state))
    for k, rows in stacks.items():
        found[k] = np.stack(rows[::-1] if reverse else rows) if rows else _empty(program, k - carries, carries, arrays)
    return tuple([found[k] for k in wanted]) if isinstance(pick, tuple) else found[pick]


def _empty(program: Program, place: int, carries: int, arrays: Sequence[Any]) -> Any:
    """What no step stacks."""
    dtype = NUMPY_TYPES[program.function.results[place].type.dtype]
    return np.zeros((0, *(np.shape(arrays[place]) if place < carries else program.shape(place))), dtype)


scan = Op(
    "scan", _scan_infer, _scan, Region(), picks=True,
    doc="a loop: operands (*inits, *xs, *constants), xs with the scanned axis first; the body takes (*carries, "
        "*slices, *constants) and gives (*new carries, *step outputs). pick, with C carries: k < C the last carry k, "
        "C <= k < 2C the carry k - C before every step, from 2C on step output k - 2C of every step",
)  # fmt: skip

OPS = (scan,)
