"""The Gaussian mixture of ADBench: value and gradient from one compilation, beside NumPy and JAX.

    python bench/gmm.py FOLDER            the folder with the ADBench files gmm_d*_K*.txt
    python bench/gmm.py FOLDER --json F   keep the figures

The objective is the log-likelihood of a mixture of Gaussians with a Wishart prior; each inverse covariance is held as
Q Q^T with Q lower triangular, the logarithm of its diagonal first, then the part below the diagonal column by column
(Srajer, Kukelova, Fitzgibbon, "A benchmark of selected algorithmic differentiation tools", 2018).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.special import multigammaln

import symdiff as sd

try:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
except ImportError:  # the comparison is optional: JAX is no dependency
    jax = jnp = None


def read_instance(path: Path) -> dict[str, Any]:
    """One ADBench file: sizes, mixture parameters, points, the Wishart prior."""
    numbers = path.read_text().split()
    d, components, n = (int(t) for t in numbers[:3])
    values = np.array(numbers[3:], float)
    packed = d * (d + 1) // 2
    ends = np.cumsum([components, components * d, components * packed, n * d])
    alphas, means, factors, points, prior = np.split(values, ends)
    return {
        "alphas": alphas,
        "means": means.reshape(components, d),
        "factors": factors.reshape(components, packed),
        "points": points.reshape(n, d),
        "gamma": float(prior[0]),
        "m": float(prior[1]),
    }


def below_diagonal(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the strictly lower triangle, column by column."""
    columns, rows = np.triu_indices(d, 1)
    return rows.astype(np.int64), columns.astype(np.int64)


def objective(alphas, means, factors, points, gamma, m, rows, cols):  # type: ignore[no-untyped-def]
    """The log-posterior in NumPy notation over symbols of any size."""
    components, d = means.shape
    n = points.shape[0]
    logs, below = factors[:, :d], factors[:, d:]
    q = sd.add_at(sd.zeros((components, d, d)), (slice(None), rows, cols), below)
    q = q + np.einsum("ki,ij->kij", np.exp(logs), sd.eye(d))
    centred = points[None, :, :] - means[:, None, :]
    whitened = np.einsum("kij,knj->kni", q, centred)
    logdet = np.sum(logs, axis=1)
    inner = (alphas + logdet)[:, None] - np.sum(whitened**2, axis=2) / 2
    likelihood = np.sum(sd.logsumexp(inner, axis=0)) - n * sd.logsumexp(alphas)
    wishart = gamma**2 / 2 * (np.sum(np.exp(logs) ** 2) + np.sum(below**2)) - m * np.sum(logdet)
    freedom = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + np.sum(sd.lgamma((freedom - sd.arange(d)) / 2))
    scale = freedom * d * (np.log(gamma) - math.log(2) / 2) - log_gamma
    return likelihood + wishart - n * d / 2 * math.log(2 * math.pi) - components * scale


