"""Every op of OPSET against its own `evaluate`: nothing to add here when an op is declared.

Derivatives are compared with central differences (and the complex step where `evaluate` is analytic), at points from
the op's sample, in random directions. Kinks are compared with the declared choice.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from oracle import assert_close, complex_step, directional, jacobian, one_op, op_cases, run, seed, type_of

from symdiff.diff import jacobians, pull_back, push_forward
from symdiff.errors import DerivativeError
from symdiff.ir.builder import Builder
from symdiff.ir.op import NoDerivative, Op, Partials
from symdiff.ir.types import float64
from symdiff.ops import OPSET

UNSAMPLED = {
    "const": "no operand; tests/test_ir.py reads and prints constants",
    "array": "no operand; tests/test_ir.py reads and prints constants",
    "iota": "no operand",
    "size": "no operand",
    "apply": "undefined: tests/test_diff.py gives it values",
    "functional": "undefined: tests/test_diff.py gives it values",
    "scan": "a loop over a body: tests/test_scan.py",
}
SAMPLED = [op for op in OPSET.values() if op.name not in UNSAMPLED]
# Ops whose second derivative does not exist as numbers.
SMOOTH = [op for op in SAMPLED if not isinstance(op.rule, NoDerivative)]


def named(ops: list[Op]) -> Any:
    return pytest.mark.parametrize("op", ops, ids=[op.name for op in ops])


def cases(op: Op, rng: np.random.Generator) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return [(arrays, attrs) for arrays, attrs in op_cases(op, rng) if attrs.get("dtype", "f64") == "f64"]


def floating(arrays: tuple[Any, ...]) -> list[int]:
    return [i for i, a in enumerate(arrays) if np.asarray(a).dtype == np.float64]


def frozen(op: Op, arrays: tuple[Any, ...], attrs: dict[str, Any], moving: list[int]) -> Any:
    """evaluate as a function of the operands `moving` alone."""

    def f(*xs: Any) -> Any:
        full = list(arrays)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x
        return op.evaluate(*full, **attrs)

    return f


def stacked_results(params: list[Any], results: list[Any], args: list[Any], moving: list[int]) -> Any:
    """All results in one flat array, as a function of the arguments `moving` alone."""

    def f(*xs: Any) -> Any:
        full = list(args)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x
        return np.concatenate([r.ravel() for r in run(params, results, full)])

    return f


@named(list(OPSET.values()))
def test_every_op_can_be_tested(op: Op, rng: np.random.Generator) -> None:
    assert bool(op_cases(op, rng)) != (op.name in UNSAMPLED)


@named(SAMPLED)
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_inferred_type_is_that_of_the_result(op: Op, dtype: str, rng: np.random.Generator) -> None:
    for arrays, attrs in op_cases(op, rng):
        if dtype == "f32":
            arrays = tuple(np.asarray(a, np.float32) if np.asarray(a).dtype == np.float64 else a for a in arrays)
        inferred = op.infer([type_of(a) for a in arrays], attrs)
        assert inferred == type_of(op.evaluate(*arrays, **attrs)), attrs


@named(SAMPLED)
def test_elementwise_means_equal_shapes_and_independent_elements(op: Op, rng: np.random.Generator) -> None:
    for arrays, attrs in op_cases(op, rng):
        result = np.asarray(op.evaluate(*arrays, **attrs))
        if op.elementwise:
            for index in np.ndindex(result.shape):
                alone = op.evaluate(*[np.asarray(a)[index] for a in arrays], **attrs)
                np.testing.assert_allclose(alone, result[index], rtol=1e-12)


@named([op for op in SAMPLED if op.name not in ("contract", "last_writer")])
def test_leading_axes_pass_through(op: Op, rng: np.random.Generator) -> None:
    """A stack of operands gives the stack of results; index arrays, and a matrix with a stack beside it, are shared."""
    for (arrays, attrs), (others, _) in zip(op_cases(op, rng), op_cases(op, rng), strict=True):
        most = max(np.ndim(a) for a in arrays)
        shared = [np.asarray(a).dtype == np.int64 or ("solve" in op.name and np.ndim(a) < most) for a in arrays]
        others = tuple(a if keep else b for a, b, keep in zip(arrays, others, shared, strict=True))
        stacked = [a if keep else np.stack([a, b]) for a, b, keep in zip(arrays, others, shared, strict=True)]
        want = np.stack([op.evaluate(*arrays, **attrs), op.evaluate(*others, **attrs)])
        assert_close(op.evaluate(*stacked, **attrs), want, op.name)
        assert op.infer([type_of(a) for a in stacked], attrs) == type_of(want)


# -------------------------------------------------------------------- first derivatives
@named(SMOOTH)
def test_jvp_is_the_numeric_directional_derivative(op: Op, rng: np.random.Generator) -> None:
    """All operands moving together, and each alone, the others' tangents absent."""
    for arrays, attrs in cases(op, rng):
        every = floating(arrays)
        for moving in [every, *([i] for i in every)] if len(every) > 1 else [every]:
            builder, params, y = one_op(op, arrays, attrs)
            points = [arrays[i] for i in moving]
            directions = [seed(rng, np.shape(p)) for p in points]
            tangents = [builder.param(f"t{i}", params[i].type) for i in moving]
            (derivative,) = push_forward(builder, [y], [params[i] for i in moving], tangents)
            (got,) = run([*params, *tangents], [derivative], [*arrays, *directions])
            f = frozen(op, arrays, attrs, moving)
            want, error = directional(f, points, directions)
            assert error < 1e-6, f"{op.name}: the sample lies near a kink"
            assert_close(got, want, f"{op.name} {attrs} along {moving}", rtol=1e-7, atol=1e-8)
            exact = complex_step(f, points, directions) if op.elementwise else None
            if exact is not None:
                assert_close(got, exact, f"{op.name} {attrs} along {moving}, complex step", rtol=1e-12, atol=1e-13)


