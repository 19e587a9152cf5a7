"""`sd.scan`: what it is called with and refuses, its op, its text, its values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import symdiff as sd
from symdiff.api.sparse_plans import direct_forms
from symdiff.cost import count
from symdiff.frontend.trace import trace
from symdiff.interp import interpret
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, Value, loop_key
from symdiff.ir.text import parse_function, print_function
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

n, m = sd.dims("n m")


def function_of(*expressions: Any) -> Function:
    builder = Builder(OPSET)
    mapping = builder.absorb([e.value for e in expressions])
    values = [mapping[e.value] for e in expressions]
    params = sorted({p for v in values for p in sd.Expression(v).function().params}, key=lambda p: p.name)
    return Function.of([builder.adopt(p) for p in params], values)


def numbers(*expressions: Any, **values: Any) -> list[Any]:
    function = function_of(*expressions)
    return list(interpret(function, [values[p.name] for p in function.params]))


# -------------------------------------------------------------------- values
def cell(W: Any, U: Any) -> Any:
    def step(h: Any, x: Any) -> tuple[Any, Any]:
        return np.tanh(W @ h + U @ x), np.sum(h * h)

    return step


def looped(f: Any, init: Any, xs: Any, length: int, reverse: bool = False) -> tuple[Any, Any]:
    """The meaning, in plain Python."""
    carry, ys = init, []
    for t in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, xs[t])
        ys.append(y)
    return carry, np.stack(ys[::-1] if reverse else ys) if ys else None


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 6])
def test_it_is_the_loop(length: int, reverse: bool, rng: np.random.Generator) -> None:
    W, U, h0 = sd.symbol("W", (m, m)), sd.symbol("U", (m, 2)), sd.symbol("h0", (m,))
    x = sd.symbol("x", (n, 2))
    last, ys = sd.scan(cell(W, U), h0, x, reverse=reverse)
    assert last.shape == (m,) and ys.shape == (n,)
    at = {"W": rng.normal(size=(3, 3)), "U": rng.normal(size=(3, 2)), "h0": rng.normal(size=3),
          "x": rng.normal(size=(length, 2))}  # fmt: skip
    got = numbers(last, ys, **at)
    want = looped(cell(at["W"], at["U"]), at["h0"], at["x"], length, reverse)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
    assert got[1].shape == (length,) and got[1].dtype == np.float64
    if length:
        np.testing.assert_allclose(got[1], want[1], rtol=1e-13)


class Pair(NamedTuple):
    a: Any
    b: Any


def test_any_nesting() -> None:
    def step(carry: Any, x: Any) -> Any:
        return {"p": Pair(carry["p"].b, carry["p"].a + x["u"]), "n": None, "k": [carry["k"][0] + 1]}, (x["v"], None)

    x = {"u": sd.symbol("u", (n,)), "v": sd.symbol("v", (n, 2))}
    last, (v, none) = sd.scan(step, {"p": Pair(0.0, 1), "n": None, "k": [0]}, x)
    assert none is None and isinstance(last["p"], Pair) and last["n"] is None
    assert last["p"].a.dtype == "f64" and last["p"].b.dtype == "f64" and last["k"][0].dtype == "i64"
    table = np.arange(6.0).reshape(3, 2)
    got = numbers(last["p"].a, last["p"].b, last["k"][0], v, u=np.array([1.0, 2.0, 4.0]), v=table)
    assert [float(g) for g in got[:3]] == [3.0, 5.0, 3.0]
    assert np.array_equal(got[3], table)


def test_numbers_give_numbers() -> None:
    last, ys = sd.scan(lambda c, x: (c + x, c * x), 0, np.arange(4.0))
    assert isinstance(last, float) and last == 6.0 and np.array_equal(ys, [0.0, 0.0, 2.0, 9.0])
    last, ys = sd.scan(lambda c, _: (2 * c, c), 1, length=5)
    assert last == 32 and np.array_equal(ys, [1, 2, 4, 8, 16]) and ys.dtype == np.int64
    last, ys = sd.scan(lambda c, x: (c, x > 1), np.float32(1), np.arange(3, dtype=np.float32))
    assert last.dtype == np.float32 and np.array_equal(ys, [False, False, True])
    assert sd.scan(lambda c, x: (c, None), {}, np.ones(3)) == ({}, None)


class Five:
    """An integer, as Python sees it."""

    def __index__(self) -> int:
        return 5


@pytest.mark.parametrize("length", [np.int64(5), np.uint8(5), np.array(5), Five(), sd.array(5)])
def test_any_index_is_a_length(length: Any) -> None:
    last, ys = sd.scan(lambda c, _: (2 * c, c), 1, length=length)
    assert last == 32 and np.array_equal(ys, [1, 2, 4, 8, 16])
    h = sd.symbol("h")
    assert sd.scan(lambda c, _: (2 * c, c), h, length=length)[1].shape == (5,)
    with pytest.raises(sd.ShapeError, match="length is 5"):
        sd.scan(lambda c, a: (c * a, None), h, x, length=length)


@pytest.mark.parametrize(
    "length", [5.0, np.float64(5), True, np.bool_(True), "5", np.array([5, 5]), sd.symbol("k", (), "i64")]
)
def test_what_is_no_index_is_no_length(length: Any) -> None:
    for init in (1, sd.symbol("h")):
        with pytest.raises(sd.ArgumentError, match=r"scan: length: .* expected an integer or a dimension"):
            sd.scan(lambda c, _: (2 * c, c), init, length=length)


def test_a_step_closes_over_symbols_of_any_name(rng: np.random.Generator) -> None:
    h, x, xs = sd.symbol("h"), sd.symbol("x"), sd.symbol("xs", (n,))
    last, _ = sd.scan(lambda h_, x_: (h_ * h + x_ * x, None), 1.0, xs)

    def step(h: Any, x: Any) -> Any:  # the same names for the carry and the slice
        return h * outer + x * slope, None

    outer, slope = h, x
    named, _ = sd.scan(step, 1.0, xs)
    at = {"h": 0.5, "x": 3.0, "xs": rng.normal(size=4)}
    want = looped(lambda c, z: (c * 0.5 + 3.0 * z, 0.0), 1.0, at["xs"], 4)[0]
    for got in numbers(last, named, **at):
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_what_no_step_changes_is_computed_before_the_loop() -> None:
    W, b, x = sd.symbol("W", (m, m)), sd.symbol("b", (m,)), sd.symbol("x", (n, 4, m))
    last, _ = sd.scan(lambda c, r: (np.tanh(c @ np.exp(W) + b + 1.5), None), np.zeros((4, 2)) @ sd.ones((2, m)), x)
    body = last.value.attr("body")
    assert [v.op.name for v in last.value.args] == ["const", "param", "exp", "param"]
    assert [p.name for p in body.params] == ["c", "r", "C", "b"]
    assert not any(v.op.name == "exp" for v in body.instrs)
    assert body.params[3].type.shape == (m,)  # broadcast inside


def test_scan_in_scan(rng: np.random.Generator) -> None:
    A, w = sd.symbol("A", (n, m)), sd.symbol("w", (m,))

    def row(total: Any, a: Any) -> Any:
        inner, partial = sd.scan(lambda s, x: (s * w[0] + x[0] * x[1] + total, s), total, (a, w))
        return inner / 2, partial

    last, ys = sd.scan(row, 0.0, A)
    assert ys.shape == (n, m)
    at = {"A": rng.normal(size=(3, 4)), "w": rng.normal(size=4)}
    total, want = 0.0, np.empty((3, 4))
    for i in range(3):
        s = total
        for j in range(4):
            want[i, j], s = s, s * at["w"][0] + at["A"][i, j] * at["w"][j] + total
        total = s / 2
    got = numbers(last, ys, **at)
    np.testing.assert_allclose(got[0], total, rtol=1e-12)
    np.testing.assert_allclose(got[1], want, rtol=1e-12)


def test_picks_of_one_loop_run_once() -> None:
    x = sd.symbol("x", (n,))
    last, ys = sd.scan(lambda c, a: (c * a, c + a), 1.0, x)
    seen: list[Value] = []
    function = function_of(last, ys)
    interpret(function, [np.arange(1.0, 6.0)], watch=lambda value, operands, result: seen.append(value))
    assert [v.op.name for v in seen].count("mul") == 5
    assert len({loop_key(v) for v in function.results}) == 1


def test_trails() -> None:
    x = sd.symbol("x", (n,))
    last, _ = sd.scan(lambda c, a: (c * a, None), 1.0, x)
    for reverse, want in ((False, [1.0, 2.0, 6.0]), (True, [12.0, 4.0, 1.0])):
        attrs = {**dict(last.value.attrs), "pick": 1, "reverse": reverse}
        trail = sd.Expression(OPSET["scan"](*[Builder(OPSET).handle(a) for a in last.value.args], **attrs).value)
        assert np.array_equal(numbers(trail, x=np.array([2.0, 3.0, 4.0]))[0], want)


def test_a_long_loop_and_a_long_body() -> None:
    x = sd.symbol("x", (n,))

    def step(c: Any, a: Any) -> Any:
        for _ in range(3000):
            c = np.sin(c + a)
        return c, None

    last, _ = sd.scan(step, 0.0, x)
    assert np.isfinite(numbers(last, x=np.full(3, 0.5))[0])
    total, _ = sd.scan(lambda c, a: (c + a, None), 0.0, x)
    assert numbers(total, x=np.ones(5000))[0] == 5000


# -------------------------------------------------------------------- traced functions
def test_traced_functions_scan(rng: np.random.Generator) -> None:
    def f(p: Any, x: Any) -> Any:
        last, ys = sd.scan(lambda h, a: (np.tanh(p["W"] @ h + a), h[0]), np.zeros(x.shape[1]), x)
        return last, ys

    W, x = rng.normal(size=(3, 3)), rng.normal(size=(5, 3))
    traced = trace(f, ({"W": W}, x))
    assert len(traced.function.dims) == 1  # the length is a dimension; np.zeros needs the other size as a number
    got = interpret(traced.function, [W, x])
    want = looped(lambda h, a: (np.tanh(W @ h + a), h[0]), np.zeros(3), x, 5)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-12)


def test_lengths_that_are_equal_only_as_numbers() -> None:
    def f(x: Any, y: Any) -> Any:
        return sd.scan(lambda c, a: (c + a[0] * a[1], None), 0.0, (x[1:], y))[0]

    traced = trace(f, (np.ones(5), np.ones(4)))
    assert interpret(traced.function, [np.ones(5), np.ones(4)])[0] == 4


# -------------------------------------------------------------------- refusals
x, y, h = sd.symbol("x", (n,)), sd.symbol("y", (m,)), sd.symbol("h", (m,))
NO_FUNCTION: Any = 3
REFUSED: list[tuple[str, Any, type[Exception], str]] = [
    ("no function", lambda: sd.scan(NO_FUNCTION, 0.0, x), sd.ArgumentError, "given 3 as the step"),
    ("no pair", lambda: sd.scan(lambda c, a: c, 0.0, x), sd.ArgumentError, r"expected a pair \(carry, y\)"),
    ("three", lambda: sd.scan(lambda c, a: (c, a, a), 0.0, x), sd.ArgumentError, "the step returned 3 items"),
    ("shape", lambda: sd.scan(lambda c, a: (c * h, None), 0.0, x), sd.ShapeError,
     r"the carry c has shape \(\) and the step returns it with shape \(m,\)"),
    ("dtype", lambda: sd.scan(lambda c, a: (c + a, None), np.int64(0), x), sd.DtypeError,
     "the carry c has dtype i64 and the step returns it with dtype f64"),
    ("narrow", lambda: sd.scan(lambda c, a: (c.astype("f32"), None), h, x), sd.DtypeError, "dtype f64 .* dtype f32"),
    ("nesting", lambda: sd.scan(lambda c, a: ({"a": c[0]}, None), (h,), x), sd.ArgumentError,
     r"goes into the step as \(\*,\) and comes out as \{'a': \*\}"),
    ("lengths", lambda: sd.scan(lambda c, a: (c, None), 0.0, (x, y)), sd.ShapeError,
     "the first axis of a_1 has length m, that of a_0 n"),
    ("length given", lambda: sd.scan(lambda c, a: (c, None), 0.0, x, length=3), sd.ShapeError,
     "the first axis of a has length n, length is 3"),
    ("no length", lambda: sd.scan(lambda c, a: (c, None), 0.0), sd.ArgumentError, "give length="),
    ("negative", lambda: sd.scan(lambda c, a: (c, None), 0.0, length=-1), sd.ArgumentError, "length -1"),
    ("fraction", lambda: sd.scan(lambda c, a: (c, None), 0.0, length=2.5), sd.ArgumentError, "length: 2.5"),
    ("scalar xs", lambda: sd.scan(lambda c, a: (c, None), 0.0, sd.symbol("s")), sd.ShapeError, r"xs \(a\) is a scalar"),
    ("text", lambda: sd.scan(lambda c, a: (c, "y"), 0.0, x), sd.DtypeError, "the y that the step returns: 'y'"),
    ("text carry", lambda: sd.scan(lambda c, a: ("c", a), 0.0, x), sd.DtypeError, "the carry c that the step returns"),
    ("branch", lambda: sd.scan(lambda c, a: (c if a > 0 else -c, None), 0.0, x), sd.UnsupportedError, "np.where"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


ATTRS: list[tuple[str, dict[str, Any], str]] = [
    ("body", {"body": 3}, "body is 3, expected a function"),
    ("pick", {"pick": 3}, "pick 3, expected less than 3: 1 carries, as many trails, 1 step outputs"),
    ("carries", {"carries": -1}, "carries is -1"),
    ("many", {"carries": 2}, "2 carries and 1 slices, but 2 operands"),
    ("length", {"length": m}, r"has shape \(n,\), expected a first axis of length m"),
    ("no size", {"length": 2.0}, "length is 2.0, expected a size"),
    ("reverse", {"reverse": 1}, "reverse is 1"),
]


@pytest.mark.parametrize(("changed", "message"), [a[1:] for a in ATTRS], ids=[a[0] for a in ATTRS])
def test_the_op_refuses(changed: dict[str, Any], message: str) -> None:
    last, _ = sd.scan(lambda c, a: (c * a, c), 1.0, x)
    attrs = {**dict(last.value.attrs), "pick": 2, **changed}
    if changed == {"pick": 3}:
        attrs["pick"] = 3
    with pytest.raises(sd.SymdiffError, match=message):
        OPSET["scan"](*[Builder(OPSET).handle(a) for a in last.value.args], **attrs)


def test_bodies_have_their_types() -> None:
    text = """fn f(%c: f64[m], %x: f64[n]) {{
      %0: f64[m] = scan(%c, %x) {{body = fn step(%c: {0}, %x: {1}) {{
        return {2}
      }}, carries = 1, length = n, pick = 0, reverse = False, slices = 1}}
      return %0
    }}"""
    parse_function(text.format("f64[m]", "f64[]", "%c, %x"), OPSET)
    for parts, message in (
        (("f64[n]", "f64[]", "%c"), r"the carry c, has shape \(m,\) in a step, in the body \(n,\)"),
        (("f32[m]", "f64[]", "%c"), "has dtype f64, in the body f32"),
        (("f64[m]", "f64[]", "%x"), r"carry 0 \(c\) is f64\[m\] before a step and f64\[\] after it"),
        (("f64[m]", "f64[n]", "%c"), "the slice x, has shape"),
        (("f64[m]{positive}", "f64[]", "%c"), "parameters of a body have none"),
    ):
        with pytest.raises(sd.ParseError, match=message):
            parse_function(text.format(*parts), OPSET)


# -------------------------------------------------------------------- text
def test_round_trip() -> None:
    W, A = sd.symbol("W", (m, m)), sd.symbol("A", (n, 3, m))

    def row(total: Any, a: Any) -> Any:
        inner, _ = sd.scan(lambda s, v: (np.tanh(W @ s + v), None), total, a, reverse=True)
        return inner, (inner[0] > 0, inner)

    last, (positive, values) = sd.scan(row, h, A)
    function = function_of(last, positive, values)
    verify(function, OPSET)
    again = parse_function(print_function(function), OPSET)
    assert again == function and print_function(again) == print_function(function)
    verify(again, OPSET)
    assert set(function.dims) == {"m", "n"}
    assert len({loop_key(v) for v in again.instrs if v.op.picks}) == 1


def test_golden_text() -> None:
    last, _ = sd.scan(lambda s, a: (0.5 * s + a, None), 0.0, x)
    assert print_function(function_of(last)) == """\
