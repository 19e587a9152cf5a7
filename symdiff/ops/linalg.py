"""Linear algebra on stacks of matrices (the last two axes).

Derivatives follow Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), and for Cholesky Murray, "Differentiation of the Cholesky decomposition" (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from symdiff.errors import DtypeError, EvaluationError, ShapeError
from symdiff.ir.builder import Handle
from symdiff.ir.contraction import einsum, spread, sum_over
from symdiff.ir.dims import format_shape
from symdiff.ir.op import Attrs, Op, Rules, Sample
from symdiff.ir.types import TensorType
from symdiff.later import later
from symdiff.ops.helpers import matmul, no_values, random_spd, random_well_conditioned, square, transposed

scipy_linalg = later("scipy.linalg")


def _matrix(name: str, result: Callable[[TensorType], tuple[Any, ...]]) -> Any:
    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        square(name, types[0])
        return TensorType(types[0].dtype, result(types[0]))

    return infer


def _draw_matrix(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    return [((random_well_conditioned(rng, 3),), {}), ((random_well_conditioned(rng, 3, (2,)),), {})]


def _guard(name: str, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except np.linalg.LinAlgError as error:
        raise EvaluationError(f"{name}: {error}") from error


inverse = Op(
    "inverse", _matrix("inverse", lambda t: t.shape), lambda x: _guard("inverse", lambda: np.linalg.inv(x)),
    Rules(lambda y, xs, dxs: -matmul(matmul(y, dxs[0]), y),
          lambda ct, y, x: (-matmul(matmul(transposed(y), ct), transposed(y)),)),
    arity=1, latex="{0}^{{-1}}", cost="special", sample=Sample(draw=_draw_matrix),
)  # fmt: skip


# -------------------------------------------------------------------- solve
def _solve_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    a, b = types
    n = square("solve", a)
    lead = a.shape[:-2]
    if b.dtype != a.dtype:
        raise DtypeError(f"solve: dtypes {a.dtype} and {b.dtype}, expected one")
    if b.rank < a.rank or b.shape[-2] != n or (lead and b.shape[: b.rank - 2][-len(lead) :] != lead):
        raise ShapeError(
            f"solve: matrix of shape {format_shape(a.shape)} and right side of shape {format_shape(b.shape)}, "
            f"expected (..., {n}, k)"
        )
    return b


def _extra(a: Handle, b: Handle) -> range:
    """The leading axes that right sides have and their shared matrix lacks, counted from the end of the right sides."""
    return range(-b.rank, -a.rank)


def _solve_jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle | None, ...]) -> Handle:
    a = xs[0]
    da, db = dxs
    if da is None:
        assert db is not None
        return solve(a, db)
    change = matmul(spread(da, _extra(a, y), y.shape), y)
    return solve(a, -change if db is None else db - change)


def _solve_vjp(ct: Handle, y: Handle, a: Handle, b: Handle) -> tuple[Handle, Handle]:
    cb = solve(transposed(a), ct)
    # A stack of right sides may share one matrix: its cotangent is the sum over the stack.
    return sum_over(-matmul(cb, transposed(y)), _extra(a, b)), cb


def _solve(a: Any, b: Any) -> Any:
    return _guard("solve", lambda: np.linalg.solve(a, b))


def _draw_solve(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    a = random_well_conditioned(rng, 3)
    return [((a, rng.normal(size=(3, 2))), {}), ((a, rng.normal(size=(2, 3, 2))), {}),
            ((random_well_conditioned(rng, 3, (2,)), rng.normal(size=(2, 3, 1))), {})]  # fmt: skip


solve = Op("solve", _solve_infer, _solve, Rules(_solve_jvp, _solve_vjp), arity=2, latex="{0}^{{-1}} {1}",
           cost="special", sample=Sample(draw=_draw_solve), doc="x with a x = b")  # fmt: skip


# -------------------------------------------------------------------- determinants
det = Op(
    "det", _matrix("det", lambda t: t.shape[:-2]), np.linalg.det,
    Rules(lambda y, xs, dxs: einsum("...,...ij,...ji->...", y, inverse(xs[0]), dxs[0]),
          lambda ct, y, x: (einsum("...,...,...ji->...ij", ct, y, inverse(x)),)),
    arity=1, latex=r"\det {0}", cost="special", sample=Sample(draw=_draw_matrix), doc="derivative needs det x != 0",
)  # fmt: skip


def _logabsdet(x: Any) -> Any:
    if np.iscomplexobj(x):
        value = np.linalg.det(x)
        return np.log(np.where(np.real(value) < 0, -value, value))
    return np.linalg.slogdet(x)[1]


logabsdet = Op(
    "logabsdet", _matrix("logabsdet", lambda t: t.shape[:-2]), _logabsdet,
    Rules(lambda y, xs, dxs: einsum("...ij,...ji->...", inverse(xs[0]), dxs[0]),
          lambda ct, y, x: (einsum("...,...ji->...ij", ct, inverse(x)),)),
    arity=1, latex=r"\log\lvert\det {0}\rvert", cost="special", sample=Sample(draw=_draw_matrix),
)  # fmt: skip

def _zero_like(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle, ...]) -> Handle:
    lead = dxs[0].shape[: dxs[0].rank - 2]
    return y.const(0, lead)


signdet = Op(
    "signdet", _matrix("signdet", lambda t: t.shape[:-2]), lambda x: np.sign(np.real(np.linalg.det(x))),
    Rules(_zero_like, lambda ct, y, x: (None,)),
    arity=1, latex=r"\operatorname{{sign}}\det {0}", cost="special", sample=Sample(draw=_draw_matrix),
    doc="piecewise constant: derivative 0 by definition",
)  # fmt: skip


# -------------------------------------------------------------------- Cholesky and triangles
def _symmetrized(x: Handle) -> Handle:
    return (x + transposed(x)) * Fraction(1, 2)


def _half_diagonal(x: Handle) -> Handle:
    """The lower triangle with half the diagonal: Murray's Phi."""
    diagonal = einsum("...ii->...i", x)
    return x.op("tril", k=0) - einsum("...i->...ii", diagonal) * Fraction(1, 2)


