"""Reading and writing at integer positions that are values: gather, its transpose scatter_add, and last_writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, EvaluationError, ShapeError
from symdiff.ir.builder import Handle
from symdiff.ir.dims import Shape, format_shape
from symdiff.ir.op import Attrs, Linear, NoDerivative, Op, Sample
from symdiff.ir.types import TensorType


def _index_types(name: str, types: Sequence[TensorType]) -> Shape:
    if not types:
        raise ArgumentError(f"{name}: no index array given")
    for kind in types:
        if kind.dtype != "i64":
            raise DtypeError(f"{name}: an index has dtype {kind.dtype}, expected i64")
        if kind.shape != types[0].shape:
            raise ShapeError(
                f"{name}: index shapes {format_shape(types[0].shape)} and {format_shape(kind.shape)}, expected equal"
            )
    return types[0].shape


def _gather_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind, at = types[0], types[0].rank + attrs["axis"]
    indices = _index_types("gather", types[1:])
    if not 0 <= at <= kind.rank - (len(types) - 1):
        raise ArgumentError(f"gather: {len(types) - 1} axes from {attrs['axis']} for rank {kind.rank}")
    return TensorType(kind.dtype, (*kind.shape[:at], *indices, *kind.shape[at + len(types) - 1 :]))


def _checked(name: str, indices: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, ...]:
    """Indices with negative ones counted from the end; raises when one leaves its axis."""
    fixed: list[Any] = []
    for number, (index, whole) in enumerate(zip(indices, sizes, strict=True)):
        bad = (index < -whole) | (index >= whole)
        if np.any(bad):
            worst = np.asarray(index)[bad].ravel()[0]
            raise EvaluationError(f"{name}: index {worst} (index array {number}) leaves an axis of size {whole}")
        fixed.append(np.where(index < 0, index + whole, index))
    return tuple(fixed)


def _gather(x: Any, *indices: Any, axis: int) -> Any:
    at = np.ndim(x) + axis
    fixed = _checked("gather", indices, np.shape(x)[at : at + len(indices)])
    return np.array(x[(slice(None),) * at + fixed])


def _gather_transpose(ct: Handle, x: Handle, *indices: Handle, axis: int) -> tuple[Handle | None, ...]:
    at = x.rank + axis
    sizes = x.shape[at : at + len(indices)]
    return (ct.op("scatter_add", *indices, axis=axis, sizes=sizes), *(None for _ in indices))


gather = Op(
    "gather", _gather_infer, _gather, Linear(_gather_transpose),
    sample=Sample(draw=lambda rng: [
        ((rng.normal(size=(2, 5, 3)), np.array([[0, 4], [4, -1]])), {"axis": -2}),
        ((rng.normal(size=(4, 5)), np.array([0, 3, 3]), np.array([1, 1, 1])), {"axis": -2})]),
    doc="x at integer indices on consecutive axes, the first of them `axis`; the axes of the index arrays take their "
        "place. Negative indices count from the end",
)  # fmt: skip


def _scatter_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind, sizes, axis = types[0], attrs["sizes"], attrs["axis"]
    indices = _index_types("scatter_add", types[1:])
    after = -axis - len(sizes)
    at = kind.rank - after - len(indices)
    if len(sizes) != len(types) - 1 or after < 0 or at < 0:
        raise ArgumentError(f"scatter_add: {len(types) - 1} index arrays, sizes {format_shape(sizes)}, axis {axis}")
    if kind.shape[at : at + len(indices)] != indices:
        raise ShapeError(
            f"scatter_add: updates of shape {format_shape(kind.shape)} and index arrays of shape "
            f"{format_shape(indices)} do not fit at axis {at}"
        )
    return TensorType(kind.dtype, (*kind.shape[:at], *sizes, *kind.shape[at + len(indices) :]))


def _scatter_add(u: Any, *indices: Any, axis: int, sizes: Any) -> Any:
    fixed = _checked("scatter_add", indices, sizes)
    shape, k = np.shape(u), np.ndim(indices[0])
    after = -axis - len(sizes)
    at = len(shape) - after - k
    result = np.zeros((*shape[:at], *sizes, *shape[at + k :]), np.asarray(u).dtype)
    where: Any = (slice(None),) * at + fixed
    np.add.at(result, where, u)
    return result


def _scatter_transpose(ct: Handle, u: Handle, *indices: Handle, axis: int, sizes: Shape) -> tuple[Handle | None, ...]:
    return (ct.op("gather", *indices, axis=axis), *(None for _ in indices))


scatter_add = Op(
    "scatter_add", _scatter_infer, _scatter_add, Linear(_scatter_transpose),
    sample=Sample(draw=lambda rng: [
        ((rng.normal(size=(2, 2, 2, 3)), np.array([[0, 4], [4, -1]])), {"axis": -2, "sizes": (5,)}),
        ((rng.normal(size=(3,)), np.array([0, 3, 3]), np.array([1, 1, 1])), {"axis": -2, "sizes": (4, 5)})]),
    doc="the transpose of gather: zeros with updates added at the indices, repeated ones summed; `axis` is the first "
        "indexed axis of the result, counted from the end",
)  # fmt: skip


def _writer_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    _index_types("last_writer", types)
    if len(attrs["sizes"]) != len(types):
        raise ArgumentError(f"last_writer: {len(types)} index arrays for sizes {format_shape(attrs['sizes'])}")
    return TensorType("i64", attrs["sizes"])


def _last_writer(*indices: Any, sizes: Any) -> Any:
    result = np.full(sizes, -1, np.int64)
    fixed = _checked("last_writer", indices, sizes)
    # maximum.at, not assignment: NumPy leaves the order of repeated writes undefined.
    np.maximum.at(result, fixed, np.arange(np.size(indices[0])).reshape(np.shape(indices[0])))
    return result


last_writer = Op(
    "last_writer", _writer_infer, _last_writer, NoDerivative("integers"),
    sample=Sample(draw=lambda rng: [((np.array([0, 3, 3]), np.array([1, 1, 1])), {"sizes": (4, 2)})]),
    doc="for every position of an array, the flat number of the last index that names it, or -1: assignment by index",
)  # fmt: skip

OPS = (gather, scatter_add, last_writer)
