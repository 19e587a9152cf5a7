"""One order for the factors and labels of a product, by structure alone.

Factors with different keys are simply sorted. Where a base occurs more than once, or a symmetric matrix could be read
either way, labels are told apart by colour refinement: the colour of a label is what its factors are and where it
stands in them, again and again; labels that stay alike are tried one after the other and the smallest reading wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from symdiff.simplify import facts
from symdiff.simplify.views import Context, Factor, Labels

# Readings tried when labels stay alike; beyond them the first is taken, which costs a missed match, never a value.
MOST_READINGS = 64

Rows: TypeAlias = "list[tuple[Any, Labels, bool]]"


def arrange(
    ctx: Context, factors: Sequence[Factor], output: Labels, free_order: bool = False
) -> tuple[tuple[Factor, ...], Labels]:
    """Factors in canonical order, symmetric ones read in canonical order too.

    free_order: the output is a set of labels, and its order is chosen here.
    """
    keys = [(ctx.key(f.base), str(f.power)) for f in factors]
    symmetric = [f.base.type.rank == 2 and f.labels[0] != f.labels[1] and facts.symmetric(ctx, f.base) for f in factors]
    order = sorted(range(len(factors)), key=lambda i: keys[i])
    plain = len(set(keys)) == len(keys)
    if plain and not free_order and not any(symmetric):
        return tuple([factors[i] for i in order]), output
    if len(factors) == 1 and not symmetric[0]:
        f = factors[0]
        return (f,), tuple(sorted(output, key=f.labels.index)) if free_order else output
    rows: Rows = [(keys[i], factors[i].labels, symmetric[i]) for i in range(len(factors))]
    rank = _ranks(rows, output, free_order)
    arranged: list[Factor] = []
    for i in sorted(range(len(rows)), key=lambda i: (keys[i], [rank[x] for x in factors[i].labels])):
        labels = factors[i].labels
        if symmetric[i] and rank[labels[0]] > rank[labels[1]]:
            labels = labels[::-1]
        arranged.append(factors[i]._replace(labels=labels))
    if free_order:
        output = _natural(arranged, output)
    return tuple(arranged), output


def _natural(factors: Sequence[Factor], output: Labels) -> Labels:
    """Output labels in the order that a chain of matrix products reads: fewest transposes, else first appearance."""
    first = tuple(
        sorted(output, key=lambda x: next((i, f.labels.index(x)) for i, f in enumerate(factors) if x in f.labels))
    )
    if len(output) != 2:
        return first
    forward = sum(_direction(f, first, factors) for f in factors)
    return first[::-1] if forward < 0 else first


def _direction(factor: Factor, ends: Labels, factors: Sequence[Factor]) -> int:
    """+1 when a matrix starts at the first end or stops at the last, -1 when the other way round."""
    if len(factor.labels) != 2:
        return 0
    a, b = factor.labels
    return (a == ends[0]) + (b == ends[1]) - (b == ends[0]) - (a == ends[1])


def _ranks(rows: Rows, output: Labels, free_order: bool) -> dict[int, int]:
    """A number for every label, different for different labels, by structure."""
    labels = list(dict.fromkeys(x for _, own, _ in rows for x in own))
    place: dict[int, Any] = dict.fromkeys(labels, (2, ()))
    for x in labels:
        if x in output:
            place[x] = (0, ()) if free_order else (1, tuple([i for i, y in enumerate(output) if y == x]))
    best: list[Any] = []
    budget = [MOST_READINGS]
    stack = [_refined(rows, _compressed(place))]
    while stack:
        colours = stack.pop()
        counts: dict[int, list[int]] = {}
        for x, c in colours.items():
            counts.setdefault(c, []).append(x)
        open_class = next((counts[c] for c in sorted(counts) if len(counts[c]) > 1), None)
        if open_class is None or budget[0] <= 0:
            if open_class is not None:
                colours = {x: i for i, x in enumerate(sorted(colours, key=lambda x: colours[x]))}
            reading = sorted(
                (key, tuple([colours[x] for x in (sorted(own, key=colours.__getitem__) if s else own)]))
                for key, own, s in rows
            )
            if not best or reading < best[0]:
                best = [reading, colours]
            budget[0] -= 1
            continue
        for x in reversed(open_class):
            stack.append(
                _refined(
                    rows, _compressed({y: (c, y != x) if c == colours[x] else (c, False) for y, c in colours.items()})
                )
            )
    return best[1]


def _compressed(colours: dict[int, Any]) -> dict[int, int]:
    ranks = {c: i for i, c in enumerate(sorted(set(colours.values())))}
    return {x: ranks[c] for x, c in colours.items()}


def _refined(rows: Rows, colours: dict[int, int]) -> dict[int, int]:
    """Split classes of labels by the factors they stand in until nothing splits."""
    classes = len(set(colours.values()))
    while True:
        seen: dict[int, list[Any]] = {x: [] for x in colours}
        for key, own, symmetric in rows:
            around = tuple([colours[x] for x in own])
            signature = (key, tuple(sorted(around)) if symmetric else around)
            for axis, x in enumerate(own):
                seen[x].append((signature, -1 if symmetric else axis))
        colours = _compressed({x: (c, tuple(sorted(seen[x]))) for x, c in colours.items()})
        count = len(set(colours.values()))
        if count == classes:
            return colours
        classes = count


def tensor_order(ctx: Context, factor: Factor, output: Sequence[int]) -> Labels:
    """The order of axes in which a sum beyond matrices reads best: that of the result, or of a tensor in it."""
    labels = factor.labels
    if len(set(labels)) < len(labels):
        return labels
    if set(labels) <= set(output):
        return tuple(sorted(labels, key=list(output).index))
    found: list[Labels] = []
    for _, term in ctx.terms(factor.base):
        view = ctx.view(term)
        if len(view.factors) == 1 and set(view.factors[0].labels) == set(view.output) and view.distinct:
            places = dict(zip(view.output, labels, strict=True))
            own = view.factors[0].labels
            found.append(tuple([places[x] for x in own]) if len(own) == len(labels) else labels)
    # A tensor beside its own transpose stands in one order or the other: what is in some order stays.
    return found[0] if found and labels not in found else labels
