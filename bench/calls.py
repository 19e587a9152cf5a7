"""What a call costs: median nanoseconds through the fast entry, the portable path, ctypes by hand, and plain Python.

    python bench/calls.py            # the table
    python bench/calls.py --leaks    # ten million calls of each kind; resident memory and reference counts around them
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout measures itself

from codegen import engine, entry
from codegen.signature import ArraySpec, Signature

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


def specs(names: str, *axes: str) -> tuple[ArraySpec, ...]:
    return tuple(ArraySpec(name, "f64", axes) for name in names.split())


PRODUCT = Signature("product", (), specs("x y z"), specs("v gx gy gz"))
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
    }
    statements = {
        "3 scalars -> value and gradient": {
            "fast entry": "product(1.5, 2.5, 3.5)",
            "fast entry, Python integers": "product(1, 2, 3)",
            "bound call": "bound_product()",
            "portable path": "portable_product(1.5, 2.5, 3.5)",
            "ctypes, prepared pointers": "ctypes_product()",
            "plain Python": "python(1.5, 2.5, 3.5)",
        },
        "3 arrays of 8 -> new array": {
            "fast entry": "add3(u, v, w)",
            "fast entry, out=": "add3(u, v, w, out=out)",
            "fast entry, a list among them": "add3(u, v, ones)",
            "bound call": "bound_add3()",
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


def leaks(calls: int) -> int:
    """Run each kind of call many times; print growth; 1 if something grew."""
    failed = 0
    for group, rows in cases().items():
        for name, repeat in rows.items():
            if "fast" not in name and "bound" not in name:
                continue
            count = calls if "list" not in name else calls // 20
            repeat.timeit(10_000)
            gc.collect()
            before = _resident(), sys.getallocatedblocks(), sys.getrefcount(np.dtype(float))
            repeat.timeit(count)
            gc.collect()
            after = _resident(), sys.getallocatedblocks(), sys.getrefcount(np.dtype(float))
            grown = [b - a for a, b in zip(before, after, strict=True)]
            bad = grown[0] > 1_000_000 or grown[1] > 1000 or abs(grown[2]) > 100
            failed |= bad
            print(
                f"{group:34} {name:32} {count:>11,} calls: {grown[0] / 1e3:+8.0f} kB, {grown[1]:+d} blocks, "
                f"{grown[2]:+d} references{'   LEAK' if bad else ''}"
            )
    return failed


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaks", action="store_true")
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.leaks:
        return leaks(options.calls)
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
