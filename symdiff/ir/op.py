"""What an operation is: its type rule, meaning, kind of derivative rule, rendering and cost class, in one declaration.

Rules work on *handles* (see `symdiff.ir.builder`), so a rule is written with operators and other ops. Two conventions
make one rule serve forward mode, reverse mode and batches alike:

* Every op except the elementwise ones acts on the *trailing* axes of its first operand and passes leading axes along,
  so attributes count axes from the end (-1 is the last).
* Tangents and cotangents may carry extra *leading* axes, the seed axes; the helpers of `ops.helpers` broadcast over
  them, so a rule never mentions them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from symdiff.errors import ArgumentError
from symdiff.ir.types import TensorType

Attrs: TypeAlias = "dict[str, Any]"
# The handles that rules receive; `Any` here because `builder` sits above this module.
Handle: TypeAlias = Any

CostClass: TypeAlias = Literal["add", "multiply", "divide", "transcendental", "compare", "move", "special"]


@dataclass(frozen=True, slots=True)
class Partials:
    """Elementwise: one partial derivative per operand, from the result and the operands.

    `partials(y, *xs)` returns one handle, number (0 and 1 fold away) or None (not differentiable there) per operand.
    `dead(y, *xs)` returns per operand None or a boolean handle that is true where the operand does not reach the
    result at all: there the derivative is zero whatever the cotangent or the inner derivative (0 * inf) would say.
    """

    partials: Callable[..., tuple[Handle | int | None, ...]]
    dead: Callable[..., tuple[Handle | None, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear in its differentiable operands together: forward applies the op to the tangents.

    `transpose(ct, *xs, **attrs)` returns one cotangent (or None) per operand; it may read shapes of `xs` and the
    integer operands, never the values of differentiable ones.
    """

    transpose: Callable[..., tuple[Handle | None, ...]]


@dataclass(frozen=True, slots=True)
class Multilinear:
    """Linear in each operand. `transpose(i, ct, *xs, **attrs)` is the cotangent of operand i."""

    forward: Callable[..., Handle]  # forward(i, tangent, *xs, **attrs): the op with the tangent in place i
    transpose: Callable[..., Handle]


@dataclass(frozen=True, slots=True)
class Rules:
    """Both modes given. `jvp(y, xs, dxs, **attrs)`, absent tangents None; `vjp(ct, y, *xs, **attrs)`."""

    jvp: Callable[..., Handle]
    vjp: Callable[..., tuple[Handle | None, ...]]


