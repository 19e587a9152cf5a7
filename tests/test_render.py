"""Printed forms: NumPy source means what the interpreter says, its size is what was promised, papers read well.

Random contractions, random programs over all ops, and every op by its own sample are printed and run. Readable forms
are golden texts. Deep and widely shared programs print in pieces or are refused with the way out.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.special
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

import symdiff as sd
from symdiff.diff import gradients
from symdiff.errors import ArgumentError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle, freeze_attrs
from symdiff.ir.contraction import contract, einsum
from symdiff.ir.dims import evaluate, named
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render import to_latex, to_source, to_text
from symdiff.render.latex import symbol_latex
from symdiff.render.numpy_calls import HELPER_SOURCE
from symdiff.render.recover import recover

SIZES = {"m": 2, "n": 3, "p": 4, "q": 5}
_DTYPES = {"float64": "f64", "float32": "f32", "int64": "i64", "bool": "bool"}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def _names() -> dict[str, Any]:
    """What a printed expression may use."""
    space: dict[str, Any] = {"np": np, "scipy": scipy}
    for text in HELPER_SOURCE.values():
        exec(text, space)
    return space


NAMES = _names()


def run(text: str, function: Function, args: Any, sizes: dict[str, int]) -> Any:
    values = {p.name: a for p, a in zip(function.params, args, strict=True)}
    with np.errstate(all="ignore"):
        return np.asarray(eval(text, {**NAMES, **sizes, **values}))


def run_def(text: str, args: Any, sizes: dict[str, int]) -> Any:
    space: dict[str, Any] = {}
    exec(text, space)
    wanted = [n for n in inspect.signature(space["fn"]).parameters if n in sizes]
    with np.errstate(all="ignore"):
        return space["fn"](*args, **{n: sizes[n] for n in wanted})


def same(got: Any, want: Any, text: str) -> None:
    """Equal where the interpreter gives numbers: an exact zero that is divided by need not be kept."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, text
    known = np.isfinite(want)
    scale = np.max(np.abs(want[known]), initial=1.0) if want.dtype != bool else 1
    np.testing.assert_allclose(got[known], want[known], rtol=1e-7, atol=1e-9 * scale, err_msg=text)


def count_nodes(text: str) -> int:
    """Operators, calls and leaves of a NumPy expression; axes, specs, shapes and broadcasting subscripts are free."""

    def count(node: ast.expr) -> int:
        match node:
            case ast.Constant() | ast.Name():
                return 1
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
                return 1
            case ast.UnaryOp():
                return 1 + count(node.operand)
            case ast.BinOp():
                return 1 + count(node.left) + count(node.right)
            case ast.Attribute(attr="T"):
                return 1 + count(node.value)
            case ast.Attribute():
                return 1
            case ast.Subscript():
                return count(node.value)
            case ast.Call(func=ast.Attribute(attr="eye" | "ones" | "zeros")):
                return 1
            case ast.Call(func=ast.Attribute(attr="einsum")):
                return 1 + sum(count(a) for a in node.args[1:])
            case ast.Call(func=ast.Attribute(attr="sum" | "mean")):
                return 1 + count(node.args[0])
            case ast.Call():
                return 1 + sum(count(a) for a in node.args)
            case _:
                raise AssertionError(ast.dump(node))

    return count(ast.parse(text, mode="eval").body)


