"""Fixtures and profiles shared by all tests: golden texts with --update-golden, Hypothesis without chance in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before NumPy and SciPy load: threads make 3 x 3 systems a thousand times slower on busy machines.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from handmade_kernels import NAMES, TEXT
from hypothesis import HealthCheck, settings

from codegen import compiled
from codegen.entry import native as entry
from codegen.entry.native import NativeFunction, make_function
from codegen.entry.signature import Signature
from codegen.jit import engine, pool

GOLDEN = Path(__file__).parent / "golden"

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
# ci: the same examples on every run; long: for a night.
settings.register_profile("ci", derandomize=True, max_examples=30, **_COMMON)
settings.register_profile("long", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files from what the code gives now")


@pytest.fixture
def shared() -> Iterator[None]:
    """Threads share work whatever it costs: by themselves the first calls of a loop are made alone."""
    pool.share_always(True)
    yield
    pool.share_always(False)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text) compares with tests/golden/name.txt. A missing file fails and shows the text."""
    update = bool(request.config.getoption("--update-golden"))

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"no golden file {path.name}; run with --update-golden to write it. The text is\n{text}")
        assert text.rstrip("\n") == path.read_text(encoding="utf-8").rstrip("\n"), f"{path.name} differs"

    return check


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session", autouse=True)
def settled() -> None:
    """Calls go through the last code of the entry, not through the first that an empty cache gives, and so do most
    programs of the tests."""
    assert entry.settle(300)
    compiled._FELT = 2_000


# -------------------------------------------------------------------- kernels written by hand
@pytest.fixture(scope="session")
def library() -> engine.Library:
    """The machine code of `handmade_kernels`."""
    return engine.compile_text(TEXT, NAMES, opt=1, cache=False)


@pytest.fixture(scope="session")
def early_entry() -> Any:
    """The entry as a process without an object cache has it first: without passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "on_disk", lambda *_: False)
        patch.setattr(entry._BetterEntry, "begin", lambda *_, **__: None)
        return entry._FastEntry()


@pytest.fixture(params=["fast", "early", "portable"])
def make(
    request: pytest.FixtureRequest, library: engine.Library, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., NativeFunction]:
    """make(signature) gives a kernel as a function, on the fast entry, on its first code and on the portable path."""
    portable = request.param == "portable"
    if request.param == "early":
        monkeypatch.setattr(entry._entry, "made", {(): request.getfixturevalue("early_entry")})

    def function_of(signature: Signature, **options: Any) -> NativeFunction:
        function = make_function(signature, library, portable=portable, **options)
        assert function.is_fast is not portable
        return function

    return function_of
