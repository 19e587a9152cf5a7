"""Both sweeps on whole programs: they agree with each other and with numbers, at kinks and behind branches too."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from oracle import assert_close, directional, jacobian, run, seed
from strategies import NOT_DRAWN, Grower, Program, UnfitError, examples, programs, total, variable

from symdiff.diff import gradients, jacobians, pull_back, push_forward
from symdiff.errors import ArgumentError, DerivativeError, ShapeError, SymdiffError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import einsum
from symdiff.ir.dims import named
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

MODES = ("forward", "reverse", "elimination")
both_modes = pytest.mark.parametrize("mode", MODES)


# -------------------------------------------------------------------- random programs
@examples(150)
@given(programs())
def test_jacobians_agree_with_each_other_and_with_numbers(program: Program) -> None:
    """Programs near a kink or a jump are left out: there the differences themselves do not settle."""
    f, builder = program.function, program.builder
    y = f.results[0]
    value = interpret(f, program.args, program.sizes)[0]
    assume(value.size * sum(np.size(a) for a in program.args) <= 400)
    forward = jacobians(builder, [y], f.params, "forward")[0]
    reverse = jacobians(builder, [y], f.params, "reverse")[0]
    eliminated = jacobians(builder, [y], f.params, "elimination")[0]
    got = run(f.params, [*forward, *reverse, *eliminated], program.args, sizes=program.sizes)
    count = len(f.params)
    for i, parameter in enumerate(f.params):
        assert forward[i].shape == reverse[i].shape == eliminated[i].shape == y.shape + parameter.shape
        one, other, third = got[i], got[count + i], got[2 * count + i]
        assert_close(one, other, f"forward and reverse in {parameter.name} of\n{f}", rtol=1e-9, atol=1e-11)
        assert_close(one, third, f"forward and elimination in {parameter.name} of\n{f}", rtol=1e-9, atol=1e-11)
        want, error = jacobian(lambda *xs: interpret(f, xs, program.sizes)[0], program.args, i)
        scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
        if error < 1e-6 * scale:
            assert_close(one, want, f"{parameter.name} of\n{f}", rtol=1e-6, atol=1e-7 + 10 * error)


@examples(100)
@given(programs())
def test_push_forward_and_pull_back_are_adjoint(program: Program) -> None:
    f, builder = program.function, program.builder
    ys = [r for r in dict.fromkeys(f.results) if r.type.floating]
    rng = np.random.default_rng(7)
    tangents = [builder.param(f"t{i}", p.type) for i, p in enumerate(f.params)]
    cotangents = [builder.param(f"c{i}", y.type) for i, y in enumerate(ys)]
    pushed = push_forward(builder, ys, f.params, tangents)
    pulled = pull_back(builder, ys, f.params, cotangents)
    values = interpret(f, program.args, program.sizes)
    ts = [seed(rng, np.shape(a)) for a in program.args]
    cs = [seed(rng, values[f.results.index(y)].shape) for y in ys]
    got = run([*f.params, *tangents, *cotangents], [*pushed, *pulled], [*program.args, *ts, *cs], sizes=program.sizes)
    left = sum(np.sum(c * jt) for c, jt in zip(cs, got[: len(ys)], strict=True))
    right = sum(np.sum(jc * t) for jc, t in zip(got[len(ys) :], ts, strict=True))
    size = sum(float(np.sum(np.abs(c * jt))) for c, jt in zip(cs, got[: len(ys)], strict=True))
    assert abs(left - right) <= 1e-9 * max(1.0, size), f


@examples(60)
@given(programs(max_steps=4, scalar=True))
def test_hessians_in_six_ways(program: Program) -> None:
    """Forward or reverse over both, and elimination in one place: one Hessian, symmetric, as differences."""
    f, builder = program.function, program.builder
    y, x = f.results[0], f.params[0]
    hessians: list[Any] = []
    (gradient,) = gradients(builder, y, [x])
    sweeps = MODES[:2]
    for inner, outer in [*itertools.product(sweeps, sweeps), ("elimination", "reverse"), ("forward", "elimination")]:
        (first,) = gradients(builder, y, [x], inner)
        hessians += jacobians(builder, [first], [x], outer)[0]
    got = run(f.params, hessians, program.args, sizes=program.sizes)

    def slope(*xs: Any) -> Any:
        return run(f.params, [gradient], xs, sizes=program.sizes)[0]

    want, error = jacobian(slope, program.args, 0)
    scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    assume(error < 1e-5 * scale)
    size = int(np.size(program.args[0]))
    assert_close(got[0].reshape(size, size), got[0].reshape(size, size).T, f"symmetry of\n{f}", 1e-8, 1e-9)
    for number, hessian in enumerate(got):
        assert_close(hessian, got[0], f"way {number} of\n{f}", rtol=1e-8, atol=1e-9)
    assert_close(got[0], want, f"differences of\n{f}", rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OPSET) - NOT_DRAWN))
def test_every_op_is_drawn(name: str) -> None:
    """A structural op without an entry in MAKERS is a LookupError here."""
    n = named("n")
    for number in range(100):
        grower = Grower(number)
        for shape in ((n, n), (n,), (n,), (2, n), (3,)):
            grower.parameter(shape)
        try:
            grower.step(name)
        except (UnfitError, SymdiffError):
            continue
        if any(value.op.name == name for value in grower.numbers):
            return
    pytest.fail(f"{name} never appears in a program")


# -------------------------------------------------------------------- shapes and conventions
@both_modes
def test_output_axes_first(mode: Any, rng: np.random.Generator) -> None:
    builder = Builder(OPSET)
    m, n = named("m"), named("n")
    w, x = variable(builder, "W", m, n), variable(builder, "x", n)
    y = einsum("ij,j->i", w, x)
    by_w, by_x = jacobians(builder, [y.value], [w.value, x.value], mode)[0]
    assert by_w.shape == (m, m, n)
    assert by_x.shape == (m, n)
    at = rng.normal(size=(2, 3)), rng.normal(size=3)
    got = run([w.value, x.value], [by_w, by_x], at)
    np.testing.assert_allclose(got[0], np.einsum("ik,j->ikj", np.eye(2), at[1]), rtol=1e-15)
    np.testing.assert_allclose(got[1], at[0], rtol=1e-15)


@both_modes
def test_a_variable_without_influence_has_derivative_zero(mode: Any) -> None:
    builder = Builder(OPSET)
    x, z = variable(builder, "x", 3), variable(builder, "z", 2)
    ((dz,),) = jacobians(builder, [x.op("exp").value], [z.value], mode)
    assert dz.op.name == "const"
    assert dz.attr("value") == 0
    assert dz.shape == (3, 2)


@both_modes
def test_the_derivative_of_a_variable_in_itself_is_the_identity(mode: Any) -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", 2, 3)
    ((dx,),) = jacobians(builder, [x.value], [x.value], mode)
    want = np.einsum("ik,jl->ijkl", np.eye(2), np.eye(3))
    assert np.array_equal(run([x.value], [dx], [np.zeros((2, 3))])[0], want)


@both_modes
def test_differentiating_in_an_intermediate_value(mode: Any) -> None:
    """A value in the middle is a variable like any other; what feeds it is held fixed."""
    builder = Builder(OPSET)
    x = variable(builder, "x")
    middle = x.op("sin")
    y = middle * middle * x
    (slope,) = gradients(builder, y.value, [middle.value], mode)
    at = 0.7
    assert_close(run([x.value], [slope], [at])[0], 2 * np.sin(at) * at, "2 m x", rtol=1e-15)


@both_modes
def test_no_derivative_flows_through_integers(mode: Any) -> None:
    """round to integers and back is flat; the other factor still counts."""
    builder = Builder(OPSET)
    x = variable(builder, "x")
    y = x.op("cast", dtype="i64").op("cast", dtype="f64") * x
    assert float(run([x.value], gradients(builder, y.value, [x.value], mode), [2.7])[0]) == 2.0


def test_single_precision_stays_single(rng: np.random.Generator) -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", TensorType("f32", (3,))))
    y = total(x.op("softmax", axes=(-1,)).op("log") * x)
    for mode in MODES:
        (g,) = gradients(builder, y.value, [x.value], mode)
        (h,) = jacobians(builder, [g], [x.value], mode)[0]
        assert g.type.dtype == h.type.dtype == "f32"
        at = rng.normal(size=3).astype(np.float32)
        assert [r.dtype for r in run([x.value], [g, h], [at])] == [np.float32, np.float32]


def test_many_uses_of_one_value_make_a_shallow_sum() -> None:
    """A value used k times has its cotangents added pairwise: the sum is log k deep."""
    builder = Builder(OPSET)
    x = variable(builder, "x", 64)
    y: Handle | None = None
    for i in range(64):
        part = x.op("slice", starts=(i,), steps=(1,), sizes=(1,)) * (i + 1)
        y = part if y is None else y * part
    assert y is not None
    (g,) = jacobians(builder, [y.value], [x.value])[0]
    depth: dict[Any, int] = {}
    from_sums = builder.function([x.value], [g]).instrs
    for value in from_sums:
        depth[value] = max((depth.get(a, 0) for a in value.args), default=0) + (
            value.op.name == "add" and value.shape == g.shape
        )
    assert max(depth.values()) <= 7


# -------------------------------------------------------------------- refusals
def test_refusals_say_what_was_given() -> None:
    builder = Builder(OPSET)
    x, v = variable(builder, "x"), variable(builder, "v", 3)
    k = builder.param("k", TensorType("i64", ()))
    with pytest.raises(DerivativeError, match="the variable k has dtype i64: only floats have derivatives"):
        jacobians(builder, [x.value], [k])
    with pytest.raises(DerivativeError, match="the function has dtype bool"):
        jacobians(builder, [(x.op("lt", 1)).value], [x.value])
    with pytest.raises(ShapeError, match=r"the function has shape \(3,\), expected a scalar"):
        gradients(builder, v.value, [v.value])
    with pytest.raises(ShapeError, match=r"tangent of shape \(\), expected \(3,\)"):
        push_forward(builder, [v.value], [v.value], [x.value])
    with pytest.raises(ShapeError, match=r"cotangent of shape \(\), expected \(3,\)"):
        pull_back(builder, [v.value], [v.value], [x.value])
    with pytest.raises(ArgumentError, match="expected 'forward', 'reverse' or 'elimination'"):
        jacobians(builder, [v.value], [v.value], "sideways")  # type: ignore[arg-type]


# -------------------------------------------------------------------- undefined functions
def _undefined(x: Any, wrt: tuple[int, ...]) -> Any:
    """f = sin, and its derivatives."""
    return [np.sin, np.cos, lambda v: -np.sin(v)][len(wrt)](x)


@both_modes
def test_undefined_elementwise_functions(mode: Any, rng: np.random.Generator) -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x", 3)
    y = x.op("apply", name="f", wrt=()) * x
    (g,) = gradients(builder, total(y).value, [x.value], mode)
    (h,) = jacobians(builder, [g], [x.value], mode)[0]
    at = rng.normal(size=3)
    got, second = run([x.value], [g, h], [at], functions={"f": _undefined})
    assert_close(got, np.sin(at) + at * np.cos(at), "f + x f'", rtol=1e-14)
    assert_close(second, np.diag(2 * np.cos(at) - at * np.sin(at)), "2 f' + x f''", rtol=1e-14)


def _loss(a: Any, b: Any, wrt: tuple[int, ...]) -> Any:
    """L(a, b) = sum(a_i^2 b_i), its gradients and second derivatives."""
    table = {
        (): lambda: np.sum(a * a * b), (0,): lambda: 2 * a * b, (1,): lambda: a * a,
        (0, 0): lambda: np.diag(2 * b), (0, 1): lambda: np.diag(2 * a), (1, 0): lambda: np.diag(2 * a),
        (1, 1): lambda: np.zeros((3, 3)),
    }  # fmt: skip
    return np.asarray(table[wrt]())


@both_modes
def test_undefined_functions_of_whole_tensors(mode: Any, rng: np.random.Generator) -> None:
    """L(sin x, x): the chain rule through both arguments, twice."""
    builder = Builder(OPSET)
    x = variable(builder, "x", 3)
    y = x.op("sin").op("functional", x, name="L", wrt=())
    (g,) = gradients(builder, y.value, [x.value], mode)
    (h,) = jacobians(builder, [g], [x.value], mode)[0]
    at = rng.normal(size=3)
    got, second = run([x.value], [g, h], [at], functions={"L": _loss})
    want, _ = directional(lambda v: np.sum(np.sin(v) ** 2 * v), [at], [np.ones(3)])
    assert_close(got, np.sin(2 * at) * at + np.sin(at) ** 2, "gradient", rtol=1e-14)
    assert_close(got.sum(), want, "differences", rtol=1e-9)
    assert_close(second, np.diag(2 * np.cos(2 * at) * at + 2 * np.sin(2 * at)), "Hessian", rtol=1e-13)


# -------------------------------------------------------------------- against high precision
def test_sixth_derivative_against_mpmath() -> None:
    """Repeated reverse differentiation of exp(sin x)/(1 + x^2)."""
    builder = Builder(OPSET)
    x = variable(builder, "x")
    y = (x.op("sin").op("exp") / (1 + x * x)).value
    values = [y]
    for order in range(6):
        (y,) = gradients(builder, y, [x.value], MODES[order % 2])
        values.append(y)
    got = run([x.value], values, [0.4])
    mpmath.mp.dps = 40
    for order, value in enumerate(got):
        want = mpmath.diff(lambda t: mpmath.exp(mpmath.sin(t)) / (1 + t * t), mpmath.mpf(0.4), order)
        assert float(value) == pytest.approx(float(want), rel=1e-12), order
