"""Bicolouring: rows and columns of a Jacobian in groups together, every entry read from one of them.

An entry (i, j) is read from the group of column j, a push, or from the group of row i, a pull. It stands there by
itself when no other column of the group has an entry in row i (no other row one in column j). With a dense row and a
dense column one direction needs a sweep for every column, both together need few: Hossain, Steihaug (1998), Coleman,
Verma (1998), Gebremedhin, Manne, Pothen (2005), section 6.

First the entries are shared out, then rows and columns are coloured apart. The sharing takes away rows and columns with
few entries left, as the minimum nonzero count ordering of Coleman and Verma does: what is left of a row goes to the
column groups, what is left of a column to the row groups. The most that one row and one column give away this way is a
lower bound of the colours, and grows only when nothing else can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symdiff.sparsity.colouring import Colouring, conflicts, fewest, transposed
from symdiff.sparsity.orderings import EFFORT, orders
from symdiff.sparsity.sets import Numbers


@dataclass(frozen=True, slots=True)
class Bicolouring:
    """columns, rows: their groups, -1 for none. by_column: for every entry, row by row, whether a column group has it.
    """

    columns: Colouring
    rows: Colouring
    by_column: Numbers

    @property
    def count(self) -> int:
        """Colours of columns and of rows: sweeps in both directions."""
        return self.columns.count + self.rows.count


def colour_both(indptr: Numbers, indices: Numbers, columns: int, stop_at: int) -> Bicolouring | None:
    """Groups of columns and of rows that show every entry of a matrix given by its rows; None without fewer than
    `stop_at`. Big patterns are looked at only where a quarter of that may do.
    """
    rows = len(indptr) - 1
    most = stop_at if len(indices) <= EFFORT else stop_at // 4
    # A column group shows at most one entry per row, a row group one per column.
    if len(indices) > (most - 1) * max(rows, columns):
        return None
    by_column = _shared(indptr, indices, columns, most)
    if by_column is None:
        return None
    lines = np.repeat(np.arange(rows), np.diff(indptr))
    order = np.argsort(indices, kind="stable")
    turned = np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=columns))])
    groups = _grouped(indptr, indices, columns, by_column)
    across = _grouped(turned, lines[order], rows, ~by_column[order])
    return Bicolouring(groups, across, by_column) if groups.count + across.count < stop_at else None


def _shared(indptr: Numbers, indices: Numbers, columns: int, stop_at: int) -> Numbers | None:
    """Whether each entry goes to the column groups; None when that leads to `stop_at` colours or more."""
    rows = len(indptr) - 1
    lines = np.repeat(np.arange(rows), np.diff(indptr))
    # Vertices are the rows and, behind them, the columns; an entry joins two, and their sum tells the other one.
    ends = np.concatenate([lines, indices + rows])
    entries = (np.argsort(ends, kind="stable") % max(len(indices), 1)).tolist()
    degrees = np.bincount(ends, minlength=rows + columns)
    starts = np.concatenate([[0], np.cumsum(degrees)]).tolist()
    sums, left = (lines + indices + rows).tolist(), degrees.tolist()
    gone = [False] * (rows + columns)
    by_column: list[bool | None] = [None] * len(indices)
    limit = [0, 0]  # entries with which a row, a column may go
    raised = False  # whose limit was raised last: those go first, or the others would take a few of their entries
    present = list(range(rows + columns))
    while present:
        going: tuple[list[int], list[int]] = ([], [])
        for v in present:
            if left[v] <= limit[v >= rows]:
                going[v >= rows].append(v)
        while going[0] or going[1]:
            v = (going[raised] or going[not raised]).pop()
            if gone[v]:
                continue
            gone[v] = True
            for e in entries[starts[v] : starts[v + 1]]:
                if by_column[e] is None:
                    by_column[e] = v < rows
                    w = sums[e] - v
                    left[w] -= 1
                    if left[w] <= limit[w >= rows]:
                        going[w >= rows].append(w)
        present = [v for v in present if not gone[v]]
        if present:  # then rows and columns are: each has entries left
            of_row = min(left[v] for v in present if v < rows)
            of_column = min(left[v] for v in present if v >= rows)
            raised = of_row - limit[0] > of_column - limit[1]
            limit[raised] = of_column if raised else of_row
            if sum(limit) >= stop_at:
                return None
    return np.array(by_column, np.bool_)


def _grouped(indptr: Numbers, indices: Numbers, columns: int, read: Numbers) -> Colouring:
    """Groups of the columns that have entries to `read`: two that meet in a row, one of them read there, differ."""
    by_column, starts = transposed(indptr, indices, columns)
    order = np.argsort(indices, kind="stable")
    owned = read[order].tolist()
    lines = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    fullest = int(np.bincount(lines[read], minlength=1).max())
    lengths = np.diff(indptr)
    weight = np.bincount(indices[read], np.repeat(lengths, lengths)[read], columns)
    tried = orders(weight, lambda: conflicts(indptr, indices, columns, read))
    return fewest(lambda order: _greedy(by_column, starts, owned, len(lengths), order), tried, fullest)


def _greedy(rows: list[int], starts: list[int], owned: list[bool], count: int, order: Sequence[int]) -> Colouring:
    present = [0] * count  # per row, the colours in it as bits
    shown = [0] * count  # those of them that are read in this row
    colours = [-1] * (len(starts) - 1)
    for j in order:
        own = range(starts[j], starts[j + 1])
        if not any(owned[starts[j] : starts[j + 1]]):
            continue
        used = 0
        for e in own:
            used |= (present if owned[e] else shown)[rows[e]]
        bit = ~used & (used + 1)  # the lowest colour that is free
        for e in own:
            present[rows[e]] |= bit
            if owned[e]:
                shown[rows[e]] |= bit
        colours[j] = bit.bit_length() - 1
    return Colouring(np.array(colours, np.int64), max(colours, default=-1) + 1)
