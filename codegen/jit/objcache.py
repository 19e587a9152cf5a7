"""A cache of object code on disk, keyed by content.

Takes the parts that determine an object (IR text, target, versions) and gives a key; takes a key and gives the stored
bytes, or None. Promises: an entry is read whole or not at all (a digest guards it, and writing ends in one atomic
rename); a folder that other users can write to is not used, because its contents are run; no failure of the disk ever
reaches the caller, who then only compiles again.

``SYMDIFF_CACHE_DIR`` names the folder, ``SYMDIFF_CACHE_DIR=off`` switches the cache off.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

_MAGIC = b"symdiff-object-1\n"
_DIGEST = hashlib.sha256().digest_size
_SUFFIX = ".o.cache"
_UNFINISHED = ".write-"
_LONGEST_WRITE = 3600.0
"""Seconds after which a file that is being written has no writer any more."""
MAX_BYTES = 256 * 1024 * 1024
"""Above this total, the entries used longest ago go, down to three quarters of it."""

_WRITES_PER_SWEEP = 64
_sweep_countdown = 1
"""Sweep at a process's first write and then now and then: a sweep lists the whole folder."""


def key_of(*parts: str) -> str:
    """The key of an object; parts are length-prefixed, so that no two lists of parts read alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def directory() -> Path | None:
    """The folder in force now, made if need be; None when the cache is off or the folder is not safe to use."""
    chosen = os.environ.get("SYMDIFF_CACHE_DIR", "")
    if chosen.lower() == "off":
        return None
    try:
        folder = Path(chosen) if chosen else _platform_folder() / "symdiff" / "objects"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_private(folder) else None
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None


def load(key: str) -> bytes | None:
    """The object stored under the key; None when there is none or it is damaged."""
    folder = directory()
    if folder is None:
        return None
    path = folder / (key + _SUFFIX)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[len(_MAGIC) + _DIGEST :]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + _DIGEST]:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the sweep goes by last use
    return body


def holds(key: str) -> bool:
    """Whether there is an object under the key, damaged or not."""
    folder = directory()
    return folder is not None and (folder / (key + _SUFFIX)).exists()


def store(key: str, body: bytes) -> None:
    """Store an object, or do nothing where the disk does not let us."""
    global _sweep_countdown
    folder = directory()
    if folder is None:
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(temporary, folder / (key + _SUFFIX))
    except OSError:
        return
    finally:
        with contextlib.suppress(OSError):  # it is not there any more, unless writing was broken off
            os.unlink(temporary)
    _sweep_countdown -= 1
    if _sweep_countdown <= 0:
        _sweep_countdown = _WRITES_PER_SWEEP
        with contextlib.suppress(OSError):
            sweep(folder)


def sweep(folder: Path, limit: int = MAX_BYTES) -> None:
    """Remove what processes that were killed left unfinished, and the entries used longest ago while the folder holds
    more than the limit."""
    entries: list[tuple[float, int, str]] = []
    with os.scandir(folder) as listing:
        for entry in listing:
            with contextlib.suppress(OSError):  # another process may sweep as well
                if entry.name.endswith(_SUFFIX):
                    status = entry.stat()
                    entries.append((status.st_mtime, status.st_size, entry.path))
                elif entry.name.startswith(_UNFINISHED) and entry.stat().st_mtime < time.time() - _LONGEST_WRITE:
                    os.unlink(entry.path)
    total = sum(size for _, size, _ in entries)
    if total <= limit:
        return
    for _, size, path in sorted(entries):
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
        if total <= limit * 3 // 4:
            return


def _platform_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen and os.path.isabs(chosen) else Path.home() / ".cache"


def _is_private(folder: Path) -> bool:
    if sys.platform == "win32":
        return True  # the profile folder carries the access list
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
