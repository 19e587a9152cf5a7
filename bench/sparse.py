"""Sparse derivatives: which way `mode="auto"` takes, seconds for the pattern, the first call and later ones, memory.

    python bench/sparse.py                  # the table
    python bench/sparse.py --quick          # the smaller sizes only
    python bench/sparse.py --json           # the figures, for comparison with a stored run

Every case runs in a process of its own, so that its memory is its own: the peak of the process, what the first call
adds to it (pattern, plan, code), and what the result takes. Values are checked against central
differences along random directions. Colours are those of the compressed evaluation, which `auto` may not take; they
are left out where the entries are more than a million.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a plain checkout measures itself

import symdiff as sd  # noqa: E402
from symdiff.interp import bind_sizes  # noqa: E402
from symdiff.sparsity import pattern  # noqa: E402


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def brusselator(z: Any) -> Any:
    """1-D Brusselator by the method of lines, z = [u, v], as in Hairer and Wanner."""
    u, v = z[0], z[1]
    a = (u.shape[0] + 1) ** 2 / 50
    one = np.ones(1)
    left, right = np.concatenate([one, u, one]), np.concatenate([3 * one, v, 3 * one])
    du = 1 + u**2 * v - 4 * u + a * (left[:-2] - 2 * u + left[2:])
    dv = 3 * u - u**2 * v + a * (right[:-2] - 2 * v + right[2:])
    return np.stack([du, dv])


def projections(cameras: Any, points: Any, camera: Any, point: Any) -> Any:
    """Bundle adjustment: rotation vector, translation, focal length and two distortions per camera."""
    c, p = cameras[camera], points[point]
    r = c[:, :3]
    square = np.sum(r**2, axis=1)[:, None]
    angle = np.sqrt(square + 1e-12)
    sine, versine = np.sin(angle) / angle, (1 - np.cos(angle)) / square
    cross = r[:, [1, 2, 0]] * p[:, [2, 0, 1]] - r[:, [2, 0, 1]] * p[:, [1, 2, 0]]
    along = np.sum(r * p, axis=1)[:, None]
    q = p * np.cos(angle) + cross * sine + r * along * versine + c[:, 3:6]
    image = q[:, :2] / q[:, 2:]
    radius = np.sum(image**2, axis=1)[:, None]
    return c[:, 6:7] * (1 + c[:, 7:8] * radius + c[:, 8:9] * radius**2) * image


def rosenbrock_case(size: int) -> tuple[Any, list[Any], Any, int]:
    x = sd.symbol("x", (sd.dim("n"),))
    f = rosenbrock(x)
    slope = sd.compile(sd.gradient(f, x), [x])
    return sd.sparse_hessian(f, x), [np.linspace(-1, 2, size)], slope, 1


def brusselator_case(size: int) -> tuple[Any, list[Any], Any, int]:
    z = sd.symbol("z", (2, sd.dim("n")))
    y = brusselator(z)
    z0 = np.stack([1 + np.sin(np.linspace(0, 6, size)), np.full(size, 3.0)])
    return sd.sparse_jacobian(y, z), [z0], sd.compile(y, [z]), 1


def bundle_case(size: int) -> tuple[Any, list[Any], Any, int]:
    """`size` variables in all, four observations per point."""
    k, n, e = sd.dims("k n e")
    inputs = [sd.symbol("c", (k, 9)), sd.symbol("p", (n, 3)), sd.symbol("i", (e,), "i64"), sd.symbol("j", (e,), "i64")]
    y = projections(*inputs)
    rng = np.random.default_rng(1)
    cameras = max(1, size // 100)
    count = (size - 9 * cameras) // 3
    arrays = [
        rng.normal(scale=0.1, size=(cameras, 9)) + np.array([0, 0, 0, 0, 0, 5, 1, 0, 0]),
        rng.normal(size=(count, 3)), rng.integers(0, cameras, 4 * count), np.repeat(np.arange(count), 4),
    ]  # fmt: skip
    return sd.sparse_jacobian(y, inputs[:2], inputs), arrays, sd.compile(y, inputs), 2


CASES: dict[str, tuple[Callable[[int], tuple[Any, list[Any], Any, int]], list[int]]] = {
    "Rosenbrock Hessian": (rosenbrock_case, [1000, 100_000, 1_000_000]),
    "Brusselator Jacobian": (brusselator_case, [200, 2000, 50_000]),
    "bundle adjustment": (bundle_case, [1000, 100_000]),
}


COLOURED = 1_000_000
"""Entries up to which colours are counted."""


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak() -> float:
    """Most memory that was resident so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, size: int) -> dict[str, Any]:
    build, _ = CASES[name]
    derive, (derivative, arrays, function, variables) = seconds(lambda: build(size))
    params = derivative.function.params
    sizes = bind_sizes(params, [np.shape(a) for a in arrays])
    known = {p.name: a for p, a in zip(params, arrays, strict=True) if not p.type.floating}
    wrt = list(range(variables))
    small = sd.compile(np.sum(sd.symbol("w", (3,))), [sd.symbol("w", (3,))])
    small(np.ones(3))  # loading the code generator is no part of the first call
    before = peak()
    first, matrix = seconds(lambda: derivative(*arrays))
    second = peak()
    structure, _ = seconds(lambda: pattern(derivative.function, 0, wrt, sizes, known))
    mode = derivative.method(sizes, known)
    coloured, colouring = (0.0, None) if matrix.nnz > COLOURED else seconds(lambda: derivative.colours(sizes, known))
    later = statistics.median(seconds(lambda: derivative(*arrays))[0] for _ in range(20))
    values = statistics.median(seconds(lambda: derivative.values(*arrays))[0] for _ in range(20))
    once = statistics.median(seconds(lambda: function(*arrays))[0] for _ in range(20))
    result = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    return {
        "case": name, "size": size, "rows": matrix.shape[0], "columns": matrix.shape[1], "nnz": int(matrix.nnz),
        "mode": mode, "colours": colouring and colouring.count, "derive": derive, "pattern": structure,
        "colouring": max(0.0, coloured - structure), "first": first, "later": later, "values": values,
        "function": once, "memory": second - before, "peak": peak(), "result": result / 2**20,
        "error": error(matrix, arrays, function, variables),
    }  # fmt: skip


