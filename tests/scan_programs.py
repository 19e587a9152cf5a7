"""Random scans over random bodies, for comparing native code with the interpreter."""

import numpy as np
from codegen_programs import Program

from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import evaluate, named
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

T = named("T")


def bounded(builder, value, other):
    """tanh((value + other) / 2) of a body's values."""
    kind = value.type
    half = builder.const(0.5, kind.shape, kind.dtype)
    total = builder.make(OPSET["add"], (value, other))
    return builder.make(OPSET["tanh"], (builder.make(OPSET["mul"], (total, half)),))


class Body:
    """A random body: some parameters of a random program are carries, some slices, the rest constants."""

    def __init__(self, rng, dtype="f64", steps=5, nested=None):
        self.rng = rng
        program = Program(rng, dtype)
        if nested is not None:
            program.values += nested(program)
        program.grow(steps)
        floats = list(program.params)
        order = [floats[i] for i in rng.permutation(len(floats))]
        carries, slices = order[: rng.integers(1, 4)], order[3 : 3 + rng.integers(0, 3)]
        self.carries, self.slices = carries, slices
        self.rest = [p for p in (*floats, program.index) if p not in {*carries, *slices}]
        builder, made = program.builder, program.values[len(floats) :]
        last = made[-1]
        results = []
        for carry in carries:
            like = [v for v in program.values if v.type == carry.type]
            other = like[rng.integers(len(like))]
            results.append(other if rng.random() < 0.2 else bounded(builder, carry, other))
        outputs = [last, *[made[rng.integers(len(made))] for _ in range(rng.integers(0, 2))]]
        outputs += [results[0]] if rng.random() < 0.3 else []
        self.outputs = len(outputs)
        self.function = builder.function([*carries, *slices, *self.rest], [*results, *outputs])

    def picks(self, every=False):
        count = 2 * len(self.carries) + self.outputs
        if every:
            return list(range(count))
        return sorted({int(self.rng.integers(count)) for _ in range(3)})

    def scans(self, builder, operands, picks, reverse, length=T):
        """The results of a scan on operands in the order of the body's parameters."""
        attrs = {"body": self.function, "carries": len(self.carries), "slices": len(self.slices), "length": length,
                 "reverse": reverse}  # fmt: skip
        return [builder.make(OPSET["scan"], tuple(operands), freeze_attrs({**attrs, "pick": k})) for k in picks]


def random_scan(seed, dtype="f64", every=False, steps=5, nested=None):
    """A function around a random scan: operands are parameters, views of parameters and expressions of them."""
    rng = np.random.default_rng(seed)
    body = Body(rng, dtype, steps, nested)
    builder = Builder(OPSET)
    params, operands = [], []

    def make(name, *args, **attrs):
        return builder.make(OPSET[name], args, freeze_attrs(attrs))

    for number, one in enumerate(body.function.params):
        kind = one.type
        is_slice = one in body.slices
        shape = (T, *kind.shape) if is_slice else kind.shape
        way = rng.integers(5) if kind.dtype != "i64" else 0
        if is_slice and way == 1:  # all but the first row
            given = builder.param(f"p{number}", TensorType(kind.dtype, (T + 1, *kind.shape)))
            rank = len(shape)
            starts = (1, *[0] * (rank - 1))
            operands.append(make("slice", given, starts=starts, steps=(1,) * rank, sizes=shape))
        elif is_slice and way == 2:  # backwards
            given = builder.param(f"p{number}", TensorType(kind.dtype, shape))
            rank = len(shape)
            starts, moves = (T - 1, *[0] * (rank - 1)), (-1, *[1] * (rank - 1))
            operands.append(make("slice", given, starts=starts, steps=moves, sizes=shape))
        elif way == 3:
            given = builder.param(f"p{number}", TensorType(kind.dtype, shape))
            operands.append(make("sin", given))
        elif way == 4 and rng.random() < 0.3:
            operands.append(builder.const(0, shape, kind.dtype))
            continue
        else:
            given = builder.param(f"p{number}", TensorType(kind.dtype, shape))
            operands.append(given)
        params.append(given)
    picks = body.picks(every)
    results = body.scans(builder, operands, picks, bool(rng.integers(2)))
    used = results[rng.integers(len(results))]
    results.append(make("tanh", used) if used.type.dtype in ("f64", "f32") else used)
    return builder.function(params, results)


def arguments(function, seed, sizes):
    """Random arrays for the function's parameters."""
    rng = np.random.default_rng(seed)
    arrays = []
    for parameter in function.params:
        shape = tuple([evaluate(s, sizes) for s in parameter.type.shape])
        if parameter.type.dtype == "i64":
            n = sizes["n"]
            arrays.append(rng.integers(-n, n, size=shape) if n else np.zeros(shape, np.int64))
            continue
        array = rng.normal(size=(*shape[:-1], 2 * shape[-1]))[..., ::2] if shape and rng.random() < 0.3 else None
        array = rng.normal(size=shape) if array is None else array
        arrays.append(array.astype(np.float32 if parameter.type.dtype == "f32" else np.float64, order="K"))
    return arrays
