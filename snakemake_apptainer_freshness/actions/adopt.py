"""Adopting: proving that outputs which plain Snakemake made are those of the pinned images.

Every output that exists is held to what its rule would run now (:mod:`.provenance`): by what its url, the memory, the
image's record or its label say. Where these do not say it, and that is asked for, the image file that made it is
compared with the layers that the pinned digest names (:mod:`.prove`), once for each image; and of a digest that an
output was made with, the index is asked for what it has for this platform. Layers and manifests come from Apptainer's
cache, else from the registry.

What is proven goes into the project's memory, which a run with the flag goes by. Nothing of Snakemake's is written, and
no image.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.actions.check import look
from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource
from snakemake_apptainer_freshness.actions.lock_claims import proven_manifest
from snakemake_apptainer_freshness.actions.prove import PROVEN, Proof, prove
from snakemake_apptainer_freshness.actions.provenance import (
    Attribution,
    AttributionResult,
    Origins,
    Target,
    hash_of,
    targets_of,
)
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, Workflow
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.files import writable_by_all
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.errors import FreshnessError, RegistryError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Manifest, ManifestKind, choose
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import history as memories

SNAKEMAKE: Final = ".snakemake"


class Standing(StrEnum):
    """How an output relates to the image that its rule runs now."""

    CURRENT = "current"
    """Recorded under the very name that the rule runs."""
    PROVEN = "proven"
    """Recorded under another name, and provably made by the same image."""
    OTHER = "other"
    """Provably made by another image."""
    UNPROVEN = "unproven"
    UNLOCKED = "unlocked"
    """The lock does not say what the rule runs."""
    UNRECORDED = "unrecorded"
    """Snakemake does not know what it was made with, and will not run it again for that."""

    @property
    def stays(self) -> bool:
        """Whether a run with the flag leaves the output alone, as far as its container goes."""
        return self in (Standing.CURRENT, Standing.PROVEN, Standing.UNRECORDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedOutput:
    """One output, and how its `standing` is known; `url` is what its rule runs now, empty where the lock lacks it."""

    output: ExistingOutput
    url: str
    standing: Standing
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """All outputs of a workflow, the project's `memory` with what was proven, and what could not be looked at."""

    outputs: tuple[AdoptedOutput, ...]
    memory: memories.TagHistory
    path: Path
    errors: Mapping[str, FreshnessError] = field(default_factory=dict)
    """By the url that made outputs."""


def adopt(
    workflow: Workflow,
    lock: Lock,
    *,
    deep: Callable[[], BlobSource] | None,
    environment: Mapping[str, str] | None = None,
    remember: bool = True,
) -> Adoption:
    """Return how each output of `workflow` relates to the image that `lock` pins its rule to.

    `deep` gives the registry for what is not in Apptainer's cache, and is called when that is first needed; None
    compares nothing. `remember` lets what is proven be written beside images; the project's memory is the caller's to
    save.
    """
    environment = os.environ if environment is None else environment
    path = memories.path_in(workflow.workdir / SNAKEMAKE)
    memory = memories.load(path)
    origins = Origins(workflow.prefix, memory, remember=remember)
    with ProgressBars() as bars:
        judge = _Judge(workflow=workflow, lock=lock, origins=origins, deep=deep, environment=environment, bars=bars)
        outputs = tuple(judge.of(output) for output in workflow.outputs)
    memory.learn_entries(lock)
    return Adoption(outputs=outputs, memory=memory, path=path, errors=judge.errors)


