"""Measured times: medians with their spread, as text, and whether two orders agree.

Timings are taken elsewhere; here they are held, written with a unit that suits them, and compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EQUAL: Final = 1.05
"""Two medians within this factor are a tie: clocks on a shared machine do not tell them apart."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median, the quartiles around it, and how many calls were timed."""

    seconds: float
    low: float
    high: float
    calls: int


def format_seconds(seconds: float) -> str:
    """Three digits and a unit: `1.25 us`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_three(seconds / size)} {unit}"
    return f"{_three(seconds / 1e-9)} ns"


def _three(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.3g}"


def agreement(counted: Mapping[str, float], measured: Mapping[str, float]) -> str:
    """Whether programs stand in the same order by count and by clock: "agree", "differ", or "tie" when the clock tells
    none of the programs apart that the counts do. A pair that either side calls equal does not disagree."""
    told = False
    for a, b in itertools.combinations(counted, 2):
        if counted[a] == counted[b]:
            continue
        less, more = (a, b) if counted[a] < counted[b] else (b, a)
        if measured[less] > EQUAL * measured[more]:
            return "differ"
        told = told or measured[more] > EQUAL * measured[less]
    return "agree" if told else "tie"
