"""Derivatives in structured form: the factors a Jacobian or Hessian is made of, and operators that multiply by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from symdiff.api.derivatives import derive
from symdiff.api.expression import Derivative, Expression, free_symbols
from symdiff.api.kinks import Kinks, with_kinks
from symdiff.api.native import Compilable, cheapest, compile_function
from symdiff.api.pieces import Native, Piece
from symdiff.api.structured_latex import latex
from symdiff.cost import count
from symdiff.diff import MIDDLING, gradients, jacobians
from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.expr import Expr
from symdiff.interp import bind_sizes
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Shape, Size, evaluate, format_shape
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet
from symdiff.ir.types import NUMPY_TYPES
from symdiff.ops import OPSET
from symdiff.simplify import optimize, stabilized
from symdiff.structured import Indirect, Structure
from symdiff.structured.kinds import Part, parts_of
from symdiff.structured.operator import NumericPlace, NumericTerm, Operator, Template
from symdiff.structured.terms import Affine, Place

Sweep: TypeAlias = Literal["forward", "reverse"]
SWEEPS: tuple[Sweep, ...] = ("forward", "reverse")
_LETTERS = "ijklpqrstuvwabcdefgh"


def derivative_program(y: Value, x: Value, mode: Sweep, second: bool, opset: OpSet = OPSET) -> Function:
    """The Jacobian of y in x, or with `second` its Hessian, as a sweep makes it."""
    builder = Builder(opset)
    mapping = stabilized(builder, builder.absorb([y, x]), [x])
    target = mapping[y]
    if second:
        (target,) = gradients(builder, target, [mapping[x]])
    result = jacobians(builder, [target], [mapping[x]], mode)[0][0]
    return optimize(Function.of(free_symbols([result, mapping[x]]), [result], "derivative"), OPSET)


class Structured(Compilable):
    """The Jacobian or Hessian of an expression as a sum of placed factors.

    Prints the factors in closed form with their places; `sd.compile(it, inputs)` gives a function that computes the
    factors only and returns an `Operator`.
    """

    def __init__(self, y: Value, x: Value, mode: str, second: bool, kinks: Kinks = None) -> None:
        opset = with_kinks(kinks)
        sweeps: list[Sweep] = [s for s in SWEEPS if mode in ("auto", s)]
        self.out: Shape = x.shape if second else y.shape
        self.inside: Shape = x.shape
        self.dtype = y.type.dtype
        found = [self._found(derivative_program(y, x, sweep, second, opset), second) for sweep in sweeps]
        # The form with fewer dense entries, then the cheaper one.
        self.parts, self.assumed, self.program, self._numbers, self.whole = min(found, key=lambda f: _price(f[0], f[2]))
        self._x = x

    def _found(
        self, program: Function, second: bool
    ) -> tuple[tuple[Part, ...], tuple[Size, ...], Function, dict[Value, int], Function]:
        structure = Structure(program)
        terms = structure.results[0]
        parts = parts_of(structure, terms, self.out, self.inside, self.dtype, second)
        arrays = [f.value for p in parts for f in p.factors]
        arrays += [q.index for p in parts for q in (*p.rows, *p.columns) if isinstance(q, Indirect)]
        numbers = {v: i for i, v in enumerate(dict.fromkeys(arrays))}
        factors = Function.of(structure.params, list(numbers), "factors")
        return tuple(parts), tuple(structure.order.assumed), factors, numbers, program

    # ---------------------------------------------------------------- what it is
    @property
    def kind(self) -> str:
        """The kinds of its parts, joined by +; "zero" when there is none."""
        return " + ".join(dict.fromkeys(p.kind for p in self.parts)) or "zero"

    @property
    def shape(self) -> Shape:
        """Of the generalized Jacobian: axes of the function, then of the variable."""
        return (*self.out, *self.inside)

    def symbols(self) -> list[Expression]:
        """The symbols that the factors need, and the variable."""
        return [Expression(v) for v in dict.fromkeys((*free_symbols(self.program.results), self._x))]

    @property
    def factors(self) -> tuple[tuple[Expression, ...], ...]:
        """The factors of every part as expressions."""
        return tuple([tuple([Derivative(f.value) for f in p.factors]) for p in self.parts])

    def latex(self, order: str = "C") -> str:
        r"""The matrix as a sum of Kronecker products, diagonals, outer products: `I_{m} \otimes 2 V^{\top} V`.

        order: "C" flattens arrays row by row, as `Operator.toarray` does; "F" column by column, as vec in papers, which
        turns Kronecker products round. `\operatorname{diag}_{k}(v)` has v on the k-th diagonal above the main one, e_i
        are unit vectors, counted from 0.
        """
        if order not in ("C", "F"):
            raise ArgumentError(f"latex: order {order!r}, expected 'C' (by rows) or 'F' (by columns)")
        return latex(self.parts, order)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        lines = [f"{self.kind} {format_shape(self.inside)} -> {format_shape(self.out)}"]
        lines += ["  " + _shown(p) for p in self.parts]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    # ---------------------------------------------------------------- numbers
    def compiled(self, inputs: Sequence[Expr], name: str, **options: Any) -> StructuredFunction:
        """Native code for the factors; see `sd.compile`."""
        made = StructuredFunction(self, inputs, name, **options)
        made.compile()
        return made

    def part(self, inputs: Sequence[Expr], name: str, tag: str, **options: Any) -> StructuredFunction:
        return StructuredFunction(self, inputs, name, **options)

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the sizes are as large as the form takes them to be; `whole`, the dense derivative, holds at all."""
        return all(evaluate(size, sizes) >= 0 for size in self.assumed)

    def template(self, sizes: Mapping[str, int]) -> Template:
        """All of the operator but its arrays, at the given sizes."""
        out, inside = _shape(self.out, sizes), _shape(self.inside, sizes)
        if self.holds(sizes):
            kind, terms = self.kind, tuple([self._term(p, sizes) for p in self.parts])
        else:
            kind, terms = "dense", (_dense(out, inside),)
        return Template(terms, out, inside, np.dtype(NUMPY_TYPES[self.dtype]), kind)

    def _term(self, part: Part, sizes: Mapping[str, int]) -> NumericTerm:
        def place(p: Place) -> NumericPlace:
            if isinstance(p, Affine):
                return NumericPlace(evaluate(p.start, sizes), tuple((x, evaluate(s, sizes)) for x, s in p.steps))
            return NumericPlace(0, (), self._numbers[p.index], p.labels)

        return NumericTerm(
            part.kind, tuple((self._numbers[f.value], f.labels) for f in part.factors),
            {x: evaluate(s, sizes) for x, s in part.sizes.items()}, tuple(map(place, part.rows)),
            tuple(map(place, part.columns)), _shape(part.out, sizes), _shape(part.inside, sizes),
        )  # fmt: skip


