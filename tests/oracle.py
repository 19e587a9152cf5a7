"""Numbers that know nothing of our derivative rules: derivatives from evaluation alone, comparisons with reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.graph import Value
from symdiff.ir.op import Op
from symdiff.ir.types import TensorType
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

Arrays = Sequence[Any]


def directional(f: Callable[..., Any], xs: Arrays, dxs: Arrays, step: float = 1e-3) -> tuple[Any, float]:
    """d/dt f(xs + t dxs) at 0 by central differences, extrapolated twice (Richardson), and an estimate of its error."""

    def central(h: float) -> Any:
        up = np.asarray(f(*[x + h * d for x, d in zip(xs, dxs, strict=True)]), float)
        down = np.asarray(f(*[x - h * d for x, d in zip(xs, dxs, strict=True)]), float)
        return (up - down) / (2 * h)

    a, b, c = central(step), central(step / 2), central(step / 4)
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    best = (16 * second - first) / 15
    error = np.max(np.abs(best - second), initial=0.0)
    return best, float(error) if np.all(np.isfinite(best)) else float("inf")


def jacobian(f: Callable[..., Any], xs: Arrays, wrt: int, step: float = 1e-3) -> tuple[Any, float]:
    """The Jacobian in xs[wrt], shape of the result + shape of xs[wrt], column by column, and its worst error."""
    x = np.asarray(xs[wrt], float)
    out = np.shape(f(*xs))
    columns: list[Any] = []
    worst = 0.0
    for flat in range(x.size):
        unit = np.zeros(x.size)
        unit[flat] = 1.0
        dxs = [unit.reshape(x.shape) if i == wrt else np.zeros(np.shape(v)) for i, v in enumerate(xs)]
        column, error = directional(f, xs, dxs, step)
        columns.append(column)
        worst = max(worst, error)
    if not columns:
        return np.zeros(out + x.shape), 0.0
    return np.stack(columns, axis=-1).reshape(out + x.shape), worst


def complex_step(f: Callable[..., Any], xs: Arrays, dxs: Arrays) -> Any | None:
    """The same derivative to machine precision by one complex evaluation; None where f takes no complex numbers."""
    h = 1e-30
    try:
        value = f(*[x + 1j * h * d for x, d in zip(xs, dxs, strict=True)])
    except (TypeError, ValueError):
        return None
    return np.imag(value) / h if np.iscomplexobj(value) else None


def seed(rng: np.random.Generator, shape: Sequence[int]) -> Any:
    """A random direction: never ones, never a unit vector, entries away from 0."""
    return rng.uniform(0.5, 2.0, tuple(shape)) * rng.choice([-1.0, 1.0], tuple(shape))


def assert_close(got: Any, want: Any, what: str, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    """Equal shape, and equal numbers to a tolerance relative to the largest entry of both arrays."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    scale = float(np.max(np.abs(want), initial=0.0))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol + rtol * scale, err_msg=what, equal_nan=False)


# -------------------------------------------------------------------- running values and ops
NAMES = {np.dtype("f8"): "f64", np.dtype("f4"): "f32", np.dtype("i8"): "i64", np.dtype("?"): "bool"}


def type_of(array: Any) -> TensorType:
    array = np.asarray(array)
    return TensorType(NAMES[array.dtype], array.shape)


def run(params: Sequence[Value], results: Sequence[Value], args: Arrays, **options: Any) -> tuple[Any, ...]:
    """The values of `results`, through a verified Function and the interpreter."""
    function = verify(Builder(OPSET).function(params, results), OPSET)
    return interpret(function, args, **options)


def one_op(op: Op, arrays: Arrays, attrs: Mapping[str, Any]) -> tuple[Builder, list[Value], Value]:
    """A builder, parameters for `arrays`, and the op applied to them."""
    builder = Builder(OPSET)
    params = [builder.param(f"x{i}", type_of(a)) for i, a in enumerate(arrays)]
    return builder, params, builder.make(op, tuple(params), freeze_attrs(attrs))


def op_cases(op: Op, rng: np.random.Generator) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arrays and attributes from the op's declared sample."""
    if op.sample.draw is not None:
        return op.sample.draw(rng)
    return [(tuple(rng.uniform(lo, hi, (2, 3)) for lo, hi in op.sample.intervals), {})] if op.sample.intervals else []
