"""Products and linear algebra of NumPy on expressions: dot, matmul, einsum, kron, diagonals, inverse, solve, det."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from symdiff.errors import ArgumentError, ShapeError, UnsupportedError
from symdiff.frontend.building import make, misfit, raw_size
from symdiff.frontend.elementwise import multiply, subtract
from symdiff.frontend.expr import (
    as_expr,
    broadcast_shape,
    broadcast_to,
    contraction,
    promote,
    wrap,
)
from symdiff.frontend.joining import stack, window
from symdiff.frontend.registry import FUNCTIONS, numpy_function, own_function, refuse
from symdiff.frontend.shape_functions import (
    dropped,
    expanded,
    matrix_transpose,
    moveaxis,
    normal_axis,
    ravel,
    reshaped,
)
from symdiff.ir.dims import Size, format_shape, product


# -------------------------------------------------------------------- products
def _summed(a: Any, b: Any, i: int, j: int, name: str) -> Any:
    """Sum of products over axis i of a and axis j of b; the other axes of a come first."""
    x, y = promote([a, b])
    if x.value.shape[i] != y.value.shape[j]:
        raise misfit(
            f"{name}: shapes {format_shape(x.value.shape)} and {format_shape(y.value.shape)} do not fit: axis {i} has "
            f"size {x.value.shape[i]}, axis {j} has size {y.value.shape[j]}",
            x.value.shape[i],
            y.value.shape[j],
        )
    left = list(range(x.ndim))
    right = [x.ndim + k for k in range(y.ndim)]
    right[j] = left[i]
    output = [k for k in left if k != i] + [k for k in right if k != i]
    return contraction([x, y], [left, right], output, where=name)


@numpy_function("dot")
def dot(a: Any, b: Any) -> Any:
    x, y = as_expr(a, b), as_expr(b, a)
    if not x.ndim or not y.ndim:
        return multiply(a, b)
    return _summed(x, y, x.ndim - 1, max(0, y.ndim - 2), "dot")


@numpy_function("vdot")
def vdot(a: Any, b: Any) -> Any:
    return _summed(ravel(a), ravel(b), 0, 0, "vdot")


@numpy_function("inner")
def inner(a: Any, b: Any) -> Any:
    x, y = as_expr(a, b), as_expr(b, a)
    if not x.ndim or not y.ndim:
        return multiply(a, b)
    return _summed(x, y, x.ndim - 1, y.ndim - 1, "inner")


@numpy_function("outer", "linalg.outer")
def outer(a: Any, b: Any) -> Any:
    x, y = promote([ravel(a), ravel(b)])
    return contraction([x, y], [(0,), (1,)], (0, 1), where="outer")


@numpy_function("matmul", "linalg.matmul")
def matmul(x1: Any, x2: Any) -> Any:
    """Matrix product over the last two axes; leading axes broadcast."""
    x, y = promote([x1, x2])
    if not x.ndim or not y.ndim:
        raise ShapeError("matmul (@): given a scalar, expected arrays; use * for scalars")
    left, right = x.value.shape[-1], y.value.shape[0 if y.ndim == 1 else -2]
    if left != right:
        raise misfit(
            f"matmul (@): shapes {format_shape(x.value.shape)} and {format_shape(y.value.shape)} do not fit "
            f"(sizes {left} and {right})",
            left,
            right,
        )
    lead = max(x.ndim, y.ndim, 2) - 2
    row, middle, column = lead, lead + 1, lead + 2
    left_word = [*range(lead - max(0, x.ndim - 2), lead), *([row] if x.ndim > 1 else []), middle]
    right_word = [*range(lead - max(0, y.ndim - 2), lead), middle, *([column] if y.ndim > 1 else [])]
    output = [*range(lead), *([row] if x.ndim > 1 else []), *([column] if y.ndim > 1 else [])]
    return contraction([x, y], [left_word, right_word], output, where="matmul (@)")


@numpy_function("vecdot", "linalg.vecdot")
def vecdot(x1: Any, x2: Any, axis: int = -1) -> Any:
    x, y = moveaxis(as_expr(x1), axis, -1), moveaxis(as_expr(x2), axis, -1)
    return einsum("...i,...i->...", x, y)


@numpy_function("matvec")
def matvec(x1: Any, x2: Any) -> Any:
    return einsum("...ij,...j->...i", x1, x2)


@numpy_function("vecmat")
def vecmat(x1: Any, x2: Any) -> Any:
    return einsum("...i,...ij->...j", x1, x2)


@numpy_function("tensordot", "linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    x, y = promote([a, b])
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ArgumentError(f"tensordot: {count} axes for ranks {x.ndim} and {y.ndim}")
        left_axes, right_axes = list(range(x.ndim - count, x.ndim)), list(range(count))
    else:
        left_axes, right_axes = [
            [normal_axis(i, e.ndim, "tensordot") for i in (g if isinstance(g, (list, tuple)) else [g])]
            for g, e in zip(axes, (x, y), strict=True)
        ]
    if len(left_axes) != len(right_axes):
        raise ArgumentError(f"tensordot: {len(left_axes)} axes of a and {len(right_axes)} of b, expected equal numbers")
    left, right = list(range(x.ndim)), [x.ndim + k for k in range(y.ndim)]
    for i, j in zip(left_axes, right_axes, strict=True):
        if x.value.shape[i] != y.value.shape[j]:
            raise misfit(
                f"tensordot: axis {i} of shape {format_shape(x.value.shape)} and axis {j} of shape "
                f"{format_shape(y.value.shape)} have sizes {x.value.shape[i]} and {y.value.shape[j]}",
                x.value.shape[i],
                y.value.shape[j],
            )
        right[j] = left[i]
    gone = {left[i] for i in left_axes}
    output = [k for k in (*left, *right) if k not in gone]
    return contraction([x, y], [left, right], output, where="tensordot")


@numpy_function("kron")
def kron(a: Any, b: Any) -> Any:
    x, y = promote([a, b])
    rank = max(x.ndim, y.ndim)
    x, y = expanded(x, range(rank - x.ndim)), expanded(y, range(rank - y.ndim))
    pairs = contraction([x, y], [range(0, 2 * rank, 2), range(1, 2 * rank, 2)], range(2 * rank), where="kron")
    return reshaped(pairs, tuple([s * t for s, t in zip(x.value.shape, y.value.shape, strict=True)]))


@numpy_function("linalg.multi_dot")
def multi_dot(arrays: Sequence[Any]) -> Any:
    """The matrix product of several arrays, left to right; the simplifier is free to choose another order."""
    if len(arrays) < 2:
        raise ArgumentError(f"multi_dot: {len(arrays)} arrays given, expected at least 2")
    result = arrays[0]
    for other in arrays[1:]:
        result = dot(result, other)
    return result


@numpy_function("cross", "linalg.cross")
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """Cross product of 3-vectors."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote([a, b])
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    for e in (x, y):
        if e.value.shape[-1] != 3:
            raise misfit(f"cross: a vector axis has size {e.value.shape[-1]}, expected 3", e.value.shape[-1])
    (x0, x1, x2), (y0, y1, y2) = ([e[..., i] for i in range(3)] for e in (x, y))
    parts = [subtract(multiply(p, q), multiply(r, s)) for p, q, r, s in
             ((x1, y2, x2, y1), (x2, y0, x0, y2), (x0, y1, x1, y0))]  # fmt: skip
    return stack(parts, axisc)


