"""Long scalar code takes a way of its own: the bits are those of the ordinary way, whatever it is mixed with."""

from fractions import Fraction

import numpy as np
import pytest
from codegen_programs import agree

import codegen
import symdiff as sd
from codegen.arrays import cores
from codegen.arrays.cores import Core, divide
from codegen.jit import engine
from codegen.kernels import straight
from codegen.schedule.jobs import build
from symdiff.errors import UnsupportedError
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import named
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

N = named("n")
UNARY = ("sin", "cos", "tanh", "arctan", "neg", "sigmoid", "sin", "cos", "relu")
BINARY = ("add", "mul", "sub", "maximum", "add", "mul")
POWERS = (2, -1, -2, 3, Fraction(1, 2), Fraction(-3, 2), Fraction(1, 3))


class Growth:
    """Scalar programs that read elements of arrays, with booleans, integers and powers among the numbers."""

    def __init__(self, rng, dtype):
        self.rng, self.dtype, self.builder = rng, dtype, Builder(OPSET)
        self.params = [self.builder.param(k, TensorType(dtype, (size,))) for k, size in (("x", 6), ("y", N))]
        self.scalars = [self.element(self.params[0], i) for i in range(6)]
        self.scalars += [self.element(self.params[1], i) for i in (0, N - 1)]

    def make(self, name, *args, **attrs):
        return self.builder.make(OPSET[name], args, freeze_attrs(attrs))

    def number(self, value):
        return self.builder.const(value, (), self.dtype)

    def element(self, array, at):
        piece = self.make("slice", array, starts=(at,), steps=(1,), sizes=(1,))
        return self.make("contract", piece, spec="a->")

    def pick(self):
        return self.scalars[self.rng.integers(max(0, len(self.scalars) - 150), len(self.scalars))]

    def grow(self, steps):
        rng = self.rng
        for _ in range(steps):
            a, b, kind = self.pick(), self.pick(), rng.integers(12)
            if kind < 5:
                made = self.make(UNARY[rng.integers(len(UNARY))], a)
            elif kind < 9:
                made = self.make(BINARY[rng.integers(len(BINARY))], a, b)
            elif kind == 9:
                small = self.make("le", a, self.make("mul", b, self.number(Fraction(1, 3))))
                made = self.make("select", small, a, self.make("cast", self.make("not", small), dtype=self.dtype))
            elif kind == 10:
                positive = self.make("add", self.make("abs", a), self.number(1))
                made = self.make("pow", positive, self.number(POWERS[rng.integers(len(POWERS))]))
            else:
                made = self.make("cast", self.make("cast", self.make("tanh", a), dtype="i64"), dtype=self.dtype)
            if kind in (1, 6, 8):
                made = self.make("tanh", made)  # numbers stay of moderate size
            self.scalars.append(made)
        return self

    def stacked(self, count):
        """The last scalars as an array."""
        rows = [self.make("reshape", v, shape=(1,), rank=0) for v in self.scalars[-count:]]
        return self.make("concatenate", *rows, axis=-1)

    def function(self, *results):
        return self.builder.function(self.params, results)


def mixed(rng, dtype):
    """Scalars, then an array made of them, then scalars that read it."""
    growth = Growth(rng, dtype).grow(900)
    array = growth.make("sin", growth.stacked(7))
    early = growth.scalars[40]
    total = growth.make("contract", array, array, spec="a,a->")
    both = growth.make("add", total, growth.element(array, 3))
    growth.scalars += [growth.make("tanh", growth.make("mul", both, v)) for v in growth.scalars[-150:]]
    growth.grow(700)
    return growth.function(growth.scalars[-1], array, growth.stacked(5), early, growth.scalars[-300])


