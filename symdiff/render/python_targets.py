"""The Python array libraries beside NumPy: JAX and PyTorch, as tables over the shared printer.

JAX is NumPy by another name. PyTorch wants `dim` for `axis`, a dtype for every new array (its default is f32), tensors
where NumPy takes numbers, and flips instead of falling slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from symdiff.ir.builder import SPECIAL_CONSTANTS
from symdiff.ir.dims import product as size_product
from symdiff.ir.graph import ArrayConstant
from symdiff.render.notation import Node
from symdiff.render.numpy_calls import FUNCTIONS, Writer, numbered, upright
from symdiff.render.printer import ATOM, POW, Printer, Text, at, word

# Stand-ins for operands while a NumPy spelling is turned into another one: no text of ours has these characters.
_MARKS = tuple([chr(0xE000 + i) for i in range(64)])


def respelled(writer: Writer, names: Sequence[tuple[str, str]]) -> Writer:
    """A NumPy spelling with other names; the operands' texts are not touched."""

    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        if len(args) > len(_MARKS):
            return _replaced(writer(node, args, data), names)
        text = _replaced(writer(node, list(_MARKS[: len(args)]), data), names)
        for mark, arg in zip(_MARKS, args, strict=False):
            text = text.replace(mark, arg)
        return text

    return write


def _replaced(text: str, names: Sequence[tuple[str, str]]) -> str:
    for old, new in names:
        text = text.replace(old, new)
    return text


# -------------------------------------------------------------------- JAX
_TO_JAX = (
    ("np.", "jnp."), ("scipy.special.", "jax.scipy.special."), ("special.psi", "special.digamma"),
    ("sigmoid(", "jax.nn.sigmoid("), ("relu(", "jax.nn.relu("), ("softmax(", "jax.nn.softmax("),
    ("logsumexp(", "jax.nn.logsumexp("),
)  # fmt: skip
_JAX_DTYPES: Mapping[str, str] = {
    "f64": "jnp.float64", "f32": "jnp.float32", "i64": "jnp.int64", "bool": "jnp.bool_", "c128": "jnp.complex128",
}  # fmt: skip


