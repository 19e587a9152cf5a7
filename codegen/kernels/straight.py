"""Long kernels without loops as LLVM code: scalar statements, very long ones in functions of `PIECE` statements each.

The quick way of `codegen.kernels.emit` for what it takes apart (`is_straight`): the same instructions, written in one
walk. Values are numbered as LLVM numbers them, which it reads faster than names. LLVM's time grows faster than the
length of a function; what one function hands to a later one goes through the workspace. A product is rounded together
with the sum it is used in, and sine and cosine of an angle, say, are computed together, also across functions. Within
one dear operations that do not wait for each other are taken together (`codegen.kernels.gangs`).
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.analysis.uses import Uses, uses_of
from codegen.analysis.waves import in_waves
from codegen.ir.index import flatten
from codegen.ir.loops import Buffer, Kernel, Let, Load, Stmt, Store
from codegen.kernels import gangs
from codegen.kernels.gangs import gang
from codegen.kernels.writer import WORKSPACE, Tables
from codegen.llvm import scalars
from codegen.llvm.text import BYTES, Lines, Module, literal, memory_type, register_type
from symdiff.ir.dims import Size

WHOLE = 12_000
"""Statements of a kernel up to which it is one function: what goes through the workspace is written and read again."""
PIECE = 4000
BLOCK = 500
"""Statements of a basic block, or up to half as many more: the time that LLVM takes to choose and to order
instructions grows with the square of them."""
SHORTEST = 200
"""Statements of a kernel from which it is written here."""
_WORDS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOATS = ("f64", "f32")
_SLOT = "getelementptr double, ptr %ws, i64"


def is_straight(kernel: Kernel) -> bool:
    """Whether a kernel is long and has nothing but scalar instructions, and accesses at fixed places."""
    if len(kernel.body) < SHORTEST:
        return False
    for stmt in kernel.body:
        if isinstance(stmt, Let):
            if stmt.op == "index":
                return False
        elif not isinstance(stmt, (Load, Store)) or any(i.terms for i in stmt.index):
            return False
    return True


def emit_straight(kernel: Kernel, module: Module, tables: Tables) -> str:
    """Write the kernel's functions; returns the symbol of the one to call."""
    symbol = f"@{tables.program}.{kernel.name}"
    work = _Straight(kernel.body, uses_of(kernel), module, tables)
    pieces = work.pieces()
    head = f"(ptr noalias readonly %sz, ptr noalias readonly %pt, ptr %ws) {module.attributes} {{\nentry:\n"
    calls: list[str] = []
    for number, lines in enumerate(pieces):
        module.functions.append(f"define internal void {symbol}.c{number}{head}{lines}\nret void\n}}\n")
        calls.append(f"call void {symbol}.c{number}(ptr %sz, ptr %pt, ptr %ws)\n")
    module.functions.append(
        f"define internal void {symbol}(ptr noalias readonly %sz, ptr noalias readonly %pt) {module.attributes} {{\n"
        f"entry:\n%wsa = getelementptr inbounds ptr, ptr %pt, i64 {WORKSPACE}\n%ws = load ptr, ptr %wsa\n"
        f"{''.join(calls)}ret void\n}}\n"
    )
    return symbol


