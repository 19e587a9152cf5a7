"""Source code by target: a whole definition with named shared subterms, in NumPy, JAX, PyTorch, Julia, C or SymPy.

Takes a Function, gives runnable text. Sizes are read off the arguments; a dimension that no argument shows alone is an
argument itself. Shared subterms and cuts through very long lines get names t1, t2, ..., clear of every symbol.
"""

from __future__ import annotations

import keyword
import re

from symdiff.errors import ArgumentError
from symdiff.ir.graph import Function
from symdiff.render.c_source import c_source
from symdiff.render.definitions import python_definition, shape_lines
from symdiff.render.julia_source import julia_source
from symdiff.render.loop_source import SCANS, loop_source
from symdiff.render.numpy_source import numpy_sizes, to_source
from symdiff.render.printer import Printer
from symdiff.render.python_targets import JaxPrinter, TorchPrinter
from symdiff.render.recover import recover
from symdiff.render.recurrences import has_loops
from symdiff.render.sympy_source import sympy_code, sympy_source

TARGETS = ("numpy", "jax", "torch", "julia", "c", "sympy")

_PRINTERS: dict[str, type[Printer]] = {"jax": JaxPrinter, "torch": TorchPrinter}
_IMPORTS = {
    "jax": (("import jax\n", r"\bjax\."), ("import jax.numpy as jnp\n", r"\bjnp\.")),
    "torch": (("import math\n\n", r"\bmath\."), ("import torch\n", r"\btorch\.")),
}


def source(function: Function, target: str = "numpy", like: Function | None = None) -> str:
    """Source code of a single result: one expression for numpy (without loops) and sympy, a definition otherwise.

    like: a program whose sums are written in the same order here.
    """
    _refuse_two_meanings(function)
    if target == "numpy" and not has_loops(function):
        return to_source(function, like=like)
    if target == "sympy":
        return sympy_source(function)
    return code(function, target, like=like)


def _refuse_two_meanings(function: Function) -> None:
    """A symbol and a dimension are told apart by their names alone."""
    dims = set(function.dims)
    for p in function.params:
        if p.name in dims:
            raise ArgumentError(
                f"source: {p.name} is a symbol and a dimension, which no source code tells apart; give one another name"
            )


def code(
    function: Function, target: str = "numpy", name: str | None = None, like: Function | None = None
) -> str:
    """A whole definition, called `name`, by default the function's own name.

    Raises ArgumentError for an unknown target or a name that is no identifier, UnsupportedError for an operation that
    the target has no counterpart for.
    """
    name = function.name if name is None else name
    _refuse_two_meanings(function)
    if target not in TARGETS:
        raise ArgumentError(f"source target {target!r}: expected one of {', '.join(TARGETS)}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ArgumentError(f"source: name {name!r}, expected an identifier")
    if target in SCANS and has_loops(function):
        if target == "numpy":
            return loop_source(function, target, name, lambda f, n: to_source(f, name=n), numpy_sizes)
        return loop_source(function, target, name, lambda f, n: _python(f, target, n, None), shape_lines)
    match target:
        case "numpy":
            return to_source(function, name=name, like=like)
        case "julia":
            return julia_source(function, name)
        case "c":
            return c_source(function, name)
        case "sympy":
            return sympy_code(function, name)
        case _:
            return _python(function, target, name, like)


def _python(function: Function, target: str, name: str, like: Function | None) -> str:
    _, results = recover(function, True, like)
    reserved = {"jax", "jnp", "torch", "math"}
    clash = next((p.name for p in function.params if p.name in reserved), None)
    if clash is not None:
        raise ArgumentError(f"source for {target}: the symbol {clash} has the name of a module; rename it")
    text, body = python_definition(function, results, name, _PRINTERS[target], reserved, shape_lines)
    imports = "".join([line for line, pattern in _IMPORTS[target] if re.search(pattern, body)])
    return (imports + "\n\n" if imports else "") + text + "\n"
