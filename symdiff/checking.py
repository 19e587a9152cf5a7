"""Check a gradient against numbers that come from the function alone.

Takes a scalar function of NumPy arrays, a point and a gradient; gives a `GradientReport` that is true when every entry
agrees. Each entry is measured by central differences on two steps (their difference estimates the error, and the step
moves until that error is small) and, where the function takes complex numbers, by the complex step, which has no
cancellation. Where left and right slopes disagree a kink is suspected, and any value between them is accepted.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from symdiff.arguments import argument_numbers, positions
from symdiff.errors import ArgumentError, DtypeError, ShapeError, at_least_one
from symdiff.ir.dims import format_shape

Verdict: TypeAlias = Literal["ok", "differs", "kink", "not finite", "uncertain"]
Scalar: TypeAlias = Callable[[float], float]
GradientOf: TypeAlias = Callable[[Callable[..., Any], "tuple[int, ...]"], Callable[..., Any]]

# Steps move by this factor, at most this often, until the estimated error is small against the tolerance.
_FACTOR, _TRIES = 16.0, 10
_RTOL = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}


_HEADER: tuple[str, ...] = (
    "argument", "shape", "worst at", "analytic", "central", "complex step", "rel. error", "step", "verdict",
)  # fmt: skip
# What a function that is not written for complex numbers may raise.
_COMPLEX_REFUSED = (
    TypeError, ValueError, ArithmeticError, AttributeError, np.exceptions.ComplexWarning, np.linalg.LinAlgError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One derivative: the gradient's claim and what was measured.

    place: the index in the argument, or the number of a random direction. left, right: one-sided slopes.
    uncertainty: estimated error of `central`. complex_step: None where the function does not take complex numbers.
    """

    place: tuple[int, ...]
    analytic: float
    central: float
    complex_step: float | None
    left: float
    right: float
    step: float
    uncertainty: float
    error: float
    kink: bool
    verdict: Verdict

    @property
    def failed(self) -> bool:
        return self.verdict in ("differs", "not finite")


