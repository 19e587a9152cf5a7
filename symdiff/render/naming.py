"""Which subterms get a name: shared ones, and cuts through expressions too large to read as one.

Also the order of lines, and names that no symbol has: t1, t2, ... in source code, p, r, h, ... in papers.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

from symdiff.ir.dims import Dim
from symdiff.render.notation import Node, topological

# Leaves and what reads like one are never worth a name.
_PLAIN = frozenset({"sym", "num", "dim", "ones", "zeros", "eye"})

# Expressions whose entries are made of entries of their operands.
_OPEN = frozenset({"add", "einsum", "expand", "T", "outer", "diag", "prod", "entries", "sum"})

# What papers call things, by rank; the first letter that no symbol begins with is taken.
_LETTERS = {
    "softmax": ("p q", "p q s", "P Q S", "P Q S"),
    "sigmoid": ("s p q", "s p q", "S P Q", "S P Q"),
    "function": ("a h g", "h a g u", "H A G U", "T U V"),
    "sum": ("c d s", "r e d v", "R E D M", "T U V"),
    "inverse": ("c d s", "v u w", "M K C N", "T U V"),
    "other": ("c d s a", "v u w z", "M N K Q", "T U V"),
}
# More names than this are numbered.
_MOST_LETTERS = 6

_CONDITIONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not"})
_SHORT_CONDITION = 12

# Letters that an operation takes beside its operands.
_WIDTHS = {"diag": 4, "diagof": 4, "trace": 2, "sum": 1, "mean": 4}
_SHORT_CALLS = {"sigmoid": 1, "sqrt": 1, "inverse": 0, "abs": 2, "solve": 1, "norm": 2}


def named_subterms(
    results: Sequence[Node], shared: bool, largest: int, shorter: bool = False, known: Container[Node] = ()
) -> list[Node]:
    """Nodes to be written on lines of their own, operands first.

    shared: name what occurs twice or more. largest: no line has many more nodes than this. shorter: name shared
    subterms only where that makes the whole shorter, and tensors where their indices could not be shown. known: nodes
    that have names already.
    """
    whole = set(results)
    order = _read(results, known)
    uses: dict[Node, int] = {}
    for node in order:
        for operand in node.args if node not in known or node in whole else ():
            uses[operand] = uses.get(operand, 0) + 1
    for result in results:
        uses[result] = uses.get(result, 0) + 1
    hidden = {a for n in order if shorter and _hides(n) for a in n.args if a.rank > 2}
    inline: dict[Node, int] = {}
    width: dict[Node, float] = {}
    named: list[Node] = []
    for node in order:
        if node in known:
            inline[node], width[node] = 1, 1.0
            continue
        count = 1 + sum([inline[a] for a in node.args])
        wide = _own_width(node) + sum([width[a] for a in node.args])
        repeated = shared and uses[node] > 1 and count > (1 if shorter else 2)
        if shorter and repeated:  # every use costs a letter, the definition two
            repeated = (uses[node] - 1) * wide >= uses[node] + 2 and not _speaks(node, wide)
        long = count > largest and (node not in whole or uses[node] > 1)  # a result has a line of its own
        if (repeated or long or node in hidden) and node.kind not in _PLAIN and node.kind != "expand":
            named.append(node)
            count, wide = 1, 1.0
        inline[node] = count
        width[node] = wide
    return named


def _read(results: Sequence[Node], known: Container[Node]) -> list[Node]:
    """What the lines of the results are made of, operands first; of other known nodes a line has the name alone."""
    order, whole = topological(results), set(results)
    read = set(whole)
    for node in reversed(order):
        if node in read and (node not in known or node in whole):
            read.update(node.args)
    return [node for node in order if node in read]


def _hides(node: Node) -> bool:
    """Whether indices of the expression say nothing about those of its operands."""
    return node.kind not in _OPEN and not node.pointwise


def _speaks(node: Node, width: float) -> bool:
    """Whether it says more than a name would: an entry of a symbol, a short condition."""
    if node.kind == "subscript":
        return node.args[0].kind == "sym" and all(isinstance(entry, (int, Dim)) for entry in node.data)
    return node.kind == "call" and node.data[0] in _CONDITIONS and width <= _SHORT_CONDITION


def _own_width(node: Node) -> float:
    if node.kind == "call":
        name = str(node.data[0])
        return _SHORT_CALLS.get(name, len(name))
    if node.kind in ("add", "prod"):
        return len(node.args) - 1 if node.kind == "add" or node.rank else 0
    if node.kind == "subscript":  # the ends of a slice are small
        return 1 + sum([1.5 for entry in node.data if isinstance(entry, tuple)])
    return node.rank if node.kind == "ones" else _WIDTHS.get(node.kind, 0 if node.args else 1)


def fresh_names(count: int, taken: Iterable[str], stem: str = "t") -> list[str]:
    """`count` names t1, t2, ... that are not taken."""
    used, names, number = set(taken), [], 0
    while len(names) < count:
        number += 1
        if f"{stem}{number}" not in used:
            names.append(f"{stem}{number}")
    return names


def paper_names(named: Sequence[Node], taken: Iterable[str]) -> list[str]:
    """Names as a paper would choose them: p for a softmax, r for a difference, h_1 and h_2 for two layers."""
    begun = {re.split(r"[\d_]", name)[0] for name in taken}
    if len(named) > _MOST_LETTERS:
        stem = next(s for s in ("t", "v", "z", "tmp") if s not in begun)
        return [f"{stem}_{i}" for i in range(1, len(named) + 1)]
    letters: list[str] = []
    for node in named:
        choices = _LETTERS[_sort(node)][min(node.rank, 3)].split()
        letters.append(next((c for c in choices if c not in begun), "t" if "t" not in begun else "tmp"))
    return [
        letter if letters.count(letter) == 1 else f"{letter}_{letters[: i + 1].count(letter)}"
        for i, letter in enumerate(letters)
    ]


def _sort(node: Node) -> str:
    if node.kind == "call" and node.data[0] in ("softmax", "sigmoid", "inverse"):
        return node.data[0]
    if node.kind == "call" and node.pointwise:
        return "function"
    return "sum" if node.kind == "add" else "other"
