"""SymPy in and out: values against SymPy's own numbers, round trips, facts, refusals, deep trees."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from sympy.matrices.expressions.diagonal import DiagMatrix

from symdiff.errors import ArgumentError, ShapeError, SymdiffError, UnsupportedError
from symdiff.frontend.expr import dims, symbol
from symdiff.frontend.sympy_bridge import from_sympy, to_sympy
from symdiff.frontend.text import parse
from symdiff.frontend.undefined import UndefinedFunction
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import topological
from symdiff.ops import OPSET

x, y, z = sp.symbols("x y z")
p = sp.Symbol("p", positive=True)
POINT = {"x": 0.37, "y": -1.3, "z": 2.2, "p": 0.8}


def value_of(expr, values, sizes=None, **functions):
    params = [v for v in topological([expr.value]) if v.is_param]
    function = Builder(OPSET).function(params, [expr.value])
    return interpret(function, [values[q.name] for q in params], sizes, functions)[0]


def by_sympy(expr, point=POINT):
    """SymPy's own number, to 30 digits before rounding."""
    at = expr.subs({s: sp.Rational(str(point[s.name])) for s in expr.free_symbols})
    if isinstance(at, (sp.MatrixBase, sp.NDimArray)):
        return np.array(at.evalf(30).tolist() if isinstance(at, sp.MatrixBase) else at.tolist(), float)
    return bool(at) if at in (sp.true, sp.false) else float(sp.N(at, 30))


SCALARS = [
    x + y - z,
    y - x,
    -x,
    -x / 2,
    3 * x / (2 * y),
    x**2,
    x**-2,
    1 / sp.sqrt(p),
    sp.sqrt(p) ** 3,
    p**y,
    2**x,
    sp.exp(x) * sp.log(p),
    sp.sin(x) * sp.cos(y) / sp.tan(z),
    sp.asin(x) + sp.acos(x) + sp.atan(y),
    sp.sinh(x) + sp.cosh(y) + sp.tanh(z) + sp.asinh(y) + sp.acosh(z) + sp.atanh(x),
    sp.Abs(y) + sp.sign(y),
    sp.Max(x, y, z) - sp.Min(x, y, 2),
    sp.erf(x) + sp.erfc(y),
    sp.gamma(p),
    sp.gamma(y),
    sp.gamma(y - 1),
    sp.gamma(y - 2),
    sp.loggamma(p),
    sp.digamma(p),
    sp.polygamma(2, p),
    sp.factorial(p),
    sp.beta(p, z),
    sp.pi * x + sp.E,
    sp.pi**2,
    sp.Piecewise((x, x > 1), (y, y < 0), (z, True)),
    sp.Piecewise((x**2, sp.And(x > 0, y < 0)), (0, True)),
    sp.sec(x) + sp.csc(x) + sp.cot(x) + sp.coth(x) + sp.sech(x) + sp.csch(x) + sp.acot(z) + sp.asec(z),
    sp.atan2(y, x),
    sp.floor(z) + sp.ceiling(y),
    sp.Mod(y, 3),
    sp.Heaviside(y) + 2 * sp.Heaviside(x),
    sp.EulerGamma * x,
    sp.GoldenRatio * x,
    sp.cbrt(p),
    x * (y + z) ** 2 / (x - y),
    sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi),
    sp.Integer(3),
    sp.Rational(2, 7),
    sp.Float("0.1") * x,
    x > y,
    sp.Or(sp.Not(x > y), sp.Xor(x > 0, y > 0)),
    sp.ITE(x > 0, y > 0, z > 0),
    sp.Matrix([[x, 1], [0, y]]),
    sp.Array([x, y, z]),
    sp.Array([[[x, y], [1, 2]]]),
    sp.Matrix([[1, 2], [3, 4]]),
    sp.diff(sp.exp(-x * y) * sp.sin(z) ** 3 / (1 + x**2), x, 2),
    sp.exp(sp.exp(x)),
    sp.log(sp.Abs(sp.sin(y))),
]


@pytest.mark.parametrize("expr", SCALARS, ids=lambda e: str(e)[:40])
def test_scalars_and_dense_arrays_round_trip(expr):
    want = by_sympy(expr)
    ours = from_sympy(expr)
    got = value_of(ours, POINT)
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(by_sympy(to_sympy(ours)), want, rtol=1e-12)


