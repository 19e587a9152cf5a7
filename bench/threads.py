"""Two threads and more against one, on programs as people write them, beside what the machine itself gives.

    python bench/threads.py                        all programs, 1, 2, 4 and 8 threads
    python bench/threads.py cumsum attention -t 2  some of them
    python bench/threads.py --ceiling              besides, two processes with one thread each
    python bench/threads.py --json F               keep the figures

Every number of threads must give the same bits. Rounds take turns: the same program with each number of threads, best
of three calls; the figures are medians of milliseconds and of the ratios within a round, as clocks go up and down.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import symdiff as sd

_ROUND = 0.03
"""Seconds of one figure."""
_PAUSE = 0.08
"""Parts of a round for others: a process with real-time priority that never rests is put to rest."""
Case = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]
"""Outputs, inputs, and the arrays that these are."""


def embedding(rng: np.random.Generator) -> Case:
    """Gradient of a loss in the rows of a table, which are added up by number."""
    (v, d, m) = sd.dims("v d m")
    table, number, out = sd.symbol("E", (v, d)), sd.symbol("i", (m,), "i64"), sd.symbol("W", (d, d))
    f = np.sum(np.tanh(table[number] @ out))
    given = rng.normal(size=(2000, 64)), rng.integers(0, 2000, 20_000), rng.normal(size=(64, 64)) / 8
    return [f, sd.gradient(f, table)], [table, number, out], given


def scatter_rows(rng: np.random.Generator) -> Case:
    """Rows added into a table by number."""
    v, d, m = sd.dims("v d m")
    table, number, rows = sd.symbol("T", (v, d)), sd.symbol("i", (m,), "i64"), sd.symbol("R", (m, d))
    given = rng.normal(size=(500, 64)), rng.integers(0, 500, 60_000), rng.normal(size=(60_000, 64))
    return [sd.add_at(table, number, rows)], [table, number, rows], given


def graph(rng: np.random.Generator) -> Case:
    """Messages along the edges of a graph: gather, a layer, add up by target; gradient in the features."""
    v, d, e = sd.dims("v d e")
    h, source, target = sd.symbol("h", (v, d)), sd.symbol("s", (e,), "i64"), sd.symbol("t", (e,), "i64")
    heard = sd.add_at(sd.zeros((v, d)), target, np.tanh(h[source] - h[target]))
    f = np.sum(np.tanh(heard) ** 2)
    given = rng.normal(size=(2000, 32)), rng.integers(0, 2000, 20_000), rng.integers(0, 2000, 20_000)
    return [sd.gradient(f, h)], [h, source, target], given


def cumsum_first(rng: np.random.Generator) -> Case:
    """Sums along the first of two axes, of something to compute."""
    n, m = sd.dims("n m")
    x = sd.symbol("x", (n, m))
    return [np.cumsum(np.tanh(x), axis=0)], [x], [rng.normal(size=(1500, 1000))]


def cumsum_middle(rng: np.random.Generator) -> Case:
    """Sums along the middle axis, and their gradient."""
    a, b, c = sd.dims("a b c")
    x, t = sd.symbol("x", (a, b, c)), sd.symbol("t", (a, b, c))
    f = np.sum((np.cumsum(x, axis=1) - t) ** 2)
    return [sd.gradient(f, x)], [x, t], [rng.normal(size=(60, 200, 64)), rng.normal(size=(60, 200, 64))]


def cumsum_last(rng: np.random.Generator) -> Case:
    """Sums along the rows."""
    n, m = sd.dims("n m")
    x = sd.symbol("x", (n, m))
    return [np.exp(-np.cumsum(x * x, axis=1))], [x], [rng.normal(size=(1500, 1000))]


def convolution(rng: np.random.Generator) -> Case:
    """An image and nine shifted slices of it, several channels; gradient in the kernel and in the image."""
    h, w, c, o = sd.dims("h w c o")
    x, k = sd.symbol("x", (h, w, c)), sd.symbol("k", (3, 3, c, o))
    y = sum(
        np.einsum("hwc,co->hwo", x[i : h - 2 + i, j : w - 2 + j], k[i, j]) for i in range(3) for j in range(3)
    )
    f = np.sum(np.maximum(y, 0) ** 2)
    return [f, *sd.gradient(f, [x, k])], [x, k], [rng.normal(size=(96, 96, 16)), rng.normal(size=(3, 3, 16, 16))]


def filter_line(rng: np.random.Generator) -> Case:
    """A filter of five taps over many signals, by slices; gradient in signal and taps."""
    m, n = sd.dims("m n")
    x, taps = sd.symbol("x", (m, n)), sd.symbol("t", (5,))
    y = sum(taps[i] * x[:, i : n - 4 + i] for i in range(5))
    f = np.sum(np.tanh(y))
    return [f, *sd.gradient(f, [x, taps])], [x, taps], [rng.normal(size=(200, 3000)), rng.normal(size=5)]


def attention(rng: np.random.Generator) -> Case:
    """Self-attention with heads; gradient in the input and the weights."""
    n, d, h, k = sd.dims("n d h k")
    x, Q, K, V = sd.symbol("x", (n, d)), *(sd.symbol(name, (h, d, k)) for name in "QKV")
    q, s, v = (np.einsum("nd,hdk->hnk", x, w) for w in (Q, K, V))
    weights = sd.softmax(np.einsum("hik,hjk->hij", q, s) / np.sqrt(k), axis=-1)
    f = np.sum(np.einsum("hij,hjk->hik", weights, v) ** 2)
    given = [rng.normal(size=(256, 64)), *(rng.normal(size=(4, 64, 16)) / 8 for _ in range(3))]
    return [f, *sd.gradient(f, [x, Q, K, V])], [x, Q, K, V], given


def softmax(rng: np.random.Generator) -> Case:
    """Rows through a softmax, and the product with its Jacobian."""
    n, m = sd.dims("n m")
    x, c = sd.symbol("x", (n, m)), sd.symbol("c", (n, m))
    y = sd.softmax(x, axis=1)
    return [y, sd.vjp(y, x, c)], [x, c], [rng.normal(size=(2000, 500)), rng.normal(size=(2000, 500))]


def batch_norm(rng: np.random.Generator) -> Case:
    """Columns normalized over a batch; gradient in everything."""
    n, m = sd.dims("n m")
    x, g, b = sd.symbol("x", (n, m)), sd.symbol("g", (m,)), sd.symbol("b", (m,))
    y = (x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + 1e-5) * g + b
    f = np.sum(np.tanh(y))
    return [f, *sd.gradient(f, [x, g, b])], [x, g, b], [rng.normal(size=s) for s in ((4000, 200), (200,), (200,))]


def bodies(rng: np.random.Generator) -> Case:
    """Energy of many bodies, and forces."""
    x, m = sd.symbol("x", (sd.dim("n"), 3)), sd.symbol("m", (sd.dim("n"),))
    square = np.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=2)
    f = -np.sum(m[:, None] * m[None, :] / np.sqrt(square + 0.01)) / 2
    return [f, sd.gradient(f, x)], [x, m], [rng.normal(size=(1200, 3)), rng.random(1200)]


def gaussian_process(rng: np.random.Generator) -> Case:
    """Log-likelihood of a Gaussian process and its gradient: factors of a matrix, and its inverse."""
    n, k = sd.dims("n k")
    X, y, theta = sd.symbol("X", (n, k)), sd.symbol("y", (n,)), sd.symbol("theta", (3,))
    square = np.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=2)
    C = np.exp(theta[0]) * np.exp(-square * np.exp(theta[1])) + np.exp(theta[2]) * sd.eye(n)
    f = -(y @ np.linalg.solve(C, y)) / 2 - np.linalg.slogdet(C)[1] / 2
    return [f, sd.gradient(f, theta)], [X, y, theta], [rng.normal(size=(400, 3)), rng.normal(size=400), np.zeros(3)]


def kernel_matrix(rng: np.random.Generator) -> Case:
    """A kernel's sums, as in kernel regression; gradient in the points."""
    n, m, d = sd.dims("n m d")
    x, z, w = sd.symbol("x", (n, d)), sd.symbol("z", (m, d)), sd.symbol("w", (m,))
    f = np.sum((np.exp(-np.sum((x[:, None, :] - z[None, :, :]) ** 2, axis=2)) @ w) ** 2)
    given = rng.normal(size=(1000, 5)), rng.normal(size=(800, 5)), rng.normal(size=800)
    return [f, sd.gradient(f, x)], [x, z, w], given


