"""The fast entry: two functions in LLVM IR with CPython's vectorcall signature.

Gives the text of one module and the layout of the plans it reads. The module is the same for every kernel: what differs
is in a *plan*, a block of i64 words that a callable object points to, so it is compiled once for a machine and making
a function costs no LLVM time. Promises: the entries hold no state but small results (all buffers are on the stack);
every argument they do not recognize, and every status that is not 0, goes to the plan's Python callable with the
arguments as they came, so that all messages have one source; every reference is released on every path.

Plan of a function: the words of `Plan`, then a record for each parameter, each tuple of the answer and each result.
Words of a parameter: rank, dtype number, descriptor, type key of the descriptor, scalar type, then a code for each
axis. Tuples come before those they are in, so the outermost is the last; words: length, the number of the tuple around
it (the outermost is 0), the byte where it is there. Words of a result: rank, dtype number, descriptor, the number of
the tuple it is in, the byte where it is there. An axis code is `value << 3 | kind`.

Plan of a bound call: the words of `BoundPlan`.

A plan may want certain sizes (`WANTED`): calls on others go to Python, too. The words at that address may change from
call to call.

What a call returned is kept unless it is large, and given again by a later call when nobody else refers to it any
more: making objects takes longer than a small kernel. Within a tuple each number and array is replaced where somebody
refers to it, even weakly, or it is not as it was made. Answers belong to a list that the function owns. A call that
takes one holds a reference of its own, so no other takes it meanwhile.

Two shorthands keep the text readable: `%x = word T, %p[k]` loads word k of a block that never changes, and `%x = field
T, %p[k]` loads the field at byte k of a structure. `$RUN_KERNEL` stands for `codegen.entry.run.KERNEL_TEXT`.
"""

import re
from enum import IntEnum
from string import Template

from codegen.entry.call import CALL_TEXT, SELDOM_TEXT
from codegen.entry.objects import OBJECTS_TEXT
from codegen.entry.out import OUT_TEXT
from codegen.entry.results import RETURN_TEXT
from codegen.entry.run import KERNEL_TEXT, RUN_TEXT


class Plan(IntEnum):
    """Words at the head of a function's plan; DATA to OBJECTS are word offsets within the call's frame."""

    RUN = 0
    SHAPES = 1
    CHECK = 2
    FALLBACK = 3
    PARAMS = 4
    RESULTS = 5
    SINGLE = 6
    RELEASE_ABOVE = 7
    FRAME_WORDS = 8
    DATA = 9
    STRIDES = 10
    IN_SHAPES = 11
    OUT_SHAPES = 12
    SCRATCH = 13
    OBJECTS = 14
    WANTED = 15
    """The address of the only sizes that are taken; 0 for any."""
    SIZES = 16
    """How many there are."""
    AMOUNT = 17
    NUMBERS_IN = 18
    """1 where every parameter is one float64 number."""
    BOXES = 19
    """1 where some result is a number that is no float64."""
    KEPT = 20
    """The address of the items of the list of kept answers, which has `KEPT_EACH`."""
    TURN = 21
    """The place that the next call looks at. The one word that changes."""
    GATE = 22
    """The address of a number that is 0 unless calls go to Python; read where certain sizes are wanted."""
    TUPLES = 23
    """How many tuples an answer has: 0 for a single result."""
    NEVER_KEPT = 24
    """1 where an answer is one number that is no float64."""
    RESULT_RECORDS = 25
    """The word of the plan where the records of results begin,"""
    RESULT_STRIDES = 26
    """and the word of the frame where their strides do."""
    RECORDS = 27


class BoundPlan(IntEnum):
    """Words of a bound call's plan."""

    RUN = 0
    DIMS = 1
    DATA = 2
    STRIDES = 3
    ANSWER = 4
    FALLBACK = 5
    RELEASE = 6
    SIZE = 7


class Axis(IntEnum):
    """What the entry does with the size of a parameter's axis."""

    CONSTANT = 0
    BIND = 1
    COMPARE = 2
    LEAVE = 4
    """A polynomial: the kernel's check function looks at it."""


AXIS_BITS = 3
"""Bits of an axis code below its value."""


LONG_WORK = 200_000
"""Work of about ten microseconds: the GIL is released around it."""

KEPT_EACH = 8
"""Kept answers: a caller may hold some of the last ones (the stages of a Runge-Kutta step, say)."""

KEPT_ELEMENTS = 128
"""Answers are kept whose arrays have up to so many elements: making a new one takes longer than computing so few."""

