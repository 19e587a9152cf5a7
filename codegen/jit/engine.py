"""Textual LLVM IR in, addresses of machine code out.

Takes the text of one module, the names wanted from it, and a tier; gives a `Library` that owns the machine code.
Promises: the code lives as long as the library object; a symbol that nothing defines, and IR that is not valid, are a
`CompilationError` and never an abort of the process; floating-point operations mean what the text says (no fusing, no
fast-math); equal text for an equal machine is compiled once and then read from the disk (see `objcache`).

Tiers, `opt`:

    0   no passes, quickest code generation: for the first call where compiling would be felt
    1   inlining of `alwaysinline`, scalar replacement, simplification, code generation O1; a module whose functions are
        all marked "written" is left as it is
    2   as 1, then LLVM's simplification of functions (loops included) on every function that is short and not marked
        "plain" or cold: as fast as the next tier wherever it was measured, in less than half the time
    3   the O2 pipeline without SLP (six times the time and no gain here) and without the loop vectorizer (emitters
        write vectors themselves)

SYMDIFF_CPU in the environment names an x86 level (x86-64 .. x86-64-v4) to compile for instead of the host's processor.

Kernels may call what the process offers (malloc, free, libm) and what `add_symbol` or `imports=` names.
"""

import hashlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import llvmlite
from llvmlite import binding as llvm

from codegen.errors import CompilationError
from codegen.jit import objcache
from symdiff.process import LLVM_LOCK, Turn

TIERS = (0, 1, 2, 3)
_CODE_GENERATION = (0, 1, 1, 2)
_SHORT = 200
"""Lines of a function worth simplifying: long ones are straight-line code, which gains nothing."""
_PLAIN = re.compile(rb'"plain"|\bcold\b')
"""What marks a function that gains nothing either,"""
_WRITTEN = re.compile(rb'"written"')
"""and one that no pass improves."""

_JIT_LINK = sys.platform != "win32"
"""The newer of LLVM's two linkers, which finds room near the code for everything; for COFF it is not ready."""

_symbols: dict[str, int] = {}
_initialized = False


@dataclass(frozen=True)
class Target:
    """A processor to compile for: LLVM's name for it and its feature string."""

    cpu: str
    features: str


@dataclass(eq=False)
class Library:
    """Loaded machine code. Its addresses are valid while this object lives; keep it next to whatever calls them.

    `timings` maps stages ("parse", "passes", "codegen", "load") to seconds; `cached` tells whether the object came from
    the disk, in which case only "load" was spent. `held` is what the code reads at fixed addresses; it lives as long.
    """

    target: Target
    opt: int
    cached: bool
    timings: dict[str, float]
    object_bytes: int
    _addresses: dict[str, int] = field(repr=False)
    _tracker: llvm.ResourceTracker = field(repr=False)  # before the engine: it must be released first
    _engine: llvm.LLJIT = field(repr=False)
    held: tuple[Any, ...] = field(default=(), repr=False)
    better: Callable[[], None] | None = field(default=None, repr=False)
    """Puts better code in force, where there will be some (see `codegen.jit.tiers`)."""
    _turn: ClassVar[Turn] = LLVM_LOCK  # here, because the module's names may be gone when the interpreter ends

    def address(self, name: str) -> int:
        """The address of a symbol that was asked for when the library was compiled."""
        try:
            return self._addresses[name]
        except KeyError:
            raise CompilationError(
                f"the library has no symbol {name!r}; it was compiled for {', '.join(sorted(self._addresses))}"
            ) from None

    @property
    def symbols(self) -> frozenset[str]:
        """The names that have an address here."""
        return frozenset(self._addresses)

    def __post_init__(self) -> None:
        # Their own finalizers, which wait for nobody, find nothing to call.
        for one in (self._tracker, self._engine):
            vars(one)["close"] = None

    def __del__(self) -> None:
        tracker, engine = getattr(self, "_tracker", None), getattr(self, "_engine", None)

        def dispose() -> None:
            # The code must go before the engine that holds it, whatever order a collection would choose.
            for one in (tracker, engine):
                if one is not None:
                    type(one).close(one)

        self._turn.leave(dispose)


