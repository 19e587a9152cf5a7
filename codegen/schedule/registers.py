"""Scalars that a step hands on stay in registers: within the step, and from one step to the next.

`in_registers` takes the loop of a scan. An array of which every access names one element by a number, and that is
written outside of inner loops, is as many scalars: loads of it become the values that were stored. So a recurrence of
scalars or of small vectors never waits for memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from codegen.ir.index import Index, combine, flatten
from codegen.ir.loops import Buffer, Call, Carry, For, Let, Load, Pointer, Stmt, Store, Trap, statements
from codegen.schedule.nests import Memory
from symdiff.ir.dims import product

_MOST = 64
"""Elements of a carry."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A carry: the buffers that stand for it before and behind a step; `kept`: what a step makes is stored as well."""

    before: Buffer
    behind: Buffer
    kept: bool


def in_registers(
    loop: For, cells: Sequence[Cell], temps: Sequence[Buffer], memory: Memory
) -> dict[Cell, list[Carry]]:
    """Turn the loop to registers; for every carry that is in registers now its elements, row-major, which the loop
    carries round. `temps`: temporaries of a step."""
    fixed = _named(loop.body, {c.before for c in cells}, {*temps, *[b for c in cells for b in (c.before, c.behind)]})
    found = {c: [Carry("scan", c.before.dtype, -1, memory.name(), memory.name(), 0) for _ in range(_count(c.behind))]
             for c in cells if {c.before, c.behind} <= fixed and _count(c.behind) <= _MOST}  # fmt: skip
    now: dict[tuple[Buffer, int], int] = {}
    for cell, carries in found.items():
        now.update({(cell.before, number): carry.inside for number, carry in enumerate(carries)})
    gone = {b for b in temps if b in fixed} | {c.before for c in found}
    kept = {c.behind for c in found if c.kept}
    gone |= {c.behind for c in found} - kept
    loop.body = _Replacing(gone, kept, now).body(loop.body)
    for cell, carries in found.items():
        for number, carry in enumerate(carries):
            carry.value = now[cell.behind, number]
        loop.carries += carries
    return found


def forwarded(body: Sequence[Stmt], scalars: set[Buffer]) -> list[Stmt]:
    """A straight body without these arrays of one element, each of which it writes before it reads it."""
    return _Replacing(scalars, set(), {}).body(body)


def _count(buffer: Buffer) -> int:
    count = product(buffer.shape)
    return count if isinstance(count, int) else _MOST + 1


def _named(body: Sequence[Stmt], given: set[Buffer], candidates: set[Buffer]) -> set[Buffer]:
    """The buffers whose elements are all named by numbers, and written outside of loops before they are read (those
    that are `given` are not written)."""
    bad: set[Buffer] = set()
    written: set[tuple[Buffer, int]] = set()
    for top in body:
        for stmt in statements([top]):
            if isinstance(stmt, Call):
                bad.update(a.buffer.root for a in stmt.args if isinstance(a, Pointer))
            elif isinstance(stmt, (Load, Store)):
                root, element = stmt.buffer.root, _element(stmt)
                if element is None:
                    bad.add(root)
                elif isinstance(stmt, Load):
                    if root not in given and (root, element) not in written:
                        bad.add(root)
                elif stmt is top and not stmt.fold and root not in given:
                    written.add((root, element))
                else:
                    bad.add(root)
    return candidates - bad


def _element(stmt: Load | Store) -> int | None:
    """The element that an access names by a number, row-major."""
    index = flatten(stmt.index, stmt.buffer.shape)
    return index.const if not index.terms and isinstance(index.const, int) else None


@dataclass(eq=False, slots=True)
class _Replacing:
    """Puts scalars in the place of elements: `now` is what each element is, `names` are new names of scalars."""

    gone: set[Buffer]
    kept: set[Buffer]
    now: dict[tuple[Buffer, int], int]
    names: dict[int, int] = field(default_factory=dict[int, int])

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        """The statements with scalars for elements."""
        made: list[Stmt] = []
        for stmt in body:
            self._rename(stmt)
            if isinstance(stmt, For):
                stmt.body = self.body(stmt.body)
                for carry in stmt.carries:
                    carry.value = self._name(carry.value)
            elif isinstance(stmt, (Load, Store)):
                root, element = stmt.buffer.root, _element(stmt)
                if element is not None and (root in self.gone or root in self.kept):
                    if isinstance(stmt, Load):
                        self.names[stmt.name] = self.now[root, element]
                        continue
                    self.now[root, element] = stmt.value
                    if root in self.gone:
                        continue
            made.append(stmt)
        return made

    def _name(self, name: int) -> int:
        return self.names.get(name, name)

    def _index(self, index: Index) -> Index:
        if not any(n[0] == "%" and int(n[1:]) in self.names for n, _ in index.terms):
            return index
        parts = [(c, Index(((f"%{self._name(int(n[1:]))}" if n[0] == "%" else n, 1),))) for n, c in index.terms]
        return combine(parts, index.const)

    def _rename(self, stmt: Stmt) -> None:
        if isinstance(stmt, Let):
            stmt.args = tuple([self._name(a) for a in stmt.args])
            if isinstance(stmt.attr, Index):
                stmt.attr = self._index(stmt.attr)
        elif isinstance(stmt, (Load, Store)):
            stmt.index = tuple(map(self._index, stmt.index))
            if isinstance(stmt, Store):
                stmt.value = self._name(stmt.value)
        elif isinstance(stmt, Trap):
            stmt.cond = self._name(stmt.cond)
        elif isinstance(stmt, For):
            for carry in stmt.carries:
                carry.start = self._name(carry.start)
        else:
            for arg in stmt.args:
                if isinstance(arg, Pointer):
                    arg.index = tuple(map(self._index, arg.index))
