"""Values, and Functions: named parameters, instructions in order, results. Immutable SSA.

A `Value` is one instruction together with its result. Values made by one builder are hash-consed, so within a Function
equal subterms are one value. A `Function` lists its instructions operands first; every walk here is a loop over that
list or an explicit stack, so depth is no limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ArgumentError
from symdiff.ir.dims import Dim, Size, size_names
from symdiff.ir.op import NoDerivative, Op
from symdiff.ir.types import TensorType

AttrItems: TypeAlias = "tuple[tuple[str, Any], ...]"


class ArrayConstant:
    """A frozen array as an attribute: hashable, compared by dtype, shape and bytes."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: Any) -> None:
        frozen = np.array(array, order="C", copy=True)
        frozen = frozen.astype(frozen.dtype.newbyteorder("="), copy=False)
        frozen.setflags(write=False)
        self.array = frozen
        self._hash = hash((frozen.dtype.str, frozen.shape, frozen.tobytes()))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ArrayConstant)
            and self.array.dtype == other.array.dtype
            and self.array.shape == other.array.shape
            and self.array.tobytes() == other.array.tobytes()
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"ArrayConstant({self.array!r})"


_BIRTHS = itertools.count()


class Value:
    """One instruction and its result: op, operands, attributes (sorted by name), type. Pure data.

    `born` counts values as they are made: none depends on one that was made after it.
    """

    __slots__ = ("__weakref__", "args", "attrs", "born", "op", "type")

    def __init__(self, op: Op, args: tuple[Value, ...], attrs: AttrItems, kind: TensorType) -> None:
        self.op = op
        self.args = args
        self.attrs = attrs
        self.type = kind
        self.born = next(_BIRTHS)

    def attr(self, name: str, default: Any = None) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        return default

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape

    @property
    def is_param(self) -> bool:
        return self.op is PARAM

    @property
    def name(self) -> str:
        """The name of a parameter."""
        return self.attr("name", "")

    def __repr__(self) -> str:
        names = ", ".join(f"{k}={v}" for k, v in self.attrs)
        return f"<{self.op.name} {self.type}{' ' + names if names else ''}>"


def _no_infer(types: Sequence[TensorType], attrs: dict[str, Any]) -> TensorType:
    raise ArgumentError("a parameter's type is given, not inferred")


def _no_evaluate(**attrs: Any) -> Any:
    raise ArgumentError(f"parameter {attrs.get('name')} has no value of its own")


def loop_key(value: Value) -> tuple[Any, ...]:
    """What instructions have in common that are results of one evaluation (see `Op.picks`)."""
    return value.op, value.args, tuple([item for item in value.attrs if item[0] != "pick"])


# The one op that ir itself knows: a parameter, made by `param`.
PARAM = Op("param", _no_infer, _no_evaluate, NoDerivative("a parameter is a variable"), arity=0)


def param(name: str, kind: TensorType) -> Value:
    """A new parameter. Two parameters are the same variable when name and type agree (builders intern them)."""
    return Value(PARAM, (), (("name", name),), kind)


def topological(results: Iterable[Value], since: int = 0) -> list[Value]:
    """Every value the results need, operands first, in a deterministic order (depth first, left to right).

    since: values born before that are left out, and nothing behind them is looked at.
    """
    order: list[Value] = []
    done: set[Value] = set()
    # The values on the way from a result to the operand being looked at, and what is left of the operands of each.
    way: list[Value] = []
    left: list[Iterator[Value]] = [iter(results)]
    while left:
        for value in left[-1]:
            if value in done or value.born < since:
                continue
            if value.args:
                way.append(value)
                left.append(iter(value.args))
                break
            done.add(value)
            order.append(value)
        else:
            left.pop()
            if way:
                value = way.pop()
                done.add(value)
                order.append(value)
    return order


def leaves_read(results: Sequence[Value], leaves: Sequence[Value]) -> list[set[int]]:
    """For every result the places of the leaves that it depends on, all in one walk."""
    masks = {leaf: 1 << place for place, leaf in enumerate(leaves)}
    for v in topological(results):
        if v not in masks:
            mask = 0
            for a in v.args:
                mask |= masks[a]
            masks[v] = mask
    found: list[set[int]] = []
    for r in results:
        mask, own = masks[r], set[int]()
        while mask:
            own.add((mask & -mask).bit_length() - 1)
            mask &= mask - 1
        found.append(own)
    return found


