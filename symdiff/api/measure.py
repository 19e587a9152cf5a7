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

from symdiff.api.calibration import calibrate
from symdiff.api.native import compile_function, host, predict_from
from symdiff.api.points import random_arguments
from symdiff.cost import Machine, Timing, machine_from_json
from symdiff.cost.memory import ITEMSIZE
from symdiff.errors import ArgumentError
from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType

_LEAST_ROUNDS: Final = 5
_MOST_ROUNDS: Final = 400
_SLICE: Final = 2e-4
"""Seconds of one program's turn: far above the clock's resolution, far below the scheduler's turns."""
_WARMED: Final = 20
"""Calls of one turn below which a call is made before it: times are those of calls that follow one another."""
_CALIBRATING: Final = 1.5e-3
"""Seconds of timing for each program that tells the figures of the machine."""

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
    progress.show("waiting for the last code")
    for native in compiled.values():  # the first code of a long program is slow, and better code is made beside it
        native.compiled.settle()
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
            if number < _WARMED:  # the caches hold what the program before has left
                timer.timeit(1)
            own.append(timer.timeit(number) / number)
    found: list[Timing] = []
    for own, number in zip(samples, repeats, strict=True):
        low, middle, high = statistics.quantiles(own, n=4, method="inclusive") if len(own) > 1 else own * 3
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
    found = known_machine()
    if found is None:
        if progress is not None:
            progress.show("calibrating the machine model")
        cpu, path = _place()
        found = _machine = calibrate(cpu, _time)
        if path is not None:
            _keep(path, found.to_json())
    return found


def known_machine() -> Machine | None:
    """The figures of this machine where they were measured before."""
    global _machine
    if _machine is None:
        cpu, path = _place()
        with contextlib.suppress(OSError, UnicodeDecodeError):
            kept = machine_from_json(path.read_text(encoding="utf-8")) if path is not None else None
            _machine = kept if kept is not None and kept.name == cpu else None
    return _machine


def _place() -> tuple[str, Path | None]:
    """The processor, and the file of its figures."""
    cpu, folder = host()
    return cpu, folder / "machine.json" if folder is not None else None


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


def _time(call: Callable[[], Any]) -> float:
    """The median, as programs are timed: a machine that is shared is predicted as it is."""
    return _interleaved([call], _CALIBRATING)[0].seconds
