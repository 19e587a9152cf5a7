"""Batching: a Function on one example becomes a Function on a stack of them, a leading axis on every mapped value.

Every op passes leading axes of its first operand along, so most instructions are applied as they are; the cases below
are those where several operands must agree, or where an index itself is batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symdiff.errors import UnsupportedError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract, expand, parse_spec, permute, spread
from symdiff.ir.dims import Size, product
from symdiff.ir.graph import Function, Value, loop_key
from symdiff.ir.types import TensorType


def batch(
    builder: Builder, function: Function, args: Sequence[Value], mapped: Sequence[bool], size: Size
) -> list[tuple[Value, bool]]:
    """Apply `function` to `args`, of which those `mapped` carry a leading axis of `size`.

    Returns each result with whether it is batched (a result that depends on no mapped argument is not).
    """
    done: dict[Value, tuple[Value, bool]] = {
        p: (a, m) for p, a, m in zip(function.params, args, mapped, strict=True)
    }
    loops: dict[Any, Callable[[int], tuple[Value, bool]]] = {}
    for value in function.instrs:
        operands = [done[a] for a in value.args]
        if value.op.picks and any(m for _, m in operands):
            if (key := loop_key(value)) not in loops:
                loops[key] = _loop(builder, value, operands, size)
            done[value] = loops[key](value.attr("pick"))
        elif any(m for _, m in operands):
            done[value] = (_batched(builder, value, operands, size), True)
        else:
            done[value] = (builder.remake(value, tuple([v for v, _ in operands])), False)
    return [done[r] for r in function.results]


def _loop(
    builder: Builder, value: Value, operands: list[tuple[Value, bool]], size: Size
) -> Callable[[int], tuple[Value, bool]]:
    """A loop whose body is batched; a carry is a batch once one step makes it one."""
    body: Function = value.attr("body")
    count, slices = value.attr("carries"), value.attr("slices")
    mapped = [m for _, m in operands]
    while True:
        work = Builder(builder.opset)
        params = [
            work.param(p.name, TensorType(p.type.dtype, (size, *p.shape) if m else p.shape))
            for p, m in zip(body.params, mapped, strict=True)
        ]
        results = batch(work, body, params, mapped, size)
        more = [m or after for m, (_, after) in zip(mapped, results[:count], strict=False)] + mapped[count:]
        if more == mapped:
            break
        mapped = more
    after = [_filled(work, v, m, size) if own else v for (v, m), own in zip(results[:count], mapped, strict=False)]
    function = Function.of(params, [*after, *[v for v, _ in results[count:]]], body.name)
    args: list[Value] = []
    for place, ((v, own), m) in enumerate(zip(operands, mapped, strict=True)):
        if place < count:
            args.append(_filled(builder, v, own, size) if m else v)
        else:
            args.append(_moved(Handle(builder, v), 0, 1).value if own and place < count + slices else v)
    attrs = {**dict(value.attrs), "body": function}
    batched = [*mapped[:count], *mapped[:count], *[m for _, m in results[count:]]]

    def pick(k: int) -> tuple[Value, bool]:
        made = builder.make(value.op, tuple(args), tuple(sorted({**attrs, "pick": k}.items())))
        if batched[k] and k >= count:
            made = _moved(Handle(builder, made), 1, 0).value
        return made, batched[k]

    return pick


def _batched(builder: Builder, value: Value, operands: list[tuple[Value, bool]], size: Size) -> Value:
    name = value.op.name
    if value.op.elementwise or name == "concatenate":
        return builder.make(value.op, tuple([_filled(builder, v, m, size) for v, m in operands]), value.attrs)
    if name == "contract":
        return _contract(builder, value, operands)
    if name in ("gather", "scatter_add") and any(m for _, m in operands[1:]):
        return _indexed(builder, value, operands, size)
    if name == "last_writer":
        return _writer(builder, value, operands, size)
    if name in ("solve", "triangular_solve") and operands[0][1]:
        right = _filled(builder, *operands[1], size)
        # A matrix shared by stacked right sides is spread over the stack, behind the batch axis.
        matrix = Handle(builder, operands[0][0])
        beside = range(1 - right.type.rank, 1 - matrix.rank)
        operands = [(spread(matrix, beside, right.shape).value, True), (right, True)]
    elif name == "functional":
        raise UnsupportedError(f"vmap: the undefined function {value.attr('name')} of whole tensors cannot be batched")
    return builder.make(value.op, tuple([v for v, _ in operands]), value.attrs)


def _filled(builder: Builder, value: Value, mapped: bool, size: Size) -> Value:
    return value if mapped else expand(Handle(builder, value), (size, *value.shape)).value


def _contract(builder: Builder, value: Value, operands: list[tuple[Value, bool]]) -> Value:
    spec = parse_spec(value.attr("spec"))
    new = 1 + max((x for labels in (*spec.operands, spec.output) for x in labels), default=-1)
    labels = [(new, *own) if mapped else own for own, (_, mapped) in zip(spec.operands, operands, strict=True)]
    sizes = dict(zip(spec.free, value.attr("sizes", ()), strict=True))
    return contract(builder, [v for v, _ in operands], labels, (new, *spec.output), sizes)


def _moved(x: Handle, source: int, target: int) -> Handle:
    """Axis `source` moved to place `target` (both from the front)."""
    order = [i for i in range(x.rank) if i != source]
    order.insert(target, source)
    return permute(x, order)


def _examples(builder: Builder, size: Size, like: Handle) -> Handle:
    """The number of the example at every place of a batched index array."""
    iota = builder.make(builder.opset["iota"], (), (("size", size),))
    sizes = dict(enumerate(like.shape))
    return Handle(builder, contract(builder, [iota], [(0,)], tuple(range(like.rank)), sizes))


def _indexed(builder: Builder, value: Value, operands: list[tuple[Value, bool]], size: Size) -> Value:
    """gather and scatter_add with batched indices: the example number becomes one more index."""
    first, first_mapped = operands[0]
    indices = [Handle(builder, _filled(builder, v, m, size)) for v, m in operands[1:]]
    axis = value.attr("axis")
    if value.op.name == "gather" and not first_mapped:
        at = first.type.rank + axis
        result = Handle(builder, first).op("gather", *indices, axis=axis)
        return _moved(result, at, 0).value
    source = Handle(builder, _filled(builder, first, first_mapped, size))
    own = value.args[0].type.rank
    if value.op.name == "gather":
        at = own + axis
        moved = _moved(source, 0, at)
        result = moved.op("gather", _examples(builder, size, indices[0]), *indices, axis=axis - 1)
        return _moved(result, at, 0).value
    sizes = value.attr("sizes")
    at = own - (-axis - len(sizes)) - (indices[0].rank - 1)
    moved = _moved(source, 0, at)
    result = moved.op(
        "scatter_add", _examples(builder, size, indices[0]), *indices, axis=axis - 1, sizes=(size, *sizes)
    )
    return _moved(result, at, 0).value


def _writer(builder: Builder, value: Value, operands: list[tuple[Value, bool]], size: Size) -> Value:
    indices = [Handle(builder, _filled(builder, v, m, size)) for v, m in operands]
    numbers = _examples(builder, size, indices[0])
    found = numbers.op("last_writer", *indices, sizes=(size, *value.attr("sizes")))
    # Numbers run over the whole batch; within its example each is the remainder.
    number = product(value.args[0].shape)
    count = Handle(builder, builder.make(builder.opset["size"], (), (("dtype", "i64"), ("size", number))))
    inside = found.op("mod", expand(count, found.shape))
    return found.op("lt", 0).op("select", found, inside).value
