"""Closed forms keep the guards of a program: they have its numbers wherever it has any.

Random programs of choices, norms, roots, logarithms and quotients, at points full of zeros, negative numbers and ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Program, programs

import symdiff as sd
from symdiff.diff import gradients
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract, einsum, expand
from symdiff.ir.dims import named
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.simplify import simplify

M, N = named("m"), named("n")
SHAPES: dict[str, Any] = {"x": (N,), "y": (N,), "A": (M, N), "b": (M,), "s": ()}
SIZES = {"m": 2, "n": 3}
# Numbers between which choices change, and a few whose sums and products meet again.
SPECIAL = (-2.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 4.0)


class Maker:
    """Random values, new ones made of recent ones."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder(OPSET)
        self.params = [self.builder.param(name, TensorType("f64", shape)) for name, shape in SHAPES.items()]
        self.pool = [self.builder.handle(p) for p in self.params]

    def pick(self, items: Any) -> Any:
        items = list(items)
        return items[int(self.rng.integers(len(items)))]

    def any(self) -> Handle:
        return self.pick(self.pool[-4:] if self.rng.random() < 0.6 else self.pool)

    def like(self, h: Handle) -> Handle:
        """A value of the same shape: such a one, a number, or another one spread or summed to it."""
        fitting = [p for p in self.pool if p.shape == h.shape and p is not h]
        if fitting and self.rng.random() < 0.6:
            return self.pick(fitting)
        smaller = [p for p in self.pool if p.rank < h.rank and p.shape == h.shape[h.rank - p.rank :]]
        if smaller and self.rng.random() < 0.5:
            return expand(self.pick(smaller), h.shape)
        return h.const(self.pick((0, 0, 1, 2)))

    def condition(self, h: Handle) -> Handle:
        made = self.plain_condition(h)
        return made.op(self.pick(("and", "or")), self.plain_condition(h)) if self.rng.random() < 0.2 else made

    def plain_condition(self, h: Handle) -> Handle:
        other = h if self.rng.random() < 0.6 else self.like(h)
        return other.op(self.pick(("gt", "ge", "lt", "le", "ne", "eq")), self.like(other))

    def step(self) -> None:
        h = self.any()
        makers: dict[str, Callable[[], Handle]] = {
            "where": lambda: self.condition(h).op("select", h, self.like(h)),
            "masked": lambda: self.condition(h).op("select", h, h.const(0)),
            "maximum": lambda: h.op("maximum", self.like(h)),
            "minimum": lambda: h.op("minimum", self.like(h)),
            "abs": lambda: h.op("abs"),
            "relu": lambda: h.op("relu"),
            "sqrt": lambda: h.op("sqrt"),
            "log": lambda: h.op("log"),
            "divide": lambda: h / self.like(h),
            "reciprocal": lambda: 1 / h,
            "multiply": lambda: h * self.like(h),
            "square": lambda: h * h,
            "add": lambda: h + self.like(h),
            "subtract": lambda: h - self.like(h),
            "norm": lambda: h.op("norm", axes=(-1,)) if h.rank else h.op("abs"),
            "sum": lambda: einsum("...i->...", h) if h.rank else h,
            "product": lambda: h.op("reduce_prod", axis=-1) if h.rank else h,
            "matrix": lambda: einsum("ij,j->i", self.pool[2], self.pick([p for p in self.pool if p.shape == (N,)])),
        }
        made = makers[self.pick(makers)]()
        if made not in self.pool:
            self.pool.append(made)


def derivative(seed: int, steps: int) -> Function | None:
    """The gradient of a random scalar; None when nothing depends on the chosen parameter."""
    maker = Maker(seed)
    for _ in range(steps):
        maker.step()
    last = maker.pool[-1]
    total = contract(maker.builder, [last.value], [tuple(range(last.rank))], (), {})
    used = {p for p in topological([total]) if p.is_param}
    wanted = [p for p in maker.params if p in used]
    if not wanted:
        return None
    return Function.of(maker.params, gradients(maker.builder, total, [maker.pick(wanted)]))


def points(rng: np.random.Generator, count: int) -> list[list[Any]]:
    shapes = [tuple(SIZES[str(s)] for s in shape) for shape in SHAPES.values()]
    return [[rng.choice(SPECIAL, size=shape) for shape in shapes] for _ in range(count)]


class Watch:
    """What happens as a program runs: whether rounding or nan decides a comparison or a pole, ties, zero divisors."""

    def __init__(self) -> None:
        self.rough = False
        self.tie = False
        self.pole = False

    def __call__(self, value: Value, operands: tuple[Any, ...], result: Any) -> None:
        name = value.op.name
        if name in ("lt", "le", "gt", "ge", "eq", "ne", "maximum", "minimum"):
            gap = np.abs(operands[0] - operands[1])
            self.rough = self.rough or bool(np.any(np.isnan(gap) | ((gap > 0) & (gap < 1e-9))))
            self.tie = self.tie or bool(np.any(gap == 0))
        if name in ("sign", "abs", "relu", "norm"):
            self.tie = self.tie or bool(np.any(operands[0] == 0))
        if name in ("div", "pow"):
            self.pole = self.pole or bool(np.any(operands[name == "div"] == 0))
        if value.type.floating:
            size = np.abs(result[np.isfinite(result)])
            self.rough = self.rough or bool(np.any((size > 1e6) | ((size > 0) & (size < 1e-9))))


