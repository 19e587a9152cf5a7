"""Entry by entry: small arrays of fixed size written as arrays of scalar formulas.

A function of x[0], x[1], x[2] has a gradient that a paper writes as a column of scalars, not as a sum of padded slices.
`take_apart` turns a program whose results are small into one program of scalars, over one parameter per entry that it
reads (x_0, x_1, ...); `assemble` puts scalars back: slices of the arrays at the leaves, one stack at the root. What has
no entries of its own (a sum over a symbolic dimension, an inverse) stays whole, and its entries are read off it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import contract, label_sizes, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.op import OpSet
from symdiff.ir.types import TensorType

MOST_ENTRIES = 64
"""Arrays with more entries stay whole: nobody reads them one by one."""

MOST_SCALARS = 2000
"""A program of more scalar instructions than this is no formula any more."""

Entries: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Index: TypeAlias = "tuple[int, ...]"

# Ops that pick, place or drop entries: their meaning on numbers is their meaning on entry numbers.
_MOVES = frozenset({"slice", "embed", "concatenate", "reshape", "tril", "triu", "gather"})
# Ops whose presence says that a program is about entries, not about whole arrays.
_PLACING = frozenset({"slice", "embed", "concatenate", "gather", "array"})
_FOLDS = {"reduce_max": "maximum", "reduce_min": "minimum", "reduce_prod": "mul"}
# Facts of an array that each of its entries has.
_PER_ENTRY = frozenset({"positive", "nonnegative", "nonzero"})


@dataclass(frozen=True)
class Apart:
    """A program of scalars, and where its parameters come from: (array, index) in the order of the parameters."""

    scalars: Function
    leaves: tuple[tuple[Value, Index], ...]
    shapes: tuple[tuple[int, ...], ...]


def reading(function: Function) -> int:
    """How long the results read: the instructions written out, each as often as it is used."""
    length: dict[Value, int] = {}
    for value in function.instrs:
        own = 0 if value.op.name == "contract" and len(value.args) == 1 else 1
        length[value] = own + sum([length.get(a, 1) for a in value.args])
    return sum([length.get(r, 1) for r in function.results])


def worth_taking_apart(function: Function) -> bool:
    """Whether entries are picked or placed somewhere, and the results are small arrays of fixed size."""
    return all(_small(r.type) for r in function.results) and any(v.op.name in _PLACING for v in function.instrs)


def is_assembled(function: Function) -> bool:
    """Whether every result is a stack of scalars, as `assemble` makes them."""
    return all(_stacked(r) for r in function.results)


def _stacked(value: Value) -> bool:
    if value.op.name == "reshape":
        value = value.args[0]
    pieces = value.args if value.op.name == "concatenate" else (value,)
    return all(
        p.type.shape == (1,)
        and (p.op.name == "const" or (p.op.name == "contract" and all(a.type.rank == 0 for a in p.args)))
        for p in pieces
    )


def _small(kind: TensorType) -> bool:
    sizes = [s for s in kind.shape if isinstance(s, int)]
    return kind.floating and 0 < len(sizes) == kind.rank and 0 < math.prod(sizes) <= MOST_ENTRIES


class _Taking:
    """Entries of every value seen so far, None for what stays whole."""

    def __init__(self, function: Function, opset: OpSet, facts: Mapping[str, frozenset[str]]) -> None:
        self.builder = Builder(opset)
        self.facts = facts
        self.opset = opset
        self.table: dict[Value, Entries | None] = {}
        self.leaves: dict[tuple[Value, Index], Value] = {}
        self.names = {p.name for p in function.params}
        self.made = 0

    def of(self, value: Value) -> Entries | None:
        """The entries of a value; those of a whole one are read off it when there are few."""
        found = self.table[value]
        if found is None and _fixed(value.type) and _count(value.type) <= MOST_ENTRIES:
            found = np.empty(_shape(value.type), object)
            for index in np.ndindex(found.shape):
                found[index] = self.leaf(value, index)
            self.table[value] = found
        return found

    def leaf(self, array: Value, index: Index) -> Value:
        """The parameter that stands for an entry of a whole array."""
        facts = array.type.facts | self.facts.get(array.name, frozenset())
        if "diagonal" in facts and len(index) == 2 and index[0] != index[1]:
            return self.builder.const(0, (), array.type.dtype)
        if facts & {"symmetric", "positive_definite"} and len(index) == 2:
            index = (max(index), min(index))
        if ("lower" in facts and index[0] < index[1]) or ("upper" in facts and index[0] > index[1]):
            return self.builder.const(0, (), array.type.dtype)
        found = self.leaves.get((array, index))
        if found is None:
            kind = TensorType(array.type.dtype, (), facts & _PER_ENTRY if index else facts)
            found = self.builder.param(self._name(array, index), kind)
            self.leaves[array, index] = found
        return found

    def _name(self, array: Value, index: Index) -> str:
        if array.is_param and not index:
            return array.name
        name = "_".join([array.name or "t", *[str(i) for i in index]])
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def make(self, name: str, args: Sequence[Value], attrs: Any = ()) -> Value:
        self.made += 1
        return self.builder.make(self.opset[name], tuple(args), attrs)

    # ---------------------------------------------------------------- one instruction
    def take(self, value: Value) -> Entries | None:
        """The entries of an instruction's result, or None when it stays whole."""
        if not _fixed(value.type):
            return None
        if value.op.name == "const":
            number = self.builder.const(value.attr("value"), (), value.type.dtype)
            return _filled(_shape(value.type), number) if _count(value.type) <= MOST_ENTRIES else None
        if value.op.name == "array":
            return self._array(value)
        if _count(value.type) > MOST_ENTRIES or any(not _fixed(a.type) for a in value.args):
            return None
        if not value.args and value.op.name != "contract":
            return None
        operands = [self.of(a) for a in value.args]
        if any(o is None for o in operands):
            return None
        known: list[Any] = [o for o in operands if o is not None]
        if value.op.elementwise:
            made = np.empty(_shape(value.type), object)
            for index in np.ndindex(made.shape):
                made[index] = self.make(value.op.name, [o[index] for o in known], value.attrs)
            return made
        if value.op.name == "contract":
            return self._contract(value, known)
        if value.op.name in _MOVES:
            return self._moved(value, known)
        if value.op.name in _FOLDS:
            return self._folded(value, known[0])
        return None

    def _array(self, value: Value) -> Entries | None:
        numbers = value.attr("value").array
        if numbers.size > MOST_ENTRIES:
            return None
        made = np.empty(numbers.shape, object)
        for index in np.ndindex(numbers.shape):
            made[index] = self.builder.const(numbers[index].item(), (), value.type.dtype)
        return made

    def _contract(self, value: Value, operands: Sequence[Any]) -> Entries | None:
        spec = parse_spec(value.attr("spec"))
        sizes = label_sizes(spec, [o.shape for o in operands], value.attr("sizes", ()))
        labels = tuple(dict.fromkeys([*spec.output, *spec.summed]))
        ranges = [range(_whole(sizes[x])) for x in labels]
        if math.prod(map(len, ranges)) > MOST_SCALARS:
            return None
        zero = self.builder.const(0, (), value.type.dtype) if value.type.dtype != "bool" else None
        made = np.full(_shape(value.type), zero, object)
        for point in product(*ranges):
            at = dict(zip(labels, point, strict=True))
            factors = [o[tuple([at[x] for x in word])] for o, word in zip(operands, spec.operands, strict=True)]
            term = factors[0] if factors else self.builder.const(1, (), value.type.dtype)
            for factor in factors[1:]:
                term = self.make("mul", [term, factor])
            index = tuple([at[x] for x in spec.output])
            made[index] = term if zero is None else self.make("add", [made[index], term])
        return None if any(v is None for v in made.flat) else made

    def _moved(self, value: Value, operands: Sequence[Any]) -> Entries | None:
        """Entries are numbered from 1, so what an op fills with zeros shows."""
        entries: list[Value] = [self.builder.const(0, (), value.type.dtype) if value.type.dtype != "bool" else
                                self.builder.const(False, (), "bool")]  # fmt: skip
        numbered: list[Any] = []
        for i, operand in enumerate(operands):
            if value.op.name == "gather" and i:
                indices = [v.attr("value") if v.op.name == "const" else None for v in operand.flat]
                if None in indices:
                    return None
                numbered.append(np.array(indices, np.int64).reshape(operand.shape))
                continue
            numbered.append(np.arange(len(entries), len(entries) + operand.size).reshape(operand.shape))
            entries.extend(operand.flat)
        moved = np.asarray(value.op.evaluate(*numbered, **dict(value.attrs)))
        made = np.empty(moved.shape, object)
        for index in np.ndindex(moved.shape):
            made[index] = entries[int(moved[index])]
        return made

    def _folded(self, value: Value, operand: Entries) -> Entries | None:
        """None where lines have no entries: what their fold is, the array knows better."""
        gone = [operand.ndim + a for a in value.attr("axes", (value.attr("axis"),))]
        kept = [a for a in range(operand.ndim) if a not in gone]
        outer = tuple([operand.shape[a] for a in kept])
        # Said in numbers: where the result has no entries, nothing tells how long its lines are.
        lines = operand.transpose([*kept, *gone]).reshape((*outer, math.prod([operand.shape[a] for a in gone])))
        made = np.empty(lines.shape[:-1], object)
        if made.size and not lines.size:
            return None
        for index in np.ndindex(made.shape):
            total = lines[index][0]
            for entry in lines[index][1:]:
                total = self.make(_FOLDS[value.op.name], [total, entry])
            made[index] = total
        return made


