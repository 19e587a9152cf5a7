"""Arrays read at neighbouring places that wrap around at the ends (`np.roll`), out of one copy with a rim.

`wrapped` takes a `Lowered` program; gives one of the same meaning. A roll by a few elements is an array put together
from two windows of another; its derivative adds the same two windows, apart, to a sum. Each would be a pass over whole
arrays. Where an array is rolled at least twice, it is copied once into the middle of a larger array, around which it is
repeated as far as the rolls reach (a halo, as in domain decomposition); every roll is a window of that, which is read
where it is needed. What is added to one element may be added in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product as every
from operator import add, mul
from typing import TypeAlias

from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import Graph, Node, ViewMap, identity
from codegen.arrays.small_axes import is_small
from symdiff.ir.dims import Size

_FARTHEST = 8
"""Elements that a roll goes at most."""

Shifts: TypeAlias = "tuple[int, ...]"
"""For every axis: element i of a rolled array is element i + shift of the other, modulo the size."""


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of an array at another place of an array of that shape: along `axis`, `size` elements from `start` are at
    `place`. sign: whether they are negative."""

    base: Node
    negative: bool
    axis: int
    start: Size
    place: Size
    size: Size


@dataclass(eq=False, slots=True)
class _Sum:
    """Terms of a sum of arrays of one shape, and rolled arrays with their signs."""

    whole: list[Node]
    rolled: list[tuple[Node, Shifts, bool]]
    rest: list[tuple[Node, ViewMap]]


def wrapped(lowered: Lowered) -> Lowered:
    """The program with arrays that are rolled several times laid out with a rim."""
    order = lowered.needed()
    if all(node.kind != "place" for node in order):
        return lowered
    rolls: dict[Node, tuple[Node, Shifts]] = {}
    for node in order:
        roll = _roll(node)
        if roll is not None:
            rolls[node] = _of_roll(*roll, rolls)
    sums = _sums(order, lowered.results)
    for own in sums.values():
        own.rolled = [(*_of_roll(base, shifts, rolls), negative) for base, shifts, negative in own.rolled]
    if not rolls and not any(s.rolled for s in sums.values()):
        return lowered
    reached: dict[Node, list[Shifts]] = {}
    for base, shifts in (*rolls.values(), *[(b, s) for own in sums.values() for b, s, _ in own.rolled]):
        reached.setdefault(base, []).append(shifts)
    if all(len(own) == 1 for own in reached.values()):
        return lowered
    work = _Rewriting(Graph(), reached, rolls, sums)
    for node in order:
        work.rewrite(node)
    return replace(lowered, graph=work.graph, results=[work.made[node] for node in lowered.results])


# -------------------------------------------------------------------- what is rolled
def _window(part: Node, places: ViewMap, target: Node) -> _Window | None:
    """A part that is put into an array, as a window of another one of that shape."""
    part, negative = _unsigned(part, False)
    if part.kind != "view" or part.args[0].shape != target.shape or len(places) != target.rank:
        return None
    base, negative = _unsigned(part.args[0], negative)
    found: _Window | None = None
    for axis, ((terms, start), (own, place)) in enumerate(zip(part.data, places, strict=True)):
        if terms != ((axis, 1),) or own != ((axis, 1),):
            return None
        if part.shape[axis] == target.shape[axis] and start == place == 0:
            continue
        if found is not None:
            return None
        found = _Window(base, negative, axis, start, place, part.shape[axis])
    return found


def _unsigned(node: Node, negative: bool) -> tuple[Node, bool]:
    """A node without its sign, and whether it is negative with that."""
    while node.kind == "scalar" and node.data[0] == "neg":
        node, negative = node.args[0], not negative
    return node, negative


def _turned(one: _Window | None, other: _Window | None, target: Node) -> tuple[Node, Shifts, bool] | None:
    """The roll that two windows are together."""
    if one is None or other is None:
        return None
    if (one.base, one.negative, one.axis) != (other.base, other.negative, other.axis):
        return None
    size = target.shape[one.axis]
    first, second = (one, other) if one.place == 0 else (other, one)
    if first.place != 0 or second.place != first.size or first.size + second.size != size:
        return None
    if second.start != 0 or first.start != second.size:
        return None
    # The first begins behind the second: element i is element i + second.size, or i - first.size.
    near = [s for s in (second.size, -1 * first.size) if isinstance(s, int) and abs(s) <= _FARTHEST]
    if not near or is_small(size):
        return None
    shift = min(near, key=abs)
    return one.base, tuple(shift if a == one.axis else 0 for a in range(target.rank)), one.negative


def _roll(node: Node) -> tuple[Node, Shifts] | None:
    """The array that a node is a roll of, and how far."""
    if node.kind != "place" or node.data[0] or any(node.data[2]) or len(node.args) != 2:
        return None
    one, other = (_window(part, places, node) for part, places in zip(node.args, node.data[1], strict=True))
    turned = _turned(one, other, node)
    return None if turned is None or turned[2] else turned[:2]


def _of_roll(base: Node, shifts: Shifts, rolls: dict[Node, tuple[Node, Shifts]]) -> tuple[Node, Shifts]:
    """A roll of what may be a roll itself, along another axis, as one of the array behind it."""
    if base not in rolls or any(map(mul, shifts, rolls[base][1])):
        return base, shifts
    return rolls[base][0], tuple(map(add, shifts, rolls[base][1]))


