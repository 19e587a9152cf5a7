"""Functions that differ only in what they read are written once, and the program gives what it gave."""

import numpy as np
import pytest

import codegen
import symdiff as sd
from codegen.llvm.alike import Function, Opening, reading, texts

LAYERS = 6


def network():
    n, d = sd.dims("n d")
    x = sd.symbol("x", (n, d))
    weights = [sd.symbol(f"W{i}", (d, d)) for i in range(LAYERS)]
    shifts = [sd.symbol(f"b{i}", (d,)) for i in range(LAYERS)]
    out = x
    for weight, shift in zip(weights, shifts, strict=True):
        out = np.tanh(out @ weight + shift)
    value = np.sum(out * out)
    params = [x, *weights, *shifts]
    return params, [value, *sd.gradient(value, params)]


def function(name, *slots, body="  ret void", lines=40):
    head = [reading(f"%s{i}", "i64", "%sz", slot) for i, slot in enumerate(slots)]
    return Function(name, "void", "", "nounwind", head, "\n".join(["  %v = add i64 %s0, %s1"] * lines + [body]))


@pytest.mark.parametrize("threads", [1, 2])
def test_layers_share_their_code(threads, rng):
    params, slopes = network()
    native = sd.compile(slopes, params, threads=threads)
    defined = [line for line in native.llvm.splitlines() if line.startswith("define") and ".alike(" in line]
    assert 2 <= len(defined) <= 5
    for rows, columns in ((1, 1), (5, 3), (300, 17)):
        given = [rng.normal(size=(rows, columns))]
        given += [rng.normal(size=(columns, columns)) / 2 for _ in range(LAYERS)]
        given += [rng.normal(size=columns) for _ in range(LAYERS)]
        for got, slope in zip(native(*given), slopes, strict=True):
            expected = sd.evaluate(slope, dict(zip(params, given, strict=True)))
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_code_is_the_same_whatever_its_layer_reads():
    params, slopes = network()
    native = sd.compile(slopes, params)
    llvm = codegen.inspect(native).llvm
    apart = llvm.split("define internal")
    bodies = [one.split("start:")[1] for one in apart if "start:" in one and one.count("\n") > 30]
    assert len(bodies) == len(set(bodies))


def test_what_differs_in_more_than_slots_stays_apart():
    same = [function("@a", 1, 2), function("@b", 2, 1)]
    assert sum(".alike(" in text for text in texts(same)) == 3  # the common one, and a call in each
    kinds = Function("@c", "void", "", "nounwind", [reading("%s0", "ptr", "%pt", 1), *same[0].head[1:]], same[0].body)
    other = [
        function("@c", 1, 2, body="  unreachable"), function("@c", 1), function("@c", 1, 2, lines=41), kinds,
        Function("@c", "i32", "", "nounwind", same[0].head, same[0].body),
        Function("@c", "void", ", i64 %more", "nounwind", same[0].head, same[0].body),
        Function("@c", "void", "", "cold", same[0].head, same[0].body),
        Function("@c", "void", "", "nounwind", [Opening("%s0", "  %s0 = add i64 1, 2"), same[0].head[1]], same[0].body),
    ]  # fmt: skip
    for one in other:
        assert not any(".alike" in text for text in texts([same[0], one]))
    short = [function("@a", 1, 2, lines=3), function("@b", 2, 1, lines=3)]
    assert texts(short) == [one.text() for one in short]