@dataclass(frozen=True, slots=True)
class NoDerivative:
    """No derivative exists or is known; differentiating is an error that gives `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Region:
    """A loop over a body that is a Function: both modes differentiate the body and loop over what comes out."""


Rule: TypeAlias = "Partials | Linear | Multilinear | Rules | Region | NoDerivative"


@dataclass(frozen=True, slots=True)
class Kink:
    """Where an op is not differentiable, which derivative is chosen there, and what else a user may choose.

    at: where. choose: the choice, in words. rule(choice): the op's rule with another choice, the default one included;
    None where there is no other. named: choices with a name. between: numbers that are choices too, lowest and highest.
    """

    at: str
    choose: str
    rule: Callable[[Any], Rule] | None = None
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])
    between: tuple[int, int] | None = None

    def choices(self) -> str:
        """What may be chosen, in words."""
        words = [repr(name) for name in self.named]
        if self.between is not None:
            words.append(f"a number from {self.between[0]} to {self.between[1]}")
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    def chosen(self, op: str, choice: Any) -> Rule:
        """The rule of `op` with this choice. Raises ArgumentError when it is none."""
        if self.rule is None:
            raise ArgumentError(f"kinks: {op} has one choice at {self.at}, {self.choose}; none other can be given")
        if isinstance(choice, str) and choice in self.named:
            return self.rule(self.named[choice])
        if isinstance(choice, (int, float, Fraction)) and not isinstance(choice, bool) and self.between is not None:
            low, high = self.between
            if low <= choice <= high:
                return self.rule(Fraction(repr(choice)) if isinstance(choice, float) else Fraction(choice))
        raise ArgumentError(f"kinks: {op}={choice!r}, expected {self.choices()}")


@dataclass(frozen=True, slots=True)
class Sample:
    """Where an op can be tested: intervals for elementwise operands, or `draw(rng)` for whole argument lists.

    `draw` returns (arrays, attrs); attrs are as given to the op.
    """

    intervals: tuple[tuple[float, float], ...] = ()
    draw: Callable[[Any], list[tuple[tuple[Any, ...], Attrs]]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One declaration. Equality is identity: an op set holds each op once.

    name: of the op in text form.
    infer(types, attrs) -> TensorType: the type rule; raises ShapeError, DtypeError or ArgumentError.
    evaluate(*arrays, **attrs) -> array: the meaning, by NumPy, with every size in attrs a number and every Function a
    `symdiff.ir.run.Program`.
    rule: how it is differentiated.
    elementwise: operands and result have one shape.
    latex: a template with {0}, {1}, ... for operands; precedence is the renderer's.
    cost: the class one elementwise application counts as; structural ops count through their own rule.
    fold(builder, args, attrs) -> Value | None: exact zeros and ones only; the builder asks it first.
    picks: one evaluation has several results, and the attribute `pick` says which this instruction is; `evaluate` takes
    a tuple of them too. Instructions that differ in `pick` alone (`graph.loop_key`) are one evaluation.
    """

    name: str
    infer: Callable[[Sequence[TensorType], Attrs], TensorType]
    evaluate: Callable[..., Any]
    rule: Rule
    elementwise: bool = False
    arity: int | None = None
    latex: str = ""
    kink: Kink | None = None
    sample: Sample = field(default_factory=Sample)
    cost: CostClass = "move"
    fold: Callable[..., Any] | None = None
    doc: str = ""
    picks: bool = False

    def __call__(self, *operands: Handle, **attrs: Any) -> Handle:
        """Apply to handles of one builder; numbers become constants of the first handle's shape and dtype."""
        for operand in operands:
            if hasattr(operand, "builder"):
                return operand.builder.apply(self, operands, attrs)
        raise ArgumentError(f"{self.name}: no symbolic operand among {operands!r}")

    def __repr__(self) -> str:
        return f"Op({self.name})"


class OpSet(Mapping[str, Op]):
    """Named ops, fixed at construction. Handed to builders, parsers and interpreters from outside.

    `named` is the same mapping for those who ask often.
    """

    def __init__(self, ops: Iterable[Op], rules: Mapping[str, Rule] | None = None) -> None:
        self._ops: dict[str, Op] = {}
        self.named: Mapping[str, Op] = self._ops
        self._rules = dict(rules or {})
        for op in ops:
            if op.name in self._ops:
                raise ArgumentError(f"op {op.name} is declared twice")
            self._ops[op.name] = op

    def rule(self, op: Op) -> Rule:
        """How an op is differentiated here: its own rule, unless another choice was made at its kink."""
        return self._rules.get(op.name, op.rule)

    def choosing(self, kinks: Mapping[str, Any]) -> OpSet:
        """The same ops with other choices at kinks, by op name. Raises ArgumentError for what cannot be chosen."""
        rules = dict(self._rules)
        for name, choice in kinks.items():
            op = self._ops.get(name)
            if op is None or op.kink is None:
                known = ", ".join(n for n, o in self._ops.items() if o.kink is not None and o.kink.rule is not None)
                raise ArgumentError(f"kinks: {name} has no kink; those with a choice are {known}")
            rules[name] = op.kink.chosen(name, choice)
        return OpSet(self._ops.values(), rules)

    def __getitem__(self, name: str) -> Op:
        return self._ops[name]

    def __iter__(self) -> Any:
        return iter(self._ops)

    def __len__(self) -> int:
        return len(self._ops)