# -------------------------------------------------------------------- random contractions
class Contractions:
    """Random contractions, elementwise steps and sums of transposes over few parameters, all dimensions different."""

    def __init__(self, seed: int, steps: int, rank: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder(OPSET)
        self.values: list[Value] = []
        for _ in range(steps):
            self.values.append(self.step(rank))
        params = parameters_of(self.values[-1])
        self.function = self.builder.function(params, [self.values[-1]])
        self.args = [self.array(p) for p in self.function.params]

    def array(self, p: Value) -> Any:
        x = self.rng.uniform(0.5, 1.5, [evaluate(s, SIZES) for s in p.type.shape])
        return (x + x.T) / 2 if p.type.facts else x

    def pick(self, shape: tuple[Any, ...]) -> Value:
        fitting = [v for v in self.values if v.type.shape == shape]
        if fitting and self.rng.random() < 0.7:
            return fitting[self.rng.integers(len(fitting))]
        if self.rng.random() < 0.1:
            return self.builder.const(int(self.rng.integers(1, 4)), shape)
        symmetric = len(shape) == 2 and shape[0] == shape[1] and self.rng.random() < 0.4
        name = f"x{''.join(str(s) for s in shape)}_{self.rng.integers(2)}{'s' * symmetric}"
        return self.builder.param(name, TensorType("f64", shape, frozenset({"symmetric"} if symmetric else ())))

    def step(self, rank: int) -> Value:
        rng, b = self.rng, self.builder
        kind = rng.integers(0, 8)
        if kind < 4 or not self.values:
            count = rng.integers(1, 5)
            sizes = {i: named("mnpq"[rng.integers(4)]) for i in range(count)}
            ranks = [0, 1, 2, 2] if rank == 2 else [0, 1, 2, 2, 2, 3]
            words = [tuple(rng.integers(0, count, rng.choice(ranks)).tolist()) for _ in range(rng.integers(1, 5))]
            output = tuple(rng.integers(0, count, rng.choice([0, 1, 2, 2] if rank == 2 else [1, 2, 3, 4])).tolist())
            args = [self.pick(tuple(sizes[x] for x in w)) for w in words]
            return contract(b, args, words, output, sizes)
        a = self.values[rng.integers(len(self.values))]
        if kind < 6:
            name = ("add", "sub", "add", "sub", "mul", "div")[rng.integers(6)]
            return b.make(OPSET[name], (a, self.pick(a.type.shape)))
        if kind == 6:
            exponent = b.const((2, -1, 3, -2)[rng.integers(4)], a.type.shape)
            return b.make(OPSET["pow"], (a, exponent)) if rng.random() < 0.5 else b.make(OPSET["tanh"], (a,))
        turned = contract(b, [a], [tuple(range(a.type.rank))], tuple(rng.permutation(a.type.rank).tolist()))
        return b.make(OPSET["add"], (a, turned)) if turned.type.shape == a.type.shape else turned


def parameters_of(result: Value) -> list[Value]:
    found: dict[Value, None] = {}
    stack = [result]
    while stack:
        value = stack.pop()
        if value.is_param:
            found[value] = None
        stack.extend(value.args)
    return list(found)


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([2, 3]))
def test_contractions_print_what_they_mean(seed: int, steps: int, rank: int) -> None:
    case = Contractions(seed, steps, rank)
    want = interpret(case.function, case.args, SIZES)[0]
    text = to_source(case.function)
    try:
        got = run(text, case.function, case.args, SIZES)
    except ZeroDivisionError:  # Python's own numbers refuse what arrays answer with inf
        return
    same(got, want, text)
    definition = to_source(case.function, name="fn")
    same(run_def(definition, case.args, SIZES), want, definition)
    _, results = recover(case.function)
    assert results[0].size == count_nodes(text), text
    assert to_latex(case.function).count("{") == to_latex(case.function).count("}")
    assert to_text(case.function)


@settings(max_examples=60)
@given(strategies.programs(ops=strategies.WITHOUT_LOOPS))
def test_programs_print_what_they_mean(program: strategies.Program) -> None:
    want = interpret(program.function, program.args, program.sizes)
    definition = to_source(program.function, name="fn")
    got = run_def(definition, program.args, program.sizes)
    for g, w in zip(got, want, strict=True):
        same(g, w, definition)
    assert to_latex(program.function)
    assert to_text(program.function).count("\n") >= 1


def test_an_axis_put_back_in_reverse_is_turned() -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f64", (2, 3))))
    y = x.op("embed", sizes=(2, 3), starts=(0, 2), steps=(1, -1))
    function = Function.of([x.value], [y.value])
    at = np.arange(6.0).reshape(2, 3)
    same(run_def(to_source(function, name="fn"), [at], {}), at[:, ::-1], to_source(function))


