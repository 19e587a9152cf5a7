"""NumPy functions of sampled curves: logarithmic grids, interpolation, differences, polynomials by coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.creation import arange, linspace
from symdiff.frontend.elementwise import (
    add,
    divide,
    elementwise,
    greater,
    less,
    less_equal,
    maximum,
    minimum,
    multiply,
    power,
    subtract,
    where,
)
from symdiff.frontend.expr import Expr, as_expr, broadcast_exprs, broadcast_to, promote
from symdiff.frontend.joining import concatenate, pad, roll, window
from symdiff.frontend.linalg_functions import diagonal
from symdiff.frontend.reductions import cov, sum_
from symdiff.frontend.registry import numpy_function, refuse
from symdiff.frontend.sequences import convolve, diff
from symdiff.frontend.shape_functions import expanded, moveaxis, normal_axes
from symdiff.ir.dims import Size, format_shape


# -------------------------------------------------------------------- grids
@numpy_function("logspace")
def logspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0) -> Any:
    """Powers of the base with evenly spaced exponents; `num` may be symbolic."""
    return power(as_expr(base), linspace(start, stop, num, endpoint))


@numpy_function("geomspace")
def geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True) -> Any:
    """From start to stop by equal factors; both have one sign, as in NumPy, and `num` may be symbolic."""
    first, last = broadcast_exprs(promote([start, stop], floating=True), "geomspace")
    part = linspace(as_expr(0.0, first), as_expr(1.0, first), num, endpoint)
    return multiply(first, power(divide(last, first), expanded(part, range(1, first.ndim + 1))))


# -------------------------------------------------------------------- places among samples
@numpy_function("searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left") -> Any:
    """How many entries of the rising vector `a` lie before each of `v`, counted one by one."""
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side {side!r}, expected 'left' or 'right'")
    grid, places = promote([a, v])
    if grid.ndim != 1:
        raise ShapeError(f"searchsorted: samples of shape {format_shape(grid.value.shape)}, expected a vector")
    below = (less if side == "left" else less_equal)(grid, expanded(places, [places.ndim]))
    return sum_(below, -1)


@numpy_function("digitize")
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """The bin of every entry. The bins rise; falling ones must be numbers."""
    side = "left" if right else "right"
    if not isinstance(bins, (list, tuple, np.ndarray)) or any(isinstance(b, Expr) for b in bins):
        return searchsorted(bins, x, side)
    edges = np.asarray(bins)
    if edges.ndim != 1 or edges.dtype.kind not in "iufb":
        raise ShapeError(f"digitize: bins of shape {edges.shape} and dtype {edges.dtype}, expected a vector of numbers")
    steps = np.diff(edges)
    if np.all(steps >= 0):
        return searchsorted(edges, x, side)
    if np.any(steps > 0):
        raise ArgumentError(f"digitize: bins {edges}, expected them to rise or to fall")
    return len(edges) - searchsorted(edges[::-1], x, side)


@numpy_function("interp")
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Any:
    """Through samples by straight lines, constant outside. At a sample the derivative is that of the line behind it."""
    x_, grid, values = promote([x, xp, fp], floating=True)
    if grid.ndim != 1 or grid.value.shape != values.value.shape:
        raise ShapeError(
            f"interp: samples of shapes {format_shape(grid.value.shape)} and {format_shape(values.value.shape)}, "
            "expected two vectors of one length"
        )
    count = grid.value.shape[0]
    low = values[0] if left is None else as_expr(left, values)
    high = values[-1] if right is None else as_expr(right, values)
    if count == 1:
        inner: Any = values[0]
    else:
        at = minimum(maximum(searchsorted(grid, x_, "right") - 1, 0), as_expr(count - 2))
        x0, x1, f0, f1 = grid[at], grid[at + 1], values[at], values[at + 1]
        inner = add(multiply(divide(subtract(f1, f0), subtract(x1, x0)), subtract(x_, x0)), f0)
    return where(less(x_, grid[0]), low, where(greater(x_, grid[-1]), high, inner))


# -------------------------------------------------------------------- numerical differences
@numpy_function("gradient")
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Second-order differences inside, one-sided ones at the ends; spacings are numbers or coordinates, per axis."""
    values = promote([f], floating=True)[0]
    axes = normal_axes(axis, values.ndim, "gradient")
    if edge_order not in (1, 2):
        raise ArgumentError(f"gradient: edge_order {edge_order!r}, expected 1 or 2")
    if len(varargs) not in (0, 1, len(axes)):
        raise ArgumentError(f"gradient: {len(varargs)} spacings for {len(axes)} axes")
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    found = [
        moveaxis(_differences(moveaxis(values, at, -1), as_expr(h, values), edge_order), -1, at)
        for at, h in zip(axes, spacings, strict=True)
    ]
    return found[0] if len(found) == 1 else tuple(found)


