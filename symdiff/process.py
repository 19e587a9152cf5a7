"""What a process has once: a lock around LLVM, code and memory that are made under it and kept for good, and forks.

Takes functions that build what all programs share; gives each result once, whoever asks first. Promises: threads that
ask at the same time get one result; what is there is found without waiting; nothing that has been handed out goes away,
not even when the interpreter ends, because machine code holds bare addresses of it. A fork waits for whoever holds one
of the locks here, so that a child finds what is shared whole or not at all.

It is here and not beside the engine so that forks know the locks before native code is first imported: a fork may come
in the middle of that.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, TypeVarTuple

T = TypeVar("T")
Key = TypeVarTuple("Key")


class Turn:
    """A lock that can be taken again by who holds it, with work that nobody waits for.

    A collection may run finalizers in any thread, under any lock: these must not wait, and leave their work here.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = threading.local()
        self._left: deque[Callable[[], None]] = deque()

    def acquire(self) -> None:
        """Wait for the lock."""
        self._lock.acquire()
        self._depth.own = getattr(self._depth, "own", 0) + 1

    def release(self) -> None:
        """Give the lock back, and do what was left meanwhile."""
        self._depth.own -= 1
        self._lock.release()
        self._catch_up()

    @property
    def mine(self) -> bool:
        """Whether this thread holds the lock."""
        return getattr(self._depth, "own", 0) > 0

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def leave(self, work: Callable[[], None]) -> None:
        """Have this done under the lock: now, or by whoever holds it now and gives it back."""
        self._left.append(work)
        self._catch_up()

    def _catch_up(self) -> None:
        # Seen once more after each release: what was left just before it finds the lock free here.
        while self._left and self._lock.acquire(blocking=False):
            try:
                work = self._left.popleft() if self._left else None
                if work is not None:
                    work()
            finally:
                self._lock.release()


LOADING = threading.RLock()
"""Held while a module is imported late: in a child nobody would go on with the import, and whoever needs the module
would wait for ever. Who holds it may wait for LLVM, not the other way round."""

LLVM_LOCK = Turn()
"""Held around every use of LLVM, the disposal of modules and libraries included: one compilation at a time, and who
holds it may fork (llvmlite has a lock of its own, which nobody would release in the child)."""


class Once(Generic[*Key, T]):
    """`once(make)` calls `make` once for every key; an exception is no result, and the next call makes it again."""

    def __init__(self, make: Callable[[*Key], T]) -> None:
        self.made: dict[tuple[*Key], T] = {}
        self._make = make
        self.__doc__ = make.__doc__

    def __call__(self, *key: *Key) -> T:
        """The one result for this key."""
        if key not in self.made:
            with LLVM_LOCK:
                if key not in self.made:
                    self.made[key] = kept(self._make(*key))
        return self.made[key]


def kept(value: T) -> T:
    """The value, which lives as long as the process from now on."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def _before_fork() -> None:
    LOADING.acquire()
    LLVM_LOCK.acquire()


def _after_fork() -> None:
    LLVM_LOCK.release()
    LOADING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
