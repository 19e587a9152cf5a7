"""Array nodes: the few kinds of array computation that every op is lowered to, hash-consed.

A node's elements are either computed where they are needed (*inline* kinds) or by a job of their own (*stored* kinds).

inline kinds, and what `data` holds:
    param    number of the parameter
    array    an `ArrayConstant`
    const    the exact number that fills it
    iota     nothing: element i is i
    size     a size, as a number
    scalar   (name, attribute) of a scalar operation on operands of the node's shape
    view     for every axis of the operand: an affine function of the node's axes, as (((axis, factor), ...), const)
    delta    for every axis of the node: the operand's axis on whose diagonal it lies; elsewhere zero
    triangle (lower, k): zero outside the triangle of the last two axes
    gather   (axis, count): operands are the array, a check node, and `count` index arrays
    alias    the operand's elements in row-major order under another shape
    core     a `Core` of scalar instructions, which reads the operands; it is no array

stored kinds:
    reduce   (kind, count): fold the operand's last `count` axes
    gemm     (batch, rows, columns, sums, symmetric): numbers of axes, and whether rows and columns may change places;
             operands [batch, rows, sums] and [batch, sums, columns], and perhaps factors [batch, sums]
    output   number: one of the outputs of the operand, a core
    place    (fill, maps, adds): zeros (if fill), then each operand written, or added, at the affine places of its map
    loop    `Steps`: runs a scan, which makes the arrays that the nodes `picked` of it stand for; it is no array
    picked  number: one of the arrays that the operand, a loop, makes
    others are library kinds, see `codegen.schedule.jobs`

Promises: views of views are one view; equal nodes are one node; `cost` estimates the work of one element where it is
computed inline (a transcendental function counts 20), saturating.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, TypeAlias

from codegen.ir.costs import scalar_cost
from symdiff.ir.dims import Shape, Size, product

AxisMap: TypeAlias = "tuple[tuple[tuple[int, Size], ...], Size]"
ViewMap: TypeAlias = "tuple[AxisMap, ...]"

INLINE = frozenset(
    {"param", "array", "const", "iota", "size", "scalar", "view", "delta", "triangle", "gather", "alias", "core"}
)
MEMORY = frozenset({"param", "array"})
"""Kinds whose elements lie in memory without any job."""

_COST_LIMIT = 10_000
CHEAP = 4
"""An inline value of at most this cost is computed again rather than stored,"""
_AGAIN = 16
"""and one of at most this cost, about what writing and reading it costs,"""
_SOURCES = 2
"""if it is made of at most so many arrays and as many elements are computed again,"""
_READS = 4
"""and reads them at no more places."""


class Node:
    """One array computation; compared by identity."""

    __slots__ = ("args", "cost", "data", "dtype", "fixed", "kind", "number", "own_cost", "shape")

    def __init__(self, kind: str, shape: Shape, dtype: str, args: tuple[Node, ...], data: Any, number: int) -> None:
        self.kind = kind
        self.shape = shape
        self.dtype = dtype
        self.args = args
        self.data = data
        self.number = number
        self.fixed = kind == "const" or (kind in ("scalar", "view") and all(a.fixed for a in args))
        """Made of constants alone: computed once wherever it is needed."""
        if kind == "scalar":
            self.own_cost = 0 if self.fixed else scalar_cost(data[0])
        else:
            self.own_cost = 1 if kind in ("triangle", "delta", "gather") else 0
        self.cost = self.own_cost
        if kind in INLINE:
            self.cost = min(_COST_LIMIT, self.own_cost + sum([a.cost for a in args if a.kind in INLINE]))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def inline(self) -> bool:
        return self.kind in INLINE

    def __repr__(self) -> str:
        return f"<{self.kind} {self.number} {self.dtype}{list(map(str, self.shape))} {self.data}>"


def again(node: Node, stored: Container[Node]) -> bool:
    """Whether an inline value is rather computed again, element by element, than stored."""
    if node.cost > _AGAIN:
        return False
    sources: set[Node] = set()
    reads: set[Node] = set()
    stack = [node]
    seen = {node}
    while stack:
        own = stack.pop()
        for arg in own.args:
            if arg.kind not in INLINE or arg.kind in MEMORY or arg in stored:
                sources.add(arg)
                reads.add(own if own.kind == "view" else arg)
            elif arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return len(sources) <= _SOURCES and len(reads) <= _READS


class Graph:
    """Makes nodes; keeps them in the order of creation, which is operands first. repeated: the body of a loop."""

    def __init__(self, repeated: bool = False) -> None:
        self.repeated = repeated
        self.nodes: list[Node] = []
        self._table: dict[tuple[Any, ...], Node] = {}

    def make(self, kind: str, shape: Shape, dtype: str, args: Sequence[Node] = (), data: Any = None) -> Node:
        """The node of this description."""
        key = (kind, shape, dtype, tuple([a.number for a in args]), data, type(data))
        node = self._table.get(key)
        if node is None:
            node = Node(kind, shape, dtype, tuple(args), data, len(self.nodes))
            self._table[key] = node
            self.nodes.append(node)
        return node

    # ---------------------------------------------------------------- shorthands
    def const(self, number: Any, shape: Shape, dtype: str) -> Node:
        """An array filled with one exact number. True and 1 are equal keys, the dtype tells them apart."""
        return self.make("const", shape, dtype, (), number)

    def scalar(self, name: str, *args: Node, dtype: str = "", attribute: Any = None) -> Node:
        """A scalar operation on operands of one shape."""
        return self.make("scalar", args[0].shape, dtype or args[0].dtype, args, (name, attribute))

    def view(self, x: Node, shape: Shape, maps: ViewMap) -> Node:
        """Elements of `x` at affine functions of the result's axes."""
        if shape == x.shape and maps == identity(x.rank):
            return x
        if x.kind == "const":
            return self.const(x.data, shape, x.dtype)
        if x.kind == "view":
            return self.view(x.args[0], shape, tuple([compose_map(m, maps) for m in x.data]))
        order = permutation(maps, x.shape, shape) if x.kind == "place" else None
        if order is not None:  # elements are placed where they are wanted
            fill, places, adds = x.data
            moved = tuple([tuple([place[a] for a in order]) for place in places])
            return self.make("place", shape, x.dtype, x.args, (fill, moved, adds))
        return self.make("view", shape, x.dtype, (x,), maps)

    def with_operands(self, node: Node, args: Sequence[Node]) -> Node:
        """A node, of this graph or another, with operands of the same shapes here."""
        if node.kind == "view":
            return self.view(args[0], node.shape, node.data)
        return self.make(node.kind, node.shape, node.dtype, args, node.data)

    def rearrange(self, x: Node, labels: Sequence[int], out: Sequence[int], sizes: dict[int, Size]) -> Node:
        """`x` with axes `labels` as an array with axes `out`, which holds every label of x and no label twice."""
        position = {label: i for i, label in enumerate(out)}
        return self.view(x, tuple([sizes[x] for x in out]), tuple([(((position[a], 1),), 0) for a in labels]))

    def spread(self, x: Node, axes: Sequence[int], shape: Shape) -> Node:
        """Broadcast `x` over the axes of `shape` (counted from the front) that it lacks."""
        own = [i for i in range(len(shape)) if i not in set(axes)]
        return self.rearrange(x, own, range(len(shape)), dict(enumerate(shape)))

    def reduce(self, kind: str, x: Node, axes: Sequence[int], dtype: str = "") -> Node:
        """Fold axes (counted from the front) of x."""
        gone = set(axes)
        kept = [i for i in range(x.rank) if i not in gone]
        order = kept + sorted(gone)
        moved = self.rearrange(x, range(x.rank), order, dict(enumerate(x.shape)))
        return self.make("reduce", tuple([x.shape[i] for i in kept]), dtype or x.dtype, (moved,), (kind, len(gone)))

    def reshape(self, x: Node, shape: Shape) -> Node:
        """Row-major reshape, pushed through scalar operations to what lies in memory anyway."""
        if shape == x.shape:
            return x
        made: dict[Node, Node] = {}
        stack = [x]
        while stack:
            node = stack[-1]
            if node in made:
                stack.pop()
            elif node.kind == "scalar" and len(made) + len(stack) < 64:
                waiting = [a for a in node.args if a not in made]
                if waiting:
                    stack.extend(waiting)
                    continue
                made[node] = self.make("scalar", shape, node.dtype, [made[a] for a in node.args], node.data)
                stack.pop()
            else:
                made[node] = self._reshape_leaf(node, shape)
                stack.pop()
        return made[x]

    def _reshape_leaf(self, x: Node, shape: Shape) -> Node:
        if x.kind == "const":
            return self.const(x.data, shape, x.dtype)
        maps = _split_maps(x.shape, shape)
        if maps is not None:
            return self.view(x, shape, maps)
        if x.kind == "alias":
            return self.reshape(x.args[0], shape)
        return self.make("alias", shape, x.dtype, (x,))


