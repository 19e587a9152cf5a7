"""Functions that answer expressions with expressions and numbers by native code.

Takes a function over NumPy and a rule that applies a transform to it; gives a `Transformed`: called with expressions it
answers with expressions, so transforms nest; called with numbers it traces itself, compiles, and runs native code. A
program serves every call whose axes repeat in the same pattern, whatever their sizes; the first few choices of small
sizes get native code of their own, made of the same program.
"""

from __future__ import annotations

import functools
import operator
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias

from symdiff.api.native import compile_function
from symdiff.api.small import Meeting
from symdiff.api.turns import Turns
from symdiff.errors import ArgumentError, SymdiffError
from symdiff.frontend.expr import Expr
from symdiff.frontend.nesting import LEAF, nested_tuples
from symdiff.frontend.patterns import bind
from symdiff.frontend.trace import Traced, flatten, trace
from symdiff.ir.collecting import uncollected
from symdiff.ir.graph import Function
from symdiff.ir.sized import at_sizes
from symdiff.ops import OPSET
from symdiff.simplify import optimize
from symdiff.vectorcall import Callee, Gate, with_vectorcall

Rule: TypeAlias = "Callable[[Callable[..., Any], tuple[Any, ...]], Any]"
"""What a transform makes of a function and its arguments."""
_Numbers: TypeAlias = "tuple[tuple[str, int], ...]"
"""Dimensions and their sizes."""

MOST_KEYWORDED = 64
"""So many choices of strings, booleans, None and callables among keyword arguments have their programs kept."""
OWN = 3
"""So many choices of small sizes, those that come first, have code of their own; all others share one."""


# Whether a transform is at work further out: in this thread, and in any, when calls through pointers have to ask.
_INSIDE: ContextVar[bool] = ContextVar("_INSIDE", default=False)
_GATE = Gate()


_REFUSED: Any = object()


