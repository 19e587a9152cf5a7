"""Functional updates: `set_at` for `x[index] = value`, `add_at` for `np.add.at(x, index, value)`, as new arrays.

The index language is that of reading. Overwritten entries have no influence whatever they were: a NaN in their place
does not reach a value or a derivative, because the new array selects, it does not multiply by zero. Where an index
names a place twice, the last value stays, as in NumPy, and `add_at` adds all of them.
"""

from __future__ import annotations

from typing import Any

from symdiff.errors import DtypeError, ShapeError, UnsupportedError
from symdiff.frontend.building import BUILDER, make, weak_dtype
from symdiff.frontend.elementwise import add, where
from symdiff.frontend.expr import Expr, as_expr, broadcast_to, is_weak, wrap
from symdiff.frontend.indexing import Plan, cut, gather_order, plan_index
from symdiff.frontend.registry import own_function
from symdiff.frontend.shape_functions import dropped, expanded, permuted, reshaped
from symdiff.ir.dims import Shape, format_shape, product

_ORDER = {"bool": 0, "i64": 1, "f32": 2, "f64": 3}


@own_function("set_at")
def set_at(x: Any, index: Any, value: Any) -> Any:
    """A copy of `x` with `x[index] = value`."""
    return _update(x, index, value, adding=False)


@own_function("add_at")
def add_at(x: Any, index: Any, value: Any) -> Any:
    """A copy of `x` with `value` added at `index`; places named several times get every value."""
    return _update(x, index, value, adding=True)


def _update(x: Any, index: Any, value: Any, adding: bool) -> Any:
    x = as_expr(x, value)
    name = "add_at" if adding else "set"
    value = _fitting(value, x, name)
    x = wrap(x.value, x, value)
    if isinstance(index, Expr) and index.dtype == "bool":
        return _masked(x, index, value, adding, name)
    plan = plan_index(index, x.value.shape)
    if not plan.arrays:
        return _write(x, plan, value, adding, name)
    window = dropped(cut(x, plan), plan.integers)
    order = gather_order(plan, window.ndim)
    moved = permuted(window, order)
    moved = (_scatter if adding else _assign)(moved, plan, value, name)
    inverse = sorted(range(len(order)), key=order.__getitem__)
    updated = permuted(moved, inverse)
    return _write(x, plan, updated, False, name, new=())


def _fitting(value: Any, x: Any, name: str) -> Any:
    """The value in the dtype of the array, if that keeps its numbers."""
    own = x.value.type.dtype
    dtype = weak_dtype(own, value) if is_weak(value) else as_expr(value).value.type.dtype
    if _ORDER[dtype] > _ORDER[own] and not (dtype == "f64" and own == "f32"):
        raise DtypeError(
            f"{name}: a value of dtype {dtype} does not fit an array of dtype {x.dtype}; use x.astype(float) first"
        )
    return as_expr(value, x).astype(x.dtype)


def _to_shape(value: Any, shape: Shape, name: str) -> Any:
    """Broadcast a value to the shape of what it replaces; extra leading axes of size 1 leave, as in NumPy."""
    own = value.value.shape
    extra = max(0, len(own) - len(shape))
    if any(s != 1 for s in own[:extra]):
        raise ShapeError(f"{name}: a value of shape {format_shape(own)} does not fit {format_shape(shape)}")
    try:
        return broadcast_to(dropped(value, range(extra)), shape)
    except ShapeError as error:
        raise ShapeError(f"{name}: a value of shape {format_shape(own)} does not fit {format_shape(shape)}") from error


def _with_new(shape: Shape, new: tuple[int, ...]) -> Shape:
    result = list(shape)
    for place in new:
        result.insert(place, 1)
    return tuple(result)


def _write(x: Any, plan: Plan, value: Any, adding: bool, name: str, new: tuple[int, ...] | None = None) -> Any:
    """Put a value at a plan's window."""
    kept = tuple([c for a, c in enumerate(plan.counts) if a not in plan.integers])
    places = plan.new if new is None else new
    block = dropped(_to_shape(value, _with_new(kept, places), name), places)
    block = expanded(block, plan.integers) if plan.integers else block
    embedded = _embed(block, plan, x.value.shape)
    if adding:
        return add(x, embedded)
    mask = _embed(wrap(BUILDER.const(True, plan.counts, "bool"), x), plan, x.value.shape)
    return where(mask, embedded, x)


def _embed(block: Any, plan: Plan, shape: Shape) -> Any:
    if not plan.starts:
        return block
    return wrap(make("embed", [block.value], starts=plan.starts, steps=plan.steps, sizes=shape), block)


def _values(moved: Any, plan: Plan, value: Any, name: str) -> tuple[Any, int, int]:
    """The value in the order of the gathered axes; the rank of the index arrays; the number of gathered axes."""
    rank, count = plan.arrays[0].ndim, len(plan.arrays)
    shape = moved.value.shape
    read = (*shape[: plan.place], *plan.arrays[0].value.shape, *shape[plan.place + count :])
    return dropped(_to_shape(value, _with_new(read, plan.new), name), plan.new), rank, count


def _scatter(moved: Any, plan: Plan, value: Any, name: str) -> Any:
    values, _, count = _values(moved, plan, value, name)
    sizes = moved.value.shape[plan.place : plan.place + count]
    arrays = [a.value for a in plan.arrays]
    total = make("scatter_add", [values.value, *arrays], axis=plan.place - moved.ndim, sizes=sizes)
    return add(moved, wrap(total, moved))


def _assign(moved: Any, plan: Plan, value: Any, name: str) -> Any:
    values, rank, count = _values(moved, plan, value, name)
    shape = moved.value.shape
    before, sizes, after = shape[: plan.place], shape[plan.place : plan.place + count], shape[plan.place + count :]
    number = product(plan.arrays[0].value.shape)
    if number == 0:
        return moved
    writer = wrap(make("last_writer", [a.value for a in plan.arrays], sizes=sizes))
    flat = reshaped(values, (*before, number, *after)) if rank != 1 else values
    picked = wrap(make("gather", [flat.value, writer.value], axis=plan.place - flat.ndim), moved)
    written = expanded(writer >= 0, range(count, count + len(after)))
    return where(written, picked, moved)


def _masked(x: Any, mask: Any, value: Any, adding: bool, name: str) -> Any:
    shape = x.value.shape
    if mask.value.shape != shape[: mask.ndim]:
        raise ShapeError(
            f"{name}: a mask of shape {format_shape(mask.value.shape)} for an array of shape {format_shape(shape)}"
        )
    if value.ndim > len(shape) - mask.ndim:
        raise UnsupportedError(
            f"{name}: with a symbolic mask each place gets the same value; use np.where(mask, values, x)"
        )
    spread = expanded(mask, range(mask.ndim, len(shape)))
    if adding:
        return add(x, where(spread, value, as_expr(0, x).astype(x.dtype)))
    return where(spread, value, x)