@named(SMOOTH)
def test_vjp_is_the_transpose_of_the_numeric_jacobian(op: Op, rng: np.random.Generator) -> None:
    for arrays, attrs in cases(op, rng):
        builder, params, y = one_op(op, arrays, attrs)
        moving = floating(arrays)
        cotangent = builder.param("c", y.type)
        c = seed(rng, y.shape)
        pulled = pull_back(builder, [y], [params[i] for i in moving], [cotangent])
        got = run([*params, cotangent], pulled, [*arrays, c])
        for i, value in zip(moving, got, strict=True):
            want, error = jacobian(frozen(op, arrays, attrs, [i]), [arrays[i]], 0)
            assert error < 1e-6
            assert_close(
                value, np.tensordot(c, want, axes=c.ndim), f"{op.name} {attrs}, operand {i}", rtol=1e-7, atol=1e-8
            )


@named(SMOOTH)
def test_both_modes_give_the_numeric_jacobian(op: Op, rng: np.random.Generator) -> None:
    """Seeds with axes of their own: the whole identity goes through each rule at once."""
    for arrays, attrs in cases(op, rng):
        builder, params, y = one_op(op, arrays, attrs)
        moving = floating(arrays)
        xs = [params[i] for i in moving]
        forward = jacobians(builder, [y], xs, "forward")[0]
        reverse = jacobians(builder, [y], xs, "reverse")[0]
        got = run(params, [*forward, *reverse], arrays)
        for number, i in enumerate(moving):
            want, _ = jacobian(frozen(op, arrays, attrs, [i]), [arrays[i]], 0)
            assert_close(got[number], want, f"{op.name} {attrs} forward, operand {i}", rtol=1e-7, atol=1e-8)
            assert_close(got[len(moving) + number], got[number], f"{op.name} {attrs} reverse, operand {i}", rtol=1e-11)


@named(SMOOTH)
def test_jvp_and_vjp_are_adjoint(op: Op, rng: np.random.Generator) -> None:
    for arrays, attrs in cases(op, rng):
        builder, params, y = one_op(op, arrays, attrs)
        moving = floating(arrays)
        xs = [params[i] for i in moving]
        tangents = [builder.param(f"t{i}", x.type) for i, x in zip(moving, xs, strict=True)]
        cotangent = builder.param("c", y.type)
        directions, c = [seed(rng, x.shape) for x in xs], seed(rng, y.shape)
        (pushed,) = push_forward(builder, [y], xs, tangents)
        pulled = pull_back(builder, [y], xs, [cotangent])
        jvp, *vjp = run([*params, *tangents, cotangent], [pushed, *pulled], [*arrays, *directions, c])
        right = sum(np.sum(v * t) for v, t in zip(vjp, directions, strict=True))
        assert_close(np.sum(c * jvp), right, f"{op.name} {attrs}", rtol=1e-11)


