"""Which sweeps show a sparse derivative: by groups of columns, of rows, or of both, and where each entry stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from symdiff.api.sparse_plans import Compression
from symdiff.sparsity import (
    Bicolouring,
    Colouring,
    colour_acyclic,
    colour_both,
    colour_columns,
    colour_star,
    substitution,
)

Direction: TypeAlias = Literal["forward", "reverse", "bidirectional"]

Price: TypeAlias = Callable[[int], float]
"""Seconds that so many sweeps at once are predicted to take."""

SUBSTITUTED = 2.5e-8
"""Seconds for each entry that is found by substitution, beyond picking it: a gather and a sparse triangular solve."""

SECOND = 1
"""Sweeps that must be saved before both directions are swept: the function is evaluated twice, in two programs."""


def symmetric_colourings(matrix: Any, mode: str, price: Price, both: bool = False) -> list[Colouring]:
    """The colouring to take for a symmetric pattern and, where one that trades sweeps for substitution was weighed
    against it, the other one.

    mode: "star" and "acyclic" insist on one of them. both: an acyclic one is looked for even where it cannot win.
    """
    pattern = matrix.indptr, matrix.indices, matrix.shape[0]
    if mode == "acyclic":
        found = colour_acyclic(*pattern)
        assert found is not None, "without a bound there is a colouring"
        return [found]
    star = colour_star(*pattern)
    if mode == "star":
        return [star]
    direct = colour_columns(*pattern, stop_at=star.count) or star
    solved = SUBSTITUTED * matrix.nnz
    # Two colours are the least where there is anything to substitute.
    if not both and price(direct.count) - price(min(direct.count, 2)) <= solved:
        return [direct]
    found = colour_acyclic(*pattern, stop_at=direct.count)
    if found is None:
        return [direct]
    return [found, direct] if price(direct.count) - price(found.count) > solved else [direct, found]


def coloured(matrix: Any, mode: str, symmetric: bool, price: Price) -> tuple[Direction, Colouring | Bicolouring]:
    """The colouring of a pattern in compressed rows, and the direction of its sweeps.

    mode: "forward" or "reverse" insist on columns or rows; others take what needs the fewest sweeps.
    """
    rows, columns = matrix.shape
    if symmetric:
        return "forward", symmetric_colourings(matrix, mode, price)[0]
    direction: Direction = "forward"
    fewest: Colouring | None = None
    if mode != "reverse":
        fewest = colour_columns(matrix.indptr, matrix.indices, columns)
    if mode != "forward":
        turned = matrix.T.tocsr()
        turned.sort_indices()
        stop = None if fewest is None else fewest.count
        by_row = colour_columns(turned.indptr, turned.indices, rows, stop_at=stop)
        if by_row is not None:
            direction, fewest = "reverse", by_row
    assert fewest is not None, "without a bound there is a colouring"
    if mode not in ("forward", "reverse"):
        both = colour_both(matrix.indptr, matrix.indices, columns, fewest.count - SECOND)
        if both is not None:
            return "bidirectional", both
    return direction, fewest


def compressions(matrix: Any, mode: str, symmetric: bool, price: Price, dtype: Any) -> list[Compression]:
    """The sweeps that show every entry of a pattern in compressed rows; what they give has numbers of `dtype`."""
    lines = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    direction, found = coloured(matrix, mode, symmetric, price)
    if isinstance(found, Bicolouring):
        pushed, pulled = np.flatnonzero(found.by_column), np.flatnonzero(~found.by_column)
        return [_pushed(matrix, lines, found.columns, pushed), _pulled(matrix, lines, found.rows, pulled)]
    every = slice(None)
    if found.kind == "acyclic":
        plan = substitution(lines, matrix.indices, found, dtype)
        return [Compression("forward", found, plan.picked, matrix.shape[0], max(matrix.shape), every, plan.entries)]
    if symmetric:
        places = _mirrored(lines, matrix.indices, found)
        return [Compression("forward", found, places, matrix.shape[0], max(matrix.shape), every)]
    return [_pushed(matrix, lines, found, every) if direction == "forward" else _pulled(matrix, lines, found, every)]


def _pushed(matrix: Any, lines: Any, groups: Colouring, entries: Any) -> Compression:
    count = matrix.shape[0]
    places = groups.colours[matrix.indices[entries]] * count + lines[entries]
    return Compression("forward", groups, places, count, max(matrix.shape), entries)


def _pulled(matrix: Any, lines: Any, groups: Colouring, entries: Any) -> Compression:
    width = matrix.shape[1]
    places = groups.colours[lines[entries]] * width + matrix.indices[entries]
    return Compression("reverse", groups, places, width, max(matrix.shape), entries)


def _mirrored(rows: Any, columns: Any, colouring: Colouring) -> Any:
    """Where a star colouring shows each entry: H[i, j] alone in its colour in row i, or else alone in row j."""
    count, colours = len(colouring.colours), colouring.colours
    key = rows * np.int64(max(colouring.count, 1)) + colours[columns]
    _, inverse, repeats = np.unique(key, return_inverse=True, return_counts=True)
    alone = repeats[inverse] == 1
    return np.where(alone, colours[columns] * count + rows, colours[rows] * count + columns)
