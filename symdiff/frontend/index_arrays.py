"""Index arrays of NumPy for symbolic sizes: open meshes, triangles, diagonals, flat positions and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, ShapeError, UnsupportedError
from symdiff.frontend.building import raw_shape, raw_size
from symdiff.frontend.creation import arange
from symdiff.frontend.elementwise import divide, elementwise, where
from symdiff.frontend.expr import as_expr, broadcast_exprs
from symdiff.frontend.joining import concatenate, stack
from symdiff.frontend.registry import numpy_function, own_function, refuse
from symdiff.frontend.shape_functions import expanded
from symdiff.ir.dims import Shape, Size, format_shape


@numpy_function("ix_")
def ix_(*args: Any) -> tuple[Any, ...]:
    """An open mesh: the k-th vector along axis k, for all combinations of indices."""
    vectors = [as_expr(a) for a in args]
    for v in vectors:
        if v.ndim != 1:
            raise ShapeError(f"ix_: an index of shape {format_shape(v.value.shape)}, expected vectors")
        if v.dtype == "bool":
            raise UnsupportedError("ix_: how many indices a symbolic mask has depends on values; use np.where")
    rank = len(vectors)
    return tuple([expanded(v, [a for a in range(rank) if a != at]) for at, v in enumerate(vectors)])


@own_function("indices", "np.indices")
def indices(dimensions: Any, sparse: bool = False) -> Any:
    """The index of every place of an array; sizes may be symbolic."""
    grids = ix_(*[arange(s) for s in raw_shape(dimensions, "indices")])
    return grids if sparse else stack(broadcast_exprs(list(grids), "indices"))


@own_function("diag_indices", "np.diag_indices")
def diag_indices(n: Any, ndim: int = 2) -> tuple[Any, ...]:
    """The indices of the main diagonal of an array of `ndim` axes of size n."""
    return (arange(n),) * ndim


@numpy_function("diag_indices_from")
def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    shape = as_expr(arr).value.shape
    if len(shape) < 2 or any(s != shape[0] for s in shape):
        raise ShapeError(f"diag_indices_from: shape {format_shape(shape)}, expected equal sizes")
    return diag_indices(shape[0], len(shape))


# -------------------------------------------------------------------- triangles
def _size_of_triangle(side: Size) -> Size:
    return side * (side + 1) // 2


def _in_triangle(places: Any) -> tuple[Any, Any]:
    """Row and column of the p-th entry of a lower triangle, row by row: p = r (r + 1) / 2 + c."""
    guess = divide(elementwise("sqrt", 8 * places + 1) - 1, 2).astype("i64")
    guess = where((guess + 1) * (guess + 2) // 2 <= places, guess + 1, guess)  # a root may be rounded
    row = where(guess * (guess + 1) // 2 > places, guess - 1, guess)
    return row, places - row * (row + 1) // 2


def _lower(size: Size, k: int) -> tuple[Any, Any]:
    """Entries on and below the k-th diagonal of a square, row by row."""
    if k <= 0:
        row, column = _in_triangle(arange(_size_of_triangle(size + k)))
        if k < -1:  # a side of -2 would have an entry: both are read where a negative size is refused
            row, column = arange(size + k)[row], arange(size + k)[column]
        return row - k, column
    # A triangle without its first k rows, then k + 1 full rows.
    first = _size_of_triangle(k)
    row, column = _in_triangle(arange(_size_of_triangle(size - 1) - first) + first)
    full = arange((k + 1) * size)
    rows = concatenate([row - k, full // size + (size - 1 - k)])
    return rows, concatenate([column, full % size])


def _sides(name: str, n: Any, k: Any, m: Any) -> tuple[Size, int, Size]:
    rows, offset = raw_size(n, name), raw_size(k, f"{name}: offset")
    columns = rows if m is None else raw_size(m, name)
    if not isinstance(offset, int):
        raise UnsupportedError(f"{name}: offset {offset}, expected an integer; use np.tri")
    if rows != columns and not (isinstance(rows, int) and isinstance(columns, int)):
        raise UnsupportedError(f"{name}: sizes {rows} and {columns}, expected equal ones, or numbers; use np.tri")
    return rows, offset, columns


@own_function("tril_indices", "np.tril_indices")
def tril_indices(n: Any, k: Any = 0, m: Any = None) -> tuple[Any, Any]:
    """Rows and columns on and below the k-th diagonal, row by row; n may be symbolic, and is then more than abs(k)."""
    rows, offset, columns = _sides("tril_indices", n, k, m)
    if isinstance(rows, int) and isinstance(columns, int):
        row, column = np.tril_indices(rows, offset, columns)
        return as_expr(row), as_expr(column)
    return _lower(rows, offset)


@own_function("triu_indices", "np.triu_indices")
def triu_indices(n: Any, k: Any = 0, m: Any = None) -> tuple[Any, Any]:
    """Rows and columns on and above the k-th diagonal, row by row; n may be symbolic, and is then more than abs(k)."""
    rows, offset, columns = _sides("triu_indices", n, k, m)
    if isinstance(rows, int) and isinstance(columns, int):
        row, column = np.triu_indices(rows, offset, columns)
        return as_expr(row), as_expr(column)
    row, column = _lower(rows, -offset)  # turned by half a turn
    return rows - 1 - row[::-1], rows - 1 - column[::-1]


def _sides_of(name: str, arr: Any) -> Shape:
    shape = as_expr(arr).value.shape
    if len(shape) != 2:
        raise ShapeError(f"{name}: shape {format_shape(shape)}, expected a matrix")
    return shape


@numpy_function("tril_indices_from")
def tril_indices_from(arr: Any, k: Any = 0) -> tuple[Any, Any]:
    rows, columns = _sides_of("tril_indices_from", arr)
    return tril_indices(rows, k, columns)


@numpy_function("triu_indices_from")
def triu_indices_from(arr: Any, k: Any = 0) -> tuple[Any, Any]:
    rows, columns = _sides_of("triu_indices_from", arr)
    return triu_indices(rows, k, columns)


# -------------------------------------------------------------------- flat positions
def _integers(name: str, index: Any) -> Any:
    e = as_expr(index)
    if e.dtype != "i64":
        raise ArgumentError(f"{name}: an index of dtype {e.dtype}, expected integers")
    return e


@numpy_function("ravel_multi_index")
def ravel_multi_index(multi_index: Any, dims: Any, mode: str = "raise", order: str = "C") -> Any:
    """Flat positions in row-major order; indices are not looked at: what leaves its axis is not refused here."""
    sizes = raw_shape(dims, "ravel_multi_index")
    if mode != "raise" or order != "C":
        raise UnsupportedError(f"ravel_multi_index: mode {mode!r}, order {order!r}, expected 'raise' and 'C'")
    if len(multi_index) != len(sizes):
        raise ArgumentError(f"ravel_multi_index: {len(multi_index)} indices for {len(sizes)} sizes")
    total: Any = as_expr(0)
    for index, size in zip(multi_index, sizes, strict=True):
        total = total * size + _integers("ravel_multi_index", index)
    return total


@numpy_function("unravel_index")
def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Any, ...]:
    """The index on every axis of flat positions in row-major order."""
    rest = _integers("unravel_index", indices)
    if order != "C":
        raise UnsupportedError(f"unravel_index: order {order!r}, expected 'C'")
    found: list[Any] = []
    for size in reversed(raw_shape(shape, "unravel_index")):
        found.insert(0, rest % size)
        rest = rest // size
    return tuple(found)


refuse("mask_indices", "use np.tril_indices, np.triu_indices, or a mask and np.where")
