"""Index sets, many at once: the rows of a pattern, shared by every value that has them.

A `Pool` holds sets of column numbers as the rows of one growing compressed-row structure; a row never changes once it
is there. Values of a program hold *numbers* of sets, one per element, so moving elements is moving numbers, and a
broadcast or a copy costs no set. Set 0 is the empty one, hence zeros that an op fills in are right as they are.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ArgumentError
from symdiff.later import later

sparse = later("scipy.sparse")

Numbers: TypeAlias = "np.ndarray[Any, Any]"

LIMIT = 500_000_000
"""Non-zeros beyond which a pattern is refused: compressed rows would take more memory than a dense answer is worth."""

_NARROW = 32
"""Columns of a union, counted with repetitions, up to which it is sorted rather than multiplied."""
_REMEMBERED = 4


class Pool:
    """Sets of columns 0 .. width - 1 by number. Methods take arrays of set numbers and return such arrays."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._starts: Numbers = np.zeros(1024, np.int64)
        self._lengths: Numbers = np.zeros(1024, np.int64)
        self._columns: Numbers = np.zeros(4096, np.int32 if width < 2**31 else np.int64)
        self._rows = 1
        self._filled = 0
        self._united: list[tuple[Numbers, Numbers, Numbers]] = []  # pairs and their unions, the last few times

    @property
    def filled(self) -> int:
        """Stored column numbers, over all sets."""
        return self._filled

    def lengths(self, numbers: Numbers) -> Numbers:
        """How many columns each set has."""
        return self._lengths[numbers]

    def singles(self, count: int, first: int) -> Numbers:
        """The sets {first}, {first + 1}, ..."""
        return self._append(np.arange(first, first + count), np.ones(count, np.int64))

    def rows(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """The sets of a flat array of numbers, one after the other: (where each starts, columns), columns rising."""
        lengths = self._lengths[numbers]
        indptr = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        refuse_beyond_limit(int(indptr[-1]))
        if not len(numbers):
            return indptr, self._columns[:0]
        starts = self._starts[numbers]
        if np.array_equal(starts, starts[0] + indptr[:-1]):  # they lie one behind the other
            return indptr, self._columns[starts[0] : starts[0] + indptr[-1]]
        places = np.repeat(starts - indptr[:-1], lengths)
        places += np.arange(indptr[-1])
        return indptr, self._columns[places]

    def union(self, a: Numbers, b: Numbers) -> Numbers:
        """Elementwise union of two arrays of one shape."""
        if a is b:
            return a
        shape, a, b = a.shape, a.ravel(), b.ravel()
        result = np.where(a == 0, b, a)
        differ = np.flatnonzero((a != b) & (a != 0) & (b != 0))
        if not len(differ):
            return result.reshape(shape)
        low, high = np.minimum(a[differ], b[differ]), np.maximum(a[differ], b[differ])
        key = low * self._rows + high
        pairs, inverse = _distinct(key)
        joined = self._pairs(*np.divmod(pairs, self._rows))
        result[differ] = joined if inverse is None else joined[inverse]
        return result.reshape(shape)

    def _pairs(self, low: Numbers, high: Numbers) -> Numbers:
        """The unions of pairs; a program unites the same ones again and again."""
        for known_low, known_high, joined in self._united:
            if np.array_equal(low, known_low) and np.array_equal(high, known_high):
                return joined
        joined = self._join(np.arange(0, 2 * len(low) + 1, 2), np.stack([low, high], axis=1).ravel())
        self._united = [*self._united[1 - _REMEMBERED :], (low, high, joined)]
        return joined

    def merge(self, groups: Numbers, numbers: Numbers, count: int) -> Numbers:
        """The union of the sets of each group 0 .. count - 1; `groups` and `numbers` are flat and go together."""
        result = np.zeros(count, np.int64)
        kept = numbers != 0
        key, _ = _distinct(groups[kept] * self._rows + numbers[kept])
        if not len(key):
            return result
        groups, members = np.divmod(key, self._rows)
        heads = np.flatnonzero(np.diff(groups, prepend=-1))
        result[groups[heads]] = self._join(np.append(heads, len(members)), members)
        return result

    def merge_last(self, numbers: Numbers) -> Numbers:
        """The union along the last axis."""
        shape, length = numbers.shape[:-1], numbers.shape[-1]
        if length == 0:
            return np.zeros(shape, np.int64)
        if np.all(numbers == numbers[..., :1]):
            return numbers[..., 0]
        count = numbers.size // length
        groups = np.repeat(np.arange(count), length)
        return self.merge(groups, numbers.ravel(), count).reshape(shape)

    def _join(self, indptr: Numbers, members: Numbers) -> Numbers:
        """The unions of members[indptr[i]:indptr[i + 1]], none of them empty, all different within a group.

        A union that is one of its members keeps that member's number, so a program that combines the same variables
        again and again makes no new sets.
        """
        rank = self._lengths[members] * self._rows + members
        longest, result = np.divmod(np.maximum.reduceat(rank, indptr[:-1]), self._rows)
        sizes = np.diff(indptr)
        open_groups = np.flatnonzero((sizes > 1) & (longest < self.width))
        if not len(open_groups):
            return result
        if len(open_groups) < len(result):
            members = members[np.repeat((sizes > 1) & (longest < self.width), sizes)]
            indptr = np.concatenate([[0], np.cumsum(sizes[open_groups])])
        refuse_beyond_limit(int(self._lengths[members].sum()))
        columns, lengths = self._few(indptr, members) or self._many(indptr, members)
        new = lengths > longest[open_groups]
        if np.all(new):
            result[open_groups] = self._append(columns, lengths)
        elif np.any(new):
            result[open_groups[new]] = self._append(columns[np.repeat(new, lengths)], lengths[new])
        return result

    def _few(self, indptr: Numbers, members: Numbers) -> tuple[Numbers, Numbers] | None:
        """The columns of all unions and their lengths, sorted as rows of a table; None where it would be wide."""
        own = self._lengths[members]
        filled = np.add.reduceat(own, indptr[:-1])
        width, count = int(filled.max()), len(filled)
        if width > _NARROW or width * count > 2 * int(filled.sum()):
            return None
        table = np.full((count, width), self.width, self._columns.dtype)
        columns = self.rows(members)[1]
        if width * count == len(columns):
            table.ravel()[:] = columns
        else:
            table[np.arange(width) < filled[:, None]] = columns
        table.sort(axis=1)
        kept = table < self.width
        kept[:, 1:] &= table[:, 1:] != table[:, :-1]
        return table[kept], np.count_nonzero(kept, axis=1)

    def _many(self, indptr: Numbers, members: Numbers) -> tuple[Numbers, Numbers]:
        """The same by a product of sparse matrices."""
        used, local = self._local(members)
        own_indptr, own_columns = self.rows(used)
        left = sparse.csr_array((np.ones(len(local), np.bool_), local, indptr), shape=(len(indptr) - 1, len(used)))
        right = sparse.csr_array(
            (np.ones(len(own_columns), np.bool_), own_columns, own_indptr), shape=(len(used), self.width)
        )
        joined: Any = left @ right
        joined.sort_indices()
        return joined.indices, np.diff(joined.indptr).astype(np.int64)

    def _local(self, members: Numbers) -> tuple[Numbers, Numbers]:
        """The different members, and every member's place among them."""
        if self._rows > 8 * len(members):
            return np.unique(members, return_inverse=True)
        seen = np.zeros(self._rows, np.bool_)
        seen[members] = True
        used = np.flatnonzero(seen)
        place = np.zeros(self._rows, np.int64)
        place[used] = np.arange(len(used))
        return used, place[members]

    def _append(self, columns: Numbers, lengths: Numbers) -> Numbers:
        first, count = self._rows, len(lengths)
        self._starts = _grown(self._starts, first, count)
        self._lengths = _grown(self._lengths, first, count)
        self._columns = _grown(self._columns, self._filled, len(columns))
        self._lengths[first : first + count] = lengths
        self._starts[first : first + count] = self._filled + np.cumsum(lengths) - lengths
        self._columns[self._filled : self._filled + len(columns)] = columns
        self._rows += count
        self._filled += len(columns)
        return np.arange(first, first + count)

    def compact(self, live: list[Numbers]) -> list[Numbers]:
        """Drop every set that no array in `live` names; returns these arrays renumbered."""
        seen = np.zeros(self._rows, np.bool_)
        for numbers in live:
            seen[numbers] = True
        seen[0] = False
        used = np.flatnonzero(seen)
        indptr, columns = self.rows(used)
        place = np.zeros(self._rows, np.int64)
        place[used] = np.arange(1, len(used) + 1)
        columns = columns.copy()
        self._rows, self._filled, self._united = 1, 0, []
        self._columns = columns[:0]
        self._append(columns, np.diff(indptr))
        return [place[numbers] for numbers in live]


def refuse_beyond_limit(count: int) -> None:
    """Raise when a pattern of `count` non-zeros is asked for."""
    if count > LIMIT:
        raise ArgumentError(
            f"sparsity: a pattern of {count} non-zeros was reached, expected at most {LIMIT}: the derivative is dense, "
            "use jacobian, or jvp, vjp and hvp"
        )


def _distinct(keys: Numbers) -> tuple[Numbers, Numbers | None]:
    """The different keys, rising, and each key's place among them (None when they are so already)."""
    if len(keys) < 2 or bool(np.all(keys[1:] > keys[:-1])):
        return keys, None
    return np.unique(keys, return_inverse=True)


def _grown(array: Numbers, used: int, more: int) -> Numbers:
    """Room for `more` behind the `used` first entries, doubling so that appending stays linear."""
    if used + more <= len(array):
        return array
    grown = np.zeros(max(2 * len(array), used + more), array.dtype)
    grown[:used] = array[:used]
    return grown