# -------------------------------------------------------------------- second derivatives
@named(SMOOTH)
def test_second_derivatives_by_differentiating_again(op: Op, rng: np.random.Generator) -> None:
    """Forward and reverse over each, against differences of the first derivative (itself tested above)."""
    for arrays, attrs in cases(op, rng)[:3]:
        moving = floating(arrays)
        for outer, inner in itertools.product(("jvp", "vjp"), repeat=2):
            builder, params, y = one_op(op, arrays, attrs)
            xs = [params[i] for i in moving]
            points = [arrays[i] for i in moving]
            if inner == "jvp":
                seeds = [builder.param(f"s{i}", x.type) for i, x in zip(moving, xs, strict=True)]
                first = push_forward(builder, [y], xs, seeds)
            else:
                seeds = [builder.param("s", y.type)]
                first = pull_back(builder, [y], xs, seeds)
            numbers = [seed(rng, s.shape) for s in seeds]

            directions = [seed(rng, x.shape) for x in xs]
            slope = stacked_results([*params, *seeds], first, [*arrays, *numbers], moving)
            want, error = directional(slope, points, directions)
            if outer == "jvp":
                tangents = [builder.param(f"u{i}", x.type) for i, x in zip(moving, xs, strict=True)]
                second = push_forward(builder, first, xs, tangents)
                got = run([*params, *seeds, *tangents], second, [*arrays, *numbers, *directions])
                assert_close(np.concatenate([g.ravel() for g in got]), want, f"{op.name} {attrs} {outer} of {inner}",
                             rtol=1e-7, atol=1e-7)  # fmt: skip
            else:
                cotangents = [builder.param(f"c{i}", v.type) for i, v in enumerate(first)]
                pulled = pull_back(builder, first, xs, cotangents)
                weights = [seed(rng, v.shape) for v in first]
                got = run([*params, *seeds, *cotangents], pulled, [*arrays, *numbers, *weights])
                left = sum(np.sum(g * d) for g, d in zip(got, directions, strict=True))
                right = np.sum(np.concatenate([w.ravel() for w in weights]) * want)
                assert_close(left, right, f"{op.name} {attrs} {outer} of {inner}", rtol=1e-7, atol=1e-6)
            assert error < 1e-4


# -------------------------------------------------------------------- refusals
@named([op for op in SAMPLED if isinstance(op.rule, NoDerivative) and op.name != "last_writer"])
def test_an_op_without_derivative_is_constant_to_integers_and_refuses_floats(op: Op, rng: np.random.Generator) -> None:
    """Integer and boolean results have no tangent, so a derivative through them is an error at the result."""
    arrays, attrs = op_cases(op, rng)[0]
    builder, params, y = one_op(op, arrays, attrs)
    assert y.type.dtype in ("i64", "bool")
    with pytest.raises(DerivativeError, match="only floats have derivatives"):
        jacobians(builder, [y], params)


# -------------------------------------------------------------------- kinks
def slopes(name: str, point: tuple[float, ...], mode: str) -> list[float]:
    builder = Builder(OPSET)
    params = [builder.param(f"x{i}", float64()) for i in range(len(point))]
    y = builder.make(OPSET[name], tuple(params))
    return [float(v) for v in run(params, jacobians(builder, [y], params, mode)[0], point)]  # type: ignore[arg-type]


