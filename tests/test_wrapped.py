"""Rolled arrays, read out of one copy with a rim: values and slopes of stencils that wrap around."""

import numpy as np
import pytest

import symdiff as sd
from codegen import inspect
from codegen.arrays.lower import lower
from codegen.arrays.wrapped import wrapped
from symdiff.errors import EvaluationError


def line(u):
    return np.sum(np.exp(-((np.roll(u, 2) - u) ** 2)) + np.roll(u, -3) * np.roll(u, 1) * u)


def five(u):
    return sum(np.roll(u, s, a) for s in (1, -1) for a in (0, 1)) - 4 * u


def plane(u):
    return np.sum(np.sin(five(u)) * u)


def nine(u):
    corners = sum(np.roll(np.roll(u, s, 0), t, 1) for s in (1, -1) for t in (1, -1))
    return np.sum((five(u) + 0.5 * corners) ** 3)


def space(u):
    return np.sum((sum(np.roll(u, s, a) for s in (1, -1) for a in range(3)) - 6 * u) ** 3)


def spins(u):
    t = np.tanh(u)
    return -np.sum(t * (np.roll(t, 1, 0) + np.roll(t, 1, 1)))


def twice(u):
    return np.sum(np.roll(np.roll(u, 1), 1) * np.roll(u, 1) * u)


@pytest.mark.parametrize("function, rank", [(line, 1), (twice, 1), (plane, 2), (nine, 2), (spins, 2), (space, 3)])
def test_slopes_along_lines(rng, function, rank):
    both = sd.value_and_grad(function)
    second = sd.jit(lambda x, d: sd.jvp(sd.grad(function), (x,), (d,))[1])
    for n in (3, 4, 9, 34):
        u, d = rng.normal(size=(2, *(n, n + 1, n + 2)[:rank]))
        value, slope = both(u)
        h = 1e-5
        np.testing.assert_allclose(value, function(u), rtol=1e-13)
        np.testing.assert_allclose(np.sum(slope * d), (function(u + h * d) - function(u - h * d)) / (2 * h), rtol=1e-6)
        change = (both(u + h * d)[1] - both(u - h * d)[1]) / (2 * h)
        np.testing.assert_allclose(second(u, d), change, rtol=1e-6, atol=1e-6 * np.abs(change).max())


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64"])
def test_rolls_of_every_dtype_that_share_a_rim(rng, dtype):
    m, n = sd.dims("m n")
    x, y = sd.symbol("x", (m, n), dtype=dtype), sd.symbol("y", (m, n), dtype=dtype)

    def shifted(x, y):
        return [np.roll(x, 2, 0), np.roll(x, -1, 1) + y, np.roll(x, -8, 0) - np.roll(x + y, 3, 1), np.roll(x + y, 1, 0)]

    fn = sd.compile(shifted(x, y), (x, y))
    for shape in ((8, 3), (9, 40), (70, 5)):
        values = rng.integers(-99, 99, size=(2, *shape)).astype({"f64": "f8", "f32": "f4", "i64": "i8"}[dtype])
        for found, expected in zip(fn(*values), shifted(*values), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_windows_that_are_no_roll_stay_what_they_are(rng):
    n = sd.dim("n")
    x = sd.symbol("x", (n,))

    def mixed(x):
        first = np.concatenate([x[:1], x[:-1]])
        last = np.concatenate([x[-2:], x[2:]])
        return np.roll(x, 1) * first + np.roll(x, -1) * last

    fn = sd.compile([mixed(x), sd.gradient(np.sum(mixed(x)), x)], (x,))
    for size in (4, 5, 50):
        values = rng.normal(size=size)
        value, slope = fn(values)
        np.testing.assert_allclose(value, mixed(values), rtol=1e-14)
        unit = np.eye(size) * 1e-6
        numeric = [(np.sum(mixed(values + e)) - np.sum(mixed(values - e))) / 2e-6 for e in unit]
        np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


def test_steps_of_a_loop(rng):
    def step(state, _):
        u, v = state
        v = v + 0.1 * five(u)
        return (u + 0.1 * v, v), None

    def energy(u):
        (u, _), _ = sd.scan(step, (u, np.zeros_like(u)), None, length=5)
        return np.sum(u * u)

    u, d = rng.normal(size=(2, 12, 17))
    value, slope = sd.value_and_grad(energy)(u)
    a, b = u, np.zeros_like(u)
    for _ in range(5):
        b = b + 0.1 * five(a)
        a = a + 0.1 * b
    np.testing.assert_allclose(value, np.sum(a * a), rtol=1e-13)
    change = (sd.jit(energy)(u + 1e-5 * d) - sd.jit(energy)(u - 1e-5 * d)) / 2e-5
    np.testing.assert_allclose(np.sum(slope * d), change, rtol=1e-6)


def test_a_part_of_a_roll_is_read_out_of_the_copy_with_a_rim(rng):
    def parts(x):
        return np.roll(x, 1)[1:] * np.roll(x, -1)[::-1][1:]

    x = sd.symbol("x", (sd.dim("n"),))
    fn = sd.compile(parts(x), (x,))
    views = [node for node in wrapped(lower(inspect(fn).function)).needed() if node.kind == "view"]
    assert views and all(node.args[0].kind != "view" for node in views)
    values = rng.normal(size=50)
    np.testing.assert_allclose(fn(values), parts(values), rtol=1e-14)


def test_arrays_are_not_written_once_for_every_roll():
    fn = sd.value_and_grad(plane)
    fn(np.ones((40, 41)))
    loops = fn.native[0].loops
    assert loops.count("  temp ") <= 5
    assert "f64(n0 + 2, n1 + 2)" in loops


def test_a_roll_that_goes_around_more_than_once_is_refused():
    n = sd.dim("n")
    x = sd.symbol("x", (n,))
    fn = sd.compile(np.roll(x, 3) + np.roll(x, -1), (x,))
    with pytest.raises(EvaluationError, match="at most once around"):
        fn(np.ones(2))
