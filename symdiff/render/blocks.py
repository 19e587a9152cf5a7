"""Sums of padded pieces that fill an axis without gaps are those pieces one after another: a block vector or matrix."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.ir.dims import Shape, Size
from symdiff.render.notation import Node, Notation


def blocks_of(
    notation: Notation, terms: Sequence[tuple[int, Node, tuple[int, ...]]], shape: Shape
) -> list[tuple[int, Node, tuple[int, ...]]] | None:
    """The terms of a sum with those that fill an axis as one, their concatenation; None where no axis is filled."""
    whole = tuple(range(len(shape)))
    placed = [_placed(notation, sign, node) if axes == whole else None for sign, node, axes in terms]
    for axis in sorted({place[0] for place, _ in filter(None, placed)}):
        at = {found[0][1]: k for k, found in reversed(list(enumerate(placed))) if found and found[0][0] == axis}
        position: Size = 0
        used: list[int] = []
        line: list[Node] = []
        while position in at:
            used.append(at.pop(position))
            found = placed[used[-1]]
            assert found is not None
            line.append(found[1])
            position = position + found[1].shape[axis]
        if position == shape[axis] and len(line) > 1:
            block = notation.call("concatenate", tuple(line), shape, (axis,))
            return [*[term for k, term in enumerate(terms) if k not in used], (1, block, whole)]
    return None


def _placed(notation: Notation, sign: int, node: Node) -> tuple[tuple[int, Size], Node] | None:
    """A piece padded along one axis: that axis, where it starts, and the piece with its sign and scalar factors."""
    number, above, below = sign, [], []
    if node.kind == "prod":
        number, count = sign * node.data[0], node.data[1]
        arrays = [n for n in node.args[:count] if n.rank]
        if len(arrays) != 1 or any(n.rank for n in node.args[count:]):
            return None
        above, below = [n for n in node.args[:count] if not n.rank], list(node.args[count:])
        node = arrays[0]
    if node.kind != "call" or node.data[0] != "embed":
        return None
    _, starts, steps, inner, outer = node.data
    padded = [a for a, (mine, whole) in enumerate(zip(inner, outer, strict=True)) if mine != whole]
    lead = len(outer) - len(starts)
    if len(padded) != 1 or padded[0] < lead or steps[padded[0] - lead] != 1:
        return None
    return (padded[0], starts[padded[0] - lead]), notation.product(number, [*above, node.args[0]], below)
