"""The text front end on wrong, hostile and huge input: our errors only, each with a caret, in linear time."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_text import SYMBOLS, VALUES, value_of

from symdiff.errors import ParseError, ShapeError, SymdiffError
from symdiff.frontend.expr import Expr, dims, symbol
from symdiff.frontend.grammar import postfix
from symdiff.frontend.text import METHODS, PROPERTIES, parse


# -------------------------------------------------------------------- errors
def fault(text, symbols=None, error=ParseError):
    """The first line of the message and what stands above and under the caret."""
    with pytest.raises(error) as caught:
        parse(text, SYMBOLS if symbols is None else symbols)
    message, line, under = str(caught.value).rsplit("\n", 2)
    assert under.strip() == "^"
    return message, line[2:], len(under) - 3


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "the text is empty"),
        ("   ", None, "empty"),
        ("x+", 1, "no right operand"),
        ("x*(y", 2, "never closed"),
        ("x+y)", 3, "closes nothing"),
        ("[x)", 2, "does not close"),
        ("x]", 1, "closes nothing"),
        ("x y", 2, "operator"),
        ("2x", 1, r"write 2\*x"),
        ("3j", 1, "complex"),
        ("x^2", 1, r"write \*\*"),
        ("x²", 1, r"\*\*2"),
        ("x − y", 2, "minus sign"),
        ("x·y", 1, "product"),
        ("‘ij’", 0, "quote"),
        ("x;y", 1, "one expression"),
        ("x = 2", 2, "=="),
        ("x := 2", 2, "assigned"),
        ("lambda z: z", 0, "lambda"),
        ("x if c else y", 2, "np.where"),
        ("x and y", 2, "&"),
        ("not c", 0, "~"),
        ("[z for z in x]", 3, "comprehensions"),
        ("import os", 0, "statement"),
        ("0 < x < 1", 6, "do not chain"),
        ("f(*x)", 2, "not unpacked"),
        ("sum(x, axis=)", 12, "expected"),
        ("sum(axis=0, x)", 13, "positional"),
        ("sum(x, axis=0, axis=1)", 15, "given twice"),
        ("x[", 1, "never closed"),
        ("x[]", 2, "subscript is missing"),
        ("x[1:2:3:4]", 7, "two colons"),
        ("x, y", 1, "comma"),
        ("(x:y)", 2, "colon"),
        ("{1}", 0, "sets and dictionaries"),
        ("'abc", 0, "not closed"),
        ("x.", 1, "name is expected"),
        ("2(x)", 1, r"\*"),
        ("1e999999", 0, "double precision"),
        ("zz+1", 0, "unknown name zz"),
        ("x + tahn(x)", 4, "did you mean .*tanh"),
        ("np.tahn(x)", 3, r"did you mean .*np\.tanh"),
        ("np.linalg.invv(S)", 10, r"np\.linalg\.inv"),
        ("__import__('os')", 0, "not available"),
        ("x.__class__", 2, "not available"),
        ("x.value", 2, "not available"),
        ("np.__builtins__", 3, "not available"),
        ("().__class__", 3, "no attribute"),
        ("'a'.format", 4, "no attribute"),
        ("np.load('f')", 3, "not available"),
        ("open('f')", 0, "unknown name open"),
        ("eval('1')", 0, "unknown name"),
        ("getattr(x, 'value')", 0, "unknown name"),
        ("x + 'a'", 2, "does not take the text"),
        ("x + [1, 2]", 2, "array"),
        ("x + sin", 2, "call it"),
        ("sin", 0, "the function sin"),
        ("np", 0, "the module np"),
        ("x(1)", 1, "not a function"),
        ("t*(W@x)(y)", 7, "not a function"),
        ("1/0", 1, "division by zero"),
        ("0**-1", 1, "division by zero"),
        ("(-8)**(1/3)*x", 4, "complex"),
        ("2**2**2**2**2*x", 1, "double"),
        ("10**400*x", 7, "double"),
        ("9" * 400, 0, "double"),
        ("x[0.5]", 1, "subscript"),
        ("x[x:]", 4, "slice"),
        ("(x, y)", 0, "2 values"),
        ("np.linalg.slogdet(S)", 17, "choose one"),
        ("[x, y]", 0, r"np\.array"),
        ("None", 0, "None"),
        ("sum()", 3, "sum"),
        ("sin(cos)", 3, "argument"),
        ("n[0]", 1, "dimension"),
        ("x.shape[3]", 7, "subscript"),
        ("x.tranpose()", 2, "did you mean transpose"),
        ("1.2.3", 3, "operator"),
        ("x @@ y", 3, "no right operand"),
        ("x $ y", 2, "LaTeX"),
        ("x\n+ zz", 2, "unknown name zz"),
        ("True + c @", 9, "right"),
        ("x ^ ", 2, r"\*\*"),
        ("@x", 0, "expected"),
        ("a⊙b", 1, "elementwise"),
        ("x#y", 1, "comments"),
        ("...", 0, "number"),
    ],
)
def test_errors_point_at_the_place(text, column, message):
    if column is None:
        with pytest.raises(ParseError, match=message):
            parse(text, SYMBOLS)
        return
    said, line, at = fault(text)
    assert re.search(message, said), said
    assert at == column, (said, line)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("x + y", 2),
        ("W @ y", 2),
        ("2*(W@x) - x", 8),
        ("x[0] + W*y", 8),
        ("np.linalg.inv(W)", 13),
        ("W.reshape(n, n)", 9),
        ("np.concatenate([W, x])", 14),
        ("t[0]", 1),
        ("x[0, 0]", 1),
        ("np.einsum('ij,j->i', W, y)", 9),
        ("x.sum(axis=3)", 5),
    ],
)
def test_errors_of_operations_point_at_the_operator(text, column):
    said, line, at = fault(text, error=SymdiffError)
    assert (line, at) == (text, column), said


def test_shape_errors_keep_their_class_and_name_the_shapes():
    with pytest.raises(ShapeError, match=r"\(n,\) and \(m,\)"):
        parse("x + y", SYMBOLS)


def test_long_lines_are_cropped_around_the_caret():
    text = "+".join(["x"] * 20_000) + "+zz+" + "+".join(["x"] * 20_000)
    said, line, at = fault(text)
    assert "unknown name zz" in said and len(line) < 140 and line[at : at + 2] == "zz"


# -------------------------------------------------------------------- size and hostility
@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000 + "x" + ")" * 50_000,
        "-" * 100_000 + "x",
        "+".join(["x"] * 50_000),
        "sin(" * 20_000 + "x" + ")" * 20_000,
        "x" + "[:]" * 20_000,
        "2**-" * 20_000 + "1",
        "*".join(["n"] * 20_000),
        "sum([" * 5_000,
        "(" * 100_000,
        "x" + ".T" * 30_000,
        "~" * 50_000 + "c",
        "x" + "**1" * 30_000,
        "1" + "/3*3" * 20_000,
        "zz" * 30_000,
        "é" * 50_000,
        "x " * 50_000,
    ],
    ids=lambda t: t[:8],
)
def test_long_and_deep_texts_end_without_recursion(text):
    try:
        result = parse(text, SYMBOLS)
        assert isinstance(result, Expr)
    except SymdiffError:
        pass


def test_deep_parentheses_mean_what_they_enclose():
    assert parse("(" * 10_000 + "x" + ")" * 10_000, SYMBOLS).value is SYMBOLS["x"].value
    np.testing.assert_allclose(value_of(parse("-" * 10_001 + "x", SYMBOLS)), -VALUES["x"])


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "(n+m)**16*(n+m)**16*((n+m+1)**16)**16", "((2**10000)**10000)", "1e4000*1e4000*x"]
)
def test_numbers_and_sizes_do_not_explode(text):
    with pytest.raises(SymdiffError):
        parse(text, {**SYMBOLS, "k": symbol("k", (*dims("a b c"),))})


def test_random_garbage_gives_our_errors_only():
    rng = np.random.default_rng(3)
    words = [
        "x",
        "W",
        "n",
        "2",
        "0.5",
        "(",
        ")",
        "[",
        "]",
        ",",
        ":",
        ".",
        "...",
        "+",
        "-",
        "*",
        "@",
        "**",
        "<",
        "~",
        "=",
        "sum",
        "np",
        ".T",
        "'ij'",
        "None",
        "axis",
        "==",
        "/",
        "t",
        "sin(",
        "[0]",
        "é",
        "\n",
        "if",
        "&",
        "//",
        "%",
    ]
    accepted = 0
    for _ in range(3000):
        text = "".join(rng.choice(words, size=rng.integers(1, 9)))
        try:
            parse(text, SYMBOLS)
            accepted += 1
        except SymdiffError as error:
            assert str(error)
    assert accepted > 50


def test_postfix_agrees_with_pythons_precedence():
    """Random operator strings over numbers, evaluated by Python's own parser and by our steps."""
    rng = np.random.default_rng(4)
    binary = ["+", "-", "*", "//", "%", "**", "<", "==", "&", "|"]
    symbols = {"v": symbol("v", (), "i64")}
    checked = 0
    for _ in range(400):
        text = ""
        for _ in range(rng.integers(1, 6)):
            sign = rng.choice(["", "", "-", "+"])
            text += sign + str(rng.integers(1, 4)) + str(rng.choice(binary[:6]))
        text += str(rng.integers(1, 3))
        try:
            want = eval(text, {"__builtins__": {}})
        except ZeroDivisionError:
            continue
        if isinstance(want, complex) or abs(want) > 1e15:
            continue
        got = value_of(parse(text, symbols))
        assert float(got) == pytest.approx(float(want), rel=1e-12), text
        checked += 1
    assert checked > 200
    assert [s.value for s in postfix("a<b|c&d+e@-f**-g") if s.action in ("binary", "unary")] == [
        "-",
        "**",
        "-",
        "@",
        "+",
        "&",
        "|",
        "<",
    ]


def test_every_listed_attribute_exists():
    x = SYMBOLS["W"]
    for name in (*PROPERTIES, *METHODS):
        assert hasattr(x, name), name
