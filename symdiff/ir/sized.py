"""A Function at given sizes: some of its named dimensions become numbers, in its types, attributes and loop bodies.

Gives an equal Function of fewer dimensions. Raises `ShapeError` where an instruction does not exist at these sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symdiff.errors import ShapeError
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Dim, Shape
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet
from symdiff.ir.types import TensorType


def at_sizes(function: Function, sizes: Mapping[str, int], opset: OpSet) -> Function:
    """`function` with numbers in place of the dimensions in `sizes`; the others stay names."""
    done: dict[int, Function] = {}
    way = [function]
    while way:  # bodies before what holds them
        held = [f for v in way[-1].instrs for _, f in v.attrs if isinstance(f, Function) and id(f) not in done]
        if held:
            way += held
            continue
        own = way.pop()
        if id(own) not in done:
            done[id(own)] = _rebuilt(own, sizes, opset, done)
    return done[id(function)]


def _rebuilt(function: Function, sizes: Mapping[str, int], opset: OpSet, bodies: Mapping[int, Function]) -> Function:
    """A function whose bodies are done."""
    builder = Builder(opset)
    made: dict[Value, Value] = {}
    for p in function.params:
        kind = p.type
        made[p] = builder.param(p.name, TensorType(kind.dtype, _shape(kind.shape, sizes), kind.facts))
    for value in function.instrs:
        attrs = tuple([(name, _attribute(a, sizes, bodies)) for name, a in value.attrs])
        made[value] = builder.make(value.op, tuple([made[a] for a in value.args]), attrs)
    for r in function.results:
        if made[r].shape != _shape(r.shape, sizes):
            raise ShapeError(f"{function.name}: a result of shape {r.shape} has {made[r].shape} at sizes {dict(sizes)}")
    return Function.of([made[p] for p in function.params], [made[r] for r in function.results], function.name)


def _shape(shape: Shape, sizes: Mapping[str, int]) -> Shape:
    return tuple([s.substitute(sizes) if isinstance(s, Dim) else s for s in shape])


def _attribute(attribute: Any, sizes: Mapping[str, int], bodies: Mapping[int, Function]) -> Any:
    if isinstance(attribute, Dim):
        return attribute.substitute(sizes)
    if isinstance(attribute, tuple):
        return tuple([_attribute(a, sizes, bodies) for a in attribute])  # pyright: ignore[reportUnknownVariableType]
    return bodies[id(attribute)] if isinstance(attribute, Function) else attribute
