"""What callers give is read in one place: numbers of arguments, and functions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from symdiff.errors import ArgumentError


def argument_numbers(given: Any, where: str, name: str = "argnums") -> int | tuple[int, ...]:
    """An integer, or a tuple for a sequence of them; raises ArgumentError for anything else."""
    items: Any = given if isinstance(given, (tuple, list, range)) else (given,)
    numbers: list[int] = []
    for item in items:
        try:
            if isinstance(item, bool):  # an int, but hardly meant as one
                raise TypeError
            numbers.append(operator.index(item))
        except TypeError:
            raise ArgumentError(f"{where}: {name}={given!r}, expected an integer or a tuple of integers") from None
    return tuple(numbers) if items is given else numbers[0]


def positions(numbers: int | Sequence[int], count: int, where: str, name: str = "argnums") -> tuple[int, ...]:
    """Argument numbers, counted from the end when negative, as positions among `count` arguments."""
    wanted = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    for i in wanted:
        if not -count <= i < count:
            raise ArgumentError(f"{where}: {name} {i} for {count} arguments")
    return tuple([i % count for i in wanted])


def function_given(given: Any, where: str, instead: str) -> Callable[..., Any]:
    """A Python function; raises ArgumentError for anything else. instead: what to do with an expression."""
    if not callable(given):
        hint = f"; {instead}" if hasattr(given, "__array_ufunc__") and hasattr(given, "value") else ""
        raise ArgumentError(f"{where}: given {given!r}, expected a Python function over NumPy{hint}")
    return given