@pytest.mark.parametrize(
    "expr",
    [
        x + y - z,
        x**2 / y,
        sp.sqrt(p) * sp.exp(-x),
        sp.sin(x) ** 2,
        sp.Max(x, 0),
        sp.erf(x * y),
        x * sp.pi / 3,
        sp.Matrix([[x, y**2], [1, sp.cos(x)]]),
        sp.Array([x, y, 2 * z]),
    ],
    ids=str,
)
def test_round_trip_gives_the_same_expression(expr):
    assert to_sympy(from_sympy(expr)) == expr


def test_numbers_stay_exact():
    for number in (sp.Rational(1, 3), sp.pi, sp.EulerGamma, sp.oo, sp.Integer(10) ** 30):
        assert to_sympy(from_sympy(number)) == number
    assert to_sympy(parse("0.1*x", {"x": symbol("x")})) == x / 10
    assert to_sympy(from_sympy(sp.Float("0.25", 40) + x)) == sp.Rational(1, 4) + x


def test_assumptions_become_facts_and_back():
    assert from_sympy(p).value.type.facts == {"positive"}
    assert to_sympy(from_sympy(p)) == p
    q = sp.Symbol("q", nonnegative=True)
    assert from_sympy(q).value.type.facts == {"nonnegative"}
    assert to_sympy(from_sympy(q)) == q
    assert from_sympy(x).value.type.facts == frozenset()
    assert to_sympy(symbol("x")) == x
    with pytest.raises(ArgumentError, match="two different symbols are called p"):
        from_sympy(p + sp.Symbol("p"))


def test_symbols_given_stand_for_arrays():
    n, m = dims("n m")
    v = symbol("v", (n,))
    applied = from_sympy(x * sp.exp(-(x**2)), {"x": v})
    at = np.array([0.1, -2.0, 1.5])
    np.testing.assert_allclose(value_of(applied, {"v": at}), at * np.exp(-at * at))
    # A dimension of a symbol is known by its name.
    assert value_of(from_sympy(sp.Symbol("n") * x, {"x": v}), {"v": at}) == pytest.approx(3 * at)
    rows = sp.MatrixSymbol("A", sp.Symbol("n"), sp.Symbol("n"))
    column = sp.MatrixSymbol("v", sp.Symbol("n"), 1)
    product = from_sympy(rows * column, {"v": v})
    matrix = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(value_of(product, {"A": matrix, "v": at}), (matrix @ at)[:, None])
    with pytest.raises(ShapeError, match="A has shape"):
        from_sympy(rows * column, {"A": symbol("A", (n, m))})


# -------------------------------------------------------------------- matrices
N_, M_ = sp.symbols("n m", integer=True, positive=True)
A, B = sp.MatrixSymbol("A", N_, N_), sp.MatrixSymbol("B", N_, N_)
W, V = sp.MatrixSymbol("W", M_, N_), sp.MatrixSymbol("V", M_, N_)
c = sp.MatrixSymbol("c", N_, 1)
_RNG = np.random.default_rng(8)
MATRICES = {
    "A": _RNG.normal(size=(3, 3)) + 3 * np.eye(3),
    "B": _RNG.normal(size=(3, 3)),
    "W": _RNG.normal(size=(2, 3)),
    "V": _RNG.normal(size=(2, 3)),
    "c": _RNG.normal(size=(3, 1)),
    "x": np.float64(0.37),
}
SIZES = {"n": 3, "m": 2}
a, b, w, v, k = (MATRICES[name] for name in "ABWVc")


