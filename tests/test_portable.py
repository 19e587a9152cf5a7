"""Other processors: narrower and wider vectors give the same bits, and every target LLVM has compiles what we emit."""

import numpy as np
import pytest
from codegen_programs import Program, arguments
from crowd import machine_of
from llvmlite import binding as llvm

import codegen
from codegen import compiled
from codegen.jit import engine
from codegen.kernels.main import emit_program
from codegen.products import shared as products
from codegen.schedule.jobs import build

# Register bytes, whether products are fused into sums, and the features LLVM may use.
MACHINES = {"sse2": (16, "x86-64", ""), "avx2": (32, "x86-64-v3", ""), "wide": (64, "x86-64-v3", "")}


def on(monkeypatch, name):
    """Compile for a processor that this one can stand in for."""
    host = engine.host_target()
    if "+avx2" not in host.features.split(",") or "+fma" not in host.features.split(","):
        pytest.skip("the processors stood in for are x86")
    register_bytes, cpu, features = MACHINES[name]
    monkeypatch.setattr(compiled, "_machine", lambda: (register_bytes, True))
    monkeypatch.setattr(engine, "_host", engine.Target(cpu, features))


@pytest.mark.parametrize("seed, dtype", [(401, "f64"), (402, "f64"), (404, "f32")])
def test_random_programs_have_the_same_bits_on_every_processor(seed, dtype, monkeypatch):
    rng = np.random.default_rng(seed)
    function = Program(rng, dtype).grow(9).function()
    expected = None
    for name in MACHINES:
        with monkeypatch.context() as patch:
            on(patch, name)
            for cached in (products._kernels, products._dots, products._steering):
                patch.setattr(cached, "made", {})
            native = codegen.compile(function, opt=1)
        for number, (n, m) in enumerate(((3, 4), (40, 19))):
            got = native(*arguments(function, np.random.default_rng([seed, number]), n, m))
            bits = [np.asarray(g).tobytes() for g in got]
            if expected is None or number >= len(expected):
                expected = [*(expected or []), bits]
            assert bits == expected[number], name


@pytest.mark.parametrize(
    "triple, cpu, register_bytes",
    [("aarch64-unknown-linux-gnu", "generic", 16), ("x86_64-unknown-linux-gnu", "x86-64-v4", 64),
     ("x86_64-unknown-linux-gnu", "x86-64", 16), ("arm64-apple-macosx", "apple-m1", 16),
     ("riscv64-unknown-linux-gnu", "generic-rv64", 16)],
)  # fmt: skip
def test_every_target_compiles_what_is_emitted(triple, cpu, register_bytes):
    machine = machine_of(triple, cpu)
    program, _ = build(Program(np.random.default_rng(411)).grow(9).function(), "f", 2)
    module = llvm.parse_assembly(emit_program(program, register_bytes, True), context=llvm.create_context())
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    assert len(machine.emit_object(module)) > 1000
