"""Looking inside compiled functions: texts of every stage, tables of kernels; code that gets better while it runs."""

import gc
import os
import re
import subprocess
import sys
import threading
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import codegen
import symdiff as sd
from codegen import compiled
from codegen.entry import ir as entry_ir
from codegen.errors import CompilationError
from codegen.jit import engine, tiers
from symdiff.api.expression import function_of
from symdiff.errors import ArgumentError, SymdiffError
from symdiff.ir.collecting import uncollected


@pytest.fixture
def softmax_gradient():
    n, m = sd.dims("n m")
    A, y = sd.symbol("A", (n, m)), sd.symbol("y", (n, m))
    f = -np.sum(y * (A - sd.logsumexp(A, axis=1, keepdims=True)))
    return sd.compile([f, sd.gradient(f, A)], [A, y])


def test_every_stage_has_a_text(softmax_gradient):
    fn = softmax_gradient
    assert fn.ir.startswith("fn f(%A: f64[n,m]") and "program kernel(n, m)" in fn.loops
    assert "define i32 @kernel(" in fn.llvm and "kernel:" in fn.asm
    assert set(fn.timings) >= {"lower", "emit", "compile", "entry"}
    fn.timings.clear()
    assert fn.timings, "a copy is given away"


def test_explain_names_kernels_buffers_and_work(softmax_gradient):
    text = softmax_gradient.explain()
    lines = text.splitlines()
    assert lines[0].split() == ["kernel", "loops", "computes", "reads", "writes", "work"]
    assert "exp" in text and "A[n, m]" in text and "r1[n, m]" in text and "measured" not in text
    assert re.search(r"temporaries: .*t\d+ \d", text)
    assert all(line == line.rstrip() for line in lines)


def test_explain_measures_on_given_arrays(softmax_gradient, rng):
    A, y = rng.normal(size=(2, 30, 7))
    text = softmax_gradient.explain(A, y)
    lines = text.splitlines()
    kernels = softmax_gradient.compiled.program.kernels
    assert lines[0].split()[-2:] == ["predicted", "measured"] and "A[30, 7]" in text
    measured = [re.search(r"([\d.]+) (ns|us|ms|s)$", line) for line in lines[2 : 2 + len(kernels)]]
    assert all(measured) and re.search(r"\ntotal: predicted [\d.]+ \w+, measured [\d.]+ \w+\n", text)
    with pytest.raises(SymdiffError, match="expected 2 arguments"):
        softmax_gradient.explain(A)


@dataclass(frozen=True)
class Slow:
    """A machine in which a kernel takes ten seconds, and two more for every register of sines."""

    register: int = 32

    def seconds(self, kernel):
        return 10.0 + 2 * sum(s.times * s.units.get("sin", 0) for s in kernel.stretches)


def test_predictions_come_from_the_model_of_the_machine(rng):
    """Five elements are two registers."""
    x = sd.symbol("x", (sd.dim("n"),))
    y = np.sin(x) * x
    predictions = []
    for output in (y, x * 1.5):
        fn = codegen.compile(function_of([output], [x], "f"), figures=Slow)
        predictions.append(re.search(r"total: predicted ([\d.]+) s", fn.explain(rng.normal(size=5))).group(1))
    assert predictions == ["14.00", "10.00"]
    fn = codegen.compile(function_of([y], [x], "f"), figures=lambda: pytest.fail("nothing to predict"))
    assert "predicted" not in fn.explain()
    assert "predicted" in codegen.compile(function_of([y], [x], "f")).explain(np.ones(3))


def test_much_work_on_little_data_is_known_before_the_call():
    """The GIL is released around it."""
    n = sd.dim("n")
    A = sd.symbol("A", (n, n))
    fn = sd.compile(np.sum(np.tanh(np.tanh(A @ A) @ A) @ A), [A])
    amounts = [fn._marshal.amount(fn.bind(np.eye(size))._bound.frame) for size in (2, 20, 200)]
    assert amounts[0] < entry_ir.LONG_WORK < amounts[2] and amounts[1] < amounts[2] / 100


def test_explain_tells_what_code_is_in_force(softmax_gradient, felt):
    softmax_gradient.compiled.settle(60)
    assert softmax_gradient.explain().endswith("code: full passes")
    fn = sd.compile(*long_program())
    text = fn.explain()
    fn.compiled.settle(60)
    assert text.endswith(("code: without passes; better code is on its way", "code: light passes"))
    assert fn.explain().endswith("code: light passes")


