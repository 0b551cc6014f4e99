"""`sctool compress RUN --pick NAME`: another model of a finished run's Pareto front, as a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sctool.atomic import refuse_existing
from sctool.domain.candidate import Candidate
from sctool.errors import ArtifactError, ConfigError, DataError
from sctool.resources import suggest
from sctool.sparsity.losses import parse_loss
from sctool.sparsity.trainer import TrainingState, start_training
from sctool.workflows.experiment import prepare_experiment
from sctool.workflows.result import write_result
from sctool.workflows.run_directory import DENSE, FRONT, SUMMARY, Run, load_run_model, read_run, read_tensors
from sctool.workflows.search_state import Kept, SearchState


def read_front(path: Path) -> list[dict[str, Any]]:
    """The candidates on the front of the run at `path`, best TM-score first; ConfigError where it kept none."""
    front = read_run(path).summary.get("front")
    if not front:
        raise ConfigError(
            f"{path} kept no front to pick from.", hint='Run compress with --set safety.selection="pareto".'
        )
    return list(front)


def pick(path: Path, name: str, output: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write model `name` of the front of the run at `path` as the run directory `output`; returns its summary.

    Raises ConfigError for a name that is not on the front, DataError where the data are not the run's.
    """
    candidates = read_front(path)
    names = [candidate["name"] for candidate in candidates]
    if name not in names:
        raise ConfigError(f"The front of {path} has no candidate {name!r}.", hint=suggest(name, names))
    refuse_existing(output, overwrite=overwrite, marker=SUMMARY)
    if output.absolute() == path.absolute():
        raise ConfigError(
            f"{output} is the run that is picked from.", hint="Name another output: its bundles are of its own model."
        )
    run = read_run(path)
    experiment = prepare_experiment(run.config)
    if experiment.split.sha256 != run.summary["split"]["sha256"]:
        raise DataError(f"The data of {path} have changed since.", hint="Give the records that it was made with.")
    tensors = read_tensors(path / FRONT)
    front = [_restore(run, candidate, tensors) for candidate in candidates]
    chosen = front[names.index(name)]
    state = SearchState(
        start_training(load_run_model(run, DENSE), {}), chosen.state, run.summary["left_dense"],
        parse_loss(run.config.compress.loss, where="compress.loss"),
        records=run.candidates, front=front, seconds=run.summary["seconds"],
    )  # fmt: skip
    return write_result(experiment, state, output, overwrite=overwrite, picked=name)


def _restore(run: Run, record: dict[str, Any], tensors: dict[str, Tensor]) -> Kept:
    name = record["name"]
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "masks": {}}
    for key, value in tensors.items():
        owner, part, parameter = key.split("/", 2)
        if owner == name:
            parts[part][parameter] = value
    model: nn.Module = load_run_model(run)
    try:
        model.load_state_dict(parts["model"])
    except RuntimeError as error:
        raise ArtifactError(
            f"{run.path / FRONT}: {name} does not fit the model.", hint="Run `sctool compress` again."
        ) from error
    fields = {key: value for key, value in record.items() if key not in ("name", "label", "selected")}
    masks = parts["masks"]
    return Kept(Candidate(**fields), TrainingState(model, masks, {}, dict(masks), int(record["steps"])))
