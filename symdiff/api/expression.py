"""What users hold: an expression that knows how to print, render and evaluate itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from symdiff.api.assumptions import used_facts
from symdiff.arguments import sizes_given
from symdiff.errors import ArgumentError
from symdiff.frontend.building import refuse_leaks
from symdiff.frontend.expr import Expr, use_class
from symdiff.frontend.expr import symbol as make_symbol
from symdiff.frontend.sympy_bridge import to_sympy
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.text import parse_function, print_function
from symdiff.ops import OPSET
from symdiff.render import code, find_conditions, source, to_latex, to_text
from symdiff.simplify import simplify

# Beyond so many instructions nobody reads a formula, and it is shown as it is.
SHOWN_LIMIT = 600


class Expression(Expr):
    """A symbolic array with its products: text, LaTeX, source code, IR, SymPy, numbers."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """As a program's text: symbols and operations are themselves in their own process alone."""
        return _restored, _as_text([self])

    def function(self, params: Sequence[Expr] | None = None, name: str = "f") -> Function:
        """The program that computes this expression from `params` (by default every symbol in it)."""
        return function_of([self], params, name)

    def symbols(self) -> list[Expression]:
        """The symbols in it, in order of first appearance."""
        return [Expression(v) for v in free_symbols([self.value])]

    def shown(self) -> Function:
        """The program that text and LaTeX show: the expression as it was written."""
        return self.function()

    def written(self) -> Function | None:
        """The program whose sums text, LaTeX and source code write in the same order; None: their own."""
        return None

    def function_axes(self) -> int | None:
        """How many leading axes are those of a differentiated function; None when this is no derivative."""
        return None

    def ir(self) -> str:
        """The program's text form."""
        return print_function(self.function())

    def latex(self, layout: Literal["numerator", "denominator"] | None = None, **options: Any) -> str:
        r"""LaTeX of the closed form.

        layout="numerator" shows the gradient of a scalar as a row (transposed, when the variable is a matrix),
        layout="denominator" the Jacobian of vectors transposed; by default gradients are columns and Jacobians have
        the function's axes first. bold=True sets vectors and matrices in bold type; where=True names shared subterms in
        a where-clause; symbols={"s": r"\hat\sigma"} overrides how names are set.
        """
        function = self.shown()
        symbols = {p.name: _LATEX[p] for p in function.params if p in _LATEX}
        symbols.update(options.pop("symbols", {}))
        return to_latex(
            function, layout, symbols=symbols, like=self.written(), axes=self.function_axes(), **options
        )

    def source(self, target: str = "numpy") -> str:
        """Source code of the closed form.

        target: "numpy" and "sympy" give one expression over the symbol and dimension names, "jax", "torch", "julia"
        and "c" a function called f. An expression calls functions that NumPy has not, such as relu, by the names they
        have here; `code` defines them. Raises UnsupportedError for an operation that the target has no counterpart for.
        """
        return source(self.shown(), target, self.written())

    def code(self, target: str = "numpy", name: str = "f") -> str:
        """A whole function of the closed form, called `name`, with shared subterms named, for any target."""
        return code(self.shown(), target, name, self.written())

    def conditions(self, latex: bool = False) -> list[str]:
        """What the formula assumes, as plain text or LaTeX.

        Declared facts that it uses ("S symmetric"), where it is defined ("det X != 0", "x_i > 0"), and for a derivative
        the kinks and ties that it leaves out ("x_i != 0", "no ties in max x").
        """
        function = self.function()
        found = find_conditions(function, None, used_facts(function, lambda f: f))
        return [c.latex if latex else c.text for c in found]

    def to_sympy(self) -> Any:
        """The expression as SymPy, see `sd.from_sympy` for the way back."""
        return to_sympy(self)

    def evaluate(
        self, values: Mapping[Any, Any] | None = None, sizes: Mapping[str, int] | None = None, **named: Any
    ) -> Any:
        """Numbers by the reference interpreter, from arrays by symbol or symbol name: `f.evaluate(x=..., W=...)`."""
        given = {**values, **named} if isinstance(values, Mapping) else values or named
        return numbers_of(self.function(), given, sizes, beside=self.symbols_of_primal())

    def symbols_of_primal(self) -> Sequence[Value]:
        """The symbols of the function that this is a derivative of: it may have lost some."""
        return ()

    def __str__(self) -> str:
        return to_text(self.shown(), self.written())

    def __repr__(self) -> str:
        return f"{self}  : {self.value.type}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


# Zeros, sizes and constants are made from no expression and are expressions of this class too.
use_class(Expression)


