"""What a call costs: median nanoseconds through the fast entry, the portable path, ctypes by hand, and plain Python.

    python bench/calls.py            # the table
    python bench/calls.py --leak N   # N calls of each kind (errors and conversions N / 20): memory and reference counts
    python bench/calls.py --json     # the figures, for comparison with a stored run
"""

import argparse
import ctypes
import functools
import gc
import json
import os
import platform
import statistics
import sys
import timeit
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout measures itself

import symdiff as sd
from codegen.entry import native as entry
from codegen.entry.signature import ArraySpec, Signature
from codegen.jit import engine, tiers

KERNELS = """
define i32 @product(ptr %dims, ptr %data, ptr %strides) {
  %a0 = load ptr, ptr %data
  %p1 = getelementptr ptr, ptr %data, i64 1
  %a1 = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %data, i64 2
  %a2 = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %data, i64 3
  %r0 = load ptr, ptr %p3
  %p4 = getelementptr ptr, ptr %data, i64 4
  %r1 = load ptr, ptr %p4
  %p5 = getelementptr ptr, ptr %data, i64 5
  %r2 = load ptr, ptr %p5
  %p6 = getelementptr ptr, ptr %data, i64 6
  %r3 = load ptr, ptr %p6
  %x = load double, ptr %a0
  %y = load double, ptr %a1
  %z = load double, ptr %a2
  %xy = fmul double %x, %y
  %yz = fmul double %y, %z
  %xz = fmul double %x, %z
  %v = fmul double %xy, %z
  store double %v, ptr %r0
  store double %yz, ptr %r1
  store double %xz, ptr %r2
  store double %xy, ptr %r3
  ret i32 0
}
define i32 @add3(ptr %dims, ptr %data, ptr %strides) { ; contiguous arrays only: this measures calls, not loops
entry:
  %n = load i64, ptr %dims
  %a = load ptr, ptr %data
  %p1 = getelementptr ptr, ptr %data, i64 1
  %b = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %data, i64 2
  %c = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %data, i64 3
  %r = load ptr, ptr %p3
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %pa = getelementptr double, ptr %a, i64 %i
  %pb = getelementptr double, ptr %b, i64 %i
  %pc = getelementptr double, ptr %c, i64 %i
  %pr = getelementptr double, ptr %r, i64 %i
  %va = load double, ptr %pa
  %vb = load double, ptr %pb
  %vc = load double, ptr %pc
  %t = fadd double %va, %vb
  %u = fadd double %t, %vc
  store double %u, ptr %pr
  %i.next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}
define i32 @add3.shapes(ptr %dims, ptr %out) {
  %n = load i64, ptr %dims
  store i64 %n, ptr %out
  ret i32 0
}
"""

FAILING = """
define i32 @fails(ptr %dims, ptr %data, ptr %strides) {
  ret i32 7
}
define i32 @fails.shapes(ptr %dims, ptr %out) {
  %n = load i64, ptr %dims
  store i64 %n, ptr %out
  %second = getelementptr i64, ptr %out, i64 1
  store i64 %n, ptr %second
  ret i32 0
}
"""


def specs(names: str, *axes: str) -> tuple[ArraySpec, ...]:
    return tuple(ArraySpec(name, "f64", axes) for name in names.split())


PRODUCT = Signature("product", (), specs("x y z"), specs("v gx gy gz"))
FAILS = Signature("fails", ("n",), specs("x", "n"), specs("r s", "n"))
ADD3 = Signature("add3", ("n",), specs("x y z", "n"), specs("r", "n"), single=True)


def by_ctypes(address: int, arrays: list[np.ndarray[Any, Any]], n: int) -> Callable[[], int]:
    """What a careful user of ctypes does: all pointers prepared once."""
    kernel = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(address)
    dims = (ctypes.c_int64 * 1)(n)
    data = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    strides = (ctypes.c_int64 * len(arrays))(*(8 for _ in arrays))
    return functools.partial(kernel, dims, data, strides)


