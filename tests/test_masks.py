"""Booleans that stand for numbers: NumPy source negates, multiplies and keeps them as floats would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

gradient: Any = sd.gradient
n = sd.dim("n")
x, y, A, s = sd.symbol("x", (n,)), sd.symbol("y", (n,)), sd.symbol("A", (n, n)), sd.symbol("s")
VALUES = {
    "x": np.array([1.0, -2.0, 0.0]), "y": np.array([0.5, 2.0, -1.0]), "A": np.arange(9.0).reshape(3, 3) - 4, "s": 0.3
}  # fmt: skip


def mask(condition: Any) -> Any:
    return condition * 1.0


P, Q, M = mask(x > 0), mask(y > 0), mask(A > 0)
NP: Any = np
FORMS: dict[str, Any] = {
    "negative": -P,
    "difference": P - Q,
    "negative sum": -P - Q,
    "product": -P * Q,
    "power": P**2,
    "one less": 1 - P,
    "matrix times mask": -(A @ P),
    "mask times vector": -M @ x,
    "masks": M @ P - Q,
    "dot": -(P @ Q),
    "outer": -NP.outer(P, Q),
    "form": -(P @ A @ Q),
    "trace": -NP.trace(M),
    "columns": -NP.sum(M, axis=0),
    "exp": NP.exp(-P),
    "mean": NP.mean(M, axis=0) - P,
    "choice": NP.where(x > 0, P, Q),
    "numbers": NP.where(x > 0, 1.0, 0.0) - NP.where(y > 0, 1.0, 0.0),
    "scaled": 3 * P - 2 * Q,
    "scalar": mask(s > 0) * P - Q,
    "not": -mask(~(x > 0)),
    "and": -mask((x > 0) & (y > 0)),
    "tensor": -NP.einsum("i,j,k->ijk", P, Q, P),
    "slope": gradient(-np.sum(sd.relu(x)), x),
    "slopes": gradient(NP.sum(sd.relu(x)) - NP.sum(sd.relu(x * y)), x),
    "behind a matrix": gradient(-np.sum(sd.relu(A @ x)), x),
    "largest": gradient(-np.max(x), x),
    "number": gradient(-sd.relu(s), s),
    "integers": -((x > 0) * 1),
    "slices": P[1:] - Q[:-1],
    "joined": -NP.concatenate([P, Q]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_masks_in_source(name: str) -> None:
    form = FORMS[name]
    want = form.evaluate(VALUES)
    for shown in (form, sd.simplify(form)):
        text = shown.source()
        space: dict[str, Any] = {"np": np, "n": 3, "relu": lambda v: np.maximum(v, 0.0), **VALUES}  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        got = np.asarray(eval(text, space))
        np.testing.assert_allclose(got, want, err_msg=text)
        assert got.dtype == np.asarray(want).dtype, text


def test_single_precision_choices_stay_single() -> None:
    v = sd.symbol("v", (n,), "f32")
    text = gradient(NP.sum(NP.where(v > 0, 3 * v, 2 * v)), v).source()
    assert text == "np.where(v > 0, np.float32(3), np.float32(2))"
    assert eval(text, {"np": np, "v": np.ones(3, np.float32)}).dtype == np.float32
