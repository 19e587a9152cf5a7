"""Kernels without loops that follow each other become one: what one hands to the next stays in a register.

`united` takes the kernels of a program; gives fewer. A scalar that several results are made of is a kernel's, stored
and read again; in one straight stretch it is a value. (Kernels with loops are joined where their loops are.)
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir.loops import Buffer, Kernel, Let, Load, Store, accessed, statements
from codegen.schedule.registers import forwarded

_MOST = 12_000
"""Statements up to which kernels are joined: longer ones are written in pieces anyway."""


def united(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels, those without loops joined to the one before."""
    made: list[Kernel] = []
    joined: set[int] = set()
    before = False  # whether the last kernel has no loops
    for kernel in kernels:
        straight = _straight(kernel)
        if before and straight and len(made[-1].body) + len(kernel.body) <= _MOST:
            made[-1].body += kernel.body
            joined.add(len(made) - 1)
        else:
            made.append(Kernel(kernel.name, [*kernel.body]) if straight else kernel)
        before = straight
    readers: dict[Buffer, set[int]] = {}
    for number, kernel in enumerate(made):
        for stmt in statements(kernel.body):
            if isinstance(stmt, Let):
                continue
            for buffer in (b for own in accessed(stmt) for b in own):
                readers.setdefault(buffer.root, set()).add(number)
    for number in joined:
        own = {b for b, where in readers.items() if b.kind == "temp" and not b.shape and where == {number}}
        if own:
            made[number].body = forwarded(made[number].body, own)
    return made


def _straight(kernel: Kernel) -> bool:
    return all(isinstance(s, (Let, Load, Store)) and not (isinstance(s, Store) and s.fold) for s in kernel.body)
