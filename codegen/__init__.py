"""Native code for tensor programs: `compile` a `symdiff.ir.graph.Function`, call the result with arrays of any size."""

from codegen.compiled import Compiled, compile, inspect
from codegen.entry import NativeFunction

__all__ = ["Compiled", "NativeFunction", "compile", "inspect"]
