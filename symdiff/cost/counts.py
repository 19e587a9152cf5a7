"""Exact operation counts of a Function, by class, as polynomials in its dimensions.

`count(function)` takes any verified Function and gives `Counts`. The rules, for arrays that are not empty:

* elementwise: one operation of the op's class per element; `clip` compares twice; a power with a constant exponent
  counts as it is computed, by multiplications (repeated squaring), a square root, a division.
* contract: the pairwise steps of `symdiff.ir.path`. Without products and sums, and for broadcasts, it is a move of the
  elements written; Kronecker deltas and identities cost nothing.
* reductions over N elements: N - 1 operations; `logsumexp`, `softmax`, `norm` as their stable textbook forms.
* moves: elements copied by slice, embed, gather, concatenate, triangles, casts. `scatter_add` is one addition per
  update. A reshape, a constant and a size cost nothing.
* linear algebra, n x n, per matrix of a stack: LU with partial pivoting, substitution, Cholesky (`_FACTORED` below).
  `special` tells how often each was called, the operations are in the classes.
* undefined functions count as transcendental, under their own name.
* a loop: its body times its length, once whatever is picked of it, and a move of every element that it stacks.

Bytes are those of operands and results of every instruction, as if each were run alone; constants are free. The peak
is the largest memory alive at once, in instruction order, parameters included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, Final, TypeAlias

from symdiff.cost.memory import peak_memory, storage
from symdiff.cost.poly import Poly
from symdiff.errors import ArgumentError
from symdiff.ir.contraction import label_sizes, parse_spec
from symdiff.ir.dims import Size, product
from symdiff.ir.graph import Function, Value, loop_key
from symdiff.ir.path import pairwise

# What one instruction costs: class -> count; transcendental and special classes are ("transcendental", name).
Bill: TypeAlias = "dict[str | tuple[str, str], Poly | Size]"
Totals: TypeAlias = "dict[str | tuple[str, str], Poly]"

CLASSES: Final = ("add", "multiply", "divide", "fma", "compare", "integer", "move")


def _no_names() -> Mapping[str, Poly]:
    return {}


@dataclass(frozen=True)
class Counts:
    """The bill of one program. `fma` is 0 here: fusing is the native code's business; `fusable` are the
    multiplications whose product is added at once, in sums of products, so that hardware may do both in one.
    `integer` is arithmetic on integers: what indices are computed with."""

    add: Poly = field(default_factory=Poly)
    multiply: Poly = field(default_factory=Poly)
    divide: Poly = field(default_factory=Poly)
    fma: Poly = field(default_factory=Poly)
    compare: Poly = field(default_factory=Poly)
    integer: Poly = field(default_factory=Poly)
    move: Poly = field(default_factory=Poly)
    transcendental: Mapping[str, Poly] = field(default_factory=_no_names)
    special: Mapping[str, Poly] = field(default_factory=_no_names)
    bytes_read: Poly = field(default_factory=Poly)
    bytes_written: Poly = field(default_factory=Poly)
    fusable: Poly = field(default_factory=Poly)
    peak: tuple[Poly, ...] = (Poly(),)
    instructions: int = 0

    @property
    def transcendentals(self) -> Poly:
        return _sum(self.transcendental.values())

    @property
    def operations(self) -> Poly:
        """Arithmetic of every kind, an fma as two; moves are not operations."""
        floats = self.add + self.multiply + self.divide + 2 * self.fma + self.compare
        return floats + self.integer + self.transcendentals

    @property
    def bytes(self) -> Poly:
        return self.bytes_read + self.bytes_written

    @property
    def names(self) -> frozenset[str]:
        """The dimensions the counts depend on."""
        polys = (self.operations, self.move, self.bytes, *self.peak, *self.special.values())
        return frozenset().union(*(p.names for p in polys))

    def __add__(self, other: Counts) -> Counts:
        """One program after the other: counts add, the larger peak stays."""
        added = (*CLASSES, "fusable", "bytes_read", "bytes_written")
        return Counts(
            **{name: getattr(self, name) + getattr(other, name) for name in added},
            transcendental=_merged(self.transcendental, other.transcendental),
            special=_merged(self.special, other.special),
            peak=tuple(dict.fromkeys(self.peak + other.peak)),
            instructions=self.instructions + other.instructions,
        )

    def at(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Every count as a number at the given sizes."""
        return self._map(lambda p: p.at(sizes), max(p.at(sizes) for p in self.peak))

    def as_dict(self) -> dict[str, Any]:
        """Every count as text, for JSON."""
        return self._map(str, format_peak(self.peak))

    def _map(self, convert: Callable[[Poly], Any], peak: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Poly):
                result[entry.name] = convert(value)
            elif isinstance(value, Mapping):
                result[entry.name] = {k: convert(v) for k, v in value.items()}
        return {**result, "operations": convert(self.operations), "peak": peak, "instructions": self.instructions}

    def __str__(self) -> str:
        rows = [(name, str(getattr(self, name))) for name in CLASSES if getattr(self, name)]
        rows += [(name, str(poly)) for name, poly in self.transcendental.items()]
        rows += [(f"calls of {name}", str(poly)) for name, poly in self.special.items()]
        rows += [("fusable", str(self.fusable))] if self.fusable else []
        rows += [("operations", str(self.operations)), ("bytes read", str(self.bytes_read))]
        rows += [("bytes written", str(self.bytes_written)), ("peak bytes", format_peak(self.peak))]
        rows.append(("instructions", str(self.instructions)))
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{wide}}  {text}" for name, text in rows)


