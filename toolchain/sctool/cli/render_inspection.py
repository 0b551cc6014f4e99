"""What `sctool inspect` found, as tables for a person."""

from __future__ import annotations

from typing import Any

from sctool.cli.output import Output
from sctool.domain.wording import say_bytes, say_percent

MOST_LAYERS = 60
"""Of a file with more, the largest are shown."""


def draw_inspection(output: Output, found: dict[str, Any]) -> None:
    output.line(f"{_plain(found['path'])}: {found['format']}, {say_bytes(found['size_bytes'])}", style="bold")
    for name in ("inputs", "outputs"):
        for port in found[name]:
            output.line(f"  {name[:-1]} {_plain(port['name'])}: {port['dtype']} {_say_shape(port['shape'])}")
    if found["layers"]:
        _draw_layers(output, found["layers"])
    for item in found["runtimes"]:
        layers = f"{item['layers']} constant" + ("s" if item["layers"] != 1 else "")
        output.line(f"{item['runtime']}, {layers}: {item['says']}")
    for note in found["notes"]:
        output.line(_plain(note))
    for file in found["files"]:
        output.line("")
        draw_inspection(output, file)


def _draw_layers(output: Output, layers: list[dict[str, Any]]) -> None:
    kept = sorted(range(len(layers)), key=lambda n: -layers[n]["size"])[:MOST_LAYERS]
    rows = [
        [_plain(layer["name"])[:48], layer["role"], f"{layer['dtype']} {_say_shape(layer['shape'])}",
         "-" if layer["density"] is None else say_percent(layer["density"]), layer["codec"],
         say_bytes(layer["stored_bytes"]), layer["note"][:60]]
        for layer in (layers[n] for n in sorted(kept))
    ]  # fmt: skip
    title = f"{len(layers)} constants" + (f", the {MOST_LAYERS} largest" if len(layers) > MOST_LAYERS else "")
    columns = ["name", "role", "type", "not zero", "codec", "stored", "note"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    output.table(title, columns, rows, text=True)
    total, counted = sum(layer["size"] for layer in layers), [layer for layer in layers if layer["nnz"] is not None]
    nonzero, known = sum(layer["nnz"] for layer in counted), sum(layer["size"] for layer in counted)
    share = say_percent(nonzero / known) if known else "-"
    output.line(
        f"in all: {total:,} numbers, {share} of those counted not zero, "
        f"{say_bytes(sum(layer['stored_bytes'] for layer in layers))} stored"
    )


def _say_shape(shape: list[int | str | None]) -> str:
    return "[" + ", ".join("any" if extent is None else str(extent) for extent in shape) + "]"


def _plain(text: str) -> str:
    """Names come from the file: nothing in them moves the cursor or breaks the line."""
    return "".join(c if c.isprintable() else "?" for c in text)
