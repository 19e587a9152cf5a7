"""Random points that satisfy the declared facts, for checks and measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import NUMPY_TYPES


def distinct_sizes(function: Function, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """A size for every dimension: the given ones, the others all different, so that no transposed axis goes unseen."""
    sizes = dict(given or {})
    spare = (k for k in range(3, 100_000) if k not in sizes.values())
    for name in sorted(function.dims):
        if name not in sizes:
            sizes[name] = next(spare)
    return sizes


def random_arguments(params: Sequence[Value], sizes: Mapping[str, int], rng: np.random.Generator) -> list[Any]:
    """One array per parameter, of its dtype and shape, satisfying its facts."""
    return [_draw(p, tuple(evaluate(s, sizes) for s in p.type.shape), rng) for p in params]


def _draw(param: Value, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    dtype, facts = param.type.dtype, param.type.facts
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype == "i64":
        return rng.integers(0, 2, shape)
    # Entries first: what is made of positive ones below stays positive.
    positive = bool(facts & {"positive", "nonnegative"})
    x: Any = rng.uniform(0.5, 2.0, shape) if positive else rng.standard_normal(shape)
    if "positive_definite" in facts:
        x = x @ x.T / max(shape[0], 1) + np.eye(shape[0])
    elif "symmetric" in facts:
        x = x + x.T
    elif "orthogonal" in facts:
        x = np.linalg.qr(x)[0]
    if "diagonal" in facts:
        x = x * np.eye(shape[0])
    if "lower" in facts:
        x = np.tril(x) + 2 * np.eye(shape[0])
    if "upper" in facts:
        x = np.triu(x) + 2 * np.eye(shape[0])
    if "nonzero" in facts and not positive:
        x = np.where(np.abs(x) < 0.3, 0.5, x)
    return np.asarray(x, NUMPY_TYPES[dtype])
