"""NumPy source of a Function: one expression over symbol and dimension names, or a def with named shared subterms.

The expression may call sigmoid, relu, softmax and logsumexp besides NumPy; a def brings them along. Functions that
NumPy lacks (erf, lgamma, ...) are taken from scipy.special. Strings are built operands first, so depth is no limit.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

from symdiff.errors import ArgumentError
from symdiff.ir.graph import Function
from symdiff.render.definitions import python_definition, size_lines
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
    text, body = python_definition(function, results, name, Printer, {*HELPERS, "np", "scipy"}, numpy_sizes)
    helpers = [source for helper, source in HELPER_SOURCE.items() if re.search(rf"(?<![\w.]){helper}\(", body)]
    imports = "import numpy as np" + ("\nimport scipy.special" if "scipy.special" in body else "")
    return "\n\n\n".join([imports, *helpers, text]) + "\n"


def numpy_sizes(function: Function, body: str) -> tuple[list[str], list[str]]:
    """The lines that read sizes of anything NumPy takes for an array."""
    return size_lines(function, body, lambda p, axis, _: f"np.shape({p})[{axis}]")