@pytest.mark.parametrize(
    ("expr", "want"),
    [
        (A * B.T + x * A - sp.Identity(N_), a @ b.T + 0.37 * a - np.eye(3)),
        (A - B, a - b),
        (-A / 2, -a / 2),
        (A.inverse() * B * c, np.linalg.inv(a) @ b @ k),
        (sp.Trace(A * B) * x, np.trace(a @ b) * 0.37),
        (sp.Determinant(A), np.linalg.det(a)),
        (sp.log(sp.Abs(sp.Determinant(A))), np.linalg.slogdet(a)[1]),
        (sp.HadamardProduct(W, V, W), w * v * w),
        (sp.HadamardPower(W, 3), w**3),
        (A**3, a @ a @ a),
        (sp.OneMatrix(M_, N_) * c, np.ones((2, 3)) @ k),
        (W + sp.ZeroMatrix(M_, N_), w),
        (2 * W, 2 * w),
        (W.applyfunc(sp.Lambda(y, sp.sin(y) * sp.exp(-y))), np.sin(w) * np.exp(-w)),
        (A[1, 2] * x, a[1, 2] * 0.37),
        (sp.KroneckerProduct(A, B), np.kron(a, b)),
        (sp.BlockMatrix([[A, B], [B, A]]), np.block([[a, b], [b, a]])),
        (DiagMatrix(c) * A, k * a),
        (c.T * A * c, k.T @ a @ k),
        (N_ * A + N_**2 * x * B, 3 * a + 9 * 0.37 * b),
        (sp.MatMul(A, sp.Transpose(A + B)), a @ (a + b).T),
        (A * W.T, a @ w.T),
        (sp.Adjoint(W), w.T),
    ],
    ids=lambda e: str(e)[:30],
)
def test_matrix_expressions_mean_what_numpy_says(expr, want):
    got = value_of(from_sympy(expr), MATRICES, SIZES)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


def test_symbolic_shapes_become_dimensions():
    expr = from_sympy(sp.MatrixSymbol("X", 2 * N_ + 1, M_ * N_))
    assert [str(s) for s in expr.value.type.shape] == ["2*n + 1", "m*n"]
    assert from_sympy(sp.Identity(N_)).value.type.shape == dims("n n")


_M, _N = dims("m n")
OURS = {
    "A": symbol("A", (_N, _N)),
    "B": symbol("B", (_N, _N)),
    "W": symbol("W", (_M, _N)),
    "V": symbol("V", (_M, _N)),
    "x": symbol("x", (_N,)),
    "u": symbol("u", (_N,)),
    "y": symbol("y", (_M,)),
    "t": symbol("t"),
    "C": symbol("C", (_N, 1)),
}
AT = {
    "A": a,
    "B": b,
    "W": w,
    "V": v,
    "x": _RNG.uniform(0.5, 2, 3),
    "u": _RNG.normal(size=3),
    "y": _RNG.normal(size=2),
    "t": np.float64(0.7),
    "C": k,
}
TEXTS = """
    A@B; A@B.T@A; A.T; x@A@x; W@x+y; sum(W); sum(W,axis=0); sum(W,axis=1); trace(A); trace(A@B@A.T); np.diag(A);
    np.diag(x); x*u; W*V; sum(W*V); A@np.diag(x)@B; x[:,None]*A; A*x; np.outer(x,y); np.outer(x,x)@u;
    t*A+2*B-np.eye(n); np.linalg.inv(A)@x; np.linalg.solve(A,x); np.linalg.det(A); np.linalg.slogdet(A)[1];
    np.linalg.norm(x); np.linalg.norm(W)**2; np.exp(A); np.exp(x)@u; sum(np.tanh(W@x)**2); softmax(x); logsumexp(x);
    x/u; A/2; W/n; x**2; sum(x**-2); n*t+m*A; np.ones((m,n))@x; np.zeros((m,n))+W; x@x*A;
    np.einsum('ij,ij,ij->',W,V,W); np.einsum('ij,ik,j->k',A,B,x); np.einsum('i,i,i->i',x,u,x);
    np.einsum('ij,ji,i->',A,B,x); np.einsum('ii,i->i',A,x); np.einsum('i,ij,i->j',x,A,u);
    np.einsum('i,i,i->',x,u,x); C.T@A@C; x[:,None]@x[None,:]; x-u; np.mean(x); sigmoid(W@x); sum(np.abs(u));
    np.linalg.matrix_power(A,3); np.einsum('ij->j',A)*x; np.eye(n)*t; np.einsum('ij,ij,kl,kl->',W,V,A,B);
    np.einsum('ij,jk,kl,li->',A,B,A,B); np.einsum('ii,jj->ij',A,B); np.einsum('ij,j,k->ik',A,x,u);
    np.einsum('i,j->ji',x,y); np.einsum('ij,i->ij',A,x)*2; -x; A*A.T; 2-x; np.einsum('ij,ji->',A,A);
    np.einsum('ij,ij->',A,A); np.einsum('ij,i,j->',A,x,u)*t; sum(x)*sum(u); x*t/u
"""


