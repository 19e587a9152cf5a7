"""What native code makes of a scan: one loop for all its results, the body cut down to what they need.

`Scans(function)` finds the loops of a function. A loop is the body of a step as array nodes (`Steps`), a node that runs
it, and a node for each array that it makes:

    last    a carry behind the last step
    trace   a carry before every step and behind the last one, stacked: length + 1 rows
    out     an output of every step, stacked

Operands are read where they lie: a slice is a row of its array, also of one that begins later or runs backwards, and
what has the same value in every step is read as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import AxisMap, Graph, Node, ViewMap, identity
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Function, Value, loop_key

LOOP, PICKED = "loop", "picked"


@dataclass(frozen=True, slots=True)
class Operand:
    """A parameter of the body. `carry`: the number of a carry; else an operand of the loop, read as a whole, or row
    `factor * t + first` of it in step t."""

    carry: int = -1
    number: int = -1
    factor: Size | None = None
    first: Size = 0


@dataclass(frozen=True, slots=True)
class Made:
    """An array that a loop makes: the kind of it, and the number of the carry or of the output of a step."""

    kind: str
    number: int


@dataclass(eq=False, slots=True)
class Steps:
    """The steps of a loop. The results of the body are the new carries, then the outputs of a step.

    The operands of its node are first what the carries begin from.
    """

    length: Size
    reverse: bool
    carries: int
    body: Lowered
    params: list[Operand] = field(default_factory=list[Operand])
    made: list[Made] = field(default_factory=list[Made])


_Lower: TypeAlias = "Callable[[Function, Lowered], None]"


@dataclass(eq=False, slots=True)
class _Loop:
    """A loop of a function: which of its results are asked for, and once it is made their nodes."""

    picks: dict[int, None] = field(default_factory=dict[int, None])
    results: dict[int, Node] | None = None


class Scans:
    """The loops of one function."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.loops: dict[tuple[Any, ...], _Loop] = {}
        for value in values:
            if isinstance(value, Value) and value.op.picks:
                self.loops.setdefault(loop_key(value), _Loop()).picks[value.attr("pick")] = None

    def result(self, made: Lowered, value: Value, args: Sequence[Node], lower: _Lower) -> Node:
        """The node of one result of a loop; `lower` lowers a body whose parameters have nodes already."""
        loop = self.loops[loop_key(value)]
        if loop.results is None:
            loop.results = _Reading(made, value, args, loop.picks).read(lower)
        return loop.results[value.attr("pick")]


