"""The engine (LLVM text to addresses), its cache on disk, and the addresses of LAPACK."""

import concurrent.futures
import ctypes
import gc
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from codegen.errors import CompilationError
from codegen.jit import engine, lapack, objcache

RNG = np.random.default_rng(77)
AFFINE = """
@offset = constant double 2.5
define internal double @part(double %x) alwaysinline {
  %y = fmul double %x, %x
  ret double %y
}
define double @affine(double %x) {
  %y = call double @part(double %x)
  %k = load double, ptr @offset
  %z = fadd double %y, %k
  ret double %z
}
"""
SINE = "declare double @sin(double)\ndefine double @f(double %x) { %y = call double @sin(double %x)\n ret double %y }"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(tmp_path / "objects"))
    return tmp_path / "objects"


def real_function(library, name):
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address(name))


def entries(folder):
    return sorted(folder.iterdir())


@pytest.mark.parametrize("opt", engine.TIERS)
def test_every_tier_computes_the_same(opt):
    library = engine.compile_text(AFFINE, ["affine"], opt, cache=False)
    x = float(RNG.standard_normal())
    assert real_function(library, "affine")(x) == x * x + 2.5
    assert set(library.timings) == {"parse", "codegen", "load"} | ({"passes"} if opt else set())
    assert not library.cached and library.symbols == {"affine"} and library.object_bytes > 100


def test_optimizing_inlines_and_never_fuses():
    assert "call" in engine.optimized_ir(AFFINE, 0)
    for opt in (1, 2, 3):
        text = engine.optimized_ir(AFFINE, opt)
        assert "call" not in text
        assert "vfmadd" not in engine.assembly(AFFINE, opt, "x86-64-v4")


def test_modules_whose_functions_are_all_written_are_left_as_they_are():
    square = 'define double @square(double %x) nounwind "written" {\n  %y = fmul double %x, 1.0\n  ret double %y\n}\n'
    assert "fmul" in engine.optimized_ir(square, 1)
    assert "fmul" not in engine.optimized_ir(square + "define void @other() {\n  ret void\n}\n", 1)


def test_targets():
    host = engine.host_target()
    assert engine.target_of(None, None) == host and host.cpu
    assert engine.target_of("x86-64-v2", None) == engine.Target("x86-64-v2", "")
    wide = "define void @f(ptr %p) { %v = load <8 x double>, ptr %p\n %w = fadd <8 x double> %v, %v\n"
    wide += " store <8 x double> %w, ptr %p\n ret void }"
    assert "ymm" not in engine.assembly(wide, 2, "x86-64-v2") and "zmm" not in engine.assembly(wide, 2, "x86-64-v2")
    assert "zmm" in engine.assembly(wide, 2, "x86-64-v4", "-prefer-256-bit")


def test_bad_modules_are_errors_with_reasons():
    with pytest.raises(CompilationError, match=r"(?s)refused the module.*expected type"):
        engine.compile_text("define nonsense", [])
    bad_dominance = "define i32 @f() {\n br label %b\na:\n %x = add i32 1, 2\n br label %b\nb:\n ret i32 %x\n}"
    with pytest.raises(CompilationError, match="refused the module"):
        engine.compile_text(bad_dominance, ["f"])
    with pytest.raises(CompilationError, match=r"nothing defines no_such_function_anywhere"):
        engine.compile_text(SINE.replace("@sin", "@no_such_function_anywhere"), ["f"])
    with pytest.raises(CompilationError, match="Symbols not found"):
        engine.compile_text(SINE, ["g"])
    with pytest.raises(CompilationError, match=r"opt: expected one of \(0, 1, 2, 3\), given 4"):
        engine.compile_text(SINE, ["f"], 4)
    with pytest.raises(CompilationError, match="no symbol 'g'; it was compiled for f"):
        engine.compile_text(SINE, ["f"]).address("g")


def test_symbols_come_from_imports_and_from_the_registry():
    callback = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 10 * x)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    text = SINE.replace("@sin", "@symdiff_test_callback")
    library = engine.compile_text(text, ["f"], imports={"symdiff_test_callback": address}, cache=False)
    assert real_function(library, "f")(1.25) == 12.5
    engine.add_symbol("symdiff_test_callback", address)
    try:
        assert real_function(engine.compile_text(text, ["f"], cache=False), "f")(1.5) == 15.0
    finally:
        engine._symbols.pop("symdiff_test_callback")
    with pytest.raises(CompilationError, match="0 is not an address"):
        engine.add_symbol("nowhere", 0)