# -------------------------------------------------------------------- einsum
@numpy_function("einsum")
def einsum(*operands: Any, optimize: Any = False) -> Any:
    """`np.einsum` with its text or integer-list form, ellipsis and implicit output."""
    if isinstance(operands[0], str):
        text, arrays = operands[0].replace(" ", ""), list(operands[1:])
        left, arrow, right = text.partition("->")
        words: list[list[Any]] = [_letters(w, text) for w in left.split(",")]
        output = _letters(right, text) if arrow else None
    else:
        paired = len(operands) // 2 * 2
        arrays, words = list(operands[:paired:2]), [list(w) for w in operands[1:paired:2]]
        output = list(operands[-1]) if len(operands) % 2 else None
        text = "integer lists"
    if len(words) != len(arrays):
        raise ArgumentError(f"einsum {text}: {len(arrays)} operands given, expected {len(words)}")
    exprs = promote(arrays)
    if output is None:
        flat = [label for w in words for label in w if label is not Ellipsis]
        dots = [Ellipsis] if any(label is Ellipsis for w in words for label in w) else []
        output = [*dots, *sorted({label for label in flat if flat.count(label) == 1})]
    numbers = {label: n for n, label in enumerate(dict.fromkeys(
        label for w in (*words, output) for label in w if label is not Ellipsis))}  # fmt: skip
    most = 0
    for word, e in zip(words, exprs, strict=True):
        named_axes = sum(label is not Ellipsis for label in word)
        if named_axes > e.ndim or (named_axes < e.ndim and Ellipsis not in word):
            raise ShapeError(
                f"einsum {text}: an operand of shape {format_shape(e.value.shape)} has {named_axes} labels"
            )
        most = max(most, e.ndim - named_axes)

    def spread(word: list[Any], count: int) -> list[int]:
        result: list[int] = []
        for label in word:
            result += range(len(numbers) + most - count, len(numbers) + most) if label is Ellipsis else [numbers[label]]
        return result

    labels = [spread(w, e.ndim - len(w) + (Ellipsis in w)) for w, e in zip(words, exprs, strict=True)]
    out = spread(output, most)
    known = {label for w in labels for label in w}
    if len(set(out)) != len(out) or not set(out) <= known:
        raise ArgumentError(f"einsum {text}: the output must use labels of the operands, each once")
    if most and Ellipsis not in output:
        raise ArgumentError(f"einsum {text}: the output lacks the ellipsis (...) of the operands")
    return contraction(exprs, labels, out, where=f"einsum {text}")


