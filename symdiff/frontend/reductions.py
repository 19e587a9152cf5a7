"""NumPy reductions on expressions: sums, means, extremes, products, norms, covariance."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, ShapeError, UnsupportedError
from symdiff.frontend.building import dtype_name, raw_size
from symdiff.frontend.elementwise import (
    absolute,
    as_bool,
    divide,
    elementwise,
    equal,
    multiply,
    not_equal,
    power,
    square,
    subtract,
)
from symdiff.frontend.elementwise import where as choice
from symdiff.frontend.expr import Expr, as_expr, broadcast_to, contraction, promote
from symdiff.frontend.joining import concatenate
from symdiff.frontend.registry import FUNCTIONS, numpy_function, own_function, refuse, scipy_function
from symdiff.frontend.shape_functions import (
    expanded,
    normal_axes,
    normal_axis,
    permuted,
    ravel,
    reshaped,
)
from symdiff.ir.dims import Size, format_shape, product


def _from_back(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(sorted(a - rank for a in axes))


def _kept(result: Any, axes: Sequence[int], keepdims: Any) -> Any:
    return expanded(result, sorted(axes)) if keepdims is True or keepdims == 1 else result


def _count(x: Any, axes: Sequence[int]) -> Size:
    return product(x.value.shape[a] for a in axes)


def _floating(x: Any, dtype: Any = None) -> Any:
    e = promote([x], floating=True)[0]
    return e if dtype is None else e.astype(dtype_name(dtype))


def _limited(x: Any, where: Any, neutral: Any) -> Any:
    """With a number that changes nothing in the place of entries that are left out."""
    return x if where is True else choice(broadcast_to(as_expr(where), x.value.shape), x, neutral)


# -------------------------------------------------------------------- sums and means
def sum_over(x: Any, axes: Sequence[int]) -> Any:
    """Sum over axes 0..rank-1; they leave."""
    return contraction([x], [range(x.ndim)], [a for a in range(x.ndim) if a not in axes])


@numpy_function("sum")
def sum_(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, where: Any = True) -> Any:
    x = as_expr(a)
    if dtype is not None:
        x = x.astype(dtype_name(dtype))
    elif x.dtype == "bool":
        x = x.astype("i64")
    x = _limited(x, where, 0)
    axes = normal_axes(axis, x.ndim, "sum")
    return _kept(sum_over(x, axes), axes, keepdims)


@numpy_function("mean")
def mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    x = _floating(a, dtype)
    axes = normal_axes(axis, x.ndim, "mean")
    count = _count(x, axes)
    if where is not True:
        x = _limited(x, where, 0)
        count = sum_over(broadcast_to(as_bool(where), x.value.shape).astype(x.dtype), axes)
    return _kept(divide(sum_over(x, axes), count), axes, keepdims)


@numpy_function("var")
def var(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, correction: Any = None
) -> Any:
    x = _floating(a, dtype)
    axes = normal_axes(axis, x.ndim, "var")
    deviation = subtract(x, mean(x, axes, keepdims=True))
    count = _count(x, axes) - (ddof if correction is None else correction)
    return _kept(divide(sum_over(square(deviation), axes), count), axes, keepdims)


@numpy_function("std")
def std(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, correction: Any = None
) -> Any:
    """The norm of the deviations over the root of their number: at equal entries its derivative is the norm's, 0."""
    x = _floating(a, dtype)
    axes = normal_axes(axis, x.ndim, "std")
    deviation = subtract(x, mean(x, axes, keepdims=True))
    count = as_expr(_count(x, axes) - (ddof if correction is None else correction)).astype(x.dtype)
    return divide(vector_norm_of(deviation, None, axes, keepdims), elementwise("sqrt", count))


