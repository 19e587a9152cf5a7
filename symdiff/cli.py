"""The command line: derive a formula, compare what modes cost, check a gradient by differences.

Takes an expression in NumPy notation and the shapes of its symbols. Writes the answer to standard output; errors go to
standard error with a caret under the fault. Exit code 0: done; 1: a check failed; 2: the input is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.api.points import distinct_sizes, random_arguments
from symdiff.api.report import MODES
from symdiff.checking import check_gradient
from symdiff.errors import ArgumentError, ParseError, SymdiffError
from symdiff.frontend.text import names_in
from symdiff.ir.dims import Size, parse_size, size_names

_EXAMPLES = """examples:
  symdiff derive "sum(tanh(W @ x)**2)" --shape W=m,n --shape x=n --wrt W
  symdiff derive "x @ A @ x" --shape x=n --shape A=n,n --fact A=symmetric --wrt x --order hessian --latex
  symdiff compare "tanh(W @ x)" --shape W=m,n --shape x=n --wrt x --sizes n=1000,m=10
  symdiff compare "sum(tanh(W @ x))" --shape W=m,n --shape x=n --wrt W --sizes n=10,100,m=20 --measure --plot bill.png
  symdiff check "log(det(A))" --shape A=n,n --fact A=positive_definite --wrt A --sizes n=4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 141 where what it prints is read no further."""
    given = list(sys.argv[1:] if argv is None else argv)
    # There is no short option but -h, so "-x**2" is an expression; argparse takes it for one behind a space.
    given = [f" {a}" if a.startswith("-") and not a.startswith(("--", "-h")) else a for a in given]
    try:
        options = _parser().parse_args(given)
    except SystemExit as stop:  # --help, or a usage error that argparse has printed
        return stop.code if isinstance(stop.code, int) else 2
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read it has seen enough; what is left would be told again at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SymdiffError as error:
        print(f"symdiff {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="symdiff", description=sd.__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"symdiff {sd.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="derive | compare | check")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("expression", metavar="EXPR", help="NumPy notation, with or without np.")
    common.add_argument("--shape", action="append", default=[], metavar="NAME=SIZES",
                        help="shape of a symbol: W=m,n; x=n; A=3,2*n; t= for a scalar (once per symbol)")  # fmt: skip
    common.add_argument("--dtype", action="append", default=[], metavar="NAME=DTYPE",
                        help="f64 (default), f32, i64, bool")  # fmt: skip
    common.add_argument("--fact", action="append", default=[], metavar="NAME=FACT",
                        help="symmetric, positive_definite, diagonal, positive, ...; several with commas")  # fmt: skip
    common.add_argument("--function", action="append", default=[], metavar="NAME",
                        help="an undefined elementwise function such as f, which gives f' in the answer")  # fmt: skip
    common.add_argument("--wrt", action="append", required=True, metavar="NAME",
                        help="the symbol to differentiate in (may be repeated)")  # fmt: skip

    derive = commands.add_parser("derive", parents=[common], help="print the derivative")
    derive.add_argument("--order", choices=("gradient", "jacobian", "hessian"),
                        help="by default the gradient of a scalar and the Jacobian of an array")  # fmt: skip
    derive.add_argument("--mode", default="auto", help="auto (default), forward, reverse, elimination")
    for form, text in (("latex", "LaTeX"), ("numpy", "a NumPy expression"), ("ir", "the program")):
        derive.add_argument(f"--{form}", action="store_true", help=f"print {text} instead of Unicode text")
    derive.set_defaults(run=_derive)

    compare = commands.add_parser("compare", parents=[common], help="count and time what every mode costs")
    compare.add_argument("--sizes", default="", metavar="n=10,100,m=20",
                         help="numbers for the dimensions; several give a row each")  # fmt: skip
    compare.add_argument("--measure", action="store_true",
                         help="compile every program, time it at all sizes, and predict its time")  # fmt: skip
    compare.add_argument("--predict", action="store_true",
                         help="predict times at all sizes, by a model of this machine")  # fmt: skip
    compare.add_argument("--as-derived", action="store_true",
                         help="price the sweeps as they are, not the closed forms compiled instead")  # fmt: skip
    compare.add_argument("--mode", action="append", default=[], metavar="MODE", choices=MODES,
                         help=f"a mode to compare (may be repeated), by default all: {', '.join(MODES)}")  # fmt: skip
    compare.add_argument("--order", type=int, default=1, choices=(1, 2), help="2 for the Hessian of a scalar")
    compare.add_argument("--seconds", type=float, default=2.0, help="about how long to measure, 2 by default")
    compare.add_argument("--plot", metavar="FILE", help="draw cost against a dimension; the ending gives the format")
    compare.add_argument("--over", metavar="NAME", help="the dimension along the axis of the drawing")
    forms = compare.add_mutually_exclusive_group()
    for form, text in (("markdown", "Markdown"), ("latex", "LaTeX (booktabs)"), ("json", "JSON")):
        forms.add_argument(f"--{form}", action="store_true", help=f"print {text} instead of an aligned table")
    compare.set_defaults(run=_compare)

    check = commands.add_parser("check", parents=[common], help="check the derivative by differences at a random point")
    check.add_argument("--sizes", default="", metavar="n=4,m=3", help="numbers for the dimensions, small by default")
    check.add_argument("--seed", type=int, default=0, help="of the random point")
    check.add_argument("--rtol", type=float, help="relative tolerance, 1e-6 by default")
    check.set_defaults(run=_check)
    return parser


# -------------------------------------------------------------------- commands
def _derive(options: argparse.Namespace) -> int:
    expression, symbols = _read(options)
    order = options.order or ("jacobian" if expression.ndim else "gradient")
    derivative = {"gradient": sd.gradient, "jacobian": sd.jacobian, "hessian": sd.hessian}[order]
    forms = [form for form in ("latex", "numpy", "ir") if getattr(options, form)] or ["text"]
    for name in options.wrt:
        answer = derivative(expression, symbols[name], mode=options.mode)
        for form in forms:
            if len(options.wrt) > 1:
                print(f"{order} in {name}:")
            print(_written(answer, form))
    return 0


def _written(answer: Any, form: str) -> str:
    match form:
        case "latex":
            return answer.latex()
        case "numpy":
            return answer.source("numpy")
        case "ir":
            return answer.ir()
        case _:
            return str(answer)


def _compare(options: argparse.Namespace) -> int:
    expression, symbols = _read(options)
    variables = [symbols[name] for name in options.wrt]
    sizes = _size_lists(options.sizes, symbols)
    bill = sd.compare(
        expression, variables if len(variables) > 1 else variables[0], sizes=sizes or None,
        measure=options.measure, predict=options.predict or None,
        progress=options.measure or options.predict, seconds=options.seconds,
        simplify=not options.as_derived, modes=options.mode or MODES, order=options.order,
    )  # fmt: skip
    form = next((form for form in ("markdown", "latex", "json") if getattr(options, form)), "table")
    print(getattr(bill, form)())
    if options.plot:
        bill.plot(options.plot, options.over)
    return 0


def _check(options: argparse.Namespace) -> int:
    expression, symbols = _read(options)
    params = [s for s in symbols.values() if isinstance(s, sd.Expr)]
    function = function_of([expression], params)
    sizes = distinct_sizes(function, _sizes(options.sizes, symbols))
    rng = np.random.default_rng(options.seed)
    arrays = random_arguments(function.params, sizes, rng)
    values = {p.value.name: a for p, a in zip(params, arrays, strict=True)}
    if options.function:
        raise ArgumentError(f"check: the undefined function {options.function[0]} has no values")
    # An array is checked through one random weighted sum of its entries.
    weights = rng.standard_normal(np.shape(sd.evaluate(expression, values, sizes)))
    loss = expression if not expression.ndim else sd.parse(
        "sum(y*c)", {"y": expression, "c": sd.symbol("cotangent_of_the_check", expression.shape)}
    )  # fmt: skip
    values["cotangent_of_the_check"] = weights
    answers = [sd.gradient(loss, symbols[name]) for name in options.wrt]

    def evaluate(*points: Any) -> Any:
        return sd.evaluate(loss, {**values, **dict(zip(options.wrt, points, strict=True))}, sizes)

    claimed = tuple(sd.evaluate(answer, values, sizes) for answer in answers)
    report = check_gradient(
        evaluate, *[values[name] for name in options.wrt], gradient=claimed, rtol=options.rtol, names=options.wrt
    )
    if expression.ndim:
        print("the entries of the expression are checked through one random weighted sum")
    if sizes:
        print("at a random point with " + ", ".join(f"{k} = {v}" for k, v in sorted(sizes.items())))
    print(report)
    return 0 if report else 1


# -------------------------------------------------------------------- reading the options
def _read(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The expression and its symbols; every name must have a shape."""
    shapes = {name: _shape(text) for name, text in _pairs(options.shape, "--shape", "W=m,n").items()}
    dtypes = _pairs(options.dtype, "--dtype", "W=f32")
    facts = _pairs(options.fact, "--fact", "A=symmetric")
    for option, named in (("--dtype", dtypes), ("--fact", facts), ("--wrt", options.wrt)):
        for name in named:
            if name not in shapes:
                raise ArgumentError(_no_shape(name, f"named by {option}"))
    symbols: dict[str, Any] = {}
    for name, shape in shapes.items():
        wanted: dict[str, Any] = {fact.strip(): True for fact in facts.get(name, "").split(",") if fact.strip()}
        symbols[name] = sd.symbol(name, shape, dtypes.get(name, "f64"), **wanted)
    for name in options.function:
        symbols[name] = sd.function(name)
    text = options.expression.strip()
    dims = {d for shape in shapes.values() for d in size_names(shape)}
    for name, at in names_in(text).items():
        if name not in symbols and name not in dims:
            raise ParseError(_no_shape(name, "used in the expression"), text, at)
    return sd.parse(text, symbols), symbols


