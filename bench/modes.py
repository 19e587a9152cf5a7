"""What the bill says against the clock: predicted and measured times of every mode, and what mode="auto" takes.

    python bench/modes.py                 some thirty workloads; seconds per program, the error of the prediction, the
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symdiff as sd
from bench.workloads import HELD_OUT, WORKLOADS
from symdiff.api.measure import this_machine
from symdiff.api.modes import cheapest_mode
from symdiff.cost import format_seconds

SWEPT = ("forward", "reverse", "elimination")
RESULTS = Path(__file__).resolve().parent / "results" / "modes.json"


def figures(
    seconds: float, only: str, workloads: Sequence[Any] = WORKLOADS
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row per workload, point and program; and a row per workload and point for the automatic choice."""
    rows: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for workload in workloads:
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


def report(word: str, told: dict[str, Any]) -> None:
    """The figures of some workloads, in three sentences."""
    print(f"\n{word}: factor between prediction and measurement: median {told['median']:.2f}, 90% within "
          f"{told['p90']:.2f}, worst {told['worst']:.2f}, {told['programs']} programs")  # fmt: skip
    print(f"order of the modes: {told['pairs_right']} of {told['pairs']} pairs right that differ by more than a fifth")
    print(f"auto: within 10% of the best mode at {told['choices_within_10%']} of {told['choices']} points, "
          f"worst {told['choice_worst']:.2f}")  # fmt: skip


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
    unseen = {workload.__name__ for workload in HELD_OUT}
    report("all", told)
    for word, held in (("looked at", False), ("held out", True)):
        own = [[e for e in entries if (e["workload"] in unseen) == held] for entries in (rows, choices)]
        if own[0]:
            report(word, summary(*own))
    if options.store:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = {"machine": this_machine().name, **told, "rows": rows, "choices": choices}
        RESULTS.write_text(json.dumps(kept, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
