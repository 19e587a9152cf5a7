"""Which bytes the kernels of a program touch, and how much else is touched before they are touched again.

`Traffic(program, numbers).of(kernel)` takes the kernels in order and gives (bytes, distance, apart): so many bytes are
moved that were touched last when so many other bytes had been touched since; apart: they are written, to lines that do
not follow one another, which processors do one by one. What is written is moved twice, fetched and given back. Bytes
that a loop comes back to have the distance of what one of its iterations touches; bytes that an earlier kernel, or the
call before, touched, that of all in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

from codegen.ir.index import flatten
from codegen.ir.loops import Buffer, Call, For, Kernel, Load, Pointer, Program, Store, places_of, statements, walk
from codegen.llvm.text import BYTES
from symdiff.ir.dims import Size, evaluate

_LINE: Final = 64
_NEAR: Final = 4096
"""Bytes: what is touched again so soon lies in registers or the nearest cache."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop as accesses see it: its iterations, how far its counter moves with each iteration of its own and of the
    loops whose blocks it runs over, how long its blocks are where it goes from block to block, and how many elements
    an iteration of a vector loop takes."""

    trips: float
    moves: Mapping[str, float]
    block: float = 1.0
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class _Access:
    buffer: Buffer
    loops: tuple[int, ...]
    """Around it, outermost first."""
    steps: Mapping[int, float]
    """Bytes between iterations, for the loops it moves with."""
    unknown: bool
    written: bool


Moved: TypeAlias = "tuple[float, float, bool]"


class Traffic:
    """Reads the kernels of one program, in order."""

    def __init__(self, program: Program, numbers: Mapping[str, int]) -> None:
        self.numbers = numbers
        self.known: dict[Size, int] = {}
        self._sizes: dict[Buffer, float] = {}
        self._touched = {id(kernel): _touched(kernel) for kernel in program.kernels}
        every = {b: self._bytes(b) for own in self._touched.values() for b in own}
        self.whole = float(sum(every.values()))
        # Bytes touched up to the last touch of every buffer; a call before this one touched all in the same order.
        self._last: dict[Buffer, float] = {}
        clock = 0.0
        for own in self._touched.values():
            self._last.update(dict.fromkeys(own, clock))
            clock += sum(every[b] for b in own)
        self._last = {b: at - clock for b, at in self._last.items()}
        self._clock = 0.0

    def number(self, size: Size) -> int:
        """A size in numbers."""
        if isinstance(size, int):
            return size
        found = self.known.get(size)
        if found is None:
            found = self.known[size] = evaluate(size, self.numbers)
        return found

    def _bytes(self, buffer: Buffer) -> float:
        found = self._sizes.get(buffer.root)
        if found is None:
            found = float(max(prod(map(self.number, buffer.root.shape)), 0) * BYTES[buffer.dtype])
            self._sizes[buffer.root] = found
        return found

    def of(self, kernel: Kernel, loops: Mapping[int, Loop]) -> list[Moved]:
        """The next kernel, whose loops run as told."""
        accesses: dict[object, _Access] = {}
        columns: set[Buffer] = set()
        again: list[tuple[float, int]] = []  # what every block is multiplied with: bytes, and the loop over blocks
        for stmt, around in walk(kernel.body):
            if isinstance(stmt, (Load, Store)):
                one = self._access(stmt, around, loops)
                accesses.setdefault((one.buffer, one.loops, tuple(sorted(one.steps.items())), one.written), one)
            elif isinstance(stmt, Call) and stmt.routine == "gemm":  # a panel of columns after the other
                columns.update(b.root for b in stmt.writes)
                panels = stmt.args[13]
                if isinstance(panels, Pointer):
                    again.append((self._bytes(panels.buffer), id(around[-1])))
        footprint: dict[int, float] = {}
        passes: dict[int, dict[Buffer, list[_Access]]] = {}
        for one in accesses.values():
            own = passes.setdefault(one.loops[0] if one.loops else 0, {})
            own.setdefault(one.buffer, []).append(one)
            for depth, name in enumerate(one.loops):
                footprint[name] = footprint.get(name, 0.0) + self._unique(one, one.loops[depth + 1 :], loops)
        found: list[Moved] = []
        for one in accesses.values():
            found += self._again(one, footprint, loops)
        for size, name in again:
            distance = footprint.get(name, 0.0) + sum(s for s, other in again if other == name)
            found.append((max(_loop(loops, name).trips - 1, 0.0) * size, distance, False))
        touched = self._touched[id(kernel)]
        seen: dict[Buffer, float] = {}
        here = 0.0
        for own in passes.values():
            sizes = {buffer: self._swept(buffer, mine, loops) for buffer, mine in own.items()}
            for buffer, size in sizes.items():
                since = here - seen[buffer] if buffer in seen else self._since(buffer)
                most = max(own[buffer], key=lambda a: self._unique(a, a.loops, loops))
                if buffer not in seen or since > _NEAR:
                    moved = 2 * size if any(a.written for a in own[buffer]) else size
                    found.append((moved, min(since, self.whole), self._apart(most, loops)))
                seen[buffer] = here
            here += sum(sizes.values())
        for buffer in touched:
            if buffer not in seen:  # in a routine
                moved = self._bytes(buffer) * (2 if buffer in columns else 1)
                found.append((moved, min(self._since(buffer), self.whole), buffer in columns))
        self._last.update(dict.fromkeys(touched, self._clock))
        self._clock += sum(map(self._bytes, touched))
        return found

    def _since(self, buffer: Buffer) -> float:
        """Bytes touched since an earlier kernel touched a buffer."""
        return self._clock - self._last[buffer]

    def _swept(self, buffer: Buffer, mine: Sequence[_Access], loops: Mapping[int, Loop]) -> float:
        """Bytes of a buffer that one pass over it touches."""
        size = self._bytes(buffer)
        return size if any(a.unknown for a in mine) else min(size, sum(self._unique(a, a.loops, loops) for a in mine))

    def _access(self, stmt: Load | Store, around: Sequence[For], loops: Mapping[int, Loop]) -> _Access:
        index = flatten(stmt.index, stmt.buffer.shape)
        each = BYTES[stmt.buffer.dtype]
        steps: dict[int, float] = {}
        unknown = False
        places = {f.var: id(f) for f in around}
        for name, factor in index.terms:
            if name[0] == "%":
                unknown = True
                continue
            for own, by in _loop(loops, places[name]).moves.items():
                step = float(self.number(factor) * each) * by
                steps[places[own]] = steps.get(places[own], 0.0) + step
        steps = {place: step for place, step in steps.items() if step}
        written = isinstance(stmt, Store)
        return _Access(stmt.buffer.root, tuple([id(f) for f in around]), steps, unknown, written)

    def _unique(self, access: _Access, inside: Sequence[int], loops: Mapping[int, Loop]) -> float:
        """Bytes that the loops inside touch, whole lines where elements lie apart."""
        each = float(BYTES[access.buffer.dtype])
        count = 1.0
        for key in inside:
            if access.unknown or key in access.steps:
                count *= max(_loop(loops, key).trips, 1.0)
        steps: list[float] = []
        for key, step in access.steps.items():
            width = _loop(loops, key).width
            if width > 1:
                count *= width
            if width > 1 or key in inside:
                steps.append(abs(step) / width)
        if steps and not access.unknown:
            each = max(each, min([_LINE, *steps]))
        return min(count * each, self._bytes(access.buffer))

    def _apart(self, access: _Access, loops: Mapping[int, Loop]) -> bool:
        """Whether what is written next lies in another line."""
        inner = [name for name in access.loops if name in access.steps]
        if not (access.written and inner):
            return False
        return abs(access.steps[inner[-1]]) / _loop(loops, inner[-1]).width >= _LINE

    def _again(
        self, access: _Access, footprint: Mapping[int, float], loops: Mapping[int, Loop]
    ) -> list[Moved]:
        """What loops come back to that the access does not move with, or moves in the same lines with."""
        found: list[Moved] = []
        for depth, name in enumerate(access.loops):
            trips = _loop(loops, name).trips
            inside = access.loops[depth + 1 :]
            step = abs(access.steps.get(name, 0.0))
            if trips <= 1 or not inside or step >= _LINE:
                continue
            outer = 1.0
            for other in access.loops[:depth]:
                outer *= max(_loop(loops, other).trips, 1.0)
            own = self._unique(access, inside, loops)
            distance = footprint[name]
            if distance <= _NEAR:
                continue
            again = 1.0 - step / _LINE if step else 1.0
            again *= 2 if access.written else 1
            found.append((outer * (trips - 1) * own * again, distance, self._apart(access, loops)))
        return found


def _touched(kernel: Kernel) -> list[Buffer]:
    """The arrays that a kernel touches, in the order in which it first does."""
    return list(dict.fromkeys(buffer.root for stmt in statements(kernel.body) for buffer, _ in places_of(stmt)))


_NEVER: Final = Loop(0.0, {})


def _loop(loops: Mapping[int, Loop], key: int) -> Loop:
    """A loop by its identity; one inside a loop that does not run does not run."""
    return loops.get(key, _NEVER)