def _letters(word: str, text: str) -> list[Any]:
    before, dots, after = word.partition("...")
    for part in (before, after):
        if part and not (part.isascii() and part.isalpha()):
            raise ArgumentError(f"einsum {text}: {word!r}, expected letters and at most one ellipsis (...)")
    return [*before, *([Ellipsis] if dots else []), *after]


@numpy_function("einsum_path")
def einsum_path(*operands: Any, **_: Any) -> Any:
    raise UnsupportedError("np.einsum_path needs numbers; np.einsum on expressions chooses no order")


# -------------------------------------------------------------------- diagonals and trace
def _on_diagonal(x: Any, offset: Any, axis1: int, axis2: int, name: str) -> tuple[Any, int, int]:
    """`x` cut so that the diagonal is the main one of square matrices, and its axes."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: shape {format_shape(x.value.shape)}, expected at least two axes")
    i, j = normal_axis(axis1, x.ndim, name), normal_axis(axis2, x.ndim, name)
    if i == j:
        raise ArgumentError(f"{name}: axis1 and axis2 are both {i}")
    down, right = (0, offset) if _nonnegative(offset, name) else (-offset, 0)
    rows, columns = x.value.shape[i] - down, x.value.shape[j] - right
    excess = rows - columns
    if isinstance(excess, int):
        length: Size = rows if excess < 0 else columns
    else:
        raise misfit(
            f"{name}: the diagonal of shape {format_shape(x.value.shape)} has the smaller of the sizes {rows} and "
            f"{columns}, which is not known; cut the array to a square first",
            rows,
            columns,
        )
    if isinstance(length, int):
        length = max(0, length)
    if length == 0:
        down, right = 0, 0
    return window(window(x, i, down, length), j, right, length), i, j


def _nonnegative(offset: Any, name: str) -> bool:
    offset = raw_size(offset, f"{name}: offset")
    return offset >= 0 if isinstance(offset, int) else not all(c < 0 for _, c in offset.terms)


@numpy_function("diagonal")
def diagonal(a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x, i, j = _on_diagonal(as_expr(a), raw_size(offset, "diagonal"), axis1, axis2, "diagonal")
    labels = [i if k == j else k for k in range(x.ndim)]
    return contraction([x], [labels], [k for k in range(x.ndim) if k not in (i, j)] + [i])


@numpy_function("linalg.diagonal")
def linalg_diagonal(x: Any, /, *, offset: Any = 0) -> Any:
    return diagonal(x, offset, -2, -1)


@numpy_function("trace")
def trace(a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    x = as_expr(a)
    x = x.astype("i64") if x.dtype == "bool" else x if dtype is None else x.astype(dtype)
    x, i, j = _on_diagonal(x, raw_size(offset, "trace"), axis1, axis2, "trace")
    labels = [i if k == j else k for k in range(x.ndim)]
    return contraction([x], [labels], [k for k in range(x.ndim) if k not in (i, j)])


@numpy_function("linalg.trace")
def linalg_trace(x: Any, /, *, offset: Any = 0, dtype: Any = None) -> Any:
    return trace(x, offset, -2, -1, dtype)


@numpy_function("diag")
def diag(v: Any, k: Any = 0) -> Any:
    x = as_expr(v)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag: shape {format_shape(x.value.shape)}, expected a vector or a matrix")
    square = contraction([x], [(0,)], (0, 0))
    offset = raw_size(k, "diag")
    if offset == 0:
        return square
    up = _nonnegative(offset, "diag")
    size = x.value.shape[0] + (offset if up else -offset)
    starts = (0, offset) if up else (-offset, 0)
    return wrap(make("embed", [square.value], starts=starts, steps=(1, 1), sizes=(size, size)), x)


@numpy_function("diagflat")
def diagflat(v: Any, k: Any = 0) -> Any:
    return diag(ravel(v), k)


# -------------------------------------------------------------------- inverse, solve, determinants
def _square(x: Any, name: str) -> Any:
    e = promote([x], floating=True)[0]
    if e.ndim < 2 or e.value.shape[-1] != e.value.shape[-2]:
        message = f"{name}: shape {format_shape(e.value.shape)}, expected square matrices in the last two axes"
        raise misfit(message, *e.value.shape[-2:])
    return e


@numpy_function("linalg.inv")
def inv(a: Any) -> Any:
    x = _square(a, "inv")
    return x.apply("inverse", x)


@numpy_function("linalg.det")
def det(a: Any) -> Any:
    x = _square(a, "det")
    return x.apply("det", x)


class SlogdetResult(NamedTuple):
    """What `np.linalg.slogdet` returns."""

    sign: Any
    logabsdet: Any


@numpy_function("linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    x = _square(a, "slogdet")
    return SlogdetResult(x.apply("signdet", x), x.apply("logabsdet", x))


@numpy_function("linalg.cholesky")
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The lower factor (upper when asked). Only the symmetric part of the matrix counts."""
    x = _square(a, "cholesky")
    factor = x.apply("cholesky", x)
    return matrix_transpose(factor) if upper else factor


