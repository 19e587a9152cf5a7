"""Small axes dissolved: a tensor program over records becomes a straight-line scalar program over the stack of them.

Takes a `Lowered` program; gives one of the same meaning whose arrays of shape [n, 3, 4] are twelve arrays of shape [n]
wherever elements are taken apart and put together. Slices, stacks, contractions over small axes, identities and
embedded windows vanish; what is left is arithmetic over the large axes, folded by `codegen.arrays.folding` and
hash-consed, which one vector loop computes.

Whether a value is taken apart is decided for whole connected regions of elementwise work: a region with nothing but
elementwise work runs faster over dense rows and stays as it is, and so does a program that would become too long. One
that is long as it stands, of many operations on small arrays, may become longer than one of a few: what is not taken
apart goes through memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from codegen.arrays import folding
from codegen.arrays.lowered import Lowered
from codegen.arrays.mirror import mirrored, needed
from codegen.arrays.nodes import Graph, Node, ViewMap, identity
from codegen.arrays.small_axes import SMALL, Place, Split, axes, elements, is_small, large, part, places
from codegen.ir.costs import scalar_cost
from symdiff.ir.builder import exact
from symdiff.ir.dims import Shape

SHORT = 3000
"""Scalar operations (for each place of the large axes) up to which a program is taken apart,"""
LONGEST = 60_000
"""and up to which one is that becomes no longer than `GROWTH` times as long as it stands;"""
ALONE = 30_000
"""such a one without large axes, whose code serves one place."""
GROWTH = 8
_TRIED = 200_000
"""Elements of all values of one region up to which it is tried: most may fold away."""
_MARGIN = 3
"""Nodes for each scalar operation allowed, at which trying ends."""
_LARGEST = 1024
_DEAR = 20
_NARROW = 4
"""So many elements of a dear function without any large axis are better computed side by side."""


def unroll(lowered: Lowered, longest_axis: int = SMALL) -> Lowered:
    """The program with records taken apart, if none of their axes is longer than `longest_axis`."""
    order = lowered.needed()
    apart = _regions(order, longest_axis)
    if not apart:
        return _without_marks(lowered, order)
    many = any(not is_small(s) for n in apart for s in n.shape)
    length = sum(n.kind == "scalar" for n in order)
    most = max(SHORT, length, min(GROWTH * length, LONGEST if many else ALONE))
    work = _Unrolling(Graph(), apart, lowered.results)
    for node in order:
        work.rewrite(node)
        if len(work.graph.nodes) > _MARGIN * most:
            return _without_marks(lowered, order)
    made = replace(lowered, graph=work.graph, results=[work.whole(node) for node in lowered.results])
    if sum(n.kind == "scalar" for n in made.needed()) <= most:
        return made
    return _without_marks(lowered, order)


def _without_marks(lowered: Lowered, order: Sequence[Node]) -> Lowered:
    """The program without what says that matrices are symmetric."""
    if not any(n.kind == "symmetric" for n in order):
        return lowered
    work = _Unrolling(Graph(), set(), lowered.results)
    for node in order:
        work.rewrite(node)
    return replace(lowered, graph=work.graph, results=[work.whole(node) for node in lowered.results])


# -------------------------------------------------------------------- which values
def _count(node: Node) -> int:
    """How many elements a value has for each place of its large axes."""
    return elements(node.shape)


def _has_small(node: Node) -> bool:
    return bool(axes(node.shape)[0])


_APART = frozenset({
    "scalar", "const", "view", "delta", "triangle", "symmetric", "gather", "reduce", "place", "alias",
})  # fmt: skip


def _regions(order: Sequence[Node], longest_axis: int) -> set[Node]:
    """The values to take apart."""
    leader: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while leader[node] is not node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    inside = [n for n in order if n.kind in _APART and _count(n) <= _LARGEST]
    small = {n for n in inside if _has_small(n)}
    members = [n for n in inside if n in small or any(map(_has_small, n.args))]
    for node in members:
        leader[node] = node
    for node in members:
        for arg in node.args:
            if arg in leader and arg in small:
                leader[find(arg)] = find(node)
    mixed: set[Node] = set()
    bad: set[Node] = set()
    wide: set[Node] = set()
    length: dict[Node, int] = {}
    for node in members:
        top = find(node)
        if _mixes(node):
            mixed.add(top)
        if any(is_small(s) and s != 1 for n in (node, *node.args) for s in n.shape):
            wide.add(top)
        work = max([_count(node), *[_count(a) for a in node.args]])
        length[top] = length.get(top, 0) + work
        dear = node.kind == "scalar" and scalar_cost(node.data[0]) >= _DEAR
        long = any(isinstance(s, int) and longest_axis < s <= SMALL for n in (node, *node.args) for s in n.shape)
        if work > _LARGEST or long or (dear and work >= _NARROW and all(is_small(s) for s in node.shape)):
            bad.add(top)
    apart = mixed | (length.keys() - wide)  # axes of one element only tell apart what is the same
    good = {top for top in apart - bad if length[top] <= _TRIED}
    return {n for n in members if find(n) in good}


def _mixes(node: Node) -> bool:
    """Whether elements along small axes meet."""
    if node.kind == "view":
        return any(is_small(size) and (c != 0 or len(t) != 1 or t[0][1] != 1)
                   for size, (t, c) in zip(node.args[0].shape, node.data, strict=True) if size != 1)  # fmt: skip
    if node.kind == "reduce":
        return any(is_small(s) for s in node.args[0].shape[node.rank :])
    return node.kind in ("place", "delta", "triangle", "alias")


# -------------------------------------------------------------------- taking apart
class _Unrolling:
    """The new graph, with each old value as a whole, in parts, or both."""

    def __init__(self, graph: Graph, apart: set[Node], results: Sequence[Node]) -> None:
        self.graph = graph
        self.apart = apart
        self._results = dict.fromkeys(results)
        self._there: set[Node] = set()
        self._whole: dict[Node, Node] = {}
        self._parts: dict[Node, dict[Place, Node]] = {}

    def rewrite(self, node: Node) -> None:
        """Make the new form of a value whose operands have theirs."""
        if node in self.apart:
            parts = RULES[node.kind](self, node)
            if parts is not None:
                self._parts[node] = parts
                return
        args = [self.whole(a) for a in node.args]
        if node.kind == "symmetric":
            self._whole[node] = args[0]
        elif node.kind == "scalar":
            self._whole[node] = folding.scalar(self.graph, node.data[0], args, node.dtype, node.data[1])
        else:
            self._whole[node] = self.graph.with_operands(node, args)

    def mirrored(self, parts: dict[Place, Node]) -> dict[Place, Node]:
        """The entries of a symmetric matrix: of two that are equal the one that takes less besides what the results
        made so far take."""
        for node in [n for n in self._results if n in self._whole or n in self._parts]:
            del self._results[node]
            own = [self._whole[node]] if node in self._whole else list(self._parts[node].values())
            self._there |= needed(own, self._there)[0]
        return mirrored(parts, self._there)

    def whole(self, node: Node) -> Node:
        """The value as one array."""
        made = self._whole.get(node)
        if made is None:
            parts = self._parts[node]
            made = self._assembled(node, parts)
            self._whole[node] = made
        return made

    def _assembled(self, node: Node, parts: dict[Place, Node]) -> Node:
        small, _ = axes(node.shape)
        values = list(parts.values())
        if not small:
            return values[0]
        if values[0].kind == "const" and all(v is values[0] for v in values):
            return self.graph.const(values[0].data, node.shape, node.dtype)
        maps = tuple([part(node.rank, small, place) for place in parts])
        return self.graph.make("place", node.shape, node.dtype, values, (False, maps, (False,) * len(maps)))

    def parts(self, node: Node) -> dict[Place, Node]:
        """The value as arrays over its large axes, by place along its small ones."""
        made = self._parts.get(node)
        if made is None:
            whole, shape = self._whole[node], large(node.shape)
            small, _ = axes(node.shape)
            made = {p: self._piece(whole, shape, part(node.rank, small, p)) for p in places(node.shape)}
            self._parts[node] = made
        return made

    def _piece(self, whole: Node, shape: Shape, maps: ViewMap) -> Node:
        if whole.kind == "array" and not shape:
            index = tuple([c for _, c in maps])
            return self.graph.const(exact(whole.data.array[index]), (), whole.dtype)
        return self.graph.view(whole, shape, maps)


# -------------------------------------------------------------------- the parts of a node from those of its operands
Parts: TypeAlias = "dict[Place, Node]"


def _scalar(work: _Unrolling, node: Node) -> Parts | None:
    args = [work.parts(a).values() for a in node.args]
    name, attribute = node.data
    return {
        place: folding.scalar(work.graph, name, own, node.dtype, attribute)
        for place, *own in zip(places(node.shape), *args, strict=True)
    }


def _const(work: _Unrolling, node: Node) -> Parts | None:
    one = work.graph.const(node.data, large(node.shape), node.dtype)
    return dict.fromkeys(places(node.shape), one)


def _view(work: _Unrolling, node: Node) -> Parts | None:
    x = node.args[0]
    parts, graph, shape = work.parts(x), work.graph, large(node.shape)
    split = Split(node.data, node.shape, x.shape)
    made: Parts = {}
    for place in places(node.shape):
        source = split.place(place)
        if source is None:
            return None
        made[place] = graph.view(parts[source], shape, split.maps(place))
    return made


def _delta(work: _Unrolling, node: Node) -> Parts | None:
    x = node.args[0]
    small, rest = axes(x.shape)
    own_small, own_rest = axes(node.shape)
    parts, graph, shape = work.parts(x), work.graph, large(node.shape)
    data = tuple([rest.index(node.data[axis]) for axis in own_rest])
    made: Parts = {}
    for place in places(node.shape):
        at: dict[int, int] = {}
        same = True
        for axis, index in zip(own_small, place, strict=True):
            same = same and at.setdefault(node.data[axis], index) == index
        if not same:
            made[place] = graph.const(False if node.dtype == "bool" else 0, shape, node.dtype)
            continue
        one = parts[tuple([at[a] for a in small])]
        if len(set(data)) == len(data):
            maps: ViewMap = tuple([(((data.index(a), 1),), 0) for a in range(len(rest))])
            made[place] = graph.view(one, shape, maps)
        else:
            made[place] = graph.make("delta", shape, node.dtype, (one,), data)
    return made


def _triangle(work: _Unrolling, node: Node) -> Parts | None:
    lower, k = node.data
    parts, graph = work.parts(node.args[0]), work.graph
    last = [is_small(s) for s in node.shape[-2:]]
    if last[0] != last[1] or (last[0] and not isinstance(k, int)):
        return None
    made: Parts = {}
    for place, one in parts.items():
        if not last[0]:
            made[place] = graph.make("triangle", one.shape, one.dtype, (one,), node.data)
        elif place[-1] - place[-2] <= k if lower else place[-1] - place[-2] >= k:
            made[place] = one
        else:
            made[place] = graph.const(False if node.dtype == "bool" else 0, one.shape, one.dtype)
    return made


def _symmetric(work: _Unrolling, node: Node) -> Parts | None:
    parts = work.parts(node.args[0])
    return work.mirrored(parts) if is_small(node.shape[-1]) else parts


def _gather(work: _Unrolling, node: Node) -> Parts | None:
    first, count = node.data
    x, check, *indices = node.args
    own = [a for a in range(x.rank) if not first <= a < first + count and is_small(x.shape[a])]
    index_parts = [work.parts(i) for i in indices]
    behind = len([a for a in own if a >= first + count])
    before = len(own) - behind
    tables: dict[Place, Node] = {}
    kept = [a for a in range(x.rank) if a not in set(own)]
    made: Parts = {}
    for place in places(node.shape):
        middle = place[before : len(place) - behind]
        source = place[:before] + place[len(place) - behind :]
        if source not in tables:
            shape = tuple([x.shape[a] for a in kept])
            dissolved = all(not is_small(s) for s in x.shape[first : first + count])
            tables[source] = (
                work.parts(x)[source] if dissolved
                else work.graph.view(work.whole(x), shape, part(x.rank, own, source))
            )  # fmt: skip
        start = len([a for a in kept if a < first])
        args = (tables[source], work.whole(check), *[i[middle] for i in index_parts])
        made[place] = work.graph.make("gather", large(node.shape), node.dtype, args, (start, count))
    return made


_FOLDS = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
_BOOL_FOLDS = {"max": "or", "min": "and"}


def _reduce(work: _Unrolling, node: Node) -> Parts | None:
    kind, _ = node.data
    x = node.args[0]
    if any(s == 0 for s in x.shape):
        return None
    parts, graph = work.parts(x), work.graph
    gone = x.shape[node.rank :]
    step = _BOOL_FOLDS[kind] if node.dtype == "bool" else _FOLDS[kind]
    inner = places(gone)
    left = len(large(gone))
    made: Parts = {}
    for place in places(node.shape):
        terms = [parts[place + i] for i in inner]
        while len(terms) > 1:  # by pairs: short chains, small errors
            terms = [
                folding.scalar(graph, step, terms[i : i + 2], x.dtype, None) if i + 1 < len(terms) else terms[i]
                for i in range(0, len(terms), 2)
            ]
        total = terms[0]
        made[place] = graph.make("reduce", large(node.shape), node.dtype, (total,), (kind, left)) if left else total
    return made


def _place(work: _Unrolling, node: Node) -> Parts | None:
    fill, maps, adds = node.data
    shape = large(node.shape)
    hits: dict[Place, list[tuple[Node, ViewMap, bool]]] = {place: [] for place in places(node.shape)}
    for x, own, add in zip(node.args, maps, adds, strict=True):
        split = Split(own, x.shape, node.shape)
        for source, one in work.parts(x).items():
            target = split.place(source)
            if target is None:
                return None
            hits[target].append((one, split.maps(source), add))
    made: Parts = {}
    for place, found in hits.items():
        if not found and not fill:
            return None
        made[place] = _placed(work.graph, shape, node.dtype, found, fill)
    return made


def _placed(graph: Graph, shape: Shape, dtype: str, found: list[tuple[Node, ViewMap, bool]], fill: bool) -> Node:
    """What lies at one place: windows over each other, or whole arrays, of which the last one written is seen."""
    whole = identity(len(shape))
    zero = graph.const(False if dtype == "bool" else 0, shape, dtype)
    if not found:
        return zero
    if any(own != whole or one.shape != shape for one, own, _ in found):
        data = (fill, tuple([own for _, own, _ in found]), tuple([add for _, _, add in found]))
        return graph.make("place", shape, dtype, [one for one, _, _ in found], data)
    written = [one for one, _, add in found if not add]
    total = written[-1] if written else zero
    for one, _, add in found:
        if add:
            total = folding.scalar(graph, "add", [total, one], dtype, None)
    return total


def _alias(work: _Unrolling, node: Node) -> Parts | None:
    """A reshape of the small axes behind the last axis that it leaves alone."""
    x = node.args[0]
    kept = 0
    while kept < min(x.rank, node.rank) and x.shape[kept] == node.shape[kept]:
        kept += 1
    # Of nothing, an axis of 0 left alone says not how the others fit.
    if 0 in node.shape or not all(is_small(s) for s in (*x.shape[kept:], *node.shape[kept:])):
        return None
    return dict(zip(places(node.shape), work.parts(x).values(), strict=True))


RULES = {
    "scalar": _scalar, "const": _const, "view": _view, "delta": _delta, "triangle": _triangle, "symmetric": _symmetric,
    "gather": _gather, "reduce": _reduce, "place": _place, "alias": _alias,
}  # fmt: skip
