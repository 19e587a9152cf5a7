"""Forms that overflow in between, spelled out: values and derivatives are right where the steps are infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symdiff as sd

NP: Any = np
n = sd.dim("n")
x, v = sd.symbol("x"), sd.symbol("v", (n,))

# The form, and its value, slope and curvature at -900 and at 900.
SCALARS: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "softplus": (lambda t: NP.log(1 + NP.exp(t)), [0, 0, 0, 900, 1, 0]),
    "softplus, one behind": (lambda t: NP.log(NP.exp(t) + 1), [0, 0, 0, 900, 1, 0]),
    "softplus by log1p": (lambda t: NP.log1p(NP.exp(t)), [0, 0, 0, 900, 1, 0]),
    "logistic": (lambda t: 1 / (1 + NP.exp(-t)), [0, 0, 0, 1, 0, 0]),
    "logistic upwards": (lambda t: NP.exp(t) / (1 + NP.exp(t)), [0, 0, 0, 1, 0, 0]),
    "logistic squared": (lambda t: 1 / (1 + NP.exp(-t)) ** 2, [0, 0, 0, 1, 0, 0]),
    "swish": (lambda t: t / (1 + NP.exp(-t)), [0, 0, 0, 900, 1, 0]),
    "two exponentials": (lambda t: NP.log(NP.exp(t) + NP.exp(-t)), [900, -1, 0, 900, 1, 0]),
    "several exponentials": (
        lambda t: NP.log(NP.sum(NP.exp(t * np.array([1.0, -1.0, 2.0])))), [900, -1, 0, 1800, 2, 0]),
    "in a loop": (
        lambda t: sd.scan(lambda c, a: (c + NP.log(1 + NP.exp(t * a)), a), 0.0, np.array([1.0, 2.0]))[0],
        [0, 0, 0, 2700, 3, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALARS)
def test_values_slopes_curvatures(name: str) -> None:
    form, want = SCALARS[name]
    by_function = [t(form) for t in (sd.jit, sd.grad, sd.hessian)]
    forward = sd.jacfwd(sd.jacfwd(form))
    derivatives = [form(x), sd.gradient(form(x), x), sd.hessian(form(x), x)]
    native = sd.compile(derivatives, [x])
    for at, expected in ((-900.0, want[:3]), (900.0, want[3:])):
        np.testing.assert_allclose([f(at) for f in by_function], expected, rtol=1e-14, atol=1e-300)
        np.testing.assert_allclose(native(at), expected, rtol=1e-14, atol=1e-300)
        assert forward(at) == pytest.approx(expected[2], abs=1e-300)


def test_log_sums_along_axes() -> None:
    far = np.array([[1000.0, 999.0, 0.0], [-2000.0, -2001.0, -2002.0]])
    near = far - np.max(far, axis=1, keepdims=True)
    form: Callable[[Any], Any] = lambda z: NP.log(NP.sum(NP.exp(z), axis=1))  # noqa: E731
    weights = np.exp(near) / np.sum(np.exp(near), axis=1, keepdims=True)
    np.testing.assert_allclose(sd.jit(form)(far), np.max(far, axis=1) + form(near), rtol=1e-14)
    np.testing.assert_allclose(sd.grad(lambda z: NP.sum(form(z)))(far), weights, rtol=1e-12)
    kept: Callable[[Any], Any] = lambda z: NP.sum(z - NP.log(NP.sum(NP.exp(z), axis=0, keepdims=True)))  # noqa: E731
    np.testing.assert_allclose(sd.grad(kept)(far.T), 1 - 3 * weights.T, rtol=1e-12)


def test_a_sum_from_which_the_largest_was_taken_is_left_as_it_is() -> None:
    top = NP.max(v)
    shifted = sd.compile(top + NP.log(NP.sum(NP.exp(v - top))), [v])
    assert "logsumexp" not in str(shifted.ir)


def test_a_variable_inside_stays_a_variable() -> None:
    e = NP.exp(v)
    assert str(sd.gradient(NP.sum(NP.log(1 + e)), e)) == "σ(-v)"
    assert str(sd.gradient(NP.log(NP.sum(e)), e)) == "𝟏/Σ(exp(v))"
