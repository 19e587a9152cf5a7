"""A run of the peer benchmark as a small table: medians, first answers, ratios to the best automatic peer and to C.

    python bench/peers.py RUN.json ... > bench/results/NAME.json

Reads what the benchmark wrote; gives one entry a workload, seconds. Ratios above 1 are in symdiff's favour.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Written by hand or for calibration: targets, not peers.
BY_HAND = ("calib", "c-hand", "numpy-hand", "numba-hand", "jax-expert", "symdiff")


def entry(workload: str, systems: dict[str, Any]) -> dict[str, Any]:
    """One workload: seconds by system, fastest first, and the two ratios."""
    right = {name: run for name, run in systems.items() if name != "calib" and run.get("ok") and "median_s" in run}
    order = sorted(right, key=lambda name: right[name]["median_s"])
    found: dict[str, Any] = {"workload": workload, "median": {n: float(f"{right[n]['median_s']:.4g}") for n in order}}
    found["first"] = {n: round(right[n]["first_total_s"], 3) for n in order}
    own = right["symdiff"]["median_s"]
    peers = [n for n in order if n not in BY_HAND]
    if peers:
        found["best peer"], found["peer / symdiff"] = peers[0], round(right[peers[0]]["median_s"] / own, 2)
    if "c-hand" in right:
        found["c-hand / symdiff"] = round(right["c-hand"]["median_s"] / own, 2)
    return found


def main() -> None:
    rows: dict[str, Any] = {}
    for path in sys.argv[1:]:
        for name, systems in json.loads(Path(path).read_text(encoding="utf-8"))["runs"].items():
            if systems.get("symdiff", {}).get("ok"):
                rows[name] = entry(name, systems)
    print(json.dumps(list(rows.values()), indent=1))


if __name__ == "__main__":
    main()