def test_machine_code_is_freed():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    for _ in range(20):
        engine.compile_text(SINE, ["f"], 0, cache=False)
    gc.collect()
    before = resident()
    for _ in range(150):
        engine.compile_text(SINE, ["f"], 0, cache=False)
    gc.collect()
    assert resident() - before < 3_000_000  # 150 mappings kept alive would be 12 kB each, and as much again in LLVM


def test_threads_may_compile_at_once():
    def build(k):
        text = AFFINE.replace("2.5", f"{k}.0")
        return real_function(library := engine.compile_text(text, ["affine"], cache=False), "affine")(3.0), library

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [value for value, _ in pool.map(build, range(12))] == [9.0 + k for k in range(12)]


# ---- the cache


def test_the_second_compilation_reads_the_disk(folder):
    first = engine.compile_text(AFFINE, ["affine"])
    second = engine.compile_text(AFFINE, ["affine", "offset"])
    assert (first.cached, second.cached) == (False, True) and set(second.timings) == {"load"}
    assert real_function(second, "affine")(4.0) == 18.5
    assert [entry.suffixes for entry in entries(folder)] == [[".o", ".cache"]]
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0


def test_everything_that_matters_is_in_the_key(folder):
    engine.compile_text(AFFINE, ["affine"])
    for text, options in [
        (AFFINE + "\n", {}),
        (AFFINE, {"opt": 1}),
        (AFFINE, {"cpu": "x86-64-v2"}),
        (AFFINE, {"features": ""}),
    ]:
        assert not engine.compile_text(text, ["affine"], **options).cached
    assert len(entries(folder)) == 5
    assert objcache.key_of("ab", "c") != objcache.key_of("a", "bc")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_entries_are_replaced(folder, damage):
    engine.compile_text(AFFINE, ["affine"])
    (path,) = entries(folder)
    good = path.read_bytes()
    bad = {"flip": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "cut": good[:-7], "empty": b"", "foreign": b"x" * 500}
    path.write_bytes(bad[damage])
    again = engine.compile_text(AFFINE, ["affine"])
    assert not again.cached and real_function(again, "affine")(1.0) == 3.5
    assert path.read_bytes() == good
    assert engine.compile_text(AFFINE, ["affine"]).cached


def test_an_intact_entry_that_is_no_object_is_replaced(folder):
    engine.compile_text(AFFINE, ["affine"])
    (path,) = entries(folder)
    objcache.store(path.name.removesuffix(".o.cache"), b"not an object file")
    assert not engine.compile_text(AFFINE, ["affine"]).cached
    assert engine.compile_text(AFFINE, ["affine"]).cached


def test_the_cache_can_be_off(folder, monkeypatch):
    engine.compile_text(AFFINE, ["affine"], cache=False)
    assert not folder.exists()
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", "off")
    assert objcache.directory() is None
    assert not engine.compile_text(AFFINE, ["affine"]).cached
    assert not engine.compile_text(AFFINE, ["affine"]).cached


@pytest.mark.skipif(os.name != "posix", reason="modes of folders")
def test_a_folder_that_others_can_write_to_is_not_trusted(folder):
    folder.mkdir()
    folder.chmod(0o777)
    assert objcache.directory() is None
    engine.compile_text(AFFINE, ["affine"])
    assert not entries(folder)


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert objcache.directory() is None
    assert real_function(engine.compile_text(AFFINE, ["affine"]), "affine")(2.0) == 6.5


