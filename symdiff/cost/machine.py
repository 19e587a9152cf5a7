"""A small model of a machine, and the time it predicts for native code.

`Machine` holds measured figures: seconds of an instruction by class, of a step that waits for another, of a call, and
bandwidth by how much was touched since. `predict(profile, machine)` takes what every kernel executes (`Executed`: the
code generator tells it) and gives a `Prediction`: straight code takes as long as the most burdened of its arithmetic,
its accesses and its longest chain; a kernel the larger of that and of its memory time (a roofline; Williams, Waterman
and Patterson 2009). The figures are calibrated elsewhere: nothing is compiled or timed here.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, TypeAlias

VERSION: Final = 8
ARITHMETIC: Final = ("add", "multiply", "fma", "divide", "compare", "extremum", "integer", "shuffle", "matrix")
"""Classes of instructions on registers, `matrix` those of matrix products; functions count with them, by name."""
ACCESS: Final = ("load", "store", "masked_store", "gather", "scatter")
"""Classes of instructions that reach memory; a gather or a scatter is one element."""
CONTROL: Final = ("strip", "mask", "total", "tile", "packed", "routine_line", "routine_square", "routine_cube")
"""What loops, tiles and routines add to the instructions inside."""
CALLS: Final = ("kernel", "product", "routine")
UNITS: Final = (*ARITHMETIC, *ACCESS, *CONTROL, *CALLS)
_STEP_CYCLES: Final = 4
"""Cycles of a multiplication with its addition, on every processor of the last years."""


class Stretch(Protocol):
    """Straight code that runs `times` often: instructions by class, and steps that wait for one another."""

    @property
    def times(self) -> float: ...
    @property
    def units(self) -> Mapping[str, float]: ...
    @property
    def waits(self) -> float: ...


class Executed(Protocol):
    """What one kernel executes: its stretches, the bytes it moves (written ones twice) with the bytes touched since
    they were touched before and whether they lie in lines apart, and its operations on numbers."""

    @property
    def name(self) -> str: ...
    @property
    def stretches(self) -> Sequence[Stretch]: ...
    @property
    def traffic(self) -> Sequence[tuple[float, float, bool]]: ...
    @property
    def operations(self) -> float: ...


Profiler: TypeAlias = "Callable[[Mapping[str, int], int], Sequence[Executed]]"
"""What a program executes at sizes, on vector registers of so many bytes."""


@dataclass(frozen=True)
class Machine:
    """Seconds and bytes per second on one core.

    register: bytes of a vector register. call: an empty call from Python. step: one multiplication with its addition
    that waits for another. units: seconds of an instruction by class (`UNITS`); functions: of an evaluation on one
    register, by name. bandwidth: (bytes touched since, bytes per second), by rising bytes; apart: the same for lines
    that are written and do not follow one another.
    """

    name: str
    register: int
    call: float
    step: float
    units: Mapping[str, float]
    functions: Mapping[str, float]
    bandwidth: tuple[tuple[float, float], ...]
    apart: tuple[tuple[float, float], ...]

    def bandwidth_at(self, touched: float, apart: bool = False) -> float:
        """Bytes per second where so many bytes were touched since, between measured points on a log scale."""
        points = self.apart if apart else self.bandwidth
        if touched <= points[0][0]:
            return points[0][1]
        for (small, fast), (large, slow) in itertools.pairwise(points):
            if touched <= large:
                part = math.log(touched / small) / math.log(large / small)
                return fast ** (1 - part) * slow**part
        return points[-1][1]

    def figure(self, name: str) -> float:
        """Seconds of an instruction, a step, a call or a function on one register; one never measured counts as the
        slowest."""
        if name in ("call", "step"):
            return self.step if name == "step" else self.call
        known = self.units.get(name)
        return self.functions.get(name, max(self.functions.values())) if known is None else known

    def seconds(self, kernel: Executed) -> float:
        """The time of one kernel."""
        busy, moved, idle = _parts(kernel, self)
        return max(busy, moved) + idle

    @property
    def peak(self) -> float:
        """Operations per second of a large matrix product, two for a multiplication with its addition."""
        return 2 * (self.register / 8) / self.units["matrix"]

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)


def machine_from_json(text: str) -> Machine | None:
    """The machine in a stored text; None when the text is damaged, of another version, or holds impossible figures."""
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            return None
        for points in ("bandwidth", "apart"):
            data[points] = tuple((float(size), float(speed)) for size, speed in data[points])
        data["units"] = {k: float(data["units"][k]) for k in UNITS}
        data["functions"] = {str(k): float(v) for k, v in data["functions"].items()}
        machine = Machine(**data)
        times = [machine.call, machine.step, *machine.units.values(), *machine.functions.values()]
        speeds = [x for point in (*machine.bandwidth, *machine.apart) for x in point]
        sane = all(0 <= t < 1 for t in times) and all(0 < f < math.inf for f in speeds)
        sane = sane and machine.units["matrix"] > 0 and machine.register >= 8
        rising = all(a[0] < b[0] for p in (machine.bandwidth, machine.apart) for a, b in itertools.pairwise(p))
        full = all(map(len, (machine.bandwidth, machine.apart, machine.functions))) and isinstance(data["name"], str)
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


def predict(kernels: Sequence[Executed], machine: Machine) -> Prediction:
    """The time of one call of code that executes these kernels."""
    compute = memory = seconds = 0.0
    overhead = machine.call
    for kernel in kernels:
        busy, moved, idle = _parts(kernel, machine)
        compute, memory, overhead = compute + busy, memory + moved, overhead + idle
        seconds += max(busy, moved) + idle
    operations = sum(kernel.operations for kernel in kernels)
    moved = sum(size for kernel in kernels for size, _, _ in kernel.traffic)
    return Prediction(seconds + machine.call, compute, memory, overhead, operations, moved)


def _parts(kernel: Executed, machine: Machine) -> tuple[float, float, float]:
    """Seconds of a kernel's instructions, of its memory, and of the calls it makes."""
    busy = idle = 0.0
    for name, amount in burden(kernel, machine).items():
        if name in CALLS:
            idle += amount * machine.figure(name)
        else:
            busy += amount * machine.figure(name)
    nearest = machine.bandwidth[0][0]
    moved = sum(size / machine.bandwidth_at(since, far) for size, since, far in kernel.traffic if since > nearest)
    return busy, moved, idle


