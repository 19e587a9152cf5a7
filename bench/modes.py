"""What the bill says against the clock: predicted and measured times of every mode, and what mode="auto" takes.

    python bench/modes.py                 some twenty workloads; seconds per program, the error of the prediction, the
                                          order of the modes, and how far the automatic choice is from the best
    python bench/modes.py --seconds 0.2   time spent on each workload
    python bench/modes.py --only tall     workloads whose name contains this
    python bench/modes.py --store         also write the figures to bench/results/modes.json
    python bench/modes.py --machine       the calibrated figures of this machine
"""

from __future__ import annotations

import argparse
import itertools
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
from symdiff.api.modes import cheapest_mode
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


def bottleneck() -> tuple[Any, Any, dict[str, Any]]:
    """R^n -> R^2 -> R^n with wide layers on both sides: elimination multiplies nothing wide."""
    A, B = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2))
    V, W, x = sd.symbol("V", (n, n)), sd.symbol("W", (n, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(B @ np.tanh(A @ np.tanh(W @ x)))), x, {"n": [30, 100, 300]}


def narrow() -> tuple[Any, Any, dict[str, Any]]:
    """R^n -> R^2 -> R^n, the two layers alone."""
    A, B, x = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2)), sd.symbol("x", (n,))
    return np.tanh(B @ np.tanh(A @ np.sin(x))), x, {"n": [50, 500]}


def attention() -> tuple[Any, Any, dict[str, Any]]:
    """One query against n keys, in the query."""
    K, V, q = sd.symbol("K", (n, k)), sd.symbol("V", (n, k)), sd.symbol("q", (k,))
    return sd.softmax(K @ q) @ V, q, {"n": [50, 500], "k": 16}


def linear_system() -> tuple[Any, Any, dict[str, Any]]:
    """The solution of a linear system whose matrix depends on a few parameters."""
    A, C, t, b = sd.symbol("A", (n, n)), sd.symbol("C", (n, k)), sd.symbol("t", (k,)), sd.symbol("b", (n,))
    d = np.exp(C @ t)
    return np.linalg.solve(A + np.diag(d), b), t, {"n": [20, 60], "k": 4}


def normalized() -> tuple[Any, Any, dict[str, Any]]:
    """A layer with normalization, in its input."""
    W, x = sd.symbol("W", (n, n)), sd.symbol("x", (n,))
    z = np.tanh(W @ x)
    c = z - np.mean(z)
    return c / np.sqrt(np.mean(c * c) + 1e-5), x, {"n": [20, 200]}


def stencil() -> tuple[Any, Any, dict[str, Any]]:
    """A nonlinear heat equation on a line: three bands."""
    x = sd.symbol("x", (n,))
    return x[1:-1] ** 3 + x[2:] - 2 * x[1:-1] + x[:-2], x, {"n": [50, 400]}


def factorization_hessian() -> tuple[Any, Any, dict[str, Any]]:
    """The gradient of |A - U V^T|^2 in U, whose Jacobian has an identity factor."""
    A, U, V = sd.symbol("A", (m, n)), sd.symbol("U", (m, k)), sd.symbol("V", (n, k))
    return sd.gradient(np.sum((A - U @ V.T) ** 2), U), U, {"m": 20, "n": 30, "k": 4}


WORKLOADS: tuple[Callable[[], tuple[Any, Any, dict[str, Any]]], ...] = (
    softmax_regression, tall, tall_layers, wide, wide_layers, elementwise, matrix_chain, vector_chain, mixture,
    logistic, least_squares, log_determinant, polynomial, bottleneck, narrow, attention, linear_system, normalized,
    stencil, factorization_hessian,
)  # fmt: skip
SWEPT = ("forward", "reverse", "elimination")
RESULTS = Path(__file__).resolve().parent / "results" / "modes.json"


