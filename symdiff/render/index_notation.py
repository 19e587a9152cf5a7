"""Index notation for tensors of rank three and more: A_ik delta_jl, inner indices under a sum sign.

`indexed` gives one entry of an expression: sums, products and elementwise functions hand the indices on to their
operands, an einsum to its factors; anything else is a symbol or a bracket with the indices below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from symdiff.render.notation import Node, topological
from symdiff.render.paper import APPLIED, ATOM, CALL, ELEMENTWISE, PRODUCT, SUM, Paper, Text

# Functions nested deeper than this are written as a bracket with indices.
DEEPEST = 12


def symbol_names(results: Sequence[Node]) -> frozenset[str]:
    """Names of the symbols and dimensions in expressions."""
    nodes = topological(results)
    sizes = frozenset([str(s) for n in nodes if n.kind == "sym" for s in n.shape])
    return sizes | frozenset([n.data for n in nodes if n.kind == "sym"])


class Indexer:
    """Writes entries with the signs of a `Paper`."""

    def __init__(
        self, paper: Paper, letters: Sequence[str], delta: str, sub: Callable[[str, Sequence[str]], str],
        total: Callable[[Sequence[str], str], str], symbols: AbstractSet[str],
    ) -> None:  # fmt: skip
        self.paper = paper
        self.letters = letters
        self.inner = [c for c in letters if c not in symbols]  # a summed index is no symbol's name
        self.delta = delta
        self.sub = sub
        self.total = total
        self._taken: list[str] = []  # letters with a meaning around the expression being written

    def indexed(self, node: Node, index: Sequence[str], depth: int = 0) -> Text:
        """The entry of `node` at `index`; axes of size one from broadcasting are skipped."""
        paper = self.paper
        if node.kind == "einsum" and node not in paper.names:
            return self._einsum(node, index)
        if node in paper.names or not index:
            return self._entry(node, index)
        if node.kind == "num":
            return paper.text(node)
        if node.kind == "eye":
            return self.sub(self.delta, index), CALL
        if node.kind == "ones":
            return "1", ATOM
        if node.kind == "zeros":
            return "0", ATOM
        if node.kind == "T":
            return self.indexed(node.args[0], index[::-1], depth)
        if node.kind == "diag":
            inner = self.indexed(node.args[0], index[:1], depth)
            return paper.join([paper.at(inner, PRODUCT), self.sub(self.delta, index)]), PRODUCT
        if node.kind == "outer":
            parts = [self.indexed(a, [i], depth) for a, i in zip(node.args, index, strict=True)]
            return paper.join([paper.at(p, PRODUCT) for p in parts]), PRODUCT
        if node.kind == "expand":
            kept = [i for i, mine in zip(index, node.data, strict=True) if mine]
            return self.indexed(node.args[0], kept, depth)
        if depth < DEEPEST and node.rank > 2:
            if node.kind == "add":
                return self._sum(node, index, depth)
            if node.kind == "prod":
                return self._product(node, index, depth)
        return self._entry(node, index)

    def _last(self, node: Node, index: Sequence[str]) -> Sequence[str]:
        """The indices of an operand of an elementwise expression: aligned from the end."""
        return index[len(index) - node.rank :]

    def _sum(self, node: Node, index: Sequence[str], depth: int) -> Text:
        paper = self.paper
        parts: list[str] = []
        self._taken += index
        for i, (sign, term) in enumerate(zip(node.data, node.args, strict=True)):
            text = self.indexed(term, self._last(term, index), depth + 1)
            mark = (paper.minus if sign < 0 else "") if i == 0 else f" {paper.minus if sign < 0 else '+'} "
            parts.append(mark + paper.at(text, ELEMENTWISE if sign < 0 else SUM))
        del self._taken[len(self._taken) - len(index) :]
        return "".join(parts), SUM

    def _product(self, node: Node, index: Sequence[str], depth: int) -> Text:
        number, count = node.data
        self._taken += index
        pairs = [(n, self.indexed(n, self._last(n, index), depth + 1)) for n in node.args]
        del self._taken[len(self._taken) - len(index) :]
        above = [p for p in pairs[:count] if p[1][0] != "1"] or pairs[:1]
        return self.paper.quotient(number, above, None, pairs[count:])

    def _einsum(self, node: Node, index: Sequence[str]) -> Text:
        labels, output = node.data
        name = dict(zip(output, index, strict=True))
        spare = [c for c in self.inner if c not in index and c not in self._taken]
        inner: list[str] = []
        for x in [x for word in labels for x in word]:
            if x not in name:
                name[x] = spare.pop(0) if spare else f"i{len(name)}"
                inner.append(name[x])
        before = len(self._taken)
        self._taken += name.values()
        parts = [self.indexed(a, [name[x] for x in word]) for a, word in zip(node.args, labels, strict=True)]
        del self._taken[before:]
        body = self.paper.join([self.paper.at(p, PRODUCT) for p in parts if p[0] != "1"]) or "1"
        return (self.total(inner, body) if inner else body), PRODUCT

    def _entry(self, node: Node, index: Sequence[str]) -> Text:
        text = self.paper.text(node)
        return (self.sub(self.paper.at(text, APPLIED), index), CALL) if index else text

    def bare(self, node: Node) -> tuple[str, list[str]]:
        """An einsum among matrix expressions: its general entry and the indices."""
        index = list(self.letters[: node.rank])
        return self.indexed(node, index)[0], index
