"""What each artifact of a bundle costs, measured on this host."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sctool import __version__
from sctool.atomic import write_json
from sctool.domain.config import ProfileConfig
from sctool.domain.target import load_target
from sctool.profiling.budget import check_budget, not_gated
from sctool.profiling.host import profile_on_host
from sctool.workflows.bundle import find_run, load_records, open_bundle
from sctool.workflows.progress import Progress, ignore_progress

OPENER = "sctool.runtimes.registry:open_session"


def profile(
    path: Path, *, threads: int | None = None, repeats: int | None = None, iterations: int | None = None,
    warm_up: int | None = None, data_source: str | None = None, output: Path | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Profile every artifact of the bundle at `path` on a real record; writes profile.json and returns it with its path.

    Settings left None come from the run's config, else from the defaults. Raises ArtifactError for a damaged bundle
    and DeviceError where the measuring process fails.
    """
    bundle = open_bundle(path)
    origin = find_run(bundle, None)
    data, split = load_records(bundle, data_source, origin)
    base = origin.config.profile if origin else ProfileConfig()
    given = {"threads": threads, "repeats": repeats, "iterations": iterations, "warm_up": warm_up}
    settings = base.model_copy(update={key: value for key, value in given.items() if value is not None})
    target = load_target(bundle.manifest.target)
    profiles = []
    with tempfile.TemporaryDirectory(prefix="sctool-profile-") as folder:
        record = Path(folder) / "input.npy"
        np.save(record, data.x[split["test"][:1]], allow_pickle=False)
        for number, (name, entry) in enumerate(bundle.manifest.files.items()):
            progress(number, len(bundle.manifest.files), f"measuring {name}")
            profiles.append(
                profile_on_host(
                    path / name, entry.format, opener=OPENER, input_path=record, threads=settings.threads,
                    repeats=settings.repeats, iterations=settings.iterations, warm_up=settings.warm_up,
                )
            )  # fmt: skip
    progress(1, 1, "measured")
    size = sum(entry.size_bytes for entry in bundle.manifest.files.values())
    result = {
        "schema_version": 1,
        "sctool": __version__,
        "target": target.name,
        "budget": target.budget.model_dump(exclude_none=True) or None,
        "violations": check_budget(profiles, size, target),
        "notes": not_gated(profiles, target),
        "profiles": [item.to_json() for item in profiles],
    }
    file = output or path / "profile.json"
    write_json(file, result)
    return file, result