def compared(program: Function, closed: Function, args: list[Any], exact: bool) -> str:
    """How the closed form differs where the program is finite; "" when it does not."""
    watch, seen = Watch(), Watch()
    want = interpret(program, args, SIZES, watch=watch)[0]
    got = interpret(closed, args, SIZES, watch=seen)[0]
    if watch.rough or seen.rough or (not exact and (watch.tie or seen.pole)):
        return ""
    finite = np.isfinite(want)
    if np.allclose(got[finite], want[finite], rtol=1e-7, atol=1e-9):
        return ""
    return f"{program}\n{closed}\nat {args}\nwant {want}\ngot  {got}"


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_random_programs(seed: int, steps: int) -> None:
    """With kinks kept at every point; else off the ties and the zero divisors that the formula states."""
    program = derivative(seed, steps)
    if program is None:
        return
    rng = np.random.default_rng(seed)
    for exact in (True, False):
        closed = simplify(program, OPSET, keep_kinks=exact)
        assert simplify(closed, OPSET, keep_kinks=exact) == closed
        for args in points(rng, 12):
            assert not compared(program, closed, args, exact)


@given(programs())
def test_simplifying_again_changes_nothing(program: Program) -> None:
    """Over all operations: one form, the numbers of the program."""
    closed = simplify(program.function, OPSET, keep_kinks=True)
    assert simplify(closed, OPSET, keep_kinks=True) == closed
    want = interpret(program.function, program.args, program.sizes)
    for a, b in zip(interpret(closed, program.args, program.sizes), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


# -------------------------------------------------------------------- by hand
n, m = sd.dims("n m")
x, y, X, c = sd.symbol("x", (n,)), sd.symbol("y", (n,)), sd.symbol("X", (m, n)), sd.symbol("c", ())
AT = {
    "x": np.array([-1.0, 0.0, 2.0]),
    "y": np.array([-2.0, 0.0, -3.0]),
    "X": np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]]),
    "c": -1.0,
}

FORMS: dict[str, tuple[Any, Any, str]] = {
    "entropy": (np.where(x > 0, x * np.log(x), 0), x, "{log(x) + 1 if x > 0 else 0}"),
    "entropy of both signs": (np.where(x != 0, x * np.log(np.abs(x)), 0), x, "{log(|x|) + 1 if x ≠ 0 else 0}"),
    "root": (np.where(x > 0, x * x / np.sqrt(x), 0), x, "(3/2) {√x if x > 0 else 0}"),
    "sinc": (np.where(x != 0, np.sin(x) / x, 1), x, "{(cos(x) - sin(x) ⊘ x) ⊘ x if x ≠ 0 else 0}"),
    "hypot": (np.hypot(sd.relu(x), sd.relu(y)), x, "{x ⊘ hypot(relu(x), relu(y)) if x > 0 else 0}"),
    "norm of a part": (
        np.linalg.norm(sd.relu(y)), y, "relu(y)/{1 if ‖relu(y)‖ = 0 else ‖relu(y)‖}",
    ),
    "mask over another's logarithm": (np.log(c) * sd.relu(y), y, "{log(c) if y > 0 else 0}"),
    "branch by an undefined value": (np.where(np.log(x) > 0, 1, x), x, "¬(log(x) > 0)"),
    "product of rectified entries": (np.prod(sd.relu(x)), x, "{prod_others(relu(x)) if x > 0 else 0}"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FORMS))
def test_forms(name: str) -> None:
    f, wrt, text = FORMS[name]
    gradient = sd.gradient(np.sum(f), wrt)
    assert str(gradient) == text
    want = gradient.evaluate({str(s): AT[str(s)] for s in gradient.symbols()})
    closed = gradient.closed_form()
    np.testing.assert_allclose(closed.evaluate({str(s): AT[str(s)] for s in closed.symbols()}), want, rtol=1e-12)
    with np.errstate(all="ignore"):
        scope = {**AT, "np": np, "relu": lambda z: np.maximum(z, 0.0)}
        got = eval(gradient.source("numpy"), scope) if "prod_others" not in text else want
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_distances_between_rows() -> None:
    """The norm of x_i - x_j is zero wherever i = j: its guard stays, also beside repeated points."""
    distances = np.linalg.norm(X[:, None] - X[None, :], axis=-1)
    gradient = sd.gradient(np.sum(distances), X)
    want = gradient.evaluate(X=AT["X"])
    assert np.all(want == 0)
    np.testing.assert_array_equal(gradient.closed_form().evaluate(X=AT["X"]), want)


def test_isolated_zeros_are_conditions() -> None:
    """A formula keeps the singularity that its textbook form has, and says so."""
    residual: Any = np.linalg.norm(X @ x - X @ y)
    gradient = sd.gradient(residual, x)
    assert "norm" in gradient.source("numpy") and "where" not in gradient.source("numpy")
    assert gradient.conditions() == ["X (x - y) != 0"]


def test_comparisons_that_exclude_each_other() -> None:
    a, x, y = sd.symbol("a"), sd.symbol("x", (sd.dim("n"),)), sd.symbol("y", (sd.dim("n"),))
    forms: dict[str, Any] = {
        "0": np.where(np.logical_and(x < y, y < x), 1.0, 0.0),
        "𝟏": np.where(np.logical_or(x <= y, y <= x), 1.0, 0.0),
        "[x ≥ y]": np.where(np.logical_or(x > y, x == y), 1.0, 0.0),
        "[y > 0]": np.where(a * y > (a - 1) * y, 1.0, 0.0),
        "[x < 0]": np.where(-x > 0, 1.0, 0.0),
        "{x if x > 0 else a x}": np.where(x > 0, x, a * x),
        "{x - y if x > y else a}": np.where(x > y, x - y, a),
        "y ⊙ {x if x > 0 else 1}": np.where(x > 0, x * y, y),
        "{a if x < 0 else x}": np.where(x < 0, a, x),
    }
    for want, chosen in forms.items():
        assert str(sd.simplify(chosen)) == want
