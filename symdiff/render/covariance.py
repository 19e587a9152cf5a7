"""Covariances as papers write them: (diag(p) - p p^T) A for diag(p) (A - 1 p^T A), where p are probabilities; for
weights w with the sum s, (diag(w) - w w^T / s) A.

The latter is shorter, and source code keeps it. The two factors may be one factor of a chain, or stand at the end of
one and at the beginning of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from symdiff.render.notation import Node, Notation, peeled


class _Link(NamedTuple):
    """A matrix in a chain, or a vector that is a diagonal matrix there, and the number of the factor it is of."""

    node: Node
    diagonal: bool
    place: int


def with_covariances(notation: Notation, node: Node) -> Node:
    """A matrix whose outermost product has A - 1 p^T A or A - A p 1^T beside diag(p) no more."""
    number, scalars, arrays, below = 1, list[Node](), [node], list[Node]()
    if node.kind == "prod":
        number, count = node.data
        scalars, arrays = [f for f in node.args[:count] if not f.rank], [f for f in node.args[:count] if f.rank]
        below = list(node.args[count:])
    if node.rank != 2 or not 0 < len(arrays) < 3 or any(f.rank for f in below):
        return node
    factors = _factors(notation.product(1, arrays, ()))
    links = [link for place, f in enumerate(factors) for link in _links(f, place)]
    for start, pair in enumerate(pairwise(links)):
        found = _joined(notation, *pair)
        if found is not None:
            before, behind = (_whole(notation, part, factors) for part in (links[:start], links[start + 2 :]))
            sign, middle = found
            chain = notation.chain((*before, *middle, *behind))
            return notation.product(sign * number, [*scalars, chain], below)
    return node


def _factors(matrix: Node) -> tuple[Node, ...]:
    """What a matrix is the product of."""
    if matrix.kind == "T" and matrix.args[0].kind == "matmul":
        return tuple([f.flip for f in reversed(matrix.args[0].args)])
    return matrix.args if matrix.kind == "matmul" else (matrix,)


def _links(factor: Node, place: int) -> list[_Link]:
    """The factors of a chain with a diagonal matrix beside the matrix that it scales."""
    if factor.kind == "T" and factor.args[0].kind == "prod":
        inside = reversed(_links(factor.args[0], place))
        return [link if link.diagonal else link._replace(node=link.node.flip) for link in inside]
    if factor.kind == "prod" and factor.data[1] == len(factor.args):
        arrays = [a for a in factor.args if a.rank]
        vectors = [a for a in arrays if a.kind == "expand" or a.rank == 1]
        if len(arrays) == 2 and len(vectors) == 1 and factor.rank == 2:
            (vector,) = vectors
            matrices = [_Link(f, False, place) for a in arrays if a is not vector for f in _factors(a)]
            if vector.kind == "expand":
                return [_Link(vector.args[0], True, place), *matrices]
            return [*matrices, _Link(vector, True, place)]
    return [_Link(factor, False, place)]


def _joined(notation: Notation, left: _Link, right: _Link) -> tuple[int, list[Node]] | None:
    """A sign and the factors that a diagonal and the matrix beside it are with a covariance."""
    if left.diagonal == right.diagonal:
        return None
    p, matrix = (left.node, right.node) if left.diagonal else (right.node, left.node)
    turned = matrix.kind == "T"
    total = matrix.args[0] if turned else matrix
    if total.kind != "add" or total.data != (1, -1):
        return None
    sign, (own, mean) = 1, total.args
    if own.rank < 2 or own.kind == "expand":
        sign, own, mean = -1, mean, own
    along = left.diagonal != turned  # whether the mean spreads along the rows of the sum
    if own.rank < 2 or along == (mean.kind == "expand"):
        return None
    number, scalars, mean, below = peeled(mean if along else mean.args[0])
    centred = own.flip if turned else own
    across = centred if left.diagonal else centred.flip
    if mean.kind != "matmul" or mean.args not in ((p, *_factors(across)), (*_factors(across.flip), p)):
        return None
    square = notation.product(number, [*scalars, notation.outer(p, p)], below)
    covariance = notation.add([(1, notation.diag(p)), (-1, square)], p.shape * 2)
    return sign, [covariance, *_factors(centred)] if left.diagonal else [*_factors(centred), covariance]


def _whole(notation: Notation, links: Sequence[_Link], factors: Sequence[Node]) -> list[Node]:
    """Links as factors of a chain: as the factor they are of where the other part of it is there."""
    made: list[Node] = []
    for place, group in groupby(links, key=lambda link: link.place):
        parts = list(group)
        if len(parts) == len(_links(factors[place], place)):
            made.append(factors[place])
        else:
            made += [notation.diag(part.node) if part.diagonal else part.node for part in parts]
    return made
