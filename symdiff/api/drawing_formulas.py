"""Gradients at every box of a drawing as short formulas, for pictures without a point.

The gradient of the result in a value z is called δz. Every operation sends a formula in its own δ downstream, and the δ
of a value is the sum of what its uses send; so every formula is as short as the operation it belongs to. What does not
come out short is shown by its shape. Formulas hold almost everywhere: the choice at a kink is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symdiff.api.drawing_graph import Graph
from symdiff.api.drawing_numbers import Shown, Sweep
from symdiff.api.numbers_text import multiple_of_identity
from symdiff.diff.reverse import reverse
from symdiff.ir.builder import Builder, Handle, number_of
from symdiff.ir.contraction import identity
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render import to_text
from symdiff.render.drawing import Grouping, shape_text
from symdiff.simplify import simplify

_LONGEST = 36  # characters of a formula in a box
_ON_WIRE = 28
_LARGEST = 60  # instructions of a formula that is worth simplifying


def formulas(graph: Graph, boxes: Grouping) -> Shown:
    """Upstream, local and downstream gradients of every box by formula or shape."""
    sweep = Sweep(graph, None)
    heads, single = graph.heads(boxes)
    sent, received = _steps(graph, sweep, single)
    local = sweep.locals(single)
    restated = _restated(graph, sweep, [*sent.values(), *received.values(), *local.values()])
    mark = _mark(graph)
    shown = Shown(mark=mark)
    for v in heads:
        if v in received:
            shown.upstream[v] = _text(restated[received[v]]) or shape_text(sweep.y.shape + v.shape)
        elif v in sweep.active:
            shown.upstream[v] = shape_text(sweep.y.shape + v.shape)
    for (v, i), value in local.items():
        shown.local[v, i] = _local_text(v, restated[value])
    for key, value in sent.items():
        text = _text(restated[value])
        # The shape stands on the wire anyway.
        on_wire = text if text is not None and len(text) <= _ON_WIRE else ""
        shown.downstream[key] = (on_wire, text or shape_text(value.shape))
    return shown


def _mark(graph: Graph) -> str:
    taken = set(graph.names.values())
    mark = "δ"
    while any(mark + name in taken for name in taken):
        mark += "δ"
    return mark


def _steps(
    graph: Graph, sweep: Sweep, single: set[Value]
) -> tuple[dict[tuple[Value, int], Value], dict[Value, Value]]:
    """What every operation with a box of its own sends to its operands, and the sum of what every value receives."""
    builder, mark, y = graph.builder, _mark(graph), sweep.y
    seeds: dict[Value, Handle] = {y: Handle(builder, identity(builder, y.shape, y.type.dtype))}
    sent: dict[tuple[Value, int], Value] = {}
    parts: dict[Value, list[Handle]] = {y: [seeds[y]]}
    complete = dict.fromkeys(sweep.active, True)
    for (v, i), use in sweep.use.items():
        operand = v.args[i]
        name = mark + graph.names[v] if v in single else ""
        if not name.isidentifier():
            complete[operand] = False
            continue
        if v not in seeds:
            seeds[v] = Handle(builder, builder.param(name, TensorType(y.type.dtype, y.shape + v.shape)))
        (cotangent,) = reverse(builder, [(sweep.copy[v], seeds[v])], [use])
        total = cotangent or Handle(builder, builder.const(0, y.shape + use.shape, y.type.dtype))
        sent[v, i] = total.value
        parts.setdefault(operand, []).append(total)
    received: dict[Value, Value] = {}
    for value, terms in parts.items():
        if complete[value]:
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            received[value] = total.value
    return sent, received


def _restated(graph: Graph, sweep: Sweep, values: Sequence[Value]) -> Mapping[Value, Value]:
    """The values with every intermediate value of the picture replaced by a symbol of its name."""
    builder = Builder(OPSET)
    done: dict[Value, Value] = {}
    for value in graph.drawn:
        name = graph.names[value]
        if not value.is_param and name.isidentifier():
            done[sweep.copy[value]] = builder.param(name, TensorType(value.type.dtype, value.shape))
    for value in topological(values):
        if value in done:
            continue
        if value.is_param:
            done[value] = builder.adopt(value)
        elif sweep.is_use(value):
            done[value] = done[value.args[0]]
        else:
            done[value] = builder.make(value.op, tuple([done[a] for a in value.args]), value.attrs)
    return done


def _closed(value: Value) -> Value | None:
    """The shortest form; None when an array's value is too large for a short one."""
    order = topological([value])
    if len(order) > _LARGEST and value.type.rank:
        return None
    return simplify(Function.of([v for v in order if v.is_param], [value]), OPSET).results[0]


def _line(value: Value) -> str | None:
    text = to_text(Function.of([v for v in topological([value]) if v.is_param], [value]))
    if "\n" in text:
        return None
    if len(text) <= _LONGEST:
        return text
    # A scalar has no shape to show instead.
    return None if value.type.rank else text[: _LONGEST - 1] + "…"


def _text(value: Value) -> str | None:
    closed = _closed(value)
    return None if closed is None else _line(closed)


def _local_text(v: Value, local: Value) -> str:
    closed = _closed(local)
    text = None if closed is None else _line(closed)
    if not (v.op.elementwise and v.type.rank):
        return text or shape_text(local.shape)
    if closed is not None and closed.op.name == "const":
        return multiple_of_identity(number_of(closed.attr("value")))
    return f"diag({text})" if text else f"diag {shape_text(local.shape)}"
