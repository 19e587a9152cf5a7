"""Long graphs are built without looking for garbage among them."""

import gc
import os
from collections.abc import Generator
from contextlib import contextmanager

_off = False


@contextmanager
def uncollected() -> Generator[None]:
    """No cyclic garbage collection inside: a collection walks every object of a graph that only grows."""
    global _off
    if not gc.isenabled():
        yield
        return
    try:
        _off = True
        gc.disable()
        yield
    finally:
        gc.enable()
        _off = False


def _forked() -> None:
    if _off:  # by a thread that is not here to switch it on again
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
