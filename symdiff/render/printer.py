"""Notation -> program text: the walk, the operators and their precedence, shared by every array language.

A `Printer` writes nodes operands first, so depth is no limit. The base class writes NumPy; a language replaces tables
(function names, dtypes) and the few methods in which its syntax differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias

from symdiff.errors import UnsupportedError
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import ArrayConstant
from symdiff.render.notation import (
    Node,
    chain_runs,
    coefficient_parts,
    decimal,
    inverted,
    nested,
    solves,
    split_power,
    topological,
    unit_vector,
    uses_matrix_power,
)
from symdiff.render.numpy_calls import COMPARISONS, FUNCTIONS, LOGIC, NUMPY_DTYPES, Writer

COMPARE, LOGICAL, ADD, MUL, UNARY, POW, ATOM = range(7)
LETTERS = "ijklmnopqrstuvwxyzabcdefghIJKLMNOPQRSTUVWXYZABCDEFGH"

Text: TypeAlias = "tuple[str, int]"


def at(text: Text, level: int) -> str:
    """The text in brackets unless it binds as tightly as `level`."""
    return text[0] if text[1] >= level else f"({text[0]})"


def word(labels: Sequence[int]) -> str:
    return "".join([LETTERS[x] for x in labels])


def size_text(size: Size) -> Text:
    text = str(size)
    return text, ATOM if text.isidentifier() or text.isdigit() else ADD


def is_mask(factor: Node) -> bool:
    """A comparison cast to a float."""
    if factor.kind != "call" or factor.data[0] != "cast" or factor.data[1] not in ("f64", "f32"):
        return False
    return factor.args[0].kind == "call" and factor.args[0].data[0] in COMPARISONS


class Printer:
    """Writes NumPy; see the module."""

    language: ClassVar[str] = "numpy"
    module: ClassVar[str] = "np"
    functions: ClassVar[Mapping[str, Writer]] = FUNCTIONS
    dtypes: ClassVar[Mapping[str, str]] = NUMPY_DTYPES
    comparisons: ClassVar[Mapping[str, str]] = COMPARISONS
    logic: ClassVar[Mapping[str, str]] = LOGIC
    axis_word: ClassVar[str] = "axis"

    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names
        self.used: dict[Node, Text] = {}

    def write(self, results: Sequence[Node]) -> dict[Node, Text]:
        """The text and precedence of every node; nodes with a name are used by it, and have their own text here."""
        own: dict[Node, Text] = {}
        for node in topological(results):
            text = own[node] = self.node(node, [self.used[a] for a in node.args])
            self.used[node] = (self.names[node], ATOM) if node in self.names else text
        return own

    def node(self, node: Node, args: list[Text]) -> Text:
        match node.kind:
            case "sym":
                return node.data, ATOM
            case "num":
                return self.number(node.data)
            case "dim":
                return self.size(node.data)
            case "ones" | "zeros" | "eye":
                return self.filled(node), ATOM
            case "add":
                return self.sum(node, args)
            case "prod":
                return self.product(node, args)
            case "T":
                return self.transposed(args[0]), ATOM
            case "pow":
                return self.power(node, args)
            case "matmul":
                return self.chain(node)
            case "outer" | "diag" | "diagof" | "trace":
                return self.matrix_function(node, args)
            case "sum" | "mean":
                return self.reduction(node, args)
            case "einsum":
                return self.einsum(node, args), ATOM
            case "expand":
                return self.expand(node, args[0]), ATOM
            case "subscript":
                return self.subscript(node, args), ATOM
            case "entries":
                return self.entries(node, args), ATOM
            case _:
                return self.call(node, args)

    # ---------------------------------------------------------------- leaves
    def number(self, value: Any) -> Text:
        if isinstance(value, bool):
            return self.boolean(value), ATOM
        if isinstance(value, str):
            return self.special(value)
        short = decimal(value)
        if short is not None:
            return short, UNARY if value < 0 else ATOM
        fraction = Fraction(value)
        return f"{fraction.numerator}/{fraction.denominator}", MUL

    def boolean(self, value: bool) -> str:
        return str(value)

    def special(self, value: str) -> Text:
        if value in ("pi", "e", "euler_gamma", "inf", "nan"):
            return f"{self.module}.{value}", ATOM
        return f"-{self.module}.inf" if value == "-inf" else value, UNARY

    def size(self, size: Size) -> Text:
        return size_text(size)

    def shape(self, shape: Shape) -> str:
        sizes = [self.size(s)[0] for s in shape]
        return sizes[0] if len(sizes) == 1 else f"({', '.join(sizes)})"

    def filled(self, node: Node) -> str:
        dtype = "" if node.data == "f64" else f", dtype={self.dtypes[node.data]}"
        shape = self.size(node.shape[0])[0] if node.kind == "eye" else self.shape(node.shape)
        return f"{self.module}.{node.kind}({shape}{dtype})"

    # ---------------------------------------------------------------- operators
    def operand(self, node: Node, text: Text, rank: int, level: int) -> str:
        """An operand of an elementwise expression of rank `rank`, which broadcasts as it is in NumPy."""
        return at(text, level)

    def operator(self, sign: str, left: bool, right: bool) -> str:
        """An elementwise `* / **` between operands that are arrays or not."""
        return sign

    def signs(self, node: Node) -> tuple[str, str]:
        """Plus and minus between the terms of a sum."""
        return " + ", " - "

    def sum(self, node: Node, args: list[Text]) -> Text:
        plus, minus = self.signs(node)
        line = ""
        for i, (sign, term, text) in enumerate(zip(node.data, node.args, args, strict=True)):
            shown = self.operand(term, text, node.rank, MUL if sign < 0 else ADD)
            if i == 0 and sign < 0:
                shown = self.bracketed(term, shown)
            line += (("-" if sign < 0 else "") if i == 0 else minus if sign < 0 else plus) + shown
        return line, ADD

    def product(self, node: Node, args: list[Text]) -> Text:
        number, count = node.data
        front, divisor = coefficient_parts(number)
        above, below = list(zip(node.args[:count], args[:count], strict=True)), args[count:]
        if not above and number == 1 and len(below) == 1:
            base, power = split_power(node.args[0])
            if power != 1 and base is not node.args[0] and node.args[0] not in self.names:
                shown = self.operand(base, self.used[base], node.rank, ATOM)
                sign = self.operator("**", base.rank > 0, False)
                return f"{shown}{sign}({self.number(-power)[0]})", POW
        arrays = [n for n, _ in above if n.rank]
        plain = any(n.kind != "dim" and not is_mask(n) for n, _ in above)  # a float that takes booleans as 0 and 1
        line, array = "", False
        if front not in (1, -1) or not above:
            line = self.number(front)[0]
        for i, (factor, text) in enumerate(above):
            last = i == len(above) - 1 and len(arrays) == 1 and not below and divisor == 1
            inner = last and factor.kind in ("matmul", "outer") and factor.rank > 0
            if plain and is_mask(factor) and factor not in self.names:
                shown = self.operand(factor, (f"({self.used[factor.args[0]][0]})", ATOM), node.rank, UNARY)
            else:
                shown = self.operand(factor, text, node.rank, MUL if inner else UNARY)
            line += (self.operator("*", array, factor.rank > 0) if line else "") + shown
            array = array or factor.rank > 0
        under: list[tuple[bool, str, Text]] = [(False, str(divisor), (str(divisor), ATOM))] if divisor != 1 else []
        for factor, text in zip(node.args[count:], below, strict=True):
            under.append((factor.rank > 0, self.operand(factor, text, node.rank, UNARY), text))
        if len(under) == 1:
            factor = node.args[count] if below else None
            shown = self.operand(factor, under[0][2], node.rank, POW) if factor is not None else under[0][1]
            line += self.operator("/", array or under[0][0], under[0][0]) + shown
        elif under:
            line += self.operator("/", array or any(a for a, _, _ in under), any(a for a, _, _ in under))
            inside, array = under[0][1], under[0][0]
            for own, shown, _ in under[1:]:
                inside += self.operator("*", array, own) + shown
                array = array or own
            line += f"({inside})"
        if front == -1 and above:
            line = "-" + self.bracketed(above[0][0], line, plain)
        return line, ADD if front < 0 else MUL

    def power(self, node: Node, args: list[Text]) -> Text:
        base, exponent = node.args
        sign = self.operator("**", base.rank > 0, exponent.rank > 0)
        left = self.operand(base, args[0], node.rank, ATOM)
        return f"{left}{sign}{self.operand(exponent, args[1], node.rank, ATOM)}", POW

    # ---------------------------------------------------------------- matrices
    def transposed(self, text: Text) -> str:
        return at(text, ATOM) + ".T"

    def solved(self, matrix: str, right: str) -> str:
        return f"{self.module}.linalg.solve({matrix}, {right})"

    def matrix_power(self, text: Text, count: int) -> str:
        return f"{self.module}.linalg.matrix_power({text[0]}, {count})"

    def unmasked(self, args: Sequence[Node]) -> dict[Node, Text]:
        """Operands of a matrix product or an outer product; NumPy multiplies booleans as 0 and 1 beside floats."""
        if self.language != "numpy" or all(is_mask(a) for a in args):
            return {}
        masks = [a for a in args if is_mask(a) and a not in self.names]
        return {a: self.used[a.args[0]] for a in masks}

    def bracketed(self, node: Node, line: str, plain: bool = False) -> str:
        """What follows a minus sign: in brackets when it begins with booleans, which NumPy does not negate; plain: a
        node of booleans is written as such."""
        first = node
        while first.kind in ("matmul", "prod") and first.args and first not in self.names:
            first = first.args[0]
        return f"({line})" if self.language == "numpy" and (plain or first is not node) and is_mask(first) else line

    def chain(self, node: Node) -> Text:
        """Right to left, so that an inverse before a vector solves with all that follows."""
        parts: list[str] = []
        runs = chain_runs(node.args)
        masks = self.unmasked(node.args)
        for place in range(len(runs) - 1, -1, -1):
            factor, count = runs[place]
            text = masks.get(factor, self.used[factor])
            matrix = inverted(factor) if solves(node.args) and parts and factor not in self.names else None
            if matrix is not None:
                turned = self.transposed(self.used[matrix]) if factor.kind == "T" else self.used[matrix][0]
                for _ in range(count):
                    parts = [self.solved(turned, " @ ".join(parts))]
            elif uses_matrix_power(factor, count):
                parts.insert(0, self.matrix_power(text, count))
            elif place == 0 and factor.kind == "matmul":
                parts.insert(0, text[0])
            else:
                parts[:0] = [at(text, POW)] * count
        if len(parts) > 2 and node.args[-1].rank == 1 and node.args[0].rank == 2:
            # NumPy goes from left to right: brackets keep the work on vectors.
            line = f"{parts[-2]} @ {parts[-1]}"
            for part in reversed(parts[:-2]):
                line = f"{part} @ ({line})"
            return line, MUL
        return " @ ".join(parts), MUL if len(parts) > 1 else ATOM

    def matrix_function(self, node: Node, args: list[Text]) -> Text:
        name = {"diagof": "diag"}.get(node.kind, node.kind)
        if node.kind == "outer":
            masks = self.unmasked(node.args)
            args = [masks.get(a, t) for a, t in zip(node.args, args, strict=True)]
        return f"{self.module}.{name}({', '.join([a[0] for a in args])})", ATOM

    def axes(self, axes: tuple[int, ...], rank: int) -> str:
        if len(axes) == rank:
            return ""
        return f", {self.axis_word}={axes[0] if len(axes) == 1 else axes}"

    def reduction(self, node: Node, args: list[Text]) -> Text:
        return f"{self.module}.{node.kind}({args[0][0]}{self.axes(node.data, node.args[0].rank)})", ATOM

    def einsum(self, node: Node, args: list[Text]) -> str:
        labels, output = node.data
        spec = ",".join([word(w) for w in labels]) + "->" + word(output)
        return f"{self.module}.einsum('{spec}', {', '.join([a[0] for a in args])})"

    # ---------------------------------------------------------------- indexing
    def expand(self, node: Node, text: Text) -> str:
        return f"{at(text, ATOM)}[{', '.join([':' if kept else 'None' for kept in node.data])}]"

    def subscript(self, node: Node, args: list[Text]) -> str:
        """A falling slice is taken rising and turned, because its end may lie before the first element."""
        if unit_vector(node) and node.data[0] != "@":
            return self.unit(node.args[0], self.size(node.data[0])[0])
        arrays = iter(args[1:])
        parts: list[str] = []
        turned: list[int] = []
        axis = 0  # of the result
        for entry in node.data:
            if entry == "@":
                parts.append(next(arrays)[0])
                axis += node.args[1].rank if len(parts) == node.data.index("@") + 1 else 0
                continue
            if entry is None:
                parts.append(":")
            elif not isinstance(entry, tuple):
                parts.append(self.size(entry)[0])
                continue
            else:
                text, falling = self.range(entry)
                parts.append(text)
                if falling:
                    turned.append(axis)
            axis += 1
        while len(parts) > 1 and parts[-1] == ":":
            parts.pop()
        first = at(args[0], ATOM)
        if parts != [":"] or not turned:
            first += f"[{', '.join(parts)}]"
        return self.reversed(first, turned, axis) if turned else first

    def unit(self, eye: Node, place: str) -> str:
        """A row of the identity without the others."""
        dtype = "" if eye.data == "f64" else f", dtype={self.dtypes[eye.data]}"
        return f"{self.module}.eye(1, {self.size(eye.shape[0])[0]}, {place}{dtype})[0]"

    def entries(self, node: Node, args: list[Text]) -> str:
        return f"{self.module}.array({nested([a[0] for a in args], node.shape)})"

    def reversed(self, text: str, axes: Sequence[int], rank: int) -> str:
        return f"{text}[{', '.join(['::-1' if i in axes else ':' for i in range(axes[-1] + 1)])}]"

    def range(self, entry: tuple[Any, ...]) -> tuple[str, bool]:
        """Up to a whole step past the last element: where there are none, that is not before the array."""
        first, last, step, count, size = entry
        stride = abs(step)
        low, past, least = (first, first + step * count, last + 1) if step > 0 else (last, first + 1, first + 1)
        start = "" if low == 0 else str(low)
        beyond = isinstance(past, int) and isinstance(size, int) and past > size
        stop = "" if beyond or size in (least, past) else str(past)
        return f"{start}:{stop}" + (f":{stride}" if stride != 1 else ""), step < 0

    # ---------------------------------------------------------------- functions
    def compared(self, node: Node, sign: str, args: list[Text], level: int) -> str:
        left, right = [self.operand(a, t, node.rank, level) for a, t in zip(node.args, args, strict=True)]
        return f"{left} {sign} {right}"

    def array(self, constant: ArrayConstant) -> str:
        dtype = constant.array.dtype.name
        return f"{self.module}.array({constant.array.tolist()!r}, dtype={self.module}.{dtype})"

    def call(self, node: Node, args: list[Text]) -> Text:
        name, data = node.data[0], node.data[1:]
        if name in self.comparisons:
            return self.compared(node, self.comparisons[name], args, LOGICAL), COMPARE
        if name in self.logic:
            return self.compared(node, self.logic[name], args, ADD), LOGICAL
        if name == "array":
            return self.array(data[0]), ATOM
        return self.function(node, name, args, data)

    def function(self, node: Node, name: str, args: list[Text], data: tuple[Any, ...]) -> Text:
        return self.writer(name)(node, [a[0] for a in args], data), ATOM

    def writer(self, name: str) -> Writer:
        made = self.functions.get(name)
        if made is None:
            raise UnsupportedError(
                f"source for {self.language}: {name} has no counterpart there; source('numpy') has it"
            )
        return made
