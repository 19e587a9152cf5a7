"""Every Python example of the README runs; a `# text` after a print is what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def expected_output(block: str) -> list[str]:
    """The comments behind calls of print, in order."""
    return [m.group(1).strip() for m in re.finditer(r"^print\(.*\)\s+# (.*)$", block, re.MULTILINE)]


def test_examples_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)  # our own README, not input
        printed = capsys.readouterr().out.splitlines()
        expected = expected_output(block)
        if expected:
            assert printed[: len(expected)] == expected


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 4 and any(expected_output(b) for b in BLOCKS)


def test_the_two_commands_stand_at_the_top() -> None:
    shell = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert [len(s.strip().splitlines()) for s in shell[:2]] == [1, 1]
    assert "symdiff derive" in shell[0] and "pytest" in shell[1]
