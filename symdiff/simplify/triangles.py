"""Triangles and running sums by a triangle of ones: tril(X) = L * X elementwise, cumsum(x) = L @ x.

So they merge, factor and transpose like any other factor. `mask` is L, one constant value for each shape and diagonal;
`finish` brings the two ops back around what L multiplies.
"""

from __future__ import annotations

from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify.products import product
from symdiff.simplify.sums import labels_of
from symdiff.simplify.views import Context, Factor, Handler, Work, number_in


def is_mask(value: Value) -> bool:
    """A triangle of ones."""
    return value.op.name == "tril" and number_in(value.args[0]) == 1


def make_triangle(name: str) -> Handler:
    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        (x,) = args
        k = attrs[0][1]
        labels = labels_of(x)
        sizes = dict(enumerate(x.shape))
        rows, columns = labels[-2:]
        if name == "triu":
            k, rows, columns = -k, columns, rows
        dtype = x.type.dtype
        ones = ctx.const(1, (sizes[rows], sizes[columns]), dtype)
        mask = Factor(ctx.plain("tril", (ones,), (("k", k),)), 1, (rows, columns))
        return product(ctx, 1, [Factor(x, 1, labels), mask], labels, sizes, dtype)

    return make


def make_cumsum(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    (x,) = args
    named = dict(attrs)
    if not x.type.floating:
        return ctx.plain("cumsum", args, attrs)
    labels = labels_of(x)
    axis = len(labels) + named["axis"]
    size = x.shape[axis]
    new = len(labels)
    mask = ctx.plain("tril", (ctx.const(1, (size, size), x.type.dtype),), (("k", 0),))
    places = (axis, new) if named["reverse"] else (new, axis)
    output = [new if k == axis else k for k in labels]
    sizes = {**dict(enumerate(x.shape)), new: size}
    return product(ctx, 1, [Factor(x, 1, labels), Factor(mask, 1, places)], output, sizes, x.type.dtype)


def triangles_meet(ctx: Context, work: Work) -> str:
    """Triangles of ones at the same two labels: one of them, a diagonal, or nothing."""
    masks = [f for f in work.factors if is_mask(f.base) and isinstance(f.power, int) and f.power > 0]
    for i, f in enumerate(masks):
        k = f.base.attr("k")
        if not isinstance(k, int):
            continue
        if f.labels[0] == f.labels[1]:
            work.replace([f], [])
            if k < 0:
                work.coefficient = 0
            return "the diagonal of a triangle"
        if f.power > 1:
            work.replace([f], [f._replace(power=1)])
            return "a triangle of ones to a power"
        for g in masks[i + 1 :]:
            other = g.base.attr("k")
            if not isinstance(other, int):
                continue
            if g.labels == f.labels:
                work.replace([g if k <= other else f], [])
                return "a triangle in another"
            if g.labels == f.labels[::-1] and k == other == 0:
                work.replace([f, g], [])
                work.join(*sorted(f.labels, key=lambda x: x not in work.output))
                return "where two triangles meet"
    return ""


PASSES = (triangles_meet,)
