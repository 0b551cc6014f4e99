"""The error tree; each class carries the exit code that the command line returns for it.

SctoolError (1)
├── ConfigError (3)            a setting, a path or an option is wrong
├── DataError (4)              the data set cannot be used as it is
├── TrainingError (5)          training went wrong (NaN loss, model that cannot run)
├── ExportError (6)            a model could not be exported, or lost parity with eager PyTorch
├── VerificationFailed (7)     the exported artifact leaks more than a gate allows
├── ArtifactError (8)          a run, bundle or artifact is missing, damaged or does not match its hash
├── BudgetExceeded (9)         latency, memory or size is over the target's budget
├── DeviceError (10)           a device is missing or misbehaved
├── NativeRuntimeMissing (11)  a runtime or compiler that the command needs is not installed
└── OutputError (12)           the output exists already or cannot be written

Usage errors of the command line itself exit with 2, Ctrl-C with 130.
"""

from __future__ import annotations


class SctoolError(Exception):
    """What was found, what was expected, and the next step, in one line.

    `reported`: the command's result, printed before, says it already; with --json it stays the only object.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, reported: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reported = reported

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigError(SctoolError):
    exit_code = 3


class DataError(SctoolError):
    exit_code = 4


class TrainingError(SctoolError):
    exit_code = 5


class ExportError(SctoolError):
    exit_code = 6


class VerificationFailed(SctoolError):
    exit_code = 7


class ArtifactError(SctoolError):
    exit_code = 8


class BudgetExceeded(SctoolError):
    exit_code = 9


class DeviceError(SctoolError):
    exit_code = 10


class NativeRuntimeMissing(SctoolError):
    exit_code = 11


class OutputError(SctoolError):
    exit_code = 12
