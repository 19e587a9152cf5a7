"""What a drawing shows: boxes with rows of text, and wires between them. Plain data, nothing of derivatives in it.

A `Picture` lists nodes, sources first, and edges from a lower number to a higher one; both are checked once here, so
that layout and writers need not ask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symdiff.errors import ArgumentError

Kind: TypeAlias = Literal["input", "operation", "result", "group"]
Role: TypeAlias = Literal["value", "upstream", "local"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line inside a box: a short key and its text. `role` chooses the colour and the column of the table."""

    role: Role
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    """One box. `formula` is what it computes ("" for an input), `note` one line in words, `shape` of its value."""

    name: str
    kind: Kind
    formula: str = ""
    shape: str = ""
    note: str = ""
    rows: tuple[Row, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name} = {self.formula}" if self.formula and self.kind != "group" else self.formula or self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """A value on its way: `label` above the wire, the `gradient` that comes back below it; `exact` is for the table."""

    source: int
    target: int
    label: str = ""
    gradient: str = ""
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Nodes, edges (those into one node in the order of its operands), a title for readers who do not see the picture,
    and a remark for its legend."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    title: str = "computational graph"
    remark: str = ""

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ArgumentError("a picture needs at least one node")
        for edge in self.edges:
            if not 0 <= edge.source < edge.target < len(self.nodes):
                raise ArgumentError(
                    f"edge {edge.source} -> {edge.target} of a picture with {len(self.nodes)} nodes: expected numbers "
                    "that rise, sources before what they feed"
                )

    def incoming(self) -> list[list[int]]:
        """The numbers of the edges into every node."""
        return _by_node(len(self.nodes), [e.target for e in self.edges])


def _by_node(count: int, ends: Sequence[int]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(count)]
    for number, end in enumerate(ends):
        found[end].append(number)
    return found
