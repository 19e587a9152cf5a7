"""Work that several threads come upon at once, done by one of them.

Takes a way to find a result and a way to make it; gives the result. Promises: while one thread makes it the others
wait, and then find it; nobody waits for a thread that has ended (in the child of a fork all others have), for work that
the same thread is in the middle of, nor while holding LLVM, which the one that works may be waiting for; and nobody
longer than `LONGEST`: then they do the work once more, which is no error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from symdiff.process import LLVM_LOCK

T = TypeVar("T")

LONGEST = 20.0
"""Seconds."""
_LOOK = 0.05


class Turns:
    """Whose turn it is to make something."""

    def __init__(self) -> None:
        self._token = threading.Lock()
        self._maker: threading.Thread | None = None

    def made(self, find: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What `find` finds, after waiting where another thread is making something; else what `make` makes."""
        taken = self._token.acquire(blocking=False) or self._waited()
        try:
            if taken:
                self._maker = threading.current_thread()
            found = find()
            return make() if found is None else found
        finally:
            if taken:
                self._maker = None
                self._token.release()

    def _waited(self) -> bool:
        """Wait for the turn; whether it came."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end and not LLVM_LOCK.mine:
            maker = self._maker
            if maker is threading.current_thread() or not (maker is None or maker.is_alive()):
                return False
            if self._token.acquire(timeout=_LOOK):
                return True
        return False