@numpy_function("average")
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = _floating(a)
    axes = normal_axes(axis, x.ndim, "average")
    if weights is None:
        total: Any = as_expr(_count(x, axes)).astype(x.dtype)
        result = mean(x, axes, keepdims=keepdims)
    else:
        x, w = promote([x, weights], floating=True)
        if w.value.shape != x.value.shape:
            if axis is None or w.value.shape != tuple(x.value.shape[i] for i in axes):
                raise ShapeError(
                    f"average: weights of shape {format_shape(w.value.shape)} for an array of shape "
                    f"{format_shape(x.value.shape)}; expected the shape of the array or of its axis"
                )
            w = permuted(w, sorted(range(len(axes)), key=lambda i: axes[i]))
            w = expanded(w, [i for i in range(x.ndim) if i not in axes])
        total = sum_over(broadcast_to(w, x.value.shape), axes)
        result = _kept(divide(sum_over(multiply(x, w), axes), total), axes, keepdims)
        total = _kept(total, axes, keepdims)
    return (result, broadcast_to(total, result.value.shape)) if returned else result


# -------------------------------------------------------------------- extremes
def _extreme(op: str, name: str) -> Any:
    def function(
        a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = as_expr(a)
        if where is not True and initial is None:
            raise ArgumentError(f"{name}: where= needs initial=, the result where no entry is left")
        x = _limited(x, where, initial)
        axes = normal_axes(axis, x.ndim, name)
        if initial is not None:
            x = _beside(x, axes, initial)
            return _kept(x.apply(op, x, axes=(-1,)), axes, keepdims)
        if not axes:
            return x
        for i in axes if x.dtype != "bool" else ():
            if x.value.shape[i] == 0:
                raise ShapeError(f"{name}: axis {i} of shape {format_shape(x.value.shape)} is empty")
        return _kept(x.apply(op, x, axes=_from_back(axes, x.ndim)), axes, keepdims)

    return function


def _beside(x: Any, axes: Sequence[int], initial: Any) -> Any:
    """The entries that are chosen from in the last axis, and one more behind them."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple([x.value.shape[i] for i in kept])
    x = reshaped(permuted(x, [*kept, *sorted(axes)]), (*shape, _count(x, axes)))
    x, more = promote([x, initial])
    return concatenate([x, broadcast_to(more, (*shape, 1))], -1)


max_ = numpy_function("max", "amax")(_extreme("reduce_max", "max"))
min_ = numpy_function("min", "amin")(_extreme("reduce_min", "min"))


@numpy_function("ptp")
def ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return subtract(max_(a, axis, keepdims), min_(a, axis, keepdims))


@numpy_function("any")
def any_(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    return max_(_limited(as_bool(a), where, False), axis, keepdims)


@numpy_function("all")
def all_(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    return min_(_limited(as_bool(a), where, True), axis, keepdims)


@numpy_function("count_nonzero")
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return sum_(as_bool(a), axis, keepdims=keepdims)


@numpy_function("array_equal")
def array_equal(a1: Any, a2: Any) -> Any:
    x, y = as_expr(a1), as_expr(a2)
    return all_(equal(x, y)) if x.shape == y.shape else False


@numpy_function("array_equiv")
def array_equiv(a1: Any, a2: Any) -> Any:
    """Whether entries are equal once both are broadcast; shapes that do not fit are an error here."""
    return all_(equal(a1, a2))


@numpy_function("allclose")
def allclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08) -> Any:
    return all_(FUNCTIONS["isclose"](a, b, rtol, atol))


def _position(op: str) -> Any:
    def function(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
        x = as_expr(a)
        rank = x.ndim
        flat, at = (ravel(x), 0) if axis is None else (x, normal_axis(axis, x.ndim, op))
        result = flat.apply(op, flat.astype("i64") if flat.dtype == "bool" else flat, axis=at - flat.ndim)
        return _kept(result, range(rank) if axis is None else [at], keepdims)

    return function


argmax = numpy_function("argmax")(_position("argmax"))
argmin = numpy_function("argmin")(_position("argmin"))


# -------------------------------------------------------------------- products
@numpy_function("prod")
def prod(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    x = _limited(as_expr(a), where, 1)
    if initial is not None:
        return multiply(prod(x, axis, dtype, keepdims), initial)
    if dtype is not None:
        x = x.astype(dtype_name(dtype))
    elif x.dtype == "bool":
        x = x.astype("i64")
    axes = normal_axes(axis, x.ndim, "prod")
    result = x
    if axes:
        others = [i for i in range(x.ndim) if i not in axes]
        shape = tuple([x.value.shape[i] for i in others])
        last = reshaped(permuted(x, [*others, *sorted(axes)]), (*shape, _count(x, axes)))
        result = last.apply("reduce_prod", last, axis=-1)
    return _kept(result, axes, keepdims)


# -------------------------------------------------------------------- exponential families
def _soft(op: str, x: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    e = _floating(x)
    axes = normal_axes(axis, e.ndim, op)
    return (e.apply(op, e, axes=_from_back(axes, e.ndim)) if axes else None), axes


@own_function("logsumexp")
@scipy_function("logsumexp")
def logsumexp(x: Any, axis: Any = -1, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over the last axis unless `axis` says otherwise (None: all), without overflow."""
    if as_expr(x).ndim == 0:
        axis = None
    result, axes = _soft("logsumexp", x, axis)
    return _floating(x) if result is None else _kept(result, axes, keepdims)


@own_function("softmax")
@scipy_function("softmax")
def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x) / sum(exp(x)) over the last axis unless `axis` says otherwise (None: all)."""
    e = as_expr(x)
    if e.ndim == 0:
        raise ShapeError("softmax: given a scalar, expected an array")
    return _soft("softmax", x, axis)[0]


@own_function("log_softmax")
@scipy_function("log_softmax")
def log_softmax(x: Any, axis: Any = -1) -> Any:
    return subtract(_floating(x), logsumexp(x, axis, keepdims=True))


# -------------------------------------------------------------------- norms
def vector_norm_of(x: Any, order: Any, axes: tuple[int, ...], keepdims: Any = False) -> Any:
    """The p-norm over axes taken together."""
    if order is None or order == 2:
        result = x.apply("norm", x, axes=_from_back(axes, x.ndim)) if axes else absolute(x)
    elif order == np.inf:
        result = max_(absolute(x), axes)
    elif order == -np.inf:
        result = min_(absolute(x), axes)
    elif order == 1:
        result = sum_over(absolute(x), axes)
    elif order == 0:
        result = sum_(not_equal(x, 0).astype(x.dtype), axes)
    else:
        p = exact_order(order)
        result = power(sum_over(power(absolute(x), p), axes), divide(1, as_expr(p, x)) if not isinstance(p, int)
                       else Fraction(1, p))  # fmt: skip
    return _kept(result, axes, keepdims)


def exact_order(order: Any) -> Any:
    if isinstance(order, (int, float, np.number)):
        return int(order) if float(order).is_integer() else float(order)
    if isinstance(order, Expr):
        return order
    raise ArgumentError(f"norm: order {order!r}, expected a number, 'fro', inf or None")


@numpy_function("linalg.norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """Vector p-norms, the Frobenius norm, and the matrix norms 1, inf, -1, -inf."""
    e = _floating(x)
    axes = normal_axes(axis, e.ndim, "norm")
    if ord is None and axis is None:
        return vector_norm_of(e, None, axes, keepdims)
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ArgumentError(f"norm: order {ord!r} is for matrices, given one axis")
        return vector_norm_of(e, ord, axes, keepdims)
    if len(axes) != 2:
        raise ShapeError(f"norm: order {ord!r} over {len(axes)} axes, expected one (vectors) or two (matrices)")
    return _matrix_norm(e, ord, (axes[0], axes[1]), keepdims)


def _matrix_norm(x: Any, order: Any, axes: tuple[int, int], keepdims: Any) -> Any:
    if order is None or order == "fro":
        return vector_norm_of(x, None, axes, keepdims)
    if order in (1, -1, np.inf, -np.inf):
        inner, outer = axes if abs(order) == 1 else axes[::-1]
        sums = sum_(absolute(x), inner, keepdims=True)
        return _kept(_dropped_pair((max_ if order > 0 else min_)(sums, outer, keepdims=True), axes), axes, keepdims)
    raise UnsupportedError(
        f"norm: the matrix norm {order!r} needs singular values, which have no derivative rule here; use 'fro', or "
        "np.linalg.norm(x.ravel()) for the 2-norm of all entries"
    )


def _dropped_pair(x: Any, axes: tuple[int, int]) -> Any:
    return FUNCTIONS["squeeze"](x, axes)


@numpy_function("linalg.vector_norm")
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Any:
    e = _floating(x)
    return vector_norm_of(e, ord, normal_axes(axis, e.ndim, "vector_norm"), keepdims)


@numpy_function("linalg.matrix_norm")
def matrix_norm(x: Any, /, *, keepdims: Any = False, ord: Any = "fro") -> Any:
    e = _floating(x)
    if e.ndim < 2:
        raise ShapeError(f"matrix_norm: shape {format_shape(e.value.shape)}, expected at least two axes")
    return _matrix_norm(e, ord, (e.ndim - 2, e.ndim - 1), keepdims)


# -------------------------------------------------------------------- statistics of rows
@numpy_function("cov")
def cov(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None) -> Any:
    """Covariance of the rows (columns unless `rowvar`)."""
    x = _floating(m)
    x = expanded(x, [0]) if x.ndim == 1 else x if rowvar else permuted(x, (1, 0))
    if y is not None:
        other = _floating(y)
        other = expanded(other, [0]) if other.ndim == 1 else other if rowvar else permuted(other, (1, 0))
        x = concatenate([x, other], 0)
    centred = subtract(x, mean(x, 1, keepdims=True))
    freedom = raw_size((0 if bias else 1) if ddof is None else ddof, "cov: ddof")
    product_ = contraction([centred, centred], [(0, 2), (1, 2)], (0, 1))
    result = divide(product_, x.value.shape[1] - freedom)
    return FUNCTIONS["squeeze"](result)


def ufunc_reduce(
    ufunc: np.ufunc, a: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, **options: Any
) -> Any:
    """`np.add.reduce` and its kin; the axis is 0 unless given."""
    known: dict[Any, Any] = {
        np.add: sum_, np.multiply: prod, np.maximum: max_, np.minimum: min_, np.logical_and: all_, np.logical_or: any_,
        np.logaddexp: logsumexp,
    }  # fmt: skip
    if ufunc not in known:
        raise UnsupportedError(
            f"np.{ufunc.__name__}.reduce is not defined for symbolic arrays, as it is for "
            f"{', '.join([f'np.{u.__name__}' for u in known])}; use sd.scan, which carries a value along an axis"
        )
    if ufunc in (np.maximum, np.minimum):
        options = {k: v for k, v in options.items() if v is not None and v is not getattr(np, "_NoValue", None)}
        extremes = {k: options.pop(k) for k in ("initial", "where") if k in options}
        refuse_options(ufunc, "reduce", options)
        return known[ufunc](a, axis=axis, keepdims=keepdims, **extremes)
    refuse_options(ufunc, "reduce", options)
    if dtype is not None:
        a = as_expr(a).astype(dtype)
    return known[ufunc](a, axis=axis, keepdims=keepdims)


def refuse_options(ufunc: np.ufunc, method: str, options: dict[str, Any]) -> None:
    """Raise for options such as initial= and where= that were given a value."""
    for key, value in options.items():
        if not (value is None or value is True or value is getattr(np, "_NoValue", None)):
            raise UnsupportedError(f"np.{ufunc.__name__}.{method}: argument {key}={value!r} is not supported")


def ufunc_at(ufunc: np.ufunc, *_: Any) -> Any:
    raise UnsupportedError(
        f"np.{ufunc.__name__}.at writes into an array; use x = sd.add_at(x, index, value) for np.add.at"
    )


own_function("ufunc.reduce")(ufunc_reduce)
own_function("ufunc.at")(ufunc_at)

refuse("median percentile quantile nanmedian nanpercentile nanquantile",
       "order statistics other than np.max, np.min have no rule")  # fmt: skip
refuse("histogram histogramdd histogram2d histogram_bin_edges", "counting is not differentiable")
refuse("bincount", "its size depends on values; use sd.add_at(sd.zeros(n), i, weights)")
refuse("apply_along_axis", "use sd.vmap, or the axis= of the function")
refuse("apply_over_axes", "use the axis= of the function, a tuple of axes")
