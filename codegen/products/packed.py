"""Large matrix products in LLVM IR: operands packed block by block, so that panels stay in the caches.

`text(module, tile)` gives `i32 @sd.packed.<dtype>`, which takes what the matrix product takes (see
`codegen.products.gemm`) and whether B is read where it lies. Columns of C go in blocks, and within them stretches of
the sum, for each of which B is packed (unless it comes in panels, see `codegen.products.panels`), and within them rows,
for which A is packed where that pays. Where all rows are one block, B is packed a few panels at a time, which stay in
the caches until they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codegen.llvm import memory
from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module
from codegen.products import packing, tiles
from codegen.products.tiles import FOUR, Tile

WORDS = ("m", "n", "k", "a", "ar", "as", "b", "bs", "bc", "c", "cr", "scale", "flags", "panels")
_POINTERS = ("a", "b", "c", "scale", "panels", "dots", "parts", "out")
ADD, HALF, MIRROR = 1, 2, 4
BEFORE = 256
"""Flags hold, so many times, the columns of the panels that come before the first one of B: whole tiles."""

KC, LAST = 192, 240
"""Products of a stretch of a sum, which goes to C, and those that the last stretch has at most: the next few would cost
much alone."""
_BLOCK_BYTES = 147_456
"""What is packed of A at a time: panels of B and rows of C go through the second cache beside it,"""
ALONE_BYTES = 393_216
"""unless a stretch of all of A is at most so long and packed or in one place;"""
NC = 1536
"""columns of B that are packed at a time,"""
_AT_A_TIME = 4
"""or panels where all rows of A use them one after the other: these have cache lines in common if columns are dense."""
_PACK_ROWS_FOR, _TURN_ROWS_FOR = 192, 768
"""A is packed for so many columns of C, or for so many bytes of a row of C where its rows are not dense,"""
_NEAR, _LINE, _FIRST_CACHE = 1280, 64, 24_576
"""or for so many where its elements of a sum lie no further apart, as long as those lines of A that several tiles read
stay in the first cache beside a panel of B;"""
_SAME = 1024
"""which those that lie multiples of so many bytes apart do not: there are few places for them."""


def kind(word: str) -> str:
    """The type of a parameter."""
    return "ptr" if word in _POINTERS else "i64"


def arguments(words: Sequence[str], **other: str) -> str:
    """Parameters as they are passed on, or as they are declared; some of them replaced."""
    return ", ".join(f"{kind(word)} {other.get(word, f'%{word}')}" for word in words)


def round_up(r: Routine, size: str, multiple: str | int) -> str:
    """The next multiple of a number, at least as large as a size."""
    return r.mul(r.parts(size, multiple), multiple)


def _step_bytes(tile: Tile) -> int:
    """What a product of each sum reads that stays in the first cache, where columns of A are dense."""
    row, column = tile.columns * BYTES[tile.dtype], tile.rows * BYTES[tile.dtype]
    return row + (_LINE if column < _LINE else 0)


def columns_to_pack_for(r: Routine) -> str:
    """The columns of C from which A is packed."""
    tile, bytes_ = tiles.tiles(r.module, r.dtype)[-1], BYTES[r.dtype]
    near = r.emit(f"icmp sle i64 %as, {_NEAR // bytes_}")
    apart = r.emit(f"icmp ne i64 {r.emit(f'and i64 %as, {_SAME // bytes_ - 1}')}, 0")
    short = r.emit(f"icmp sle i64 {r.least('%k', KC)}, {_FIRST_CACHE // _step_bytes(tile)}")
    turned = r.emit(f"select i1 {r.both(near, apart, short)}, i64 {_NEAR // bytes_}, i64 {_TURN_ROWS_FOR // bytes_}")
    return r.emit(f"select i1 {r.emit('icmp eq i64 %as, 1')}, i64 {_PACK_ROWS_FOR}, i64 {turned}")


def packs_rows(tile: Tile, n: float, k: float, a_sum: float) -> bool:
    """The same for numbers: whether A is packed for so many columns."""
    bytes_ = BYTES[tile.dtype]
    if a_sum == 1:
        return n >= _PACK_ROWS_FOR
    near = a_sum * bytes_ <= _NEAR and a_sum * bytes_ % _SAME and min(k, KC) <= _FIRST_CACHE // _step_bytes(tile)
    return n * bytes_ >= (_NEAR if near else _TURN_ROWS_FOR)


def stretches(r: Routine, k: str) -> str:
    """Where the last stretch of a sum has begun: one begins at each multiple of `KC` before that, and at 0."""
    return r.most(r.sub(k, LAST - KC), 1)


def stretch_length(r: Routine, left: str) -> str:
    """The products of a stretch where so many are left."""
    return r.emit(f"select i1 {r.emit(f'icmp sle i64 {left}, {LAST}')}, i64 {left}, i64 {KC}")


def block_rows(r: Routine) -> str:
    """Rows of A that are packed at a time: whole tiles, of at most `2 * FOUR` rows, in blocks of nearly one size."""
    most = _BLOCK_BYTES // (KC * BYTES[r.dtype])
    blocks = r.most(r.parts("%m", most), 1)
    return round_up(r, r.parts("%m", blocks), 2 * FOUR)


def fill(r: Routine, length: str, target: str, start: str = "0", first: str = "0", count: str = "%n") -> None:
    """Pack so many columns of B from `first` on into their places among all panels, from product `start` of the sum on:
    stretch after stretch, as they are used, with the scale multiplied in."""
    wide = tiles.widest(r.module, r.dtype)
    padded = round_up(r, "%n", wide)
    plain = r.emit("icmp eq ptr %scale, null")

    def part(inside: str) -> None:
        l = r.add(start, inside)
        k = stretch_length(r, r.sub(length, inside))
        source = r.place("%b", r.add(r.mul(l, "%bs"), r.mul(first, "%bc")))
        own = r.emit(f"select i1 {plain}, ptr null, ptr {r.place('%scale', l)}")
        place = r.place(target, r.add(r.mul(l, padded), r.mul(first, k)))
        packing.call(r, count, k, source, "%bc", "%bs", place, wide, own)

    r.loop(stretches(r, length), part, KC)


def call(r: Routine, direct: str) -> str:
    """Call the routine with the parameters of the caller."""
    return r.emit(f"call i32 @sd.packed.{r.dtype}({arguments(WORDS)}, i1 {direct})")


def text(module: Module, tile: Tile) -> str:
    """The routine."""
    r = Routine(module, tile.dtype)
    bytes_ = BYTES[tile.dtype]
    narrowest = tiles.tiles(module, tile.dtype)[0].columns
    half, begins = r.flag("%flags", HALF), r.emit(f"xor i1 {r.flag('%flags', ADD)}, true")
    plain, longest = r.emit("icmp eq ptr %scale, null"), r.least("%k", LAST)
    ready = r.emit("icmp ne ptr %panels, null")
    lies = r.emit(f"or i1 %direct, {ready}")
    copies = r.emit(f"icmp sge i64 %n, {columns_to_pack_for(r)}")
    close = r.emit(f"or i1 {copies}, {r.emit(f'icmp sle i64 %ar, {LAST}')}")
    most = r.emit(f"select i1 {close}, i64 {ALONE_BYTES}, i64 {_BLOCK_BYTES}")
    few = r.emit(f"icmp sle i64 {r.mul(r.mul('%m', longest), bytes_)}, {most}")
    alone = r.both(few, r.emit(f"xor i1 {lies}, true"))
    n_most = r.emit(f"select i1 {alone}, i64 %n, i64 {r.least('%n', NC)}")
    m_most = r.emit(f"select i1 {alone}, i64 %m, i64 {r.least('%m', r.most(block_rows(r), 1))}")
    before = r.emit(f"udiv i64 %flags, {BEFORE}")
    padded = r.add(before, round_up(r, "%n", tile.columns))
    near = r.emit("icmp eq i64 %bc, 1")
    group = r.emit(f"select i1 {near}, i64 {_AT_A_TIME * tile.columns}, i64 {tile.columns}")
    some = r.least("%n", group)
    b_most = r.add(r.emit(f"select i1 {alone}, i64 {some}, i64 {n_most}"), tile.columns)
    b_size = r.emit(f"select i1 {lies}, i64 0, i64 {b_most}")
    a_size = r.emit(f"select i1 {copies}, i64 {r.add(m_most, tile.rows)}, i64 0")
    lines = r.add(b_size, a_size)
    held = r.variable("ptr", "null")

    def acquire() -> None:
        block = memory.acquire(r, memory.SCRATCH, r.mul(r.mul(longest, lines), bytes_))
        r.leave(r.emit(f"icmp eq ptr {block}, null"), 1)
        r.do(f"store ptr {block}, ptr {held}")

    packs = r.emit(f"icmp sgt i64 {lines}, 0")
    r.when(packs, acquire)
    block = r.emit(f"load ptr, ptr {held}")
    b_pack = memory.inside(r, block)
    a_pack = r.emit(f"getelementptr {r.type}, ptr {b_pack}, i64 {r.mul(longest, b_size)}")
    r.lines.insert(0, f"  %b.rest = alloca [{LAST * tile.columns} x {r.type}], align 64")

    def columns(j: str) -> None:
        n = r.least(r.sub("%n", j), n_most)
        # Rows below the last column of a symmetric result belong to its other half.
        stop = r.emit(f"select i1 {half}, i64 {r.least('%m', r.add(j, n))}, i64 %m")
        whole = r.mul(r.emit(f"sdiv i64 {n}, {tile.columns}"), tile.columns)
        ragged = r.emit(f"icmp ne i64 {r.emit(f'and i64 {n}, {narrowest - 1}')}, 0")
        lying = r.emit(f"select i1 {r.emit(f'and i1 %direct, {ragged}')}, i64 {whole}, i64 {n}")
        narrow = r.sub(n, lying)

        def part(l: str) -> None:
            k = stretch_length(r, r.sub("%k", l))
            source = r.place("%b", r.add(r.mul(l, "%bs"), r.mul(j, "%bc")))
            own = r.emit(f"select i1 {plain}, ptr null, ptr {r.place('%scale', l)}")
            first = r.emit(f"and i1 {begins}, {r.emit(f'icmp eq i64 {l}, 0')}")
            wide = r.mul(k, tile.columns)
            panels = b_pack, wide, str(tile.columns)

            def pack(count: str, place: str, target: str) -> None:
                packing.call(r, count, k, place, "%bc", "%bs", target, tile.columns, own)

            def rows(i: str, m: str) -> Callable[[str, Sequence[str], str], None]:
                """So many rows of A, packed where that pays; returns what multiplies them with columns of B."""
                a = r.place("%a", r.add(r.mul(i, "%ar"), r.mul(l, "%as")))
                r.when(copies, lambda: packing.call(r, m, k, a, "%ar", "%as", a_pack))
                left = [r.emit(f"select i1 {copies}, {kind} {x}, {kind} {y}") for kind, x, y in (
                    ("ptr", a_pack, a), ("i64", r.mul(k, FOUR), r.mul("%ar", FOUR)), ("i64", "1", "%ar"),
                    ("i64", str(FOUR), "%as"),
                )]  # fmt: skip

                def against(n: str, b: Sequence[str], j: str) -> None:
                    low = r.emit(f"select i1 {half}, i64 {r.sub(i, j)}, i64 {tiles.NOWHERE}")
                    tiles.call(r, (m, n, k), left, b, r.place("%c", r.at(i, "%cr", j)), first, low)

                return against

            def few_panels() -> None:
                """All rows of A at once: panels of B are packed when their turn comes, and never leave the cache."""
                against = rows("0", stop)

                def some(x: str) -> None:
                    count = r.least(r.sub(n, x), group)
                    pack(count, r.place(source, r.mul(x, "%bc")), b_pack)
                    against(count, panels, x)

                r.loop(n, some, group)

            def blocks() -> None:
                r.when("%direct", lambda: r.when(
                    r.emit(f"icmp sgt i64 {narrow}, 0"), lambda: pack(narrow, r.place(source, whole), "%b.rest"),
                ), lambda: r.when(ready, lambda: None, lambda: pack(n, source, b_pack)))  # fmt: skip
                made = r.place("%panels", r.add(r.mul(l, padded), r.mul(r.add(before, j), k)))
                packed = r.emit(f"select i1 {ready}, ptr {made}, ptr {b_pack}")
                right = [r.emit(f"select i1 %direct, {type_} {x}, {type_} {y}") for type_, x, y in (
                    ("ptr", source, packed), ("i64", str(tile.columns), wide), ("i64", "%bs", str(tile.columns)),
                )]  # fmt: skip

                def block(i: str) -> None:
                    against = rows(i, r.least(r.sub(stop, i), m_most))
                    against(lying, right, j)
                    last = "%b.rest", wide, str(tile.columns)
                    r.when(r.emit(f"icmp sgt i64 {narrow}, 0"), lambda: against(narrow, last, r.add(j, whole)))

                r.loop(stop, block, m_most)

            r.when(alone, few_panels, blocks)

        # Without anything to sum up there is one stretch of no length, which writes zeros.
        r.loop(stretches(r, "%k"), part, KC)

    r.loop("%n", columns, n_most)
    r.when(packs, lambda: memory.release(r, memory.SCRATCH, block))
    return r.define(f"sd.packed.{tile.dtype}", "i32", f"{arguments(WORDS)}, i1 %direct", "ret i32 0")
