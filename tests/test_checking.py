"""check_gradient: it finds wrong gradients, accepts right ones, and says which is which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from symdiff.checking import check_gradient
from symdiff.errors import ArgumentError, DtypeError, ShapeError

RNG = np.random.default_rng(20)
W, X = RNG.normal(size=(3, 4)), RNG.normal(size=4)


def loss(W, x):
    return np.sum(np.tanh(W @ x) ** 2)


def loss_gradient(W, x):
    t = np.tanh(W @ x)
    d = 2 * t * (1 - t * t)
    return np.outer(d, x), W.T @ d


def test_right_gradient_passes_for_every_argument():
    report = check_gradient(loss, W, X, gradient=loss_gradient)
    assert report
    assert [a.name for a in report.arguments] == ["W", "x"]
    assert [len(a.entries) for a in report.arguments] == [12, 4]
    for argument in report.arguments:
        for entry in argument.entries:
            assert entry.complex_step == pytest.approx(entry.analytic, rel=1e-12)
            assert entry.central == pytest.approx(entry.analytic, rel=1e-7)
    assert "passed" in str(report) and "complex numbers" in str(report)
    # Four evaluations per derivative (two steps) and one at the point.
    assert report.evaluations >= 4 * 16 + 1


@pytest.mark.parametrize("factor", [1.0001, 0.0, -1.0, math.nan])
def test_one_wrong_entry_is_named(factor):
    def wrong(W, x):
        a, b = loss_gradient(W, x)
        a[1, 2] *= factor
        return a, b

    report = check_gradient(loss, W, X, gradient=wrong)
    assert not report
    assert [(a.name, e.place) for a, e in report.failures] == [("W", (1, 2))]
    assert report.arguments[0].worst is report.failures[0][1]
    assert "W[1, 2]" in str(report) and "FAILED" in str(report)


def test_small_error_below_the_tolerance_of_differences_is_seen_by_the_complex_step():
    right = np.cos(0.7)
    assert check_gradient(np.sin, 0.7, gradient=right * (1 + 1e-14), rtol=1e-12)
    assert not check_gradient(np.sin, 0.7, gradient=right * (1 + 1e-10), rtol=1e-12)


def test_argnums_chooses():
    only_x = check_gradient(loss, W, X, gradient=lambda W, x: loss_gradient(W, x)[1], argnums=1)
    assert only_x and [a.name for a in only_x.arguments] == ["x"]
    made = check_gradient(loss, W, X, argnums=(1, 0), gradient_of=lambda f, nums: lambda *a: tuple(
        loss_gradient(*a)[i] for i in nums))  # fmt: skip
    assert made and [a.name for a in made.arguments] == ["x", "W"]


def test_random_directions_cost_less_and_still_find_faults():
    n = 500
    x = RNG.normal(size=n)

    def f(x):
        return np.sum(np.sin(x) * x)

    right = np.cos(x) * x + np.sin(x)
    report = check_gradient(f, x, gradient=right, directions=3)
    assert report and report.evaluations < 60
    wrong = right.copy()
    wrong[17] += 0.1
    assert not check_gradient(f, x, gradient=wrong, directions=3)


def test_kinks_accept_what_lies_between_the_slopes():
    def f(x):
        return np.sum(np.abs(x))

    x = np.array([0.0, 1.5, -2.0])
    report = check_gradient(f, x, gradient=np.sign)
    entry = report.arguments[0].entries[0]
    assert report and entry.verdict == "kink"
    assert (entry.left, entry.right) == pytest.approx((-1.0, 1.0))
    assert "x[0]: kink suspected" in str(report)
    assert not check_gradient(f, x, gradient=np.array([1.1, 1.0, -1.0]))
    # A kink at a distance smaller than the first step is no kink at the point.
    x = np.array([0.0, 1e-8])
    near = check_gradient(lambda x: float(np.sum(np.maximum(x, 0))), x, gradient=np.array([0.5, 1.0]))
    assert [e.verdict for e in near.arguments[0].entries] == ["kink", "ok"]


def test_curvature_is_no_kink():
    report = check_gradient(lambda x: float(np.sum(1e6 * x**2)), np.array([1.0, 1e-3]), gradient=lambda x: 2e6 * x)
    assert report
    assert all(e.verdict == "ok" for e in report.arguments[0].entries)


def test_non_analytic_code_does_not_spoil_the_check():
    # numpy.abs gives the modulus of a complex number, so the complex step says 0 here.
    x = np.array([1.0, -2.0])
    report = check_gradient(lambda x: np.sum(np.abs(x) ** 3), x, gradient=lambda x: 3 * x * np.abs(x))
    assert report and all(e.complex_step is None for e in report.arguments[0].entries)
    # The imaginary part is partly lost: x * |x| has a complex step of |x|, half the derivative.
    half = check_gradient(lambda x: np.sum(x * np.abs(x)), x, gradient=lambda x: 2 * np.abs(x))
    assert half and all(e.complex_step is None for e in half.arguments[0].entries)
    assert not check_gradient(lambda x: np.sum(x * np.abs(x)), x, gradient=np.abs)


def test_function_that_refuses_complex_numbers():
    assert check_gradient(lambda x: math.exp(float(x)), 0.3, gradient=math.exp(0.3))


def test_nan_at_the_point_and_beside_it():
    at = check_gradient(lambda x: np.sum(np.log(x)), np.array([-1.0, 1.0]), gradient=lambda x: 1 / x)
    assert not at and "nothing can be compared" in str(at)
    edge = check_gradient(lambda x: float(np.sum(np.sqrt(x))), np.array([0.0, 1.0]), gradient=np.array([0.0, 0.5]))
    assert [e.verdict for e in edge.arguments[0].entries] == ["not finite", "ok"]
    assert not edge and "not finite beside the point" in str(edge)
    # Close to the edge of the domain the step shrinks until both sides exist.
    assert check_gradient(lambda x: float(np.sum(np.log(x))), np.array([1e-9, 1.0]), gradient=lambda x: 1 / x)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e6, 1e12])
def test_step_follows_the_size_of_x(scale):
    x = scale * np.array([0.7, -1.3])

    def f(x):
        return float(np.sum(np.sin(x / scale)))

    right = np.cos(x / scale) / scale
    assert check_gradient(f, x, gradient=right)
    assert not check_gradient(f, x, gradient=right * (1 + 1e-4))


def test_step_grows_when_the_value_hides_the_change():
    # exp(x) near 0: a step in proportion to x would be lost in rounding.
    x = np.array([1e-8, -3e-9])
    report = check_gradient(lambda x: float(np.sum(np.exp(x))), x, gradient=np.exp)
    assert report and all(e.step > 1e-8 for e in report.arguments[0].entries)
    assert not check_gradient(lambda x: float(np.sum(np.exp(x))), x, gradient=lambda x: np.exp(x) * 1.0001)


def test_noise_is_reported_and_not_called_agreement():
    rng = np.random.default_rng(1)
    report = check_gradient(lambda x: float(1e12 + rng.normal()), 1.0, gradient=0.5)
    assert not report


def test_constant_function_and_empty_argument():
    assert check_gradient(lambda x: 3.0, np.array([1.0, 2.0]), gradient=np.zeros(2))
    assert not check_gradient(lambda x: 3.0, np.array([1.0, 2.0]), gradient=np.array([0.0, 1e-3]))
    assert check_gradient(lambda x: float(np.sum(x)), np.zeros((0, 3)), gradient=np.zeros((0, 3)))


VANISHING = {
    "probabilities sum to one": lambda x: np.sum(np.exp(x) / np.sum(np.exp(x))),
    "its logarithm, zero": lambda x: np.log(np.sum(np.exp(x) / np.sum(np.exp(x)))),
    "sine and cosine": lambda x: np.sum(np.sin(x) ** 2 + np.cos(x) ** 2),
    "of another size": lambda x: 1e-30 * np.sum(np.sin(x) ** 2 + np.cos(x) ** 2),
    "a mean taken off": lambda x: np.sum(x - np.mean(x)),
    "without the complex step": lambda x: np.sum(np.log(x**2) - 2 * np.log(np.abs(x))),
    "scale does not matter": lambda x: np.log(np.sum(x**2)) - np.log(np.sum((3 * x) ** 2)),
    "standard deviation one": lambda x: np.std((x - np.mean(x)) / np.std(x)),
}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0])
@pytest.mark.parametrize("name", VANISHING)
def test_rounding_of_a_derivative_that_vanishes_is_no_difference(name, scale):
    f, rng = VANISHING[name], np.random.default_rng(3)
    for size in (3, 17):
        x = scale * rng.normal(size=size)
        # The slopes that the terms of the function have, one by one.
        slope = {"of another size": 1e-30, "a mean taken off": scale}.get(name, 1.0) / min(scale, 1.0)
        noise = 1e-16 * slope * rng.normal(size=size)
        for claim in (np.zeros(size), noise):
            report = check_gradient(f, x, gradient=claim)
            assert report, report
            assert all(e.error < 1.01e-6 or e.verdict != "ok" for e in report.arguments[0].entries)
        # What differences see is still told.
        assert not check_gradient(f, x, gradient=claim + 1e-4 * slope)


def test_a_small_function_is_measured_by_its_own_size():
    x = np.array([0.5, -2.0])

    def f(y):
        return 1e-20 * np.sum((y - x) ** 2)

    assert check_gradient(f, x, gradient=np.zeros(2))
    assert not check_gradient(f, x, gradient=np.array([0.0, 1e-20]))


def test_steps_are_not_lost_in_the_argument():
    # Every smaller step was taken for better, down to steps that x + h does not hold.
    report = check_gradient(lambda x: np.sum(x - np.mean(x)), np.linspace(1, 2, 17), gradient=np.zeros(17))
    assert all(e.step > 1e-9 for e in report.arguments[0].entries)


def test_single_precision_has_its_own_tolerance():
    w, x = W.astype(np.float32), X.astype(np.float32)
    report = check_gradient(loss, w, x, gradient=loss_gradient)
    assert report and report.rtol == 1e-3
    assert not check_gradient(loss, w, x, gradient=lambda *a: tuple(1.01 * g for g in loss_gradient(*a)))


def test_points_are_not_changed_even_by_a_careless_function():
    x = np.array([1.0, 2.0])

    def careless(x):
        x *= 2
        return np.sum(x**2)

    assert check_gradient(careless, x, gradient=np.array([8.0, 16.0]))
    assert x.tolist() == [1.0, 2.0]


def test_wrong_use_is_explained():
    with pytest.raises(ArgumentError, match="no gradient is given"):
        check_gradient(np.sin, 0.5)
    with pytest.raises(ArgumentError, match="no point is given"):
        check_gradient(np.sin, gradient=np.cos)
    with pytest.raises(ShapeError, match=r"returns shape \(2,\), expected a scalar"):
        check_gradient(np.sin, np.ones(2), gradient=np.cos)
    with pytest.raises(ShapeError, match=r"gradient in x has shape \(3,\), expected \(4,\)"):
        check_gradient(loss, W, X, gradient=np.ones(3), argnums=1)
    with pytest.raises(ArgumentError, match="1 parts for 2 checked arguments"):
        check_gradient(loss, W, X, gradient=np.ones(4))
    with pytest.raises(ArgumentError, match="argnums 2 for 2 arguments"):
        check_gradient(loss, W, X, gradient=loss_gradient, argnums=2)
    with pytest.raises(DtypeError, match="complex128"):
        check_gradient(np.sin, 1j, gradient=np.cos)
    with pytest.raises(ArgumentError, match="holds inf"):
        check_gradient(np.sin, np.inf, gradient=np.cos)
    for directions in (0, -1, 1.5):  # a check of nothing would pass
        with pytest.raises(ArgumentError, match=f"check_gradient: directions: given {directions}, expected"):
            check_gradient(np.sin, 0.5, gradient=np.sin, directions=directions)
    for rtol in (0, -1e-3, math.nan, "1e-3"):
        with pytest.raises(ArgumentError, match=r"check_gradient: rtol=.*, expected a positive number"):
            check_gradient(np.sin, 0.5, gradient=np.cos, rtol=rtol)