def build(threads: int = 1) -> Any:
    """Derive and compile once, for every size."""
    k, d, n = sd.dims("k d n")
    alphas, means = sd.symbol("alphas", (k,)), sd.symbol("means", (k, d))
    factors, points = sd.symbol("factors", (k, d + d * (d - 1) // 2)), sd.symbol("points", (n, d))
    gamma, m = sd.symbol("gamma", positive=True), sd.symbol("m", positive=True)
    rows, cols = (sd.symbol(s, (d * (d - 1) // 2,), dtype="i64") for s in ("rows", "cols"))
    f = objective(alphas, means, factors, points, gamma, m, rows, cols)
    gradient = sd.gradient(f, [alphas, means, factors])
    return sd.compile([f, *gradient], [alphas, means, factors, points, gamma, m, rows, cols], threads=threads)


# -------------------------------------------------------------------- references
def log_posterior(xp: ModuleType, alphas, means, factors, points, gamma, m):  # type: ignore[no-untyped-def]
    """The same function in concrete NumPy or JAX, for the value and for JAX's gradient."""
    components, d = means.shape
    n = points.shape[0]
    rows, cols = below_diagonal(d)
    logs, below = factors[:, :d], factors[:, d:]
    if xp is np:
        q = np.zeros((components, d, d))
        q[:, rows, cols] = below
        q[:, np.arange(d), np.arange(d)] = np.exp(logs)
    else:
        q = xp.zeros((components, d, d)).at[:, rows, cols].set(below)
        q = q.at[:, xp.arange(d), xp.arange(d)].set(xp.exp(logs))
    whitened = (points[None] - means[:, None]) @ xp.swapaxes(q, 1, 2)
    inner = (alphas + logs.sum(1))[:, None] - 0.5 * (whitened**2).sum(2)
    top, most = inner.max(0), alphas.max()
    likelihood = (top + xp.log(xp.exp(inner - top).sum(0))).sum() - n * (most + xp.log(xp.exp(alphas - most).sum()))
    wishart = 0.5 * gamma**2 * ((xp.exp(logs) ** 2).sum() + (below**2).sum()) - m * logs.sum()
    freedom = d + m + 1
    scale = freedom * d * (math.log(gamma) - 0.5 * math.log(2)) - float(multigammaln(0.5 * freedom, d))
    return likelihood + wishart - n * d / 2 * math.log(2 * math.pi) - components * scale


def gradient_by_hand(instance: dict[str, Any]) -> tuple[Any, ...]:
    """Value and gradient from formulas written by hand, in NumPy: the reference."""
    alphas, means, factors, points = (instance[s] for s in ("alphas", "means", "factors", "points"))
    gamma, m = instance["gamma"], instance["m"]
    components, d = means.shape
    rows, cols = below_diagonal(d)
    scale = np.exp(factors[:, :d])
    q = np.zeros((components, d, d))
    q[:, rows, cols] = factors[:, d:]
    q[:, np.arange(d), np.arange(d)] = scale
    centred = points[None] - means[:, None]
    whitened = centred @ np.swapaxes(q, 1, 2)
    inner = (alphas + factors[:, :d].sum(1))[:, None] - 0.5 * (whitened**2).sum(2)
    weights = np.exp(inner - inner.max(0))
    weights /= weights.sum(0)
    prior = np.exp(alphas - alphas.max())
    weighted = weights[:, :, None] * whitened
    d_q = -np.swapaxes(weighted, 1, 2) @ centred
    d_factors = np.empty_like(factors)
    diagonal = np.diagonal(d_q, axis1=1, axis2=2)
    d_factors[:, :d] = weights.sum(1)[:, None] + diagonal * scale + gamma**2 * scale**2 - m
    d_factors[:, d:] = d_q[:, rows, cols] + gamma**2 * factors[:, d:]
    d_means = np.einsum("kni,kij->kj", weighted, q)
    d_alphas = weights.sum(1) - len(points) * prior / prior.sum()
    value = log_posterior(np, alphas, means, factors, points, gamma, m)
    return value, d_alphas, d_means, d_factors


def relative_error(got: tuple[Any, ...], want: tuple[Any, ...]) -> float:
    """The largest error of any block, relative to the largest entry of that block."""
    return max(float(np.max(np.abs(np.asarray(g) - w)) / np.max(np.abs(w))) for g, w in zip(got, want, strict=True))


def median_seconds(calls: dict[str, Any], budget: float = 1.5) -> dict[str, float]:
    """Medians of interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + budget * len(calls)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--largest", type=int, default=10_000, help="leave out files with more points")
    options = parser.parse_args()
    start = time.perf_counter()
    fn = build()
    print(f"derive and compile once: {time.perf_counter() - start:.2f} s")
    with_jax = None
    if jax is not None:
        with_jax = jax.jit(
            jax.value_and_grad(lambda *a: log_posterior(jnp, *a), argnums=(0, 1, 2)), static_argnums=(4, 5)
        )
    table = []
    for path in sorted(options.folder.rglob("gmm_d*_K*.txt")):
        data = read_instance(path)
        if len(data["points"]) > options.largest:
            continue
        rows, cols = below_diagonal(data["means"].shape[1])
        args = (*data.values(), rows, cols)
        reference = gradient_by_hand(data)
        calls = {"symdiff": lambda a=args: fn(*a), "NumPy by hand": lambda d=data: gradient_by_hand(d)}
        if with_jax is not None:
            calls["JAX"] = lambda d=data: jax.block_until_ready(with_jax(*d.values()))
        row = {"file": f"{path.parent.name}/{path.stem}", "error": relative_error(fn(*args), reference)}
        row |= median_seconds(calls)
        table.append(row)
        shown = "  ".join(f"{k} {v * 1e3:9.3f} ms" for k, v in row.items() if k not in ("file", "error"))
        print(f"{row['file']:20} error {row['error']:.1e}  {shown}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
