"""Loops cut into blocks: sums have one order of adding whatever runs them, and threads share the blocks of long loops.

Takes the kernels of a program after joining; gives kernels. A total that a whole kernel folds up becomes one partial
total for each block of `SUM_BLOCK` iterations, folded in order: that is where bits could depend on the number of
threads, so it is done for one thread too. For several threads a kernel becomes one loop whose iterations touch
different places of whatever they write (`Kernel.work` says what they cost); buffers for one row are private there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from codegen.analysis.apart import apart
from codegen.ir.costs import scalar_cost
from codegen.ir.index import Index, var
from codegen.ir.loops import (
    Buffer,
    Call,
    Carry,
    Count,
    For,
    Kernel,
    Let,
    Load,
    Stmt,
    Store,
    Trap,
    extents_of,
    places_of,
    scalars_read,
    statements,
    touched,
    walk,
)
from codegen.schedule.nests import Memory
from symdiff.ir.dims import Dim, Size, product

SUM_BLOCK = 8192
"""Iterations of a vector loop that share one set of partial sums,"""
ROW_BLOCK = 32
"""and of a loop over rows."""
_MAP_BLOCK = 1024
_COLUMN_BLOCK = 32
_RANGES = 4
"""Ranges of places for each thread: far from each other, as processors read ahead, and some of what is met often."""
_ROW = 8
"""Elements of a row that is worth asking whose it is."""
_PRODUCTS = ("gemm", "panels")
_ACCESS = 2
"""Work of an element read or written in a loop that is worth sharing: what passes through fits no near cache."""
_ROUTINE = (800, 320, 70, 1)
"""Work of a routine of linear algebra: the call, its rows, elements and products,"""
_OF_DIAGONAL, _DIAGONAL = ("det", "logabsdet", "signdet"), 80
"""and of one that goes over the diagonal of factors."""


def split(kernels: Sequence[Kernel], memory: Memory, threads: int, short: Collection[Size] = ()) -> list[Kernel]:
    """Block the totals; with several threads also cut kernels into loops that threads can share.

    Loops of the extents `short` are never long enough for blocks.
    """
    made: list[Kernel] = []
    for kernel in kernels:
        _block_totals(kernel, memory, short)
        made += _cut(kernel) if threads > 1 else [kernel]
    if threads > 1:
        for kernel in made:
            _share(kernel, memory, threads)
    return made


# -------------------------------------------------------------------- totals
def _block_totals(kernel: Kernel, memory: Memory, short: Collection[Size]) -> None:
    body: list[Stmt] = []
    for stmt in kernel.body:
        if isinstance(stmt, For) and stmt.carries and not stmt.block and all(c.inside < 0 for c in stmt.carries):
            size = SUM_BLOCK if stmt.vector else ROW_BLOCK
            long = not isinstance(stmt.extent, int) or stmt.extent > size
            if long and stmt.extent not in short:
                body += _in_blocks(stmt, size, memory)
                continue
        body.append(stmt)
    kernel.body = body


def _in_blocks(loop: For, size: int, memory: Memory) -> list[Stmt]:
    count = (loop.extent + (size - 1)) // size
    name, inner = _blocked(loop, size)
    stores: list[Stmt] = []
    loads: list[Stmt] = []
    totals: list[Carry] = []
    for carry in loop.carries:
        parts = memory.temp((count,), carry.dtype)
        partial, again = memory.name(), memory.name()
        inner.carries.append(Carry(carry.kind, carry.dtype, carry.value, partial))
        stores.append(Store(parts, (var(name),), partial))
        loads.append(Load(again, parts, (var(name),)))
        totals.append(Carry(carry.kind, carry.dtype, again, carry.out))
    return [For(name, count, [inner, *stores]), For(name, count, loads, totals)]


def _blocked(loop: For, size: int) -> tuple[str, For]:
    """The loop over the iterations of one block, and the name of the block's number; without what it carries."""
    name = f"{loop.var}b"
    return name, For(loop.var, loop.extent, loop.body, [], loop.vector, (name, size))


