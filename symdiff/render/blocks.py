"""Sums of padded pieces that fill an axis without gaps are those pieces one after another: a block vector or matrix."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.ir.dims import Shape, Size
from symdiff.render.notation import Node, Notation


def blocks_of(notation: Notation, terms: Sequence[tuple[int, Node, tuple[int, ...]]], shape: Shape) -> Node | None:
    """The concatenation that a sum of signed terms with their axes is, or None."""
    whole = tuple(range(len(shape)))
    if len(terms) < 2 or any(axes != whole for _, _, axes in terms):
        return None
    pieces: dict[tuple[int, Size], Node] = {}
    for sign, node, _ in terms:
        found = _placed(notation, sign, node)
        if found is None or found[0] in pieces:
            return None
        pieces[found[0]] = found[1]
    axes = {axis for axis, _ in pieces}
    if len(axes) > 1:
        return None
    axis = axes.pop()
    position: Size = 0
    line: list[Node] = []
    while (axis, position) in pieces:
        piece = pieces.pop((axis, position))
        line.append(piece)
        position = position + piece.shape[axis]
    if pieces or position != shape[axis]:
        return None
    return notation.call("concatenate", tuple(line), shape, (axis,))


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
