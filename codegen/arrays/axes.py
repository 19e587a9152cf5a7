"""The axis along which a program is best cut into blocks (see `codegen.schedule.blocks`).

`choose` takes the nodes of a program and their groups and compares axes by how much need not leave the cache when
everything that passes over an axis does so together: temporaries that live between two folds over it, and matrices that
are read more than once.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.arrays.fuse import Group
from codegen.arrays.nodes import INLINE, MEMORY, Node
from symdiff.ir.dims import Dim, Size, evaluate, product, size_names

_NOMINAL = 64
_LONGEST = 2000
"""Programs of more nodes are straight-line code; there is nothing to look for."""
_LONG = 512
"""Axes of fewer elements, where that is a number, need no blocks."""
_ALIKE = 0.9
"""Axes that save about as much as the best one are equals: which of them has rows matters more."""
_CACHE = 1 << 15
"""Elements that a cache holds: where one step of an axis takes more, blocks of it save nothing."""


def choose(nodes: Sequence[Node], groups: Sequence[Group]) -> Size | None:
    """The axis whose blocks keep most in the cache, or None where nothing is gained."""
    if len(nodes) > _LONGEST:
        return None
    stored = {n: g for g in groups for n in g.nodes}
    axes = {s for g in groups if g.space is not None for s in g.space if isinstance(s, Dim) or s >= _LONG}
    leaves = {n: _leaves(n, stored) for n in stored}
    gains = {axis: _gain(axis, nodes, stored, leaves) for axis in sorted(axes, key=str)}
    most = max((elements for elements, _ in gains.values()), default=0.0)
    alike = {axis: gain[::-1] for axis, gain in gains.items() if gain[0] >= _NOMINAL and gain[0] >= _ALIKE * most}
    return max(alike, key=alike.__getitem__, default=None)


def _leaves(node: Node, stored: dict[Node, Group]) -> set[Node]:
    """What lies in memory and is read for a node's elements."""
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = list(node.args)
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in stored or one.kind in MEMORY:
            found.add(one)
        else:
            stack.extend(one.args)
    return found


def _gain(
    axis: Size, nodes: Sequence[Node], stored: dict[Node, Group], leaves: dict[Node, set[Node]]
) -> tuple[float, float]:
    """Elements for one step of the axis that need not leave the cache, at nominal sizes, in the best stage.

    A stage is what can run before a fold over the axis is needed. The second number counts those that lie side by side
    in memory: among equals, rows make better blocks than columns.
    """
    stage: dict[Node, int] = {}
    for node in nodes:
        stage[node] = max((stage[a] + _ends(a, axis) for a in node.args), default=0)
        if _by_rows(node, axis) and axis in node.args[1].shape:  # every row takes all of it
            stage[node] = max(stage[node], stage[node.args[1]] + 1)
    readers: dict[Node, set[tuple[int, int, bool]]] = {}
    for node, own in leaves.items():
        member = axis in _space(node) and not _alone(node, axis)
        for leaf in own:
            multiplied = _by_rows(node, axis)
            readers.setdefault(leaf, set()).add((stage[node] if member else -1, id(stored[node]), multiplied))
    gains: dict[int, tuple[float, float]] = {}

    def save(stage: int, elements: float, leading: bool) -> None:
        total, rows = gains.get(stage, (0.0, 0.0))
        gains[stage] = total + elements, rows + elements * leading

    for leaf, users in readers.items():
        square = leaf.shape.count(axis) > 1 and not _by_rows(leaf, axis)
        if axis not in leaf.shape or leaf.rank < 2 or square:
            continue
        stages = {s for s, _, _ in users}
        at = leaf.shape.index(axis)
        volume = product([*leaf.shape[:at], *leaf.shape[at + 1 :]])
        elements = float(evaluate(volume, dict.fromkeys(size_names([volume]), _NOMINAL)))
        if elements > _CACHE:
            continue
        leading = leaf.shape[0] == axis
        if leaf.kind in MEMORY:
            for one in stages - {-1}:
                if sum(s == one for s, _, _ in users) > 1:
                    save(one, elements, leading)
        elif not _alone(leaf, axis):
            own = stage[leaf]
            # What products make or take is saved where others need all of it, too: once it need not be read.
            if stages == {own} or (own in stages and (_by_rows(leaf, axis) or (own, True) in {u[::2] for u in users})):
                save(own, elements, leading)
    return max(gains.values(), default=(0.0, 0.0))


def _space(node: Node) -> tuple[Size, ...]:
    if node.kind == "reduce":
        return node.args[0].shape
    return (*node.shape, *node.args[0].shape) if node.kind == "gemm" else node.shape


def _by_rows(node: Node, axis: Size) -> bool:
    """Whether a node is a matrix product, no part of a stack, of which a group can compute some rows."""
    return node.kind == "gemm" and node.data[:2] == (0, 1) and node.shape[0] == axis and not node.data[4]


def _alone(node: Node, axis: Size) -> bool:
    """Whether a node is computed by a kernel that is never part of a group."""
    if node.kind == "gemm":
        return node.data[0] == 0 and not _by_rows(node, axis)
    return node.kind not in (*INLINE, "reduce")


def _ends(node: Node, axis: Size) -> bool:
    """Whether a node is complete only when the whole axis has been seen."""
    if node.kind == "reduce":
        return axis in node.args[0].shape[node.rank :] and axis not in node.shape
    if node.kind == "gemm":
        sums = node.args[0].shape[-node.data[3] :]
        return not _by_rows(node, axis) if node.data[0] == 0 else axis in sums
    return node.kind not in INLINE
