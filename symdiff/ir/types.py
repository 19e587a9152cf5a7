"""Types of values: an element type, a shape of sizes, and the facts declared of a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from symdiff.errors import ArgumentError, DtypeError
from symdiff.ir.dims import Shape, Size, format_shape

# Every element type, and the NumPy scalar type it is in memory.
NUMPY_TYPES: Final[Mapping[str, type[np.generic[Any]]]] = MappingProxyType(
    {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_, "c128": np.complex128}
)
DTYPES: Final = tuple(NUMPY_TYPES)
FLOATING: Final = frozenset({"f64", "f32", "c128"})

# Facts a user may declare of a parameter; the simplifier and the native code read them, derivatives ignore them.
FACTS: Final = frozenset(
    {"symmetric", "positive_definite", "diagonal", "lower", "upper", "orthogonal", "positive", "nonnegative", "nonzero"}
)
_SQUARE_FACTS: Final = frozenset({"symmetric", "positive_definite", "diagonal", "lower", "upper", "orthogonal"})


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype, shape and facts. `str` gives the text form: `f64[m,n]`, `f64[n,n]{symmetric}`."""

    dtype: str
    shape: Shape
    facts: frozenset[str] = frozenset()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATING

    def __str__(self) -> str:
        facts = "{" + ",".join(sorted(self.facts)) + "}" if self.facts else ""
        return f"{self.dtype}[{','.join(str(s) for s in self.shape)}]{facts}"


def check_type(kind: TensorType, where: str) -> TensorType:
    """Return `kind` if it is well-formed, raise otherwise; `where` names what carries it."""
    if kind.dtype not in DTYPES:
        raise DtypeError(f"{where}: dtype {kind.dtype!r}, expected one of {', '.join(DTYPES)}")
    for size in kind.shape:
        if isinstance(size, int) and size < 0:
            raise ArgumentError(f"{where}: shape {format_shape(kind.shape)} has a negative size")
    unknown = kind.facts - FACTS
    if unknown:
        raise ArgumentError(f"{where}: unknown fact {sorted(unknown)[0]!r}, expected one of {', '.join(sorted(FACTS))}")
    if kind.facts & _SQUARE_FACTS and (kind.rank != 2 or kind.shape[0] != kind.shape[1]):
        fact = sorted(kind.facts & _SQUARE_FACTS)[0]
        raise ArgumentError(f"{where}: {fact} needs a square matrix, given shape {format_shape(kind.shape)}")
    return kind


def float64(*shape: Size) -> TensorType:
    return TensorType("f64", shape)
