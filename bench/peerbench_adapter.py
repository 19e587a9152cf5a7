"""symdiff on real derivative workloads, for a benchmark that compares systems.

The benchmark calls one method per workload with its inputs; a method returns (call, fetch): `call()` does one whole
evaluation, `fetch(result)` turns it into the tuple the benchmark checks. Every workload is written as a user would, in
NumPy notation over symbols, with no formula derived by hand. Where the peers' calls hold their arrays (batches of small
programs), so do ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from peerbench.core import System  # pyright: ignore[reportMissingImports]
from scipy.special import ndtr

import codegen  # noqa: F401 - loaded before the clock runs, as the peers' compilers are with their packages
import symdiff as sd

sys.path.insert(0, str(Path(__file__).parent))
from gmm import below_diagonal, build


def arrays(result: Any) -> tuple[Any, ...]:
    return tuple(np.asarray(v) for v in (result if isinstance(result, tuple) else (result,)))


def reprojection(camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Two weighted reprojection errors of a camera with radial distortion (Rodrigues rotation)."""
    r, centre, focal, u0, v0, k1, k2 = camera[0:3], camera[3:6], camera[6], camera[7], camera[8], camera[9], camera[10]
    theta = np.sqrt(r[0] ** 2 + r[1] ** 2 + r[2] ** 2)
    cos, sin = np.cos(theta), np.sin(theta)
    w = [r[i] / theta for i in range(3)]
    x = [point[i] - centre[i] for i in range(3)]
    cross = [w[1] * x[2] - w[2] * x[1], w[2] * x[0] - w[0] * x[2], w[0] * x[1] - w[1] * x[0]]
    along = (w[0] * x[0] + w[1] * x[1] + w[2] * x[2]) * (1 - cos)
    y = [x[i] * cos + cross[i] * sin + w[i] * along for i in range(3)]
    p, q = y[0] / y[2], y[1] / y[2]
    square = p * p + q * q
    radial = (1 + k1 * square + k2 * square * square) * focal
    return np.stack([weight * (p * radial + u0 - feature[0]), weight * (q * radial + v0 - feature[1])])


# Modified Denavit-Hartenberg parameters of a seven-joint arm: link length, offset, twist in quarter turns.
ARM = [
    (0.0, 0.333, 0), (0.0, 0.0, -1), (0.0, 0.316, 1), (0.0825, 0.0, 1), (-0.0825, 0.384, -1), (0.0, 0.0, 1),
    (0.088, 0.0, 1),
]  # fmt: skip


