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
from collections.abc import Mapping

from codegen import engine

CELL = "sd.cell"
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
    """A cell with the code in force, and the better code to come."""

    def __init__(self, text: str, symbol: str, opt: int, imports: Mapping[str, int], timings: dict[str, float]) -> None:
        self.cell = ctypes.c_void_p(None)
        self.opt = opt
        self.done = threading.Event()
        self._text, self._symbol, self._imports, self._timings = text, symbol, dict(imports), timings
        self._library: engine.Library | None = None

    def begin(self, address: int) -> None:
        """Put the first code in force and ask for the better one."""
        self.cell.value = address
        with _lock:
            _waiting.append(weakref.ref(self))
            if len(_waiting) == 1 and not _working.is_set():
                _working.set()
                threading.Thread(target=_work, name="symdiff-compile").start()

    def settle(self, seconds: float | None) -> bool:
        """Wait for the better code, which is then made without a pause; whether it is in force."""
        if not self.done.is_set():
            _hurried.set()
        return self.done.wait(seconds)

    def finish(self) -> None:
        """Compile, and exchange the code."""
        start = time.perf_counter()
        with engine.LLVM_LOCK:  # all the while: a collection here may dispose of modules, and another thread may fork
            self._library = engine.compile_text(self._text, [self._symbol], opt=self.opt, imports=self._imports)
        self.cell.value = self._library.address(self._symbol)
        self._timings["second tier"] = time.perf_counter() - start
        self.done.set()


_lock = threading.Lock()
_waiting: deque[weakref.ref[Upgrade]] = deque()
_working = threading.Event()
_hurried = threading.Event()
_asked = 0.0


def asked() -> None:
    """Note that code is being asked for now."""
    global _asked
    _asked = time.monotonic()


def _rest() -> None:
    """Wait for a pause in compilations, unless somebody waits for the better code or the program ends."""
    while threading.main_thread().is_alive():
        left = _asked + PAUSE - time.monotonic()
        if left <= 0 or _hurried.wait(min(left, 0.05)):
            return


def _work() -> None:
    while True:
        _rest()
        with _lock:
            if not _waiting or not threading.main_thread().is_alive():
                _waiting.clear()
                _working.clear()
                _hurried.clear()
                return
            found = _waiting.popleft()()
        if found is not None:
            found.finish()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    _waiting.clear()
    _working.clear()
    engine.LLVM_LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=engine.LLVM_LOCK.acquire, after_in_parent=engine.LLVM_LOCK.release, after_in_child=_forked
    )