def kalman(rng: np.random.Generator) -> Case:
    """Filters over a batch of series, two states each; gradient in the noise."""
    n, t = sd.dims("n t")
    y, q = sd.symbol("y", (t, n)), sd.symbol("q", (2,))

    def step(carry: Any, seen: Any) -> Any:
        x, v, a, b, c = carry
        x, a, b, c = x + v, a + 2 * b + c + q[0], b + c, c + q[1]
        s, r = a + 1.0, seen - x
        gain, other = a / s, b / s
        loss = np.log(s) + r * r / s
        return (x + gain * r, v + other * r, a - gain * a, b - gain * b, c - other * b), np.sum(loss)

    zero = sd.zeros((n,))
    f = np.sum(sd.scan(step, (zero, zero, zero + 1.0, zero, zero + 1.0), y)[1])
    return [f, sd.gradient(f, q)], [y, q], [rng.normal(size=(100, 4000)), np.array([0.1, 0.2])]


def recurrent(rng: np.random.Generator) -> Case:
    """A recurrent network over a batch; gradient in its weights."""
    t, b, d, h = sd.dims("t b d h")
    x, W, U = sd.symbol("x", (t, b, d)), sd.symbol("W", (d, h)), sd.symbol("U", (h, h))

    def step(s: Any, given: Any) -> Any:
        s = np.tanh(given @ W + s @ U)
        return s, np.sum(s * s)

    f = np.sum(sd.scan(step, sd.zeros((b, h)), x)[1])
    given = rng.normal(size=(50, 128, 32)), rng.normal(size=(32, 64)) / 8, rng.normal(size=(64, 64)) / 8
    return [f, *sd.gradient(f, [W, U])], [x, W, U], given


