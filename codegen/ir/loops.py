"""The loop-nest IR: what a compiled function does, size by size unknown, just above LLVM.

A `Program` has buffers, kernels and checks. A kernel is a tree of statements: loops over named variables, scalar
instructions in SSA form, loads, stores, traps, and calls of library routines. All buffers are row-major and dense; a
caller's strided array is packed before the kernels run. Text form, for inspection and golden tests:

    kernel k0
      for i0 < m
        for i1 < n (sum %2 -> %3) vector
          %0 = load A[i0, i1]
          %1 = load x[i1]
          %2 = mul %0, %1
        store y[i0] = %3

Scalars are numbered; `(sum %2 -> %3)` adds up %2 over the loop and calls the total %3 behind it.
`codegen.ir.verify` says what a well-formed program is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from codegen.ir.index import Index
from symdiff.ir.dims import Dim, Shape, Size, format_shape


@dataclass(eq=False, slots=True)
class Buffer:
    """A dense row-major array. kind: param, result, temp or constant; `number` counts within params and results.

    `base` is set for a buffer that is another one's memory with a different shape; `private` for one that every
    iteration of a loop over rows fills for itself, or that a routine works in.
    """

    name: str
    dtype: str
    shape: Shape
    kind: str
    number: int = 0
    base: Buffer | None = None
    private: bool = False

    @property
    def root(self) -> Buffer:
        """The buffer that owns the memory."""
        return self if self.base is None else self.base


@dataclass(eq=False, slots=True)
class Let:
    """A scalar instruction. Besides the scalar ops: const (attr: a number), index (attr: an Index), size."""

    name: int
    op: str
    args: tuple[int, ...]
    dtype: str
    attr: Any = None


@dataclass(eq=False, slots=True)
class Load:
    """A scalar from a buffer. Indices may use integer scalars by their name, such as `%5`."""

    name: int
    buffer: Buffer
    index: tuple[Index, ...]


@dataclass(eq=False, slots=True)
class Store:
    """Write a scalar; with a `fold` (sum, prod, max, min, or, and) it is folded into what is there."""

    buffer: Buffer
    index: tuple[Index, ...]
    value: int
    fold: str = ""


@dataclass(eq=False, slots=True)
class Trap:
    """Leave the program with a status where the condition is true."""

    cond: int
    status: int


@dataclass(eq=False, slots=True)
class Carry:
    """A value that a loop carries round.

    A reduction of kind sum, prod, max, min, or, and folds `value` into it and is `out` behind the loop; a scan also
    shows its value so far to the body, as `inside`, and goes on with `value`.
    """

    kind: str
    dtype: str
    value: int
    out: int
    inside: int = -1
    init: Any = None
    start: int = -1
    """The scalar that a scan begins from, where that is no constant."""


PARTS = 32
"""Partial results of a fold over a vector loop, where nothing else is said."""


@dataclass(eq=False, slots=True)
class For:
    """Run the body for var = 0 .. extent - 1. A `vector` loop is executed several iterations at a time.

    With `block`, the name of an outer loop and a size, it runs over one part of that range, the outer loop's number.
    A loop that is `once` runs its body once when the extent is above 0, with var = 0. A loop with a `step` goes from
    block to block; a loop `within` it runs over the current block alone (where the extent is a multiple of the outer
    one, `share` times as long). What is `along` is no loop of its own: it has the variable of the vector loop around it
    and runs for those of its iterations that are below its own extent.
    """

    var: str
    extent: Size
    body: list[Stmt]
    carries: list[Carry] = field(default_factory=list[Carry])
    vector: bool = False
    block: tuple[str, Size] | None = None
    step: Size = 1
    within: str = ""
    share: Size = 1
    once: bool = False
    along: bool = False
    steps: bool = False
    """The steps of a scan: they run in order, and whole kernels stand in the body."""
    waited: bool = False
    """A vector loop that the next step of a scan waits for."""
    joined: bool = False
    """Iterations that follow each other are done as one, all at once."""
    among: tuple[str, int] | None = None
    """A loop that is `once` and has this: where a scalar is among the iterations of that joined loop."""
    apart: bool = False
    """Known to touch different places of what is written in different iterations; private buffers aside."""
    parts: int = PARTS
    """Partial results of a fold over a vector loop, whatever the registers are."""


@dataclass(eq=False, slots=True)
class Pointer:
    """An address handed to a library routine."""

    buffer: Buffer
    index: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many iterations the current block of the loop `within` has."""

    within: str

    def __str__(self) -> str:
        return f"#{self.within}"


