"""Structured forms as their users take them: every conversion, small and empty sizes, single precision, several
variables, and the formula that stands for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from structures import X, n, rosenbrock

import symdiff as sd
from symdiff.errors import ArgumentError

m, k = sd.dims("m k")
DTYPE = {"f64": np.float64, "f32": np.float32}


def cases(dtype: str) -> dict[str, tuple[Any, Any, bool, str]]:
    """The function, the variable, whether its Hessian is meant, and the kind."""

    def symbol(name: str, *shape: Any) -> Any:
        return sd.symbol(name, shape, dtype)

    x, d, u = symbol("x", n), symbol("d", n), symbol("u", n)
    Z, U, V, A, P = symbol("Z", m, n), symbol("U", m, k), symbol("V", n, k), symbol("A", m, n), symbol("P", n, 3)
    B, C, s, i = symbol("B", n, n), symbol("C", m, m), symbol("s"), sd.symbol("i", (k,), "i64")
    neighbours = np.sum((Z[1:] - Z[:-1]) ** 2) + np.sum(np.sin(Z[:, 1:] * Z[:, :-1]))
    return {
        "factorization": (np.sum((A - U @ V.T) ** 2), U, True, "kronecker"),
        "factorization, other side": (np.sum((A - U @ V.T) ** 2), V, True, "kronecker"),
        "diagonal": (d * np.sin(x), x, False, "diagonal"),
        "softmax": (sd.softmax(x), x, False, "diagonal + low rank"),
        "diagonal and a product": (np.sum(d * x**2) + (u @ x) ** 2, x, True, "diagonal + low rank"),
        "equal products": ((x @ x) ** 2, x, True, "diagonal + low rank"),
        "Kronecker product": (C @ Z @ B, Z, False, "kronecker"),
        "Kronecker sum": (C @ Z + Z @ B, Z, False, "kronecker"),
        "band": (rosenbrock(x), x, True, "banded"),
        "stencil": (neighbours, Z, True, "stencil"),
        "block diagonal": (np.sum(np.exp(np.sum(P**2, axis=1))), P, True, "diagonal + block diagonal"),
        "block tridiagonal": (np.sum(np.exp(np.sum(P[1:] * P[:-1], axis=1))), P, True, "stencil + block banded"),
        "flat": (Z.reshape(m * n) ** 2, Z, False, "diagonal"),
        "gathered": (np.sin(x[i]) * d[i], x, False, "scattered"),
        "of a number": (np.sin(s) * s, s, True, "diagonal"),
        "in a number": (np.sin(s) * x, s, False, "dense"),
        "nothing": (u * 2, x, False, "zero"),
    }  # fmt: skip


def arguments(inputs: Any, sizes: dict[str, int], rng: Any) -> list[Any]:
    found: list[Any] = []
    for p in inputs:
        shape = tuple(s if isinstance(s, int) else sizes[str(s)] for s in p.shape)
        if p.value.type.floating:
            found.append(rng.normal(size=shape).astype(DTYPE[p.value.type.dtype]))
        else:
            found.append(rng.integers(-sizes["n"], sizes["n"], shape))
    return found


def check(operator: Any, want: Any, tolerance: float) -> None:
    """Every way to use an operator against the dense derivative."""
    template = operator.template
    high, wide = operator.shape
    matrix = want.reshape(high, wide)
    rng = np.random.default_rng(1)
    near: Any = {"rtol": tolerance, "atol": tolerance * float(np.abs(matrix).max(initial=1.0))}
    v, w = rng.normal(size=wide), rng.normal(size=high)
    vs, ws = rng.normal(size=(wide, 3)), rng.normal(size=(2, high))
    assert operator.dtype == want.dtype and operator.dense().dtype == want.dtype
    np.testing.assert_allclose(operator.dense(), want, **near)
    np.testing.assert_allclose(np.asarray(operator), matrix, **near)
    np.testing.assert_allclose(operator.T.toarray(), matrix.T, **near)
    if template.inside:
        np.testing.assert_allclose(operator @ v, matrix @ v, **near)
        if wide:  # an empty table may be the variable itself
            np.testing.assert_allclose(operator @ vs, matrix @ vs, **near)
    if len(template.inside) != 1:
        np.testing.assert_allclose(operator @ v.reshape(template.inside), (matrix @ v).reshape(template.out), **near)
    if template.out:
        np.testing.assert_allclose(operator.T @ w, w @ matrix, **near)
        np.testing.assert_allclose(w @ operator, w @ matrix, **near)
    np.testing.assert_allclose(ws @ operator, ws @ matrix, **near)
    for kind in ("csr", "csc", "coo"):
        found = operator.tosparse(kind)
        assert found.format == kind
        np.testing.assert_allclose(found.toarray(), matrix, **near)
    if high and wide:
        linear = operator.linear_operator()
        np.testing.assert_allclose(linear @ v, matrix @ v, **near)
        np.testing.assert_allclose(linear.T @ w, w @ matrix, **near)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("name", cases("f64"))
def test_operators_at_all_sizes(name: str, dtype: str) -> None:
    y, x, second, kind = cases(dtype)[name]
    form = (sd.hessian if second else sd.jacobian)(y, x, form="structured")
    assert form.kind == kind
    inputs = [x, *[s for s in y.symbols() if s.value is not x.value]]
    native = sd.compile(form, inputs)
    dense = sd.compile((sd.hessian if second else sd.jacobian)(y, x), inputs)
    rng = np.random.default_rng(2)
    for n_, m_, k_ in ((5, 4, 3), (2, 3, 7), (1, 1, 1), (3, 0, 0)):
        if not m_ and name == "stencil":  # the function has no windows there either
            continue
        sizes = {"n": n_, "m": m_, "k": k_}
        arrays = arguments(inputs, sizes, rng)
        check(native(*arrays), np.asarray(dense(*arrays), DTYPE[dtype]), 1e-11 if dtype == "f64" else 2e-5)


def test_the_hessian_by_differences() -> None:
    """Numbers from the primal alone."""
    y, x, _, _ = cases("f64")["factorization"]
    inputs = [x, *[s for s in y.symbols() if s.value is not x.value]]
    arrays = arguments(inputs, {"n": 4, "m": 3, "k": 2}, np.random.default_rng(0))
    slope = sd.compile(sd.gradient(y, x), inputs)
    found = sd.compile(sd.hessian(y, x, form="structured"), inputs)(*arrays)
    along = np.random.default_rng(1).normal(size=arrays[0].shape)
    step = 1e-5
    ahead, behind = (slope(arrays[0] + h * along, *arrays[1:]) for h in (step, -step))
    np.testing.assert_allclose(found @ along, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


def test_several_variables() -> None:
    """Jacobians nest once, Hessians twice; a cross derivative has the shapes of both."""
    u, v = sd.symbol("u", (n,)), sd.symbol("v", (n,))
    f = np.sum(np.exp(u * v)) + np.sum(u[1:] * v[:-1])
    at = [np.random.default_rng(i).normal(size=5) for i in range(2)]
    rows = sd.hessian(f, [u, v], form="structured")
    dense = sd.hessian(f, [u, v])
    flat = [entry for row in rows for entry in row]
    found = sd.compile(flat, [u, v])(*at)
    wanted = sd.compile([entry for row in dense for entry in row], [u, v])(*at)
    for one, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.toarray(), want, atol=1e-12)
    assert [entry.kind for entry in flat] == ["diagonal", "banded", "banded", "diagonal"]
    named = sd.jacobian(u * v, {"u": u, "v": v}, form="structured")
    assert {name: own.latex() for name, own in named.items()} == {
        "u": r"\operatorname{diag}(v)", "v": r"\operatorname{diag}(u)",
    }  # fmt: skip


# -------------------------------------------------------------------- formulas
SHOWN = {
    "factorization": r"I_{m} \otimes 2 V^{\top} V",
    "diagonal": r"\operatorname{diag}(d \odot \cos(x))",
    "softmax": r"\operatorname{diag}(\operatorname{softmax}(x)) - \operatorname{softmax}(x) "
               r"\operatorname{softmax}(x)^{\top}",
    "equal products": r"(4 x^{\top} x) I + 8 x x^{\top}",
    "Kronecker product": r"C \otimes B^{\top}",
    "Kronecker sum": r"C \otimes I_{n} + I_{m} \otimes B^{\top}",
    "flat": r"\operatorname{diag}(\operatorname{vec}(2 Z))",
    "gathered": r"\sum_{a < k} (\cos(x_{[i]}) \odot d_{[i]})_{a} e_{a} e_{i_{a}}^{\top}",
    "in a number": r"\cos(s) x",
    "nothing": "0",
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_formulas(name: str) -> None:
    y, x, second, _ = cases("f64")[name]
    form = (sd.hessian if second else sd.jacobian)(y, x, form="structured")
    assert form.latex() == SHOWN[name]


def test_formulas_by_columns_turn_kronecker_products_round() -> None:
    y, x, _, _ = cases("f64")["Kronecker sum"]
    form = sd.jacobian(y, x, form="structured")
    assert form.latex(order="F") == r"I_{n} \otimes C + B^{\top} \otimes I_{m}"
    with pytest.raises(ArgumentError, match="order 'K', expected 'C'"):
        form.latex(order="K")
    rng = np.random.default_rng(0)
    Z, C, B = rng.normal(size=(3, 4)), rng.normal(size=(3, 3)), rng.normal(size=(4, 4))
    inputs = [x, *[s for s in y.symbols() if s.value is not x.value]]
    named = {"Z": Z, "C": C, "B": B}
    found = sd.compile(form, inputs)(*[named[s.value.name] for s in inputs]).toarray()
    np.testing.assert_allclose(found, np.kron(C, np.eye(4)) + np.kron(np.eye(3), B.T))


def test_bands_are_shown_by_their_offset() -> None:
    form = sd.hessian(np.sum((X[1:] - X[:-1]) ** 2), X, form="structured")
    assert form.latex().startswith(r"-2 \operatorname{diag}_{-1}(\mathbf{1}) + \operatorname{diag}(")
    assert form.latex().endswith(r" - 2 \operatorname{diag}_{1}(\mathbf{1})")
    shifted = sd.jacobian(X[2:] * 3, X, form="structured")
    assert shifted.latex() == r"3 \sum_{a < n - 2} e_{a} e_{a + 2}^{\top}"


def test_masks_of_rows_stay_with_running_sums_of_the_rows() -> None:
    n, d = sd.dims("n d")
    X, T, a, m = (sd.symbol(name, shape) for name, shape in (("X", (n, d)), ("T", (n, d)), ("a", (d,)), ("m", (n,))))
    where: Any = np.where
    masked: Any = np.sum(where(m > 0, (np.cumsum(X, axis=1) * T) @ a, 0))
    slope = sd.gradient(masked, a)
    rng = np.random.default_rng(7)
    arrays = {s.value.name: rng.normal(size=[{"n": 4, "d": 3}[str(x)] for x in s.shape]) for s in (X, T, a, m)}
    want = (arrays["m"] > 0) @ (np.cumsum(arrays["X"], axis=1) * arrays["T"])
    np.testing.assert_allclose(eval(slope.source("numpy"), {"np": np, **arrays}), want, rtol=1e-12)
    np.testing.assert_allclose(slope.evaluate(arrays), want, rtol=1e-12)
