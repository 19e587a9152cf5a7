"""A linear graph while its vertices are eliminated: maps between the vertices that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from symdiff.diff.tangents import Linear
from symdiff.diff.terms import Emitter, Path, added, joined

Maps = dict[int, dict[int, list[Path]]]


class Elimination:
    """`before[w][u]` are the paths from u to w, `after[u]` the vertices reached from u in one step."""

    def __init__(self, graph: Linear, emitter: Emitter) -> None:
        self.graph = graph
        self.emitter = emitter
        self.before: Maps = {}
        self.after: dict[int, dict[int, None]] = {}
        for edge in graph.edges:
            self._add(edge.source, edge.target, [(edge.link,)])

    def copy(self, emitter: Emitter | None = None) -> Elimination:
        """The same state, free to go another way."""
        other = object.__new__(Elimination)
        other.graph, other.emitter = self.graph, emitter or self.emitter
        other.before = {w: dict(maps) for w, maps in self.before.items()}
        other.after = {u: dict(reached) for u, reached in self.after.items()}
        return other

    @property
    def inner(self) -> list[int]:
        """Vertices that are neither variables nor results, in topological order."""
        ends = set(self.graph.sinks)
        return [v for v in range(self.graph.sources, len(self.graph.types)) if v not in ends]

    def paths(self, source: int, target: int) -> list[Path]:
        return self.before.get(target, {}).get(source, [])

    def products(self, vertex: int) -> list[tuple[int, int, list[Path]]]:
        """What eliminating a vertex multiplies: (from, to, paths); nothing changes."""
        found: list[tuple[int, int, list[Path]]] = []
        for u, below in self.before.get(vertex, {}).items():
            curved = u in self.graph.curved
            for w in self.after.get(vertex, {}):
                dtype = self.graph.types[w].dtype
                above = self.before[w][vertex]
                found.append((u, w, [joined(self.emitter, (*a, *b), dtype, curved) for a in above for b in below]))
        return found

    def eliminate(self, vertex: int, products: Sequence[tuple[int, int, list[Path]]] | None = None) -> None:
        """Replace a vertex by maps from what is before it to what is after it."""
        made = self.products(vertex) if products is None else products
        for u in self.before.pop(vertex, {}):
            del self.after[u][vertex]
        for w in self.after.pop(vertex, {}):
            self.before[w] = {u: paths for u, paths in self.before[w].items() if u != vertex}
        for u, w, paths in made:
            self._add(u, w, paths)

    def _add(self, source: int, target: int, paths: list[Path]) -> None:
        maps = self.before.setdefault(target, {})
        known = maps.get(source, [])
        dtype = self.graph.types[target].dtype
        maps[source] = added(self.emitter, [*known, *paths], dtype) if known or len(paths) > 1 else paths
        self.after.setdefault(source, {})[target] = None

    def near(self, vertex: int) -> Iterator[int]:
        """Vertices whose products change when this one goes."""
        yield from self.before.get(vertex, {})
        yield from self.after.get(vertex, {})