class Function:
    """Parameters, instructions in order, results.

    `instrs` holds every value but the parameters. Equality is structural: same parameter names and types, same
    instructions in the same order, same results; the function's own name does not count.
    """

    __slots__ = ("_dims", "_hash", "_key", "instrs", "name", "params", "results")

    def __init__(self, name: str, params: Sequence[Value], instrs: Sequence[Value], results: Sequence[Value]) -> None:
        self.name = name
        self.params = tuple(params)
        self.instrs = tuple(instrs)
        self.results = tuple(results)
        self._key: tuple[Any, ...] | None = None
        self._hash: int | None = None
        self._dims: tuple[str, ...] | None = None

    @staticmethod
    def of(params: Sequence[Value], results: Sequence[Value], name: str = "f") -> Function:
        """The function of `params` that computes `results`. Every parameter used must be listed."""
        order = topological(results)
        listed = set(params)
        names = [p.name for p in params]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ArgumentError(f"function {name}: parameter {twice} is listed twice")
        instrs: list[Value] = []
        for value in order:
            if value.op is not PARAM:
                instrs.append(value)
            elif value not in listed:
                hint = f" (another {value.name} of type {value.type} is meant)" if value.name in names else ""
                raise ArgumentError(
                    f"function {name}: {value.name} {value.type} is used but not among the parameters "
                    f"({', '.join(names) or 'none'}){hint}"
                )
        return Function(name, params, instrs, results)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions in parameter types and attributes, in order of first appearance."""
        if self._dims is None:
            found: dict[str, None] = {}
            walked: set[int] = set()  # the results of a loop share its body
            for value in (*self.params, *self.instrs):
                for size in value.type.shape:
                    if isinstance(size, Dim):
                        found.update(dict.fromkeys(sorted(size.names)))
                for _, attribute in value.attrs:
                    if isinstance(attribute, Function):
                        if id(attribute) in walked:
                            continue
                        walked.add(id(attribute))
                    found.update(dict.fromkeys(sorted(size_names(attribute_sizes(attribute)))))
            self._dims = tuple(found)
        return self._dims

    def structure(self) -> tuple[Any, ...]:
        """A hashable key equal for structurally equal functions."""
        if self._key is None:
            index = {v: i for i, v in enumerate(self.params)}
            rows: list[Any] = [(v.name, v.type) for v in self.params]
            for value in self.instrs:
                index[value] = len(index)
                rows.append((value.op.name, tuple(index[a] for a in value.args), value.attrs, value.type))
            self._key = (tuple(rows), tuple(index[r] for r in self.results))
        return self._key

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Function) and hash(self) == hash(other)
                                 and self.structure() == other.structure())  # fmt: skip

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.structure())
        return self._hash

    def __repr__(self) -> str:
        kinds = ", ".join(f"{p.name}: {p.type}" for p in self.params)
        outs = ", ".join(str(r.type) for r in self.results)
        return f"<Function {self.name}({kinds}) -> {outs}, {len(self.instrs)} instructions>"


def attribute_sizes(attribute: Any) -> list[Dim]:
    """Every `Dim` inside an attribute, nested tuples and Functions included."""
    found: list[Dim] = []
    stack = [attribute]
    while stack:
        item = stack.pop()
        if isinstance(item, Dim):
            found.append(item)
        elif isinstance(item, tuple):
            stack.extend(item)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(item, Function):
            for body in (item, *bodies(item.instrs)):
                for value in (*body.params, *body.instrs):
                    stack.extend(value.type.shape)
                    stack.extend(v for _, v in value.attrs if not isinstance(v, Function))
    return found


def bodies(values: Iterable[Value]) -> Iterator[Function]:
    """Every Function among the attributes of values, and those inside of these, each once."""
    seen: set[int] = set()
    pending: list[Iterable[Value]] = [values]
    while pending:
        for value in pending.pop():
            for _, attribute in value.attrs:
                if isinstance(attribute, Function) and id(attribute) not in seen:
                    seen.add(id(attribute))
                    yield attribute
                    pending.append(attribute.instrs)


def instructions(values: Iterable[Value]) -> Iterator[Value]:
    """Values, and the instructions of every body they carry."""
    values = tuple(values)
    yield from values
    for body in bodies(values):
        yield from body.instrs
