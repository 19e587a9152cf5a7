"""The lines under a formula with loops: K_t = P_t/(P_t + 1), then the recurrences that K_t is in.

Takes the clauses of `recurrences` and gives their lines. What the lines of a step share is named once, the step as its
index; a later loop over the same steps calls it so too. A value that another line uses is written by its own sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from symdiff.ir.dims import Size
from symdiff.render.naming import named_subterms, paper_names
from symdiff.render.node import Node, topological
from symdiff.render.paper import Paper
from symdiff.render.recover import recover
from symdiff.render.recurrences import Clause, Style, Told

# About how many letters of starts stand on one line.
_WIDEST_START = 50

P = TypeVar("P", bound=Paper)


@dataclass(frozen=True, slots=True)
class Hand(Generic[P]):
    """How lines are written.

    paper: the paper of results, names of subterms, signs of symbols, and names of texts that are known. own: the lines
    of an expression. placed: the sign of a tensor with its indices. largest: no line has many more nodes than this.
    """

    style: Style
    paper: Callable[[Sequence[Node], Mapping[Node, str], Mapping[str, str], Mapping[str, str]], P]
    own: Callable[[P, Node], list[str]]
    placed: Callable[[P, str, Node], str]
    largest: int


def clause_lines(loops: Told, hand: Hand[P]) -> list[list[str]]:
    """The lines of every clause, those that one is broken into together."""
    taken = set(loops.taken)
    known: dict[tuple[Size, str], dict[str, str]] = {}
    found: list[list[str]] = []
    for clause in loops.clauses:
        step = clause.step
        texts = known.setdefault((step.length, step.index), {}) if step else dict[str, str]()
        made = _Lines(clause, hand, taken, texts).written()
        if step:
            made[-1][-1] += step.said
        elif len(clause.lefts) > 1:
            made = _beside(made, hand.style)
        found += made
    return found


class _Lines(Generic[P]):
    """The lines of one clause. taken: names, to which those that are given are added; texts: as in `Hand.paper`."""

    def __init__(self, clause: Clause, hand: Hand[P], taken: set[str], texts: dict[str, str]) -> None:
        self.clause, self.hand, self.taken, self.texts = clause, hand, taken, texts

    def written(self) -> list[list[str]]:
        clause, hand, texts = self.clause, self.hand, self.texts
        results, matched, named = self._read(shared=False)
        if named and clause.step is not None:
            results, matched, named = self._read(shared=True)
        names = paper_names(named, self.taken)
        self.taken.update(names)
        signs: dict[Node, str] = {}
        for n, name in zip(named, names, strict=True):
            sign = hand.style.symbol(name, n.rank)
            signs[n] = hand.style.indexed(sign, clause.step.index) if clause.step else sign
        paper = hand.paper(results, {**matched, **signs}, clause.symbols, texts)
        texts.update({paper.own(n)[0]: sign for n, sign in signs.items() if n.rank < 3})
        order = {n: i for i, n in enumerate(topological(results))}
        used = self._used(results)
        rows: list[tuple[int, int, str, Node]] = [(order[n], 0, sign, n) for n, sign in signs.items()]
        for k, (left, node) in enumerate(zip(clause.lefts, results, strict=True)):
            rows.append((order[node] if used.get(node) == left else len(order), 1 + k, left, node))
        lines: list[list[str]] = []
        said: set[Node] = set()
        for _, _, left, node in sorted(rows, key=lambda row: row[:2]):
            if node in paper.names and (node in said or paper.names[node] != left):
                first, *rest = [paper.names[node]]
            else:
                first, *rest = hand.own(paper, node)
            said.add(node)
            shown = hand.placed(paper, left, node) if node.rank > 2 and node.kind != "entries" else left
            lines.append([f"{shown} = {first}", *rest])
        return lines

    def _used(self, results: Sequence[Node]) -> dict[Node, str]:
        """Results that other results are made of, by their signs."""
        inner = {a for n in topological(results) for a in n.args}
        pairs = [(n, left) for n, left in zip(results, self.clause.lefts, strict=True) if n in inner and n.args]
        return dict(reversed(pairs))

    def _read(self, shared: bool) -> tuple[list[Node], dict[Node, str], list[Node]]:
        """The expressions, those with names already, and those that get one."""
        results = recover(self.clause.right, shared, for_papers=True)[1]
        matched: dict[Node, str] = self._used(results)
        if self.texts:
            matched = self.hand.paper(results, matched, self.clause.symbols, self.texts).names
        share = self.clause.step is not None
        return results, matched, named_subterms(results, share, self.hand.largest, shorter=True, known=matched)


def _beside(lines: Sequence[list[str]], style: Style) -> list[list[str]]:
    """Short starts on one line."""
    found: list[list[str]] = []
    wide = 0.0
    for line in lines:
        own = style.width(line[0]) if len(line) == 1 else _WIDEST_START
        if found and wide + own <= _WIDEST_START:
            found[-1][0] += style.between + line[0]
            wide += own
        else:
            found.append(line)
            wide = own
    return found
