"""Which symdiff function answers which NumPy function, and under which names text may call it.

Modules of this package register their functions here with decorators; `Expr` looks them up by the NumPy function that
was called, the parser by name. Functions known and refused carry a hint at the nearest alternative.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np

from symdiff.errors import UnsupportedError

F = TypeVar("F", bound=Callable[..., Any])

# name -> function of expressions: "sum", "np.sum", "np.linalg.inv", "inv", "sigmoid". The allow-list of the parser.
FUNCTIONS: dict[str, Callable[..., Any]] = {}
# NumPy (or SciPy) function or ufunc -> function of expressions.
NUMPY: dict[Any, Callable[..., Any]] = {}
# name in scipy.special -> function of expressions. SciPy is not imported for it: who calls its functions has done so.
_SPECIAL: dict[str, Callable[..., Any]] = {}
# "np.sort" -> what to use instead.
_HINTS: dict[str, str] = {}
_KEYWORDS: dict[Any, frozenset[str] | None] = {}


def _find(root: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        root = getattr(root, part, None)
    return root


def numpy_function(*names: str) -> Callable[[F], F]:
    """Register a function for `np.<name>`; names that this NumPy does not have are known to text only."""

    def register(function: F) -> F:
        for name in names:
            found = _find(np, name)
            if found is not None:
                NUMPY[found] = function
            FUNCTIONS[f"np.{name}"] = function
            plain = name.rpartition(".")[2]
            if plain == name or not hasattr(np, plain):
                FUNCTIONS[plain] = function
        return function

    return register


def scipy_function(*names: str) -> Callable[[F], F]:
    """Register a function for `scipy.special.<name>`."""

    def register(function: F) -> F:
        for name in names:
            _SPECIAL[name] = function
            FUNCTIONS[f"scipy.special.{name}"] = FUNCTIONS[f"special.{name}"] = function
            FUNCTIONS.setdefault(name, function)
        return function

    return register


def own_function(*names: str) -> Callable[[F], F]:
    """Register a function that NumPy has no name for, or that acts on sizes rather than arrays."""

    def register(function: F) -> F:
        for name in names:
            FUNCTIONS[name] = function
        return function

    return register


def refuse(names: str, hint: str) -> None:
    """NumPy functions that are known and not answered, with what to use instead."""
    for name in names.split():
        _HINTS[name] = hint


def hint_for(name: str) -> str | None:
    """What to use instead of a NumPy function that is not answered."""
    return _HINTS.get(name)


def numpy_name(function: Any) -> str:
    """How users write a NumPy function: `np.sum`, `np.linalg.inv`, `scipy.special.erf`."""
    name = getattr(function, "__name__", str(function))
    module = str(getattr(function, "__module__", None) or "numpy")
    if isinstance(function, np.ufunc):
        if getattr(np, name, None) is function:
            module = "numpy"
        elif _find(sys.modules.get("scipy.special"), name) is function:
            module = "scipy.special"
        else:
            return f"the ufunc {name}"
    for private in ("numpy._core", "numpy.core", "numpy.lib"):
        if module.startswith(private):
            module = "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{name}"


def unsupported(name: str) -> UnsupportedError:
    """The error for a NumPy function that expressions do not answer."""
    hint = _HINTS.get(name.removeprefix("np."))
    if hint is None:
        hint = "the supported functions are the keys of symdiff.frontend.registry.FUNCTIONS"
    return UnsupportedError(f"{name} is not defined for symbolic arrays; {hint}")


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Answer a call of a NumPy function that met a symbolic argument."""
    implementation = NUMPY.get(function) or _special(function)
    if implementation is None:
        raise unsupported(numpy_name(function))
    if len(args) > 1 and not isinstance(function, np.ufunc):
        names = _positional(function, implementation)
        if names is not None and len(args) > names[0]:
            # NumPy has arguments in between that are none of ours: np.sum(x, 0, None, None, True).
            kwargs = {**dict(zip(names[1][names[0] :], args[names[0] :], strict=False)), **kwargs}
            args = args[: names[0]]
    if kwargs:
        kwargs = _accepted(function, implementation, kwargs)
    return implementation(*args, **kwargs)


def _special(function: Any) -> Callable[..., Any] | None:
    """What answers a function of scipy.special."""
    name = getattr(function, "__name__", "")
    known = _SPECIAL.get(name)
    if known is None or _find(sys.modules.get("scipy.special"), name) is not function:
        return None
    NUMPY[function] = known
    return known


@cache
def _positional(function: Any, implementation: Any) -> tuple[int, tuple[str, ...]] | None:
    """How many positional arguments mean the same in both, and the names of all that NumPy's function takes."""
    try:
        theirs, ours = (
            [p.name for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
            for f in (function, implementation)
        )
    except (TypeError, ValueError):
        return None
    for place, name in enumerate(theirs):
        if name in _FOREIGN or (name in ours and ours.index(name) != place):
            return place, tuple(theirs)
    return None


def _accepted(function: Any, implementation: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords without those that are left at their default; the rest must be known."""
    if implementation not in _KEYWORDS:
        parameters = inspect.signature(implementation).parameters.values()
        _KEYWORDS[implementation] = (
            None
            if any(p.kind is p.VAR_KEYWORD for p in parameters)
            else frozenset(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)
        )
    known = _KEYWORDS[implementation]
    if known is None:
        return kwargs
    kept: dict[str, Any] = {}
    for key, value in kwargs.items():
        neutral = isinstance(value, (bool, str)) and value == _NEUTRAL.get(key)
        if key in known:
            kept[key] = value
        elif key == "out" and value is not None:
            raise UnsupportedError(
                f"{numpy_name(function)}: out= writes into an array; expressions are never changed, use the result"
            )
        elif not (value is None or value is _NO_VALUE or neutral):
            raise UnsupportedError(
                f"{numpy_name(function)}: argument {key}={value!r} is not supported for symbolic arrays; "
                f"supported: {', '.join(sorted(known))}"
            )
    return kept


# Arguments that expressions have no use for.
_FOREIGN = frozenset({"out", "order", "subok", "initial"})
_NO_VALUE: Any = getattr(np, "_NoValue", None)
# Options whose default says nothing to an expression.
_NEUTRAL: dict[str, Any] = {"order": "K", "casting": "same_kind", "subok": True, "where": True, "optimize": False}


