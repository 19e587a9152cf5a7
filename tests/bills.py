"""A bill with invented times and a machine with round figures, so that verdicts do not depend on a clock."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import symdiff as sd
from symdiff.cost import Machine, Timing

m, n, k = sd.dims("m n k")
SWEEPS = ("forward", "reverse")
W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))

# Round figures, each a different power, so that a formula with the wrong one cannot give the right answer.
MACHINE = Machine(
    "toy", call=1e-7, stage=2e-8, product_call=3e-8, factor_call=5e-8, row=7e-9, instruction=1e-10,
    bandwidth=((1e3, 1e11), (1e7, 1e9)),
    rate={"add": 4e9, "multiply": 5e9, "divide": 1e9, "compare": 3e9, "move": 2e9, "fma": 3e10, "dot": 6e9,
          "factor": 8e9},
    transcendental={"exp": 1e9, "lgamma": 1e8},
)  # fmt: skip


def bill_of(**seconds: list[float]) -> Any:
    """A real bill, counted at three sizes, with invented times."""
    bill = sd.compare(np.roll(np.tanh(W @ x), 1), x, sizes={"m": [2, 20, 200], "n": 5}, modes=SWEEPS)
    names = ("primal", *bill.programs)
    points = [{s: Timing(seconds[s][i], seconds[s][i], seconds[s][i], 1) for s in names} for i in range(3)]
    return dataclasses.replace(bill, measured=tuple(points), machine=MACHINE)


TIMED = {"primal": [1e-6, 2e-6, 3e-6], "forward": [4e-6, 5e-6, 6e-6], "reverse": [2e-6, 5.1e-6, 9e-4]}