def compile_text(
    ir_text: str,
    symbols: Iterable[str],
    opt: int = 2,
    cpu: str | None = None,
    features: str | None = None,
    *,
    imports: Mapping[str, int] | None = None,
    cache: bool = True,
) -> Library:
    """Compile a module, or take its object from the disk, and load it.

    `symbols` are the functions and variables whose addresses are wanted; `imports` gives addresses to external symbols
    of this module alone. Addresses never enter the cached object.
    """
    wanted = list(symbols)
    target = target_of(cpu, features)
    timings: dict[str, float] = {}
    body: bytes | None = None
    key = ""
    if cache:
        key = _cache_key(ir_text, target, opt)
        body = objcache.load(key)
    with LLVM_LOCK:
        if body is not None:
            try:
                return _load(body, wanted, imports, target, opt, True, timings)
            except CompilationError:
                body = None  # an intact file that does not link here: compile, which gives the true reason
        body, undefined = _object(ir_text, target, opt, timings)
        library = _load(body, wanted, imports, target, opt, False, timings, undefined)
    if cache:
        objcache.store(key, body)
    return library


def _object(ir_text: str, target: Target, opt: int, timings: dict[str, float]) -> tuple[bytes, list[str]]:
    """The object of a module, and the names it does not define. The module is disposed of before this returns."""
    machine = _machine(target, opt)
    module = _optimized(ir_text, machine, opt, timings)
    with _timed(timings, "codegen"):
        body = bytes(machine.emit_object(module))
    return body, [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]


def on_disk(ir_text: str, opt: int) -> bool:
    """Whether the object of a module for this machine lies on the disk."""
    return objcache.holds(_cache_key(ir_text, target_of(None, None), opt))


def assembly(
    ir_text: str,
    opt: int = 2,
    cpu: str | None = None,
    features: str | None = None,
) -> str:
    """The assembler text that `compile_text` would turn into machine code; nothing is loaded."""
    target = target_of(cpu, features)
    with LLVM_LOCK:
        machine = _machine(target, opt)
        return str(machine.emit_assembly(_optimized(ir_text, machine, opt, {})))


def optimized_ir(ir_text: str, opt: int = 2, cpu: str | None = None, features: str | None = None) -> str:
    """The module after the passes of a tier, as text."""
    target = target_of(cpu, features)
    with LLVM_LOCK:
        return str(_optimized(ir_text, _machine(target, opt), opt, {}))


def add_symbol(name: str, address: int) -> None:
    """Give an address to an external symbol, for every module compiled from now on."""
    if address <= 0:
        raise CompilationError(f"symbol {name!r}: {address} is not an address")
    with LLVM_LOCK:
        _symbols[name] = address


def host_target() -> Target:
    """The processor this process runs on."""
    return target_of(None, None)


def target_of(cpu: str | None, features: str | None) -> Target:
    """The target for a processor name; the host's features go with the host's name only."""
    if cpu is None and features is None and _host is not None:  # known: no need to wait for a compilation
        return _host
    with LLVM_LOCK:
        _initialize()
        if cpu is None:
            host = _host_target()
            return host if features is None else Target(host.cpu, features)
        return Target(cpu, features or "")


_host: Target | None = None
_LEVELS = {
    "x86-64": "", "x86-64-v2": "", "x86-64-v3": "+avx2,+fma", "x86-64-v4": "+avx512f,+avx512dq,+avx512vl,+avx2,+fma",
}  # fmt: skip
"""Processors that SYMDIFF_CPU may name, and what of their features decides how code is emitted."""


def _host_target() -> Target:
    global _host
    if _host is None:
        chosen = os.environ.get("SYMDIFF_CPU")
        if chosen:
            if chosen not in _LEVELS:
                raise CompilationError(f"SYMDIFF_CPU: expected one of {', '.join(_LEVELS)}, given {chosen!r}")
            _host = Target(chosen, _LEVELS[chosen])
            return _host
        try:
            features = llvm.get_host_cpu_features().flatten()
        except RuntimeError:  # LLVM cannot tell on this platform: the name alone must do
            features = ""
        _host = Target(llvm.get_host_cpu_name(), features)
    return _host


