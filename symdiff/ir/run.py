"""Running a Function on arrays, one instruction after the other: shared by the interpreter and ops that hold bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from symdiff.ir.dims import Dim, evaluate
from symdiff.ir.graph import Function, Value, loop_key

Call: TypeAlias = "Callable[[Sequence[Value], tuple[Any, ...], dict[str, Any]], Sequence[Any]]"
"""Evaluates instructions that are one evaluation (most often one), from operands and attributes; one result each."""


def evaluated(values: Sequence[Value], operands: tuple[Any, ...], attrs: dict[str, Any]) -> Sequence[Any]:
    """What the op says; several picks of one loop are asked for at once."""
    op = values[0].op
    if op.picks:
        return op.evaluate(*operands, **{**attrs, "pick": tuple([v.attr("pick") for v in values])})
    return (op.evaluate(*operands, **attrs),)


class Program:
    """A Function ready to run at given sizes: called with one array per parameter it returns one per result.

    Equal loops that differ in what they pick run once. Arrays are dropped after their last use.
    """

    def __init__(self, function: Function, sizes: Mapping[str, int], call: Call = evaluated) -> None:
        self.function = function
        self.sizes = sizes
        self._call = call
        together: dict[Any, list[Value]] = {}
        for value in function.instrs:
            together.setdefault(loop_key(value) if value.op.picks else value, []).append(value)
        kept = set(function.results)
        last: dict[Value, int] = {}
        for place, group in enumerate(together.values()):
            last.update(dict.fromkeys([*group[0].args, *group], place))
        dropped: list[list[Value]] = [[] for _ in together]
        for value, place in last.items():
            if value not in kept:
                dropped[place].append(value)
        self._steps = [
            (group, {k: resolve(a, sizes, call) for k, a in group[0].attrs}, gone)
            for group, gone in zip(together.values(), dropped, strict=True)
        ]

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        known: dict[Value, Any] = dict(zip(self.function.params, arrays, strict=True))
        for values, attrs, gone in self._steps:
            results = self._call(values, tuple([known[a] for a in values[0].args]), attrs)
            known.update(zip(values, results, strict=True))
            for value in gone:
                known.pop(value, None)
        return tuple([known[r] for r in self.function.results])

    def shape(self, result: int) -> tuple[int, ...]:
        """The shape of a result, in numbers."""
        return tuple([evaluate(s, self.sizes) for s in self.function.results[result].type.shape])


def resolve(attribute: Any, sizes: Mapping[str, int], call: Call = evaluated) -> Any:
    """An attribute with every size a number and every Function a `Program`."""
    if isinstance(attribute, tuple):
        return tuple([resolve(a, sizes, call) for a in attribute])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(attribute, Function):
        return Program(attribute, sizes, call)
    return evaluate(attribute, sizes) if isinstance(attribute, Dim) else attribute
