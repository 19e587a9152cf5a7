"""One exception family. Every message says what was given, what was expected and where."""

from __future__ import annotations

import operator
from typing import Any


class SymdiffError(Exception):
    """Base of every error symdiff raises on purpose."""


class ShapeError(SymdiffError, ValueError):
    """Shapes or dimensions that do not fit together."""


class DtypeError(SymdiffError, TypeError):
    """An element type that an operation does not take."""


class ArgumentError(SymdiffError, ValueError):
    """A wrong name, count or value of an argument."""


class UnsupportedError(SymdiffError, TypeError):
    """A NumPy function, index or option that symbols do not answer."""


class UnsupportedAttributeError(UnsupportedError, AttributeError):
    """An attribute that arrays have and expressions have not."""


class SymbolicSizeError(SymdiffError, TypeError):
    """A number was needed where a dimension has only a name."""


class DerivativeError(SymdiffError, ValueError):
    """A derivative that does not exist or is not known: refused, never zero."""


class EvaluationError(SymdiffError, ArithmeticError):
    """A program cannot be run on the given values (singular matrix, index out of range, undefined function)."""


class VerifyError(SymdiffError):
    """A malformed program; the message shows the program around the fault."""


class ParseError(SymdiffError, ValueError):
    """Malformed text. The message ends with the line at fault and a caret under the column."""

    def __init__(self, message: str, text: str = "", position: int = 0) -> None:
        self.text = text
        self.position = position
        super().__init__(message + caret(text, position) if text else message)


def integer(value: Any) -> int | None:
    """What users give as an integer, NumPy's among them; None for anything else, truth values among it."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def at_least_one(value: Any, where: str) -> int:
    """A number of things as users give it; `where` begins the message if it is none."""
    number = integer(value)
    if number is None or number < 1:
        raise ArgumentError(f"{where}: given {value!r}, expected a whole number, at least 1")
    return number


def caret(text: str, position: int) -> str:
    """Return the line of `text` that holds `position`, with a caret under it, ready to append to a message.

    Of a long line only the part around the position is shown.
    """
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start:] if end < 0 else text[start:end]
    column = position - start
    if len(line) > 2 * _REACH:
        first, last = max(0, column - _REACH), min(len(line), column + _REACH)
        before, after = "..." if first else "", "..." if last < len(line) else ""
        line, column = before + line[first:last] + after, column - first + len(before)
    # Tabs stay tabs under the line, so that the caret keeps its place.
    pad = "".join("\t" if c == "\t" else " " for c in line[:column].ljust(column))
    return f"\n  {line}\n  {pad}^"


# How much of a long line is shown on either side of a caret.
_REACH = 60
