"""Programs as data: text and back, the verifier, hash-consing, constants, and length without recursion."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from oracle import one_op, op_cases, run
from strategies import Program, examples, programs

from symdiff.diff import gradients
from symdiff.errors import ArgumentError, DtypeError, ParseError, ShapeError, SymdiffError, VerifyError
from symdiff.interp import interpret
from symdiff.ir.builder import Builder, Handle, exact
from symdiff.ir.contraction import Spec, contract, einsum, expand, identity, parse_spec
from symdiff.ir.dims import named
from symdiff.ir.graph import ArrayConstant, Function, Value, param, topological
from symdiff.ir.op import Op
from symdiff.ir.text import parse_function, print_function
from symdiff.ir.types import TensorType, check_type, float64
from symdiff.ir.verify import verify
from symdiff.ops import OPSET


def scalar(builder: Builder, name: str = "x") -> Handle:
    return builder.handle(builder.param(name, float64()))


# -------------------------------------------------------------------- text
@examples(150)
@given(programs())
def test_programs_verify_and_read_back(program: Program) -> None:
    function = verify(program.function, OPSET)
    text = print_function(function)
    again = parse_function(text, OPSET)
    assert again == function
    assert hash(again) == hash(function)
    assert print_function(again) == text
    for one, other in zip(
        interpret(function, program.args, program.sizes), interpret(again, program.args, program.sizes), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@examples(60)
@given(programs(max_steps=4, scalar=True))
def test_derivatives_read_back(program: Program) -> None:
    (gradient,) = gradients(program.builder, program.function.results[0], program.function.params[:1])
    function = program.builder.function(program.function.params, [gradient])
    assert parse_function(print_function(verify(function, OPSET)), OPSET) == function


def test_the_text_is_as_documented() -> None:
    builder = Builder(OPSET)
    m, n = named("m"), named("n")
    a = builder.handle(builder.param("A", TensorType("f64", (m, n))))
    x = builder.handle(builder.param("x", float64(n)))
    function = builder.function([a.value, x.value], [einsum("ij,j->i", a, x).op("tanh").value])
    assert print_function(function) == (
        "fn f(%A: f64[m,n], %x: f64[n]) {\n"
        '  %0: f64[m] = contract(%A, %x) {spec = "ij,j->i"}\n'
        "  %1: f64[m] = tanh(%0)\n"
        "  return %1\n"
        "}"
    )


def test_text_of_facts_sizes_lists_and_nothing() -> None:
    builder = Builder(OPSET)
    n = named("n")
    s = builder.param("S", TensorType("f64", (n, n), frozenset({"symmetric", "positive_definite"})))
    x = builder.handle(builder.param("x", float64(n + 1, 2)))
    y = x.op("slice", starts=(n, 0), steps=(-1, 1), sizes=((n + 1) // 2, 2))
    function = Function.of([s, x.value], [y.value, s])
    text = print_function(function)
    assert "%S: f64[n,n]{positive_definite,symmetric}" in text
    assert "{sizes = [((n + 1)//2), 2], starts = [n, 0], steps = [-1, 1]}" in text
    assert parse_function(text, OPSET) == function
    empty = Function.of([], [])
    assert parse_function(print_function(empty), OPSET) == empty


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (0, "f64"), (-0.0, "f64"), (math.nan, "f64"), (math.inf, "f64"), (-math.inf, "f64"), (1, "f64"), (1, "i64"),
        (True, "bool"), (False, "bool"), (0.1, "f64"), (1e-310, "f64"), (2**70, "f64"), (Fraction(-22, 7), "f64"),
        ("pi", "f64"), ("e", "f32"), ("euler_gamma", "f64"), (-3, "i64"), (1.5e300, "f64"), (np.float32(0.1), "f32"),
        (np.int64(-7), "i64"), (np.bool_(True), "bool"),
    ],
)  # fmt: skip
def test_constants_keep_every_bit(number: Any, dtype: str) -> None:
    builder = Builder(OPSET)
    value = builder.const(number, (2,), dtype)
    function = Function.of([], [value])
    assert parse_function(print_function(function), OPSET) == function
    (got,) = interpret(parse_function(print_function(function), OPSET), [])
    table = {"pi": math.pi, "e": math.e, "euler_gamma": 0.57721566490153286}
    kind = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}[dtype]
    want = np.full(2, float(number) if isinstance(number, Fraction) else table.get(number, number), kind)  # type: ignore[call-overload]
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes()


def test_equal_keys_in_python_are_different_constants() -> None:
    """True == 1 == 1.0 and 0 == -0.0 as dictionary keys; as constants they differ by dtype or sign."""
    builder = Builder(OPSET)
    one, yes, single = builder.const(1), builder.const(True, (), "bool"), builder.const(1, (), "f32")
    whole = builder.const(1, (), "i64")
    assert len({one, yes, single, whole}) == 4
    assert builder.const(1.0) is one
    assert builder.const(0.0) is not builder.const(-0.0)
    assert builder.const(math.nan) is builder.const(math.nan)
    assert [v.type.dtype for v in (one, yes, single, whole)] == ["f64", "bool", "f32", "i64"]
    function = Function.of([], [one, yes, single, whole])
    again = parse_function(print_function(function), OPSET)
    assert [type(v.attr("value")) for v in again.instrs] == [int, bool, int, int]


def test_constants_refuse_what_their_type_cannot_hold() -> None:
    builder = Builder(OPSET)
    with pytest.raises(DtypeError, match="1/2 is no i64"):
        builder.const(0.5, (), "i64")
    with pytest.raises(DtypeError, match="no bool"):
        builder.const(1, (), "bool")
    with pytest.raises(DtypeError, match="complex"):
        exact(1j)
    with pytest.raises(ArgumentError, match="expected a number or one of pi"):
        exact("tau")


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -0.0, np.nan], [np.inf, 5e-324, -1e300]]), np.array([], np.float64), np.array(3.25),
        np.array([1, -2, 2**62]), np.array([True, False]), np.zeros((0, 3)), np.array([1.5], np.float32),
        np.arange(6.0).reshape(2, 3).T, np.array([1.0, 2.0], ">f8"),
    ],
)  # fmt: skip
def test_array_constants_read_back_bit_for_bit(array: Any) -> None:
    builder = Builder(OPSET)
    value = builder.make(OPSET["array"], (), (("value", ArrayConstant(array)),))
    function = verify(Function.of([], [value]), OPSET)
    again = parse_function(print_function(function), OPSET)
    assert again == function
    (got,) = interpret(again, [])
    assert got.shape == array.shape
    assert got.astype(array.dtype).tobytes() == np.ascontiguousarray(array).tobytes()


def test_array_constants_are_frozen_and_compare_by_content() -> None:
    data = np.array([1.0, 2.0])
    one = ArrayConstant(data)
    data[0] = 5.0
    assert one.array[0] == 1.0
    assert one == ArrayConstant([1.0, 2.0])
    assert hash(one) == hash(ArrayConstant([1.0, 2.0]))
    assert one != ArrayConstant([1, 2])
    assert one != ArrayConstant([[1.0, 2.0]])
    with pytest.raises(ValueError, match="read-only"):
        one.array[0] = 1.0


def test_strings_in_attributes_are_quoted() -> None:
    builder = Builder(OPSET)
    x = scalar(builder)
    y = x.op("apply", name='g"\\\n%x', wrt=())
    function = Function.of([x.value], [y.value])
    assert parse_function(print_function(function), OPSET) == function


# -------------------------------------------------------------------- malformed text
HEAD = "fn f(%x: f64[3], %A: f64[2,3]) {\n"
MALFORMED = [
    ("", "expected 'fn'"),
    ("fn", "expected a function name"),
    ("fn f(%x: f64[]) { return %x } extra", "unexpected 'extra' after the function"),
    ("fn f(%x: f64[]) { return %y }", "%y is used before it is defined"),
    ("fn f(%x: f64[], %x: f64[]) { return %x }", "%x is defined twice"),
    ("fn f(%x: f63[]) { return %x }", "dtype 'f63', expected one of f64"),
    ("fn f(%x: f64[2,3]{symmetric}) { return %x }", "symmetric needs a square matrix"),
    ("fn f(%x: f64[]{smooth}) { return %x }", "unknown fact 'smooth'"),
    ("fn f(%x: f64[-1]) { return %x }", "negative size"),
    ("fn f(%x: f64[n+]) { return %x }", "ends too early"),
    ("fn f(%x: f64[]) { return %x", "expected ',', found 'the end of the text'"),
    ("fn f(%x: f64[]) { return }; ", "unexpected character ';'"),
    (HEAD + "%0: f64[3] = sinn(%x)\nreturn %0}", "unknown op 'sinn'"),
    (HEAD + "%0: f64[3] = sin(%x, %x)\nreturn %0}", "sin: 2 operands given, expected 1"),
    (HEAD + "%0: f64[2] = sin(%x)\nreturn %0}", r"written type f64\[2\], inferred type f64\[3\]"),
    (HEAD + "%0: f32[3] = sin(%x)\nreturn %0}", r"written type f32\[3\], inferred type f64\[3\]"),
    (HEAD + "%0: f64[3] = add(%x, %A)\nreturn %0}", r"add: operands have shapes \(3,\) and \(2, 3\)"),
    (HEAD + "%0: f64[3] = sin(%1)\n%1: f64[3] = cos(%x)\nreturn %0}", "%1 is used before it is defined"),
    (HEAD + "%0: f64[3] = sin(%x)\n%0: f64[3] = cos(%x)\nreturn %0}", "%0 is defined twice"),
    (HEAD + "%0: f64[3] = sin(%x)\n%1: f64[3] = sin(%x)\nreturn %1}", "%1 repeats an instruction above it"),
    (HEAD + "%0: f64[] = const() {dtype = \"f64\", shape = [], value = 1/0}\nreturn %0}", "a positive integer below"),
    (HEAD + "%0: f64[] = const() {dtype = \"f64\", shape = [], value = 1/n}\nreturn %0}", "a positive integer below"),
    (HEAD + '%0: f64[2] = contract(%A, %x) {spec = "ij,i->j"}\nreturn %0}', "label i has sizes 2 and 3"),
    (HEAD + '%0: f64[2] = contract(%A) {spec = "ij"}\nreturn %0}', "expected operands, then ->"),
    (HEAD + "%0: f64[2] = contract(%A)\nreturn %0}", "attribute 'spec' is missing"),
    (HEAD + "%0: f64[3] = softmax(%x) {axes = [0]}\nreturn %0}", r"expected rising numbers -1\.\.-1"),
    (HEAD + "%0: f64[4] = reshape(%x) {rank = 1, shape = [4]}\nreturn %0}", "expected equal numbers"),
    (HEAD + "%0: f64[3] = sin(%x) {a = ?}\nreturn %0}", "unexpected character '[?]'"),
    (HEAD + "%0: i64[2] = array() {value = array(i8, [2], \"00\")}\nreturn %0}", "malformed array"),
    (HEAD + "%0: i64[2] = array() {value = array(O, [2], \"00\")}\nreturn %0}", "malformed array"),
    (HEAD + "%0 f64[3] = sin(%x)\nreturn %0}", "expected ':'"),
    (HEAD + "0: f64[3] = sin(%x)\nreturn %0}", "expected a value such as %x or %0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_malformed_text_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        parse_function(text, OPSET)
    assert caught.value.text in (text, "")
    if text:
        assert "^" in str(caught.value)


def test_the_caret_stands_under_the_fault() -> None:
    text = "fn f(%x: f64[3]) {\n  %0: f64[3] = sinn(%x)\n  return %0\n}"
    with pytest.raises(ParseError) as caught:
        parse_function(text, OPSET)
    *_, line, mark = str(caught.value).split("\n")
    assert line[mark.index("^") :].startswith("sinn(%x)")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_text_is_refused_or_means_what_it_prints(seed: int) -> None:
    """One random change to a valid text: either a symdiff error or a program that reads back; never a crash."""
    chance = random.Random(seed)
    builder = Builder(OPSET)
    a = builder.handle(builder.param("A", float64(named("n"), 3)))
    y = einsum("ij->j", a).op("softmax", axes=(-1,)).op("slice", starts=(0,), steps=(2,), sizes=(2,)) * Fraction(1, 3)
    text = print_function(Function.of([a.value], [y.value]))
    for _ in range(25):
        at = chance.randrange(len(text))
        damaged = text[:at] + chance.choice(["", "%", "0", "]", ",", "-", "n", '"', "{", "->", "é"]) + text[at + 1 :]
        try:
            function = parse_function(damaged, OPSET)
        except SymdiffError:
            continue
        verify(function, OPSET)
        assert parse_function(print_function(function), OPSET) == function


WRONG = [
    "1", "-3", "True", "None", '"x"', "[]", "[1]", "[[1]]", "n", "1/2", '["a"]', "[9, 9, 9]", 'array(f8, [1], "00")',
]  # fmt: skip


@pytest.mark.parametrize("op", [op for op in OPSET.values() if op.name != "cast"], ids=lambda op: op.name)
def test_attributes_of_the_wrong_kind_are_refused(op: Op, rng: np.random.Generator) -> None:
    """Every attribute of every op replaced by values of other kinds: refused, or a program that reads back."""
    for arrays, attrs in op_cases(op, rng)[:2]:
        if not attrs:
            continue
        _, params, y = one_op(op, arrays, attrs)
        text = print_function(Function.of(params, [y]))
        for name, attribute in y.attrs:
            clause = re.search(rf"{name} = (\[[^]]*\]|[^,}}]*)", text)
            assert clause is not None, (name, attribute)
            for wrong in WRONG:
                damaged = text[: clause.start(1)] + wrong + text[clause.end(1) :]
                try:
                    function = parse_function(damaged, OPSET)
                except ParseError:
                    continue
                assert parse_function(print_function(verify(function, OPSET)), OPSET) == function


# -------------------------------------------------------------------- malformed programs
def _raw(op: str, args: tuple[Value, ...], kind: TensorType, **attrs: Any) -> Value:
    return Value(OPSET[op], args, tuple(sorted(attrs.items())), kind)


def _broken() -> list[tuple[Function, str]]:
    x, y = param("x", float64(3)), param("y", float64())
    sine = _raw("sin", (x,), float64(3))
    stray = _raw("cos", (x,), float64(3))
    alien = Value(type(OPSET["sin"])(**_fields("sin")), (x,), (), float64(3))
    return [
        (Function("f", [x, x], [], [x]), "parameter x is defined twice"),
        (Function("f", [sine], [], [sine]), "expected parameters"),
        (Function("f", [x], [sine, sine], [sine]), "instruction 1: sin is defined twice"),
        (Function("f", [x], [_raw("exp", (stray,), float64(3))], [x]), "operand 0 .* is used before it is defined"),
        (Function("f", [x], [], [sine]), "result 0 .* is not defined"),
        (Function("f", [x], [_raw("sin", (x,), float64(4))], [x]), r"written type f64\[4\], inferred type f64\[3\]"),
        (Function("f", [x, y], [_raw("add", (x, y), float64(3))], [x]), r"shapes \(3,\) and \(\)"),
        (Function("f", [x], [_raw("sin", (x, x), float64(3))], [x]), "2 operands, expected 1"),
        (Function("f", [x], [alien], [alien]), "op 'sin' is not in the op set"),
        (Function("f", [param("x", float64(-2))], [], []), "negative size"),
    ]


def _fields(name: str) -> dict[str, Any]:
    op = OPSET[name]
    return {"name": op.name, "infer": op.infer, "evaluate": op.evaluate, "rule": op.rule}


@pytest.mark.parametrize("number", range(len(_broken())))
def test_the_verifier_names_the_fault(number: int) -> None:
    function, message = _broken()[number]
    with pytest.raises(SymdiffError, match=message):
        verify(function, OPSET)


def test_the_verifier_shows_the_program_around_the_fault() -> None:
    x = param("x", float64())
    values = [x]
    for _ in range(20):
        values.append(_raw("sin", (values[-1],), float64()))
    values[12] = bad = _raw("exp", (values[11],), float64(2))
    values[13] = _raw("sin", (bad,), float64(2))
    with pytest.raises(VerifyError) as caught:
        verify(Function("f", [x], values[1:14], [values[13]]), OPSET)
    lines = str(caught.value).split("\n")
    assert "instruction 11: exp" in lines[0]
    assert [line for line in lines if line.startswith(">")] == ["> %11: f64[2] = exp(%10)"]
    assert len(lines) <= 13


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (TensorType("float", ()), "dtype 'float'"), (TensorType("f64", (2, -1)), "negative size"),
        (TensorType("f64", (), frozenset({"blue"})), "unknown fact 'blue'"),
        (TensorType("f64", (3,), frozenset({"diagonal"})), "diagonal needs a square matrix"),
        (TensorType("f64", (named("n"), named("m")), frozenset({"symmetric"})), "symmetric needs a square matrix"),
    ],
)  # fmt: skip
def test_types(kind: TensorType, message: str) -> None:
    with pytest.raises(SymdiffError, match=message):
        check_type(kind, "here")


# -------------------------------------------------------------------- building
def test_equal_terms_are_one_value() -> None:
    builder = Builder(OPSET)
    x, y = scalar(builder), scalar(builder, "y")
    assert (x * y).value is (x * y).value
    assert (x * y).value is not (y * x).value
    assert scalar(builder).value is x.value
    assert x.op("sin").op("exp").value is x.op("sin").op("exp").value
    assert x.op("cast", dtype="f32").value is not x.op("cast", dtype="i64").value
    assert builder.param("x", float64(2)) is not x.value


def test_values_of_several_builders_become_one_function() -> None:
    first, second = Builder(OPSET), Builder(OPSET)
    a = scalar(first).op("sin")
    b = scalar(second).op("sin").op("exp")
    function = Builder(OPSET).function([scalar(first).value], [a.value, second.inline(
        Function.of([scalar(second).value], [b.value]), [scalar(first).value])[b.value]])  # fmt: skip
    assert [v.op.name for v in function.instrs] == ["sin", "exp"]


def test_parameters_are_checked() -> None:
    builder = Builder(OPSET)
    x, y = scalar(builder), scalar(builder, "y")
    with pytest.raises(ArgumentError, match=r"y f64\[\] is used but not among the parameters \(x\)"):
        Function.of([x.value], [(x * y).value])
    with pytest.raises(ArgumentError, match="parameter x is listed twice"):
        Function.of([x.value, x.value], [x.value])
    with pytest.raises(ArgumentError, match=r"another x of type f64\[\] is meant"):
        Function.of([builder.param("x", float64(2))], [x.value])
    with pytest.raises(ArgumentError, match="parameter name 'a b'"):
        builder.param("a b", float64())


def test_handle_arithmetic_is_strict() -> None:
    builder = Builder(OPSET)
    x, v = scalar(builder), builder.handle(builder.param("v", float64(3)))
    with pytest.raises(ShapeError, match=r"shapes \(\) and \(3,\)"):
        x + v
    with pytest.raises(DtypeError, match="dtypes f64 and f32"):
        x * x.op("cast", dtype="f32")
    with pytest.raises(ArgumentError, match="sin: 2 operands given"):
        x.op("sin", x)


def test_order_is_depth_first_and_deterministic() -> None:
    builder = Builder(OPSET)
    x = scalar(builder)
    left, right = x.op("sin"), x.op("cos")
    both = left * right
    assert topological([both.value]) == [x.value, left.value, right.value, both.value]
    assert topological([right.value, both.value]) == [x.value, right.value, left.value, both.value]


def test_functions_list_their_dimensions() -> None:
    builder = Builder(OPSET)
    x = builder.handle(builder.param("x", float64(named("n"))))
    wide = einsum("i->ji", x, j=named("k") + 1)
    assert Function.of([x.value], [wide.value]).dims == ("n", "k")


# -------------------------------------------------------------------- contractions
@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("ab,bc->ac", "ij,jk->ik"), ("->zz", "->ii"), ("x->yx", "i->ji"), (",->", ",->"), ("_->i", "_->i"),
        ("ba->ab", "ij->ji"),
    ],
)  # fmt: skip
def test_labels_are_numbered_by_first_appearance(given: str, canonical: str) -> None:
    assert str(parse_spec(given)) == canonical
    assert parse_spec(str(parse_spec(given))) == parse_spec(given)


def test_no_operand_and_one_scalar_operand_are_different() -> None:
    assert parse_spec("->i") == Spec((), (0,))
    assert parse_spec("_->i") == Spec(((),), (0,))


def test_contractions_in_canonical_form() -> None:
    builder = Builder(OPSET)
    a = builder.handle(builder.param("A", float64(2, 3)))
    assert einsum("ij->ij", a).value is a.value
    assert einsum("ij,j->ij", a, a.const(1, (3,))).value is a.value
    assert einsum("ij,k->i", a, a.const(1, (4,))).value.attr("spec") == "ij,k->i"  # a sum of four ones stays
    assert einsum("ij,j->i", a, a.const(0, (3,))).value is builder.const(0, (2,))
    assert contract(builder, [], [], (0,), {0: 3}) is builder.const(1, (3,))
    assert identity(builder, ()) is builder.const(1)
    assert identity(builder, (2, 3)).attr("spec") == "->ijij"
    assert expand(a, (4, 2, 3)).shape == (4, 2, 3)
    x = scalar(builder)
    got = run([x.value], [expand(x, (2,)).value, einsum("->ii", x, i=2).value], [1.5])
    assert got[0].tolist() == [1.5, 1.5]
    assert got[1].tolist() == [[1.5, 0.0], [0.0, 1.5]]
    with pytest.raises(ShapeError, match="cannot broadcast"):
        expand(a, (2, 3, 4))
    with pytest.raises(ShapeError, match="label j has sizes 3 and 2"):
        einsum("ij,jk->ik", a, a)
