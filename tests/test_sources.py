"""Source code for other targets: C is compiled and run, NumPy definitions and SymPy texts are run.

Values come from the interpreter over random programs, random contractions and every op by its own sample.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
import sympy
from hypothesis import given, settings

import symdiff as sd
from symdiff.errors import ArgumentError, UnsupportedError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render.targets import code

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
_DTYPES = {"float64": "f64", "float32": "f32", "int64": "i64", "bool": "bool"}
_NUMPY = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}
_SCALARS = {"f64": ctypes.c_double, "f32": ctypes.c_float, "i64": ctypes.c_int64, "bool": ctypes.c_bool}
# No counterpart in C, by declaration.
_NOT_IN_C = frozenset({"polygamma"})
_LEAVES = frozenset({"const", "array", "iota", "size", "apply", "functional", "scan"})

# NumPy on symbols gives symbols, which its own stubs do not say.
NP: Any = np

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


# -------------------------------------------------------------------- C
def run_c(function: Function, args: Sequence[Any], sizes: Mapping[str, int], folder: Path) -> list[Any]:
    text = code(function, "c", "fn")
    stem = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    stem.with_suffix(".c").write_text(text, encoding="utf-8")
    library = stem.with_suffix(".so")
    command = [str(COMPILER), "-std=c99", "-O0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-parentheses",
               "-shared", "-fPIC", "-o", str(library), str(stem.with_suffix(".c")), "-lm"]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr + text
    assert not built.stderr, built.stderr + text
    given_args: list[Any] = [ctypes.c_long(sizes[d]) for d in function.dims]
    held: list[Any] = []
    for p, a in zip(function.params, args, strict=True):
        array = np.array(a, _NUMPY[p.type.dtype], order="C")
        held.append(array)
        number: Any = _SCALARS[p.type.dtype]
        given_args.append(array.ctypes.data_as(ctypes.c_void_p) if p.type.rank else number(array.item()))
    results = [np.full([evaluate(s, sizes) for s in r.type.shape], 7, _NUMPY[r.type.dtype]) for r in function.results]
    given_args += [r.ctypes.data_as(ctypes.c_void_p) for r in results]
    ctypes.CDLL(str(library)).fn(*given_args)
    return results


def same(got: Any, want: Any, text: str, rtol: float = 1e-9) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, text
    if want.dtype in (np.float32, np.float64):
        rtol = 2e-5 if want.dtype == np.float32 else rtol
        known = np.isfinite(want)
        scale = np.max(np.abs(want[known]), initial=1.0)
        np.testing.assert_allclose(got[known], want[known], rtol=rtol, atol=rtol * scale, err_msg=text)
    else:
        np.testing.assert_array_equal(got, want, err_msg=text)


@needs_compiler
@settings(max_examples=40)
@given(strategies.programs(ops=strategies.WITHOUT_LOOPS))
def test_programs_in_c(tmp_path_factory: pytest.TempPathFactory, program: strategies.Program) -> None:
    want = interpret(program.function, program.args, program.sizes)
    try:
        got = run_c(program.function, program.args, program.sizes, tmp_path_factory.getbasetemp())
    except UnsupportedError as error:
        assert any(name in str(error) for name in _NOT_IN_C)
        return
    for g, w in zip(got, want, strict=True):
        same(g, w, code(program.function, "c"), 1e-7)


def op_functions(name: str, rng: np.random.Generator) -> list[tuple[Function, Sequence[Any]]]:
    """Programs of one op, at the points where it says it can be tested."""
    op = OPSET[name]
    cases = op.sample.draw(rng) if op.sample.draw is not None else []
    if op.sample.intervals:
        cases += [(tuple(rng.uniform(a, b, s) for a, b in op.sample.intervals), {}) for s in ((), (3,), (2, 3))]
    found: list[tuple[Function, Sequence[Any]]] = []
    for arrays, attrs in cases:
        builder = Builder(OPSET)
        params = [
            builder.param(f"x{i}", TensorType(_DTYPES[np.asarray(a).dtype.name], np.shape(a)))
            for i, a in enumerate(arrays)
        ]
        found.append((builder.function(params, [builder.make(op, tuple(params), freeze_attrs(attrs))]), arrays))
    return found


@needs_compiler
@pytest.mark.parametrize("name", [n for n in OPSET if n not in _LEAVES])
def test_every_op_in_c(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    cases = op_functions(name, rng)
    assert cases
    for function, arrays in cases:
        if name in _NOT_IN_C:
            with pytest.raises(UnsupportedError, match=name):
                code(function, "c")
            continue
        same(run_c(function, arrays, {}, tmp_path)[0], interpret(function, arrays)[0], code(function, "c"))


# -------------------------------------------------------------------- closed forms in every target
def _cases() -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, derivative, values of its symbols at sizes m = 4, n = 3)."""
    rng = np.random.default_rng(11)
    m, n = sd.dims("m n")
    W, A = sd.symbol("W", (m, n)), sd.symbol("A", (n, n))
    x, y, b = sd.symbol("x", n), sd.symbol("y", m), sd.symbol("b", n)
    S, s = sd.symbol("S", (n, n), positive_definite=True), sd.symbol("s")
    r = W @ x - y
    half = rng.normal(size=(3, 3))
    values = {
        "W": rng.normal(size=(4, 3)), "A": rng.normal(size=(3, 3)) + 2 * np.eye(3), "x": rng.normal(size=3),
        "y": rng.normal(size=4), "b": rng.normal(size=3), "S": half @ half.T + np.eye(3), "s": np.asarray(0.7),
    }  # fmt: skip
    found = {
        "least squares": sd.gradient(r @ r, W),
        "tanh layer": sd.gradient(np.sum(np.tanh(W @ x) * y), W),
        "softmax": sd.jacobian(sd.softmax(W @ x), x),
        "row means": sd.gradient(np.sum(np.mean(W, axis=0) ** 3), W),
        "columns": sd.gradient(np.sum(np.log(np.sum(np.exp(W), axis=1))), W),
        "inverse": sd.gradient(x @ np.linalg.inv(A) @ b, A),
        "log determinant": sd.gradient(np.linalg.slogdet(S)[1] + x @ S @ x, S),
        "norm": sd.gradient(NP.linalg.norm(x - s * b), x),
        "relu": sd.gradient(np.sum(sd.relu(W @ x) * y), x),
        "scaled": sd.gradient(np.sum(sd.sigmoid(s * W)), s),
        "quotient": sd.jacobian(x / (1 + x @ x), x),
        "trace": sd.gradient(np.trace(A @ A @ S), A),
        "value": r @ r / m,
    }
    return [(name, e, {p.name: values[p.name] for p in e.function().params}) for name, e in found.items()]


