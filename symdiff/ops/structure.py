"""Contraction, constants and the ops that move elements: all linear in what they move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, EvaluationError, ShapeError
from symdiff.ir.builder import Builder, Handle, exact, freeze_attrs, number_of
from symdiff.ir.contraction import Labels, label_sizes, parse_spec
from symdiff.ir.contraction import contract as build_contract
from symdiff.ir.dims import Dim, Shape, Size, format_shape, product
from symdiff.ir.graph import Value
from symdiff.ir.op import Attrs, Linear, Multilinear, NoDerivative, Op, Sample
from symdiff.ir.types import DTYPES, NUMPY_TYPES, TensorType
from symdiff.ops.helpers import axes_in


# -------------------------------------------------------------------- constants
def _const_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    dtype, value = attrs["dtype"], exact(attrs["value"])
    if dtype not in DTYPES:
        raise DtypeError(f"const: dtype {dtype!r}, expected one of {', '.join(DTYPES)}")
    if (dtype == "i64" and not isinstance(value, int)) or (dtype == "bool") != isinstance(value, bool):
        raise DtypeError(f"const: {value} is no {dtype}")
    return TensorType(dtype, attrs["shape"])


const = Op(
    "const", _const_infer, lambda dtype, shape, value: np.full(shape, number_of(value), NUMPY_TYPES[dtype]),
    NoDerivative("a constant has no operand"), arity=0, doc="an array filled with one exact number",
)  # fmt: skip


def _array_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    array = attrs["value"].array
    for name, dtype in NUMPY_TYPES.items():
        if array.dtype == dtype:
            return TensorType(name, array.shape)
    raise DtypeError(f"array: dtype {array.dtype}, expected one of {', '.join(DTYPES)}")


array = Op(
    "array", _array_infer, lambda value: value.array, NoDerivative("a constant has no operand"), arity=0,
    doc="an array written into the program",
)  # fmt: skip


def _iota_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    return TensorType("i64", (attrs["size"],))


iota = Op("iota", _iota_infer, lambda size: np.arange(size), NoDerivative("integers"), arity=0,
          doc="0, 1, ..., size - 1")  # fmt: skip


def _size_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    return TensorType(attrs["dtype"], ())


def _fold_size(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    return builder.const(attrs["size"], (), attrs["dtype"]) if isinstance(attrs["size"], int) else None


size = Op("size", _size_infer, lambda dtype, size: NUMPY_TYPES[dtype](size), NoDerivative("a dimension"), arity=0,
          fold=_fold_size, doc="a dimension as a number")  # fmt: skip


# -------------------------------------------------------------------- contract
def _contract_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    spec = parse_spec(attrs["spec"])
    known = label_sizes(spec, [t.shape for t in types], attrs.get("sizes", ()))
    dtype = types[0].dtype if types else attrs["dtype"]
    for kind in types:
        if kind.dtype != dtype:
            raise DtypeError(f"contract: operands have dtypes {dtype} and {kind.dtype}, expected one")
    if dtype == "bool" and (len(types) > 1 or spec.summed):
        raise DtypeError("contract: booleans are neither multiplied nor summed; cast them first")
    return TensorType(dtype, tuple([known[x] for x in spec.output]))


def _contract_evaluate(*xs: Any, spec: str, sizes: tuple[int, ...] = (), dtype: str = "f64") -> Any:
    parsed = parse_spec(spec)
    known = {k: int(v) for k, v in label_sizes(parsed, [np.shape(x) for x in xs], sizes).items()}
    distinct = tuple(dict.fromkeys(parsed.output))
    held = tuple(x for x in distinct if x not in parsed.free)
    if not xs:
        core: Any = np.ones((), NUMPY_TYPES[dtype])
    elif (
        len(xs) == 1
        and all(known[x] == 1 for x in parsed.summed)
        and len(set(parsed.operands[0])) == len(parsed.operands[0])
    ):
        # A sum of one element is that element, -0 too.
        core = np.transpose(xs[0], [parsed.operands[0].index(x) for x in (*held, *parsed.summed)])
    else:
        flat: list[Any] = []
        for x, labels in zip(xs, parsed.operands, strict=True):
            flat += [x, list(labels)]
        core = np.einsum(*flat, list(held), optimize=len(xs) > 2)
    view = np.broadcast_to(
        core.reshape([known[x] if x in held else 1 for x in distinct]), [known[x] for x in distinct]
    )
    if len(distinct) == len(parsed.output):
        return np.array(view)
    # Repeated output labels: write the values on the diagonals of zeros.
    result = np.zeros([known[x] for x in parsed.output], core.dtype)
    grid = np.ix_(*[np.arange(known[x]) for x in distinct])
    result[tuple(grid[distinct.index(x)] for x in parsed.output)] = view
    return result


def _seeded(base: int, labels: Labels, rank: int) -> Labels:
    """`labels` with fresh ones in front for the extra leading axes of a value of rank `rank`."""
    return tuple(range(base, base + rank - len(labels))) + labels


def _contract_forward(i: int, tangent: Handle, *xs: Handle, spec: str, sizes: Shape = (), **_: Any) -> Handle:
    parsed = parse_spec(spec)
    base = 1 + max((x for o in (*parsed.operands, parsed.output) for x in o), default=-1)
    labels = list(parsed.operands)
    labels[i] = _seeded(base, labels[i], tangent.rank)
    seeds = labels[i][: tangent.rank - len(parsed.operands[i])]
    args = [tangent.value if j == i else x.value for j, x in enumerate(xs)]
    free = dict(zip(parsed.free, sizes, strict=True))
    return Handle(tangent.builder, build_contract(tangent.builder, args, labels, seeds + parsed.output, free))


def _contract_transpose(i: int, ct: Handle, *xs: Handle, spec: str, sizes: Shape = (), **_: Any) -> Handle:
    parsed = parse_spec(spec)
    base = 1 + max((x for o in (*parsed.operands, parsed.output) for x in o), default=-1)
    out = _seeded(base, parsed.output, ct.rank)
    seeds = out[: ct.rank - len(parsed.output)]
    args, labels = [ct.value], [out]
    for j, x in enumerate(xs):
        if j != i:
            args.append(x.value)
            labels.append(parsed.operands[j])
    own = dict(zip(parsed.operands[i], xs[i].shape, strict=True))
    return Handle(ct.builder, build_contract(ct.builder, args, labels, seeds + parsed.operands[i], own))


def _fold_contract(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    for arg in args:
        if arg.op.name == "const" and arg.attr("value") == 0 and arg.type.dtype != "bool":
            kind = _contract_infer([a.type for a in args], attrs)
            return builder.const(0, kind.shape, kind.dtype)
    if len(args) == 1 and args[0].op.name == "const":
        spec = parse_spec(attrs["spec"])
        if not spec.summed and len(set(spec.output)) == len(spec.output):  # a filled array broadcast is filled
            kind = _contract_infer([args[0].type], attrs)
            return builder.const(args[0].attr("value"), kind.shape, kind.dtype)
    return None


def _contract_sample(rng: np.random.Generator) -> list[tuple[tuple[Any, ...], Attrs]]:
    def n(*shape: int) -> Any:
        return rng.normal(size=shape)

    return [
        ((n(2, 3), n(3, 4)), {"spec": "ij,jk->ik"}), ((n(3),), {"spec": "i->ii"}), ((n(3, 3),), {"spec": "ii->"}),
        ((n(3, 3),), {"spec": "ii->i"}), ((n(2, 3),), {"spec": "ij->ji"}), ((n(3),), {"spec": "i->ji", "sizes": (2,)}),
        ((n(2), n(3), n(2, 3)), {"spec": "i,j,ij->"}), ((n(2, 2, 3),), {"spec": "iij->jij"}),
        ((n(2),), {"spec": "i->ijj", "sizes": (3,)}),
    ]  # fmt: skip


contract = Op(
    "contract", _contract_infer, _contract_evaluate, Multilinear(_contract_forward, _contract_transpose),
    fold=_fold_contract, sample=Sample(draw=_contract_sample),
    doc="one n-ary indexed product and sum; see symdiff.ir.contraction",
)  # fmt: skip


# -------------------------------------------------------------------- reshape, slice, embed, concatenate
def _reshape_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind, shape, rank = types[0], attrs["shape"], attrs["rank"]
    if not 0 <= rank <= kind.rank:
        raise ArgumentError(f"reshape: {rank} trailing axes of rank {kind.rank}")
    old = kind.shape[kind.rank - rank :]
    if product(old) != product(shape):
        raise ShapeError(
            f"reshape: from {format_shape(old)} ({product(old)} elements) to {format_shape(shape)} "
            f"({product(shape)} elements), expected equal numbers"
        )
    return TensorType(kind.dtype, (*kind.shape[: kind.rank - rank], *shape))


def _fold_reshape(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    kind = _reshape_infer([args[0].type], attrs)
    return args[0] if kind.shape == args[0].type.shape else None


def _reshape(x: Any, shape: Shape, rank: int) -> Any:
    return np.reshape(x, (*np.shape(x)[: np.ndim(x) - rank], *shape))


reshape = Op(
    "reshape", _reshape_infer, _reshape,
    Linear(lambda ct, x, shape, rank: (
        ct.op("reshape", rank=len(shape), shape=x.shape[x.rank - rank:]),)),
    arity=1, fold=_fold_reshape,
    sample=Sample(draw=lambda rng: [((rng.normal(size=(2, 3, 4)),), {"rank": 2, "shape": (6, 2)})]),
    doc="the last `rank` axes become `shape`, row-major",
)  # fmt: skip


def _window(name: str, attrs: Attrs, rank: int) -> int:
    starts, steps, sizes = attrs["starts"], attrs["steps"], attrs["sizes"]
    if not len(starts) == len(steps) == len(sizes) <= rank:
        raise ArgumentError(f"{name}: {len(starts)} starts, {len(steps)} steps, {len(sizes)} sizes for rank {rank}")
    if any(not isinstance(s, int) or s == 0 for s in steps):
        raise ArgumentError(f"{name}: steps {steps}, expected non-zero integers")
    return len(starts)


def _within(name: str, start: int, step: int, count: int, size: int) -> None:
    last = start + step * (count - 1)
    if count < 0 or (count and not (0 <= start < size and 0 <= last < size)):
        raise EvaluationError(
            f"{name}: {count} elements from {start} by {step} leave an axis of size {size} (of symbolic sizes "
            "slices are not clipped as NumPy's are, and np.roll goes at most once around)"
        )


def _check_window(name: str, attrs: Attrs, counts: Shape, wholes: Shape) -> None:
    """Refuse a window that leaves its axes, as far as sizes are numbers; runs check the others."""
    for start, step, count, whole in zip(attrs["starts"], attrs["steps"], counts, wholes, strict=True):
        if isinstance(start, int) and isinstance(count, int) and isinstance(whole, int):
            try:
                _within(name, start, step, count, whole)
            except EvaluationError as error:
                raise ShapeError(str(error)) from error


def _slice_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind = types[0]
    lead = kind.rank - _window("slice", attrs, kind.rank)
    _check_window("slice", attrs, attrs["sizes"], kind.shape[lead:])
    return TensorType(kind.dtype, (*kind.shape[:lead], *attrs["sizes"]))


def _turns(attrs: Attrs, counts: Shape, wholes: Shape) -> bool:
    """Whether a window keeps all elements, those of some axes from the last to the first."""
    return counts == wholes and all(
        (start, step) in ((0, 1), (size - 1, -1))
        for start, step, size in zip(attrs["starts"], attrs["steps"], wholes, strict=True)
    )


def _fold_slice(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    (arg,) = args
    shape = arg.type.shape
    if not _turns(attrs, attrs["sizes"], shape[len(shape) - len(attrs["sizes"]) :]):
        return None
    if all(s == 1 for s in attrs["steps"]):
        return arg
    if _is_turned(arg, attrs):
        return arg.args[0]
    if arg.op.name == "cumsum" and _is_turned(arg.args[0], attrs):
        axis, inner = arg.attr("axis"), arg.args[0].args[0]
        if all((step == -1) == (i - len(attrs["steps"]) == axis) for i, step in enumerate(attrs["steps"])):
            turned = freeze_attrs({"axis": axis, "reverse": not arg.attr("reverse")})
            return builder.make(arg.op, (inner,), turned)
    return None


def _is_turned(value: Value, attrs: Attrs) -> bool:
    """Whether a value is a slice of the same window, of all its operand."""
    if value.op.name != "slice" or any(value.attr(k) != attrs[k] for k in ("starts", "steps", "sizes")):
        return False
    return value.args[0].type.shape == value.type.shape


def _index(
    name: str, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int], shape: Sequence[int]
) -> Any:
    index: list[Any] = [...]
    for start, step, count, whole in zip(starts, steps, sizes, shape, strict=True):
        _within(name, start, step, count, whole)
        stop = start + step * count
        index.append(slice(start, stop if stop >= 0 else None, step) if count else slice(0, 0))
    return tuple(index)


def _slice(x: Any, starts: Any, steps: Any, sizes: Any) -> Any:
    shape = np.shape(x)
    return x[_index("slice", starts, steps, sizes, shape[len(shape) - len(sizes) :])]


cut = Op(
    "slice", _slice_infer, _slice,
    Linear(lambda ct, x, starts, steps, sizes: (
        ct.op("embed", starts=starts, steps=steps, sizes=x.shape[x.rank - len(sizes):]),)),
    arity=1, fold=_fold_slice,
    sample=Sample(draw=lambda rng: [
        ((rng.normal(size=(2, 7)),), {"starts": (1,), "steps": (2,), "sizes": (3,)}),
        ((rng.normal(size=(4, 5)),), {"starts": (3, 1), "steps": (-1, 1), "sizes": (4, 3)})]),
    doc="elements start, start + step, ... of the last axes, `sizes` of them; steps may be negative",
)  # fmt: skip


def _embed_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    kind = types[0]
    lead = kind.rank - _window("embed", attrs, kind.rank)
    _check_window("embed", attrs, kind.shape[lead:], attrs["sizes"])
    return TensorType(kind.dtype, (*kind.shape[:lead], *attrs["sizes"]))


def _embed(x: Any, starts: Any, steps: Any, sizes: Any) -> Any:
    shape = np.shape(x)
    k = len(sizes)
    result = np.zeros((*shape[: len(shape) - k], *sizes), np.asarray(x).dtype)
    result[_index("embed", starts, steps, shape[len(shape) - k :], sizes)] = x
    return result


def _fold_embed(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    kind = _embed_infer([args[0].type], attrs)
    if kind.shape == args[0].type.shape and all(s == 0 for s in attrs["starts"]) and set(attrs["steps"]) <= {1}:
        return args[0]
    if args[0].op.name == "const" and args[0].attr("value") == 0 and kind.dtype != "bool":
        return builder.const(0, kind.shape, kind.dtype)
    if _turns(attrs, args[0].type.shape[kind.rank - len(attrs["sizes"]) :], attrs["sizes"]):  # back again
        return builder.make(cut, args, freeze_attrs(attrs))
    return None


embed = Op(
    "embed", _embed_infer, _embed,
    Linear(lambda ct, x, starts, steps, sizes: (
        ct.op("slice", starts=starts, steps=steps, sizes=x.shape[x.rank - len(sizes):]),)),
    arity=1, fold=_fold_embed,
    sample=Sample(draw=lambda rng: [((rng.normal(size=(2, 3)),), {"starts": (1,), "steps": (2,), "sizes": (7,)}),
                                    ((rng.normal(size=(3,)),), {"starts": (4,), "steps": (-2,), "sizes": (5,)})]),
    doc="the transpose of slice: zeros of the given sizes with the operand written at start, start + step, ...",
)  # fmt: skip


def _concatenate_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    axis, first = attrs["axis"], types[0]
    axes_in("concatenate", first, (axis,))
    at = first.rank + axis
    total: Size = 0
    for kind in types:
        if kind.dtype != first.dtype:
            raise DtypeError(f"concatenate: dtypes {first.dtype} and {kind.dtype}, expected one")
        beside = kind.shape[:at] + kind.shape[at + 1 :]
        if kind.rank != first.rank or beside != first.shape[:at] + first.shape[at + 1 :]:
            raise ShapeError(
                f"concatenate: shapes {format_shape(first.shape)} and {format_shape(kind.shape)} "
                f"differ outside axis {at}"
            )
        total = total + kind.shape[at]
    return TensorType(first.dtype, (*first.shape[:at], total, *first.shape[at + 1 :]))


def _concatenate_transpose(ct: Handle, *xs: Handle, axis: int) -> tuple[Handle, ...]:
    parts: list[Handle] = []
    start: Size = 0
    for x in xs:
        tail = ct.shape[ct.rank + axis + 1 :]
        parts.append(
            ct.op("slice", starts=(start, *(0,) * len(tail)), steps=(1,) * -axis, sizes=(x.shape[axis], *tail))
        )
        start = start + x.shape[axis]
    return tuple(parts)


concatenate = Op(
    "concatenate", _concatenate_infer, lambda *xs, axis: np.concatenate(xs, axis=axis), Linear(_concatenate_transpose),
    sample=Sample(draw=lambda rng: [((rng.normal(size=(2, 3)), rng.normal(size=(4, 3))), {"axis": -2})]),
)  # fmt: skip


# -------------------------------------------------------------------- running sums and triangles
def _axis_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    axes_in("cumsum", types[0], (attrs["axis"],))
    if types[0].dtype == "bool":
        raise DtypeError("cumsum: dtype bool, expected a number; cast first")
    return TensorType(types[0].dtype, types[0].shape)


def _cumsum(x: Any, axis: int, reverse: bool) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


cumsum = Op(
    "cumsum", _axis_infer, _cumsum,
    Linear(lambda ct, x, axis, reverse: (ct.op("cumsum", axis=axis, reverse=not reverse),)), arity=1, cost="add",
    sample=Sample(draw=lambda rng: [((rng.normal(size=(3, 4)),), {"axis": a, "reverse": r})
                                    for a, r in ((-1, False), (-2, True))]),
    doc="running sums along an axis, from its end when reverse",
)  # fmt: skip


def _triangle(name: str, evaluate: Any) -> Op:
    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        if types[0].rank < 2 or not isinstance(attrs["k"], (int, Dim)):
            raise ShapeError(f"{name}: shape {format_shape(types[0].shape)}, k = {attrs['k']}; expected a matrix")
        return TensorType(types[0].dtype, types[0].shape)

    return Op(
        name, infer, lambda x, k: evaluate(x, k), Linear(lambda ct, x, k: (ct.op(name, k=k),)), arity=1,
        latex=rf"\operatorname{{{{{name}}}}}({{0}})",
        sample=Sample(draw=lambda rng: [((rng.normal(size=(2, 3, 4)),), {"k": k}) for k in (-1, 0, 1)]),
        doc=f"the last two axes with the elements outside the triangle at diagonal k set to zero, as numpy.{name}",
    )  # fmt: skip


tril = _triangle("tril", np.tril)
triu = _triangle("triu", np.triu)



def _symmetric_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"symmetric: shape {format_shape(shape)}, expected a square matrix")
    return types[0]


def _symmetric_sample(rng: Any) -> list[tuple[tuple[Any, ...], Attrs]]:
    x = rng.normal(size=(2, 3, 3))
    return [((x + np.swapaxes(x, -1, -2),), {})]


symmetric = Op(
    "symmetric", _symmetric_infer, lambda x: x, Linear(lambda ct, x: (ct,)), arity=1, latex="{0}",
    sample=Sample(draw=_symmetric_sample),
    doc="a matrix in the last two axes that is known to be symmetric: native code may compute entry i, j as entry j, i",
)  # fmt: skip

OPS = (
    const, array, iota, size, contract, reshape, cut, embed, concatenate, cumsum, tril, triu, symmetric,
)  # fmt: skip

