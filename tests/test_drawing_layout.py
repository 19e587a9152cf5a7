"""Pictures as such: nothing overlaps, wires run between boxes, few cross, large graphs are grouped without cycles."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import symdiff as sd
from symdiff import draw
from symdiff.render.drawing import Drawing, Edge, Node, Picture, Row, group
from symdiff.render.drawing.layout import Box, Wire, layered


# -------------------------------------------------------------------- geometry
def boxes_and_texts(svg: str) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Rectangles (left, top, right, bottom) of boxes and of texts, from the SVG alone."""
    tag = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(svg)
    boxes: list[tuple[float, ...]] = []
    for rect in (g.find(f"{tag}rect") for g in root.findall(f"{tag}g")):
        assert rect is not None
        x, y, w, h = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
        boxes.append((x, y, x + w, y + h))
    texts: list[tuple[float, ...]] = []
    for text in root.iter(f"{tag}text"):
        size = float(text.attrib.get("font-size", root.attrib["font-size"]))
        width = float(text.attrib.get("textLength", size * 0.9))
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        shift = {"end": width, "middle": width / 2}.get(text.attrib.get("text-anchor", ""), 0.0)
        texts.append((x - shift, y - 0.73 * size, x - shift + width, y + 0.22 * size))
    return boxes, texts


