"""The programs that sparse derivatives are made of, from expressions or traced functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symdiff.api.expression import function_of
from symdiff.diff import gradients
from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.expr import Expr
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.dims import format_shape, product
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet
from symdiff.ops import OPSET
from symdiff.simplify import stabilized


def slope(function: Function, wrt: Sequence[int], opset: OpSet = OPSET) -> Function:
    """The gradient of a scalar function, its parts one after the other."""
    if len(function.results) != 1 or function.results[0].type.rank:
        shapes = ", ".join(format_shape(r.shape) for r in function.results)
        raise ShapeError(f"sparse_hessian: the function has shape {shapes}, expected a scalar")
    builder = Builder(opset)
    mapping = stabilized(builder, builder.inline(function), ())
    xs = [mapping[function.params[i]] for i in wrt]
    slopes = gradients(builder, mapping[function.results[0]], xs)
    return flat(Function.of([mapping[p] for p in function.params], slopes, function.name))


def flat(function: Function) -> Function:
    """Several results as one, their elements one after the other."""
    if len(function.results) == 1:
        return function
    builder = Builder(OPSET)
    mapping = builder.inline(function)
    parts: list[Value] = []
    for r in function.results:
        own = Handle(builder, mapping[r])
        parts.append(own.op("reshape", rank=own.rank, shape=(product(own.shape),)).value)
    whole = builder.make(OPSET["concatenate"], tuple(parts), (("axis", -1),))
    return Function.of([mapping[p] for p in function.params], [whole], function.name)


def program(
    ys: Sequence[Expr], xs: Sequence[Expr], order: Sequence[Expr], where: str
) -> tuple[Function, list[int]]:
    for p in order:
        if not isinstance(p, Expr) or not p.value.is_param:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"{where}: given {p!r} as an input, expected a symbol")
    keys = [(p.value.name, p.value.type) for p in order]
    wrt: list[int] = []
    for v in xs:
        key = (v.value.name, v.value.type)
        if key not in keys:
            names = ", ".join(p.value.name for p in order) or "none"
            raise ArgumentError(f"{where}: the variable {v.value.name} is not among the inputs ({names})")
        if keys.index(key) in wrt:
            raise ArgumentError(f"{where}: the variable {v.value.name} is given twice")
        wrt.append(keys.index(key))
    return function_of(ys, order, where), wrt


def symbolic(given: Any, where: str, role: str) -> list[Expr]:
    items: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not items:
        raise ArgumentError(f"{where}: no {role} is given")
    for item in items:
        if not isinstance(item, Expr):
            kind = type(item).__name__
            raise ArgumentError(f"{where}: the {role} is {item!r} of type {kind}, expected a symbolic expression")
    return items
