"""Panels for matrix products in LLVM IR.

`text(module, dtype, wide)` gives `@sd.pack.<dtype>.4` for the left operand and `@sd.pack.<dtype>.<wide>` for the right
one. Packing turns lines of a matrix into panels of so many lines:

    out[panel][l][lane] = in[(panel * wide + lane) * line + l * step] * scale[l],

with anything in lanes beyond the last line; a null scale is 1, and the left operand has none. Lines that are one apart
are copied, lines with dense elements are transposed four by four.
"""

from __future__ import annotations

from codegen.routine import Routine
from codegen.text import BYTES, Module, literal
from codegen.tiles import FOUR

_PARAMETERS = "i64 %lines, i64 %k, ptr noalias %in, i64 %line, i64 %step, ptr noalias %out"


def text(module: Module, dtype: str, wide: int) -> str:
    """Both routines."""
    module.functions.append(
        f"@sd.ones.{dtype} = internal constant {_Pack(module, dtype, wide, True).four} "
        f"splat ({_Pack(module, dtype, wide, True).type} {literal(1, dtype)})\n"
    )
    return _pack(module, dtype, FOUR, False) + _pack(module, dtype, wide, True)


def call(r: Routine, lines: str, k: str, source: str, line: str, step: str, target: str, wide: int = FOUR,
         scale: str = "") -> None:  # fmt: skip
    """Call the packing routine for so wide panels, with a scale if they are of the right operand."""
    words = f"i64 {lines}, i64 {k}, ptr {source}, i64 {line}, i64 {step}, ptr {target}"
    r.do(f"call void @{_symbol(r.dtype, wide, bool(scale))}({words}{f', ptr {scale}' if scale else ''})")


def _symbol(dtype: str, wide: int, scaled: bool) -> str:
    return f"sd.pack.{dtype}.{wide}{'s' if scaled else ''}"


class _Pack(Routine):
    """Writes the packing routine."""

    def __init__(self, module: Module, dtype: str, wide: int, scaled: bool) -> None:
        super().__init__(module, dtype)
        self.wide, self.scaled = wide, scaled

    @property
    def four(self) -> str:
        return self.lanes(FOUR)

    def factor(self, l: str) -> str:
        """The place of the scale of element l."""
        return self.place("%factors", self.emit(f"select i1 %plain, i64 0, i64 {l}"))

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

    def copied(self, source: str, target: str, lines: int) -> None:
        """So many lines that lie side by side."""
        width = min(max(FOUR, self.module.register_bytes // BYTES[self.dtype]), lines)

        def element(l: str) -> None:
            here, there = self.place(source, self.mul(l, "%step")), self.place(target, self.mul(l, self.wide))
            factors = self.every(self.factor(l), width) if self.scaled else ""
            for first in range(0, lines, width):
                values = self.get_lanes(here, str(first), width)
                own = self.times(values, factors, width) if factors else values
                self.put_lanes(own, there, str(first), width)

        self.loop("%k", element)

    def turned(self, source: str, target: str) -> None:
        """Four lines of dense elements."""
        starts = [source, *(self.place(source, self.mul("%line", i)) for i in range(1, FOUR))]
        whole = self.emit(f"and i64 %k, {-FOUR}")

        def block(l: str) -> None:
            rows = [self.get_lanes(start, l, FOUR) for start in starts]
            if self.scaled:
                factors = self.emit(f"load {self.four}, ptr {self.factor(l)}, align {BYTES[self.dtype]}")
                rows = [self.times(row, factors, FOUR) for row in rows]
            there = self.place(target, self.mul(l, self.wide))
            for i, values in enumerate(self.transposed(rows)):
                self.put_lanes(values, there, str(i * self.wide), FOUR)

        self.loop(whole, block, FOUR)
        self.loop("%k", lambda l: self.gathered(starts, l, l, target), start=whole)

    def gathered(self, starts: list[str], offset: str, l: str, target: str) -> None:
        """Element l of four lines."""
        values = "poison"
        for i, start in enumerate(starts):
            values = self.emit(f"insertelement {self.four} {values}, {self.type} {self.get(start, offset)}, i64 {i}")
        if self.scaled:
            values = self.times(values, self.every(self.factor(l), FOUR), FOUR)
        self.put_lanes(values, target, self.mul(l, self.wide), FOUR)

    def partial(self, source: str, target: str, count: str) -> None:
        """Fewer than four lines, the last of them repeated, or lines that are dense in neither direction."""
        last = self.sub(count, 1)
        starts = [source]
        for i in range(1, FOUR):
            starts.append(self.place(source, self.mul("%line", self.least(str(i), last))))
        self.loop("%k", lambda l: self.gathered(starts, self.mul(l, "%step"), l, target))

    def nothing(self, target: str) -> None:
        """Lanes beyond the last line."""
        self.loop("%k", lambda l: self.put_lanes("zeroinitializer", target, self.mul(l, self.wide), FOUR))


def _pack(module: Module, dtype: str, wide: int, scaled: bool) -> str:
    r = _Pack(module, dtype, wide, scaled)
    if scaled:
        r.do("%plain = icmp eq ptr %scale, null")
        r.do(f"%factors = select i1 %plain, ptr @sd.ones.{dtype}, ptr %scale")
    near, along = r.emit("icmp eq i64 %line, 1"), r.emit("icmp eq i64 %step, 1")

    def panel(p: str) -> None:
        def group(x: str) -> None:
            first = r.add(p, x)
            count = r.sub("%lines", first)
            source = r.place("%in", r.mul(first, "%line"))
            target = r.place("%out", r.add(r.mul(p, "%k"), x))

            def some() -> None:
                four = r.emit(f"icmp sge i64 {count}, {FOUR}")
                side = r.emit(f"and i1 {four}, {near}")
                turn = r.emit(f"and i1 {four}, {along}")
                r.when(side, lambda: r.copied(source, target, FOUR), lambda: r.when(
                    turn, lambda: r.turned(source, target), lambda: r.partial(source, target, count)
                ))  # fmt: skip

            r.when(r.emit(f"icmp sgt i64 {count}, 0"), some, lambda: r.nothing(target))

        if wide == FOUR:
            group("0")
            return
        full = r.emit(f"icmp sge i64 {r.sub('%lines', p)}, {wide}")
        r.when(
            r.emit(f"and i1 {near}, {full}"),
            lambda: r.copied(r.place("%in", p), r.place("%out", r.mul(p, "%k")), wide),
            lambda: r.loop(str(wide), group, FOUR),
        )

    r.loop("%lines", panel, wide)
    parameters = _PARAMETERS + (", ptr %scale" if scaled else "")
    return r.define(_symbol(dtype, wide, scaled), "void", parameters, "ret void")
