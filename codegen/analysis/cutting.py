"""How axes are cut into blocks (`codegen.schedule.blocks`), decided when the sizes of a call are known.

One rule for both sides: `write` computes it in LLVM IR during a call, `block_numbers` in numbers for predictions.
Blocks fit the cache, and what chunks of blocks fold up stays small. Results do not depend on the number of threads, so
nothing here does.

Rows that are multiplied with whole matrices (`Block.fixed` bytes, which every block reads anew) come in four blocks or
a multiple of that, about equally long, for threads to share. Where large matrices meet few rows, packing them
beforehand costs more than blocks save: then all is one block, and products do as they do alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from codegen.ir.loops import PARTS, Block, Program
from codegen.llvm.text import Lines
from symdiff.ir.dims import Dim, Size, evaluate

BLOCK_BYTES = 1 << 19
SHORTEST_BLOCK, LONGEST_BLOCK = 2 * PARTS, 256
"""Elements of a block along its axis, however much or little memory each takes,"""
SINGLE_BYTES = 1 << 17
"""unless large elements are worked on one by one: then blocks of about so many bytes, for threads to share."""
ROWS, FAIR = 8, 4
"""Rows of a block that is multiplied with whole matrices are a multiple of the first, blocks one of the second."""
FIXED_BYTES, FEWEST_ROWS, MOST_ROWS = 1 << 14, 16, 128
"""At least one row for so many bytes of these matrices, which come from farther away the more they are,"""
LARGE_BYTES, LARGE_COUNT = 1 << 21, 12
"""and no blocks where so many bytes would be packed for fewer blocks than this."""
PARTS_BYTES = 1 << 22
USUAL_CHUNKS = 16
LONGEST_CHUNK = 32
"""There are more chunks than usual where they would have over so many blocks, if the parts they fold up stay small."""

_N = TypeVar("_N")


class _Arithmetic(Protocol[_N]):
    """What the rule is computed with; sizes are at least 0."""

    def value(self, size: Size) -> _N: ...
    def least(self, a: _N, b: _N) -> _N: ...
    def most(self, a: _N, b: _N) -> _N: ...
    def times(self, a: _N, b: _N) -> _N: ...
    def down(self, a: _N, b: _N) -> _N: ...
    def up(self, a: _N, b: _N) -> _N: ...
    def choose(self, a: _N, below: _N, yes: _N, no: _N) -> _N: ...


class _Numbers:
    """Numbers."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes

    def value(self, size: Size) -> int:
        return evaluate(size, self.sizes)

    def least(self, a: int, b: int) -> int:
        return min(a, b)

    def most(self, a: int, b: int) -> int:
        return max(a, b)

    def times(self, a: int, b: int) -> int:
        return a * b

    def down(self, a: int, b: int) -> int:
        return a // b

    def up(self, a: int, b: int) -> int:
        return -(-a // b)

    def choose(self, a: int, below: int, yes: int, no: int) -> int:
        return yes if a < below else no


class _Written:
    """Instructions of LLVM IR."""

    def __init__(self, lines: Lines, known: Mapping[Size, str]) -> None:
        self.lines, self.known = lines, known

    def value(self, size: Size) -> str:
        return str(size) if isinstance(size, int) else self.known[size]

    def least(self, a: str, b: str) -> str:
        return self.lines.least(a, b)

    def most(self, a: str, b: str) -> str:
        return self.lines.most(a, b)

    def times(self, a: str, b: str) -> str:
        return self.lines.emit(f"mul i64 {a}, {b}")

    def down(self, a: str, b: str) -> str:
        return self.lines.emit(f"udiv i64 {a}, {b}")

    def up(self, a: str, b: str) -> str:
        more = self.lines.emit(f"sub i64 {self.lines.emit(f'add i64 {a}, {b}')}, 1")
        return self.lines.emit(f"udiv i64 {more}, {b}")

    def choose(self, a: str, below: str, yes: str, no: str) -> str:
        return self.lines.emit(f"select i1 {self.lines.emit(f'icmp slt i64 {a}, {below}')}, i64 {yes}, i64 {no}")


def _cut(to: _Arithmetic[_N], block: Block) -> tuple[_N, _N, _N]:
    """Elements of a block, how many chunks there are, and elements of a chunk."""
    number, one = to.value, to.value(1)
    each, extent, parts = (to.most(number(size), one) for size in (block.each, block.extent, block.parts))
    fitting = to.down(number(BLOCK_BYTES), each)
    if block.fixed == 0:
        size = _lanes(to, fitting)
        if block.single:
            few = to.most(to.down(number(SINGLE_BYTES), each), one)
            size = to.choose(fitting, number(SHORTEST_BLOCK), few, size)
        size = to.least(size, extent)
    else:
        size = _rows(to, number(block.fixed), fitting, extent)
    count = to.up(extent, size)
    wanted = to.least(to.most(to.up(count, number(LONGEST_CHUNK)), number(USUAL_CHUNKS)), count)
    chunks = to.least(to.most(to.down(number(PARTS_BYTES), parts), one), wanted)
    span = to.up(count, chunks)
    return size, to.up(count, span), to.times(span, size)


def _lanes(to: _Arithmetic[_N], fitting: _N) -> _N:
    """A multiple of what a vector loop takes at a time."""
    whole = _multiple(to, to.down(fitting, to.value(PARTS)), PARTS)
    return to.least(to.most(whole, to.value(SHORTEST_BLOCK)), to.value(LONGEST_BLOCK))


def _rows(to: _Arithmetic[_N], fixed: _N, fitting: _N, extent: _N) -> _N:
    """Rows that are multiplied with so many bytes."""
    number = to.value
    fewest = to.least(to.most(to.down(fixed, number(FIXED_BYTES)), number(FEWEST_ROWS)), number(MOST_ROWS))
    longest = to.least(to.most(fitting, fewest), number(LONGEST_BLOCK))
    count = to.up(extent, _multiple(to, to.up(longest, number(ROWS)), ROWS))
    fair = to.up(extent, _multiple(to, to.up(count, number(FAIR)), FAIR))
    size = to.least(_multiple(to, to.up(fair, number(ROWS)), ROWS), extent)
    most = to.choose(number(LARGE_BYTES), fixed, number(LARGE_COUNT), number(2))
    return to.choose(count, most, extent, size)


def _multiple(to: _Arithmetic[_N], count: _N, of: int) -> _N:
    return to.times(count, to.value(of))


def write(lines: Lines, known: dict[Size, str], block: Block) -> None:
    """Compute how an axis is cut; `known` has the values of the sizes that this takes, and gets those made."""
    known[block.size], known[block.chunks], known[block.span] = _cut(_Written(lines, known), block)


def block_sizes(program: Program) -> list[Dim]:
    """The sizes that are decided during a call."""
    return [size for block in program.blocks for size in (block.size, block.chunks, block.span)]


def block_numbers(blocks: Sequence[Block], sizes: Mapping[str, int]) -> dict[str, int]:
    """The same sizes in numbers, when the named dimensions have these sizes."""
    made: dict[str, int] = {}
    for block in blocks:
        names = map(str, (block.size, block.chunks, block.span))
        made.update(zip(names, _cut(_Numbers(sizes), block), strict=True))
    return made
