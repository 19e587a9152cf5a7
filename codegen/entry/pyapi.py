"""What the fast entry relies on in CPython and NumPy: struct offsets and C functions.

Takes nothing but the running interpreter; gives a `Layout`, or the reason why there is none. Promise: every offset is
found or confirmed by reading objects whose contents are known, before any code runs that depends on it. Where one probe
fails (another interpreter, a debug or free-threaded build, a NumPy whose arrays look different), the caller falls back
to the portable path.
"""

import ctypes
import importlib
import struct
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.entry.ir import IMPORTS
from codegen.entry.signature import DTYPES
from symdiff.vectorcall import check_interpreter, expect, python_address, unknown

_DESCR_KEY_MASK = 0xFFFF_FFFF_00FF_0000  # of the word kind, type, byteorder, flags, type_num: byteorder and type_num
_ALIGNED, _WRITEABLE, _OWNDATA, _FORTRAN, _CONTIGUOUS = 0x100, 0x400, 0x4, 0x2, 0x1 | 0x2
_NEW = 0x1 | _OWNDATA | _ALIGNED | _WRITEABLE  # of an array that was just made, but for order, which one axis has, too
_OUT_NAME = sys.intern("out")
_NEW_FROM_DESCR, _ARRAY_TYPE = 94, 2  # places in NumPy's table of C functions, fixed by its ABI


_multiarray: Any = importlib.import_module("numpy._core._multiarray_umath")  # by name: NumPy does not export it


@dataclass(frozen=True)
class Layout:
    """Offsets by the names `codegen.entry.ir` uses for them, addresses by symbol."""

    offsets: dict[str, int]
    imports: dict[str, int]


