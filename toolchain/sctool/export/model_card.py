"""MODEL_CARD.md: what the model is, what it was trained on, how well it answers, and what it gives away.

After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). `export` writes it without the audit's figures, `verify`
writes it again with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sctool.atomic import write_file
from sctool.domain.wording import say_bytes, say_interval, say_percent, strongest_attack
from sctool.export.manifest import Manifest, ModelKind

FILE = "MODEL_CARD.md"
NOT_VERIFIED = "**Not verified yet.** `sctool verify` attacks the files of this bundle and writes what it finds here."

TRAINED: dict[ModelKind, str] = {
    "sparse": "Trained sparse by SafeCompress: candidates are kept for accuracy and for what a membership inference attack "
    "finds.",
    "dense": "The dense baseline of a SafeCompress run, trained without any test of what it gives away.",
}


def write_model_card(bundle: Path, manifest: Manifest, verification: dict[str, Any] | None) -> None:
    """Write BUNDLE/MODEL_CARD.md; `verification` is the record of `sctool verify`, None before it has run."""
    text = render_model_card(manifest, verification)
    write_file(bundle / FILE, text.encode("utf-8", "replace"))


def render_model_card(manifest: Manifest, verification: dict[str, Any] | None) -> str:
    """The card as Markdown: the same manifest and record, the same text."""
    parts = [
        f"# Model card: a classifier for {manifest.target}", _describe_model(manifest), "## Files",
        _list_files(manifest), "## Data", _describe_data(manifest), "## Accuracy", _tell_accuracy(manifest, verification),
        "## Leakage", NOT_VERIFIED if verification is None else _tell_leakage(verification), "## Limits",
        _tell_limits(manifest),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _describe_model(manifest: Manifest) -> str:
    layers = manifest.plain_layers
    size, kept = sum(layer.size for layer in layers), sum(layer.nnz for layer in layers)
    versions = ", ".join(f"{name} {number}" for name, number in sorted(manifest.tool_versions.items()))
    return (
        f"Input `{manifest.input.name}`: {manifest.input.dtype} {_say_shape(manifest.input.shape)}; output "
        f"`{manifest.output.name}`: {_say_shape(manifest.output.shape)}, one logit a class. {kept:,} of {size:,} stored "
        f"weights are not zero (density of the masked layers {manifest.density:.4f}). {TRAINED[manifest.model]}\n\n"
        f"Made with {versions}; "
        f"run `{manifest.run_sha256[:16]}`."
    )


def _say_shape(shape: list[int | None]) -> str:
    return "[" + ", ".join("N" if extent is None else str(extent) for extent in shape) + "]"


def _list_files(manifest: Manifest) -> str:
    rows = [
        [name, entry.runtime, entry.precision, say_bytes(entry.size_bytes), f"{entry.stores} / {entry.computes}",
         _parity(manifest, name)]
        for name, entry in sorted(manifest.files.items())
    ]  # fmt: skip
    columns = ["file", "runtime", "precision", "size", "stored / computed", "largest error to PyTorch, same answer"]
    return _table(columns, rows)


def _parity(manifest: Manifest, name: str) -> str:
    found = manifest.parity.get(name)
    return f"{found.max_abs_error:.1e}, {say_percent(found.top1_agreement)}" if found else "not measured"


def _describe_data(manifest: Manifest) -> str:
    data, split = manifest.data, manifest.split
    sizes = split.get("sizes")
    parts = ""
    if isinstance(sizes, dict):
        parts = " Records: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sizes.items()) + "."
    labels = ", ".join(manifest.labels[:20]) + (", ..." if len(manifest.labels) > 20 else "")
    return (
        f"`{data.get('source')}`, {data.get('records')} records of shape {data.get('input_shape')}, normalisation: "
        f"{manifest.normalisation.get('kind')}. {len(manifest.labels)} classes: {labels}.\n\nSplit "
        f"`{str(split.get('sha256'))[:16]}` (seed {split.get('seed')}): who was a member, and which records the audit alone "
        f"sees, follows from it.{parts}"
    )


def _tell_accuracy(manifest: Manifest, verification: dict[str, Any] | None) -> str:
    rows = [
        [f"{manifest.model} model in PyTorch, {part}", say_percent(value)] for part, value in manifest.accuracy.items()
    ]
    for column in (verification or {}).get("columns", []):
        if column["kind"] == "artifact":
            rows.append([f"{column['name']}, test", say_percent(column["test_accuracy"])])
    return _table(["", "accuracy"], rows) if rows else "Not measured."


def _tell_leakage(verification: dict[str, Any]) -> str:
    rows = []
    for column in verification["columns"]:
        worst = strongest_attack(column["attacks"])
        rows.append(
            [column["name"], worst["attack"].replace("_", " "), say_interval(worst["auc"]),
             say_interval(worst["balanced_accuracy"]), say_interval(worst["tpr_at_fpr"]["0.01"])]
        )  # fmt: skip
    gates = verification["gates"]
    blind = verification["blind_baseline"]
    lines = [
        f"Verdict of `sctool verify` {verification['sctool']}: **{verification['verdict']}** (gates: attack accuracy "
        f"{gates['max_attack_accuracy']:g}, AUC {gates['max_auc']:g}, TPR at 1 % FPR {gates['max_tpr_at_1pct_fpr']:g}). The "
        f"strongest attack on each model, on {blind['members']} members and {blind['non_members']} non-members that neither "
        "training nor the search has seen, with 95 % intervals:",
        _table(["model", "strongest attack", "AUC", "attack accuracy", "TPR at 1 % FPR"], rows),
        *[f"- {failure}" for failure in verification["failures"][:10]],
        f"An attacker who sees no model: AUC {say_interval(blind['auc'])}.",
    ]
    return "\n\n".join(lines)


def _tell_limits(manifest: Manifest) -> str:
    lines = [
        "A passed gate says that these attacks found little on this many records. It is no proof of privacy.",
        "The accuracy is that on records drawn as the training records were; on others it may be lower.",
        f"Batches of up to {manifest.max_batch} records in ExecuTorch; inputs are normalised as stated above.",
        "A signature covers the manifest, and through its hashes the files; it does not cover this card.",
        *[f"`{name}`: stored {entry.stores}, computed {entry.computes} because {entry.because}."
          for name, entry in sorted(manifest.files.items()) if entry.because],
    ]  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in cells)


def _plain(text: str) -> str:
    """On one line, and without what would end a cell."""
    return " ".join(text.split()).replace("|", "\\|")
