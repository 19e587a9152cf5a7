"""Matrix products of rows with rows in LLVM IR: C[i, j] = sum over l of A[i, l] s[l] B[j, l], both dense along l.

`text(register_bytes, fma, dtype, scaled)` gives a module with the routine that `codegen.products.gemm` calls where B
has few rows: nothing is packed, and vectors run along the sum. Every element has as many partial sums as a 512-bit
register has lanes, whatever the registers are; these are added by halves in the end, so bits do not depend on the width
of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module

_VIRTUAL_BYTES = 64
PARAMETERS = (
    "i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, ptr %b, i64 %br, ptr %c, i64 %cr, ptr %scale, i1 %add"
)
_TYPES = ", ".join(p.split()[0] for p in PARAMETERS.split(", "))


@dataclass(frozen=True, slots=True)
class _Tile:
    """`rows` x `columns` sums, each in `parts` registers of `width` lanes."""

    dtype: str
    rows: int
    columns: int
    parts: int
    width: int

    @property
    def lanes(self) -> int:
        return self.parts * self.width

    @property
    def symbol(self) -> str:
        return f"sd.dots.{self.dtype}.{self.rows}x{self.columns}"


def symbol(dtype: str, scaled: bool) -> str:
    """The routine's name, with a scale and without one."""
    return f"sd.dots.{dtype}{'.scaled' if scaled else ''}"


def declaration(dtype: str, scaled: bool) -> str:
    """What a module that calls the routine declares."""
    return f"declare void @{symbol(dtype, scaled)}({_TYPES})"


