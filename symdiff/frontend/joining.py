"""NumPy functions that join, split, flip, roll, repeat, pad and cut triangles of expressions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, ShapeError, SymbolicSizeError, UnsupportedError
from symdiff.frontend.building import demand, dtype_name, make, misfit, raw_shape, raw_size, seen, watched
from symdiff.frontend.expr import Expr, as_expr, broadcast_to, contraction, promote, wrap
from symdiff.frontend.registry import FUNCTIONS, numpy_function, own_function, refuse
from symdiff.frontend.shape_functions import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    expanded,
    moveaxis,
    normal_axes,
    normal_axis,
    ravel,
    reshaped,
    swapaxes,
)
from symdiff.ir.dims import Dim, Size, format_shape


# -------------------------------------------------------------------- joining
@numpy_function("concatenate", "concat")
def concatenate(arrays: Any, axis: Any = 0, dtype: Any = None) -> Any:
    parts = promote(list(arrays))
    if not parts:
        raise ArgumentError("concatenate: no arrays given")
    if dtype is not None:
        parts = [p.astype(dtype_name(dtype)) for p in parts]
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    if any(p.ndim == 0 for p in parts):
        raise ShapeError("concatenate: scalars have no axis to join; use np.stack or np.hstack")
    rank = parts[0].ndim
    at = normal_axis(axis, rank, "concatenate")
    if len(parts) == 1:
        return parts[0]
    for p in parts[1:]:
        beside = [(s, t) for a, (s, t) in enumerate(zip(p.value.shape, parts[0].value.shape, strict=False)) if a != at]
        if p.ndim != rank or any(s != t for s, t in beside):
            raise misfit(
                f"concatenate: shapes {format_shape(parts[0].value.shape)} and {format_shape(p.value.shape)} differ "
                f"outside axis {at}",
                *[size for pair in beside if pair[0] != pair[1] for size in pair],
            )
    return wrap(make("concatenate", [p.value for p in parts], axis=at - rank), *parts)


@numpy_function("stack")
def stack(arrays: Any, axis: int = 0, dtype: Any = None) -> Any:
    parts = promote(list(arrays))
    for p in parts:
        if p.value.shape != parts[0].value.shape:
            raise misfit(
                f"stack: shapes {format_shape(parts[0].value.shape)} and {format_shape(p.value.shape)}, expected equal",
                *p.value.shape,
                *parts[0].value.shape,
            )
    if not parts:
        raise ArgumentError("stack: no arrays given")
    at = normal_axis(axis, parts[0].ndim + 1, "stack")
    return concatenate([expanded(p, [at]) for p in parts], at, dtype)


@numpy_function("unstack")
def unstack(x: Any, /, axis: int = 0) -> Any:
    e = moveaxis(as_expr(x), axis, 0)
    return tuple([e[i] for i in range(known_size(e.value.shape[0], "unstack"))])


@numpy_function("hstack")
def hstack(tup: Any, dtype: Any = None) -> Any:
    parts = [atleast_1d(p) for p in tup]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype)


@numpy_function("vstack", "row_stack")
def vstack(tup: Any, dtype: Any = None) -> Any:
    return concatenate([atleast_2d(p) for p in tup], 0, dtype)


@numpy_function("dstack")
def dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(p) for p in tup], 2)


@numpy_function("column_stack")
def column_stack(tup: Any) -> Any:
    parts = [as_expr(p) for p in tup]
    return concatenate([p if p.ndim > 1 else expanded(atleast_1d(p), [1]) for p in parts], 1)


@numpy_function("append")
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate([arr, values], axis)


@own_function("array", "asarray", "np.array", "np.asarray")
def stack_nested(items: Any, dtype: Any = None) -> Any:
    """Nested lists of expressions and numbers as one array, what `np.array` is for numbers."""
    if isinstance(items, (list, tuple)):
        parts = [stack_nested(i) if isinstance(i, (list, tuple)) else i for i in items]
        result = stack(parts) if any(isinstance(p, (Expr, Dim)) for p in parts) else as_expr(np.asarray(items))
    else:
        result = as_expr(items)
    return result if dtype is None else result.astype(dtype)


@numpy_function("block")
def block(arrays: Any) -> Any:
    """Nested lists of blocks: the innermost are joined along the last axis, the next along the one before."""
    depth, item = 0, arrays
    while isinstance(item, list):
        if not item:
            raise ArgumentError("block: an empty list")
        depth, item = depth + 1, item[0]
    leaves = [arrays]
    for _ in range(depth):
        leaves = [i for part in leaves for i in part]
    rank = max([depth, *[as_expr(i).ndim for i in leaves]])
    return _joined_blocks(arrays, depth, rank)


def _joined_blocks(item: Any, depth: int, rank: int) -> Any:
    if depth == 0:
        e = as_expr(item)
        return expanded(e, range(rank - e.ndim))
    return concatenate([_joined_blocks(i, depth - 1, rank) for i in item], rank - depth)


# -------------------------------------------------------------------- splitting
def known_size(size: Size, name: str) -> int:
    """A size as a number; a symbolic one is an error that a trace may answer by knowing it."""
    if isinstance(size, Dim):
        demand(size.names)
        raise SymbolicSizeError(f"{name}: the number of parts is the symbolic size {size}; give it as an integer")
    return size


def window(x: Any, axis: int, start: Any, count: Any, step: int = 1) -> Any:
    """`count` entries along one axis, from `start` by `step`."""
    rest = x.value.shape[axis + 1 :]
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    value = make("slice", [x.value], starts=(start, *zeros), steps=(step, *ones), sizes=(count, *rest))
    return wrap(value, x)


@numpy_function("array_split")
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = as_expr(ary)
    at = normal_axis(axis, x.ndim, "split")
    whole = x.value.shape[at]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections, total = int(indices_or_sections), known_size(whole, "array_split")
        if sections < 1:
            raise ArgumentError(f"array_split: {sections} sections, expected at least 1")
        counts = [total // sections + (i < total % sections) for i in range(sections)]
        edges: list[Any] = [sum(counts[:i]) for i in range(sections + 1)]
    else:
        edges = [0, *[raw_size(i, "split") for i in indices_or_sections], whole]
    before = (slice(None),) * at
    return [x[(*before, slice(start, stop))] for start, stop in pairwise(edges)]


@numpy_function("split")
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = as_expr(ary)
    at = normal_axis(axis, x.ndim, "split")
    if isinstance(indices_or_sections, (int, np.integer)):
        sections, whole = int(indices_or_sections), x.value.shape[at]
        part = whole // sections
        if part * sections != whole:
            raise misfit(f"split: an axis of size {whole} is not known to divide into {sections} equal parts", whole)
        return [window(x, at, part * i, part) for i in range(sections)]
    return array_split(x, indices_or_sections, at)


@numpy_function("hsplit")
def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    x = as_expr(ary)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


@numpy_function("vsplit")
def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return split(ary, indices_or_sections, 0)


@numpy_function("dsplit")
def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return split(ary, indices_or_sections, 2)


# -------------------------------------------------------------------- flipping, rolling, repeating
@numpy_function("flip")
def flip(m: Any, axis: Any = None) -> Any:
    x = as_expr(m)
    for at in normal_axes(axis, x.ndim, "flip"):
        size = x.value.shape[at]
        x = x if size == 0 or size == 1 else window(x, at, size - 1, size, -1)
    return x


@numpy_function("fliplr")
def fliplr(m: Any) -> Any:
    return flip(m, 1)


@numpy_function("flipud")
def flipud(m: Any) -> Any:
    return flip(m, 0)


@numpy_function("rot90")
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    x = as_expr(m)
    first, second = normal_axes(axes, x.ndim, "rot90")
    turns = k % 4
    if turns == 2:
        return flip(x, (first, second))
    if turns == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second) if turns == 3 else x


@numpy_function("roll")
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Along an axis of symbolic size n the shift must lie in -n..n; a run checks it."""
    x = as_expr(a)
    if axis is None:
        return reshaped(roll(ravel(x), shift, 0), x.value.shape)
    axes = normal_axes(axis, x.ndim, "roll")
    shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift] * len(axes)
    if len(axes) == 1:
        axes = axes * len(shifts)
    for at, by in zip(axes, shifts, strict=True):
        size, by = x.value.shape[at], raw_size(by, "roll")
        if isinstance(size, int) and isinstance(by, int):
            by = by % size if size else 0
        elif watched() and (seen(by) > seen(size) or seen(by) < -seen(size)):
            raise misfit(f"roll: a shift by {by} of an axis of size {size}", by, size)
        if by == 0:
            continue
        front = -by if isinstance(by, int) and by < 0 else size - by
        x = concatenate([window(x, at, front, size - front), window(x, at, 0, front)], at)
    return x


