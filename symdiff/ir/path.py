"""The order in which an n-ary contraction multiplies its operands: stated once, for counting and for running alike.

Takes a `Spec` and the size of every label, gives pairwise steps. The rule, deterministic and the same for every size
of the named dimensions, which count as `NOMINAL` each when products are compared:

1. A label that only one operand has, and the output has not, is summed inside that operand first.
2. While two operands are left, the pair with the smallest index space (the product of the sizes of all labels of
   both) is multiplied; among equals the one with the smallest result, then the first. Labels that neither another
   operand nor the output has are summed at once. The product takes the first operand's place.

A step over an index space of S points with R results makes S multiplications and S - R additions; a sum inside one
operand makes S - R additions. Diagonals, transposes and repeated output labels make neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from symdiff.ir.contraction import Labels, Spec
from symdiff.ir.dims import Size, evaluate, product, size_names

NOMINAL = 100


@dataclass(frozen=True, slots=True)
class Step:
    """Operand `left` times operand `right` (or `left` alone, summed, when `right` is None) becomes operand `left`.

    `space` are the labels looped over, `result` those that stay; both without repeats, in order of first appearance.
    """

    left: int
    right: int | None
    space: Labels
    result: Labels


def nominal(size: Size) -> int:
    """A number to compare sizes by: every named dimension counts as `NOMINAL`."""
    return size if isinstance(size, int) else evaluate(size, dict.fromkeys(size_names([size]), NOMINAL))


def pairwise(spec: Spec, sizes: Mapping[int, Size]) -> list[Step]:
    """The steps of a contraction; empty when nothing is multiplied or summed. Operands keep their first numbers."""
    weight = {label: nominal(size) for label, size in sizes.items()}
    left = {i: tuple(dict.fromkeys(labels)) for i, labels in enumerate(spec.operands)}
    kept = set(spec.output)
    steps: list[Step] = []
    for i, labels in left.items():
        others = {x for j, word in left.items() if j != i for x in word} | kept
        result = tuple(x for x in labels if x in others)
        if len(result) < len(labels):
            steps.append(Step(i, None, labels, result))
            left[i] = result
    while len(left) > 1:
        step = _cheapest(left, kept, weight)
        assert step.right is not None
        left[step.left] = step.result
        del left[step.right]
        steps.append(step)
    return steps


def _cheapest(left: Mapping[int, Labels], kept: set[int], weight: Mapping[int, int]) -> Step:
    uses: dict[int, int] = {}
    for labels in left.values():
        for label in labels:
            uses[label] = uses.get(label, 0) + 1
    best: tuple[tuple[int, int], Step] | None = None
    numbers = list(left)
    for at, i in enumerate(numbers):
        for j in numbers[at + 1 :]:
            space = tuple(dict.fromkeys((*left[i], *left[j])))
            result = tuple(
                x for x in space if x in kept or uses[x] > (x in left[i]) + (x in left[j])
            )
            key = (_space(space, weight), _space(result, weight))
            if best is None or key < best[0]:
                best = (key, Step(i, j, space, result))
    assert best is not None
    return best[1]


def _space(labels: Labels, weight: Mapping[int, int]) -> int:
    size = product(weight[x] for x in labels)
    assert isinstance(size, int)
    return size