def layer(rng: np.random.Generator) -> Case:
    """A network of three layers; gradient in the weights."""
    n, a, b = sd.dims("n a b")
    x, W, V, U = sd.symbol("x", (n, a)), sd.symbol("W", (a, b)), sd.symbol("V", (b, b)), sd.symbol("U", (b, 1))
    f = np.mean(np.tanh(np.tanh(x @ W) @ V) @ U)
    given = [rng.normal(size=s) for s in ((2000, 50), (50, 128), (128, 128), (128, 1))]
    return [f, *sd.gradient(f, [W, V, U])], [x, W, V, U], given


def small_hessians(rng: np.random.Generator) -> Case:
    """Hessians of a small function at many points."""
    x = sd.symbol("x", (sd.dim("n"), 4))
    f = sd.vmap(sd.hessian(lambda v: np.exp(v[0] * v[1]) * np.sin(v[2]) + np.sqrt(1 + v[3] ** 2 + v[0] ** 2)))
    return [f(x)], [x], [rng.normal(size=(100_000, 4))]


def plate(rng: np.random.Generator) -> Case:
    """A nonlinear energy on a grid; value and gradient."""
    u = sd.symbol("u", (sd.dim("n"), sd.dim("m")))
    dx, dy = u[1:, :-1] - u[:-1, :-1], u[:-1, 1:] - u[:-1, :-1]
    f = np.sum(np.sqrt(1 + dx * dx + dy * dy))
    return [f, sd.gradient(f, u)], [u], [rng.normal(size=(1000, 1000))]


def mixture(rng: np.random.Generator) -> Case:
    """Points under a mixture of spheres; gradient in the centres."""
    n, k, d = sd.dims("n k d")
    x, mu = sd.symbol("x", (n, d)), sd.symbol("mu", (k, d))
    f = np.sum(sd.logsumexp(-np.sum((x[:, None, :] - mu[None]) ** 2, axis=2), axis=1))
    return [f, sd.gradient(f, mu)], [x, mu], [rng.normal(size=(20_000, 8)), rng.normal(size=(20, 8))]


def regression(rng: np.random.Generator) -> Case:
    """Hessian of a logistic regression: a symmetric product."""
    n, d = sd.dims("n d")
    X, w = sd.symbol("X", (n, d)), sd.symbol("w", (d,))
    return [sd.hessian(np.sum(np.log1p(np.exp(X @ w))), w)], [X, w], [rng.normal(size=s) for s in ((2000, 400), (400,))]


