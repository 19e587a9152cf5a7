"""Slopes that are infinite at zeros which no variable moves: around paddings, beside diagonals, above triangles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.ir.graph import topological

NP: Any = np
n = sd.dim("n")
x, y, s = sd.symbol("x", (n,)), sd.symbol("y", (n,)), sd.symbol("s")
A, B = sd.symbol("A", (n, n)), sd.symbol("B", (n, n))
SYMBOLS = [x, y, s, A, B]
PADDED = NP.pad(x, 1)
ROWS = NP.pad(A, ((1, 0), (0, 0)))

FORMS: dict[str, tuple[Any, Any]] = {
    "padding": (NP.sqrt(PADDED), x),
    "two paddings of one kind": (NP.sqrt(PADDED + NP.pad(x * x, 1)), x),
    "paddings of two kinds": (NP.sqrt(NP.pad(x, (1, 2)) + NP.pad(x * x, (0, 3))), x),
    "times a padding": (NP.sqrt(NP.pad(x, (1, 0)) + NP.pad(x * x, (1, 0)) * NP.pad(y, (1, 0))), x),
    "times a padding alone": (NP.sqrt(NP.pad(y, (1, 0)) * NP.concatenate([x, y[:1]])), x),
    "joined": (NP.sqrt(NP.concatenate([x, np.zeros(2), x * x])), x),
    "stacked": (NP.sqrt(NP.stack([x, 0 * x])), x),
    "stacked and summed": (NP.sqrt(NP.sum(NP.stack([PADDED, PADDED]), axis=0)), x),
    "written": (NP.sqrt(sd.set(np.zeros(5), slice(1, 4), x[:3])), x),
    "added at": (NP.sqrt(sd.add_at(np.zeros(5), np.array([1, 3, 1]), x[:3])), x),
    "read again": (NP.sqrt(PADDED[np.array([0, 1, 0, 2])]), x),
    "columns": (NP.sqrt(PADDED.reshape(-1, 1) * np.ones((1, 2))), x),
    "running sums": (NP.sqrt(NP.cumsum(PADDED)), x),
    "convolution": (NP.sqrt(NP.convolve(NP.pad(x, (2, 0)), np.array([1.0, 2.0]))), x),
    "diagonal": (NP.sqrt(NP.diag(x)), x),
    "two diagonals": (NP.sqrt(NP.diag(x) + NP.diag(x[1:], 1)), x),
    "product of diagonals": (NP.sqrt(NP.diag(x) @ NP.diag(y)), x),
    "identity": (NP.sqrt(s * np.eye(3)), s),
    "Kronecker": (NP.sqrt(NP.kron(np.eye(2), A)), A),
    "blocks": (NP.sqrt(NP.block([[A, sd.zeros((n, 2))], [sd.zeros((2, n)), np.eye(2) * s]])), A),
    "blocks of a number": (NP.sqrt(NP.block([[A, sd.zeros((n, 2))], [sd.zeros((2, n)), np.eye(2) * s]])), s),
    "triangle": (NP.sqrt(NP.tril(A)), A),
    "outer product": (NP.sqrt(NP.outer(PADDED, y)), x),
    "outer product in the other": (NP.sqrt(NP.outer(PADDED, y)), y),
    "outer product with itself": (NP.sqrt(NP.outer(PADDED, x)), x),
    "product of triangles": (NP.sqrt(NP.tril(A) @ NP.tril(B)), A),
    "product of triangles in the other": (NP.sqrt(NP.tril(A) @ NP.tril(B)), B),
    "product of triangles and a number": (NP.arccosh(1 + NP.tril(A) @ NP.tril(B)), B),
    "product of paddings": (NP.sqrt(NP.pad(A, 1) @ NP.pad(B, 1)), A),
    "running sums times": (NP.sqrt(NP.cumsum(NP.pad(x, 1)) * NP.pad(y, 1, constant_values=1)), y),
    "square of a padding times": (NP.sqrt(NP.pad(x, 1) ** 2 * NP.pad(y, 1, constant_values=1)), y),
    "padding over": (NP.sqrt(NP.tanh(NP.pad(x, 1)) / NP.pad(y, 1, constant_values=1)), y),
    "logarithms of a product of triangles": (NP.exp(NP.log(NP.tril(A) @ NP.tril(B)) / 2), A),
    "padded rows": (NP.sqrt(ROWS @ x), x),
    "padded rows in the matrix": (NP.sqrt(ROWS @ x), A),
    "largest of rows": (NP.sqrt(NP.max(ROWS, axis=1)), A),
    "products of rows": (NP.sqrt(NP.prod(ROWS, axis=1)), A),
    "lengths": (NP.hypot(PADDED, NP.pad(y, 1)), x),
    "powers": (PADDED**0.5 * NP.pad(y, 1) ** 0.3, x),
    "chosen": (NP.sqrt(NP.where(x > 1, x, 0) @ NP.diag(NP.where(x > 1, 1.0, 0))), x),
    "loop": (sd.scan(lambda c, r: (c, NP.sqrt(NP.pad(r * c, 1))), s, x)[1], s),
}  # fmt: skip


def values() -> dict[Any, Any]:
    rng = np.random.default_rng(4)
    return {v: rng.uniform(0.5, 1.5, [3] * v.ndim) for v in SYMBOLS}


def slopes(function: Any, variable: Any) -> Any:
    """Central differences of the function's own values."""
    given = values()
    at = np.array(given[variable])
    rows: list[Any] = []
    for place in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[place] = 1e-6
        above, below = (function.evaluate({**given, variable: at + sign * step}) for sign in (1, -1))
        rows.append((above - below) / 2e-6)
    return np.moveaxis(np.array(rows).reshape(*at.shape, *function.evaluate(given).shape), range(at.ndim),
                       range(-at.ndim, 0))  # fmt: skip


