"""Wrong, empty, strange and extreme input: every case has a defined answer, and refusals say what was wanted."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from crowd import together

import symdiff

# Wrong types are given on purpose.
sd: Any = symdiff

k, m, n = sd.dims("k m n")
W, A = sd.symbol("W", (m, n)), sd.symbol("A", (n, n))
x, y, v3 = sd.symbol("x", (n,)), sd.symbol("y", (m,)), sd.symbol("v3", (3,))
t, i = sd.symbol("t"), sd.symbol("i", (k,), "i64")
f = np.sum((W @ x - y) ** 2)
W0, x0, y0 = np.arange(6.0).reshape(2, 3), np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0])
EMPTY = np.zeros(0)
TAKE: Any = np.take(x, i)

Case = tuple[str, Callable[[], Any], type[Exception], str]
REFUSED: list[Case] = [
    # derivatives
    ("gradient of an array", lambda: sd.gradient(W @ x, x), sd.ShapeError, r"shape \(m,\), expected a scalar; use jac"),
    ("gradient of a number", lambda: sd.gradient(3.0, x), sd.ArgumentError, "given 3.0 of type float, expected"),
    ("gradient in a string", lambda: sd.gradient(f, "x"), sd.ArgumentError, "variable: given 'x'"),
    ("gradient in integers", lambda: sd.gradient(f, i), sd.DerivativeError, "i has dtype i64"),
    ("gradient of integers", lambda: sd.gradient(np.argmax(x), x), sd.DerivativeError, "function has dtype i64"),
    ("mode", lambda: sd.gradient(f, x, mode="sideways"), sd.ArgumentError, "'sideways': expected one of auto"),
    ("jacobian of numbers", lambda: sd.jacobian(np.ones(3), x), sd.ArgumentError, "jacobian: given array"),
    ("jacobian in nothing", lambda: sd.jacobian(W @ x, None), sd.ArgumentError, "no variable is given"),
    ("hessian without variable", lambda: sd.hessian(f), sd.ArgumentError, r"call it as hessian\(f, x\)"),
    ("tangent", lambda: sd.jvp(W @ x, x, y), sd.ShapeError, r"tangent of shape \(m,\), expected \(n,\)"),
    ("tangents", lambda: sd.jvp(W @ x, [x], [x, x]), sd.ArgumentError, "2 tangents given, expected 1"),
    ("cotangent", lambda: sd.vjp(W @ x, x, x), sd.ShapeError, r"cotangent of shape \(n,\), expected \(m,\)"),
    ("vector", lambda: sd.hvp(f, x, y), sd.ShapeError, r"shape \(m,\), expected \(n,\)"),
    ("hvp of an array", lambda: sd.hvp(W @ x, x, x), sd.ShapeError, "expected a scalar"),
    ("derivation of a number", lambda: sd.derivation(3, x), sd.ArgumentError, "derivation: given 3"),
    ("derivation in a number", lambda: sd.derivation(f, 3), sd.ArgumentError, "derivation: given 3"),
    ("compare", lambda: sd.compare(f, 3), sd.ArgumentError, "given 3, expected symbolic"),
    ("compare at some sizes", lambda: sd.compare(f, x, sizes={"m": 3}), sd.ArgumentError, "leave out n"),
    ("verify shapes", lambda: sd.verify(f, W), sd.ShapeError, r"shapes \(\) and \(m, n\), expected equal"),
    ("verify a number", lambda: sd.verify(f, 3), sd.ArgumentError, "verify: given 3 of type int"),
    ("verify nowhere", lambda: sd.verify(x, x, points=0), sd.ArgumentError, "points: given 0, expected a whole number"),
    ("simplify a number", lambda: sd.simplify(3), sd.ArgumentError, "simplify: given 3"),
    # compile
    ("unlisted symbol", lambda: sd.compile(f, [W, x]), sd.ArgumentError, "y f64.m. is used but not among"),
    ("no list of inputs", lambda: sd.compile(f, W), sd.ArgumentError, "expected a list of symbols"),
    ("no inputs", lambda: sd.compile(f, None), sd.ArgumentError, "given None as the inputs"),
    ("expression as input", lambda: sd.compile(f, [W, x, y, W @ x]), sd.ArgumentError, "expected a symbol"),
    ("number as output", lambda: sd.compile(3, [W]), sd.ArgumentError, "given 3 as an output"),
    ("input twice", lambda: sd.compile(f, [W, x, y, x]), sd.ArgumentError, "parameter x is listed twice"),
    ("one name, two symbols", lambda: sd.compile(np.sum(x) + np.sum(sd.symbol("x", (m,))), [x]), sd.ArgumentError,
     "parameter x|x f64"),
    # symbols and dimensions
    ("negative size", lambda: sd.symbol("q", (-1,)), sd.ArgumentError, "negative size"),
    ("negative zeros", lambda: sd.zeros(-1), sd.ArgumentError, "negative size"),
    ("fractional size", lambda: sd.symbol("q", (2.5,)), sd.ArgumentError, "2.5, expected an integer or a dimension"),
    ("size by name", lambda: sd.symbol("q", ("n",)), sd.ArgumentError, "'n', expected an integer or a dimension"),
    ("dtype", lambda: sd.symbol("q", (n,), "f16"), sd.DtypeError, "dtype f16: expected float64"),
    ("name", lambda: sd.symbol("x y"), sd.ArgumentError, "'x y': expected an identifier"),
    ("name of no string", lambda: sd.symbol(3), sd.ArgumentError, "3: expected an identifier"),
    ("keyword", lambda: sd.symbol("lambda"), sd.ArgumentError, "'lambda' is a word of Python"),
    ("dimension name", lambda: sd.dim("1"), sd.ArgumentError, "'1': expected an identifier"),
    ("fact", lambda: sd.symbol("q", (n,), shiny=True), sd.ArgumentError, "unknown fact 'shiny', expected one of"),
    ("square fact", lambda: sd.symbol("q", (m, n), symmetric=True), sd.ArgumentError, "needs a square matrix"),
    # shapes and indices
    ("matmul", lambda: W @ y, sd.ShapeError, r"\(m, n\) and \(m,\) do not fit \(sizes n and m\)"),
    ("broadcast", lambda: W + y, sd.ShapeError, r"do not broadcast \(sizes n and m\)"),
    ("numbers of a fixed size", lambda: np.zeros(3) + x, sd.ShapeError, r"\(3,\) and \(n,\)"),
    ("index", lambda: v3[7], sd.ArgumentError, "index 7 is out of range for axis 0 of size 3"),
    ("too many indices", lambda: v3[0, 0], sd.ArgumentError, r"2 indices for an array of shape \(3,\)"),
    ("fractional index", lambda: x[5.0], sd.ArgumentError, "index 5.0 of axis 0"),
    ("index array", lambda: v3[[0, 5]], sd.ArgumentError, "index 5 is out of range"),
    ("fractional index array", lambda: v3[np.array([0.5])], sd.DtypeError, "expected integers or booleans"),
    ("symbolic mask", lambda: x[x > 0], sd.UnsupportedError, "size that depends on values"),
    ("axis", lambda: np.sum(x, axis=3), sd.ArgumentError, "axis 3 is out of range for rank 1"),
    ("reshape", lambda: v3.reshape(2, 2), sd.ShapeError, r"\(3 elements\) to \(2, 2\) \(4 elements\)"),
    ("einsum", lambda: np.einsum("i", W), sd.ShapeError, "1 labels"),
    ("no square", lambda: np.linalg.inv(W), sd.ShapeError, "expected square matrices"),
    ("right side", lambda: np.linalg.solve(A, y), sd.ShapeError, "expected n rows"),
    ("set", lambda: sd.set(v3, slice(0, 2), np.ones(3)), sd.ShapeError, r"\(3,\) does not fit \(2,\)"),
    ("set at", lambda: sd.set(v3, 7, 1.0), sd.ArgumentError, "index 7 is out of range"),
    ("add_at", lambda: sd.add_at(v3, 0, x), sd.ShapeError, r"\(n,\) does not fit \(\)"),
    ("add_at a string", lambda: sd.add_at(v3, 0, "s"), sd.DtypeError, "'s'"),
    # what Python or NumPy would do with numbers
    ("assignment", lambda: x.__setitem__(0, 1), sd.UnsupportedError, r"sd.set\(x, index, value\)"),
    ("if", lambda: bool(t > 0), sd.UnsupportedError, "np.where"),
    ("math.sin", lambda: float(t), sd.UnsupportedError, r"float\(\) needs a number, but t is symbolic"),
    ("iteration", lambda: list(x), sd.SymbolicSizeError, "axis 0 has the symbolic size n"),
    ("len", lambda: len(x), sd.SymbolicSizeError, r"use x.shape\[0\]"),
    ("in", lambda: t in x, sd.UnsupportedError, "use np.any"),
    ("array of expressions", lambda: np.array([x, x]), sd.UnsupportedError, "use np.stack"),
    ("objects", lambda: sd.constant(np.array([object()])), sd.DtypeError, "array of Python objects"),
    ("complex", lambda: x + 1j, sd.DtypeError, "complex numbers are not supported"),
    ("np.sort", lambda: np.sort(x), sd.UnsupportedError, "np.sort is not defined for symbolic arrays"),
    ("np.fft", lambda: np.fft.fft(x), sd.UnsupportedError, "np.fft.fft is not defined"),
    ("out", lambda: np.sin(x, out=np.zeros(3)), sd.UnsupportedError, "write a = a"),
    ("option", lambda: np.sum(x, initial=1), sd.UnsupportedError, "argument initial=1 is not supported"),
    ("a method of arrays", lambda: x.sort(), sd.UnsupportedError,
     "x.sort is not defined .* np.argsort of the numbers"),
    ("a method that is a function", lambda: x.searchsorted(0), sd.UnsupportedError,
     r"use np.searchsorted\(x"),
    ("memory", lambda: x.nbytes, AttributeError, "x.nbytes is not defined .* they have no memory"),
    ("a format", lambda: f"{x[0]:.2f}", sd.UnsupportedError,
     "the format '.2f' needs a number, .* print the results"),
    ("a ufunc of one's own", lambda: np.frompyfunc(abs, 1, 1)(x), sd.UnsupportedError,
     r"the ufunc abs \(vectorized\) is not"),
    ("slope in integers", lambda: sd.grad(lambda v: np.sum(v * 2.0))(np.arange(3)), sd.DerivativeError,
     r"grad: argument 0 \(v\) has dtype int64: only floats have derivatives; give it as floats"),
    ("jvp in integers", lambda: sd.jvp(np.sum, (np.arange(3),), (np.arange(3),)), sd.DerivativeError,
     "jvp: argument 0 has dtype int64"),
    ("a name that Python reads otherwise", lambda: sd.symbol("x\u1d62", (n,)), sd.ArgumentError,
     "Python reads it as 'xi'"),
    ("a dimension that Python reads otherwise", lambda: sd.dim("\u03d5"), sd.ArgumentError,
     "Python reads it as '\u03c6'"),
    ("a symbol named as its size", lambda: np.mean(sd.symbol("n", (n,))).source(), sd.ArgumentError,
     "n is a symbol and a dimension"),
    ("bits", lambda: x & x, sd.DtypeError, "booleans only"),
    # text
    ("unbalanced", lambda: sd.parse("sum(x", {"x": x}), sd.ParseError, r"never closed(.|\n)*\^"),
    ("empty text", lambda: sd.parse("", {}), sd.ParseError, "the text is empty"),
    ("unknown name", lambda: sd.parse("q + 1", {"x": x}), sd.ParseError, "unknown name q; names given: x"),
    ("import", lambda: sd.parse("__import__('os')", {"x": x}), sd.ParseError, "__import__ is not available"),
    ("dunder", lambda: sd.parse("x.__class__", {"x": x}), sd.ParseError, "attribute .__class__ is not available"),
    ("lambda", lambda: sd.parse("lambda q: q", {"x": x}), sd.ParseError, "'lambda' is not supported"),
    ("statements", lambda: sd.parse("x; x", {"x": x}), sd.ParseError, "unexpected character ';'"),
    ("eval", lambda: sd.parse("eval(x)", {"x": x}), sd.ParseError, "unknown name eval"),
    ("shapes in text", lambda: sd.parse("x @ W", {"x": x, "W": W}), sd.ShapeError, r"do not fit(.|\n)*x @ W\n +\^"),
    ("no text", lambda: sd.parse(5, {"x": x}), sd.ParseError, "given int, expected text"),
    ("no symbols", lambda: sd.parse("x", 5), sd.ArgumentError, "symbols: given 5"),
    ("from_sympy", lambda: sd.from_sympy("x"), sd.ArgumentError, "expected a SymPy expression"),
    # evaluate
    ("missing value", lambda: f.evaluate(W=W0, x=x0), sd.ArgumentError, "no value given for y; given: W, x"),
    ("dimension", lambda: f.evaluate(W=W0, x=np.ones(4), y=y0), sd.ShapeError, "n is 4 here .* but 3 in W"),
    ("rank", lambda: f.evaluate(W=W0, x=np.ones((3, 1)), y=y0), sd.ShapeError, r"expected shape \(n,\), given \(3, 1"),
    ("strings", lambda: f.evaluate(W=W0, x=["a"] * 3, y=y0), sd.DtypeError, "x: expected numbers"),
    ("nones", lambda: f.evaluate(W=W0, x=[None] * 3, y=y0), sd.DtypeError, "x: expected numbers"),
    ("fractions as indices", lambda: TAKE.evaluate(x=x0, i=[0.5]), sd.DtypeError, "i: expected numbers of dtype i64"),
    ("unknown size", lambda: sd.ones((n,)).evaluate(), sd.ShapeError, "no size is known for n"),
    ("evaluate a number", lambda: sd.evaluate(3, {}), sd.ArgumentError, "evaluate: given 3"),
    ("undefined function", lambda: sd.evaluate(sd.function("g")(x), {"x": x0}), sd.EvaluationError, "g has no values"),
    # checks
    ("check an expression", lambda: sd.check_gradient(f, 3), sd.ArgumentError, "expected a function over NumPy"),
    ("check an array", lambda: sd.check_gradient(lambda x: x, x0), sd.ShapeError, "expected a scalar"),
    ("check at nan", lambda: sd.check_gradient(np.sum, np.array([1, np.nan])), sd.ArgumentError, "nan, expected fin"),
    ("check no point", lambda: sd.check_gradient(np.sum), sd.ArgumentError, "no point is given"),
    ("check argument", lambda: sd.check_gradient(np.sum, x0, argnums=3), sd.ArgumentError, "argnums 3 for 1 arguments"),
    ("check shape", lambda: sd.check_gradient(np.sum, x0, gradient=y0), sd.ShapeError, r"shape \(2,\), expected \(3"),
    # transforms
    ("grad of an array", lambda: sd.grad(lambda x: x)(x0), sd.ShapeError, r"shape \(3,\), expected a scalar"),
    ("grad in integers", lambda: sd.grad(lambda x: np.sum(x * x))(np.arange(3)), sd.DerivativeError, "int64"),
    ("argnums", lambda: sd.grad(lambda x: x * x, argnums=2)(3.0), sd.ArgumentError, "argnums 2 for 1 arguments"),
    ("jit of objects", lambda: sd.jit(lambda x: x)(np.array([None])), sd.DtypeError, "dtype object"),
    ("jit of a string", lambda: sd.jit(lambda x: x)("a"), sd.DtypeError, "static_argnums"),
    ("branch", lambda: sd.jit(lambda x: x if x > 0 else -x)(1.0), sd.UnsupportedError, "np.where"),
    ("vmap sizes", lambda: sd.vmap(lambda x, y: x * y)(np.ones((3, 2)), np.ones((4, 2))), sd.ShapeError, "sizes 3, 4"),
    ("vmap axis", lambda: sd.vmap(lambda x: x, in_axes=5)(x0), sd.ArgumentError, "axis 5"),
    ("jvp of a function", lambda: sd.jvp(lambda x: x**2, (x0,), (y0,)), sd.ShapeError, r"\(2,\), expected \(3,\)"),
    ("vjp of a function", lambda: sd.vjp(lambda x: x**2, (x0,), y0), sd.ShapeError, r"\(2,\), expected \(3,\)"),
    # printing
    ("target", lambda: f.source("fortran"), sd.ArgumentError, "'fortran'"),
    ("layout", lambda: f.latex(layout="sideways"), sd.ArgumentError, "'numerator' or 'denominator'"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(case: Case) -> None:
    _, call, error, message = case
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, sd.SymdiffError)


def test_what_is_odd_and_allowed() -> None:
    assert str(sd.gradient(f, t)) == "0"
    assert sd.gradient(f, sd.symbol("unused", (m, n))).shape == (m, n)
    assert sd.gradient(f, []) == []
    assert sd.gradient(f, {}) == {}
    assert sd.parse("(" * 3000 + "x" + ")" * 3000, {"x": x}).shape == (n,)
    assert sd.grad(lambda x, y: np.sum(x), argnums=(0, 1))(x0, y0)[1].tolist() == [0.0, 0.0]
    assert sd.grad(lambda x: 3.0)(x0).tolist() == [0.0, 0.0, 0.0]


def test_symbols_of_one_name_are_told_apart_by_type() -> None:
    other = sd.symbol("x", (m,))
    assert other is not x and sd.symbol("x", (n,)).value is x.value
    both = np.sum(x) + np.sum(other)
    with pytest.raises(sd.ArgumentError, match="parameter x is listed twice"):
        both.evaluate(x=x0)
    assert np.array_equal(sd.gradient(both, x).evaluate({}, {"n": 3}), np.ones(3))


# -------------------------------------------------------------------- compiled calls
FN = sd.compile([f, sd.gradient(f, W)], [W, x, y])
SQUARES = sd.compile(np.sum(x**2), [x])
SPREAD = sd.compile(sd.zeros((n,)) + t, [t])
CALLS: list[Case] = [
    ("disagreeing", lambda: FN(W0, x0, np.ones(3)), sd.ShapeError, r"y: dimension m is 3 here .* but 2 in W"),
    ("transposed", lambda: FN(W0.T, x0, y0), sd.ShapeError, "x: dimension n is 3 here .* but 2 in W"),
    ("rank", lambda: SQUARES(np.ones((2, 2))), sd.ShapeError, r"x: expected shape \(n,\), given \(2, 2\)"),
    ("scalar", lambda: SQUARES(5), sd.ShapeError, r"expected shape \(n,\), given \(\)"),
    ("count", lambda: SQUARES(x0, x0), sd.SymdiffError, "expected 1 argument .x., given 2"),
    ("none", lambda: SQUARES(), sd.SymdiffError, "expected 1 argument .x., given 0"),
    ("keyword", lambda: SQUARES(z=x0), sd.SymdiffError, "unexpected keyword 'z'"),
    ("complex", lambda: SQUARES(np.ones(2, complex)), TypeError, "imaginary part would be lost"),
    ("long double", lambda: SQUARES(np.ones(2, np.longdouble)), TypeError, "precision would be lost"),
    ("objects", lambda: SQUARES(np.array([1, 2], object)), TypeError, "dtype object"),
    ("strings", lambda: SQUARES(np.array(["a"])), TypeError, "given ndarray of dtype <U1"),
    ("expression", lambda: SQUARES(x), TypeError, "given Expression"),
    ("masked", lambda: SQUARES(np.ma.array([1.0, 2.0], mask=[False, True])), TypeError, "fill it first"),
    ("huge", lambda: SPREAD(10**400, sizes={"n": 2}), TypeError, "too large"),
    ("unknown size", lambda: SPREAD(3.0), TypeError, "no argument shows the size of n; call with sizes="),
    ("negative size", lambda: SPREAD(3.0, sizes={"n": -2}), TypeError, "n cannot have the size -2"),
    ("other size", lambda: FN(W0, x0, y0, sizes={"m": 5}), sd.ShapeError, "m is 2 here .* but 5 in sizes"),
    ("out count", lambda: FN(W0, x0, y0, out=np.ones(3)), TypeError, "out: expected a tuple of 2 arrays"),
    ("out shape", lambda: FN(W0, x0, y0, out=(None, np.ones((3, 2)))), sd.ShapeError, r"shape \(2, 3\), given"),
    ("out dtype", lambda: FN(W0, x0, y0, out=(None, np.ones((2, 3), "f4"))), TypeError, "dtype float64, given"),
    ("out read-only", lambda: FN(W0, x0, y0, out=(None, np.broadcast_to(1.0, (2, 3)))), ValueError, "read-only"),
]  # fmt: skip


@pytest.mark.parametrize("case", CALLS, ids=[c[0] for c in CALLS])
def test_refused_calls(case: Case) -> None:
    _, call, error, message = case
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, sd.SymdiffError)


TAKEN: dict[str, Any] = {
    "list": [1, 2, 3],
    "integers": np.array([1, 2, 3]),
    "small integers": np.array([1, 2, 3], np.int8),
    "booleans": np.array([True, False]),
    "single": np.array([1, 2], np.float32),
    "half": np.array([1, 2], np.float16),
    "big-endian": np.array([1.5, 2], ">f8"),
    "big-endian integers": np.array([1, 2], ">i4"),
    "unaligned": np.frombuffer(b"\0" + np.array([1.5, 2.5]).tobytes(), np.uint8)[1:].view(np.float64),
    "backwards": np.arange(6.0)[::-2],
    "broadcast": np.broadcast_to(2.0, (4,)),
    "column": np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, 1],
    "nan": np.array([np.nan, 1.0]),
    "inf": np.array([np.inf, -np.inf]),
    "empty": EMPTY,
}


@pytest.mark.parametrize("name", TAKEN)
def test_arrays_of_all_kinds(name: str) -> None:
    given = TAKEN[name]
    want = np.sum(np.asarray(given, np.float64) ** 2)
    np.testing.assert_array_equal(SQUARES(given), want)
    np.testing.assert_array_equal(np.sum(x**2).evaluate(x=np.asarray(given, np.float64)), want)


LAYOUTS = [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1].copy()[::-1]]


@pytest.mark.parametrize("change", LAYOUTS, ids=["by columns", "spread out", "upside down"])
def test_layouts_change_no_number(change: Callable[[Any], Any]) -> None:
    value, grad = FN(W0, x0, y0)
    other, turned = FN(change(W0), change(x0), change(y0))
    assert value == other and np.array_equal(grad, turned)
    frozen = W0.copy()
    frozen.flags.writeable = False
    assert np.array_equal(FN(frozen, x0, y0)[1], grad)


# -------------------------------------------------------------------- empty arrays
ZEROS: dict[str, tuple[Any, float]] = {
    "sum": (np.sum(x), 0.0), "prod": (np.prod(x), 1.0), "mean": (np.mean(x), np.nan),
    "logsumexp": (sd.logsumexp(x), -np.inf), "norm": (np.linalg.norm(x), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ZEROS)
def test_reductions_of_nothing(name: str) -> None:
    e, want = ZEROS[name]
    g = sd.gradient(e, x)
    np.testing.assert_array_equal(e.evaluate(x=EMPTY), want)
    value, grad = sd.compile([e, g], [x])(EMPTY)
    np.testing.assert_array_equal(value, want)
    assert grad.shape == g.evaluate({"x": EMPTY}, {"n": 0}).shape == (0,)


@pytest.mark.parametrize("choose", [np.max, np.min, np.argmax, np.argmin])
def test_the_largest_of_nothing_is_refused(choose: Callable[[Any], Any]) -> None:
    e: Any = choose(x)
    with pytest.raises(sd.EvaluationError, match=r"^(reduce_|arg)(max|min):"):
        e.evaluate(x=EMPTY)
    with pytest.raises(sd.EvaluationError, match=r"(reduce_|arg)(max|min): no elements to choose from"):
        sd.compile(e, [x])(EMPTY)


@pytest.mark.parametrize("rank", [1, 5, 6, 8])
def test_arrays_of_many_axes(rank: int) -> None:
    shape = tuple(range(1, rank))[-3:] + (2,) * (rank - min(3, rank - 1))
    q = sd.symbol("q", tuple([sd.dim(f"n{axis}") for axis in range(rank)]))
    at = np.random.default_rng(rank).normal(size=shape[::-1]).T
    e = np.swapaxes(np.sin(q), 0, -1)
    native = sd.compile([e, sd.gradient(np.sum(e**2), q)], [q])
    turned, grad = native(at)
    np.testing.assert_allclose(turned, np.swapaxes(np.sin(at), 0, -1), rtol=1e-13)
    np.testing.assert_allclose(grad, np.sin(2 * at), rtol=1e-12, atol=1e-14)


def test_gradients_of_empty_arrays_have_their_shapes() -> None:
    grads = sd.gradient(f, [W, x, y])
    native = sd.compile(grads, [W, x, y])
    for rows, columns in ((0, 3), (2, 0), (0, 0)):
        arrays = {"W": np.ones((rows, columns)), "x": np.ones(columns), "y": np.ones(rows)}
        for got, g in zip(native(*arrays.values()), grads, strict=True):
            assert np.array_equal(got, g.evaluate(arrays))


# -------------------------------------------------------------------- values that do not fit, found while running
RUNS: list[tuple[str, Any, dict[str, Any], str]] = [
    ("index too large", TAKE, {"x": x0, "i": np.array([0, 3])}, "^gather:"),
    ("index too small", TAKE, {"x": x0, "i": np.array([-4])}, "^gather:"),
    ("index of nothing", TAKE, {"x": EMPTY, "i": np.array([0])}, "^gather:"),
    ("index, backwards", sd.gradient(np.sum(TAKE**2), x), {"x": x0, "i": np.array([3])}, "^gather:"),
    ("add_at", sd.add_at(x, i, 1.0), {"x": x0, "i": np.array([1, 5])}, "^scatter_add:"),
    ("set", sd.set(x, i, 1.0), {"x": x0, "i": np.array([7])}, "^last_writer:"),
    ("slice", x[2:5], {"x": x0}, "^slice: 3 elements from 2"),
    ("element", x[5], {"x": x0}, "^slice: 1 elements from 5"),
    ("one behind the last", x[n], {"x": x0}, "^slice: 1 elements from 3"),
    ("inverse", np.linalg.inv(A), {"A": np.ones((2, 2))}, "^inverse: Singular matrix"),
    ("solve", np.linalg.solve(A, x), {"A": np.zeros((2, 2)), "x": np.ones(2)}, "^solve: Singular matrix"),
    ("cholesky", np.linalg.cholesky(A), {"A": -np.eye(2)}, "^cholesky: Matrix is not positive definite"),
]


@pytest.mark.parametrize("case", RUNS, ids=[c[0] for c in RUNS])
def test_refused_while_running(case: tuple[str, Any, dict[str, Any], str]) -> None:
    _, e, arrays, message = case
    with pytest.raises(sd.EvaluationError, match=message):
        e.evaluate(arrays)
    symbols = {s.value.name: s for s in e.symbols()}
    native = sd.compile(e, [symbols[name] for name in arrays])
    with pytest.raises(sd.EvaluationError, match=message):
        native(**arrays)


@pytest.mark.parametrize("e", [x[7:], x[:-7], x[1:-1][1:-1]], ids=["far", "near", "inside"])
def test_slices_that_would_be_shorter_than_nothing(e: Any) -> None:
    with pytest.raises(sd.SymdiffError, match=r"slice: .*-"):
        e.evaluate(x=x0)
    with pytest.raises(sd.SymdiffError, match=r"slice: .*-"):
        sd.compile(e, [x])(x0)


def test_nan_goes_through_as_in_numpy() -> None:
    cases: dict[str, Any] = {
        "maximum": np.maximum(x, 0.0), "max": np.max(x), "clip": np.clip(x, -1, 1), "argmax": np.argmax(x),
        "where": np.where(x > 0, x, -x), "abs": np.abs(x), "sign": np.sign(x), "cumsum": np.cumsum(x),
        "relu": sd.relu(x), "inverse": np.linalg.inv(np.outer(x, x)),
    }  # fmt: skip
    at = np.array([1.0, np.nan, -3.0])
    want = {
        "maximum": np.maximum(at, 0.0), "max": np.nan, "clip": np.clip(at, -1, 1), "argmax": 1,
        "where": np.where(at > 0, at, -at), "abs": np.abs(at), "sign": np.sign(at), "cumsum": np.cumsum(at),
        "relu": None, "inverse": np.full((3, 3), np.nan),
    }  # fmt: skip
    for name, e in cases.items():
        own = e.evaluate(x=at)
        np.testing.assert_array_equal(sd.compile(e, [x])(at), own, err_msg=name)
        if want[name] is not None:
            np.testing.assert_array_equal(own, want[name], err_msg=name)


# -------------------------------------------------------------------- single precision
def test_single_precision_from_end_to_end() -> None:
    q = sd.symbol("q", (n,), "f32")
    e = np.sum(np.tanh(q) ** 2) * 0.5 + np.mean(q) / 3
    g = sd.gradient(e, q)
    at = np.array([0.5, -1.0, 2.0], np.float32)
    assert e.dtype == g.dtype == g.closed_form().dtype == sd.hessian(e, q).dtype == "f32"
    assert g.evaluate(q=at).dtype == np.float32
    _, native = sd.compile([e, g], [q])(at)
    wide = np.tanh(at.astype(float)) * (1 - np.tanh(at.astype(float)) ** 2) + 1 / 9
    assert native.dtype == np.float32
    np.testing.assert_allclose(native, wide, rtol=1e-6)
    with pytest.raises(TypeError, match="precision would be lost"):
        sd.compile(e, [q])(at.astype(float))

    def plain(x: Any) -> Any:
        return np.sum(np.exp(x) * np.float32(2) + 1)

    for made in (sd.grad(plain)(at), sd.hessian(plain)(at), sd.jit(lambda x: x * 2.5 + np.mean(x))(at)):
        assert made.dtype == np.float32
    assert sd.check_gradient(plain, at)


# -------------------------------------------------------------------- long programs, copies, threads
def test_fifty_thousand_operations() -> None:
    e: Any = t
    want, slope = 0.3, 1.0
    for step in range(25_000):
        e = np.sin(e) + t if step % 2 else e * 1.01
        want, slope = (np.sin(want) + 0.3, np.cos(want) * slope + 1.0) if step % 2 else (want * 1.01, slope * 1.01)
    g = sd.gradient(e, t)
    assert g.evaluate(t=0.3) == pytest.approx(slope, rel=1e-9)
    value, grad = sd.compile([e, g], [t])(0.3)
    assert value == pytest.approx(want, rel=1e-9) and grad == pytest.approx(slope, rel=1e-9)


def test_repeated_squares_print_shared_parts_once() -> None:
    e: Any = t
    for _ in range(60):
        e = np.sin(e) * e + 1
    assert len(str(e)) < 5000


def test_gradients_of_chains_are_printed() -> None:
    e: Any = t
    for step in range(60):
        e = np.sin(e) + t if step % 2 else e * 1.01
    assert "cos" in str(sd.gradient(e, t))


def test_copies_are_the_expression_itself() -> None:
    assert copy.copy(f) is f and copy.deepcopy({"loss": f})["loss"] is f


def test_threads_derive_compile_and_call_at_once() -> None:
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        for turn in range(6):
            scale = number * 10 + turn + 1
            e = np.sum(np.tanh(scale * W @ x) ** 2)
            g = sd.gradient(e, x)
            native = sd.compile([e, g], [W, x])
            z = np.tanh(scale * (W0 @ x0 / 10))
            value, grad = native(W0 / 10, x0)
            np.testing.assert_allclose(value, np.sum(z**2), rtol=1e-12)
            np.testing.assert_allclose(grad, 2 * scale * (z * (1 - z**2)) @ W0 / 10, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(g.evaluate(W=W0 / 10, x=x0), grad, rtol=1e-9, atol=1e-12)

    together(work, [(number,) for number in range(4)])
