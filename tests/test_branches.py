"""Branches not taken: a select whose other branch has no value or no slope changes no derivative, of any order.

By hand at single points, inside other ops, and at random places of random programs.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import assert_close, jacobian, run
from strategies import Program, examples, programs, total, variable

from symdiff.diff import gradients, jacobians
from symdiff.errors import EvaluationError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import einsum
from symdiff.ir.text import print_function
from symdiff.ops import OPSET

MODES = ("forward", "reverse", "elimination")
TWICE = [*itertools.product(MODES[:2], MODES[:2]), ("reverse", "elimination"), ("elimination", "forward")]
both_modes = pytest.mark.parametrize("mode", MODES)


def sqrt_branch(x: Handle) -> Handle:
    return x.op("lt", 1).op("select", x, x.op("sqrt"))


def nested(x: Handle) -> Handle:
    inner = x.op("gt", 0).op("select", x.op("log"), x * x)
    return x.op("gt", 2).op("select", x.op("sqrt"), inner + x)


def log_branch(x: Handle) -> Handle:
    return x.op("gt", 0).op("select", x * x.op("log"), 3 * x)


def quotient_branch(x: Handle) -> Handle:
    """sin(x)/x with the hole filled: 1/x is inf where it is not taken, and again inside another product."""
    return x.op("eq", 0).op("select", 1 - x * x / 6, x.op("sin") / x) * (2 + x)


def deep_branch(x: Handle) -> Handle:
    """The pole lies several instructions below the select."""
    root = x.op("sqrt")
    return x.op("gt", 0).op("select", (root * root.op("log")).op("exp") / (root + 1), x * x + x)


def power_branch(x: Handle) -> Handle:
    return x.op("le", 0).op("select", 5 * x, x ** x.const("pi") / x.op("sqrt"))


# function, point, value, first and second derivative there, by hand.
POISON = [
    (sqrt_branch, 0.0, 0.0, 1.0, 0.0),
    (nested, 0.0, 0.0, 1.0, 2.0),
    (nested, -1.5, 0.75, -2.0, 2.0),
    (log_branch, 0.0, 0.0, 3.0, 0.0),
    (log_branch, -2.0, -6.0, 3.0, 0.0),
    (quotient_branch, 0.0, 2.0, 1.0, -2.0 / 3.0),
    (deep_branch, 0.0, 0.0, 1.0, 2.0),
    (deep_branch, -3.0, 6.0, -5.0, 2.0),
    (power_branch, 0.0, 0.0, 5.0, 0.0),
    (power_branch, -1.0, -5.0, 5.0, 0.0),
]


@both_modes
@pytest.mark.parametrize(("make", "at", "value", "first", "second"), POISON)
def test_a_branch_not_taken_never_poisons(
    make: Any, at: float, value: float, first: float, second: float, mode: Any
) -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x")
    y = make(x)
    (g,) = gradients(builder, y.value, [x.value], mode)
    seconds = [gradients(builder, g, [x.value], outer)[0] for outer in MODES]
    got = [float(r) for r in run([x.value], [y.value, g, *seconds], [at])]
    assert got == pytest.approx([value, first, *[second] * len(MODES)], rel=1e-14, abs=1e-14)


def around(x: Handle) -> Handle:
    """Elementwise where over sqrt, the branch of x where x < 1."""
    return x.op("lt", 1).op("select", x, x.op("sqrt"))


def _in_sum(x: Handle) -> Handle:
    return total(around(x) * 3)


def _in_matmul(x: Handle) -> Handle:
    y = around(x)
    matrix = einsum("i,j->ij", y + 1, y + 2)
    return einsum("ij,j->", matrix, y)


def _in_broadcast(x: Handle) -> Handle:
    wide = einsum("i->ji", around(x), j=3)
    return total(wide.op("tanh") * wide)


def _in_softmax(x: Handle) -> Handle:
    p = around(x).op("softmax", axes=(-1,))
    return einsum("i,i->", p, x + 1)


def _in_norm(x: Handle) -> Handle:
    return (around(x) + 1).op("norm", axes=(-1,))


def _in_logsumexp(x: Handle) -> Handle:
    return around(x).op("logsumexp", axes=(-1,))


def _in_cumsum(x: Handle) -> Handle:
    return total(around(x).op("cumsum", axis=-1, reverse=False).op("sin"))


def _in_product(x: Handle) -> Handle:
    return (around(x) + 1).op("reduce_prod", axis=-1)


def _in_gather(x: Handle) -> Handle:
    return total((around(x).op("slice", starts=(0,), steps=(2,), sizes=(2,)) + 1).op("log"))


def _in_solve(x: Handle) -> Handle:
    matrix = einsum("i->ii", around(x) + 2)
    return total(matrix.op("solve", einsum("i->ij", x + 1, j=1)))


def _whole_branch(x: Handle) -> Handle:
    """One scalar condition, spread: everything computed for the other branch is dead at once."""
    total_root = total(x.op("sqrt"))
    condition = total(x).op("lt", 100)
    return condition.op("select", total(x * x), total_root)


def _branch_of_matmul(x: Handle) -> Handle:
    """The dead value is a contraction of poles."""
    roots = x.op("sqrt")
    product = einsum("i,ij->j", roots, einsum("i,j->ij", 1 / x, x.op("log")))
    return total(x.op("lt", 1).op("select", x * 2, product))


def _branch_of_product(x: Handle) -> Handle:
    """The variable itself meets a pole in a contraction that is not taken: 0 * inf, with nothing below to catch it."""
    product = einsum("i,ij->j", x, einsum("i,j->ij", 1 / x, x + 1))
    return total(x.op("lt", 1).op("select", x * 2, product))


def _branch_of_norm(x: Handle) -> Handle:
    length = (x - x).op("sqrt").op("norm", axes=(-1,))
    spread = einsum("->i", length, i=4)
    return total(x.op("lt", 100).op("select", x * x, spread))


def _stack_of_determinants(x: Handle) -> Handle:
    """One matrix per element; where x is small its determinant is not taken, but its slope is 1/0."""
    root = x.op("sqrt") + 1
    sides = root.op("reshape", rank=1, shape=(4, 1)).op("concatenate", x.const(2, (4, 1)), axis=-1)
    return total(x.op("lt", 0.5).op("select", x * x, einsum("bi->bii", sides).op("det")))


def _stack_of_solutions(x: Handle) -> Handle:
    """The same through two factors and a right side shared by all systems."""
    root = x.op("sqrt") + 1
    sides = root.op("reshape", rank=1, shape=(4, 1)).op("concatenate", x.const(2, (4, 1)), axis=-1)
    right = einsum("bi->bij", sides, j=1)
    solution = einsum("bi->bii", sides + 1).op("solve", right)
    taken = einsum("b->bij", x.op("lt", 0.5), i=2, j=1)
    return total(taken.op("select", einsum("b->bij", x * x, i=2, j=1), solution))


INSIDE = [
    _in_sum, _in_matmul, _in_broadcast, _in_softmax, _in_norm, _in_logsumexp, _in_cumsum, _in_product, _in_gather,
    _in_solve, _whole_branch, _branch_of_matmul, _branch_of_product, _branch_of_norm, _stack_of_determinants,
    _stack_of_solutions,
]  # fmt: skip


def evaluated(x: Any, y: Any, point: Any) -> Any:
    return run([x], [y], [point])[0]


@pytest.mark.parametrize("make", INSIDE)
def test_where_inside_other_ops(make: Any) -> None:
    """Differences step over 0, where the branch not taken has no value, and must not notice it; nor may derivatives."""
    at = np.array([0.0, 0.3, 0.0, 0.6])
    builder = Builder(OPSET)
    x = variable(builder, "x", 4)
    y = make(x)

    want, error = jacobian(partial(evaluated, x.value, y.value), [at], 0)
    assert error < 1e-8
    for mode in MODES:
        (g,) = gradients(builder, y.value, [x.value], mode)
        seconds = [jacobians(builder, [g], [x.value], outer)[0][0] for outer in MODES]
        got, *hessians = run([x.value], [g, *seconds], [at])
        slope, _ = jacobian(partial(evaluated, x.value, g), [at], 0)
        assert_close(got, want, f"{make.__name__} {mode}", rtol=1e-7, atol=1e-8)
        for outer, hessian in zip(MODES, hessians, strict=True):
            assert_close(hessian, slope, f"{make.__name__} {outer} over {mode}", rtol=1e-6, atol=1e-7)


@both_modes
def test_branches_behind_casts(mode: Any) -> None:
    """A cast is elementwise: what is dead stays dead element by element on its way down."""
    builder = Builder(OPSET)
    x = variable(builder, "x", 2)
    root = x.op("sqrt").op("cast", dtype="f32").op("cast", dtype="f64")
    y = total(x.op("lt", 1).op("select", x * x, root))
    (got,) = run([x.value], gradients(builder, y.value, [x.value], mode), [np.array([0.0, 4.0])])
    assert got.tolist() == [0.0, 0.25]


def _spoiled(zero: Handle, one: Handle, kind: int) -> Handle:
    """Functions of `zero` without a slope at 0, then ops that mix the elements of a line."""
    bad = [zero.op("sqrt"), zero.op("log"), one / zero, zero.op("sqrt") * zero.op("log"), zero ** zero.const("pi")]
    made = bad[kind % 5]
    if not made.rank:
        return made
    axes, like = {"axes": (-1,)}, "abcd"[: made.rank]
    sizes = {like[-1]: made.shape[-1]}
    mixed = [
        lambda: made,
        lambda: made.op("softmax", **axes),
        lambda: made.op("cumsum", axis=-1, reverse=True),
        lambda: einsum(f"{like[:-1]}->{like}", made.op("norm", **axes), **sizes),
        lambda: einsum(f"{like[:-1]}->{like}", made.op("logsumexp", **axes), **sizes),
        lambda: einsum(f"{like[:-1]}->{like}", made.op("reduce_max", **axes), **sizes),
        lambda: made * made,
        lambda: einsum(f"{like[:-1]}->{like}", einsum(f"{like},{like}->{like[:-1]}", made, one), **sizes),
        lambda: made.op("concatenate", one, axis=-1).op(
            "slice", starts=(0,), steps=(1,), sizes=(made.shape[-1],)
        ),
        lambda: made.op("prod_others", axis=-1),
    ]  # fmt: skip
    return mixed[kind // 5 % len(mixed)]()


def _with_dead_branch(v: Handle, threshold: float, kind: int) -> tuple[Handle, Handle]:
    """select(c, v, w) with w good everywhere, and the same with w spoiled wherever c holds.

    The condition is one per line of the last axis, so some lines are dead and some are not.
    """
    line = "abcd"[: v.rank]
    sums = einsum(f"{line}->{line[:-1]}", v) if v.rank else v
    condition = sums.op("lt", sums.const(threshold))
    if v.rank:
        condition = einsum(f"{line[:-1]}->{line}", condition, **{line[-1]: v.shape[-1]})
    one = 1 + v * v
    clean = condition.op("select", v, _spoiled(one, one, kind))
    return clean, condition.op("select", v, _spoiled(condition.op("select", v - v, one), one, kind))


def _replaced(program: Program, number: int) -> tuple[Any, Any]:
    """The result with a random value replaced by a select, with a good and with a spoiled other branch."""
    f, builder = program.function, program.builder
    rng = np.random.default_rng(number)
    places = [v for v in (*f.params, *f.instrs) if v.type.dtype == "f64" and v.type.rank <= 3 and v.op.name != "const"]
    place = places[int(rng.integers(len(places)))]
    at = run(f.params, [place], program.args, sizes=program.sizes)[0]
    sums = np.sort(np.atleast_1d(at.sum(-1) if at.ndim else at).ravel())
    assume(sums.size)
    cut = float(sums[int(rng.integers(sums.size))]) + 1e-3  # at least one line is dead
    results: list[Any] = []
    for replaced in _with_dead_branch(builder.handle(place), cut, int(rng.integers(1000))):
        mapping: dict[Any, Any] = {p: p for p in f.params}
        mapping[place] = replaced.value
        for value in f.instrs:
            if value not in mapping:
                mapping[value] = builder.make(value.op, tuple(mapping[a] for a in value.args), value.attrs)
        results.append(mapping[f.results[0]])
    return results[0], results[1]


@examples(150)
@given(programs(max_steps=5, scalar=True), st.integers(0, 10**6))
def test_a_dead_branch_changes_nothing_anywhere_in_a_program(program: Program, number: int) -> None:
    """The gradients with and without poison are equal."""
    f, builder = program.function, program.builder
    clean, spoiled = _replaced(program, number)
    try:
        wanted = run(f.params, gradients(builder, clean, f.params), program.args, sizes=program.sizes)
    except EvaluationError:  # the replaced value may leave a domain, as a matrix that is singular now
        assume(False)
    assume(all(np.all(np.isfinite(g)) for g in wanted))
    for mode in MODES:
        got = run(f.params, gradients(builder, spoiled, f.params, mode), program.args, sizes=program.sizes)
        for g, want, parameter in zip(got, wanted, f.params, strict=True):
            assert_close(g, want, f"{mode} in {parameter.name} of\n{print_function(f)}", rtol=1e-8, atol=1e-9)


@examples(60)
@given(programs(max_steps=3, scalar=True), st.integers(0, 10**6))
def test_a_dead_branch_changes_no_second_derivative(program: Program, number: int) -> None:
    f, builder = program.function, program.builder
    clean, spoiled = _replaced(program, number)
    x = f.params[0]
    curvatures = [
        gradients(builder, total(builder.handle(gradients(builder, y, [x], inner)[0]).op("sin")).value, [x], outer)[0]
        for y in (clean, spoiled) for inner, outer in TWICE
    ]  # fmt: skip
    try:
        wanted = run(f.params, curvatures[:1], program.args, sizes=program.sizes)[0]
    except EvaluationError:
        assume(False)
    assume(np.all(np.isfinite(wanted)))
    ways = [f"{what}, {outer} over {inner}" for what in ("clean", "spoiled") for inner, outer in TWICE]
    for got, way in zip(run(f.params, curvatures, program.args, sizes=program.sizes), ways, strict=True):
        assert_close(got, wanted, f"{way} of\n{print_function(f)}", rtol=1e-7, atol=1e-8)