IMPORTS = (
    "PyErr_Clear",
    "PyErr_Occurred",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyBool_FromLong",
    "PyFloat_FromDouble",
    "PyLong_AsDouble",
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyObject_GC_UnTrack",
    "PyObject_Vectorcall",
    "PyTuple_New",
    "Py_DecRef",
    "Py_IncRef",
    "PyFloat_Type",
    "PyLong_Type",
    "PyTuple_Type",
    "_Py_NoneStruct",
    "_Py_TrueStruct",
    "_Py_FalseStruct",
)
"""What the module takes from the interpreter; from NumPy symdiff_ndarray_type and symdiff_new_array.

`symdiff_out_name` is the interned string "out", which a call written `f(x, out=y)` passes as the name.
"""

CALL = "symdiff_call"
CALL_BOUND = "symdiff_call_bound"


_SHORTHAND = re.compile(r"^  %([\w.]+) = (word|field) (\w+), %([\w.]+)\[(\d+)\]$", re.MULTILINE)


def module_text(offsets: dict[str, int]) -> str:
    """The module, for a process whose objects have the given offsets (see `pyapi.Layout`)."""
    words = {f"P_{word.name}": word.value for word in Plan} | {f"B_{word.name}": word.value for word in BoundPlan}
    others = {f"A_{kind.name}": kind.value for kind in Axis} | {"LONG_WORK": LONG_WORK}
    others |= {"A_BITS": AXIS_BITS} | {f"FORGET_{name.upper()}": _forget(name, offsets) for name in ("old", "inner")}
    others |= {"KEPT_EACH": KEPT_EACH, "KEPT_ELEMENTS": KEPT_ELEMENTS, "RUN_KERNEL": KERNEL_TEXT}
    texts = _DECLARATIONS + CALL_TEXT + RUN_TEXT + RETURN_TEXT + SELDOM_TEXT + OBJECTS_TEXT + OUT_TEXT + _BOUND_TEXT
    text = Template(texts).substitute(words | others | offsets)
    return _SHORTHAND.sub(_expand, text)


def _forget(name: str, offsets: dict[str, int]) -> str:
    """What makes a tuple forget its hash, in versions that note it."""
    at = offsets["TUPLE_HASH"]
    return f"  %{name}.hash = getelementptr i8, ptr %{name}, i64 {at}\n  store i64 -1, ptr %{name}.hash" if at else ""


def _expand(match: re.Match[str]) -> str:
    name, kind, loaded, base, index = match.groups()
    step, constant = ("i64", ", !invariant.load !0") if kind == "word" else ("i8", "")
    return (
        f"  %{name}.at = getelementptr {step}, ptr %{base}, i64 {index}\n"
        f"  %{name} = load {loaded}, ptr %{name}.at{constant}"
    )


_DECLARATIONS = """
@symdiff_ndarray_type = external global i8
@PyFloat_Type = external global i8
@PyLong_Type = external global i8
@PyTuple_Type = external global i8
@symdiff_out_name = external global i8
@_Py_NoneStruct = external global i8
@_Py_TrueStruct = external global i8
@_Py_FalseStruct = external global i8
declare ptr @symdiff_new_array(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)
declare void @PyErr_Clear()
declare ptr @PyErr_Occurred()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyEval_SaveThread()
declare ptr @PyBool_FromLong(i64)
declare ptr @PyFloat_FromDouble(double)
declare double @PyLong_AsDouble(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare void @PyObject_GC_UnTrack(ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare void @Py_DecRef(ptr)
declare void @Py_IncRef(ptr)

@truth = private unnamed_addr constant [2 x i8] c"\\00\\01"

!0 = !{}
"""

_BOUND_TEXT = """
define ptr @symdiff_call_bound(ptr %self, ptr %args, i64 %nargsf, ptr %names) nounwind {
entry:
  %plan = field ptr, %self[$PLAN]
  %nargs = and i64 %nargsf, 9223372036854775807
  %given = icmp ne i64 %nargs, 0
  %named = icmp ne ptr %names, null
  %odd = or i1 %given, %named
  br i1 %odd, label %fallback, label %start

start:
  %kernel = word ptr, %plan[$B_RUN]
  %dims = word ptr, %plan[$B_DIMS]
  %data = word ptr, %plan[$B_DATA]
  %strides = word ptr, %plan[$B_STRIDES]
  %release = word i64, %plan[$B_RELEASE]
  %long = icmp ne i64 %release, 0
$RUN_KERNEL
  br i1 %good, label %done, label %fallback

done:
  %answer = word ptr, %plan[$B_ANSWER]
  call void @Py_IncRef(ptr %answer)
  ret ptr %answer

fallback:
  %python = word ptr, %plan[$B_FALLBACK]
  %result.python = call ptr @PyObject_Vectorcall(ptr %python, ptr %args, i64 %nargsf, ptr %names)
  ret ptr %result.python
}
"""
