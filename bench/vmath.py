"""Speed and accuracy of the vector math functions: ns per element in cache, and the largest error found in ulp.

python bench/vmath.py [names] [--dtype f64] [--width 8] [--samples 2000] [--json file]
Time is the best of many passes over 8192 elements of the central interval; errors are against mpmath over the whole
domain (tests/vmath_reference.py says where the samples lie).
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

from vmath_reference import DOMAINS, Domain, samples, worst_error  # noqa: E402

from codegen import vmath  # noqa: E402
from codegen.vmath import trial  # noqa: E402

_ELEMENTS = 8192


def nanoseconds(name: str, loop: trial.Loop, passes: int = 40) -> float:
    """Best time per element over in-cache arrays of ordinary arguments."""
    rng = np.random.default_rng(0)
    domain = DOMAINS.get(name, Domain(0.1, 5.0))
    low, high = max(domain.low, domain.least, -20.0), min(domain.high, domain.most, 20.0)
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


def measured(name: str, loop: trial.Loop, count: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "ns": round(nanoseconds(name, loop), 3)}
    if name != "sincos":
        arguments = samples(name, trial.DTYPES[loop.dtype], np.random.default_rng(2), count)
        worst, place = worst_error(name, trial.DTYPES[loop.dtype], loop(*arguments), *arguments)
        row |= {"ulp": round(worst, 3), "at": place}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="functions (all by default)")
    parser.add_argument("--dtype", choices=sorted(trial.DTYPES), default="f64")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.names or list(vmath.FUNCTIONS)
    loops = trial.compiled(names, options.dtype, options.width)
    rows: list[dict[str, Any]] = []
    print(f"{'function':12} {'ns/element':>10} {'max ulp':>8}  at      ({options.dtype}, width {options.width})")
    for name in names:
        row = measured(name, loops[name], options.samples)
        rows.append(row)
        place = ", ".join(f"{v:.17g}" for v in row.get("at", ()))
        print(f"{name:12} {row['ns']:10.2f} {row.get('ulp', float('nan')):8.3f}  {place}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"dtype": options.dtype, "width": options.width, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
