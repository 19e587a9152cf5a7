"""Compiled sparse derivatives: values, patterns with sizes and index arguments, Python functions, refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from oracle import run
from scipy import sparse
from strategies import Program, examples, programs
from structures import EXACT, SIX, X, brusselator, n, rosenbrock

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.diff import jacobians
from symdiff.errors import ArgumentError, DerivativeError, ShapeError
from symdiff.interp import bind_sizes, interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.sparsity import Bicolouring

RNG = np.random.default_rng(20)


def check_values(derivative: Any, dense: Any, *arrays: Any) -> Any:
    found = derivative(*arrays)
    want = np.asarray(dense).reshape(found.shape)
    assert isinstance(found, sparse.csr_array) and found.has_sorted_indices
    scale = float(np.max(np.abs(want), initial=1.0))
    np.testing.assert_allclose(found.toarray(), want, rtol=1e-12, atol=1e-13 * scale)
    assert not np.any((want != 0) & (derivative_pattern(derivative, arrays) == 0))
    again = derivative.values(*arrays)
    np.testing.assert_array_equal(found.data, again)
    return found


def derivative_pattern(derivative: Any, arrays: Any) -> Any:
    params = derivative.function.params
    known = {p.name: a for p, a in zip(params, arrays, strict=True) if not p.type.floating}
    return derivative.pattern(bind_sizes(params, [np.shape(a) for a in arrays]), known).toarray()


def dense_of(y: Any, x: Any, inputs: Any, arrays: Any) -> Any:
    """The dense Jacobian by the reference interpreter."""
    builder = Builder(OPSET)
    f = function_of([y], inputs)
    mapping = builder.inline(f)
    (want,) = jacobians(builder, [mapping[f.results[0]]], [mapping[x.value]])[0]
    return interpret(builder.function([mapping[p] for p in f.params], [want]), arrays)[0]


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", EXACT)
def test_values_of_plain_structures(name: str, mode: Any) -> None:
    y, x, _ = EXACT[name]
    inputs = [x, *[s for s in y.symbols() if s.value is not x.value]]
    arrays = [RNG.normal(size=p.shape) for p in inputs]
    check_values(sd.sparse_jacobian(y, x, inputs, mode), dense_of(y, x, inputs, arrays), *arrays)


def _interpreted(f: Function, *arrays: Any, sizes: Any = None) -> Any:
    return interpret(f, arrays, sizes)


@examples(60)
@given(programs(max_steps=4))
def test_values_of_random_programs(program: Program) -> None:
    """Programs as they are, run by the interpreter: closed forms and native code take their time."""
    f, builder = program.function, program.builder
    y = f.results[0]
    size = np.size(interpret(f, program.args, program.sizes)[0])
    assume(y.type.floating and size * sum(np.size(a) for a in program.args) <= 300)
    wanted = run(f.params, jacobians(builder, [y], f.params)[0], program.args, sizes=program.sizes)
    want = np.concatenate([w.reshape(size, np.size(a)) for w, a in zip(wanted, program.args, strict=True)], axis=1)
    xs = [sd.Expr(p) for p in f.params]
    for mode in ("forward", "reverse", "auto", "coloured"):
        with pytest.MonkeyPatch.context() as patch:
            # Both directions whether they save sweeps or not.
            patch.setattr("symdiff.api.compression.SECOND", -1000)
            for module in ("sparse", "sparse_plans"):
                patch.setattr(f"symdiff.api.{module}.cheapest", lambda f: f)
            patch.setattr("symdiff.api.sparse.compile_function", lambda f, **_: partial(_interpreted, f))
            derivative = sd.sparse_jacobian(sd.Expr(y), xs, xs, mode)
            found = derivative(*program.args).toarray()
        scale = float(np.max(np.abs(want), initial=1.0))
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-10 * scale)


def test_hessians_at_several_sizes() -> None:
    a = sd.symbol("a", ())
    f = a * rosenbrock(X) + np.sum(X) ** 2 * 0 + np.sum(np.sin(X[2:] * X[:-2]))
    hessian = sd.sparse_hessian(f, X, [a, X])
    for size in (2, 3, 5, 12):
        arrays = [1.7, RNG.normal(size=size)]
        check_values(hessian, dense_of(sd.gradient(f, X), X, [a, X], arrays), *arrays)
    assert hessian.colours({"n": 300}).count <= 6


def test_an_arrow_needs_two_colours() -> None:
    t = sd.symbol("t", ())
    f = np.sum(np.exp(X * t) * np.sin(X)) + t**3
    hessian = sd.sparse_hessian(f, [X, t], [X, t])
    assert hessian.colours({"n": 5000}).count == 2
    x0, t0, h = RNG.normal(size=6), 0.3, 1e-5
    found = hessian(x0, t0).toarray()
    fn = sd.compile([sd.gradient(f, X), sd.gradient(f, t)], [X, t])

    def slope(v: Any) -> Any:
        gx, gt = fn(v[:6], v[6])
        return np.append(gx, gt)

    v0 = np.append(x0, t0)
    want = np.stack([(slope(v0 + h * e) - slope(v0 - h * e)) / (2 * h) for e in np.eye(7)])
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(hessian.pattern({"n": 6}).toarray(), want.round(5) != 0)


def test_colours_beyond_one_block_are_swept_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense derivative in many small blocks gives the same values."""
    y = np.sin(SIX) * np.sum(SIX**2)
    x0 = RNG.normal(size=6)
    want = dense_of(y, SIX, [SIX], [x0])
    monkeypatch.setattr("symdiff.api.sparse_plans.SEEDED", 13)
    for mode in ("forward", "reverse"):
        derivative = sd.sparse_jacobian(y, SIX, mode=mode)
        assert derivative.colours().count == 6
        check_values(derivative, want, x0)


