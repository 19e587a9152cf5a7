"""The figures of this machine that predictions are made from, found from the times of a few dozen small programs.

`calibrate(name, time_of)` compiles and times them, in about two seconds, and sets all figures of the model at once so
that it predicts these times: least squares of the logarithms, with the figures of a typical core, sped up or slowed
down as a whole, as what is expected beforehand. A figure that the times tell little of stays near the typical one, so
noise of a shared machine does no harm; and what is fitted is what is predicted with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from symdiff.api import functions as elementary
from symdiff.api.derivatives import vjp_of
from symdiff.api.expression import function_of, symbol
from symdiff.api.native import compile_function, profiler, register_bytes
from symdiff.cost import TYPICAL, Executed, Machine, predict
from symdiff.cost.machine import burden
from symdiff.frontend.expr import dim
from symdiff.ir.graph import Function

TimeOf: TypeAlias = "Callable[[Callable[[], Any]], float]"
"""Seconds of one call of a function."""

_NOISE: Final = 0.05
"""Relative error of a measurement,"""
_SURPRISE: Final = 0.5
"""and how far, in logarithms, a figure lies from the typical one, beside the speed of the machine as a whole."""
_ROUNDS: Final = 30
_CHAIN: Final = 24
_LENGTH: Final = 1024

_FUNCTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "exp": np.exp, "log": np.log, "sin": np.sin, "tanh": np.tanh, "sqrt": np.sqrt, "arctan": np.arctan,
    "pow": lambda x: x**2.37, "sigmoid": elementary.sigmoid, "erf": elementary.erf, "lgamma": elementary.lgamma,
    "softplus": elementary.softplus,
}  # fmt: skip
_LIKE: Final = {
    "cos": "sin", "tan": "sin", "exp2": "exp", "expm1": "exp", "log2": "log", "log10": "log", "log1p": "log",
    "cbrt": "pow", "sinh": "tanh", "cosh": "tanh", "arcsin": "arctan", "arccos": "arctan", "arctan2": "arctan",
    "arcsinh": "log", "arccosh": "log", "arctanh": "log", "hypot": "sqrt", "erfc": "erf", "ndtr": "erf",
    "digamma": "lgamma", "polygamma": "lgamma",
}  # fmt: skip
"""Functions taken to cost what a measured one costs, so that calibrating stays short."""
_UNITS_LIKE: Final = {"integer": "compare"}
_STREAMED: Final = (1_000, 4_000, 16_000, 60_000, 300_000, 3_000_000)
"""Lengths of the arrays whose sum tells bandwidths."""
_RANK_FOUR: Final = (75, 150, 300, 500, 1200)
"""Sizes of rank-four products, whose results tell bandwidths of lines that are written apart."""
_ENDLESS: Final = ((1e18, 1e18),)


class _Trial(NamedTuple):
    """What a program executes, and how long it takes."""

    executed: Sequence[Executed]
    seconds: float


def _chain(op: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    result = x
    for _ in range(_CHAIN):
        result = op(result, y)
    return result


def _suite() -> list[tuple[Any, list[tuple[int, int]]]]:
    """Programs with the sizes of m and n that they are timed at."""
    m, n = dim("m"), dim("n")
    s, t = symbol("s", ()), symbol("t", ())
    x, y = symbol("x", (n,)), symbol("y", (n,))
    A, B, C = symbol("A", (n, n)), symbol("B", (n, n)), symbol("C", (m, n))
    places = symbol("i", (n,), "i64")
    scattered = vjp_of(C[:, places], C, symbol("D", (m, n)))
    D = symbol("D", (4, m, n))
    running: Any = x
    for _ in range(8):
        running = np.cumsum(running)

    def added(a: Any, b: Any) -> Any:
        return a * b + b

    once, long = [(1, 1)], [(1, _LENGTH)]
    chains: list[Callable[[Any, Any], Any]] = [
        np.add, np.multiply, added, np.divide, lambda a, b: np.maximum(a, b) + b,
        lambda a, b: np.where(a < b, a + b, a * b),
    ]  # fmt: skip
    rows = [(64, 3), (64, 8), (64, 32), (64, 100)]
    return [
        (s + t, once), (_chain(added, s, t), once), (np.tanh(np.exp(s)), once), (running, [(1, 1), (1, 64)]),
        *[(_chain(op, x, y), long) for op in chains],
        *[(function(x), long) for function in _FUNCTIONS.values()],
        (x @ y, [(1, 8), (1, 256), (1, _LENGTH)]), (s * x, [(1, 256), (1, _LENGTH)]), (x + y, [(1, 5), (1, 700)]),
        (C + x, rows), (C @ x, rows), ([D[i] @ x for i in range(4)], [(32, 8), (32, 40)]),
        (elementary.softmax(C, axis=1), [(64, 5), (64, 40)]), (symbol("w", (m,)) @ C, [(8, 64), (100, 8), (100, 64)]),
        (A.T + B, [(1, 8), (1, 32)]),
        (scattered, [(3, 20), (40, 20)]), (x[places], [(1, 256)]), (C.T[places] @ symbol("w", (m,)), [(8, 64)]),
        (np.tanh(x), [(1, 4), (1, 20)]),
        (symbol("u", (n, 1)) @ symbol("v", (1, n)), [(1, 12), (1, 60)]),
        (A @ B, [(1, 2), (1, 10), (1, 36), (1, 64), (1, 160)]), (A.T @ B, [(1, 10), (1, 60)]),
        (np.linalg.solve(A, x), [(1, 3), (1, 10), (1, 30), (1, 96)]), (np.linalg.inv(A), [(1, 8), (1, 60)]),
        (np.linalg.solve(A, B), [(1, 3), (1, 20), (1, 60)]),
        (np.linalg.cholesky(A @ A.T), [(1, 8), (1, 60)]),
    ]  # fmt: skip


def calibrate(name: str, time_of: TimeOf) -> Machine:
    """Measure this machine."""
    register = register_bytes()
    calls: list[Callable[[], Any]] = []
    executed: list[Sequence[Executed]] = []
    for program, points in _suite():
        native, executing = _compiled(function_of(program if isinstance(program, list) else [program]))
        for point in points:
            sizes = dict(zip("mn", point, strict=True))
            calls.append(native.bind(*_arrays(native, sizes)))
            executed.append(executing(sizes, register))
        native.compiled.settle()
    trials = list(map(_Trial, executed, _timed(calls, time_of)))
    machine = _fitted(replace(TYPICAL, name=name, register=register, bandwidth=_ENDLESS, apart=_ENDLESS), trials)
    functions = {**machine.functions, **{other: machine.functions[like] for other, like in _LIKE.items()}}
    machine = replace(machine, functions=dict(sorted(functions.items())), bandwidth=_bandwidth(machine, time_of))
    return replace(machine, apart=_apart(machine, time_of))


def _compiled(function: Function) -> tuple[Any, Any]:
    """As written: optimizing could shorten what is to be measured."""
    executed = profiler(function)
    assert executed is not None, "what compiles has a profile"
    return compile_function(function), executed


def _arrays(native: Any, sizes: Mapping[str, int]) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [tuple([sizes[a] if isinstance(a, str) else a for a in spec.axes]) for spec in native.signature.params]
    kinds = [spec.dtype for spec in native.signature.params]
    arrays = [
        np.zeros(shape, np.int64) if kind == "i64" else rng.uniform(0.5, 1.5, shape)
        for shape, kind in zip(shapes, kinds, strict=True)
    ]
    # Diagonals that dominate, so that no factorization fails.
    return [a + 2 * len(a) * np.eye(len(a)) if a.ndim == 2 and a.shape[0] == a.shape[1] else a for a in arrays]


def _bandwidth(machine: Machine, time_of: TimeOf) -> tuple[tuple[float, float], ...]:
    """Bytes per second by bytes touched: the sum of two arrays, larger and larger."""
    n = dim("n")
    total, _ = _compiled(function_of([symbol("x", (n,)) + symbol("y", (n,))]))
    idle = machine.call + machine.units["kernel"]
    points: list[tuple[float, float]] = []
    for length, seconds in _by_length(total, _STREAMED, time_of):
        # Two arrays are read; the third is fetched and given back.
        points.append((24.0 * length, 32.0 * length / max(seconds - idle, 1e-9)))
    return _falling(points)


def _apart(machine: Machine, time_of: TimeOf) -> tuple[tuple[float, float], ...]:
    """The same for columns that are written: matrices of a low rank."""
    n = dim("n")
    total, executed = _compiled(function_of([symbol("A", (n, 4)) @ symbol("B", (4, n))]))
    points = [machine.bandwidth[0]]
    for size, seconds in _by_length(total, _RANK_FOUR, time_of):
        kernels, moved = executed({"n": size}, machine.register), 8.0 * size**2
        straight = predict(kernels, replace(machine, apart=_ENDLESS))
        slow = sum(size for size, _, apart in kernels[0].traffic if apart)
        fast = machine.bandwidth_at(moved)
        spent = seconds - straight.overhead if seconds > straight.seconds else 0.0
        points.append((moved, min(slow / spent, fast) if slow and spent else fast))
    return _falling(points)


def _by_length(native: Any, lengths: Sequence[int], time_of: TimeOf) -> list[tuple[int, float]]:
    """Seconds by length."""
    calls = [native.bind(*_arrays(native, {"n": length})) for length in lengths]
    return list(zip(lengths, _timed(calls, time_of), strict=True))


def _timed(calls: Sequence[Callable[[], Any]], time_of: TimeOf) -> list[float]:
    """Seconds of each call, the better of two rounds: what slows a machine down for a moment slows one of the two."""
    first, second = ([time_of(call) for call in calls] for _ in range(2))
    return list(map(min, first, second))


def _falling(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Bandwidths that never rise with the bytes touched: a smaller array that seems slower was disturbed."""
    made: list[tuple[float, float]] = []
    for moved, speed in reversed(points):
        made.append((moved, max(speed, made[-1][1]) if made else speed))
    return tuple(reversed(made))