def _differences(f: Any, spacing: Any, edge_order: int) -> Any:
    """Along the last axis: sums of neighbours with weights that follow from the steps between them."""
    count = f.value.shape[-1]
    if isinstance(count, int) and count < edge_order + 1:
        raise ShapeError(f"gradient: {count} samples along an axis, expected at least {edge_order + 1}")
    if spacing.ndim > 1 or (spacing.ndim == 1 and spacing.value.shape[0] != count):
        raise ShapeError(
            f"gradient: spacing of shape {format_shape(spacing.value.shape)}, expected a number or {count} coordinates"
        )
    at = f.ndim - 1
    steps = diff(spacing) if spacing.ndim else broadcast_to(promote([spacing, f])[0], (count - 1,))

    def samples(start: Size, length: Size) -> list[Any]:
        return [window(f, at, start + i, length) for i in range(3)]

    before, behind = window(steps, 0, 0, count - 2), window(steps, 0, 1, count - 2)
    both = add(before, behind)
    weights = [
        divide(-behind, multiply(before, both)), divide(subtract(behind, before), multiply(before, behind)),
        divide(before, multiply(behind, both)),
    ]  # fmt: skip
    inner = _weighted(weights, samples(0, count - 2))
    ends: list[Any] = []
    for last in (False, True):
        if edge_order == 1:
            rise = subtract(window(f, at, count - 1 if last else 1, 1), window(f, at, count - 2 if last else 0, 1))
            ends.append(divide(rise, window(steps, 0, count - 2 if last else 0, 1)))
            continue
        # Of the parabola through three samples, at its outer one: h is the step there, g the one beside it.
        h, g = (window(steps, 0, place, 1) for place in ((count - 2, count - 3) if last else (0, 1)))
        outer = divide(2 * h + g, multiply(h, h + g))
        middle, inmost = divide(h + g, multiply(h, g)), divide(h, multiply(g, h + g))
        own = [inmost, -middle, outer] if last else [-outer, middle, -inmost]
        ends.append(_weighted(own, samples(count - 3 if last else 0, 1)))
    return concatenate([ends[0], inner, ends[1]], -1)


def _weighted(weights: Sequence[Any], samples: Sequence[Any]) -> Any:
    first, second, third = (multiply(w, s) for w, s in zip(weights, samples, strict=True))
    return add(add(first, second), third)


# -------------------------------------------------------------------- polynomials, highest coefficient first
@numpy_function("polyder")
def polyder(p: Any, m: int = 1) -> Any:
    e = as_expr(p)
    for _ in range(m):
        degree = e.value.shape[0] - 1
        e = multiply(window(e, 0, 0, degree), degree - arange(degree))
    return e


@numpy_function("polyint")
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """k: the constants of integration, one for every time, or one for all."""
    e = promote([p], floating=True)[0]
    constants = [0.0] * m if k is None else list(k) if isinstance(k, (list, tuple, np.ndarray)) else [k] * m
    if len(constants) != m:
        raise ArgumentError(f"polyint: {len(constants)} constants for {m} integrations")
    for constant in constants:
        count = e.value.shape[0]
        e = concatenate([divide(e, count - arange(count)), expanded(as_expr(constant, e), [0])])
    return e


@numpy_function("polymul")
def polymul(a1: Any, a2: Any) -> Any:
    return convolve(a1, a2)


def _beside(name: str, a1: Any, a2: Any) -> list[Any]:
    """Coefficients of equal length, zeros in front of the shorter ones."""
    parts = promote([a1, a2])
    lengths = [p.value.shape[0] for p in parts]
    missing = lengths[0] - lengths[1]
    if not isinstance(missing, int):
        raise ShapeError(f"{name}: {lengths[0]} and {lengths[1]} coefficients, which of them are more is not known")
    fronts = (max(0, -missing), max(0, missing))
    return [pad(p, ((front, 0),)) if front else p for p, front in zip(parts, fronts, strict=True)]


@numpy_function("polyadd")
def polyadd(a1: Any, a2: Any) -> Any:
    return add(*_beside("polyadd", a1, a2))


@numpy_function("polysub")
def polysub(a1: Any, a2: Any) -> Any:
    return subtract(*_beside("polysub", a1, a2))


# -------------------------------------------------------------------- correlations, spectra
@numpy_function("corrcoef")
def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Any:
    """Covariances over the roots of the variances of both rows."""
    table = cov(x, y, rowvar)
    if not table.ndim:
        return divide(table, table)
    scale = elementwise("sqrt", diagonal(table))
    return divide(divide(table, expanded(scale, [1])), expanded(scale, [0]))


def _shifted(sign: int, name: str) -> Any:
    def function(x: Any, axes: Any = None) -> Any:
        e = as_expr(x)
        chosen = normal_axes(axes, e.ndim, name)
        halves = [e.value.shape[a] // 2 for a in chosen]
        return roll(e, [h if sign > 0 else e.value.shape[a] - h for a, h in zip(chosen, halves, strict=True)], chosen)

    return function


fftshift = numpy_function("fft.fftshift")(_shifted(1, "fftshift"))
ifftshift = numpy_function("fft.ifftshift")(_shifted(-1, "ifftshift"))


refuse("fft.fft fft.ifft fft.rfft fft.irfft fft.hfft fft.ihfft fft.fft2 fft.ifft2 fft.rfft2 fft.irfft2 fft.fftn "
       "fft.ifftn fft.rfftn fft.irfftn", "complex numbers are not supported; use products with np.cos and np.sin of "
       "2*np.pi*np.outer(k, t)/n, or np.convolve")  # fmt: skip
refuse("polyfit", "solve its normal equations: V = np.vander(x, n); np.linalg.solve(V.T @ V, V.T @ y)")
refuse("poly polydiv roots", "use np.polyval, np.polymul, np.polyder, or write the polynomial")
