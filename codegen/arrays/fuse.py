"""What is stored, and what is computed in one pass: from array nodes to an ordered list of groups.

Takes a `Lowered` function; gives groups of nodes. A group is one kernel: nodes of one iteration space (maps and folds)
that do not need each other's results, or a single library node. Promises: linear in the number of nodes; a group only
needs groups before it; cheap values are never stored for their own sake; a value is stored when it is a result, when
a fold or a library routine makes it, or when computing it in place would repeat expensive work over a larger space.
(Expensive values that several kernels use are stored by the first of them, see `Nest`.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import CHEAP, INLINE, MEMORY, Node, again, permutation, repeats
from codegen.arrays.scans import LOOP, PICKED
from symdiff.ir.dims import Shape

_MAX_JOBS = 64
"""Kernels are not merged beyond so many stores: each one is a stream to memory."""
_LOOK_BACK = 16
_CHEAP_BROADCAST = 2
"""A value of at most this cost is computed again for every element of an axis it is spread over."""


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that one kernel computes. `space` is None for a library node."""

    space: Shape | None
    nodes: list[Node] = field(default_factory=list[Node])
    last: int = -1
    """The last group that must have run before."""


def plan(lowered: Lowered) -> list[Group]:
    """The groups that compute every result, in an order in which they can run."""
    order = lowered.needed()
    forced = _forced(order)
    results = set(lowered.results)
    groups: list[Group] = []
    by_space: dict[tuple[Shape, int], list[int]] = {}
    leans = _leans(order, forced)
    # For each node the last group that must have run before its elements can be computed.
    after: dict[Node, int] = {}
    for node in order:
        last = -1
        for arg in node.args:
            last = max(last, after[arg])
        after[node] = last
        if (node.kind in MEMORY and node not in results) or not (node in forced or node in results):
            continue
        if node.kind == PICKED:  # made by the loop
            after[node] = after[node.args[0]]
            groups[after[node]].nodes.append(node)
            continue
        space = _space(node)
        if space is None:
            groups.append(Group(None, [node]))
            after[node] = len(groups) - 1 if node in forced else last
            continue
        found = None
        candidates = by_space.setdefault((space, _nearest(node, space, leans, forced)), [])
        for number in reversed(candidates[-_LOOK_BACK:]):
            if number <= last:
                break
            # Scalars alone take no time: those that wait for others hold nothing up.
            if groups[number].last == last if not space else len(groups[number].nodes) < _MAX_JOBS:
                found = number
        if found is None:
            found = len(groups)
            groups.append(Group(space, last=last))
            candidates.append(found)
        groups[found].nodes.append(node)
        if node in forced:
            after[node] = found
    return groups


def _space(node: Node) -> Shape | None:
    """The iteration space of a node's job; None for library nodes."""
    if node.kind == "reduce":
        return node.args[0].shape
    if is_stack(node):
        return node.args[0].shape
    if node.kind == "output":
        return ()
    if node.kind == "delta" or node.kind not in INLINE:
        return None
    return node.shape


_Lean: TypeAlias = "dict[int, int]"
"""For every axis how many arrays are read of which it passes over neighbouring elements, up to many."""
_MANY = 64


def _leans(order: list[Node], stored: set[Node]) -> dict[Node, _Lean]:
    """How the elements of every node are read when they are computed in place."""
    leans: dict[Node, _Lean] = {}
    for node in order:
        own = leans[node] = {}
        if node.kind in ("scalar", "triangle"):
            for arg in node.args:
                for axis, count in _lean_of(arg, leans, stored).items():
                    own[axis] = min(own.get(axis, 0) + count, _MANY)
        elif node.kind == "view":
            for axis, count in _lean_of(node.args[0], leans, stored).items():
                terms, _ = node.data[axis]
                if len(terms) == 1 and terms[0][1] == 1:
                    own[terms[0][0]] = own.get(terms[0][0], 0) + count
    return leans


