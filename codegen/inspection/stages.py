"""What a compiled function was made from, and where its time goes.

Takes the stages of one compilation; gives their texts, made when they are asked for, and `explain`: a table of kernels
with what was joined in them, what they read and write, what they should cost, and what they take on given arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from codegen.inspection.profile import KernelProfile, profile
from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Program, Store, accessed, statements
from codegen.jit import engine
from codegen.jit.tiers import Upgrade
from codegen.llvm.text import BYTES
from codegen.schedule.split import work_of
from symdiff.ir.dims import Size, evaluate, product
from symdiff.ir.graph import Function
from symdiff.ir.text import print_function

_UNIT = 0.05e-9
"""Seconds for one unit of work, when everything is vectorized and in cache,"""
_BYTE = 0.05e-9
"""and for one byte from or to memory, where no figures of the machine are known."""


class Figures(Protocol):
    """What a calibrated model of the machine says."""

    @property
    def register(self) -> int:
        """Bytes of a vector register."""
        ...

    def seconds(self, kernel: KernelProfile) -> float:
        """The time of a kernel."""
        ...


Measure = Callable[[Sequence[Any], Mapping[str, int] | None], tuple[dict[str, int], list[float]]]
"""Runs the function with a clock around every kernel; gives the sizes and the seconds of each."""


@dataclass(eq=False)
class Compiled:
    """The stages behind one function; `timings` are seconds by stage, `opt` the engine's tier it runs at."""

    function: Function
    program: Program
    llvm: str
    timings: dict[str, float]
    first_opt: int
    measure: Measure
    upgrade: Upgrade | None = None
    figures: Callable[[], Figures] | None = None
    shared: Sequence[Upgrade] = ()
    """Better code to come of what it calls and others call, too."""

    @property
    def ir(self) -> str:
        """The tensor program."""
        return print_function(self.function)

    @property
    def loops(self) -> str:
        """The loop nests; with the factors of products shared they may do less than `ir` says."""
        return str(self.program)

    @property
    def opt(self) -> int:
        """The tier of the code in force."""
        return self.upgrade.opt if self.upgrade is not None and self.upgrade.in_force else self.first_opt

    @property
    def asm(self) -> str:
        """The machine code as assembler text."""
        return engine.assembly(self.llvm, self.opt)

    def settle(self, seconds: float | None = None) -> bool:
        """Wait until the code in force is the last one, also of products; whether it is. It is not where better code
        cannot be made."""
        own = [] if self.upgrade is None else [self.upgrade]
        settled = [one.settle(seconds) for one in (*own, *self.shared)]
        return all(settled)

    def explain(self, *arrays: Any, sizes: Mapping[str, int] | None = None) -> str:
        """The kernels as a table; with arguments of the function also predicted and measured times."""
        numbers: dict[str, int] | None = None
        seconds: list[float] = []
        if arrays or not self.program.params:
            for one in self.shared:  # kernels are timed in the last code
                one.settle(None)
            numbers, seconds = self.measure(arrays, sizes)
        figures = self.figures() if self.figures is not None and numbers is not None else None
        return "\n".join([_table(self.program, numbers, seconds, figures), self._code()])

    def _code(self) -> str:
        """What code is in force."""
        way = "code: " + ("without passes", "light passes", "full passes", "all passes")[self.opt]
        if self.upgrade is None or self.upgrade.in_force:
            return way
        if self.upgrade.failure:
            return f"{way}; making better code failed: {self.upgrade.failure}"
        return f"{way}; better code is on its way"


def _table(
    program: Program, sizes: dict[str, int] | None, seconds: list[float], figures: Figures | None
) -> str:
    head = ["kernel", "loops", "computes", "reads", "writes", "work"]
    if sizes is not None:
        head += ["predicted", "measured"]
    rows = [head]
    predicted = [] if sizes is None else _predicted(program, sizes, figures)
    for number, kernel in enumerate(program.kernels):
        reads, writes = _buffers(kernel)
        work = work_of(kernel.body)
        row = [kernel.name, _loops(kernel, sizes), _operations(kernel), _names(reads, sizes), _names(writes, sizes)]
        row.append(_number(work, sizes))
        if sizes is not None:
            row += [_time(predicted[number]), _time(seconds[number])]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append("loops: their lengths, outermost first; v: vectors; shared: among threads")
    if sizes is not None:
        lines.append(f"total: predicted {_time(sum(predicted))}, measured {_time(sum(seconds))}")
    kept = [b for b in program.temps if any(b in {r.root for r in _all(k)} for k in program.kernels)]
    lines.append("temporaries: " + (", ".join(f"{b.name} {_number(_bytes(b), sizes)} B" for b in kept) or "none"))
    for block in program.blocks:
        each = [f"{size} = {_number(size, sizes)}" if sizes else str(size) for size in (block.size, block.span)]
        lines.append(f"blocks along {block.extent}: {each[0]} elements fit the cache, chunks have {each[1]}")
    return "\n".join(lines)


