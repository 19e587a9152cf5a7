"""Speed and accuracy of the vector math functions: ns per element in cache, and the largest error found in ulp.

python bench/vmath.py [names] [--dtype f64] [--width 8] [--samples 2000] [--only ns|ulp] [--json file]
Time is the best of many passes over 8192 elements of the central interval; errors are against mpmath over the whole
domain and at hard spots (tests/vmath_reference.py says where the samples lie). In binary32 functions of one argument
are run over every 997th number there is as well, against the binary64 function. The file keeps what it knows already.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from vmath_reference import DOMAINS, Domain, samples, worst_error  # noqa: E402  # pyright: ignore[reportMissingImports]

from codegen import vmath  # noqa: E402
from codegen.vmath import trial  # noqa: E402

_ELEMENTS = 8192


def nanoseconds(name: str, loop: trial.Loop, passes: int = 40) -> float:
    """Best time per element over in-cache arrays of ordinary arguments."""
    rng = np.random.default_rng(0)
    domain = DOMAINS.get(name, Domain(0.1, 5.0))
    low, high = max(domain.low, domain.least, -20.0), min(domain.high, domain.most, 20.0)
    if name in ("lgamma", "digamma"):  # left of zero they are rare
        low = 0.1
    dtype = trial.DTYPES[loop.dtype]
    arrays = [rng.uniform(low, high, _ELEMENTS).astype(dtype) for _ in range(vmath.FUNCTIONS[name] + 2)]
    addresses = [a.ctypes.data for a in arrays]
    best = np.inf
    for _ in range(passes):
        start = time.perf_counter()
        for _ in range(10):
            loop.raw(*addresses, _ELEMENTS)
        best = min(best, (time.perf_counter() - start) / 10)
    return float(best / _ELEMENTS * 1e9)


def strided_error(name: str, loop: trial.Loop, exact: trial.Loop) -> tuple[float, float]:
    """The largest error in binary32 over every 997th number, in ulp, and where."""
    worst, place = 0.0, 0.0
    every = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    with np.errstate(all="ignore"):
        for bits in np.array_split(every, 16):
            x = bits.view(np.float32)
            got, wide = loop(x).astype(np.float64), exact(x.astype(np.float64))
            unit = np.ldexp(1.0, np.maximum(np.frexp(wide)[1] - 24, -149))
            limit = np.float64(np.finfo(np.float32).max)
            inside = np.isfinite(wide) & (np.abs(wide) <= limit)
            agree = inside | (got == wide) | (np.isnan(got) & np.isnan(wide)) | (np.isinf(got) & (np.abs(wide) > limit))
            error = np.where(inside, np.abs(got - wide) / unit, np.where(agree, 0.0, np.inf))
            at = int(np.argmax(error))
            if error[at] > worst:
                worst, place = float(error[at]), float(x[at])
    return worst, place


def measured(name: str, loop: trial.Loop, count: int) -> dict[str, Any]:
    """The largest error over samples and hard spots."""
    arguments = samples(name, trial.DTYPES[loop.dtype], np.random.default_rng(2), count)
    worst, place = worst_error(name, trial.DTYPES[loop.dtype], loop(*arguments), *arguments)
    return {"ulp": round(worst, 3), "at": place, "samples": int(arguments[0].size)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="functions (all by default)")
    parser.add_argument("--dtype", choices=sorted(trial.DTYPES), default="f64")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--only", choices=["ns", "ulp"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.names or list(vmath.FUNCTIONS)
    loops = trial.compiled(names, options.dtype, options.width)
    exact = trial.compiled(names, "f64", 4) if options.dtype == "f32" else {}
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    table: dict[str, dict[str, Any]] = known.setdefault(options.dtype, {})
    print(f"{'function':12} {'ns/element':>10} {'max ulp':>8}  at      ({options.dtype}, width {options.width})")
    for name in names:
        row = table.setdefault(name, {})
        if options.only != "ulp":
            row |= {"ns": round(nanoseconds(name, loops[name]), 3), "width": options.width}
        if options.only != "ns" and name not in vmath.PAIRS:
            row |= measured(name, loops[name], options.samples)
            if options.dtype == "f32" and vmath.FUNCTIONS[name] == 1:
                worst, place = strided_error(name, loops[name], exact[name])
                row |= {"strided ulp": round(worst, 4), "strided at": place}
        place = ", ".join(f"{v:.17g}" for v in row.get("at", ()))
        ulp = max(row.get("ulp", float("nan")), row.get("strided ulp", 0.0))
        print(f"{name:12} {row.get('ns', float('nan')):10.2f} {ulp:8.3f}  {place}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