def format_peak(peak: Sequence[Poly]) -> str:
    return str(peak[0]) if len(peak) == 1 else f"max({', '.join(str(p) for p in peak)})"


def _sum(polys: Any) -> Poly:
    total = Poly()
    for poly in polys:
        total = total + poly
    return total


def _merged(a: Mapping[str, Poly], b: Mapping[str, Poly]) -> dict[str, Poly]:
    return {name: a.get(name, Poly()) + b.get(name, Poly()) for name in sorted({*a, *b})}


# -------------------------------------------------------------------- counting
def count(function: Function, memory: bool = True) -> Counts:
    """Count every instruction; linear in their number. Raises `ArgumentError` for an op without a rule.

    memory: whether the peak is worked out too, which takes longest.
    """
    totals, read, written = _tallied(function)
    return Counts(
        **{name: totals.get(name, Poly()) for name in (*CLASSES, "fusable")},
        transcendental=_named(totals, "transcendental"),
        special=_named(totals, "special"),
        bytes_read=read,
        bytes_written=written,
        peak=peak_memory(function) if memory else (Poly(),),
        instructions=len(function.instrs),
    )


def _tallied(function: Function) -> tuple[Totals, Poly, Poly]:
    """Operations, bytes read and bytes written; bodies of loops are walked once."""
    # Instructions of one kind cost the same, so each kind is worked out once and multiplied.
    kinds: dict[Any, list[Any]] = {}
    totals: Totals = {}
    read, written = Poly(), Poly()
    # Traffic depends on which operands are constants, so it has its own kinds.
    reads: dict[Any, int] = {}
    writes: dict[Any, int] = {}
    loops: set[Any] = set()
    for value in function.instrs:
        if value.op.name in FREE:
            continue
        writes[value.type] = writes.get(value.type, 0) + 1
        if value.op.picks:
            _add(totals, _stacked(value))
            if (key := loop_key(value)) not in loops:
                loops.add(key)
                length = Poly(value.attr("length"))
                within, read_within, written_within = _tallied(value.attr("body"))
                _add(totals, {**within}, length)
                read, written = read + length * read_within, written + length * written_within
            continue
        for operand in value.args:
            if operand.op.name not in ("const", "size"):
                reads[operand.type] = reads.get(operand.type, 0) + 1
        exponent = value.args[1] if value.op.name == "pow" and value.args[1].op.name == "const" else None
        key = (value.op, value.attrs, value.type, tuple([a.type for a in value.args]), exponent)
        entry = kinds.get(key)
        if entry is None:
            kinds[key] = [value, 1]
        else:
            entry[1] += 1
    for value, times in kinds.values():
        _add(totals, bill_of(value), times)
    for kind, times in reads.items():
        read = read + times * storage(kind)
    for kind, times in writes.items():
        written = written + times * storage(kind)
    return totals, read, written


def _add(totals: Totals, bill: Bill, times: int | Poly = 1) -> None:
    for name, amount in bill.items():
        totals[name] = totals.get(name, Poly()) + times * Poly(amount)


def _named(totals: Mapping[str | tuple[str, str], Poly], group: str) -> dict[str, Poly]:
    found = {key[1]: poly for key, poly in totals.items() if isinstance(key, tuple) and key[0] == group and poly}
    return dict(sorted(found.items()))


