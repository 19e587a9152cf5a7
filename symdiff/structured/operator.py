"""Operators in numbers: factors as arrays, multiplied without forming the matrix.

An `Operator` stands for a generalized Jacobian of shape out + inside: `op @ v` contracts v (of shape `inside`, or flat,
or with further axes behind) and gives shape `out` (flat for flat v, which every vector is). It transposes, lists its
entries, and becomes a dense array, a scipy.sparse array or a scipy LinearOperator. The arrays are `factors`, and by
kind `diagonal`, `bands`, `blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ArgumentError, ShapeError
from symdiff.ir.dims import format_shape
from symdiff.later import later

sparse, linalg = later("scipy.sparse"), later("scipy.sparse.linalg")

Array: TypeAlias = "np.ndarray[Any, Any]"
Steps: TypeAlias = "tuple[tuple[int, int], ...]"


@dataclass(frozen=True, slots=True)
class NumericPlace:
    """start + sum of step * label; or the integers of array number `index` over `labels`."""

    start: int
    steps: Steps
    index: int | None = None
    labels: tuple[int, ...] = ()

    @property
    def own(self) -> tuple[int, ...]:
        return self.labels if self.index is not None else tuple([x for x, _ in self.steps])


@dataclass(frozen=True, slots=True)
class NumericTerm:
    """factors: (number of the array, labels). sizes: of every label. places: per axis of `out`, then of `inside`."""

    kind: str
    factors: tuple[tuple[int, tuple[int, ...]], ...]
    sizes: Mapping[int, int]
    rows: tuple[NumericPlace, ...]
    columns: tuple[NumericPlace, ...]
    out: tuple[int, ...]
    inside: tuple[int, ...]

    @property
    def row_labels(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(x for p in self.rows for x in p.own))

    @property
    def column_labels(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(x for p in self.columns for x in p.own))

    @property
    def placed(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self.row_labels, *self.column_labels)))

    def turned(self) -> NumericTerm:
        return NumericTerm(self.kind, self.factors, self.sizes, self.columns, self.rows, self.inside, self.out)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """All of an operator but its arrays: shared by the operators of one function at one size."""

    terms: tuple[NumericTerm, ...]
    out: tuple[int, ...]
    inside: tuple[int, ...]
    dtype: Any
    kind: str


def flat_positions(
    places: Sequence[NumericPlace], shape: Sequence[int], labels: Sequence[int], sizes: Mapping[int, int],
    arrays: Sequence[Array],
) -> Array:  # fmt: skip
    """Row-major positions in an array of `shape`, as an array with one axis per label."""
    total: Array = np.zeros([1] * len(labels), np.int64)
    for place, size in zip(places, shape, strict=True):
        total = total * size + _position(place, size, labels, sizes, arrays)
    return np.broadcast_to(total, [sizes[x] for x in labels])


def _position(
    place: NumericPlace, size: int, labels: Sequence[int], sizes: Mapping[int, int], arrays: Sequence[Array]
) -> Array:
    if place.index is not None:
        index = np.asarray(arrays[place.index])
        order = sorted(range(len(place.labels)), key=lambda i: labels.index(place.labels[i]))
        moved = np.transpose(np.where(index < 0, index + size, index), order)
        return moved.reshape([sizes[x] if x in place.labels else 1 for x in labels])
    total: Array = np.full([1] * len(labels), place.start, np.int64)
    for label, step in place.steps:
        at = labels.index(label)
        total = total + step * np.arange(sizes[label]).reshape([-1 if i == at else 1 for i in range(len(labels))])
    return total


class Operator:
    """A Jacobian or Hessian as a sum of products of factors; see the module."""

    __slots__ = ("arrays", "template")

    def __init__(self, template: Template, arrays: tuple[Array, ...]) -> None:
        self.template = template
        self.arrays = arrays

    # ---------------------------------------------------------------- what it is
    @property
    def kind(self) -> str:
        """What structure it has: "diagonal", "banded", "block diagonal", "kronecker", "low rank", "scattered", "dense",
        or several of them joined by +."""
        return self.template.kind

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix: elements out, elements in."""
        return math.prod(self.template.out), math.prod(self.template.inside)

    @property
    def dtype(self) -> Any:
        return self.template.dtype

    @property
    def ndim(self) -> int:
        return 2

    @property
    def factors(self) -> tuple[tuple[Array, ...], ...]:
        """The arrays of every term."""
        return tuple([tuple([np.asarray(self.arrays[i]) for i, _ in t.factors]) for t in self.template.terms])

    @property
    def nbytes(self) -> int:
        """Bytes of all factors."""
        return sum({id(f): f.nbytes for own in self.factors for f in own}.values())

    @property
    def T(self) -> Operator:
        """The transpose, of the same factors."""
        own = self.template
        terms = tuple([t.turned() for t in own.terms])
        return Operator(Template(terms, own.inside, own.out, own.dtype, own.kind), self.arrays)

    def __repr__(self) -> str:
        own = self.template
        shapes = f"{format_shape(own.inside)} -> {format_shape(own.out)}"
        return f"<{own.kind} operator {shapes}, {self.nbytes} bytes of factors>"

    # ---------------------------------------------------------------- products
    def __matmul__(self, other: Any) -> Any:
        """The product with an array: shape `inside`, the flat vector of it, or either with further axes behind.

        A flat vector gives a flat one, and a vector variable is flat; else the result has shape `out`.
        """
        v = np.asarray(other)
        out, inside = self.template.out, self.template.inside
        rows, columns = self.shape
        if len(inside) != 1 and v.shape[: len(inside)] == inside:
            beside, shaped = v.shape[len(inside) :], out
        elif v.ndim and v.shape[0] == columns:
            beside, shaped = v.shape[1:], (rows,)
        else:
            raise ShapeError(
                f"operator of shape {format_shape(self.shape)}: given {format_shape(v.shape)}, expected "
                f"{format_shape(inside)} or {format_shape((columns,))}, further axes behind"
            )
        return self._product(v.reshape(columns, math.prod(beside))).reshape((*shaped, *beside))

    def _product(self, v: Array) -> Array:
        """The matrix times columns."""
        result = np.zeros((self.shape[0], v.shape[1]), np.result_type(self.dtype, v.dtype))
        for term in self.template.terms:
            self._accumulate(term, v, result)
        return result

    def __rmatmul__(self, other: Any) -> Any:
        """other @ operator, for a vector or for stacked rows."""
        w = np.asarray(other)
        rows, columns = self.shape
        if w.ndim < 2 or w.shape == self.template.out:
            return self.T @ w
        if w.shape[-1] != rows:
            raise ShapeError(
                f"operator of shape {format_shape(self.shape)}: given {format_shape(w.shape)} on its left, expected "
                f"{format_shape(self.template.out)} or a last axis of {rows}"
            )
        return self.T._product(w.reshape(math.prod(w.shape[:-1]), rows).T).T.reshape((*w.shape[:-1], columns))

    # NumPy hands `array @ operator` over to the operator.
    __array_ufunc__ = None

    def _accumulate(self, term: NumericTerm, v: Array, result: Array) -> None:
        """Add one term's product: the vector picked at the columns, contracted with the factors, put at the rows."""
        columns, rows = term.column_labels, term.row_labels
        extra = 1 + max(term.sizes, default=-1)
        at = flat_positions(term.columns, term.inside, columns, term.sizes, self.arrays)
        operands: list[Any] = [v[at], [*columns, extra]]
        for number, labels in term.factors:
            operands += [self.arrays[number], list(labels)]
        known = {*columns, *(x for _, labels in term.factors for x in labels)}
        product = np.einsum(*operands, [*(x for x in rows if x in known), extra], optimize=len(operands) > 4)
        where = flat_positions(term.rows, term.out, rows, term.sizes, self.arrays)
        shape = [term.sizes[x] if x in known else 1 for x in rows]
        spread = np.broadcast_to(product.reshape(*shape, v.shape[1]), (*where.shape, v.shape[1]))
        np.add.at(result, where.ravel(), spread.reshape(-1, v.shape[1]))

    # ---------------------------------------------------------------- conversions
    def entries(self) -> tuple[Array, Array, Array]:
        """Row numbers, column numbers and values of all entries of all terms, flat; repeated places add up."""
        found: list[tuple[Array, Array, Array]] = []
        for term in self.template.terms:
            labels = term.placed
            rows = flat_positions(term.rows, term.out, labels, term.sizes, self.arrays)
            columns = flat_positions(term.columns, term.inside, labels, term.sizes, self.arrays)
            found.append((rows.ravel(), columns.ravel(), self._values(term, labels).ravel()))
        if not found:
            empty = np.zeros(0, np.int64)
            return empty, empty, np.zeros(0, self.dtype)
        rows, columns, values = (np.concatenate(part) for part in zip(*found, strict=True))
        return rows, columns, values

    def dense(self) -> Array:
        """The generalized Jacobian, of shape out + inside."""
        result = np.zeros(math.prod(self.shape), self.dtype)
        rows, columns, values = self.entries()
        np.add.at(result, rows * self.shape[1] + columns, values)
        return result.reshape((*self.template.out, *self.template.inside))

    def toarray(self) -> Array:
        """The matrix."""
        return self.dense().reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.toarray().astype(dtype or self.dtype, copy=False)

    def tosparse(self, format: str = "csr") -> Any:
        """The matrix as a scipy.sparse array: "csr", "csc", "coo" or "bsr"."""
        rows, columns, values = self.entries()
        matrix = sparse.coo_array((values, (rows, columns)), shape=self.shape)
        return matrix if format == "coo" else matrix.tocsr().asformat(format)

    def linear_operator(self) -> Any:
        """The matrix for scipy's iterative solvers."""
        return linalg.aslinearoperator(self)

    def matvec(self, v: Any) -> Array:
        """The matrix times a flat vector, as scipy's solvers ask for it."""
        return self._product(np.reshape(v, (-1, 1)))[:, 0]

    def rmatvec(self, w: Any) -> Array:
        """The transpose times a flat vector."""
        return self.T.matvec(w)

    # ---------------------------------------------------------------- by kind
    def _of_kind(self, kind: str, what: str) -> list[NumericTerm]:
        found = [t for t in self.template.terms if t.kind == kind]
        if not found:
            raise ArgumentError(f"a {self.kind} operator has no `{what}`; see `factors` and `tosparse()`")
        return found

    @property
    def diagonal(self) -> Array:
        """The diagonal part, in the shape of the variable."""
        (term,) = self._of_kind("diagonal", "diagonal")
        values = self._values(term, term.placed)
        return values.reshape(self.template.inside)

    @property
    def blocks(self) -> Array:
        """The blocks of a block-diagonal operator: axes that number the blocks, then rows, then columns."""
        (term,) = self._of_kind("block diagonal", "blocks")
        rows, columns = term.row_labels, term.column_labels
        both = [x for x in rows if x in columns]
        order = [*both, *(x for x in rows if x not in both), *(x for x in columns if x not in both)]
        return self._values(term, order)

    @property
    def bands(self) -> dict[int, Array]:
        """The bands of a banded operator by their offset, column minus row, from the first row that each has."""
        return {
            t.columns[0].start - t.rows[0].start: self._values(t, t.placed) for t in self._of_kind("banded", "bands")
        }

    @property
    def low_rank(self) -> list[tuple[Array, Array]]:
        """Pairs L, R with L R^T the low-rank part: shapes out + rank and inside + rank."""
        pairs: list[tuple[Array, Array]] = []
        for term in self._of_kind("low rank", "low_rank"):
            rows, columns = set(term.row_labels), set(term.column_labels)
            summed = [x for x in term.sizes if x not in rows and x not in columns]
            side = [
                [(self.arrays[i], own) for i, own in term.factors if bool(set(own) & columns) == right]
                for right in (False, True)
            ]
            sizes = term.sizes
            left = _multiplied(side[0], [*term.row_labels, *summed], sizes, self.dtype)
            right = _multiplied(side[1], [*term.column_labels, *summed], sizes, self.dtype)
            rank = math.prod(sizes[x] for x in summed)
            pairs.append((left.reshape(*term.out, rank), right.reshape(*term.inside, rank)))
        return pairs

    def _values(self, term: NumericTerm, labels: Sequence[int]) -> Array:
        """The product of a term's factors over `labels`."""
        return _multiplied([(self.arrays[i], own) for i, own in term.factors], labels, term.sizes, self.dtype)


def _multiplied(
    factors: Sequence[tuple[Array, tuple[int, ...]]], labels: Sequence[int], sizes: Mapping[int, int], dtype: Any
) -> Array:
    if len(factors) == 1 and factors[0][1] == tuple(labels):
        return np.asarray(factors[0][0], dtype)
    operands: list[Any] = []
    for array, own in factors:
        operands += [array, list(own)]
    carried = {x for _, own in factors for x in own}
    kept = [x for x in labels if x in carried]
    product: Any = np.einsum(*operands, kept, optimize=len(operands) > 4) if operands else np.ones((), dtype)
    spread = np.reshape(product, [sizes[x] if x in carried else 1 for x in labels])
    return np.broadcast_to(spread, [sizes[x] for x in labels]).astype(dtype)
