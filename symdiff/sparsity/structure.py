"""Which entries of dy/dx can differ from zero: one pass over a program at given sizes, no numbers of arguments needed.

Takes a Function, a result, one or more parameters and the sizes; gives row and column numbers of the flattened
Jacobian (C order). Every instruction maps the index sets of its operands (which elements of x an element depends on)
to those of its result: ops that move elements move set numbers, elementwise ops unite, reductions and linear algebra
unite whole blocks. Integers and booleans carry no derivative.

Promises a superset: every entry that is not zero for some arguments is in the pattern. Index arrays and conditions are
used where they are constants or given by the caller, else every element along the axis counts. Loops are followed step
by step, long ones with all steps taken together (`symdiff.sparsity.loops`). Time and memory are
linear in the elements of the program's values and the non-zeros on the way.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError
from symdiff.ir.builder import Builder
from symdiff.ir.contraction import label_sizes, parse_spec
from symdiff.ir.dims import evaluate, product
from symdiff.ir.graph import AttrItems, Function, Value, loop_key, topological
from symdiff.ir.loop import Loop
from symdiff.ir.op import Op, Partials
from symdiff.ir.run import resolve
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.ops.helpers import undefined
from symdiff.sparsity import joins, loops
from symdiff.sparsity.sets import LIMIT, Numbers, Pool, refuse_beyond_limit

# Ops that put elements elsewhere and fill with zeros: their meaning on set numbers is their meaning on numbers.
_MOVES = frozenset({"slice", "embed", "reshape", "concatenate", "tril", "triu", "symmetric"})
# Unions over `axes` or `axis`, which leave the shape or stay.
_BLOCKS = frozenset(
    {"reduce_max", "reduce_min", "logsumexp", "norm", "softmax", "reduce_prod", "prod_others"}
)
# Unions over the last two axes.
_MATRICES = frozenset({"inverse", "det", "logabsdet", "signdet", "cholesky"})
# Elementwise ops whose result is zero where an operand is (any of them, the first, all of them).
_ZERO_ANY, _ZERO_FIRST, _ZERO_ALL = frozenset({"mul"}), frozenset({"neg", "cast", "div"}), frozenset({"add", "sub"})
# Constants that are multiplied are looked at for zeros up to this size.
_LOOKED_AT = 1 << 26
# Dead sets are dropped when so many runs have piled up since the last time.
_PILE = 1 << 22
# Instructions, over all steps, up to which loops are followed step by step.
_BUDGET = 20_000


def pattern(
    function: Function,
    y_index: int,
    x_index: int | Sequence[int],
    sizes: Mapping[str, int],
    known: Mapping[str, Any] | None = None,
) -> tuple[Numbers, Numbers]:
    """Rows and columns of the structural non-zeros of d results[y_index] / d params[x_index], sorted by row.

    x_index: several parameters stand side by side, their elements one after the other. sizes: of every dimension.
    known: integer and boolean arguments by parameter name; what is indexed by others counts as full.

    >>> # rows, columns = pattern(function, 0, 0, {"n": 100000})
    """
    chosen = [x_index] if isinstance(x_index, int) else list(x_index)
    sweep = _Sweep.of(function, chosen, sizes, known or {})
    result = function.results[y_index]
    (numbers,) = sweep.run(topological([result]), [result])
    if numbers is None:
        empty = np.zeros(0, np.int64)
        return empty, empty.copy()
    flat = numbers.ravel()
    lengths = sweep.pool.lengths(flat)
    refuse_beyond_limit(int(lengths.sum()))
    return np.repeat(np.arange(len(flat)), lengths), np.array(sweep.pool.rows(flat)[1])


@functools.lru_cache(maxsize=1024)
def _flat_operands(op: Op, count: int, attrs: AttrItems) -> tuple[bool, ...]:
    """Per operand of an elementwise op, whether its partial derivative is declared to be exactly 0."""
    rule = op.rule
    if not isinstance(rule, Partials):
        return (False,) * count
    builder = Builder(OPSET)
    dtypes = ["bool" if op.name == "select" and i == 0 else "f64" for i in range(count)]
    xs = [builder.handle(builder.param(f"x{i}", TensorType(d, ()))) for i, d in enumerate(dtypes)]
    y = builder.handle(builder.make(op, tuple([x.value for x in xs]), attrs))
    if y.value.op is not op:
        return (False,) * count
    return tuple([isinstance(p, int) and p == 0 for p in rule.partials(y, *xs, **dict(attrs))])


class _Sweep:
    """Set numbers of the values of one program, or of one step of a loop in it (`outer`)."""

    def __init__(self, sizes: Mapping[str, int], pool: Pool, budget: int, outer: _Sweep | None = None) -> None:
        self.sizes, self.pool, self.outer, self.budget = sizes, pool, outer, budget
        self.numbers: dict[Value, Numbers] = {}
        self.masks: dict[Value, Numbers] = {}  # elements that may differ from zero, absent: all
        self.values: dict[Value, Any] = {}  # arrays of what is known without the floating arguments
        self.static: set[Value] = set()
        self.held: list[list[Numbers | None]] = []
        self.loops: dict[Any, list[Value]] = {}  # picks, by loop

    @staticmethod
    def of(
        function: Function, chosen: Sequence[int], sizes: Mapping[str, int], known: Mapping[str, Any]
    ) -> _Sweep:  # fmt: skip
        """A sweep in which elements of the chosen parameters are the columns."""
        counts = [evaluate(product(function.params[i].type.shape), sizes) for i in chosen]
        sweep = _Sweep(sizes, Pool(sum(counts)), _BUDGET)
        first = 0
        for i, count in zip(chosen, counts, strict=True):
            x = function.params[i]
            if not x.type.floating:
                raise ArgumentError(f"sparsity: variable {x.name} has dtype {x.type.dtype}, expected floats")
            sweep.numbers[x] = sweep.pool.singles(count, first).reshape(sweep.shape(x))
            first += count
        for p in function.params:
            if p.name in known and not p.type.floating:
                sweep.static.add(p)
                sweep.values[p] = np.asarray(known[p.name])
        return sweep

    def inside(self, steps: int) -> _Sweep:
        return _Sweep(self.sizes, self.pool, self.budget // max(steps, 1), self)

    def shape(self, value: Value) -> tuple[int, ...]:
        return tuple([evaluate(s, self.sizes) for s in value.type.shape])

    def _count(self, value: Value) -> int:
        return evaluate(product(value.type.shape), self.sizes)

    def _attrs(self, value: Value) -> dict[str, Any]:
        return {k: resolve(v, self.sizes) for k, v in value.attrs}

    def run(self, order: Sequence[Value], results: Sequence[Value]) -> list[Numbers | None]:
        """Set numbers of results, None for those that depend on no variable; `order` is what they need."""
        last = {a: i for i, value in enumerate(order) for a in value.args}
        kept = set(results)
        for value in order:
            if value.op.picks:
                self.loops.setdefault(loop_key(value), []).append(value)
        filled = self.pool.filled
        for i, value in enumerate(order):
            if not value.is_param:
                self._visit(value)
            for a in dict.fromkeys(value.args):
                if last[a] == i and a not in kept:
                    self.numbers.pop(a, None)
                    self.masks.pop(a, None)
            if self.pool.filled > 2 * filled + _PILE:
                self._compact()
                filled = self.pool.filled
        return [self.numbers.get(r) for r in results]

    def through(self, loop: Loop) -> list[Numbers | None]:
        return self.run(loop.body.instrs, loop.body.results)

    def _compact(self) -> None:
        """Drop dead sets, here and in the programs around the loop that this is a step of."""
        tables: list[dict[Value, Numbers]] = []
        lists: list[list[Numbers | None]] = []
        sweep: _Sweep | None = self
        while sweep is not None:
            tables.append(sweep.numbers)
            lists += sweep.held
            sweep = sweep.outer
        live = [x for table in tables for x in table.values()] + [x for own in lists for x in own if x is not None]
        found = iter(self.pool.compact(live))
        for table in tables:
            for v in table:
                table[v] = next(found)
        for own in lists:
            own[:] = [None if x is None else next(found) for x in own]

    def _visit(self, value: Value) -> None:
        if all(a in self.static for a in value.args) and not undefined((value,)):
            self.static.add(value)
        mask = self._mask(value)
        if mask is not None:
            self.masks[value] = mask
        if value.op.picks:
            self._loop(value)
        elif value.type.floating and any(a in self.numbers for a in value.args):
            found = self._depend(value)
            if found is not None:
                self.numbers[value] = found

    def _loop(self, value: Value) -> None:
        """All picks of a loop, when the first one is met."""
        picks = [v for v in self.loops.pop(loop_key(value), ()) if v.type.floating]
        if not picks or not any(a in self.numbers for a in value.args):
            return
        loop, length = Loop.of(value), evaluate(value.attr("length"), self.sizes)
        short = not length or length * len(loop.body.instrs) <= self.budget
        # Before steps that are followed, few rounds beside them; where these are given up, all.
        some = min(loops.ROUNDS, max(2, length // 4)) if short else loops.ROUNDS
        found = loops.all_steps_at_once(self, loop, picks, some) if length else None
        if short and (found is None or loops.few(self.pool, picks, found, length)):
            self.held += [found or []]
            found = loops.step_by_step(self, loop, length, picks) or found
            self.held.pop()
            if found is None and some < loops.ROUNDS:
                found = loops.all_steps_at_once(self, loop, picks, loops.ROUNDS)
        if found is None:
            found = [self._everything(v) for v in picks]
        self.numbers.update((v, x) for v, x in zip(picks, found, strict=True) if x is not None)

    # ---------------------------------------------------------------- what is known without arguments
    def known(self, value: Value) -> Any:
        """The array of a static value, None for others."""
        if value not in self.static:
            return None
        pending = [value]
        while pending:
            v = pending[-1]
            waiting = [a for a in v.args if a not in self.values]
            if waiting and v not in self.values:
                pending += waiting
                continue
            pending.pop()
            if v not in self.values:
                self.values[v] = v.op.evaluate(*[self.values[a] for a in v.args], **self._attrs(v))
        return self.values[value]

    def _mask(self, value: Value) -> Numbers | None:
        """Elements that may differ from zero; None when that is all of them or nothing is known."""
        name = value.op.name
        mask: Numbers | None = None
        if name == "array" and value.attr("value").array.size <= _LOOKED_AT:
            mask = value.attr("value").array != 0
        elif name == "const":
            mask = np.zeros(self.shape(value), np.bool_) if value.attr("value") == 0 else None
        elif name == "cast" and value.args[0].type.dtype == "bool" and value.args[0] in self.static:
            mask = np.asarray(self.known(value.args[0])) if self._count(value) <= _LOOKED_AT else None
        elif name in _MOVES and (name in ("embed", "tril", "triu") or any(a in self.masks for a in value.args)):
            moved = [self._mask_of(a) for a in value.args]
            mask = value.op.evaluate(*moved, **self._attrs(value))
        elif name == "contract":
            mask = self._contract_mask(value)
        elif name == "scatter_add" and all(a in self.static for a in value.args[1:]):
            mask = np.zeros(self.shape(value), np.bool_)
            mask.ravel()[self._places(value)[self._mask_of(value.args[0]).ravel()]] = True
        elif value.op.elementwise and any(a in self.masks for a in value.args):
            masks = [self.masks.get(a) for a in value.args]
            if name in _ZERO_ANY:
                mask = functools.reduce(np.logical_and, [m for m in masks if m is not None])
            elif name in _ZERO_FIRST:
                mask = masks[0]
            elif name in _ZERO_ALL or name == "select":
                parts = masks[1:] if name == "select" else masks
                present = [m for m in parts if m is not None]
                mask = functools.reduce(np.logical_or, present) if len(present) == len(parts) else None
        return None if mask is None or bool(np.all(mask)) else mask

    def _mask_of(self, value: Value) -> Numbers:
        mask = self.masks.get(value)
        return np.ones(self.shape(value), np.bool_) if mask is None else mask

    def _contract_mask(self, value: Value) -> Numbers | None:
        spec = parse_spec(value.attr("spec"))
        masks = [self.masks.get(a) for a in value.args]
        repeated = len(set(spec.output)) < len(spec.output)
        if (all(m is None for m in masks) and not repeated) or self._count(value) > _LOOKED_AT:
            return None
        known = self._labels(value)
        output = tuple(dict.fromkeys(spec.output))
        mask = np.ones([known[x] for x in output], np.bool_)
        if not spec.summed:
            for own, labels in zip(masks, spec.operands, strict=True):
                if own is not None:
                    mask &= joins.aligned(*joins.diagonal(own, labels), output)
        return joins.on_diagonals(mask, output, spec.output, known)

    def _labels(self, value: Value) -> dict[int, int]:
        shapes = [self.shape(a) for a in value.args]
        found = label_sizes(parse_spec(value.attr("spec")), shapes, resolve(value.attr("sizes", ()), self.sizes))
        return {k: evaluate(v, self.sizes) for k, v in found.items()}

    # ---------------------------------------------------------------- dependence
    def _depend(self, value: Value) -> Numbers | None:
        name = value.op.name
        if value.op.elementwise:
            return self._elementwise(value)
        if name == "contract":
            operands = [self.numbers.get(a) for a in value.args]
            masks = [self.masks.get(a) for a in value.args]
            return joins.contract(self.pool, parse_spec(value.attr("spec")), operands, masks, self._labels(value))
        if name in _MOVES:
            moved = [self._of(a) for a in value.args]
            return value.op.evaluate(*moved, **self._attrs(value))
        if name == "gather":
            return self._gather(value)
        if name == "scatter_add":
            return self._scatter(value)
        if name == "cumsum":
            return self._cumsum(value)
        if name in _BLOCKS:
            x = self._of(value.args[0])
            axes = value.attr("axes", (value.attr("axis"),))
            return self.block(x, [x.ndim + a for a in axes], self.shape(value))
        if name in _MATRICES:
            x = self._of(value.args[0])
            found = self.block(x, [x.ndim - 2, x.ndim - 1], self.shape(value))
            return np.tril(found) if name == "cholesky" else found
        if name in ("solve", "triangular_solve"):
            return self._solve(value)
        return self._everything(value)

    def _of(self, value: Value) -> Numbers:
        numbers = self.numbers.get(value)
        return np.zeros(self.shape(value), np.int64) if numbers is None else numbers

    def _elementwise(self, value: Value) -> Numbers | None:
        flat = _flat_operands(value.op, len(value.args), value.attrs)
        parts = [self.numbers.get(a) if not f else None for a, f in zip(value.args, flat, strict=True)]
        if value.op.name == "select":
            condition = self.known(value.args[0])
            if condition is not None:
                return np.where(condition, self._of(value.args[1]), self._of(value.args[2]))
        total: Numbers | None = None
        for i, part in enumerate(parts):
            if part is None:
                continue
            if value.op.name == "mul" and value.args[1 - i] in self.masks:
                part = np.where(self.masks[value.args[1 - i]], part, 0)
            total = part if total is None else self.pool.union(total, part)
        return total

    def block(self, x: Numbers, axes: Sequence[int], shape: tuple[int, ...]) -> Numbers:
        """The union over `axes`, put back where the result of shape `shape` keeps them."""
        kept = [i for i in range(x.ndim) if i not in axes]
        moved = np.transpose(x, [*kept, *axes])
        length = int(np.prod(moved.shape[len(kept) :], dtype=np.int64))
        united = self.pool.merge_last(moved.reshape(*moved.shape[: len(kept)], length))
        return united if len(shape) == len(kept) else np.broadcast_to(np.expand_dims(united, tuple(axes)), shape)

    def _gather(self, value: Value) -> Numbers:
        x, axis = self._of(value.args[0]), value.attr("axis")
        indices = [self.known(a) for a in value.args[1:]]
        if all(i is not None for i in indices):
            return value.op.evaluate(x, *indices, axis=axis)
        at = x.ndim + axis
        united = self.block(x, range(at, at + len(indices)), x.shape[:at] + x.shape[at + len(indices) :])
        index_shape = self.shape(value.args[1])
        spread = np.expand_dims(united, tuple(range(at, at + len(index_shape))))
        return np.broadcast_to(spread, self.shape(value))

    def _scatter(self, value: Value) -> Numbers:
        u, axis, shape = self._of(value.args[0]), value.attr("axis"), self.shape(value)
        indices = [self.known(a) for a in value.args[1:]]
        if all(i is not None for i in indices):
            count = int(np.prod(shape, dtype=np.int64))
            return self.pool.merge(self._places(value), u.ravel(), count).reshape(shape)
        rank, sizes = len(value.args[1].type.shape), self._attrs(value)["sizes"]
        at = len(shape) + axis
        united = self.block(u, range(at, at + rank), u.shape[:at] + u.shape[at + rank :])
        return np.broadcast_to(np.expand_dims(united, tuple(range(at, at + len(sizes)))), shape)

    def _places(self, value: Value) -> Numbers:
        """Where every update of a scatter with known indices lands: what gather, the transpose, would read there."""
        shape = self.shape(value)
        count = int(np.prod(shape, dtype=np.int64))
        indices = [self.known(a) for a in value.args[1:]]
        found = OPSET["gather"].evaluate(np.arange(count).reshape(shape), *indices, axis=value.attr("axis"))
        return np.ravel(found)

    def _cumsum(self, value: Value) -> Numbers:
        x, axis, reverse = self._of(value.args[0]), value.attr("axis"), value.attr("reverse")
        total = np.moveaxis(x, axis, -1)
        total = total[..., ::-1] if reverse else total
        filled, reach = self.pool.filled, 1
        while reach < total.shape[-1]:  # every element has what the last `reach` ones have
            total = np.concatenate(
                [total[..., :reach], self.pool.union(total[..., reach:], total[..., :-reach])], axis=-1
            )
            reach *= 2
            if self.pool.filled - filled > LIMIT // 4:
                return self.block(x, [x.ndim + axis], x.shape)  # a superset is still right
        return np.moveaxis(total[..., ::-1] if reverse else total, -1, axis)

    def _solve(self, value: Value) -> Numbers | None:
        a, b = (self.numbers.get(v) for v in value.args)
        shape = self.shape(value)
        total = None if b is None else self.block(b, [len(shape) - 2], shape)
        if a is not None:
            if value.op.name == "triangular_solve":
                a = np.tril(a) if value.attr("lower") else np.triu(a)
            united = self.block(a, [a.ndim - 2, a.ndim - 1], a.shape[:-2])
            own = np.broadcast_to(united[..., None, None], shape)
            total = own if total is None else self.pool.union(total, own)
        return total

    def _everything(self, value: Value) -> Numbers:
        """An op of which nothing more is known: every element depends on every element of every operand."""
        total = np.zeros((), np.int64)
        for a in value.args:
            if a in self.numbers:
                total = self.pool.union(total, self.pool.merge_last(self.numbers[a].reshape(-1)))
        return np.broadcast_to(total, self.shape(value))
