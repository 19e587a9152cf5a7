"""NaN, infinities, denormals and signed zeros through every elementwise op and through fused kernels: native code, with
`fastmath` and without, gives what NumPy gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import codegen
import symdiff as sd
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import named
from symdiff.ir.text import parse_function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

pytest.importorskip("llvmlite")

Array = NDArray[np.floating]
POINTS = np.array([
    np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-310, -2.5e-308, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 745.5,
    -745.5, 1e-20, 710.0, 1e308, -1e308,
])  # fmt: skip
ELEMENTWISE = [
    name for name, op in OPSET.items()
    if op.sample.intervals and name not in ("lgamma", "digamma") and op.arity == len(op.sample.intervals)
]  # fmt: skip
# lgamma and digamma: test_vmath, since the reference is off by some ulp and is not C's at -inf.
EITHER_ZERO = {"maximum", "minimum", "clip"}
"""Of two zeros either may come back, as in NumPy."""


def same(got: Array, expected: Array, zeros: bool = True) -> NDArray[np.bool_]:
    """Equal down to the sign of zero, both NaN, or ordinary and close."""
    got, expected = np.asarray(got), np.asarray(expected)
    if expected.dtype.kind != "f":
        return got == expected
    close = np.abs(got - expected) <= 64 * np.finfo(got.dtype).eps * np.abs(expected)
    close |= np.abs(got - expected) <= 2 * float(np.finfo(got.dtype).smallest_subnormal)
    equal = (got == expected) | (np.isfinite(got) & np.isfinite(expected) & close)
    signs = np.signbit(got) == np.signbit(expected) if zeros else np.True_
    return (np.isnan(got) & np.isnan(expected)) | (equal & (signs | (expected != 0)))


@pytest.mark.parametrize("fastmath", [False, True])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_ops(name: str, dtype: str, fastmath: bool) -> None:
    op, arity = OPSET[name], len(OPSET[name].sample.intervals)
    with np.errstate(all="ignore"):
        points = POINTS.astype(np.float64 if dtype == "f64" else np.float32)
        args = [np.array(column) for column in zip(*itertools.product(points, repeat=arity), strict=True)]
        builder = Builder(OPSET)
        params = tuple(builder.param(f"x{i}", TensorType(dtype, (named("n"),))) for i in range(arity))
        function = builder.function(list(params), [builder.make(op, params)])
        native = codegen.compile(function, opt=1, single=True, fastmath=fastmath)
        (expected,) = interpret(function, args)
        wrong = ~same(native(*args), expected, zeros=not fastmath and name not in EITHER_ZERO)
    assert not wrong.any(), [(*(a[wrong][0] for a in args), native(*args)[wrong][0], expected[wrong][0])]


FUSED: dict[str, Any] = {
    "differences": lambda x, y: (x - x) + (y - y) * 2,
    "products": lambda x, y: x * y + x * (y - y),
    "quotients": lambda x, y: x / y - (x + y) / x,
    "extrema": lambda x, y: np.maximum(x, y) - np.minimum(y, x) * 2,
    "branches": lambda x, y: np.where(x > y, np.sqrt(np.abs(x)), np.log(y)),
    "tests": lambda x, y: np.where(x == x, y, 3.0) + np.where(x - x == 0, 0.0, 1.0),
    "transcendental": lambda x, y: np.exp(x) * np.sin(y) + np.tanh(x),
    "powers": lambda x, y: np.power(x, 3) - np.power(y, 2),
    "absolute": lambda x, y: np.abs(x) * np.sign(y),
}


@pytest.mark.parametrize("fastmath", [False, True])
@pytest.mark.parametrize("name", FUSED)
def test_fused_kernels(name: str, fastmath: bool) -> None:
    """Operations as they are written. 1e308 is left out: a product that rounds with its sum overflows later."""
    x, y = (np.array(c) for c in zip(*itertools.product(POINTS[:-2], repeat=2), strict=True))
    a, b = sd.symbol("x", (sd.dim("n"),)), sd.symbol("y", (sd.dim("n"),))
    function = parse_function(str(FUSED[name](a, b).ir()), OPSET)
    order = [{"x": x, "y": y}[p.name] for p in function.params]
    with np.errstate(all="ignore"):
        expected = FUSED[name](x, y)
        got = codegen.compile(function, opt=2, single=True, fastmath=fastmath)(*order)
        # A product that rounds with its sum is not lost below the denormals.
        tiny = (np.abs(expected) < 1e-290) & (np.abs(got) < 1e-290)
        wrong = ~(same(got, expected, zeros=False) | tiny)
    assert not wrong.any(), (x[wrong][0], y[wrong][0], got[wrong][0], expected[wrong][0])


@pytest.mark.parametrize("length", [4, 37, 1030])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 5e-324])
def test_reductions(value: float, length: int) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(3, length))
    a[1, length // 2] = value
    if value == 0 or abs(value) < 1:
        a[:] = value
    programs = (
        lambda a: np.max(a, axis=1), lambda a: np.min(a, axis=0), lambda a: np.argmax(a, axis=1),
        lambda a: np.argmin(a, axis=1), lambda a: np.sum(a, axis=1), lambda a: np.prod(a, axis=0),
        lambda a: np.mean(a), lambda a: np.cumsum(a, axis=1), lambda a: np.max(np.abs(a)) + np.sum(a - a),
    )  # fmt: skip
    for program in programs:
        with np.errstate(all="ignore"):
            got, expected = sd.jit(program)(a), program(a)
            close = np.abs(np.asarray(got) - expected) <= 1e-12 * np.abs(a[np.isfinite(a)]).sum()
            right = same(got, expected, zeros=False) | close
        assert np.all(right), (got, expected)


def test_a_zero_keeps_its_sign_where_it_is_broadcast() -> None:
    """The interpreter summed over the axis of size 1, and 0 + -0 is 0."""
    x = sd.symbol("x", (1, 2))
    spread: Any = np.broadcast_to(np.ceil(x), (3, 2))
    at = np.array([[-0.25, 0.25]])
    for got in (sd.evaluate(spread, {"x": at}), sd.compile(spread, [x])(at)):
        assert np.signbit(got).tolist() == [[True, False]] * 3


def test_numbers_that_no_float_reaches() -> None:
    """What constants come to when they meet, in every way of computing it."""
    x = sd.symbol("x", (2,))
    point = np.array([1.0, -2.0])
    for e, want in ((x * 1e308 * 1e10, point * np.inf), (x * 1e-308 * 1e-300, point * 0)):
        found = sd.simplify(e)
        for got in (e.evaluate(x=point), found.evaluate(x=point), sd.compile(found, [x])(point)):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(eval(found.source(), {"np": np, "x": point}), want)
        for target in ("c", "jax", "torch", "julia", "sympy"):
            assert found.source(target)


_n, _b = sd.dims("n b")
_A, _T, _v = sd.symbol("A", (_n, _n)), sd.symbol("T", (_b, _n, _n)), sd.symbol("v", (_n,))
_s, _z = sd.symbol("s"), sd.symbol("z", (_b,))
_UPPER = np.where(np.tri(3) > 0, 1.5, np.nan)
_NP: Any = np
TRIANGLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "by a number": (_NP.tril(_A / _s), {"s": 0.0}),
    "upper by a number": (_NP.triu(_A / _s), {"s": 0.0}),
    "of NaN": (_NP.tril(2 * _A), {"A": _UPPER}),
    "stacked": (_NP.tril(_NP.exp(_T)), {"T": np.stack([_UPPER, _UPPER])}),
    "stacked by numbers": (_NP.tril(_T / _z[:, None, None]), {"z": np.zeros(2)}),
    "stacked with a vector": (_NP.tril(_T) @ _v, {"T": np.stack([_UPPER, _UPPER])}),
    "gradient": (
        sd.gradient(_NP.sum(_NP.tril(_NP.log(_T)) ** 2), _T), {"T": np.where(np.tri(3) > 0, [[[1.5]]] * 2, -1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIANGLES)
def test_triangles_are_zero_where_nothing_was_finite(name: str) -> None:
    form, given = TRIANGLES[name]
    rng = np.random.default_rng(2)
    symbols = {"A": _A, "T": _T, "v": _v, "s": _s, "z": _z}
    values = {k: given.get(k, rng.normal(size=[{"n": 3, "b": 2}[str(a)] for a in v.shape])) for k, v in symbols.items()}
    with np.errstate(all="ignore"):
        want = form.evaluate(values)
    np.testing.assert_allclose(sd.compile(form, list(symbols.values()))(*values.values()), want, rtol=1e-12)
    assert np.any(want == 0) or name == "stacked with a vector"


def test_stacks_of_triangles_are_printed_as_triangles() -> None:
    assert sd.simplify(_NP.tril(_NP.exp(_T))).source() == "np.tril(np.exp(T))"
