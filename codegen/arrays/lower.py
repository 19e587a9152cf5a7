"""Tensor instructions to array nodes: one lowering per op.

Takes a `symdiff.ir.graph.Function`; gives a `Lowered`: the node graph, the nodes of the results, the checks on sizes
and what each status code means. Promises: linear in the number of instructions, without recursion (bodies of loops in
bodies aside); an op that has no lowering, a complex dtype and an undefined function are an `UnsupportedError` that
names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from codegen.arrays.contraction import Operand, contract, joined_pays
from codegen.arrays.cores import SCALARS, Core, divide, uses
from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import Graph, Node, ViewMap, compose_map, identity
from codegen.arrays.powers import power
from codegen.arrays.scans import Scans
from codegen.ir.index import contiguous_strides
from symdiff.errors import EvaluationError, ShapeError, UnsupportedError
from symdiff.ir.contraction import label_sizes, parse_spec
from symdiff.ir.dims import Size, at_least, evaluate, product
from symdiff.ir.graph import Function, Value


def lower(function: Function) -> Lowered:
    """Lower every instruction that the results need."""
    made = Lowered(Graph())
    _lower_into(function, made)
    return made


def _lower_into(function: Function, made: Lowered) -> None:
    """Lower a function whose parameters may have nodes already."""
    nodes = made.nodes
    order = divide(function)
    scans = Scans(order)
    made.uses.update(uses(function, order))
    for number, parameter in enumerate(function.params):
        _require_real(parameter, f"parameter {parameter.name}")
        if parameter not in nodes:
            kind = parameter.type
            nodes[parameter] = made.graph.make("param", kind.shape, kind.dtype, (), number)
    for value in order:
        if isinstance(value, Core):
            core = made.graph.make("core", (), "f64", [nodes[a] for a in value.inputs], value)
            for number, output in enumerate(value.outputs):
                nodes[output] = made.graph.make("output", (), output.type.dtype, (core,), number)
            continue
        name = value.op.name
        if name in ("apply", "functional"):
            raise UnsupportedError(
                f"undefined function {value.attr('name')} has no native code; give it a definition before compiling"
            )
        lowering = LOWERINGS.get(name)
        if lowering is None and not value.op.picks:
            raise UnsupportedError(f"op {name} has no native code")
        _require_real(value, name)
        for size in value.type.shape:
            _check_size(made, name, size)
        args = [nodes[a] for a in value.args]
        nodes[value] = lowering(made, value, args) if lowering else scans.result(made, value, args, _lower_into)
    made.results = [nodes[r] for r in function.results]


def _require_real(value: Value, where: str) -> None:
    if value.type.dtype == "c128":
        raise UnsupportedError(f"{where}: complex numbers have no native code, expected a real dtype")


def _check_size(made: Lowered, name: str, size: Size) -> None:
    if isinstance(size, int) or at_least(size, 0):
        return
    made.check((size,), 1, ("size", size), lambda sizes: ShapeError(
        f"{name}: dimension {size} is {evaluate(size, sizes)} here, expected at least 0 (sizes: {dict(sizes)})"
    ))  # fmt: skip


# -------------------------------------------------------------------- scalar operations
_Lowering: TypeAlias = "Callable[[Lowered, Value, list[Node]], Node]"


def _scalar(made: Lowered, value: Value, args: list[Node]) -> Node:
    name, graph = value.op.name, made.graph
    if name in ("add", "sub") and value.type.dtype != "bool":
        placed = _accumulated(made, value, args)
        if placed is not None:
            return placed
    if name in ("neg", "mul") and any(a.kind == "delta" for a in args):
        return _delta_product(graph, name, args)
    return graph.scalar(name, *args, dtype=value.type.dtype)


def _accumulated(made: Lowered, value: Value, args: list[Node]) -> Node | None:
    """A sum with zeros that hold a window: the window alone is added, in place.

    The derivative of slices is a sum of such terms, each of which would cost a pass over the whole array.
    """
    graph = made.graph
    loose = [
        a.kind == "place" and a.data[0] and made.uses[v] == 1 for v, a in zip(value.args, args, strict=True)
    ]
    if not any(loose) or value.args[0] is value.args[1]:
        return None
    first = 1 if loose[1] and not loose[0] else 0
    parts: list[Node] = []
    maps: list[ViewMap] = []
    adds: list[bool] = []
    # The operand that is there as a whole comes first; the windows of the others are added to it.
    for number in (1 - first, first) if not all(loose) else (0, 1):
        node = args[number]
        negative = value.op.name == "sub" and number == 1
        whole = node, identity(node.rank), False
        own = zip(node.args, *node.data[1:], strict=True) if loose[number] else [whole]
        for x, places, added in own:
            parts.append(graph.scalar("neg", x) if negative else x)
            maps.append(places)
            adds.append(added or bool(adds))
    fill = all(loose)
    return graph.make("place", value.type.shape, value.type.dtype, parts, (fill, tuple(maps), tuple(adds)))


def _delta_product(graph: Graph, name: str, args: list[Node]) -> Node:
    """A product with a delta is a product on its diagonal."""
    if name == "neg":
        delta = args[0]
        inner = graph.scalar("neg", delta.args[0])
        return graph.make("delta", delta.shape, delta.dtype, (inner,), delta.data)
    labels = tuple(range(args[0].rank))
    return contract(graph, [(a, labels) for a in args], labels, dict(enumerate(args[0].shape)), args[0].dtype)


def _power(made: Lowered, value: Value, args: list[Node]) -> Node:
    base, exponent = args
    graph = made.graph
    return power(
        exponent.data if exponent.kind == "const" else None, base, exponent,
        lambda: graph.const(1, base.shape, base.dtype),
        lambda name, operands, attribute: graph.scalar(name, *operands, attribute=attribute),
    )  # fmt: skip


def _cast(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.scalar("cast", args[0], dtype=value.type.dtype)


def _polygamma(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.scalar("polygamma", args[0], attribute=value.attr("order"))


# -------------------------------------------------------------------- constants
def _const(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.const(value.attr("value"), value.type.shape, value.type.dtype)


def _array(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make("array", value.type.shape, value.type.dtype, (), value.attr("value"))


def _iota(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make("iota", value.type.shape, "i64")


def _size(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make("size", (), value.type.dtype, (), value.attr("size"))


# -------------------------------------------------------------------- contraction
def _contract(made: Lowered, value: Value, args: list[Node]) -> Node:
    spec = parse_spec(value.attr("spec"))
    sizes = label_sizes(spec, [a.shape for a in args], value.attr("sizes", ()))
    values, words, signs = list(value.args), list(spec.operands), 0
    position = 0
    while position < len(values):
        inner, flips = _inner_contraction(made, values[position])
        if inner is not None:
            labels, fresh, own = _renamed(inner, words[position], len(sizes))
            both = {**sizes, **own}
            if joined_pays(words, position, labels, spec.output, fresh, both):
                values[position : position + 1] = inner.args
                words[position : position + 1] = labels
                sizes, signs = both, signs + flips
                continue
        # Signs are those of the result: an operand need not be stored twice. (What a core negates has no node.)
        while values[position].op.name == "neg" and values[position].args[0] in made.nodes:
            values[position], signs = values[position].args[0], signs + 1
        position += 1
    operands: list[Operand] = [(made.nodes[v], w) for v, w in zip(values, words, strict=True)]
    node = contract(made.graph, operands, spec.output, sizes, value.type.dtype)
    if not signs % 2:
        return node
    if node.kind == "delta":
        return _delta_product(made.graph, "neg", [node])
    return made.graph.scalar("neg", node)


def _inner_contraction(made: Lowered, value: Value) -> tuple[Value | None, int]:
    """The contraction behind an operand that nothing else uses, and how often it is negated on the way."""
    flips = 0
    while value.op.name == "neg" and made.uses.get(value, 0) == 1:
        value, flips = value.args[0], flips + 1
    if value.op.name != "contract" or made.uses.get(value, 0) != 1 or not value.args:
        return None, 0
    spec = parse_spec(value.attr("spec"))
    plain = spec.summed and not spec.free and len(set(spec.output)) == len(spec.output)
    return (value, flips) if plain else (None, 0)


def _renamed(
    inner: Value, word: tuple[int, ...], first: int
) -> tuple[list[tuple[int, ...]], tuple[int, ...], dict[int, Size]]:
    """Labels of the inner operands in terms of the outer word, fresh ones from `first`; and the fresh sizes."""
    spec = parse_spec(inner.attr("spec"))
    known = dict(zip(spec.output, word, strict=True))
    sizes: dict[int, Size] = {}
    for operand, labels in zip(inner.args, spec.operands, strict=True):
        for label, size in zip(labels, operand.type.shape, strict=True):
            if label not in known:
                known[label] = first + len(sizes)
                sizes[known[label]] = size
    return [tuple([known[x] for x in labels]) for labels in spec.operands], word, sizes


# -------------------------------------------------------------------- moving elements
def _reshape(made: Lowered, value: Value, args: list[Node]) -> Node:
    x, shape = args[0], value.type.shape
    if x.kind == "place" and len(shape) == 1 and x.rank > 1 and made.uses[value.args[0]] == 1:
        # A stack read row by row: every part is written where it then stands.
        fill, maps, adds = x.data
        flat = ((tuple(enumerate(contiguous_strides(x.shape))), 0),)
        composed = tuple([tuple([compose_map(axis, own) for axis in flat]) for own in maps])
        return made.graph.make("place", shape, x.dtype, x.args, (fill, composed, adds))
    return made.graph.reshape(x, shape)


def _check_window(
    made: Lowered, name: str, start: Size, step: int, count: Size, whole: Size
) -> None:
    last = start + step * (count - 1)

    def message(sizes: Mapping[str, int]) -> Exception:
        numbers = [evaluate(s, sizes) for s in (count, start, whole)]
        return EvaluationError(
            f"{name}: {numbers[0]} elements from {numbers[1]} by {step} leave an axis of size {numbers[2]} (of "
            "symbolic sizes slices are not clipped as NumPy's are, and np.roll goes at most once around)"
        )

    made.check((count,), 1, (name, start, step, count, whole), message)
    inside = (start, whole - 1 - start, last, whole - 1 - last)
    made.check(inside, count, (name, start, step, count, whole), message)


def _slice(made: Lowered, value: Value, args: list[Node]) -> Node:
    x, starts, steps, counts = args[0], value.attr("starts"), value.attr("steps"), value.attr("sizes")
    lead = x.rank - len(starts)
    maps = list(identity(lead))
    for axis, (start, step, count) in enumerate(zip(starts, steps, counts, strict=True), lead):
        _check_window(made, "slice", start, step, count, x.shape[axis])
        maps.append((((axis, step),), start))
    return made.graph.view(x, value.type.shape, tuple(maps))


def _embed(made: Lowered, value: Value, args: list[Node]) -> Node:
    x, starts, steps = args[0], value.attr("starts"), value.attr("steps")
    lead = x.rank - len(starts)
    maps = list(identity(lead))
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True), lead):
        _check_window(made, "embed", start, step, x.shape[axis], value.type.shape[axis])
        maps.append((((axis, step),), start))
    return made.graph.make("place", value.type.shape, x.dtype, args, (True, (tuple(maps),), (False,)))


def _concatenate(made: Lowered, value: Value, args: list[Node]) -> Node:
    at = value.type.rank + value.attr("axis")
    maps: list[Any] = []
    parts: list[Node] = []
    start: Size = 0
    for operand, x in zip(value.args, args, strict=True):
        own = tuple((((i, 1),), start if i == at else 0) for i in range(x.rank))
        if x.kind == "place" and not x.data[0] and not any(x.data[2]) and made.uses[operand] == 1:
            parts += x.args
            maps += [tuple([compose_map(axis, inner) for axis in own]) for inner in x.data[1]]
        else:
            parts.append(x)
            maps.append(own)
        start = start + x.shape[at]
    data = (False, tuple(maps), (False,) * len(parts))
    return made.graph.make("place", value.type.shape, value.type.dtype, parts, data)


def _check_indices(made: Lowered, name: str, indices: list[Node], sizes: tuple[Size, ...]) -> Node:
    def message(bound: Mapping[str, int]) -> Exception:
        wholes = ", ".join(str(evaluate(s, bound)) for s in sizes)
        kind = "an axis of size" if len(sizes) == 1 else "axes of sizes"
        return EvaluationError(f"{name}: an index leaves {kind} {wholes}")

    status = made.status((name, sizes), message)
    return made.graph.make("check_index", (), "bool", indices, (status, sizes))


def _gather(made: Lowered, value: Value, args: list[Node]) -> Node:
    x, *indices = args
    at = x.rank + value.attr("axis")
    check = _check_indices(made, "gather", indices, x.shape[at : at + len(indices)])
    return made.graph.make("gather", value.type.shape, x.dtype, (x, check, *indices), (at, len(indices)))


def _scatter_add(made: Lowered, value: Value, args: list[Node]) -> Node:
    updates, *indices = args
    sizes = value.attr("sizes")
    check = _check_indices(made, "scatter_add", indices, sizes)
    at = value.type.rank + value.attr("axis")
    return made.graph.make("scatter_add", value.type.shape, updates.dtype, (updates, check, *indices), (at, len(sizes)))


def _last_writer(made: Lowered, value: Value, args: list[Node]) -> Node:
    check = _check_indices(made, "last_writer", args, value.attr("sizes"))
    return made.graph.make("last_writer", value.type.shape, "i64", (check, *args))


def _triangle(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make(
        "triangle", value.type.shape, value.type.dtype, args, (value.op.name == "tril", value.attr("k"))
    )


def _symmetric(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make("symmetric", value.type.shape, value.type.dtype, args)


def _along(made: Lowered, value: Value, args: list[Node]) -> Node:
    """An op that runs along one axis and keeps the shape."""
    axis = value.type.rank + value.attr("axis")
    data = (axis, value.attr("reverse", False))
    return made.graph.make(value.op.name, value.type.shape, value.type.dtype, args, data)


# -------------------------------------------------------------------- reductions
def _fronts(value: Value) -> list[int]:
    rank = value.args[0].type.rank
    axes = value.attr("axes")
    return [rank + a for a in (axes if axes is not None else (value.attr("axis"),))]


def _require_elements(made: Lowered, value: Value) -> None:
    """Extrema over nothing do not exist."""
    axes = _fronts(value)
    extent = product([value.args[0].type.shape[a] for a in axes])
    name = value.op.name
    made.check((extent - 1,), product(value.type.shape), (name, "empty"), lambda sizes: EvaluationError(
        f"{name}: no elements to choose from (an axis of size 0)"
    ))  # fmt: skip


def _extremum(made: Lowered, value: Value, args: list[Node]) -> Node:
    if value.type.dtype != "bool":  # any() and all() of nothing are
        _require_elements(made, value)
    kind = {"reduce_max": "max", "reduce_min": "min"}[value.op.name]
    return made.graph.reduce(kind, args[0], _fronts(value))


def _position(made: Lowered, value: Value, args: list[Node]) -> Node:
    """The first place of an extremum: the least place where the value is the extremum, or NaN as in NumPy."""
    _require_elements(made, value)
    graph, x, axes = made.graph, args[0], _fronts(value)
    if x.dtype == "bool":
        x = graph.scalar("cast", x, dtype="i64")
    best = graph.reduce("max" if value.op.name == "argmax" else "min", x, axes)
    hit = graph.scalar("eq", x, graph.spread(best, axes, x.shape), dtype="bool")
    if x.dtype != "i64":
        hit = graph.scalar("or", hit, graph.scalar("ne", x, x, dtype="bool"))
    counter = graph.make("iota", (x.shape[axes[0]],), "i64")
    places = graph.view(counter, x.shape, ((((axes[0], 1),), 0),))
    missed = graph.const(2**63 - 1, x.shape, "i64")
    return graph.reduce("min", graph.scalar("select", hit, places, missed, dtype="i64"), axes)


def _prod(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.reduce("prod", args[0], _fronts(value))


def _norm(made: Lowered, value: Value, args: list[Node]) -> Node:
    graph = made.graph
    return graph.scalar("sqrt", graph.reduce("sum", graph.scalar("mul", args[0], args[0]), _fronts(value)))


def _exponentials(made: Lowered, x: Node, axes: list[int]) -> tuple[Node, Node, Node]:
    """The maximum over axes, the same with 0 for infinities, and exp(x - that), shared by logsumexp and softmax."""
    graph = made.graph
    # An infinite maximum is not subtracted: inf - inf would be NaN where a logarithm of inf is wanted.
    top = graph.reduce("max", x, axes)
    safe = graph.scalar("finite_or_zero", top)
    return top, safe, graph.scalar("exp", graph.scalar("sub", x, graph.spread(safe, axes, x.shape)))


def _logsumexp(made: Lowered, value: Value, args: list[Node]) -> Node:
    graph, axes = made.graph, _fronts(value)
    _, safe, terms = _exponentials(made, args[0], axes)
    return graph.scalar("add", safe, graph.scalar("log", graph.reduce("sum", terms, axes)))


def _softmax(made: Lowered, value: Value, args: list[Node]) -> Node:
    graph, axes = made.graph, _fronts(value)
    top, _, terms = _exponentials(made, args[0], axes)
    # top - top is 0, and NaN where the maximum is infinite, as exp(inf - inf) is.
    total = graph.scalar("add", graph.reduce("sum", terms, axes), graph.scalar("sub", top, top))
    return graph.scalar("div", terms, graph.spread(total, axes, args[0].shape))


# -------------------------------------------------------------------- linear algebra
def _singular(made: Lowered, name: str, reason: str) -> int:
    return made.status((name, reason), lambda sizes: EvaluationError(f"{name}: {reason}"))


def _lu(made: Lowered, x: Node) -> Node:
    """Triangular factors of a stack of matrices (of their transposes, as LAPACK sees them), and the row exchanges.

    Rows n and n + 1 hold the exchanges as 32-bit integers.
    """
    n = x.shape[-1]
    return made.graph.make("lu", (*x.shape[:-2], n + 1, n), x.dtype, (x,))


def _inverse(made: Lowered, value: Value, args: list[Node]) -> Node:
    status = _singular(made, "inverse", "Singular matrix")
    return made.graph.make("lu_inverse", value.type.shape, value.type.dtype, (_lu(made, args[0]),), status)


def _solve(made: Lowered, value: Value, args: list[Node]) -> Node:
    status = _singular(made, "solve", "Singular matrix")
    a, b = args
    return made.graph.make("lu_solve", value.type.shape, value.type.dtype, (_lu(made, a), b), status)


def _det(made: Lowered, value: Value, args: list[Node]) -> Node:
    return made.graph.make("lu_" + value.op.name, value.type.shape, value.type.dtype, (_lu(made, args[0]),))


def _cholesky(made: Lowered, value: Value, args: list[Node]) -> Node:
    status = _singular(made, "cholesky", "Matrix is not positive definite")
    return made.graph.make("cholesky", value.type.shape, value.type.dtype, args, status)


def _triangular_solve(made: Lowered, value: Value, args: list[Node]) -> Node:
    status = _singular(made, "triangular_solve", "the triangle has a zero on its diagonal")
    data = (value.attr("lower"), value.attr("trans"), status)
    return made.graph.make("triangular_solve", value.type.shape, value.type.dtype, args, data)


LOWERINGS: dict[str, _Lowering] = {
    **dict.fromkeys(SCALARS, _scalar),
    "pow": _power, "cast": _cast, "polygamma": _polygamma, "const": _const, "array": _array, "iota": _iota,
    "size": _size, "contract": _contract, "reshape": _reshape, "slice": _slice, "embed": _embed,
    "concatenate": _concatenate, "gather": _gather, "scatter_add": _scatter_add, "last_writer": _last_writer,
    "tril": _triangle, "triu": _triangle, "symmetric": _symmetric,
    "cumsum": _along, "prod_others": _along, "reduce_max": _extremum,
    "reduce_min": _extremum, "argmax": _position, "argmin": _position, "reduce_prod": _prod, "norm": _norm,
    "logsumexp": _logsumexp, "softmax": _softmax, "inverse": _inverse, "solve": _solve, "det": _det,
    "logabsdet": _det, "signdet": _det, "cholesky": _cholesky, "triangular_solve": _triangular_solve,
}  # fmt: skip
"""Op name -> lowering. A test holds the keys equal to the op set's names (but for undefined functions)."""