def probe() -> Layout:
    """Confirm the layout of everything; `ProbeError` says what differs."""
    check_interpreter()
    expect("calls through a pointer", unknown, None)
    header = object.__basicsize__
    expect("size of an object header", header, 16)
    expect("size of a pointer in a tuple", tuple.__itemsize__, 8)
    offsets = {
        "COUNT": 0,
        "TYPE": 8,
        "FLOAT_VALUE": header,
        "SCALAR_VALUE": header,
        "TUPLE_SIZE": header,
        "TUPLE_ITEMS": tuple.__basicsize__,
        "TUPLE_HASH": _tuple_hash(),
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
    imports = {name: python_address(name) for name in IMPORTS}
    table = _numpy_table()
    expect("ndarray in NumPy's C API", table[_ARRAY_TYPE], id(np.ndarray))
    imports["symdiff_out_name"] = id(_OUT_NAME)
    imports["symdiff_ndarray_type"] = id(np.ndarray)
    imports["symdiff_new_array"] = table[_NEW_FROM_DESCR]
    _check_new_array(table[_NEW_FROM_DESCR])
    return Layout(offsets, imports)


def list_items(values: list[Any], offsets: dict[str, int]) -> int:
    """Where a list has its items, for as long as its length does not change."""
    return _word(id(values) + offsets["LIST_ITEMS"])


def descriptor_key(dtype: np.dtype[Any]) -> int:
    """The bits of a descriptor that tell its dtype and byte order."""
    return _word(id(dtype) + object.__basicsize__ + 8) & _DESCR_KEY_MASK


def _tuple_hash() -> int:
    """Where a tuple notes its hash, as it does from CPython 3.14 on; 0 where it does not."""
    at = object.__basicsize__ + 8
    if tuple.__basicsize__ == at:
        return 0
    items = (object(), 1.5)
    before = _int64(id(items) + at)
    expect("the hash of a tuple, noted when it is asked for", (before, hash(items)), (-1, _int64(id(items) + at)))
    return at


def _check_python_objects(offsets: dict[str, int]) -> None:
    number = float("1.2345e67")
    expect("type of a float", _word(id(number) + offsets["TYPE"]), id(float))
    expect("value of a float", _bytes(id(number) + offsets["FLOAT_VALUE"], 8), struct.pack("<d", number))
    items = (object(), number)
    expect("size of a tuple", _word(id(items) + offsets["TUPLE_SIZE"]), len(items))
    for i, item in enumerate(items):
        expect("items of a tuple", _word(id(items) + offsets["TUPLE_ITEMS"] + 8 * i), id(item))
    listed = [number, object()]
    expect("items of a list", _word(list_items(listed, offsets)), id(number))
    alone = _word(list_items(listed, offsets) + 8)
    expect("references to an object", _int32(alone + offsets["COUNT"]), 1)
    listed.append(listed[1])
    expect("references to an object", _int32(alone + offsets["COUNT"]), 2)
    for value in (np.float64(1.5e300), np.float32(-2.5), np.int64(-(2**61)), np.bool_(True)):
        found = _bytes(id(value) + offsets["SCALAR_VALUE"], value.itemsize)
        expect(f"value of a {type(value).__name__}", found, value.tobytes())


def _check_arrays(offsets: dict[str, int]) -> None:
    keys: set[int] = set()
    for dtype in DTYPES.values():
        array = np.zeros((5, 7, 3), dtype)[::-2, 1:, ::2]
        at = id(array)
        expect("address of an array", _word(at + offsets["ARRAY_DATA"]), array.ctypes.data)
        expect("rank of an array", _int32(at + offsets["ARRAY_ND"]), 3)
        expect("shape of an array", _triple(_word(at + offsets["ARRAY_SHAPE"])), array.shape)
        expect("strides of an array", _triple(_word(at + offsets["ARRAY_STRIDES"])), array.strides)
        expect("descriptor of an array", _word(at + offsets["ARRAY_DESCR"]), id(array.dtype))
        expect("flags of an array", _int32(at + offsets["ARRAY_FLAGS"]), array.flags.num)
        key = descriptor_key(dtype)
        expect("byte order in a descriptor", chr(key >> 16 & 0xFF), dtype.byteorder)
        expect("number of a dtype", key >> 32, dtype.num)
        keys.add(key)
        if dtype.itemsize > 1:
            keys.add(descriptor_key(dtype.newbyteorder(">")))
    expect("distinct dtypes", len(keys), 2 * len(DTYPES) - 1)
    misaligned = np.frombuffer(bytes(17), np.uint8)[1:].view(np.float64)
    expect("the flag of aligned arrays", bool(misaligned.flags.num & _ALIGNED), misaligned.flags.aligned)
    plain = np.zeros((2, 3))
    expect("flags of a plain array", plain.flags.num, _NEW)
    expect("flags of a transposed view", plain.T.flags.num, _ALIGNED | _WRITEABLE | _FORTRAN)
    expect("weak references to an array", _word(id(plain) + offsets["ARRAY_WEAK"]), 0)
    watch = weakref.ref(plain)
    expect("weak references to an array", _word(id(plain) + offsets["ARRAY_WEAK"]), id(watch))


def _check_new_array(address: int) -> None:
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    )  # fmt: skip
    new_array: Callable[..., Any] = prototype(address)
    dtype = DTYPES["f64"]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dtype))
    made = new_array(id(np.ndarray), id(dtype), 2, (ctypes.c_int64 * 2)(3, 4), None, None, 0, None)
    expect("a new array", (type(made), made.shape, made.dtype), (np.ndarray, (3, 4), dtype))
    expect("a new array's flags", made.flags.owndata and made.flags.writeable and made.flags.c_contiguous, True)


def _numpy_table() -> ctypes.Array[Any]:
    capsule: Any = _multiarray._ARRAY_API
    get_pointer: Callable[..., int] = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return (ctypes.c_size_t * (_NEW_FROM_DESCR + 1)).from_address(get_pointer(capsule, None))


def _bytes(address: int, count: int) -> bytes:
    return ctypes.string_at(address, count)


def _word(address: int) -> int:
    return int.from_bytes(_bytes(address, 8), "little")


def _int64(address: int) -> int:
    return int.from_bytes(_bytes(address, 8), "little", signed=True)


def _int32(address: int) -> int:
    return int.from_bytes(_bytes(address, 4), "little", signed=True)


def _triple(address: int) -> tuple[int, ...]:
    return struct.unpack("<3q", _bytes(address, 24))
