"""LaTeX of a Function, for KaTeX and for papers: matrix notation, index notation from rank three."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from symdiff.errors import ArgumentError
from symdiff.ir.dims import Dim, Size
from symdiff.ir.graph import Function
from symdiff.render.index_notation import Indexer
from symdiff.render.latex_names import symbol_latex
from symdiff.render.lines import broken, depth, glyphs
from symdiff.render.naming import named_subterms, paper_names
from symdiff.render.notation import Node, unit_vector
from symdiff.render.paper import Paper
from symdiff.render.quotients import APPLIED, ATOM, CALL, ELEMENTWISE, PRODUCT, SUM, Text
from symdiff.render.recover import recover
from symdiff.render.recurrences import told
from symdiff.render.steps import Hand, clause_lines

Layout = Literal["denominator", "numerator"]

LARGEST_LINE = 400
# About how many letters fit between the margins.
WIDEST_LINE = 100
# A wider array stands behind a fraction, not over its line.
WIDEST_NUMERATOR = 20

_SPECIAL = {
    "pi": r"\pi", "e": "e", "euler_gamma": r"\gamma", "inf": r"\infty", "-inf": r"-\infty", "nan": r"\text{nan}",
    "-0.0": "-0",
}  # fmt: skip
_LETTERS = "ijklmnpqrstuvabcdefghoxyzw"
_OPERATORS = frozenset({
    "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp", "log", "det", "max", "min",
})  # fmt: skip
_NAMES = {
    "abs": "abs", "arcsinh": "arsinh", "arccosh": "arcosh", "arctanh": "artanh", "reduce_max": "max",
    "reduce_min": "min", "reduce_prod": "prod", "maximum": "max", "minimum": "min", "arctan2": "atan2",
    "round": "round", "cholesky": "chol", "iota": "range", "broadcast_to": "broadcast", "scatter_add": "scatter",
    "last_writer": "lastwriter", "embed": "pad", "prod_others": "prodothers",
}  # fmt: skip
REDUCTIONS = frozenset({
    "reduce_max", "reduce_min", "any", "all", "reduce_prod", "prod_others", "softmax", "logsumexp", "norm", "argmax",
    "argmin",
})  # fmt: skip
_RELATIONS = {"lt": "<", "le": r"\le", "gt": ">", "ge": r"\ge", "eq": "=", "ne": r"\ne", "and": r"\wedge",
              "or": r"\vee", "xor": r"\oplus"}  # fmt: skip


def to_latex(
    function: Function, layout: Layout | None = None, *, bold: bool = False, where: bool | None = None,
    symbols: Mapping[str, str] | None = None, like: Function | None = None, axes: int | None = None,
    width: int | None = WIDEST_LINE,
) -> str:  # fmt: skip
    """One formula per result, several under each other.

    layout: "numerator" writes the derivative of a scalar as a row, or transposed when its variable is a matrix;
    "denominator" writes the Jacobian of vectors, and the derivative in a scalar, transposed. The numbers are the same.
    axes: how many leading axes of a result are the function's; None: results are vectors that may be gradients.
    bold: vectors and matrices in bold type. where: shared subterms get names and follow in a where-clause when that is
    shorter; None: only where a line would be too wide. symbols: the LaTeX of symbols by name, where it is not to be
    read from the name. like: a program whose sums are written in the same order here. width: about how many letters
    fit on a line; wider sums are broken, None leaves them whole.
    """
    if layout not in (None, "numerator", "denominator"):
        raise ArgumentError(f"layout {layout!r}: expected 'numerator' or 'denominator'")
    style = LatexSigns(bold, symbols or {})
    loops = told(function, style)
    signs = {**(symbols or {}), **loops.symbols}
    lines, clauses = _written(loops.function, layout, bold, where, signs, like, axes, width)
    clauses += clause_lines(loops, Hand(
        style, lambda results, names, own, known: LatexPaper(results, names, bold, {**signs, **own}, known),
        lambda paper, node: paper.own_lines(node, width), _placed, LARGEST_LINE,
    ))  # fmt: skip
    marks = [r"\text{where}\quad ", *[r"\phantom{\text{where}}\quad "] * len(clauses)]
    for mark, (first, *rest) in zip(marks, clauses, strict=False):
        lines += [mark + first, *rest]
    return lines[0] if len(lines) == 1 else _stack(lines)


class LatexSigns:
    """How the symbols of loops look."""

    between = r",\quad "

    def __init__(self, bold: bool, symbols: Mapping[str, str]) -> None:
        self._bold = bold
        self._symbols = symbols

    def symbol(self, name: str, rank: int) -> str:
        return self._symbols.get(name) or symbol_latex(name, self._bold and rank > 0)

    def indexed(self, base: str, index: str) -> str:
        index = index.replace("+", " + ") if len(index) > 4 else index
        return f"{base[:-1]},{index}}}" if _INDEXED.search(base) else f"{base}_{{{index}}}"

    def size(self, size: Size) -> str:
        return size_latex(size)

    def steps(self, index: str, first: str, last: str) -> str:
        return rf",\quad {index} = {first}, \dots, {last}"

    def width(self, text: str) -> float:
        return glyphs(text)

    def short(self, function: Function, symbols: Mapping[str, str]) -> str:
        text = _written(function, None, self._bold, False, {**self._symbols, **symbols}, None, None, None)[0][0]
        return text if re.fullmatch(r"\\?\w+(_\{[\w, ]+\})?", text) else ""


_INDEXED = re.compile(r"_\{(?:[^{}]|\{[^{}]*\})*\}$")


def _written(
    function: Function, layout: Layout | None, bold: bool, where: bool | None, symbols: Mapping[str, str],
    like: Function | None, axes: int | None, width: int | None,
) -> tuple[list[str], list[list[str]]]:  # fmt: skip
    """The lines of the results, and those of every subterm that got a name."""
    _, results = recover(function, bool(where), like, for_papers=True)
    large = any(r.size > LARGEST_LINE * 10 for r in results)
    named = named_subterms(results, bool(where) or large, LARGEST_LINE, shorter=True)
    taken = [p.name for p in function.params] + list(function.dims)
    letters = [
        symbol_latex(name, bold and node.rank > 0)
        for name, node in zip(paper_names(named, taken), named, strict=True)
    ]
    paper = LatexPaper(results, dict(zip(named, letters, strict=True)), bold, symbols)
    lines = [line for r in results for line in paper.result(r, turns(layout, axes, r.rank), width)]
    if where is None and not large and width and any(glyphs(line) > width for line in lines):
        return _written(function, layout, bold, True, symbols, like, axes, width)
    clauses: list[list[str]] = []
    for node, letter in zip(named, letters, strict=True):
        letter = _placed(paper, letter, node) if node.rank > 2 else letter
        first, *rest = paper.own_lines(node, width)
        clauses.append([f"{letter} = {first}", *rest])
    return lines, clauses


def _placed(paper: LatexPaper, sign: str, node: Node) -> str:
    """The sign of a tensor with its indices."""
    return _below(sign, paper.indexer.letters[: node.rank])


def turns(layout: Layout | None, axes: int | None, rank: int) -> bool:
    """Whether a layout turns a derivative of this rank, whose first `axes` axes are the function's."""
    if not 0 < rank < 3 or layout is None:
        return False
    if axes is None:
        return layout == "numerator" and rank == 1
    return axes == 0 if layout == "numerator" else axes > 0 and rank - axes < 2


