"""Derivations step by step: each local Jacobian and accumulated product is checked as numbers, and three as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff.api.derivation import Derivation


def examples() -> dict[str, tuple[Any, Any]]:
    n, m, k = sd.dims("n m k")
    W, x, b, u = sd.symbol("W", (m, n)), sd.symbol("x", (n,)), sd.symbol("b", (m,)), sd.symbol("u", (m,))
    y, z, V = sd.symbol("y", (m,)), sd.symbol("z", (n,)), sd.symbol("V", (k, m))
    t = sd.symbol("t")
    return {
        "score": (u @ np.tanh(W @ x + b), b),
        "residual": (np.sum((W @ x - y) ** 2), W),
        "softmax": (-np.sum(z * np.log(sd.softmax(x))), x),
        "sigmoid": (1 / (1 + np.exp(-t)), t),
        "two layers": (V @ sd.relu(W @ x + b), x),
        "uses twice": (np.sin(x) @ (x * x), x),
    }


def restated(steps: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values of all intermediate names, from their definitions alone."""
    known = dict(values)
    for step in steps:
        operands = [s.value.name for s in step.definition.symbols()]
        known[step.name] = step.definition.evaluate({name: known[name] for name in operands})
    return known


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("name", list(examples()))
def test_every_step_is_right(name: str, order: Any) -> None:
    f, x = examples()[name]
    derivation = sd.derivation(f, x, order)
    steps = derivation.steps if order == "forward" else derivation.steps[::-1]
    rng = np.random.default_rng(7)
    sizes = {"n": 4, "m": 3, "k": 2}
    values = {
        s.value.name: rng.normal(size=tuple(sizes[str(d)] for d in s.shape)) for s in sd.Expression(f.value).symbols()
    }
    known = restated(steps, values)

    def number(expression: Any) -> Any:
        at = {s.value.name: known[s.value.name] for s in expression.symbols()}
        return np.asarray(expression.evaluate(at, sizes))

    # The last definition is the function itself.
    np.testing.assert_allclose(known[steps[-1].name], f.evaluate(values), rtol=1e-12)
    # Recombine local Jacobians by the chain rule and compare with every accumulated product.
    start, shape = x.value.name, np.shape(values[x.value.name])
    slopes: dict[str, Any] = {start: np.eye(int(np.prod(shape))).reshape(shape + shape)}
    for step in steps:
        pieces = [np.tensordot(number(p.jacobian), slopes[p.operand], np.ndim(known[p.operand])) for p in step.locals]
        slopes[step.name] = sum(pieces)
        if order == "forward":
            np.testing.assert_allclose(number(step.accumulated), slopes[step.name], rtol=1e-9, atol=1e-12)
    end = steps[-1].name
    if order == "reverse":
        # The same chain from the other end: df/dz of every step is df/dz' dz'/dz summed over the steps z' that use z.
        back = {end: number(steps[-1].accumulated)}
        for step in reversed(steps):
            np.testing.assert_allclose(number(step.accumulated), back[step.name], rtol=1e-9, atol=1e-12)
            for part in step.locals:
                through = np.tensordot(back[step.name], number(part.jacobian), np.ndim(known[step.name]))
                back[part.operand] = back[part.operand] + through if part.operand in back else through
        np.testing.assert_allclose(back[start], slopes[end], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(number(derivation.result), slopes[end], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["score", "residual", "sigmoid"])
def test_text(name: str, golden: Callable[[str, str], None]) -> None:
    derivation = sd.derivation(*examples()[name])
    golden(f"derivation_{name}", f"{derivation}\n\n{derivation.latex()}\n\n{derivation.markdown()}\n")


def test_names_keep_clear_of_symbols() -> None:
    z1 = sd.symbol("z1", (3,))
    names = {s.name for s in sd.derivation(np.sum(np.sin(z1)), z1).steps}
    assert "z1" not in names and names == {"v1", "v2"}


def test_the_chain_rule_is_spelled_out() -> None:
    v = sd.symbol("v", (3,))
    text = str(sd.derivation(np.sum(np.sin(v) * np.cos(v) + np.sin(v)), v))
    assert "∂f/∂z1 = ∂f/∂z3 · ∂z3/∂z1 + ∂f/∂z4 · ∂z4/∂z1 = z2 + 1" in text
    forward = sd.derivation(np.sum(np.tanh(v)), v, "forward")
    assert "∂z2/∂v = ∂z2/∂z1 · ∂z1/∂v = 1 - z1²" in str(forward)
    assert r"\frac{\partial z_{2}}{\partial v} = \frac{\partial z_{2}}{\partial z_{1}} \, \frac" in forward.markdown()


def test_names_are_set_as_the_symbols_are() -> None:
    hat, f = sd.symbol("y_hat", (3,), latex=r"\tilde{y}"), sd.function("f")
    derivation = sd.derivation(np.sum(f(hat)), hat)
    assert derivation.letter == "g" and "∂g/∂y\u0302" in str(derivation)  # f is taken, y has a hat
    assert r"\frac{\partial g}{\partial \tilde{y}}" in derivation.latex()
    assert "1 - z1²" in str(sd.derivation(np.sum(np.tanh(hat)), hat))  # by the value itself


def test_refusals() -> None:
    x = sd.symbol("x", (3,))
    with pytest.raises(sd.ArgumentError, match="expected 'forward' or 'reverse'"):
        sd.derivation(np.sum(x), x, "sideways")  # type: ignore[arg-type]
    with pytest.raises(sd.ArgumentError, match="expected a symbol"):
        other: Any = np.sin(x)
        sd.derivation(np.sum(x), other)
    assert isinstance(sd.derivation(np.sum(x), x), Derivation)
