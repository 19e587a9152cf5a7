"""One derivative by every mode and in every format: the same entries in canonical order, at sizes that change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

n, m, e = sd.dims("n m e")
X, U, P = sd.symbol("x", (n,)), sd.symbol("u", (n,)), sd.symbol("P", (n, 3))
I, J, FLAG = sd.symbol("i", (e,), "i64"), sd.symbol("j", (e,), "i64"), sd.symbol("b", (n,), "bool")

CASES: dict[str, tuple[Any, Any, Any, bool]] = {
    "mesh": (np.sum(np.sqrt(np.sum((P[I] - P[J]) ** 2, axis=1) + 1)), [P], [P, I, J], True),
    "two variables": (np.sum(X**2 * U) + np.sum(np.sin(U[1:] * X[:-1])), [X, U], [X, U], True),
    "windows and masks": (np.concatenate([np.where(FLAG, X * U, np.roll(X, 1)), X[::2] ** 2 * X[0], 0 * X[:1]]), [X],
                          [X, U, FLAG], False),
    "gathered": (sd.add_at(0 * X, I, np.sin(X[J]) * X[I]) * X, [X], [X, I, J], False),
}  # fmt: skip


def arguments(inputs: Any, size: int, count: int) -> list[Any]:
    rng = np.random.default_rng(size)
    found: list[Any] = []
    for p in inputs:
        shape = {"P": (size, 3), "i": (count,), "j": (count,)}.get(p.value.name, (size,))
        kind = p.value.type.dtype
        found.append(rng.normal(size=shape) if kind == "f64" else rng.integers(-size, size, shape) if kind == "i64"
                     else rng.random(shape) < 0.5)  # fmt: skip
    return found


@pytest.mark.parametrize("name", CASES)
def test_modes_and_formats_agree(name: str) -> None:
    y, xs, inputs, second = CASES[name]
    make = sd.sparse_hessian if second else sd.sparse_jacobian
    derivatives: dict[str, Any] = {"auto": make(y, xs, inputs), "coloured": make(y, xs, inputs, mode="coloured")}
    for kind in ("csc", "bsr"):
        block = (1, 1) if kind == "bsr" else None
        derivatives[kind] = make(y, xs, inputs, format=kind, blocksize=block)
    found = (sd.hessian if second else sd.jacobian)(y, xs)
    dense = sd.compile([d for row in found for d in row] if second and len(xs) > 1 else found, inputs)
    for size, count in ((6, 7), (9, 2), (2, 0), (1, 3), (6, 7)):
        arrays = arguments(inputs, size, count)
        widths = [a.size for a in arrays[: len(xs)]]
        blocks = list(dense(*arrays))
        if second:
            grid = np.reshape(np.arange(len(blocks)), (len(xs), len(xs)))
            want = np.block([[blocks[at].reshape(widths[r], w) for at, w in zip(row, widths, strict=True)]
                             for r, row in enumerate(grid)])  # fmt: skip
        else:
            high = int(np.prod(blocks[0].shape[: y.ndim]))
            want = np.concatenate([d.reshape(high, w) for d, w in zip(blocks, widths, strict=True)], axis=1)
        kept: Any = None
        for derivative in derivatives.values():
            matrix = derivative(*arrays)
            np.testing.assert_allclose(matrix.toarray(), want, rtol=1e-10, atol=1e-12)
            # scipy looks anew: rows sorted, nothing twice.
            again = type(matrix)((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
            assert again.has_sorted_indices and again.has_canonical_format
            rows = matrix.tocsr()
            rows.sort_indices()
            places = rows.indptr.tolist(), rows.indices.tolist()
            kept = kept or places
            assert places == kept