def _added_in_jax(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    lead, _, dtype = data
    updates, *indices = args
    zeros = f"jnp.zeros({_sizes(node.shape)}, {_JAX_DTYPES[dtype]})"
    return f"{zeros}.at[{', '.join([':'] * lead + indices)}].add({updates})"


def _last_writer_in_jax(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    return f"jnp.full({_sizes(node.shape)}, -1).at[{', '.join(args)}].max({numbered('jnp', node)})"


class JaxPrinter(Printer):
    """jnp. for np., jax.nn and jax.scipy.special for the rest."""

    language: ClassVar[str] = "jax"
    module: ClassVar[str] = "jnp"
    functions: ClassVar[Mapping[str, Writer]] = {
        name: writer if name in ("apply", "functional") else respelled(writer, _TO_JAX)
        for name, writer in FUNCTIONS.items()
    } | {"scatter_add": _added_in_jax, "last_writer": _last_writer_in_jax}
    dtypes: ClassVar[Mapping[str, str]] = _JAX_DTYPES

    def array(self, constant: ArrayConstant) -> str:
        dtype = {"bool": "bool_"}.get(constant.array.dtype.name, constant.array.dtype.name)
        return f"jnp.array({constant.array.tolist()!r}, dtype=jnp.{dtype})"


# -------------------------------------------------------------------- PyTorch
_TORCH_DTYPES: Mapping[str, str] = {
    "f64": "torch.float64", "f32": "torch.float32", "i64": "torch.int64", "bool": "torch.bool",
    "c128": "torch.complex128",
}  # fmt: skip


def _plain(name: str) -> Writer:
    return lambda node, args, data: f"torch.{name}({', '.join(args)})"


def _reduction(name: str, needs_axis: bool = False) -> Writer:
    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        axes: tuple[int, ...] = data[0]
        if len(axes) == node.args[0].rank and not needs_axis:
            return f"torch.{name}({args[0]})"
        return f"torch.{name}({args[0]}, dim={axes[0] if len(axes) == 1 else axes})"

    return write


def _prod_others(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """The product of what comes before and of what comes after, zeros included."""
    (axis,) = data[0]
    widths = "0, 0, " * (node.rank - 1 - axis) + "1, 0"
    kept = ":, " * axis + ":-1"

    def running(x: str) -> str:
        return f"torch.cumprod(torch.nn.functional.pad({x}, ({widths}), value=1), {axis})[{kept}]"

    turned = running(f"torch.flip(x, ({axis},))")
    return f"(lambda x: {running('x')}*torch.flip({turned}, ({axis},)))({args[0]})"


def _cumsum(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    axis, reverse = data
    if reverse:
        return f"torch.flip(torch.cumsum(torch.flip({args[0]}, ({axis},)), dim={axis}), ({axis},))"
    return f"torch.cumsum({args[0]}, dim={axis})"


def _triangle(name: str) -> Writer:
    return lambda node, args, data: f"torch.{name}({args[0]}{'' if data[0] == 0 else f', diagonal={data[0]}'})"


def _triangular_solve(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    lower, trans = data
    triangle = f"torch.{'tril' if lower else 'triu'}({args[0]})" + (".mT" if trans else "")
    return f"torch.linalg.solve({triangle}, {args[1]})"


def _cholesky(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    if node.args[0].symmetric and node.rank == 2:
        return f"torch.linalg.cholesky({args[0]})"
    return f"torch.linalg.cholesky(0.5*({args[0]} + ({args[0]}).mT))"


def _embed(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """As in NumPy; PyTorch counts the axes of margins from the last."""
    text, shape, starts, steps, outer = upright("torch", args[0], data)
    pad = "torch.nn.functional.pad"
    for axis, step in enumerate(steps):
        if step > 1:
            shape[axis] = step * shape[axis]
            spread = "0, 0, " * (len(shape) - axis - 1) + f"0, {step - 1}"
            text = f"{pad}(torch.unsqueeze({text}, {axis + 1}), ({spread})).reshape({', '.join(map(str, shape))})"
    widths = [
        f"{start}, {size if step > 1 else size - start - mine}"
        for start, step, size, mine in zip(starts, steps, outer, shape, strict=True)
    ]
    while widths[0] == "0, 0":
        widths.pop(0)
    text = f"{pad}({text}, ({', '.join(reversed(widths))}))"
    kept = ", ".join([f":{size}" if step > 1 else ":" for step, size in zip(steps, outer, strict=True)])
    return text if all(step == 1 for step in steps) else f"{text}[{kept}]"


def _scatter(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """index_put wants an index for every axis before the last that has one."""
    lead, _, dtype = data
    updates, *indices = args
    if dtype != "f64":  # numbers are written as f64
        updates = f"({updates}).to({_TORCH_DTYPES[dtype]})"
    rank = node.args[1].rank
    before = [f"torch.arange({node.shape[a]})[:{', None' * (lead - 1 - a + rank)}]" for a in range(lead)]
    zeros = f"torch.zeros({_sizes(node.shape)}, dtype={_TORCH_DTYPES[dtype]})"
    return f"{zeros}.index_put({_sizes([*before, *indices])}, {updates}, accumulate=True)"


def _last_writer(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    """Places counted through: the reduction goes along one axis."""
    count = size_product(node.shape)
    places = f"torch.arange({count}).reshape({_sizes(node.shape)})[{', '.join(args)}]"
    numbers = f"torch.arange({size_product(node.args[0].shape)})"
    written = f"torch.full(({count},), -1).scatter_reduce(0, torch.ravel({places}), {numbers}, 'amax')"
    return written if node.rank == 1 else f"{written}.reshape({_sizes(node.shape)})"


def _softmax(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    if len(data[0]) == 1:
        return _reduction("softmax", True)(node, args, data)
    return f"(lambda x: torch.exp(x - torch.logsumexp(x, dim={data[0]}, keepdim=True)))({args[0]})"


def _sizes(sizes: Sequence[Any]) -> str:
    return f"({', '.join([str(s) for s in sizes])}{',' if len(sizes) == 1 else ''})"


def _cbrt(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    return f"torch.sign({args[0]})*torch.abs({args[0]})**(1/3)"


def _norm(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    return _reduction("linalg.vector_norm")(node, args, data)


_TORCH: dict[str, Writer] = {
    name: _plain(name)
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "arcsin", "arccos",
        "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arctan2", "hypot", "maximum", "minimum",
        "logaddexp", "abs", "sign", "floor", "ceil", "trunc", "round", "floor_divide", "sigmoid", "relu", "erf", "erfc",
        "lgamma", "digamma",
    )
}  # fmt: skip
_TORCH.update({
    "mod": _plain("remainder"), "select": _plain("where"), "not": _plain("logical_not"), "cbrt": _cbrt,
    "softplus": lambda node, args, data: f"torch.logaddexp(torch.zeros_like({args[0]}), {args[0]})",
    "clip": lambda node, args, data: f"torch.minimum(torch.maximum({args[0]}, {args[1]}), {args[2]})",
    "polygamma": lambda node, args, data: f"torch.special.polygamma({data[0]}, {args[0]})",
    "reduce_max": _reduction("amax"), "reduce_min": _reduction("amin"), "any": _reduction("any"),
    "all": _reduction("all"), "reduce_prod": _reduction("prod"),
    "argmax": _reduction("argmax", True), "argmin": _reduction("argmin", True),
    "logsumexp": _reduction("logsumexp", True), "softmax": _softmax, "norm": _norm,
    "prod_others": _prod_others, "cumsum": _cumsum, "tril": _triangle("tril"), "triu": _triangle("triu"),
    "cast": lambda node, args, data: f"({args[0]}).to({_TORCH_DTYPES[data[0]]})",
    "reshape": lambda node, args, data: f"torch.reshape({args[0]}, {_sizes(data[0])})",
    "inverse": _plain("linalg.inv"), "solve": _plain("linalg.solve"), "det": _plain("linalg.det"),
    "logabsdet": lambda node, args, data: f"torch.linalg.slogdet({args[0]})[1]",
    "signdet": lambda node, args, data: f"torch.linalg.slogdet({args[0]})[0]",
    "cholesky": _cholesky, "triangular_solve": _triangular_solve,
    "concatenate": lambda node, args, data: f"torch.cat([{', '.join(args)}], dim={data[0]})",
    "embed": _embed, "scatter_add": _scatter, "last_writer": _last_writer,
    "iota": lambda node, args, data: f"torch.arange({data[0]})",
    "broadcast_to": lambda node, args, data: f"torch.broadcast_to({args[0]}, {_sizes(data[0])})",
    "apply": FUNCTIONS["apply"], "functional": FUNCTIONS["functional"],
})  # fmt: skip

# Functions of Python's own numbers.
_MATH: Mapping[str, str] = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "arctan2": "atan2", **{name: name for name in (
        "exp", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "hypot",
        "erf", "erfc", "lgamma",
    )},
}  # fmt: skip

# Which operands may stay numbers beside tensors.
_NUMBERS_ALLOWED: Mapping[str, Callable[[int], bool]] = {"select": lambda i: i > 0, "clip": lambda i: False}


class TorchPrinter(Printer):
    """torch. with its own names; `plain` are the nodes that are Python numbers and not tensors."""

    language: ClassVar[str] = "torch"
    module: ClassVar[str] = "torch"
    functions: ClassVar[Mapping[str, Writer]] = _TORCH
    dtypes: ClassVar[Mapping[str, str]] = _TORCH_DTYPES
    axis_word: ClassVar[str] = "dim"

    def __init__(self, names: Mapping[Node, str]) -> None:
        super().__init__(names)
        self.plain: set[Node] = set()

    def node(self, node: Node, args: list[Text]) -> Text:
        if node.kind in ("num", "dim") or (
            node.kind in ("add", "prod", "pow") and all(a in self.plain for a in node.args)
        ):
            self.plain.add(node)
        return super().node(node, args)

    def special(self, value: str) -> Text:
        if value == "euler_gamma":
            return repr(SPECIAL_CONSTANTS[value]), ATOM
        if value in ("pi", "e", "inf", "nan"):
            return f"math.{value}", ATOM
        return "-math.inf" if value == "-inf" else value, POW - 1

    def filled(self, node: Node) -> str:
        sizes = node.shape[:1] if node.kind == "eye" else node.shape
        return f"torch.{node.kind}({', '.join([str(s) for s in sizes])}, dtype={self.dtypes[node.data]})"

    def tensor(self, node: Node, text: Text, dtype: str = "f64") -> Text:
        """The operand as a tensor, numbers wrapped."""
        if node not in self.plain:
            return text
        return f"torch.tensor({text[0]}, dtype={self.dtypes[dtype]})", ATOM

    def _tensors(self, node: Node, args: list[Text]) -> list[Text]:
        return [self.tensor(a, t) for a, t in zip(node.args, args, strict=True)]

    def expand(self, node: Node, text: Text) -> str:
        return super().expand(node, self.tensor(node.args[0], text))

    def einsum(self, node: Node, args: list[Text]) -> str:
        labels, output = node.data
        spec = ",".join([word(w) for w in labels]) + "->" + word(output)
        return f"torch.einsum('{spec}', {', '.join([a[0] for a in self._tensors(node, args)])})"

    def unit(self, eye: Node, place: str) -> str:
        return f"torch.nn.functional.one_hot(torch.tensor({place}), {eye.shape[0]}).to({self.dtypes[eye.data]})"

    def entries(self, node: Node, args: list[Text]) -> str:
        line = f"torch.stack([{', '.join([t[0] for t in self._tensors(node, args)])}])"
        return line if node.rank == 1 else f"torch.reshape({line}, {_sizes(node.shape)})"

    def reversed(self, text: str, axes: Sequence[int], rank: int) -> str:
        return f"torch.flip({text}, ({', '.join([str(a) for a in axes])},))"

    def array(self, constant: ArrayConstant) -> str:
        return f"torch.tensor({constant.array.tolist()!r}, dtype=torch.{constant.array.dtype.name})"

    def compared(self, node: Node, sign: str, args: list[Text], level: int) -> str:
        if all(a in self.plain for a in node.args):
            args = [self.tensor(node.args[0], args[0]), args[1]]
        return super().compared(node, sign, args, level)

    def function(self, node: Node, name: str, args: list[Text], data: tuple[Any, ...]) -> Text:
        everything = all(a in self.plain for a in node.args)
        if node.args and everything and name in _MATH:
            self.plain.add(node)
            return f"math.{_MATH[name]}({', '.join([a[0] for a in args])})", ATOM
        if name == "cast":
            return f"{at(self.tensor(node.args[0], args[0]), ATOM)}.to({self.dtypes[data[0]]})", ATOM
        limits = self._clamped(node, name, args)
        if limits is not None:
            return limits, ATOM
        kept = _NUMBERS_ALLOWED.get(name, lambda i: False)
        branches = name == "select" and not any(a not in self.plain for a in node.args[1:])
        dtype = data[0] if name == "select" else "f64"
        made = [
            t if kept(i) and not (branches and i == 1) else self.tensor(a, t, dtype)
            for i, (a, t) in enumerate(zip(node.args, args, strict=True))
        ]
        text = self.writer(name)(node, [a[0] for a in made], data)
        return text, POW - 2 if name == "cbrt" else ATOM

    def _clamped(self, node: Node, name: str, args: list[Text]) -> str | None:
        """max(x, 0) with a number as a clamp."""
        word_of = {"maximum": "min", "minimum": "max"}.get(name)
        if word_of is None:
            return None
        for i in (0, 1):
            if node.args[i] in self.plain and node.args[1 - i] not in self.plain:
                return f"torch.clamp({args[1 - i][0]}, {word_of}={args[i][0]})"
        return None
