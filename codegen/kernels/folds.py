"""Values that loops carry round: in a register from iteration to iteration, or as partial results in memory.

`Carried` serves plain loops, `Partial` vector loops: there a reduction has `For.parts` partial results; element k goes
to number k modulo so many, and they are folded by halves behind the loop, so that results do not depend on the width of
registers.

Only a few values are added one after the other. The totals of many such stretches are added up together with what
their roundings leave (`Settled`; D. E. Knuth's exact two-term sum): errors stay those of a stretch, however long the
loop.
"""

from __future__ import annotations

from collections.abc import Callable

from codegen.analysis.facts import is_rounded
from codegen.ir.loops import Carry
from codegen.kernels.writer import ScalarWriter
from codegen.llvm import scalars
from codegen.llvm.compensated import two_sum, with_rest
from codegen.llvm.text import BYTES, Lines, constant, memory_type, register_type


class Carried:
    """A value that a plain loop carries round."""

    def __init__(self, writer: ScalarWriter, carry: Carry, width: int, init: str = "") -> None:
        self.writer, self.carry, self.width = writer, carry, width
        self.type = register_type(carry.dtype, width)
        self.now, self.next = writer.lines.fresh("acc"), ""
        if carry.kind == "scan":
            self.init = constant(carry.init, carry.dtype, width) if carry.start < 0 else writer.use(carry.start)[0]
            writer.define(carry.inside, self.now, width > 1, carry.dtype)
        else:
            self.init = init or scalars.identity(carry.kind, carry.dtype, width)

    def step(self) -> None:
        """Write what happens at the end of an iteration."""
        writer, carry, width = self.writer, self.carry, self.width
        if carry.kind == "scan":
            self.next = writer.lane_values(carry.value) if width > 1 else writer.use(carry.value)[0]
        else:
            self.next = writer.fold(carry, self.now, width)

    def phi(self, before: str, latch: str) -> str:
        """The value at the head of the loop."""
        return f"  {self.now} = phi {self.type} [ {self.init}, %{before} ], [ {self.next}, %{latch} ]"


def by_halves(lines: Lines, carry: Carry, width: int, parts: list[str]) -> str:
    """The total of partial results, the first half folded with the second again and again."""
    while len(parts) > 1:
        half = len(parts) // 2
        pairs = zip(parts[:half], parts[half:], strict=True)
        parts = [scalars.combine(lines, carry.kind, carry.dtype, a, b, width) for a, b in pairs]
    return parts[0]


class Settled:
    """The total of a reduction over the stretches of a loop; of a sum over many also what its roundings left."""

    def __init__(self, writer: ScalarWriter, carry: Carry, width: int, many: bool) -> None:
        self.writer, self.carry, self.width = writer, carry, width
        self.type = register_type(carry.dtype, width)
        self.head, self.rest = writer.lines.fresh("total"), writer.lines.fresh("rest")
        self.one, self.more, self.left, self.all = "", "", "", ""
        self.rounded = many and is_rounded(carry)

    def at_head(self, before: str, latch: str, following: tuple[str, str]) -> list[str]:
        """The values at the head of the loop; none count in the first stretch."""
        values = zip((self.head, self.rest), following, strict=True)
        return [
            f"  {now} = phi {self.type} [ poison, %{before} ], [ {then}, %{latch} ]"
            for now, then in (values if self.rounded else [(self.head, following[0])])
        ]

    def stretch(self) -> None:
        """Take the total of the stretch just written."""
        writer = self.writer
        self.one = writer.lane_values(self.carry.out) if self.width > 1 else writer.use(self.carry.out)[0]

    def add(self) -> None:
        """Fold it into the stretches before."""
        lines, carry = self.writer.lines, self.carry
        if not self.rounded:
            self.more = scalars.combine(lines, carry.kind, carry.dtype, self.head, self.one, self.width)
            return
        self.more, error = two_sum(lines, self.type, self.head, self.one)
        self.left = lines.emit(f"fadd {self.type} {self.rest}, {error}")

    def go_on(self, first: str, later: str) -> tuple[str, str]:
        """What the next stretch finds, coming from the first one or from a later one."""
        lines = self.writer.lines
        head = lines.emit(f"phi {self.type} [ {self.one}, %{first} ], [ {self.more}, %{later} ]")
        if not self.rounded:
            return head, ""
        zero = constant(0, self.carry.dtype, self.width)
        return head, lines.emit(f"phi {self.type} [ {zero}, %{first} ], [ {self.left}, %{later} ]")

    def close(self) -> None:
        """The total behind several stretches."""
        self.all = self.more
        if self.rounded:
            self.all = with_rest(self.writer.lines, self.carry.dtype, self.width, self.more, self.left)

    def finish(self, first: str, closing: str) -> None:
        """Define the result, coming from the only stretch or from the last of several."""
        total = self.writer.lines.emit(f"phi {self.type} [ {self.one}, %{first} ], [ {self.all}, %{closing} ]")
        self.writer.define(self.carry.out, total, self.width > 1, self.carry.dtype)


