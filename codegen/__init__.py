"""Native code for tensor programs: `compile` a `symdiff.ir.graph.Function`, call the result with arrays of any size."""

from codegen.compiled import compile, inspect, register_bytes
from codegen.engine import host_target
from codegen.entry import NativeFunction
from codegen.objcache import directory
from codegen.profile import profiler
from codegen.stages import Compiled

__all__ = ["Compiled", "NativeFunction", "compile", "directory", "host_target", "inspect", "profiler", "register_bytes"]