def _cholesky_jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle, ...]) -> Handle:
    middle = triangular_solve(y, _symmetrized(dxs[0]), lower=True, trans=False)
    middle = transposed(triangular_solve(y, transposed(middle), lower=True, trans=False))
    return matmul(y, _half_diagonal(middle))


def _cholesky_vjp(ct: Handle, y: Handle, x: Handle) -> tuple[Handle]:
    inner = _half_diagonal(matmul(transposed(y), ct.op("tril", k=0)))
    left = triangular_solve(y, inner, lower=True, trans=True)
    both = transposed(triangular_solve(y, transposed(left), lower=True, trans=True))
    return (_symmetrized(both),)


def _cholesky(x: Any) -> Any:
    return _guard("cholesky", lambda: np.linalg.cholesky((x + np.swapaxes(x, -1, -2)) / 2))


cholesky = Op(
    "cholesky", _matrix("cholesky", lambda t: t.shape), _cholesky, Rules(_cholesky_jvp, _cholesky_vjp), arity=1,
    latex=r"\operatorname{{chol}}({0})", cost="special",
    sample=Sample(draw=lambda rng: [((random_spd(rng, 3),), {}), ((random_spd(rng, 3, (2,)),), {})]),
    doc="the lower factor L of (x + x^T)/2 = L L^T: only the symmetric part of x counts, so its gradient is symmetric",
)  # fmt: skip


def _triangular_solve(a: Any, b: Any, lower: bool, trans: bool) -> Any:
    triangle = np.tril(a) if lower else np.triu(a)
    if np.any(np.diagonal(triangle, axis1=-2, axis2=-1) == 0):
        raise EvaluationError("triangular_solve: the triangle has a zero on its diagonal")
    if np.ndim(a) == 2 and np.ndim(b) == 2 and np.size(b):
        return scipy_linalg.solve_triangular(triangle, b, lower=lower, trans=1 if trans else 0, check_finite=False)
    return np.linalg.solve(np.swapaxes(triangle, -1, -2) if trans else triangle, b)


def _tri_jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle | None, ...], lower: bool, trans: bool) -> Handle:
    a, _ = xs
    da, db = dxs
    if da is None:
        assert db is not None
        return triangular_solve(a, db, lower=lower, trans=trans)
    da = spread(da.op("tril" if lower else "triu", k=0), _extra(a, y), y.shape)
    change = matmul(transposed(da) if trans else da, y)
    return triangular_solve(a, -change if db is None else db - change, lower=lower, trans=trans)


def _tri_vjp(ct: Handle, y: Handle, a: Handle, b: Handle, lower: bool, trans: bool) -> tuple[Handle, Handle]:
    cb = triangular_solve(a, ct, lower=lower, trans=not trans)
    ca = -(matmul(y, transposed(cb)) if trans else matmul(cb, transposed(y)))
    return sum_over(ca, _extra(a, b)).op("tril" if lower else "triu", k=0), cb


def _draw_triangular(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    return [((random_well_conditioned(rng, 3), rng.normal(size=(3, 2))), {"lower": low, "trans": tr})
            for low in (True, False) for tr in (True, False)]  # fmt: skip


triangular_solve = Op(
    "triangular_solve", _solve_infer, _triangular_solve, Rules(_tri_jvp, _tri_vjp), arity=2, latex="{0}^{{-1}} {1}",
    cost="special", sample=Sample(draw=_draw_triangular),
    doc="x with T x = b (T^T x = b when trans), T the lower or upper triangle of the operand; the rest is not read",
)  # fmt: skip


# -------------------------------------------------------------------- undefined functions of whole tensors
def _functional_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    shape: tuple[Any, ...] = ()
    for i in attrs["wrt"]:
        shape += types[i].shape
    return TensorType(types[0].dtype, shape)


def _functional_jvp(
    y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle | None, ...], name: str, wrt: tuple[int, ...]
) -> Handle:
    total: Handle | None = None
    for i, (x, dx) in enumerate(zip(xs, dxs, strict=True)):
        if dx is None:
            continue
        slope = functional(*xs, name=name, wrt=(*wrt, i))
        out, own = "abcdefghij"[: slope.rank - x.rank], "klmnopqrst"[: x.rank]
        term = einsum(f"{out}{own},...{own}->...{out}", slope, dx)
        total = term if total is None else total + term
    assert total is not None
    return total


def _functional_vjp(ct: Handle, y: Handle, *xs: Handle, name: str, wrt: tuple[int, ...]) -> tuple[Handle, ...]:
    cotangents: list[Handle] = []
    for i, x in enumerate(xs):
        slope = functional(*xs, name=name, wrt=(*wrt, i))
        out, own = "abcdefghij"[: slope.rank - x.rank], "klmnopqrst"[: x.rank]
        cotangents.append(einsum(f"...{out},{out}{own}->...{own}", ct, slope))
    return tuple(cotangents)


functional = Op(
    "functional", _functional_infer, no_values, Rules(_functional_jvp, _functional_vjp), cost="special",
    doc="an undefined scalar function L of whole tensors; wrt lists the arguments it is differentiated in, and the "
        "shape is theirs one after the other",
)  # fmt: skip

OPS = (inverse, solve, det, logabsdet, signdet, cholesky, triangular_solve, functional)