def plain(rng, dtype):
    growth = Growth(rng, dtype).grow(1500)
    return growth.function(growth.scalars[-1], growth.scalars[-200], growth.stacked(3), growth.scalars[3])


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("form", [plain, mixed])
@pytest.mark.parametrize("opt", [0, 2])
@pytest.mark.parametrize("pieces", [True, False])
def test_the_bits_are_those_of_the_ordinary_way(form, dtype, opt, pieces, rng, monkeypatch):
    function = form(rng, dtype)
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    arrays = [rng.normal(size=6).astype(kind), rng.normal(size=4).astype(kind)]
    if pieces:
        monkeypatch.setattr(straight, "WHOLE", 0)
        monkeypatch.setattr(straight, "PIECE", 110)
    monkeypatch.setattr(cores, "LONG", 50)
    quick = codegen.compile(function, opt=opt)
    text = codegen.inspect(quick).llvm
    assert text.count(".c3(") >= 2 if pieces else ".c0(" in text and ".c1(" not in text
    if dtype == "f64":  # in f32 rounding grows along the program
        agree(function, quick, arrays, 1e-9)
    monkeypatch.setattr(cores, "LONG", 1 << 30)
    monkeypatch.setattr(straight, "SHORTEST", 1 << 30)
    usual = codegen.compile(function, opt=opt)
    for a, b in zip(quick(*arrays), usual(*arrays), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_a_core_holds_what_is_computed_between_its_instructions(rng, monkeypatch):
    monkeypatch.setattr(cores, "LONG", 50)
    function = mixed(rng, "f64")
    done = set(function.params)
    found = divide(function)
    for step in found:
        if isinstance(step, Core):
            assert all(a in done or a.op.name == "const" for a in step.inputs)
            done.update(step.values)
            assert set(step.outputs) <= set(step.values)
        else:
            assert all(a in done for a in step.args), "an instruction comes before its operand"
            done.add(step)
    assert sum(isinstance(step, Core) for step in found) == 2
    assert {v for v in function.instrs if v.op.name != "const"} <= done


def test_other_code_is_left_as_it_is(rng):
    function = Growth(rng, "f64").grow(50).function()
    assert divide(function) == list(function.instrs)


def test_the_loops_of_a_long_scalar_program_are_statements_like_any_other(rng):
    program, _ = build(plain(rng, "f64"), "f")
    assert any(line.strip().startswith("%") and " tanh " in line for line in str(program).splitlines())


def test_what_has_no_native_code_is_refused_in_long_programs_too(rng):
    growth = Growth(rng, "f64").grow(600)
    undefined = growth.builder.make(OPSET["apply"], (growth.scalars[-1],), freeze_attrs({"name": "phi", "wrt": ()}))
    with pytest.raises(UnsupportedError, match="undefined function phi"):
        codegen.compile(growth.function(growth.make("sin", undefined)))


def test_quick_instruction_selection_knows_every_frequent_instruction(rng):
    """LLVM's slow way is taken for an intrinsic call such as a fused product; the text has it once, in a function."""
    text = codegen.inspect(codegen.compile(plain(rng, "f64"), opt=0)).llvm
    pieces = text[: text.index("define internal void @kernel.k0(")]
    assert "llvm.fma" not in pieces
    fma = {"+fma", "+neon"} & set(engine.host_target().features.split(","))
    assert ("@sd.fma.f64(" in pieces) == bool(fma)


def test_what_a_core_negates_is_contracted_as_it_is(monkeypatch):
    def cost(u):
        x, v, total = 0.1, 0.0, 0.0
        for t in range(4):
            push = u[t] - 0.3 * v * v * np.sin(x)
            x, v = x + 0.1 * v, v + 0.1 * (9.8 * np.sin(x) - np.cos(x) * push) / (1.5 - 0.2 * np.cos(x) ** 2)
            total = total + x**2 + 0.1 * u[t] ** 2
        return total

    u = np.array([0.3, -0.2, 0.5, 0.1])
    expected = sd.hessian(cost)(u)
    monkeypatch.setattr(cores, "LONG", 20)
    np.testing.assert_allclose(sd.hessian(cost)(u), expected, rtol=1e-12, atol=1e-14)
