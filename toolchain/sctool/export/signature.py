"""A bundle's signature: minisign's (ed25519 over BLAKE2b), of manifest.json, whose hashes cover all files but the card.

`minisign -Vm manifest.json -p KEY.pub` checks it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minisign import Error as MinisignError
from minisign import PublicKey, SecretKey, Signature

from sctool.atomic import write_file
from sctool.errors import ArtifactError, ConfigError
from sctool.export.manifest import FILE as MANIFEST
from sctool.export.manifest import Manifest

FILE = f"{MANIFEST}.minisig"
MAX_KEY_BYTES = 4096
MAX_SIGNATURE_BYTES = 16384


@dataclass(frozen=True)
class SigningKey:
    """A secret key of minisign's, ready to sign."""

    secret: SecretKey = field(repr=False)

    def sign(self, bundle: Path, manifest: Manifest) -> None:
        """Write the signature beside BUNDLE/manifest.json: the same key and manifest, the same bytes."""
        comment = f"sctool bundle for {manifest.target}, run {manifest.run_sha256[:16]}"
        signature = self.secret.sign((bundle / MANIFEST).read_bytes(), trusted_comment=comment)
        write_file(bundle / FILE, bytes(signature))


def read_signing_key(path: Path, ask_password: Callable[[], str]) -> SigningKey:
    """The secret key at `path`; `ask_password` is called where it is encrypted. ConfigError where it is not usable."""
    try:
        secret = SecretKey.from_bytes(_read(path, MAX_KEY_BYTES))
        if secret.is_encrypted():
            secret.decrypt(ask_password())
    except OSError as error:
        raise ConfigError(f"Cannot read the key {path}: {error.strerror}.", hint="`minisign -G` makes one.") from error
    except MinisignError as error:
        raise ConfigError(
            f"{path} is no secret key, or its password is wrong: {error}.",
            hint="Give minisign's secret key; the password comes from SCTOOL_KEY_PASSWORD or the terminal.",
        ) from error
    return SigningKey(secret)


def check_signature(bundle: Path, public_key: Path) -> str:
    """The trusted comment of a bundle's signature. ArtifactError where it is missing or not of this key, ConfigError where
    `public_key` is none."""
    try:
        key = PublicKey.from_bytes(_read(public_key, MAX_KEY_BYTES).strip())
    except OSError as error:
        raise ConfigError(
            f"Cannot read the key {public_key}: {error.strerror}.", hint="Give minisign's public key (.pub)."
        ) from error
    except MinisignError as error:
        raise ConfigError(f"{public_key} is no public key: {error}.", hint="Give minisign's (.pub).") from error
    refused = "Do not use this bundle, or verify it without --signed-by."
    try:
        signature = Signature.from_bytes(_read(bundle / FILE, MAX_SIGNATURE_BYTES))
        key.verify((bundle / MANIFEST).read_bytes(), signature)
    except OSError as error:
        raise ArtifactError(f"{bundle} is not signed: {FILE}: {error.strerror}.", hint=refused) from error
    except (MinisignError, UnicodeError) as error:
        raise ArtifactError(f"{bundle / FILE} is not the signature of {public_key}: {error}.", hint=refused) from error
    return str(signature.trusted_comment)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise MinisignError(f"it has more than {limit} bytes")
    return content
