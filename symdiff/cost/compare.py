"""The bill of several programs for one derivative: which is cheaper, at which sizes, and against the primal.

`compare_programs(primal, {"forward": F, "reverse": R}, sizes)` counts each Function and gives a `Comparison`, which
prints as a table, as Markdown, as LaTeX and as JSON. It judges by operations of `Counts`, every one alike; moves, bytes
and memory stand beside them, and measured and predicted times where they are given. Programs and times are handed in:
nothing is differentiated, compiled or timed here. Counts are of the programs as derived; native code
shares factors between products and may do less, which predicted and measured times show.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from symdiff.arguments import by_dimension, is_size
from symdiff.cost.counts import CLASSES, count, format_peak
from symdiff.cost.judge import Judgement
from symdiff.cost.machine import machine_to_dict
from symdiff.cost.poly import Poly
from symdiff.cost.regimes import at_sizes, equations
from symdiff.cost.tables import (
    Cell,
    aligned,
    booktabs,
    escaped,
    formula,
    markdown,
    name_latex,
    poly_latex,
    quantity,
    size_latex,
    words,
)
from symdiff.cost.timing import EQUAL, format_seconds
from symdiff.errors import ArgumentError
from symdiff.ir.dims import product
from symdiff.ir.graph import Function

Sizes: TypeAlias = Mapping[str, "int | Sequence[int]"]


class Comparison(Judgement):
    """Counts of the primal and of every program, and what they say, in every form of print."""

    # ---------------------------------------------------------------- forms
    def _grid(self) -> tuple[list[list[Cell]], list[int]]:
        """Rows of cells, the head first, and the numbers of the rows where a new group begins."""
        columns = {"primal": self.primal, **self.programs}
        rows = [[words(""), *map(words, columns)]]
        groups: list[int] = []

        def row(label: str, cells: list[Cell]) -> None:
            if any(c.plain not in ("0", "") for c in cells):
                rows.append([words(label), *cells])

        for name in CLASSES:
            row(name, [formula(getattr(c, name)) for c in columns.values()])
        for group in ("transcendental", "special"):
            for name in sorted({n for c in columns.values() for n in getattr(c, group)}):
                label = name if group == "transcendental" else f"calls of {name}"
                row(label, [formula(getattr(c, group).get(name, Poly())) for c in columns.values()])
        row("fusable (fma)", [formula(c.fusable) for c in columns.values()])
        groups.append(len(rows))
        row("operations", [formula(c.operations) for c in columns.values()])
        if any(c.operations != columns[name].operations for name, c in self.derived.items()):
            row("before simplifying", [formula(self.derived.get(n, c).operations) for n, c in columns.items()])
        row("bytes moved", [formula(c.bytes) for c in columns.values()])
        row("peak bytes", [_peak(c.peak) for c in columns.values()])
        row("seeds", [formula(self.passes.get(n, Poly())) if n in self.passes else words("") for n in columns])
        row("instructions", [quantity(str(c.instructions)) for c in columns.values()])
        row("kernels", [quantity(str(self.kernels.get(n, ""))) for n in columns])
        groups.append(len(rows))
        for sizes in self.points:
            at = equations(sizes)
            numbers = {name: c.operations.at(sizes) for name, c in columns.items()}
            best = self.best_at(sizes) if len({numbers[name] for name in self.programs}) > 1 else ""
            row(f"at {at}" if at else "in numbers", [quantity(f"{numbers[n]:,}", n == best) for n in columns])
        for sizes in self.points:
            at = equations(sizes)
            peaks = [max(p.at(sizes) for p in c.peak) for c in columns.values()]
            row(f"peak bytes{at_sizes(at)}" if at else "peak in numbers", [quantity(f"{p:,}") for p in peaks])
        ratios = [self.ratio(name, self.points[0] if self.points else None) for name in self.programs]
        told = [f"{r:.3g}" if r is not None else "unbounded" for r in ratios]
        row("ratio to primal", [quantity("1"), *map(quantity, told)])
        groups.append(len(rows))
        for number, sizes in enumerate(self.points):
            at = at_sizes(equations(sizes))
            if self.measured:
                timings = self.measured[number]
                self._time_row(row, f"time{at}", {n: t.seconds for n, t in timings.items()}, list(columns), True)
            guess = self.predicted(sizes)
            if "primal" in guess:
                seconds = {n: p.seconds for n, p in guess.items()}
                self._time_row(row, f"predicted{at}", seconds, list(columns), not self.measured)
                told = [f"{guess[n].bound}, {guess[n].intensity:.2g} op/B" if n in guess else "" for n in columns]
                row(f"bound{at}", [words(text) for text in told])
        return rows, groups

    def _time_row(
        self, row: Callable[[str, list[Cell]], None], label: str, seconds: Mapping[str, float], names: list[str],
        mark: bool,
    ) -> None:  # fmt: skip
        own = sorted(seconds[name] for name in self.programs if name in seconds)
        won = mark and len(own) > 1 and own[1] > EQUAL * own[0]
        cells = [quantity(format_seconds(seconds["primal"]))]
        for name in names[1:]:
            if name not in seconds:
                cells.append(words("too large" if name in self.profilers else "no native code"))
                continue
            told = f"{format_seconds(seconds[name])} ({seconds[name] / seconds['primal']:.3g}x)"
            cells.append(quantity(told, won and seconds[name] == own[0]))
        row(label, cells)

    def table(self) -> str:
        """Aligned text; * marks the cheapest program at a point, by count and by clock."""
        return aligned(self._grid()[0], self._remarks())

    def markdown(self) -> str:
        """A table of GitHub's Markdown and the remarks."""
        return markdown(self._grid()[0], self._remarks())

    def latex(self) -> str:
        """A table for the LaTeX package booktabs; the recommendation is its caption, the cheapest is bold."""
        rows, groups = self._grid()

        def at(sizes: Mapping[str, int]) -> str:
            return ", ".join(f"${name_latex(name)} = {size}$" for name, size in sizes.items())

        told = self.recommend(lambda p: formula(p).latex, at, escaped, self.crossings_told(_beyond_latex))
        return booktabs(rows, told + ".", groups)

    def json(self) -> str:
        """Everything, as JSON text."""
        return json.dumps(self.as_dict(), indent=1)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`."""
        told: dict[str, Any] = {
            "primal": self.primal.as_dict(),
            "programs": {name: counts.as_dict() for name, counts in self.programs.items()},
            "at": [self._at(number) for number in range(len(self.points))],
            "ratio": {name: self.ratio(name) for name in self.programs},
            "best": self.best,
            "crossovers": list(self.crossovers),
            "recommendation": self.recommendation,
            "note": self.note,
        }
        if self.forms:
            told["forms"] = dict(self.forms)
            told["missed"] = self.missed
            told["before_simplifying"] = {name: counts.as_dict() for name, counts in self.derived.items()}
        told["seeds"] = {name: str(poly) for name, poly in self.passes.items()}
        told["advice"] = self.advice
        told["checkpoints"] = list(self.checkpoints)
        if self.measured:
            told["clock"] = list(self.clock)
            told["kernels"] = dict(self.kernels)
        if self.machine is not None:
            told["machine"] = machine_to_dict(self.machine)
        return told

    def _at(self, point: int) -> dict[str, Any]:
        sizes = self.points[point]
        numbers = {name: counts.at(sizes) for name, counts in {"primal": self.primal, **self.programs}.items()}
        ratios = {name: self.ratio(name, sizes) for name in self.programs}
        # JSON has no fractions; every count is whole at whole sizes.
        told: dict[str, Any] = {
            "sizes": dict(sizes), "counts": numbers, "ratio": ratios, "best": self.best_at(sizes),
        }  # fmt: skip
        if self.measured:
            told["measured"] = {name: asdict(timing) for name, timing in self.measured[point].items()}
            told["fastest"] = self.fastest(point)
            told["agreement"] = self.agreement(point)
        guess = self.predicted(sizes)
        if guess:
            told["predicted"] = {name: {**asdict(p), "bound": p.bound} for name, p in guess.items()}
        small = self.coloured[point] if point < len(self.coloured) else None
        if small is not None:
            told["coloured"] = asdict(small)
        return told

    def _remarks(self) -> list[str]:
        lines = (self.recommendation, self.note, self.priced, self.missed, *self.clock, *self.squeezed, self.advice,
                 *self.checkpoints)  # fmt: skip
        return [line for line in lines if line]

    def __str__(self) -> str:
        return self.table()


def _beyond_latex(name: str, size: str) -> str:
    return f"${name_latex(name)} > {size_latex(size)}$"


def _peak(peak: Sequence[Poly]) -> Cell:
    if len(peak) > 2:  # nobody reads a table that wide
        return words(f"max of {len(peak)}, see json()")
    latex = ", ".join(poly_latex(p) for p in peak)
    return Cell(format_peak(peak), f"${latex}$" if len(peak) == 1 else rf"$\max({latex})$")


def compare_programs(
    primal: Function,
    programs: Mapping[str, Function],
    sizes: Sizes | None = None,
    *,
    derived: Mapping[str, Function] | None = None,
    inputs: Poly | None = None,
) -> Comparison:
    """Count and compare. `sizes` gives numbers for dimensions, a list for several; every combination is a point.

    derived: the programs before simplification, by name, "primal" among them; the report then tells which form is
    priced. inputs: the number of elements of the variables.
    """
    if not programs:
        raise ArgumentError("compare_programs: no program given, expected at least one such as {'reverse': ...}")
    counted = {name: count(program) for name, program in programs.items()}
    bill = count(primal)
    names = frozenset().union(bill.names, *(c.names for c in counted.values()))
    outputs = sum((Poly(product(r.shape)) for r in primal.results), Poly())
    functions = {"primal": primal, **programs}
    before = dict(derived or {})
    closed = {name for name, function in before.items() if function != functions[name]}
    return Comparison(
        bill, counted, points_of(sizes, names), outputs, functions,
        {name: "closed" if name in closed else "derived" for name in before},
        {name: count(before[name]) for name in before if name in closed},
        inputs=inputs or Poly(),
    )  # fmt: skip


def points_of(sizes: Sizes | None, names: Iterable[str]) -> tuple[Mapping[str, int], ...]:
    """Every combination of the sizes given; empty when none are and there are dimensions. Raises ArgumentError when
    they leave out one of `names` or hold anything but positive integers."""
    known = set(names)
    given = by_dimension(sizes, "compare", known)
    missing = known - set(given)
    if missing:
        if given:
            raise ArgumentError(
                f"compare: sizes {given} leave out {', '.join(sorted(missing))}; give all dimensions or none"
            )
        return ()
    axes: list[list[tuple[str, int]]] = []
    for name, value in given.items():
        numbers: list[Any] = list(value) if isinstance(value, (list, tuple, range)) else np.ravel(value).tolist()
        if not numbers or not all(is_size(number, 1) for number in numbers):
            raise ArgumentError(f"compare: size {name} = {value}, expected positive integers")
        axes.append([(name, int(n)) for n in numbers])
    return tuple(dict(point) for point in itertools.product(*axes))
