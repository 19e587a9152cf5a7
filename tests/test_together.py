"""Arrays, sparse and structured derivatives from one compile: equal to those compiled alone, and shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from structures import X, n, rosenbrock

import symdiff as sd
from codegen.kernels import main
from symdiff.errors import ArgumentError

m = sd.dim("m")
I = sd.symbol("i", (m,), "i64")


def chain(x: Any) -> Any:
    """Dear to evaluate, so that sharing shows."""
    return np.sum(np.exp(np.sin(x[1:] * x[:-1])))


def outputs(f: Any, x: Any, mode: str) -> list[Any]:
    return [
        f, sd.gradient(f, x), sd.hessian(f, x, sparse=True, mode=mode),
        sd.hessian(f, x, sparse=True, format="csc", mode=mode), sd.hessian(f, x, form="structured"),
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["auto", "coloured", "acyclic"])
def test_outputs_of_every_kind_in_one_call(mode: str) -> None:
    f = rosenbrock(X) + chain(X)
    given = outputs(f, X, mode)
    together = sd.compile(given, [X])
    alone = [sd.compile(out, [X]) for out in given]
    for size in (7, 3, 7):
        at = np.random.default_rng(size).normal(size=size)
        for found, own in zip(together(at), alone, strict=True):
            want = own(at)
            assert type(found) is type(want) or np.ndim(found) == 0
            dense = [np.asarray(v.toarray() if hasattr(v, "toarray") else v) for v in (found, want)]
            np.testing.assert_allclose(*dense, rtol=1e-12, atol=1e-12)
        call = together.bind(at)
        first = call()[2].toarray()
        at += 0.5
        np.testing.assert_allclose(call()[2].toarray(), alone[2](at).toarray(), rtol=1e-12, atol=1e-12)
        assert not np.allclose(first, call()[2].toarray())


def test_common_subexpressions_are_computed_once() -> None:
    """Value, gradient and Hessian of one program need one exp of each window."""
    x = sd.symbol("x", (n,))
    f = np.sum(np.exp(x**3))
    parts = [f, sd.gradient(f, x), sd.hessian(f, x, sparse=True), sd.hessian(f, x, form="structured")]
    together = sd.compile(parts, [x])
    together(np.ones(4))
    (program,) = together.programs
    assert sum(v.op.name == "exp" for v in program.instrs) == 1


def test_index_arrays_belong_to_their_output() -> None:
    """Two sparse outputs whose entries are gathered have index arrays of different lengths, and one that has sweeps."""
    y = np.concatenate([X[I] * X[:1], np.sin(X[I[::-1]]) + X[:1]])
    z = np.cumsum(X)
    parts = [
        sd.jacobian(y, X, sparse=True), sd.jacobian(z, X, sparse=True), sd.jacobian(y, X, sparse=True, format="csc"),
        sd.jacobian(X[I] ** 2, X, sparse=True, mode="coloured"),
    ]  # fmt: skip
    together = sd.compile(parts, [X, I])
    for size, index in ((5, [0, 3, 4, 4]), (6, [1, -1]), (5, [2, 3, 4, 1])):
        at = np.random.default_rng(size).normal(size=size)
        for found, part in zip(together(at, np.array(index)), parts, strict=True):
            want = sd.compile(part, [X, I])(at, np.array(index))
            np.testing.assert_allclose(found.toarray(), want.toarray(), rtol=1e-13)
            assert found.format == want.format


def test_many_colours_are_swept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where seeds go in blocks, that output has a program of its own beside the others."""
    monkeypatch.setattr("symdiff.api.sparse_plans.SEEDED", 10)
    f = chain(X)
    together = sd.compile([f, sd.hessian(f, X, sparse=True, mode="star")], [X])
    at = np.random.default_rng(0).normal(size=9)
    for value, hessian in (together(at), together.bind(at)()):
        np.testing.assert_allclose(value, sd.compile(f, [X])(at))
        np.testing.assert_allclose(hessian.toarray(), sd.compile(sd.hessian(f, X), [X])(at), atol=1e-13)


# -------------------------------------------------------------------- kinks and threads
RELU = np.sum(sd.relu(X[1:] * X[:-1]) * X[1:])


@pytest.mark.parametrize("mode", ["auto", "coloured", "direct"])
def test_kinks_of_sparse_and_structured_derivatives(mode: str) -> None:
    """At zeros the chosen derivative is taken, in the gradient of a Hessian and in its sweeps."""
    at = np.array([1.0, 0.0, 2.0, -1.0])
    kinks = {"relu": 1}
    y = sd.relu(X) * np.roll(X, 1)
    for choice in (None, kinks):
        want = sd.compile(sd.jacobian(y, X, kinks=choice), [X])(at)
        found = [
            sd.sparse_jacobian(y, X, mode=mode, kinks=choice)(at),
            sd.compile(sd.jacobian(y, X, sparse=True, mode=mode, kinks=choice), [X])(at),
            sd.sparse_jacobian(lambda x: sd.relu(x) * np.roll(x, 1), mode=mode, kinks=choice)(at),
            sd.compile(sd.jacobian(y, X, form="structured", kinks=choice), [X])(at),
        ]
        for own in found:
            np.testing.assert_array_equal(own.toarray(), want)
        want = sd.compile(sd.hessian(RELU, X, kinks=choice), [X])(at)
        found = [
            sd.sparse_hessian(RELU, X, mode=mode, kinks=choice)(at),
            sd.compile(sd.hessian(RELU, X, form="structured", kinks=choice), [X])(at),
        ]
        for own in found:
            np.testing.assert_array_equal(own.toarray(), want)
    chosen, usual = (sd.sparse_jacobian(y, X, kinks=c)(at).toarray() for c in (kinks, None))
    assert np.any(chosen != usual)


def test_choices_that_are_none_are_refused() -> None:
    for make in (
        lambda: sd.sparse_jacobian(X**2, X, kinks={"sideways": 1}),
        lambda: sd.jacobian(X**2, X, sparse=True, kinks={"sideways": 1}),
        lambda: sd.sparse_jacobian(lambda x: x, kinks={"sideways": 1}),
        lambda: sd.hessian(RELU, X, form="structured", kinks={"sideways": 1}),
    ):
        with pytest.raises(ArgumentError, match="sideways has no kink"):
            make()


@pytest.mark.usefixtures("shared")
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "SHARED_WORK", 0)
    f = chain(X)
    at = np.random.default_rng(0).normal(size=50_000)
    one, two = (sd.sparse_hessian(f, X, threads=t)(at) for t in (1, 2))
    np.testing.assert_array_equal(one.data, two.data)
    two = sd.hessian(lambda x: chain(x), sparse=True, threads=2)(at)
    np.testing.assert_array_equal(one.data, two.data)
    one, two = (sd.compile([f, sd.hessian(f, X, form="structured")], [X], threads=t)(at) for t in (1, 2))
    assert one[0] == two[0]
    for a, b in zip(one[1].arrays, two[1].arrays, strict=True):
        np.testing.assert_array_equal(a, b)
