"""Arrays made from shapes and values: zeros, ones, eye, arange of symbolic sizes, and what is like an expression."""

from __future__ import annotations

from typing import Any

from symdiff.errors import ArgumentError, UnsupportedError
from symdiff.frontend.building import BUILDER, dtype_name, make, raw_shape, raw_size
from symdiff.frontend.elementwise import add, divide, maximum, multiply, subtract
from symdiff.frontend.expr import as_expr, broadcast_exprs, broadcast_to, promote, wrap
from symdiff.frontend.registry import numpy_function, own_function
from symdiff.frontend.shape_functions import expanded, ravel
from symdiff.ir.contraction import identity
from symdiff.ir.dims import format_shape


# -------------------------------------------------------------------- arrays from shapes
@numpy_function("zeros_like")
def zeros_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return full_like(a, 0, dtype, shape)


@numpy_function("ones_like")
def ones_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return full_like(a, 1, dtype, shape)


@numpy_function("full_like")
def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    x = as_expr(a)
    fill = as_expr(fill_value).astype(x.dtype if dtype is None else dtype_name(dtype))
    return wrap(broadcast_to(fill, x.value.shape if shape is None else raw_shape(shape)).value, x)


@own_function("zeros", "np.zeros")
def zeros(shape: Any, dtype: Any = "f64") -> Any:
    """Zeros; unlike NumPy's, sizes may be symbolic."""
    return full(shape, 0, dtype)


@own_function("ones", "np.ones")
def ones(shape: Any, dtype: Any = "f64") -> Any:
    return full(shape, 1, dtype)


@own_function("full", "np.full")
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    fill = as_expr(fill_value)
    sizes = raw_shape(shape, "full")
    if any(isinstance(s, int) and s < 0 for s in sizes):
        raise ArgumentError(f"full: shape {format_shape(sizes)} has a negative size")
    return broadcast_to(fill if dtype is None else fill.astype(dtype), sizes)


@own_function("eye", "np.eye", "np.identity", "identity")
def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = "f64") -> Any:
    """Ones on the k-th diagonal; sizes may be symbolic."""
    rows = raw_size(N, "eye")
    columns = rows if M is None else raw_size(M, "eye")
    if any(isinstance(s, int) and s < 0 for s in (rows, columns)):
        raise ArgumentError(f"eye: shape {format_shape((rows, columns))} has a negative size")
    if rows == columns and k == 0:
        return wrap(identity(BUILDER, (rows,), dtype_name(dtype)))
    row, column = arange(rows), arange(columns)
    return (expanded(row, [1]) + raw_size(k, "eye") == column).astype(dtype)


@own_function("arange", "np.arange")
def arange(start: Any, stop: Any = None, step: int = 1, dtype: Any = None) -> Any:
    """Integers from start to stop by step; bounds may be symbolic."""
    first, last = (0, start) if stop is None else (start, stop)
    if any(isinstance(v, float) for v in (first, last, step)):
        raise UnsupportedError("arange: sizes are integers here; scale the result, 0.1 * sd.arange(n)")
    first, last = raw_size(first, "arange"), raw_size(last, "arange")
    if step == 0:
        raise ArgumentError("arange: step 0, expected another integer")
    count = (last - first + (step - 1 if step > 0 else step + 1)) // step
    if isinstance(count, int):
        count = max(0, count)
    places = wrap(make("iota", [], size=count))
    result = places * step + first
    return result if dtype is None else result.astype(dtype)


@numpy_function("meshgrid")
def meshgrid(*xi: Any, indexing: str = "xy", sparse: bool = False) -> Any:
    vectors = [ravel(x) for x in xi]
    rank = len(vectors)
    axes = list(range(rank))
    if indexing == "xy" and rank > 1:
        axes[:2] = [1, 0]
    grids = [expanded(v, [a for a in range(rank) if a != at]) for v, at in zip(vectors, axes, strict=True)]
    return tuple(grids if sparse else broadcast_exprs(grids, "meshgrid"))


@numpy_function("linspace")
def linspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True) -> Any:
    """`num` may be symbolic; the ends may be arrays, as in NumPy."""
    first, last = broadcast_exprs(promote([start, stop], floating=True), "linspace")
    count = raw_size(num, "linspace")
    if isinstance(count, int) and count < 0:
        raise ArgumentError(f"linspace: {count} points, expected at least 0")
    steps = count - 1 if endpoint else count
    # A single point has no steps, and lies at the start.
    steps = max(steps, 1) if isinstance(steps, int) else maximum(steps, as_expr(1))
    part = divide(arange(count), steps).astype(first.dtype)
    part = expanded(part, range(1, first.ndim + 1))
    return add(multiply(part, subtract(last, first)), first)


@own_function("tri", "np.tri")
def tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = "f64") -> Any:
    """Ones on and below the k-th diagonal; sizes may be symbolic."""
    rows = raw_size(N, "tri")
    value = ones((rows, rows if M is None else raw_size(M, "tri")), dtype)
    return wrap(make("tril", [value.value], k=raw_size(k, "tri")), value)