def overlap(a: tuple[float, ...], b: tuple[float, ...], slack: float = 0.15) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def inside(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return b[0] <= a[0] + 0.1 and b[1] <= a[1] + 0.1 and a[2] <= b[2] + 0.1 and a[3] <= b[3] + 0.1


def check_geometry(drawing: Drawing) -> None:
    boxes, texts = boxes_and_texts(drawing.svg())
    assert len(boxes) == len(drawing.picture.nodes)
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert not any(overlap(a, b) for a, b in itertools.combinations(texts, 2))
    for text in texts:
        assert all(inside(text, box) or not overlap(text, box) for box in boxes)


def random_picture(rng: np.random.Generator, count: int) -> Picture:
    nodes: list[Node] = []
    edges: list[Edge] = []
    for i in range(count):
        arity = int(rng.integers(0, 4)) if i > 3 else 0
        for source in sorted(int(s) for s in rng.integers(max(0, i - 20), i, arity)) if i else []:
            label, gradient = "(m, n)" * bool(rng.random() < 0.7), "norm 0.123" * bool(rng.random() < 0.6)
            edges.append(Edge(source, i, label, gradient))
        texts = ["[1.234, 5.678]"[: int(k)] for k in rng.integers(1, 15, rng.integers(0, 4))]
        rows = tuple(Row("value", "value", text) for text in texts)
        computed = "W x" * int(rng.integers(1, 5)) if arity else ""
        nodes.append(Node(f"z{i}", "operation" if arity else "input", computed, "", "* switches" * (i % 2), rows))
    return Picture(tuple(nodes), tuple(edges))


@pytest.mark.parametrize("count", [1, 2, 7, 20, 60])
def test_nothing_overlaps(count: int, rng: np.random.Generator) -> None:
    for _ in range(3):
        check_geometry(Drawing(random_picture(rng, count)))


def test_wires_run_between_boxes(rng: np.random.Generator) -> None:
    for count in (5, 30, 60):
        boxes = [Box(float(w), float(h)) for w, h in rng.uniform(20, 120, (count, 2))]
        wires = [
            Wire(int(a), b, float(rng.uniform(-8, 8)), float(rng.uniform(0, 60)))
            for b in range(1, count) for a in rng.integers(max(0, b - 15), b, 2)
        ]  # fmt: skip
        layout = layered(boxes, wires)
        for wire, stations in zip(wires, layout.paths, strict=True):
            assert len(stations) % 2 == 0
            assert all(b[0] >= a[0] for a, b in itertools.pairwise(stations))
            for i, (x, y) in enumerate(layout.corners):
                if i in (wire.source, wire.target):
                    continue
                for k, ((ax, ay), (bx, by)) in enumerate(itertools.pairwise(stations)):
                    # A level curve stays between the heights of its ends; straight pieces are level.
                    beside = bx <= x or ax >= x + boxes[i].width
                    assert beside or max(ay, by) <= y or min(ay, by) >= y + boxes[i].height, (wire, i, k)


def test_few_crossings() -> None:
    """A tree is drawn without any, whatever the order of its leaves."""
    boxes = [Box(30.0, 20.0)] * 15
    pairs = [(0, 8), (1, 10), (2, 8), (3, 9), (4, 11), (5, 9), (6, 10), (7, 11)]
    tree = [Wire(a, b) for a, b in (*pairs, (8, 12), (9, 12), (10, 13), (11, 13), (12, 14), (13, 14))]
    layout = layered(boxes, tree)
    middle = {i: y for i, (_, y) in enumerate(layout.corners)}
    for (a, b), (c, d) in itertools.combinations([(w.source, w.target) for w in tree], 2):
        if layout.corners[a][0] == layout.corners[c][0] and b != d:
            assert (middle[a] - middle[c]) * (middle[b] - middle[d]) > 0


def test_long_wires_are_straight() -> None:
    """A skip connection along a chain bends at its ends only; a source stands next to its use."""
    boxes = [Box(60.0, 40.0)] * 8
    layout = layered(boxes, [*(Wire(i, i + 1) for i in range(5)), Wire(5, 7, -8.0), Wire(0, 7, 8.0), Wire(6, 7)])
    heights = {y for _, y in layout.paths[6][2:-2]}
    assert len(layout.paths[6]) > 8 and len(heights) == 1
    assert layout.corners[6][0] == layout.corners[5][0]


def test_real_drawings_do_not_overlap(rng: np.random.Generator) -> None:
    n, m = sd.dims("n m")
    w, v, x = sd.symbol("W", (m, n)), sd.symbol("V", (m, m)), sd.symbol("x", (n,))
    hidden = np.tanh(w @ x)
    loss = np.sum((v @ np.maximum(hidden, 0.1) + hidden) ** 2 / 2) + 0.01 * np.sum(w * w)
    variables = [w, v]
    at = {"W": rng.normal(size=(3, 4)), "V": rng.normal(size=(3, 3)), "x": rng.normal(size=4)}
    for drawing in (draw(loss), draw(loss, variables), draw(loss, variables, at), draw(loss, variables, at, limit=8)):
        check_geometry(drawing)


# -------------------------------------------------------------------- large graphs
@pytest.mark.parametrize("count", [10, 61, 300])
def test_groups_are_few_and_make_no_cycle(count: int, rng: np.random.Generator) -> None:
    for limit in (6, 20, 60):
        wires = [(int(a), b) for b in range(5, count) for a in rng.integers(max(0, b - 9), b, rng.integers(1, 4))]
        fed = {b for _, b in wires}
        kinds: list[Any] = ["operation" if i in fed else "input" for i in range(count)]
        kinds[-1] = "result"
        found = group(kinds, wires, limit)
        assert len(found.groups) <= max(limit, 6)
        assert sorted(i for members in found.groups for i in members) == list(range(count))
        assert all(found.box[a] <= found.box[b] for a, b in wires)


def test_chains_collapse_before_anything_else() -> None:
    x = sd.symbol("x")
    y = x
    for _ in range(100):
        y = np.sin(y)
    drawing = draw(y * x, x, {"x": 0.3})
    assert [n.title for n in drawing.picture.nodes] == ["x", "100 operations", "f = z100 · x"]
    slope, value = 1.0, 0.3
    for _ in range(100):
        slope, value = slope * np.cos(value), np.sin(value)
    start, chain, _ = drawing.picture.nodes
    assert chain.rows[0].text == f"{value:.4g}"
    assert start.rows[1].text == f"{slope * 0.3 + value:.4g}"


def test_depth_is_no_limit() -> None:
    x = sd.symbol("x", (3,))
    y = x
    for i in range(20_000):
        y = np.sin(y) + x if i % 2 else np.cos(y)
    drawing = draw(np.sum(y), x, {"x": [0.1, 0.2, 0.3]})
    assert len(drawing.picture.nodes) <= 60
    check_geometry(drawing)
