"""Vector loops: strips of whole registers, masked ends, folds in registers, short rows.

The upper middle of `codegen.kernels.emit`. Promise: a fold over a vector loop has `For.parts` partial results, whatever
the registers are and however short a row is, folded by halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from codegen.analysis.facts import OF_EACH, in_stretches
from codegen.analysis.strips import may_be_short, short_registers, strips
from codegen.ir.loops import Carry, For
from codegen.kernels.folds import Partial, alone, folded, total
from codegen.kernels.staged import Staging, staged_rows
from codegen.kernels.stretches import StretchWriter
from codegen.kernels.writer import Named, Scope, Slot
from codegen.llvm.text import register_type


class VectorWriter(StretchWriter):
    """Writes loops that take several iterations at a time."""

    shared: For | None = None
    """The loop whose iterations threads share."""
    inside: int = 0
    """Plain loops around what is written."""

    def range_of(self, loop: For) -> tuple[str, str]:
        """Where a loop begins and ends."""
        if loop is self.shared:
            return "%from", "%to"
        if loop.among:
            return "0", self._among(*loop.among)
        if loop.once:
            return "0", self.lines.least(self.size(loop.extent), "1")
        if loop.within:
            share = self.size(loop.share)
            return self.times(self.vars[loop.within], share), self.times(self.stops[loop.within], share)
        extent = self.size(loop.extent)
        if loop.block is None:
            return "0", extent
        name, size = loop.block
        length = self.size(size)
        start = self.times(length, self.vars[name])
        return start, self.lines.least(self.plus(start, length), extent)

    def _among(self, name: str, scalar: int) -> str:
        """1 where a scalar is among the iterations of a joined loop, otherwise 0."""
        value = self.use(scalar)[0]
        behind = self.lines.emit(f"icmp sge i64 {value}, {self.vars[name]}")
        before = self.lines.emit(f"icmp slt i64 {value}, {self.stops[name]}")
        return self.lines.emit(f"zext i1 {self.lines.emit(f'and i1 {behind}, {before}')} to i64")

    # ---------------------------------------------------------------- vector loops
    def vector_loop(self, loop: For) -> None:
        """A loop that takes several iterations at a time."""
        begin, extent = self.range_of(loop)
        if self.inside and may_be_short(loop):
            self._short_fold(loop, begin, extent)
        else:
            self.long_loop(loop, begin, extent)

    def long_loop(self, loop: For, begin: str, extent: str) -> None:
        """A vector loop of any length."""
        length = OF_EACH * loop.parts
        if in_stretches(loop, length):
            self.stretches(loop, begin, extent, length, lambda one, a, b: self.vector_steps(one, a, b, None))
            return
        rows = staged_rows(loop)
        if rows is not None:
            Staging(self, rows).write(begin, extent, lambda a, b: self.vector_steps(loop, a, b, None))
            return
        inside = loop.block or loop.within or loop is self.shared
        self.vector_steps(loop, begin, extent, loop.extent if isinstance(loop.extent, int) and not inside else None)

    def vector_steps(self, loop: For, begin: str, extent: str, static: int | None) -> None:
        """The iterations of a vector loop from `begin` to `extent`; `static`: how many, where that is known."""
        full = extent
        for guest in loop.body:
            if isinstance(guest, For) and guest.along:  # registers are full as long as all run
                full, static = self.lines.least(full, self.size(guest.extent)), None
        cut = strips(loop, self.lanes, static)
        if cut.some:
            self._in_registers(loop, begin, extent, cut.lanes, cut.some if static is None or static % loop.parts else 0)
            return
        accumulators = [Partial(self, carry, loop.parts, bool(cut.wide)) for carry in loop.carries]
        start = begin
        for width in (cut.wide, cut.plain):
            if width:
                stop, resting = self.whole(begin, full, width), width == cut.wide
                start = self.strip(loop, begin, start, stop, width, accumulators, masked=False, in_registers=resting)
        if cut.masked:
            self.strip(loop, begin, start, extent, cut.lanes, accumulators, masked=True, in_registers=False)
        for one in accumulators:
            one.finish()

    def strip(
        self, loop: For, begin: str, start: str, stop: str, width: int, partials: Sequence[Partial], masked: bool,
        in_registers: bool, body: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """Run the body, or another, from `start` to `stop`, `width` iterations at a time; returns where it ended."""
        phis: list[Callable[[str, str], str] | None] = []

        def some(counter: str) -> None:
            outer, names, saved = self._enter(loop, width, counter)
            if masked:
                self.mask(self.lines.emit(f"sub i64 {stop}, {counter}"))
            phis.extend([one.enter(width, in_registers) for one in partials])
            if body is None:
                self.body(loop.body)
            else:
                body(counter)
            for one in partials:
                one.step(counter, begin)
            self.scope, self.env, self.saved = outer, names, saved

        counter = self.lines.loop(
            stop, some, width, start, lambda before, latch: [p(before, latch) for p in phis if p is not None]
        )
        for one in partials:
            one.leave()
        return counter

    def _in_registers(self, loop: For, begin: str, stop: str, width: int, some: int) -> None:
        """A fold that keeps its partial results in registers: `For.parts` iterations at a time, then one register.

        Short rows spend their time on what is left of so many iterations; that takes `some` registers at most.
        """
        lines = self.lines
        partials = [Partial(self, carry, loop.parts, begun=True, stays=True) for carry in loop.carries]
        whole = self.whole(begin, stop, loop.parts)
        start = self.strip(loop, begin, begin, whole, loop.parts, partials, masked=False, in_registers=True)
        now = [one.pieces(width) for one in partials]
        left, done = lines.emit(f"sub i64 {stop}, {start}"), lines.label("done")
        ways: list[tuple[str, list[list[str]]]] = []
        for number in range(some):
            inside, first = lines.label("body"), number * width
            test = lines.emit(f"icmp sgt i64 {left}, {first}")
            ways.append((lines.block, [list(pieces) for pieces in now]))
            lines.do(f"br i1 {test}, label %{inside}, label %{done}")
            lines.begin(inside)
            outer, names, saved = self._enter(loop, width, self.plus(start, str(first)))
            self.mask(lines.emit(f"sub i64 {left}, {first}") if first else left)
            self.body(loop.body)
            for one, pieces in zip(partials, now, strict=True):
                pieces[number] = folded(self, one.carry, pieces[number])
            self.scope, self.env, self.saved = outer, names, saved
        ways.append((lines.block, now))
        lines.do(f"br label %{done}")
        lines.begin(done)
        merged: list[list[str]] = []
        for which, one in enumerate(partials):
            kind = register_type(one.carry.dtype, width)
            coming = [[f"[ {made[which][n]}, %{block} ]" for block, made in ways] for n in range(loop.parts // width)]
            merged.append([lines.emit(f"phi {kind} {', '.join(each)}") for each in coming])
        for one, pieces in zip(partials, merged, strict=True):
            one.finish(pieces)

    def _short_fold(self, loop: For, begin: str, extent: str) -> None:
        """A fold of rows, which may be short: one of a few registers has no other partial results.

        Those would be neutral, so bits are the same; folding all of them takes longer than a short row itself.
        """
        lines, width, outer = self.lines, self.lanes, self.scope
        few = short_registers(loop, width)
        short, long, done = lines.label("short"), lines.label("long"), lines.label("done")
        left = extent if begin == "0" else lines.emit(f"sub i64 {extent}, {begin}")
        # Of no elements at all there is no last one, which lanes that do not count may read.
        test = lines.emit(f"icmp ult i64 {lines.emit(f'sub i64 {left}, 1')}, {few * width}")
        lines.do(f"br i1 {test}, label %{short}, label %{long}")
        lines.begin(short)
        pieces: list[list[str]] = [[] for _ in loop.carries]
        ways: list[tuple[str, list[str]]] = []
        for number in range(few):
            first = number * width
            around, names, saved = self._enter(loop, width, self.plus(begin, str(first)) if first else begin)
            self.mask(lines.emit(f"sub i64 {left}, {first}") if first else left)
            self.body(loop.body)
            for own, carry in zip(pieces, loop.carries, strict=True):
                own.append(alone(self, carry))
            self.scope, self.env, self.saved = around, names, saved
            more = lines.label("more") if number < few - 1 else ""
            if more:
                last = lines.label("last")
                test = lines.emit(f"icmp sle i64 {left}, {first + width}")
                lines.do(f"br i1 {test}, label %{last}, label %{more}")
                lines.begin(last)
            made = [total(lines, c, width, own) for c, own in zip(loop.carries, pieces, strict=True)]
            ways.append((lines.block, made))
            lines.do(f"br label %{done}")
            lines.begin(more or long)
        self.scope = replace(outer, splats=dict(outer.splats), couples=dict(outer.couples))
        self.long_loop(loop, begin, extent)
        self.scope = outer
        ways.append((lines.block, [self.use(carry.out)[0] for carry in loop.carries]))
        lines.do(f"br label %{done}")
        lines.begin(done)
        self.meet(loop.carries, ways)

    def meet(self, carries: Sequence[Carry], ways: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Define totals where several ways meet: the blocks that these come from, with the totals made there."""
        width = self.scope.width
        for number, carry in enumerate(carries):
            coming = ", ".join(f"[ {made[number]}, %{block} ]" for block, made in ways)
            text = self.lines.emit(f"phi {register_type(carry.dtype, width)} {coming}")
            self.define(carry.out, text, width > 1, carry.dtype)

    def _enter(self, loop: For, width: int, counter: str) -> tuple[Scope, dict[int, Named], dict[int, Slot]]:
        """Begin the body of a vector loop; returns what is to be put back behind it."""
        outside = self.scope, dict(self.env), dict(self.saved)
        self.scope = Scope(width, "", loop.var)
        self.vars[loop.var] = counter
        return outside

    def mask(self, left: str) -> None:
        """Only the first `left` lanes of the body count."""
        scope = self.scope
        scope.left = left
        kind = f"<{scope.width} x i64>"
        every = self.lines.splat(left, "i64", scope.width)
        scope.mask = self.lines.emit(f"icmp slt {kind} {self.lane_numbers()}, {every}")
