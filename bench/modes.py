"""What the bill says against the clock: counts, predicted and measured times of forward and reverse mode.

    python bench/modes.py                 a dozen workloads; seconds per program and the error of the prediction
    python bench/modes.py --seconds 0.2   time spent on each workload
    python bench/modes.py --json          the figures
    python bench/modes.py --machine       the calibrated figures of this machine
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symdiff as sd
from symdiff.api.measure import this_machine
from symdiff.cost import format_seconds

m, n, k = sd.dims("m n k")


def softmax_regression() -> tuple[Any, Any, dict[str, Any]]:
    """The cross-entropy of a linear classifier, in its weights."""
    X, W, Y = sd.symbol("X", (m, n)), sd.symbol("W", (n, k)), sd.symbol("Y", (m, k))
    Z = X @ W
    return np.sum(sd.logsumexp(Z, axis=1)) - np.sum(Y * Z), W, {"m": [50, 500], "n": 60, "k": 10}


def tall() -> tuple[Any, Any, dict[str, Any]]:
    """R^3 -> R^1000: one tangent per input."""
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    return np.tanh(W @ x), x, {"m": 1000, "n": 3}


def tall_layers() -> tuple[Any, Any, dict[str, Any]]:
    """R^3 -> R^1000 through a hidden layer: the modes multiply the layers in different orders."""
    V, W, x = sd.symbol("V", (m, k)), sd.symbol("W", (k, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(W @ x)), x, {"m": 1000, "k": 100, "n": 3}


def wide_layers() -> tuple[Any, Any, dict[str, Any]]:
    """R^1000 -> R^3 through a hidden layer."""
    y, x, _ = tall_layers()
    return y, x, {"m": 3, "k": 100, "n": 1000}


def wide() -> tuple[Any, Any, dict[str, Any]]:
    """R^1000 -> R^3."""
    W, x = sd.symbol("W", (m, n)), sd.symbol("x", (n,))
    return np.tanh(W @ x), x, {"m": 3, "n": 1000}


def elementwise() -> tuple[Any, Any, dict[str, Any]]:
    """A chain of functions of each entry, summed."""
    x = sd.symbol("x", (n,))
    return np.sum(np.exp(np.sin(x) * np.tanh(x)) * np.sqrt(1 + x * x)), x, {"n": [100, 2000]}


def matrix_chain() -> tuple[Any, Any, dict[str, Any]]:
    """The sum of entries of a product of three matrices."""
    A, B, C = sd.symbol("A", (m, n)), sd.symbol("B", (n, n)), sd.symbol("C", (n, m))
    return np.sum((A @ B @ C) ** 2), B, {"m": 40, "n": [40, 160]}


def vector_chain() -> tuple[Any, Any, dict[str, Any]]:
    """Three layers applied to a vector; the gradient in the first weights."""
    A, B, x = sd.symbol("A", (n, n)), sd.symbol("B", (n, n)), sd.symbol("x", (n,))
    return np.sum(np.tanh(B @ np.tanh(A @ x))), A, {"n": [30, 100]}


def mixture() -> tuple[Any, Any, dict[str, Any]]:
    """The log-likelihood of a mixture of spherical Gaussians, in the means."""
    X, mu, alpha = sd.symbol("X", (n, m)), sd.symbol("mu", (k, m)), sd.symbol("alpha", (k,))
    square = np.sum((X[:, None, :] - mu[None, :, :]) ** 2, axis=2)
    return np.sum(sd.logsumexp(alpha[None, :] - square / 2, axis=1)), mu, {"n": 300, "m": 4, "k": 5}


def logistic() -> tuple[Any, Any, dict[str, Any]]:
    """The gradient of logistic regression, whose Jacobian is the Hessian."""
    X, w, t = sd.symbol("X", (m, n)), sd.symbol("w", (n,)), sd.symbol("t", (m,))
    loss = np.sum(sd.softplus(X @ w)) - t @ (X @ w)
    return sd.gradient(loss, w), w, {"m": [100, 1000], "n": 20}


def least_squares() -> tuple[Any, Any, dict[str, Any]]:
    """The squared residual of a linear model."""
    A, x, b = sd.symbol("A", (m, n)), sd.symbol("x", (n,)), sd.symbol("b", (m,))
    return np.sum((A @ x - b) ** 2), x, {"m": [20, 500], "n": [20, 500]}


def log_determinant() -> tuple[Any, Any, dict[str, Any]]:
    """The log-determinant of a positive definite matrix."""
    A = sd.symbol("A", (n, n), positive_definite=True)
    return np.linalg.slogdet(A)[1], A, {"n": [10, 60]}


def polynomial() -> tuple[Any, Any, dict[str, Any]]:
    """A scalar function of a scalar: all overhead."""
    x = sd.symbol("x")
    return x**5 - 3 * x**3 + np.sin(x) * x, x, {}


WORKLOADS: tuple[Callable[[], tuple[Any, Any, dict[str, Any]]], ...] = (
    softmax_regression, tall, tall_layers, wide, wide_layers, elementwise, matrix_chain, vector_chain, mixture,
    logistic, least_squares, log_determinant, polynomial,
)  # fmt: skip


def figures(seconds: float) -> list[dict[str, Any]]:
    """A row per workload, point and program."""
    rows: list[dict[str, Any]] = []
    for workload in WORKLOADS:
        y, x, sizes = workload()
        # The sweeps as they are, too: in the form that is compiled the modes are often one program.
        bills = [
            sd.compare(y, x, sizes, measure=True, seconds=seconds, progress=True, simplify=simplify)
            for simplify in (True, False)
        ]
        for bill, number, at in [(b, i, p) for b in bills for i, p in enumerate(b.points)]:
            predicted = bill.predicted(at)
            for name, timing in bill.measured[number].items():
                if bill is bills[1] and bill.functions[name] in bills[0].functions.values():
                    continue
                rows.append({
                    "workload": workload.__name__, "simplify": bill is bills[0], "sizes": dict(at), "program": name,
                    "form": bill.forms[name],
                    "seconds": timing.seconds, "predicted": predicted[name].seconds,
                    "bound": predicted[name].bound, "agreement": bill.agreement(number),
                })  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--machine", action="store_true")
    options = parser.parse_args()
    if options.machine:
        print(this_machine().to_json())
        return 0
    rows = figures(options.seconds)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'workload':20}{'sizes':24}{'program':9}{'form':9}{'measured':>10}{'predicted':>11}{'ratio':>7}  bound by")
    for row in rows:
        at = ", ".join(f"{name}={size}" for name, size in row["sizes"].items())
        ratio = row["predicted"] / row["seconds"]
        print(
            f"{row['workload']:20}{at:24}{row['program']:9}{row['form']:9}{format_seconds(row['seconds']):>10}"
            f"{format_seconds(row['predicted']):>11}{ratio:7.2f}  {row['bound']}"
        )
    factors = sorted(max(r["predicted"] / r["seconds"], r["seconds"] / r["predicted"]) for r in rows)
    most = factors[int(0.9 * (len(factors) - 1))]
    print(f"\nfactor between prediction and measurement: median {statistics.median(factors):.2f}, "
          f"90% within {most:.2f}, worst {factors[-1]:.2f}, {len(factors)} programs")  # fmt: skip
    for simplify, title in ((True, "as compiled"), (False, "as derived")):
        verdicts = {(r["workload"], str(r["sizes"])): r["agreement"] for r in rows if r["simplify"] is simplify}
        told = {word: sum(v == word for v in verdicts.values()) for word in ("agree", "tie", "differ")}
        words = f"{told['agree']} agree, {told['tie']} level, {told['differ']} differ"
        print(f"order by count and by clock, {title}: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
