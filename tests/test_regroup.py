"""Factors shared between products: fewer operations, the same numbers, nothing lost near the ends of their range."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import codegen
import symdiff as sd
from codegen.ir.loops import For, Let, statements
from codegen.schedule.constants import ONE, Exact, exact, inverse, number, root, times
from codegen.schedule.monomials import never_denormal
from symdiff.frontend.expr import Expr
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

pytest.importorskip("llvmlite")

Array = NDArray[np.floating]


def compiled(outputs: list[Any], inputs: list[Any]) -> Any:
    """With products in any order."""
    return sd.compile(outputs, inputs, fastmath=True)


def counts(native: Any) -> Counter[str]:
    """The operations of the loops by name."""
    kernels = codegen.inspect(native).program.kernels
    return Counter(s.op for k in kernels for s in statements(k.body) if isinstance(s, Let))


def vectors(names: str) -> list[Expr]:
    return [sd.symbol(name, (sd.dim("n"),)) for name in names]


def agree(native: Any, arrays: list[Array], tolerance: float = 1e-13) -> None:
    """The compiled function gives what NumPy gives, instruction by instruction."""
    for got, expected in zip(native(*arrays), interpret(codegen.inspect(native).function, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=0)


# -------------------------------------------------------------------- fewer operations
def test_common_factors_are_multiplied_once() -> None:
    a, b, c, d, e = vectors("abcde")
    native = compiled([a * c * b * d, b * e * a * d, (d * b) * (a * e) * c], [a, b, c, d, e])
    assert counts(native)["mul"] == 5  # ab, abd, abdc, abde, abdec
    agree(native, list(np.random.default_rng(0).standard_normal((5, 50))))


def test_a_reciprocal_that_is_there_serves_every_quotient() -> None:
    a, b, x = vectors("abx")
    native = compiled([1 / x, a / x, b / x, a * b / x], [a, b, x])
    assert counts(native)["div"] == 1
    agree(native, list(np.random.default_rng(1).standard_normal((3, 50))))


def test_a_norm_divides_once() -> None:
    a, b, c = vectors("abc")
    norm = np.sqrt(a * a + b * b + c * c)
    native = compiled([a / norm, b / norm, c / norm], [a, b, c])
    assert counts(native)["div"] == 1
    agree(native, list(np.random.default_rng(2).standard_normal((3, 50))))


def test_signs_go_into_sums() -> None:
    a, b, c, d = vectors("abcd")
    native = compiled([a - (-b) * c * d, -(b * c) - d, a * (-(b * d)) + b * d * c], [a, b, c, d])
    assert counts(native)["neg"] <= 1
    agree(native, list(np.random.default_rng(3).standard_normal((4, 50))), 1e-12)


def test_constants_of_a_product_meet() -> None:
    (x, y) = vectors("xy")
    halves = sd.parse("x / sqrt(2) * y / sqrt(2) * x", {"x": x, "y": y})
    native = compiled([halves, x * 3 * y * Fraction(1, 3) * x], [x, y])
    assert counts(native)["sqrt"] == 0
    agree(native, list(np.random.default_rng(4).standard_normal((2, 50))))


def test_powers_share_a_chain() -> None:
    (x,) = vectors("x")
    native = compiled([x**2, x**3, x**4, x**6, x**8], [x])
    assert counts(native)["mul"] + counts(native)["pow_int"] == 5
    agree(native, [np.random.default_rng(5).standard_normal(50)])


def test_what_a_loop_does_not_change_is_multiplied_before_it() -> None:
    (x, y) = vectors("xy")
    a, b = sd.symbol("a"), sd.symbol("b")
    native = compiled([a * x * b * y, b * y * a], [a, b, x, y])
    (loop,) = [s for k in codegen.inspect(native).program.kernels for s in k.body if isinstance(s, For)]
    assert sum(isinstance(s, Let) and s.op == "mul" for s in loop.body) == 2
    rng = np.random.default_rng(6)
    args = [rng.standard_normal(), rng.standard_normal(), rng.standard_normal(30), rng.standard_normal(30)]
    np.testing.assert_allclose(native(*args)[0], args[0] * args[1] * args[2] * args[3], rtol=1e-14)


def test_nothing_shared_keeps_its_bits() -> None:
    a, b, c, d = vectors("abcd")
    native = sd.compile([(a * b) * (c * d), a / 10 - d / c], [a, b, c, d])
    arrays = list(np.random.default_rng(7).standard_normal((4, 200)))
    assert np.array_equal(native(*arrays)[0], (arrays[0] * arrays[1]) * (arrays[2] * arrays[3]))
    assert np.array_equal(native(*arrays)[1], arrays[0] / 10 - arrays[3] / arrays[2])


# -------------------------------------------------------------------- what must not change
def test_what_decides_a_branch_is_computed_as_written() -> None:
    a, h = vectors("ah")
    native = compiled([np.floor(a / h), 1 / h, np.where(a / h >= 1, a, 0), a * a / h], [a, h])
    whole = np.arange(1.0, 200.0)
    assert np.array_equal(native(49 * whole, whole)[0], np.full(199, 49.0))
    assert np.array_equal(native(whole, whole)[2], whole)


def test_no_closed_form_rounds_what_decides_a_branch() -> None:
    a, b, c = vectors("abc")
    whole = np.arange(1.0, 200.0)
    native = sd.compile([np.floor(a / 49), np.trunc(a / 49), np.mod(a / 49, 1), b * c / 49, a * b / 49], [a, b, c])
    floor, trunc, rest, *_ = native(49 * whole, whole, whole)
    assert np.array_equal(floor, whole) and np.array_equal(trunc, whole) and not rest.any()


def test_a_scaled_product_stays_in_range() -> None:
    x, y, s = vectors("xys")
    u, v = x / s, y / s
    native = compiled([1 / s, u * v, u * u, u * v * u, x * v], [x, y, s])
    for size in (1e-170, 1e170, 1e-300, 1e300):
        arrays = [np.array([size]), np.array([3 * size]), np.array([2 * size])]
        agree(native, arrays)


def test_a_divisor_may_be_denormal() -> None:
    a, b, x = vectors("abx")
    native = compiled([a / x, b / x, a * b / x], [a, b, x])
    agree(native, [np.array([3e-310, 0.0]), np.array([2e-310, 1e-310]), np.array([1.5e-310, 4e-320])])


def test_three_steep_factors_keep_their_order() -> None:
    x, y, z = vectors("xyz")
    up, down = np.exp(x), np.exp(-y)
    native = compiled([up * down * np.exp(z) * z, z * up * np.exp(z), up * down * z], [x, y, z])
    arrays = [np.array([600.0, 5.0]), np.array([600.0, -1.0]), np.array([600.0, 2.0])]
    with np.errstate(over="ignore"):
        agree(native, arrays)


def test_equal_products_cancel() -> None:
    a, b, c, d = vectors("abcd")
    native = compiled([a * b * c - c * (b * a), a * b * d, c * b * d], [a, b, c, d])
    assert not native(*np.random.default_rng(8).standard_normal((4, 99)))[0].any()


class Growth:
    """Random elementwise programs with many products of the same few factors."""

    def __init__(self, seed: int) -> None:
        self.rng, self.builder = np.random.default_rng(seed), Builder(OPSET)
        kind = TensorType("f64", (named("n"),))
        self.params = [self.builder.param(name, kind) for name in "abcd"]
        self.values: list[Any] = list(self.params)

    def make(self, name: str, *args: Any) -> Any:
        return self.builder.make(OPSET[name], args)

    def grow(self, steps: int, steep: bool) -> Any:
        rng = self.rng
        for _ in range(steps):
            a, b = (self.values[rng.integers(max(0, len(self.values) - 14), len(self.values))] for _ in range(2))
            kind = rng.integers(12)
            if kind < 5:
                made = self.make("mul", a, b)
            elif kind < 7:
                made = self.make("div", a, b)
            elif kind == 7:
                made = self.make("div", self.builder.const(1, a.shape, "f64"), b)
            elif kind == 8:
                made = self.make(("add", "sub")[rng.integers(2)], a, b)
            elif kind == 9:
                made = self.make("neg", a)
            elif kind == 10:
                made = self.make("mul", a, self.builder.const(Fraction(int(rng.integers(1, 9)), 4), a.shape, "f64"))
            else:
                made = self.make(("sin", "tanh", "abs", "exp")[rng.integers(3 + steep)], a)
            self.values.append(made)
        return Function.of(self.params, self.values[4:], "f")


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("fastmath", [False, True])
def test_random_programs_agree(seed: int, fastmath: bool) -> None:
    """Values that are sums may cancel, so that each result is compared at the size of what it is made of."""
    function = Growth(seed).grow(40, steep=False)
    native = codegen.compile(function, fastmath=fastmath)
    arrays = list(np.exp(np.random.default_rng(seed).uniform(-0.5, 0.5, (4, 40))))
    with np.errstate(all="ignore"):
        expected = interpret(function, arrays)
        moved = [interpret(function, [a * (1 + 4e-16 * s) for a, s in zip(arrays, signs, strict=True)])
                 for signs in ((1, -1, 1, -1), (1, 1, -1, -1), (-1, 1, 1, -1))]  # fmt: skip
    for number_, (got, wanted) in enumerate(zip(native(*arrays), expected, strict=True)):
        with np.errstate(invalid="ignore"):
            spread = np.max([np.abs(m[number_] - wanted) for m in moved], axis=0)
            gap = np.abs(got - wanted)
        good = np.isfinite(wanted) & np.isfinite(spread)
        assert np.all(gap[good] <= (100 * spread + 1e-12 * np.abs(wanted))[good])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [1e-60, 1e60, 1e-100, 1e100])
def test_nothing_leaves_the_range_where_all_inputs_are_of_one_size(seed: int, size: float) -> None:
    function = Growth(100 + seed).grow(20, steep=False)
    native = codegen.compile(function, fastmath=True)
    arrays = list(size * np.random.default_rng(seed).uniform(1, 2, (4, 9)))
    with np.errstate(all="ignore"):
        expected = interpret(function, arrays)
    for got, wanted in zip(native(*arrays), expected, strict=True):
        ordinary = np.isfinite(wanted) & ((np.abs(wanted) > 1e-290) | (wanted == 0))
        if np.all(ordinary):
            assert np.all(np.isfinite(got))
            assert np.all((got == 0) <= (wanted == 0) | (np.abs(wanted) < 1e-290))


# -------------------------------------------------------------------- exact constants
def test_exact_constants() -> None:
    sign, half = exact(Fraction(-1, 2)) or (0, ONE)
    assert sign == -1
    assert half == Exact(Fraction(1, 2))
    two = Exact(Fraction(2))
    side = root(two)
    assert side is not None
    assert times(side, side) == two
    below = inverse(side)
    assert below is not None
    assert times(below, side) is ONE
    assert times(below, below) == half
    assert float(number(side)) == 2**0.5
    pi = exact("pi")
    assert pi is not None
    half_root = root(pi[1])
    assert half_root is not None
    assert times(half_root, half_root) == pi[1]
    assert number(pi[1]) == "pi"
    assert float(number(half_root)) == 1.772453850905516  # 1.77245385090551602730
    assert exact(0) is None
    assert exact("inf") is None
    assert exact(True) is None
    assert times(Exact(Fraction(2) ** 190), Exact(Fraction(2) ** 190)) is None
    assert inverse(Exact(Fraction(3) ** 70, ((5**70, 1),))) is None


# -------------------------------------------------------------------- what derivatives give
def test_greeks_of_an_option_share_their_factors() -> None:
    """All first and second derivatives of a price: as derived they take over 210 products and 15 quotients."""
    variables = S, K, r, sigma, T = vectors("SKrsT")
    spread = sigma * np.sqrt(T)
    above = (np.log(S / K) + (r + sigma * sigma / 2) * T) / spread
    price = S * sd.erfc(-above / np.sqrt(2.0)) / 2 - K * np.exp(-r * T) * sd.erfc((spread - above) / np.sqrt(2.0)) / 2
    first = sd.gradient(np.sum(price), variables)
    second = [sd.gradient(np.sum(first[i]), variables[i:]) for i in range(5)]
    native = compiled([price, *first, *[h for row in second for h in row]], variables)
    found = counts(native)
    assert found["mul"] <= 175
    assert found["div"] <= 5
    rng = np.random.default_rng(9)
    arrays = [rng.uniform(*ends, 60) for ends in ((50, 150), (50, 150), (0.01, 0.1), (0.1, 0.5), (0.2, 2))]
    expected = interpret(codegen.inspect(native).function, arrays)
    for got, wanted in zip(native(*arrays), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-11 * np.max(np.abs(wanted)))


# -------------------------------------------------------------------- reciprocals that are always finite
def test_divisors_that_are_never_denormal_divide_once() -> None:
    a, b, x = vectors("abx")
    below = 1 + x * x
    native = sd.compile([a / below, b / below, a * b / below, x / below / below], [a, b, x])
    assert counts(native)["div"] == 1
    agree(native, list(np.random.default_rng(20).standard_normal((3, 50))))
    slopes = sd.compile([a / x, b / x, a * b / x, a / (x * b), 3 / (x * b)], [a, b, x])
    assert counts(slopes)["div"] == 5
    once = sd.compile([a / below, b / (1 + below)], [a, b, x])
    assert counts(once)["div"] == 2


def test_reciprocals_are_what_quotients_are_at_the_ends() -> None:
    a, x, y = vectors("axy")
    below, cancelled = 1 + x * x, 1 - x * y
    native = sd.compile([a / below, x / below, 2 / below, a / cancelled, x / cancelled, 2 / cancelled], [a, x, y])
    assert counts(native)["div"] == 2
    ends = np.array([0.0, -0.0, 1, -1, 5e-324, -1e-310, 1e154, 1.3e154, -1e200, 1.7e308, np.inf, -np.inf, np.nan, 0.7])
    arrays = [one.ravel() for one in np.meshgrid(ends, ends, ends)]
    with np.errstate(all="ignore"):
        expected = interpret(codegen.inspect(native).function, arrays)
    for got, wanted in zip(native(*arrays), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-15, atol=1e-323)
        assert np.array_equal(np.signbit(got)[wanted == 0], np.signbit(wanted)[wanted == 0])


def test_what_is_known_of_divisors() -> None:
    def let(name: int, op: str, *args: int, attr: Any = None, dtype: str = "f64") -> Let:
        return Let(name, op, args, dtype, attr)

    stmts = [
        let(1, "const", attr=Fraction(1, 3)), let(2, "add", 0, 1), let(3, "mul", 2, 2), let(4, "mul", 2, 0),
        let(5, "sub", 0, 9), let(6, "sqrt", 0), let(7, "neg", 3), let(8, "add", 3, 6), let(10, "exp", 0),
        let(11, "const", attr=0), let(12, "add", 0, 11), let(13, "const", attr=Fraction(1, 10**300)),
        let(14, "add", 0, 13), let(15, "const", attr=1, dtype="f32"), let(16, "sub", 0, 15, dtype="f32"),
        let(17, "const", attr=Fraction(1, 2**80), dtype="f32"), let(18, "add", 0, 17, dtype="f32"),
    ]  # fmt: skip
    known = never_denormal(stmts)
    assert known.keys() == {1, 2, 3, 6, 7, 8, 15, 16}
    assert all(exponent > (-126 if name > 14 else -1022) for name, exponent in known.items())
