"""Many rows of results, computed block by block in the first cache and moved from there to where they belong.

A vector loop that writes r[k, i] for many k, or to many arrays, writes to as many places of memory at a time. Places
whose addresses are alike in the bits that choose a set of the first cache (arrays that begin with a page, rows of 4096
elements) drive one another out of it before a line is full; and rows that no cache holds are read before they are
written, though nothing is left of what was there. So `StagedRows` runs such a loop block by block: a block of all rows
is written to a part of the stack, then `routine` moves it, whole lines at a time, past the caches where rows are large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codegen.analysis.facts import weight
from codegen.ir.index import Index, flatten, without
from codegen.ir.loops import Buffer, For, Let, Load, Store
from codegen.kernels.writer import ScalarWriter
from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module, memory_type
from symdiff.ir.dims import Size, product

_MANY = 10
"""Rows of which as many as a set of the first cache has places, or nearly so, may meet there."""
_ROOM = 16_384
"""Bytes of a block of all rows;"""
_SHORTEST = 32
"""its elements at least, of which the number of elements is a multiple."""
_SMALL = 1 << 16
"""Bytes of rows that are written where they belong at once."""
_MIDDLE = 1 << 20
"""Bytes from which rows that are apart are written past the caches, where they would meet as well,"""
_LARGE = 1 << 25
"""and from which no cache holds them."""
_LIGHT = 4
"""Instructions for an element up to which moving large rows takes less than reading them before they are written."""
_PAGE, _NEAR, _LINE = 4096, 128, 64
"""Addresses that differ by a multiple of the first, and at most the second, go to neighbouring sets of the cache."""


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows that a loop writes, by buffer and place of the row's beginning; the loop's instructions for each element."""

    rows: tuple[tuple[Buffer, Index], ...]
    block: int
    bytes: Size
    light: bool


def staged_rows(loop: For) -> StagedRows | None:
    """The rows of results that a vector loop may write block by block: nothing if they are few or known to be small."""
    if loop.carries or not all(isinstance(s, (Let, Load, Store)) for s in loop.body):
        return None
    stores = [s for s in loop.body if isinstance(s, Store) and s.buffer.root.kind == "result"]
    rows: dict[tuple[Buffer, Index], None] = {}
    for stmt in stores:
        flat = flatten(stmt.index, stmt.buffer.shape)
        row = without(flat, {loop.var})
        key = (stmt.buffer.root, row)
        if stmt.fold or flat.coefficient(loop.var) != 1 or key in rows or any(name[0] == "%" for name, _ in row.terms):
            return None
        rows[key] = None
    roots = dict.fromkeys(root for root, _ in rows)
    size: Size = 0
    for root in roots:
        size = size + BYTES[root.dtype] * product(root.shape)
    block = _ROOM // max(1, sum(BYTES[root.dtype] for root, _ in rows)) // _SHORTEST * _SHORTEST
    if len(rows) < _MANY or not block or (isinstance(size, int) and size <= _SMALL):
        return None
    if any(isinstance(s, Load) and s.buffer.root in roots for s in loop.body):
        return None
    length, dear = weight(loop.body)
    return StagedRows(tuple(rows), block, size, not dear and length <= _LIGHT * len(rows))