@with_vectorcall
class _Straight(Callee):
    """Native code on the leaves of nested arguments; refuses what might belong to another program."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _REFUSED


def _refuse(*_: Any, **__: Any) -> Any:
    return _REFUSED


class _Program:
    """Native code for a pattern of sizes, or for one choice of the small ones among them."""

    def __init__(self, traced: Traced, function: Function, threads: int) -> None:
        self.traced = traced
        tree = traced.out_tree
        self.native = compile_function(optimize(function, OPSET), single=tree is LEAF, threads=threads)
        # Whether native code gives what the function gives.
        self.bare = tree is LEAF or (tree.kind is tuple and all(c is LEAF for c in tree.children))
        # How it is to nest its results; None where that is done here.
        self._nested = () if self.bare else nested_tuples(tree)
        # Whether native code takes arguments as they are, and gives results as they are to be.
        plain = not traced.static and all(c is LEAF for c in traced.in_tree.children)
        self.direct = plain and self._nested is not None
        # The first is in use. Threads may make more, which calls may have begun to go through: all are kept.
        self._guards: list[Any] = []
        self._straight: _Straight | None = None

    def guarded(self, again: Callable[..., Any]) -> Any:
        """The native function that leaves to `again` what might belong to another program; None where there is none."""
        dtypes = self.traced.dtypes
        arrays = all(p.type.shape for p in self.traced.function.params)
        # A number in Python is whatever the others are: among several dtypes it tells nothing.
        if not self._guards and (arrays or all(d == "f64" for d in dtypes)):
            self._guards.append(self.native.guarded(again, _GATE, self._nested or ()))
        return self._guards[0] if self._guards else None

    def expect(self, arrays: Sequence[Any]) -> bool:
        """Have `straight` take arrays of these sizes from now on; False where it never will."""
        guarded = self.guarded(_refuse)
        if guarded is None:
            return False
        guarded.expect(guarded.sizes_of([a.shape for a in arrays]))
        if self._straight is None:
            self._straight = _Straight()
            guarded.attach(self._straight)
        return True

    def straight(self, args: Sequence[Any]) -> Any:
        """The results for arguments that look like the last ones; `_REFUSED` for others."""
        leaves = self.traced.leaves(args)
        if leaves is None or self._straight is None:
            return _REFUSED
        found = self._straight(*leaves)
        return self.results(found) if self._nested is None and found is not _REFUSED else found

    def results(self, flat: Any) -> Any:
        """What native code gives, nested as the function does."""
        return self.traced.results(flat if isinstance(flat, tuple) else (flat,))

    def __call__(self, arrays: Sequence[Any]) -> Any:
        flat = self.native(*arrays)
        return flat if self.bare else self.results(flat)


class _Pattern:
    """A traced function with native code for its sizes, made when a call needs it.

    Which code a choice of sizes has is settled at the first call with it and stays: last bits do not change later.
    """

    def __init__(self, traced: Traced, threads: int) -> None:
        self.traced = traced
        self._threads = threads
        # By the small sizes that are numbers there; with none of them, the code for all sizes.
        self._made: dict[_Numbers, _Program] = {}
        self._own: set[_Numbers] = {()}
        self._lock = threading.RLock()
        self._turns = Turns()
        self._meeting: Meeting | None = None
        self._known: dict[tuple[Any, ...], _Program] = {}

    @property
    def programs(self) -> tuple[_Program, ...]:
        """All there is by now."""
        return tuple(dict.fromkeys(self._made.values()))

    def program(self, arrays: Sequence[Any]) -> _Program:
        """Native code for arrays that the traced function takes."""
        shapes = tuple([a.shape for a in arrays])
        found = self._known.get(shapes)
        if found is None:
            sizes = bind(self.traced.pattern, shapes)
            assert sizes is not None, "the traced function takes them"
            if self._meeting is None:
                self._meeting = Meeting(self.traced.function)
            found = self._of(self._meeting.small(sizes))
            if len(self._known) < 1000:
                self._known[shapes] = found
        return found

    def _of(self, numbers: _Numbers) -> _Program:
        with self._lock:
            if len(self._own) <= OWN:
                self._own.add(numbers)
            key = numbers if numbers in self._own else ()
        found = self._made.get(key)
        if found is None:
            found = self._turns.made(
                lambda: self._made.get(key), lambda: self._made.setdefault(key, self._compiled(key))
            )
        return found

    def _compiled(self, numbers: _Numbers) -> _Program:
        function = self.traced.function
        with uncollected():
            if not numbers:
                return _Program(self.traced, function, self._threads)
            try:
                return _Program(self.traced, at_sizes(function, dict(numbers), OPSET), self._threads)
            except SymdiffError:  # code for all sizes says what is wrong when it runs
                return self._of(())


class _Again:
    """Calls a transform through Python, without keeping it."""

    def __init__(self, transformed: Transformed, alike: Callable[[], Transformed]) -> None:
        self._transformed = weakref.ref(transformed)
        self._alike = alike

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        # In finalizers of what a collection found the reference is dead already, though the transform can be called.
        transformed = self._transformed() or self._alike()
        return transformed.__call__(*args, **keywords)  # the method: a call of the object comes here again


def derivative_in(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """The arguments that a function is the derivative of another one in, and the choices at kinks; None where it is
    none."""
    made = function.function if isinstance(function, _Keyworded) else function
    return made.derivative_in if isinstance(made, Transformed) else None


class _Keyworded:
    """A function called with keywords, as one of positional arguments: the last of them holds the keywords."""

    def __init__(self, function: Callable[..., Any], fixed: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.fixed = fixed

    def __call__(self, *args: Any) -> Any:
        return self.function(*args[:-1], **args[-1], **self.fixed)


def by_position(function: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """How many arguments are given by position."""
    return len(args) - isinstance(function, _Keyworded)


_NUMBERS = (float, int, bool)
_LOOK = operator.attrgetter("shape", "dtype")


@with_vectorcall
class Transformed(Callee):
    """A function transform: expressions in, expressions out; numbers in, native code.

    A call that looks like the last one goes straight to native code, by the pointer of `Callee`.

    Small sizes along which elements meet are numbers in code that is made when they first come, for the first few
    choices of them; other calls share code for all sizes. Either serves a choice from its first call to its last.

    Keyword arguments are passed on. Arrays and numbers among them are traced like the others, never differentiated;
    strings, booleans, None and callables stay Python values, and a program serves the values it was traced with.
    Of nested transforms the outermost decides on threads; `compile` says what they do.
    """

    def __init__(
        self, function: Callable[..., Any], rule: Rule, static: tuple[int, ...] = (), threads: int = 1,
        derivative_in: tuple[Any, ...] | None = None,
    ) -> None:  # fmt: skip
        functools.update_wrapper(self, function, updated=())
        self.derivative_in = derivative_in
        self._threads = threads
        self.function = function
        self._rule = rule
        self._static = static
        self._patterns: list[_Pattern] = []
        # Native code by shapes and dtypes of arrays and types of numbers: a repeated call looks nothing over.
        self._direct: dict[tuple[Any, ...], tuple[_Program, Any, tuple[int, ...]]] = {}
        # What calls go to straight away, as long as arguments look the same.
        self._straight: Any = None
        self._again = _Again(self, functools.partial(Transformed, function, rule, static, threads))
        # The program of the last call that had nested arguments, or static ones.
        self._last: _Program | None = None
        self._turns = Turns()
        # By what is fixed, those used last at the end.
        self._keyworded: OrderedDict[tuple[tuple[str, Any], ...], Transformed] = OrderedDict()

    def _with_keywords(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        fixed = {k: v for k, v in keywords.items() if v is None or isinstance(v, (str, bool)) or _is_code(v)}
        key = tuple(sorted(fixed.items(), key=lambda item: item[0]))
        made = self._keyworded.get(key)
        if made is None:
            made = Transformed(_Keyworded(self.function, fixed), self._rule, self._static, self._threads)
            made = self._keyworded.setdefault(key, made)
        with suppress(KeyError):  # another thread may have dropped it by now
            self._keyworded.move_to_end(key)
        while len(self._keyworded) > MOST_KEYWORDED:
            self._keyworded.popitem(last=False)
        return made(*args, {k: v for k, v in keywords.items() if k not in fixed})

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        if keywords:
            return self._with_keywords(args, keywords)
        if _INSIDE.get():  # a function being traced may close over symbols, so numbers stay symbolic here
            return self.symbolic(*args)
        return self._known(args)

    def _known(self, args: tuple[Any, ...]) -> Any:
        """Arguments unlike those of the last call, or such as have to be taken apart."""
        if self._last is not None:
            found = self._last.straight(args)
            if found is not _REFUSED:
                return found
        try:
            key = tuple([type(a) if type(a) in _NUMBERS else _LOOK(a) for a in args])
            found = self._direct.get(key)
        except (AttributeError, TypeError):  # something to be taken apart
            return self._slow(args, None)
        if found is None:
            return self._slow(args, key)
        program, guarded, sizes = found
        if guarded is not None:
            guarded.expect(sizes)
            if self._straight is not guarded:
                guarded.attach(self)
                self._straight = guarded
        return program(args)

    def _slow(self, args: tuple[Any, ...], key: tuple[Any, ...] | None) -> Any:
        found = self._find(args)
        if found is None:
            if any(isinstance(leaf, Expr) for leaf in flatten(args)[0]):
                return self.symbolic(*args)
            found = self._turns.made(lambda: self._find(args), lambda: self._compiled(args))
        program, arrays = found
        # Native code takes Python's numbers for what they are here; other things are converted each time.
        if not program.direct:
            self._last = program if program.expect(arrays) else None
        elif (
            key is not None
            and all(a is b or type(b) in _NUMBERS for a, b in zip(arrays, args, strict=True))
            and len(self._direct) < 1000
        ):
            guarded = program.guarded(self._again)
            sizes = () if guarded is None else guarded.sizes_of([a.shape for a in arrays])
            self._direct[key] = program, guarded, sizes
        return program(arrays)

    def _find(self, args: tuple[Any, ...]) -> tuple[_Program, list[Any]] | None:
        """The program that serves these arguments, and the arrays to run it on."""
        for pattern in self._patterns:
            arrays = pattern.traced.arguments(args)
            if arrays is not None:
                return pattern.program(arrays), arrays
        return None

    def _compiled(self, args: tuple[Any, ...]) -> tuple[_Program, list[Any]]:
        with uncollected():
            made = _Pattern(trace(self.symbolic, args, static_argnums=self._static, like=self.function), self._threads)
        self._patterns.append(made)
        found = self._find(args)
        assert found is not None, "a program serves the arguments it was traced with"
        return found

    def bind(self, *args: Any, out: Any = None) -> Any:
        """A call without arguments on fixed arrays: it reads them anew each time and returns the same result arrays.

        out: the array, or the tuple of arrays, to write to. The results must be one array or a tuple of arrays.
        """
        program, arrays = self._find(args) or self._turns.made(lambda: self._find(args), lambda: self._compiled(args))
        if not program.bare:
            raise ArgumentError(f"{self!r}: bind is for functions that return one array or a tuple of arrays")
        return program.native.bind(*arrays, out=out)

    def symbolic(self, *args: Any) -> Any:
        """The transform on expressions."""
        token = _INSIDE.set(True)
        try:
            with _GATE:
                return self._rule(self.function, args)
        finally:
            _INSIDE.reset(token)

    @property
    def compilations(self) -> int:
        """How many programs were made of the function; one serves every size of its pattern."""
        return len(self._patterns) + sum([t.compilations for t in list(self._keyworded.values())])

    @property
    def native(self) -> tuple[Any, ...]:
        """The native functions that calls have been served by: for the sizes their signatures show, or for all."""
        found = [program.native for pattern in self._patterns for program in pattern.programs]
        for keyworded in list(self._keyworded.values()):
            found += keyworded.native
        return tuple(found)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self.function, '__name__', repr(self.function))}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled; pickle the function and transform it where it is needed")

    def __copy__(self) -> Transformed:
        return self

    def __deepcopy__(self, memo: object) -> Transformed:
        return self


def _is_code(value: Any) -> bool:
    return callable(value) and not isinstance(value, Expr)
