"""Native code for tensor programs: `compile` a `symdiff.ir.graph.Function`, call the result with arrays of any size.

A Function becomes array nodes (`arrays`), these become loops (`schedule`, in the IR of `ir`), and loops become
functions of LLVM IR (`kernels`, with the matrix products of `products`), which `jit` compiles and `entry` lets Python
call. `llvm` and `vmath` are what LLVM IR is written with, `analysis` what is known of loops, `inspection` what a user
can look at.
"""

from codegen.compiled import compile, inspect, register_bytes
from codegen.entry.native import NativeFunction
from codegen.inspection.profile import profiler
from codegen.inspection.stages import Compiled
from codegen.jit.engine import host_target
from codegen.jit.objcache import directory

__all__ = ["Compiled", "NativeFunction", "compile", "directory", "host_target", "inspect", "profiler", "register_bytes"]
