"""What one scalar operation costs, in units of an addition."""

from __future__ import annotations

_SCALAR_COST = {
    "const": 0, "index": 0, "size": 0,
    "add": 1, "sub": 1, "mul": 1, "neg": 1, "abs": 1, "relu": 1, "maximum": 1, "minimum": 1, "clip": 2, "select": 1,
    "cast": 1, "lt": 1, "le": 1, "gt": 1, "ge": 1, "eq": 1, "ne": 1, "and": 1, "or": 1, "xor": 1, "not": 1, "sign": 2,
    "floor": 1, "ceil": 1, "round": 1, "trunc": 1, "div": 5, "sqrt": 5, "pow_int": 3, "finite_or_zero": 2,
}  # fmt: skip


def scalar_cost(name: str) -> int:
    """What one scalar operation costs; functions that are not in the table cost 20."""
    return _SCALAR_COST.get(name, 20)
