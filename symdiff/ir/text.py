"""The text form of Functions: print and parse, exact inverses, both without recursion over the graph.

    function  = 'fn' name '(' [param {',' param}] ')' '{' {line} 'return' [ref {',' ref}] '}'
    param     = '%'name ':' type
    line      = '%'number ':' type '=' op '(' [ref {',' ref}] ')' ['{' attr {',' attr} '}']
    attr      = name '=' value
    value     = integer | integer '/' integer | string | 'True' | 'False' | 'None' | size | list | array | function
    list      = '[' [value {',' value}] ']'
    array     = 'array' '(' dtype ',' list ',' string ')'          shape, then the bytes in hexadecimal
    type      = dtype '[' [size {',' size}] ']' ['{' fact {',' fact} '}']
    size      = as `Dim` prints it: n*m + 1
    ref       = '%'name | '%'number

Values are numbered in order, attributes sorted, types always shown. Example:

    fn f(%A: f64[m,n], %x: f64[n]) {
      %0: f64[m] = contract(%A, %x) {spec = "ij,j->i"}
      return %0
    }

A Function inside an attribute has names of its own:

    %1: f64[n] = scan(%h, %x) {body = fn step(%s: f64[], %a: f64[]) {
        %0: f64[] = mul(%s, %a)
        return %0, %0
      }, carries = 1, length = n, pick = 2, reverse = False, slices = 1}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import numpy as np

from symdiff.errors import ParseError, SymdiffError
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Dim, Size, parse_size
from symdiff.ir.graph import ArrayConstant, Function, Value
from symdiff.ir.op import OpSet
from symdiff.ir.types import TensorType, check_type


# -------------------------------------------------------------------- printing
def print_function(function: Function, indent: str = "") -> str:
    """The whole text of `function`."""
    names = _names(function)
    params = ", ".join(f"{names[p]}: {p.type}" for p in function.params)
    lines = [f"fn {function.name}({params}) {{"]
    lines += [indent + "  " + _line(value, names, indent) for value in function.instrs]
    returned = ", ".join(names[r] for r in function.results)
    lines.append(f"{indent}  return {returned}".rstrip())
    lines.append(indent + "}")
    return "\n".join(lines)


def excerpt(function: Function, position: int, around: int = 5) -> str:
    """The lines around one instruction, the line at `position` marked; works on malformed functions."""
    names = _names(function)
    rows: list[str] = []
    for i in range(max(0, position - around), min(len(function.instrs), position + around + 1)):
        rows.append(("> " if i == position else "  ") + _line(function.instrs[i], names, ""))
    return "\n".join(rows)


def _names(function: Function) -> dict[Value, str]:
    names = {p: f"%{p.name}" for p in function.params}
    for number, value in enumerate(function.instrs):
        names.setdefault(value, f"%{number}")
    return names


def _line(value: Value, names: dict[Value, str], indent: str) -> str:
    args = ", ".join([names.get(a, "%?") for a in value.args])
    text = f"{names[value]}: {value.type} = {value.op.name}({args})"
    if value.attrs:
        text += " {" + ", ".join([f"{k} = {_attribute(v, indent)}" for k, v in value.attrs]) + "}"
    return text


def _attribute(value: Any, indent: str) -> str:
    if value is None or isinstance(value, (bool, int, Fraction, Dim)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join([_attribute(v, indent) for v in cast("tuple[Any, ...]", value)]) + "]"
    if isinstance(value, ArrayConstant):
        array = value.array
        return f'array({array.dtype.str[1:]}, {_attribute(array.shape, "")}, "{array.tobytes().hex()}")'
    if isinstance(value, Function):
        return print_function(value, indent + "  ")
    raise SymdiffError(f"an attribute of type {type(value).__name__} has no text form")


# -------------------------------------------------------------------- parsing
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<ref>%[^\W]\w*) |
        (?P<string>"(?:[^"\\]|\\.)*") |
        (?P<number>\d+) |
        (?P<name>[^\W\d]\w*) |
        (?P<punct>->|//|\*\*|[-+*/(){}\[\]:=,])
    )""",
    re.VERBOSE,
)


