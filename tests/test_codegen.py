"""Native code agrees with the reference interpreter: every op, every size, any strides, edge values, long programs."""

from fractions import Fraction

import numpy as np
import pytest

import codegen
from codegen.lower import LOWERINGS
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.graph import ArrayConstant
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

UNDEFINED = {"apply", "functional"}
DTYPE_NAMES = {np.dtype(k): v for k, v in {"f8": "f64", "f4": "f32", "i8": "i64", "?": "bool"}.items()}

NULLARY = {
    "const": [
        {"dtype": "f64", "shape": (2, 3), "value": Fraction(1, 10)}, {"dtype": "f32", "shape": (), "value": "pi"},
        {"dtype": "i64", "shape": (4,), "value": -7}, {"dtype": "bool", "shape": (3,), "value": True},
        {"dtype": "f64", "shape": (1,), "value": "-inf"}, {"dtype": "f64", "shape": (0, 2), "value": "nan"},
    ],
    "array": [{"value": ArrayConstant(a)} for a in (np.arange(6.0).reshape(2, 3), np.array([True, False]))],
    "iota": [{"size": 9}], "size": [{"size": 5, "dtype": "f64"}, {"size": 5, "dtype": "i64"}],
}  # fmt: skip


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


def samples(op, rng):
    """Argument lists and attributes an op declares for testing; ops without operands have theirs here."""
    if op.name in NULLARY:
        return [((), attrs) for attrs in NULLARY[op.name]]
    if op.sample.draw is not None:
        return op.sample.draw(rng)
    return [(tuple(rng.uniform(a, b, size=shape) for a, b in op.sample.intervals), {}) for shape in ((), (5,), (3, 37))]


def program(op, args, attrs, shapes=None):
    """The function that is one application of an op."""
    builder = Builder(OPSET)
    shapes = shapes or [a.shape for a in args]
    params = [
        builder.param(f"x{i}", TensorType(DTYPE_NAMES[a.dtype], tuple(shape)))
        for i, (a, shape) in enumerate(zip(args, shapes, strict=True))
    ]
    return builder.function(params, [builder.make(op, tuple(params), freeze_attrs(attrs))])


def test_every_op_has_a_lowering():
    assert set(LOWERINGS) == set(OPSET) - UNDEFINED - {"param"}


@pytest.mark.parametrize("name", [n for n in OPSET if n not in UNDEFINED])
def test_op_agrees_with_its_evaluation(name):
    rng = np.random.default_rng(7)
    for args, attrs in samples(OPSET[name], rng):
        arrays = [np.asarray(a) for a in args]
        function = program(OPSET[name], arrays, attrs)
        agree(function, codegen.compile(function, opt=1), arrays)
