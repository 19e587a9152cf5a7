"""Transforms of Python functions: against numbers, nested in each other, one compilation for many sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.api import transforms
from symdiff.ir.builder import Builder

rng = np.random.default_rng(20)


def loss(p: Any, x: Any) -> Any:
    hidden = np.tanh(p["W"] @ x + p["b"])
    return np.sum(p["v"][0] * hidden) + p["v"][1] * np.sum(hidden**2)


def point(m: int, n: int) -> tuple[Any, Any]:
    params = {"W": rng.normal(size=(m, n)), "b": rng.normal(size=m), "v": [rng.normal(size=m), 0.7]}
    return params, rng.normal(size=n)


def by_hand(p: Any, x: Any) -> dict[str, Any]:
    hidden = np.tanh(p["W"] @ x + p["b"])
    back = (p["v"][0] + 2 * p["v"][1] * hidden) * (1 - hidden**2)
    return {"W": np.outer(back, x), "b": back, "v": [hidden, np.sum(hidden**2)]}


def test_gradients_are_nested_like_arguments() -> None:
    params, x = point(4, 3)
    value, grads = sd.value_and_grad(loss)(params, x)
    want = by_hand(params, x)
    np.testing.assert_allclose(value, loss(params, x), rtol=1e-13)
    assert list(grads) == ["W", "b", "v"] and isinstance(grads["v"], list)
    np.testing.assert_allclose(grads["W"], want["W"], rtol=1e-12)
    np.testing.assert_allclose(grads["b"], want["b"], rtol=1e-12)
    np.testing.assert_allclose(grads["v"][0], want["v"][0], rtol=1e-12)
    np.testing.assert_allclose(grads["v"][1], want["v"][1], rtol=1e-12)


def test_one_compilation_serves_other_sizes() -> None:
    gradient = sd.grad(loss)
    for m, n in ((4, 3), (7, 5), (2, 9)):
        params, x = point(m, n)
        np.testing.assert_allclose(gradient(params, x)["W"], by_hand(params, x)["W"], rtol=1e-12)
    assert gradient.compilations == 1
    params, x = point(3, 3)  # fits the program of different sizes as well
    np.testing.assert_allclose(gradient(params, x)["W"], by_hand(params, x)["W"], rtol=1e-12)
    assert gradient.compilations == 1


def test_several_arguments() -> None:
    params, x = point(4, 3)
    _, dx = sd.grad(loss, argnums=(0, 1))(params, x)
    hidden = np.tanh(params["W"] @ x + params["b"])
    back = (params["v"][0] + 2 * 0.7 * hidden) * (1 - hidden**2)
    np.testing.assert_allclose(dx, params["W"].T @ back, rtol=1e-12)


def test_jacobians_agree_and_nest() -> None:
    A = rng.normal(size=(4, 3))
    f = lambda x: np.sin(A @ x)  # noqa: E731
    x = rng.normal(size=3)
    want = np.cos(A @ x)[:, None] * A
    np.testing.assert_allclose(sd.jacfwd(f)(x), want, rtol=1e-12)
    np.testing.assert_allclose(sd.jacrev(f)(x), want, rtol=1e-12)
    g = lambda x: np.sum(np.sin(A @ x))  # noqa: E731
    second = -A.T @ np.diag(np.sin(A @ x)) @ A
    np.testing.assert_allclose(sd.hessian(g)(x), second, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(sd.jacrev(sd.grad(g))(x), second, rtol=1e-11, atol=1e-13)
    v = rng.normal(size=3)
    np.testing.assert_allclose(sd.hvp(g, x, v), second @ v, rtol=1e-11, atol=1e-13)
    value, tangent = sd.jvp(f, (x,), (v,))
    np.testing.assert_allclose(tangent, want @ v, rtol=1e-12)
    np.testing.assert_allclose(value, f(x), rtol=1e-13)
    c = rng.normal(size=4)
    np.testing.assert_allclose(sd.vjp(f, (x,), c)[1][0], want.T @ c, rtol=1e-12)


def test_inner_derivatives_do_not_see_outer_variables() -> None:
    # d/dx of x * d/dy (x + y) at y = x is 1: perturbations must not be confused.
    inner = lambda x: x * sd.grad(lambda y: x + y)(x)  # noqa: E731
    assert sd.grad(inner)(3.0) == 1.0
    assert sd.grad(lambda x: x * sd.grad(lambda y: x * y)(2.0))(5.0) == 10.0


def test_third_derivative_of_a_scalar_function() -> None:
    third = sd.grad(sd.grad(sd.grad(np.sin)))
    assert abs(third(0.3) + np.cos(0.3)) < 1e-14


def test_vmap_over_arguments_and_gradients() -> None:
    w = rng.uniform(-1, 1, size=3)  # where 1 - tanh(t)**2 still has its digits
    X = rng.uniform(-1, 1, size=(6, 3))
    f = lambda w, x: np.tanh(w @ x) ** 2  # noqa: E731
    per_example = sd.vmap(sd.grad(f), in_axes=(None, 0))(w, X)
    want = np.stack([2 * np.tanh(w @ x) * (1 - np.tanh(w @ x) ** 2) * x for x in X])
    np.testing.assert_allclose(per_example, want, rtol=1e-12)
    columns = sd.vmap(lambda x: np.cumsum(x), in_axes=1, out_axes=1)(X)
    np.testing.assert_allclose(columns, np.cumsum(X, axis=0), rtol=1e-13)
    products = sd.vmap(sd.vmap(lambda a, b: a * b, in_axes=(None, 0)), in_axes=(0, None))(w, X[0])
    np.testing.assert_allclose(products, np.outer(w, X[0]), rtol=1e-13)


def test_vmap_with_an_axis_that_does_not_fit() -> None:
    with pytest.raises(sd.ShapeError, match="mapped axes have sizes"):
        sd.vmap(lambda a, b: a + b)(np.zeros(3), np.zeros(4))
    with pytest.raises(sd.ArgumentError, match="in_axes has 1 entries for 2"):
        sd.vmap(lambda a, b: a + b, in_axes=(0,))(np.zeros(3), np.zeros(3))


def test_loops_over_sizes_specialise() -> None:
    def running(x: Any) -> Any:
        total = 0.0
        for i in range(x.shape[0]):
            total = total * x[i] + np.sin(x[i])
        return total

    gradient = sd.grad(running)
    for n in (3, 5):
        x = rng.normal(size=n)
        assert sd.check_gradient(running, x, gradient=gradient)


def test_a_gradient_needs_a_scalar() -> None:
    with pytest.raises(sd.ShapeError, match="expected a scalar"):
        sd.grad(lambda x: x * 2)(np.zeros(3))


def test_check_gradient_names_the_wrong_entry() -> None:
    params, x = point(2, 3)
    assert sd.check_gradient(loss, params, x)
    wrong = by_hand(params, x)
    wrong["W"] = wrong["W"].copy()
    wrong["W"][1, 2] += 0.1
    report = sd.check_gradient(loss, params, x, gradient=wrong, argnums=0)
    assert not report and "(1, 2)" in str(report).replace("[1, 2]", "(1, 2)")


def test_a_function_is_checked_by_its_program() -> None:
    """Every evaluation of a function with a loop would trace the loop anew."""
    calls: list[Any] = []

    def loss(p: Any, u: Any, seen: Any) -> Any:
        calls.append(p)
        last, _ = sd.scan(lambda s, _: (s + p[0] * np.sin(np.roll(s, 1) * p[1]), None), u, None, length=4)
        return np.mean((last - seen) ** 2)

    rng = np.random.default_rng(8)
    p, u, seen = np.array([0.3, 0.7]), rng.normal(size=40), rng.normal(size=40)
    report = sd.check_gradient(loss, p, u, seen)
    assert report and report.evaluations > 4 * 82 and len(calls) < 20
    calls.clear()
    wrong = sd.grad(lambda p, u, seen: loss(p, u, seen) + 1e-5 * u[7], argnums=(0, 1, 2))
    report = sd.check_gradient(loss, p, u, seen, gradient=wrong)
    assert [(a.name, e.place) for a, e in report.failures] == [("argument 1", (7,))] and len(calls) < 20
    calls.clear()
    assert sd.check_gradient(loss, p, u, seen, directions=20) and len(calls) < 20


def test_a_function_is_checked_by_itself_where_its_program_is_another() -> None:
    def twice(f: Any) -> Any:
        return lambda x: f(x) * (1 if isinstance(x, np.ndarray) else 2)

    x = np.random.default_rng(9).normal(size=60)
    report = sd.check_gradient(twice(lambda x: np.sum(x**3)), x)
    assert len(report.failures) == 60
    # At its least value the program says the same; beside it the function's second derivative is 2, the program's 4.
    entry = sd.check_gradient(twice(lambda x: np.sum((x - 0.5) ** 2)), np.full(60, 0.5)).arguments[0].entries[7]
    assert (entry.right - entry.left) / (2 * entry.step) == pytest.approx(1)
    untraced = sd.check_gradient(lambda x: np.sum(np.sin(np.sort(x))), x, gradient=sd.grad(lambda x: np.sum(np.sin(x))))
    by_program = sd.check_gradient(lambda x: np.sum(np.sin(x)), x)
    for report in (untraced, by_program):
        assert report and report.arguments[0].entries[0].complex_step is not None


def test_static_arguments() -> None:
    power = sd.jit(lambda x, k: np.sum(x**k), static_argnums=1)
    x = rng.normal(size=4)
    np.testing.assert_allclose(power(x, 3), np.sum(x**3), rtol=1e-13)
    np.testing.assert_allclose(power(x, 2), np.sum(x**2), rtol=1e-13)


def _scaled(x: Any, scale: Any = 2.0, kind: str = "plain", flip: bool = False) -> Any:
    return np.sum(x**2) * scale * (3 if kind == "triple" else 1) * (-1 if flip else 1)


def test_keywords_are_traced_or_stay_python_values() -> None:
    x = np.array([0.5, -1.5, 2.0])
    slope = sd.grad(_scaled)
    np.testing.assert_allclose(slope(x), 4 * x)
    np.testing.assert_allclose(slope(x, scale=3.0), 6 * x)
    np.testing.assert_allclose(slope(x, scale=5.0), 10 * x)
    assert slope.compilations == 2  # a number given by keyword is traced
    np.testing.assert_allclose(slope(x, kind="triple", flip=True), -12 * x)
    np.testing.assert_allclose(sd.grad(lambda a, b, *, w: np.sum(a * b * w), argnums=-1)(x, x + 1, w=x), x * x)
    np.testing.assert_allclose(sd.hessian(_scaled)(x, scale=5.0), 10 * np.eye(3))
    np.testing.assert_allclose(sd.vmap(lambda a, s: a * s)(x, s=x + 1), x * (x + 1))
    np.testing.assert_allclose(sd.jit(lambda a, self: a * self)(x, self=x + 1), x * (x + 1))
    assert "_scaled" in repr(slope)


def test_aux_comes_back_beside_the_gradient() -> None:
    x = np.array([0.5, -1.5, 2.0])
    both = sd.value_and_grad(lambda v: (np.sum(v**3), {"norm": np.linalg.norm(v), "v": v}), has_aux=True)
    (value, aux), slope = both(x)
    assert value == np.sum(x**3) and aux["norm"] == np.linalg.norm(x)
    np.testing.assert_array_equal(aux["v"], x)
    np.testing.assert_allclose(slope, 3 * x**2)
    slope, twice = sd.grad(lambda v: (np.sum(v), 2 * v), has_aux=True)(x)
    np.testing.assert_array_equal(slope, np.ones(3))
    np.testing.assert_array_equal(twice, 2 * x)
    with pytest.raises(sd.ArgumentError, match=r"with has_aux=True the function returns a pair \(value, aux\)"):
        sd.grad(lambda v: np.sum(v), has_aux=True)(x)


def test_repeated_calls_go_straight_to_native_code_and_stay_right(rng):
    fn = sd.jit(lambda x, y: (x * y, x + 1))
    for shape in ((3,), (4,), (3,), (3,)):
        x, y = rng.normal(size=shape), rng.normal(size=shape)
        product, more = fn(x, y)
        np.testing.assert_array_equal(product, x * y)
        np.testing.assert_array_equal(more, x + 1)
    swapped = x.astype(">f8")
    np.testing.assert_array_equal(fn(swapped, y)[0], x * y)
    single = fn(x.astype(np.float32), y.astype(np.float32))[0]
    assert single.dtype == np.float32
    static = sd.jit(lambda x, k: x**k, static_argnums=1)
    np.testing.assert_allclose([static(x, 2), static(x, 3)], [x**2, x**3], rtol=1e-14)
    listed = sd.jit(lambda x: [x, {"twice": 2 * x}])
    for _ in range(2):
        assert listed(x)[1]["twice"][1] == 2 * x[1]


def test_bound_calls_of_transforms(rng):
    x, out = rng.normal(size=(5, 2)), np.empty((5, 2, 2))
    call = sd.vmap(sd.jacfwd(lambda v: np.stack([v[0] * v[1], np.sin(v[1])]))).bind(x, out=out)
    for _ in range(2):
        assert call() is out
        np.testing.assert_allclose(out[:, 0], x[:, ::-1])
        np.testing.assert_allclose(out[:, 1, 1], np.cos(x[:, 1]))
        x *= 2
    with pytest.raises(sd.ArgumentError, match="one array or a tuple of arrays"):
        sd.jit(lambda v: {"a": v}).bind(x)


@pytest.mark.parametrize("closed_over", [False, True])
def test_a_derivative_within_a_program_looks_at_its_own_function_alone(monkeypatch, closed_over):
    """Deriving along the way of a long program takes time by the length of the program, not by its square."""
    made = 0
    remake = Builder.remake

    def counted(self, value, args):
        nonlocal made
        made += 1
        return remake(self, value, args)

    def steps(x, count):
        for _ in range(count):
            if closed_over:
                state = x  # seen through the function, not given to it
                x = x - 0.1 * sd.grad(lambda z: np.sum(np.sin(z * state)))(np.ones(3))  # noqa: B023
            else:
                x = x - 0.1 * sd.grad(lambda z: np.sum(np.sin(z * z)))(x)
        return x

    monkeypatch.setattr(Builder, "remake", counted)
    counts = []
    for count in (20, 40):
        made = 0
        sd.jit(lambda x, count=count: steps(x, count))(np.linspace(0.1, 0.7, 3))
        counts.append(made)
    assert counts[1] < 2.2 * counts[0]
    x = np.linspace(0.1, 0.7, 3)
    want = x
    for _ in range(20):
        want = want - 0.1 * (np.cos(want) * want if closed_over else 2 * want * np.cos(want * want))
    np.testing.assert_allclose(sd.jit(lambda x: steps(x, 20))(x), want, rtol=1e-12)


@pytest.mark.parametrize(("out", "into"), [(9, 3), (3, 9), (5, 5)])
def test_a_jacobian_is_swept_from_the_side_with_fewer_seeds(out: int, into: int) -> None:
    rng = np.random.default_rng(4)
    weight, x = rng.normal(size=(out, into)), rng.normal(size=into)

    def f(v: Any) -> Any:
        return np.exp(weight @ np.sin(v))

    made, forward, backward = sd.jacobian(f), sd.jacfwd(f), sd.jacrev(f)
    slopes = np.exp(weight @ np.sin(x))[:, None] * weight * np.cos(x)
    for transform in (made, forward, backward):
        np.testing.assert_allclose(transform(x), slopes, rtol=1e-13)
    texts = [transform.native[0].ir for transform in (made, forward, backward)]
    assert texts[0] == texts[1 if out > into else 2] and texts[1] != texts[2]


@pytest.mark.parametrize(("steps", "derived"), [(200, 1), (3, 2)])
def test_a_long_function_that_is_traced_again_is_derived_once(monkeypatch, steps, derived):
    """The axis of a record keeps its size as a number, which shows when the function has been called."""
    calls = []
    gradients = transforms.gradients
    monkeypatch.setattr(transforms, "gradients", lambda *args: calls.append("derived") or gradients(*args))

    def f(x):
        calls.append("called")
        a, b, c = x[0], x[1], x[2]
        for _ in range(steps):
            a, b, c = a + 0.1 * b * c, b - 0.1 * a * c, c - 0.05 * a * b
        return a * b + c

    x = np.array([0.3, -0.7, 1.1])
    slope = sd.grad(f)
    found = slope(x)
    assert (calls.count("called"), calls.count("derived")) == (2, derived) and slope.compilations == 1
    differences = [(f(x + 1e-6 * e) - f(x - 1e-6 * e)) / 2e-6 for e in np.eye(3)]
    np.testing.assert_allclose(found, differences, rtol=1e-7)
    np.testing.assert_allclose(slope(np.append(x, [2.0, 3.0])), [*found, 0, 0], rtol=1e-12)
