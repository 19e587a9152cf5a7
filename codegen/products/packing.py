"""Panels for matrix products in LLVM IR, and the mirror image of a symmetric result.

`text(module, dtype)` gives `@sd.pack.<dtype>` and `@sd.mirror.<dtype>`. Packing turns lines of a matrix into panels of
so many lines, `FOUR` for the left operand and as many as tiles have columns for the right one:

    out[panel][l][lane] = in[(panel * wide + lane) * line + l * step] * scale[l],

with the last line again in lanes beyond it that the narrowest tile for these lines reads; a null scale is 1. Lines that
are one apart are copied, lines with dense elements are transposed four by four.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module, literal
from codegen.products.tiles import FOUR, tiles

_PANELS = 4
"""Panels that are copied at a time where their lines lie side by side."""
STRIPE = 8
"""Rows of a symmetric result that are mirrored together."""
_PARAMETERS = (
    "i64 %lines, i64 %k, ptr noalias %in, i64 %line, i64 %step, ptr noalias %out, i64 %wide, ptr %scale"
)


def symbols(dtype: str) -> tuple[str, str]:
    """The names of both routines."""
    return f"sd.pack.{dtype}", f"sd.mirror.{dtype}"


def declarations(dtype: str) -> tuple[str, str]:
    """What a module that calls both declares."""
    pack, mirror = symbols(dtype)
    return (
        f"declare void @{pack}(i64, i64, ptr, i64, i64, ptr, i64, ptr)",
        f"declare void @{mirror}(i64, ptr, i64, i64, i64)",
    )


def text(module: Module, dtype: str) -> str:
    """Both routines."""
    r = _Pack(module, dtype)
    module.functions.append(
        f"@sd.ones.{dtype} = internal constant {r.four} splat ({r.type} {literal(1, dtype)})\n"
    )
    return r.text() + _mirror(module, dtype)


def call(r: Routine, lines: str, k: str, source: str, line: str, step: str, target: str, wide: int = FOUR,
         scale: str = "null") -> None:  # fmt: skip
    """Call the packing routine."""
    words = f"i64 {lines}, i64 {k}, ptr {source}, i64 {line}, i64 {step}, ptr {target}, i64 {wide}, ptr {scale}"
    r.do(f"call void @sd.pack.{r.dtype}({words})")


def mirror(r: Routine, begin: str, end: str) -> None:
    """Mirror some stripes of a symmetric result."""
    r.do(f"call void @{symbols(r.dtype)[1]}(i64 %n, ptr %c, i64 %cr, i64 {begin}, i64 {end})")


class _Pack(Routine):
    """Writes the packing routine."""

    @property
    def four(self) -> str:
        return self.lanes(FOUR)

    def factor(self, l: str) -> str:
        """The place of the scale of element l."""
        return self.place("%factors", self.emit(f"and i64 {l}, %scaled"))

    def every(self, place: str, width: int) -> str:
        """The number at a place, in every lane."""
        return self.splat(self.get(place, "0"), self.type, width)

    def times(self, values: str, factors: str, width: int) -> str:
        return self.emit(f"fmul {self.lanes(width)} {values}, {factors}")

    def mixed(self, a: str, b: str, lanes: tuple[int, ...]) -> str:
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.emit(f"shufflevector {self.four} {a}, {self.four} {b}, <{FOUR} x i32> <{order}>")

    def transposed(self, rows: list[str]) -> list[str]:
        a, b, c, d = rows
        low, high = (0, 4, 2, 6), (1, 5, 3, 7)
        p, q, s, t = self.mixed(a, b, low), self.mixed(a, b, high), self.mixed(c, d, low), self.mixed(c, d, high)
        near, far = (0, 1, 4, 5), (2, 3, 6, 7)
        return [self.mixed(p, s, near), self.mixed(q, t, near), self.mixed(p, s, far), self.mixed(q, t, far)]

    def copied(self, source: str, target: str, lines: int, panels: int = 1) -> None:
        """So many lines that lie side by side, and those of the next panels along with them."""
        width = min(max(FOUR, self.module.register_bytes // BYTES[self.dtype]), lines)
        targets = [target]
        for _ in range(1, panels):
            targets.append(self.opaque(self.place(targets[-1], "%panel")))

        def element(l: str) -> None:
            here, offset = self.place(source, self.mul(l, "%step")), self.mul(l, "%wide")
            factors = self.every(self.factor(l), width)
            for number, each in enumerate(targets):
                there = self.place(each, offset)
                for first in range(0, lines, width):
                    own = self.get_lanes(here, str(number * lines + first), width)
                    self.put_lanes(self.times(own, factors, width), there, str(first), width)

        self.loop("%k", element)

    def turned(self, starts: list[str], target: str, end: str) -> None:
        """Four lines of dense elements, four of each at a time."""

        def block(l: str) -> None:
            factors = self.get_lanes(self.factor(l), "0", FOUR)
            rows = [self.times(self.get_lanes(start, l, FOUR), factors, FOUR) for start in starts]
            first = self.mul(l, "%wide")
            for there, values in zip(targets, self.transposed(rows), strict=True):
                self.put_lanes(values, there, first, FOUR)

        targets = [target]
        for _ in range(1, FOUR):
            targets.append(self.opaque(self.place(targets[-1], "%wide")))
        self.loop(end, block, FOUR)

    def gathered(self, starts: list[str], target: str, begin: str) -> None:
        """Elements of four lines one by one."""

        def element(l: str) -> None:
            values, offset = "poison", self.mul(l, "%step")
            for i, start in enumerate(starts):
                one = self.get(start, offset)
                values = self.emit(f"insertelement {self.four} {values}, {self.type} {one}, i64 {i}")
            values = self.times(values, self.every(self.factor(l), FOUR), FOUR)
            self.put_lanes(values, target, self.mul(l, "%wide"), FOUR)

        self.loop("%k", element, start=begin)

    def group(self, first: str, target: str) -> None:
        """Four lines; the last one again where there are fewer."""
        first = self.least(first, "%last")
        over = self.sub("%last", first)
        source, target = self.opaque(self.place("%in", self.mul(first, "%line"))), self.opaque(target)
        several = self.emit(f"icmp sge i64 {over}, {FOUR - 1}")

        def lines() -> None:
            starts = [source]
            for i in range(1, FOUR):
                starts.append(self.opaque(self.place(source, self.mul(self.least(over, i), "%line"))))
            turns = self.emit(f"and i1 {several}, %along")
            end = self.emit(f"select i1 {turns}, i64 %whole, i64 0")
            self.turned(starts, target, end)
            self.gathered(starts, target, end)

        self.when(self.emit(f"and i1 {several}, %near"), lambda: self.copied(source, target, FOUR), lines)

    def panel(self, p: str) -> None:
        """So many lines."""
        narrowest = tiles(self.module, self.dtype)[0].columns
        target, left = self.opaque(self.place("%out", self.mul(p, "%k"))), self.sub("%lines", p)
        read = self.least(self.mul(self.parts(left, narrowest), narrowest), "%wide")
        self.loop(read, lambda x: self.group(self.add(p, x), self.place(target, x)), FOUR)

    def side_by_side(self, wide: int) -> str:
        """Pack whole panels of `wide` lines that lie side by side; returns how many lines these are.

        Several at a time as long as there are as many: cache lines in which two panels meet are read once then.
        """
        right = self.both("%near", self.emit(f"icmp eq i64 %wide, {wide}"))
        done = self.emit(f"select i1 {right}, i64 {self.emit(f'udiv i64 %lines, {wide}')}, i64 0")
        done = self.mul(done, wide)

        def panels(count: int) -> Callable[[str], None]:
            return lambda p: self.copied(
                self.opaque(self.place("%in", p)), self.opaque(self.place("%out", self.mul(p, "%k"))), wide, count
            )

        several = self.mul(self.emit(f"udiv i64 {done}, {wide * _PANELS}"), wide * _PANELS)
        self.loop(several, panels(_PANELS), wide * _PANELS)
        self.loop(done, panels(1), wide, start=several)
        return done

    def text(self) -> str:
        """The routine."""
        self.do("%plain = icmp eq ptr %scale, null")
        self.do(f"%factors = select i1 %plain, ptr @sd.ones.{self.dtype}, ptr %scale")
        self.do("%scaled = select i1 %plain, i64 0, i64 -1")
        self.do("%near = icmp eq i64 %line, 1")
        self.do("%along = icmp eq i64 %step, 1")
        self.do(f"%whole = and i64 %k, {-FOUR}")
        self.do("%last = sub i64 %lines, 1")
        self.do("%panel = mul nsw i64 %wide, %k")
        widths = {FOUR, tiles(self.module, self.dtype)[-1].columns}
        copied = reduce(self.add, [self.side_by_side(wide) for wide in sorted(widths)])
        self.loop("%lines", self.panel, "%wide", start=copied)
        return self.define(symbols(self.dtype)[0], "void", _PARAMETERS, "ret void", linkage="")


def _mirror(module: Module, dtype: str) -> str:
    """c[i, j] = c[j, i] for j < i, in stripes of so many rows that lines are read whole."""
    r = Routine(module, dtype)

    def stripe(number: str) -> None:
        first = r.mul(number, STRIPE)
        end = r.least(r.add(first, STRIPE), "%n")

        def column(j: str) -> None:
            begin = r.most(first, r.add(j, 1))
            source, target = r.opaque(r.place("%c", r.mul(j, "%row"))), r.opaque(r.place("%c", j))
            r.loop(end, lambda i: r.put(r.get(source, i), target, r.mul(i, "%row")), start=begin)

        r.loop(r.sub(end, 1), column)

    r.loop("%to", stripe, start="%from")
    return r.define(symbols(dtype)[1], "void", "i64 %n, ptr %c, i64 %row, i64 %from, i64 %to", "ret void", linkage="")
