"""The order of items within layers: few crossings, by barycentre sweeps and by swapping neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.render.drawing.plan import Link, Plan


def order(plan: Plan) -> None:
    """Keeps the order with the fewest crossings, found from two first guesses."""
    best, fewest = [list(row) for row in plan.rows], _crossings(plan, _places(plan))
    visits = _visits(plan)
    # The first guess is right for trees, the second keeps the order of the inputs.
    for first in (visits, list(range(len(plan.layer)))):
        for row in plan.rows:
            row.sort(key=lambda item, first=first: first[item])
        place = _places(plan)
        for sweep in range(17):
            if sweep:
                _sweep(plan, place, forward=sweep % 2 == 1)
            crossings = _crossings(plan, place)
            if crossings < fewest:
                best, fewest = [list(row) for row in plan.rows], crossings
            if not fewest:
                break
    plan.rows[:] = best


def _sweep(plan: Plan, place: list[int], forward: bool) -> None:
    for row in plan.rows if forward else reversed(plan.rows):
        keys = {item: _barycentre(plan, place, item, forward) for item in row}
        row.sort(key=lambda item: (keys[item], place[item]))
        for number, item in enumerate(row):
            place[item] = number
    _swap_neighbours(plan, place)


def _visits(plan: Plan) -> list[int]:
    """When a walk from the results back, upper ports first, comes to each item."""
    found = [-1] * len(plan.layer)
    count = 0
    for end in range(len(plan.layer)):
        stack = [end] if not plan.out[end] else []
        while stack:
            item = stack.pop()
            if found[item] < 0:
                found[item] = count
                count += 1
                stack += [k.a for k in sorted(plan.into[item], key=lambda k: -k.offset)]
    return found


def _places(plan: Plan) -> list[int]:
    place = [0] * len(plan.layer)
    for row in plan.rows:
        for number, item in enumerate(row):
            place[item] = number
    return place


def _port(plan: Plan, place: Sequence[int], link: Link) -> float:
    """Where a link ends, between -1/2 and 1/2 around the place of its target."""
    return place[link.b] + link.offset / (plan.height[link.b] + 1.0)


def _barycentre(plan: Plan, place: Sequence[int], item: int, forward: bool) -> float:
    links = plan.into[item] if forward else plan.out[item]
    if not links:
        return float(place[item])
    ends = [float(place[k.a]) if forward else _port(plan, place, k) for k in links]
    return sum(ends) / len(ends)


def _crossings(plan: Plan, place: Sequence[int]) -> int:
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


def _swap_neighbours(plan: Plan, place: list[int]) -> None:
    for row in plan.rows:
        for i in range(len(row) - 1):
            a, b = row[i], row[i + 1]
            if _between(plan, place, b, a) < _between(plan, place, a, b):
                row[i], row[i + 1] = b, a
                place[a], place[b] = place[b], place[a]


def _between(plan: Plan, place: Sequence[int], upper: int, lower: int) -> int:
    """Crossings among the links of two neighbours when `upper` is above."""
    ins = ([place[k.a] for k in plan.into[x]] for x in (upper, lower))
    outs = ([_port(plan, place, k) for k in plan.out[x]] for x in (upper, lower))
    (a, b), (c, d) = ins, outs
    return sum(p > q for p in a for q in b) + sum(p > q for p in c for q in d)


