"""Better code for long programs, made while their first code runs.

Takes the text of a module whose calls go through a cell; compiles it in a thread of its own and exchanges what the cell
holds. Promises: results have the same bits before and after; one program is compiled at a time; a program that nobody
holds any more is not compiled; the interpreter's end and a fork wait for the compilation that is under way, no longer.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence

from codegen import engine

CELL = "sd.cell"
_TICK = 0.02
PAUSE = 0.25
"""Seconds without any compilation after which better code is made: a program that compiles one function after the
other, or that is still making its first calls, does not wait for it."""


def through_cell(symbol: str) -> tuple[str, str]:
    """The text of a function that calls what the cell holds, and its symbol."""
    name = f"{symbol}.now"
    return name, (
        f"@{CELL} = external global ptr\n"
        f"define i32 @{name}(ptr %dims, ptr %data, ptr %strides) nounwind {{\n"
        f"  %code = load atomic ptr, ptr @{CELL} acquire, align 8\n"
        "  %status = tail call i32 %code(ptr %dims, ptr %data, ptr %strides)\n  ret i32 %status\n}\n"
    )


class Upgrade:
    """A cell with the code in force, and the better code to come. The first of the symbols goes into the cell."""

    def __init__(
        self, text: str, symbols: Sequence[str], opt: int, imports: Mapping[str, int], timings: dict[str, float]
    ) -> None:
        self.cell = ctypes.c_void_p(None)
        self.opt = opt
        self.done = threading.Event()
        self.soon = False
        self._text, self._symbols, self._imports, self._timings = text, symbols, dict(imports), timings
        self._library: engine.Library | None = None

    def begin(self, address: int, soon: bool = False) -> None:
        """Put the first code in force and ask for the better one; soon: without waiting for a pause."""
        self.cell.value, self.soon = address, soon
        with _lock:
            _waiting.append(weakref.ref(self))
            if len(_waiting) == 1 and not _working.is_set():
                _working.set()
                threading.Thread(target=_work, name="symdiff-compile").start()

    def settle(self, seconds: float | None) -> bool:
        """Wait for the better code, which is then made without a pause; whether it is in force."""
        self.soon = True
        return self.done.wait(seconds)

    def finish(self) -> None:
        """Compile, and exchange the code."""
        start = time.perf_counter()
        with engine.LLVM_LOCK:  # all the while: a collection here may dispose of modules, and another thread may fork
            self._library = engine.compile_text(self._text, self._symbols, opt=self.opt, imports=self._imports)
            self.exchange(self._library)
        self._timings["second tier"] = time.perf_counter() - start
        self.done.set()

    def exchange(self, library: engine.Library) -> None:
        """Put the better code in force."""
        self.cell.value = library.address(self._symbols[0])


_lock = threading.Lock()
_waiting: deque[weakref.ref[Upgrade]] = deque()
_working = threading.Event()
_asked = 0.0


def asked() -> None:
    """Note that code is being asked for now."""
    global _asked
    _asked = time.monotonic()


def idle(seconds: float) -> bool:
    """Wait until no better code is on its way; whether that came in time."""
    end = time.monotonic() + seconds
    while _working.is_set() and time.monotonic() < end:
        time.sleep(_TICK)
    return not _working.is_set()


def _next() -> Upgrade | None:
    """What to compile now: what is wanted soon, then, where there is a pause in compilations, what waits longest."""
    with _lock:
        for reference in _waiting:
            found = reference()
            if found is None or found.soon:
                _waiting.remove(reference)
                return found
        if _waiting and time.monotonic() >= _asked + PAUSE:
            return _waiting.popleft()()
    time.sleep(_TICK)
    return None


def _work() -> None:
    while True:
        found = _next()
        if found is not None:
            found.finish()
        del found  # what nobody else holds is not to live on here
        with _lock:
            if not _waiting or not threading.main_thread().is_alive():
                _waiting.clear()
                _working.clear()
                return


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    _waiting.clear()
    _working.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
