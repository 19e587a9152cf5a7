"""Tracing: programs agree with the functions they come from, and serve exactly the sizes they say they serve."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from symdiff.errors import ArgumentError, DtypeError, SymdiffError, UnsupportedError
from symdiff.frontend.expr import Expr, dims, symbol
from symdiff.frontend.patterns import fits, pattern_of
from symdiff.frontend.trace import Traced, flatten, trace, unflatten
from symdiff.frontend.update import add_at, set_at
from symdiff.interp import interpret
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

rng = np.random.default_rng(3)


def call(traced: Traced, *args: Any) -> Any:
    arrays = traced.arguments(args)
    assert arrays is not None, f"{traced.pattern} does not serve the call"
    return traced.results(interpret(verify(traced.function, OPSET), arrays))


def agree(function: Any, *args: Any, traced: Traced | None = None, **options: Any) -> Traced:
    """Trace on `args` (unless given), run there, compare with the function itself."""
    traced = traced or trace(function, args, **options)
    got, got_tree = flatten(call(traced, *args))
    expected, tree = flatten(function(*args))
    assert got_tree == tree
    for g, e in zip(got, expected, strict=True):
        assert np.shape(g) == np.shape(e)
        np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-12)
    return traced


def arr(*shape: int) -> Any:
    return rng.normal(size=shape)


class Point(NamedTuple):
    x: Any
    y: Any


def mlp(params: Any, x: Any) -> Any:
    for layer in params:
        x = np.tanh(layer["W"] @ x + layer["b"])
    return {"out": x, "norms": [np.sum(p["W"] ** 2) for p in params], "none": None}


def params_of(*sizes: int) -> list[dict[str, Any]]:
    return [{"W": arr(b, a), "b": arr(b)} for a, b in pairwise(sizes)]


# -------------------------------------------------------------------- one program, many sizes
def test_one_program_serves_every_size_of_its_pattern() -> None:
    traced = agree(mlp, params_of(3, 5, 2), arr(3))
    for sizes in ((4, 7, 2), (2, 3, 4), (6, 6, 6)):
        agree(mlp, params_of(*sizes), arr(sizes[0]), traced=traced)
    assert [p.name for p in traced.function.params] == [
        "params_0_W", "params_0_b", "params_1_W", "params_1_b", "x",
    ]  # fmt: skip


def test_pattern_partitions_sizes_and_keeps_0_and_1() -> None:
    pattern = pattern_of([(5, 3), (3,), (1, 5), (0, 7)])
    assert str(pattern.shapes) == "((n0, n1), (n1,), (1, n0), (0, n2))"
    assert fits(pattern, [(4, 9), (9,), (1, 4), (0, 2)])
    assert fits(pattern, [(4, 4), (4,), (1, 4), (0, 4)])
    assert not fits(pattern, [(4, 9), (8,), (1, 4), (0, 2)])
    assert not fits(pattern, [(4, 9), (9,), (2, 4), (0, 2)])
    assert not fits(pattern, [(1, 9), (9,), (1, 1), (0, 2)])
    assert not fits(pattern, [(4, 9), (9,), (1, 4)])
    assert not fits(pattern, [(4, 9), (9, 1), (1, 4), (0, 2)])


def test_given_shapes_replace_the_pattern() -> None:
    n, m = dims("n m")
    traced = trace(lambda A, x: A @ x, (arr(3, 3), arr(3)), shapes=[(m, n), (n,)])
    assert str(traced.function.params[0].type) == "f64[m,n]"
    agree(lambda A, x: A @ x, arr(2, 5), arr(5), traced=traced)
    with pytest.raises(ArgumentError, match="1 shapes given for 2 arrays"):
        trace(lambda A, x: A @ x, (arr(3, 3), arr(3)), shapes=[(m, n)])


@pytest.mark.parametrize("function", [
    lambda x: x[: x.shape[0] // 2], lambda x: x[1:] - x[:-1], lambda x: x[::-1], lambda x: x.reshape(-1, 1),
    lambda x: np.mean(x) + x.shape[0], lambda x: x / np.sqrt(x.size), lambda x: x * 0.5 * x.shape[0] ** 2,
    lambda x: np.concatenate([x, x[:2]]), lambda x: x[-1], lambda x: np.outer(x, x).reshape(x.size, x.size)[1],
    lambda x: np.zeros_like(x),
    lambda x: (x.shape[0] - 1) * x, lambda x: (2 - x.shape[0]) * x, lambda x: -x.shape[0] * x,
])  # fmt: skip
def test_sizes_stay_symbolic_in_arithmetic(function: Any) -> None:
    traced = agree(function, arr(6))
    assert str(traced.pattern.shapes) == "((n0,),)"
    agree(function, arr(9), traced=traced)


# -------------------------------------------------------------------- sizes that decide something
def loops(x: Any) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total = total + x[i] ** (i + 1)
    return total


@pytest.mark.parametrize("function", [
    loops, lambda x: x + np.zeros(x.shape[0]), lambda x: np.eye(len(x)) @ x, lambda x: np.arange(x.size) * x,
    lambda x: sum(v * v for v in x), lambda x: [v + 1 for v in x], lambda x: x * (x.shape[0] % 3),
    lambda x: x / float(x.shape[0]),
    lambda x: x if x.shape[0] in {6} else 2 * x, lambda x: np.linspace(0, 1, len(x)) + x,
    lambda x: np.array([1.0] * x.shape[0]) @ x, lambda x: x.reshape(2, -1), lambda x: x * int(x.shape[0]),
])  # fmt: skip
def test_sizes_needed_as_numbers_are_fixed(function: Any) -> None:
    traced = agree(function, arr(6))
    assert traced.arguments([arr(6)]) is not None
    assert traced.arguments([arr(8)]) is None
    agree(function, arr(8))


def test_only_the_size_that_is_needed_is_fixed() -> None:
    traced = agree(lambda A, x: A @ x + np.ones(A.shape[0]), arr(4, 3), arr(3))
    assert str(traced.pattern.shapes) == "((4, n0), (n0,))"
    agree(lambda A, x: A @ x + np.ones(A.shape[0]), arr(4, 7), arr(7), traced=traced)


def test_sizes_that_do_not_fit_as_polynomials_are_fixed_alone() -> None:
    def function(theta: Any, x: Any) -> Any:
        return np.sum(np.tanh(x @ theta[:6].reshape(2, 3)) + theta[6:])  # x is 2 wide, theta 9 long

    traced = agree(function, arr(9), arr(5, 2))
    assert traced.pattern.shapes[0] == (9,) and str(traced.pattern.shapes[1]) == "(n0, 2)"
    agree(function, arr(9), arr(30, 2), traced=traced)


def test_closed_over_arrays_have_sizes_of_their_own() -> None:
    data, target = arr(10, 3), arr(10)
    traced = agree(lambda w: np.sum((data @ w - target) ** 2), arr(3))
    assert traced.pattern.shapes == ((3,),)


@pytest.mark.parametrize(("function", "low", "high"), [
    (lambda x: x if x.shape[0] > 4 else -x, 4, 5), (lambda x: x if x.shape[0] <= 4 else -x, 4, 5),
    (lambda x: x if x.shape[0] == 4 else -x, 4, 5), (lambda x: x if x.shape[0] != 4 else -x, 4, 5),
    (lambda x: x if x.shape == (4,) else -x, 4, 5), (lambda x: x if x.shape[0] * 2 - 9 < 0 else -x, 4, 5),
    (lambda x: x if x.shape[0] > 4.5 else -x, 4, 5), (lambda x: x if x.shape[0] // 5 else -x, 4, 5),
    (lambda x: x[:5], 4, 8), (lambda x: x[-5:], 4, 8), (lambda x: x[3:1000], 3, 5), (lambda x: x[6:2:-1], 4, 9),
    (lambda x: x[2 : x.shape[0] - 3], 4, 9), (lambda x: x[5:2], 4, 9), (lambda x: x[max(0, x.shape[0] - 5) :], 4, 9),
    (lambda x: np.roll(x, 5), 4, 6), (lambda x: np.squeeze(x[:, None][1:]), 2, 3), (lambda x: np.split(x, [5]), 4, 9),
    (lambda x: np.convolve(x, [1.0, 2.0, 3.0, 4.0], "same"), 3, 5), (lambda x: np.pad(x, 2)[:6], 2, 2),
    (lambda x: np.convolve(x, [1.0, 2.0, 3.0, 4.0], "valid"), 3, 5),
])  # fmt: skip
def test_comparisons_of_sizes_are_guards(function: Any, low: int, high: int) -> None:
    """A program traced at one size must refuse or be right at every other."""
    for example in (low, high):
        traced = agree(function, arr(example))
        for size in range(2, 12):
            x = arr(size)
            if traced.arguments([x]) is not None:
                agree(function, x, traced=traced)
    assert low == high or trace(function, (arr(low),)).arguments([arr(high)]) is None


def test_a_comparison_that_always_holds_is_no_guard() -> None:
    traced = agree(lambda x: x[1:] if x.shape[0] > 1 else x, arr(5))
    assert traced.pattern.guards == ()


def test_a_swallowed_request_for_a_number_still_fixes_it() -> None:
    def function(x: Any) -> Any:
        try:
            return x * int(x.shape[0])
        except TypeError:
            return x

    agree(function, arr(5))


# -------------------------------------------------------------------- arguments and results
def test_nesting_of_arguments_and_results() -> None:
    def function(p: Any, q: Any) -> Any:
        (a, b), rest = p
        return Point(a + q["k"], [b, (rest[0], None)]), 3.0, q["n"]

    args = (((arr(2), arr(3)), [arr(4)]), {"k": arr(2), "n": None})
    traced = agree(function, *args)
    result = call(traced, *args)
    assert isinstance(result[0], Point) and result[2] is None
    assert traced.arguments([((arr(2), arr(3)), (arr(4),)), {"k": arr(2), "n": None}]) is None  # a tuple, not a list


def test_flatten_and_unflatten_are_inverse() -> None:
    nested = {"b": [1, (2, None, Point(3, {}))], "a": ()}
    leaves, tree = flatten(nested)
    assert leaves == [1, 2, 3] and unflatten(tree, leaves) == nested
    with pytest.raises(ArgumentError, match="2 leaves given, expected 3"):
        unflatten(tree, [1, 2])


def test_dtypes_of_leaves() -> None:
    traced = trace(lambda x, i, b, c, d: (x[i], np.where(b, c, d)),
    (arr(4), np.array([1, 2]), np.array([True]), 2, 0.5))
    assert traced.dtypes == ("f64", "i64", "bool", "f64", "f64")
    agree(lambda x, i: x[i], arr(4), np.array([0, 3], np.int32))
    traced = trace(lambda x, c: x * c, (np.ones(3, np.float32), 0.5))
    assert traced.function.results[0].type.dtype == "f32"
    assert traced.arguments([np.ones(3), 0.5]) is None
    assert trace(lambda x, c: x * c, (np.ones(3, ">f4"), 0.5)).dtypes == ("f32", "f32")
    assert traced.arguments([np.ones(3, np.float32), 2]) is not None


def test_a_wrapper_shows_the_names_of_what_it_wraps() -> None:
    def loss(W: Any, x: Any) -> Any:
        return np.sum(W @ x)

    traced = trace(lambda *args: loss(*args), (arr(2, 3), arr(3)), like=loss)
    assert traced.function.name == "loss" and [p.name for p in traced.function.params] == ["W", "x"]
    plain = trace(lambda *args: loss(*args), (arr(2, 3), arr(3)))
    assert [p.name for p in plain.function.params] == ["args_0", "args_1"]


def test_static_arguments_stay_python_values() -> None:
    def function(x: Any, power: Any, kind: Any) -> Any:
        return sum(x ** (i + 1) for i in range(power)) if kind == "sum" else x

    traced = agree(function, arr(4), 3, "sum", static_argnums=(1, 2))
    assert [p.name for p in traced.function.params] == ["x"]
    assert traced.arguments([arr(5), 3, "sum"]) is not None
    assert traced.arguments([arr(5), 4, "sum"]) is None and traced.arguments([arr(5), 3, "other"]) is None
    with pytest.raises(ArgumentError, match="static_argnums 7 for 3 arguments"):
        trace(function, (arr(4), 3, "sum"), static_argnums=7)


@pytest.mark.parametrize(
    ("value", "same", "other"),
    [
        ([1, (2.0, np.arange(3))], [1, (2.0, np.arange(3))], [1, (2.0, np.arange(1, 4))]),
        ({"a": [1], "b": 2}, {"a": [1], "b": 2}, {"b": 2, "a": [1]}),
        (np.array([0.0, np.nan]), np.array([0.0, np.nan]), np.array([-0.0, np.nan])),
        (np.array([None, 2], object), np.array([None, 2], object), np.array([None, 3], object)),
        (float("nan"), float("nan"), 0.0),
        (0.0, 0.0, -0.0),
        (1, 1, True),
        ({1, 2}, {2, 1}, {1}),
    ],
)
def test_static_arguments_are_compared_by_what_they_hold(value: Any, same: Any, other: Any) -> None:
    traced = trace(lambda x, _: x, (arr(2), value), static_argnums=1)
    assert traced.leaves((arr(2), same)) is not None and traced.leaves((arr(2), other)) is None


def test_static_arguments_are_remembered_as_they_were() -> None:
    def function(x: Any, _: Any, parts: Any) -> Any:
        parts["list"].append(2)
        return x

    array = arr(3)
    parts: dict[str, Any] = {"list": [1], "inside": (arr(2),)}
    traced = trace(function, (arr(2), array, parts), static_argnums=(1, 2))
    assert parts["list"] == [1, 2]
    assert traced.leaves((arr(2), array, parts)) is None
    parts["list"].pop()
    assert traced.leaves((arr(2), array, parts)) is not None
    array[0] += 1
    assert traced.leaves((arr(2), array, parts)) is None


def test_results_without_symbols_are_constants() -> None:
    traced = agree(lambda x: (np.ones(3), 2, x.shape[0] > 3), arr(4))
    assert all(r.op.name == "const" for r in traced.function.results)


def test_updates_in_traced_code() -> None:
    def function(A: Any, x: Any) -> Any:
        for i in range(3):
            A = set_at(A, (i, slice(None)), x * i)
        return add_at(A, ([0, 0], [1, 1]), 1.0)

    def plain(A: Any, x: Any) -> Any:
        A = A.copy()
        for i in range(3):
            A[i, :] = x * i
        np.add.at(A, ([0, 0], [1, 1]), 1.0)
        return A

    A, x = arr(5, 4), arr(4)
    np.testing.assert_allclose(call(trace(function, (A, x)), A, x), plain(A, x))


# -------------------------------------------------------------------- errors
def fill(x: Any) -> Any:
    result = np.zeros(3)
    result[0] = x[0]
    return result


def fill_row(x: Any) -> Any:
    result = np.zeros((3, 3))
    result[0] = x
    return result


def accumulate(x: Any) -> Any:
    total = np.zeros(3)
    total += x
    return total


@pytest.mark.parametrize(("function", "message"), [
    (fill, r"sd\.set"), (fill_row, r"sd\.set"), (accumulate, r"write a = a \+ x"),
    (lambda x: np.array([x[0], x[1]]), r"sd\.array"), (lambda x: x if x[0] > 0 else -x, r"np\.where"),
    (lambda x: max(x[0], x[1]), r"np\.maximum"), (lambda x: float(x[0]), r"float\(\) needs a number"),
    (lambda x: x[x > 0], r"np\.where\(mask, x, 0\)"), (lambda x: np.sort(x), r"np\.sort is not defined"),
    (lambda x: x.__setitem__(0, 1.0), r"sd\.set\(x, index, value\)"), (lambda x: [1] * int(x[0]), r"int\(\)"),
    (lambda x: x[5], "index 5 is out of range for axis 0 of size 3"), (lambda x: x @ np.zeros(4), "sizes 3 and 4"),
    (lambda x: "text", "'text'"),
])  # fmt: skip
def test_errors_say_what_to_write(function: Any, message: str) -> None:
    with pytest.raises(SymdiffError, match=message):
        trace(function, (arr(3),))


def test_an_error_of_the_function_itself_comes_through() -> None:
    def function(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace(function, (arr(3),))


def test_foreign_symbols_are_not_taken_for_arguments() -> None:
    outer = symbol("x", (3,))
    with pytest.raises(ArgumentError, match="uses the symbol x, which is not among its arguments"):
        trace(lambda x: x + outer, (arr(3),))


def test_arguments_that_are_no_arrays() -> None:
    with pytest.raises(DtypeError, match=r"argument kind: 'sum'.*static_argnums"):
        trace(lambda x, kind: x, (arr(3), "sum"))
    with pytest.raises(DtypeError, match=r"argument z: .*complex128"):
        trace(lambda z: z, (np.ones(3, complex),))
    with pytest.raises(UnsupportedError, match=r"np\.linalg\.eigh"):
        trace(lambda A: np.linalg.eigh(A), (arr(3, 3),))


def test_a_trace_inside_a_trace() -> None:
    def function(x: Any) -> Any:
        inner = trace(lambda y: y * y.shape[0], (np.ones(7),))
        return x * len(inner.function.params) + x.shape[0]

    assert isinstance(agree(function, arr(4)), Traced)
    assert not isinstance(function(arr(4)), Expr)