def take_apart(function: Function, opset: OpSet, facts: Mapping[str, frozenset[str]]) -> Apart | None:
    """The program of scalars that computes every entry of every result, or None when it would be none or too long.

    facts: what is assumed of parameters, by name, besides their types.
    """
    taking = _Taking(function, opset, facts)
    for parameter in function.params:
        taking.table[parameter] = None
    for value in function.instrs:
        taking.table[value] = taking.take(value)
        if taking.made > MOST_SCALARS:
            return None
    if any(taking.table[r] is None for r in function.results):
        return None
    results = [v for r in function.results for v in taking.of(r).flat]  # pyright: ignore[reportOptionalMemberAccess]
    used = set(topological(results))
    leaves = [(place, p) for place, p in taking.leaves.items() if p in used]
    scalars = Function.of([p for _, p in leaves], results, function.name)
    return Apart(scalars, tuple([place for place, _ in leaves]), tuple([_shape(r.type) for r in function.results]))


def assemble(function: Function, apart: Apart, scalars: Function, opset: OpSet) -> Function:
    """`function` with its entries computed by `scalars`, an equal of `apart.scalars`."""
    builder = Builder(opset)
    held = builder.absorb([*function.params, *[array for array, _ in apart.leaves]])
    place = {p.name: leaf for p, leaf in zip(apart.scalars.params, apart.leaves, strict=True)}
    read = [_read(builder, held[array], index) for array, index in [place[p.name] for p in scalars.params]]
    mapping = builder.inline(scalars, read)
    entries = iter([mapping[r] for r in scalars.results])
    stacks = [_stack(builder, [next(entries) for _ in range(math.prod(s))], s) for s in apart.shapes]
    return Function.of([held[p] for p in function.params], stacks, function.name)


