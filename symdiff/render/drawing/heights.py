"""Heights of items under a given order: near their neighbours in least squares, long wires straight where possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from symdiff.render.drawing.plan import BETWEEN, Plan


def set_heights(plan: Plan) -> None:
    """Every item as near to its neighbours as the order and the spacing allow, in sweeps both ways."""
    for row in plan.rows:
        y = 0.0
        for item in row:
            plan.middle[item] = y + plan.height[item] / 2
            y += plan.height[item] + BETWEEN
    for sweep in range(14):
        both = sweep >= 10
        forward = sweep % 2 == 0
        for row in plan.rows if forward else reversed(plan.rows):
            _settle(plan, row, both or forward, both or not forward)
    _straighten(plan)


def _settle(plan: Plan, row: Sequence[int], left: bool, right: bool) -> None:
    wanted: list[float] = []
    weights: list[float] = []
    for item in row:
        pulls = [(plan.middle[k.a] - k.offset, k.weight) for k in plan.into[item]] if left else []
        pulls += [(plan.middle[k.b] + k.offset, k.weight) for k in plan.out[item]] if right else []
        total = sum(w for _, w in pulls)
        wanted.append(sum(y * w for y, w in pulls) / total if total else plan.middle[item])
        weights.append(total or 0.05)
    shift, shifts = 0.0, [0.0]
    for a, b in pairwise(row):
        shift += (plan.height[a] + plan.height[b]) / 2 + BETWEEN
        shifts.append(shift)
    found = _rising([w - s for w, s in zip(wanted, shifts, strict=True)], weights)
    for item, y, s in zip(row, found, shifts, strict=True):
        plan.middle[item] = y + s


def _straighten(plan: Plan) -> None:
    """Lanes of one wire at one height, as far as items above and below leave room, that of an end if possible."""
    row_of = {item: (row, i) for row in plan.rows for i, item in enumerate(row)}

    def room(item: int) -> tuple[float, float]:
        row, i = row_of[item]
        low = high = math.inf
        if i:
            low = plan.middle[item] - plan.middle[row[i - 1]] - (plan.height[item] + plan.height[row[i - 1]]) / 2
        if i + 1 < len(row):
            high = plan.middle[row[i + 1]] - plan.middle[item] - (plan.height[item] + plan.height[row[i + 1]]) / 2
        return plan.middle[item] - low + BETWEEN, plan.middle[item] + high - BETWEEN

    for route in sorted(plan.routes, key=len, reverse=True):
        lanes, start = route[1:-1], 0
        while start < len(lanes):
            low, high = room(lanes[start])
            end = start + 1
            while end < len(lanes):
                down, up = room(lanes[end])
                if max(low, down) > min(high, up):
                    break
                low, high, end = max(low, down), min(high, up), end + 1
            run = lanes[start:end]
            wanted = [plan.middle[route[start]]]
            wanted += [plan.middle[k.b] + k.offset for k in plan.out[run[-1]]]
            wanted.append(sum(plan.middle[i] for i in run) / len(run))
            # The first wish that fits makes a bend less; else the mean, which always fits within the room.
            y = next((w for w in wanted if low <= w <= high), min(max(wanted[-1], low), high))
            for item in run:
                plan.middle[item] = y
            start = end


def _rising(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising sequence nearest to `wanted` in weighted least squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for mean, weight in zip(wanted, weights, strict=True):
        count = 1
        while pools and pools[-1][0] > mean:
            other, more, many = pools.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + many
        pools.append((mean, weight, count))
    return [mean for mean, _, count in pools for _ in range(count)]


