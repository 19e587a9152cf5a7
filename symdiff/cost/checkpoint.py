"""Checkpointing a chain: memory against recomputation when a chain of equal stages is differentiated backward.

A reverse sweep needs the states of a chain in the opposite order. With s states kept at a time, a chain of l stages can
be reversed by running stages again; the least number of extra stages is known exactly (Griewank, Achieving logarithmic
growth of temporal and spatial complexity in reverse automatic differentiation, 1992; Griewank and Walther, Algorithm
799: revolve, ACM TOMS 26, 2000): with beta(s, r) = (s + r choose s) and the r for which
beta(s, r - 1) < l <= beta(s, r) it is

    t(l, s) = r l - beta(s + 1, r - 1),

r being how often a stage is run at most. `schedule` gives the order of the steps, `find_chain` the chain in a program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symdiff.cost.memory import storage
from symdiff.cost.poly import Poly
from symdiff.errors import ArgumentError
from symdiff.ir.graph import Function, Value

LEAST_STAGES = 16
"""Chains of fewer stages are not worth a schedule."""


def longest(snapshots: int, repeats: int) -> int:
    """beta(s, r): the longest chain that s kept states and r runs of each stage at most can reverse."""
    return math.comb(snapshots + repeats, snapshots) if repeats >= 0 else 0


def repetitions(stages: int, snapshots: int) -> int:
    """r: how often a stage is run again at most, the least with stages <= beta(snapshots, r)."""
    _check(stages, snapshots)
    repeats = 0
    while longest(snapshots, repeats) < stages:
        repeats += 1
    return repeats


def extra_steps(stages: int, snapshots: int) -> int:
    """t(l, s): stages run forward beyond the one run of each that is recorded and reversed at once.

    The initial state is one of the `snapshots` kept.
    """
    repeats = repetitions(stages, snapshots)
    return repeats * stages - longest(snapshots + 1, repeats - 1)


def _check(stages: int, snapshots: int) -> None:
    if stages < 1 or snapshots < 1:
        raise ArgumentError(f"checkpointing: {stages} stages and {snapshots} snapshots, expected at least 1 of each")


@dataclass(frozen=True, slots=True)
class Step:
    """store: the state before stage `start` is kept in `slot`. restore: it is taken from there. advance: stages start
    .. stop - 1 are run. reverse: stage `start` is run, recorded and reversed."""

    kind: Literal["store", "restore", "advance", "reverse"]
    start: int
    stop: int = 0
    slot: int = 0


def schedule(stages: int, snapshots: int) -> list[Step]:
    """The steps that reverse a chain with the least number of extra stages, in order."""
    _check(stages, snapshots)
    steps: list[Step] = [Step("store", 0)]
    # Tasks: reverse the stages first .. last - 1, the state before `first` at hand and in `slot`, which is the last
    # slot taken; or go back to that state before the next task.
    tasks: list[tuple[str, int, int, int]] = [("reverse", 0, stages, 0)]
    while tasks:
        kind, first, last, slot = tasks.pop()
        if kind == "restore":
            steps.append(Step("restore", first, slot=slot))
        elif last - first == 1:
            steps.append(Step("reverse", first))
        else:
            free = snapshots - slot
            middle = first + _advance(last - first, free)
            steps.append(Step("advance", first, middle))
            tasks += [("reverse", first, middle, slot), ("restore", first, 0, slot)]
            if free > 1:
                steps.append(Step("store", middle, slot=slot + 1))
                tasks.append(("reverse", middle, last, slot + 1))
            else:
                # No slot is left: only the last stage can be reversed from here.
                steps.append(Step("reverse", middle))
    return steps


def _advance(stages: int, snapshots: int) -> int:
    """How far to run before the next state is kept: any number for which both parts need no more runs than the whole
    (Griewank and Walther 2000, section 2); with one slot as far as the last stage."""
    if snapshots == 1:
        return stages - 1
    repeats = repetitions(stages, snapshots)
    least = max(longest(snapshots, repeats - 2), stages - longest(snapshots - 1, repeats), 1)
    most = min(longest(snapshots, repeats - 1), stages - max(longest(snapshots - 1, repeats - 1), 1))
    return min(least, most)


# -------------------------------------------------------------------- chains in programs
@dataclass(frozen=True, slots=True)
class Chain:
    """Equal stages one behind the other. state: bytes that one stage hands to the next. tape: bytes that a stage
    computes, which a reverse sweep without checkpoints keeps of all of them."""

    stages: int
    state: Poly
    tape: Poly

    def memory(self, snapshots: int) -> Poly:
        """Bytes kept with so many snapshots: the states, and what one stage records."""
        return self.state * snapshots + self.tape

    @property
    def everything(self) -> Poly:
        """Bytes kept without checkpoints."""
        return self.tape * self.stages

    def choices(self) -> tuple[int, ...]:
        """Numbers of snapshots worth looking at: the fewest for 1, 2, 3, ... runs of a stage, most memory first."""
        found: list[int] = []
        for repeats in range(1, 7):
            snapshots = 1
            while longest(snapshots, repeats) < self.stages:
                snapshots += max(1, snapshots // 64) if repeats == 1 else 1
            snapshots = self.stages - 1 if repeats == 1 else snapshots
            if snapshots >= 1 and snapshots not in found:
                found.append(snapshots)
        return tuple(found)

    def factor(self, snapshots: int) -> float:
        """Stages run forward with so many snapshots, over the number of stages."""
        return 1 + extra_steps(self.stages, snapshots) / self.stages


_Key: TypeAlias = "tuple[object, ...]"


def find_chain(function: Function) -> Chain | None:
    """The longest run of equal stages among the instructions of a program; None where there are fewer than
    `LEAST_STAGES`.

    Stages are equal when operations, attributes and types repeat with one period; what a stage hands on is what is read
    behind a cut between two stages and was computed in the run before it, at the cut with the least of it.
    """
    instrs = function.instrs
    keys: list[_Key] = [(v.op.name, v.type, v.attrs) for v in instrs]
    best: tuple[int, int, int] | None = None  # stages, first instruction, period
    for period in _periods(keys):
        start, length = _longest_run(keys, period)
        stages = (length + period) // period if length else 0
        if stages >= LEAST_STAGES and (best is None or stages * period > best[0] * best[2]):
            best = stages, start, period
    if best is None or not _depends(instrs, *best):
        return None
    stages, start, period = best
    inside = instrs[start : start + stages * period]
    state = _least_state(function, start, stages, period)
    tape = sum((storage(v.type) for v in inside[:period] if v.op.name not in ("const", "size", "iota")), Poly())
    return Chain(stages, state, tape)


def _periods(keys: Sequence[_Key]) -> list[int]:
    """The distances at which instructions most often come again."""
    last: dict[_Key, int] = {}
    gaps: Counter[int] = Counter()
    for position, key in enumerate(keys):
        if key in last:
            gaps[position - last[key]] += 1
        last[key] = position
    # A stage that has one operation k times comes again at distances that sum up to its length.
    common = [gap for gap, count in gaps.most_common(8) if count >= LEAST_STAGES // 2]
    sums = {a + b for a in common for b in common}
    return sorted({*common, *sums})


def _longest_run(keys: Sequence[_Key], period: int) -> tuple[int, int]:
    """Where keys equal those one period later for longest: first position and how many do."""
    best, start, length = (0, 0), 0, 0
    for position in range(len(keys) - period):
        if keys[position] == keys[position + period]:
            if not length:
                start = position
            length += 1
            if length > best[1]:
                best = start, length
        else:
            length = 0
    return best


def _depends(instrs: Sequence[Value], stages: int, start: int, period: int) -> bool:
    """Whether every stage reads the one before it: equal work side by side is no chain."""
    stage = {v: (i // period) for i, v in enumerate(instrs[start : start + stages * period])}
    linked = {stage[v] for v in stage for a in v.args if stage.get(a) == stage[v] - 1}
    return len(linked) >= stages - 1


def _least_state(function: Function, start: int, stages: int, period: int) -> Poly:
    """Bytes alive across the cuts of one phase, the phase with the least; the most over the cuts of that phase."""
    instrs = function.instrs
    stop = start + stages * period
    last: dict[Value, int] = {}
    for position, value in enumerate(instrs):
        for operand in value.args:
            last[operand] = position
    for value in function.results:
        last[value] = len(instrs)
    sizes = dict.fromkeys(sorted({n for v in instrs for n in storage(v.type).names}), 50)
    ends: dict[int, list[Value]] = {}
    alive: dict[Value, None] = {}
    worst: dict[int, tuple[float, Poly]] = {}
    for position in range(start, stop):
        value = instrs[position]
        alive[value] = None
        ends.setdefault(last.get(value, position), []).append(value)
        for dead in ends.pop(position, ()):
            alive.pop(dead, None)
        stage = (position - start) // period
        if 1 <= stage < min(stages - 1, 4) or stage == stages - 2:
            total = sum((storage(v.type) for v in alive), Poly())
            weight = float(total.at(sizes))
            phase = (position - start) % period
            if phase not in worst or weight > worst[phase][0]:
                worst[phase] = weight, total
    return min(worst.values(), key=lambda found: found[0])[1]


def advice(chain: Chain, sizes: Mapping[str, int] | None) -> list[str]:
    """Lines for a report: what checkpoints save at the given sizes (as polynomials without) and what they cost."""
    rough = sizes or dict.fromkeys(chain.state.names | chain.tape.names, 1000)

    def shown(amount: Poly) -> str:
        if sizes is None and amount.names:
            return f"{amount} B"
        size = float(amount.at(rough))
        for unit in ("B", "kB", "MB", "GB"):
            if size < 1000 or unit == "GB":
                return f"{size:.3g} {unit}"
            size /= 1000
        raise AssertionError

    lines = [f"checkpoints: a chain of {chain.stages} stages: a reverse sweep keeps {shown(chain.everything)} of them"]
    for snapshots in chain.choices():
        if float(chain.memory(snapshots).at(rough)) >= float(chain.everything.at(rough)):
            continue
        lines.append(
            f"with {snapshots} checkpoints {shown(chain.memory(snapshots))}, {chain.factor(snapshots):.3g} times the "
            f"forward work (each stage runs at most {repetitions(chain.stages, snapshots) + 1} times)"
        )
    return lines if len(lines) > 1 else []
