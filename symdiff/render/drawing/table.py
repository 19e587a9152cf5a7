"""A picture as a text table: per node its value, upstream gradient, local derivatives, and what it sends downstream."""

from __future__ import annotations

from symdiff.render.drawing.model import Picture


def to_table(picture: Picture) -> str:
    """One block of lines per node, columns aligned; columns that no node fills are left out."""
    header = ("node", "operation", "shape", "value", "upstream", "local", "downstream", "note")
    rows: list[tuple[str, ...]] = [header]
    used = {0, 1}
    for node, edges in zip(picture.nodes, picture.incoming(), strict=True):
        value = next((row.text for row in node.rows if row.role == "value"), "")
        upstream = next((row.text for row in node.rows if row.role == "upstream"), "")
        local = [f"{row.key} = {row.text}" for row in node.rows if row.role == "local"]
        down = [
            f"{picture.nodes[picture.edges[e].source].name}: {picture.edges[e].exact or picture.edges[e].gradient}"
            for e in edges
            if picture.edges[e].gradient
        ]
        first = (node.name, node.formula or node.kind, node.shape, value, upstream)
        for i in range(max(1, len(local), len(down))):
            row = (
                *(first if not i else ("",) * len(first)),
                local[i] if i < len(local) else "",
                down[i] if i < len(down) else "",
                node.note if not i else "",
            )
            used.update(k for k, cell in enumerate(row) if cell)
            rows.append(row)
    columns = sorted(used)
    widths = {k: max(len(row[k]) for row in rows) for k in columns}
    lines = ["  ".join(row[k].ljust(widths[k]) for k in columns).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * widths[k] for k in columns), *lines[1:]]) + "\n"
