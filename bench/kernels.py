"""Compiled kernels beside NumPy: fused elementwise chains, products, regressions, mixtures, rows, small matrices.

    python bench/kernels.py               all cases
    python bench/kernels.py chain gemm    some of them
    python bench/kernels.py --json F      keep the figures

Times are of the thread's own clock, so that other work on the machine counts little; medians of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import codegen
from symdiff.ir.text import parse_function
from symdiff.ops import OPSET

ROUNDS = 7
SECONDS = 0.04


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of one call, the median of several rounds."""
    call()
    figures: list[float] = []
    for _ in range(ROUNDS):
        count, start = 0, time.thread_time()
        while time.thread_time() - start < SECONDS:
            for _ in range(1 + count // 8):
                call()
                count += 1
        figures.append((time.thread_time() - start) / count)
    return statistics.median(figures)


def native(params: str, body: str) -> Any:
    """Compile the instructions of one function, written in the IR's text form."""
    function = parse_function(f"fn f({params}) {{\n{body}\n}}", OPSET)
    return codegen.compile(function, single=len(function.results) == 1)


CHAIN = """
%0: f64[n] = sin(%x)
%1: f64[n] = cos(%x)
%2: f64[n] = exp(%x)
%3: f64[n] = mul(%x, %x)
%4: f64[n] = const() {dtype = "f64", shape = [n], value = 1}
%5: f64[n] = add(%3, %4)
%6: f64[n] = log(%5)
%7: f64[n] = tanh(%x)
%8: f64[n] = mul(%0, %1)
%9: f64[n] = mul(%6, %7)
%10: f64[n] = add(%8, %2)
%11: f64[n] = add(%10, %9)
%12: f64[] = contract(%11) {spec = "i->"}
return %12
"""

MIXTURE = """
%0: f64[n,k,d] = contract(%x) {sizes = [k], spec = "ij->ikj"}
%1: f64[n,k,d] = contract(%mu) {sizes = [n], spec = "ij->kij"}
%2: f64[n,k,d] = sub(%0, %1)
%3: f64[n,k,d] = mul(%2, %2)
%4: f64[n,k] = contract(%3) {spec = "ijk->ij"}
%5: f64[n,k] = neg(%4)
%6: f64[n] = logsumexp(%5) {axes = [-1]}
%7: f64[] = contract(%6) {spec = "i->"}
return %7
"""


def chain(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Sum of a chain with sin, cos, exp, log, tanh; nanoseconds for each element."""
    kernel = native("%x: f64[n]", CHAIN)
    for size in (100, 10_000, 1_000_000):
        x = rng.normal(size=size)

        def plain(x: Any = x) -> Any:
            return np.sum(np.sin(x) * np.cos(x) + np.exp(x) + np.log(x * x + 1) * np.tanh(x))

        assert abs(kernel(x) - plain()) < 1e-9 * size
        yield f"chain {size} [ns/element]", 1e9 * seconds(lambda x=x: kernel(x)) / size, 1e9 * seconds(plain) / size


def gemm(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Square matrix products; microseconds."""
    kernel = native("%A: f64[m,k], %B: f64[k,n]", '%0: f64[m,n] = contract(%A, %B) {spec = "ij,jk->ik"}\nreturn %0')
    for size in (16, 32, 64, 128, 256, 512):
        a, b, out = rng.normal(size=(size, size)), rng.normal(size=(size, size)), np.empty((size, size))
        ours = seconds(lambda a=a, b=b, out=out: kernel(a, b, out=out))
        yield f"gemm {size} [us]", 1e6 * ours, 1e6 * seconds(lambda a=a, b=b, out=out: np.matmul(a, b, out=out))


def gram(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """X^T diag(s) X; microseconds."""
    kernel = native("%X: f64[n,d], %s: f64[n]", '%0: f64[d,d] = contract(%X, %s, %X) {spec = "ij,i,ik->jk"}\nreturn %0')
    for n, d in ((2000, 50), (2000, 500), (100_000, 50)):
        x, s = rng.normal(size=(n, d)), rng.random(n)

        def plain(x: Any = x, s: Any = s) -> Any:
            return x.T @ (x * s[:, None])

        np.testing.assert_allclose(kernel(x, s), plain(), rtol=1e-9, atol=1e-9 * n)
        yield f"weighted gram {n} {d} [us]", 1e6 * seconds(lambda x=x, s=s: kernel(x, s)), 1e6 * seconds(plain)


LOGISTIC = """
%0: f64[n] = contract(%X, %w) {spec = "ij,j->i"}
%1: f64[n] = mul(%y, %0)
%2: f64[n] = neg(%1)
%3: f64[n] = softplus(%2)
%4: f64[] = contract(%3) {spec = "i->"}
%5: f64[n] = sigmoid(%2)
%6: f64[d] = contract(%X, %y, %5) {spec = "ij,i,i->j"}
return %4, %6
"""


def logistic(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Loss and slope of a logistic regression; microseconds."""
    kernel = native("%X: f64[n,d], %y: f64[n], %w: f64[d]", LOGISTIC)
    for n, d in ((2000, 50), (2000, 500), (100_000, 50)):
        x, y, w = rng.normal(size=(n, d)), np.sign(rng.normal(size=n)), rng.normal(size=d) / d

        def plain(x: Any = x, y: Any = y, w: Any = w) -> Any:
            z = y * (x @ w)
            return np.sum(np.log1p(np.exp(-z))), (y / (1 + np.exp(z))) @ x

        np.testing.assert_allclose(kernel(x, y, w)[1], plain()[1], rtol=1e-9, atol=1e-9 * n)
        ours = seconds(lambda x=x, y=y, w=w: kernel(x, y, w))
        yield f"logistic {n} {d} [us]", 1e6 * ours, 1e6 * seconds(plain)


WINDOWS = """
%0: f64[n-1] = slice(%x) {sizes = [n-1], starts = [0], steps = [1]}
%1: f64[n-1] = slice(%x) {sizes = [n-1], starts = [1], steps = [1]}
%2: f64[n-1] = mul(%0, %0)
%3: f64[n-1] = sub(%1, %2)
%4: f64[n-1] = mul(%0, %3)
%5: f64[n] = embed(%4) {sizes = [n], starts = [0], steps = [1]}
%6: f64[n] = embed(%3) {sizes = [n], starts = [1], steps = [1]}
%7: f64[n] = add(%5, %6)
return %7
"""


def windows(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """A sum of two shifted windows, as differences have in their gradients; microseconds."""
    kernel = native("%x: f64[n]", WINDOWS)
    for size in (1000, 100_000):
        x = rng.normal(size=size)

        def plain(x: Any = x) -> Any:
            step, out = x[1:] - x[:-1] ** 2, np.zeros_like(x)
            out[:-1] = x[:-1] * step
            out[1:] += step
            return out

        np.testing.assert_allclose(kernel(x), plain(), rtol=1e-12, atol=1e-12)
        yield f"windows {size} [us]", 1e6 * seconds(lambda x=x: kernel(x)), 1e6 * seconds(plain)


def mixture(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """sum_n logsumexp_k(-|x_n - mu_k|^2); microseconds."""
    kernel = native("%x: f64[n,d], %mu: f64[k,d]", MIXTURE)
    for n, k, d in ((100, 5, 2), (1000, 25, 10), (10_000, 50, 20)):
        x, mu = rng.normal(size=(n, d)), rng.normal(size=(k, d))

        def plain(x: Any = x, mu: Any = mu) -> Any:
            logs = -np.sum((x[:, None, :] - mu[None]) ** 2, axis=2)
            top = logs.max(axis=1)
            return np.sum(top + np.log(np.sum(np.exp(logs - top[:, None]), axis=1)))

        assert abs(kernel(x, mu) - plain()) < 1e-8 * n
        yield f"mixture {n} {k} {d} [us]", 1e6 * seconds(lambda x=x, mu=mu: kernel(x, mu)), 1e6 * seconds(plain)


def rows(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Kernels over rows and columns of a matrix; microseconds."""
    forms: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
        "row sums": ("m", 'contract(%A) {spec = "ij->i"}', lambda a: a.sum(1)),
        "column sums": ("n", 'contract(%A) {spec = "ij->j"}', lambda a: a.sum(0)),
        "row maxima": ("m", "reduce_max(%A) {axes = [-1]}", lambda a: a.max(1)),
        "transpose": ("n,m", 'contract(%A) {spec = "ij->ji"}', lambda a: np.ascontiguousarray(a.T)),
        "softmax": ("m,n", "softmax(%A) {axes = [-1]}", _softmax),
        "cumsum": ("m,n", "cumsum(%A) {axis = -1, reverse = False}", lambda a: np.cumsum(a, 1)),
    }
    for name, (shape, call, plain) in forms.items():
        kernel = native("%A: f64[m,n]", f"%0: f64[{shape}] = {call}\nreturn %0")
        for size in (100, 1000):
            a = rng.normal(size=(size, size))
            np.testing.assert_allclose(kernel(a), plain(a), rtol=1e-9, atol=1e-10)
            ours = seconds(lambda k=kernel, a=a: k(a))
            yield f"{name} {size} [us]", 1e6 * ours, 1e6 * seconds(lambda p=plain, a=a: p(a))


def _softmax(a: Any) -> Any:
    e = np.exp(a - a.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def matrices(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Stacks of small matrices; nanoseconds for each matrix."""
    for name, plain in (("inverse", np.linalg.inv), ("det", np.linalg.det), ("cholesky", np.linalg.cholesky)):
        shape = "b" if name == "det" else "b,n,n"
        kernel = native("%A: f64[b,n,n]", f"%0: f64[{shape}] = {name}(%A)\nreturn %0")
        for n in (3, 8, 32):
            x = rng.normal(size=(200, n, n))
            a = x @ np.swapaxes(x, 1, 2) + np.eye(n)
            ours = seconds(lambda k=kernel, a=a: k(a))
            yield f"{name} {n} [ns/matrix]", 1e9 * ours / 200, 1e9 * seconds(lambda p=plain, a=a: p(a)) / 200


CASES = {
    "chain": chain, "gemm": gemm, "gram": gram, "logistic": logistic, "windows": windows, "mixture": mixture,
    "rows": rows, "matrices": matrices,
}  # fmt: skip


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="all when none is named")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    print(f"{'':32s}{'native':>12s}{'NumPy':>12s}{'ratio':>8s}")
    for name in options.cases or CASES:
        for label, ours, theirs in CASES[name](np.random.default_rng(0)):
            figures[label] = {"native": ours, "numpy": theirs}
            print(f"{label:32s}{ours:12.3f}{theirs:12.3f}{theirs / ours:8.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
