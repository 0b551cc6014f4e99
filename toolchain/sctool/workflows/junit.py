"""A verification as JUnit XML, which build servers show: a test case for each attack on each artifact."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

Record = dict[str, Any]


def to_junit(verification: Record) -> str:
    """One suite a column, one case an attack; what failed says so in the words of the verdict."""
    suites = ElementTree.Element("testsuites", name="sctool verify")
    failed = 0
    for column in verification["columns"]:
        suite = ElementTree.SubElement(suites, "testsuite", name=column["name"])
        own = [text for text in verification["failures"] if text.startswith(f"{column['name']}: ")]
        for attack in column["attacks"]:
            case = ElementTree.SubElement(suite, "testcase", classname=column["name"], name=attack["attack"])
            for text in own:
                if f" of {attack['attack']} is " in text:
                    ElementTree.SubElement(case, "failure", message=text)
            ElementTree.SubElement(case, "system-out").text = _say(attack)
        if column["regressions"]:
            case = ElementTree.SubElement(suite, "testcase", classname=column["name"], name="baseline")
            for text in column["regressions"]:
                ElementTree.SubElement(case, "failure", message=text)
        cases = suite.findall("testcase")
        count = sum(case.find("failure") is not None for case in cases)
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(count))
        failed += count
    suite = ElementTree.SubElement(suites, "testsuite", name="files")
    case = ElementTree.SubElement(suite, "testcase", classname="files", name="carries no training record")
    for text in verification["failures"]:
        if " training record" in text:
            ElementTree.SubElement(case, "failure", message=text)
    carried = int(case.find("failure") is not None)
    suite.set("tests", "1")
    suite.set("failures", str(carried))
    failed += carried
    suites.set("tests", str(len(suites.findall("testsuite/testcase"))))
    suites.set("failures", str(failed))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _say(attack: Record) -> str:
    tpr = attack["tpr_at_fpr"]["0.01"]
    parts = [
        f"{name} {figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"
        for name, figure in (
            ("AUC", attack["auc"]), ("balanced accuracy", attack["balanced_accuracy"]), ("TPR at 1 % FPR", tpr)
        )
        if figure is not None
    ]  # fmt: skip
    return "; ".join(parts)
