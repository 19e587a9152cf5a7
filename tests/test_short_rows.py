"""Folds of short rows and narrow columns: the order that is promised, bit by bit, and every number of what is left."""

import math
import subprocess
import sys

import numpy as np
import pytest
from test_portable import on

import symdiff as sd

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 20, 31, 32, 33, 50, 63, 64, 65, 100)
ROWS = 19  # as many as registers have lanes are taken at a time, and some are left


def by_halves(x, fold, identity, parts):
    """What rows fold to, as the order is promised; written in NumPy from the promise alone."""
    partial = np.full((len(x), parts), identity, x.dtype)
    for k in range(x.shape[1]):
        partial[:, k % parts] = fold(partial[:, k % parts], x[:, k])
    while partial.shape[1] > 1:
        half = partial.shape[1] // 2
        partial = fold(partial[:, :half], partial[:, half:])
    return partial[:, 0]


def rows(rng, length, dtype):
    x = (rng.normal(size=(ROWS, length)) * 10.0 ** rng.integers(-3, 4, size=(ROWS, length))).astype(dtype)
    if length > 2:
        x[1, 1], x[2, 2], x[3, :] = np.inf, np.nan, -0.0
    return x


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_sums_of_rows_have_the_promised_order(rng, dtype):
    m, n = sd.dims("m n")
    x = sd.symbol("x", (m, n), dtype=dtype)
    fn = sd.compile(np.sum(x, axis=1), [x])
    for length in LENGTHS:
        values = rows(rng, length, "f8" if dtype == "f64" else "f4")
        np.testing.assert_array_equal(fn(values), by_halves(values, np.add, 0.0, 16))


def test_sums_of_rows_of_fixed_length(rng):
    m = sd.dim("m")
    for length in (1, 2, 3, 6, 12, 20, 31, 33, 40):
        x = sd.symbol("x", (m, length))
        values = rng.normal(size=(ROWS, length))
        exact = [math.fsum(row) for row in values]
        np.testing.assert_allclose(sd.compile(np.sum(x, axis=1), [x])(values), exact, rtol=1e-14, atol=1e-14)


