"""The compressed evaluation of a sparse Jacobian as one more mode of a bill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from symdiff.api.compression import SUBSTITUTED, Direction
from symdiff.api.native import profiler
from symdiff.api.points import random_arguments
from symdiff.api.sparse import SYMMETRIC, SparseDerivative
from symdiff.cost import Coloured, Counts, Machine, Timing, count, predict
from symdiff.cost.machine import Profiler
from symdiff.errors import SymdiffError
from symdiff.ir.dims import evaluate, product
from symdiff.ir.graph import Function
from symdiff.sparsity import Bicolouring, Colouring

_PROBED = (100, 40, 16, 6)
_ENTRIES = 200_000
"""A pattern is first looked at where each dimension is at most one of these sizes and all entries at most so many."""
_WHOLE = 20_000_000
"""The same for patterns whose sizes are all given, or that stay larger."""
_SPARSE = 3
"""Sweeps one by one must be so many times as many as colours."""
_BESIDE = "coloured instead"
"""The name under which the colouring that was not taken is timed."""
_PYTHON = 5e-6
"""Seconds of a call around the native code: seeds, places and the matrix."""


class Compressed:
    """Coloured evaluations of the derivative of a function in its parameters numbered `wrt`. symmetric: the function is
    a gradient, whose derivative is a Hessian."""

    def __init__(self, function: Function, wrt: Sequence[int], symmetric: bool = False) -> None:
        self.function = function
        self._wrt = tuple(wrt)
        self._symmetric = symmetric
        self.derivative = SparseDerivative(function, wrt, "coloured", symmetric=symmetric)
        self._others: dict[str, SparseDerivative] = {}
        self._counts: dict[str, tuple[Function, Counts]] = {}
        self._executed: dict[Function, Profiler | None] = {}
        self._colours: dict[
            tuple[frozenset[tuple[str, int]], str], dict[Literal["forward", "reverse"], int]
        ] = {}

    def at(self, sizes: Mapping[str, int], number: int) -> Coloured | None:
        """What it takes at the given sizes (the point of that number); None where the Jacobian is not sparse."""
        try:
            probe = self._probe(sizes)
            found = None if probe is None else self._looked(probe, number)
            return found if found is None or probe == dict(sizes) else self._looked(sizes, number)
        except SymdiffError:  # sizes that small may be none, or no pattern is known for an op
            return None

    def _probe(self, sizes: Mapping[str, int]) -> dict[str, int] | None:
        """Sizes at which to look first whether there are few colours; None where that is too much already."""
        probe: dict[str, int] = {}
        entries = 0
        for most in _PROBED:
            probe = {name: min(size, most) for name, size in sizes.items()}
            entries = math.prod(self._shape(probe))
            if entries <= _ENTRIES:
                break
        return probe if entries <= _WHOLE else None

    def _shape(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Elements of the function and of its variables."""
        rows = evaluate(product(self.function.results[0].shape), sizes)
        return rows, sum(evaluate(product(self.function.params[i].shape), sizes) for i in self._wrt)

    def _looked(self, sizes: Mapping[str, int], number: int) -> Coloured | None:
        rng = np.random.default_rng(number)
        arrays = random_arguments(self.function.params, sizes, rng)
        known = {p.name: a for p, a in zip(self.function.params, arrays, strict=True) if not p.type.floating}
        pattern = self.derivative.pattern(sizes, known)
        found = self.derivative.colourings(sizes, known)
        rows, columns = self._shape(sizes)
        told = [self._told(colouring, sizes, int(pattern.nnz)) for colouring in found]
        if _SPARSE * found[0].count > min(rows, columns):
            return None
        return replace(told[0], other=told[1]) if len(told) > 1 else told[0]

    def _told(self, colouring: Colouring | Bicolouring, sizes: Mapping[str, int], entries: int) -> Coloured:
        rows, columns = self._shape(sizes)
        direction: Direction
        colours: dict[Literal["forward", "reverse"], int]
        kind = "distance-2" if isinstance(colouring, Bicolouring) else colouring.kind
        if isinstance(colouring, Bicolouring):
            direction = "bidirectional"
            colours = {"forward": colouring.columns.count, "reverse": colouring.rows.count}
        else:
            direction = "forward" if len(colouring.colours) == columns else "reverse"
            colours = {direction: colouring.count}
        self._colours[frozenset(sizes.items()), kind] = colours
        operations = 0
        for one, seeds in colours.items():
            program, counts = self._program(one)
            operations += counts.operations.at(self._with_colours(program, sizes, seeds))
        resident = 16 * entries + 8 * colouring.count * (rows + columns)
        return Coloured(colouring.count, direction, entries, rows * columns, operations, resident, kind)

    def predicted(self, found: Coloured, sizes: Mapping[str, int], machine: Machine) -> Coloured:
        """The same with the time that the model gives."""
        swept = 0.0
        for direction, colours in self._colours[frozenset(sizes.items()), found.kind].items():
            program, _ = self._program(direction)
            if program not in self._executed:
                self._executed[program] = profiler(program)
            executed = self._executed[program]
            if executed is None:
                return found
            swept += predict(executed(self._with_colours(program, sizes, colours), machine.register), machine).seconds
        gathered = 24.0 * found.nonzeros / machine.bandwidth_at(24.0 * found.nonzeros + 1)
        solved = SUBSTITUTED * found.nonzeros if found.kind == "acyclic" else 0.0
        other = None if found.other is None else self.predicted(found.other, sizes, machine)
        return replace(found, seconds=swept + gathered + solved + _PYTHON, other=other)

    def _program(self, direction: Literal["forward", "reverse"]) -> tuple[Function, Counts]:
        if direction not in self._counts:
            program = self.derivative.sweeps.program(direction)
            self._counts[direction] = program, count(program)
        return self._counts[direction]

    def _with_colours(self, program: Function, sizes: Mapping[str, int], colours: int) -> dict[str, int]:
        return {**dict.fromkeys(set(program.dims) - set(sizes), colours), **sizes}

    def calls(self, found: Coloured) -> dict[str, Callable[..., Any]]:
        """What computes the entries, by name: the way that is taken, and the other one."""
        calls: dict[str, Callable[..., Any]] = {"coloured": self.derivative.values}
        if found.other is not None and found.other.kind in SYMMETRIC:  # no mode insists on another kind
            calls[_BESIDE] = self._by(found.other.kind).values
        return calls

    def _by(self, kind: str) -> SparseDerivative:
        """The evaluation by a colouring of this kind."""
        if kind not in self._others:
            self._others[kind] = SparseDerivative(self.function, self._wrt, kind, symmetric=True)
        return self._others[kind]

    def timed(self, found: Coloured, timings: Mapping[str, Timing]) -> Coloured:
        """The same with the times of `calls`."""
        other = found.other
        if other is not None and _BESIDE in timings:
            other = replace(other, timing=timings[_BESIDE])
        return replace(found, timing=timings["coloured"], other=other)