@dataclass(frozen=True, slots=True)
class ArgumentReport:
    """All entries of one argument."""

    name: str
    shape: tuple[int, ...]
    directions: bool
    entries: tuple[Entry, ...]

    @property
    def worst(self) -> Entry | None:
        """The entry that speaks most against the gradient; None for an empty array."""
        order = {"not finite": 4, "differs": 3, "kink": 2, "uncertain": 1, "ok": 0}
        return max(self.entries, key=lambda e: (e.failed, e.error, order[e.verdict]), default=None)

    def where(self, entry: Entry) -> str:
        """`W[1, 2]`, `t`, or `x along direction 3`."""
        if self.directions:
            return f"{self.name} along direction {entry.place[0]}"
        return f"{self.name}[{', '.join(map(str, entry.place))}]" if entry.place else self.name


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What a gradient check found. True when nothing differs; `str` is a table."""

    arguments: tuple[ArgumentReport, ...]
    value: float
    rtol: float
    evaluations: int
    complex_evaluations: int

    def __bool__(self) -> bool:
        entries = [e for a in self.arguments for e in a.entries]
        judged = [e for e in entries if e.verdict != "uncertain"]
        return math.isfinite(self.value) and not any(e.failed for e in entries) and (bool(judged) or not entries)

    @property
    def failures(self) -> tuple[tuple[ArgumentReport, Entry], ...]:
        return tuple((a, e) for a in self.arguments for e in a.entries if e.failed)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count = sum(len(a.entries) for a in self.arguments)
        yield f"gradient check {'passed' if self else 'FAILED'}: {count} derivatives, rtol {self.rtol:g}"
        if not math.isfinite(self.value):
            yield f"the function is {self.value} at the given point: nothing can be compared there"
            return
        rows = [_HEADER, *(_row(argument) for argument in self.arguments)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield from self._remarks()
        extra = f" and {self.complex_evaluations} times with complex numbers" if self.complex_evaluations else ""
        yield f"the function was evaluated {self.evaluations} times (2 per derivative and step){extra}"

    def _remarks(self) -> Iterator[str]:
        shown = 5
        for argument, entry in self.failures[:shown]:
            yield argument.where(entry) + ": " + _explain(entry)
        if len(self.failures) > shown:
            yield f"and {len(self.failures) - shown} more"
        notes: list[tuple[Verdict, str]] = [
            ("kink", "kink suspected, left and right slopes disagree; the gradient lies between them"),
            ("uncertain", "not judged, differences are too noisy here"),
        ]
        for verdict, text in notes:
            places = [a.where(e) for a in self.arguments for e in a.entries if e.verdict == verdict]
            if places:
                more = f" and {len(places) - shown} more" if len(places) > shown else ""
                yield f"{', '.join(places[:shown])}{more}: {text}"


def _row(argument: ArgumentReport) -> tuple[str, ...]:
    worst = argument.worst
    if worst is None:
        return (argument.name, format_shape(argument.shape), "-", "-", "-", "-", "-", "-", "ok (empty)")
    complex_step = "-" if worst.complex_step is None else f"{worst.complex_step:.10g}"
    place = f"direction {worst.place[0]}" if argument.directions else str(list(worst.place)) if worst.place else "-"
    return (
        argument.name, format_shape(argument.shape), place, f"{worst.analytic:.10g}", f"{worst.central:.10g}",
        complex_step, f"{worst.error:.1e}", f"{worst.step:.1e}", worst.verdict,
    )  # fmt: skip


def _explain(entry: Entry) -> str:
    measured = entry.central if entry.complex_step is None else entry.complex_step
    if entry.verdict == "not finite" and math.isfinite(entry.analytic):
        return f"the function is not finite beside the point (step {entry.step:.1e}), so no slope can be measured"
    if entry.verdict == "not finite":
        return f"the gradient is {entry.analytic}, measured {measured:.10g}"
    slopes = f" (left slope {entry.left:.6g}, right slope {entry.right:.6g}: kink suspected)"
    text = f"the gradient says {entry.analytic:.10g}, measured {measured:.10g}, relative error {entry.error:.1e}"
    return text + (slopes if entry.kink else "")


class _Counted:
    """The function on real and on complex arguments, with counters."""

    def __init__(self, function: Callable[..., Any], points: Sequence[Any]) -> None:
        self.function = function
        self.points = tuple(points)
        self.evaluations = 0
        self.complex_evaluations = 0
        self.takes_complex = True

    def real(self, number: int, point: Any) -> float:
        """The function with argument `number` at `point`."""
        self.evaluations += 1
        args = [np.array(p) for p in self.points]
        args[number] = point
        with np.errstate(all="ignore"):
            result = np.asarray(self.function(*args))
        if result.shape != ():
            raise ShapeError(
                f"check_gradient: the function returns shape {format_shape(result.shape)}, expected a scalar; "
                "check one output or a weighted sum of them"
            )
        if result.dtype.kind not in "fiub":
            raise DtypeError(f"check_gradient: the function returns dtype {result.dtype}, expected a real number")
        return float(result)

    def complex_slope(self, number: int, direction: Any) -> float | None:
        """The derivative along `direction` by the complex step; None where that does not work."""
        if not self.takes_complex:
            return None
        x = self.points[number]
        wide = np.complex64 if x.dtype == np.float32 else np.complex128
        h = (1e-15 if x.dtype == np.float32 else 1e-30) * (float(np.max(np.abs(x), initial=0.0)) or 1.0)
        args = [np.array(p) for p in self.points]
        args[number] = x.astype(wide) + wide(1j * h) * direction
        self.complex_evaluations += 1
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                result: Any = np.asarray(self.function(*args))
        except _COMPLEX_REFUSED:  # central differences decide alone
            self.takes_complex = False
            return None
        if result.dtype.kind != "c" or result.shape != ():
            self.takes_complex = False
            return None
        slope = float(result.imag) / h
        return slope if math.isfinite(slope) else None


@dataclass(frozen=True, slots=True)
class _Slope:
    """Central difference with what is needed to judge it; infinite uncertainty when nothing was finite."""

    value: float
    uncertainty: float
    left: float
    right: float
    step: float
    kink: bool
    size: float = 0.0  # the function's, at most
    rounding: float = 0.0  # of the function's value, as far as fourth differences show it


def _measure(
    along: Scalar, center: float, scale: float, least: float, eps: float, target: float, zero: bool
) -> _Slope:
    """Central differences of t -> along(t) at 0, the step moved until the uncertainty is at most target*|slope|.

    least: steps below it would not be what they are once added to the argument. zero: the slope is claimed to be 0, so
    a function that does not change at all needs no second look.
    """
    h = first = eps ** (1 / 3) * scale
    moved, tried = 0, list[_Slope]()
    for _ in range(_TRIES):
        slope, noise_rules = _two_steps(along, center, h, eps)
        tried.append(slope)
        steepest = max(abs(slope.left), abs(slope.right)) if slope.kink else abs(slope.value)
        if slope.uncertainty <= target * steepest or (zero and slope.value == slope.left == slope.right == 0):
            break
        direction = 1 if noise_rules else -1
        if direction == -moved or h * _FACTOR**direction < least:
            break
        moved = direction
        h *= _FACTOR**direction
    # Where rounding shows at one step it does not spare another, though differences there may vanish by chance.
    shown = min([s.rounding for s in tried if s.rounding > 0], default=0.0)
    tried = [replace(s, uncertainty=max(s.uncertainty, 0.0 if s.kink else shown / s.step)) for s in tried]
    near = [s for s in tried if s.step <= first]  # further away it is another function
    return replace(
        min(tried, key=lambda s: s.uncertainty), size=max(s.size for s in near), rounding=max(s.rounding for s in near)
    )


def _two_steps(along: Scalar, center: float, h: float, eps: float) -> tuple[_Slope, bool]:
    """Slopes at steps h and 2h, and whether rounding outweighs truncation there."""
    up, down, up2, down2 = stencil = along(h), along(-h), along(2 * h), along(-2 * h)
    if not all(map(math.isfinite, stencil)):
        return _Slope(math.nan, math.inf, math.nan, math.nan, h, False), False
    near, far = (up - down) / (2 * h), (up2 - down2) / (4 * h)
    value = (4 * near - far) / 3
    size = max(abs(up), abs(down), abs(center))
    noise = 2 * eps * size / h
    truncation = abs(value - near)
    right, left = (up - center) / h, (center - down) / h
    jump, jump2 = abs(right - left), abs((up2 - center) - (center - down2)) / (2 * h)
    # A smooth function's jump halves with the step, a noisy one's doubles; a kink's stays, on a third step too.
    kink = jump > max(50 * noise, 1e-4 * max(abs(left), abs(right))) and _same(jump, jump2)
    kink = kink and _same(jump, abs(along(h / 16) - 2 * center + along(-h / 16)) / (h / 16))
    # Fourth differences of a smooth function vanish: they show what rounding on the way leaves in a value near zero.
    # A standard deviation of r in every value gives one of sqrt(70) r.
    seen = 0.0 if kink else abs(up2 - 4 * up + 6 * center - 4 * down + down2) / math.sqrt(70)
    return _Slope(value, truncation + max(noise, seen / h), left, right, h, kink, size, seen), noise > truncation


def _same(jump: float, other: float) -> bool:
    return 0.8 * other < jump < 1.25 * other


@dataclass(frozen=True, slots=True)
class _Derivative:
    """A claim and what was measured, to be judged. scale: the size of the argument there."""

    place: tuple[int, ...]
    analytic: float
    scale: float
    slope: _Slope
    imaginary: float | None


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What errors are measured by. value: the function's, around the point. rounding: what shows of rounding in it.
    largest: entry of the claimed gradient."""

    value: float
    rounding: float
    largest: float
    eps: float

    @property
    def terms(self) -> float:
        """The size of the terms that the function sums; where its value is rounding alone, it has no size, and 1."""
        return self.value if self.value > 10 * self.rounding else 1.0

    def vanishes(self, found: _Derivative) -> bool:
        """Whether no step tells the derivative from zero, as differences tell it."""
        slope = found.slope
        change = abs(found.analytic) * self.eps ** (1 / 3) * found.scale
        noise = max(self.rounding, self.eps * self.terms)
        return not slope.kink and abs(slope.value) <= 10 * slope.uncertainty and change <= 8 * noise

    def floor(self, found: _Derivative) -> float:
        """The absolute error that rounding alone explains. A derivative that vanishes is a sum of terms that cancel:
        their size is that of the function's, over that of the argument."""
        own = 100 * self.eps * self.largest
        return max(own, 100 * self.eps * self.terms / min(found.scale, 1.0)) if self.vanishes(found) else own

    def hidden(self, found: _Derivative, difference: float) -> bool:
        """Whether the function is too noisy for a difference to count."""
        return self.vanishes(found) and difference * min(found.scale, 1.0) <= 100 * self.rounding


