"""Kinks: declared choices are shown to users, other choices are taken everywhere, what is no choice is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symdiff as sd

gradient: Any = sd.gradient
x, y = sd.symbol("x", (3,)), sd.symbol("y", (3,))
TIE = {"x": np.array([1.0, -2.0, 0.5]), "y": np.array([1.0, 3.0, -0.5])}


def test_the_readme_shows_the_declared_table() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert sd.kinks().markdown() in readme
    assert str(sd.kinks()).splitlines()[0].split() == ["function", "kink", "derivative", "there", "choices"]


@pytest.mark.parametrize("mode", ["forward", "reverse", "elimination"])
@pytest.mark.parametrize("share", ["first", "second", "even", 0.25, 1])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_is_shared_as_chosen(name: str, share: Any, mode: Any) -> None:
    f: Any = np.sum(getattr(np, name)(x, y) * np.array([1.0, 10.0, 100.0]))
    dx, dy = gradient(f, [x, y], mode, kinks={name: share})
    part = {"first": 1, "second": 0, "even": 0.5}.get(share, share)
    wins = np.array([0.0, 0.0, 100.0]) if name == "maximum" else np.array([0.0, 10.0, 0.0])
    want = wins + np.array([part, 0.0, 0.0])
    for got in (dx.evaluate(TIE), dx.closed_form().evaluate(TIE), sd.compile(dx, [x, y])(TIE["x"], TIE["y"])):
        np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(dy.evaluate(TIE), np.array([1.0, 10.0, 100.0]) - want)


@pytest.mark.parametrize("mode", ["forward", "reverse", "elimination"])
@pytest.mark.parametrize(
    ("name", "function", "choice"),
    [
        ("relu", sd.relu, 0), ("relu", sd.relu, 1), ("relu", sd.relu, 0.5), ("abs", np.abs, -1), ("abs", np.abs, 0.3),
        ("clip", lambda v: np.clip(v, 0, 1), 0), ("clip", lambda v: np.clip(v, 0, 1), 1),
        ("clip", lambda v: np.clip(v, 0, 1), 0.75),
    ],
)  # fmt: skip
def test_a_slope_at_zero_is_as_chosen(name: str, function: Any, choice: Any, mode: Any) -> None:
    slope = gradient(np.sum(y * function(x)), x, mode, kinks={name: choice})
    at = {"x": np.array([0.0, 0.5, 0.0]), "y": np.array([2.0, 3.0, -1.0])}
    np.testing.assert_allclose(slope.evaluate(at), [2 * choice, 3, -choice])
    np.testing.assert_allclose(slope.closed_form().evaluate(at), [2 * choice, 3, -choice])


def test_a_clipped_value_hands_the_rest_to_its_end() -> None:
    low = sd.symbol("low", (3,))
    f: Any = np.sum(np.clip(x, low, 5))
    slope = gradient(f, low, kinks={"clip": 0.75})
    assert slope.evaluate(x=np.array([1.0, 0.0, 2.0]), low=np.ones(3)).tolist() == [0.25, 1, 0]


@pytest.mark.parametrize("mode", ["forward", "reverse", "elimination"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1)])
def test_a_standard_deviation_is_a_norm_at_equal_entries(shape: tuple[int, ...], mode: Any) -> None:
    s, t = sd.symbol("s", shape), sd.symbol("t", shape)
    f: Any = np.std(s * t)
    slope = sd.gradient(f, s, mode=mode)
    assert not slope.evaluate(s=np.full(shape, 1.5), t=np.full(shape, 0.3)).any()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_first_of_equal_entries_takes_all(axis: int | None) -> None:
    M = sd.symbol("M", (2, 3))
    slope = gradient(np.sum(np.max(M, axis=axis)), M, kinks={"max": "first"})
    at = np.array([[1.0, 4.0, 4.0], [4.0, 4.0, 1.0]])
    want = {
        None: [[0, 1, 0], [0, 0, 0]], 0: [[0, 1, 1], [1, 0, 0]], 1: [[0, 1, 0], [1, 0, 0]],
    }[axis]  # fmt: skip
    assert slope.evaluate(M=at).tolist() == want
    assert sd.grad(lambda m: np.sum(np.max(m, axis=axis)), kinks={"max": "first"})(at).tolist() == want


def test_every_derivative_takes_choices() -> None:
    at = np.array([0.0, 2.0, -1.0])
    choice = {"relu": 1}

    def f(v: Any) -> Any:
        return np.sum(sd.relu(v) * v)

    assert sd.grad(f)(at).tolist() == [0, 4, 0]
    assert sd.hessian(f, kinks=choice)(at).diagonal().tolist() == [2, 2, 0]
    assert sd.hessian(f(x), x, kinks=choice).evaluate(x=at).diagonal().tolist() == [2, 2, 0]
    assert sd.jacfwd(sd.relu, kinks=choice)(at).diagonal().tolist() == [1, 1, 0]
    assert sd.jacrev(sd.relu, kinks=choice)(at).diagonal().tolist() == [1, 1, 0]
    assert sd.value_and_grad(lambda v: np.sum(sd.relu(v)), kinks=choice)(at)[1].tolist() == [1, 1, 0]
    ones = np.ones(3)
    assert sd.jvp(sd.relu, (at,), (ones,), kinks=choice)[1].tolist() == [1, 1, 0]
    assert sd.vjp(sd.relu, (at,), ones, kinks=choice)[1][0].tolist() == [1, 1, 0]
    assert sd.hvp(f, at, ones, kinks=choice).tolist() == [2, 2, 0]
    r: Any = sd.relu(x)
    for made in (sd.jvp(r, x, y, kinks=choice), sd.vjp(r, x, y, kinks=choice)):
        assert made.evaluate(x=at, y=ones).tolist() == [1, 1, 0]
    assert sd.hvp(f(x), x, y, kinks=choice).evaluate(x=at, y=ones).tolist() == [2, 2, 0]


def test_choices_show_in_the_formula_and_not_in_the_conditions() -> None:
    plain, chosen = (gradient(np.sum(sd.relu(x)), x, kinks=k) for k in (None, {"relu": 1}))
    assert (str(plain), str(chosen)) == ("[x > 0]", "[x ≥ 0]")
    assert any("x" in c for c in plain.conditions()) and not chosen.conditions()
    assert str(gradient(np.sum(sd.relu(x)), x)) == "[x > 0]"  # a choice is for one derivative


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"relu": 2}, "relu=2, expected a number from 0 to 1"), ({"tanh": 1}, "tanh has no kink; those with a choice"),
        ({"sign": 1}, "sign has one choice at x = 0"), ({"max": 0.5}, "max=0.5, expected 'even' or 'first'"),
        ({"maximum": "third"}, "maximum='third', expected 'even', 'first', 'second' or a number"),
        ({"relu": True}, "relu=True"), (3, "given 3, expected a dict"),
    ],
)  # fmt: skip
def test_what_is_no_choice_is_refused(choice: Any, message: str) -> None:
    with pytest.raises(sd.ArgumentError, match=message):
        gradient(np.sum(sd.relu(x)), x, kinks=choice)


@pytest.mark.parametrize("mode", ["reverse", "forward", "elimination"])
def test_slopes_of_powers_keep_their_derivative_in_an_exponent_of_zero(mode: Any) -> None:
    slope = gradient(np.sum(x**y), x)
    at, exponents, step = np.array([2.0, 0.5, 3.0]), np.array([0.0, 0.0, 2.0]), 1e-6
    native = sd.compile(slope, [x, y])
    want = (native(at, exponents + step) - native(at, exponents - step)) / (2 * step)
    made = sd.compile(sd.jacobian(slope, y, mode=mode, sizes={} if mode == "elimination" else None), [x, y])
    np.testing.assert_allclose(np.diagonal(made(at, exponents)), want, rtol=1e-6)
    assert np.array_equal(native(np.zeros(3), np.zeros(3)), np.zeros(3))
