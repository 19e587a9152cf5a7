"""A function of LLVM IR under construction: lines, fresh names, types, and what its module must declare.

Takes instructions as text; gives the text of the function. A `Module` collects functions, the intrinsics they call and
the math functions they need, at every width.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from codegen import vmath
from codegen.llvm.alike import Function, texts
from symdiff.ir.builder import number_of

REGISTER = {"f64": "double", "f32": "float", "i64": "i64", "bool": "i1"}
MEMORY = {"f64": "double", "f32": "float", "i64": "i64", "bool": "i8"}
BYTES = {"f64": 8, "f32": 4, "i64": 8, "bool": 1}


def register_type(dtype: str, width: int) -> str:
    """The LLVM type of a scalar, or of so many lanes."""
    return REGISTER[dtype] if width == 1 else f"<{width} x {REGISTER[dtype]}>"


def memory_type(dtype: str, width: int) -> str:
    """The LLVM type of elements in memory; booleans are bytes there."""
    return MEMORY[dtype] if width == 1 else f"<{width} x {MEMORY[dtype]}>"


def suffix(dtype: str, width: int) -> str:
    """The part of an intrinsic's name that says its type."""
    kind = {"bool": "i1"}.get(dtype, dtype)
    return kind if width == 1 else f"v{width}{kind}"


def literal(number: Any, dtype: str) -> str:
    """A scalar constant; floats as bit patterns, exact numbers rounded once."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype == "i64":
        return str(int(number))
    value = _rounded(number, dtype)
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _rounded(number: Any, dtype: str) -> float:
    value = float(number_of(number))
    if dtype == "f32" and math.isfinite(value):
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
    return value


def constant(number: Any, dtype: str, width: int) -> str:
    """A constant in every lane."""
    text = literal(number, dtype)
    return text if width == 1 else f"splat ({REGISTER[dtype]} {text})"


PLAIN = '"plain"'
"""Attribute of functions without loops of their own, which the engine simplifies no further."""
WRITTEN = '"written"'
"""Attribute of functions that are as machine code should be, which no pass needs to look at."""


def registers(register_bytes: int, fma: bool) -> int:
    """How many vector registers there are; those of 16 bytes are 32 where they have fused multiply-adds (NEON)."""
    return 32 if register_bytes == 64 or (register_bytes == 16 and fma) else 16


class Module:
    """Everything one LLVM module needs besides its own functions."""

    def __init__(
        self, register_bytes: int, fma: bool, fast: bool = False, threads: int = 1, written: bool = False
    ) -> None:
        self.threads = threads
        self.written = written
        self.register_bytes = register_bytes
        self.fma = fma
        # Never nnan or ninf: NaN and infinity keep their meaning. Nor arcp: the reciprocal of a denormal overflows.
        self.flags = " reassoc nsz contract" if fast else ""
        self.declarations: set[str] = set()
        self.math: dict[tuple[str, int], dict[str, int]] = {}
        self.routines: dict[tuple[str, str], None] = {}
        self.moved: set[int] = set()
        """Bytes of the elements of rows that are moved (`codegen.kernels.staged`)."""
        self.functions: list[Function | str] = []

    @property
    def registers(self) -> int:
        """How many vector registers there are."""
        return registers(self.register_bytes, self.fma)

    @property
    def attributes(self) -> str:
        """Attributes of every function here."""
        bits = self.register_bytes * 8
        own = f" {WRITTEN}" if self.written else ""
        return f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"{own}'

    def declare(self, line: str) -> None:
        """Declare an external function or intrinsic, or define a small function, once."""
        self.declarations.add(line)

    def use_math(self, name: str, dtype: str, width: int) -> str:
        """The symbol of a vector math function; its text is added to the module."""
        names = self.math.setdefault((dtype, width), {})
        names[name] = names.get(name, 0) + 1
        return vmath.symbol(name, dtype, width)

    def text(self) -> str:
        """The whole module."""
        calls = sum(sum(names.values()) for names in self.math.values())
        parts: list[str] = []
        for (dtype, width), names in self.math.items():
            for name in names:
                most = _INLINE_POWERS if name == "pow" else _INLINE_CALLS
                parts.append(vmath.definitions([name], dtype, width, inline=calls <= most))
            self.declarations.update(vmath.declarations(names, dtype, width))
        return "\n".join([*texts(self.functions), *parts, *sorted(self.declarations)]) + "\n"


_INLINE_CALLS = 8
"""Up to so many calls of math functions they are inlined; where more are, LLVM mixes them until no register is left."""
_INLINE_POWERS = 24
"""Up to so many are powers inlined: those of one number then share its logarithm."""


class Lines:
    """The body of a function, with fresh names and labels."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.block = "entry"
        self._fresh = 0

    def fresh(self, hint: str = "v") -> str:
        """A name that is not used yet."""
        self._fresh += 1
        return f"%{hint}{self._fresh}"

    def label(self, hint: str) -> str:
        """A label that is not used yet."""
        self._fresh += 1
        return f"{hint}{self._fresh}"

    def emit(self, text: str) -> str:
        """An instruction with a result; returns its name."""
        self._fresh += 1
        name = f"%v{self._fresh}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append("  " + text)

    def begin(self, label: str) -> None:
        """Start a block."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        """Leave the block and go on in the next, which starts here."""
        self.do(f"br label %{label}")
        self.begin(label)

    def loop(
        self, extent: str, body: Callable[[str], None], step: int | str = 1, start: str = "0",
        more: Callable[[str, str], Sequence[str]] | None = None,
    ) -> str:  # fmt: skip
        """Run `body` with the counter's text, from `start` to below `extent`; returns the counter, as it is behind.

        more: other values at the head, given the blocks before the loop and at its end.
        """
        head, inside, done = self.label("loop"), self.label("body"), self.label("done")
        counter, following = self.fresh("i"), self.fresh("n")
        before = self.block
        self.jump(head)
        position = len(self.lines)
        test = self.emit(f"icmp slt i64 {counter}, {extent}")
        self.do(f"br i1 {test}, label %{inside}, label %{done}")
        self.begin(inside)
        body(counter)
        self.do(f"{following} = add nsw i64 {counter}, {step}")
        latch = self.block
        self.do(f"br label %{head}")
        self.lines[position:position] = [
            f"  {counter} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]",
            *(more(before, latch) if more is not None else ()),
        ]
        self.begin(done)
        return counter

    def least(self, a: str, b: str | int) -> str:
        """The smaller of two sizes."""
        return self.intrinsic("llvm.smin.i64", "i64", [("i64", a), ("i64", str(b))])

    def most(self, a: str, b: str | int) -> str:
        """The larger of two sizes."""
        return self.intrinsic("llvm.smax.i64", "i64", [("i64", a), ("i64", str(b))])

    def splat(self, text: str, kind: str, width: int) -> str:
        """A scalar in every lane; alone where there is one."""
        if width == 1:
            return text
        if text[0] != "%":
            return f"splat ({kind} {text})"
        lanes = f"<{width} x {kind}>"
        one = self.emit(f"insertelement {lanes} poison, {kind} {text}, i64 0")
        return self.emit(f"shufflevector {lanes} {one}, {lanes} poison, <{width} x i32> zeroinitializer")

    def intrinsic(self, name: str, result: str, args: list[tuple[str, str]]) -> str:
        """Call an intrinsic or external function by its full name; returns the result's name."""
        self.module.declare(f"declare {result} @{name}({', '.join(t for t, _ in args)})")
        return self.emit(f"call {result} @{name}({', '.join(f'{t} {a}' for t, a in args)})")
