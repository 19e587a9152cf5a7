"""Orders in which greedy colourings take the vertices of a graph, given by compressed rows without loops.

Largest first: Welsh, Powell (1967). Smallest last: Matula, Marble, Isaacson (1972). Incidence degree: Coleman, More
(1983), a vertex with most neighbours in front of it comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from symdiff.sparsity.sets import Numbers

EFFORT = 200_000
"""Edges, each counted from both ends, up to which the orders that need the graph itself are tried."""


def orders(weight: Numbers, graph: Callable[[], tuple[Numbers, Numbers] | None]) -> Iterator[Sequence[int]]:
    """Orders to try, the cheapest first. weight: degrees, or nearly. graph: asked for late, None when it is too big."""
    yield range(len(weight))
    yield np.argsort(-weight, kind="stable").tolist()
    found = graph()
    if found is not None:
        indptr, indices = found
        yield smallest_last(indptr, indices)
        yield incidence_degree(indptr, indices)


def smallest_last(indptr: Numbers, indices: Numbers) -> list[int]:
    """From the back: a vertex with fewest neighbours among those that have no place yet."""
    starts, neighbours = indptr.tolist(), indices.tolist()
    degree: list[int] = np.diff(indptr).tolist()
    waiting: list[list[int]] = [[] for _ in range(max(degree, default=0) + 1)]
    for v in reversed(range(len(degree))):
        waiting[degree[v]].append(v)
    placed = [False] * len(degree)
    order: list[int] = []
    low = 0
    while len(order) < len(degree):
        if not waiting[low]:
            low += 1
            continue
        v = waiting[low].pop()
        if placed[v] or degree[v] != low:  # it waits with fewer neighbours, too
            continue
        placed[v] = True
        order.append(v)
        for w in neighbours[starts[v] : starts[v + 1]]:
            if not placed[w]:
                degree[w] -= 1
                waiting[degree[w]].append(w)
        low = max(low - 1, 0)
    order.reverse()
    return order


def incidence_degree(indptr: Numbers, indices: Numbers) -> list[int]:
    """From the front: a vertex with most neighbours that have their place, of equals the one with most neighbours."""
    starts, neighbours = indptr.tolist(), indices.tolist()
    degree = np.diff(indptr)
    waiting: list[list[int]] = [[] for _ in range(int(degree.max(initial=0)) + 1)]
    waiting[0] = np.argsort(degree, kind="stable").tolist()
    before = [0] * len(degree)
    placed = [False] * len(degree)
    order: list[int] = []
    high = 0
    while len(order) < len(degree):
        if not waiting[high]:
            high -= 1
            continue
        v = waiting[high].pop()
        if placed[v] or before[v] != high:
            continue
        placed[v] = True
        order.append(v)
        for w in neighbours[starts[v] : starts[v + 1]]:
            if not placed[w]:
                before[w] += 1
                waiting[before[w]].append(w)
                high = max(high, before[w])
    return order
