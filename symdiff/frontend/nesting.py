"""Nested tuples, lists and dicts of leaves: taken apart, put together, compared with how others are nested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
    return nester(tree)(iter(leaves))


def nester(tree: Tree) -> Callable[[Iterator[Any]], Any]:
    """What takes leaves and nests them as `tree` says: made once, it is quick."""
    if tree is LEAF:
        return next
    if tree is NONE:
        return _nothing
    kind, keys, count = tree.kind, tree.keys, len(tree.children)
    parts = [nester(c) for c in tree.children]
    if all(c is LEAF for c in tree.children):
        if kind is dict:
            return lambda leaves: dict(zip(keys, leaves))  # noqa: B905
        if kind is tuple:
            return lambda leaves: tuple(islice(leaves, count))
    if kind is dict:
        return lambda leaves: dict(zip(keys, [part(leaves) for part in parts], strict=True))
    if kind is list:
        return lambda leaves: [part(leaves) for part in parts]
    if kind is tuple:
        return lambda leaves: tuple([part(leaves) for part in parts])
    return lambda leaves: kind(*[part(leaves) for part in parts])


def _nothing(_: Iterator[Any]) -> None:
    return None


def reader(tree: Tree) -> Callable[[Any, list[Any]], bool]:
    """What adds the leaves of something to a list if that is nested as `tree` says: made once, it is quick."""
    if tree is LEAF:
        return _read_leaf
    if tree is NONE:
        return lambda item, leaves: item is None
    kind, keys, count = tree.kind, tree.keys, len(tree.children)
    parts = [reader(c) for c in tree.children]
    flat = all(c is LEAF for c in tree.children)

    def read(item: Any, leaves: list[Any]) -> bool:
        if kind is dict:
            if not isinstance(item, dict) or tuple(item) != keys:
                return False
            item = item.values()
        elif type(item) is not kind and not (isinstance(item, list) if kind is list else _tuple_kind(item) is kind):
            return False
        if len(item) != count:
            return False
        if flat:
            leaves += item
            return True
        for value, part in zip(item, parts, strict=True):  # noqa: SIM110  # a generator takes longer
            if not part(value, leaves):
                return False
        return True

    return read


def _read_leaf(item: Any, leaves: list[Any]) -> bool:
    leaves.append(item)
    return True


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
