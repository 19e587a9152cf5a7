"""Transforms of ordinary Python functions over NumPy: jit, grad, Jacobians, Hessian, products, vmap.

Each is a rule on expressions that `Transformed` makes callable with numbers, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symdiff.api.expression import Expression, free_symbols
from symdiff.api.fresh import Fresh
from symdiff.api.kinks import Kinks, with_kinks
from symdiff.api.modes import fewer_seeds
from symdiff.api.second import mirrored
from symdiff.api.transformed import Transformed, by_position, derivative_in
from symdiff.arguments import argument_numbers, function_given, positions
from symdiff.batch import batch
from symdiff.diff import Mode, gradients, jacobians
from symdiff.errors import ArgumentError, DerivativeError, DtypeError, ShapeError, at_least_one, integer
from symdiff.frontend.building import ARGUMENT, BUILDER, refuse_leaks, seen_dtype
from symdiff.frontend.expr import Expr, as_expr
from symdiff.frontend.nesting import LEAF, Tree
from symdiff.frontend.trace import flatten, refuse_in_vain, unflatten
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract, expand
from symdiff.ir.dims import format_shape
from symdiff.ir.graph import Value
from symdiff.ops import OPSET
from symdiff.simplify import stabilized


# -------------------------------------------------------------------- functions of expressions
def _scalar(y: Any, tree: Tree, where: str) -> Expr:
    if tree is not LEAF:
        hint = "; what it returns besides is had by has_aux=True" if isinstance(y, tuple) and "grad" in where else ""
        raise ArgumentError(f"{where}: the function returned {described(y)}, expected a scalar{hint}")
    y = output_of(y, where, "the function returned")
    if y.ndim:
        raise ShapeError(f"{where}: the function returned shape {format_shape(y.shape)}, expected a scalar")
    return y


def output_of(y: Any, where: str, what: str) -> Expr:
    """What a function gives as an expression; `what` says in an error what it is."""
    try:
        return as_expr(y)
    except DtypeError as error:
        raise DtypeError(f"{where}: {what} {error}") from None


def described(value: Any) -> str:
    """What a function returned, in few words."""
    if isinstance(value, Expr):
        return f"one array of shape {format_shape(value.value.shape)}"
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"  # pyright: ignore[reportUnknownArgumentType]
    return repr(value)


# -------------------------------------------------------------------- the transforms
def jit(
    function: Callable[..., Any], static_argnums: int | Sequence[int] = (), *, threads: int = 1
) -> Transformed:
    """Compile a function over NumPy. static_argnums: arguments that stay Python values (sizes, switches)."""
    read = argument_numbers(static_argnums, "jit", "static_argnums")
    static = (read,) if isinstance(read, int) else read
    function_given(function, "jit", "expressions are compiled by sd.compile(outputs, inputs)")
    return Transformed(function, lambda f, args: f(*args), static, at_least_one(threads, "jit: threads"))


def refuse_integers(symbols: Sequence[Any], given: Sequence[Any], place: int, where: str) -> None:
    """Raise where an argument to differentiate in is no float; what is given may be a symbol with a name."""
    for symbol, leaf in zip(symbols, given, strict=True):
        if not symbol.value.type.floating:
            value = as_expr(leaf).value
            name = f" ({value.name})" if value.is_param and not value.name.startswith(ARGUMENT) else ""
            raise DerivativeError(
                f"{where}: argument {place}{name} has dtype {seen_dtype(value.type.dtype).dtype}: only floats have "
                "derivatives; give it as floats, such as x.astype(float)"
            )


def _derivative(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int],
    make: Callable[[Builder, list[Value], list[Value]], list[list[Value]]],
    where: str,
    scalar: bool,
    kinks: Kinks,
    has_aux: bool = False,
) -> tuple[Any, Any, Any]:
    """The function's value, per output leaf its derivative in the chosen arguments, nested like them, and what the
    function returned beside the value (has_aux)."""
    leaves, tree = flatten(args)
    fresh = Fresh(leaves)
    arguments = unflatten(tree, fresh.symbols)
    value = function(*arguments)
    beside: Any = None
    if has_aux:
        if not isinstance(value, tuple) or len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
            raise ArgumentError(
                f"{where}: with has_aux=True the function returns a pair (value, aux), given {described(value)}"
            )
        value, beside = value  # pyright: ignore[reportUnknownVariableType]
    outputs, out_tree = flatten(value)
    extras, aux_tree = flatten(beside)
    aux = [output_of(e, where, "aux holds").value for e in extras]
    if not outputs and not scalar:
        raise ArgumentError(f"{where}: the function returned {described(value)}, which holds no array")
    said = "the function returned"
    ys = [_scalar(value, out_tree, where)] if scalar else [output_of(y, where, said) for y in outputs]
    refuse_in_vain([y.value for y in ys], fresh.born)
    chosen = positions(argnums, by_position(function, args), where)
    xs: list[Value] = []
    shapes: list[tuple[int, Any]] = []
    for i in chosen:
        own, own_tree = flatten(arguments[i])
        refuse_integers(own, flatten(args[i])[0], i, where)
        xs += [x.value for x in own]
        shapes.append((len(own), own_tree))
    builder = Builder(with_kinks(kinks))
    mapping = builder.absorb([*[y.value for y in ys], *xs], fresh.born)
    refuse_leaks(mapping, where)
    mapping = stabilized(builder, mapping, xs)
    rows = make(builder, [mapping[y.value] for y in ys], [mapping[x] for x in xs])
    flat = fresh.put_back([*aux, *[y.value for y in ys], *[d for row in rows for d in row]])
    kept, flat = [Expression(v) for v in flat[: len(aux)]], flat[len(aux) :]
    values = [Expression(v) for v in flat[: len(ys)]]
    found: list[Any] = []
    for r in range(len(rows)):
        row = [Expression(v) for v in flat[len(ys) + r * len(xs) : len(ys) + (r + 1) * len(xs)]]
        nested: list[Any] = []
        for count, own_tree in shapes:
            nested.append(unflatten(own_tree, row[:count]))
            row = row[count:]
        found.append(nested[0] if isinstance(argnums, int) else tuple(nested))
    return unflatten(out_tree, values), unflatten(out_tree, found), unflatten(aux_tree, kept)


def _gradient(
    f: Callable[..., Any], args: tuple[Any, ...], argnums: int | Sequence[int], where: str, kinks: Kinks, has_aux: bool
) -> tuple[Any, Any, Any]:
    return _derivative(f, args, argnums, lambda b, ys, xs: [gradients(b, ys[0], xs)], where, True, kinks, has_aux)


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, kinks: Kinks = None,
    threads: int = 1,
) -> Transformed:  # fmt: skip
    """The value of a scalar function and its gradient in the chosen arguments, from one reverse sweep.

    The gradient is nested like the argument; a sequence of argnums gives a tuple. With has_aux the function returns
    (value, aux), and the result is ((value, aux), gradient).
    """
    function_given(function, "value_and_grad", "of expressions use sd.gradient(f, x)")
    chosen = argument_numbers(argnums, "value_and_grad")

    def rule(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        value, found, aux = _gradient(f, args, chosen, "value_and_grad", kinks, has_aux)
        return ((value, aux), found) if has_aux else (value, found)

    return Transformed(function, rule, threads=at_least_one(threads, "value_and_grad: threads"))


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, kinks: Kinks = None,
    threads: int = 1,
) -> Transformed:  # fmt: skip
    """The gradient of a scalar function in the chosen arguments.

    kinks: derivatives to take at kinks, {"relu": 1, "max": "first"}; `sd.kinks()` lists them.
    With has_aux the function returns (value, aux), and the result is (gradient, aux).
    """
    function_given(function, "grad", "of expressions use sd.gradient(f, x)")
    return gradient_function(function, argument_numbers(argnums, "grad"), "grad", kinks, has_aux, threads)


def gradient_function(
    function: Callable[..., Any], argnums: int | tuple[int, ...], where: str, kinks: Kinks, has_aux: bool = False,
    threads: int = 1,
) -> Transformed:  # fmt: skip
    def rule(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        _, found, aux = _gradient(f, args, argnums, where, kinks, has_aux)
        return (found, aux) if has_aux else found

    derived = argnums, kinks or None
    return Transformed(function, rule, threads=at_least_one(threads, f"{where}: threads"), derivative_in=derived)


def jacobian_function(
    function: Callable[..., Any], argnums: int | Sequence[int], mode: Mode | None, where: str, kinks: Kinks,
    threads: int,
) -> Transformed:  # fmt: skip
    """The Jacobian by one mode, output axes first; None: the sweep with fewer seeds."""
    function_given(function, where, "of expressions use sd.jacobian(y, x)")
    chosen = argument_numbers(argnums, where)

    derived = chosen, kinks or None
    second = derivative_in(function) == derived  # with other choices at kinks it is not symmetric there

    def make(builder: Builder, ys: list[Value], xs: list[Value]) -> list[list[Value]]:
        rows = jacobians(builder, ys, xs, mode or fewer_seeds(ys, xs))
        return mirrored(builder, rows, ys, xs) if second else rows

    def rule(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return _derivative(f, args, chosen, make, where, False, kinks)[1]

    return Transformed(function, rule, threads=at_least_one(threads, f"{where}: threads"), derivative_in=derived)


def jacrev(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, kinks: Kinks = None, threads: int = 1
) -> Transformed:
    """The Jacobian by reverse mode, output axes first."""
    return jacobian_function(function, argnums, "reverse", "jacrev", kinks, threads)


def jacfwd(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, kinks: Kinks = None, threads: int = 1
) -> Transformed:
    """The Jacobian by forward mode, output axes first."""
    return jacobian_function(function, argnums, "forward", "jacfwd", kinks, threads)


def hessian_function(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, mode: Mode = "forward", kinks: Kinks = None,
    threads: int = 1,
) -> Transformed:  # fmt: skip
    """Second derivatives of a scalar function: its gradient by reverse mode, differentiated again by `mode`."""
    function_given(function, "hessian", "of expressions use sd.hessian(f, x)")
    chosen = argument_numbers(argnums, "hessian")
    first = gradient_function(function, chosen, "hessian", kinks)
    return jacobian_function(first, chosen, mode, "hessian", kinks, threads)


def vmap(
    function: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0, *, threads: int = 1
) -> Transformed:
    """The function on a stack of arguments, as one vectorized program.

    in_axes: the mapped axis of every argument, or one per argument, None for arguments shared by the whole batch.
    out_axes: where the batch axis stands in the results. Arguments given by keyword are mapped along axis 0.
    """
    function_given(function, "vmap", "expressions take arrays of any rank as they are")
    for axis in in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,):
        if axis is not None and integer(axis) is None:
            raise ArgumentError(
                f"vmap: in_axes={in_axes!r}, expected an integer or None for all arguments, or a tuple of one for each"
            )
    if integer(out_axes) is None:
        raise ArgumentError(f"vmap: out_axes={out_axes!r}, expected an integer")

    def rule(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        count = by_position(f, args)
        axes = tuple(in_axes) if isinstance(in_axes, (tuple, list)) else (in_axes,) * count
        if len(axes) != count:
            raise ArgumentError(f"vmap: in_axes has {len(axes)} entries for {count} arguments")
        axes += (0,) * (len(args) - count)
        leaves: list[Any] = []
        mapped: list[bool] = []
        for argument, axis in zip(args, axes, strict=True):
            for leaf in flatten(argument)[0]:
                leaves.append(leaf if axis is None else _axis_moved(as_expr(leaf), axis, 0))
                mapped.append(axis is not None)
        sizes = list(dict.fromkeys(e.value.shape[0] for e, m in zip(leaves, mapped, strict=True) if m))
        if len(sizes) != 1:
            raise ShapeError(f"vmap: the mapped axes have sizes {', '.join(map(str, sizes)) or 'none'}, expected one")
        fresh = Fresh(leaves, mapped)
        outputs, out_tree = flatten(f(*unflatten(flatten(args)[1], fresh.symbols)))
        values = [output_of(y, "vmap", "the function returned").value for y in outputs]
        # What the function closes over are parameters too, shared by the batch.
        outer = [p for p in free_symbols(values) if p not in set(fresh.values)]
        builder = Builder(OPSET)
        inside = builder.function([*fresh.values, *outer], values)
        flags = mapped + [False] * len(outer)
        arguments = builder.absorb([*fresh.actual, *outer])
        done = batch(builder, inside, [arguments[v] for v in (*fresh.actual, *outer)], flags, sizes[0])
        results = [Expression(v if m else expand(Handle(builder, v), (sizes[0], *v.shape)).value) for v, m in done]
        return unflatten(out_tree, [_axis_moved(r, 0, out_axes) for r in results])

    return Transformed(function, rule, threads=at_least_one(threads, "vmap: threads"))


def _axis_moved(x: Any, source: int, target: int) -> Any:
    rank = x.value.type.rank
    if not -rank <= source < rank or not -rank <= target < rank:
        raise ArgumentError(f"vmap: axis {source} or {target} for an array of {rank} axes")
    source, target = source % rank, target % rank
    if source == target:
        return x
    order = [i for i in range(rank) if i != source]
    order.insert(target, source)
    return Expression(contract(BUILDER, [x.value], [tuple(range(rank))], tuple(order)))
