"""Loops that fold run in stretches, and columns are folded over many rows block by block.

The middle of `codegen.emit`. Promise: the order in which values are added depends on the extents of loops alone, not on
the width of registers; no more than a few dozen roundings run through a sum of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from codegen import scalars
from codegen.folds import Settled, is_rounded, two_sum, with_rest
from codegen.loops import For, Load, Store
from codegen.text import BYTES, constant, memory_type, register_type
from codegen.writer import ScalarWriter

BLOCK = 128
PANEL = 512
"""Rows and columns of what a fold over rows takes at a time."""


@dataclass(slots=True)
class Rows:
    """The rows that a fold over columns runs over at the moment, and where its totals and their rests are."""

    loop: For
    start: str
    stop: str
    first: str
    """The first column of the panel."""
    stores: dict[int, Store]
    rests: dict[int, str]


class StretchWriter(ScalarWriter):
    """Writes loops that fold."""

    rows: Rows | None = None

    def least(self, a: str, b: str) -> str:
        self.module.declare("declare i64 @llvm.smin.i64(i64, i64)")
        return self.lines.emit(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def stretches(
        self, loop: For, start: str, extent: str, length: int, steps: Callable[[For, str, str], None]
    ) -> None:
        """Stretches of `length` iterations, each run by `steps`, and the totals of what the loop carries.

        A block of rows has few stretches, whose roundings need not be kept.
        """
        lines = self.lines
        head, several, again = lines.label("stretch"), lines.label("several"), lines.label("again")
        closing, done = lines.label("closing"), lines.label("done")
        before = lines.block
        lines.do(f"br label %{head}")
        lines.begin(head)
        counter, following = lines.fresh("i"), lines.fresh("n")
        position = len(lines.lines)
        outer = self.scope
        self.scope = replace(outer, splats=dict(outer.splats), angles=dict(outer.angles))
        lines.do(f"{following} = add nsw i64 {counter}, {length}")
        steps(loop, counter, self.least(following, extent))
        totals = [Settled(self, carry, outer.width, self.rows is None) for carry in loop.carries]
        for one in totals:
            one.stretch()
        first = lines.label("first")
        alone = lines.emit(f"icmp eq i64 {counter}, {start}")
        more = lines.emit(f"icmp slt i64 {following}, {extent}")
        lines.do(f"br i1 {alone}, label %{first}, label %{several}")
        lines.begin(first)
        lines.do(f"br i1 {more}, label %{again}, label %{done}")
        lines.begin(several)
        for one in totals:
            one.add()
        lines.do(f"br i1 {more}, label %{again}, label %{closing}")
        lines.begin(again)
        carried = [one.go_on(first, several) for one in totals]
        lines.do(f"br label %{head}")
        lines.lines[position:position] = [
            f"  {counter} = phi i64 [ {start}, %{before} ], [ {following}, %{again} ]",
            *[phi for one, then in zip(totals, carried, strict=True) for phi in one.at_head(before, again, then)],
        ]
        lines.begin(closing)
        for one in totals:
            one.close()
        lines.do(f"br label %{done}")
        lines.begin(done)
        self.scope = outer
        for one in totals:
            one.finish(first, closing)

    def counted(self, start: str, extent: str, step: int, body: Callable[[str], None]) -> None:
        """Run `body` once at least, from `start` by `step` as long as `extent` is not reached."""
        lines = self.lines
        head, done = lines.label("part"), lines.label("done")
        before = lines.block
        lines.do(f"br label %{head}")
        lines.begin(head)
        counter, position = lines.fresh("i"), len(lines.lines)
        body(counter)
        following = lines.emit(f"add nsw i64 {counter}, {step}")
        more = lines.emit(f"icmp slt i64 {following}, {extent}")
        lines.lines.insert(position, f"  {counter} = phi i64 [ {start}, %{before} ], [ {following}, %{lines.block} ]")
        lines.do(f"br i1 {more}, label %{head}, label %{done}")
        lines.begin(done)

    # ---------------------------------------------------------------- columns folded over many rows
    def panels(self, loop: For, inner: For, reach: tuple[str, str], steps: Callable[[str, str], None]) -> None:
        """A vector loop over columns around a fold over rows, in blocks that stay in the cache.

        For a panel of columns `BLOCK` rows at a time; the totals of blocks rest where they are stored in the end, and
        what roundings leave beside them for the panel. `steps` runs the vector loop over the columns of a panel.
        """
        begin, extent = reach
        stores = {s.value: s for s in loop.body if isinstance(s, Store)}
        rests: dict[int, str] = {}
        for carry in inner.carries:
            if is_rounded(carry):
                rests[carry.out] = self.lines.fresh("rests")
                kind = memory_type(carry.dtype, PANEL)
                self.once(rests[carry.out], f"  {rests[carry.out]} = alloca {kind}, align 64")

        def panel(first: str) -> None:
            end = self.least(self.plus(first, str(PANEL)), extent)

            def rows(start: str) -> None:
                stop = self.least(self.plus(start, str(BLOCK)), self.size(inner.extent))
                self.rows = Rows(inner, start, stop, first, stores, rests)
                steps(first, end)
                self.rows = None

            self.counted("0", self.size(inner.extent), BLOCK, rows)

        self.counted(begin, extent, PANEL, panel)

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
            column = lines.emit(f"sub i64 {self.vars[self.scope.vector]}, {rows.first}")
            place = lines.emit(
                f"getelementptr inbounds {memory_type(dtype, 1)}, ptr {rows.rests[stmt.value]}, i64 {column}"
            )
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
