"""Which subterms get a name: shared ones, and cuts through expressions too large to read as one.

Also the order of lines, and fresh names that no symbol has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symdiff.render.notation import Node, topological

# Leaves and what reads like one are never worth a name.
_PLAIN = frozenset({"sym", "num", "dim", "ones", "zeros", "eye"})


def named_subterms(results: Sequence[Node], shared: bool, largest: int) -> list[Node]:
    """Nodes to be written on lines of their own, operands first.

    shared: name what occurs twice or more. largest: no line has many more nodes than this.
    """
    order = topological(results)
    uses: dict[Node, int] = {}
    for node in order:
        for operand in node.args:
            uses[operand] = uses.get(operand, 0) + 1
    for result in results:
        uses[result] = uses.get(result, 0) + 1
    whole = set(results)
    inline: dict[Node, int] = {}
    named: list[Node] = []
    for node in order:
        count = 1 + sum([inline[a] for a in node.args])
        repeated = shared and uses[node] > 1 and count > 2
        long = count > largest and (node not in whole or uses[node] > 1)  # a result has a line of its own
        if (repeated or long) and node.kind not in _PLAIN and node.kind != "expand":
            named.append(node)
            count = 1
        inline[node] = count
    return named


def fresh_names(count: int, taken: Iterable[str], stem: str = "t") -> list[str]:
    """`count` names t1, t2, ... that are not taken."""
    used, names, number = set(taken), [], 0
    while len(names) < count:
        number += 1
        if f"{stem}{number}" not in used:
            names.append(f"{stem}{number}")
    return names
