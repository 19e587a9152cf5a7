"""Elementwise work and folds around matrix products run while a block of rows is in the cache, and change no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_programs import agree

import codegen
import symdiff as sd
from codegen import compiled
from codegen.analysis import cutting
from codegen.ir.loops import Call, For, statements
from codegen.jit import pool
from codegen.kernels import main
from symdiff.api.expression import function_of

n, m, d, h, o = sd.dims("n m d h o")
SIZES = {"n": 300, "m": 130, "d": 37, "h": 50, "o": 9}


def symbols(dtype: str = "f64") -> dict[str, Any]:
    shapes = {"X": (n, d), "Y": (m, d), "K": (n, d), "W": (d, h), "V": (h, o)}
    shapes |= {"c": (h,), "e": (o,), "T": (n, o), "s": (d,)}
    return {name: sd.symbol(name, shape, dtype) for name, shape in shapes.items()}


def programs(dtype: str = "f64") -> dict[str, tuple[list[Any], list[Any]]]:
    """Results and parameters, by name."""
    S = symbols(dtype)
    X, Y, K, W, V, c, e, T, s = (S[name] for name in "XYKWVceTs")
    hidden = np.tanh(X @ W + c)
    loss = np.sum((hidden @ V + e - T) ** 2)
    apart = np.sum(X * X, axis=1)[:, None] + np.sum(Y * Y, axis=1)[None, :] - 2 * (X @ Y.T)
    summed = X @ W + c
    centred = np.tanh(summed - 0.3 * np.sum(summed, axis=0) / n) @ V
    square = np.tanh(X @ K.T)
    return {
        "layer": ([hidden], [X, W, c]),
        "network": ([loss, *sd.gradient(loss, [W, c, V, e, X])], [X, W, c, V, e, T]),
        "attention": ([sd.softmax(X @ Y.T * 0.3, axis=1) @ Y], [X, Y]),
        "kernel": ([np.exp(-apart), np.sum(np.exp(-apart), axis=0), np.sum(apart)], [X, Y]),
        "prologue": ([np.exp(-(X * s)) @ W, X @ W], [X, s, W]),
        "square": ([square @ K, np.sum(square, axis=0), np.sum(square, axis=1)], [X, K]),
        "projected": ([sd.softmax(np.tanh(X @ W) @ np.tanh(K @ W).T, axis=1) @ X], [X, K, W]),
        "centred": ([centred, sd.gradient(np.sum(centred * T), W)], [X, W, c, V, T]),
    }


PROGRAMS = programs()


def arguments(function: Any, rng: Any, dtype: str = "f64", /, **sizes: int) -> list[Any]:
    numbers = {**SIZES, **sizes}
    shapes = [[numbers[str(q)] for q in p.type.shape] for p in function.params]
    return [(rng.normal(size=shape) / 3).astype({"f64": "float64", "f32": "float32"}[dtype]) for shape in shapes]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few rows."""
    monkeypatch.setattr(cutting, "LONGEST_BLOCK", 16)


def rowwise(native: Any) -> list[Call]:
    """Products of one block of rows at a time."""
    kernels = codegen.inspect(native).program.kernels
    loops = [s for k in kernels for s in statements(k.body) if isinstance(s, For) and s.step != 1]
    return [s for loop in loops for s in loop.body if isinstance(s, Call) and s.routine == "gemm"]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("name", "products"), [
    ("layer", 1), ("network", 4), ("attention", 2), ("kernel", 1), ("prologue", 2), ("square", 2), ("projected", 4),
    ("centred", 2),
])  # fmt: skip
def test_programs_agree_at_every_size(name: str, products: int, rng: Any) -> None:
    function = function_of(*PROGRAMS[name])
    native = codegen.compile(function, opt=1)
    assert len(rowwise(native)) == products, codegen.inspect(native).loops
    for rows in (0, 1, 15, 16, 17, 65, 300):
        agree(function, native, arguments(function, rng, n=rows), rtol=1e-11)
    for sizes in ({"m": 1}, {"d": 0}, {"d": 1, "h": 1}, {"h": 0}, {"o": 1, "m": 26}, {"d": 300, "h": 129, "m": 260}):
        agree(function, native, arguments(function, rng, **{"n": 70, **sizes}), rtol=1e-10)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["layer", "network", "attention", "kernel"])
def test_single_precision(name: str, rng: Any) -> None:
    function = function_of(*programs("f32")[name])
    native = codegen.compile(function, opt=1)
    assert rowwise(native)
    for rows in (1, 40, 333):
        agree(function, native, arguments(function, rng, "f32", n=rows), rtol=3e-4)


