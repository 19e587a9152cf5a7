"""From the expressions and jobs of a nest to loops: which loops there are, in which order, and what stands in which.

Takes a `Nest`; gives statements of the loop IR. Promises: what does not depend on a loop stands outside it; adjacent
loops that every access runs through densely become one; the loop with the most unit strides becomes the vector loop, as
far as the jobs allow (the folded axes of a job stay inside its kept ones); loops of extent 0 are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_

from codegen.ir.index import Index, flatten, make
from codegen.ir.loops import Buffer, Carry, For, Let, Load, Stmt, Store, Trap
from codegen.llvm.scalars import neutral
from codegen.schedule.nests import Nest
from codegen.schedule.regroup import regroup
from symdiff.ir.dims import Size, product


def place(nest: Nest, axis: Size | None = None) -> list[Stmt]:
    """The finished statements of a nest; loops over `axis` stay apart from loops outside them."""
    return _Placing(nest, axis).statements()


class _Placing:
    """Chooses the order of the loops and puts every statement at its level."""

    def __init__(self, nest: Nest, axis: Size | None) -> None:
        self.nest, self.axis = nest, axis
        self.stmts: list[Let | Load] = nest.stmts
        self.stores = nest.stores
        self.folds = nest.folds
        self.deps = nest.deps
        self.bit = nest.bit
        names, space = nest.names, nest.space
        self.extent = dict(zip(names, space, strict=True))
        cuts = {f.kept for f in self.folds} | ({len(space) - 1} if nest.scans else set())
        blocks: list[list[str]] = [[]]
        for axis, (name, size) in enumerate(zip(names, space, strict=True)):
            if axis in cuts:
                blocks.append([])
            if size != 1:
                blocks[-1].append(name)
        self.kept_names = {f.kept: {names[a] for a in range(f.kept)} for f in self.folds}
        self.blocks = [b for b in blocks if b]
        self.serial = set(nest.serial)
        if nest.scans and names:
            self.serial.add(names[-1])

    def statements(self) -> list[Stmt]:
        self._collapse()
        vector = self._choose_vector()
        order: list[str] = []
        for block in self.blocks:
            order += [v for v in block if v != vector] + ([vector] if vector in block else [])
        level = {name: i + 1 for i, name in enumerate(order)}
        by_bits: dict[int, int] = {}

        def level_of(deps: int) -> int:
            found = by_bits.get(deps)
            if found is None:
                found = max((level[n] for n, b in self.bit.items() if deps & b and n in level), default=0)
                by_bits[deps] = found
            return found

        self._regroup(level_of)
        before: list[list[Stmt]] = [[] for _ in range(len(order) + 1)]
        after: list[list[Stmt]] = [[] for _ in range(len(order) + 1)]
        carries: list[list[Carry]] = [[] for _ in range(len(order) + 1)]
        if order:
            for stmt in self.stmts:
                before[level_of(self.deps[stmt.name])].append(stmt)
        else:
            before[0] += self.stmts
        for store in self.stores:
            deps = self.nest.index_deps(store.index) | self.deps[store.value]
            before[level_of(deps)].append(store)
        for fold in self.folds:
            kept = self.kept_names[fold.kept]
            top = max((level[n] for n in kept if n in level), default=0)
            value = fold.value
            for depth in range(len(order), top, -1):
                out = fold.out if depth == top + 1 else self.nest.memory.name()
                carries[depth].append(Carry(fold.kind, fold.dtype, value, out))
                value = out
            if top == len(order):  # nothing to fold over: one element
                after[top].append(_with_value(fold.finish, value))
            else:
                after[top].append(fold.finish)
        for scan in self.nest.scans:
            if order and self.extent[order[-1]] != 1 and order[-1] == self.nest.names[-1]:
                out = self.nest.memory.name()
                carries[-1].append(Carry("scan", scan.dtype, scan.value, out, scan.inside, scan.init))
            else:  # an axis of one element
                before[0].insert(0, Let(scan.inside, "const", (), scan.dtype, scan.init))
        body: list[Stmt] = []
        for depth in range(len(order), 0, -1):
            name = order[depth - 1]
            inner = before[depth] + body + after[depth]
            if self.extent[name] == 0:
                body = list(map(_nothing, carries[depth]))
            elif carries[depth] or not _only_scalars(inner):
                body = [For(name, self.extent[name], inner, carries[depth], name == vector)]
        body = before[0] + body + after[0]
        return body if self.nest.starts or not _only_scalars(body) else []

    def _regroup(self, level_of: Callable[[int], int]) -> None:
        """Spare operations of the scalar code."""
        deps, memory = self.deps, self.nest.memory
        read = {int(n[1:]) for s in self.stores for i in s.index for n, _ in i.terms if n[0] == "%"}
        users = (*self.stores, *self.folds, *self.nest.scans)
        read.update(user.value for user in users)
        read.update(carry.start for carry in self.nest.starts)
        made = regroup(self.stmts, read, lambda name: level_of(deps[name]), memory.names, not memory.fast)
        if made is None:
            return
        for stmt in made.stmts:
            if stmt.name not in deps:
                assert isinstance(stmt, Let)
                deps[stmt.name] = reduce(or_, [deps[a] for a in stmt.args], 0)
        for user in users:
            user.value = made.names.get(user.value, user.value)
        for carry in self.nest.starts:
            carry.start = made.names.get(carry.start, carry.start)
        self.stmts, memory.names = made.stmts, made.free

    # ---------------------------------------------------------------- choices
    def _accesses(self) -> list[tuple[Buffer, tuple[Index, ...], bool]]:
        found = [(s.buffer, s.index, False) for s in self.stmts if isinstance(s, Load)]
        found += [(s.buffer, s.index, True) for s in self.stores]
        found += [(f.finish.buffer, f.finish.index, True) for f in self.folds if isinstance(f.finish, Store)]
        return found

    def _collapse(self) -> None:
        """Join loops a (outer) and b (inner) of a block where every access steps through them densely."""
        if not any(len(b) > 1 for b in self.blocks):
            return
        apart = {n for n, s in self.extent.items() if s == self.axis}
        if apart and self.nest.space[0] != self.axis:
            named_apart = apart
        else:  # rows in front: all that follows may become one loop, a whole number of rows at a time
            named_apart = set[str]()
        named: set[str] = named_apart
        for stmt in self.stmts:
            if isinstance(stmt, Let) and isinstance(stmt.attr, Index):
                named.update(n for n, _ in stmt.attr.terms)
        flat = [flatten(index, buffer.shape) for buffer, index, _ in self._accesses()]
        joined: list[tuple[str, str]] = []
        for block in self.blocks:
            position = len(block) - 1
            while position > 0:
                outer, inner = block[position - 1], block[position]
                whole = self.extent[inner]
                dense = outer not in named and inner not in named and (outer in self.serial) == (inner in self.serial)
                if dense and all(i.coefficient(outer) == whole * i.coefficient(inner) for i in flat):
                    joined.append((outer, inner))
                    self.extent[inner] = self.extent[outer] * whole
                    del block[position - 1]
                position -= 1
        if not joined:
            return
        # The outer variable's share is already in the inner one: value = outer * extent + inner.
        gone = {outer for outer, _ in joined}
        heir = dict(joined)
        for stmt in (*self.stmts, *self.stores, *(f.finish for f in self.folds)):
            if isinstance(stmt, (Load, Store)) and any(n in gone for i in stmt.index for n, _ in i.terms):
                index = flatten(stmt.index, stmt.buffer.shape)
                stmt.index = (make({n: c for n, c in index.terms if n not in gone}, index.const),)
                stmt.buffer = self.nest.memory.reshaped(stmt.buffer, (product(stmt.buffer.shape),))
        for name, deps in self.deps.items():
            for outer in gone:
                if deps & self.bit[outer]:
                    deps |= self.bit[heir[outer]]
            self.deps[name] = deps
        self.kept_names = {k: {heir.get(n, n) for n in names} for k, names in self.kept_names.items()}

    def _choose_vector(self) -> str | None:
        candidates = [v for b in self.blocks for v in b if v not in self.serial]
        if not candidates:
            return None
        score = dict.fromkeys(candidates, 0.0)
        for buffer, index, written in self._accesses():
            offset = flatten(index, buffer.shape)
            for name in candidates:
                factor = offset.coefficient(name)
                weight = 2.0 if written else 1.0
                score[name] += weight * (2 if factor == 1 else 0.5 if factor == 0 else -3)
        for position, name in enumerate(candidates):
            extent = self.extent[name]
            if isinstance(extent, int) and extent < 8:
                score[name] -= 100 - 10 * extent
            score[name] += 0.1 * position
        return max(candidates, key=lambda name: score[name])


def _only_scalars(body: Sequence[Stmt]) -> bool:
    return all(isinstance(s, (Let, Load)) for s in body)


def _nothing(carry: Carry) -> Let:
    """What a loop without iterations carries out."""
    start = carry.init if carry.inside >= 0 else neutral(carry.kind, carry.dtype)
    return Let(carry.out, "const", (), carry.dtype, start)


def _with_value(stmt: Stmt, value: int) -> Stmt:
    if isinstance(stmt, Store):
        return Store(stmt.buffer, stmt.index, value, stmt.fold)
    assert isinstance(stmt, Trap)
    return Trap(value, stmt.status)
