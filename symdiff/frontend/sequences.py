"""NumPy functions along a sequence: running sums and products, differences, convolutions, polynomials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, ShapeError, UnsupportedError
from symdiff.frontend.building import dtype_name, seen, watched
from symdiff.frontend.creation import arange
from symdiff.frontend.elementwise import add, divide, multiply, not_equal, power, subtract, where
from symdiff.frontend.expr import as_expr, broadcast_to, promote
from symdiff.frontend.joining import concatenate, flip, known_size, pad, stack, window
from symdiff.frontend.linalg_functions import outer
from symdiff.frontend.reductions import max_, min_, prod, refuse_options, sum_over
from symdiff.frontend.registry import numpy_function, own_function, refuse
from symdiff.frontend.shape_functions import expanded, moveaxis, normal_axis, ravel, reshaped
from symdiff.ir.dims import Dim, Size


# -------------------------------------------------------------------- running sums, differences
def _running(a: Any, axis: Any, dtype: Any, name: str) -> tuple[Any, int]:
    """The array in the dtype that totals have, flat when no axis is given, and the axis."""
    x = as_expr(a)
    x = x.astype(dtype_name(dtype)) if dtype is not None else x.astype("i64") if x.dtype == "bool" else x
    return (ravel(x), 0) if axis is None else (x, normal_axis(axis, x.ndim, name))


@numpy_function("cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    flat, at = _running(a, axis, dtype, "cumsum")
    return flat.apply("cumsum", flat, axis=at - flat.ndim, reverse=False)


@numpy_function("cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    """Running products, by a table of n by n: entry [i, j] is x[j] up to i, 1 behind it; zeros differentiate too."""
    flat, at = _running(a, axis, dtype, "cumprod")
    return moveaxis(prod(_table(flat, at, 1), -1), -1, at)


def _table(x: Any, axis: int, beyond: Any) -> Any:
    """Entry [..., i, j] is x[..., j] up to i along the axis, and `beyond` behind it."""
    last = moveaxis(x, axis, -1)
    n = last.value.shape[-1]
    upto = expanded(arange(n), [0]) <= expanded(arange(n), [1])
    return where(upto, expanded(last, [last.ndim - 1]), beyond)


def _extremes(name: str, choose: Callable[..., Any], least: float | int) -> Callable[..., Any]:
    def running(a: Any, axis: Any = 0) -> Any:
        """Running extremes, by a table as running products are."""
        flat, at = _running(a, axis, None, f"{name}.accumulate")
        if flat.value.shape[at] != 0:
            bound = (2**63 - 1 if least > 0 else -(2**63)) if flat.dtype == "i64" else least
            flat = moveaxis(choose(_table(flat, at, bound), -1), -1, at)
        return flat.astype(as_expr(a).dtype)

    return running


@numpy_function("cumulative_sum")
def cumulative_sum(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Any:
    e = as_expr(x)
    if axis is None and e.ndim != 1:
        raise ArgumentError("cumulative_sum: axis is needed unless the array has one axis")
    at = normal_axis(0 if axis is None else axis, e.ndim, "cumulative_sum")
    result = cumsum(e, at, dtype)
    if include_initial:
        shape = (*e.value.shape[:at], 1, *e.value.shape[at + 1 :])
        result = concatenate([broadcast_to(as_expr(0, result), shape), result], at)
    return result


@numpy_function("diff")
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    x = as_expr(a)
    at = normal_axis(axis, x.ndim, "diff")
    ends: list[Any] = [None if e is None or e is getattr(np, "_NoValue", None) else e for e in (prepend, append)]
    if any(e is not None for e in ends):
        shape = (*x.value.shape[:at], 1, *x.value.shape[at + 1 :])
        parts = [None if e is None else as_expr(e, x) for e in ends]
        parts = [p if p is None or p.ndim else broadcast_to(p, shape) for p in parts]
        x = concatenate([p for p in (parts[0], x, parts[1]) if p is not None], at)
    for _ in range(n):
        less_one = x.value.shape[at] - 1
        if isinstance(less_one, int):
            less_one = max(0, less_one)
        a_, b = window(x, at, 1, less_one), window(x, at, 0, less_one)
        x = not_equal(a_, b) if x.dtype == "bool" else subtract(a_, b)
    return x


@numpy_function("trapezoid", "trapz")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    f = promote([y], floating=True)[0]
    at = normal_axis(axis, f.ndim, "trapezoid")
    n = f.value.shape[at]
    middle = divide(window(f, at, 1, n - 1) + window(f, at, 0, n - 1), 2.0)
    if x is None:
        return sum_over(multiply(middle, dx), [at])
    places = as_expr(x)
    if places.ndim == 1:
        step = expanded(diff(places), [a for a in range(f.ndim) if a != at])
    else:
        step = diff(places, axis=at)
    return sum_over(broadcast_to(multiply(middle, step), middle.value.shape), [at])


@numpy_function("ediff1d")
def ediff1d(ary: Any) -> Any:
    return diff(ravel(ary))


# -------------------------------------------------------------------- convolutions, polynomials
@numpy_function("convolve")
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """Modes "valid" and "same" depend on which sequence is longer, which must be known."""
    x, y = promote([a, v])
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError("convolve: expected two vectors")
    n, m = x.value.shape[0], y.value.shape[0]
    if _shorter(n, m, "convolve") if mode != "full" else _seems_shorter(n, m):
        x, y, n, m = y, x, m, n
    if n == 0 or m == 0:
        raise ShapeError("convolve: an empty vector")
    # Row i of the outer product shifted right by i: rows of n + m entries read again as rows of n + m - 1. As many rows
    # as the shorter vector has entries, for the longer one has too many to be taken with itself.
    table = ravel(pad(outer(y, x), ((0, 0), (0, m))))
    whole = sum_over(reshaped(window(table, 0, 0, m * (n + m - 1)), (m, n + m - 1)), [0])
    if mode == "full":
        return whole
    if mode == "same":
        return window(whole, 0, (m - 1) // 2, n)
    if mode != "valid":
        raise ArgumentError(f"convolve: mode {mode!r}, expected 'full', 'same' or 'valid'")
    return window(whole, 0, m - 1, n - m + 1)


def _seems_shorter(n: Size, m: Size) -> bool:
    """Whether the first of two sizes is taken for the smaller one: of a number and a name the number, of names none."""
    if watched() or not (isinstance(n, Dim) or isinstance(m, Dim)):
        return bool(seen(n) < seen(m))
    return not isinstance(n, Dim)


def _shorter(n: Size, m: Size, name: str) -> bool:
    difference = n - m
    if isinstance(difference, Dim) and not watched():
        raise ShapeError(
            f"{name}: modes 'same' and 'valid' need to know which of the sizes {n} and {m} is larger; use mode='full' "
            "and cut the result"
        )
    return bool(seen(n) < seen(m))


@numpy_function("correlate")
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    x, y = as_expr(a), as_expr(v)
    n, m = (e.value.shape[0] if e.ndim else 0 for e in (x, y))
    if mode != "full" and _shorter(n, m, "correlate"):
        raise UnsupportedError("correlate: the first vector is the shorter one; swap them, or use mode='full'")
    return convolve(x, flip(y), mode)


@numpy_function("polyval")
def polyval(p: Any, x: Any) -> Any:
    """Horner's rule; the number of coefficients must be known."""
    coefficients, at = promote([p, x])
    if coefficients.ndim != 1:
        raise ShapeError("polyval: expected a vector of coefficients, highest degree first")
    result: Any = as_expr(0, at).astype(at.dtype)
    for coefficient in coefficients:
        result = add(multiply(result, at), coefficient)
    return broadcast_to(result, at.value.shape)


def ufunc_accumulate(ufunc: np.ufunc, a: Any, axis: Any = 0, **options: Any) -> Any:
    refuse_options(ufunc, "accumulate", options)
    known: dict[Any, Any] = {
        np.add: cumsum, np.multiply: cumprod,
        np.maximum: _extremes("maximum", max_, -np.inf), np.minimum: _extremes("minimum", min_, np.inf),
    }  # fmt: skip
    if ufunc not in known:
        raise UnsupportedError(
            f"np.{ufunc.__name__}.accumulate is not defined for symbolic arrays, as it is for "
            f"{', '.join([f'np.{u.__name__}' for u in known])}; use sd.scan, which carries a value along an axis"
        )
    return known[ufunc](a, axis)


@numpy_function("vander")
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    """Powers as columns; the number of columns must be known."""
    e = as_expr(x)
    if e.ndim != 1:
        raise ShapeError("vander: expected a vector")
    count = known_size(e.value.shape[0] if N is None else N, "vander")
    columns = [power(e, p) for p in range(count)]
    return stack(columns if increasing else columns[::-1], 1)


own_function("ufunc.accumulate")(ufunc_accumulate)

refuse("cumulative_prod", "use np.cumprod")
