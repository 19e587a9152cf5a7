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


Rule: TypeAlias = "Partials | Linear | Multilinear | Rules | NoDerivative"


@dataclass(frozen=True, slots=True)
class Kink:
    """Where an op is not differentiable and which derivative is chosen there."""

    at: str
    choose: str


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
    evaluate(*arrays, **attrs) -> array: the meaning, by NumPy, with every size in attrs a number.
    rule: how it is differentiated.
    elementwise: operands and result have one shape.
    latex: a template with {0}, {1}, ... for operands; precedence is the renderer's.
    cost: the class one elementwise application counts as; structural ops count through their own rule.
    fold(builder, args, attrs) -> Value | None: exact zeros and ones only; the builder asks it first.
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

    def __call__(self, *operands: Handle, **attrs: Any) -> Handle:
        """Apply to handles of one builder; numbers become constants of the first handle's shape and dtype."""
        for operand in operands:
            if hasattr(operand, "builder"):
                return operand.builder.apply(self, operands, attrs)
        raise ArgumentError(f"{self.name}: no symbolic operand among {operands!r}")

    def __repr__(self) -> str:
        return f"Op({self.name})"


class OpSet(Mapping[str, Op]):
    """Named ops, fixed at construction. Handed to builders, parsers and interpreters from outside."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self._ops: dict[str, Op] = {}
        for op in ops:
            if op.name in self._ops:
                raise ArgumentError(f"op {op.name} is declared twice")
            self._ops[op.name] = op

    def __getitem__(self, name: str) -> Op:
        return self._ops[name]

    def __iter__(self) -> Any:
        return iter(self._ops)

    def __len__(self) -> int:
        return len(self._ops)
