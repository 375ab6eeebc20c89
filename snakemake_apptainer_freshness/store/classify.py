"""Classification: what the disk says of a pin, in the words of :class:`~.freshness.DiskState`. Pure.

What may be concluded from what:

* **A hash proves**: one of which a fact of content in the user's own state folder says that it is this digest's image
  (:mod:`.store.facts`), or the one that the pin itself names (``library://``, ``https://``, a local file). Nothing else
  gives `verified`: no label does, and nothing that lies beside the image.
* **A stat key stands for the hash** where a fact of place has it, and only while no user but its owner may write the
  file.
* **What no pull makes refutes**: a second file system, an overlay, an object of another kind or another launch script
  would change what runs, whatever the label says: `stale`.
* **A label binds or refutes.** Pulled by the pin's digest, or by this platform's manifest of it: `bound`. Pulled by
  another digest: `stale`. An image for another machine is `stale`, too: it is of another manifest.
* **Where every user may write a file its label says nothing**, and a hash says what was a moment ago: `unbound`.
* **Structure comes first**: what is not a sound SIF is `corrupt`, whatever is recorded of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.common.files import StatKey, writable_by_all
from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.facts import ContentFact, proving
from snakemake_apptainer_freshness.store.places import PlaceFact

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.apptainer.sif import Sif

UNTOUCHED: Final = "untouched since its SHA-256 was checked"
_LONGEST_DETAIL: Final = 400
_ALSO_RUNS: Final = {"amd64": "386", "arm64": "arm"}
"""A machine's other instruction set: Apptainer reads an image's architecture from its programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """What was found at an image's path.

    `problem` says why there is no `sif`. `place` is what the file hashed to when it was last looked at, `fact` what is
    known of that hash; `candidates` are the hashes of which it is known that they are, or are not, what the pin names.
    `size` is in bytes; `sha256` is what the file hashes to now, where that was asked for.
    """

    path: str
    exists: bool = True
    problem: str = ""
    sif: "Sif | None" = None
    mode: int = 0
    size: int = 0
    stat: StatKey | None = None
    place: PlaceFact | None = None
    fact: ContentFact | None = None
    candidates: tuple[ContentFact, ...] = ()
    sha256: str | None = None


def recorded(evidence: FoundFile, pin: Pin) -> ContentFact | None:
    """Return what is known of the file as it was last looked at, where that is about this pin."""
    fact = evidence.fact
    return fact if fact is not None and fact.is_about(pin) else None


def known_by_stat(evidence: FoundFile, pin: Pin) -> bool:
    """Return whether the file need not be opened: it was hashed, and has not been touched since."""
    fact, place = recorded(evidence, pin), evidence.place
    return (
        fact is not None
        and not fact.refuted
        and place is not None
        and place.stat is not None
        and evidence.stat is not None
        and place.stat.same_file(evidence.stat)
        and not _exposed(evidence)
    )


def needs_hash(evidence: FoundFile, pin: Pin) -> bool:
    """Return whether a hash of the file could prove anything."""
    if evidence.sif is None:
        return False
    known = recorded(evidence, pin) is not None or any(fact.size == evidence.size for fact in evidence.candidates)
    return known or pin.content is not None


def classify(evidence: FoundFile, pin: Pin) -> DiskFact:
    """Return what `evidence` says of `pin`."""
    state, detail = _judge(evidence, pin)
    fact = _decisive(evidence, pin)
    store = fact.store if fact is not None and state in (DiskState.VERIFIED, DiskState.STALE) else ""
    if store:
        detail += f", says the fact store {store}"
    known = _hash_of(evidence, pin) if state is DiskState.VERIFIED else None
    return DiskFact(state=state, path=evidence.path, detail=_one_line(detail), store=store, known=known)


def _decisive(evidence: FoundFile, pin: Pin) -> ContentFact | None:
    """Return the fact of content that says what the file is; None where none does."""
    if evidence.sif is None:
        return recorded(evidence, pin)
    if evidence.sha256 is None or pin.content is not None:
        return None
    return _about_hash(evidence, pin)


def _about_hash(evidence: FoundFile, pin: Pin) -> ContentFact | None:
    """Return what is known of the hash that the file has now."""
    before = recorded(evidence, pin)
    return proving([*([before] if before else []), *evidence.candidates], evidence.sha256 or "")


