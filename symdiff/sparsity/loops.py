"""Patterns through loops: set numbers pass through the body as they pass through a program.

With the union of all slices in every step, rounds are made until no carry depends on more: a few where carries depend
on themselves elementwise, and then hardly an entry is too many. Where carries depend on more and more, or on little in
all, steps are followed one by one: the pattern is that of the unrolled program, so bands widen by one step at a time
and nothing depends on later steps. Where neither ends, every element counts. All three hold every non-zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from symdiff.ir.graph import Value
from symdiff.ir.loop import Loop
from symdiff.sparsity.sets import Numbers, Pool

Maybe: TypeAlias = "Numbers | None"

ROUNDS = 12
"""Rounds after which carries that still depend on more and more are taken to depend on everything."""
GROWTH = 1 << 28
TIMES_DENSE = 8
"""Runs of new sets that steps may make: so many at all, and so many times the columns of a dense pattern."""
FEW = 1 << 21
"""Runs, over all steps, up to which steps are followed although rounds have ended."""


class Sweep(Protocol):
    """What is known of values: set numbers, elements that may differ from zero (absent: all), arrays."""

    pool: Pool
    numbers: dict[Value, Numbers]
    masks: dict[Value, Numbers]
    values: dict[Value, Any]
    static: set[Value]
    held: list[list[Maybe]]
    """Lists of set numbers in use beside those of values; they change when sets are dropped."""

    def inside(self, steps: int) -> Sweep:
        """For one of so many steps of a loop."""
        ...

    def known(self, value: Value) -> Any: ...
    def block(self, x: Numbers, axes: Sequence[int], shape: tuple[int, ...]) -> Numbers: ...
    def shape(self, value: Value) -> tuple[int, ...]: ...
    def through(self, loop: Loop) -> list[Maybe]:
        """Set numbers of the results of a body."""
        ...


def step_by_step(sweep: Sweep, loop: Loop, length: int, picks: Sequence[Value]) -> list[Maybe] | None:
    """Set numbers of picks of a loop, exactly; None where steps make too many sets."""
    count, pool = len(loop.carries), sweep.pool
    state: list[Maybe] = [sweep.numbers.get(start) for _, start, _ in loop.carries]
    masks: list[Maybe] = [sweep.masks.get(start) for _, start, _ in loop.carries]
    values: list[Any] = [_number(sweep, start) for _, start, _ in loop.carries]
    rows: list[list[Maybe]] = [[] for _ in picks]
    sweep.held += [state, *rows]
    dense = pool.width * sum([int(np.prod(sweep.shape(pick))) for pick in picks])
    grown, most = 0, min(GROWTH, max(FEW, TIMES_DENSE * dense))
    try:
        for t in range(length - 1, -1, -1) if loop.reverse else range(length):
            before = pool.filled
            inner = sweep.inside(length)
            for (p, _, _), numbers, mask, value in zip(loop.carries, state, masks, values, strict=True):
                _give(inner, p, numbers, mask, value)
            for p, operand in loop.slices:
                _give(inner, p, *[None if x is None else x[t] for x in _all_of(sweep, operand)])
            for p, operand in loop.consts:
                _give(inner, p, *_all_of(sweep, operand))
            results = inner.through(loop)
            for pick, own in zip(picks, rows, strict=True):
                k: int = pick.attr("pick")
                if k >= count:
                    own.append(state[k - count] if k < 2 * count else results[k - count])
            state[:] = results[:count]
            masks = [inner.masks.get(after) for _, _, after in loop.carries]
            values = [_number(inner, after) for _, _, after in loop.carries]
            grown += max(pool.filled - before, 0)
            if grown > most and length > 1:
                return None
        return [_collected(sweep, pick, state, own, loop, count) for pick, own in zip(picks, rows, strict=True)]
    finally:
        del sweep.held[-1 - len(rows) :]


def _collected(
    sweep: Sweep, pick: Value, state: Sequence[Maybe], rows: Sequence[Maybe], loop: Loop, count: int
) -> Maybe:
    if pick.attr("pick") < count:
        return state[pick.attr("pick")]
    if all(r is None for r in rows):
        return None
    shape = sweep.shape(pick)[1:]
    full = [np.zeros(shape, np.int64) if r is None else r for r in rows]
    return np.stack(full[::-1] if loop.reverse else full)


def all_steps_at_once(sweep: Sweep, loop: Loop, picks: Sequence[Value], rounds: int) -> list[Maybe] | None:
    """Set numbers of picks of a loop of at least one step, those of all steps united; None where rounds do not end."""
    count, pool = len(loop.carries), sweep.pool
    state: list[Maybe] = [sweep.numbers.get(start) for _, start, _ in loop.carries]
    results: list[Maybe] = []
    slices: list[Maybe] = []
    for _, operand in loop.slices:
        x = sweep.numbers.get(operand)
        slices.append(None if x is None else sweep.block(x, [0], x.shape[1:]))
    sweep.held += [state, slices, results]
    try:
        for _ in range(rounds):
            inner = sweep.inside(1)
            for (p, _, _), numbers in zip(loop.carries, state, strict=True):
                _give(inner, p, numbers, None, None)
            for (p, operand), numbers in zip(loop.slices, slices, strict=True):
                mask = sweep.masks.get(operand)
                _give(inner, p, numbers, None if mask is None else np.any(mask, axis=0), None)
            for p, operand in loop.consts:
                _give(inner, p, *_all_of(sweep, operand))
            results[:] = inner.through(loop)
            more = [_union(pool, a, b) for a, b in zip(state, results, strict=False)]
            settled = all(map(_same, more, state))
            state[:] = more
            if settled:
                return [_repeated(sweep, pick, state, results, count) for pick in picks]
        return None
    finally:
        del sweep.held[-3:]


def few(pool: Pool, picks: Sequence[Value], found: Sequence[Maybe], length: int) -> bool:
    """Whether following the steps makes few sets, by what their union has come to."""
    runs = 0
    for pick, numbers in zip(picks, found, strict=True):
        if numbers is not None:
            runs += int(pool.runs(numbers).sum()) * (length if pick.attr("pick") < pick.attr("carries") else 1)
    return runs <= FEW


def _repeated(sweep: Sweep, pick: Value, state: Sequence[Maybe], results: Sequence[Maybe], count: int) -> Maybe:
    k: int = pick.attr("pick")
    found = state[k] if k < count else state[k - count] if k < 2 * count else results[k - count]
    return found if found is None or k < count else np.broadcast_to(found, sweep.shape(pick))


def _union(pool: Pool, a: Maybe, b: Maybe) -> Maybe:
    return b if a is None else a if b is None else pool.union(a, b)


def _same(a: Maybe, b: Maybe) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _number(sweep: Sweep, value: Value) -> Any:
    """The array of an index, a condition or a constant that is known; None for others."""
    if value in sweep.static and (not value.type.floating or value.op.name in ("array", "const")):
        return sweep.known(value)
    return None


def _all_of(sweep: Sweep, operand: Value) -> tuple[Maybe, Maybe, Any]:
    return sweep.numbers.get(operand), sweep.masks.get(operand), _number(sweep, operand)


def _give(sweep: Sweep, p: Value, numbers: Maybe, mask: Maybe, value: Any) -> None:
    """What is known of a parameter of a body."""
    if numbers is not None and p.type.floating:
        sweep.numbers[p] = numbers
    if mask is not None and not bool(np.all(mask)):
        sweep.masks[p] = mask
    if value is not None:
        sweep.static.add(p)
        sweep.values[p] = value
