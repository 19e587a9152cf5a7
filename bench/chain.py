"""Long scalar chains: are all stages linear in the number of instructions, and how long does one take?

Builds x -> ... -> y with add, mul, sin, tanh, ... in turn, each step also reading an earlier value, and times building,
verifying, printing, parsing, reverse and forward differentiation, counting, running and freeing. Prints microseconds
per instruction at each length and the ratio of the longest to the one before: 1.0 is perfectly linear.

    python bench/chain.py [length ...]        default 100000 1000000
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from symdiff.cost import count
from symdiff.diff import gradients, push_forward
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function
from symdiff.ir.text import parse_function, print_function
from symdiff.ir.types import float64
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

Result = TypeVar("Result")


def chain(builder: Builder, length: int) -> Function:
    """A scalar function of x and y with exactly `length` instructions, each using the one before it."""
    x = builder.handle(builder.param("x", float64()))
    y = builder.handle(builder.param("y", float64()))
    value, earlier = x, y
    for step in range(length):
        match step % 6:
            case 0:
                previous, value = value, value * y
            case 1:
                previous, value = value, value + earlier
            case 2:
                previous, value = value, value.op("sin")
            case 3:
                previous, value = value, value.op("tanh")
            case 4:
                previous, value = value, value - x
            case _:
                previous, value = value, value.op("cos")
        earlier = previous
    return Function.of([x.value, y.value], [value.value])


def measure(length: int) -> dict[str, float]:
    """Seconds per stage for a chain of this length."""
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[..., Result], *args: Any) -> Result:
        started = time.perf_counter()
        result = work(*args)
        seconds[stage] = time.perf_counter() - started
        return result

    builder = Builder(OPSET)
    function = timed("build", chain, builder, length)
    timed("verify", verify, function, OPSET)
    text = timed("print", print_function, function)
    timed("parse", parse_function, text, OPSET)
    timed("compare", function.__eq__, chain(Builder(OPSET), length))
    x, y = function.params[0], function.results[0]
    gradient = timed("reverse", gradients, builder, y, [x])
    timed("forward", push_forward, builder, [y], [x], [builder.const(1)])
    derivative = timed("merge", Builder(OPSET).function, function.params, gradient)
    timed("count", count, derivative)
    timed("run", interpret, function, [0.3, 0.7])
    pile: list[Any] = [builder, function, x, y, gradient, derivative, text]
    del builder, function, x, y, gradient, derivative, text

    def free() -> None:
        pile.clear()
        gc.collect()

    timed("free", free)
    return seconds


def report(lengths: Sequence[int]) -> str:
    """A table: microseconds per instruction of the chain, and how they change from one length to the next."""
    measured = [measure(length) for length in lengths]
    lines = ["stage     " + "".join(f"{length:>12,}" for length in lengths) + "   us per instruction; last ratio"]
    for stage in measured[0]:
        each = [1e6 * seconds[stage] / length for seconds, length in zip(measured, lengths, strict=True)]
        ratio = f"{each[-1] / each[-2]:>10.2f}" if len(each) > 1 else ""
        lines.append(f"{stage:<10}" + "".join(f"{e:>12.2f}" for e in each) + ratio)
    return "\n".join(lines)


if __name__ == "__main__":
    print(report([int(a) for a in sys.argv[1:]] or [100_000, 1_000_000]))
