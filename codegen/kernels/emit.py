"""Kernels of the loop IR as functions of LLVM IR, with explicit vector code.

Takes a `Kernel`; adds one function to a `Module`, `@<program>.<kernel>(ptr sizes, ptr pointers)`, where `sizes` holds
the value of every size in `Tables.sizes` and `pointers` the address of every buffer.

A vector loop (`codegen.kernels.vectors`) runs its whole body on vectors, inner loops included (they step alike in all
lanes). Cheap bodies take 32 elements at a time, others one register; what is left is done under a mask. A sum over a
vector loop has 32 partial sums whatever the register, element k going to sum k mod 32, which are added up by halves; so
results do not depend on the width of the machine (16 in rows that are summed side by side, see `codegen.analysis.jam`).
Long sums are made of stretches (`codegen.kernels.stretches`). A body of more than `PIECE` instructions goes to
functions of their own that talk through a workspace, because LLVM's time grows faster than the length of a function;
kernels without loops are `codegen.kernels.straight`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codegen.analysis.facts import CHAIN, CHAINS, column_fold, in_stretches, light
from codegen.analysis.jam import FEW, Row, jammed, side_by_side
from codegen.analysis.strips import short_registers, vector_width
from codegen.analysis.uses import uses_of
from codegen.analysis.waves import in_waves, is_dear
from codegen.ir.index import Index, flatten
from codegen.ir.loops import (
    Call,
    Count,
    For,
    Kernel,
    Let,
    Load,
    Pointer,
    Stmt,
    Store,
    Trap,
    scalars_read,
    statements,
)
from codegen.kernels.columns import ColumnWriter
from codegen.kernels.gangs import gang
from codegen.kernels.narrow import NarrowWriter, narrow_rows
from codegen.kernels.records import Plan, Records, plan
from codegen.kernels.straight import emit_straight, is_straight
from codegen.kernels.writer import WORKSPACE, Scope, Tables
from codegen.llvm.text import Module
from codegen.products import dots, sharing
from codegen.products.gemm import HALF
from codegen.products.panels import HEAD
from symdiff.ir.dims import Size

PIECE = 12_000
"""Instructions of a function up to which, or half as many more, a stretch is written into it: what crosses from one
function to the next is written to memory and read again."""
_OF_DEAR = 40
"""Instructions of a dear function, about."""
RANGE = ", i64 %from, i64 %to, i64 %thread"
"""Parameters of a kernel whose iterations threads share."""


def emit_kernel(kernel: Kernel, module: Module, tables: Tables) -> tuple[str, bool]:
    """Write the kernel's function; returns its symbol and whether it returns a status."""
    if is_straight(kernel):
        return emit_straight(kernel, module, tables), False
    symbol = f"@{tables.program}.{kernel.name}"
    fails = any(isinstance(s, Trap) or (isinstance(s, Call) and s.status) for s in statements(kernel.body))
    writer = KernelWriter(module, tables, symbol, vector_width(kernel, module.register_bytes), uses_of(kernel))
    last = kernel.body[-1]
    if kernel.work is not None and isinstance(last, For):
        writer.shared, writer.thread, fails = last, "%thread", True
    writer.body(kernel.body)
    if fails:
        writer.lines.do("ret i32 0")
    else:
        writer.lines.do("ret void")
    module.functions.append(writer.function("i32" if fails else "void", RANGE if writer.thread else ""))
    return symbol, fails


