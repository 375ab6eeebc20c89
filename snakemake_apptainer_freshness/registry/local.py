"""Images on this machine: SIF files, sandbox folders, archives and layouts; and sources without any digest.

A SIF file and an archive are pinned by the hash of the whole file, an OCI layout by the digest of the manifest in it,
an ``ipfs://`` address by itself: it is a hash already. A sandbox folder, ``docker-daemon:`` and ``shub://`` cannot be
pinned. A rule that names a file keeps naming it; the lock says what it must contain.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidReference, LocalIOError, Unpinnable, Unpullable
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, docker_meant
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import Limits

_MEDIA_TYPES: Final[Mapping[Scheme, str]] = {
    Scheme.FILE: "application/vnd.sylabs.sif.layer.v1.sif",
    Scheme.IPFS: "application/vnd.sylabs.sif.layer.v1.sif",
    Scheme.DOCKER_ARCHIVE: "application/x-tar",
    Scheme.OCI_ARCHIVE: "application/x-tar",
}
_UNPINNABLE: Final[Mapping[Scheme, tuple[str, str]]] = {
    Scheme.SHUB: (
        "Singularity Hub closed in 2021, and its images never had digests",
        "look for the same software at quay.io/biocontainers, or build the image anew",
    ),
    Scheme.DOCKER_DAEMON: (
        "an image of a Docker daemon has no digest that other machines know",
        "push it to a registry and use docker://, or save it as a SIF file",
    ),
}
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHA2_256: Final = b"\x12\x20"  # multihash: code and length
_CID_LENGTHS: Final = range(46, 129)


class FileSource:
    """References of this machine's own files, and of sources that need no asking."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference`.

        Raises
        ------
        Unpinnable
            where the source has no digest.
        LocalIOError
            where the file cannot be read.
        """
        digest, media_type, platforms = self._look(reference)
        return Entry(
            reference=reference,
            digest=digest,
            media_type=media_type,
            platforms=platforms,
        )

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """Return whether what is there now is what the pin says."""
        if reference.scheme is Scheme.IPFS:
            return RemoteFact(state=RemoteState.CURRENT, digest=entry.digest)
        try:
            digest, _, platforms = self._look(reference)
        except LocalIOError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return RemoteFact(state=RemoteState.LOST, detail=error.message)
            raise  # a file that cannot be read now may still be there
        state = RemoteState.CURRENT if digest == entry.digest else RemoteState.MOVED
        return RemoteFact(state=state, digest=digest, platforms=platforms)

    def _look(self, reference: Reference) -> tuple[Digest, str, Mapping[Platform, Digest]]:
        if reference.scheme in _UNPINNABLE:
            why, hint = _UNPINNABLE[reference.scheme]
            raise Unpinnable(f"{reference.text} cannot be pinned: {why}", hint=hint)
        if reference.scheme is Scheme.IPFS:
            return cid_digest(reference), _MEDIA_TYPES[Scheme.IPFS], {}
        if reference.scheme is Scheme.OCI:
            return self._look_at_layout(reference)
        text = reference.path if reference.scheme is Scheme.FILE else reference.path.partition(":")[0]
        path = Path(text).expanduser()
        if path.is_dir():
            raise Unpinnable(
                f"{reference.text} cannot be pinned: it is a folder (a sandbox), which may change at any time",
                hint=f"make a SIF file of it: apptainer build NAME.sif {text}",
            )
        try:
            with path.open("rb") as file:
                digest = Digest(algorithm="sha256", hex=hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise _unreadable(reference, error) from error
        return digest, _MEDIA_TYPES[reference.scheme], {}

    def _look_at_layout(self, reference: Reference) -> tuple[Digest, str, Mapping[Platform, Digest]]:
        """Return the manifest that Apptainer takes from an OCI layout: the one that is named, or the only one."""
        text, _, wanted = reference.path.partition("@")
        folder = Path(text).expanduser()
        index = manifest.parse(self._read(reference, folder / "index.json"), None)
        entries = index.entries if isinstance(index, Index) else ()
        chosen = [entry for entry in entries if not wanted or str(entry.digest) == wanted]
        if len(chosen) != 1:
            raise Unpullable(
                f"{reference.text}: the layout has {len(entries)} images, and this names {len(chosen)} of them",
                hint="write oci:FOLDER@sha256:…",
            )
        digest = chosen[0].digest
        body = self._read(reference, folder / "blobs" / digest.algorithm / digest.hex)
        if not digest.matches(body):
            raise Unpullable(f"{reference.text}: the manifest in the layout is damaged: it is not {digest}")
        parsed = manifest.parse(body, chosen[0].media_type)
        platforms = manifest.platforms(parsed) if isinstance(parsed, Index) else {}
        return digest, parsed.media_type, platforms

    def _read(self, reference: Reference, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                content = file.read(self._limits.manifest_size + 1)
        except OSError as error:
            raise _unreadable(reference, error) from error
        if len(content) > self._limits.manifest_size:
            raise Unpullable(f"{reference.text}: {path.name} is larger than {self._limits.manifest_size} bytes")
        return content


def cid_digest(reference: Reference) -> Digest:
    """Return the hash that an ``ipfs://`` address is (multiformats: CID version 0 and 1, SHA-256).

    Raises
    ------
    InvalidReference
        where it is no such address.
    """
    text = reference.path.partition("/")[0]
    try:
        raw = _decode_cid(text) if len(text) in _CID_LENGTHS else b""
    except (ValueError, OverflowError):
        raw = b""
    # Version 0 is the bare hash; version 1 has its version and the type of the content in front.
    _, separator, digest = raw.partition(_SHA2_256)
    if not separator or len(digest) != hashlib.sha256().digest_size:
        raise InvalidReference(f"{reference.text} is not an IPFS address with a SHA-256 in it")
    return Digest(algorithm="sha256", hex=digest.hex())


def _decode_cid(text: str) -> bytes:
    if text.startswith("Qm"):
        number = 0
        for character in text:
            number = number * 58 + _BASE58.index(character)
        return number.to_bytes(34, "big")
    if text.startswith("b"):
        body = text[1:].upper()
        return base64.b32decode(body + "=" * (-len(body) % 8))
    return b""


def _unreadable(reference: Reference, error: OSError) -> LocalIOError:
    meant = docker_meant(reference.text) if isinstance(error, FileNotFoundError) else ""
    hint = f"did you mean {meant}?" if meant else "check the path"
    return LocalIOError(f"{reference.text} cannot be read: {error.strerror or error}", hint=hint)
