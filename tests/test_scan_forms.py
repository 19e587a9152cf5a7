"""How loops are written: recurrences in text and LaTeX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

n, m, h = sd.dims("n m h")
W, b, h0 = sd.symbol("W", (h, h)), sd.symbol("b", (h,)), sd.symbol("h0", (h,))
x, a, A = sd.symbol("x", (n, h)), sd.symbol("a", (n,)), sd.symbol("A", (n, m))


def test_a_recurrence() -> None:
    last, ys = sd.scan(lambda s, v: (np.tanh(W @ s + v + b), np.sum(s * s)), h0, x)
    assert str(np.sum(last) + np.sum(ys)).splitlines() == [
        "Σ(sₙ) + Σ(y)",
        "where s₀ = h0",
        "      sₜ₊₁ = tanh(W sₜ + xₜ + b)",
        "      yₜ = sₜᵀ sₜ,  t = 0, …, n - 1",
    ]
    assert last.latex().splitlines()[1:-1] == [
        r"& s_{n} \\",
        r"& \text{where}\quad s_{0} = h_{0} \\",
        r"& \phantom{\text{where}}\quad s_{t+1} = \tanh(W s_{t} + x_{t} + b),\quad t = 0, \dots, n - 1",
    ]


def test_back_propagation_through_time() -> None:
    last, _ = sd.scan(lambda s, v: (np.tanh(W @ s + v), None), h0, x)
    assert str(sd.gradient(np.sum(last**2), W)).splitlines() == [
        "W̄₀",
        "where s₀ = h0",
        "      sₜ₊₁ = tanh(xₜ + W sₜ),  t = 0, …, n - 1",
        "      s̄ₙ = 2 sₙ",
        "      s̄ₜ = Wᵀ (s̄ₜ₊₁ ⊙ (1 - sₜ₊₁²))",
        "      W̄ₙ = 0",
        "      W̄ₜ = W̄ₜ₊₁ + (s̄ₜ₊₁ ⊙ (1 - sₜ₊₁²)) sₜᵀ,  t = n - 1, …, 0",
    ]


def test_reversed_and_computed_slices() -> None:
    _, ys = sd.scan(lambda s, v: (s * v, s), 1.0, a + 2, reverse=True)
    assert str(ys).splitlines() == [
        "y", "where v = a + 2", "      sₙ = 1", "      sₜ = sₜ₊₁ vₜ", "      yₜ = sₜ₊₁,  t = n - 1, …, 0",
    ]  # fmt: skip


def test_a_loop_in_a_loop() -> None:
    def row(s: Any, r: Any) -> Any:
        return s + sd.scan(lambda q, z: (q * z, None), s, r)[0], None

    assert sd.scan(row, 0.0, A)[0].latex().splitlines()[1:-1] == [
        r"& s_{n} \\",
        r"& \text{where}\quad s_{0} = 0 \\",
        r"& \phantom{\text{where}}\quad s_{t+1} = s_{t} + q_{m},\quad t = 0, \dots, n - 1 \\",
        r"& \phantom{\text{where}}\quad q_{0} = s_{t} \\",
        r"& \phantom{\text{where}}\quad q_{u+1} = q_{u} A_{t,u},\quad u = 0, \dots, m - 1",
    ]


def test_names_are_told_apart() -> None:
    s = sd.symbol("s")
    one, _ = sd.scan(lambda s_, v: (s_ * v * s, None), 1.0, a)
    two, _ = sd.scan(lambda s_, v: (s_ + v, None), one, a)
    lines = str(one + two).splitlines()
    assert len({line.split("=")[0].removeprefix("where") for line in lines[1:]}) == len(lines) - 1


@pytest.mark.parametrize("target", ["sympy", "c", "julia"])
def test_targets_without_loops_refuse(target: str) -> None:
    last, _ = sd.scan(lambda s, v: (s * v, None), 1.0, a)
    with pytest.raises(sd.UnsupportedError, match="scan"):
        last.source(target)
    with pytest.raises(sd.UnsupportedError, match="scan"):
        last.to_sympy()


def test_numpy_source_runs() -> None:
    def row(s: Any, r: Any) -> Any:
        inner, seen = sd.scan(lambda q, z: (np.sin(q * z) + s @ b, q), np.sum(s), r, reverse=True)
        return np.tanh(W @ s) * inner, np.sum(seen)

    last, ys = sd.scan(row, 2 * h0, A)
    f = np.sum(last**2) + np.sum(ys)
    rng = np.random.default_rng(0)
    at = {"W": rng.normal(size=(3, 3)), "b": rng.normal(size=3), "h0": rng.normal(size=3), "A": rng.normal(size=(4, 2))}
    for expression in (f, last, ys, sd.gradient(f, W), sd.gradient(f, A)):
        text = expression.source("numpy")
        known: dict[str, Any] = {}
        exec(text, known)
        got = known["f"](*[at[s.value.name] for s in expression.symbols()])
        np.testing.assert_allclose(got, expression.evaluate(at), rtol=1e-12)
        assert text.count("def scan(") == 1


def test_jax_source_is_a_scan() -> None:
    last, _ = sd.scan(lambda s, v: (s * v, None), 1, a)
    assert last.source("jax").splitlines()[-6:] == [
        "def f(a):",
        "    n = a.shape[0]",
        "    given = f_given()",
        "    found = scan(lambda *args: (f_step(*args),), (jnp.asarray(given, float),), (a,), (), n, False)",
        "    looped = found[0]",
        "    return looped",
    ]
    assert "jax.lax.scan(one, carry, xs, length, reverse)" in last.source("jax")


def test_a_drawing_shows_one_node() -> None:
    last, _ = sd.scan(lambda s, v: (s * v, None), 1.0, a)
    assert sd.draw(last, wrt=a).svg().startswith("<svg")


def test_conditions_hold_in_every_step() -> None:
    last, _ = sd.scan(lambda s, v: (s + sd.relu(v) * np.sqrt(s), None), 1.0, a)
    assert sd.gradient(last, a).conditions() == ["s_t >= 0", "s_t > 0", "a_t != 0"]
    assert sd.gradient(last, a).conditions(latex=True)[0] == r"s_{t} \ge 0"


def test_parts_of_symbols_stand_where_they_are_used() -> None:
    w = sd.symbol("w", (2,))
    last, _ = sd.scan(lambda s, v: (w[0] * s + w[1] * v, None), 0.0, a)
    assert str(last).splitlines()[2] == "      sₜ₊₁ = w[0] sₜ + w[1] aₜ,  t = 0, …, n - 1"
    assert r"s_{t+1} = w_{0} s_{t} + w_{1} a_{t}" in last.latex()


def test_an_index_is_no_carry() -> None:
    one, _ = sd.scan(lambda t, v: (t * v, None), 1.0, a)
    assert str(one).splitlines() == ["tₙ", "where t₀ = 1", "      tₛ₊₁ = tₛ aₛ,  s = 0, …, n - 1"]