class KernelWriter(ColumnWriter, NarrowWriter):
    """Writes the statements of one function."""

    # ---------------------------------------------------------------- control
    def body(self, body: Sequence[Stmt]) -> None:
        """Write statements in order, long straight stretches as functions of their own."""
        start = 0
        while start < len(body):
            end = start
            while end < len(body) and isinstance(body[end], (Let, Load, Store)):
                end += 1
            pieces = _pieces(body[start:end])
            if len(pieces) > 1:
                self._in_chunks(pieces)
                start = end
                continue
            self._stretch(body[start:end])
            for stmt in body[end : end + 1]:
                self._statement(stmt)
            start = end + 1

    def block(self, body: Sequence[Stmt]) -> None:
        """Write what is done with a block of rows, each loop nest as a function: LLVM's time is not linear."""
        for piece in self._closed(body):
            inner = list(statements(piece))
            ends = any(isinstance(s, Trap) or (isinstance(s, Call) and s.status) for s in inner)
            if ends or not any(isinstance(s, For) for s in piece):
                self.body(piece)
                continue
            writer = KernelWriter(self.module, self.tables, f"{self.symbol}.p{self.chunks}", self.lanes, self.uses)
            self.chunks += 1
            around = [n for n in self.vars if n in _around(inner)]
            writer.vars = {name: f"%var.{name}" for name in around}
            writer.stops = {name: f"%stop.{name}" for name in around if name in self.stops}
            writer.shared, writer.thread = self.shared, self.thread
            own = [(f"i64 {writer.vars[n]}", text) for n, text in self.vars.items() if n in writer.vars]
            own += [(f"i64 {writer.stops[n]}", text) for n, text in self.stops.items() if n in writer.stops]
            own += [("i64 %thread", "%thread")] if self.thread else []
            writer.body(piece)
            writer.lines.do("ret void")
            parameters = "".join(f", {parameter}" for parameter, _ in own)
            self.module.functions.append(writer.function("void", parameters, apart=True))
            self.lines.do(f"call void {writer.symbol}(ptr %sz, ptr %pt{''.join(f', i64 {text}' for _, text in own)})")

    def _closed(self, body: Sequence[Stmt]) -> list[list[Stmt]]:
        """Pieces of a body of which none uses another one's scalars."""
        pieces: list[list[Stmt]] = []
        last = -1
        for stmt in body:
            if last < self.uses.position[id(stmt)]:
                pieces.append([])
            pieces[-1].append(stmt)
            made = [stmt.name] if isinstance(stmt, (Let, Load)) else []
            made += [c.out for c in stmt.carries] if isinstance(stmt, For) else []
            last = max([last, *[self.uses.last.get(name, -1) for name in made]])
        return pieces

    def _stretch(self, body: Sequence[Stmt]) -> None:
        """Straight code: dear functions side by side, families of strided accesses moved row by row."""
        scope = self.scope
        body = in_waves(body, alike=scope.width == 1)
        windows = plan(body, scope.vector, scope.width) if scope.width > 1 else Plan()
        records, loaded = Records(self), set[int]()
        most, written = 2 * self.lanes if scope.width == 1 else 2, 0
        for window in windows.stores.get(-1, ()):
            records.store(window)
        for position, stmt in enumerate(body):
            window = windows.loads.get(position)
            together = gang(body, position, most) if position >= written else []
            if position < written:
                pass
            elif len(together) > 1 and self.abreast(together):
                written = position + len(together)
            elif window is not None and id(window) not in loaded:
                records.load(window)
                loaded.add(id(window))
            elif window is None and position not in windows.written:
                self._statement(stmt)
            for window in windows.stores.get(position, ()):
                records.store(window)

    def _statement(self, stmt: Stmt) -> None:
        if isinstance(stmt, Let):
            self.let(stmt)
        elif isinstance(stmt, Load):
            self.load(stmt)
        elif isinstance(stmt, Store):
            if self.rows is not None and stmt is self.rows.stores.get(stmt.value):
                self.settle(stmt, self.rows)
            else:
                self.store(stmt)
        elif isinstance(stmt, For):
            if stmt.vector and self.scope.width == 1:
                inner = column_fold(stmt)
                if inner is None:
                    self.vector_loop(stmt)
                else:
                    self.panels(
                        stmt, inner, self.range_of(stmt), lambda a, b: self.vector_steps(stmt, a, b, None)
                    )
            elif stmt.along:
                self._along(stmt)
            else:
                self._loop(stmt)
        elif isinstance(stmt, Trap):
            self._trap(self.use(stmt.cond)[0], str(stmt.status))
        else:
            self._call(stmt)

    def _trap(self, condition: str, status: str) -> None:
        out, on = self.lines.label("trap"), self.lines.label("on")
        self.lines.do(f"br i1 {condition}, label %{out}, label %{on}")
        self.lines.begin(out)
        self.lines.do(f"ret i32 {status}")
        self.lines.begin(on)

    def _call(self, stmt: Call) -> None:
        words: list[str] = []
        for arg in stmt.args:
            if isinstance(arg, Pointer):
                index = flatten(arg.index, arg.buffer.shape)
                words.append(f"ptr {self.address(arg.buffer, self.offset(index)[0])}")
            else:
                words.append("ptr null" if arg is None else f"i64 {self._count(arg)}")
        self.module.routines[stmt.routine, stmt.dtype] = None
        name = f"sd.{stmt.routine}.{stmt.dtype}"
        if stmt.routine == "gemm":
            name = sharing.symbol(stmt.dtype)
            words[-1] = self._packed(words[-1])
            words += [f"ptr {self._dots(stmt)}", f"i64 {self._threads()}"]
        call = f"call i32 @{name}({', '.join(words)})"
        info = self.lines.emit(call)
        if stmt.status:
            failed = self.lines.emit(f"icmp ne i32 {info}, 0")
            self._trap(failed, str(stmt.status))

    def _dots(self, product: Call) -> str:
        """What narrow products of rows with rows are left to, where this may be one."""
        left, right, column, scale, flags = (product.args[i] for i in (5, 7, 8, 11, 12))
        assert isinstance(flags, int)
        # Steps that are 1 by chance do not count: bits must not depend on the number of rows.
        if (left, right) != (1, 1) or column == 1 or flags & HALF:
            return "null"
        self.module.declare(dots.declaration(product.dtype, scale is not None))
        return f"@{dots.symbol(product.dtype, scale is not None)}"

    def _threads(self) -> str:
        """Threads that a matrix product may ask for: none where they share the loop around it."""
        if self.shared is None:
            return str(self.module.threads)
        alone = self.lines.emit(f"icmp eq i64 {self.size(self.shared.extent)}, 1")
        return self.lines.emit(f"select i1 {alone}, i64 {self.module.threads}, i64 1")

    def _packed(self, panels: str) -> str:
        """Panels behind the line that says whether there are any, or a null pointer."""
        if panels == "ptr null":
            return panels
        held = self.lines.emit(f"icmp ne i64 {self.lines.emit(f'load i64, {panels}')}, 0")
        data = self.lines.emit(f"getelementptr i8, {panels}, i64 {HEAD}")
        return f"ptr {self.lines.emit(f'select i1 {held}, ptr {data}, ptr null')}"

    def _count(self, arg: Size | Count) -> str:
        if not isinstance(arg, Count):
            return self.size(arg)
        return self.lines.emit(f"sub i64 {self.stops[arg.within]}, {self.vars[arg.within]}")

    def _along(self, loop: For) -> None:
        """What runs for some iterations of the vector loop around it; only under a mask these are not all."""
        scope = self.scope
        if scope.mask:
            self.scope = replace(scope)
            self.mask(self.lines.emit(f"sub i64 {self.size(loop.extent)}, {self.vars[loop.var]}"))
        self.body(loop.body)
        self.scope = scope

    def _loop(self, loop: For) -> None:
        """A plain loop; inside a vector loop its carried values have lanes."""
        start, extent = self.range_of(loop)
        if loop.joined:
            self.vars[loop.var], self.stops[loop.var] = start, extent
            self.body(loop.body)
            return
        if self.rows is not None and self.rows.loop is loop:
            if self.rows.totals:
                self.found(self.rows)
                return
            start, extent = self.rows.start, self.rows.stop
        row, fold = (jammed(loop), narrow_rows(loop)) if self.scope.width == 1 else (None, None)
        if fold is not None:
            start = self.narrow(loop, fold, start, extent)
        if row is not None and row.fold.parts == FEW:
            self._jam(row, start, extent)
            return
        self.inside += not loop.once
        chains = CHAINS if light(loop) else 1
        if in_stretches(loop, CHAIN * chains):
            self.stretches(loop, start, extent, CHAIN * chains, lambda one, a, b: self.steps(one, a, b, chains))
        else:
            self.steps(loop, start, extent, chains)
        self.inside -= not loop.once

    def _jam(self, row: Row, start: str, extent: str) -> None:
        """Rows, several side by side unless they are short, and then one by one."""
        count, several = side_by_side(row, self.lanes, self.module.registers)
        self.inside += 1

        def together(first: str) -> None:
            self.vars[row.var] = first
            self.body(several.before)
            self.long_loop(several.fold, *self.range_of(several.fold))
            self.body(several.behind)

        def alone(number: str) -> None:
            self.vars[row.var] = number
            self.body(row.body)

        if count > 1:
            lines, few = self.lines, short_registers(row.fold, self.lanes) * self.lanes
            self.uses.fused |= row.copies(self.uses.fused, count)
            long = lines.emit(f"icmp sgt i64 {self.size(row.fold.extent)}, {few}")
            groups = lines.emit(f"sdiv i64 {lines.emit(f'sub i64 {extent}, {start}')}, {count}")
            whole = self.plus(start, self.times(str(count), lines.emit(f"select i1 {long}, i64 {groups}, i64 0")))
            self.each(start, whole, count, together)
            start = whole
        self.each(start, extent, 1, alone)
        self.inside -= 1

    # ---------------------------------------------------------------- long straight-line code
    def _in_chunks(self, pieces: Sequence[Sequence[Stmt]]) -> None:
        """Write the pieces of a stretch as functions; values that cross go through the workspace."""
        scope = self.scope
        self.once("%ws", self._workspace_pointer())
        free: list[int] = []
        outside = set(self.saved)  # a loop around this comes back to what it reads
        used = max((slot for slot, _, _ in self.saved.values()), default=-self._slot_bytes) + self._slot_bytes

        def cross(source: KernelWriter, target: KernelWriter, name: int) -> None:
            nonlocal used
            text, lanes = source.use(name)
            if text[0] != "%":  # a constant needs no place
                target.env[name] = text, lanes
                return
            slot, used = (free.pop(), used) if free else (used, used + self._slot_bytes)
            source.save(slot, name)
            self.saved[name] = slot, lanes, self.dtypes[name]

        for piece in pieces:
            end = self.uses.position[id(piece[-1])]
            writer = KernelWriter(self.module, self.tables, f"{self.symbol}.c{self.chunks}", self.lanes, self.uses)
            self.chunks += 1
            writer.symbol += f".w{scope.width}{'m' if scope.mask else ''}" + self.lines.label("")
            writer.scope = Scope(scope.width, "%mask" if scope.mask else "", scope.vector)
            if scope.mask:
                writer.scope.left = "%left"
            around = _around(piece)  # loops that have ended do not reach in here
            writer.vars = {name: f"%var.{name}" for name in self.vars if name in around}
            writer.dtypes, writer.thread = self.dtypes, self.thread
            writer.staged = {row: f"%row{number}" for number, row in enumerate(self.staged)}
            defined = {s.name for s in piece if isinstance(s, (Let, Load))}
            for name in {n for stmt in piece for n in scalars_read(stmt)} - defined:
                if name not in self.saved:
                    cross(self, writer, name)
                if name in self.saved:
                    writer.saved[name] = self.saved[name]
            writer.body(piece)
            for name in defined:
                if self.uses.last.get(name, 0) > end:
                    cross(writer, self, name)
            for name in [n for n in self.saved if n not in outside and self.uses.last.get(n, 0) <= end]:
                free.append(self.saved.pop(name)[0])
            writer.lines.do("ret void")
            typed = [("ptr", "%ws", "%ws")]
            typed += [("i64", inner, self.vars[name]) for name, inner in writer.vars.items()]
            if self.thread:
                typed.append(("i64", "%thread", "%thread"))
            if scope.mask:
                typed += [(f"<{scope.width} x i1>", "%mask", scope.mask), ("i64", "%left", scope.left)]
            typed += [("ptr", writer.staged[row], text) for row, text in self.staged.items()]
            self.module.functions.append(writer.function("void", "".join(f", {t} {inner}" for t, inner, _ in typed)))
            passed = "".join(f", {t} {outer}" for t, _, outer in typed)
            self.lines.do(f"call void {writer.symbol}(ptr %sz, ptr %pt{passed})")
        self.tables.workspace = max(self.tables.workspace, used)

    @property
    def _slot_bytes(self) -> int:
        return max(8, self.scope.width * 8)

    def _workspace_pointer(self) -> str:
        address = f"getelementptr inbounds ptr, ptr %pt, i64 {WORKSPACE}"
        if not self.thread:
            return f"  %wsa = {address}\n  %ws = load ptr, ptr %wsa"
        return f"  %wsa = {address}\n  %wsb = load ptr, ptr %wsa\n  %ws = {self.own('%wsb')}"


