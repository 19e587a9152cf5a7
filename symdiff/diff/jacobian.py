"""Generalized Jacobians of any rank from the two sweeps and by elimination, and directional products.

The Jacobian of y (shape M) with respect to x (shape N) has shape M + N, entry [i, j] = dy_i / dx_j with multi-indices.
Both sweeps start from an identity that is only labels. Everything here is derivative as it falls out of the rules;
simplifying is another stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from symdiff.diff.elimination import eliminate
from symdiff.diff.forward import forward
from symdiff.diff.reverse import reverse
from symdiff.errors import ArgumentError, DerivativeError, ShapeError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import identity, permute
from symdiff.ir.dims import Shape, format_shape, product
from symdiff.ir.graph import Value, topological
from symdiff.ir.path import nominal

Mode: TypeAlias = Literal["forward", "reverse", "elimination"]
MODES: tuple[Mode, ...] = ("forward", "reverse", "elimination")


SEARCHED = 1000
"""Instructions up to which an order of elimination is searched."""


def _check_floating(value: Value, role: str) -> None:
    if not value.type.floating:
        name = f" {value.name}" if value.is_param else ""
        raise DerivativeError(f"{role}{name} has dtype {value.type.dtype}: only floats have derivatives")


def jacobians(
    builder: Builder, ys: Sequence[Value], xs: Sequence[Value], mode: Mode = "reverse",
    points: Sequence[Mapping[str, int]] | None = None,
) -> list[list[Value]]:  # fmt: skip
    """[[dy/dx for x in xs] for y in ys], each of shape y.shape + x.shape. Variables without influence give zeros.

    points: sizes of the named dimensions that mode "elimination" chooses its order for. A program of more than
    `SEARCHED` instructions, or with loops, is swept in that mode too, in the direction with fewer seeds: every sweep is
    an order.
    """
    for y in ys:
        _check_floating(y, "the function")
    for x in xs:
        _check_floating(x, "the variable")
    if mode == "elimination" and _swept(topological(ys)):
        into, out = (sum(nominal(product(v.shape)) for v in vs) for vs in (xs, ys))
        mode = "forward" if into < out else "reverse"
    if mode == "reverse":
        rows = [
            reverse(builder, [(y, Handle(builder, identity(builder, y.shape, y.type.dtype)))], xs) for y in ys
        ]
        return [
            [_or_zero(builder, ct, y.shape + x.shape, y.type.dtype) for ct, x in zip(row, xs, strict=True)]
            for row, y in zip(rows, ys, strict=True)
        ]
    if mode == "elimination":
        found = eliminate(builder, ys, xs, points)
        return [
            [builder.const(0, y.shape + x.shape, y.type.dtype) if d is None else _typed(builder, d, y.type.dtype)
             for d, x in zip(row, xs, strict=True)]
            for row, y in zip(found, ys, strict=True)
        ]  # fmt: skip
    if mode != "forward":
        raise ArgumentError(f"mode {mode!r}: expected 'forward', 'reverse' or 'elimination'")
    columns: list[list[Value]] = []
    for x in xs:
        seed = Handle(builder, identity(builder, x.shape, x.type.dtype))
        tangents = forward(builder, ys, {x: seed}, x.type.rank)
        columns.append([_trailing(builder, t, x, y) for t, y in zip(tangents, ys, strict=True)])
    return [[column[i] for column in columns] for i in range(len(ys))]


def _swept(order: Sequence[Value]) -> bool:
    return len(order) > SEARCHED or any(v.op.picks for v in order)


def _trailing(builder: Builder, tangent: Handle | None, x: Value, y: Value) -> Value:
    """Move the seed axes behind the output axes."""
    if tangent is None:
        return builder.const(0, y.shape + x.shape, y.type.dtype)
    return permute(tangent, [*range(x.type.rank, tangent.rank), *range(x.type.rank)]).value


def _typed(builder: Builder, value: Value, dtype: str) -> Value:
    return value if value.type.dtype == dtype else Handle(builder, value).op("cast", dtype=dtype).value


def _or_zero(builder: Builder, cotangent: Handle | None, shape: Shape, dtype: str) -> Value:
    return builder.const(0, shape, dtype) if cotangent is None else cotangent.value


def gradients(
    builder: Builder, y: Value, xs: Sequence[Value], mode: Mode = "reverse",
    points: Sequence[Mapping[str, int]] | None = None,
) -> list[Value]:  # fmt: skip
    """Gradients of one scalar in several variables, from one reverse sweep (or one push per variable)."""
    if y.type.rank:
        raise ShapeError(
            f"gradient: the function has shape {format_shape(y.shape)}, expected a scalar; "
            "use jacobian for functions with several values"
        )
    return jacobians(builder, [y], xs, mode, points)[0]


def push_forward(builder: Builder, ys: Sequence[Value], xs: Sequence[Value], tangents: Sequence[Value]) -> list[Value]:
    """Jacobian-vector products: the directional derivatives of ys along `tangents` (shapes of xs)."""
    seeds: dict[Value, Handle] = {}
    for x, t in zip(xs, tangents, strict=True):
        _check_floating(x, "the variable")
        if t.shape != x.shape:
            raise ShapeError(f"jvp: tangent of shape {format_shape(t.shape)}, expected {format_shape(x.shape)}")
        seeds[x] = Handle(builder, t)
    moved = forward(builder, ys, seeds, 0)
    return [_or_zero(builder, t, y.shape, y.type.dtype) for t, y in zip(moved, ys, strict=True)]


def pull_back(builder: Builder, ys: Sequence[Value], xs: Sequence[Value], cotangents: Sequence[Value]) -> list[Value]:
    """Vector-Jacobian products: cotangents of xs from `cotangents` (shapes of ys), by one sweep."""
    for y, c in zip(ys, cotangents, strict=True):
        _check_floating(y, "the function")
        if c.shape != y.shape:
            raise ShapeError(f"vjp: cotangent of shape {format_shape(c.shape)}, expected {format_shape(y.shape)}")
    for x in xs:
        _check_floating(x, "the variable")
    pulled = reverse(builder, [(y, Handle(builder, c)) for y, c in zip(ys, cotangents, strict=True)], xs)
    return [_or_zero(builder, c, x.shape, x.type.dtype) for c, x in zip(pulled, xs, strict=True)]
