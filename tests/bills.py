"""A bill with invented times and a machine with round figures, so that verdicts do not depend on a clock."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import symdiff as sd
from symdiff.api.native import profiler
from symdiff.cost import Machine, Timing

m, n, k = sd.dims("m n k")
SWEEPS = ("forward", "reverse")
W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))

# Primes, so that a sum with the wrong figures cannot give the right answer.
MACHINE = Machine(
    "toy", register=32, call=1e-7, step=2e-9,
    units={"add": 1e-9, "multiply": 2e-9, "fma": 3e-9, "divide": 5e-9, "compare": 7e-9, "extremum": 11e-9,
           "integer": 13e-9, "shuffle": 17e-9, "matrix": 8 / 60e9, "load": 23e-9, "store": 29e-9, "masked_store": 31e-9,
           "gather": 37e-9, "scatter": 41e-9, "strip": 43e-9, "mask": 47e-9, "total": 53e-9, "tile": 59e-9,
           "packed": 61e-9, "routine_line": 67e-9, "routine_square": 71e-9, "routine_cube": 73e-9, "kernel": 79e-9,
           "product": 83e-9, "routine": 89e-9},
    functions={"exp": 97e-9, "lgamma": 101e-9},
    bandwidth=((1e3, 1e11), (1e7, 1e9)), apart=((1e3, 1e10), (1e7, 1e8)),
)  # fmt: skip


def bill_of(**seconds: list[float]) -> Any:
    """A real bill, counted at three sizes, with invented times."""
    bill = sd.compare(np.roll(np.tanh(W @ x), 1), x, sizes={"m": [2, 20, 200], "n": 5}, modes=SWEEPS)
    names = ("primal", *bill.programs)
    points = [{s: Timing(seconds[s][i], seconds[s][i], seconds[s][i], 1) for s in names} for i in range(3)]
    profilers = {name: profiler(function) for name, function in bill.functions.items()}
    return dataclasses.replace(bill, measured=tuple(points), machine=MACHINE, profilers=profilers)


TIMED = {"primal": [1e-6, 2e-6, 3e-6], "forward": [4e-6, 5e-6, 6e-6], "reverse": [2e-6, 5.1e-6, 9e-4]}
