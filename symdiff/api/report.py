"""Questions about a derivative: what does it cost, is it right, are two formulas equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.api.derivatives import derive
from symdiff.api.expression import Expression, free_symbols, function_of
from symdiff.api.points import distinct_sizes, random_arguments
from symdiff.cost import Comparison, compare_programs
from symdiff.diff import jacobians
from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.expr import Expr
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import format_shape
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.simplify import optimize


def mode_programs(y: Expr, xs: Sequence[Expr]) -> dict[str, Function]:
    """The Jacobian of y in all of xs as a program per mode, optimized as for native code."""
    params = [Expression(p) for p in free_symbols([y.value, *[x.value for x in xs]])]
    programs: dict[str, Function] = {}
    for mode in ("forward", "reverse"):
        results = derive([y, *xs], lambda b, v, mode=mode: jacobians(b, v[:1], v[1:], mode)[0])
        programs[mode] = optimize(function_of(results, params, mode), OPSET)
    return programs


def compare(y: Expr, x: Any, sizes: Mapping[str, int | Sequence[int]] | None = None) -> Comparison:
    """What the derivative of y in x costs by forward and by reverse mode.

    Counts are exact, by class, as polynomials in the named dimensions, and as numbers at `sizes` (a number or a list of
    numbers per dimension). x: an expression or a list of them, whose derivatives then share one sweep.
    """
    xs = list(x) if isinstance(x, (list, tuple)) else [x]
    for e in (y, *xs):
        if not isinstance(e, Expr):
            raise ArgumentError(f"compare: given {e!r}, expected symbolic expressions")
    programs = mode_programs(y, xs)
    params = [Expression(p) for p in next(iter(programs.values())).params]
    primal = optimize(function_of([y], params, "primal"), OPSET)
    return compare_programs(primal, programs, sizes)


# -------------------------------------------------------------------- equality
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
    seed: int = 0,
) -> Verification:  # fmt: skip
    """Compare two expressions at random points that satisfy the declared facts, all dimensions different.

    Returns a Verification, true when they agree to `rtol` everywhere; otherwise its text gives the point. Raises
    ShapeError when the shapes differ.
    """
    if expression.shape != other.shape:
        raise ShapeError(
            f"verify: shapes {format_shape(expression.shape)} and {format_shape(other.shape)}, expected equal shapes"
        )
    function = function_of([expression, other])
    worst = 0.0
    rng = np.random.default_rng(seed)
    known = distinct_sizes(function, sizes)
    for _ in range(points):
        arguments = random_arguments(function.params, known, rng)
        a, b = interpret(function, arguments, known)
        if not np.all(np.isfinite(a) == np.isfinite(b)):
            error = np.inf
        else:
            finite = np.isfinite(a)
            scale = max(float(np.max(np.abs(b[finite]), initial=0.0)), 1e-300)
            error = float(np.max(np.abs(a[finite] - b[finite]), initial=0.0)) / scale
        worst = max(worst, error)
        if error > rtol:
            return Verification(False, worst, _counterexample(function, arguments, known, a, b))
    return Verification(True, worst, f"equal at {points} random points, largest relative difference {worst:.1e}")


def _counterexample(function: Function, arguments: Sequence[Any], sizes: Mapping[str, int], a: Any, b: Any) -> str:
    place = tuple(int(i) for i in np.unravel_index(int(np.nanargmax(np.abs(a - b))), np.shape(a))) if a.size else ()
    at = "; ".join(
        f"{p.name} = {np.array2string(np.asarray(v), precision=4, threshold=20)}"
        for p, v in zip(function.params, arguments, strict=True)
    )
    where = f" at entry {list(place)}" if place else ""
    shown = f", with {', '.join(f'{k} = {v}' for k, v in sizes.items())}" if sizes else ""
    return f"not equal: {a[place]:.6g} against {b[place]:.6g}{where}{shown}; {at}"


def evaluate(
    expression: Expr,
    values: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Numbers by the reference interpreter.

    values: arrays by symbol name. functions: for undefined functions, name -> callable(*arrays, wrt), where wrt lists
    the arguments it is differentiated in, `()` for the function itself.
    """
    builder = Builder(OPSET)
    value = builder.absorb([expression.value])[expression.value]
    function = Function.of(free_symbols([value]), [value])
    missing = [p.name for p in function.params if p.name not in values]
    if missing:
        raise ArgumentError(f"evaluate: no value given for {', '.join(missing)}; given: {', '.join(values) or 'none'}")
    return interpret(function, [values[p.name] for p in function.params], sizes, functions)[0][()]
