"""Axes that are known to hold nothing: programs compile, results have the right shape, and no loops are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

import codegen
import symdiff as sd
from codegen.ir.loops import For, statements
from codegen.schedule.jobs import build
from symdiff.api.expression import function_of
from symdiff.interp import interpret

n = sd.dim("n")
A, B, S, T = sd.symbol("A", (3, 0)), sd.symbol("B", (0, 4)), sd.symbol("S", (3, 3)), sd.symbol("T", (5, 0, 2))
x, k, flags = sd.symbol("x", (n,)), sd.symbol("k", (0,), "i64"), sd.symbol("flags", (2, 0), "bool")
INPUTS = [A, B, S, T, x, k, flags]


def loop(pick: int) -> Any:
    """The last carry, or the outputs, of a loop over no rows."""
    return sd.scan(lambda c, row: (np.tanh(c + np.sum(row)), np.outer(c, row)), x, A.T)[pick]


def inner(pick: int) -> Any:
    """The same of a loop whose steps hold nothing."""
    return sd.scan(lambda c, t: (c + np.exp(t).T, np.exp(c).T), np.zeros((2, 0)), T)[pick]


PROGRAMS: dict[str, Callable[[], Any]] = {
    "map": lambda: np.exp(A).T, "broadcast": lambda: np.outer(x, k * 1.0), "product": lambda: A @ B,
    "product of three": lambda: np.einsum("ij,jk,il->kl", A, B, S), "sum": lambda: np.sum(np.exp(A), axis=1),
    "sum of nothing": lambda: np.sum(np.exp(A), axis=0), "sum of all": lambda: np.sum(T, axis=(1, 2)),
    "prod": lambda: np.prod(B, axis=0), "max": lambda: np.max(T, axis=0).T, "argmax": lambda: np.argmax(T, axis=0).T,
    "running": lambda: np.cumsum(np.exp(A).T, axis=0), "softmax": lambda: sd.softmax(np.exp(A).T, axis=1),
    "joined": lambda: np.concatenate([np.exp(A).T, S]), "gathered": lambda: np.exp(S[k].T),
    "scattered": lambda: sd.gradient(np.sum(x[k] ** 2) + np.sum(x**3), x), "flip": lambda: np.exp(A.T)[::-1],
    "windows": lambda: sd.gradient(np.sum(np.sin(T[1:3]) ** 2) + np.sum(np.cos(T[::2])), T).T,
    "flat": lambda: np.exp(T.T).reshape(0, 10), "triangle": lambda: np.tril(A.T),
    "solve": lambda: np.linalg.solve(S, A).T,
    "booleans": lambda: np.where(flags, 1.0, 2.0).T, "integers": lambda: (k + 1)[:, None] * np.ones((1, 2)),
    "last": lambda: loop(0), "outputs": lambda: loop(1), "last of nothing": lambda: inner(0),
    "outputs of nothing": lambda: inner(1),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_axes_that_hold_nothing(name: str, rng: Any) -> None:
    function = function_of([PROGRAMS[name]()], INPUTS)
    given = [np.zeros((3, 0)), np.zeros((0, 4)), rng.normal(size=(3, 3)), np.zeros((5, 0, 2)), rng.normal(size=4),
             np.zeros(0, np.int64), np.zeros((2, 0), bool)]  # fmt: skip
    (expected,) = interpret(function, given)
    for threads in (1, 2):
        (got,) = codegen.compile(function, opt=1, threads=threads)(*given)
        assert np.shape(got) == np.shape(expected) and np.asarray(got).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_nothing_is_written_for_them() -> None:
    results: list[Any] = [np.exp(A).T, np.sum(np.sin(B), axis=0), np.exp(A) @ B]
    program, _ = build(function_of(results, INPUTS), "f")
    loops = [s for kernel in program.kernels for s in statements(kernel.body) if isinstance(s, For)]
    assert all(loop.extent != 0 for loop in loops)
    assert not any("exp" in str(kernel.body) or "sin" in str(kernel.body) for kernel in program.kernels)


@pytest.mark.parametrize("start", [0, 3])
def test_nothing_flat_beside_something(start: int) -> None:
    a = sd.symbol("a", (3, 2))
    given = np.arange(6.0).reshape(3, 2)
    for part in (a[start:start], a[start:start, None], a[:, start:start]):
        f: Any = np.concatenate([part.ravel(), np.sin(a).ravel()])
        assert np.array_equal(sd.compile(f, [a])(given), np.sin(given).ravel())
        assert np.array_equal(sd.compile(part.ravel(), [a])(given), [])


def test_an_array_of_nothing_in_latex() -> None:
    a = sd.symbol("a", (3, 2))
    none = a[np.array([], dtype=int)]
    assert none.latex() == r"a_{[\operatorname{array}_{0}]}"
    slope = sd.gradient(cast(Any, np.sum)(np.sin(none) * np.ones((0, 2))), a)
    assert r"\operatorname{array}_{0}" in slope.latex()
