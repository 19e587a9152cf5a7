"""NumPy source of a Function: one expression over symbol and dimension names, or a def with named shared subterms.

The expression may call sigmoid, relu, softmax and logsumexp besides NumPy; a def brings them along. Functions that
NumPy lacks (erf, lgamma, ...) are taken from scipy.special. Strings are built operands first, so depth is no limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from symdiff.errors import ArgumentError
from symdiff.ir.dims import Dim, Shape, Size
from symdiff.ir.graph import ArrayConstant, Function
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.notation import (
    Node,
    chain_runs,
    coefficient_parts,
    decimal,
    inverted,
    solves,
    split_power,
    topological,
    uses_matrix_power,
)
from symdiff.render.numpy_calls import COMPARISONS, FUNCTIONS, HELPER_SOURCE, HELPERS, LOGIC, NUMPY_DTYPES
from symdiff.render.recover import recover

LARGEST_EXPRESSION = 20_000
DEEPEST_EXPRESSION = 90  # Python's own parser refuses about 200 nested parentheses

_COMPARE, _LOGIC, _ADD, _MUL, _UNARY, _POW, _ATOM = range(7)
_LETTERS = "ijklmnopqrstuvwxyzabcdefghIJKLMNOPQRSTUVWXYZABCDEFGH"

Text = tuple[str, int]


def to_source(function: Function, target: str = "numpy", name: str | None = None) -> str:
    """NumPy source. One expression for a single result, a def for several or when `name` is given."""
    if target != "numpy":
        raise ArgumentError(f"source target {target!r}: expected 'numpy'")
    _, results = recover(function)
    if name is not None or len(results) != 1:
        return _definition(function, results, name or function.name)
    if results[0].size > LARGEST_EXPRESSION:
        raise ArgumentError(
            f"the expression has {results[0].size} nodes written out, more than {LARGEST_EXPRESSION}; "
            "ask for a definition with named subterms instead: name='f'"
        )
    text = write(results, {})[results[0]][0]
    if _depth(text) > DEEPEST_EXPRESSION:
        raise ArgumentError(
            f"the expression nests {_depth(text)} parentheses, more than Python reads safely; "
            "ask for a definition with named subterms instead: name='f'"
        )
    return text


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
    strings = write(results, names)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    returned = [names.get(r) or strings[r][0] for r in results]
    lines.append(f"    return {', '.join(returned)}" + ("," if len(returned) == 1 and len(results) != 1 else ""))
    body = "\n".join(lines)
    sizes, unknown = _size_lines(function, body)
    arguments = [p.name for p in function.params] + unknown
    helpers = [text for helper, text in HELPER_SOURCE.items() if re.search(rf"(?<![\w.]){helper}\(", body)]
    imports = "import numpy as np" + ("\nimport scipy.special" if "scipy.special" in body else "")
    head = f"def {name}({', '.join(arguments)}):"
    return "\n\n\n".join([imports, *helpers, "\n".join([head, *sizes, body])]) + "\n"


def _size_lines(function: Function, body: str) -> tuple[list[str], list[str]]:
    """Lines that read the dimensions of `body` off the arguments, and the dimensions that no argument shows alone."""
    found: dict[str, str] = {}
    for p in function.params:
        for axis, size in enumerate(p.type.shape):
            if isinstance(size, Dim) and str(size) in size.names:
                found.setdefault(str(size), f"    {size} = np.shape({p.name})[{axis}]")
    used = [d for d in function.dims if re.search(rf"\b{d}\b", body)]
    return [found[d] for d in used if d in found], [d for d in used if d not in found]


def write(results: Sequence[Node], names: Mapping[Node, str]) -> dict[Node, Text]:
    """The text and precedence of every node; nodes with a name are used by it, and have their own text here."""
    own: dict[Node, Text] = {}
    used: dict[Node, Text] = {}
    for node in topological(results):
        text = _chain(node, used, names) if node.kind == "matmul" else _write(node, [used[a] for a in node.args])
        own[node] = text
        used[node] = (names[node], _ATOM) if node in names else text
    return own


def _at(text: Text, level: int) -> str:
    return text[0] if text[1] >= level else f"({text[0]})"


def _write(node: Node, args: list[Text]) -> Text:
    kind = node.kind
    if kind == "sym":
        return node.data, _ATOM
    if kind == "num":
        return number_text(node.data)
    if kind == "dim":
        return size_text(node.data)
    if kind in ("ones", "zeros"):
        return f"np.{kind}({shape_text(node.shape)}{_dtype(node.data)})", _ATOM
    if kind == "eye":
        return f"np.eye({size_text(node.shape[0])[0]}{_dtype(node.data)})", _ATOM
    if kind == "add":
        return _sum(node, args)
    if kind == "prod":
        return _product(node, args)
    if kind == "T":
        return _at(args[0], _ATOM) + ".T", _ATOM
    if kind == "pow":
        exponent = args[1][0] if args[1][1] >= _ATOM else f"({args[1][0]})"
        return f"{_at(args[0], _ATOM)}**{exponent}", _POW
    if kind in ("outer", "diag", "diagof", "trace"):
        call = {"diagof": "diag"}.get(kind, kind)
        return f"np.{call}({', '.join([a[0] for a in args])})", _ATOM
    if kind in ("sum", "mean"):
        return f"np.{kind}({args[0][0]}{_axes(node.data, node.args[0].rank)})", _ATOM
    if kind == "einsum":
        labels, output = node.data
        spec = ",".join([_word(w) for w in labels]) + "->" + _word(output)
        return f"np.einsum('{spec}', {', '.join([a[0] for a in args])})", _ATOM
    if kind == "expand":
        return f"{_at(args[0], _ATOM)}[{', '.join([':' if kept else 'None' for kept in node.data])}]", _ATOM
    if kind == "subscript":
        return _subscript(node, args), _ATOM
    return _call(node, args)


def _word(labels: Sequence[int]) -> str:
    return "".join([_LETTERS[x] for x in labels])


def _dtype(dtype: str) -> str:
    return "" if dtype == "f64" else f", dtype={NUMPY_DTYPES[dtype]}"


def _axes(axes: tuple[int, ...], rank: int) -> str:
    if len(axes) == rank:
        return ""
    return f", axis={axes[0] if len(axes) == 1 else axes}"


def number_text(value: Any) -> Text:
    if isinstance(value, bool):
        return str(value), _ATOM
    if isinstance(value, str):
        special = {"pi": "np.pi", "e": "np.e", "euler_gamma": "np.euler_gamma", "inf": "np.inf", "nan": "np.nan"}
        return (special[value], _ATOM) if value in special else ("-np.inf" if value == "-inf" else value, _UNARY)
    short = decimal(value)
    if short is not None:
        return short, _UNARY if value < 0 else _ATOM
    fraction = Fraction(value)
    return f"{fraction.numerator}/{fraction.denominator}", _MUL


def size_text(size: Size) -> Text:
    text = str(size)
    return text, _ATOM if text.isidentifier() or text.isdigit() else _ADD


def shape_text(shape: Shape) -> str:
    sizes = [size_text(s)[0] for s in shape]
    return sizes[0] if len(sizes) == 1 else f"({', '.join(sizes)})"


def _sum(node: Node, args: list[Text]) -> Text:
    parts: list[str] = []
    for i, (sign, text) in enumerate(zip(node.data, args, strict=True)):
        term = _at(text, _MUL if sign < 0 else _ADD)
        parts.append((("-" if sign < 0 else "") if i == 0 else " - " if sign < 0 else " + ") + term)
    return "".join(parts), _ADD


def _product(node: Node, args: list[Text]) -> Text:
    number, count = node.data
    front, divisor = coefficient_parts(number)
    above, below = list(zip(node.args[:count], args[:count], strict=True)), args[count:]
    if not above and number == 1 and len(below) == 1:
        base, power = split_power(node.args[0])
        if power != 1 and base is not node.args[0] and below[0][1] == _POW:
            root = below[0][0].rsplit("**", 1)[0]
            return f"{root}**({number_text(-power)[0]})", _POW
    arrays = [n for n, _ in above if n.rank]
    plain = any(n.kind != "dim" and not _is_mask(n) for n, _ in above)  # a float that takes booleans as 0 and 1
    texts: list[str] = []
    for i, (factor, text) in enumerate(above):
        last = i == len(above) - 1 and len(arrays) == 1 and not below and divisor == 1
        inner = last and factor.kind == "matmul" and factor.rank > 0
        bare = plain and _is_mask(factor) and text[0].startswith("np.float")
        texts.append(_mask(text) if bare else text[0] if inner else _at(text, _UNARY))
    if front not in (1, -1) or not above:
        texts.insert(0, number_text(front)[0])
    line = "*".join(texts)
    under = ([(str(divisor), _ATOM)] if divisor != 1 else []) + below
    if len(under) == 1:
        line += "/" + _at(under[0], _POW)
    elif under:
        line += f"/({'*'.join([_at(t, _UNARY) for t in under])})"
    if front == -1 and above:
        line = "-" + line
    return line, _ADD if front < 0 else _MUL


def _is_mask(factor: Node) -> bool:
    """A comparison cast to a float."""
    if factor.kind != "call" or factor.data[0] != "cast" or factor.data[1] not in ("f64", "f32"):
        return False
    return factor.args[0].kind == "call" and factor.args[0].data[0] in COMPARISONS


def _mask(text: Text) -> str:
    """np.float64(x > 0) as (x > 0): multiplying by a boolean is multiplying by 0 or 1."""
    return text[0][text[0].index("(") :]


def _chain(node: Node, used: Mapping[Node, Text], names: Mapping[Node, str]) -> Text:
    """Right to left, so that an inverse before a vector solves with all that follows."""
    parts: list[str] = []
    runs = chain_runs(node.args)
    for place in range(len(runs) - 1, -1, -1):
        factor, count = runs[place]
        text = used[factor]
        matrix = inverted(factor) if solves(node.args) and parts and factor not in names else None
        if matrix is not None:
            turned = _at(used[matrix], _ATOM) + ".T" if factor.kind == "T" else used[matrix][0]
            for _ in range(count):
                parts = [f"np.linalg.solve({turned}, {' @ '.join(parts)})"]
        elif uses_matrix_power(factor, count):
            parts.insert(0, f"np.linalg.matrix_power({text[0]}, {count})")
        elif place == 0 and factor.kind == "matmul":
            parts.insert(0, text[0])
        else:
            parts[:0] = [_at(text, _POW)] * count
    return " @ ".join(parts), _MUL if len(parts) > 1 else _ATOM


def _subscript(node: Node, args: list[Text]) -> str:
    arrays = iter(args[1:])
    parts: list[str] = []
    suffix: list[str] = []
    for entry in node.data:
        if entry == "@":
            parts.append(next(arrays)[0])
        elif entry is None:
            parts.append(":")
        elif not isinstance(entry, tuple):
            parts.append(size_text(entry)[0])
        else:
            text, turned = _range(entry)
            parts.append(text)
            suffix.append("::-1" if turned else ":")
    for i, entry in enumerate(node.data):
        if not isinstance(entry, tuple) and (entry is None or entry == "@"):
            suffix.insert(i, ":") if "::-1" in suffix else None
    base = _at(args[0], _ATOM)
    while len(parts) > 1 and parts[-1] == ":":
        parts.pop()
    first = f"{base}[{', '.join(parts)}]"
    return first if "::-1" not in suffix else f"{first}[{', '.join(suffix)}]"


def _range(entry: tuple[Any, ...]) -> tuple[str, bool]:
    """A slice; a falling one is taken rising and turned, because its end may lie before the first element."""
    first, last, step, _, size = entry
    low, high = (first, last) if step > 0 else (last, first)
    start = "" if low == 0 else str(low)
    stop = "" if high + 1 == size else str(high + 1)
    stride = abs(step)
    return f"{start}:{stop}" + (f":{stride}" if stride != 1 else ""), step < 0


def _call(node: Node, args: list[Text]) -> Text:
    name, data = node.data[0], node.data[1:]
    if name in COMPARISONS:
        return f"{_at(args[0], _LOGIC)} {COMPARISONS[name]} {_at(args[1], _LOGIC)}", _COMPARE
    if name in LOGIC:
        return f"{_at(args[0], _ADD)} {LOGIC[name]} {_at(args[1], _ADD)}", _LOGIC
    if name == "array":
        constant: ArrayConstant = data[0]
        return f"np.array({constant.array.tolist()!r}, dtype=np.{constant.array.dtype.name})", _ATOM
    text = FUNCTIONS[name](node, [a[0] for a in args], data)
    return text, _ATOM
