"""Several threads at once, and processors that are not here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from llvmlite import binding as llvm


def together(work: Callable[..., None], problems: Iterable[tuple[Any, ...]]) -> None:
    """Run `work` on every problem in a thread of its own; raise what one of them raised."""
    failures: list[BaseException] = []

    def run(problem: tuple[Any, ...]) -> None:
        try:
            work(*problem)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(problem,)) for problem in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def machine_of(triple: str, cpu: str) -> Any:
    """LLVM's machine for a processor; the test is skipped where LLVM was built without it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip("LLVM was built without this target")
    return target.create_target_machine(cpu=cpu, opt=1, reloc="pic")