def _hash_of(evidence: FoundFile, pin: Pin) -> FileHash:
    """Return what a verified file hashed to, with the stat key that stood for the hash, if one did."""
    place = evidence.place
    exposed = place is not None and place.writable_by_all
    if place is not None and known_by_stat(evidence, pin):
        return FileHash(sha256=place.sha256, stat=place.stat, writable_by_all=exposed)
    return FileHash(sha256=evidence.sha256 or "", writable_by_all=exposed)


def _one_line(text: str) -> str:
    """Return `text`, which may quote a label that another user wrote, as one line fit for a terminal."""
    return redact(" ".join(text.split()))[:_LONGEST_DETAIL]


def _judge(evidence: FoundFile, pin: Pin) -> tuple[DiskState, str]:
    if not evidence.exists:
        return DiskState.ABSENT, "no such file"
    if known_by_stat(evidence, pin):
        return DiskState.VERIFIED, UNTOUCHED
    if evidence.sif is None:
        return DiskState.CORRUPT, evidence.problem
    if evidence.sha256 is not None and (judged := _by_hash(evidence, pin)):
        return judged
    if pin.pinned.scheme is Scheme.DOCKER and evidence.sif.unlike_a_pull:
        return DiskState.STALE, f"no pull makes such a file: {evidence.sif.unlike_a_pull}"
    if _exposed(evidence):
        return DiskState.UNBOUND, f"every user may write it (mode {evidence.mode & 0o7777:04o}), so it proves nothing"
    return _by_label(evidence.sif, pin)


def _by_hash(evidence: FoundFile, pin: Pin) -> tuple[DiskState, str] | None:
    """Return what the file's hash proves; None where it proves nothing."""
    before = recorded(evidence, pin)
    fact = _about_hash(evidence, pin)
    if pin.content is not None and evidence.sha256 != pin.content.hex:
        return DiskState.STALE, "its SHA-256 is not the one that the reference names"
    if fact is not None and fact.refuted:
        return DiskState.STALE, fact.refuted
    # a hash that nothing is known of, where another one was proven: somewhere in between the bytes changed
    if fact is None and before is not None and not before.refuted:
        return DiskState.ALTERED, f"its SHA-256 is no longer the one recorded on {before.proven_at}"
    if _exposed(evidence):  # the bytes may be others by the time that they run
        return None
    if pin.content is not None:
        return DiskState.VERIFIED, "its SHA-256 is the one that the reference names"
    if fact is not None:
        return DiskState.VERIFIED, f"its SHA-256 is the one recorded on {fact.proven_at}"
    return None


def _by_label(sif: "Sif", pin: Pin) -> tuple[DiskState, str]:
    if problem := wrong_architecture(sif, pin):
        return DiskState.STALE, problem
    if pin.pinned.scheme is not Scheme.DOCKER:
        return DiskState.UNBOUND, f"nothing in it says what {pin.pinned.scheme}:// image it is"
    if digest := sif.pulled_digest:
        if pin.names(digest):
            return DiskState.BOUND, f"its label says that it was pulled by {digest.short}"
        return DiskState.STALE, f"it was pulled by {digest.short}, the pin is {pin.digest.short}"
    if digest := sif.base_digest:
        if pin.names(digest):
            return DiskState.BOUND, f"its label says that its tag pointed at {digest.short}"
        return DiskState.STALE, f"its tag pointed at {digest.short}, the pin is {pin.digest.short}"
    if reference := sif.pulled_reference:
        return DiskState.UNBOUND, f"it was pulled by a tag, {reference}"
    return DiskState.UNBOUND, "it was not pulled from a registry, or does not say so"


def wrong_architecture(sif: "Sif", pin: Pin) -> str:
    """Return why the image is not for the pin's machine; empty where it is, or does not say."""
    here = pin.platform.architecture
    if not sif.architecture or sif.architecture in (here, _ALSO_RUNS.get(here)):
        return ""
    return f"it is for {sif.architecture}, the pin is for {here}"


def _exposed(evidence: FoundFile) -> bool:
    """Return whether every user may write to the file, and its file system is not one that says so of all files."""
    return writable_by_all(evidence.mode) and not (evidence.place is not None and evidence.place.writable_by_all)
