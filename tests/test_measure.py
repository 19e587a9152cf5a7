"""Measured and predicted bills: what is timed is what is priced, figures follow from the machine's, forms agree.

No test looks at how long anything took; clocks are replaced by numbers wherever a verdict depends on them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bills import MACHINE, SWEEPS, TIMED, W, bill_of, k, m, n, x

import codegen.compiled
import symdiff as sd
from symdiff.api import measure
from symdiff.api.measure import Progress, this_machine, time_programs
from symdiff.api.native import cheapest
from symdiff.cost import Machine, Poly, compare_programs, count, format_seconds, machine_from_json
from symdiff.cost.machine import UNITS, relative_error
from symdiff.cost.regimes import regimes, spread
from symdiff.cost.tables import booktabs, escaped, poly_latex, size_latex, words
from symdiff.cost.timing import agreement
from symdiff.errors import ArgumentError
from symdiff.ops import OPSET
from symdiff.simplify import optimize


@pytest.fixture(autouse=True)
def toy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_machine", MACHINE)


# -------------------------------------------------------------------- what is measured
def test_every_program_is_timed_at_every_point() -> None:
    sizes = {"m": [2, 3], "n": [4, 5]}
    bill = sd.compare(np.roll(np.tanh(W @ x), 1), x, sizes=sizes, measure=True, seconds=0.02, modes=SWEEPS)
    assert [dict(p) for p in bill.points] == [{"m": a, "n": b} for a in (2, 3) for b in (4, 5)]
    assert [set(t) for t in bill.measured] == [{"primal", "forward", "reverse"}] * 4
    for timings in bill.measured:
        for timing in timings.values():
            assert 0 < timing.low <= timing.seconds <= timing.high
            assert timing.calls >= 1


def test_what_is_priced_is_what_is_compiled() -> None:
    y = np.tanh(W @ x)
    bill = sd.compare(y, x, modes=SWEEPS)
    for mode in ("forward", "reverse"):
        derivative = sd.jacobian(y, x, mode=mode)
        params = [x, W] if bill.functions[mode].params[0].name == "x" else [W, x]
        compiled = cheapest(derivative.function(params))
        assert bill.functions[mode] == compiled
        sweep = optimize(derivative.function(params), OPSET)
        assert bill.forms[mode] == ("derived" if compiled == sweep else "closed")
    assert set(bill.forms) == {"primal", "forward", "reverse"}
    assert bill.priced.startswith("form priced: ") and bill.priced in str(bill)
    assert set(bill.derived) == {name for name, form in bill.forms.items() if form == "closed"}


def test_sweeps_can_be_priced_as_they_are() -> None:
    """Of two layers the sweeps multiply in different orders, which the closed form hides."""
    V = sd.symbol("V", (k, m))
    y = np.tanh(V @ np.tanh(W @ x))
    bill = sd.compare(y, x, sizes={"k": 2, "m": 3, "n": 4}, simplify=False, measure=True, seconds=0.01, modes=SWEEPS)
    assert set(bill.forms.values()) == {"derived"}
    for mode in ("forward", "reverse"):
        sweep = sd.jacobian(y, x, mode=mode).function([V, W, x])
        assert {str(v) for v in count(optimize(sweep, OPSET)).as_dict().values()} == {
            str(v) for v in bill.programs[mode].as_dict().values()
        }
    assert bill.functions["forward"] != bill.functions["reverse"]
    assert bill.measured[0]["forward"] is not bill.measured[0]["reverse"]
    assert (bill.derived, bill.missed) == ({}, "")


def test_programs_that_are_one_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    compile_function = measure.compile_function

    def counted(function: Any, **options: Any) -> Any:
        made.append(function.name)
        return compile_function(function, **options)

    monkeypatch.setattr(measure, "compile_function", counted)
    bill = sd.compare(W @ x, x, sizes={"m": 2, "n": 3}, measure=True, seconds=0.01, modes=SWEEPS)
    assert bill.functions["forward"] == bill.functions["reverse"]
    assert bill.measured[0]["forward"] is bill.measured[0]["reverse"]
    assert len(made) == 2
    assert "forward and reverse are the same program" in str(bill)
    assert "forward and reverse are level at m = 2, n = 3" in str(bill)


def test_what_is_timed_is_the_last_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(codegen.compiled, "_FELT", 0)  # programs of any length run without passes first
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(tmp_path))
    made: list[Any] = []
    compile_function = measure.compile_function

    def noted(*args: Any, **options: Any) -> Any:
        made.append(compile_function(*args, **options))
        return made[-1]

    monkeypatch.setattr(measure, "compile_function", noted)
    sd.compare(W @ x, x, sizes={"m": 2, "n": 3}, measure=True, seconds=0.01, modes=SWEEPS)
    assert made
    for native in made:
        assert native.compiled.upgrade is not None and native.compiled.upgrade.ended.is_set()


def test_arguments_satisfy_the_facts() -> None:
    A = sd.symbol("A", (n, n), positive_definite=True)
    index = sd.symbol("index", (m,), dtype="i64")
    y = np.sum(np.linalg.cholesky(A)) + np.sum(x[index])
    bill = sd.compare(y, [A, x], sizes={"n": 4, "m": 3}, measure=True, seconds=0.01, modes=SWEEPS)
    assert bill.measured[0]["reverse"].seconds > 0


def test_fixed_sizes_need_no_sizes() -> None:
    z = sd.symbol("z", (3,))
    bill = sd.compare(np.sum(np.exp(z)), z, measure=True, seconds=0.01, modes=SWEEPS)
    assert bill.points == ({},)
    assert "\ntime  " in bill.table()
    assert "in numbers" in bill.table()


def test_sizes_that_only_shapes_name_are_passed_on() -> None:
    y = sd.arange(n) @ x
    bill = sd.compare(np.sum(np.tanh(y * x)), x, sizes={"n": [3, 6]}, measure=True, seconds=0.01, modes=SWEEPS)
    assert len(bill.measured) == 2


def test_a_form_that_counts_fewer_operations_is_told() -> None:
    """The form is chosen once for all sizes; where the other one would be cheaper the report says so."""
    y = np.tanh(W @ x)
    program = sd.jacobian(y, x).function([W, x])
    better = (W * 2).function([W, x])
    bill = compare_programs(
        sd.simplify(y).function([W, x]), {"reverse": program}, {"m": [2, 3], "n": 4},
        derived={"primal": sd.simplify(y).function([W, x]), "reverse": better},
    )  # fmt: skip
    assert bill.forms == {"primal": "derived", "reverse": "closed"}
    told = "fewer operations before simplifying: reverse at m = 2, n = 4 (8); reverse at m = 3, n = 4 (12)"
    assert bill.missed == told
    assert told in bill.table()
    assert json.loads(bill.json())["missed"] == told
    same = compare_programs(bill.functions["primal"], {"reverse": program}, {"m": 2, "n": 4})
    assert (same.missed, same.priced) == ("", "")


def test_all_modes_stand_in_one_bill() -> None:
    """A banded Jacobian: four modes, kernels, seeds, memory, bounds and advice, in every form of print."""
    y = np.tanh(x[1:]) * x[:-1]
    bill = sd.compare(y, x, sizes={"n": [100, 150]}, measure=True, seconds=0.05)
    assert set(bill.programs) == {"forward", "reverse", "elimination"}
    assert set(bill.kernels) == {"primal", *bill.programs} and min(bill.kernels.values()) > 0
    assert {name: str(poly) for name, poly in bill.passes.items()} == {"forward": "n", "reverse": "n - 1"}
    for found, size in zip(bill.coloured, (100, 150), strict=True):
        assert found is not None and found.timing is not None and found.seconds is not None
        assert (found.colours, found.nonzeros, found.entries) == (2, 2 * size - 2, size * (size - 1))
    text = bill.table()
    assert "coloured at n = 150: 2 " in text and "298 of 22,350 entries" in text
    assert "advice: use " in text and "times the function itself" in text
    assert "op/B" in text and "peak bytes at n = 100" in text
    data = json.loads(bill.json())
    assert data["at"][0]["coloured"]["colours"] == 2
    assert data["seeds"]["reverse"] == "n - 1" and data["kernels"] == dict(bill.kernels)


def test_the_bill_prices_sweeps_in_both_directions() -> None:
    """An arrowhead: two columns' groups pushed, one row pulled, and both programs counted."""
    y = np.concatenate([np.sum(np.exp(x)).reshape(1), np.sin(x[1:]) * x[0]])
    bill = sd.compare(y, x, sizes={"n": [60, 100]}, measure=True, seconds=0.05)
    for found, size in zip(bill.coloured, (60, 100), strict=True):
        assert found is not None and found.timing is not None and found.seconds is not None and found.seconds > 0
        assert (found.colours, found.direction, found.nonzeros) == (3, "bidirectional", 3 * size - 2)
    first, second = (found.operations for found in bill.coloured if found is not None)
    assert 0 < first < second < 2 * first, "it grows with n, no dense Jacobian is formed"
    assert "coloured at n = 100: 3 bidirectional sweeps at once" in bill.table()
    assert "298 of 10,000 entries" in bill.table()


