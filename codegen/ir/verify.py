"""What a well-formed program of the loop IR is: definitions before uses in their scope, ranks of accesses, loop
variables in scope, no parameter written to.

`verify` takes a `Program` and gives it back, or raises a `VerifyError` that names the kernel and the statement.
"""

from __future__ import annotations

from collections.abc import Iterator

from codegen.ir.index import Index
from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Load, Pointer, Program, Stmt, Store, Trap, heading
from symdiff.errors import VerifyError


def verify(program: Program) -> Program:
    """Return the program if it is well-formed, raise `VerifyError` otherwise. Linear in its size."""
    known = {id(b) for b in (*program.params, *program.results, *program.temps, *(b for b, _ in program.constants))}
    for kernel in program.kernels:
        _verify_kernel(kernel, known)
    return program


def _verify_kernel(kernel: Kernel, known: set[int]) -> None:
    def fail(stmt: Stmt, fault: str) -> None:
        raise VerifyError(f"kernel {kernel.name}: {fault}\n  {heading(stmt)}")

    defined: set[int] = set()
    variables: set[str] = set()
    # Each scope: the loop (None at the top), its remaining statements, the names it defined.
    scopes: list[tuple[For | None, Iterator[Stmt], list[int]]] = [(None, iter(kernel.body), [])]

    def define(stmt: Stmt, name: int) -> None:
        if name in defined:
            fail(stmt, f"%{name} is defined twice")
        defined.add(name)
        scopes[-1][2].append(name)

    def use(stmt: Stmt, name: int) -> None:
        if name not in defined:
            fail(stmt, f"%{name} is used where it is not defined")

    def check_index(stmt: Stmt, index: tuple[Index, ...]) -> None:
        for one in index:
            for name, _ in one.terms:
                if name.startswith("%"):
                    use(stmt, int(name[1:]))
                elif name not in variables:
                    fail(stmt, f"{name} is no loop variable here")

    def check_place(stmt: Stmt, buffer: Buffer, index: tuple[Index, ...]) -> None:
        if id(buffer.root) not in known:
            fail(stmt, f"buffer {buffer.name} is not in the program")
        if len(index) != len(buffer.shape):
            fail(stmt, f"{len(index)} indices for buffer {buffer.name} of rank {len(buffer.shape)}")
        check_index(stmt, index)

    while scopes:
        loop, pending, names = scopes[-1]
        entered = False
        for stmt in pending:
            if isinstance(stmt, Let):
                if not defined.issuperset(stmt.args):
                    for arg in stmt.args:
                        use(stmt, arg)
                if isinstance(stmt.attr, Index):
                    check_index(stmt, (stmt.attr,))
                define(stmt, stmt.name)
            elif isinstance(stmt, Load):
                check_place(stmt, stmt.buffer, stmt.index)
                define(stmt, stmt.name)
            elif isinstance(stmt, Store):
                check_place(stmt, stmt.buffer, stmt.index)
                use(stmt, stmt.value)
                if stmt.buffer.kind in ("param", "constant"):
                    fail(stmt, f"{stmt.buffer.name} is written to")
            elif isinstance(stmt, Trap):
                use(stmt, stmt.cond)
            elif isinstance(stmt, Call):
                for arg in stmt.args:
                    if isinstance(arg, Pointer):
                        check_place(stmt, arg.buffer, arg.index)
            else:
                if (stmt.var in variables) is not stmt.along:
                    fault = "no loop variable here" if stmt.along else "a loop variable already"
                    fail(stmt, f"{stmt.var} is {fault}")
                if stmt.block and stmt.block[0] not in variables:
                    fail(stmt, f"{stmt.block[0]} is no loop variable here")
                if stmt.within and stmt.within not in variables:
                    fail(stmt, f"{stmt.within} is no loop variable here")
                if stmt.among and stmt.among[0] not in variables:
                    fail(stmt, f"{stmt.among[0]} is no loop variable here")
                variables.add(stmt.var)
                for name in [c.start for c in stmt.carries if c.start >= 0]:
                    use(stmt, name)
                if stmt.among:
                    use(stmt, stmt.among[1])
                scopes.append((stmt, iter(stmt.body), []))
                for carry in stmt.carries:
                    if carry.inside >= 0:
                        define(stmt, carry.inside)
                entered = True
                break
        if entered:
            continue
        if loop is not None:
            for carry in loop.carries:
                use(loop, carry.value)
        scopes.pop()
        defined.difference_update(names)
        if loop is not None:
            if not loop.along:
                variables.discard(loop.var)
            for carry in loop.carries:
                define(loop, carry.out)
