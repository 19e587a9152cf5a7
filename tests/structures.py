"""Functions whose derivatives have a plain structure, each with the pattern that it must have."""

from __future__ import annotations

from typing import Any

import numpy as np

import symdiff as sd

n = sd.dim("n")
X = sd.symbol("x", (n,))
BAND = np.eye(6, k=1) - 2 * np.eye(6) + np.eye(6, k=-1)
SIX = sd.symbol("x", (6,))


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def brusselator(z: Any) -> Any:
    """1-D Brusselator, method of lines, z = [u, v]."""
    u, v = z[0], z[1]
    a = (u.shape[0] + 1) ** 2 / 50
    one = np.ones(1)
    left = np.concatenate([one, u, one])
    right = np.concatenate([3 * one, v, 3 * one])
    du = 1 + u**2 * v - 4 * u + a * (left[:-2] - 2 * u + left[2:])
    dv = 3 * u - u**2 * v + a * (right[:-2] - 2 * v + right[2:])
    return np.stack([du, dv])


def tridiagonal(k: int) -> Any:
    return np.abs(np.subtract.outer(np.arange(k), np.arange(k))) <= 1


MATRIX = sd.symbol("x", (3, 4))
CUBE = sd.symbol("x", (3, 2, 4))
HOLES = np.array([1.0, 0, 2, 0, 0, 3])
# A stack of three matrices with few entries.
STACK = np.zeros((3, 2, 6))
STACK[0, 1, 2], STACK[1, 0, 5], STACK[2, 0, 0], STACK[2, 1, 3], STACK[2, 1, 4] = 1, 2, 3, 4, 5
EXACT: dict[str, tuple[Any, Any, Any]] = {
    "elementwise": (np.sin(SIX) * np.exp(SIX), SIX, np.eye(6)),
    "shift": (SIX[1:] * SIX[:-1], SIX, np.eye(5, 6) + np.eye(5, 6, k=1)),
    "reverse": (SIX[::-1], SIX, np.eye(6)[::-1]),
    "every other": (SIX[::2] ** 2, SIX, np.eye(6)[::2]),
    "cumsum": (np.cumsum(SIX), SIX, np.tri(6)),
    "constant": (np.sum(SIX) * 0 + np.ones(3), SIX, np.zeros((3, 6))),
    "banded matrix": (BAND @ np.tanh(SIX), SIX, BAND),
    "banded matrix from the right": (np.tanh(SIX) @ np.triu(BAND), SIX, np.triu(BAND).T),
    "sparse squared": (BAND @ (BAND @ SIX), SIX, BAND @ BAND),
    "banded matrix on a stack": (np.einsum("ij,jkl->ikl", BAND[:3, :3], CUBE), CUBE, np.kron(BAND[:3, :3], np.eye(8))),
    "banded matrix on the middle": (np.einsum("ij,kjl->kil", np.triu(BAND[:2, :2]), CUBE), CUBE,
                                    np.kron(np.eye(3), np.kron(np.triu(BAND[:2, :2]), np.eye(4)))),
    "banded matrix and a sum": (np.einsum("ij,jkl->il", BAND[:3, :3], CUBE), CUBE,
                                np.kron(BAND[:3, :3], np.kron(np.ones((1, 2)), np.eye(4)))),
    "sparse stack of matrices": (np.einsum("kij,j->ki", STACK, SIX), SIX, STACK.reshape(6, 6)),
    "rows of a sparse stack": (np.einsum("kij,kj->ki", STACK[:, :, :4], MATRIX), MATRIX,
                               np.einsum("kij,kl->kilj", STACK[:, :, :4], np.eye(3)).reshape(6, 12)),
    "holes": (SIX * HOLES, SIX, np.diag(HOLES)),
    "holes in a product": (np.einsum("i,i,i->i", HOLES, SIX, SIX), SIX, np.diag(HOLES)),
    "holes in a factor": (np.einsum("i,i,j->ij", HOLES, sd.symbol("c", (6,)), np.ones(2)) * SIX[:, None], SIX,
                          np.kron(np.diag(HOLES), np.ones((2, 1)))),
    "holes in a sum": (np.einsum("i,i->", HOLES, np.sin(SIX)), SIX, [HOLES]),
    "holes in an outer product": (np.outer(HOLES, SIX), SIX, np.kron(HOLES[:, None], np.eye(6))),
    "holes in holes": (np.concatenate([SIX[:2], np.zeros(4)]) * np.roll(SIX, 1), SIX,
                       np.pad(np.eye(2, 6) + np.roll(np.eye(2, 6), -1, axis=1), ((0, 4), (0, 0)))),
    "triangle": (np.tril(np.outer(np.arange(1.0, 7), np.ones(6))) @ SIX, SIX, np.tri(6)),
    "diagonal of a product": (np.diag(np.outer(SIX, SIX)), SIX, np.eye(6)),
    "diagonal matrix": (np.diag(SIX) @ np.ones(6), SIX, np.eye(6)),
    "transpose": (MATRIX.T, MATRIX, np.eye(12).reshape(3, 4, 12).transpose(1, 0, 2).reshape(12, 12)),
    "row sums": (np.sum(MATRIX**2, axis=1), MATRIX, np.kron(np.eye(3), np.ones((1, 4)))),
    "column means": (np.mean(MATRIX, axis=0), MATRIX, np.kron(np.ones((1, 3)), np.eye(4))),
    "softmax of rows": (sd.softmax(MATRIX, axis=1), MATRIX, np.kron(np.eye(3), np.ones((4, 4)))),
    "matmul": (MATRIX @ sd.symbol("B", (4, 2)), MATRIX, np.kron(np.eye(3), np.ones((2, 4)))),
    "matmul from the left": (sd.symbol("B", (2, 3)) @ MATRIX, MATRIX, np.kron(np.ones((2, 3)), np.eye(4))),
    "gather": (SIX[np.array([4, 4, -1])], SIX, np.eye(6)[[4, 4, 5]]),
    "scatter": (sd.add_at(np.zeros(6) * SIX[0], np.array([0, 0, 3]), SIX[1:4]), SIX,
                np.array([[0, 1, 1, 0, 0, 0], *[[0] * 6] * 2, [0, 0, 0, 1, 0, 0], *[[0] * 6] * 2])),
    "product with a scatter": (sd.add_at(0 * SIX, np.array([1, 4, 1]), SIX[3:] * HOLES[:3]) * SIX, SIX,
                               [[0] * 6, [0, 1, 0, 1, 0, 1], *[[0] * 6] * 4]),
    "condition on a constant": (np.where(np.arange(6) < 2, SIX, SIX[::-1]), SIX,
                                np.concatenate([np.eye(6)[:2], np.eye(6)[::-1][2:]])),
    "outer": (np.outer(SIX[:2], SIX[2:4]), SIX,
              [[1, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]]),
    "normalized": (SIX / np.sum(SIX), SIX, np.ones((6, 6))),
}  # fmt: skip
