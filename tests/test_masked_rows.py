"""Rows of NaN and infinity that `where` leaves out leave every derivative as if they were not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

NP: Any = np
n, d, k = sd.dims("n d k")
X, W, V = sd.symbol("X", (n, d)), sd.symbol("W", (d, k)), sd.symbol("V", (n, k))
w, y, m = sd.symbol("w", (d,)), sd.symbol("y", (n,)), sd.symbol("m", (n,))
SYMBOLS = [X, W, V, w, y, m]
SIZES = {"n": 4, "d": 3, "k": 2}
ON = m > 0
COLUMN = ON[:, None]


def rows(values: Any, on: Any = ON) -> Any:
    return NP.sum(NP.where(on, values, 0))


FORMS: dict[str, tuple[Any, Any]] = {
    "squares": (rows((X @ w - y) ** 2), w),
    "matrix": (rows(NP.tanh(X @ W) * V, COLUMN), W),
    "two layers": (rows(NP.sum(NP.tanh(X @ W) * V, axis=1) * y), W),
    "quadratic": (rows(NP.einsum("ij,jk,ik->i", X, w[:, None] * w[None, :], X)), w),
    "in the rows": (rows(NP.einsum("ij,ij->i", X, X)), X),
    "means": (rows(NP.mean(X * w, axis=1) ** 2), w),
    "norms": (rows(NP.sqrt(NP.sum((X * w) ** 2, axis=1))), w),
    "softmax": (rows(sd.softmax(X @ W, axis=1) * V, COLUMN), W),
    "logsumexp": (rows(sd.logsumexp(X @ W, axis=1)), W),
    "some rows": (rows(X[1:3] @ w, ON[1:3]), w),
    "gram": (rows(((X * w) @ (X * w).T) * NP.multiply.outer(y, y), COLUMN & ON), w),
    "products": (rows(NP.prod(X * w, axis=1)), w),
    "products in the rows": (rows(NP.prod(X, axis=1)), X),
    "softmax in the rows": (rows(sd.softmax(X, axis=1) * w, COLUMN), X),
    "logsumexp in the rows": (rows(sd.logsumexp(X, axis=1)), X),
    "largest": (rows(NP.max(X * w, axis=1)), w),
    "running sums": (rows(NP.cumsum(X * w, axis=1)[:, -1]), w),
    "rectified": (rows(NP.sum(NP.maximum(X @ W, 0) * V, axis=1)), W),
    "loops": (rows(sd.scan(lambda s, r: (s, NP.tanh(r @ w) * y[0]), 0.0, X)[1]), w),
}  # fmt: skip


def values(rng: np.random.Generator, spoilt: float) -> list[Any]:
    made = {s: rng.normal(size=[SIZES[str(a)] for a in s.shape]) for s in SYMBOLS}
    made[m] = np.array([1.0, -1.0, 2.0, 0.5])
    made[X][1] = spoilt
    return [made[s] for s in SYMBOLS]


def agree(derivative: Any, spoilt: float) -> None:
    native = sd.compile(derivative, SYMBOLS)
    given, plain = (values(np.random.default_rng(5), number) for number in (spoilt, 0.0))
    want = native(*plain)
    assert np.isfinite(want).all() and np.any(want != 0)
    np.testing.assert_allclose(native(*given), want, rtol=1e-12)
    with np.errstate(all="ignore"):
        seen = sd.evaluate(derivative, dict(zip(SYMBOLS, given, strict=True)))
    np.testing.assert_allclose(seen, want, rtol=1e-10)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["reverse", "forward", "elimination"])
@pytest.mark.parametrize("name", FORMS)
def test_gradients(name: str, mode: Any, spoilt: float) -> None:
    value, variable = FORMS[name]
    agree(sd.gradient(value, variable, mode=mode, sizes=SIZES if mode == "elimination" else None), spoilt)


VANISH = {"some rows", "largest", "running sums", "rectified"}


@pytest.mark.parametrize("name", sorted(FORMS.keys() - VANISH))
def test_hessians(name: str) -> None:
    agree(sd.hessian(*FORMS[name]), np.nan)


def test_an_element_that_the_value_meets_is_not_left_out() -> None:
    slope = sd.compile(sd.gradient(rows(X @ w), w), SYMBOLS)
    given = values(np.random.default_rng(5), np.nan)
    given[-1] = np.ones(4)
    assert np.isnan(slope(*given)).all()


x, s = sd.symbol("x", (n,)), sd.symbol("s")
STEEP: dict[str, tuple[Any, Any]] = {
    "cube roots": (NP.cbrt(NP.where(x > 0, x, 0)), x),
    "roots": (NP.sqrt(NP.maximum(x, 0)), x),
    "powers": (NP.where(x > 0, x, 0) ** 0.5, x),
    "lengths": (NP.hypot(NP.maximum(x, 0), NP.maximum(2 * x, 0)), x),
    "repeated": (NP.sqrt(NP.where(x > 0, x, 0)[:, None] * NP.ones((1, 2))), x),
    "a number": (NP.sqrt(NP.where(x > 0, x * s, 0)), s),
    "sums": (NP.sqrt(NP.where(x > 0, x, 0) + NP.maximum(3 * x, 0)), x),
}


@pytest.mark.parametrize("mode", ["reverse", "forward", "elimination", "auto"])
@pytest.mark.parametrize("name", STEEP)
def test_slopes_that_are_infinite_where_nothing_moves(name: str, mode: Any) -> None:
    value, variable = STEEP[name]
    slopes = sd.compile(sd.jacobian(value, variable, mode=mode, sizes={"n": 4} if mode != "forward" else None), [x, s])
    given, step = np.array([1.0, -2.0, 0.5, -1.0]), 1e-6
    native = sd.compile(value, [x, s])

    def moved(by: float) -> Any:
        if variable is s:
            return native(given, 2.0 + by)
        return np.stack([native(given + by * row, 2.0) for row in np.eye(4)], axis=-1)

    np.testing.assert_allclose(slopes(given, 2.0), (moved(step) - moved(-step)) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("mode", ["reverse", "forward", "elimination"])
@pytest.mark.parametrize("variable", [X, W])
def test_padding_behind_the_last_step_of_a_loop(variable: Any, mode: Any) -> None:
    def step(s: Any, r: Any) -> Any:
        s = NP.tanh(s + r @ W)
        return s, s

    states = sd.scan(step, V[0], X)[1]
    slope = sd.gradient(rows((states - V) ** 2, COLUMN), variable, mode=mode, sizes=SIZES)
    native = sd.compile(slope, SYMBOLS)
    given, plain = (values(np.random.default_rng(5), 0.3) for _ in range(2))
    for own, padding in ((given, np.nan), (plain, 0.0)):
        own[0][2:] = padding
        own[-1] = np.array([1.0, 1.0, -1.0, -1.0])
    want = native(*plain)
    assert np.isfinite(want).all() and np.any(want != 0)
    np.testing.assert_allclose(native(*given), want, rtol=1e-12)


def test_branches_that_between_them_are_always_taken_mask_no_rows(rng):
    m, n = sd.dims("m n")
    x, w, y = sd.symbol("x", (m, n)), sd.symbol("w", (n,)), sd.symbol("y", (m,))
    r = y - x @ w
    size = np.abs(r)
    far = np.where(size < 2, 2 * size - 1, np.where(size < 4, np.sqrt(size), size / 2))
    loss = np.sum(np.where(size < 1, r**2, far))
    slope = sd.compile(sd.gradient(loss, w), (w, x, y))
    assert slope.ir.count("contract(") == 2
    assert "f64[m,n] = select(" not in slope.ir
    never = sd.compile(sd.gradient(np.sum(np.where(size < 1, r**2, 0)), w), (w, x, y))
    assert "f64[m,n] = select(" in never.ir
    values = rng.normal(size=3), rng.normal(size=(40, 3)), rng.normal(size=40)

    def number(w):
        r = values[2] - values[1] @ w
        s = np.abs(r)
        return np.sum(np.where(s < 1, r**2, np.where(s < 2, 2 * s - 1, np.where(s < 4, np.sqrt(s), s / 2))))

    numeric = [(number(values[0] + e) - number(values[0] - e)) / 2e-7 for e in np.eye(3) * 1e-7]
    np.testing.assert_allclose(slope(*values), numeric, rtol=1e-5)
