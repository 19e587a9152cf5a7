"""Scalar instructions and memory accesses of a kernel as LLVM instructions, one value or one for each lane.

The lower half of `codegen.kernels.emit`: names, sizes, pointers, affine indices, loads and stores with masks. Promise:
an access that steps by one element from lane to lane is one vector access, one that does not step is a scalar access,
all others gather or scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from codegen.analysis.couples import Half
from codegen.analysis.uses import Uses
from codegen.ir.index import Index, flatten, without
from codegen.ir.loops import Buffer, Carry, Let, Load, Store
from codegen.kernels import gangs
from codegen.llvm import scalars
from codegen.llvm.alike import Function, Opening, reading
from codegen.llvm.text import BYTES, Lines, Module, constant, memory_type, register_type, suffix
from symdiff.ir.dims import Size

WORKSPACE, DISTANCE, FIRST = 0, 1, 2
"""Places in the table of pointers: the workspace of the first thread, the bytes from what one thread has for itself to
what the next one has, and the first buffer."""

Named: TypeAlias = "tuple[str, bool]"
"""A scalar's text, and whether it has one value for each lane."""
Slot: TypeAlias = "tuple[int, bool, str]"
"""Where in the workspace a scalar is, whether it has lanes, and its dtype."""


@dataclass(eq=False, slots=True)
class Tables:
    """What the kernels of a program share: slots of sizes and of pointers, and the workspace they need."""

    program: str
    sizes: dict[Size, int] = field(default_factory=dict[Size, int])
    pointers: dict[Buffer, int] = field(default_factory=dict[Buffer, int])
    workspace: int = 0

    def size(self, size: Size) -> int:
        """The slot of a size."""
        return self.sizes.setdefault(size, len(self.sizes))


@dataclass(eq=False, slots=True)
class Scope:
    """Names that hold in the block being written: lanes, their mask, values broadcast to all lanes.

    left: how many iterations are left, where lanes are masked; lanes: their numbers, once they were asked for.
    """

    width: int = 1
    mask: str = ""
    vector: str = ""
    left: str = ""
    lanes: Sequence[str] = ()
    splats: dict[int, str] = field(default_factory=dict[int, str])
    couples: dict[tuple[str, int], Sequence[str]] = field(default_factory=dict[tuple[str, int], Sequence[str]])


