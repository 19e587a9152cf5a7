"""A pool of threads in LLVM IR, shared by all programs of a process: persistent workers, blocks handed out one by one.

A module of its own, `text()`, compiled once, holds

    i32 @sd.parallel(ptr work, ptr a, ptr b, i64 count, i64 threads, i64 amount)

It runs `i32 work(a, b, from, to, thread)` over 0 .. count in pieces, on at most so many threads, the caller among them
as thread 0, and returns the largest status. Pieces get smaller towards the end, so that all finish together. Promises:
a worker that wakes late finds nothing left and costs nothing; a worker waits for more work for tens of microseconds,
then for about a millisecond in which it leaves its processor to whoever wants it, and then sleeps; a caller that finds
the pool in use, or cannot start a thread, does all the work itself; no more threads are used than there are processors.
A child of a fork starts with an empty pool. Workers block all signals and never touch Python. POSIX threads are found
in the process; `available()` tells whether there are any.

Sharing may cost more than it brings: where other processes keep the processor busy, a worker is put to rest in the
middle of a piece, and everyone waits. So an account is kept for each `work` and order of magnitude of the `amount` (how
much work there is, in any unit): what a unit takes alone, tried from time to time, and what sharing gained against
that. When an account falls below `_GRACE`, the caller works alone for `_REPAY` times the loss before it tries again: in
the long run threads cost next to nothing where they cannot help.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time

from codegen.jit import engine
from codegen.jit.pool_ir import TEXT
from symdiff.process import Once, kept

SYMBOL = "sd.parallel"
DECLARATION = f"declare i32 @{SYMBOL}(ptr, ptr, ptr, i64, i64, i64)"
_CELL = "sd.pool"
_SPINS = 2000
"""Looks at the pool before a worker lets others run: some tens of microseconds, less than waking it costs on many
machines;"""
_YIELDS = 2000
"""further looks, others running in between, before it sleeps;"""
_PATIENCE, _PATIENT_YIELDS = 400, 200
"""and looks of both kinds of the caller for those that still work, before it sleeps."""
_SHARES = 4
"""A piece is what is left over so many times the number of threads."""
_ACCOUNTS = 512
_PLACES = 8
"""Where an account may be, one after the other: two loops with one place between them would never be shared."""
_GRACE = 200_000
"""Nanoseconds that an account may be in debt."""
_MOST_CREDIT = 100_000_000
"""Nanoseconds of gain that are remembered, to be weighed against later losses: a processor that others take now and
then may be gone for a twentieth of a second."""
_REPAY = 32
_TRIAL = 32
"""One call in so many is made alone, to know what that takes (and the first two: one may find everything cold)."""
_LONGEST_DEBT = 500_000_000
_FINE = 20
"""Binary places of the nanoseconds that a unit of work takes."""

# Places in the pool's memory; what different threads write in turn has cache lines of its own, and so has an account.
# The mutex and the conditions get more room than any C library asks for.
_LAYOUT = {
    "MUTEX": 0, "GO": 128, "DONE": 256, "READY": 384, "STARTED": 392, "BUSY": 400, "ASLEEP": 408, "WAITING": 416,
    "ROUND": 448, "WORK": 456, "A": 464, "B": 472, "COUNT": 480, "PARTS": 488, "LIMIT": 496, "OPEN": 504,
    "NEXT": 576, "ACTIVE": 640, "JOINED": 648, "STATUS": 704, "ALWAYS": 768, "PROGRAMS": 776,
    "PROCESSORS": 784, "LEDGER": 1024,
}  # fmt: skip
_BYTES = _LAYOUT["LEDGER"] + 64 * _ACCOUNTS
_room = kept((ctypes.c_char * (_BYTES + 64))())
_pool = (ctypes.c_char * _BYTES).from_buffer(_room, -ctypes.addressof(_room) % 64)
_NEEDED = (
    "pthread_create", "pthread_detach", "pthread_mutex_init", "pthread_mutex_lock", "pthread_mutex_unlock",
    "pthread_cond_init", "pthread_cond_wait", "pthread_cond_signal", "pthread_cond_broadcast", "pthread_sigmask",
    "clock_gettime", "sched_yield",
)  # fmt: skip


def _emptied() -> None:
    ctypes.memset(_pool, 0, _BYTES)
    _count_processors()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_emptied)


def share_always(wanted: bool) -> None:
    """Share whatever it costs, for tests; or go back to the accounts."""
    ctypes.c_int64.from_buffer(_pool, _LAYOUT["ALWAYS"]).value = int(wanted)


def address() -> int:
    """Where a new program finds the function. Code may come to lie where other code was: accounts begin anew."""
    ctypes.c_int64.from_buffer(_pool, _LAYOUT["PROGRAMS"]).value += 1
    _count_processors()
    return library().address(SYMBOL)


def _count_processors() -> None:
    """Note how many the process may use; 0: nobody knows."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    ctypes.c_int64.from_buffer(_pool, _LAYOUT["PROCESSORS"]).value = known


def available() -> bool:
    """Whether the process offers POSIX threads."""
    known = hasattr(signal, "SIG_BLOCK") and hasattr(time, "CLOCK_MONOTONIC")
    return known and all(hasattr(ctypes.pythonapi, name) for name in _NEEDED)


@Once
def library() -> engine.Library:
    """The compiled pool. Its workers are detached and run as long as the process does: so do their code and memory."""
    return engine.compile_text(text(), [SYMBOL], opt=1, imports={_CELL: ctypes.addressof(_pool)})


def text() -> str:
    """The text of the module."""
    machine = platform.machine().lower()
    pause = "pause" if machine in ("x86_64", "amd64") else "yield" if machine in ("arm64", "aarch64") else ""
    values = {
        "PAUSE": f'call void asm sideeffect "{pause}", ""()' if pause else "", "SPINS": _SPINS, "PATIENCE": _PATIENCE,
        "YIELDS": _YIELDS, "PATIENT_YIELDS": _PATIENT_YIELDS,
        "SHARES": _SHARES, "SIG_BLOCK": int(getattr(signal, "SIG_BLOCK", 0)), "GRACE": -_GRACE,
        "MOST_CREDIT": _MOST_CREDIT, "REPAY": -_REPAY, "TRIAL": _TRIAL, "FINE": _FINE, "LONGEST_DEBT": _LONGEST_DEBT,
        "BYTES": _BYTES, "CLOCK": int(getattr(time, "CLOCK_MONOTONIC", 0)),
        "HASH_SHIFT": 64 - _ACCOUNTS.bit_length() + 1, "LAST_ACCOUNT": _ACCOUNTS - 1, "PLACES": _PLACES,
        **{name: f"getelementptr (i8, ptr @{_CELL}, i64 {at})" for name, at in _LAYOUT.items()},
    }  # fmt: skip
    made = TEXT
    for name in sorted(values, key=len, reverse=True):
        made = made.replace(f"${name}", str(values[name]))
    return made