def cases() -> dict[str, dict[str, timeit.Timer]]:
    """Timers by group and name. Each statement is what a user writes, so the figures contain the loop around it."""
    library = engine.compile_text(KERNELS, ["product", "add3", "add3.shapes"])
    product, add3 = entry.make_function(PRODUCT, library), entry.make_function(ADD3, library)
    u, v, w = np.random.default_rng(1).standard_normal((3, 8))
    out, ones = np.empty(8), [1.0] * 8
    cells = [np.array(value) for value in (1.5, 2.5, 3.5, 0.0, 0.0, 0.0, 0.0)]

    def python(x: float, y: float, z: float) -> tuple[float, ...]:
        xy = x * y
        return xy * z, y * z, x * z, xy

    names = {
        "product": product,
        "portable_product": entry.make_function(PRODUCT, library, portable=True),
        "bound_product": product.bind(*cells[:3]),
        "ctypes_product": by_ctypes(library.address("product"), cells, 0),
        "python": python,
        "add3": add3,
        "portable_add3": entry.make_function(ADD3, library, portable=True),
        "bound_add3": add3.bind(u, v, w),
        "ctypes_add3": by_ctypes(library.address("add3"), [u, v, w, out], 8),
        "u": u,
        "v": v,
        "w": w,
        "out": out,
        "ones": ones,
        "empty": np.empty,
        "jitted": sd.jit(lambda x, y, z: x + y + z),
        "slopes": sd.value_and_grad(lambda x, y, z: x * y * z, argnums=(0, 1, 2)),
        "trained": sd.value_and_grad(lambda p, x: np.sum((p["w"] * x + p["b"]) ** 2)),
        "params": {"w": u, "b": v},
    }
    statements = {
        "3 scalars -> value and gradient": {
            "fast entry": "product(1.5, 2.5, 3.5)",
            "fast entry, Python integers": "product(1, 2, 3)",
            "bound call": "bound_product()",
            "portable path": "portable_product(1.5, 2.5, 3.5)",
            "ctypes, prepared pointers": "ctypes_product()",
            "plain Python": "python(1.5, 2.5, 3.5)",
            "sd.jit, one result": "jitted(1.5, 2.5, 3.5)",
            "sd.value_and_grad, (v, (g, g, g))": "slopes(1.5, 2.5, 3.5)",
        },
        "3 arrays of 8 -> new array": {
            "fast entry": "add3(u, v, w)",
            "fast entry, out=": "add3(u, v, w, out=out)",
            "fast entry, a list among them": "add3(u, v, ones)",
            "bound call": "bound_add3()",
            "sd.jit": "jitted(u, v, w)",
            "sd.value_and_grad, a dict": "trained(params, w)",
            "portable path": "portable_add3(u, v, w)",
            "ctypes, prepared pointers": "ctypes_add3()",
            "NumPy, u + v + w": "u + v + w",
            "np.empty(8) alone": "empty(8)",
        },
    }
    return {
        group: {name: timeit.Timer(text, globals=names) for name, text in rows.items()}
        for group, rows in statements.items()
    }


def median_ns(timer: timeit.Timer, seconds: float = 0.4) -> float:
    """The median over many runs of two milliseconds."""
    number = max(1, int(0.002 / (timer.timeit(200) / 200)))
    return statistics.median(timer.repeat(max(5, int(seconds / 0.002)), number)) / number * 1e9


def measure() -> dict[str, dict[str, float]]:
    return {group: {name: median_ns(timer) for name, timer in rows.items()} for group, rows in cases().items()}


def _refused(function: Callable[..., Any], *args: Any, **named: Any) -> Callable[[], None]:
    def call() -> None:
        try:
            function(*args, **named)
        except Exception as error:
            del error
        else:
            raise AssertionError("a wrong call was taken")

    return call


