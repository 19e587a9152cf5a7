"""NumPy spelling of every op that is not plain notation: op name -> text from the operands' texts and attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symdiff.ir.dims import Shape, Size
from symdiff.ir.dims import product as size_product
from symdiff.render.notation import Node, is_triangle

Writer = Callable[[Node, list[str], tuple[Any, ...]], str]

NUMPY_DTYPES: Mapping[str, str] = {
    "f64": "np.float64", "f32": "np.float32", "i64": "np.int64", "bool": "np.bool_", "c128": "np.complex128",
}  # fmt: skip
COMPARISONS: Mapping[str, str] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
LOGIC: Mapping[str, str] = {"and": "&", "or": "|", "xor": "^"}
_INTEGER = re.compile(r"-?\d+")
HELPERS = ("sigmoid", "relu", "softmax", "logsumexp")
HELPER_SOURCE: Mapping[str, str] = {
    "sigmoid": "def sigmoid(z):\n    return np.exp(-np.logaddexp(0.0, -np.asarray(z)))",
    "relu": "def relu(z):\n    return np.maximum(z, 0.0)",
    "softmax": (
        "def softmax(z, axis=-1):\n    e = np.exp(z - np.max(z, axis=axis, keepdims=True))\n"
        "    return e/np.sum(e, axis=axis, keepdims=True)"
    ),
    "logsumexp": (
        "def logsumexp(z, axis=-1):\n    top = np.max(z, axis=axis, keepdims=True)\n"
        "    return np.squeeze(top, axis=axis) + np.log(np.sum(np.exp(z - top), axis=axis))"
    ),
}


def _plain(name: str) -> Writer:
    return lambda node, args, data: f"{name}({', '.join(args)})"


def _reduction(name: str, all_axes: bool) -> Writer:
    """`all_axes`: without an axis the NumPy function reduces everything."""

    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        axes: tuple[int, ...] = data[0]
        rank = node.args[0].rank
        if (all_axes and len(axes) == rank) or (rank == 1 and name in HELPERS):
            return f"{name}({args[0]})"
        return f"{name}({args[0]}, axis={axes[0] if len(axes) == 1 else axes})"

    return write


def _select(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """np.where; integers that stand for floats are written as floats, for NumPy takes the dtype from them."""
    condition, *branches = args
    if data[0] in ("f64", "f32") and all(_INTEGER.fullmatch(b) for b in branches):
        first, second = branches
        branches = [f"{first}.0", second] if data[0] == "f64" else [f"np.float32({first})", f"np.float32({second})"]
    return f"np.where({condition}, {', '.join(branches)})"


def _norm(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    if 2 < len(data[0]) < node.args[0].rank:
        return f"np.sqrt(np.sum({args[0]}**2, axis={data[0]}))"
    return _reduction("np.linalg.norm", True)(node, args, data)


def _prod_others(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """The product of what comes before and of what comes after, zeros included."""
    (axis,) = data[0]
    rank = node.rank
    widths = _widths([(int(i == axis), 0) for i in range(rank)])
    before = ":, " * axis
    along = f", axis={axis}" if rank > 1 else ""

    def running(x: str) -> str:
        return f"np.cumprod(np.pad({x}, {widths}, constant_values=1){along})"

    product = f"{running('x')}[{before}:-1]*{running(f'x[{before}::-1]')}[{before}-2::-1]"
    return f"(lambda x: {product})({args[0]})"


def _cumsum(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    axis, reverse = data
    if reverse and node.rank == 1:
        inner = args[0] if args[0].isidentifier() else f"({args[0]})"
        return f"np.cumsum({inner}[::-1])[::-1]"
    if reverse:
        return f"np.flip(np.cumsum(np.flip({args[0]}, axis={axis}), axis={axis}), axis={axis})"
    return f"np.cumsum({args[0]}, axis={axis})" if node.rank > 1 else f"np.cumsum({args[0]})"


def _triangle(name: str) -> Writer:
    return lambda node, args, data: f"np.{name}({args[0]})" if data[0] == 0 else f"np.{name}({args[0]}, k={data[0]})"


def _tuple(sizes: tuple[Size, ...]) -> str:
    return f"({', '.join([str(s) for s in sizes])}{',' if len(sizes) == 1 else ''})"


def _cast(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    return f"{NUMPY_DTYPES[data[0]]}({args[0]})"


def _triangular_solve(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    lower, trans = data
    triangle = args[0] if is_triangle(node.args[0], lower) else f"np.{'tril' if lower else 'triu'}({args[0]})"
    if trans:
        triangle = f"{triangle}.T" if node.args[0].rank == 2 else f"np.swapaxes({triangle}, -1, -2)"
    return f"np.linalg.solve({triangle}, {args[1]})"


def _cholesky(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    if node.args[0].symmetric and node.rank == 2:
        return f"np.linalg.cholesky({args[0]})"
    other = f"({args[0]}).T" if node.rank == 2 else f"np.swapaxes({args[0]}, -1, -2)"
    return f"np.linalg.cholesky(0.5*({args[0]} + {other}))"


def _embed(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """Zeros around; between elements that are steps apart, zeros on an axis of their own that joins the first."""
    text, shape, starts, steps, outer = upright("np", args[0], data)
    for axis, step in enumerate(steps):
        if step > 1:
            shape[axis] = step * shape[axis]
            spread = _widths([(0, 0)] * (axis + 1) + [(0, step - 1)] + [(0, 0)] * (len(shape) - axis - 1))
            text = f"np.pad(np.expand_dims({text}, {axis + 1}), {spread}).reshape({', '.join(map(str, shape))})"
    if all(step == 1 for step in steps):
        pairs = [(start, size - start - mine) for start, size, mine in zip(starts, outer, shape, strict=True)]
        return f"np.pad({text}, {_widths(pairs)})"
    pairs = [(start, size if step > 1 else size - start - mine)
             for start, step, size, mine in zip(starts, steps, outer, shape, strict=True)]  # fmt: skip
    kept = ", ".join([f":{size}" if step > 1 else ":" for step, size in zip(steps, outer, strict=True)])
    return f"np.pad({text}, {_widths(pairs)})[{kept}]"


def upright(module: str, text: str, data: tuple[Any, ...]) -> tuple[str, list[Size], list[Size], list[int], Shape]:
    """What an embedding places, all axes in the order in which they are placed: the operand's text and shape, for every
    axis where it starts and how far apart its elements are, and the shape around."""
    inner, outer = data[2:]
    lead = len(outer) - len(data[0])
    starts: list[Size] = [*[0] * lead, *data[0]]
    steps: list[int] = [*[1] * lead, *data[1]]
    turned = [axis for axis, step in enumerate(steps) if step < 0]
    if turned:
        text = f"{module}.flip({text}, ({', '.join(map(str, turned))},))"
        for axis in turned:
            starts[axis] = starts[axis] + steps[axis] * (inner[axis] - 1)
            steps[axis] = -steps[axis]
    return text, list(inner), starts, steps, outer


def _widths(pairs: Sequence[tuple[Size, Size]]) -> str:
    """The margins of every axis as `pad` takes them."""
    widths = ", ".join([f"({a}, {b})" for a, b in pairs])
    return widths if len(pairs) == 1 else f"({widths})"


def _scatter(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """np.add.at returns nothing: a function hands on what it has added to."""
    lead, _, dtype = data
    place = f"({'slice(None), ' * lead}*i)" if lead else "i"
    dtype = "" if dtype == "f64" else f", {NUMPY_DTYPES[dtype]}"
    zeros = f"np.zeros({_tuple(node.shape)}{dtype})"
    return f"(lambda z, u, *i: np.add.at(z, {place}, u) or z)({', '.join([zeros, *args])})"


def _last_writer(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    nobody = f"np.full({_tuple(node.shape)}, -1)"
    return f"(lambda z, k, *i: np.maximum.at(z, i, k) or z)({', '.join([nobody, numbered('np', node), *args])})"


def numbered(module: str, node: Node) -> str:
    """The numbers of the writers, in the shape of the indices."""
    shape = node.args[0].shape
    line = f"{module}.arange({size_product(shape)})"
    return line if len(shape) == 1 else f"{line}.reshape({_tuple(shape)})"


def _reshape(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    whole = args[0].isidentifier() or node.args[0].kind in ("einsum", "outer", "diag", "ones", "eye", "T", "expand")
    return f"{args[0] if whole else f'({args[0]})'}.reshape({', '.join([str(s) for s in data[0]])})"


def _apply(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """An undefined function and its derivatives: the caller gives f and, say, f_0 for its derivative."""
    name, wrt = data
    return f"{name}{''.join([f'_{i}' for i in wrt])}({', '.join(args)})"


FUNCTIONS: dict[str, Writer] = {
    name: _plain(f"np.{name}")
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arcsin",
        "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arctan2", "hypot",
        "logaddexp", "maximum", "minimum", "abs", "clip", "sign", "floor", "ceil", "trunc", "mod", "floor_divide",
    )
}  # fmt: skip
FUNCTIONS.update({
    "round": _plain("np.rint"), "select": _select, "not": _plain("np.logical_not"),
    "sigmoid": _plain("sigmoid"), "relu": _plain("relu"),
    "softplus": lambda node, args, data: f"np.logaddexp(0, {args[0]})",
    "erf": _plain("scipy.special.erf"), "erfc": _plain("scipy.special.erfc"),
    "lgamma": _plain("scipy.special.gammaln"), "digamma": _plain("scipy.special.psi"),
    "polygamma": lambda node, args, data: f"scipy.special.polygamma({data[0]}, {args[0]})",
    "reduce_max": _reduction("np.max", True), "reduce_min": _reduction("np.min", True),
    "any": _reduction("np.any", True), "all": _reduction("np.all", True),
    "reduce_prod": _reduction("np.prod", True), "argmax": _reduction("np.argmax", False),
    "argmin": _reduction("np.argmin", False), "logsumexp": _reduction("logsumexp", False),
    "softmax": _reduction("softmax", False), "norm": _norm, "prod_others": _prod_others, "cumsum": _cumsum,
    "tril": _triangle("tril"), "triu": _triangle("triu"), "cast": _cast, "reshape": _reshape,
    "inverse": _plain("np.linalg.inv"), "solve": _plain("np.linalg.solve"), "det": _plain("np.linalg.det"),
    "logabsdet": lambda node, args, data: f"np.linalg.slogdet({args[0]})[1]",
    "signdet": lambda node, args, data: f"np.linalg.slogdet({args[0]})[0]",
    "cholesky": _cholesky, "triangular_solve": _triangular_solve,
    "concatenate": lambda node, args, data: f"np.concatenate([{', '.join(args)}], axis={data[0]})",
    "embed": _embed, "scatter_add": _scatter, "last_writer": _last_writer,
    "iota": lambda node, args, data: f"np.arange({data[0]})",
    "broadcast_to": lambda node, args, data: f"np.broadcast_to({args[0]}, {_tuple(data[0])})",
    "apply": _apply, "functional": _apply,
})  # fmt: skip
