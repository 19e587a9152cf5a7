"""Structured derivatives: kinds, factors, operators against dense derivatives, conversions, text, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from scipy.sparse.linalg import cg
from strategies import Program, examples, programs
from structures import EXACT, X, brusselator, n, rosenbrock

import symdiff as sd
from symdiff.diff import jacobians
from symdiff.errors import ArgumentError, ShapeError
from symdiff.interp import bind_sizes, interpret
from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function
from symdiff.structured import Affine, Indirect, Structure

RNG = np.random.default_rng(7)
m, k = sd.dims("m k")
U, V = sd.symbol("U", (n, k)), sd.symbol("V", (m, k))
T, M = sd.symbol("T", (n, m)), sd.symbol("M", (n, m))
A, B, Z = sd.symbol("A", (n, n)), sd.symbol("B", (m, m)), sd.symbol("Z", (n, m))
I, J = sd.symbol("i", (sd.dim("e"),), "i64"), sd.symbol("j", (sd.dim("e"),), "i64")
W, DATA = sd.symbol("w", (m,)), sd.symbol("D", (n, m))
SIZES = {"n": 5, "m": 4, "k": 3, "e": 7}
MASKED = np.sum((M * (T - U @ V.T)) ** 2)


def numbers(inputs: Any) -> list[Any]:
    found: list[Any] = []
    for p in inputs:
        shape = tuple(evaluate(s, SIZES) for s in p.shape)
        found.append(RNG.integers(-5, 5, shape) if p.dtype == "i64" else RNG.normal(size=shape))
    return found


def check(form: Any, dense: Any, inputs: Any = None) -> Any:
    """The compiled operator, after every product and conversion has been compared with the dense derivative."""
    inputs = form.symbols() if inputs is None else inputs
    arrays = numbers(inputs)
    sizes = bind_sizes([p.value for p in inputs], [np.shape(a) for a in arrays])
    want = np.asarray(sd.evaluate(dense, dict(zip([p.value.name for p in inputs], arrays, strict=True)), sizes))
    operator = sd.compile(form, inputs)(*arrays)
    matrix = want.reshape(operator.shape)

    def same(found: Any, right: Any) -> None:
        np.testing.assert_allclose(np.reshape(found, np.shape(right)), right, rtol=1e-10, atol=1e-10)

    same(operator.dense(), want)
    same(np.asarray(operator), matrix)
    for kind in ("csr", "csc", "coo"):
        found = operator.tosparse(kind)
        assert found.format == kind
        same(found.toarray(), matrix)
    rows, columns = operator.shape
    v, w, block = RNG.normal(size=columns), RNG.normal(size=rows), RNG.normal(size=(columns, 3))
    same(operator @ v, matrix @ v)
    same(w @ operator, w @ matrix)
    same(operator @ block, matrix @ block)
    same(operator.T @ w, matrix.T @ w)
    same(operator.T.toarray(), matrix.T)
    same(operator @ v.reshape(operator.template.inside), matrix @ v)
    linear = operator.linear_operator()
    same(linear @ v, matrix @ v)
    same(linear.H @ w, matrix.T @ w)
    return operator


HESSIANS: dict[str, tuple[Any, Any, str]] = {
    "separable": (np.sum(np.tanh(X) ** 2), X, "diagonal"),
    "separable matrix": (np.sum(np.tanh(Z)), Z, "diagonal"),
    "Rosenbrock": (rosenbrock(X), X, "banded"),
    "second neighbours": (np.sum(np.exp(X[2:] * X[:-2])), X, "banded"),
    "matrix factorization": (np.sum((T - U @ V.T) ** 2), U, "kronecker"),
    "masked matrix factorization": (MASKED, U, "block diagonal"),
    "masked matrix factorization, other side": (MASKED, V, "block diagonal"),
    "logsumexp": (sd.logsumexp(X), X, "diagonal + low rank"),
    "square of a sum": (np.sum(np.tanh(X) ** 2) + np.sum(X) ** 2, X, "diagonal + low rank"),
    "ridge": (np.sum(np.log1p(np.exp(DATA @ W))) + W @ W, W, "diagonal + dense"),
    "graph": (np.sum((X[I] - X[J]) ** 3), X, "scattered"),
    "rows": (np.sum(sd.logsumexp(Z, axis=1)), Z, "diagonal + block diagonal"),
    "linear": (np.sum(X * 3), X, "zero"),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_hessians(name: str) -> None:
    f, x, kind = HESSIANS[name]
    form = sd.hessian(f, x, form="structured")
    assert form.kind == kind
    operator = check(form, sd.hessian(f, x))
    assert operator.kind == kind
    assert all(a.size < operator.shape[0] ** 2 for own in operator.factors for a in own) or "dense" in kind


JACOBIANS: dict[str, tuple[Any, Any, str]] = {
    "two products": (A @ Z @ B, Z, "kronecker"),
    "two products, flat": ((A @ Z @ B).reshape(n * m), Z, "scattered"),
    "softmax": (sd.softmax(X), X, "diagonal + low rank"),
    "product with a sum": (np.sin(X) * np.sum(X**2), X, "diagonal + low rank"),
    "Brusselator": (brusselator(sd.symbol("z", (2, n))), sd.symbol("z", (2, n)), "banded"),
    "differences": (X[1:] ** 2 - X[:-1], X, "banded"),
    "every other": (X[::-2] * 3, X, "scattered"),
    "rows of a flat vector": (np.sin(sd.symbol("v", (n * m,))).reshape(n, m)[1:] + Z[1:], sd.symbol("v", (n * m,)),
                              "scattered"),
    "scalar in": (X * sd.symbol("t", ()), sd.symbol("t", ()), "dense"),
    "scalar out": (X @ X, X, "dense"),
    "transpose": (Z.T * 2, Z, "kronecker"),
    "stack": (np.stack([X, X**2]), X, "banded"),
    "where": (np.where(X > 0, X, X[::-1] ** 2), X, "scattered"),
    "solve": (np.linalg.solve(A + 9 * sd.eye(n), X), X, "dense"),
    "cumsum": (np.cumsum(X), X, "dense"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobians(name: str, mode: Any) -> None:
    y, x, kind = JACOBIANS[name]
    form = sd.jacobian(y, x, mode, form="structured")
    # Every symbol of the function is an input: a size may be seen in no other.
    check(form, sd.jacobian(y, x), y.symbols())
    if mode == "auto" and "n * m" not in str(x.shape):
        assert set(kind.split(" + ")) <= {*form.kind.split(" + "), "banded", "scattered", "dense"}


@pytest.mark.parametrize("name", EXACT)
def test_plain_structures(name: str) -> None:
    y, x, _ = EXACT[name]
    check(sd.jacobian(y, x, form="structured"), sd.jacobian(y, x))


@examples(60)
@given(programs(max_steps=5))
def test_terms_of_random_programs(program: Program) -> None:
    """The terms of Jacobians of random programs add up to the Jacobian, by the interpreter alone."""
    f, builder = program.function, program.builder
    y = f.results[0]
    assume(y.type.floating)
    x = f.params[0]
    size = np.size(interpret(f, program.args, program.sizes)[0]) * np.size(program.args[0])
    assume(size <= 2000)
    for mode in ("forward", "reverse"):
        blocks = jacobians(builder, [y], [x], mode)[0]
        jacobian = builder.function(f.params, blocks)
        structure = Structure(jacobian)
        if any(evaluate(s, program.sizes) < 0 for s in structure.order.assumed):
            continue
        (want,) = interpret(jacobian, program.args, program.sizes)
        total = np.zeros_like(want)
        for term in structure.results[0]:
            values = [t.value for t in term.factors]
            values += [p.index for p in term.places if isinstance(p, Indirect)]
            run = Function.of(structure.params, values)
            arrays = interpret(run, program.args, program.sizes)
            add_term(total, term, arrays, program.sizes)
        scale = max(1.0, float(np.max(np.abs(want), initial=0, where=np.isfinite(want))))
        np.testing.assert_allclose(total, want, rtol=1e-9, atol=1e-9 * scale)


def add_term(total: Any, term: Any, arrays: Any, sizes: Any) -> None:
    """By loops over all labels, as the definition says."""
    labels = list(term.sizes)
    extents = [evaluate(term.sizes[x], sizes) for x in labels]
    count = len(term.factors)
    for numbers in np.ndindex(*extents):
        at = dict(zip(labels, numbers, strict=True))
        value = np.prod([arrays[i][tuple(at[x] for x in f.labels)] for i, f in enumerate(term.factors)])
        index: list[int] = []
        following = iter(arrays[count:])
        for place in term.places:
            if isinstance(place, Affine):
                index.append(evaluate(place.start, sizes) + sum(evaluate(s, sizes) * at[x] for x, s in place.steps))
            else:
                index.append(int(next(following)[tuple(at[x] for x in place.labels)]))
        total[tuple(index)] += value


# -------------------------------------------------------------------- by kind
def test_parts_have_the_shapes_that_their_kinds_say() -> None:
    bands = check(sd.hessian(rosenbrock(X), X, form="structured"), sd.hessian(rosenbrock(X), X)).bands
    assert {o: b.shape for o, b in bands.items()} == {-1: (4,), 0: (5,), 1: (4,)}
    assert bands[1] is bands[-1], "a symmetric matrix needs one of two mirrored bands"
    masked = sd.compile(sd.hessian(MASKED, U, form="structured"), [U, V, T, M])
    u, v, t, w = numbers([U, V, T, M])
    np.testing.assert_allclose(masked(u, v, t, w).blocks, 2 * np.einsum("il,lp,lq->ipq", w**2, v, v), rtol=1e-12)
    x0 = RNG.normal(size=6)
    operator = sd.compile(sd.hessian(sd.logsumexp(X), X, form="structured"), [X])(x0)
    p = np.exp(x0) / np.sum(np.exp(x0))
    np.testing.assert_allclose(operator.diagonal, p)
    ((left, right),) = operator.low_rank
    assert left.shape == right.shape == (6, 1)
    np.testing.assert_allclose(left @ right.T, -np.outer(p, p))
    with pytest.raises(ArgumentError, match=r"a diagonal \+ low rank operator has no `blocks`"):
        _ = operator.blocks


def test_factors_stay_small_at_any_size() -> None:
    """A million unknowns: what a dense Hessian would need does not exist."""
    fn = sd.compile(sd.hessian(rosenbrock(X) + np.sum(X) ** 2, X, form="structured"), [X])
    operator = fn(np.linspace(-1, 1, 1_000_000))
    assert operator.kind == "banded + low rank"
    assert operator.nbytes < 30_000_000
    assert operator.shape == (1_000_000, 1_000_000)


def test_solvers_take_operators() -> None:
    f = np.sum(X**4) + np.sum((X[1:] - X[:-1]) ** 2) + np.sum(X) ** 2
    operator = sd.compile(sd.hessian(f, X, form="structured"), [X])(np.linspace(1, 2, 40))
    right = RNG.normal(size=40)
    found, failed = cg(operator.linear_operator(), right, rtol=1e-12)
    assert not failed
    np.testing.assert_allclose(operator.toarray() @ found, right, atol=1e-9)


def test_single_precision_and_several_outputs() -> None:
    x = sd.symbol("x", (n,), "f32")
    f = np.sum(x[1:] * x[:-1] ** 2)
    fn = sd.compile([f, sd.hessian(f, x, form="structured"), sd.gradient(f, x), sd.hessian(f, x, sparse=True)], [x])
    x0 = RNG.normal(size=6).astype(np.float32)
    value, operator, slope, matrix = fn(x0)
    assert operator.dtype == np.float32 == matrix.dtype
    assert operator.toarray().dtype == np.float32
    np.testing.assert_allclose(matrix.toarray(), operator.toarray(), rtol=1e-6)
    np.testing.assert_allclose(value, np.sum(x0[1:] * x0[:-1] ** 2), rtol=1e-6)
    assert slope.shape == (6,)


def test_sizes_that_the_form_does_not_hold_for_are_dense() -> None:
    """Windows that are taken to overlap do not on short axes."""
    y = np.sum((X[2:] - 2 * X[1:-1] + X[:-2]) ** 4)
    form = sd.hessian(y, X, form="structured")
    fn, dense = sd.compile([form, y], [X]), sd.compile(sd.hessian(y, X), [X])
    for size, kind in ((8, "banded"), (3, "dense"), (2, "dense"), (9, "banded")):
        at = np.random.default_rng(size).normal(size=size)
        assert form.holds({"n": size}) == (kind == "banded")
        for found in (fn(at)[0], fn.bind(at)()[0]):
            assert found.kind == kind
            np.testing.assert_allclose(found.toarray(), dense(at), atol=1e-12)


def test_text_shows_factors_and_places() -> None:
    assert str(sd.hessian(np.sum((T - U @ V.T) ** 2), U, form="structured")) == (
        "kronecker (n, k) -> (n, k)\n  kronecker: (2 Vᵀ V)[j,k] at [i, j; i, k], i < n, j < k, k < k"
    )
    text = str(sd.hessian(rosenbrock(X), X, form="structured"))
    assert "at [i; i + 1], i < n - 1" in text
    assert repr(sd.compile(sd.jacobian(np.sin(X), X, form="structured"), [X])(np.ones(3))) == (
        "<diagonal operator (3,) -> (3,), 24 bytes of factors>"
    )


REFUSED: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ArgumentError, "form 'sparse', expected 'dense' or 'structured'", lambda: sd.hessian(X @ X, X, form="sparse")),
    (ArgumentError, "sparse=True and form='structured'",
     lambda: sd.hessian(X @ X, X, sparse=True, form="structured")),
    (ArgumentError, "format and blocksize are for sparse=True", lambda: sd.jacobian(X, X, format="csc")),
    (ArgumentError, "expected a symbol", lambda: sd.jacobian(np.sin(X), X + 1, form="structured")),
    (ShapeError, r"shape \(n,\), expected a scalar", lambda: sd.hessian(X, X, form="structured")),
    (ArgumentError, "takes an expression and a symbol", lambda: sd.hessian(np.sum, form="structured")),
    (ArgumentError, "mode 'elimination' with form='structured'",
     lambda: sd.jacobian(X, X, "elimination", form="structured")),
    (ArgumentError, r"V is used but not among the inputs \(U\)",
     lambda: sd.compile(sd.jacobian(U @ V.T, U, form="structured"), [U])),
    (ArgumentError, "no variable is given", lambda: sd.jacobian(X)),
    (ShapeError, r"given \(4,\), expected \(3,\)",
     lambda: sd.compile(sd.jacobian(np.sin(X), X, form="structured"), [X])(np.ones(3)) @ np.ones(4)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), REFUSED, ids=[r[1] for r in REFUSED])
def test_refusals_say_what_was_expected(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_bound_call_reads_its_arrays_anew() -> None:
    size = sd.dim("size")
    x = sd.symbol("x", (size,))
    compiled = sd.compile(sd.hessian(np.sum(np.sin(x[1:] * x[:-1])), x, form="structured"), [x])
    at = np.random.default_rng(5).normal(size=6)
    call = compiled.bind(at)
    np.testing.assert_allclose(call().toarray(), compiled(at).toarray())
    at += 0.5
    np.testing.assert_allclose(call().toarray(), compiled(at).toarray())
    constant = sd.compile(sd.hessian(np.sum(x), x, form="structured"), [x]).bind(at)
    assert not np.any(constant().toarray())
