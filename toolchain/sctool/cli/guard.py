"""Exception -> one line on stderr and a documented exit code."""

from __future__ import annotations

import functools
import json
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from sctool.errors import SctoolError

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED, TERMINATED, INTERNAL = 130, 143, 1
STOPPED = "Stopped; no half-written output was left. `compress`, `run` and `profile` go on from there with --resume."


class _Terminated(BaseException):
    """SIGTERM came."""


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Run a command; print its errors as one line (with --debug: the traceback too) and exit with their code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _terminate)
        debug, as_json = bool(kwargs.get("debug")), bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except SctoolError as error:
            one_more = as_json and not error.reported
            _fail(type(error).__name__, str(error), error.exit_code, debug=debug, as_json=one_more)
        except KeyboardInterrupt:
            _fail("Interrupted", STOPPED, INTERRUPTED, debug=debug, as_json=as_json)
        except _Terminated:
            _fail("Terminated", STOPPED, TERMINATED, debug=debug, as_json=as_json)
        except BrokenPipeError:
            raise SystemExit(INTERNAL) from None
        except MemoryError:
            _fail(
                "MemoryError",
                "Out of memory. Lower compress.batch_size or the model's size.",
                INTERNAL,
                debug=debug,
                as_json=as_json,
            )
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            message = f"Internal error: {text}. Run again with --debug and report it."
            _fail("InternalError", message, INTERNAL, debug=debug, as_json=as_json)

    return run


def _fail(kind: str, message: str, code: int, *, debug: bool, as_json: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    if as_json:
        sys.stdout.write(json.dumps({"error": {"kind": kind, "message": message, "exit_code": code}}) + "\n")
    raise SystemExit(code)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise _Terminated