class Derivative(Expression):
    """A derivative: its value is the program as the sweep made it, its text the closed form.

    Numbers, native code and further derivatives use the program, in which nothing is assumed. The closed form is found
    when it is first shown; it uses the declared facts, and holds except on kinks and ties (a set of measure zero).
    """

    __slots__ = ("_shown", "axes", "keep_kinks", "primal")

    def __init__(
        self, value: Value, primal: Value | None = None, axes: int | None = None, keep_kinks: bool = False
    ) -> None:
        """primal: the function that was differentiated. axes: how many of the axes are the function's, the leading.

        Both are unknown of what is computed from derivatives. keep_kinks: the closed form is right at kinks too.
        """
        super().__init__(value)
        self.primal = primal
        self.axes = axes
        self.keep_kinks = keep_kinks
        self._shown: Function | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        whole = [self] if self.primal is None else [self, Expression(self.primal)]
        return _restored, (*_as_text(whole), self.axes, self.keep_kinks)

    def symbols_of_primal(self) -> Sequence[Value]:
        return () if self.primal is None else [v for v in topological([self.primal]) if v.is_param]

    def shown(self) -> Function:
        """The program of the closed form."""
        if self._shown is None:
            self._shown = self._closed(self.function())
        return self._shown

    def function_axes(self) -> int | None:
        return self.axes

    def written(self) -> Function | None:
        return None if self.primal is None else Function.of(free_symbols([self.primal]), [self.primal])

    def _closed(self, function: Function) -> Function:
        if len(function.instrs) > SHOWN_LIMIT:
            return function
        return simplify(function, OPSET, keep_kinks=self.keep_kinks)

    def conditions(self, latex: bool = False) -> list[str]:
        program = self.function()
        left_out = None if self.keep_kinks else program
        found = find_conditions(self.shown(), left_out, used_facts(program, self._closed))
        return [c.latex if latex else c.text for c in found]

    def closed_form(self) -> Expression:
        """The closed form as an expression of its own."""
        return Expression(self.shown().results[0])


def free_symbols(values: Sequence[Value]) -> list[Value]:
    """The parameters that `values` use, in order of first appearance."""
    return [v for v in topological(values) if v.is_param]


def function_of(results: Sequence[Expr], params: Sequence[Expr] | None = None, name: str = "f") -> Function:
    """One program for several expressions."""
    builder = Builder(OPSET)
    mapping = builder.absorb([r.value for r in results] + [p.value for p in params or ()])
    refuse_leaks(mapping, name)
    values = [mapping[r.value] for r in results]
    if params is None:
        return Function.of(free_symbols(values), values, name)
    for p in params:
        if not p.value.is_param:
            raise ArgumentError(f"a parameter list takes symbols, given the expression {p}")
    return Function.of([mapping[p.value] for p in params], values, name)


def values_given(values: Any) -> dict[str, Any]:
    """Arrays by symbol name, from a mapping whose keys are symbols or names; None gives none."""
    if not isinstance(values, Mapping | None):
        raise ArgumentError(
            f"evaluate: given {values!r} as the values, expected a mapping from symbols or their names to arrays"
        )
    found: dict[str, Any] = {}
    for key, array in (values or {}).items():  # pyright: ignore[reportUnknownVariableType]
        name: Any = key.value.name if isinstance(key, Expr) and key.value.is_param else key
        if not isinstance(name, str):
            raise ArgumentError(f"evaluate: the values have the key {name!r}, expected a symbol or its name")
        if name in found:
            raise ArgumentError(f"evaluate: the values give {name} twice, by the symbol and by its name")
        found[name] = array
    return found


def numbers_of(
    function: Function, values: Any, sizes: Any, functions: Mapping[str, Callable[..., Any]] | None = None,
    beside: Sequence[Value] = (),
) -> Any:  # fmt: skip
    """The one result of a program by the reference interpreter, from arrays by symbol or name; a scalar as a number.

    Arrays of symbols that the program does not have, given by symbol or `beside`, show the sizes of dimensions.
    """
    given = values_given(values)
    symbols = {p.name: p for p in (*beside, *(k.value for k in values or () if isinstance(k, Expr)))}
    own = {p.name for p in function.params}
    if others := [symbols[name] for name in given if name in symbols and name not in own]:
        function = Function.of([*function.params, *others], function.results, function.name)
    missing = [p.name for p in function.params if p.name not in given]
    if missing:
        shown = ", ".join(given) or "none"
        raise ArgumentError(f"evaluate: no value given for {', '.join(missing)}; given: {shown}")
    arrays = [given[p.name] for p in function.params]
    return interpret(function, arrays, sizes_given(sizes, "evaluate"), functions)[0][()]


def unmerged(results: Sequence[Expr], params: Sequence[Expr], name: str = "f") -> Function:
    """The same where a stage follows that merges equal instructions: without doing it first."""
    try:
        return Function.of([p.value for p in params], [r.value for r in results], name)
    except ArgumentError:
        return function_of(results, params, name)  # equal symbols made apart, or it knows what is wrong


# How symbols are set where their name does not say it.
_LATEX: WeakKeyDictionary[Value, str] = WeakKeyDictionary()


def symbol(
    name: str, shape: Size | Shape = (), dtype: str = "f64", latex: str | None = None, **facts: bool
) -> Expression:
    r"""A symbolic array.

    name: an identifier. shape: integers and dimensions, `(m, n)`; `()` is a scalar. dtype: "f64", "f32", "i64", "bool".
    facts: symmetric, positive_definite, diagonal, lower, upper, orthogonal, positive, nonnegative, nonzero; they shape
    the formula, never the derivative. latex: how to set it, such as r"\hat\beta"; by default read from the name
    (Greek names, subscripts, hats).
    """
    made = Expression(make_symbol(name, shape, dtype, **facts).value)
    if latex is not None:
        _LATEX[made.value] = latex
    return made


def _as_text(results: Sequence[Expr]) -> tuple[str, dict[str, str]]:
    """One program's text, and how its symbols are set."""
    program = function_of(results)
    return print_function(program), {p.name: _LATEX[p] for p in program.params if p in _LATEX}


def _restored(text: str, latex: Mapping[str, str], *derivative: Any) -> Expression:
    program = parse_function(text, OPSET)
    for p in program.params:
        if p.name in latex:
            _LATEX[p] = latex[p.name]
    value, *primal = program.results
    return Derivative(value, primal[0] if primal else None, *derivative) if derivative else Expression(value)