def pricing(rng: np.random.Generator) -> Case:
    """A chain of functions of each element; value and gradient."""
    x, a = sd.symbol("x", (sd.dim("n"),)), sd.symbol("a")
    f = np.sum(np.tanh(a * x) * np.exp(-x * x) + np.log1p(x * x) + np.cos(a * x) / (1 + x * x))
    return [f, *sd.gradient(f, [x, a])], [x, a], [rng.normal(size=400_000), 0.7]


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    f.__name__: f for f in (
        embedding, scatter_rows, graph, cumsum_first, cumsum_middle, cumsum_last, convolution, filter_line, attention,
        softmax, batch_norm, bodies, gaussian_process, kernel_matrix, kalman, recurrent, layer, small_hessians, plate,
        mixture, regression, pricing,
    )
}  # fmt: skip


def bound(name: str, threads: int) -> Callable[[], Any]:
    """The program, bound to its arrays."""
    outputs, inputs, given = CASES[name](np.random.default_rng(0))
    native = sd.compile(list(outputs), list(inputs), threads=threads)
    native.compiled.settle()
    return native.bind(*given)


def seconds(call: Callable[[], Any], count: int) -> float:
    """Seconds of a call, the best of three goes; the first call only warms up."""
    call()
    goes: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(count):
            call()
        goes.append((time.perf_counter() - start) / count)
    return min(goes)


def bits(result: Any) -> list[bytes]:
    """The bytes of all results."""
    return [np.asarray(r).tobytes() for r in (result if isinstance(result, tuple) else (result,))]


def measure(name: str, threads: Sequence[int], rounds: int) -> dict[str, Any]:
    """Milliseconds with one thread, and how many times faster others are."""
    calls = {count: bound(name, count) for count in (1, *threads)}
    answers = {count: bits(call()) for count, call in calls.items()}
    time.sleep(1.0)  # better code comes meanwhile
    for call in calls.values():
        call()
    same = all(answer == answers[1] == bits(calls[count]()) for count, answer in answers.items())
    count = max(1, int(_ROUND / 3 / seconds(calls[1], 1)))
    found: dict[int, list[float]] = {number: [] for number in calls}
    for _ in range(rounds):
        start = time.perf_counter()
        for number, call in calls.items():
            found[number].append(seconds(call, count))
        time.sleep(_PAUSE * (time.perf_counter() - start))
    faster = {t: statistics.median(a / b for a, b in zip(found[1], found[t], strict=True)) for t in threads}
    one = 1e3 * statistics.median(found[1])
    return {"one [ms]": round(one, 3), "same bits": same, **{f"{t} threads": round(r, 2) for t, r in faster.items()}}


def _serve(name: str, pipe: Connection) -> None:
    call = bound(name, 1)
    call()
    time.sleep(1.0)
    pipe.send(0.0)
    while count := pipe.recv():
        pipe.send(seconds(call, count))


def ceiling(name: str, rounds: int) -> float:
    """How many times as much two processes do at once as one does alone."""
    start = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    workers: list[Any] = []
    for _ in range(2):
        ours, theirs = start.Pipe()
        workers.append(start.Process(target=_serve, args=(name, theirs)))
        workers[-1].start()
        pipes.append(ours)

    def at_once(used: Sequence[Connection], count: int) -> list[float]:
        for pipe in used:
            pipe.send(count)
        return [pipe.recv() for pipe in used]

    for pipe in pipes:
        pipe.recv()
    count = max(1, int(_ROUND / 3 / at_once(pipes[:1], 1)[0]))
    found: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        alone = at_once(pipes[:1], count)[0]
        found.append(sum(alone / together for together in at_once(pipes, count)))
        time.sleep(_PAUSE * (time.perf_counter() - began))
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(0)
        worker.join()
    return round(statistics.median(found), 2)


def main() -> None:
    """Run the programs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="all when none is named")
    parser.add_argument("-t", "--threads", nargs="*", type=int, default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ceiling", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.json and options.json.exists():
        figures = json.loads(options.json.read_text())
    for name in options.cases or CASES:
        found = measure(name, options.threads, options.rounds)
        if options.ceiling:
            found["two processes"] = ceiling(name, options.rounds)
        figures[name] = found
        print(f"{name:18s}" + "  ".join(f"{key} {value}" for key, value in found.items()), flush=True)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
