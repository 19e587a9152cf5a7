"""Undefined functions: a paper's generic activation f or loss L, which differentiate and print but have no values."""

from __future__ import annotations

from typing import Any

from symdiff.errors import ArgumentError
from symdiff.frontend.expr import Expr, as_expr, broadcast_exprs


class UndefinedFunction:
    """A function known by name only. Call it on symbolic arrays.

    An elementwise function acts entry by entry on broadcast operands and differentiates to f', f''; a scalar one takes
    whole tensors to a number and differentiates to dL/dY, in the shape of Y.
    """

    def __init__(self, name: str, scalar: bool = False) -> None:
        if not isinstance(name, str) or not name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"function name {name!r}: expected an identifier such as f or loss")
        self.name = name
        self.scalar = scalar

    def __call__(self, *operands: Any) -> Any:
        symbolic = next((o for o in operands if isinstance(o, Expr)), None)
        if symbolic is None:
            raise ArgumentError(f"{self.name}: no symbolic operand among {operands!r}")
        exprs = [as_expr(o, symbolic) for o in operands]
        if self.scalar:
            return symbolic.apply("functional", *exprs, name=self.name, wrt=())
        return symbolic.apply("apply", *broadcast_exprs(exprs), name=self.name, wrt=())

    def __repr__(self) -> str:
        return f"<undefined {'scalar ' if self.scalar else ''}function {self.name}>"


