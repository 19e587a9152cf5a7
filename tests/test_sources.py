"""Source code for other targets: C is compiled and run, NumPy definitions and SymPy texts are run.

Values come from the interpreter over random programs, random contractions and every op by its own sample.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import given, settings

from symdiff.errors import UnsupportedError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import evaluate
from symdiff.ir.graph import Function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render.targets import code

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
_DTYPES = {"float64": "f64", "float32": "f32", "int64": "i64", "bool": "bool"}
_NUMPY = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}
_SCALARS = {"f64": ctypes.c_double, "f32": ctypes.c_float, "i64": ctypes.c_int64, "bool": ctypes.c_bool}
# No counterpart in C, by declaration.
_NOT_IN_C = frozenset({"polygamma"})
_LEAVES = frozenset({"const", "array", "iota", "size", "apply", "functional"})

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


# -------------------------------------------------------------------- C
def run_c(function: Function, args: Sequence[Any], sizes: Mapping[str, int], folder: Path) -> list[Any]:
    text = code(function, "c", "fn")
    stem = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    stem.with_suffix(".c").write_text(text, encoding="utf-8")
    library = stem.with_suffix(".so")
    command = [str(COMPILER), "-std=c99", "-O0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-parentheses",
               "-shared", "-fPIC", "-o", str(library), str(stem.with_suffix(".c")), "-lm"]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr + text
    assert not built.stderr, built.stderr + text
    given_args: list[Any] = [ctypes.c_long(sizes[d]) for d in function.dims]
    held: list[Any] = []
    for p, a in zip(function.params, args, strict=True):
        array = np.array(a, _NUMPY[p.type.dtype], order="C")
        held.append(array)
        given_args.append(array.ctypes.data_as(ctypes.c_void_p) if p.type.rank else _SCALARS[p.type.dtype](array[()]))
    results = [np.full([evaluate(s, sizes) for s in r.type.shape], 7, _NUMPY[r.type.dtype]) for r in function.results]
    given_args += [r.ctypes.data_as(ctypes.c_void_p) for r in results]
    getattr(ctypes.CDLL(str(library)), "fn")(*given_args)
    return results


def same(got: Any, want: Any, text: str, rtol: float = 1e-9) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, text
    if want.dtype in (np.float32, np.float64):
        rtol = 2e-5 if want.dtype == np.float32 else rtol
        known = np.isfinite(want)
        scale = np.max(np.abs(want[known]), initial=1.0)
        np.testing.assert_allclose(got[known], want[known], rtol=rtol, atol=rtol * scale, err_msg=text)
    else:
        np.testing.assert_array_equal(got, want, err_msg=text)


@needs_compiler
@settings(max_examples=40)
@given(strategies.programs())
def test_programs_in_c(tmp_path_factory: pytest.TempPathFactory, program: strategies.Program) -> None:
    want = interpret(program.function, program.args, program.sizes)
    try:
        got = run_c(program.function, program.args, program.sizes, tmp_path_factory.getbasetemp())
    except UnsupportedError as error:
        assert any(name in str(error) for name in _NOT_IN_C)
        return
    for g, w in zip(got, want, strict=True):
        same(g, w, code(program.function, "c"), 1e-7)


def op_functions(name: str, rng: np.random.Generator) -> list[tuple[Function, Sequence[Any]]]:
    """Programs of one op, at the points where it says it can be tested."""
    op = OPSET[name]
    cases = op.sample.draw(rng) if op.sample.draw is not None else []
    if op.sample.intervals:
        cases += [(tuple(rng.uniform(a, b, s) for a, b in op.sample.intervals), {}) for s in ((), (3,), (2, 3))]
    found: list[tuple[Function, Sequence[Any]]] = []
    for arrays, attrs in cases:
        builder = Builder(OPSET)
        params = [
            builder.param(f"x{i}", TensorType(_DTYPES[np.asarray(a).dtype.name], np.shape(a)))
            for i, a in enumerate(arrays)
        ]
        found.append((builder.function(params, [builder.make(op, tuple(params), freeze_attrs(attrs))]), arrays))
    return found


@needs_compiler
@pytest.mark.parametrize("name", [n for n in OPSET if n not in _LEAVES])
def test_every_op_in_c(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    cases = op_functions(name, rng)
    assert cases
    for function, arrays in cases:
        if name in _NOT_IN_C:
            with pytest.raises(UnsupportedError, match=name):
                code(function, "c")
            continue
        same(run_c(function, arrays, {}, tmp_path)[0], interpret(function, arrays)[0], code(function, "c"))
