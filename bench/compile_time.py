"""How long deriving and compiling take: straight-line programs of scalars, and ordinary tensor programs.

    python bench/compile_time.py                 # the table
    python bench/compile_time.py --json FILE     # stores it as well

A random program applies sin, products and sums to values made before; a deep one to the last value only. Times are
seconds of processor time of this process, objects on disk switched off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["SYMDIFF_CACHE_DIR"] = "off"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout measures itself

import numpy as np

import codegen
import symdiff as sd


def straight(length: int, deep: bool, inputs: int = 8) -> tuple[Any, list[Any]]:
    """A scalar made by about `length` operations, and the symbols it depends on."""
    rng = np.random.default_rng(length)
    symbols = [sd.symbol(f"x{i}") for i in range(inputs)]
    values: list[Any] = list(symbols)
    # Drawn beforehand: a draw takes as long as an operation.
    kinds, firsts, seconds = rng.integers(3, size=length), rng.random(length), rng.random(length)
    for kind, first, second in zip(kinds.tolist(), firsts.tolist(), seconds.tolist(), strict=True):
        recent = min(400, len(values))
        a = values[-1] if deep else values[-1 - int(first * recent)]
        b = values[-1 - int(second * recent)]
        values.append(np.sin(a) if kind == 0 else a * b if kind == 1 else a + b)
    total = values[-1]
    if not deep:
        for value in values[-400:-1]:
            total = total + value
    return total, symbols


def gradient_of(length: int, deep: bool) -> Callable[[], tuple[Any, list[float]]]:
    """Derives and compiles the gradient of a straight program whose gradient has about `length` instructions."""

    def run() -> tuple[Any, list[float]]:
        f, symbols = straight(length // 3, deep)
        return sd.compile([f, *sd.gradient(f, symbols)], symbols), [0.1 + 0.05 * i for i in range(len(symbols))]

    return run


def row(name: str, run: Callable[[], tuple[Any, list[Any]]]) -> dict[str, Any]:
    """Times of one program; the first call included."""
    start = time.process_time()
    native, args = run()
    native(*args)
    seconds = time.process_time() - start
    made = codegen.inspect(native)
    stages = {stage: round(took, 3) for stage, took in made.timings.items()}
    best = min(_timed(native, args) for _ in range(20))
    print(f"{name:24} {seconds:8.2f} s   tier {made.opt}   call {best * 1e6:10.2f} us   {stages}", flush=True)
    return {"name": name, "instructions": len(made.function.instrs), "seconds": seconds, "call": best, **stages}


def _timed(native: Any, args: list[Any]) -> float:
    start = time.perf_counter()
    native(*args)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sd.compile(sd.symbol("x") * 2, [sd.symbol("x")])(1.0)  # what a process does once
    rows = [
        row(f"{kind} {length:,}", gradient_of(length, kind == "deep"))
        for length in (100, 1_000, 10_000, 100_000)
        for kind in ("random", "deep")
    ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
