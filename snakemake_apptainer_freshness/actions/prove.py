"""The deep proof: is what is in an image file what the layers of a digest amount to?

For an image that no record and no label binds, pulled by a tag long ago perhaps, or copied from somewhere. Nothing is
pulled, nothing is extracted; memory goes with the number of files, never with their size.

1. **What the digest names**: the manifest, hashed against the pin (through the index, choosing the platform as
   Apptainer does), its configuration and layers, hashed against the manifest. They come from Apptainer's blob cache
   where they are there and are what their names say, else from the registry.
2. **What the file holds**: its file system, read from the very file that is hashed.
3. **What Apptainer adds** to every image, which the Apptainer of this machine is asked for.

If nothing differs but what Apptainer is known to change (:mod:`.apptainer.compare`), the image is `verified`: that is
kept of its hash, and from then on it is like one that we pulled, wherever it lies. If anything differs it is `stale`,
and that is kept of its hash: a label that would make it `bound` is not believed again. Where that cannot be said (a
layer that cannot be read for certain, an index that is not there, scripts of another Apptainer than this one) it is
`unbound`: never verified, and not accused either.

Beside its file system a SIF can hold what changes it when it runs: an overlay, another launch script. Such a file is
not what Apptainer pulls, whatever is in its file system.
"""

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource, configuration, image_manifest, merged
from snakemake_apptainer_freshness.actions.sandboxes import keep_place
from snakemake_apptainer_freshness.apptainer import base_files, sandbox, sif, squashfs
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.apptainer.compare import TreeDifference, differences
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.apptainer.sif import Sif
from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    opened,
    sha256_of,
    writable_by_all,
)
from snakemake_apptainer_freshness.errors import CorruptImage, LocalIOError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import TREE
from snakemake_apptainer_freshness.store import facts, index, places, state
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.places import PlaceFact

