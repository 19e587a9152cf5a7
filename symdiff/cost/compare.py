"""The bill of several programs for one derivative: which is cheaper, at which sizes, and against the primal.

`compare_programs(primal, {"forward": F, "reverse": R}, sizes)` counts each Function and gives a `Comparison`, which
prints as a table, as Markdown, and as a dictionary for JSON. It judges by operations of `Counts`, every one alike;
moves, bytes and memory stand beside them. Programs are handed in: nothing is differentiated here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from symdiff.cost.counts import CLASSES, Counts, count, format_peak
from symdiff.cost.poly import Number, Poly, crossover, growth_ratio, highest, never_below
from symdiff.errors import ArgumentError
from symdiff.ir.dims import product
from symdiff.ir.graph import Function

Sizes: TypeAlias = Mapping[str, "int | Sequence[int]"]

_CHEAP = "a gradient needs at most 4 to 5 times (Baur and Strassen 1983; Griewank 1989)"


@dataclass(frozen=True)
class Comparison:
    """Counts of the primal and of every program, and what they say.

    `points` are the sizes given, one dictionary per combination; empty when dimensions have no sizes. `outputs` is the
    number of elements the primal returns.
    """

    primal: Counts
    programs: Mapping[str, Counts]
    points: tuple[Mapping[str, int], ...]
    outputs: Poly

    # ---------------------------------------------------------------- judgements
    @property
    def order(self) -> tuple[str, ...]:
        """Names, cheapest first: at the first point given, or as all sizes grow; ties go to fewer moves."""
        sizes = dict(self.points[0]) if self.points else dict.fromkeys(self._names(), 1000)

        return tuple(sorted(self.programs, key=lambda name: self._price(name, sizes)))

    def _price(self, name: str, sizes: Mapping[str, int]) -> tuple[Number, Number]:
        counts = self.programs[name]
        return counts.operations.at(sizes), counts.move.at(sizes)

    @property
    def best(self) -> str:
        return self.order[0]

    def best_at(self, sizes: Mapping[str, int]) -> str:
        return min(self.programs, key=lambda name: self._price(name, sizes))

    def ratio(self, name: str, sizes: Mapping[str, int] | None = None) -> float | None:
        """Operations of a program over those of the primal; without sizes the limit as all sizes grow together, None
        when the ratio grows without bound."""
        ours, base = self.programs[name].operations, self.primal.operations
        if sizes is None:
            return growth_ratio(ours, base)
        return float(ours.at(sizes) / base.at(sizes)) if base.at(sizes) else None

    @property
    def crossovers(self) -> tuple[str, ...]:
        """For every pair, where its operations are equal, if that is a size and can be solved for."""
        found: list[str] = []
        for a, b in itertools.combinations(self.programs, 2):
            left, right = self.programs[a].operations, self.programs[b].operations
            if never_below(left, right) or never_below(right, left):
                continue
            difference = left - right
            exact = crossover(difference)
            solved = exact or crossover(highest(difference))
            if solved is not None:
                about = "" if exact else "about "
                found.append(f"{a} and {b} cost the same at {about}{solved[0]} = {solved[1]}")
        return tuple(found)

    @property
    def recommendation(self) -> str:
        """One sentence: the cheapest, its operations against the others', and where that holds."""
        best, *others = self.order
        price = self.programs[best].operations
        if not others:
            return f"{best}: {price} operations, the only program given"
        against = ", ".join(f"{self.programs[name].operations} ({name})" for name in others)
        text = f"{best}: {price} operations against {against}"
        if all(self.programs[name].operations == price for name in others):
            return text + "; they cost the same"
        if all(never_below(self.programs[name].operations, price) for name in others):
            return text + ("; the least at all sizes" if self._names() else "")
        if not self.points:
            text += "; the least when all sizes are 1000"
        for number, sizes in enumerate(self.points):
            here = self.best_at(sizes)
            if number == 0:
                text += f"; the least at {_equations(sizes)}"
            elif here != self.best_at(self.points[number - 1]):
                text += f"; from {_equations(sizes)} on {here}"
        return "; ".join((text, *self.crossovers))

    @property
    def note(self) -> str:
        """Where reverse mode stands against the bound on gradients; empty without a reverse program."""
        if "reverse" not in self.programs:
            return ""
        ours, base = self.programs["reverse"].operations, self.primal.operations * self.outputs
        if self.points:
            below = base.at(self.points[0])
            ratio = float(ours.at(self.points[0]) / below) if below else None
        else:
            ratio = growth_ratio(ours, base)
        each = "" if self.outputs == 1 else f" for each of its {self.outputs} outputs"
        if ratio is None:
            return f"reverse: no bounded multiple of the primal ({self.primal.operations} operations){each}"
        return f"reverse: {ratio:.3g} times the primal{each}; {_CHEAP}" + (", so it wastes work" if ratio > 5 else "")

    def _names(self) -> tuple[str, ...]:
        names = frozenset().union(self.primal.names, *(c.names for c in self.programs.values()))
        return tuple(sorted(names))

    # ---------------------------------------------------------------- forms
    def _grid(self) -> list[list[str]]:
        columns = {"primal": self.primal, **self.programs}
        rows = [["", *columns]]

        def row(label: str, cells: list[str]) -> None:
            if any(c not in ("0", "") for c in cells):
                rows.append([label, *cells])

        for name in CLASSES:
            row(name, [str(getattr(c, name)) for c in columns.values()])
        for group in ("transcendental", "special"):
            for name in sorted({n for c in columns.values() for n in getattr(c, group)}):
                label = name if group == "transcendental" else f"calls of {name}"
                row(label, [str(getattr(c, group).get(name, Poly())) for c in columns.values()])
        row("operations", [str(c.operations) for c in columns.values()])
        row("bytes moved", [str(c.bytes) for c in columns.values()])
        row("peak bytes", [format_peak(c.peak) for c in columns.values()])
        row("instructions", [str(c.instructions) for c in columns.values()])
        for sizes in self.points:
            at = _equations(sizes)
            best = self.best_at(sizes)
            numbers = {name: c.operations.at(sizes) for name, c in columns.items()}
            row(f"at {at}" if at else "in numbers", [
                f"{numbers[name]:,}" + (" *" if name == best and len(self.programs) > 1 else "") for name in columns
            ])  # fmt: skip
        ratios = [self.ratio(name, self.points[0] if self.points else None) for name in self.programs]
        row("ratio to primal", ["1", *(f"{r:.3g}" if r is not None else "unbounded" for r in ratios)])
        return rows

    def table(self) -> str:
        """Aligned text; * marks the cheapest program at a point."""
        grid = self._grid()
        wide = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
        lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(line, wide, strict=True)).rstrip() for line in grid]
        return "\n".join([lines[0], "-" * (sum(wide) + 2 * len(wide) - 2), *lines[1:], "", *self._remarks()])

    def markdown(self) -> str:
        head, *body = [[cell.replace("*", r"\*") for cell in line] for line in self._grid()]
        lines = [head, ["---"] * len(head), *body]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*text, "", *[r.replace("*", r"\*") for r in self._remarks()]])

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`."""
        return {
            "primal": self.primal.as_dict(),
            "programs": {name: counts.as_dict() for name, counts in self.programs.items()},
            "at": [self._at(sizes) for sizes in self.points],
            "ratio": {name: self.ratio(name) for name in self.programs},
            "best": self.best,
            "crossovers": list(self.crossovers),
            "recommendation": self.recommendation,
            "note": self.note,
        }

    def _at(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        numbers = {name: counts.at(sizes) for name, counts in {"primal": self.primal, **self.programs}.items()}
        ratios = {name: self.ratio(name, sizes) for name in self.programs}
        # JSON has no fractions; every count is whole at whole sizes.
        return {"sizes": dict(sizes), "counts": numbers, "ratio": ratios, "best": self.best_at(sizes)}

    def _remarks(self) -> list[str]:
        return [line for line in (self.recommendation, self.note) if line]

    def __str__(self) -> str:
        return self.table()


def _equations(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())


def compare_programs(primal: Function, programs: Mapping[str, Function], sizes: Sizes | None = None) -> Comparison:
    """Count and compare. `sizes` gives numbers for dimensions, a list for several; every combination is a point."""
    if not programs:
        raise ArgumentError("compare_programs: no program given, expected at least one such as {'reverse': ...}")
    counted = {name: count(program) for name, program in programs.items()}
    bill = count(primal)
    names = frozenset().union(bill.names, *(c.names for c in counted.values()))
    outputs = sum((Poly(product(r.shape)) for r in primal.results), Poly())
    return Comparison(bill, counted, _points(dict(sizes or {}), names), outputs)


def _points(sizes: dict[str, int | Sequence[int]], names: frozenset[str]) -> tuple[Mapping[str, int], ...]:
    missing = names - set(sizes)
    if missing:
        if sizes:
            raise ArgumentError(
                f"compare_programs: sizes {sizes} leave out {', '.join(sorted(missing))}; give all dimensions or none"
            )
        return ()
    axes: list[list[tuple[str, int]]] = []
    for name, value in sizes.items():
        numbers = [value] if isinstance(value, int) else list(value)
        if not numbers or any(n < 1 for n in numbers):
            raise ArgumentError(f"compare_programs: size {name} = {value}, expected positive integers")
        axes.append([(name, n) for n in numbers])
    return tuple(dict(point) for point in itertools.product(*axes))
