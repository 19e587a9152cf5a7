"""What a closed form assumes: facts that it uses, where it is defined, which kinks it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symdiff as sd

NP: Any = np
m, n = sd.dims("m n")
A: Any = sd.symbol("A", (n, n))
S: Any = sd.symbol("S", (n, n), symmetric=True)
P: Any = sd.symbol("P", (n, n), positive_definite=True)
W: Any = sd.symbol("W", (m, n))
x: Any = sd.symbol("x", n)
y: Any = sd.symbol("y", n)
p: Any = sd.symbol("p", n, positive=True)
s: Any = sd.symbol("s")

CASES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "polynomial": (lambda: sd.gradient(x @ A @ x, x), []),
    "symmetry used": (lambda: sd.gradient(x @ S @ x, x), ["S symmetric"]),
    "symmetry not used": (lambda: sd.gradient(x @ S @ y, S), []),
    "a weaker fact will do": (lambda: sd.gradient(x @ P @ x, x), ["P symmetric"]),
    "inverse": (lambda: sd.gradient(x @ NP.linalg.inv(A) @ y, x), ["det A != 0"]),
    "inverse of a sum": (lambda: sd.gradient(NP.linalg.slogdet(A + S)[1], A), ["det (A + S) != 0"]),
    "definite": (lambda: sd.gradient(NP.linalg.slogdet(P)[1], P), ["P symmetric", "P positive definite"]),
    "entries": (lambda: sd.gradient(NP.sum(NP.log(x)), x), ["x_i != 0"]),
    "value of a logarithm": (lambda: NP.sum(NP.log(x)), ["x_i > 0"]),
    "declared positive": (lambda: NP.sum(NP.log(p)), ["p_i > 0"]),
    "divisor declared": (lambda: sd.gradient(NP.sum(y / p), y), ["p_i > 0"]),
    "known positive": (lambda: sd.gradient(NP.log(1 + NP.exp(s)), s), []),
    "norm": (lambda: sd.gradient(NP.linalg.norm(x), x), ["x != 0"]),
    "quotient": (lambda: sd.gradient((x @ A @ x) / (x @ x), x), ["x != 0"]),
    "root": (lambda: NP.sqrt(s), ["s >= 0"]),
    "relu": (lambda: sd.gradient(NP.sum(sd.relu(x)), x), ["x_i != 0"]),
    "relu of a layer": (lambda: sd.gradient(NP.sum(sd.relu(W @ x)), x), ["(W x)_i != 0"]),
    "relu as a value only": (lambda: sd.gradient(y @ sd.relu(x), y), []),
    "absolute value": (lambda: sd.gradient(NP.sum(NP.abs(W)), W), ["W_ij != 0"]),
    "maximum": (lambda: sd.gradient(NP.sum(NP.maximum(x, y)), x), ["x_i != y_i"]),
    "ties": (lambda: sd.gradient(NP.max(x), x), ["no ties in max x"]),
    "arcsine": (lambda: NP.arcsin(s), ["|s| <= 1"]),
    "guarded logarithm": (lambda: sd.gradient(NP.sum(NP.where(x > 0, x * NP.log(x), 0)), x), ["x_i != 0"]),
    "guarded quotient": (lambda: NP.where(x != 0, NP.sin(x) / x, 1), []),
    "guarded by the other branch": (lambda: NP.where(x <= 0, 0, NP.sqrt(x)), []),
    "guarded by both": (lambda: NP.where((x > 0) & (y < 0), NP.log(x) / y, 0), []),
    "guarded in one of two places": (lambda: NP.where(x > 0, NP.log(x), 0) + NP.log(x), ["x_i > 0"]),
    "guarded by something else": (lambda: NP.where(y > 0, NP.log(x), 0), ["x_i > 0"]),
    "product of others": (lambda: sd.gradient(sd.gradient(NP.prod(x), x) @ y, x), ["x_i != 0"]),
}


@pytest.mark.parametrize("name", CASES)
def test_conditions(name: str) -> None:
    make, want = CASES[name]
    assert make().conditions() == want


def test_latex() -> None:
    g = sd.gradient(NP.linalg.slogdet(A + P)[1] + NP.linalg.norm(x) + NP.sum(sd.relu(x)), (A, x))
    assert g[0].conditions(latex=True) == [r"\det \left(A + P\right) \ne 0"]
    assert sd.gradient(x @ P @ x, x).conditions(latex=True) == [r"P = P^{\top}"]
    assert g[1].conditions(latex=True) == [r"x \ne 0", r"x_{i} \ne 0"]


def test_removing_a_listed_fact_changes_the_formula_and_only_then() -> None:
    for fact in ("symmetric", "orthogonal", "diagonal"):
        facts: Any = {fact: True}
        Q: Any = sd.symbol("Q", (n, n), **facts)
        plain: Any = sd.symbol("Q", (n, n))
        for f in (lambda q: x @ q @ x, lambda q: x @ q @ y, lambda q: NP.trace(q @ q.T @ A)):
            used = sd.gradient(f(Q), x if f(Q).function().params[0].name == "x" else A)
            free = sd.gradient(f(plain), x if f(Q).function().params[0].name == "x" else A)
            listed = [c for c in used.conditions() if c.startswith("Q ")]
            assert bool(listed) == (str(used) != str(free)), (fact, str(used), str(free))