fn f(%x: f64[n]) {
  %0: f64[] = const() {dtype = "f64", shape = [], value = 0}
  %1: f64[] = scan(%0, %x) {body = fn step(%s: f64[], %a: f64[]) {
    %0: f64[] = const() {dtype = "f64", shape = [], value = 1/2}
    %1: f64[] = mul(%0, %s)
    %2: f64[] = add(%1, %a)
    return %2
  }, carries = 1, length = n, pick = 0, reverse = False, slices = 1}
  return %1
}"""


def test_the_verifier_looks_into_bodies() -> None:
    last, _ = sd.scan(lambda s, a: (0.5 * s + a, None), 0.0, x)
    function = function_of(last)
    loop = function.instrs[-1]
    body = loop.attr("body")
    broken = Function("step", body.params, body.instrs[:-2], body.results)
    attrs = tuple((k, broken if k == "body" else v) for k, v in loop.attrs)
    made = Value(loop.op, loop.args, attrs, loop.type)
    with pytest.raises(sd.VerifyError, match="function step: result 0"):
        verify(Function("f", function.params, [*function.instrs[:-1], made], [made]), OPSET)


# -------------------------------------------------------------------- cost
def test_a_loop_costs_its_body_times_its_length() -> None:
    W = sd.symbol("W", (m, m))
    last, ys = sd.scan(lambda s, a: (np.tanh(W @ s) * a, s), h, x)
    bill = count(function_of(last, ys))
    assert str(bill.multiply) == "m**2*n + m*n" and str(bill.add) == "m**2*n - m*n"
    assert str(bill.transcendental["tanh"]) == "m*n"
    assert str(bill.move) == "m*n"  # s is stacked


# -------------------------------------------------------------------- undefined functions of a step
def test_an_undefined_function_of_a_step_has_no_value() -> None:
    """Everything that would compute a number of constants sees it: numbers, indices, patterns, random points."""
    g, P = sd.function("g"), sd.symbol("P", (n, 3))

    def nested(h: Any, a: Any) -> Any:
        return sd.scan(lambda s, b: (g(s * b), None), h, np.arange(2.0) + a)[0], h

    last, ys = sd.scan(nested, 1.0, np.arange(3.0))
    assert isinstance(last, sd.Expression) and isinstance(ys, sd.Expression)
    with pytest.raises(sd.UnsupportedError, match="is symbolic"):
        float(last)
    one, same, other = (
        sd.scan(step, 1.0, x)[0]
        for step in (lambda h, a: (g(h * a), None), lambda h, a: (g(a * h), None), lambda h, a: (g(h) * a, None))
    )
    assert sd.verify(one, same) and not sd.verify(one, other)
    chosen = np.where(last > 0, P, P[::-1])[:, 0]
    assert sd.sparse_jacobian(chosen, [P], [P]).pattern({"n": 4}).nnz == 8
    gathered = sd.sparse_jacobian(P[:, np.floor(ys).astype("i64")], [P], [P])
    assert direct_forms(gathered.function, [0], symmetric=False, transposed=False)
    assert gathered.pattern({"n": 4}).nnz == 4 * 3 * 3


def test_a_step_reads_slices_of_the_last_axes_of_a_symbol():
    """A slice names the axes from its first on; the step's constant has a name all the same."""
    A, x = sd.symbol("A", (2, 3)), sd.symbol("x", (4,))
    part = sd.vmap(lambda row: row[1:2])(A)
    last, _ = sd.scan(lambda s, t: (s + t * part, None), part * 0, x)
    np.testing.assert_allclose(sd.compile(last, [A, x])(np.ones((2, 3)), np.arange(4.0)), np.full((2, 1), 6.0))
