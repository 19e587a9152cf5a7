"""NumPy source of a Function: one expression over symbol and dimension names, or a def with named shared subterms.

The expression may call sigmoid, relu, softmax and logsumexp besides NumPy; a def brings them along. Functions that
NumPy lacks (erf, lgamma, ...) are taken from scipy.special. Strings are built operands first, so depth is no limit.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

from symdiff.errors import ArgumentError
from symdiff.ir.dims import Dim
from symdiff.ir.graph import Function
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.notation import Node
from symdiff.render.numpy_calls import HELPER_SOURCE, HELPERS
from symdiff.render.printer import Printer
from symdiff.render.recover import recover

LARGEST_EXPRESSION = 20_000
DEEPEST_EXPRESSION = 90  # Python's own parser refuses about 200 nested parentheses


def to_source(
    function: Function, target: str = "numpy", name: str | None = None, like: Function | None = None
) -> str:
    """NumPy source. One expression for a single result, a def for several or when `name` is given.

    like: a program whose sums are written in the same order here.
    """
    if target != "numpy":
        raise ArgumentError(f"source target {target!r}: expected 'numpy'")
    _check_names(function)
    if name is not None or len(function.results) != 1:
        return _definition(function, recover(function, True, like)[1], name or function.name)
    _, results = recover(function, like=like)
    if results[0].size > LARGEST_EXPRESSION:
        raise ArgumentError(
            f"the expression has {results[0].size} nodes written out, more than {LARGEST_EXPRESSION}; "
            "ask for a definition with named subterms instead: .code(\"numpy\")"
        )
    text = Printer({}).write(results)[results[0]][0]
    if _depth(text) > DEEPEST_EXPRESSION:
        raise ArgumentError(
            f"the expression nests {_depth(text)} parentheses, more than Python reads safely; "
            "ask for a definition with named subterms instead: .code(\"numpy\")"
        )
    return text


def _check_names(function: Function) -> None:
    """Refuse symbols that the text could not name."""
    for symbol in (*[p.name for p in function.params], *function.dims):
        if keyword.iskeyword(symbol) or symbol in HELPERS or symbol in ("np", "scipy"):
            raise ArgumentError(f"NumPy source: the symbol {symbol} cannot be named there; expected another name")


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]":
            depth -= 1
    return deepest


def _definition(function: Function, results: Sequence[Node], name: str) -> str:
    named = named_subterms(results, shared=True, largest=40)
    taken = {p.name for p in function.params} | set(function.dims) | set(HELPERS) | {"np", "scipy", name}
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    strings = Printer(names).write(results)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    returned = [names.get(r) or strings[r][0] for r in results]
    lines.append(f"    return {', '.join(returned)}" + ("," if len(returned) == 1 and len(results) != 1 else ""))
    body = "\n".join(lines)
    sizes, unknown = size_lines(function, body)
    arguments = [p.name for p in function.params] + unknown
    helpers = [text for helper, text in HELPER_SOURCE.items() if re.search(rf"(?<![\w.]){helper}\(", body)]
    imports = "import numpy as np" + ("\nimport scipy.special" if "scipy.special" in body else "")
    head = f"def {name}({', '.join(arguments)}):"
    return "\n\n\n".join([imports, *helpers, "\n".join([head, *sizes, body])]) + "\n"


def size_lines(function: Function, body: str) -> tuple[list[str], list[str]]:
    """Lines that read the dimensions of `body` off the arguments, and the dimensions that no argument shows alone."""
    found: dict[str, str] = {}
    for p in function.params:
        for axis, size in enumerate(p.type.shape):
            if isinstance(size, Dim) and str(size) in size.names:
                found.setdefault(str(size), f"    {size} = np.shape({p.name})[{axis}]")
    used = [d for d in function.dims if re.search(rf"\b{d}\b", body)]
    return [found[d] for d in used if d in found], [d for d in used if d not in found]
