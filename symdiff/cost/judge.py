"""What the counts of several programs for one derivative say: which is cheaper, where, and by how much.

A `Judgement` holds counts, points, and times where they were measured, and answers in numbers and in sentences; how it
is written down is `Comparison`'s. It judges by operations of `Counts`, every one alike, and by predicted time where
there is a machine.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from symdiff.cost.checkpoint import advice as checkpoint_advice
from symdiff.cost.checkpoint import find_chain
from symdiff.cost.counts import Counts
from symdiff.cost.machine import Machine, Prediction, Profiler, predict, relative_error
from symdiff.cost.poly import Number, Poly, crossover, growth_ratio, highest, never_below
from symdiff.cost.regimes import at_sizes, equations, regimes, spread
from symdiff.cost.timing import EQUAL, Timing, agreement, format_seconds
from symdiff.ir.graph import Function

_CHEAP = "a gradient needs at most 4 to 5 times (Baur and Strassen 1983; Griewank 1989)"

FORMS = {"derived": "as derived", "closed": "in closed form"}


@dataclass(frozen=True)
class Coloured:
    """The compressed evaluation at one point: `colours` sweeps in one direction ("forward" or "reverse"), or in both
    ("bidirectional"), give all `nonzeros` of `entries` entries. `resident`: bytes of values, pattern, seeds and
    compressed result. `kind`: of the colouring, see `symdiff.sparsity.Colouring`. `other`: of a Hessian, the colouring
    that was weighed against it, star or acyclic."""

    colours: int
    direction: str
    nonzeros: int
    entries: int
    operations: Number
    resident: int
    kind: str = "distance-2"
    other: Coloured | None = None
    seconds: float | None = None
    timing: Timing | None = None

    @property
    def told(self) -> str:
        """Sweeps and how entries are found, and what that takes."""
        how = {"star": " of a star colouring", "acyclic": " of an acyclic colouring and substitution"}
        text = f"{self.colours} {self.direction} sweeps at once{how.get(self.kind, '')}"
        if self.seconds is not None:
            text += f", predicted {format_seconds(self.seconds)}"
        return text + (f", measured {format_seconds(self.timing.seconds)}" if self.timing is not None else "")


@dataclass(frozen=True)
class Judgement:
    """Counts of the primal and of every program, and what they say.

    `points` are the sizes given, one dictionary per combination; empty when dimensions have no sizes. `outputs` is the
    number of elements the primal returns. `functions` are what was counted, by name, "primal" among them; `forms` tells
    for each whether it is the program as derived or its closed form, and `derived` holds the counts of the former where
    the latter is priced. `measured` has a `Timing` per name at every point, without programs whose results do not fit
    into memory there; `machine` is what predictions come from. `inputs` is the number of elements of the variables,
    `kernels` how many loop nests and routines each program became. `coloured` has the compressed evaluation per point.
    `profilers` tell what the native code of each program executes at given sizes, on registers of so many bytes.
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
    inputs: Poly = field(default_factory=Poly)
    kernels: Mapping[str, int] = field(default_factory=dict[str, int])
    coloured: tuple[Coloured | None, ...] = ()
    profilers: Mapping[str, Profiler] = field(default_factory=dict[str, Profiler])

    # ---------------------------------------------------------------- judgements
    @property
    def order(self) -> tuple[str, ...]:
        """Names, cheapest first: at the first point given, or as all sizes grow; ties go to fewer moves."""
        sizes = dict(self.points[0]) if self.points else dict.fromkeys(self.names(), 1000)

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
        """For every pair that changes places, which is cheaper on which side, where that can be solved for."""
        return tuple(self.crossings_told(lambda name, size: f"{name} > {size}"))

    def crossings_told(self, show: Callable[[str, str], str]) -> list[str]:
        """`crossovers` with inequalities written by `show(dimension, size)`."""
        found: list[str] = []
        for a, b in itertools.combinations(self.programs, 2):
            left, right = self.programs[a].operations, self.programs[b].operations
            if never_below(left, right) or never_below(right, left):
                continue
            difference = left - right
            exact = crossover(difference)
            solved = exact or crossover(highest(difference))
            if solved is not None:
                name, size, rising = solved
                above, below = (b, a) if rising else (a, b)
                about = "" if exact else "about "
                found.append(f"{above} wins when {about}{show(name, size)}, {below} below")
        return found

    @property
    def recommendation(self) -> str:
        """One sentence: the cheapest, its operations against the others', and where that holds."""
        return self.recommend(str, equations, lambda text: text, self.crossovers)

    def recommend(
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
            return text + ("; the least at all sizes" if self.names() else "")
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

    def names(self) -> tuple[str, ...]:
        names = frozenset().union(self.primal.names, *(c.names for c in self.programs.values()))
        return tuple(sorted(names))

    # ---------------------------------------------------------------- clock
    def predicted(self, sizes: Mapping[str, int]) -> dict[str, Prediction]:
        """The model's time of the primal and of every program that has native code; empty without a machine."""
        if self.machine is None:
            return {}
        key = tuple(sorted(sizes.items()))
        if key not in self._predictions:
            self._predictions[key] = {
                name: predict(profiler(sizes, self.machine.register), self.machine)
                for name, profiler in self.profilers.items()
            }
        return self._predictions[key]

    @functools.cached_property
    def _predictions(self) -> dict[tuple[tuple[str, int], ...], dict[str, Prediction]]:
        return {}

    def fastest(self, point: int) -> str:
        """The program with the least measured time at a point, by its number; "" when none was measured there."""
        return min(self.timed(point), key=lambda name: self.measured[point][name].seconds, default="")

    def timed(self, point: int) -> list[str]:
        """The programs that were measured at a point."""
        return [name for name in self.programs if name in self.measured[point]]

    def agreement(self, point: int) -> str:
        """Whether counts and clock put the programs into the same order at a point: agree, differ, or tie."""
        names = self.timed(point)
        counted = {name: float(self.programs[name].operations.at(self.points[point])) for name in names}
        return agreement(counted, {name: self.measured[point][name].seconds for name in names})

    @property
    def clock(self) -> tuple[str, ...]:
        """What the measurements say, in sentences; empty without them."""
        if not self.measured:
            return ()
        fastest = [self.fastest(number) for number in range(len(self.points))]
        level: list[list[str]] = []
        for number, name in enumerate(fastest):
            clock = self.measured[number]
            names = self.timed(number) if name else []
            level.append([n for n in names if clock[n].seconds <= EQUAL * clock[name].seconds])
        told: list[str] = []
        for winner, where, numbers in regimes([" and ".join(names) for names in level], self.points):
            if not winner:
                continue
            seconds = [self.measured[i][fastest[i]].seconds for i in numbers]
            times = [t / self.measured[i]["primal"].seconds for i, t in zip(numbers, seconds, strict=True)]
            verb = "are level" if len(level[numbers[0]]) > 1 else "is fastest"
            ratio = f"{spread(times)} times the primal"
            told.append(f"{winner} {verb}{where} ({spread(seconds, format_seconds)}, {ratio})")
        text = "; ".join(told)
        lines = [f"by clock: {text}"] if text else []
        found = [self.agreement(number) for number in range(len(self.points))]
        different = [equations(self.points[i]) for i, word in enumerate(found) if word == "differ"]
        if different:
            lines.append(f"counted and measured order differ at {'; '.join(different)}")
        elif "agree" in found:
            lines.append("counted and measured order agree" + (", or are level" if "tie" in found else ""))
        if self.machine is not None:
            pairs = [
                (p.seconds, self.measured[number][name].seconds)
                for number, sizes in enumerate(self.points)
                for name, p in self.predicted(sizes).items()
                if name in self.measured[number]
            ]
            error = relative_error([p for p, _ in pairs], [m for _, m in pairs])
            lines.append(f"predicted and measured times are apart by {error:.0%} (geometric mean)")
        return tuple(lines)

    @functools.cached_property
    def checkpoints(self) -> tuple[str, ...]:
        """What checkpoints would save where the function is a long chain, at the last of the sizes given."""
        primal = self.functions.get("primal")
        chain = find_chain(primal) if primal is not None else None
        return () if chain is None else tuple(checkpoint_advice(chain, self.points[-1] if self.points else None))

    # ---------------------------------------------------------------- plain words
    @property
    def passes(self) -> dict[str, Poly]:
        """How many tangents or cotangents each sweep carries: one per input or per output."""
        return {"forward": self.inputs, "reverse": self.outputs} if self.inputs else {}

    def seconds_at(self, point: int) -> dict[str, float]:
        """Measured times at a point, else predicted ones; empty without either."""
        if self.measured:
            return {name: t.seconds for name, t in self.measured[point].items()}
        return {name: p.seconds for name, p in self.predicted(self.points[point]).items()}

    def _costs(self, number: int) -> dict[str, float]:
        """What the programs take at a point: seconds where they are known, else operations."""
        clock = self.seconds_at(number)
        own: dict[str, float] = {n: clock[n] for n in self.programs if n in clock} or {
            n: float(c.operations.at(self.points[number])) for n, c in self.programs.items()
        }
        small = self.coloured[number] if number < len(self.coloured) else None
        if small is not None and small.timing is not None:
            own["coloured"] = small.timing.seconds
        return own

    @property
    def advice(self) -> str:
        """What to do, in a sentence per regime of the sizes given, by time where it is known and else by operations."""
        costs = [self._costs(number) for number in range(len(self.points))]
        level = [[n for n in own if own[n] <= EQUAL * min(own.values())] for own in costs]
        told: list[str] = []
        for winner, where, numbers in regimes([" or ".join(names) for names in level], self.points):
            words = f"use {winner}{where}"
            best = [min(costs[i].values()) for i in numbers]
            clocks = [self.seconds_at(i) for i in numbers]
            primal = [
                clock.get("primal", 0.0) if clock else float(self.primal.operations.at(self.points[i]))
                for i, clock in zip(numbers, clocks, strict=True)
            ]
            if all(primal):
                times = [own / base for own, base in zip(best, primal, strict=True)]
                words += f", {spread(times)} times the function itself"
            others = {n for i in numbers for n in costs[i]} - set(level[numbers[0]])
            ratios = {n: [costs[i][n] / min(costs[i].values()) for i in numbers if n in costs[i]] for n in others}
            if others:
                second = min(sorted(others), key=lambda n: max(ratios[n]))
                verb = "takes" if clocks[0] else "needs"
                words += f"; {second} {verb} {spread(ratios[second])} times as much"
            told.append(words)
        return "advice: " + "; ".join(told) if told else ""

    @property
    def squeezed(self) -> tuple[str, ...]:
        """What the compressed evaluation costs, a sentence per point where the Jacobian is sparse."""
        lines: list[str] = []
        for number, (sizes, found) in enumerate(zip(self.points, self.coloured, strict=False)):
            if found is None:
                continue
            text = f"coloured{at_sizes(equations(sizes))}: {found.told}"
            primal = self.measured[number].get("primal") if self.measured else None
            if found.timing is not None and primal is not None:
                text += f" ({found.timing.seconds / primal.seconds:.3g} times the primal)"
            text += (
                f"; {found.nonzeros:,} of {found.entries:,} entries, {found.operations:,} operations, "
                f"{found.resident:,} bytes"
            )
            lines.append(text + (f"; instead: {found.other.told}" if found.other is not None else ""))
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
                found.append(f"{name}{at_sizes(equations(sizes))} ({fewer[name]:,})")
        return f"fewer operations before simplifying: {'; '.join(found)}" if found else ""
