"""A function as array nodes, with the checks on sizes and what each status code means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from codegen.arrays.nodes import Graph, Node
from codegen.ir.loops import Check
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value

Message: TypeAlias = "Callable[[Mapping[str, int]], Exception]"
OUT_OF_MEMORY = 1


@dataclass(eq=False, slots=True)
class Lowered:
    """A function as array nodes."""

    graph: Graph
    nodes: dict[Value, Node] = field(default_factory=dict[Value, Node])
    uses: dict[Value, int] = field(default_factory=dict[Value, int])
    results: list[Node] = field(default_factory=list[Node])
    checks: list[Check] = field(default_factory=list[Check])
    statuses: dict[int, Message] = field(default_factory=dict[int, Message])
    runs: Size = 1
    """How often it runs; checks do not count where that is 0."""
    _known: dict[Any, int] = field(default_factory=dict[Any, int])
    _checked: set[Any] = field(default_factory=set[Any])

    def inside(self, graph: Graph, times: Size) -> Lowered:
        """The body of a loop in this function, with its checks and statuses among those here."""
        return Lowered(
            graph, checks=self.checks, statuses=self.statuses, runs=self.runs * times, _known=self._known,
            _checked=self._checked,
        )  # fmt: skip

    def needed(self) -> list[Node]:
        """The nodes that the results need, operands first."""
        wanted = set(self.results)
        for node in reversed(self.graph.nodes):
            if node in wanted:
                wanted.update(node.args)
        return [n for n in self.graph.nodes if n in wanted]

    def status(self, key: Any, message: Message) -> int:
        """The code for a failure; equal keys share one."""
        code = self._known.get(key)
        if code is None:
            code = OUT_OF_MEMORY + 1 + len(self._known)
            self._known[key] = code
            self.statuses[code] = message
        return code

    def check(self, sizes: tuple[Size, ...], unless: Size, key: Any, message: Message) -> None:
        """Require all sizes to be at least 0, where `unless` is not 0."""
        unless = unless * self.runs
        if unless == 0 or all(isinstance(s, int) and s >= 0 for s in sizes):
            return
        status = self.status(key, message)
        if (sizes, unless, status) not in self._checked:  # programs repeat their checks
            self._checked.add((sizes, unless, status))
            self.checks.append(Check(sizes, status, unless))
