"""Small arrays of fixed size, entry by entry: the texts are readable, and every form has the program's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

import symdiff as sd
from symdiff.ops import OPSET
from symdiff.simplify import simplify
from symdiff.simplify.entries import is_assembled, take_apart

NP: Any = np
rng = np.random.default_rng(7)
SIZES = {"n": 4, "m": 5}

n, m = sd.dims("n m")
x3, theta = sd.symbol("x", (3,)), sd.symbol("theta")
x, A, y = sd.symbol("x", (n,)), sd.symbol("A", (m, n)), sd.symbol("y", (m,))


def rotation(t: Any) -> Any:
    return sd.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])


def lorenz(v: Any) -> Any:
    return sd.array([10 * (v[1] - v[0]), v[0] * (28 - v[2]) - v[1], v[0] * v[1] - 8 * v[2] / 3])


READABLE = [
    (sd.gradient(x3[0] * np.sin(x3[1]) + x3[2] ** 2, x3), "[sin(x[1]), x[0] cos(x[1]), 2 x[2]]"),
    (sd.jacobian(rotation(theta), theta), "[[-sin(θ), -cos(θ)], [cos(θ), -sin(θ)]]"),
    (sd.jacobian(lorenz(x3), x3), "[[-10, 10, 0], [28 - x[2], -1, -x[0]], [x[1], x[0], -8/3]]"),
    (sd.gradient(x[3] ** 2, x), "2 x[3] e₃"),
    (sd.gradient(x[0] * x[1], x), "x[1] e₀ + x[0] e₁"),
    (sd.gradient(A[0, 1] * A[2, 3], A), "A[0, 1] e₂ e₃ᵀ + A[2, 3] e₀ e₁ᵀ"),
    (sd.gradient(np.sum(A[:, 1] * y), A), "y e₁ᵀ"),
    (sd.gradient(np.sum(x) * x[-1], x), "x[n - 1] + Σ(x) e[n - 1]"),
]


@pytest.mark.parametrize(("derivative", "text"), READABLE, ids=[t for _, t in READABLE])
def test_readable(derivative: Any, text: str) -> None:
    assert str(derivative) == text


def test_latex() -> None:
    assert sd.jacobian(lorenz(x3), x3).latex() == (
        r"\begin{bmatrix} -10 & 10 & 0 \\ 28 - x_{2} & -1 & -x_{0} \\ x_{1} & x_{0} & -\frac{8}{3} \end{bmatrix}"
    )
    assert sd.gradient(x[3] ** 2, x).latex() == "2 x_{3} e_{3}"
    blocks = sd.jacobian(x3[0] * rotation(theta), [theta, x3])[1].latex()  # shape (2, 2, 3): a column of matrices
    assert blocks.count(r"\begin{bmatrix}") == 3


def test_an_expression_that_is_written_out_shows_its_entries() -> None:
    assert str(rotation(theta)) == "[[cos(θ), -sin(θ)], [sin(θ), cos(θ)]]"
    v = sd.symbol("v", (2,))
    assert str(rotation(theta) @ v) == "[[cos(θ), -sin(θ)], [sin(θ), cos(θ)]] v"
    assert rotation(theta).T.source() == "np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])"


def test_facts_of_entries() -> None:
    S = sd.symbol("S", (2, 2), symmetric=True)
    assert str(sd.gradient(S[0, 1] * S[1, 0] * x3[0], x3)) == "[S[1, 0]², 0, 0]"
    D = sd.symbol("D", (2, 2), diagonal=True)
    assert str(sd.gradient((D[0, 1] + D[1, 1]) * x3[0], x3)) == "[D[1, 1], 0, 0]"
    p = sd.symbol("p", (2,), positive=True)
    assert str(sd.gradient(np.sqrt(p[0] ** 2) * p[1], p)) == "[p[1], p[0]]"


def test_what_has_no_entries_stays_whole() -> None:
    B = sd.symbol("B", (n, 3))
    g = sd.gradient(np.sum((B @ x3)[:] ** 2) * x3[0], x3)
    values = {"B": rng.normal(size=(4, 3)), "x": rng.normal(size=3)}
    assert np.allclose(evaluated(g, values), g.evaluate(values))


def evaluated(expression: Any, values: dict[str, Any]) -> Any:
    return eval(expression.source("numpy"), {"np": np, **SIZES}, dict(values))


def test_sympy_source_of_entries() -> None:
    text = sd.jacobian(lorenz(x3), x3).source("sympy")
    made = eval(text, {**vars(sympy), "x": sympy.MatrixSymbol("x", 3, 1)})
    point = sympy.Matrix([1, 2, 5])
    want = sd.jacobian(lorenz(x3), x3).evaluate(x=np.array([1.0, 2.0, 5.0]))
    assert np.allclose(np.array(made.subs(sympy.MatrixSymbol("x", 3, 1), point).evalf(), float), want)


@st.composite
def small_functions(draw: Any) -> Any:
    """A function of x (3,) and M (2, 2) made of entries, small products, stacks and slices."""
    M = sd.symbol("M", (2, 2))
    pool: list[Any] = [x3[0], x3[2], M[0, 1], x3[1:].sum(), (M @ x3[:2])[1], NP.max(x3[:2]), NP.prod(x3[1:])]
    for _ in range(draw(st.integers(1, 5))):
        a, b = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        kind = draw(st.sampled_from(["mul", "add", "sin", "square", "where", "dot", "tanh"]))
        pool.append({
            "mul": lambda a=a, b=b: a * b, "add": lambda a=a, b=b: a - 2 * b, "sin": lambda a=a, b=b: NP.sin(a) + b,
            "square": lambda a=a, b=b: a**2 * b, "where": lambda a=a, b=b: NP.where(a > b, a * b, b),
            "dot": lambda a=a, b=b: NP.sum(sd.array([[a, b], [b, 1.0]]) @ x3[:2]),
            "tanh": lambda a=a, b=b: NP.tanh(a * b),
        }[kind]())  # fmt: skip
    size = draw(st.integers(1, 3))
    return sd.array([draw(st.sampled_from(pool[-4:])) for _ in range(size)]), M


@given(small_functions(), st.sampled_from(["forward", "reverse"]), st.integers(0, 2**32 - 1))
def test_entries_have_the_numbers_of_the_program(made: Any, mode: Any, seed: int) -> None:
    function, M = made
    numbers = np.random.default_rng(seed)
    values = {"x": numbers.normal(size=3), "M": numbers.normal(size=(2, 2))}
    for variable in (x3, M):
        derivative = sd.jacobian(function, variable, mode=mode)
        given_values = {s.value.name: values[s.value.name] for s in derivative.symbols()}
        want = derivative.evaluate(given_values)
        scale = 1 + np.max(np.abs(want))
        shown = derivative.closed_form()
        assert np.allclose(shown.evaluate({k: values[k] for k in [s.value.name for s in shown.symbols()]}) / scale,
                           want / scale, atol=1e-9)  # fmt: skip
        assert np.allclose(np.broadcast_to(evaluated(derivative, values), want.shape) / scale, want / scale, atol=1e-9)
        again = simplify(derivative.shown(), OPSET)
        assert again == derivative.shown()


def test_taking_apart_refuses_what_is_long_or_symbolic() -> None:
    big = sd.symbol("big", (65,))
    assert take_apart(sd.Expression(NP.sin(big[:65]).value).function(), OPSET, {}) is None
    assert take_apart(sd.Expression(NP.sin(x).value).function(), OPSET, {}) is None
    assembled = sd.gradient(x3[0] * x3[1], x3).shown()
    assert is_assembled(assembled)
    assert not is_assembled(sd.gradient(np.sum(x3**3), x3).shown())


# -------------------------------------------------------------------- blocks
def test_pieces_that_fill_an_axis_are_a_block_vector() -> None:
    u, v = sd.symbol("u", (n,)), sd.symbol("v", (m,))
    z = np.concatenate([u, v])
    w = sd.symbol("w", (2 * n,))
    g = sd.gradient(np.sum(np.sin(w[:n]) * u - np.exp(w[n:])), w)
    assert str(g) == "[u ⊙ cos(w[0…n - 1]); -exp(w[n…2 n - 1])]"
    inner = r"u \odot \cos(w_{[0 \ldots n - 1]}) \\ -\exp(w_{[n \ldots 2\,n - 1]})"
    assert g.latex() == rf"\begin{{bmatrix}} {inner} \end{{bmatrix}}"
    values = {"u": rng.normal(size=4), "w": rng.normal(size=8)}
    assert np.allclose(evaluated(g, values), g.evaluate(values, sizes=SIZES))
    assert str(z) == "[u; v]"
    # A gap or an overlap stays a sum.
    gap = sd.gradient(np.sum(w[1:n] ** 2) + np.sum(w[n:] ** 3), w)
    assert "pad" in str(gap)
    assert np.allclose(evaluated(gap, values), gap.evaluate({"w": values["w"]}, sizes=SIZES))
    overlap = sd.gradient(np.sum(w[: n + 1] ** 2) + np.sum(w[n:] ** 3), w)
    assert np.allclose(evaluated(overlap, values), overlap.evaluate({"w": values["w"]}, sizes=SIZES))


def test_blocks_of_a_matrix() -> None:
    B = sd.symbol("B", (m, 2 * n))
    G = sd.symbol("G", (m, n))
    g = sd.gradient(np.sum(G * np.tanh(B[:, :n])) + 2 * np.sum(G * B[:, n:] ** 2), B)
    values = {"B": rng.normal(size=(5, 8)), "G": rng.normal(size=(5, 4))}
    assert str(g).endswith(", 4 (G ⊙ B[:, n…2 n - 1])]")
    assert np.allclose(evaluated(g, values), g.evaluate(values, sizes=SIZES))


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (1, 1, 2)])
def test_folds_of_no_lines_have_no_entries(shape: tuple[int, ...]) -> None:
    a = sd.symbol("a", shape)
    steps: Any = NP.diff(a, axis=-1, prepend=0)
    none = steps[np.array([False] * shape[0]), ...]
    total = NP.sum(NP.max(none, axis=-1) * 0.5) + NP.sum(NP.max(NP.cumsum(steps, axis=-1), axis=1))
    total = total + NP.sum(a[0] ** 2) * NP.prod(a[:0])
    point = np.random.default_rng(5).normal(size=shape)
    for e in (total, sd.gradient(total, a)):
        assert np.allclose(sd.simplify(e).evaluate(a=point), e.evaluate(a=point), rtol=1e-12, atol=1e-12)
