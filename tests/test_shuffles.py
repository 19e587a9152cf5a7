"""Records taken apart and put together in registers: the permutations, and programs on rows of a few elements."""

import re

import numpy as np
import pytest
from test_portable import MACHINES, on

import symdiff as sd
from codegen.kernels import shuffles
from codegen.llvm.text import Lines, Module


def executed(lines, values):
    """The vectors that every name of an emitted text stands for."""
    known = dict(values)
    for line in lines:
        name, a, b, places = re.search(r"(\S+) = shufflevector <.*?> (\S+), <.*?> (\S+), <.*?> <(.*)>", line).groups()
        both = np.concatenate([known[a], known[b]])
        known[name] = both[[int(p.split()[1]) for p in places.split(",")]]
    return known


@pytest.mark.parametrize("width", [2, 4, 8, 16])
@pytest.mark.parametrize("count", [2, 3, 4, 8, 16])
def test_records_are_put_together_and_taken_apart(count, width):
    if not shuffles.can_interleave(count, width):
        assert count > width
        return
    flat = np.arange(count * width).reshape(width, count)
    rows = {f"%r{k}": row for k, row in enumerate(flat.reshape(count, width))}
    columns = {f"%c{j}": flat[:, j] for j in range(count)}
    for make, given, expected in (
        (shuffles.interleaved, columns, rows), (shuffles.separated, rows, columns),
    ):  # fmt: skip
        lines = Lines(Module(32, True))
        names = make(lines, list(given), f"<{width} x double>", width)
        known = executed(lines.lines, given)
        for name, wanted in zip(names, expected.values(), strict=True):
            assert list(known[name]) == list(wanted), (make.__name__, count, width)


@pytest.mark.parametrize("machine", list(MACHINES))
@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_of_a_few_elements(machine, count, dtype, monkeypatch):
    """Every element of a row from three others: rows are read and written as records, whole registers and the rest."""
    on(monkeypatch, machine)
    x = sd.symbol("x", (sd.dim("n"), count), dtype=dtype)
    columns = [x[:, j] for j in range(count)]
    mixed = [columns[j] * columns[(j + 1) % count] - columns[(j + 2) % count] for j in range(count)]
    fn = sd.compile(np.stack(mixed, axis=1), [x])
    for n in (1, 7, 16, 45):
        values = np.random.default_rng(n).uniform(-1, 1, (n, count)).astype(dtype)
        expected = values * np.roll(values, -1, 1) - np.roll(values, -2, 1)
        np.testing.assert_allclose(fn(values), expected, rtol=1e-6 if dtype == "float32" else 1e-15, atol=1e-7)


@pytest.mark.parametrize("register_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_one_column_of_short_rows(register_bytes, dtype, rng, monkeypatch):
    """Where a row is short, all of it is read and one column kept; nothing behind the last row is."""
    monkeypatch.setattr("codegen.compiled._machine", lambda: (register_bytes, True))
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    for length, column in ((2, 0), (2, 1), (3, 1), (4, 3), (5, 2), (8, 7)):
        x = sd.symbol("x", (sd.dim("n"), length), dtype=dtype)
        fn = sd.compile([np.sum(x[:, column]), 2 * x[1:, column], np.exp(x[:, column])], [x])
        for n in (1, 7, 33, 100):
            values = rng.normal(size=(n, length)).astype(kind)
            own = values[:, column]
            expected = np.sum(own), 2 * own[1:], np.exp(own)
            for got, one in zip(fn(values), expected, strict=True):
                np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-5)
        if register_bytes == 64 and length <= 4:
            assert "insertelement <32 x" not in fn.llvm