def _all(kernel: Kernel) -> list[Buffer]:
    return [b for part in _buffers(kernel) for b in part]


def _buffers(kernel: Kernel) -> tuple[list[Buffer], list[Buffer]]:
    """What a kernel reads from others, and what it writes, each once."""
    reads: dict[Buffer, None] = {}
    writes: dict[Buffer, None] = {}
    for stmt in statements(kernel.body):
        own = accessed(stmt)
        writes.update((b.root, None) for b in own[1])
        reads.update((b.root, None) for b in own[0] if b.root not in writes)
    return sorted(reads, key=_is_temporary), sorted(writes, key=_is_temporary)


def _is_temporary(buffer: Buffer) -> bool:
    return buffer.kind == "temp"


def _loops(kernel: Kernel, sizes: dict[str, int] | None) -> str:
    words: list[str] = []
    for stmt in statements(kernel.body):
        if isinstance(stmt, For) and not stmt.along and not any(isinstance(s, For) and s.block for s in stmt.body):
            blocks = " in blocks" if stmt.step != 1 else ""
            words.append(_number(stmt.extent, sizes) + ("v" if stmt.vector else "") + blocks)
    shared = "" if kernel.work is None else ", shared"
    return (" ".join(words[:6]) + (" ..." if len(words) > 6 else "") or "-") + shared


_MOST = 6


def _operations(kernel: Kernel) -> str:
    """The operations that were joined in a kernel, the dear ones by name, and how many there are."""
    names: dict[str, int] = {}
    for stmt in statements(kernel.body):
        if isinstance(stmt, Call):
            names[stmt.routine] = names.get(stmt.routine, 0) + 1
        elif isinstance(stmt, Let) and stmt.op not in ("const", "index", "size"):
            names[stmt.op] = names.get(stmt.op, 0) + 1
        elif isinstance(stmt, For):
            for carry in stmt.carries:
                names[carry.kind] = names.get(carry.kind, 0) + 1
        elif isinstance(stmt, Store) and stmt.fold:
            names[stmt.fold] = names.get(stmt.fold, 0) + 1
    words = [name if count == 1 else f"{count} {name}" for name, count in names.items()]
    return ", ".join(words[:_MOST]) + (f", {len(words) - _MOST} more" if len(words) > _MOST else "") or "copy"


def _names(buffers: Sequence[Buffer], sizes: dict[str, int] | None) -> str:
    words = [f"{b.name}[{', '.join(_number(s, sizes) for s in b.shape)}]" if b.shape else b.name for b in buffers]
    return " ".join(words[:_MOST]) + (f" +{len(words) - _MOST}" if len(words) > _MOST else "")


def _bytes(buffer: Buffer) -> Size:
    return product(buffer.shape) * BYTES[buffer.dtype]


def _number(size: Size, sizes: dict[str, int] | None) -> str:
    return str(size) if sizes is None or isinstance(size, int) else f"{evaluate(size, sizes)}"


def _predicted(program: Program, sizes: dict[str, int], figures: Figures | None) -> list[float]:
    """Seconds of every kernel, by the model of the machine or by work and traffic alone."""
    if figures is not None:
        return [figures.seconds(kernel) for kernel in profile(program, sizes, figures.register)]
    made: list[float] = []
    for kernel in program.kernels:
        traffic = sum(evaluate(_bytes(b), sizes) for b in _all(kernel))
        made.append(max(evaluate(work_of(kernel.body), sizes) * _UNIT, traffic * _BYTE))
    return made


def _time(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.2f} {name}"
    return f"{seconds * 1e9:.0f} ns"
