"""The compressed evaluation of a sparse Jacobian as one more mode of a bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from symdiff.api.compression import Direction
from symdiff.api.points import random_arguments
from symdiff.api.sparse import SparseDerivative
from symdiff.cost import Coloured, Counts, Machine, count, predict
from symdiff.errors import SymdiffError
from symdiff.ir.dims import evaluate, product
from symdiff.ir.graph import Function
from symdiff.sparsity import Bicolouring

_PROBED = (100, 40, 16, 6)
_ENTRIES = 200_000
"""A pattern is first looked at where each dimension is at most one of these sizes and all entries at most so many."""
_SPARSE = 3
"""Sweeps one by one must be so many times as many as colours."""
_PYTHON = 5e-6
"""Seconds of a call around the native code: seeds, places and the matrix."""


class Compressed:
    """Coloured evaluations of the derivative of a function in its parameters numbered `wrt`."""

    def __init__(self, function: Function, wrt: Sequence[int]) -> None:
        self.function = function
        self._wrt = tuple(wrt)
        self.derivative = SparseDerivative(function, wrt, "coloured")
        self._counts: dict[str, tuple[Function, Counts]] = {}
        self._colours: dict[frozenset[tuple[str, int]], dict[Literal["forward", "reverse"], int]] = {}

    def at(self, sizes: Mapping[str, int], number: int) -> Coloured | None:
        """What it takes at the given sizes (the point of that number); None where the Jacobian is not sparse."""
        try:
            for most in _PROBED:
                probe = {name: min(size, most) for name, size in sizes.items()}
                rows, columns = self._shape(probe)
                if rows * columns <= _ENTRIES:
                    break
            else:
                return None
            found = self._looked(probe, number)
            return found if found is None or probe == dict(sizes) else self._looked(sizes, number)
        except SymdiffError:  # sizes that small may be none, or no pattern is known for an op
            return None

    def _shape(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Elements of the function and of its variables."""
        rows = evaluate(product(self.function.results[0].shape), sizes)
        return rows, sum(evaluate(product(self.function.params[i].shape), sizes) for i in self._wrt)

    def _looked(self, sizes: Mapping[str, int], number: int) -> Coloured | None:
        rng = np.random.default_rng(number)
        arrays = random_arguments(self.function.params, sizes, rng)
        known = {p.name: a for p, a in zip(self.function.params, arrays, strict=True) if not p.type.floating}
        pattern = self.derivative.pattern(sizes, known)
        colouring = self.derivative.colours(sizes, known)
        rows, columns = self._shape(sizes)
        if _SPARSE * colouring.count > min(rows, columns):
            return None
        direction: Direction
        colours: dict[Literal["forward", "reverse"], int]
        if isinstance(colouring, Bicolouring):
            direction = "bidirectional"
            colours = {"forward": colouring.columns.count, "reverse": colouring.rows.count}
        else:
            direction = "forward" if len(colouring.colours) == columns else "reverse"
            colours = {direction: colouring.count}
        self._colours[frozenset(sizes.items())] = colours
        operations = 0
        for one, seeds in colours.items():
            program, counts = self._program(one)
            operations += counts.operations.at(self._with_colours(program, sizes, seeds))
        entries = int(pattern.nnz)
        resident = 16 * entries + 8 * colouring.count * (rows + columns)
        return Coloured(colouring.count, direction, entries, rows * columns, operations, resident)

    def predicted(self, found: Coloured, sizes: Mapping[str, int], machine: Machine) -> Coloured:
        """The same with the time that the model gives."""
        swept = 0.0
        for direction, colours in self._colours[frozenset(sizes.items())].items():
            program, _ = self._program(direction)
            swept += predict(program, machine, self._with_colours(program, sizes, colours)).seconds
        gathered = 24.0 * found.nonzeros / machine.bandwidth_at(24.0 * found.nonzeros + 1)
        return replace(found, seconds=swept + gathered + _PYTHON)

    def _program(self, direction: Literal["forward", "reverse"]) -> tuple[Function, Counts]:
        if direction not in self._counts:
            program = self.derivative.sweeps.seeded(direction)
            self._counts[direction] = program, count(program)
        return self._counts[direction]

    def _with_colours(self, program: Function, sizes: Mapping[str, int], colours: int) -> dict[str, int]:
        return {**dict.fromkeys(set(program.dims) - set(sizes), colours), **sizes}

    def call(self, *arrays: Any) -> Any:
        """The entries of the Jacobian."""
        return self.derivative.values(*arrays)
