"""Arguments that stay Python values: what a program remembers of them, and whether others are the same."""

from __future__ import annotations

from typing import Any

import numpy as np


def snapshot(value: Any) -> Any:
    """A copy of arrays, lists, dicts and sets, which may change in place, also within tuples; other values as they
    are."""
    if isinstance(value, np.ndarray):
        return value.copy()
    kind: Any = type(value)
    if kind in (list, tuple):
        return kind([snapshot(item) for item in value])
    if kind is dict:
        return {key: snapshot(item) for key, item in value.items()}
    return set(value) if kind is set else value


def same(value: Any, known: Any) -> bool:
    """Whether a value is what a snapshot was taken of. Numbers and arrays bit for bit: zeros have signs, and NaN is the
    same as itself."""
    if value is known:
        return True
    kind: Any = type(value)
    if kind is not type(known):
        return False
    if isinstance(value, np.ndarray):
        if value.dtype != known.dtype or value.shape != known.shape:
            return False
        return same(value.tolist(), known.tolist()) if value.dtype.hasobject else value.tobytes() == known.tobytes()
    if kind in (list, tuple):
        return len(value) == len(known) and all(map(same, value, known))
    if kind is dict:  # in the same order, which a function may follow
        return list(value) == list(known) and all(map(same, value.values(), known.values()))
    if isinstance(value, float):
        return value.hex() == known.hex()
    return bool(value == known)
