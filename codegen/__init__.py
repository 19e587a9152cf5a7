"""Native code for tensor programs: `compile` a `symdiff.ir.graph.Function`, call the result with arrays of any size."""

from codegen.compiled import compile, inspect
from codegen.entry import NativeFunction
from codegen.stages import Compiled

__all__ = ["Compiled", "NativeFunction", "compile", "inspect"]
