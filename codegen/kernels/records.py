"""Rows of memory to registers and back: elements of a record, read or written by neighbouring lanes.

Lane l of a vector loop over i reads x[i, 0], x[i, 1], x[i, 2]: three strided accesses. `plan` finds such families in a
straight stretch of code and `Records` writes each as one access to the row of every lane with a transposition in
registers between them, several times cheaper than gathering and scattering. Rows may also be found through an index
(a table's row for each lane). Short rows that follow one another without gaps fill whole registers.

Under a mask the lanes behind the last one use its row: what they load is real memory, and what they store is
overwritten by the last lane, because lanes are written from the highest down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from codegen.ir.index import Index, constant_part, flatten
from codegen.ir.loops import Buffer, Let, Load, Stmt, Store
from codegen.kernels.shuffles import can_interleave, interleaved, joined, parts, separated, transposed
from codegen.kernels.writer import ScalarWriter
from codegen.llvm.text import BYTES, memory_type

_Key: TypeAlias = "tuple[Buffer, Index]"


@dataclass(eq=False, slots=True)
class Window:
    """Neighbouring elements of a record that are moved at once."""

    buffer: Buffer
    row: Index
    first: int
    count: int
    names: list[list[int]] = field(default_factory=list[list[int]])
    """The scalars at every element: what is loaded there, or the one that is stored."""
    place: tuple[int, int] = (0, 1)
    """Where one element lies in its row of the buffer, and how long that row is, if it is known."""


@dataclass(eq=False, slots=True)
class Plan:
    """The windows of a stretch, by the position of the statements that they stand for."""

    loads: dict[int, Window] = field(default_factory=dict[int, Window])
    stores: dict[int, list[Window]] = field(default_factory=dict[int, "list[Window]"])
    """Windows to write as soon as the statement at a position has run (-1: at the beginning)."""
    written: set[int] = field(default_factory=set[int])
    """Stores that a window stands for."""


def plan(body: Sequence[Stmt], vector: str, lanes: int) -> Plan:
    """The windows of a straight stretch inside the vector loop over `vector`."""
    read: dict[_Key, dict[int, list[int]]] = {}
    written: dict[_Key, dict[int, list[int]]] = {}
    rows: dict[Buffer, set[Index]] = {}
    loaded: set[Buffer] = set()
    plain: set[Buffer] = set()
    defined: dict[int, int] = {}
    for position, stmt in enumerate(body):
        if isinstance(stmt, (Let, Load)):
            defined[stmt.name] = position
        if not isinstance(stmt, (Load, Store)):
            continue
        root = stmt.buffer.root
        flat = flatten(stmt.index, stmt.buffer.shape)
        # Neighbours differ by a number; a part of the position that has names is where the rows begin.
        place = constant_part(flat.const)
        row = replace(flat, const=flat.const - place)
        strided = flat.coefficient(vector) not in (0, 1) or any(n[0] == "%" for n, _ in flat.terms)
        usable = strided and stmt.buffer.dtype != "bool"
        family = read if isinstance(stmt, Load) else written
        if isinstance(stmt, Load):
            loaded.add(root)
        else:
            rows.setdefault(root, set()).add(row)
            usable = usable and not stmt.fold and all(n[0] != "%" for n, _ in flat.terms)
            if not usable:
                plain.add(root)
        if usable:
            family.setdefault((root, row), {}).setdefault(place, []).append(position)
    made = Plan()
    for (root, row), places in read.items():
        if root in rows:
            continue
        for first, count in _cover(sorted(places), lanes):
            window = Window(root, row, first, count)
            if count == 1:
                window.place = _place(body[places[first][0]])
            for offset in range(count):
                positions = places.pop(first + offset, [])
                window.names.append([body[p].name for p in positions])  # type: ignore[union-attr]
                made.loads.update(dict.fromkeys(positions, window))
    for (root, row), places in written.items():
        # Rows that begin apart and are alike do not meet: parts that a loop places in one array are disjoint.
        alike = len({own.terms for own in rows[root]}) == 1
        if root in loaded or root in plain or not alike or any(len(p) > 1 for p in places.values()):
            continue
        for first, count in _runs(sorted(places), lanes):
            positions = [places[first + offset][0] for offset in range(count)]
            names: list[int] = [body[p].value for p in positions]  # type: ignore[union-attr]
            # Written when the last of its values is there: the fewer values wait, the fewer are spilled.
            ready = max([defined.get(n, -1) for n in names])
            made.stores.setdefault(ready, []).append(Window(root, row, first, count, [[n] for n in names]))
            made.written.update(positions)
    return made


def _place(stmt: Stmt) -> tuple[int, int]:
    """The place of a load in its row, and the length of the row."""
    assert isinstance(stmt, Load)
    length, last = stmt.buffer.shape[-1], stmt.index[-1]
    if isinstance(length, int) and isinstance(last.const, int) and not last.terms:
        return last.const, length
    return 0, 1


def _cover(places: list[int], lanes: int) -> list[tuple[int, int]]:
    """Windows (first, count) that hold all places; what lies between two places of a row is memory of that row."""
    windows: list[tuple[int, int]] = []
    reached = places[0] - 1
    for place in places:
        if place > reached:
            count = min(lanes, places[-1] - place + 1)
            first = max(places[0], place + count - lanes) if count < lanes else place
            count = min(lanes, places[-1] - first + 1)
            windows.append((first, count))
            reached = first + count - 1
    return windows


def _runs(places: list[int], lanes: int) -> list[tuple[int, int]]:
    """Windows over runs of neighbours; the last of a long run may reach back over the one before."""
    windows: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(places) + 1):
        if end < len(places) and places[end] == places[end - 1] + 1:
            continue
        first, last = places[start], places[end - 1]
        for place in range(first, last + 1, lanes):
            count = min(lanes, last - place + 1)
            back = min(lanes - count, place - first)
            windows.append((place - back, count + back))
        start = end
    return windows


class Records:
    """Writes windows."""

    def __init__(self, writer: ScalarWriter) -> None:
        self.writer = writer
        self.lines = writer.lines
        self._rows: dict[_Key, list[str]] = {}

    def load(self, window: Window) -> None:
        """Define every scalar of a window."""
        writer, dtype, width = self.writer, window.buffer.dtype, self.writer.scope.width
        rows: list[str] = []
        kind, part = memory_type(dtype, width), memory_type(dtype, window.count)
        if places := self._gapless(window):
            columns = self._columns(places, window)
        elif places := self._gapless(row := self._row(window)):
            columns = [self._columns(places, row)[window.place[0]]]
        elif window.count == 1:
            columns = ["poison"]
            for lane, address in enumerate(self._addresses(window)):
                one = self.lines.emit(f"load {part}, ptr {address}, align {BYTES[dtype]}")
                columns = [self.lines.emit(f"insertelement {kind} {columns[0]}, {part} {one}, i64 {lane}")]
        else:
            for address in self._addresses(window):
                one = self.lines.emit(f"load {part}, ptr {address}, align {BYTES[dtype]}")
                rows.append(self._resized(one, dtype, window.count, width))
            columns = transposed(self.lines, rows, kind)
        for names, column in zip(window.names, columns, strict=False):
            for name in names:
                writer.define(name, column, True, dtype)

    def store(self, window: Window) -> None:
        """Write a window whose values are all there."""
        writer, dtype, width = self.writer, window.buffer.dtype, self.writer.scope.width
        kind, part = memory_type(dtype, width), memory_type(dtype, window.count)
        values = [writer.lane_values(name) for name, in window.names]
        if places := self._gapless(window):
            self._fill(places, window, values)
            return
        if window.count == 1:
            rows = [self.lines.emit(f"extractelement {kind} {values[0]}, i64 {lane}") for lane in range(width)]
        else:
            rows = transposed(self.lines, values + ["poison"] * (width - window.count), kind)
        for address, row in zip(reversed(self._addresses(window)), reversed(rows), strict=True):
            own = self._resized(row, dtype, width, window.count) if window.count > 1 else row
            self.lines.do(f"store {part} {own}, ptr {address}, align {BYTES[dtype]}")

    def _gapless(self, window: Window) -> list[str]:
        """Where the rows of each registerful of lanes begin, if rows follow one another without gaps."""
        writer, width, own = self.writer, self.writer.scope.width, self._register(window)
        # Two rows of 16 bytes are loaded into the halves of a register of 32 bytes without any shuffle.
        halves = window.count * BYTES[window.buffer.dtype] == 16 and writer.module.register_bytes == 32
        if writer.scope.left or halves or not can_interleave(window.count, own):
            return []
        base, step, varying = writer.offset(window.row)
        if varying or step != window.count:
            return []
        start = writer.address(window.buffer, base)
        step_to = f"getelementptr inbounds {memory_type(window.buffer.dtype, 1)}, ptr {start}, i64"
        return [self.lines.emit(f"{step_to} {window.first + lane * window.count}") for lane in range(0, width, own)]

    def _row(self, window: Window) -> Window:
        """All of a short row of which one element is read; the window itself where that is no less work."""
        place, length = window.place
        if 2 * length > self._register(window):
            return window
        return replace(window, first=window.first - place, count=length)

    def _register(self, window: Window) -> int:
        """Lanes that are moved at a time."""
        return min(self.writer.scope.width, self.writer.module.register_bytes // BYTES[window.buffer.dtype])

    def _parts(self, window: Window, place: str) -> list[str]:
        """Where the registers begin that hold the rows at a place."""
        step_to = f"getelementptr inbounds {memory_type(window.buffer.dtype, self._register(window))}, ptr {place}, i64"
        return [self.lines.emit(f"{step_to} {k}") for k in range(window.count)]

    def _columns(self, places: list[str], window: Window) -> list[str]:
        dtype, own = window.buffer.dtype, self._register(window)
        kind = memory_type(dtype, own)
        made: list[list[str]] = []
        for place in places:
            rows = [self.lines.emit(f"load {kind}, ptr {part}, align {BYTES[dtype]}")
                    for part in self._parts(window, place)]  # fmt: skip
            made.append(separated(self.lines, rows, kind, own))
        return [joined(self.lines, column, memory_type(dtype, 1), own) for column in zip(*made, strict=True)]

    def _fill(self, places: list[str], window: Window, values: list[str]) -> None:
        dtype, own = window.buffer.dtype, self._register(window)
        kind = memory_type(dtype, own)
        cut = [parts(self.lines, value, memory_type(dtype, 1), own, len(places)) for value in values]
        for place, columns in zip(places, zip(*cut, strict=True), strict=True):
            rows = interleaved(self.lines, columns, kind, own)
            for row, part in zip(rows, self._parts(window, place), strict=True):
                self.lines.do(f"store {kind} {row}, ptr {part}, align {BYTES[dtype]}")

    def _addresses(self, window: Window) -> list[str]:
        """Where the window begins in the row of every lane."""
        key = (window.buffer, window.row)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = [self.writer.address(window.buffer, text) for text in self._offsets(window.row)]
        if not window.first:
            return rows
        step = f"getelementptr inbounds {memory_type(window.buffer.dtype, 1)}, ptr"
        return [self.lines.emit(f"{step} {row}, i64 {window.first}") for row in rows]

    def _offsets(self, row: Index) -> list[str]:
        """Where the row of every lane begins, in elements."""
        writer, scope, width = self.writer, self.writer.scope, self.writer.scope.width
        if any(n[0] == "%" and writer.use(int(n[1:]))[1] for n, _ in row.terms):
            offsets = writer.lane_offsets(row)
            if scope.mask:  # an index that no lane asked for may be anything
                own = self.lines.emit(f"extractelement <{width} x i64> {offsets}, i64 0")
                chosen = f"<{width} x i64> {offsets}, <{width} x i64> {writer.lines.splat(own, 'i64', width)}"
                offsets = self.lines.emit(f"select <{width} x i1> {scope.mask}, {chosen}")
            return [self.lines.emit(f"extractelement <{width} x i64> {offsets}, i64 {k}") for k in range(width)]
        base, step, _ = writer.offset(row)
        return [writer.plus(base, writer.times(writer.size(step), lane)) for lane in writer.lanes_there()]

    def _resized(self, value: str, dtype: str, old: int, new: int) -> str:
        """The first lanes of a vector, or a vector with lanes added."""
        if old == new or old == 1:
            return value
        picked = ", ".join(f"i32 {k}" if k < old else "i32 poison" for k in range(new))
        kind = memory_type(dtype, old)
        return self.lines.emit(f"shufflevector {kind} {value}, {kind} poison, <{new} x i32> <{picked}>")
