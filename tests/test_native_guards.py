"""Native code keeps every guard of a derivative: a branch not taken is an exact zero beside whatever is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

n = sd.dim("n")
x, y = sd.symbol("x", (n,)), sd.symbol("y", (n,))
at = {"x": np.array([-1.0, 0.0, 2.0]), "y": np.array([-2.0, -0.5, -3.0])}

CASES: dict[str, tuple[Any, Any]] = {
    "root": (np.where(x > 0, x * x / np.sqrt(x), 0.0), [0.0, 0.0, 1.5 * np.sqrt(2.0)]),
    "entropy": (np.where(x > 0, x * np.log(x), 0.0), [0.0, 0.0, np.log(2.0) + 1]),
    "hypot": (np.hypot(sd.relu(x), sd.relu(y)), [0.0, 0.0, 1.0]),
    "norm": (np.stack([np.linalg.norm(sd.relu(x[:2]))]), [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("name", list(CASES))
def test_guards(name: str) -> None:
    f, want = CASES[name]
    gradient = sd.gradient(np.sum(f), x)
    np.testing.assert_allclose(sd.compile(gradient, [x, y])(at["x"], at["y"]), want, rtol=1e-12)


def test_zeros_around_what_is_not_finite() -> None:
    c = sd.symbol("c", ())
    padded = sd.compile([np.pad(x / c, (1, 2)), np.concatenate([x / c, y])], [x, y, c])
    with np.errstate(divide="ignore", invalid="ignore"):
        infinite = at["x"] / 0.0
    around, beside = padded(at["x"], at["y"], 0.0)
    np.testing.assert_array_equal(around, np.pad(infinite, (1, 2)))
    np.testing.assert_array_equal(beside, np.concatenate([infinite, at["y"]]))


def test_quotients_of_what_logarithms_reach() -> None:
    p, q = sd.symbol("p", (n,), positive=True), sd.symbol("q", (n,), positive=True)
    gradient = sd.gradient(np.sum(p * (np.log(p) - np.log(q))), p)
    large, small = np.array([1e200, 3.0, 1e-200]), np.array([1e-200, 0.5, 1e200])
    np.testing.assert_allclose(sd.compile(gradient, [p, q])(large, small), np.log(large) - np.log(small) + 1)
