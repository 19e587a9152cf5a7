"""What `draw` shows of a program: its values with names and formulas, constants as part of their users' formulas."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symdiff.errors import ArgumentError
from symdiff.frontend.expr import Expr
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Value, topological
from symdiff.ops import OPSET
from symdiff.render.drawing import Grouping, formula, plain_constant
from symdiff.render.drawing.model import Kind

_FOLDED = 16  # characters of a constant subexpression that goes into the label of its user

class Graph:
    """What is drawn: values with names, kinds and formulas; constants are part of the formulas of their users."""

    def __init__(self, results: Sequence[Value], names: Sequence[str], wrt: Any) -> None:
        chosen = list(wrt) if isinstance(wrt, (list, tuple)) else [] if wrt is None else [wrt]
        for x in chosen:
            if not isinstance(x, Expr):
                raise ArgumentError(f"draw: wrt holds {x!r} of type {type(x).__name__}, expected symbolic expressions")
        self.builder = Builder(OPSET)
        mapping = self.builder.absorb([*results, *[x.value for x in chosen]])
        self.results = list(dict.fromkeys(mapping[r] for r in results))
        self.variables = [mapping[x.value] for x in chosen]
        self.order = topological(self.results)
        self.folded = _folded(self.order, self.results)
        self.drawn = [v for v in self.order if v not in self.folded]
        inside = set(self.drawn)
        for x, value in zip(chosen, self.variables, strict=True):
            if value not in inside:
                what = f"{value.name}" if value.is_param else f"{x!r}"
                raise ArgumentError(f"draw: {what} does not occur in the function, expected a variable of it")
        self.params = [v for v in self.order if v.is_param]
        given: dict[Value, str] = {}
        for r, name in zip(results, names, strict=True):
            given.setdefault(mapping[r], name)
        self.names = _names(self.drawn, given, [p.name for p in self.params])
        self.kinds: dict[Value, Kind] = {
            v: "input" if v.is_param else "result" if v in given else "operation" for v in self.drawn
        }
        self.index = {v: i for i, v in enumerate(self.drawn)}

    def uses(self, value: Value) -> list[tuple[int, Value]]:
        """The operands that are drawn, with their places."""
        return [(i, a) for i, a in enumerate(value.args) if a in self.index]

    def wires(self) -> list[tuple[int, int]]:
        return [(self.index[a], self.index[v]) for v in self.drawn for _, a in self.uses(v)]

    def heads(self, boxes: Grouping) -> tuple[list[Value], set[Value]]:
        """The value that every box hands on, its last, and the values that have a box of their own."""
        last = [self.drawn[members[-1]] for members in boxes.groups]
        return last, {self.drawn[members[0]] for members in boxes.groups if len(members) == 1}

    def formula(self, value: Value) -> str:
        return formula(value, [self.names.get(a) or self.folded[a] for a in value.args])


def _folded(order: Sequence[Value], results: Sequence[Value]) -> dict[Value, str]:
    """Constants, and short expressions of constants, by their text."""
    folded: dict[Value, str] = {}
    kept = set(results)
    for value in order:
        if value in kept or value.is_param:
            continue
        text = plain_constant(value) if not value.args else None
        if value.args and all(a in folded for a in value.args):
            text = formula(value, [folded[a] for a in value.args])
            text = text if len(text) <= _FOLDED else None
        if text is not None:
            folded[value] = text
    return folded


def _names(drawn: Sequence[Value], results: Mapping[Value, str], symbols: Sequence[str]) -> dict[Value, str]:
    """Symbols by their own names, results f or f1, f2, ..., what lies between z1, z2, ...; all names different."""
    taken = {*symbols, *filter(None, results.values())}
    nameless = [r for r, name in results.items() if not name and not r.is_param]
    stem = _free_stem(("f", "g", "y", "out"), taken)
    letter = _free_stem(("z", "v", "t", "s", "node"), {*taken, stem})
    names: dict[Value, str] = {}
    for number, r in enumerate(nameless, 1):
        names[r] = stem if len(nameless) == 1 else f"{stem}{number}"
    count = itertools.count(1)
    for value in drawn:
        if value.is_param:
            names[value] = value.name
        elif value not in names:
            names[value] = results.get(value) or f"{letter}{next(count)}"
    return names


def _free_stem(stems: Sequence[str], taken: Iterable[str]) -> str:
    """The first stem that begins no name in use; underscores help when all do."""
    used = list(taken)
    endless = (stem + "_" * k for k in itertools.count() for stem in stems)
    return next(s for s in endless if not any(n == s or n.removeprefix(s).isdigit() for n in used))