def _stack(lines: Sequence[str]) -> str:
    body = " \\\\\n".join(["& " + line for line in lines])
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def size_latex(size: Size | str) -> str:
    """A size, or its text: a symbol, or a polynomial."""
    text = str(size)
    if text.isidentifier():
        return symbol_latex(text)
    return re.sub(r"\*\*(\d+)", r"^{\1}", text).replace("//", "/").replace("*", r"\,")


_WORD = re.compile(r"\\mathrm\{\w+\}(_\{[^{}]*\})?$")
"""A name of several letters, with its index or without."""


class LatexPaper(Paper):
    """The signs of LaTeX."""

    odot = r"\odot"
    dot = r"\cdot"
    oslash = r"\oslash"
    minus = "-"
    one = r"\mathbf{1}"
    identity = "I"
    transposed_sign = r"^{\top}"
    transposed_mark = r"\top"
    inverse_sign = "-1"
    inverse_transposed = r"-\top"

    def __init__(self, results: Sequence[Node], names: Mapping[Node, str], bold: bool = False,
                 symbols: Mapping[str, str] | None = None, known: Mapping[str, str] | None = None) -> None:  # fmt: skip
        self.bold = bold
        self.symbols = symbols or {}
        self.indexer = Indexer(self, _LETTERS, r"\delta", _below, _total, results)
        super().__init__(results, names, known or {})

    def result(self, node: Node, turned: bool, width: int | None) -> list[str]:
        """The lines of one result."""
        if node in self.names:
            return [self.turned(node)[0] if turned else self.names[node]]
        return [self.turned(node)[0]] if turned and node.kind != "add" else self.own_lines(node, width, turned)

    def own_lines(self, node: Node, width: int | None, turned: bool = False) -> list[str]:
        """An expression on lines of its own, a sum that is too wide broken between its terms."""
        index = self.indexer.letters[: node.rank]
        if node.kind == "add" and node.rank > 2:
            terms = self.indexer.terms(node, index)
        elif node.kind == "add" and turned and node.rank == 1:
            return [self.lying(node)[0]]
        elif node.kind == "add":
            terms = self._all_terms(node, turned)
        elif node.rank > 2 and node.kind != "entries":
            return [self.indexer.defined(node, index)[0]]
        else:
            return [self.own(node)[0]]
        return broken(self.signed_parts(terms), width)

    def _all_terms(self, node: Node, turned: bool) -> list[tuple[int, Text]]:
        """The terms of a sum, those of sums in it among them."""
        found: list[tuple[int, Text]] = []
        pending = [(1, node)]
        while pending:
            sign, term = pending.pop()
            if term.kind == "add" and sign > 0 and term.rank == node.rank and (term is node or term not in self.names):
                pending.extend(reversed(list(zip(term.data, term.args, strict=True))))
            else:
                found.append((sign, self.spread(term, node.rank, turned)))
        return found

    # ---------------------------------------------------------------- signs
    def join(self, parts: Sequence[str]) -> str:
        """Factors side by side, a little apart at names of several letters and at brackets that look like arguments."""
        text = parts[0]
        for before, part in pairwise(parts):
            opens = part.startswith(("(", r"\left(", r"\bigl(", r"\Bigl("))
            apart = (before.endswith(")") and opens) or _WORD.match(before) or part.startswith(r"\mathrm")
            text += (r" \, " if apart else " ") + part
        return text

    def symbol(self, name: str, rank: int) -> str:
        given = self.symbols.get(name)
        return symbol_latex(name, self.bold and rank > 0) if given is None else given

    def number(self, value: Any) -> Text:
        if isinstance(value, bool):
            return rf"\text{{{str(value).lower()}}}", ATOM
        if isinstance(value, str):
            return _SPECIAL[value], ATOM if not value.startswith("-") else SUM
        fraction = Fraction(value)
        sign = "-" if fraction < 0 else ""
        numeral = self.numeral(abs(fraction))
        if numeral is not None:
            return (sign + numeral[0], SUM) if sign else numeral
        if fraction.denominator == 1:
            return str(fraction.numerator), SUM if sign else ATOM
        return rf"{sign}\frac{{{abs(fraction.numerator)}}}{{{fraction.denominator}}}", SUM if sign else CALL

    def size(self, size: Size) -> Text:
        return size_latex(size), ATOM if str(size).isidentifier() else SUM

    def group(self, text: str) -> str:
        """Brackets that fit what is in them, larger ones around brackets in brackets."""
        if any(mark in text for mark in (r"\frac", r"\sum", r"\begin", r"\left")):
            return rf"\left({text}\right)"
        deep = depth(text)
        if deep < 2:
            return f"({text})"
        size = r"\big" if deep < 4 else r"\Big"
        return f"{size}l({text}{size}r)"

    def stands_apart(self, body: Text) -> bool:
        return r"\frac" in body[0] or glyphs(body[0]) > WIDEST_NUMERATOR

    def top(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def array_power(self, base: str, exponent: str, rank: int) -> str:
        return rf"{base}^{{\odot {exponent}}}"

    def fraction(self, above: Text, below: Text) -> Text:
        return rf"\frac{{{above[0]}}}{{{below[0]}}}", CALL

    def norm(self, text: str, matrix: bool) -> str:
        tall = r"\frac" in text
        left, right = (r"\left\lVert", r"\right\rVert") if tall else (r"\lVert", r"\rVert")
        return f"{left} {text} {right}" + ("_F" if matrix else "")

    def function(self, name: str, args: Sequence[str], where: str = "") -> str:
        shown = f"\\{name}" if name in _OPERATORS else rf"\operatorname{{{name}}}"
        if where:
            shown += rf"_{{\text{{{where}}}}}"
        return shown + self.group(", ".join(args))

    def subscript(self, node: Node) -> Text:
        if unit_vector(node):
            return _below("e", [self.size(node.data[0])[0]]), APPLIED
        plain = all(entry is None or isinstance(entry, (int, Dim)) for entry in node.data)
        return _subscript(self, node, plain), APPLIED if plain else CALL

    def entries(self, node: Node) -> Text:
        """A column, a matrix, and beyond that blocks: a column of matrices, a matrix of matrices."""
        texts, rank = [self.text(a)[0] for a in node.args], node.rank
        while rank > 2:
            rows, columns = node.shape[rank - 2 : rank]
            assert isinstance(rows, int) and isinstance(columns, int)
            block = rows * columns
            texts = [_block(texts[i : i + block], columns) for i in range(0, len(texts), block)]
            rank -= 2
        columns = node.shape[1] if rank == 2 else 1
        assert isinstance(columns, int)
        return _block(texts, columns), ATOM

    def einsum(self, node: Node) -> Text:
        if node.rank > 2:
            return self.indexer.bare(node)[0], PRODUCT
        text, index = self.indexer.bare(node)
        return (_below(rf"\left[{text}\right]", index), CALL) if index else (text, PRODUCT)

    # ---------------------------------------------------------------- functions
    def call(self, node: Node, texts: Sequence[Text]) -> Text:
        """A function of operands with the given texts."""
        name, data = node.data[0], node.data[1:]
        args = [t[0] for t in texts]
        if name in _RELATIONS:
            parts = [self.at(t, SUM if name not in ("and", "or", "xor") else ELEMENTWISE) for t in texts]
            return f"{parts[0]} {_RELATIONS[name]} {parts[1]}", -1
        if name in ("apply", "functional"):
            return _undefined(self, node, args)
        if name == "norm" and len(data[0]) == node.args[0].rank:
            return self.norm(args[0], node.args[0].rank == 2), APPLIED
        if name == "abs":
            return rf"\lvert {args[0]} \rvert", APPLIED
        if name == "sqrt":
            return rf"\sqrt{{{args[0]}}}", CALL
        if name == "cbrt":
            return rf"\sqrt[3]{{{args[0]}}}", CALL
        if name in ("floor", "ceil"):
            return rf"\l{name} {args[0]} \r{name}", CALL
        if name == "floor_divide":
            return rf"\lfloor {args[0]} / {args[1]} \rfloor", CALL
        if name == "mod":
            left, right = [self.at(t, CALL) for t in texts]
            return rf"{left} \bmod {right}", ELEMENTWISE
        if name == "sigmoid":
            return rf"\sigma{self.group(args[0])}", APPLIED
        if name in ("lgamma", "digamma", "log2", "log10", "log1p", "exp2", "logabsdet", "signdet", "polygamma"):
            return self._special(name, node, texts)
        if name == "logaddexp":
            return self.function("log", [" + ".join([self.function("exp", [a]) for a in args])]), APPLIED
        if name == "select":
            rows = rf"{args[1]} & {args[0]} \\ {args[2]} & \text{{otherwise}}"
            return rf"\begin{{cases}} {rows} \end{{cases}}", ELEMENTWISE
        if name == "not":
            return rf"\neg {self.at(texts[0], ATOM)}", CALL
        if name == "cast":
            if node.args[0].kind == "call" and texts[0][1] < 0:
                return rf"\mathbf{{1}}[{args[0]}]", APPLIED
            return texts[0]
        if name == "concatenate" and node.rank <= 2:
            return _block(args, 1 if data[0] == 0 else len(args)), ATOM
        if name == "array":
            return _matrix(data[0].array), CALL
        shown = _NAMES.get(name, name).replace("_", "")
        extra = [self._attribute(a) for a in extra_arguments(node)]
        return self.function(shown, args + extra, where_of(node)), APPLIED

    def _attribute(self, text: str) -> str:
        """An attribute in words or as a size."""
        return rf"\text{{{text}}}" if text.isalpha() and len(text) > 1 else size_latex(text)

    def _special(self, name: str, node: Node, texts: Sequence[Text]) -> Text:
        argument = texts[0][0]
        inner = self.group(argument)
        simple = {"lgamma": r"\log\Gamma", "digamma": r"\psi", "log2": r"\log_{2}", "log10": r"\log_{10}"}
        if name in simple:
            return simple[name] + inner, APPLIED
        if name == "log1p":
            return rf"\log{self.group('1 + ' + argument)}", CALL
        if name == "exp2":
            return f"2^{{{argument}}}", CALL
        if name == "polygamma":
            return rf"\psi^{{({node.data[1]})}}{inner}", CALL
        det = rf"\det {self.at(texts[0], CALL)}"
        return (rf"\log\lvert {det} \rvert" if name == "logabsdet" else rf"\operatorname{{sign}}({det})"), CALL


def where_of(node: Node) -> str:
    """The axes of a reduction in words, when it does not take all."""
    name, *data = node.data
    rank = node.args[0].rank if node.args else 0
    axes: tuple[int, ...] = ()
    if name in REDUCTIONS:
        axes = data[0]
    elif name in ("cumsum", "concatenate"):
        axes = (data[0],)
    if not axes or len(axes) == rank:
        return ""
    if rank == 2:
        return "rows" if axes == (1,) else "columns"
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join([str(a) for a in axes])}"


