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
