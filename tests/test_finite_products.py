"""Products give what the program as written gives, whatever the numbers: what is finite stays so, and NaN stays NaN."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import codegen
from codegen.ir.loops import Let, statements
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

pytest.importorskip("llvmlite")

Array = NDArray[np.floating]
TYPES = {"f64": np.float64, "f32": np.float32}


def same(got: Any, expected: Any, ulps: float = 40) -> None:
    """Finite where that is, equal but for some roundings; NaN and infinities in the same places."""
    for own, wanted in zip(got, expected, strict=True):
        limits = np.finfo(wanted.dtype)
        with np.errstate(all="ignore"):
            edge = np.abs(np.where(np.isfinite(wanted), wanted, own)) > 0.999 * limits.max
            assert np.all((np.isfinite(own) == np.isfinite(wanted)) | edge)
            finite = np.isfinite(own) & np.isfinite(wanted)
            assert np.all((np.isnan(own) == np.isnan(wanted)) | finite | edge)
            gap = np.abs(own - wanted)
            bound = ulps * limits.eps * np.abs(wanted) + 4 * limits.smallest_subnormal
            assert np.all((gap <= bound) | ~finite)


def agree(native: Any, arrays: list[Array], ulps: float = 40) -> None:
    with np.errstate(all="ignore"):
        expected = interpret(codegen.inspect(native).function, arrays)
    same(native(*arrays), expected, ulps)


# -------------------------------------------------------------------- what was found wrong
def program(names: str, results: Callable[..., list[Any]], dtype: str = "f64", fastmath: bool = False) -> Any:
    """Compiled as written, instruction by instruction."""
    builder = Builder(OPSET)
    params = [builder.param(name, TensorType(dtype, (named("n"),))) for name in names]
    made = results(*[Handle(builder, p) for p in params])
    return codegen.compile(Function.of(params, [r.value for r in made], "f"), fastmath=fastmath)


def test_two_factors_may_overflow_that_three_do_not() -> None:
    native = program("abcd", lambda a, b, c, d: [a * b * c, a * (b * d) * c, b * c * a, b * d * (c * a), c * (d * a)])
    rows = [[1e200, 1e-200, 1e200, 1e-200], [1e-200, 1e200, 1e-200, 1e200], [1.5, 2.5, -3.5, 0.75]]
    agree(native, list(np.array(rows * 3).T))


@pytest.mark.parametrize("fastmath", [False, True])
def test_a_reciprocal_of_zero_or_infinity_stays(fastmath: bool) -> None:
    def results(x: Any, y: Any, z: Any) -> list[Any]:
        r = 1 / x
        return [r, x * (r * y), z * r, y * r * z * x, (r * z) * (y * x), z / x * y]

    native = program("xyz", results, fastmath=fastmath)
    special = np.array([0.0, np.inf, -np.inf, np.nan, 2.0, -0.0, 1e-310, 1e308])
    agree(native, [special, np.linspace(1, 2, 8), np.linspace(-3, 4, 8)])


def test_reciprocals_of_denormals() -> None:
    native = program("abx", lambda a, b, x: [1 / x, a / x, b / x, a * b / x, b * (a / x)])
    agree(native, [np.array([3e-310, 0.0, 1.0]), np.array([2e-310, 1e-310, 3.0]), np.array([1.5e-310, 4e-320, 7.0])])


def test_constants_of_float32_stay_in_its_range() -> None:
    big, small = Fraction(10**30), Fraction(1, 10**30)

    def results(x: Any, y: Any) -> list[Any]:
        return [x * big * y * big, x * small * y * small, y * big * x / big / big, y * 3 / 7 * x / 3 * 7]

    native = program("xy", results, "f32")
    values = np.array([1e-30, 1e-20, 1e-5, 1.0, 30.0, 1e10, 1e30], np.float32)
    agree(native, [np.repeat(values, 7), np.tile(values, 7)])


@pytest.mark.parametrize("fastmath", [False, True])
def test_quotients_by_constants_too_long_to_fold(fastmath: bool) -> None:
    def results(x: Any, y: Any, z: Any) -> list[Any]:
        size = x.const(Fraction(3**60 + 2, 7**36)).op("sqrt") * x.const(Fraction(3**75 + 2, 5**30))
        three = x.const(3) / size
        return [(-(x * y)) * three, x * three, -z * three * y, 3 * x / size]

    native = program("xyz", results, fastmath=fastmath)
    agree(native, list(np.random.default_rng(11).standard_normal((3, 20))))


@pytest.mark.parametrize("fastmath", [False, True])
def test_what_decides_a_branch_divides_as_written(fastmath: bool) -> None:
    def results(a: Any, b: Any, c: Any) -> list[Any]:
        whole, root = a.const(49), c.op("sqrt")
        return [(a / whole).op("floor"), b / whole, a * b / whole, (a / root).op("floor"), b / root, a * b / root]

    native = program("abc", results, fastmath=fastmath)
    (kernel,) = codegen.inspect(native).program.kernels
    assert sum(isinstance(s, Let) and s.op == "div" for s in statements(kernel.body)) <= 4
    whole = np.arange(1.0, 200.0)
    got = native(49 * whole, whole, np.full(199, 49.0**2))
    assert np.array_equal(got[0], whole) and np.array_equal(got[3], whole)


# -------------------------------------------------------------------- random programs
def grown(seed: int, dtype: str, steps: int, alone: bool = False) -> Function:
    """Products and quotients of the same few factors; some of the last are the results."""
    rng, builder = np.random.default_rng(seed), Builder(OPSET)
    kind = TensorType(dtype, () if alone else (named("n"),))
    params = [builder.param(name, kind) for name in "abcd"]
    values: list[Any] = list(params)

    def make(name: str, *args: Any) -> Any:
        return builder.make(OPSET[name], args)

    for _ in range(steps):
        x, y = (values[rng.integers(max(0, len(values) - 14), len(values))] for _ in range(2))
        which = rng.integers(13)
        if which < 7:
            made = make("mul", x, y)
        elif which < 9:
            made = make("div", x, y)
        elif which == 9:
            made = make("div", builder.const(1, x.shape, dtype), y)
        elif which == 10:
            made = make("mul", x, builder.const(Fraction(int(rng.integers(1, 9)), 4), x.shape, dtype))
        else:
            made = make(("neg", "sqrt", "abs")[rng.integers(3)], x)
        values.append(made)
    results = sorted(set(rng.integers(len(values) // 2, len(values), 10)))
    return Function.of(params, [values[i] for i in results], "f")


def wide(seed: int, dtype: str, count: int) -> list[Array]:
    """Numbers of all sizes, many of them moderate, some of them zero, denormal, infinite, NaN."""
    rng, kind = np.random.default_rng(seed), TYPES[dtype]
    most = 300 if dtype == "f64" else 37
    limits = np.finfo(kind)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, limits.smallest_subnormal, limits.tiny / 8, 1], kind)
    made: list[Array] = []
    for _ in range(4):
        size = np.where(rng.integers(3, size=count) == 0, rng.uniform(-most, most, count), rng.uniform(-2, 2, count))
        numbers = (10.0**size * rng.choice([-1, 1], count)).astype(kind)
        which = rng.integers(60, size=count)
        made.append(np.where(which < 8, special[np.minimum(which, 7)], numbers))
    return made


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_random_products_of_all_sizes(dtype: str) -> None:
    for seed in range(12):
        agree(codegen.compile(grown(seed, dtype, 40)), wide(seed, dtype, 203))


def test_random_products_of_scalars() -> None:
    """Kernels without loops, short ones and such as are written in one walk."""
    for seed, steps in ((1, 40), (2, 40), (3, 300), (4, 300)):
        native = codegen.compile(grown(seed, "f64", steps, alone=True))
        for row in np.array(wide(seed, "f64", 12)).T:
            with np.errstate(all="ignore"):
                expected = interpret(codegen.inspect(native).function, [np.asarray(v) for v in row])
            same([np.asarray(v) for v in native(*map(float, row))], expected)
