"""sbom.cdx.json: the bundle's parts, the data and the programs that made it, as CycloneDX 1.6."""

from __future__ import annotations

import uuid
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from sctool.atomic import write_file
from sctool.export.manifest import FileEntry, Manifest

FILE = "sbom.cdx.json"
_NAMESPACE = uuid.UUID("6f1c6b0e-6a3e-5d0c-9a4b-8f6f2f6d3c11")
_RUNTIMES = {"onnxruntime", "executorch"}


def write_sbom(bundle: Path, manifest: Manifest) -> None:
    """Write the bill of materials into `bundle`. No time and no chance in it: same manifest, same bytes."""
    write_file(bundle / FILE, render_sbom(manifest))


def render_sbom(manifest: Manifest) -> str:
    """CycloneDX JSON of what ships (`manifest.files`) and of what made it (`manifest.tool_versions`)."""
    model = Component(
        name=f"{manifest.data.get('source')}-{manifest.target}", type=ComponentType.MACHINE_LEARNING_MODEL,
        version=manifest.run_sha256[:16], bom_ref="model", properties=[
            Property(name="sctool:density", value=f"{manifest.density:.6f}"),
            Property(name="sctool:run_sha256", value=manifest.run_sha256),
        ],
    )  # fmt: skip
    libraries = {name: _library(name, version) for name, version in sorted(manifest.tool_versions.items())}
    sctool = libraries.pop("sctool", None)
    metadata = BomMetaData(component=model, tools=ToolRepository(components=[sctool] if sctool else []))
    metadata.timestamp = None  # type: ignore[assignment]  # the field is optional, and a time would change the bytes
    files = [_file(name, entry) for name, entry in sorted(manifest.files.items())]
    data = Component(
        name=str(manifest.data.get("source")), type=ComponentType.DATA, bom_ref="data",
        description=f"{manifest.data.get('records')} records; trained on the part `train` of split "
        f"{manifest.split.get('sha256')}",
    )  # fmt: skip
    bom = Bom(components=[*files, data, *libraries.values()], serial_number=_serial(manifest), metadata=metadata)
    bom.register_dependency(model, [*files, data, *libraries.values()])
    for component, (name, entry) in zip(files, sorted(manifest.files.items()), strict=True):
        runtime = libraries.get(entry.runtime.partition("+")[0])
        if runtime is not None and name:
            bom.register_dependency(component, [runtime])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _serial(manifest: Manifest) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, "".join(f"{n}:{entry.sha256};" for n, entry in sorted(manifest.files.items())))


def _library(name: str, version: str) -> Component:
    return Component(
        name=name, version=version, bom_ref=f"pypi:{name}", purl=PackageURL("pypi", name=name, version=version),
        properties=[Property(name="sctool:role", value="runtime" if name in _RUNTIMES else "build")],
    )  # fmt: skip


def _file(name: str, entry: FileEntry) -> Component:
    return Component(
        name=name, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=[HashType(alg=HashAlgorithm.SHA_256,
                                                                                    content=entry.sha256)],
        properties=[
            Property(name=f"sctool:{key}", value=str(value))
            for key, value in (("precision", entry.precision), ("codec", entry.codec), ("stores", entry.stores),
                               ("computes", entry.computes), ("size_bytes", entry.size_bytes))
        ],
    )  # fmt: skip