# -------------------------------------------------------------------- the fit
def _fitted(typical: Machine, trials: Sequence[_Trial]) -> Machine:
    """The machine that predicts the times of the trials, as near to the typical one as they allow."""
    known = [figure for figure in _figures(typical) if figure not in _UNITS_LIKE and figure not in _LIKE]
    expected = np.log([_figures(typical)[figure] for figure in known])
    place = {figure: column for column, figure in enumerate(known)}
    measured = np.log([trial.seconds for trial in trials])

    def machine(theta: Any) -> Machine:
        return _with(typical, dict(zip(known, np.exp(theta).tolist(), strict=True)))

    def predicted(theta: Any) -> tuple[Any, Any]:
        """Logarithms of the predicted times, and how they change with those of the figures."""
        here = machine(theta)
        figures = _figures(here)
        shares = np.zeros((len(trials), len(known)))
        for row, trial in zip(shares, trials, strict=True):
            row[place["call"]] = here.call
            for kernel in trial.executed:
                for name, amount in burden(kernel, here).items():
                    name = _UNITS_LIKE.get(name, name)
                    row[place[name]] += amount * figures[name]
        times = shares.sum(axis=1)
        return np.log(times), shares / times[:, None]

    def faults(theta: Any, speed: float, told: Any) -> Any:
        return np.concatenate([(told - measured) / _NOISE, (theta - expected - speed) / _SURPRISE])

    theta, speed = expected.copy(), 0.0
    told, slopes = predicted(theta)
    damping = 1.0
    for _ in range(_ROUNDS):
        unit = np.eye(len(known))
        matrix = np.block([
            [slopes / _NOISE, np.zeros((len(trials), 1))], [unit / _SURPRISE, -np.ones((len(known), 1)) / _SURPRISE],
        ])  # fmt: skip
        fault = faults(theta, speed, told)
        limit = damping * np.eye(len(known) + 1)
        step = np.linalg.lstsq(np.vstack([matrix, limit]), np.concatenate([-fault, np.zeros(len(limit))]))[0]
        new, faster = theta + step[:-1], speed + step[-1]
        then, steeper = predicted(new)
        better = faults(new, faster, then)
        if better @ better < fault @ fault:
            theta, speed, told, slopes, damping = new, faster, then, steeper, damping / 3
        else:
            damping *= 4
    return machine(theta)


def _figures(machine: Machine) -> dict[str, float]:
    return {"call": machine.call, "step": machine.step, **machine.units, **machine.functions}


def _with(machine: Machine, figures: Mapping[str, float]) -> Machine:
    """The machine with other figures; those that nothing tells follow the one they are like."""
    scale = {own: figures[like] / machine.units[like] for own, like in _UNITS_LIKE.items()}
    return replace(
        machine, call=figures["call"], step=figures["step"],
        units={unit: figures.get(unit, value * scale.get(unit, 1.0)) for unit, value in machine.units.items()},
        functions={name: figures.get(name, value) for name, value in machine.functions.items()},
    )  # fmt: skip
