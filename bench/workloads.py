"""Functions whose derivatives are priced by every mode: of the kinds people differentiate, at a few sizes each.

Each gives (y, x, sizes). `HELD_OUT` names those that no figure of the machine model was ever looked at with: they show
what predictions are worth on functions that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import symdiff as sd

m, n, k = sd.dims("m n k")


def softmax_regression() -> tuple[Any, Any, dict[str, Any]]:
    """The cross-entropy of a linear classifier, in its weights."""
    X, W, Y = sd.symbol("X", (m, n)), sd.symbol("W", (n, k)), sd.symbol("Y", (m, k))
    Z = X @ W
    return np.sum(sd.logsumexp(Z, axis=1)) - np.sum(Y * Z), W, {"m": [50, 500], "n": 60, "k": 10}


def tall() -> tuple[Any, Any, dict[str, Any]]:
    """R^3 -> R^1000: one tangent per input."""
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    return np.tanh(W @ x), x, {"m": 1000, "n": 3}


def tall_layers() -> tuple[Any, Any, dict[str, Any]]:
    """R^3 -> R^1000 through a hidden layer: the modes multiply the layers in different orders."""
    V, W, x = sd.symbol("V", (m, k)), sd.symbol("W", (k, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(W @ x)), x, {"m": 1000, "k": 100, "n": 3}


def wide_layers() -> tuple[Any, Any, dict[str, Any]]:
    """R^1000 -> R^3 through a hidden layer."""
    y, x, _ = tall_layers()
    return y, x, {"m": 3, "k": 100, "n": 1000}


def wide() -> tuple[Any, Any, dict[str, Any]]:
    """R^1000 -> R^3."""
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    return np.tanh(W @ x), x, {"m": 3, "n": 1000}


def elementwise() -> tuple[Any, Any, dict[str, Any]]:
    """A chain of functions of each entry, summed."""
    x = sd.symbol("x", (n,))
    return np.sum(np.exp(np.sin(x) * np.tanh(x)) * np.sqrt(1 + x * x)), x, {"n": [100, 2000]}


def matrix_chain() -> tuple[Any, Any, dict[str, Any]]:
    """The sum of entries of a product of three matrices."""
    A, B, C = sd.symbol("A", (m, n)), sd.symbol("B", (n, n)), sd.symbol("C", (n, m))
    return np.sum((A @ B @ C) ** 2), B, {"m": 40, "n": [40, 160]}


def vector_chain() -> tuple[Any, Any, dict[str, Any]]:
    """Three layers applied to a vector; the gradient in the first weights."""
    A, B, x = sd.symbol("A", (n, n)), sd.symbol("B", (n, n)), sd.symbol("x", (n,))
    return np.sum(np.tanh(B @ np.tanh(A @ x))), A, {"n": [30, 100]}


def mixture() -> tuple[Any, Any, dict[str, Any]]:
    """The log-likelihood of a mixture of spherical Gaussians, in the means."""
    X, mu, alpha = sd.symbol("X", (n, m)), sd.symbol("mu", (k, m)), sd.symbol("alpha", (k,))
    square = np.sum((X[:, None, :] - mu[None, :, :]) ** 2, axis=2)
    return np.sum(sd.logsumexp(alpha[None, :] - square / 2, axis=1)), mu, {"n": 300, "m": 4, "k": 5}


def logistic() -> tuple[Any, Any, dict[str, Any]]:
    """The gradient of logistic regression, whose Jacobian is the Hessian."""
    X, w, t = sd.symbol("X", (m, n)), sd.symbol("w", (n,)), sd.symbol("t", (m,))
    loss = np.sum(sd.softplus(X @ w)) - t @ (X @ w)
    return sd.gradient(loss, w), w, {"m": [100, 1000], "n": 20}


def least_squares() -> tuple[Any, Any, dict[str, Any]]:
    """The squared residual of a linear model."""
    A, x, b = sd.symbol("A", (m, n)), sd.symbol("x", (n,)), sd.symbol("b", (m,))
    return np.sum((A @ x - b) ** 2), x, {"m": [20, 500], "n": [20, 500]}


def log_determinant() -> tuple[Any, Any, dict[str, Any]]:
    """The log-determinant of a positive definite matrix."""
    A = sd.symbol("A", (n, n), positive_definite=True)
    return np.linalg.slogdet(A)[1], A, {"n": [10, 60]}


def polynomial() -> tuple[Any, Any, dict[str, Any]]:
    """A scalar function of a scalar: all overhead."""
    x = sd.symbol("x")
    return x**5 - 3 * x**3 + np.sin(x) * x, x, {}


def bottleneck() -> tuple[Any, Any, dict[str, Any]]:
    """R^n -> R^2 -> R^n with wide layers on both sides: elimination multiplies nothing wide."""
    A, B = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2))
    V, W, x = sd.symbol("V", (n, n)), sd.symbol("W", (n, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(B @ np.tanh(A @ np.tanh(W @ x)))), x, {"n": [30, 100, 300]}


def narrow() -> tuple[Any, Any, dict[str, Any]]:
    """R^n -> R^2 -> R^n, the two layers alone."""
    A, B, x = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2)), sd.symbol("x", (n,))
    return np.tanh(B @ np.tanh(A @ np.sin(x))), x, {"n": [50, 500]}


def attention() -> tuple[Any, Any, dict[str, Any]]:
    """One query against n keys, in the query."""
    K, V, q = sd.symbol("K", (n, k)), sd.symbol("V", (n, k)), sd.symbol("q", (k,))
    return sd.softmax(K @ q) @ V, q, {"n": [50, 500], "k": 16}


def linear_system() -> tuple[Any, Any, dict[str, Any]]:
    """The solution of a linear system whose matrix depends on a few parameters."""
    A, C, t, b = sd.symbol("A", (n, n)), sd.symbol("C", (n, k)), sd.symbol("t", (k,)), sd.symbol("b", (n,))
    d = np.exp(C @ t)
    return np.linalg.solve(A + np.diag(d), b), t, {"n": [20, 60], "k": 4}


def normalized() -> tuple[Any, Any, dict[str, Any]]:
    """A layer with normalization, in its input."""
    W, x = sd.symbol("W", (n, n)), sd.symbol("x", (n,))
    z = np.tanh(W @ x)
    c = z - np.mean(z)
    return c / np.sqrt(np.mean(c * c) + 1e-5), x, {"n": [20, 200]}


def stencil() -> tuple[Any, Any, dict[str, Any]]:
    """A nonlinear heat equation on a line: three bands."""
    x = sd.symbol("x", (n,))
    return x[1:-1] ** 3 + x[2:] - 2 * x[1:-1] + x[:-2], x, {"n": [50, 400]}


def factorization_hessian() -> tuple[Any, Any, dict[str, Any]]:
    """The gradient of |A - U V^T|^2 in U, whose Jacobian has an identity factor."""
    A, U, V = sd.symbol("A", (m, n)), sd.symbol("U", (m, k)), sd.symbol("V", (n, k))
    return sd.gradient(np.sum((A - U @ V.T) ** 2), U), U, {"m": 20, "n": 30, "k": 4}


def heads() -> tuple[Any, Any, dict[str, Any]]:
    """Self-attention with four heads, in the input."""
    x = sd.symbol("x", (n, m))
    Q, K, V = (sd.symbol(name, (4, m, k)) for name in "QKV")
    scores = np.einsum("hik,hjk->hij", np.einsum("im,hmk->hik", x, Q), np.einsum("im,hmk->hik", x, K)) / np.sqrt(k)
    values = np.einsum("hij,hjk->hik", sd.softmax(scores, axis=-1), np.einsum("im,hmk->hik", x, V))
    return np.sum(values**2), x, {"n": [12, 60], "m": 16, "k": 4}


def convolution() -> tuple[Any, Any, dict[str, Any]]:
    """Two convolutions on a line by slices, in the signal."""
    x, u, v = sd.symbol("x", (n,)), sd.symbol("u", (3,)), sd.symbol("v", (3,))
    first = np.tanh(u[0] * x[:-2] + u[1] * x[1:-1] + u[2] * x[2:])
    return np.tanh(v[0] * first[:-2] + v[1] * first[1:-1] + v[2] * first[2:]), x, {"n": [40, 300]}


def small_systems() -> tuple[Any, Any, dict[str, Any]]:
    """A batch of 3 x 3 linear systems, in the right sides of all."""
    A, b = sd.symbol("A", (n, 3, 3)), sd.symbol("b", (n, 3))
    return np.linalg.solve(A, b[:, :, None])[:, :, 0], b, {"n": [8, 40]}


def gaussian_process() -> tuple[Any, Any, dict[str, Any]]:
    """The log-likelihood of a Gaussian process, in its three hyperparameters."""
    X, y, theta = sd.symbol("X", (n, k)), sd.symbol("y", (n,)), sd.symbol("theta", (3,))
    square = np.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=2)
    C = np.exp(theta[0]) * np.exp(-square * np.exp(theta[1])) + np.exp(theta[2]) * sd.eye(n)
    return -(y @ np.linalg.solve(C, y)) / 2 - np.linalg.slogdet(C)[1] / 2, theta, {"n": [30, 120], "k": 3}


def lstm_cell() -> tuple[Any, Any, dict[str, Any]]:
    """One step of an LSTM; its new state in the old one."""
    W, U, b = sd.symbol("W", (4, k, m)), sd.symbol("U", (4, k, k)), sd.symbol("b", (4, k))
    x, h, c = sd.symbol("x", (m,)), sd.symbol("h", (k,)), sd.symbol("c", (k,))
    z = W @ x + U @ h + b
    state = sd.sigmoid(z[0]) * c + sd.sigmoid(z[1]) * np.tanh(z[2])
    return sd.sigmoid(z[3]) * np.tanh(state), h, {"m": 20, "k": [16, 100]}


def kalman_step() -> tuple[Any, Any, dict[str, Any]]:
    """The mean after a prediction and an update, in the mean before."""
    F, H, y, x = sd.symbol("F", (n, n)), sd.symbol("H", (k, n)), sd.symbol("y", (k,)), sd.symbol("x", (n,))
    P, Q, R = (sd.symbol(name, (s, s), positive_definite=True) for name, s in (("P", n), ("Q", n), ("R", k)))
    ahead, spread = np.tanh(F @ x), F @ P @ F.T + Q
    gain = np.linalg.solve(H @ spread @ H.T + R, H @ spread).T
    return ahead + gain @ (y - H @ ahead), x, {"n": [10, 60], "k": 4}


def burgers() -> tuple[Any, Any, dict[str, Any]]:
    """The residual of an implicit step of Burgers' equation on a ring."""
    u, old, a, b = sd.symbol("u", (n,)), sd.symbol("old", (n,)), sd.symbol("a"), sd.symbol("b")
    left, right = np.roll(u, 1), np.roll(u, -1)
    return u - old + a * u * (right - left) - b * (right - 2 * u + left), u, {"n": [50, 400]}


