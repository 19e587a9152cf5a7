"""What the normal forms share: values seen as products, and a context that remembers every view.

A `Product` is `coefficient * factor**power * ...` with integer labels, summed over the labels that the output lacks;
an output label that repeats is a Kronecker delta, one that no factor has is a broadcast. Every multiplicative value of
the IR (contract, powers with constant exponents, filled constants) has exactly one such view, so rewriting products is
rewriting lists. A sum likewise is seen as a list of (coefficient, term).

The context owns the builder in which everything is made. Canonical values are made bottom up only through
`Context.make`, which sends each op to its normal form; the table of normal forms is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

from symdiff.ir.builder import Builder
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import AttrItems, Function, Value
from symdiff.ir.op import OpSet
from symdiff.ir.text import print_function
from symdiff.ir.types import TensorType

Number: TypeAlias = "int | Fraction"
Labels: TypeAlias = "tuple[int, ...]"
Terms: TypeAlias = "tuple[tuple[Number, Value], ...]"
Handler: TypeAlias = "Callable[[Context, tuple[Value, ...], AttrItems], Value]"


class Factor(NamedTuple):
    """base ** power at the given labels."""

    base: Value
    power: Number
    labels: Labels


class Product(NamedTuple):
    """A value as a product; `sizes` has every label of the output and of the factors."""

    coefficient: Number
    factors: tuple[Factor, ...]
    output: Labels
    sizes: Mapping[int, Size]

    @property
    def pointwise(self) -> bool:
        """No label is summed."""
        kept = set(self.output)
        return all(x in kept for f in self.factors for x in f.labels)

    @property
    def distinct(self) -> bool:
        """No delta in the output."""
        return len(set(self.output)) == len(self.output)


class Work:
    """A product in the making. `sizes` has exactly the labels that are alive."""

    def __init__(
        self,
        coefficient: Number,
        factors: Iterable[Factor],
        output: Sequence[int],
        sizes: Mapping[int, Size],
        dtype: str,
    ) -> None:
        self.coefficient = coefficient
        self.factors = list(factors)
        self.output = list(output)
        self.sizes = dict(sizes)
        self.dtype = dtype

    def join(self, kept: int, gone: int) -> None:
        """Make two labels one."""
        if kept == gone:
            return
        self.output = [kept if x == gone else x for x in self.output]
        self.factors = [
            f._replace(labels=tuple([kept if x == gone else x for x in f.labels])) if gone in f.labels else f
            for f in self.factors
        ]
        self.sizes.pop(gone, None)

    def join_all(self, joins: Sequence[tuple[int, int]]) -> None:
        """Make labels equal, pair by pair; a label that is gone stands for the one that was kept."""
        parent: dict[int, int] = {}

        def find(x: int) -> int:
            while x in parent:
                x = parent[x]
            return x

        for a, b in joins:
            kept, gone = find(a), find(b)
            if kept != gone:
                parent[gone] = kept
                self.join(kept, gone)

    def uses(self, label: int) -> int:
        """How many factor axes have a label."""
        return sum(f.labels.count(label) for f in self.factors)

    def replace(self, removed: Sequence[Factor], added: Sequence[Factor]) -> None:
        gone = set(map(id, removed))
        self.factors = [f for f in self.factors if id(f) not in gone] + list(added)


@dataclass(frozen=True, slots=True)
class Step:
    """One applied rule, for the trace."""

    rule: str
    before: Value
    after: Value


@dataclass(slots=True)
class Settings:
    """What a run may do. keep_kinks: the result is computed with; kept are guards that give a derivative at isolated
    points, and logarithms whose quotient may overflow."""

    keep_kinks: bool = False
    facts: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    equalities: tuple[tuple[Value, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class Passes:
    """Identities that the normal forms apply as they build; a context without any gives bare normal forms.

    products: over the factors of a product in the making; sums: over collected terms; roots: over one elementwise
    value. Each of the first two gives the name of the identity it applied or "", the last a value or None.
    """

    products: tuple[Callable[[Context, Any], str], ...] = ()
    sums: tuple[Callable[[Context, dict[Value, Number]], str], ...] = ()
    roots: tuple[Callable[[Context, str, tuple[Value, ...]], Value | None], ...] = ()


def normal(number: Number) -> Number:
    """An int when it is one."""
    return number.numerator if isinstance(number, Fraction) and number.denominator == 1 else number


class Context:
    """Builder, views and memo tables of one simplification."""

    def __init__(
        self, opset: OpSet, handlers: Mapping[str, Handler], passes: Passes, settings: Settings | None = None
    ) -> None:
        self.opset = opset
        self.passes = passes
        self.builder = Builder(opset)
        self.handlers = handlers
        self.settings = settings or Settings()
        self.trace: list[Step] | None = None
        self.work = 0  # products made: what a search spends
        self.asking = 0  # questions of symmetry that are open: what is made for them is not remembered
        self._made: dict[tuple[str, tuple[Value, ...], AttrItems], Value] = {}
        self._views: dict[Value, Product] = {}
        self._terms: dict[Value, Terms] = {}
        self._split: dict[Value, tuple[Number, Value]] = {}
        self._keys: dict[Value, str] = {}
        self._memo: dict[str, dict[Any, Any]] = {}
        self._fresh = 1 << 20
        self.equal: Mapping[Value, Value] = {}  # declared equalities: canonical value -> what to write for it

    # ---------------------------------------------------------------- making
    def make(self, name: str, args: Sequence[Value], attrs: AttrItems = ()) -> Value:
        """The canonical value of an op on canonical operands."""
        key = (name, tuple(args), attrs)
        found = self._made.get(key)
        if found is None:
            handler = self.handlers.get(name)
            found = handler(self, key[1], attrs) if handler else self.plain(name, key[1], attrs)
            if self.equal:
                found = self.equal.get(found, found)
            self._made[key] = found
        return found

    def plain(self, name: str, args: Sequence[Value], attrs: AttrItems = ()) -> Value:
        """The value by the builder alone: its exact folding, no normal form."""
        return self.builder.make(self.opset[name], tuple(args), attrs)

    def const(self, number: Any, shape: Shape = (), dtype: str = "f64") -> Value:
        return self.builder.const(number, shape, dtype)

    def fresh(self, count: int = 1) -> int:
        """The first of `count` labels that nothing else has."""
        self._fresh += count
        return self._fresh - count

    def memo(self, name: str) -> dict[Any, Any]:
        """A table of the given name, for a module's own results."""
        return self._memo.setdefault(name, {})

    def declare_equal(self, pairs: Mapping[Value, Value]) -> None:
        """Write the second for the first from now on; what was made before is made again when asked for."""
        self.equal = dict(pairs)
        self._made.clear()
        self._memo.pop("product", None)

    def note(self, rule: str, before: Value, after: Value) -> None:
        if self.trace is not None and before is not after:
            self.trace.append(Step(rule, before, after))

    # ---------------------------------------------------------------- views
    def view(self, value: Value) -> Product:
        """`value` as a product; a value of any other kind is one factor."""
        found = self._views.get(value)
        if found is None:
            found = self._views[value] = self._viewed(value)
        return found

    def _viewed(self, value: Value) -> Product:
        shape = value.type.shape
        labels = tuple(range(len(shape)))
        sizes = dict(enumerate(shape))
        number = number_in(value)
        if number is not None:
            return Product(number, (), labels, sizes)
        if value.op.name == "pow":
            power = number_in(value.args[1])
            if power is not None and value.type.floating:
                return Product(1, (Factor(value.args[0], power, labels),), labels, sizes)
        return Product(1, (Factor(value, 1, labels),), labels, sizes)

    def put_view(self, value: Value, product: Product) -> None:
        """Remember the view of a value that was made as a product."""
        self._views.setdefault(value, product)

    def terms(self, value: Value) -> Terms:
        """`value` as a sum of terms with coefficient 1 each; a value that is no sum is one term."""
        found = self._terms.get(value)
        return ((self.split(value)),) if found is None else found

    def is_sum(self, value: Value) -> bool:
        return value in self._terms

    def put_terms(self, value: Value, terms: Terms) -> None:
        self._terms[value] = terms

    def split(self, value: Value) -> tuple[Number, Value]:
        """(coefficient, the value without it)."""
        found = self._split.get(value)
        if found is None:
            number = number_in(value)
            if number is not None and number != 0:
                found = (number, self.const(1, value.type.shape, value.type.dtype))
            else:
                found = (1, value)
        return found

    def put_split(self, value: Value, coefficient: Number, rest: Value) -> None:
        self._split[value] = (coefficient, rest)

    # ---------------------------------------------------------------- order
    def key(self, value: Value) -> str:
        """A text that orders values by structure alone: equal for equal structures, whatever made them."""
        found = self._keys.get(value)
        if found is not None:
            return found
        for v in unanswered(value, self._keys, lambda v: v.args):
            self._keys[v] = self._own_key(v)
        return self._keys[value]

    def _own_key(self, value: Value) -> str:
        if value.is_param:
            return "0" + value.name
        attrs = ";".join([f"{k}={_attr_text(v)}" for k, v in value.attrs])
        text = f"{value.op.name}|{attrs}|{'|'.join([self._keys[a] for a in value.args])}"
        if len(text) <= 40:
            return "1" + text
        return f"1{value.op.name}#{blake2b(text.encode(), digest_size=12).hexdigest()}"

    def keys(self, values: Iterable[Value]) -> tuple[str, ...]:
        return tuple([self.key(v) for v in values])