def _no_shape(name: str, where: str) -> str:
    return (
        f"{name} is {where} but has no shape; add --shape {name}=n for a vector, --shape {name}=m,n for a matrix or "
        f"--shape {name}= for a scalar"
    )


def _pairs(items: Sequence[str], option: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ArgumentError(f"{option} {item!r}: expected NAME=VALUE such as {example}")
        if name in found and option != "--fact":
            raise ArgumentError(f"{option}: {name} is given twice, {found[name]!r} and {value!r}")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _shape(text: str) -> tuple[Size, ...]:
    """`m,n`, `(m, n)`, `3`, or nothing for a scalar."""
    inner = text.strip()
    if inner.startswith("(") and inner.endswith(")") and ("," in inner or inner == "()"):
        inner = inner[1:-1]
    return tuple(parse_size(part.strip()) for part in inner.rstrip(",").split(",")) if inner.strip() else ()


def _sizes(text: str, symbols: Mapping[str, Any]) -> dict[str, int]:
    """One number per dimension."""
    sizes: dict[str, int] = {}
    for name, numbers in _size_lists(text, symbols).items():
        if len(numbers) > 1:
            raise ArgumentError(f"--sizes: {name}={','.join(map(str, numbers))}, expected one number")
        sizes[name] = numbers[0]
    return sizes


def _size_lists(text: str, symbols: Mapping[str, Any]) -> dict[str, list[int]]:
    """`n=10,100,m=20`: a part without a name is one more number for the name before it."""
    known = {d for s in symbols.values() if isinstance(s, sd.Expr) for d in size_names(s.value.type.shape)}
    joined: list[str] = []
    for part in (part for part in text.split(",") if part.strip()):
        if "=" in part or not joined:
            joined.append(part)
        else:
            joined[-1] += "," + part
    sizes: dict[str, list[int]] = {}
    for name, value in _pairs(joined, "--sizes", "n=10,m=20").items():
        numbers = [number.strip() for number in value.split(",")]
        for number in numbers:
            if not number.isdecimal():
                raise ArgumentError(f"--sizes: {name}={number}, expected a whole number")
        if name not in known:
            given = ", ".join(sorted(known)) or "none"
            raise ArgumentError(f"--sizes: {name} is no dimension of a symbol; the dimensions are {given}")
        sizes[name] = [int(number) for number in numbers]
    return sizes


if __name__ == "__main__":
    sys.exit(main())
