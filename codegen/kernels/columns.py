"""Columns folded over many rows, block by block.

The upper middle of `codegen.kernels.emit`. Promise: a column's values are added in the order of its rows, in stretches
and blocks that depend on the number of rows alone.

A few columns are folded in registers, strip by strip. Where there are many and the body is cheap, `GROUP` rows are
read side by side along all columns of a panel, and what a stretch has come to rests in the cache: memory is read in
long runs then, of which several are under way at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codegen.analysis.facts import BLOCK, CHAIN, CHAINS, WIDE_LIMIT, in_stretches, is_rounded, light, weight
from codegen.ir.index import flatten
from codegen.ir.loops import Carry, For, Let, Load, Stmt, Store
from codegen.kernels.stretches import Rows
from codegen.kernels.vectors import VectorWriter
from codegen.kernels.writer import Named
from codegen.llvm import scalars
from codegen.llvm.compensated import two_sum, with_rest
from codegen.llvm.text import BYTES, constant, memory_type, register_type

PANEL, LONG_PANEL = 512, 2048
"""Columns that are folded at a time: strip by strip, or along their rows."""
GROUP = 4
"""Rows that are read side by side."""
_FEW = 256
"""Columns up to which they are folded strip by strip."""
_MOST = 2
"""Totals of a column, whose partial results have to stay in the cache."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """A fold along the rows: statements that are the same for all columns of a row, those that are not, and those of a
    column before its fold; the partial results of every total, and the total of a block of rows."""

    loop: For
    inner: For
    before: Sequence[Stmt]
    fixed: Sequence[Let | Load]
    moving: Sequence[Let | Load]
    parts: Sequence[Sequence[str]]
    totals: Sequence[str]


class ColumnWriter(VectorWriter):
    """Writes folds over the rows of columns."""

    def panels(self, loop: For, inner: For, reach: tuple[str, str], steps: Callable[[str, str], None]) -> None:
        """A vector loop over columns around a fold over rows, in blocks that stay in the cache.

        For a panel of columns `BLOCK` rows at a time; the totals of blocks rest where they are stored in the end, and
        what roundings leave beside them for the panel. `steps` runs the vector loop over the columns of a panel.
        """
        flow, lines = self._flow(loop, inner), self.lines
        rests: dict[int, str] = {}
        for number, carry in enumerate(inner.carries):
            if is_rounded(carry):
                rests[carry.out] = self._room("rests", number, carry, PANEL if flow is None else LONG_PANEL)
        if flow is None:
            self._by_panels(loop, inner, reach, steps, rests, None)
            return
        count = lines.emit(f"sub i64 {reach[1]}, {reach[0]}")
        few, many, done = lines.label("few"), lines.label("many"), lines.label("done")
        lines.do(f"br i1 {lines.emit(f'icmp sle i64 {count}, {_FEW}')}, label %{few}, label %{many}")
        for label, way in ((few, None), (many, flow)):
            lines.begin(label)
            self._by_panels(loop, inner, reach, steps, rests, way)
            lines.do(f"br label %{done}")
        lines.begin(done)

    def _by_panels(
        self, loop: For, inner: For, reach: tuple[str, str], steps: Callable[[str, str], None], rests: dict[int, str],
        flow: _Flow | None,
    ) -> None:  # fmt: skip
        stores = {s.value: s for s in loop.body if isinstance(s, Store)}
        (begin, extent), length = reach, PANEL if flow is None else LONG_PANEL
        totals: dict[int, str] = {}
        if flow is not None:
            self._clear(flow, self.lines.least(self.lines.emit(f"sub i64 {extent}, {begin}"), length))
            totals = {carry.out: place for carry, place in zip(inner.carries, flow.totals, strict=True)}

        def panel(first: str) -> None:
            end = self.lines.least(self.plus(first, str(length)), extent)

            def rows(start: str) -> None:
                stop = self.lines.least(self.plus(start, str(BLOCK)), self.size(inner.extent))
                if flow is not None:
                    self._run(flow, (first, end), start, stop)
                self.rows = Rows(inner, start, stop, first, stores, rests, totals)
                steps(first, end)
                self.rows = None

            self.counted("0", self.size(inner.extent), BLOCK, rows)

        self.counted(begin, extent, length, panel)

    def _room(self, hint: str, number: int, carry: Carry, columns: int) -> str:
        """Memory for one number of each column of a panel, the same for all folds of a function."""
        name = f"%{hint}.{number}.{carry.dtype}.{columns}"
        return self.once(name, f"  {name} = alloca {memory_type(carry.dtype, columns)}, align 64")

    def _column(self, base: str, dtype: str, first: str) -> str:
        """The place of the column at hand among those of a panel."""
        column = self.lines.emit(f"sub i64 {self.vars[self.scope.vector]}, {first}")
        return self._far(base, dtype, column)

    def _far(self, base: str, dtype: str, column: str) -> str:
        return self.lines.emit(f"getelementptr inbounds {memory_type(dtype, 1)}, ptr {base}, i64 {column}")

    # ---------------------------------------------------------------- totals of blocks
    def found(self, rows: Rows) -> None:
        """Define the totals of the block of rows that are in memory."""
        for carry in rows.loop.carries:
            place = self._column(rows.totals[carry.out], carry.dtype, rows.first)
            total = self.from_memory(place, carry.dtype, self.scope.width, BYTES[carry.dtype])
            self.define(carry.out, total, True, carry.dtype)

    def settle(self, stmt: Store, rows: Rows) -> None:
        """Fold the total of a block of rows into what rests of the blocks before."""
        lines, width = self.lines, self.scope.width
        carry = next(c for c in rows.loop.carries if c.out == stmt.value)
        dtype, kind = carry.dtype, register_type(carry.dtype, width)
        begins = lines.emit(f"icmp eq i64 {rows.start}, 0")
        own = self.lane_values(stmt.value)
        self._forget()
        self.load(Load(-1, stmt.buffer, stmt.index))
        old = self.lane_values(-1)
        if stmt.value not in rows.rests:
            total = scalars.combine(lines, carry.kind, dtype, old, own, width)
        else:
            place = self._column(rows.rests[stmt.value], dtype, rows.first)
            head, error = two_sum(lines, kind, old, own)
            rest = lines.emit(f"fadd {kind} {self.from_memory(place, dtype, width, BYTES[dtype])}, {error}")
            rest = lines.emit(f"select i1 {begins}, {kind} {constant(0, dtype, width)}, {kind} {rest}")
            self.to_memory(rest, place, dtype, width, BYTES[dtype])
            ends = lines.emit(f"icmp sge i64 {rows.stop}, {self.size(rows.loop.extent)}")
            whole = with_rest(lines, dtype, width, head, rest)
            total = lines.emit(f"select i1 {ends}, {kind} {whole}, {kind} {head}")
        self._forget()
        self.define(-1, lines.emit(f"select i1 {begins}, {kind} {own}, {kind} {total}"), True, dtype)
        self.store(Store(stmt.buffer, stmt.index, -1))

    def _forget(self) -> None:
        """Free the name of the value that rests in memory."""
        self.env.pop(-1, None)
        self.scope.splats.pop(-1, None)

    # ---------------------------------------------------------------- along the rows
    def _flow(self, loop: For, inner: For) -> _Flow | None:
        """How a fold runs along the rows, where it may be long and is cheap enough."""
        before = loop.body[: next(i for i, s in enumerate(loop.body) if s is inner)]
        count, dear = weight(before)
        if isinstance(loop.extent, int) and loop.extent <= _FEW:
            return None
        if not light(inner) or not in_stretches(inner, CHAIN * CHAINS) or dear or count > WIDE_LIMIT:
            return None
        if len(inner.carries) > _MOST or not all(map(is_rounded, inner.carries)):
            return None
        varying = {s.name for s in before if isinstance(s, (Let, Load))}
        fixed: list[Let | Load] = []
        moving: list[Let | Load] = []
        for stmt in inner.body:
            assert isinstance(stmt, (Let, Load))
            if isinstance(stmt, Load):
                index = flatten(stmt.index, stmt.buffer.shape)
                names = {name for name, _ in index.terms}
                varies = loop.var in names or any(f"%{n}" in names for n in varying)
                if varies and (index.coefficient(loop.var) != 1 or any(name[0] == "%" for name in names)):
                    return None
            else:
                varies = stmt.op == "index" or stmt.name in self.uses.fused or any(a in varying for a in stmt.args)
            (moving if varies else fixed).append(stmt)
            if varies:
                varying.add(stmt.name)
        return _Flow(
            loop, inner, before, fixed, moving,
            [[self._room(f"part{chain}", number, carry, LONG_PANEL) for chain in range(CHAINS)]
             for number, carry in enumerate(inner.carries)],
            [self._room("block", number, carry, LONG_PANEL) for number, carry in enumerate(inner.carries)],
        )  # fmt: skip

    def _clear(self, flow: _Flow, columns: str) -> None:
        """Begin partial results."""

        def some(column: str) -> None:
            for carry, parts in zip(flow.inner.carries, flow.parts, strict=True):
                self._empty(carry, parts, column)

        self.each("0", columns, 2 * self.lanes, some)

    def _empty(self, carry: Carry, parts: Sequence[str], column: str) -> None:
        dtype, width = carry.dtype, 2 * self.lanes
        for base in parts:
            nothing = scalars.identity(carry.kind, dtype, width)
            self.to_memory(nothing, self._far(base, dtype, column), dtype, width, BYTES[dtype])

    def _run(self, flow: _Flow, columns: tuple[str, str], start: str, stop: str) -> None:
        """Compute the totals of a block of rows."""

        def stretch(row: str) -> None:
            last, at = self.lines.least(self.plus(row, str(CHAIN * CHAINS)), stop), row
            for rows in (GROUP, 1):
                upto = self.whole(row, last, rows)
                self.each(at, upto, rows, lambda k, rows=rows: self._group(flow, columns, k, rows))
                at = upto
            self._total(flow, columns, self.lines.emit(f"icmp eq i64 {row}, {start}"))

        self.counted(start, stop, CHAIN * CHAINS, stretch)

    def _group(self, flow: _Flow, columns: tuple[str, str], row: str, rows: int) -> None:
        """Add some rows to partial results, each to those of its number modulo `CHAINS`."""
        names, variable, carries = self.env, flow.inner.var, flow.inner.carries
        parts = [self._parts_of(own, row) if rows == 1 else own for own in flow.parts]
        numbers = [self.plus(row, str(r)) for r in range(rows)]
        own: list[dict[int, Named]] = []
        for number in numbers:
            self.env, self.vars[variable] = dict(names), number
            self.body(flow.fixed)
            own.append({s.name: self.env[s.name] for s in flow.fixed})
        self.env = names

        def some(_: str) -> None:
            self.body(flow.before)
            outer, here, width = self.scope, self.env, self.scope.width
            places = {
                (which, chain): self._column(part, carry.dtype, columns[0])
                for which, carry in enumerate(carries) for chain, part in enumerate(parts[which])
            }  # fmt: skip
            now = {
                (which, chain): self.from_memory(place, carries[which].dtype, width, BYTES[carries[which].dtype])
                for (which, chain), place in places.items()
            }
            for r, number in enumerate(numbers):
                self.scope = replace(outer, splats=dict(outer.splats), couples=dict(outer.couples))
                self.env, self.vars[variable] = {**here, **own[r]}, number
                self.body(flow.moving)
                for which, carry in enumerate(carries):
                    now[which, r % CHAINS] = self.fold(carry, now[which, r % CHAINS], width)
            self.env, self.scope = here, outer
            for (which, chain), place in places.items():
                dtype = carries[which].dtype
                self.to_memory(now[which, chain], place, dtype, width, BYTES[dtype])

        (first, end), width = columns, 2 * self.lanes
        stop = self.whole(first, end, width)
        self.strip(flow.loop, first, first, stop, width, (), masked=False, in_registers=False, body=some)
        self.strip(flow.loop, first, stop, end, self.lanes, (), masked=True, in_registers=False, body=some)

    def _parts_of(self, parts: Sequence[str], row: str) -> Sequence[str]:
        """The partial results that a row alone is added to."""
        found = parts[0]
        for number, part in enumerate(parts[1:], 1):
            own = self.lines.emit(f"icmp eq i64 {self.lines.emit(f'and i64 {row}, {CHAINS - 1}')}, {number}")
            found = self.lines.emit(f"select i1 {own}, ptr {part}, ptr {found}")
        return [found]

    def _total(self, flow: _Flow, columns: tuple[str, str], begins: str) -> None:
        """Add the partial results of a stretch to the total of the block, and begin others."""
        lines, width = self.lines, 2 * self.lanes

        def some(column: str) -> None:
            for carry, parts, total in zip(flow.inner.carries, flow.parts, flow.totals, strict=True):
                dtype, kind = carry.dtype, register_type(carry.dtype, width)
                places = [self._far(base, dtype, column) for base in (*parts, total)]
                one, two, old = (self.from_memory(place, dtype, width, BYTES[dtype]) for place in places)
                own = scalars.combine(lines, carry.kind, dtype, one, two, width)
                both = scalars.combine(lines, carry.kind, dtype, old, own, width)
                new = lines.emit(f"select i1 {begins}, {kind} {own}, {kind} {both}")
                self.to_memory(new, places[-1], dtype, width, BYTES[dtype])
                self._empty(carry, parts, column)

        self.each("0", lines.emit(f"sub i64 {columns[1]}, {columns[0]}"), width, some)