CASES = {name: (e, values) for name, e, values in _cases()}


def truth(e: Any, values: Mapping[str, Any]) -> Any:
    return np.asarray(e.evaluate(values, sizes={"m": 4, "n": 3}))


def call_python(text: str, name: str, values: Mapping[str, Any]) -> Any:
    space: dict[str, Any] = {}
    exec(text, space)
    sizes = {"m": 4, "n": 3}
    wanted = list(inspect.signature(space[name]).parameters)
    return space[name](*[values[w] if w in values else sizes[w] for w in wanted])


@pytest.mark.parametrize("name", CASES)
def test_closed_forms_in_numpy(name: str) -> None:
    e, values = CASES[name]
    text = e.code("numpy", "slope")
    assert "def slope(" in text
    same(call_python(text, "slope", values), truth(e, values), text)


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_closed_forms_in_c(name: str, tmp_path: Path) -> None:
    e, values = CASES[name]
    function = e.shown()
    got = run_c(function, [values[p.name] for p in function.params], {"m": 4, "n": 3}, tmp_path)[0]
    same(got, truth(e, values), e.source("c"))


@pytest.mark.parametrize("name", CASES)
def test_closed_forms_in_sympy(name: str) -> None:
    """Both texts are run on matrices of numbers: one as an expression, one as a definition."""
    e, values = CASES[name]
    exact = {k: sympy.Matrix(v) if np.ndim(v) else sympy.Float(float(v)) for k, v in values.items()}
    space: dict[str, Any] = {}
    exec("from sympy import *", space)
    want = truth(e, values)
    shape = want.shape if want.ndim != 1 else (*want.shape, 1)
    text = e.source("sympy")
    for got in (eval(text, {**space, "m": 4, "n": 3, **exact}), call_python(e.code("sympy"), "f", exact)):
        made = sympy.sympify(got)
        if want.ndim:
            made = sympy.Matrix(made.as_explicit() if hasattr(made, "as_explicit") else made).doit()
            assert made.shape == shape, text
        same(np.array(made.doit().evalf(), dtype=float).reshape(want.shape), want, text)


def test_symbolic_matrices_in_sympy() -> None:
    """Over MatrixSymbols of symbolic size, where SymPy checks the shapes."""
    m, n = sympy.symbols("m n", integer=True, positive=True)
    space: dict[str, Any] = {}
    exec("from sympy import *", space)
    shapes = {"W": (m, n), "A": (n, n), "S": (n, n), "x": (n, 1), "y": (m, 1), "b": (n, 1)}
    symbols: dict[str, Any] = {k: sympy.MatrixSymbol(k, *v) for k, v in shapes.items()}
    symbols["s"] = sympy.Symbol("s")
    for name in ("least squares", "tanh layer", "inverse", "log determinant", "columns", "trace"):
        e, _ = CASES[name]
        made = eval(e.source("sympy"), {**space, **symbols, "m": m, "n": n})
        sizes = {"m": m, "n": n}
        assert [str(s) for s in made.shape] == [str(sizes[str(s)]) for s in e.shape]


