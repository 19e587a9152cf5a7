"""What expressions say of themselves: LaTeX options, closed forms, symbols, evaluation."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import symdiff as sd

NP: Any = np
m, n = sd.dims("m n")


def test_names_are_set_as_given() -> None:
    b = sd.symbol("b", (n,), latex=r"\hat\beta")
    X, y = sd.symbol("X", (m, n)), sd.symbol("y_1", (m,))
    g = sd.gradient(np.sum((X @ b - y) ** 2), b)
    assert g.latex() == r"2 X^{\top} (X \hat\beta - y_{1})"
    assert g.latex(symbols={"b": "w"}) == r"2 X^{\top} (X w - y_{1})"
    assert g.latex(bold=True) == r"2 \mathbf{X}^{\top} (\mathbf{X} \hat\beta - \mathbf{y}_{1})"
    assert sd.symbol("sigma").latex() == r"\sigma"


def test_pickled_expressions_are_what_they_were() -> None:
    b, X = sd.symbol("b", (n,), latex=r"\hat\beta"), sd.symbol("X", (n, n), symmetric=True)
    f = NP.sum(NP.sin(b) * b) + b @ X @ b
    positive = NP.sum(NP.maximum(b, 0))
    kinked = sd.gradient(positive, b, kinks={"maximum": "first"})
    running = sd.scan(lambda c, r: (c * r, c), 1.0, b)[0]
    given = [b, X, f, sd.gradient(f, b), kinked, running]
    read = pickle.loads(pickle.dumps(given))
    for old, new in zip(given, read, strict=True):
        assert (type(new), str(new), new.latex(), new.ir()) == (type(old), str(old), old.latex(), old.ir())
    at = np.array([0.5, 1.0, 2.0])
    for variable in (b, read[0]):
        for mode in ("forward", "reverse"):
            assert str(sd.gradient(read[2], variable, mode=mode)) == str(given[3])
        np.testing.assert_allclose(sd.compile(sd.gradient(read[5], variable), [variable])(at), [2.0, 1.0, 0.5])


def test_shared_subterms_get_a_where_clause() -> None:
    A, x, b = sd.symbol("A", (m, n)), sd.symbol("x", (n,)), sd.symbol("b", (m,))
    H = sd.hessian(sd.logsumexp(A @ x + b), x)
    short = H.latex(where=True)
    assert r"\text{where}" in short and len(short) < len(H.latex()) + 60
    assert short.count(r"\operatorname{softmax}") == 1 < H.latex().count(r"\operatorname{softmax}")


def test_the_value_keeps_kinks_and_the_text_does_not() -> None:
    x, y = sd.symbol("x"), sd.symbol("y")
    g = sd.gradient(np.maximum(x, y), x)
    assert "½" not in str(g) and g.evaluate(x=1.0, y=1.0) == 0.5
    assert g.closed_form().evaluate(x=2.0, y=1.0) == g.evaluate(x=2.0, y=1.0) == 1.0


def test_symmetric_variables_are_differentiated_as_if_unconstrained() -> None:
    P = sd.symbol("P", (n, n), positive_definite=True)
    f = -np.linalg.slogdet(P)[1]
    first = sd.gradient(f, P)
    assert str(first) == "-P⁻¹"
    # The second derivative is that of the unconstrained function, whichever way it is asked for.
    p = np.array([[2.0, 0.3], [0.3, 1.0]])
    inverse = np.linalg.inv(p)
    want = np.einsum("jk,li->ijkl", inverse, inverse)
    np.testing.assert_allclose(sd.hessian(f, P).evaluate(P=p), want, rtol=1e-12)
    np.testing.assert_allclose(sd.jacobian(first, P).evaluate(P=p), want, rtol=1e-12)


def test_symbols_and_evaluation() -> None:
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    f = np.tanh(W @ x)
    assert [s.value.name for s in f.symbols()] == ["W", "x"]
    with pytest.raises(sd.ArgumentError, match="no value given for x; given: W"):
        f.evaluate(W=np.ones((2, 3)))
    np.testing.assert_allclose(f.evaluate(W=np.ones((2, 3)), x=np.ones(3)), np.tanh([3.0, 3.0]))
    with pytest.raises(sd.ShapeError, match="dimension n is 4 here"):
        f.evaluate(W=np.ones((2, 3)), x=np.ones(4))


def test_several_variables_share_one_sweep() -> None:
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    f = np.sum(np.tanh(W @ x) ** 2)
    both = sd.gradient(f, {"W": W, "x": x})
    assert list(both) == ["W", "x"] and sd.verify(both["W"], sd.gradient(f, W))
    assert isinstance(sd.gradient(f, [W, x]), list) and isinstance(sd.gradient(f, (W, x)), tuple)


def test_an_unused_variable_has_a_zero_gradient() -> None:
    x, u = sd.symbol("x", (n,)), sd.symbol("u", (m, n))
    g = sd.gradient(np.sum(x), u)
    assert g.shape == u.shape and not np.any(sd.compile(g, [u])(np.ones((2, 3))))


def test_symbols_that_a_derivative_has_lost_show_sizes():
    n = sd.dim("n")
    x = sd.symbol("x", (n,))
    slope, three = sd.gradient(np.sum(x), x), np.arange(3.0)
    for found in (slope.evaluate(x=three), slope.evaluate({x: three}), sd.evaluate(slope, {"x": three})):
        np.testing.assert_array_equal(found, np.ones(3))
    np.testing.assert_array_equal((2 * sd.hessian(x @ x, x)).evaluate({x: three}), 4 * np.eye(3))
    with pytest.raises(sd.ShapeError, match="n"):
        slope.evaluate(x=np.ones((3, 2)))
    with pytest.raises(sd.ArgumentError, match="give x twice"):
        slope.evaluate({x: three}, x=three)
