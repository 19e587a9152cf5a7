"""A small emitter of textual LLVM IR for branch-free vector math.

Takes: a vector width and calls on values that read like arithmetic (`r * p + q`, `b.fma(x, y, z)`).
Gives: the body of one LLVM function and the set of intrinsics that it calls.
Promises: the operations appear exactly as written (no reassociation, no contraction, no fast-math flag), so a body
computes the same bits at every width; equal operations on equal operands are emitted once; width 1 is plain scalars.

Floating constants are printed as bit patterns. Integer kinds have the same lane count as the floats, masks are `i1`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from math import isinf, isnan

FLOATS = {"f64": "double", "f32": "float"}
LANE_BITS = {"f64": 64, "f32": 32, "i64": 64, "i32": 32, "i1": 1}
_SHARED = 4
_SCALARS = {**FLOATS, "i64": "i64", "i32": "i32", "i1": "i1", "i128": "i128"}

Number = int | float


def type_text(kind: str, width: int) -> str:
    """`<8 x double>` and the like; a plain scalar type at width 1."""
    return _SCALARS[kind] if width == 1 else f"<{width} x {_SCALARS[kind]}>"


def suffix(kind: str, width: int) -> str:
    """The part of an intrinsic's name that says its type: `v8f64`, `f64`."""
    return kind if width == 1 else f"v{width}{kind}"


