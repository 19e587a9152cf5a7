"""SymPy text: scalars and matrix expressions over MatrixSymbols, a vector being a column.

The text uses the names of `from sympy import *`, the symbols and the dimensions, and nothing else. Elementwise products
are HadamardProducts, functions of entries `applyfunc`, broadcasts products with OneMatrix. What SymPy's matrices cannot
say (three axes, maxima over axes, masks of several arrays) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

from symdiff.errors import ArgumentError, UnsupportedError
from symdiff.ir.dims import Dim, Shape, Size, format_shape
from symdiff.ir.graph import ArrayConstant, Function
from symdiff.render.definitions import LONGEST_LINE
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.node import Node, nested
from symdiff.render.printer import ADD, ATOM, COMPARE, MUL, POW, UNARY, Printer, Text, at, size_text
from symdiff.render.recover import recover

# Longer texts are no use: SymPy's own functions recurse.
LARGEST = 5_000

# Functions of one entry; {0} is the entry.
_ENTRY: Mapping[str, str] = {
    **{name: f"{name}({{0}})" for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign",
                                           "floor", "erf", "erfc", "digamma")},
    "arcsin": "asin({0})", "arccos": "acos({0})", "arctan": "atan({0})", "arcsinh": "asinh({0})",
    "arccosh": "acosh({0})", "arctanh": "atanh({0})", "abs": "Abs({0})", "ceil": "ceiling({0})", "exp2": "2**({0})",
    "expm1": "(exp({0}) - 1)", "log2": "log({0}, 2)", "log10": "log({0}, 10)", "log1p": "log(1 + {0})",
    "cbrt": "(sign({0})*cbrt(Abs({0})))", "sigmoid": "(1/(1 + exp(-({0}))))", "softplus": "log(1 + exp({0}))",
    "relu": "Max({0}, 0)", "lgamma": "log(Abs(gamma({0})))",
}  # fmt: skip
_RELATIONS: Mapping[str, str] = {"lt": "Lt", "le": "Le", "gt": "Gt", "ge": "Ge", "eq": "Eq", "ne": "Ne"}
_WORDS = re.compile(r"[A-Za-z_]\w*")


def sympy_source(function: Function) -> str:
    """One SymPy expression over the symbols and dimensions."""
    _, results = recover(function)
    if len(results) != 1 or results[0].size > LARGEST:
        raise ArgumentError(
            f"source for sympy: {len(results)} results of {results[0].size} terms, expected one of at most {LARGEST}; "
            "code('sympy') gives a definition with named subterms"
        )
    text = SympyPrinter({}).write(results)[results[0]][0]
    _check_names(function, text)
    return text


def sympy_code(function: Function, name: str) -> str:
    """A definition in SymPy, shared subterms named."""
    _, results = recover(function, shared=True)
    named = named_subterms(results, shared=True, largest=LONGEST_LINE)
    taken = {p.name for p in function.params} | set(function.dims) | {name}
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    strings = SympyPrinter(names).write(results)
    lines = [f"    {names[node]} = {strings[node][0]}" for node in named]
    returned = [names.get(r) or strings[r][0] for r in results]
    lines.append(f"    return {', '.join(returned)}" + ("," if len(returned) == 1 and len(results) != 1 else ""))
    body = "\n".join(lines)
    used = _check_names(function, body)
    sizes: dict[str, str] = {}
    for p in function.params:
        for axis, size in enumerate(p.type.shape):
            if isinstance(size, Dim) and str(size) in size.names and str(size) in _WORDS.findall(body):
                sizes.setdefault(str(size), f"    {size} = {p.name}.shape[{axis}]")
    unknown = [d for d in function.dims if d in _WORDS.findall(body) and d not in sizes]
    head = f"def {name}({', '.join([p.name for p in function.params] + unknown)}):"
    imports = f"from sympy import {', '.join(used)}\n\n\n" if used else ""
    return imports + "\n".join([head, *sizes.values(), body]) + "\n"


def _check_names(function: Function, text: str) -> list[str]:
    """The SymPy names in a text; a symbol must not be called like one."""
    own = {p.name for p in function.params} | set(function.dims)
    known = sorted(set(_WORDS.findall(re.sub(r"\.\w+", "", text))) & _SYMPY_NAMES)
    clash = next((p for p in sorted(own) if re.search(rf"(?<![\w.]){p}\(", text) or p in _CONSTANTS), None)
    if clash is not None:
        raise ArgumentError(f"source for sympy: the symbol {clash} has the name of something in SymPy; rename it")
    return [n for n in known if n not in own]


_CONSTANTS = frozenset({"pi", "E", "EulerGamma", "oo", "nan"})
_SYMPY_NAMES = frozenset(_WORDS.findall(" ".join(t.replace("{0}", "") for t in _ENTRY.values()))) | _CONSTANTS | {
    "OneMatrix", "ZeroMatrix", "Identity", "HadamardProduct", "HadamardPower", "DiagMatrix", "DiagonalOf", "Trace",
    "Determinant", "Rational", "Piecewise", "Max", "Min", "Mod", "atan2", "polygamma", "sqrt", "log", "Abs", "sign",
    "floor", *_RELATIONS.values(),
}  # fmt: skip


def _size(size: Size) -> Text:
    return size_text(size)


def _columns(shape: Shape) -> str:
    rows = _size(shape[0])[0]
    return f"{rows}, {_size(shape[1])[0] if len(shape) > 1 else 1}"


class SympyPrinter(Printer):
    """SymPy's matrix expressions."""

    language: ClassVar[str] = "sympy"

    def node(self, node: Node, args: list[Text]) -> Text:
        if node.rank > 2:
            raise UnsupportedError(
                f"source for sympy: a {node.kind} of shape {format_shape(node.shape)}, expected at most two axes"
            )
        return super().node(node, args)

    # ---------------------------------------------------------------- leaves
    def number(self, value: Any) -> Text:
        if isinstance(value, str):
            named = {
                "pi": "pi", "e": "E", "euler_gamma": "EulerGamma", "inf": "oo", "nan": "nan", "-inf": "-oo",
                "-0.0": "0",
            }  # fmt: skip
            return named[value], UNARY if value == "-inf" else ATOM
        if isinstance(value, Fraction) and value.denominator != 1:
            return f"Rational({value.numerator}, {value.denominator})", ATOM
        return super().number(value)

    def filled(self, node: Node) -> str:
        if node.kind == "eye":
            return f"Identity({_size(node.shape[0])[0]})"
        return f"{'OneMatrix' if node.kind == 'ones' else 'ZeroMatrix'}({_columns(node.shape)})"

    def array(self, constant: ArrayConstant) -> str:
        raise UnsupportedError("source for sympy: a constant array has no short form there")

    # ---------------------------------------------------------------- operators
    def spread(self, node: Node, text: Text, shape: Shape) -> Text:
        """The operand in the whole shape: SymPy does not broadcast."""
        if node.shape == shape:
            return text
        if not node.rank:
            ones = f"OneMatrix({_columns(shape)})"
            return (ones, ATOM) if text[0] == "1" else (f"{at(text, UNARY)}*{ones}", MUL)
        if node.rank == 1 and len(shape) == 2 and node.shape[0] == shape[1]:
            return f"OneMatrix({_size(shape[0])[0]}, 1)*{self.transposed(text)}", MUL
        if node.rank == 2 and node.shape == (shape[0], 1):
            return f"{at(text, MUL)}*OneMatrix(1, {_size(shape[1])[0]})", MUL
        if node.rank == 2 and node.shape == (1, shape[1]):
            return f"OneMatrix({_size(shape[0])[0]}, 1)*{at(text, UNARY)}", MUL
        raise UnsupportedError(
            f"source for sympy: shape {format_shape(node.shape)} beside {format_shape(shape)} has no short form there"
        )

    def sum(self, node: Node, args: list[Text]) -> Text:
        spread = [self.spread(a, t, node.shape) for a, t in zip(node.args, args, strict=True)]
        line = ""
        for i, (sign, text) in enumerate(zip(node.data, spread, strict=True)):
            line += (("-" if sign < 0 else "") if i == 0 else " - " if sign < 0 else " + ") + at(text, MUL)
        return line, ADD

    def product(self, node: Node, args: list[Text]) -> Text:
        number, count = node.data
        operands = list(zip(node.args, args, strict=True))
        fraction = Fraction(number)
        upper = [t for n, t in operands[:count] if not n.rank]
        lower = [t for n, t in operands[count:] if not n.rank]
        arrays = [self.spread(n, t, node.shape) for n, t in operands[:count] if n.rank]
        arrays += [
            (f"HadamardPower({self.spread(n, t, node.shape)[0]}, -1)", ATOM) for n, t in operands[count:] if n.rank
        ]
        above = ([str(abs(fraction.numerator))] if abs(fraction.numerator) != 1 else []) + [at(t, UNARY) for t in upper]
        below = ([str(fraction.denominator)] if fraction.denominator != 1 else []) + [at(t, UNARY) for t in lower]
        if len(arrays) == 1:
            above.append(at(arrays[0], MUL))
        elif arrays:
            above.append(f"HadamardProduct({', '.join([t[0] for t in arrays])})")
        if fraction.denominator != 1 and not above:
            above.append(f"Rational({abs(fraction.numerator)}, {below.pop(0)})")
        line = "*".join(above or ["1"])
        if len(above) == 1 and not below and fraction > 0 and len(arrays) > 1:
            return line, ATOM
        # Only a divisor that is a symbol keeps a quotient of integers exact.
        if below and line.isdigit() and all(b.isdigit() for b in below):
            line = f"Rational({line}, {'*'.join(below)})"
        elif below:
            line += "/" + (below[0] if len(below) == 1 and "*" not in below[0] else f"({'*'.join(below)})")
        return ("-" + line, ADD) if fraction < 0 else (line, MUL)

    def power(self, node: Node, args: list[Text]) -> Text:
        base, exponent = node.args
        if not node.rank:
            return f"{at(args[0], ATOM)}**{at(args[1], ATOM)}", POW
        if exponent.rank or base.shape != node.shape:
            raise UnsupportedError("source for sympy: an array as exponent has no short form there")
        return f"HadamardPower({args[0][0]}, {args[1][0]})", ATOM

    # ---------------------------------------------------------------- matrices
    def chain(self, node: Node) -> Text:
        """A row first is v.T; a row as the result is turned; a number as the result is the entry of a 1 x 1 matrix."""
        factors = [(f, self.used[f]) for f in node.args]
        first, last = node.args[0], node.args[-1]
        if first.rank == 1 and last.rank == 2:
            factors = [
                (f, t if i == len(factors) - 1 else (self.transposed(t), ATOM))
                for i, (f, t) in enumerate(reversed(factors))
            ]
        elif first.rank == 1:
            factors[0] = first, (self.transposed(factors[0][1]), ATOM)
        line = "*".join([at(t, POW) for _, t in factors])
        return (f"({line})[0, 0]", ATOM) if not node.rank else (line, MUL)

    def matrix_function(self, node: Node, args: list[Text]) -> Text:
        if node.kind == "outer":
            return f"{at(args[0], POW)}*{self.transposed(args[1])}", MUL
        name = {"diag": "DiagMatrix", "diagof": "DiagonalOf", "trace": "Trace"}[node.kind]
        return f"{name}({args[0][0]})", ATOM

    def summed(self, node: Node, text: Text, axes: Sequence[int]) -> Text:
        """The sum of a vector or matrix over axes."""
        rows = _size(node.shape[0])[0]
        if node.rank == 1:
            return f"(OneMatrix(1, {rows})*{at(text, POW)})[0, 0]", ATOM
        columns = _size(node.shape[1])[0]
        if len(axes) == 2:
            return f"(OneMatrix(1, {rows})*{at(text, POW)}*OneMatrix({columns}, 1))[0, 0]", ATOM
        if axes[0] == 0:
            return f"{self.transposed(text)}*OneMatrix({rows}, 1)", MUL
        return f"{at(text, POW)}*OneMatrix({columns}, 1)", MUL

    def reduction(self, node: Node, args: list[Text]) -> Text:
        total = self.summed(node.args[0], args[0], node.data)
        if node.kind == "sum":
            return total
        sizes = [at(_size(node.args[0].shape[a]), UNARY) for a in node.data]
        return f"{at(total, MUL)}/{sizes[0] if len(sizes) == 1 else '(' + '*'.join(sizes) + ')'}", MUL

    def einsum(self, node: Node, args: list[Text]) -> str:
        raise UnsupportedError("source for sympy: an index sum without a matrix form has no counterpart there")

    # ---------------------------------------------------------------- indexing
    def expand(self, node: Node, text: Text) -> str:
        if node.data == (True, False):
            return text[0] if text[1] == ATOM else f"({text[0]})"
        if node.data == (False, True):
            return self.transposed(text)
        raise UnsupportedError("source for sympy: a broadcast number has no short form there")

    def entries(self, node: Node, args: list[Text]) -> str:
        if node.rank > 2:
            raise UnsupportedError("source for sympy: an array of more than two axes has no counterpart there")
        return f"Matrix({nested([a[0] for a in args], node.shape)})"

    def subscript(self, node: Node, args: list[Text]) -> str:
        parts: list[str] = []
        for entry in node.data:
            if entry is None:
                parts.append(":")
            elif isinstance(entry, tuple):
                first, final, step, _, _ = entry
                if step < 0:
                    raise UnsupportedError("source for sympy: a falling slice has no short form there")
                parts.append(f"{_size(first)[0]}:{_size(final + 1)[0]}" + (f":{step}" if step != 1 else ""))
            elif entry == "@":
                raise UnsupportedError("source for sympy: an index array has no counterpart there")
            else:
                parts.append(_size(entry)[0])
        base = node.args[0]
        parts += [":"] * (base.rank - len(parts))
        whole = [p for p in parts if ":" in p]
        if whole and len(whole) < len(parts) and ":" in parts[1]:
            return f"{at(args[0], ATOM)}[{parts[0]}, {parts[1]}].T"
        inside = [*parts, "0" if not whole else ":"] if base.rank == 1 else parts
        return f"{at(args[0], ATOM)}[{', '.join(inside)}]"

    # ---------------------------------------------------------------- functions
    def entrywise(self, node: Node, text: Text, form: str) -> Text:
        """A function of one entry, of a number or of every entry."""
        if not node.rank:
            return form.format(text[0]), ATOM if form[0] != "2" else POW
        bare = re.fullmatch(r"(\w+)\(\{0\}\)", form)
        return f"{at(text, ATOM)}.applyfunc({bare.group(1) if bare else 'lambda z: ' + form.format('z')})", ATOM

    def call(self, node: Node, args: list[Text]) -> Text:
        name, data = node.data[0], node.data[1:]
        if name in _ENTRY:
            return self.entrywise(node.args[0], args[0], _ENTRY[name])
        if name == "polygamma":
            return self.entrywise(node.args[0], args[0], f"polygamma({data[0]}, {{0}})")
        if name == "cast" and node.args[0].kind == "call" and node.args[0].data[0] in _RELATIONS:
            return self._mask(node.args[0])
        if name in _RELATIONS:
            if node.rank:
                return "", COMPARE  # written by the cast that makes numbers of it, and refused anywhere else
            return f"{_RELATIONS[name]}({args[0][0]}, {args[1][0]})", ATOM
        if name == "select" and node.rank and node.args[0].kind == "call" and node.args[0].data[0] in _RELATIONS:
            return self._chosen(node, args)
        if any(a.kind == "call" and a.rank and a.data[0] in _RELATIONS for a in node.args):
            raise UnsupportedError(f"source for sympy: {name} of an array of comparisons has no counterpart there")
        if name in ("maximum", "minimum"):
            return self._extreme(node, args, "Max" if name == "maximum" else "Min")
        whole = self._whole(node, name, args, data)
        if whole is not None:
            return whole
        if node.rank or any(a.rank for a in node.args):
            raise UnsupportedError(f"source for sympy: {name} of arrays has no counterpart there")
        texts = [a[0] for a in args]
        scalar = {
            "arctan2": "atan2({0}, {1})", "hypot": "sqrt(({0})**2 + ({1})**2)",
            "logaddexp": "log(exp({0}) + exp({1}))", "mod": "Mod({0}, {1})",
            "clip": "Min(Max({0}, {1}), {2})", "floor_divide": "floor(({0})/({1}))", "cast": "{0}",
            "select": "Piecewise(({1}, {0}), ({2}, True))", "apply": "", "functional": "",
        }.get(name)  # fmt: skip
        if not scalar:
            raise UnsupportedError(f"source for sympy: {name} has no counterpart there")
        return scalar.format(*texts), ATOM

    def _mask(self, relation: Node) -> Text:
        left, right = relation.args
        word = _RELATIONS[relation.data[0]]
        texts = [self.used[a][0] for a in relation.args]
        if not relation.rank:
            return f"Piecewise((1, {word}({texts[0]}, {texts[1]})), (0, True))", ATOM
        for array, other, form in (
            (left, right, f"Piecewise((1, {word}({{0}}, {texts[1]})), (0, True))"),
            (right, left, f"Piecewise((1, {word}({texts[0]}, {{0}})), (0, True))"),
        ):
            if not other.rank and array.shape == relation.shape:
                return self.entrywise(array, self.used[array], form)
        raise UnsupportedError("source for sympy: a comparison of two arrays has no counterpart there")

    def _chosen(self, node: Node, args: list[Text]) -> Text:
        """Two branches, each times the mask of where it is taken."""
        condition, first, second = node.args
        mask = self.spread(condition, self._mask(condition), node.shape)
        terms: list[str] = []
        for branch, text, where in ((first, args[1], mask[0]), (second, args[2], f"{self._ones(node)} - {mask[0]}")):
            if branch.kind != "num" or branch.data != 0:
                terms.append(f"HadamardProduct({where}, {self.spread(branch, text, node.shape)[0]})")
        return " + ".join(terms) or self._ones(node).replace("One", "Zero"), ADD if len(terms) > 1 else ATOM

    def _ones(self, node: Node) -> str:
        return f"OneMatrix({_columns(node.shape)})"

    def _extreme(self, node: Node, args: list[Text], word: str) -> Text:
        left, right = node.args
        if not node.rank:
            return f"{word}({args[0][0]}, {args[1][0]})", ATOM
        for array, text, other in ((left, args[0], (right, args[1])), (right, args[1], (left, args[0]))):
            if not other[0].rank and array.shape == node.shape:
                return self.entrywise(array, text, f"{word}({{0}}, {other[1][0]})")
        raise UnsupportedError(f"source for sympy: {word} of two arrays has no counterpart there")

    def _whole(self, node: Node, name: str, args: list[Text], data: tuple[Any, ...]) -> Text | None:
        """Functions of whole vectors and matrices."""
        first = node.args[0] if node.args else node
        if name in ("inverse", "det", "logabsdet", "signdet", "solve") and first.rank == 2:
            determinant = f"Determinant({args[0][0]})"
            match name:
                case "inverse":
                    return at(args[0], ATOM) + ".inv()", ATOM
                case "solve":
                    return f"{at(args[0], ATOM)}.inv()*{at(args[1], POW)}", MUL
                case "logabsdet":
                    return f"log(Abs({determinant}))", ATOM
                case _:
                    return (determinant if name == "det" else f"sign({determinant})"), ATOM
        if name not in ("softmax", "logsumexp", "norm") or not first.rank:
            return None
        axes: tuple[int, ...] = data[0]
        if name == "norm":
            squares = f"HadamardPower({args[0][0]}, 2)", ATOM
            if first.rank == 1:
                return f"sqrt(({self.transposed(args[0])}*{at(args[0], POW)})[0, 0])", ATOM
            total = self.summed(first, squares, axes)
            return (f"sqrt({total[0]})", ATOM) if not node.rank else (f"({total[0]}).applyfunc(sqrt)", ATOM)
        powers = f"{at(args[0], ATOM)}.applyfunc(exp)", ATOM
        total = self.summed(first, powers, axes)
        if name == "logsumexp":
            return (f"log({total[0]})", ATOM) if not node.rank else (f"({total[0]}).applyfunc(log)", ATOM)
        if len(axes) == first.rank:
            return f"{powers[0]}/{total[0]}", MUL
        rows, columns = [_size(s)[0] for s in first.shape]
        after, before = f"{powers[0]}*OneMatrix({columns}, {columns})", f"OneMatrix({rows}, {rows})*{powers[0]}"
        spread = after if axes == (1,) else before
        return f"HadamardProduct({powers[0]}, HadamardPower({spread}, -1))", ATOM
