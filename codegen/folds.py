"""Values that loops carry round: in a register from iteration to iteration, or as partial results in memory.

`Carried` serves plain loops, `Partial` vector loops: there a reduction has `LANES` partial results, element k going to
number k mod `LANES`, folded by halves behind the loop, so that results do not depend on the width of registers.
"""

from __future__ import annotations

from collections.abc import Callable

from codegen import scalars
from codegen.loops import Carry
from codegen.text import BYTES, constant, memory_type, register_type
from codegen.writer import ScalarWriter

LANES = 32


class Carried:
    """A value that a plain loop carries round."""

    def __init__(self, writer: ScalarWriter, carry: Carry, width: int) -> None:
        self.writer, self.carry, self.width = writer, carry, width
        self.type = register_type(carry.dtype, width)
        self.now, self.next = writer.lines.fresh("acc"), ""
        if carry.kind == "scan":
            self.init = constant(carry.init, carry.dtype, width)
            writer.define(carry.inside, self.now, width > 1, carry.dtype)
        else:
            self.init = scalars.identity(carry.kind, carry.dtype, width)

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

    def finish(self) -> None:
        """Define the result behind the loop."""
        self.writer.define(self.carry.out, self.now, self.width > 1, self.carry.dtype)


class Partial:
    """The partial results of a reduction over a vector loop: `LANES` of them in memory."""

    def __init__(self, writer: ScalarWriter, carry: Carry) -> None:
        self.writer, self.carry = writer, carry
        lines = writer.lines
        dtype = carry.dtype
        self.type = register_type(dtype, LANES)
        self.memory = lines.fresh("lanes")
        kind = memory_type(dtype, LANES)
        writer.once(self.memory, f"  {self.memory} = alloca {kind}, align 64")
        writer.to_memory(scalars.identity(carry.kind, dtype, LANES), self.memory, dtype, LANES, BYTES[dtype])
        self.width, self.registers = LANES, False
        self.now, self.next = "", ""

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
        lane = lines.emit(f"and i64 {place_in}, {LANES - 1}")
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
        if self.registers:
            self.writer.to_memory(self.now, self.memory, self.carry.dtype, LANES, BYTES[self.carry.dtype])

    def finish(self) -> None:
        """Fold the partial results by halves."""
        writer, lines, dtype = self.writer, self.writer.lines, self.carry.dtype
        total = writer.from_memory(self.memory, dtype, LANES, BYTES[dtype])
        width = LANES
        while width > 1:
            kind, half = register_type(dtype, width), width // 2
            parts: list[str] = []
            for first in (0, half):
                picked = ", ".join(f"i32 {first + i}" for i in range(half))
                parts.append(
                    lines.emit(f"extractelement {kind} {total}, i64 {first}") if half == 1 else
                    lines.emit(f"shufflevector {kind} {total}, {kind} poison, <{half} x i32> <{picked}>")
                )  # fmt: skip
            total = scalars.combine(lines, self.carry.kind, dtype, parts[0], parts[1], half)
            width = half
        writer.define(self.carry.out, total, False, dtype)