def pose(q: Any) -> Any:
    """The 3x4 pose of the arm's flange, row by row."""
    rotation: list[list[Any]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    position: list[Any] = [0, 0, 0]
    for i, (length, offset, quarter) in enumerate(ARM):
        c, s, ca, sa = np.cos(q[i]), np.sin(q[i]), 1 if quarter == 0 else 0, quarter
        step = [[c, -s, 0], [s * ca, c * ca, -sa], [s * sa, c * sa, ca]]
        shift = [length, -sa * offset, ca * offset]
        position = [position[r] + sum(rotation[r][k] * shift[k] for k in range(3)) for r in range(3)]
        rotation = [[sum(rotation[r][k] * step[k][j] for k in range(3)) for j in range(3)] for r in range(3)]
    return sd.array([e for r in range(3) for e in (*rotation[r], position[r])])


def lstm(main: Any, extra: Any, state: Any, sequence: Any, layers: int, width: int) -> Any:
    """Mean negative log likelihood of a sequence under stacked elementwise LSTM cells."""
    weights = main.reshape(layers, 2, 4, width)

    def step(carry: Any, given: Any) -> Any:
        h, c = carry
        x, target = given
        x = x * extra[0]
        hidden, cells = [], []
        for i in range(layers):
            w, bias = weights[i, 0], weights[i, 1]
            forget, ingate = sd.sigmoid(x * w[0] + bias[0]), sd.sigmoid(h[i] * w[1] + bias[1])
            outgate, change = sd.sigmoid(x * w[2] + bias[2]), np.tanh(h[i] * w[3] + bias[3])
            cells.append(c[i] * forget + ingate * change)
            hidden.append(outgate * np.tanh(cells[i]))
            x = hidden[i]
        y = x * extra[1] + extra[2]
        return (hidden, cells), np.sum(target * (y - np.log(np.sum(np.exp(y)) + 2)))

    start = [state[2 * i] for i in range(layers)], [state[2 * i + 1] for i in range(layers)]
    _, found = sd.scan(step, start, (sequence[:-1], sequence[1:]))
    return -np.sum(found) / (found.shape[0] * width)


class SymDiff(System):
    name = "symdiff"
    threads = (1, 2)

    def gmm_grad(self, w: Any, inp: Any, threads: int) -> Any:
        fn = build(threads)
        rows, cols = below_diagonal(inp["means"].shape[1])
        args = (inp["alphas"], inp["means"], inp["icf"], inp["x"], inp["gamma"], float(inp["m"]), rows, cols)
        return fn.bind(*args), arrays

    def ba_jac(self, w: Any, inp: Any, threads: int) -> Any:
        def blocks(cameras: Any, points: Any, weights: Any, observed: Any, features: Any) -> Any:
            def one(v: Any, feature: Any) -> Any:
                return reprojection(v[:11], v[11:14], v[14], feature)

            v = np.concatenate([cameras[observed[:, 0]], points[observed[:, 1]], weights[:, None]], axis=1)
            return sd.vmap(sd.jacfwd(one))(v, features)

        fn = sd.jit(blocks, threads=threads)
        return fn.bind(*[inp[k] for k in ("cams", "X", "w", "obs", "feats")]), arrays

    def lstm_grad(self, w: Any, inp: Any, threads: int) -> Any:
        layers, width = w.params["l"], inp["extra"].shape[1]
        main, extra = sd.symbol("main", (2 * layers, 4 * width)), sd.symbol("extra", (3, width))
        state, sequence = sd.symbol("state", (2 * layers, width)), sd.symbol("sequence", (sd.dim("n"), width))
        f = lstm(main, extra, state, sequence, layers, width)
        fn = sd.compile([f, *sd.gradient(f, [main, extra])], [main, extra, state, sequence], threads=threads)
        return fn.bind(*(inp[k] for k in ("main", "extra", "state", "seq"))), arrays

    def fk_jac(self, w: Any, inp: Any, threads: int) -> Any:
        fn = sd.jit(lambda q: (sd.vmap(pose)(q), sd.vmap(sd.jacfwd(pose))(q)), threads=threads)
        return fn.bind(inp["q"]), arrays

    def rosen_grad(self, w: Any, inp: Any, threads: int) -> Any:
        x = sd.symbol("x", (sd.dim("n"),))
        f = np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        fn = sd.compile([f, sd.gradient(f, x)], [x], threads=threads)
        return fn.bind(inp["x"]), arrays

    def rosen_hess(self, w: Any, inp: Any, threads: int) -> Any:
        x = sd.symbol("x", (sd.dim("n"),))
        f = np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        fn = sd.compile(sd.hessian(f, x, form="structured"), [x], threads=threads)
        return fn.bind(inp["x"]), lambda h: (h.bands[0], h.bands[-1])

    def bruss_jac(self, w: Any, inp: Any, threads: int) -> Any:
        n = sd.dim("n")
        y, rate = sd.symbol("y", (2, n)), sd.symbol("rate")
        u, v = y[0], y[1]
        left, right = np.concatenate([[1.0], u, [1.0]]), np.concatenate([[3.0], v, [3.0]])
        du = 1 + u * u * v - 4 * u + rate * (left[:-2] - 2 * u + left[2:])
        dv = 3 * u - u * u * v + rate * (right[:-2] - 2 * v + right[2:])
        jacobian = sd.sparse_jacobian(np.stack([du, dv]), y, inputs=[y, rate], threads=threads)
        state = inp["y"].reshape(2, -1)
        diffusion = (state.shape[1] + 1) ** 2 / 50
        return jacobian.bind(state, diffusion), arrays

    def _logistic(self) -> Any:
        n, d = sd.dims("n d")
        X, y, v, lam = sd.symbol("X", (n, d)), sd.symbol("y", (n,)), sd.symbol("w", (d,)), sd.symbol("lam")
        return X, y, v, lam, np.sum(np.log1p(np.exp(-y * (X @ v)))) + lam / 2 * (v @ v)

    def logreg_grad(self, w: Any, inp: Any, threads: int) -> Any:
        X, y, v, lam, f = self._logistic()
        fn = sd.compile([f, sd.gradient(f, v)], [X, y, v, lam], threads=threads)
        return fn.bind(inp["X"], inp["y"], inp["w"], inp["lam"]), arrays

    def logreg_hess(self, w: Any, inp: Any, threads: int) -> Any:
        X, y, v, lam, f = self._logistic()
        fn = sd.compile(sd.hessian(f, v), [X, y, v, lam], threads=threads)
        return fn.bind(inp["X"], inp["y"], inp["w"], inp["lam"]), arrays

    def mf_hess(self, w: Any, inp: Any, threads: int) -> Any:
        n, m, k = sd.dims("n m k")
        U, V, T, M = sd.symbol("U", (n, k)), sd.symbol("V", (m, k)), sd.symbol("T", (n, m)), sd.symbol("M", (n, m))
        f = np.sum((M * (T - U @ V.T)) ** 2)
        fn = sd.compile(sd.hessian(f, U).reshape(n * k, n * k), [U, V, T, M], threads=threads)
        return fn.bind(inp["U"], inp["V"], inp["T"], inp["M"]), arrays

    def mf_blocks(self, w: Any, inp: Any, threads: int) -> Any:
        n, m, k = sd.dims("n m k")
        U, V, T, M = sd.symbol("U", (n, k)), sd.symbol("V", (m, k)), sd.symbol("T", (n, m)), sd.symbol("M", (n, m))
        f = np.sum((M * (T - U @ V.T)) ** 2)
        fn = sd.compile(sd.hessian(f, U, form="structured"), [U, V, T, M], threads=threads)
        return fn.bind(inp["U"], inp["V"], inp["T"], inp["M"]), lambda h: (h.blocks,)

    def mlp_grad(self, w: Any, inp: Any, threads: int) -> Any:
        b, i, h, o = sd.dims("b i h o")
        x, y, W1, b1 = sd.symbol("x", (b, i)), sd.symbol("y", (b, o)), sd.symbol("W1", (i, h)), sd.symbol("b1", (h,))
        W2, b2 = sd.symbol("W2", (h, o)), sd.symbol("b2", (o,))
        out = np.tanh(x @ W1 + b1) @ W2 + b2
        f = -np.sum(y * (out - sd.logsumexp(out, axis=1, keepdims=True))) / b
        fn = sd.compile([f, *sd.gradient(f, [W1, b1, W2, b2])], [x, y, W1, b1, W2, b2], threads=threads)
        args = [inp[k] for k in ("x", "y", "W1", "b1", "W2", "b2")]
        return fn.bind(*args), arrays

    def elem_grad(self, w: Any, inp: Any, threads: int) -> Any:
        x, a = sd.symbol("x", (sd.dim("n"),)), sd.symbol("a")
        f = np.sum(np.tanh(a * x) * np.exp(-x * x) + np.log1p(x * x) + np.cos(a * x) / (1 + x * x))
        fn = sd.compile([f, *sd.gradient(f, [x, a])], [x, a], threads=threads)
        return fn.bind(inp["x"], inp["a"]), arrays

    def tiny_grad(self, w: Any, inp: Any, threads: int) -> Any:
        x, y, z = (sd.symbol(s) for s in "xyz")
        f = np.sin(x * y) * np.exp(z) + x * x * z / (1 + y * y)
        fn = sd.compile([f, *sd.gradient(f, [x, y, z])], [x, y, z], threads=threads)
        call = fn.bind(*(float(v) for v in inp["v"]))

        def fetch(_: Any) -> Any:
            value, *slopes = fn(*(float(v) for v in inp["v"]))
            return np.float64(value), np.array(slopes)

        return call, fetch

    def bs_hess(self, w: Any, inp: Any, threads: int) -> Any:
        n = sd.dim("n")
        S, K, r, sig, T = v = [sd.symbol(s, (n,)) for s in ("S", "K", "r", "sig", "T")]
        root = sig * np.sqrt(T)
        d1 = (np.log(S / K) + (r + sig * sig / 2) * T) / root
        price = S * ndtr(d1) - K * np.exp(-r * T) * ndtr(d1 - root)
        first = sd.gradient(np.sum(price), v)
        second = [sd.gradient(np.sum(first[i]), v[i:]) for i in range(5)]
        fn = sd.compile(np.stack([price, *first, *[h for row in second for h in row]]), v, threads=threads)
        return fn.bind(*(inp[k] for k in ("S", "K", "r", "sig", "T"))), arrays


