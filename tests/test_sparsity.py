"""Sparse derivatives: patterns hold every non-zero and no more where structure is plain, colourings show every entry,
compressed values are those of the dense derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import jacobian, run
from scipy import sparse
from strategies import Program, examples, programs

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.diff import jacobians
from symdiff.errors import ArgumentError, DerivativeError, ShapeError
from symdiff.interp import bind_sizes, interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import named
from symdiff.ir.graph import ArrayConstant, Function
from symdiff.ir.op import Op, Partials
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.sparsity import colour_columns, colour_star, pattern
from symdiff.sparsity import sets as sparsity_sets
from symdiff.sparsity.sets import Pool

DTYPES = {"f": "f64", "i": "i64", "b": "bool"}
RNG = np.random.default_rng(20)


def dense_pattern(function: Function, x: int | list[int], sizes: dict[str, int], known: Any = None) -> Any:
    """The pattern as a boolean matrix, and that it is sorted without duplicates."""
    rows, columns = pattern(function, 0, x, sizes, known)
    xs = [x] if isinstance(x, int) else x

    def count(value: Any) -> int:
        return int(np.prod([s if isinstance(s, int) else s.substitute(sizes) for s in value.shape], dtype=np.int64))

    shape = (count(function.results[0]), sum(count(function.params[i]) for i in xs))
    key = rows * shape[1] + columns
    assert np.all(np.diff(key) > 0)
    found = np.zeros(shape, bool)
    found[rows, columns] = True
    return found


def pattern_of(y: Any, x: Any, known: Any = None, **sizes: int) -> Any:
    others = [s for s in y.symbols() if s.value is not x.value]
    return dense_pattern(function_of([y], [x, *others]), 0, sizes, known)


# -------------------------------------------------------------------- patterns hold every non-zero
@examples(150)
@given(programs())
def test_patterns_of_random_programs_hold_every_nonzero(program: Program) -> None:
    f, builder = program.function, program.builder
    y = f.results[0]
    size = np.size(interpret(f, program.args, program.sizes)[0])
    assume(size * sum(np.size(a) for a in program.args) <= 400)
    wanted = run(f.params, jacobians(builder, [y], f.params)[0], program.args, sizes=program.sizes)
    parts: list[Any] = []
    for i, want in enumerate(wanted):
        found = dense_pattern(f, i, program.sizes)
        parts.append(found)
        assert not np.any((want.reshape(found.shape) != 0) & ~found), f.params[i].name
    together = dense_pattern(f, list(range(len(f.params))), program.sizes)
    np.testing.assert_array_equal(together, np.concatenate(parts, axis=1))


def samples(op: Op) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    rng = np.random.default_rng(3)
    if op.sample.draw is not None:
        return op.sample.draw(rng)
    return [(tuple(rng.uniform(low, high, 5) for low, high in op.sample.intervals), {})]


def _with(f: Function, arrays: list[Any], i: int, x: Any) -> Any:
    return interpret(f, [*arrays[:i], x, *arrays[i + 1 :]])[0]


# Ops whose block is taken as full although some entries are always zero.
COARSE = {"prod_others", "solve", "triangular_solve", "signdet", "reduce_max", "reduce_min", "cholesky"}
# Their elements drop out here and there, depending on the numbers.
SELECTING = {"select", "maximum", "minimum", "relu", "clip", "mod", "reduce_prod"}
SAMPLED = [op for op in OPSET.values() if op.sample.draw is not None or op.sample.intervals]


@pytest.mark.parametrize("op", SAMPLED, ids=lambda op: op.name)
def test_pattern_of_every_op(op: Op) -> None:
    """Against central differences; where an op's block is exact the two are equal."""
    for arrays, attrs in samples(op):
        builder = Builder(OPSET)
        arrays = [np.asarray(a) for a in arrays]
        params = [builder.param(f"x{i}", TensorType(DTYPES[a.dtype.kind], a.shape)) for i, a in enumerate(arrays)]
        y = builder.make(op, tuple(params), freeze_attrs(attrs))
        f = Function.of(params, [y])
        known = {p.name: a for p, a in zip(params, arrays, strict=True) if a.dtype.kind == "i"}
        for i, p in enumerate(params):
            if not p.type.floating:
                continue
            found = dense_pattern(f, i, {}, known)
            if not y.type.floating:
                assert not found.any()
                continue
            want, error = jacobian(partial(_with, f, arrays, i), [arrays[i]], 0, step=1e-3)
            needed = np.abs(want.reshape(found.shape)) > 1e-10 + 10 * error
            assert not np.any(needed & ~found), (op.name, i, attrs)
            if op.name not in COARSE | SELECTING:
                np.testing.assert_array_equal(needed, found, err_msg=f"{op.name} operand {i} {attrs}")
            assert np.all(found <= dense_pattern(f, i, {})), "knowing indices never adds entries"


