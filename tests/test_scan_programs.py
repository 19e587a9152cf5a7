"""Random programs with loops, loops in loops among them: both sweeps, differences, native code and batches agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from oracle import assert_close, jacobian
from strategies import Program, examples, programs, total

import codegen
from symdiff.batch import batch
from symdiff.diff import gradients, jacobians
from symdiff.diff.jacobian import Mode
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ir.verify import verify
from symdiff.ops import OPSET
from symdiff.simplify import optimize, simplify

MODES: tuple[Mode, ...] = ("forward", "reverse")
LOOPS = programs(max_steps=4, last="scan")


def small(program: Program) -> None:
    value = interpret(program.function, program.args, program.sizes)[0]
    assume(value.size * sum(np.size(a) for a in program.args) <= 300 and np.all(np.isfinite(value)))


def with_jacobians(program: Program) -> Function:
    """The results, and derivatives of the first one in all parameters: forward, then reverse."""
    f = program.function
    found = [d for mode in MODES for d in jacobians(program.builder, f.results[:1], f.params, mode)[0]]
    return verify(Builder(OPSET).function(f.params, [*f.results, *found]), OPSET)


def agree(got: Any, want: Any, what: str) -> None:
    for number, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_close(np.asarray(a), b, f"{what}, result {number}", rtol=1e-8, atol=1e-9)


@examples(25)
@given(LOOPS)
def test_sweeps_through_loops_agree_with_differences(program: Program) -> None:
    small(program)
    f, count = program.function, len(program.function.params)
    found = interpret(with_jacobians(program), program.args, program.sizes)[len(f.results) :]
    for i, parameter in enumerate(f.params):
        assert_close(found[i], found[count + i], f"forward and reverse in {parameter.name} of\n{f}", 1e-8, 1e-10)
        want, error = jacobian(lambda *xs: interpret(f, xs, program.sizes)[0], program.args, i)
        if error < 1e-6 * max(1.0, float(np.max(np.abs(want), initial=0.0))):
            assert_close(found[i], want, f"{parameter.name} of\n{f}", rtol=1e-6, atol=1e-7 + 10 * error)


@examples(8)
@given(LOOPS)
def test_slopes_of_slopes_of_loops_agree(program: Program) -> None:
    small(program)
    f, builder = program.function, program.builder
    summed = total(builder.handle(f.results[0]).op("tanh"))
    slopes = {mode: gradients(builder, summed.value, f.params[:1], mode)[0] for mode in MODES}
    hessians = [jacobians(builder, [slopes[a]], f.params[:1], b)[0][0] for a in MODES for b in MODES]
    function = Function.of(f.params, [slopes["reverse"], *hessians])
    found = interpret(function, program.args, program.sizes)[1:]
    agree(found[1:], found[:1] * 3, f"Hessians of\n{f}")
    want, error = jacobian(lambda *xs: interpret(function, xs, program.sizes)[0], program.args, 0)
    if error < 1e-6 * max(1.0, float(np.max(np.abs(want), initial=0.0))):
        assert_close(found[0], want, f"differences of\n{f}", rtol=1e-5, atol=1e-6 + 10 * error)


@examples(15)
@given(LOOPS)
def test_loops_made_shorter_keep_their_values(program: Program) -> None:
    small(program)
    function = with_jacobians(program)
    shorter = verify(optimize(function, OPSET), OPSET)
    want = interpret(function, program.args, program.sizes)
    agree(interpret(shorter, program.args, program.sizes), want, f"optimized\n{function}")
    assert optimize(shorter, OPSET) == shorter


@examples(6)
@given(LOOPS)
def test_native_loops_agree(program: Program) -> None:
    small(program)
    function = optimize(with_jacobians(program), OPSET)
    shown = {d for p in function.params for s in p.type.shape for d in getattr(s, "names", ())}
    assume(set(function.dims) <= shown)  # sizes are read off the arguments
    want = interpret(function, program.args, program.sizes)
    agree(codegen.compile(function, single=False)(*program.args), want, f"native code of\n{function}")


@examples(15)
@given(LOOPS)
def test_batches_of_loops_are_the_loops(program: Program) -> None:
    small(program)
    function = with_jacobians(program)
    rng, k, builder = np.random.default_rng(3), named("k"), Builder(OPSET)
    mapped = [bool(rng.integers(3)) for _ in function.params]
    params = [
        builder.param(p.name, TensorType(p.type.dtype, (k, *p.shape) if m else p.shape))
        for p, m in zip(function.params, mapped, strict=True)
    ]
    found = batch(builder, function, params, mapped, k)
    batched = verify(Function.of(params, [v for v, _ in found]), OPSET)
    points = [[np.asarray(a) * factor for a in program.args] for factor in (1.0, 0.9)]
    stacks = [np.stack([p[i] for p in points]) if m else points[0][i] for i, m in enumerate(mapped)]
    got = interpret(batched, stacks, {**program.sizes, "k": 2})
    for number, point in enumerate(points):
        own = [(point if m else points[0])[i] for i, m in enumerate(mapped)]
        want = interpret(function, own, program.sizes)
        each = [g[number] if m else g for g, (_, m) in zip(got, found, strict=True)]
        agree(each, want, f"example {number} of\n{function}")


@examples(15)
@given(LOOPS)
def test_closed_forms_of_loops_keep_their_values(program: Program) -> None:
    small(program)
    f = program.function
    closed = verify(simplify(f, OPSET, keep_kinks=True), OPSET)
    assert simplify(closed, OPSET, keep_kinks=True) == closed
    got, want = (interpret(g, program.args, program.sizes) for g in (closed, f))
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, f"simplified\n{f}", rtol=1e-7, atol=1e-8)
