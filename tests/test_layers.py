"""The architecture as a test: who may import whom, nothing hidden in functions, no cycles, small files, no LLVM needed.

A module imports from lower rows only; modules of one row in different packages do not import each other. Imports
written inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from symdiff.errors import ArgumentError
from symdiff.later import later

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "symdiff").rglob("*.py"), *(ROOT / "codegen").rglob("*.py")])
LINES = 600

ROWS: dict[str, int] = {
    "symdiff.errors": 1,
    "symdiff.process": 1,
    "symdiff.vectorcall": 1,
    "symdiff.later": 2,
    "symdiff.ir": 2,
    "symdiff.arguments": 3,
    "symdiff.ops": 3,
    **dict.fromkeys(
        (f"symdiff.{name}" for name in
         ("frontend", "diff", "simplify", "render", "cost", "interp", "batch", "checking", "sparsity", "structured")), 4
    ),
    "symdiff.api": 5,
    "symdiff.cli": 6,
    "symdiff.__main__": 7,
    "symdiff": 6,
}  # fmt: skip
# Inside codegen, as code flows: what a row is made of lies below it. Packages of one row do not import each other.
STAGES: dict[str, int] = {
    "codegen.errors": 1,
    "codegen.vmath": 1,
    "codegen.ir": 2,
    "codegen.jit": 2,
    "codegen.llvm": 3,
    "codegen.arrays": 3,
    "codegen.analysis": 4,
    "codegen.products": 4,
    "codegen.schedule": 5,
    "codegen.kernels": 6,
    "codegen.inspection": 7,
    "codegen.entry": 8,
    "codegen.compiled": 9,
    "codegen": 10,
}
BELOW_CODEGEN = {"symdiff.ir", "symdiff.errors", "symdiff.process", "symdiff.vectorcall"}
# The only import inside a function: native code is loaded at the first compile.
LAZY = {("symdiff.api", "codegen")}
# The package itself is a table of names; the command line and `python -m` use it.
COMPOSERS = {"symdiff.cli": {"symdiff"}, "symdiff.__main__": {"symdiff.cli", "symdiff"}}


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def part(module: str) -> str:
    """The unit that has a row: symdiff.ir of symdiff.ir.graph, codegen of codegen.arrays.lower."""
    pieces = module.split(".")
    return pieces[0] if pieces[0] == "codegen" else ".".join(pieces[:2])


@cache
def imports(module: str) -> list[tuple[str, int, bool]]:
    """(imported module of ours, line, whether inside a function) for every import statement."""
    path = MODULES[module]
    found: list[tuple[str, int, bool]] = []
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while pending:
        node, inside = pending.pop()
        deeper = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        pending.extend((child, deeper) for child in ast.iter_child_nodes(node))
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            # `from symdiff import ir` names a module, `from symdiff.ir import graph` too.
            targets = [f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            # An import in disguise; one whose name is computed could be anything.
            name = node.args[0] if node.args else None
            if module == "symdiff.later":  # the one place; it refuses modules of ours
                continue
            targets = [name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else "symdiff.?"]
        for target in targets:
            if target.split(".")[0] in ("symdiff", "codegen"):
                found.append((target, node.lineno, inside))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module: str) -> None:
    own = part(module)
    for target, line, inside in imports(module):
        where = f"{module}:{line} imports {target}"
        other = part(target)
        if other == own:
            continue
        if own == "codegen":
            assert other in BELOW_CODEGEN, f"{where}; codegen knows {', '.join(sorted(BELOW_CODEGEN))}"
        elif (own, other) in LAZY:
            assert inside, f"{where} at the top: deriving must not need native code"
        elif other not in COMPOSERS.get(own, set()):
            assert other in ROWS, f"{where}, which has no row"
            assert own in ROWS, f"{module} has no row"
            assert ROWS[other] < ROWS[own], f"{where}: from row {ROWS[own]} to row {ROWS[other]}, expected a lower one"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) == "codegen"))
def test_native_code_is_made_stage_by_stage(module: str) -> None:
    own = ".".join(module.split(".")[:2])
    assert own in STAGES, f"{module} has no row"
    for target, line, _ in imports(module):
        other = ".".join(target.split(".")[:2])
        if part(target) == "codegen" and other != own:
            assert STAGES[other] < STAGES[own], f"{module}:{line} imports {target}: expected a lower row"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_hides_in_a_function(module: str) -> None:
    hidden = [(target, line) for target, line, inside in imports(module) if inside]
    assert all((part(module), part(target)) in LAZY for target, _ in hidden), hidden


def test_one_place_reaches_native_code() -> None:
    places = [(m, line) for m in MODULES for target, line, _ in imports(m)
              if part(target) == "codegen" and part(m) != "codegen"]  # fmt: skip
    assert len(places) <= 1, places


def test_what_is_rarely_needed_is_imported_late() -> None:
    code = "import sys, symdiff; print(*sorted({'sympy', 'scipy', 'matplotlib', 'llvmlite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.split() == [], done.stdout + done.stderr
    with pytest.raises(ArgumentError, match=r"later: symdiff\.ops is imported where it is needed"):
        later("symdiff.ops")


FACTORED = """
import sys
import numpy as np
import symdiff as sd
assert sd.grad(lambda a: np.sum(np.linalg.inv(a)))(np.eye(40)).shape == (40, 40)
assert "scipy.linalg" not in sys.modules and "scipy.linalg.cython_lapack" not in sys.modules
import scipy.linalg.cython_lapack
assert scipy.linalg.cython_lapack.__pyx_capi__ and scipy.linalg.inv(np.eye(3)).trace() == 3.0
print("factored")
"""


def test_a_factorization_imports_no_more_of_scipy_than_it_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FACTORED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "factored\n", done.stderr


def test_no_cycles() -> None:
    """Kahn's algorithm over all modules; a package's __init__ stands for itself."""
    waiting = {m: {t for t, _, inside in imports(m) if t in MODULES and t != m and not inside} for m in MODULES}
    while True:
        free = [m for m, needs in waiting.items() if not needs & set(waiting)]
        if not free:
            break
        for module in free:
            del waiting[module]
    assert not waiting, f"import cycle among {sorted(waiting)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LINES
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "no module docstring"


def test_the_top_level_holds_what_it_should() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "symdiff", "codegen", "tests", "bench"}
    assert {name for name in top if not name.startswith(".")} <= allowed


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("llvmlite", "codegen"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
import symdiff
import symdiff.cost, symdiff.diff, symdiff.interp
from symdiff.ir.builder import Builder
from symdiff.ir.types import float64
from symdiff.ops import OPSET

builder = Builder(OPSET)
x = builder.handle(builder.param("x", float64()))
(slope,) = symdiff.diff.gradients(builder, x.op("sin").value, [x.value])
function = builder.function([x.value], [slope])
assert abs(float(symdiff.interp.interpret(function, [0.0])[0]) - 1.0) < 1e-15
assert "cos" in str(symdiff.cost.count(function))
assert not {m.split(".")[0] for m in sys.modules} & {"llvmlite", "codegen"}
print("derived")
"""


def test_deriving_needs_no_llvm() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "derived\n", done.stderr
