"""Functional updates against NumPy's assignment and np.add.at, and their derivatives at poisoned places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.diff import jacobians
from symdiff.errors import DtypeError, ShapeError, UnsupportedError
from symdiff.frontend.expr import Expr, dims, symbol
from symdiff.frontend.update import add_at, set_at
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import topological
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

n, m, k = dims("n m k")
rng = np.random.default_rng(7)
ARRAYS: dict[str, tuple[tuple[Any, ...], str, Any]] = {
    "x": ((n,), "f64", rng.normal(size=6)),
    "A": ((m, n), "f64", rng.normal(size=(4, 6))),
    "T": ((m, n, k), "f64", rng.normal(size=(4, 6, 3))),
    "F": ((5, 6), "f32", rng.normal(size=(5, 6)).astype(np.float32)),
    "I": ((m, n), "i64", rng.integers(-3, 4, (4, 6))),
    "v": ((k,), "f64", rng.normal(size=3)),
    "u": ((n,), "f64", rng.normal(size=6)),
    "c": ((), "f64", np.float64(1.3)),
    "i": ((k,), "i64", np.array([2, 0, 2])),
    "j": ((k,), "i64", np.array([1, -1, 1])),
}
mask = np.array([True, False, True, False, True])

# target, index of the other symbols, value of the other symbols
CASES: list[tuple[str, Any, Any]] = [
    ("x", lambda s: 0, lambda s: s["c"]), ("x", lambda s: -1, lambda s: 2.5), ("x", lambda s: slice(None),
    lambda s: 1),
    ("x", lambda s: slice(1, -1), lambda s: s["c"]), ("x", lambda s: slice(None, None, 2), lambda s: s["u"][::2]),
    ("x", lambda s: slice(None, None, -2), lambda s: s["u"][::2]), ("x", lambda s: ..., lambda s: s["u"]),
    ("A", lambda s: 1, lambda s: s["u"]), ("A", lambda s: (1, 2), lambda s: s["c"]),
    ("A", lambda s: (slice(None), 0), lambda s: s["c"]), ("A", lambda s: (slice(1, 3), slice(0, s["v"].shape[0])),
    lambda s: s["v"]),
    ("A", lambda s: np.s_[:, ::2], lambda s: s["u"][None, ::2]),
    ("A", lambda s: (0, None, slice(1, 4)), lambda s: s["u"][None, 2:5]),
    ("A", lambda s: np.s_[None, 1], lambda s: s["u"]),
    ("T", lambda s: np.s_[0, ..., 1], lambda s: s["u"]), ("T", lambda s: np.s_[1:3, 2], lambda s: s["v"]),
    ("T", lambda s: np.s_[:, 1, None, ::2], lambda s: s["c"]), ("x", lambda s: [0, 2], lambda s: s["c"]),
    ("x", lambda s: s["i"], lambda s: s["v"]), ("A", lambda s: s["i"], lambda s: s["u"]),
    ("A", lambda s: (s["i"], s["j"]), lambda s: s["v"]), ("A", lambda s: (slice(None), s["j"]), lambda s: s["v"]),
    ("A", lambda s: (slice(1, 3), s["j"]), lambda s: s["v"]), ("A", lambda s: (1, s["j"]), lambda s: s["v"]),
    ("T", lambda s: (s["i"], slice(None), s["j"]), lambda s: s["u"]), ("T", lambda s: (0, slice(1, 3), s["j"]),
                                                                      lambda s: s["v"][:, None]),
    ("T", lambda s: (slice(None), s["i"], 1), lambda s: s["v"]), ("T", lambda s: (s["i"][:, None], s["j"]),
    lambda s: s["v"]),
    ("T", lambda s: (s["i"], None, slice(None, None, -1)), lambda s: s["c"]), ("F", lambda s: mask, lambda s: 0.5),
    ("F", lambda s: (mask, slice(0, 3)), lambda s: s["u"][3:6]), ("x", lambda s: [], lambda s: 1.0),
    ("I", lambda s: 0, lambda s: 7), ("I", lambda s: (s["i"], s["j"]), lambda s: 7), ("A", lambda s: (),
    lambda s: s["u"]),
    ("A", lambda s: ([[0, 1], [1, 2]], [[1, 1], [1, 0]]), lambda s: s["c"]), ("F", lambda s: (0, 5), lambda s: s["c"]),
]  # fmt: skip


def symbols() -> dict[str, Any]:
    return {name: symbol(name, shape, dtype) for name, (shape, dtype, _) in ARRAYS.items()}


def values() -> dict[str, Any]:
    return {name: array.copy() for name, (_, _, array) in ARRAYS.items()}


def run(result: Expr) -> Any:
    params = [v for v in topological([result.value]) if v.is_param]
    function = verify(Builder(OPSET).function(params, [result.value]), OPSET)
    sizes = {"n": 6, "m": 4, "k": 3}
    return interpret(function, [ARRAYS[p.name][2] for p in params], sizes)[0]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_set_is_assignment(number: int) -> None:
    target, index, value = CASES[number]
    s, a = symbols(), values()
    got = run(set_at(s[target], index(s), value(s)))
    expected = a[target]
    expected[index(a)] = value(a)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_add_at_is_add_at(number: int) -> None:
    target, index, value = CASES[number]
    s, a = symbols(), values()
    got = run(add_at(s[target], index(s), value(s)))
    expected = a[target]
    if expected.dtype == np.float32:
        np.add.at(expected, index(a), np.asarray(value(a), np.float32))
    else:
        np.add.at(expected, index(a), value(a))
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12)


def test_the_last_value_stays_at_a_repeated_place() -> None:
    s = symbols()
    got = run(set_at(s["x"], s["i"], s["v"]))  # i names place 2 twice
    assert got[2] == ARRAYS["v"][2][2] and got[0] == ARRAYS["v"][2][1]


def test_a_numpy_array_is_updated_with_expressions() -> None:
    s = symbols()
    zeros = np.zeros((3, 2))
    got = run(set_at(set_at(zeros, (0, 1), s["c"]), 2, s["c"] * 2))
    np.testing.assert_allclose(got, [[0, 1.3], [0, 0], [2.6, 2.6]])
    assert not zeros.any()


def test_symbolic_masks_take_one_value() -> None:
    s = symbols()
    A = ARRAYS["A"][2]
    np.testing.assert_array_equal(run(set_at(s["A"], s["A"] > 0, 0.0)), np.where(A > 0, 0.0, A))
    rows = s["A"][:, 0] > 0
    np.testing.assert_array_equal(
        run(set_at(s["A"], rows, s["u"])), np.where((A[:, 0] > 0)[:, None], ARRAYS["u"][2], A)
    )
    np.testing.assert_array_equal(run(add_at(s["A"], rows, 1.0)), A + (A[:, 0] > 0)[:, None])
    with pytest.raises(UnsupportedError, match=r"np\.where"):
        set_at(s["A"], s["A"] > 0, s["u"])


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("index", [slice(0, 2), [0, 1, 0]])
def test_overwritten_entries_have_no_influence(mode: Any, index: Any) -> None:
    """d/dx of x -> log(x) with the first two entries overwritten, at x = (0, nan, 2): exactly (0, 0, 1/2)."""
    x = symbol("x", (3,))
    y = np.sum(set_at(np.log(x), index, 1.0) * np.array([3.0, 5.0, 7.0]))
    builder = Builder(OPSET)
    done = builder.absorb([y.value, x.value])
    gradient = jacobians(builder, [done[y.value]], [done[x.value]], mode)[0][0]
    function = builder.function([x.value], [y.value, gradient])
    value, slope = interpret(function, [np.array([0.0, np.nan, 2.0])])
    assert value == 3 + 5 + 7 * np.log(2.0)
    np.testing.assert_array_equal(slope, [0.0, 0.0, 3.5])


def test_values_must_fit() -> None:
    s = symbols()
    with pytest.raises(DtypeError, match="f64 does not fit an array of dtype i64"):
        set_at(s["I"], 0, 0.5)
    with pytest.raises(ShapeError, match=r"shape \(k,\) does not fit \(n,\)"):
        set_at(s["A"], 0, s["v"])
    with pytest.raises(DtypeError, match="does not fit"):
        set_at(np.zeros(3, np.int64), 0, s["c"])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("shape", [(1,), (3,), (1, 2), (3, 2)])
def test_native_code_adds_at_one_place_again_and_again(shape: tuple[int, ...], dtype: str) -> None:
    """The place is the same in every iteration, and what stands there is not."""
    for count in (2, 3, 9):
        a, u = symbol("a", shape, dtype), symbol("u", (count, *shape[1:]), dtype)
        j = symbol("j", (), "int64")
        A, U = ((rng.normal(size=size) * 9).astype(dtype) for size in (shape, (count, *shape[1:])))
        want = A.copy()
        np.add.at(want, np.full(count, shape[0] - 1), U)
        for at in (np.full(count, -1), np.broadcast_to(j, (count,))):
            got = sd.compile(add_at(a, at, u), [a, u, j])(A, U, -1)
            np.testing.assert_allclose(got, want, rtol=1e-6)
