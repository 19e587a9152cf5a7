"""Colouring: which columns (rows) of a sparse derivative share one sweep.

Takes a pattern, gives a colour per column such that the compressed product J S, S[j, colour[j]] = 1, holds every
non-zero of J by itself. Greedy, in time linear in the non-zeros: instead of visiting neighbours at distance two, every
row keeps the colours that its columns have so far as the bits of one integer. Several orders are tried and the fewest
colours kept; a lower bound that is reached ends the search.

Columns of one colour have no row in common: Curtis, Powell, Reid (1974), Coleman, More (1983). For symmetric matrices
a star colouring needs fewer colours, because an entry may be read at its mirror place: Coleman, More (1984),
Gebremedhin, Manne, Pothen (2005); the stars are kept as in Gebremedhin, Tarafdar, Manne, Pothen (2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from symdiff.later import later
from symdiff.sparsity.orderings import EFFORT, orders
from symdiff.sparsity.sets import Numbers

sparse = later("scipy.sparse")


@dataclass(frozen=True, slots=True)
class Colouring:
    """colours: the colour of every column, 0 .. count - 1. count: how many there are. kind: what they promise, and so
    how entries are found: "distance-2" and "star", each by itself; "acyclic", by substitution."""

    colours: Numbers
    count: int
    kind: Literal["distance-2", "star", "acyclic"] = "distance-2"


def colour_columns(indptr: Numbers, indices: Numbers, columns: int, stop_at: int | None = None) -> Colouring | None:
    """Colour the columns of a matrix given by its rows (indptr, indices); columns of one colour share no row.

    The natural order is best for bands, others for other patterns. No matrix needs fewer colours than its fullest row
    has entries. stop_at: give up (None) when so many are needed anyway.
    """
    rows = len(indptr) - 1
    fullest = int(np.diff(indptr).max(initial=0))
    if stop_at is not None and fullest >= stop_at:
        return None
    by_column, starts = transposed(indptr, indices, columns)
    # A column's degree, nearly: the entries of the rows it stands in.
    lengths = np.diff(indptr)
    weight = np.bincount(indices, np.repeat(lengths, lengths), columns)
    tried = orders(weight, lambda: conflicts(indptr, indices, columns))
    best = fewest(lambda order: _greedy(by_column, starts, rows, order), tried, fullest)
    return best if stop_at is None or best.count < stop_at else None


def fewest(colour: Callable[[Sequence[int]], Colouring], tried: Iterable[Sequence[int]], bound: int) -> Colouring:
    """The colouring with fewest colours of those that the orders lead to; one with `bound` colours is taken at once."""
    best: Colouring | None = None
    for order in tried:
        found = colour(order)
        if best is None or found.count < best.count:
            best = found
        if best.count <= bound:
            break
    assert best is not None, "there is a natural order"
    return best


def conflicts(
    indptr: Numbers, indices: Numbers, columns: int, read: Numbers | None = None
) -> tuple[Numbers, Numbers] | None:
    """Which columns meet in a row where one of the two entries is `read` (None: all are); None when there are too many.
    """
    lengths = np.diff(indptr).astype(np.int64)
    if np.sum(lengths**2) > EFFORT:
        return None
    shape = len(lengths), columns
    whole: Any = sparse.csr_array((np.ones(len(indices), np.int64), indices, indptr), shape=shape)
    if read is None:
        met = whole.T @ whole
    else:
        lines = np.repeat(np.arange(len(lengths)), lengths)[read]
        part: Any = sparse.csr_array((np.ones(len(lines), np.int64), (lines, indices[read])), shape=shape)
        met = part.T @ whole
        met = met + met.T
    found = met.tocoo()
    apart = found.coords[0] != found.coords[1]
    graph: Any = sparse.csr_array((found.data[apart], (found.coords[0][apart], found.coords[1][apart])), met.shape)
    return graph.indptr, graph.indices


def transposed(indptr: Numbers, indices: Numbers, columns: int) -> tuple[list[int], list[int]]:
    """Row numbers column by column, and where each column starts."""
    order = np.argsort(indices, kind="stable")
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=columns))])
    return rows.tolist(), starts.tolist()


def _greedy(rows: list[int], starts: list[int], count: int, order: Sequence[int]) -> Colouring:
    taken = [0] * count  # per row, the colours in it as bits
    colours = [0] * (len(starts) - 1)
    for j in order:
        own = rows[starts[j] : starts[j + 1]]
        used = 0
        for i in own:
            used |= taken[i]
        bit = ~used & (used + 1)  # the lowest colour that is free
        for i in own:
            taken[i] |= bit
        colours[j] = bit.bit_length() - 1
    return Colouring(np.array(colours, np.int64), max(colours, default=-1) + 1)


def colour_star(indptr: Numbers, indices: Numbers, columns: int) -> Colouring:
    """Star colouring of a symmetric pattern; the diagonal may be listed or not.

    Neighbours differ, and every path of four has three colours. Then each entry (i, j) stands alone among the columns
    of colour[j] in row i, or among those of colour[i] in row j.
    """
    neighbours, starts = indices.tolist(), indptr.tolist()
    sources = np.repeat(np.arange(columns), np.diff(indptr))
    apart = sources != indices
    degree = np.bincount(sources[apart], minlength=columns)
    # Two colours do for stars alone: then every edge has an end without another edge.
    inner = np.minimum(degree[sources[apart]], degree[indices[apart]]) > 1
    bound = 3 if inner.any() else 2 if apart.any() else 1
    tried = symmetric_orders(indptr, indices, columns)
    return fewest(lambda order: _stars(neighbours, starts, order), tried, bound)


def symmetric_orders(indptr: Numbers, indices: Numbers, columns: int) -> Iterator[Sequence[int]]:
    """Orders to try for a symmetric pattern, whose diagonal may be listed or not."""
    sources = np.repeat(np.arange(columns), np.diff(indptr))
    apart = sources != indices
    degree = np.bincount(sources[apart], minlength=columns)

    def graph() -> tuple[Numbers, Numbers] | None:
        if np.sum(degree) > EFFORT:
            return None
        return np.concatenate([[0], np.cumsum(degree)]), indices[apart]

    return orders(degree, graph)


def _stars(neighbours: list[int], starts: list[int], order: Sequence[int]) -> Colouring:
    count = len(starts) - 1
    bits = [0] * count  # the colour of each vertex as one bit, 0 while it has none
    beside = [0] * count  # colours of coloured neighbours
    hubs = [0] * count  # colours of neighbours that have another neighbour of this vertex's colour
    # Per coloured vertex and neighbouring colour: the only neighbour of that colour, or -1 when there are several.
    leaves: list[dict[int, int]] = [{} for _ in range(count)]
    for v in order:
        near = [w for w in neighbours[starts[v] : starts[v + 1]] if w != v and bits[w]]
        used, repeated = 0, 0
        for w in near:
            repeated |= used & bits[w]
            used |= bits[w]
        mine: dict[int, int] = {}
        forbidden = used
        for w in near:
            bit = bits[w]
            forbidden |= hubs[w]  # else a path v - w - x - y with the colours c, k, c, k
            if repeated & bit:
                forbidden |= beside[w]  # else a path w' - v - w - x with the colours k, c, k, c
                mine[bit] = -1
            else:
                mine[bit] = w
        own = ~forbidden & (forbidden + 1)
        bits[v], leaves[v], beside[v] = own, mine, used
        for w in near:
            beside[w] |= own
            if repeated & bits[w]:
                hubs[w] |= own
            other = leaves[w].get(own)
            if other is None:
                leaves[w][own] = v
            else:
                hubs[v] |= bits[w]
                if other >= 0:
                    hubs[other] |= bits[w]
                    leaves[w][own] = -1
    colours = np.array([b.bit_length() - 1 for b in bits], np.int64)
    return Colouring(colours, int(colours.max(initial=-1)) + 1, "star")
