"""Rows that are folded side by side: what all of them read is read once, and memory is read in several runs at a time.

`jammed(loop)` takes a plain loop over rows that folds each along a vector loop, cheaply, and writes nothing that it
reads; gives what is run for one row and, with `Row.times`, for several. `rows_beside_rows` gives such folds of a
program `FEW` partial results, so that registers hold those of several rows. That is settled before loops are cut for
threads, and the rows beside a row change nothing about it: bits depend on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from codegen.analysis.facts import WIDE_LIMIT, is_rounded, row_fold, weight
from codegen.ir.index import Index, make
from codegen.ir.loops import For, Kernel, Let, Load, Stmt, Store, scalars_read, statements

FEW = 16
_MOST = 2
_ROWS = 4
"""Rows at most, each with instructions of its own."""
_APART = 1 << 32
"""Names of one row come so far behind those of the row before."""


@dataclass(frozen=True, slots=True)
class Row:
    """The statements of a row before its fold, the fold, and those behind it."""

    var: str
    before: Sequence[Let | Load]
    fold: For
    behind: Sequence[Let | Load | Store]

    @property
    def body(self) -> list[Stmt]:
        """The statements in order."""
        return [*self.before, self.fold, *self.behind]

    def times(self, count: int) -> Row:
        """So many rows from this one on, as one that folds all of them in one loop."""
        before: list[Let | Load] = []
        inner: list[Stmt] = []
        behind: list[Let | Load | Store] = []
        carries = list(self.fold.carries)
        own = self._own()
        for number in range(count):
            name = _renamed(own, number)
            for target, part in ((before, self.before), (inner, self.fold.body), (behind, self.behind)):
                for stmt in part:
                    assert isinstance(stmt, (Let, Load, Store))
                    if number == 0 or isinstance(stmt, Store) or stmt.name in own:
                        target.append(_moved(stmt, self.var, number, name))  # type: ignore[arg-type]
            if number:
                carries += [replace(c, value=name(c.value), out=name(c.out)) for c in self.fold.carries]
        return Row(self.var, before, replace(self.fold, body=inner, carries=carries), behind)

    def copies(self, names: Iterable[int], count: int) -> set[int]:
        """What scalars of these names are called in the rows behind the first."""
        own = self._own()
        return {name + number * _APART for name in names if name in own for number in range(1, count)}

    def _own(self) -> set[int]:
        """Scalars that differ from row to row."""
        found = {c.out for c in self.fold.carries}
        for stmt in (*self.before, *self.fold.body, *self.behind):
            if isinstance(stmt, (Let, Load)) and (
                any(n in found for n in scalars_read(stmt)) or any(i.coefficient(self.var) != 0 for i in _indices(stmt))
            ):
                found.add(stmt.name)
        return found


def jammed(loop: For) -> Row | None:
    """What a loop does with a row, where rows may be folded side by side."""
    fold = row_fold(loop)
    if fold is None or fold.waited or len(fold.carries) > _MOST or not all(map(is_rounded, fold.carries)):
        return None
    if isinstance(fold.extent, int) and fold.extent <= 2 * FEW:
        return None
    at = loop.body.index(fold)
    before = [s for s in loop.body[:at] if isinstance(s, (Let, Load))]
    inner = [s for s in fold.body if isinstance(s, (Let, Load))]
    behind = [s for s in loop.body[at + 1 :] if isinstance(s, (Let, Load, Store))]
    if len(before) + len(behind) + 1 != len(loop.body) or len(inner) != len(fold.body):
        return None
    for part in (before, inner, behind):
        length, dear = weight(part)
        if length > WIDE_LIMIT or dear:
            return None
    written = {s.buffer.root for s in behind if isinstance(s, Store)}
    if any(isinstance(s, Load) and s.buffer.root in written for s in (*before, *inner, *behind)):
        return None
    return Row(loop.var, before, fold, behind)


def rows_beside_rows(kernels: Sequence[Kernel]) -> None:
    """Give the folds of rows that may run side by side few partial results, in place."""
    for kernel in kernels:
        for stmt in statements(kernel.body):
            row = jammed(stmt) if isinstance(stmt, For) else None
            if row is not None:
                row.fold.parts = FEW


def side_by_side(row: Row, lanes: int, registers: int) -> tuple[int, Row]:
    """How many rows the registers hold and a cheap body has, and these."""
    each = -(-FEW // lanes)
    # What all rows read stays in registers, and where more is done than to multiply, so does what is made of one row.
    others = each * (1 + (sum(isinstance(s, Let) for s in row.fold.body) > 1))
    count = max(1, min(_ROWS, (registers - others) // (each * len(row.fold.carries))))
    while count > 1 and len(row.times(count).fold.body) > WIDE_LIMIT:
        count -= 1
    return count, row.times(count)


def _renamed(own: set[int], number: int) -> Callable[[int], int]:
    return lambda name: name + number * _APART if name in own else name


def _indices(stmt: Let | Load | Store) -> Sequence[Index]:
    if isinstance(stmt, Let):
        return (stmt.attr,) if isinstance(stmt.attr, Index) else ()
    return stmt.index


def _moved(stmt: Let | Load | Store, var: str, number: int, name: Callable[[int], int]) -> Let | Load | Store:
    """A statement of a row as one of the row so far behind it."""

    def index(own: Index) -> Index:
        terms = {f"%{name(int(n[1:]))}" if n[0] == "%" else n: factor for n, factor in own.terms}
        return make(terms, own.const + own.coefficient(var) * number)

    if isinstance(stmt, Let):
        attr = index(stmt.attr) if isinstance(stmt.attr, Index) else stmt.attr
        return replace(stmt, name=name(stmt.name), args=tuple(map(name, stmt.args)), attr=attr)
    places = tuple(map(index, stmt.index))
    if isinstance(stmt, Load):
        return replace(stmt, name=name(stmt.name), index=places)
    return replace(stmt, index=places, value=name(stmt.value))
