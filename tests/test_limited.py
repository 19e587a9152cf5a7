"""Reductions over some of the entries (where=, initial=), over none, running extremes, and padding by repetition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symdiff as sd

NP: Any = np
RNG = np.random.default_rng(12)
X = RNG.normal(size=(4, 5))
KEPT = RNG.random((4, 5)) < 0.6
m, n = sd.dims("m n")
A = sd.symbol("A", (m, n))

FORMS: dict[str, Callable[[Any], Any]] = {
    "largest so far": lambda x: NP.maximum.accumulate(x, axis=1),
    "least so far": lambda x: NP.minimum.accumulate(x),
    "logaddexp": lambda x: NP.logaddexp.reduce(x, axis=1),
    "at least": lambda x: NP.max(x, axis=1, initial=0.3),
    "at most, of some": lambda x: NP.min(x, initial=0.1, where=KEPT),
    "over two axes": lambda x: NP.max(x[None], axis=(0, 2), initial=0.1, keepdims=True),
    "by method": lambda x: x.max(axis=0, initial=-1.0, where=KEPT) + x.mean(axis=0, where=x > 0),
    "by ufunc": lambda x: NP.maximum.reduce(x, axis=1, initial=0.1, where=KEPT),
    "means": lambda x: NP.mean(x, axis=1, where=KEPT),
    "products": lambda x: NP.prod(x, axis=0, where=KEPT, initial=2.0),
    "any and all": lambda x: NP.any(x > 0, axis=0, where=KEPT) * x + NP.all(x > 0, axis=0, where=~KEPT) * x**2,
}  # fmt: skip
WIDTHS: list[Any] = [1, (2, 1), ((1, 2), (0, 3)), ((7, 9), (11, 1)), 0]
for _mode in ("edge", "reflect", "symmetric", "wrap"):
    for _widths in WIDTHS:
        FORMS[f"{_mode} {_widths}"] = lambda x, m=_mode, w=_widths: NP.pad(x, w, mode=m)


@pytest.mark.parametrize("name", FORMS)
def test_values_and_slopes(name: str) -> None:
    function = FORMS[name]
    np.testing.assert_allclose(sd.jit(function)(X), function(X), rtol=1e-12)
    direction = np.random.default_rng(3).normal(size=X.shape)
    want = (function(X + 1e-6 * direction) - function(X - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(sd.jvp(function, (X,), (direction,))[1], want, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_of_nothing(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape)
    forms: list[Callable[[Any], Any]] = [
        lambda x: NP.any(x > 0, axis=0), lambda x: NP.all(x > 0, axis=1), lambda x: NP.all(x > 0),
        lambda x: NP.logical_or.reduce(x > 0), lambda x: NP.max(x, axis=0, initial=0.3),
        lambda x: NP.max(x, initial=0.3), lambda x: NP.maximum.accumulate(x, axis=0),
    ]  # fmt: skip
    for form in forms:
        want = form(nothing)
        for got in (sd.jit(form)(nothing), sd.compile(form(A), [A])(nothing), form(A).evaluate(A=nothing)):
            assert np.shape(got) == want.shape
            np.testing.assert_array_equal(got, want)


def test_sources_ask_for_any_and_all() -> None:
    shown = sd.simplify(NP.where(NP.any(A > 0, axis=0), 1.0, NP.where(NP.all(A > 0), 2.0, 3.0)))
    assert "np.any(A > 0, axis=0)" in shown.source() and "np.all(A > 0)" in shown.source()
    assert "torch.any(" in shown.source("torch") and "all(" in shown.source("julia")
    assert r"\operatorname{all}(A > 0)" in shown.latex()


@pytest.mark.parametrize(
    "values", [[3, 1, 4], [-(2**63), 2**63 - 1], [False, True, False], [True, False], [], [np.nan, 1]]
)
def test_running_extremes_are_of_what_they_are_chosen_from(values: list[Any]) -> None:
    x = np.array(values)
    for form in (NP.maximum.accumulate, NP.minimum.accumulate):
        got = sd.jit(lambda x, form=form: form(x))(x)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got, form(x))


@pytest.mark.parametrize("case, message", [
    (lambda: NP.pad(A, 1, mode="mean"), "mode 'mean' is not supported, expected one of 'constant', 'edge'"),
    (lambda: NP.pad(A, (1.5, 1), mode="edge"), "widths 1.5, 1 with mode 'edge', expected integers"),
    (lambda: NP.hypot.reduce(A), r"np.hypot.reduce is not defined .* use sd.scan"),
    (lambda: NP.subtract.accumulate(A), r"np.subtract.accumulate is not defined .* use sd.scan"),
    (lambda: NP.max(A, where=A > 0), "where= needs initial="),
    (lambda: NP.mean(A[0], where=A > 0), r"shape \(m, n\) does not broadcast to \(n,\)"),
    (lambda: NP.sum(A[0], where=A > 0), r"shape \(m, n\) does not broadcast to \(n,\)"),
])  # fmt: skip
def test_refusals(case: Callable[[], Any], message: str) -> None:
    with pytest.raises(sd.SymdiffError, match=message):
        case()