def _lean_of(node: Node, leans: dict[Node, _Lean], stored: set[Node]) -> _Lean:
    lies = node in stored or node.kind in MEMORY or node.kind not in INLINE
    return ({node.rank - 1: 1} if node.rank > 1 else {}) if lies else leans[node]


def _nearest(node: Node, space: Shape, leans: dict[Node, _Lean], stored: set[Node]) -> int:
    """The axis of a job's space along which most of what it reads lies side by side; the last one in doubt.

    Only where two axes are of one size jobs meet in one space that pass over memory in different directions.
    """
    last = len(space) - 1
    if node.kind != "reduce" or len(set(space)) == len(space):
        return last
    lean = _lean_of(node.args[0], leans, stored)
    return max(range(last, -1, -1), key=lambda axis: lean.get(axis, 0))


def is_stack(node: Node) -> bool:
    """Whether a node writes whole arrays of one shape next to each other: a job like a map, with several stores."""
    if node.kind != "place":
        return False
    fill, _, adds = node.data
    return not fill and not any(adds) and all(a.shape == node.args[0].shape for a in node.args)


def _forced(order: list[Node]) -> set[Node]:
    """Nodes that must lie in a buffer before anything uses them; sets `cost` to what computing in place then costs."""
    must = {n for n in order if n.kind not in INLINE}
    wished: dict[Node, int] = {}  # and what they may cost without being stored
    moved: dict[Node, int] = {}
    direct: set[Node] = set()
    used = {a for n in order for a in n.args}
    for node in order:
        for number, arg in enumerate(node.args):
            if arg.kind not in INLINE or arg.kind in MEMORY:
                continue
            unreadable = node.kind == "gemm" and not _readable(node, number, must)
            if node.kind == "alias" or unreadable or _is_operand(node, number):
                must.add(_in_order(arg) if node.kind == "gemm" and number < 2 and node.data[1:4] == (1, 1, 1) else arg)
            elif node.kind == "view" and repeats(node):
                wished[arg] = _CHEAP_BROADCAST
            elif arg.cost <= CHEAP:
                continue
            elif node.kind == "view":
                moved[arg] = moved.get(arg, 0) + 1
            elif node.kind == "delta" and node not in used:
                direct.add(arg)  # a result: only its diagonal is computed
            elif node.kind in ("delta", "prod_others", "gemm") or _one_by_one(node, number, arg):
                wished.setdefault(arg, CHEAP)
            else:
                direct.add(arg)
    often = {n for n, count in moved.items() if count > 1 or n in direct}
    for node in order:
        if node.kind in INLINE:
            node.cost = node.own_cost + sum([a.cost for a in node.args])
            dear = node.cost > wished.get(node, CHEAP)
            if dear and (node in wished or (node in often and not again(node, must))):
                must.add(node)
        if node in must:
            node.cost = 0
    return must


def _is_operand(node: Node, number: int) -> bool:
    """Whether a loop reads this operand where it lies; it only begins from the first ones."""
    return node.kind == LOOP and number >= node.data.carries


def _one_by_one(node: Node, number: int, arg: Node) -> bool:
    """Whether a node takes the elements of an operand one by one: dear ones are made before, in vectors and once."""
    if node.kind == "gather":
        return number == 0
    if node.kind == "cumsum":
        return all(size == 1 for axis, size in enumerate(node.shape) if axis != node.data[0])
    return node.kind == "scatter_add" and number == 0 and node.args[2].rank == arg.rank


def _in_order(arg: Node) -> Node:
    """What to store for a matrix: where only its axes are exchanged, the array in the order it is computed in."""
    base = arg.args[0] if arg.kind == "view" else arg
    return base if base is arg or permutation(arg.data, base.shape, arg.shape) is not None else arg


def _readable(node: Node, number: int, stored: set[Node]) -> bool:
    """Whether a matrix product can read this operand where it lies: memory, or a view of it; factors must be dense."""
    arg = node.args[number]
    base = arg.args[0] if arg.kind == "view" and number < 2 else arg
    return base.kind in MEMORY or base.kind == "alias" or base.kind not in INLINE or base in stored
