"""What training and the audit found, as tables."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap
from typing import Any

from sctool.cli.output import Output
from sctool.domain.wording import say_interval, say_percent, strongest_attack


def _stack_interval(interval: dict[str, float] | None) -> str:
    """Value over its 95 % interval, nine characters wide, so that four models fit beside one another."""
    if interval is None:
        return "withheld"
    low, high = (f"{interval[end]:.3f}".removeprefix("0") for end in ("low", "high"))
    return f"{interval['value']:.3f}\n{low}-{high}"


def draw_compress(output: Output, summary: dict[str, Any], folder: str) -> None:
    rows = []
    for name in ("dense", "sparse"):
        figures, attack = summary[name], summary[name]["attacks"][0]
        rows.append([name, say_percent(figures["train_accuracy"]), say_percent(figures["test_accuracy"]),
                     _stack_interval(attack["balanced_accuracy"]), _stack_interval(attack["auc"])])  # fmt: skip
    attack_name = summary["dense"]["attacks"][0]["attack"].replace("_", " ")
    output.table(
        f"Compressed to density {summary['density']:.4f} in {summary['rounds']} rounds",
        ["model", "train accuracy", "test accuracy", f"attack accuracy\n{attack_name}", "attack AUC"], rows,
    )  # fmt: skip
    output.line("Attack figures here are the search's own; `sctool verify` attacks records that no search has seen.")
    for layer in summary["left_dense"]:
        output.line(f"left dense: {layer['layer']} ({layer['reason']})")
    output.line(f"run: {folder}")


def draw_front(output: Output, front: list[dict[str, Any]], run: str) -> None:
    rows = [
        [c["name"], c["label"], say_percent(c["task_accuracy"]), f"{c['attack_accuracy']:.3f}", f"{c['attack_auc']:.3f}",
         f"{c['tm_score']:.3f}", str(c["nnz"])]
        for c in front
    ]  # fmt: skip
    columns = ["name", "candidate", "task accuracy", "attack accuracy", "attack AUC", "TM-score", "non-zeros"]
    output.table(f"Pareto front of {run}", columns, rows)
    output.line(f"take one: sctool compress {run} --pick {front[0]['name']} --output {run}-{front[0]['name']}")


MOST_FAILURES = 6
SHADOW_WAYS = {"masks": "at the model's own masks", "search": "a SafeCompress run each"}
MANY_MODELS = 5
"""From here on each model is a row, with its strongest attack alone."""
MANY_COLUMNS, NARROW = 4, 10
"""With more columns than that devices are stacked under their file's name, at so many characters."""
MANY_ATTACKS = 8
"""From here on the table gives each attack's AUC alone; the record has the rest."""
WORST: list[tuple[str, Callable[[dict[str, Any]], dict[str, float] | None]]] = [
    ("attack accuracy", lambda attack: attack["balanced_accuracy"]),
    ("TPR at 1 % FPR", lambda attack: attack["tpr_at_fpr"]["0.01"]),
]


def _stack_name(name: str, *, many: bool) -> str:
    """The runtime under the file's name; without it where there are too many columns for that, a device excepted."""
    file, _, runtime = name.partition(" (")
    if not runtime:
        return name
    return file if many and "." in file and not runtime.startswith("on ") else f"{file}\n({runtime}"


def _head_column(name: str, *, narrow: bool) -> str:
    """`_stack_name`, hardly wider than figures are where it has to be: five models fit into 80 characters."""
    file, on, device = name.removesuffix(")").partition(" (on ")
    return "\n".join([file, *wrap(f"on {device}", NARROW)]) if narrow and on else _stack_name(name, many=narrow)


def _value(interval: dict[str, float] | None) -> float:
    return interval["value"] if interval else 0.0


