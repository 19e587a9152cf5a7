"""Small programs as users write them: by expressions, by `sd.grad` of plain NumPy, natively, and by differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import symdiff as sd

k, m, n = sd.dims("k m n")
RNG = np.random.default_rng(20)


@dataclass(frozen=True)
class Story:
    """A scalar loss over named arrays: `loss(**arrays)`; the gradient is wanted in the arrays named in `wrt`."""

    name: str
    loss: Callable[..., Any]
    shapes: Mapping[str, tuple[Any, ...]]
    arrays: Mapping[str, Any]
    wrt: tuple[str, ...]
    closed: bool = True
    """Whether its closed form is found in a second or two."""


def _spread(*shape: int) -> Any:
    return RNG.normal(size=shape)


def _spd(size: int) -> Any:
    a = _spread(size, size)
    return a @ a.T + size * np.eye(size)


def huber(X: Any, w: Any, y: Any) -> Any:
    r = np.abs(X @ w - y)
    return np.mean(np.where(r < 0.7, 0.5 * r**2, 0.7 * (r - 0.35)))


def poisson(X: Any, w: Any, y: Any) -> Any:
    eta = X @ w
    return np.sum(np.exp(eta) - y * eta) + 0.1 * np.sum(w**2)


def cell(W: Any, U: Any, b: Any, x: Any, h: Any, c: Any) -> Any:
    """One LSTM step; the four gates lie one under the other."""
    z = W @ x + U @ h + b
    i, f, o, g = z[:3], z[3:6], z[6:9], z[9:]
    state = sd.sigmoid(f) * c + sd.sigmoid(i) * np.tanh(g)
    return np.sum((sd.sigmoid(o) * np.tanh(state)) ** 2)


def attention(X: Any, Q: Any, K: Any, V: Any) -> Any:
    scores = (X @ Q) @ (X @ K).T / np.sqrt(2.0)
    return np.sum((X + sd.softmax(scores, axis=-1) @ (X @ V)) ** 2)


def kalman(F: Any, H: Any, P: Any, x: Any, z: Any) -> Any:
    """Negative log-likelihood of a measurement, and the size of the state after the update."""
    predicted, P1 = F @ x, F @ P @ F.T
    S = H @ P1 @ H.T + sd.eye(H.shape[0])
    r = z - H @ predicted
    gain = np.linalg.solve(S, H @ P1).T
    return 0.5 * r @ np.linalg.solve(S, r) + 0.5 * np.linalg.slogdet(S)[1] + np.sum((predicted + gain @ r) ** 2)


def gaussian_process(X: Any, y: Any, s: Any) -> Any:
    squares = np.sum(X**2, axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * X @ X.T
    C = np.exp(s[0]) * np.exp(-0.5 * distances / np.exp(s[1])) + np.exp(s[2]) * sd.eye(X.shape[0])
    L = np.linalg.cholesky(C)
    half = sd.triangular_solve(L, y)
    return 0.5 * half @ half + np.sum(np.log(np.diag(L)))


def pca(X: Any, W: Any) -> Any:
    centred = X - np.mean(X, axis=0)
    return np.mean((centred - centred @ W @ W.T) ** 2)


def springs(p: Any, rest: Any, left: Any, right: Any) -> Any:
    return 0.5 * np.sum((np.linalg.norm(np.take(p, right, axis=0) - np.take(p, left, axis=0), axis=1) - rest) ** 2)


def convolution(x: Any, w: Any, y: Any) -> Any:
    out = w[0] * x[:-2] + w[1] * x[1:-1] + w[2] * x[2:]
    return np.sum((sd.relu(out) - y[1:-1]) ** 2)


def smoothing(u: Any, y: Any) -> Any:
    """A curve by its second differences."""
    curve = np.cumsum(np.cumsum(u))
    return np.sum((curve - y) ** 2) + 3.0 * np.sum(np.diff(u) ** 2)


def euler(y: Any, theta: Any) -> Any:
    """Ten Euler steps of Lotka and Volterra."""
    for _ in range(10):
        prey, hunter = y[0], y[1]
        meetings = prey * hunter
        y = y + 0.05 * np.stack([theta[0] * prey - theta[1] * meetings, theta[2] * meetings - theta[3] * hunter])
    return np.sum(y**2)


def implicit(A: Any, b: Any, c: Any) -> Any:
    """An adjoint in one line: c . u where A u = tanh(b)."""
    return c @ np.linalg.solve(A, np.tanh(b))


STORIES = [
    Story("huber", huber, {"X": (m, n), "w": (n,), "y": (m,)},
          {"X": _spread(7, 3), "w": _spread(3), "y": _spread(7)}, ("w", "X")),
    Story("poisson", poisson, {"X": (m, n), "w": (n,), "y": (m,)},
          {"X": 0.4 * _spread(6, 3), "w": _spread(3), "y": RNG.poisson(2.0, 6) + 0.0}, ("w",)),
    Story("lstm", cell, {"W": (12, n), "U": (12, 3), "b": (12,), "x": (n,), "h": (3,), "c": (3,)},
          {"W": _spread(12, 4), "U": _spread(12, 3), "b": _spread(12), "x": _spread(4), "h": _spread(3),
           "c": _spread(3)}, ("W", "U", "b", "x", "h", "c")),
    Story("attention", attention, {"X": (m, n), "Q": (n, k), "K": (n, k), "V": (n, n)},
          {"X": _spread(4, 3), "Q": _spread(3, 2), "K": _spread(3, 2), "V": _spread(3, 3)}, ("X", "Q", "K", "V")),
    Story("kalman", kalman, {"F": (n, n), "H": (m, n), "P": (n, n), "x": (n,), "z": (m,)},
          {"F": _spread(3, 3), "H": _spread(2, 3), "P": _spd(3), "x": _spread(3), "z": _spread(2)},
          ("F", "H", "P"), closed=False),
    Story("gaussian process", gaussian_process, {"X": (m, n), "y": (m,), "s": (3,)},
          {"X": _spread(5, 2), "y": _spread(5), "s": np.array([0.3, 0.2, -1.0])}, ("s", "X", "y")),
    Story("pca", pca, {"X": (m, n), "W": (n, k)}, {"X": _spread(6, 4), "W": 0.5 * _spread(4, 2)}, ("W", "X")),
    Story("convolution", convolution, {"x": (n,), "w": (3,), "y": (n,)},
          {"x": _spread(8), "w": _spread(3), "y": _spread(8)}, ("x", "w")),
    Story("smoothing", smoothing, {"u": (n,), "y": (n,)}, {"u": _spread(6), "y": _spread(6)}, ("u",)),
    Story("euler", euler, {"y": (2,), "theta": (4,)},
          {"y": np.array([1.0, 0.6]), "theta": np.array([1.1, 0.7, 0.4, 0.9])}, ("y", "theta")),
    Story("implicit", implicit, {"A": (n, n), "b": (n,), "c": (n,)},
          {"A": _spread(4, 4) + 4 * np.eye(4), "b": _spread(4), "c": _spread(4)}, ("A", "b", "c")),
]  # fmt: skip
SPRINGS = {"p": _spread(5, 2), "rest": np.abs(_spread(6)), "left": np.array([0, 1, 2, 3, 4, 0]),
           "right": np.array([1, 2, 3, 4, 0, 2])}  # fmt: skip
EDGES = sd.dim("edges")


def _symbols(story: Story) -> dict[str, Any]:
    return {name: sd.symbol(name, shape) for name, shape in story.shapes.items()}


def _close(got: Any, want: Any, what: str, tolerance: float = 1e-9) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: {got.shape} {want.shape}"
    scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name)
def test_expressions_and_functions_agree_with_differences(story: Story) -> None:
    symbols = _symbols(story)
    loss = story.loss(**symbols)
    wrt = [symbols[name] for name in story.wrt]
    reverse, forward = (sd.gradient(loss, wrt, mode=mode) for mode in ("reverse", "forward"))
    native = sd.compile([loss, *reverse], list(symbols.values()))
    value, *compiled = native(*story.arrays.values())

    names = list(story.shapes)
    places = tuple(names.index(name) for name in story.wrt)

    def plain(*arrays: Any) -> Any:
        return story.loss(*arrays)

    own_value, own = sd.value_and_grad(plain, argnums=places)(*story.arrays.values())
    sizes = {"m": 0, "n": 0, "k": 0} | _sizes(story)
    _close(value, loss.evaluate(story.arrays), "value")
    _close(own_value, value, "value of the function")
    for name, r, f, c, o in zip(story.wrt, reverse, forward, compiled, own, strict=True):
        want = r.evaluate(story.arrays, sizes)
        _close(f.evaluate(story.arrays, sizes), want, f"forward, {name}")
        _close(c, want, f"native, {name}")
        _close(o, want, f"function, {name}")
        if name == story.wrt[0] and story.closed:
            _close(r.closed_form().evaluate(story.arrays, sizes), want, f"closed form, {name}", 1e-8)
    report = sd.check_gradient(plain, *story.arrays.values(), argnums=places, gradient=tuple(compiled))
    assert report, str(report)


def _sizes(story: Story) -> dict[str, int]:
    """Numbers of the named dimensions, for derivatives that use nothing of a variable but its shape."""
    found: dict[str, int] = {}
    for name, shape in story.shapes.items():
        for size, number in zip(shape, np.shape(story.arrays[name]), strict=True):
            found[str(size)] = number
    return found


def test_springs_by_index_arrays() -> None:
    p, rest = sd.symbol("p", (n, 2)), sd.symbol("rest", (EDGES,))
    left, right = sd.symbol("left", (EDGES,), "i64"), sd.symbol("right", (EDGES,), "i64")
    energy = springs(p, rest, left, right)
    force = sd.gradient(energy, p)
    fn = sd.compile([energy, force], [p, rest, left, right])
    value, compiled = fn(**SPRINGS)
    _close(value, energy.evaluate(SPRINGS), "energy")
    _close(compiled, force.evaluate(SPRINGS), "force")
    _close(sd.grad(springs)(*SPRINGS.values()), compiled, "function")
    _close(np.sum(compiled, axis=0), np.zeros(2), "no force on the whole", 1e-12)
    assert sd.check_gradient(springs, *SPRINGS.values(), argnums=0, gradient=compiled)
    bad = SPRINGS | {"right": np.array([1, 2, 3, 4, 5, 2])}
    with pytest.raises(sd.EvaluationError, match=r"gather: an index leaves an axis of size 5"):
        fn(**bad)


def test_logistic_regression_by_descent_on_the_native_gradient() -> None:
    X, y, w = sd.symbol("X", (m, n)), sd.symbol("y", (m,)), sd.symbol("w", (n,))
    loss = np.mean(np.logaddexp(0, X @ w) - y * (X @ w))
    step = sd.compile([loss, sd.gradient(loss, w)], [X, y, w])
    data = _spread(200, 3)
    truth = np.array([1.5, -2.0, 0.5])
    labels = (RNG.random(200) < 1 / (1 + np.exp(-data @ truth))) + 0.0
    at = np.zeros(3)
    values: list[float] = []
    for _ in range(400):
        value, slope = step(data, labels, at)
        values.append(value)
        at = at - 2.0 * slope
    assert values[0] == pytest.approx(np.log(2))
    assert all(b <= a + 1e-12 for a, b in pairwise(values))
    _close(data.T @ (1 / (1 + np.exp(-data @ at)) - labels) / 200, np.zeros(3), "stationary", 1e-4)


def test_newton_by_the_native_hessian() -> None:
    x, A, b = sd.symbol("x", (n,)), sd.symbol("A", (n, n)), sd.symbol("b", (n,))
    f = 0.5 * x @ A @ x - b @ x + 0.1 * np.sum(np.cosh(x))
    fn = sd.compile([sd.gradient(f, x), sd.hessian(f, x)], [x, A, b])
    matrix, right, at = _spd(4), _spread(4), np.zeros(4)
    curvature: Any = None
    for _ in range(8):
        slope, curvature = fn(at, matrix, right)
        at = at - np.linalg.solve(curvature, slope)
    _close(matrix @ at - right + 0.1 * np.sinh(at), np.zeros(4), "stationary", 1e-12)
    _close(curvature, matrix + np.diag(0.1 * np.cosh(at)), "hessian", 1e-10)


def test_hessian_vector_products_solve_by_conjugate_gradients() -> None:
    data, right = _spread(9, 4), _spread(4)

    def f(v: Any) -> Any:
        return np.sum(np.logaddexp(0, data @ v)) + 0.5 * np.sum(v**2)

    at = _spread(4)
    x, residual, direction = np.zeros(4), right.copy(), right.copy()
    for _ in range(4):
        along = sd.hvp(f, at, direction)
        length = residual @ residual / (direction @ along)
        x, after = x + length * direction, residual - length * along
        direction = after + (after @ after) / (residual @ residual) * direction
        residual = after
    s = 1 / (1 + np.exp(-data @ at))
    _close(x, np.linalg.solve(data.T @ np.diag(s * (1 - s)) @ data + np.eye(4), right), "solution", 1e-8)


# -------------------------------------------------------------------- conventions at kinks
z = sd.symbol("z", (n,))
POINT = np.array([-1.0, 0.0, 2.0])
CONVENTIONS: dict[str, tuple[Any, Any, list[float]]] = {
    "relu": (sd.relu(z), POINT, [0.0, 0.0, 1.0]),
    "abs": (np.abs(z), POINT, [-1.0, 0.0, 1.0]),
    "sign": (np.sign(z), POINT, [0.0, 0.0, 0.0]),
    "floor": (np.floor(z), POINT, [0.0, 0.0, 0.0]),
    "maximum with 0": (np.maximum(z, 0), POINT, [0.0, 0.5, 1.0]),
    "minimum with 0": (np.minimum(z, 0), POINT, [1.0, 0.5, 0.0]),
    "maximum of itself": (np.maximum(z, z), POINT, [1.0, 1.0, 1.0]),
    "maximum with its clip": (np.maximum(z, np.clip(z, -1, 1)), POINT, [1.0, 1.0, 1.0]),
    "maximum with its reverse": (np.maximum(z, z[::-1]), POINT, [0.0, 1.0, 2.0]),
    "max": (np.max(z) + 0 * z[0], np.array([2.0, 1.0, 2.0]), [0.5, 0.0, 0.5]),
    "min": (np.min(z) + 0 * z[0], np.array([2.0, 1.0, 1.0]), [0.0, 0.5, 0.5]),
    "norm": (np.linalg.norm(z), np.zeros(3), [0.0, 0.0, 0.0]),
    "where before a pole": (np.where(z < 1, z, np.sqrt(z)), np.array([0.0, -3.0, 4.0]), [1.0, 1.0, 0.25]),
    "where before a logarithm": (np.where(z > 0, np.log(z), 3 * z), np.array([0.0, -3.0, 4.0]), [3.0, 3.0, 0.25]),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_hold_in_both_modes_and_natively(name: str) -> None:
    f, at, want = CONVENTIONS[name]
    f = np.sum(f)
    for mode in ("forward", "reverse"):
        g = sd.gradient(f, z, mode=mode)
        _close(g.evaluate({"z": at}, {"n": 3}), want, mode, 1e-15)
        _close(sd.compile([f, g], [z])(at)[1], want, f"{mode}, native", 1e-15)


SECOND: dict[str, tuple[Any, Any, list[float]]] = {
    "relu squared": (sd.relu(z) ** 2, POINT, [0.0, 0.0, 2.0]),
    "abs": (np.abs(z), POINT, [0.0, 0.0, 0.0]),
    "where before a pole": (np.where(z < 1, z**2, np.sqrt(z)), np.array([0.0, -3.0, 4.0]), [2.0, 2.0, -1 / 32]),
}


@pytest.mark.parametrize("name", SECOND)
def test_conventions_of_second_derivatives(name: str) -> None:
    f, at, want = SECOND[name]
    h = sd.hessian(np.sum(f), z)
    _close(h.evaluate({"z": at}, {"n": 3}), np.diag(want), name, 1e-14)
    _close(sd.compile([f, h], [z])(at)[1], np.diag(want), f"{name}, native", 1e-14)


TIES: dict[str, Callable[[Any], Any]] = {
    "a matrix and its transpose": lambda A: np.sum(np.maximum(A, A.T) ** 2),
    "the smaller of a matrix and its transpose": lambda A: np.sum(np.minimum(A, A.T) ** 3),
    "a vector and its clip": lambda A: np.sum(np.maximum(A, np.clip(A, -0.5, 0.5))),
    "the largest sum of two": lambda A: np.max(A + A.T),
    "the largest of a value written twice": lambda A: np.sum(np.max(np.stack([A, A]), axis=0) ** 2),
    "the largest of what is cut": lambda A: np.max(sd.relu(A - 9) + A[0, 0]),
    "the largest entry": lambda A: np.max(A @ A[0] + A[0]),
    "a value and its magnitude": lambda A: np.sum(np.maximum(A, np.abs(A))),
}


@pytest.mark.parametrize("name", TIES)
def test_closed_forms_hold_where_operands_coincide(name: str) -> None:
    """max(A, A^T) ties on the whole diagonal: a closed form may give a tie to one side, never to both."""
    A = sd.symbol("A", (n, n))
    g = sd.gradient(TIES[name](A), A)
    at = _spread(4, 4)
    _close(g.closed_form().evaluate({"A": at}, {"n": 4}), g.evaluate({"A": at}, {"n": 4}), name)


def test_a_solution_of_many_columns_under_a_condition() -> None:
    """Columns that meet a selection on the other side of a product stay apart, natively too."""
    A = sd.symbol("A", (n, n))
    right = np.concatenate([A, A], axis=-1)
    f = np.sum(np.sin(np.clip(np.linalg.solve(A + 4 * sd.eye(n), right), -0.6, 0.9)))
    g = sd.gradient(f, A)
    at = np.random.default_rng(0).uniform(0.3, 1.4, (4, 4))
    want = g.evaluate(A=at)
    _close(sd.compile(g, [A])(at), want, "native")
    _close(g.closed_form().evaluate(A=at), want, "closed form")


def test_logaddexp_is_smooth_at_ties_and_stable_at_both_ends() -> None:
    a, b = sd.symbol("a"), sd.symbol("b")
    slope = sd.gradient(np.logaddexp(a, b), a)
    assert str(slope) == "σ(a - b)"
    assert slope.evaluate(a=1.5, b=1.5) == 0.5
    assert sd.hessian(np.logaddexp(a, b), a).evaluate(a=1.5, b=1.5) == 0.25
    assert str(np.logaddexp(0, a)) == str(sd.softplus(a))
    native = sd.compile(np.logaddexp(a, b), [a, b])
    for x in (-np.inf, -800.0, 0.0, 3.0, 800.0, np.inf, np.nan):
        for y in (-np.inf, -2.0, 0.0, 3.0, 801.0, np.inf):
            with np.errstate(invalid="ignore"):
                np.testing.assert_allclose(native(x, y), np.logaddexp(x, y), rtol=1e-15)