def poisson_2d() -> tuple[Any, Any, dict[str, Any]]:
    """The residual of a nonlinear Poisson equation on a square."""
    u = sd.symbol("u", (n, n))
    around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
    return around - 4 * u[1:-1, 1:-1] + np.exp(u[1:-1, 1:-1]), u, {"n": [8, 20]}


def arm() -> tuple[Any, Any, dict[str, Any]]:
    """The position of a planar arm of seven joints, in the angles."""
    q, lengths = sd.symbol("q", (7,)), sd.symbol("l", (7,))
    total = np.cumsum(q)
    return np.stack([lengths @ np.cos(total), lengths @ np.sin(total)]), q, {}


def springs() -> tuple[Any, Any, dict[str, Any]]:
    """The gradient of the energy of springs between numbered points, whose Jacobian is the Hessian."""
    x, rest = sd.symbol("x", (n, 2)), sd.symbol("rest", (m,))
    i, j = sd.symbol("i", (m,), "i64"), sd.symbol("j", (m,), "i64")
    length = np.sqrt(np.sum((x[i] - x[j]) ** 2, axis=1) + 1.0)
    return sd.gradient(np.sum((length - rest) ** 2), x), x, {"n": [10, 40], "m": 100}


def ratings() -> tuple[Any, Any, dict[str, Any]]:
    """Squared errors of a bilinear model of ratings, in the users' factors."""
    U, V, r = sd.symbol("U", (n, k)), sd.symbol("V", (n, k)), sd.symbol("r", (m,))
    i, j = sd.symbol("i", (m,), "i64"), sd.symbol("j", (m,), "i64")
    return np.sum((np.sum(U[i] * V[j], axis=1) - r) ** 2), U, {"n": 50, "k": 8, "m": [100, 2000]}


