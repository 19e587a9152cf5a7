"""Reductions that are not sums: max, min, prod, argmax, logsumexp, softmax, norm. Axes count from the end, rising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError
from symdiff.ir.builder import Handle
from symdiff.ir.contraction import einsum, expand, spread, sum_over, times
from symdiff.ir.op import Attrs, Kink, NoDerivative, Op, Rules, Sample
from symdiff.ir.types import TensorType
from symdiff.later import later
from symdiff.ops.helpers import ANY, FLOATS, as_float, axes_in, choose

special = later("scipy.special")

Axes = tuple[int, ...]
_EVEN = "split evenly among the entries that attain it"


def _reduced(name: str, allowed: frozenset[str]) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        kind, axes = types[0], attrs["axes"]
        axes_in(name, kind, axes)
        if kind.dtype not in allowed:
            raise DtypeError(f"{name}: dtype {kind.dtype}, expected {' or '.join(sorted(allowed))}")
        return TensorType(kind.dtype, tuple(s for i, s in enumerate(kind.shape) if i - kind.rank not in axes))

    return infer


def _draw(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    return [((rng.normal(size=(2, 3, 4)),), {"axes": a}) for a in ((-1,), (-2,), (-3, -1))]


def _weighing(weights: Callable[[Handle, Handle, Axes], Handle]) -> Rules:
    """The rule of a reduction whose derivative is a weighted sum: dy = sum(weights * dx)."""

    def jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle, ...], axes: Axes) -> Handle:
        return sum_over(times(weights(y, xs[0], axes), dxs[0]), axes)

    def vjp(ct: Handle, y: Handle, x: Handle, axes: Axes) -> tuple[Handle]:
        return (times(spread(ct, axes, x.shape), weights(y, x, axes)),)

    return Rules(jvp, vjp)


def _weighted(name: str, evaluate: Callable[..., Any], latex: str, kink: Kink | None, weights: Any) -> Op:
    return Op(name, _reduced(name, FLOATS), evaluate, _weighing(weights), arity=1, latex=latex, kink=kink,
              sample=Sample(draw=_draw), cost="transcendental")  # fmt: skip


def _evenly(y: Handle, x: Handle, axes: Axes) -> Handle:
    """1/k at each of the k entries equal to the maximum."""
    hit = as_float(x.op("eq", spread(y, axes, x.shape)), x.dtype)
    return hit / spread(sum_over(hit, axes), axes, x.shape)


def _firstly(y: Handle, x: Handle, axes: Axes) -> Handle:
    """1 at the first of the entries equal to the maximum, in row-major order."""
    hit = as_float(x.op("eq", spread(y, axes, x.shape)), x.dtype)
    for i in range(len(axes), 0, -1):  # the first within the last axis, then the first of those that have one, ...
        inner = axes[i:]
        found = sum_over(hit, inner) if inner else hit
        first = as_float(found.op("cumsum", axis=axes[i - 1] + len(inner), reverse=False).op("eq", 1), x.dtype)
        hit = times(hit, spread(first, inner, x.shape) if inner else first)
    return hit


def _extreme(name: str, evaluate: Callable[..., Any], latex: str) -> Op:
    kink = Kink("ties", _EVEN, _weighing, {"even": _evenly, "first": _firstly})
    return Op(name, _reduced(name, ANY), evaluate, _weighing(_evenly), arity=1, latex=latex, kink=kink,
              sample=Sample(draw=_draw), cost="compare")  # fmt: skip


def _chosen(extreme: Any, logic: Any) -> Callable[..., Any]:
    """Over nothing there is no extremum, but any() and all() are, and no results need none."""

    def evaluate(x: Any, axes: Axes) -> Any:
        if np.asarray(x).dtype == bool:
            return logic(x, axis=axes)
        kept = [s for i, s in enumerate(np.shape(x)) if i - np.ndim(x) not in axes]
        return extreme(x, axis=axes) if all(kept) else np.zeros(kept, np.asarray(x).dtype)

    return evaluate


reduce_max = _extreme("reduce_max", _chosen(np.max, np.any), r"\max {0}")
reduce_min = _extreme("reduce_min", _chosen(np.min, np.all), r"\min {0}")


def _logsumexp(x: Any, axes: Axes) -> Any:
    if np.iscomplexobj(x):
        top = np.max(np.real(x), axis=axes, keepdims=True)
        return np.squeeze(top, axes) + np.log(np.sum(np.exp(x - top), axis=axes))
    if any(np.shape(x)[a] == 0 for a in axes):
        return np.full(np.sum(x, axis=axes).shape, -np.inf, np.asarray(x).dtype)
    return np.asarray(special.logsumexp(x, axis=axes), np.asarray(x).dtype)


logsumexp = _weighted("logsumexp", _logsumexp, r"\operatorname{{logsumexp}}({0})", None,
                      lambda y, x, axes: softmax(x, axes=axes))  # fmt: skip


def _unit(y: Handle, x: Handle, axes: Axes) -> Handle:
    zero = y.op("eq", 0)
    safe = choose(zero, 1, y)
    return x / spread(safe, axes, x.shape)


def _norm(x: Any, axes: Axes) -> Any:
    if np.iscomplexobj(x):
        return np.sqrt(np.sum(x * x, axis=axes))  # the analytic continuation, for the complex step
    return np.sqrt(np.sum(np.square(x), axis=axes))


norm = _weighted("norm", _norm, r"\lVert {0} \rVert", Kink("x = 0", "0"), _unit)


def _softmax_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    axes_in("softmax", types[0], attrs["axes"])
    if types[0].dtype not in FLOATS:
        raise DtypeError(f"softmax: dtype {types[0].dtype}, expected f64 or f32")
    return TensorType(types[0].dtype, types[0].shape)


def _softmax(x: Any, axes: Axes) -> Any:
    if np.size(x) == 0:
        return np.array(x)
    e = np.exp(x - np.max(np.real(x), axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)


def _softmax_tangent(y: Handle, dx: Handle, axes: Axes) -> Handle:
    inner = sum_over(times(y, dx), axes)
    return times(y, dx - spread(inner, axes, y.shape))


softmax = Op(
    "softmax", _softmax_infer, _softmax,
    Rules(lambda y, xs, dxs, axes: _softmax_tangent(y, dxs[0], axes),
          lambda ct, y, x, axes: (_softmax_tangent(y, ct, axes),)),
    arity=1, latex=r"\operatorname{{softmax}}({0})", cost="transcendental", sample=Sample(draw=_draw),
    doc="exp(x) / sum(exp(x)) over the axes; its Jacobian diag(p) - p p^T is symmetric",
)  # fmt: skip


# -------------------------------------------------------------------- products
def _one_axis(name: str, keep: bool) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        kind = types[0]
        axes_in(name, kind, (attrs["axis"],))
        if kind.dtype == "bool":
            raise DtypeError(f"{name}: dtype bool, expected a number; cast first")
        at = kind.rank + attrs["axis"]
        return TensorType(kind.dtype, kind.shape if keep else kind.shape[:at] + kind.shape[at + 1 :])

    return infer


def _draw_axis(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    x = rng.normal(size=(3, 4))
    x[1, 2] = 0.0  # one zero in a product: quotients would fail here
    return [((x,), {"axis": a}) for a in (-1, -2)]


def _prod_jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle, ...], axis: int) -> Handle:
    return sum_over(times(prod_others(xs[0], axis=axis), dxs[0]), (axis,))


def _prod_vjp(ct: Handle, y: Handle, x: Handle, axis: int) -> tuple[Handle]:
    return (times(spread(ct, (axis,), x.shape), prod_others(x, axis=axis)),)


reduce_prod = Op(
    "reduce_prod", _one_axis("reduce_prod", keep=False), lambda x, axis: np.prod(x, axis=axis),
    Rules(_prod_jvp, _prod_vjp), arity=1, latex=r"\prod {0}", cost="multiply", sample=Sample(draw=_draw_axis),
)  # fmt: skip


def _prod_others(x: Any, axis: int) -> Any:
    x = np.moveaxis(np.asarray(x), axis, -1)
    one = np.ones((*x.shape[:-1], 1), x.dtype)
    before = np.cumprod(np.concatenate([one, x[..., :-1]], -1), -1)[..., : x.shape[-1]]
    after = np.flip(np.cumprod(np.concatenate([one, np.flip(x[..., 1:], -1)], -1), -1), -1)[..., : x.shape[-1]]
    return np.moveaxis(before * after, -1, axis)


def _pair_products(x: Handle, axis: int) -> Handle:
    """[..., i, j] = product over k other than i and j along `axis` (moved to the end); 0 where i = j."""
    n = x.shape[axis]
    last = einsum("...ij->...ji", x) if axis == -2 else x
    rows = spread(last, (-2,), (*last.shape[:-1], n, n))
    diagonal = einsum("i->ii", last.const(1, (n,))).op("eq", 1)
    others = prod_others(choose(expand(diagonal, rows.shape), 1, rows), axis=-1)
    return choose(expand(diagonal, rows.shape), 0, others)


def _others_apply(x: Handle, t: Handle, axis: int) -> Handle:
    # The matrix of second derivatives of a product is symmetric, so forward and reverse share this.
    text = "...ij,...j->...i" if axis == -1 else "...kij,...jk->...ik"
    return einsum(text, _pair_products(x, axis), t)


def _others_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    if attrs["axis"] not in (-1, -2):
        raise ArgumentError(f"prod_others: axis {attrs['axis']}, expected -1 or -2")
    return _one_axis("prod_others", keep=True)(types, attrs)


prod_others = Op(
    "prod_others", _others_infer, _prod_others,
    Rules(lambda y, xs, dxs, axis: _others_apply(xs[0], dxs[0], axis),
          lambda ct, y, x, axis: (_others_apply(x, ct, axis),)),
    arity=1, cost="multiply", sample=Sample(draw=_draw_axis),
    doc="at each place the product of all other entries along the axis: the gradient of a product, zeros included",
)  # fmt: skip


# -------------------------------------------------------------------- positions
def _arg_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind = types[0]
    axes_in("argmax", kind, (attrs["axis"],))
    at = kind.rank + attrs["axis"]
    return TensorType("i64", kind.shape[:at] + kind.shape[at + 1 :])


def _draw_arg(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    return [((rng.normal(size=(3, 4)),), {"axis": a}) for a in (-1, -2)]


argmax = Op("argmax", _arg_infer, lambda x, axis: np.argmax(np.real(x), axis=axis),
            NoDerivative("argmax returns integers"), arity=1, cost="compare", sample=Sample(draw=_draw_arg),
            latex=r"\operatorname{{argmax}} {0}", doc="the first place of the largest entry")  # fmt: skip
argmin = Op("argmin", _arg_infer, lambda x, axis: np.argmin(np.real(x), axis=axis),
            NoDerivative("argmin returns integers"), arity=1, cost="compare", sample=Sample(draw=_draw_arg),
            latex=r"\operatorname{{argmin}} {0}", doc="the first place of the smallest entry")  # fmt: skip

OPS = (reduce_max, reduce_min, logsumexp, norm, softmax, reduce_prod, prod_others, argmax, argmin)

