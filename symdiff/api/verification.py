"""Are two formulas equal? Numbers at random points that satisfy the declared facts, with the counterexample if not.

Ordinary points decide to rounding. Wide ones, far from and near zero, find what ordinary ones never meet: a branch
taken only beyond 10, a factor that saturates; there only gross differences count. Last comes a point where everything
is tied at zero: formulas that differ on such a set of measure zero alone are equal, and the answer says that they do.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.api.expression import function_of
from symdiff.api.points import distinct_sizes, random_arguments
from symdiff.arguments import sizes_given
from symdiff.errors import ArgumentError, ShapeError, at_least_one
from symdiff.frontend.expr import Expr
from symdiff.interp import interpret
from symdiff.ir.dims import evaluate, format_shape
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import NUMPY_TYPES
from symdiff.ops.helpers import undefined

# Rounding that a formula may collect, as a share of its largest entry and of the largest number on the way to it.
_NOISE, _CANCELLED = 2e-13, 2e-14
# Factors of the wide points, and which relative difference counts there.
_WIDE = (0.03, 0.3, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
_GROSS = 1e-3

# Facts that a change of sign would break.
_SIGNED = frozenset({"positive", "nonnegative", "positive_definite"})

Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Verification:
    """Whether two expressions agree; true or false, with the counterexample when they do not."""

    equal: bool
    worst: float
    message: str

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        return self.message


def verify(
    expression: Expr, other: Expr, sizes: Mapping[str, int] | None = None, points: int = 5, rtol: float = 1e-8,
    seed: int = 0, functions: Functions | None = None,
) -> Verification:  # fmt: skip
    """Compare two expressions at random points that satisfy the declared facts, all dimensions different.

    functions: values for undefined functions, as in `evaluate`; smooth random ones by default, with their derivatives.
    Returns a Verification, true when every entry agrees to `rtol` (or to rounding of the largest entry) everywhere but
    on a set of measure zero; otherwise its text gives the point. Raises ShapeError when the shapes differ.
    """
    for e in (expression, other):
        if not isinstance(e, Expr):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"verify: given {e!r} of type {type(e).__name__}, expected a symbolic expression")
    at_least_one(points, "verify: points")
    if expression.shape != other.shape:
        raise ShapeError(
            f"verify: shapes {format_shape(expression.shape)} and {format_shape(other.shape)}, expected equal shapes"
        )
    test = _Test(function_of([expression, other]), sizes, functions, seed)
    worst = 0.0
    drawn: list[Any] = []
    for _ in range(points):
        arguments = random_arguments(test.function.params, test.sizes, test.rng)
        errors, a, b = test.errors(arguments, rtol)
        error = float(np.max(errors, initial=0.0))
        worst = max(worst, error)
        if error > rtol:
            return Verification(False, worst, "not equal: " + test.shown(arguments, errors, a, b))
    for factor in [sign * size for size in _WIDE for sign in (1, -1)]:
        if factor > 0:
            drawn = random_arguments(test.function.params, test.sizes, test.rng)
        arguments = [_scaled(p.type.facts, x, factor) for p, x in zip(test.function.params, drawn, strict=True)]
        errors, a, b = test.errors(arguments, _GROSS)
        errors = np.where(np.isfinite(errors), errors, 0.0)  # overflow is no difference
        if np.max(errors, initial=0.0) > _GROSS:
            return Verification(False, float(np.max(errors)), "not equal: " + test.shown(arguments, errors, a, b))
    message = f"equal at {points} random points, largest relative difference {worst:.1e}"
    arguments = [test.tied(p) for p in test.function.params]
    errors, a, b = test.errors(arguments, rtol)
    errors = np.where(np.isfinite(errors), errors, 0.0)
    if np.max(errors, initial=0.0) > rtol:
        message += "; but not where entries vanish or are tied: " + test.shown(arguments, errors, a, b)
    return Verification(True, worst, message)


class _Test:
    """Two results of one program, at points."""

    def __init__(
        self, function: Function, sizes: Mapping[str, int] | None, functions: Functions | None, seed: int
    ) -> None:
        self.function = function
        self.sizes = distinct_sizes(function, sizes_given(sizes, "verify"))
        self.rng = np.random.default_rng(seed)
        own = {
            name: _elementwise(name) if op == "apply" else _functional(name)
            for name, op in undefined(function.instrs).items()
        }
        self.functions = {**own, **(functions or {})}

    def errors(self, arguments: Sequence[Any], rtol: float) -> tuple[Any, Any, Any]:
        """Relative differences entry by entry, infinite where one is finite and the other is not; and the results.

        What rounding alone can do, given the numbers met on the way, is taken off in units of `rtol`.
        """
        largest = 0.0

        def watch(value: Value, operands: Any, result: Any) -> None:
            nonlocal largest
            if value.type.floating:
                size = np.abs(np.asarray(result))
                largest = max(largest, float(np.max(size[np.isfinite(size)], initial=0.0)))

        with np.errstate(all="ignore"):
            results = interpret(self.function, arguments, self.sizes, self.functions, watch)
            a, b = [np.asarray(r, np.float64) if np.asarray(r).dtype == bool else np.asarray(r) for r in results]
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            finite = np.isfinite(a) & np.isfinite(b)
            size = np.maximum(np.abs(a), np.abs(b))
            noise = max(_NOISE * float(np.max(size[finite], initial=0.0)), _CANCELLED * largest)
            floor = noise / rtol
            found = np.where(finite, np.abs(a - b) / (size + floor), np.inf)
        return np.where(same, 0.0, found), a, b

    def tied(self, param: Value) -> Any:
        """An argument whose entries are all zero, or one where they may not be; the identity for a definite matrix."""
        shape = tuple(evaluate(s, self.sizes) for s in param.type.shape)
        dtype = NUMPY_TYPES[param.type.dtype]
        if param.type.facts & {"positive_definite", "orthogonal", "lower", "upper"}:
            return np.eye(shape[0], dtype=dtype)
        return np.full(shape, 1 if param.type.facts & {"positive", "nonzero"} else 0, dtype)

    def shown(self, arguments: Sequence[Any], errors: Any, a: Any, b: Any) -> str:
        """The entry that differs most, and the point."""
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(errors)), np.shape(errors)))
        at = "; ".join(
            f"{p.name} = {np.array2string(np.asarray(v), precision=4, threshold=20)}"
            for p, v in zip(self.function.params, arguments, strict=True)
        )
        left, right = float(a[place]), float(b[place])
        digits = next((d for d in (6, 9, 12) if f"{left:.{d}g}" != f"{right:.{d}g}"), 17)
        where = f" at entry {list(place)}" if place else ""
        sizes = f", with {', '.join(f'{k} = {v}' for k, v in self.sizes.items())}" if self.sizes else ""
        return f"{left:.{digits}g} against {right:.{digits}g}{where}{sizes}" + (f"; {at}" if at else "")


def _scaled(facts: frozenset[str], x: Any, factor: float) -> Any:
    """The argument far from or near zero; what scaling would spoil, and what is no float, stays."""
    if "orthogonal" in facts or x.dtype.kind != "f":
        return x
    return (x * (abs(factor) if facts & _SIGNED else factor)).astype(x.dtype)


# -------------------------------------------------------------------- undefined functions
def _elementwise(name: str) -> Callable[..., Any]:
    """sin(a . x + c) with coefficients from the name: smooth, and known in every derivative."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    weights, shift = rng.uniform(0.5, 1.5, 16), rng.uniform(0.3, 1.0)

    def value(*arrays: Any, wrt: tuple[int, ...] = ()) -> Any:
        phase = sum((w * x for w, x in zip(weights, arrays, strict=False)), shift)
        return math.prod([weights[i] for i in wrt]) * np.sin(phase + len(wrt) * np.pi / 2)

    return value


def _functional(name: str) -> Callable[..., Any]:
    """sin of a random linear form of the operands; a derivative is an outer product of its coefficients."""

    def value(*arrays: Any, wrt: tuple[int, ...] = ()) -> Any:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        forms = [rng.uniform(0.2, 0.8, np.shape(x)) for x in arrays]
        phase = 0.5 + sum([float(np.sum(c * x)) for c, x in zip(forms, arrays, strict=True)])
        slope: Any = np.sin(phase + len(wrt) * np.pi / 2)
        for i in wrt:
            slope = np.multiply.outer(slope, forms[i])
        return slope

    return value
