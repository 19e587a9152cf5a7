"""How ops that move, reduce or solve are written: one rule for each, from a value to its form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from symdiff.ir.dims import Shape
from symdiff.ir.graph import Value
from symdiff.render.forms import Form, Recovery, Rule
from symdiff.render.product import Factor, Product, atom

# An array with more entries is not written out.
MOST_ENTRIES = 100


# -------------------------------------------------------------------- leaves
def _const(r: Recovery, v: Value) -> Form:
    number, shape = v.attr("value"), v.type.shape
    return Form(shape, v.type.dtype, (r.notation.number(number), ()), atom(r.notation.number(number), (), shape))


def _size(r: Recovery, v: Value) -> Form:
    return r.closed(v, r.notation.dimension(v.attr("size")))


# -------------------------------------------------------------------- reductions and structure
_OF_CONDITIONS = {"reduce_max": "any", "reduce_min": "all"}


def _reduction(r: Recovery, v: Value) -> Form:
    """max, min, any, all, norm, logsumexp, softmax, prod, argmax: axes are counted in the core."""
    name = _OF_CONDITIONS.get(v.op.name, v.op.name) if v.type.dtype == "bool" else v.op.name
    rank = v.args[0].type.rank
    attr = v.attr("axes")
    gone = [rank + a for a in (attr if attr is not None else (v.attr("axis"),))]
    node, axes = r.with_axes(v.args[0], gone)
    places = tuple([axes.index(a) for a in gone])
    if v.type.rank == rank:
        made = r.notation.call(name, (node,), node.shape, (places,))
        return r.closed(v, made, axes)
    shape = tuple([s for i, s in enumerate(node.shape) if i not in places])
    made = r.notation.call(name, (node,), shape, (places,))
    left = [x for x in range(rank) if x not in gone]
    return r.closed(v, made, [left.index(x) for x in axes if x not in gone])


def _running(r: Recovery, v: Value) -> Form:
    node = r.whole(v.args[0])
    axis = v.type.rank + v.attr("axis")
    return r.closed(v, r.notation.call("cumsum", (node,), v.type.shape, (axis, v.attr("reverse"))))


def _triangle(r: Recovery, v: Value) -> Form:
    node = r.whole(v.args[0])
    return r.closed(v, r.notation.call(v.op.name, (node,), v.type.shape, (v.attr("k"),)))


def _reshape(r: Recovery, v: Value) -> Form:
    """Axes of size one come and go as broadcasts; only real reshapes are written."""
    core, axes = r.core(v.args[0])
    places = _matched(v.args[0].type.shape, v.type.shape)
    if places is not None and all(a in places for a in axes):
        return r.closed(v, core, [places[a] for a in axes])
    entries = _entries(r, v.args[0])
    if entries is not None:
        return r.closed(v, r.notation.entries(list(entries.flat), v.type.shape))
    node = r.whole(v.args[0])
    return r.closed(v, r.notation.call("reshape", (node,), v.type.shape, (v.type.shape,), own=0))


def _matched(old: Shape, new: Shape) -> dict[int, int] | None:
    """Old axis -> new axis when the shapes differ only by axes of size one."""
    first = [i for i, s in enumerate(old) if s != 1]
    second = [i for i, s in enumerate(new) if s != 1]
    if [old[i] for i in first] != [new[i] for i in second]:
        return None
    return dict(zip(first, second, strict=True))


def _entries(r: Recovery, value: Value) -> Any:
    """The entries of an array of fixed size that is written out or filled with one scalar, else None."""
    sizes = [s for s in value.type.shape if isinstance(s, int)]
    if not 0 < len(sizes) == value.type.rank or not 0 < math.prod(sizes) <= MOST_ENTRIES:
        return None
    node, axes = r.core(value)
    if axes and node.kind != "entries":
        return None
    written = np.empty([s if x in axes else 1 for x, s in enumerate(sizes)], object)
    written.ravel()[:] = node.args if axes else [node]
    return np.broadcast_to(written, sizes)


def _slice(r: Recovery, v: Value) -> Form:
    """A slice of one element is an integer index; its axis is one that broadcasts."""
    node = r.whole(v.args[0])
    lead = v.type.rank - len(v.attr("sizes"))
    index: list[Any] = [None] * lead
    axes = list(range(lead))
    for axis, (start, step, count) in enumerate(zip(v.attr("starts"), v.attr("steps"), v.attr("sizes"), strict=True)):
        size = node.shape[lead + axis]
        whole = start == 0 and step == 1 and count == size
        if count == 1 and not whole:
            index.append(start)
            continue
        axes.append(lead + axis)
        index.append(None if whole else (start, start + step * (count - 1), step, count, size))
    return r.closed(v, r.notation.subscript(node, tuple(index), tuple([v.type.shape[x] for x in axes])), axes)


def _symmetric(r: Recovery, v: Value) -> Form:
    return r.forms[v.args[0]]


def _gather(r: Recovery, v: Value) -> Form:
    node = r.whole(v.args[0])
    at = v.args[0].type.rank + v.attr("axis")
    indices = [r.whole(a) for a in v.args[1:]]
    return r.closed(v, r.notation.subscript(node, (*[None] * at, *indices), v.type.shape))


def _concatenate(r: Recovery, v: Value) -> Form:
    axis = v.type.rank + v.attr("axis")
    written = [_entries(r, a) for a in v.args]
    if all(w is not None for w in written):
        return r.closed(v, r.notation.entries(list(np.concatenate(written, axis).flat), v.type.shape))
    nodes = tuple([r.whole(a) for a in v.args])
    return r.closed(v, r.notation.call("concatenate", nodes, v.type.shape, (axis,)))


def _embed(r: Recovery, v: Value) -> Form:
    """One element among zeros is a product with a unit vector, a row of the identity."""
    (arg,) = v.args
    lead = v.type.rank - len(v.attr("sizes"))
    core, axes = r.core(arg)
    units: list[Factor] = []
    for i, (start, step, size) in enumerate(zip(v.attr("starts"), v.attr("steps"), v.attr("sizes"), strict=True)):
        axis = lead + i
        if arg.type.shape[axis] == size and step == 1:
            continue
        if arg.type.shape[axis] != 1 or axis in axes:
            break
        row = r.notation.subscript(r.notation.eye(size, v.type.dtype), (start, None), (size,))
        units.append(Factor(row, (axis,)))
    else:
        if v.type.floating:
            held = atom(core, axes, v.type.shape)
            product = Product(v.type.rank, (*held.factors, *units), held.sizes, held.coefficient)
            return Form(v.type.shape, v.type.dtype, product=product)
    node = r.whole(arg)
    data = (v.attr("starts"), v.attr("steps"), node.shape, v.type.shape)
    return r.closed(v, r.notation.call("embed", (node,), v.type.shape, data))


def _scatter(r: Recovery, v: Value) -> Form:
    nodes = tuple([r.whole(a) for a in v.args])
    at = v.type.rank + v.attr("axis")
    return r.closed(v, r.notation.call("scatter_add", nodes, v.type.shape, (at, v.attr("sizes"), v.type.dtype)))


def _last_writer(r: Recovery, v: Value) -> Form:
    nodes = tuple([r.whole(a) for a in v.args])
    return r.closed(v, r.notation.call("last_writer", nodes, v.type.shape, (v.attr("sizes"),)))


def _array(r: Recovery, v: Value) -> Form:
    return r.closed(v, r.notation.call("array", (), v.type.shape, (v.attr("value"),)))


def _iota(r: Recovery, v: Value) -> Form:
    return r.closed(v, r.notation.call("iota", (), v.type.shape, (v.attr("size"),)))


# -------------------------------------------------------------------- linear algebra
def _matrix(r: Recovery, v: Value) -> Form:
    """inverse, det, ... of the last two axes."""
    rank = v.args[0].type.rank
    node, axes = r.with_axes(v.args[0], (rank - 2, rank - 1))
    name = v.op.name
    if name == "inverse":
        return r.closed(v, r.notation.inverse(node), axes)
    if v.type.rank == rank:
        return r.closed(v, r.notation.call(name, (node,), node.shape), axes)
    return r.closed(v, r.notation.call(name, (node,), node.shape[:-2]), axes[:-2])


def _solve(r: Recovery, v: Value) -> Form:
    """A right side that is the same in every column is a vector."""
    a, b = v.args
    matrix = r.whole(a)
    data = tuple([x for _, x in v.attrs])
    if a.type.rank == 2 and b.type.rank == 2:
        node, axes = r.with_axes(b, (0,))
    else:
        node, axes = r.whole(b), tuple(range(b.type.rank))
    return r.closed(v, r.notation.call(v.op.name, (matrix, node), node.shape, data), axes)


def _undefined(r: Recovery, v: Value) -> Form:
    nodes = tuple([r.whole(a) for a in v.args])
    return r.closed(v, r.notation.call("functional", nodes, v.type.shape, (v.attr("name"), v.attr("wrt"))))


RULES: Mapping[str, Rule] = {
    "const": _const, "size": _size, "array": _array, "iota": _iota, "reshape": _reshape, "slice": _slice,
    "embed": _embed, "gather": _gather, "scatter_add": _scatter, "last_writer": _last_writer, "cumsum": _running,
    "symmetric": _symmetric,
    "tril": _triangle, "triu": _triangle, "concatenate": _concatenate, "inverse": _matrix, "det": _matrix,
    "logabsdet": _matrix, "signdet": _matrix, "cholesky": _matrix, "solve": _solve, "triangular_solve": _solve,
    "functional": _undefined,
    **dict.fromkeys(
        ("reduce_max", "reduce_min", "logsumexp", "norm", "softmax", "reduce_prod", "prod_others", "argmax", "argmin"),
        _reduction,
    ),
}  # fmt: skip
