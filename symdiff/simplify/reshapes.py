"""Reshapes that merge or split axes: they move outside of products, and vanish where indices can be split instead.

A reshape is kept where it merges axes that something needs apart: the Kronecker product is one, around an outer
product of two matrices. Sums over merged axes become sums over their parts, a split axis that only deltas or merged
axes have is split in them, and the inverse and determinant of a Kronecker product are those of its factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symdiff.ir.dims import Size
from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify.exact import size_factors
from symdiff.simplify.products import product, scaled
from symdiff.simplify.sums import labels_of, plus
from symdiff.simplify.views import Context, Factor, Labels, Number, Product, Work
from symdiff.simplify.whole import remember_determinant

Blocks = list[tuple[tuple[int, ...], tuple[int, ...]]]


def blocks(old: Sequence[Size], new: Sequence[Size]) -> Blocks | None:
    """Axes of `old` and the axes of `new` they become, group by group, where one of both is a single axis."""
    found: Blocks = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, second = i + 1, j + 1
        whole, part = old[i], new[j]
        if whole != part:
            first, merged = _reach(old, i, part)
            if not merged:
                second, split = _reach(new, j, whole)
                if not split:
                    return None
                first = i + 1
        found.append((tuple(range(i, first)), tuple(range(j, second))))
        i, j = first, second
    return found if i == len(old) and j == len(new) else None


def _reach(shape: Sequence[Size], start: int, wanted: Size) -> tuple[int, bool]:
    """(end, True) for axes from `start` whose product is `wanted`."""
    whole: Size = 1
    for end in range(start, len(shape)):
        whole = whole * shape[end]
        if whole == wanted:
            return end + 1, True
    return start, False


def merged_axes(value: Value) -> dict[int, tuple[int, ...]]:
    """For a reshape: axis of the result -> axes of the operand that it merges, where it merges more than one."""
    pairs = blocks(value.args[0].shape, value.shape)
    if pairs is None or any(len(new) != 1 for _, new in pairs):
        return {}
    return {new[0]: old for old, new in pairs if len(old) > 1}


def _split_sizes(factor: Factor, axis: int) -> tuple[Size, ...]:
    """Sizes of the axes that a reshaped factor merged into one of its axes; empty when it merged none."""
    if factor.base.op.name != "reshape" or factor.power != 1:
        return ()
    return tuple([factor.base.args[0].shape[a] for a in merged_axes(factor.base).get(axis, ())])


def _split_axes(ctx: Context, factor: Factor, places: Mapping[int, Labels]) -> Factor:
    """A reshaped factor with the axes that it merged into those of some labels left apart, under the given labels."""
    merged = merged_axes(factor.base)
    inner = factor.base.args[0]
    shape: list[Size] = []
    labels: list[int] = []
    for k, x in enumerate(factor.labels):
        if x in places:
            shape += [inner.shape[a] for a in merged[k]]
            labels += places[x]
        else:
            shape.append(factor.base.shape[k])
            labels.append(x)
    if tuple(shape) == inner.shape:
        return Factor(inner, 1, tuple(labels))
    return Factor(_reshaped(ctx, inner, shape), 1, tuple(labels))


def _splits(factors: Sequence[Factor], label: int) -> set[tuple[Size, ...]]:
    """How the factors that have a label would split it; an empty tuple for one that cannot."""
    return {_split_sizes(f, k) for f in factors for k, x in enumerate(f.labels) if x == label}


# -------------------------------------------------------------------- identities of products
def sums_over_parts(ctx: Context, work: Work) -> str:
    """A sum over an axis that every factor with it merged from the same axes is a sum over those."""
    summed = {x for f in work.factors if f.base.op.name == "reshape" for x in f.labels if x not in work.output}
    for label in sorted(summed):
        ways = _splits(work.factors, label)
        sizes = next(iter(ways))
        if len(ways) > 1 or not sizes:
            continue
        first = ctx.fresh(len(sizes))
        split = tuple(range(first, first + len(sizes)))
        work.sizes.pop(label)
        work.sizes.update(zip(split, sizes, strict=True))
        work.factors = [_split_axes(ctx, f, {label: split}) if label in f.labels else f for f in work.factors]
        return "a sum over merged axes"
    return ""


def reshape_outside(ctx: Context, work: Work) -> str:
    """Other factors and permutations go inside a reshape whose merged axes only the output has."""
    for f in work.factors:
        merged = merged_axes(f.base) if f.base.op.name == "reshape" and f.power == 1 else {}
        outer = {f.labels[k] for k in merged}
        others = [g for g in work.factors if g is not f]
        if not merged or not all(work.uses(x) == 1 and work.output.count(x) == 1 for x in outer):
            continue
        if not any(g.labels for g in others) and tuple(work.output) == f.labels:
            continue
        sizes = dict(work.sizes)
        places: dict[int, Labels] = {}
        for k, axes in merged.items():
            first = ctx.fresh(len(axes))
            places[f.labels[k]] = split = tuple(range(first, first + len(axes)))
            sizes.pop(f.labels[k])
            sizes.update(zip(split, [f.base.args[0].shape[a] for a in axes], strict=True))
        output = [y for x in work.output for y in places.get(x, (x,))]
        inner = product(ctx, 1, [_split_axes(ctx, f, places), *others], output, sizes, work.dtype)
        shape = tuple([work.sizes[x] for x in work.output])
        made = _reshaped(ctx, inner, shape)
        fresh = ctx.fresh(len(shape))
        labels = tuple(range(fresh, fresh + len(shape)))
        work.factors, work.output, work.sizes = [Factor(made, 1, labels)], list(labels), dict(enumerate(shape, fresh))
        return "a reshape moves outside"
    return ""


# -------------------------------------------------------------------- the normal form
def make_reshape(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """Axes of size 1 come and go by contraction; others are split in what has them, if that can be."""
    (x,) = args
    named: dict[str, Any] = dict(attrs)
    lead = x.type.rank - named["rank"]
    shape = (*x.shape[:lead], *named["shape"])
    if x.op.name == "const":
        return ctx.const(x.attr("value"), shape, x.type.dtype)
    kept = [k for k, s in enumerate(x.shape) if s != 1]
    if [x.shape[k] for k in kept] == [s for s in shape if s != 1]:
        return _with_ones(ctx, x, shape, kept)
    number, rest = ctx.split(x)
    if number != 1:
        return scaled(ctx, number, _reshaped(ctx, rest, shape))
    if x.op.name == "reshape":
        return _reshaped(ctx, x.args[0], shape)
    found = _split(ctx, x, shape)
    if found is not None:
        return found
    return ctx.plain("reshape", args, (("rank", x.type.rank), ("shape", shape)))


def _reshaped(ctx: Context, value: Value, shape: Sequence[Size]) -> Value:
    return ctx.make("reshape", (value,), (("rank", value.type.rank), ("shape", tuple(shape))))


def _with_ones(ctx: Context, x: Value, shape: Sequence[Size], kept: Sequence[int]) -> Value:
    order = iter(kept)
    output = [next(order) if s != 1 else x.type.rank + k for k, s in enumerate(shape)]
    sizes = dict(enumerate(x.shape)) | {label: shape[k] for k, label in enumerate(output) if label >= x.type.rank}
    return product(ctx, 1, [Factor(x, 1, labels_of(x))], output, sizes, x.type.dtype)


def _split(ctx: Context, x: Value, shape: Sequence[Size]) -> Value | None:
    """A reshape of a product, or of every term of a sum, with the axes it splits split inside."""
    pairs = blocks(x.shape, shape)
    ways = {old[0]: tuple([shape[j] for j in new]) for old, new in pairs or () if len(new) > 1}
    if not ways:
        return None
    terms: list[tuple[Number, Value]] = []
    for number, term in ctx.terms(x):
        made = _split_product(ctx, ctx.view(term), ways, shape, x.type.dtype)
        if made is None:
            return None
        terms.append((number, made))
    return plus(ctx, terms)


def _split_product(
    ctx: Context, view: Product, ways: Mapping[int, tuple[Size, ...]], shape: Sequence[Size], dtype: str
) -> Value | None:
    """Labels that no factor has, or only factors that merged them, in parts wherever they stand."""
    sizes = dict(view.sizes)
    factors = list(view.factors)
    places: dict[int, Labels] = {}
    for axis, parts in ways.items():
        label = view.output[axis]
        if label in places:
            if tuple([sizes[y] for y in places[label]]) != parts:
                return None
            continue
        if _splits(factors, label) - {parts}:
            return None
        first = ctx.fresh(len(parts))
        places[label] = split = tuple(range(first, first + len(parts)))
        sizes.pop(label)
        sizes.update(zip(split, parts, strict=True))
        factors = [_split_axes(ctx, f, {label: split}) if label in f.labels else f for f in factors]
    output = [y for x in view.output for y in places.get(x, (x,))]
    inner = product(ctx, view.coefficient, factors, output, sizes, dtype)
    if inner.shape == tuple(shape):
        return inner
    return _reshaped(ctx, inner, shape)


# -------------------------------------------------------------------- Kronecker products
def kronecker_factors(ctx: Context, x: Value) -> list[tuple[Value | None, Size]] | None:
    """(square matrix or None for an identity, its size) of each factor of a Kronecker product of square matrices."""
    if x.op.name != "reshape" or x.type.rank != 2:
        return None
    merged = merged_axes(x)
    view = ctx.view(x.args[0])
    count = len(view.output) // 2
    if merged != {0: tuple(range(count)), 1: tuple(range(count, 2 * count))} or view.coefficient != 1:
        return None
    left = list(view.factors)
    found: list[tuple[Value | None, Size]] = []
    for row, column in zip(view.output[:count], view.output[count:], strict=True):
        size = view.sizes[row]
        if size != view.sizes[column]:
            return None
        if row == column:
            found.append((None, size))
            continue
        own = [f for f in left if row in f.labels]
        if len(own) != 1 or own[0].power != 1 or sorted(own[0].labels) != sorted((row, column)):
            return None
        left.remove(own[0])
        found.append((product(ctx, 1, own, (row, column), {row: size, column: size}, x.type.dtype), size))
    return None if left else found


def kronecker(ctx: Context, parts: Sequence[tuple[Value | None, Size]], like: Value) -> Value:
    """The Kronecker product of matrices, None for identities."""
    count = len(parts)
    factors = [Factor(m, 1, (k, count + k)) for k, (m, _) in enumerate(parts) if m is not None]
    output = [*range(count), *[k if m is None else count + k for k, (m, _) in enumerate(parts)]]
    sizes = {label: parts[label % count][1] for label in output}
    inner = product(ctx, 1, factors, output, sizes, like.type.dtype)
    return _reshaped(ctx, inner, like.shape)


def kronecker_determinant(ctx: Context, name: str, x: Value, parts: Sequence[tuple[Value | None, Size]]) -> Value:
    """det(A x B) = det(A)^n det(B)^m for A of size m and B of size n, and its logarithm; `x` is the product itself."""
    dtype = x.type.dtype
    terms: list[Value] = []
    for k, (matrix, _) in enumerate(parts):
        if matrix is None:
            continue
        number: Number = 1
        counted: list[Factor] = []
        for j, (_, size) in enumerate(parts):
            if j != k:
                own, more = size_factors(ctx, size, dtype)
                number, counted = number * own, [*counted, *more]
        times = product(ctx, number, counted, (), {}, dtype)
        own_value = ctx.make(name, (matrix,))
        pair = (own_value, times)
        terms.append(ctx.make("pow", pair) if name == "det" else ctx.make("mul", pair))
    if name == "logabsdet":
        return plus(ctx, [(1, t) for t in terms])
    remember_determinant(ctx, name, x, terms)
    return product(ctx, 1, [Factor(t, 1, ()) for t in terms], (), {}, dtype)


PASSES = (sums_over_parts, reshape_outside)