def _dense(out: tuple[int, ...], inside: tuple[int, ...]) -> NumericTerm:
    """One array that is the whole derivative."""
    labels = tuple(range(len(out) + len(inside)))
    places = tuple([NumericPlace(0, ((x, 1),)) for x in labels])
    sizes = dict(zip(labels, (*out, *inside), strict=True))
    return NumericTerm("dense", ((0, labels),), sizes, places[: len(out)], places[len(out) :], out, inside)


def _shape(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple([evaluate(s, sizes) for s in shape])


def _price(parts: Sequence[Part], program: Function) -> tuple[float, float]:
    sizes = dict.fromkeys(program.dims, MIDDLING)
    for part in parts:
        for size in part.sizes.values():
            sizes.update(dict.fromkeys(getattr(size, "names", ()), MIDDLING))
    entries = 0.0
    for part in parts:
        labels = dict.fromkeys(x for p in (*part.rows, *part.columns) for x in p.labels)
        entries += float(np.prod([float(max(evaluate(part.sizes[x], sizes), 1)) for x in labels]))
    counts = count(optimize(program, OPSET))
    return entries, float(counts.operations.at(sizes)) + float(counts.bytes.at(sizes)) / 64


class StructuredFunction:
    """The factors as native code: call it with arrays, get an `Operator`."""

    def __init__(self, form: Structured, inputs: Sequence[Expr], name: str, **options: Any) -> None:
        self.form = form
        builder = Builder(OPSET)
        given = [p.value for p in inputs]
        whole = form.whole.results
        mapping = builder.absorb([*given, *form.program.params, *form.program.results, *whole])
        missing = [p.name for p in form.program.params if mapping[p] not in [mapping[g] for g in given]
                   and p in free_symbols(form.program.results)]  # fmt: skip
        if missing:
            names = ", ".join(p.name for p in given) or "none"
            raise ArgumentError(f"compile: {', '.join(missing)} is used but not among the inputs ({names})")
        values = [mapping[r] for r in form.program.results]
        self.function = cheapest(Function.of([mapping[g] for g in given], values, name))
        # For sizes so small that windows do not overlap as the form takes them to.
        self._small = Function.of([mapping[g] for g in given], [mapping[r] for r in whole], name)
        self._plans: dict[Any, tuple[Template, Function]] = {}
        self._native = Native(lambda program: compile_function(program, single=False, name=name, **options))

    def compile(self) -> None:
        """Make the native code now rather than at the first call."""
        if self.function.results:
            self._native.of(self.function)

    def __call__(self, *arrays: Any) -> Operator:
        """The operator at these arguments."""
        piece = self.piece(arrays)
        return Operator(self._plan(arrays)[0], ()) if piece is None else self._native.call(piece, arrays)

    def bind(self, *arrays: Any) -> Callable[[], Operator]:
        """A call without arguments on fixed arrays, read anew each time: an operator on factors that the next call
        rewrites."""
        piece = self.piece(arrays)
        if piece is None:
            return partial(Operator, self._plan(arrays)[0], ())
        return self._native.bind(piece, arrays)

    def piece(self, arrays: Sequence[Any]) -> Piece | None:
        """The operator as an output beside others, see `symdiff.api.pieces`; None for one without factors."""
        template, program = self._plan(arrays)
        return Piece(program, partial(Operator, template)) if program.results else None

    def _plan(self, arrays: Sequence[Any]) -> tuple[Template, Function]:
        shapes = tuple([getattr(a, "shape", None) for a in arrays])
        plan = self._plans.get(shapes)
        if plan is None:
            plan = self._plans[shapes] = self._at([np.shape(a) for a in arrays])
        return plan

    def _at(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Template, Function]:
        params = self.function.params
        if len(shapes) != len(params):
            raise ArgumentError(f"{self.function.name}: {len(shapes)} arguments given, expected {len(params)}")
        sizes = bind_sizes(params, shapes)
        return self.form.template(sizes), self.function if self.form.holds(sizes) else self._small


# -------------------------------------------------------------------- text
def _shown(part: Part) -> str:
    """A part as `factor[labels] factor[labels] at [rows; columns], sizes of labels`."""
    labels = dict.fromkeys(x for p in (*part.rows, *part.columns) for x in p.labels)
    labels.update(dict.fromkeys(x for f in part.factors for x in f.labels))
    names = {x: _LETTERS[i] if i < len(_LETTERS) else f"i{i}" for i, x in enumerate(labels)}
    factors = " ".join(_factor_text(Derivative(f.value), [names[x] for x in f.labels]) for f in part.factors)
    rows, columns = (", ".join(_place_text(p, names) for p in side) for side in (part.rows, part.columns))
    sizes = ", ".join(f"{names[x]} < {part.sizes[x]}" for x in names)
    text = f"{part.kind}: {factors or '1'} at [{rows}; {columns}]"
    return f"{text}, {sizes}" if sizes else text


def _factor_text(factor: Expression, labels: Sequence[str]) -> str:
    text = str(factor)
    if not labels:
        return f"({text})" if " " in text else text
    return f"({text})[{','.join(labels)}]"


def _place_text(place: Place, names: Mapping[int, str]) -> str:
    if isinstance(place, Indirect):
        return f"{Expression(place.index)}[{','.join(names[x] for x in place.labels)}]"
    words = [names[x] if s == 1 else f"-{names[x]}" if s == -1 else f"{s} {names[x]}" if isinstance(s, int)
             else f"({s}) {names[x]}" for x, s in place.steps]  # fmt: skip
    if place.start != 0 or not words:
        words.append(str(place.start))
    return " + ".join(words).replace("+ -", "- ")


# -------------------------------------------------------------------- from expressions
def structured_jacobian(y: Any, x: Any, mode: str, kinks: Kinks = None) -> Any:
    """The Jacobian with the structure that its identity factors give it; nested as x is."""
    _check(y, "jacobian", "function")
    return _nested(x, lambda v: _made(y, v, mode, False, kinks))


def structured_hessian(f: Any, x: Any, mode: str, kinks: Kinks = None) -> Any:
    """The Hessian of a scalar, with the structure that its identity factors give it; of several variables nested twice,
    [i][j] the derivative in x_i and then in x_j."""
    _check(f, "hessian", "function")
    if f.value.type.rank:
        raise ShapeError(f"hessian: the function has shape {format_shape(f.value.shape)}, expected a scalar")
    if isinstance(x, Expr) or (isinstance(x, (list, tuple, Mapping)) and len(x) == 1):  # pyright: ignore[reportUnknownArgumentType]
        return _nested(x, lambda v: _made(f, v, mode, True, kinks))

    def row(v: Any) -> Any:
        _check(v, "hessian", "variable")
        (slope,) = derive([f, v], lambda b, values: gradients(b, values[0], values[1:]), kinks=kinks)

        def entry(other: Any) -> Structured:
            same = other is v
            return _made(f if same else slope, other, mode, same, kinks)

        return _nested(x, entry)

    return _nested(x, row)


def _nested(x: Any, make: Callable[[Any], Structured]) -> Any:
    if isinstance(x, Mapping):
        return {k: make(v) for k, v in x.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(x, (list, tuple)):
        return type(x)([make(v) for v in x])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return make(x)


def _made(y: Expr, x: Any, mode: str, second: bool, kinks: Kinks) -> Structured:
    where = "hessian" if second else "jacobian"
    if mode not in ("auto", *SWEEPS):
        raise ArgumentError(f"{where}: mode {mode!r} with form='structured', expected 'auto', 'forward' or 'reverse'")
    _check(x, where, "variable")
    if not x.value.is_param:
        raise ArgumentError(f"{where}: form='structured' in the expression {x}, expected a symbol")
    return Structured(y.value, x.value, mode, second, kinks)


def _check(e: Any, where: str, role: str) -> None:
    if not isinstance(e, Expr):
        kind = type(e).__name__
        raise ArgumentError(f"{where}: the {role} is {e!r} of type {kind}, expected a symbolic expression")
