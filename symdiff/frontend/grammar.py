"""NumPy notation to postfix steps: our own tokens and a precedence parser on explicit stacks.

Takes a text; gives a list of `Step`s, operands before operators, each with its place in the text. Nothing is looked
up or computed here. Time and memory are linear in the length of the text, and nesting is no limit.

    expression  = Python's arithmetic, comparison and bit operators, with Python's precedence and associativity
    primary     = number | name | string | True | False | None | ... | (items) | [items]
    trailer     = .name | (arguments) | [slices]

Everything else of Python (lambda, comprehensions, assignment, `and`, conditional expressions, ...) is refused by name.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, NoReturn, TypeAlias

from symdiff.errors import ParseError

Action: TypeAlias = Literal["push", "name", "unary", "binary", "attr", "call", "index", "slice", "tuple", "list"]


class Step(NamedTuple):
    """One postfix step: what to do, with what, and the column of the text that says so.

    push: a constant. name, attr: an identifier. unary, binary: an operator. slice: takes three values.
    call: (number of positional arguments, keyword names); the callee lies under the arguments.
    index: (number of subscripts, whether they form a tuple). tuple, list: number of items.
    """

    action: Action
    value: Any
    at: int


class Token(NamedTuple):
    kind: Literal["number", "name", "string", "mark", "end"]
    text: str
    at: int


_TOKEN: Final = re.compile(
    r"(?P<number>(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<string>'[^'\n]*'|\"[^\"\n]*\")"
    r"|(?P<mark>\.\.\.|\*\*|//|<<|>>|<=|>=|==|!=|:=|->|[-+*/%@<>&|~^=().\[\],:{}])"
    r"|(?P<space>\s+)"
)

# Characters that people type or paste for another one.
_LOOKALIKES: Final = {
    "\u2212": "a minus sign that is not the ASCII one; write -",
    "\u2013": "a dash; write - for minus",
    "\u2014": "a dash; write - for minus",
    "\u00d7": "write * for a product",
    "\u00b7": "write * or @ for a product",
    "\u22c5": "write * or @ for a product",
    "\u2299": "write * for the elementwise product",
    "\u2297": "write np.kron(a, b) or np.outer(a, b)",
    "\u00f7": "write / for division",
    "\u22a4": "write .T for a transpose",
    "\u1d40": "write .T for a transpose",
    "\u2211": "write sum(...)",
    "\u221a": "write sqrt(...)",
    "\u2264": "write <=",
    "\u2265": "write >=",
    "\u2260": "write !=",
    "\u2018": "a typographic quote; write '",
    "\u2019": "a typographic quote; write '",
    "\u201c": 'a typographic quote; write "',
    "\u201d": 'a typographic quote; write "',
    "!": "only != is known",
    ";": "one expression is expected, not several statements",
    "#": "comments are not part of an expression",
    "\\": "line continuation is not needed: line ends are spaces",
    "`": "this quotation mark has no meaning here",
    "?": "this mark has no meaning here",
    "$": "LaTeX is not read here; write NumPy notation",
    "'": "the string is not closed",
    '"': "the string is not closed",
}
_SUPERSCRIPTS: Final = {c: str(i) for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}

_KEYWORDS: Final = {
    "lambda": "functions are not defined inside an expression",
    "if": "write np.where(condition, a, b)",
    "else": "write np.where(condition, a, b)",
    "and": "write (a) & (b)",
    "or": "write (a) | (b)",
    "not": "write ~(a)",
    "in": "membership has no meaning for arrays",
    "is": "identity has no meaning for arrays; write ==",
    "for": "comprehensions are not supported; write an array expression",
}
_STATEMENTS: Final = frozenset(
    {
        "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "except", "finally",
        "from", "global", "import", "nonlocal", "pass", "raise", "return", "try", "while", "with", "yield",
    }
)  # fmt: skip
_LITERALS: Final = {"True": True, "False": False, "None": None}
# Words that are no names.
WORDS: Final = frozenset({*_KEYWORDS, *_STATEMENTS, *_LITERALS})

# Python's precedence; only ** associates to the right.
_COMPARISON, _UNARY, _POWER = 1, 7, 8
_BINARY: Final = {
    "<": _COMPARISON, "<=": _COMPARISON, ">": _COMPARISON, ">=": _COMPARISON, "==": _COMPARISON, "!=": _COMPARISON,
    "|": 2, "&": 4, "+": 5, "-": 5, "*": 6, "@": 6, "/": 6, "//": 6, "%": 6, "**": _POWER,
}  # fmt: skip
_REFUSED_MARKS: Final = {
    "^": "write ** for a power (and (a & ~b) | (b & ~a) for exclusive or)",
    "<<": "shifts are not supported",
    ">>": "shifts are not supported",
    ":=": "names are not assigned inside an expression",
    "->": "an arrow belongs inside the string of an einsum",
    "=": "= names an argument inside a call; == compares",
    "{": "sets and dictionaries are not supported",
    "}": "sets and dictionaries are not supported",
}
_CLOSER: Final = {"(": ")", "[": "]"}
# Decimal exponents beyond this lie far outside double precision, and would only cost memory.
_LARGEST_EXPONENT: Final = 4000


def tokenize(text: str) -> list[Token]:
    """Tokens of `text`, ended by one of kind `end`. White space and line ends separate and mean nothing."""
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            hint = _LOOKALIKES.get(character, "it has no meaning here")
            raise ParseError(f"unexpected character {character!r}: {hint}", text, position)
        kind: Any = match.lastgroup
        word = match.group()
        if kind == "name" and not word.isidentifier():
            _refuse_name(text, position, word)
        if kind == "name" and tokens and tokens[-1].kind == "number" and text[position - 1] == tokens[-1].text[-1]:
            number = tokens[-1].text
            hint = "complex numbers are not supported" if word in "jJ" else f"write {number}*{word} for a product"
            raise ParseError(f"the number {number} runs into the name {word}; {hint}", text, position)
        if kind != "space":
            tokens.append(Token(kind, word, position))
        position = match.end()
    tokens.append(Token("end", "", len(text.rstrip())))
    return tokens


def _refuse_name(text: str, position: int, word: str) -> NoReturn:
    for offset, character in enumerate(word):
        if character in _SUPERSCRIPTS:
            message = f"unexpected character {character!r}: write **{_SUPERSCRIPTS[character]} for a power"
            raise ParseError(message, text, position + offset)
        if character in _LOOKALIKES:
            raise ParseError(f"unexpected character {character!r}: {_LOOKALIKES[character]}", text, position + offset)
    raise ParseError(f"{word!r} is no name", text, position)


def _number(token: Token, text: str) -> int | Fraction:
    """The exact number; a literal with a point or an exponent is a Fraction even when whole, as Python's is a float."""
    digits = token.text.replace("_", "")
    mantissa, _, exponent = digits.lower().partition("e")
    try:
        if exponent and abs(int(exponent)) > _LARGEST_EXPONENT:
            raise ParseError(f"the number {digits} is far outside double precision", text, token.at)
        if not exponent and "." not in mantissa:
            return int(digits)
        return Fraction(digits)
    except ParseError:
        raise
    except ValueError as error:
        short = digits if len(digits) <= 30 else digits[:27] + "..."
        raise ParseError(f"{short} is no number that can be read: {error}", text, token.at) from error


