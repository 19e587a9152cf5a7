"""The text front end: values against NumPy's own reading of the text, exactness, errors with a caret, hostile input."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from symdiff.errors import ParseError
from symdiff.frontend.expr import dims, symbol
from symdiff.frontend.text import names_in, parse
from symdiff.frontend.undefined import UndefinedFunction
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import topological
from symdiff.ops import OPSET

M, N = dims("m n")
SYMBOLS = {
    "x": symbol("x", (N,)),
    "y": symbol("y", (M,)),
    "W": symbol("W", (M, N)),
    "S": symbol("S", (N, N)),
    "t": symbol("t"),
    "T3": symbol("T3", (M, N, 2)),
    "i": symbol("i", (N,), "i64"),
    "c": symbol("c", (N,), "bool"),
}
SIZES = {"m": 3, "n": 4}
_RNG = np.random.default_rng(11)
VALUES = {
    "x": _RNG.uniform(0.2, 2, 4),
    "y": _RNG.normal(size=3),
    "W": _RNG.normal(size=(3, 4)),
    "S": _RNG.normal(size=(4, 4)) + 3 * np.eye(4),
    "t": np.float64(0.7),
    "T3": _RNG.normal(size=(3, 4, 2)),
    "i": np.array([2, 0, 1, 2]),
    "c": np.array([True, False, False, True]),
}


def value_of(expr, values=VALUES, sizes=SIZES):
    params = [v for v in topological([expr.value]) if v.is_param]
    function = Builder(OPSET).function(params, [expr.value])
    return interpret(function, [values[p.name] for p in params], sizes)[0]


def by_numpy(text):
    """The text read by Python over arrays: the independent meaning. Only the fixed texts below come here."""
    names = {
        "np": np,
        "numpy": np,
        "pi": math.pi,
        "e": math.e,
        "sin": np.sin,
        "exp": np.exp,
        "sum": np.sum,
        "trace": np.trace,
        "sigmoid": special.expit,
        "logsumexp": special.logsumexp,
        "softmax": special.softmax,
        "relu": lambda z: np.maximum(z, 0),
    }
    return eval(f"({text})", {**names, **SIZES, **VALUES})


@pytest.mark.parametrize(
    "text",
    [
        "-x**2",
        "(-x)**2",
        "2**-1*x",
        "x**-t**2",
        "-x**-t",
        "2*x@x*3",
        "x*x@x",
        "W@x*2+y",
        "x-x-x",
        "x/x/2",
        "-x+x*-x",
        "2**3**2*t",
        "7//2*t",
        "-7//2*t",
        "7%3*t",
        "-7%3*t",
        "7.5//2*t",
        "x//0.3",
        "x%0.3",
        "+x--x",
        "~c",
        "~(x<1)",
        "(x<1)&(x>0.5)|c",
        "(x<=1)|(x>=1.5)",
        "x==x",
        "x!=1",
        "1<x",
        "t<1",
        "sum(np.tanh(W @ x)**2)",
        "np.sum(W, axis=1)",
        "np.sum(W,axis=0,keepdims=True)",
        "W.sum(axis=1)",
        "W.T@y",
        "W.T.T",
        "(W@W.T).T",
        "x[0]",
        "x[-1]",
        "x[1:]",
        "x[:2]",
        "x[::2]",
        "x[::-1]",
        "W[1]",
        "W[:,1]",
        "W[..., 1]",
        "W[1:, :2]",
        "x[:, None]*x[None, :]",
        "W[1][2]",
        "x[:,np.newaxis]",
        "T3[..., 0]",
        "T3[1,:,1]",
        "x[i]",
        "x[n-1]",
        "x[:n-1]",
        "x[1:n]",
        "W[0,]",
        "np.linalg.slogdet(S)[1]",
        "np.linalg.slogdet(S)[0]",
        "np.linalg.slogdet(S).logabsdet",
        "np.linalg.inv(S)@x",
        "np.linalg.solve(S, x)",
        "numpy.linalg.det(S)",
        "np.einsum('ij,j->i', W, x)",
        'np.einsum("ij,ij->", W, W)',
        "np.reshape(W, (n*m,))",
        "W.reshape(n, m)",
        "W.reshape((n*m,))",
        "W.reshape(-1)",
        "W.reshape(m*n//1, 1)",
        "np.eye(n)@x",
        "np.ones((n, m))@y",
        "n*x",
        "x/n",
        "x*np.sqrt(n)",
        "(n+m)*t",
        "n/m*t",
        "n**2*t",
        "2**n*t",
        "2.0**n*t",
        "n%3*t",
        "n//2*t",
        "-n*t",
        "t+n-m",
        "W.shape[0]*t",
        "x.size*t",
        "W.ndim*t",
        "np.pi*x",
        "2*pi*x",
        "e*x",
        "e**x",
        "np.e*t",
        "exp(-x**2/2)/np.sqrt(2*pi)",
        "0.1*x",
        "1e-3*x",
        ".5*x",
        "5.*x",
        "1_000*x",
        "2E+2*x",
        "x*1/3",
        "2**0.5*x",
        "sin(1)*x",
        "np.where(x<1, x, 0)",
        "np.where(c, x, 1.5)",
        "np.concatenate([x, y])",
        "np.stack([x, 2*x])",
        "np.array([1, 2.5, 0.1])*t",
        "np.array([[1, 2, 3], [4, 5, 6]])@np.array([1, 2, 3])*t",
        "np.maximum(x, 1)",
        "np.outer(x, y)",
        "np.kron(W, W)",
        "np.diag(x)",
        "np.linalg.norm(x)",
        "np.linalg.norm(W, 'fro')",
        "np.mean(x)",
        "x.mean()",
        "np.linalg.matrix_power(S, 3)",
        "trace(S)",
        "sigmoid(x)",
        "softmax(x)",
        "logsumexp(x)",
        "relu(x-1)",
        "abs(y)",
        "np.max(W)",
        "W.max(axis=1)",
        "np.transpose(T3, (2, 0, 1))",
        "T3.transpose(1, 0, 2)",
        "np.sum(T3, axis=(0, 2))",
        "W.T.reshape((m, n))",
        "((((x))))",
        "(x)\n +\t(x)",
        "np.asarray(x)*2",
        "x.astype(np.float64)",
        "np.clip(x, 0.5, 1)",
        "np.dot(W, x)",
        "np.tensordot(W, x, axes=1)",
        "np.tril(S)",
        "np.cumsum(x)",
        "x.T",
    ],
)
def test_value_is_numpys(text):
    got, want = value_of(parse(text, SYMBOLS)), np.asarray(by_numpy(text))
    assert got.shape == want.shape
    assert got.dtype.kind == want.dtype.kind
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_numbers_stay_exact():
    def number(text):
        value = parse(text, SYMBOLS).value
        assert value.op.name == "const", text
        return value.attr("value"), value.type.dtype

    assert number("0.1") == (Fraction(1, 10), "f64")
    assert number("1/3") == (Fraction(1, 3), "f64")
    assert number("1e-30") == (Fraction(1, 10**30), "f64")
    assert number("0.1+0.2") == (Fraction(3, 10), "f64")
    assert number("2**-2") == (Fraction(1, 4), "f64")
    assert number("2.0") == (2, "f64")
    assert number("2") == (2, "i64")
    assert number("7//2") == (3, "i64")
    assert number("4/2") == (2, "f64")
    assert number("pi") == ("pi", "f64")
    assert number("np.inf") == ("inf", "f64")


def test_constants_leave_the_dtype_to_the_array():
    symbols = {"f": symbol("f", (N,), "f32"), "i": symbol("i", (N,), "i64")}
    for text in ("2*f", "0.5*f", "2*pi*f", "pi/2*f", "n*f", "n/2*f", "(n%2)*f", "2**0.5*f", "-pi*f", "f**0.5"):
        assert parse(text, symbols).dtype == "f32", text
    for text, dtype in (("2*i", "i64"), ("n*i", "i64"), ("2.0*i", "f64"), ("pi*i", "f64"), ("i/2", "f64")):
        assert parse(text, symbols).dtype == dtype, text
    # As in NumPy, functions of numbers give arrays, which do not.
    assert parse("np.sqrt(2)*f", symbols).dtype == "f64"


def test_symbols_hide_dimensions_and_dimensions_hide_functions():
    e = symbol("e", (N,))
    assert parse("e", {"e": e}).value is e.value
    n = symbol("n")
    assert parse("n", {"n": n, "x": SYMBOLS["x"]}).value is n.value
    assert parse("n", SYMBOLS).value.op.name == "size"
    with pytest.raises(ParseError, match=r"np\.trace is the function"):
        parse("trace(S)", {**SYMBOLS, "trace": symbol("trace")})


def test_names_may_stand_for_numbers_arrays_expressions_and_undefined_functions():
    x = SYMBOLS["x"]
    given = {"x": x, "a": 0.25, "k": 2, "A": np.arange(12.0).reshape(3, 4), "z": x * 2}
    assert value_of(parse("a*x**k", given)) == pytest.approx(0.25 * VALUES["x"] ** 2)
    np.testing.assert_allclose(
        value_of(parse("A@(z+x)", {**given, "x": symbol("x", (4,)), "z": symbol("x", (4,))})),
        np.arange(12.0).reshape(3, 4) @ (2 * VALUES["x"]),
    )
    applied = parse("sum(f(2*x))", {"x": x, "f": UndefinedFunction("f")})
    assert "apply" in {v.op.name for v in topological([applied.value])}
    with pytest.raises(ParseError, match="stands for"):
        parse("x", {"x": object()})


def test_names_in_lists_what_needs_a_shape():
    assert names_in("np.sum(tanh(W @ x, axis=0)**2)*n + pi + b.T@other(q, None)") == {
        "W": 12, "x": 16, "n": 31, "b": 40, "q": 50}  # fmt: skip