def test_readable_texts() -> None:
    m, n = sd.dims("m n")
    W, x, y = sd.symbol("W", (m, n)), sd.symbol("x", n), sd.symbol("y", m)
    r = W @ x - y
    g = sd.gradient(r @ r, W)
    assert g.source() == "2*np.outer(W @ x - y, x)"
    assert g.source("sympy") == "2*(W*x - y)*x.T"
    assert g.code("jax", "gradient") == (
        "import jax.numpy as jnp\n\n\ndef gradient(W, x, y):\n    return 2*jnp.outer(W @ x - y, x)\n"
    )
    assert g.source("torch") == "import torch\n\n\ndef f(W, x, y):\n    return 2*torch.outer(W @ x - y, x)\n"
    assert g.source("julia") == "function f(W, x, y)\n    return 2*(W * x - y) * x'\nend\n"
    assert "void f(long m, long n, const double *W, const double *x, const double *y, double *out)" in g.source("c")
    t = sd.gradient(np.sum(np.tanh(W @ x) ** 3), x)
    assert "t1 = tanh.(W * x)" in t.source("julia") and "t1 = jnp.tanh(W @ x)" in t.source("jax")


@pytest.mark.parametrize(
    "text", ["b @ c + b @ z", "c @ b.T + b @ z", "b.T @ c + z @ b", "np.sin(b @ c - 2 * (b @ z))", "b @ c + b @ c @ z"]
)
def test_a_row_beside_matrices_stays_a_row(text: str) -> None:
    """A vector behind a matrix is no column of the sum behind that matrix."""
    n = sd.dim("n")
    kinds = {"b": (n, n), "c": (n, n), "z": (n,)}
    given = {name: sd.symbol(name, shape) for name, shape in kinds.items()}
    rng = np.random.default_rng(5)
    at: dict[str, Any] = {"np": np} | {name: rng.normal(size=(3,) * len(shape)) for name, shape in kinds.items()}
    same(eval(sd.parse(text, given).source(), at), eval(text, at), text)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 1), (1, 1, 1)])
def test_a_number_is_spread_without_giving_it_axes(shape: tuple[int, ...]) -> None:
    """A sum of numbers, and a scalar that comes as a Python float, cannot be subscripted."""
    x, s = sd.symbol("x", shape), sd.symbol("s")
    for f, want in ((0.75 * x + x * np.pi / 4, 0.75 + np.pi / 4), (s * x, 2.5)):
        text = sd.gradient(NP.sum(f), x).source()
        same(eval(text, {"np": np, "s": 2.5}), np.full(shape, want), text)


def test_refusals() -> None:
    n = sd.dim("n")
    x, A = sd.symbol("x", n), sd.symbol("A", (n, n))
    with pytest.raises(ArgumentError, match=r"'fortran'.*numpy, jax, torch, julia, c, sympy"):
        NP.sin(x).source("fortran")
    with pytest.raises(ArgumentError, match="'2f'"):
        NP.sin(x).code("jax", "2f")
    with pytest.raises(UnsupportedError, match="polygamma"):
        sd.polygamma(1, x).source("c")
    with pytest.raises(UnsupportedError, match="at most two axes"):
        sd.jacobian(A, A).source("sympy")
    with pytest.raises(UnsupportedError, match="reduce_max"):
        NP.max(x).source("sympy")
    for target, name in (("jax", "jnp"), ("torch", "torch"), ("julia", "tanh"), ("sympy", "tanh")):
        with pytest.raises(ArgumentError, match=name):
            NP.tanh(sd.symbol(name, ())).source(target)


@needs_compiler
def test_names_that_c_has_taken(tmp_path: Path) -> None:
    """Symbols called like keywords, functions or the text's own numbers get other names."""
    n = sd.dim("n")
    symbols = [sd.symbol(name, n) for name in ("s", "i", "exp", "double", "out", "t1")]
    f = np.sum(np.exp(symbols[0]) * symbols[1]) * symbols[2] + np.exp(symbols[3] * symbols[4]) * symbols[5]
    values = {s.value.name: np.random.default_rng(i).normal(size=3) for i, s in enumerate(symbols)}
    function = f.function()
    got = run_c(function, [values[p.name] for p in function.params], {"n": 3}, tmp_path)[0]
    same(got, f.evaluate(values), f.source("c"))


@pytest.mark.parametrize(
    "index", ["[3:1:2]", "[m:m:3]", "[1:2*m:2]", "[-3:-5:2]", "[m:0:-3]", "[::2]", "[4::3]", "[:m][::-2]"]
)
def test_slices_that_may_be_empty(index: str) -> None:
    """A bound of source is one of NumPy, too: below 0 it would count from the end."""
    n, m = sd.dims("n m")
    x = sd.symbol("x", (n,))
    part: Any = eval(f"x{index}", {"x": x, "m": m})
    f: Any = np.sum(np.sin(part)) + np.sum(x) * m
    for length, number in ((7, 0), (7, 3), (8, 3), (9, 4)):
        point = np.random.default_rng(length).normal(size=length)
        given: dict[str, Any] = {"np": np, "x": point, "m": number, "n": length}
        for e in (f, sd.gradient(f, x)):
            want = e.evaluate(x=point, sizes={"n": length, "m": number})
            same(eval(e.source(), given), want, index)
