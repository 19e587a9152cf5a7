"""What callers give is read in one place: numbers of arguments, functions, sizes of dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from symdiff.errors import ArgumentError, integer
from symdiff.ir.dims import Dim


def argument_numbers(given: Any, where: str, name: str = "argnums") -> int | tuple[int, ...]:
    """An integer, or a tuple for a sequence of them; raises ArgumentError for anything else."""
    items: Any = given if isinstance(given, (tuple, list, range)) else (given,)
    numbers: list[int] = []
    for item in items:
        number = integer(item)
        if number is None:
            raise ArgumentError(f"{where}: {name}={given!r}, expected an integer or a tuple of integers")
        numbers.append(number)
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


def by_dimension(given: Any, where: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """A mapping whose keys are dimensions or their names, by name; None gives an empty one.

    known: the only names there are. Raises ArgumentError for anything else.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ArgumentError(f'{where}: sizes={given!r}, expected a mapping such as {{"n": 100}}')
    items: Any = given.items()  # pyright: ignore[reportUnknownVariableType]
    names = None if known is None else sorted(known)
    found: dict[str, Any] = {}
    for key, value in items:
        name = str(key) if isinstance(key, Dim) and str(key) in key.names else key
        if not isinstance(name, str):
            raise ArgumentError(f"{where}: sizes has the key {name!r}, expected the name of a dimension")
        if names is not None and name not in names:
            shown = ", ".join(names) or "none"
            raise ArgumentError(f"{where}: sizes has the key {name!r}, expected dimensions; there are: {shown}")
        if name in found:
            raise ArgumentError(f"{where}: sizes gives {name} twice, by the dimension and by its name")
        found[name] = value
    return found


def sizes_given(given: Any, where: str, least: int = 0) -> dict[str, int]:
    """One number, at least `least`, per dimension; raises ArgumentError for anything else."""
    found = by_dimension(given, where)
    for name, size in found.items():
        if not is_size(size, least):
            expected = "a positive integer" if least else "an integer, at least 0"
            raise ArgumentError(f"{where}: sizes: {name} = {size!r}, expected {expected}")
    return {name: int(size) for name, size in found.items()}


def is_size(number: Any, least: int) -> bool:
    """Whether this is an integer, Python's or NumPy's, and at least so large."""
    read = integer(number)
    return read is not None and read >= least
