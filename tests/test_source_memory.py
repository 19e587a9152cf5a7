"""Source for Python libraries: every op gives the numbers of its own evaluation, and takes no more memory than it has.

JAX and PyTorch run where they are installed.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_sources import _LEAVES, op_functions  # pyright: ignore[reportPrivateUsage]

import symdiff as sd
from symdiff.interp import interpret
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.render.targets import code

NP: Any = np
n, m, k = sd.dims("n m k")
x, y = sd.symbol("x", (n,)), sd.symbol("y", (n,))
A = sd.symbol("A", (m, n))
i, j = sd.symbol("i", (k,), "i64"), sd.symbol("j", (k,), "i64")
u = sd.symbol("u", (k,))
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def library(target: str) -> Any:
    """How the target makes arrays."""
    if target == "torch":
        return pytest.importorskip("torch").as_tensor
    if target == "jax":
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
        return jax.numpy.asarray
    return np.asarray


def run(function: Function, target: str, arrays: Sequence[Any], sizes: Sequence[int] = ()) -> Any:
    array = library(target)
    known: dict[str, Any] = {}
    exec(code(function, target, "f"), known)
    return known["f"](*map(array, arrays), *sizes)


@pytest.mark.parametrize("target", ["numpy", "jax", "torch"])
@pytest.mark.parametrize("name", [op for op in OPSET if op not in _LEAVES])
def test_every_op_in_python(name: str, target: str, rng: np.random.Generator) -> None:
    for function, arrays in op_functions(name, rng):
        got = np.asarray(run(function, target, arrays))
        want = interpret(function, arrays)[0]
        assert got.shape == want.shape and got.dtype == want.dtype, code(function, target)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=code(function, target))


@pytest.mark.parametrize("target", ["numpy", "jax", "torch"])
@pytest.mark.parametrize("dtype", ["f64", "f32", "i64"])
def test_what_is_added_at_indices(target: str, dtype: str, rng: np.random.Generator) -> None:
    """Lead axes and axes behind, several indices, negative ones and repeated ones, every dtype."""
    a = sd.symbol("a", (2, m, n, 3), dtype)
    values = (rng.normal(size=(2, 4, 5, 3)) * 8).astype({"f64": "f8", "f32": "f4", "i64": "i8"}[dtype])
    at = {"i": np.array([3, -1, 0, 3]), "j": np.array([1, 1, -5, 1])}
    given = {"a": values, **at}
    zero = sd.zeros((), dtype)
    for expression in (
        sd.add_at(a, np.s_[:, i], zero + 2), sd.add_at(a, np.s_[:, :, j], a[:, :, i]),
        sd.add_at(a, np.s_[:, i, j], a[:, i, j]), sd.set(a, np.s_[:, i, j], 2 * a[:, i, i]),
        sd.set(a, i - i, 3 * a[i - i]),
    ):  # fmt: skip
        function = expression.function()
        arrays = [given[p.name] for p in function.params]
        got, want = np.asarray(run(function, target, arrays)), interpret(function, arrays)[0]
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)


LINEAR: dict[str, Any] = {
    "gather": NP.sum(x[i] ** 2 * u), "rows": NP.sum(A[:, i] ** 2 * u), "points": NP.sum(A[i, j] ** 2 * u),
    "set": NP.sum(sd.set(x, i, u) ** 2 * y * x), "add": NP.sum(sd.add_at(x, i, u) ** 2 * y),
    "product": NP.prod(1 + x / 1000) + NP.sum(x), "first": x[0] ** 3 + x[-1] ** 2,
    "unit": NP.sum(sd.set(x, 3, 2.0) * x), "carried": NP.sum(sd.scan(lambda s, t: (s + y * t, None), x, u)[0] ** 2),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_memory_of_source_is_linear(name: str, rng: np.random.Generator) -> None:
    """A table of size by size, or of all steps by size, would be two hundred times what is allowed here."""
    size, rows, count = 4000, 3, 2000
    values = {
        "x": rng.normal(size=size), "y": rng.normal(size=size), "A": rng.normal(size=(rows, size)),
        "i": rng.integers(-rows, rows, count), "j": rng.integers(-size, size, count), "u": rng.normal(size=count),
        "n": size, "m": rows, "k": count,
    }  # fmt: skip
    expression = LINEAR[name]
    variable = max(expression.symbols(), key=lambda s: (s.value.type.floating, s.value.type.rank))
    programs = [expression] if name == "carried" else [expression, sd.gradient(expression, variable)]
    for program in programs:
        known: dict[str, Any] = {}
        exec(program.code("numpy", "f"), known)
        function: Any = known["f"]
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        tracemalloc.start()
        try:
            got = function(*[values[a] for a in arguments])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        sizes = {"n": size, "m": rows, "k": count}
        want = program.evaluate({s.value.name: values[s.value.name] for s in program.symbols()}, sizes=sizes)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
        assert peak < 600_000, program.code("numpy", "f")
        for target in ("jax", "torch"):
            assert "eye" not in program.code(target).replace(".eye(1, n,", "")


def test_unit_vectors_are_rows_by_themselves(rng: np.random.Generator) -> None:
    for place, want in ((0, 0), (2, 2), (-1, 4)):
        gradient = sd.gradient(x[place] * NP.sum(y), x)
        value = eval(gradient.source("numpy"), {"np": np, "y": np.ones(5), "n": 5})
        np.testing.assert_array_equal(value, 5.0 * (np.arange(5) == want))
    assert sd.gradient(x[2], x).source("numpy") == "np.eye(1, n, 2)[0]"
    assert "Float64.(1:n .== 3)" in sd.gradient(x[2], x).source("julia")


def test_numbers_written_twice_are_the_last_ones() -> None:
    got = eval(sd.set(x, i, u).source("numpy"), {"np": np, **SimpleNamespace(
        x=np.zeros(4), i=np.array([1, -3, 1, 3]), u=np.arange(4.0), n=4, k=4).__dict__})  # fmt: skip
    np.testing.assert_array_equal(got, [0, 2, 0, 3])