@dataclass(eq=False, slots=True)
class Call:
    """A library routine; its arguments are pointers (None: a null pointer) and sizes. It may end the program."""

    routine: str
    dtype: str
    args: tuple[Pointer | Size | Count | None, ...]
    status: int = 0
    writes: tuple[Buffer, ...] = ()


Stmt: TypeAlias = "Let | Load | Store | Trap | For | Call"


@dataclass(eq=False, slots=True)
class Kernel:
    """One loop nest (or a few that share their outer loops), compiled to a function of its own.

    `work` is set where threads may share the iterations of the loop that ends the body: what they cost together.
    """

    name: str
    body: list[Stmt]
    work: Size | None = None


@dataclass(eq=False, slots=True)
class Check:
    """A condition on sizes, checked before anything runs: all `sizes` at least 0, or the program ends with `status`."""

    sizes: tuple[Size, ...]
    status: int
    unless: Size = 0  # the condition only counts where this size is not 0


@dataclass(frozen=True, slots=True)
class Block:
    """How an axis is cut, decided when sizes are known: into chunks, and chunks into blocks that fit the cache."""

    size: Dim
    """Elements of a block,"""
    chunks: Dim
    """how many chunks there are,"""
    span: Dim
    """and elements of a chunk."""
    extent: Size
    each: Size
    """Bytes for one element of the axis,"""
    parts: Size
    """and for what a chunk folds up."""
    single: bool = False
    """Elements are worked on one by one, so that blocks may be as short as one where elements are large."""
    fixed: Size = 0
    """Bytes of the matrices that every block is multiplied with."""


@dataclass(eq=False, slots=True)
class Program:
    """What `emit` turns into LLVM IR."""

    name: str
    dims: tuple[str, ...]
    params: list[Buffer]
    results: list[Buffer]
    temps: list[Buffer]
    constants: list[tuple[Buffer, Any]]
    kernels: list[Kernel]
    checks: list[Check]
    threads: int = 1
    blocks: list[Block] = field(default_factory=list["Block"])

    def __str__(self) -> str:
        return print_program(self)


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """Every statement in a body, loops before what they hold, in order."""
    stack: list[Iterator[Stmt]] = [iter(body)]
    while stack:
        for stmt in stack[-1]:
            yield stmt
            if isinstance(stmt, For):
                stack.append(iter(stmt.body))
                break
        else:
            stack.pop()


def walk(body: Sequence[Stmt]) -> Iterator[tuple[Stmt, tuple[For, ...]]]:
    """Every statement with the loops around it, outermost first, in order; what is `along` is no loop of its own."""
    stack: list[tuple[Iterator[Stmt], tuple[For, ...]]] = [(iter(body), ())]
    while stack:
        pending, around = stack[-1]
        for stmt in pending:
            yield stmt, around
            if isinstance(stmt, For):
                stack.append((iter(stmt.body), around if stmt.along else (*around, stmt)))
                break
        else:
            stack.pop()


def extents_of(around: Sequence[For]) -> dict[str, Size]:
    """How far the variables of the loops around a statement run. Other loops may have variables of the same names."""
    return {loop.var: loop.extent for loop in around}


def scalars_read(stmt: Stmt) -> list[int]:
    """The names of the scalars that one statement uses, loops not entered."""
    names: list[int] = []
    indices: Sequence[Index] = ()
    if isinstance(stmt, Let):
        names += stmt.args
        indices = (stmt.attr,) if isinstance(stmt.attr, Index) else ()
    elif isinstance(stmt, (Load, Store)):
        indices = stmt.index
        names += [stmt.value] if isinstance(stmt, Store) else []
    elif isinstance(stmt, Trap):
        names.append(stmt.cond)
    elif isinstance(stmt, For):
        names += [n for c in stmt.carries for n in (c.value, c.start) if n >= 0]
        names += [stmt.among[1]] if stmt.among else []
    else:
        indices = [i for a in stmt.args if isinstance(a, Pointer) for i in a.index]
    return [*names, *[int(n[1:]) for i in indices for n, _ in i.terms if n[0] == "%"]]


def accessed(stmt: Stmt) -> tuple[list[Buffer], list[Buffer]]:
    """The buffers that one statement reads and writes, loops not entered."""
    if isinstance(stmt, Load):
        return [stmt.buffer], []
    if isinstance(stmt, Store):
        return ([stmt.buffer] if stmt.fold else []), [stmt.buffer]
    if isinstance(stmt, Call):
        pointers = [a.buffer for a in stmt.args if isinstance(a, Pointer)]
        return pointers, list(stmt.writes)
    return [], []


def places_of(stmt: Stmt) -> list[tuple[Buffer, tuple[Index, ...]]]:
    """Where one statement reads and writes; of routines, the addresses they are given."""
    if isinstance(stmt, (Load, Store)):
        return [(stmt.buffer, stmt.index)]
    if isinstance(stmt, Call):
        return [(a.buffer, a.index) for a in stmt.args if isinstance(a, Pointer)]
    return []


