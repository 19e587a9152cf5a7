"""Pictures of a bill, and the command line that makes one: they show its counts and times; errors name the cause."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bills import MACHINE, SWEEPS, TIMED, W, bill_of, m, x

import symdiff as sd
from symdiff.api import measure
from symdiff.cli import main
from symdiff.cost import compare_programs
from symdiff.errors import ArgumentError


@pytest.fixture(autouse=True)
def toy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_machine", MACHINE)


# -------------------------------------------------------------------- pictures
def figure(bill: Any, **options: Any) -> Any:
    pytest.importorskip("matplotlib")
    return bill.plot(**options)


def test_picture_of_counts() -> None:
    bill = sd.compare(np.roll(np.tanh(W @ x), 1), x, sizes={"m": [2, 200], "n": 5}, modes=SWEEPS)
    (axes,) = figure(bill).axes
    curves = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(curves) == ["primal", "forward", "reverse"]
    for name, curve in curves.items():
        counts = {"primal": bill.primal, **bill.programs}[name]
        for size, value in zip(curve.get_xdata(), curve.get_ydata(), strict=True):
            assert value == float(counts.operations.at({"m": int(size), "n": 5}))
    assert axes.get_xlabel().startswith("size of m") and "n = 5" in axes.get_xlabel()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_crossover_is_where_the_curves_meet() -> None:
    y = sd.compare(np.tanh(W @ x), x, modes=SWEEPS)
    flat, steep = np.sum(sd.symbol("u", (m, 8))), np.outer(x, x)
    bill = compare_programs(
        y.functions["primal"], {"flat": flat.function(), "steep": steep.function()}, {"m": 4, "n": [1, 1000]}
    )
    (axes,) = figure(type(y)(**{f.name: getattr(bill, f.name) for f in dataclasses.fields(bill)}), over="n").axes
    (note,) = [t for t in axes.texts if "flat = steep at n" in t.get_text()]
    at = float(note.get_text().split("≈")[1])
    assert at == pytest.approx(math.sqrt(31), rel=0.05)  # 31 additions against n^2 products


def test_picture_of_times_has_a_roofline() -> None:
    bill = bill_of(**TIMED)
    left, right = figure(bill).axes
    points = [container[0] for container in left.containers]
    assert [[float(s) for s in line.get_ydata()] for line in points] == list(TIMED.values())
    assert list(points[0].get_xdata()) == [2, 20, 200]
    assert {t.get_text() for t in right.texts} == {
        "in cache, 100 GB/s", "from memory, 1 GB/s", "matrix product, 60 GFLOP/s"
    }  # fmt: skip
    intensity, speed = right.collections[0].get_offsets()[1]
    guess = bill.predicted(bill.points[1])["primal"]
    assert intensity == pytest.approx(guess.intensity)
    assert speed == pytest.approx(guess.operations / 2e-6)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_are_written(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"bill.{ending}"
    figure(sd.compare(W @ x, x, modes=SWEEPS), path=str(path))
    assert path.stat().st_size > 1000


def test_pictures_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bill = sd.compare(W @ x, x, modes=SWEEPS)
    z = sd.symbol("z")
    with pytest.raises(ArgumentError, match="over='q' is no dimension of the bill; the dimensions are m, n"):
        figure(bill, over="q")
    with pytest.raises(ArgumentError, match="no count depends on a dimension"):
        figure(sd.compare(z * z, z, modes=SWEEPS))
    with pytest.raises(ArgumentError, match="cannot be written"):
        figure(bill, path=str(tmp_path / "missing" / "bill.png"))
    with pytest.raises(ArgumentError, match="cannot be written"):
        figure(bill, path=str(tmp_path / "bill.nonsense"))

    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ArgumentError, match=r"Matplotlib is not installed; install it with pip install 'symdiff\[plot"):
        bill.plot()


# -------------------------------------------------------------------- command line
BASE = ["compare", "roll(tanh(W @ x), 1)", "--shape", "W=m,n", "--shape", "x=n", "--wrt", "x"]


def test_command_line_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "--sizes", "m=2,3,n=4,5", "--measure", "--seconds", "0.02"]) == 0
    told = capsys.readouterr()
    assert told.err == ""  # no bar where nobody watches
    for a in (2, 3):
        for b in (4, 5):
            assert f"time at m = {a}, n = {b} " in told.out
            assert f"predicted at m = {a}, n = {b} " in told.out


def test_command_line_forms_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "bill.png"
    assert main([*BASE, "--json", "--plot", str(path), "--over", "n"]) == 0
    assert "programs" in json.loads(capsys.readouterr().out)
    assert path.exists()
    assert main([*BASE, "--latex"]) == 0
    assert capsys.readouterr().out.startswith(r"\begin{table}")
    assert main([*BASE, "--as-derived"]) == 0
    assert "form priced: primal, forward, reverse, elimination as derived" in capsys.readouterr().out
    assert main([*BASE, "--mode", "reverse", "--mode", "forward", "--as-derived"]) == 0
    assert "form priced: primal, forward, reverse as derived" in capsys.readouterr().out
    assert main([*BASE, "--mode", "sideways"]) == 2
    assert "invalid choice: 'sideways'" in capsys.readouterr().err
    assert main([*BASE, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("|")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measure"], "none given for"), (["--measure", "--sizes", "n=3"], "none given for m"),
        (["--sizes", "n=3,q"], "n=q, expected a whole number"), (["--sizes", "3,n=2"], "--sizes '3'"),
        (["--sizes", "n=1,n=2"], "n is given twice"),
    ],
)  # fmt: skip
def test_command_line_refusals(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, *options]) == 2
    assert message in capsys.readouterr().err


def test_check_takes_one_size_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "sum(x**2)", "--shape", "x=n", "--wrt", "x", "--sizes", "n=3,4"]) == 2
    assert "n=3,4, expected one number" in capsys.readouterr().err


def test_command_line_refuses_unknown_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([*BASE, "--plot", "bill.nonsense"]) == 2
    assert "cannot be written" in capsys.readouterr().err
