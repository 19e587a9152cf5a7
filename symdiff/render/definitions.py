"""What source code of every language begins and ends with: sizes read off the arguments, and a definition in Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from symdiff.ir.dims import Dim
from symdiff.ir.graph import Function
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.notation import Node
from symdiff.render.printer import Printer

LONGEST_LINE = 40
"""Nodes of an expression that needs no cut."""

Read: TypeAlias = Callable[[str, int, int], str]
"""The text of a size, given an argument, the axis, and how many axes the argument has."""


def size_lines(
    function: Function, body: str, one: Read, every: Callable[[str], str] | None = None
) -> tuple[list[str], list[str]]:
    """Lines that read the dimensions of `body` off the arguments, and the dimensions that no argument shows alone.

    every: the text of all sizes of an argument at once.
    """
    used = [d for d in function.dims if re.search(rf"(?<![\w.]){d}\b", body)]
    found: set[str] = set()
    lines: list[str] = []
    for p in function.params:
        shown = [str(s) if isinstance(s, Dim) and str(s) in s.names else "" for s in p.type.shape]
        fresh = {s for s in shown if s in used and s not in found}
        if every is not None and fresh and set(shown) == fresh and len(shown) == len(fresh) > 1:
            lines.append(f"    {', '.join(shown)} = {every(p.name)}")
        else:
            firsts = [s for s in dict.fromkeys(shown) if s in fresh]
            lines += [f"    {s} = {one(p.name, shown.index(s), len(shown))}" for s in firsts]
        found |= fresh
    return lines, [d for d in used if d not in found]


def shape_lines(function: Function, body: str) -> tuple[list[str], list[str]]:
    """The lines for arrays that have a shape."""
    return size_lines(function, body, lambda p, axis, _: f"{p}.shape[{axis}]", lambda p: f"{p}.shape")


def python_definition(
    function: Function, results: Sequence[Node], name: str, printer: type[Printer], reserved: Iterable[str],
    sizes: Callable[[Function, str], tuple[list[str], list[str]]],
) -> tuple[str, str]:  # fmt: skip
    """The whole definition, and its body alone. Named subterms keep clear of what is reserved."""
    named = named_subterms(results, shared=True, largest=LONGEST_LINE)
    taken = {p.name for p in function.params} | set(function.dims) | set(reserved) | {name}
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    strings = printer(names).write(results)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    returned = [names.get(r) or strings[r][0] for r in results]
    lines.append(f"    return {', '.join(returned)}" + ("," if len(returned) == 1 and len(results) != 1 else ""))
    body = "\n".join(lines)
    known, unknown = sizes(function, body)
    head = f"def {name}({', '.join([p.name for p in function.params] + unknown)}):"
    return "\n".join([head, *known, body]), body
