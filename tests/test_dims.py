"""Dimensions: algebra, floor division, text, and refusal where a number is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from symdiff.errors import ArgumentError, ParseError, ShapeError, SymbolicSizeError
from symdiff.ir.dims import (
    Dim,
    Size,
    at_least,
    evaluate,
    format_shape,
    named,
    parse_size,
    product,
    size_names,
)

NAMES = ("m", "n", "k")
n, m = named("n"), named("m")
Meaning = Callable[[Mapping[str, int]], int]


@st.composite
def sizes_with_meaning(draw: Callable[[Any], Any]) -> tuple[Size, Meaning]:
    """A size, and what it should be at given numbers, made by the same steps on plain integers."""
    size: Size = named(draw(st.sampled_from(NAMES)))
    name = str(size)
    meaning: Meaning = lambda at: at[name]  # noqa: E731
    for _ in range(draw(st.integers(0, 5))):
        size, meaning = _grown(draw, size, meaning)
    return size, meaning


def _grown(draw: Callable[[Any], Any], size: Size, meaning: Meaning) -> tuple[Size, Meaning]:
    step = draw(st.sampled_from("+-r*n/s"))
    number = draw(st.integers(-4, 5))
    name = draw(st.sampled_from(NAMES))
    other = named(name)
    divisor = draw(st.sampled_from([-3, -2, 2, 3, 4]))
    table: dict[str, tuple[Callable[[], Size], Meaning]] = {
        "+": (lambda: size + number, lambda at: meaning(at) + number),
        "-": (lambda: size - other, lambda at: meaning(at) - at[name]),
        "r": (lambda: number - size, lambda at: number - meaning(at)),
        "*": (lambda: size * other, lambda at: meaning(at) * at[name]),
        "n": (lambda: size * number, lambda at: meaning(at) * number),
        "/": (lambda: size // divisor, lambda at: meaning(at) // divisor),
        "s": (lambda: size * size, lambda at: meaning(at) ** 2),
    }
    make, means = table[step]
    made = make()
    if isinstance(made, Dim) and len(made.terms) > 12:
        return size, meaning
    return made, means


AT = st.fixed_dictionaries({name: st.integers(-20, 40) for name in NAMES})


@examples(100)
@given(sizes_with_meaning(), AT)
def test_every_expression_means_what_it_says(pair: tuple[Size, Meaning], at: dict[str, int]) -> None:
    size, meaning = pair
    assert evaluate(size, at) == meaning(at), size


@examples(100)
@given(sizes_with_meaning())
def test_text_reads_back(pair: tuple[Size, Meaning]) -> None:
    size, _ = pair
    assert parse_size(str(size)) == size
    assert str(parse_size(str(size))) == str(size)


@examples(100)
@given(sizes_with_meaning(), AT)
def test_text_is_a_python_expression(pair: tuple[Size, Meaning], at: dict[str, int]) -> None:
    """Generated source code contains sizes as they print."""
    size, meaning = pair
    assert eval(str(size), {"__builtins__": {}}, dict(at)) == meaning(at), size


@examples(100)
@given(sizes_with_meaning(), sizes_with_meaning(), sizes_with_meaning())
def test_ring_laws(x: tuple[Size, Meaning], y: tuple[Size, Meaning], z: tuple[Size, Meaning]) -> None:
    a, b, c = x[0], y[0], z[0]
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert a + 0 == a
    assert a * 1 == a
    assert a * 0 == 0
    assert 0 - (0 - a) == a
    assert hash(a + b) == hash(b + a)


@examples(100)
@given(sizes_with_meaning(), AT)
def test_substituting_names_one_at_a_time(pair: tuple[Size, Meaning], at: dict[str, int]) -> None:
    size, meaning = pair
    for name, number in at.items():
        size = size if isinstance(size, int) else size.substitute({name: number})
    assert size == meaning(at)


@examples(100)
@given(sizes_with_meaning(), sizes_with_meaning(), AT)
def test_substituting_a_size_for_a_name(
    x: tuple[Size, Meaning], y: tuple[Size, Meaning], at: dict[str, int]
) -> None:
    size, other = x[0], y[0]
    if isinstance(size, Dim):
        inside = {**at, "n": evaluate(other, at)}
        assert evaluate(size.substitute({"n": other}), at) == x[1](inside)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (n, "n"), (n * m + 1, "m*n + 1"), (n * n - n, "n**2 - n"), ((n * n - n) // 2, "(n**2 - n)//2"),
        ((n + 1) // 2, "((n + 1)//2)"), ((n + 3) // 2, "((n + 1)//2) + 1"), (2 * n // 2, "n"), (-n, "-n"),
        (3 - 2 * n, "-2*n + 3"), ((n * (n + 1) * (n + 2)) // 6, "(n**3 + 3*n**2 + 2*n)//6"),
        ((n // 2) * 2, "2*((n)//2)"), ((4 * n + 6) // 2, "2*n + 3"), ((2 * n + 1) // 2, "n"),
        ((4 * n + 7) // 2, "2*n + 3"), (n // -2, "-n + ((n)//2)"),
    ],
)  # fmt: skip
def test_text(size: Size, text: str) -> None:
    assert str(size) == text


def test_constants_are_plain_integers() -> None:
    assert type(n - n) is int
    assert type(n - n + 3) is int
    assert type((n + 2) - n) is int
    assert (n * 0) == 0
    assert n**0 == 1


def test_equality_is_of_polynomials() -> None:
    assert n * (n + 1) == n * n + n
    assert n != m
    assert n != 1
    assert (n + m) ** 2 == n**2 + 2 * n * m + m**2
    assert (n + 5) // 3 - 1 == (n + 2) // 3
    assert {n * m: 1}[m * n] == 1


def test_integer_valued_polynomials_divide_exactly() -> None:
    """n(n+1)/2 is an integer for every n, so dividing leaves no floor; n(n+2)/2 is not."""
    assert (n * (n + 1)) // 2 * 2 == n * n + n
    assert (n * (n + 2)) // 2 * 2 != n * n + 2 * n
    assert (n * (n + 1) * (2 * n + 1)) // 6 * 6 == 2 * n**3 + 3 * n**2 + n
    assert ((n * n * m * (m - 1)) // 2) * 2 == n * n * m * m - n * n * m


def test_a_number_is_never_guessed() -> None:
    for act in (lambda: n < 3, lambda: bool(n), lambda: range(n), lambda: int(n), lambda: [0][n], lambda: max(n, 2)):
        with pytest.raises(SymbolicSizeError, match=r"dimension n has only a name|comparing"):
            act()
    with pytest.raises(ShapeError, match=r"no size is known for n; sizes given: {'m': 2}"):
        evaluate(n * m, {"m": 2})
    with pytest.raises(ArgumentError, match="divides by a non-zero integer only"):
        n // 0
    with pytest.raises(ArgumentError, match="divides by a non-zero integer only"):
        n // m
    with pytest.raises(SymbolicSizeError):
        float(n)


@pytest.mark.parametrize("name", ["", "2n", "lambda", "a b", "n-1"])
def test_names_are_identifiers(name: str) -> None:
    with pytest.raises(ArgumentError, match="expected an identifier"):
        named(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n +", "ends too early"), ("(n", "a [)] is missing"), ("n $ m", "unexpected character"),
        ("n m", "unexpected 'm'"), ("n // m", "takes an integer"), ("*n", "unexpected"), ("", "ends too early"),
        ("n ** m", "takes an integer"), ("2 // 0", "// 0 is refused"), ("n*m**k", "small integer"),
        ("9**123456789", "is refused"), ("n*9**123456789", "small integer"),
    ],
)  # fmt: skip
def test_malformed_text(text: str, message: str) -> None:
    with pytest.raises((ParseError, ArgumentError), match=message):
        parse_size(text)


@examples(100)
@given(st.text(alphabet="mn012+-*/() ", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except (ParseError, ArgumentError):
        return
    assert parse_size(str(size)) == size


def test_products_names_and_shapes() -> None:
    assert product((n, 2, m)) == 2 * m * n
    assert product(()) == 1
    assert size_names((n * m, 3, (named("k") + 1) // 2)) == {"k", "m", "n"}
    assert format_shape((m, n)) == "(m, n)"
    assert format_shape((n + 1,)) == "(n + 1,)"
    assert format_shape(()) == "()"


@pytest.mark.parametrize(
    "size, limit, certain",
    [("n", "0", True), ("n", "1", False), ("n + 1", "1", True), ("n*m + n", "n", True), ("n - m", "0", False),
     ("-n", "0", False), ("3", "4", False), ("4", "4", True), ("2*n + m//2", "n", True), ("n - m//2", "0", False),
     ("(n + 1)//2", "0", True), ("(n - 1)//2", "0", False), ("n*((m - 1)//2)", "0", False), ("n", "m//2", False)],
)  # fmt: skip
def test_what_is_certain_of_a_size(size: str, limit: str, certain: bool) -> None:
    a, b = parse_size(size), parse_size(limit)
    assert at_least(a, b) is certain
    numbers = [{"n": i, "m": j} for i in range(5) for j in range(5)]
    assert certain == all(evaluate(a, at) >= evaluate(b, at) for at in numbers)


def test_arithmetic_with_other_numbers_is_the_front_ends() -> None:
    """Without a front end a dimension is no number; 0.5 * n must not become an integer silently."""
    before = Dim._lift
    Dim._lift = None
    try:
        for act in (lambda: n * 0.5, lambda: n / 2, lambda: 1 / n, lambda: n + Fraction(1, 2), lambda: 2**n):
            with pytest.raises(SymbolicSizeError):
                act()
    finally:
        Dim._lift = before
