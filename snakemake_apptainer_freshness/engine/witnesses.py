"""What the three witnesses say of each image of a run, collected for its record while the run asks them anyway."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_apptainer_freshness.actions.lock_claims import proven_manifest
from snakemake_apptainer_freshness.actions.pinning import Pins, TagResolver
from snakemake_apptainer_freshness.common.times import now
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.record.run import ImageRecord, SignatureRecord
from snakemake_apptainer_freshness.store import places

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.policy.verification import Signed


class TimedResolver:
    """Asks registries, and notes when each answer came."""

    def __init__(self, registries: TagResolver) -> None:
        self._registries = registries
        self.at: dict[Reference, str] = {}
        """When the registry answered about a reference."""
        self.resolved: dict[Reference, Digest] = {}
        """The digest that it gave for those that were resolved."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :class:`~.actions.pinning.TagResolver`."""
        return self._registries.warnings

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """See :class:`~.actions.pinning.TagResolver`."""
        for reference, answer in self._registries.resolve(references):
            if isinstance(answer, Entry):
                self.at[reference] = now()
                self.resolved[reference] = answer.digest
            yield reference, answer

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """See :class:`~.actions.pinning.TagResolver`."""
        for entry, fact in self._registries.check(entries):
            self.at[entry.reference] = fact.asked_at or now()
            yield entry, fact


@dataclass(slots=True, kw_only=True)
class Witnesses:
    """Collects facts on images: `remote` gives them by reference, `disk` has them by the url that rules run.

    `resolver` is what asked the registries, once that was needed.
    """

    pins: Pins
    remote: Callable[[], Mapping[str, RemoteFact]]
    disk: Mapping[str, DiskFact]
    resolver: TimedResolver | None = None
    signed: "Callable[[str], Iterable[Signed]]" = lambda _: ()
    """Gives the signatures of a reference that satisfied a policy."""

    def listening(self, registries: TagResolver) -> TagResolver:
        """Return `registries`, whose answers are noted from now on."""
        self.resolver = TimedResolver(registries)
        return self.resolver

    def record(self, reference: str, pinned: Pinned) -> ImageRecord:
        """Return all of it about `reference`, for which rules run `pinned`."""
        entry = self.pins.entries.get(reference)
        digest = str(pinned.digest or "")
        signatures = tuple(
            SignatureRecord(by=signed.by, digest=str(signed.digest), signature=signed.signature)
            for signed in self.signed(reference)
        )
        record = ImageRecord(reference=reference, pinned=pinned.url, digest=digest, signatures=signatures)
        if entry is None:
            return replace(record, proof=self.pins.unpinnable.get(reference, ""))
        manifest = str(proven_manifest(entry, self.pins.platform, None) or "")
        record = replace(record, platform=str(self.pins.platform), manifest=manifest if manifest != digest else "")
        return self._with_disk(self._with_remote(record, entry), Pin.of(entry, kind=self.pins.options.pin))

    def _with_remote(self, record: ImageRecord, entry: Entry) -> ImageRecord:
        reference = entry.reference
        asked_at = self.resolver.at.get(reference, "") if self.resolver else ""
        fact = self.remote().get(reference.text)
        if fact is None and self.resolver and reference in self.resolver.resolved:
            fact = RemoteFact(state=RemoteState.CURRENT, digest=self.resolver.resolved[reference])
        if fact is None:
            return record
        points_at = fact.digest or (entry.digest if fact.state is RemoteState.CURRENT else "")
        return replace(
            record, remote=str(fact.state), points_at=str(points_at), asked_at=asked_at, remote_detail=fact.detail
        )

    def _with_disk(self, record: ImageRecord, pin: Pin) -> ImageRecord:
        fact = self.disk.get(record.pinned)
        if fact is None:
            return record
        record = replace(record, disk=str(fact.state), proof=fact.detail, path=fact.path)
        with suppress(OSError):
            record = replace(record, size=os.stat(fact.path).st_size)  # noqa: PTH116  costs half of Path's
        return replace(record, sha256=_sha256(pin, fact)) if fact.state is DiskState.VERIFIED else record


def _sha256(pin: Pin, fact: DiskFact) -> str:
    """Return the SHA-256 of a verified image: what its pin names, or what is known of its place."""
    if pin.content is not None:
        return pin.content.hex
    place = places.load(Path(fact.path))
    return place.sha256 if place is not None else ""
