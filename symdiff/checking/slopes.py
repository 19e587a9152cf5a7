"""Slopes of a function measured from its values: central differences on moving steps, and the complex step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import DtypeError, ShapeError
from symdiff.ir.dims import format_shape

Scalar: TypeAlias = Callable[[float], float]

# Steps move by this factor, at most this often, until the estimated error is small against the tolerance.
_FACTOR, _TRIES = 16.0, 10
# What a function that is not written for complex numbers may raise.
_COMPLEX_REFUSED = (
    TypeError, ValueError, ArithmeticError, AttributeError, np.exceptions.ComplexWarning, np.linalg.LinAlgError,
)  # fmt: skip


class Counted:
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
class Slope:
    """Central difference with what is needed to judge it; infinite uncertainty when nothing was finite."""

    value: float
    uncertainty: float
    left: float
    right: float
    step: float
    kink: bool
    size: float = 0.0  # the function's, at most
    rounding: float = 0.0  # of the function's value, as far as fourth differences show it


def measure(
    along: Scalar, center: float, scale: float, least: float, eps: float, target: float, zero: bool
) -> Slope:
    """Central differences of t -> along(t) at 0, the step moved until the uncertainty is at most target*|slope|.

    least: steps below it would not be what they are once added to the argument. zero: the slope is claimed to be 0, so
    a function that does not change at all needs no second look.
    """
    h = first = eps ** (1 / 3) * scale
    moved, tried = 0, list[Slope]()
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


def _two_steps(along: Scalar, center: float, h: float, eps: float) -> tuple[Slope, bool]:
    """Slopes at steps h and 2h, and whether rounding outweighs truncation there."""
    up, down, up2, down2 = stencil = along(h), along(-h), along(2 * h), along(-2 * h)
    if not all(map(math.isfinite, stencil)):
        return Slope(math.nan, math.inf, math.nan, math.nan, h, False), False
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
    return Slope(value, truncation + max(noise, seen / h), left, right, h, kink, size, seen), noise > truncation


def _same(jump: float, other: float) -> bool:
    return 0.8 * other < jump < 1.25 * other