def kinds() -> tuple[dict[str, tuple[timeit.Timer, int]], list[Any]]:
    """Calls of every kind, each with what it is slower by; the objects whose references are watched."""
    library = engine.compile_text(KERNELS + FAILING, ["product", "add3", "add3.shapes", "fails", "fails.shapes"])
    product, add3 = entry.make_function(PRODUCT, library), entry.make_function(ADD3, library)
    released = entry.make_function(ADD3, library, release_above=-1)
    portable = [entry.make_function(s, library, portable=True) for s in (PRODUCT, ADD3)]
    fails = entry.make_function(FAILS, library)
    jitted = sd.jit(lambda x, y, z: np.sum(x * y * z))
    u, v, w = np.random.default_rng(1).standard_normal((3, 8))
    lengths = [tuple(np.ones((3, n))) for n in range(100)]
    out, ones, narrow, f32 = np.empty(8), [1.0] * 8, np.empty(5), np.ones(8, np.float32)
    cells = tuple(np.empty(()) for _ in range(4))
    frozen = np.empty(8)
    frozen.flags.writeable = False
    number, whole = np.float64(2.5), 10**6
    names = {
        "product": product, "add3": add3, "released": released, "p_product": portable[0], "p_add3": portable[1],
        "jitted": jitted, "slopes": sd.value_and_grad(lambda x, s, y: np.sum(x * y) * s, argnums=(0, 1, 2)),
        "trained": sd.value_and_grad(lambda p, x: np.sum((p["w"] * x + p["b"]) ** 2)),
        "u": u, "v": v, "w": w, "out": out, "ones": ones, "cells": cells, "number": number,
        "whole": whole, "bound_product": product.bind(1.5, 2.5, 3.5), "bound_add3": add3.bind(u, v, w, out=out),
        "bound_portable": portable[1].bind(u, v, w), "lengths": lengths, "f32": f32, "held": deque(maxlen=13),
        "wrong_shape": _refused(add3, u, v, narrow), "wrong_rank": _refused(add3, u, v, 1.0),
        "wrong_dtype": _refused(add3, u, v, 1j * w), "wrong_count": _refused(add3, u, v),
        "wrong_name": _refused(add3, u, v, q=w), "wrong_out": _refused(add3, u, v, w, out=narrow),
        "frozen_out": _refused(add3, u, v, w, out=frozen), "huge": _refused(product, 1.0, 2.0, 10**400),
        "failing": _refused(fails, u), "failing_out": _refused(fails, u, out=(out, None)),
        "failing_bound": _refused(fails.bind(u)),
    }  # fmt: skip
    statements = {
        "scalars": ("product(1.5, 2.5, 3.5)", 1),
        "integers and NumPy's numbers": ("product(1, number, whole)", 1),
        "arrays": ("add3(u, v, w)", 1),
        "arrays, the GIL released": ("released(u, v, w)", 1),
        "out=": ("add3(u, v, w, out=out)", 1),
        "out= of numbers": ("product(1.5, 2.5, 3.5, out=cells)", 1),
        "bound, numbers": ("bound_product()", 1),
        "bound, arrays": ("bound_add3()", 1),
        "bound, portable": ("bound_portable()", 2),
        "sizes that change": ("for args in lengths: add3(*args)", 100),
        "a transform": ("jitted(u, v, w)", 2),
        "nested results": ("slopes(u, 2.5, w)", 3),
        "answers that are held": ("held.append(product(1.5, 2.5, 3.5)); held.append(slopes(u, 2.5, w))", 4),
        "parts that are held": ("held.append(product(1.5, 2.5, 3.5)[1]); held.append(slopes(u, 2.5, w)[1])", 4),
        "a dict": ("trained({'w': u, 'b': v}, w)", 20),
        "keywords": ("add3(u, z=w, y=v)", 20),
        "a list": ("add3(u, v, ones)", 20),
        "float32 for float64": ("add3(u, v, f32)", 20),
        "overlapping out=": ("add3(u, v, w, out=w)", 20),
        "portable, scalars": ("p_product(1.5, 2.5, 3.5)", 20),
        "portable, arrays": ("p_add3(u, v, w)", 20),
        "portable, out=": ("p_add3(u, v, w, out=out)", 20),
        "portable, sizes that change": ("for args in lengths: p_add3(*args)", 2000),
        **{f"error: {name}": (f"{name.replace(' ', '_')}()", 20) for name in (
            "wrong shape", "wrong rank", "wrong dtype", "wrong count", "wrong name", "wrong out", "frozen out", "huge",
            "failing", "failing out", "failing bound",
        )},
    }  # fmt: skip
    watched = [u, v, w, out, ones, *cells, number, narrow, f32, None, (), True, np.dtype(float), np.ndarray, float]
    timers = {name: (timeit.Timer(text, globals=names), slower) for name, (text, slower) in statements.items()}
    return timers, watched


def leaks(calls: int) -> int:
    """Run each kind of call many times; print growth; 1 if something grew."""
    failed = 0
    timers, watched = kinds()
    for timer, _ in timers.values():
        timer.timeit(1)
    tiers.idle(60)  # compiling takes memory of its own
    for name, (timer, slower) in timers.items():
        count = max(1, calls // slower)
        timer.timeit(max(1, min(count, 2_000 // slower)))
        before = _state(watched)
        timer.timeit(count)
        memory, blocks, *references = [b - a for a, b in zip(before, _state(watched), strict=True)]
        moved = max(map(abs, references))
        bad = memory > 2_000_000 or blocks > 1000 or moved > 50
        failed |= bad
        print(
            f"{name:32} {count:>11,} times: {memory / 1e3:+8.0f} kB, {blocks:+5d} blocks, "
            f"{moved:3d} references at most{'   LEAK' if bad else ''}",
            flush=True,
        )
    return failed


def _state(watched: list[Any]) -> tuple[int, ...]:
    gc.collect()
    return _resident(), sys.getallocatedblocks(), *[sys.getrefcount(o) for o in watched]


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leak", type=int, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.leak:
        return leaks(options.leak)
    figures = measure()
    if options.json:
        print(json.dumps(figures, indent=1))
        return 0
    machine = engine.host_target().cpu
    print(f"CPython {platform.python_version()}, NumPy {np.__version__}, {machine}; {entry.fast_entry_status()} entry")
    for group, rows in figures.items():
        print(f"\n{group}")
        for name, value in rows.items():
            print(f"  {name:32} {value:10.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
