"""Matrix products in percent of the peak of fused multiply-adds, beside NumPy's BLAS.

    python bench/products.py                         all layouts and sizes, float64
    python bench/products.py --layout NN --size 128 512
    python bench/products.py --dtype f32 --kind square odd
    python bench/products.py --threads 2             one thread and two, against the peak of one
    python bench/products.py --json F                keep the figures

NN is A B, TN is A^T B with A stored transposed, and so on; operands are row-major. The peak is measured between the
products of a round, because clocks change within seconds; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import codegen
from codegen import compiled
from codegen.jit import engine
from codegen.llvm.text import BYTES, REGISTER
from symdiff.ir.text import parse_function
from symdiff.ops import OPSET

SHAPES: dict[str, list[tuple[int, int, int]]] = {
    "square": [(n, n, n) for n in (64, 96, 128, 192, 256, 384, 512, 768, 1024)],
    "odd": [(n, n, n) for n in (127, 129, 250, 1000)],
    "oblong": [
        (100_000, 50, 50), (50, 50, 100_000), (500, 500, 2000), (128, 128, 8192), (1024, 256, 1024), (1000, 4, 1000),
        (1000, 10, 1000), (1000, 17, 1000), (8, 1000, 1000), (1000, 1000, 16),
    ],
}  # fmt: skip
"""m, n, k."""
LAYOUTS = {"NN": ("m,k", "k,n", "ij,jk"), "NT": ("m,k", "n,k", "ij,kj"), "TN": ("k,m", "k,n", "ji,jk"),
           "TT": ("k,m", "n,k", "ji,kj")}  # fmt: skip
DTYPES: dict[str, Any] = {"f64": np.float64, "f32": np.float32}
CHAINS, STEPS = 12, 100_000
SECONDS = 0.003


class Peak:
    """Fused multiply-adds that wait for nothing, in operations per second."""

    def __init__(self, dtype: str) -> None:
        lanes = compiled.register_bytes() // BYTES[dtype]
        kind = f"<{lanes} x {REGISTER[dtype]}>"
        call = f"call {kind} @llvm.fma.v{lanes}{dtype}({kind} %factor, {kind} %factor, {kind}"
        chains = range(CHAINS)
        total = "%s0"
        sums = ["  %s0 = fadd " + f"{kind} %b0, %b1"]
        for c in chains[2:]:
            sums.append(f"  %s{c - 1} = fadd {kind} {total}, %b{c}")
            total = f"%s{c - 1}"
        lines = [
            f"declare {kind} @llvm.fma.v{lanes}{dtype}({kind}, {kind}, {kind})",
            f"define void @peak(ptr %place, i64 %steps) {{\nentry:\n  %factor = load {kind}, ptr %place, align 4",
            "  br label %loop\nloop:\n  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]",
            *(f"  %a{c} = phi {kind} [ zeroinitializer, %entry ], [ %b{c}, %loop ]" for c in chains),
            *(f"  %b{c} = {call} %a{c})" for c in chains),
            "  %i1 = add i64 %i, 1\n  %on = icmp slt i64 %i1, %steps\n  br i1 %on, label %loop, label %end\nend:",
            *sums, f"  store {kind} {total}, ptr %place, align 4\n  ret void\n}}\n",
        ]  # fmt: skip
        self.library = engine.compile_text("\n".join(lines), ["peak"], cache=False)
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.library.address("peak"))
        self.place = np.zeros(64)
        self.operations = 2 * CHAINS * STEPS * lanes

    def __call__(self) -> float:
        """Measure it, about half a millisecond: the first tenth of one is slower."""
        self.place[:] = 0
        start = time.perf_counter()
        self.call(self.place.ctypes.data, STEPS)
        return self.operations / (time.perf_counter() - start)


def rate(call: Callable[[], Any], operations: float) -> float:
    """Operations per second over some milliseconds."""
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        if (passed := time.perf_counter() - start) > SECONDS:
            return operations * count / passed


def case(layout: str, dtype: str, shape: tuple[int, int, int], threads: list[int], rounds: int) -> dict[str, float]:
    """Percent of the peak: ours for numbers of threads, and NumPy's."""
    m, n, k = shape
    left, right, spec = LAYOUTS[layout]
    text = (
        f"fn f(%A: {dtype}[{left}], %B: {dtype}[{right}]) {{\n"
        f'%0: {dtype}[m,n] = contract(%A, %B) {{spec = "{spec}->ik"}}\nreturn %0\n}}'
    )
    rng = np.random.default_rng(0)
    sizes = {"m": m, "n": n, "k": k}
    a, b = (rng.normal(size=[sizes[s] for s in form.split(",")]).astype(DTYPES[dtype]) for form in (left, right))
    x, y = (a.T if layout[0] == "T" else a), (b.T if layout[1] == "T" else b)
    out, theirs = np.empty((m, n), DTYPES[dtype]), np.empty((m, n), DTYPES[dtype])
    calls: dict[str, Callable[[], Any]] = {}
    for count in threads:
        kernel = codegen.compile(parse_function(text, OPSET), single=True, threads=count)
        kernel.compiled.settle()
        calls[f"{count}"] = lambda kernel=kernel: kernel(a, b, out=out)
    calls["numpy"] = lambda: np.matmul(x, y, out=theirs)
    operations = 2.0 * m * n * k
    for call in calls.values():
        call()
        call()
    tolerance = 1e-12 if dtype == "f64" else 1e-4
    assert np.abs(out - theirs).max() <= tolerance * np.sqrt(k) * 8, (layout, shape)
    peak = Peak(dtype)
    peak()
    figures: dict[str, list[float]] = {name: [] for name in (*calls, "peak")}
    for _ in range(rounds):
        for name, call in calls.items():
            before = peak()
            found = rate(call, operations)
            best = max(before, peak())
            figures[name].append(100 * found / best)
            figures["peak"].append(best / 1e9)
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", nargs="*", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--kind", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--size", nargs="*", type=int, help="square products of these sizes only")
    parser.add_argument("--dtype", choices=DTYPES, default="f64")
    parser.add_argument("--threads", nargs="*", type=int, default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shapes = [(n, n, n) for n in options.size or ()] or [s for kind in options.kind for s in SHAPES[kind]]
    threads = sorted({1, *options.threads})
    figures: dict[str, dict[str, float]] = {}
    print(f"{'m n k, percent of peak':28s}" + "".join(f"{f'{t} thread':>10s}" for t in threads) + "     NumPy  GFLOP/s")
    for layout in options.layout:
        for shape in shapes:
            label = " ".join([options.dtype, layout, *map(str, shape)])
            figures[label] = found = case(layout, options.dtype, shape, threads, options.rounds)
            columns = "".join(f"{found[str(t)]:10.1f}" for t in threads)
            print(f"{label:28s}{columns}{found['numpy']:10.1f}{found['peak']:9.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
