"""What the fast entry relies on in CPython and NumPy: struct offsets, C functions, a type with a vectorcall pointer.

Takes nothing but the running interpreter; gives a `Layout`, or the reason why there is none. Promise: every offset is
found or confirmed by reading objects whose contents are known, before any code runs that depends on it. Where one probe
fails (another interpreter, a debug or free-threaded build, a NumPy whose arrays look different), the caller falls back
to the portable path.
"""

import ctypes
import importlib
import struct
import sys
import sysconfig
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.entry_ir import IMPORTS
from codegen.signature import DTYPES

NEWEST_KNOWN = (3, 14)
"""The probes cover all that is known to differ up to here; a later version takes the portable path until read."""

_DESCR_KEY_MASK = 0xFFFF_FFFF_00FF_0000  # of the word kind, type, byteorder, flags, type_num: byteorder and type_num
_ALIGNED, _WRITEABLE, _OWNDATA, _FORTRAN, _CONTIGUOUS = 0x100, 0x400, 0x4, 0x2, 0x1 | 0x2
_NEW = 0x1 | _OWNDATA | _ALIGNED | _WRITEABLE  # of an array that was just made, but for order, which one axis has, too
_OUT_NAME = sys.intern("out")
_NEW_FROM_DESCR, _ARRAY_TYPE = 94, 2  # places in NumPy's table of C functions, fixed by its ABI
_HAVE_VECTORCALL, _BASETYPE = 1 << 11, 1 << 10


_multiarray: Any = importlib.import_module("numpy._core._multiarray_umath")  # by name: NumPy does not export it


class ProbeError(Exception):
    """The interpreter or NumPy does not look as the fast entry needs it."""


@dataclass(frozen=True)
class Layout:
    """Offsets by the names `entry_ir` uses for them, addresses by symbol."""

    offsets: dict[str, int]
    imports: dict[str, int]
    vectorcall_base: type
    """A base class whose instances begin with a vectorcall pointer and a plan pointer."""


def probe() -> Layout:
    """Confirm the layout of everything; `ProbeError` says what differs."""
    _check_interpreter()
    header = object.__basicsize__
    _expect("size of an object header", header, 16)
    _expect("size of a pointer in a tuple", tuple.__itemsize__, 8)
    offsets = {
        "COUNT": 0,
        "TYPE": 8,
        "FLOAT_VALUE": header,
        "SCALAR_VALUE": header,
        "TUPLE_SIZE": header,
        "TUPLE_ITEMS": tuple.__basicsize__,
        "LIST_ITEMS": header + 8,
        "ARRAY_DATA": header,
        "ARRAY_ND": header + 8,
        "ARRAY_SHAPE": header + 16,
        "ARRAY_STRIDES": header + 24,
        "ARRAY_DESCR": header + 40,
        "ARRAY_FLAGS": header + 48,
        "ARRAY_WEAK": np.ndarray.__weakrefoffset__,
        "DESCR_KEY": header + 8,
        "DESCR_KEY_MASK": _DESCR_KEY_MASK - (1 << 64),
        "ALIGNED": _ALIGNED,
        "USABLE_OUTPUT": _ALIGNED | _WRITEABLE,
        "CONTIGUOUS": _CONTIGUOUS,
        "NEW_FLAGS": _NEW,
        "NEW_MASK": ~_FORTRAN,
        "PLAN": header + 8,
    }
    _check_python_objects(offsets)
    _check_arrays(offsets)
    imports = {name: _python_address(name) for name in IMPORTS}
    table = _numpy_table()
    _expect("ndarray in NumPy's C API", table[_ARRAY_TYPE], id(np.ndarray))
    imports["symdiff_out_name"] = id(_OUT_NAME)
    imports["symdiff_ndarray_type"] = id(np.ndarray)
    imports["symdiff_new_array"] = table[_NEW_FROM_DESCR]
    _check_new_array(table[_NEW_FROM_DESCR])
    return Layout(offsets, imports, _vectorcall_base(header))


