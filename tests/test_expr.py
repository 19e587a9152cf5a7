"""Expressions as Python objects: identity, memory, classes, constants, errors; and a random sweep of indices."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from crowd import together
from scipy import special

from symdiff.diff import jacobians
from symdiff.errors import ArgumentError, DtypeError, ShapeError, SymbolicSizeError, SymdiffError, UnsupportedError
from symdiff.frontend.creation import arange, eye, full, ones, zeros
from symdiff.frontend.expr import Expr, constant, dim, dims, symbol, use_class
from symdiff.frontend.joining import stack_nested
from symdiff.frontend.registry import FUNCTIONS, NUMPY
from symdiff.frontend.trace import trace
from symdiff.frontend.update import add_at, set_at
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

n, m = dims("n m")
x, A, c = symbol("x", (n,)), symbol("A", (m, n)), symbol("c")
i, b, v3 = symbol("i", (n,), "i64"), symbol("b", (n,), "bool"), symbol("v", (3,))


def run(expr: Expr, sizes: dict[str, int] | None = None, **values: Any) -> Any:
    params = [e.value for e in (x, A, c, i, b, v3) if e.value.name in values]
    function = verify(Builder(OPSET).function(params, [expr.value]), OPSET)
    return interpret(function, [values[p.name] for p in params], sizes)[0]


# -------------------------------------------------------------------- identity and memory
def test_equal_expressions_are_one_value() -> None:
    assert (np.tanh(A @ x) + 1).value is (np.tanh(A @ x) + 1).value
    assert hash(x + c) == hash(x + c)
    assert {x + c: "found"}[x + c] == "found"
    assert (x == x).value.op.name == "eq" and bool(x == x) and not bool(x != x)
    assert x != "text" and x is not None and x != None  # noqa: E711
    assert copy.deepcopy({"x": x})["x"] is x


def test_values_that_nobody_holds_are_freed() -> None:
    own = symbol("own", (n, n))  # a name of its own: other tests may hold equal expressions
    kept = [weakref.ref(e.value) for e in (own * 17.25, np.exp(own + 0) * 1, (own + 1)[1:], np.sum(own * own), own - 0)]
    gc.collect()
    alive = [r() for r in kept]
    assert alive[:4] == [None] * 4
    assert alive[4] is own.value  # own - 0 is own


def test_long_chains_are_made_and_freed_without_recursion() -> None:
    y = c
    for _ in range(100_000):
        y = y * c
    first = weakref.ref(y.value)
    del y
    gc.collect()
    assert first() is None


def test_threads_share_values() -> None:
    found: list[list[Any]] = []

    def work() -> None:
        found.append([(symbol(f"s{k}", (n,)) * c + k).value for k in range(200)])

    together(work, [()] * 4)
    assert all(row[k] is found[0][k] for row in found for k in range(200))


def test_class_flows_through_operations() -> None:
    class Mine(type(x)):  # type: ignore[misc]
        __slots__ = ()

    own = Mine(x.value)
    for e in (own + 1, 1 + own, np.sin(own), A @ own, own[1:], np.sum(own), n * own, np.where(b, 0, own), own.T,
              np.linalg.norm(own), set_at(np.zeros(3), 0, np.sum(own)), own.astype("f32"),
              np.stack([own, x])):  # fmt: skip
        assert type(e) is Mine
    before = type(zeros(3))
    use_class(Mine)
    try:
        assert type(zeros(3)) is type(n * 0.5) is type(symbol("w")) is type(x + 1) is Mine
    finally:
        use_class(before)


# -------------------------------------------------------------------- symbols, constants, sizes
def test_attributes() -> None:
    assert A.shape == (m, n) and A.ndim == 2 and A.size == n * m and A.dtype == "f64" and A.T.shape == (n, m)
    assert symbol("S", (n, n), symmetric=True, positive=False).value.type.facts == {"symmetric"}
    with pytest.raises(ArgumentError, match="unknown fact 'symmetrc'"):
        symbol("S", (n, n), symmetrc=True)
    with pytest.raises(ArgumentError, match="symmetric needs a square matrix"):
        symbol("S", (m, n), symmetric=True)
    with pytest.raises(ArgumentError, match="symbol name 'a b'"):
        symbol("a b")
    assert np.zeros(2, dtype=x.dtype).dtype == np.float64 and np.finfo(x.dtype).eps == 2.0**-52
    assert x.dtype == np.float64 and i.dtype == int and i.dtype != "f64" and x.dtype in {"f64"}
    assert np.issubdtype(i.dtype, np.integer) and x.dtype.type(1) == 1.0 and x.dtype.kind == "f"
    assert np.result_type(x, i) == np.float64 and c.astype(i.dtype).dtype == np.int64
    with pytest.raises(DtypeError, match="complex128"):
        symbol("z", (), complex)


def test_constants_are_exact() -> None:
    assert constant(0.1).value.attr("value") == Fraction(1, 10)
    assert constant(np.pi).value.attr("value") == "pi"
    assert constant(np.full((2, 3), 4.0)).value.op.name == "const"
    assert constant(np.eye(3)).value.op.name == "contract"
    assert constant(np.array([0.0, -0.0])).value.op.name == "array"
    assert constant(np.array([np.nan, np.nan])).value.attr("value") == "nan"
    assert constant(-0.0).value.attr("value") == "-0.0" and constant(0.0).value.attr("value") == 0
    assert float(constant(2) * 3 + 1) == 7.0 and int(constant(7) // 2) == 3 and bool(constant(2.0) > 1)
    np.testing.assert_array_equal(np.asarray(constant([[1, 2], [3, 4]]) * 2), [[2, 4], [6, 8]])
    for bad in (np.array(["a"]), np.array([1, None]), 1j, np.ones(2, np.float16), np.ma.masked_array([1])):
        with pytest.raises(DtypeError):
            constant(bad)


def test_arrays_from_symbolic_sizes() -> None:
    sizes = {"n": 4, "m": 3}
    for made, expected in (
        (zeros((m, n)), np.zeros((3, 4))), (ones(n), np.ones(4)), (full((n,), 2.5), np.full(4, 2.5)),
        (eye(n), np.eye(4)), (eye(m, n), np.eye(3, 4)), (eye(m, n, 1), np.eye(3, 4, 1)),
        (eye(4, k=-1), np.eye(4, k=-1)),
        (arange(n), np.arange(4)), (arange(1, n + 1), np.arange(1, 5)), (arange(n, 0, -2), np.arange(4, 0, -2)),
        (FUNCTIONS["tri"](m, n), np.tri(3, 4)), (FUNCTIONS["linspace"](0, 1, n), np.linspace(0, 1, 4)),
        (zeros(3, "i64"), np.zeros(3, np.int64)), (stack_nested([[n, 1.5], [0, m]]), np.array([[4, 1.5], [0, 3]])),
    ):  # fmt: skip
        got = run(made, sizes)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(run(stack_nested([c, [1.0, c]][1]), c=2.5), [1.0, 2.5])


def test_every_name_of_the_table_can_be_called() -> None:
    assert all(callable(f) for f in FUNCTIONS.values())
    for name in ("np.linalg.inv", "inv", "np.sum", "sum", "trace", "sigmoid", "softmax", "logsumexp",
    "np.linalg.slogdet",
                 "np.eye", "np.einsum", "scipy.special.erf", "relu", "np.where", "norm", "det",
                 "triangular_solve"):  # fmt: skip
        assert name in FUNCTIONS
    assert FUNCTIONS["outer"] is NUMPY[np.outer] and FUNCTIONS["trace"] is NUMPY[np.trace]


# -------------------------------------------------------------------- own functions
def test_own_functions_against_scipy() -> None:
    a = np.random.default_rng(5).normal(size=(3, 4)) * 3
    w = np.random.default_rng(6).normal(size=(4, 4)) + 3 * np.eye(4)
    f = FUNCTIONS
    for made, expected in (
        (f["sigmoid"](A), special.expit(a)), (f["relu"](A), np.maximum(a, 0)), (f["softplus"](A), np.logaddexp(a, 0)),
        (f["softmax"](A), special.softmax(a, axis=-1)), (f["softmax"](A, axis=0), special.softmax(a, axis=0)),
        (f["softmax"](A, None), special.softmax(a)), (f["logsumexp"](A), special.logsumexp(a, axis=-1)),
        (f["logsumexp"](A, axis=(0, 1)), special.logsumexp(a)), (f["log_softmax"](A, 0), special.log_softmax(a, 0)),
        (f["logsumexp"](A, 0, keepdims=True), special.logsumexp(a, axis=0, keepdims=True)),
        (f["polygamma"](2, A**2), special.polygamma(2, a**2)), (f["polygamma"](0, A**2), special.psi(a**2)),
        (f["lgamma"](A**2), special.gammaln(a**2)), (f["digamma"](A**2), special.psi(a**2)),
    ):  # fmt: skip
        np.testing.assert_allclose(run(made, A=a), expected, rtol=1e-12, atol=1e-12)
    W = constant(w)
    for lower in (True, False):
        for trans in (True, False):
            triangle = np.tril(w) if lower else np.triu(w)
            expected = np.linalg.solve(triangle.T if trans else triangle, a.T)
            made = f["triangular_solve"](W, constant(a.T), lower=lower, trans=trans)
            np.testing.assert_allclose(np.asarray(made), expected, rtol=1e-10)
            np.testing.assert_allclose(
                np.asarray(f["triangular_solve"](W, a[0], lower=lower, trans=trans)), expected[:, 0], rtol=1e-10
            )


def slope(y: Expr, at: Any, **sizes: int) -> Any:
    """The derivative of y in c at a number, by the sweeps alone."""
    builder = Builder(OPSET)
    done = builder.absorb([y.value, c.value])
    derivative = jacobians(builder, [done[y.value]], [done[c.value]])[0][0]
    return interpret(builder.function([c.value], [derivative]), [np.float64(at)], sizes)[0]


def test_derivatives_of_composed_functions_at_their_hard_points() -> None:
    np.testing.assert_array_equal(slope(c ** np.arange(3), 0.0), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(slope(c ** arange(n), 0.0, n=3), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(slope(special.xlogy(c, 2.0), 0.0), np.log(2.0))
    np.testing.assert_array_equal(slope(special.xlogy(0.0, c), 0.0), 0.0)
    np.testing.assert_array_equal(slope(np.cumprod(np.stack([c, 2 * c, c + 3])), 0.0), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(slope(np.logaddexp(c, 1.5), 1.5), 0.5)
    np.testing.assert_allclose(slope(np.logaddexp(c, 0.0), 800.0), 1.0)
    np.testing.assert_array_equal(slope(np.clip(c, None, 1.0), 1.0), 1.0)
    np.testing.assert_array_equal(slope(np.where(c < 1, c, np.sqrt(c)), 0.0), 1.0)


# -------------------------------------------------------------------- errors
@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: bool(x[0] > 0), UnsupportedError, r"np\.where\(condition, a, b\)"),
    (lambda: 1 if c else 0, UnsupportedError, "a condition"), (lambda: float(c), UnsupportedError, r"sd\.set"),
    (lambda: int(c), UnsupportedError, r"int\(\) needs a number, but c is symbolic"),
    (lambda: list(x), SymbolicSizeError, "axis 0 has the symbolic size n"),
    (lambda: len(x), SymbolicSizeError, r"use x\.shape\[0\]"), (lambda: len(c), UnsupportedError, "scalar"),
    (lambda: x.__setitem__(0, 1), UnsupportedError, r"sd\.set\(x, index, value\).*sd\.add_at"),
    (lambda: 1 in x, UnsupportedError, r"np\.any\(x == item\)"),
    (lambda: np.asarray(x), UnsupportedError, r"sd\.array"),
    (lambda: np.array([c, c]), UnsupportedError, r"np\.stack"), (lambda: c.item(), UnsupportedError, "leave it"),
    (lambda: special.logsumexp(x), UnsupportedError, r"sd\.logsumexp"),
    (lambda: range(i[0]), UnsupportedError, "an index or a loop"),
    (lambda: np.sum(x, out=np.zeros(())), UnsupportedError, "out= writes into an array"),
    (lambda: np.exp(x, where=[True]), UnsupportedError, "argument where="),
    (lambda: np.sort(x), UnsupportedError, r"np\.sort is not defined"),
    (lambda: np.linalg.svd(A), UnsupportedError, "svd"),
    (lambda: np.median(x), UnsupportedError, "order statistics"),
    (lambda: np.fft.fft(x), UnsupportedError, r"np\.fft\.fft"),
    (lambda: np.convolve(x, v3, "same"), ShapeError, "mode='full'"),
    (lambda: np.eye(3)[i], UnsupportedError, r"np\.take\(array, i, axis=0\)"),
    (lambda: np.linalg.pinv(A), UnsupportedError, r"np\.linalg\.solve"),
    (lambda: np.copysign(x, 2), UnsupportedError, r"np\.sign"),
    (lambda: np.interp(x, [0, 1], [0, 1], period=3), UnsupportedError, "period=3"),
    (lambda: x.flat, UnsupportedError, "ravel"),
    (lambda: np.linalg.norm(A, 2), UnsupportedError, "singular values"),
    (lambda: np.where(b), UnsupportedError, "size"),
    (lambda: np.sum(A, 0, None, np.zeros(4)), UnsupportedError, "out= writes"),
    (lambda: np.add.reduce(x, initial=3.0), UnsupportedError, "initial=3.0"),
    (lambda: np.add.reduceat(x, [0, 1]), UnsupportedError, "reduceat"),
    (lambda: np.add.at(x, 0, 1), UnsupportedError, "add_at"),
    (lambda: np.pad(x, 1, mode="median"), UnsupportedError, "'median'"),
    (lambda: np.ravel(A, "F"), UnsupportedError, "'F'"),
    (lambda: x[b], UnsupportedError, r"np\.where\(mask, x, 0\)"),
    (lambda: x[True], UnsupportedError, "boolean number"),
    (lambda: i**-1, UnsupportedError, "integer base"), (lambda: i & 1, DtypeError, r"np\.logical"),
    (lambda: x + A.T, ShapeError, r"\(n,\) and \(n, m\)"), (lambda: A @ A, ShapeError, r"sizes n and m"),
    (lambda: x + np.ones(3), ShapeError, r"\(n,\) and \(3,\)"), (lambda: c @ x, ShapeError, "use \\* for scalars"),
    (lambda: np.concatenate([x, A]), ShapeError, "differ|rank"),
    (lambda: np.stack([x, A[:, 0]]), ShapeError, "expected equal"),
    (lambda: A.reshape(-1, 5), ShapeError, "divide by 5"),
    (lambda: A.reshape(n, n), ShapeError, "expected equal numbers"),
    (lambda: np.einsum("ij,jk", A, A), ShapeError, "einsum ij,jk"),
    (lambda: np.einsum("ij->iij", A), ArgumentError, "once"),
    (lambda: np.einsum("ij", x), ShapeError, "2 labels"), (lambda: np.trace(A), ShapeError, "smaller of the sizes"),
    (lambda: np.linalg.inv(A), ShapeError, "square"),
    (lambda: np.linalg.solve(eye(n), A), ShapeError, "expected n rows"),
    (lambda: np.cross(x, x), ShapeError, "expected 3"), (lambda: np.squeeze(A, 0), ShapeError, "expected 1"),
    (lambda: np.sum(A, axis=2), ArgumentError, "axis 2 is out of range for rank 2"),
    (lambda: np.sum(A, axis=(0, 0)), ArgumentError, "repeats"),
    (lambda: np.sum(A, axis="a"), ArgumentError, "integer"),
    (lambda: A[0, 0, 0], ArgumentError, r"3 indices for an array of shape \(m, n\)"),
    (lambda: A[..., ...], ArgumentError, "more than one"),
    (lambda: v3[3], ArgumentError, "index 3 is out of range for axis 0 of size 3"),
    (lambda: v3[[5]], ArgumentError, "index 5"),
    (lambda: v3[np.array([True, False])], ShapeError, "mask"), (lambda: x[1.5], ArgumentError, "index 1.5"),
    (lambda: x[x], DtypeError, "expected i64"), (lambda: x["a"], ArgumentError, "'a'"),
    (lambda: x[::0], ArgumentError, "step"),
    (lambda: x[:: dim("k")], ArgumentError, "step"), (lambda: b - b, DtypeError, "booleans"),
    (lambda: -b, DtypeError, "~x"),
    (lambda: b @ b, DtypeError, "booleans"), (lambda: x + 1j, DtypeError, "complex"),
    (lambda: np.max(zeros(0)), ShapeError, "empty"),
    (lambda: x.reshape(dim("k"), -1), ShapeError, "not known to divide"),
    (lambda: Expr("x"), ArgumentError, "IR value"),
])  # fmt: skip
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_in_place_operators_make_new_expressions() -> None:
    y = x
    y += 1
    assert y is not x and x.value.is_param
    array = np.zeros(3)
    with pytest.raises(UnsupportedError, match=r"a = a \+ x"):
        array += v3


# -------------------------------------------------------------------- a random sweep of indices
def _random_index(r: random.Random, shape: tuple[int, ...]) -> tuple[Any, ...]:
    items: list[Any] = []
    axis, dots = 0, False
    while axis < len(shape):
        size, choice = shape[axis], r.random()
        if choice < 0.12:
            items.append(None)
            continue
        if choice < 0.2 and not dots:
            items.append(...)
            dots = True
            axis += r.randint(0, len(shape) - axis)
            continue
        if choice < 0.4:
            items.append(r.randint(-size, size - 1))
        elif choice < 0.7:
            bounds = [r.choice([None, None, *range(-size - 2, size + 3)]) for _ in range(2)]
            items.append(slice(*bounds, r.choice([None, 1, 1, 2, -1, -2, 3, -3])))
        elif choice < 0.93:
            form = r.choice([(2,), (3,), (1,), (2, 3), (1, 3), ()])
            items.append(np.array([r.randint(-size, size - 1) for _ in range(int(np.prod(form)))], int).reshape(form))
        else:
            items.append(np.array([r.random() < 0.5 for _ in range(size)]))
        axis += 1
    return tuple(items)


def test_random_indices_read_and_write_as_numpy() -> None:
    r, rng = random.Random(11), np.random.default_rng(11)
    served = refused = 0
    while served < 250:
        shape = tuple(r.choice([1, 2, 3, 4, 5]) for _ in range(r.randint(1, 4)))
        index, array = _random_index(r, shape), rng.normal(size=shape)
        try:
            expected = array[index]
        except IndexError:
            continue
        X = symbol("X", shape)
        values = rng.normal(size=expected.shape)
        written, added = array.copy(), array.copy()
        written[index] = values
        np.add.at(added, index, values)
        program = Builder(OPSET).function([X.value], [e.value for e in (
            X[index], set_at(X, index, values), add_at(X, index, values))])  # fmt: skip
        traced = trace(lambda a, index=index: a[index], (array,))
        arguments = traced.arguments((array,))
        assert arguments is not None
        results = [*interpret(program, [array]), *interpret(traced.function, arguments)]
        for got, want in zip(results, (expected, written, added, expected), strict=True):
            assert got.shape == want.shape, (shape, index)
            np.testing.assert_allclose(got, want, atol=1e-14, err_msg=f"{shape} {index}")
        served += 1
        # Symbolic sizes: the same numbers, or an error; bounds beyond an axis are such errors.
        S = symbol("S", dims("p q r s")[: len(shape)])
        try:
            got = interpret(Builder(OPSET).function([S.value], [S[index].value]), [array])[0]
        except SymdiffError:
            refused += 1
            continue
        np.testing.assert_array_equal(got, expected)
    assert refused < 0.6 * served