def extra_arguments(node: Node) -> list[str]:
    """Attributes worth showing behind the operands."""
    name, *data = node.data
    if name in ("tril", "triu"):
        return [str(data[0])] if data[0] != 0 else []
    if name == "cumsum":
        return ["reverse"] if data[1] else []
    if name in ("reshape", "broadcast_to", "last_writer"):
        return [str(s) for s in data[0]]
    if name == "iota":
        return [str(data[0])]
    if name == "embed":
        return _margins(*data)
    return []


def _margins(starts: Sequence[Size], steps: Sequence[int], inner: Sequence[Size], outer: Sequence[Size]) -> list[str]:
    """Zeros before and after along every axis that has some, or where a strided operand goes."""
    lead = len(outer) - len(starts)
    found: list[str] = []
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True)):
        size, whole = inner[lead + axis], outer[lead + axis]
        if step != 1:
            found.append(f"{start}:{start + step * (size - 1)}:{step}")
        elif size != whole:
            found.append(f"{start}|{whole - start - size}")
    return found


def _below(base: str, index: Sequence[str]) -> str:
    """An index below; a base that has one already is bracketed first."""
    shown = f"({base})" if base.endswith("}") and "_{" in base else base
    return f"{shown}_{{{''.join(index)}}}"


def _total(letters: Sequence[str], body: str) -> str:
    return rf"\sum_{{{', '.join(letters)}}} {body}"


