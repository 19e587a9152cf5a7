"""How the scalars of a kernel are used: where last, how often, which functions and products belong together."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.index import Index
from codegen.loops import For, Kernel, Let, Load, Stmt, Store, Trap
from codegen.writer import Uses


def uses_of(kernel: Kernel) -> Uses:
    """The uses of every scalar, in one walk."""
    uses = Uses()
    clock = 0
    asked: dict[int, str] = {}

    def use(name: int) -> None:
        uses.last[name] = clock
        uses.count[name] = uses.count.get(name, 0) + 1

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
            uses.position[id(stmt)] = clock
            if isinstance(stmt, Let):
                for arg in stmt.args:
                    use(arg)
                if isinstance(stmt.attr, Index):
                    use_index((stmt.attr,))
                if stmt.op in ("sin", "cos") and asked.setdefault(stmt.args[0], stmt.op) != stmt.op:
                    uses.turned.add(stmt.args[0])
            elif isinstance(stmt, Load):
                use_index(stmt.index)
            elif isinstance(stmt, Store):
                use(stmt.value)
                use_index(stmt.index)
            elif isinstance(stmt, Trap):
                use(stmt.cond)
            elif isinstance(stmt, For):
                stack.append((loop, at, body))
                loop, at, body = stmt, 0, stmt.body
        clock += 1
        if loop is not None:
            for carry in loop.carries:
                use(carry.value)
    uses.fused = _fused(kernel, uses)
    return uses


def _fused(kernel: Kernel, uses: Uses) -> set[int]:
    """Products to round together with the sum they are used in. A difference of two products stays as it is: x*x - y*y
    is 0 where x is y."""
    found: set[int] = set()
    bodies: list[tuple[For | None, list[Stmt]]] = [(None, kernel.body)]
    while bodies:
        loop, body = bodies.pop()
        # Only products of the same body: a loop is written more than once, and what stands outside is computed once.
        products: set[int] = set()
        for stmt in body:
            if isinstance(stmt, Let) and stmt.dtype in ("f64", "f32"):
                if stmt.op == "mul":
                    products.add(stmt.name)
                elif stmt.op in ("add", "sub"):
                    factors = [a for a in stmt.args if a in products]
                    if len(factors) == 1 or stmt.op == "add":
                        found.update([a for a in factors if uses.count[a] == 1][-1:])
            elif isinstance(stmt, For):
                bodies.append((stmt, stmt.body))
        if loop is not None:
            sums = [c.value for c in loop.carries if c.kind == "sum" and uses.count[c.value] == 1]
            found.update(value for value in sums if value in products)
    return found
