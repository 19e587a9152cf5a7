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
from dataclasses import dataclass
from typing import TypeAlias

from symdiff.render.drawing.heights import set_heights
from symdiff.render.drawing.order import order
from symdiff.render.drawing.plan import Box, Plan, Wire

Point: TypeAlias = "tuple[float, float]"

MARGIN = 16.0
CURVE = 40.0  # least width in which wires change height


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
    plan = Plan(boxes, wires)
    order(plan)
    set_heights(plan)
    return _assemble(plan, boxes, wires)


def _assemble(plan: Plan, boxes: Sequence[Box], wires: Sequence[Wire]) -> Layout:
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