class _Reader:
    """Tokens one at a time with their places, so that a fault is shown under its column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.tokens: list[str] = []
        self.starts: list[int] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                at = position + len(text[position:]) - len(text[position:].lstrip())
                raise ParseError(f"unexpected character {text[at]!r}", text, at)
            kind = cast(str, match.lastgroup)
            self.kinds.append(kind)
            self.tokens.append(match.group(kind))
            self.starts.append(match.start(kind))
            position = match.end()
        self.at = 0

    def fail(self, message: str) -> ParseError:
        place = self.starts[self.at] if self.at < len(self.starts) else len(self.text.rstrip())
        return ParseError(message, self.text, place)

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        return self.kinds[self.at] if self.at < len(self.kinds) else "end"

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self.fail(f"expected {wanted!r}, found {self.peek() or 'the end of the text'!r}")
        self.at += 1

    def accept(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.at += 1
            return True
        return False

    def items(self, close: str) -> Iterator[None]:
        """Once before each item of a list with commas between, then past `close`."""
        first = True
        while self.peek() != close:
            if not first:
                self.expect(",")
            first = False
            yield
        self.at += 1

    def name(self, what: str) -> str:
        if self.kind() != "name":
            raise self.fail(f"expected {what}, found {self.peek() or 'the end of the text'!r}")
        return self.take()


def parse_function(text: str, opset: OpSet) -> Function:
    """Read one function. Types are inferred again and must be the written ones."""
    reader = _Reader(text)
    function = _function(reader, opset)
    if reader.peek():
        raise reader.fail(f"unexpected {reader.peek()!r} after the function")
    return function


def _function(reader: _Reader, opset: OpSet) -> Function:
    builder = Builder(opset)
    reader.expect("fn")
    name = reader.name("a function name")
    names: dict[str, Value] = {}
    params: list[Value] = []
    reader.expect("(")
    for _ in reader.items(")"):
        ref = _new_name(reader, names)
        reader.expect(":")
        kind = _type(reader)
        names[ref] = builder.param(ref[1:], kind)
        params.append(names[ref])
    reader.expect("{")
    instrs: list[Value] = []
    made: set[Value] = set()
    while reader.peek() != "return":
        start = reader.at
        ref = _new_name(reader, names)
        value = _instruction(reader, builder, names)
        if value in made:
            reader.at = start
            raise reader.fail(f"{ref} repeats an instruction above it; equal instructions are one value")
        made.add(value)
        names[ref] = value
        instrs.append(value)
    reader.expect("return")
    results = [_reference(reader, names) for _ in reader.items("}")]
    return Function(name, params, instrs, results)


def _new_name(reader: _Reader, names: dict[str, Value]) -> str:
    if _peek_ref(reader) in names:
        raise reader.fail(f"{reader.peek()} is defined twice")
    return reader.take()


def _reference(reader: _Reader, names: dict[str, Value]) -> Value:
    if _peek_ref(reader) not in names:
        raise reader.fail(f"{reader.peek()} is used before it is defined")
    return names[reader.take()]


def _peek_ref(reader: _Reader) -> str:
    if reader.kind() != "ref":
        raise reader.fail(f"expected a value such as %x or %0, found {reader.peek() or 'the end of the text'!r}")
    return reader.peek()


def _instruction(reader: _Reader, builder: Builder, names: dict[str, Value]) -> Value:
    reader.expect(":")
    type_at = reader.at
    kind = _type(reader)
    reader.expect("=")
    op_at = reader.at
    op_name = reader.name("an op name")
    op = builder.opset.get(op_name)
    if op is None:
        reader.at = op_at
        raise reader.fail(f"unknown op {op_name!r}")
    reader.expect("(")
    args = [_reference(reader, names) for _ in reader.items(")")]
    attrs: list[tuple[str, Any]] = []
    if reader.accept("{"):
        for _ in reader.items("}"):
            key = reader.name("an attribute name")
            reader.expect("=")
            attrs.append((key, _value(reader, builder.opset)))
    end = reader.at
    try:
        if op.arity is not None and op.arity != len(args):
            raise SymdiffError(f"{op_name}: {len(args)} operands given, expected {op.arity}")
        inferred = op.infer([a.type for a in args], dict(attrs))
        template = Value(op, tuple(args), tuple(attrs), inferred)
        value = builder.remake(template, template.args)
    except ParseError:
        raise
    except (SymdiffError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reader.at = op_at
        missing = isinstance(error, KeyError) and isinstance(error.args[0], str)
        reason = f"attribute {error} is missing" if missing else f"malformed attribute or operand: {error}"
        raise reader.fail(str(error) if isinstance(error, SymdiffError) else f"{op_name}: {reason}") from error
    if value.type != kind:
        reader.at = type_at
        raise reader.fail(f"written type {kind}, inferred type {value.type}")
    reader.at = end
    return value


def _type(reader: _Reader) -> TensorType:
    start = reader.at
    dtype = reader.name("a type")
    reader.expect("[")
    shape = [_size(reader) for _ in reader.items("]")]
    facts: list[str] = []
    if reader.accept("{"):
        facts = [reader.name("a fact") for _ in reader.items("}")]
    kind = TensorType(dtype, tuple(shape), frozenset(facts))
    try:
        return check_type(kind, "type")
    except SymdiffError as error:
        reader.at = start
        raise reader.fail(str(error)) from error


def _size(reader: _Reader) -> Size:
    """Everything up to a comma or bracket at this depth is one size."""
    start, depth = reader.at, 0
    while reader.peek() and (depth or reader.peek() not in (",", "]", "}", ")")):
        depth += {"(": 1, ")": -1}.get(reader.peek(), 0)
        reader.at += 1
    piece = " ".join(reader.tokens[start : reader.at])
    try:
        return parse_size(piece)
    except ParseError as error:
        reader.at = start
        raise reader.fail(str(error).split("\n")[0]) from error


def _value(reader: _Reader, opset: OpSet) -> Any:
    token = reader.peek()
    if reader.kind() == "string":
        return _unquote(reader.take())
    if token in ("True", "False", "None"):
        reader.take()
        return {"True": True, "False": False, "None": None}[token]
    if token == "[":
        reader.take()
        return tuple([_value(reader, opset) for _ in reader.items("]")])
    if token == "fn":
        return _function(reader, opset)
    if token == "array" and reader.tokens[reader.at + 1 : reader.at + 2] == ["("]:
        return _array(reader, opset)
    negative = token == "-"
    digits = reader.at + negative
    if reader.tokens[digits + 1 : digits + 2] == ["/"] and reader.kinds[digits] == "number":
        if reader.kinds[digits + 2 : digits + 3] != ["number"] or not int(reader.tokens[digits + 2]):
            raise reader.fail("a fraction needs a positive integer below")
        numerator, denominator = int(reader.tokens[digits]), int(reader.tokens[digits + 2])
        reader.at = digits + 3
        return Fraction(-numerator if negative else numerator, denominator)
    return _size(reader)


def _array(reader: _Reader, opset: OpSet) -> ArrayConstant:
    start = reader.at
    reader.take()
    reader.expect("(")
    dtype = reader.name("a NumPy dtype")
    reader.expect(",")
    shape = _value(reader, opset)
    reader.expect(",")
    data = _unquote(reader.take())
    reader.expect(")")
    try:
        # The leading letter of the code is the byte order, which text leaves out: little-endian always.
        array = np.frombuffer(bytes.fromhex(data), np.dtype("<" + dtype)).reshape(shape)
    except (ValueError, TypeError) as error:
        reader.at = start
        raise reader.fail(f"malformed array: {error}") from error
    return ArrayConstant(array)


def _unquote(token: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1), token[1:-1])
