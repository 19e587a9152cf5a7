"""A machine that runs programs one scalar operation at a time and counts them: the meaning of `symdiff.cost.count`.

Every op is a loop over indices with the tally's own `add`, `multiply`, ...; results are compared with the op's NumPy
evaluation, so a loop that counts something else than it should compute is found.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symdiff.interp import interpret
from symdiff.ir.contraction import label_sizes, parse_spec
from symdiff.ir.dims import Dim, evaluate
from symdiff.ir.graph import Function, Value, loop_key
from symdiff.ir.run import resolve

ADDING = {"add", "sub", "neg"}
DIVIDING = {"div", "mod", "floor_divide"}
COMPARING = {
    "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "select", "maximum", "minimum", "abs", "relu",
    "sign", "floor", "ceil", "round", "trunc",
}  # fmt: skip


class Tally(Counter[str]):
    """Scalar arithmetic that counts itself."""

    def add(self, a: float, b: float) -> float:
        self["add"] += 1
        return a + b

    def sub(self, a: float, b: float) -> float:
        self["add"] += 1
        return a - b

    def mul(self, a: float, b: float) -> float:
        self["multiply"] += 1
        return a * b

    def div(self, a: float, b: float) -> float:
        self["divide"] += 1
        return a / b

    def larger(self, a: float, b: float) -> bool:
        self["compare"] += 1
        return a > b

    def call(self, name: str, x: float) -> float:
        self[name] += 1
        return float({"exp": math.exp, "log": math.log, "sqrt": math.sqrt}[name](x))

    def sum(self, items: Sequence[float]) -> float:
        total = items[0]
        for item in items[1:]:
            total = self.add(total, item)
        return total

    def largest(self, items: Sequence[float]) -> int:
        best = 0
        for i in range(1, len(items)):
            if self.larger(items[i], items[best]):
                best = i
        return best


def execute(function: Function, args: Sequence[Any], sizes: Mapping[str, int]) -> Tally:
    """Run all of `function`, checking every result against NumPy."""
    tally = Tally()
    values: dict[Value, Any] = dict(zip(function.params, [np.asarray(a) for a in args], strict=True))
    loops: set[Any] = set()
    with np.errstate(all="ignore"):
        for value in function.instrs:
            if value.op.picks:
                values[value] = _looped(tally, value, [np.asarray(values[a]) for a in value.args], sizes, loops)
                continue
            operands = [np.asarray(values[a]) for a in value.args]
            attrs = {k: resolve(v, sizes) for k, v in value.attrs}
            want = np.asarray(value.op.evaluate(*operands, **attrs))
            own = Tally()
            got = _one(own, value, operands, attrs, want)
            if value.type.dtype == "i64":
                own["integer"] += sum(own.pop(name, 0) for name in ("add", "multiply", "divide"))
            tally.update(own)
            if got is not None:
                np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10, err_msg=value.op.name)
            values[value] = want
    return tally


def _looped(tally: Tally, value: Value, operands: list[Any], sizes: Mapping[str, int], done: set[Any]) -> Any:
    """One result of a loop; its steps are counted with the first of its results."""
    attrs = {k: resolve(v, sizes) for k, v in value.attrs}
    want = value.op.evaluate(*operands, **attrs)
    if value.attr("pick") >= value.attr("carries"):
        tally["move"] += np.size(want)
    if loop_key(value) not in done:
        done.add(loop_key(value))
        count, end = value.attr("carries"), value.attr("carries") + value.attr("slices")
        state, body = operands[:count], value.attr("body")
        for t in range(attrs["length"]):
            at = attrs["length"] - 1 - t if attrs["reverse"] else t
            given = [*state, *[x[at] for x in operands[count:end]], *operands[end:]]
            tally.update(execute(body, given, sizes))
            state = list(interpret(body, given, sizes)[:count])
    return want


def _one(tally: Tally, value: Value, operands: list[Any], attrs: dict[str, Any], want: Any) -> Any:
    name = value.op.name
    if name in ("const", "array", "iota", "size", "reshape", "symmetric"):
        return None
    if name == "contract":
        return _contract(tally, value, operands, want)
    if name == "pow" and value.args[1].op.name == "const":
        return _constant_power(tally, operands, value.args[1].attr("value"))
    if name in LOOPS:
        return LOOPS[name](tally, operands, attrs)
    if name in LINES:
        return _along_lines(tally, LINES[name], operands[0], attrs, want)
    if name in ("slice", "gather", "concatenate", "tril", "triu", "cast"):
        tally["move"] += want.size
        return None
    if name in ("embed", "last_writer"):
        tally["move"] += operands[0].size
        return None
    if name == "scatter_add":
        tally["add"] += operands[0].size
        return None
    assert value.op.elementwise, f"no loop for {name}"
    for _ in np.ndindex(want.shape):
        if name in ADDING:
            tally["add"] += 1
        elif name == "mul":
            tally["multiply"] += 1
        elif name in DIVIDING:
            tally["divide"] += 1
        elif name in COMPARING:
            tally["compare"] += 1
        elif name == "clip":
            tally["compare"] += 2
        else:
            tally[name] += 1
    return None


def _constant_power(tally: Tally, operands: list[Any], exponent: Any) -> Any:
    result = np.empty(operands[0].shape)
    for index in np.ndindex(result.shape):
        x = float(operands[0][index])
        power, whole = abs(exponent), abs(exponent).denominator == 1 if not isinstance(exponent, str) else False
        if not isinstance(exponent, str) and power * 2 == 1:
            y = tally.call("sqrt", x)
        elif whole and power <= 64:
            bits = bin(int(power))[3:]
            y = x
            for bit in bits:  # square and multiply from the highest bit
                y = tally.mul(y, y)
                if bit == "1":
                    y = tally.mul(y, x)
        else:
            tally["pow"] += 1
            result[index] = x ** float(exponent)
            continue
        result[index] = tally.div(1.0, y) if exponent < 0 else y
    return result


# -------------------------------------------------------------------- contraction by dictionaries
def _contract(tally: Tally, value: Value, operands: list[Any], want: Any) -> Any:
    spec = parse_spec(value.attr("spec"))
    symbolic = label_sizes(spec, [a.shape for a in value.args], value.attr("sizes", ()))
    # Any named dimension counts as 100 when the order is chosen.
    weight = {k: s if isinstance(s, int) else _at_hundred(s) for k, s in symbolic.items()}
    tables: list[tuple[tuple[int, ...], dict[tuple[int, ...], float]]] = []
    for labels, array in zip(spec.operands, operands, strict=True):
        own = tuple(dict.fromkeys(labels))
        table: dict[tuple[int, ...], float] = {}
        for index in np.ndindex(array.shape):
            at = dict(zip(labels, index, strict=True))
            if tuple(at[x] for x in labels) == index:
                table[tuple(at[x] for x in own)] = float(array[index])
        tables.append((own, table))
    worked = False
    for i, (labels, table) in enumerate(tables):
        elsewhere = {x for j, (o, _) in enumerate(tables) if j != i for x in o} | set(spec.output)
        keep = tuple(x for x in labels if x in elsewhere)
        if keep != labels:
            worked = True
            tables[i] = (keep, _summed(tally, labels, table, keep))
    while len(tables) > 1:
        worked = True
        options: list[tuple[int, int, int, int]] = []
        for i, j in itertools.combinations(range(len(tables)), 2):
            together = set(tables[i][0]) | set(tables[j][0])
            rest = {x for k, (o, _) in enumerate(tables) if k not in (i, j) for x in o} | set(spec.output)
            options.append((_volume(together, weight), _volume(together & rest, weight), i, j))
        _, _, i, j = min(options)
        (left, a), (right, b) = tables[i], tables[j]
        rest = {x for k, (o, _) in enumerate(tables) if k not in (i, j) for x in o} | set(spec.output)
        space = tuple(dict.fromkeys(left + right))
        product: dict[tuple[int, ...], float] = {}
        for ia, ib in itertools.product(a, b):
            at = dict(zip(left, ia, strict=True))
            if all(at.setdefault(x, n) == n for x, n in zip(right, ib, strict=True)):
                product[tuple(at[x] for x in space)] = tally.mul(a[ia], b[ib])
        keep = tuple(x for x in space if x in rest)
        tables[i] = (keep, _summed(tally, space, product, keep))
        del tables[j]
    if spec.operands and (not worked or spec.free):
        distinct = dict(zip(spec.output, want.shape, strict=True))
        tally["move"] += math.prod(distinct.values())
    if not spec.operands or spec.free or len(set(spec.output)) < len(spec.output):
        return None  # written by NumPy: nothing is computed
    labels, table = tables[0]
    result = np.empty(want.shape)
    for index in np.ndindex(result.shape):
        at = dict(zip(spec.output, index, strict=True))
        result[index] = table[tuple(at[x] for x in labels)]
    return result


def _at_hundred(size: Dim) -> int:
    return evaluate(size, dict.fromkeys(size.names, 100))


def _volume(labels: set[int], weight: Mapping[int, int]) -> int:
    return math.prod(weight[x] for x in labels)


def _summed(tally: Tally, labels: tuple[int, ...], table: dict[Any, float], keep: tuple[int, ...]) -> dict[Any, float]:
    groups: dict[tuple[int, ...], list[float]] = {}
    for index, number in table.items():
        at = dict(zip(labels, index, strict=True))
        groups.setdefault(tuple(at[x] for x in keep), []).append(number)
    return {key: tally.sum(items) for key, items in groups.items()}


# -------------------------------------------------------------------- along axes
def _along_lines(tally: Tally, work: Callable[..., Any], x: Any, attrs: dict[str, Any], want: Any) -> Any:
    """`work(tally, line)` on every line along the axes; it returns a number or a line."""
    axes = attrs.get("axes", (attrs.get("axis"),))
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    lead = moved.shape[: moved.ndim - len(axes)]
    lines = moved.reshape(-1, math.prod(moved.shape[moved.ndim - len(axes) :]))
    if attrs.get("reverse"):
        lines = lines[:, ::-1]
    results = [work(tally, [float(v) for v in line]) for line in lines]
    if np.ndim(results[0]) == 0:
        return np.array(results).reshape(lead)
    table = np.array(results)
    table = table[:, ::-1] if attrs.get("reverse") else table
    return np.moveaxis(table.reshape(moved.shape), range(-len(axes), 0), axes)


def _norm(t: Tally, line: list[float]) -> float:
    return t.call("sqrt", t.sum([t.mul(v, v) for v in line]))


def _exponentials(t: Tally, line: list[float]) -> tuple[float, list[float]]:
    top = line[t.largest(line)]
    return top, [t.call("exp", t.sub(v, top)) for v in line]


def _logsumexp(t: Tally, line: list[float]) -> float:
    top, powers = _exponentials(t, line)
    return t.add(t.call("log", t.sum(powers)), top)


def _softmax(t: Tally, line: list[float]) -> list[float]:
    _, powers = _exponentials(t, line)
    total = t.sum(powers)
    return [t.div(p, total) for p in powers]


def _product(t: Tally, line: list[float]) -> float:
    result = line[0]
    for v in line[1:]:
        result = t.mul(result, v)
    return result


def _others(t: Tally, line: list[float]) -> list[float]:
    before, after = [1.0], [1.0]
    for v in line[:-1]:
        before.append(t.mul(before[-1], v))
    for v in line[:0:-1]:
        after.append(t.mul(after[-1], v))
    return [t.mul(a, b) for a, b in zip(before, reversed(after), strict=True)]


def _running(t: Tally, line: list[float]) -> list[float]:
    result = [line[0]]
    for v in line[1:]:
        result.append(t.add(result[-1], v))
    return result


LINES: dict[str, Callable[..., Any]] = {
    "reduce_max": lambda t, line: line[t.largest(line)],
    "reduce_min": lambda t, line: line[t.largest([-v for v in line])],
    "argmax": lambda t, line: t.largest(line),
    "argmin": lambda t, line: t.largest([-v for v in line]),
    "norm": _norm, "logsumexp": _logsumexp, "softmax": _softmax, "reduce_prod": _product, "prod_others": _others,
    "cumsum": _running,
}  # fmt: skip


# -------------------------------------------------------------------- linear algebra on one matrix
def factor(t: Tally, matrix: Any) -> tuple[Any, list[int], int]:
    """LU with partial pivoting in place: the factors, the row order, the sign."""
    a, n, sign = np.array(matrix, float), len(matrix), 1
    order = list(range(n))
    for k in range(n):
        pivot = k + t.largest([abs(v) for v in a[k:, k]])
        if pivot != k:
            a[[k, pivot]] = a[[pivot, k]]
            order[k], order[pivot] = order[pivot], order[k]
            sign = -sign
        for i in range(k + 1, n):
            a[i, k] = t.div(a[i, k], a[k, k])
            for j in range(k + 1, n):
                a[i, j] = t.sub(a[i, j], t.mul(a[i, k], a[k, j]))
    return a, order, sign


def substitute(t: Tally, a: Any, b: Any, lower: bool, unit: bool = False, start: int = 0) -> Any:
    """Solve one triangular system; entries of b before `start` are zeros and skipped."""
    n = len(a)
    x = np.array(b, float)
    rows = range(start, n) if lower else range(n - 1, -1, -1)
    for i in rows:
        for j in range(start, i) if lower else range(i + 1, n):
            x[i] = t.sub(x[i], t.mul(a[i, j], x[j]))
        if not unit:
            x[i] = t.div(x[i], a[i, i])
    return x


def _inverse(t: Tally, matrix: Any) -> Any:
    a, order, _ = factor(t, matrix)
    n = len(a)
    result = np.empty((n, n))
    for column in range(n):
        b = np.zeros(n)
        b[order.index(column)] = 1.0
        y = substitute(t, a, b, lower=True, unit=True, start=order.index(column))
        result[:, column] = substitute(t, a, y, lower=False)
    return result


def _det(t: Tally, matrix: Any) -> float:
    a, _, sign = factor(t, matrix)
    return sign * _product(t, [float(a[i, i]) for i in range(len(a))])


def _signdet(t: Tally, matrix: Any) -> float:
    return 1.0 if t.larger(_det(t, matrix), 0.0) else -1.0


def _logabsdet(t: Tally, matrix: Any) -> float:
    a, _, _ = factor(t, matrix)
    logs: list[float] = []
    for i in range(len(a)):
        size = float(a[i, i]) if t.larger(a[i, i], 0.0) else -float(a[i, i])
        logs.append(t.call("log", size))
    return t.sum(logs)


def _cholesky(t: Tally, matrix: Any) -> Any:
    n = len(matrix)
    a = np.zeros((n, n))
    for i in range(n):
        a[i, i] = matrix[i, i]
        for j in range(i):
            a[i, j] = t.mul(0.5, t.add(matrix[i, j], matrix[j, i]))
    for j in range(n):
        for i in range(j, n):
            for k in range(j):
                a[i, j] = t.sub(a[i, j], t.mul(a[i, k], a[j, k]))
            a[i, j] = t.call("sqrt", a[j, j]) if i == j else t.div(a[i, j], a[j, j])
    return a


def _stacked(work: Callable[[Tally, Any], Any]) -> Callable[..., Any]:
    def loop(t: Tally, operands: list[Any], attrs: dict[str, Any]) -> Any:
        x = operands[0]
        results = [work(t, x[index]) for index in np.ndindex(x.shape[:-2])]
        return np.array(results).reshape(x.shape[:-2] + np.shape(results[0]))

    return loop


def _solve(t: Tally, operands: list[Any], attrs: dict[str, Any]) -> Any:
    a, b = operands
    factors = {index: factor(t, a[index]) for index in np.ndindex(a.shape[:-2])}
    result = np.empty(b.shape)
    for index in np.ndindex(b.shape[:-2]):
        lu, order, _ = factors[index[len(index) - (a.ndim - 2) :]]
        for column in range(b.shape[-1]):
            y = substitute(t, lu, b[(*index, order, column)], lower=True, unit=True)
            result[(*index, slice(None), column)] = substitute(t, lu, y, lower=False)
    return result


def _triangular(t: Tally, operands: list[Any], attrs: dict[str, Any]) -> Any:
    a, b = operands
    result = np.empty(b.shape)
    for index in np.ndindex(b.shape[:-2]):
        matrix = a[index[len(index) - (a.ndim - 2) :]]
        matrix = np.tril(matrix) if attrs["lower"] else np.triu(matrix)
        matrix, lower = (matrix.T, not attrs["lower"]) if attrs["trans"] else (matrix, attrs["lower"])
        for column in range(b.shape[-1]):
            result[(*index, slice(None), column)] = substitute(t, matrix, b[(*index, slice(None), column)], lower)
    return result


LOOPS: dict[str, Callable[..., Any]] = {
    "inverse": _stacked(_inverse), "det": _stacked(_det), "signdet": _stacked(_signdet),
    "logabsdet": _stacked(_logabsdet), "cholesky": _stacked(_cholesky), "solve": _solve,
    "triangular_solve": _triangular,
}  # fmt: skip