def test_results_too_large_to_form_are_left_out() -> None:
    """At a million variables no dense Jacobian fits; the compressed one is measured."""
    y = np.tanh(x[1:]) * x[:-1]
    bill = sd.compare(y, x, sizes={"n": 1_000_000}, measure=True, seconds=0.05)
    assert set(bill.measured[0]) == {"primal"}
    assert "too large" in bill.table()
    assert bill.fastest(0) == ""
    assert bill.advice.startswith("advice: use coloured at n = 1000000")
    with pytest.raises(ArgumentError, match="at n = 1000000 has 8e"):
        sd.compare(np.cumsum(x * x), x, sizes={"n": 1_000_000}, measure=True)


# -------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": True}, r"measure=True needs numbers for all dimensions, none given for m, n; add sizes=\{'m'"),
        ({"measure": True, "sizes": {"n": 3}}, r"none given for m; add sizes=\{'m': \[10, 100\]\}"),
        ({"measure": True, "sizes": {"n": 3, "m": 2}, "seconds": 0}, "seconds=0, expected a positive number"),
        ({"modes": ("sideways",)}, "mode 'sideways', expected some of forward, reverse, elimination, coloured"),
        ({"modes": ("coloured",)}, "expected at least one of forward, reverse, elimination"),
        ({"sizes": {"n": 3, "m": 2.5}}, "size m = 2.5, expected positive integers"),
        ({"measure": True, "sizes": {"n": 3, "m": 0}}, "size m = 0, expected positive integers"),
        ({"measure": True, "sizes": {"n": 10**7, "m": 10**7}}, r"at n = 10000000, m = 10000000 has 8e\+05 GB of"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        sd.compare(np.tanh(W @ x), x, **options)


def test_missing_sizes_are_found_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "compile_function", lambda *a, **o: pytest.fail("compiled"))
    with pytest.raises(ArgumentError, match="none given for"):
        sd.compare(W @ x, x, measure=True, modes=SWEEPS)


