r"""The LaTeX of structured derivatives: sums of Kronecker products, diagonals, outer products and unit matrices.

A part is written as one matrix per axis where it is a product over axes, `2 V^{\top} V \otimes I_{m}`; else as the sum
over its labels of factors times unit vectors, which says every place: `\sum_{a} d_{a} e_{a} e_{a + 1}^{\top}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symdiff.api.expression import Derivative, Expression
from symdiff.ir.dims import Size
from symdiff.structured import Affine, Indirect
from symdiff.structured.kinds import Part
from symdiff.structured.terms import Factor, Place, single_label

_NAMES = "abcdpqrstuvw"
_ONE, _OTIMES = r"\mathbf{1}", r" \otimes "


def latex(parts: Sequence[Part], order: str) -> str:
    """The sum of all parts; order: "C" for arrays flattened row by row, "F" for column by column (vec)."""
    text = ""
    for part in parts:
        negative, own = _part(part, order)
        text += (" - " if negative else " + ") + own if text else ("-" if negative else "") + own
    return text or "0"


# -------------------------------------------------------------------- one part
def _part(part: Part, order: str) -> tuple[bool, str]:
    """Whether a part is subtracted, and what is."""
    negative = False
    shown: list[tuple[Factor, str]] = []
    for factor in part.factors:
        text = Derivative(factor.value).latex()
        if text.startswith("-") and not _is_sum(text[1:]):
            negative, text = not negative, text[1:].strip()
        shown.append((factor, text))
    scalars = [_scalar(t) for f, t in shown if not f.labels and t != "1"]
    arrays = [(f, t) for f, t in shown if f.labels]
    found = _diagonal(part, arrays) or _band(part, arrays) or _product(part, arrays, order)
    found = found or _units(part, arrays, order)
    return negative, " ".join([*scalars, _grouped(found) if scalars and _is_sum(found) else found])


def _diagonal(part: Part, arrays: Sequence[tuple[Factor, str]]) -> str:
    """A diagonal matrix of one array, or one number; empty for others."""
    if part.kind != "diagonal" or len(arrays) != 1:
        return ""
    ((factor, text),) = arrays
    if part.out == part.inside == (1,):
        return text
    sides = (part.rows, part.out), (part.columns, part.inside)
    through = [[_through(p, s, part.sizes) for p, s in zip(*side, strict=True)] for side in sides]
    labels = list(factor.labels)
    if labels not in through:
        return ""
    inner = text if len(labels) == 1 else rf"\operatorname{{vec}}({text})"
    return rf"\operatorname{{diag}}({inner})"


def _band(part: Part, arrays: Sequence[tuple[Factor, str]]) -> str:
    """A whole diagonal beside the main one, by its offset; empty for others."""
    if part.kind != "banded" or len(part.rows) != 1 or len(arrays) > 1:
        return ""
    (row,), (column,) = part.rows, part.columns
    assert isinstance(row, Affine) and isinstance(column, Affine)
    offset = column.start - row.start
    (count,) = part.sizes.values() if part.sizes else (1,)
    first, length = (0, part.out[0]) if column.start != 0 else (row.start, part.inside[0])
    whole = row.start == first and length - count == (offset if column.start != 0 else -offset)
    if part.out != part.inside or not whole:
        return ""
    name = r"\operatorname{diag}" + (f"_{{{offset}}}" if offset != 0 else "")
    return rf"{name}({arrays[0][1] if arrays else _ONE})"


def _product(part: Part, arrays: Sequence[tuple[Factor, str]], order: str) -> str:
    """One matrix per axis, joined by \\otimes; empty where a factor spans several axes."""
    if len(part.rows) + len(part.columns) == 1 and len(arrays) == 1:  # the derivative in, or of, a scalar
        ((_, text),) = arrays
        side, shape = (part.rows, part.out) if part.rows else (part.columns, part.inside)
        if _through(side[0], shape[0], part.sizes) is not None:
            return text if part.rows else _raised(text)
    if len(part.rows) != len(part.columns):
        return ""
    matrices: list[str] = []
    left = list(arrays)
    seen: set[int] = set()
    axes = zip(part.rows, part.columns, part.out, part.inside, strict=True)
    for row, column, high, wide in axes:
        a, b = _through(row, high, part.sizes), _through(column, wide, part.sizes)
        if a is None or b is None or seen & {a, b}:
            return ""
        seen |= {a, b}
        own = [(f, t) for f, t in left if set(f.labels) & {a, b}]
        summed = {x for f, _ in own for x in f.labels if x not in (a, b)}
        own += [(f, t) for f, t in left if set(f.labels) & summed and (f, t) not in own]
        left = [item for item in left if item not in own]
        size = f"_{{{part.sizes[a]}}}" if len(part.rows) > 1 else ""
        matrix = _matrix(a, b, own, summed, size)
        if not matrix:
            return ""
        matrices.append(matrix)
    if left or not matrices:
        return ""
    ordered = matrices if order == "C" else matrices[::-1]
    return _OTIMES.join(_grouped(m) if len(matrices) > 1 else m for m in ordered)


def _matrix(a: int, b: int, own: Sequence[tuple[Factor, str]], summed: set[int], size: str) -> str:
    """The matrix over a row label and a column label; size: the index of an identity."""
    if a == b:
        if summed or len(own) > 1:
            return ""
        return rf"\operatorname{{diag}}({own[0][1]})" if own else f"I{size}"
    by = {f.labels: t for f, t in own}
    if len(by) < len(own):
        return ""
    if set(by) == {(a, b)}:
        return by[a, b]
    if not summed and set(by) <= {(a,), (b,)}:
        return f"{_grouped(by.get((a,), _ONE))} {_raised(by.get((b,), _ONE))}"
    if len(summed) == 1 and len(by) == 2:
        (s,) = summed
        for left, right in (((a, s), (b, s)), ((s, a), (s, b))):
            if set(by) == {tuple(sorted(left)), tuple(sorted(right))}:
                return f"{_grouped(by[tuple(sorted(left))])} {_raised(by[tuple(sorted(right))])}"
    return ""


def _units(part: Part, arrays: Sequence[tuple[Factor, str]], order: str) -> str:
    """The sum over all labels of factors times unit vectors."""
    labels = dict.fromkeys(x for p in (*part.rows, *part.columns) for x in p.labels)
    labels.update(dict.fromkeys(x for f, _ in arrays for x in f.labels))
    names = {x: _NAMES[i] if i < len(_NAMES) else f"a_{{{i}}}" for i, x in enumerate(labels)}
    factors = [f"{_bracketed(t)}_{{{' '.join(names[x] for x in f.labels)}}}" for f, t in arrays]
    sides = [_vector([_position(p, names) for p in places], order) for places in (part.rows, part.columns)]
    unit = f"{sides[0]} {sides[1]}^{{\\top}}" if sides[1] else sides[0]
    bounds = ", ".join(f"{names[x]} < {part.sizes[x]}" for x in labels)
    text = " ".join([*factors, unit] if unit else factors) or "1"
    return rf"\sum_{{{bounds}}} {text}" if labels else text


def _vector(positions: Sequence[str], order: str) -> str:
    ordered = positions if order == "C" else positions[::-1]
    units = [f"e_{{{p}}}" for p in ordered]
    return units[0] if len(units) == 1 else f"({_OTIMES.join(units)})" if units else ""


def _position(place: Place, names: Mapping[int, str]) -> str:
    if isinstance(place, Indirect):
        index = Expression(place.index).latex()
        return f"{_bracketed(index)}_{{{' '.join(names[x] for x in place.labels)}}}"
    words = [names[x] if s == 1 else f"-{names[x]}" if s == -1 else f"{s} {names[x]}" if isinstance(s, int)
             else f"({s}) {names[x]}" for x, s in place.steps]  # fmt: skip
    if place.start != 0 or not words:
        words.append(str(place.start))
    return " + ".join(words).replace("+ -", "- ")


def _through(place: Place, size: Size, sizes: Mapping[int, Size]) -> int | None:
    return single_label(place, size, sizes)


# -------------------------------------------------------------------- brackets
def _depths(text: str) -> list[int]:
    """How many brackets are open at every character."""
    depth, found = 0, list[int]()
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        found.append(depth)
    return found


def _is_sum(text: str) -> bool:
    """Whether a formula has a plus or minus outside of brackets."""
    depths = _depths(text)
    return any(c in "+-" and depth == 0 for c, depth in zip(text, depths, strict=True))


def _grouped(text: str) -> str:
    return rf"\left({text}\right)" if _is_sum(text) else text


def _scalar(text: str) -> str:
    """A number in front of a matrix: a product with transposes would run into it."""
    whole = text.startswith(r"\frac") and " " not in text.split("}")[-1]
    return text if whole or (not _is_sum(text) and r"\top" not in text) else f"({text})"


def _is_atom(text: str) -> bool:
    """Whether a formula needs no brackets to be raised or indexed: one name."""
    return " " not in text.strip() and not any(c in text for c in "^_+-(")


def _bracketed(text: str) -> str:
    return text if _is_atom(text) else f"({text})"


def _raised(text: str) -> str:
    """The transpose."""
    function = text.startswith(r"\operatorname") and _closes_last(text)
    return f"{text}^{{\\top}}" if function or _is_atom(text) or _closed(text) else rf"({text})^{{\top}}"


def _closed(text: str) -> bool:
    return text.startswith("(") and _closes_last(text) and _depths(text).index(0) == len(text) - 1


def _closes_last(text: str) -> bool:
    """Whether a call name(...) ends with its own bracket."""
    at = text.find("(")
    return at >= 0 and 0 not in _depths(text)[at:-1] and text.endswith(")")
