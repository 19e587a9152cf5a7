"""Drawings: their numbers against the lecture notes, complex step and identities; the geometry of the pictures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff import draw
from symdiff.errors import ArgumentError, DerivativeError
from symdiff.ir.builder import Builder
from symdiff.ir.contraction import contract
from symdiff.ir.types import float64
from symdiff.ops import OPSET
from symdiff.render.drawing import Drawing, Edge, Node, Picture, Row, formula
from symdiff.render.drawing.tikz import escape_tex

Golden = Callable[[str, str], None]


def rows_of(drawing: Drawing) -> dict[str, dict[str, str]]:
    """By node: the rows of its box, and under "name:" what it sends to each operand."""
    found: dict[str, dict[str, str]] = {}
    for node, edges in zip(drawing.picture.nodes, drawing.picture.incoming(), strict=True):
        found[node.name] = {row.key: row.text for row in node.rows}
        for e in edges:
            edge = drawing.picture.edges[e]
            found[node.name][f"{drawing.picture.nodes[edge.source].name}:"] = edge.exact or edge.gradient
    return found


# -------------------------------------------------------------------- the examples of the lecture notes
def product_of_sum() -> Drawing:
    x, y, z = (sd.symbol(name) for name in "xyz")
    return draw({"F": (x + y) * z}, [x, y, z], {"x": -2, "y": 5, "z": -4})


def neuron(digits: int = 4) -> Drawing:
    w0, x0, w1, x1, w2 = (sd.symbol(name) for name in ("w0", "x0", "w1", "x1", "w2"))
    a = 1 / (1 + np.exp(-(w0 * x0 + w1 * x1 + w2)))
    at = {"w0": 2.0, "w1": -3.0, "w2": -3.0, "x0": -1.0, "x1": -2.0}
    return draw({"a": a}, [w0, x0, w1, x1, w2], at, digits=digits)


def sum_times_max() -> Drawing:
    x, y, z = (sd.symbol(name) for name in "xyz")
    return draw((x + y) * np.maximum(y, z), [x, y, z], {"x": 1.0, "y": 2.0, "z": 0.0})


def two_layers(**options: Any) -> Drawing:
    n, m, k = sd.dims("n m k")
    w1, b1, w2, b2 = sd.symbol("W1", (k, n)), sd.symbol("b1", (k, 1)), sd.symbol("W2", (1, k)), sd.symbol("b2", (1, 1))
    x, y = sd.symbol("X", (n, m)), sd.symbol("Y", (1, m))
    a = np.maximum(w1 @ x + b1, 0)
    yh = 1 / (1 + np.exp(-(w2 @ a + b2)))
    return draw({"J": -np.mean(y * np.log(yh) + (1 - y) * np.log(1 - yh))}, [w1, b1, w2, b2], **options)


def test_product_of_sum(golden: Golden) -> None:
    rows = rows_of(product_of_sum())
    assert rows["v1"]["value"] == "3" and rows["F"]["value"] == "-12" and rows["F"]["upstream"] == "1"
    assert rows["v1"]["upstream"] == "-4" and rows["v1"]["∂v1/∂x"] == "1" and rows["v1"]["∂v1/∂y"] == "1"
    assert [rows[name]["gradient"] for name in "xyz"] == ["-4", "-4", "3"]
    golden("draw_product_of_sum", product_of_sum().table())


def test_neuron(golden: Golden) -> None:
    rows = rows_of(neuron(17))
    assert float(rows["a"]["value"]) == pytest.approx(0.7310585786300049, rel=1e-15)
    expected = {
        "x0": 0.3932238664829637, "w0": -0.19661193324148185, "x1": -0.5898357997244456, "w1": -0.3932238664829637,
        "w2": 0.19661193324148185,
    }  # fmt: skip
    for name, gradient in expected.items():
        assert float(rows[name]["gradient"]) == pytest.approx(gradient, rel=1e-14)
    golden("draw_neuron", neuron().table())


def test_sum_times_max(golden: Golden) -> None:
    rows = rows_of(sum_times_max())
    assert [rows[name]["value"] for name in ("v1", "v2", "f")] == ["3", "2", "6"]
    assert [rows[name]["upstream"] for name in ("v1", "v2", "f")] == ["2", "3", "1"]
    assert [rows[name]["gradient"] for name in "xyz"] == ["2", "5 = 2 + 3", "0"]
    assert [node.note for node in sum_times_max().picture.nodes if node.note] == [
        "+ distributes", "max routes", "* switches",
    ]  # fmt: skip
    golden("draw_sum_times_max", sum_times_max().table())


def test_pictures(golden: Golden) -> None:
    golden("draw_sum_times_max_svg", sum_times_max().svg())
    golden("draw_product_of_sum_dot", product_of_sum().dot())
    golden("draw_product_of_sum_tikz", product_of_sum().tikz())


def test_network_in_formulas() -> None:
    """Back-propagation as the notes write it: nabla_w = delta x^T, nabla_h = w^T delta."""
    rows = rows_of(two_layers())
    assert rows["W2"]["δW2"] == "δz5 z4ᵀ" and rows["W1"]["δW1"] == "δz1 Xᵀ" and rows["z5"]["z4:"] == "W2ᵀ δz5"
    assert rows["z3"]["∂z3/∂z1"] == "I" and rows["z8"]["∂z8/∂z7"] == "-I" and rows["z9"]["∂z9/∂z8"] == "diag(z9)"
    assert rows["J"]["δJ"] == "1" and rows["J"]["z20:"] == "-1" and rows["z5"]["δz5"] == "δz7"
    assert two_layers().picture.remark == "δz is the gradient of J in z"


# -------------------------------------------------------------------- numbers
def test_upstream_times_local_is_downstream_and_forks_add(rng: np.random.Generator) -> None:
    x, y, z = (sd.symbol(name) for name in "xyz")
    inner = np.sin(x * y) / (z + np.exp(x))
    f = inner * inner + np.tanh(inner - y) * x**3

    def plain(x: Any, y: Any, z: Any) -> Any:
        t = np.sin(x * y) / (z + np.exp(x))
        return t * t + np.tanh(t - y) * x**3

    at = {name: float(v) for name, v in zip("xyz", rng.uniform(0.3, 1.7, 3), strict=True)}
    drawing = draw(f, [x, y, z], at, digits=17)
    total = dict.fromkeys(range(len(drawing.picture.nodes)), 0.0)
    for k, (node, edges) in enumerate(zip(drawing.picture.nodes, drawing.picture.incoming(), strict=True)):
        upstream = [float(row.text.split(" = ")[0]) for row in node.rows if row.role == "upstream"]
        local = [float(row.text) for row in node.rows if row.role == "local"]
        for e, slope in zip(edges, local, strict=True):
            edge = drawing.picture.edges[e]
            assert edge.target == k
            assert float(edge.exact) == pytest.approx(upstream[0] * slope, rel=1e-13)
            total[edge.source] += float(edge.exact)
    for k, node in enumerate(drawing.picture.nodes):
        (upstream,) = [float(row.text.split(" = ")[0]) for row in node.rows if row.role == "upstream"]
        assert upstream == pytest.approx(total[k] if node.kind != "result" else 1.0, rel=1e-13)
        if node.kind == "input":
            step = {name: v + (1e-30j if name == node.name else 0) for name, v in at.items()}
            assert upstream == pytest.approx(plain(**step).imag / 1e-30, rel=1e-12)


def test_a_factor_used_twice_has_two_wires() -> None:
    x = sd.symbol("x")
    drawing = draw(x * x, x, {"x": 3.0})
    assert [(e.label, e.gradient) for e in drawing.picture.edges] == [("3", "3"), ("3", "3")]
    assert rows_of(drawing)["x"]["gradient"] == "6 = 3 + 3"


def test_branch_not_taken_sends_zero() -> None:
    x = sd.symbol("x", (2,))
    f = np.sum(np.where(x < 1, x, np.sqrt(x)))
    rows = rows_of(draw(f, x, {"x": [0.0, 4.0]}))
    assert rows["x"]["gradient"] == "[1, 0.25]"
    assert next(r["upstream"] for r in rows.values() if r.get("value") == "[0, 2]") == "[0, 1]"
    assert "nan" not in str(draw(f, x, {"x": [0.0, 4.0]}))


def test_arrays_are_short_or_a_norm(rng: np.random.Generator) -> None:
    w, x = sd.symbol("W", (3, 40)), sd.symbol("x", (40,))
    w0, x0 = rng.normal(size=(3, 40)), rng.normal(size=40)
    rows = rows_of(draw(np.sum((w @ x) ** 2), w, {"W": w0, "x": x0}))
    assert rows["W"]["gradient"] == f"3×40, norm {np.linalg.norm(2 * np.outer(w0 @ x0, x0)):.4g}"
    assert rows["z1"]["value"] == f"[{', '.join(f'{v:.4g}' for v in w0 @ x0)}]"
    assert rows["z1"]["∂z1/∂W"] == f"3×3×40, norm {np.sqrt(3) * np.linalg.norm(x0):.4g}"


def test_jacobians_too_large_to_compute_are_named() -> None:
    a = sd.symbol("A", (60, 60))
    rows = rows_of(draw(np.sum(a @ a), a, {"A": np.eye(60)}))
    assert rows["z1"]["upstream"] == "60×60, norm 60"
    assert rows["z1"]["∂z1/∂A"] == "(60, 60, 60, 60) not computed"


def test_generalized_jacobian_upstream() -> None:
    x = sd.symbol("x", (2,))
    rows = rows_of(draw(np.exp(x), x, {"x": [0.0, 0.0]}))
    assert rows["f"]["upstream"] == "[[1, 0], [0, 1]]" and rows["x"]["gradient"] == "[[1, 0], [0, 1]]"
    assert rows["f"]["∂f/∂x"] == "I"


def test_formulas_agree_with_numbers(rng: np.random.Generator) -> None:
    """Each formula on a picture without a point, read back with the values of a picture at a point."""
    x, y = sd.symbol("x"), sd.symbol("y")
    f = np.sin(x * y) * np.exp(y) - np.log(x + y) / y
    at = {"x": float(rng.uniform(1, 2)), "y": float(rng.uniform(1, 2))}
    numbers, texts = rows_of(draw(f, [x, y], at, digits=17)), rows_of(draw(f, [x, y]))
    known: dict[str, float] = {}
    for name, rows in numbers.items():
        known[name] = float(rows["value"])
        known[f"δ{name}"] = float(rows.get("upstream", rows.get("gradient", "0")).split(" = ")[0])
    symbols = {name: sd.symbol(name) for name in known}
    count = 0
    for name, rows in texts.items():
        for key, text in rows.items():
            if text.endswith("…"):
                continue
            read = sd.parse(_ascii(text), symbols)
            value = float(read.evaluate(known_in(_ascii(text), known)))
            expected = known[key] if key.startswith("δ") else float(numbers[name][key])
            assert value == pytest.approx(expected, rel=1e-11), (name, key, text)
            count += 1
    assert count > 20


def _ascii(text: str) -> str:
    text = text.replace("²", "**2").replace("·", "*").replace("½", "0.5")
    return re.sub(r"(?<=[\w)]) (?=[\w(δ])(?!log|sin)|(?<=[\w)]) (?=cos|exp|sin|log)", " * ", text)


def known_in(text: str, known: dict[str, float]) -> dict[str, float]:
    words = set(re.findall(r"\w+", text))
    return {n: v for n, v in known.items() if n in words}


# -------------------------------------------------------------------- what is drawn
def test_without_values_shapes_and_no_gradients() -> None:
    n = sd.dim("n")
    x = sd.symbol("x", (n, 3))
    drawing = draw(np.sum(x.T, axis=0))
    assert [e.label for e in drawing.picture.edges] == ["(n, 3)", "(3, n)"]
    assert drawing.picture.nodes[0].title == "x"
    assert all(not node.rows and not node.note for node in drawing.picture.nodes)
    assert [e.label for e in draw(np.exp(x), sizes={"n": 7}).picture.edges] == ["(7, 3)"]


def test_several_results_are_named() -> None:
    x = sd.symbol("x")
    assert [n.name for n in draw([np.sin(x), np.cos(x)]).picture.nodes] == ["x", "f1", "f2"]
    assert [n.name for n in draw({"s": np.sin(x), "c": np.cos(x)}).picture.nodes] == ["x", "s", "c"]
    f, z = sd.symbol("f"), sd.symbol("z1")
    names = [n.name for n in draw(np.exp(np.sin(f * z))).picture.nodes]
    assert names == ["f", "z1", "v1", "v2", "g"]


def test_constants_are_in_the_labels() -> None:
    x, n = sd.symbol("x", (sd.dim("n"),)), sd.dim("n")
    titles = [node.title for node in draw(np.sum(3 * x**2 + 0.5) / n).picture.nodes]
    assert titles[0] == "x" and titles[1] == "z1 = x²" and titles[-1].endswith("/ n")
    assert any("3" in t for t in titles) and any("0.5" in t for t in titles)
    assert [node.title for node in draw(sd.symbol("x")).picture.nodes] == ["x"]


# The reference meaning of every written form of a two-operand contraction.
FORMS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "i,i->": ("aᵀ b", lambda a, b: a @ b),
    "ij,j->i": ("a b", lambda a, b: a @ b),
    "ij,i->j": ("aᵀ b", lambda a, b: a.T @ b),
    "i,ij->j": ("aᵀ b", lambda a, b: a @ b),
    "i,ji->j": ("b a", lambda a, b: b @ a),
    "ij,jk->ik": ("a b", lambda a, b: a @ b),
    "ij,ik->jk": ("aᵀ b", lambda a, b: a.T @ b),
    "ij,kj->ik": ("a bᵀ", lambda a, b: a @ b.T),
    "ij,ki->jk": ("(b a)ᵀ", lambda a, b: (b @ a).T),
    "ij,jk->ki": ("(a b)ᵀ", lambda a, b: (a @ b).T),
    "i,j->ij": ("a bᵀ", np.outer),
    "i,j->ji": ("b aᵀ", lambda a, b: np.outer(b, a)),
    "ij,ij->": ("sum(a ⊙ b)", lambda a, b: np.sum(a * b)),
    "i,ij->ij": ("diag(a) b", lambda a, b: np.diag(a) @ b),
    "ij,i->ij": ("diag(b) a", lambda a, b: np.diag(b) @ a),
    "ijk,ikl->ijl": ("a b", lambda a, b: a @ b),
    "ij,j->ij": ("a ⊙ b", lambda a, b: a * b),
    ",i->i": ("a · b", lambda a, b: a * b),
    "ij,jkl->ikl": ('einsum("ij,jkl->ikl", a, b)', lambda a, b: np.tensordot(a, b, 1)),
}


@pytest.mark.parametrize("spec", FORMS)
def test_contraction_forms(spec: str, rng: np.random.Generator) -> None:
    text, meaning = FORMS[spec]
    words, output = spec.split("->")[0].split(","), spec.split("->")[1]
    sizes = dict(zip("ijkl", (2, 3, 4, 5), strict=True))
    a, b = (rng.normal(size=[sizes[c] for c in word]) for word in words)
    assert np.allclose(np.einsum(spec, a, b), meaning(a, b))
    builder = Builder(OPSET)
    params = [builder.param(n, float64(*v.shape)) for n, v in (("a", a), ("b", b))]
    letters = {c: i for i, c in enumerate("ijkl")}
    value = contract(builder, params, [tuple(letters[c] for c in w) for w in words], tuple(letters[c] for c in output))
    assert formula(value, ["a", "b"]) == text


def test_every_op_has_a_formula(rng: np.random.Generator) -> None:
    """Whatever the op set holds can be labelled in a line."""
    seen = 0
    for op in OPSET.values():
        for arrays, attrs in op.sample.draw(rng) if op.sample.draw else []:
            builder = Builder(OPSET)
            params = [sd.array(np.asarray(a)).value for a in arrays]
            mapping = builder.absorb(params)
            if not arrays:
                continue
            made = builder.apply(op, [builder.handle(mapping[p]) for p in params], attrs).value
            text = formula(made, [f"x{i}" for i in range(len(made.args))])
            assert text and "\n" not in text and len(text) <= 44
            seen += 1
    assert seen > 20


# -------------------------------------------------------------------- files and text
def nasty() -> Drawing:
    node = Node('<a> & "b"', "result", "x_1 % $y$ {z} \\ ^ ~ # 'q'", note="<script>alert(1)</script>\x00", rows=(
        Row("value", "∂f/∂α", "δᵢₖ ½ x² ⊘ 𝟏"),))  # fmt: skip
    return Drawing(Picture((Node("x", "input"), node), (Edge(0, 1, "<&>", '"'),), 'a "title" <&>\\'))


def test_svg_is_escaped() -> None:
    root = ET.fromstring(nasty().svg())
    assert "script" not in {e.tag.rpartition("}")[2] for e in root.iter()}
    assert any(e.text == "<script>alert(1)</script>\ufffd" for e in root.iter())
    assert root[0].text == 'a "title" <&>\\'


def test_dot_and_tex_are_escaped() -> None:
    dot = nasty().dot()
    assert "<script>" not in dot and "&lt;a&gt; &amp; &quot;b&quot;" in dot and r'digraph "a \"title\" <&>\\" {' in dot
    for label in re.findall(r"label=<(.*)>, fill", dot):
        ET.fromstring(label)
    tex = nasty().tikz()
    assert "\x00" not in tex and r"$<$/script$>$?" in tex
    assert r"x\_1 \% \$y\$ \{z\} \textbackslash{} \textasciicircum{} \textasciitilde{} \# 'q'" in tex
    assert escape_tex("δᵢₖ ½ x² 𝟏 A⁻¹ᵀ") == (
        r"$\delta$$_{i}$$_{k}$ $1/2$ x$^{2}$ $\mathbf{1}$ A$^{-}$$^{1}$$^{\top}$"
    )
    assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")


def test_save(tmp_path: Path) -> None:
    drawing = sum_times_max()
    for suffix, text in ((".svg", drawing.svg()), (".dot", drawing.dot()), (".tex", drawing.tikz())):
        drawing.save(tmp_path / f"g{suffix}")
        drawing.save(str(tmp_path / f"g{suffix}"))
        assert (tmp_path / f"g{suffix}").read_text(encoding="utf-8") == text
    with pytest.raises(ArgumentError, match=r"'g\.png' ends in '\.png', expected \.svg, \.dot or \.tex"):
        drawing.save("g.png")
    with pytest.raises(OSError):
        drawing.save(tmp_path / "missing" / "g.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(OSError):
        drawing.save(tmp_path / "folder.svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.svg", "g.dot", "g.svg", "g.tex"]


def test_notebooks_show_it() -> None:
    drawing = sum_times_max()
    shown: Any = drawing
    assert shown._repr_svg_() == drawing.svg() and drawing.svg() in shown._repr_html_()
    assert str(drawing) == drawing.table()


_SCRIPT = """
import numpy as np, symdiff as sd
from symdiff import draw
x, y = sd.symbol("x", (3,)), sd.symbol("y", (3,))
f = np.sum(np.tanh(x * y) + np.sin(x) * np.exp(y) + x @ y)
d = draw(f, [x, y], {"x": [.1, .2, .3], "y": [1., 2., 3.]})
print(d.svg() + d.dot() + d.tikz() + d.table())
"""


def test_same_input_same_picture() -> None:
    outputs = {
        subprocess.run([sys.executable, "-c", _SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                       capture_output=True).stdout
        for seed in ("1", "77")
    }  # fmt: skip
    assert len(outputs) == 1


# -------------------------------------------------------------------- refusals
def test_refusals() -> None:
    x, y = sd.symbol("x"), sd.symbol("y")
    with pytest.raises(ArgumentError, match="at has no value for y; given: x"):
        draw(x * y, at={"x": 1.0})
    with pytest.raises(ArgumentError, match="at names w, expected only x"):
        draw(np.sin(x), at={"x": 1.0, "w": 2.0})
    with pytest.raises(ArgumentError, match="y does not occur in the function"):
        draw(np.sin(x), y)
    with pytest.raises(ArgumentError, match="wrt with 2 results, expected one"):
        draw([x, x * y], x)
    with pytest.raises(ArgumentError, match="given 3 of type int, expected a symbolic expression"):
        draw(3)
    with pytest.raises(ArgumentError, match="no expression given"):
        draw([])
    with pytest.raises(ArgumentError, match="wrt holds 'x' of type str"):
        draw(x, "x")
    with pytest.raises(ArgumentError, match="limit 2: expected at least 6"):
        draw(x * y, limit=2)
    with pytest.raises(DerivativeError, match="dtype bool: only floats have derivatives"):
        draw(x < y, x)
    with pytest.raises(ArgumentError, match="edge 1 -> 0"):
        Picture((Node("a", "input"), Node("b", "input")), (Edge(1, 0),))
