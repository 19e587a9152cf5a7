"""Folds of narrow rows, as many rows at a time as a register has lanes.

A row of few elements spends its time around the elements: on masks, on operands that all rows share, and on folding
the lanes of a register up. Rows side by side share the first two, and their lanes are folded up together: what is made
of each row is a register, the registers are transposed, and lane r of the result belongs to row r. Every row has the
bits that it has alone: each of its partial results is one element or two, and they are folded by halves.
"""

from __future__ import annotations

from codegen.analysis.facts import row_fold, weight
from codegen.ir.index import flatten
from codegen.ir.loops import PARTS, For, Let, Load, Stmt, Store, scalars_read
from codegen.kernels.folds import alone, by_halves, folded, upright
from codegen.kernels.shuffles import transposed
from codegen.kernels.vectors import VectorWriter
from codegen.kernels.writer import Scope
from codegen.llvm.text import register_type

LONGEST = PARTS
"""Elements of a narrow row."""
_CHEAP = 6
"""Instructions for an element of a row."""
_FLOATS = ("f64", "f32")


def narrow_rows(loop: For) -> For | None:
    """The fold over the elements of a row, in a plain loop over rows that does little else; None if it is none."""
    fold = row_fold(loop)
    if fold is None or not all(_simple(s, loop.var) for s in loop.body if s is not fold):
        return None
    if any(c.dtype not in _FLOATS for c in fold.carries):
        return None
    if isinstance(fold.extent, int) and fold.extent > LONGEST:
        return None
    length, dear = weight(fold.body)
    cheap = not dear and length * len(fold.carries) <= _CHEAP and all(isinstance(s, (Let, Load)) for s in fold.body)
    own = {s.name for s in loop.body if isinstance(s, (Let, Load))}
    return fold if cheap and not own & {n for s in fold.body for n in scalars_read(s)} else None


def _simple(stmt: Stmt, row: str) -> bool:
    """Whether a statement is as good for several rows side by side."""
    if isinstance(stmt, (Load, Store)):
        index = flatten(stmt.index, stmt.buffer.shape)
        fold = stmt.fold if isinstance(stmt, Store) else ""
        return not fold and index.coefficient(row) == 1 and all(name[0] != "%" for name, _ in index.terms)
    return isinstance(stmt, Let) and stmt.op != "index"


class NarrowWriter(VectorWriter):
    """Writes loops over narrow rows."""

    def narrow(self, loop: For, fold: For, start: str, extent: str) -> str:
        """The rows that can be taken several at a time, if they are narrow; returns where the others begin."""
        lines, width = self.lines, self.lanes
        whole = self.whole(start, extent, width)
        if not isinstance(fold.extent, int):
            few = lines.emit(f"icmp ult i64 {lines.emit(f'sub i64 {self.size(fold.extent)}, 1')}, {LONGEST}")
            whole = lines.emit(f"select i1 {few}, i64 {whole}, i64 {start}")
        at = loop.body.index(fold)

        def rows(first: str) -> None:
            self.body(loop.body[:at])
            self._several(loop, fold, first)
            self.body(loop.body[at + 1 :])

        return self.strip(loop, start, start, whole, width, (), masked=False, in_registers=False, body=rows)

    def _several(self, loop: For, fold: For, first: str) -> None:
        """The folds of rows from `first` on: for a quarter, half, three quarters and all of `LONGEST` elements."""
        lines, width, outer = self.lines, self.lanes, self.scope
        most = LONGEST // width
        length, done = self.size(fold.extent), lines.label("done")
        steps = sorted({max(1, most * part // 4) for part in (1, 2, 3, 4)})
        if isinstance(fold.extent, int):
            steps = [-(-max(1, fold.extent) // width)]
        ways: list[tuple[str, list[str]]] = []
        full = 0
        for count in steps:
            last, more = count == steps[-1], lines.label("more")
            if not last:
                these = lines.label("rows")
                test = lines.emit(f"icmp sle i64 {length}, {count * width}")
                lines.do(f"br i1 {test}, label %{these}, label %{more}")
                lines.begin(these)
            if isinstance(fold.extent, int):
                full = fold.extent // width
            made = self._rows(loop, fold, first, count, full)
            ways.append((lines.block, made))
            lines.do(f"br label %{done}")
            lines.begin(done if last else more)
            full = count
        self.scope, self.vars[loop.var] = outer, first
        self.meet(fold.carries, ways)

    def _rows(self, loop: For, fold: For, first: str, count: int, full: int) -> list[str]:
        """The totals of rows in `count` registers each, of which so many are full; one of every row in a register."""
        lines, width, names = self.lines, self.lanes, dict(self.env)
        most = fold.parts // width
        length = self.size(fold.extent)
        own = _of_row(loop, fold)
        pieces: list[list[list[str]]] = [[[] for _ in range(width)] for _ in fold.carries]
        for register in range(count):
            place = str(register * width)
            self.scope = Scope(width, "", fold.var)
            self.vars[fold.var] = place
            if register >= full:
                self.mask(lines.emit(f"sub i64 {length}, {place}"))
            self.env = dict(names)
            for row in range(width):
                self.vars[loop.var] = self.plus(first, str(row))
                self.body([s for s in fold.body if not row or id(s) in own])
                for made, carry in zip(pieces, fold.carries, strict=True):
                    if register < most:
                        made[row].append(alone(self, carry))
                    else:
                        made[row][register - most] = folded(self, carry, made[row][register - most])
        self.env = names
        totals: list[str] = []
        for made, carry in zip(pieces, fold.carries, strict=True):
            rows = [upright(lines, carry, width, parts) for parts in made]
            columns = transposed(lines, rows, register_type(carry.dtype, width))
            totals.append(by_halves(lines, carry, width, columns))
        return totals


def _of_row(loop: For, fold: For) -> set[int]:
    """The statements of a fold that differ from row to row; what is folded is made for each row."""
    own: set[int] = set()
    names: set[int] = set()
    folded = {carry.value for carry in fold.carries}
    for stmt in fold.body:
        assert isinstance(stmt, (Let, Load))
        index = stmt.index if isinstance(stmt, Load) else (stmt.attr,) if stmt.op == "index" else ()
        moves = any(name == loop.var for i in index for name, _ in i.terms)
        if moves or stmt.name in folded or names & set(scalars_read(stmt)):
            own.add(id(stmt))
            names.add(stmt.name)
    return own
