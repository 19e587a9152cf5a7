"""What the calling side knows of a compiled kernel: its arrays, the sizes that tie them, its error messages.

Takes descriptions from whoever emitted the kernel; gives a checked `Signature`. Promise: a signature that exists is
consistent (every named dimension can be found from the arguments or is listed in `given`), so no call can meet a size
that nothing defines.

A compiled kernel is two C functions (three with polynomial axes), and one more where little data may mean much work:

    i32 name(ptr dims, ptr data, ptr strides)   the work; 0 or a status
    i32 name.shapes(ptr dims, ptr out)          result sizes, all axes of all results; 0 or a status
    i32 name.check(ptr dims, ptr shapes)        parameter axes against polynomials; 0 or a status
    i64 name.amount(ptr dims)                   how much work there is, in units of about a twentieth of a nanosecond

`dims` are the i64 values of the named dimensions in the order of `Signature.dims`; `data` points to the arrays,
parameters first, then results; `strides` are in bytes, all axes of all arrays in the same order. A scalar is passed by
pointer. Arrays are aligned to their element and no more. Results are not initialized: the kernel writes every element.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from codegen.errors import SignatureError

DTYPES: dict[str, np.dtype[Any]] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
"""The dtypes of the ABI, in the order in which the entry numbers them."""


class AxisPoly(Protocol):
    """A size computed from named dimensions, such as ``n - 1``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions the polynomial reads."""
        ...

    def __call__(self, sizes: Mapping[str, int]) -> int:
        """The size, given the dimensions."""
        ...


AxisSpec: TypeAlias = int | str | AxisPoly
"""A constant; a named dimension, bound at its first occurrence and compared afterwards; a polynomial, compared."""

Status: TypeAlias = str | Callable[[Mapping[str, int]], "str | Exception"]
"""What a status code means: a message, or a function from the sizes to a message or to the exception to raise."""


@dataclass(frozen=True)
class ArraySpec:
    """One parameter or result. No axes: a scalar."""

    name: str
    dtype: str
    axes: tuple[AxisSpec, ...] = ()

    @property
    def shape_text(self) -> str:
        """The shape as a user writes it: ``(m, n)``."""
        return shape_text(str(axis) for axis in self.axes)


@dataclass(frozen=True)
class Signature:
    """A kernel as its caller sees it. `single`: one result comes back bare, otherwise results are a tuple."""

    name: str
    dims: tuple[str, ...]
    params: tuple[ArraySpec, ...]
    results: tuple[ArraySpec, ...]
    single: bool = False
    statuses: Mapping[int, Status] = field(default_factory=dict[int, Status])
    given: tuple[str, ...] = ()
    """Dimensions that no argument shows; every call has to name them, as ``sizes={"n": 5}``."""

    def __post_init__(self) -> None:
        for what, names in (("dimension", self.dims), ("parameter", [p.name for p in self.params])):
            if len(set(names)) != len(names):
                raise SignatureError(f"{self.name}: a {what} is named twice in {', '.join(names)}")
        if self.single and len(self.results) != 1:
            raise SignatureError(f"{self.name}: single means one result, given {len(self.results)}")
        for spec in (*self.params, *self.results):
            if spec.dtype not in DTYPES:
                known = ", ".join(DTYPES)
                raise SignatureError(f"{self.name}: {spec.name} has dtype {spec.dtype!r}, not one of {known}")
            for axis in spec.axes:
                self._check_axis(spec, axis)
        unknown = [name for name in self.dims if name not in self.bound and name not in self.given]
        if unknown:
            raise SignatureError(
                f"{self.name}: no parameter shows the size of {', '.join(unknown)}; "
                "give a parameter such an axis, or list the dimension in `given`"
            )
        foreign = [name for name in self.given if name not in self.dims]
        if foreign:
            raise SignatureError(f"{self.name}: given dimensions {', '.join(foreign)} are not among its dimensions")

    def _check_axis(self, spec: ArraySpec, axis: AxisSpec) -> None:
        if isinstance(axis, int):
            if axis < 0:
                raise SignatureError(f"{self.name}: {spec.name} has an axis of size {axis}")
            return
        names = (axis,) if isinstance(axis, str) else axis.names
        for name in names:
            if name not in self.dims:
                raise SignatureError(f"{self.name}: {spec.name} uses dimension {name!r}, which is not declared")

    @property
    def bound(self) -> frozenset[str]:
        """The dimensions that some parameter shows as an axis of its own."""
        return frozenset(axis for p in self.params for axis in p.axes if isinstance(axis, str))

    @property
    def has_polynomials(self) -> bool:
        """Whether a parameter has an axis that must be compared with a polynomial."""
        return any(not isinstance(axis, (int, str)) for p in self.params for axis in p.axes)

    def __str__(self) -> str:
        def one(spec: ArraySpec) -> str:
            return f"{spec.name}: {spec.dtype}" + (f"[{', '.join(map(str, spec.axes))}]" if spec.axes else "")

        results = ", ".join(map(one, self.results))
        return f"{self.name}({', '.join(map(one, self.params))}) -> " + (results if self.single else f"({results})")


def shape_text(sizes: Any) -> str:
    """A shape in Python's notation, whatever its sizes are: ``(3,)``, ``(m, n)``."""
    words = [str(size) for size in sizes]
    return f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"
