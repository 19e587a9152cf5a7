"""Functions as objects: how they look, how long they live, what threads and processes see of them."""

import copy
import ctypes
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from crowd import together
from handmade_kernels import (
    ADD3,
    MATVEC_SIGNATURE,
    NAMES,
    PRODUCT,
    ROOT,
    TEXT,
    WAIT,
    f64,
    outcome,
    vectors,
)

from codegen.entry import frames, pyapi
from codegen.entry import ir as entry_ir
from codegen.entry import native as entry
from codegen.entry.native import make_function
from codegen.entry.signature import Signature
from codegen.jit import engine
from symdiff import vectorcall

RNG = np.random.default_rng(20261122)


def test_functions_look_like_functions(make):
    f = make(MATVEC_SIGNATURE)
    assert repr(f) == "<native function matvec(W: f64[m, n], x: f64[n]) -> y: f64[m]>"
    assert f.__name__ == "matvec" and f.signature is MATVEC_SIGNATURE and callable(f)
    assert isinstance(f, entry.NativeFunction)
    assert list(inspect.signature(f).parameters) == ["W", "x", "out", "sizes"]
    assert copy.copy(f) is f and copy.deepcopy([f])[0] is f
    with pytest.raises(TypeError, match="matvec: machine code cannot be pickled"):
        pickle.dumps(f)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(f.bind(np.ones((2, 2)), np.ones(2)))
    odd = make(Signature("nothing", (), (f64("out"), f64("lambda")), ()))
    assert odd(1.0, 2.0) == () and str(inspect.signature(odd)) == "(arg0, arg1, /, *, out=None, sizes=None)"
    W, x = np.eye(3), np.arange(3.0)
    assert next(map(f, [W], [x])).tolist() == f(*(W, x)).tolist() == f.__call__(W, x).tolist() == [0.0, 1.0, 2.0]


def test_code_lives_as_long_as_its_users():
    library = engine.compile_text(TEXT, NAMES, opt=0, cache=False)
    f = make_function(ADD3, library)
    v = vectors()
    call = f.bind(*v)
    del library, f
    gc.collect()
    np.testing.assert_array_equal(call(), v.sum(axis=0))


def test_nothing_leaks(make):
    add, product, root = make(ADD3), make(PRODUCT), make(ROOT)
    x, y, z = vectors()
    call = add.bind(x, y, z)

    def work(repeats):
        for _ in range(repeats):
            add(x, y, z)
            product(1.5, 2, np.float64(3.0))
            call()
        for _ in range(repeats // 50):
            outcome(root, -1.0)
            outcome(add, x, y, None)
            outcome(add, x, [1.0] * 6, z)
            outcome(add, x, y, z, out=x)

    watched = [x, y, z, call.out, np.dtype(float), np.ndarray, float, add, product, None, (), True]
    work(100)
    gc.collect()
    before = [sys.getrefcount(o) for o in watched]
    blocks = sys.getallocatedblocks()
    work(2000)
    gc.collect()
    after = [sys.getrefcount(o) for o in watched]
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True)), list(zip(before, after, strict=True))
    assert sys.getallocatedblocks() - blocks < 500