class ScalarWriter:
    """Writes the statements of one function."""

    def __init__(self, module: Module, tables: Tables, symbol: str, lanes: int, uses: Uses) -> None:
        self.module, self.tables, self.symbol, self.lanes, self.uses = module, tables, symbol, lanes, uses
        self.lines = Lines(module)
        self.lines.block = "start"
        self.head: dict[object, Opening] = {}
        self.env: dict[int, Named] = {}
        self.saved: dict[int, Slot] = {}
        self.dtypes: dict[int, str] = {}
        self.deferred: dict[int, Let] = {}
        """Products that wait for the sum they are fused into, of which rows side by side have one each."""
        self.vars: dict[str, str] = {}
        self.stops: dict[str, str] = {}
        self.scope = Scope()
        self.chunks = 0
        self.thread = ""  # the number of the thread, in kernels that threads share
        self.staged: dict[tuple[Buffer, Index], str] = {}
        """Where rows of results are written at the moment; the counter of the vector loop is added to that."""

    def function(self, result: str, parameters: str, apart: bool = False) -> Function:
        """The finished function; `apart`: it stays one of its own."""
        attributes = f"{'noinline ' if apart else ''}{self.module.attributes}"
        head = tuple(self.head.values())
        return Function(self.symbol, result, parameters, attributes, head, "\n".join(self.lines.lines))

    # ---------------------------------------------------------------- sizes, pointers, indices
    def once(self, name: str, text: str) -> str:
        """An instruction at the head of the function."""
        if name not in self.head:
            self.head[name] = Opening(name, text)
        return name

    def read(self, kind: str, table: str, number: int) -> str:
        """An element of a table, read at the head of the function."""
        found = self.head.get((table, number))
        if found is None:
            found = self.head[table, number] = reading(f"%{table[1]}{len(self.head)}", kind, table, number)
        return found.name

    def size(self, size: Size) -> str:
        return str(size) if isinstance(size, int) else self.read("i64", "%sz", self.tables.size(size))

    def pointer(self, buffer: Buffer) -> str:
        place = self.read("ptr", "%pt", self.tables.pointers[buffer.root])
        if not (self.thread and buffer.root.private):
            return place
        name = f"{place}.own"
        return name if name in self.head else self.once(name, f"  {name} = {self.own(place)}")

    def own(self, pointer: str) -> str:
        """The place of this thread, given that of the first one."""
        self.once("%mine", (
            f"  %far = getelementptr inbounds i64, ptr %pt, i64 {DISTANCE}\n"
            f"  %distance = load i64, ptr %far, !invariant.load !0\n  %mine = mul i64 %distance, {self.thread}"
        ))  # fmt: skip
        return f"getelementptr inbounds i8, ptr {pointer}, i64 %mine"

    def times(self, a: str, b: str) -> str:
        if a == "1" or b == "1":
            return b if a == "1" else a
        if a.lstrip("-").isdigit() and b.lstrip("-").isdigit():
            return str(int(a) * int(b))
        return self.lines.emit(f"mul nsw i64 {a}, {b}")

    def plus(self, a: str, b: str) -> str:
        if a == "0" or b == "0":
            return b if a == "0" else a
        if a.lstrip("-").isdigit() and b.lstrip("-").isdigit():
            return str(int(a) + int(b))
        return self.lines.emit(f"add nsw i64 {a}, {b}")

    def offset(self, index: Index) -> tuple[str, Size, list[tuple[str, Size]]]:
        """An index as its part that is the same in all lanes, the factor of the lane number, and lane-wise scalars."""
        total = self.size(index.const)
        varying: list[tuple[str, Size]] = []
        step: Size = 0
        for name, factor in index.terms:
            if name[0] == "%":
                text, lanes = self.use(int(name[1:]))
                if lanes:
                    varying.append((text, factor))
                    continue
            else:
                text = self.vars[name]
                if name == self.scope.vector:
                    step = factor
            total = self.plus(total, self.times(self.size(factor), text))
        return total, step, varying

    def lane_numbers(self) -> str:
        return f"<{', '.join(f'i64 {k}' for k in range(self.scope.width))}>"

    def lanes_there(self) -> Sequence[str]:
        """The number of every lane, those that do not count as the last one that does; that may lie before lane 0."""
        scope = self.scope
        if not scope.left:
            return [str(k) for k in range(scope.width)]
        if not scope.lanes:
            last = self.lines.emit(f"sub i64 {scope.left}, 1")
            scope.lanes = tuple(self.lines.least(str(k), last) for k in range(scope.width))
        return scope.lanes

    def lane_offsets(self, index: Index) -> str:
        """An index as one i64 for each lane."""
        width = self.scope.width
        base, step, varying = self.offset(index)
        total = self.lines.splat(base, "i64", width)
        kind = f"<{width} x i64>"
        if step != 0:
            own = self.lines.splat(self.size(step), "i64", width)
            moved = self.lines.emit(f"mul nsw {kind} {own}, {self.lane_numbers()}")
            total = self.lines.emit(f"add nsw {kind} {total}, {moved}")
        for text, factor in varying:
            moved = text
            if factor != 1:
                moved = self.lines.emit(f"mul nsw {kind} {text}, {self.lines.splat(self.size(factor), 'i64', width)}")
            total = self.lines.emit(f"add nsw {kind} {total}, {moved}")
        return total

    # ---------------------------------------------------------------- scalars
    def use(self, name: int) -> Named:
        found = self.env.get(name)
        if found is None and name in self.deferred:
            self._arithmetic(self.deferred.pop(name))
            found = self.env[name]
        if found is None:
            slot, lanes, dtype = self.saved[name]
            width = self.scope.width if lanes else 1
            found = self.load_saved(slot, dtype, width), lanes
            self.env[name] = found
        return found

    def slot(self, slot: int) -> str:
        return self.lines.emit(f"getelementptr inbounds i8, ptr %ws, i64 {slot}")

    def load_saved(self, slot: int, dtype: str, width: int) -> str:
        return self.from_memory(self.slot(slot), dtype, width, align=BYTES[dtype])

    def save(self, slot: int, name: int) -> None:
        text, lanes = self.env[name]
        dtype = self.dtypes[name]
        self.to_memory(text, self.slot(slot), dtype, self.scope.width if lanes else 1, BYTES[dtype])

    def from_memory(self, address: str, dtype: str, width: int, align: int) -> str:
        kind = memory_type(dtype, width)
        value = self.lines.emit(f"load {kind}, ptr {address}, align {align}")
        return self._to_bool(value, width) if dtype == "bool" else value

    def _to_bool(self, value: str, width: int) -> str:
        kind = memory_type("bool", width)
        return self.lines.emit(f"icmp ne {kind} {value}, {'0' if width == 1 else 'zeroinitializer'}")

    def to_memory(self, text: str, address: str, dtype: str, width: int, align: int) -> None:
        text = self._as_bytes(text, width) if dtype == "bool" else text
        self.lines.do(f"store {memory_type(dtype, width)} {text}, ptr {address}, align {align}")

    def _as_bytes(self, text: str, width: int) -> str:
        return self.lines.emit(f"zext {register_type('bool', width)} {text} to {memory_type('bool', width)}")

    def lane_values(self, name: int) -> str:
        """A scalar as one value for each lane."""
        text, lanes = self.use(name)
        if lanes or self.scope.width == 1:
            return text
        found = self.scope.splats.get(name)
        if found is None:
            kind = register_type(self.dtypes[name], 1)
            found = self.lines.splat(text, kind, self.scope.width)
            self.scope.splats[name] = found
        return found

    def define(self, name: int, text: str, lanes: bool, dtype: str) -> None:
        self.env[name] = text, lanes
        self.dtypes[name] = dtype

    def let(self, stmt: Let) -> None:
        if stmt.op == "const":
            self.define(stmt.name, constant(stmt.attr, stmt.dtype, 1), False, stmt.dtype)
            return
        if stmt.op == "size":
            text = self.size(stmt.attr)
            if stmt.dtype != "i64":
                text = self.lines.emit(f"sitofp i64 {text} to {register_type(stmt.dtype, 1)}")
            self.define(stmt.name, text, False, stmt.dtype)
            return
        if stmt.op == "index":
            varies = any(self._varies(n) for n, _ in stmt.attr.terms)
            text = self.lane_offsets(stmt.attr) if varies else self.offset(stmt.attr)[0]
            self.define(stmt.name, text, varies, "i64")
            return
        if self.module.fma and stmt.name in self.uses.fused:
            self.deferred[stmt.name] = stmt
            self.env.pop(stmt.name, None)
            return
        self._arithmetic(stmt)

    def _arithmetic(self, stmt: Let) -> None:
        if stmt.op in ("add", "sub"):
            for position, arg in enumerate(stmt.args):
                if arg in self.deferred and arg not in self.env:
                    self._fused_sum(stmt, position)
                    return
        lanes = any(self.use(a)[1] for a in stmt.args)
        args = [self.lane_values(a) if lanes else self.use(a)[0] for a in stmt.args]
        operand = self.dtypes[stmt.args[-1]]
        width = self.scope.width if lanes else 1
        half = self.uses.halves.get(stmt.name)
        if half is not None and (half.begins or (half.pair, half.argument) in self.scope.couples):
            text = self._half(half, stmt.dtype, width)
        else:
            text = scalars.emit(self.lines, stmt.op, stmt.dtype, operand, args, width, stmt.attr)
        self.define(stmt.name, text, lanes, stmt.dtype)

    def abreast(self, stmts: Sequence[Let]) -> bool:
        """Define equal functions of several numbers as one function of a vector, if they can be."""
        width, couples, dtype = self.scope.width, self.scope.couples, stmts[0].dtype
        halves = [h for h in map(self.uses.halves.get, [s.name for s in stmts]) if h is not None]
        keys = {(h.pair, h.argument) for h in halves}
        if dtype not in ("f64", "f32") or (halves and len(keys) < len(stmts)):
            return False
        if any(not h.begins for h in halves) or not keys.isdisjoint(couples):
            return False
        used = {n for s in stmts for n in s.args}
        texts = {n: self.use(n) for n in used}
        if {self.dtypes[n] for n in used} != {dtype}:
            return False
        if width > 1 and not all(lanes for _, lanes in texts.values()):
            return False
        lanes = gangs.lanes_for(len(stmts), self.lanes) if width == 1 else 2 * width
        if halves:
            names = [texts[h.argument][0] for h in halves]
            found = gangs.couples(self.lines, halves[0].pair, dtype, names, width, lanes)
            couples.update({(h.pair, h.argument): both for h, both in zip(halves, found, strict=True)})
            made = [both[h.part] for h, both in zip(halves, found, strict=True)]
        else:
            made = gangs.call(self.lines, stmts[0], [[texts[n][0] for n in s.args] for s in stmts], width, lanes)
        for stmt, text in zip(stmts, made, strict=True):
            self.define(stmt.name, text, width > 1, dtype)
        return True

    def _fused_sum(self, stmt: Let, position: int) -> None:
        """A sum or difference with a product, rounded once."""
        product = self.deferred[stmt.args[position]]
        names = (*product.args, stmt.args[1 - position])
        lanes = any(self.use(n)[1] for n in names)
        a, b, c = [self.lane_values(n) if lanes else self.use(n)[0] for n in names]
        width = self.scope.width if lanes else 1
        kind = register_type(stmt.dtype, width)
        if stmt.op == "sub" and position == 1:
            a = self.lines.emit(f"fneg {kind} {a}")
        elif stmt.op == "sub":
            c = self.lines.emit(f"fneg {kind} {c}")
        self.define(stmt.name, self._fma(stmt.dtype, width, a, b, c), lanes, stmt.dtype)

    def _fma(self, dtype: str, width: int, a: str, b: str, c: str) -> str:
        kind = register_type(dtype, width)
        return self.lines.intrinsic(f"llvm.fma.{suffix(dtype, width)}", kind, [(kind, t) for t in (a, b, c)])

    def _varies(self, name: str) -> bool:
        """Whether a name in an index differs from lane to lane."""
        return self.use(int(name[1:]))[1] if name[0] == "%" else name == self.scope.vector

    def _half(self, half: Half, dtype: str, width: int) -> str:
        """One of two functions, both computed at once for the first of them that is asked for."""
        found = self.scope.couples.get((half.pair, half.argument))
        if found is None:
            argument = self.lane_values(half.argument) if width > 1 else self.use(half.argument)[0]
            found = gangs.both(self.lines, half.pair, dtype, argument, width)
            self.scope.couples[half.pair, half.argument] = found
        return found[half.part]

    def fold(self, carry: Carry, total: str, width: int) -> str:
        """One step of a reduction on `width` lanes."""
        if carry.kind == "sum" and carry.value in self.deferred and carry.value not in self.env:
            factors = self.deferred[carry.value].args
            a, b = [self.lane_values(f) if width > 1 else self.use(f)[0] for f in factors]
            return self._fma(carry.dtype, width, a, b, total)
        value = self.lane_values(carry.value) if width > 1 else self.use(carry.value)[0]
        return scalars.combine(self.lines, carry.kind, carry.dtype, total, value, width)

    # ---------------------------------------------------------------- memory
    def address(self, buffer: Buffer, offset: str) -> str:
        base = self.pointer(buffer)
        if offset == "0":
            return base
        kind = memory_type(buffer.dtype, 1)
        return self.lines.emit(f"getelementptr inbounds {kind}, ptr {base}, i64 {offset}")

    def _begin(self, buffer: Buffer, index: Index) -> str:
        """Where a store of neighbours begins."""
        vector = self.scope.vector
        row = self.staged.get((buffer.root, without(index, {vector}))) if self.staged else None
        if row is None:
            return self.address(buffer, self.offset(index)[0])
        kind = memory_type(buffer.dtype, 1)
        return self.lines.emit(f"getelementptr inbounds {kind}, ptr {row}, i64 {self.vars[vector]}")

    def _masked(self) -> str:
        scope = self.scope
        return scope.mask or "splat (i1 true)"

    def _reach(self, stmt: Load | Store) -> tuple[Index, bool, bool]:
        """The flat index, whether a value for each lane is in it, and whether lanes differ in it at all."""
        index = flatten(stmt.index, stmt.buffer.shape)
        names = {n for n, _ in index.terms}
        scattered = any(n[0] == "%" and self.use(int(n[1:]))[1] for n in names)
        return index, scattered, scattered or self.scope.vector in names

    def _lane_addresses(self, buffer: Buffer, index: Index) -> str:
        return self.lines.emit(
            f"getelementptr inbounds {memory_type(buffer.dtype, 1)}, ptr {self.pointer(buffer)}, "
            f"<{self.scope.width} x i64> {self.lane_offsets(index)}"
        )

    def load(self, stmt: Load) -> None:
        buffer, scope = stmt.buffer, self.scope
        dtype, width = buffer.dtype, scope.width
        index, scattered, moves = self._reach(stmt)
        align = BYTES[dtype]
        if not moves:
            address = self.address(buffer, self.offset(index)[0])
            self.define(stmt.name, self.from_memory(address, dtype, 1, align), False, dtype)
            return
        if not scattered and index.coefficient(scope.vector) == 1:
            address = self.address(buffer, self.offset(index)[0])
            if not scope.mask:
                value = self.from_memory(address, dtype, width, align)
            else:
                value = self._intrinsic_load("llvm.masked.load", "ptr", "p0", address, dtype, width, align)
        else:
            addresses = self._lane_addresses(buffer, index)
            value = self._intrinsic_load(
                "llvm.masked.gather", f"<{width} x ptr>", f"v{width}p0", addresses, dtype, width, align
            )
        self.define(stmt.name, value, True, dtype)

    def _intrinsic_load(
        self, name: str, pointer: str, word: str, address: str, dtype: str, width: int, align: int
    ) -> str:
        kind = memory_type(dtype, width)
        full = f"{name}.{_memory_suffix(dtype, width)}.{word}"
        self.module.declare(f"declare {kind} @{full}({pointer}, i32, <{width} x i1>, {kind})")
        value = self.lines.emit(
            f"call {kind} @{full}({pointer} {address}, i32 {align}, <{width} x i1> {self._masked()}, "
            f"{kind} zeroinitializer)"
        )
        return self._to_bool(value, width) if dtype == "bool" else value

    def store(self, stmt: Store) -> None:
        buffer, scope = stmt.buffer, self.scope
        dtype, width = buffer.dtype, scope.width
        index, scattered, moves = self._reach(stmt)
        align = BYTES[dtype]
        if width == 1 or not moves:
            text, lanes = self.use(stmt.value)
            assert not lanes, f"a value for each lane stored to one place of {buffer.name}"
            address = self.address(buffer, self.offset(index)[0])
            if stmt.fold:
                old = self.from_memory(address, dtype, 1, align)
                text = scalars.combine(self.lines, stmt.fold, dtype, old, text, 1)
            self.to_memory(text, address, dtype, 1, align)
            return
        text = self.lane_values(stmt.value)
        kind = memory_type(dtype, width)
        dense = not scattered and index.coefficient(scope.vector) == 1
        if dense:
            address, pointer, word = self._begin(buffer, index), "ptr", "p0"
        else:
            address = self._lane_addresses(buffer, index)
            pointer, word = f"<{width} x ptr>", f"v{width}p0"
        if stmt.fold:
            name = "llvm.masked.load" if dense else "llvm.masked.gather"
            old = self._intrinsic_load(name, pointer, word, address, dtype, width, align)
            text = scalars.combine(self.lines, stmt.fold, dtype, old, text, width)
        if dense and not scope.mask:
            self.to_memory(text, address, dtype, width, align)
            return
        text = self._as_bytes(text, width) if dtype == "bool" else text
        full = f"llvm.masked.{'store' if dense else 'scatter'}.{_memory_suffix(dtype, width)}.{word}"
        self.module.declare(f"declare void @{full}({kind}, {pointer}, i32, <{width} x i1>)")
        self.lines.do(
            f"call void @{full}({kind} {text}, {pointer} {address}, i32 {align}, <{width} x i1> {self._masked()})"
        )


def _memory_suffix(dtype: str, width: int) -> str:
    kind = {"bool": "i8"}.get(dtype, dtype)
    return f"v{width}{kind}"
