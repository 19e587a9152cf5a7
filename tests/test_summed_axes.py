"""Simplification of sums over axes that some factor, or none, is merely broadcast along: every axis counts its size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.interp import interpret
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.simplify import simplify

m, n = named("m"), named("n")


def summed_program(seed: int, rows: Any, columns: Any) -> tuple[Any, list[Any]]:
    """Sums and products of sums over axes that some factors are merely broadcast along."""
    rng = np.random.default_rng(seed)
    u, v = sd.symbol("u", (rows,)), sd.symbol("v", (columns,))
    A, s = sd.symbol("A", (rows, columns)), sd.symbol("s")
    pools: list[list[Any]] = [[u], [v], [A], [s]]
    wide = (rows, columns)
    for _ in range(3):
        a, b, C, t = [pool[int(rng.integers(len(pool)))] for pool in pools]
        flat = [np.broadcast_to(b - t, wide), np.broadcast_to(a[:, np.newaxis] - 1, wide), C - t, C * b]
        D = flat[int(rng.integers(len(flat)))]
        pools[0].append([np.sum(D, axis=1), a - np.sum(b), D @ b][int(rng.integers(3))])
        pools[1].append([np.sum(D, axis=0), b - np.sum(a), a @ D][int(rng.integers(3))])
        pools[2].append(D * 0.5)
        pools[3].append([np.sum(D), np.sum(a - t), a @ D @ b][int(rng.integers(3))])
    return (u, v, A, s), [pool[-1] for pool in pools]


@pytest.mark.parametrize("sizes", [(3, 2), (0, 2), (m, n), (m, 0)], ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_axes_that_nothing_has_count_their_size(seed: int, sizes: tuple[Any, Any]) -> None:
    given, results = summed_program(seed, *sizes)
    function = Function.of([p.value for p in given], [e.value for e in results])
    known = {"m": 4, "n": 3}
    rng = np.random.default_rng(seed + 100)
    args = [rng.normal(size=[known.get(str(k), k) for k in p.shape]) for p in function.params]
    shorter = simplify(function, OPSET)
    for want, got in zip(interpret(function, args, known), interpret(shorter, args, known), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * (1 + np.max(np.abs(want), initial=0)))


def test_a_sum_summed_over_an_axis_it_has_not() -> None:
    h = sd.symbol("h", (3,))
    assert str(sd.simplify(np.sum(np.broadcast_to(h - 1, (5, 3)), axis=0))) == "5 (h - 1)"
    assert str(sd.simplify(np.sum(np.broadcast_to(h - 1, (0, 3)), axis=0))) == "0"