def float_text(value: float, kind: str) -> str:
    """The bit pattern LLVM reads back as exactly this value (rounded to binary32 first for f32)."""
    if kind == "f32":
        rounded: float = value if isinf(value) or isnan(value) else struct.unpack("<f", struct.pack("<f", value))[0]
        value = rounded
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Value:
    """One SSA value or constant; Python operators emit instructions into its builder."""

    __slots__ = ("build", "kind", "text")

    def __init__(self, build: Build, text: str, kind: str) -> None:
        self.build, self.text, self.kind = build, text, kind

    def _binary(self, other: Value | Number, float_op: str, int_op: str, swap: bool = False) -> Value:
        right = self.build.const(other, self.kind)
        op = float_op if self.kind in FLOATS else int_op
        return self.build.op2(op, right, self) if swap else self.build.op2(op, self, right)

    def __add__(self, other: Value | Number) -> Value:
        return self._binary(other, "fadd", "add")

    def __radd__(self, other: Number) -> Value:
        return self._binary(other, "fadd", "add", swap=True)

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: Number) -> Value:
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary(other, "fmul", "mul")

    def __rmul__(self, other: Number) -> Value:
        return self._binary(other, "fmul", "mul", swap=True)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._binary(other, "fdiv", "sdiv")

    def __rtruediv__(self, other: Number) -> Value:
        return self._binary(other, "fdiv", "sdiv", swap=True)

    def __neg__(self) -> Value:
        return self.build.negate(self)

    def __and__(self, other: Value | Number) -> Value:
        return self.build.op2("and", self, self.build.const(other, self.kind))

    def __or__(self, other: Value | Number) -> Value:
        return self.build.op2("or", self, self.build.const(other, self.kind))

    def __xor__(self, other: Value | Number) -> Value:
        return self.build.op2("xor", self, self.build.const(other, self.kind))

    def __invert__(self) -> Value:
        return self.build.op2("xor", self, self.build.const(-1, self.kind))

    def __lshift__(self, count: int) -> Value:
        return self.build.op2("shl", self, self.build.const(count, self.kind))

    def __rshift__(self, count: int) -> Value:
        """Logical shift: arithmetic shifts of 64-bit lanes are missing before AVX-512."""
        return self.build.op2("lshr", self, self.build.const(count, self.kind))

    def __lt__(self, other: Value | Number) -> Value:
        return self.build.compare("olt", "slt", self, other)

    def __le__(self, other: Value | Number) -> Value:
        return self.build.compare("ole", "sle", self, other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.build.compare("ogt", "sgt", self, other)

    def __ge__(self, other: Value | Number) -> Value:
        return self.build.compare("oge", "sge", self, other)

    def equals(self, other: Value | Number) -> Value:
        return self.build.compare("oeq", "eq", self, other)

    def unordered(self) -> Value:
        """Mask of the NaN lanes."""
        return self.build.compare("uno", "ne", self, self)


class Build:
    """Emits one function body, block by block."""

    def __init__(self, width: int, symbol: str) -> None:
        self.width, self.symbol = width, symbol
        self.intrinsics: set[str] = set()
        self.helpers: dict[str, str] = {}
        self.common: set[str] = set()
        self._lines: list[str] = []
        self._known: dict[tuple[str, ...], Value] = {}
        self._fresh = 0
        self._block = "entry"

    # -- plumbing ---------------------------------------------------------------------------------------------------

    def const(self, value: Value | Number, kind: str) -> Value:
        if isinstance(value, Value):
            return value
        if kind in FLOATS:
            text = float_text(float(value), kind)
        elif kind == "i1":
            text = "true" if value else "false"
        else:
            bits = int(kind[1:])
            integer = int(value) & ((1 << bits) - 1)
            text = str(integer - (1 << bits) if integer >> (bits - 1) else integer)
        if self.width > 1:
            text = f"splat ({_SCALARS[kind]} {text})"
        return Value(self, text, kind)

    def name(self) -> str:
        self._fresh += 1
        return f"%v{self._fresh}"

    def emit(self, kind: str, *parts: str) -> Value:
        """Emit `name = parts` unless the same instruction already dominates this point."""
        found = self._known.get(parts)
        if found is None:
            found = Value(self, self.name(), kind)
            self._lines.append(f"  {found.text} = {' '.join(parts)}")
            self._known[parts] = found
        return found

    def type(self, kind: str) -> str:
        return type_text(kind, self.width)

    # -- instructions -----------------------------------------------------------------------------------------------

    def op2(self, op: str, left: Value, right: Value) -> Value:
        return self.emit(left.kind, f"{op} {self.type(left.kind)} {left.text}, {right.text}")

    def negate(self, x: Value) -> Value:
        if x.kind in FLOATS:
            return self.emit(x.kind, f"fneg {self.type(x.kind)} {x.text}")
        return self.op2("sub", self.const(0, x.kind), x)

    def compare(self, float_op: str, int_op: str, left: Value, right: Value | Number) -> Value:
        other = self.const(right, left.kind)
        op = f"fcmp {float_op}" if left.kind in FLOATS else f"icmp {int_op}"
        return self.emit("i1", f"{op} {self.type(left.kind)} {left.text}, {other.text}")

    def select(self, mask: Value, yes: Value | Number, no: Value | Number) -> Value:
        kind = yes.kind if isinstance(yes, Value) else no.kind if isinstance(no, Value) else "f64"
        first, second = self.const(yes, kind), self.const(no, kind)
        if first.text == second.text:
            return first
        t = self.type(kind)
        return self.emit(kind, f"select {self.type('i1')} {mask.text}, {t} {first.text}, {t} {second.text}")

    def intrinsic(self, name: str, *args: Value) -> Value:
        kind, t = args[0].kind, self.type(args[0].kind)
        full = f"@llvm.{name}.{suffix(kind, self.width)}"
        self.intrinsics.add(f"declare {t} {full}({', '.join([t] * len(args))})")
        return self.emit(kind, f"call {t} {full}({', '.join(f'{t} {a.text}' for a in args)})")

    def fma(self, x: Value, y: Value | Number, z: Value | Number) -> Value:
        return self.intrinsic("fma", x, self.const(y, x.kind), self.const(z, x.kind))

    def sqrt(self, x: Value) -> Value:
        return self.intrinsic("sqrt", x)

    def fabs(self, x: Value) -> Value:
        return self.intrinsic("fabs", x)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        return self.intrinsic("copysign", magnitude, sign)

    def cast(self, op: str, x: Value, kind: str) -> Value:
        return self.emit(kind, f"{op} {self.type(x.kind)} {x.text} to {self.type(kind)}")

    def bits(self, x: Value) -> Value:
        return self.cast("bitcast", x, "i" + x.kind[1:])

    def float(self, x: Value) -> Value:
        return self.cast("bitcast", x, "f" + x.kind[1:])

    # -- small compositions -----------------------------------------------------------------------------------------

    def at_most(self, x: Value, bound: float) -> Value:
        """min(x, bound); a NaN stays a NaN."""
        return self.select(x > bound, bound, x)

    def at_least(self, x: Value, bound: float) -> Value:
        return self.select(x < bound, bound, x)

    def either(self, ones: Value, yes: float, no: float) -> Value:
        """A constant where all bits of `ones` are set, another where none is; no blend, any unit does it."""
        first, second = (struct.unpack("<q", struct.pack("<d", c))[0] for c in (yes, no))
        return self.float(ones & (first ^ second) ^ second)

    def rint(self, x: Value) -> tuple[Value, Value]:
        """Nearest integer of |x| < 2**51 (f32: 2**22) as a float, and the word whose low bits hold that integer."""
        magic = 1.5 * 2.0**52 if x.kind == "f64" else 1.5 * 2.0**23
        shifted = x + magic
        return shifted - magic, self.bits(shifted)

    def rint_of_product(self, x: Value, factor: float, plus: int = 0) -> tuple[Value, Value]:
        """The nearest integer of x * factor, and the word that holds it plus a number."""
        magic = (1.5 * 2.0**52 if x.kind == "f64" else 1.5 * 2.0**23) + plus
        shifted = self.fma(x, factor, magic)
        return shifted - magic, self.bits(shifted)

    def polynomial(self, x: Value, coefficients: Sequence[Value | float]) -> Value:
        """Sum of coefficients[i] * x**i: Estrin's order, and Horner's where it takes no longer with a product less."""
        terms: list[Value] = [self.const(c, x.kind) for c in coefficients]
        power = x
        while len(terms) > 1:
            if len(terms) == 3:
                return self.fma(power, self.fma(power, terms[2], terms[1]), terms[0])
            paired = [self.fma(power, terms[i + 1], terms[i]) for i in range(0, len(terms) - 1, 2)]
            if len(terms) % 2:
                paired.append(terms[-1])
            terms = paired
            if len(terms) > 1:
                power = power * power
        return terms[0]

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        result = self.const(coefficients[-1], x.kind)
        for c in reversed(coefficients[:-1]):
            result = self.fma(x, result, c)
        return result

    # -- blocks -----------------------------------------------------------------------------------------------------

    def any(self, mask: Value) -> str:
        """Text of an i1: is any lane of the mask set?"""
        if self.width == 1:
            return mask.text
        word = self.emit("word", f"bitcast {self.type('i1')} {mask.text} to i{self.width}")
        return self.emit("flag", f"icmp ne i{self.width} {word.text}, 0").text

    def start_block(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label

    def label(self, hint: str) -> str:
        self._fresh += 1
        return f"{hint}{self._fresh}"

    def rare(self, mask: Value, common: Sequence[Value], slow: Callable[[], Sequence[Value]]) -> list[Value]:
        """`common`, or what slow() computes when any lane of the mask is set (slow must serve every lane)."""
        slow_label, done = self.label("rare"), self.label("done")
        flag, start = self.any(mask), self._block
        self._lines.append(f"  br i1 {flag}, label %{slow_label}, label %{done}")
        known = dict(self._known)
        self.start_block(slow_label)
        replaced = slow()
        end = self._block
        self._lines.append(f"  br label %{done}")
        self._known = known
        self.start_block(done)
        return [self.phi(one.kind, (one, start), (other, end)) for one, other in zip(common, replaced, strict=True)]

    def phi(self, kind: str, *incoming: tuple[Value, str]) -> Value:
        found = Value(self, self.name(), kind)
        sources = ", ".join(f"[ {v.text}, %{label} ]" for v, label in incoming)
        self._lines.append(f"  {found.text} = phi {self.type(kind)} {sources}")
        return found

    def repeat(self, values: Sequence[Value], active: Callable[[Sequence[Value]], Value],
               step: Callable[[Sequence[Value]], Sequence[Value]]) -> list[Value]:
        """While any lane is active: values = step(values). step must leave the lanes that are not active unchanged."""
        head, body, done = self.label("head"), self.label("body"), self.label("done")
        before = self._block
        self._lines.append(f"  br label %{head}")
        self.start_block(head)
        places = len(self._lines)
        carried = [Value(self, self.name(), v.kind) for v in values]
        flag = self.any(active(carried))
        self._lines.append(f"  br i1 {flag}, label %{body}, label %{done}")
        known = dict(self._known)
        self.start_block(body)
        updated = step(carried)
        self._lines.append(f"  br label %{head}")
        self._lines[places:places] = [
            f"  {c.text} = phi {self.type(c.kind)} [ {v.text}, %{before} ], [ {u.text}, %{self._block} ]"
            for c, v, u in zip(carried, values, updated, strict=True)
        ]
        self._known = known
        self.start_block(done)
        return carried

    def lanes(self, x: Value, call: Callable[[str], Sequence[tuple[str, str]]]) -> list[Value]:
        """Apply a scalar computation lane by lane; call(text of the lane) gives (text, kind) of each scalar result."""
        if self.width == 1:
            return [Value(self, text, kind) for text, kind in call(x.text)]
        packed: list[Value] | None = None
        for lane in range(self.width):
            item = self.emit("lane", f"extractelement {self.type(x.kind)} {x.text}, i64 {lane}")
            results = call(item.text)
            if packed is None:
                packed = [Value(self, "poison", kind) for _, kind in results]
            packed = [
                self.emit(kind, f"insertelement {self.type(kind)} {old.text}, {_SCALARS[kind]} {text}, i64 {lane}")
                for old, (text, kind) in zip(packed, results, strict=True)
            ]
        assert packed is not None
        return packed

    def outlined(self, name: str, arguments: Sequence[Value],
                 body: Callable[[Build, Sequence[Value]], Sequence[Value]]) -> list[Value]:
        """Call a cold function of its own, so that rare work costs an inlined caller one call and no registers."""
        inner = Build(self.width, f"{self.symbol}.{name}")
        inputs = [Value(inner, f"%x{i}", a.kind) for i, a in enumerate(arguments)]
        results = body(inner, inputs)
        self.intrinsics |= inner.intrinsics
        self.helpers |= inner.helpers
        self.helpers[inner.symbol] = inner.function(inputs, results, "noinline cold nounwind")
        result = self.return_type(results)
        passed = ", ".join(f"{self.type(a.kind)} {a.text}" for a in arguments)
        called = self.emit("call", f"call {result} {inner.symbol}({passed}) cold").text
        if len(results) == 1:
            return [Value(self, called, results[0].kind)]
        return [self.emit(r.kind, f"extractvalue {result} {called}, {i}") for i, r in enumerate(results)]

    def shared(self, name: str, x: Value, body: Callable[[Build, Sequence[Value]], Sequence[Value]]) -> Value:
        """Call a long cold function, one for all widths from `_SHARED` on: it would take long to compile for each."""
        width = min(self.width, _SHARED)
        inner = Build(width, f"@sd.{name}.{suffix(x.kind, width)}")
        inputs = [Value(inner, "%x0", x.kind)]
        results = body(inner, inputs)
        self.intrinsics |= inner.intrinsics
        self.common.add(inner.function(inputs, results, "noinline cold nounwind"))
        part, whole = type_text(x.kind, width), self.type(x.kind)

        def lanes(start: int, count: int) -> str:
            return f"<{count} x i32> <{', '.join(f'i32 {start + k}' for k in range(count))}>"

        parts: list[str] = []
        for start in range(0, self.width, width):
            own = x.text
            if width < self.width:
                own = self.emit(x.kind, f"shufflevector {whole} {x.text}, {whole} poison, {lanes(start, width)}").text
            parts.append(self.emit(x.kind, f"call {part} {inner.symbol}({part} {own}) cold").text)
        while len(parts) > 1:
            kind, twice = type_text(x.kind, width), lanes(0, 2 * width)
            parts = [self.emit(x.kind, f"shufflevector {kind} {a}, {kind} {b}, {twice}").text
                     for a, b in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip
            width *= 2
        return Value(self, parts[0], x.kind)

    # -- whole functions --------------------------------------------------------------------------------------------

    def return_type(self, results: Sequence[Value]) -> str:
        types = [self.type(r.kind) for r in results]
        return types[0] if len(types) == 1 else f"{{ {', '.join(types)} }}"

    def function(self, arguments: Sequence[Value], results: Sequence[Value], attributes: str) -> str:
        """The finished definition; several results come back as a literal struct."""
        parameters = ", ".join(f"{self.type(a.kind)} {a.text}" for a in arguments)
        result = self.return_type(results)
        last = results[0].text
        if len(results) > 1:
            last = "poison"
            for i, r in enumerate(results):
                self._lines.append(f"  %out{i} = insertvalue {result} {last}, {self.type(r.kind)} {r.text}, {i}")
                last = f"%out{i}"
        if max(self.width * LANE_BITS[a.kind] for a in arguments) >= 512:
            attributes += ' "prefer-vector-width"="512" "min-legal-vector-width"="512"'
        head = f"define internal {result} {self.symbol}({parameters}) {attributes} {{"
        return "\n".join([head, "entry:", *self._lines, f"  ret {result} {last}", "}", ""])
