"""A pool of threads in LLVM IR, shared by all programs of a process: persistent workers, blocks handed out one by one.

A module of its own, `text()`, compiled once, holds

    i32 @sd.parallel(ptr work, ptr a, ptr b, i64 count, i64 threads)

It runs `i32 work(a, b, from, to, thread)` over 0 .. count in pieces, on at most so many threads, the caller among them
as thread 0, and returns the largest status. Promises: a worker that wakes late finds nothing left and costs nothing; a
worker waits for more work a few microseconds and then sleeps; a caller that finds the pool in use, or cannot start a
thread, does all the work itself. A child of a fork starts with an empty pool. Workers block all signals and never touch
Python. POSIX threads are found in the process; `available()` tells whether there are any.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from functools import cache

from codegen import engine

SYMBOL = "sd.parallel"
DECLARATION = f"declare i32 @{SYMBOL}(ptr, ptr, ptr, i64, i64)"
_CELL = "sd.pool"
_BYTES = 1024
_SPINS = 400
"""Looks at the pool before a thread sleeps: about ten microseconds."""
_PIECES = 8
"""Pieces for each thread: enough to even out, few enough that handing them out costs nothing."""

_pool = (ctypes.c_char * _BYTES)()
_NEEDED = (
    "pthread_create", "pthread_detach", "pthread_mutex_init", "pthread_mutex_lock", "pthread_mutex_unlock",
    "pthread_cond_init", "pthread_cond_wait", "pthread_cond_signal", "pthread_cond_broadcast", "pthread_sigmask",
)  # fmt: skip


def _emptied() -> None:
    ctypes.memset(_pool, 0, _BYTES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_emptied)


def available() -> bool:
    """Whether the process offers POSIX threads."""
    return hasattr(signal, "SIG_BLOCK") and all(hasattr(ctypes.pythonapi, name) for name in _NEEDED)


@cache
def library() -> engine.Library:
    """The compiled pool."""
    return engine.compile_text(text(), [SYMBOL], opt=1, imports={_CELL: ctypes.addressof(_pool)})


def text() -> str:
    """The text of the module."""
    machine = platform.machine().lower()
    pause = "pause" if machine in ("x86_64", "amd64") else "yield" if machine in ("arm64", "aarch64") else ""
    values = {
        "PAUSE": f'call void asm sideeffect "{pause}", ""()' if pause else "", "SPINS": _SPINS, "PIECES": _PIECES,
        "SIG_BLOCK": int(getattr(signal, "SIG_BLOCK", 0)),
        **{name: f"getelementptr (i8, ptr @{_CELL}, i64 {at})" for name, at in _LAYOUT.items()},
    }  # fmt: skip
    made = _TEXT
    for name in sorted(values, key=len, reverse=True):
        made = made.replace(f"${name}", str(values[name]))
    return made


# Places in the pool's memory; what different threads write in turn has cache lines of its own. The mutex and the
# conditions get more room than any C library asks for.
_LAYOUT = {
    "MUTEX": 0, "GO": 128, "DONE": 256, "READY": 384, "STARTED": 392, "BUSY": 400, "ASLEEP": 408, "WAITING": 416,
    "ROUND": 448, "WORK": 456, "A": 464, "B": 472, "COUNT": 480, "PIECE": 488, "LIMIT": 496, "OPEN": 504,
    "NEXT": 576, "ACTIVE": 640, "JOINED": 648, "STATUS": 704,
}  # fmt: skip

_TEXT = """
@sd.pool = external global [1024 x i8], align 64