# -------------------------------------------------------------------- threads
def _cut(kernel: Kernel) -> list[Kernel]:
    """A kernel behind each of its loops cut in two, where scalars in between can be computed again."""
    pieces: list[list[Stmt]] = [[]]
    for stmt in kernel.body:
        if isinstance(stmt, (For, Call)) and any(isinstance(s, (For, Call, Trap, Store)) for s in pieces[-1]):
            pieces.append([])
        pieces[-1].append(stmt)
    # Scalars stand in front of the loop that needs them.
    for before, after in pairwise(pieces):
        while before and isinstance(before[-1], (Let, Load)):
            after.insert(0, before.pop())
    if len(pieces) == 1:
        return [kernel]
    known: dict[int, Let | Load] = {}
    written: set[Buffer] = set()
    bodies: list[list[Stmt]] = []
    for piece in pieces:
        own = {s.name for s in piece if isinstance(s, (Let, Load))}
        needed = _closure(_scalars(piece) - own - _inside(piece), known)
        if needed is None or any(isinstance(s, Load) and s.buffer.root in written for s in needed):
            return [kernel]
        bodies.append([*needed, *piece])
        known.update({s.name: s for s in piece if isinstance(s, (Let, Load))})
        written |= touched(piece)[1]
    return [Kernel(f"{kernel.name}.{number}" if number else kernel.name, body) for number, body in enumerate(bodies)]


def _closure(names: Iterable[int], known: dict[int, Let | Load]) -> list[Let | Load] | None:
    """The statements that define these names, operands first; None where one is no plain scalar."""
    wanted: dict[int, Let | Load] = {}
    stack = list(names)
    while stack:
        name = stack.pop()
        if name in wanted:
            continue
        found = known.get(name)
        if found is None:
            return None
        wanted[name] = found
        stack += _scalars([found])
    return [s for name, s in known.items() if name in wanted]


def _scalars(body: Sequence[Stmt]) -> set[int]:
    """The names of scalars that statements use."""
    return {name for stmt in statements(list(body)) for name in scalars_read(stmt)}


def _inside(body: Sequence[Stmt]) -> set[int]:
    """The names that statements define at any depth."""
    names: set[int] = set()
    for stmt in statements(list(body)):
        if isinstance(stmt, (Let, Load)):
            names.add(stmt.name)
        elif isinstance(stmt, For):
            names.update(n for c in stmt.carries for n in (c.out, c.inside))
    return names


