"""Loop nests under construction: scalar expressions collected flat, then placed at the outermost level that fits.

A `Nest` has a space (extents of its loops), jobs that store or fold expressions over it, and makes statements of the
loop IR. `Nest.value(node, index)` writes the scalar expression of any array node at any index, sharing equal parts.

Promises: expressions are built without recursion; what does not depend on a loop stands outside it; adjacent loops
that every access runs through densely become one; the loop with the most unit strides becomes the vector loop, as far
as the jobs allow (the folded axes of a job stay inside its kept ones).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.index import ZERO, Index, combine, flatten, make, var
from codegen.loops import Buffer, Carry, For, Let, Load, Stmt, Store, Trap
from codegen.nodes import CHEAP, Node
from symdiff.ir.dims import Shape, Size, product


@dataclass(eq=False)
class Memory:
    """Where stored nodes lie, and in which nest expensive inline values were computed first."""

    buffers: dict[Node, Buffer] = field(default_factory=dict[Node, Buffer])
    aliases: dict[tuple[Buffer, Shape], Buffer] = field(default_factory=dict[tuple[Buffer, Shape], Buffer])
    homes: dict[Node, tuple[Nest, int]] = field(default_factory=dict[Node, "tuple[Nest, int]"])
    temps: list[Buffer] = field(default_factory=list[Buffer])
    names: int = 0

    def name(self) -> int:
        """A fresh scalar name."""
        self.names += 1
        return self.names - 1

    def temp(self, shape: Shape, dtype: str) -> Buffer:
        """A new buffer in the arena."""
        buffer = Buffer(f"t{len(self.temps)}", dtype, shape, "temp", len(self.temps))
        self.temps.append(buffer)
        return buffer

    def reshaped(self, buffer: Buffer, shape: Shape) -> Buffer:
        """The buffer under another shape."""
        if shape == buffer.shape:
            return buffer
        made = self.aliases.get((buffer.root, shape))
        if made is None:
            root = buffer.root
            made = Buffer(f"{root.name}'", root.dtype, shape, root.kind, root.number, root)
            self.aliases[root, shape] = made
        return made


@dataclass(slots=True)
class _Fold:
    """A reduction over the axes behind the first `kept`."""

    kind: str
    dtype: str
    value: int
    out: int
    kept: int
    finish: Stmt


@dataclass(slots=True)
class _Scan:
    """A running value along the last axis: `inside` before, `value` after each step."""

    dtype: str
    inside: int
    value: int
    init: Any


class Nest:
    """Expressions and jobs over one iteration space."""

    def __init__(self, memory: Memory, space: Sequence[Size], prefix: str = "i", serial: Iterable[int] = ()) -> None:
        self.memory = memory
        self.space = tuple(space)
        self.index: tuple[Index, ...] = tuple(
            ZERO if size == 1 else var(f"{prefix}{axis}") for axis, size in enumerate(space)
        )
        self._names = [f"{prefix}{axis}" for axis in range(len(self.space))]
        self._bit = {name: 1 << axis for axis, name in enumerate(self._names)}
        # Axes along which iterations must not run side by side.
        self._serial = {self._names[axis] for axis in serial}
        self._stmts: list[Let | Load] = []
        self._deps: dict[int, int] = {}
        self._memo: dict[tuple[int, int], int] = {}
        self._index_ids: dict[tuple[Index, ...], int] = {}
        self._indices: list[tuple[Index, ...]] = []
        self._wrapped: dict[tuple[int, Size], Index] = {}
        self._stores: list[Store] = []
        self._folds: list[_Fold] = []
        self._scans: list[_Scan] = []
        self.cost = 0

    # ---------------------------------------------------------------- scalar instructions
    def _intern(self, index: tuple[Index, ...]) -> int:
        number = self._index_ids.get(index)
        if number is None:
            number = len(self._indices)
            self._index_ids[index] = number
            self._indices.append(index)
        return number

    def let(self, op: str, args: Sequence[int], dtype: str, attr: Any = None) -> int:
        """Write a scalar instruction; returns its name."""
        name = self.memory.name()
        deps = 0
        for arg in args:
            deps |= self._deps[arg]
        if isinstance(attr, Index):
            deps |= self._index_deps((attr,))
        self._deps[name] = deps
        self._stmts.append(Let(name, op, tuple(args), dtype, attr))
        return name

    def at(self, index: Index) -> int:
        """An index as an integer scalar."""
        return self.let("index", (), "i64", index)

    def const(self, number: Any, dtype: str) -> int:
        """A constant scalar."""
        return self.let("const", (), dtype, number)

    def load(self, buffer: Buffer, index: tuple[Index, ...]) -> int:
        """Read a scalar from a buffer."""
        name = self.memory.name()
        self._deps[name] = self._index_deps(index)
        self._stmts.append(Load(name, buffer, index))
        return name

    def _index_deps(self, index: Iterable[Index]) -> int:
        deps = 0
        for one in index:
            for name, _ in one.terms:
                deps |= self._deps[int(name[1:])] if name[0] == "%" else self._bit[name]
        return deps

    # ---------------------------------------------------------------- expressions
    def value(self, node: Node, index: tuple[Index, ...]) -> int:
        """The scalar that `node` has at `index`."""
        memo = self._memo
        start = (node.number, self._intern(index))
        stack = [(node, start[1])]
        while stack:
            current, at = stack[-1]
            if (current.number, at) in memo:
                stack.pop()
                continue
            needs = self._needs(current, at)
            if needs is None:
                stack.pop()
                continue
            missing = [n for n in needs if (n[0].number, n[1]) not in memo]
            if missing:
                stack.extend(missing)
            else:
                stack.pop()
                memo[current.number, at] = self._compute(current, at, [memo[n.number, i] for n, i in needs])
        return memo[start]

    def _needs(self, node: Node, at: int) -> list[tuple[Node, int]] | None:
        """The operands an inline value is computed from; None when it was loaded, or is a constant, and is done."""
        kind = node.kind
        index = self._indices[at]
        buffer = self.memory.buffers.get(node)
        if kind == "alias":
            buffer = self.memory.reshaped(self.memory.buffers[node.args[0]], node.shape)
        if buffer is None and node.cost > CHEAP:
            buffer = self._keep(node, at)
        if buffer is not None:
            self._memo[node.number, at] = self.load(buffer, index)
            return None
        if kind == "scalar":
            return [(a, at) for a in node.args]
        if kind == "view":
            target = tuple([combine([(f, index[a]) for a, f in terms], c) for terms, c in node.data])
            return [(node.args[0], self._intern(target))]
        if kind == "delta":
            inner: dict[int, Index] = {}
            for axis, own in enumerate(node.data):
                inner.setdefault(own, index[axis])
            return [(node.args[0], self._intern(tuple([inner[a] for a in range(node.args[0].rank)])))]
        if kind == "triangle":
            return [(node.args[0], at)]
        if kind == "gather":
            return self._gather_needs(node, index)
        self._memo[node.number, at] = self._leaf(node, index)
        return None

    def _keep(self, node: Node, at: int) -> Buffer | None:
        """An expensive value that an earlier nest computed over its whole space is stored there and loaded here."""
        home = self.memory.homes.get(node)
        if home is None or home[0] is self:
            self.memory.homes[node] = (self, at)
            return None
        nest, first = home
        if not nest.covers(node, first):
            self.memory.homes[node] = (self, at)
            return None
        buffer = self.memory.temp(node.shape, node.dtype)
        nest.store(buffer, nest._indices[first], nest._memo[node.number, first])
        self.memory.buffers[node] = buffer
        return buffer

    def covers(self, node: Node, at: int) -> bool:
        """Whether this nest runs over every element of `node` once with that index."""
        index = self._indices[at]
        return not node.shape or (node.shape == self.space and index == self.index)

    def _leaf(self, node: Node, index: tuple[Index, ...]) -> int:
        if node.kind == "const":
            return self.const(node.data, node.dtype)
        if node.kind == "iota":
            return self.at(index[0])
        if node.kind == "size":
            return self.let("size", (), node.dtype, node.data)
        raise AssertionError(f"{node!r} is used before it is stored")

    def _gather_needs(self, node: Node, index: tuple[Index, ...]) -> list[tuple[Node, int]]:
        """The index scalars of a gather; once they are there, also the element."""
        first, count = node.data
        x, indices = node.args[0], node.args[2 : 2 + count]
        rank = indices[0].rank
        own = self._intern(index[first : first + rank])
        names = [self._memo.get((a.number, own), -1) for a in indices]
        if min(names) < 0:
            return [(a, own) for a in indices]
        places = [self.wrapped(n, x.shape[first + j]) for j, n in enumerate(names)]
        return [(x, self._intern((*index[:first], *places, *index[first + rank :])))]

    def wrapped(self, name: int, size: Size) -> Index:
        """An index scalar as an index, negative ones counted from the end of an axis."""
        known = self._wrapped.get((name, size))
        if known is not None:
            return known
        zero, whole = self.const(0, "i64"), self.let("size", (), "i64", size)
        negative = self.let("lt", (name, zero), "bool")
        fixed = self.let("select", (negative, self.let("add", (name, whole), "i64"), name), "i64")
        self._wrapped[name, size] = Index(((f"%{fixed}", 1),))
        return self._wrapped[name, size]

    def _compute(self, node: Node, at: int, args: list[int]) -> int:
        kind = node.kind
        self.cost += 1
        if kind == "scalar":
            return self.let(node.data[0], args, node.dtype, node.data[1])
        if kind in ("view", "gather"):
            return args[0]
        index = self._indices[at]
        if kind == "delta":
            first: dict[int, int] = {}
            conditions: list[int] = []
            for axis, own in enumerate(node.data):
                other = first.setdefault(own, axis)
                difference = combine([(1, index[axis]), (-1, index[other])])
                if difference != ZERO:
                    conditions.append(self.let("eq", (self.at(difference), self.const(0, "i64")), "bool"))
        else:
            lower, k = node.data
            beyond = self.at(combine([(1, index[-1]), (-1, index[-2]), (-1, Index((), k))]))
            conditions = [self.let("le" if lower else "ge", (beyond, self.const(0, "i64")), "bool")]
        value = args[0]
        zero = self.const(False if node.dtype == "bool" else 0, node.dtype)
        for condition in conditions:
            value = self.let("select", (condition, value, zero), node.dtype)
        return value

    # ---------------------------------------------------------------- jobs
    def store(self, buffer: Buffer, index: tuple[Index, ...], value: int, add: bool = False) -> None:
        """Store a scalar in every iteration."""
        self._stores.append(Store(buffer, index, value, add))

    def fold(self, kind: str, dtype: str, value: int, kept: int, finish: Callable[[int], Stmt]) -> None:
        """Fold a scalar over the axes behind the first `kept`; `finish(total)` makes the statement that uses it."""
        out = self.memory.name()
        self._folds.append(_Fold(kind, dtype, value, out, kept, finish(out)))

    def scan(self, dtype: str, init: Any) -> int:
        """Begin a running value along the last axis; returns its name before each step."""
        name = self.memory.name()
        self._deps[name] = 1 << (len(self.space) - 1)
        self._scans.append(_Scan(dtype, name, -1, init))
        return name

    def step(self, inside: int, value: int) -> None:
        """What a running value is after each step."""
        next(s for s in self._scans if s.inside == inside).value = value

    def reads(self) -> set[Buffer]:
        """The buffers (owners of memory) that this nest loads from."""
        return {s.buffer.root for s in self._stmts if isinstance(s, Load)}

    # ---------------------------------------------------------------- placing
    def statements(self) -> list[Stmt]:
        """The finished statements."""
        return _Placing(self).statements()


class _Placing:
    """Chooses the order of the loops and puts every statement at its level."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.stmts: list[Let | Load] = nest._stmts
        self.stores = nest._stores
        self.folds = nest._folds
        self.deps = nest._deps
        self.bit = nest._bit
        names, space = nest._names, nest.space
        self.extent = dict(zip(names, space, strict=True))
        cuts = {f.kept for f in self.folds} | ({len(space) - 1} if nest._scans else set())
        blocks: list[list[str]] = [[]]
        for axis, (name, size) in enumerate(zip(names, space, strict=True)):
            if axis in cuts:
                blocks.append([])
            if size != 1:
                blocks[-1].append(name)
        self.kept_names = {f.kept: {names[a] for a in range(f.kept)} for f in self.folds}
        self.blocks = [b for b in blocks if b]
        self.serial = set(nest._serial)
        if nest._scans and names:
            self.serial.add(names[-1])
        for fold in self.folds:
            if fold.kind in ("argmax", "argmin"):
                self.serial |= set(names[fold.kept :])

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

        before: list[list[Stmt]] = [[] for _ in range(len(order) + 1)]
        after: list[list[Stmt]] = [[] for _ in range(len(order) + 1)]
        carries: list[list[Carry]] = [[] for _ in range(len(order) + 1)]
        for stmt in self.stmts:
            before[level_of(self.deps[stmt.name])].append(stmt)
        for store in self.stores:
            deps = self.nest._index_deps(store.index) | self.deps[store.value]
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
                if fold.kind in ("argmax", "argmin"):
                    value = self.nest.memory.name()
                    after[top].append(Let(value, "const", (), "i64", 0))
                after[top].append(_with_value(fold.finish, value))
            else:
                after[top].append(fold.finish)
        for scan in self.nest._scans:
            if order and self.extent[order[-1]] != 1 and order[-1] == self.nest._names[-1]:
                carries[-1].append(Carry("scan", scan.dtype, scan.value, self.nest.memory.name(), scan.inside, scan.init))
            else:  # an axis of one element
                before[0].insert(0, Let(scan.inside, "const", (), scan.dtype, scan.init))
        body: list[Stmt] = []
        for depth in range(len(order), 0, -1):
            name = order[depth - 1]
            inner = before[depth] + body + after[depth]
            body = [For(name, self.extent[name], inner, carries[depth], name == vector)]
        return before[0] + body + after[0]

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
        named: set[str] = set()
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


def _with_value(stmt: Stmt, value: int) -> Stmt:
    if isinstance(stmt, Store):
        return Store(stmt.buffer, stmt.index, value, stmt.add)
    assert isinstance(stmt, Trap)
    return Trap(value, stmt.status)
