"""How loops are written: recurrences in text and LaTeX."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.render.targets import code

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
        "      s̄ₙ = 2 sₙ,  W̄ₙ = 0",
        "      vₜ = s̄ₜ₊₁ ⊙ (1 - sₜ₊₁²)",
        "      s̄ₜ = Wᵀ vₜ",
        "      W̄ₜ = W̄ₜ₊₁ + vₜ sₜᵀ,  t = n - 1, …, 0",
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


@pytest.mark.parametrize("target", ["numpy", "torch"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_source_keeps_shapes_and_dtypes_without_a_single_step(target: str, steps: int) -> None:
    module: Any = np if target == "numpy" else pytest.importorskip("torch")
    single = sd.symbol("single", (h,), "f32")
    counts = sd.symbol("counts", (n, m), "i64")

    def step(carry: Any, row: Any) -> Any:
        s, k, c = carry
        return (np.tanh(W @ s + b), k + np.sum(row), np.cos(c)), (np.outer(s, b), row * 2, c, s[0] > 0)

    (s, _, _), ys = sd.scan(step, (h0, 0, single), counts, reverse=True)
    f = np.sum(s**2) + np.sum(ys[0])
    rng = np.random.default_rng(0)
    at: dict[str, Any] = {
        "W": rng.normal(size=(2, 2)), "b": rng.normal(size=2), "h0": rng.normal(size=2),
        "single": rng.normal(size=2).astype(np.float32), "counts": rng.integers(0, 9, (steps, 4)),
    }  # fmt: skip
    for expression in (*ys, s, sd.gradient(f, W), sd.gradient(f, h0)):
        known: dict[str, Any] = {}
        exec(expression.source(target), known)
        given = [at[e.value.name] for e in expression.symbols()]
        got = np.asarray(known["f"](*([module.asarray(g) for g in given] if target == "torch" else given)))
        want = np.asarray(expression.evaluate(at))
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)


MADE_UP = ("scan", "found", "looped", "given", "result", "f_step", "f_step2", "f_result", "f_given", "looped2")


def named_as_source_names() -> Any:
    """Loops in loops whose symbols, steps and dimension have the names that source makes up by itself."""
    size = sd.dim("found3")
    symbols = {name: sd.symbol(name, (size,) if name in ("found", "given") else ()) for name in MADE_UP}
    scan, found, given = symbols["scan"], symbols["found"], symbols["given"]

    def inner(looped: Any, found: Any) -> Any:
        return np.tanh(looped * scan + found * symbols["result"]), looped * size

    def step(scan2: Any, args: Any) -> Any:
        last, seen = sd.scan(inner, scan2 * symbols["f_step"], given)
        return last + args, np.sum(seen) * symbols["f_step2"]

    last, ys = sd.scan(step, symbols["looped"] * 2, found * symbols["f_given"])
    other, _ = sd.scan(lambda result, f: (result * f + symbols["looped2"], None), last, ys)
    return other * symbols["f_result"] + np.sum(ys)


def test_names_that_are_made_up_are_nobodys() -> None:
    f = named_as_source_names()
    rng = np.random.default_rng(1)
    for expression in (f, sd.gradient(f, f.symbols()[0]), sd.gradient(f, f.symbols()[3])):
        at = {s.value.name: rng.normal(size=(4,) if s.value.shape else ()) for s in expression.symbols()}
        known: dict[str, Any] = {}
        exec(code(expression.function(), "numpy", "scan"), known)
        got = known["scan"](*[at[s.value.name] for s in expression.symbols()])
        np.testing.assert_allclose(got, expression.evaluate(at), rtol=1e-12)


@pytest.mark.parametrize("target", ["numpy", "jax", "torch"])
def test_no_function_calls_what_it_has_a_local_name_for(target: str) -> None:
    tree = ast.parse(named_as_source_names().source(target))
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        own = [arg.arg for arg in function.args.args]
        stored = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        if function.name.startswith("f"):
            assert not set(own) & set(stored), ast.unparse(function)
            called = {n.func.id for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
            assert not called & {*own, *stored}, ast.unparse(function)


def test_source_with_the_name_of_a_module_is_refused() -> None:
    for target, name in (("numpy", "np"), ("jax", "jnp"), ("torch", "torch")):
        s = sd.symbol(name)
        last, _ = sd.scan(lambda c, v, s=s: (c * v + s, None), 1.0, a)
        with pytest.raises(sd.ArgumentError, match=f"{name} has the name of a module"):
            last.source(target)
    g = sd.function("scan")
    last, _ = sd.scan(lambda c, v: (g(c * v), None), 1.0, a)
    assert "scan2(" in last.source("numpy") and "return scan(" in last.source("numpy")


def test_jax_source_is_a_scan() -> None:
    last, _ = sd.scan(lambda s, v: (s * v, None), 1, a)
    assert last.source("jax").splitlines()[-6:] == [
        "def f(a):",
        "    n = a.shape[0]",
        "    given = f_given()",
        "    found = scan(lambda *args: (f_step(*args),), (jnp.asarray(given, float),), (a,), (), n, False, ())",
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


def test_gates_are_named_once_and_their_cotangents_stand_on_each_other() -> None:
    gates, bias = sd.symbol("U", (2 * h, h)), sd.symbol("g", (2 * h,))

    def step(s: Any, v: Any) -> Any:
        z = gates @ s[0] + bias
        c = sd.sigmoid(z[:h]) * s[1] + v
        return (np.tanh(z[h:]) * c, c), None

    (last, _), _ = sd.scan(step, (h0, h0), x)
    assert str(sd.gradient(np.sum(last), bias)).splitlines() == [
        "ḡ₀",
        "where s₀[0] = h0,  s₁[0] = h0",
        "      rₜ = g + U s₀[t]",
        "      s₁[t+1] = xₜ + s₁[t] ⊙ σ(rₜ[0…h - 1])",
        "      s₀[t+1] = tanh(rₜ[h…2 h - 1]) ⊙ s₁[t+1],  t = 0, …, n - 1",
        "      s̄₀[n] = 𝟏,  s̄₁[n] = 0,  ḡₙ = 0",
        "      pₜ = σ(rₜ[0…h - 1])",
        "      aₜ = tanh(rₜ[h…2 h - 1])",
        "      eₜ = s̄₁[t+1] + s̄₀[t+1] ⊙ aₜ",
        "      vₜ = [s₁[t] ⊙ pₜ ⊙ (1 - pₜ) ⊙ eₜ; s₁[t+1] ⊙ s̄₀[t+1] ⊙ (1 - aₜ²)]",
        "      s̄₀[t] = Uᵀ vₜ",
        "      s̄₁[t] = pₜ ⊙ eₜ",
        "      ḡₜ = ḡₜ₊₁ + vₜ,  t = n - 1, …, 0",
    ]


def test_a_carry_that_only_the_last_step_leaves_unread_has_no_mask() -> None:
    def step(s: Any, v: Any) -> Any:
        mean, spread = s
        return (mean + spread / (spread + 1) * (v - mean), 1 / (spread + 1)), (v - mean) ** 2 / (spread + 1)

    _, errors = sd.scan(step, (0.0, 1.0), a)
    gradient = sd.gradient(np.sum(errors), a)
    assert "dead" not in str(gradient) and "false" not in str(gradient)
    assert r"\begin{cases}" not in gradient.latex()


def test_a_mask_of_a_branch_stays_and_has_one_subscript() -> None:
    def step(s: Any, v: Any) -> Any:
        root = np.sqrt(np.where(s[0] > 0, s[0], 1))
        return (np.where(s[0] > 0, root, s[1]), s[0] * s[1] + v), s[0]

    (last, _), firsts = sd.scan(step, (1.0, 0.5), a)
    text = sd.gradient(last + np.sum(firsts), a).latex()
    assert r"s_{1,\mathrm{dead},n} = \text{true}" in text
    assert r"s_{1,\mathrm{dead},t} = s_{1,\mathrm{dead},t+1} \wedge" in text


def test_sums_over_inner_axes_are_written_with_their_index() -> None:
    q, v, dt = sd.symbol("q", (n, m)), sd.symbol("v", (n, m)), sd.symbol("dt")

    def step(s: Any, _: Any) -> Any:
        r = s[0][:, None, :] - s[0][None, :, :]
        pull = np.sum(r / (1 + np.sum(r**2, axis=2, keepdims=True)), axis=1)
        return (s[0] + dt * s[1], s[1] - dt * pull), None

    (last, _), _ = sd.scan(step, (q, v), None, length=3)
    assert str(last).splitlines() == [
        "s₀[3]",
        "where s₀[0] = q,  s₁[0] = v",
        "      s₀[t+1] = s₀[t] + dt s₁[t]",
        "      s₁[t+1] = s₁[t] - [Σₖ dt/(1 + Σₗ (s₀[t]ᵢₗ - s₀[t]ₖₗ)²) (s₀[t]ᵢⱼ - s₀[t]ₖⱼ)]ᵢⱼ,  t = 0, …, 2",
    ]
    assert r"\mathrm{dt} \, " in last.latex()


def test_what_a_step_closes_over_is_named_as_it_reads() -> None:
    w = sd.symbol("w", (3,))
    last, _ = sd.scan(lambda s, v: (w[1] * s + np.exp(w[0]) * v, None), 0.0, a)
    assert str(sd.gradient(last, w)).splitlines() == [
        "[c̄₀ exp(w[0]), w̄₁[0], 0]",
        "where c = exp(w[0])",
        "      s₀ = 0",
        "      sₜ₊₁ = c aₜ + sₜ w[1],  t = 0, …, n - 1",
        "      s̄ₙ = 1,  w̄₁[n] = 0,  c̄ₙ = 0",
        "      s̄ₜ = s̄ₜ₊₁ w[1]",
        "      w̄₁[t] = w̄₁[t+1] + sₜ s̄ₜ₊₁",
        "      c̄ₜ = c̄ₜ₊₁ + s̄ₜ₊₁ aₜ,  t = n - 1, …, 0",
    ]


def test_a_derivation_keeps_the_lines_of_a_loop_together() -> None:
    last, _ = sd.scan(lambda s, v: (s * v, None), 1.0, a)
    lines = str(sd.derivation(last**2, a)).splitlines()
    assert lines[0].index("sₙ") == lines[1].index("where") and "recurrence: every step" in "".join(lines)
