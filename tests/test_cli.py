"""The command line: answers, formats, exit codes, and errors on standard error with a caret."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import symdiff as sd
from symdiff.cli import main

SHAPES = ["--shape", "W=m,n", "--shape", "x=n"]


def run(capsys, *argv):
    code = main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def formula(capsys, *argv):
    """The NumPy text that a successful derive prints."""
    code, out, err = run(capsys, "derive", *argv, "--numpy")
    assert code == 0, err
    return out.strip()


def test_gradient_of_a_scalar(capsys):
    text = formula(capsys, "sum(tanh(W @ x)**2)", *SHAPES, "--wrt", "W")
    rng = np.random.default_rng(2)
    W, x = rng.normal(size=(3, 4)), rng.normal(size=4)
    t = np.tanh(W @ x)
    got = eval(text, {"np": np, "W": W, "x": x, "m": 3, "n": 4})
    np.testing.assert_allclose(got, np.outer(2 * t * (1 - t * t), x), rtol=1e-12)


def test_array_gives_its_jacobian_and_orders_can_be_chosen(capsys):
    assert formula(capsys, "W @ x", *SHAPES, "--wrt", "x") == "W"
    shapes = ["--shape", "x=n", "--shape", "A=n,n"]
    assert formula(capsys, "x @ A @ x", *shapes, "--fact", "A=symmetric", "--wrt", "x", "--order", "hessian") == "2*A"
    general = formula(capsys, "x @ A @ x", *shapes, "--wrt", "x", "--order", "hessian", "--mode", "forward")
    A = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(eval(general, {"np": np, "A": A}), A + A.T)


def test_forms(capsys):
    base = ["derive", "x @ x", "--shape", "x=n", "--wrt", "x"]
    assert run(capsys, *base)[1].strip() == "2 x"
    assert run(capsys, *base, "--latex")[1].strip() == "2 x"
    code, out, _ = run(capsys, *base, "--latex", "--numpy", "--ir")
    assert code == 0
    assert out.splitlines()[:2] == ["2 x", "2*x"] and out.splitlines()[2].startswith("fn f(%x: f64[n])")


def test_several_variables_are_labelled(capsys):
    code, out, _ = run(capsys, "derive", "sum(x*y)", "--shape", "x=n", "--shape", "y=n", "--wrt", "x", "--wrt", "y")
    assert code == 0
    assert out.splitlines() == ["gradient in x:", "y", "gradient in y:", "x"]


def test_leading_minus_scalars_static_sizes_and_dtypes(capsys):
    assert formula(capsys, "-x**2", "--shape", "x=", "--wrt", "x") == "-2*x"
    assert formula(capsys, "-sum(x)", "--shape", "x=3,2*k+1", "--wrt", "x").replace(" ", "") == "-np.ones((3,2*k+1))"
    code, out, _ = run(capsys, "derive", "x @ x", "--shape", "x=(n,)", "--dtype", "x=f32", "--wrt", "x", "--ir")
    assert code == 0 and "f32[n]" in out


def test_undefined_function(capsys):
    code, out, _ = run(capsys, "derive", "sum(f(x))", "--shape", "x=n", "--wrt", "x", "--function", "f")
    assert code == 0 and "f′" in out


def test_compare_counts_both_modes(capsys):
    code, out, _ = run(capsys, "compare", "tanh(W @ x)", *SHAPES, "--wrt", "x", "--sizes", "n=1000,m=10")
    assert code == 0
    assert "forward" in out and "reverse" in out and "elimination" in out and "n = 1000" in out
    assert "\nreverse: " in out and "\nadvice: use " in out


def test_check_passes_for_scalars_and_arrays(capsys):
    matrix = ["--shape", "A=n,n", "--fact", "A=positive_definite", "--wrt", "A", "--sizes", "n=3"]
    code, out, _ = run(capsys, "check", "log(det(A))", *matrix)
    assert code == 0 and "passed: 9 derivatives" in out and "n = 3" in out
    code, out, _ = run(capsys, "check", "tanh(W @ x)", *SHAPES, "--wrt", "W", "--wrt", "x", "--seed", "5")
    assert code == 0 and "weighted sum" in out and "\nW " in out and "\nx " in out


def test_check_fails_with_exit_code_one(capsys, monkeypatch):
    # Roots of negative numbers: there is nothing to compare.
    code, out, _ = run(capsys, "check", "sum(x**0.5)", "--shape", "x=n", "--wrt", "x")
    assert code == 1 and "FAILED" in out and "nan" in out
    # A wrong derivative.
    right = sd.gradient
    monkeypatch.setattr(sd, "gradient", lambda f, x: right(f, x) * 1.001)
    code, out, _ = run(capsys, "check", "sum(exp(sin(x)))", "--shape", "x=9", "--wrt", "x")
    assert code == 1 and "FAILED" in out and "relative error 1.0e-03" in out


@pytest.mark.parametrize(
    ("argv", "message", "caret"),
    [
        (["derive", "W @ x + b", *SHAPES, "--wrt", "W"], "b is used in the expression but has no shape", 8),
        (["derive", "sum(tahn(x))", *SHAPES, "--wrt", "x"], "did you mean", 4),
        (["derive", "W @ x + x", *SHAPES, "--wrt", "x"], "(m,) and (n,)", 6),
        (["derive", "x +", *SHAPES, "--wrt", "x"], "no right operand", 2),
        (["derive", "x", *SHAPES, "--wrt", "y"], "y is named by --wrt but has no shape", None),
        (["derive", "x", "--shape", "x", "--wrt", "x"], "expected NAME=VALUE", None),
        (["derive", "x", "--shape", "x=n", "--shape", "x=m", "--wrt", "x"], "given twice", None),
        (["derive", "x", "--shape", "x=n+", "--wrt", "x"], "size 'n+' ends too early", 2),
        (["derive", "x", "--shape", "x=n", "--fact", "x=round", "--wrt", "x"], "unknown fact", None),
        (["derive", "x", "--shape", "x=n", "--dtype", "x=f16", "--wrt", "x"], "f16", None),
        (["derive", "x", "--shape", "x=n", "--wrt", "x", "--order", "gradient"], "scalar", None),
        (["derive", "x@x", "--shape", "x=n", "--wrt", "x", "--mode", "sideways"], "sideways", None),
        (["compare", "x", "--shape", "x=n", "--wrt", "x", "--sizes", "k=3"], "no dimension of a symbol", None),
        (["compare", "x", "--shape", "x=n", "--wrt", "x", "--sizes", "n=many"], "whole number", None),
        (["check", "sum(f(x))", "--shape", "x=n", "--wrt", "x", "--function", "f"], "no values", None),
    ],
)
def test_wrong_input_gives_exit_code_two(capsys, argv, message, caret):
    code, out, err = run(capsys, *argv)
    assert code == 2 and not out
    assert message in err and err.startswith(f"symdiff {argv[0]}: ")
    if caret is not None:
        assert err.splitlines()[-1] == " " * (2 + caret) + "^"


@pytest.mark.parametrize(
    "argv", [[], ["derive"], ["derive", "x", "--shape", "x=n"], ["differentiate", "x"], ["derive", "--x"]]
)
def test_usage_errors(capsys, argv):
    code, _, err = run(capsys, *argv)
    assert code == 2 and "usage: symdiff" in err


def test_help_and_version(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "symdiff derive" in out
    code, out, _ = run(capsys, "derive", "--help")
    assert code == 0 and "--shape" in out
    assert run(capsys, "--version")[1].startswith("symdiff ")


def test_as_a_process():
    argv = [sys.executable, "-m", "symdiff", "derive", "x @ x", "--shape", "x=n", "--wrt", "x"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "2 x"), done.stderr


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    argv = [sys.executable, "-m", "symdiff", "compare", "sum(x**2)", "--shape", "x=n", "--wrt", "x"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141
