"""The parts of a product: factors that summed labels connect, and what an indicator under a sum keeps beside it."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.simplify.defined import harmless, is_indicator
from symdiff.simplify.views import Context, Factor, Product


def masked_sum(view: Product) -> bool:
    """Whether an indicator stands under the sum: what comes beside the sum is not what it guards."""
    kept = set(view.output)
    return any(is_indicator(f) and not kept.issuperset(f.labels) for f in view.factors)


def groups_of(factors: Sequence[Factor], output: set[int]) -> list[tuple[list[Factor], bool]]:
    """Factors connected through summed labels, and whether a group has any."""
    groups: list[tuple[set[int], list[Factor]]] = []
    for f in factors:
        inner = {x for x in f.labels if x not in output}
        joined = [g for g in groups if g[0] & inner] if inner else []
        if not joined:
            groups.append((inner, [f]))
            continue
        first = joined[0]
        first[0].update(inner)
        first[1].append(f)
        for other in joined[1:]:
            first[0].update(other[0])
            first[1].extend(other[1])
            groups.remove(other)
    return [(members, bool(inner)) for inner, members in groups]


def together(ctx: Context, groups: list[tuple[list[Factor], bool]]) -> list[tuple[list[Factor], bool]]:
    """Factors that an indicator under a sum guards stay under the sum: there they are not met where all is masked."""
    for i, (members, summed) in enumerate(groups):
        guards = [f for f in members if is_indicator(f)] if summed else []
        bound = [
            k
            for k, (others, _) in enumerate(groups)
            if guards and k != i and not all(harmless(ctx, f, g.base.args[0], g.labels) for f in others for g in guards)
        ]
        if bound:
            joined = [f for k in (i, *bound) for f in groups[k][0]]
            rest = [g for k, g in enumerate(groups) if k != i and k not in bound]
            return together(ctx, [*rest, (joined, True)])
    return groups