def _beside(a: Any, b: Any, name: str) -> tuple[Any, Any, bool]:
    """A matrix and right sides as the solving ops want them, and whether the right side is one vector."""
    _square(a, name)
    x, y = promote([a, b], floating=True)
    vector = y.ndim == 1
    if vector:
        y = expanded(y, [1])
    if y.ndim < 2 or x.value.shape[-1] != y.value.shape[-2]:
        raise misfit(
            f"{name}: matrix of shape {format_shape(x.value.shape)} and right side of shape "
            f"{format_shape(as_expr(b).value.shape)}, expected {x.value.shape[-1]} rows",
            *x.value.shape[-1:],
            *y.value.shape[-2:-1],
        )
    if x.ndim > 2:
        lead = broadcast_shape([x.value.shape[:-2], y.value.shape[:-2]], name)
        x, y = broadcast_to(x, (*lead, *x.value.shape[-2:])), broadcast_to(y, (*lead, *y.value.shape[-2:]))
    return x, y, vector


@numpy_function("linalg.solve")
def solve(a: Any, b: Any) -> Any:
    x, y, vector = _beside(a, b, "solve")
    result = x.apply("solve", x, y)
    return dropped(result, [result.ndim - 1]) if vector else result


@own_function("triangular_solve")
def triangular_solve(a: Any, b: Any, lower: bool = True, trans: bool = False) -> Any:
    """x with T x = b (T^T x = b when `trans`), T the lower (upper) triangle of `a`; the rest of `a` is not read."""
    x, y, vector = _beside(a, b, "triangular_solve")
    result = x.apply("triangular_solve", x, y, lower=bool(lower), trans=bool(trans))
    return dropped(result, [result.ndim - 1]) if vector else result


