"""`Drawing`: a picture with its writers."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from symdiff.errors import ArgumentError
from symdiff.render.drawing.dot import to_dot
from symdiff.render.drawing.model import Picture
from symdiff.render.drawing.svg import to_svg
from symdiff.render.drawing.table import to_table
from symdiff.render.drawing.tikz import to_tikz

_WRITERS = {".svg": to_svg, ".dot": to_dot, ".tex": to_tikz}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A computational graph to look at. Jupyter shows it inline; `print` shows the table."""

    picture: Picture

    def svg(self) -> str:
        """An SVG document."""
        return to_svg(self.picture)

    def dot(self) -> str:
        """Graphviz DOT source."""
        return to_dot(self.picture)

    def tikz(self) -> str:
        """A `tikzpicture` environment for LaTeX; needs the package tikz only."""
        return to_tikz(self.picture)

    def table(self) -> str:
        """Per node: value, upstream gradient, local derivatives, downstream gradients."""
        return to_table(self.picture)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture in the format of the suffix: .svg, .dot or .tex. The file appears whole or not at all.

        Raises ArgumentError for another suffix, OSError when the folder cannot be written.
        """
        target = Path(path)
        writer = _WRITERS.get(target.suffix.lower())
        if writer is None:
            raise ArgumentError(f"save: {os.fspath(path)!r} ends in {target.suffix!r}, expected .svg, .dot or .tex")
        if not target.parent.is_dir():
            raise FileNotFoundError(f"save: {os.fspath(path)!r}: there is no folder {os.fspath(target.parent)!r}")
        text = writer(self.picture)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            # mkstemp makes private files; what a user saves gets the usual permissions.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        # Notebooks shrink a wide SVG to the page; in a box that scrolls it keeps its size.
        return f'<div style="overflow-x:auto">{self.svg()}</div>'

    def __str__(self) -> str:
        return self.table()