class _Numbered(Lines):
    """The body of a function whose values are numbered in order."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.count = 0

    def emit(self, text: str) -> str:
        name = f"%{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(text)


class _Straight:
    """Writes the statements of a kernel piece by piece."""

    def __init__(self, body: Sequence[Stmt], uses: Uses, module: Module, tables: Tables) -> None:
        self.body, self.module, self.tables = body, module, tables
        self.fused, self.halves = uses.fused if module.fma else set[int](), uses.halves
        self.length = max(1, len(body)) if len(body) <= WHOLE else PIECE
        last = uses.last.items() if self.length < len(body) else ()
        self.last = {name: (position - 1) // self.length for name, position in last}
        """The last piece that reads a scalar, if there are several pieces."""
        self.other: dict[int, Let] = {}
        """For a function what is computed together with it."""
        products: dict[int, Let] = {}
        couples: dict[tuple[str, int], Let] = {}
        for stmt in body:
            if isinstance(stmt, Let):
                if stmt.name in self.fused:
                    products[stmt.name] = stmt
                elif stmt.name in self.halves:
                    half = self.halves[stmt.name]
                    other = couples.setdefault((half.pair, half.argument), stmt)
                    if other is not stmt:
                        ways = ((other, stmt), (stmt, other))
                        self.other |= {one.name: two for one, two in ways if self.halves[one.name].begins}
        if self.last:
            for name, product in products.items():  # its factors are read where the sum stands
                for factor in product.args:
                    self.last[factor] = max(self.last[factor], self.last[name])
        self.products = products
        self.constants: dict[int, str] = {}
        self.dtypes: dict[int, str] = {}
        """Dtypes other than f64."""
        self.slots: dict[int, int] = {}
        self.free: list[int] = []
        self.used = 0
        self.where: dict[int, str] = {}
        self.pointers: dict[Buffer, str] = {}
        self.lines = _Numbered(module)
        self.number = 0
        self.blocks = 0
        """Blocks of the piece behind the first."""

    def pieces(self) -> list[str]:
        """The bodies of the functions."""
        found: list[str] = []
        for number, start in enumerate(range(0, len(self.body), self.length)):
            self.where, self.pointers, self.lines = {}, {}, _Numbered(self.module)
            self.number = number
            self.blocks = 0
            self._piece(self.body[start : start + self.length])
            if self.blocks:
                self.lines.jump("end")
            found.append("\n".join(self.lines.lines))
            for name in [n for n in self.slots if self.last[n] <= self.number]:
                self.free.append(self.slots.pop(name))
        self.tables.workspace = max(self.tables.workspace, 8 * self.used)
        return found

    def _piece(self, body: Sequence[Stmt]) -> None:
        where, last, use, number = self.where, self.last, self.use, self.number
        lines, append = self.lines, self.lines.lines.append
        fused, dtypes, flags = self.fused, self.dtypes, self.module.flags
        body, most = in_waves(body, alike=True), 2 * self.module.register_bytes // BYTES["f64"]
        blocks = max(1, round(len(body) / BLOCK))
        ends = {len(body) * number // blocks for number in range(1, blocks)}
        for position, stmt in enumerate(body):
            if position in ends:
                self._next_block()
            if not isinstance(stmt, Let):
                self._access(stmt)
                continue
            name, op, args, dtype = stmt.name, stmt.op, stmt.args, stmt.dtype
            if dtype != "f64":
                dtypes[name] = dtype
            if name in fused or name in where or name in self.slots:
                continue
            if op in _WORDS and dtype in _FLOATS:
                a, b = args
                if a in fused or b in fused:
                    text = self._fused_sum(stmt)
                else:
                    x, y = where.get(a) or use(a), where.get(b) or use(b)
                    text = f"%{lines.count}"
                    lines.count += 1
                    append(f"{text} = {_WORDS[op]}{flags} {'double' if dtype == 'f64' else 'float'} {x}, {y}")
            elif op == "const":
                self.constants[name] = where[name] = literal(stmt.attr, dtype)
                continue
            elif op == "size":
                text = self.size(stmt.attr)
                if dtype != "i64":
                    text = lines.emit(f"sitofp i64 {text} to {register_type(dtype, 1)}")
            elif self._abreast(gang(body, position, most)):
                continue
            elif name in self.other:
                self._both(stmt)
                continue
            else:
                texts = [where.get(a) or use(a) for a in args]
                text = scalars.emit(lines, op, dtype, dtypes.get(args[-1], "f64"), texts, 1, stmt.attr)
            where[name] = text
            if last.get(name, -1) > number:
                self._save(name, text)

    def _next_block(self) -> None:
        """End the basic block in a branch that is always taken, which no pass can tell: they would join the blocks."""
        lines = self.lines
        self.blocks += 1
        further = lines.emit(f"icmp ugt ptr %pt, inttoptr (i64 {self.blocks} to ptr)")
        lines.do(f"br i1 {further}, label %b{self.blocks}, label %end")
        lines.begin(f"b{self.blocks}")

    # ---------------------------------------------------------------- scalars
    def use(self, name: int) -> str:
        """A scalar that this piece has not yet seen."""
        found = self.constants.get(name)
        if found is None:
            lines, slot, dtype = self.lines, self.slots[name], self.dtypes.get(name)
            if dtype is None:
                n = lines.count
                found, lines.count = f"%{n + 1}", n + 2
                lines.lines.append(f"%{n} = {_SLOT} {slot}\n{found} = load double, ptr %{n}")
            else:
                found = self._from_memory(lines.emit(f"{_SLOT} {slot}"), dtype)
        self.where[name] = found
        return found

    def _save(self, name: int, text: str) -> None:
        """Keep a scalar for later pieces."""
        if self.free:
            slot = self.free.pop()
        else:
            slot, self.used = self.used, self.used + 1
        self.slots[name] = slot
        lines, dtype = self.lines, self.dtypes.get(name)
        if dtype is None:
            lines.lines.append(f"%{lines.count} = {_SLOT} {slot}\nstore double {text}, ptr %{lines.count}")
            lines.count += 1
        else:
            self._to_memory(text, lines.emit(f"{_SLOT} {slot}"), dtype)

    def _fused_sum(self, stmt: Let) -> str:
        """A sum or difference with a product, rounded once."""
        position = 0 if stmt.args[0] in self.fused else 1
        a, b, c = [self.where.get(n) or self.use(n)
                   for n in (*self.products[stmt.args[position]].args, stmt.args[1 - position])]  # fmt: skip
        kind = register_type(stmt.dtype, 1)
        if stmt.op == "sub" and position == 1:
            a = self.lines.emit(f"fneg {kind} {a}")
        elif stmt.op == "sub":
            c = self.lines.emit(f"fneg {kind} {c}")
        return self.lines.emit(f"call {kind} {self._fma(stmt.dtype)}({kind} {a}, {kind} {b}, {kind} {c})")

    def _fma(self, dtype: str) -> str:
        """A function for the intrinsic, inlined by all tiers with passes: LLVM's quick instruction selection has no
        way with this intrinsic, but one with calls."""
        kind, symbol = register_type(dtype, 1), f"@sd.fma.{dtype}"
        self.module.declare(f"declare {kind} @llvm.fma.{dtype}({kind}, {kind}, {kind})")
        self.module.declare(
            f"define internal {kind} {symbol}({kind} %a, {kind} %b, {kind} %c) alwaysinline nounwind {{\n"
            f"%1 = call {kind} @llvm.fma.{dtype}({kind} %a, {kind} %b, {kind} %c)\nret {kind} %1\n}}"
        )
        return symbol

    def _abreast(self, stmts: Sequence[Let]) -> bool:
        """Equal functions of several numbers as one of a vector; whether they are."""
        stmts = [s for s in stmts if s.name not in self.where and s.name not in self.slots]
        if len(stmts) < 2 or stmts[0].dtype not in _FLOATS:
            return False
        dtype, names = stmts[0].dtype, [s.args[0] for s in stmts]
        if {self.dtypes.get(n, "f64") for s in stmts for n in s.args} != {dtype}:
            return False
        lanes = gangs.lanes_for(len(stmts), self.module.register_bytes // BYTES[dtype])
        coupled = {s.name in self.other for s in stmts}
        texts = [[self.where.get(n) or self.use(n) for n in s.args] for s in stmts]
        if coupled == {False}:
            for stmt, text in zip(stmts, gangs.call(self.lines, stmts[0], texts, 1, lanes), strict=True):
                self._define(stmt, text)
            return True
        if False in coupled or len(set(names)) < len(names):
            return False
        found = gangs.couples(self.lines, self.halves[stmts[0].name].pair, dtype, [t[0] for t in texts], 1, lanes)
        for stmt, both in zip(stmts, found, strict=True):
            self._define_both(stmt, both)
        return True

    def _define_both(self, stmt: Let, texts: tuple[str, str]) -> None:
        for let in (stmt, self.other[stmt.name]):
            self._define(let, texts[self.halves[let.name].part])

    def _define(self, let: Let, text: str) -> None:
        """A scalar that is not written where it stands."""
        if let.dtype != "f64":
            self.dtypes[let.name] = let.dtype
        self.where[let.name] = text
        if self.last.get(let.name, -1) > self.number:
            self._save(let.name, text)

    def _both(self, stmt: Let) -> None:
        """Two functions of a scalar, where the first of them stands."""
        text = self.where.get(stmt.args[0]) or self.use(stmt.args[0])
        self._define_both(stmt, gangs.both(self.lines, self.halves[stmt.name].pair, stmt.dtype, text, 1))

    # ---------------------------------------------------------------- memory
    def size(self, size: Size) -> str:
        """The i64 that a size is."""
        if isinstance(size, int):
            return str(size)
        address = self.lines.emit(f"getelementptr inbounds i64, ptr %sz, i64 {self.tables.size(size)}")
        return self.lines.emit(f"load i64, ptr {address}, !invariant.load !0")

    def _address(self, stmt: Load | Store) -> str:
        buffer = stmt.buffer
        base = self.pointers.get(buffer.root)
        if base is None:
            place = self.lines.emit(f"getelementptr inbounds ptr, ptr %pt, i64 {self.tables.pointers[buffer.root]}")
            base = self.pointers[buffer.root] = self.lines.emit(f"load ptr, ptr {place}, !invariant.load !0")
        offset = flatten(stmt.index, buffer.shape).const
        if offset == 0:
            return base
        kind = memory_type(buffer.dtype, 1)
        return self.lines.emit(f"getelementptr inbounds {kind}, ptr {base}, i64 {self.size(offset)}")

    def _access(self, stmt: Stmt) -> None:
        """A load or a store."""
        assert isinstance(stmt, (Load, Store))
        dtype = stmt.buffer.dtype
        if isinstance(stmt, Load):
            text = self._from_memory(self._address(stmt), dtype)
            self.where[stmt.name] = text
            if dtype != "f64":
                self.dtypes[stmt.name] = dtype
            if self.last.get(stmt.name, -1) > self.number:
                self._save(stmt.name, text)
            return
        text = self.where.get(stmt.value) or self.use(stmt.value)
        address = self._address(stmt)
        if stmt.fold:
            text = scalars.combine(self.lines, stmt.fold, dtype, self._from_memory(address, dtype), text, 1)
        self._to_memory(text, address, dtype)

    def _from_memory(self, address: str, dtype: str) -> str:
        text = self.lines.emit(f"load {memory_type(dtype, 1)}, ptr {address}")
        return self.lines.emit(f"icmp ne i8 {text}, 0") if dtype == "bool" else text

    def _to_memory(self, text: str, address: str, dtype: str) -> None:
        if dtype == "bool":
            text = self.lines.emit(f"zext i1 {text} to i8")
        self.lines.do(f"store {memory_type(dtype, 1)} {text}, ptr {address}")