@pytest.mark.usefixtures("short")
def test_sums_of_many_products_have_their_panels(rng: Any) -> None:
    """Longer than one stretch of a sum, and with columns beyond one panel of the cache."""
    function = function_of(*PROGRAMS["layer"])
    for sizes in ({"d": 4500, "h": 13}, {"d": 2049, "h": 30}, {"d": 200, "h": 1600}):
        agree(function, codegen.compile(function, opt=1), arguments(function, rng, n=40, **sizes), rtol=1e-10)


@pytest.mark.parametrize("name", PROGRAMS)
def test_blocks_change_no_bit_of_rows(name: str, rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(*PROGRAMS[name])
    given = arguments(function, rng, n=130)
    whole = codegen.compile(function, opt=1)(*given)
    monkeypatch.setattr(cutting, "LONGEST_BLOCK", 16)
    for result, one, other in zip(function.results, codegen.compile(function, opt=1)(*given), whole, strict=True):
        if result.type.shape[:1] == (n,) and name != "centred":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12 * np.max(np.abs(other)))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", PROGRAMS)
def test_bits_do_not_depend_on_the_width_of_registers(name: str, rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(*PROGRAMS[name])
    given = arguments(function, rng)
    expected = codegen.compile(function)(*given)
    fma = compiled._machine()[1]  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(compiled, "_machine", lambda: (16, fma))
    for one, other in zip(codegen.compile(function)(*given), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("shared")
@pytest.mark.skipif(not pool.available(), reason="no POSIX threads here")
@pytest.mark.parametrize("longest", [16, 256])
@pytest.mark.parametrize("name", PROGRAMS)
def test_threads_share_blocks_and_give_the_bits_of_one(
    name: str, longest: int, rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many chunks for all threads, and one chunk whose products they share."""
    monkeypatch.setattr(main, "SHARED_WORK", 0)
    monkeypatch.setattr(cutting, "LONGEST_BLOCK", longest)
    function = function_of(*PROGRAMS[name])
    given = arguments(function, rng, d=150, h=170)
    expected = codegen.compile(function, opt=1)(*given)
    for threads in (2, 3, 4):
        several = codegen.compile(function, opt=1, threads=threads)
        for _ in range(2):
            for one, other in zip(several(*given), expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("short")
def test_strided_arrays_and_numbers_that_are_not_finite(rng: Any) -> None:
    function = function_of(*PROGRAMS["layer"])
    native = codegen.compile(function, opt=1)
    X, W, c = arguments(function, rng)
    wide = np.zeros((2 * X.shape[0], 2 * X.shape[1]))
    wide[::2, ::2] = X
    (want,) = native(X, W, c)
    np.testing.assert_array_equal(native(wide[::2, ::2], np.asfortranarray(W), c)[0], want)
    X[123, 5] = np.nan
    (got,) = native(X, W, c)
    assert np.isnan(got[123]).all()
    np.testing.assert_array_equal(np.delete(got, 123, axis=0), np.delete(want, 123, axis=0))


def test_an_operand_that_is_copied_is_whole_before_rows_are_multiplied_with_it(rng: Any) -> None:
    """Axes summed over come in another order, and the copy has as many rows as the result."""
    A, B = sd.symbol("A", (n, d, h)), sd.symbol("B", (n, h, d))
    function = function_of([np.tanh(np.einsum("idh,jhd->ij", A, B))], [A, B])
    native = codegen.compile(function, opt=1)
    for rows in (3, 300):
        agree(function, native, arguments(function, rng, n=rows, d=3, h=4), rtol=1e-11)


def test_a_bias_and_an_activation_ride_on_a_product(golden: Any) -> None:
    golden("loops_network", codegen.inspect(codegen.compile(function_of(*PROGRAMS["network"]), name="network")).loops)


def test_large_matrices_are_not_packed_for_few_rows() -> None:
    """The rule of blocks: rows in bytes of 64 columns, multiplied with matrices of so many bytes."""
    native = codegen.compile(function_of(*PROGRAMS["layer"]))
    (block,) = codegen.inspect(native).program.blocks

    def cut(**sizes: int) -> tuple[int, int]:
        made = cutting.block_numbers([block], {"n": 1, "d": 1, "h": 1, **sizes})
        return made[str(block.size)], made[str(block.chunks)]

    assert cut(n=200, d=64, h=64) == (200, 1)  # all of it fits the cache
    assert cut(n=4096, d=64, h=256) == (256, 16)
    assert cut(n=1000, d=2000, h=2000) == (1000, 1)  # 32 megabytes would be packed for eight blocks
    size, chunks = cut(n=20_000, d=2000, h=2000)
    assert size <= 128 and chunks >= 4


def test_explain_tells_what_was_fused(rng: Any) -> None:
    X, W, c = (symbols()[name] for name in "XWc")
    fn = sd.compile(np.tanh(X @ W + c), [X, W, c])
    text = fn.explain()
    line = next(line for line in text.splitlines() if "gemm" in line)
    assert "tanh" in line and "in blocks" in line
    assert any("panels" in line for line in text.splitlines())
