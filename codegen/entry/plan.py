"""Plans of the fast entry, which `codegen.entry.ir` lays out, filled from a signature and the addresses of a kernel.

Takes addresses of objects without keeping these: whoever calls by a plan does.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from codegen.entry import pyapi
from codegen.entry.frames import Frame
from codegen.entry.ir import AXIS_BITS, LONG_WORK, Axis, BoundPlan, Plan
from codegen.entry.marshal import AMOUNT, KernelAddresses
from codegen.entry.signature import DTYPES, Signature

Words: TypeAlias = ctypes.Array[ctypes.c_int64]
"""A plan, or what one points to."""

_MAX_FRAME_WORDS = 16_384
"""128 KiB of stack; a signature with more axes than that is called through `Marshal`."""

_DTYPE_NUMBERS = {name: number for number, name in enumerate(DTYPES)}


def function_plan(
    signature: Signature,
    addresses: KernelAddresses,
    fallback: Callable[..., Any],
    release_above: int,
    nested: Sequence[int] = (),
) -> Words | None:
    """The plan of a function; None where the frame of a call would be too large for the stack.

    fallback: what is called where the entry cannot go on. release_above: elements, as of `entry.make_function`. nested:
    how results are nested in tuples, as of `entry.NativeFunction.guarded`.
    """
    params, results = signature.params, signature.results
    in_axes = sum(len(p.axes) for p in params)
    out_axes = sum(len(r.axes) for r in results)
    data = max(1, len(signature.dims))
    strides = data + len(params) + len(results)
    in_shapes = strides + in_axes + out_axes
    out_shapes = in_shapes + in_axes
    scratch = out_shapes + out_axes
    objects = scratch + len(params) + len(results)
    tuples, places = _answer(signature, nested)
    words = objects + max(2, len(tuples))
    if words > _MAX_FRAME_WORDS:
        return None
    head = dict.fromkeys(Plan, 0)
    head[Plan.RUN] = addresses.run
    # The kernel makes its checks on sizes, too.
    head[Plan.SHAPES] = addresses.shapes if out_axes else 0
    head[Plan.CHECK] = addresses.check if signature.has_polynomials else 0
    head[Plan.FALLBACK] = id(fallback)
    head[Plan.SIZES] = len(signature.dims)
    head[Plan.AMOUNT] = addresses.amount if signature.dims else 0
    # No argument count matches -1: where `sizes=` is needed, every call goes to Python.
    head[Plan.PARAMS] = len(params) if not set(signature.given) - signature.bound else -1
    head[Plan.RESULTS] = len(results)
    head[Plan.NUMBERS_IN] = int(bool(params) and all(p.dtype == "f64" and not p.axes for p in params))
    head[Plan.BOXES] = int(any(r.dtype != "f64" and not r.axes for r in results))
    head[Plan.TUPLES] = len(tuples)
    head[Plan.NEVER_KEPT] = int(not tuples and bool(head[Plan.BOXES]))
    head[Plan.SINGLE] = int(signature.single)
    head[Plan.RELEASE_ABOVE] = -1 if _always_long(signature, addresses) else release_above
    head[Plan.FRAME_WORDS] = words
    head[Plan.DATA] = data
    head[Plan.STRIDES] = strides
    head[Plan.IN_SHAPES] = in_shapes
    head[Plan.OUT_SHAPES] = out_shapes
    head[Plan.SCRATCH] = scratch
    head[Plan.OBJECTS] = objects
    head[Plan.RESULT_STRIDES] = strides + in_axes
    flat = [head[word] for word in Plan if word is not Plan.RECORDS]
    bound: set[str] = set()
    for spec in params:
        dtype = DTYPES[spec.dtype]
        key = pyapi.descriptor_key(dtype)
        flat += [len(spec.axes), _DTYPE_NUMBERS[spec.dtype], id(dtype), key - (key >> 63 << 64), id(dtype.type)]
        for axis in spec.axes:
            if isinstance(axis, int):
                flat.append(axis << AXIS_BITS | Axis.CONSTANT)
            elif isinstance(axis, str):
                kind = Axis.COMPARE if axis in bound else Axis.BIND
                flat.append(signature.dims.index(axis) << AXIS_BITS | kind)
                bound.add(axis)
            else:
                flat.append(Axis.LEAVE)
    for words_of_one in reversed(tuples):
        flat += words_of_one
    flat[Plan.RESULT_RECORDS] = len(flat)
    for spec, place in zip(results, places, strict=True):
        flat += [len(spec.axes), _DTYPE_NUMBERS[spec.dtype], id(DTYPES[spec.dtype]), *place]
    return (ctypes.c_int64 * len(flat))(*flat)


def _answer(
    signature: Signature, nested: Sequence[int]
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """The tuples of an answer, outer ones first: length, number of the tuple around it, the byte where it is there; and
    of each result its tuple and byte there."""
    count = len(signature.results)
    if signature.single or not count:
        return [], [(0, 0)] * count
    made: list[Any] = []  # results as their numbers, tuples as lists
    taken = iter(range(count))
    for word in nested or (*[-1] * count, count):
        made[len(made) - max(word, 0) :] = [next(taken) if word < 0 else made[len(made) - word :]]
    tuples: list[tuple[int, int, int]] = []
    places = [(0, 0)] * count
    waiting: deque[tuple[Any, int, int]] = deque([(made[0], 0, 0)])
    while waiting:
        items, within, byte = waiting.popleft()
        if isinstance(items, int):
            places[items] = within, byte
        else:
            waiting += [(item, len(tuples), tuple.__basicsize__ + 8 * i) for i, item in enumerate(items)]
            tuples.append((len(items), within, byte))
    return tuples, places


def bound_plan(
    addresses: KernelAddresses, frame: Frame, answer: Any, fallback: Callable[..., Any], release: bool
) -> Words:
    """The plan of a bound call, which runs on `frame` and returns `answer`; release: whether without the GIL."""
    plan = (ctypes.c_int64 * BoundPlan.SIZE)()
    plan[BoundPlan.RUN] = addresses.run
    plan[BoundPlan.DIMS] = frame.dims
    plan[BoundPlan.DATA] = frame.data
    plan[BoundPlan.STRIDES] = frame.strides
    plan[BoundPlan.ANSWER] = id(answer)
    plan[BoundPlan.FALLBACK] = id(fallback)
    plan[BoundPlan.RELEASE] = int(release)
    return plan


def _always_long(signature: Signature, addresses: KernelAddresses) -> bool:
    """Whether the same work at every call is much."""
    if signature.dims or not addresses.amount:
        return False
    return AMOUNT(addresses.amount)(None) > LONG_WORK
