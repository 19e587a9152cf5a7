"""Modules of others that are imported when they are first used, not when symdiff is.

Half of the time that importing symdiff would take goes to SymPy and parts of SciPy that most programs never reach.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from symdiff.errors import ArgumentError
from symdiff.process import LOADING


def later(name: str) -> Any:
    """A stand-in for the module `name`: `sp = later("sympy")`, then `sp.sin` imports it."""
    if name.split(".")[0] in ("symdiff", "codegen"):
        raise ArgumentError(f"later: {name} is imported where it is needed, at the head of a file")
    return _Later(name)


class _Later:
    """Passes every attribute on to a module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        with LOADING:
            value = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = value
        return value

    def __repr__(self) -> str:
        return f"<{self._name}, imported at its first use>"