# -------------------------------------------------------------------- verdicts of the clock
def test_where_an_answer_holds() -> None:
    line = [{"m": 2, "n": k} for k in (10, 100, 1000)]
    assert regimes("aab", line) == [("a", " at m = 2, n = 10", [0, 1]), ("b", " from m = 2, n = 1000 on", [2])]
    assert regimes("aba", line)[2] == ("a", " from m = 2, n = 1000 on", [2])
    assert regimes("aaa", line) == [("a", " at all sizes given", [0, 1, 2])]
    assert regimes("a", [{}]) == [("a", "", [0])]
    # Of falling sizes, and of several dimensions at once, nothing holds "from" a point "on".
    assert regimes("abb", line[::-1])[1] == ("b", " at m = 2, n = 100 and at m = 2, n = 10", [1, 2])
    grid = [{"m": i, "n": k} for i in (2, 20) for k in (10, 100, 1000)]
    assert regimes("abaaab", grid) == [
        ("a", " at m = 2, n = 10 and at m = 2, n = 1000 and at m = 20, n = 10 and 1 more", [0, 2, 3, 4]),
        ("b", " at m = 2, n = 100 and at m = 20, n = 1000", [1, 5]),
    ]
    assert spread([2.0, 2.0004]) == "2" and spread([3.0, 2.5]) == "2.5 to 3"


