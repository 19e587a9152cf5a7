"""Loop nests under construction: the scalar expressions of array nodes at any index, collected flat.

A `Nest` has a space (extents of its loops) and jobs that store or fold expressions over it. `Nest.value(node, index)`
writes the scalar expression of any array node at any index. `codegen.schedule.placing` then makes loops of it.

Promises: expressions are built without recursion; equal parts are written once; an expensive value that an earlier nest
computed over its whole space is stored there and loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.arrays import cores
from codegen.arrays.nodes import CHEAP, Node, again
from codegen.ir.index import ZERO, Index, combine, var
from codegen.ir.loops import Buffer, Carry, Let, Load, Stmt, Store
from symdiff.ir.dims import Shape, Size


@dataclass(eq=False)
class Memory:
    """Where stored nodes lie, and in which nest expensive inline values were computed first."""

    buffers: dict[Node, Buffer] = field(default_factory=dict[Node, Buffer])
    aliases: dict[tuple[Buffer, Shape], Buffer] = field(default_factory=dict[tuple[Buffer, Shape], Buffer])
    homes: dict[Node, tuple[Nest, int]] = field(default_factory=dict[Node, "tuple[Nest, int]"])
    temps: list[Buffer] = field(default_factory=list[Buffer])
    names: int = 0
    depth: int = 0
    """Loops of scans around what is written."""
    fast: bool = False
    """Whether products may be multiplied in any order."""
    keeping: bool = True
    """Whether expensive inline values are stored for later nests; not while nests are written that may not run."""

    def name(self) -> int:
        """A fresh scalar name."""
        self.names += 1
        return self.names - 1

    def temp(self, shape: Shape, dtype: str, private: bool = False) -> Buffer:
        """A new buffer in the arena; a private one has no contents before or after an iteration."""
        buffer = Buffer(f"t{len(self.temps)}", dtype, shape, "temp", len(self.temps), private=private)
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


@dataclass(eq=False, slots=True)
class Fold:
    """A reduction over the axes behind the first `kept`."""

    kind: str
    dtype: str
    value: int
    out: int
    kept: int
    finish: Stmt


@dataclass(eq=False, slots=True)
class Scan:
    """A running value along the last axis: `inside` before, `value` after each step."""

    dtype: str
    inside: int
    value: int
    init: Any


class Nest:
    """Expressions and jobs over one iteration space."""

    def __init__(
        self, memory: Memory, space: Sequence[Size], prefix: str = "i", serial: Iterable[int] = ()
    ) -> None:
        self.memory = memory
        self.space = tuple(space)
        self.index: tuple[Index, ...] = tuple(
            ZERO if size == 1 else var(f"{prefix}{axis}") for axis, size in enumerate(space)
        )
        self.names = [f"{prefix}{axis}" for axis in range(len(self.space))]
        self.bit = {name: 1 << axis for axis, name in enumerate(self.names)}
        # Axes along which iterations must not run side by side.
        self.serial = {self.names[axis] for axis in serial}
        self.stmts: list[Let | Load] = []
        self.deps: dict[int, int] = {}
        self._memo: dict[tuple[int, int], int] = {}
        self._index_ids: dict[tuple[Index, ...], int] = {}
        self._indices: list[tuple[Index, ...]] = []
        self._wrapped: dict[tuple[int, Size], Index] = {}
        self._cores: dict[Node, list[int]] = {}
        self.stores: list[Store] = []
        self.folds: list[Fold] = []
        self.scans: list[Scan] = []
        self.starts: list[Carry] = []
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
            deps |= self.deps[arg]
        if isinstance(attr, Index):
            deps |= self.index_deps((attr,))
        self.deps[name] = deps
        self.stmts.append(Let(name, op, tuple(args), dtype, attr))
        return name

    def at(self, index: Index) -> int:
        """An index as an integer scalar."""
        return self.let("index", (), "i64", index)

    def const(self, number: Any, dtype: str) -> int:
        """A constant scalar."""
        return self.let("const", (), dtype, number)

    def load(self, buffer: Buffer, index: tuple[Index, ...], written: bool = False) -> int:
        """Read a scalar from a buffer; anew in every iteration where the nest has written it itself."""
        name = self.memory.name()
        self.deps[name] = self.index_deps(index) | (sum(self.bit.values()) if written else 0)
        self.stmts.append(Load(name, buffer, index))
        return name

    def index_deps(self, index: Iterable[Index]) -> int:
        deps = 0
        for one in index:
            for name, _ in one.terms:
                deps |= self.deps[int(name[1:])] if name[0] == "%" else self.bit[name]
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
        if buffer is None and node.cost > CHEAP and kind != "view":
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
        if not self.memory.keeping or again(node, self.memory.buffers):
            return None
        home = self.memory.homes.get(node)
        if home is None or home[0] is self:
            self.memory.homes[node] = (self, at)
            return None
        nest, first = home
        if not nest.covers(node, first):
            self.memory.homes[node] = (self, at)
            return None
        buffer = self.memory.temp(node.shape, node.dtype)
        nest.store(buffer, *nest.computed(node, first))
        self.memory.buffers[node] = buffer
        return buffer

    def computed(self, node: Node, at: int) -> tuple[tuple[Index, ...], int]:
        """The index and the scalar of a value that was written here."""
        return self._indices[at], self._memo[node.number, at]

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

    def outputs(self, core: Node) -> list[int]:
        """The scalars that are the outputs of a core, in a nest without loops."""
        names = self._cores.get(core)
        if names is None:
            inputs = [self.value(x, ()) for x in core.args]
            lets, names, self.memory.names = cores.write(core.data, inputs, self.memory.names)
            self.stmts += lets
            self.deps.update(dict.fromkeys([let.name for let in lets], 0))
            self._cores[core] = names
        return names

    # ---------------------------------------------------------------- jobs
    def store(self, buffer: Buffer, index: tuple[Index, ...], value: int, fold: str = "") -> None:
        """Store a scalar in every iteration, or fold it into what is there."""
        self.stores.append(Store(buffer, index, value, fold))

    def fold(self, kind: str, dtype: str, value: int, kept: int, finish: Callable[[int], Stmt]) -> None:
        """Fold a scalar over the axes behind the first `kept`; `finish(total)` makes the statement that uses it."""
        out = self.memory.name()
        self.folds.append(Fold(kind, dtype, value, out, kept, finish(out)))

    def scan(self, dtype: str, init: Any) -> int:
        """Begin a running value along the last axis; returns its name before each step."""
        name = self.memory.name()
        self.deps[name] = 1 << (len(self.space) - 1)
        self.scans.append(Scan(dtype, name, -1, init))
        return name

    def begin(self, carry: Carry, value: int) -> None:
        """A later loop carries a value round that begins as a scalar of this nest, which has no loops."""
        carry.start = value
        self.starts.append(carry)

    def step(self, inside: int, value: int) -> None:
        """What a running value is after each step."""
        next(s for s in self.scans if s.inside == inside).value = value

    def reads(self) -> set[Buffer]:
        """The buffers (owners of memory) that this nest loads from."""
        return {s.buffer.root for s in self.stmts if isinstance(s, Load)}
