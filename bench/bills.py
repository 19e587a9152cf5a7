"""The bills of six derivatives that ask for different modes, measured on this machine.

    python bench/bills.py FOLDER              all six; reports as FOLDER/*.txt, a crossover plot as FOLDER/crossover.png
    python bench/bills.py FOLDER --only wide  those whose name contains this
    python bench/bills.py FOLDER --seconds 1  time spent on each
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symdiff as sd
from bench.sparse import brusselator as reaction

m, n, k = sd.dims("m n k")


def softmax_regression() -> Any:
    """The gradient of multinomial logistic regression: reverse, within the cheap-gradient bound."""
    X, W, Y = sd.symbol("X", (m, n)), sd.symbol("W", (n, k)), sd.symbol("Y", (m, k))
    Z = X @ W
    loss = np.sum(sd.logsumexp(Z, axis=1)) - np.sum(Y * Z)
    return loss, W, {"m": [100, 1000], "n": 60, "k": 10}


def tall_jacobian() -> Any:
    """R^3 -> R^1000 through a hidden layer: forward."""
    V, W, x = sd.symbol("V", (m, k)), sd.symbol("W", (k, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(W @ x)), x, {"m": 1000, "k": 50, "n": [3, 30, 300]}


def wide_jacobian() -> Any:
    """R^1000 -> R^3 through a hidden layer: reverse."""
    y, x, _ = tall_jacobian()
    return y, x, {"m": [3, 30, 300], "k": 50, "n": 1000}


def bottleneck() -> Any:
    """R^n -> R^2 -> R^n with a wide layer on either side: elimination beats both sweeps."""
    A, B = sd.symbol("A", (2, n)), sd.symbol("B", (n, 2))
    V, W, x = sd.symbol("V", (n, n)), sd.symbol("W", (n, n)), sd.symbol("x", (n,))
    return np.tanh(V @ np.tanh(B @ np.tanh(A @ np.tanh(W @ x)))), x, {"n": [30, 100, 300]}


def brusselator() -> Any:
    """The Brusselator on a line of 50,000 cells, 100,000 variables: only the compressed evaluation fits."""
    z = sd.symbol("z", (2, n))
    return reaction(z), z, {"n": [500, 50_000]}


def factorization_hessian() -> Any:
    """The Hessian of |A - U V^T|^2 in U: an identity times V^T V."""
    A, U, V = sd.symbol("A", (m, n)), sd.symbol("U", (m, k)), sd.symbol("V", (n, k))
    return sd.gradient(np.sum((A - U @ V.T) ** 2), U), U, {"m": [20, 60], "n": 100, "k": 5}


# The sweeps as derived where the closed form would hide that the modes differ.
BILLS: tuple[tuple[Callable[[], Any], bool], ...] = (
    (softmax_regression, True), (tall_jacobian, False), (wide_jacobian, False), (bottleneck, False),
    (brusselator, True), (factorization_hessian, True),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for make, simplify in BILLS:
        if options.only not in make.__name__:
            continue
        y, x, sizes = make()
        bill = sd.compare(y, x, sizes, measure=True, progress=True, seconds=options.seconds, simplify=simplify)
        text = f"{make.__name__}: {make.__doc__}\n\n{bill}\n"
        print(text)
        (options.folder / f"{make.__name__}.txt").write_text(text)
        if make is tall_jacobian:
            bill.plot(str(options.folder / "crossover.png"), over="n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