def test_verdicts_of_the_clock() -> None:
    bill = bill_of(**TIMED)
    assert [bill.best_at(p) for p in bill.points] == ["forward"] * 3
    assert [bill.fastest(i) for i in range(3)] == ["reverse", "forward", "forward"]
    assert [bill.agreement(i) for i in range(3)] == ["differ", "tie", "agree"]
    first, second = bill.clock[:2]
    assert first == (
        "by clock: reverse is fastest at m = 2, n = 5 (2 us, 2 times the primal); forward and reverse are level from "
        "m = 20, n = 5 on (5 us, 2.5 times the primal); forward is fastest from m = 200, n = 5 on (6 us, 2 times the "
        "primal)"
    )
    assert second == "counted and measured order differ at m = 2, n = 5"
    rows = [line for line in bill.table().split("\n") if line.startswith(("time at", "predicted at"))]
    lines = {line[: line.index("  ")]: line for line in rows}
    assert lines["time at m = 2, n = 5"].split("  ")[-1].strip() == "2 us (2x) *"
    assert "*" not in lines["time at m = 20, n = 5"]
    assert lines["time at m = 200, n = 5"].split()[-1] == "(300x)"
    assert all("*" not in line for label, line in lines.items() if label.startswith("predicted"))
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("counted", "measured", "word"),
    [
        ((1, 2), (1.0, 2.0), "agree"), ((1, 2), (2.0, 1.0), "differ"), ((1, 2), (1.0, 1.04), "tie"),
        ((1, 2), (1.04, 1.0), "tie"), ((2, 2), (1.0, 9.0), "tie"), ((1, 2, 3), (1.0, 1.01, 5.0), "agree"),
        ((1, 2, 3), (1.0, 5.0, 2.0), "differ"),
        ((1, 2, 3), (1.0, 2.0, 2.0), "agree"),
    ],
)  # fmt: skip
def test_agreement(counted: Any, measured: Any, word: str) -> None:
    assert agreement(dict(enumerate(counted)), dict(enumerate(measured))) == word


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0125, "12.5 ms"), (9.999e-4, "1 ms"), (1e-6, "1 us"), (3.14159e-8, "31.4 ns"),
     (1.23456e-4, "123 us"), (5e-10, "0.5 ns"), (123.4, "123 s")],
)  # fmt: skip
def test_seconds_as_text(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


# -------------------------------------------------------------------- the machine model
def test_relative_error_is_a_typical_factor() -> None:
    assert relative_error([2.0, 1.0], [1.0, 2.0]) == pytest.approx(1.0)
    assert relative_error([3.0], [3.0]) == 0
    assert relative_error([], []) == 0


# -------------------------------------------------------------------- calibration and its file
def test_a_machine_survives_its_file() -> None:
    assert machine_from_json(MACHINE.to_json()) == MACHINE


def damaged(**changes: Any) -> str:
    return json.dumps({**json.loads(MACHINE.to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", MACHINE.to_json()[:-40], damaged(version=0), damaged(call=-1), damaged(call="fast"),
     damaged(units={"add": 1}), damaged(bandwidth=[]), damaged(bandwidth=[[5, 1], [4, 1]]), damaged(bandwidth=3),
     damaged(apart=[]), damaged(functions={}), damaged(functions={"exp": -1}), damaged(step=math.nan),
     damaged(extra=1), damaged(name=7), damaged(register="wide")],
)  # fmt: skip
def test_damaged_files_are_not_believed(text: str) -> None:
    assert machine_from_json(text) is None


def test_calibration_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(folder))
    name, _ = measure.host()
    made: list[str] = []

    def calibrate(cpu: str, time_of: Any) -> Machine:
        made.append(cpu)
        return dataclasses.replace(MACHINE, name=cpu)

    monkeypatch.setattr(measure, "calibrate", calibrate)
    for _ in range(2):
        monkeypatch.setattr(measure, "_machine", None)
        assert this_machine() == dataclasses.replace(MACHINE, name=name)
    assert made == [name]
    assert [p.name for p in folder.iterdir()] == ["machine.json"]  # no temporary file is left
    for text in ("{ damaged", MACHINE.to_json()):  # and one from another processor
        (folder / "machine.json").write_text(text)
        monkeypatch.setattr(measure, "_machine", None)
        assert this_machine().name == name
    assert len(made) == 3
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", "off")
    monkeypatch.setattr(measure, "_machine", None)
    assert this_machine().name == name
    assert len(made) == 4


def test_calibration_finds_every_figure() -> None:
    found = measure.calibrate("here", lambda call: call() is None or 1e-6)
    assert machine_from_json(found.to_json()) == found  # every figure is possible
    assert set(found.units) == set(UNITS)
    assert {"exp", "log", "sin", "pow", "cbrt", "polygamma"} <= set(found.functions)


# -------------------------------------------------------------------- progress
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal() -> None:
    stream = Terminal()
    bar = Progress(2, True, stream)
    bar.show("timing at a long place")
    bar.step()
    bar.show("timing")
    bar.close()
    first, second, blank, end = stream.getvalue().split("\r")[1:]
    assert first == f"[{'.' * 24}] 0/2 timing at a long place"
    assert second.rstrip() == f"[{'#' * 12}{'.' * 12}] 1/2 timing"
    assert len(second) == len(first)  # what stood there before is overwritten
    assert blank.strip() == "" and end == ""


@pytest.mark.parametrize(("wanted", "stream"), [(True, io.StringIO()), (False, Terminal())])
def test_progress_is_silent_elsewhere(wanted: bool, stream: io.StringIO) -> None:
    bar = Progress(1, wanted, stream)
    bar.show("timing")
    bar.step()
    bar.close()
    assert stream.getvalue() == ""


def test_all_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    bill = sd.compare(np.tanh(W @ x), x, sizes={"m": 2, "n": [3, 4]}, modes=SWEEPS)
    bar = Progress(5, True, stream)
    time_programs(bill.functions, bill.points, 0.01, bar)
    bar.show("done")
    assert "5/5 done" in stream.getvalue()
    assert "timing at m = 2, n = 4" in stream.getvalue()


# -------------------------------------------------------------------- forms
def test_json_holds_everything() -> None:
    bill = bill_of(**TIMED)
    data = json.loads(bill.json())
    assert [p["measured"]["reverse"]["seconds"] for p in data["at"]] == TIMED["reverse"]
    assert [p["fastest"] for p in data["at"]] == ["reverse", "forward", "forward"]
    assert [p["agreement"] for p in data["at"]] == ["differ", "tie", "agree"]
    predicted = bill.predicted(bill.points[1])["forward"]
    assert data["at"][1]["predicted"]["forward"]["seconds"] == predicted.seconds
    assert data["machine"]["name"] == "toy"
    assert data["forms"] == dict(bill.forms)
    plain = json.loads(sd.compare(W @ x, x, modes=SWEEPS).json())
    assert not {"clock", "machine"} & set(plain)


def test_markdown_has_the_cells_of_the_table() -> None:
    bill = bill_of(**TIMED)
    rows = [line for line in bill.markdown().split("\n") if line.startswith("|")]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {5}
    body = [row.split("|")[1].strip() for row in rows[2:]]
    assert [label for label in body if label.startswith("time")] == [f"time at m = {s}, n = 5" for s in (2, 20, 200)]


def test_latex_is_a_booktabs_table() -> None:
    bill = bill_of(**TIMED)
    text = bill.latex()
    lines = text.split("\n")
    assert lines[0] == r"\begin{table}" and lines[-1] == r"\end{table}"
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 4, 1]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {3}
    assert r"\textbf{2~$\mu$s (2x)}" in text
    assert "**" not in text and "*" not in text
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    assert "forward: $" in lines[-2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Poly(), "0"), (2 * Poly(m) * n + m, "2 m n + m"), (Poly(n) * n * n / 3 - 1, r"\frac{n^{3}}{3} - 1"),
        (-Poly(n), "-n"), (Poly((n + 1) // 2) * m, r"m \left\lfloor \frac{n + 1}{2} \right\rfloor"),
        (Poly(sd.dim("n_in")), r"\mathit{n\_in}"),
    ],
)  # fmt: skip
def test_polynomials_in_latex(value: Poly, text: str) -> None:
    assert poly_latex(value) == text


def test_sizes_and_words_in_latex() -> None:
    assert size_latex("(2*m + n)/(k**12)") == "(2 m + n)/(k^{12})"
    assert escaped("a_b & 50% {x}") == r"a\_b \& 50\% \{x\}"
    table = booktabs([[words("a"), words("b")], [words("c_d"), words("1")]], "told", [1])
    assert r"c\_d & 1 \\" in table
