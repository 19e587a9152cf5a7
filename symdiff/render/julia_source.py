"""Julia source: a function in the notation of LinearAlgebra, dots for what is elementwise.

Julia aligns shapes from the first axis and NumPy from the last, so a vector that broadcasts against the columns of a
matrix is written as a row, `v'`. Indices count from one. Index sums without a matrix form are comprehensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from symdiff.errors import ArgumentError, UnsupportedError
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import ArrayConstant, Function
from symdiff.render.definitions import LONGEST_LINE, size_lines
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.node import Node, chain_runs, inverted, solves, unit_vector, uses_matrix_power
from symdiff.render.numpy_calls import Writer
from symdiff.render.printer import ADD, ATOM, LOGICAL, MUL, POW, UNARY, Printer, Text, at, size_text
from symdiff.render.recover import recover

# Functions of numbers, applied to arrays with a dot. SpecialFunctions has the last ones.
_SCALAR: Mapping[str, str] = {
    **{name: name for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "sinh", "cosh",
        "tanh", "hypot", "abs", "sign", "floor", "ceil", "trunc", "round", "mod", "sigmoid", "softplus",
        "logaddexp", "relu",
    )},
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arctan2": "atan", "maximum": "max", "minimum": "min", "floor_divide": "fld",
    "select": "ifelse", "erf": "erf", "erfc": "erfc", "digamma": "digamma",
    "lgamma": "lgamma",
}  # fmt: skip
_LINEAR = re.compile(r"\b(tr|diagm?|det|inv|norm|cholesky|logabsdet|tri[lu]|(Upper|Lower)Triangular)\(|I, |\\")
_SPECIAL = re.compile(r"\b(erfc?|digamma|polygamma|logabsgamma)\b")

HELPERS: Mapping[str, str] = {
    "sigmoid": "sigmoid(z) = 1/(1 + exp(-z))",
    "softplus": "softplus(z) = max(z, 0) + log1p(exp(-abs(z)))",
    "logaddexp": "logaddexp(x, y) = x == y ? x + log(2) : max(x, y) + log1p(exp(-abs(x - y)))",
    "relu": "relu(z) = max(z, zero(z))",
    "lgamma": "lgamma(z) = logabsgamma(z)[1]",
    "softmax": (
        "function softmax(z; dims=1)\n    e = exp.(z .- maximum(z; dims=dims))\n    return e ./ sum(e; dims=dims)\nend"
    ),
    "logsumexp": (
        "function logsumexp(z; dims=1)\n    top = maximum(z; dims=dims)\n"
        "    s = dropdims(top .+ log.(sum(exp.(z .- top); dims=dims)); dims=dims)\n"
        "    return ndims(s) == 0 ? s[] : s\nend"
    ),
    "prodothers": (
        "function prodothers(x, d)\n    before(v) = cumprod([one(eltype(v)); v])[1:end-1]\n"
        "    return mapslices(v -> before(v) .* reverse(before(reverse(v))), x; dims=d)\nend"
    ),
    "place": "place(i, n) = i < 0 ? i + n + 1 : i + 1",
    "rowmajor": (
        "rowmajor(x, sizes...) = permutedims(reshape(permutedims(x, ndims(x):-1:1), reverse(sizes)), "
        "length(sizes):-1:1)"
    ),
    "embed": (
        "function embed(x, sizes, places...)\n    z = zeros(eltype(x), sizes...)\n    z[places...] = x\n"
        "    return z\nend"
    ),
    "scatteradd": (
        "function scatteradd(u, index, size, axis)\n    lead, k = axis - 1, ndims(index)\n"
        "    z = zeros(eltype(u), Base.size(u)[1:lead]..., size, Base.size(u)[lead+k+1:end]...)\n"
        "    before, after = ntuple(_ -> :, lead), ntuple(_ -> :, ndims(z) - axis)\n"
        "    for c in CartesianIndices(index)\n"
        "        view(z, before..., place(index[c], size), after...) .+= u[before..., Tuple(c)..., after...]\n"
        "    end\n    return z\nend"
    ),
}  # fmt: skip
_KEYWORDS = frozenset(
    ["begin", "end", "function", "let", "do", "const", "local", "global", "module", "struct", "true", "false", "using",
     "export", "quote", "catch", "macro", "baremodule", "abstract", "primitive", "mutable", "where", "missing",
     "nothing"]
)  # fmt: skip


def julia_source(function: Function, name: str) -> str:
    """A Julia function with the helpers it needs."""
    _, results = recover(function, shared=True)
    named = named_subterms(results, shared=True, largest=LONGEST_LINE)
    symbols = [p.name for p in function.params] + list(function.dims)
    taken = {*symbols, name, "I", "pi"}
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    strings = JuliaPrinter(names, taken).write(results)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    lines.append(f"    return {', '.join([names.get(r) or strings[r][0] for r in results])}")
    body = "\n".join(lines)
    for symbol in symbols:
        if symbol in _KEYWORDS or (symbol == "I" and "I, " in body) or re.search(rf"(?<!\w){symbol}\.?\(", body):
            raise ArgumentError(f"source for julia: the symbol {symbol} has the name of something the text uses")
    helpers = _helpers(body)
    everything = "\n".join([*helpers, body])
    imports = ["using LinearAlgebra"] * bool(_LINEAR.search(body))
    imports += ["using SpecialFunctions"] * bool(_SPECIAL.search(everything))
    imports += ["using Statistics"] * bool(re.search(r"\bmean\(", body))
    sizes, unknown = size_lines(function, body, _read, lambda p: f"size({p})")
    arguments = [p.name for p in function.params] + unknown
    text = "\n".join([f"function {name}({', '.join(arguments)})", *sizes, body, "end"])
    return "\n\n".join(["\n".join(imports), *helpers, text] if imports else [*helpers, text]) + "\n"


def _helpers(body: str) -> list[str]:
    found = [text for helper, text in HELPERS.items() if re.search(rf"(?<!\w){helper}\.?\(", body)]
    if any("place(" in text for text in found) and HELPERS["place"] not in found:
        found.insert(0, HELPERS["place"])
    return found


def _read(argument: str, axis: int, rank: int) -> str:
    return f"length({argument})" if rank == 1 else f"size({argument}, {axis + 1})"


def _dropped(name: str, text: str, axes: tuple[int, ...], rank: int) -> str:
    """A reduction whose axes leave."""
    if len(axes) == rank:
        return f"{name}({text})"
    dims = str(axes[0] + 1) if len(axes) == 1 else f"({', '.join([str(a + 1) for a in axes])})"
    kept = f"{name}({text}; dims={dims})"
    return f"vec({kept})" if rank - len(axes) == 1 and rank == 2 else f"dropdims({kept}; dims={dims})"


def _along(name: str) -> Writer:
    """softmax, logsumexp: helpers with a keyword."""

    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        axes: tuple[int, ...] = data[0]
        if axes == (0,):
            return f"{name}({args[0]})"
        dims = str(axes[0] + 1) if len(axes) == 1 else f"({', '.join([str(a + 1) for a in axes])})"
        return f"{name}({args[0]}; dims={dims})"

    return write


def _reduced(name: str) -> Writer:
    return lambda node, args, data: _dropped(name, args[0], data[0], node.args[0].rank)


def _norm(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    rank = node.args[0].rank
    if len(data[0]) == rank:
        return f"norm({args[0]})"
    return f"sqrt.({_dropped('sum', f'abs2.({args[0]})', data[0], rank)})"


def _position(name: str) -> Writer:
    """Positions count from zero, as in the program."""

    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        (axis,) = data[0]
        if node.args[0].rank == 1:
            return f"({name}({args[0]}) - 1)"
        return f"(getindex.(dropdims({name}({args[0]}; dims={axis + 1}); dims={axis + 1}), {axis + 1}) .- 1)"

    return write


def _cumsum(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    axis, reverse = data
    inner = f"reverse({args[0]}; dims={axis + 1})" if reverse else args[0]
    line = f"cumsum({inner}; dims={axis + 1})"
    return f"reverse({line}; dims={axis + 1})" if reverse else line


def _matrix_only(name: str) -> Writer:
    def write(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
        if node.args[0].rank != 2:
            raise UnsupportedError(f"source for julia: {name} of a stack of matrices has no short form there")
        tail = f", {data[0]}" if name in ("tril", "triu") and data[0] != 0 else ""
        return {
            "inverse": f"inv({args[0]})", "solve": f"({args[0]}) \\ ({args[-1]})",
            "logabsdet": f"logabsdet({args[0]})[1]", "signdet": f"logabsdet({args[0]})[2]",
            "cholesky": f"Matrix(cholesky(Symmetric(0.5*(({args[0]}) + ({args[0]})'))).L)",
        }.get(name, f"{name}({args[0]}{tail})")  # fmt: skip

    return write


def _triangular(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    lower, trans = data
    if node.args[0].rank != 2:
        raise UnsupportedError("source for julia: triangular_solve of a stack of matrices has no short form there")
    return f"{'Lower' if lower else 'Upper'}Triangular({args[0]}){chr(39) if trans else ''} \\ ({args[1]})"


def _embed(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    starts, steps, inner, outer = data
    lead = len(outer) - len(starts)
    places = [":"] * lead
    for i, (start, step) in enumerate(zip(starts, steps, strict=True)):
        first, last = start + 1, start + 1 + step * (inner[lead + i] - 1)
        stride = "" if step == 1 else f":{step}"
        places.append(f"{_size(first)[0]}{stride}:{_size(last)[0]}")
    return f"embed({args[0]}, ({_shape(outer)},), {', '.join(places)})"


def _scatter(node: Node, args: list[str], data: tuple[Any, ...]) -> str:
    where, sizes = data
    if len(sizes) > 1:
        raise UnsupportedError("source for julia: scatter_add at several axes has no short form there")
    return f"scatteradd({args[0]}, {args[1]}, {_size(sizes[0])[0]}, {where + 1})"


def _size(size: Size) -> Text:
    text, level = size_text(size)
    return text.replace("**", "^").replace("//", "÷"), level


def _shape(shape: Shape) -> str:
    return ", ".join([_size(s)[0] for s in shape])


_JULIA_DTYPES: Mapping[str, str] = {
    "f64": "Float64", "f32": "Float32", "i64": "Int64", "bool": "Bool", "c128": "ComplexF64",
}  # fmt: skip
_FUNCTIONS: dict[str, Writer] = {
    "reduce_max": _reduced("maximum"), "reduce_min": _reduced("minimum"), "any": _reduced("any"),
    "all": _reduced("all"), "reduce_prod": _reduced("prod"),
    "argmax": _position("argmax"), "argmin": _position("argmin"), "norm": _norm, "softmax": _along("softmax"),
    "logsumexp": _along("logsumexp"), "cumsum": _cumsum, "triangular_solve": _triangular, "embed": _embed,
    "scatter_add": _scatter, "prod_others": lambda node, args, data: f"prodothers({args[0]}, {data[0][0] + 1})",
    "concatenate": lambda node, args, data: f"cat({', '.join(args)}; dims={data[0] + 1})",
    "reshape": lambda node, args, data: (
        f"({args[0]})[]" if not data[0] else
        f"reshape({args[0]}, {_shape(data[0])})" if node.args[0].rank < 2 and len(data[0]) < 2 else
        f"rowmajor({args[0] if node.args[0].rank else f'[{args[0]}]'}, {_shape(data[0])})"
    ),
    "iota": lambda node, args, data: f"collect(0:{_size(data[0] - 1)[0]})",
    "broadcast_to": lambda node, args, data: f"({args[0]} .* ones(Bool, {_shape(data[0])}))",
    **{name: _matrix_only(name) for name in (
        "inverse", "solve", "det", "logabsdet", "signdet", "cholesky", "tril", "triu",
    )},
}  # fmt: skip


class JuliaPrinter(Printer):
    """Julia; `taken` are the names that loop variables must not have."""

    language: ClassVar[str] = "julia"
    functions: ClassVar[Mapping[str, Writer]] = _FUNCTIONS
    dtypes: ClassVar[Mapping[str, str]] = _JULIA_DTYPES
    logic: ClassVar[Mapping[str, str]] = {"and": "&", "or": "|", "xor": "⊻"}

    def __init__(self, names: Mapping[Node, str], taken: set[str]) -> None:
        super().__init__(names)
        letters = "ijklabcdefghmnopqrstuvwxyz"
        self.letters = [c for c in letters if c not in taken] + [f"i{n}" for n in range(30) if f"i{n}" not in taken]
        self.held = [f"e{n}" for n in range(1, 60) if f"e{n}" not in taken]

    # ---------------------------------------------------------------- leaves
    def boolean(self, value: bool) -> str:
        return "true" if value else "false"

    def special(self, value: str) -> Text:
        known = {
            "pi": "pi", "e": "MathConstants.e", "euler_gamma": "MathConstants.eulergamma", "inf": "Inf", "nan": "NaN",
        }  # fmt: skip
        return (known[value], ATOM) if value in known else (value.replace("inf", "Inf"), UNARY)

    def size(self, size: Size) -> Text:
        return _size(size)

    def filled(self, node: Node) -> str:
        if node.kind == "eye":
            one = {"f64": "1.0", "f32": "1f0*"}.get(node.data, "")
            return f"Matrix({one}I, {_shape(node.shape)})"
        dtype = "" if node.data == "f64" else f"{self.dtypes[node.data]}, "
        return f"{node.kind}({dtype}{_shape(node.shape)})"

    # ---------------------------------------------------------------- operators
    def operand(self, node: Node, text: Text, rank: int, level: int) -> str:
        if node.kind == "expand" and node.data == (True, False) and node not in self.names:
            return at(self.used[node.args[0]], level)
        if not 0 < node.rank < rank:
            return at(text, level)
        if node.rank == 1 and rank == 2:
            return self.transposed(text)
        return f"reshape({text[0]}, {'1, ' * (rank - node.rank)}{_shape(node.shape)})"

    def operator(self, sign: str, left: bool, right: bool) -> str:
        sign = {"**": "^"}.get(sign, sign)
        dotted = right if sign == "/" else left or right if sign == "^" else left and right
        return f" .{sign} " if dotted else sign

    def signs(self, node: Node) -> tuple[str, str]:
        if all(a.shape == node.shape and a.kind != "expand" for a in node.args):
            return " + ", " - "
        return " .+ ", " .- "

    def compared(self, node: Node, sign: str, args: list[Text], level: int) -> str:
        return super().compared(node, f".{sign}" if node.rank else sign, args, level)

    # ---------------------------------------------------------------- matrices
    def transposed(self, text: Text) -> str:
        return at(text, ATOM) + "'"

    def chain(self, node: Node) -> Text:
        """A row first is v'; before a vector at the end the products nest, and inverses are solved with."""
        first, last = node.args[0], node.args[-1]
        line: Text | None = None
        runs = chain_runs(node.args)
        for place in range(len(runs) - 1, -1, -1):
            factor, count = runs[place]
            text = self.used[factor]
            if place == 0 and factor.rank == 1 and len(node.args) > 1:
                text = self.transposed(text), ATOM
            matrix = inverted(factor) if solves(node.args) and line and factor not in self.names else None
            for _ in range(1 if uses_matrix_power(factor, count) and matrix is None else count):
                if matrix is not None:
                    assert line is not None
                    turned = self.used[matrix] if factor.kind != "T" else (self.transposed(self.used[matrix]), ATOM)
                    line = f"{at(turned, POW)} \\ {at(line, POW)}", MUL
                    continue
                if uses_matrix_power(factor, count):
                    text = f"{at(text, ATOM)}^{count}", POW
                if line is None:
                    line = text
                else:
                    line = f"{at(text, POW)} * {at(line, POW) if last.rank == 1 else at(line, MUL)}", MUL
        assert line is not None
        if first.rank == 1 and last.rank == 2:
            return f"({line[0]})'", ATOM
        return line

    def matrix_function(self, node: Node, args: list[Text]) -> Text:
        if node.kind == "outer":
            return f"{at(args[0], POW)} * {self.transposed(args[1])}", MUL
        name = {"diag": "diagm", "diagof": "diag", "trace": "tr"}[node.kind]
        return f"{name}({args[0][0]})", ATOM

    def reduction(self, node: Node, args: list[Text]) -> Text:
        return _dropped(node.kind, args[0][0], node.data, node.args[0].rank), ATOM

    def einsum(self, node: Node, args: list[Text]) -> str:
        labels, output = node.data
        sizes = {x: s for a, w in zip(node.args, labels, strict=True) for x, s in zip(w, a.shape, strict=True)}
        names = dict(zip(sizes, self.letters, strict=False))
        held: list[str] = []
        factors: list[str] = []
        for arg, (text, level), own in zip(node.args, args, labels, strict=True):
            if arg.kind == "eye" and arg not in self.names:
                factors.append(f"({names[own[0]]} == {names[own[1]]})")
                continue
            if own and not text.isidentifier():
                held.append(f"{self.held[len(held)]} = {text}")
                text = self.held[len(held) - 1]
            factors.append(f"{text}[{', '.join([names[x] for x in own])}]" if arg.rank else at((text, level), MUL))
        summed = [x for x in sizes if x not in output]

        def ranges(axes: Sequence[int]) -> str:
            return ", ".join([f"{names[x]} in 1:{_size(sizes[x])[0]}" for x in axes])

        line = "*".join(factors if any(" == " not in f for f in factors) else ["1.0", *factors])
        if summed:
            line = f"sum({line} for {ranges(summed)})"
        if output:
            line = f"[{line} for {ranges(output)}]"
        return f"(let {', '.join(held)}; {line} end)" if held else line

    # ---------------------------------------------------------------- indexing
    def expand(self, node: Node, text: Text) -> str:
        made = "reshape" if node.args[0].rank else "fill"
        return f"{made}({text[0]}, {_shape(node.shape)})"

    def entries(self, node: Node, args: list[Text]) -> str:
        """Julia reads a list by columns: one of more than one axis is turned."""
        line = f"[{', '.join([a[0] for a in args])}]"
        if node.rank == 1:
            return line
        axes = f"({', '.join([str(i) for i in range(node.rank, 0, -1)])})"
        return f"permutedims(reshape({line}, {_shape(node.shape[::-1])}), {axes})"

    def subscript(self, node: Node, args: list[Text]) -> str:
        if len(args) > 2:
            raise UnsupportedError("source for julia: an index of several arrays has no short form there")
        if unit_vector(node) and node.data[0] != "@":
            return f"{self.dtypes[node.args[0].data]}.(1:{_size(node.shape[0])[0]} .== {_size(node.data[0] + 1)[0]})"
        parts: list[str] = []
        for axis, entry in enumerate(node.data):
            if entry == "@":
                parts.append(f"place.({args[1][0]}, {_size(node.args[0].shape[axis])[0]})")
            elif entry is None:
                parts.append(":")
            elif not isinstance(entry, tuple):
                parts.append(_size(entry + 1)[0])
            else:
                first, final, step, _, _ = entry
                stride = "" if step == 1 else f":{step}"
                parts.append(f"{_size(first + 1)[0]}{stride}:{_size(final + 1)[0]}")
        parts += [":"] * (node.args[0].rank - len(parts))
        return f"{at(args[0], ATOM)}[{', '.join(parts)}]"

    # ---------------------------------------------------------------- functions
    def array(self, constant: ArrayConstant) -> str:
        if constant.array.ndim > 1:
            raise UnsupportedError("source for julia: a constant array of more than one axis has no short form there")
        numbers = str(constant.array.tolist()).replace("True", "true").replace("False", "false")
        return numbers.replace("inf", "Inf").replace("nan", "NaN")

    def function(self, node: Node, name: str, args: list[Text], data: tuple[Any, ...]) -> Text:
        dot = "." if node.rank else ""
        if name in ("apply", "functional"):
            undefined, wrt = data
            called = f"{undefined}{''.join([f'_{i}' for i in wrt])}"
            return f"{called}{dot if name == 'apply' else ''}({', '.join([a[0] for a in args])})", ATOM
        inside = [self.operand(a, t, node.rank, LOGICAL - 1) for a, t in zip(node.args, args, strict=True)]
        if name in _SCALAR:
            return f"{_SCALAR[name]}{dot}({', '.join(inside)})", ATOM
        match name:
            case "clip":
                return f"min{dot}(max{dot}({inside[0]}, {inside[1]}), {inside[2]})", ATOM
            case "not":
                return f"{dot}!({inside[0]})" if not dot else f".!({inside[0]})", UNARY
            case "polygamma":
                return f"polygamma{dot}({data[0]}, {inside[0]})", ATOM
            case "cast":
                if data[0] == "i64" and not (node.args[0].kind == "call" and node.args[0].data[0] in self.comparisons):
                    return f"trunc{dot}(Int64, {inside[0]})", ATOM
                if data[0] == "bool":
                    return f"({inside[0]}) {dot}!= 0", ADD - 2
                return f"{self.dtypes[data[0]]}{dot}({inside[0]})", ATOM
            case "solve" | "triangular_solve":
                return self.writer(name)(node, [a[0] for a in args], data), MUL
            case _:
                return self.writer(name)(node, [a[0] for a in args], data), ATOM
