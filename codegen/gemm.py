"""Matrix product in LLVM IR: C[m, n] = sum over k of A[m, k] s[k] B[k, n], any strides of A and B, rows of C dense.

A module of its own, `text(...)`, compiled once for all programs, holds

    i32 @sd.gemm.<dtype>(i64 m, i64 n, i64 k, ptr a, i64 a_row, i64 a_sum, ptr b, i64 b_sum, i64 b_column,
                         ptr c, i64 c_row, ptr s, i64 flags)

Strides are in elements, `s` may be null. It returns 0, or 1 where there is no memory for packing. Flags: `ADD` adds to
what C holds; `HALF` says that the product is symmetric, so that tiles below the diagonal are left out; `MIRROR` copies
the part above the diagonal below it in the end.

A tile of the result stays in registers over a stretch of k: `CHAIN` fused multiply-adds in the order of k make a sum,
the sums of a stretch are added up in order, and so are the stretches where C lies. Bits depend on k alone, neither on
the width of the machine nor on the blocking (on machines without fused multiply-adds products are rounded first).
Small B with dense rows are read where they lie; others are packed into panels as wide as a tile, and A into panels as
high where many columns use them, block by block so that panels stay in the caches. Scales are multiplied in when B is
packed. A narrow C that is a product of rows with rows is left to `codegen.dots`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

from codegen import dots, memory, packing
from codegen.routine import Routine
from codegen.text import BYTES, REGISTER, Lines, Module

ADD, HALF, MIRROR = 1, 2, 4
_PARAMETERS = (
    "i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, i64 %as, ptr %b, i64 %bs, i64 %bc, ptr %c, i64 %cr, ptr %scale, "
    "i64 %flags"
)

_KC = 192
"""Products of a sum that goes to C,"""
CHAIN = 64
"""and of a chain of which it is made."""
_MC = 192
_NC = 1536
_DIRECT_BYTES = 32_768
"""B with dense rows is read where it lies when a stretch of it is at most so long,"""
_FLAT = 24
"""or for so few rows of A."""
_NARROW = 12
_FEWEST, _MOST = 16, 256
"""Rows of A and columns of B that are both dense are multiplied where they lie, along the sum, for at most so many
columns and for so many products: no lane of `codegen.dots` adds up more than 32. Threads share rows, so those are not
asked for."""
_PACK_ROWS_FOR = 96
"""A is packed for so many columns of C, or where its rows are not dense."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile of `rows` x `vectors` registers of `width` lanes."""

    dtype: str
    rows: int
    vectors: int
    width: int

    @property
    def columns(self) -> int:
        return self.vectors * self.width


