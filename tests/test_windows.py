"""Windows of identities, diagonals and products, natively: slices meet deltas in contractions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

n, m = sd.dims("n m")
x, y = sd.symbol("x", (n,)), sd.symbol("y", (n - 1,))
A, B = sd.symbol("A", (n, m)), sd.symbol("B", (m, n))
eye, diag = sd.eye(n), np.diag(x)

CASES: list[Any] = [
    np.sum(x[:-1]), x[:-1] @ y, A[:-1].T @ y, np.sum(A[:-1], axis=0), (A @ B)[:-1, :-1] @ y, A[:3] @ B,
    np.trace((A @ B)[:4, :4]), np.einsum("ii->i", (A @ B)[:5, :5]), eye[:-1] @ x, eye[:, :-1] @ y, eye[:, :-1] * y,
    eye[:-1, :-1] * y, np.sum(eye[:-1] * x), np.sum(eye[:, :-1]), diag[:-1] @ x, diag[:, :-1] @ y, diag[1:] @ x,
    diag[:, ::2], diag[::-1] @ x, eye[1:] @ x, eye[:, 1:] @ y, np.einsum("i,ji->ji", y, diag[:, :-1]),
    np.einsum("i,ji->i", y, diag[:, :-1]), np.einsum("ij,jk->ik", diag[:, :-1], diag[:-1]),
    np.einsum("ij,ik->jk", eye[:, :-1], A), sd.hessian(np.sum((x[1:] - x[:-1] ** 2) ** 2), x),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_native_windows(case: int) -> None:
    rng = np.random.default_rng(case)
    shapes = {"x": 6, "y": 5, "A": (6, 4), "B": (4, 6)}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    expression = CASES[case]
    native = sd.compile(expression, [x, y, A, B])
    want = expression.evaluate({s.value.name: values[s.value.name] for s in expression.symbols()}, {"n": 6, "m": 4})
    np.testing.assert_allclose(native(*values.values()), want, rtol=1e-12, atol=1e-12)
