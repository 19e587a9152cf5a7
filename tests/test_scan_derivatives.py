"""Derivatives of loops: forward = reverse = differences, on random bodies, any length, any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from counting_machine import execute

import symdiff as sd
from symdiff.batch import batch
from symdiff.cost import count
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, loop_key, topological
from symdiff.ir.text import print_function
from symdiff.ir.types import TensorType
from symdiff.ir.verify import verify
from symdiff.ops import OPSET
from symdiff.simplify import optimize, simplify

n, m = sd.dims("n m")
SYMBOLS = {
    "W": sd.symbol("W", (m, m)), "b": sd.symbol("b", (m,)), "s": sd.symbol("s"), "v": sd.symbol("v", (m,)),
    "h": sd.symbol("h", (m,)), "c": sd.symbol("c"), "T": sd.symbol("T", (2, m)), "x": sd.symbol("x", (n,)),
    "X": sd.symbol("X", (n, m)),
}  # fmt: skip


def values(rng: np.random.Generator, length: int) -> dict[str, Any]:
    sizes = {"n": length, "m": 3}
    shapes = {k: tuple(sizes.get(str(size), size) for size in e.value.shape) for k, e in SYMBOLS.items()}
    return {k: np.asarray(0.6 * rng.normal(size=shape)) for k, shape in shapes.items()}


def run(expressions: list[Any], at: dict[str, Any], length: int) -> list[Any]:
    builder = Builder(OPSET)
    mapping = builder.absorb([e.value for e in expressions])
    results = [mapping[e.value] for e in expressions]
    params = [v for v in topological(results) if v.is_param]
    sizes = {"m": 3, "n": length}
    return list(interpret(Function.of(params, results), [at[p.name] for p in params], sizes))


def differences(f: Any, name: str, at: dict[str, Any], length: int, step: float = 1e-5) -> Any:
    """df/dx for an expression of any shape, its axes first."""
    columns = []
    for index in np.ndindex(at[name].shape):
        ends = []
        for sign in (1, -1):
            moved = {**at, name: at[name].copy()}
            moved[name][index] += sign * step
            ends.append(run([f], moved, length)[0])
        columns.append((ends[0] - ends[1]) / (2 * step))
    shape = np.shape(run([f], at, length)[0])
    table = np.stack(columns, -1) if columns else np.zeros((*shape, 0))
    return table.reshape(shape + at[name].shape)


# -------------------------------------------------------------------- random bodies
def grown(rng: np.random.Generator, carry: dict[str, Any], x: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """A step made of a few random operations on scalars, vectors and matrices."""
    outer = SYMBOLS
    scalars = [carry["c"], x["x"], outer["s"], x["X"][0]]
    vectors = [carry["h"], x["X"], outer["b"], outer["v"]]
    tables = [carry["T"]]

    def pick(items: list[Any]) -> Any:
        return items[-1 - int(min(rng.geometric(0.35) - 1, len(items) - 1))] if rng.random() < 0.6 else items[
            int(rng.integers(len(items)))]  # fmt: skip

    for _ in range(int(rng.integers(3, 9))):
        kind = int(rng.integers(12))
        if kind == 0:
            vectors.append(np.tanh(outer["W"] @ pick(vectors)))
        elif kind == 1:
            vectors.append(pick(vectors) * pick(vectors))
        elif kind == 2:
            vectors.append(pick(vectors) + pick(scalars))
        elif kind == 3:
            scalars.append(np.sin(pick(vectors) @ pick(vectors)))
        elif kind == 4:
            scalars.append(pick(scalars) * pick(scalars) - pick(scalars))
        elif kind == 5:
            tables.append(np.tanh(pick(tables) * pick(scalars) + pick(vectors)))
        elif kind == 6:
            vectors.append(np.sum(pick(tables), 0) / 2)
        elif kind == 7:
            tables.append(np.stack([pick(vectors), np.cos(pick(vectors))]))
        elif kind == 8:
            vectors.append(np.where(pick(vectors) > 0.1, pick(vectors), pick(vectors)))
        elif kind == 9:
            scalars.append(np.where(pick(scalars) > 0, np.sqrt(1 + pick(scalars) ** 2), pick(scalars)))
        elif kind == 10:
            scalars.append(np.where(carry["k"] % 2 == 0, pick(scalars), pick(scalars)))
        else:
            tables.append(pick(tables) @ np.outer(pick(vectors), outer["v"]) / 3)
    new = {
        "h": np.tanh(pick(vectors)), "c": np.sin(pick(scalars)), "T": np.tanh(pick(tables)), "k": carry["k"] + 1,
        "flag": pick(scalars) > 0,
    }  # fmt: skip
    return new, (pick(scalars), pick(vectors), pick(tables))


def random_loop(seed: int, reverse: bool) -> list[Any]:
    init = {"h": SYMBOLS["h"], "c": SYMBOLS["c"], "T": SYMBOLS["T"], "k": 0, "flag": True}
    xs = {"x": SYMBOLS["x"], "X": SYMBOLS["X"]}
    last, ys = sd.scan(lambda carry, x: grown(np.random.default_rng(seed), carry, x), init, xs, reverse=reverse)
    return [last["h"], last["c"], last["T"], *ys]


def loss(rng: np.random.Generator, results: list[Any]) -> Any:
    """A scalar of some of the results."""
    chosen = [r for r in results if rng.random() < 0.6] or results[:1]
    return sum((np.sum(np.sin(r) * float(rng.uniform(0.5, 2.0))) for r in chosen), start=0.0)


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("seed", range(8))
def test_random_loops(seed: int, length: int) -> None:
    rng = np.random.default_rng(100 * seed + length)
    f = loss(rng, random_loop(seed, bool(seed % 2)))
    at = values(rng, length)
    names = list(SYMBOLS)
    forward = sd.gradient(f, [SYMBOLS[k] for k in names], mode="forward")
    reverse = sd.gradient(f, [SYMBOLS[k] for k in names], mode="reverse")
    got = run([*forward, *reverse], at, length)
    for i, name in enumerate(names):
        want = differences(f, name, at, length)
        np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-7, err_msg=f"forward {name}")
        np.testing.assert_allclose(got[len(names) + i], got[i], rtol=1e-10, atol=1e-12, err_msg=f"reverse {name}")


@pytest.mark.parametrize("seed", range(4))
def test_jacobians_of_random_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    results = random_loop(seed, bool(seed % 2))
    at = values(rng, 3)
    for y in (results[0], results[2], results[3], results[5]):
        for name in ("W", "s", "h", "X"):
            forward = sd.jacobian(y, SYMBOLS[name], mode="forward")
            reverse = sd.jacobian(y, SYMBOLS[name], mode="reverse")
            third = sd.jacobian(y, SYMBOLS[name], mode="elimination")
            a, b, c = run([forward, reverse, third], at, 3)
            want = differences(y, name, at, 3)
            assert a.shape == want.shape
            np.testing.assert_allclose(a, want, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(c, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_second_derivatives_of_random_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = loss(rng, random_loop(seed + 20, bool(seed % 2)))
    at = values(rng, 3)
    for name in ("h", "x", "W"):
        x = SYMBOLS[name]
        slope = sd.gradient(f, x, mode="reverse")
        want = differences(slope, name, at, 3)
        found = [sd.hessian(f, x, mode=mode) for mode in ("forward", "reverse")]
        found.append(sd.jacobian(slope, x, mode="forward"))
        for got in run(found, at, 3):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        vector = sd.symbol("vector", x.shape)
        product = run([sd.hvp(f, x, vector)], {**at, "vector": np.ones_like(at[name])}, 3)[0]
        axes = tuple(range(at[name].ndim, 2 * at[name].ndim))
        np.testing.assert_allclose(product, np.sum(want, axes), rtol=1e-5, atol=1e-5)


def test_products() -> None:
    rng = np.random.default_rng(5)
    results = random_loop(3, False)
    at = values(rng, 4)
    ys, xs = [results[0], results[4]], [SYMBOLS["W"], SYMBOLS["X"]]
    ts = [sd.symbol("t0", (m, m)), sd.symbol("t1", (n, m))]
    cs = [sd.symbol("c0", (m,)), sd.symbol("c1", (n, m))]
    at |= {"t0": rng.normal(size=(3, 3)), "t1": rng.normal(size=(4, 3)), "c0": rng.normal(size=3)}
    at |= {"c1": rng.normal(size=(4, 3))}
    pushed, pulled = run(sd.jvp(ys, xs, ts), at, 4), run(sd.vjp(ys, xs, cs), at, 4)
    a = sum(np.sum(p * at[c]) for p, c in zip(pushed, ("c0", "c1"), strict=True))
    b = sum(np.sum(p * at[t]) for p, t in zip(pulled, ("t0", "t1"), strict=True))
    np.testing.assert_allclose(a, b, rtol=1e-12)


# -------------------------------------------------------------------- loops in loops
@pytest.mark.parametrize("length", [0, 1, 3])
def test_scan_in_scan(length: int) -> None:
    W, b, X, h, x = (SYMBOLS[k] for k in ("W", "b", "X", "h", "x"))

    def row(state: Any, given: Any) -> Any:
        r, a = given
        inner, seen = sd.scan(
            lambda s, e: (np.sin(s * e[0] + a * e[1]), s * e[0]), np.sum(np.tanh(W @ state)), (r, b), reverse=True
        )
        return state * inner + r, (seen, inner)

    last, (seen, inner) = sd.scan(row, h, (X, x))
    f = np.sum(last * b) + np.sum(seen**2) + np.sum(np.cos(inner))
    at = values(np.random.default_rng(1), length)
    for name in ("W", "b", "X", "h", "x"):
        found = [sd.gradient(f, SYMBOLS[name], mode=mode) for mode in ("forward", "reverse")]
        a, c = run(found, at, length)
        np.testing.assert_allclose(a, differences(f, name, at, length), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(c, a, rtol=1e-10, atol=1e-12)
    slope = sd.gradient(f, b, mode="reverse")
    want = differences(slope, "b", at, length)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(run([sd.jacobian(slope, b, mode=mode)], at, length)[0], want, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------- what is zero is not carried
def loops_of(expression: Any) -> list[Any]:
    return list({loop_key(v): v for v in topological([expression.value]) if v.op.picks}.values())


def test_zero_tangents_are_not_carried() -> None:
    x, X = SYMBOLS["x"], SYMBOLS["X"]

    def step(carry: Any, a: Any) -> Any:
        p, q, r, s = carry
        return (p + a[0], np.floor(q * p), r * q + np.sum(a[1]), s + r), None

    (_, _, _, s), _ = sd.scan(step, (0.0, 1.0, 2.0, 3.0), (x, X))
    forward = loops_of(sd.jacobian(s, X, mode="forward"))[-1]
    assert forward.attr("carries") == 4 + 2  # r and s have tangents; p, and q behind a floor, have none
    reverse = next(v for v in loops_of(sd.jacobian(s, X, mode="reverse")) if v.attr("reverse"))
    assert reverse.attr("carries") == 2
    assert [p.name for p in reverse.attr("body").params[:2]] == ["carry_2_bar", "carry_3_bar"]
    at = values(np.random.default_rng(1), 5)
    got = run([sd.jacobian(s, X, mode=mode) for mode in ("forward", "reverse")], at, 5)
    np.testing.assert_allclose(got[0], differences(s, "X", at, 5), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got[1], got[0], rtol=1e-12)


def test_variables_without_influence() -> None:
    last, _ = sd.scan(lambda h, a: (h * 2, np.floor(h) + a), 1.0, SYMBOLS["x"])
    for mode in ("forward", "reverse"):
        found = run([sd.gradient(last, SYMBOLS["x"], mode=mode)], values(np.random.default_rng(1), 4), 4)
        assert np.array_equal(found[0], np.zeros(4))
    with pytest.raises(sd.DerivativeError, match="only floats have derivatives"):
        sd.jacobian(sd.scan(lambda k, a: (k + 1, None), 0, SYMBOLS["x"])[0], SYMBOLS["x"])


# -------------------------------------------------------------------- branches not taken, kinks
def poisoned(step: Callable[[Any, Any], Any], xs: list[float], start: float = 1.0, init: Any = None) -> list[Any]:
    """Gradients in the slices and in the start, both modes."""
    x, c = SYMBOLS["x"], SYMBOLS["c"]
    last, ys = sd.scan(step, c, x)
    f = np.sum(last) + np.sum(ys)
    found = [sd.gradient(f, v, mode=mode) for v in (x, c) for mode in ("forward", "reverse")]
    return run(found, {"x": np.array(xs), "c": np.float64(start)}, len(xs))


def test_branches_not_taken_never_poison() -> None:
    # The carry is reset before a root of zero is taken of it, and after.
    got = poisoned(lambda h, a: (np.where(a > 0, np.sqrt(h * a), 2.0), h), [4.0, 0.0, 9.0, 0.0])
    np.testing.assert_allclose(got[0], got[1])
    np.testing.assert_allclose(got[2], got[3])
    np.testing.assert_allclose(got[1], [0.25, 0.0, np.sqrt(2 / 9) / 2, 0.0])
    # h is dead after a reset: the infinite slope of the root below it, in an earlier step, must not show.
    got = poisoned(lambda h, a: (np.where(a > 0, 1.0, np.sqrt(h)), 0.0 * a), [-1.0, 1.0, -1.0], 0.0)
    assert all(np.all(np.isfinite(g)) for g in got)
    assert got[2] == 0 and got[3] == 0


def test_a_last_carry_nobody_reads() -> None:
    x = SYMBOLS["x"]
    _, ys = sd.scan(lambda h, a: (np.sqrt(h * a), h), 1.0, x)
    f = np.sum(ys)
    at = {"x": np.array([4.0, 9.0, 0.0])}
    a, b = run([sd.gradient(f, x, mode=mode) for mode in ("forward", "reverse")], at, 3)
    want = [0.25 + 9 / (8 * np.sqrt(18)), 1 / np.sqrt(18), 0.0]
    np.testing.assert_allclose(a, want, rtol=1e-14)
    np.testing.assert_allclose(b, want, rtol=1e-14)


def test_a_whole_loop_not_taken() -> None:
    x, c = SYMBOLS["x"], SYMBOLS["c"]
    last, _ = sd.scan(lambda h, a: (np.sqrt(h) + a, None), c, x)
    f = np.where(c > 0, last, c * 3.0)
    at = {"x": np.array([0.0, 0.0]), "c": np.float64(0.0)}
    got = run([sd.gradient(f, v, mode=mode) for v in (c, x) for mode in ("forward", "reverse")], at, 2)
    assert got[0] == got[1] == 3.0
    assert np.array_equal(got[3], np.zeros(2)) and np.array_equal(got[2], np.zeros(2))


def test_kinks_are_chosen_inside() -> None:
    x = SYMBOLS["x"]
    last, _ = sd.scan(lambda h, a: (h + sd.relu(a), None), 0.0, x)
    at = {"x": np.array([0.0, 1.0, -1.0])}
    for mode in ("forward", "reverse"):
        got = run([sd.gradient(last, x, mode=mode), sd.gradient(last, x, mode=mode, kinks={"relu": 1})], at, 3)
        assert np.array_equal(got[0], [0.0, 1.0, 0.0]) and np.array_equal(got[1], [1.0, 1.0, 0.0])


def test_float32() -> None:
    x = sd.symbol("x32", (n,), "f32")
    last, ys = sd.scan(lambda h, a: (np.tanh(h * a), h.astype("f64")), 0.5, x)
    assert last.dtype == "f32" and ys.dtype == "f64"
    f = np.sum(ys) + last.astype("f64")
    at = {"x32": np.array([0.5, -1.5, 2.0], np.float32)}
    a, b = run([sd.gradient(f, x, mode=mode) for mode in ("forward", "reverse")], at, 3)
    np.testing.assert_allclose(a, b, rtol=1e-5)


# -------------------------------------------------------------------- made shorter
def program(expressions: list[Any]) -> Function:
    builder = Builder(OPSET)
    mapping = builder.absorb([e.value for e in expressions])
    results = [mapping[e.value] for e in expressions]
    return Function.of([v for v in topological(results) if v.is_param], results)


def agree(before: Function, after: Function, at: dict[str, Any], length: int, rtol: float = 1e-11) -> None:
    sizes = {"m": 3, "n": length}
    verify(after, OPSET)
    want, got = (interpret(f, [at[p.name] for p in f.params], sizes) for f in (before, after))
    for w, g in zip(want, got, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=1e-12, err_msg=print_function(after))


@pytest.mark.parametrize("seed", range(10))
def test_shorter_loops_keep_their_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = loss(rng, random_loop(seed + 40, bool(seed % 2)))
    xs = [SYMBOLS[k] for k in SYMBOLS]
    slopes = sd.gradient(f, xs, mode="reverse")
    function = program([f, *slopes, *sd.gradient(slopes[4].sum(), [SYMBOLS["x"], SYMBOLS["W"]], mode="forward")])
    shorter = optimize(function, OPSET)
    assert optimize(shorter, OPSET) == shorter
    for length in (0, 1, 4):
        at = values(rng, length)
        agree(function, shorter, at, length)
    agree(function, simplify(function, OPSET, keep_kinks=True), at, length, 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_batches_of_loops(seed: int) -> None:
    """A stack of examples, some arguments shared: every example as the loop alone gives it."""
    rng = np.random.default_rng(seed)
    results = random_loop(seed + 60, bool(seed % 2))
    slopes = sd.gradient(loss(rng, results), [SYMBOLS[k] for k in ("h", "X", "W", "s")], mode="reverse")
    one = program([*results, *slopes])
    k, builder = sd.dim("k"), Builder(OPSET)
    mapped = [bool(rng.random() < 0.5) for _ in one.params]
    params = [
        builder.param(p.name, TensorType(p.type.dtype, (k, *p.shape) if m else p.shape))
        for p, m in zip(one.params, mapped, strict=True)
    ]
    found = batch(builder, one, params, mapped, k)
    function = Function.of(params, [v for v, _ in found])
    verify(function, OPSET)
    for length in (0, 1, 3):
        points = [values(rng, length) for _ in range(4)]
        args = [np.stack([at[p.name] for at in points]) if m else points[0][p.name]
                for p, m in zip(one.params, mapped, strict=True)]  # fmt: skip
        sizes = {"n": length, "m": 3}
        got = interpret(function, args, {"k": 4, **sizes})
        for number, at in enumerate(points):
            own = [(at if m else points[0])[p.name] for p, m in zip(one.params, mapped, strict=True)]
            want = interpret(one, own, sizes)
            for g, w, (_, m) in zip(got, want, found, strict=True):
                np.testing.assert_allclose(g[number] if m else g, w, rtol=1e-10, atol=1e-12)


def test_vmap() -> None:
    A, c = sd.symbol("A", (m, n)), sd.symbol("c")
    last, ys = sd.vmap(lambda row: sd.scan(lambda h, a: (np.sin(h * a + c), a), 1.0, row))(A)
    assert last.shape == (m,) and ys.shape == (m, n)
    at = {"A": np.random.default_rng(0).normal(size=(3, 4)), "c": np.array(0.3)}
    got = run([last, sd.gradient(np.sum(last), c)], at, 4)
    want = np.ones(3)
    for t in range(4):
        want = np.sin(want * at["A"][:, t] + 0.3)
    np.testing.assert_allclose(got[0], want, rtol=1e-13)
    np.testing.assert_allclose(got[1], np.sum(differences(last, "c", at, 4)), rtol=1e-6)


# -------------------------------------------------------------------- what they cost
@pytest.mark.parametrize("seed", range(4))
def test_counts_are_what_is_executed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = loss(rng, random_loop(seed + 90, bool(seed % 2)))
    function = program([f, *sd.gradient(f, [SYMBOLS[k] for k in SYMBOLS], mode="reverse")])
    for length in (1, 4):
        at = values(rng, length)
        sizes = {"n": length, "m": 3}
        for one in (function, optimize(function, OPSET)):
            counted = count(one).at(sizes)
            tally = execute(one, [at[p.name] for p in one.params], sizes)
            names = ("add", "multiply", "divide", "compare", "integer", "move")
            got = {name: counted[name] for name in names if counted[name]}
            got |= {name: number for name, number in counted["transcendental"].items() if number}
            assert got == {name: number for name, number in tally.items() if number}
            assert counted["peak"] > 0
    # Nothing dear is computed twice: what the reverse loop needs of the forward loop it reads.
    once, twice = count(program([f])).transcendentals, count(optimize(function, OPSET)).transcendentals
    assert twice.at(sizes) < 2 * once.at(sizes)


@pytest.mark.parametrize("depth", [2, 3])
def test_loops_in_loops_hand_over_what_they_went_through(depth: int) -> None:
    """Every sine is computed once in all, however deep; sums and products are cheaper again than stored."""
    k, c = sd.dim("k"), sd.symbol("c")
    start, stack = sd.symbol("start"), sd.symbol("stack", (n, m, k)[:depth])

    def run_of(step: Any) -> Any:
        for _ in range(depth - 1):
            step = (lambda inner: lambda s, row: (sd.scan(inner, s, row)[0], s))(step)
        return sd.scan(step, start, stack)

    rng = np.random.default_rng(depth)
    sizes = {"n": 3, "m": 2, "k": 4}
    at = {"c": np.float64(0.7), "start": np.float64(0.2), "stack": rng.normal(size=(3, 2, 4)[:depth])}
    for dear in (True, False):
        last, ys = run_of(lambda s, a, dear=dear: (np.sin(s * c + a) if dear else s * c + a, None))
        f = last + np.sum(ys**2)
        function = program([f, *sd.gradient(f, [c, start, stack], mode="reverse")])
        shorter = verify(optimize(function, OPSET), OPSET)
        assert optimize(shorter, OPSET) == shorter
        args = [at[p.name] for p in function.params]
        want, got = (interpret(g, args, sizes) for g in (function, shorter))
        for w, g in zip(want, got, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-12)
        forward = interpret(program(sd.gradient(f, [c, start, stack], mode="forward")), args, sizes)
        for w, g in zip(forward, got[1:], strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-11)
        counted = count(shorter).at(sizes)
        if dear:
            steps = int(np.size(at["stack"]))
            assert counted["transcendental"] == {"sin": steps, "cos": steps}


def test_one_loop_each_way_serves_all_products() -> None:
    W, h, X, t = SYMBOLS["W"], SYMBOLS["h"], SYMBOLS["X"], sd.symbol("t", (m, m))
    last, ys = sd.scan(lambda s, v: (np.tanh(W @ s + v), np.sum(s * s)), h, X)
    f = np.sum(last**2) + np.sum(ys)
    function = program([f, sd.jvp(f, W, t), *sd.gradient(f, [W, h]), sd.hvp(f, W, t)])
    shorter = optimize(function, OPSET)
    loops = {loop_key(v): (v.attr("carries"), v.attr("reverse")) for v in shorter.instrs if v.op.picks}
    assert sorted(loops.values()) == [(2, False), (2, True)]
    at = {**values(np.random.default_rng(0), 4), "t": np.random.default_rng(1).normal(size=(3, 3))}
    agree(function, shorter, at, 4)
    assert optimize(shorter, OPSET) == shorter


def test_embeddings_are_scattered_once() -> None:
    E, index, W = sd.symbol("E", (n, m)), sd.symbol("index", (sd.dim("t"),), "i64"), SYMBOLS["W"]
    last, _ = sd.scan(lambda s, i: (np.tanh(W @ s + E[i] * E[-1]), None), SYMBOLS["h"], index)
    slopes = [sd.gradient(np.sum(last), E, mode=mode) for mode in ("reverse", "forward")]
    rng = np.random.default_rng(0)
    at = {**values(rng, 4), "E": rng.normal(size=(4, 3)), "index": np.array([1, 3, 1, 0, 0])}
    function = program(slopes[:1])
    shorter = optimize(function, OPSET)
    loops = [v.attr("body") for v in shorter.instrs if v.op.picks]
    assert not any(v.op.name == "scatter_add" for body in loops for v in body.instrs)
    want = interpret(program(slopes[1:]), [at[p.name] for p in program(slopes[1:]).params], {"n": 4, "m": 3, "t": 5})
    for one in (function, shorter):
        got = interpret(one, [at[p.name] for p in one.params], {"n": 4, "m": 3, "t": 5})
        np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
