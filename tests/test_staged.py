"""Many rows of results: whichever way they reach memory, they are all there, and nothing beside them is touched."""

import numpy as np
import pytest
from test_portable import on

import symdiff as sd

ROWS = 12
PAGE = 4096


def rows_of(x, y):
    """Rows without any rounding that a processor could leave out."""
    return [np.maximum(x, k * y) if k % 3 else x - 4 * k for k in (2.0**p for p in range(ROWS))]


def program(dtype="f64", threads=1):
    n = sd.dim("n")
    x, y = (sd.symbol(name, (n,), dtype=dtype) for name in ("x", "y"))
    return sd.compile(np.stack(rows_of(x, y)), (x, y), threads=threads)


def data(rng, n, dtype):
    return tuple(rng.normal(size=(2, n)).astype(dtype))


def expected(x, y):
    return np.stack([np.maximum(x, x.dtype.type(k) * y) if k % 3 else x - x.dtype.type(4 * k)
                     for k in (2.0**p for p in range(ROWS))])  # fmt: skip


def into(fn, values, shift):
    """The result in the middle of other memory, at a distance from the beginning of a line; the memory beside it."""
    n, dtype = len(values[0]), values[0].dtype
    memory = np.full(ROWS * n + 64, 7, dtype)
    start = (-memory.ctypes.data % 64) // dtype.itemsize + shift
    fn(*values, out=memory[start : start + ROWS * n].reshape(ROWS, n))
    return memory[start : start + ROWS * n].reshape(ROWS, n), np.delete(memory, np.s_[start : start + ROWS * n])


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("n", [0, 1, 33, 1000, 1024, 2048, 2056, 16384, 20480])
def test_rows_at_any_distance(rng, n, dtype):
    values = data(rng, n, "f8" if dtype == "f64" else "f4")
    fn = program(dtype)
    for shift in (0, 1, 5):
        found, beside = into(fn, values, shift)
        np.testing.assert_array_equal(found, expected(*values))
        assert (beside == 7).all()


def test_rows_larger_than_the_caches(rng):
    values = data(rng, 400_003, "f8")
    for threads in (1, 2):
        found, beside = into(program(threads=threads), values, 3)
        np.testing.assert_array_equal(found, expected(*values))
        assert (beside == 7).all()


@pytest.mark.parametrize("machine", ["sse2", "avx2", "wide"])
def test_rows_on_other_processors(rng, monkeypatch, machine):
    on(monkeypatch, machine)
    fn = program()
    for n in (2048, 16384, 360_000):
        values = data(rng, n, "f8")
        np.testing.assert_array_equal(fn(*values), expected(*values))


def test_arrays_that_all_begin_with_a_page(rng):
    n = sd.dim("n")
    x, y = sd.symbol("x", (n,)), sd.symbol("y", (n,))
    fn = sd.compile([*rows_of(x, y), x > y], (x, y))
    for size in (1000, 3000, 20_000):
        values = data(rng, size, "f8")
        each = -(-size * 8 // PAGE) * PAGE
        memory = np.zeros((ROWS + 2) * each, "u1")
        start = -memory.ctypes.data % PAGE
        places = [memory[start + k * each :][: 8 * size].view("f8") for k in range(ROWS)]
        places.append(memory[start + ROWS * each :][:size].view("?"))
        fn(*values, out=tuple(places))
        np.testing.assert_array_equal(np.stack(places[:-1]), expected(*values))
        np.testing.assert_array_equal(places[-1], values[0] > values[1])


@pytest.mark.parametrize("floats", [12, 62])
def test_rows_of_several_types(rng, floats):
    """Where blocks are short, a row of bytes that begins a line late has more elements in front than a block."""
    n = sd.dim("n")
    x, k = sd.symbol("x", (n,)), sd.symbol("k", (n,), dtype="i64")
    fn = sd.compile([x > k, k + 1, *[np.maximum(x, 2.0**-p) for p in range(floats)]], (x, k))
    values, numbers = rng.normal(size=3000), rng.integers(-2, 3, size=3000)
    each = -(-8 * len(values) // PAGE) * PAGE
    memory = np.zeros((floats + 3) * each, "u1")
    start = -memory.ctypes.data % PAGE
    for shift in (0, 1, 16, 63):
        places = [memory[start + shift :][: len(values)].view("?")]
        for row in range(1, floats + 2):
            places.append(memory[start + row * each :][: 8 * len(values)].view("i8" if row == 1 else "f8"))
        fn(values, numbers, out=tuple(places))
        np.testing.assert_array_equal(places[0], values > numbers)
        np.testing.assert_array_equal(places[1], numbers + 1)
        np.testing.assert_array_equal(np.stack(places[2:]), [np.maximum(values, 2.0**-p) for p in range(floats)])


def test_long_bodies(rng):
    n = sd.dim("n")
    x, y = sd.symbol("x", (n,)), sd.symbol("y", (n,))
    made = []
    for row in rows_of(x, y):
        for k in range(30):
            row = np.exp(-abs(row)) + k
        made.append(row)
    fn = sd.compile(np.stack(made), (x, y))
    values = data(rng, 2048, "f8")
    want = expected(*values)
    for k in range(30):
        want = np.exp(-abs(want)) + k
    np.testing.assert_allclose(fn(*values), want, rtol=1e-13)


def test_few_rows_and_small_ones_are_written_where_they_belong():
    n = sd.dim("n")
    x, y = sd.symbol("x", (n,)), sd.symbol("y", (n,))
    assert "@sd.move.8(" in program().llvm
    assert "@sd.move." not in sd.compile(np.stack(rows_of(x, y)[:4]), (x, y)).llvm
    a, b = sd.symbol("a", (100,)), sd.symbol("b", (100,))
    assert "@sd.move." not in sd.compile(np.stack(rows_of(a, b)), (a, b)).llvm


def test_arrays_whose_elements_lie_across_lines(rng):
    n = 20_480
    values = data(rng, n, "f8")
    memory = np.zeros(ROWS * n * 8 + 4, "u1")
    out = memory[4:].view("f8").reshape(ROWS, n)
    assert not out.flags.aligned
    program()(*values, out=out)
    np.testing.assert_array_equal(out, expected(*values))
