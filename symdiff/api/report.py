"""Questions about a derivative: what does it cost, is it right, are two formulas equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from symdiff.api.coloured import Compressed
from symdiff.api.derivatives import derive
from symdiff.api.expression import Expression, free_symbols, function_of, numbers_of
from symdiff.api.measure import Progress, known_machine, this_machine, time_programs
from symdiff.api.native import cheapest, profiler
from symdiff.api.plots import plot
from symdiff.arguments import by_dimension
from symdiff.cost import Comparison, Machine, Poly, Timing, compare_programs, points_of
from symdiff.diff import MODES as DIFF_MODES
from symdiff.diff import gradients, jacobians
from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.expr import Expr
from symdiff.ir.dims import format_shape, product
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.simplify import optimize

MODES = ("forward", "reverse", "elimination", "coloured")


class Bill(Comparison):
    """What `compare` gives: prints as a table; `markdown()`, `latex()`, `json()` and `plot()` are its other forms."""

    def plot(self, path: str | None = None, over: str | None = None) -> Any:
        """Cost against one dimension per mode, on log axes, and a roofline where times were measured.

        path: where to write the picture; its ending gives the format. over: the dimension along the axis, by default
        the one with most sizes. Returns the Matplotlib figure. Raises ArgumentError when Matplotlib is missing (extra
        `plot`) or there is no such dimension.
        """
        return plot(self, path, over)


def mode_programs(
    y: Expr, xs: Sequence[Expr], modes: Sequence[str], points: Sequence[Mapping[str, int]] = ()
) -> dict[str, Function]:
    """The primal and the Jacobian of y in all of xs by every mode, as derived; elimination ordered for `points`."""
    params = [Expression(p) for p in free_symbols([y.value, *[x.value for x in xs]])]
    programs = {"primal": function_of([y], params, "primal")}
    for mode in DIFF_MODES:
        if mode in modes:
            results = derive([y, *xs], lambda b, v, m=mode: jacobians(b, v[:1], v[1:], m, points or None)[0])
            programs[mode] = function_of(results, params, mode)
    return programs


def compare(
    y: Expr,
    x: Any,
    sizes: Mapping[str, int | Sequence[int]] | None = None,
    *,
    measure: bool = False,
    predict: bool | None = None,
    progress: bool = False,
    seconds: float = 2.0,
    simplify: bool = True,
    modes: Sequence[str] = MODES,
    order: int = 1,
) -> Bill:
    """What the derivative of y in x costs by every mode: the bill of the programs that are compiled.

    Counts are exact, by class, as polynomials in the named dimensions, and as numbers at `sizes` (a number or a list of
    numbers per dimension). x: an expression or a list of them, whose derivatives then share one sweep.
    predict: times of all programs at every point of `sizes` by a model of this machine, from what their native code
    would execute; True calibrates the model if it never was (two seconds, kept for ever), None asks for a model that
    is there. measure: also compile all programs and time them, with random arguments. progress: a bar while measuring,
    on a terminal. seconds: about how long to time.
    simplify: price every program in the form `compile` chooses, in which the modes often become one; False prices and
    times them as the sweeps give them. modes: which to compare, of "forward", "reverse", "elimination" (its order
    chosen for `sizes`) and "coloured" (the compressed evaluation, where the Jacobian is sparse at `sizes`).
    order: 2 for the Hessian of a scalar in one variable, as the Jacobian of its gradient, which is then the primal; its
    symmetry allows star and acyclic colourings, which are weighed against each other.
    """
    xs = list(x) if isinstance(x, (list, tuple)) else [x]
    for e in (y, *xs):
        if not isinstance(e, Expr):
            raise ArgumentError(f"compare: given {e!r}, expected symbolic expressions")
    if not xs:
        raise ArgumentError("compare: no variable is given")
    if order not in (1, 2):
        raise ArgumentError(f"compare: order {order!r}, expected 1 (the Jacobian) or 2 (the Hessian)")
    if order == 2:
        y = _gradient(y, xs)
    if measure and not (isinstance(seconds, (int, float)) and seconds > 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"compare: seconds={seconds!r}, expected a positive number")
    if not isinstance(modes, (str, tuple, list, set, frozenset)):
        raise ArgumentError(f"compare: modes={modes!r}, expected some of {', '.join(MODES)}")
    chosen = [modes] if isinstance(modes, str) else list(modes)
    for mode in chosen:
        if mode not in MODES:
            raise ArgumentError(f"compare: mode {mode!r}, expected some of {', '.join(MODES)}")
    if not set(chosen) & set(DIFF_MODES):
        raise ArgumentError(f"compare: modes {chosen}, expected at least one of {', '.join(DIFF_MODES)}")
    primal = function_of([y], [Expression(p) for p in free_symbols([y.value, *[e.value for e in xs]])], "primal")
    if measure:
        given = by_dimension(sizes, "compare", primal.dims)
        missing = [d for d in primal.dims if d not in given]
        if missing:
            example = ", ".join(f"{d!r}: [10, 100]" for d in missing)
            raise ArgumentError(
                f"compare: measure=True needs numbers for all dimensions, none given for {', '.join(missing)}; "
                f"add sizes={{{example}}}"
            )
    points = points_of(sizes, primal.dims)
    found = mode_programs(y, xs, chosen, points)
    derived = {name: optimize(f, OPSET) for name, f in found.items()}
    programs = {name: cheapest(f) for name, f in found.items()} if simplify else dict(derived)
    inputs = sum((Poly(product(e.value.shape)) for e in xs), Poly())
    bill = compare_programs(programs.pop("primal"), programs, sizes, derived=derived, inputs=inputs)
    small = _compressed(primal, xs, order == 2) if "coloured" in chosen else None
    if small is not None:
        bill = replace(bill, coloured=tuple([small.at(p, i) for i, p in enumerate(bill.points)]))
    bar = Progress(len(found) + 1 + len(bill.points), progress)
    try:
        timings: Sequence[Mapping[str, Timing]] = ()
        if measure:
            others = [small.calls(c) if small is not None and c is not None else {} for c in bill.coloured]
            timings, kernels = time_programs(bill.functions, bill.points, seconds, bar, others)
            bill = replace(bill, kernels=kernels)
        if bill.points and predict is not False:
            machine = this_machine(bar) if measure or predict else known_machine()
            bill = bill if machine is None else _predicted(bill, small, machine)
        bill = _measured(bill, small, timings)
    finally:
        bar.close()
    return Bill(**{f.name: getattr(bill, f.name) for f in fields(bill)})


def _gradient(y: Expr, xs: Sequence[Expr]) -> Expr:
    if len(xs) != 1 or y.value.type.rank:
        shape = format_shape(y.value.shape)
        raise ShapeError(f"compare: order=2 of a function of shape {shape} in {len(xs)} variables, expected a scalar "
                         "and one variable")  # fmt: skip
    return derive([y, *xs], lambda b, v: gradients(b, v[0], v[1:]))[0]


def _compressed(primal: Function, xs: Sequence[Expr], symmetric: bool) -> Compressed | None:
    """The coloured evaluation, when the variables are symbols and everything is a float."""
    places = [i for e in xs for i, p in enumerate(primal.params) if (p.name, p.type) == (e.value.name, e.value.type)]
    floating = primal.results[0].type.floating and all(primal.params[i].type.floating for i in places)
    whole = len(places) == len(xs) and all(e.value.is_param for e in xs)
    return Compressed(primal, places, symmetric) if whole and floating and primal.results[0].type.rank else None


def _predicted(bill: Comparison, small: Compressed | None, machine: Machine) -> Comparison:
    """The bill with predictions."""
    coloured = [
        found if found is None or small is None else small.predicted(found, sizes, machine)
        for found, sizes in zip(bill.coloured, bill.points, strict=False)
    ]
    profilers = {name: known for name, f in bill.functions.items() if (known := profiler(f)) is not None}
    return replace(bill, machine=machine, coloured=tuple(coloured), profilers=profilers)


def _measured(
    bill: Comparison, small: Compressed | None, timings: Sequence[Mapping[str, Timing]]
) -> Comparison:
    """The bill with measured times."""
    if not timings:
        return bill
    coloured = [
        found if found is None or small is None else small.timed(found, timings[number])
        for number, found in enumerate(bill.coloured)
    ]
    plain = [{n: t for n, t in at.items() if n in bill.functions} for at in timings]
    return replace(bill, measured=tuple(plain), coloured=tuple(coloured))


def evaluate(
    expression: Expr,
    values: Mapping[Any, Any],
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Numbers by the reference interpreter.

    values: arrays by symbol, or by its name; also of symbols that a derivative has lost. sizes: numbers for dimensions
    that no array shows. functions: for undefined functions, name -> callable(*arrays, wrt), where wrt lists the
    arguments it is differentiated in, `()` for the function itself.
    """
    if not isinstance(expression, Expr):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"evaluate: given {expression!r}, expected a symbolic expression")
    beside = expression.symbols_of_primal() if isinstance(expression, Expression) else ()
    return numbers_of(function_of([expression]), values, sizes, functions, beside)
