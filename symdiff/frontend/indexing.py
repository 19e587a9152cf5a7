"""NumPy's index language on expressions: slices, integers, None, ellipsis, integer arrays, known boolean masks.

An index is read once into a `Plan` (see `plan_index`), which reading `x[i]` and the functional updates of `update`
share. Bounds of an axis with a known size are clamped as in NumPy; with a symbolic size they are taken as they are,
negative numbers counting from the end, and a run checks them. While a function is traced the sizes of the example
decide, so bounds are clamped as well, and the trace remembers what was compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, ShapeError, UnsupportedError
from symdiff.frontend.building import make, misfit, raw_size, seen, watched
from symdiff.frontend.expr import Expr, as_expr, broadcast_exprs, wrap
from symdiff.frontend.registry import numpy_function, own_function
from symdiff.frontend.shape_functions import dropped, expanded, normal_axis, permuted, ravel
from symdiff.ir.dims import Dim, Shape, Size, format_shape


@dataclass(frozen=True, slots=True)
class Plan:
    """An index of an array of rank k, in four steps.

    Cut the window (`starts`, `steps`, `counts`, one per axis; whole axes at integer arrays). Drop its axes `integers`,
    whose size is 1. Gather with `arrays` (one shape) on the axes `gathered` of what remains: the axes of the arrays
    come after the first `place` other axes. Put axes of size 1 at the places `new` of the result.
    """

    starts: tuple[Size, ...]
    steps: tuple[int, ...]
    counts: tuple[Size, ...]
    integers: tuple[int, ...]
    gathered: tuple[int, ...]
    arrays: tuple[Any, ...]
    place: int
    new: tuple[int, ...]


# -------------------------------------------------------------------- one axis
def _from_end(bound: Any, size: Size) -> Size:
    """A bound that counts from the end when it is negative: a negative number, or a dimension such as -k."""
    bound = raw_size(bound, "an index")
    negative = bound < 0 if isinstance(bound, int) else all(c < 0 for _, c in bound.terms)
    return bound + size if negative else bound


def slice_window(index: slice, size: Size) -> tuple[Size, int, Size]:
    """(start, step, count) of a slice of an axis. One of nothing starts nowhere in particular: at 0."""
    start, step, count = _window(index, size)
    return (0, 1, 0) if count == 0 else (start, step, count)


def _window(index: slice, size: Size) -> tuple[Size, int, Size]:
    step = 1 if index.step is None else raw_size(index.step, "a slice step")
    if not isinstance(step, int) or step == 0:
        raise ArgumentError(f"a slice step is {step}, expected a non-zero integer")
    given = [None if b is None else raw_size(b, "a slice bound") for b in (index.start, index.stop)]
    if isinstance(size, int) and not any(isinstance(b, Dim) for b in given):
        start, stop, step = slice(index.start, index.stop, step).indices(size)
        return start, step, len(range(start, stop, step))
    if watched():
        start, count = _clamped([None if b is None else seen(b) for b in given], step, seen(size))
        return raw_size(start), step, raw_size(count)
    if step > 0:
        start = 0 if given[0] is None else _from_end(given[0], size)
        stop = size if given[1] is None else _from_end(given[1], size)
        count = (stop - start + (step - 1)) // step
    else:
        start = size - 1 if given[0] is None else _from_end(given[0], size)
        stop = -1 if given[1] is None else _from_end(given[1], size)
        count = (start - stop + (-step - 1)) // -step
    return start, step, max(0, count) if isinstance(count, int) else count


def _clamped(given: list[Any], step: int, size: Any) -> tuple[Any, Any]:
    """(start, count) by Python's rules for slices; a trace remembers how sizes and bounds compared."""
    low, high = (0, size) if step > 0 else (-1, size - 1)

    def bound(value: Any, default: Any) -> Any:
        if value is None:
            return default
        if value < 0:
            value = value + size
            return low if value < low else value
        return high if value > high else value

    start = bound(given[0], low if step > 0 else high)
    stop = bound(given[1], high if step > 0 else low)
    span = stop - start if step > 0 else start - stop
    return start, (span + (abs(step) - 1)) // abs(step) if span > 0 else 0


