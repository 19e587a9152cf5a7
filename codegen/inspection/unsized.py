"""What holds of a program at all sizes, found when it is first asked for: profiles at several sizes share it."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.analysis.uses import Uses, uses_of
from codegen.ir.loops import Kernel, Stmt
from codegen.kernels.records import Plan, plan


class Unsized:
    """Facts about kernels and bodies, by their identity: the program outlives them."""

    def __init__(self) -> None:
        self._uses: dict[int, Uses] = {}
        self._windows: dict[tuple[int, str, int], Plan] = {}

    def uses(self, kernel: Kernel) -> Uses:
        """How the scalars of a kernel are used."""
        found = self._uses.get(id(kernel))
        if found is None:
            found = self._uses[id(kernel)] = uses_of(kernel)
        return found

    def windows(self, body: Sequence[Stmt], vector: str, width: int) -> Plan:
        """The windows of a body on so many lanes."""
        key = id(body), vector, width
        found = self._windows.get(key)
        if found is None:
            found = self._windows[key] = plan(body, vector, width) if width > 1 else Plan()
        return found