# -------------------------------------------------------------------- every op
_SKIPPED = frozenset({"const", "array", "iota", "size", "apply", "functional", "scan"})


@pytest.mark.parametrize("name", [n for n in OPSET if n not in _SKIPPED])
def test_every_op_prints_what_it_means(name: str, rng: np.random.Generator) -> None:
    op = OPSET[name]
    cases = op.sample.draw(rng) if op.sample.draw is not None else []
    if op.sample.intervals:
        cases += [(tuple(rng.uniform(a, b, s) for a, b in op.sample.intervals), {}) for s in ((), (3,), (2, 3))]
    assert cases
    for arrays, attrs in cases:
        builder = Builder(OPSET)
        params = [
            builder.param(f"x{i}", TensorType(_DTYPES[np.asarray(a).dtype.name], np.shape(a)))
            for i, a in enumerate(arrays)
        ]
        function = builder.function(params, [builder.make(op, tuple(params), freeze_attrs(attrs))])
        want = interpret(function, arrays)[0]
        text = to_source(function)
        got = run(text, function, arrays, {})
        assert got.dtype == want.dtype, text
        same(got, want, text)
        assert to_text(function) and to_latex(function)


def test_leaves() -> None:
    builder = Builder(OPSET)
    n = named("n")
    x = builder.handle(builder.param("x", TensorType("f64", (n,))))
    cases: list[tuple[Value, str]] = [
        (builder.const(1, (n, n)), "np.ones((n, n))"),
        (builder.const(0, (n,)), "np.zeros(n)"),
        (builder.const(Fraction(1, 3)), "1/3"),
        (builder.const("pi"), "np.pi"),
        (builder.const(-2, (n,)), "-2*np.ones(n)"),
        (builder.const(1, (n,), "f32"), "np.ones(n, dtype=np.float32)"),
        (einsum("i->ii", builder.handle(builder.const(1, (n,), "f32"))).value, "np.eye(n, dtype=np.float32)"),
        (builder.make(OPSET["size"], (), (("dtype", "f64"), ("size", n + 1))), "n + 1"),
        (builder.make(OPSET["iota"], (), (("size", n),)), "np.arange(n)"),
        ((x * Fraction(1, 3)).value, "x/3"),
        ((x * Fraction(1, 2)).value, "0.5*x"),
        ((x * Fraction(2, 3)).value, "2*x/3"),
        ((x ** Fraction(-3, 2)).value, "x**(-1.5)"),
    ]
    for value, text in cases:
        assert to_source(builder.function([x.value], [value])) == text


# -------------------------------------------------------------------- readable forms
class Symbols:
    """Handles of parameters by name, in one builder."""

    def __init__(self, **shapes: str) -> None:
        self.builder = Builder(OPSET)
        self.all = {name: self.builder.handle(self.parameter(name, shape)) for name, shape in shapes.items()}

    def parameter(self, name: str, shape: str) -> Value:
        """`shape` names the dimensions; a star says symmetric."""
        facts = frozenset({"symmetric"} if "*" in shape else ())
        return self.builder.param(name, TensorType("f64", tuple(named(c) for c in shape.rstrip("*")), facts))

    def function(self, *results: Handle) -> Function:
        return self.builder.function([h.value for h in self.all.values()], [r.value for r in results])


