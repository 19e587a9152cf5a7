"""Worked numbers and formulas of five sets of lecture notes, with their misprints corrected.

Numbers: forward mode, reverse mode and native code agree with values computed here from the primal's definition.
Formulas: the printed NumPy source equals the expected one at random points with all dimensions different, and the
readable ones are golden text. The misprints (an index that does not exist, a transposed factor, a function taken for
its derivative) are checked to be different from what symdiff says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd

MODES = ("forward", "reverse")


def numbers(f: Any, wrt: Any, values: dict[str, Any], mode: str) -> list[Any]:
    """Value and gradients of f at `values`, by the interpreter for a mode, or natively."""
    if mode == "native":
        symbols = list(values_symbols(f, wrt))
        fn = sd.compile([f, *sd.gradient(f, list(wrt))], symbols)
        return list(fn(*[values[s.value.name] for s in symbols]))
    return [f.evaluate(values), *[g.evaluate(values) for g in sd.gradient(f, list(wrt), mode=mode)]]


def values_symbols(f: Any, wrt: Any) -> list[Any]:
    names = {s.value.name: s for s in wrt}
    return list(names.values())


@pytest.fixture(params=[*MODES, "native"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(got, float), np.asarray(want, float), rtol=1e-12, atol=1e-14)


# -------------------------------------------------------------------- worked numbers
def test_product_of_a_sum(mode: str) -> None:
    x, y, z = (sd.symbol(s) for s in "xyz")
    got = numbers((x + y) * z, [x, y, z], {"x": -2.0, "y": 5.0, "z": -4.0}, mode)
    close(got, [-12, -4, -4, 3])


def test_derivative_in_an_intermediate_value() -> None:
    x, y, z = (sd.symbol(s) for s in "xyz")
    q = x + y
    for mode in MODES:
        assert sd.gradient(q * z, q, mode=mode).evaluate(z=-4.0) == -4.0
        assert sd.gradient(q, x, mode=mode).evaluate() == 1.0


def test_one_neuron(mode: str) -> None:
    names = ["w0", "x0", "w1", "x1", "w2"]
    w0, x0, w1, x1, w2 = symbols = [sd.symbol(s) for s in names]
    a = sd.sigmoid(w0 * x0 + w1 * x1 + w2)
    point = dict(zip(names, (2.0, -1.0, -3.0, -2.0, -3.0), strict=True))
    slope = 0.19661193324148185
    got = numbers(a, symbols, point, mode)
    close(got, [0.7310585786300049, slope * -1, slope * 2, slope * -2, slope * -3, slope])
    # The notes derive -0.591 from a rounded slope; full precision gives -0.5898.
    assert abs(got[4] - -0.5898357997244456) < 1e-12


def test_sum_distributes_and_max_routes(mode: str) -> None:
    x, y, z = (sd.symbol(s) for s in "xyz")
    f = (x + y) * np.maximum(y, z)
    close(numbers(f, [x, y, z], {"x": 1.0, "y": 2.0, "z": 0.0}, mode), [6, 2, 5, 0])
    # At the tie y = z the declared convention splits the slope of max evenly.
    close(numbers(f, [x, y, z], {"x": 1.0, "y": 2.0, "z": 2.0}, mode), [6, 2, 2 + 1.5, 1.5])


def test_squared_norm_of_a_product(mode: str) -> None:
    W, x = sd.symbol("W", (2, 2)), sd.symbol("x", (2,))
    f = np.sum((W @ x) ** 2)
    got = numbers(f, [W, x], {"W": np.array([[0.1, 0.5], [-0.3, 0.8]]), "x": np.array([0.2, 0.4])}, mode)
    close(got[0], 0.116)
    close(got[1], [[0.088, 0.176], [0.104, 0.208]])
    close(got[2], [-0.112, 0.636])


def test_steps_of_numeric_gradients() -> None:
    def slope(h: float) -> float:
        sigmoid = lambda t: 1 / (1 + np.exp(-t))  # noqa: E731
        return (sigmoid(1 + h) - sigmoid(1 - h)) / (2 * h)

    z = sd.symbol("z")
    exact = sd.gradient(sd.sigmoid(z), z).evaluate(z=1.0)
    errors = {h: abs(slope(h) - exact) for h in (1e-4, 6e-6, 1e-8)}
    # A fixed step of 1e-4 is too long and 1e-8 too short in double precision.
    assert errors[6e-6] < errors[1e-4] and errors[6e-6] < errors[1e-8]
    assert sd.check_gradient(sd.sigmoid, 1.0)


@pytest.fixture
def network() -> dict[str, Any]:
    d, h, m = sd.dims("d h m")
    return {
        "W1": sd.symbol("W1", (h, d)), "b1": sd.symbol("b1", (h, 1)), "W2": sd.symbol("W2", (1, h)),
        "b2": sd.symbol("b2", (1, 1)), "X": sd.symbol("X", (d, m)), "Y": sd.symbol("Y", (1, m)), "m": m,
    }  # fmt: skip


@pytest.mark.parametrize("mode", [*MODES, "native"])
def test_two_layer_classifier_over_a_batch(network: dict[str, Any], mode: str) -> None:
    W1, b1, W2, b2, X, Y, m = network.values()
    A1 = sd.relu(W1 @ X + b1)
    Z2 = W2 @ A1 + b2
    assert [str(s) for s in A1.shape] == ["h", "m"] and Z2.shape[0] == 1 and str(Z2.shape[1]) == "m"
    P = sd.sigmoid(Z2)
    J = -np.sum(Y * np.log(P) + (1 - Y) * np.log(1 - P)) / m
    rng = np.random.default_rng(3)
    at = {"W1": (4, 3), "b1": (4, 1), "W2": (1, 4), "b2": (1, 1), "X": (3, 5)}
    values: dict[str, Any] = {name: rng.normal(size=shape) for name, shape in at.items()}
    values["Y"] = (rng.random((1, 5)) < 0.5).astype(float)
    wrt = [W1, b1, W2, b2]
    if mode == "native":
        symbols = [W1, b1, W2, b2, X, Y]
        got = sd.compile(sd.gradient(J, wrt), symbols)(*[values[s.value.name] for s in symbols])
    else:
        got = [g.evaluate(values) for g in sd.gradient(J, wrt, mode=mode)]
    Z1 = values["W1"] @ values["X"] + values["b1"]
    A = np.maximum(Z1, 0)
    delta = (1 / (1 + np.exp(-(values["W2"] @ A + values["b2"]))) - values["Y"]) / 5
    back = values["W2"].T @ delta * (Z1 > 0)
    for g, want in zip(got, (back @ values["X"].T, back.sum(1, keepdims=True), delta @ A.T, delta.sum(keepdims=True)),
                       strict=True):  # fmt: skip
        assert np.shape(g) == want.shape
        close(g, want)


def test_two_layer_network_without_named_loss() -> None:
    d, m, k = sd.dims("d m k")
    x, w1, w2 = sd.symbol("x", (d,)), sd.symbol("w1", (d, m)), sd.symbol("w2", (m, k))
    f1 = sd.function("f1")
    loss = sd.function("L", scalar=True)
    J = loss(w2.T @ f1(w1.T @ x))
    rng = np.random.default_rng(4)
    values = {"x": rng.normal(size=3), "w1": rng.normal(size=(3, 4)), "w2": rng.normal(size=(4, 5))}
    functions = {
        "f1": lambda z, wrt: (np.sin, np.cos)[len(wrt)](z),
        "L": lambda a, wrt: np.sum(a**3) if not wrt else 3 * a**2,
    }
    a1 = values["w1"].T @ values["x"]
    h1, slope = np.sin(a1), 3 * (values["w2"].T @ np.sin(a1)) ** 2
    back = np.cos(a1) * (values["w2"] @ slope)
    want = {"w2": np.outer(h1, slope), "w1": np.outer(values["x"], back), "x": values["w1"] @ back}
    for mode in MODES:
        for name, symbol in (("w2", w2), ("w1", w1), ("x", x)):
            g = sd.gradient(J, symbol, mode=mode)
            close(sd.evaluate(g, values, functions=functions), want[name])


def test_gradient_of_a_loss_behind_a_product() -> None:
    W, X = sd.symbol("W", (2, 2)), sd.symbol("X", (2, 3))
    loss = sd.function("L", scalar=True)
    g = sd.gradient(loss(W @ X), X)
    rng = np.random.default_rng(5)
    w, upstream = rng.normal(size=(2, 2)), rng.normal(size=(2, 3))
    got = sd.evaluate(g, {"W": w, "X": np.zeros((2, 3))}, functions={"L": lambda y, wrt: upstream})
    for j in range(3):
        close(got[0, j], upstream[0, j] * w[0, 0] + upstream[1, j] * w[1, 0])
        close(got[1, j], upstream[0, j] * w[0, 1] + upstream[1, j] * w[1, 1])
    # The misprints: dL/dx_21 from L_21 twice, dL/dx_22 from L_22 twice, dL/dx_23 from L_23 twice.
    for j in range(3):
        assert abs(got[1, j] - (upstream[1, j] * w[0, 1] + upstream[1, j] * w[1, 1])) > 1e-3


def test_chain_of_matrix_to_matrix_to_vector() -> None:
    X, A, u = sd.symbol("X", (2, 2)), sd.symbol("A", (2, 2)), sd.symbol("u", (2,))
    Y = A @ X
    Z = np.tanh(Y) @ u
    dZ_dY, dY_dX, dZ_dX = sd.jacobian(Z, Y), sd.jacobian(Y, X), sd.jacobian(Z, X)
    assert (dZ_dY.shape, dY_dX.shape, dZ_dX.shape) == ((2, 2, 2), (2, 2, 2, 2), (2, 2, 2))
    assert sd.verify(np.einsum("aij,ijkl->akl", dZ_dY, dY_dX), dZ_dX)
    dX = sd.symbol("dX", (2, 2))
    assert sd.verify(sd.jvp(Z, X, dX), np.einsum("aij,ij->a", dZ_dX, dX))


# -------------------------------------------------------------------- formulas
def formulas() -> dict[str, tuple[Any, Any, str]]:
    """name -> (derivative, expected NumPy text, LaTeX or '')."""
    n, m, d, k = sd.dims("n m d k")
    W, x, b = sd.symbol("W", (n, m)), sd.symbol("x", (m,)), sd.symbol("b", (n,))
    u, h, z = sd.symbol("u", (n,)), sd.symbol("h", (n,)), sd.symbol("z", (n,))
    t = sd.symbol("t")
    y, p = sd.symbol("y", (m,)), sd.symbol("p", (m,), positive=True)
    s = np.tanh(W @ x + b)
    X = sd.symbol("X", (d, k))
    V = sd.symbol("V", (n, d))
    L = sd.symbol("L", (n, k))
    S = sd.symbol("S", (n, n))
    return {
        "affine in x": (sd.jacobian(W @ x + b, x), "W", "W"),
        "affine in b": (sd.jacobian(W @ x + b, b), "np.eye(n)", "I"),
        "inner product": (sd.jacobian(u @ h, u), "h", "h"),
        "elementwise": (sd.jacobian(np.tanh(z), z), "np.diag(1-np.tanh(z)**2)", ""),
        "score in b": (sd.gradient(u @ s, b), "u*(1-np.tanh(W@x+b)**2)", ""),
        "score in W": (sd.gradient(u @ s, W), "np.outer(u*(1-np.tanh(W@x+b)**2),x)", ""),
        "score in x": (sd.gradient(u @ s, x), "W.T@(u*(1-np.tanh(W@x+b)**2))", ""),
        "sigmoid": (sd.gradient(1 / (1 + np.exp(-t)), t), "sigmoid(t)*(1-sigmoid(t))", ""),
        "cross entropy in p": (
            sd.gradient(-np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) / m, p), "-(y/p-(1-y)/(1-p))/m", ""),
        "cross entropy in z": (
            sd.gradient(-(u @ np.log(sd.sigmoid(z)) + (1 - u) @ np.log(1 - sd.sigmoid(z))) / n, z),
            "(sigmoid(z)-u)/n", ""),
        "relu": (sd.jacobian(sd.relu(z), z), "np.diag(np.where(z>0,1.0,0.0))", ""),
        "softmax and cross entropy": (sd.gradient(sd.logsumexp(z) - u @ z, z), "softmax(z)-u", ""),
        "product in one factor": (
            sd.jacobian(V @ X, X), "np.einsum('ik,jl->ijkl',V,np.eye(k))", ""),
        "product under a loss, right": (sd.gradient(np.sum(L * (V @ X)), X), "V.T@L", r"V^{\top} L"),
        "product under a loss, left": (sd.gradient(np.sum(L * (V @ X)), V), "L@X.T", r"L X^{\top}"),
        "squared norm in W": (sd.gradient(np.sum((S @ z) ** 2), S), "2*np.outer(S@z,z)", ""),
        "squared norm in x": (sd.gradient(np.sum((S @ z) ** 2), z), "2*S.T@S@z", ""),
    }  # fmt: skip


def check_text(got: Any, want: str) -> None:
    """Both texts as numbers, every dimension different."""
    names = {s.value.name: s for s in got.symbols()}
    n, m, d, k = sd.dims("n m d k")
    names["sizes"] = sd.symbol("sizes", (n, m, d, k))  # so that every dimension has its name in the text
    assert sd.verify(got, sd.parse(want, names)), str(got)


@pytest.mark.parametrize("name", list(formulas()))
def test_formula(name: str) -> None:
    got, want, latex = formulas()[name]
    check_text(got, want)
    text = got.source("numpy")
    bare = str.maketrans("", "", " ()")
    assert len(text.translate(bare)) <= len(want.translate(bare)), text
    if latex:
        assert got.latex() == latex


def test_wrong_formulas_are_told_apart() -> None:
    z = sd.symbol("z", (sd.dim("n"),))
    relu_itself, derivative = sd.relu(z), sd.gradient(np.sum(sd.relu(z)), z)
    assert not sd.verify(derivative, relu_itself)  # ReLU is printed where its derivative is meant
    assert not sd.verify(sd.gradient(np.sum(sd.sigmoid(z)), z), sd.sigmoid(z))
    n = sd.dim("n")
    W, x, b, u = sd.symbol("W", (n, n)), sd.symbol("x", (n,)), sd.symbol("b", (n,)), sd.symbol("u", (n,))
    slope = 1 - np.tanh(W @ x + b) ** 2
    got = sd.gradient(u @ np.tanh(W @ x + b), b)
    with pytest.raises(sd.ShapeError):
        sd.verify(got, u @ slope)  # a dot product is a scalar, the gradient has the size of b


def test_undefined_activation_and_loss_keep_their_names() -> None:
    n, m = sd.dims("n m")
    W, x, b, u = sd.symbol("W", (n, m)), sd.symbol("x", (m,)), sd.symbol("b", (n,)), sd.symbol("u", (n,))
    f, loss = sd.function("f"), sd.function("L", scalar=True)
    assert "f′" in str(sd.jacobian(f(b), b))
    assert "f'" in sd.gradient(u @ f(W @ x + b), b).latex()
    X = sd.symbol("X", (m, n))
    assert r"W^{\top} \nabla L" in sd.gradient(loss(W @ X), X).latex()