def draw_verify(output: Output, verification: dict[str, Any], file: str) -> None:
    columns = verification["columns"]
    if len(columns) > MANY_MODELS:
        _draw_models(output, verification)
        return _draw_verdict(output, verification, file)
    narrow = len(columns) > MANY_COLUMNS
    rows = [["test accuracy", *(say_percent(column["test_accuracy"]) for column in columns)]]
    names = list(dict.fromkeys(attack["attack"] for column in columns for attack in column["attacks"]))
    found = [{attack["attack"]: attack for attack in column["attacks"]} for column in columns]
    for name in names:
        same = [attacks.get(name) for attacks in found]
        title = name.replace("_", " ")
        if len(names) > MANY_ATTACKS:
            rows.append([title, *(_stack_interval(a["auc"]) if a else "-" for a in same)])
            continue
        rows.append(
            [f"{title}\n  attack accuracy", *(_stack_interval(a["balanced_accuracy"]) if a else "-" for a in same)]
        )
        rows.append(["  AUC", *(_stack_interval(a["auc"]) if a else "-" for a in same)])
        rows.append(["  TPR at 1 % FPR", *(_stack_interval(a["tpr_at_fpr"]["0.01"]) if a else "-" for a in same)])
    if len(names) > MANY_ATTACKS:
        for title, read in WORST:
            worst = [max((read(a) for a in attacks.values() if read(a)), key=_value, default=None) for attacks in found]
            rows.append([f"highest of all\n  {title}", *(_stack_interval(each) for each in worst)])
    blind = verification["blind_baseline"]
    output.table(
        f"Attacks on {blind['members']} members and {blind['non_members']} non-members that no search has seen",
        [
            "AUC, with 95 % intervals" if len(names) > MANY_ATTACKS else "with 95 % intervals",
            *(_head_column(column["name"], narrow=narrow) for column in columns)], rows,
    )  # fmt: skip
    _draw_verdict(output, verification, file)


def _draw_models(output: Output, verification: dict[str, Any]) -> None:
    rows = []
    for column in verification["columns"]:
        worst = strongest_attack(column["attacks"])
        rows.append([
            _stack_name(column["name"], many=True), say_percent(column["test_accuracy"]), worst["attack"].replace("_", " "),
            _stack_interval(worst["auc"]), _stack_interval(worst["balanced_accuracy"]),
            _stack_interval(worst["tpr_at_fpr"]["0.01"]),
        ])  # fmt: skip
    blind = verification["blind_baseline"]
    output.table(
        f"The strongest attack on {blind['members']} members and {blind['non_members']} non-members, 95 % intervals",
        ["model", "test\naccuracy", "attack", "AUC", "attack\naccuracy", "TPR at\n1 % FPR"], rows,
    )  # fmt: skip


def _draw_verdict(output: Output, verification: dict[str, Any], file: str) -> None:
    columns, gates = verification["columns"], verification["gates"]
    blind = verification["blind_baseline"]
    output.line(f"blind baseline, which sees no model: AUC {say_interval(blind['auc'])}")
    output.line(
        f"gates: attack accuracy {gates['max_attack_accuracy']:g}, AUC {gates['max_auc']:g}, "
        f"TPR at 1 % FPR {gates['max_tpr_at_1pct_fpr']:g}, AUC within a class {gates['max_class_auc']:g}"
    )
    for column in columns:
        if column["kind"] == "artifact" and column["one_run"]:
            one = column["one_run"]
            output.line(
                f"one-run audit of {column['name']}: epsilon >= {one['epsilon']:.2f} (95 %), {one['right']} of "
                f"{one['guesses']} guesses on {one['canaries']} canaries right"
            )
    for name, found in ((verification.get("device") or {}).get("agreement") or {}).items():
        output.line(
            f"{name} against {found['compared_with']}: max abs error {found['max_abs_error']:.2e} on {found['records']} "
            f"records, AUCs differ by at most {found['max_auc_difference']:.4f}"
        )
    for note in verification["notes"]:
        output.line(note)
    passed = verification["verdict"] == "pass"
    shadows = verification["shadows"]
    if shadows:
        output.line(
            f"{shadows['count']} shadow models ({SHADOW_WAYS[shadows['way']]}), each trained on "
            f"{shadows['members']:.0f} records; the model itself on {shadows['members_of_the_model']}"
        )
    for failure in verification["failures"][:MOST_FAILURES]:
        output.line(f"LEAK: {failure}", style="bold red")
    if len(verification["failures"]) > MOST_FAILURES:
        output.line(f"and {len(verification['failures']) - MOST_FAILURES} figures more, see the record")
    output.line("verdict: PASS" if passed else "verdict: LEAK", style="bold green" if passed else "bold red")
    output.line(f"verification: {file}")
