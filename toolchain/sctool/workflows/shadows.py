"""Shadow models: trained as the attacked model was, on other halves of the records, side by side, and never twice."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sctool.atomic import write_file
from sctool.data.dataset import Dataset
from sctool.data.source import load_dataset
from sctool.errors import ArtifactError, DataError, TrainingError
from sctool.runtimes.eager import EagerSession
from sctool.safety.statistics import margin
from sctool.sparsity.order import mix_seed
from sctool.sparsity.stacked import suits_stacking
from sctool.sparsity.trainer import answer_sparsely
from sctool.workflows.experiment import Experiment, prepare_experiment
from sctool.workflows.lowered import lower_session
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import MASKS, Run, load_run_model, read_run, read_split, read_tensors
from sctool.workflows.search import run_search
from sctool.workflows.search_state import SearchState, start_search
from sctool.workflows.shadow_plan import SHADOW_SEED, deal_in, identify, make_shadow_split, plan_pool, read_stretches
from sctool.workflows.side_by_side import end_with
from sctool.workflows.signals import ShadowAnswers, ask
from sctool.workflows.stretches import train_stretches
from sctool.workflows.training import needs_dense

FOLDER = "shadows"
Way = Literal["masks", "search"]
"""masks: at the attacked model's own masks, which whoever holds it can read; search: a SafeCompress run of its own."""
FEWEST = 4
TOGETHER = 4
"""Shadow models that are trained as one program where they can be: more of them no longer fit the caches."""


@dataclass(frozen=True)
class _Task:
    """Shadow models `numbers` of `count`, of the run at `run`; the answers of each go to its file in `folder`. Processes
    share `data`: joblib maps large arrays into their memory."""

    run: Path
    data: Dataset
    numbers: tuple[int, ...]
    count: int
    queries: int
    way: Way
    kinds: tuple[str, ...]
    folder: Path

    def file(self, number: int) -> Path:
        return self.folder / f"{number:04d}.npz"


def train_shadows(
    run: Run, count: int, *, data: Dataset | None = None, queries: int = 1, way: Way = "masks",
    kinds: Sequence[str] = ("sparse",), jobs: int = 1, progress: Progress = ignore_progress,
) -> dict[str, ShadowAnswers]:  # fmt: skip
    """Train `count` shadow models of `run`, or read what is left of an earlier call, and give their answers by kind:
    "sparse", "dense" (as many dense models beside them), and either as its file of lower precision answers: "sparse:int8".
    `data`: the run's records, where they were read already.

    `jobs` at a time, a process and a thread each. Each one's answers are kept in the run directory under a hash of all
    that they follow from: a call that was killed goes on where it stopped. Raises DataError for fewer than FEWEST, and
    TrainingError where a process dies.
    """
    if count < FEWEST or count % 2:
        raise DataError(
            f"{count} shadow models: an even number from {FEWEST} on is needed.",
            hint="Each record is in for half of them; 16 is a fair start.",
        )
    split = read_split(run)
    pool = plan_pool(split, run.config.compress.seed)
    data = data or load_dataset(run.config.data.source, run.config.data.root)
    folder = run.path / FOLDER / identify(run, data, pool, count, queries, way)[:16]
    together = min(TOGETHER, count // 2) if way == "masks" and _suit_stacking(run) else 1
    numbers = [tuple(range(first, min(first + together, count))) for first in range(0, count, together)]
    tasks = [_Task(run.path.absolute(), data, some, count, queries, way, tuple(kinds), folder) for some in numbers]
    missing = [task for task in tasks if not _is_done(task)]
    done = count - sum(len(task.numbers) for task in missing)
    progress(done, count, "training shadow models")
    for trained in _run_all(missing, jobs):
        done += trained
        progress(done, count, "training shadow models")
    is_in = np.zeros((count, len(pool.asked)), np.bool_)
    is_in[:, np.searchsorted(pool.asked, pool.rows)] = deal_in(pool, count, run.config.compress.seed)
    answers = [_read(task.file(number)) for task in tasks for number in task.numbers]
    return {
        kind: ShadowAnswers(pool.asked, np.stack([each[kind] for each in answers]), is_in, pool.population)
        for kind in kinds
    }


def _suit_stacking(run: Run) -> bool:
    masks = {name: mask.bool() for name, mask in read_tensors(run.path / MASKS).items()}
    return suits_stacking(load_run_model(run), masks)


def _run_all(tasks: list[_Task], jobs: int) -> Any:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if jobs == 1 or len(tasks) < 2:
        yield from (_train(task) for task in tasks)
        return
    try:
        yield from Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator_unordered")(
            delayed(_train_apart)(task, os.getpid()) for task in tasks
        )
    except TerminatedWorkerError as error:
        raise TrainingError(
            f"A process that trained a shadow model died, {jobs} side by side.",
            hint="It may have run out of memory: lower --jobs; what is trained is kept.",
        ) from error


