"""Run the source code of derivatives in every target that is installed, and compare with the interpreter.

    python bench/source_targets.py CASES.json [--targets numpy jax torch c sympy] [--case ID ...]

CASES is a list of objects with `id`, `vars` (name, shape, kind: general, symmetric, positive or spd), `f`, `wrt`,
`order` (gradient, jacobian or hessian) and `dims`. A target whose library or compiler is missing is left out. Printed
are, per target, how many agree, are refused (UnsupportedError) and are wrong, with the worst relative error.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symdiff as sd
from symdiff.ir.dims import evaluate

KINDS: Mapping[str, dict[str, bool]] = {
    "general": {}, "symmetric": {"symmetric": True}, "positive": {"positive": True}, "spd": {"positive_definite": True},
}  # fmt: skip
TOLERANCE = 1e-8
Runner = Callable[[Any, Mapping[str, Any], Mapping[str, int]], Any]


def derivative(case: Mapping[str, Any]) -> Any:
    dims = {d: sd.dim(d) for d in case["dims"]}
    symbols: dict[str, Any] = {
        v["name"]: sd.symbol(v["name"], tuple(dims[s] for s in v["shape"]), **dict[str, Any](KINDS[v["kind"]]))
        for v in case["vars"]
    }
    return getattr(sd, case["order"])(sd.parse(case["f"], symbols), symbols[case["wrt"]])


def draw(var: Mapping[str, Any], dims: Mapping[str, int], rng: np.random.Generator) -> Any:
    shape = tuple(dims[s] for s in var["shape"])
    x = rng.standard_normal(shape)
    if var["kind"] == "positive":
        return rng.uniform(0.5, 2.0, shape)
    if var["kind"] == "symmetric":
        return x + x.T
    return x @ x.T / shape[0] + np.eye(shape[0]) if var["kind"] == "spd" else x


def call(text: str, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    space: dict[str, Any] = {}
    exec(text, space)  # our own text
    return space["f"](*[values[w] if w in values else sizes[w] for w in inspect.signature(space["f"]).parameters])


def run_numpy(g: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    return call(g.code("numpy"), values, sizes)


def run_jax(g: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return call(g.source("jax"), {k: jax.numpy.asarray(v) for k, v in values.items()}, sizes)


def run_torch(g: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    torch = importlib.import_module("torch")
    return call(g.source("torch"), {k: torch.tensor(v) for k, v in values.items()}, sizes)


def run_sympy(g: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    sympy: Any = importlib.import_module("sympy")
    text = g.code("sympy")
    shape = [evaluate(s, sizes) for s in g.shape]
    numbers = {k: sympy.Matrix(v) if np.ndim(v) else sympy.Float(float(v)) for k, v in values.items()}
    try:
        return _numbers(sympy, call(text, numbers, sizes), {}).reshape(shape)
    except (AttributeError, TypeError):  # some matrix expressions of SymPy take symbols only
        symbols = {k: sympy.MatrixSymbol(k, *v.shape) if np.ndim(v) else v for k, v in numbers.items()}
        made = call(text, symbols, {k: sympy.Integer(v) for k, v in sizes.items()})
        entries = {symbols[k][i]: float(v[i]) for k, v in numbers.items() if np.ndim(v) for i in np.ndindex(v.shape)}
        return _numbers(sympy, made, entries).reshape(shape)


def _numbers(sympy: Any, made: Any, entries: Mapping[Any, float]) -> Any:
    made = sympy.sympify(made)
    made = sympy.Matrix(made.as_explicit()) if getattr(made, "shape", None) else made
    # doit leaves these alone where their argument is written with OneMatrix or Identity.
    made = made.replace(
        lambda e: isinstance(e, (sympy.Determinant, sympy.Trace)), lambda e: e.func(e.arg.as_explicit()).doit()
    )
    return np.array(made.doit().xreplace(entries).doit().evalf(), dtype=float)


def run_c(g: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    function = g.shown()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.c"
        path.write_text(g.source("c"), encoding="utf-8")
        library = path.with_suffix(".so")
        compiler = str(shutil.which("cc"))
        subprocess.run([compiler, "-std=c99", "-shared", "-fPIC", "-o", str(library), str(path), "-lm"], check=True)
        out = np.full([evaluate(s, sizes) for s in g.shape], np.nan)
        held = [np.array(values[p.name], float, order="C") for p in function.params]
        arguments: list[Any] = [ctypes.c_long(sizes[d]) for d in function.dims]
        arguments += [a.ctypes.data_as(ctypes.c_void_p) if a.ndim else ctypes.c_double(float(a)) for a in held]
        ctypes.CDLL(str(library)).f(*arguments, out.ctypes.data_as(ctypes.c_void_p))
    return out


RUNNERS: Mapping[str, tuple[Callable[[], bool], Runner]] = {
    "numpy": (lambda: True, run_numpy),
    "jax": (lambda: importlib.util.find_spec("jax") is not None, run_jax),
    "torch": (lambda: importlib.util.find_spec("torch") is not None, run_torch),
    "c": (lambda: shutil.which("cc") is not None, run_c),
    "sympy": (lambda: importlib.util.find_spec("sympy") is not None, run_sympy),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--targets", nargs="*", default=list(RUNNERS), choices=list(RUNNERS))
    parser.add_argument("--case", nargs="*", default=[])
    options = parser.parse_args()
    targets = [t for t in options.targets if RUNNERS[t][0]()]
    print("not installed:", ", ".join(t for t in options.targets if t not in targets) or "none")
    counts = {t: {"right": 0, "refused": 0, "wrong": 0} for t in targets}
    worst = dict.fromkeys(targets, 0.0)
    for case in json.loads(options.cases.read_text(encoding="utf-8")):
        if options.case and case["id"] not in options.case:
            continue
        g = derivative(case)
        rng = np.random.default_rng(5)
        values = {v["name"]: draw(v, case["dims"], rng) for v in case["vars"]}
        values = {p.name: values[p.name] for p in g.function().params}
        want = np.asarray(g.evaluate(values, sizes=case["dims"]))
        scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
        for target in targets:
            try:
                got = np.asarray(RUNNERS[target][1](g, values, case["dims"]))
            except (sd.UnsupportedError, sd.ArgumentError):  # no counterpart, or a name that means something there
                counts[target]["refused"] += 1
                continue
            except Exception as error:  # every failure is counted and shown
                counts[target]["wrong"] += 1
                print(f"{target} {case['id']}: {type(error).__name__}: {error}")
                continue
            gap = float(np.max(np.abs(got - want), initial=0.0)) / scale if got.shape == want.shape else np.inf
            worst[target] = max(worst[target], gap if np.isfinite(gap) else 0.0)
            good = gap <= TOLERANCE
            counts[target]["right" if good else "wrong"] += 1
            if not good:
                print(f"{target} {case['id']}: shape {got.shape} of {want.shape}, relative error {gap:.1e}")
    for target in targets:
        shown = ", ".join(f"{n} {what}" for what, n in counts[target].items())
        print(f"{target:6} {shown}; worst relative error {worst[target]:.1e}")
    return 1 if any(c["wrong"] for c in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