def test_explain_says_what_threads_share():
    x = sd.symbol("x", (sd.dim("n"),))
    assert "n in blocks" not in sd.compile(np.exp(x), [x]).explain()
    shared = sd.compile(np.exp(x), [x], threads=2)
    assert "shared" in shared.explain() or not codegen.jit.pool.available()
    assert "shared" in shared.explain(np.ones(10))


# -------------------------------------------------------------------- tiers
def long_program(length=400):
    rng = np.random.default_rng(1)
    symbols = [sd.symbol(f"x{i}") for i in range(4)]
    values = list(symbols)
    for _ in range(length):
        a, b = (values[i] for i in rng.integers(max(0, len(values) - 30), len(values), 2))
        values.append(np.sin(a) if rng.random() < 0.3 else a * b if rng.random() < 0.5 else a + b)
    return [values[-1], *sd.gradient(values[-1], symbols)], symbols


@pytest.fixture
def felt(monkeypatch, tmp_path):
    """Programs of any length run without passes first."""
    monkeypatch.setattr(compiled, "_FELT", 0)
    monkeypatch.setattr(compiled, "_MANY", 0)
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(tmp_path))


def test_better_code_comes_later_with_the_same_bits(felt):
    outputs, inputs = long_program()
    fn = sd.compile(outputs, inputs)
    bound = fn.bind(*(np.array(v) for v in (0.3, 0.4, 0.5, 0.6)))
    first = fn(0.3, 0.4, 0.5, 0.6)
    assert fn.compiled.settle(60) and fn.compiled.opt == 1 and fn.timings["second tier"] > 0
    assert fn(0.3, 0.4, 0.5, 0.6) == first == tuple(float(r) for r in bound())
    again = sd.compile(outputs, inputs)  # the better object lies on the disk by now
    assert again.compiled.upgrade is None and again.compiled.opt == 1
    assert again(0.3, 0.4, 0.5, 0.6) == first


def test_programs_nobody_holds_are_not_compiled_again(felt, monkeypatch):
    started = []
    monkeypatch.setattr(tiers.Upgrade, "finish", lambda self: started.append(self))
    with engine.LLVM_LOCK:
        sd.compile(*long_program(50))
        gc.collect()
    assert len(started) <= 1


def test_better_code_waits_for_a_pause_or_for_whom_it_is_asked_by(felt, monkeypatch):
    """A program that compiles one function after the other does not wait for better code of the first."""
    monkeypatch.setattr(tiers, "PAUSE", 1000.0)
    fn = sd.compile(*long_program(60))
    assert not fn.compiled.upgrade.ended.wait(0.3), "better code was made at once"
    assert fn.compiled.settle(100)


def test_better_code_is_made_at_once_where_an_earlier_process_did_not_come_to_it(felt, monkeypatch):
    """Short scripts would run the first code for ever."""
    monkeypatch.setattr(tiers, "PAUSE", 1000.0)
    assert not sd.compile(*long_program(60)).compiled.upgrade.ended.is_set()
    gc.collect()
    again = sd.compile(*long_program(60)).compiled
    assert again.upgrade.ended.wait(60) and again.opt == 1
    assert sd.compile(*long_program(60)).compiled.upgrade is None


def test_nothing_waits_for_code_made_in_advance(felt, monkeypatch):
    """Lowering and emission ask the engine for the processor's name only."""
    found = threading.Thread(target=engine.host_target)
    with engine.LLVM_LOCK:
        found.start()
        found.join(20)
    assert not found.is_alive()


def test_what_is_made_is_not_made_again(felt):
    """A child that was waiting for a compilation finds it both made and in the list."""
    fn = sd.compile(*long_program(60))
    assert fn.compiled.settle(100) and tiers.idle(60)
    upgrade = fn.compiled.upgrade
    made = upgrade._library
    tiers._waiting.append(weakref.ref(upgrade))
    assert tiers.idle(60) and upgrade._library is made


@pytest.fixture
def failing(monkeypatch):
    """failing[name] = error: what making better code of the program of that name ends with."""
    exchange, errors = tiers.Upgrade.exchange, {}

    def fail(self, library):
        if self.name in errors:
            raise errors[self.name]
        exchange(self, library)

    monkeypatch.setattr(tiers.Upgrade, "exchange", fail)
    return errors


def test_better_code_that_fails_leaves_the_first_in_force_and_the_others_alone(felt, failing, monkeypatch):
    monkeypatch.setattr(tiers, "PAUSE", 1000.0)
    failing["doomed"] = CompilationError("no memory for code")
    outputs, inputs = long_program(60)
    doomed, other = sd.compile(outputs, inputs, name="doomed"), sd.compile(outputs[0], inputs)
    expected = doomed(0.3, 0.4, 0.5, 0.6)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert not doomed.compiled.settle(60)
        assert other.compiled.settle(60)  # the warning has been given by then
    message = "making better code failed: CompilationError: no memory for code"
    assert [str(w.message) for w in told] == [f"doomed: the first code stays in force, {message}"]
    assert doomed.compiled.opt == 0 and "second tier" not in doomed.timings
    assert doomed.explain().endswith(f"code: without passes; {message}")
    assert other.compiled.opt == 1
    assert doomed(0.3, 0.4, 0.5, 0.6) == expected and other(0.3, 0.4, 0.5, 0.6) == expected[0]


