"""The arguments of one kernel call in C form: sizes, addresses, strides, and a cell for each number.

Takes a `Signature`; gives `Frame`s: blocks of words that the portable path fills for a call and uses again for others.
"""

import ctypes
import sys
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codegen.entry.signature import Signature

Array: TypeAlias = npt.NDArray[Any]

_WORD = 8
_CELLS: dict[str, type[Any]] = {
    "f64": ctypes.c_double, "f32": ctypes.c_float, "i64": ctypes.c_int64, "bool": ctypes.c_bool
}  # fmt: skip


class Frame:
    """Room for the arguments of one call. `dims`, `data`, `strides` and `shapes` are addresses of its parts.

    Every number has a cell, whose address stands among the data from the beginning.
    """

    __slots__ = ("cells", "data", "dims", "held", "shapes", "strides", "words")

    def __init__(self, signature: Signature) -> None:
        arrays = (*signature.params, *signature.results)
        axes = sum(len(spec.axes) for spec in arrays)
        first = data_word(signature)
        strides = first + max(1, len(arrays))
        cells = strides + 2 * axes
        self.words = (ctypes.c_int64 * (cells + len(arrays)))()
        start = ctypes.addressof(self.words)
        self.dims, self.data, self.strides = start, start + _WORD * first, start + _WORD * strides
        self.shapes = self.strides + _WORD * axes
        self.cells: list[Any] = []
        for number, spec in enumerate(arrays):
            self.cells.append(_CELLS[spec.dtype].from_buffer(self.words, _WORD * (cells + number)))
            self.words[first + number] = start + _WORD * (cells + number)
        self.held: tuple[Array, ...] = ()
        """Arrays that the addresses point into, where they have to live as long as the frame."""

    def sizes(self, signature: Signature) -> dict[str, int]:
        """The sizes that were set."""
        return dict(zip(signature.dims, self.words, strict=False))

    def result_sizes(self, count: int) -> list[int]:
        """What the kernel's shapes function wrote."""
        first = (self.shapes - self.dims) // _WORD
        return self.words[first : first + count]


def data_word(signature: Signature) -> int:
    """The place among a frame's words of the first array's address; the sizes stand in front."""
    return max(1, len(signature.dims))


def stride_words(signature: Signature) -> list[int]:
    """The places of the strides of every array."""
    arrays = (*signature.params, *signature.results)
    first = data_word(signature) + max(1, len(arrays))
    return [first + before for before in accumulate((len(spec.axes) for spec in arrays), initial=0)][:-1]


def _slowly(array: Array) -> int:
    return array.__array_interface__["data"][0]


def _reader() -> Callable[[Array], int]:
    """How to find where an array's elements begin.

    NumPy's own ways take microseconds. Its ABI puts the address behind the object's header; that is confirmed here on
    arrays of several kinds, and where one of them looks different NumPy is asked each time.
    """
    if sys.implementation.name != "cpython":
        return _slowly
    offset = object.__basicsize__
    word = ctypes.c_size_t.from_address

    def quickly(array: Array) -> int:
        return word(id(array) + offset).value

    base = np.zeros((5, 7))
    samples = [base, base[3:, ::-2], base.T[1:], np.zeros(3, np.bool_)[1:], np.array(1.5), np.zeros((0, 4), np.float32)]
    return quickly if all(quickly(array) == _slowly(array) for array in samples) else _slowly


address_of = _reader()
"""The address of an array's first element."""
