"""Sparse derivatives through loops: patterns by steps and by rounds, and numbers against dense derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from oracle import run
from strategies import Program, examples, programs

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.diff import jacobians
from symdiff.interp import interpret
from symdiff.ir.dims import evaluate, product
from symdiff.sparsity import pattern

NP: Any = np
n, T = sd.dims("n T")
u, q, c = sd.symbol("u", (n,)), sd.symbol("q", (T, n)), sd.symbol("c")


def dense(y: Any, x: Any, **sizes: int) -> Any:
    """A pattern as a matrix."""
    function = function_of([y], [x, *[s for s in y.symbols() if s.value is not x.value]])
    rows, columns = pattern(function, 0, 0, sizes)
    found = np.zeros([evaluate(product(v.type.shape), sizes) for v in (y.value, x.value)], bool)
    found[rows, columns] = True
    return found


def heat(v: Any, source: Any) -> Any:
    return v[1:-1] + c * (v[2:] - 2 * v[1:-1] + v[:-2]) + source[1:-1] * v[1:-1] ** 2


def diffusion() -> Any:
    return sd.scan(lambda v, s: (NP.concatenate([v[:1], heat(v, s), v[-1:]]), v), u, q)


@examples(60)
@given(programs(max_steps=3, last="scan"))
@pytest.mark.parametrize("budget", [20_000, -1])
def test_patterns_of_random_loops_hold_every_nonzero(budget: int, program: Program) -> None:
    """Followed step by step, and with all steps taken together."""
    f, builder = program.function, program.builder
    value = interpret(f, program.args, program.sizes)[0]
    assume(value.size * sum(np.size(a) for a in program.args) <= 300)
    wanted = run(f.params, jacobians(builder, [f.results[0]], f.params)[0], program.args, sizes=program.sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("symdiff.sparsity.structure._BUDGET", budget)
        for i, want in enumerate(wanted):
            rows, columns = pattern(f, 0, i, program.sizes)
            found = np.zeros((value.size, np.size(program.args[i])), bool)
            found[rows, columns] = True
            assert not np.any((want.reshape(found.shape) != 0) & ~found), f.params[i].name


def test_bands_widen_by_one_step_at_a_time() -> None:
    last, seen = diffusion()
    band = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 3
    band[0, 1:] = band[-1, :-1] = False
    np.testing.assert_array_equal(dense(last, u, n=12, T=3), band)
    by_source = dense(last, q, n=12, T=3).reshape(12, 3, 12)
    for t in range(3):
        near = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 2 - t
        near[[0, -1]], near[:, [0, -1]] = False, False
        np.testing.assert_array_equal(by_source[:, t], near)
    stacked = dense(seen, q, n=8, T=4).reshape(4, 8, 4, 8)
    for t in range(4):
        assert not stacked[t, :, t:].any() and (t == 0 or stacked[t, :, t - 1].any())


def test_elementwise_carries_stay_elementwise_over_any_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    last, seen = sd.scan(lambda h, a: (NP.tanh(h * c + a), h * a), u, q)
    for budget in (20_000, -1):
        monkeypatch.setattr("symdiff.sparsity.structure._BUDGET", budget)
        by_source = dense(last, q, n=3, T=50).reshape(3, 50, 3)
        np.testing.assert_array_equal(by_source, np.eye(3)[:, None] * np.ones((50, 1)))
        by_start = dense(seen, u, n=3, T=50).reshape(50, 3, 3)
        np.testing.assert_array_equal(by_start, np.broadcast_to(np.eye(3), (50, 3, 3)))
    long = sd.sparse_jacobian(last, [u, q], [u, q, c]).pattern({"n": 3, "T": 100_000})
    assert long.nnz == 3 * (100_000 + 1)


def test_loops_in_loops_and_indices_that_count_steps() -> None:
    """An inner loop over the elements, and a step that writes to the place of its number."""
    def outer(state: Any, row: Any) -> Any:
        total, _ = sd.scan(lambda s, v: (s + v[0] * v[1], None), 0.0, (state, row))
        return state * row, total

    _, totals = sd.scan(outer, u, q)
    found = dense(totals, q, n=3, T=4).reshape(4, 4, 3)
    np.testing.assert_array_equal(found, np.tri(4)[:, :, None] * np.ones(3))
    placed, _ = sd.scan(
        lambda s, _: ((s[0] + 1, sd.set(s[1], s[0], u[s[0]] * s[1][s[0]])), None), (0, 1.0 * u), length=3
    )
    np.testing.assert_array_equal(dense(placed[1], u, n=5), np.eye(5))


def test_sets_are_dropped_inside_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    last, seen = diffusion()
    _, totals = sd.scan(lambda s, row: (s * row, sd.scan(lambda a, v: (a * v, a + v), 1.0, s)[1]), u, q)
    for y in (last, seen, totals):
        want = dense(y, u, n=7, T=5)
        with monkeypatch.context() as patch:
            patch.setattr("symdiff.sparsity.structure._PILE", 5)
            np.testing.assert_array_equal(dense(y, u, n=7, T=5), want)



def test_what_rounds_found_outlasts_steps_that_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps drop sets before there are too many of them."""
    for y in diffusion():
        for x in (u, q):
            with monkeypatch.context() as patch:
                patch.setattr("symdiff.sparsity.structure._BUDGET", -1)
                want = dense(y, x, n=7, T=5)
            with monkeypatch.context() as patch:
                patch.setattr("symdiff.sparsity.structure._PILE", -200)
                patch.setattr("symdiff.sparsity.loops.GROWTH", 0)
                np.testing.assert_array_equal(dense(y, x, n=7, T=5), want)


def test_values_of_sparse_jacobians_and_hessians() -> None:
    """Native code against dense derivatives: vectors carried, by bands, elementwise and in loops in loops."""
    rng = np.random.default_rng(2)
    last, seen = diffusion()

    def outer(state: Any, row: Any) -> Any:
        inner, _ = sd.scan(lambda s, a: (NP.sin(s * a + c), None), state, row)
        return inner * c, NP.sum(inner**3)

    rows = sd.symbol("rows", (T, 2, n))
    ends, sums = sd.scan(outer, u, rows)
    for y, x, second, most in (
        (last, u, False, 8 * 7), (seen, q, False, 24 * 24 // 2), (NP.sum(last**3), u, True, 64), (ends, u, False, 8),
        (NP.sum(sums) + NP.sum(NP.cos(ends)), u, True, 8),
    ):  # fmt: skip
        inputs = [x, *[s for s in y.symbols() if s.value is not x.value]]
        shapes = {"u": (8,), "q": (3, 8), "c": (), "rows": (3, 2, 8)}
        at = [0.4 * rng.normal(size=shapes[s.value.name]) for s in inputs]
        made = sd.sparse_hessian(y, x, inputs) if second else sd.sparse_jacobian(y, x, inputs)
        found = made(*at)
        want = sd.compile(sd.hessian(y, x) if second else sd.jacobian(y, x), inputs)(*at)
        np.testing.assert_allclose(found.toarray(), np.reshape(want, found.shape), rtol=1e-9, atol=1e-12)
        assert found.nnz <= most
