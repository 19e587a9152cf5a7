"""A small model of a machine, and the time it predicts for a program.

`Machine` holds measured figures: throughput by class of operation, bandwidth by working set, and what a call, a loop
nest and an instruction cost however small. `predict(function, machine, sizes)` gives a `Prediction`: the program is cut
into `stages` as native code is (elementwise work runs inside the loop that needs it, what is stored is stored once),
and a stage takes the larger of its compute and its memory time, plus its overheads (a roofline; Williams, Waterman and
Patterson 2009). The figures are calibrated elsewhere: nothing is compiled or timed here.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from symdiff.cost.poly import Poly
from symdiff.cost.stages import FACTORS, Stage, stages
from symdiff.ir.graph import Function

VERSION: Final = 6
RATES: Final = ("add", "multiply", "divide", "compare", "move", "fma", "dot", "factor")
"""Classes with a throughput: matrix products count as `fma`, other sums of products as `dot`, factorizations and
substitutions as `factor` (all their additions and multiplications); `move` are elements put together from pieces."""

_TIMES: Final = ("call", "stage", "product_call", "factor_call", "row", "instruction")
_LIKE: Final = {"pad": "fma", "integer": "add"}
"""Classes that run at the rate of another."""
_LANES: Final = 8
"""Elements of a vector register; one number that does not fill a register costs as much as a full one."""


@dataclass(frozen=True)
class Machine:
    """Seconds and rates per second, in double precision on one core.

    call: an empty call from Python. stage: a loop nest or routine. product_call, factor_call: a matrix product or a
    factorization of tiny matrices. row: starting an inner loop. instruction: one scalar operation that waits for
    another. bandwidth: (bytes touched, bytes per second), by rising bytes. rate: operations by class (`RATES`).
    transcendental: evaluations by name.
    """

    name: str
    call: float
    stage: float
    product_call: float
    factor_call: float
    row: float
    instruction: float
    bandwidth: tuple[tuple[float, float], ...]
    rate: Mapping[str, float]
    transcendental: Mapping[str, float]

    def bandwidth_at(self, touched: float) -> float:
        """Bytes per second while a program touches so many bytes in all, between measured points on a log scale."""
        points = self.bandwidth
        if touched <= points[0][0]:
            return points[0][1]
        for (small, fast), (large, slow) in itertools.pairwise(points):
            if touched <= large:
                part = math.log(touched / small) / math.log(large / small)
                return fast ** (1 - part) * slow**part
        return points[-1][1]

    def speed(self, kind: str | tuple[str, str]) -> float:
        """Operations per second of a class, or of a named transcendental; one never measured counts as the slowest."""
        if isinstance(kind, tuple):
            return self.transcendental.get(kind[1], min(self.transcendental.values()))
        return self.rate[_LIKE.get(kind, kind)]

    @property
    def peak(self) -> float:
        """Operations per second of a large matrix product, two for a multiplication with its addition."""
        return 2 * self.rate["fma"]

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)


def machine_from_json(text: str) -> Machine | None:
    """The machine in a stored text; None when the text is damaged, of another version, or holds impossible figures."""
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            return None
        data["bandwidth"] = tuple((float(size), float(speed)) for size, speed in data["bandwidth"])
        data["rate"] = {k: float(data["rate"][k]) for k in RATES}
        data["transcendental"] = {str(k): float(v) for k, v in data["transcendental"].items()}
        machine = Machine(**data)
        times = [getattr(machine, figure) for figure in _TIMES]
        figures = [*machine.rate.values(), *machine.transcendental.values(), *(x for p in machine.bandwidth for x in p)]
        sane = all(0 <= t < 1 for t in times) and all(0 < f < math.inf for f in figures)
        rising = all(a[0] < b[0] for a, b in itertools.pairwise(machine.bandwidth))
        full = bool(machine.bandwidth) and bool(machine.transcendental) and isinstance(data["name"], str)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return machine if sane and rising and full else None


# -------------------------------------------------------------------- prediction
@dataclass(frozen=True)
class Prediction:
    """Predicted time of one call and what it is made of; `operations` and `bytes` place it on a roofline."""

    seconds: float
    compute: float
    memory: float
    overhead: float
    operations: float
    bytes: float

    @property
    def bound(self) -> str:
        """What the time goes to: compute, memory or overhead."""
        parts = {"compute": self.compute, "memory": self.memory, "overhead": self.overhead}
        return max(parts, key=lambda name: parts[name])

    @property
    def intensity(self) -> float:
        """Operations per byte moved."""
        return self.operations / self.bytes if self.bytes else math.inf


def predict(function: Function, machine: Machine, sizes: Mapping[str, int]) -> Prediction:
    """The time of one call at the given sizes."""
    return predictor(function, machine)(sizes)


def predictor(function: Function, machine: Machine) -> Callable[[Mapping[str, int]], Prediction]:
    """`predict` for one program at many sizes: the program is cut into stages once."""
    cut = stages(function)

    def at(sizes: Mapping[str, int]) -> Prediction:
        known: dict[Poly, float] = {}

        def number(poly: Poly) -> float:
            found = known.get(poly)
            if found is None:
                found = known[poly] = float(poly.at(sizes))
            return found

        speed = machine.bandwidth_at(sum(number(p) for p in cut.buffers) or 1.0)
        compute = memory = operations = moved = seconds = 0.0
        for stage in cut.stages:
            busy, done = _compute(stage, machine, number)
            busy += machine.row * number(stage.rows)
            traffic = sum(number(p) for p in stage.traffic)
            compute, memory, operations, moved = (
                compute + busy, memory + traffic / speed, operations + done, moved + traffic,
            )  # fmt: skip
            seconds += max(busy, traffic / speed) + _overhead(stage, machine)
        overhead = machine.call + sum(_overhead(stage, machine) for stage in cut.stages)
        return Prediction(seconds + machine.call, compute, memory, overhead, operations, moved)

    return at


def _compute(stage: Stage, machine: Machine, number: Callable[[Poly], float]) -> tuple[float, float]:
    """Seconds of arithmetic and the number of operations."""
    busy = operations = 0.0
    inner = max(number(stage.space) / max(number(stage.rows), 1.0), 1.0)
    left = inner % _LANES
    # One long loop ends in one masked register, short rows in scalar steps.
    ragged = (inner - left + _LANES * (left if number(stage.rows) > 1 else min(left, 1.0))) / inner
    for kind, poly, scale in stage.work:
        amount = number(poly)
        if amount <= 0:
            continue
        if kind not in ("fma", "pad", "dot", "factor", "add", "multiply"):
            scale *= ragged
        least = machine.instruction if isinstance(kind, str) else _LANES / machine.speed(kind)
        busy += max(amount * scale / machine.speed(kind), least)
        operations += 0 if kind in ("move", "pad") else amount * (2 if kind in ("fma", "dot") else 1)
    return busy, operations


def _overhead(stage: Stage, machine: Machine) -> float:
    if stage.kind == "product":
        return machine.product_call
    return machine.factor_call if stage.kind in FACTORS else machine.stage


def relative_error(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The typical factor between prediction and measurement, minus one: geometric mean of the ratios either way."""
    logs = [abs(math.log(p / m)) for p, m in zip(predicted, measured, strict=True)]
    return math.exp(sum(logs) / len(logs)) - 1 if logs else 0.0


def machine_to_dict(machine: Machine) -> dict[str, Any]:
    """The figures, ready for JSON."""
    return json.loads(machine.to_json())


TYPICAL: Final = Machine(
    "typical", call=3e-8, stage=4e-9, product_call=6e-8, factor_call=4e-7, row=5e-9, instruction=5e-10,
    bandwidth=((1e4, 1.8e11), (2.4e5, 1e11), (5e6, 5e10), (7e7, 2e10)),
    rate={"add": 2e10, "multiply": 2e10, "divide": 3e9, "compare": 4e9, "move": 2e9, "fma": 2e10, "dot": 8e9,
          "factor": 1.5e10},
    transcendental={"exp": 7e8, "log": 5e8, "sin": 4e8, "cos": 4e8, "tanh": 4.5e8, "sqrt": 1.5e9, "pow": 1.7e8,
                    "lgamma": 1.2e8},
)  # fmt: skip
"""A core with 256-bit registers and a shared cache, in round figures: for judgements that no machine may change."""
