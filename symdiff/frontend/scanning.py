"""`scan`: a loop with state, written as a Python function of one step.

The step is called with symbols and becomes the body of one `scan` op. What it computes from none of them (symbols,
expressions and arrays that it closes over) is computed before the loop and handed to it as constants.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from symdiff.errors import ArgumentError, DtypeError, ShapeError
from symdiff.frontend.building import cast_value, make, misfit, raw_size, refuse_leaks, step_symbols
from symdiff.frontend.expr import as_expr, is_weak, wrap
from symdiff.frontend.nesting import NONE, Tree, flatten, paths, unflatten
from symdiff.frontend.trace import argument_names, unique_labels
from symdiff.ir.builder import Builder
from symdiff.ir.contraction import PLAIN, repeats
from symdiff.ir.dims import Size, format_shape
from symdiff.ir.graph import Function, Value, param, topological
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

_serial = itertools.count()


def scan(
    f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: Any = None, reverse: bool = False
) -> tuple[Any, Any]:
    """The last carry and the stacked ys, as expressions; `sd.scan` says the rest."""
    if not callable(f):
        raise ArgumentError(f"scan: given {f!r} as the step, expected a function of a carry and a slice")
    carries, carry_tree = flatten(init)
    slices, slice_tree = flatten(xs)
    names = argument_names(f, 2)
    labels = _Labels(paths(carry_tree, names[0]), paths(slice_tree, names[1]))
    # Python numbers take the dtype that arrays beside them have.
    arrays = [as_expr(x) for x in (*carries, *slices) if not is_weak(x)]
    float_dtype = "f32" if "f32" in {a.dtype.name for a in arrays} - {"f64"} and not any(
        a.dtype.name == "f64" for a in arrays) else "f64"  # fmt: skip
    starts = [_start(x, float_dtype) for x in carries]
    rows = [as_expr(x) for x in slices]
    steps = _length(rows, labels.slices, length)
    while True:
        body, y_tree = _traced(f, starts, rows, carry_tree, slice_tree, labels)
        wider = _widened(carries, starts, body.carries)
        if wider is None:
            break
        starts = wider
    body.check(starts, labels.carries)
    function, consts = _closed(body, labels)
    operands = [e.value for e in (*starts, *rows)] + consts
    reverse = bool(reverse)
    attrs: dict[str, Any] = {"body": function, "carries": len(starts), "length": steps, "reverse": reverse,
                             "slices": len(rows)}  # fmt: skip

    def picked(k: int) -> Any:
        return wrap(make("scan", operands, **attrs, pick=k), *starts, *rows)

    last = [picked(k) for k in range(len(starts))]
    ys = [picked(2 * len(starts) + k) for k in range(len(body.outputs))]
    return unflatten(carry_tree, last), unflatten(y_tree, ys)


@dataclass(frozen=True, slots=True)
class _Labels:
    """A name for every carry and every slice."""

    carries: list[str]
    slices: list[str]


def _start(x: Any, float_dtype: str) -> Any:
    start = as_expr(x)
    return start.astype(float_dtype) if is_weak(x) and start.dtype == "f64" else start


def _length(rows: Sequence[Any], labels: Sequence[str], given: Any) -> Size:
    """The number of steps."""
    steps: Size | None = None if given is None else raw_size(given, "scan: length")
    if isinstance(steps, int) and steps < 0:
        raise ArgumentError(f"scan: length {steps}, expected at least 0")
    origin = "length"
    for row, label in zip(rows, labels, strict=True):
        shape = row.value.shape
        if not shape:
            raise ShapeError(f"scan: xs ({label}) is a scalar, expected an array whose first axis is scanned")
        if steps is None:
            steps, origin = shape[0], label
        elif shape[0] != steps:
            known = f"{origin} is" if origin == "length" else f"that of {origin}"
            message = f"scan: the first axis of {label} has length {shape[0]}, {known} {steps}, expected equal lengths"
            raise misfit(message, shape[0], steps)
    if steps is None:
        raise ArgumentError("scan: without arrays in xs the number of steps is not known; give length=")
    return steps


@dataclass(frozen=True, slots=True)
class _Body:
    """A step as values: its symbols, and what it makes of them."""

    params: list[Value]
    carries: list[Any]
    outputs: list[Any]

    def check(self, starts: Sequence[Any], labels: Sequence[str]) -> None:
        """Raise unless every carry has one type before and after the step."""
        for start, after, label in zip(starts, self.carries, labels, strict=True):
            a, b = start.value.type, after.value.type
            if a.shape != b.shape:
                raise misfit(
                    f"scan: the carry {label} has shape {format_shape(a.shape)} and the step returns it with shape "
                    f"{format_shape(b.shape)}, expected equal shapes", *a.shape, *b.shape,
                )  # fmt: skip
            if a.dtype != b.dtype:
                raise DtypeError(
                    f"scan: the carry {label} has dtype {a.dtype} and the step returns it with dtype {b.dtype}, "
                    "expected equal dtypes; cast one of them with astype"
                )


def _traced(
    f: Callable[..., Any], starts: Sequence[Any], rows: Sequence[Any], carry_tree: Tree, slice_tree: Tree,
    labels: _Labels,
) -> tuple[_Body, Tree]:  # fmt: skip
    """Call the step with symbols. Their names are nobody else's: a step may close over symbols of any name."""
    serial = next(_serial)
    kinds = [TensorType(e.value.type.dtype, e.value.shape) for e in starts]
    kinds += [TensorType(e.value.type.dtype, e.value.shape[1:]) for e in rows]
    params = [
        param(f"{label}·{serial}", kind) for label, kind in zip((*labels.carries, *labels.slices), kinds, strict=True)
    ]
    symbols = [wrap(p, *starts, *rows) for p in params]
    with step_symbols(params):
        result = f(unflatten(carry_tree, symbols[: len(starts)]), unflatten(slice_tree, symbols[len(starts) :]))
    if not isinstance(result, tuple) or len(result) != 2:
        shown = f"{len(result)} items" if isinstance(result, (tuple, list)) else type(result).__name__
        raise ArgumentError(f"scan: the step returned {shown}, expected a pair (carry, y); y may be None")
    after, after_tree = flatten(result[0])
    if after_tree != carry_tree:
        raise ArgumentError(
            f"scan: the carry goes into the step as {_nested(carry_tree)} and comes out as {_nested(after_tree)}, "
            "expected the same nesting"
        )
    carries = [_number_like(x, start, label) for x, start, label in zip(after, starts, labels.carries, strict=True)]
    outputs, y_tree = flatten(result[1])
    return _Body(params, carries, [_output(y) for y in outputs]), y_tree