@pytest.mark.parametrize("name", ["gather", "scatter_add"])
def test_unknown_indices_count_along_their_axis_only(name: str) -> None:
    for arrays, attrs in samples(OPSET[name]):
        builder = Builder(OPSET)
        params = [builder.param(f"x{i}", TensorType(DTYPES[a.dtype.kind], a.shape)) for i, a in enumerate(arrays)]
        f = Function.of(params, [builder.make(OPSET[name], tuple(params), freeze_attrs(attrs))])
        found, want = dense_pattern(f, 0, {}), False
        whole = arrays[0].shape if name == "gather" else interpret(f, arrays)[0].shape
        at = len(whole) + attrs["axis"]
        spans = [range(s) for s in whole[at : at + len(arrays) - 1]]
        for place in itertools.product(*spans):  # everywhere that indices may point to
            other = {p.name: np.full(a.shape, i) for p, a, i in zip(params[1:], arrays[1:], place, strict=True)}
            want = want | dense_pattern(f, 0, {}, other)
        np.testing.assert_array_equal(found, want)


def test_flat_ops_are_the_declared_ones() -> None:
    x = sd.symbol("x", (4,))
    for name in ("sign", "floor", "ceil", "round", "trunc"):
        value = Builder(OPSET).handle(x.value).op(name).value
        assert not dense_pattern(Function.of([x.value], [value]), 0, {}).any(), name
    flat = [op for op in SAMPLED if isinstance(op.rule, Partials)]
    assert len(flat) > 40


# -------------------------------------------------------------------- exact patterns of plain structures
n = sd.dim("n")
X = sd.symbol("x", (n,))
BAND = np.eye(6, k=1) - 2 * np.eye(6) + np.eye(6, k=-1)
SIX = sd.symbol("x", (6,))
TRI6 = BAND != 0


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def brusselator(z: Any) -> Any:
    """1-D Brusselator, method of lines, z = [u, v]."""
    u, v = z[0], z[1]
    a = (u.shape[0] + 1) ** 2 / 50
    one = np.ones(1)
    left = np.concatenate([one, u, one])
    right = np.concatenate([3 * one, v, 3 * one])
    du = 1 + u**2 * v - 4 * u + a * (left[:-2] - 2 * u + left[2:])
    dv = 3 * u - u**2 * v + a * (right[:-2] - 2 * v + right[2:])
    return np.stack([du, dv])


def tridiagonal(k: int) -> Any:
    return np.abs(np.subtract.outer(np.arange(k), np.arange(k))) <= 1


