"""What programs cost: exact counts as polynomials in their dimensions, and comparisons between programs."""

from symdiff.cost.compare import Comparison, compare_programs
from symdiff.cost.counts import Counts, count
from symdiff.cost.poly import Poly

__all__ = ["Comparison", "Counts", "Poly", "compare_programs", "count"]
