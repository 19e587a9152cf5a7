"""Source code by target: a whole definition with named shared subterms, in NumPy, JAX, PyTorch, Julia, C or SymPy.

Takes a Function, gives runnable text. Sizes are read off the arguments; a dimension that no argument shows alone is an
argument itself. Shared subterms and cuts through very long lines get names t1, t2, ..., clear of every symbol.
"""

from __future__ import annotations

import keyword
import re

from symdiff.errors import ArgumentError
from symdiff.ir.dims import Dim
from symdiff.ir.graph import Function
from symdiff.render.c_source import c_source
from symdiff.render.julia_source import julia_source
from symdiff.render.loop_source import SCANS, loop_source
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.numpy_source import size_lines as numpy_sizes
from symdiff.render.numpy_source import to_source
from symdiff.render.printer import Printer
from symdiff.render.python_targets import JaxPrinter, TorchPrinter
from symdiff.render.recover import recover
from symdiff.render.recurrences import has_loops
from symdiff.render.sympy_source import sympy_code, sympy_source

TARGETS = ("numpy", "jax", "torch", "julia", "c", "sympy")
LONGEST_LINE = 40

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
        return loop_source(function, target, name, lambda f, n: _python(f, target, n, None), size_lines)
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
    named = named_subterms(results, shared=True, largest=LONGEST_LINE)
    printer_type = _PRINTERS[target]
    reserved = {"jax", "jnp", "torch", "math"}
    clash = next((p.name for p in function.params if p.name in reserved), None)
    if clash is not None:
        raise ArgumentError(f"source for {target}: the symbol {clash} has the name of a module; rename it")
    taken = {p.name for p in function.params} | set(function.dims) | reserved | {name}
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    strings = printer_type(names).write(results)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    returned = [names.get(r) or strings[r][0] for r in results]
    lines.append(f"    return {', '.join(returned)}" + ("," if len(returned) == 1 and len(results) != 1 else ""))
    body = "\n".join(lines)
    sizes, unknown = size_lines(function, body)
    arguments = [p.name for p in function.params] + unknown
    imports = "".join([line for line, pattern in _IMPORTS[target] if re.search(pattern, body)])
    head = f"def {name}({', '.join(arguments)}):"
    return (imports + "\n\n" if imports else "") + "\n".join([head, *sizes, body]) + "\n"


def size_lines(function: Function, body: str) -> tuple[list[str], list[str]]:
    """Lines that read the dimensions of `body` off the arguments, and the dimensions that no argument shows alone."""
    used = [d for d in function.dims if re.search(rf"(?<![\w.]){d}\b", body)]
    found: set[str] = set()
    lines: list[str] = []
    for p in function.params:
        shown = [str(s) if isinstance(s, Dim) and str(s) in s.names else "" for s in p.type.shape]
        fresh = {s for s in shown if s in used and s not in found}
        if not fresh:
            continue
        if set(shown) == fresh and len(shown) == len(fresh) and len(shown) > 1:
            lines.append(f"    {', '.join(shown)} = {p.name}.shape")
        else:
            lines += [f"    {s} = {p.name}.shape[{shown.index(s)}]" for s in dict.fromkeys(shown) if s in fresh]
        found |= fresh
    return lines, [d for d in used if d not in found]