def list_items(values: list[Any], offsets: dict[str, int]) -> int:
    """Where a list has its items, for as long as its length does not change."""
    return _word(id(values) + offsets["LIST_ITEMS"])


def descriptor_key(dtype: np.dtype[Any]) -> int:
    """The bits of a descriptor that tell its dtype and byte order."""
    return _word(id(dtype) + object.__basicsize__ + 8) & _DESCR_KEY_MASK


def install(instance: object, entry: int, plan: int) -> None:
    """Set the two pointers of an instance of a class made by `with_vectorcall`."""
    ctypes.c_void_p.from_address(id(instance) + object.__basicsize__ + 8).value = plan
    install_entry(instance, entry)


def install_entry(instance: object, entry: int) -> None:
    """Set the first of the two alone."""
    ctypes.c_void_p.from_address(id(instance) + object.__basicsize__).value = entry


def with_vectorcall(cls: type) -> type:
    """Let instances of a subclass of `Layout.vectorcall_base` be called through their pointer.

    CPython 3.11 does not pass the flag on to classes written in Python, since such a class may change `__call__`; ours
    does not.
    """
    if not cls.__flags__ & _HAVE_VECTORCALL:
        at = id(cls) + _flags_offset()
        flags = ctypes.c_ulong.from_address(at)
        flags.value |= _HAVE_VECTORCALL
    _expect(f"flags of {cls.__name__}", cls.__flags__ & _HAVE_VECTORCALL, _HAVE_VECTORCALL)
    return cls


def _check_interpreter() -> None:
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


def _check_python_objects(offsets: dict[str, int]) -> None:
    number = float("1.2345e67")
    _expect("type of a float", _word(id(number) + offsets["TYPE"]), id(float))
    _expect("value of a float", _bytes(id(number) + offsets["FLOAT_VALUE"], 8), struct.pack("<d", number))
    items = (object(), number)
    _expect("size of a tuple", _word(id(items) + offsets["TUPLE_SIZE"]), len(items))
    for i, item in enumerate(items):
        _expect("items of a tuple", _word(id(items) + offsets["TUPLE_ITEMS"] + 8 * i), id(item))
    listed = [number, object()]
    _expect("items of a list", _word(list_items(listed, offsets)), id(number))
    alone = _word(list_items(listed, offsets) + 8)
    _expect("references to an object", _int32(alone + offsets["COUNT"]), 1)
    listed.append(listed[1])
    _expect("references to an object", _int32(alone + offsets["COUNT"]), 2)
    for value in (np.float64(1.5e300), np.float32(-2.5), np.int64(-(2**61)), np.bool_(True)):
        found = _bytes(id(value) + offsets["SCALAR_VALUE"], value.itemsize)
        _expect(f"value of a {type(value).__name__}", found, value.tobytes())


def _check_arrays(offsets: dict[str, int]) -> None:
    keys: set[int] = set()
    for dtype in DTYPES.values():
        array = np.zeros((5, 7, 3), dtype)[::-2, 1:, ::2]
        at = id(array)
        _expect("address of an array", _word(at + offsets["ARRAY_DATA"]), array.ctypes.data)
        _expect("rank of an array", _int32(at + offsets["ARRAY_ND"]), 3)
        _expect("shape of an array", _triple(_word(at + offsets["ARRAY_SHAPE"])), array.shape)
        _expect("strides of an array", _triple(_word(at + offsets["ARRAY_STRIDES"])), array.strides)
        _expect("descriptor of an array", _word(at + offsets["ARRAY_DESCR"]), id(array.dtype))
        _expect("flags of an array", _int32(at + offsets["ARRAY_FLAGS"]), array.flags.num)
        key = descriptor_key(dtype)
        _expect("byte order in a descriptor", chr(key >> 16 & 0xFF), dtype.byteorder)
        _expect("number of a dtype", key >> 32, dtype.num)
        keys.add(key)
        if dtype.itemsize > 1:
            keys.add(descriptor_key(dtype.newbyteorder(">")))
    _expect("distinct dtypes", len(keys), 2 * len(DTYPES) - 1)
    misaligned = np.frombuffer(bytes(17), np.uint8)[1:].view(np.float64)
    _expect("the flag of aligned arrays", bool(misaligned.flags.num & _ALIGNED), misaligned.flags.aligned)
    plain = np.zeros((2, 3))
    _expect("flags of a plain array", plain.flags.num, _NEW)
    _expect("flags of a transposed view", plain.T.flags.num, _ALIGNED | _WRITEABLE | _FORTRAN)
    _expect("weak references to an array", _word(id(plain) + offsets["ARRAY_WEAK"]), 0)
    watch = weakref.ref(plain)
    _expect("weak references to an array", _word(id(plain) + offsets["ARRAY_WEAK"]), id(watch))