def identity(rank: int) -> ViewMap:
    """The maps of an array at its own places."""
    return tuple([(((axis, 1),), 0) for axis in range(rank)])


def repeats(view: Node) -> bool:
    """Whether a view has elements of its operand more than once along an axis."""
    used = {axis for terms, _ in view.data for axis, _ in terms}
    return any(axis not in used and size != 1 for axis, size in enumerate(view.shape))


def permutation(maps: ViewMap, old: Shape, new: Shape) -> list[int] | None:
    """For every axis of the view the operand's axis it is, if the view only permutes axes."""
    order = [-1] * len(new)
    for axis, (terms, const) in enumerate(maps):
        if len(terms) != 1 or terms[0][1] != 1 or const != 0 or new[terms[0][0]] != old[axis]:
            return None
        order[terms[0][0]] = axis
    return order if len(old) == len(new) and -1 not in order else None


def compose_map(inner: AxisMap, outer: ViewMap) -> AxisMap:
    terms: dict[int, Size] = {}
    const = inner[1]
    for axis, factor in inner[0]:
        own, offset = outer[axis]
        const = const + factor * offset
        for a, f in own:
            terms[a] = terms.get(a, 0) + factor * f
    return tuple(sorted((a, f) for a, f in terms.items() if f != 0)), const


def _split_maps(old: Shape, new: Shape) -> ViewMap | None:
    """The view that a reshape is when every new axis lies within one old axis; None when axes are merged."""
    maps: list[AxisMap] = []
    j = 0
    for size in old:
        if size == 1:
            maps.append(((), 0))
            continue
        while j < len(new) and new[j] == 1:
            j += 1
        taken: list[int] = []
        total: Size = 1
        while j < len(new) and total != size:
            taken.append(j)
            total = total * new[j]
            j += 1
        if total != size:
            return None
        strides = [product([new[b] for b in taken if b > a]) for a in taken]
        maps.append((tuple(zip(taken, strides, strict=True)), 0))
    if any(size != 1 for size in new[j:]):
        return None
    return tuple(maps)
