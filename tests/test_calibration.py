"""The fit behind calibration: from the times of programs on a made-up machine to what that machine takes for others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import symdiff as sd
from symdiff.api import calibration
from symdiff.api.expression import function_of
from symdiff.api.native import profiler
from symdiff.cost import TYPICAL, Machine, predict

ENDLESS = ((1e18, 1e18),)


def times(programs: Sequence[tuple[Any, list[tuple[int, int]]]], machine: Machine) -> list[tuple[Any, float]]:
    """What programs execute at their sizes of m and n, and the time that a machine takes for it."""
    found: list[tuple[Any, float]] = []
    for program, sizes in programs:
        executing = profiler(function_of(program if isinstance(program, list) else [program]))
        assert executing is not None
        for point in sizes:
            executed = executing(dict(zip("mn", point, strict=True)), machine.register)
            found.append((executed, predict(executed, machine).seconds))
    return found


def faults(programs: Sequence[tuple[Any, float]], machine: Machine) -> list[float]:
    """Logarithms of predicted to true times."""
    return [abs(math.log(predict(executed, machine).seconds / seconds)) for executed, seconds in programs]


def test_the_fit_finds_a_machine_from_its_times() -> None:
    rng = np.random.default_rng(5)

    def other(figures: Mapping[str, float]) -> dict[str, float]:
        return {name: value * 1.6 * math.exp(rng.normal(0, 0.4)) for name, value in figures.items()}

    start = dataclasses.replace(TYPICAL, bandwidth=ENDLESS, apart=ENDLESS)
    truth = dataclasses.replace(
        start, call=7e-8, step=1.5e-9, units=other(TYPICAL.units), functions=other(TYPICAL.functions)
    )
    timed = times(calibration._suite(), truth)
    found = calibration._fitted(start, [calibration._Trial(e, t * math.exp(rng.normal(0, 0.03))) for e, t in timed])
    m, n = sd.dims("m n")
    x, A = sd.symbol("x", (n,)), sd.symbol("A", (m, n))
    unseen: list[tuple[Any, list[tuple[int, int]]]] = [
        (np.tanh(A @ x) + np.exp(np.sum(A, axis=1)), [(50, 30), (7, 90)]),
        (np.sum(x * np.log(x)) / (1 + x), [(1, 400)]),
        (A.T @ np.sin(A @ x), [(60, 60)]),
    ]
    known, held_out = faults(timed, found), faults(times(unseen, truth), found)
    assert np.median(known) < 0.03 and max(known) < 0.15
    assert max(held_out) < 0.3
    assert np.median(faults(timed, start)) > 0.3  # what the fit had to find