def test_warnings_as_errors_do_not_stop_better_code(felt, failing):
    failing["doomed"] = MemoryError()
    doomed = sd.compile(*long_program(60), name="doomed")
    assert not doomed.compiled.settle(60)
    assert sd.compile(*long_program(50)).compiled.settle(60)


@pytest.fixture
def early(felt, monkeypatch):
    """Better code is not made by itself, and the first is good for a thousand sines and no more."""
    monkeypatch.setattr(tiers, "PAUSE", 1000.0)
    monkeypatch.setattr(tiers, "MUCH", 20_000)


def sines(name="sines"):
    x = sd.symbol("x", (sd.dim("n"),))
    return sd.compile([np.sin(x), np.sum(np.sin(x))], [x], name=name)


@pytest.mark.parametrize("way", ["call", "out", "bound", "portable"])
def test_a_call_with_much_work_waits_for_better_code(early, way):
    fn = sines()
    few, many = np.linspace(0, 1, 100), np.linspace(0, 1, 10_000)
    out = np.empty(10_000)
    assert fn(few)[1] == pytest.approx(np.sum(np.sin(few))) and fn.compiled.opt == 0
    bound = fn.bind(many, out=(out, None))
    assert fn.compiled.opt == 0
    if way == "call":
        found = fn(many)
    elif way == "out":
        found = fn(many, out=(out, None))
    elif way == "bound":
        found = bound()
    else:
        found = fn(list(many))
    assert fn.compiled.opt == 1 and fn.timings["second tier"] > 0
    assert np.allclose(found[0], np.sin(many), rtol=1e-14) and found[1] == pytest.approx(np.sum(np.sin(many)))
    assert way in ("call", "portable") or found[0] is out


def test_products_have_code_of_their_own_and_wait_for_none(early):
    A = sd.symbol("A", (sd.dim("n"), sd.dim("n")))
    fn = sd.compile(A @ A, [A])
    given = np.eye(100) / 3
    assert np.allclose(fn(given), np.eye(100) / 9) and fn.compiled.opt == 0
    assert fn._marshal.amount(fn.bind(given)._bound.frame) > 20 * tiers.MUCH


def test_calls_from_many_threads_wait_for_one_compilation(early):
    fn = sines()
    upgrade, many = fn.compiled.upgrade, np.linspace(0, 1, 10_000)
    libraries, found = set(), []

    def work():
        found.append(fn(many)[1])
        libraries.add(id(upgrade._library))

    threads = [threading.Thread(target=work) for _ in range(6)]
    with engine.LLVM_LOCK:
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 6 and len(set(found)) == 1 and len(libraries) == 1 and fn.compiled.opt == 1


def test_where_better_code_fails_much_work_is_done_by_the_first(early, failing):
    failing["doomed"] = CompilationError("no memory for code")
    doomed, many = sines(name="doomed"), np.linspace(0, 1, 10_000)
    with pytest.warns(RuntimeWarning, match="doomed: the first code stays in force"):
        found = doomed(many)
    assert np.array_equal(found[0], doomed(many)[0])  # without a warning
    assert np.allclose(found[0], np.sin(many), rtol=1e-14) and doomed.compiled.opt == 0


def test_an_interrupt_of_a_call_that_waits_leaves_the_better_code_to_others(early, failing):
    failing["sines"] = KeyboardInterrupt()
    fn, many = sines(), np.linspace(0, 1, 10_000)
    with pytest.raises(KeyboardInterrupt):
        fn(many)
    assert fn(many)[1] == pytest.approx(np.sum(np.sin(many))) and fn.compiled.opt == 0
    del failing["sines"]
    assert fn.compiled.settle(60) and fn(many)[1] == pytest.approx(np.sum(np.sin(many)))


def test_loops_that_take_no_step_are_no_work():
    x = sd.symbol("x", (sd.dim("n"),))
    f = np.sum((x[1:] - x[:-1] ** 2) ** 2)
    fn = sd.compile([f, sd.gradient(f, x)], [x])
    amounts = [fn._marshal.amount(fn.bind(np.ones(size))._bound.frame) for size in (2, 100, 10_000)]
    assert 0 <= amounts[0] < amounts[1] < amounts[2] < 1_000 * amounts[1]


