"""Which sizes of a program are worth code of their own.

Code in which a small axis has a number for its size has no loop over it: products, sums and factorizations of small
matrices become straight-line code, which takes a half to a tenth of the time. Only axes whose elements meet somewhere
gain; along the others (the batch of a `vmap`) a loop over vectors is better, however short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from symdiff.ir.contraction import parse_spec
from symdiff.ir.dims import Dim, Size, size_names
from symdiff.ir.graph import Function, Value, instructions

SMALL = 6
"""The largest size that is a number in code of its own: from 7 or 8 on loops over vectors are as fast, and code without
them takes long to make."""
LARGEST = 512
"""The most elements along small axes of an array that is still taken apart."""
_MATRICES = frozenset(
    {"inverse", "solve", "triangular_solve", "det", "logabsdet", "signdet", "cholesky", "tril", "triu"}
)


class Meeting:
    """The dimensions of a function along which elements meet: summed, reduced, cut, joined, or axes of a matrix taken
    apart."""

    def __init__(self, function: Function) -> None:
        met: set[Size] = set()
        shapes: set[tuple[Size, ...]] = set()
        for value in (*function.params, *instructions(function.instrs)):
            shapes.add(value.shape)
            if value.args and not value.op.elementwise and not value.op.picks:
                met.update(_contracted(value) if value.op.name == "contract" else _handled(value))
        self.names = size_names(met)
        self._shapes = shapes

    def small(self, sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """The small ones among the sizes of these dimensions; none where an array would have too many elements."""
        found = {name: size for name, size in sizes.items() if size <= SMALL and name in self.names}
        for shape in self._shapes if found else ():
            if math.prod([found.get(str(s), 1) for s in shape if isinstance(s, Dim)]) > LARGEST:
                return ()
        return tuple(found.items())


def _contracted(value: Value) -> Iterable[Size]:
    spec = parse_spec(value.attr("spec"))
    output = spec.output
    for labels, arg in zip(spec.operands, value.args, strict=True):
        for label, size in zip(labels, arg.shape, strict=True):
            if output.count(label) != 1 or labels.count(label) > 1:
                yield size


def _handled(value: Value) -> Iterable[Size]:
    """The sizes of the axes that another instruction works on; those before them it passes along."""
    shape, made = value.args[0].shape, value.shape
    if value.op.name in _MATRICES:
        return shape[-2:]
    axes = value.attr("axes", ())
    if shape == made and value.attr("axis") is not None:
        axes = (value.attr("axis"),)
    if axes:
        return [shape[a] for a in axes]
    kept = 0
    while kept < min(len(shape), len(made)) and shape[kept] == made[kept]:
        kept += 1
    return (*shape[kept:], *made[kept:])
