"""C99 text of one element of a value, and the loops around it.

Takes values and index expressions, gives expressions: what has an array or a local number is read there, everything
else is written out in place. Lines collect in `lines`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.errors import UnsupportedError
from symdiff.ir.builder import DIGITS
from symdiff.ir.contraction import Spec, parse_spec
from symdiff.ir.dims import Dim, FloorDiv, Shape, Size
from symdiff.ir.dims import product as size_product
from symdiff.ir.graph import Function, Value
from symdiff.render.c_ops import (
    ADD,
    AND,
    ATOM,
    BINARY,
    C_TYPES,
    CALLS,
    CHOICE,
    EQUAL,
    HELPERS,
    INTEGER_CALLS,
    MUL,
    UNARY,
)
from symdiff.render.node import floating

Text: TypeAlias = "tuple[str, int]"
Index: TypeAlias = "Sequence[str]"

_LETTERS = ("i", "j", "k", "l", "p", "q", "r", "u", "v", "w")
_WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool true "
    "false main free memset int64_t size_t"
)


def at(text: Text, level: int) -> str:
    return text[0] if text[1] >= level else f"({text[0]})"


def size_c(size: Size) -> Text:
    """A size as a C expression: sums of products, divided by one whole number."""
    if not isinstance(size, Dim):
        return str(size), ATOM if size >= 0 else UNARY
    below = 1
    for _, coefficient in size.terms:
        below = max(below, coefficient.denominator)
    for _, coefficient in size.terms:
        if (coefficient * below).denominator != 1:
            below *= coefficient.denominator
    line = ""
    for monomial, coefficient in size.terms:
        number = int(coefficient * below)
        parts = [_atom_c(atom) for atom, power in monomial for _ in range(power)]
        if abs(number) != 1 or not parts:
            parts.insert(0, str(abs(number)))
        sign = ("-" if number < 0 else "") if not line else " - " if number < 0 else " + "
        line += sign + "*".join(parts)
    level = ADD if len(size.terms) > 1 or line.startswith("-") else MUL if "*" in line else ATOM
    return (line, level) if below == 1 else (f"{at((line, level), UNARY)}/{below}", MUL)


def _atom_c(atom: str | FloorDiv) -> str:
    # Sizes are not negative, so that C's division is the floor.
    return atom if isinstance(atom, str) else f"({at(size_c(atom.numerator), UNARY)}/{atom.divisor})"


def number_c(value: Any, dtype: str) -> Text:
    if isinstance(value, bool):
        return ("true" if value else "false"), ATOM
    if isinstance(value, str):
        special = {
            **{name: digits[:22] for name, digits in DIGITS.items()},
            "inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN", "-0.0": "-0.0",
        }  # fmt: skip
        return special[value], UNARY if value.startswith("-") else ATOM
    if dtype == "i64":
        return (f"INT64_C({value})" if abs(value) > 2**31 - 1 else str(value)), UNARY if value < 0 else ATOM
    fraction = Fraction(value)
    text = floating(fraction)  # with a point, so that no division is one of integers
    if Fraction(text) == fraction or max(abs(fraction.numerator), fraction.denominator) > 10**6:
        return text, UNARY if fraction < 0 else ATOM
    return f"{fraction.numerator}.0/{fraction.denominator}", MUL


def spec_of(v: Value) -> Spec:
    return parse_spec(v.attr("spec"))


def literal(x: Any) -> str:
    """An element of an array constant."""
    if isinstance(x, bool):
        return "true" if x else "false"
    return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}.get(repr(x), repr(x))


def _statements(lines: Sequence[str]) -> int:
    """How many statements these lines are: a loop head starts one with all that is deeper."""
    depths = [len(line) - len(line.lstrip()) for line in lines]
    least = min(depths, default=0)
    return sum(1 for d, line in zip(depths, lines, strict=True) if d == least and line.strip() != "}")


class Elements:
    """Where each value lives, names in use, and the lines so far."""

    def __init__(self, function: Function, name: str) -> None:
        self.function = function
        self.name = name
        self.lines: list[str] = []
        self.depth = 1
        self.owned: list[str] = []
        self.where: dict[Value, str] = {}
        symbols = {p.name for p in function.params} | set(function.dims)
        used = {*CALLS.values(), *INTEGER_CALLS.values(), *HELPERS, *_WORDS.split(" "), name}
        clash = next((d for d in function.dims if d in used), None)
        if clash is not None:
            raise UnsupportedError(f"source for c: dimension {clash} is a word of the C text; rename it")
        for p in function.params:
            own = p.name
            while own in used or (own != p.name and own in symbols):
                own += "_"
            self.where[p] = own
        self.taken = symbols | used | set(self.where.values())
        self.letters = [c for c in _LETTERS if c not in self.taken]
        self.sum, self.top = self.free_name("s"), self.free_name("top")
        self.count = 0

    def free_name(self, stem: str) -> str:
        """`stem`, or with underscores behind it, unlike any other name."""
        while stem in self.taken:
            stem += "_"
        self.taken.add(stem)
        return stem

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def fresh(self) -> str:
        self.count += 1
        while f"t{self.count}" in self.taken:
            self.count += 1
        return f"t{self.count}"

    def reserve(self, shape: Shape, dtype: str) -> str:
        name = self.fresh()
        self.owned.append(name)
        self.emit(f"{C_TYPES[dtype]} *{name} = reserve({size_c(size_product(shape))[0]}, sizeof *{name});")
        return name

    def indices(self, shape: Shape, used: Index = ()) -> list[str]:
        """A loop variable per axis, none for axes of size one."""
        free = [c for c in self.letters if c not in used]
        free += [x for x in (f"i{n}" for n in range(1, 99)) if x not in self.taken and x not in used]
        return ["0" if s == 1 else free.pop(0) for s in shape]

    def nest(self, index: Index, shape: Shape, body: Callable[[], object]) -> None:
        """Loops over the axes around what `body` emits."""
        axes = [(x, s) for x, s in zip(index, shape, strict=True) if x != "0"]
        depth = self.depth
        for x, s in axes:
            self.emit(f"for (long {x} = 0; {x} < {at(size_c(s), ADD)}; {x}++)")
            self.depth += 1
        first = len(self.lines)
        body()
        self.depth = depth
        if _statements(self.lines[first:]) < 2:
            return
        if axes:
            self.lines[first - 1] += " {"
        else:
            self.lines[first:] = ["    " * depth + "{", *["    " + line for line in self.lines[first:]]]
        self.emit("    " * max(len(axes) - 1, 0) + "}")

    def loop(self, shape: Shape, body: Callable[[Index], list[str]]) -> None:
        index = self.indices(shape)
        self.nest(index, shape, lambda: [self.emit(line) for line in body(index)])

    # ---------------------------------------------------------------- reading
    def flat(self, index: Index, shape: Shape) -> str:
        """The row-major position."""
        line: Text = ("0", ATOM)
        for x, s in zip(index, shape, strict=True):
            own = (x, ATOM if re.fullmatch(r"\w+|place\([^()]*\)", x) else ADD)
            if line[0] == "0":
                line = own
            else:
                scaled = f"{at(line, UNARY)}*{at(size_c(s), UNARY)}"
                line = (scaled, MUL) if x == "0" else (f"{scaled} + {x}", ADD)
        return line[0]

    def read(self, name: str, shape: Shape, index: Index) -> Text:
        return (f"{name}[{self.flat(index, shape)}]" if shape else name), ATOM

    def element(self, v: Value, index: Index) -> Text:
        """One element as an expression in the indices.

        Steps without a place are written out; their length is limited, so this is no deep recursion.
        """
        if v in self.where:
            return self.read(self.where[v], v.type.shape, index)
        name = v.op.name
        if v.op.elementwise:
            return self._applied(v, [self.element(a, index) for a in v.args])
        if name == "contract":
            return self._factors(v, index)
        if name == "const":
            return number_c(v.attr("value"), v.type.dtype)
        if name == "size":
            text = size_c(v.attr("size"))
            return (f"(double){at(text, UNARY)}", UNARY) if v.type.floating else text
        if name == "iota":
            return index[0], ATOM
        if name == "reshape":
            name = self.where[v.args[0]]
            if not v.args[0].type.rank:
                return name, ATOM
            return self.read(name, v.type.shape, index) if v.type.rank else (f"{name}[0]", ATOM)
        if name == "symmetric":
            return self.element(v.args[0], index)
        if name in ("tril", "triu"):
            i, j = index[-2], index[-1]
            k = v.attr("k")
            reach = i if k == 0 else f"{i} + {at(size_c(k), ADD)}"
            inner = at(self.element(v.args[0], index), CHOICE + 1)
            return f"{j} {'<=' if name == 'tril' else '>='} {reach} ? {inner} : 0", CHOICE
        if name == "slice":
            return self._sliced(v, index)
        assert name == "gather", name
        return self._gathered(v, index)

    def _sliced(self, v: Value, index: Index) -> Text:
        lead = v.type.rank - len(v.attr("sizes"))
        inner = list(index)
        for axis, (start, step) in enumerate(zip(v.attr("starts"), v.attr("steps"), strict=True)):
            x = inner[lead + axis]
            moved = "" if x == "0" else x if step == 1 else f"{step}*{x}" if step > 0 else f"-{-step}*{x}"
            first = size_c(start)
            inner[lead + axis] = (
                moved or "0" if start == 0 else first[0] if not moved else
                f"{first[0]} - {moved[1:]}" if moved.startswith("-") else f"{moved} + {at(first, MUL)}"
            )  # fmt: skip
        return self.element(v.args[0], inner)

    def _gathered(self, v: Value, index: Index) -> Text:
        base, *arrays = v.args
        first = base.type.rank + v.attr("axis")
        count = arrays[0].type.rank
        own = index[first : first + count]
        places = [
            f"place({self.element(a, own)[0]}, {size_c(base.type.shape[first + i])[0]})" for i, a in enumerate(arrays)
        ]
        return self.element(base, [*index[:first], *places, *index[first + count :]])

    def _factors(self, v: Value, index: Index) -> Text:
        """An element of a product without sums; off the diagonal of a repeated label it is zero."""
        spec = spec_of(v)
        known: dict[int, str] = {}
        tests: list[str] = []
        for label, x in zip(spec.output, index, strict=True):
            if known.setdefault(label, x) != x:
                tests.append(f"{known[label]} == {x}")
        text = self.times([(a, [known[x] for x in word]) for a, word in zip(v.args, spec.operands, strict=True)])
        if not tests:
            return text
        return f"{' && '.join(tests)} ? {at(text, AND)} : 0", CHOICE

    def times(self, factors: Sequence[tuple[Value, Index]]) -> Text:
        if len(factors) == 1:
            return self.element(*factors[0])
        return ("*".join([at(self.element(a, i), UNARY) for a, i in factors]), MUL) if factors else ("1.0", ATOM)

    # ---------------------------------------------------------------- elementwise ops
    def _applied(self, v: Value, args: list[Text]) -> Text:
        text = self._operation(v, args)
        if v.type.dtype == "f32" and v.op.name not in ("neg", "select"):
            return f"(float){at(text, UNARY)}", UNARY  # every step is rounded, as in NumPy
        return text

    def _operation(self, v: Value, args: list[Text]) -> Text:
        name, dtype = v.op.name, v.args[0].type.dtype
        if name in BINARY:
            sign, level = BINARY[name]
            tight = level + (1 if name in ("sub", "div", "xor", "eq", "ne") else 0)
            gap = "" if level == MUL else " "
            left, right = at(args[0], level), at(args[1], tight)
            return f"{left}{gap}{sign}{gap}{right}", level
        match name:
            case "neg":
                return f"-{at(args[0], ATOM)}", UNARY
            case "not":
                return f"!{at(args[0], ATOM)}", UNARY
            case "select":
                return f"{at(args[0], CHOICE + 1)} ? {at(args[1], CHOICE + 1)} : {args[2][0]}", CHOICE
            case "cast":
                if v.attr("dtype") == "bool":
                    return f"{at(args[0], EQUAL)} != 0", EQUAL
                return f"({C_TYPES[v.attr('dtype')]}){at(args[0], UNARY)}", UNARY
            case "pow":
                exponent = v.args[1].attr("value") if v.args[1].op.name == "const" else None
                if exponent == 2 and args[0][1] == ATOM and v.args[0] in self.where:
                    return f"{args[0][0]}*{args[0][0]}", MUL
                if exponent == -1:
                    return f"1.0/{at(args[0], UNARY)}", MUL
            case _:
                pass
        called = CALLS.get(name)
        if dtype in ("i64", "bool"):
            called = INTEGER_CALLS.get(name)
        if called is None:
            raise UnsupportedError(f"source for c: {name} of {dtype} has no counterpart in C; source('numpy') has it")
        return (f"{called}({', '.join([a[0] for a in args])})", ATOM) if called else args[0]

    # ---------------------------------------------------------------- what statements need
    def target(self, v: Value, own: str, index: Index) -> str:
        """Where an element of a value in the making goes."""
        return self.read(own, v.type.shape, index)[0]

    def cleared(self, v: Value, own: str) -> None:
        """Zeros: new arrays have them, outputs do not."""
        if own not in self.owned and v.type.rank:
            self.emit(f"memset({own}, 0, (size_t){at(size_c(size_product(v.type.shape)), UNARY)}*sizeof *{own});")

    def dense(self, v: Value) -> str:
        """The array of a value as double."""
        if v.type.dtype == "f64":
            return self.where[v]
        own = self.reserve(v.type.shape, "f64")
        self.loop(v.type.shape, lambda i: [f"{self.read(own, v.type.shape, i)[0]} = {self.element(v, i)[0]};"])
        return own