def error(matrix: Any, arrays: list[Any], function: Any, variables: int) -> float:
    """Against central differences along a random direction, relative to the largest entry of the product."""
    rng = np.random.default_rng(0)
    along = [rng.normal(size=a.shape) for a in arrays[:variables]]
    h = 1e-6

    def at(step: float) -> Any:
        moved = [a + step * d for a, d in zip(arrays, along, strict=False)]
        return np.ravel(function(*moved, *arrays[variables:]))

    want = (at(h) - at(-h)) / (2 * h)
    got = matrix @ np.concatenate([d.ravel() for d in along])
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case[0], int(options.case[1]))))
        return
    wanted = [(name, size) for name, (_, sizes) in CASES.items() for size in (sizes[:1] if options.quick else sizes)]
    rows: list[dict[str, Any]] = []
    if not options.json:
        print(f"{'':40}|{'':16}|{'seconds':>9}{'':18}|{'milliseconds':>14}{'':16}|{'MB':>8}{'':14}|")
        print(f"{'case':22}{'columns':>9}{'nnz':>9}|{'mode':>8}{'colours':>8}|{'derive':>9}{'pattern':>9}{'first':>9}"
              f"|{'later':>10}{'values':>10}{'function':>10}|{'peak':>8}{'added':>7}{'result':>7}|{'error':>8}",
              flush=True)  # fmt: skip
    for name, size in wanted:
        command = [sys.executable, __file__, "--case", name, str(size)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        if not options.json:
            print(f"{name:22}{row['columns']:9}{row['nnz']:9}|{row['mode']:>8}{row['colours'] or '':8}"
                  f"|{row['derive']:9.3f}{row['pattern']:9.3f}{row['first']:9.3f}|{row['later'] * 1e3:10.3f}"
                  f"{row['values'] * 1e3:10.3f}{row['function'] * 1e3:10.3f}|{row['peak']:8.0f}{row['memory']:7.0f}"
                  f"{row['result']:7.0f}|{row['error']:8.0e}", flush=True)  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