def test_a_system_without_more_threads_keeps_the_first_code(felt, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    assert tiers.idle(60)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        fn = sd.compile(*long_program(60))
        assert fn.explain().endswith("making better code failed: can't start new thread")
        assert not fn.compiled.settle(None)
    assert sd.compile(*long_program(50)).compiled.settle(60)


def test_an_interrupt_in_the_middle_of_asking_stops_nobody(felt, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    assert tiers.idle(60)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupt)
        sd.compile(*long_program(60))
    assert sd.compile(*long_program(50)).compiled.settle(60)


def test_tiers_by_length():
    for loops in (False, True):
        assert compiled._tiers("\n" * 10, 2, loops) == (2, 2)
        assert compiled._tiers("\n" * 4_000, 2, loops) == (0, 2)
        assert compiled._tiers("\n" * 10_000, 2, loops) == (0, 1)
        assert compiled._tiers("\n" * 10_000, 0, loops) == (0, 0)
        assert compiled._tiers("\n" * 100_000, 2, loops) == (0, 0)
    assert compiled._tiers("\n" * 50_000, 2, False) == (0, 0)
    assert compiled._tiers("\n" * 50_000, 2, True) == (0, 1)


SCRIPT = """
import os
import numpy as np
import symdiff as sd
from codegen import compiled
compiled._FELT = 0
x = sd.symbol("x", (sd.dim("n"),))
fns = [sd.compile(np.exp(x) * k, [x]) for k in range(3, 6)]
child = os.fork()
y = np.ones(3)
assert all(np.allclose(f(y), k * np.e) for k, f in enumerate(fns, 3))
if child == 0:
    assert np.allclose(sd.compile(np.exp(x) * 7, [x])(y), 7 * np.e)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


CHILD = """
import os, time
import symdiff as sd
from codegen import compiled
from codegen.entry import native as entry
from codegen.jit import tiers
assert entry.settle(100)
compiled._FELT = 0
tiers.PAUSE = 1000.0
x = sd.symbol("x", (sd.dim("n"),))
fn = sd.compile(x * 3.5, [x])
child = os.fork()
if child == 0:
    assert fn.compiled.opt == 0 and fn.compiled.settle(60) and fn([2.0])[0] == 7.0 and fn.compiled.opt == 2
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0 and not fn.compiled.upgrade.ended.is_set()
tiers.PAUSE = 0.0
child = os.fork()
if child == 0:
    assert fn.compiled.upgrade.ended.wait(60)  # without being asked for
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


LATE = """
import threading
import symdiff as sd
from codegen import compiled
compiled._FELT = 0
x = sd.symbol("x", (sd.dim("n"),))
def work():
    threading.main_thread().join()
    fn = sd.compile(x * 3.5, [x])
    assert not fn.compiled.settle() and fn([2.0])[0] == 7.0
    print("done")
threading.Thread(target=work).start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("script", [SCRIPT, CHILD, LATE], ids=["at work", "child", "late"])
def test_forks_and_exit_while_better_code_is_made(script):
    environment = {**os.environ, "SYMDIFF_CACHE_DIR": "off"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=100, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_collection_is_switched_back_on():
    assert gc.isenabled()
    with pytest.raises(ArgumentError), uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
        raise ArgumentError("leaving by an error")
    assert gc.isenabled()


def test_collection_is_switched_back_on_after_an_interrupt(monkeypatch):
    disable = gc.disable

    def interrupted():
        disable()
        raise KeyboardInterrupt  # as soon as it is off

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(gc, "disable", interrupted)
        with uncollected():
            pass
    assert gc.isenabled()


def test_what_the_code_reads_lives_as_long_as_a_bound_call(monkeypatch):
    """The cell of a program in two tiers and its constants belong to the code, not to the function object."""
    monkeypatch.setattr(compiled, "_FELT", 0)
    monkeypatch.setattr(compiled.engine, "on_disk", lambda *_: False)
    x = sd.symbol("x", (sd.dim("n"),))
    weights = np.arange(5.0) + 0.123456789
    fn = sd.compile(np.sum(np.sin(x[:5]) * weights), [x])
    upgrade = weakref.ref(fn.compiled.upgrade)
    at = np.linspace(-1, 1, 7)
    call = fn.bind(at)
    del fn
    gc.collect()
    assert upgrade() is not None
    assert call() == pytest.approx(np.sum(np.sin(at[:5]) * weights))
    upgrade().ended.wait(60)
    assert call() == pytest.approx(np.sum(np.sin(at[:5]) * weights))
    del call
    gc.collect()
    assert upgrade() is None