class _Operator(NamedTuple):
    text: str
    precedence: int
    unary: bool
    at: int


class _Frame:
    """An open bracket: what it is, where, and what has been read inside."""

    __slots__ = ("at", "colons", "comma", "items", "keyword", "keywords", "kind", "mark")

    def __init__(self, kind: Literal["group", "list", "call", "index"], mark: str, at: int) -> None:
        self.kind = kind
        self.mark = mark
        self.at = at
        self.items = 0
        self.comma = False
        self.colons = 0
        self.keyword = ""
        self.keywords: list[str] = []


class _Parser:
    """Shunting-yard: `steps` is the output, `stack` holds pending operators and open brackets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.index = 0
        self.steps: list[Step] = []
        self.stack: list[_Operator | _Frame] = []
        # Open brackets of `stack`, innermost last, so that finding the innermost one needs no search.
        self.frames: list[_Frame] = []

    def fail(self, message: str, at: int) -> NoReturn:
        raise ParseError(message, self.text, at)

    def parse(self) -> list[Step]:
        if self.tokens[0].kind == "end":
            self.fail("the text is empty; an expression such as sum(tanh(W @ x)**2) is expected", 0)
        operand_next = True
        while True:
            token = self.tokens[self.index]
            self.index += 1
            if token.kind == "end":
                self.finish(token, operand_next)
                return self.steps
            operand_next = self.operand(token) if operand_next else self.operator(token)

    # ---------------------------------------------------------------- where an operand is expected
    def operand(self, token: Token) -> bool:
        """Read a token where an operand is expected; returns whether one is still expected."""
        match token.kind:
            case "number":
                self.steps.append(Step("push", _number(token, self.text), token.at))
                return False
            case "string":
                self.steps.append(Step("push", token.text[1:-1], token.at))
                return False
            case "name":
                return self.name(token)
            case _:
                return self.opening(token)

    def name(self, token: Token) -> bool:
        word, frame = token.text, self.frames[-1] if self.frames else None
        if word in _LITERALS:
            self.steps.append(Step("push", _LITERALS[word], token.at))
            return False
        self.refuse_keyword(token)
        following = self.tokens[self.index]
        if frame is not None and frame.kind == "call" and following.text == "=" and self.stack[-1] is frame:
            if frame.keyword:
                self.fail(f"two names for one argument, {frame.keyword} and {word}", token.at)
            if word in frame.keywords:
                self.fail(f"argument {word} is given twice", token.at)
            frame.keyword = word
            self.index += 1
            return True
        self.steps.append(Step("name", word, token.at))
        return False

    def refuse_keyword(self, token: Token) -> None:
        if token.text in _KEYWORDS:
            self.fail(f"{token.text!r} is not supported: {_KEYWORDS[token.text]}", token.at)
        if token.text in _STATEMENTS:
            self.fail(f"{token.text!r} is not supported: one expression is expected, not a statement", token.at)

    def opening(self, token: Token) -> bool:
        frame = self.frames[-1] if self.frames else None
        match token.text:
            case "(" | "[":
                self.open(_Frame("group" if token.text == "(" else "list", token.text, token.at))
                return True
            case "+" | "-" | "~":
                self.stack.append(_Operator(token.text, _UNARY, True, token.at))
                return True
            case "...":
                self.steps.append(Step("push", ..., token.at))
                return False
            case ":" if frame is not None and frame.kind == "index" and self.stack[-1] is frame:
                self.steps.append(Step("push", None, token.at))
                return self.colon(frame, token)
            case ")" | "]" if frame is not None and self.stack[-1] is frame and not frame.keyword:
                # (), (a,), f(), [], and the empty end of a slice.
                if _CLOSER[frame.mark] != token.text:
                    self.mismatch(frame, token)
                if frame.colons:
                    self.steps.append(Step("push", None, token.at))
                    self.end_item(frame, token.at)
                elif frame.kind == "index" and not frame.items:
                    self.fail("a subscript is missing between the brackets", token.at)
                self.close(frame)
                return False
            case "," if frame is not None and frame.colons and self.stack[-1] is frame:
                self.steps.append(Step("push", None, token.at))
                self.end_item(frame, token.at)
                frame.comma = True
                return True
            case "*" | "**" if frame is not None and frame.kind == "call" and self.stack[-1] is frame:
                self.fail(f"arguments are not unpacked with {token.text} here; write them out", token.at)
            case _:
                self.operand_missing(token)

    def operand_missing(self, token: Token) -> NoReturn:
        if token.text in _REFUSED_MARKS and token.text != "=":
            self.fail(f"{token.text} is not supported: {_REFUSED_MARKS[token.text]}", token.at)
        if token.text in (")", "]") and not self.frames:
            self.fail(f"this {token.text} closes nothing", token.at)
        found = f"found {token.text}" if token.text else "the text ends"
        if self.stack and isinstance(self.stack[-1], _Operator):
            last = self.stack[-1]
            self.fail(f"operator {last.text} has no right operand: {found}", token.at if token.text else last.at)
        self.fail(f"a number, a name or a parenthesis is expected, but {found}", token.at)

    # ---------------------------------------------------------------- where an operator is expected
    def operator(self, token: Token) -> bool:
        """Read a token after an operand; returns whether an operand is expected next."""
        if token.kind == "name":
            self.refuse_keyword(token)
        if token.kind != "mark":
            self.fail(f"an operator is expected before {token.text} (products are written with * or @)", token.at)
        if token.text in _BINARY:
            self.binary(token)
            return True
        if token.text in _REFUSED_MARKS:
            self.fail(f"{token.text} is not supported here: {_REFUSED_MARKS[token.text]}", token.at)
        return self.trailer(token)

    def trailer(self, token: Token) -> bool:
        match token.text:
            case "(":
                if self.steps[-1].action == "push":
                    self.fail("a number or string is not called; write * for a product", token.at)
                self.open(_Frame("call", "(", token.at))
                return True
            case "[":
                self.open(_Frame("index", "[", token.at))
                return True
            case ".":
                name = self.tokens[self.index]
                if name.kind != "name":
                    self.fail("a name is expected after the point", token.at)
                self.index += 1
                self.steps.append(Step("attr", name.text, name.at))
                return False
            case ",":
                if not self.frames:
                    self.fail("a comma outside parentheses: one expression is expected, not several", token.at)
                frame = self.reduce_to_frame()
                self.end_item(frame, token.at)
                frame.comma = True
                return True
            case ":":
                if not self.frames or self.frames[-1].kind != "index":
                    self.fail("a colon is only understood inside a subscript, as in x[1:]", token.at)
                return self.colon(self.reduce_to_frame(), token)
            case ")" | "]":
                if not self.frames:
                    self.fail(f"this {token.text} closes nothing", token.at)
                frame = self.reduce_to_frame()
                if _CLOSER[frame.mark] != token.text:
                    self.mismatch(frame, token)
                self.end_item(frame, token.at)
                self.close(frame)
                return False
            case _:
                self.fail(f"unexpected {token.text} after an operand", token.at)

    def binary(self, token: Token) -> None:
        precedence = _BINARY[token.text]
        while self.stack:
            top = self.stack[-1]
            if isinstance(top, _Frame) or top.precedence < precedence:
                break
            if top.precedence == precedence == _POWER:
                break
            if top.precedence == precedence == _COMPARISON:
                self.fail("comparisons do not chain on arrays; write (a < b) & (b < c)", token.at)
            self.stack.pop()
            self.emit(top)
        self.stack.append(_Operator(token.text, precedence, False, token.at))

    # ---------------------------------------------------------------- brackets
    def open(self, frame: _Frame) -> None:
        self.stack.append(frame)
        self.frames.append(frame)

    def reduce_to_frame(self) -> _Frame:
        """Emit the operators above the innermost open bracket."""
        while True:
            top = self.stack[-1]
            if isinstance(top, _Frame):
                return top
            self.stack.pop()
            self.emit(top)

    def emit(self, operator: _Operator) -> None:
        self.steps.append(Step("unary" if operator.unary else "binary", operator.text, operator.at))

    def colon(self, frame: _Frame, token: Token) -> bool:
        frame.colons += 1
        if frame.colons > 2:
            self.fail("a slice has at most two colons: start:stop:step", token.at)
        return True

    def end_item(self, frame: _Frame, at: int) -> None:
        """An item of a bracket is complete."""
        if frame.colons:
            if frame.colons == 1:
                self.steps.append(Step("push", None, at))
            self.steps.append(Step("slice", None, at))
            frame.colons = 0
        if frame.kind == "call":
            if frame.keyword:
                frame.keywords.append(frame.keyword)
                frame.keyword = ""
            elif frame.keywords:
                self.fail(f"a positional argument follows the keyword argument {frame.keywords[-1]}=", at)
        frame.items += 1

    def close(self, frame: _Frame) -> None:
        self.stack.pop()
        self.frames.pop()
        if frame.kind == "call":
            counts = (frame.items - len(frame.keywords), tuple(frame.keywords))
            self.steps.append(Step("call", counts, frame.at))
        elif frame.kind == "index":
            self.steps.append(Step("index", (frame.items, frame.comma), frame.at))
        elif frame.kind == "list":
            self.steps.append(Step("list", frame.items, frame.at))
        elif frame.comma or not frame.items:
            self.steps.append(Step("tuple", frame.items, frame.at))

    def mismatch(self, frame: _Frame, token: Token) -> NoReturn:
        self.fail(f"{token.text} does not close the {frame.mark} at column {frame.at + 1}", token.at)

    def finish(self, token: Token, operand_next: bool) -> None:
        if operand_next and self.stack and isinstance(self.stack[-1], _Operator):
            self.operand_missing(token)
        if self.frames:
            frame = self.frames[-1]
            self.fail(f"this {frame.mark} is never closed: a {_CLOSER[frame.mark]} is missing", frame.at)
        while self.stack:
            top = self.stack.pop()
            assert isinstance(top, _Operator)
            self.emit(top)


def postfix(text: str) -> list[Step]:
    """The postfix steps of an expression. Raises `ParseError` with a caret under the fault."""
    return _Parser(text).parse()
