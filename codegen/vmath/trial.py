"""Run the vector math functions over arrays: one compiled loop per function, for tests and measurements.

Takes names, dtype, width and optionally a processor name. Gives callables on NumPy arrays of any one length.
Promises: the loops contain nothing but loads, the call and stores; the arrays are padded here, never read past.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from . import FUNCTIONS, PAIRS, declarations, definitions, symbol
from .build import FLOATS, type_text

Array = NDArray[np.floating]
DTYPES = {"f64": np.dtype(np.float64), "f32": np.dtype(np.float32)}
_WIDE = '"prefer-vector-width"="512" "min-legal-vector-width"="512"'


def _loop(name: str, dtype: str, width: int) -> str:
    count, scalar, vector = FUNCTIONS[name], FLOATS[dtype], type_text(dtype, width)
    size = DTYPES[dtype].itemsize
    result = vector if name not in PAIRS else f"{{ {vector}, {vector} }}"
    parameters = "".join(f"ptr %p{i}, " for i in range(count))
    lines = [f"define void @loop.{name}({parameters}ptr %o, ptr %o1, i64 %n) {_WIDE} {{",
             "entry:", "  br label %head", "head:", "  %i = phi i64 [ 0, %entry ], [ %next, %head ]"]
    for i in range(count):
        lines += [f"  %q{i} = getelementptr {scalar}, ptr %p{i}, i64 %i",
                  f"  %a{i} = load {vector}, ptr %q{i}, align {size}"]
    passed = ", ".join(f"{vector} %a{i}" for i in range(count))
    lines += [f"  %r = call {result} {symbol(name, dtype, width)}({passed})",
              f"  %q = getelementptr {scalar}, ptr %o, i64 %i"]
    if name in PAIRS:
        lines += [f"  %s = extractvalue {result} %r, 0", f"  %c = extractvalue {result} %r, 1",
                  f"  store {vector} %s, ptr %q, align {size}", f"  %q1 = getelementptr {scalar}, ptr %o1, i64 %i",
                  f"  store {vector} %c, ptr %q1, align {size}"]
    else:
        lines.append(f"  store {vector} %r, ptr %q, align {size}")
    lines += [f"  %next = add i64 %i, {width}", "  %more = icmp slt i64 %next, %n",
              "  br i1 %more, label %head, label %done", "done:", "  ret void", "}"]
    return "\n".join(lines)


def module_text(names: Iterable[str], dtype: str, width: int, inline: bool = True) -> str:
    """A whole module: declarations, definitions and the loops."""
    names = list(names)
    return "\n".join([*declarations(names, dtype, width), definitions(names, dtype, width, inline),
                      *(_loop(name, dtype, width) for name in names)])


@dataclass(frozen=True)
class Loop:
    """One function over arrays. `raw` takes the addresses of the operands, of two results, and a multiple of width."""

    raw: Callable[..., None]
    dtype: str
    width: int
    pair: bool
    engine: llvm.ExecutionEngine  # owns the code

    def __call__(self, *arrays: Array) -> Array:
        """The result; both of a pair stacked."""
        dtype, count = DTYPES[self.dtype], arrays[0].size
        padding = np.ones(-count % self.width, dtype)
        inputs = [np.concatenate([np.asarray(a, dtype).ravel(), padding]) for a in arrays]
        out = np.empty((2, inputs[0].size), dtype)
        self.raw(*(a.ctypes.data for a in inputs), out[0].ctypes.data, out[1].ctypes.data, inputs[0].size)
        return out[:, :count] if self.pair else out[0, :count]


def compiled(names: Iterable[str], dtype: str, width: int, inline: bool = True, cpu: str | None = None,
             level: int = 1) -> dict[str, Loop]:
    """The named functions, compiled for this machine or for a named processor that it can run."""
    names = list(names)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(module_text(names, dtype, width, inline))
    module.verify()
    features = "" if cpu else llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu or llvm.get_host_cpu_name(), features=features, opt=level)
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    loops: dict[str, Loop] = {}
    for name in names:
        kinds = [ctypes.c_void_p] * (FUNCTIONS[name] + 2)
        raw = ctypes.CFUNCTYPE(None, *kinds, ctypes.c_int64)(engine.get_function_address(f"loop.{name}"))
        loops[name] = Loop(raw, dtype, width, name in PAIRS, engine)
    return loops
