"""Which codec stores which tensor: the smallest that the user's constraints leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sctool.export.stages import BYTE_NS, count_stages, fill_stage

Rule = Literal["auto", "small", "fast", "ort", "dense", "rice", "pfor", "rows", "gap8", "bitmask", "coo"]
SESSION_NS, ELEMENT_NS = 5e6, 5.5
"""CPU time of making a dense model's session, and what each of its elements adds (x86 host, one thread)."""
PROCESS_BYTES, ELEMENT_BYTES = 47e6, 7.5
"""Peak memory of a process that has loaded ONNX Runtime, and what each element of a dense model adds: its file, and what is
made of it."""
NEAR = 1.1
"""`fast` takes a file at most so many times as large as the smallest."""
FOR_ORT = "coo"
PLAIN = "float32"
"""The value codec that leaves values as they are."""


@dataclass(frozen=True)
class Option:
    """One pair of codecs for one tensor: its bytes, and by the codecs' own figures the CPU time that it adds at load, and
    the bytes that it leaves over until the stage that decodes it ends."""

    positions: str
    stored_bytes: int
    load_ns: float
    values: str = PLAIN
    left_bytes: float = 0.0

    @property
    def name(self) -> str:
        """ "rice", or "rice+split"."""
        return self.positions if self.values == PLAIN else f"{self.positions}+{self.values}"


@dataclass(frozen=True)
class Choice:
    name: str
    why: str


@dataclass(frozen=True)
class Budgets:
    """How many times as long as the dense model's a load may take, and as much memory the process may need at its peak.

    stage_ns: what one stage more takes; infinite where the model cannot be decoded in stages. What decoding adds to the peak
    is the file, and what the fullest stage leaves over; room for the weights twice is in the dense model's peak.
    """

    load: float
    memory: float
    stage_ns: float = math.inf


Options = Mapping[str, list[Option]]


def choose_codecs(options: Options, rule: Rule, *, elements: int, budgets: Budgets) -> dict[str, Choice]:
    """Tensor -> option. Every tensor has the option "dense", which costs no time.

    auto: the smallest of all, then, while the load is estimated over a budget, in comparison with the dense model's of
    `elements`, the exchange that saves most of what is short for a byte. small: the smallest. fast: the quickest to load of
    what is at most 10 % larger than the smallest, all tensors together. ort: `coo`. Else the codec of that name. Never one
    that is larger than dense. Estimates, not measurements, so that the same model gives the same file on any machine.
    """
    if rule not in ("auto", "small", "fast"):
        name = FOR_ORT if rule == "ort" else rule
        return {tensor: _take_named(found, name) for tensor, found in options.items()}
    lists = {tensor: [o for o in found if o.positions != FOR_ORT] for tensor, found in options.items()}
    smallest = {tensor: min(found, key=_by_size) for tensor, found in lists.items()}
    taken, why = dict(smallest), dict.fromkeys(options, "the smallest")
    if rule == "fast":
        _hasten(taken, lists)
        swapped = [tensor for tensor, option in taken.items() if option != smallest[tensor]]
        why.update(dict.fromkeys(swapped, "part of the quickest file to load within 10 % of the smallest"))
    elif rule == "auto":
        _fit_load(taken, lists, (budgets.load - 1) * (SESSION_NS + ELEMENT_NS * elements), budgets.stage_ns)
        slow = {tensor for tensor, option in taken.items() if option != smallest[tensor]}
        _fit_memory(taken, lists, (budgets.memory - 1) * (PROCESS_BYTES + ELEMENT_BYTES * elements), budgets.stage_ns)
        for tensor, option in taken.items():
            if option != smallest[tensor]:
                kind, limit = ("load", budgets.load) if tensor in slow else ("memory", budgets.memory)
                why[tensor] = f"{smallest[tensor].name} is smaller, but over the {kind} budget of {limit:g} x dense"
    return {
        tensor: Choice(option.name, why[tensor] if option.name != "dense" or option != smallest[tensor]
                       else "no codec is smaller")
        for tensor, option in taken.items()
    }  # fmt: skip


def _relieve(
    taken: dict[str, Option], lists: Options, burden: Callable[[Option], float], excess: Callable[[], float],
    concerns: Callable[[Option], bool] = lambda _: True,
) -> None:  # fmt: skip
    """While `excess` is above 0, exchange one option in `taken` that it concerns, for most of `burden` saved a byte; never
    for one that takes longer to load."""
    while excess() > 0:
        swaps = [
            ((burden(now) - burden(o)) / max(o.stored_bytes - now.stored_bytes, 1), t, o)
            for t, now in taken.items()
            if concerns(now)
            for o in lists[t]
            if burden(o) < burden(now) and o.load_ns <= now.load_ns
        ]
        if not swaps:
            return
        _, tensor, option = max(swaps, key=lambda swap: (swap[0], swap[1], swap[2].name))
        taken[tensor] = option


def _fit_load(taken: dict[str, Option], lists: Options, spare: float, stage_ns: float) -> None:
    """Exchange options in `taken` until loading takes `spare` ns more. By how much the fullest stage leaves over more than
    the others do, it touches memory that no other stage uses again."""

    def exceed() -> float:
        left = [option.left_bytes for option in taken.values()]
        stages = count_stages(left, stage_ns)
        fresh = fill_stage(left, stages) - sum(left) / stages
        return sum(option.load_ns for option in taken.values()) + BYTE_NS * fresh - spare

    _relieve(taken, lists, lambda option: option.load_ns, exceed)


def _fit_memory(taken: dict[str, Option], lists: Options, spare: float, stage_ns: float) -> None:
    """Exchange options in `taken` until the file and the fullest stage take `spare` bytes; first, what no stage can hold."""

    def left(option: Option) -> float:
        return option.left_bytes

    def exceed(alone: bool) -> float:
        each = list(map(left, taken.values()))
        stored = sum(option.stored_bytes for option in taken.values() if option.name != "dense")
        stages = max(len(each), 1) if alone else count_stages(each, stage_ns)
        return stored + fill_stage(each, stages) - spare

    _relieve(taken, lists, left, lambda: exceed(True), lambda option: left(option) == max(map(left, taken.values())))
    _relieve(taken, lists, left, lambda: exceed(False))


def _hasten(taken: dict[str, Option], lists: Options) -> None:
    """Exchange options in `taken` for quicker ones while the sum of bytes stays within NEAR of what it was."""
    spare = (NEAR - 1) * sum(option.stored_bytes for option in taken.values())
    while True:
        swaps = [
            ((taken[t].load_ns - o.load_ns) / max(grown, 1), t, o, grown)
            for t, found in lists.items()
            for o in found
            if o.load_ns < taken[t].load_ns and (grown := o.stored_bytes - taken[t].stored_bytes) <= spare
        ]
        if not swaps:
            return
        _, tensor, option, grown = max(swaps, key=lambda swap: (swap[0], swap[1], swap[2].name))
        taken[tensor] = option
        spare -= grown


def _by_size(option: Option) -> tuple[int, bool, float]:
    return option.stored_bytes, option.name != "dense", option.load_ns


def _take_named(found: list[Option], name: str) -> Choice:
    dense = next(o for o in found if o.positions == "dense")
    named = next((o for o in found if o.positions == name), None)
    if named is None:
        return Choice(dense.name, f"{name} cannot store it")
    if named.stored_bytes >= dense.stored_bytes and name != "dense":
        return Choice(dense.name, f"{name} is no smaller")
    return Choice(named.name, "asked for")
