"""Compiled kernels as Python functions.

Takes a `Signature`, the library that holds a kernel and the addresses of its functions; gives a `NativeFunction`:

    f = make_function(signature, library)
    value, gradient = f(x, y)              # arrays and numbers; scalars come back as Python numbers
    f(x, y, out=(value, gradient))         # into arrays of the caller, which are returned
    f(x, y, sizes={"n": 5})                # dimensions that no argument shows
    call = f.bind(x, y)                    # everything fixed: call() recomputes call.out from the contents of x and y

Promises: calls with exact arrays and numbers go through the fast entry (`codegen.entry.ir`), all others through
`Marshal`, with equal results and one source of errors; the machine code lives as long as a function or bound call that
uses it; any number of threads may call a function at once; a small result (number, array, the tuple of all) may be an
object of an earlier call that nobody refers to any more (for `ndarray.resize` it is shared); the GIL is released around
a kernel whose arguments and results have more than `release_above` elements together, or that says that it has much to
do.

`SYMDIFF_PORTABLE_CALLS=1` in the environment keeps all calls on the portable path; `fast_entry_status` says which one a
process has.
"""

import ctypes
import inspect
import keyword
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from codegen.entry import ir as entry_ir
from codegen.entry import pyapi
from codegen.entry.frames import Array, Frame
from codegen.entry.guarded import Guarded
from codegen.entry.ir import Plan
from codegen.entry.marshal import REFUSED, KernelAddresses, Marshal, convert, describe, expected_text, share_memory
from codegen.entry.plan import Words, bound_plan, function_plan
from codegen.entry.signature import DTYPES, ArraySpec, Signature
from codegen.errors import ArgumentTypeError, ArgumentValueError, SignatureError
from codegen.inspection.stages import Compiled
from codegen.jit import engine
from codegen.jit.engine import Library
from codegen.jit.tiers import Upgrade
from symdiff import vectorcall
from symdiff.process import Once

RELEASE_ABOVE = 20_000
"""Releasing and taking back the GIL costs 20 to 70 ns; kernels on so many elements take microseconds."""

_WAIT = 1.0
"""Seconds that the better entry waits for a pause in compilations: first calls have the processor for themselves."""

_KEYWORDS = ("out", "sizes")


