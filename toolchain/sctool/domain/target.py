"""A device target: what an artifact is built for, what it may cost there, and published figures with their source."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sctool.domain.work import Work
from sctool.errors import ConfigError
from sctool.resources import find_resource, suggest

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]
Runtime = Literal["onnxruntime", "executorch"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cluster(_Record):
    """Cores of one kind; what is not known stays None."""

    name: Name
    cores: Count
    clock_ghz: Positive | None = None
    microarchitecture: Name | None = None
    simd: Name | None = None
    dot_product: bool | None = None
    fp16: bool | None = None


class Cache(_Record):
    """One cache of a level: its size, for each core of `cluster`, or for all of them where it is `shared`."""

    level: Annotated[int, Field(ge=1, le=4)]
    size_kib: Positive
    cluster: Name | None = None
    shared: bool = False


class Budget(_Record):
    """Upper limits; None is no limit. The attack limits are the gates of `verify`, the others those of `profile`."""

    latency_p95_ms: Positive | None = None
    peak_memory_mib: Positive | None = None
    size_mib: Positive | None = None
    max_attack_accuracy: Share | None = None
    max_auc: Share | None = None


class Anchor(_Record):
    """A published or measured latency on this very device, batch 1, of a well-known model or one whose `work` is given."""

    model: Name
    runtime: Name | None = None
    precision: Literal["fp32", "fp16", "int8"]
    threads: Count
    latency_ms: Positive
    source: Annotated[str, Field(min_length=10)]
    work: Work | None = None


class Target(_Record):
    """A device, a class of devices, or this machine. `emulate`: the processor that QEMU plays for it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    kind: Literal["device", "class", "host"]
    platform: Literal["android", "ios", "linux", "macos", "windows", "any"]
    abi: Literal["arm64-v8a", "armeabi-v7a", "arm64", "aarch64", "x86_64", "native"]
    runtime: Annotated[tuple[Runtime, ...], Field(min_length=1)]
    description: str = ""
    delegate: Literal["none", "cpu", "xnnpack", "sparse"] = "cpu"
    threads: Count = 1
    emulate: Name | None = None
    soc: Name | None = None
    facts_source: Name | None = None
    clusters: tuple[Cluster, ...] = ()
    caches: tuple[Cache, ...] = ()
    memory_bandwidth_gbps: Positive | None = None
    budget: Budget = Budget()
    anchors: tuple[Anchor, ...] = ()


def load_target(name: str) -> Target:
    """The target called `name` (or the TOML file at that path).

    Raises ConfigError where there is none or where the file is not a valid target.
    """
    return read_target(find_resource("targets", name))


def read_target(path: Path) -> Target:
    """The target in the TOML file `path`.

    Raises ConfigError, in one line that names the file, the key and, for an unknown key, the nearest valid one.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path}: {error.strerror or error}.", hint="Name a readable TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not valid TOML: {reason}.", hint="See targets/README.md.") from error
    try:
        target = Target.model_validate(record)
    except ValidationError as error:
        raise _explain(path, error) from error
    if target.name != path.stem:
        raise ConfigError(
            f"{path}: name is {target.name!r}, the file {path.stem!r}.",
            hint="Give both the same name: a target is found by its file.",
        )
    return target


def _explain(path: Path, error: ValidationError) -> ConfigError:
    """The first finding, unknown keys before the missing keys that a misspelling causes."""
    findings = sorted(error.errors(include_url=False), key=lambda finding: finding["type"] != "extra_forbidden")
    first = findings[0]
    location = first["loc"]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: unknown key {key!r}.", hint=suggest(str(location[-1]), _valid_keys(location[:-1])))
    if first["type"] == "missing":
        return ConfigError(f"{path}: key {key!r} is missing.", hint="See targets/README.md.")
    found = repr(first["input"])
    found = found if len(found) <= 60 else f"{found[:57]}..."
    hint = "See targets/README.md."
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        hint = suggest(first["input"], _expected(first["ctx"]["expected"]))
    return ConfigError(f"{path}: {key} = {found}: {first['msg'][:1].lower()}{first['msg'][1:]}.", hint=hint)


def _expected(text: str) -> list[str]:
    """The values in pydantic's "'a', 'b' or 'c'"."""
    return [part for index, part in enumerate(text.split("'")) if index % 2]


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at `location` of a target file."""
    model: type[BaseModel] = Target
    for part in location:
        if isinstance(part, int):
            continue
        found = _model_in(model.model_fields[part].annotation)
        if found is None:
            break
        model = found
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