def test_the_largest_of_short_rows(rng):
    m, n = sd.dims("m n")
    x = sd.symbol("x", (m, n))
    fn = sd.compile([np.max(x, axis=1), np.min(x, axis=1)], [x])
    for length in LENGTHS[1:]:
        values = rows(rng, length, "f8")
        for got, expected in zip(fn(values), (np.max(values, axis=1), np.min(values, axis=1)), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_rows_that_do_not_begin_at_zero_and_strided_rows(rng):
    m, n = sd.dims("m n")
    x, w = sd.symbol("x", (m, n)), sd.symbol("w", (n,))
    fn = sd.compile([x[:, 1:] @ w[1:], x[:, ::2] @ w[::2]], [x, w])
    for length in LENGTHS[2:]:
        values, weights = rng.normal(size=(ROWS, length)), rng.normal(size=length)
        got = fn(values, weights)
        np.testing.assert_allclose(got[0], values[:, 1:] @ weights[1:], rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(got[1], values[:, ::2] @ weights[::2], rtol=1e-13, atol=1e-13)


def test_rows_among_other_work(rng):
    m, n = sd.dims("m n")
    x, w, y = sd.symbol("x", (m, n)), sd.symbol("w", (n,)), sd.symbol("y", (m,))
    fn = sd.compile([y * (x @ w) + 3, np.exp(-np.sum((x - w) ** 2, axis=1)), np.sum(w**2) + 0 * (x @ w)], [x, w, y])
    for length in LENGTHS:
        values, weights, scales = (rng.normal(size=shape) for shape in ((ROWS, length), length, ROWS))
        first, second, third = fn(values, weights, scales)
        np.testing.assert_allclose(first, scales * (values @ weights) + 3, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(second, np.exp(-np.sum((values - weights) ** 2, axis=1)), rtol=1e-12)
        np.testing.assert_allclose(third, np.full(ROWS, np.sum(weights**2)), rtol=1e-13)


@pytest.mark.parametrize("machine", ["sse2", "avx2", "wide"])
def test_rows_on_other_processors(rng, monkeypatch, machine):
    on(monkeypatch, machine)
    m, n = sd.dims("m n")
    x = sd.symbol("x", (m, n))
    fn = sd.compile(np.sum(x, axis=1), [x])
    for length in LENGTHS:
        values = rows(rng, length, "f8")
        np.testing.assert_array_equal(fn(values), by_halves(values, np.add, 0.0, 16))


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("machine", ["sse2", "avx2", "wide"])
def test_partial_sums_of_rows_are_never_in_memory(rng, monkeypatch, machine, dtype):
    on(monkeypatch, machine)
    m, n = sd.dims("m n")
    x, w = sd.symbol("x", (m, n), dtype=dtype), sd.symbol("w", (n,), dtype=dtype)
    fn = sd.compile(x @ w, [x, w])
    assert "alloca <" not in fn.llvm
    for length in (5, 16, 33, 70, 600):
        shapes = ((ROWS, length), length)
        values, weights = (rng.normal(size=shape).astype(f"f{int(dtype[1:]) // 8}") for shape in shapes)
        np.testing.assert_allclose(fn(values, weights), values @ weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_a_row_has_the_bits_that_it_has_alone(rng, dtype):
    m, n = sd.dims("m n")
    x, w, y = sd.symbol("x", (m, n), dtype=dtype), sd.symbol("w", (n,), dtype=dtype), sd.symbol("y", (m,), dtype=dtype)
    fn = sd.compile([x @ w, y * np.sum((x - w) ** 2, axis=1) + y, x @ w + np.sum(x * y[:, None], axis=1),
                     np.sum(abs(x + w * w), axis=1), np.max(x - 3 * w, axis=1, initial=-9.0)], [x, w, y])  # fmt: skip
    for length in (*LENGTHS, 511, 512, 513, 1100):
        shapes = ((ROWS, length), length, ROWS)
        values, weights, scales = (rng.normal(size=shape).astype(f"f{int(dtype[1:]) // 8}") for shape in shapes)
        together = fn(values, weights, scales)
        for row in range(ROWS):
            alone = fn(values[row : row + 1], weights, scales[row : row + 1])
            for one, all_ in zip(alone, together, strict=True):
                assert one[0] == all_[row], (length, row)
        np.testing.assert_allclose(together[0], values @ weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("columns", [1, 3, 4, 16, 20, 33, 50])
def test_columns_folded_over_any_number_of_rows(rng, columns):
    m, n = sd.dims("m n")
    x, w = sd.symbol("x", (m, n)), sd.symbol("w", (m,))
    fn = sd.compile([np.sum(x, axis=0), x.T @ w, np.max(x, axis=0)], [x, w])
    for rows_of in (1, 2, 3, 31, 32, 33, 34, 127, 128, 129, 161, 300):
        values, weights = rng.normal(size=(rows_of, columns)), rng.normal(size=rows_of)
        total, product, largest = fn(values, weights)
        size = np.sum(np.abs(values), axis=0)
        exact = np.array([math.fsum(column) for column in values.T])
        assert np.all(np.abs(total - exact) <= 8 * np.spacing(size))
        np.testing.assert_allclose(product, values.T @ weights, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(largest, np.max(values, axis=0))


BETWEEN_PAGES = """
import ctypes, mmap
import numpy as np
import symdiff as sd
from codegen import compiled
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 6 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for forbidden in (start, start + 5 * page):
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(forbidden), page, 0) == 0
inner = np.frombuffer(memory, np.uint8, 4 * page, page)
x = sd.symbol("x", (sd.dim("n"), 6))
for register_bytes in (16, 32, 64):
    compiled._machine = lambda: (register_bytes, True)
    fn = sd.compile([np.sum(x * x[:, 4:5], axis=0), x[:, 4] @ x[:, 1:]], [x])
    for n in (0, 1, 2, 3, 5, 9, 17, 26, 33, 100):
        for own in (inner[len(inner) - 48 * n :], inner[: 48 * n]):
            values = own.view(np.float64).reshape(n, 6)
            values[...] = np.arange(6 * n).reshape(n, 6)
            one, other = fn(values)
            assert np.array_equal(one, values[:, 4] @ values) and np.array_equal(other, one[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect here")
def test_folds_of_columns_read_nothing_beside_their_rows():
    """Rows are read by lanes that do not count too, of a register none of whose lanes may count."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BETWEEN_PAGES], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-500:]
