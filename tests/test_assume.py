"""Simplifying under declared facts and equalities: the form is shorter, and right where the assumption holds."""

from __future__ import annotations

import numpy as np
import pytest

import symdiff as sd

n = sd.dim("n")
y, z = sd.symbol("y", (n,)), sd.symbol("z", (n,))


def test_labels_that_sum_to_one() -> None:
    g = sd.gradient(-np.sum(y * np.log(sd.softmax(z))), z)
    short = sd.simplify(g, assume=[sd.eq(np.sum(y), 1)])
    assert short.source("numpy").replace(" ", "") == "softmax(z)-y"
    labels = np.array([0.2, 0.5, 0.3])
    point = {"y": labels, "z": np.array([0.3, -1.0, 2.0])}
    np.testing.assert_allclose(short.evaluate(point), g.evaluate(point), rtol=1e-12)
    assert not sd.verify(short, g)  # without the assumption they differ, and verify finds where


def test_a_fact_of_a_symbol() -> None:
    root = np.sqrt(z**2)
    assert str(sd.simplify(root, assume=[(z, "positive")])) == "z"
    assert str(sd.simplify(root)) != "z"


def test_equal_expressions() -> None:
    A, B = sd.symbol("A", (n, n)), sd.symbol("B", (n, n))
    assert str(sd.simplify(A @ B @ z, assume=[sd.eq(A @ B, sd.eye(n))])) == "z"


def test_refusals() -> None:
    with pytest.raises(sd.ShapeError, match="eq: shapes"):
        sd.eq(y, np.ones(3))
    with pytest.raises(sd.ArgumentError, match="expected eq"):
        sd.simplify(y, assume=["positive"])  # type: ignore[list-item]
    with pytest.raises(sd.ArgumentError, match="fact"):
        sd.simplify(y, assume=[(y, "pretty")])
