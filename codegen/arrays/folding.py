"""Scalar operations on array nodes with exact numbers and signs folded: how straight-line code stays short.

`fold(graph, node)` takes the description of a scalar operation and gives the node that computes it. What is folded:

* an exact 0 annihilates a product and vanishes in a sum, an exact 1 vanishes in a product; such numbers come from
  structure (the identity that a derivative starts from, what lies beside an embedded window);
* a sign moves out of products, quotients and sums and meets its opposite, operands of commutative operations are
  ordered, a difference is kept in one direction only: so values that differ by sign are computed once.

Beyond that nothing is assumed: no sum is reordered, no quotient becomes a product, and every result has the bits the
program asks for, but for the sign of a zero that a sum gives and for the annihilated 0 * inf.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from codegen.arrays.nodes import Graph, Node

_FLOATS = ("f64", "f32")
_ZEROS = (0, "-0.0")
_SMALL = 2**10


def number(node: Node) -> Any:
    """The exact number that fills a floating array, None when there is none."""
    if node.kind != "const" or node.dtype not in _FLOATS or isinstance(node.data, bool):
        return None
    return node.data


def scalar(graph: Graph, name: str, args: list[Node], dtype: str, attribute: Any) -> Node:
    """The node of a scalar operation on operands of one shape."""
    if name == "select":
        return _select(graph, args)
    if dtype in _FLOATS:
        if name in ("add", "sub"):
            a, b = args
            return _sum(graph, a, b if name == "add" else negated(graph, b))
        if name == "neg":
            return negated(graph, args[0])
        if name == "mul":
            return _product(graph, args[0], args[1])
        if name == "div":
            return _quotient(graph, args[0], args[1])
    return graph.scalar(name, *args, dtype=dtype, attribute=attribute)


def negated(graph: Graph, x: Node) -> Node:
    """-x."""
    value = number(x)
    if isinstance(value, (int, Fraction)):
        return graph.const(-value, x.shape, x.dtype)
    if value == "-0.0":
        return graph.const(0, x.shape, x.dtype)
    return x.args[0] if _negative(x) else graph.scalar("neg", x)


def _negative(x: Node) -> bool:
    return x.kind == "scalar" and x.data[0] == "neg" and x.dtype in _FLOATS


def _unsigned(x: Node) -> tuple[Node, bool]:
    return (x.args[0], True) if _negative(x) else (x, False)


def _whole(a: Node, b: Node) -> tuple[int, int] | None:
    """Two small whole numbers: arithmetic on them is exact in any dtype."""
    x, y = number(a), number(b)
    if isinstance(x, int) and isinstance(y, int) and abs(x) < _SMALL and abs(y) < _SMALL:
        return x, y
    return None


def _sum(graph: Graph, a: Node, b: Node) -> Node:
    if a.kind == "const" or b.kind == "const":
        both = _whole(a, b)
        if both is not None:
            return graph.const(both[0] + both[1], a.shape, a.dtype)
        for x, y in ((a, b), (b, a)):
            if number(x) in _ZEROS:
                return y
    (a, minus_a), (b, minus_b) = _unsigned(a), _unsigned(b)
    if minus_a != minus_b:
        if minus_a:
            a, b = b, a
        # a - b; kept in one direction.
        return graph.scalar("sub", a, b) if a.number <= b.number else graph.scalar("neg", graph.scalar("sub", b, a))
    total = graph.scalar("add", *sorted((a, b), key=lambda x: x.number))
    return graph.scalar("neg", total) if minus_a else total


def _product(graph: Graph, a: Node, b: Node) -> Node:
    if a.kind == "const" or b.kind == "const":
        both = _whole(a, b)
        if both is not None:
            return graph.const(both[0] * both[1], a.shape, a.dtype)
        for x, y in ((a, b), (b, a)):
            value = number(x)
            if value in _ZEROS:
                return x
            if value == 1:
                return y
            if value == -1:
                return negated(graph, y)
    (a, minus_a), (b, minus_b) = _unsigned(a), _unsigned(b)
    total = graph.scalar("mul", *sorted((a, b), key=lambda x: x.number))
    return graph.scalar("neg", total) if minus_a != minus_b else total


def _quotient(graph: Graph, a: Node, b: Node) -> Node:
    if number(a) in _ZEROS or number(b) == 1:
        return a
    if number(b) == -1:
        return negated(graph, a)
    (a, minus_a), (b, minus_b) = _unsigned(a), _unsigned(b)
    ratio = graph.scalar("div", a, b)
    return graph.scalar("neg", ratio) if minus_a != minus_b else ratio


def _select(graph: Graph, args: list[Node]) -> Node:
    condition, a, b = args
    if a is b:
        return a
    if condition.kind == "const":
        return a if condition.data else b
    return graph.scalar("select", condition, a, b, dtype=a.dtype)
