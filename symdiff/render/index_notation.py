"""Index notation for tensors of rank three and more: A_ik delta_jl, inner indices under a sum sign.

`indexed` gives one entry of an expression: sums, products and elementwise functions hand the indices on to their
operands, an einsum to its factors; anything else is a symbol or a bracket with the indices below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symdiff.render.notation import Node, topological
from symdiff.render.paper import Paper
from symdiff.render.quotients import APPLIED, ATOM, CALL, PRODUCT, Text

# Functions nested deeper than this are written as a bracket with indices.
DEEPEST = 12

# Where an index comes to rest at once: a sum of nothing else is bracketed as a whole, (A + B)_ij.
_WHOLE = frozenset({"sym", "matmul"})


def symbol_names(results: Sequence[Node]) -> frozenset[str]:
    """Names of the symbols and dimensions in expressions."""
    nodes = topological(results)
    sizes = frozenset([str(s) for n in nodes if n.kind == "sym" for s in n.shape])
    return sizes | frozenset([n.data for n in nodes if n.kind == "sym"])


class Indexer:
    """Writes entries with the signs of a `Paper`."""

    def __init__(
        self, paper: Paper, letters: Sequence[str], delta: str, sub: Callable[[str, Sequence[str]], str],
        total: Callable[[Sequence[str], str], str], results: Sequence[Node],
    ) -> None:  # fmt: skip
        self.paper = paper
        symbols = symbol_names(results)
        # An index is no symbol's name; when that leaves too few letters, an outer one may be.
        self.inner = [c for c in letters if c not in symbols]
        self.letters = [*self.inner, *[c for c in letters if c in symbols]]
        self.delta = delta
        self.sub = sub
        self.total = total
        self._taken: list[str] = []  # letters with a meaning around the expression being written
        self._around = _letters_around(results)

    def indexed(self, node: Node, index: Sequence[str], depth: int = 0) -> Text:
        """The entry of `node` at `index`; axes of size one from broadcasting are skipped."""
        if node in self.paper.names:
            return self._entry(self.paper.text(node), index)
        return self.defined(node, index, depth)

    def defined(self, node: Node, index: Sequence[str], depth: int = 0) -> Text:
        """The entry written out, though the node may have a name."""
        paper = self.paper
        if _sums(node):
            return self._summed(node, index)
        if not index:
            return paper.own(node)
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
        if depth < DEEPEST:
            if node.kind == "add" and (node.rank > 2 or not all(_stays_whole(t) for t in node.args)):
                return self._sum(node, index, depth)
            if node.kind == "prod":
                return self._product(node, index, depth)
            if node.pointwise:
                return self._pointwise(node, index, depth)
        return self._entry(paper.own(node), index)

    def _last(self, node: Node, index: Sequence[str]) -> Sequence[str]:
        """The indices of an operand of an elementwise expression: aligned from the end."""
        return index[len(index) - node.rank :]

    def _operands(self, node: Node, index: Sequence[str], depth: int) -> list[Text]:
        """Entries of the operands of an elementwise expression."""
        self._taken += index
        texts = [self.indexed(a, self._last(a, index), depth + 1) for a in node.args]
        del self._taken[len(self._taken) - len(index) :]
        return texts

    def _sum(self, node: Node, index: Sequence[str], depth: int) -> Text:
        return self.paper.signed_sum(self.terms(node, index, depth))

    def terms(self, node: Node, index: Sequence[str], depth: int = 0) -> list[tuple[int, Text]]:
        """The terms of a sum's entry with their signs."""
        return list(zip(node.data, self._operands(node, index, depth), strict=True))

    def _product(self, node: Node, index: Sequence[str], depth: int) -> Text:
        number, count = node.data
        pairs = list(zip(node.args, self._operands(node, index, depth), strict=True))
        above = [p for p in pairs[:count] if p[1][0] != "1"] or pairs[: min(count, 1)]
        return self.paper.quotient(number, above, None, pairs[count:])

    def _pointwise(self, node: Node, index: Sequence[str], depth: int) -> Text:
        texts = self._operands(node, index, depth)
        if node.kind != "pow":
            return self.paper.call(node, texts)
        base = texts[0][0] if node.args[0].kind == "sym" else self.paper.at(texts[0], APPLIED)
        return self.paper.top(base, texts[1][0]), CALL

    def _summed(self, node: Node, index: Sequence[str]) -> Text:
        """The product of entries; what no summed index touches stands before the sum sign."""
        paper = self.paper
        labels, output = _labels(node)
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
        outside: list[str] = []
        inside: list[str] = []
        for part, word in zip(parts, labels, strict=True):
            if part[0] != "1":
                (inside if any(name[x] in inner for x in word) else outside).append(paper.at(part, PRODUCT))
        if inner:
            outside.append(self.total(inner, paper.join(inside) if inside else "1"))
        return (paper.join(outside) if outside else "1"), PRODUCT

    def _entry(self, text: Text, index: Sequence[str]) -> Text:
        return (self.sub(self.paper.at(text, APPLIED), index), CALL) if index else text

    def bare(self, node: Node) -> tuple[str, list[str]]:
        """An einsum or a sum among matrix expressions: its general entry and the indices, none used around it."""
        first = self._around.get(node, 0)
        if first + node.rank > len(self.letters):
            first = 0  # brackets keep them apart
        index = list(self.letters[first : first + node.rank])
        self._taken += self.letters[:first]
        text = self.defined(node, index)[0]
        del self._taken[len(self._taken) - first :]
        return text, index


def _stays_whole(term: Node) -> bool:
    return term.kind in _WHOLE or (term.kind == "T" and term.args[0].kind in _WHOLE)


def _sums(node: Node) -> bool:
    """Whether an expression is written as a sum of entries."""
    return node.kind == "einsum" or (node.kind == "sum" and node.args[0].rank > 2)


def _labels(node: Node) -> tuple[Sequence[Sequence[object]], Sequence[object]]:
    """The labels of the operands of a sum of entries, and those of the result."""
    if node.kind == "einsum":
        return node.data
    axes = range(node.args[0].rank)
    return [axes], [axis for axis in axes if axis not in node.data]


def _letters_around(results: Sequence[Node]) -> dict[Node, int]:
    """How many letters the expressions around each sum of entries use."""
    order = topological(results)
    if not any(_sums(n) for n in order):
        return {}
    around: dict[Node, int] = {r: r.rank if r.rank > 2 and not _sums(r) else 0 for r in results}
    for node in reversed(order):
        count = around.setdefault(node, 0)
        if _sums(node):
            count += len({x for word in _labels(node)[0] for x in word})
        for operand in node.args:
            around[operand] = max(around.get(operand, 0), count)
    return around
