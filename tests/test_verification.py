"""`sd.verify`: equal formulas are told from different ones that look alike, and the counterexample is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

# NumPy on symbols gives symbols, which its own stubs do not say.
NP: Any = np
gradient: Any = sd.gradient
hessian: Any = sd.hessian
n = sd.dim("n")
x, y, s, t = sd.symbol("x", (n,)), sd.symbol("y", (n,)), sd.symbol("s"), sd.symbol("t")
A, B = sd.symbol("A", (n, n)), sd.symbol("B", (n, n))
S, P = sd.symbol("S", (n, n), symmetric=True), sd.symbol("P", (n, n), positive_definite=True)
p = sd.symbol("p", (n,), positive=True)
f, g, L = sd.function("f"), sd.function("g"), sd.function("L", scalar=True)
inverse: Any = NP.linalg.inv(P)

EQUAL: dict[str, tuple[Any, Any]] = {
    "symmetric": (S @ x, S.T @ x),
    "positive": (NP.sqrt(p**2), p),
    "rounding of a constant": (x * (1 + 1e-10), x),
    "cancelling": ((x + 1e8) - 1e8, x),
    "cancelling far out": (NP.cosh(s) ** 2 - NP.sinh(s) ** 2, 1 + 0 * s),
    "period": (NP.sin(s), NP.sin(s + 2 * np.pi)),
    "undefined everywhere": (NP.log(-p), NP.log(-p)),
    "booleans": (x > 0, ~(x <= 0)),
    "overflow on one side": (NP.exp(s) / (1 + NP.exp(s)), sd.sigmoid(s)),
    "rank-one update": (
        NP.linalg.inv(P + NP.outer(x, x)), inverse - inverse @ NP.outer(x, x) @ inverse / (1 + x @ inverse @ x)
    ),
    "undefined function": (f(x + y), f(y + x)),
    "its second derivative": (hessian(np.sum(f(A @ x)), x), hessian(np.sum(f(A @ x)), x, mode="forward")),
    "functional": (hessian(L(A @ x), x), hessian(L(A @ x), x, mode="forward")),
}  # fmt: skip

DIFFERENT: dict[str, tuple[Any, Any]] = {
    "transpose": (A @ x, A.T @ x),
    "order": (A @ B, B @ A),
    "broadcast": (x + A, x[:, None] + A),
    "half line": (NP.abs(s), s),
    "near constants": (x * 1.0000001, x),
    "a branch beyond 10": (NP.where(s > 10, s, 0 * s), 0 * s),
    "a small entry": (NP.concatenate([x * 1e12, y]), NP.concatenate([x * 1e12, 2 * y])),
    "small numbers": (x * 1e-200, x * 2e-200),
    "sign of infinity": (1 / (s * 0), -1 / (s * 0)),
    "domain": (NP.log(x), NP.log(NP.abs(x))),
    "saturating": (NP.tanh(50 * s), NP.sign(s)),
    "booleans": (x > 0, x < 0),
    "undefined functions": (f(x), g(x)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name: str) -> None:
    found = sd.verify(*EQUAL[name])
    assert found and "equal at 5 random points" in str(found), str(found)


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name: str) -> None:
    found = sd.verify(*DIFFERENT[name])
    assert not found and str(found).startswith("not equal: "), str(found)
    left, right = str(found).removeprefix("not equal: ").split(" at ")[0].split(";")[0].split(",")[0].split(" against ")
    assert left != right, str(found)  # enough digits to see it


def test_a_set_of_measure_zero_is_named() -> None:
    r = np.sum(sd.relu(x))
    found = sd.verify(gradient(r, x), gradient(r, x, kinks={"relu": 1}))
    assert found and "but not where entries vanish or are tied: 0 against 1" in str(found)


def test_given_functions_are_used() -> None:
    assert sd.verify(f(x), x**2, functions={"f": lambda v, wrt: v**2})  # pyright: ignore[reportUnknownLambdaType]
    assert not sd.verify(f(x), x**2)