def explicit(expr):
    """Numbers of a SymPy matrix expression with our values put in, computed by SymPy entry by entry."""
    at = expr.subs({N_: 3, M_: 2})
    for name, value in AT.items():
        flat = np.asarray(value)
        if not flat.ndim:
            at = at.subs(sp.Symbol(name), value)
        else:
            flat = flat.reshape(flat.shape[0], -1)
            at = at.subs(sp.MatrixSymbol(name, *flat.shape), sp.ImmutableMatrix(flat.tolist()))
    at = at.replace(sp.Trace, lambda arg: arg.as_explicit().trace())
    at = at.as_explicit() if hasattr(at, "as_explicit") else at
    return np.array(at.doit().evalf().tolist() if hasattr(at, "tolist") else float(at.doit().evalf()), float)


@pytest.mark.parametrize("text", [" ".join(t.split()) for t in TEXTS.split(";")])
def test_symbolic_sizes_become_matrix_expressions(text):
    ours = parse(text, OURS)
    want = value_of(ours, AT, SIZES)
    column = want.reshape(-1, 1) if want.ndim == 1 else want
    theirs = to_sympy(ours)
    assert getattr(theirs, "is_Matrix", False) == bool(want.ndim)
    back = value_of(from_sympy(theirs, OURS), AT, SIZES)
    np.testing.assert_allclose(back.reshape(column.shape), column, rtol=1e-10, atol=1e-12)
    if "ii" not in text and "np.diag(A)" not in text:  # SymPy cannot write out its own DiagonalOf
        np.testing.assert_allclose(explicit(theirs), column, rtol=1e-10, atol=1e-12)


def test_matrix_products_read_as_one_would_write_them():
    def written(text):
        return str(to_sympy(parse(text, OURS)))

    assert written("A@B.T@A") == "A*B.T*A"
    assert written("trace(A@B)") == "Trace(A*B)"
    assert written("np.linalg.inv(A)@x") == "A**(-1)*x"
    assert written("x*u") == "HadamardProduct(x, u)"


@pytest.mark.parametrize(
    "text",
    [
        "np.einsum('ij,ik,il->jkl',A,A,A)",
        "np.einsum('ij,ik,il->jk',A,B,A)",
        "np.maximum(x,u)",
        "np.max(x)",
        "np.tril(A)",
        "x[0]",
        "np.where(x<u,x,u)",
        "W.reshape(n*m)",
        "np.cumsum(x)",
        "np.arange(n)*t",
    ],
)
def test_what_sympy_cannot_say_is_refused(text):
    with pytest.raises(UnsupportedError, match="to_sympy"):
        to_sympy(parse(text, OURS))


# -------------------------------------------------------------------- entries
STATIC = {"X": symbol("X", (2, 2)), "q": symbol("q", (2,)), "r": symbol("r", (3,)), "T": symbol("T", (2, 2, 2))}
STATIC_AT = {
    "X": np.array([[1.5, -0.4], [0.3, 2.0]]),
    "q": np.array([0.7, -1.1]),
    "r": np.array([0.2, 1.4, -0.6]),
    "T": _RNG.normal(size=(2, 2, 2)),
}


@pytest.mark.parametrize(
    "text",
    [
        "X@X",
        "X@q",
        "np.linalg.inv(X)",
        "np.linalg.det(X)",
        "np.linalg.solve(X,q)",
        "np.linalg.slogdet(X)[1]",
        "np.max(r)",
        "np.tril(X)",
        "X[0]",
        "r[::-1]",
        "r[1:]",
        "np.concatenate([q,r])",
        "np.cumsum(r)",
        "np.prod(r)",
        "softmax(r)",
        "logsumexp(r)",
        "np.linalg.norm(X)",
        "np.where(r<0,r,r**2)",
        "np.maximum(r,0.5)",
        "np.eye(2)+X",
        "np.einsum('ij,ik,il->jkl',X,X,X)",
        "T.reshape(4,2)",
        "np.kron(X,X)",
        "np.outer(q,r)",
        "r[np.array([2,0,2])]",
        "np.sum(T,axis=(0,2))",
        "relu(q)",
        "np.clip(r,0,1)",
        "np.mean(X,axis=0)",
        "np.arange(3)*r",
        "np.hypot(q,1)",
        "np.log1p(np.exp(r))",
        "np.cbrt(r)",
        "np.array([[1,2.5],[0.1,3]])@q",
        "np.sign(r)*np.floor(r)+r%2",
    ],
)
def test_static_arrays_are_written_out(text):
    ours = parse(text, STATIC)
    want = value_of(ours, STATIC_AT)
    theirs = to_sympy(ours)
    assert isinstance(theirs, sp.MatrixBase) == (want.ndim == 2)
    at = theirs
    for name, value in STATIC_AT.items():
        base = sp.IndexedBase(name, shape=value.shape)
        at = at.subs({base[place]: sp.Float(value[place]) for place in np.ndindex(*value.shape)})
    got = np.array(at.tolist() if hasattr(at, "tolist") else float(at), float)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    back = value_of(from_sympy(theirs), STATIC_AT)
    np.testing.assert_allclose(back, want, rtol=1e-12, atol=1e-13)


