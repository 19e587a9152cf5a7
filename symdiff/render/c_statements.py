"""C99 statements of the ops that are no expression of one element: sums, reductions, writing at places, linear algebra.

Each takes the file in the making, the value and the name of its array (or local number, already declared as 0), and
emits the loops that fill it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from symdiff.ir.contraction import Labels, label_sizes
from symdiff.ir.dims import Size
from symdiff.ir.dims import product as size_product
from symdiff.ir.graph import Value
from symdiff.ir.path import pairwise
from symdiff.render.c_elements import Elements, Index, Text, at, size_c, spec_of
from symdiff.render.c_ops import ADD, ATOM, C_TYPES, MUL, UNARY

Statement: TypeAlias = "Callable[[Elements, Value, str], None]"
# A factor of a contraction: how an element reads, given the index of every label, and its labels.
_Factor: TypeAlias = "tuple[Callable[[Mapping[int, str]], Text], Labels]"


# -------------------------------------------------------------------- contraction
def _contract(w: Elements, v: Value, own: str) -> None:
    """One loop nest, or several when multiplying in pairs loops over fewer labels at a time."""
    spec = spec_of(v)
    sizes = label_sizes(spec, [a.type.shape for a in v.args], v.attr("sizes", ()))
    factors: dict[int, _Factor] = {
        i: (lambda names, a=a, word=word: w.element(a, [names[x] for x in word]), word)
        for i, (a, word) in enumerate(zip(v.args, spec.operands, strict=True))
    }
    labels = {x for word in spec.operands for x in word}
    steps = pairwise(spec, sizes)
    if len(v.args) > 2 and max(len(step.space) for step in steps) < len(labels):
        for step in steps[:-1]:
            pair = [factors.pop(step.left)] + ([factors.pop(step.right)] if step.right is not None else [])
            shape = tuple([sizes[x] for x in step.result])
            name = w.reserve(shape, v.type.dtype) if shape else w.fresh()
            if not shape:
                w.emit(f"{C_TYPES[v.type.dtype]} {name} = 0;")
            _product(w, pair, step.result, sizes, step.result, name, v.type.dtype)

            def read(names: Mapping[int, str], name: str = name, shape: tuple[Size, ...] = shape,
                     word: Labels = step.result) -> Text:  # fmt: skip
                return w.read(name, shape, [names[x] for x in word])

            factors[step.left] = (read, step.result)
    if len(set(spec.output)) < len(spec.output):
        w.cleared(v, own)
    _product(w, list(factors.values()), tuple(dict.fromkeys(spec.output)), sizes, spec.output, own, v.type.dtype)


def _product(
    w: Elements, factors: Sequence[_Factor], kept: Labels, sizes: Mapping[int, Size], output: Labels, own: str,
    dtype: str,
) -> None:  # fmt: skip
    """own[output] = the sum of products over every label that is not kept."""
    summed = tuple(dict.fromkeys(x for _, word in factors for x in word if x not in kept))
    index = w.indices(tuple([sizes[x] for x in (*kept, *summed)]))
    names = dict(zip((*kept, *summed), index, strict=True))
    texts = [read(names) for read, _ in factors]
    text = texts[0][0] if len(texts) == 1 else "*".join([at(t, UNARY) for t in texts])
    inner, inner_shape = index[len(kept) :], tuple([sizes[x] for x in summed])
    if not kept:
        w.nest(inner, inner_shape, lambda: w.emit(f"{own} += {text};"))
        return
    target = w.read(own, tuple([sizes[x] for x in output]), [names[x] for x in output])[0]
    running = C_TYPES["f64" if dtype == "f32" else dtype]

    def body() -> None:
        if not summed:
            w.emit(f"{target} = {text};")
            return
        w.emit(f"{running} {w.sum} = 0;")
        w.nest(inner, inner_shape, lambda: w.emit(f"{w.sum} += {text};"))
        w.emit(f"{target} = {w.sum};")

    w.nest(index[: len(kept)], tuple([sizes[x] for x in kept]), body)


# -------------------------------------------------------------------- reductions
def _over(
    w: Elements, v: Value, axes: Sequence[int], body: Callable[[list[str], Index, tuple[Size, ...]], None]
) -> None:
    """Loops over the axes that stay; `body` gets the index of all axes, and index and shape of the axes that go."""
    shape = v.args[0].type.shape
    gone = [len(shape) + a for a in axes]
    index = w.indices(shape)
    kept = [i for i in range(len(shape)) if i not in gone]
    w.nest(
        [index[i] for i in kept], tuple([shape[i] for i in kept]),
        lambda: body(index, [index[i] for i in gone], tuple([shape[i] for i in gone])),
    )  # fmt: skip


def _left(v: Value, index: Index, axes: Sequence[int]) -> list[str]:
    gone = {len(index) + a for a in axes}
    return [x for i, x in enumerate(index) if i not in gone]


def _folded(start: Mapping[str, str], step: Callable[[str, str, str], str], end: str = "{}") -> Statement:
    """s = start; s = step(s, element) over the axes; the result is `end` of s."""

    def write(w: Elements, v: Value, own: str) -> None:
        axes: tuple[int, ...] = v.attr("axes") if v.attr("axes") is not None else (v.attr("axis"),)
        dtype = v.type.dtype

        def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
            w.emit(f"{C_TYPES[dtype]} {w.sum} = {start.get(dtype, start['f64'])};")
            element = w.element(v.args[0], index)
            w.nest(inner, shape, lambda: w.emit(f"{w.sum} {step(w.sum, at(element, UNARY), dtype)};"))
            w.emit(f"{w.target(v, own, _left(v, index, axes))} = {end.format(w.sum)};")

        _over(w, v, axes, body)

    return write


def _norm(w: Elements, v: Value, own: str) -> None:
    axes: tuple[int, ...] = v.attr("axes")

    def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
        element = w.element(v.args[0], index)
        w.emit(f"double {w.sum} = 0;")

        def step() -> None:
            if element[1] == ATOM:
                w.emit(f"{w.sum} += {element[0]}*{element[0]};")
                return
            w.emit(f"double {w.top} = {element[0]};")
            w.emit(f"{w.sum} += {w.top}*{w.top};")

        w.nest(inner, shape, step)
        w.emit(f"{w.target(v, own, _left(v, index, axes))} = sqrt({w.sum});")

    _over(w, v, axes, body)


def _larger(name: str, word: str) -> Callable[[str, str, str], str]:
    def step(s: str, x: str, dtype: str) -> str:
        if dtype == "bool":
            return f"= {s} {word} {x}"
        return f"= {'i' if dtype == 'i64' else ''}{name}({s}, {x})"

    return step


def _highest(w: Elements, element: Text, inner: Index, shape: tuple[Size, ...]) -> None:
    w.emit(f"double {w.top} = -INFINITY;")
    w.nest(inner, shape, lambda: w.emit(f"{w.top} = maximum({w.top}, {element[0]});"))


def _exponentials(w: Elements, v: Value, own: str) -> None:
    """softmax and logsumexp, the largest element taken out first."""
    axes: tuple[int, ...] = v.attr("axes")

    def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
        element = w.element(v.args[0], index)
        power = f"exp({at(element, ADD)} - {w.top})"
        _highest(w, element, inner, shape)
        w.emit(f"double {w.sum} = 0;")
        w.nest(inner, shape, lambda: w.emit(f"{w.sum} += {power};"))
        if v.op.name == "softmax":
            w.nest(inner, shape, lambda: w.emit(f"{w.target(v, own, index)} = {power}/{w.sum};"))
        else:
            target = w.target(v, own, _left(v, index, axes))
            w.emit(f"{target} = isinf({w.top}) ? {w.top} : {w.top} + log({w.sum});")

    _over(w, v, axes, body)


def _position(sign: str) -> Statement:
    """argmax, argmin: the first of equals."""

    def write(w: Elements, v: Value, own: str) -> None:
        axis = v.attr("axis")

        def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
            target, x = w.target(v, own, _left(v, index, (axis,))), inner[0]
            if x == "0":
                w.emit(f"{target} = 0;")
                return
            element = at(w.element(v.args[0], index), ADD)
            w.emit(f"{C_TYPES[v.args[0].type.dtype]} {w.top} = 0;")
            w.emit(f"{target} = 0;")

            def step() -> None:
                nan = f"({element} != {element} && {w.top} == {w.top})"
                w.emit(f"if ({x} == 0 || {element} {sign} {w.top} || {nan}) {{")
                w.emit(f"    {w.top} = {element};")
                w.emit(f"    {target} = {x};")
                w.emit("}")

            w.nest(inner, shape, step)

        _over(w, v, (axis,), body)

    return write


def _prod_others(w: Elements, v: Value, own: str) -> None:
    """What comes before is multiplied on the way up, what comes after on the way down."""
    axis = v.type.rank + v.attr("axis")

    def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
        for sign in ("=", "*="):
            places = list(index)
            if sign == "*=" and inner[0] != "0":
                places[axis] = f"{at(size_c(shape[0]), ADD)} - 1 - {inner[0]}"
            lines = (f"{w.target(v, own, places)} {sign} {w.sum};",
                     f"{w.sum} *= {at(w.element(v.args[0], places), UNARY)};")  # fmt: skip
            w.emit(f"{C_TYPES[v.type.dtype] + ' ' if sign == '=' else ''}{w.sum} = 1;")
            w.nest(inner, shape, lambda lines=lines: [w.emit(line) for line in lines])

    _over(w, v, (v.attr("axis"),), body)


def _cumsum(w: Elements, v: Value, own: str) -> None:
    axis = v.attr("axis")

    def body(index: list[str], inner: Index, shape: tuple[Size, ...]) -> None:
        places = list(index)
        if v.attr("reverse") and inner[0] != "0":
            places[len(index) + axis] = f"{at(size_c(shape[0]), ADD)} - 1 - {inner[0]}"
        w.emit(f"{C_TYPES[v.type.dtype]} {w.sum} = 0;")

        def step() -> None:
            w.emit(f"{w.sum} += {w.element(v.args[0], places)[0]};")
            w.emit(f"{w.target(v, own, places)} = {w.sum};")

        w.nest(inner, shape, step)

    _over(w, v, (axis,), body)


# -------------------------------------------------------------------- writing at places
def _moved(start: Size, step: int, x: str) -> str:
    line = "" if x == "0" else x if step == 1 else f"{step}*{x}"
    first = at(size_c(start), MUL)
    return line or first if start == 0 or not line else f"{first} {'-' if step < 0 else '+'} {line.lstrip('-')}"


def _concatenate(w: Elements, v: Value, own: str) -> None:
    axis, offset = v.type.rank + v.attr("axis"), 0
    for a in v.args:
        index = w.indices(a.type.shape)
        places = [_moved(offset, 1, x) if i == axis else x for i, x in enumerate(index)]
        line = f"{w.target(v, own, places)} = {w.element(a, index)[0]};"
        w.nest(index, a.type.shape, lambda line=line: w.emit(line))
        offset = offset + a.type.shape[axis]


def _embed(w: Elements, v: Value, own: str) -> None:
    w.cleared(v, own)
    (a,) = v.args
    lead = a.type.rank - len(v.attr("sizes"))
    index = w.indices(a.type.shape)
    places = list(index)
    for i, (start, step) in enumerate(zip(v.attr("starts"), v.attr("steps"), strict=True)):
        places[lead + i] = _moved(start, step, index[lead + i])
    line = f"{w.target(v, own, places)} = {w.element(a, index)[0]};"
    w.nest(index, a.type.shape, lambda: w.emit(line))


def _scatter_add(w: Elements, v: Value, own: str) -> None:
    w.cleared(v, own)
    update, *arrays = v.args
    sizes, count = v.attr("sizes"), arrays[0].type.rank
    first = update.type.rank + v.attr("axis") + len(sizes) - count
    index = w.indices(update.type.shape)
    inner = index[first : first + count]
    hits = [f"place({w.element(a, inner)[0]}, {size_c(s)[0]})" for a, s in zip(arrays, sizes, strict=True)]
    places = [*index[:first], *hits, *index[first + count :]]
    line = f"{w.target(v, own, places)} += {w.element(update, index)[0]};"
    w.nest(index, update.type.shape, lambda: w.emit(line))


def _last_writer(w: Elements, v: Value, own: str) -> None:
    w.loop(v.type.shape, lambda i: [f"{w.target(v, own, i)} = -1;"])
    shape = v.args[0].type.shape
    index = w.indices(shape)
    hits = [f"place({w.element(a, index)[0]}, {size_c(s)[0]})" for a, s in zip(v.args, v.attr("sizes"), strict=True)]
    line = f"{w.target(v, own, hits)} = {w.flat(index, shape)};"
    w.nest(index, shape, lambda: w.emit(line))


# -------------------------------------------------------------------- linear algebra
def _linear(w: Elements, v: Value, own: str) -> None:
    """A helper called for every matrix of a stack; f32 is worked in double."""
    a, last = v.args[0], v.args[-1]
    n = size_c(a.type.shape[-1])[0]
    matrix = w.dense(a)
    right = w.dense(v.args[1]) if len(v.args) > 1 else ""
    stack = last.type.shape[:-2]
    columns = size_c(last.type.shape[-1])
    count, shared = size_c(size_product(stack)), size_c(size_product(a.type.shape[:-2]))
    single = count[0] == "1"
    x = w.indices((2,))[0]
    square = f"{at(size_c(a.type.shape[-1]), UNARY)}*{at(size_c(a.type.shape[-1]), UNARY)}"
    which = x if shared == count else f"({x} % ({shared[0]}))"
    from_a = matrix if single or shared[0] == "1" else f"{matrix} + {which}*{square}"

    def emit(line: str) -> None:
        w.nest([x] * (not single), (size_product(stack),) * (not single), lambda: w.emit(line))

    name = v.op.name
    if name in ("det", "logabsdet", "signdet"):
        call = f"{'determinant' if name == 'det' else name}({n}, {from_a})"
        emit(f"{own if not v.type.rank else f'{own}[{0 if single else x}]'} = {call};")
        return
    narrow = v.type.dtype == "f32"
    out = w.reserve(v.type.shape, "f64") if narrow else own
    block = f"{at(size_c(a.type.shape[-1]), UNARY)}*{at(columns, UNARY)}"
    to = out if single else f"{out} + {x}*{block}"
    from_b = right if single else f"{right} + {x}*{block}"
    if name in ("inverse", "cholesky"):
        emit(f"{name}({n}, {from_a}, {to});")
    elif name == "solve":
        emit(f"solve({n}, {columns[0]}, {from_a}, {from_b}, {to});")
    else:
        flags = f"{int(v.attr('lower'))}, {int(v.attr('trans'))}"
        emit(f"triangular({n}, {columns[0]}, {flags}, {from_a}, {from_b}, {to});")
    if narrow:
        w.loop(v.type.shape, lambda i: [f"{w.target(v, own, i)} = {w.read(out, v.type.shape, i)[0]};"])


STATEMENTS: dict[str, Statement] = {
    "contract": _contract, "softmax": _exponentials, "logsumexp": _exponentials, "argmax": _position(">"),
    "argmin": _position("<"), "prod_others": _prod_others, "cumsum": _cumsum, "concatenate": _concatenate,
    "embed": _embed, "scatter_add": _scatter_add, "last_writer": _last_writer,
    "reduce_max": _folded({"f64": "-INFINITY", "i64": "INT64_MIN", "bool": "false"}, _larger("maximum", "||")),
    "reduce_min": _folded({"f64": "INFINITY", "i64": "INT64_MAX", "bool": "true"}, _larger("minimum", "&&")),
    "reduce_prod": _folded({"f64": "1"}, lambda s, x, dtype: f"*= {x}"),
    "norm": _norm,
    **dict.fromkeys(
        ("inverse", "solve", "triangular_solve", "cholesky", "det", "logabsdet", "signdet"), _linear
    ),
}  # fmt: skip
