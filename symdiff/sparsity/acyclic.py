"""Acyclic colouring: symmetric patterns in fewer sweeps than a star colouring, entries found by substitution.

Neighbours differ and every cycle has three colours, so the vertices of any two colours span trees. In the compressed
product H S the row of a leaf shows the entry on the leaf's edge by itself; with it subtracted from the row at the other
end that row loses an unknown, and so on inwards: Coleman, Cai (1986), Gebremedhin, Tarafdar, Pothen, Walther (2009).
The colouring is greedy and keeps the two-coloured trees as disjoint sets, as in Gebremedhin, Tarafdar, Manne, Pothen
(2007), with one tree per vertex and neighbouring colour in place of visits at distance two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symdiff.later import later
from symdiff.sparsity.colouring import Colouring, fewest, symmetric_orders
from symdiff.sparsity.sets import Numbers

sparse, csgraph, linalg = (later(name) for name in ("scipy.sparse", "scipy.sparse.csgraph", "scipy.sparse.linalg"))


def colour_acyclic(indptr: Numbers, indices: Numbers, columns: int, stop_at: int | None = None) -> Colouring | None:
    """Acyclic colouring of a symmetric pattern; the diagonal may be listed or not.

    stop_at: give up (None) when so many are needed anyway.
    """
    sources = np.repeat(np.arange(columns), np.diff(indptr))
    bound = least_acyclic(columns, int(np.count_nonzero(sources < indices)))
    if stop_at is not None and bound >= stop_at:
        return None
    neighbours, starts = indices.tolist(), indptr.tolist()
    tried = symmetric_orders(indptr, indices, columns)
    best = fewest(lambda order: _forests(neighbours, starts, order), tried, bound)
    return best if stop_at is None or best.count < stop_at else None


def least_acyclic(vertices: int, edges: int) -> int:
    """A lower bound of the colours: the forests of k classes, two by two, have at most (k - 1) (n - k / 2) edges."""
    count = 1 if vertices else 0
    while count < vertices and edges > (count - 1) * vertices - count * (count - 1) // 2:
        count += 1
    return count


def _forests(neighbours: list[int], starts: list[int], order: Sequence[int]) -> Colouring:
    count = len(starts) - 1
    colours = [-1] * count
    # Per vertex and neighbouring colour, the tree of these two colours that it is in; all its edges there are in one.
    trees: list[dict[int, int]] = [{} for _ in range(count)]
    parent: list[int] = []

    def root(tree: int) -> int:
        while parent[tree] != tree:
            parent[tree] = tree = parent[parent[tree]]
        return tree

    for v in order:
        near = [w for w in neighbours[starts[v] : starts[v + 1]] if w != v and colours[w] >= 0]
        beside: dict[int, int] = {}
        for w in near:
            beside[colours[w]] = beside.get(colours[w], 0) + 1
        taken = set(beside)
        reached: set[int] = set()
        for w in near:
            if beside[colours[w]] > 1:  # a cycle through v has two neighbours of one colour
                for colour, tree in trees[w].items():
                    own = root(tree)
                    if own in reached:
                        taken.add(colour)
                    reached.add(own)
        colour = 0
        while colour in taken:
            colour += 1
        colours[v] = colour
        mine: dict[int, int] = {}
        for w in near:
            known = trees[w].get(colour)
            if known is None:
                known = len(parent)
                parent.append(known)
            tree, other = root(known), mine.get(colours[w])
            if other is not None:
                parent[tree] = tree = root(other)
            mine[colours[w]] = trees[w][colour] = tree
        trees[v] = mine
    return Colouring(np.array(colours, np.int64), max(colours, default=-1) + 1, "acyclic")


@dataclass(frozen=True, slots=True, eq=False)
class Substitution:
    """How the entries follow from a compressed product with rows of H S one colour after the other (flat).

    picked: the elements that are needed, one per vertex and colour of a neighbour or its own, leaves before what they
    hang on. solver: the triangular system that takes every entry from what stands further inside. places: which of its
    unknowns each entry is.
    """

    picked: Numbers
    solver: Any
    places: Numbers

    def entries(self, values: Numbers) -> Numbers:
        """The entries, from the picked elements."""
        return self.solver.solve(values).take(self.places) if len(values) else values


def substitution(rows: Numbers, columns: Numbers, colouring: Colouring, dtype: Any) -> Substitution:
    """The plan for the entries (rows, columns) of a symmetric pattern in compressed rows, for products of `dtype`."""
    count, colours = len(colouring.colours), colouring.colours
    # A node is a vertex with a colour beside it; an entry joins the node of its row to that of its mirror image, and
    # entries of the diagonal are nodes by themselves. One more node holds all trees together at their roots.
    picked, node = np.unique(colours[columns] * np.int64(count) + rows, return_inverse=True)
    upper, lower = np.flatnonzero(rows < columns), np.flatnonzero(rows > columns)
    lower = lower[np.argsort(columns[lower], kind="stable")]  # in the order of their mirror images
    size, edges = len(picked), (node[upper], node[lower])
    forest: Any = sparse.csr_array((np.ones(len(upper), np.int8), edges), shape=(size + 1, size + 1))
    roots = np.unique(csgraph.connected_components(forest, directed=False)[1], return_index=True)[1]
    roots = roots[roots < size]
    links: Any = sparse.csr_array((np.ones(len(roots), np.int8), (np.full(len(roots), size), roots)), forest.shape)
    order, above = csgraph.breadth_first_order(forest + links, size, directed=False)
    inwards = order[:0:-1]
    number = np.empty(size + 1, np.int64)
    number[inwards] = np.arange(size)
    hanging = np.flatnonzero(above[:size] != size)
    below, stem = number[hanging], number[above[hanging]]
    diagonal = np.arange(size)
    system: Any = sparse.csc_array(
        (np.ones(size + len(below), dtype), (np.append(diagonal, stem), np.append(diagonal, below))), shape=(size, size)
    )
    places = number[node]
    outer = np.where(above[edges[0]] == edges[1], edges[0], edges[1])
    places[upper] = places[lower] = number[outer]
    return Substitution(picked[inwards], _factored(system) if size else None, places)


def _factored(system: Any) -> Any:
    """A triangular matrix with ones on its diagonal, ready to be solved in native code; nothing fills in."""
    return linalg.splu(
        system, permc_spec="NATURAL", diag_pivot_thresh=0.0, relax=1, panel_size=1,
        options={"Equil": False, "SymmetricMode": True},
    )  # fmt: skip
