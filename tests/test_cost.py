"""Counts equal what a machine executes that runs one scalar operation at a time; comparisons say what follows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from counting_machine import execute
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import one_op, op_cases
from strategies import WITHOUT_LOOPS, Program, examples, programs

from symdiff.cost import Poly, compare_programs, count
from symdiff.cost.poly import crossover, growth_ratio, highest, never_below
from symdiff.diff import gradients, jacobians
from symdiff.errors import ArgumentError, ShapeError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Spec, einsum, parse_spec
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.op import NoDerivative, Op
from symdiff.ir.path import pairwise
from symdiff.ir.types import TensorType, float64
from symdiff.ops import OPSET

m, n, k = named("m"), named("n"), named("k")
BYTES = {"f64": 8, "f32": 4, "i64": 8, "bool": 1}


def variable(builder: Builder, name: str, *shape: Any) -> Handle:
    return builder.handle(builder.param(name, float64(*shape)))


def assert_counts_are_executed(function: Function, args: Any, sizes: dict[str, int]) -> None:
    counted = count(function).at(sizes)
    executed = execute(function, args, sizes)
    got = {name: counted[name] for name in ("add", "multiply", "divide", "compare", "integer", "move")
           if counted[name]}  # fmt: skip
    got |= {name: number for name, number in counted["transcendental"].items() if number}
    assert got == {name: number for name, number in executed.items() if number}
    assert counted["fma"] == 0
    assert counted["instructions"] == len(function.instrs)


def shapes_at(function: Function, sizes: dict[str, int]) -> dict[Any, int]:
    """Bytes of every value; single constants take none."""
    table: dict[Any, int] = {}
    for value in (*function.params, *function.instrs):
        elements = math.prod(s if isinstance(s, int) else int(Poly(s).at(sizes)) for s in value.type.shape)
        table[value] = 0 if value.op.name in ("const", "size") else elements * BYTES[value.type.dtype]
    return table


# -------------------------------------------------------------------- against execution
@examples(120)
@given(programs())
def test_counts_are_what_is_executed(program: Program) -> None:
    function = program.function
    assume(all(0 not in np.shape(a) for a in program.args))
    assume(all(b for v, b in shapes_at(function, program.sizes).items() if v.op.name not in ("const", "size")))
    assert_counts_are_executed(function, program.args, program.sizes)


@examples(40)
@given(programs(max_steps=4, scalar=True))
def test_counts_of_gradients_are_what_is_executed(program: Program) -> None:
    """Derivatives bring n-ary contractions, masks and identities."""
    f = program.function
    function = program.builder.function(f.params, gradients(program.builder, f.results[0], f.params))
    assume(all(b for v, b in shapes_at(function, program.sizes).items() if v.op.name not in ("const", "size")))
    assert_counts_are_executed(function, program.args, program.sizes)


@pytest.mark.parametrize("op", list(OPSET.values()), ids=lambda op: op.name)
def test_every_op_is_counted(op: Op, rng: np.random.Generator) -> None:
    for arrays, attrs in op_cases(op, rng):
        _, params, y = one_op(op, arrays, attrs)
        assert_counts_are_executed(Function.of(params, [y]), arrays, {})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_linear_algebra_at_several_sizes(size: int, rng: np.random.Generator) -> None:
    """Polynomials of degree three are fixed by four sizes."""
    builder = Builder(OPSET)
    a, b = variable(builder, "A", n, n), variable(builder, "B", n, k)
    spd = einsum("ij,kj->ik", a, a)
    results = [a.op(name) for name in ("inverse", "det", "signdet", "logabsdet")]
    results += [spd.op("cholesky"), a.op("solve", b), a.op("triangular_solve", b, lower=True, trans=False)]
    function = Function.of([a.value, b.value], [r.value for r in results])
    at = rng.normal(size=(size, size)) + 3 * np.eye(size)
    assert_counts_are_executed(function, (at, rng.normal(size=(size, 2))), {"n": size, "k": 2})


@examples(60)
@given(programs(ops=WITHOUT_LOOPS))
def test_bytes_and_peak_by_simulation(program: Program) -> None:
    function, sizes = program.function, program.sizes
    counted = count(function).at(sizes)
    table = shapes_at(function, sizes)
    free = {"const", "array", "iota", "size", "reshape", "symmetric"}
    read = sum(table[a] for v in function.instrs if v.op.name not in free for a in v.args)
    written = sum(table[v] for v in function.instrs if v.op.name not in free)
    assert (counted["bytes_read"], counted["bytes_written"]) == (read, written)
    peak = 0
    for position in range(len(function.instrs) + 1):
        later = {a for v in function.instrs[position:] for a in v.args} | set(function.results) | set(function.params)
        made = set(function.params) | set(function.instrs[:position])
        now = set(function.instrs[position : position + 1])
        peak = max(peak, sum(table[v] for v in (made & later) | now))
    assert counted["peak"] == peak


# -------------------------------------------------------------------- by hand
def _dense(builder: Builder) -> tuple[list[Handle], Handle]:
    w, x, b = variable(builder, "W", m, n), variable(builder, "x", n), variable(builder, "b", m)
    return [w, x, b], (einsum("ij,j->i", w, x) + b).op("tanh")


def _quadratic(builder: Builder) -> tuple[list[Handle], Handle]:
    a, x = variable(builder, "A", n, n), variable(builder, "x", n)
    return [a, x], einsum("i,ij,j->", x, a, x)


def _least_squares(builder: Builder) -> tuple[list[Handle], Handle]:
    a, x, b = variable(builder, "A", m, n), variable(builder, "x", n), variable(builder, "b", m)
    r = einsum("ij,j->i", a, x) - b
    return [a, x, b], einsum("i,i->", r, r)


def _deep(builder: Builder) -> tuple[list[Handle], Handle]:
    """Three layers, the last with m outputs."""
    w, x = [variable(builder, name, n, n) for name in ("W0", "W1")], variable(builder, "x", n)
    v = variable(builder, "V", m, n)
    y = x
    for layer in (*w, v):
        y = einsum("ij,j->i", layer, y).op("tanh")
    return [*w, v, x], y


def _deep_squares(builder: Builder) -> tuple[list[Handle], Handle]:
    params, y = _deep(builder)
    return params, einsum("i,i->", y, y)


def _product(builder: Builder) -> tuple[list[Handle], Handle]:
    a, b = variable(builder, "A", m, k), variable(builder, "B", k, n)
    return [a, b], einsum("ij,jk->ik", a, b)


def _powers(builder: Builder) -> tuple[list[Handle], Handle]:
    x = variable(builder, "x", n)
    return [x], x**2 + x**3 + x**-1 + x**0.5 + x**1.5 + x**10


def _logistic(builder: Builder) -> tuple[list[Handle], Handle]:
    x = variable(builder, "X", m, n)
    return [x], x.op("logsumexp", axes=(-1,))


def _inverted(builder: Builder) -> tuple[list[Handle], Handle]:
    a = variable(builder, "A", n, n)
    return [a], a.op("inverse")


BY_HAND = [
    (_dense, {"add": "m*n", "multiply": "m*n", "tanh": "m"}),
    # x^T A first (n^2 products, n^2 - n sums), then with x (n products, n - 1 sums).
    (_quadratic, {"add": "n**2 - 1", "multiply": "n**2 + n"}),
    (_least_squares, {"add": "m*n + m - 1", "multiply": "m*n + m"}),
    (_product, {"add": "k*m*n - m*n", "multiply": "k*m*n"}),
    # Products: 1 for x^2, 2 for x^3, 4 for x^10 = ((x^2)^2 x)^2; x^-1 divides, x^1.5 is a power.
    (_powers, {"add": "5*n", "multiply": "7*n", "divide": "n", "sqrt": "n", "pow": "n"}),
    (_logistic, {"add": "2*m*n", "compare": "m*n - m", "exp": "m*n", "log": "m"}),
    (_inverted, {"add": "n**3 - n**2", "multiply": "n**3 - n**2", "divide": "3*n**2/2 - n/2",
                 "compare": "n**2/2 - n/2"}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "want"), BY_HAND)
def test_by_hand(make: Callable[[Builder], Any], want: dict[str, str]) -> None:
    builder = Builder(OPSET)
    params, y = make(builder)
    told = count(Function.of([p.value for p in params], [y.value])).as_dict()
    got = {name: told[name] for name in ("add", "multiply", "divide", "compare", "move") if told[name] != "0"}
    assert got | told["transcendental"] == want


def test_integers_and_fused_operations_are_classes_of_their_own() -> None:
    """A sum of index arithmetic, and how many multiplications of products and sums are followed by an addition."""
    builder = Builder(OPSET)
    i = builder.handle(builder.param("i", TensorType("i64", (n,))))
    x, a = variable(builder, "x", n), variable(builder, "A", m, n)
    shifted = x.op("gather", (i * 2 + 1).op("mod", i), axis=-1)
    counts = count(Function.of([i.value, x.value], [shifted.value]))
    assert (str(counts.integer), str(counts.add), str(counts.multiply)) == ("3*n", "0", "0")
    assert str(counts.operations) == "3*n"
    counts = count(Function.of([a.value, x.value], [einsum("ij,j->i", a, x).value]))
    assert str(counts.fusable) == str(counts.add) == "m*n - m"
    assert counts.fma == 0


def test_deltas_and_identities_cost_nothing() -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", n)
    eye = einsum("i->ii", x.const(1, (n,)))
    assert count(Function.of([x.value], [eye.value])).operations == 0
    diagonal = count(Function.of([x.value], [einsum("i->ii", x).value]))
    assert (diagonal.operations, str(diagonal.move)) == (Poly(0), "n")


def test_peak_may_be_a_maximum() -> None:
    """exp(x) of n elements at one time, y y^T of m^2 at another: which is larger depends on the sizes."""
    builder = Builder(OPSET)
    x, y = variable(builder, "x", n), variable(builder, "y", m)
    first = einsum("i->", x.op("exp"))
    second = einsum("i,j->ij", y, y).op("sin")
    counts = count(Function.of([x.value, y.value], [first.value, einsum("ij->", second).value]))
    assert counts.as_dict()["peak"] == "max(8*m + 16*n + 8, 16*m**2 + 8*m + 8*n + 8)"
    assert counts.at({"m": 1, "n": 100})["peak"] == 1616
    assert counts.at({"m": 10, "n": 1})["peak"] == 1600 + 80 + 8 + 8


def test_counts_add_like_programs_in_a_row() -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", n)
    one = count(Function.of([x.value], [x.op("sin").value]))
    two = count(Function.of([x.value], [(x.op("sin") * x.op("exp")).value]))
    total = one + two
    assert str(total.transcendental["sin"]) == "2*n"
    assert str(total.multiply) == "n"
    assert str(total.operations) == "4*n"
    assert total.instructions == 4
    assert total.at({"n": 5})["peak"] == max(one.at({"n": 5})["peak"], two.at({"n": 5})["peak"])
    assert "sin" in str(total)


def test_sizes_and_ops_that_are_unknown_are_refused() -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", n)
    with pytest.raises(ShapeError, match="no size is known for n"):
        count(Function.of([x.value], [x.op("sin").value])).at({"m": 3})
    strange = Op("strange", lambda t, a: t[0], lambda x: x, NoDerivative("none"), arity=1)
    with pytest.raises(ArgumentError, match="op strange has no cost rule"):
        count(Function.of([x.value], [builder.make(strange, (x.value,))]))


def test_undefined_functions_count_under_their_name() -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", n)
    y = x.op("apply", name="phi", wrt=()) * x.op("apply", name="phi", wrt=(0,))
    assert {a: str(p) for a, p in count(Function.of([x.value], [y.value])).transcendental.items()} == {
        "phi": "n", "phi'": "n"
    }  # fmt: skip


# -------------------------------------------------------------------- the order of contractions
@pytest.mark.parametrize(
    ("spec", "sizes", "steps"),
    [
        ("ij,jk,k->i", (m, n, k), [(1, 2), (0, 1)]),  # matrix times vector before matrix times matrix
        ("ij,j->i", (m, n), [(0, 1)]),
        ("ij->i", (m, n), [(0, None)]),
        ("ij,k->", (m, n, k), [(0, None), (1, None), (0, 1)]),
        ("ij->ji", (m, n), []),
        ("i,j,ij->", (m, n), [(0, 2), (0, 1)]),
        ("ij,jk,kl->il", (2, 100, 3, 50), [(0, 1), (0, 2)]),
        ("ij,jk,kl->il", (50, 3, 100, 2), [(1, 2), (0, 1)]),
        ("ii->", (n,), [(0, None)]),
    ],
)
def test_pairwise_order(spec: str, sizes: Any, steps: list[tuple[int, int | None]]) -> None:
    parsed = parse_spec(spec)
    assert [(s.left, s.right) for s in pairwise(parsed, dict(enumerate(sizes)))] == steps


def test_pairwise_steps_end_with_the_output() -> None:
    spec = Spec(((0, 1), (1, 2), (2, 3), (3,)), (0, 0))
    steps = pairwise(spec, dict.fromkeys(range(4), 3))
    assert set(steps[-1].result) == {0}


# -------------------------------------------------------------------- polynomials
POLYS = st.lists(
    st.tuples(st.fractions(-3, 3, max_denominator=6), st.integers(0, 2), st.integers(0, 2)), max_size=4
)


def poly(items: Any) -> Poly:
    total = Poly()
    for coefficient, i, j in items:
        total = total + Poly(coefficient) * m**i * n**j
    return total


def plain(items: Any, at: dict[str, int]) -> Fraction:
    return sum((c * at["m"] ** i * at["n"] ** j for c, i, j in items), Fraction(0))


@examples(100)
@given(POLYS, POLYS, st.integers(1, 9), st.integers(1, 9))
def test_rational_polynomials(a: Any, b: Any, p: int, q: int) -> None:
    at = {"m": p, "n": q}
    x, y = plain(a, at), plain(b, at)
    assert (poly(a) + poly(b)).at(at) == x + y
    assert (poly(a) - poly(b)).at(at) == x - y
    assert (poly(a) * poly(b)).at(at) == x * y
    assert (poly(a) / 3).at(at) == x / 3
    assert (poly(a) == poly(b)) == (not (poly(a) - poly(b)).terms)
    assert hash(poly(a) + poly(b)) == hash(poly(b) + poly(a))
    text = str(poly(a)).replace("/", "*Fraction(1)/")
    assert eval(text, {"Fraction": Fraction}, dict(at)) == x
    if never_below(poly(a), poly(b)):
        assert x >= y


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Poly(), "0"), (Poly(3), "3"), (Poly(Fraction(1, 2)), "1/2"), (2 * Poly(m) * n + m, "2*m*n + m"),
        (Poly(n) * n * n / 3, "n**3/3"), (Poly(n) * 2 / 3 - 1, "2*n/3 - 1"), (-Poly(n), "-n"),
        (Poly((n + 1) // 2) * m, "m*((n + 1)//2)"), (1 - Poly(n), "-n + 1"),
    ],
)  # fmt: skip
def test_text_of_polynomials(value: Poly, text: str) -> None:
    assert str(value) == text


def test_questions_about_polynomials() -> None:
    a, b = 2 * Poly(m) * n, Poly(m) * n * n
    assert never_below(Poly(n) * n, n)  # n^2 >= n once n >= 1
    assert not never_below(b, a)
    assert not never_below(a, b)
    assert growth_ratio(a, b) == 0.0
    assert growth_ratio(b, a) is None
    assert growth_ratio(3 * a + n, a) == 3.0
    assert growth_ratio(a, Poly()) is None
    assert growth_ratio(Poly((n + 1) // 2), Poly(n)) == 0.5
    assert crossover(b - a) == ("n", "2", True)
    assert crossover(Poly(m) * n * n - Poly(m) * m * n) == ("m", "n", False)
    assert crossover(2 * Poly(n) - 7) == ("n", "7/2", True)
    assert crossover(Poly(m) * n - 5 * Poly(k)) == ("k", "m*n/5", False)
    assert crossover(Poly(n) + 1) is None
    assert crossover(Poly(n) * n + n - 7) == ("n", "2.193", True)
    assert crossover((Poly(n) - 2) * (Poly(n) - 3)) is None
    assert crossover(Poly()) is None
    assert highest(b + a + 3) == b


# -------------------------------------------------------------------- comparison
def _modes(make: Callable[[Builder], Any], wrt: int, scalar: bool) -> tuple[Function, dict[str, Function]]:
    builder = Builder(OPSET)
    params, y = make(builder)
    values, x = [p.value for p in params], params[wrt].value
    found = {
        mode: (gradients(builder, y.value, [x], mode) if scalar else jacobians(builder, [y.value], [x], mode)[0])
        for mode in ("forward", "reverse")
    }
    return Function.of(values, [y.value]), {name: builder.function(values, v) for name, v in found.items()}


def test_a_gradient_is_cheap_in_reverse() -> None:
    primal, programs_ = _modes(_deep_squares, 3, True)
    told = compare_programs(primal, programs_)
    assert told.best == "reverse"
    assert told.ratio("forward") is None
    ratio = told.ratio("reverse")
    assert ratio is not None
    assert 1 < ratio <= 5
    assert "the least at all sizes" in told.recommendation
    assert told.recommendation.startswith(f"reverse: {count(programs_['reverse']).operations} operations against ")
    assert "Baur and Strassen 1983; Griewank 1989" in told.note
    assert told.points == ()


def test_a_jacobian_depends_on_its_shape() -> None:
    primal, programs_ = _modes(_deep, 3, False)
    told = compare_programs(primal, programs_, {"m": [3, 300], "n": 30})
    assert [told.best_at(p) for p in told.points] == ["reverse", "forward"]
    assert "forward wins when about m > n, reverse below" in told.recommendation
    assert "the least at m = 3, n = 30; from m = 300, n = 30 on forward" in told.recommendation
    assert "for each of its m outputs" in told.note
    for point in told.points:
        for name, program in programs_.items():
            assert told.ratio(name, point) == pytest.approx(
                float(count(program).operations.at(point) / count(primal).operations.at(point))
            )


def test_forms_of_a_comparison() -> None:
    primal, programs_ = _modes(_deep, 3, False)
    told = compare_programs(primal, programs_, {"m": [2, 20], "n": [5]})
    table = told.table()
    assert table == str(told)
    assert table.split("\n")[0].split() == ["primal", "forward", "reverse"]
    assert any(line.startswith("at m = 20, n = 5") and line.count("*") == 1 for line in table.split("\n"))
    rows = [line for line in told.markdown().split("\n") if line.startswith("|")]
    assert len({row.replace(r"\*", "").count("|") for row in rows}) == 1
    data = json.loads(json.dumps(told.as_dict()))
    assert data["best"] == told.best
    assert data["at"][1]["counts"]["reverse"]["operations"] == count(programs_["reverse"]).operations.at(
        {"m": 20, "n": 5}
    )
    assert data["recommendation"] == told.recommendation


def test_one_program_and_equal_programs() -> None:
    primal, programs_ = _modes(_quadratic, 1, True)
    alone = compare_programs(primal, {"reverse": programs_["reverse"]})
    assert "the only program given" in alone.recommendation
    twice = compare_programs(primal, {"a": programs_["reverse"], "b": programs_["reverse"]})
    assert "they cost the same" in twice.recommendation
    assert twice.note == ""


def test_bad_sizes_are_refused() -> None:
    primal, programs_ = _modes(_dense, 1, False)
    with pytest.raises(ArgumentError, match="leave out n; give all dimensions or none"):
        compare_programs(primal, programs_, {"m": 3})
    with pytest.raises(ArgumentError, match="size m = 0, expected positive integers"):
        compare_programs(primal, programs_, {"m": 0, "n": 3})
    with pytest.raises(ArgumentError, match="no program given"):
        compare_programs(primal, {})


def test_single_precision_moves_half_the_bytes() -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f32", (n,))))
    y = variable(builder, "y", n)
    single = count(Function.of([x.value], [x.op("exp").value]))
    double = count(Function.of([y.value], [y.op("exp").value]))
    assert (str(single.bytes), str(double.bytes)) == ("8*n", "16*n")
