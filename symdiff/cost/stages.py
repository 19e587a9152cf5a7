"""Programs cut into stages, as native code runs them: what is computed inside a loop and what goes to memory.

Takes a Function; gives `Stages`: a list of `Stage` with its work by class, as polynomials, and the arrays it reads and
writes. The cut follows simple rules, close to those of the code generator but independent of it:

* elementwise operations, broadcasts, slices and other rearrangements run inside the stage that uses them; an expensive
  one is stored when several stages need it, or when it would be repeated over a larger index space;
* sums, matrix products, factorizations, running reductions and results of the program are stored;
* stages over the same index space that do not need one another are one, and read what they share once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from symdiff.cost.counts import FREE, bill_of
from symdiff.cost.memory import ITEMSIZE, storage
from symdiff.cost.poly import Poly
from symdiff.ir.contraction import Spec, label_sizes, parse_spec
from symdiff.ir.dims import Shape, Size, product
from symdiff.ir.graph import Function, Value
from symdiff.ir.path import nominal, pairwise

Work: TypeAlias = "tuple[str | tuple[str, str], Poly, float]"
"""Class of operation, how many, and the width of an element in doubles."""

FACTORS: Final = frozenset({"factor"})
_FACTORIZATIONS: Final = frozenset({"inverse", "det", "signdet", "logabsdet", "cholesky", "solve", "triangular_solve"})
_VIEWS: Final = frozenset({"slice", "gather", "embed", "tril", "triu", "concatenate"})
_PIECES: Final = frozenset({"embed", "concatenate", "gather", "tril", "triu"})
_TILE: Final = 4
_SUM: Final = 8
_DEAR: Final = 8.0
"""Weight of an inline value, in additions per element, above which it is not computed twice."""
_LOOK_BACK: Final = 16
_LONGEST: Final = 200
"""Inline operations of one value; a longer one is stored when it is used twice, so that walks stay linear."""


@dataclass(eq=False)
class Stage:
    """One loop nest or library routine. kind: loop, product or factor. rows: how often its inner loop starts anew.

    space: its iterations in all. work: operations by class. traffic: bytes of every array it reads or writes.
    """

    kind: str
    rows: Poly
    space: Poly
    work: list[Work] = field(default_factory=list[Work])
    traffic: list[Poly] = field(default_factory=list[Poly])


@dataclass(frozen=True)
class Stages:
    """The stages in order, and the bytes of every array they touch."""

    stages: tuple[Stage, ...]
    buffers: tuple[Poly, ...]


@dataclass(eq=False)
class _Open:
    """A stage while it is filled: operations already in it, arrays it already reads."""

    stage: Stage
    inside: set[Value] = field(default_factory=set[Value])
    read: set[Value] = field(default_factory=set[Value])


def stages(function: Function) -> Stages:
    """Cut a program; linear in its instructions up to a bounded factor."""
    stored = _stored(function)
    results = set(function.results)
    opened: list[_Open] = []
    by_space: dict[Shape, list[int]] = {}
    # For each value the last stage that must have run before its elements can be computed.
    after: dict[Value, int] = {}
    for value in function.instrs:
        if value.op.name in ("const", "size", "array", "iota"):
            continue
        last = max((after.get(a, -1) for a in value.args), default=-1)
        after[value] = last
        if value not in stored:
            continue
        kind, space = _kind(value)
        number = None
        if kind == "loop":
            near = by_space.setdefault(space, [])
            number = next((i for i in reversed(near[-_LOOK_BACK:]) if i > last), None)
        if number is None:
            number = len(opened)
            opened.append(_Open(Stage(kind, _rows(value, kind, space), Poly(product(space)))))
            if kind == "loop":
                by_space[space].append(number)
        _put(opened[number], value, stored)
        # A result computed element by element can be used in the same pass.
        after[value] = last if _inline(value) and value in results else number
    touched = (*function.params, *(v for v in function.instrs if v in stored and v.op.name != "reshape"))
    return Stages(tuple([o.stage for o in opened]), tuple([storage(v.type) for v in touched]))


def _inline(value: Value) -> bool:
    """Whether an operation can be computed where it is used, element by element."""
    name = value.op.name
    if name == "contract":
        return not _sums(value)
    return value.op.elementwise or name in _VIEWS or name in FREE or name in ("apply", "functional")


def _sums(value: Value) -> bool:
    return bool(_read(value)[0].summed)


def _through(value: Value) -> bool:
    """Whether a contraction that reads this array reads its factors instead: a product with a delta, of which most
    entries are zero."""
    if value.op.name != "contract":
        return False
    spec = parse_spec(value.attr("spec"))
    return not spec.summed and len(set(spec.output)) < len(spec.output)


def _read(value: Value) -> tuple[Spec, dict[int, Size]]:
    """The labels of a contraction and their sizes, operands that are products with a delta replaced by their factors:
    indices that a delta makes equal are one label."""
    spec = parse_spec(value.attr("spec"))
    sizes = label_sizes(spec, [a.shape for a in value.args], value.attr("sizes", ()))
    if not any(_through(a) for a in value.args):
        return spec, sizes
    same: dict[int, int] = {}

    def find(label: int) -> int:
        while label in same:
            label = same[label]
        return label

    words: list[tuple[int, ...]] = []
    for arg, word in zip(value.args, spec.operands, strict=True):
        if not _through(arg):
            words.append(word)
            continue
        inner = parse_spec(arg.attr("spec"))
        place: dict[int, int] = {}
        for own, label in zip(inner.output, word, strict=True):
            a, b = find(place.setdefault(own, label)), find(label)
            if a != b:
                same[max(a, b)] = min(a, b)
        words += [tuple([place[x] for x in operand]) for operand in inner.operands]
    merged = tuple([tuple([find(x) for x in word]) for word in words])
    return Spec(merged, tuple([find(x) for x in spec.output])), {find(x): s for x, s in sizes.items()}


def _stored(function: Function) -> set[Value]:
    stored = set(function.results)
    weight: dict[Value, float] = {}
    length: dict[Value, int] = {}
    users: dict[Value, int] = {}
    for value in function.instrs:
        for operand in dict.fromkeys(value.args):
            users[operand] = users.get(operand, 0) + 1
    for value in function.instrs:
        if not _inline(value):
            stored.add(value)
            _store_operands(value, weight, stored)
        elif value.op.name not in ("const", "size"):
            open_ = [a for a in value.args if a not in stored and a in weight]
            weight[value] = sum([weight[a] for a in open_]) + _own_weight(value)
            length[value] = min(sum([length[a] for a in open_]) + 1, 10 * _LONGEST)
            dear = weight[value] > _DEAR or length[value] > _LONGEST
            if dear and users.get(value, 0) > 1 and value.op.name != "reshape":
                stored.add(value)
            elif _spreads(value):
                stored.update(a for a in open_ if weight[a] > _DEAR)
        if value in stored:
            weight[value], length[value] = 0.0, 0
    return stored


def _store_operands(value: Value, weight: Mapping[Value, float], stored: set[Value]) -> None:
    """A matrix product or factorization reads arrays; another sum computes operands on the way unless they repeat."""
    kind, space = _kind(value)
    for operand in value.args:
        if operand not in weight or operand in stored or operand.op.name in ("reshape", *FREE):
            continue
        if value.op.name == "contract" and _through(operand):
            continue
        smaller = nominal(product(operand.shape)) < nominal(product(space))
        if kind != "loop" or (smaller and weight[operand] > _DEAR):
            stored.add(operand)


def _spreads(value: Value) -> bool:
    """Whether elements of an operand are read more than once."""
    if value.op.name != "contract":
        return value.op.name == "gather"
    return any(nominal(product(a.shape)) < nominal(product(value.shape)) for a in value.args)


def _own_weight(value: Value) -> float:
    if value.op.name in FREE or value.op.name in _VIEWS:
        return 0.0
    if value.op.name == "contract":
        return float(len(value.args) - 1)
    bill = bill_of(value)
    if any(isinstance(kind, tuple) for kind in bill):
        return 20.0
    return 5.0 if "divide" in bill else 1.0


# -------------------------------------------------------------------- one stage
def _kind(value: Value) -> tuple[str, Shape]:
    """What runs a stored value, and over which index space."""
    name = value.op.name
    if name in _FACTORIZATIONS:
        return "factor", value.shape
    if name != "contract":
        return "loop", value.args[0].shape if not _inline(value) and value.args else value.shape
    spec, sizes = _read(value)
    distinct = tuple(sizes[x] for x in dict.fromkeys([*spec.output, *spec.summed]))
    if not spec.summed:
        return "loop", distinct
    steps = pairwise(spec, sizes)
    if any(_is_product(spec.operands, step.space, step.result) for step in steps if step.right is not None):
        return "product", value.shape
    return "loop", distinct


def _rows(value: Value, kind: str, space: Shape) -> Poly:
    """Inner loops of a nest: one per row where it sums or broadcasts; arrays alike are run through in one loop."""
    if kind == "factor":
        order, stack = Poly(value.args[0].shape[-1]), Poly(product(value.args[0].shape[:-2]))
        return stack * order * (order - 1) / 2
    if kind != "loop" or not space:
        return Poly(1)
    if value.op.name == "contract" and _sums(value):
        widest = max(value.args, key=lambda a: nominal(product(a.shape)))
        return Poly(product(space) if not widest.shape else product(widest.shape[:-1]))
    alike = all(a.shape in ((), value.shape) for a in value.args) and value.op.name != "contract"
    return Poly(1) if alike and _inline(value) else Poly(product(space[:-1]))


def _is_product(operands: Sequence[tuple[int, ...]], space: tuple[int, ...], result: tuple[int, ...]) -> bool:
    """A matrix product sums a label, and no operand has all labels of the index space."""
    return len(result) < len(space) and not any(set(space) <= set(word) for word in operands)


def _put(open_: _Open, value: Value, stored: set[Value]) -> None:
    """Add a stored value and everything computed in place for it."""
    pending = [value]
    if value.op.name != "reshape":
        open_.stage.traffic.append(storage(value.type))
    while pending:
        current = pending.pop()
        if current in open_.inside:
            continue
        open_.inside.add(current)
        open_.stage.work.extend(_work(current))
        for operand in current.args:
            if operand.op.name in ("const", "size", "iota"):
                continue
            if operand in stored or not operand.args:
                if operand not in open_.read and operand not in open_.inside:
                    open_.read.add(operand)
                    part = current.op.name in ("slice", "gather")
                    open_.stage.traffic.append(storage(current.type if part else operand.type))
            else:
                pending.append(operand)


def _work(value: Value) -> list[Work]:
    name = value.op.name
    if name in FREE:
        return []
    scale = ITEMSIZE[value.type.dtype] / 8 if value.type.floating else 1.0
    if name == "contract":
        return [(kind, amount, scale) for kind, amount in _contraction(value)]
    bill = bill_of(value)
    if name in _FACTORIZATIONS:
        total = sum((Poly(bill.get(k, 0)) for k in ("add", "multiply")), Poly())
        return [("factor", total, scale)]
    if name in _PIECES:  # every element asks where it comes from
        return [("move", Poly(product(value.shape)), scale)]
    # What else moves inside a loop is read and written there: traffic, not work.
    return [
        (kind, Poly(amount), scale)
        for kind, amount in bill.items()
        if kind != "move" and not (isinstance(kind, tuple) and kind[0] == "special")
    ]


def _contraction(value: Value) -> list[tuple[str, Poly]]:
    spec, sizes = _read(value)
    found: list[tuple[str, Poly]] = []
    words = dict(enumerate(spec.operands))
    for step in pairwise(spec, sizes):
        space = Poly(product(sizes[x] for x in step.space))
        if step.right is None:
            found.append(("add", space))
        elif len(step.result) == len(step.space):
            found.append(("multiply", space))
        elif _is_product(spec.operands, step.space, step.result):
            padded = _padding(set(words[step.left]), set(words[step.right]), set(step.result), sizes)
            found += [("fma", space), ("pad", padded - space)]
        else:
            found.append(("dot", space))
        words[step.left] = step.result
    return found


def _padding(left: set[int], right: set[int], kept: set[int], sizes: Mapping[int, Size]) -> Poly:
    """The index space of a product of two matrices with what narrow ones waste of a register tile and short sums of
    its loads and stores."""
    total = Poly(1)
    for labels, waste in (((left & right) & kept, 0), (left - right, _TILE), (right - left, _TILE),
                          ((left & right) - kept, _SUM)):  # fmt: skip
        total = total * (Poly(product(sizes[x] for x in labels)) + waste)
    return total
