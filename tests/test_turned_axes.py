"""Axes that are turned round: twice is not at all, running sums run the other way, and gradients come out so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

m, n = sd.dims("m n")
x: Any = sd.symbol("x", (n,))
A: Any = sd.symbol("A", (m, n))


def test_an_axis_turned_twice_is_as_it_was() -> None:
    assert x[::-1][::-1].value is x.value
    assert np.flip(np.flip(A, 0), 0).value is A.value
    assert np.flip(np.flip(A, 0), 1).value is not A.value
    y = sd.symbol("y", (n,))
    assert str(sd.gradient(np.sum(np.sin(x)[::-1] * y), x)) == "cos(x) ⊙ y[n - 1…0 by -1]"


@pytest.mark.parametrize("across", [0, 1, (0, 1)])
@pytest.mark.parametrize("back", [0, 1, (0, 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_of_what_is_turned(axis: int, across: Any, back: Any, rng: np.random.Generator) -> None:
    turned: Any = np.flip(np.cumsum(np.flip(A, across), axis=axis), back)
    if across == back == axis:
        assert turned.value.op.name == "cumsum"
    a, w = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))

    def plain(array: Any) -> Any:
        return np.flip(np.cumsum(np.flip(array, across), axis=axis), back)

    np.testing.assert_array_equal(turned.evaluate({"A": a}), plain(a))
    W = sd.symbol("W", (m, n))
    found = sd.gradient(np.sum(turned * W), A).evaluate({"A": a, "W": w})
    columns = [np.sum(w * plain(e.reshape(3, 4))) for e in np.eye(12)]
    np.testing.assert_allclose(found, np.reshape(columns, (3, 4)), rtol=1e-13)


def test_a_partial_likelihood_reads_as_in_a_textbook() -> None:
    p = sd.dim("p")
    X, b, d = sd.symbol("X", (n, p)), sd.symbol("b", (p,)), sd.symbol("d", (n,))
    risk = np.cumsum(np.exp(X @ b)[::-1])[::-1]
    loss = -np.sum(d * (X @ b - np.log(risk)))
    assert str(sd.gradient(loss, b)) == "Xᵀ (cumsum(d ⊘ cumsum(exp(X b), reverse)) ⊙ exp(X b) - d)"


WINDOWS: list[Any] = [
    (slice(None, None, 2),), (slice(1, None, 3),), (slice(None, None, -2),), (slice(None, None, 2), slice(1, None)),
    (slice(None, None, -3), slice(None, None, 2)), (slice(1, -1), slice(None, None, -1)), (slice(-2, 0, -1),),
]  # fmt: skip


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_source_of_what_is_put_back_is_linear(window: Any, rng: np.random.Generator) -> None:
    gradient = sd.gradient(np.sum(np.sin(A)[window] ** 3), A)
    for shape in ((7, 8), (6, 9), (2, 2)):
        a = rng.normal(size=shape)
        want = np.zeros(shape)
        want[window] = 3 * np.sin(a)[window] ** 2
        got = eval(gradient.source("numpy"), {"np": np, "A": a, "m": shape[0], "n": shape[1]})
        np.testing.assert_allclose(got, want * np.cos(a), rtol=1e-13)
    for target in ("numpy", "jax", "torch"):
        assert "eye" not in gradient.source(target)


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_source_of_what_is_put_back_keeps_lengths(length: int) -> None:
    gradient = sd.gradient(np.sum(x[::2] ** 2), x)
    got = eval(gradient.source("numpy"), {"np": np, "x": np.ones(length), "n": length})
    np.testing.assert_array_equal(got, [2.0, 0.0, 2.0, 0.0, 2.0][:length])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_slices_of_slices_are_those_of_numpy(size: int) -> None:
    """A slice that turns all of another may not be taken for the same slice of the whole."""
    b = sd.symbol("b", (size,))
    a = np.arange(size) + 1.5
    bounds = (None, 0, 1, 2, 3, -1, -2, -5, 9)
    first = [slice(i, j, k) for i in bounds for j in bounds for k in (None, 2, -1, -2)]
    second = [slice(None, None, -1), slice(1, None), slice(None, None, 2), slice(None, -1), slice(-2, None, -1)]
    for one in first:
        if not a[one].size:
            assert b[one].shape == (0,)
        for two in second:
            found, expected = b[one][two], a[one][two]
            assert found.shape == expected.shape, (one, two)
            assert np.array_equal(found.evaluate({"b": a}), expected), (one, two)


def test_what_is_summed_up_is_turned_as_a_whole() -> None:
    b = sd.symbol("b", (5,))
    a = np.arange(5) + 1.5
    for cut in (slice(2, None, -1), slice(4, 1, -1), slice(None, None, -1), slice(None, 3)):
        for back in (slice(2, None, -1), slice(None, None, -1)):
            found = np.cumsum(b[cut])[back]
            assert np.array_equal(found.evaluate({"b": a}), np.cumsum(a[cut])[back])


def test_sums_over_either_axis_of_a_square_pass_over_memory_as_it_lies(rng: np.random.Generator) -> None:
    k, y = sd.symbol("k", (n, n)), sd.symbol("y", (n,))
    e: Any = np.exp(k @ k)
    fn = sd.compile([y @ e, e * y, np.sum(-e)], [k, y])
    lines = [line.split() for line in fn.loops.splitlines() if line.strip()]
    inner = {words[1] for words in lines if words[0] == "for" and words[-1] == "vector"}
    read = [words[-1].rstrip("]") for words in lines if words[2:3] == ["load"] and len(words) == 5]
    assert read
    assert inner.issuperset(read)
    values, weights = rng.normal(size=(37, 37)) / 6, rng.normal(size=37)
    product, scaled, total = fn(values, weights)
    whole = np.exp(values @ values)
    np.testing.assert_allclose(product, weights @ whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scaled, whole * weights, rtol=1e-13)
    np.testing.assert_allclose(total, -np.sum(whole), rtol=1e-13)


def test_the_sign_of_an_operand_is_that_of_the_product(rng: np.random.Generator) -> None:
    a, b = sd.symbol("a", (m, n)), sd.symbol("b", (n, m))
    e: Any = np.exp(a)
    fn = sd.compile([e, -e @ b, np.sum(-e)], [a, b])
    assert " = neg" not in fn.loops.split("call gemm")[0]
    left, right = rng.normal(size=(6, 50)), rng.normal(size=(50, 6))
    whole, product, total = fn(left, right)
    np.testing.assert_allclose(whole, np.exp(left), rtol=1e-14)
    np.testing.assert_allclose(product, -np.exp(left) @ right, rtol=1e-12)
    np.testing.assert_allclose(total, -np.sum(np.exp(left)), rtol=1e-13)


def test_what_is_spread_over_an_axis_is_made_once_where_it_takes_more_than_two_operations(
    rng: np.random.Generator,
) -> None:
    m, n = sd.dims("m n")
    x, y = sd.symbol("x", (m, n)), sd.symbol("y", (m,))
    a, b = rng.normal(size=(9, 70)), rng.normal(size=9)
    for weights, stored in ((lambda v: v * v + 1.5, 0), (lambda v: (v * v + 1.5) * v, 1)):
        fn = sd.compile(np.sum(weights(y)[:, None] * x * x, axis=0), [x, y])
        assert fn.loops.count("  temp ") == stored
        np.testing.assert_allclose(fn(a, b), np.sum(weights(b)[:, None] * a * a, axis=0), rtol=1e-13)
