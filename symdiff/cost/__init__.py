"""What programs cost: exact counts as polynomials in their dimensions, predicted times, comparisons of programs."""

from symdiff.cost.compare import Comparison, compare_programs, points_of
from symdiff.cost.counts import Counts, count
from symdiff.cost.judge import Coloured
from symdiff.cost.machine import TYPICAL, Executed, Machine, Prediction, machine_from_json, predict
from symdiff.cost.poly import Poly
from symdiff.cost.timing import Timing, format_seconds

__all__ = [
    "TYPICAL", "Coloured", "Comparison", "Counts", "Executed", "Machine", "Poly", "Prediction", "Timing",
    "compare_programs", "count", "format_seconds", "machine_from_json", "points_of", "predict",
]  # fmt: skip
