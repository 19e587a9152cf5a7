"""Matrix product in LLVM IR: C[m, n] = sum over k of A[m, k] s[k] B[k, n], any strides of A and B, rows of C dense.

`text(module, dtype)` gives

    i32 @sd.gemm.<dtype>(i64 m, i64 n, i64 k, ptr a, i64 a_row, i64 a_sum, ptr b, i64 b_sum, i64 b_column,
                         ptr c, i64 c_row, ptr s, i64 flags, ptr panels, ptr dots)

Strides are in elements. `s` may be null, and so may `panels`: B as `codegen.products.panels` packs it once for many
calls, and `dots`: the routine of `codegen.products.dots`, to which narrow products of rows with rows are left. The
routine returns 0, or 1 where there is no memory for packing. Flags: `ADD` adds to what C holds; `HALF` says that the
product is symmetric, so that tiles below the diagonal are left out (then there are no `dots`); `BEFORE` times the
number of columns that come before B's among the panels.

Tiles of the result stay in registers over a stretch of k (`codegen.products.tiles`): chains of fused multiply-adds in
the order of k are added up in order, and so are the stretches where C lies. Bits depend on k alone, neither on the
width of the machine nor on the blocking (on machines without fused multiply-adds products are rounded first). Small B
with dense rows are read where they lie, and so are A that few columns use; others are packed into panels, block by
block so that panels stay in the caches. Scales are multiplied in when B is packed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module
from codegen.products import packed, packing, tiles
from codegen.products.packed import ADD, ALONE_BYTES, HALF, KC, LAST, MIRROR, NC, WORDS, arguments, kind
from codegen.products.tiles import FOUR, Tile

_DIRECT_BYTES = 24_576
"""B with dense rows is read where it lies when a stretch of it is at most so long,"""
FLAT = 24
"""or for so few rows of A."""
_AT_ONCE_ROWS = 96
"""Rows of A that are multiplied with all of B where it lies."""
_AT_ONCE_BYTES = 294_912
"""A stretch of A is read where it lies for one panel of B after the other when it is at most so long."""
_NARROW = 12
_FEWEST, _MOST = 16, 256
"""Rows of A and columns of B that are both dense are multiplied where they lie, along the sum, for at most so many
columns and for so many products: no lane of `codegen.products.dots` adds up more than 32. Threads share rows, so those
are not asked for."""


_ROUTINE = (*WORDS, "dots")
_AT_ONCE = WORDS[:-1]


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.gemm.{dtype}"


def text(module: Module, dtype: str) -> str:
    """The routine and what it calls."""
    most = tiles.tiles(module, dtype)[-1]
    module.declare(at_once_declaration(dtype))
    return packed.text(module, most) + _product(module, most)


def at_once_symbol(dtype: str) -> str:
    """The name of what needs no blocks."""
    return f"sd.at_once.{dtype}"


def at_once_declaration(dtype: str) -> str:
    """What a module that calls it declares."""
    return f"declare void @{at_once_symbol(dtype)}({', '.join(map(kind, _AT_ONCE))}, i1)"


@dataclass(frozen=True, slots=True)
class Tiling:
    """What a matrix product executes: steps as (rows, vectors, how many) of tiles that go one product further, tiles
    begun, and elements packed."""

    steps: tuple[tuple[int, int, float], ...]
    tiles: float
    packed: float


def tiling(
    m: float, n: float, k: float, a_sum: float, b_column: float, scaled: bool, flags: int, register_bytes: int,
    fma: bool, dtype: str, ready: bool = False,
) -> Tiling:  # fmt: skip
    """The tiles of a product at given sizes and strides; what is packed says `codegen.products.packed`. ready: B is."""
    family = tiles.tiles(Module(register_bytes, fma), dtype)
    tile = family[-1]
    whole, rest = divmod(n, tile.columns)
    # Tiles below the diagonal of a symmetric product are left out.
    part = min(1.0, (n + tile.columns + tile.rows) / (2 * n)) if flags & HALF and n > 0 else 1.0
    across = [(tile, whole)] if whole else []
    across += [(next(t for t in family if t.columns >= rest), 1.0)] if rest else []
    steps = tuple((t.rows, t.vectors, part * math.ceil(m / t.rows) * count * k) for t, count in across)
    begun = part * sum(math.ceil(m / t.rows) * count for t, count in across) * max(math.ceil((k - LAST + KC) / KC), 1)
    direct = n * min(k, KC) * BYTES[dtype] <= _DIRECT_BYTES or m <= FLAT
    lies = ready or (direct and b_column == 1 and not scaled)
    moved = 0.0 if lies else k * math.ceil(n / tile.columns) * tile.columns
    alone = not lies and m * min(k, KC) * BYTES[dtype] <= ALONE_BYTES
    most = n if alone else min(n, NC)
    if packed.packs_rows(tile, most, k, a_sum):
        moved += m * k * math.ceil(n / most) * part
    moved += n * n / 2 if flags & MIRROR else 0.0
    return Tiling(steps, begun, moved)


# -------------------------------------------------------------------- the routine
def in_place(r: Routine, flat: str) -> str:
    """Whether B is read where it lies; `flat`: whether A has few rows."""
    size = r.mul(r.mul("%n", r.least("%k", KC)), BYTES[r.dtype])
    cheap = r.emit(f"or i1 {r.emit(f'icmp sle i64 {size}, {_DIRECT_BYTES}')}, {flat}")
    return r.both(cheap, r.emit("icmp eq i64 %bc, 1"), r.emit("icmp eq ptr %scale, null"))


def call(r: Routine, **other: str) -> str:
    """Call the routine with the parameters of the caller, some of them replaced."""
    return r.emit(f"call i32 @{symbol(r.dtype)}({arguments(_ROUTINE, **other)})")


def narrow(r: Routine, k: str = "%k") -> str:
    """Whether the product, or the part of it with k products a sum, is left to `codegen.products.dots`."""
    tests = (
        "ne ptr %dots, null", "eq i64 %as, 1", "eq i64 %bs, 1", "ne i64 %bc, 1", f"sle i64 %n, {_NARROW}",
        f"sge i64 {k}, {_FEWEST}", f"sle i64 {k}, {_MOST}",
    )  # fmt: skip
    return r.both(*(r.emit(f"icmp {test}") for test in tests))


def dotted(r: Routine, add: str) -> None:
    """Leave it to that."""
    words = f"i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, ptr %b, i64 %bc, ptr %c, i64 %cr, ptr %scale, i1 {add}"
    r.do(f"call void %dots({words})")


def at_once(r: Routine, direct: str) -> None:
    """Leave a product of one stretch to tiles: B where it lies, or panel by panel."""
    r.do(f"call void @{at_once_symbol(r.dtype)}({arguments(_AT_ONCE)}, i1 {direct})")


def small(r: Routine, direct: str, begins: str) -> str:
    """Whether tiles may read A where it lies and write C at once, and B fits in a panel at a time."""
    few = r.emit(f"icmp slt i64 %n, {packed.columns_to_pack_for(r)}")
    block = r.emit(f"or i1 {direct}, {r.emit(f'icmp sle i64 %m, {_AT_ONCE_BYTES // (KC * BYTES[r.dtype])}')}")
    return r.both(begins, few, block, r.emit(f"icmp sle i64 %k, {LAST}"), r.emit("icmp eq ptr %panels, null"))


def at_once_text(module: Module, dtype: str) -> str:
    """A where it lies. Where B does too, the last columns go with some before them, which get the same once more."""
    family = tiles.tiles(module, dtype)
    tile, narrowest = family[-1], family[0].columns
    r = Routine(module, dtype)
    half = r.flag("%flags", HALF)

    def columns(m: str, i: str, n: str, j: str, right: tuple[str, str, str]) -> None:
        low = r.emit(f"select i1 {half}, i64 {r.sub(i, j)}, i64 {tiles.NOWHERE}")
        left = (r.place("%a", r.mul(i, "%ar")), r.mul("%ar", FOUR), "%ar", "%as")
        tiles.call(r, (m, n, "%k"), left, right, r.place("%c", r.at(i, "%cr", j)), "true", low)

    def lying(i: str) -> None:
        """Some rows, which stay in the cache while one panel of B comes after the other."""
        m, even = r.least(r.sub("%m", i), _AT_ONCE_ROWS), r.emit(f"and i64 %n, {-narrowest}")
        columns(m, i, even, "0", ("%b", str(tile.columns), "%bs"))

        def rest() -> None:
            j = r.sub("%n", narrowest)
            columns(m, i, str(narrowest), j, (r.place("%b", j), str(tile.columns), "%bs"))

        r.when(r.emit(f"icmp slt i64 {even}, %n"), rest)

    def panel(j: str) -> None:
        n = r.least(r.sub("%n", j), tile.columns)
        source = r.place("%b", r.mul(j, "%bc"))
        packing.call(r, n, "%k", source, "%bc", "%bs", "%panel", tile.columns, "%scale")
        columns("%m", "0", n, j, ("%panel", "0", str(tile.columns)))

    lies = r.emit(f"and i1 %direct, {r.emit(f'icmp sge i64 %n, {narrowest}')}")
    r.when(lies, lambda: r.loop("%m", lying, _AT_ONCE_ROWS), lambda: r.loop("%n", panel, tile.columns))
    r.lines.insert(0, f"  %panel = alloca [{LAST * tile.columns} x {r.type}], align 64")
    return r.define(at_once_symbol(dtype), "void", f"{arguments(_AT_ONCE)}, i1 %direct", "ret void", linkage="")


def _product(module: Module, tile: Tile) -> str:
    r = Routine(module, tile.dtype)
    status = r.variable("i32", "0")
    add = r.flag("%flags", ADD)
    begins = r.emit(f"xor i1 {add}, true")
    few = r.emit(f"select i1 {r.emit('icmp eq ptr %panels, null')}, i64 {FLAT}, i64 0")
    direct = in_place(r, r.emit(f"icmp sle i64 %m, {few}"))
    simple = r.both(direct, begins, r.emit(f"icmp sle i64 %k, {LAST}"), r.emit("icmp eq i64 %as, 1"))

    def blocks() -> None:
        r.do(f"store i32 {packed.call(r, direct)}, ptr {status}")

    some = r.emit(f"or i1 {begins}, {r.emit('icmp sgt i64 %k, 0')}")
    r.when(some, lambda: r.when(narrow(r), lambda: dotted(r, add), lambda: r.when(
        simple, lambda: at_once(r, direct), blocks
    )))  # fmt: skip
    ending = r.emit(f"load i32, ptr {status}")
    return r.define(symbol(tile.dtype), "i32", arguments(_ROUTINE), f"ret i32 {ending}")