def test_no_kind_of_call_leaks():
    """The whole check is `bench/calls.py --leak 10000000`."""
    script = Path(__file__).parent.parent / "bench" / "calls.py"
    done = subprocess.run(
        [sys.executable, script, "--leak", "5000"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0 and done.stdout.count(" times: ") > 25, done.stdout + done.stderr


def test_functions_are_freed(library):
    def count():
        return sum(isinstance(o, (entry.NativeFunction, entry.BoundCall)) for o in gc.get_objects())

    gc.collect()
    before = count()
    functions = [make_function(ADD3, library) for _ in range(50)]
    calls = [f.bind(*vectors()) for f in functions]
    assert count() == before + 100
    del functions, calls
    assert count() == before  # no cycle: reference counts alone free them


# ---- threads


def test_threads_do_not_disturb_each_other(make):
    f = make(MATVEC_SIGNATURE, release_above=0)
    problems = [(RNG.standard_normal((k + 2, k + 1)), RNG.standard_normal(k + 1)) for k in range(4)]
    wrong = []

    def work(W, x):
        expected = f(W, x).tobytes()
        wrong.extend(1 for _ in range(2000) if f(W, x).tobytes() != expected)

    together(work, problems)
    assert not wrong
    for W, x in problems:
        np.testing.assert_allclose(f(W, x), W @ x, rtol=1e-13)


@pytest.mark.parametrize("bound", [False, True])
def test_the_gil_is_released_above_the_threshold(make, bound):
    f = make(WAIT, release_above=2)
    flag = np.zeros(3)
    call = f.bind(flag) if bound else lambda: f(flag)
    timer = threading.Timer(0.02, flag.fill, (1.0,))
    timer.start()
    assert call() == ()  # the kernel ends only when the timer's thread can run
    timer.join()


def test_threads_share_the_portable_path(library):
    """Frames are borrowed for a call: sizes and numbers of one thread never meet those of another."""
    f, g = (make_function(s, library, portable=True) for s in (MATVEC_SIGNATURE, PRODUCT))
    problems = [(RNG.standard_normal((k + 2, k + 1)), RNG.standard_normal(k + 1)) for k in range(6)]
    wrong = []

    def work(number):
        W, x = problems[number]
        expected, out = W @ x, np.empty(len(W))
        for _ in range(300):
            wrong.extend(1 for y in (f(W, x), f(W, x, out=out)) if not np.allclose(y, expected, rtol=1e-12))
            wrong.extend([1] * (g(2.0, number, 3.0) != (6.0 * number, 3.0 * number, 6.0, 2.0 * number)))

    together(work, [(number,) for number in range(6)])
    assert not wrong


def test_converted_arguments_go_through_the_fast_entry(library, monkeypatch):
    """What only has to be converted or put in order takes no second way; errors are told as for all others."""
    f, root = make_function(ADD3, library), make_function(ROOT, library)
    x, y, z = vectors()
    with monkeypatch.context() as patch:
        patch.setattr(f._marshal, "run", None)
        for answer in (f(x.tolist(), y, z), f(x, z=z, y=y), f(x, y.astype(">f8"), z=z.tolist(), out=np.empty(6))):
            np.testing.assert_array_equal(answer, x + y + z)
    name = ROOT.params[0].name
    assert outcome(root, -1.0) == outcome(root, np.float32(-1.0)) == outcome(root, **{name: -1.0})
    with pytest.raises(TypeError, match="z: expected"):
        f(x.tolist(), y, z="a")


def test_sizes_seen_before_are_still_checked(library):
    f = make_function(ADD3, library, portable=True)
    for n in [*range(200), 3, 150]:
        assert f(*np.ones((3, n))).shape == (n,)
    for sizes, message in (({"n": 4}, "but 4 in sizes"), ({"k": 3}, "sizes names 'k'")):
        with pytest.raises(ValueError, match=message):
            f(*np.ones((3, 3)), sizes=sizes)
    with pytest.raises(ValueError, match=r"dimension n is 2 here \(axis 0\) but 3 in x"):
        f(np.ones(3), np.ones(3), np.ones(2))


def test_addresses_are_those_numpy_gives():
    base = RNG.standard_normal((6, 8))
    frozen = base[2:4]
    frozen.flags.writeable = False
    for array in (base, base.T[3:], base[::-1, ::2], frozen, np.array(1.0), np.empty((0, 3)), base.view(np.recarray)):
        assert frames.address_of(array) == array.__array_interface__["data"][0] == frames._slowly(array)


# ---- the process


def run_python(source, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_portable_path_can_be_forced():
    source = "from codegen.entry import native as entry; print(entry.fast_entry_status())"
    assert run_python(source, SYMDIFF_PORTABLE_CALLS="1") == "SYMDIFF_PORTABLE_CALLS is set"


def test_an_entry_that_gets_no_better_code_gathers_no_functions(library, early_entry, monkeypatch):
    monkeypatch.setattr(entry._entry, "made", {(): early_entry})
    functions = [make_function(PRODUCT, library)]
    waiting = len(early_entry._early)
    assert waiting and early_entry._early[-1]() is functions[0]
    monkeypatch.setattr(early_entry._better, "ended", threading.Event())
    monkeypatch.setattr(early_entry._better, "failure", "")
    early_entry._better.give_up("the system has no more threads")
    functions.append(make_function(PRODUCT, library))
    assert len(early_entry._early) == waiting
    assert all(f.is_fast and f(2.0, 3.0, 5.0) == (30.0, 15.0, 10.0, 6.0) for f in functions)


@pytest.mark.parametrize("early", [False, True], ids=["after", "before"])
def test_the_entry_may_be_exchanged_while_a_function_is_made(library, early_entry, monkeypatch, early):
    """Just before the function gets its pointers, or just after."""
    better, install = entry._fast_entry()._libraries[-1], vectorcall.install
    for name in ("_call", "_call_bound"):
        monkeypatch.setattr(early_entry, name, getattr(early_entry, name))
    monkeypatch.setattr(early_entry, "_libraries", list(early_entry._libraries))

    def exchanging(*arguments):
        if early:
            early_entry.exchange(better)
        install(*arguments)
        if not early:
            early_entry.exchange(better)

    monkeypatch.setattr(vectorcall, "install", exchanging)
    monkeypatch.setattr(entry._entry, "made", {(): early_entry})
    f = make_function(PRODUCT, library)
    pointer = ctypes.c_void_p.from_address(id(f) + object.__basicsize__).value
    assert pointer == better.address(entry_ir.CALL) and f(2.0, 3.0, 5.0) == (30.0, 15.0, 10.0, 6.0)


def test_a_failed_probe_leaves_the_portable_path(library, monkeypatch):
    def refuse():
        raise vectorcall.ProbeError("size of an object header: found 24, expected 16")

    monkeypatch.setattr(entry._entry, "made", {})
    monkeypatch.setattr(pyapi, "probe", refuse)
    f = make_function(PRODUCT, library)
    assert not f.is_fast and f(1.0, 2.0, 3.0) == (6.0, 6.0, 3.0, 2.0)
    assert [float(v) for v in f.bind(1.0, 2.0, 3.0)()] == [6.0, 6.0, 3.0, 2.0]
    assert "found 24, expected 16" in entry.fast_entry_status()


@pytest.mark.parametrize(
    ("module", "name", "value", "reason"),
    [
        ("sysconfig", "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else None, "a free-threaded build"),
        ("sys", "gettotalrefcount", lambda: 0, "a debug build"),
        ("sys", "version_info", (3, 99, 0, "final", 0), "CPython 3.99 is not a version known here"),
        ("sys", "implementation", types.SimpleNamespace(name="other"), "the interpreter is other"),
        ("sys", "byteorder", "big", "not a little-endian 64-bit machine"),
        ("struct", "calcsize", lambda form: 4, "not a little-endian 64-bit machine"),
    ],
)
def test_builds_that_are_not_proven_safe_take_the_portable_path(library, monkeypatch, module, name, value, reason):
    """Of such a build only what the probe looks at is faked here; the answers are those of the portable path."""
    x, y, z = vectors()
    with monkeypatch.context() as patch:
        patch.setattr(entry._entry, "made", {})
        patch.setattr(getattr(vectorcall, module), name, value, raising=False)
        status = entry.fast_entry_status()
        f = make_function(ADD3, library)
        bound = f.bind(x, y, z)
        answers = f(x, y, z), f(list(x), y, z), f(x, y, z, out=np.empty(6)), bound()
    assert reason in status and not f.is_fast and f.guarded(print, vectorcall.Gate()) is None
    for answer in answers:
        np.testing.assert_array_equal(answer, x + y + z)


def test_probes_notice_a_wrong_offset():
    offsets = dict(pyapi.probe().offsets)
    for name in ("ARRAY_DATA", "ARRAY_ND", "ARRAY_SHAPE", "ARRAY_STRIDES", "ARRAY_DESCR", "ARRAY_FLAGS"):
        with pytest.raises(vectorcall.ProbeError, match="array"):
            pyapi._check_arrays(offsets | {name: offsets[name] + 8})
    for name in ("FLOAT_VALUE", "TUPLE_ITEMS", "TUPLE_SIZE", "SCALAR_VALUE"):
        with pytest.raises(vectorcall.ProbeError, match=r"value|tuple"):
            pyapi._check_python_objects(offsets | {name: offsets[name] - 8})


def test_functions_may_outlive_the_module_at_exit(tmp_path):
    """A finalizer that calls a function while the interpreter shuts down finds its code in place."""
    text = "define i32 @f(ptr %dims, ptr %data, ptr %strides) { ret i32 0 }"
    source = f"""
import sys
from codegen.jit import engine
from codegen.entry import native as entry
from codegen.entry.signature import Signature
f = entry.make_function(Signature("f", (), (), ()), engine.compile_text({text!r}, ["f"]))
class Late:
    def __init__(self, f): self.f, self.write = f, sys.stdout.write
    def __del__(self): self.write(repr(self.f()))
sys.late = Late(f)
"""
    assert run_python(source, SYMDIFF_CACHE_DIR=str(tmp_path)) == "()"


def test_a_function_can_be_referred_to_weakly(make):
    f = make(ADD3)
    reference = weakref.ref(f)
    assert reference() is f and {f: 1}[f] == 1
    del f
    assert reference() is None
