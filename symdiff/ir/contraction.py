"""Index specifications of `contract`, and building contractions in canonical form.

A contraction is one n-ary indexed product and sum: `ij,jk->ik`. Labels may repeat in an operand (a diagonal), appear
only in operands (a sum), only in the output (a broadcast, its size given), and repeat in the output (a Kronecker
delta: `->ii` is the identity, `i->ii` is diag). Labels are numbered by first appearance, so equal contractions have
equal text. A scalar operand has an empty word; one alone is written `_->i`, because `->i` has no operand at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from symdiff.errors import ArgumentError, ShapeError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.dims import Shape, Size, format_shape
from symdiff.ir.graph import Value

Labels: TypeAlias = "tuple[int, ...]"

PLAIN = frozenset({"const", "size", "iota"})
"""Ops of values that cost nothing to make wherever they are read."""

_LETTERS = "ijklmnopqrstuvwxyzabcdefghIJKLMNOPQRSTUVWXYZABCDEFGH"


@dataclass(frozen=True, slots=True)
class Spec:
    """Labels per operand and of the output. `str` is the text in the attribute `spec`."""

    operands: tuple[Labels, ...]
    output: Labels

    def __str__(self) -> str:
        left = "_" if self.operands == ((),) else ",".join(_word(o) for o in self.operands)
        return left + "->" + _word(self.output)

    @property
    def free(self) -> Labels:
        """Labels of the output that no operand has, in order of first appearance."""
        seen = {label for operand in self.operands for label in operand}
        return tuple(dict.fromkeys(label for label in self.output if label not in seen))

    @property
    def summed(self) -> Labels:
        """Labels that the output does not have, in order of first appearance."""
        kept = set(self.output)
        return tuple(dict.fromkeys(x for operand in self.operands for x in operand if x not in kept))


def _word(labels: Labels) -> str:
    return "".join(_LETTERS[x] if x < len(_LETTERS) else chr(0x1000 + x) for x in labels)


@lru_cache(maxsize=65536)
def parse_spec(text: str) -> Spec:
    """Read `ij,j->i`; any single characters may be labels. The result is numbered by first appearance."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ArgumentError(f"contraction {text!r}: expected operands, then ->, then the output, such as ij,j->i")
    words = [""] if left == "_" else left.split(",") if left else []
    numbers: dict[str, int] = {}
    for letter in "".join(words) + right:
        numbers.setdefault(letter, len(numbers))
    return Spec(tuple(tuple(numbers[c] for c in w) for w in words), tuple(numbers[c] for c in right))


@lru_cache(maxsize=65536)
def _canonical(operands: tuple[Labels, ...], output: Labels) -> tuple[Spec, tuple[int, ...]]:
    """The spec renumbered by first appearance, and the old label of each new one."""
    numbers: dict[int, int] = {}
    for labels in (*operands, output):
        for label in labels:
            numbers.setdefault(label, len(numbers))
    spec = Spec(tuple(tuple(numbers[x] for x in o) for o in operands), tuple(numbers[x] for x in output))
    return spec, tuple(numbers)


_TEXTS: dict[Spec, str] = {}


def label_sizes(spec: Spec, shapes: Sequence[Shape], sizes: Shape) -> dict[int, Size]:
    """Size of every label; raises `ShapeError` when operands disagree."""
    found: dict[int, Size] = {}
    if len(shapes) != len(spec.operands):
        raise ShapeError(f"contract {spec}: {len(shapes)} operands given, expected {len(spec.operands)}")
    for number, (labels, shape) in enumerate(zip(spec.operands, shapes, strict=True)):
        if len(labels) != len(shape):
            raise ShapeError(
                f"contract {spec}: operand {number} has shape {format_shape(shape)}, expected rank {len(labels)}"
            )
        for label, size in zip(labels, shape, strict=True):
            if found.setdefault(label, size) != size:
                raise ShapeError(
                    f"contract {spec}: label {_word((label,))} has sizes {found[label]} and {size} (operand {number})"
                )
    free = spec.free
    if len(free) != len(sizes):
        raise ShapeError(f"contract {spec}: {len(sizes)} sizes given for {len(free)} output-only labels")
    found.update(zip(free, sizes, strict=True))
    return found


def contract(
    builder: Builder,
    args: Sequence[Value],
    labels: Sequence[Labels],
    output: Labels,
    sizes: Mapping[int, Size] | None = None,
    dtype: str = "f64",
) -> Value:
    """Build a contraction from any integer labels; `sizes` gives the output-only ones.

    The identity on one operand is that operand; a factor that is a constant 1 leaves when the others keep its labels.
    """
    kept_args, kept_labels, known = list(args), list(labels), dict(sizes or {})
    for arg, word in zip(args, labels, strict=True):
        for label, size in zip(word, arg.type.shape, strict=True):
            known.setdefault(label, size)
    if len(kept_args) > 1 or (kept_args and not set(kept_labels[0]) - set(output)):
        kept_args, kept_labels = _drop_ones(kept_args, kept_labels, output)
    if len(kept_args) == 1 and kept_labels[0] == output and len(set(output)) == len(output):
        return kept_args[0]
    if args:
        dtype = args[0].type.dtype
    if not kept_args and len(set(output)) == len(output):
        return builder.const(1, tuple(known[x] for x in output), dtype)
    spec, old = _canonical(tuple(kept_labels), tuple(output))
    text = _TEXTS.get(spec)
    if text is None:
        text = _TEXTS.setdefault(spec, str(spec))
    attrs: list[tuple[str, object]] = [] if kept_args else [("dtype", dtype)]
    free = spec.free
    if free:
        attrs.append(("sizes", tuple([known[old[x]] for x in free])))
    attrs.append(("spec", text))
    return builder.make(builder.opset["contract"], tuple(kept_args), tuple(attrs))


