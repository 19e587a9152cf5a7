"""Local blocks: residuals and elements that depend on a few places each, entries by formulas in the order of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.api.sparse_plans import direct_forms
from symdiff.interp import bind_sizes

n, m, e = sd.dims("n m e")
CAMERAS, POINTS = sd.symbol("c", (m, 4)), sd.symbol("p", (n, 3))
I, J = sd.symbol("i", (e,), "i64"), sd.symbol("j", (e,), "i64")


def observed() -> Any:
    """Two numbers per observation, of one camera and one point each."""
    c, p = CAMERAS[I], POINTS[J]
    turned = p[:, [1, 2, 0]] * c[:, :3] - p[:, [2, 0, 1]] * c[:, [2, 0, 1]]
    far = np.sqrt(1 + np.sum(turned**2, axis=1))[:, None]
    return c[:, 3:4] * turned[:, :2] / far


def springs() -> Any:
    apart = POINTS[I] - POINTS[J]
    return np.sum((np.sqrt(np.sum(apart**2, axis=1) + 0.1) - 1) ** 2)


def stacked() -> Any:
    """The small axis in front, and entries of one row at both places."""
    a, b = CAMERAS[I], CAMERAS[J]
    return np.stack([a[:, 0] * np.sin(b[:, 1]), b[:, 2] ** 2 * a[:, 0], a[:, 3] * b[:, 3]])


def windows() -> Any:
    """No index array: neighbours on a long axis, three numbers at each place."""
    p = POINTS
    return np.tanh(p[1:] * p[:-1, [2, 0, 1]]) + p[1:, :1]


CASES: dict[str, tuple[Any, Any, Any, bool]] = {
    "observed": (observed(), [CAMERAS, POINTS], [CAMERAS, POINTS, I, J], False),
    "springs": (springs(), [POINTS], [POINTS, I, J], True),
    "stacked": (stacked(), [CAMERAS], [CAMERAS, I, J], False),
    "windows": (windows(), [POINTS], [POINTS], False),
}


def arguments(inputs: Any, sizes: dict[str, int], rng: Any) -> list[Any]:
    """Random arrays; indices of places that every array they are used on has, counted from either end."""
    shapes = {"c": (sizes["m"], 4), "p": (sizes["n"], 3)}
    names = [s.value.name for s in inputs]
    least = min(shapes[name][0] for name in names if name in shapes)
    return [
        rng.normal(size=shapes[name]) if name in shapes else rng.integers(-least, least, sizes["e"]) for name in names
    ]


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("name", CASES)
def test_entries_of_local_blocks(name: str, format: str) -> None:
    """Against the dense derivative: indices that repeat, meet in one row, and count from the end."""
    y, xs, inputs, second = CASES[name]
    make = sd.sparse_hessian if second else sd.sparse_jacobian
    derivative = make(y, xs, inputs, mode="direct", format=format)
    dense = sd.compile([sd.hessian(y, x) if second else sd.jacobian(y, x) for x in xs], inputs)
    rng = np.random.default_rng(5)
    for m_, n_, e_ in ((3, 4, 9), (6, 2, 5), (1, 3, 1), (2, 2, 0)):
        sizes = {"m": m_, "n": n_, "e": e_}
        arrays = arguments(inputs, sizes, rng)
        found = derivative(*arrays)
        blocks = [np.reshape(d, (found.shape[0], a.size)) for d, a in zip(dense(*arrays), arrays, strict=False)]
        np.testing.assert_allclose(found.toarray(), np.concatenate(blocks, axis=1), rtol=1e-10, atol=1e-12)
        assert found.has_sorted_indices
        native = derivative.bind(*arrays)
        np.testing.assert_array_equal(native(), found.data)


def test_a_block_has_as_many_entries_as_there_are_nonzeros() -> None:
    """Observations come in the order of compressed rows: 2 rows of 4 + 3 entries each and nothing besides."""
    y, xs, inputs, _ = CASES["observed"]
    derivative = sd.sparse_jacobian(y, xs, inputs)
    arrays = arguments(inputs, {"m": 5, "n": 6, "e": 20}, np.random.default_rng(0))
    assert derivative(*arrays).nnz == 20 * 2 * 7
    sizes = bind_sizes(derivative.function.params, [a.shape for a in arrays])
    forms = direct_forms(derivative.function, [0, 1], symmetric=False, transposed=False)
    assert [len(f.entries.terms) for f in forms] == [1, 1]
    assert [f.entries.count(sizes) for f in forms] == [280, 280]


def test_formulas_with_many_more_entries_than_nonzeros_give_way_to_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is taken is a matter of predicted time: all entries of the product would be computed, few are in it."""
    x = sd.symbol("x", (60,))
    near = np.eye(60) + np.eye(60, k=1)
    y = near @ (near @ np.sin(x)) * np.cos(x)
    at = np.random.default_rng(1).normal(size=60)
    want = sd.compile(sd.jacobian(y, x), [x])(at)
    methods: list[str] = []
    for moved in (0.0, 1.0):
        monkeypatch.setattr("symdiff.api.sparse_plans.MOVED", moved)
        derivative = sd.sparse_jacobian(y, x)
        np.testing.assert_allclose(derivative(at).toarray(), want, atol=1e-12)
        methods.append(derivative.method())
    assert methods == ["direct", "forward"]
