"""Tiles of a matrix product in LLVM IR: blocks of the result that stay in registers while a stretch of the sum runs.

`text(module, dtype)` gives `@sd.tiles.<dtype>`, which computes a block of C from panels of A and B, and calls what
`largest_text(module, dtype)` gives, most of all products' time:

    void @sd.tiles.<dtype>(i64 m, i64 n, i64 k, ptr a, i64 group, i64 a_row, i64 a_sum, ptr b, i64 panel, i64 b_sum,
                           ptr c, i64 c_row, i1 first, i64 low)

A is read by groups of `FOUR` rows, `group` elements apart, and B by panels as wide as a tile, `panel` elements apart;
rows of the last group and columns of the last panel that do not exist are read all the same and not written. `first`
writes C, otherwise the block is added to it. `low` is how far the block lies below the diagonal of a symmetric result:
tiles that lie below it altogether are left out. Whole panels of a block whose sums are short and begin C are
computed row of tiles by row of tiles, with next to nothing around the products.

A chain of `CHAIN` products is summed in registers, chains are added up in order in memory near by. Tiles at the edge of
C go through that memory as well. Strides are parameters, so one loop serves operands where they lie and packed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module, literal

FOUR = 4
"""Rows of A in a group: what packing transposes at a time."""
CHAIN = 64
"""Products in a chain of sums."""
NOWHERE = str(-(2**62))
"""How low a block lies that has no other half."""
_SUMS = 12
"""Sums in registers from which two steps of a loop hide what it costs."""
_NEAR = 48
"""Products that are over before memory answers."""
_SHORT = 32
"""Products of a sum that take so little that what is done around them counts."""
_PASSES_BYTES = 16_384
"""What several rows of tiles side by side read of B before it goes on."""
_LANES = 4
_COLUMN = (
    "i64 %m, i64 %columns, i64 %k, ptr noalias %a, i64 %group, i64 %ar, i64 %as, ptr noalias %b, i64 %bs, "
    "ptr noalias %c, i64 %cr, i1 %first"
)
"""What the functions of tiles one below the other take,"""
_ROW = (
    "i64 %columns, i64 %k, ptr noalias %a, i64 %group, i64 %ar, i64 %as, ptr noalias %b, i64 %panel, i64 %bs, "
    "ptr noalias %c, i64 %cr"
)
"""those of tiles side by side,"""
_MERGED = "i64 %rows, i64 %columns, ptr noalias %tile, i64 %width, ptr noalias %c, i64 %cr, i1 %first"
"""and what writes part of one."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of so many rows and of `vectors` x `width` columns."""

    dtype: str
    rows: int
    vectors: int
    width: int

    @property
    def groups(self) -> int:
        """Groups of rows of A."""
        return -(-self.rows // FOUR)

    @property
    def columns(self) -> int:
        """Columns of C."""
        return self.vectors * self.width

    @property
    def symbol(self) -> str:
        """The function that computes tiles one below the other."""
        return f"sd.tiles.{self.dtype}.{self.rows}x{self.columns}"


def tiles(module: Module, dtype: str) -> list[Tile]:
    """The tiles that a machine has, by columns; of the widest also the lower ones, by rows."""
    width = max(2, module.register_bytes // BYTES[dtype])
    most = 2 if not module.fma else 4 if module.register_bytes == 16 else 3
    registers = module.registers - (0 if module.fma else 2)

    def fits(rows: int, vectors: int) -> bool:
        return rows * vectors + vectors + 1 <= registers

    vectors = (1, 2, 3) if most == 3 else range(2, most + 1, 2)
    made = [Tile(dtype, 2 * FOUR if fits(2 * FOUR, v) else FOUR, v, width) for v in vectors]
    return [*made[:-1], *(replace(made[-1], rows=h) for h in (2, FOUR, 2 * FOUR) if h <= made[-1].rows)]


def widest(module: Module, dtype: str) -> int:
    """Columns of B in a panel."""
    return tiles(module, dtype)[-1].columns


def text(module: Module, dtype: str, lower: bool = True) -> str:
    """The routine, and the tiles it takes at edges; without the lower ones the largest does their work."""
    family = tiles(module, dtype)
    edges = [tile for tile in family[:-1] if lower or tile.vectors < family[-1].vectors]
    rows = [replace(family[-1], rows=h) for h in (2 * FOUR, FOUR, 2, 1) if lower and h <= family[-1].rows]
    made = [*(_column(module, tile) for tile in edges), *(_row(module, tile) for tile in rows)]
    made += [_rows(module, rows)] if rows else []
    return "".join([*made, _tiles(module, [*edges, family[-1]], bool(rows))])


def largest_text(module: Module, dtype: str) -> str:
    """The largest tile, and what writes part of one."""
    return _merge(module, dtype) + _column(module, tiles(module, dtype)[-1])


def largest(module: Module, dtype: str) -> dict[str, str]:
    """Their symbols, and how each is declared."""
    found = {_merge_symbol(dtype): _MERGED, tiles(module, dtype)[-1].symbol: _COLUMN}
    return {name: f"declare void @{name}({_types(words)})" for name, words in found.items()}


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.tiles.{dtype}"


def _merge_symbol(dtype: str) -> str:
    return f"sd.merge.{dtype}"


def _types(parameters: str) -> str:
    return ", ".join(word.split()[0] for word in parameters.split(", "))


def declaration(dtype: str) -> str:
    """What a module that calls the routine declares."""
    types = "i64, i64, i64, ptr, i64, i64, i64, ptr, i64, i64, ptr, i64, i1, i64"
    return f"declare void @{symbol(dtype)}({types})"


def call(r: Routine, sizes: tuple[str, str, str], a: Sequence[str], b: Sequence[str], c: str, first: str,
         low: str) -> None:  # fmt: skip
    """Call the routine: m, n and k, A with the steps of its groups, rows and sums, B with those of panels and sums."""
    m, n, k = sizes
    r.do(
        f"call void @{symbol(r.dtype)}(i64 {m}, i64 {n}, i64 {k}, ptr {a[0]}, i64 {a[1]}, i64 {a[2]}, i64 {a[3]}, "
        f"ptr {b[0]}, i64 {b[1]}, i64 {b[2]}, ptr {c}, i64 %cr, i1 {first}, i64 {low})"
    )


# -------------------------------------------------------------------- tiles one below the other
class _Column(Routine):
    """Writes the function that computes tiles one below the other."""

    def __init__(self, module: Module, tile: Tile) -> None:
        super().__init__(module, tile.dtype)
        self.tile = tile
        self.kind = f"<{tile.width} x {self.type}>"
        self.bytes = BYTES[tile.dtype]
        self.cells = [(i, v) for i in range(tile.rows) for v in range(tile.vectors)]
        self.pointers = [*(f"a{g}" for g in range(tile.groups)), "b"]

    def far(self, base: str, offset: str | int) -> str:
        """An address so many bytes on."""
        return base if offset in (0, "0") else self.emit(f"getelementptr i8, ptr {base}, i64 {offset}")

    def read(self, place: str) -> str:
        return self.emit(f"load {self.kind}, ptr {place}, align {self.bytes}")

    def write(self, value: str, place: str) -> None:
        self.do(f"store {self.kind} {value}, ptr {place}, align {self.bytes}")

    def phis(self, names: Iterable[str], kind: str, *ways: tuple[Iterable[str], str]) -> None:
        """Values that come from several blocks."""
        blocks = [block for _, block in ways]
        for name, *values in zip(names, *(own for own, _ in ways), strict=True):
            words = ", ".join(f"[ {value}, %{block} ]" for value, block in zip(values, blocks, strict=True))
            self.do(f"{name} = phi {kind} {words}")

    def step(self, a: list[str], b: str, sums: list[str], rows: list[str]) -> tuple[list[str], str, list[str]]:
        """One product of every sum; the pointers of the next, and the sums."""
        tile = self.tile
        right = [self.read(self.far(b, v * tile.width * self.bytes)) for v in range(tile.vectors)]
        made: list[str] = []
        for i in range(tile.rows):
            group, row = divmod(i, FOUR)
            place = self.far(a[group], rows[i]) if row else a[group]
            one = self.emit(f"load {self.type}, ptr {place}, align {self.bytes}")
            left = self.splat(one, self.type, tile.width)
            for v in range(tile.vectors):
                before = sums[i * tile.vectors + v]
                if self.module.fma:
                    words = [(self.kind, x) for x in (left, right[v], before)]
                    made.append(self.intrinsic(f"llvm.fma.v{tile.width}{tile.dtype}", self.kind, words))
                else:
                    product = self.emit(f"fmul {self.kind} {left}, {right[v]}")
                    made.append(self.emit(f"fadd {self.kind} {product}, {before}"))
        return [self.opaque(self.far(x, "%as.bytes")) for x in a], self.opaque(self.far(b, "%bs.bytes")), made

    def steps(
        self, count: str, unroll: int, rows: list[str], start: tuple[list[str], list[str]]
    ) -> tuple[list[str], list[str]]:
        """Products as long as `count` lasts, so many in a round: pointers and sums before, and after."""
        some, done, before = self.label("steps"), self.label("done"), self.block
        self.do(f"br i1 {self.emit(f'icmp sgt i64 {count}, 0')}, label %{some}, label %{done}")
        self.begin(some)
        pointers, sums = [self.fresh("p") for _ in start[0]], [self.fresh("s") for _ in start[1]]
        left, position = self.fresh("left"), len(self.lines)
        a, b, now = pointers[:-1], pointers[-1], sums
        for _ in range(unroll):
            a, b, now = self.step(a, b, now, rows)
        following = self.emit(f"sub nsw i64 {left}, {unroll}")
        self.do(f"br i1 {self.emit(f'icmp sgt i64 {following}, 0')}, label %{some}, label %{done}")
        body = self.lines[position:]
        del self.lines[position:]
        self.phis([left], "i64", ([count], before), ([following], some))
        self.phis(pointers, "ptr", (start[0], before), ([*a, b], some))
        self.phis(sums, self.kind, (start[1], before), (now, some))
        self.lines += body
        self.begin(done)
        ends = [self.fresh("p") for _ in pointers], [self.fresh("s") for _ in sums]
        self.phis(ends[0], "ptr", (start[0], before), ([*a, b], some))
        self.phis(ends[1], self.kind, (start[1], before), (now, some))
        return ends


def _column(module: Module, tile: Tile) -> str:
    """Tiles one below the other, from one panel of B."""
    r = _Column(module, tile)
    module.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for name in ("ar", "as", "bs", "cr"):
        r.do(f"%{name}.bytes = mul i64 %{name}, {r.bytes}")
    narrow = r.emit(f"icmp slt i64 %columns, {tile.columns}")
    last_row = r.sub("%m", 1)
    last = r.emit(f"lshr i64 {last_row}, {FOUR.bit_length() - 1}")
    target_step = r.emit(f"select i1 {narrow}, i64 {tile.columns * r.bytes}, i64 %cr.bytes")
    begins = r.emit(f"or i1 %first, {narrow}")
    far = r.emit(f"icmp sgt i64 %k, {_NEAR}")
    kept_row, unroll = tile.columns * r.bytes, 4 if len(r.cells) <= _SUMS else 2
    kept = [r.far("%kept", i * kept_row + v * tile.width * r.bytes) for i, v in r.cells]

    def one(i: str) -> None:
        left = r.sub("%m", i)
        c = r.far("%c", r.mul(i, "%cr.bytes"))
        target = r.emit(f"select i1 {narrow}, ptr %kept, ptr {c}")
        # Groups and rows that do not exist repeat the last one.
        start: list[str] = []
        rows: list[str] = []
        for g in range(tile.groups):
            group = r.emit(f"lshr i64 {i}, {FOUR.bit_length() - 1}")
            group = r.least(r.add(group, g), last) if g else group
            start.append(r.place("%a", r.mul(group, "%group")))
            under = r.sub(last_row, r.mul(group, FOUR))
            rows += ["0", *(r.mul(r.least(under, row), "%ar.bytes") for row in range(1, min(tile.rows, FOUR)))]

        def fetch() -> None:
            """Ask for C, which is wanted in the end."""
            row = c
            for number in range(tile.rows):
                row = r.far(row, "%cr.bytes") if number else row
                for at in range(0, tile.columns * r.bytes, 64):
                    r.do(f"call void @llvm.prefetch.p0(ptr {r.far(row, at)}, i32 1, i32 3, i32 1)")

        r.when(far, fetch)
        chain, before, more = r.label("chain"), r.block, r.label("more")
        r.do(f"br label %{chain}")
        r.begin(chain)
        length, ahead = r.fresh("k"), r.fresh("k")
        carried = [r.fresh("p") for _ in r.pointers]
        position = len(r.lines)
        count = r.least(length, CHAIN)
        rounds = r.emit(f"and i64 {count}, {-unroll}")
        zeros = ["zeroinitializer"] * len(r.cells)
        middle = r.steps(rounds, unroll, rows, (carried, zeros))
        ends, sums = r.steps(r.sub(count, rounds), 1, rows, middle)
        alone = r.emit(f"icmp eq i64 {length}, %k")
        final = r.emit(f"icmp sle i64 {length}, {CHAIN}")
        keep, again, total, whole, put = (r.label(x) for x in ("keep", "again", "total", "whole", "put"))
        first_kept = r.label("kept")
        r.do(f"br i1 {final}, label %{total}, label %{keep}")
        r.begin(keep)
        r.do(f"br i1 {alone}, label %{first_kept}, label %{again}")
        r.begin(first_kept)
        for value, place in zip(sums, kept, strict=True):
            r.write(value, place)
        r.do(f"br label %{more}")
        r.begin(again)
        for value, place in zip(sums, kept, strict=True):
            r.write(r.emit(f"fadd {r.kind} {r.read(place)}, {value}"), place)
        r.jump(more)
        r.do(f"{ahead} = sub nsw i64 {length}, {CHAIN}")
        r.do(f"br label %{chain}")
        own = r.lines[position:]
        del r.lines[position:]
        r.phis([length], "i64", (["%k"], before), ([ahead], more))
        r.phis(carried, "ptr", ([*start, "%b"], before), (ends, more))
        r.lines += own
        r.begin(total)
        end_block = r.block
        r.do(f"br i1 {alone}, label %{put}, label %{whole}")
        r.begin(whole)
        both = [r.emit(f"fadd {r.kind} {r.read(place)}, {value}") for value, place in zip(sums, kept, strict=True)]
        r.jump(put)
        result = [r.fresh("t") for _ in sums]
        r.phis(result, r.kind, (sums, end_block), (both, whole))
        places: list[str] = []
        row = target
        for number in range(tile.rows):
            row = r.far(row, target_step) if number else target
            places += [r.far(row, v * tile.width * r.bytes) for v in range(tile.vectors)]

        def stored(add: bool) -> None:
            """Leave the rows of a tile that exist."""
            end = r.label("written")
            for (row, v), value, place in zip(r.cells, result, places, strict=True):
                if row and not v:
                    on = r.label("row")
                    r.do(f"br i1 {r.emit(f'icmp sle i64 {left}, {row}')}, label %{end}, label %{on}")
                    r.begin(on)
                r.write(r.emit(f"fadd {r.kind} {r.read(place)}, {value}") if add else value, place)
            r.jump(end)

        def merged() -> None:
            high = r.least(left, tile.rows)
            words = f"i64 {high}, i64 %columns, ptr %kept, i64 {tile.columns}, ptr {c}, i64 %cr, i1 %first"
            r.do(f"call void @{_merge_symbol(tile.dtype)}({words})")

        r.when(begins, lambda: stored(False), lambda: stored(True))
        r.when(narrow, merged)

    r.loop("%m", one, tile.rows)
    r.lines.insert(0, f"  %kept = alloca [{len(r.cells)} x {r.kind}], align 64")
    return r.define(tile.symbol, "void", _COLUMN, "ret void", linkage="dso_local ")


def _merge(module: Module, dtype: str) -> str:
    """Write a tile that is not whole, or add it."""
    r = Routine(module, dtype)

    def row(i: str) -> None:
        there = r.opaque(r.place("%c", r.mul(i, "%cr")))
        here = r.opaque(r.place("%tile", r.mul(i, "%width")))

        def some(j: str, lanes: int) -> None:
            # Nothing is changed by adding -0.
            nothing = r.splat(literal(-0.0, dtype), r.type, lanes)
            kind, old = r.lanes(lanes), r.get_lanes(there, j, lanes)
            old = r.emit(f"select i1 %first, {kind} {nothing}, {kind} {old}")
            r.put_lanes(r.emit(f"fadd {kind} {old}, {r.get_lanes(here, j, lanes)}"), there, j, lanes)

        r.loop("%whole", lambda j: some(j, _LANES), _LANES)
        for lanes, at in ((2, "%whole"), (1, "%even")):
            r.when(f"%has{lanes}", lambda at=at, lanes=lanes: some(at, lanes))

    r.do(f"%whole = and i64 %columns, {-_LANES}")
    r.do("%even = and i64 %columns, -2")
    for lanes in (2, 1):
        r.do(f"%has{lanes} = icmp ne i64 {r.emit(f'and i64 %columns, {lanes}')}, 0")
    r.loop("%rows", row)
    return r.define(_merge_symbol(dtype), "void", _MERGED, "ret void", linkage="dso_local ")


# -------------------------------------------------------------------- tiles side by side
def _row_symbol(tile: Tile) -> str:
    return f"sd.row.{tile.dtype}.{tile.rows}x{tile.columns}"


def _row(module: Module, tile: Tile) -> str:
    """Whole tiles side by side, whose sums are short and begin C: little is done around the products."""
    r = _Column(module, tile)
    for name in ("ar", "as", "bs", "cr"):
        r.do(f"%{name}.bytes = mul i64 %{name}, {r.bytes}")
    start = [r.place("%a", r.mul("%group", g)) if g else "%a" for g in range(tile.groups)]
    under = ["0", *(r.mul("%ar.bytes", i) for i in range(1, min(tile.rows, FOUR)))]

    def one(j: str) -> None:
        b = r.place("%b", r.mul(r.emit(f"sdiv exact i64 {j}, {tile.columns}"), "%panel"))
        _, sums = r.steps("%k", 1, under * tile.groups, ([*start, b], ["zeroinitializer"] * len(r.cells)))
        row = r.place("%c", j)
        for (i, v), value in zip(r.cells, sums, strict=True):
            row = r.far(row, "%cr.bytes") if i and not v else row
            r.write(value, r.far(row, v * tile.width * r.bytes))

    r.loop("%columns", one, tile.columns)
    return r.define(_row_symbol(tile), "void", _ROW, "ret void")


def _rows(module: Module, rows: list[Tile]) -> str:
    """Rows of such tiles, one below the other: some of B's panels at a time, which stay in the cache."""
    most = rows[0]
    r = Routine(module, most.dtype)

    def some(j: str) -> None:
        left = r.least(r.sub("%columns", j), at_a_time)
        b = r.place("%b", r.mul(r.emit(f"sdiv exact i64 {j}, {most.columns}"), "%panel"))

        def call(tile: Tile, i: str) -> None:
            a = r.place("%a", r.mul(r.emit(f"lshr i64 {i}, {FOUR.bit_length() - 1}"), "%group"))
            a = r.place(a, r.mul(r.emit(f"and i64 {i}, {FOUR - 1}"), "%ar"))
            words = f"i64 {left}, i64 %k, ptr {a}, i64 %group, i64 %ar, i64 %as, ptr {b}, i64 %panel, i64 %bs"
            r.do(f"call void @{_row_symbol(tile)}({words}, ptr {r.place('%c', r.at(i, '%cr', j))}, i64 %cr)")

        r.loop(r.emit(f"and i64 %m, {-most.rows}"), lambda i: call(most, i), most.rows)
        for tile in rows[1:]:
            there = r.emit(f"icmp ne i64 {r.emit(f'and i64 %m, {tile.rows}')}, 0")
            r.when(there, lambda tile=tile: call(tile, r.emit(f"and i64 %m, {-2 * tile.rows}")))

    panels = r.emit(f"udiv i64 {_PASSES_BYTES // (most.columns * BYTES[r.dtype])}, {r.most('%k', 1)}")
    at_a_time = r.mul(r.most(panels, 1), most.columns)
    r.loop("%columns", some, at_a_time)
    return r.define(f"sd.rows.{most.dtype}", "void", f"i64 %m, {_ROW}", "ret void")


def _in_rows(r: Routine, tile: Tile) -> str:
    """Leave whole panels of short sums to that; returns where the other columns begin."""
    begin, short = r.emit(f"icmp eq i64 %low, {NOWHERE}"), r.emit(f"icmp sle i64 %k, {_SHORT}")
    good = r.both("%first", begin, short, r.emit(f"icmp sge i64 %n, {tile.columns}"))
    whole = r.sub("%n", r.emit(f"urem i64 %n, {tile.columns}"))
    words = f"i64 %m, i64 {whole}, i64 %k, ptr %a, i64 %group, i64 %ar, i64 %as, ptr %b, i64 %panel, i64 %bs"
    r.when(good, lambda: r.do(f"call void @sd.rows.{r.dtype}({words}, ptr %c, i64 %cr)"))
    return r.emit(f"select i1 {good}, i64 {whole}, i64 0")


# -------------------------------------------------------------------- a block
def _tiles(module: Module, family: list[Tile], rows: bool) -> str:
    """All tiles of a block: for each panel of B from the first row to the last."""
    most = family[-1]
    narrower = [tile for tile in family if tile.vectors < most.vectors]
    lower = [tile for tile in family if tile.vectors == most.vectors and tile.rows < most.rows]
    r = Routine(module, most.dtype)

    def smallest(tiles: list[Tile], size: str, extent: Callable[[Tile], int], otherwise: str) -> str:
        """The first tile that is large enough."""
        for tile in reversed(tiles):
            fits = r.emit(f"icmp sle i64 {size}, {extent(tile)}")
            otherwise = r.emit(f"select i1 {fits}, ptr @{tile.symbol}, ptr {otherwise}")
        return otherwise

    def panel(j: str) -> None:
        b = r.place("%b", r.mul(r.emit(f"sdiv exact i64 {j}, {most.columns}"), "%panel"))
        left = r.sub("%n", j)
        # Rows from the last column of this panel on lie below the diagonal.
        stop = r.least("%m", r.sub(r.add(j, most.columns), "%low"))
        width = r.least(left, most.columns)
        c = r.place("%c", j)

        def call(tile: str, m: str, a: str, c: str) -> None:
            words = f"i64 {m}, i64 {width}, i64 %k, ptr {a}, i64 %group, i64 %ar, i64 %as, ptr {b}, i64 %bs"
            r.do(f"call void {tile}({words}, ptr {c}, i64 %cr, i1 %first)")

        def some() -> None:
            above = smallest(narrower, left, lambda tile: tile.columns, f"@{most.symbol}")
            if not lower:
                call(above, stop, "%a", c)
                return
            # Below whole tiles of full width comes one as high as what is left.
            rest = r.emit(f"and i64 {stop}, {most.rows - 1}")
            high = r.emit(f"icmp sgt i64 {rest}, {lower[-1].rows}")
            narrow = r.emit(f"icmp sle i64 {left}, {narrower[-1].columns}") if narrower else "false"
            all_rows = r.emit(f"or i1 {high}, {narrow}")
            whole = r.emit(f"select i1 {all_rows}, i64 {stop}, i64 {r.sub(stop, rest)}")
            call(above, whole, "%a", c)

            def below() -> None:
                a = r.place("%a", r.mul(r.emit(f"sdiv exact i64 {whole}, {FOUR}"), "%group"))
                last = smallest(lower[:-1], under, lambda tile: tile.rows, f"@{lower[-1].symbol}")
                call(last, under, a, r.place(c, r.mul(whole, "%cr")))

            under = r.sub(stop, whole)
            r.when(r.emit(f"icmp sgt i64 {under}, 0"), below)

        r.when(r.emit(f"icmp sgt i64 {stop}, 0"), some)

    r.loop("%n", panel, most.columns, start=_in_rows(r, most) if rows else "0")
    parameters = (
        "i64 %m, i64 %n, i64 %k, ptr %a, i64 %group, i64 %ar, i64 %as, ptr %b, i64 %panel, i64 %bs, ptr %c, i64 %cr, "
        "i1 %first, i64 %low"
    )
    return r.define(symbol(most.dtype), "void", parameters, "ret void", linkage="")
