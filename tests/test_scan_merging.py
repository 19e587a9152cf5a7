"""Loops that have carries in common run as one: which do, and that numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, topological
from symdiff.ir.loop import Loop, groups_of
from symdiff.ir.verify import verify
from symdiff.ops import OPSET
from symdiff.simplify import optimize
from symdiff.simplify.merging import merged

n, m = sd.dims("n m")
W, U = sd.symbol("W", (m, m)), sd.symbol("U", (m, m))
h, X, x, y = sd.symbol("h", (m,)), sd.symbol("X", (n, m)), sd.symbol("x", (n,)), sd.symbol("y", (n,))


def program(*expressions: Any) -> Function:
    """The expressions as one function, equal instructions merged."""
    builder = Builder(OPSET)
    mapping = builder.absorb([e.value for e in expressions])
    results = [mapping[e.value] for e in expressions]
    return Function.of([v for v in topological(results) if v.is_param], results)


def same(before: Function, after: Function, length: int = 4) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 3), "U": (3, 3), "h": (3,), "X": (length, 3), "x": (length,), "y": (length,)}
    at = [rng.normal(size=shapes.get(p.name, ())) for p in before.params]
    verify(after, OPSET)
    sizes = {"n": length, "m": 3}
    for got, want in zip(interpret(after, at, sizes), interpret(before, at, sizes), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def loops(function: Function) -> list[Loop]:
    return [Loop.of(picks[0]) for picks in groups_of(function).values()]


def cell() -> Any:
    last, ys = sd.scan(lambda s, v: (np.tanh(W @ s + U @ v), np.sum(s * s)), h, X)
    return np.sum(last**2) + np.sum(ys)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_gradients_of_separate_calls_share_their_loops(mode: Any) -> None:
    """Tangents in W and in U beside one another, and the values beside both."""
    f = cell()
    function = program(f, sd.gradient(f, W, mode=mode), sd.gradient(f, U, mode=mode))
    shorter = optimize(function, OPSET)
    assert len(loops(shorter)) == (1 if mode == "forward" else 2)
    for length in (0, 1, 4):
        same(function, shorter, length)


def test_carries_are_the_same_from_any_place_and_by_any_name() -> None:
    """Two that read each other, in another order beside other ones: one start does not make them the same."""
    one, _ = sd.scan(lambda c, a: ((c[1] + a, c[0] * a), None), (0.0, 0.0), x)
    (p, q, r), ys = sd.scan(lambda c, a: ((c[1] * a[0], c[0] + a[0], c[2] + a[1]), c[1]), (0.0, 0.0, 0.0), (x, y))
    function = program(*one, p, q, r, ys)
    after = merged(function, OPSET)
    (loop,) = loops(after)
    assert len(loop.carries) == 3 and len(loop.slices) == 2
    same(function, after)


def test_a_counter_or_a_start_in_common_is_not_enough() -> None:
    (_, one), _ = sd.scan(lambda c, a: ((c[0] + 1.0, np.sin(c[1] + a * c[0])), None), (0.0, 0.0), x)
    (_, two), _ = sd.scan(lambda c, a: ((c[0] + 1.0, np.cos(c[1] + a * c[0])), None), (0.0, 0.0), y)
    function = program(one, two)
    assert merged(function, OPSET) is function
    contained = program(one, sd.scan(lambda c, _: (c + 1.0, c), 0.0, length=n)[1])
    (loop,) = loops(merged(contained, OPSET))
    assert len(loop.carries) == 2
    same(contained, merged(contained, OPSET))


def test_loops_that_need_each_other_stay_apart() -> None:
    """Directly, and through a loop that was merged before."""
    one, ys = sd.scan(lambda s, v: (s * v, s), 1.0, x)
    (two, _), _ = sd.scan(lambda c, v: ((c[0] * v[0], c[1] + v[1] * c[0]), None), (1.0, 0.0), (x, ys))
    function = program(one, two)
    assert merged(function, OPSET) is function
    step = lambda c, v: ((np.sin(c[0] + v[0]), c[1] + v[1]), c[0])  # noqa: E731
    (a, b), first = sd.scan(step, (1.0, 0.0), (x, y))
    (c, d), second = sd.scan(lambda c, v: ((c[0] * v[0], c[1] + v[1]), c[0]), (2.0, 0.0), (first, y))
    (e, g), _ = sd.scan(lambda c, v: ((np.sin(c[0] + v[0]), c[1] * v[1]), None), (1.0, 0.5), (x, second))
    function = program(a, b, c, d, e, g)
    after = merged(function, OPSET)
    same(function, after)
    assert len(loops(after)) == 3  # each reads what the one before has stacked


def test_a_loop_without_carries_runs_beside_one_that_reads_as_much() -> None:
    last, ys = sd.scan(lambda c, v: (np.tanh(c * v[0]), v[0] * v[1]), 1.0, (x, y))
    _, zs = sd.scan(lambda _, v: (None, np.sin(v)), None, x)
    function = program(last, ys, zs)
    after = merged(function, OPSET)
    (loop,) = loops(after)
    assert len(loop.outputs) == 2
    same(function, after)
    apart = program(sd.scan(lambda _, v: (None, np.sin(v)), None, x)[1], sd.scan(lambda c, v: (c * v, None), 1.0, y)[0])
    assert merged(apart, OPSET) is apart


def test_many_loops_of_many_carries() -> None:
    """Sixty loops with tangents, each beside the loop that it was derived from: sixty are left."""
    xs = [sd.symbol(f"x{i}", (n,)) for i in range(60)]
    lasts = [sd.scan(lambda s, v: (np.tanh(s * 0.5 + v), None), 0.0, z)[0] for z in xs]
    tangents = [sd.jvp(last, z, y) for last, z in zip(lasts, xs, strict=True)]
    after = merged(program(*lasts, *tangents), OPSET)
    assert len(loops(after)) == 60


def test_what_an_inner_loop_gives_is_read_from_several_loops() -> None:
    """Its first result from one of two loops that run it too, a sine of its second; then the other is looked at."""

    def inner(a: Any) -> Any:
        return sd.scan(lambda s, v: ((np.tanh(s[0] * v + a), np.exp(s[1] * v) * s[0]), None), (a, a), h)[0]

    def step(f: Any) -> Any:
        return lambda c, v: (f(c, *inner(v[0]), *v[1:]), c)

    one, seen = sd.scan(step(lambda c, p, q: c * p + q), 1.0, (x,))
    two, more = sd.scan(step(lambda c, p, q, a: c * p * a + np.sin(q)), 1.0, (x, seen))
    last, _ = sd.scan(step(lambda c, p, q, a, b: (np.sin(q) - c) * (p + c) * a * b), 1.0, (x, more, seen))
    function = program(last, one, two)
    same(function, optimize(function, OPSET))