def _initialize() -> None:
    global _initialized
    if not _initialized:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # for inline assembler
        _initialized = True


_machines: dict[tuple[Target, int], llvm.TargetMachine] = {}


def _machine(target: Target, opt: int) -> llvm.TargetMachine:
    if opt not in TIERS:
        raise CompilationError(f"opt: expected one of {TIERS}, given {opt!r}")
    machine = _machines.get((target, opt))
    if machine is None:
        # Position-independent code with the small model: the linker lays each object out in one block and reaches
        # everything outside through a table, so nothing depends on where the process put its libraries.
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.cpu, features=target.features, opt=_CODE_GENERATION[opt], reloc="pic", codemodel="small"
        )
        _machines[target, opt] = machine
    return machine


def _optimized(
    ir_text: str, machine: llvm.TargetMachine, opt: int, timings: dict[str, float]
) -> llvm.ModuleRef:
    with _timed(timings, "parse"):
        try:
            # A context of its own: types and constants of one module are freed with it.
            module = llvm.parse_assembly(ir_text, context=llvm.create_context())
            module.triple = machine.triple
            module.data_layout = str(machine.target_data)
            module.verify()
        except RuntimeError as error:
            raise CompilationError(f"LLVM refused the module: {error}") from None
    if opt > 0:
        with _timed(timings, "passes"):
            _run_passes(module, machine, opt)
    return module


def _run_passes(module: llvm.ModuleRef, machine: llvm.TargetMachine, opt: int) -> None:
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.slp_vectorization = False
    tuning.loop_vectorization = False
    tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, tuning)
    if opt == max(TIERS):
        builder.getModulePassManager().run(module, builder)
        return
    if all(_marked(function, _WRITTEN) for function in _defined(module)):
        return
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    if opt == 2:
        simplify = builder.getFunctionPassManager()
        for function in _defined(module):
            if not _marked(function, _PLAIN) and str(function).count("\n") <= _SHORT:
                simplify.run(function, builder)


def _defined(module: llvm.ModuleRef) -> Iterable[llvm.ValueRef]:
    return (function for function in module.functions if not function.is_declaration)


def _marked(function: llvm.ValueRef, words: re.Pattern[bytes]) -> bool:
    return any(words.search(attribute) for attribute in function.attributes)


def _load(
    body: bytes,
    symbols: list[str],
    imports: Mapping[str, int] | None,
    target: Target,
    opt: int,
    cached: bool,
    timings: dict[str, float],
    undefined: Iterable[str] = (),
) -> Library:
    provided = {**_symbols, **(imports or {})}
    with _timed(timings, "load"):
        builder = llvm.JITLibraryBuilder().add_object_img(body).add_current_process()
        for name, address in provided.items():
            builder.import_symbol(name, address)
        for name in symbols:
            builder.export_symbol(name)
        # One engine for each library: it costs a third of a millisecond, and closing it gives all memory back.
        engine = llvm.create_lljit_compiler(_machine(target, opt), use_jit_link=_JIT_LINK, suppress_errors=True)
        try:
            tracker = builder.link(engine, "library")
        except RuntimeError as error:
            engine.close()
            missing = [n for n in undefined if n not in provided and not llvm.address_of_symbol(n)]
            hint = f"; nothing defines {', '.join(missing)}" if missing else ""
            raise CompilationError(f"the module does not link: {error}{hint}") from None
    addresses = {name: int(tracker[name]) for name in symbols}
    return Library(target, opt, cached, timings, len(body), addresses, tracker, engine)


def _cache_key(ir_text: str, target: Target, opt: int) -> str:
    return objcache.key_of(
        ir_text,
        target.cpu,
        target.features,
        llvmlite.__version__,
        ".".join(map(str, llvm.llvm_version_info)),
        platform.machine(),
        platform.system(),
        _SELF_DIGEST,
        f"opt={opt}",
    )


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Generator[None, None, None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - start


def _digest_of_this_file() -> str:
    """Pipelines are decided here, so an object made by another version of this file is not ours."""
    try:
        with open(__file__, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return "unreadable"


_SELF_DIGEST = _digest_of_this_file()
