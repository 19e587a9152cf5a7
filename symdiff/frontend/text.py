"""Expressions from text in NumPy notation: `parse("sum(tanh(W @ x)**2)", {"W": W, "x": x})`.

Takes a text and symbols by name; gives an expression. The text is never handed to Python: `grammar` turns it into
postfix steps, and this module computes them on a stack, looking names up in the symbols, then the dimensions of their
shapes, then the constants and `FUNCTIONS`; everything else is an error. Numbers are exact: 0.1 is 1/10, 1/3 a third.
Every error, a shape error too, ends with the text and a caret under the place.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NoReturn

import numpy as np

from symdiff.errors import ArgumentError, ParseError, SymdiffError, caret
from symdiff.frontend.building import BUILDER, array_value, cast_value, exact_number, number_value
from symdiff.frontend.expr import Expr, wrap
from symdiff.frontend.grammar import WORDS, Step, postfix, tokenize
from symdiff.frontend.registry import FUNCTIONS
from symdiff.ir.dims import Dim, named, size_names
from symdiff.ir.graph import Value, topological

_MODULES: Final = {"np": "np", "numpy": "np", "scipy": "scipy", "special": "special"}
_CONSTANTS: Final = {"pi": "pi", "e": "e", "euler_gamma": "euler_gamma", "inf": "inf", "nan": "nan"}
_DTYPES: Final = {
    "float64": np.float64, "float32": np.float32, "int64": np.int64, "bool_": np.bool_, "bool": np.bool_,
    "float": np.float64, "int": np.int64,
}  # fmt: skip
_OPERATORS: Final = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "true_divide", "//": "floor_divide", "%": "mod", "**": "power",
    "@": "matmul", "&": "bitwise_and", "|": "bitwise_or", "<": "less", "<=": "less_equal", ">": "greater",
    ">=": "greater_equal", "==": "equal", "!=": "not_equal",
}  # fmt: skip
_EXACT: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
PROPERTIES: Final = ("T", "mT", "shape", "ndim", "size")
METHODS: Final = (
    "sum", "mean", "max", "min", "prod", "var", "std", "all", "any", "argmax", "argmin", "cumsum", "cumprod", "reshape",
    "ravel", "flatten", "transpose", "dot", "trace", "diagonal", "clip", "squeeze", "swapaxes", "take", "repeat",
    "round", "astype", "copy", "conj",
)  # fmt: skip
# NumPy does not dispatch these, so the table has them under our own name only.
_ARRAY_MAKERS: Final = frozenset({"np.array", "np.asarray"})
# Numbers longer than this are refused: doubles have 1024 bits at most, and towers of powers would fill the memory.
_LARGEST_BITS: Final = 1 << 14
# Sizes are polynomials that are multiplied out.
_MOST_TERMS: Final = 4096
# What a function may raise besides our own errors when its arguments are nonsense.
_CALL_ERRORS = (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError)


class _Module:
    """`np`, `np.linalg`: something that only has attributes."""

    def __init__(self, path: str) -> None:
        self.path = path


class _Function:
    """A function by its name in the text, with what it calls."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call


class _Weak:
    """A scalar constant such as pi/2 or n/3 that, like a Python float, leaves the dtype to the other operand."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def beside(self, other: Any) -> Expr:
        if not isinstance(other, Expr) or other.dtype not in ("f64", "f32"):
            return self.expr
        if self.expr.dtype != "f64":
            return wrap(cast_value(self.expr.value, other.value.type.dtype), other)
        if other.dtype == "f64":
            return self.expr
        mapping: dict[Value, Value] = {}
        for value in topological([self.expr.value]):
            attrs = tuple((k, "f32" if k == "dtype" and v == "f64" else v) for k, v in value.attrs)
            mapping[value] = BUILDER.make(value.op, tuple([mapping[a] for a in value.args]), attrs)
        return wrap(mapping[self.expr.value], other)


def parse(text: str, symbols: Mapping[str, Any] | None = None) -> Any:
    """The expression that `text` describes, over `symbols` (name -> symbol, expression or undefined function).

    Names of dimensions are taken from the shapes of the symbols. NumPy functions are written with or without `np.`.
    Raises `ParseError` for text that is not understood, and the error of the operation (`ShapeError`, `DtypeError`,
    ...) where shapes or dtypes do not fit; both show the place.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParseError(f"parse: given {type(text).__name__}, expected text such as 'sum(x**2)'")
    if symbols is not None and not isinstance(symbols, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"parse: symbols: given {symbols!r}, expected a dict of names and symbols")
    return _Evaluator(text, symbols or {}).run()