def text(register_bytes: int, fma: bool, dtype: str, scaled: bool) -> str:
    """The text of a module with the routine and its tiles."""
    module = Module(register_bytes, fma, written=True)
    width = max(2, module.register_bytes // BYTES[dtype])
    parts = _VIRTUAL_BYTES // BYTES[dtype] // width
    # As many sums as registers hold beside the vectors that they are made of, and fewer for what is left.
    heights, widths = {1: ((4, 2), (4, 2)), 2: ((2,), (3, 1))}.get(parts, ((1,), (3, 1)))
    tiles = [[_Tile(dtype, h, w, parts, width) for w in widths] for h in heights]
    module.functions += [_tile(module, tile, scaled) for own in tiles for tile in own]
    module.functions.append(_all(module, tiles, scaled))
    return module.text()


def _all(module: Module, tiles: list[list[_Tile]], scaled: bool) -> str:
    """Tile by tile; `tiles` by height and by width, the last rows and columns take the smallest that hold them."""
    large = tiles[0][0]
    r = Routine(module, large.dtype)

    def smallest(ways: list[str], sizes: list[int], left: str) -> str:
        """Of ways to compute so many the one for the smallest number that is no less than what is left."""
        best = ways[0]
        for way, size in zip(ways[1:], sizes[1:], strict=True):
            best = r.emit(f"select i1 {r.emit(f'icmp sle i64 {left}, {size}')}, ptr {way}, ptr {best}")
        return best

    def row(i: str) -> None:
        a, high = r.place("%a", r.mul(i, "%ar")), r.sub("%m", i)

        def column(j: str) -> None:
            wide = r.sub("%n", j)
            ways = [smallest([f"@{t.symbol}" for t in own], [t.columns for t in own], wide) for own in tiles]
            best = smallest(ways, [own[0].rows for own in tiles], high)
            b, c = r.place("%b", r.mul(j, "%br")), r.place("%c", r.at(i, "%cr", j))
            words = f"i64 {high}, i64 {wide}, i64 %k, ptr {a}, i64 %ar, ptr {b}, i64 %br, ptr {c}, i64 %cr"
            r.do(f"call void {best}({words}, ptr %scale, i1 %add)")

        r.loop("%n", column, large.columns)

    r.loop("%m", row, large.rows)
    return r.define(symbol(large.dtype, scaled), "void", PARAMETERS, "ret void", linkage="")


def _tile(module: Module, tile: _Tile, scaled: bool) -> str:
    """One tile: its rows and columns that exist, the others repeat the last one."""
    r = Routine(module, tile.dtype)
    kind, align = f"<{tile.width} x {r.type}>", BYTES[tile.dtype]
    suffix, mask_kind = f"v{tile.width}{tile.dtype}", f"<{tile.width} x i1>"
    rows, columns, parts = range(tile.rows), range(tile.columns), range(tile.parts)
    cells = [(i, j) for i in rows for j in columns]

    def starts(base: str, step: str, count: str, lines: range) -> list[str]:
        last = r.sub(count, 1)
        return [r.place(base, r.mul(r.least(str(i), last), step)) if i else base for i in lines]

    a_rows, b_rows = starts("%a", "%ar", "%m", rows), starts("%b", "%br", "%n", columns)
    whole = r.emit(f"and i64 %k, {-tile.lanes}")

    def step(l: str, now: dict[tuple[int, int, int], str], masks: list[str]) -> dict[tuple[int, int, int], str]:
        """The sums with the products of one stretch of lanes added."""
        made: dict[tuple[int, int, int], str] = {}
        for p in parts:

            def read(base: str, p: int = p) -> str:
                place = r.place(base, r.add(l, p * tile.width) if p else l)
                if not masks:
                    return r.emit(f"load {kind}, ptr {place}, align {align}")
                name = f"llvm.masked.load.{suffix}.p0"
                module.declare(f"declare {kind} @{name}(ptr, i32, {mask_kind}, {kind})")
                return r.emit(
                    f"call {kind} @{name}(ptr {place}, i32 {align}, {mask_kind} {masks[p]}, {kind} zeroinitializer)"
                )

            left = [read(base) for base in a_rows]
            if scaled:
                factor = read("%scale")
                left = [r.emit(f"fmul {kind} {x}, {factor}") for x in left]
            for j in columns:
                right = read(b_rows[j])
                for i in rows:
                    if module.fma:
                        words = [(kind, left[i]), (kind, right), (kind, now[i, j, p])]
                        made[i, j, p] = r.intrinsic(f"llvm.fma.{suffix}", kind, words)
                    else:
                        product = r.emit(f"fmul {kind} {left[i]}, {right}")
                        made[i, j, p] = r.emit(f"fadd {kind} {product}, {now[i, j, p]}")
        return made

    sums = {(i, j, p): r.fresh("acc") for i, j in cells for p in parts}
    new: dict[tuple[int, int, int], str] = {}
    r.loop(whole, lambda l: new.update(step(l, sums, [])), tile.lanes, more=lambda before, latch: [
        f"  {sums[c]} = phi {kind} [ zeroinitializer, %{before} ], [ {new[c]}, %{latch} ]" for c in sums
    ])  # fmt: skip
    rest, some, done = r.block, r.label("some"), r.label("done")
    left = r.sub("%k", whole)
    r.do(f"br i1 {r.emit(f'icmp sgt i64 {left}, 0')}, label %{some}, label %{done}")
    r.begin(some)
    masks: list[str] = []
    for p in parts:
        wide = f"<{tile.width} x i64>"
        every = r.splat(left, "i64", tile.width)
        numbers = ", ".join(f"i64 {p * tile.width + x}" for x in range(tile.width))
        masks.append(r.emit(f"icmp slt {wide} <{numbers}>, {every}"))
    last = step(whole, sums, masks)
    r.jump(done)
    total = {
        c: r.emit(f"phi {kind} [ {sums[c]}, %{rest} ], [ {last[c]}, %{some} ]") for c in sums
    }
    _store(r, tile, [[total[i, j, p] for p in parts] for i, j in cells], cells)
    parameters = PARAMETERS.replace("ptr %a", "ptr noalias %a").replace("ptr %b", "ptr noalias %b")
    return r.define(tile.symbol, "void", parameters, "ret void")


def _store(r: Routine, tile: _Tile, sums: list[list[str]], cells: list[tuple[int, int]]) -> None:
    """Add up the lanes of every sum by halves, two sums side by side, and write them or add them to what is there."""
    kind, width = f"<{tile.width} x {r.type}>", tile.width
    parts = sums
    while len(parts[0]) > 1:
        half = len(parts[0]) // 2
        parts = [[r.emit(f"fadd {kind} {own[p]}, {own[p + half]}") for p in range(half)] for own in parts]
    vectors = [own[0] for own in parts]
    lanes = width
    while lanes > 1:
        # Vectors hold `width // lanes` sums of `lanes` lanes each.
        vectors += [vectors[-1]] * (len(vectors) % 2)
        low = [x for x in range(2 * width) if x % lanes < lanes // 2]
        high = [x for x in range(2 * width) if x % lanes >= lanes // 2]

        def picked(a: str, b: str, numbers: list[int]) -> str:
            order = ", ".join(f"i32 {x}" for x in numbers)
            return r.emit(f"shufflevector {kind} {a}, {kind} {b}, <{width} x i32> <{order}>")

        vectors = [
            r.emit(f"fadd {kind} {picked(a, b, low)}, {picked(a, b, high)}")
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        lanes //= 2
    whole = r.emit(f"and i1 {r.emit(f'icmp sge i64 %m, {tile.rows}')}, {r.emit(f'icmp sge i64 %n, {tile.columns}')}")

    def rows() -> None:
        several = f"<{tile.columns} x {r.type}>"
        vectors.append(vectors[-1])
        for i in range(tile.rows):
            first = i * tile.columns
            at, lane = divmod(first, width)
            order = ", ".join(f"i32 {lane + j}" for j in range(tile.columns))
            two = f"{kind} {vectors[at]}, {kind} {vectors[at + 1]}"
            own = r.emit(f"shufflevector {two}, <{tile.columns} x i32> <{order}>")
            put(several, own, r.place("%c", r.mul("%cr", i)) if i else "%c")

    def put(type_: str, own: str, place: str) -> None:
        old = r.emit(f"load {type_}, ptr {place}, align {BYTES[tile.dtype]}")
        both = r.emit(f"fadd {type_} {old}, {own}")
        r.do(f"store {type_} {r.emit(f'select i1 %add, {type_} {both}, {type_} {own}')}, ptr {place}, align "
             f"{BYTES[tile.dtype]}")  # fmt: skip

    def one_by_one() -> None:
        for number, (i, j) in enumerate(cells):
            there = r.emit(f"and i1 {r.emit(f'icmp sgt i64 %m, {i}')}, {r.emit(f'icmp sgt i64 %n, {j}')}")
            one = r.emit(f"extractelement {kind} {vectors[number // width]}, i64 {number % width}")
            r.when(there, lambda one=one, i=i, j=j: put(r.type, one, r.place("%c", r.at(str(i), "%cr", str(j)))))

    r.when(whole, rows, one_by_one)