class NativeFunction:
    """A compiled function; make one with `make_function`."""

    signature: Signature
    compiled: Compiled
    """The stages it was made from; their texts are here too: `ir`, `loops`, `llvm`, `asm`."""
    is_fast: bool
    """Whether calls go through the fast entry; if not, `fast_entry_status` may say why."""
    _marshal: Marshal
    _release_above: int

    def __call__(
        self, /, *arrays: Any, out: Any = None, sizes: Mapping[str, int] | None = None, **named: Any
    ) -> Any:
        """Run the kernel. The fast subclass is called through its vectorcall pointer instead."""
        return self._marshal(*arrays, out=out, sizes=sizes, **named)

    def bind(
        self, /, *arrays: Any, out: Any = None, sizes: Mapping[str, int] | None = None, **named: Any
    ) -> "BoundCall":
        """Fix all arguments. Arrays must be usable as they are; numbers in Python are taken at their value now.

        The call returns `out` (or the arrays made for it), the same objects every time.
        """
        marshal = self._marshal
        values = marshal.positional(arrays, named)
        pairs = list(zip(self.signature.params, values, strict=True))
        params = [_live(spec, value, convert(spec, value)) for spec, value in pairs]
        bound = marshal.bind_sizes([param.shape for param in params], sizes)
        results: list[Array] = []
        shapes = marshal.result_shapes(bound, Frame(self.signature))
        targets = marshal.output_targets(out, shapes)
        for spec, target, shape in zip(self.signature.results, targets, shapes, strict=True):
            result = marshal.buffer_for(target, shape, DTYPES[spec.dtype], ())
            if target is not None and result is not target:
                raise ArgumentValueError(f"out: the array for {spec.name} is misaligned or overlaps itself")
            for param_spec, param in zip(self.signature.params, params, strict=True):
                if target is not None and share_memory(target, param):
                    raise ArgumentValueError(f"out: the array for {spec.name} shares memory with {param_spec.name}")
            results.append(result)
        elements = sum(array.size for array in (*params, *results) if array.ndim)
        frame = marshal.frame(params, results, bound)
        return _make_bound(
            marshal,
            frame,
            tuple(results),
            elements > self._release_above or marshal.amount(frame) > entry_ir.LONG_WORK,
            _fast_entry() if self.is_fast else None,
        )

    def guarded(self, again: Callable[..., Any], gate: vectorcall.Gate, nested: Sequence[int] = ()) -> Guarded | None:
        """The function for exact arguments and one choice of sizes; None where there is no fast entry.

        again: what is called for everything else, with the arguments as they came. gate: sends all calls there while it
        is closed. nested: how results are nested in tuples, empty where they are not: -1 takes the next result, n >= 1
        makes a tuple of the last n.
        """
        fast = _fast_entry() if self.is_fast else None
        if fast is None:
            return None
        plan = function_plan(self.signature, self._marshal.addresses, again, self._release_above, nested)
        return None if plan is None else Guarded(fast.attach, plan, fast.keep(plan), self._marshal, again, gate)

    @property
    def ir(self) -> str:
        """The tensor program, as text."""
        return self.compiled.ir

    @property
    def loops(self) -> str:
        """The loop nests, as text."""
        return self.compiled.loops

    @property
    def llvm(self) -> str:
        """The LLVM module, as text."""
        return self.compiled.llvm

    @property
    def asm(self) -> str:
        """The machine code, as assembler text."""
        return self.compiled.asm

    @property
    def timings(self) -> dict[str, float]:
        """Seconds that each stage of compiling took; "second tier" is there once better code is in force."""
        return dict(self.compiled.timings)

    def explain(self, *arrays: Any, sizes: Mapping[str, int] | None = None) -> str:
        """A table of kernels: loops, operations joined, arrays read and written, work, temporaries.

        With arguments as for a call also what each kernel should take and what it takes, the best of a few runs.
        """
        return self.compiled.explain(*arrays, sizes=sizes)

    @property
    def __signature__(self) -> inspect.Signature:
        kinds = inspect.Parameter
        keywords = [kinds(name, kinds.KEYWORD_ONLY, default=None) for name in _KEYWORDS]
        names = [p.name for p in self.signature.params]
        if all(name.isidentifier() and not keyword.iskeyword(name) and name not in _KEYWORDS for name in names):
            params = [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in names]
        else:  # a parameter that is called "out", say, can only be given by position
            params = [kinds(f"arg{i}", kinds.POSITIONAL_ONLY) for i in range(len(names))]
        return inspect.Signature([*params, *keywords])

    @property
    def __name__(self) -> str:
        return self.signature.name

    def __repr__(self) -> str:
        return f"<native function {self.signature}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.signature.name}: machine code cannot be pickled; pickle the expression it was compiled from and "
            "compile that again where it is needed"
        )

    def __copy__(self) -> "NativeFunction":
        return self

    def __deepcopy__(self, memo: object) -> "NativeFunction":
        return self


class _Exact:
    """Calls a kernel with arguments that need no conversion; by name, with others or where it fails: `REFUSED`."""

    def __call__(self, *args: Any, out: Any = None) -> Any:
        """The fast subclass is called through its vectorcall pointer."""
        return REFUSED


def _refuse(*_: Any, **__: Any) -> Any:
    return REFUSED


