"""What a gradient check found: every derivative's claim and measurement, and the table that is printed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symdiff.ir.dims import format_shape

Verdict: TypeAlias = Literal["ok", "differs", "kink", "not finite", "uncertain"]

_HEADER: tuple[str, ...] = (
    "argument", "shape", "worst at", "analytic", "central", "complex step", "rel. error", "step", "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One derivative: the gradient's claim and what was measured.

    place: the index in the argument, or the number of a random direction. left, right: one-sided slopes.
    uncertainty: estimated error of `central`. complex_step: None where the function does not take complex numbers.
    """

    place: tuple[int, ...]
    analytic: float
    central: float
    complex_step: float | None
    left: float
    right: float
    step: float
    uncertainty: float
    error: float
    kink: bool
    verdict: Verdict

    @property
    def failed(self) -> bool:
        return self.verdict in ("differs", "not finite")


@dataclass(frozen=True, slots=True)
class ArgumentReport:
    """All entries of one argument."""

    name: str
    shape: tuple[int, ...]
    directions: bool
    entries: tuple[Entry, ...]

    @property
    def worst(self) -> Entry | None:
        """The entry that speaks most against the gradient; None for an empty array."""
        order = {"not finite": 4, "differs": 3, "kink": 2, "uncertain": 1, "ok": 0}
        return max(self.entries, key=lambda e: (e.failed, e.error, order[e.verdict]), default=None)

    def where(self, entry: Entry) -> str:
        """`W[1, 2]`, `t`, or `x along direction 3`."""
        if self.directions:
            return f"{self.name} along direction {entry.place[0]}"
        return f"{self.name}[{', '.join(map(str, entry.place))}]" if entry.place else self.name


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What a gradient check found. True when nothing differs; `str` is a table."""

    arguments: tuple[ArgumentReport, ...]
    value: float
    rtol: float
    evaluations: int
    complex_evaluations: int

    def __bool__(self) -> bool:
        entries = [e for a in self.arguments for e in a.entries]
        judged = [e for e in entries if e.verdict != "uncertain"]
        return math.isfinite(self.value) and not any(e.failed for e in entries) and (bool(judged) or not entries)

    @property
    def failures(self) -> tuple[tuple[ArgumentReport, Entry], ...]:
        return tuple((a, e) for a in self.arguments for e in a.entries if e.failed)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count = sum(len(a.entries) for a in self.arguments)
        yield f"gradient check {'passed' if self else 'FAILED'}: {count} derivatives, rtol {self.rtol:g}"
        if not math.isfinite(self.value):
            yield f"the function is {self.value} at the given point: nothing can be compared there"
            return
        rows = [_HEADER, *(_row(argument) for argument in self.arguments)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield from self._remarks()
        extra = f" and {self.complex_evaluations} times with complex numbers" if self.complex_evaluations else ""
        yield f"the function was evaluated {self.evaluations} times (2 per derivative and step){extra}"

    def _remarks(self) -> Iterator[str]:
        shown = 5
        for argument, entry in self.failures[:shown]:
            yield argument.where(entry) + ": " + _explain(entry)
        if len(self.failures) > shown:
            yield f"and {len(self.failures) - shown} more"
        notes: list[tuple[Verdict, str]] = [
            ("kink", "kink suspected, left and right slopes disagree; the gradient lies between them"),
            ("uncertain", "not judged, differences are too noisy here"),
        ]
        for verdict, text in notes:
            places = [a.where(e) for a in self.arguments for e in a.entries if e.verdict == verdict]
            if places:
                more = f" and {len(places) - shown} more" if len(places) > shown else ""
                yield f"{', '.join(places[:shown])}{more}: {text}"


def _row(argument: ArgumentReport) -> tuple[str, ...]:
    worst = argument.worst
    if worst is None:
        return (argument.name, format_shape(argument.shape), "-", "-", "-", "-", "-", "-", "ok (empty)")
    complex_step = "-" if worst.complex_step is None else f"{worst.complex_step:.10g}"
    place = f"direction {worst.place[0]}" if argument.directions else str(list(worst.place)) if worst.place else "-"
    return (
        argument.name, format_shape(argument.shape), place, f"{worst.analytic:.10g}", f"{worst.central:.10g}",
        complex_step, f"{worst.error:.1e}", f"{worst.step:.1e}", worst.verdict,
    )  # fmt: skip


def _explain(entry: Entry) -> str:
    measured = entry.central if entry.complex_step is None else entry.complex_step
    if entry.verdict == "not finite" and math.isfinite(entry.analytic):
        return f"the function is not finite beside the point (step {entry.step:.1e}), so no slope can be measured"
    if entry.verdict == "not finite":
        return f"the gradient is {entry.analytic}, measured {measured:.10g}"
    slopes = f" (left slope {entry.left:.6g}, right slope {entry.right:.6g}: kink suspected)"
    text = f"the gradient says {entry.analytic:.10g}, measured {measured:.10g}, relative error {entry.error:.1e}"
    return text + (slopes if entry.kink else "")