def _subscript(paper: LatexPaper, node: Node, plain: bool) -> str:
    arrays = iter(node.args[1:])
    parts: list[str] = []
    for entry in node.data:
        if entry == "@":
            parts.append(paper.text(next(arrays))[0])
        elif entry is None:
            parts.append(":")
        elif isinstance(entry, tuple):
            first, last, step, _, _ = entry
            ends = rf"{paper.size(first)[0]} \ldots {paper.size(last)[0]}"
            parts.append(ends + (rf" \text{{ by }} {step}" if step != 1 else ""))
        else:
            parts.append(paper.size(entry)[0])
    if plain:
        return _below(paper.at(paper.text(node.args[0]), ATOM), [", ".join(parts)])
    while len(parts) > 1 and parts[-1] == ":":
        parts.pop()
    return _below(paper.at(paper.text(node.args[0]), ATOM), [f"[{', '.join(parts)}]"])


def _block(texts: Sequence[str], columns: int) -> str:
    body = r" \\ ".join([" & ".join(texts[i : i + columns]) for i in range(0, len(texts), columns)])
    return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"


def _matrix(array: Any) -> str:
    if not 0 < array.size <= 64:
        shape = r" \times ".join([str(s) for s in array.shape])
        return rf"\operatorname{{array}}_{{{shape}}}"
    rows = array.reshape(1, -1) if array.ndim < 2 else array.reshape(-1, array.shape[-1])
    return _block([str(x) for x in rows.ravel().tolist()], rows.shape[1])


def _undefined(paper: LatexPaper, node: Node, args: Sequence[str]) -> Text:
    kind, name, wrt = node.data
    shown = symbol_latex(name)
    inner = paper.group(", ".join(args))
    if not wrt:
        return shown + inner, CALL
    if kind == "apply" and len(node.args) == 1:
        primes = "'" * len(wrt) if len(wrt) < 4 else f"^{{({len(wrt)})}}"
        return shown + primes + inner, CALL
    if kind == "apply":
        return "".join([rf"\partial_{{{i + 1}}} " for i in wrt]) + shown + inner, CALL
    if all(node.args[i].kind == "sym" for i in wrt):
        power = f"^{{{len(wrt)}}}" if len(wrt) > 1 else ""
        below = r" \, ".join([rf"\partial {args[i]}" for i in wrt])
        return rf"\frac{{\partial{power} {shown}}}{{{below}}}", CALL
    order = f"^{{{len(wrt)}}}" if len(wrt) > 1 else ""
    place = f"_{{{''.join([str(i + 1) for i in wrt])}}}" if len(node.args) > 1 else ""
    return rf"\nabla{place}{order} {shown}{inner}", CALL