class BoundCall:
    """A function with fixed arguments: calling it runs the kernel on their contents and returns `out`."""

    arguments: tuple[Array, ...]
    out: Any
    """The result array, or a tuple of them."""
    _bound: "_Bound"

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run the kernel; it takes no arguments. The fast subclass is called through its vectorcall pointer."""
        return self._bound(*args, **named)

    def __repr__(self) -> str:
        return f"<bound call of {self._bound.marshal.signature}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self._bound.marshal.signature.name}: a bound call cannot be pickled")


class _Bound:
    """What a bound call owns, and its portable path."""

    def __init__(self, marshal: Marshal, frame: Frame, results: tuple[Array, ...]) -> None:
        self.marshal = marshal
        self.frame = frame
        self.answer: Any = results[0] if marshal.signature.single else results

    def __call__(self, *args: Any, **named: Any) -> Any:
        if args or named:
            raise ArgumentTypeError(f"{self.marshal.signature.name}: a bound call takes no arguments")
        self.marshal.run(self.frame)
        return self.answer


def make_function(
    signature: Signature,
    library: Library,
    *,
    symbol: str | None = None,
    release_above: int = RELEASE_ABOVE,
    portable: bool = False,
) -> NativeFunction:
    """Make a function of a kernel in a library that was compiled for its symbols.

    The kernel is called `symbol` there (by default `signature.name`), its companions `symbol.shapes` and
    `symbol.check`. The check function is needed by the fast entry alone, and only for axes that are polynomials.
    `release_above` is a number of elements, -1 for a kernel that runs long on little data.
    """
    name = symbol if symbol is not None else signature.name
    known = library.symbols
    addresses = KernelAddresses(
        run=library.address(name),
        shapes=library.address(name + ".shapes") if name + ".shapes" in known else 0,
        check=library.address(name + ".check") if name + ".check" in known else 0,
    )
    return function_at(signature, addresses, library, release_above=release_above, portable=portable)


def function_at(
    signature: Signature,
    addresses: KernelAddresses,
    library: Library | None,
    *,
    release_above: int = RELEASE_ABOVE,
    portable: bool = False,
) -> NativeFunction:
    """Make a function of a kernel at given addresses, which must stay valid while `library` lives."""
    if not addresses.shapes and any(result.axes for result in signature.results):
        raise SignatureError(f"{signature.name}: results that are arrays need the kernel's shapes function")
    marshal = Marshal(signature, library, addresses)
    fast = None if portable or (signature.has_polynomials and not addresses.check) else _fast_entry()
    plan = function_plan(signature, addresses, marshal, release_above) if fast is not None else None
    if fast is None or plan is None:
        function = _PortableFunction()
    else:
        function = fast.function_class()
        function.__dict__["_keep"] = (plan, fast.keep(plan), fast)
        marshal.exact = fast.exact(plan)
        fast.attach(function, plan)
    function.__dict__.update(signature=signature, _marshal=marshal, _release_above=release_above)
    function.is_fast = plan is not None
    function.__doc__ = str(signature)
    return function


class _PortableFunction(NativeFunction):
    pass


class _PortableBound(BoundCall):
    pass


_ENTRIES = (entry_ir.CALL, entry_ir.CALL_BOUND)


class _FastEntry:
    """The compiled entries and the classes whose instances are called through them.

    Where no object lies on the disk, code without passes comes first.
    """

    def __init__(self) -> None:
        layout = pyapi.probe()
        self._offsets = layout.offsets
        text = entry_ir.module_text(layout.offsets)
        self._early: list[weakref.ref[Any]] = []
        self._better: _BetterEntry | None = None
        opt = 1  # the next is no faster here
        if not engine.on_disk(text, opt):
            self._better, opt = _BetterEntry(self, text, opt, layout.imports), 0
        self._libraries = [engine.compile_text(text, _ENTRIES, opt=opt, imports=layout.imports)]
        self._call, self._call_bound = map(self._libraries[0].address, _ENTRIES)
        if self._better is not None:
            self._better.begin(self._libraries[0], within=_WAIT)

        self.function_class = self._callable_class(NativeFunction)
        self.bound_class = self._callable_class(BoundCall)
        self._exact_class = self._callable_class(_Exact)

    def keep(self, plan: Words) -> list[Any]:
        """Where a function's plan keeps answers. Whoever keeps the plan keeps this list, too."""
        kept: list[Any] = [None] * entry_ir.KEPT_EACH
        plan[Plan.KEPT] = pyapi.list_items(kept, self._offsets)
        return kept

    def exact(self, plan: Words) -> Callable[..., Any]:
        """What calls by a function's plan and answers `REFUSED` where that calls its Python function."""
        own = type(plan).from_buffer_copy(plan)
        own[Plan.FALLBACK] = id(_refuse)
        made = self._exact_class()
        made.__dict__["_keep"] = (own, self.keep(own), self, _refuse)
        self.attach(made, own)
        return made

    def attach(self, instance: Any, plan: Words) -> None:
        """Let an instance of a class made `with_vectorcall` be called by a plan, which the caller keeps."""
        # No lock, for a finalizer may come here from anywhere: either `exchange` finds the instance in the list, or the
        # better code was in force before.
        if self._better is not None and not self._better.ended.is_set():
            self._early.append(weakref.ref(instance))
        entry = self._entry_of(instance)
        vectorcall.install(instance, entry, ctypes.addressof(plan))
        if self._entry_of(instance) != entry:
            vectorcall.install_entry(instance, self._entry_of(instance))

    def exchange(self, library: Library) -> None:
        """Call all instances through better code from now on. Threads may still be in the old, which stays."""
        self._libraries.append(library)
        self._call, self._call_bound = map(library.address, _ENTRIES)
        for reference in self._early:
            instance = reference()
            if instance is not None:
                vectorcall.install_entry(instance, self._entry_of(instance))
        self._early.clear()

    def settle(self, seconds: float | None = None) -> bool:
        """Wait until the code in force is the last one; whether it is."""
        return self._better is None or self._better.settle(seconds)

    def _entry_of(self, instance: Any) -> int:
        return self._call_bound if isinstance(instance, self.bound_class) else self._call

    @staticmethod
    def _callable_class(named: type) -> type[Any]:
        contents = {"__doc__": named.__doc__, "__module__": __name__}
        return vectorcall.with_vectorcall(type(named.__name__, (vectorcall.Callee, named), contents))