def test_the_platform_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("SYMDIFF_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert objcache.directory() == tmp_path / "symdiff" / "objects"


def test_the_sweep_keeps_what_was_used_last(folder):
    for i in range(10):
        objcache.store(f"k{i}", bytes(1000))
        os.utime(folder / f"k{i}.o.cache", (i, i))
    objcache.load("k0")  # a hit renews it
    objcache.sweep(folder, limit=6000)
    assert [p.name.split(".")[0] for p in entries(folder)] == ["k0", "k7", "k8", "k9"]
    objcache.sweep(folder, limit=6000)
    assert len(entries(folder)) == 4


def test_nothing_unfinished_stays(folder, monkeypatch):
    """Neither of a process that is interrupted while it writes nor of one that is killed."""
    objcache.store("whole", b"object")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        objcache.store("broken off", b"object")
    assert [p.name for p in entries(folder)] == ["whole.o.cache"]
    for name, age in ((".write-killed", 7200), (".write-at-work", 60)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    objcache.sweep(folder)
    assert [p.name for p in entries(folder)] == [".write-at-work", "whole.o.cache"]


# ---- LAPACK


def test_lapack_routines_can_be_called_from_kernels():
    lapack.register()
    text = """
declare void @symdiff_dpotrf(ptr, ptr, ptr, ptr, ptr)
define i32 @f(ptr %n, ptr %a) {
  %uplo = alloca i8
  %info = alloca i32
  store i8 76, ptr %uplo
  call void @symdiff_dpotrf(ptr %uplo, ptr %n, ptr %a, ptr %n, ptr %info)
  %status = load i32, ptr %info
  ret i32 %status
}"""
    library = engine.compile_text(text, ["f"], cache=False)
    potrf = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(library.address("f"))
    root = RNG.standard_normal((4, 4))
    a = np.asfortranarray(root @ root.T + np.eye(4))
    factor, n = a.copy(order="F"), np.array([4], np.int32)
    assert potrf(n.ctypes.data, factor.ctypes.data) == 0
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(a), rtol=1e-12)
    assert potrf(n.ctypes.data, np.asfortranarray(-a).ctypes.data) == 1


def test_lapack_addresses_and_signatures():
    assert len({lapack.address(routine) for routine in lapack.ROUTINES}) == 10 and lapack.available()
    with pytest.raises(CompilationError, match="'dgesv' is not one of dpotrf, spotrf"):
        lapack.address("dgesv")


@pytest.mark.parametrize(("letter", "dtype"), [("d", np.float64), ("s", np.float32)])
def test_lapack_solves(letter, dtype):
    def call(routine, *args):
        values = [np.array([a], np.int32) if isinstance(a, int) else a for a in args]
        pointers = [a if isinstance(a, bytes) else ctypes.c_void_p(a.ctypes.data) for a in values]
        ctypes.CFUNCTYPE(None)(lapack.address(letter + routine))(*pointers)

    n, count = 5, 2
    a = np.asfortranarray(RNG.standard_normal((n, n)) + 4 * np.eye(n), dtype)
    b = np.asfortranarray(RNG.standard_normal((n, count)), dtype)
    lu, pivots, info, x = a.copy(order="F"), np.zeros(n, np.int32), np.ones(1, np.int32), b.copy(order="F")
    tolerance = 1e-10 if letter == "d" else 2e-4
    call("getrf", n, n, lu, n, pivots, info)
    call("getrs", b"N", n, count, lu, n, pivots, x, n, info)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=tolerance, atol=tolerance)
    call("getri", n, lu, n, pivots, work := np.zeros(64 * n, dtype), work.size, info)
    np.testing.assert_allclose(lu, np.linalg.inv(a), rtol=tolerance, atol=tolerance)
    x = b.copy(order="F")
    call("trtrs", b"L", b"N", b"N", n, count, a, n, x, n, info)
    expected = scipy.linalg.solve_triangular(a, b, lower=True)
    np.testing.assert_allclose(x, expected, rtol=tolerance, atol=tolerance)
    assert info[0] == 0


def test_collected_libraries_wait_for_their_turn():
    """The finalizers of what a library holds do not close it while another thread is at work in LLVM."""
    made = engine.compile_text("define i32 @f() {\n  ret i32 7\n}\n", ["f"], opt=0, cache=False)
    parts = [made._tracker, made._engine]
    states = [vars(part) for part in parts]
    held, done = threading.Event(), threading.Event()

    def work():
        with engine.LLVM_LOCK:
            held.set()
            done.wait(60)

    worker = threading.Thread(target=work)
    worker.start()
    assert held.wait(60)
    made.held = (made,)  # a cycle: all of it is finalized at once
    del made, parts
    gc.collect()
    assert not any(state.get("_closed") for state in states)
    done.set()
    worker.join()
    assert all(state.get("_closed") for state in states)
