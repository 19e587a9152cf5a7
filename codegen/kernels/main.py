"""The functions that the calling side sees: sizes, checks, packing of strided arrays, memory, and the calls of kernels.

Takes a `Program`; gives the text of its LLVM module. Four functions, as `codegen.entry.signature` asks:

    i32 @name(ptr dims, ptr data, ptr strides)   the work
    i32 @name.shapes(ptr dims, ptr out)          result shapes; the checks on sizes are made here too
    i32 @name.check(ptr dims, ptr shapes)        parameter axes against polynomials
    i64 @name.amount(ptr dims)                   how much work there is

Kernels see dense row-major arrays only: a parameter with other strides is copied into the arena first, a result with
other strides is computed there and copied out. The arena is one block: on the stack when small, else taken from a
process-wide cell (`ARENA`) that keeps blocks for later calls: fresh pages cost more than most kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.analysis import cutting
from codegen.analysis.slots import Place, share
from codegen.arrays.lowered import OUT_OF_MEMORY
from codegen.ir.loops import Buffer, For, Kernel, Program
from codegen.jit import pool
from codegen.kernels import staged
from codegen.kernels.emit import emit_kernel
from codegen.kernels.writer import DISTANCE, FIRST, WORKSPACE, Tables
from codegen.llvm import copies, memory
from codegen.llvm.sizes import SizeWriter
from codegen.llvm.text import BYTES, PLAIN, Lines, Module
from codegen.products import routines
from codegen.schedule.split import work_of
from symdiff.ir.dims import Dim, Size, product

TICKS = "sd.ticks"
TICK_WORDS = 2
"""Seconds and nanoseconds, before the first kernel and behind each; behind them the sizes of `block_sizes`."""
STACK_BYTES = 16_384
BAD_SHAPE = -1
SHARED_WORK = 1 << 20
"""Work from which threads share a loop, in units of about a twentieth of a nanosecond."""
_ALIGN = 64
_GAP = 1024
"""Bytes between what two threads have for themselves: so far a core reads ahead of what its thread goes through."""


def emit_program(
    program: Program, register_bytes: int, fma: bool, fast: bool = False, clock: int | None = None
) -> str:
    """The text of the module. With the number of a POSIX clock, its time is noted around every kernel in `TICKS`."""
    module = Module(register_bytes, fma, fast, program.threads)
    tables = Tables(program.name)
    for buffer in (*program.params, *program.results, *program.temps, *(b for b, _ in program.constants)):
        tables.pointers[buffer] = FIRST + len(tables.pointers)
    kernels = [(kernel, *emit_kernel(kernel, module, tables)) for kernel in program.kernels]
    module.functions.append(_Main(program, module, tables, kernels, clock).text())
    module.functions.append(_shapes(program, module))
    module.functions.append(_work(program, module, f"{program.name}.amount", products=True))
    if any(isinstance(s, Dim) for p in program.params for s in p.shape):
        module.functions.append(_check(program, module))
    module.functions.append(routines.text(module))
    module.functions += [staged.routine(module, size) for size in sorted(module.moved)]
    module.functions.append(memory.cell(memory.ARENA))
    for buffer, _ in program.constants:
        module.functions.append(f"@{constant_symbol(program, buffer)} = external constant i8\n")
    module.functions.append("!0 = !{}\n!1 = !{i32 1}\n")
    return module.text()


def constant_symbol(program: Program, buffer: Buffer) -> str:
    """The external symbol of a constant array."""
    return f"{program.name}.{buffer.name}"


def _function(module: Module, symbol: str, parameters: str, lines: Lines, result: str = "i32") -> str:
    body = "\n".join(lines.lines)
    return f"define {result} @{symbol}({parameters}) {module.attributes} {PLAIN} {{\nentry:\n{body}\n}}\n"


def _guard(lines: Lines, failed: str, status: str) -> None:
    out, on = lines.label("fail"), lines.label("on")
    lines.do(f"br i1 {failed}, label %{out}, label %{on}")
    lines.begin(out)
    lines.do(f"ret i32 {status}")
    lines.begin(on)


def _checks(program: Program, lines: Lines, sizes: SizeWriter) -> None:
    """The checks on sizes; a failing one ends the function."""
    for check in program.checks:
        bad = ""
        for size in check.sizes:
            one = lines.emit(f"icmp slt i64 {sizes.value(size)}, 0")
            bad = one if not bad else lines.emit(f"or i1 {bad}, {one}")
        if check.unless != 1:
            counts = lines.emit(f"icmp ne i64 {sizes.value(check.unless)}, 0")
            bad = lines.emit(f"and i1 {bad}, {counts}")
        _guard(lines, bad, str(check.status))


def _shapes(program: Program, module: Module) -> str:
    lines = Lines(module)
    sizes = SizeWriter(lines, program.dims)
    _checks(program, lines, sizes)
    for slot, size in enumerate(s for r in program.results for s in r.shape):
        address = lines.emit(f"getelementptr inbounds i64, ptr %out, i64 {slot}")
        lines.do(f"store i64 {sizes.value(size)}, ptr {address}")
    lines.do("ret i32 0")
    return _function(module, f"{program.name}.shapes", "ptr %dims, ptr %out", lines)


def _check(program: Program, module: Module) -> str:
    lines = Lines(module)
    sizes = SizeWriter(lines, program.dims)
    for slot, size in enumerate(s for p in program.params for s in p.shape):
        if isinstance(size, Dim) and str(size) not in size.names:
            address = lines.emit(f"getelementptr inbounds i64, ptr %shapes, i64 {slot}")
            given = lines.emit(f"load i64, ptr {address}")
            _guard(lines, lines.emit(f"icmp ne i64 {given}, {sizes.value(size)}"), str(BAD_SHAPE))
    lines.do("ret i32 0")
    return _function(module, f"{program.name}.check", "ptr %dims, ptr %shapes", lines)


def own_work(program: Program) -> tuple[str, str]:
    """The text of a function like `@name.amount` that leaves out products of matrices, and its symbol."""
    symbol = f"{program.name}.work"
    return symbol, _work(program, Module(16, False), symbol, products=False)


def _work(program: Program, module: Module, symbol: str, products: bool) -> str:
    lines = Lines(module)
    sizes = SizeWriter(lines, program.dims)
    sure: Size = 0
    unsure: list[Size] = []
    for kernel in program.kernels:
        work = work_of(kernel.body, products)
        if isinstance(work, Dim) and not set(work.names) <= set(program.dims):
            continue  # what is left over of blocks is small; their sizes are not known before the call
        if isinstance(work, Dim) and any(factor < 0 for _, factor in work.terms):
            unsure.append(work)  # a loop between the ends of an axis may count fewer than no steps
        else:
            sure = sure + work
    total = sizes.value(sure)
    for work in unsure:
        own = sizes.value(work)
        own = lines.emit(f"select i1 {lines.emit(f'icmp sgt i64 {own}, 0')}, i64 {own}, i64 0")
        total = lines.emit(f"add i64 {total}, {own}")
    lines.do(f"ret i64 {total}")
    return _function(module, symbol, "ptr %dims", lines, "i64")


# -------------------------------------------------------------------- the work
class _Main:
    """Writes `@name`."""

    def __init__(
        self, program: Program, module: Module, tables: Tables, kernels: list[tuple[Kernel, str, bool]],
        clock: int | None,
    ) -> None:  # fmt: skip
        self.program, self.module, self.tables, self.kernels = program, module, tables, kernels
        self.clock = clock
        self.lines = Lines(module)
        self.sizes = SizeWriter(self.lines, program.dims)
        self.bytes: dict[Buffer, str] = {}

    def text(self) -> str:
        lines, program, tables = self.lines, self.program, self.tables
        lines.do(f"%sz = alloca [{max(1, len(tables.sizes))} x i64], align 8")
        lines.do(f"%pt = alloca [{FIRST + len(tables.pointers)} x ptr], align 8")
        rank = max((len(b.shape) for b in (*program.params, *program.results)), default=0)
        if rank:
            lines.do(f"%cp = alloca [{copies.HEAD + 2 * rank} x i64], align 8")
        _checks(program, lines, self.sizes)
        for block in program.blocks:
            for size in (block.extent, block.each, block.parts, block.fixed):
                self.sizes.value(size)
            cutting.write(lines, self.sizes.known, block)
        for size, slot in tables.sizes.items():
            address = lines.emit(f"getelementptr inbounds i64, ptr %sz, i64 {slot}")
            lines.do(f"store i64 {self.sizes.value(size)}, ptr {address}")
        arrays = [*program.params, *program.results]
        dense: dict[Buffer, str] = {}
        data: dict[Buffer, str] = {}
        first: dict[Buffer, int] = {}
        total, slot = "0", 0
        for number, buffer in enumerate(arrays):
            address = lines.emit(f"getelementptr inbounds ptr, ptr %data, i64 {number}")
            data[buffer] = lines.emit(f"load ptr, ptr {address}")
            first[buffer] = slot
            slot += len(buffer.shape)
            if buffer.shape:
                dense[buffer] = self._is_dense(buffer, first[buffer])
                need = lines.emit(f"select i1 {dense[buffer]}, i64 0, i64 {self._bytes(buffer)}")
                total = self._sum(total, need)
        slots, owner = share(program.kernels)
        rooms = [self._rounded(elements, each) for elements, each, _ in slots]
        distance = self._distance([room for room, slot in zip(rooms, slots, strict=True) if slot[2]])
        for text in (*(room for room, slot in zip(rooms, slots, strict=True) if not slot[2]), str(_ALIGN)):
            total = self._sum(total, text)
        base, heap = self._arena(self._sum(total, self._times(distance, program.threads)))
        places = self._places(base, rooms, slots, distance)
        base = places.pop()
        for buffer in program.temps:
            if buffer in owner:
                self._point(tables.pointers[buffer], places[owner[buffer]])
        for buffer, _ in program.constants:
            self._point(tables.pointers[buffer], f"@{constant_symbol(program, buffer)}")
        packed: dict[Buffer, str] = {}
        for buffer in arrays:
            pointer = data[buffer]
            if buffer in dense:
                pointer = lines.emit(f"select i1 {dense[buffer]}, ptr {pointer}, ptr {base}")
                need = lines.emit(f"select i1 {dense[buffer]}, i64 0, i64 {self._bytes(buffer)}")
                base = lines.emit(f"getelementptr inbounds i8, ptr {base}, i64 {need}")
                packed[buffer] = pointer
                if buffer.kind == "param":
                    self._copy(buffer, dense[buffer], data[buffer], pointer, first[buffer], out=False)
            self._point(tables.pointers[buffer], pointer)
        finish = lines.label("finish")
        status: list[tuple[str, str]] = []
        self._tick(0)
        for number, (kernel, symbol, fails) in enumerate(self.kernels):
            if kernel.work is not None:
                code = self._shared(kernel, symbol)
            elif not fails:
                lines.do(f"call void {symbol}(ptr %sz, ptr %pt)")
                self._tick(number + 1)
                continue
            else:
                code = lines.emit(f"call i32 {symbol}(ptr %sz, ptr %pt)")
            bad, on = lines.emit(f"icmp ne i32 {code}, 0"), lines.label("on")
            lines.do(f"br i1 {bad}, label %{finish}, label %{on}")
            status.append((code, lines.block))
            lines.begin(on)
            self._tick(number + 1)
        if self.clock is not None:
            for number, size in enumerate(cutting.block_sizes(program), TICK_WORDS * (len(self.kernels) + 1)):
                place = f"getelementptr inbounds (i64, ptr @{TICKS}, i64 {number})"
                lines.do(f"store i64 {self.sizes.value(size)}, ptr {place}")
        for buffer in program.results:
            if buffer in dense:
                self._copy(buffer, dense[buffer], data[buffer], packed[buffer], first[buffer], out=True)
        lines.do(f"br label %{finish}")
        status.append(("0", lines.block))
        lines.begin(finish)
        code = lines.emit("phi i32 " + ", ".join(f"[ {c}, %{b} ]" for c, b in status))
        self._release(heap, code)
        return _function(self.module, program.name, "ptr noalias %dims, ptr noalias %data, ptr noalias %strides", lines)

    def _shared(self, kernel: Kernel, symbol: str) -> str:
        """Call a kernel whose loop threads share; a short one is run as a whole."""
        lines, loop = self.lines, kernel.body[-1]
        assert isinstance(loop, For) and kernel.work is not None
        count = self.sizes.value(loop.extent)
        work = self.sizes.value(kernel.work)
        much = lines.emit(f"icmp sgt i64 {work}, {SHARED_WORK}")
        if loop.apart:  # what one chunk alone multiplies is shared by itself
            much = lines.emit(f"and i1 {much}, {lines.emit(f'icmp sgt i64 {count}, 1')}")
        many, one, done = lines.label("many"), lines.label("one"), lines.label("ran")
        lines.do(f"br i1 {much}, label %{many}, label %{one}")
        lines.begin(many)
        self.module.declare(pool.DECLARATION)
        arguments = f"ptr {symbol}, ptr %sz, ptr %pt, i64 {count}, i64 {self.program.threads}, i64 {work}"
        shared = lines.emit(f"call i32 @{pool.SYMBOL}({arguments})")
        lines.do(f"br label %{done}")
        lines.begin(one)
        whole = lines.emit(f"call i32 {symbol}(ptr %sz, ptr %pt, i64 0, i64 {count}, i64 0)")
        lines.jump(done)
        return lines.emit(f"phi i32 [ {shared}, %{many} ], [ {whole}, %{one} ]")

    def _tick(self, number: int) -> None:
        """Note the time, where that is wanted."""
        if self.clock is None:
            return
        if not number:
            self.module.declare("declare i32 @clock_gettime(i32, ptr)")
            self.module.functions.append(f"@{TICKS} = external global i8\n")
        place = f"getelementptr inbounds (i64, ptr @{TICKS}, i64 {TICK_WORDS * number})"
        self.lines.do(f"call i32 @clock_gettime(i32 {self.clock}, ptr {place})")

    def _bytes(self, buffer: Buffer) -> str:
        """Bytes of a buffer, rounded up so that the next one is aligned."""
        if buffer not in self.bytes:
            self.bytes[buffer] = self._rounded(product(buffer.shape), BYTES[buffer.dtype])
        return self.bytes[buffer]

    def _distance(self, rooms: Sequence[str]) -> str:
        """Bytes from what one thread has for itself, private buffers and its workspace, to what the next one has."""
        own = str(self._workspace())
        for room in rooms:
            own = self._sum(own, room)
        return own if own == "0" or self.program.threads == 1 else self._sum(own, str(_GAP))

    def _workspace(self) -> int:
        return -(-self.tables.workspace // _ALIGN) * _ALIGN

    def _places(self, base: str, rooms: Sequence[str], slots: Sequence[Place], distance: str) -> list[str]:
        """Where the slots are from `base` on, and the end of them. What threads have for themselves comes first."""
        lines = self.lines

        def behind(place: str, room: str) -> str:
            return place if room == "0" else lines.emit(f"getelementptr inbounds i8, ptr {place}, i64 {room}")

        places = [base] * len(slots)
        if self.tables.workspace:
            self._point(WORKSPACE, base)
        if self.program.threads > 1:
            self._word(DISTANCE, distance)
        own, shared = behind(base, str(self._workspace())), behind(base, self._times(distance, self.program.threads))
        for number, (room, slot) in enumerate(zip(rooms, slots, strict=True)):
            if slot[2]:
                places[number], own = own, behind(own, room)
            else:
                places[number], shared = shared, behind(shared, room)
        return [*places, shared]

    def _rounded(self, elements: Size, each: int) -> str:
        if isinstance(elements, int):
            return str(-(-elements * each // _ALIGN) * _ALIGN)
        lines = self.lines
        exact = lines.emit(f"mul i64 {self.sizes.value(elements)}, {each}")
        return lines.emit(f"and i64 {lines.emit(f'add i64 {exact}, {_ALIGN - 1}')}, {-_ALIGN}")

    def _point(self, slot: int, pointer: str) -> None:
        address = self.lines.emit(f"getelementptr inbounds ptr, ptr %pt, i64 {slot}")
        self.lines.do(f"store ptr {pointer}, ptr {address}")

    def _word(self, slot: int, word: str) -> None:
        address = self.lines.emit(f"getelementptr inbounds i64, ptr %pt, i64 {slot}")
        self.lines.do(f"store i64 {word}, ptr {address}")

    def _stride(self, slot: int) -> str:
        address = self.lines.emit(f"getelementptr inbounds i64, ptr %strides, i64 {slot}")
        return self.lines.emit(f"load i64, ptr {address}")

    def _is_dense(self, buffer: Buffer, first: int) -> str:
        """Whether the array is row-major without gaps; axes of one element may have any stride."""
        lines = self.lines
        good = "true"
        step: Size = BYTES[buffer.dtype]
        for axis in range(len(buffer.shape) - 1, -1, -1):
            size = buffer.shape[axis]
            if size != 1:
                same = lines.emit(f"icmp eq i64 {self._stride(first + axis)}, {self.sizes.value(step)}")
                if isinstance(size, Dim):
                    single = lines.emit(f"icmp sle i64 {self.sizes.value(size)}, 1")
                    same = lines.emit(f"or i1 {same}, {single}")
                good = same if good == "true" else lines.emit(f"and i1 {good}, {same}")
            step = step * size
        return good

    # ---------------------------------------------------------------- memory
    def _sum(self, a: str, b: str) -> str:
        if a.isdigit() and b.isdigit():
            return str(int(a) + int(b))
        return self.lines.emit(f"add i64 {a}, {b}")

    def _times(self, a: str, count: int) -> str:
        return str(int(a) * count) if a.isdigit() else a if count == 1 else self.lines.emit(f"mul i64 {a}, {count}")

    def _arena(self, total: str) -> tuple[str, str]:
        """Aligned memory of so many bytes, and the heap block it lies in: null on the stack, empty if always there."""
        lines = self.lines
        if total.isdigit() and int(total) <= STACK_BYTES:
            return lines.emit(f"alloca i8, i64 {total}, align {_ALIGN}"), ""
        if not total.startswith("%"):
            total = lines.emit(f"add i64 {total}, 0")
        small = lines.emit(f"icmp ule i64 {total}, {STACK_BYTES}")
        stack, large, ready, fail = (lines.label(x) for x in ("stack", "large", "ready", "full"))
        lines.do(f"br i1 {small}, label %{stack}, label %{large}")
        lines.begin(stack)
        local = lines.emit(f"alloca i8, i64 {total}, align {_ALIGN}")
        lines.do(f"br label %{ready}")
        lines.begin(large)
        block = memory.acquire(lines, memory.ARENA, total)
        none = lines.emit(f"icmp eq ptr {block}, null")
        on = lines.label("on")
        lines.do(f"br i1 {none}, label %{fail}, label %{on}")
        lines.begin(fail)
        lines.do(f"ret i32 {OUT_OF_MEMORY}")
        lines.begin(on)
        inside = memory.inside(lines, block)
        lines.do(f"br label %{ready}")
        lines.begin(ready)
        base = lines.emit(f"phi ptr [ {local}, %{stack} ], [ {inside}, %{on} ]")
        heap = lines.emit(f"phi ptr [ null, %{stack} ], [ {block}, %{on} ]")
        return base, heap

    def _release(self, heap: str, code: str) -> None:
        lines = self.lines
        if not heap:
            lines.do(f"ret i32 {code}")
            return
        none, held, end = lines.emit(f"icmp eq ptr {heap}, null"), lines.label("held"), lines.label("end")
        lines.do(f"br i1 {none}, label %{end}, label %{held}")
        lines.begin(held)
        memory.release(lines, memory.ARENA, heap)
        lines.do(f"br label %{end}")
        lines.begin(end)
        lines.do(f"ret i32 {code}")

    def _copy(self, buffer: Buffer, dense: str, theirs: str, ours: str, first: int, out: bool) -> None:
        """Copy between a strided array and a dense one, unless they are the same."""
        lines = self.lines
        rank = len(buffer.shape)
        extents = [self.sizes.value(size) for size in buffer.shape]  # before the branch: they are known behind it, too
        copy, on = lines.label("copy"), lines.label("on")
        lines.do(f"br i1 {dense}, label %{on}, label %{copy}")
        lines.begin(copy)
        steps = [self._stride(first + axis) for axis in range(rank)]
        for word, value in enumerate([str(rank), str(BYTES[buffer.dtype]), str(int(out)), *extents, *steps]):
            address = lines.emit(f"getelementptr inbounds i64, ptr %cp, i64 {word}")
            lines.do(f"store i64 {value}, ptr {address}")
        self.module.declare(copies.DECLARATION)
        lines.do(f"call i32 @{copies.SYMBOL}(ptr {theirs}, ptr {ours}, ptr %cp)")
        lines.do(f"br label %{on}")
        lines.begin(on)