def _number_like(x: Any, start: Any, label: str) -> Any:
    """What the step returns for a carry; a Python number in the dtype of the carry."""
    try:
        after = as_expr(x)
    except DtypeError as error:
        raise DtypeError(f"scan: the carry {label} that the step returns: {error}") from error
    if is_weak(x) and (start.dtype in ("f64", "f32") or start.dtype == after.dtype):
        return wrap(cast_value(after.value, start.value.type.dtype), after)
    return after


def _output(y: Any) -> Any:
    try:
        return as_expr(y)
    except DtypeError as error:
        raise DtypeError(f"scan: the y that the step returns: {error}") from error


def _widened(carries: Sequence[Any], starts: Sequence[Any], after: Sequence[Any]) -> list[Any] | None:
    """The starts with Python numbers in the dtype that the step makes of them; None where they have it."""
    order = ("bool", "i64", "f32", "f64")
    found = [
        start.astype(end.value.type.dtype)
        if is_weak(x) and order.index(end.value.type.dtype) > order.index(start.value.type.dtype) else start
        for x, start, end in zip(carries, starts, after, strict=True)
    ]  # fmt: skip
    return None if all(a is b for a, b in zip(found, starts, strict=True)) else found


def _nested(tree: Tree) -> str:
    """A nesting as a reader would write it, * for every array."""
    if tree.kind == "leaf":
        return "*"
    if tree is NONE or tree.kind == "none":
        return "None"
    parts = [_nested(c) for c in tree.children]
    if tree.kind is dict:
        return "{" + ", ".join(f"{k!r}: {p}" for k, p in zip(tree.keys, parts, strict=True)) + "}"
    if tree.kind is list:
        return f"[{', '.join(parts)}]"
    inside = f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    return inside if tree.kind is tuple else f"{tree.kind.__name__}{inside}"


# -------------------------------------------------------------------- what a step closes over
def _closed(body: _Body, labels: _Labels) -> tuple[Function, list[Value]]:
    """The step as a function of carries, slices and constants; and the constants, values outside of it."""
    results = [e.value for e in (*body.carries, *body.outputs)]
    own: set[Value] = set(body.params)
    inside: list[Value] = []
    order = topological(results)
    for value in order:
        if value not in own and any(a in own for a in value.args):
            own.add(value)
            inside.append(value)
    consts: dict[Value, None] = {}
    outside: dict[Value, None] = {}
    for value in (*[a for v in inside for a in v.args], *results):
        if value not in own:
            outside[value] = None
    rebuilt: dict[Value, None] = {}
    for value in outside:
        chain: list[Value] = []
        while repeats(value) and value not in rebuilt:
            chain.append(value)
            value = value.args[0]
        if value not in rebuilt:
            (rebuilt if value.op.name in PLAIN else consts)[value] = None
        rebuilt.update(dict.fromkeys(reversed(chain)))
    refuse_leaks(consts, "scan")
    names = [_described(v) for v in consts]
    unique = unique_labels([*labels.carries, *labels.slices, *[n.partition("·")[0] for n in names]])
    builder = Builder(OPSET)
    mapping: dict[Value, Value] = {}
    for value, name in zip((*body.params, *consts), unique, strict=True):
        mapping[value] = builder.param(name, TensorType(value.type.dtype, value.shape))
    params = list(mapping.values())
    for value in (*rebuilt, *inside):
        if value not in mapping:
            mapping[value] = builder.remake(value, tuple([mapping[a] for a in value.args]))
    return Function.of(params, [mapping[r] for r in results], "step"), list(consts)


def _described(value: Value) -> str:
    """The name of the symbol that a value is, p_1 for an entry of one; c, or C for a matrix, for any other constant."""
    if value.is_param:
        return value.name
    other = "C" if value.type.rank > 1 else "c"
    part = value.args[0] if value.op.name == "reshape" else value
    if part.op.name != "slice" or not part.args[0].is_param:
        return other
    whole = part.args[0]
    starts = part.attr("starts")  # of the last axes
    axes = zip(starts, part.attr("sizes"), whole.shape[whole.type.rank - len(starts) :], strict=True)
    cut = [(start, size) for start, size, all_of_it in axes if size != all_of_it]
    if not all(size == 1 and isinstance(start, int) for start, size in cut):
        return other
    return "_".join([whole.name, *[str(start) for start, _ in cut]])
