"""Values in the making on their way from a program to notation: what they are and how ops combine them.

Every value is held as a `Form`: a core expression with the axes it really has (a broadcast has fewer), and on demand as
a Product, which merges into the products and contractions that use it, or as a list of signed terms, which merges into
sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.contraction import Spec, label_sizes, parse_spec
from symdiff.ir.dims import Shape
from symdiff.ir.graph import PARAM, Function, Value
from symdiff.render.blocks import blocks_of
from symdiff.render.factoring import shortest_sum
from symdiff.render.matrix import solve
from symdiff.render.notation import Node, Notation, split_power
from symdiff.render.product import MOST_FACTORS, Factor, Labels, Product, atom, multiply

# A sum with more terms than this is one term of the next: copying terms stays linear.
MOST_TERMS = 16

Term: TypeAlias = "tuple[int, Node, Labels]"
Rule: TypeAlias = "Callable[[Recovery, Value], Form]"

_SYMMETRIC = frozenset({"symmetric", "positive_definite", "diagonal"})


@dataclass(slots=True)
class Form:
    """A value in the making: exactly one of `closed`, `product` and `terms` is there at first."""

    shape: Shape
    dtype: str
    closed: tuple[Node, Labels] | None = None
    product: Product | None = None
    terms: tuple[Term, ...] | None = None


class Recovery:
    """The forms of the values seen so far. `rules` make those of ops that are neither elementwise nor contractions."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = rules
        self.notation = Notation()
        self.forms: dict[Value, Form] = {}
        self.whole_values: frozenset[Value] = frozenset()

    def read(self, function: Function) -> None:
        """Make the expressions of all sums and products of a program: equal ones have one node, the first made."""
        self.notation.introduced = [p.name for p in function.params]
        for parameter in function.params:
            self.forms[parameter] = self.leaf(parameter)
        inside: set[Value] = set()
        for value in function.instrs:
            self.forms[value] = self.instruction(value)
            if value.op.name in ("add", "sub"):
                inside.update(value.args)
        for value in function.instrs:
            if value not in inside:
                self.core(value)
        self.notation.searches = 0
        self.notation.sorts = True

    # ---------------------------------------------------------------- reading forms
    def core(self, value: Value) -> tuple[Node, Labels]:
        """The expression of a value and the axes it has."""
        form = self.forms[value]
        if form.closed is None:
            if form.terms is not None:
                form.closed = self._closed_sum(form.terms, form.shape)
            else:
                assert form.product is not None
                form.closed = solve(self.notation, form.product, form.dtype)
        return form.closed

    def _closed_sum(self, terms: Sequence[Term], shape: Shape) -> tuple[Node, Labels]:
        terms = blocks_of(self.notation, terms, shape) or terms
        if len(terms) == 1 and terms[0][0] == 1:
            return terms[0][1], terms[0][2]
        axes = tuple([x for x in range(len(shape)) if any(x in own for _, _, own in terms)])
        aligned = [(sign, self.notation.align(node, own, axes)) for sign, node, own in terms]
        kept = tuple([shape[x] for x in axes])
        total = shortest_sum(self.notation, aligned, kept)
        return (total, axes) if total.rank == len(axes) else (self.notation.add(aligned, kept), axes)

    def whole(self, value: Value) -> Node:
        """The expression of a value in its full shape."""
        node, axes = self.core(value)
        return self.notation.full(node, axes, value.type.shape, value.type.dtype)

    def with_axes(self, value: Value, needed: Sequence[int]) -> tuple[Node, Labels]:
        """The core of a value when it has the needed axes, else the whole."""
        node, axes = self.core(value)
        if set(needed) <= set(axes):
            return node, axes
        return self.whole(value), tuple(range(value.type.rank))

    def product(self, value: Value) -> Product:
        """A value as a Product, for merging."""
        form = self.forms[value]
        if value in self.whole_values and (form.product is None or not form.product.elementwise):
            node, axes = self.core(value)
            return atom(node, axes, form.shape)
        if form.product is None or len(form.product.factors) > MOST_FACTORS:
            node, axes = self.core(value)
            form.product = self._factored(node, axes, form.shape)
        return form.product

    def _factored(self, node: Node, axes: Labels, shape: Shape) -> Product:
        """An expression as a Product: its coefficient, elementwise factors, and the factors of a chain apart."""
        sizes = dict(enumerate(shape))
        if node.kind == "add" and max(node.data) < 0:
            return atom(self.notation.opposite(node), axes, shape).scaled(Fraction(-1))
        if node.kind == "prod" and len(node.args) <= MOST_FACTORS:
            number, count = node.data
            factors: list[Factor] = []
            for i, arg in enumerate(node.args):
                base, power = split_power(arg)
                inner, own = (base.args[0], base.data) if base.kind == "expand" else (base, (True,) * base.rank)
                labels = tuple([x for x, kept in zip(axes[len(axes) - len(own) :], own, strict=True) if kept])
                factors.append(Factor(inner, labels, power if i < count else -power))
            if sum([len(f.labels) == len(axes) for f in factors]) or not axes:
                return Product(len(shape), tuple(factors), sizes, Fraction(number))
        if node.kind == "einsum" and len(node.args) <= MOST_FACTORS:
            labels, output = node.data
            inner = sorted({x for word in labels for x in word} - set(output))
            place = dict(zip(output, axes, strict=True)) | {x: len(shape) + i for i, x in enumerate(inner)}
            parts = [Factor(a, tuple([place[x] for x in w])) for a, w in zip(node.args, labels, strict=True)]
            sizes |= {x: s for p in parts for x, s in zip(p.labels, p.node.shape, strict=True)}
            return Product(len(shape), tuple(parts), sizes)
        return atom(node, axes, shape)

    def terms(self, value: Value) -> tuple[Term, ...]:
        """A value as signed terms, for merging."""
        form = self.forms[value]
        if form.terms is not None and len(form.terms) <= MOST_TERMS and value not in self.whole_values:
            return form.terms
        return ((1, *self.core(value)),)

    # ---------------------------------------------------------------- making forms
    def leaf(self, value: Value) -> Form:
        kind = value.type
        node = self.notation.symbol(value.name, kind.shape, bool(kind.facts & _SYMMETRIC))
        return Form(kind.shape, kind.dtype, (node, tuple(range(kind.rank))))

    def closed(self, value: Value, node: Node, axes: Sequence[int] | None = None) -> Form:
        kind = value.type
        return Form(kind.shape, kind.dtype, (node, tuple(range(kind.rank) if axes is None else axes)))

    def instruction(self, value: Value) -> Form:
        name = value.op.name
        if value.op is PARAM:
            return self.leaf(value)
        if name in ("add", "sub", "neg"):
            return self._sum(value)
        if name == "contract":
            return self._contract(value)
        if name in ("mul", "div", "pow"):
            return self._product(value)
        if value.op.elementwise:
            return self._elementwise(value)
        made = self.rules.get(name)
        if made is not None:
            return made(self, value)
        node = self.notation.call(
            name, tuple([self.whole(a) for a in value.args]), value.type.shape, tuple([v for _, v in value.attrs])
        )
        return self.closed(value, node)

    def _sum(self, value: Value) -> Form:
        kind, name = value.type, value.op.name
        first = self.forms[value.args[0]]
        if name == "neg" and first.terms is None:
            scaled = self.product(value.args[0]).scaled(Fraction(-1))
            return Form(kind.shape, kind.dtype, product=scaled)
        terms = [] if name == "neg" else list(self.terms(value.args[0]))
        turn = 1 if name == "add" else -1
        terms += [(turn * sign, node, axes) for sign, node, axes in self.terms(value.args[-1])]
        return Form(kind.shape, kind.dtype, terms=tuple(terms))

    def _contract(self, value: Value) -> Form:
        kind = value.type
        spec = parse_spec(value.attr("spec"))
        sizes = label_sizes(spec, [a.type.shape for a in value.args], value.attr("sizes", ()))
        if kind.dtype == "bool" and value.args:
            moved = self._moved(value, spec)
            if moved is not None:
                return moved
        if len(value.args) == 1 and kind.rank > 2 and sorted(spec.output) == list(spec.operands[0]):
            turned = self._turned_sum(value, spec)
            if turned is not None:
                return turned
        operands = self._together([self.product(a) for a in value.args], value.args)
        return Form(kind.shape, kind.dtype, product=multiply(self.notation, operands, spec, sizes))

    def _turned_sum(self, value: Value, spec: Spec) -> Form | None:
        """Axes of a sum of tensors change places in its terms."""
        form = self.forms[value.args[0]]
        if form.terms is None or len(form.terms) > MOST_TERMS:
            return None
        sizes = dict(zip(spec.operands[0], form.shape, strict=True))
        terms: list[Term] = []
        for sign, node, axes in form.terms:
            product = self._factored(node, axes, form.shape)
            node, axes = solve(self.notation, multiply(self.notation, [product], spec, sizes), form.dtype)
            terms.append((sign, node, axes))
        return Form(value.type.shape, value.type.dtype, terms=tuple(terms))

    def _moved(self, value: Value, spec: Spec) -> Form | None:
        """A broadcast of one operand with its axes in order keeps its core; nothing is multiplied."""
        word = spec.operands[0]
        if len(set(spec.output)) < len(spec.output) or len(set(word)) < len(word):
            return None
        node, axes = self.core(value.args[0])
        places = [spec.output.index(word[x]) for x in axes]
        return self.closed(value, node, places) if places == sorted(places) else None

    def _together(self, operands: list[Product], args: Sequence[Value]) -> list[Product]:
        """Operands small enough to search together; the largest become single factors otherwise."""
        while sum([len(p.factors) for p in operands]) > MOST_FACTORS:
            i = max(range(len(operands)), key=lambda k: len(operands[k].factors))
            if len(operands[i].factors) <= 1:
                break
            node, axes = self.core(args[i])
            operands[i] = atom(node, axes, args[i].type.shape)
        return operands

    def _product(self, value: Value) -> Form:
        kind = value.type
        axes = tuple(range(kind.rank))
        first, second = value.args
        if value.op.name == "pow":
            return self._power(value)
        spec = Spec((axes, axes), axes)
        operands = self._together([self.product(a) for a in (first, second)], (first, second))
        if value.op.name == "div":
            if not operands[1].elementwise or not operands[1].coefficient:
                node, own = self.core(second)
                operands[1] = self._factored(node, own, kind.shape)
                if not operands[1].elementwise:
                    operands[1] = atom(node, own, kind.shape)
            if not operands[1].coefficient:
                zero = self.notation.number(0)
                operands[1] = Product(kind.rank, (Factor(zero, ()),), dict(enumerate(kind.shape)))
            operands[1] = operands[1].inverted()
        merged = multiply(self.notation, operands, spec, dict(enumerate(kind.shape)))
        return Form(kind.shape, kind.dtype, product=merged)

    def _power(self, value: Value) -> Form:
        kind = value.type
        base, exponent = value.args
        number: Any = exponent.attr("value") if exponent.op.name == "const" else None
        if type(number) in (int, Fraction) and number != 0 and kind.floating:
            product = self.product(base)
            if len(product.factors) == 1 and product.coefficient == 1 and product.factors[0].power == 1:
                factor = product.factors[0]
                if product.elementwise:
                    powered = Factor(factor.node, factor.labels, number)
                    return Form(kind.shape, kind.dtype, product=Product(kind.rank, (powered,), product.sizes))
            node, axes = self.core(base)
            powered = Factor(node, axes, number)
            sizes = dict(enumerate(kind.shape))
            return Form(kind.shape, kind.dtype, product=Product(kind.rank, (powered,), sizes))
        nodes, axes, shape = self._aligned(value.args)
        return self.closed(value, self.notation.general_power(nodes[0], nodes[1], shape), axes)

    def _aligned(self, args: Sequence[Value]) -> tuple[list[Node], Labels, Shape]:
        """Cores of elementwise operands, ready to broadcast, with the axes of the result and its shape."""
        cores = [self.core(a) for a in args]
        present = {x for _, axes in cores for x in axes}
        axes = tuple([x for x in range(args[0].type.rank) if x in present])
        shape = tuple([args[0].type.shape[x] for x in axes])
        return [self.notation.align(node, own, axes) for node, own in cores], axes, shape

    def _elementwise(self, value: Value) -> Form:
        nodes, axes, shape = self._aligned(value.args)
        data = tuple([v for _, v in value.attrs])
        if value.op.name == "select":  # two numbers do not say whether they are floats
            data = (value.type.dtype,)
        node = self.notation.call(value.op.name, tuple(nodes), shape, data, elementwise=True)
        return self.closed(value, node, axes)
