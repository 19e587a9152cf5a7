"""Numbers and arrays in a few characters: small arrays whole, large ones by shape and norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LONGEST = 28
_ON_WIRE = 14


def number_text(number: Any, digits: int = 4) -> str:
    """One number: `3`, `-0.1966`, `True`, `1.2e-05`."""
    value = np.asarray(number)[()]
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (complex, np.complexfloating)):
        return f"{complex(value):.{digits}g}"
    return f"{float(value) + 0.0:.{digits}g}"


def array_text(array: Any, digits: int = 4) -> str:
    """An array whole if it is short, else its shape and Euclidean norm (of booleans, how many are true)."""
    x = np.asarray(array)
    if not x.ndim:
        return number_text(x, digits)
    if x.size <= 12 and x.ndim <= 2:
        rows = [x] if x.ndim == 1 else list(x)
        parts = [f"[{', '.join(number_text(v, digits) for v in row)}]" for row in rows]
        text = parts[0] if x.ndim == 1 else f"[{', '.join(parts)}]"
        if len(text) <= _LONGEST:
            return text
    shape = "×".join(str(s) for s in x.shape)
    if x.dtype == np.bool_:
        return f"{shape}, {int(x.sum())} true"
    return f"{shape}, {_norm_text(x, digits)}"


def _norm_text(array: Any, digits: int) -> str:
    x = np.asarray(array)
    with np.errstate(all="ignore"):
        norm = np.linalg.norm(np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64).ravel())
    return f"norm {number_text(norm, digits)}"


def wire_text(array: Any, digits: int = 4) -> str:
    """For a wire that shows the shape already: a short array whole, else its norm."""
    text = array_text(array, digits)
    if not np.ndim(array) or (text.startswith("[") and len(text) <= _ON_WIRE):
        return text
    return _norm_text(array, digits)


def diagonal_text(array: Any, digits: int = 4) -> str:
    """A diagonal matrix by its diagonal: I, -I, 2 I, diag [1, 2]; a scalar is itself."""
    x = np.asarray(array)
    if not x.ndim:
        return number_text(x, digits)
    if x.size and np.all(x == x.flat[0]):
        return multiple_of_identity(x.flat[0], digits)
    return "diag " + array_text(x, digits)


def multiple_of_identity(number: Any, digits: int = 4) -> str:
    """`I`, `-I`, `2 I`, and 0 for the zero matrix."""
    if number in (0, 1, -1):
        return {0: "0", 1: "I", -1: "-I"}[int(number)]
    return f"{number_text(number, digits)} I"


def sum_text(terms: Sequence[Any], digits: int = 4) -> str:
    """Numbers as a sum: `2 + 3`, `4 - 1`."""
    text = number_text(terms[0], digits)
    for term in terms[1:]:
        shown = number_text(term, digits)
        text += f" - {shown[1:]}" if shown.startswith("-") else f" + {shown}"
    return text
