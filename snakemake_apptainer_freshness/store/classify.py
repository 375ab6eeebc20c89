"""Classification: what the disk says of a pin, in the words of :class:`~.freshness.DiskState`. Pure.

What may be concluded from what:

* **A hash proves**: the recorded one of a file that we pulled by digest, or the one that the pin itself names
  (``library://``, ``https://``, a local file). Nothing else gives `verified`, and no label ever does.
* **A stat key stands for the hash** where the record has one, and only while nobody but its owner may write the file.
* **A label binds or refutes.** Pulled by the pin's digest, or by this platform's manifest of it: `bound`. Pulled by
  another digest: `stale`. An image for another machine is `stale`, too: it is of another manifest.
* **Where anyone may write a file its label says nothing**, and a hash says what was a moment ago: `unbound`.
* **Structure comes first**: what is not a sound SIF is `corrupt`, whatever is recorded of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.common.files import StatKey, writable_by_all
from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.records import Record

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.apptainer.sif import Sif

UNTOUCHED: Final = "untouched since its SHA-256 was checked"
_LONGEST_DETAIL: Final = 400
_ALSO_RUNS: Final = {"amd64": "386", "arm64": "arm"}
"""A machine's other instruction set: Apptainer reads an image's architecture from its programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found at an image's path.

    `problem` says why there is no `sif`, `record_problem` why there is no `record`; `sha256` is what the file hashes
    to now, where that was asked for.
    """

    path: str
    exists: bool = True
    problem: str = ""
    sif: "Sif | None" = None
    mode: int = 0
    stat: StatKey | None = None
    record: Record | None = None
    record_problem: str = ""
    sha256: str | None = None


def recorded(evidence: Evidence, pin: Pin) -> Record | None:
    """The record of the file, where it is about this pin."""
    record = evidence.record
    if record is None or (record.pinned, record.digest) != (pin.url, pin.digest):
        return None
    return record


def known_by_stat(evidence: Evidence, pin: Pin) -> bool:
    """Whether the file need not be opened: it was hashed, and has not been touched since."""
    record = recorded(evidence, pin)
    return (
        record is not None
        and not record.refuted
        and record.stat is not None
        and evidence.stat is not None
        and record.stat.same_file(evidence.stat)
        and not _exposed(evidence, record)
    )


def needs_hash(evidence: Evidence, pin: Pin) -> bool:
    """Whether a hash of the file could prove anything."""
    return evidence.sif is not None and (pin.content is not None or recorded(evidence, pin) is not None)


def classify(evidence: Evidence, pin: Pin) -> DiskFact:
    """What `evidence` says of `pin`."""
    state, detail = _judge(evidence, pin)
    return DiskFact(state=state, path=evidence.path, detail=_one_line(detail))


def _one_line(text: str) -> str:
    """`text`, which may quote a label that somebody else wrote, fit for a terminal."""
    return redact(" ".join(text.split()))[:_LONGEST_DETAIL]


def _judge(evidence: Evidence, pin: Pin) -> tuple[DiskState, str]:
    if not evidence.exists:
        return DiskState.ABSENT, "no such file"
    if known_by_stat(evidence, pin):
        return DiskState.VERIFIED, UNTOUCHED
    if evidence.sif is None:
        return DiskState.CORRUPT, evidence.problem
    record = recorded(evidence, pin)
    if evidence.sha256 is not None and (judged := _by_hash(evidence, pin, record)):
        return judged
    if _exposed(evidence, record):
        return DiskState.UNBOUND, f"anyone may write to it (mode {evidence.mode & 0o7777:04o}), so it proves nothing"
    return _by_label(evidence.sif, pin, evidence)


def _by_hash(evidence: Evidence, pin: Pin, record: Record | None) -> tuple[DiskState, str] | None:
    """What the file's hash proves; None where it proves nothing."""
    if pin.content is not None and evidence.sha256 != pin.content.hex:
        return DiskState.STALE, "its SHA-256 is not the one that the reference names"
    if record is not None and record.refuted:
        return (DiskState.STALE, record.refuted) if evidence.sha256 == record.sha256 else None
    if record is not None and evidence.sha256 != record.sha256:
        return DiskState.ALTERED, f"its SHA-256 is no longer the one recorded on {record.obtained_at}"
    if _exposed(evidence, record):
        return None
    if pin.content is not None:
        return DiskState.VERIFIED, "its SHA-256 is the one that the reference names"
    if record is not None:
        return DiskState.VERIFIED, f"its SHA-256 is the one recorded on {record.obtained_at}"
    return None


def _by_label(sif: "Sif", pin: Pin, evidence: Evidence) -> tuple[DiskState, str]:
    note = f"; {evidence.record_problem}" if evidence.record_problem else ""
    if problem := wrong_architecture(sif, pin):
        return DiskState.STALE, problem
    if pin.pinned.scheme is not Scheme.DOCKER:
        return DiskState.UNBOUND, f"nothing in it says what {pin.pinned.scheme}:// image it is{note}"
    if digest := sif.pulled_digest:
        if pin.names(digest):
            return DiskState.BOUND, f"its label says that it was pulled by {digest.short}{note}"
        return DiskState.STALE, f"it was pulled by {digest.short}, the pin is {pin.digest.short}"
    if digest := sif.base_digest:
        if pin.names(digest):
            return DiskState.BOUND, f"its label says that its tag pointed at {digest.short}{note}"
        return DiskState.STALE, f"its tag pointed at {digest.short}, the pin is {pin.digest.short}"
    if reference := sif.pulled_reference:
        return DiskState.UNBOUND, f"it was pulled by a tag, {reference}{note}"
    return DiskState.UNBOUND, f"it was not pulled from a registry, or does not say so{note}"


def wrong_architecture(sif: "Sif", pin: Pin) -> str:
    """Why the image is not for the pin's machine; empty where it is, or does not say."""
    here = pin.platform.architecture
    if not sif.architecture or sif.architecture in (here, _ALSO_RUNS.get(here)):
        return ""
    return f"it is for {sif.architecture}, the pin is for {here}"


def _exposed(evidence: Evidence, record: Record | None) -> bool:
    """Whether anyone may write to the file, and its file system is not one that says so of every file."""
    return writable_by_all(evidence.mode) and not (record is not None and record.writable_by_all)