class _Reading:
    """Makes the node of a loop, and those of its results."""

    def __init__(self, made: Lowered, value: Value, args: Sequence[Node], picks: Iterable[int]) -> None:
        self.made, self.args, self.picks = made, args, tuple(picks)
        self.body: Function = value.attr("body")
        self.count, self.slices, self.length = value.attr("carries"), value.attr("slices"), value.attr("length")
        self.operands: list[Node] = []
        self.params: list[Operand] = []
        self.inner = made.inside(Graph(repeated=True), self.length)
        self.steps = Steps(self.length, value.attr("reverse"), 0, self.inner, self.params)

    def read(self, lower: _Lower) -> dict[int, Node]:
        """The nodes of the results, by their numbers."""
        body, count = self.body, self.count
        carries, live = self._needed()
        outputs = sorted({k - count for k in self.picks if k >= 2 * count})
        self.steps.carries = len(carries)
        self.operands += [self.args[k] for k in carries]
        for position, number in enumerate(carries):
            self._bind(body.params[number], Operand(carry=position), body.params[number].shape)
        for number, parameter in enumerate(body.params):
            if parameter in live and parameter not in self.inner.nodes:
                inside = count <= number < count + self.slices
                (self._slice if inside else self._whole)(parameter, self.args[number])
        wanted = [body.results[k] for k in (*carries, *outputs)]
        lower(Function.of([p for p in body.params if p in self.inner.nodes], wanted, body.name), self.inner)
        return self._results(carries, outputs)

    def _needed(self) -> tuple[list[int], set[Value]]:
        """The carries that results need, but for those that no step changes; and the parameters that steps read."""
        body, count = self.body, self.count
        reads: dict[Value, int] = {p: 1 << n for n, p in enumerate(body.params)}
        for value in body.instrs:
            bits = 0
            for arg in value.args:
                bits |= reads[arg]
            reads[value] = bits
        live = 0
        for pick in self.picks:
            live |= 1 << pick % count if pick < 2 * count else reads[body.results[pick - count]]
        carries = set[int]()
        while True:
            more = [k for k in range(count) if live >> k & 1 and k not in carries]
            if not more:
                break
            carries.update(more)
            for number in more:
                live |= reads[body.results[number]]
        changed = sorted(k for k in carries if body.results[k] is not body.params[k])
        return changed, {p for n, p in enumerate(body.params) if live >> n & 1}

    # ---------------------------------------------------------------- results
    def _results(self, carries: Sequence[int], outputs: Sequence[int]) -> dict[int, Node]:
        count, graph, made, picks = self.count, self.made.graph, self.steps.made, set(self.picks)
        traced = {k for k in carries if count + k in picks}
        for position, number in enumerate(carries):
            if number in traced or number in picks:
                made.append(Made("trace" if number in traced else "last", position))
        made += [Made("out", position) for position in range(len(outputs))]
        loop = graph.make(LOOP, (), "f64", self.operands, self.steps)

        def picked(kind: str, position: int, shape: Shape, dtype: str) -> Node:
            return graph.make(PICKED, shape, dtype, (loop,), made.index(Made(kind, position)))

        results: dict[int, Node] = {}
        for pick in self.picks:
            if pick >= 2 * count:
                kind = self.body.results[pick - count].type
                position = outputs.index(pick - count)
                results[pick] = picked("out", position, (self.length, *kind.shape), kind.dtype)
                continue
            number = pick % count
            init = self.args[number]
            shape = init.shape if pick < count else (self.length, *init.shape)
            if number not in carries:
                results[pick] = init if pick < count else graph.spread(init, (0,), shape)
            elif number not in traced:
                results[pick] = picked("last", carries.index(number), shape, init.dtype)
            else:
                trace = picked("trace", carries.index(number), (self.length + 1, *init.shape), init.dtype)
                results[pick] = self._row(trace, shape) if pick < count else self._rows(trace, shape)
        return results

    def _row(self, trace: Node, shape: Shape) -> Node:
        """The carry behind the last step."""
        last: Size = 0 if self.steps.reverse else self.length
        return self.made.graph.view(trace, shape, (((), last), *identity(len(shape))))

    def _rows(self, trace: Node, shape: Shape) -> Node:
        """The carry before every step."""
        return self.made.graph.view(trace, shape, ((((0, 1),), int(self.steps.reverse)), *identity(len(shape))[1:]))

    # ---------------------------------------------------------------- operands
    def _bind(self, value: Value, operand: Operand, shape: Shape, maps: ViewMap | None = None) -> None:
        """A value of the body is an operand of that shape, or a view of it."""
        graph, kind = self.inner.graph, value.type
        self.params.append(operand)
        node = graph.make("param", shape, kind.dtype, (), len(self.params) - 1)
        self.inner.nodes[value] = node if maps is None else graph.view(node, kind.shape, maps)

    def _operand(self, node: Node) -> int:
        self.operands.append(node)
        return len(self.operands) - 1

    def _whole(self, value: Value, x: Node) -> None:
        if x.kind == "const":
            self.inner.nodes[value] = self.inner.graph.const(x.data, value.shape, x.dtype)
        elif x.kind == "view":
            base = x.args[0]
            self._bind(value, Operand(number=self._operand(base)), base.shape, x.data)
        else:
            self._bind(value, Operand(number=self._operand(x)), x.shape)

    def _slice(self, value: Value, x: Node) -> None:
        if x.kind == "const":
            self.inner.nodes[value] = self.inner.graph.const(x.data, value.shape, x.dtype)
            return
        if x.kind == "view":
            base, maps = x.args[0], x.data
            moving = [a for a, (terms, _) in enumerate(maps) if any(axis == 0 for axis, _ in terms)]
            if not moving:
                self._bind(value, Operand(number=self._operand(base)), base.shape, tuple(map(_inside, maps)))
                return
            if moving == [0] and len(maps[0][0]) == 1:
                ((_, factor),), first = maps[0]
                operand = Operand(number=self._operand(base), factor=factor, first=first)
                self._bind(value, operand, base.shape[1:], tuple(map(_inside, maps[1:])))
                return
        self._bind(value, Operand(number=self._operand(x), factor=1), value.shape)


def _inside(axis: AxisMap) -> AxisMap:
    """The map of an axis in terms of a slice's axes."""
    terms, const = axis
    return tuple([(a - 1, factor) for a, factor in terms]), const
