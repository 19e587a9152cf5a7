"""Index sets, many at once: the rows of a pattern, shared by every value that has them.

A `Pool` holds sets of column numbers, each as its runs of neighbours, first and end: a band, a block or a full row is
one or two runs however wide it is. A set never changes once it is there. Values of a program hold *numbers* of sets,
one per element, so moving elements is moving numbers, and a broadcast or a copy costs no set. Set 0 is the empty one,
hence zeros that an op fills in are right as they are.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ArgumentError

Numbers: TypeAlias = "np.ndarray[Any, Any]"

LIMIT = 500_000_000
"""Non-zeros beyond which a pattern is refused: compressed rows would take more memory than a dense answer is worth."""

_REMEMBERED = 4


class Pool:
    """Sets of columns 0 .. width - 1 by number. Methods take arrays of set numbers and return such arrays."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._starts: Numbers = np.zeros(1024, np.int64)  # of a set: where its runs begin, how many, how many columns
        self._counts: Numbers = np.zeros(1024, np.int64)
        self._lengths: Numbers = np.zeros(1024, np.int64)
        self._narrow: Any = np.int32 if 2 * width + 1 < 2**31 else np.int64  # numbers of columns, twice over
        self._firsts: Numbers = np.zeros(4096, self._narrow)
        self._ends: Numbers = np.zeros(4096, self._narrow)
        self._rows = 1
        self._filled = 0
        self._united: list[tuple[Numbers, Numbers, Numbers]] = []  # pairs and their unions, the last few times

    @property
    def filled(self) -> int:
        """Stored runs, over all sets."""
        return self._filled

    def lengths(self, numbers: Numbers) -> Numbers:
        """How many columns each set has."""
        return self._lengths[numbers]

    def runs(self, numbers: Numbers) -> Numbers:
        """How many runs each set has."""
        return self._counts[numbers]

    def singles(self, count: int, first: int) -> Numbers:
        """The sets {first}, {first + 1}, ..."""
        firsts, ones = np.arange(first, first + count), np.ones(count, np.int64)
        return self._append(firsts, firsts + 1, ones, ones)

    def rows(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """The sets of a flat array of numbers, one after the other: (where each starts, columns), columns rising."""
        indptr = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(self._lengths[numbers], out=indptr[1:])
        refuse_beyond_limit(int(indptr[-1]))
        firsts, ends = self._runs(numbers)
        return indptr, _counted_up(firsts, (ends - firsts).astype(np.int64), self._narrow)

    def _runs(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """First columns and ends of all runs of the sets, one after the other."""
        counts = self._counts[numbers]
        if not len(numbers):
            return self._firsts[:0], self._ends[:0]
        total, first = int(counts.sum()), self._starts[numbers[0]]
        places: Any = slice(first, first + total)
        if not np.array_equal(self._starts[numbers], first + np.cumsum(counts) - counts):  # they are not side by side
            places = _counted_up(self._starts[numbers], counts, np.int64)
        return self._firsts[places], self._ends[places]

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
        pairs, inverse = _with_places(key)
        joined = self._pairs(*np.divmod(pairs, self._rows))
        result[differ] = joined if inverse is None else joined[inverse]
        return result.reshape(shape)

    def _pairs(self, low: Numbers, high: Numbers) -> Numbers:
        """The unions of pairs; a program unites the same ones again and again."""
        for known_low, known_high, joined in self._united:
            if np.array_equal(low, known_low) and np.array_equal(high, known_high):
                return joined
        joined = np.empty(len(low), np.int64)
        single = (self._counts[low] == 1) & (self._counts[high] == 1)
        joined[single] = self._pairs_of_runs(low[single], high[single])
        members = np.stack([low, high], axis=1)[~single]
        joined[~single] = self._join(2 * np.arange(len(members) + 1), members.ravel())
        self._united = [*self._united[1 - _REMEMBERED :], (low, high, joined)]
        return joined

    def _pairs_of_runs(self, a: Numbers, b: Numbers) -> Numbers:
        """The unions of pairs of sets of one run each."""
        first, other = self._starts[a], self._starts[b]
        firsts, ends = (np.stack([part[first], part[other]]) for part in (self._firsts, self._ends))
        low, high, last, end = firsts.min(axis=0), firsts.max(axis=0), ends.min(axis=0), ends.max(axis=0)
        apart = high > last
        own = self._lengths[a]
        lengths = np.where(apart, own + self._lengths[b], end - low)
        result = np.where(lengths == own, a, b)
        new = (lengths > own) & (lengths > self._lengths[b])
        low, high, last, end, apart = (part[new] for part in (low, high, last, end, apart))
        counts = 1 + apart
        place = np.cumsum(counts) - counts
        firsts, ends = (np.empty(int(counts.sum()), self._narrow) for _ in range(2))
        firsts[place], ends[place] = low, np.where(apart, last, end)
        second = place[apart] + 1
        firsts[second], ends[second] = high[apart], end[apart]
        result[new] = self._append(firsts, ends, counts, lengths[new])
        return result

    def merge(self, groups: Numbers, numbers: Numbers, count: int) -> Numbers:
        """The union of the sets of each group 0 .. count - 1; `groups` and `numbers` are flat and go together."""
        result = np.zeros(count, np.int64)
        kept = numbers != 0
        key = _distinct(groups[kept] * self._rows + numbers[kept])
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
        if not len(members):
            return members
        rank = self._lengths[members] * self._rows + members
        longest, result = np.divmod(np.maximum.reduceat(rank, indptr[:-1]), self._rows)
        sizes = np.diff(indptr)
        open_groups = np.flatnonzero((sizes > 1) & (longest < self.width))
        if not len(open_groups):
            return result
        if len(open_groups) < len(result):
            members = members[np.repeat((sizes > 1) & (longest < self.width), sizes)]
            indptr = np.concatenate([[0], np.cumsum(sizes[open_groups])])
        refuse_beyond_limit(int(self._counts[members].sum()))
        firsts, ends, counts = self._merged(indptr, members)
        lengths = np.add.reduceat(ends - firsts, np.cumsum(counts) - counts, dtype=np.int64)
        new = lengths > longest[open_groups]
        if np.all(new):
            result[open_groups] = self._append(firsts, ends, counts, lengths)
        elif np.any(new):
            kept = np.repeat(new, counts)
            result[open_groups[new]] = self._append(firsts[kept], ends[kept], counts[new], lengths[new])
        return result

    def _merged(self, indptr: Numbers, members: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The runs of the union of each group, and how many each has.

        A run of the union begins where the number of open runs rises from 0 and ends where it falls to 0. Many runs are
        counted at every column; of few, where they begin and end is sorted, beginnings first.
        """
        filled = np.add.reduceat(self._counts[members], indptr[:-1])
        firsts, ends = self._runs(members)
        count, width, total = len(filled), int(filled.max()), len(firsts)
        if count * (self.width + 1) <= 4 * total:
            return self._tallied(firsts, ends, filled)
        past = 2 * self.width + 2
        if width * count == total:  # a row per group
            events = np.concatenate([2 * firsts.reshape(count, width), 2 * ends.reshape(count, width) + 1], axis=1)
        elif width * count <= 2 * total:  # what is left of a row is filled up
            events = np.full((count, 2, width), past, self._narrow)
            kept = np.arange(width) < filled[:, None]
            events[:, 0][kept] = 2 * firsts
            events[:, 1][kept] = 2 * ends + 1
            events = events.reshape(count, 2 * width)
        else:
            base = np.repeat(np.arange(count) * past, filled)
            events = np.concatenate([base + 2 * firsts, base + 2 * ends + 1])
        events.sort()
        step = 1 - 2 * (events & 1).astype(np.int8)
        if events.ndim == 2:
            step[events == past] = 0
            borders = 2 * width * np.arange(count + 1)
            events, step = events.ravel(), step.ravel()
        else:
            borders = np.append(0, 2 * np.cumsum(filled))
            events -= np.repeat(np.arange(count) * past, 2 * filled)
        depth = np.cumsum(step, dtype=np.int32)
        opened = np.flatnonzero((depth == 1) & (step == 1))
        closed = np.flatnonzero((depth == 0) & (step == -1))
        return events[opened] >> 1, events[closed] >> 1, np.diff(np.searchsorted(opened, borders))

    def _tallied(self, firsts: Numbers, ends: Numbers, filled: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The same from how many runs are open at every column of every group."""
        span, count = self.width + 1, len(filled)
        base = np.repeat(np.arange(count) * span, filled)
        tally = np.bincount(base + firsts, minlength=count * span) - np.bincount(base + ends, minlength=count * span)
        held = np.cumsum(tally) > 0
        before = np.append(False, held[:-1])
        opened, closed = np.flatnonzero(held & ~before), np.flatnonzero(before & ~held)
        groups, places = np.divmod(opened, span)
        return places, closed % span, np.bincount(groups, minlength=count)

    def _append(self, firsts: Numbers, ends: Numbers, counts: Numbers, lengths: Numbers) -> Numbers:
        """New sets: all their runs, how many runs and how many columns each has."""
        first, count, filled = self._rows, len(counts), self._filled + len(firsts)
        self._starts = _grown(self._starts, first, count)
        self._counts = _grown(self._counts, first, count)
        self._lengths = _grown(self._lengths, first, count)
        self._firsts = _grown(self._firsts, self._filled, len(firsts))
        self._ends = _grown(self._ends, self._filled, len(firsts))
        self._counts[first : first + count] = counts
        self._lengths[first : first + count] = lengths
        self._starts[first : first + count] = self._filled + np.cumsum(counts) - counts
        self._firsts[self._filled : filled] = firsts
        self._ends[self._filled : filled] = ends
        self._rows += count
        self._filled = filled
        return np.arange(first, first + count)

    def compact(self, live: list[Numbers]) -> list[Numbers]:
        """Drop every set that no array in `live` names; returns these arrays renumbered."""
        seen = np.zeros(self._rows, np.bool_)
        for numbers in live:
            seen[numbers] = True
        seen[0] = False
        used = np.flatnonzero(seen)
        firsts, ends = (part.copy() for part in self._runs(used))
        counts, lengths = self._counts[used], self._lengths[used]
        place = np.zeros(self._rows, np.int64)
        place[used] = np.arange(1, len(used) + 1)
        self._rows, self._filled, self._united = 1, 0, []
        self._firsts, self._ends = firsts[:0], ends[:0]
        self._append(firsts, ends, counts, lengths)
        return [place[numbers] for numbers in live]


def refuse_beyond_limit(count: int) -> None:
    """Raise when a pattern of `count` non-zeros is asked for."""
    if count > LIMIT:
        raise ArgumentError(
            f"sparsity: a pattern of {count} non-zeros was reached, expected at most {LIMIT}: the derivative is dense, "
            "use jacobian, or jvp, vjp and hvp"
        )


def _counted_up(firsts: Numbers, lengths: Numbers, dtype: Any) -> Numbers:
    """first, first + 1, ... for every first, as many as its length says, one after the other."""
    places = np.repeat((firsts - (np.cumsum(lengths) - lengths)).astype(np.int64), lengths)
    places += np.arange(len(places))
    return places.astype(dtype, copy=False)


def _distinct(keys: Numbers) -> Numbers:
    """The different keys, rising."""
    if bool(np.all(keys[1:] > keys[:-1])):
        return keys
    rising = np.sort(keys, kind="stable")  # quick for what is rising but for a turn
    return rising[np.append(True, rising[1:] != rising[:-1])]


def _with_places(keys: Numbers) -> tuple[Numbers, Numbers | None]:
    """The different keys, rising, and each key's place among them (None when they are so already)."""
    if bool(np.all(keys[1:] > keys[:-1])):
        return keys, None
    order = np.argsort(keys, kind="stable")
    rising = keys[order]
    fresh = np.append(True, rising[1:] != rising[:-1])
    places = np.empty(len(keys), np.int64)
    places[order] = np.cumsum(fresh) - 1
    return rising[fresh], places


def _grown(array: Numbers, used: int, more: int) -> Numbers:
    """Room for `more` behind the `used` first entries, doubling so that appending stays linear."""
    if used + more <= len(array):
        return array
    grown = np.empty(max(2 * len(array), used + more), array.dtype)
    grown[:used] = array[:used]
    return grown