define i32 @sd.parallel(ptr %work, ptr %a, ptr %b, i64 %count, i64 %threads) nounwind {
entry:
  %few = icmp sle i64 %count, 1
  %lone = icmp sle i64 %threads, 1
  %alone = or i1 %few, %lone
  br i1 %alone, label %serial, label %try

serial:
  %own = call i32 %work(ptr %a, ptr %b, i64 0, i64 %count, i64 0)
  ret i32 %own

try:
  %taken = cmpxchg ptr $BUSY, i64 0, i64 1 acq_rel monotonic
  %mine = extractvalue { i64, i1 } %taken, 1
  br i1 %mine, label %prepare, label %serial

prepare:
  %ready = load i64, ptr $READY
  %fresh = icmp eq i64 %ready, 0
  br i1 %fresh, label %init, label %workers

init:
  call i32 @pthread_mutex_init(ptr $MUTEX, ptr null)
  call i32 @pthread_cond_init(ptr $GO, ptr null)
  call i32 @pthread_cond_init(ptr $DONE, ptr null)
  store i64 1, ptr $READY
  br label %workers

workers:
  %wanted = sub i64 %threads, 1
  br label %start

start:
  %started = load i64, ptr $STARTED
  %lacking = icmp slt i64 %started, %wanted
  br i1 %lacking, label %create, label %publish

create:
  %handle = alloca i64
  %round.now = load atomic i64, ptr $ROUND monotonic, align 8
  %passed = inttoptr i64 %round.now to ptr
  %failed = call i32 @pthread_create(ptr %handle, ptr null, ptr @worker, ptr %passed)
  %good = icmp eq i32 %failed, 0
  br i1 %good, label %created, label %publish

created:
  %thread = load i64, ptr %handle
  call i32 @pthread_detach(i64 %thread)
  %more = add i64 %started, 1
  store i64 %more, ptr $STARTED
  br label %start

publish:
  %shares = mul i64 %threads, $PIECES
  %up = add i64 %count, %shares
  %up1 = sub i64 %up, 1
  %piece = sdiv i64 %up1, %shares
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store ptr %work, ptr $WORK
  store ptr %a, ptr $A
  store ptr %b, ptr $B
  store i64 %count, ptr $COUNT
  store i64 %piece, ptr $PIECE
  store i64 %wanted, ptr $LIMIT
  store i64 0, ptr $JOINED
  store i64 1, ptr $OPEN
  store atomic i64 0, ptr $NEXT monotonic, align 8
  store atomic i32 0, ptr $STATUS monotonic, align 4
  %old = atomicrmw add ptr $ROUND, i64 1 acq_rel
  %sleepers = load i64, ptr $ASLEEP
  %some = icmp ne i64 %sleepers, 0
  br i1 %some, label %wake, label %woken

wake:
  call i32 @pthread_cond_broadcast(ptr $GO)
  br label %woken

woken:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  call void @pieces(i64 0)
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store i64 0, ptr $OPEN
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %look

look:                                            ; those that are in it finish a piece that is nearly done
  %look.n = phi i64 [ 0, %woken ], [ %look.next, %look.more ]
  %active = load atomic i64, ptr $ACTIVE acquire, align 8
  %idle = icmp eq i64 %active, 0
  br i1 %idle, label %end, label %look.more

look.more:
  $PAUSE
  %look.next = add i64 %look.n, 1
  %looks.left = icmp slt i64 %look.next, $SPINS
  br i1 %looks.left, label %look, label %sleep

sleep:
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store i64 1, ptr $WAITING
  br label %sleep.test

sleep.test:
  %active.now = load atomic i64, ptr $ACTIVE acquire, align 8
  %idle.now = icmp eq i64 %active.now, 0
  br i1 %idle.now, label %slept, label %sleep.wait

sleep.wait:
  call i32 @pthread_cond_wait(ptr $DONE, ptr $MUTEX)
  br label %sleep.test

slept:
  store i64 0, ptr $WAITING
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %end

end:
  %status = load atomic i32, ptr $STATUS acquire, align 4
  store atomic i64 0, ptr $BUSY release, align 8
  ret i32 %status
}

; Take pieces until none is left.
define internal void @pieces(i64 %thread) noinline nounwind {
entry:
  %work = load ptr, ptr $WORK
  %a = load ptr, ptr $A
  %b = load ptr, ptr $B
  %count = load i64, ptr $COUNT
  %piece = load i64, ptr $PIECE
  br label %head
head:
  %from = atomicrmw add ptr $NEXT, i64 %piece acq_rel
  %left = icmp slt i64 %from, %count
  br i1 %left, label %body, label %end
body:
  %up = add i64 %from, %piece
  %to = call i64 @llvm.smin.i64(i64 %up, i64 %count)
  %status = call i32 %work(ptr %a, ptr %b, i64 %from, i64 %to, i64 %thread)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %head, label %bad
bad:
  %before = atomicrmw umax ptr $STATUS, i32 %status acq_rel
  br label %head
end:
  ret void
}

define internal ptr @worker(ptr %round) nounwind {
entry:
  %signals = alloca [128 x i8], align 16
  call void @llvm.memset.p0.i64(ptr %signals, i8 -1, i64 128, i1 false)
  call i32 @pthread_sigmask(i32 $SIG_BLOCK, ptr %signals, ptr null)
  %first = ptrtoint ptr %round to i64
  br label %watch

watch:
  %seen = phi i64 [ %first, %entry ], [ %current, %rest ], [ %current, %leave ]
  br label %spin

spin:
  %n = phi i64 [ 0, %watch ], [ %n.next, %spin.more ]
  %now = load atomic i64, ptr $ROUND acquire, align 8
  %news = icmp ne i64 %now, %seen
  br i1 %news, label %lock, label %spin.more

spin.more:
  $PAUSE
  %n.next = add i64 %n, 1
  %again = icmp slt i64 %n.next, $SPINS
  br i1 %again, label %spin, label %lock

lock:
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  br label %test

test:
  %current = load atomic i64, ptr $ROUND acquire, align 8
  %old = icmp eq i64 %current, %seen
  br i1 %old, label %wait, label %join

wait:
  %asleep = load i64, ptr $ASLEEP
  %asleep.more = add i64 %asleep, 1
  store i64 %asleep.more, ptr $ASLEEP
  call i32 @pthread_cond_wait(ptr $GO, ptr $MUTEX)
  %awake = load i64, ptr $ASLEEP
  %awake.less = sub i64 %awake, 1
  store i64 %awake.less, ptr $ASLEEP
  br label %test

join:
  %open = load i64, ptr $OPEN
  %is.open = icmp ne i64 %open, 0
  %joined = load i64, ptr $JOINED
  %limit = load i64, ptr $LIMIT
  %room = icmp slt i64 %joined, %limit
  %in = and i1 %is.open, %room
  br i1 %in, label %enter, label %rest

rest:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %watch

enter:
  %number = add i64 %joined, 1
  store i64 %number, ptr $JOINED
  %before = atomicrmw add ptr $ACTIVE, i64 1 acq_rel
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  call void @pieces(i64 %number)
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  %after = atomicrmw sub ptr $ACTIVE, i64 1 acq_rel
  %last = icmp eq i64 %after, 1
  %waiting = load i64, ptr $WAITING
  %awaited = icmp ne i64 %waiting, 0
  %tell = and i1 %last, %awaited
  br i1 %tell, label %signal, label %leave

signal:
  call i32 @pthread_cond_signal(ptr $DONE)
  br label %leave

leave:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %watch
}

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""