def _tile(module: Module, dtype: str) -> _Tile:
    width = max(2, module.register_bytes // BYTES[dtype])
    # 32 registers hold 24 sums, 3 vectors of B and what the loop needs; 16 registers hold 12.
    # Panels are packed by fours.
    return _Tile(dtype, 8 if module.register_bytes == 64 else 4, 3 if 3 * width % packing.FOUR == 0 else 2, width)


def _heights(tile: _Tile) -> list[int]:
    """Rows of tiles, for what is left of a matrix: at least two."""
    return [h for h in (2, 4, 8) if h <= tile.rows]


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.gemm.{dtype}"


def declaration(dtype: str) -> str:
    """What a module that calls the routine declares."""
    return f"declare i32 @{symbol(dtype)}({', '.join(p.split()[0] for p in _PARAMETERS.split(', '))})"


def text(register_bytes: int, fma: bool, dtype: str) -> str:
    """The text of a module that holds the routine and what it calls."""
    module = Module(register_bytes, fma)
    tile = _tile(module, dtype)
    tiles: list[str] = []
    for rows in _heights(tile):
        own = replace(tile, rows=rows)
        tiles += [_micro(module, own, masked=False)]
        tiles += [_micro(module, replace(own, vectors=v), masked=True) for v in range(1, tile.vectors + 1)]
    module.functions += [*tiles, packing.text(module, dtype), dots.text(module, dtype), _tiles(module, tile)]
    module.functions.append(_product(module, tile))
    module.functions += [memory.text(module), memory.cell(memory.SCRATCH)]
    return module.text()


@dataclass(frozen=True, slots=True)
class Tiling:
    """What a matrix product executes: steps as (rows, vectors, how many) of tiles that go one product further, tiles
    begun, and elements packed."""

    steps: tuple[tuple[int, int, float], ...]
    tiles: float
    packed: float


def tiling(
    m: float, n: float, k: float, a_sum: float, b_column: float, scaled: bool, flags: int, register_bytes: int,
    dtype: str,
) -> Tiling:  # fmt: skip
    """The tiles of a product at given sizes and strides; see `_product` for what is packed."""
    tile = _tile(Module(register_bytes, True), dtype)
    high = math.ceil(m / tile.rows)
    whole, rest = divmod(n, tile.columns)
    half = bool(flags & HALF) and n > 0
    # Tiles below the diagonal of a symmetric product are left out.
    part = min(1.0, (n + tile.columns + tile.rows) / (2 * n)) if half else 1.0
    narrow = math.ceil(rest / tile.width)
    steps = [(tile.rows, tile.vectors, part * high * whole * k)] if whole else []
    steps += [(tile.rows, narrow, part * high * k)] if narrow else []
    stretches = max(math.ceil(k / _KC), 1)
    tiles = part * high * (whole + (1 if narrow else 0)) * stretches
    small = n * min(k, _KC) * BYTES[dtype] <= _DIRECT_BYTES or m <= _FLAT
    packed = 0.0
    if not (small and b_column == 1 and not scaled):
        packed = k * math.ceil(n / tile.columns) * tile.columns
        if n >= _PACK_ROWS_FOR or a_sum != 1:
            packed += m * k * math.ceil(n / _NC) * (part if half else 1.0)
    packed += n * n / 2 if flags & MIRROR else 0.0
    return Tiling(tuple(steps), tiles, packed)


# -------------------------------------------------------------------- one tile
def _micro(module: Module, tile: _Tile, masked: bool) -> str:
    """A tile: C[rows, columns] (+)= A[rows, k] B[k, columns]; `first` begins from zero. Masked: fewer columns."""
    lines = Lines(module)
    module.declare("declare i64 @llvm.smin.i64(i64, i64)")
    t = REGISTER[tile.dtype]
    kind, mask_kind = f"<{tile.width} x {t}>", f"<{tile.width} x i1>"
    align = BYTES[tile.dtype]
    suffix = f"v{tile.width}{tile.dtype}"
    rows, vectors = range(tile.rows), range(tile.vectors)
    masks: list[str] = []
    if masked:
        numbers = ", ".join(f"i64 {i}" for i in range(tile.width))
        for v in vectors:
            left = lines.emit(f"sub i64 %columns, {v * tile.width}")
            masks.append(_compare(lines, tile.width, left, numbers))
    last = lines.emit("sub i64 %rows, 1")
    a_rows: list[str] = []
    c_rows: list[str] = []
    for i in rows:
        row = lines.emit(f"call i64 @llvm.smin.i64(i64 {i}, i64 {last})")
        a_rows.append(lines.emit(f"getelementptr {t}, ptr %a, i64 {lines.emit(f'mul i64 {row}, %ar')}"))
        c_rows.append(lines.emit(f"getelementptr {t}, ptr %c, i64 {lines.emit(f'mul i64 {row}, %cr')}"))

    def at(base: str, v: int) -> str:
        return lines.emit(f"getelementptr {t}, ptr {base}, i64 {v * tile.width}") if v else base

    def read(base: str, v: int) -> str:
        place = at(base, v)
        if not masked:
            return lines.emit(f"load {kind}, ptr {place}, align {align}")
        return lines.emit(
            f"call {kind} @llvm.masked.load.{suffix}.p0(ptr {place}, i32 {align}, {mask_kind} {masks[v]}, "
            f"{kind} zeroinitializer)"
        )

    def write(value: str, base: str, v: int) -> None:
        place = at(base, v)
        if not masked:
            lines.do(f"store {kind} {value}, ptr {place}, align {align}")
        else:
            lines.do(
                f"call void @llvm.masked.store.{suffix}.p0({kind} {value}, ptr {place}, i32 {align}, "
                f"{mask_kind} {masks[v]})"
            )

    kept = {(i, v): lines.emit(f"getelementptr {kind}, ptr %kept, i64 {i * tile.vectors + v}")
            for i in rows for v in vectors}  # fmt: skip
    lines.do("br label %chain")
    lines.begin("chain")
    lines.do(f"%from = phi i64 [ 0, %entry ], [ %next, %more ]\n  %next = add nsw i64 %from, {CHAIN}")
    lines.do("%to = call i64 @llvm.smin.i64(i64 %next, i64 %k)\n  br label %sums")
    lines.begin("sums")
    lines.do("%l = phi i64 [ %from, %chain ], [ %l1, %step ]")
    for i, v in kept:
        lines.do(f"%acc{i}.{v} = phi {kind} [ zeroinitializer, %chain ], [ %new{i}.{v}, %step ]")
    lines.do("%on = icmp slt i64 %l, %to\n  br i1 %on, label %step, label %chained")
    lines.begin("step")
    row = lines.emit(f"getelementptr {t}, ptr %b, i64 {lines.emit('mul i64 %l, %bs')}")
    b = [read(row, v) for v in vectors]
    step = lines.emit("mul i64 %l, %as")
    for i in rows:
        place = lines.emit(f"getelementptr {t}, ptr {a_rows[i]}, i64 {step}")
        one = lines.emit(f"load {t}, ptr {place}, align {align}")
        one = lines.emit(f"insertelement {kind} poison, {t} {one}, i64 0")
        every = lines.emit(f"shufflevector {kind} {one}, {kind} poison, <{tile.width} x i32> zeroinitializer")
        for v in vectors:
            if module.fma:
                words = f"({kind} {every}, {kind} {b[v]}, {kind} %acc{i}.{v})"
                lines.do(f"%new{i}.{v} = call {kind} @llvm.fma.{suffix}{words}")
            else:
                product = lines.emit(f"fmul {kind} {every}, {b[v]}")
                lines.do(f"%new{i}.{v} = fadd {kind} {product}, %acc{i}.{v}")
    lines.do("%l1 = add nsw i64 %l, 1\n  br label %sums")
    lines.begin("chained")
    lines.do("%alone = icmp eq i64 %from, 0\n  %ends = icmp sge i64 %next, %k")
    lines.do("br i1 %alone, label %one, label %several")
    lines.begin("one")
    lines.do("br i1 %ends, label %total, label %keep")
    lines.begin("keep")
    for (i, v), place in kept.items():
        lines.do(f"store {kind} %acc{i}.{v}, ptr {place}, align {align}")
    lines.do("br label %more")
    lines.begin("several")
    for (i, v), place in kept.items():
        before = lines.emit(f"load {kind}, ptr {place}, align {align}")
        lines.do(f"%sum{i}.{v} = fadd {kind} {before}, %acc{i}.{v}")
    lines.do("br i1 %ends, label %total, label %again")
    lines.begin("again")
    for (i, v), place in kept.items():
        lines.do(f"store {kind} %sum{i}.{v}, ptr {place}, align {align}")
    lines.do("br label %more")
    lines.begin("more")
    lines.do("br label %chain")
    lines.begin("total")
    for i, v in kept:
        lines.do(f"%all{i}.{v} = phi {kind} [ %acc{i}.{v}, %one ], [ %sum{i}.{v}, %several ]")
    lines.do("br i1 %first, label %set, label %add")

    def put(way: str, one: Callable[[int, int], None]) -> None:
        """Leave the rows of a tile that exist."""
        lines.begin(way)
        for i in rows:
            for v in vectors:
                one(i, v)
            if i + 1 < tile.rows:
                over = lines.emit(f"icmp sle i64 %rows, {i + 1}")
                lines.do(f"br i1 {over}, label %end, label %{way}{i + 1}")
                lines.begin(f"{way}{i + 1}")
        lines.do("br label %end")

    put("set", lambda i, v: write(f"%all{i}.{v}", c_rows[i], v))
    put("add", lambda i, v: write(lines.emit(f"fadd {kind} {read(c_rows[i], v)}, %all{i}.{v}"), c_rows[i], v))
    lines.begin("end")
    lines.do("ret void")
    body = "\n".join(lines.lines)
    name = f"{tile.dtype}.{tile.rows}" + (f".masked{tile.vectors}" if masked else "")
    return (
        f"define internal void @sd.tile.{name}(i64 %rows, i64 %columns, i64 %k, "
        f"ptr noalias %a, i64 %ar, i64 %as, ptr noalias %b, i64 %bs, ptr noalias %c, i64 %cr, i1 %first) noinline "
        f"{module.attributes} {{\nentry:\n"
        f"  %kept = alloca [{tile.rows * tile.vectors} x {kind}], align 64\n{body}\n}}\n"
    )


def _compare(lines: Lines, width: int, left: str, numbers: str) -> str:
    one = lines.emit(f"insertelement <{width} x i64> poison, i64 {left}, i64 0")
    every = lines.emit(f"shufflevector <{width} x i64> {one}, <{width} x i64> poison, <{width} x i32> zeroinitializer")
    return lines.emit(f"icmp slt <{width} x i64> <{numbers}>, {every}")


# -------------------------------------------------------------------- blocks
def _tiles(module: Module, tile: _Tile) -> str:
    """All tiles of a block: columns of tiles, each from its first row to the last.

    `ap` and `bp` step from panel to panel. `low` is how far the block lies below the diagonal of a symmetric result:
    tiles that lie below it altogether are left out.
    """
    r = Routine(module, tile.dtype)

    def panel(line: str, wide: int) -> str:
        return r.emit(f"sdiv exact i64 {line}, {wide}")

    def columns(j: str) -> None:
        b = r.place("%b", r.mul(panel(j, tile.columns), "%bp"))
        left = r.sub("%n", j)
        whole = r.emit(f"icmp sge i64 {left}, {tile.columns}")
        # Rows from the last column of this panel on lie below the diagonal.
        last = r.sub(r.add(j, tile.columns), "%low")
        stop = r.least("%m", last)

        def rows(i: str) -> None:
            a = r.place("%a", r.mul(panel(i, tile.rows), "%ap"))
            high = r.least(r.sub("%m", i), tile.rows)
            c = r.place("%c", r.at(i, "%cr", j))
            words = f"ptr {a}, i64 %ar, i64 %as, ptr {b}, i64 %bs, ptr {c}, i64 %cr, i1 %first"

            def call(height: int, ending: str, width: str) -> None:
                r.do(f"call void @sd.tile.{tile.dtype}.{height}{ending}(i64 {high}, i64 {width}, i64 %k, {words})")

            def part(height: int, vectors: int) -> None:
                def own() -> None:
                    call(height, f".masked{vectors}", left)

                if vectors == tile.vectors:
                    own()
                else:
                    fits = r.emit(f"icmp sle i64 {left}, {vectors * tile.width}")
                    r.when(fits, own, lambda: part(height, vectors + 1))

            def rows_of(heights: list[int]) -> None:
                def own() -> None:
                    r.when(whole, lambda: call(heights[0], "", str(tile.columns)), lambda: part(heights[0], 1))

                if len(heights) == 1:
                    own()
                else:
                    r.when(r.emit(f"icmp sle i64 {high}, {heights[0]}"), own, lambda: rows_of(heights[1:]))

            rows_of(_heights(tile))

        r.loop(stop, rows, tile.rows)

    r.loop("%n", columns, tile.columns)
    parameters = (
        "i64 %m, i64 %n, i64 %k, ptr %a, i64 %ap, i64 %ar, i64 %as, ptr %b, i64 %bp, i64 %bs, ptr %c, i64 %cr, "
        "i1 %first, i64 %low"
    )
    return r.define(f"sd.tiles.{tile.dtype}", "void", parameters, "ret void")


def _product(module: Module, tile: _Tile) -> str:
    r = Routine(module, tile.dtype)
    bytes_ = BYTES[tile.dtype]
    nowhere = str(-(2**62))

    def flag(bit: int) -> str:
        return r.emit(f"icmp ne i64 {r.emit(f'and i64 %flags, {bit}')}, 0")

    add, half, mirrored = flag(ADD), flag(HALF), flag(MIRROR)
    begins = r.emit(f"xor i1 {add}, true")

    def first(stretch: str) -> str:
        return r.emit(f"and i1 {begins}, {r.emit(f'icmp eq i64 {stretch}, 0')}")

    def low(i: str, j: str) -> str:
        return r.emit(f"select i1 {half}, i64 {r.sub(i, j)}, i64 {nowhere}")

    longest = r.least("%k", _KC)
    size = r.mul(r.mul("%n", longest), bytes_)
    small = r.emit(f"icmp sle i64 {size}, {_DIRECT_BYTES}")
    flat = r.emit(f"icmp sle i64 %m, {_FLAT}")
    dense = r.emit("icmp eq i64 %bc, 1")
    plain = r.emit("icmp eq ptr %scale, null")
    direct = r.emit(f"and i1 {r.emit(f'or i1 {small}, {flat}')}, {r.emit(f'and i1 {dense}, {plain}')}")
    simple = r.emit(f"or i1 {direct}, {r.emit('icmp sle i64 %k, 0')}")
    a_panel = r.mul("%ar", tile.rows)

    def tiles(m: str, n: str, k: str, a: tuple[str, str, str, str], b: tuple[str, str, str], c: str, begin: str,
              depth: str) -> None:  # fmt: skip
        r.do(
            f"call void @sd.tiles.{tile.dtype}(i64 {m}, i64 {n}, i64 {k}, ptr {a[0]}, i64 {a[1]}, i64 {a[2]}, "
            f"i64 {a[3]}, ptr {b[0]}, i64 {b[1]}, i64 {b[2]}, ptr {c}, i64 %cr, i1 {begin}, i64 {depth})"
        )

    def unpacked() -> None:
        def stretch(l: str) -> None:
            k = r.least(r.sub("%k", l), _KC)
            a, b = r.place("%a", r.mul(l, "%as")), r.place("%b", r.mul(l, "%bs"))
            left = (a, a_panel, "%ar", "%as")
            tiles("%m", "%n", k, left, (b, str(tile.columns), "%bs"), "%c", first(l), low("0", "0"))

        # Without anything to sum up there is one stretch of no length, which writes zeros.
        r.loop(r.emit("call i64 @llvm.smax.i64(i64 %k, i64 1)"), stretch, _KC)

    def packed() -> None:
        n_most, m_most = r.least("%n", _NC), r.least("%m", _MC)
        lines = r.add(r.add(n_most, tile.columns), r.add(m_most, tile.rows))
        memory = r.emit(f"call ptr @sd.acquire(ptr @sd.scratch, i64 {r.mul(r.mul(longest, lines), bytes_)})")
        r.leave(r.emit(f"icmp eq ptr {memory}, null"), 1)
        b_pack = r.emit(f"getelementptr i8, ptr {memory}, i64 64")
        a_pack = r.place(b_pack, r.mul(longest, r.add(n_most, tile.columns)))
        wide = r.emit(f"icmp sge i64 %n, {_PACK_ROWS_FOR}")
        pack_rows = r.emit(f"or i1 {wide}, {r.emit('icmp ne i64 %as, 1')}")

        def columns(j: str) -> None:
            n = r.least(r.sub("%n", j), _NC)
            # Rows below the last column of a symmetric result belong to its other half.
            stop = r.emit(f"select i1 {half}, i64 {r.least('%m', r.add(j, n))}, i64 %m")

            def stretch(l: str) -> None:
                k = r.least(r.sub("%k", l), _KC)
                source = r.place("%b", r.add(r.mul(l, "%bs"), r.mul(j, "%bc")))
                own = r.emit(f"select i1 {plain}, ptr null, ptr {r.place('%scale', l)}")
                packing.call(r, n, k, source, "%bc", "%bs", b_pack, tile.columns, own)

                def rows(i: str) -> None:
                    m = r.least(r.sub(stop, i), _MC)
                    a = r.place("%a", r.add(r.mul(i, "%ar"), r.mul(l, "%as")))
                    c = r.place("%c", r.at(i, "%cr", j))
                    right = (b_pack, r.mul(k, tile.columns), str(tile.columns))
                    begin, depth = first(l), low(i, j)

                    def copied() -> None:
                        packing.call(r, m, k, a, "%ar", "%as", a_pack, tile.rows, "null")
                        left = (a_pack, r.mul(k, tile.rows), "1", str(tile.rows))
                        tiles(m, n, k, left, right, c, begin, depth)

                    def where_it_lies() -> None:
                        tiles(m, n, k, (a, a_panel, "%ar", "%as"), right, c, begin, depth)

                    r.when(pack_rows, copied, where_it_lies)

                r.loop(stop, rows, _MC)

            r.loop("%k", stretch, _KC)

        r.loop("%n", columns, _NC)
        r.do(f"call void @sd.release(ptr @sd.scratch, ptr {memory})")

    module.declare("declare i64 @llvm.smax.i64(i64, i64)")
    def dotted() -> None:
        words = f"i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, ptr %b, i64 %bc, ptr %c, i64 %cr, ptr %scale, i1 {add}"
        r.do(f"call void @sd.dots.{tile.dtype}({words})")

    along = [
        r.emit(f"icmp {test}")
        for test in (
            "eq i64 %as, 1", "eq i64 %bs, 1", "ne i64 %bc, 1", f"sle i64 %n, {_NARROW}",
            f"sge i64 %k, {_FEWEST}", f"sle i64 %k, {_MOST}",
        )
    ]  # fmt: skip
    full = r.emit(f"xor i1 {half}, true")
    rows_with_rows = reduce(lambda x, y: r.emit(f"and i1 {x}, {y}"), along, full)
    r.when(rows_with_rows, dotted, lambda: r.when(simple, unpacked, packed))
    r.when(mirrored, lambda: r.do(f"call void @sd.mirror.{tile.dtype}(i64 %n, ptr %c, i64 %cr)"))
    return r.define(symbol(tile.dtype), "i32", _PARAMETERS, "ret i32 0", linkage="")