def bill_of(value: Value) -> Bill:
    """What one instruction costs, by class. Raises `ArgumentError` for an op without a rule."""
    bill = _bill(value)
    if value.type.dtype != "i64":
        return bill
    whole = sum((Poly(bill.pop(name, 0)) for name in ("add", "multiply", "divide")), Poly())
    bill.pop("fusable", None)
    return {**bill, "integer": whole} if whole else bill


def _bill(value: Value) -> Bill:
    name = value.op.name
    if name in ("apply", "functional"):
        label = value.attr("name") + "'" * len(value.attr("wrt"))
        return {("transcendental", label): product(value.shape)}
    if name in _RULES:
        return _RULES[name](value)
    if not value.op.elementwise:
        raise ArgumentError(f"count: op {name} has no cost rule")
    group = value.op.cost
    return {("transcendental", name) if group == "transcendental" else group: product(value.shape)}


# -------------------------------------------------------------------- elementwise with more than one operation
def _clip(value: Value) -> Bill:
    return {"compare": 2 * product(value.shape)}


def _pow(value: Value) -> Bill:
    elements = Poly(product(value.shape))
    exponent = value.args[1].attr("value") if value.args[1].op.name == "const" else None
    if not isinstance(exponent, (int, Fraction)) or isinstance(exponent, bool) or abs(exponent) > 64:
        return {("transcendental", "pow"): elements}
    whole = abs(exponent)
    bill: Bill = {}
    if whole == Fraction(1, 2):
        bill["transcendental", "sqrt"] = elements
    elif isinstance(whole, int):
        # Repeated squaring: one product per further bit and one more per further bit that is set.
        bill["multiply"] = max(whole.bit_length() - 1 + whole.bit_count() - 1, 0) * elements
    else:
        return {("transcendental", "pow"): elements}
    if exponent < 0:
        bill["divide"] = elements
    return bill


# -------------------------------------------------------------------- contractions and moves
def _contract(value: Value) -> Bill:
    spec = parse_spec(value.attr("spec"))
    sizes = label_sizes(spec, [a.shape for a in value.args], value.attr("sizes", ()))
    multiplies, additions, fusable = Poly(), Poly(), Poly()
    steps = pairwise(spec, sizes)
    for step in steps:
        space = Poly(product(sizes[x] for x in step.space))
        added = space - product(sizes[x] for x in step.result)
        additions = additions + added
        if step.right is not None:
            multiplies, fusable = multiplies + space, fusable + added
    bill: Bill = {"multiply": multiplies, "add": additions, "fusable": fusable}
    if spec.operands and (not steps or spec.free):
        bill["move"] = product(sizes[x] for x in dict.fromkeys(spec.output))
    return bill


def _writes(value: Value) -> Bill:
    return {"move": product(value.shape)}


def _copies_operand(value: Value) -> Bill:
    return {"move": product(value.args[0].shape)}


def _scatter_add(value: Value) -> Bill:
    return {"add": product(value.args[0].shape)}


# -------------------------------------------------------------------- reductions: `lines` of N elements each
def _lines(value: Value) -> tuple[Poly, Poly]:
    """How many lines the operand has along the reduced axes, and the elements of each."""
    shape = value.args[0].shape
    axes = value.attr("axes", (value.attr("axis"),))
    inside = {len(shape) + a for a in axes}
    return (
        Poly(product(s for i, s in enumerate(shape) if i not in inside)),
        Poly(product(s for i, s in enumerate(shape) if i in inside)),
    )


def _running(group: str) -> Callable[[Value], Bill]:
    def rule(value: Value) -> Bill:
        lines, n = _lines(value)
        return {group: lines * (n - 1)}

    return rule


def _prod_others(value: Value) -> Bill:
    # Running products from both ends, then their product.
    lines, n = _lines(value)
    return {"multiply": lines * (3 * n - 2)}


def _logsumexp(value: Value) -> Bill:
    # max, exp(x - max), sum, log, + max
    lines, n = _lines(value)
    return {
        "compare": lines * (n - 1), "add": lines * 2 * n,
        ("transcendental", "exp"): lines * n, ("transcendental", "log"): lines,
    }  # fmt: skip


def _softmax(value: Value) -> Bill:
    lines, n = _lines(value)
    return {
        "compare": lines * (n - 1), "add": lines * (2 * n - 1),
        ("transcendental", "exp"): lines * n, "divide": lines * n,
    }  # fmt: skip


