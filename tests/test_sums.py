"""Long sums: errors within the bound of pairwise summation on every path, and what is not finite stays what it is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symdiff as sd
from codegen import compiled
from codegen.jit import pool
from codegen.kernels import main
from codegen.products import shared as products

pytest.importorskip("llvmlite")

Array = NDArray[np.floating]
N = 100_003


def _terms(kind: str, dtype: Any) -> Array:
    rng = np.random.default_rng(3)
    made = {
        "equal": np.full(N, 0.1), "thirds": np.full(N, 1 / 3), "falling": 1 / (1 + np.arange(N)),
        "rising": np.sqrt(np.arange(N)), "random": rng.normal(size=N),
        "alternating": np.where(np.arange(N) % 2, -0.1, 0.1) + 1e-3,
    }  # fmt: skip
    return made[kind].astype(dtype)


def _columns(x: Array, count: int) -> Array:
    return np.ascontiguousarray(np.broadcast_to(x[:, None], (x.size, count)))


def _rows(x: Array, count: int) -> Array:
    return np.ascontiguousarray(_columns(x, count).T)


def _ones(*shape: int, like: Array) -> Array:
    return np.ones(shape, like.dtype)


PATHS: dict[str, Callable[[Array, Callable[..., Any]], Any]] = {
    "total": lambda x, jit: jit(lambda x: np.sum(x))(x),
    "mean": lambda x, jit: jit(lambda x: np.mean(x))(x) * x.size,
    "dot": lambda x, jit: jit(lambda x, y: np.dot(x, y))(x, _ones(x.size, like=x)),
    "dear": lambda x, jit: jit(lambda x: np.sum(x * np.cos(x - x)))(x),
    "one column": lambda x, jit: jit(lambda a: np.sum(a, axis=0))(_columns(x, 1))[0],
    "columns": lambda x, jit: jit(lambda a: np.sum(a, axis=0))(_columns(x, 7))[5],
    "many columns": lambda x, jit: jit(lambda a: np.sum(a, axis=0))(_columns(x[:5000], 600))[577],
    "rows": lambda x, jit: jit(lambda a: np.sum(a, axis=1))(_rows(x, 3))[1],
    "strided rows": lambda x, jit: jit(lambda a: np.sum(a, axis=1))(_columns(x, 3).T)[1],
    "two axes": lambda x, jit: jit(lambda a: np.sum(a, axis=(0, 1)))(_columns(x, 6).reshape(-1, 2, 3))[1] / 2,
    "last axes": lambda x, jit: jit(lambda a: np.sum(a, axis=(1, 2)))(_columns(x, 2)[None])[0] / 2,
    "matrix by vector": lambda x, jit: jit(lambda a, v: a @ v)(_rows(x, 3), _ones(x.size, like=x))[1],
    "vector by matrix": lambda x, jit: jit(lambda a, v: v @ a)(_columns(x, 3), _ones(x.size, like=x))[1],
    "vector by wide matrix": lambda x, jit: jit(lambda a, v: v @ a)(_columns(x[:5000], 300), _ones(5000, like=x))[277],
    "small product": lambda x, jit: jit(lambda a, b: a @ b)(_rows(x, 3), _ones(x.size, 4, like=x))[1, 2],
    "rows by rows": lambda x, jit: jit(lambda a, b: a @ b.T)(_rows(x, 3), _ones(4, x.size, like=x))[1, 2],
    "product": lambda x, jit: jit(lambda a, b: a @ b)(_rows(x[:9000], 150), _ones(9000, 130, like=x))[149, 129],
    "weighted Gram": lambda x, jit: jit(lambda a, w: a.T @ (w[:, None] * a))(_ones(x.size, 3, like=x), x)[1, 2],
    "running": lambda x, jit: jit(lambda x: np.cumsum(x))(x)[-1],
    "running columns": lambda x, jit: jit(lambda a: np.cumsum(a, axis=0))(_columns(x, 3))[-1, 1],
    "scattered": lambda x, jit: sd.grad(lambda v, i, w: np.sum(v[i] * w))(
        np.zeros(3, x.dtype), np.ones(x.size, np.int64), x)[1],
    "gradient over rows": lambda x, jit: sd.value_and_grad(lambda v, a, w: np.sum(np.sin(a @ v) * 0 + w * (a @ v)))(
        np.zeros(3, x.dtype), _ones(x.size, 3, like=x), x)[1][1],
}  # fmt: skip
LENGTHS = {"many columns": 5000, "vector by wide matrix": 5000, "product": 9000}


@pytest.mark.parametrize("path", PATHS)
def test_errors_stay_within_the_bound_of_pairwise_summation(path: str) -> None:
    for dtype in (np.float64, np.float32):
        for kind in ("equal", "thirds", "falling", "rising", "random", "alternating"):
            x = _terms(kind, dtype)
            used = x[: LENGTHS.get(path, N)].astype(np.float64)
            exact, size = math.fsum(used), math.fsum(np.abs(used))
            got = float(PATHS[path](x, sd.jit))
            bound = 0.5 * math.log2(used.size) * float(np.finfo(dtype).eps) * size
            assert abs(got - exact) <= bound, (dtype, kind, abs(got - exact) / bound)


def test_total_of_every_length() -> None:
    total = sd.jit(lambda a: (np.sum(a), np.sum(a, axis=0), np.sum(a, axis=1)))
    rng = np.random.default_rng(1)
    for length in (0, 1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 2049, 8193):
        a = rng.integers(-9, 9, (length, 3)).astype(float)  # exact in any order
        for x in (a, a.T):
            for got, axis in zip(total(x), (None, 0, 1), strict=True):
                assert np.array_equal(got, np.sum(x, axis=axis)), (length, axis)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_columns_of_every_number_are_folded_over_rows_of_every_number(dtype: Any) -> None:
    def folds(a: Any, w: Any, b: Any) -> Any:
        return w @ a, np.sum((a - b) ** 2 * w[:, None], axis=0), (np.sum(a, axis=0), w @ (a * a))

    rng = np.random.default_rng(4)
    program = sd.jit(folds)
    for rows, columns in (
        (0, 300), (1, 257), (2, 256), (3, 2047), (31, 300), (33, 2049), (63, 259), (127, 4100), (129, 257), (130, 500),
        (390, 2053),
    ):  # fmt: skip
        a, w, b = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((rows, columns), rows, columns))  # exact
        first, second, (third, fourth) = program(a, w, b)
        expected = (w @ a, ((a - b) ** 2 * w[:, None]).sum(0), a.sum(0), w @ (a * a))
        for got, wanted in zip((first, second, third, fourth), expected, strict=True):
            assert got.dtype == dtype
            assert np.array_equal(got, wanted), (rows, columns)


@pytest.mark.parametrize("length", [3, 40, 5000])
@pytest.mark.parametrize("values", [(np.inf,), (-np.inf,), (np.inf, -np.inf), (np.nan,), (1e308,) * 3])
def test_what_is_not_finite_goes_through_sums(length: int, values: tuple[float, ...]) -> None:
    x = np.random.default_rng(0).normal(size=length)
    x[:: max(1, length // 3)][: len(values)] = values
    a, ones = _columns(x, 3), np.ones(length)
    with np.errstate(all="ignore"):
        expected = np.sum(x)
    programs = {
        "total": lambda: sd.jit(lambda x: np.sum(x))(x),
        "columns": lambda: sd.jit(lambda a: np.sum(a, axis=0))(a)[1],
        "rows": lambda: sd.jit(lambda a: np.sum(a, axis=1))(a.T)[1],
        "matrix by vector": lambda: sd.jit(lambda a, v: a @ v)(np.ascontiguousarray(a.T), ones)[1],
        "product": lambda: sd.jit(lambda a, b: a @ b)(np.ascontiguousarray(a.T), np.ones((length, 4)))[1, 2],
        "running": lambda: sd.jit(lambda x: np.cumsum(x))(x)[-1],
        "scattered": lambda: sd.grad(lambda v, i, w: np.sum(v[i] * w))(np.zeros(2), np.ones(length, int), x)[1],
    }
    for name, program in programs.items():
        got = program()
        assert np.isnan(got) if np.isnan(expected) else got == expected, (name, got, expected)


JITTED = [path for path in PATHS if path not in ("scattered", "gradient over rows")]


@pytest.mark.usefixtures("shared")
@pytest.mark.skipif(not pool.available(), reason="no POSIX threads here")
@pytest.mark.parametrize("path", JITTED)
def test_any_number_of_threads_gives_the_same_bits(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "SHARED_WORK", 0)
    x = _terms("random", np.float64)
    expected = np.float64(PATHS[path](x, sd.jit)).tobytes()
    for threads in (2, 3, 4):
        got = PATHS[path](x, functools.partial(sd.jit, threads=threads))
        assert np.float64(got).tobytes() == expected, threads


@pytest.mark.parametrize("path", JITTED)
def test_any_width_of_registers_gives_the_same_bits(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = _terms("random", np.float64)[:20_011]
    caches = (products._kernels, products._dots, products._steering)  # pyright: ignore[reportPrivateUsage]
    found: set[bytes] = set()
    for register_bytes in (16, 32, 64):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_machine", lambda wide=register_bytes: (wide, True))
            for cached in caches:
                patch.setattr(cached, "made", {})
            found.add(np.float64(PATHS[path](x, sd.jit)).tobytes())
    assert len(found) == 1