def _read(builder: Builder, array: Value, index: Index) -> Value:
    if not index:
        return array
    ones = (1,) * len(index)
    attrs = (("sizes", ones), ("starts", index), ("steps", ones))
    piece = builder.make(builder.opset["slice"], (array,), attrs)
    return contract(builder, [piece], [tuple(range(len(index)))], ())


def _stack(builder: Builder, entries: Sequence[Value], shape: tuple[int, ...]) -> Value:
    pieces = [contract(builder, [e], [()], (0,), {0: 1}) for e in entries]
    line = pieces[0] if len(pieces) == 1 else builder.make(builder.opset["concatenate"], tuple(pieces), (("axis", -1),))
    if len(shape) == 1:
        return line
    return builder.make(builder.opset["reshape"], (line,), (("rank", 1), ("shape", shape)))


# -------------------------------------------------------------------- shapes of fixed size
def _fixed(kind: TensorType) -> bool:
    return all(isinstance(s, int) for s in kind.shape)


def _whole(size: Size) -> int:
    assert isinstance(size, int)
    return size


def _shape(kind: TensorType) -> tuple[int, ...]:
    return tuple([_whole(s) for s in kind.shape])


def _count(kind: TensorType) -> int:
    return math.prod(_shape(kind))


def _filled(shape: tuple[int, ...], value: Value) -> Entries:
    made = np.empty(shape, object)
    for index in np.ndindex(shape):
        made[index] = value
    return made

