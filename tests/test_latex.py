"""LaTeX as a paper sets it: layouts, names in where-clauses, indices, brackets, broken lines; KaTeX reads all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.render.lines import broken, glyphs

CHECK = Path(__file__).parent.parent / "bench" / "katex_check.mjs"

# NumPy's annotations do not know that its functions answer symbols with symbols.
gradient: Any = sd.gradient
jacobian: Any = sd.jacobian
hessian: Any = sd.hessian

m, n, p = sd.dims("m n p")
A, X, S = sd.symbol("A", (m, n)), sd.symbol("X", (n, n)), sd.symbol("S", (n, n), symmetric=True)
W, V, Q, K = sd.symbol("W", (m, n)), sd.symbol("V", (p, m)), sd.symbol("Q", (m, n)), sd.symbol("K", (p, n))
w, x, y, b, z = (sd.symbol(name, (size,)) for name, size in zip("wxybz", (n, n, m, m, p), strict=True))
lam, t = sd.symbol("lam"), sd.symbol("t")
residual = A @ w - y
hidden = np.tanh(W @ x + b)


# -------------------------------------------------------------------- layout
def layouts(derivative: Any) -> tuple[str, str]:
    return derivative.latex(layout="numerator"), derivative.latex(layout="denominator")


def test_numerator_layout_writes_the_row_itself() -> None:
    assert layouts(gradient(np.sum(residual**2), w)) == (r"2 (A w - y)^{\top} A", r"2 A^{\top} (A w - y)")
    row, _ = layouts(gradient(residual @ residual / 2 + lam * (w @ w) / 2, w))
    assert row == r"(A w - y)^{\top} A + \lambda w^{\top}"
    row, _ = layouts(gradient(np.linalg.norm(residual), w))
    assert row == r"\frac{(A w - y)^{\top} A}{\lVert A w - y \rVert}"
    row, _ = layouts(gradient(np.sum(y * np.tanh(A @ w)), w))
    assert row == r"\bigl(y \odot (1 - \tanh(A w)^{\odot 2})\bigr)^{\top} A"
    row, column = layouts(gradient(x @ np.exp(w), w))
    assert (row, column) == (r"(x \odot \exp(w))^{\top}", r"x \odot \exp(w)")


def test_layouts_of_jacobians_and_matrices() -> None:
    assert layouts(jacobian(A @ w, w)) == ("A", r"A^{\top}")
    assert layouts(gradient(y @ A @ w, A)) == (r"w y^{\top}", r"y w^{\top}")
    assert layouts(jacobian(np.tanh(t * w), t))[1].endswith(r"^{\top}")
    assert layouts(hessian(w @ S @ w, w)) == ("2 S", "2 S")
    tensor = jacobian(W @ x, W)
    assert layouts(tensor) == (tensor.latex(), tensor.latex())


# -------------------------------------------------------------------- order and where
def test_sums_keep_the_order_they_were_written_in() -> None:
    slope = gradient(np.sum(hidden), b)
    assert slope.latex() == r"1 - \tanh(W x + b)^{\odot 2}"
    assert str(slope) == "1 - tanh(W x + b)²"
    assert slope.source() == "1 - np.tanh(W @ x + b)**2"
    other = gradient(np.sum(np.tanh(b + W @ x)), b)
    assert other.latex() == r"1 - \tanh(b + W x)^{\odot 2}"
    assert hessian(np.sum(hidden), b).latex().count("W x + b") == 2


def test_quadratic_forms_have_equal_ends() -> None:
    mu = sd.symbol("mu", (n,))
    density = np.exp(-0.5 * ((x - mu) @ S @ (x - mu)))
    assert r"\exp\left(-\frac{1}{2} (x - \mu)^{\top} S (x - \mu)\right)" in gradient(density, x).latex()


def test_where_names_what_papers_name() -> None:
    tall = sd.softmax(z)
    assert jacobian(tall, z).latex(where=True).splitlines()[1:3] == [
        r"& \operatorname{diag}(q) - q q^{\top} \\", r"& \text{where}\quad q = \operatorname{softmax}(z)"
    ]  # fmt: skip
    loss = np.sum((V @ hidden - z) ** 2)
    text = gradient(loss, V).latex(where=True)
    assert r"2 (V h - z) h^{\top}" in text and r"h = \tanh(W x + b)" in text
    taken = sd.symbol("h1", (p,))
    text = gradient(np.sum((V @ hidden - taken) ** 2), V).latex(where=True)
    assert r"a = \tanh(W x + b)" in text  # h is a symbol's letter
    bold = gradient(loss, V).latex(where=True, bold=True)
    assert r"\mathbf{h} = \tanh(\mathbf{W} \mathbf{x} + \mathbf{b})" in bold


def test_where_names_nothing_that_does_not_shorten() -> None:
    unit = gradient(np.linalg.norm(x - w), x)
    assert unit.latex(where=True) == unit.latex() == r"\frac{x - w}{\lVert x - w \rVert}"


def test_two_layers_get_numbered_names() -> None:
    U = sd.symbol("U", (p, p))
    deep = np.tanh(V @ hidden)
    text = gradient(np.sum((U @ deep - z) ** 2), W).latex(where=True)
    assert r"h_{1} = \tanh(W x + b)" in text and r"h_{2} = \tanh(V h_{1})" in text


# -------------------------------------------------------------------- indices
def test_elementwise_functions_hand_indices_on() -> None:
    assert jacobian(np.exp(A), A).latex() == r"\exp(A_{ij}) \delta_{ik} \delta_{jl}"
    assert jacobian(hidden, W).latex() == r"\bigl(1 - \tanh((W x + b)_{i})^{2}\bigr) \delta_{ij} x_{k}"
    assert str(jacobian(A**3, A)) == "3 Aᵢⱼ² δᵢₖ δⱼₗ"
    f = sd.function("f")
    assert jacobian(f(A), A).latex() == r"f'(A_{ij}) \delta_{ik} \delta_{jl}"


def test_a_quotient_with_nothing_above_its_line_is_one_over_what_is_below() -> None:
    assert jacobian(np.log(A), A).latex() == r"\frac{1}{A_{ij}} \delta_{ik} \delta_{jl}"
    assert str(jacobian(np.sqrt(A), A)) == "1/(2 √(Aᵢⱼ)) δᵢₖ δⱼₗ"
    assert str(jacobian(1 / (A @ x), A)) == "-1/((A x)ᵢ)² δᵢⱼ xₖ"


def test_a_square_over_itself_is_written_as_it_stands() -> None:
    s = sd.symbol("s")
    assert str((X * w) ** 2 * s**2 / s**2) == "s² (X diag(w))⊙²/s²"
    assert str((X * X.T) ** 2 / (X * X.T) ** 2) == "(X ⊙ Xᵀ)⊙² ⊘ (X ⊙ Xᵀ)⊙²"
    assert str(np.sqrt(X) * np.sqrt(w) / np.sqrt(X)) == "(√X ⊘ √X) diag(√w)"


def test_what_no_sum_touches_stands_before_it() -> None:
    M, F, G = sd.symbol("M", (m, n)), sd.symbol("F", (m, p)), sd.symbol("G", (n, p))
    second = hessian(np.sum((M * (F @ G.T)) ** 2), F)
    assert second.latex() == r"2 \delta_{ik} \sum_{q} M_{iq}^{2} G_{qj} G_{ql}"


def test_nested_indices_are_kept_apart() -> None:
    T = sd.symbol("T", (p, n, n))
    slope = gradient(np.linalg.slogdet(S + np.einsum("i,ijk->jk", z, T))[1], z)
    text = slope.latex()
    assert text.count(r"\left[") == 2
    outer, inner = text.split(r"\left[")[1:]
    assert not set(outer.split("T_{")[1][:3]) & set(inner.split("T_{")[1][:3]), text


# -------------------------------------------------------------------- brackets, fractions, lines
def test_brackets_grow_around_brackets() -> None:
    assert gradient(np.sum(np.sin(A @ w) * (np.cos(A @ w) - y)), y).latex() == r"-\sin(A w)"
    text = jacobian(np.tanh(x), x).latex()
    assert text == r"\operatorname{diag}(1 - \tanh(x)^{\odot 2})"
    text = jacobian(sd.sigmoid(A @ w), w).latex()
    assert text == r"\operatorname{diag}\bigl(\sigma(A w) \odot (1 - \sigma(A w))\bigr) A"


def test_fractions_stand_before_large_arrays() -> None:
    rayleigh = (x @ S @ x) / (x @ x)
    assert gradient(rayleigh, x).latex() == (
        r"\frac{2}{x^{\top} x} \left(S - \frac{x^{\top} S x}{x^{\top} x} I\right) x"
    )
    assert gradient(np.trace(np.exp(A @ X @ A.T)), X).latex() == r"A^{\top} (I \odot \exp(A X A^{\top})) A"


def test_widths() -> None:
    assert glyphs("X w - y") == 4
    assert glyphs(r"\operatorname{softmax}(z)_{i}") == 10.5
    assert glyphs(r"\frac{\frac{a b}{c}}{d e f}") == 3
    assert broken(["a", " + b", " - c"], 2) == ["a + b"[:1], r"\quad {}+ b", r"\quad {}- c"]
    assert broken(["a", " + b"], None) == ["a + b"]


def test_wide_sums_are_broken() -> None:
    names = [sd.symbol(f"alpha_{i}", (n,)) for i in range(60)]
    total = np.sum(sum((s * s * x for s in names), np.exp(x)))
    text = gradient(total, x).latex()
    assert text.startswith(r"\begin{aligned}") and text.count(r"\quad {}+") >= 1
    assert all(glyphs(line) < 110 for line in text.splitlines())
    assert r"\begin" not in gradient(total, x).latex(width=None)


def test_tensors_inside_functions_are_named_with_their_indices() -> None:
    text = jacobian(np.linalg.cholesky(S), S).latex()
    assert r"(T_{1})_{ijkl} = " in text and r"= (\operatorname{chol}(S)^{-\top} T_{1})_{ijlk}" in text
    lines = str(jacobian(np.linalg.cholesky(S), S)).splitlines()
    assert lines[1].startswith("where t1ᵢⱼₖₗ = ")


def test_rows_take_no_brackets_where_signs_only_change() -> None:
    assert gradient(w @ np.linalg.inv(X).T @ x, X).latex() == r"-X^{-\top} x w^{\top} X^{-\top}"
    pairs = np.sum((A[:, None, :] - K[None, :, :]) ** 2)
    assert gradient(pairs, A).latex() == r"2 (p A - \mathbf{1} \mathbf{1}^{\top} K)"
    weighted = gradient(np.sum(W * (A - w[None, :]) ** 2), w).latex()
    assert weighted == r"2 (W \odot (\mathbf{1} w^{\top} - A))^{\top} \mathbf{1}"
    assert gradient(np.sum(np.where(A @ X > 0, A @ X, 0)), A).latex() == r"\mathbf{1}[A X > 0] X^{\top}"


def test_reciprocals_on_a_diagonal_are_powers_of_it() -> None:
    assert hessian(-np.sum(np.log(y - A @ w)), w).latex() == r"A^{\top} \operatorname{diag}(y - A w)^{-2} A"
    assert jacobian(np.log(w), w).latex() == r"\operatorname{diag}(w)^{-1}"
    assert jacobian(-t / w, w).latex() == r"t \operatorname{diag}(w)^{-2}"


def test_covariances_are_written_as_such() -> None:
    cov = r"\bigl(\operatorname{diag}(%s) - %s %s^{\top}\bigr)"
    inner = r"\operatorname{softmax}(A w - y)"
    assert hessian(sd.logsumexp(residual), w).latex() == rf"A^{{\top}} {cov % (inner, inner, inner)} A"
    assert hessian(sd.logsumexp(residual), w).source("numpy").count("softmax") < 3
    inner = r"\operatorname{softmax}(X A^{\top} b)"
    made = hessian(sd.logsumexp(X @ (A.T @ b)), b).latex()
    assert made == rf"A X^{{\top}} {cov % (inner, inner, inner)} X A^{{\top}}"
    assert str(jacobian(A @ sd.softmax(w) / t, w)) == "A (diag(softmax(w)) - softmax(w) softmax(w)ᵀ)/t"
    weighted = str(hessian(np.log(y @ np.exp(A @ w)), w))
    assert weighted == "Aᵀ (diag(y ⊙ exp(A w)) - (y ⊙ exp(A w)) (y ⊙ exp(A w))ᵀ/(yᵀ exp(A w))) A/(yᵀ exp(A w))"
    energy = str(hessian(0.5 * w @ w - sd.logsumexp(A @ w), w))
    assert energy == "I - Aᵀ (diag(softmax(A w)) - softmax(A w) softmax(A w)ᵀ) A"
    # Of other weights it is none.
    other = jacobian(A.T @ (y * (A @ w - np.sum(sd.softmax(y) * (A @ w)))), w).latex()
    assert other.startswith(r"A^{\top} \operatorname{diag}(y) \, (A - \mathbf{1}")


def test_entries_of_symbols_and_short_conditions_have_no_names() -> None:
    masked = sd.softmax(np.where(W > 0, A, -1e9), axis=1)
    shown = gradient(np.sum(Q * masked), A).latex(where=True)
    assert shown.count("W > 0") == 2 and shown.count("-10^{9}") == 1
    v = sd.symbol("v", (3,))
    assert "where" not in jacobian(np.cross(v, v * v), v).latex(where=True)


def test_scalars_of_chains_and_powers_of_inverses() -> None:
    cosine = w @ x / np.sqrt((w @ S @ w) * (x @ X @ x))
    assert r"\sqrt{(w^{\top} S w) \, (x^{\top} X x)}" in gradient(cosine, w).latex()
    assert gradient(w @ np.linalg.inv(S + t * sd.eye(n)) @ x, t).latex() == r"-w^{\top} (S + t I)^{-2} x"
    barrier = hessian(-np.sum(np.log(w - x) + np.log(b[0] - w)), w).latex()
    assert barrier == r"\operatorname{diag}((w - x)^{\odot -2} + (b_{0} - w)^{\odot -2})"


def test_entropies_of_spins() -> None:
    entropy = np.sum((1 + w) / 2 * np.log((1 + w) / 2) + (1 - w) / 2 * np.log((1 - w) / 2))
    assert str(gradient(entropy - 0.5 * w @ S @ w, w)) == "arctanh(w) - S w"
    assert str(hessian(entropy - 0.5 * w @ S @ w, w)) == "diag((1 + w) ⊙ (1 - w))⁻¹ - S"
    assert str(sd.simplify(np.log(t) - np.log(1 - t))) == "log(t) - log(1 - t)"
    decay = hessian(1 - np.exp(-lam / (t * y[0])), lam)
    assert decay.latex().endswith(r"}{(t y_{0})^{2}}")
    assert str(decay).endswith("/(t y[0])²")


def test_numbers_go_over_the_line_and_arrays_stand_beside_it() -> None:
    assert sd.simplify(w @ w / n).latex() == r"\frac{w^{\top} w}{n}"
    assert sd.simplify(w / 49).latex() == r"\frac{w}{49}"
    assert sd.simplify(w / 2).latex() == r"\frac{1}{2} w"
    assert gradient(np.mean((A @ w - y) ** 2), w).latex() == r"\frac{2}{m} A^{\top} (A w - y)"
    assert sd.simplify(t * np.sum(np.sin(w))).latex() == r"t \mathbf{1}^{\top} \sin(w)"


def test_sizes_of_reshapes_are_products_and_powers() -> None:
    shown = jacobian(np.kron(w, X @ w), X).latex()
    assert r"\operatorname{reshape}(T, n^{2}, n, n)" in shown
    assert "n², n, n" in str(jacobian(np.kron(w, X @ w), X))


def test_indices_are_no_symbols_names() -> None:
    T = sd.symbol("T", (sd.dim("k"), n, m))
    text = jacobian(np.max(T, axis=2), T).latex()
    assert text == r"\mathbf{1}[T_{ijq} = \max_{\text{axis 2}}(T)_{ij}] \delta_{il} \delta_{jp}"


# -------------------------------------------------------------------- KaTeX
def formulas() -> list[tuple[str, str]]:
    mass: Any = np.sum(np.where(x > 0, x * np.log(x), 0)) + sd.lgamma(t) + np.sum(np.cumsum(x)) + np.max(x)
    attention: Any = sd.softmax(Q @ K.T / np.sqrt(np.sum(K**2)), axis=1) @ sd.symbol("V_0", (p, n))
    spread: Any = np.sum((attention - sd.symbol("y_hat", (m, n))) ** 2)
    derivatives: list[Any] = [
        gradient(np.sum(residual**2), w), jacobian(hidden, W), gradient(spread, Q), hessian(spread, K),
        gradient(mass, x), jacobian(np.linalg.inv(X), X), hessian(np.linalg.slogdet(X)[1], X),
        jacobian(np.linalg.cholesky(S), S), gradient(np.sum(np.kron(A, X)), X), jacobian(np.outer(x, y), x),
        jacobian(np.linalg.solve(X, w), X), gradient(np.sum(A[1:, ::2] ** 2), A), jacobian(mass, t),
    ]  # fmt: skip
    made: list[tuple[str, str]] = []
    for i, g in enumerate(derivatives):
        for options in ({}, {"bold": True}, {"where": True}, {"layout": "numerator"}, {"layout": "denominator"}):
            made.append((f"{i} {options}", g.latex(**options).replace("\n", " ")))
        made += [(f"{i} condition", c) for c in g.conditions(latex=True)]
    steps = sd.derivation(np.sum((V @ hidden - z) ** 2), W)
    made.append(("derivation", steps.latex().replace("\n", " ").replace("align*", "aligned")))
    return made


def test_katex_reads_everything() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    found = subprocess.run(["node", str(CHECK)], input="", text=True, capture_output=True, env=dict(os.environ))
    if found.returncode:
        pytest.skip("KaTeX is not installed where node looks (npm install katex, or KATEX=path of katex.mjs)")
    text = "\n".join(f"{name}\t{latex}" for name, latex in formulas())
    run = subprocess.run(["node", str(CHECK)], input=text, text=True, capture_output=True, env=dict(os.environ))
    assert run.returncode == 0, run.stdout