@numpy_function("tile")
def tile(A: Any, reps: Any) -> Any:
    x = as_expr(A)
    counts = list(raw_shape(reps, "tile"))
    rank = max(x.ndim, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    shape: list[Size] = [1] * (rank - x.ndim) + list(x.value.shape)
    x = reshaped(x, tuple(shape))
    spread = [s for pair in zip(counts, shape, strict=True) for s in pair]
    x = contraction([x], [range(1, 2 * rank, 2)], range(2 * rank), {2 * i: c for i, c in enumerate(counts)})
    assert list(x.value.shape) == spread
    return reshaped(x, tuple([c * s for c, s in zip(counts, shape, strict=True)]))


@numpy_function("repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x = as_expr(a)
    if axis is None:
        x, axis = ravel(x), 0
    at = normal_axis(axis, x.ndim, "repeat")
    if isinstance(repeats, (int, np.integer, Dim)):
        count, shape = raw_size(repeats, "repeat"), x.value.shape
        own = [i for i in range(x.ndim + 1) if i != at + 1]
        x = contraction([x], [own], range(x.ndim + 1), {at + 1: count})
        return reshaped(x, (*shape[:at], shape[at] * count, *shape[at + 1 :]))
    counts = np.asarray(repeats)
    places = np.repeat(np.arange(known_size(x.value.shape[at], "repeat")), counts)
    return x[(slice(None),) * at + (places,)]


# -------------------------------------------------------------------- padding, triangles
@numpy_function("pad")
def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    x = as_expr(array)
    widths = _pairs(pad_width, x.ndim, "pad_width")
    if mode in _REPEATING:
        for axis, (before, after) in enumerate(widths):
            x = _repeated(x, axis, before, after, mode)
        return x
    if mode != "constant":
        known = ", ".join([repr(m) for m in ("constant", *_REPEATING)])
        raise UnsupportedError(f"pad: mode {mode!r} is not supported, expected one of {known}; use np.concatenate")
    values = _pairs(constant_values, x.ndim, "constant_values")
    if all(isinstance(v, (int, float)) and v == 0 for pair in values for v in pair) and x.dtype != "bool":
        starts = tuple([raw_size(before, "pad") for before, _ in widths])
        for size in (w for pair in widths for w in pair):
            if isinstance(size, (int, np.integer)) and size < 0:
                raise ArgumentError(f"pad: width {size}, expected at least 0")
        sizes = tuple([raw_size(b) + s + raw_size(e) for (b, e), s in zip(widths, x.value.shape, strict=True)])
        return wrap(make("embed", [x.value], starts=starts, steps=(1,) * x.ndim, sizes=sizes), x)
    for axis, ((before, after), (first, last)) in enumerate(zip(widths, values, strict=True)):
        shape = x.value.shape
        ends = [
            broadcast_to(as_expr(v, x).astype(x.dtype), (*shape[:axis], raw_size(w), *shape[axis + 1 :]))
            for w, v in ((before, first), (after, last))
        ]
        x = concatenate([ends[0], x, ends[1]], axis)
    return x


_REPEATING = ("edge", "reflect", "symmetric", "wrap")


def _repeated(x: Any, axis: int, before: Any, after: Any, mode: str) -> Any:
    """Entries of an axis once more at its ends. Of an axis of symbolic size at most as many as it has."""
    size = x.value.shape[axis]
    if not all(isinstance(w, (int, np.integer)) and w >= 0 for w in (before, after)):
        raise ArgumentError(f"pad: widths {before}, {after} with mode {mode!r}, expected integers of at least 0")
    skip = mode == "reflect"
    known = watched() or isinstance(size, int)
    if mode != "edge" and known and max(before, after) > seen(size) - skip:  # several times around
        numpy_pad: Any = np.pad
        return FUNCTIONS["take"](x, numpy_pad(np.arange(known_size(size, "pad")), (before, after), mode=mode), axis)
    if mode == "edge":
        first, last = window(x, axis, 0, 1), window(x, axis, size - 1, 1)
        shape = x.value.shape
        ends = [broadcast_to(e, (*shape[:axis], w, *shape[axis + 1 :])) for e, w in ((first, before), (last, after))]
    elif mode == "wrap":
        ends = [window(x, axis, size - before, before), window(x, axis, 0, after)]
    else:
        ends = [window(x, axis, before - 1 + skip, before, -1), window(x, axis, size - 1 - skip, after, -1)]
    return concatenate([e for e, w in zip((ends[0], x, ends[1]), (before, 1, after), strict=True) if w], axis)


def _pairs(given: Any, rank: int, name: str) -> list[tuple[Any, Any]]:
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, (tuple, list)):
        return [(given, given)] * rank
    if not any(isinstance(g, (tuple, list, np.ndarray)) for g in given):
        if len(given) == 1:
            return [(given[0], given[0])] * rank
        if len(given) == 2:
            return [(given[0], given[1])] * rank
        raise ArgumentError(f"pad: {name} {given!r}, expected a number, a pair, or a pair per axis")
    pairs = [(g[0], g[-1]) for g in given]
    if len(pairs) == 1:
        return pairs * rank
    if len(pairs) != rank:
        raise ArgumentError(f"pad: {len(pairs)} pairs in {name} for rank {rank}")
    return pairs


def _triangle(name: str) -> Any:
    def function(m: Any, k: Any = 0) -> Any:
        x = as_expr(m)
        if x.ndim < 2:
            raise ShapeError(f"{name}: shape {format_shape(x.value.shape)}, expected a matrix")
        return wrap(make(name, [x.value], k=raw_size(k, name)), x)

    return function


tril = numpy_function("tril")(_triangle("tril"))
triu = numpy_function("triu")(_triangle("triu"))


refuse("sort argsort partition argpartition lexsort msort sort_complex",
       "sorting is not differentiable here; index with np.argsort of the numbers")  # fmt: skip
refuse("unique unique_all unique_counts unique_inverse unique_values nonzero flatnonzero argwhere extract compress "
       "union1d intersect1d setdiff1d setxor1d in1d isin",
       "its size depends on values; use np.where(condition, a, b)")  # fmt: skip
refuse("resize insert delete trim_zeros", "use np.concatenate of slices")
refuse("copyto put place putmask fill_diagonal put_along_axis empty_like",
       "expressions are never changed in place; use sd.set, on np.zeros_like(x) for a new array")  # fmt: skip
refuse("bmat asmatrix", "use np.block")
