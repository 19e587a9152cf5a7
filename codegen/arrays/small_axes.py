"""The small axes of a shape, and where they lead: places along them, and affine maps at such places.

An axis is small when its size is a number up to `SMALL`. A place is the small part of an index. `Split` takes the maps
of a view or of a window apart into what they are along small axes, where a place gives a place, and what is left along
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from itertools import product as every
from math import prod
from typing import TypeAlias

from codegen.arrays.nodes import AxisMap, ViewMap
from symdiff.ir.dims import Shape, Size

SMALL = 32
Place: TypeAlias = "tuple[int, ...]"


def is_small(size: Size) -> bool:
    return isinstance(size, int) and 0 < size <= SMALL


@lru_cache(1024)
def axes(shape: Shape) -> tuple[Sequence[int], Sequence[int]]:
    """The small axes, and the others."""
    small = [i for i, s in enumerate(shape) if is_small(s)]
    return small, [i for i in range(len(shape)) if i not in set(small)]


@lru_cache(256)
def places(shape: Shape) -> Sequence[Place]:
    """The small part of every index, row-major."""
    return list(every(*[range(s) for s in shape if isinstance(s, int) and is_small(s)]))


@lru_cache(1024)
def elements(shape: Shape) -> int:
    """How many places there are."""
    return prod([s for s in shape if isinstance(s, int) and is_small(s)])


@lru_cache(1024)
def large(shape: Shape) -> Shape:
    """The shape without its small axes."""
    return tuple([s for s in shape if not is_small(s)])


def part(rank: int, fixed: Sequence[int], place: Place) -> ViewMap:
    """Where the part of an array lies that is at a place of the axes `fixed`: along the others it is all of it."""
    index = dict(zip(fixed, place, strict=True))
    others = count()
    return tuple([((), index[axis]) if axis in index else (((next(others), 1),), 0) for axis in range(rank)])


class Split:
    """Maps from indices of an array of `shape` to those of another one of shape `onto`, taken apart."""

    def __init__(self, maps: ViewMap, shape: Shape, onto: Shape) -> None:
        small, rest = axes(shape)
        at = {axis: i for i, axis in enumerate(small)}
        position = {axis: i for i, axis in enumerate(rest)}

        def split(axis: int) -> tuple[Size, list[tuple[int, Size]], tuple[tuple[int, Size], ...]]:
            terms, const = maps[axis]
            along = [(at[a], f) for a, f in terms if a in at]
            return const, along, tuple([(position[a], f) for a, f in terms if a in position])

        small_onto, rest_onto = axes(onto)
        self._places = [split(axis) for axis in small_onto]
        self._rest = [split(axis) for axis in rest_onto]
        self._still: ViewMap | None = None
        """The maps along large axes where they are the same at all places."""
        if not any(along for _, along, _ in self._rest):
            self._still = tuple([(left, const) for const, _, left in self._rest])

    def place(self, at: Place) -> Place | None:
        """The place that a place leads to; None where that depends on anything else."""
        found: list[int] = []
        for const, along, left in self._places:
            for i, factor in along:
                const = const + factor * at[i]
            if left or not isinstance(const, int):
                return None
            found.append(const)
        return tuple(found)

    def maps(self, at: Place) -> ViewMap:
        """The maps along large axes at a place."""
        if self._still is not None:
            return self._still
        found: list[AxisMap] = []
        for const, along, left in self._rest:
            for i, factor in along:
                const = const + factor * at[i]
            found.append((left, const))
        return tuple(found)
