"""Elimination: cheaper than both sweeps where it can be, deltas never written out, orders as cheap as any."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import assert_close, run
from strategies import Program, examples, programs, total, variable

import symdiff as sd
from symdiff.cost import count
from symdiff.diff import jacobians
from symdiff.diff.emit import Prices, Pricing, order
from symdiff.diff.graph import Elimination
from symdiff.diff.orders import cheapest_order, price_of
from symdiff.diff.tangents import linearize
from symdiff.errors import ArgumentError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import einsum
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.simplify import optimize

MODES = ("forward", "reverse", "elimination")


def mode_programs(y: Handle, x: Handle, params: list[Handle], points: Any = None) -> dict[str, Function]:
    """The Jacobian by every mode, cleaned up."""
    builder = y.builder
    found: dict[str, Function] = {}
    for mode in MODES:
        ((value,),) = jacobians(builder, [y.value], [x.value], mode, points)
        found[mode] = optimize(Function.of([p.value for p in params], [value]), OPSET)
    return found


def layers(*sizes: Any) -> tuple[Handle, Handle, list[Handle]]:
    """tanh(W_k ... tanh(W_1 x)) through arrays of these sizes."""
    builder = Builder(OPSET)
    x = variable(builder, "x", sizes[0])
    weights = [variable(builder, f"W{i}", b, a) for i, (a, b) in enumerate(itertools.pairwise(sizes))]
    y = x
    for w in weights:
        y = einsum("ij,j->i", w, y).op("tanh")
    return y, x, [*weights, x]


def operations(programs_: dict[str, Function], sizes: dict[str, int]) -> dict[str, Any]:
    return {mode: count(f).operations.at(sizes) for mode, f in programs_.items()}


# -------------------------------------------------------------------- cheaper than both sweeps
@pytest.mark.parametrize("narrow", [1, 2, 3])
def test_a_bottleneck_beats_both_sweeps(narrow: int, rng: np.random.Generator) -> None:
    """R^n -> R^n -> R^narrow -> R^n -> R^n: both sweeps multiply two n x n matrices, elimination none."""
    n = named("n")
    y, x, params = layers(n, n, narrow, n, n)
    found = mode_programs(y, x, params)
    numbers = operations(found, {"n": 100})
    assert numbers["elimination"] < 0.1 * min(numbers["forward"], numbers["reverse"])
    polynomials = {mode: str(count(f).multiply) for mode, f in found.items()}
    assert "n**3" in polynomials["forward"] and "n**3" in polynomials["reverse"]
    assert "n**3" not in polynomials["elimination"]
    arrays = [rng.normal(size=s) / 3 for s in ((7, 7), (narrow, 7), (7, narrow), (7, 7), 7)]
    values = [interpret(f, arrays)[0] for f in found.values()]
    for value in values[1:]:
        assert_close(value, values[0], "modes", rtol=1e-10)


def test_the_order_follows_the_sizes() -> None:
    """W_3 (W_2 W_1) or (W_3 W_2) W_1: whichever the given sizes make cheaper."""
    a, b, c, d = (named(s) for s in "abcd")
    y, x, params = layers(a, b, c, d)
    for numbers in ((2, 50, 60, 70), (70, 60, 50, 2), (90, 2, 90, 3)):
        sizes = dict(zip("abcd", numbers, strict=True))
        found = operations(mode_programs(y, x, params, [sizes]), sizes)
        assert found["elimination"] <= min(found["forward"], found["reverse"])


def test_by_hand_the_bottleneck_of_two_matrices() -> None:
    """diag(s) B diag(c) A with s, c the slopes: nk for c A, nk for s B, k n^2 for the product."""
    n, k = named("n"), named("k")
    builder = Builder(OPSET)
    a, b, x = variable(builder, "A", k, n), variable(builder, "B", n, k), variable(builder, "x", n)
    y = einsum("ij,j->i", b, einsum("ij,j->i", a, x).op("sin")).op("sin")
    ((value,),) = jacobians(builder, [y.value], [x.value], "elimination", [{"n": 1000, "k": 2}])
    primal = count(Function.of([a.value, b.value, x.value], [y.value]))
    whole = count(optimize(Function.of([a.value, b.value, x.value], [y.value, value]), OPSET))
    assert str(whole.multiply - primal.multiply) == "k*n**2 + k*n + n**2" or (
        str(whole.multiply - primal.multiply) == "k*n**2 + 2*k*n"
    )
    assert str(whole.add - primal.add) == "k*n**2 - n**2"


def test_no_delta_is_written_out() -> None:
    """The Jacobian of an elementwise chain is a diagonal until the last instruction."""
    builder = Builder(OPSET)
    n = named("n")
    x = variable(builder, "x", n)
    y = (x.op("sin") * x.op("exp")).op("tanh") + x
    program = mode_programs(y, x, [x])["elimination"]
    assert [v.op.name for v in program.instrs if v.type.rank == 2] == ["contract"]
    assert count(program).operations.at({"n": 1000}) < 20_000


def test_a_softmax_is_a_diagonal_and_a_product() -> None:
    builder = Builder(OPSET)
    n = named("n")
    x = variable(builder, "x", n)
    program = mode_programs(x.op("softmax", axes=(-1,)), x, [x])["elimination"]
    assert str(count(program).multiply) in ("n**2", "n**2 + n")


# -------------------------------------------------------------------- orders
SIZES = st.integers(1, 40)


@examples(25)
@given(st.lists(SIZES, min_size=3, max_size=5))
def test_the_order_of_a_chain_is_as_cheap_as_any(sizes: list[int]) -> None:
    y, x, _ = layers(*sizes)
    graph = linearize(y.builder, [y.value], [x.value])
    prices = Prices([{}])
    pricing = Pricing(prices)
    found = cheapest_order(graph, prices)
    inner = Elimination(graph, pricing).inner
    assert sorted(found) == sorted(inner)
    price = price_of(Elimination(graph, pricing), pricing, found, float("inf"))
    everything = [price_of(Elimination(graph, pricing), pricing, p, float("inf"))
                  for p in itertools.permutations(inner)] if len(inner) < 6 else [price]  # fmt: skip
    assert price <= min(everything) * (1 + 1e-12)


@examples(20)
@given(programs(max_steps=5, scalar=True))
def test_the_order_of_a_program_is_no_dearer_than_a_sweep(program: Program) -> None:
    f = program.function
    graph = linearize(program.builder, [f.results[0]], f.params)
    prices = Prices([program.sizes])
    pricing = Pricing(prices)
    inner = Elimination(graph, pricing).inner
    costs = [price_of(Elimination(graph, pricing), pricing, o, float("inf"))
             for o in (cheapest_order(graph, prices), inner, inner[::-1])]  # fmt: skip
    assert costs[0] <= min(costs[1:]) * (1 + 1e-12)


@examples(60)
@given(st.data())
def test_factors_are_multiplied_in_the_cheapest_order(data: Any) -> None:
    sizes = {x: data.draw(st.integers(1, 30)) for x in range(4)}
    words = [frozenset(data.draw(st.sets(st.integers(0, 3), max_size=3))) for _ in range(data.draw(st.integers(2, 4)))]
    output = frozenset(data.draw(st.sets(st.integers(0, 3))))

    def space(labels: frozenset[int]) -> float:
        return float(np.prod([sizes[x] for x in labels], initial=1.0))

    def price(steps: Any) -> float:
        left, cost = list(words), 0.0
        for i, j in steps:
            cost += space(left[i] | left[j])
            others = [w for k, w in enumerate(left) if k not in (i, j)]
            left[i] = (left[i] | left[j]) & output.union(*others)
            del left[j]
        assert len(left) == 1
        return cost

    def every(count_: int) -> Any:
        if count_ < 2:
            return [[]]
        return [[(i, j), *rest] for j in range(count_) for i in range(j) for rest in every(count_ - 1)]

    found = price(order(words, output, space))
    assert found == min(price(steps) for steps in every(len(words)))


@pytest.mark.parametrize("length", [300, 3000])
def test_long_chains(length: int) -> None:
    """The longer one is swept."""
    builder = Builder(OPSET)
    x = variable(builder, "x")
    y = x
    for i in range(length):
        y = y.op("sin") * x if i % 2 else y.op("cos")
    (found, want) = (jacobians(builder, [y.value], [x.value], mode)[0][0] for mode in ("elimination", "reverse"))
    got = run([x.value], [found, want], [0.3])
    assert_close(got[0], got[1], "a long chain", rtol=1e-9)


# -------------------------------------------------------------------- what else it must do
def test_several_functions_and_variables_one_of_them_in_the_middle(rng: np.random.Generator) -> None:
    builder = Builder(OPSET)
    n = named("n")
    x, z = variable(builder, "x", n), variable(builder, "z", n)
    middle = x.op("sin") * z
    ys = [middle.op("exp").value, total(middle * x).value, x.value, z.op("cos").value]
    xs = [x.value, middle.value, z.value]
    params = [x.value, z.value]
    found = [d for row in jacobians(builder, ys, xs, "elimination") for d in row]
    want = [d for row in jacobians(builder, ys, xs, "forward") for d in row]
    got = run(params, [*found, *want], [rng.normal(size=4), rng.normal(size=4)])
    for i in range(len(found)):
        assert_close(got[i], got[len(found) + i], f"derivative {i}", rtol=1e-12)


def test_precisions_on_both_sides_of_a_cast(rng: np.random.Generator) -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f32", (3,))))
    w = variable(builder, "W", 4, 3)
    y = einsum("ij,j->i", w, x.op("sin").op("cast", dtype="f64")).op("tanh").op("cast", dtype="f32")
    found = [jacobians(builder, [y.value], [x.value], mode)[0][0] for mode in MODES]
    assert [v.type.dtype for v in found] == ["f32"] * 3
    got = run([w.value, x.value], found, [rng.normal(size=(4, 3)), rng.normal(size=3).astype(np.float32)])
    for value in got[1:]:
        assert_close(value, got[0], "mixed precision", rtol=1e-6)


@examples(12)
@given(programs(max_steps=5))
def test_native_code_agrees(program: Program) -> None:
    f, builder = program.function, program.builder
    assume(all(s > 0 for s in program.sizes.values()))
    y = f.results[0]
    values = [d for mode in ("reverse", "elimination") for d in jacobians(builder, [y], f.params, mode)[0]]
    want = run(f.params, values, program.args, sizes=program.sizes)
    params = [sd.Expression(p) for p in f.params]
    native = sd.compile([sd.Expression(v) for v in values], params)
    given_ = {d: program.sizes[d] for d in native.signature.given}
    got = native(*program.args, **({"sizes": given_} if given_ else {}))
    count_ = len(f.params)
    for i in range(count_):
        assert_close(got[count_ + i], want[i], f"compiled elimination in {f.params[i].name} of\n{f}", 1e-8, 1e-9)


# -------------------------------------------------------------------- names users type
def test_expressions_and_functions_take_the_mode(rng: np.random.Generator) -> None:
    m, n = sd.dims("m n")
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    y = np.tanh(W @ np.sin(x))
    at = {"W": rng.normal(size=(2, 3)), "x": rng.normal(size=3)}
    for derivative in (
        lambda mode: sd.jacobian(y, x, mode), lambda mode: sd.gradient(np.sum(y), x, mode),
        lambda mode: sd.hessian(np.sum(y), x, mode), lambda mode: sd.jacobian(y, x, mode, sizes={"m": 5}),
    ):  # fmt: skip
        one, other = (derivative(mode).evaluate(at) for mode in ("elimination", "reverse"))
        np.testing.assert_allclose(one, other, rtol=1e-12)
    nested = sd.hessian(np.sum(y), {"W": W, "x": x}, mode="elimination")
    assert nested["W"]["x"].shape == (m, n, n)

    def f(v: Any) -> Any:
        return np.sum(np.tanh(at["W"] @ np.sin(v)))

    hessians = [sd.hessian(f, mode=mode)(at["x"]) for mode in MODES]
    for hessian in hessians[1:]:
        np.testing.assert_allclose(hessian, hessians[0], rtol=1e-12)


def test_refusals() -> None:
    x = sd.symbol("x", (3,))
    with pytest.raises(ArgumentError, match="mode 'sideways': expected one of auto, forward, reverse, elimination"):
        sd.jacobian(x * x, x, "sideways")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="mode 'sideways'"):
        sd.hessian(lambda v: np.sum(v * v), mode="sideways")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="sizes: n = 0, expected a positive integer"):
        sd.jacobian(x * x, x, "elimination", sizes={"n": 0})


# -------------------------------------------------------------------- the automatic choice
def test_auto_takes_the_cheapest_mode() -> None:
    m, n = sd.dims("m n")
    x, t = sd.symbol("x", (n,)), sd.symbol("t")
    A, B, W, V = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2)), sd.symbol("W", (n, n)), sd.symbol("V", (m, n))
    hourglass = np.tanh(W @ np.tanh(B @ np.tanh(A @ np.tanh(W @ x))))

    def chosen(y: Any, v: Any, **sizes: int) -> set[str]:
        auto = sd.jacobian(y, v, sizes=sizes or None).ir()
        return {mode for mode in MODES if sd.jacobian(y, v, mode, sizes=sizes or None).ir() == auto}

    assert chosen(hourglass, x) == {"elimination"}
    assert "reverse" in chosen(np.sum(hourglass), x)
    assert "forward" in chosen(x * t * t, t)
    layered = np.tanh(V @ np.tanh(W @ np.tanh(W @ x)))
    assert "reverse" in chosen(layered, x, m=2, n=300) or "elimination" in chosen(layered, x, m=2, n=300)
    assert chosen(layered, x, m=2, n=300) != chosen(layered, x, m=5000, n=20)