def touched(body: Sequence[Stmt]) -> tuple[set[Buffer], set[Buffer]]:
    """The arrays, views aside, that statements and the loops among them read and write."""
    reads: set[Buffer] = set()
    writes: set[Buffer] = set()
    for stmt in statements(body):
        if not isinstance(stmt, (Let, For)):  # there may be very many of them
            read, written = accessed(stmt)
            reads.update(b.root for b in read)
            writes.update(b.root for b in written)
    return reads, writes


# -------------------------------------------------------------------- text
def print_program(program: Program) -> str:
    """The whole program as text."""
    lines = [f"program {program.name}({', '.join(program.dims)})"]
    for buffer in (*program.params, *program.results, *program.temps, *(b for b, _ in program.constants)):
        shape = format_shape(buffer.shape) if buffer.shape else ""
        lines.append(f"  {buffer.kind} {buffer.name}: {buffer.dtype}{shape}" + _at(buffer))
    for check in program.checks:
        unless = f" unless {check.unless} = 0" if check.unless != 1 else ""
        lines.append(f"  check {', '.join(f'{s} >= 0' for s in check.sizes)}{unless} else {check.status}")
    lines += [f"  blocks of {b.size} in {b.chunks} chunks of {b.extent}: {b.each} bytes each" for b in program.blocks]
    for kernel in program.kernels:
        lines.append(f"kernel {kernel.name}" + ("" if kernel.work is None else f" shared, work {kernel.work}"))
        lines += print_body(kernel.body)
    return "\n".join(lines)


def _at(buffer: Buffer) -> str:
    return f" = {buffer.base.name}" if buffer.base is not None else ""


def print_body(body: list[Stmt]) -> list[str]:
    """Statements as indented lines."""
    lines: list[str] = []
    stack: list[Iterator[Stmt]] = [iter(body)]
    while stack:
        indent = "  " * len(stack)
        for stmt in stack[-1]:
            lines.append(indent + heading(stmt))
            if isinstance(stmt, For):
                stack.append(iter(stmt.body))
                break
        else:
            stack.pop()
    return lines


def _place(buffer: Buffer, index: tuple[Index, ...]) -> str:
    return f"{buffer.name}[{', '.join(map(str, index))}]" if index else buffer.name


def _carry(carry: Carry) -> str:
    if carry.inside < 0:
        return f" ({carry.kind} %{carry.value} -> %{carry.out})"
    init = carry.init if carry.start < 0 else f"%{carry.start}"
    return f" (scan %{carry.inside} = {init}, then %{carry.value} -> %{carry.out})"


def heading(stmt: Stmt) -> str:
    """A statement as text, without its body."""
    if isinstance(stmt, Let):
        args = ", ".join([f"%{a}" for a in stmt.args])
        words = [stmt.op, *([args] if args else []), *([str(stmt.attr)] if stmt.attr is not None else [])]
        return f"%{stmt.name} = {' '.join(words)}" + ("" if stmt.dtype == "f64" else f" : {stmt.dtype}")
    if isinstance(stmt, Load):
        return f"%{stmt.name} = load {_place(stmt.buffer, stmt.index)}"
    if isinstance(stmt, Store):
        sign = {"": "=", "sum": "+="}.get(stmt.fold, f"{stmt.fold}=")
        return f"store {_place(stmt.buffer, stmt.index)} {sign} %{stmt.value}"
    if isinstance(stmt, Trap):
        return f"trap {stmt.status} if %{stmt.cond}"
    if isinstance(stmt, Call):
        words = [_place(a.buffer, a.index) if isinstance(a, Pointer) else str(a) for a in stmt.args if a is not None]
        args = ", ".join(words)
        return f"call {stmt.routine}({args})" + (f" else {stmt.status}" if stmt.status else "")
    carries = "".join(map(_carry, stmt.carries))
    if stmt.among:
        return f"if %{stmt.among[1]} among {stmt.among[0]}"
    if stmt.once:
        return f"if {stmt.extent} > 0"
    if stmt.along:
        return f"if {stmt.var} < {stmt.extent}"
    block = f" in block {stmt.block[0]} of {stmt.block[1]}" if stmt.block else ""
    reach = f"within {stmt.within}" if stmt.within else f"< {stmt.extent}{block}"
    step = f" by {stmt.step}" if stmt.step != 1 else ""
    way = " vector" if stmt.vector else " in order" if stmt.steps else " joined" if stmt.joined else ""
    return f"for {stmt.var} {reach}{step}{carries}{way}"
