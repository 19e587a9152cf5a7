"""Where the entries of sparse results stand: compressed rows or columns, or blocks, in scipy.sparse's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError
from symdiff.later import later

sparse = later("scipy.sparse")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the entries stand: compressed rows (of the transpose for "csc"), or blocks for "bsr".

    `keys` are row * columns + column of the structural non-zeros, rising; `slots` their places in the data, None when
    they are in order and fill it.
    """

    format: str
    indptr: Any
    indices: Any
    shape: tuple[int, int]
    length: int
    keys: Any
    slots: Any
    block: tuple[int, int] = (1, 1)


def placed(values: Any, order: Any, layout: Layout) -> Any:
    """Values of compressed rows where the layout has them."""
    placed = np.zeros(layout.length, values.dtype)
    placed[order] = values
    return placed


def shell_of(layout: Layout, dtype: Any) -> Any:
    """The scipy.sparse array of a layout, entries missing: it is checked once, every call copies the shell."""
    shape = layout.shape[::-1] if layout.format == "csc" else layout.shape
    kind = {"csr": sparse.csr_array, "csc": sparse.csc_array, "bsr": sparse.bsr_array}[layout.format]
    data = np.zeros(layout.length, dtype)
    data = data.reshape(-1, *layout.block) if layout.format == "bsr" else data
    matrix: Any = kind((data, layout.indices, layout.indptr), shape=shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    for array in (matrix.indices, matrix.indptr):
        array.setflags(write=False)
    return matrix


def in_blocks(matrix: Any, block: tuple[int, int]) -> Layout:
    """The blocks in which a pattern has entries, every block as a whole."""
    rows, columns = matrix.shape
    high, wide = block
    if high < 1 or wide < 1 or rows % high or columns % wide:
        raise ArgumentError(f"format 'bsr': blocks of {high} x {wide} do not divide a matrix of {rows} x {columns}")
    lines = np.repeat(np.arange(rows), np.diff(matrix.indptr))
    keys = lines * np.int64(columns) + matrix.indices
    across = columns // wide
    own, where = np.unique((lines // high) * np.int64(across) + matrix.indices // wide, return_inverse=True)
    slots = where * (high * wide) + (lines % high) * wide + matrix.indices % wide
    indptr = np.searchsorted(own // across, np.arange(rows // high + 1))
    length = len(own) * high * wide
    return Layout("bsr", indptr, own % across, (rows, columns), length, keys, slots, block)


def order_in(layout: Layout, matrix: Any) -> Any:
    """Where the entries of compressed rows stand in a layout; None when they are in its order."""
    if layout.format == "csr":
        return None
    if layout.format == "bsr":
        return layout.slots
    lines = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.searchsorted(layout.keys, matrix.indices * np.int64(matrix.shape[0]) + lines)