def deep() -> tuple[Any, Any, dict[str, Any]]:
    """A network of four layers on a batch; its loss in the second layer's weights."""
    X, Y = sd.symbol("X", (m, n)), sd.symbol("Y", (m, k))
    A, B, C, D = (sd.symbol(name, shape) for name, shape in zip("ABCD", ((n, n), (n, n), (n, n), (n, k)), strict=True))
    hidden = np.maximum(np.tanh(np.maximum(X @ A, 0) @ B) @ C, 0)
    return np.mean((hidden @ D - Y) ** 2), B, {"m": [16, 128], "n": 32, "k": 4}


def residual_block() -> tuple[Any, Any, dict[str, Any]]:
    """x + V tanh(W x) after a normalization, in x."""
    V, W, x = sd.symbol("V", (n, k)), sd.symbol("W", (k, n)), sd.symbol("x", (n,))
    c = (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-5)
    return x + V @ np.tanh(W @ c), x, {"n": [30, 200], "k": 10}


def student_t() -> tuple[Any, Any, dict[str, Any]]:
    """The log-likelihood of a linear model with Student's errors, in its weights."""
    X, y, w, s = sd.symbol("X", (m, n)), sd.symbol("y", (m,)), sd.symbol("w", (n,)), sd.symbol("s")
    r = (y - X @ w) * np.exp(-s)
    return -np.sum(2.5 * np.log1p(r * r / 4)) - m * s, w, {"m": [50, 2000], "n": 7}


