"""Check a gradient against numbers that come from the function alone.

Takes a scalar function of NumPy arrays, a point and a gradient; gives a `GradientReport` that is true when every entry
agrees. Each entry is measured by central differences on two steps (their difference estimates the error, and the step
moves until that error is small) and, where the function takes complex numbers, by the complex step, which has no
cancellation. Where left and right slopes disagree a kink is suspected, and any value between them is accepted.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from symdiff.arguments import argument_numbers, positions
from symdiff.checking.judging import Derivative, Sizes, judge
from symdiff.checking.report import ArgumentReport, Entry, GradientReport
from symdiff.checking.slopes import Counted, measure
from symdiff.errors import ArgumentError, DtypeError, ShapeError, at_least_one
from symdiff.ir.dims import format_shape

GradientOf: TypeAlias = Callable[[Callable[..., Any], "tuple[int, ...]"], Callable[..., Any]]

_RTOL = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}


def check_gradient(
    function: Callable[..., Any],
    *points: Any,
    gradient: Any = None,
    argnums: int | Sequence[int] | None = None,
    rtol: float | None = None,
    directions: int | None = None,
    seed: int = 0,
    gradient_of: GradientOf | None = None,
    names: Sequence[str] | None = None,
) -> GradientReport:
    """Compare a gradient of the scalar `function` at `points` with central differences and the complex step.

    gradient: a callable of the points, or its values; one array, or one per checked argument.
    argnums: which arguments to check, all by default. gradient_of(function, argnums) makes a missing gradient.
    directions: check along so many random directions per argument, instead of every entry.
    The cost is two evaluations per derivative and step (two steps at least), and one complex one.
    """
    if not points:
        raise ArgumentError("check_gradient: no point is given; call it as check_gradient(function, x0, gradient=g)")
    arrays = [_float_array(p, i) for i, p in enumerate(points)]
    chosen = _argument_numbers(argnums, len(arrays))
    labels = _names(function, names, len(arrays))
    claims = _gradient_values(function, gradient, gradient_of, chosen, arrays, labels)
    eps = max(float(np.finfo(arrays[i].dtype).eps) for i in chosen)
    rtol = max(_RTOL[arrays[i].dtype] for i in chosen) if rtol is None else _tolerance(rtol)
    directions = None if directions is None else at_least_one(directions, "check_gradient: directions")
    counted = Counted(function, arrays)
    value = counted.real(chosen[0], np.array(arrays[chosen[0]]))
    reports: list[ArgumentReport] = []
    rng = np.random.default_rng(seed)
    for number, claim in zip(chosen, claims, strict=True):
        entries: list[Entry] = []
        if math.isfinite(value):
            finite = claim[np.isfinite(claim)]
            largest = float(np.max(np.abs(finite), initial=0.0))
            found = [
                _derivative(counted, number, place, direction, scale, claim, value, eps, rtol)
                for place, direction, scale in _directions(arrays[number], directions, rng)
            ]
            around = max((d.slope.size for d in found), default=0.0)
            sizes = Sizes(around, max((d.slope.rounding for d in found), default=0.0), largest, eps)
            entries = [judge(d, sizes, rtol) for d in found]
        reports.append(ArgumentReport(labels[number], arrays[number].shape, directions is not None, tuple(entries)))
    return GradientReport(tuple(reports), value, rtol, counted.evaluations, counted.complex_evaluations)


def _derivative(counted: Counted, number: int, place: tuple[int, ...], direction: Any, scale: float, claim: Any,
                value: float, eps: float, rtol: float) -> Derivative:  # fmt: skip
    x = counted.points[number]
    moved = direction != 0
    # Not the whole product: a NaN in the gradient belongs to its own entry.
    analytic = float(np.sum(claim[moved] * direction[moved]))

    def along(t: float) -> float:
        return counted.real(number, x + x.dtype.type(t) * direction)

    least = math.sqrt(eps) * float(np.max(np.abs(x[moved]), initial=0.0))
    slope = measure(along, value, scale, least, eps, 0.01 * rtol, analytic == 0)
    return Derivative(place, analytic, scale, slope, counted.complex_slope(number, direction))


def _directions(x: Any, count: int | None, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], Any, float]]:
    """(place, direction, scale of the step): every unit vector, or `count` random directions of length one."""
    typical = math.sqrt(float(np.mean(np.abs(x) ** 2))) if x.size else 1.0
    if count is not None:
        for number in range(count if x.size else 0):
            direction = rng.standard_normal(x.shape)
            direction = np.asarray(direction / np.linalg.norm(direction), x.dtype)
            yield (number,), direction, typical * math.sqrt(x.size) or 1.0
        return
    for place in np.ndindex(*x.shape):
        direction = np.zeros(x.shape, x.dtype)
        direction[place] = 1
        yield place, direction, max(abs(float(x[place])), typical) or 1.0


# -------------------------------------------------------------------- reading the arguments
def _float_array(point: Any, number: int) -> Any:
    array = np.asarray(point)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype not in _RTOL:
        raise DtypeError(f"check_gradient: point {number} has dtype {array.dtype}, expected float64 or float32")
    if not np.all(np.isfinite(array)):
        bad = array[~np.isfinite(array)][0]
        raise ArgumentError(f"check_gradient: point {number} holds {bad}, expected finite numbers")
    return array


def _tolerance(rtol: Any) -> float:
    if isinstance(rtol, (int, float, np.integer, np.floating)) and 0 < rtol < math.inf:
        return float(rtol)
    raise ArgumentError(f"check_gradient: rtol={rtol!r}, expected a positive number")


def _argument_numbers(argnums: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(count))
    given = positions(argument_numbers(argnums, "check_gradient"), count, "check_gradient")
    if not given:
        raise ArgumentError("check_gradient: argnums is empty")
    return given


def _names(function: Callable[..., Any], names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        try:
            parameters = inspect.signature(function).parameters.values()
            names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        except (TypeError, ValueError):  # builtins and some callables tell no signature
            names = []
    return tuple(names[i] if i < len(names) else f"argument {i}" for i in range(count))


def _gradient_values(
    function: Callable[..., Any],
    gradient: Any,
    gradient_of: GradientOf | None,
    chosen: tuple[int, ...],
    arrays: Sequence[Any],
    labels: Sequence[str],
) -> list[Any]:
    """One array per checked argument, of the argument's shape."""
    if gradient is None:
        if gradient_of is None:
            raise ArgumentError("check_gradient: no gradient is given; pass gradient=g, a callable or its values")
        gradient = gradient_of(function, chosen)
    values: Any = gradient(*[np.array(a) for a in arrays]) if callable(gradient) else gradient
    # A list can be one vector written out; only a tuple is one value per argument.
    several = isinstance(values, tuple) or (isinstance(values, list) and len(chosen) > 1)
    listed: list[Any] = list(values) if several else [values]
    if len(listed) != len(chosen):
        raise ArgumentError(
            f"check_gradient: the gradient has {len(listed)} parts for {len(chosen)} checked arguments "
            f"({', '.join(labels[i] for i in chosen)}); choose them with argnums="
        )
    results: list[Any] = []
    for number, part in zip(chosen, listed, strict=True):
        array = np.asarray(part, dtype=np.float64)
        if array.shape != arrays[number].shape:
            raise ShapeError(
                f"check_gradient: the gradient in {labels[number]} has shape {format_shape(array.shape)}, "
                f"expected {format_shape(arrays[number].shape)}"
            )
        results.append(array)
    return results
