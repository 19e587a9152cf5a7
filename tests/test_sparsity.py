"""Patterns hold every non-zero, and no more where structure is plain; colourings show every entry."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import jacobian, run
from scipy import sparse
from strategies import Program, examples, programs
from structures import EXACT, X, brusselator, n, rosenbrock, tridiagonal

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.diff import jacobians
from symdiff.errors import ArgumentError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.graph import ArrayConstant, Function
from symdiff.ir.op import Op, Partials
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.sparsity import Bicolouring, colour_both, colour_columns, colour_star, pattern
from symdiff.sparsity import sets as sparsity_sets
from symdiff.sparsity.orderings import incidence_degree, smallest_last
from symdiff.sparsity.sets import Pool

DTYPES = {"f": "f64", "i": "i64", "b": "bool"}


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


def test_a_union_that_is_one_of_its_members_makes_no_set() -> None:
    pool = Pool(5)
    single = pool.singles(5, 0)
    pairs = pool.union(single[:4], single[1:])
    filled = pool.filled
    np.testing.assert_array_equal(pool.union(pairs, single[:4]), pairs)
    np.testing.assert_array_equal(pool.merge(np.array([0, 0, 0]), np.append(single[:2], pairs[0]), 1), pairs[:1])
    assert pool.filled == filled


@given(st.integers(0, 2**32 - 1))
def test_pools_against_python_sets(number: int) -> None:
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 9))
    width = count * int(rng.choice([1, 1, 40]))  # few columns are counted, many sorted
    pool = Pool(width)
    start = int(rng.integers(0, width - count + 1))
    numbers, truth = pool.singles(count, start), [{start + i} for i in range(count)]

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
            start = int(rng.integers(0, width - count + 1))
            more = pool.singles(count, start)
            numbers, truth = np.concatenate([numbers, more, [0]]), [*truth, *[{start + i} for i in range(count)], set()]
        assert read(numbers) == truth


def test_a_band_is_one_run_however_wide_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over the steps of the widths would be 440 times n here, and half of n squared for the running sum."""
    stored: list[int] = []
    append = Pool._append  # pyright: ignore[reportPrivateUsage]

    def counted(self: Pool, firsts: Any, *rest: Any) -> Any:
        stored.append(len(firsts))
        return append(self, firsts, *rest)

    monkeypatch.setattr(Pool, "_append", counted)
    size = 3000
    band = sd.scan(lambda s, _: (s * s + np.roll(s, 1) - np.roll(s, -1), None), X, sd.zeros(20))[0]
    rows, columns = pattern(function_of([band], [X]), 0, 0, {"n": size})
    assert len(rows) == 41 * size and np.all(np.abs((columns - rows + 1500) % size - 1500) <= 20)
    assert sum(stored) < 100 * size
    stored.clear()
    rows, columns = pattern(function_of([np.cumsum(X * X)], [X]), 0, 0, {"n": size})
    np.testing.assert_array_equal(rows, np.tril_indices(size)[0])
    np.testing.assert_array_equal(columns, np.tril_indices(size)[1])
    assert sum(stored) < 20 * size


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


@given(st.integers(0, 2**32 - 1))
def test_orders_take_vertices_by_their_definitions(number: int) -> None:
    rng = np.random.default_rng(number)
    size = int(rng.integers(0, 14))
    matrix = np.triu(rng.random((size, size)) < rng.choice([0.1, 0.3, 0.7]), 1)
    matrix = matrix | matrix.T
    last, incidence = smallest_last(*csr(matrix)), incidence_degree(*csr(matrix))
    assert sorted(last) == sorted(incidence) == list(range(size))
    for at in range(size):
        among = matrix[np.ix_(last[: at + 1], last[: at + 1])].sum(axis=1)
        assert among[at] == among.min(), "the last of those in front has fewest neighbours there"
        before = matrix[np.ix_(incidence[at:], incidence[:at])].sum(axis=1)
        assert before[0] == before.max(), "the next has most neighbours in front"


def test_other_orders_save_colours() -> None:
    """A crown taken pair by pair needs a colour for each pair, smallest last two for all."""
    pairs = 6
    edges = [(2 * i, 2 * j + 1) for i in range(pairs) for j in range(pairs) if i != j]
    matrix = np.zeros((len(edges), 2 * pairs), dtype=bool)  # a row per edge: its columns must differ
    for row, edge in enumerate(edges):
        matrix[row, list(edge)] = True
    found = colour_columns(*csr(matrix), 2 * pairs)
    assert found is not None and found.count == 2


# -------------------------------------------------------------------- bicolouring
def check_shown(matrix: Any, found: Bicolouring) -> None:
    """Sweeps with random values give every entry back, read in the group that has it."""
    values = np.where(matrix, np.random.default_rng(0).normal(size=matrix.shape), 0.0)
    into = (found.columns.colours == np.arange(found.columns.count)[:, None]).astype(float)
    out = (found.rows.colours == np.arange(found.rows.count)[:, None]).astype(float)
    assert np.all(into.sum(axis=1) > 0) and np.all(out.sum(axis=1) > 0), "no group is empty"
    pushed, pulled = values @ into.T, out @ values
    for i, j, by_column in zip(*np.nonzero(matrix), found.by_column, strict=True):
        group = found.columns.colours[j] if by_column else found.rows.colours[i]
        assert group >= 0
        assert (pushed[i, group] if by_column else pulled[group, j]) == values[i, j], (i, j)


@given(st.integers(0, 2**32 - 1))
def test_bicolourings_show_every_entry(number: int) -> None:
    rng = np.random.default_rng(number)
    matrix = rng.random(rng.integers(0, 15, 2)) < rng.choice([0.05, 0.2, 0.6])
    if matrix.size and rng.random() < 0.5:
        matrix[rng.integers(matrix.shape[0])] = matrix[:, rng.integers(matrix.shape[1])] = True
    found = colour_both(*csr(matrix), matrix.shape[1], sum(matrix.shape) + 1)
    assert found is not None
    check_shown(matrix, found)
    assert colour_both(*csr(matrix), matrix.shape[1], found.count) is None


@pytest.mark.parametrize("dense", [1, 2, 4])
def test_arrowheads_need_few_groups_of_both(dense: int) -> None:
    size = 40
    arrow = np.eye(size, dtype=bool)
    arrow[:dense] = arrow[:, :dense] = True
    for matrix in (arrow, arrow[::-1, ::-1], arrow[np.random.default_rng(1).permutation(size)]):
        found = colour_both(*csr(matrix), size, size)
        assert found is not None and found.count == 2 * dense + 1
        check_shown(matrix, found)


def test_bands_and_full_matrices_are_no_matter_for_both() -> None:
    for matrix, one_sided in ((tridiagonal(50), 3), (np.ones((6, 4)), 4), (np.ones((4, 6)), 4)):
        assert colour_both(*csr(matrix), matrix.shape[1], one_sided) is None


def test_big_patterns_are_coloured_both_ways_where_a_quarter_may_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symdiff.sparsity.bicolouring.EFFORT", 10)
    arrow = np.eye(20, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    assert colour_both(*csr(arrow), 20, 15) is None
    found = colour_both(*csr(arrow), 20, 16)
    assert found is not None and found.count == 3
