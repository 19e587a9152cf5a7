"""Factors that several terms of a sum have in common: what is the same, and where its axes go in each.

Takes the products that terms are; gives sets of occurrences, the most promising first. `symdiff.simplify.choose` takes
them out and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.defined import harmless, is_indicator
from symdiff.simplify.pointwise import negated
from symdiff.simplify.size import size
from symdiff.simplify.views import Context, Factor, Product

# Common factors costed per step.
MOST_CANDIDATES = 6


class Place(NamedTuple):
    """One occurrence of a possible common factor: the term, its number among the factors there, the factor, where its
    axes go."""

    term: int
    number: int
    factor: Factor
    axes: tuple[Any, ...]


def common_factors(ctx: Context, views: Sequence[Product]) -> list[list[Place]]:
    """Sets of occurrences of one factor in several terms, the most promising first."""
    exact: dict[Any, list[Place]] = {}
    loose: dict[Any, list[Place]] = {}
    for term, view in enumerate(views):
        for number, f in enumerate(view.factors):
            axes = tuple([_axis(view, f, x) for x in f.labels])
            if len(axes) == 2 and facts.symmetric(ctx, f.base) and str(axes[0]) > str(axes[1]):
                axes = axes[::-1]
                f = f._replace(labels=f.labels[::-1])
            place = Place(term, number, f, axes)
            exact.setdefault((f.base, f.power > 0, axes), []).append(place)
            loose.setdefault((f.base, f.power > 0), []).append(place)
    groups = [_one_per_term(places) for places in exact.values()]
    for places in loose.values():
        if len({p.axes for p in places}) > 1:
            groups += _coerced(places)
    groups = [g for g in groups if len(g) > 1]
    weight = {id(g): (len(g) - 1) * (size(ctx, g[0].factor.base) + 1) for g in groups}
    groups.sort(key=lambda g: (-weight[id(g)], ctx.key(g[0].factor.base)))
    return groups[:MOST_CANDIDATES]


def _axis(view: Product, factor: Factor, label: int) -> Any:
    """Where an axis goes: places in the output, or "s" for a sum."""
    places = tuple([k for k, x in enumerate(view.output) if x == label])
    return places or "s"


def _one_per_term(places: Sequence[Place]) -> list[Place]:
    found: dict[int, Place] = {}
    for p in places:
        found.setdefault(p.term, p)
    return list(found.values())


def _coerced(places: Sequence[Place]) -> list[list[Place]]:
    """Occurrences whose axes differ only in that some are summed: the others get a Kronecker delta."""
    groups: list[list[Place]] = []
    for target in dict.fromkeys(p.axes for p in places):
        if "s" not in target:
            continue
        fitting = [
            p._replace(axes=target) for p in places if all(t in ("s", a) for t, a in zip(target, p.axes, strict=True))
        ]
        groups.append(_one_per_term(fitting))
    return groups


def unguarded(ctx: Context, places: Sequence[Place], views: Sequence[Product]) -> bool:
    """Whether a common factor can leave the reach of the indicators in its terms: the sum still has it everywhere, or
    it is finite where they are zero."""
    conditions: list[Value] = []
    safe = True
    for p in places:
        guards = [f for f in views[p.term].factors if is_indicator(f) and f.base is not p.factor.base]
        if not guards:
            return True
        safe = safe and all(harmless(ctx, p.factor, g.base.args[0], g.labels) for g in guards)
        if len(guards) == 1:
            conditions.append(guards[0].base.args[0])
    return safe or any(negated(ctx, c) in conditions for c in conditions)
