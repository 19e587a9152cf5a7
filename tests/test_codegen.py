"""Native code agrees with the reference interpreter: every op, every size, any strides, edge values, long programs."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from codegen_programs import Program, agree, arguments, close, text_function

import codegen
from codegen.arrays.lower import LOWERINGS
from codegen.ir.index import Index
from codegen.ir.loops import For, Store
from codegen.ir.verify import verify
from codegen.jit import engine
from codegen.kernels import straight
from codegen.schedule.jobs import build
from symdiff.errors import EvaluationError, UnsupportedError, VerifyError
from symdiff.ir.builder import Builder, freeze_attrs
from symdiff.ir.dims import named
from symdiff.ir.graph import ArrayConstant
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

UNDEFINED = {"apply", "functional"}
DTYPE_NAMES = {np.dtype(k): v for k, v in {"f8": "f64", "f4": "f32", "i8": "i64", "?": "bool"}.items()}

NULLARY = {
    "const": [
        {"dtype": "f64", "shape": (2, 3), "value": Fraction(1, 10)}, {"dtype": "f32", "shape": (), "value": "pi"},
        {"dtype": "i64", "shape": (4,), "value": -7}, {"dtype": "bool", "shape": (3,), "value": True},
        {"dtype": "f64", "shape": (1,), "value": "-inf"}, {"dtype": "f64", "shape": (0, 2), "value": "nan"},
    ],
    "array": [{"value": ArrayConstant(a)} for a in (np.arange(6.0).reshape(2, 3), np.array([True, False]))],
    "iota": [{"size": 9}], "size": [{"size": 5, "dtype": "f64"}, {"size": 5, "dtype": "i64"}],
}  # fmt: skip


def samples(op, rng):
    """Argument lists and attributes an op declares for testing; ops without operands have theirs here."""
    if op.name in NULLARY:
        return [((), attrs) for attrs in NULLARY[op.name]]
    if op.sample.draw is not None:
        return op.sample.draw(rng)
    return [(tuple(rng.uniform(a, b, size=shape) for a, b in op.sample.intervals), {}) for shape in ((), (5,), (3, 37))]


def program(op, args, attrs, shapes=None):
    """The function that is one application of an op."""
    builder = Builder(OPSET)
    shapes = shapes or [a.shape for a in args]
    params = [
        builder.param(f"x{i}", TensorType(DTYPE_NAMES[a.dtype], tuple(shape)))
        for i, (a, shape) in enumerate(zip(args, shapes, strict=True))
    ]
    return builder.function(params, [builder.make(op, tuple(params), freeze_attrs(attrs))])


def test_every_op_has_a_lowering():
    assert set(LOWERINGS) == set(OPSET) - UNDEFINED - {"param", "scan"}


@pytest.mark.parametrize("name", [n for n in OPSET if n not in UNDEFINED | {"scan"}])
def test_op_agrees_with_its_evaluation(name):
    rng = np.random.default_rng(7)
    for args, attrs in samples(OPSET[name], rng):
        arrays = [np.asarray(a) for a in args]
        function = program(OPSET[name], arrays, attrs)
        agree(function, codegen.compile(function, opt=1), arrays)


# -------------------------------------------------------------------- sizes, strides, layouts
@pytest.mark.parametrize("seed", range(24))
def test_random_programs_agree_at_every_size_with_one_compilation(seed):
    rng = np.random.default_rng(seed)
    function = Program(rng).grow(9).function()
    native = codegen.compile(function, opt=1)
    for n, m in ((3, 4), (1, 5), (17, 33), (40, 8), (0, 0)):
        agree(function, native, arguments(function, rng, n, m), rtol=1e-11)


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_programs_agree_in_single_precision(seed):
    rng = np.random.default_rng(seed)
    function = Program(rng, "f32").grow(6).function()
    native = codegen.compile(function, opt=1)
    for n, m in ((3, 4), (33, 17)):
        agree(function, native, arguments(function, rng, n, m), rtol=3e-4)


MATVEC = text_function(
    '%0: f64[m] = contract(%A, %x) {spec = "ij,j->i"}\n%1: f64[m] = tanh(%0)\n%2: f64[] = contract(%1) {spec = "i->"}\n'
    "return %1, %2",
    "%A: f64[m,n], %x: f64[n]",
)


def test_results_go_into_arrays_of_any_stride(rng):
    function = text_function('%0: f64[n,m] = contract(%A) {spec = "ij->ji"}\n%1: f64[n,m] = exp(%0)\nreturn %1')
    native = codegen.compile(function, single=True, opt=1)
    a = rng.normal(size=(5, 40))
    for out in (np.empty((40, 5)), np.empty((5, 40)).T, np.empty((80, 10))[::2, ::-2]):
        out[...] = np.nan
        assert native(a, out=out) is out
        close(out, np.exp(a.T))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 1000, 8193])
def test_tails_of_vector_loops_are_exact(length, rng):
    body = (
        '%0: f64[n] = mul(%x, %x)\n%1: f64[] = contract(%0) {spec = "i->"}\n%2: f64[] = reduce_max(%x) {axes = [-1]}\n'
        '%3: f64[n] = exp(%x)\n%4: f64[] = contract(%3) {spec = "i->"}\n%5: i64[] = argmin(%x) {axis = -1}\n'
        "return %0, %1, %2, %3, %4, %5"
    )
    function = text_function(body, "%x: f64[n]")
    agree(function, codegen.compile(function, opt=1), [rng.normal(size=length)])


def test_bits_do_not_depend_on_layout_or_alignment(rng):
    function = text_function('%0: f64[] = contract(%A) {spec = "ij->"}\nreturn %0')
    native = codegen.compile(function, single=True, opt=1)
    a = rng.normal(size=(301, 77))
    shifted = np.empty(a.size + 1)[1:].reshape(a.shape)
    shifted[...] = a
    assert native(a) == native(np.asfortranarray(a)) == native(shifted)


@pytest.mark.parametrize("register_bytes", [16, 32, 64])
def test_bits_do_not_depend_on_the_width_of_registers(register_bytes, rng, monkeypatch):
    body = (
        '%0: f64[m,n] = sin(%A)\n%1: f64[m] = contract(%0) {spec = "ij->i"}\n%2: f64[] = contract(%A) {spec = "ij->"}\n'
        '%3: f64[n,n] = contract(%A, %0) {spec = "ij,ik->jk"}\nreturn %1, %2, %3'
    )
    function = text_function(body)
    a = rng.normal(size=(37, 41))
    expected = codegen.compile(function, opt=1)(a)
    monkeypatch.setattr("codegen.compiled._machine", lambda: (register_bytes, True))
    got = codegen.compile(function, opt=1)(a)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 24, 5), (9, 25, 7), (33, 70, 200), (200, 250, 300), (5, 4, 0)])
def test_matrix_products_of_every_layout(sizes, rng):
    m, n, k = sizes
    forms = {"ij,jk->ik": ("m,k", "k,n"), "ji,jk->ik": ("k,m", "k,n"), "ij,kj->ik": ("m,k", "n,k")}
    for spec, (left, right) in forms.items():
        body = f'%0: f64[m,n] = contract(%A, %B) {{spec = "{spec}"}}\nreturn %0'
        function = text_function(body, f"%A: f64[{left}], %B: f64[{right}]")
        numbers = {"m": m, "n": n, "k": k}
        args = [rng.normal(size=[numbers[w] for w in word.split(",")]) for word in (left, right)]
        agree(function, codegen.compile(function, opt=1), args)


# -------------------------------------------------------------------- edge values
EDGES = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 5e-324, 1e308, -1e308])


@pytest.mark.parametrize(
    "name",
    ["add", "sub", "mul", "div", "neg", "maximum", "minimum", "abs", "relu", "sign", "floor", "ceil", "round", "trunc",
     "mod", "floor_divide", "lt", "le", "eq", "ne"],
)
def test_edge_values_of_arithmetic(name):
    op = OPSET[name]
    grid = np.meshgrid(EDGES, EDGES) if op.arity == 2 else [EDGES]
    function = program(op, grid, {})
    with np.errstate(all="ignore"):
        agree(function, codegen.compile(function, opt=1), grid)


def test_integers_divide_as_in_numpy():
    x, y = np.meshgrid(np.array([-7, -1, 0, 3, -(2**63), 2**63 - 1]), np.array([-3, -1, 0, 2, 2**63 - 1]))
    for name in ("mod", "floor_divide"):
        function = program(OPSET[name], [x, y], {})
        with np.errstate(all="ignore"):
            agree(function, codegen.compile(function, opt=1), [x, y])


@pytest.mark.parametrize("op", ["reduce_max", "reduce_min", "logsumexp", "softmax", "norm"])
def test_reductions_keep_nan_and_infinity(op):
    rows = np.array([[1.0, np.nan, 2.0], [np.inf, 1.0, 0.0], [-np.inf, -np.inf, -np.inf], [3.0, 3.0, -np.inf]])
    function = program(OPSET[op], [rows], {"axes": (-1,)}, [named_shape("mn")])
    agree(function, codegen.compile(function, opt=1), [rows])


def named_shape(names):
    return tuple(named(c) for c in names)


def test_positions_are_the_first_and_nan_wins():
    rows = np.array([[1.0, 3.0, 3.0], [np.nan, 1.0, 9.0], [2.0, np.nan, np.nan], [-np.inf] * 3])
    for name in ("argmax", "argmin"):
        function = program(OPSET[name], [rows], {"axis": -1}, [named_shape("mn")])
        agree(function, codegen.compile(function, opt=1), [rows])


# -------------------------------------------------------------------- failures
def fails(function, args, message):
    native = codegen.compile(function, opt=1)
    with pytest.raises(EvaluationError, match=message):
        native(*args)


def test_a_singular_matrix_is_refused_and_has_determinant_zero():
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for name in ("inverse", "cholesky"):
        function = program(OPSET[name], [singular], {}, [named_shape("nn")])
        fails(function, [-singular], f"{name}: (Singular|Matrix is not)")
    solve = program(OPSET["solve"], [singular, singular], {}, [named_shape("nn"), named_shape("nk")])
    fails(solve, [singular, np.ones((2, 3))], "solve: Singular")
    det = program(OPSET["det"], [singular], {}, [named_shape("nn")])
    assert codegen.compile(det, single=True, opt=1)(singular) == 0.0


def test_an_index_out_of_range_is_refused():
    x, k = np.arange(4.0), np.array([0, -4, 3])
    for name, attrs in (("gather", {"axis": -1}), ("scatter_add", {"axis": -1, "sizes": (named("n"),)})):
        shapes = [("n",), ("m",)] if name == "gather" else [("m",), ("m",)]
        function = program(OPSET[name], [x, k], attrs, [named_shape(s) for s in shapes])
        options = {} if name == "gather" else {"sizes": {"n": 4}}
        first = x if name == "gather" else x[:3]
        agree(function, codegen.compile(function, opt=1), [first, k], **options)
        for bad in (4, -5):
            with pytest.raises(EvaluationError, match=f"{name}: an index leaves an axis of size 4"):
                codegen.compile(function, opt=1)(first, np.array([0, bad, 1]), **options)


def test_a_slice_out_of_range_is_refused(rng):
    body = "%0: f64[n] = slice(%x) {sizes = [n], starts = [m], steps = [1]}\nreturn %0"
    function = text_function(body, "%x: f64[2*n + 1], %y: f64[m], %z: f64[n]")
    native = codegen.compile(function, single=True, opt=1)
    x = rng.normal(size=9)
    np.testing.assert_array_equal(native(x, np.zeros(3), np.zeros(4)), x[3:7])
    with pytest.raises(EvaluationError, match="slice: 4 elements from 6 by 1 leave an axis of size 9"):
        native(x, np.zeros(6), np.zeros(4))


def test_an_extremum_of_nothing_is_refused():
    function = program(OPSET["reduce_max"], [np.zeros((2, 0))], {"axes": (-1,)}, [named_shape("mn")])
    fails(function, [np.zeros((2, 0))], "reduce_max: no elements")
    assert codegen.compile(function, single=True)(np.zeros((0, 0))).shape == (0,)


def test_what_has_no_native_code_is_refused_by_name():
    builder = Builder(OPSET)
    x = builder.param("x", TensorType("f64", ()))
    undefined = builder.make(OPSET["apply"], (x,), freeze_attrs({"name": "phi", "wrt": ()}))
    with pytest.raises(UnsupportedError, match="undefined function phi"):
        codegen.compile(builder.function([x], [undefined]))
    z = builder.param("z", TensorType("c128", ()))
    with pytest.raises(UnsupportedError, match="parameter z: complex"):
        codegen.compile(builder.function([z], [z]))


# -------------------------------------------------------------------- long programs
@pytest.mark.parametrize("shape", [(), ("n",)])
def test_long_straight_programs_compile_in_pieces(shape, rng, monkeypatch):
    monkeypatch.setattr(straight, "WHOLE", 0)
    monkeypatch.setattr(straight, "PIECE", 2000)
    builder = Builder(OPSET)
    params = [builder.param(name, TensorType("f64", named_shape(shape))) for name in "xy"]
    pool = [builder.handle(p) for p in params]
    for i in range(5000):
        a, b = pool[-1], pool[rng.integers(max(0, len(pool) - 2500), len(pool))]
        pool.append(((a + b) * 0.5, a - b * 0.25, a.op("tanh"), a * b)[i % 4])
    function = builder.function(params, [pool[-1].value, pool[2500].value, pool[17].value])
    native = codegen.compile(function, opt=0)
    size = [11] * len(shape)
    agree(function, native, [np.asarray(rng.normal(size=size)) for _ in params])
    assert codegen.inspect(native).llvm.count("define internal void @kernel.k0.c") >= 3


@pytest.mark.parametrize("piece", [1 << 30, 300])
def test_blocks_of_a_long_function_change_nothing(piece, rng, monkeypatch):
    builder = Builder(OPSET)
    params = [builder.param(name, TensorType("f64", ())) for name in "xy"]
    pool = [builder.handle(p) for p in params]
    for i in range(1100):
        a, b = pool[-1], pool[rng.integers(max(0, len(pool) - 300), len(pool))]
        pool.append(((a + b) * 0.5, a - b * 0.25, a.op("sin"), a.op("lt", b).op("select", a, b), a * b)[i % 5])
    function = builder.function(params, [pool[-1].value, pool[600].value, pool[500].op("cos").value])
    arrays = list(rng.normal(size=2))
    monkeypatch.setattr(straight, "WHOLE", piece)
    monkeypatch.setattr(straight, "PIECE", piece)
    found = set()
    for block in (1 << 30, 500, 40):
        monkeypatch.setattr(straight, "BLOCK", block)
        for opt in (0, 1, 2):
            native = codegen.compile(function, opt=opt)
            stages = codegen.inspect(native)
            assert stages.upgrade is None or stages.upgrade.settle(60)
            found.add(native(*arrays))
        parts = stages.llvm.count("label %end\n")
        assert parts > 15 if block == 40 else parts > 0 if block == 500 and piece > 300 else parts == 0
        # Passes that joined the blocks would make them useless.
        assert engine.optimized_ir(stages.llvm, 1).count("label %end\n") == parts
    assert len(found) == 1
    agree(function, native, [np.asarray(a) for a in arrays])


def test_a_chain_of_a_hundred_thousand_instructions_is_lowered_into_one_kernel():
    builder = Builder(OPSET)
    x = builder.param("x", TensorType("f64", ()))
    value = builder.handle(x)
    for i in range(100_000):
        value = value * 0.999 if i % 2 else value + 0.001
    function = builder.function([x], [value.value])
    built, _ = build(function, "f")
    assert len(built.kernels) == 1


# -------------------------------------------------------------------- loop nests as text
GOLDEN = {
    "matvec": MATVEC,
    "value_and_gradient": text_function(
        '%0: f64[n] = sin(%x)\n%1: f64[] = contract(%0) {spec = "i->"}\n%2: f64[n] = cos(%x)\nreturn %1, %2',
        "%x: f64[n]",
    ),
    "delta": text_function(
        '%0: f64[n] = exp(%x)\n%1: f64[n,n] = contract(%0) {spec = "i->ii"}\nreturn %1', "%x: f64[n]"
    ),
    "softmax": text_function("%0: f64[m,n] = softmax(%A) {axes = [-1]}\nreturn %0"),
    "chain_of_products": text_function(
        '%0: f64[m] = contract(%A, %B, %x) {spec = "ij,jk,k->i"}\nreturn %0', "%A: f64[m,n], %B: f64[n,k], %x: f64[k]"
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_loops_read_as_expected(name, golden):
    golden(f"loops_{name}", str(build(GOLDEN[name], name)[0]))


def test_every_stage_can_be_looked_at(rng):
    native = codegen.compile(MATVEC, name="layer", opt=1)
    stages = codegen.inspect(native)
    assert "contract(%A, %x)" in stages.ir
    assert stages.loops.startswith("program kernel(m, n)")
    assert "define i32 @kernel(" in stages.llvm
    assert "kernel:" in stages.asm
    assert {"lower", "emit", "compile"} <= set(stages.timings)
    assert native.__name__ == "layer"


def test_the_verifier_of_loops_names_the_fault():
    program_, _ = build(MATVEC, "f")
    loop = next(s for s in program_.kernels[0].body if isinstance(s, For))
    loop.body.insert(0, Store(program_.params[0], (Index(), Index()), 12345))
    with pytest.raises(VerifyError, match=r"%12345 is used where it is not defined\n  store A\[0, 0\]"):
        verify(program_)


def test_parts_of_a_concatenation_are_read_back_where_they_lie(rng):
    body = (
        "%0: f64[n,2*m] = concatenate(%x, %y) {axis = -1}\n"
        "%1: f64[n,m] = slice(%0) {sizes = [m], starts = [0], steps = [1]}\n"
        '%2: f64[2*m,n] = contract(%0) {spec = "ij->ji"}\nreturn %1, %2'
    )
    function = text_function(body, "%x: f64[n,m], %y: f64[n,m]")
    agree(function, codegen.compile(function, opt=1), [rng.normal(size=(4, 3)), rng.normal(size=(4, 3))])


def test_sums_of_windows_are_added_in_place(rng):
    body = (
        "%0: f64[n + 3] = embed(%x) {sizes = [n + 3], starts = [0], steps = [1]}\n"
        "%1: f64[n + 3] = embed(%y) {sizes = [n + 3], starts = [3], steps = [1]}\n"
        "%2: f64[n + 3] = sub(%0, %1)\n"
        "%3: f64[n + 3] = embed(%x) {sizes = [n + 3], starts = [1], steps = [1]}\n"
        "%4: f64[n + 3] = add(%2, %3)\n"
        "%5: f64[n + 3] = exp(%4)\n%6: f64[n + 3] = sub(%5, %4)\n"
        "%7: f64[n + 3] = embed(%y) {sizes = [n + 3], starts = [n + 2], steps = [-1]}\n"
        "%8: f64[n + 3] = sub(%7, %6)\nreturn %4, %8"
    )
    function = text_function(body, "%x: f64[n], %y: f64[n]")
    native = codegen.compile(function, opt=1)
    for n in (0, 1, 2, 40):
        agree(function, native, [rng.normal(size=n), rng.normal(size=n)])
    temps = [line for line in codegen.inspect(native).loops.splitlines() if line.startswith("  temp")]
    assert not temps, "every window goes straight into a result"


@pytest.mark.parametrize("kind", ["softmax", "layer_norm", "solve"])
def test_kernels_over_the_same_rows_become_one(kind, rng):
    bodies = {
        "softmax": "%0: f64[m,n] = softmax(%A) {axes = [-1]}\nreturn %0",
        "layer_norm": (
            '%0: f64[m] = contract(%A) {spec = "ij->i"}\n%1: f64[] = size() {dtype = "f64", size = n}\n'
            '%2: f64[m] = contract(%1) {sizes = [m], spec = "_->i"}\n%3: f64[m] = div(%0, %2)\n'
            '%4: f64[m,n] = contract(%3) {sizes = [n], spec = "i->ij"}\n%5: f64[m,n] = sub(%A, %4)\n'
            '%6: f64[m] = norm(%5) {axes = [-1]}\n%7: f64[m,n] = contract(%6) {sizes = [n], spec = "i->ij"}\n'
            "%8: f64[m,n] = div(%5, %7)\nreturn %8"
        ),
        "solve": "%0: f64[m,n,n] = inverse(%A)\n%1: f64[m] = det(%A)\nreturn %0, %1",
    }
    params = "%A: f64[m,n,n]" if kind == "solve" else "%A: f64[m,n]"
    function = text_function(bodies[kind], params)
    native = codegen.compile(function, opt=1)
    for m, n in ((5, 7), (1, 40), (0, 3)):
        shape = (m, n, n) if kind == "solve" else (m, n)
        agree(function, native, [rng.normal(size=shape)], rtol=1e-10)
    loops = codegen.inspect(native).loops
    assert loops.count("\nkernel") == 1, loops


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 4, 9), (1, 4, 6), (0, 3, 2), (2, 0, 3), (5, 1, 4)])
def test_rows_of_several_axes_join(shape, rng):
    """One loop runs over all axes but the last, and what it hands on is one row."""
    names = "abcd"[: len(shape)]
    kind = f"f64[{','.join(names)}]"
    function = text_function(
        f"%0: {kind} = exp(%A)\n%1: {kind} = softmax(%0) {{axes = [-1]}}\n"
        f'%2: f64[{",".join(names[:-1])}] = contract(%1, %A) {{spec = "{names},{names}->{names[:-1]}"}}\n'
        f'%3: {kind} = contract(%2, %1) {{spec = "{names[:-1]},{names}->{names}"}}\nreturn %3, %1',
        f"%A: {kind}",
    )
    native = codegen.compile(function, opt=1)
    agree(function, native, [rng.normal(size=shape)], rtol=1e-12)
    loops = codegen.inspect(native).loops
    assert loops.count("\nkernel") == 1, loops
    temps = [line.split("f64")[1] for line in loops.splitlines() if line.startswith("  temp")]
    assert not [shape for shape in temps if "," in shape[:-2]], loops


def test_rows_join_whatever_their_loops_are_called(rng):
    body = (
        "%0: f64[1,m,n] = softmax(%A) {axes = [-1]}\n%1: f64[m,n] = reshape(%0) {rank = 3, shape = [m, n]}\n"
        "%2: f64[m] = norm(%1) {axes = [-1]}\n"
        '%3: f64[m,n] = contract(%2, %1) {spec = "i,ij->ij"}\n%4: f64[m,n] = softmax(%3) {axes = [-1]}\n'
        "%5: f64[m,1,n] = reshape(%4) {rank = 2, shape = [m, 1, n]}\n"
        "%6: f64[m,1,n] = cumsum(%5) {axis = -1, reverse = True}\n"
        "return %4, %6"
    )
    function = text_function(body, "%A: f64[1,m,n]")
    agree(function, codegen.compile(function, opt=1), [rng.normal(size=(1, 5, 9))])


# -------------------------------------------------------------------- integers, booleans, threads
def test_integers_and_booleans(rng):
    body = (
        "%0: i64[n] = mod(%i, %j)\n%1: i64[n] = mul(%0, %i)\n%2: bool[n] = lt(%i, %j)\n%3: bool[n] = not(%b)\n"
        "%4: bool[n] = xor(%2, %3)\n%5: i64[n] = cast(%4) {dtype = \"i64\"}\n%6: i64[n] = add(%1, %5)\n"
        '%7: i64[] = contract(%6) {spec = "i->"}\n%8: bool[] = reduce_max(%4) {axes = [-1]}\n'
        "%9: bool[] = reduce_min(%4) {axes = [-1]}\n%10: i64[] = reduce_max(%6) {axes = [-1]}\n"
        "%11: i64[n] = cumsum(%6) {axis = -1, reverse = False}\n%12: bool[n,n] = contract(%4) {spec = \"i->ii\"}\n"
        "%13: f32[n] = cast(%6) {dtype = \"f32\"}\n%14: i64[] = argmax(%b) {axis = -1}\n"
        "%15: i64[] = reduce_prod(%5) {axis = -1}\n"
        "return %4, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
    )
    function = text_function(body, "%i: i64[n], %j: i64[n], %b: bool[n]")
    native = codegen.compile(function, opt=1)
    for n in (1, 5, 40, 77):
        agree(function, native, [rng.integers(-9, 9, n), rng.integers(1, 5, n), rng.random(n) < 0.5])


def test_threads_share_one_function(rng):
    body = (
        '%0: f64[m,m] = contract(%A, %A) {spec = "ij,kj->ik"}\n%1: f64[m,m] = softmax(%0) {axes = [-1]}\n'
        '%2: f64[m,m] = contract(%1, %0) {spec = "ij,jk->ik"}\nreturn %2'
    )
    function = text_function(body, "%A: f64[m,n]")
    native = codegen.compile(function, single=True)
    arrays = [rng.normal(size=(150 + 40 * i, 60)) for i in range(4)]
    expected = [native(a) for a in arrays]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, wanted in zip(pool.map(native, arrays), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("rows", [0, 1, 127, 128, 129, 300])
def test_columns_are_folded_over_many_rows(rows, rng):
    body = (
        '%0: f64[n] = contract(%A) {spec = "ij->j"}\n%1: f64[n] = contract(%A, %x) {spec = "ij,i->j"}\n'
        "%2: f64[n] = reduce_prod(%A) {axis = -2}\n%3: f64[n] = logsumexp(%A) {axes = [-2]}\n"
        "%4: i64[n] = cast(%0) {dtype = \"i64\"}\nreturn %0, %1, %2, %3, %4"
    )
    function = text_function(body, "%A: f64[m,n], %x: f64[m]")
    native = codegen.compile(function, opt=1)
    for columns in (3, 50):
        agree(function, native, [rng.normal(size=(rows, columns)), rng.normal(size=rows)])


# -------------------------------------------------------------------- programs that take many paths at once
PROGRAMS = {
    "many_axes": (
        "%x: f64[a,b,c,d]",
        '%0: f64[b,d] = contract(%x) {spec = "ijkl->jl"}\n%1: f64[d,c,b,a] = contract(%x) {spec = "ijkl->lkji"}\n'
        "%2: f64[a,c] = reduce_max(%x) {axes = [-3,-1]}\n%3: f64[a,b,c,d] = softmax(%x) {axes = [-3,-1]}\n"
        '%4: f64[a,c] = contract(%x,%x) {spec = "ijkl,mjnl->ik"}\n'
        '%5: f64[a,a,c,c] = contract(%x,%x) {spec = "ijkl,mjnl->imkn"}\nreturn %0, %1, %2, %3, %4, %5',
        [(3, 4, 5, 6)],
    ),
    "deltas": (
        "%x: f64[a,b], %y: f64[b]",
        '%0: f64[a] = contract(%x,%y,%y,%x) {spec = "ij,j,k,ik->i"}\n'
        '%1: f64[a,a] = contract(%x,%y) {spec = "ij,j->ii"}\n'
        '%2: f64[a,b,b,a] = contract(%x) {spec = "ij->ijji"}\n%3: f64[a,a] = neg(%1)\n%4: f64[a,a] = mul(%3,%1)\n'
        "%5: f64[a,a] = exp(%1)\nreturn %0, %1, %2, %3, %4, %5",
        [(3, 4), (4,)],
    ),
    "matrices": (
        "%A: f64[n,n], %b: f64[q,n,2]",
        "%0: f64[q,n,2] = solve(%A,%b)\n%1: f64[] = logabsdet(%A)\n%2: f64[] = signdet(%A)\n"
        "%3: f64[n,n] = inverse(%A)\n"
        '%4: f64[n,n] = contract(%A,%A) {spec = "ij,kj->ik"}\n%5: f64[n,n] = cholesky(%4)\n'
        "%6: f64[q,n,2] = triangular_solve(%5,%b) {lower = True, trans = True}\nreturn %0, %1, %2, %3, %5, %6",
        [(6, 6), (3, 6, 2)],
    ),
    "copies": (
        "%A: f64[m,n]",
        '%0: f64[n,m] = contract(%A) {spec = "ij->ji"}\n%1: f64[m*n] = reshape(%0) {rank = 2, shape = [m*n]}\n'
        "return %A, %0, %A, %1, %0",
        [(4, 5)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fastmath", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_many_kinds(name, fastmath, rng):
    params, body, shapes = PROGRAMS[name]
    function = text_function(body, params)
    native = codegen.compile(function, opt=1, fastmath=fastmath)
    agree(function, native, [rng.normal(size=shape) for shape in shapes], rtol=1e-10)


def test_a_kernel_may_be_called_like_a_function_of_the_c_library(rng):
    function = text_function("%0: f64[n] = exp(%x)\nreturn %0", "%x: f64[n]")
    native = codegen.compile(function, name="exp", single=True)
    assert native.__name__ == "exp"
    close(native(np.zeros(2)), np.ones(2))


HALVES = [Fraction(k, 2) for k in (1, -3, 5)]


@pytest.mark.parametrize("exponent", [2, 3, 7, -1, -2, -5, *HALVES, Fraction(1, 3)])
def test_powers_with_constant_exponents(exponent, rng):
    builder = Builder(OPSET)
    x = builder.param("x", TensorType("f64", (named("n"),)))
    power = builder.make(OPSET["pow"], (x, builder.const(exponent, x.type.shape)))
    function = builder.function([x], [power])
    values = np.concatenate([rng.uniform(0.1, 9.0, 30), [0.0, 1.0, np.inf, np.nan, 1e-200, 1e200]])
    with np.errstate(all="ignore"):
        expected = np.power(values, float(exponent))
    got = codegen.compile(function, opt=1, single=True)(values)
    np.testing.assert_allclose(got, expected, rtol=2e-15 * (1 + abs(exponent)), atol=0)
