"""Vector math on other x86 processors than this: the loops' machine code, priced by LLVM's machine code analyser.

python bench/vmath_mca.py [names] [--cpu znver4] [--width 8] [--mca llvm-mca-19] [--show]
Prints instructions, cycles per vector and per element of the common path of every loop (calls for rare arguments are
left out; loads and stores hit the first cache). The analyser knows znver4 from its version 16 on.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codegen.jit import engine
from codegen.vmath import trial

_ROUNDS = 200


def assembly(name: str, cpu: str, width: int) -> list[str]:
    """The lines of the loop's function, as the engine would compile it there."""
    text = engine.assembly(trial.module_text([name], "f64", width), cpu=cpu)
    return text.split(f"\nloop.{name}:", 1)[1].split(".Lfunc_end", 1)[0].splitlines()


def loop(lines: list[str]) -> list[str]:
    """From the first label that a later line jumps back to, up to that jump, as nothing rare happens."""
    code = [line.split("#")[0].strip() for line in lines]
    code = [line for line in code if line and (line[0] != "." or re.match(r"\.LBB\w+:", line))]
    for start, line in enumerate(code):
        if line[0] != ".":
            continue
        for end in range(start, len(code)):
            if re.fullmatch(rf"j\w+\s+{re.escape(line[:-1])}", code[end]):
                return [own for own in code[start:end] if own[0] not in ".j"]
    raise ValueError("no loop found")


def cycles(body: list[str], cpu: str, tool: str) -> float:
    """Cycles of one round among many."""
    command = [tool, "-mtriple=x86_64", f"-mcpu={cpu}", f"-iterations={_ROUNDS}"]
    done = subprocess.run(command, input="\n".join(body) + "\n", capture_output=True, text=True, check=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]) / _ROUNDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["exp", "log", "sin", "cos", "tanh", "sincos"])
    parser.add_argument("--cpu", default="znver4")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--mca", default=next((t for t in ("llvm-mca-19", "llvm-mca") if shutil.which(t)), "llvm-mca"))
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    for name in options.names:
        body = loop(assembly(name, options.cpu, options.width))
        took = cycles(body, options.cpu, options.mca)
        print(f"{name:12} {len(body):4} instructions {took:6.1f} cycles {took / options.width:6.2f} per element")
        if options.show:
            print("\n".join(body))


if __name__ == "__main__":
    main()
