"""Expressions against NumPy: the same call on symbols, interpreted, and on arrays must agree in value, shape, dtype."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from scipy import special

from symdiff.frontend.expr import Expr, dims, symbol
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

n, m, k = dims("n m k")
SIZES = {"n": 4, "m": 3, "k": 5}
rng = np.random.default_rng(20261121)
_square = rng.normal(size=(4, 4))

# name -> (shape, dtype, array): what the parameters of the cases mean.
SYMBOLS: dict[str, tuple[tuple[Any, ...], str, Any]] = {
    "c": ((), "f64", np.float64(0.7)),
    "x": ((n,), "f64", rng.normal(size=4)),
    "y": ((n,), "f64", rng.normal(size=4)),
    "u": ((m,), "f64", rng.normal(size=3)),
    "p": ((n,), "f64", rng.uniform(0.2, 0.9, 4)),
    "A": ((m, n), "f64", rng.normal(size=(3, 4))),
    "B": ((n, k), "f64", rng.normal(size=(4, 5))),
    "P": ((m, n), "f64", rng.uniform(0.2, 0.9, (3, 4))),
    "Q": ((m, 1), "f64", rng.normal(size=(3, 1))),
    "M": ((n, n), "f64", _square),
    "S": ((n, n), "f64", _square @ _square.T + np.eye(4)),
    "T": ((m, n, k), "f64", rng.normal(size=(3, 4, 5))),
    "L": ((m, n, n), "f64", rng.normal(size=(3, 4, 4)) + 3 * np.eye(4)),
    "F": ((m, n), "f32", rng.normal(size=(3, 4)).astype(np.float32)),
    "i": ((k,), "i64", np.array([0, 3, 1, 3, -2])),
    "j": ((k,), "i64", np.array([2, 0, 1, 1, -1])),
    "I": ((m, n), "i64", rng.integers(-4, 5, (3, 4))),
    "b": ((m, n), "bool", rng.random((3, 4)) < 0.5),
    "V": ((3, n), "f64", rng.normal(size=(3, 4))),
    "W": ((n, 6), "f64", rng.normal(size=(4, 6))),
    "t": ((3,), "f64", rng.normal(size=3)),
}
mask = np.array([True, False, True, True, False, True])

CASES = [
    # arithmetic and broadcasting
    lambda x, y: x + y, lambda A, x: A + x, lambda A, u: A + u[:, None], lambda A, c: c * A, lambda A, x: A * x,
    lambda A, Q: A * Q, lambda A, Q: A - Q, lambda Q, x: Q * x, lambda Q, x: Q + x, lambda x: 2 - x, lambda x: 1 / x,
    lambda P: P**2, lambda P: 2**P, lambda P, A: P**A, lambda P: P**0.5,
    lambda A: A[..., None] ** np.arange(4), lambda x, y: x // y, lambda x, y: x % y,
    lambda x: -x, lambda x: +x, lambda x: abs(x), lambda A, P: A / P, lambda A: A @ A.T, lambda A, B: A @ B,
    lambda A, x: A @ x, lambda x, B: x @ B, lambda x, y: x @ y, lambda T, B: np.transpose(T, (0, 2, 1)) @ T,
    lambda T, B: T @ np.swapaxes(T, 1, 2), lambda L, x: L @ x, lambda u, L: np.einsum("i,ijk->jk", u, L),
    lambda x: divmod(x, 0.3), lambda t: np.arange(3) * t, lambda t: t * np.array([1.0, 2.0, 4.0]),
    lambda t: [1, 2, 3] * t, lambda x: np.float64(2.0) * x, lambda A: A * A.T.T,
    # dtypes
    lambda I: I + 1, lambda I: I / 2, lambda I: I * 1.5, lambda I: I**3, lambda F: F * 2, lambda F: F * 2.5,
    lambda F, A: F * A, lambda F, I: F * I, lambda b: b * 2, lambda b, A: b * A, lambda b, F: b * F,
    lambda b: b + b, lambda b: b & ~b, lambda b, A: b | (A > 0), lambda b, A: b ^ (A > 0), lambda I: np.exp(I),
    lambda F: np.exp(F), lambda I: np.sum(I), lambda b: np.sum(b, 0), lambda b: np.mean(b), lambda F: np.mean(F, 1),
    lambda I: I // 3, lambda I: I % 3, lambda I: abs(I), lambda I: np.sign(I), lambda I: np.maximum(I, 2),
    lambda F: F * np.float64(2), lambda F: F.astype(float), lambda A: A.astype(np.int64), lambda I: np.floor(I),
    lambda I: I.astype(np.float32), lambda A: (A > 0).astype(float), lambda I: np.mean(I), lambda I: np.square(I),
    lambda F: np.linalg.norm(F), lambda F: np.var(F, 0), lambda I: np.prod(I, 1), lambda I: np.cumsum(I, 0),
    lambda I: I @ I.T, lambda I, x: I @ x, lambda I: np.where(I > 0, I, 0.5), lambda F: np.where(F > 0, F, 0),
    # ufuncs
    lambda A: np.exp(A), lambda A: np.exp2(A), lambda A: np.expm1(A), lambda P: np.log(P), lambda P: np.log2(P),
    lambda P: np.log10(P), lambda P: np.log1p(P), lambda P: np.sqrt(P), lambda A: np.cbrt(A), lambda A: np.sin(A),
    lambda A: np.cos(A), lambda A: np.tan(A), lambda P: np.arcsin(P), lambda P: np.arccos(P), lambda A: np.arctan(A),
    lambda A: np.sinh(A), lambda A: np.cosh(A), lambda A: np.tanh(A), lambda A: np.arcsinh(A),
    lambda P: np.arccosh(P + 1), lambda P: np.arctanh(P), lambda A, P: np.arctan2(A, P), lambda A, P: np.hypot(A, P),
    lambda A: np.square(A), lambda A: np.reciprocal(A), lambda A: np.positive(A), lambda A: np.negative(A),
    lambda A: np.sign(A), lambda A: np.abs(A), lambda A: np.fabs(A), lambda A: np.floor(A), lambda A: np.ceil(A),
    lambda A: np.rint(A), lambda A: np.trunc(A), lambda A: np.round(A, 2),
    lambda A: np.round(100 * A, -1), lambda A, P: np.mod(A, P), lambda A, P: np.floor_divide(A, P),
    lambda A, P: np.maximum(A, P), lambda A, P: np.minimum(A, P), lambda A, P: np.fmax(A, P),
    lambda A: np.fmin(A, 0.1),
    lambda A: np.logaddexp(A, A.T.T + 1), lambda A, x: np.logaddexp2(A, x), lambda A: np.deg2rad(A),
    lambda A: np.rad2deg(A), lambda F: np.degrees(F), lambda A: np.heaviside(np.round(A), 0.3),
    lambda A, P: np.power(P, A), lambda A: np.float_power(abs(A), 2), lambda A: np.clip(A, -0.5, 0.5),
    lambda A: np.clip(A, None, 0.1), lambda A: A.clip(min=0.1), lambda I: np.clip(I, -1, 2), lambda A: np.isnan(A),
    lambda A: np.isfinite(np.log(A)), lambda A: np.isinf(A / 0.0), lambda A: A < 0.2, lambda A, x: x >= A,
    lambda A, x: np.greater(x, A), lambda A: A >= 0, lambda I: I == 2, lambda I: I != 2,
    lambda A, b: np.logical_and(A, b),
    lambda I, b: np.logical_or(I, b), lambda I: np.logical_not(I), lambda I, b: np.logical_xor(I, b),
    lambda A: np.isclose(A, A + 1e-9), lambda x: np.add.reduce(x), lambda A: np.add.reduce(A),
    lambda A: np.maximum.reduce(A, axis=1), lambda x, u: np.multiply.outer(x, u), lambda A: np.add.accumulate(A, 1),
    lambda x: np.real(x), lambda x: np.conj(x), lambda A: np.multiply.reduce(A, axis=None),
    # SciPy
    lambda A: special.expit(A), lambda A: special.erf(A), lambda A: special.erfc(A), lambda P: special.gammaln(P),
    lambda P: special.psi(P), lambda P, A: special.xlogy(np.round(P), abs(A)), lambda P: special.xlog1py(P, P),
    lambda P: special.logit(P), lambda A: special.ndtr(A), lambda A: special.log_expit(A),
    lambda x, y: special.xlogy(0 * x, 0 * y),
    # choices
    lambda A, x: np.where(A > 0, A, x), lambda A: np.where(A > 0, 1, 0), lambda A, b: np.where(b, A, 0),
    lambda A: np.select([A > 0.5, A < -0.5], [A, -A], 0.1),
    # reductions
    lambda A: np.sum(A), lambda A: np.sum(A, axis=0), lambda A: A.sum(-1), lambda T: np.sum(T, axis=(0, 2)),
    lambda A: np.sum(A, axis=1, keepdims=True), lambda T: T.sum(axis=(1, -1), keepdims=True),
    lambda A, b: np.sum(A, where=b), lambda A: np.sum(A, 0, None, None, True), lambda A: np.max(A, 1, None, True),
    lambda A: np.var(A, 0, None, None, 1), lambda A: np.zeros_like(A, None, "K"),
    lambda A: np.mean(A), lambda A: A.mean(axis=0), lambda T: np.mean(T, (0, 1)),
    lambda A: A - np.mean(A, axis=1, keepdims=True), lambda A: np.var(A), lambda A: np.var(A, axis=1, ddof=1),
    lambda A: A.std(axis=0, keepdims=True), lambda A: np.std(A, ddof=1), lambda A: np.prod(A), lambda T: np.prod(T, 1),
    lambda T: np.prod(T, (0, 2), keepdims=True), lambda A: np.max(A), lambda A: A.max(axis=0), lambda T: np.amax(T, 1),
    lambda T: T.min(axis=(0, 1)), lambda A: np.amin(A, axis=1, keepdims=True), lambda A: np.ptp(A, axis=0),
    lambda A: np.any(A > 0.5, axis=0), lambda A: np.all(A < 2), lambda b: b.any(), lambda A: np.argmax(A),
    lambda A: np.argmax(A, axis=0), lambda A: A.argmin(axis=1), lambda A: np.argmin(A, axis=1, keepdims=True),
    lambda A: np.cumsum(A), lambda A: np.cumsum(A, axis=1), lambda A: np.cumprod(A, axis=0), lambda x: np.cumprod(x),
    lambda A: np.diff(A), lambda A: np.diff(A, axis=0), lambda B: np.diff(B, n=2), lambda x: np.diff(x, prepend=0.5),
    lambda A: np.average(A), lambda A, x: np.average(A, axis=1, weights=x), lambda A, P: np.average(A, 0, weights=P),
    lambda x: np.trapezoid(x), lambda A, x: np.trapezoid(A, x), lambda A: np.trapezoid(A, dx=0.1, axis=0),
    lambda A: np.count_nonzero(A > 0), lambda A: np.cov(A), lambda A: np.cov(A, rowvar=False),
    lambda x, y: np.cov(x, y), lambda A: np.allclose(A, A), lambda x: np.cumulative_sum(x, include_initial=True),
    lambda x: np.ediff1d(x), lambda x, u: np.convolve(x, u), lambda t: np.convolve(t, t + 1, "same"),
    lambda t: np.convolve(t, [2.0, 0.5], "valid"), lambda t: np.convolve(t, [1.0, -2.0], "same"),
    lambda t: np.correlate(t, t[1:]), lambda t: np.convolve(t, [1, 2, 3, 4.0], "same"),
    lambda x, t: np.correlate(t, x, "full"),
    lambda t: np.correlate([1.0, -2.0, 0.5, 3], t, "same"), lambda x, t: np.polyval(t, x),
    lambda c: np.linspace(0, c, 5),
    lambda x: np.linspace(x, 1.0, 4, endpoint=False), lambda t, c: np.polyval(t, c),
    lambda x: np.vander(x, 3), lambda t: np.vander(t, increasing=True), lambda c: np.linspace(c, 2, 1),
    lambda x: np.split(x, [1, -1]), lambda A, u, x, c: np.block([[A, u[:, None]], [x, c]]),
    lambda x, y: np.block([x, y]),
    # products
    lambda x, y: np.dot(x, y), lambda A, x: np.dot(A, x), lambda A, T: np.dot(A, T), lambda A, c: np.dot(c, A),
    lambda A, B: A.dot(B), lambda A, P: np.vdot(A, P), lambda A, x: np.inner(A, x), lambda A, M: np.inner(A, M),
    lambda x, u: np.outer(x, u), lambda A, B: np.outer(A, B), lambda T, A: np.tensordot(T, A, ([0, 1], [0, 1])),
    lambda A, B: np.tensordot(A, B, 1), lambda x, u: np.tensordot(x, u, 0), lambda A, B: np.kron(A, B),
    lambda x, A: np.kron(x, A), lambda A, B, x: np.linalg.multi_dot([A, B, B.T, x]), lambda L, x: np.matmul(L, x),
    lambda x, L: np.matmul(x, L),
    lambda V: np.cross(V.T, [1.0, 2.0, 0.5] - V.T), lambda V, t: np.cross(t, V.T), lambda x, y: np.vecdot(x, y),
    lambda t, V: np.cross(V, V[:, :1] + 1.0, axis=0), lambda L, A: np.matvec(L, A),
    # einsum
    lambda A, B: np.einsum("ij,jk->ik", A, B), lambda A: np.einsum("ij->ji", A), lambda M: np.einsum("ii", M),
    lambda M: np.einsum("ii->i", M), lambda A, B: np.einsum("ij,jk", A, B), lambda B, A: np.einsum("bc,ab", B, A),
    lambda L, x: np.einsum("...ij,j", L, x), lambda L: np.einsum("...ii->...", L), lambda T: np.einsum("i...->...", T),
    lambda A, B, T: np.einsum("ij,jk,ijk->", A, B, T), lambda A, x: np.einsum(A, [0, 1], x, [1], [0]),
    lambda A, B: np.einsum(A, [0, 1], B, [1, 2]), lambda L, A: np.einsum("...j,...jk->...k", A, L),
    lambda A, Q: np.einsum("ij,ij->ij", A, Q), lambda x, A: np.einsum("j,ij->ij", x, A),
    # diagonals and triangles
    lambda M: np.trace(M), lambda M: M.trace(offset=1), lambda L: np.trace(L, axis1=1, axis2=2), lambda x: np.diag(x),
    lambda x: np.diag(x, 1), lambda x: np.diag(x, -2), lambda M: np.diag(M), lambda M: np.diag(M, -1),
    lambda L: np.diagonal(L, 1, 1, 2), lambda M: M.diagonal(), lambda A: np.tril(A), lambda L: np.triu(L, 1),
    lambda A: np.diagflat(A), lambda V, t: np.trace(V[:, :3]), lambda L: np.linalg.trace(L),
    lambda L: np.linalg.diagonal(L),
    # linear algebra
    lambda S: np.linalg.inv(S), lambda L: np.linalg.inv(L), lambda S, x: np.linalg.solve(S, x),
    lambda S, B: np.linalg.solve(S, B), lambda L, B: np.linalg.solve(L, B), lambda S, L: np.linalg.solve(S, L),
    lambda M: np.linalg.det(M), lambda L: np.linalg.det(L), lambda M: np.linalg.slogdet(M),
    lambda L: np.linalg.slogdet(L).logabsdet, lambda S: np.linalg.cholesky(S),
    lambda S: np.linalg.cholesky(S, upper=True), lambda x: np.linalg.norm(x), lambda A: np.linalg.norm(A),
    lambda A: np.linalg.norm(A, "fro"), lambda A: np.linalg.norm(A, axis=1), lambda A: np.linalg.norm(A, 1),
    lambda A: np.linalg.norm(A, np.inf), lambda A: np.linalg.norm(A, -1), lambda x: np.linalg.norm(x, 1),
    lambda x: np.linalg.norm(x, np.inf), lambda x: np.linalg.norm(x, 3), lambda x: np.linalg.norm(x, 0),
    lambda x: np.linalg.norm(x, 2.5), lambda A: np.linalg.norm(A, axis=0, keepdims=True),
    lambda T: np.linalg.norm(T, 1, axis=(0, 2), keepdims=True), lambda T: np.linalg.norm(T, -np.inf, axis=(2, 0)),
    lambda M: np.linalg.matrix_power(M, 3), lambda S: np.linalg.matrix_power(S, -2),
    lambda L: np.linalg.matrix_power(L, 0), lambda L: np.linalg.matrix_transpose(L),
    lambda A: np.linalg.vector_norm(A, axis=0), lambda T: np.linalg.matrix_norm(T),
    # axes and shapes
    lambda A: A.T, lambda T: T.T, lambda T: T.mT, lambda T: np.transpose(T, (2, 0, 1)), lambda T: T.transpose(1, 0, 2),
    lambda T: np.moveaxis(T, 0, -1), lambda T: np.moveaxis(T, (0, 1), (-1, 0)), lambda T: np.rollaxis(T, 2),
    lambda T: np.rollaxis(T, 0, 3), lambda T: T.swapaxes(0, 2), lambda A: np.expand_dims(A, 1),
    lambda A: np.expand_dims(A, (0, -1)), lambda Q: np.squeeze(Q), lambda Q: Q.squeeze(axis=1),
    lambda b: np.squeeze(b[:, :1], 1), lambda A: A.reshape(-1), lambda A: np.ravel(A), lambda V: V.reshape(3, -1),
    lambda A: A.reshape(4, 3) if isinstance(A, np.ndarray) else A.reshape(n, m), lambda A: A.flatten(),
    lambda A: A.reshape((1, -1)), lambda A: A[None].reshape(A.shape), lambda W: W.reshape(-1, 2, 3),
    lambda W: np.reshape(W, (2, -1)), lambda T: T.reshape(T.shape[0] * T.shape[1], -1),
    lambda x: np.broadcast_to(x, (3, 4)) if isinstance(x, np.ndarray) else np.broadcast_to(x, (3, n)),
    lambda A, x: np.broadcast_arrays(A, x), lambda x, c: np.atleast_2d(x), lambda c: np.atleast_1d(c),
    lambda x: np.atleast_3d(x), lambda x: np.meshgrid(x, x), lambda x, u: np.meshgrid(x, u, indexing="ij"),
    # joining and splitting
    lambda x, y: np.concatenate([x, y]), lambda A, P: np.concatenate([A, P, A], axis=1), lambda x, y: np.stack([x, y]),
    lambda x, y: np.stack([x, y], axis=-1), lambda x, y: np.vstack([x, y]), lambda x, u: np.hstack([x, u]),
    lambda A, P: np.hstack([A, P]), lambda x, y: np.dstack([x, y]), lambda x, y: np.column_stack([x, y]),
    lambda A, u: np.column_stack([A, u]), lambda x, u: np.append(x, u), lambda A, x: np.append(A, x[None], axis=0),
    lambda A, B: np.concatenate([A, B], axis=None), lambda V: np.split(V, 3), lambda W: np.split(W, [1, 4], axis=1),
    lambda W: np.hsplit(W, 2), lambda W: np.array_split(W, 4, axis=1), lambda W: np.split(W, 3, 1)[1],
    lambda x, c: np.concatenate([x, [1.0, 2.0]]), lambda V: np.unstack(V),
    lambda x: np.array_split(x, [2]), lambda A, I: np.concatenate([A, I]),
    # moving entries
    lambda A: np.flip(A), lambda A: np.flip(A, 1), lambda A: np.fliplr(A), lambda A: np.flipud(A),
    lambda x: np.roll(x, 1), lambda A: np.roll(A, -2, axis=1), lambda A: np.roll(A, (1, 1), axis=(0, 1)),
    lambda A: np.roll(A, 2), lambda A: np.rot90(A), lambda A: np.rot90(A, 3), lambda A: np.rot90(A, 2),
    lambda V: np.roll(V, 7, axis=0), lambda x: np.tile(x, 3), lambda A: np.tile(A, (2, 3)),
    lambda x: np.tile(x, (2, 1)),
    lambda x: np.repeat(x, 3), lambda A: np.repeat(A, 2, axis=1), lambda V: np.repeat(V, [1, 0, 2], axis=0),
    lambda A: np.repeat(A, 2), lambda A: np.pad(A, 1), lambda A: np.pad(A, ((1, 0), (2, 1))),
    lambda x: np.pad(x, (1, 2), constant_values=(0.5, -1)), lambda A: np.pad(A, 1, constant_values=3),
    # like
    lambda A: np.zeros_like(A), lambda I: np.ones_like(I), lambda A: np.full_like(A, 2.5), lambda F: np.ones_like(F),
    lambda A: np.zeros_like(A, dtype=int), lambda A: np.copy(A), lambda A: A.copy(), lambda A: np.ndim(A),
]  # fmt: skip

INDEXING = [
    lambda x: x[0], lambda x: x[-1], lambda A: A[1], lambda A: A[1, 2], lambda A: A[-1, -2], lambda A: A[:, 0],
    lambda A: A[1:], lambda A: A[:-1], lambda A: A[1:-1, 1:-1], lambda x: x[::2], lambda x: x[::-1], lambda x: x[::-2],
    lambda x: x[1::2], lambda x: x[-2:], lambda x: x[:-3:-1], lambda x: x[3:0:-1], lambda x: x[-3:-1],
    lambda A: A[None], lambda A: A[:, None], lambda A: A[..., None], lambda T: T[..., 0], lambda T: T[0, ..., 1:],
    lambda T: T[:, 1], lambda T: T[None, 0, :, None, ::2], lambda V: V[5:], lambda V: V[:7], lambda V: V[-9:2],
    lambda V: V[2:1], lambda V: V[10:-10:-1], lambda t: t[::-1], lambda V: V[1:5:3], lambda x: x[...], lambda c: c[()],
    lambda c: c[None], lambda x, i: x[i], lambda x: x[[0, 2, 2]], lambda B, i: B[i], lambda B, i, j: B[i, j],
    lambda A, j, i: A[j, i], lambda A, j: A[:, j], lambda T, j, i: T[j, i], lambda T, j, i: T[j, :, j],
    lambda T, i: T[:, i, 1:3], lambda T, i: T[0, i], lambda T, i: T[:, i, 0], lambda T, j: T[j, :, 0],
    lambda T, i: T[..., i, 0], lambda T, i: T[:, i, None], lambda T, i: T[:, None, i], lambda T, j: T[j, None, 0],
    lambda T, i, j: T[None, j, i, None], lambda T, i, j: T[j[:, None], i], lambda T, i, j: T[j[:, None], :, i],
    lambda T: T[:, [0, 1], ..., [0, 1]], lambda T: T[..., [0, 1], [0, 1]], lambda T: T[[[0, 1], [2, 0]]],
    lambda T: T[1, :, [0, 1]], lambda T: T[1, [0, 1]], lambda T: T[[0, 1], 1:3, None, [0, 1]], lambda T, i: T[0, 0, i],
    lambda W: W[:, mask], lambda W: W[1, mask], lambda V, x: V[np.array([True, False, True])],
    lambda V: V[[True, False, True]], lambda x, i: x[i[0]], lambda A, i: A[:, i[1]], lambda A, j, i: A[j[0], i[1]],
    lambda x: x[np.array(2)], lambda x: x[np.int64(2)], lambda A: A[-1][-1], lambda x: x[[]],
    lambda W: W[..., mask][0], lambda b: b[1:, ::2], lambda b, i: b[0][i], lambda I: I[:, ::-1],
    lambda A: np.take(A, [0, 2], axis=1), lambda A, i: np.take(A, i, axis=1), lambda A: np.take(A, 3),
    lambda A, i: A.take(i, axis=1),
    lambda A, I: np.take_along_axis(A, I % 3, 0), lambda A: np.take_along_axis(A, np.argmax(A, 1)[:, None], 1),
    lambda T, i: T[1:, i, ::-1], lambda W: [p.sum() for p in W.T],
    lambda V: [row * 2 for row in V], lambda V: V[-1, 1:][::-1], lambda T: T[1, 2, 3], lambda T: T[1][2][3],
]  # fmt: skip
DIM_INDEXING = [
    (lambda x: x[n - 1], lambda x: x[3]), (lambda B: B[: n - 2], lambda B: B[:2]),
    (lambda x: x[n - 2 :], lambda x: x[2:]), (lambda B: B[-n:], lambda B: B[-4:]),
    (lambda B: B[:, : k - 1 : 2], lambda B: B[:, :4:2]), (lambda A: A[m - 1, n - 2], lambda A: A[2, 2]),
    (lambda A: np.sum(A) / n, lambda A: np.sum(A) / 4), (lambda A: n * A, lambda A: 4 * A),
    (lambda A: A / np.sqrt(n), lambda A: A / np.sqrt(4)), (lambda A: A * (n - 1) / 2, lambda A: A * 3 / 2),
    (lambda F: F * n, lambda F: F * 4), (lambda A: A.sum() * 0.5 * n, lambda A: A.sum() * 0.5 * 4),
    (lambda I: I * n, lambda I: I * 4), (lambda A: A ** n, lambda A: A ** 4.0), (lambda A: n - A, lambda A: 4 - A),
    (lambda A: A.size * A, lambda A: 12 * A), (lambda A: A * A.shape[1], lambda A: A * 4),
]  # fmt: skip


def run(results: Any, names: list[str]) -> list[Any]:
    """Interpret expressions (anything else stays) at the arrays of `SYMBOLS`."""
    flat = list(results) if isinstance(results, (tuple, list)) else [results]
    exprs = [r for r in flat if isinstance(r, Expr)]
    params = [symbol(name, SYMBOLS[name][0], SYMBOLS[name][1]).value for name in names]
    function = verify(Builder(OPSET).function(params, [e.value for e in exprs]), OPSET)
    values = iter(interpret(function, [SYMBOLS[name][2] for name in names]))
    return [next(values) if isinstance(r, Expr) else r for r in flat]


def compare(symbolic: Any, numeric: Any) -> None:
    names = list(inspect.signature(symbolic).parameters)
    made = symbolic(*[symbol(name, SYMBOLS[name][0], SYMBOLS[name][1]) for name in names])
    with np.errstate(all="ignore"):
        expected = numeric(*[SYMBOLS[name][2] for name in names])
    expected = list(expected) if isinstance(expected, (tuple, list)) else [expected]
    got = run(made, names)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        g, e = np.asarray(g), np.asarray(e)
        assert g.shape == e.shape
        assert g.dtype == e.dtype
        tolerance = 1e-5 if e.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_numpy_calls(number: int) -> None:
    compare(CASES[number], CASES[number])


@pytest.mark.parametrize("number", range(len(INDEXING)))
def test_indexing(number: int) -> None:
    compare(INDEXING[number], INDEXING[number])


@pytest.mark.parametrize("number", range(len(DIM_INDEXING)))
def test_dimensions_as_numbers(number: int) -> None:
    compare(*DIM_INDEXING[number])