KINKS = [
    ("relu", (0.0,), [0.0]), ("abs", (0.0,), [0.0]), ("sign", (0.0,), [0.0]), ("sign", (2.0,), [0.0]),
    ("floor", (1.0,), [0.0]), ("floor", (1.5,), [0.0]), ("ceil", (2.0,), [0.0]), ("round", (0.5,), [0.0]),
    ("trunc", (-1.0,), [0.0]), ("maximum", (1.5, 1.5), [0.5, 0.5]), ("minimum", (-2.0, -2.0), [0.5, 0.5]),
    ("maximum", (1.0, 2.0), [0.0, 1.0]), ("minimum", (1.0, 2.0), [1.0, 0.0]),
    ("clip", (-1.0, -1.0, 2.0), [1.0, 0.0, 0.0]), ("clip", (2.0, -1.0, 2.0), [1.0, 0.0, 0.0]),
    ("clip", (3.0, -1.0, 2.0), [0.0, 0.0, 1.0]), ("clip", (-3.0, -1.0, 2.0), [0.0, 1.0, 0.0]),
    ("floor_divide", (4.0, 2.0), [0.0, 0.0]), ("mod", (4.0, 2.0), [1.0, -2.0]), ("pow", (0.0, 2.0), [0.0, 0.0]),
    ("pow", (0.0, 1.0), [1.0, 0.0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "point", "want"), KINKS, ids=[f"{k[0]}{k[1]}" for k in KINKS])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_declared_value_at_a_kink(name: str, point: tuple[float, ...], want: list[float], mode: str) -> None:
    assert slopes(name, point, mode) == want


def test_every_declared_kink_of_a_scalar_function_is_in_the_table() -> None:
    declared = {op.name for op in OPSET.values() if op.kink is not None and isinstance(op.rule, Partials)}
    assert declared <= {name for name, _, _ in KINKS}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(
    ("name", "point", "want"),
    [
        ("norm", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ("norm", [3.0, 0.0, 4.0], [0.6, 0.0, 0.8]),
        ("reduce_max", [2.0, 5.0, 5.0], [0.0, 0.5, 0.5]),
        ("reduce_min", [2.0, 2.0, 2.0], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_the_declared_value_of_a_reduction_at_a_kink(name: str, point: Any, want: Any, mode: Any) -> None:
    builder = Builder(OPSET)
    x = builder.param("x", float64(3))
    y = builder.make(OPSET[name], (x,), (("axes", (-1,)),))
    (got,) = run([x], jacobians(builder, [y], [x], mode)[0], [np.array(point)])
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_products_with_zeros() -> None:
    """Quotients y/x would be nan: one zero leaves one slope, two zeros none, and the second derivative sees pairs."""
    builder = Builder(OPSET)
    x = builder.param("x", float64(3))
    y = builder.make(OPSET["reduce_prod"], (x,), (("axis", -1),))
    (g,) = jacobians(builder, [y], [x])[0]
    (h,) = jacobians(builder, [g], [x])[0]
    got, second = run([x], [g, h], [np.array([0.0, 3.0, 5.0])])
    assert got.tolist() == [15.0, 0.0, 0.0]
    assert second.tolist() == [[0.0, 5.0, 3.0], [5.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    assert run([x], [g], [np.array([0.0, 0.0, 5.0])])[0].tolist() == [0.0, 0.0, 0.0]


def test_declared_folds_keep_the_value(rng: np.random.Generator) -> None:
    """x + 0, 1 * x, x ** 1, 0 - x, ... are folded to something of equal value."""
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", float64(4)))
    at = rng.normal(size=4)
    table = [
        (x + 0, at), (0 + x, at), (x - 0, at), (0 - x, -at), (x * 1, at), (1 * x, at), (x * 0, 0 * at), (x / 1, at),
        (x**1, at), (x**0, at**0), (x.const(3) + 4, np.full(4, 7.0)), (x.const(2) ** -2, np.full(4, 0.25)),
        (x.const(1) / 3, np.full(4, 1 / 3)), (-x.const(2), np.full(4, -2.0)), (x.const(5) - 7, np.full(4, -2.0)),
    ]  # fmt: skip
    got = run([x.value], [h.value for h, _ in table], [at])
    for value, (_, want) in zip(got, table, strict=True):
        np.testing.assert_array_equal(value, want)


def test_constants_with_names_do_not_fold_to_zero() -> None:
    builder = Builder(OPSET)
    inf = builder.handle(builder.const("inf"))
    zero = builder.handle(builder.const(0))
    assert run([], [(zero / 0).value], [])[0] != 0
    assert math.isinf(run([], [(inf + 1).value], [])[0])
    assert math.isinf(run([], [(inf * 2).value], [])[0])