class _BetterEntry(Upgrade):
    def __init__(self, fast: _FastEntry, text: str, opt: int, imports: Mapping[str, int]) -> None:
        super().__init__("entry from Python", text, _ENTRIES, opt, imports, {})
        self._fast = weakref.ref(fast)

    def exchange(self, library: Library) -> None:
        fast = self._fast()
        if fast is not None:
            fast.exchange(library)


@Once
def _entry() -> _FastEntry | str:
    """The fast entry, made at the first need; where it is not safe or not wanted, the reason."""
    if os.environ.get("SYMDIFF_PORTABLE_CALLS"):
        return "SYMDIFF_PORTABLE_CALLS is set"
    try:
        return _FastEntry()
    except Exception as error:  # whatever it is: the portable path gives the same answers
        return f"{type(error).__name__}: {error}"


def _fast_entry() -> _FastEntry | None:
    found = _entry()
    return None if isinstance(found, str) else found


def settle(seconds: float | None = None) -> bool:
    """Wait until calls go through the last code of the entry; whether they do."""
    fast = _fast_entry()
    return fast is None or fast.settle(seconds)


def fast_entry_status() -> str:
    """ "fast", or the reason why calls take the portable path in this process."""
    found = _entry()
    return found if isinstance(found, str) else "fast"


def _make_bound(
    marshal: Marshal, frame: Frame, results: tuple[Array, ...], release: bool, fast: _FastEntry | None
) -> BoundCall:
    bound = _Bound(marshal, frame, results)
    if fast is None:
        call = _PortableBound()
    else:
        plan = bound_plan(marshal.addresses, frame, bound.answer, bound, release)
        call = fast.bound_class()
        call.__dict__["_keep"] = (plan, fast)
        fast.attach(call, plan)
    call.__dict__.update(arguments=frame.held[: len(frame.held) - len(results)], out=bound.answer, _bound=bound)
    return call


def _live(spec: ArraySpec, value: Any, converted: Array) -> Array:
    """The array that a bound call reads, which must be the caller's own memory and not a converted copy of it."""
    if isinstance(value, (bool, int, float, np.generic)) and not spec.axes:
        return converted
    # Bounds suffice: the converted array is either the given memory or new.
    if not isinstance(value, np.ndarray) or (converted.size and not np.may_share_memory(value, converted)):
        raise ArgumentTypeError(
            f"{spec.name}: bind needs {expected_text(spec)} that can be used without a copy, given {describe(value)}"
        )
    return converted
