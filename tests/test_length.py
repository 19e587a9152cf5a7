"""Length is no limit: programs of many thousand instructions go through every stage without recursion."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from pathlib import Path

import pytest
from oracle import run
from strategies import variable

from symdiff.cost import count
from symdiff.diff import gradients, push_forward
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function
from symdiff.ir.text import parse_function, print_function
from symdiff.ir.verify import verify
from symdiff.ops import OPSET


def chain(builder: Builder, length: int) -> Function:
    x, y = variable(builder, "x"), variable(builder, "y")
    value = x
    for step in range(length):
        value = [value.op("sin"), value + x, value * y, value.op("tanh")][step % 4]
    return Function.of([x.value, y.value], [value.value])


LENGTH = 20_000  # recursion would stop at 1000; bench/chain.py goes to a million


def test_a_long_chain_goes_through_every_stage() -> None:
    builder = Builder(OPSET)
    function = verify(chain(builder, LENGTH), OPSET)
    assert len(function.instrs) == LENGTH
    text = print_function(function)
    assert parse_function(text, OPSET) == function
    (gradient,) = gradients(builder, function.results[0], function.params[:1])
    (pushed,) = push_forward(builder, function.results, function.params[:1], [builder.const(1)])
    both = Builder(OPSET).function(function.params, [gradient, pushed])
    reverse, forward = interpret(both, [0.3, 1.1])
    x = 0.3
    value, slope = x, 1.0
    for step in range(LENGTH):  # the same in plain numbers
        match step % 4:
            case 0:
                value, slope = math.sin(value), math.cos(value) * slope
            case 1:
                value, slope = value + x, slope + 1.0
            case 2:
                value, slope = value * 1.1, slope * 1.1
            case _:
                value = math.tanh(value)
                slope *= 1 - value * value
    assert float(reverse) == pytest.approx(slope, rel=1e-9)
    assert float(forward) == pytest.approx(slope, rel=1e-9)


def test_a_deep_graph_is_freed_without_recursion() -> None:
    builder = Builder(OPSET)
    function = chain(builder, 60_000)
    assert len(function.instrs) == 60_000
    del builder, function
    gc.collect()


def test_a_wide_sum_is_no_deeper_than_its_number_of_terms() -> None:
    """One value used in 5000 products: its cotangent is a sum of 5000 terms, added without recursion."""
    builder = Builder(OPSET)
    x = variable(builder, "x")
    total = x
    for i in range(5000):
        total = total + x * i
    (gradient,) = gradients(builder, total.value, [x.value])
    (got,) = run([x.value], [gradient], [0.5])
    assert float(got) == 1 + sum(range(5000))


def test_the_chain_benchmark_still_runs() -> None:
    script = Path(__file__).resolve().parent.parent / "bench" / "chain.py"
    done = subprocess.run([sys.executable, str(script), "50", "100"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["build", "verify", "print"]


def test_a_long_chain_is_counted() -> None:
    builder = Builder(OPSET)
    x = variable(builder, "x")
    y = x
    for step in range(20_000):
        y = [y.op("sin"), y + x, y * x, y / (step + 2)][step % 4]
    counts = count(Function.of([x.value], [y.value]))
    numbers = counts.at({})
    assert [numbers[c] for c in ("add", "multiply", "divide")] == [5000, 5000, 5000]
    assert numbers["transcendental"] == {"sin": 5000}
    assert numbers["peak"] == 24