def _forms() -> list[tuple[str, Function]]:
    s = Symbols(A="mn", B="mn", C="nq", S="nn*", X="nn", x="n", y="n", b="m", alpha="", w_12="", y_hat="n", T="mnq")
    A, B, C, S, X = (s.all[k] for k in "ABCSX")
    x, y, b, alpha, w, hat, t = (s.all[k] for k in ("x", "y", "b", "alpha", "w_12", "y_hat", "T"))
    n, m = named("n"), named("m")
    residual = einsum("ij,j->i", A, x) - b
    norm = einsum("i,i->", x, x)
    p = x.op("softmax", axes=(-1,))
    inverse = X.op("inverse")
    undefined = Handle(s.builder, s.builder.make(OPSET["apply"], (x.value,), (("name", "f"), ("wrt", (0,)))))
    product = einsum("ij,jk->ik", A, C)
    loss = OPSET["functional"]
    slope = Handle(s.builder, s.builder.make(loss, (product.value,), (("name", "L"), ("wrt", (0,)))))
    known = Handle(s.builder, s.builder.make(loss, (A.value,), (("name", "L"), ("wrt", (0,)))))
    size = Handle(s.builder, s.builder.make(OPSET["size"], (), (("dtype", "f64"), ("size", n))))
    forms = {
        "least squares": einsum("ij,i->j", A, residual),
        "its value": einsum("i,i->", residual, residual) * Fraction(1, 2),
        "quadratic form": einsum("i,ij,j->", x, X, x),
        "scalar times vector": einsum(",i->i", einsum("i,ij,j->", x, X, x), x),
        "symmetric needs no transpose": einsum("ij,i->j", S, x),
        "transposed chain": einsum("ij,jk->ki", A, C),
        "diagonal scaling": einsum("ij,i,ik->jk", A, b, A),
        "Hadamard": A * B.op("tanh"),
        "quotient of arrays": x / y,
        "unit vector": x / einsum("->i", norm.op("sqrt"), i=n),
        "softmax Jacobian": einsum("i->ii", p) - einsum("i,j->ij", p, p),
        "identity": einsum("i->ii", x.const(1)),
        "row and column": einsum("i->ij", b, j=n) + einsum("j->ij", x, i=m),
        "trace": einsum("ij,ji->", X, inverse),
        "Frobenius": einsum("ij,ij->", A, B),
        "squared norm": einsum("ij,ij->", A, A),
        "inverse transposed": einsum("ij->ji", inverse),
        "solve": einsum("ij,j->i", inverse, x),
        "log determinant": X.op("logabsdet"),
        "mean": einsum("i->", x) / size,
        "powers": x**2 * alpha.const(3, (n,)) - 1 / y,
        "Jacobian of a product": einsum("ij,kl->ikjl", A, C),
        "delta": einsum("i,j->ijj", b, x),
        "inner index": einsum("ijk,kl->ijl", t, einsum("jl->lj", C)),
        "greek and indices": einsum(",,i->i", alpha, w, hat),
        "matrix power": einsum("ij,jk,kl,l->i", X, X, X, x),
        "undefined derivative": undefined * y,
        "gradient in a product": slope,
        "gradient in a symbol": known,
        "condition": x.op("gt", y).op("select", x * y, x.const(0)),
    }
    return [(name, s.function(h)) for name, h in forms.items()]


def test_readable_forms(golden: Callable[[str, str], None]) -> None:
    lines: list[str] = []
    for name, function in _forms():
        lines += [name, f"    {to_source(function)}", f"    {to_text(function)}", f"    {to_latex(function)}"]
    golden("render_forms", "\n".join(lines))


def test_layout_turns_vectors_only() -> None:
    forms = dict(_forms())
    gradient = forms["least squares"]
    assert to_latex(gradient) == to_latex(gradient, layout="denominator") == r"A^{\top} (A x - b)"
    assert to_latex(gradient, layout="numerator") == r"(A x - b)^{\top} A"
    assert to_latex(forms["quotient of arrays"], layout="numerator") == r"(x \oslash y)^{\top}"
    for name in ("trace", "identity", "Jacobian of a product"):
        assert to_latex(forms[name], layout="numerator") == to_latex(forms[name])
    with pytest.raises(ArgumentError, match="numerator"):
        to_latex(gradient, layout="sideways")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "latex", "bold"),
    [
        ("x", "x", r"\mathbf{x}"), ("alpha", r"\alpha", r"\boldsymbol{\alpha}"), ("x_1", "x_{1}", r"\mathbf{x}_{1}"),
        ("w12", "w_{12}", r"\mathbf{w}_{12}"), ("q_", "q", r"\mathbf{q}"), ("y_hat", r"\hat{y}", r"\hat{\mathbf{y}}"),
        ("yhat", r"\hat{y}", r"\hat{\mathbf{y}}"), ("mu_0", r"\mu_{0}", r"\boldsymbol{\mu}_{0}"),
        ("w_ij", "w_{ij}", r"\mathbf{w}_{ij}"), ("loss", r"\mathrm{loss}", r"\boldsymbol{\mathrm{loss}}"),
        ("x_max", r"x_{\mathrm{max}}", r"\mathbf{x}_{\mathrm{max}}"), ("lam", r"\lambda", r"\boldsymbol{\lambda}"),
    ],
)  # fmt: skip
def test_symbols(name: str, latex: str, bold: str) -> None:
    assert symbol_latex(name) == latex
    assert symbol_latex(name, bold=True) == bold