def burden(kernel: Executed, machine: Machine) -> dict[str, float]:
    """How much of each figure of the machine the instructions of a kernel take: of every stretch the most burdened of
    arithmetic, accesses, loop counters and chains, and all that it takes besides."""
    total: dict[str, float] = {}

    def add(name: str, amount: float) -> None:
        total[name] = total.get(name, 0.0) + amount

    for stretch in kernel.stretches:
        sides: list[dict[str, float]] = [{}, {}]
        seconds = [0.0, 0.0]
        for name, amount in stretch.units.items():
            if name in CALLS or name in CONTROL:
                add(name, stretch.times * amount)
            elif name != "iteration":
                side = 1 if name in ACCESS else 0
                sides[side][name] = amount
                seconds[side] += amount * machine.figure(name)
        steps = max(stretch.units.get("iteration", 0.0) / _STEP_CYCLES, stretch.waits)
        side = sides[0] if seconds[0] >= seconds[1] else sides[1]
        for name, amount in side.items() if max(seconds) >= steps * machine.step else [("step", steps)]:
            add(name, stretch.times * amount)
    return total


def relative_error(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The typical factor between prediction and measurement, minus one: geometric mean of the ratios either way."""
    logs = [abs(math.log(p / m)) for p, m in zip(predicted, measured, strict=True)]
    return math.exp(sum(logs) / len(logs)) - 1 if logs else 0.0


def machine_to_dict(machine: Machine) -> dict[str, Any]:
    """The figures, ready for JSON."""
    return json.loads(machine.to_json())


TYPICAL: Final = Machine(
    "typical", register=32, call=2.5e-8, step=8e-10,
    units={"add": 2e-10, "multiply": 2e-10, "fma": 2.5e-10, "divide": 1.4e-9, "compare": 1.2e-10, "extremum": 1e-9,
           "integer": 1.2e-10, "shuffle": 1.6e-10, "matrix": 1.5e-10, "load": 2.5e-10, "store": 2.5e-10,
           "masked_store": 1e-9, "gather": 4.5e-10, "scatter": 5.5e-10, "strip": 5e-10, "mask": 1e-9, "total": 2e-9,
           "tile": 8e-9, "packed": 2.5e-10, "routine_line": 1.6e-8, "routine_square": 3.5e-9, "routine_cube": 3e-11,
           "kernel": 1.5e-9, "product": 2.5e-8, "routine": 4e-8},
    functions={"exp": 5e-9, "log": 7e-9, "sin": 7e-9, "cos": 7e-9, "tanh": 8e-9, "sqrt": 2.5e-9, "pow": 1.7e-8,
               "arctan": 1e-8, "sigmoid": 8.5e-9, "softplus": 1.5e-8, "erf": 1.8e-8, "lgamma": 2.6e-8},
    bandwidth=((2.4e4, 2.4e11), (1e5, 1.2e11), (4e5, 1e11), (1.4e6, 6e10), (7e6, 5e10), (7e7, 1.3e10)),
    apart=((2.4e4, 2.4e11), (1e5, 4e10), (7e5, 4e10), (2e6, 2e10), (1.2e7, 1.4e10)),
)  # fmt: skip
"""A core with 256-bit registers and a shared cache, in round figures: for judgements that no machine may change, and
what a measured machine is expected to be like."""
