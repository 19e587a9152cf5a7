"""Objects that CPython calls through a pointer they hold, and the gate that keeps such calls to Python for a while.

Takes nothing but the running interpreter; gives `Callee`, a base class whose instances begin with the address of a
function of CPython's vectorcall signature and the address of a plan for it. Both are 0 at first: such an instance is
called through its `__call__`, like any other. Promise: every offset is found or confirmed on classes whose contents are
known; where one differs (another interpreter, a debug or free-threaded build), `Callee` is an ordinary class, and
`unknown` says why.

It is here and not beside the entry so that transforms can be made, and answer with expressions, before native code is
imported.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

Class = TypeVar("Class", bound=type)

NEWEST_KNOWN = (3, 14)
"""The probes cover all that is known to differ up to here; a later version takes the portable path until read."""

_HAVE_VECTORCALL, _BASETYPE = 1 << 11, 1 << 10
_HEADER = object.__basicsize__
_SIGNED_SIZE, _READ_ONLY = 19, 1  # of a member of a type
_CALL_SLOT, _MEMBERS_SLOT = 50, 72  # of a type made from slots
_FLAGS = 168  # where a type keeps its flags


class ProbeError(Exception):
    """The interpreter, or NumPy, does not look as the fast entry needs it."""


def expect(what: str, found: object, expected: object) -> None:
    """Refuse what is not as expected."""
    if found != expected:
        raise ProbeError(f"{what}: found {found!r}, expected {expected!r}")


def check_interpreter() -> None:
    """`ProbeError` for interpreters and builds that nobody has looked at."""
    if sys.implementation.name != "cpython":
        raise ProbeError(f"the interpreter is {sys.implementation.name}")
    if not (3, 11) <= sys.version_info[:2] <= NEWEST_KNOWN:
        raise ProbeError(f"CPython {sys.version_info[0]}.{sys.version_info[1]} is not a version known here")
    if hasattr(sys, "gettotalrefcount"):
        raise ProbeError("a debug build of CPython")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise ProbeError("a free-threaded build of CPython")
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise ProbeError("not a little-endian 64-bit machine")
    if ctypes.sizeof(ctypes.c_ulong) != 8:
        raise ProbeError("type flags are not 64 bits wide here")


def python_address(name: str) -> int:
    """The address of an object or function that the interpreter exports."""
    try:
        if name.endswith(("_Type", "Struct")):
            return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name))
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    except (AttributeError, ValueError) as error:
        raise ProbeError(f"the interpreter does not export {name}: {error}") from None
    if not address:
        raise ProbeError(f"the interpreter does not export {name}")
    return address


def install(instance: object, entry: int, plan: int) -> None:
    """Set both pointers of an instance."""
    ctypes.c_void_p.from_address(id(instance) + _HEADER + 8).value = plan
    install_entry(instance, entry)


def install_entry(instance: object, entry: int) -> None:
    """Set the first of the two alone."""
    ctypes.c_void_p.from_address(id(instance) + _HEADER).value = entry


def with_vectorcall(cls: Class) -> Class:
    """Let instances of a subclass of `Callee` be called through their pointer.

    CPython 3.11 does not pass the flag on to classes written in Python, since such a class may change `__call__`; ours
    does not.
    """
    if unknown is None and not cls.__flags__ & _HAVE_VECTORCALL:
        flags = ctypes.c_ulong.from_address(id(cls) + _FLAGS)
        flags.value |= _HAVE_VECTORCALL
        expect(f"flags of {cls.__name__}", cls.__flags__ & _HAVE_VECTORCALL, _HAVE_VECTORCALL)
    return cls


class Gate:
    """While it is closed, calls through pointers go to Python: machine code reads the number at `address`.

    It lives as long as the process. After a fork it is open again but for the thread that goes on.
    """

    def __init__(self) -> None:
        self._closed = ctypes.c_int64(0)
        self._closers: list[int] = []  # threads, as often as each closed it
        self._lock = threading.RLock()
        self.address = ctypes.addressof(self._closed)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def __enter__(self) -> None:
        with self._lock:
            self._closers.append(threading.get_ident())
            self._closed.value = len(self._closers)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closers.remove(threading.get_ident())
            self._closed.value = len(self._closers)

    def _forked(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it
        self._closers = [thread for thread in self._closers if thread == threading.get_ident()]
        self._closed.value = len(self._closers)


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]


_kept_alive: list[object] = []
"""Structures that a type made from them may point into for as long as the process lives."""


def _made() -> type:
    check_interpreter()
    expect("size of an object header", _HEADER, 16)
    for sample in (int, type, dict, object):
        flags = int.from_bytes(ctypes.string_at(id(sample) + _FLAGS, 8), "little")
        expect("flags of a type", flags, sample.__flags__)
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _SIGNED_SIZE, _HEADER, _READ_ONLY, None))
    slots = (_Slot * 3)(
        _Slot(_CALL_SLOT, python_address("PyVectorcall_Call")),
        _Slot(_MEMBERS_SLOT, ctypes.addressof(members)),
    )
    spec = _Spec(b"symdiff.vectorcall.Callee", _HEADER + 16, 0, _BASETYPE | _HAVE_VECTORCALL, slots)
    _kept_alive.append((members, slots, spec))
    from_spec: Callable[..., Any] = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)(
        ("PyType_FromSpec", ctypes.pythonapi)
    )
    base = from_spec(ctypes.addressof(spec))
    expect("the base class", (type(base), base.__basicsize__), (type, _HEADER + 16))
    return base


class _Ordinary:
    """The base where nothing is called through pointers."""


if TYPE_CHECKING:

    class Callee:
        """The base class."""

    unknown: str | None = None
else:
    try:
        Callee, unknown = _made(), None
    except ProbeError as error:
        Callee, unknown = _Ordinary, str(error)