def _pieces(body: Sequence[Stmt]) -> list[Sequence[Stmt]]:
    """A straight stretch in pieces of about `PIECE` instructions; a short rest belongs to the last one."""
    if len(body) * _OF_DEAR <= PIECE:
        return [body]
    pieces: list[Sequence[Stmt]] = []
    start, length = 0, 0
    for position, stmt in enumerate(body):
        if length >= PIECE:
            pieces.append(body[start:position])
            start, length = position, 0
        length += _OF_DEAR if is_dear(stmt) else 1
    if pieces and length < PIECE // 2:
        start -= len(pieces.pop())
    return [*pieces, body[start:]]


def _around(body: Sequence[Stmt]) -> set[str]:
    """The loops around statements that these need to know of; `body` has them at any depth."""
    names: set[str] = set()
    made: set[str] = set()
    for stmt in body:
        index: Sequence[Index] = ()
        if isinstance(stmt, For):
            made.add(stmt.var)
            names.update([stmt.within, *(one[0] for one in (stmt.block, stmt.among) if one)])
        elif isinstance(stmt, (Load, Store)):
            index = stmt.index
        elif isinstance(stmt, Let):
            index = (stmt.attr,) if isinstance(stmt.attr, Index) else ()
        elif isinstance(stmt, Call):
            index = [i for a in stmt.args if isinstance(a, Pointer) for i in a.index]
            names.update(a.within for a in stmt.args if isinstance(a, Count))
        names.update(n for i in index for n, _ in i.terms)
    return names - made