def _norm(value: Value) -> Bill:
    lines, n = _lines(value)
    return {"multiply": lines * n, "add": lines * (n - 1), ("transcendental", "sqrt"): lines}


# -------------------------------------------------------------------- linear algebra, per n x n matrix
def _pairs(n: Poly) -> Poly:
    return n * (n - 1) / 2


def _lu(n: Poly) -> Bill:
    # Column k: a pivot search over n - k entries, n - k - 1 quotients, then (n - k - 1)^2 updates.
    updates = n * (n - 1) * (2 * n - 1) / 6
    return {"multiply": updates, "add": updates, "divide": _pairs(n), "compare": _pairs(n)}


def _plus(*bills: Bill) -> Bill:
    total: Bill = {}
    for bill in bills:
        for name, amount in bill.items():
            total[name] = Poly(total.get(name, 0)) + amount
    return total


def _times(factor: Poly, bill: Bill) -> Bill:
    return {name: factor * amount for name, amount in bill.items()}


def _substitution(n: Poly) -> Bill:
    return {"multiply": _pairs(n), "add": _pairs(n), "divide": n}


_FACTORED: Mapping[str, Callable[[Poly], Bill]] = {
    # The columns of the identity start with zeros, which forward substitution skips: n^3 - n^2 products in all.
    "inverse": lambda n: {
        "multiply": n * n * (n - 1), "add": n * n * (n - 1), "divide": _pairs(n) + n * n, "compare": _pairs(n),
    },
    "det": lambda n: _plus(_lu(n), {"multiply": n - 1}),
    "signdet": lambda n: _plus(_lu(n), {"multiply": n - 1, "compare": 1}),
    "logabsdet": lambda n: _plus(_lu(n), {"compare": n, ("transcendental", "log"): n, "add": n - 1}),
    # (x + x^T)/2 below the diagonal, then column by column.
    "cholesky": lambda n: {
        "multiply": _pairs(n) + n * (n - 1) * (n + 1) / 6, "add": _pairs(n) + n * (n - 1) * (n + 1) / 6,
        "divide": _pairs(n), ("transcendental", "sqrt"): n,
    },
}  # fmt: skip


def _factored(value: Value) -> Bill:
    name, shape = value.op.name, value.args[0].shape
    stack = Poly(product(shape[:-2]))
    return {**_times(stack, _FACTORED[name](Poly(shape[-1]))), ("special", name): stack}


def _solve(value: Value) -> Bill:
    a, b = value.args
    n, stack, columns = Poly(a.shape[-1]), Poly(product(a.shape[:-2])), Poly(product((*b.shape[:-2], b.shape[-1])))
    # The lower factor has a unit diagonal: no quotients.
    lower: Bill = {"multiply": _pairs(n), "add": _pairs(n)}
    return {
        **_plus(_times(stack, _lu(n)), _times(columns, _plus(lower, _substitution(n)))),
        ("special", "solve"): stack,
    }


def _triangular(value: Value) -> Bill:
    a, b = value.args
    columns = Poly(product((*b.shape[:-2], b.shape[-1])))
    return {**_times(columns, _substitution(Poly(a.shape[-1]))), ("special", "triangular_solve"): columns}


# -------------------------------------------------------------------- loops
def _stacked(value: Value) -> Bill:
    return {"move": product(value.shape)} if value.attr("pick") >= value.attr("carries") else {}


def _scan(value: Value) -> Bill:
    """All steps, and what is picked of them."""
    return _plus(_times(Poly(value.attr("length")), {**_tallied(value.attr("body"))[0]}), _stacked(value))


FREE: Final = frozenset({"const", "array", "iota", "size", "reshape", "symmetric"})

_RULES: Mapping[str, Callable[[Value], Bill]] = {
    "clip": _clip, "pow": _pow, "contract": _contract, "slice": _writes, "gather": _writes, "concatenate": _writes,
    "tril": _writes, "triu": _writes, "embed": _copies_operand, "last_writer": _copies_operand,
    "scatter_add": _scatter_add, "cumsum": _running("add"), "reduce_max": _running("compare"),
    "reduce_min": _running("compare"), "argmax": _running("compare"), "argmin": _running("compare"),
    "reduce_prod": _running("multiply"), "prod_others": _prod_others, "logsumexp": _logsumexp, "softmax": _softmax,
    "norm": _norm, "solve": _solve, "triangular_solve": _triangular, **dict.fromkeys(_FACTORED, _factored),
    "scan": _scan,
}  # fmt: skip