MATRIX = sd.symbol("x", (3, 4))
EXACT: dict[str, tuple[Any, Any, Any]] = {
    "elementwise": (np.sin(SIX) * np.exp(SIX), SIX, np.eye(6)),
    "shift": (SIX[1:] * SIX[:-1], SIX, np.eye(5, 6) + np.eye(5, 6, k=1)),
    "reverse": (SIX[::-1], SIX, np.eye(6)[::-1]),
    "every other": (SIX[::2] ** 2, SIX, np.eye(6)[::2]),
    "cumsum": (np.cumsum(SIX), SIX, np.tri(6)),
    "constant": (np.sum(SIX) * 0 + np.ones(3), SIX, np.zeros((3, 6))),
    "banded matrix": (BAND @ np.tanh(SIX), SIX, BAND),
    "banded matrix from the right": (np.tanh(SIX) @ np.triu(BAND), SIX, np.triu(BAND).T),
    "sparse squared": (BAND @ (BAND @ SIX), SIX, BAND @ BAND),
    "triangle": (np.tril(np.outer(np.arange(1.0, 7), np.ones(6))) @ SIX, SIX, np.tri(6)),
    "diagonal of a product": (np.diag(np.outer(SIX, SIX)), SIX, np.eye(6)),
    "diagonal matrix": (np.diag(SIX) @ np.ones(6), SIX, np.eye(6)),
    "transpose": (MATRIX.T, MATRIX, np.eye(12).reshape(3, 4, 12).transpose(1, 0, 2).reshape(12, 12)),
    "row sums": (np.sum(MATRIX**2, axis=1), MATRIX, np.kron(np.eye(3), np.ones((1, 4)))),
    "column means": (np.mean(MATRIX, axis=0), MATRIX, np.kron(np.ones((1, 3)), np.eye(4))),
    "softmax of rows": (sd.softmax(MATRIX, axis=1), MATRIX, np.kron(np.eye(3), np.ones((4, 4)))),
    "matmul": (MATRIX @ sd.symbol("B", (4, 2)), MATRIX, np.kron(np.eye(3), np.ones((2, 4)))),
    "matmul from the left": (sd.symbol("B", (2, 3)) @ MATRIX, MATRIX, np.kron(np.ones((2, 3)), np.eye(4))),
    "gather": (SIX[np.array([4, 4, -1])], SIX, np.eye(6)[[4, 4, 5]]),
    "scatter": (sd.add_at(np.zeros(6) * SIX[0], np.array([0, 0, 3]), SIX[1:4]), SIX,
                np.array([[0, 1, 1, 0, 0, 0], *[[0] * 6] * 2, [0, 0, 0, 1, 0, 0], *[[0] * 6] * 2])),
    "condition on a constant": (np.where(np.arange(6) < 2, SIX, SIX[::-1]), SIX,
                                np.concatenate([np.eye(6)[:2], np.eye(6)[::-1][2:]])),
    "outer": (np.outer(SIX[:2], SIX[2:4]), SIX,
              [[1, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]]),
    "normalized": (SIX / np.sum(SIX), SIX, np.ones((6, 6))),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_exact_patterns(name: str) -> None:
    y, x, want = EXACT[name]
    np.testing.assert_array_equal(pattern_of(y, x), np.asarray(want) != 0)


def test_rosenbrock_is_tridiagonal_and_the_brusselator_block_tridiagonal() -> None:
    hessian = sd.sparse_hessian(rosenbrock(X), X)
    for size in (2, 3, 7, 40):
        np.testing.assert_array_equal(hessian.pattern({"n": size}).toarray(), tridiagonal(size))
    z = sd.symbol("z", (2, n))
    found = sd.sparse_jacobian(brusselator(z), z).pattern({"n": 9}).toarray()
    np.testing.assert_array_equal(found, np.block([[tridiagonal(9), np.eye(9)], [np.eye(9), tridiagonal(9)]]) != 0)


def test_large_patterns_stay_linear() -> None:
    """100,000 variables; products of sums, which are dense on the way, cost nothing where they are summed again."""
    size = 100_000
    spread = np.sum((X - np.mean(X)) ** 2)
    rows, columns = pattern(function_of([spread], [X]), 0, 0, {"n": size})
    assert not rows.any()
    np.testing.assert_array_equal(columns, np.arange(size))
    band = sd.sparse_hessian(rosenbrock(X), X).pattern({"n": size})
    assert band.nnz == 3 * size - 2
    with pytest.raises(ArgumentError, match="derivative is dense"):
        pattern(function_of([X / np.sum(X)], [X]), 0, 0, {"n": size})


def test_dead_sets_are_dropped_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    y = X
    for _ in range(12):
        y = np.concatenate([y[1:] * y[:-1], y[-1:]])
    f = function_of([y], [X])
    want = dense_pattern(f, 0, {"n": 30})
    np.testing.assert_array_equal(want, np.triu(np.ones((30, 30))) * (np.tri(30, k=12) != 0))
    compactions: list[int] = []
    compact = Pool.compact

    def counted(self: Pool, live: Any) -> Any:
        compactions.append(len(live))
        return compact(self, live)

    monkeypatch.setattr(Pool, "compact", counted)
    monkeypatch.setattr("symdiff.sparsity.structure._PILE", 10)
    np.testing.assert_array_equal(dense_pattern(f, 0, {"n": 30}), want)
    assert compactions


@given(st.integers(0, 2**32 - 1))
def test_pools_against_python_sets(number: int) -> None:
    rng = np.random.default_rng(number)
    width = int(rng.integers(1, 9))
    pool = Pool(width)
    numbers, truth = pool.singles(width, 0), [{i} for i in range(width)]

    def read(array: Any) -> list[set[int]]:
        indptr, columns = pool.rows(array.ravel())
        parts = [columns[a:b].tolist() for a, b in itertools.pairwise(indptr)]
        assert all(p == sorted(set(p)) for p in parts)
        return [set(p) for p in parts]

    for _ in range(6):
        kind = rng.integers(3)
        if kind == 0:
            a, b = rng.integers(0, len(numbers), (2, 5))
            numbers = pool.union(numbers[a], numbers[b])
            truth = [truth[i] | truth[j] for i, j in zip(a, b, strict=True)]
        elif kind == 1:
            groups = rng.integers(0, 4, len(numbers))
            sets = [set().union(*[t for t, g in zip(truth, groups, strict=True) if g == k]) for k in range(4)]
            numbers, truth = pool.merge(groups, numbers, 4), sets
        else:
            (numbers,) = pool.compact([numbers])
            more = pool.singles(width, 0)
            numbers, truth = np.concatenate([numbers, more, [0]]), [*truth, *[{i} for i in range(width)], set()]
        assert read(numbers) == truth


# -------------------------------------------------------------------- colouring
def csr(matrix: Any) -> tuple[Any, Any]:
    found = sparse.csr_array(np.asarray(matrix) != 0)
    return found.indptr, found.indices


@given(st.integers(0, 2**32 - 1))
def test_columns_of_one_colour_share_no_row(number: int) -> None:
    rng = np.random.default_rng(number)
    matrix = rng.random(rng.integers(0, 15, 2)) < rng.choice([0.05, 0.2, 0.6])
    found = colour_columns(*csr(matrix), matrix.shape[1])
    assert found is not None
    fullest = int(matrix.sum(axis=1).max(initial=0))
    assert max(fullest, bool(matrix.shape[1])) <= found.count <= matrix.shape[1]
    for colour in range(found.count):
        assert (found.colours == colour).any()
        assert np.all(matrix[:, found.colours == colour].sum(axis=1) <= 1)
    assert colour_columns(*csr(matrix), matrix.shape[1], stop_at=found.count) is None


@given(st.integers(0, 2**32 - 1))
def test_star_colourings_show_every_entry(number: int) -> None:
    rng = np.random.default_rng(number)
    size = int(rng.integers(1, 14))
    matrix = rng.random((size, size)) < rng.choice([0.05, 0.15, 0.4])
    matrix = matrix | matrix.T
    found = colour_star(*csr(matrix), size).colours
    matrix = matrix | np.eye(size, dtype=bool)
    for i, j in zip(*np.nonzero(matrix), strict=True):
        in_row = np.sum(matrix[i] & (found == found[j]))
        in_mirror = np.sum(matrix[j] & (found == found[i]))
        assert in_row == 1 or in_mirror == 1, (i, j)


def test_known_numbers_of_colours() -> None:
    arrow = np.eye(30)
    arrow[0] = arrow[:, 0] = 1
    band = tridiagonal(50)
    for matrix, columns, star in ((np.eye(9), 1, 1), (band, 3, 3), (arrow, 30, 2), (np.ones((5, 5)), 5, 5)):
        size = len(matrix)
        by_column = colour_columns(*csr(matrix), size)
        assert by_column is not None and by_column.count == columns
        assert colour_star(*csr(matrix), size).count == star
        by_star = colour_star(*csr(matrix[::-1, ::-1]), size)
        assert by_star.count == star, "whatever the order"


# -------------------------------------------------------------------- values
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


def _interpreted(f: Function, *arrays: Any) -> Any:
    results = interpret(f, arrays)
    return results if len(results) > 1 else results[0]


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
    for mode in ("forward", "reverse"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("symdiff.api.sparse.cheapest", lambda f: f)
            derivative = sd.sparse_jacobian(sd.Expr(y), xs, xs, mode)
        derivative._native[mode] = partial(_interpreted, derivative.seeded(mode))
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
    monkeypatch.setattr("symdiff.api.sparse.SEEDED", 13)
    for mode in ("forward", "reverse"):
        derivative = sd.sparse_jacobian(y, SIX, mode=mode)
        assert derivative.colours().count == 6
        check_values(derivative, want, x0)


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
    kept = np.array([0, 1, 1])
    first = derivative(x0, kept, kept[::-1].copy())
    kept[:] = 2  # the caller's array changes under the same name
    second = derivative(x0, kept, kept[::-1].copy())
    assert first.nnz == 3 + 2 and second.nnz == 3


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


def test_the_matrix_is_the_callers() -> None:
    hessian = sd.sparse_hessian(rosenbrock(X), X)
    x0 = RNG.normal(size=5)
    first = hessian(x0)
    want = first.toarray()
    first.data[:] = 0
    first.eliminate_zeros()
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
    (ArgumentError, "mode 'sideways': expected one of auto, forward, reverse",
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


def test_intermediate_patterns_are_refused_before_they_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsity_sets, "LIMIT", 1000)
    with pytest.raises(ArgumentError, match="at most 1000"):
        pattern(function_of([np.cumsum(X[1:] * X[:-1])], [X]), 0, 0, {"n": 100})


def test_array_constants_of_any_dtype_are_looked_at() -> None:
    builder = Builder(OPSET)
    x = builder.param("x", TensorType("f64", (3,)))
    where = builder.make(OPSET["array"], (), (("value", ArrayConstant(np.array([2, 0]))),))
    y = builder.make(OPSET["gather"], (x, where), (("axis", -1),))
    np.testing.assert_array_equal(dense_pattern(Function.of([x], [y]), 0, {}), np.eye(3)[[2, 0]] != 0)
