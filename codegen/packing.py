"""Panels for matrix products in LLVM IR, and the mirror image of a symmetric result.

`text(module, dtype)` gives `@sd.pack.<dtype>` and `@sd.mirror.<dtype>`. Packing turns lines of a matrix into panels of
`wide` lines: out[panel][l][lane] = in[(panel * wide + lane) * line + l * step] * scale[l], with zeros for lanes beyond
the last line; a null scale is 1. Lines that are one apart are copied four at a time, lines with dense elements are
transposed four by four.
"""

from __future__ import annotations

from codegen.routine import Routine
from codegen.text import BYTES, Module, literal

FOUR = 4
_PARAMETERS = "i64 %lines, i64 %k, ptr noalias %in, i64 %line, i64 %step, ptr noalias %out, i64 %wide, ptr %scale"


def text(module: Module, dtype: str) -> str:
    """Both routines."""
    return _pack(module, dtype) + _mirror(module, dtype)


def call(r: Routine, lines: str, k: str, source: str, line: str, step: str, target: str, wide: int, scale: str) -> None:
    """Call the packing routine."""
    r.do(
        f"call void @sd.pack.{r.dtype}(i64 {lines}, i64 {k}, ptr {source}, i64 {line}, i64 {step}, ptr {target}, "
        f"i64 {wide}, ptr {scale})"
    )


class _Pack(Routine):
    """Writes the packing routine."""

    @property
    def four(self) -> str:
        return f"<{FOUR} x {self.type}>"

    def scaled(self, values: str, l: str) -> str:
        """Four lanes of element l times its scale."""
        one = self.get("%factors", self.emit(f"select i1 %plain, i64 0, i64 {l}"))
        return self.emit(f"fmul {self.four} {values}, {self.every(one)}")

    def every(self, one: str) -> str:
        lane = self.emit(f"insertelement {self.four} poison, {self.type} {one}, i64 0")
        return self.emit(f"shufflevector {self.four} {lane}, {self.four} poison, <{FOUR} x i32> zeroinitializer")

    def write(self, values: str, target: str, l: str) -> None:
        """Store four lanes of element l."""
        place = self.place(target, self.mul(l, "%wide"))
        self.do(f"store {self.four} {self.scaled(values, l)}, ptr {place}, align {BYTES[self.dtype]}")

    def read(self, place: str) -> str:
        return self.emit(f"load {self.four}, ptr {place}, align {BYTES[self.dtype]}")

    def mixed(self, a: str, b: str, lanes: tuple[int, ...]) -> str:
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.emit(f"shufflevector {self.four} {a}, {self.four} {b}, <{FOUR} x i32> <{order}>")

    def transposed(self, rows: list[str]) -> list[str]:
        a, b, c, d = rows
        low, high = (0, 4, 2, 6), (1, 5, 3, 7)
        p, q, s, t = self.mixed(a, b, low), self.mixed(a, b, high), self.mixed(c, d, low), self.mixed(c, d, high)
        near, far = (0, 1, 4, 5), (2, 3, 6, 7)
        return [self.mixed(p, s, near), self.mixed(q, t, near), self.mixed(p, s, far), self.mixed(q, t, far)]

    def copied(self, source: str, target: str) -> None:
        """Four lines that lie side by side."""
        self.loop("%k", lambda l: self.write(self.read(self.place(source, self.mul(l, "%step"))), target, l))

    def turned(self, source: str, target: str) -> None:
        """Four lines of dense elements."""
        starts = [source, *(self.place(source, self.mul("%line", i)) for i in range(1, FOUR))]
        whole = self.emit(f"and i64 %k, {-FOUR}")

        def block(l: str) -> None:
            for i, values in enumerate(self.transposed([self.read(self.place(s, l)) for s in starts])):
                self.write(values, target, self.add(l, i) if i else l)

        self.loop(whole, block, FOUR)
        self.loop("%k", lambda l: self.gathered(starts, l, l, target), start=whole)

    def gathered(self, starts: list[str], offset: str, l: str, target: str, count: str = "") -> None:
        """Element l of four lines, zero for those beyond `count`."""
        values = "poison"
        for i, start in enumerate(starts):
            one = self.get(start, offset)
            if count and i:
                inside = self.emit(f"icmp sgt i64 {count}, {i}")
                one = self.emit(f"select i1 {inside}, {self.type} {one}, {self.type} {literal(0, self.dtype)}")
            values = self.emit(f"insertelement {self.four} {values}, {self.type} {one}, i64 {i}")
        self.write(values, target, l)

    def partial(self, source: str, target: str, count: str) -> None:
        """Fewer than four lines, or lines that are dense in neither direction."""
        last = self.sub(count, 1)
        starts = [source]
        for i in range(1, FOUR):
            starts.append(self.place(source, self.mul("%line", self.least(str(i), last))))
        self.loop("%k", lambda l: self.gathered(starts, self.mul(l, "%step"), l, target, count))

    def nothing(self, target: str) -> None:
        """Lanes beyond the last line."""
        zero = f"store {self.four} zeroinitializer, ptr"
        align = BYTES[self.dtype]
        self.loop("%k", lambda l: self.do(f"{zero} {self.place(target, self.mul(l, '%wide'))}, align {align}"))


def _pack(module: Module, dtype: str) -> str:
    r = _Pack(module, dtype)
    module.functions.append(f"@sd.one.{dtype} = internal constant {r.type} {literal(1, dtype)}\n")
    r.do("%plain = icmp eq ptr %scale, null")
    r.do(f"%factors = select i1 %plain, ptr @sd.one.{dtype}, ptr %scale")
    near, along = r.emit("icmp eq i64 %line, 1"), r.emit("icmp eq i64 %step, 1")

    def panel(p: str) -> None:
        def lanes(x: str) -> None:
            first = r.add(p, x)
            count = r.sub("%lines", first)
            source = r.place("%in", r.mul(first, "%line"))
            target = r.place("%out", r.add(r.mul(p, "%k"), x))

            def some() -> None:
                four = r.emit(f"icmp sge i64 {count}, {FOUR}")
                side = r.emit(f"and i1 {four}, {near}")
                turn = r.emit(f"and i1 {four}, {along}")
                r.when(side, lambda: r.copied(source, target), lambda: r.when(
                    turn, lambda: r.turned(source, target), lambda: r.partial(source, target, count)
                ))  # fmt: skip

            r.when(r.emit(f"icmp sgt i64 {count}, 0"), some, lambda: r.nothing(target))

        r.loop("%wide", lanes, FOUR)

    r.loop("%lines", panel, "%wide")
    return r.define(f"sd.pack.{dtype}", "void", _PARAMETERS, "ret void")


def _mirror(module: Module, dtype: str) -> str:
    """c[i, j] = c[j, i] for j < i, in stripes of eight rows so that lines are read whole."""
    r = Routine(module, dtype)
    stripe = 8

    def rows(first: str) -> None:
        end = r.least(r.add(first, stripe), "%n")

        def column(j: str) -> None:
            begin = r.emit(f"call i64 @llvm.smax.i64(i64 {first}, i64 {r.add(j, 1)})")
            r.loop(end, lambda i: r.put(r.get("%c", r.at(j, "%row", i)), "%c", r.at(i, "%row", j)), start=begin)

        r.loop(r.sub(end, 1), column)

    module.declare("declare i64 @llvm.smax.i64(i64, i64)")
    r.loop("%n", rows, stripe)
    return r.define(f"sd.mirror.{dtype}", "void", "i64 %n, ptr %c, i64 %row", "ret void")