def _attr_text(value: Any) -> str:
    if isinstance(value, Function):
        return print_function(value)
    return f"({','.join([_attr_text(v) for v in value])})" if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownVariableType]


def number_in(value: Value) -> Number | None:
    """The exact number that fills a constant, if it is one."""
    if value.op.name != "const" or value.type.dtype == "bool":
        return None
    number = value.attr("value")
    return number if isinstance(number, (int, Fraction)) else None


def like(kind: TensorType) -> TensorType:
    """The type without facts."""
    return TensorType(kind.dtype, kind.shape) if kind.facts else kind


def children(ctx: Context, value: Value) -> tuple[Value, ...]:
    """What a canonical value is made of: the terms of a sum, the bases of a product, the operands of another op."""
    if ctx.is_sum(value):
        return tuple([t for _, t in ctx.terms(value)])
    view = ctx.view(value)
    if len(view.factors) == 1 and view.factors[0].base is value:
        return value.args
    return tuple([f.base for f in view.factors])


def unanswered(value: Value, known: Mapping[Value, Any], parts: Callable[[Value], Sequence[Value]]) -> list[Value]:
    """The value and what it is made of, parts first, stopping at values that are known: each is met once in all."""
    order: list[Value] = []
    seen: set[Value] = set()
    stack = [(value, False)]
    while stack:
        v, ready = stack.pop()
        if ready:
            order.append(v)
        elif v not in known and v not in seen:
            seen.add(v)
            stack.append((v, True))
            stack.extend([(a, False) for a in parts(v)])
    return order


def walk(ctx: Context, results: Iterable[Value]) -> list[Value]:
    """Every canonical value the results are made of, parts first."""
    order: list[Value] = []
    seen: set[Value] = set()
    for result in results:
        stack = [(result, False)]
        while stack:
            value, ready = stack.pop()
            if ready:
                order.append(value)
            elif value not in seen:
                seen.add(value)
                stack.append((value, True))
                stack.extend([(c, False) for c in reversed(children(ctx, value)) if c not in seen])
    return order