@pytest.mark.parametrize(
    ("number", "source", "text", "latex"),
    [
        (Fraction(1, 2), "0.5*x", "½ x", r"\frac{1}{2} x"), (Fraction(-2, 3), "-2*x/3", "-⅔ x", r"-\frac{2}{3} x"),
        (0.1, "0.1*x", "0.1 x", "0.1 x"), (1e-9, "1e-09*x", "10⁻⁹ x", "10^{-9} x"),
        (2.5e-9, "2.5e-09*x", "2.5 · 10⁻⁹ x", r"2.5 \cdot 10^{-9} x"), (10**20, "1e+20*x", "10²⁰ x", "10^{20} x"),
        (1e300, "1e+300*x", "10³⁰⁰ x", "10^{300} x"), (12, "12*x", "12 x", "12 x"),
        (Fraction(1, 7), "x/7", "(1/7) x", r"\frac{1}{7} x"), ("pi", "np.pi*x", "π x", r"\pi x"),
        # Beyond floats, too.
        (3 * 10**308, "3e+308*x", "3 · 10³⁰⁸ x", r"3 \cdot 10^{308} x"),
        (Fraction(-1, 10**600), "-1e-600*x", "-10⁻⁶⁰⁰ x", "-10^{-600} x"),
        (Fraction(10**400, 3), "3.3333333333333333e+399*x", "3.3333333333333333 · 10³⁹⁹ x",
         r"3.3333333333333333 \cdot 10^{399} x"),
    ],
)  # fmt: skip
def test_numbers(number: Any, source: str, text: str, latex: str) -> None:
    s = Symbols(x="n")
    function = s.function(s.all["x"] * number)
    assert (to_source(function), to_text(function), to_latex(function)) == (source, text, latex)


def test_names_with_indices_take_no_second_index() -> None:
    s = Symbols(w_1="mn", x="q")
    function = s.function(einsum("ij,k->ikj", s.all["w_1"], s.all["x"]))
    assert to_latex(function) == r"(w_{1})_{ik} x_{j}"


def test_dummy_indices_are_kept_apart() -> None:
    s = Symbols(A="mq", B="nq", C="pq", T="mnp")
    A, B, C, T = (s.all[k] for k in "ABCT")
    inner = einsum("ir,jr,kr->ijk", A, B, C) - T
    text = to_latex(s.function(einsum("ijk,jr,kr->irj", inner, B, C)))
    # Free i, j, k; the outer sum over one letter, the inner over another, none the name of a dimension.
    # What no summed index touches stands before the sum.
    assert text == r"B_{kj} \sum_{l} \left(\sum_{r} A_{ir} B_{kr} C_{lr} - T_{ikl}\right) C_{lj}"


def test_several_results() -> None:
    forms = dict(_forms())
    one, two = forms["least squares"], forms["its value"]
    both = Function.of(one.params, [one.results[0], two.results[0]])
    source = to_source(both, name="g")
    assert source == (
        "import numpy as np\n\n\ndef g(A, B, C, S, X, x, y, b, alpha, w_12, y_hat, T):\n"
        "    t1 = A @ x - b\n    return A.T @ t1, 0.5*np.sum(t1**2)\n"
    )
    assert to_text(both) == "Aᵀ (A x - b)\n½ ‖A x - b‖²"
    assert to_latex(both, where=True).splitlines()[1:4] == [
        r"& A^{\top} r \\", r"& \frac{1}{2} \lVert r \rVert^{2} \\", r"& \text{where}\quad r = A x - b"
    ]  # fmt: skip