def names_in(text: str) -> dict[str, int]:
    """Names in `text` that need a symbol or a dimension, with the place of each: not called, no module or constant."""
    tokens = tokenize(text)
    found: dict[str, int] = {}
    for before, token, after in zip([tokens[-1], *tokens], tokens, tokens[1:], strict=False):
        named_here = token.kind == "name" and before.text != "." and after.text not in ("(", "=")
        if named_here and token.text not in _MODULES and token.text not in _CONSTANTS and token.text not in WORDS:
            found.setdefault(token.text, token.at)
    return found


class _Evaluator:
    """Runs postfix steps on a stack."""

    def __init__(self, text: str, symbols: Mapping[str, Any]) -> None:
        self.text = text
        self.symbols = symbols
        self.stack: list[Any] = []
        exprs = [s for s in symbols.values() if isinstance(s, Expr)]
        self.like = exprs[0] if exprs else None
        names = {n for s in exprs for n in size_names(s.value.type.shape)}
        self.dims = {n: named(n) for n in names}

    def fail(self, message: str, at: int) -> NoReturn:
        raise ParseError(message, self.text, at)

    def run(self) -> Any:
        steps = postfix(self.text)
        actions: Mapping[str, Callable[[Step], Any]] = {
            "push": lambda step: step.value, "name": self.name, "unary": self.unary, "binary": self.binary,
            "attr": self.attribute, "call": self.call, "index": self.index, "slice": self.make_slice,
            "tuple": lambda step: tuple(self.items(step)), "list": self.make_list,
        }  # fmt: skip
        for step in steps:
            try:
                result = actions[step.action](step)
            except ParseError:
                raise
            except SymdiffError as error:
                raise type(error)(str(error) + caret(self.text, step.at)) from error
            self.stack.append(result)
        return self.result(self.stack.pop(), steps[-1].at)

    def pop(self, count: int) -> list[Any]:
        if not count:
            return []
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def result(self, value: Any, at: int) -> Any:
        if isinstance(value, tuple):
            self.fail(f"the text gives {len(value)} values; choose one with a subscript such as [1]", at)
        if isinstance(value, list):
            self.fail("the text gives a list; write np.array([...]) for an array", at)
        return wrap(self.array(value, at).value, self.like)

    # ---------------------------------------------------------------- names
    def name(self, step: Step) -> Any:
        word = step.value
        if word in self.symbols:
            return self.given(word, self.symbols[word], step.at)
        if word in self.dims:
            return self.dims[word]
        if word in _CONSTANTS:
            return self.constant(_CONSTANTS[word])
        if word in _MODULES:
            return _Module(_MODULES[word])
        if word in FUNCTIONS:
            return _Function(word, FUNCTIONS[word])
        if word in _DTYPES:
            return _DTYPES[word]
        if word.startswith("__"):
            self.fail(f"{word} is not available in expressions", step.at)
        known = ", ".join([*self.symbols, *sorted(self.dims)]) or "none"
        hint = _did_you_mean(word, [*self.symbols, *self.dims, *FUNCTIONS])
        self.fail(f"unknown name {word}{hint}; names given: {known}", step.at)

    def given(self, word: str, found: Any, at: int) -> Any:
        """What a name of `symbols` stands for."""
        if isinstance(found, (Expr, Dim)):
            return found
        if isinstance(found, (bool, int, float, Fraction)) and not isinstance(found, np.generic):
            number = exact_number(found)
            return self.constant(number) if isinstance(number, str) else number
        if isinstance(found, (np.ndarray, np.generic)):
            return wrap(array_value(found), self.like)
        if callable(found):
            return _Function(word, found)
        self.fail(f"{word} stands for {found!r}, expected a symbol, an expression or a number", at)

    def constant(self, name: str) -> _Weak:
        return _Weak(wrap(BUILDER.const(name), self.like))

    def attribute(self, step: Step) -> Any:
        (owner,), word = self.pop(1), step.value
        if isinstance(owner, _Module):
            return self.member(owner, word, step.at)
        if isinstance(owner, tuple) and word in getattr(owner, "_fields", ()):
            return getattr(owner, word)
        if isinstance(owner, (_Weak, Dim)):
            owner = self.array(owner, step.at)
        if not isinstance(owner, Expr):
            self.fail(f"{_described(owner)} has no attribute {word}", step.at)
        if word in PROPERTIES:
            return getattr(owner, word)
        if word in METHODS and hasattr(owner, word):
            return _Function(word, getattr(owner, word))
        self.fail(f"attribute .{word} is not available{_did_you_mean(word, [*PROPERTIES, *METHODS])}", step.at)

    def member(self, module: _Module, word: str, at: int) -> Any:
        path = f"{module.path}.{word}"
        function = FUNCTIONS.get(path, FUNCTIONS["array"] if path in _ARRAY_MAKERS else None)
        if function is not None:
            return _Function(path, function)
        if module.path == "np" and word in _CONSTANTS:
            return self.constant(_CONSTANTS[word])
        if module.path == "np" and word == "newaxis":
            return None
        if module.path == "np" and word in _DTYPES:
            return _DTYPES[word]
        if any(name.startswith(path + ".") for name in FUNCTIONS):
            return _Module(path)
        if word.startswith("_"):
            self.fail(f"{path} is not available in expressions", at)
        siblings = [n.removeprefix(module.path + ".") for n in FUNCTIONS if n.startswith(module.path + ".")]
        self.fail(f"{path} is not available{_did_you_mean(word, siblings, module.path + '.')}", at)

    # ---------------------------------------------------------------- operators
    def unary(self, step: Step) -> Any:
        (x,) = self.pop(1)
        match step.value:
            case "~":
                if isinstance(x, bool):
                    return not x
                return FUNCTIONS["logical_not" if _is_bool(x) else "invert"](self.array(x, step.at))
            case "-":
                if isinstance(x, (int, Fraction, Dim)):
                    return -x
                return self.weakly(lambda a: FUNCTIONS["negative"](a), x, at=step.at)
            case _:
                if isinstance(x, (int, Fraction, Dim)):
                    return x
                return self.weakly(lambda a: a, x, at=step.at)

    def binary(self, step: Step) -> Any:
        a, b = self.pop(2)
        sign = step.value
        for x in (a, b):
            if not isinstance(x, (Expr, _Weak, int, Fraction, Dim)):
                self.fail(f"operator {sign} does not take {_described(x)}{_operand_hint(x)}", step.at)
        if isinstance(a, (int, Fraction)) and isinstance(b, (int, Fraction)):
            result = self.exact(sign, a, b, step.at)
        elif isinstance(a, (int, Dim)) and isinstance(b, (int, Dim)):
            result = self.size(sign, a, b, step.at)
        else:
            result = None
        if result is not None:
            return result
        return self.weakly(FUNCTIONS[_OPERATORS[sign]], a, b, at=step.at)

    def weakly(self, function: Callable[..., Any], *operands: Any, at: int) -> Any:
        """Apply to operands; constants leave the dtype to the others, and make a constant among themselves."""
        strong = next((o for o in operands if isinstance(o, Expr)), None)
        if strong is None:
            scalars = [self.array(o, at) for o in operands]
            if function is FUNCTIONS["power"]:  # 2**n: integers to a symbolic power are computed in floats
                scalars = [s.astype("f64") for s in scalars]
            return _Weak(function(*scalars))
        return function(*[o.beside(strong) if isinstance(o, _Weak) else self.operand(o, at) for o in operands])

    def exact(self, sign: str, a: int | Fraction, b: int | Fraction, at: int) -> int | Fraction | bool | None:
        """Arithmetic of numbers without rounding; None where the result is no fraction."""
        if sign in _EXACT:
            return self.short(_EXACT[sign](a, b), at)
        if sign in ("/", "//", "%"):
            if b == 0:
                self.fail(f"division by zero: {a} {sign} {b}", at)
            if sign == "/":
                return self.short(Fraction(a) / b, at)
            result = a // b if sign == "//" else a % b
            return result if isinstance(a, int) and isinstance(b, int) else Fraction(result)
        if sign == "**":
            return self.power(a, b, at)
        if sign in "&|" and isinstance(a, bool) and isinstance(b, bool):
            return a & b if sign == "&" else a | b
        self.fail(f"operator {sign} does not take the numbers {a} and {b}", at)

    def size(self, sign: str, a: Any, b: Any, at: int) -> Any:
        """Dimensions stay dimensions where the result is one; None otherwise."""
        if sign in ("+", "-"):
            return _EXACT[sign](a, b)
        if sign == "//" and isinstance(b, int) and b:
            return a // b
        if sign == "**" and isinstance(b, int) and 0 <= b <= 16:
            result: Any = 1
            for _ in range(b):
                result = self.size("*", result, a, at)
            return result
        if sign != "*":
            return None
        if len(getattr(a, "terms", ())) * len(getattr(b, "terms", ())) > _MOST_TERMS:
            self.fail(f"this size has more than {_MOST_TERMS} terms", at)
        return a * b

    def power(self, a: int | Fraction, b: int | Fraction, at: int) -> int | Fraction | None:
        if b.denominator != 1:
            if a < 0:
                self.fail(f"{a} to the power {b} is complex, and complex numbers are not supported", at)
            return None
        if a == 0 and b < 0:
            self.fail(f"division by zero: 0 ** {b}", at)
        bits = max(a.numerator.bit_length(), a.denominator.bit_length())
        if bits > 1 and bits * abs(b) > _LARGEST_BITS:
            self.fail("this power is far outside double precision", at)
        result = Fraction(a) ** int(b)
        whole = isinstance(a, int) and isinstance(b, int) and b >= 0
        return result.numerator if whole else result

    def short(self, number: Any, at: int) -> Any:
        if max(number.numerator.bit_length(), number.denominator.bit_length()) > _LARGEST_BITS:
            self.fail("this number is far outside double precision", at)
        return number

    # ---------------------------------------------------------------- calls and subscripts
    def call(self, step: Step) -> Any:
        positional, keywords = step.value
        function, *args = self.pop(positional + len(keywords) + 1)
        if isinstance(function, Expr):
            name = function.value.name or "this expression"
            clash = f" (np.{name} is the function)" if name in FUNCTIONS else ""
            self.fail(f"{name} is an array, not a function; write * for a product{clash}", step.at)
        if not isinstance(function, _Function):
            self.fail(f"{_described(function)} is not a function", step.at)
        given = [self.argument(a, step.at) for a in args]
        named_args = dict(zip(keywords, given[positional:], strict=True))
        try:
            return function.call(*given[:positional], **named_args)
        except SymdiffError:
            raise
        except _CALL_ERRORS as error:
            message = str(error).replace("_lambda", function.name)
            raise ParseError(f"{function.name}: {message}", self.text, step.at) from error

    def argument(self, value: Any, at: int) -> Any:
        """An argument as functions take them: constants as expressions, lists of numbers as NumPy would read them."""
        if isinstance(value, _Weak):
            return value.expr
        if isinstance(value, (_Function, _Module)):
            self.fail(f"{_described(value)} is no argument; functions are called, f(x)", at)
        if isinstance(value, (list, tuple)):
            items: Sequence[Any] = value
            for item in items:
                if isinstance(item, (_Function, _Module)):
                    self.fail(f"{_described(item)} stands in a list; functions are called, f(x)", at)
        return value

    def index(self, step: Step) -> Any:
        count, is_tuple = step.value
        container, *items = self.pop(count + 1)
        given = [self.argument(i, step.at) for i in items]
        for item in given:
            if isinstance(item, (Fraction, float, str)):
                self.fail(f"a subscript is an integer, a slice or an index array, given {_described(item)}", step.at)
        if isinstance(container, Dim):
            self.fail(f"the dimension {container} is a number and has no entries", step.at)
        whole: Any = container.expr if isinstance(container, _Weak) else container
        if not isinstance(whole, (Expr, tuple, list)):
            self.fail(f"{_described(whole)} has no entries", step.at)
        entries: Any = whole
        try:
            result = operator.getitem(entries, tuple(given) if is_tuple else given[0])
        except SymdiffError:
            raise
        except _CALL_ERRORS as error:
            raise ParseError(f"subscript: {error}", self.text, step.at) from error
        return result

    def make_slice(self, step: Step) -> slice:
        parts = self.pop(3)
        for part in parts:
            if not (part is None or isinstance(part, (int, Dim))):
                self.fail(f"a slice takes integers and dimensions, given {_described(part)}", step.at)
        return slice(*parts)

    def make_list(self, step: Step) -> list[Any]:
        # NumPy would make an array of objects from fractions.
        return [float(i) if isinstance(i, Fraction) else i for i in self.items(step)]

    def items(self, step: Step) -> list[Any]:
        return [i.expr if isinstance(i, _Weak) else i for i in self.pop(step.value)]

    # ---------------------------------------------------------------- values
    def operand(self, value: Any, at: int) -> Any:
        """A number that a double holds, or anything else unchanged."""
        if isinstance(value, (int, Fraction)) and not isinstance(value, bool):
            try:
                float(value)
            except OverflowError:
                self.fail("this number is outside double precision", at)
        return value

    def array(self, value: Any, at: int) -> Expr:
        """A scalar constant as an expression."""
        if isinstance(value, Expr):
            return value
        if isinstance(value, _Weak):
            return value.expr
        if isinstance(value, (bool, int, Fraction, Dim)):
            dtype = "bool" if isinstance(value, bool) else "i64" if isinstance(value, (int, Dim)) else "f64"
            return wrap(number_value(self.operand(value, at), dtype), self.like)
        self.fail(f"an array or a number is expected, given {_described(value)}", at)


def _is_bool(value: Any) -> bool:
    return isinstance(value, Expr) and value.dtype == "bool"


def _described(value: Any) -> str:
    match value:
        case _Function():
            return f"the function {value.name}"
        case _Module():
            return f"the module {value.path}"
        case str():
            return f"the text {value!r}"
        case None:
            return "None"
        case bool() | int() | float() | Fraction():
            return f"the number {value}"
        case Dim():
            return f"the dimension {value}"
        case list():
            return "a list"
        case tuple():
            return "a tuple"
        case slice():
            return "a slice"
        case _:
            return "..." if value is ... else f"a value of type {type(value).__name__}"


def _operand_hint(value: Any) -> str:
    match value:
        case list():
            return "; write np.array([...]) for an array"
        case tuple():
            return "; choose one of its parts with a subscript such as [1]"
        case _Function():
            return f"; call it, {value.name}(x)"
        case _:
            return ""


def _did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, dict.fromkeys(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(prefix + c for c in close)}?" if close else ""