def _check_new_array(address: int) -> None:
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    )  # fmt: skip
    new_array: Callable[..., Any] = prototype(address)
    dtype = DTYPES["f64"]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dtype))
    made = new_array(id(np.ndarray), id(dtype), 2, (ctypes.c_int64 * 2)(3, 4), None, None, 0, None)
    _expect("a new array", (type(made), made.shape, made.dtype), (np.ndarray, (3, 4), dtype))
    _expect("a new array's flags", made.flags.owndata and made.flags.writeable and made.flags.c_contiguous, True)


def _vectorcall_base(header: int) -> type:
    class Member(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_char_p),
            ("type", ctypes.c_int),
            ("offset", ctypes.c_ssize_t),
            ("flags", ctypes.c_int),
            ("doc", ctypes.c_char_p),
        ]

    class Slot(ctypes.Structure):
        _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]

    class Spec(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_char_p),
            ("basicsize", ctypes.c_int),
            ("itemsize", ctypes.c_int),
            ("flags", ctypes.c_uint),
            ("slots", ctypes.POINTER(Slot)),
        ]

    signed_size, read_only = 19, 1
    call_slot, members_slot = 50, 72
    members = (Member * 2)(Member(b"__vectorcalloffset__", signed_size, header, read_only, None))
    slots = (Slot * 3)(
        Slot(call_slot, _python_address("PyVectorcall_Call")),
        Slot(members_slot, ctypes.addressof(members)),
    )
    spec = Spec(b"codegen.pyapi.VectorcallBase", header + 16, 0, _BASETYPE | _HAVE_VECTORCALL, slots)
    _kept_alive.append((members, slots, spec))
    from_spec: Callable[..., Any] = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)(
        ("PyType_FromSpec", ctypes.pythonapi)
    )
    base = from_spec(ctypes.addressof(spec))
    _expect("the base class", (type(base), base.__basicsize__), (type, header + 16))
    return base


_kept_alive: list[object] = []
"""Structures that a type made from them may point into for as long as the process lives."""


def _flags_offset() -> int:
    """Where a type keeps its flags, confirmed on types whose flags differ."""
    offset = 168
    for sample in (int, type, dict, object, np.ndarray):
        _expect("flags of a type", _word(id(sample) + offset), sample.__flags__)
    return offset


def _numpy_table() -> ctypes.Array[Any]:
    capsule: Any = _multiarray._ARRAY_API
    get_pointer: Callable[..., int] = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return (ctypes.c_size_t * (_NEW_FROM_DESCR + 1)).from_address(get_pointer(capsule, None))


def _python_address(name: str) -> int:
    try:
        if name.endswith(("_Type", "Struct")):
            return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name))
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    except (AttributeError, ValueError) as error:
        raise ProbeError(f"the interpreter does not export {name}: {error}") from None
    if not address:
        raise ProbeError(f"the interpreter does not export {name}")
    return address


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ProbeError(f"{what}: found {found!r}, expected {expected!r}")


def _bytes(address: int, count: int) -> bytes:
    return ctypes.string_at(address, count)


def _word(address: int) -> int:
    return int.from_bytes(_bytes(address, 8), "little")


def _int32(address: int) -> int:
    return int.from_bytes(_bytes(address, 4), "little", signed=True)


def _triple(address: int) -> tuple[int, ...]:
    return struct.unpack("<3q", _bytes(address, 24))