def _integer(index: Any, axis: int, size: Size) -> Size:
    place: Any = seen(_from_end(index, size))
    if isinstance(place, int):
        outside = place < 0 or ((isinstance(size, int) or watched()) and place >= seen(size))
    else:
        outside = watched() and (place < 0 or place >= seen(size))
    if outside:
        raise ArgumentError(f"index {index} is out of range for axis {axis} of size {size}")
    return raw_size(place)


# -------------------------------------------------------------------- the whole index
def _array_items(item: Any) -> list[Any] | None:
    """The integer arrays that an item of an index stands for, None when it is basic."""
    if isinstance(item, Expr):
        if item.dtype == "bool":
            raise UnsupportedError(
                "x[mask] with a symbolic mask has a size that depends on values; use np.where(mask, x, 0), or a mask "
                "that is a NumPy array"
            )
        if item.dtype != "i64":
            raise DtypeError(f"an index has dtype {item.dtype}, expected i64; use x.astype(int)")
        return [item]
    if isinstance(item, (bool, np.bool_)):
        raise UnsupportedError(f"x[{item}]: a boolean number as an index is not supported; use None or slices")
    if not isinstance(item, (list, tuple, np.ndarray)):
        return None
    if isinstance(item, (list, tuple)) and any(isinstance(i, Expr) for i in item):
        return _array_items(as_expr(item))
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype == np.bool_:
        return [as_expr(a) for a in np.nonzero(array)]
    if array.dtype.kind not in "iu":
        raise DtypeError(f"an index array has dtype {array.dtype}, expected integers or booleans")
    return [as_expr(array)]


def _axes_taken(item: Any) -> int:
    if item is None:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1


def _spelled_out(index: Any, shape: Shape) -> tuple[list[Any], int]:
    """Index items, lists of booleans as arrays, the ellipsis as slices; and the item before which it stood, or -1."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [np.asarray(i) if isinstance(i, list) and i and np.asarray(i).dtype == np.bool_ else i for i in items]
    dots = [n for n, i in enumerate(items) if i is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("an index has more than one ellipsis (...)")
    missing = len(shape) - sum(_axes_taken(i) for i in items if i is not Ellipsis)
    if missing < 0:
        raise ArgumentError(f"{len(shape) - missing} indices for an array of shape {format_shape(shape)}")
    at = dots[0] if dots else len(items)
    return [*items[:at], *[slice(None)] * missing, *items[at + bool(dots) :]], at if dots else -1


def plan_index(index: Any, shape: Shape) -> Plan:
    """Read an index of an array of this shape."""
    items, dots = _spelled_out(index, shape)
    lists = [_array_items(i) for i in items]
    advanced = any(found is not None for found in lists)
    starts: list[Size] = []
    steps: list[int] = []
    counts: list[Size] = []
    integers: list[int] = []
    gathered: list[int] = []
    arrays: list[Any] = []
    marks: list[str] = []  # per item: "new", "kept", "one" (integer) or "array"
    for item, found in zip(items, lists, strict=True):
        axis = len(starts)
        if item is None:
            marks.append("new")
            continue
        size = shape[axis] if found is None or found else 0
        if found is not None:
            if isinstance(item, np.ndarray) and item.dtype == np.bool_:
                _check_mask(item, shape[axis : axis + item.ndim])
            for array in found:
                gathered.append(len(starts))
                arrays.append(array)
                _check_known(array, len(starts), shape[len(starts)])
                starts.append(0)
                steps.append(1)
                counts.append(shape[len(starts) - 1])
            marks.append("array")
        elif isinstance(item, slice):
            start, step, count = slice_window(item, size)
            starts.append(start)
            steps.append(step)
            counts.append(count)
            marks.append("kept")
        elif isinstance(item, (int, np.integer, Dim)):
            starts.append(_integer(item, axis, size))
            steps.append(1)
            counts.append(1)
            integers.append(axis)
            marks.append("one")
        else:
            raise ArgumentError(
                f"index {item!r} of axis {axis}: expected an integer, a slice, None, ..., an integer array or a mask"
            )
    # Beside index arrays an integer counts as one of them for the place of their axes (NumPy's rule).
    joint = [n for n, m in enumerate(marks) if m == "array" or (advanced and m == "one")]
    # Separated by anything else, be it an ellipsis that stands for nothing, their axes come first.
    front = bool(joint) and (joint[0] < dots <= joint[-1] or joint != list(range(joint[0], joint[-1] + 1)))
    place = 0 if front or not joint else marks[: joint[0]].count("kept")
    arrays = broadcast_exprs(arrays, "index arrays") if len(arrays) > 1 else arrays
    rank = arrays[0].ndim if arrays else 0
    new: list[int] = []
    at = rank if front else 0
    for n, mark in enumerate(marks):
        if mark == "new":
            new.append(at)
        if mark in ("new", "kept"):
            at += 1
        elif joint and n == joint[0] and not front:
            at += rank
    remaining = tuple([a - sum(1 for i in integers if i < a) for a in gathered])
    return Plan(
        tuple(starts), tuple(steps), tuple(counts), tuple(integers), remaining, tuple(arrays), place, tuple(new)
    )


def _check_mask(mask: Any, shape: Shape) -> None:
    if tuple(mask.shape) != tuple(shape):
        message = f"a boolean mask has shape {mask.shape}, but the axes it indexes have {format_shape(shape)}"
        raise misfit(message, *shape)


def _check_known(array: Any, axis: int, size: Size) -> None:
    """Check numbers that are known now against a size that is known now."""
    if array.value.op.name == "array" and isinstance(size, int):
        numbers = array.value.attr("value").array
        bad = numbers[(numbers < -size) | (numbers >= size)]
        if bad.size:
            raise ArgumentError(f"index {bad.ravel()[0]} is out of range for axis {axis} of size {size}")
    elif array.value.op.name == "const" and isinstance(size, int) and not -size <= array.value.attr("value") < size:
        raise ArgumentError(f"index {array.value.attr('value')} is out of range for axis {axis} of size {size}")


# -------------------------------------------------------------------- reading
def cut(x: Any, plan: Plan) -> Any:
    """The window of a plan, integers as axes of size 1."""
    attrs = {"starts": plan.starts, "steps": plan.steps, "sizes": plan.counts}
    return wrap(make("slice", [x.value], **attrs), x) if plan.starts else x


@own_function("getitem")
def getitem(x: Any, index: Any) -> Any:
    """`x[index]`."""
    x = as_expr(x)
    plan = plan_index(index, x.value.shape)
    x = dropped(cut(x, plan), plan.integers)
    if plan.arrays:
        x = gather(x, plan)
    return expanded(x, plan.new) if plan.new else x


def gather(x: Any, plan: Plan) -> Any:
    """Gather with a plan's arrays from its window without the integer axes."""
    moved = permuted(x, gather_order(plan, x.ndim))
    arrays = [a.value for a in plan.arrays]
    return wrap(make("gather", [moved.value, *arrays], axis=plan.place - x.ndim), x, *plan.arrays)


