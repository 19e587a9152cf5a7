"""Layered layout from left to right: where every box stands and how every wire runs.

Takes sizes of boxes and wires with their ports, gives coordinates. Promises that boxes do not touch, that wires run
between boxes and never through them, and that in front of every box there is room for the labels of its wires, where
those wires are straight. The same input gives the same picture.

The steps are the usual ones: longest-path layers with sources pulled towards their use, lanes for wires over several
layers (one lane per source, shared by its wires), fewer crossings by barycentres and by swapping neighbours, then
heights by least squares under the order found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = "tuple[float, float]"

MARGIN = 16.0
BETWEEN = 18.0  # between boxes of one layer
LANE = 12.0  # the height a passing wire takes
CURVE = 40.0  # least width in which wires change height


@dataclass(frozen=True, slots=True)
class Box:
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Wire:
    """From the middle of the source's right side to the target's left side, `offset` below its middle; `label` is the
    room for text that it needs in front of the target."""

    source: int
    target: int
    offset: float = 0.0
    label: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Top left corners of the boxes, and per wire an even number of stations: straight from each even one to the next,
    a curve (level at both ends) from each odd one to the next."""

    width: float
    height: float
    corners: tuple[Point, ...]
    paths: tuple[tuple[Point, ...], ...]


def layered(boxes: Sequence[Box], wires: Sequence[Wire]) -> Layout:
    """Lay out boxes whose wires go from lower numbers to higher ones."""
    plan = _Plan(boxes, wires)
    _order(plan)
    _heights(plan)
    return _assemble(plan, boxes, wires)


# -------------------------------------------------------------------- layers and lanes
@dataclass(slots=True)
class _Link:
    """A piece of wire between neighbouring layers, ending `offset` below the middle of item `b`."""

    a: int
    b: int
    offset: float
    weight: float


@dataclass(slots=True)
class _Plan:
    """Items are boxes (their own numbers) and lanes behind them; `rows[k]` are the items of layer k from the top."""

    boxes: Sequence[Box]
    wires: Sequence[Wire]
    layer: list[int] = field(init=False)
    height: list[float] = field(init=False)
    middle: list[float] = field(init=False)
    rows: list[list[int]] = field(init=False)
    into: list[list[_Link]] = field(init=False)
    out: list[list[_Link]] = field(init=False)
    routes: list[tuple[int, ...]] = field(init=False)  # the items each wire passes, both ends included

    def __post_init__(self) -> None:
        self.layer = _layers(len(self.boxes), self.wires)
        self.height = [box.height for box in self.boxes]
        self.into = [[] for _ in self.boxes]
        self.out = [[] for _ in self.boxes]
        lanes: dict[tuple[int, int], int] = {}
        known: set[tuple[int, int]] = set()
        self.routes = []
        count = len(self.boxes)
        for wire in self.wires:
            route = [wire.source]
            for level in range(self.layer[wire.source] + 1, self.layer[wire.target]):
                lane = lanes.get((wire.source, level))
                if lane is None:
                    lane = lanes[wire.source, level] = len(self.layer)
                    self.layer.append(level)
                    self.height.append(LANE)
                    self.into.append([])
                    self.out.append([])
                route.append(lane)
            route.append(wire.target)
            self.routes.append(tuple(route))
            for a, b in pairwise(route):
                if b < count or (a, b) not in known:
                    known.add((a, b))
                    # Long wires should be straight: a bend between two lanes is worse than one at a box.
                    weight = 1.0 + 2.0 * (a >= count) + 2.0 * (b >= count)
                    link = _Link(a, b, wire.offset if b < count else 0.0, weight)
                    self.out[a].append(link)
                    self.into[b].append(link)
        self.rows = [[] for _ in range(max(self.layer) + 1)]
        for item, level in enumerate(self.layer):
            self.rows[level].append(item)
        self.middle = [0.0] * len(self.layer)


def _layers(count: int, wires: Sequence[Wire]) -> list[int]:
    layer = [0] * count
    fed, feeds = [False] * count, [count] * count
    for wire in sorted(wires, key=lambda w: w.source):
        layer[wire.target] = max(layer[wire.target], layer[wire.source] + 1)
        fed[wire.target] = True
    for wire in wires:
        feeds[wire.source] = min(feeds[wire.source], layer[wire.target])
    return [
        feeds[i] - 1 if not fed[i] and feeds[i] < count else layer[i] for i in range(count)
    ]


# -------------------------------------------------------------------- order within layers
def _order(plan: _Plan) -> None:
    """Barycentre sweeps both ways; keeps the order with the fewest crossings."""
    place = _places(plan)
    best, fewest = [list(row) for row in plan.rows], _crossings(plan, place)
    for sweep in range(16):
        if not fewest:
            break
        forward = sweep % 2 == 0
        for row in plan.rows if forward else reversed(plan.rows):
            keys = {item: _barycentre(plan, place, item, forward) for item in row}
            row.sort(key=lambda item: (keys[item], place[item]))
            for number, item in enumerate(row):
                place[item] = number
        _swap_neighbours(plan, place)
        crossings = _crossings(plan, place)
        if crossings < fewest:
            best, fewest = [list(row) for row in plan.rows], crossings
    plan.rows[:] = best


