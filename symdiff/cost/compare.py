"""The bill of several programs for one derivative: which is cheaper, at which sizes, and against the primal.

`compare_programs(primal, {"forward": F, "reverse": R}, sizes)` counts each Function and gives a `Comparison`, which
prints as a table, as Markdown, as LaTeX and as JSON. It judges by operations of `Counts`, every one alike; moves, bytes
and memory stand beside them, and measured and predicted times where they are given. Programs and times are handed in:
nothing is differentiated, compiled or timed here.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from symdiff.cost.counts import CLASSES, Counts, count, format_peak
from symdiff.cost.machine import Machine, Prediction, machine_to_dict, predictor, relative_error
from symdiff.cost.poly import Number, Poly, crossover, growth_ratio, highest, never_below
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
from symdiff.cost.timing import EQUAL, Timing, agreement, format_seconds
from symdiff.errors import ArgumentError
from symdiff.ir.dims import product
from symdiff.ir.graph import Function

Sizes: TypeAlias = Mapping[str, "int | Sequence[int]"]

_CHEAP = "a gradient needs at most 4 to 5 times (Baur and Strassen 1983; Griewank 1989)"


FORMS = {"derived": "as derived", "closed": "in closed form"}


@dataclass(frozen=True)
class Comparison:
    """Counts of the primal and of every program, and what they say.

    `points` are the sizes given, one dictionary per combination; empty when dimensions have no sizes. `outputs` is the
    number of elements the primal returns. `functions` are what was counted, by name, "primal" among them; `forms` tells
    for each whether it is the program as derived or its closed form, and `derived` holds the counts of the former where
    the latter is priced. `measured` has a `Timing` per name at every point; `machine` is what predictions come from.
    """

    primal: Counts
    programs: Mapping[str, Counts]
    points: tuple[Mapping[str, int], ...]
    outputs: Poly
    functions: Mapping[str, Function] = field(default_factory=dict[str, Function])
    forms: Mapping[str, str] = field(default_factory=dict[str, str])
    derived: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    measured: tuple[Mapping[str, Timing], ...] = ()
    machine: Machine | None = None

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
        return tuple(self._crossings(lambda name, size: f"{name} = {size}"))

    def _crossings(self, show: Callable[[str, str], str]) -> list[str]:
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
                found.append(f"{a} and {b} cost the same at {about}{show(*solved)}")
        return found

    @property
    def recommendation(self) -> str:
        """One sentence: the cheapest, its operations against the others', and where that holds."""
        return self._recommend(str, _equations, lambda text: text, self.crossovers)

    def _recommend(
        self, show: Callable[[Poly], str], at: Callable[[Mapping[str, int]], str], word: Callable[[str], str],
        crossings: Sequence[str],
    ) -> str:  # fmt: skip
        best, *others = self.order
        price = self.programs[best].operations
        if not others:
            return f"{word(best)}: {show(price)} operations, the only program given"
        against = ", ".join(f"{show(self.programs[name].operations)} ({word(name)})" for name in others)
        text = f"{word(best)}: {show(price)} operations against {against}"
        if all(self.programs[name].operations == price for name in others):
            return text + "; they cost the same"
        if all(never_below(self.programs[name].operations, price) for name in others):
            return text + ("; the least at all sizes" if self._names() else "")
        if not self.points:
            text += "; the least when all sizes are 1000"
        for number, sizes in enumerate(self.points):
            here = self.best_at(sizes)
            if number == 0:
                text += f"; the least at {at(sizes)}"
            elif here != self.best_at(self.points[number - 1]):
                text += f"; from {at(sizes)} on {word(here)}"
        return "; ".join((text, *crossings))

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

    # ---------------------------------------------------------------- clock
    def predicted(self, sizes: Mapping[str, int]) -> dict[str, Prediction]:
        """The model's time of the primal and of every program; empty without a machine."""
        return {name: at(sizes) for name, at in self._predictors.items()}

    @functools.cached_property
    def _predictors(self) -> dict[str, Callable[[Mapping[str, int]], Prediction]]:
        machine = self.machine
        return {} if machine is None else {name: predictor(f, machine) for name, f in self.functions.items()}

    def fastest(self, point: int) -> str:
        """The program with the least measured time at a point, by its number."""
        return min(self.programs, key=lambda name: self.measured[point][name].seconds)

    def agreement(self, point: int) -> str:
        """Whether counts and clock put the programs into the same order at a point: agree, differ, or tie."""
        counted = {name: float(c.operations.at(self.points[point])) for name, c in self.programs.items()}
        return agreement(counted, {name: self.measured[point][name].seconds for name in self.programs})

    @property
    def clock(self) -> tuple[str, ...]:
        """What the measurements say, in sentences; empty without them."""
        if not self.measured:
            return ()
        text, before = "", ""
        for number, sizes in enumerate(self.points):
            name = self.fastest(number)
            seconds = self.measured[number][name].seconds
            level = [n for n in self.programs if self.measured[number][n].seconds <= EQUAL * seconds]
            winner = " and ".join(level)
            if winner != before:
                times = seconds / self.measured[number]["primal"].seconds
                told = f"{format_seconds(seconds)}, {times:.3g} times the primal"
                at = _equations(sizes)
                verb = "are level" if len(level) > 1 else "is fastest"
                text += f"; from {at} on {winner} ({told})" if before else f"{winner} {verb}{_at(at)} ({told})"
            before = winner
        lines = [f"by clock: {text}"]
        found = [self.agreement(number) for number in range(len(self.points))]
        different = [_equations(self.points[i]) for i, word in enumerate(found) if word == "differ"]
        if different:
            lines.append(f"counted and measured order differ at {'; '.join(different)}")
        elif "agree" in found:
            lines.append("counted and measured order agree" + (", or are level" if "tie" in found else ""))
        if self.machine is not None:
            pairs = [
                (p.seconds, self.measured[number][name].seconds)
                for number, sizes in enumerate(self.points)
                for name, p in self.predicted(sizes).items()
            ]
            error = relative_error([p for p, _ in pairs], [m for _, m in pairs])
            lines.append(f"predicted and measured times are apart by {error:.0%} (geometric mean)")
        return tuple(lines)

    def _distinct(self) -> set[Function]:
        return {f for name, f in self.functions.items() if name != "primal"}

    @property
    def priced(self) -> str:
        """Which form of each program the bill prices, and which programs are one; empty when that is not known."""
        if not self.forms:
            return ""
        by_form = {form: [name for name, own in self.forms.items() if own == form] for form in FORMS}
        told = "; ".join(f"{', '.join(names)} {FORMS[form]}" for form, names in by_form.items() if names)
        text = f"form priced: {told}"
        if len(self.programs) > 1 and len(self._distinct()) == 1:
            text += f"; {' and '.join(self.programs)} are the same program"
        return text

    @property
    def missed(self) -> str:
        """Where a program as derived counts fewer operations than all that are priced: the form is chosen once for all
        sizes, and these sizes may be far from the ones it was chosen at. Empty when there is no such point."""
        found: list[str] = []
        for sizes in self.points:
            least = min(c.operations.at(sizes) for c in self.programs.values())
            fewer = {n: c.operations.at(sizes) for n, c in self.derived.items() if n in self.programs}
            name = min(fewer, key=lambda n: fewer[n], default="")
            if name and fewer[name] < least:
                found.append(f"{name}{_at(_equations(sizes))} ({fewer[name]:,})")
        return f"fewer operations before simplifying: {'; '.join(found)}" if found else ""

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
        groups.append(len(rows))
        row("operations", [formula(c.operations) for c in columns.values()])
        if any(c.operations != columns[name].operations for name, c in self.derived.items()):
            row("before simplifying", [formula(self.derived.get(n, c).operations) for n, c in columns.items()])
        row("bytes moved", [formula(c.bytes) for c in columns.values()])
        row("peak bytes", [_peak(c.peak) for c in columns.values()])
        row("instructions", [quantity(str(c.instructions)) for c in columns.values()])
        groups.append(len(rows))
        for sizes in self.points:
            at = _equations(sizes)
            numbers = {name: c.operations.at(sizes) for name, c in columns.items()}
            best = self.best_at(sizes) if len({numbers[name] for name in self.programs}) > 1 else ""
            row(f"at {at}" if at else "in numbers", [quantity(f"{numbers[n]:,}", n == best) for n in columns])
        ratios = [self.ratio(name, self.points[0] if self.points else None) for name in self.programs]
        told = [f"{r:.3g}" if r is not None else "unbounded" for r in ratios]
        row("ratio to primal", [quantity("1"), *map(quantity, told)])
        groups.append(len(rows))
        for number, timings in enumerate(self.measured):
            at = _at(_equations(self.points[number]))
            self._time_row(row, f"time{at}", {n: t.seconds for n, t in timings.items()}, list(columns), True)
            guess = {n: p.seconds for n, p in self.predicted(self.points[number]).items()}
            if guess:
                self._time_row(row, f"predicted{at}", guess, list(columns), False)
        return rows, groups

    def _time_row(
        self, row: Callable[[str, list[Cell]], None], label: str, seconds: Mapping[str, float], names: list[str],
        mark: bool,
    ) -> None:  # fmt: skip
        own = sorted(seconds[name] for name in self.programs)
        won = mark and len(own) > 1 and own[1] > EQUAL * own[0]
        cells = [quantity(format_seconds(seconds["primal"]))]
        for name in names[1:]:
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

        told = self._recommend(lambda p: formula(p).latex, at, escaped, self._crossings(_equation_latex))
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
        if self.measured:
            told["clock"] = list(self.clock)
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
            told["predicted"] = {name: asdict(p) for name, p in guess.items()}
        return told

    def _remarks(self) -> list[str]:
        return [line for line in (self.recommendation, self.note, self.priced, self.missed, *self.clock) if line]

    def __str__(self) -> str:
        return self.table()


def _equations(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())


def _at(equations: str) -> str:
    return f" at {equations}" if equations else ""


def _equation_latex(name: str, size: str) -> str:
    return f"${name_latex(name)} = {size_latex(size)}$"


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
) -> Comparison:
    """Count and compare. `sizes` gives numbers for dimensions, a list for several; every combination is a point.

    derived: the programs before simplification, by name, "primal" among them; the report then tells which form is
    priced.
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
        bill, counted, _points(dict(sizes or {}), names), outputs, functions,
        {name: "closed" if name in closed else "derived" for name in before},
        {name: count(before[name]) for name in before if name in closed},
    )  # fmt: skip


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
