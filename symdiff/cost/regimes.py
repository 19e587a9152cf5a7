"""Which answer holds at which of the sizes given, in words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

SHOWN = 3
"""So many points are listed."""


def equations(sizes: Mapping[str, int]) -> str:
    """Sizes as a list of equations."""
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())


def at_sizes(equations: str) -> str:
    """The words behind what holds there; none where there are no dimensions."""
    return f" at {equations}" if equations else ""


def regimes(
    answers: Sequence[str], points: Sequence[Mapping[str, int]]
) -> list[tuple[str, str, list[int]]]:
    """(answer, where, numbers of points) for every answer, in order of first appearance.

    Along one dimension whose sizes rise an answer holds from one size on; of any other points those are listed at which
    it holds.
    """
    if len(points) > 1 and len(set(answers)) == 1:
        return [(answers[0], " at all sizes given", list(range(len(points))))]
    found: list[tuple[str, list[int]]] = []
    rising = _rising(points)
    for number, answer in enumerate(answers):
        own = found[-1:] if rising else found
        same = next((numbers for known, numbers in own if known == answer), None)
        if same is None:
            found.append((answer, [number]))
        else:
            same.append(number)
    result: list[tuple[str, str, list[int]]] = []
    for place, (answer, numbers) in enumerate(found):
        first = equations(points[numbers[0]])
        if rising:
            where = f" from {first} on" if place else at_sizes(first)
        else:
            where = " and".join([at_sizes(equations(points[i])) for i in numbers[:SHOWN]])
            where += f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        result.append((answer, where, numbers))
    return result


def _rising(points: Sequence[Mapping[str, int]]) -> bool:
    """Whether one dimension alone has several sizes, in rising order."""
    varying = [name for name in (points[0] if points else ()) if len({p[name] for p in points}) > 1]
    if len(varying) > 1:
        return False
    sizes = [p[name] for p in points for name in varying]
    return all(a < b for a, b in itertools.pairwise(sizes))


def spread(values: Sequence[float], text: Callable[[float], str] = lambda x: f"{x:.3g}") -> str:
    """One number, or the least and the largest of several that differ."""
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"
