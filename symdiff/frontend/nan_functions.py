"""NumPy functions that leave out NaN: what is left out is selected away, so that it reaches no value and no derivative.

Where nothing is left, the result is NaN as in NumPy (0 for sums, 1 for products), without a warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symdiff.frontend.elementwise import (
    divide,
    elementwise,
    equal,
    invert,
    isnan,
    square,
    subtract,
    where,
)
from symdiff.frontend.expr import as_expr, promote
from symdiff.frontend.reductions import any_, argmax, argmin, max_, min_, prod, sum_, vector_norm_of
from symdiff.frontend.registry import numpy_function
from symdiff.frontend.sequences import cumprod, cumsum
from symdiff.frontend.shape_functions import normal_axes


def _filled(a: Any, value: float) -> Any:
    """With a number in the place of NaN."""
    x = as_expr(a)
    return x if x.dtype in ("i64", "bool") else where(isnan(x), value, x)


@numpy_function("nansum")
def nansum(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
    return sum_(_filled(a, 0), axis, dtype, keepdims)


@numpy_function("nanprod")
def nanprod(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
    return prod(_filled(a, 1), axis, dtype, keepdims)


@numpy_function("nancumsum")
def nancumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return cumsum(_filled(a, 0), axis, dtype)


@numpy_function("nancumprod")
def nancumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return cumprod(_filled(a, 1), axis, dtype)


def _present(x: Any, axis: Any, keepdims: Any) -> Any:
    """How many entries are numbers."""
    return sum_(invert(isnan(x)), axis, keepdims=keepdims).astype(x.dtype)


@numpy_function("nanmean")
def nanmean(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
    x = promote([a], floating=True)[0]
    x = x if dtype is None else x.astype(dtype)
    return divide(nansum(x, axis, keepdims=keepdims), _present(x, axis, keepdims))


def _deviations(a: Any, axis: Any, dtype: Any) -> tuple[Any, Any]:
    """Deviations from the mean, 0 at NaN."""
    x = promote([a], floating=True)[0]
    x = x if dtype is None else x.astype(dtype)
    return x, where(isnan(x), 0, subtract(x, nanmean(x, axis, keepdims=True)))


def _freedom(x: Any, axis: Any, ddof: Any, keepdims: Any) -> Any:
    """The number of entries less ddof; NaN where that leaves nothing."""
    count = subtract(_present(x, axis, keepdims), ddof)
    return where(count > 0, count, np.nan)


@numpy_function("nanvar")
def nanvar(a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False) -> Any:
    x, deviation = _deviations(a, axis, dtype)
    return divide(sum_(square(deviation), axis, keepdims=keepdims), _freedom(x, axis, ddof, keepdims))


@numpy_function("nanstd")
def nanstd(a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False) -> Any:
    """A norm of deviations, as np.std: at equal entries its derivative is 0."""
    x, deviation = _deviations(a, axis, dtype)
    norm = vector_norm_of(deviation, None, normal_axes(axis, x.ndim, "nanstd"), keepdims)
    return divide(norm, elementwise("sqrt", _freedom(x, axis, ddof, keepdims)))


def _nan_extreme(extreme: Any, last: float) -> Any:
    def function(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
        x = as_expr(a)
        if x.dtype in ("i64", "bool"):
            return extreme(x, axis, keepdims)
        some = any_(invert(isnan(x)), axis, keepdims)
        return where(some, extreme(_filled(x, last), axis, keepdims), np.nan)

    return function


nanmax = numpy_function("nanmax")(_nan_extreme(max_, -np.inf))
nanmin = numpy_function("nanmin")(_nan_extreme(min_, np.inf))


@numpy_function("nanargmax")
def nanargmax(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """The first largest entry; 0 where all are NaN, which NumPy refuses."""
    return argmax(_filled(a, -np.inf), axis, keepdims=keepdims)


@numpy_function("nanargmin")
def nanargmin(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return argmin(_filled(a, np.inf), axis, keepdims=keepdims)


@numpy_function("nan_to_num")
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Numbers for NaN and the infinities; where they stand the derivative is 0."""
    e = as_expr(x)
    if e.dtype in ("i64", "bool"):
        return e
    largest = float(np.finfo(np.float32 if e.dtype == "f32" else np.float64).max)
    top, bottom = (largest if posinf is None else posinf), (-largest if neginf is None else neginf)
    return where(isnan(e), nan, where(equal(e, np.inf), top, where(equal(e, -np.inf), bottom, e)))