def test_products_outside_of_a_loop_are_there_inside() -> None:
    """The entries' loop adds a product that is the same in every row."""
    z = sd.symbol("z", (2, n))
    z0 = RNG.normal(size=(2, 20))
    derivative = sd.sparse_jacobian(brusselator(z), z)
    assert derivative.method({"n": 20}) == "direct"
    check_values(derivative, dense_of(brusselator(z), z, [z], [z0]), z0)


@pytest.mark.parametrize("format", ["csr", "csc", "bsr"])
def test_arrowheads_are_swept_both_ways(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense row, a dense column and a diagonal: three sweeps, whatever n."""
    tail = np.sin(X[1:]) * X[0] + X[0] ** 3
    y = np.concatenate([np.sum(np.exp(X) * X).reshape(1), tail])
    jacobian = sd.jacobian(y, X, sparse=True, mode="coloured", format=format)
    derivative = sd.compile(jacobian, [X])
    found = derivative.colours({"n": 200})
    assert isinstance(found, Bicolouring) and found.count == 3
    assert derivative.method({"n": 200}) == "bidirectional"
    for size, seeded in ((5, 1 << 22), (30, 1 << 22), (31, 31)):  # the last in blocks of one sweep
        monkeypatch.setattr("symdiff.api.sparse_plans.SEEDED", seeded)
        x0 = RNG.normal(size=size)
        want = np.zeros((size, size))
        want[0] = np.exp(x0) * (x0 + 1)
        want[1:, 0] = np.sin(x0[1:]) + 3 * x0[0] ** 2
        want[range(1, size), range(1, size)] = np.cos(x0[1:]) * x0[0]
        got = derivative(x0)
        assert got.format == format
        np.testing.assert_allclose(got.toarray(), want, rtol=1e-13, atol=1e-14)


def test_arrowheads_of_several_variables_are_swept_both_ways() -> None:
    """Single precision, two variables, more than one function: every part lands in its place."""
    m = sd.dim("m")
    u, v = sd.symbol("u", (m,), dtype="float32"), sd.symbol("v", (), dtype="float32")
    ys, xs = [u**2 * v, np.sum(u) * v], [v, u]
    derivative = sd.sparse_jacobian(ys, xs, inputs=[u, v], mode="coloured")
    assert derivative.method({"m": 50}) == "bidirectional"
    u0, v0 = RNG.normal(size=12).astype(np.float32), np.float32(0.75)
    want = np.zeros((13, 13))
    want[:12, 0], want[12, 0] = u0**2, u0.sum()
    want[range(12), range(1, 13)] = 2 * u0 * v0
    want[12, 1:] = v0
    got = derivative(u0, v0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.toarray(), want, rtol=1e-5)


def test_one_direction_stays_where_both_save_little() -> None:
    """Two programs evaluate the function twice; asking for a direction keeps to it."""
    y = np.concatenate([np.sum(X**2).reshape(1), X[1:] * X[0]])
    assert sd.sparse_jacobian(y, X, mode="coloured").method({"n": 4}) == "forward"
    assert sd.sparse_jacobian(y, X, mode="coloured").method({"n": 5}) == "bidirectional"
    for mode in ("forward", "reverse"):
        assert sd.sparse_jacobian(y, X, mode=mode).method({"n": 40}) == mode


def test_few_dense_rows_go_backward() -> None:
    y = np.concatenate([np.sum(X**2).reshape(1), np.sum(np.exp(X)).reshape(1)])
    derivative = sd.sparse_jacobian(y, X)
    assert derivative.colours({"n": 1000}).count == 2
    assert sd.sparse_jacobian(y, X, mode="forward").colours({"n": 1000}).count == 1000
    x0 = RNG.normal(size=5)
    check_values(derivative, np.stack([2 * x0, np.exp(x0)]), x0)


def test_empty_sizes_and_no_dependence() -> None:
    y = np.sin(X) * np.exp(X)
    derivative = sd.sparse_jacobian(y, X)
    assert derivative(np.zeros(0)).shape == (0, 0)
    assert derivative(np.array([0.5])).shape == (1, 1)
    w = sd.symbol("w", (n, 3))
    none = sd.sparse_jacobian(np.cos(w) + 1, X, [X, w])(np.zeros(2), np.zeros((2, 3)))
    assert none.shape == (6, 2) and none.nnz == 0
    flat = sd.sparse_jacobian(np.floor(X) + 1, X)(np.zeros(3))
    assert flat.nnz == 0 and flat.dtype == np.float64


def test_index_arguments_are_part_of_the_pattern() -> None:
    """Edges of a graph, repeated ones too: another list of edges of the same length has another pattern."""
    ends = sd.symbol("i", (sd.dim("e"),), "i64"), sd.symbol("j", (sd.dim("e"),), "i64")
    y = (X[ends[0]] - X[ends[1]]) ** 3
    derivative = sd.sparse_jacobian(y, X, [X, *ends])
    x0 = RNG.normal(size=5)
    for i, j in (([0, 1, 1], [2, 2, 2]), ([4, 4, 0], [4, 3, -1])):
        i, j = np.array(i), np.array(j)
        found = check_values(derivative, dense_of(y, X, [X, *ends], [x0, i, j]), x0, i, j)
        assert found.nnz == sum(len({a % 5, b % 5}) for a, b in zip(i, j, strict=True))
    assert derivative.pattern({"n": 5, "e": 3}).nnz == 15, "unknown indices point everywhere"
    changing, other = np.array([0, 1, 3]), np.array([2, 2, 2])
    assert derivative(x0, changing, other).nnz == 6
    changing[:] = 2  # the caller's array changes in place
    assert derivative(x0, changing, other).nnz == 3


def test_several_variables_and_functions() -> None:
    """Bundle adjustment in small: cameras and points, residuals by observation."""
    cameras, points = sd.symbol("c", (sd.dim("k"), 2)), sd.symbol("p", (n, 2))
    who, what = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    residual = np.tanh(cameras[who] * points[what]) + cameras[who][:, ::-1]
    weight = np.sum(cameras**2, axis=1)
    derivative = sd.sparse_jacobian([residual, weight], [cameras, points])
    c0, p0 = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 2))
    inputs = [cameras, points]
    want = np.block([
        [dense_of(y, x, inputs, [c0, p0]).reshape(-1, k) for x, k in ((cameras, 6), (points, 4))]
        for y in (residual, weight)
    ])  # fmt: skip
    check_values(derivative, want, c0, p0)
    assert derivative.colours({"k": 3, "n": 2}).count <= 4


def test_single_precision() -> None:
    x = sd.symbol("x", (n,), "f32")
    x0 = RNG.normal(size=6).astype(np.float32)
    found = sd.sparse_jacobian(x[1:] * x[:-1], x)(x0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), np.diag(x0[1:]) @ np.eye(5, 6) + np.diag(x0[:-1]) @ np.eye(5, 6, 1))


def test_the_entries_are_the_callers_and_the_pattern_is_shared() -> None:
    hessian = sd.sparse_hessian(rosenbrock(X), X)
    x0 = RNG.normal(size=5)
    first = hessian(x0)
    want = first.toarray()
    assert np.shares_memory(hessian(x0).indices, first.indices)
    first.data[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        first.indices[:] = 0
    np.testing.assert_array_equal(hessian(x0).toarray(), want)


# -------------------------------------------------------------------- Python functions
def test_python_functions() -> None:
    derivative = sd.sparse_jacobian(brusselator)
    for size in (4, 9):
        z = RNG.normal(size=(2, size))
        want = sd.jacfwd(brusselator)(z)
        np.testing.assert_allclose(derivative(z).toarray(), want.reshape(2 * size, -1), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(derivative.values(z), derivative(z).data)

    def loss(data: dict[str, Any], y: Any) -> Any:
        return np.sum(np.sin(data["a"] * y)) + data["b"] ** 2

    data, y = {"a": RNG.normal(size=4), "b": 0.5}, RNG.normal(size=4)
    for argnums in (0, 1, (1, 0), -1):
        found = sd.sparse_hessian(loss, argnums=argnums)(data, y).toarray()
        a, s = data["a"], np.sin(data["a"] * y)
        aa, yy = np.diag(-s * y * y), np.diag(-s * a * a)
        ay = np.diag(np.cos(a * y) - s * a * y)
        first = np.pad(aa, (0, 1))
        first[-1, -1] = 2.0
        cross = np.pad(ay, ((0, 0), (0, 1)))
        want = {0: first, 1: yy, -1: yy, (1, 0): np.block([[yy, cross], [cross.T, first]])}[argnums]
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-14)


# -------------------------------------------------------------------- refusals
FLAGS = sd.symbol("k", (n,), "i64")
REFUSED: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ArgumentError, "the variable sin.* is an expression, expected a symbol", lambda: sd.sparse_jacobian(X, np.sin(X))),
    (ArgumentError, "the function is 3 of type int", lambda: sd.sparse_jacobian(3, X)),
    (ArgumentError, "the variable is None", lambda: sd.sparse_jacobian(X)),
    (ArgumentError, "no variable is given", lambda: sd.sparse_jacobian(X, [])),
    (ArgumentError, "variable x is given twice", lambda: sd.sparse_jacobian(X, [X, X])),
    (ArgumentError, r"x is not among the inputs \(y\)",
     lambda: sd.sparse_jacobian(sd.symbol("y", (n,)), X, [sd.symbol("y", (n,))])),
    (ArgumentError, "expected a symbol", lambda: sd.sparse_jacobian(X, X, [X, X + 1])),
    (ArgumentError, "mode 'acyclic', expected one of auto, direct, coloured, forward, reverse",
     lambda: sd.sparse_jacobian(X**2, X, mode="acyclic")),
    (ArgumentError, "mode 'sideways', expected one of auto, direct, coloured, forward, reverse",
     lambda: sd.sparse_jacobian(X, X, mode="sideways")),
    (ArgumentError, r"x f64\[n\] is used but not among the parameters",
     lambda: sd.sparse_jacobian(X * FLAGS, FLAGS, [FLAGS])),
    (DerivativeError, "variable k has dtype i64", lambda: sd.sparse_jacobian(X * FLAGS, FLAGS)),
    (DerivativeError, "the function has dtype bool", lambda: sd.sparse_jacobian(X > 0, X)),
    (ShapeError, r"sparse_hessian: the function has shape \(n,\), expected a scalar",
     lambda: sd.sparse_hessian(X**2, X)),
    (ShapeError, "expected a scalar", lambda: sd.sparse_hessian(np.sin)(np.ones(3))),
    (ArgumentError, "argnums", lambda: sd.sparse_jacobian(np.sin, X)),
    (ArgumentError, "argnums 2 for 1 arguments", lambda: sd.sparse_jacobian(np.sin, argnums=2)(np.ones(3))),
    (ArgumentError, r"call sparse_hessian\(y, x\)", lambda: sd.sparse_hessian(np.sum)(X)),
    (ArgumentError, r"2 arguments given, expected 1 \(x\)", lambda: sd.sparse_jacobian(X**2, X)(1.0, 2.0)),
    (ShapeError, "x: expected shape", lambda: sd.sparse_jacobian(X**2, X)(np.ones((2, 2)))),
    (ShapeError, "no size is known for n", lambda: sd.sparse_jacobian(X**2, X).pattern()),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), REFUSED, ids=[m for _, m, _ in REFUSED])
def test_refusals_say_what_was_expected(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message):
        call()


def test_variables_of_the_sweep_take_free_names() -> None:
    """Symbols and dimensions may have the names that seeds and colours would take."""
    c = sd.symbol("seed_0", (named("colours"),))
    found = sd.sparse_jacobian(c[1:] * c[:-1], c)(np.array([2.0, 3.0, 5.0]))
    np.testing.assert_array_equal(found.toarray(), [[3, 2, 0], [0, 5, 3]])


def test_a_bound_call_reads_its_arrays_anew_and_takes_numbers() -> None:
    x, rate = sd.symbol("x", (n,)), sd.symbol("rate")
    for mode in ("auto", "coloured"):
        derivative = sd.sparse_jacobian(np.sin(rate * x) * x, x, inputs=[x, rate], mode=mode)
        at = np.random.default_rng(3).normal(size=7)
        call = derivative.bind(at, 1.5)
        first = call()
        np.testing.assert_allclose(first, derivative.values(at, 1.5))
        at += 1.0
        again = call()
        assert again is first
        np.testing.assert_allclose(again, derivative(at, 1.5).data)
        np.testing.assert_allclose(again, np.sin(1.5 * at) + 1.5 * at * np.cos(1.5 * at))