@pytest.mark.parametrize("mode", ["forward", "reverse", "elimination"])
@pytest.mark.parametrize("name", FORMS)
def test_zeros_by_structure(name: str, mode: Any) -> None:
    function, variable = FORMS[name]
    slope = sd.jacobian(function, variable, mode=mode, sizes={"n": 3} if mode == "elimination" else None)
    want, given = slopes(function, variable), values()
    np.testing.assert_allclose(sd.compile(slope, SYMBOLS)(*[given[v] for v in SYMBOLS]), want, atol=1e-7)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(slope.evaluate(given), want, atol=1e-7)


def test_sums_that_meet_the_diagonal_of_a_triangle_are_no_zeros() -> None:
    for made in (NP.log(NP.tril(A) @ x), NP.log(NP.triu(A).T @ x), NP.sqrt(NP.sum(NP.tril(A) ** 2, axis=1))):
        for mode in ("forward", "reverse"):
            assert "if" not in str(sd.jacobian(made, A, mode=mode))
    assert "if" in str(sd.jacobian(NP.log(NP.tril(A, -1) @ x), A, mode="reverse"))


def test_variables_that_cancel_in_their_sum_move() -> None:
    slopes_of = sd.gradient(NP.sum(NP.sqrt(NP.pad(x - y, 1) * NP.pad(x, 1))), [x, y], mode="reverse")
    given = {x: np.array([2.0, 3.0, 4.0]), y: np.ones(3)}
    root = np.sqrt((given[x] - 1) * given[x])
    np.testing.assert_allclose(slopes_of[0].evaluate(given), (2 * given[x] - 1) / (2 * root))
    np.testing.assert_allclose(slopes_of[1].evaluate(given), -given[x] / (2 * root))


def test_a_zero_that_a_variable_moves_is_no_zero_by_structure() -> None:
    slope = sd.compile(sd.jacobian(NP.sqrt(NP.pad(x, 1)), x, mode="forward"), [x])
    assert slope(np.array([0.0, 4.0]))[1, 0] == np.inf


def test_products_are_made_inside_paddings() -> None:
    shown = sd.jacobian(NP.pad(x, 1) * NP.tanh(NP.pad(x, 1)), x, mode="forward")
    whole = sd.jacobian(x * NP.tanh(x), x, mode="forward")
    assert sd.verify(shown[1:-1], whole)


def test_a_chain_of_products_with_a_diagonal_is_as_long_as_the_chain() -> None:
    factors = [sd.symbol(f"F{i}", (2, 2)) for i in range(30)]
    z = sd.symbol("z", (2,))
    made: Any = NP.diag(z)
    for f in factors:
        made = NP.einsum("ij,ij->ij", f, made)
    slope = sd.jacobian(made, z, mode="forward")
    assert max(len(v.args) for v in topological([slope.value])) < 10
    rng = np.random.default_rng(5)
    given = {v: rng.uniform(0.5, 1.5, [2] * v.ndim) for v in [*factors, z]}
    want = np.zeros((2, 2, 2))
    for i in range(2):
        want[i, i, i] = np.prod([given[f][i, i] for f in factors])
    np.testing.assert_allclose(slope.evaluate(given), want)


def test_functions_of_many_joined_parts_are_not_taken_apart() -> None:
    z, t = sd.symbol("z", (30,)), sd.symbol("t", (30,))
    joined: Any = NP.stack([z[i] * z[0] if i % 2 else 0 * z[i] for i in range(30)])
    for _ in range(20):
        joined = NP.tanh(joined)
    moved = sd.jvp(joined, z, t)
    assert len(topological([moved.value])) < 3 * len(topological([joined.value]))


def test_one_of_many_joined_parts_is_a_padding() -> None:
    z = sd.symbol("z", (3,))
    slope = sd.jacobian(NP.sqrt(NP.concatenate([z * i for i in range(1, 13)])), z, mode="elimination")
    at = np.array([0.0, 1.0, 2.0])
    with np.errstate(divide="ignore"):
        want = np.concatenate([np.diag(np.sqrt(i / at) / 2) for i in range(1, 13)])
    np.testing.assert_allclose(sd.compile(slope, [z])(at), want)
