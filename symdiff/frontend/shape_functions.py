"""NumPy functions on the axes of expressions: transposing, reshaping, broadcasting, asking for shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from symdiff.errors import ArgumentError, ShapeError, UnsupportedError
from symdiff.frontend.building import make, misfit, raw_shape, seen_shape
from symdiff.frontend.expr import (
    as_expr,
    broadcast_exprs,
    broadcast_shape,
    broadcast_to,
    contraction,
    unit_axes_dropped,
    wrap,
)
from symdiff.frontend.registry import numpy_function, own_function
from symdiff.ir.dims import Dim, Shape, Size, format_shape, product


# -------------------------------------------------------------------- axes as users give them
def normal_axis(axis: Any, rank: int, name: str) -> int:
    """An axis number 0..rank-1."""
    try:
        number = operator.index(axis)
    except TypeError as error:
        raise ArgumentError(f"{name}: axis {axis!r}, expected an integer") from error
    if not -rank <= number < rank:
        raise ArgumentError(f"{name}: axis {number} is out of range for rank {rank}")
    return number % rank if rank else 0


def normal_axes(axis: Any, rank: int, name: str) -> tuple[int, ...]:
    """Distinct axis numbers in the order given; None is all of them."""
    if axis is None:
        return tuple(range(rank))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple([normal_axis(a, rank, name) for a in given])
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"{name}: axis {axis} repeats")
    return axes


def permuted(x: Any, order: Sequence[int]) -> Any:
    """Axes of the result in terms of axes of `x`."""
    return contraction([x], [range(x.ndim)], order)


# -------------------------------------------------------------------- transposing
@numpy_function("transpose", "permute_dims")
def transpose(a: Any, axes: Any = None) -> Any:
    x = as_expr(a)
    if axes is None:
        return permuted(x, range(x.ndim)[::-1])
    order = normal_axes(axes, x.ndim, "transpose")
    if len(order) != x.ndim:
        raise ArgumentError(f"transpose: axes {axes} for shape {format_shape(x.value.shape)}, expected every axis once")
    return permuted(x, order)


@numpy_function("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(x: Any) -> Any:
    x = as_expr(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix transpose: shape {format_shape(x.value.shape)}, expected at least two axes")
    return swapaxes(x, -1, -2)


@numpy_function("swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    x = as_expr(a)
    i, j = normal_axis(axis1, x.ndim, "swapaxes"), normal_axis(axis2, x.ndim, "swapaxes")
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return permuted(x, order)


@numpy_function("moveaxis")
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    x = as_expr(a)
    sources, targets = normal_axes(source, x.ndim, "moveaxis"), normal_axes(destination, x.ndim, "moveaxis")
    if len(sources) != len(targets):
        raise ArgumentError(f"moveaxis: {len(sources)} sources and {len(targets)} destinations")
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return permuted(x, order)


@numpy_function("rollaxis")
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    x = as_expr(a)
    at = normal_axis(axis, x.ndim, "rollaxis")
    start = start + x.ndim if start < 0 else start
    return moveaxis(x, at, start - 1 if start > at else start)


# -------------------------------------------------------------------- reshaping
def expanded(x: Any, axes: Sequence[int]) -> Any:
    """Axes of size 1 at these places of the result."""
    rank = x.ndim + len(axes)
    own = [a for a in range(rank) if a not in axes]
    return contraction([x], [own], range(rank), dict.fromkeys(axes, 1))


def dropped(x: Any, axes: Sequence[int]) -> Any:
    """Without these axes, whose size is 1."""
    if not axes:
        return x
    value = unit_axes_dropped(x.value, axes)
    if value is None:
        shape = tuple([s for a, s in enumerate(x.value.shape) if a not in axes])
        value = make("reshape", [x.value], shape=shape, rank=x.ndim)
    return wrap(value, x)


@numpy_function("expand_dims")
def expand_dims(a: Any, axis: Any) -> Any:
    x = as_expr(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    return expanded(x, sorted(normal_axes(axis, x.ndim + count, "expand_dims")))


@numpy_function("squeeze")
def squeeze(a: Any, axis: Any = None) -> Any:
    """Without axes of size 1; an axis with a symbolic size stays."""
    x = as_expr(a)
    shape = x.value.shape
    if axis is None:
        return dropped(x, [i for i, s in enumerate(x.shape) if s == 1])
    axes = normal_axes(axis, x.ndim, "squeeze")
    for i in axes:
        if shape[i] != 1:
            raise ShapeError(f"squeeze: axis {i} of shape {format_shape(shape)} has size {shape[i]}, expected 1")
    return dropped(x, axes)


@numpy_function("reshape")
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None) -> Any:
    """As `np.reshape` in row-major order; one size may be -1, also among symbolic ones."""
    x = as_expr(a)
    if order not in ("C", None):
        raise UnsupportedError(f"reshape: order {order!r} is not supported; transpose before and after")
    new = list(raw_shape(newshape if shape is None else shape, "reshape"))
    unknown = [i for i, s in enumerate(new) if isinstance(s, int) and s < 0]
    if unknown:
        if len(unknown) > 1 or new[unknown[0]] != -1:
            raise ArgumentError(f"reshape: shape {format_shape(new)}, expected at most one -1")
        known = product(s for i, s in enumerate(new) if i != unknown[0])
        new[unknown[0]] = _quotient(product(x.value.shape), known, x.value.shape, new)
    return reshaped(x, tuple(new))


def reshaped(x: Any, shape: Shape) -> Any:
    """Row-major reshape; where only axes of size 1 come or go, no entries move and none is said to."""
    old = x.value.shape
    if product(old) != product(shape):
        raise misfit(
            f"reshape: from {format_shape(old)} ({product(old)} elements) to {format_shape(shape)} "
            f"({product(shape)} elements), expected equal numbers",
            product(old),
            product(shape),
        )
    if [s for s in old if s != 1] == [s for s in shape if s != 1]:
        core = dropped(x, [i for i, s in enumerate(old) if s == 1]) if old != shape else x
        return expanded(core, [i for i, s in enumerate(shape) if s == 1]) if old != shape else x
    return wrap(make("reshape", [x.value], shape=shape, rank=len(old)), x)


def _quotient(total: Size, known: Size, old: Shape, new: Sequence[Size]) -> Size:
    """total / known where it is a size: polynomial division by a monomial."""
    if isinstance(known, int) and known and (total // known) * known == total:
        return total // known
    if isinstance(known, Dim) and len(known.terms) == 1 and isinstance(total, Dim):
        (monomial, coefficient) = known.terms[0]
        terms: dict[Any, Any] = {}
        for own, factor in total.terms:
            powers = dict(own)
            for atom, power in monomial:
                powers[atom] = powers.get(atom, 0) - power
            if any(p < 0 for p in powers.values()):
                break
            terms[tuple((a, p) for a, p in powers.items() if p)] = factor / coefficient
        else:
            return Dim(terms) + 0  # + 0 turns a constant polynomial into an int
    if isinstance(known, Dim) and isinstance(total, Dim):
        # The other sizes may be a product of sums, such as (n + 1)*m.
        for size in old:
            rest = product(s for i, s in enumerate(old) if i != list(old).index(size))
            if rest == known:
                return size
    raise misfit(
        f"reshape: {format_shape(old)} to {format_shape(new)}: {total} elements are not known to divide by {known}",
        total,
        known,
    )


@numpy_function("ravel")
def ravel(a: Any, order: str = "C") -> Any:
    x = as_expr(a)
    if order not in ("C", "K", "A"):
        raise UnsupportedError(f"ravel: order {order!r} is not supported; use x.T.ravel()")
    return reshaped(x, (product(x.value.shape),))


@numpy_function("atleast_1d")
def atleast_1d(*arrays: Any) -> Any:
    return _each([as_expr(a) if as_expr(a).ndim else expanded(as_expr(a), [0]) for a in arrays])


@numpy_function("atleast_2d")
def atleast_2d(*arrays: Any) -> Any:
    return _each([expanded(x, range(max(0, 2 - x.ndim))) for x in map(as_expr, arrays)])


@numpy_function("atleast_3d")
def atleast_3d(*arrays: Any) -> Any:
    places = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    return _each([expanded(x, places.get(x.ndim, ())) for x in map(as_expr, arrays)])


def _each(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


@own_function("broadcast_to")
@numpy_function("broadcast_to")
def broadcast_to_(array: Any, shape: Any) -> Any:
    return broadcast_to(as_expr(array), raw_shape(shape, "broadcast_to"))


@numpy_function("broadcast_arrays")
def broadcast_arrays(*args: Any) -> Any:
    return tuple(broadcast_exprs([as_expr(a) for a in args], "broadcast_arrays"))


@numpy_function("broadcast_shapes")
def broadcast_shapes_(*shapes: Any) -> Shape:
    return broadcast_shape([raw_shape(s) for s in shapes], "broadcast_shapes")


# -------------------------------------------------------------------- questions about shapes
@numpy_function("shape")
def shape_of(a: Any) -> Shape:
    return as_expr(a).shape


@numpy_function("ndim")
def ndim(a: Any) -> int:
    return as_expr(a).ndim


@numpy_function("size")
def size_of(a: Any, axis: Any = None) -> Size:
    shape = as_expr(a).value.shape
    return seen_shape((product(shape[i] for i in normal_axes(axis, len(shape), "size")),))[0]


@numpy_function("iscomplexobj")
def iscomplexobj(x: Any) -> bool:
    return False


@numpy_function("isrealobj")
def isrealobj(x: Any) -> bool:
    return True


@numpy_function("isreal")
def isreal(x: Any) -> Any:
    return broadcast_to(as_expr(True), as_expr(x).value.shape)


@numpy_function("iscomplex")
def iscomplex(x: Any) -> Any:
    return broadcast_to(as_expr(False), as_expr(x).value.shape)


@numpy_function("imag")
def imag(val: Any) -> Any:
    e = as_expr(val)
    return broadcast_to(as_expr(0).astype(e.dtype), e.value.shape)
