"""The order of axes in memory: what passes over one axis block by block keeps that axis last.

Takes a `Lowered` program and the axis along which it is cut into blocks (see `codegen.arrays.axes`); gives a program of
the same meaning, or the same one. A block has a few dozen elements or more whatever the sizes are, the other axes may
have two: so loops over small arrays of each element of a long axis run side by side over that axis. Values in between
are made with it last; an operand that lies otherwise in memory and is read again and again is copied, a block at a
time.

It is done where values in between outweigh what must be read and written in the given order. Products of whole
matrices keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import MEMORY, Graph, Node, ViewMap, identity, repeats
from symdiff.ir.dims import Size, evaluate, product, size_names

_NOMINAL = 64
_WORTH = 8
"""Elements in between for each one that is read or written in the given order."""


def with_axis_last(lowered: Lowered, axis: Size) -> Lowered:
    """The program with values in between laid out so that `axis` is last, where that pays."""
    order = lowered.needed()
    members = _members(order, axis, set(lowered.results))
    if not members or not _pays(order, members, axis, lowered.results):
        return lowered
    work = _Moving(Graph(), axis, members)
    for node in order:
        work.rewrite(node)
    return replace(lowered, graph=work.graph, results=[work.made[node] for node in lowered.results])


# -------------------------------------------------------------------- which values
def _members(order: Sequence[Node], axis: Size, results: set[Node]) -> set[Node]:
    """The values to lay out anew: elementwise work, folds and stacks of products that have the axis once, not last."""
    fixed: set[Node] = set()
    for node in order:
        if node.kind == "alias" or (node.kind == "gemm" and not _turns(node, axis)):
            fixed.update(map(_base, node.args))
    return {
        n for n in order
        if n.shape.count(axis) == 1 and n.shape[-1] != axis and n not in fixed
        and (n.kind in ("scalar", "reduce") or (n.kind == "gemm" and _turns(n, axis))) and n not in results
    }  # fmt: skip


def _turns(node: Node, axis: Size) -> bool:
    """Whether a product is one of a stack, and the axis one of its rows, columns or sums."""
    batch = node.data[0]
    return batch > 0 and axis not in node.shape[:batch]


def _base(node: Node) -> Node:
    return node.args[0] if node.kind == "view" else node


def _pays(order: Sequence[Node], members: set[Node], axis: Size, results: Sequence[Node]) -> bool:
    """Whether products and folds of members move much more than is read and written in the given order."""
    named = dict.fromkeys(size_names([s for n in order for s in n.shape]), _NOMINAL)

    def volume(node: Node) -> int:
        return max(1, evaluate(product(node.shape), named))

    moved = sum(volume(max((n, *n.args), key=volume)) for n in members if n.kind in ("reduce", "gemm"))
    stiff = [n for n in {*order, *results} if (n.kind in MEMORY or n in results) and axis in n.shape[:-1]]
    return any(n.kind == "gemm" for n in members) and moved > _WORTH * sum(map(volume, stiff))


# -------------------------------------------------------------------- laying out anew
class _Moving:
    """Makes the new nodes; `made` holds for every old node one of the same shape and elements."""

    def __init__(self, graph: Graph, axis: Size, members: set[Node]) -> None:
        self.graph, self.axis, self.members = graph, axis, members
        self.made: dict[Node, Node] = {}

    def rewrite(self, node: Node) -> None:
        if node not in self.members:
            self.made[node] = self._copied(node, [self.made[a] for a in node.args])
        elif node.kind == "scalar":
            args = [self._steady(self._turned(self.made[a])) for a in node.args]
            self.made[node] = self._back(self._like(node, args), self._order(node))
        elif node.kind == "reduce":
            self._reduce(node)
        else:
            self._gemm(node)

    def _copied(self, node: Node, args: list[Node]) -> Node:
        if node.kind == "gemm" and _turns(node, self.axis):
            args = list(map(self._steady, args))
        return self.graph.with_operands(node, args)

    def _like(self, node: Node, args: list[Node]) -> Node:
        return self.graph.make(node.kind, args[0].shape, node.dtype, args, node.data)

    # ---------------------------------------------------------------- orders of axes
    def _order(self, node: Node, within: range | None = None) -> list[int]:
        """The axes of a node, the long one behind the others of its range."""
        own = within or range(node.rank)
        at = node.shape.index(self.axis)
        return [*range(own.start), *[a for a in own if a != at], at, *range(own.stop, node.rank)]

    def _moved(self, x: Node, order: Sequence[int]) -> Node:
        """`x` with its axes in another order."""
        return self.graph.rearrange(x, range(x.rank), order, dict(enumerate(x.shape)))

    def _back(self, x: Node, order: Sequence[int]) -> Node:
        return self._moved(x, sorted(range(len(order)), key=order.__getitem__))

    def _turned(self, x: Node) -> Node:
        return self._moved(x, self._order(x)) if x.shape.count(self.axis) == 1 and x.shape[-1] != self.axis else x

    def _steady(self, x: Node) -> Node:
        """An operand; if it is memory read again and again across the long axis, a copy along it."""
        base, graph = _base(x), self.graph
        if x.kind != "view" or base.kind not in MEMORY or base.shape.count(self.axis) != 1:
            return x
        at = base.shape.index(self.axis)
        if base.shape[-1] == self.axis or not repeats(x):
            return x
        order = self._order(base)
        turned = self._moved(base, order)
        copy = graph.make("place", turned.shape, base.dtype, (turned,), (False, (identity(base.rank),), (False,)))
        places: ViewMap = x.data
        return graph.view(copy, x.shape, (*places[:at], *places[at + 1 :], places[at]))

    # ---------------------------------------------------------------- folds and products
    def _reduce(self, node: Node) -> None:
        order = self._order(node)
        x = self.made[node.args[0]]
        x = self._moved(x, [*order, *range(node.rank, x.rank)])
        total = self.graph.make("reduce", tuple([node.shape[a] for a in order]), node.dtype, (x,), node.data)
        self.made[node] = self._back(total, order)

    def _gemm(self, node: Node) -> None:
        """A product with the long axis last: among its columns, which rows become where it is one of them."""
        b, rows, columns, sums, symmetric = node.data
        left, right, *scales = [self._steady(self.made[a]) for a in node.args]
        order = self._order(node, range(b, b + rows) if self.axis in node.shape[b : b + rows] else
                            range(b + rows, node.rank))  # fmt: skip
        front, first, last = order[:b], order[b : b + rows], order[b + rows :]
        left = self._moved(left, [*front, *first, *range(b + rows, left.rank)])
        right = self._moved(right, [*range(b + sums), *[a - rows + sums for a in last]])
        if self.axis in node.shape[b : b + rows]:
            left, right = (
                self._moved(right, [*front, *range(b + sums, right.rank), *range(b, b + sums)]),
                self._moved(left, [*front, *range(b + rows, left.rank), *range(b, b + rows)]),
            )
            rows, columns, first, last = columns, rows, last, first
        order = [*front, *first, *last]
        shape = tuple([node.shape[a] for a in order])
        data = (b, rows, columns, sums, symmetric)
        self.made[node] = self._back(self.graph.make("gemm", shape, node.dtype, (left, right, *scales), data), order)
