"""Vector math in textual LLVM IR: one source for every width, for f64 and f32.

Takes function names, a dtype ("f64" or "f32") and a width; width 1 means plain scalars.
Gives the text of LLVM functions `<W x T> @sd.<name>.v<W><T>(<W x T>, ...)` and of the intrinsics that they declare.
Promises: NumPy/SciPy meaning at special values; the same bits at every width and on every machine with IEEE arithmetic;
no fast-math flag; every function is one body (its rare helper carries its name, or is among the declarations), so texts
of several calls can be concatenated as long as no function is asked for twice at one dtype and width.

Errors in f64, over the whole range (denormals included): at most 1 ulp for exp exp2, the logarithms, sin cos tan and
their inverses, sinh cosh and the inverse hyperbolics, pow cbrt hypot; 2 ulp for expm1 tanh sigmoid softplus erf erfc
normcdf; 4 ulp for the gamma family (polygamma to the right of zero; gamma.py says what holds to the left). f32: 1 ulp.

`PAIRS` are two functions at once, returned as a literal struct: `sincos` { sine, cosine }, `erfc_bell` { erfc(x),
exp(-x x) } and others; each has the bits of the one alone, a bell is within an ulp of them. `polygamma_<k>` exists for
every integer 1 <= k <= 100.
Functions whose vectors are 512 bits wide carry "prefer-vector-width"="512" and "min-legal-vector-width"="512"; a caller
that passes such vectors to a noinline one must carry them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial

from . import explog, gamma, hyper, inverse, power, single, special, trig
from .build import FLOATS, Build, Value, suffix

Body = Callable[..., "Value | tuple[Value, ...]"]

_BODIES: dict[str, tuple[int, Body]] = {
    "exp": (1, explog.exp), "exp2": (1, explog.exp2), "expm1": (1, explog.expm1),
    "log": (1, explog.log), "log2": (1, explog.log2), "log10": (1, explog.log10), "log1p": (1, explog.log1p),
    "sin": (1, trig.sin), "cos": (1, trig.cos), "tan": (1, trig.tan), "sincos": (1, trig.sincos),
    "sinh": (1, hyper.sinh), "cosh": (1, hyper.cosh), "tanh": (1, hyper.tanh),
    "sigmoid": (1, hyper.sigmoid), "softplus": (1, hyper.softplus),
    "pow": (2, power.power), "cbrt": (1, power.cbrt), "hypot": (2, power.hypot),
    "arcsin": (1, inverse.arcsin), "arccos": (1, inverse.arccos), "arctan": (1, inverse.arctan),
    "arctan2": (2, inverse.arctan2), "arcsinh": (1, inverse.arcsinh), "arccosh": (1, inverse.arccosh),
    "arctanh": (1, inverse.arctanh),
    "sinhcosh": (1, hyper.sinhcosh), "softplus_sigmoid": (1, hyper.softplus_sigmoid),
    "erf_bell": (1, special.erf_bell), "erfc_bell": (1, special.erfc_bell),
    "erf": (1, special.erf), "erfc": (1, special.erfc), "normcdf": (1, special.normcdf),
    "lgamma": (1, gamma.lgamma), "digamma": (1, gamma.digamma),
    **{f"polygamma_{k}": (1, partial(gamma.polygamma, k=k)) for k in (1, 2, 3)},
}
# What f32 computes in a body of its own; the other functions take their f64 body.
_SINGLE: dict[str, Body] = {
    "exp": single.exp, "exp2": single.exp2, "expm1": single.expm1, "log": single.log, "log2": single.log2,
    "log10": single.log10, "log1p": single.log1p, "sin": single.sin, "cos": single.cos, "tan": single.tan,
    "sincos": single.sincos, "tanh": single.tanh, "sigmoid": single.sigmoid, "softplus": single.softplus,
    "pow": single.power,
}
_MOST_POLYGAMMA = 100
PAIRS: Mapping[str, tuple[str, str]] = {
    "sincos": ("sin", "cos"), "sinhcosh": ("sinh", "cosh"), "softplus_sigmoid": ("softplus", "sigmoid"),
    "erf_bell": ("erf", "bell"), "erfc_bell": ("erfc", "bell"),
}  # fmt: skip
"""The functions that each of these is both of."""


def _body(name: str) -> tuple[int, Body]:
    found = _BODIES.get(name)
    if found is not None:
        return found
    order = name.removeprefix("polygamma_")
    if order != name and order.isdecimal() and 1 <= int(order) <= _MOST_POLYGAMMA and str(int(order)) == order:
        return 1, partial(gamma.polygamma, k=int(order))
    raise KeyError(f"no vector math function {name!r}; there are: {', '.join(_BODIES)}, "
                   f"and polygamma_k for 1 <= k <= {_MOST_POLYGAMMA}")


class _Functions(Mapping[str, int]):
    """Operand counts by name."""

    def __getitem__(self, name: str) -> int:
        return _body(name)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(_BODIES)

    def __len__(self) -> int:
        return len(_BODIES)


FUNCTIONS: Mapping[str, int] = _Functions()


def symbol(name: str, dtype: str, width: int) -> str:
    """The function's global name, e.g. "@sd.exp.v8f64"; "@sd.exp.f64" at width 1."""
    return f"@sd.{name}.{suffix(dtype, width)}"


def _check(dtype: str, width: int) -> None:
    if dtype not in FLOATS:
        raise ValueError(f"vector math knows dtypes f64 and f32, not {dtype!r}")
    if width < 1 or width & (width - 1):
        raise ValueError(f"vector width must be a power of two, not {width!r}")


@lru_cache(maxsize=512)
def _generate(name: str, dtype: str, width: int) -> tuple[str, str, frozenset[str]]:
    """Signature and body, helper text, and declarations of one function."""
    count, body = _body(name)
    b = Build(width, symbol(name, dtype, width))
    arguments = [Value(b, f"%x{i}", dtype) for i in range(count)]
    if dtype == "f32":  # computed in binary64: the rounding to binary32 is then the only error that counts
        inputs = [b.cast("fpext", a, "f64") for a in arguments]
        computed = _SINGLE.get(name, body)(b, *inputs)
        wide = computed if isinstance(computed, tuple) else (computed,)
        results = [b.cast("fptrunc", r, "f32") for r in wide]
    else:
        computed = body(b, *arguments)
        results = list(computed) if isinstance(computed, tuple) else [computed]
    text = b.function(arguments, results, "ATTRIBUTES")
    return text, "".join(b.helpers.values()), frozenset(b.intrinsics | b.common)


def definitions(names: Iterable[str], dtype: str, width: int, inline: bool) -> str:
    """LLVM IR of the named functions and their helpers, each once; alwaysinline or noinline."""
    _check(dtype, width)
    attributes = "alwaysinline nounwind" if inline else "noinline nounwind"
    texts: list[str] = []
    for name in dict.fromkeys(names):
        text, helpers, _ = _generate(name, dtype, width)
        texts.append(helpers + text.replace("ATTRIBUTES", attributes, 1))
    return "\n".join(texts)


def declarations(names: Iterable[str], dtype: str, width: int) -> list[str]:
    """What those functions share with others, sorted: `declare` lines and cold functions. Callers drop duplicates."""
    _check(dtype, width)
    return sorted({line for name in names for line in _generate(name, dtype, width)[2]})