def _judge(found: _Derivative, sizes: _Sizes, rtol: float) -> Entry:
    """Compare one derivative."""
    analytic, slope, imaginary, floor = found.analytic, found.slope, found.imaginary, sizes.floor(found)
    # Code that is not analytic (abs, conj) gives a complex step that central differences contradict: drop it.
    agrees = imaginary is not None and abs(imaginary - slope.value) <= 10 * slope.uncertainty + rtol * abs(slope.value)
    complex_step = imaginary if agrees and not slope.kink else None
    measured, doubt = (slope.value, slope.uncertainty) if complex_step is None else (complex_step, 0.0)
    difference = abs(analytic - measured)
    size = max(abs(analytic), abs(measured))
    noise = 4 * doubt + floor
    # Of numbers that are noise the relative difference says nothing.
    error = difference / (max(size, noise / rtol if difference <= noise and sizes.vanishes(found) else 0.0) or 1.0)
    verdict: Verdict = "ok"
    if not math.isfinite(analytic) or not math.isfinite(slope.value):
        verdict, error = "not finite", math.inf
    elif slope.kink:
        low, high = min(slope.left, slope.right), max(slope.left, slope.right)
        slack = rtol * max(abs(low), abs(high)) + doubt + floor
        verdict = "kink" if low - slack <= analytic <= high + slack else "differs"
        error = 0.0 if verdict == "kink" else error
    elif difference > rtol * size + noise:
        verdict = "uncertain" if sizes.hidden(found, difference) else "differs"
    elif 4 * doubt > 0.1 * max(size, sizes.largest, rtol * sizes.terms / found.scale) and difference > floor:
        verdict = "uncertain"
    return Entry(found.place, analytic, slope.value, complex_step, slope.left, slope.right, slope.step,
                 slope.uncertainty, error, slope.kink, verdict)  # fmt: skip


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
    counted = _Counted(function, arrays)
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
            sizes = _Sizes(around, max((d.slope.rounding for d in found), default=0.0), largest, eps)
            entries = [_judge(d, sizes, rtol) for d in found]
        reports.append(ArgumentReport(labels[number], arrays[number].shape, directions is not None, tuple(entries)))
    return GradientReport(tuple(reports), value, rtol, counted.evaluations, counted.complex_evaluations)


def _derivative(counted: _Counted, number: int, place: tuple[int, ...], direction: Any, scale: float, claim: Any,
                value: float, eps: float, rtol: float) -> _Derivative:  # fmt: skip
    x = counted.points[number]
    moved = direction != 0
    # Not the whole product: a NaN in the gradient belongs to its own entry.
    analytic = float(np.sum(claim[moved] * direction[moved]))

    def along(t: float) -> float:
        return counted.real(number, x + x.dtype.type(t) * direction)

    least = math.sqrt(eps) * float(np.max(np.abs(x[moved]), initial=0.0))
    slope = _measure(along, value, scale, least, eps, 0.01 * rtol, analytic == 0)
    return _Derivative(place, analytic, scale, slope, counted.complex_slope(number, direction))


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
