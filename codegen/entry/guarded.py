"""Compiled functions that take certain sizes alone, for callers that keep several.

Takes a plan of the fast entry (`codegen.entry.native`); gives a `Guarded`, by which an object of another class is
called.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from codegen.entry.ir import Plan
from codegen.entry.marshal import Marshal
from codegen.entry.plan import Words
from symdiff.vectorcall import Gate


class Guarded:
    """A function that takes exact arrays and numbers, of sizes that were named before, and leaves all else to Python.

    `attach` lets an instance of a class made `with_vectorcall` be called so, for as long as the caller keeps this.
    """

    def __init__(
        self,
        attach: Callable[[Any, Words], None],
        plan: Words,
        kept: list[Any],
        marshal: Marshal,
        again: Callable[..., Any],
        gate: Gate,
    ) -> None:
        self._attach = attach
        self._marshal = marshal
        self._wanted = (ctypes.c_int64 * max(1, len(marshal.signature.dims)))()
        self._reads = (again, gate)
        plan[Plan.WANTED] = ctypes.addressof(self._wanted)
        plan[Plan.GATE] = gate.address
        self._plan, self._kept = plan, kept

    def attach(self, instance: Any) -> None:
        """Let an instance be called through this from now on."""
        self._attach(instance, self._plan)

    def sizes_of(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """What `expect` takes for arguments of these shapes."""
        bound = self._marshal.bind_sizes(shapes, None)
        return tuple([bound[name] for name in self._marshal.signature.dims])

    def expect(self, sizes: tuple[int, ...]) -> None:
        """Take these sizes from now on, and no others."""
        self._wanted[: len(sizes)] = sizes
