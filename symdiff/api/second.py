"""Second derivatives are symmetric: of two mirrored entries one is computed.

Takes the blocks of a Jacobian of a gradient, by variable and variable; gives the same blocks of which native code may
compute the half. A derivative rule has symmetric second partials, at kinks, too, where the first ones are constants;
where they are infinite (x ** y at 0, 1) the two entries would differ, and either is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.ir.builder import Builder
from symdiff.ir.graph import Value, topological

LARGEST = 32
"""Elements of a variable up to which native code takes its Hessian apart; a larger one is computed as a whole."""


def mirrored(
    builder: Builder, rows: list[list[Value]], gradient: Sequence[Value], variables: Sequence[Value]
) -> list[list[Value]]:
    """The blocks `rows[i][j]`, the derivative of `gradient[i]` in `variables[j]`. They stay as they are where the
    gradient is that of several functions."""
    shapes = [v.shape for v in variables]
    if [g.shape for g in gradient] != shapes:
        return rows
    for number, shape in enumerate(shapes):
        if len(shape) == 1 and isinstance(shape[0], int) and 1 < shape[0] <= LARGEST:
            rows[number][number] = builder.make(builder.opset["symmetric"], (rows[number][number],))
    scalars = [number for number, shape in enumerate(shapes) if not shape]
    above = [(i, j) for i in scalars for j in scalars if i < j and rows[i][j].type == rows[j][i].type]
    if above:
        halves = [above, [(j, i) for i, j in above]]
        either = {*above, *halves[1]}
        kept = [entry for i, row in enumerate(rows) for j, entry in enumerate(row) if (i, j) not in either]
        for i, j in min(halves, key=lambda half: len(topological([*kept, *[rows[i][j] for i, j in half]]))):
            rows[j][i] = rows[i][j]
    return rows
