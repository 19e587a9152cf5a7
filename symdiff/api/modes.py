"""Which mode of differentiation is cheapest: `mode="auto"`.

The Jacobian is derived by every mode and priced by predicted time, on a typical core so that a formula does not depend
on the machine it is derived on, at the sizes given or at representative ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from symdiff.api.native import typical_seconds
from symdiff.diff import Mode, jacobians, representative
from symdiff.ir.builder import Builder
from symdiff.ir.dims import product
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.path import nominal
from symdiff.ops import OPSET
from symdiff.simplify import optimize, stabilized

PRICED: Final = 200
"""Instructions up to which every mode is derived; longer programs are swept in the direction with fewer seeds."""
_CLEAR: Final = 0.95
"""Elimination must be predicted to take at most this part of the better sweep's time: its programs are longer to read
and predictions are not that sharp."""

_LEVEL: Final = 1.03
"""Sweeps predicted to differ by less are level: the one with fewer seeds is taken."""


class Chosen(NamedTuple):
    """A mode and, where it was derived to be priced, the Jacobian in every variable as it fell out of the rules."""

    mode: Mode
    derived: Function | None = None


def cheapest_mode(
    y: Value, xs: Sequence[Value], points: Sequence[Mapping[str, int]] | None = None
) -> Chosen:
    """The mode for the Jacobian of y in all of xs. A gradient is pulled back: it costs a small multiple of its
    function at any size, as nothing else does (Baur and Strassen 1983)."""
    out, into = _seeds([y]), _seeds(xs)
    swept: Mode = "forward" if into == 1 < out else "reverse"
    if not y.type.rank or not y.type.floating or not all(x.type.floating for x in xs):
        return Chosen(swept)
    if len(topological([y])) > PRICED:
        return Chosen(fewer_seeds([y], xs))
    prices: dict[Mode, float] = {}
    derived: dict[Mode, Function] = {}
    params = [v for v in topological([y, *xs]) if v.is_param]
    modes: tuple[Mode, ...] = ("reverse", "forward", "elimination")
    for mode in modes:
        builder = Builder(OPSET)
        mapping = builder.absorb([y, *xs, *params])
        mapping = stabilized(builder, mapping, xs)
        found = jacobians(builder, [mapping[y]], [mapping[x] for x in xs], mode, points)[0]
        derived[mode] = Function.of([mapping[p] for p in params], found)
        program = optimize(derived[mode], OPSET)
        at = typical_seconds(program)
        given = points or representative(program.dims)
        named = [{**representative(program.dims)[0], **point} for point in given]
        prices[mode] = sum(math.log(max(at(point), 1e-12)) for point in named) / len(named)
    best: Mode = "forward" if prices["forward"] < prices["reverse"] else "reverse"
    if abs(prices["forward"] - prices["reverse"]) < math.log(_LEVEL):
        best = fewer_seeds([y], xs)
    if prices["elimination"] < prices[best] + math.log(_CLEAR):
        best = "elimination"
    return Chosen(best, derived[best])


def fewer_seeds(ys: Sequence[Value], xs: Sequence[Value]) -> Mode:
    """The direction of the sweep with fewer seeds."""
    return "forward" if _seeds(xs) < _seeds(ys) else "reverse"


def _seeds(values: Sequence[Value]) -> float:
    return sum(nominal(product(v.shape)) for v in values)
