"""The whole table of functions, complete once this module is imported.

`FUNCTIONS` maps names to functions of expressions: NumPy's with and without prefix (`np.linalg.inv`, `inv`), SciPy's
(`scipy.special.erf`), and those that NumPy has no name for (`sigmoid`, `softmax`, `logsumexp`, `triangular_solve`,
`zeros`, `eye` and `arange` of symbolic sizes). It is the allow-list of the text parser.
"""

from __future__ import annotations

from symdiff.frontend import (
    creation,
    elementwise,
    index_arrays,
    indexing,
    joining,
    linalg_functions,
    nan_functions,
    reductions,
    sampled,
    sequences,
    shape_functions,
    special,
)
from symdiff.frontend.registry import FUNCTIONS, NUMPY

MODULES = (
    creation, elementwise, index_arrays, indexing, joining, linalg_functions, nan_functions, reductions, sampled,
    sequences, shape_functions, special,
)  # fmt: skip

__all__ = ["FUNCTIONS", "MODULES", "NUMPY"]