def _share(kernel: Kernel, memory: Memory, threads: int) -> None:
    """Let threads share the kernel's loop, where its iterations do not meet, or where data tells where they do."""
    loop = kernel.body[-1] if kernel.body else None
    if not isinstance(loop, For) or loop.carries or loop.step != 1 or loop.once or loop.steps:
        return
    written = touched(loop.body)[1]
    before = kernel.body[:-1]
    if not all(isinstance(s, Let) or (isinstance(s, Load) and s.buffer.root not in written) for s in before):
        return
    if loop.apart:
        kernel.work = work_of([loop], access=_ACCESS)
        return
    inner = loop.body[0] if loop.body else None
    blocked = inner if isinstance(inner, For) and inner.block and inner.block[0] == loop.var else None
    # The parts that blocks fold up have a place for each block.
    parts = touched(loop.body[1:])[1] if blocked else set[Buffer]()
    own = blocked or loop
    if not apart(own.var, own.extent, own.body, parts):
        _share_places(kernel, loop, memory, threads)
        return
    kernel.work = work_of([loop], access=_ACCESS)
    if loop.vector:
        size = _COLUMN_BLOCK if any(isinstance(s, For) for s in loop.body) else _MAP_BLOCK
        name, inside = _blocked(loop, size)
        kernel.body[-1] = For(name, (loop.extent + (size - 1)) // size, [inside])


def _share_places(kernel: Kernel, loop: For, memory: Memory, threads: int) -> None:
    """Rows are added up by number: every thread goes through all iterations, and does those whose number is its own.

    So each place gets its summands in their order. Scalars in front of the loops inside are computed by every thread.
    """
    start = next((at for at, stmt in enumerate(loop.body) if isinstance(stmt, For)), len(loop.body))
    front, rows = loop.body[:start], [s for s in loop.body[start:] if isinstance(s, For)]
    plain = not loop.vector and all(isinstance(s, (Let, Load)) for s in front) and start + len(rows) == len(loop.body)
    if not plain or all(_is_short(s.extent) for s in rows) or any(isinstance(s, Trap) for s in statements(rows)):
        return
    found = _number(loop)
    if found is None or all(s.name != found[0] for s in front if isinstance(s, (Let, Load))):
        return
    number, places = found
    kernel.work = work_of([loop], access=_ACCESS)
    each = (places + (_RANGES * threads - 1)) // (_RANGES * threads)
    size, part, count, own = (memory.name() for _ in range(4))
    whose = [
        Let(size, "size", (), "i64", each), Let(part, "floor_divide", (number, size), "i64"),
        Let(count, "const", (), "i64", threads), Let(own, "mod", (part, count), "i64"),
    ]  # fmt: skip
    name = f"{loop.var}b"
    loop.body = [*front, *whose, For(f"{loop.var}o", 1, [*rows], once=True, among=(name, own))]
    kernel.body[-1] = For(name, threads, [loop], joined=True)


def _is_short(size: Size) -> bool:
    """Whether rows are known to cost no more than finding out whose they are."""
    return isinstance(size, int) and size < _ROW


def _number(loop: For) -> tuple[int, Size] | None:
    """The scalar that tells apart all iterations of a loop that meet, and how many places it tells apart along an axis
    of what is written."""
    written = {b for b in touched(loop.body)[1] if not b.private}
    numbers: set[tuple[Index, Size] | None] = set()
    for root in written:
        if not apart(loop.var, loop.extent, loop.body, written - {root}):
            found = [(b, index) for s in statements(loop.body) for b, index in places_of(s) if b.root is root]
            alike = len({b.shape for b, _ in found}) == 1
            axes = zip(*(index for _, index in found), strict=True) if alike else ()
            ways = zip(axes, found[0][0].shape, strict=True) if alike else ()
            numbers.add(next(((a[0], size) for a, size in ways if len(set(a)) == 1 and _is_data(a[0])), None))
    if len(numbers) != 1:
        return None
    number = numbers.pop()
    return None if number is None else (int(number[0].terms[0][0][1:]), number[1])


def _is_data(index: Index) -> bool:
    return index.const == 0 and len(index.terms) == 1 and index.terms[0][1] == 1 and index.terms[0][0][0] == "%"


def work_of(body: Sequence[Stmt], products: bool = True, access: int = 1) -> Size:
    """What statements cost, in the units of `scalar_cost`. Loops over blocks cost what the loops inside them cost.

    products: with matrix products, whose code is not the program's own. access: what an element read or written costs.
    """
    total: Size = 0
    times: dict[int, Size] = {}
    costs: dict[Size, int] = {}  # by how often: sums of sizes take longer than the rest of it
    for stmt, around in walk(body):
        often = times[id(around[-1])] if around else 1
        if isinstance(stmt, For):
            blocked = any(isinstance(s, For) and s.block and s.block[0] == stmt.var for s in stmt.body)
            times[id(stmt)] = often if blocked or stmt.joined or stmt.step != 1 else often * stmt.extent
        elif isinstance(stmt, Call):
            if products or stmt.routine not in _PRODUCTS:
                total = total + often * _call_work(stmt, extents_of(around))
        else:
            costs[often] = costs.get(often, 0) + (scalar_cost(stmt.op) if isinstance(stmt, Let) else access)
    return sum([often * cost for often, cost in costs.items()], total)


def _call_work(call: Call, extents: Mapping[str, Size]) -> Size:
    sizes = [extents.get(a.within, 1) if isinstance(a, Count) else a for a in call.args[:3]]
    numbers = [a for a in sizes if isinstance(a, (int, Dim))]
    if call.routine in _PRODUCTS:
        return product(numbers)
    n = numbers[0]
    if call.routine in _OF_DIAGONAL:
        return _DIAGONAL * n
    return sum((factor * product([n] * power) for power, factor in enumerate(_ROUTINE)), 0)