PROVEN: Final = ProvenBy.COMPARED.text
_LONGEST_REASON: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparison of one image says: `state` is `verified`, `stale`, `unbound`, `corrupt` or `absent`.

    `differences` are the first ones, a line each; `detail` says in one line how it is known, or why it is not.
    `files` and `bytes` are how many of the image's files, and of their bytes, were compared; `sha256` is that of a file
    that is proven.
    """

    state: DiskState
    path: str
    detail: str
    differences: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    sha256: str = ""

    @property
    def fact(self) -> DiskFact:
        """The same in the words that every check uses."""
        known = FileHash(sha256=self.sha256) if self.sha256 else None
        return DiskFact(state=self.state, path=self.path, detail=self.detail, known=known)


def prove(
    pin: Pin,
    image: Path,
    *,
    registry: BlobSource | None,
    environment: Mapping[str, str] | None = None,
    remember: bool = True,
    stop: threading.Event | None = None,
) -> Proof:
    """Return whether the file `image` is what `pin` names, by comparing all that is in it.

    `registry` is asked for what is not in Apptainer's cache; None asks no registry. `environment` is Apptainer's
    (default: this process's). `remember` keeps what was found of an image that is proven or refuted. `stop` ends it.

    Raises
    ------
    RegistryError
        where the registry is needed and cannot be asked.
    MissingProgram, PullFailed, LocalIOError
        where apptainer cannot be used, or what was found cannot be kept.
    InterruptedError
        where `stop` was set.
    """
    environment = os.environ if environment is None else environment
    comparison = _Comparison(pin=pin, image=image, registry=registry, environment=environment, stop=stop)
    try:
        if stat.S_ISDIR(image.lstat().st_mode) and sandbox.is_sandbox(image):
            return comparison.of_sandbox(remember=remember)
        with opened(image) as file:
            return comparison.of(file, remember=remember)
    except FileNotFoundError:
        return Proof(state=DiskState.ABSENT, path=str(image), detail="no such file")
    except NotAFile as error:
        return Proof(state=DiskState.CORRUPT, path=str(image), detail=f"not a file but {error}")
    except CorruptImage as error:
        return Proof(state=DiskState.CORRUPT, path=str(image), detail=error.message)
    except NotComparable as reason:
        return Proof(state=DiskState.UNBOUND, path=str(image), detail=f"it cannot be compared: {reason}")
    except InterruptedError:
        raise
    except OSError as error:
        raise LocalIOError(f"cannot compare {image} with its layers: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What a pin names: the manifest, the tree of its layers, and what the `program` inserts into it."""

    manifest: Digest
    layers: Node
    own: Node
    program: Apptainer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    pin: Pin
    image: Path
    registry: BlobSource | None
    environment: Mapping[str, str]
    stop: threading.Event | None

    def of(self, file: BinaryIO, *, remember: bool) -> Proof:
        status = os.fstat(file.fileno())
        content = sif.read(file)
        if writable_by_all(status.st_mode):
            raise NotComparable(f"every user may write it (mode {status.st_mode & 0o7777:04o})")
        if self.pin.pinned.scheme is not Scheme.DOCKER:
            raise NotComparable(f"no layers are known of {self.pin.pinned.scheme}:// images")
        before = StatKey.of(status)
        if strange := content.unlike_a_pull:
            detail = f"no pull makes such a file: {strange}"
            proof = Proof(state=DiskState.STALE, path=str(self.image), detail=detail, differences=(strange,))
            self._finish(file, before, content, None, refuted=detail, remember=remember)
            return proof
        if content.partition is None or content.partition.filesystem != sif.SQUASHFS:
            raise NotComparable("its file system is encrypted, or no squashfs")
        named = self._named()
        tree = squashfs.read(file, content.partition.offset, content.partition.size)
        proof = self._judged(named, tree, content.builder)
        digest = named.manifest
        if proof.state is DiskState.VERIFIED:
            return replace(proof, sha256=self._finish(file, before, content, digest, remember=remember))
        if proof.state is DiskState.STALE:
            self._finish(file, before, content, digest, refuted=proof.detail, remember=remember)
        return proof

    def of_sandbox(self, *, remember: bool) -> Proof:
        """Return what the comparison of a sandbox folder says."""
        if self.pin.pinned.scheme is not Scheme.DOCKER:
            raise NotComparable(f"no layers are known of {self.pin.pinned.scheme}:// images")
        named = self._named()
        builder = sif.builder_of(sandbox.labels(self.image))
        read = sandbox.read(self.image, stop=self.stop)
        proof = replace(self._judged(named, read.tree, builder), sha256=read.sha256)
        if remember and proof.state in (DiskState.VERIFIED, DiskState.STALE):
            refuted = proof.detail if proof.state is DiskState.STALE else ""
            fact = self._fact(read.sha256, read.survey.size, named.manifest, builder, refuted=refuted)
            try:
                facts.keep(fact)
            except OSError as error:
                raise state.cannot_write(error) from error
            if proof.state is DiskState.VERIFIED:
                keep_place(self.image, fact, read.survey)
        return proof

    def _named(self) -> "_Named":
        """Return what the pin names: the tree of its layers, and what Apptainer inserts."""
        blobs = Blobs(pin=self.pin, registry=self.registry, cache=CacheFolder.of(self.environment), stop=self.stop)
        digest, content = image_manifest(self.pin, blobs)
        wanted = merged(content, blobs)
        program = Apptainer.find(self.environment)
        own = base_files.read(configuration(content, blobs), program)
        return _Named(manifest=digest, layers=wanted, own=own, program=program)

    def _judged(self, named: "_Named", tree: Node, builder: str) -> Proof:
        differences = list(islice(_sorted(named.layers, named.own, tree), TREE.entries))
        program = named.program
        nodes = [node for _, node in tree.walk()]
        compared = Proof(
            state=DiskState.VERIFIED,
            path=str(self.image),
            detail=f"its {len(nodes)} files are those of the layers that {self.pin.digest.short} names",
            files=len(nodes),
            bytes=sum(node.size for node in nodes),
        )
        shown = tuple(str(difference) for difference in differences[: TREE.shown])
        if not differences:
            return compared
        if all(difference.of_apptainer for difference in differences) and builder != program.version:
            detail = (
                f"only what Apptainer inserts differs; it was built by {builder or 'an unknown program'}, "
                f"and {program.version} cannot say what that inserts"
            )
            return replace(compared, state=DiskState.UNBOUND, detail=detail, differences=shown)
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        detail = f"it is not what {self.pin.digest.short} names: {shown[0]}{more}"
        return replace(compared, state=DiskState.STALE, detail=detail, differences=shown)

    def _finish(
        self,
        file: BinaryIO,
        before: StatKey,
        content: Sif,
        manifest: Digest | None,
        *,
        refuted: str = "",
        remember: bool,
    ) -> str:
        """Return the hash of the file, which is still the one that was compared, and its record."""
        sha256 = sha256_of(file)
        if not before.same_file(StatKey.of(os.fstat(file.fileno()))):
            raise NotComparable("it changes while it is read")
        if not remember:
            return sha256
        fact = self._fact(sha256, before.size, manifest, content.builder, refuted=refuted)
        try:
            self._keep(fact)
        except OSError as error:
            raise state.cannot_write(error) from error
        return sha256

    def _fact(self, sha256: str, size: int, manifest: Digest | None, builder: str, *, refuted: str) -> ContentFact:
        return ContentFact(
            sha256=sha256,
            size=size,
            digest=self.pin.digest,
            platform=self.pin.platform,
            manifest=manifest,
            pinned=self.pin.url,
            reference=self.pin.reference.text,
            proven_by=ProvenBy.COMPARED,
            proven_at=facts.now(),
            apptainer=builder,
            refuted=refuted[:_LONGEST_REASON],
        )

    def _keep(self, fact: ContentFact) -> None:
        facts.keep(fact)
        if fact.refuted:
            index.forget_all()
        else:
            places.keep(self.image, PlaceFact.of(fact))


def _sorted(wanted: Node, own: Node, tree: Node) -> Iterator[TreeDifference]:
    """Yield all differences, those that are about the layers first."""
    about_apptainer = []
    for difference in differences(wanted, own, tree):
        if difference.of_apptainer:
            about_apptainer.append(difference)
        else:
            yield difference
    yield from about_apptainer
