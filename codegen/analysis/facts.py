"""What is known of a loop by looking at it: what it folds, what its body costs, and how sums over it are cut.

Sums are made of stretches, so that no more than a few values are added one after the other (see
`codegen.kernels.folds`).
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir.costs import scalar_cost
from codegen.ir.loops import Call, Carry, For, Let, Load, Stmt, Store, Trap, statements

CHAINS = 2
"""Folds that run side by side in a plain loop with a short body, which would wait for each addition otherwise."""
CHAIN = 16
"""Iterations of a plain loop, for each chain, whose values are added one after the other,"""
OF_EACH = 32
"""and of a vector loop, for each partial result."""
BLOCK = 128
"""Rows that a fold over the rows of many columns takes at a time."""
WIDE_LIMIT = 14
"""Instructions of a body that is cheap enough to be written for many lanes, or several times."""
DEAR = 5
"""Instructions of at least this cost fill the pipeline by themselves."""


def in_stretches(loop: For, length: int) -> bool:
    """Whether sums over a loop are made of stretches of so many iterations."""
    if loop.step != 1 or loop.once or any(c.inside >= 0 for c in loop.carries):
        return False
    return any(map(is_rounded, loop.carries)) and not (isinstance(loop.extent, int) and loop.extent <= length)


def is_rounded(carry: Carry) -> bool:
    """Whether every step of a reduction rounds, and the sizes of the roundings can be known."""
    return carry.kind == "sum" and carry.dtype in ("f64", "f32")


def weight(body: Sequence[Stmt]) -> tuple[int, bool]:
    """How many instructions a body has, and whether one of them is a dear function."""
    length, dear = 0, False
    for stmt in statements(list(body)):
        length += 1
        dear = dear or (isinstance(stmt, Let) and scalar_cost(stmt.op) >= DEAR)
    return length, dear


def light(loop: For) -> bool:
    """Whether a plain loop is a fold that waits for its sums: `CHAINS` of them then run side by side."""
    if not loop.carries or loop.vector or loop.step != 1 or loop.once or any(c.inside >= 0 for c in loop.carries):
        return False
    length, dear = weight(loop.body)
    short = isinstance(loop.extent, int) and loop.extent <= 2 * CHAINS
    return not short and not dear and length <= WIDE_LIMIT and all(isinstance(s, (Let, Load)) for s in loop.body)


def column_fold(loop: For) -> For | None:
    """The fold over rows inside a vector loop over columns, where every total is stored and nothing else happens."""
    inner = [s for s in loop.body if isinstance(s, For)]
    if len(inner) != 1 or loop.carries or not inner[0].carries or any(c.inside >= 0 for c in inner[0].carries):
        return None
    if inner[0].within or (isinstance(inner[0].extent, int) and inner[0].extent <= BLOCK):
        return None
    totals = {c.out for c in inner[0].carries}
    stored = [s.value for s in loop.body if isinstance(s, Store) and not s.fold]
    plain = not any(isinstance(s, (Trap, Call)) for s in loop.body)
    return inner[0] if plain and len(stored) == len(totals) and set(stored) == totals else None


def row_fold(loop: For) -> For | None:
    """The fold along a row in a plain loop over rows, where it is the only loop and neither is cut."""
    inner = [s for s in loop.body if isinstance(s, For)]
    if len(inner) != 1 or loop.vector or loop.carries or loop.step != 1 or loop.once or loop.steps or loop.along:
        return None
    fold = inner[0]
    if not fold.vector or not fold.carries or fold.block or fold.within or fold.once or fold.along:
        return None
    return None if any(c.inside >= 0 for c in fold.carries) else fold
