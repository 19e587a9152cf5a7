"""What several op declarations share: type rules, samples, and broadcasting forms for derivative rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, EvaluationError, ShapeError
from symdiff.ir.builder import Handle, require_same_shape
from symdiff.ir.contraction import einsum, expand
from symdiff.ir.dims import Size, format_shape
from symdiff.ir.graph import Value, instructions
from symdiff.ir.op import Attrs, CostClass, Kink, Op, Partials, Rule, Sample
from symdiff.ir.types import TensorType


# -------------------------------------------------------------------- type rules
def same_type(name: str, allowed: frozenset[str]) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    """Operands and result have one shape and one dtype among `allowed`."""

    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        first = types[0]
        if first.dtype not in allowed:
            raise DtypeError(f"{name}: operand has dtype {first.dtype}, expected {' or '.join(sorted(allowed))}")
        for other in types:
            if other is not first:  # most often they are one object
                require_same_shape(name, types)
                if other.dtype != first.dtype:
                    raise DtypeError(f"{name}: operands have dtypes {first.dtype} and {other.dtype}, expected one")
        return TensorType(first.dtype, first.shape) if first.facts else first

    return infer


def axes_in(name: str, kind: TensorType, axes: Sequence[int]) -> None:
    """Check that `axes` count from the end, rise, and lie in the rank of `kind`."""
    if list(axes) != sorted(set(axes)) or any(not -kind.rank <= a <= -1 for a in axes):
        expected = f"expected rising numbers -{kind.rank}..-1"
        raise ArgumentError(f"{name}: axes {tuple(axes)} for rank {kind.rank}, {expected}")


def square(name: str, kind: TensorType) -> Size:
    """The side of a (stack of) square matrices."""
    if kind.rank < 2 or kind.shape[-1] != kind.shape[-2]:
        raise ShapeError(f"{name}: shape {format_shape(kind.shape)}, expected a square matrix in the last two axes")
    if kind.dtype not in FLOATS:
        raise DtypeError(f"{name}: dtype {kind.dtype}, expected f64 or f32")
    return kind.shape[-1]


FLOATS = frozenset({"f64", "f32"})
NUMBERS = FLOATS | {"i64"}
ANY = NUMBERS | {"bool"}


def elementwise(
    name: str,
    evaluate: Callable[..., Any],
    partials: Callable[..., tuple[Handle | int | None, ...]],
    *,
    latex: str,
    intervals: tuple[tuple[float, float], ...],
    cost: CostClass = "transcendental",
    dead: Callable[..., tuple[Handle | None, ...]] | None = None,
    kink: Kink | None = None,
    allowed: frozenset[str] = FLOATS,
    fold: Callable[..., Any] | None = None,
    doc: str = "",
    rule: Rule | None = None,
    infer: Callable[[Sequence[TensorType], Attrs], TensorType] | None = None,
) -> Op:
    """Declare a scalar function of equal shapes; `intervals` say where each operand can be tested."""
    return Op(
        name,
        infer or same_type(name, allowed),
        evaluate,
        rule or Partials(partials, dead),
        elementwise=True,
        arity=len(intervals),
        latex=latex,
        kink=kink,
        sample=Sample(intervals=intervals),
        cost=cost,
        fold=fold,
        doc=doc,
    )


def no_values(*xs: Any, name: str, wrt: tuple[int, ...]) -> Any:
    """The evaluation of an undefined function: there is none."""
    raise EvaluationError(f"undefined function {name} has no values; give it by functions={{{name!r}: ...}}")


def undefined(values: Iterable[Value]) -> dict[str, str]:
    """The undefined functions that values apply, in bodies too: the op by the name of the function."""
    return {v.attr("name"): v.op.name for v in instructions(values) if v.op.name in ("apply", "functional")}


# -------------------------------------------------------------------- forms for rules; all broadcast over seed axes
def matmul(a: Handle, b: Handle) -> Handle:
    return einsum("...ij,...jk->...ik", a, b)


def transposed(a: Handle) -> Handle:
    return einsum("...ij->...ji", a)


def choose(condition: Handle, a: Handle | Fraction | int, b: Handle | Fraction | int) -> Handle:
    """select with a condition that may lack leading axes of the branches."""
    shape = next(h.shape for h in (a, b) if isinstance(h, Handle))
    dtype = next(h.dtype for h in (a, b) if isinstance(h, Handle))
    c = expand(condition, shape)
    branches = [h if isinstance(h, Handle) else c.const(h, dtype=dtype) for h in (a, b)]
    return c.op("select", *branches)


def as_float(condition: Handle, dtype: str) -> Handle:
    """1 where true, 0 where false."""
    return condition.op("cast", dtype=dtype)


def random_well_conditioned(rng: np.random.Generator, n: int, lead: tuple[int, ...] = ()) -> Any:
    """Random matrices with condition numbers around ten."""
    return rng.standard_normal((*lead, n, n)) / np.sqrt(n) + 2.0 * np.eye(n)


def random_spd(rng: np.random.Generator, n: int, lead: tuple[int, ...] = ()) -> Any:
    x = rng.standard_normal((*lead, n, n))
    return x @ np.swapaxes(x, -1, -2) / n + np.eye(n)
