"""Clocks: what compiled programs take, and the figures of this machine that predictions are made from.

`time_programs` takes programs and points (sizes by dimension) and gives `Timing`s, medians of interleaved calls.
`this_machine` gives the calibrated `Machine` of the cost model: measured once, in about a second, with compiled
kernels, and kept as JSON in the cache folder of compiled code (`SYMDIFF_CACHE_DIR`); a damaged file is measured anew.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import numpy as np

from symdiff.api import functions as elementary
from symdiff.api.expression import function_of, symbol
from symdiff.api.native import compile_function, host, predict_from
from symdiff.api.points import random_arguments
from symdiff.cost import Machine, Timing, machine_from_json
from symdiff.cost.memory import ITEMSIZE
from symdiff.errors import ArgumentError
from symdiff.frontend.expr import dim
from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType

_LEAST_ROUNDS: Final = 5
_MOST_ROUNDS: Final = 400
_SLICE: Final = 2e-4
"""Seconds of one program's turn: far above the clock's resolution, far below the scheduler's turns."""

_machine: Machine | None = None


class Progress:
    """A bar on a terminal; silent where nobody watches."""

    def __init__(self, total: int, wanted: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._total = max(total, 1)
        self._done = 0
        self._wide = 0
        # A program without a console has no standard error at all.
        self._on = wanted and bool(self._stream) and self._stream.isatty()

    def show(self, doing: str) -> None:
        """Say what runs now."""
        if self._on:
            filled = 24 * self._done // self._total
            line = f"[{'#' * filled}{'.' * (24 - filled)}] {self._done}/{self._total} {doing}"
            self._stream.write("\r" + line.ljust(self._wide))
            self._stream.flush()
            self._wide = len(line)

    def step(self) -> None:
        """One more is done."""
        self._done = min(self._done + 1, self._total)

    def close(self) -> None:
        """Clear the line."""
        if self._on and self._wide:
            self._stream.write("\r" + " " * self._wide + "\r")
            self._stream.flush()


# -------------------------------------------------------------------- programs
class Measurement(NamedTuple):
    """Per point the time of every program that fits into memory there, and how many kernels each program became."""

    timings: tuple[Mapping[str, Timing], ...]
    kernels: Mapping[str, int]


def time_programs(
    programs: Mapping[str, Function], points: Sequence[Mapping[str, int]], seconds: float, progress: Progress,
    others: Sequence[Mapping[str, Callable[..., Any]]] = (),
) -> Measurement:  # fmt: skip
    """For every point the time of one call of each program, which all have the same parameters.

    Equal programs are run once and share their time. Arguments are random and satisfy the declared facts. seconds:
    about how long to measure in all. others: per point, functions of the same arguments to time beside the programs.
    A program that does not fit into memory at a point is left out there; raises ArgumentError when none does, or the
    first, the primal, does not.
    """
    fitting: list[list[str]] = []
    for number, sizes in enumerate(points):
        needed = {name: _bytes(program, sizes) for name, program in programs.items()}
        fitting.append([name for name, size in needed.items() if _fits(size)])
        first = next(iter(programs))
        if first not in fitting[-1] or (len(fitting[-1]) == 1 and len(programs) > 1 and not _given(others, number)):
            name = first if first not in fitting[-1] else max(needed, key=lambda n: needed[n])
            where = ", ".join(f"{k} = {v}" for k, v in sizes.items())
            raise ArgumentError(
                f"compare: {name} at {where} has {needed[name] / 1e9:.3g} GB of arguments and results, this machine "
                f"{_physical_memory() / 1e9:.3g} GB of memory; measure at smaller sizes"
            )
    wanted = {name for names in fitting for name in names}
    compiled: dict[Function, Any] = {}
    for name, program in programs.items():
        if name in wanted:
            progress.show(f"compiling {name}")
            if program not in compiled:
                compiled[program] = compile_function(program, name=name)
        progress.step()
    found: list[Mapping[str, Timing]] = []
    for number, sizes in enumerate(points):
        progress.show("timing at " + (", ".join(f"{k} = {v}" for k, v in sizes.items()) or "the given sizes"))
        rng = np.random.default_rng(number)
        arrays = random_arguments(next(iter(programs.values())).params, sizes, rng)
        calls: dict[Any, Callable[[], Any]] = {}
        for name in fitting[number]:
            native = compiled[programs[name]]
            given = {d: sizes[d] for d in native.signature.given}
            if programs[name] not in calls:
                calls[programs[name]] = native.bind(*arrays, **({"sizes": given} if given else {}))
        for name, function in _given(others, number).items():
            calls[name] = functools.partial(function, *arrays)
        timings = _interleaved(list(calls.values()), seconds / max(len(points), 1))
        by_program = dict(zip(calls, timings, strict=True))
        own = {name: by_program[programs[name]] for name in fitting[number]}
        found.append({**own, **{name: by_program[name] for name in _given(others, number)}})
        progress.step()
    kernels = {n: len(compiled[p].compiled.program.kernels) for n, p in programs.items() if p in compiled}
    return Measurement(tuple(found), kernels)


def _given(
    others: Sequence[Mapping[str, Callable[..., Any]]], number: int
) -> Mapping[str, Callable[..., Any]]:
    return others[number] if number < len(others) else {}


def _bytes(program: Function, sizes: Mapping[str, int]) -> int:
    """Of arguments and results."""
    kinds: list[TensorType] = [v.type for v in (*program.params, *program.results)]
    return sum(
        ITEMSIZE[kind.dtype] * int(np.prod([evaluate(s, sizes) for s in kind.shape], dtype=object)) for kind in kinds
    )


def _fits(size: int) -> bool:
    memory = _physical_memory()
    return not memory or size < memory


def _physical_memory() -> int:
    """In bytes; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _interleaved(calls: Sequence[Callable[[], Any]], seconds: float) -> list[Timing]:
    """Every program in turn, round after round, so that a slow moment of the machine meets all of them."""
    timers = [timeit.Timer(call) for call in calls]
    repeats = [_repeats(timer) for timer in timers]
    samples: list[list[float]] = [[] for _ in timers]
    begun = time.perf_counter()
    for done in range(_MOST_ROUNDS):
        spent = time.perf_counter() - begun
        if spent > seconds and (done >= _LEAST_ROUNDS or (done and spent > 4 * seconds)):
            break
        for own, timer, number in zip(samples, timers, repeats, strict=True):
            own.append(timer.timeit(number) / number)
    found: list[Timing] = []
    for own, number in zip(samples, repeats, strict=True):
        low, middle, high = statistics.quantiles(own, n=4) if len(own) > 1 else own * 3
        found.append(Timing(middle, low, high, number * len(own)))
    return found


def _repeats(timer: timeit.Timer) -> int:
    """How many calls make one turn. The first call warms caches and counts only when it is long."""
    if timer.timeit(1) > 100 * _SLICE:
        return 1
    number = 1
    while (taken := timer.timeit(number)) < _SLICE / 4 and number < 1_000_000:
        number *= 4
    return max(1, round(number * _SLICE / max(taken, 1e-9)))


# -------------------------------------------------------------------- this machine
def this_machine(progress: Progress | None = None) -> Machine:
    """The figures of this machine: from this process, from the cache folder, or measured now."""
    global _machine
    cpu, folder = host()
    path = folder / "machine.json" if folder is not None else None
    if _machine is None and path is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            kept = machine_from_json(path.read_text(encoding="utf-8"))
            _machine = kept if kept is not None and kept.name == cpu else None
    if _machine is None:
        if progress is not None:
            progress.show("calibrating the machine model")
        _machine = calibrate(cpu)
        if path is not None:
            _keep(path, _machine.to_json())
    return _machine


predict_from(this_machine)


def _keep(path: Path, text: str) -> None:
    """Write whole or not at all; a disk that refuses only means measuring again another time."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".write-", dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


_MEASURED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "exp": np.exp, "log": np.log, "sin": np.sin, "tanh": np.tanh, "sqrt": np.sqrt, "arctan": np.arctan,
    "pow": lambda x: x**2.37, "sigmoid": elementary.sigmoid, "erf": elementary.erf, "lgamma": elementary.lgamma,
}  # fmt: skip
_LIKE: Final = {
    "cos": "sin", "tan": "sin", "exp2": "exp", "expm1": "exp", "log2": "log", "log10": "log", "log1p": "log",
    "cbrt": "pow", "sinh": "tanh", "cosh": "tanh", "arcsin": "arctan", "arccos": "arctan", "arctan2": "arctan",
    "arcsinh": "log", "arccosh": "log", "arctanh": "log", "hypot": "sqrt", "softplus": "log",
    "logaddexp": "log", "erfc": "erf", "digamma": "lgamma", "polygamma": "lgamma",
}  # fmt: skip
"""Functions taken to cost what a measured one costs, so that calibrating stays short."""

