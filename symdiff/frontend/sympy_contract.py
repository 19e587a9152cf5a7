"""A contraction of vectors and matrices as SymPy matrix products, traces, Hadamard products and diagonals.

Takes a spec such as `ij,j,ik->k` with SymPy operands (vectors are columns); gives a scalar or a matrix expression.

Operands over the same labels are multiplied entry by entry. A label that three places share is split by the diagonal
matrix of the vector over it; a label with one place gets a vector of ones. Then every label joins two places, so the
operands form chains and rings: a ring is a trace, a chain between two vectors a scalar, a chain that ends in the
output a matrix or a vector.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from symdiff.errors import UnsupportedError
from symdiff.ir.contraction import Labels, Spec
from symdiff.later import later

sp = later("sympy")


class _Factor(NamedTuple):
    """A matrix with two labels, or a column with one."""

    labels: Labels
    matrix: Any


def shape_of(sizes: tuple[Any, ...]) -> tuple[Any, Any]:
    """The SymPy shape of a vector or matrix."""
    return (sizes[0], sp.Integer(1)) if len(sizes) == 1 else (sizes[0], sizes[1])


class Contraction:
    """One contraction being turned into matrix expressions."""

    def __init__(self, spec: Spec, operands: list[Any], ranks: list[int], sizes: tuple[Any, ...]) -> None:
        self.spec = spec
        self.scalars = [o for o, rank in zip(operands, ranks, strict=True) if not rank]
        self.sizes: dict[int, Any] = dict(zip(spec.free, sizes, strict=True))
        for labels, operand in zip(spec.operands, operands, strict=True):
            for axis, label in enumerate(labels):
                self.sizes[label] = operand.shape[axis]
        self.factors = [
            _Factor(labels, o) for labels, o, rank in zip(spec.operands, operands, ranks, strict=True) if rank
        ]
        self.fresh = 1 + max(self.sizes, default=0)
        # The output's places, renamed when a label is split.
        self.output = list(spec.output)

    def run(self) -> Any:
        self.own_diagonals()
        self.merge()
        self.split_shared()
        self.add_ones()
        return self.assemble()

    # ---------------------------------------------------------------- making every label join two places
    def own_diagonals(self) -> None:
        """A matrix with one label twice becomes its diagonal, unless the label is nowhere else (a trace)."""
        for number, factor in enumerate(self.factors):
            labels = factor.labels
            if len(labels) == 2 and labels[0] == labels[1] and self.places(labels[0]) > 2:
                self.factors[number] = _Factor(labels[:1], sp.DiagonalOf(factor.matrix))

    def merge(self) -> None:
        """Operands over the same labels are multiplied entry by entry, where that is no chain already."""
        groups: dict[frozenset[int], list[_Factor]] = {}
        for factor in self.factors:
            groups.setdefault(frozenset(factor.labels), []).append(factor)
        merged: list[_Factor] = []
        for labels, group in groups.items():
            first = group[0]
            chained = all(self.places(label) == 2 for label in labels) or len(group) == 1
            if chained or len(set(first.labels)) < len(first.labels):
                merged += group
                continue
            parts = [f.matrix if f.labels == first.labels else _transposed(f.matrix) for f in group]
            merged.append(_Factor(first.labels, sp.HadamardProduct(*parts)))
        self.factors = merged

    def split_shared(self) -> None:
        """A vector whose label has three places becomes a diagonal matrix between two of them."""
        for number, factor in enumerate(self.factors):
            label = factor.labels[0]
            if len(factor.labels) == 1 and self.places(label) == 3:
                other = self.fresh
                self.fresh += 1
                self.sizes[other] = self.sizes[label]
                self.factors[number] = _Factor((label, other), sp.DiagMatrix(factor.matrix))
                self.rename_one(label, other, number)
        for label in self.sizes:
            if self.places(label) > 2:
                raise UnsupportedError(
                    f"to_sympy: the contraction {self.spec} joins more than two matrices at one index, which SymPy's "
                    "matrix expressions do not write; with sizes as numbers its entries can be written out"
                )

    def rename_one(self, label: int, other: int, number: int) -> None:
        """Give one place of `label`, outside factor `number`, the name `other`."""
        for i, factor in enumerate(self.factors):
            if i != number and label in factor.labels:
                at = factor.labels.index(label)
                labels = (*factor.labels[:at], other, *factor.labels[at + 1 :])
                self.factors[i] = _Factor(labels, factor.matrix)
                return
        self.output[self.output.index(label)] = other

    def add_ones(self) -> None:
        """A label with one place is summed over, or broadcast: a vector of ones joins it."""
        for label, size in list(self.sizes.items()):
            if self.places(label) == 1:
                self.factors.append(_Factor((label,), sp.OneMatrix(size, 1)))

    def places(self, label: int) -> int:
        return sum(f.labels.count(label) for f in self.factors) + self.output.count(label)

    # ---------------------------------------------------------------- chains and rings
    def assemble(self) -> Any:
        """Follow the labels; multiply scalars, and put what reaches the output into place."""
        self.left = list(self.factors)
        ends: dict[int, tuple[Any, int | None]] = {}
        for place, label in enumerate(self.output):
            if place not in ends:
                chain, last = self.follow(label)
                other = self.output.index(last, place + 1) if last in self.output[place + 1 :] else None
                ends[place] = (chain, other)
                if other is not None:
                    ends[other] = (None, place)
        scalars = list(self.scalars)
        while self.left:
            scalars.append(self.ring_or_bridge())
        return self.put(ends, scalars)

    def put(self, ends: dict[int, tuple[Any, int | None]], scalars: list[Any]) -> Any:
        factor = sp.Mul(*scalars)
        if not self.output:
            return factor
        chain, other = ends[0]
        if len(self.output) == 1:
            core = _product(chain)
        elif other is not None:
            core = _product(chain) if chain else sp.Identity(self.sizes[self.output[0]])
        else:
            core = _product([*chain, _transposed(_product(ends[1][0]))])
        return core if factor == 1 else sp.MatMul(factor, core).doit(deep=False)

    def follow(self, label: int) -> tuple[list[Any], int]:
        """Matrices from `label` on, in order, each turned so that the chain reads from left to right."""
        chain: list[Any] = []
        while True:
            number = next((i for i, f in enumerate(self.left) if label in f.labels), None)
            if number is None:
                return chain, label
            factor = self.left.pop(number)
            if len(factor.labels) == 1:
                chain.append(factor.matrix)
                return chain, -1
            forward = factor.labels[0] == label
            chain.append(factor.matrix if forward else _transposed(factor.matrix))
            label = factor.labels[1 if forward else 0]

    def ring_or_bridge(self) -> Any:
        """A scalar: a chain between two vectors, or a ring of matrices."""
        number = next((i for i, f in enumerate(self.left) if len(f.labels) == 1), None)
        if number is not None:
            start = self.left.pop(number)
            chain, _ = self.follow(start.labels[0])
            # A one by one product; its trace is the scalar.
            return sp.Trace(_product([_transposed(start.matrix), *chain]))
        start = self.left.pop(0)
        chain, _ = self.follow(start.labels[1]) if start.labels[0] != start.labels[1] else ([], 0)
        return sp.Trace(_product([start.matrix, *chain]))


def _transposed(matrix: Any) -> Any:
    return sp.Transpose(matrix).doit(deep=False)


def _product(matrices: list[Any]) -> Any:
    return matrices[0] if len(matrices) == 1 else sp.MatMul(*matrices).doit(deep=False)
