"""How the scalars of a kernel are used: where last, how often, which functions and products belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegen.analysis.couples import Half, couples
from codegen.ir.index import Index
from codegen.ir.loops import For, Kernel, Let, Load, Stmt, Store, Trap


@dataclass(eq=False, slots=True)
class Uses:
    """For every scalar the position of its last use, and how often it is used; positions of statements."""

    last: dict[int, int] = field(default_factory=dict[int, int])
    count: dict[int, int] = field(default_factory=dict[int, int])
    position: dict[int, int] = field(default_factory=dict[int, int])
    halves: Mapping[int, Half] = field(default_factory=dict[int, Half])
    """Functions that are computed together with another one of the same scalar."""
    fused: set[int] = field(default_factory=set[int])
    """Products that are only used in one sum, with which they are rounded together."""


def uses_of(kernel: Kernel) -> Uses:
    """The uses of every scalar, in one walk."""
    uses = Uses()
    last, count, position = uses.last, uses.count, uses.position
    clock = 0
    lets: list[tuple[int, Let]] = []

    def use(name: int) -> None:
        last[name] = clock
        count[name] = count.get(name, 0) + 1

    def use_index(index: Sequence[Index]) -> None:
        for one in index:
            for name, _ in one.terms:
                if name[0] == "%":
                    use(int(name[1:]))

    stack: list[tuple[For | None, int, list[Stmt]]] = [(None, 0, kernel.body)]
    while stack:
        loop, at, body = stack.pop()
        while at < len(body):
            stmt = body[at]
            at += 1
            clock += 1
            position[id(stmt)] = clock
            if isinstance(stmt, Let):
                args, op = stmt.args, stmt.op
                for arg in args:
                    last[arg] = clock
                    count[arg] = count.get(arg, 0) + 1
                if op == "index":
                    use_index((stmt.attr,))
                lets.append((id(body), stmt))
            elif isinstance(stmt, Load):
                use_index(stmt.index)
            elif isinstance(stmt, Store):
                use(stmt.value)
                use_index(stmt.index)
            elif isinstance(stmt, Trap):
                use(stmt.cond)
            elif isinstance(stmt, For):
                for carry in stmt.carries:
                    if carry.start >= 0:
                        use(carry.start)
                if stmt.among:
                    use(stmt.among[1])
                stack.append((loop, at, body))
                loop, at, body = stmt, 0, stmt.body
        clock += 1
        if loop is not None:
            for carry in loop.carries:
                use(carry.value)
    uses.fused = _fused(kernel, uses)
    uses.halves = couples(lets)
    return uses


def _fused(kernel: Kernel, uses: Uses) -> set[int]:
    """Products to round together with the sum they are used in, those that a loop adds up too."""
    found: set[int] = set()
    bodies: list[tuple[For | None, list[Stmt]]] = [(None, kernel.body)]
    while bodies:
        loop, body = bodies.pop()
        # Only products of the same body: a loop is written more than once, and what stands outside is computed once.
        products = products_in_sums(body, uses.count, found)
        bodies += [(stmt, stmt.body) for stmt in body if isinstance(stmt, For)]
        if loop is not None:
            sums = [c.value for c in loop.carries if c.kind == "sum" and uses.count[c.value] == 1]
            found.update(value for value in sums if value in products)
    return found


def products_in_sums(body: Sequence[Stmt], count: Mapping[int, int], found: set[int]) -> set[int]:
    """Add the products to `found` that are used once, in a sum of this body; returns all products of the body.

    A difference of two products stays as it is: x*x - y*y is 0 where x is y.
    """
    products: set[int] = set()
    for stmt in body:
        if isinstance(stmt, Let):
            op = stmt.op
            if op == "mul":
                if stmt.dtype in ("f64", "f32"):
                    products.add(stmt.name)
            elif op in ("add", "sub") and stmt.dtype in ("f64", "f32"):
                a, b = stmt.args
                if b in products and count[b] == 1:
                    if op == "add" or a not in products:
                        found.add(b)
                elif a in products and count[a] == 1 and (op == "add" or b not in products):
                    found.add(a)
    return products
