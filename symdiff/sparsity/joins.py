"""The pattern of a contraction: every operand's sets summed over the labels that leave, then spread over the others.

Labels are index arithmetic: repeated ones take a diagonal, absent ones a union, new ones a broadcast. Elements of the
other operands that are zero whatever the arguments (`masks`) take part in no product, so a banded constant matrix
gives a banded pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from symdiff.ir.contraction import Labels, Spec
from symdiff.sparsity.sets import LIMIT, Numbers, Pool

Masked: TypeAlias = "tuple[Numbers, Labels]"


def contract(
    pool: Pool, spec: Spec, operands: Sequence[Numbers | None], masks: Sequence[Numbers | None], sizes: dict[int, int]
) -> Numbers:
    """Set numbers of the result. Per operand: set numbers (None: depends on nothing) and the elements that may differ
    from zero (None: all)."""
    output = tuple(dict.fromkeys(spec.output))
    shape = tuple(sizes[x] for x in output)
    distinct_masks: list[Masked | None] = [
        None if m is None else diagonal(m, labels) for m, labels in zip(masks, spec.operands, strict=True)
    ]
    total: Numbers | None = None
    for number, (labels, numbers) in enumerate(zip(spec.operands, operands, strict=True)):
        if numbers is None:
            continue
        own, own_labels = diagonal(numbers, labels)
        others = [m for i, m in enumerate(distinct_masks) if m is not None and i != number]
        own, own_labels = _restricted(pool, own, own_labels, others, output, sizes)
        own, own_labels = _summed(pool, own, own_labels, output)
        term = np.broadcast_to(aligned(own, own_labels, output), shape)
        for mask, mask_labels in others:
            if set(mask_labels) <= set(output):
                term = np.where(aligned(mask, mask_labels, output), term, 0)
        total = term if total is None else pool.union(total, term)
    assert total is not None, "called for results that depend on something"
    return on_diagonals(total, output, spec.output, sizes)


def diagonal(array: Numbers, labels: Labels) -> tuple[Numbers, Labels]:
    """Repeated labels taken once."""
    distinct = tuple(dict.fromkeys(labels))
    return (array, labels) if distinct == labels else (np.einsum(array, list(labels), list(distinct)), distinct)


def on_diagonals(array: Numbers, distinct: Labels, output: Labels, sizes: dict[int, int]) -> Numbers:
    """`array` over distinct labels written where labels of `output` repeat, zeros elsewhere."""
    if distinct == output:
        return array
    result = np.zeros([sizes[x] for x in output], array.dtype)
    grid = np.ix_(*[np.arange(sizes[x]) for x in distinct])
    result[tuple(grid[distinct.index(x)] for x in output)] = array
    return result


def aligned(array: Numbers, labels: Labels, target: Labels) -> Numbers:
    """A view with one axis per label of `target`, of size 1 where `array` has none."""
    present = [x for x in target if x in labels]
    moved = np.transpose(array, [labels.index(x) for x in present])
    sizes = dict(zip(present, moved.shape, strict=True))
    return moved.reshape([sizes.get(x, 1) for x in target])


def _summed(pool: Pool, numbers: Numbers, labels: Labels, output: Labels) -> tuple[Numbers, Labels]:
    """The union over labels that `output` lacks."""
    gone = [i for i, x in enumerate(labels) if x not in output]
    if not gone:
        return numbers, labels
    kept = [i for i, x in enumerate(labels) if x in output]
    moved = np.transpose(numbers, kept + gone)
    length = int(np.prod(moved.shape[len(kept) :]))
    flat = moved.reshape(*moved.shape[: len(kept)], length)
    return pool.merge_last(flat), tuple(labels[i] for i in kept)


def _restricted(
    pool: Pool, numbers: Numbers, labels: Labels, masks: Sequence[Masked], output: Labels, sizes: dict[int, int]
) -> tuple[Numbers, Labels]:
    """Leave out products with a zero of another operand; sums over labels shared with a mask are done here."""
    joint: Masked | None = None
    for mask, mask_labels in masks:
        gone = [i for i, x in enumerate(mask_labels) if x not in labels and x not in output]
        reduced = np.asarray(mask.any(axis=tuple(gone))) if gone else mask
        reduced_labels = tuple(x for i, x in enumerate(mask_labels) if i not in gone)
        if set(reduced_labels) <= set(labels):
            numbers = np.where(aligned(reduced, reduced_labels, labels), numbers, 0)
        elif any(x in labels and x not in output for x in reduced_labels) and joint is None:
            joint = (reduced, reduced_labels)
    if joint is None:
        return numbers, labels
    mask, mask_labels = joint
    places = dict(zip(mask_labels, np.nonzero(mask), strict=True))
    entries = len(next(iter(places.values())))
    free = tuple(x for x in labels if x not in places)
    width = int(np.prod([sizes[x] for x in free], dtype=np.int64))
    if entries * width > LIMIT // 8:
        return numbers, labels  # a superset is still right
    shared = tuple(x for x in labels if x in places)
    moved = np.transpose(numbers, [labels.index(x) for x in shared + free])
    picked = moved[tuple(places[x] for x in shared)].reshape(entries, width)
    # The group of every picked set: its place among the kept labels, those of the mask first.
    kept = tuple(x for x in mask_labels if x in output)
    kept_free = tuple(x for x in free if x in output)
    row = np.zeros(entries, np.int64)
    for x in kept:
        row = row * sizes[x] + places[x]
    column = np.zeros([1] * len(free), np.int64)
    for x in kept_free:
        at = free.index(x)
        column = column * sizes[x] + np.arange(sizes[x]).reshape([-1 if i == at else 1 for i in range(len(free))])
    column = np.broadcast_to(column, [sizes[x] for x in free]).ravel()
    shape = tuple(sizes[x] for x in kept + kept_free)
    inner = int(np.prod([sizes[x] for x in kept_free], dtype=np.int64))
    groups = row[:, None] * inner + column[None, :]
    merged = pool.merge(groups.ravel(), picked.ravel(), int(np.prod(shape, dtype=np.int64)))
    return merged.reshape(shape), kept + kept_free