class Partial:
    """The partial results of a reduction over a vector loop: `count` of them in memory, or in registers to the end."""

    def __init__(self, writer: ScalarWriter, carry: Carry, count: int, begun: bool, stays: bool = False) -> None:
        """`begun`: a strip in registers comes first and writes them all. `stays`: they are never in memory."""
        self.writer, self.carry, self.count = writer, carry, count
        lines = writer.lines
        dtype = carry.dtype
        self.type = register_type(dtype, count)
        self.memory = "" if stays else lines.fresh("lanes")
        self.width, self.registers = count, False
        self.now, self.next = "", ""
        if stays:
            return
        kind = memory_type(dtype, count)
        writer.once(self.memory, f"  {self.memory} = alloca {kind}, align 64")
        if not begun:
            writer.to_memory(scalars.identity(carry.kind, dtype, count), self.memory, dtype, count, BYTES[dtype])

    def enter(self, width: int, in_registers: bool) -> Callable[[str, str], str] | None:
        """Begin a strip; in registers there is a value at the head of the loop."""
        self.width, self.registers = width, in_registers
        if not in_registers:
            return None
        self.now = self.writer.lines.fresh("acc")
        init = scalars.identity(self.carry.kind, self.carry.dtype, width)
        return lambda before, latch: (
            f"  {self.now} = phi {self.type} [ {init}, %{before} ], [ {self.next}, %{latch} ]"
        )

    def step(self, counter: str, start: str) -> None:
        """Fold the values of one iteration into their partial results; lanes are counted from `start`."""
        writer, lines, dtype = self.writer, self.writer.lines, self.carry.dtype
        if self.registers:
            self.next = writer.fold(self.carry, self.now, self.width)
            return
        place_in = counter if start == "0" else lines.emit(f"sub i64 {counter}, {start}")
        lane = lines.emit(f"and i64 {place_in}, {self.count - 1}")
        place = lines.emit(f"getelementptr inbounds {memory_type(dtype, 1)}, ptr {self.memory}, i64 {lane}")
        old = writer.from_memory(place, dtype, self.width, BYTES[dtype])
        new = writer.fold(self.carry, old, self.width)
        if writer.scope.mask:
            kind = register_type(dtype, self.width)
            mask = register_type("bool", self.width)
            new = lines.emit(f"select {mask} {writer.scope.mask}, {kind} {new}, {kind} {old}")
        writer.to_memory(new, place, dtype, self.width, BYTES[dtype])

    def leave(self) -> None:
        """End a strip."""
        if self.registers and self.memory:
            self.writer.to_memory(self.now, self.memory, self.carry.dtype, self.count, BYTES[self.carry.dtype])

    def pieces(self, width: int) -> list[str]:
        """The partial results behind a strip in registers, `width` of them in each."""
        kind = register_type(self.carry.dtype, self.count)
        return [_picked(self.writer.lines, kind, self.now, first, width) for first in range(0, self.count, width)]

    def finish(self, pieces: list[str] | None = None) -> None:
        """Fold the partial results by halves: those in memory, or the pieces they are in."""
        writer, lines, dtype = self.writer, self.writer.lines, self.carry.dtype
        parts = [writer.from_memory(self.memory, dtype, self.count, BYTES[dtype])] if pieces is None else pieces
        writer.define(self.carry.out, total(lines, self.carry, self.count // len(parts), parts), False, dtype)


def folded(writer: ScalarWriter, carry: Carry, piece: str) -> str:
    """Some partial results with the values of the iterations just written, under their mask."""
    width = writer.scope.width
    kind, mask = register_type(carry.dtype, width), register_type("bool", width)
    new = writer.fold(carry, piece, width)
    if not writer.scope.mask:
        return new
    return writer.lines.emit(f"select {mask} {writer.scope.mask}, {kind} {new}, {kind} {piece}")


def alone(writer: ScalarWriter, carry: Carry) -> str:
    """The partial results of the iterations just written, which are the first ones, under their mask."""
    width, dtype = writer.scope.width, carry.dtype
    kind, mask = register_type(dtype, width), register_type("bool", width)
    neutral = scalars.identity(carry.kind, dtype, width)
    new = writer.fold(carry, neutral, width)
    if not writer.scope.mask:
        return new
    return writer.lines.emit(f"select {mask} {writer.scope.mask}, {kind} {new}, {kind} {neutral}")


def upright(lines: Lines, carry: Carry, width: int, parts: list[str]) -> str:
    """The first partial results, in registers of so many lanes, folded by halves to one register."""
    neutral = scalars.identity(carry.kind, carry.dtype, width)
    return by_halves(lines, carry, width, [*parts, *[neutral] * ((1 << (len(parts) - 1).bit_length()) - len(parts))])


def total(lines: Lines, carry: Carry, width: int, parts: list[str]) -> str:
    """The first partial results, in registers of so many lanes, folded by halves to one number."""
    made = upright(lines, carry, width, parts)
    while width > 1:
        kind, width = register_type(carry.dtype, width), width // 2
        made = by_halves(lines, carry, width, [_picked(lines, kind, made, first, width) for first in (0, width)])
    return made


def _picked(lines: Lines, kind: str, vector: str, first: int, width: int) -> str:
    """Some lanes of a vector."""
    if width == 1:
        return lines.emit(f"extractelement {kind} {vector}, i64 {first}")
    picked = ", ".join(f"i32 {first + i}" for i in range(width))
    return lines.emit(f"shufflevector {kind} {vector}, {kind} poison, <{width} x i32> <{picked}>")
