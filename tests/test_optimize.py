"""Cleaning up before native code, and programs of any length."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import numpy as np
import pytest

from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.contraction import einsum
from symdiff.ir.dims import named
from symdiff.ir.graph import Function
from symdiff.ir.text import print_function
from symdiff.ir.types import float64
from symdiff.ir.verify import verify
from symdiff.ops import OPSET
from symdiff.simplify import optimize, simplify

m, n = named("m"), named("n")


def same_numbers(one: Function, two: Function, tolerance: float = 1e-12) -> None:
    rng = np.random.default_rng(4)
    sizes = {"m": 4, "n": 3}
    args = [rng.normal(size=tuple(s if isinstance(s, int) else sizes[str(s)] for s in p.shape)) for p in one.params]
    for a, b in zip(interpret(one, args, sizes), interpret(two, args, sizes), strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)


def test_optimize_absorbs_moves() -> None:
    builder = Builder(OPSET)
    A = builder.handle(builder.param("A", float64(m, n)))
    x = builder.handle(builder.param("x", float64(n)))
    B = einsum("ij->ji", A)
    wide = einsum("i->ji", x, j=m)
    y = einsum("ij,i->j", B, x) + einsum("ij,ij->i", A, wide.op("exp"))
    before = Function.of([A.value, x.value], [y.value, einsum("ij->i", wide).value])
    after = verify(optimize(before, OPSET), OPSET)
    same_numbers(before, after)
    assert [str(v.type) for v in after.instrs if v.op.name == "exp"] == ["f64[n]"]
    assert all(v.type.rank < 2 for v in after.instrs)


def test_optimize_local_identities() -> None:
    builder = Builder(OPSET)
    x, y = [builder.handle(builder.param(v, float64(n))) for v in "xy"]
    c = x.op("gt", y)
    zero = x.const(0)
    results = {
        "x": x.op("neg").op("neg"),
        "sub": x + (-y),
        "add": x - (-y),
        "mul": x ** x.const(2),
        "select": c.op("select", zero, y * c.op("select", zero, x)),
        "gt": c.op("cast", dtype="f64").op("ne", 0),
    }
    for name, value in results.items():
        after = optimize(Function.of([x.value, y.value], [value.value]), OPSET)
        assert (after.results[0].name or after.results[0].op.name) == name
        assert sum(v.op.name == "select" for v in after.instrs) <= 1
        same_numbers(Function.of([x.value, y.value], [value.value]), after)


@pytest.mark.parametrize("kind", ["sin", "product", "sum"])
def test_long_programs(kind: str) -> None:
    """Depth is no limit and time is linear."""
    builder = Builder(OPSET)
    x, y = [builder.handle(builder.param(v, float64(8))) for v in "xy"]
    h = x
    for i in range(1500):
        if kind == "sin":
            h = (h * Fraction(1, 2)).op("sin") + y
        elif kind == "product":
            h = h * (y if i % 2 else 1 / y)
        else:
            h = h - y if i % 2 else h + y * 3
    function = Function.of([x.value, y.value], [h.value])
    start = time.process_time()
    same_numbers(function, simplify(function, OPSET), 1e-6)
    assert time.process_time() - start < 20
    start = time.process_time()
    same_numbers(function, optimize(function, OPSET), 1e-6)
    assert time.process_time() - start < 2


def test_numbers_do_not_grow_without_bound() -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", float64(2)))
    h = x
    for _ in range(60):
        h = (h * h + 1) * Fraction(1, 3)
    result = simplify(Function.of([x.value], [h.value]), OPSET)
    longest = max(len(str(v.attr("value"))) for v in result.instrs if v.op.name == "const")
    assert longest < 400
    json.dumps(print_function(result))
