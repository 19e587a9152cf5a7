"""Which sizes of arguments a traced program serves: shapes of numbers and dimensions, and guards on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from symdiff.ir.dims import Dim, Shape, Size, evaluate, named

Shapes: TypeAlias = "tuple[Shape, ...]"


@dataclass(frozen=True, slots=True)
class Guard:
    """A comparison of sizes that the traced code made, and the answer it got."""

    compare: Callable[[Any, Any], Any]
    left: Size
    right: Any
    answer: bool

    def holds(self, sizes: Mapping[str, int]) -> bool:
        right = evaluate(self.right, sizes) if isinstance(self.right, (int, Dim)) else self.right
        return bool(self.compare(evaluate(self.left, sizes), right)) is self.answer


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which sizes a program serves: a shape of numbers and dimensions per leaf, guards on them, the least size."""

    shapes: Shapes
    guards: tuple[Guard, ...] = ()
    least: int = 2


def pattern_of(shapes: Sequence[Sequence[int]], fixed: Sequence[int] = ()) -> Pattern:
    """Equal sizes share a dimension n0, n1, ... by first appearance; 0, 1 and the sizes in `fixed` stay numbers."""
    names: dict[int, Dim] = {}
    result: list[Shape] = []
    for shape in shapes:
        row: list[Size] = []
        for size in shape:
            if size < 2 or size in fixed:
                row.append(int(size))
            else:
                row.append(names.setdefault(size, named(f"n{len(names)}")))
        result.append(tuple(row))
    return Pattern(tuple(result))


def bind(pattern: Pattern, shapes: Sequence[Sequence[int]]) -> dict[str, int] | None:
    """The size of every dimension of a pattern, None when the shapes do not fit it."""
    if len(shapes) != len(pattern.shapes):
        return None
    sizes: dict[str, int] = {}
    composed: list[tuple[Dim, int]] = []
    for expected, shape in zip(pattern.shapes, shapes, strict=True):
        if len(expected) != len(shape):
            return None
        for size, number in zip(expected, shape, strict=True):
            if isinstance(size, Dim):
                if str(size) not in size.names:
                    composed.append((size, number))
                elif number < pattern.least or sizes.setdefault(str(size), number) != number:
                    return None
            elif size != number:
                return None
    if any(not s.names <= sizes.keys() or evaluate(s, sizes) != number for s, number in composed):
        return None
    return sizes if all(g.holds(sizes) for g in pattern.guards) else None


def fits(pattern: Pattern, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether a program of this pattern serves arguments of these shapes."""
    return bind(pattern, shapes) is not None
