"""Elementwise identities, as data. Each makes its left side shorter or gives it the form its neighbours have."""

from __future__ import annotations

from fractions import Fraction

from symdiff.simplify.match import Rule, lift, op, var

x, y, e = var("x"), var("y"), var("e")

EXPONENTIAL = [
    Rule("exp of log", op("exp", op("log", x)), x, when=(("positive", "x"),)),
    Rule("log of exp", op("log", op("exp", x)), x),
    Rule("softplus", op("log", 1 + op("exp", x)), op("softplus", x)),
    Rule("softplus by log1p", op("log1p", op("exp", x)), op("softplus", x)),
    Rule("exp of 0", op("exp", 0), lift(1)),
    Rule("log of 1", op("log", 1), lift(0)),
]

SIGMOID = [
    Rule("sigmoid", 1 / (1 + op("exp", x)), 1 - op("sigmoid", x)),
    Rule("exp times sigmoid", op("exp", x) * (1 - op("sigmoid", x)), op("sigmoid", x)),
    Rule("exp of minus times sigmoid", op("exp", -x) * op("sigmoid", x), 1 - op("sigmoid", x)),
    Rule("exp times sigmoid, squared", op("exp", 2 * x) * (1 - op("sigmoid", x)) ** 2, op("sigmoid", x) ** 2),
    Rule("exp of minus times sigmoid, squared", op("exp", -2 * x) * op("sigmoid", x) ** 2, (1 - op("sigmoid", x)) ** 2),
    Rule("sigmoid of minus", op("sigmoid", -x), 1 - op("sigmoid", x), when=(("negated", "x"),)),
    Rule("sigmoid of 0", op("sigmoid", 0), lift(Fraction(1, 2))),
]

HYPERBOLIC = [
    Rule("tanh", op("sinh", x) / op("cosh", x), op("tanh", x)),
    Rule("sinh of tanh", op("tanh", x) * op("cosh", x), op("sinh", x)),
    Rule("cosh squared minus sinh squared", op("cosh", x) ** 2 - op("sinh", x) ** 2, lift(1)),
    Rule("tanh of 0", op("tanh", 0), lift(0)),
    Rule("sinh of 0", op("sinh", 0), lift(0)),
    Rule("cosh of 0", op("cosh", 0), lift(1)),
]

TRIGONOMETRIC = [
    Rule("sin squared plus cos squared", op("sin", x) ** 2 + op("cos", x) ** 2, lift(1)),
    Rule("1 minus sin squared", 1 - op("sin", x) ** 2, op("cos", x) ** 2),
    Rule("1 minus cos squared", 1 - op("cos", x) ** 2, op("sin", x) ** 2),
    Rule("tan", op("sin", x) / op("cos", x), op("tan", x)),
    Rule("sin of tan", op("tan", x) * op("cos", x), op("sin", x)),
    Rule("sin of 0", op("sin", 0), lift(0)),
    Rule("cos of 0", op("cos", 0), lift(1)),
]

ODD = ("sin", "tan", "sinh", "tanh", "arcsin", "arctan", "arcsinh", "arctanh", "erf", "cbrt", "sign")

PARITY = [
    Rule(f"{name} is odd", op(name, -x), -op(name, x), when=(("negated", "x"),)) for name in ODD
] + [Rule(f"{name} is even", op(name, -x), op(name, x), when=(("negated", "x"),)) for name in ("cos", "cosh")]

KINKS = [
    Rule("sign of positive", op("sign", x), lift(1), when=(("positive", "x"),)),
    Rule("sign times argument", op("sign", x) * x, op("abs", x)),
    Rule("sign squared", op("sign", x) ** 2, lift(1), when=(("generic", "x"),), almost=True),
    Rule("sign squared, at zero", op("sign", x) ** 2, op("cast", op("ne", x, 0))),
    Rule("sign times absolute value", op("sign", x) * op("abs", x), x),
    Rule("argument over absolute value", x / op("abs", x), op("sign", x), almost=True),
    Rule("relu of nonnegative", op("relu", x), x, when=(("nonnegative", "x"),)),
    Rule("relu by maximum", op("maximum", x, 0), op("relu", x)),
    Rule("relu by maximum, turned", op("maximum", 0, x), op("relu", x)),
    # A mask over what vanishes with it is dropped where all that it guards is finite; elsewhere it stays, and what it
    # masks is written without a function that does the same.
    *[
        Rule(f"{name} where {word}", op(name, x) * op("cast", op(c, x, 0)), op(name, x), unguarded=True)
        for name, c, word in (
            ("relu", "gt", "positive"),
            ("relu", "ge", "not negative"),
            ("relu", "ne", "not zero"),
            ("abs", "ne", "not zero"),
            ("sign", "ne", "not zero"),
        )
    ],
    Rule("argument where not zero", x * op("cast", op("ne", x, 0)), x, unguarded=True),
    Rule("argument where positive", x * op("cast", op("gt", x, 0)), op("relu", x), unguarded=True),
    Rule("argument where not negative", x * op("cast", op("ge", x, 0)), op("relu", x), unguarded=True),
    *[
        Rule(f"{name} is the argument where {c}", op(name, x) * op("cast", op(c, x, 0)), x * op("cast", op(c, x, 0)))
        for name in ("relu", "abs")
        for c in ("gt", "ge")
    ],
    Rule("sign is 1 where positive", op("sign", x) * op("cast", op("gt", x, 0)), op("cast", op("gt", x, 0))),
    Rule("relu over argument", op("relu", x) / x, op("cast", op("gt", x, 0))),
    Rule("absolute value over argument", op("abs", x) / x, op("sign", x)),
    *[
        Rule(
            f"{name} where {c} picks {which}",
            op(name, x, y) * op("cast", op(c, x, y)),
            which_var * op("cast", op(c, x, y)),
        )
        for name, c, which, which_var in (
            ("minimum", "le", "the first", x),
            ("minimum", "lt", "the first", x),
            ("minimum", "gt", "the second", y),
            ("minimum", "ge", "the second", y),
            ("maximum", "ge", "the first", x),
            ("maximum", "gt", "the first", x),
            ("maximum", "lt", "the second", y),
            ("maximum", "le", "the second", y),
        )
    ],
]

# Derivative rules guard a quotient or a tie at isolated points; a closed form is written without the guard.
GUARDS = [
    Rule("guarded divisor", op("select", op("eq", x, 0), 1, x), x, when=(("generic", "x"),), almost=True),
    # The first of two operands takes a whole tie, the second none: they may be equal on more than isolated points.
    Rule("even tie", op("select", op("eq", x, y), lift(Fraction(1, 2)), 1), lift(1), almost=True),
    Rule(
        "even tie, second",
        op("select", op("ne", x, y), 1, lift(Fraction(1, 2))),
        op("cast", op("ne", x, y)),
        almost=True,
    ),
]

CLIP = [
    Rule(
        f"clip by {name}",
        op("select", op(name, op("abs", x), e), x, e * op("sign", x)),
        op("clip", x, -e, e),
        when=(("nonnegative", "e"),),
    )
    for name in ("le", "lt")
]

FAMILIES: dict[str, list[Rule]] = {
    "exponential": EXPONENTIAL, "sigmoid": SIGMOID, "hyperbolic": HYPERBOLIC, "trigonometric": TRIGONOMETRIC,
    "parity": PARITY, "kinks": KINKS, "guards": GUARDS,
}  # fmt: skip
# Rules over selections, tried when a result is finished, not while branches are held as indicators.
FINISHING: dict[str, list[Rule]] = {"clip": CLIP}
