"""Nested tuples, lists and dicts of leaves: taken apart, put together, compared with how others are nested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from symdiff.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Tree:
    """How leaves are nested: a leaf, None, or a container of trees. Dicts keep their order."""

    kind: Any  # "leaf", "none", tuple, list, dict or a class of named tuples
    keys: tuple[Any, ...] = ()
    children: tuple[Tree, ...] = ()

    @property
    def leaves(self) -> int:
        """The number of leaves."""
        return 1 if self.kind == "leaf" else sum(c.leaves for c in self.children)


LEAF: Final = Tree("leaf")
NONE: Final = Tree("none")


def flatten(nested: Any) -> tuple[list[Any], Tree]:
    """The leaves of nested tuples, lists and dicts in order, and how they are nested. None is no leaf."""
    leaves: list[Any] = []
    return leaves, _flatten(nested, leaves)


def _flatten(item: Any, leaves: list[Any]) -> Tree:
    if item is None:
        return NONE
    if isinstance(item, tuple):
        return Tree(_tuple_kind(item), (), tuple([_flatten(i, leaves) for i in item]))
    if isinstance(item, list):
        return Tree(list, (), tuple([_flatten(i, leaves) for i in item]))
    if isinstance(item, dict):
        return Tree(dict, tuple(item), tuple([_flatten(i, leaves) for i in item.values()]))
    leaves.append(item)
    return LEAF


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """Nest leaves as `tree` says."""
    if len(leaves) != tree.leaves:
        raise ArgumentError(f"{len(leaves)} leaves given, expected {tree.leaves}")
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree.kind == "leaf":
        return next(leaves)
    if tree.kind == "none":
        return None
    items = [_unflatten(c, leaves) for c in tree.children]
    if tree.kind is dict:
        return dict(zip(tree.keys, items, strict=True))
    return items if tree.kind is list else tuple(items) if tree.kind is tuple else tree.kind(*items)


def collect(item: Any, tree: Tree, leaves: list[Any]) -> bool:
    """Add the leaves of `item` if it is nested as `tree` says."""
    if tree is LEAF:
        leaves.append(item)
        return True
    if tree is NONE:
        return item is None
    if tree.kind is dict:
        if not isinstance(item, dict) or tuple(item) != tree.keys:
            return False
        item = item.values()
    elif not (isinstance(item, list) if tree.kind is list else _tuple_kind(item) is tree.kind):
        return False
    return len(item) == len(tree.children) and all(
        collect(i, c, leaves) for i, c in zip(item, tree.children, strict=True)
    )


def nested_tuples(tree: Tree) -> tuple[int, ...] | None:
    """How leaves are put together, for a machine with a stack: -1 takes the next leaf, n >= 1 makes a tuple of the last
    n. None where something is no plain tuple, or empty."""
    words: list[int] = []
    pending: list[Tree | int] = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, int):
            words.append(item)
        elif item is LEAF:
            words.append(-1)
        elif item.kind is tuple and item.children:
            pending += [len(item.children), *reversed(item.children)]
        else:
            return None
    return tuple(words)


def _tuple_kind(item: Any) -> Any:
    """tuple, or the class of a named tuple; None for anything else."""
    if not isinstance(item, tuple):
        return None
    return type(item) if hasattr(item, "_fields") else tuple


def paths(tree: Tree, prefix: str) -> list[str]:
    """A name per leaf: its argument, then keys and positions."""
    if tree.kind == "leaf":
        return [prefix]
    if tree.kind is dict:
        names: Sequence[Any] = tree.keys
    else:
        names = getattr(tree.kind, "_fields", range(len(tree.children)))
    return [p for n, c in zip(names, tree.children, strict=False) for p in paths(c, f"{prefix}_{n}")]