def bilinear() -> tuple[Any, Any, dict[str, Any]]:
    """The entries of X^T A X in a tall X: a Jacobian of four axes."""
    A, X = sd.symbol("A", (n, n), symmetric=True), sd.symbol("X", (n, k))
    return X.T @ A @ X, X, {"n": [10, 60], "k": 4}


def ode_step() -> tuple[Any, Any, dict[str, Any]]:
    """One Runge-Kutta step of coupled oscillators, in the state."""
    K, x, h = sd.symbol("K", (n, n)), sd.symbol("x", (n,)), sd.symbol("h")

    def slope(z: Any) -> Any:
        return np.sin(K @ z) - z

    one = slope(x)
    two = slope(x + h / 2 * one)
    return x + h * slope(x + h / 2 * two), x, {"n": [10, 80]}


TUNED: tuple[Callable[[], tuple[Any, Any, dict[str, Any]]], ...] = (
    softmax_regression, tall, tall_layers, wide, wide_layers, elementwise, matrix_chain, vector_chain, mixture,
    logistic, least_squares, log_determinant, polynomial, bottleneck, narrow, attention, linear_system, normalized,
    stencil, factorization_hessian, heads, convolution, gaussian_process, lstm_cell, burgers, springs, deep, ode_step,
)  # fmt: skip
HELD_OUT: tuple[Callable[[], tuple[Any, Any, dict[str, Any]]], ...] = (
    small_systems, kalman_step, poisson_2d, arm, ratings, residual_block, student_t, bilinear,
)  # fmt: skip
WORKLOADS = TUNED + HELD_OUT
