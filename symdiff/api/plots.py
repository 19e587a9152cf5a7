"""Pictures of a bill, by Matplotlib (extra `plot`): cost against one dimension, and a roofline.

Left: a line per mode on log axes, the crossover marked; predicted time with measured points on it where a bill was
measured, operations otherwise. Right, for measured bills: every program by operations per byte against its speed, under
the ceilings of memory and arithmetic of this machine. Works on `Figure` objects alone, so no window system is touched.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from symdiff.cost import Comparison
from symdiff.errors import ArgumentError

_PRIMAL: Final = ("0.45", "s", (0, (4, 2)))
# Told apart without colour as well: by marker and by dashes (colours after Okabe and Ito).
_STYLES: Final = (("#0072B2", "o", "-"), ("#D55E00", "^", (0, (6, 2, 1.5, 2))), ("#009E73", "D", (0, (1.5, 1.5))))
_SAMPLES: Final = 60
_SPREAD: Final = 8
"""A dimension of one size is drawn this factor to either side."""
_APART: Final = 0.05
"""Curves that are never further apart on one side, in logarithms, do not cross: they are level."""
_NOMINAL: Final = 100
"""The size of dimensions without a number."""
_GREY: Final = "0.35"
_LABEL: Final = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def plot(bill: Comparison, path: str | None = None, over: str | None = None) -> Any:
    """The figure of a bill, written to `path` when one is given."""
    figure_class = _figure_class()
    name = _axis(bill, over)
    two = bill.machine is not None and bool(bill.measured)
    figure = figure_class(figsize=(10.4, 4.3) if two else (5.6, 4.3), layout="constrained")
    axes = figure.subplots(1, 2 if two else 1, squeeze=False)[0]
    _cost(axes[0], bill, name)
    if two:
        _roofline(axes[1], bill)
    if path is not None:
        try:
            figure.savefig(path, dpi=160)
        except (OSError, ValueError) as error:
            raise ArgumentError(f"plot: {path!r} cannot be written: {error}") from error
    return figure


def _figure_class() -> Any:
    try:
        # Optional, and half a second to load.
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ArgumentError("plot: Matplotlib is not installed; install it with pip install 'symdiff[plot]'") from error


def _names(bill: Comparison) -> list[str]:
    counts = (bill.primal, *bill.programs.values())
    counted = sorted({name for c in counts for name in c.names})
    return list(dict.fromkeys([*(bill.points[0] if bill.points else ()), *counted]))


def _axis(bill: Comparison, over: str | None) -> str:
    names = _names(bill)
    if not names:
        raise ArgumentError("plot: no count depends on a dimension, so there is no axis to draw along")
    if over is None:
        return max(names, key=lambda name: len({p[name] for p in bill.points if name in p}))
    if over not in names:
        raise ArgumentError(f"plot: over={over!r} is no dimension of the bill; the dimensions are {', '.join(names)}")
    return over


def _styles(bill: Comparison) -> dict[str, tuple[str, str, Any]]:
    """Colour, marker and dashes by name; programs that are one share a style."""
    found: dict[str, tuple[str, str, Any]] = {"primal": _PRIMAL}
    for number, name in enumerate(bill.programs):
        found[name] = _STYLES[number % len(_STYLES)]
    return found


def _groups(bill: Comparison) -> list[list[str]]:
    """Names by program: equal programs are drawn once."""
    groups: dict[Any, list[str]] = {}
    for name in ("primal", *bill.programs):
        groups.setdefault(bill.functions.get(name, name), []).append(name)
    return list(groups.values())


# -------------------------------------------------------------------- cost against a dimension
def _cost(axes: Any, bill: Comparison, name: str) -> None:
    fixed = {n: bill.points[0][n] if bill.points else _NOMINAL for n in _names(bill) if n != name}
    given = sorted({p[name] for p in bill.points}) or [_NOMINAL]
    low, high = given[0], given[-1]
    if low == high:
        low, high = max(low // _SPREAD, 1), high * _SPREAD
    sizes = sorted({round(low * (high / low) ** (i / (_SAMPLES - 1))) for i in range(_SAMPLES)})
    timed = bool(bill.measured) and bill.machine is not None
    value = _predicted(bill, fixed, name) if timed else _counted(bill, fixed, name)
    styles = _styles(bill)
    lines: dict[str, list[float]] = {}
    for group in _groups(bill):
        colour, marker, dashes = styles[group[0]]
        label = " = ".join(group)
        lines[group[0]] = [value(group[0], size) for size in sizes]
        # No marker lies on the line; the legend shows the one of the measured points.
        shown = {"marker": marker, "markevery": [], "markeredgecolor": "white", "markersize": 6} if timed else {}
        axes.plot(sizes, lines[group[0]], color=colour, linestyle=dashes, linewidth=1.8, label=label, **shown)
        if timed:
            here = [(p[name], m[group[0]]) for p, m in zip(bill.points, bill.measured, strict=True)
                    if all(p.get(n, s) == s for n, s in fixed.items())]  # fmt: skip
            xs, middle = [size for size, _ in here], [t.seconds for _, t in here]
            spread = [[t.seconds - t.low for _, t in here], [t.high - t.seconds for _, t in here]]
            axes.errorbar(xs, middle, yerr=spread, color=colour, marker=marker, markersize=6, linestyle="none",
                          capsize=2, markeredgecolor="white", markeredgewidth=0.6, zorder=3)  # fmt: skip
    _cross(axes, lines, sizes, name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"size of {name}" + (f"   ({', '.join(f'{n} = {s}' for n, s in fixed.items())})" if fixed else ""))
    axes.xaxis.set_major_formatter(_plain)
    axes.set_ylabel("time of one call" if timed else "operations")
    axes.set_title("Predicted time (lines) and measured (points)" if timed else "Counted operations", fontsize=11)
    if timed:
        axes.yaxis.set_major_formatter(_unit)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=9)


def _predicted(bill: Comparison, fixed: Mapping[str, int], name: str) -> Callable[[str, int], float]:
    known: dict[int, Any] = {}

    def at(program: str, size: int) -> float:
        if size not in known:
            known[size] = bill.predicted({**fixed, name: size})
        return known[size][program].seconds

    return at


def _counted(bill: Comparison, fixed: Mapping[str, int], name: str) -> Callable[[str, int], float]:
    counts = {"primal": bill.primal, **bill.programs}
    return lambda program, size: max(float(counts[program].operations.at({**fixed, name: size})), 0.1)


def _cross(axes: Any, lines: Mapping[str, Sequence[float]], sizes: Sequence[int], name: str) -> None:
    """Mark where the lines of two modes meet."""
    modes = [n for n in lines if n != "primal"]
    marked = 0
    for number, first in enumerate(modes):
        for second in modes[number + 1 :]:
            place = _meeting(lines[first], lines[second], sizes)
            if place is None:
                continue
            x, y = place
            axes.axvline(x, color="0.7", linewidth=0.9, linestyle=":", zorder=1)
            axes.plot([x], [y], marker="o", markersize=11, markerfacecolor="none", markeredgecolor="0.2", zorder=4)
            # At the foot of the line: beside the crossing it would lie on the curves.
            size = f"{x:.2g}" if x < 100 else f"{x:.0f}"
            axes.annotate(f"{first} = {second} at {name} ≈ {size}", (x, 0.03 + 0.065 * marked),
                          xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points", fontsize=9,
                          color="0.2", bbox=_LABEL, zorder=5)  # fmt: skip
            marked += 1


def _meeting(a: Sequence[float], b: Sequence[float], sizes: Sequence[int]) -> tuple[float, float] | None:
    """The first crossing of two sampled curves, interpolated on log axes."""
    gaps = [math.log(u / v) for u, v in zip(a, b, strict=True)]
    for i in range(len(gaps) - 1):
        apart = max(map(abs, gaps[: i + 1])) > _APART and max(map(abs, gaps[i + 1 :])) > _APART
        if apart and gaps[i] * gaps[i + 1] < 0:
            part = gaps[i] / (gaps[i] - gaps[i + 1])
            x = sizes[i] ** (1 - part) * sizes[i + 1] ** part
            return x, a[i] ** (1 - part) * a[i + 1] ** part
    return None


# -------------------------------------------------------------------- roofline
def _roofline(axes: Any, bill: Comparison) -> None:
    machine = bill.machine
    assert machine is not None, "only a measured bill has a roofline"
    styles = _styles(bill)
    seen: list[tuple[float, float]] = []
    for group in _groups(bill):
        colour, marker, _ = styles[group[0]]
        points: list[tuple[float, float]] = []
        for sizes, timings in zip(bill.points, bill.measured, strict=True):
            guess = bill.predicted(sizes)[group[0]]
            if guess.operations and guess.bytes:
                points.append((guess.intensity, guess.operations / timings[group[0]].seconds))
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], color=colour, linewidth=0.9, alpha=0.5, zorder=2)
            axes.scatter([p[0] for p in points], [p[1] for p in points], color=colour, marker=marker, s=42, zorder=3,
                         edgecolors="white", linewidths=0.6, label=" = ".join(group))  # fmt: skip
        seen += points
    left = min([p[0] for p in seen] + [machine.peak / machine.bandwidth[0][1] / 8]) / 2
    right = max([p[0] for p in seen] + [machine.peak / machine.bandwidth[-1][1]]) * 3
    for label, (_, speed) in (("in cache", machine.bandwidth[0]), ("from memory", machine.bandwidth[-1])):
        knee = machine.peak / speed
        axes.plot([left, knee, right], [left * speed, machine.peak, machine.peak], color=_GREY, linewidth=1.2, zorder=2)
        axes.annotate(f"{label}, {speed / 1e9:.0f} GB/s", (left * 1.15, left * 1.15 * speed), xytext=(0, 5),
                      textcoords="offset points", rotation=45, rotation_mode="anchor",
                      transform_rotates_text=True, fontsize=8, color=_GREY)  # fmt: skip
    axes.annotate(f"matrix product, {machine.peak / 1e9:.0f} GFLOP/s", (right, machine.peak), xytext=(-2, 4),
                  textcoords="offset points", ha="right", fontsize=8, color=_GREY)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    bottom = min([p[1] for p in seen] + [left * machine.bandwidth[-1][1]]) / 2
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, machine.peak * 3)
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("operations per second")
    axes.set_title("Roofline of this machine, one core", fontsize=11)
    axes.xaxis.set_major_formatter(_plain)
    axes.yaxis.set_major_formatter(_rate)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _tidy(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, which="major", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)


def _plain(value: float, _: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _unit(seconds: float, _: int) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds / 1e-9:g} ns"


def _rate(value: float, _: int) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.999 * size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
