"""Better code for long programs, made while their first code runs.

Takes the text of a module whose calls go through a cell; compiles it in a thread of its own and exchanges what the cell
holds. Promises: results have the same bits before and after; one program is compiled at a time; a program that nobody
holds any more is not compiled; where better code cannot be made, the first stays in force, which a warning says, and
other programs get theirs; the interpreter's end and a fork wait for the compilation that is under way, no longer; a
child makes what its parent had not made yet.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress

from codegen.jit import engine
from symdiff.process import LLVM_LOCK

CELL = "sd.cell"
"""The code in force, function by function, and behind it the work that the first code is good for."""
LATER = -2
"""The status of a call that did nothing, because the first code is not good for so much work."""
MUCH = 1 << 31
"""Work of about a tenth of a second, which takes twice as long without passes: better code is made for it at once."""
_ANY = 2**63 - 1
_TICK = 0.02
PAUSE = 0.25
"""Seconds without any compilation after which better code is made: a program that compiles one function after the
other, or that is still making its first calls, does not wait for it. Twice that where there is one processor, whose
time better code takes from what runs."""
_DECLARED = re.compile(r"declare (\w+) @([\w.]+)\((.*)\)")


def through_cell(declarations: Sequence[str], work: str = "") -> tuple[list[str], str]:
    """Functions that call what the cell holds, one for each that is declared: their symbols, and the text of them all.

    work: the symbol of a function that says of the first parameter how much work there is; calls with more than the
    first code is good for are refused while it is in force.
    """
    names: list[str] = []
    text = f"@{CELL} = external global [{len(declarations) + 1} x ptr]\n"
    for number, declaration in enumerate(declarations):
        found = _DECLARED.match(declaration)
        assert found is not None, declaration
        result, symbol, kinds = found.groups()
        names.append(f"{symbol}.now")
        words = ", ".join(f"{kind} %p{place}" for place, kind in enumerate(kinds.split(", ")))
        made, given = ("", "") if result == "void" else ("%made = ", " %made")
        look = (
            f"  %early = icmp eq ptr %code, @{symbol}\n  br i1 %early, label %look, label %run\n"
            f"look:\n  %work = call i64 @{work}(ptr %p0)\n  %good = load atomic i64, ptr "
            f"getelementptr inbounds (ptr, ptr @{CELL}, i64 {len(declarations)}) monotonic, align 8\n"
            "  %much = icmp sgt i64 %work, %good\n  br i1 %much, label %refuse, label %run\n"
            f"refuse:\n  ret i32 {LATER}\nrun:\n"
        )
        text += (
            f"define {result} @{names[-1]}({words}) nounwind {{\n"
            f"  %code = load atomic ptr, ptr getelementptr inbounds (ptr, ptr @{CELL}, i64 {number}) acquire, align 8\n"
            f"{look if work else ''}  {made}musttail call {result} %code({words})\n  ret {result}{given}\n}}\n"
        )
    return names, text


class Upgrade:
    """A cell with the code in force, and the better code to come. The first symbols go into the cell, so many.

    name: what messages call the program.
    """

    def __init__(
        self, name: str, text: str, symbols: Sequence[str], opt: int, imports: Mapping[str, int],
        timings: dict[str, float], exchanged: int = 1,
    ) -> None:  # fmt: skip
        self.cell = (ctypes.c_int64 * (exchanged + 1))(*[0] * exchanged, MUCH)
        self.name, self.opt = name, opt
        self.ended = threading.Event()
        """Set when the better code is in force, or will not come."""
        self.failure = ""
        """Why it will not."""
        self.latest = math.inf
        """When it is made at the latest; `soon`: now."""
        self._exchanged = exchanged
        self._text, self._symbols, self._imports, self._timings = text, symbols, dict(imports), timings
        self._library: engine.Library | None = None

    @property
    def in_force(self) -> bool:
        """Whether the better code is."""
        return self.ended.is_set() and not self.failure

    @property
    def soon(self) -> bool:
        """Whether the better code waits for no pause."""
        return time.monotonic() >= self.latest

    def begin(self, library: engine.Library, within: float = math.inf) -> None:
        """Put the first code in force and ask for the better one, which waits so many seconds for a pause at most.

        It does not wait where the first was on the disk: processes before this one ended too soon to make it.
        """
        for number, symbol in enumerate(self._symbols[: self._exchanged]):
            self.cell[number] = library.address(symbol)
        self.latest = time.monotonic() + (0.0 if library.cached else within)
        _waiting.append(weakref.ref(self))
        _see_to_it()

    def settle(self, seconds: float | None) -> bool:
        """Wait for the better code, which is then made without a pause; whether it is in force."""
        self.latest = 0.0
        _see_to_it()
        self.ended.wait(seconds)
        return self.in_force

    def hurry(self) -> None:
        """Make the better code here, for a call that was refused; where it cannot be made, none is refused any more."""
        try:
            self.finish()
        finally:
            self.cell[self._exchanged] = _ANY

    def finish(self) -> None:
        """Compile, and exchange the code; or say why not."""
        start = time.perf_counter()
        with LLVM_LOCK:  # all the while: what LLVM made is given back under it, also after an error, and no fork comes
            if self.ended.is_set():
                return
            try:
                self._library = engine.compile_text(self._text, self._symbols, opt=self.opt, imports=self._imports)
                self.exchange(self._library)
                self._timings["second tier"] = time.perf_counter() - start
                self.failure = ""
            except Exception as error:  # whatever it is: there is code that gives the same answers
                self.failure = f"{type(error).__name__}: {error}"
            self.ended.set()
        if self.failure:
            _warn(f"{self.name}: the first code stays in force, making better code failed: {self.failure}")

    def exchange(self, library: engine.Library) -> None:
        """Put the better code in force."""
        for number, symbol in enumerate(self._symbols[: self._exchanged]):
            self.cell[number] = library.address(symbol)

    def give_up(self, reason: str) -> None:
        """Nobody will make better code."""
        self.failure = reason
        self.ended.set()


def _warn(message: str) -> None:
    with suppress(RuntimeWarning):  # made an error: there is nobody here to catch it, and `explain` says it, too
        warnings.warn(message, RuntimeWarning, stacklevel=2)


# Finalizers and handlers of signals may ask for code, or raise, in the middle of anything here, so nothing waits for a
# lock. Whoever wants better code puts a reference at the end of the list; the thread with the token takes them out.
_waiting: list[weakref.ref[Upgrade]] = []
_token = threading.Lock()
_asked = 0.0


def asked() -> None:
    """Note that code is being asked for now."""
    global _asked
    _asked = time.monotonic()


def idle(seconds: float) -> bool:
    """Wait until no better code is on its way; whether that came in time."""
    end = time.monotonic() + seconds
    while _waiting and time.monotonic() < end:
        _see_to_it()
        time.sleep(_TICK)
    return not _waiting


def _see_to_it() -> None:
    """Have a thread that works on what waits; one too many ends at once."""
    if _waiting and not _token.locked():
        try:
            threading.Thread(target=_work, name="symdiff-compile").start()
        except RuntimeError as error:  # the system has no more threads, or the interpreter ends
            _give_up(str(error))


def _give_up(reason: str) -> None:
    while _waiting:
        found = _waiting.pop()()
        if found is not None:
            found.give_up(reason)


def _processors() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _next() -> weakref.ref[Upgrade] | None:
    """What to compile now: what is wanted soon, then, where there is a pause in compilations, what waits longest."""
    paused = time.monotonic() >= _asked + PAUSE * (1 if _processors() > 1 else 2)
    waiting = _waiting[:]
    for reference in waiting:
        found = reference()
        if found is None or found.soon:
            return reference
    return waiting[0] if waiting and paused else None


def _work() -> None:
    # Seen once more after each release: what was put in just before found the token taken.
    while _waiting and _token.acquire(blocking=False):
        try:
            _work_off()
        finally:
            _token.release()


def _work_off() -> None:
    while _waiting:
        reference = _next()
        if reference is None:
            time.sleep(_TICK)
        else:
            _finish(reference)
        if not threading.main_thread().is_alive():
            _give_up("the interpreter ends")


def _finish(reference: weakref.ref[Upgrade]) -> None:
    """Compile what is still held by others; it is in the list until that is done, where a child finds it. A fork that
    waited for just that finds it, too: made again, the code in force would go while it runs."""
    found = reference()
    if found is not None and not found.ended.is_set():
        found.finish()
    with suppress(ValueError):  # given up meanwhile
        _waiting.remove(reference)


def _forked() -> None:
    global _token
    _token = threading.Lock()
    for found in [reference() for reference in _waiting]:
        if found is not None and not found.ended.is_set():
            found.ended = threading.Event()  # another thread may have been about to set it
    _see_to_it()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
