"""Random well-typed programs with named sizes, for comparing native code with the interpreter."""

import numpy as np

from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.contraction import contract
from symdiff.ir.dims import named, product
from symdiff.ir.text import parse_function
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

N, M = named("n"), named("m")
UNARY = ("sin", "cos", "tanh", "sigmoid", "neg", "abs", "relu", "arctan", "sign", "round")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "hypot")


class Program:
    """Grows one function; every value stays of moderate size, so that rounding is comparable."""

    def __init__(self, rng, dtype="f64"):
        self.rng, self.dtype, self.builder = rng, dtype, Builder(OPSET)
        shapes = {"A": (N, M), "B": (M, N), "S": (N, N), "x": (N,), "y": (M,), "s": ()}
        self.params = [self.builder.param(k, TensorType(dtype, v)) for k, v in shapes.items()]
        self.index = self.builder.param("k", TensorType("i64", (M,)))
        self.values = list(self.params)

    def make(self, name, *args, **attrs):
        return self.builder.make(OPSET[name], args, freeze_attrs(attrs))

    def pick(self, like=None, rank=None):
        found = [v for v in self.values if like in (None, v.type.shape) and len(v.type.shape) >= (rank or 0)]
        return found[self.rng.integers(max(0, len(found) - 12), len(found))]

    def grow(self, steps):
        forms = [self.unary, self.binary, self.binary, self.contraction, self.contraction, self.product, self.reduction,
                 self.softmax, self.flip, self.window, self.joined, self.flat, self.triangle, self.running, self.choice,
                 self.delta, self.gathered, self.scattered, self.power]  # fmt: skip
        while steps:
            made = forms[self.rng.integers(len(forms))]()
            if made is not None and len(made.type.shape) <= 3:
                self.values.append(made)
                steps -= 1
        return self

    def function(self):
        made = self.values[len(self.params) :]
        chosen = {made[-1]: None, **{made[self.rng.integers(len(made))]: None for _ in range(3)}}
        return self.builder.function([*self.params, self.index], list(chosen))

    def bounded(self, value):
        return self.make("tanh", value)

    def unary(self):
        return self.make(UNARY[self.rng.integers(len(UNARY))], self.pick())

    def binary(self):
        a = self.pick()
        return self.make(BINARY[self.rng.integers(len(BINARY))], a, self.pick(a.type.shape))

    def power(self):
        a = self.bounded(self.pick())
        return self.make("pow", a, self.builder.const(int(self.rng.integers(2, 5)), a.type.shape, self.dtype))

    def contraction(self):
        operands = [self.pick(rank=1) for _ in range(self.rng.integers(1, 5))]
        by_size = {}
        labels, count = [], 0
        for value in operands:
            word = []
            for size in value.type.shape:
                own = by_size.setdefault(size, [])
                if not own or self.rng.random() < 0.5:
                    own.append(count)
                    count += 1
                word.append(own[self.rng.integers(len(own))])
            labels.append(tuple(word))
        used = sorted({x for word in labels for x in word})
        output = tuple(x for x in self.rng.permutation(used) if self.rng.random() < 0.5)[:3]
        output = tuple(int(x) for x in output)
        if output and len(output) < 3 and self.rng.random() < 0.2:
            output = (*output, output[0])
        return self.bounded(contract(self.builder, operands, labels, output))

    def product(self):
        a, b = self.pick((N, M)), self.pick((M, N))
        return self.bounded(contract(self.builder, [a, b], [(0, 1), (1, 2)], (0, 2)))

    def reduction(self):
        a = self.pick(rank=1)
        axis = -int(self.rng.integers(1, len(a.type.shape) + 1))
        name = ("logsumexp", "norm")[self.rng.integers(2)]
        return self.bounded(self.make(name, a, axes=(axis,)))

    def softmax(self):
        a = self.pick(rank=1)
        return self.make("softmax", a, axes=(-int(self.rng.integers(1, len(a.type.shape) + 1)),))

    def flip(self):
        a = self.pick(rank=1)
        size = a.type.shape[-1]
        return self.make("slice", a, starts=(size - 1,), steps=(-1,), sizes=(size,))

    def window(self):
        a = self.pick(rank=1)
        size = a.type.shape[-1]
        wide = self.make("embed", a, starts=(2,), steps=(1,), sizes=(size + 3,))
        return self.make("slice", wide, starts=(1,), steps=(1,), sizes=(size,))

    def joined(self):
        a = self.pick(rank=1)
        both = self.make("concatenate", a, self.pick(a.type.shape), axis=-1)
        size = a.type.shape[-1]
        return self.make("slice", both, starts=(0,), steps=(2,), sizes=(size,))

    def flat(self):
        a = self.pick(rank=2)
        shape = a.type.shape
        flat = self.make("reshape", a, rank=len(shape), shape=(product(shape),))
        moved = self.make("sin", flat)
        return self.make("reshape", moved, rank=1, shape=tuple(reversed(shape)))

    def triangle(self):
        return self.make(("tril", "triu")[self.rng.integers(2)], self.pick(rank=2), k=int(self.rng.integers(-1, 2)))

    def running(self):
        a = self.pick(rank=1)
        axis = -int(self.rng.integers(1, len(a.type.shape) + 1))
        return self.bounded(self.make("cumsum", a, axis=axis, reverse=bool(self.rng.integers(2))))

    def choice(self):
        a = self.pick()
        b = self.pick(a.type.shape)
        return self.make("select", self.make(("lt", "ge")[self.rng.integers(2)], a, b), a, self.bounded(b))

    def delta(self):
        return contract(self.builder, [self.pick((N,))], [(0,)], (0, 0))

    def gathered(self):
        found = [v for v in self.values if v.type.shape and v.type.shape[-1] == N]
        return self.make("gather", found[self.rng.integers(len(found))], self.index, axis=-1)

    def scattered(self):
        found = [v for v in self.values if v.type.shape and v.type.shape[-1] == M]
        x = found[self.rng.integers(len(found))]
        return self.bounded(self.make("scatter_add", x, self.index, axis=-1, sizes=(N,)))


def arguments(function, rng, n, m):
    """Random arrays in random layouts: dense, transposed, reversed, every second element of a larger one."""
    arrays = []
    for parameter in function.params:
        shape = tuple({"n": n, "m": m}[str(s)] for s in parameter.type.shape)
        if parameter.type.dtype == "i64":
            arrays.append(rng.integers(-n, n, size=shape) if n else np.zeros(shape, np.int64))
            continue
        dtype = np.float32 if parameter.type.dtype == "f32" else np.float64
        layout = rng.integers(4) if shape else 0
        if layout == 0:
            array = rng.normal(size=shape)
        elif layout == 1:
            array = rng.normal(size=shape[::-1]).T
        elif layout == 2:
            array = rng.normal(size=shape)[::-1]
        else:
            array = rng.normal(size=(*shape[:-1], 2 * shape[-1]))[..., ::2]
        arrays.append(array.astype(dtype, order="K"))
    return arrays


def close(got, expected, rtol=1e-12):
    """Equal to rounding, scaled by the size of the array's numbers."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * float(finite.max(initial=0.0)))


def agree(function, native, args, rtol=1e-12, **options):
    expected = interpret(function, args, **options)
    got = native(*args, **options)
    for one, other in zip(got, expected, strict=True):
        close(one, other, rtol)


def text_function(body, params="%A: f64[m,n]"):
    """A function from the lines of its body; the last line is what it returns."""
    return parse_function(f"fn f({params}) {{\n{body}\n}}", OPSET)