def _drop_ones(args: list[Value], labels: list[Labels], output: Labels) -> tuple[list[Value], list[Labels]]:
    kept = list(range(len(args)))
    for i, arg in enumerate(args):
        if arg.op.name != "const" or arg.attr("value") != 1 or arg.type.dtype == "bool":
            continue
        others = {x for j in kept if j != i for x in labels[j]} | set(output)
        if set(labels[i]) <= others:
            kept.remove(i)
    return [args[i] for i in kept], [labels[i] for i in kept]


@lru_cache(maxsize=4096)
def _einsum_labels(text: str, ranks: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels, dict[str, int]]:
    """Integer labels for an einsum text; the axes of ... are aligned from the end, as NumPy broadcasts."""
    left, _, right = text.replace("...", ".").partition("->")
    words = left.split(",")
    numbers = {c: i for i, c in enumerate(dict.fromkeys((left + right).replace(",", "").replace(".", "")))}
    leads: list[int] = []
    for word, rank in zip(words, ranks, strict=True):
        lead = rank - len(word.replace(".", ""))
        if lead < 0 or (lead and "." not in word):
            raise ShapeError(f"einsum {text}: an operand has rank {rank}, expected {len(word.replace('.', ''))}")
        leads.append(lead)
    most = max(leads, default=0)
    base = len(numbers)
    dots = tuple(range(base, base + most))

    def spread(word: str, lead: int) -> Labels:
        return tuple(x for c in word for x in ((dots[most - lead :]) if c == "." else (numbers[c],)))

    return tuple(spread(w, k) for w, k in zip(words, leads, strict=True)), spread(right, most), numbers


def einsum(text: str, *handles: Handle, **sizes: Size) -> Handle:
    """Contraction of handles by an einsum text with optional `...`; keyword sizes give output-only labels.

    >>> # matrix product over any leading axes: einsum("...ij,...jk->...ik", a, b)
    """
    builder = handles[0].builder
    labels, output, numbers = _einsum_labels(text, tuple([h.rank for h in handles]))
    free = {numbers[name]: size for name, size in sizes.items()}
    return Handle(builder, contract(builder, [h.value for h in handles], labels, output, free))


def times(a: Handle, b: Handle) -> Handle:
    """Elementwise product; shapes are aligned from the end and the shorter is broadcast over leading axes."""
    if a.value.type.shape == b.value.type.shape:
        return a * b
    return einsum("...,...->...", a, b)


def expand(x: Handle, shape: Shape) -> Handle:
    """Broadcast over new leading axes; `x.shape` must be the end of `shape`."""
    if x.shape == tuple(shape):
        return x
    lead = len(shape) - x.rank
    if lead < 0 or x.shape != tuple(shape[lead:]):
        raise ShapeError(f"cannot broadcast {format_shape(x.shape)} to {format_shape(shape)} over leading axes")
    if x.value.op.name == "const":
        return x.const(x.value.attr("value"), shape)
    own = tuple(range(lead, len(shape)))
    sizes = dict(enumerate(shape[:lead]))
    return Handle(x.builder, contract(x.builder, [x.value], [own], tuple(range(len(shape))), sizes))


def permute(x: Handle, order: Sequence[int]) -> Handle:
    """Axes of the result in terms of axes of `x`, as `np.transpose`."""
    return Handle(x.builder, contract(x.builder, [x.value], [tuple(range(x.rank))], tuple(order)))


def sum_over(x: Handle, axes: Sequence[int]) -> Handle:
    """Sum over axes counted from the end; the axes leave."""
    gone = {x.rank + a for a in axes}
    labels = tuple(range(x.rank))
    return Handle(x.builder, contract(x.builder, [x.value], [labels], tuple(i for i in labels if i not in gone)))


def spread(x: Handle, axes: Sequence[int], like: Shape) -> Handle:
    """Put back the axes that `sum_over` removed, by broadcasting: axes count from the end of the result.

    `like` is the shape with these axes (leading axes of `x` beyond it stay).
    """
    rank = x.rank + len(axes)
    gone = {rank + a for a in axes}
    labels = tuple(range(rank))
    sizes = {i: like[i - rank] for i in gone}
    own = tuple(i for i in labels if i not in gone)
    return Handle(x.builder, contract(x.builder, [x.value], [own], labels, sizes))


def identity(builder: Builder, shape: Shape, dtype: str = "f64") -> Value:
    """The identity from `shape` to `shape`: `->ijij`, labels only. A scalar's is the constant 1."""
    labels = tuple(range(len(shape)))
    return contract(builder, [], [], labels + labels, dict(enumerate(shape)), dtype)


def repeats(value: Value) -> bool:
    """Whether a value only repeats another along new axes: a reader may as well read the smaller one."""
    if value.op.name != "contract" or len(value.args) != 1:
        return False
    spec = parse_spec(value.attr("spec"))
    return not spec.summed and bool(spec.free)
