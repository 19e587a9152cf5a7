"""Contractions as array nodes: deltas and rearrangements dissolved into labels, products of many operands in pairs.

Takes operands with integer labels; gives a node. Promises: a Kronecker delta never becomes an array unless it is the
result itself; the order of pairing is the cheapest found at nominal sizes (named dimensions count 64), so it depends on
the program alone; a product of two operands with row, column and summed labels becomes one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations
from typing import TypeAlias

from codegen.arrays.nodes import Graph, Node, ViewMap
from symdiff.ir.dims import Size, at_least, evaluate, product, size_names

Labels: TypeAlias = "tuple[int, ...]"
Operand: TypeAlias = "tuple[Node, Labels]"

_NOMINAL = 64
_TINY = 512
"""Multiplications of a product of small matrices, or of one of a stack, that is no matrix product but scalar work,"""
_TABLE = 25
"""and elements of a small matrix that multiplies many rows, whose product is that, too."""
_EXHAUSTIVE = 6
"""Up to so many operands every order of pairing is compared (3**6 pairs of subsets); beyond, the cheapest pair goes."""


def contract(graph: Graph, operands: Sequence[Operand], output: Labels, sizes: dict[int, Size], dtype: str) -> Node:
    """The sum over all labels not in `output` of the product of the operands."""
    flat, output, sizes = _dissolve(graph, operands, output, sizes)
    distinct = tuple(dict.fromkeys(output))
    present = {x for _, labels in flat for x in labels}
    repeated = product([sizes[x] for x in sorted(_summed_sizes(sizes, present, output))])
    constants = [(node, labels) for node, labels in flat if node.kind == "const" and not labels]
    flat = [o for o in flat if o not in constants]
    scalars = [node for node, _ in constants if node.data != 1]
    if repeated != 1:
        scalars.append(graph.make("size", (), dtype, (), repeated))
    if len(flat) > 1:
        flat = [_sum_own(graph, i, flat, distinct, sizes) for i in range(len(flat))]
    held = tuple(x for x in distinct if any(x in labels for _, labels in flat))
    if flat:
        core = _multiply(graph, flat, held, sizes)
        node = graph.rearrange(core, held, distinct, sizes)
    else:
        node = graph.const(1, tuple([sizes[x] for x in distinct]), dtype)
    for factor in scalars:
        node = graph.scalar("mul", graph.rearrange(factor, (), range(node.rank), dict(enumerate(node.shape))), node)
    if len(distinct) != len(output):
        place = {x: i for i, x in enumerate(distinct)}
        shape = tuple([sizes[x] for x in output])
        node = graph.make("delta", shape, node.dtype, (node,), tuple([place[x] for x in output]))
    return node


def _summed_sizes(sizes: dict[int, Size], present: set[int], output: Labels) -> set[int]:
    """Labels that are summed over although no operand has them any more: each repeats the sum so many times."""
    return {x for x in sizes if x not in present and x not in output}


def joined_pays(outer: Sequence[Labels], at: int, inner: Sequence[Labels], output: Labels, between: Labels,
                sizes: dict[int, Size]) -> bool:  # fmt: skip
    """Whether the contraction `inner -> between`, operand `at` of `outer -> output`, is cheaper as part of it.

    Nominal sizes decide, so the gain must be clear: orders that tie stay as they were written.
    """
    words = [frozenset(w) for w in (*outer[:at], *inner, *outer[at + 1 :])]
    if len(words) > _EXHAUSTIVE:
        return False
    numbers = dict.fromkeys(size_names(sizes.values()), _NOMINAL)
    weight = {x: max(1, evaluate(s, numbers)) for x, s in sizes.items()}

    def cost(parts: list[frozenset[int]], keep: set[int]) -> float:
        own = [frozenset(x for x in w if x in keep or sum(x in v for v in parts) > 1) for w in parts]
        summed = sum(_volume(w, weight) for w, o in zip(parts, own, strict=True) if w != o)
        if len(parts) == 1:
            return _volume(parts[0], weight)
        return summed + _plan(own, keep, weight)[1]

    apart = cost([frozenset(w) for w in inner], set(between)) + cost([frozenset(w) for w in outer], set(output))
    return cost(words, set(output)) < 0.8 * apart


# -------------------------------------------------------------------- dissolving deltas and rearrangements
def _dissolve(
    graph: Graph, operands: Iterable[Operand], output: Labels, sizes: dict[int, Size]
) -> tuple[list[Operand], Labels, dict[int, Size]]:
    same: dict[int, int] = {}

    def find(label: int) -> int:
        while label in same:
            label = same[label]
        return label

    flat: list[Operand] = []
    for node, word in operands:
        labels: Labels = word
        while True:
            if node.kind == "delta" and _whole(node, labels, sizes):
                inner: dict[int, int] = {}
                axes: Labels = node.data
                for label, axis in zip(labels, axes, strict=True):
                    first, own = find(inner.setdefault(axis, label)), find(label)
                    if first != own:
                        same[own] = first
                node, labels = node.args[0], tuple([inner[a] for a in range(node.args[0].rank)])
            elif node.kind == "view" and all(len(t) == 1 and t[0][1] == 1 and c == 0 for t, c in node.data):
                maps: ViewMap = node.data
                node, labels = node.args[0], tuple([labels[t[0][0]] for t, _ in maps])
            elif node.kind == "const" and labels and node.dtype != "bool":
                node, labels = graph.const(node.data, (), node.dtype), ()
            else:
                break
        flat.append((node, labels))
    flat = [(node, tuple([find(x) for x in labels])) for node, labels in flat]
    return flat, tuple([find(x) for x in output]), {x: s for x, s in sizes.items() if find(x) == x}


def _whole(node: Node, labels: Labels, sizes: dict[int, Size]) -> bool:
    """Whether labels run over whole axes. On a window of a delta they differ, and joining them would leave it."""
    return all(sizes[x] == size for x, size in zip(labels, node.shape, strict=True))


def _unique(graph: Graph, node: Node, labels: Labels, sizes: dict[int, Size]) -> Operand:
    """The operand with each label once: a diagonal where one was repeated."""
    distinct = tuple(dict.fromkeys(labels))
    return graph.rearrange(node, labels, distinct, sizes), distinct


def _sum_own(graph: Graph, i: int, flat: Sequence[Operand], output: Labels, sizes: dict[int, Size]) -> Operand:
    """Operand i summed over the labels that nothing else has."""
    node, labels = flat[i]
    others = {x for j, (_, own) in enumerate(flat) if j != i for x in own} | set(output)
    if set(labels) <= others:
        return node, labels
    node, labels = _unique(graph, node, labels, sizes)
    gone = [a for a, x in enumerate(labels) if x not in others]
    return graph.reduce("sum", node, gone), tuple([x for x in labels if x in others])


# -------------------------------------------------------------------- products
def _multiply(graph: Graph, flat: list[Operand], held: Labels, sizes: dict[int, Size]) -> Node:
    """The product of operands summed down to the labels `held`, in that order."""
    if len(flat) <= 2:
        return _pair(graph, flat, held, sizes)
    numbers = dict.fromkeys(size_names(sizes.values()), _NOMINAL)
    weight = {x: max(1, evaluate(s, numbers)) for x, s in sizes.items()}
    keep = set(held)
    every = {x for _, labels in flat for x in labels}
    steps, cost = _plan([frozenset(labels) for _, labels in flat], keep, weight)
    at_once = _volume(every, weight) * (len(flat) - 1)
    if at_once <= cost or every <= keep:
        return _pair(graph, flat, held, sizes)
    live: dict[int, Operand] = dict(enumerate(flat))
    for number, (a, b, kept) in enumerate(steps):
        order = held if number == len(steps) - 1 else tuple(_ordered(kept, live[a][1], live[b][1]))
        live[len(flat) + number] = _pair(graph, [live.pop(a), live.pop(b)], order, sizes), order
    return live[len(flat) + len(steps) - 1][0]


def _ordered(kept: frozenset[int], *words: Labels) -> list[int]:
    return [x for x in dict.fromkeys(x for word in words for x in word) if x in kept]


def _volume(labels: Iterable[int], weight: dict[int, int]) -> float:
    total = 1.0
    for x in labels:
        total *= weight[x]
    return total


_Step: TypeAlias = "tuple[int, int, frozenset[int]]"


def _plan(words: list[frozenset[int]], keep: set[int], weight: dict[int, int]) -> tuple[list[_Step], float]:
    """Pairs to multiply, results numbered behind the operands, and the number of multiplications."""
    return _exhaustive(words, keep, weight) if len(words) <= _EXHAUSTIVE else _greedy(words, keep, weight)


def _exhaustive(words: list[frozenset[int]], keep: set[int], weight: dict[int, int]) -> tuple[list[_Step], float]:
    n = len(words)
    full = (1 << n) - 1

    def left(subset: int) -> frozenset[int]:
        inside = frozenset[int]().union(*(words[i] for i in range(n) if subset >> i & 1))
        outside = keep.union(*(words[i] for i in range(n) if not subset >> i & 1))
        return frozenset(inside & outside)

    result = {1 << i: words[i] for i in range(n)}
    best: dict[int, tuple[float, int]] = {1 << i: (0.0, 0) for i in range(n)}
    for size in range(2, n + 1):
        for chosen in combinations(range(n), size):
            subset = sum(1 << i for i in chosen)
            result[subset] = left(subset)
            part = (subset - 1) & subset
            while part:
                rest = subset ^ part
                if part > rest:
                    step = _volume(result[part] | result[rest], weight) + 0.1 * _volume(result[subset], weight)
                    cost = best[part][0] + best[rest][0] + step
                    if subset not in best or cost < best[subset][0]:
                        best[subset] = cost, part
                part = (part - 1) & subset
    order: list[int] = []
    stack = [full]
    while stack:
        subset = stack.pop()
        if subset & (subset - 1):
            order.append(subset)
            stack += [best[subset][1], subset ^ best[subset][1]]
    number = {1 << i: i for i in range(n)}
    steps: list[_Step] = []
    for subset in reversed(order):
        part = best[subset][1]
        number[subset] = n + len(steps)
        a, b = sorted((number[part], number[subset ^ part]))
        steps.append((a, b, result[subset]))
    return steps, best[full][0]


def _greedy(words: list[frozenset[int]], keep: set[int], weight: dict[int, int]) -> tuple[list[_Step], float]:
    live = dict(enumerate(words))
    steps: list[_Step] = []
    total = 0.0
    while len(live) > 1:
        count: dict[int, int] = {}
        for word in live.values():
            for x in word:
                count[x] = count.get(x, 0) + 1
        best: tuple[float, int, int, frozenset[int]] | None = None
        for a, b in combinations(live, 2):
            both = live[a] | live[b]
            kept = frozenset(x for x in both if x in keep or count[x] > (x in live[a]) + (x in live[b]))
            cost = _volume(both, weight) + _volume(kept, weight) - _volume(live[a], weight) - _volume(live[b], weight)
            if best is None or cost < best[0]:
                best = cost, a, b, kept
        assert best is not None
        _, a, b, kept = best
        total += _volume(live[a] | live[b], weight)
        del live[a], live[b]
        live[len(words) + len(steps)] = kept
        steps.append((a, b, kept))
    return steps, total


def _pair(graph: Graph, flat: Sequence[Operand], held: Labels, sizes: dict[int, Size]) -> Node:
    """A product of a few operands, summed down to `held` in one pass."""
    parts = [_unique(graph, node, labels, sizes) for node, labels in flat]
    keep = set(held)
    summed = _ordered(frozenset(x for _, labels in parts for x in labels) - keep, *_longest_first(parts))
    if len(parts) == 2 and summed:
        made = _matrix_product(graph, parts[0], parts[1], held, summed, sizes)
        if made is not None:
            return made
    space = (*held, *summed)
    spread = [graph.rearrange(node, labels, space, sizes) for node, labels in parts]
    total = spread[0]
    for factor in spread[1:]:
        total = graph.scalar("mul", total, factor)
    return graph.reduce("sum", total, range(len(held), len(space))) if summed else total


def _longest_first(parts: Sequence[Operand]) -> list[Labels]:
    return sorted((labels for _, labels in parts), key=len, reverse=True)


def _matrix_product(
    graph: Graph, a: Operand, b: Operand, held: Labels, summed: list[int], sizes: dict[int, Size]
) -> Node | None:
    la, lb = set(a[1]), set(b[1])
    batch = [x for x in held if x in la and x in lb]
    rows = [x for x in held if x in la and x not in lb]
    columns = [x for x in held if x in lb and x not in la]
    if not rows or not columns or a[0].dtype not in ("f64", "f32"):
        return None
    if held and rows[-1] == held[-1]:  # the operand with the last axis gives the columns, so that rows lie dense
        a, b, rows, columns = b, a, columns, rows
    if _at_most([sizes[x] for x in (*rows, *columns, *summed)], _TINY):
        return None
    # A stack of short rows by a table. The steps of a loop read their rows where the last one wrote them, whole.
    if not graph.repeated and any(_at_most([sizes[x] for x in (*own, *summed)], _TABLE) for own in (rows, columns)):
        return None
    factors: list[Operand] = []
    numbers: list[Node] = []
    a, b = (_without_factors(o, {*batch, *summed}, factors, numbers) for o in (a, b))
    left = graph.rearrange(a[0], a[1], (*batch, *rows, *summed), sizes)
    right = graph.rearrange(b[0], b[1], (*batch, *summed, *columns), sizes)
    scales = [graph.rearrange(node, labels, (*batch, *summed), sizes) for node, labels in factors]
    operands = [left, right, *([reduce(lambda x, y: graph.scalar("mul", x, y), scales)] if scales else [])]
    symmetric = graph.rearrange(b[0], b[1], (*batch, *columns, *summed), sizes) is left
    order = (*batch, *rows, *columns)
    data = (len(batch), len(rows), len(columns), len(summed), symmetric)
    node = graph.make("gemm", tuple([sizes[x] for x in order]), a[0].dtype, operands, data)
    for number in numbers:
        node = graph.scalar("mul", graph.const(number.data, node.shape, node.dtype), node)
    return graph.rearrange(node, order, held, sizes)


def _at_most(sizes: Sequence[Size], limit: int) -> bool:
    """Whether all sizes are numbers, with a product up to a limit."""
    return all(isinstance(s, int) for s in sizes) and at_least(limit, product(sizes))


def _without_factors(operand: Operand, inner: set[int], factors: list[Operand], numbers: list[Node]) -> Operand:
    """The operand without factors that are the same for all its rows, and without numbers; these go to the lists."""
    node, labels = operand
    while node.kind == "scalar" and node.data[0] == "mul":
        for own, other in (node.args, node.args[::-1]):
            if own.kind == "const":
                numbers.append(own)
            elif own.kind == "view" and all(len(t) == 1 and t[0][1] == 1 and c == 0 for t, c in own.data):
                word = tuple([labels[t[0][0]] for t, _ in own.data])
                if not inner.issuperset(word) or len(set(word)) < len(word):
                    continue
                factors.append((own.args[0], word))
            else:
                continue
            node = other
            break
        else:
            break
    return node, labels
