"""Symmetric matrices taken apart: which one of two equal entries is computed.

Takes the entries of a matrix that is known to be symmetric (in its last two axes), as nodes by place; gives them with
one node for both of two mirrored places. A Hessian by forward over reverse mode, say, has entry i, j from the tangent
of variable j: whether the lower or the upper triangle is cheaper depends on the function, and may differ from entry to
entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set

from codegen.arrays.nodes import Node
from codegen.arrays.small_axes import Place


def mirrored(parts: Mapping[Place, Node], there: set[Node]) -> dict[Place, Node]:
    """The entries, one of two wherever they are mirrored; `there`: what is computed anyway, which grows by them."""
    pairs = [(place, (*place[:-2], place[-1], place[-2])) for place in parts if place[-2] > place[-1]]
    pairs = [(below, above) for below, above in pairs if parts[below] is not parts[above]]
    if not pairs:
        return dict(parts)
    there |= needed([node for place, node in parts.items() if place[-2] == place[-1]], there)[0]
    ways = [[below for below, _ in pairs], [above for _, above in pairs], _one_by_one(parts, pairs, there)]
    costs = [needed([parts[place] for place in way], there) for way in ways]
    best = min(range(len(ways)), key=lambda way: costs[way][1])
    there |= costs[best][0]
    found = dict(parts)
    for place in ways[best]:
        found[*place[:-2], place[-1], place[-2]] = parts[place]
    return found


def _one_by_one(
    parts: Mapping[Place, Node], pairs: Iterable[tuple[Place, Place]], there: set[Node]
) -> list[Place]:
    """Of each pair what costs less besides those before."""
    chosen: list[Place] = []
    there, side = set(there), 0
    for pair in pairs:
        nodes, cost = needed([parts[pair[side]]], there)
        others, other = needed([parts[pair[1 - side]]], there, cost)
        if other < cost:  # where one side is cheaper, it mostly is for the next one, too
            side, nodes = 1 - side, others
        chosen.append(pair[side])
        there |= nodes
    return chosen


def needed(nodes: Sequence[Node], there: Set[Node], most: float = math.inf) -> tuple[set[Node], float]:
    """What nodes need besides what is there, and what that costs; infinite from `most` on, where it ends."""
    found: set[Node] = set()
    total = 0.0
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in found or node in there:
            continue
        found.add(node)
        total += node.own_cost
        if total >= most:
            return found, math.inf
        stack += node.args
    return found, total