def figures(seconds: float, only: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row per workload, point and program; and a row per workload and point for the automatic choice."""
    rows: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for workload in WORKLOADS:
        if only not in workload.__name__:
            continue
        y, x, sizes = workload()
        # The sweeps as they are, too: in the form that is compiled the modes are often one program.
        bills = [
            sd.compare(y, x, sizes, measure=True, seconds=seconds, progress=True, simplify=simplify, modes=SWEPT)
            for simplify in (True, False)
        ]
        for bill, number, at in [(b, i, p) for b in bills for i, p in enumerate(b.points)]:
            predicted = bill.predicted(at)
            for name, timing in bill.measured[number].items():
                if bill is bills[1] and bill.functions[name] in bills[0].functions.values():
                    continue
                rows.append({
                    "workload": workload.__name__, "simplify": bill is bills[0], "sizes": dict(at), "program": name,
                    "form": bill.forms[name], "operations": int(count_at(bill, name, at)),
                    "seconds": timing.seconds, "predicted": predicted[name].seconds,
                    "bound": predicted[name].bound, "agreement": bill.agreement(number),
                })  # fmt: skip
        choices += [_choice(workload.__name__, y, x, bills[0], number) for number in range(len(bills[0].points))]
    return rows, choices


def count_at(bill: Any, name: str, at: Any) -> Any:
    """Operations of a program at sizes."""
    counts = bill.primal if name == "primal" else bill.programs[name]
    return counts.operations.at(at)


def _choice(workload: str, y: Any, x: Any, bill: Any, number: int) -> dict[str, Any]:
    """The mode that auto takes with these sizes known, by its measured time against the best mode's."""
    at = bill.points[number]
    mode = cheapest_mode(y.value, [x.value], [at])
    times = {name: t.seconds for name, t in bill.measured[number].items() if name != "primal"}
    best = min(times, key=lambda name: times[name])
    return {"workload": workload, "sizes": dict(at), "auto": mode, "best": best, "ratio": times[mode] / times[best]}


def pairs(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """(right, all) of the pairs of modes at a point whose measured times differ by more than a fifth."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["program"] != "primal":
            groups.setdefault(str((row["workload"], row["sizes"], row["simplify"])), []).append(row)
    right = whole = 0
    for group in groups.values():
        for a, b in itertools.combinations(group, 2):
            if max(a["seconds"], b["seconds"]) > 1.2 * min(a["seconds"], b["seconds"]):
                whole += 1
                right += (a["predicted"] < b["predicted"]) == (a["seconds"] < b["seconds"])
    return right, whole


def summary(rows: list[dict[str, Any]], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that matter."""
    factors = sorted(max(r["predicted"] / r["seconds"], r["seconds"] / r["predicted"]) for r in rows)
    right, whole = pairs(rows)
    near = sum(c["ratio"] <= 1.1 for c in choices)
    return {
        "programs": len(rows), "median": statistics.median(factors), "p90": factors[int(0.9 * (len(factors) - 1))],
        "worst": factors[-1], "pairs": whole, "pairs_right": right, "choices": len(choices), "choices_within_10%": near,
        "choice_worst": max(c["ratio"] for c in choices),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--only", default="")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--machine", action="store_true")
    options = parser.parse_args()
    if options.machine:
        print(this_machine().to_json())
        return 0
    rows, choices = figures(options.seconds, options.only)
    print(f"{'workload':22}{'sizes':24}{'program':12}{'form':9}{'measured':>10}{'predicted':>11}{'ratio':>7}  bound by")
    for row in rows:
        at = ", ".join(f"{name}={size}" for name, size in row["sizes"].items())
        ratio = row["predicted"] / row["seconds"]
        print(
            f"{row['workload']:22}{at:24}{row['program']:12}{row['form']:9}{format_seconds(row['seconds']):>10}"
            f"{format_seconds(row['predicted']):>11}{ratio:7.2f}  {row['bound']}"
        )
    print(f"\n{'workload':22}{'sizes':24}{'auto':12}{'best':12}{'times the best':>14}")
    for c in choices:
        at = ", ".join(f"{name}={size}" for name, size in c["sizes"].items())
        print(f"{c['workload']:22}{at:24}{c['auto']:12}{c['best']:12}{c['ratio']:14.2f}")
    told = summary(rows, choices)
    print(f"\nfactor between prediction and measurement: median {told['median']:.2f}, 90% within {told['p90']:.2f}, "
          f"worst {told['worst']:.2f}, {told['programs']} programs")  # fmt: skip
    print(f"order of the modes: {told['pairs_right']} of {told['pairs']} pairs right that differ by more than a fifth")
    print(f"auto: within 10% of the best mode at {told['choices_within_10%']} of {told['choices']} points, "
          f"worst {told['choice_worst']:.2f}")  # fmt: skip
    if options.store:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = {"machine": this_machine().name, **told, "rows": rows, "choices": choices}
        RESULTS.write_text(json.dumps(kept, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
