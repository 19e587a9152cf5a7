"""Where functions have no derivative, which value is taken there, and how to take another one.

The conventions are declared with the ops; this is the table of them that users see, and the way from a user's choice to
the op set whose rules make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from symdiff.errors import ArgumentError
from symdiff.ir.op import OpSet
from symdiff.ops import OPSET

# What derivatives take as `kinks=`.
Kinks: TypeAlias = "Mapping[str, Any] | None"

# Ops by the names under which users call them.
_CALLED = {"reduce_max": "max", "reduce_min": "min"}
_OPS = {called: op for op, called in _CALLED.items()}


@dataclass(frozen=True)
class Convention:
    """One kink: the function, where it has one, the derivative taken there, and what may be chosen instead."""

    function: str
    at: str
    taken: str
    choices: str


@dataclass(frozen=True)
class Conventions:
    """All kinks; `str` and `markdown()` show them as a table."""

    rows: tuple[Convention, ...]

    def __str__(self) -> str:
        lines = [("function", "kink", "derivative there", "choices"), *[_cells(r) for r in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
        return "\n".join(["  ".join(line).rstrip() for line in padded])

    def markdown(self) -> str:
        head = ["| function | kink | derivative there | choices |", "| --- | --- | --- | --- |"]
        return "\n".join(head + [f"| {' | '.join(_cells(r))} |" for r in self.rows])

    _repr_markdown_ = markdown


def _cells(row: Convention) -> tuple[str, str, str, str]:
    return row.function, row.at, row.taken, row.choices or "none"


def kinks() -> Conventions:
    """The table of kinks. Derivatives take other choices by `kinks=`: `gradient(f, x, kinks={"relu": 1})`."""
    return Conventions(tuple([
        Convention(_CALLED.get(op.name, op.name), op.kink.at, op.kink.choose, op.kink.choices())
        for op in OPSET.values() if op.kink is not None
    ]))  # fmt: skip


def with_kinks(choices: Kinks) -> OpSet:
    """The op set that differentiates with the given choices. Raises ArgumentError for a name or choice that is none."""
    if not choices:
        return OPSET
    if not isinstance(choices, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"kinks: given {choices!r}, expected a dict such as {{'relu': 1, 'maximum': 'first'}}")
    return OPSET.choosing({_OPS.get(name, name): choice for name, choice in choices.items()})
