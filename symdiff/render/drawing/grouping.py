"""Which nodes of a large graph share a box, so that a picture stays within a stated number of boxes.

Chains of operations are collapsed first, the longest first, because nothing of the structure is lost. If that is not
enough, the operations are cut by depth into bands of about equal size, one box each; inputs and results that are still
too many are put together too. Takes numbers of nodes (sources first) and gives groups; no group is on a cycle.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from symdiff.errors import ArgumentError
from symdiff.render.drawing.model import Kind

LEAST = 6


@dataclass(frozen=True, slots=True)
class Grouping:
    """`groups` in an order in which wires rise, each a rising tuple of nodes; `box` is the group of every node."""

    groups: tuple[tuple[int, ...], ...]
    box: tuple[int, ...]


def group(kinds: Sequence[Kind], wires: Sequence[tuple[int, int]], limit: int) -> Grouping:
    """At most `limit` groups for nodes of the given kinds ("input", "operation", "result")."""
    if limit < LEAST:
        raise ArgumentError(f"limit {limit}: expected at least {LEAST} boxes")
    leader = list(range(len(kinds)))
    if len(kinds) > limit:
        left = _collapse_chains(kinds, wires, leader, limit)
        if left > limit:
            leader = _bands(kinds, wires, limit)
    return _ordered(leader, wires)


def _collapse_chains(kinds: Sequence[Kind], wires: Sequence[tuple[int, int]], leader: list[int], limit: int) -> int:
    """Put chains under their first node until the boxes fit; returns how many boxes there are then."""
    sources: list[set[int]] = [set() for _ in kinds]
    targets: list[set[int]] = [set() for _ in kinds]
    for a, b in wires:
        sources[b].add(a)
        targets[a].add(b)
    chains: dict[int, list[int]] = {}
    start = list(range(len(kinds)))
    for b, kind in enumerate(kinds):
        if kind != "operation":
            continue
        if len(sources[b]) == 1:
            (a,) = sources[b]
            if kinds[a] == "operation" and targets[a] == {b}:
                start[b] = start[a]
        chains.setdefault(start[b], []).append(b)
    count = len(kinds)
    for chain in sorted(chains.values(), key=lambda c: (-len(c), c)):
        if count <= limit or len(chain) == 1:
            break
        for b in chain:
            leader[b] = chain[0]
        count -= len(chain) - 1
    return count


def _bands(kinds: Sequence[Kind], wires: Sequence[tuple[int, int]], limit: int) -> list[int]:
    """Group by depth. Inputs have no wires in and the results set apart have none out, so they make no cycle."""
    count = len(kinds)
    depth, used, first = [0] * count, [False] * count, [count] * count
    for a, b in sorted(wires):
        depth[b] = max(depth[b], depth[a] + 1)
        used[a] = True
    inputs = [i for i in range(count) if kinds[i] == "input"]
    ends = [i for i in range(count) if kinds[i] == "result" and not used[i]]
    many_inputs, many_ends = len(inputs) > limit // 3, len(ends) > limit // 3
    room = limit - (0 if many_inputs else len(inputs)) - (1 if many_ends else len(ends))
    bands = max(1, room // (2 if many_inputs else 1))
    apart = {*inputs, *ends}
    inner = sorted((i for i in range(count) if i not in apart), key=lambda i: (depth[i], i))
    band = [0] * count
    levels: dict[int, list[int]] = {}
    for i in inner:
        levels.setdefault(depth[i], []).append(i)
    before = 0
    for members in levels.values():
        for i in members:
            band[i] = before * bands // len(inner)
        before += len(members)
    for a, b in wires:
        if b not in apart:
            first[a] = min(first[a], band[b])
    leader = list(range(count))
    heads: dict[tuple[str, int], int] = {}
    for i in inner:
        leader[i] = heads.setdefault(("operation", band[i]), i)
    for i in inputs if many_inputs else ():
        leader[i] = heads.setdefault(("input", first[i] if first[i] < count else 0), i)
    for i in ends if many_ends else ():
        leader[i] = heads.setdefault(("result", 0), i)
    return leader


def _ordered(leader: Sequence[int], wires: Sequence[tuple[int, int]]) -> Grouping:
    """Number the groups so that wires rise, ties by their first node."""
    members: dict[int, list[int]] = {}
    for i, head in enumerate(leader):
        members.setdefault(head, []).append(i)
    after: dict[int, set[int]] = {head: set() for head in members}
    waiting = dict.fromkeys(members, 0)
    for a, b in wires:
        if leader[a] != leader[b] and leader[b] not in after[leader[a]]:
            after[leader[a]].add(leader[b])
            waiting[leader[b]] += 1
    ready = [head for head, count in waiting.items() if not count]
    heapq.heapify(ready)
    groups: list[tuple[int, ...]] = []
    box = [0] * len(leader)
    while ready:
        head = heapq.heappop(ready)
        for i in members[head]:
            box[i] = len(groups)
        groups.append(tuple(members[head]))
        for other in after[head]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, other)
    return Grouping(tuple(groups), tuple(box))
