"""Addresses of LAPACK routines, from the capsules of ``scipy.linalg.cython_lapack``.

Takes nothing, gives name -> address, and hands them to the engine as the symbols ``symdiff_<routine>``. Promise: each
routine takes every argument by pointer, integers are 32 bit wide, matrices are column-major with a leading dimension
of at least max(1, n); the C signature in the capsule is checked to be the one listed here before its address is used.
"""

import ctypes
import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from codegen.errors import CompilationError
from codegen.jit import engine
from symdiff.process import Once

_MODULE = "scipy.linalg.cython_lapack"


@Once  # a fork waits for the import
def _capsules() -> dict[str, Any] | None:
    """What SciPy offers; it is imported at the first use, for most kernels run without it."""
    try:
        return (_alone() or importlib.import_module("scipy.linalg.cython_lapack")).__pyx_capi__
    except ImportError:
        return None


def _alone() -> Any:
    """The module without the package around it, which takes 0.15 s to import and which nothing here needs.

    It is not left among the imported modules: who imports the package later gets all of it, and in it this module.
    """
    if "scipy.linalg" in sys.modules:
        return None
    folders = [str(Path(folder, "linalg")) for folder in importlib.import_module("scipy").__path__]
    spec = PathFinder.find_spec(_MODULE, folders)
    if spec is None or spec.loader is None:
        return None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:  # in another version it may need what the package does first
        return None
    finally:
        sys.modules.pop(_MODULE, None)
    return module


PREFIX = "symdiff_"

_capsule_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_SHAPES = {
    "potrf": "char *, int *, {t} *, int *, int *",
    "getrf": "int *, int *, {t} *, int *, int *, int *",
    "getrs": "char *, int *, int *, {t} *, int *, int *, {t} *, int *, int *",
    "getri": "int *, {t} *, int *, int *, {t} *, int *, int *",
    "trtrs": "char *, char *, char *, int *, int *, {t} *, int *, {t} *, int *, int *",
}
ROUTINES = tuple(kind + stem for stem in _SHAPES for kind in "ds")
"""dpotrf, spotrf, dgetrf, ...: d for float64, s for float32."""


def available() -> bool:
    """Whether SciPy is installed, and with it LAPACK."""
    return _capsules() is not None


def address(routine: str) -> int:
    """The address of a routine, for example ``dgetrf``."""
    if routine not in ROUTINES:
        raise CompilationError(f"LAPACK routine {routine!r} is not one of {', '.join(ROUTINES)}")
    capsules = _capsules()
    if capsules is None:
        raise CompilationError(f"LAPACK routine {routine} needs SciPy, which is not installed")
    capsule = capsules[routine]
    name = _capsule_name(capsule)
    if not _same_signature(name.decode(), routine):
        raise CompilationError(f"LAPACK routine {routine} has the unexpected C signature {name.decode()!r}")
    return _capsule_pointer(capsule, name)


def register() -> None:
    """Make every routine known to the engine, as ``symdiff_dpotrf`` and so on."""
    for routine in ROUTINES:
        engine.add_symbol(PREFIX + routine, address(routine))


def _same_signature(given: str, routine: str) -> bool:
    """Whether Cython's text of a C type is the expected one; it writes its own names for double and float."""
    expected = f"void ({_SHAPES[routine[1:]].format(t='double' if routine[0] == 'd' else 'float')})"
    for suffix, c_name in (("_d", "double"), ("_s", "float")):
        given = given.replace("__pyx_t_5scipy_6linalg_13cython_lapack" + suffix, c_name)
    return given.replace(" ", "") == expected.replace(" ", "")