class _Judge:
    """Judges one output after the other; what is costly is done once for an image."""

    def __init__(
        self,
        *,
        workflow: Workflow,
        lock: Lock,
        origins: Origins,
        deep: Callable[[], BlobSource] | None,
        environment: Mapping[str, str],
        bars: Any,
    ) -> None:
        self._lock = lock
        self._kind = workflow.options.pin
        self._platform = Platform.here()
        self._origins = origins
        self._deep = deep
        self._environment = environment
        self._bars = bars
        self._targets: dict[str, Target] = {}
        self._tried: dict[tuple[str, str], Proof | None] = {}
        self.errors: dict[str, FreshnessError] = {}

    def of(self, output: ExistingOutput) -> AdoptedOutput:
        """Return what `output` is."""
        target = self._target(output.reference)
        if not output.recorded_url:
            if output.started is None:
                return self._answer(output, target, Standing.UNRECORDED, "Snakemake has no record of it")
            return self._answer(output, target, Standing.OTHER, "it was made without a container")
        if target is None:
            if parse(output.reference).scheme.is_provable:
                detail = "lock it first with: apptainer-freshness lock"
                return self._answer(output, None, Standing.UNLOCKED, detail)
            standing = Standing.CURRENT if output.recorded_url == output.reference else Standing.UNPROVEN
            return self._answer(output, None, standing, "such a source has no digest")
        if output.recorded_url == target.url:
            return self._answer(output, target, Standing.CURRENT, "its rule runs it under this name")
        judgement = self._origins.judge(output.recorded_url, output.started, target)
        if judgement.answer is Attribution.UNKNOWN and self._deep is not None:
            judgement = self._deepened(output, target) or judgement
        standing = {
            Attribution.SAME: Standing.PROVEN,
            Attribution.OTHER: Standing.OTHER,
            Attribution.UNKNOWN: Standing.UNPROVEN,
        }[judgement.answer]
        return self._answer(output, target, standing, judgement.detail)

    def _answer(self, output: ExistingOutput, target: Target | None, standing: Standing, detail: str) -> AdoptedOutput:
        return AdoptedOutput(output=output, url=target.url if target else "", standing=standing, detail=detail)

    def _target(self, reference: str) -> Target | None:
        if reference not in self._targets:
            meaning = parse(reference)
            entries = [entry for entry in self._lock if entry.reference == meaning]
            for entry in entries[:1] if self._deep is not None else ():
                with contextlib.suppress(RegistryError):  # what cannot be asked for is not known
                    proven_manifest(entry, self._platform, self._deep)
            for target in targets_of(entries[:1], kind=self._kind, platform=self._platform).values():
                self._targets[reference] = target
        return self._targets.get(reference)

    def _deepened(self, output: ExistingOutput, target: Target) -> AttributionResult | None:
        """Return what looking deeper says; None where it says no more."""
        url = output.recorded_url
        try:
            made = parse(url)
        except FreshnessError:
            return None
        digest = made.digest
        key = url, target.url
        if digest is not None:
            if key not in self._tried:
                self._tried[key] = None
                self._try(url, lambda: self._ask_index(made, digest, target))
            return self._origins.judge(url, output.started, target)
        if output.started is None or (image := self._origins.image_of(url, output.started)) is None:
            return None
        if key not in self._tried:
            self._tried[key] = self._try(url, lambda: self._compare(url, image, target))
        proof = self._tried[key]
        if proof is None:
            error = self.errors.get(url)
            return (
                AttributionResult(answer=Attribution.UNKNOWN, detail=f"it cannot be compared: {error.message}")
                if error
                else None
            )
        if proof.state is DiskState.VERIFIED:
            return self._origins.judge(url, output.started, target)
        answer = Attribution.OTHER if proof.state is DiskState.STALE else Attribution.UNKNOWN
        return AttributionResult(answer=answer, detail=proof.detail)

    def _try(self, url: str, look: Callable[[], Proof | None]) -> Proof | None:
        self._bars.begin(url)
        try:
            return look()
        except FreshnessError as error:
            self.errors[url] = error
            return None
        finally:
            self._bars.end(url)

    def _compare(self, url: str, image: Path, target: Target) -> Proof:
        """Compare the image file with what the rule runs now."""
        pin = target.pins[0]
        if pin.pinned.scheme is Scheme.ORAS:
            proof = self._compare_file(pin, image)
        else:
            proof = prove(pin, image, registry=self._registry(), environment=self._environment, remember=False)
        if proof.state is DiskState.VERIFIED:
            self._origins.learn(url, image, pin, sha256=proof.sha256, proven_by=PROVEN)
        return proof

    def _compare_file(self, pin: Pin, image: Path) -> Proof:
        """Compare the hash of a SIF with that of the one layer of a manifest, which is the file itself."""
        path = str(image)
        document = self._manifest(pin.pinned, pin.digest, pin.platform)
        if document is None or document[1].kind is not ManifestKind.SIF:
            detail = f"the manifest that {pin.digest.short} names is not to be had, or of no SIF"
            return Proof(state=DiskState.UNBOUND, path=path, detail=detail)
        if writable_by_all(look(image).mode):
            return Proof(state=DiskState.UNBOUND, path=path, detail="every user may write it, so it proves nothing")
        sha256, layer = hash_of(image), document[1].layers[0].digest
        if layer.hex != sha256:
            return Proof(state=DiskState.STALE, path=path, detail=f"it is not the file that {pin.digest.short} names")
        return Proof(state=DiskState.VERIFIED, path=path, detail=PROVEN, sha256=sha256)

    def _ask_index(self, made: Reference, digest: Digest, target: Target) -> None:
        """Find out what the index `digest` has for this platform."""
        if (manifest := self._manifest(made, digest, target.platform)) is not None:
            self._origins.memory.learn_manifests(digest, {target.platform: manifest[0]})

    def _manifest(self, made: Reference, digest: Digest, platform: Platform) -> tuple[Digest, Manifest] | None:
        """Return the manifest for `platform` of what `digest` names.

        None where it is not to be had without a registry.
        """
        pin = Pin(reference=made, pinned=made, digest=digest, platform=platform)
        blobs = Blobs(pin=pin, registry=self._registry(), cache=CacheFolder.of(self._environment))
        try:
            document = blobs.manifest(digest)
            if isinstance(document, Index):
                entry = choose(document, platform)
                if entry is None:
                    return None
                digest, document = entry.digest, blobs.manifest(entry.digest)
        except NotComparable:
            return None
        return (digest, document) if isinstance(document, Manifest) else None

    def _registry(self) -> BlobSource | None:
        return self._deep() if self._deep is not None else None