def test_sympy_differentiates_what_we_hand_over():
    expr = to_sympy(parse("sum(np.sin(r)*r)", STATIC))
    r = sp.IndexedBase("r", shape=(3,))
    slope = expr.diff(r[1]).subs({r[i]: float(STATIC_AT["r"][i]) for i in range(3)})
    assert float(slope) == pytest.approx(np.sin(1.4) + 1.4 * np.cos(1.4), rel=1e-12)


def test_large_static_arrays_are_refused():
    with pytest.raises(UnsupportedError, match="limited to"):
        to_sympy(symbol("X", (200, 200)) * 2)


# -------------------------------------------------------------------- undefined functions
def test_undefined_functions_and_their_derivatives():
    f = sp.Function("f")
    applied = from_sympy(f(x) * 2)
    assert to_sympy(applied) == 2 * f(x)
    for expr in (sp.Derivative(f(x), x), sp.Derivative(f(x), (x, 2)), sp.diff(f(x**2), x), sp.diff(f(x, y), x, y)):
        ours = from_sympy(expr)
        assert sp.simplify(to_sympy(ours).doit() - expr.doit()) == 0
    got = value_of(from_sympy(sp.diff(f(x**2), x)), {"x": 1.5}, f=lambda u, wrt: {(): np.sin, (0,): np.cos}[wrt](u))
    assert got == pytest.approx(2 * 1.5 * np.cos(1.5**2))
    mixed = value_of(from_sympy(sp.diff(f(x, y), y)), POINT, f=lambda u, v, wrt: 10 * u + v if wrt == (1,) else np.nan)
    assert mixed == pytest.approx(10 * 0.37 - 1.3)
    g = UndefinedFunction("g")
    assert to_sympy(g(symbol("x") * 3)) == sp.Function("g")(3 * x)
    with pytest.raises(UnsupportedError, match="doit"):
        from_sympy(sp.Derivative(sp.sin(x), x, evaluate=False))


# -------------------------------------------------------------------- refusals and size
@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (sp.I * x, "ImaginaryUnit is not supported"),
        (sp.zoo, "ComplexInfinity is not supported"),
        (sp.LambertW(x), "LambertW is not supported"),
        (sp.Integral(sp.exp(x**2), x), "Integral is not supported"),
        (sp.Sum(x**y, (y, 0, z)), "Sum is not supported"),
        (sp.MatrixSymbol("A", N_, N_)[sp.Symbol("i"), 0], "integer indices"),
        (sp.polygamma(y, x), "order"),
        (sp.MatrixSymbol("A", 2**N_, 1) * 2, "polynomial in named dimensions"),
        (A ** sp.Symbol("k"), "integer exponent"),
    ],
    ids=lambda e: str(e)[:20],
)
def test_what_we_cannot_say_is_refused(expr, message):
    with pytest.raises(UnsupportedError, match=message):
        from_sympy(expr)


def test_text_is_not_run_as_code():
    with pytest.raises(ArgumentError, match=r"sd\.parse"):
        from_sympy("x + 1")
    with pytest.raises(SymdiffError):
        from_sympy(object())


def test_deep_and_wide_trees():
    deep = x
    for _ in range(5000):
        deep = sp.Add(sp.Mul(deep, y, evaluate=False), sp.Integer(1), evaluate=False)
    assert value_of(from_sympy(deep), {"x": 2.0, "y": 0.5}) == pytest.approx(2.0)
    wide = sp.Add(*[sp.Symbol(f"s{i}") ** 2 for i in range(1000)])
    ours = from_sympy(wide)
    assert value_of(ours, {f"s{i}": float(i) for i in range(1000)}) == pytest.approx(sum(i * i for i in range(1000)))
    assert to_sympy(ours) == wide
    assert to_sympy(from_sympy(x - wide + y)) == x - wide + y