# -------------------------------------------------------------------- large programs
def _deep(steps: int) -> tuple[Function, Any]:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f64", (named("n"),))))
    y = x
    for i in range(steps):
        y = y.op("sin") if i % 2 else y + x
    return builder.function([x.value], [y.value]), np.array([0.3, 1.1])


def test_deep_programs_print_in_pieces() -> None:
    function, x = _deep(6_000)
    with pytest.raises(ArgumentError, match=r"nests|nodes written out.*code"):
        to_source(function)
    source = to_source(function, name="fn")
    want = interpret(function, [x])[0]
    same(run_def(source, [x], {}), want, "deep")
    text, latex = to_text(function), to_latex(function)
    assert "where t1 = " in text and max(len(line) for line in text.splitlines()) < 4000
    assert r"\text{where}" in latex and len(latex) < 40 * 6_000


def test_shared_programs_do_not_explode() -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f64", (named("n"),))))
    y = x
    for _ in range(60):
        y = y.op("sin") * y.op("cos")
    function = builder.function([x.value], [y.value])
    with pytest.raises(ArgumentError, match=r"nodes written out, more than 20000.*code"):
        to_source(function)
    values = np.array([0.3, 1.1])
    source = to_source(function, name="fn")
    assert len(source) < 10_000
    same(run_def(source, [values], {}), interpret(function, [values])[0], source)
    assert len(to_text(function)) < 10_000 and len(to_latex(function)) < 20_000


def test_definitions_share_and_stay_with_vectors() -> None:
    """Both gradients of two layers: shared factors are lines, every product has a vector in it."""
    s = Symbols(U="mn", V="pm", b="m", x="n", y="p")
    U, V, b, x, y = (s.all[k] for k in ("U", "V", "b", "x", "y"))
    hidden = (einsum("ij,j->i", U, x) + b).op("tanh")
    residual = einsum("ij,j->i", V, hidden) - y
    loss = einsum("i,i->", residual, residual)
    wrt = [U.value, V.value]
    results = [Handle(s.builder, g) for g in gradients(s.builder, loss.value, wrt)]
    source = to_source(s.function(*results), name="fn")
    lines = source.split("def fn")[1]
    assert lines.count("np.tanh") == 1 and lines.count("V @") == 1 and lines.count(".T @") == 1, source
    rng = np.random.default_rng(5)
    args = [rng.normal(size=[SIZES[str(d)] for d in p.type.shape]) for p in s.function(*results).params]
    for got, want in zip(run_def(source, args, SIZES), interpret(s.function(*results), args), strict=True):
        same(got, want, source)


def test_conditions_of_numpy_numbers_are_not_negated() -> None:
    t, w = sd.symbol("t"), sd.symbol("w", (sd.dim("n"),))
    stepped: Any = -np.where(t > 0, 1.0, 0.0) * w
    source = sd.simplify(stepped).source("numpy")
    assert eval(source, {"t": np.float64(2.0), "w": np.array([1.0, 3.0])}).tolist() == [-1.0, -3.0]


def test_chains_before_a_vector_go_from_the_right() -> None:
    s = Symbols(A="mn", B="np", C="pq", x="q", y="m")
    A, B, C, x, y = (s.all[k] for k in "ABCxy")
    assert to_source(s.function(einsum("ij,jk,kl,l->i", A, B, C, x))) == "A @ (B @ (C @ x))"
    assert to_source(s.function(einsum("i,ij,jk,kl,l->", y, A, B, C, x))) == "y @ A @ B @ C @ x"


def test_names_that_source_cannot_have() -> None:
    for name in ("lambda", "np", "softmax"):
        s = Symbols(**{name: "n"})
        with pytest.raises(ArgumentError, match=f"symbol {name} cannot be named"):
            to_source(s.function(s.all[name] * 2))


def test_wrong_target() -> None:
    with pytest.raises(ArgumentError, match="source target 'fortran': expected 'numpy'"):
        to_source(_deep(2)[0], target="fortran")