_CHAINED: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "add": np.add, "multiply": np.multiply, "divide": np.divide, "compare": lambda x, y: np.maximum(x, y) + y,
}  # fmt: skip
_CHAIN: Final = 24
_LENGTH: Final = 1024


def calibrate(name: str) -> Machine:
    """Measure this machine with a few dozen small kernels."""
    n = dim("n")
    x, y, matrix, vector = symbol("x", (n,)), symbol("y", (n,)), symbol("A", (n, n)), symbol("b", (n,))
    s, t = symbol("s", ()), symbol("t", ())
    call = _seconds(s + t, 1)
    instruction = max(_seconds(_chain(np.add, s, t), 1) - call, 0.0) / (_CHAIN - 1)
    rates: dict[str, float] = {}
    for kind, op in _CHAINED.items():
        one = _seconds(op(x, y), _LENGTH)
        rates[kind] = (_CHAIN - 1) * _LENGTH / _positive(_seconds(_chain(op, x, y), _LENGTH) - one)
    # Repeated maxima alone would be shortened.
    rates["compare"] = 1 / max(1 / rates["compare"] - 1 / rates["add"], 0.1 / rates["add"])
    running: Any = x
    for _ in range(8):
        running = np.cumsum(running)
    stage = max(_seconds(running, 1) - call, 0.0) / 8
    bandwidth: list[tuple[float, float]] = []
    total = _kernel(x + y)
    for length in (512, 10_000, 200_000, 3_000_000):
        moved = 24 * length
        bandwidth.append((moved, moved / _positive(_time(total, [length, length]) - call)))
    product = _kernel(matrix @ symbol("B", (n, n)))
    product_call = max(_time(product, [(2, 2), (2, 2)]) - call, 0.0)
    size = 192
    rates["fma"] = size**3 / _positive(_time(product, [(size, size), (size, size)]) - call)
    # Many short rows and few long ones tell what a row costs apart from what its elements cost.
    rows = _kernel(symbol("C", (dim("m"), n)) @ x)
    short, long = (_time(rows, [(m, k), k]) - call for m, k in ((512, 8), (16, 512)))
    each_element = _positive(long - short / 32) / (16 * 512 - 16 * 8)
    rates["dot"] = 1 / each_element
    row = max(short / 512 - 8 * each_element, 0.0)
    pieces = np.concatenate([matrix[:, 1:], matrix[:, :1]], axis=1) + np.concatenate([matrix[1:], matrix[:1]])
    size = 64
    rates["move"] = 2 * size**2 / _positive(_time(_kernel(pieces), [(size, size)]) - call)
    solve = _kernel(np.linalg.solve(matrix, vector))
    # Two sizes tell the overhead of a routine from its work; the smallest matrices have code of their own.
    small, size = 12, 96
    little, much = (_time(solve, [(s, s), s]) - call for s in (small, size))
    rates["factor"] = (_lu_work(size) - _lu_work(small)) / _positive(
        much - little - (_pairs(size) - _pairs(small)) * row
    )
    factor_call = max(little - _lu_work(small) / rates["factor"] - _pairs(small) * row, 0.0)
    each = {name_: _LENGTH / _positive(_seconds(function(x), _LENGTH) - call) for name_, function in _MEASURED.items()}
    each.update({other: each[like] for other, like in _LIKE.items()})
    return Machine(
        name, call, stage, product_call, factor_call, row, instruction, tuple(bandwidth), rates,
        dict(sorted(each.items())),
    )  # fmt: skip


def _pairs(size: int) -> float:
    return size * (size - 1) / 2


def _lu_work(size: int) -> float:
    """Operations of one factorization and one substitution."""
    return 2 * (size * (size - 1) * (2 * size - 1) / 6 + size * (size - 1))


def _chain(op: Callable[..., Any], x: Any, y: Any) -> Any:
    result = x
    for _ in range(_CHAIN):
        result = op(result, y)
    return result


def _positive(seconds: float) -> float:
    return max(seconds, 1e-9)


def _kernel(expression: Any) -> Any:
    # As written: optimizing could shorten what is to be measured.
    return compile_function(function_of([expression]), single=True)


def _seconds(expression: Any, length: int) -> float:
    native = _kernel(expression)
    return _time(native, [length if spec.axes else () for spec in native.signature.params])


def _time(native: Any, shapes: Sequence[Any]) -> float:
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    timer = timeit.Timer(native.bind(*[a if a.shape else a[()] for a in arrays]))
    number = _repeats(timer)
    # The median, as programs are timed: a machine that is shared is predicted as it is.
    return statistics.median(timer.repeat(7, number)) / number
