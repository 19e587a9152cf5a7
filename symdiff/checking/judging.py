"""Whether a claimed derivative agrees with what was measured: sizes that errors are held against, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

from symdiff.checking.report import Entry, Verdict
from symdiff.checking.slopes import Slope


@dataclass(frozen=True, slots=True)
class Derivative:
    """A claim and what was measured, to be judged. scale: the size of the argument there."""

    place: tuple[int, ...]
    analytic: float
    scale: float
    slope: Slope
    imaginary: float | None


@dataclass(frozen=True, slots=True)
class Sizes:
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

    def vanishes(self, found: Derivative) -> bool:
        """Whether no step tells the derivative from zero, as differences tell it."""
        slope = found.slope
        change = abs(found.analytic) * self.eps ** (1 / 3) * found.scale
        noise = max(self.rounding, self.eps * self.terms)
        return not slope.kink and abs(slope.value) <= 10 * slope.uncertainty and change <= 8 * noise

    def floor(self, found: Derivative) -> float:
        """The absolute error that rounding alone explains. A derivative that vanishes is a sum of terms that cancel:
        their size is that of the function's, over that of the argument."""
        own = 100 * self.eps * self.largest
        return max(own, 100 * self.eps * self.terms / min(found.scale, 1.0)) if self.vanishes(found) else own

    def hidden(self, found: Derivative, difference: float) -> bool:
        """Whether the function is too noisy for a difference to count."""
        return self.vanishes(found) and difference * min(found.scale, 1.0) <= 100 * self.rounding


def judge(found: Derivative, sizes: Sizes, rtol: float) -> Entry:
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