def _train_apart(task: _Task, parent: int) -> int:
    end_with(parent)
    return _train(task)


def _train(task: _Task) -> int:
    """Train the task's shadow models and write the answers of each: margins [P + Z, Q] by kind. Returns how many."""
    torch.set_num_threads(1)
    run = read_run(task.run)
    experiment = prepare_experiment(run.config, task.data)
    pool = plan_pool(experiment.split, run.config.compress.seed)
    is_in = deal_in(pool, task.count, run.config.compress.seed)
    members = []
    for number in task.numbers:
        split = make_shadow_split(pool, is_in[number], experiment.split, number)
        own = _make_experiment(experiment, split, number)
        members.append((own, start_search(own)))
    with_dense = any(kind.startswith("dense") for kind in task.kinds)
    skip_dense = not (with_dense or needs_dense(run.config.compress))
    if task.way == "search":
        for own, state in members:
            run_search(own, state, ignore_progress, lambda *_: None, skip_dense=skip_dense)
    else:
        masks = {name: mask.bool() for name, mask in read_tensors(run.path / MASKS).items()}
        train_stretches(members, masks, [(s.loss, s.end) for s in read_stretches(run)], skip_dense=skip_dense)
    for number, (own, state) in zip(task.numbers, members, strict=True):
        if _is_there(task, number):
            continue
        answers: dict[str, Any] = {kind: _answer(own, state, kind, pool.asked, task.queries) for kind in task.kinds}
        content = io.BytesIO()
        np.savez(content, **answers)
        write_file(task.file(number), content.getvalue())
    return len(members)


def _answer(
    own: Experiment, state: SearchState, kind: str, rows: NDArray[np.int64], queries: int
) -> NDArray[np.float64]:
    """Margins [N, Q] of these rows of the data set."""
    model, _, precision = kind.partition(":")
    trained = state.dense if model == "dense" else state.result
    x, y = own.data.x[rows], own.data.y[rows]
    if precision:
        logits = ask(lower_session(trained.model, "int8", own.data.x[own.split["quantisation"]]), x, queries)
    else:
        with answer_sparsely(trained) as answering:
            logits = ask(EagerSession(answering), x, queries)
    return np.stack([margin(logits[:, q], y) for q in range(queries)], axis=1)


def _make_experiment(experiment: Experiment, split: Any, number: int) -> Experiment:
    """The experiment of a shadow model: other members, another seed."""
    seed = mix_seed(experiment.config.compress.seed, SHADOW_SEED, 3, number) % 2**31
    compress = experiment.config.compress.model_copy(update={"seed": seed, "jobs": None, "dense_checkpoint": ""})
    own = replace(experiment, config=experiment.config.model_copy(update={"compress": compress}), split=split)
    x, y = own.records(split["train"])
    return replace(own, x=x, y=y)


def _is_done(task: _Task) -> bool:
    return all(_is_there(task, number) for number in task.numbers)


def _is_there(task: _Task, number: int) -> bool:
    file = task.file(number)
    return file.is_file() and set(task.kinds) <= set(_read(file))


def _read(file: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {kind: np.asarray(arrays[kind], dtype=np.float64) for kind in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"Cannot read {file}: {error}.", hint="Remove it: it is made again.") from error
