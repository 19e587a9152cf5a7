"""Checkpoint schedules against dynamic programming, and chains found in programs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.cost.checkpoint import Chain, advice, extra_steps, find_chain, longest, repetitions, schedule
from symdiff.cost.poly import Poly
from symdiff.errors import ArgumentError

n = sd.dim("n")


@cache
def least(stages: int, snapshots: int) -> int:
    """Extra stages by trying every place for the next checkpoint."""
    if stages == 1:
        return 0
    if snapshots == 1:
        return stages * (stages - 1) // 2
    return min(m + least(stages - m, snapshots - 1) + least(m, snapshots) for m in range(1, stages))


def test_the_formula_is_the_least_of_all_schedules() -> None:
    for stages in range(1, 70):
        for snapshots in range(1, 12):
            assert extra_steps(stages, snapshots) == least(stages, snapshots), (stages, snapshots)


@given(st.integers(1, 90), st.integers(1, 9))
def test_schedules_reverse_every_stage_with_the_least_steps(stages: int, snapshots: int) -> None:
    slots: dict[int, int] = {}
    at, steps, left, runs = 0, 0, stages, [0] * stages
    for step in schedule(stages, snapshots):
        if step.kind == "store":
            assert at == step.start
            slots[step.slot] = at
            assert len(slots) <= snapshots and step.slot < snapshots
        elif step.kind == "restore":
            at = slots[step.slot]
            assert at == step.start
            slots = {s: a for s, a in slots.items() if s <= step.slot}
        elif step.kind == "advance":
            assert at == step.start < step.stop < left
            for stage in range(step.start, step.stop):
                runs[stage] += 1
            steps += step.stop - step.start
            at = step.stop
        else:
            assert at == step.start == left - 1, "stages are reversed from the last to the first"
            left -= 1
    assert left == 0
    assert steps == extra_steps(stages, snapshots)
    assert max(runs) <= repetitions(stages, snapshots)


def test_logarithmic_growth() -> None:
    assert longest(10, 10) == 184756
    assert repetitions(184756, 10) == 10
    assert repetitions(184757, 10) == 11
    assert extra_steps(1_000_000, 20) / 1_000_000 < 7


def test_nothing_to_reverse_is_refused() -> None:
    for call in (lambda: extra_steps(0, 1), lambda: schedule(3, 0)):
        with pytest.raises(ArgumentError, match="expected at least 1 of each"):
            call()


def test_chains_are_found_in_programs() -> None:
    x, w = sd.symbol("x", (n,)), sd.symbol("W", (n, n))
    state = x
    for _ in range(40):
        state = np.tanh(w @ state) + x
    chain = find_chain(function_of([np.sum(state)], [x, w]))
    assert chain is not None
    assert 38 <= chain.stages <= 40
    assert chain.state == Poly(8 * n)
    assert chain.tape == Poly(24 * n)
    assert chain.everything.at({"n": 10}) == 240 * chain.stages
    lines = advice(chain, {"n": 1000})
    assert "a chain of" in lines[0] and any("times the forward work" in line for line in lines[1:])


def test_what_is_no_chain() -> None:
    x = sd.symbol("x", (n,))
    beside = sum((np.sin(k * x) for k in range(1, 40)), start=x * 0)
    short = np.sin(np.sin(np.sin(x)))
    assert find_chain(function_of([short], [x])) is None
    assert find_chain(function_of([np.stack([np.sin(x + k) for k in range(40)])], [x])) is None
    chain = find_chain(function_of([beside], [x]))
    assert chain is None or chain.stages <= 40


def test_fewer_snapshots_take_less_memory_and_more_steps() -> None:
    chain = Chain(1000, Poly(8 * n), Poly(80 * n))
    choices = chain.choices()
    assert list(choices) == sorted(choices, reverse=True)
    factors = [chain.factor(s) for s in choices]
    assert factors == sorted(factors)
    assert factors[0] < 2.01
    amounts = [chain.memory(s).at({"n": 5}) for s in choices]
    assert amounts == sorted(amounts, reverse=True)


def test_the_bill_prices_checkpoints_of_long_chains() -> None:
    x = sd.symbol("x", (n,))
    state = x
    for _ in range(100):
        state = np.sin(state) * x
    bill = sd.compare(np.sum(state), x, sizes={"n": 1000}, modes=("reverse",))
    assert "checkpoints: a chain of" in str(bill)
    assert any("times the forward work" in line for line in bill.checkpoints)
    assert not sd.compare(np.sum(np.sin(x)), x, sizes={"n": 1000}).checkpoints
