"""SymPy expressions to symbolic arrays (the way back is `sympy_out`).

Takes scalars, dense matrices and arrays, and matrix expressions with symbolic sizes; gives an expression over symbols
of the same names. Assumptions become facts, symbols that occur in shapes become dimensions, `Function("f")` an
undefined function. The tree is walked with an explicit stack; what has no meaning here is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.expr import Expr, constant, symbol
from symdiff.frontend.sympy_nodes import children_of, handler_of, operands_of, size_of
from symdiff.frontend.sympy_out import to_sympy
from symdiff.ir.dims import Size, format_shape, named, size_names
from symdiff.later import later

sp = later("sympy")


def from_sympy(expr: Any, symbols: Mapping[str, Any] | None = None) -> Any:
    """A SymPy expression as a symbolic array.

    symbols: name -> expression to stand for a SymPy symbol; a scalar symbol may stand for an array (the function is
    then applied entry by entry), a column matrix for a vector. Symbols without an entry are made: scalars of shape (),
    matrices of their shape.
    """
    try:
        # Strict: SymPy would run a text as Python code.
        tree = sp.sympify(expr, strict=True)
    except sp.SympifyError as error:
        raise ArgumentError(f"from_sympy: given {expr!r}, expected a SymPy expression (sd.parse reads text)") from error
    return _Reader(symbols or {}).read(tree)


class _Reader:
    """Turns SymPy nodes into values, operands first."""

    def __init__(self, symbols: Mapping[str, Any]) -> None:
        self.symbols = symbols
        self.sizes: set[Any] = set()
        shapes = [s.value.type.shape for s in symbols.values() if isinstance(s, Expr)]
        self.dims = {name for shape in shapes for name in size_names(shape)} - set(symbols)
        # The SymPy object of every name met: two different ones of one name cannot both be the symbol.
        self.names: dict[str, Any] = {}

    def read(self, tree: Any) -> Any:
        self.sizes = _size_symbols(tree)
        done: dict[int, Any] = {}
        # Operand lists made on the way must live as long as their ids are in use.
        kept: dict[int, tuple[Any, list[Any]]] = {}
        stack = [tree]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            if id(node) not in kept:
                handler_of(node)  # refuse what the node is before what it is made of
                kept[id(node)] = (node, operands_of(node))
            operands = kept[id(node)][1]
            missing = [o for o in operands if id(o) not in done]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            done[id(node)] = handler_of(node)(self, node, [done[id(o)] for o in operands])
        result = done[id(tree)]
        return result if isinstance(result, Expr) else constant(result)

    def nested(self, tree: Any, symbols: Mapping[str, Any]) -> Any:
        """Another tree, with more symbols given."""
        return _Reader({**self.symbols, **symbols}).read(tree)

    # ---------------------------------------------------------------- symbols
    def named(self, node: Any, name: str) -> Any:
        """The expression given for `name`; None when one is to be made."""
        known = self.names.setdefault(name, node)
        if known != node:
            raise ArgumentError(
                f"from_sympy: two different symbols are called {name} (their assumptions or shapes differ); rename one"
            )
        return self.symbols.get(name)

    def scalar(self, node: Any) -> Any:
        if node in self.sizes or node.name in self.dims:
            return named(node.name)
        given = self.named(node, node.name)
        return symbol(node.name, (), **_facts(node)) if given is None else given

    def matrix(self, node: Any) -> Any:
        shape = tuple(size_of(s) for s in node.shape)
        given = self.named(node, node.name)
        if given is None:
            return symbol(node.name, shape)
        return _in_shape(given, shape, node.name)

    def indexed_base(self, node: Any, shape: Sequence[Any]) -> Any:
        name = str(node.label)
        sizes = tuple(size_of(s) for s in shape)
        given = self.named(node, name)
        return symbol(name, sizes, **_facts(node)) if given is None else _in_shape(given, sizes, name)


def _in_shape(given: Any, shape: tuple[Size, ...], name: str) -> Any:
    own = tuple(given.value.type.shape)
    if own == shape:
        return given
    if len(shape) == 2 and shape == (*own, 1):
        return given[:, None]
    raise ShapeError(
        f"from_sympy: {name} has shape {format_shape(shape)} in SymPy, the symbol given for it {format_shape(own)}"
    )


def _facts(node: Any) -> dict[str, bool]:
    if node.is_positive:
        return {"positive": True}
    return {"nonnegative": bool(node.is_nonnegative), "nonzero": bool(node.is_nonzero) and not node.is_nonnegative}


def _size_symbols(tree: Any) -> set[Any]:
    """Symbols that occur in shapes."""
    found: set[Any] = set()
    seen: set[int] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        # Expressions derive their shape from these leaves.
        if isinstance(node, (sp.MatrixSymbol, sp.Identity, sp.ZeroMatrix, sp.OneMatrix)):
            found.update(s for size in node.shape for s in size.free_symbols)
        elif isinstance(node, sp.Indexed):
            found.update(s for size in node.shape for s in sp.sympify(size).free_symbols)
        stack.extend(children_of(node))
    return found

__all__ = ["from_sympy", "to_sympy"]
