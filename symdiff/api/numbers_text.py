"""Numbers and arrays in a few characters: small arrays whole, large ones by shape and norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LONGEST = 34


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
    with np.errstate(all="ignore"):
        norm = np.linalg.norm(np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64).ravel())
    return f"{shape}, norm {number_text(norm, digits)}"


def diagonal_text(array: Any, digits: int = 4) -> str:
    """A diagonal matrix by its diagonal: I, -I, 2 I, diag [1, 2]; a scalar is itself."""
    x = np.asarray(array)
    if not x.ndim:
        return number_text(x, digits)
    if x.size and np.all(x == x.flat[0]):
        number = number_text(x.flat[0], digits)
        return {"1": "I", "-1": "-I", "0": "0"}.get(number, f"{number} I")
    return "diag " + array_text(x, digits)


def sum_text(terms: Sequence[Any], digits: int = 4) -> str:
    """Numbers as a sum: `2 + 3`, `4 - 1`."""
    text = number_text(terms[0], digits)
    for term in terms[1:]:
        shown = number_text(term, digits)
        text += f" - {shown[1:]}" if shown.startswith("-") else f" + {shown}"
    return text
