"""Values replaced in a program, and new symbols in place of a function's arguments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from symdiff.api.expression import Expression
from symdiff.frontend.building import ARGUMENT, BUILDER
from symdiff.frontend.expr import as_expr
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Value, topological
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET


def substitute(values: Sequence[Value], replace: Mapping[Value, Value]) -> list[Value]:
    """`values` with some values replaced, rebuilt in one builder; what takes their place stays as it is, and so does
    what cannot depend on them."""
    builder = Builder(OPSET)
    made: dict[Value, Value] = {}
    for value in topological(values, min([v.born for v in replace], default=0)):
        if value in replace:
            made[value] = replace[value]
        elif value.is_param:
            made[value] = builder.adopt(value)
        else:
            made[value] = builder.remake(value, tuple([made.get(a, a) for a in value.args]))
    return [made.get(v, v) for v in values]


class Fresh:
    """New symbols in place of arguments, so that what a function closes over is not taken for its argument."""

    _count = itertools.count()

    def __init__(self, leaves: Sequence[Any], drop_axis: Sequence[bool] | None = None) -> None:
        drop = drop_axis or [False] * len(leaves)
        self.actual: list[Value] = []
        self.symbols: list[Any] = []
        for leaf, dropped in zip(leaves, drop, strict=True):
            value = as_expr(leaf).value
            shape = value.shape[1:] if dropped else value.shape
            name = f"{ARGUMENT}{next(self._count)}"
            self.symbols.append(Expression(BUILDER.param(name, TensorType(value.type.dtype, shape))))
            self.actual.append(value)

    @property
    def values(self) -> list[Value]:
        return [s.value for s in self.symbols]

    @property
    def born(self) -> int:
        """What was made before the symbols does not depend on them."""
        return min([v.born for v in self.values], default=0)

    def put_back(self, results: Sequence[Value]) -> list[Value]:
        return substitute(results, dict(zip(self.values, self.actual, strict=True)))