def gather_order(plan: Plan, rank: int) -> list[int]:
    """The axes in the order in which the gathered ones are neighbours in their place."""
    others = [a for a in range(rank) if a not in plan.gathered]
    return [*others[: plan.place], *plan.gathered, *others[plan.place :]]


# -------------------------------------------------------------------- functions
@numpy_function("take")
def take(a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        raise UnsupportedError(f"take: mode {mode!r} is not supported, expected 'raise'")
    x = as_expr(a)
    if axis is None:
        return ravel(x)[_index_expr(indices)]
    return x[(slice(None),) * normal_axis(axis, x.ndim, "take") + (_index_expr(indices),)]


def _index_expr(indices: Any) -> Any:
    return indices if isinstance(indices, (int, np.integer, Dim)) else as_expr(indices)


@numpy_function("take_along_axis")
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    x, places = as_expr(arr), as_expr(indices)
    if axis is None:
        x, axis = ravel(x), 0
    if places.dtype != "i64" or places.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis: indices of dtype {places.dtype} and rank {places.ndim}, expected i64 of rank {x.ndim}"
        )
    at = normal_axis(axis, x.ndim, "take_along_axis")
    grids: list[Any] = []
    for i, size in enumerate(x.value.shape):
        if i == at:
            grids.append(places)
        else:
            # An axis of size 1 in one of the two goes with any size in the other.
            line = wrap(make("iota", [], size=size)) if size != 1 else as_expr(np.zeros(1, np.int64))
            grids.append(expanded(line, [j for j in range(x.ndim) if j != i]))
    return x[tuple(broadcast_exprs(grids, "take_along_axis"))]


@numpy_function("choose")
def choose(a: Any, choices: Any) -> Any:
    raise UnsupportedError("choose is not defined for symbolic arrays; use np.select or np.where")
