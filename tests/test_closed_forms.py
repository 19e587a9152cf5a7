"""Derivatives as textbooks print them: right in both modes, and not longer than the textbook's own answer.

`closed_forms.txt` has a case a line: what is derived, and the answer worked out by hand. The answers are compared as
numbers at random points with every dimension different. Length counts operators, calls and leaves; axes, shapes, index
strings and broadcasting subscripts are free.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import symdiff as sd

SIZES = {"m": 4, "n": 3, "p": 5, "q": 2, "r": 6}
FACTS: dict[str, dict[str, Any]] = {
    "": {}, "symmetric": {"symmetric": True}, "positive": {"positive": True}, "spd": {"positive_definite": True},
}  # fmt: skip


class Case(NamedTuple):
    kinds: str
    order: str
    wrt: str
    function: str
    answer: str


def cases() -> list[Case]:
    lines = (Path(__file__).parent / "closed_forms.txt").read_text().splitlines()
    found: list[Case] = []
    for line in lines:
        if not line.startswith("#"):
            kinds, what, function, answer = [w.strip() for w in line.split("|")]
            order, wrt = what.split()
            found.append(Case(kinds, order, wrt, function, answer))
    return found


def declared(kinds: str) -> list[tuple[str, list[str], str]]:
    """(name, dimensions, fact) of each symbol in `X(m,n) S(n,n):spd t()`."""
    return [(n, [d for d in dims.split(",") if d], f) for n, dims, f in re.findall(r"(\w+)\(([\w,]*)\):?(\w*)", kinds)]


def symbols(kinds: str) -> dict[str, Any]:
    dims = {d: sd.dim(d) for d in SIZES}
    return {name: sd.symbol(name, tuple(dims[d] for d in own), **FACTS[fact]) for name, own, fact in declared(kinds)}


def values(kinds: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for name, dims, fact in declared(kinds):
        x = rng.normal(size=[SIZES[d] for d in dims])
        if fact == "positive":
            x = rng.uniform(0.4, 1.8, x.shape)
        elif fact == "symmetric":
            x = x + x.T
        elif fact == "spd":
            x = x @ x.T + np.eye(len(x))
        elif x.ndim == 2 and x.shape[0] == x.shape[1]:
            x = x + 2 * np.eye(len(x))
        found[name] = x
    return found


# -------------------------------------------------------------------- NumPy text
def softmax(z: Any, axis: int = -1) -> Any:
    e = np.exp(z - np.max(z, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


NAMES: dict[str, Any] = {
    "np": np, "softmax": softmax, "trace": np.trace, "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-np.asarray(z))),
    "logsumexp": lambda z, axis=-1: np.log(np.sum(np.exp(z), axis=axis)), **SIZES,
}  # fmt: skip


def evaluate(text: str, at: Mapping[str, Any]) -> Any:
    return np.asarray(eval(text, {**NAMES, **at}), dtype=float)


_FREE = {"eye", "ones", "zeros"}


def length(text: str) -> tuple[int, int]:
    """(operators, calls and leaves; the same with a repeated subterm counted once)."""
    seen: set[str] = set()

    def count(node: ast.expr) -> int:
        parts: list[ast.expr] = []
        own = 1
        match node:
            case ast.Constant() | ast.Name() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
                pass
            case ast.UnaryOp(operand=inner) | ast.Attribute(value=inner, attr="T"):
                parts = [inner]
            case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
                parts = [left, right]
            case ast.Subscript(value=inner):
                own, parts = 0, [inner]
            case ast.Tuple(elts=elements):
                own, parts = 0, elements
            case ast.Call(func=ast.Attribute(value=inner, attr="reshape")):
                own, parts = 0, [inner]
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=args):
                chosen = [] if name in _FREE else args[1:] if name == "einsum" else args
                parts = chosen[:1] if name in ("sum", "mean", "max", "reshape") else list(chosen)
                own = 0 if name == "reshape" else 1
            case _:
                raise TypeError(ast.dump(node))
        if own:
            seen.add(ast.dump(node))
        return own + sum(count(p) for p in parts)

    total = count(ast.parse(text, mode="eval").body)
    return total, len(seen)


@pytest.mark.parametrize("case", cases(), ids=lambda c: f"{c.order} {c.wrt} of {c.function}")
def test_textbook_answer(case: Case) -> None:
    given = symbols(case.kinds)
    f = sd.parse(case.function, given)
    allowed = length(case.answer)
    for mode in ("forward", "reverse"):
        g = getattr(sd, case.order)(f, given[case.wrt], mode=mode)
        text = g.source("numpy")
        assert g.latex()
        for seed in (5, 6):
            at = values(case.kinds, seed)
            want = evaluate(case.answer, at)
            got = evaluate(text, at)
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9 * max(np.max(np.abs(want)), 1e-9), err_msg=text)
        own = length(text)
        assert own[0] <= allowed[0] or own[1] <= allowed[1], f"{mode}: {text}  is longer than  {case.answer}"


# -------------------------------------------------------------------- forms
EQUAL = [
    ("1 - 2*x + x**2", "(x - 1)**2", "x(n)"),
    ("x**3 - 3*x + 2", "(x - 1)**2*(x + 2)", "x(n)"),
    ("(1 - y)/(1 - x) - y/x", "(x - y)/(x*(1 - x))", "x(n):positive y(n)"),
    ("np.sum(np.where(x > y, x, 0)) + np.sum(np.where(x > y, 0, x))", "np.sum(x)", "x(n) y(n)"),
    ("np.kron(A, B)@np.kron(C, D)", "np.kron(A@C, B@D)", "A(m,n) B(q,r) C(n,p) D(r,m)"),
    ("np.kron(A, B).T", "np.kron(A.T, B.T)", "A(m,n) B(q,r)"),
    ("np.kron(A, B)@v.reshape(n*r)", "(A@v@B.T).reshape(m*q)", "A(m,n) B(q,r) v(n,r)"),
    ("np.kron(np.kron(x, y), z)", "np.kron(x, np.kron(y, z))", "x(n) y(m) z(q)"),
    ("np.linalg.inv(np.kron(A, B))", "np.kron(np.linalg.inv(A), np.linalg.inv(B))", "A(n,n) B(m,m)"),
    ("np.linalg.slogdet(np.kron(A, B))[1]", "m*np.linalg.slogdet(A)[1]+n*np.linalg.slogdet(B)[1]", "A(n,n) B(m,m)"),
    ("np.linalg.det(np.kron(A, np.eye(m)))", "np.linalg.det(A)**m", "A(n,n) B(m,m)"),
    ("trace(np.kron(A, B))", "trace(A)*trace(B)", "A(n,n) B(m,m)"),
    ("np.tril(np.tril(A)*B)", "np.tril(A)*B", "A(n,n) B(n,n)"),
    ("np.triu(A).T", "np.tril(A.T)", "A(n,n)"),
    ("np.tril(np.triu(A))", "A*np.eye(n)", "A(n,n)"),
    ("np.tril(np.ones((n, n)))@x", "np.cumsum(x)", "x(n)"),
    ("np.cumsum(2*x + y)", "2*np.cumsum(x) + np.cumsum(y)", "x(n) y(n)"),
    ("np.linalg.inv(S)@np.linalg.inv(np.eye(n) + np.linalg.inv(S))", "np.linalg.inv(S + np.eye(n))", "S(n,n)"),
]


@pytest.mark.parametrize(("one", "other", "kinds"), EQUAL, ids=[e[0] for e in EQUAL])
def test_equal_expressions_have_one_form(one: str, other: str, kinds: str) -> None:
    given = symbols(kinds)
    first, second = [sd.simplify(sd.parse(text, given)).source("numpy") for text in (one, other)]
    assert first == second
    at = values(kinds, 3)
    np.testing.assert_allclose(evaluate(first, at), evaluate(one, at), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(evaluate(other, at), evaluate(one, at), rtol=1e-8, atol=1e-10)


SHOWN = [
    # What is split so that parts can cancel is shown whole.
    ("np.linalg.inv(A @ B) @ x", "A(n,n) B(n,n) x(n)", "np.linalg.solve(A @ B, x)"),
    ("np.linalg.inv(A @ B)", "A(n,n) B(n,n)", "np.linalg.inv(A @ B)"),
    ("A @ np.linalg.inv(A @ B) @ A", "A(n,n) B(n,n)", "A @ np.linalg.inv(B)"),
    ("np.linalg.det(B @ A) / np.linalg.det(C)", "A(n,n) B(n,n) C(n,n)", "np.linalg.det(B @ A)/np.linalg.det(C)"),
    ("np.linalg.det(B @ A) / np.linalg.det(A)", "A(n,n) B(n,n)", "np.linalg.det(B)"),
    ("np.linalg.slogdet(B @ A)[1] - np.linalg.slogdet(B)[1]", "A(n,n) B(n,n)", "np.linalg.slogdet(A)[1]"),
    ("2 - np.linalg.slogdet(B @ A)[1]", "A(n,n) B(n,n)", "2 - np.linalg.slogdet(B @ A)[1]"),
    # Signs, powers and coefficients go where they are short.
    ("-np.sin(x - y)", "x(n) y(n)", "np.sin(y - x)"),
    ("np.where(x - y > 0, z, 0)", "x(n) y(n) z(n)", "np.where(x > y, z, 0)"),
    ("x**2 / s**2", "x(n) s():positive", "(x/s)**2"),
    ("2 * np.diag(1 / x)", "x(n)", "np.diag(2/x)"),
    ("s * np.outer(1 / x, y)", "x(n) y(m) s()", "np.outer(s/x, y)"),
    ("np.sum((x - y)**2)**3", "x(n) y(n)", "np.linalg.norm(x - y)**6"),
    ("np.trace(A.T @ B.T)", "A(n,n) B(n,n)", "np.trace(A @ B)"),
    ("x - np.sum(y)*z/n - np.sum(y)/n", "x(n) y(n) z(n)", "x - np.mean(y)*(z + 1)"),
]


@pytest.mark.parametrize(("text", "kinds", "wanted"), SHOWN, ids=[e[0] for e in SHOWN])
def test_shown_forms(text: str, kinds: str, wanted: str) -> None:
    assert sd.simplify(sd.parse(text, symbols(kinds))).source("numpy") == wanted
    at = values(kinds, 4)
    np.testing.assert_allclose(evaluate(wanted, at), evaluate(text, at), rtol=1e-9, atol=1e-12)