@numpy_function("linalg.matrix_power")
def matrix_power(a: Any, n: Any) -> Any:
    x = as_expr(a)
    if not isinstance(n, (int, np.integer)):
        raise ArgumentError(f"matrix_power: exponent {n!r}, expected an integer")
    if x.ndim < 2 or x.value.shape[-1] != x.value.shape[-2]:
        raise ShapeError(f"matrix_power: shape {format_shape(x.value.shape)}, expected square matrices")
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return wrap(broadcast_to(FUNCTIONS["eye"](x.value.shape[-1], dtype=x.dtype), x.value.shape).value, x)
    result: Any = None
    while n:
        if n & 1:
            result = x if result is None else matmul(result, x)
        n >>= 1
        x = matmul(x, x) if n else x
    return result


@numpy_function("linalg.tensorinv")
def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of the map from the last axes to the first `ind`."""
    x = as_expr(a)
    rows, columns = x.value.shape[:ind], x.value.shape[ind:]
    return reshaped(inv(reshaped(x, (product(rows), product(columns)))), (*columns, *rows))


@numpy_function("linalg.tensorsolve")
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """x with tensordot(a, x, x.ndim) = b; `axes` of a are moved behind the others first."""
    x, y = as_expr(a), as_expr(b)
    if axes is not None:
        chosen = [axes] if isinstance(axes, int) else list(axes)
        x = moveaxis(x, chosen, list(range(x.ndim - len(chosen), x.ndim)))
    columns = x.value.shape[y.ndim :]
    matrix = reshaped(x, (product(y.value.shape), product(columns)))
    return reshaped(solve(matrix, reshaped(y, (product(y.value.shape),))), columns)


@numpy_function("linalg.cond")
def cond(x: Any, p: Any = None) -> Any:
    """The norm of a matrix times that of its inverse, in the norms that need no singular values."""
    if p not in ("fro", 1, -1, np.inf, -np.inf):
        raise UnsupportedError(f"cond: order {p!r}, expected 'fro', 1, -1, inf or -inf; {_SPECTRAL}")
    return multiply(FUNCTIONS["np.linalg.norm"](x, p, (-2, -1)), FUNCTIONS["np.linalg.norm"](inv(x), p, (-2, -1)))


_SPECTRAL = "it needs an eigenvalue or singular value decomposition, which has no derivative rule here"
refuse("linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh linalg.svd linalg.svdvals "
       "linalg.matrix_rank", _SPECTRAL)  # fmt: skip
refuse("linalg.pinv", "use np.linalg.solve(A.T @ A, A.T) for full column rank")
refuse("linalg.lstsq", "use np.linalg.solve(A.T @ A, A.T @ b)")
refuse("linalg.qr", "use np.linalg.cholesky(A.T @ A)")

