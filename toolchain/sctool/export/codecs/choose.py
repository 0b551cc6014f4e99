"""Which codec stores which tensor: the smallest that the user's constraint leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Rule = Literal["auto", "small", "fast", "ort", "dense", "rice", "pfor", "rows", "gap8", "bitmask", "coo"]
SESSION_NS, ELEMENT_NS = 5e6, 5.5
"""CPU time of making a dense model's session, and what each of its elements adds (x86 host, one thread)."""
NEAR = 1.1
"""`fast` takes what is at most so many times as large as the smallest."""
FOR_ORT = "coo"
PLAIN = "float32"
"""The value codec that leaves values as they are."""


@dataclass(frozen=True)
class Option:
    """One pair of codecs for one tensor: its bytes, and the CPU time at load that it adds by the codecs' own figures."""

    positions: str
    stored_bytes: int
    load_ns: float
    values: str = PLAIN

    @property
    def name(self) -> str:
        """ "rice", or "rice+split"."""
        return self.positions if self.values == PLAIN else f"{self.positions}+{self.values}"


@dataclass(frozen=True)
class Choice:
    name: str
    why: str


def choose_codecs(
    options: Mapping[str, list[Option]], rule: Rule, *, elements: int, load_budget: float
) -> dict[str, Choice]:
    """Tensor -> option. Every tensor has the option "dense", which costs no time.

    auto: the smallest of all, then, while the estimated load takes more than `load_budget` times the dense model's of
    `elements`, the exchange that saves most time a byte. small: the smallest. fast: the quickest of those at most 10 %
    larger than the smallest that leaves values as they are. ort: `coo`. Else the codec of that name. Never one that is
    larger than dense. Estimates, not measurements, so that the same model gives the same file on any machine.
    """
    if rule not in ("auto", "small", "fast"):
        name = FOR_ORT if rule == "ort" else rule
        return {tensor: _take_named(found, name) for tensor, found in options.items()}
    lists = {
        tensor: [o for o in found if o.positions != FOR_ORT and (rule != "fast" or o.values == PLAIN)]
        for tensor, found in options.items()
    }
    smallest = {tensor: min(found, key=_by_size) for tensor, found in lists.items()}
    taken = dict(smallest)
    why = dict.fromkeys(options, "the smallest")
    if rule == "fast":
        for tensor, found in lists.items():
            near = [o for o in found if o.stored_bytes <= NEAR * smallest[tensor].stored_bytes]
            taken[tensor] = min(near, key=lambda o: (o.load_ns, _by_size(o)))
            why[tensor] = "the quickest to load within 10 % of the smallest"
    elif rule == "auto":
        spare = (load_budget - 1) * (SESSION_NS + ELEMENT_NS * elements)
        while sum(o.load_ns for o in taken.values()) > spare:
            swaps = [
                ((taken[t].load_ns - o.load_ns) / max(o.stored_bytes - taken[t].stored_bytes, 1), t, o)
                for t, found in lists.items()
                for o in found
                if o.load_ns < taken[t].load_ns
            ]
            _, tensor, option = max(swaps, key=lambda swap: (swap[0], swap[1], swap[2].name))
            taken[tensor] = option
            why[tensor] = f"{smallest[tensor].name} is smaller, but over the load budget of {load_budget:g} x dense"
    return {
        tensor: Choice(option.name, why[tensor] if option.name != "dense" or option != smallest[tensor]
                       else "no codec is smaller")
        for tensor, option in taken.items()
    }  # fmt: skip


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
