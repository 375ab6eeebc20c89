"""Apptainer's and SingularityCE's caches: where they are, what a pull would reuse, what in them can be proven.

**A cache key does not bind content.** The key of an image comes from one request to the registry, the image from
another, and Apptainer never checks a cached file again. So of ``oci-tmp/`` and ``net/`` nothing is believed but what we
have recorded ourselves; ``oras/``, ``library/`` and ``blob/`` name files by their hash, which can be checked without
any network.

Keys, by version (``internal/pkg/client/oci``, ``internal/pkg/build/oci`` and ``internal/pkg/ociimage``; D is the hex
of what the reference points at, P that of the platform's manifest, H() the hex SHA-256 of a text):

=================  =================================================================
Apptainer 1.0-1.1  ``oci-tmp/D``
Apptainer 1.2-1.3  ``oci-tmp/H(D+arch+variant)``; ``exec`` and ``run`` also ``H(D)``
Apptainer 1.4-     ``oci-tmp/H(D+arch+variant)``
SingularityCE 3.8  ``oci-tmp/D``; 3.10: ``oci-tmp/sha256.D``
SingularityCE 4    ``oci-tmp/sha256:P``, in OCI mode ``oci-sif/sha256:P``
=================  =================================================================

A host folder such as ``arm64v8/`` in the reference replaces the architecture. Since all of these can lie in one
folder, :func:`keys` gives every name under which a digest could be found; a name too many costs a ``stat``.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.environment import is_on
from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small, sha256_of
from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.scheme import CacheKey
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import LIMITS

OCI: Final = "oci-tmp"
OCI_SIF: Final = "oci-sif"
ORAS: Final = "oras"
LIBRARY: Final = "library"
NET: Final = "net"
SHUB: Final = "shub"
BLOB: Final = "blob"
FOLDERS: Final = (OCI, OCI_SIF, ORAS, LIBRARY, NET, SHUB)
"""The folders that hold one SIF a file."""

_ARCHITECTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "arm64": ("arm64", "arm64v8"),
    "arm": ("arm", "armv5", "armv6", "armv7", "arm32v5", "arm32v6", "arm32v7"),
}
_IN_PATH: Final = ("amd64", "arm64v8", "arm32v5", "arm32v6", "arm32v7", "386", "ppc64le", "s390x", "riscv64")
_PATH_ARCHITECTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "arm64v8": ("arm64v8", "arm64"),
    "arm32v5": ("arm32v5", "armv5"),
    "arm32v6": ("arm32v6", "armv6"),
    "arm32v7": ("arm32v7", "armv7"),
}
_HASH_NAME: Final = re.compile(r"(?:sha256[.:])?([0-9a-f]{64})", re.ASCII)
TEMPORARY: Final = "tmp_"


def keys(pin: Pin) -> tuple[str, ...]:
    """Return every name, with its folder, under which any version could have put what `pin` names on its platform."""
    return KEYS[pin.pinned.scheme.rules.cache_key](pin)


def _library_keys(pin: Pin) -> tuple[str, ...]:
    return () if pin.content is None else (f"{LIBRARY}/sha256.{pin.content.hex}",)


def _docker_keys(pin: Pin) -> tuple[str, ...]:
    named = pin.digest.hex
    hashed = [named, *(named + architecture for architecture in _key_architectures(pin))]
    names = [named, f"sha256.{named}", *(hashlib.sha256(text.encode()).hexdigest() for text in hashed)]
    entries = [f"{OCI}/{name}" for name in names]
    for digest in (pin.digest, pin.manifest):
        if digest is not None:
            entries += [f"{OCI}/sha256:{digest.hex}", f"{OCI_SIF}/sha256:{digest.hex}"]
    return tuple(dict.fromkeys(entries))


KEYS: Final[dict[CacheKey, Callable[[Pin], tuple[str, ...]]]] = {
    CacheKey.OCI: _docker_keys,
    CacheKey.LIBRARY: _library_keys,
    CacheKey.UNKNOWN: lambda _: (),
}


def _key_architectures(pin: Pin) -> tuple[str, ...]:
    architecture = pin.platform.architecture
    here = (*_ARCHITECTURES.get(architecture, (architecture,)), architecture + pin.platform.variant)
    if (replaced := path_architecture(pin.url)) is not None:
        return (*_PATH_ARCHITECTURES.get(replaced, (replaced,)), *here)
    return here


def path_architecture(url: str) -> str | None:
    """Return the architecture that the path of `url` names, which Apptainer then takes instead of the machine's."""
    parts = url.partition("://")[2].split("/")
    first = parts[1] if "." in parts[0] and len(parts) > 1 else parts[0]
    return first if first in _IN_PATH else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A temporary file of a pull that was killed; `age` in seconds."""

    path: Path
    size: int
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFolder:
    """One cache; `root` is the folder ``cache``, which need not be there."""

    root: Path

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None, *, family: str = "apptainer") -> Self | None:
        """Return the cache that a program of `family` would use; None where the environment turns it off."""
        environment = os.environ if environment is None else environment
        prefixes = ("SINGULARITY",) if family == "singularity" else ("APPTAINER", "SINGULARITY")

        def first(name: str) -> str:
            return next((value for p in prefixes if (value := environment.get(f"{p}_{name}", ""))), "")

        if is_on(environment, *(f"{prefix}_DISABLE_CACHE" for prefix in prefixes)):
            return None
        own = prefixes[0]
        parent = first("CACHEDIR") or environment.get(f"{own}_CONFIGDIR", "")
        if not parent:
            home = environment.get("HOME") or str(Path.home())
            parent = f"{home}/.{own.lower()}"
        return cls(root=Path(parent).absolute() / "cache")

    def candidates(self, pin: Pin) -> Iterator[Path]:
        """Yield where a pull of `pin` could find something to reuse; only what is there."""
        for key in keys(pin):
            path = self.root / key
            if os.path.lexists(path):
                yield path

    @property
    def usable(self) -> bool:
        """Whether this cache is ours to write, or can be made."""
        folder = self.root / OCI
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        try:
            mine = folder.stat().st_uid == os.geteuid() or folder not in (self.root / OCI, self.root)
        except OSError:
            return False
        return mine and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)

    def entries(self) -> Iterator[Path]:
        """Yield every image in the cache, sorted; neither temporary files nor ours."""
        for folder in FOLDERS:
            yield from (path for path in _listed(self.root / folder) if is_entry(path.name))

    def leftovers(self, *, now: float | None = None) -> Iterator[Leftover]:
        """Yield every temporary file, sorted; the younger ones may belong to a pull that is under way."""
        now = time.time() if now is None else now
        for folder in FOLDERS:
            for path in _listed(self.root / folder):
                if path.name.startswith(TEMPORARY):
                    status = path.lstat()
                    yield Leftover(path=path, size=status.st_size, age=now - status.st_mtime)

    def blob(self, digest: Digest) -> Path:
        """Return where the blob `digest` of a registry lies, if it is there."""
        return self.root / BLOB / "blobs" / digest.algorithm / digest.hex

    def damaged_blobs(self, manifest: Digest) -> list[Path] | None:
        """Return the blobs of the image `manifest` that are not what their names say; None where they are not known.

        Apptainer reuses a blob that has the right size without looking into it (1.4.5). This is how a build from the
        cache is proven: all that it was built from is here, and is what the manifest names.
        """
        described = self._manifest(manifest)
        if described is None:
            return None
        damaged = []
        for digest in described:
            path = self.blob(digest)
            try:
                with opened(path) as file:
                    sound = sha256_of(file) == digest.hex if digest.algorithm == "sha256" else False
            except (OSError, NotAFile):
                sound = False
            if not sound:
                damaged.append(path)
        return damaged

    def _manifest(self, manifest: Digest) -> list[Digest] | None:
        """Return what a stored manifest names; None where it is not here, or not what its name says."""
        try:
            content = read_small(self.blob(manifest), LIMITS.manifest_size)
            document = json.loads(content)
            descriptors = [document["config"], *document["layers"]]
            digests = [Digest.parse(descriptor["digest"]) for descriptor in descriptors]
        except (OSError, NotAFile, ValueError, LookupError, TypeError, RecursionError, InvalidDigest):
            return None
        return digests if manifest.matches(content) else None


def is_entry(name: str) -> bool:
    """Return whether the file `name` in a cache's folder is an image, and not a temporary file or one of ours."""
    return _HASH_NAME.fullmatch(name) is not None


def named_hash(path: Path) -> str | None:
    """Return the SHA-256 that the entry at `path` must have, where its name says that (``oras/``, ``library/``)."""
    match = _HASH_NAME.fullmatch(path.name)
    return match[1] if match and path.parent.name in (ORAS, LIBRARY) else None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
