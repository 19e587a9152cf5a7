"""Loops that fold run in stretches.

The middle of `codegen.kernels.emit`. Promise: the order in which values are added depends on the extents of loops
alone, not on the width of registers; no more than a few dozen roundings run through a sum of any length.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codegen.ir.loops import For, Stmt, Store
from codegen.kernels.folds import Carried, Settled, by_halves
from codegen.kernels.writer import ScalarWriter


@dataclass(eq=False, slots=True)
class Rows:
    """The rows that a fold over columns runs over at the moment, and where its totals and their rests are."""

    loop: For
    start: str
    stop: str
    first: str
    """The first column of the panel."""
    stores: dict[int, Store]
    rests: dict[int, str]
    totals: dict[int, str]
    """Where the totals of these rows are already, column by column; empty where they are still to be computed."""


class StretchWriter(ScalarWriter):
    """Writes loops that fold."""

    rows: Rows | None = None

    @abstractmethod
    def body(self, body: Sequence[Stmt]) -> None:
        """Write statements in order."""

    @abstractmethod
    def block(self, body: Sequence[Stmt]) -> None:
        """Write what is done with one block."""

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
        self.scope = replace(outer, splats=dict(outer.splats), couples=dict(outer.couples))
        lines.do(f"{following} = add nsw i64 {counter}, {length}")
        steps(loop, counter, self.lines.least(following, extent))
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

    def each(self, start: str, stop: str, step: int, body: Callable[[str], None]) -> None:
        """Run `body` from `start` by `step` up to `stop`, which may be reached at once."""
        lines = self.lines
        some, done = lines.label("some"), lines.label("done")
        lines.do(f"br i1 {lines.emit(f'icmp slt i64 {start}, {stop}')}, label %{some}, label %{done}")
        lines.begin(some)
        self.counted(start, stop, step, body)
        lines.jump(done)

    def steps(self, loop: For, start: str, extent: str, chains: int) -> None:
        """The iterations of a plain loop from `start` to `extent`; a fold may run in chains side by side.

        Iteration k goes to chain k mod `chains`, what is left in the end to the first one.
        """
        every = [[""] * len(loop.carries)] * chains
        if chains > 1:
            start, every = self._rounds(loop, start, self.whole(start, extent, chains), every)
        first = self._rounds(loop, start, extent, every[:1])[1]
        for number, carry in enumerate(loop.carries):
            parts = [made[number] for made in (*first, *every[1:])]
            width = self.scope.width
            self.define(carry.out, by_halves(self.lines, carry, width, parts), width > 1, carry.dtype)

    def _rounds(self, loop: For, start: str, extent: str, inits: list[list[str]]) -> tuple[str, list[list[str]]]:
        """Iterations in rounds of as many as there are chains, given what each goes on from; what each comes to."""
        outer, width = self.scope, self.scope.width
        carried = [
            [Carried(self, carry, width, init) for carry, init in zip(loop.carries, own, strict=True)] for own in inits
        ]

        def some(counter: str) -> None:
            names = self.env
            for number, own in enumerate(carried):
                self.scope = replace(outer, splats=dict(outer.splats), couples=dict(outer.couples))
                if len(inits) > 1:
                    self.env = dict(names)
                self.vars[loop.var] = self.plus(counter, str(number))
                if loop.step != 1:
                    end = self.plus(counter, self.size(loop.step))
                    self.stops[loop.var] = self.lines.least(end, extent)
                    self.block(loop.body)
                else:
                    self.body(loop.body)
                for one in own:
                    one.step()
            self.scope, self.env = outer, names

        counter = self.lines.loop(
            extent, some, self.size(loop.step) if len(inits) == 1 else len(inits), start,
            lambda before, latch: [one.phi(before, latch) for own in carried for one in own],
        )  # fmt: skip
        return counter, [[one.now for one in own] for own in carried]

    def whole(self, begin: str, extent: str, width: int) -> str:
        """Where the last whole group of `width` iterations ends."""
        if begin == "0":
            return self.lines.emit(f"and i64 {extent}, {-width}")
        own = self.lines.emit(f"and i64 {self.lines.emit(f'sub i64 {extent}, {begin}')}, {-width}")
        return self.plus(begin, own)
