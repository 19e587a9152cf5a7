"""What a process has once, asked for by several threads, finalizers and children at the same time."""

import os
import subprocess
import sys
import threading
import time

import pytest
from crowd import together

from codegen.jit import engine
from symdiff.process import LLVM_LOCK, Once, Turn


def run(script: str, **environment: str) -> None:
    """Run a script in a process of its own, with an object cache that is switched off; it prints "done"."""
    own = {**os.environ, "SYMDIFF_CACHE_DIR": "off", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", script], capture_output=True, text=True,
        timeout=200, env=own,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def test_whoever_asks_at_the_same_time_gets_one_result():
    made = []

    def slowly(key):
        made.append(key)
        time.sleep(0.02)
        return object()

    get, found = Once(slowly), set()
    together(lambda key: found.add((key, get(key))), [(key % 2,) for key in range(8)])
    assert sorted(made) == [0, 1] and len(found) == 2


def test_an_exception_is_no_result():
    attempts = []

    def fails_first(key):
        attempts.append(key)
        if len(attempts) == 1:
            raise KeyboardInterrupt
        return key + 1

    get = Once(fails_first)
    with pytest.raises(KeyboardInterrupt):
        get(4)
    assert (get(4), get(4)) == (5, 5) and attempts == [4, 4]


def test_work_that_nobody_waits_for_is_done_by_who_holds_the_lock():
    turn, done = Turn(), []
    with turn:
        thread = threading.Thread(target=turn.leave, args=(lambda: done.append("later"),))
        thread.start()
        thread.join(20)
        assert not thread.is_alive() and not done
        turn.leave(lambda: done.append("own"))  # the thread that holds it need not wait
        assert done == ["later", "own"]
    with turn:
        thread = threading.Thread(target=turn.leave, args=(lambda: done.append("last"),))
        thread.start()
        thread.join(20)
    assert done == ["later", "own", "last"]


def test_a_finalizer_does_not_wait_for_a_compilation():
    """It may run in a thread that holds what the compiling one wants next."""
    libraries = [engine.compile_text("define i32 @f() {\n ret i32 1\n}\n", ["f"], cache=False)]
    jit = libraries[0]._engine
    with LLVM_LOCK:
        thread = threading.Thread(target=libraries.clear)
        thread.start()
        thread.join(20)
        assert not thread.is_alive() and not jit.closed
    assert jit.closed


FIRST = """
import sys, threading
import numpy as np
import symdiff as sd
n, m = sd.dims("n m")
start, found = threading.Barrier(6), [None] * 6
sys.setswitchinterval(1e-5)
def work(i):
    A = sd.symbol("A", (n, m))
    start.wait()
    found[i] = sd.compile([(A @ A.T) * (i + 1), np.sin(A) * (i + 1)], [A], threads=2)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for t in threads: t.start()
for t in threads: t.join()
a = np.random.default_rng(0).normal(size=(200, 300))
for i, f in enumerate(found):
    b = a[:, ::-2]
    product, sines = f(b)
    assert np.allclose(product, b @ b.T * (i + 1)) and np.allclose(sines, np.sin(b) * (i + 1))
print("done")
"""


def test_the_first_programs_of_a_process_may_be_compiled_at_once():
    """What they share is made once: of two copies one was dropped while its code was in use."""
    run(FIRST)


FORK = """
import os, threading, time
from symdiff.process import Once
begun = threading.Event()
def slowly():
    begun.set()
    time.sleep(0.3)
    return os.getpid()
get = Once(slowly)
threading.Thread(target=get).start()
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if get() == os.getppid() else 1)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@forks
def test_a_child_finds_what_was_being_made():
    run(FORK)


def forked_within(held: str) -> str:
    """Fork while another thread holds something."""
    return f"""
inside, leave = threading.Event(), threading.Event()
def work():
    with {held}:
        inside.set()
        leave.wait()
thread = threading.Thread(target=work)
thread.start()
inside.wait()
child = os.fork()
"""


COLLECTION = """
import gc, os, threading
from symdiff.ir.collecting import uncollected
""" + forked_within("uncollected()") + """if child == 0:
    os._exit(0 if gc.isenabled() else 1)
leave.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0 and gc.isenabled()
print("done")
"""


@forks
def test_a_child_collects_what_its_parent_left_for_later():
    run(COLLECTION)


GATE = """
import ctypes, os, threading
from symdiff.vectorcall import Gate
gate = Gate()
closed = ctypes.c_int64.from_address(gate.address)
""" + forked_within("gate, gate._lock") + """if child == 0:
    first = closed.value
    with gate:
        within = closed.value
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if closed.value == 1 else 1)
        good = os.waitpid(grandchild, 0)[1] == 0
    os._exit(0 if good and (first, within, closed.value) == (0, 1, 0) else 1)
assert closed.value == 1
leave.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0 and closed.value == 0
print("done")
"""


@forks
def test_a_child_does_not_wait_for_its_parents_gate():
    run(GATE)


IMPORT = """
import faulthandler, os, sys, threading, time
import numpy as np
import symdiff as sd
X = sd.symbol("X", (30, 30))
def work():
    sd.compile({output}, [X])
{before}
thread = threading.Thread(target=work)
thread.start()
while "{module}" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(60, exit=True)
    work()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
print("done")
"""


@forks
@pytest.mark.parametrize(
    ("output", "before", "module"),
    [("X * X", "", "codegen"), ("np.linalg.inv(X)", "sd.compile(X * X, [X])", "scipy")], ids=["codegen", "scipy"],
)  # fmt: skip
def test_a_fork_waits_for_what_is_imported_late(output, before, module):
    run(IMPORT.format(output=output, before=before, module=module))


END = """
import gc
import numpy as np
import symdiff as sd
from codegen.llvm import base
from codegen import compiled
n, m = sd.dims("n m")
A = sd.symbol("A", (n, m))
f = sd.compile([np.sin(A), A @ A.T], [A])
a = np.random.default_rng(0).normal(size=(500, 700))[::2]
expected = f(a)
vars(base).clear()  # as at the end of the interpreter
vars(compiled).clear()
gc.collect()
assert all(map(np.array_equal, f(a), expected))
print("done")
"""


def test_what_is_shared_outlives_the_modules_it_is_made_by():
    run(END)


WAITING = """
import threading
import symdiff as sd
from symdiff.process import LOADING
x = sd.symbol("x", (3,))
sd.compile(x * x, [x])
with LOADING:  # as who imports something at length
    thread = threading.Thread(target=lambda: sd.compile(x + x, [x]), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
print("done")
"""


def test_compiling_does_not_wait_for_what_others_import():
    run(WAITING)
