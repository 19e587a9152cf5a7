"""Layers and lanes: which box stands in which layer, and where wires pass.

Every box gets a layer; a wire over several layers gets a lane, an item of its own, in every layer it passes. All wires
from one source share their lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

BETWEEN = 18.0  # between items of one layer
LANE = 12.0  # the height a passing wire takes


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


@dataclass(slots=True)
class Link:
    """A piece of wire between neighbouring layers, ending `offset` below the middle of item `b`."""

    a: int
    b: int
    offset: float
    weight: float


@dataclass(slots=True)
class Plan:
    """Items are boxes (their own numbers) and lanes behind them; `rows[k]` are the items of layer k from the top."""

    boxes: Sequence[Box]
    wires: Sequence[Wire]
    layer: list[int] = field(init=False)
    height: list[float] = field(init=False)
    middle: list[float] = field(init=False)
    rows: list[list[int]] = field(init=False)
    into: list[list[Link]] = field(init=False)
    out: list[list[Link]] = field(init=False)
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
                    link = Link(a, b, wire.offset if b < count else 0.0, weight)
                    self.out[a].append(link)
                    self.into[b].append(link)
        self.rows = [[] for _ in range(max(self.layer) + 1)]
        for item, level in enumerate(self.layer):
            self.rows[level].append(item)
        self.middle = [0.0] * len(self.layer)


def _layers(count: int, wires: Sequence[Wire]) -> list[int]:
    """Longest paths from the left; what depends on sources only then moves right, next to its use."""
    layer = [0] * count
    sources: list[set[int]] = [set() for _ in range(count)]
    targets: list[set[int]] = [set() for _ in range(count)]
    for wire in sorted(wires, key=lambda w: w.source):
        layer[wire.target] = max(layer[wire.target], layer[wire.source] + 1)
        sources[wire.target].add(wire.source)
        targets[wire.source].add(wire.target)
    free = [True] * count
    for i in range(count):
        # Moving is no loss when the wires behind move along, or when as many grow as shrink.
        free[i] = all(free[a] for a in sources[i]) and (
            len(sources[i]) < 2 or all(len(targets[a]) == 1 for a in sources[i])
        )
    for i in reversed(range(count)):
        if free[i] and targets[i]:
            layer[i] = min(layer[b] for b in targets[i]) - 1
    lowest = min(layer)
    return [level - lowest for level in layer]