class Staging:
    """Writes a vector loop over rows of results."""

    def __init__(self, writer: ScalarWriter, found: StagedRows) -> None:
        self.writer, self.lines, self.found = writer, writer.lines, found
        self.starts = [writer.address(buffer, writer.offset(row)[0]) for buffer, row in found.rows]

    def write(self, begin: str, extent: str, steps: Callable[[str, str], None]) -> None:
        """The loop from `begin` to `extent`, whose iterations `steps` writes."""
        writer, lines, found = self.writer, self.lines, self.found
        stage = writer.once("%stage", f"  %stage = alloca [{_ROOM} x i8], align 64")
        past = lines.emit(f"icmp sgt i64 {writer.size(found.bytes)}, {_MIDDLE}")
        apart = self._apart()
        rooms: list[str] = []
        used = 0
        for buffer, _ in found.rows:
            rooms.append(lines.emit(f"getelementptr inbounds i8, ptr {stage}, i64 {used}"))
            used += found.block * BYTES[buffer.dtype]
        first = lines.least(writer.plus(begin, self._lead(begin)), extent)
        first = lines.emit(f"select i1 {apart}, i64 {first}, i64 {extent}")
        head, moving, following, done = (lines.label(x) for x in ("block", "move", "next", "done"))
        before, start, stop = lines.block, lines.fresh("i"), lines.fresh("n")
        lines.do(f"br label %{head}")
        lines.begin(head)
        position = len(lines.lines)
        back = lines.emit(f"sub nsw i64 0, {start}")
        for key, own, room in zip(found.rows, self.starts, rooms, strict=True):
            near = lines.emit(f"getelementptr {memory_type(key[0].dtype, 1)}, ptr {room}, i64 {back}")
            writer.staged[key] = lines.emit(f"select i1 {apart}, ptr {near}, ptr {own}")
        steps(start, stop)
        writer.staged = {}
        lines.do(f"br i1 {apart}, label %{moving}, label %{following}")
        lines.begin(moving)
        count = lines.emit(f"sub i64 {stop}, {start}")
        for (buffer, _), own, room in zip(found.rows, self.starts, rooms, strict=True):
            to = lines.emit(f"getelementptr inbounds {memory_type(buffer.dtype, 1)}, ptr {own}, i64 {start}")
            size = BYTES[buffer.dtype]
            writer.module.moved.add(size)
            lines.do(f"call void @{symbol(size)}(ptr {to}, ptr {room}, i64 {count}, i1 {past})")
        lines.jump(following)
        more = lines.emit(f"icmp slt i64 {stop}, {extent}")
        end = lines.least(writer.plus(stop, str(found.block)), extent)
        lines.do(f"br i1 {more}, label %{head}, label %{done}")
        lines.lines[position:position] = [
            f"  {start} = phi i64 [ {begin}, %{before} ], [ {stop}, %{following} ]",
            f"  {stop} = phi i64 [ {first}, %{before} ], [ {end}, %{following} ]",
        ]
        lines.begin(done)
        # What went past the caches is ordered with nothing else: other threads may read it from here on.
        wait, out = lines.label("wait"), lines.label("done")
        lines.do(f"br i1 {past}, label %{wait}, label %{out}")
        lines.begin(wait)
        lines.do("fence seq_cst")
        lines.jump(out)

    def _apart(self) -> str:
        """Whether rows are computed apart from where they belong."""
        lines, found = self.lines, self.found
        light = lines.emit(f"icmp sgt i64 {self.writer.size(found.bytes)}, {_LARGE}") if found.light else "false"
        # Where a store fills a line, its place in the cache is not needed any more.
        if self.writer.module.register_bytes >= _LINE:
            return light
        before, look, known = lines.block, lines.label("look"), lines.label("known")
        some = lines.emit(f"icmp sgt i64 {self.writer.size(found.bytes)}, {_SMALL}")
        lines.do(f"br i1 {some}, label %{look}, label %{known}")
        lines.begin(look)
        places = [lines.emit(f"ptrtoint ptr {own} to i64") for own in self.starts]
        total = "0"
        for place in places:
            distance = lines.emit(f"sub i64 {place}, {lines.emit(f'sub i64 {places[0]}, {_NEAR}')}")
            near = lines.emit(f"icmp ule i64 {lines.emit(f'and i64 {distance}, {_PAGE - 1}')}, {2 * _NEAR}")
            total = lines.emit(f"add i64 {total}, {lines.emit(f'zext i1 {near} to i64')}")
        meet = lines.emit(f"or i1 {lines.emit(f'icmp sge i64 {total}, {_MANY}')}, {light}")
        lines.do(f"br label %{known}")
        lines.begin(known)
        return lines.emit(f"phi i1 [ false, %{before} ], [ {meet}, %{look} ]")

    def _lead(self, begin: str) -> str:
        """Elements of the first block, behind which the first row begins a line where a block has room for them."""
        lines, size = self.lines, BYTES[self.found.rows[0][0].dtype]
        place = lines.emit(f"ptrtoint ptr {self.starts[0]} to i64")
        place = self.writer.plus(place, self.writer.times(begin, str(size)))
        lead = lines.emit(f"and i64 {lines.emit(f'sub i64 0, {place}')}, {_LINE - 1}")
        lead = lines.least(lines.emit(f"sdiv i64 {lead}, {size}"), self.found.block)
        none = lines.emit(f"icmp eq i64 {lead}, 0")
        return lines.emit(f"select i1 {none}, i64 {self.found.block}, i64 {lead}")


def symbol(size: int) -> str:
    """The routine that moves elements of so many bytes."""
    return f"sd.move.{size}"


def routine(module: Module, size: int) -> str:
    """`void @sd.move.N(ptr to, ptr from, i64 count, i1 past)` moves elements of N bytes, past the caches if asked.

    Elements lie at multiples of their size: other arrays are copied where they come in.
    """
    r = Routine(module, "i64")
    kind, each = f"i{8 * size}", min(module.register_bytes, _LINE)
    address = r.emit("ptrtoint ptr %to to i64")
    lead = r.emit(f"sdiv i64 {r.emit(f'and i64 {r.sub(0, address)}, {_LINE - 1}')}, {size}")
    lead = r.least(lead, "%count")
    stop = r.add(lead, r.emit(f"and i64 {r.sub('%count', lead)}, {-(_LINE // size)}"))

    def one(i: str) -> None:
        r.do(f"store {kind} {r.get('%from', i, kind)}, ptr {r.place('%to', i, kind)}, align 1")

    def line(i: str, hint: str) -> None:
        source, target = r.place("%from", i, kind), r.place("%to", i, kind)
        for start in range(0, _LINE, each):
            part = r.emit(f"load <{each} x i8>, ptr {r.place(source, str(start), 'i8')}, align 1")
            r.do(f"store <{each} x i8> {part}, ptr {r.place(target, str(start), 'i8')}, align {each}{hint}")

    r.loop(lead, one)
    ways = [lambda i, h=hint: line(i, h) for hint in (", !nontemporal !1", "")]
    r.when("%past", *[lambda w=way: r.loop(stop, w, _LINE // size, start=lead) for way in ways])
    r.loop("%count", one, start=stop)
    return r.define(symbol(size), "void", "ptr %to, ptr %from, i64 %count, i1 %past", "ret void")
