"""Acyclic colourings have no two-coloured cycle, and substitution finds every entry of a Hessian."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from strategies import examples

import symdiff as sd
from symdiff.errors import ArgumentError, ShapeError
from symdiff.sparsity import colour_acyclic, colour_star, substitution
from symdiff.sparsity.acyclic import least_acyclic

RNG = np.random.default_rng(31)


def symmetric(number: int, largest: int) -> Any:
    rng = np.random.default_rng(number)
    size = int(rng.integers(0, largest))
    matrix = np.where(rng.random((size, size)) < rng.choice([0.02, 0.1, 0.3, 0.7]), rng.normal(size=(size, size)), 0.0)
    return matrix + matrix.T


def rows_of(matrix: Any) -> Any:
    found = sparse.csr_array(matrix)
    found.sort_indices()
    return found


def cyclic(matrix: Any, colours: Any, pair: tuple[int, int]) -> bool:
    """Whether the vertices of two colours span a cycle: taking away those with one neighbour or none leaves some."""
    left = [v for v in range(len(matrix)) if colours[v] in pair]
    while True:
        kept = [v for v in left if sum(matrix[v, w] != 0 for w in left if w != v) > 1]
        if kept == left:
            return bool(left)
        left = kept


@given(st.integers(0, 2**32 - 1))
def test_neighbours_differ_and_no_cycle_has_two_colours(number: int) -> None:
    matrix = symmetric(number, 18)
    own = rows_of(matrix)
    found = colour_acyclic(own.indptr, own.indices, len(matrix))
    assert found is not None and found.kind == "acyclic"
    for v, w in itertools.combinations(range(len(matrix)), 2):
        assert matrix[v, w] == 0 or found.colours[v] != found.colours[w]
    assert set(found.colours) == set(range(found.count))
    for pair in itertools.combinations(range(found.count), 2):
        assert not cyclic(matrix, found.colours, pair)
    edges = np.count_nonzero(np.triu(matrix, 1))
    assert least_acyclic(len(matrix), int(edges)) <= found.count
    assert colour_acyclic(own.indptr, own.indices, len(matrix), stop_at=found.count) is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("largest", [18, 150])
@examples(40)
@given(number=st.integers(0, 2**32 - 1))
def test_substitution_finds_every_entry(number: int, largest: int, dtype: Any) -> None:
    own = rows_of(symmetric(number, largest).astype(dtype))
    size = own.shape[0]
    found = colour_acyclic(own.indptr, own.indices, size)
    assert found is not None
    lines = np.repeat(np.arange(size), np.diff(own.indptr))
    plan = substitution(lines, own.indices, found, dtype)
    seeds = (found.colours == np.arange(found.count)[:, None]).astype(dtype)
    swept = (own @ seeds.T).T.ravel()
    got = plan.entries(swept.take(plan.picked))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, own.data, rtol=0, atol=1e4 * np.finfo(dtype).eps)


def path(size: int) -> Any:
    """Ones on three diagonals."""
    beside = sparse.eye_array(size, k=1) + sparse.eye_array(size, k=-1)
    return rows_of(beside + sparse.eye_array(size))


def grid(size: int) -> Any:
    return rows_of(sparse.kron(path(size), sparse.eye_array(size)) + sparse.kron(sparse.eye_array(size), path(size)))


def test_known_numbers_of_colours() -> None:
    """Trees, bands and grids need fewer than stars do; complete graphs as many as vertices."""
    arrow = np.eye(30)
    arrow[0] = arrow[:, 0] = 1
    band = np.abs(np.subtract.outer(np.arange(50), np.arange(50))) <= 1
    wide = np.abs(np.subtract.outer(np.arange(50), np.arange(50))) <= 3
    cases = ((np.eye(9), 1, 1), (band, 2, 3), (arrow, 2, 2), (wide, 4, 7), (np.ones((5, 5)), 5, 5))
    for matrix, acyclic, star in cases:
        own = rows_of(matrix)
        found = colour_acyclic(own.indptr, own.indices, len(matrix))
        assert found is not None and found.count == acyclic
        assert colour_star(own.indptr, own.indices, len(matrix)).count == star
    own = grid(20)
    found = colour_acyclic(own.indptr, own.indices, 400)
    assert found is not None and found.count < colour_star(own.indptr, own.indices, 400).count


def test_long_trees_take_one_solve() -> None:
    """A path is one tree, whatever its length; the plan and the solve do not walk it entry by entry."""
    size = 200_000
    own = rows_of(path(size) + 3 * sparse.eye_array(size))
    found = colour_acyclic(own.indptr, own.indices, size)
    assert found is not None and found.count == 2
    lines = np.repeat(np.arange(size), np.diff(own.indptr))
    plan = substitution(lines, own.indices, found, np.float64)
    swept = np.stack([own @ (found.colours == c).astype(float) for c in range(2)]).ravel()
    np.testing.assert_array_equal(plan.entries(swept.take(plan.picked)), own.data)


# -------------------------------------------------------------------- Hessians
def coupled(x: Any, i: Any, j: Any) -> Any:
    return np.sum(np.exp(np.sin(x[i] * x[j]))) + np.sum(x**4)


@pytest.mark.parametrize(("format", "dtype"), [("csr", "f32"), ("csr", "f64"), ("csc", "f64"), ("bsr", "f64")])
def test_hessians_by_star_and_acyclic_colouring(format: str, dtype: str) -> None:
    n, e = sd.dims("n e")
    x, i, j = sd.symbol("x", (n,), dtype), sd.symbol("i", (e,), "i64"), sd.symbol("j", (e,), "i64")
    f = coupled(x, i, j)
    dense = sd.compile(sd.hessian(f, x), [x, i, j])
    block = (1, 1) if format == "bsr" else None
    counts: dict[str, list[int]] = {}
    for mode in ("star", "acyclic", "coloured"):
        hessian = sd.sparse_hessian(f, x, [x, i, j], mode=mode, format=format, blocksize=block)
        for size in (12, 40):
            rng = np.random.default_rng(size)
            at = rng.normal(size=size).astype("f4" if dtype == "f32" else "f8")
            own = rng.integers(0, size, (2, 2 * size))
            found, want = hessian(at, *own), dense(at, *own)
            assert found.dtype == at.dtype
            tolerance = 1e-12 if dtype == "f64" else 1e-3
            np.testing.assert_allclose(found.toarray(), want, atol=tolerance * np.abs(want).max())
            assert found.nnz == np.count_nonzero(want)
            known = {"i": own[0], "j": own[1]}
            counts.setdefault(mode, []).append(hessian.colours({"n": size, "e": 2 * size}, known).count)
            assert hessian.method({"n": size, "e": 2 * size}, known) == "forward"
    assert all(a < s for a, s in zip(counts["acyclic"], counts["star"], strict=True))


def test_the_cheaper_of_both_is_taken_and_both_stand_in_the_bill() -> None:
    """Few sweeps more are cheaper than solving for every entry; many are not."""
    size = 200
    i, j = RNG.integers(0, size, (2, 3 * size))
    x = sd.symbol("x", (size,))
    f = coupled(x, i, j)
    bill = sd.compare(f, x, order=2, modes=["reverse", "coloured"], measure=True, seconds=0.05)
    (found,) = bill.coloured
    assert found is not None and found.other is not None
    kinds = {found.kind: found, found.other.kind: found.other}
    assert set(kinds) == {"star", "acyclic"} and kinds["acyclic"].colours < kinds["star"].colours
    assert all(c.timing is not None and c.seconds is not None for c in kinds.values())
    text = bill.table()
    assert "sweeps at once of a star colouring, predicted" in text
    assert "sweeps at once of an acyclic colouring and substitution, predicted" in text
    assert json.loads(bill.json())["at"][0]["coloured"]["other"]["kind"] in kinds

    chosen = sd.sparse_hessian(f, x, mode="coloured").colours().kind
    assert chosen == found.kind
    k = sd.symbol("k", (4000,))
    heavy = np.sum(sd.lgamma(2 + np.sin(np.outer(x[i] * x[j], k)))) + np.sum(x**4)
    assert sd.sparse_hessian(heavy, x, [x, k], mode="coloured").colours().kind == "acyclic"
    with pytest.raises(ShapeError, match="order=2 of a function of shape"):
        sd.compare(x**2, x, order=2)
    with pytest.raises(ArgumentError, match=r"order 3, expected 1 \(the Jacobian\) or 2"):
        sd.compare(f, x, order=3)