def _sums(order: Sequence[Node], results: Sequence[Node]) -> dict[Node, _Sum]:
    """The sums of arrays among which are windows, by the node that is the whole sum."""
    uses: dict[Node, int] = {}
    for node in (*results, *[a for n in order for a in n.args]):
        uses[node] = uses.get(node, 0) + 1
    inner = {a for n in order if _is_sum(n) for a in n.args if _is_sum(a) and uses[a] == 1 and a.shape == n.shape}
    sums: dict[Node, _Sum] = {}
    for node in order:
        if node in inner or not _is_sum(node):
            continue
        made = _Sum([], [], [])
        whole = identity(node.rank)
        stack = [(node, whole)]
        while stack:
            term, places = stack.pop()
            if places != whole or term.shape != node.shape:
                made.rest.append((term, places))
            elif term is not node and term not in inner:
                made.whole.append(term)
            elif term.kind == "scalar":
                stack += [(a, places) for a in reversed(term.args)]
            else:
                stack += reversed(list(zip(term.args, term.data[1], strict=True)))
        _pair(made, node)
        if made.rolled:
            sums[node] = made
    return sums


def _is_sum(node: Node) -> bool:
    if node.kind == "scalar":
        return node.data[0] == "add" and node.dtype != "bool"
    return node.kind == "place" and node.dtype != "bool" and (node.data[0] or any(node.data[2]))


def _pair(made: _Sum, node: Node) -> None:
    """Take windows that belong together out of what is left of a sum."""
    waiting: dict[tuple[object, ...], list[tuple[_Window, tuple[Node, ViewMap]]]] = {}
    rest: list[tuple[Node, ViewMap]] = []
    for term in made.rest:
        window = _window(*term, node)
        if window is None:
            rest.append(term)
            continue
        # Two of them are a roll if one begins where the other ends, in both arrays, and the axis ends there.
        own = (window.base, window.negative, window.axis)
        others = waiting.get((*own, node.shape[window.axis] - window.size))
        turned = None if not others else _turned(others[-1][0], window, node)
        if others and turned is not None:
            others.pop()
            made.rolled.append(turned)
        else:
            waiting.setdefault((*own, window.size), []).append((window, term))
    made.rest = rest + [term for same in waiting.values() for _, term in same]


# -------------------------------------------------------------------- the program with rims
class _Rewriting:
    """Makes the nodes again, rolls as windows of arrays with a rim."""

    def __init__(
        self, graph: Graph, reached: dict[Node, list[Shifts]], rolls: dict[Node, tuple[Node, Shifts]],
        sums: dict[Node, _Sum],
    ) -> None:  # fmt: skip
        self.graph, self.reached, self.rolls, self.sums = graph, reached, rolls, sums
        self.made: dict[Node, Node] = {}
        self.rims: dict[Node, Node] = {}

    def rewrite(self, node: Node) -> None:
        """Make a node whose operands are made."""
        roll, own = self.rolls.get(node), self.sums.get(node)
        if roll is not None and self._pays(roll[0]):
            self.made[node] = self._rolled(*roll)
        elif own is not None and any(self._pays(base) for base, _, _ in own.rolled):
            self.made[node] = self._sum(node, own)
        else:
            self.made[node] = self.graph.with_operands(node, [self.made[a] for a in node.args])

    def _pays(self, base: Node) -> bool:
        """Whether an array is rolled several times."""
        return len(self.reached[base]) > 1

    def _sum(self, node: Node, own: _Sum) -> Node:
        graph = self.graph
        terms = [self.made[w] for w in own.whole]
        for base, shifts, negative in own.rolled:
            term = self._rolled(base, shifts)
            terms.append(graph.scalar("neg", term) if negative else term)
        total = terms[0]
        for term in terms[1:]:
            total = graph.scalar("add", total, term)
        if not own.rest:
            return total
        parts = [total, *[self.made[part] for part, _ in own.rest]]
        maps = (identity(node.rank), *[places for _, places in own.rest])
        adds = (False, *[True] * len(own.rest))
        return graph.make("place", node.shape, node.dtype, parts, (False, maps, adds))

    def _rolled(self, base: Node, shifts: Shifts) -> Node:
        """The window of the array with a rim that a roll is."""
        low, _ = _rim(self.reached[base])
        maps = tuple((((axis, 1),), low[axis] + shift) for axis, shift in enumerate(shifts))
        return self.graph.view(self._with_rim(base), base.shape, maps)

    def _with_rim(self, base: Node) -> Node:
        if base in self.rims:
            return self.rims[base]
        graph, own, reached = self.graph, self.made[base], self.reached[base]
        low, high = _rim(reached)
        parts: list[Node] = []
        maps: list[ViewMap] = []
        needed = {sides for far in reached for sides in every(*[{0, (s > 0) - (s < 0)} for s in far])}
        for sides in sorted(needed, key=lambda own: [abs(side) for side in own]):
            shape: list[Size] = []
            read: list[Size] = []
            written: list[Size] = []
            for axis, (side, size) in enumerate(zip(sides, base.shape, strict=True)):
                shape.append(low[axis] if side < 0 else high[axis] if side else size)
                read.append(size - low[axis] if side < 0 else 0)
                written.append(0 if side < 0 else low[axis] + (size if side else 0))
            parts.append(graph.view(own, tuple(shape), tuple((((a, 1),), at) for a, at in enumerate(read))))
            maps.append(tuple((((a, 1),), at) for a, at in enumerate(written)))
        whole = tuple(size + low[axis] + high[axis] for axis, size in enumerate(base.shape))
        data = (False, tuple(maps), (False,) * len(parts))
        made = self.rims[base] = graph.make("place", whole, base.dtype, parts, data)
        return made


def _rim(reached: Sequence[Shifts]) -> tuple[list[int], list[int]]:
    """How far rolls go before the beginning and behind the end of every axis."""
    return [max(0, *(-s for s in axis)) for axis in zip(*reached, strict=True)], [
        max(0, *axis) for axis in zip(*reached, strict=True)
    ]