def _places(plan: _Plan) -> list[int]:
    place = [0] * len(plan.layer)
    for row in plan.rows:
        for number, item in enumerate(row):
            place[item] = number
    return place


def _port(plan: _Plan, place: Sequence[int], link: _Link) -> float:
    """Where a link ends, between -1/2 and 1/2 around the place of its target."""
    return place[link.b] + link.offset / (plan.height[link.b] + 1.0)


def _barycentre(plan: _Plan, place: Sequence[int], item: int, forward: bool) -> float:
    links = plan.into[item] if forward else plan.out[item]
    if not links:
        return float(place[item])
    ends = [float(place[k.a]) if forward else _port(plan, place, k) for k in links]
    return sum(ends) / len(ends)


def _crossings(plan: _Plan, place: Sequence[int]) -> int:
    total = 0
    for row in plan.rows:
        links = [k for item in row for k in plan.out[item]]
        links.sort(key=lambda k: (place[k.a], _port(plan, place, k)))
        total += _inversions([_port(plan, place, k) for k in links])
    return total


def _inversions(numbers: Sequence[float]) -> int:
    """Pairs out of order, by a Fenwick tree over ranks."""
    rank = {number: i for i, number in enumerate(sorted(set(numbers)), 1)}
    tree = [0] * (len(rank) + 1)
    total = 0
    for seen, number in enumerate(numbers):
        i = rank[number]
        total += seen
        while i:
            total -= tree[i]
            i -= i & -i
        i = rank[number]
        while i < len(tree):
            tree[i] += 1
            i += i & -i
    return total


def _swap_neighbours(plan: _Plan, place: list[int]) -> None:
    for row in plan.rows:
        for i in range(len(row) - 1):
            a, b = row[i], row[i + 1]
            if _between(plan, place, b, a) < _between(plan, place, a, b):
                row[i], row[i + 1] = b, a
                place[a], place[b] = place[b], place[a]


def _between(plan: _Plan, place: Sequence[int], upper: int, lower: int) -> int:
    """Crossings among the links of two neighbours when `upper` is above."""
    ins = ([place[k.a] for k in plan.into[x]] for x in (upper, lower))
    outs = ([_port(plan, place, k) for k in plan.out[x]] for x in (upper, lower))
    (a, b), (c, d) = ins, outs
    return sum(p > q for p in a for q in b) + sum(p > q for p in c for q in d)


# -------------------------------------------------------------------- heights
def _heights(plan: _Plan) -> None:
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


def _settle(plan: _Plan, row: Sequence[int], left: bool, right: bool) -> None:
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


# -------------------------------------------------------------------- coordinates
def _assemble(plan: _Plan, boxes: Sequence[Box], wires: Sequence[Wire]) -> Layout:
    depth = len(plan.rows)
    width, room, drop = [0.0] * depth, [0.0] * depth, [0.0] * depth
    for i, box in enumerate(boxes):
        width[plan.layer[i]] = max(width[plan.layer[i]], box.width)
    for wire in wires:
        level = plan.layer[wire.target]
        room[level] = max(room[level], wire.label)
    for links in plan.into:
        for k in links:
            level = plan.layer[k.b]
            drop[level] = max(drop[level], abs(plan.middle[k.a] - plan.middle[k.b] - k.offset))
    left, x = [0.0] * depth, MARGIN
    for level in range(depth):
        if level:
            x += CURVE + min(0.12 * drop[level], CURVE) + room[level]
        left[level] = x
        x += width[level]
    top = min(plan.middle[i] - plan.height[i] / 2 for i in range(len(plan.middle)))
    bottom = max(plan.middle[i] + plan.height[i] / 2 for i in range(len(plan.middle)))
    down = MARGIN - top

    def corner(i: int) -> Point:
        slack = width[plan.layer[i]] - boxes[i].width
        return left[plan.layer[i]] + slack / 2, plan.middle[i] - boxes[i].height / 2 + down

    corners = [corner(i) for i in range(len(boxes))]
    paths: list[tuple[Point, ...]] = []
    for wire, route in zip(wires, plan.routes, strict=True):
        start = plan.middle[wire.source] + down
        level = plan.layer[wire.source]
        points = [(corners[wire.source][0] + boxes[wire.source].width, start), (left[level] + width[level], start)]
        for lane in route[1:-1]:
            level, y = plan.layer[lane], plan.middle[lane] + down
            points += [(left[level] - room[level], y), (left[level] + width[level], y)]
        level, y = plan.layer[wire.target], plan.middle[wire.target] + wire.offset + down
        points += [(left[level] - room[level], y), (corners[wire.target][0], y)]
        paths.append(tuple(points))
    return Layout(x + MARGIN, bottom - top + 2 * MARGIN, tuple(corners), tuple(paths))
