"""Outputs of one compile that are no arrays: what each needs of native code, and all of it in one program.

A sparse or structured derivative turns arrays that native code computes into its matrix or operator. A `Piece` is that
program and the way from its results to the output; which program may depend on the sizes. `Together` puts the
programs of all outputs into one, where equal subexpressions are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, Value
from symdiff.ops import OPSET
from symdiff.simplify import optimize


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A program of the inputs and of `extras`, arrays that stay, and what its results become.

    finish takes the tuple of results. sizes: of dimensions that no argument has.
    """

    program: Function
    finish: Callable[[Any], Any]
    extras: tuple[Any, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])


class Part(Protocol):
    """One output: callable by itself, and able to say what it needs."""

    def __call__(self, *arrays: Any) -> Any: ...

    def piece(self, arrays: Sequence[Any]) -> Piece | None:
        """What the output needs at these arguments; None when one program does not do."""
        ...


class Native:
    """The native code of a piece's program, made when it is first needed."""

    def __init__(self, make: Callable[[Function], Any]) -> None:
        self._make = make
        self._code: dict[int, tuple[Function, Any]] = {}

    def of(self, program: Function) -> Any:
        """The code; it returns a tuple."""
        found = self._code.get(id(program))
        if found is None:
            found = self._code[id(program)] = program, self._make(program)
        return found[1]

    def call(self, piece: Piece, arrays: Sequence[Any]) -> Any:
        """The output of a piece."""
        code = self.of(piece.program)
        return piece.finish(code(*arrays, *piece.extras, **_sizes(piece.sizes)))

    def bind(self, piece: Piece, arrays: Sequence[Any]) -> Callable[[], Any]:
        """A call without arguments: the output of a piece on fixed arrays."""
        bound = self.of(piece.program).bind(*arrays, *piece.extras, **_sizes(piece.sizes))
        return lambda: piece.finish(bound())


def _sizes(sizes: Mapping[str, int]) -> dict[str, Any]:
    return {"sizes": sizes} if sizes else {}


class Together:
    """Several outputs behind one call. plain: a program for those that are arrays, at the given `places`; parts: the
    others, each with its place. make: native code for a program, which returns a tuple."""

    def __init__(
        self, plain: Function, places: Sequence[int], parts: Sequence[tuple[Part, int]], make: Callable[[Function], Any]
    ) -> None:
        self.parts = tuple(parts)
        self._plain = plain
        self._places = tuple(places)
        self._native = Native(make)
        self.programs: list[Function] = []  # of all outputs, for the sizes that were asked for
        self._programs: dict[tuple[int, ...], Function] = {}
        self._kept: list[Function] = []  # whose identities are keys

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        """The outputs in the order they were given to `compile`."""
        joint, alone = self._joint(arrays)
        found = self._native.call(joint, arrays)
        return self._ordered(found, [(place, part(*arrays)) for part, place in alone])

    def bind(self, *arrays: Any) -> Callable[[], tuple[Any, ...]]:
        """A call without arguments on fixed arrays, read anew each time. Arrays are rewritten by the next call."""
        joint, alone = self._joint(arrays)
        bound = self._native.bind(joint, arrays)
        return lambda: self._ordered(bound(), [(place, part(*arrays)) for part, place in alone])

    def _ordered(self, found: Sequence[tuple[int, Any]], others: Sequence[tuple[int, Any]]) -> tuple[Any, ...]:
        return tuple([value for _, value in sorted([*found, *others], key=lambda own: own[0])])

    def _joint(self, arrays: Sequence[Any]) -> tuple[Piece, list[tuple[Part, int]]]:
        """One piece for all outputs that have one, its output pairs (place, value); and the outputs that have none."""
        pieces: list[tuple[Piece, int]] = []
        alone: list[tuple[Part, int]] = []
        for part, place in self.parts:
            piece = part.piece(arrays)
            if piece is None:
                alone.append((part, place))
            else:
                pieces.append((piece, place))
        key = tuple([id(piece.program) for piece, _ in pieces])
        program = self._programs.get(key)
        if program is None:
            self._kept += [piece.program for piece, _ in pieces]
            program = joined([self._plain, *(piece.program for piece, _ in pieces)])
            program = self._programs[key] = optimize(program, OPSET)
            self.programs.append(program)

        def finish(results: Any) -> list[tuple[int, Any]]:
            at = len(self._places)
            found = list(zip(self._places, results[:at], strict=True))
            for piece, place in pieces:
                count = len(piece.program.results)
                found.append((place, piece.finish(results[at : at + count])))
                at += count
            return found

        extras = tuple([array for piece, _ in pieces for array in piece.extras])
        sizes = {name: size for piece, _ in pieces for name, size in piece.sizes.items()}
        return Piece(program, finish, extras, sizes), alone


def joined(programs: Sequence[Function]) -> Function:
    """The results of all programs, one after the other, as one program: the parameters of the first, then those that
    the others have besides."""
    builder = Builder(OPSET)
    params: dict[Value, None] = {}
    results: list[Value] = []
    for program in programs:
        mapping = builder.inline(program)
        params.update(dict.fromkeys(mapping[p] for p in program.params))
        results += [mapping[r] for r in program.results]
    return Function.of(list(params), results, programs[0].name)
