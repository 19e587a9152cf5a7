"""The errors a compiled function raises, and the errors of the machinery below it.

Takes nothing, gives classes. Promise: everything a caller can do wrong with arguments is a ``TypeError`` or
``ValueError`` and a ``SymdiffError``, so that code that knows nothing of native code can catch it.
"""

from symdiff.errors import ArgumentError, ShapeError, SymdiffError


class ArgumentTypeError(SymdiffError, TypeError):
    """An argument of a kind that cannot be used: wrong dtype, wrong number of arguments, unknown keyword."""


class ArgumentValueError(ArgumentError, ShapeError):
    """An argument of the right kind with a wrong value: shape, size of a dimension, read-only output."""


class KernelError(SymdiffError, ValueError):
    """A kernel ended with a status for which its signature gives a message."""


class SignatureError(ValueError):
    """A signature that contradicts itself; raised when a function is made, never when it is called."""


class CompilationError(RuntimeError):
    """LLVM refused a module: bad IR, an invalid target, a symbol that nothing defines."""
