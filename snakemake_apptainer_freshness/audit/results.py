"""What an audit finds: values only.

:func:`.judge.audit` makes them of records, Snakemake's metadata and the files on this disk; each rendering (text, JSON,
HTML, SARIF, RO-Crate) takes one :class:`Audit`, and says the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from snakemake_apptainer_freshness.audit.seals import SealAudit
from snakemake_apptainer_freshness.record.run import JobRecord, Run, SignatureRecord


class OutputVerdict(StrEnum):
    """What can be said of one output; the worst first."""

    BAD_IMAGE = "bad image"
    """Made by an image that was bad then, or is known bad now."""
    CHANGED = "changed"
    """The output changed since it was made."""
    UNATTRIBUTABLE = "unattributable"
    """Made by a tag that cannot be attributed to any digest."""
    NO_RECORD = "no record"
    """Nothing says how it was made, or a run without us made it and says no container."""
    UNPROVEN = "unproven"
    """Made by a pinned image that was not proven."""
    NO_CONTAINER = "no container"
    """Made without a container, as its rule says."""
    PROVEN = "proven"
    """Made by an image that was proven to be what the lock named."""


SENTENCES: Mapping[OutputVerdict, str] = {
    OutputVerdict.PROVEN: "made by a proven image",
    OutputVerdict.UNPROVEN: "made by a pinned but unproven image",
    OutputVerdict.UNATTRIBUTABLE: "made by a tag that cannot be attributed",
    OutputVerdict.NO_CONTAINER: "made without a container",
    OutputVerdict.BAD_IMAGE: "made by an image that was bad then or is known bad now",
    OutputVerdict.CHANGED: "changed since it was made",
    OutputVerdict.NO_RECORD: "no record of how it was made",
}
"""Each verdict in plain words."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(StrEnum):
    """What a finding is about."""

    MIXED_DIGESTS = "mixed-digests"
    """Outputs of one rule were made with different digests."""
    PIN_MOVED = "pin-moved"
    """An image's pin moved between two runs."""
    LOCK_NOT_COMMITTED = "lock-not-committed"
    """A run used a lock that was never committed."""
    CHAIN_BROKEN = "chain-broken"
    """A record was altered or removed after the next one was made."""
    RECORD_DAMAGED = "record-damaged"
    BAD_SEAL = "bad-seal"
    """A seal is not one of its record, or was made by no allowed signer."""
    NOT_SEALED = "not-sealed"
    """No seal vouches for a record."""
    FOREIGN_RECORD = "foreign-record"
    """A record that was made in another folder, and that no record of this one knows of."""
    RUN_UNFINISHED = "run-unfinished"
    """A run's record has no end."""
    RUN_UNDER_WAY = "run-under-way"
    BAD_IMAGE = "bad-image"
    """An image file on this disk is not what was recorded."""
    OUTPUT_CHANGED = "output-changed"
    OUTPUT_MISSING = "output-missing"
    """A recorded output is no longer there."""
    UNATTRIBUTABLE = "unattributable"
    NO_RECORD = "no-record"
    UNPROVEN = "unproven"
    NOT_REPEATABLE = "not-repeatable"
    """A digest is no longer served, and its image is not on this disk either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Who answers for a finding, why, and until which day (ISO 8601, the last one on which it counts)."""

    reason: str
    who: str
    until: str

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        return f"acknowledged by {self.who} until {self.until}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One fact that an auditor should look at; `text` is one plain sentence, `subjects` what it is about.

    `subjects` are outputs, references or run identifiers, whole; a rendering may fold them.
    """

    kind: FindingKind
    severity: Severity
    text: str
    workdir: str
    subjects: tuple[str, ...] = ()
    acknowledged: Acknowledgement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAudit:
    """One output and its chain: job, image file, platform manifest, digest, reference.

    `why` says in one sentence how the verdict is known. `run` is the identifier of the run that made it, empty where
    no record says so; `job` that run's job. `exists` says whether it is there now. `inputs` are what Snakemake's
    metadata says it was made of.
    """

    workdir: str
    path: str
    verdict: OutputVerdict
    why: str
    rule: str = ""
    exists: bool = True
    size: int = 0
    run: str = ""
    job: JobRecord | None = None
    reference: str = ""
    pinned: str = ""
    digest: str = ""
    manifest: str = ""
    sif_sha256: str = ""
    made_at: str = ""
    host: str = ""
    inputs: tuple[str, ...] = ()
    affected_by: tuple[str, ...] = ()
    """Through which files it was made of what a bad image made: an input of its own first, the bad output last."""

    @property
    def explanation(self) -> str:
        """How the verdict is known and, where it is affected by a bad image, through what."""
        if not self.affected_by:
            return self.why
        return f"{self.why}; affected by a bad image through {' from '.join(self.affected_by)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSighting:
    """One image in one run: what was agreed, what the tag pointed at, what lay on the disk."""

    run: str
    at: str
    digest: str
    remote: str
    points_at: str
    disk: str
    proof: str
    sha256: str
    jobs: int
    """How many jobs of the run ran it."""
    signatures: tuple[SignatureRecord, ...] = ()
    """Those that a policy of the run asked for, and that were good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAudit:
    """One reference across all runs, oldest sighting first; `now` is what the disk says today of its last image.

    `outputs` counts what was made with it.
    """

    workdir: str
    reference: str
    sightings: tuple[ImageSighting, ...]
    rules: tuple[str, ...] = ()
    outputs: int = 0
    now: str = ""
    now_detail: str = ""
    replay: "ImageReplay | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReplay:
    """Whether one digest could be run again today.

    `served` says whether the registry serves it (None: could not be asked), `same_platform` whether this platform's
    manifest would be the one that ran (None: not known), `on_disk` whether a proven file is here. `elsewhere` are the
    mirrors that have it, where the registry does not give it.
    """

    digest: str
    served: bool | None
    same_platform: bool | None
    on_disk: bool
    detail: str = ""
    elsewhere: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether it is known that it could be run."""
        return self.on_disk or bool(self.elsewhere) or (self.served is True and self.same_platform is not False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Whether everything could be run again today, and why or why not, in one sentence."""

    possible: bool
    because: str
    """The reason, without the word "because"."""
    unreachable: bool = False
    """Whether a registry could not be asked, so that it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """In the graph of rules: `after` took outputs of `before` as its input."""

    workdir: str
    before: str
    after: str


class ChangeKind(StrEnum):
    """What a difference between two runs is about."""

    IMAGE = "image"
    SETTING = "setting"
    """What a run was held to or ran on: mode, lock, commit, versions, machine."""
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """One difference between two runs: of the `subject`, in a few words (`word`), and what it was in each.

    `alone` says that one of the runs alone made the output, as most runs do not make everything again.
    """

    kind: ChangeKind
    subject: str
    word: str
    before: str
    after: str
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """What differs between two runs, by their identifiers, and how many images and outputs are the same in both."""

    first: str
    second: str
    first_workdir: str
    second_workdir: str
    changes: tuple[RunChange, ...]
    same_images: int
    same_outputs: int


class VulnerabilitySeverity(StrEnum):
    """How much a vulnerability matters by its scanner; the worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEGLIGIBLE = "negligible"
    UNKNOWN = "unknown"


class ScannedBy(StrEnum):
    """How a scan is known to be of an image."""

    DIGEST = "digest"
    NAME = "name"
    """By its name alone: the tag may have pointed at another image when it was scanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """One vulnerability of one package, as a scanner has it; `fixed` has the versions that lack it, where there are."""

    id: str
    package: str
    version: str
    fixed: str
    severity: VulnerabilitySeverity
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVulnerabilities:
    """What one scan found in one image that ran, the worst first.

    `ignored` counts what was looked at and accepted; `outputs` what the image made.
    """

    workdir: str
    reference: str
    digest: str
    scanner: str
    joined_by: ScannedBy
    vulnerabilities: tuple[Vulnerability, ...]
    ignored: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The whole answer, of one work directory or several."""

    made_at: str
    workdirs: tuple[str, ...]
    answer: str
    """In one sentence."""
    runs: tuple[Run, ...]
    images: tuple[ImageAudit, ...]
    outputs: tuple[OutputAudit, ...]
    findings: tuple[AuditFinding, ...]
    edges: tuple[Edge, ...] = ()
    replay: Replay | None = None
    difference: RunDifference | None = None
    """Between two runs, where that was asked."""
    seals: tuple[SealAudit, ...] = ()
    """What vouches for the records of each work directory."""
    vulnerabilities: tuple[ImageVulnerabilities, ...] = ()
    """What scanners found in the images that ran, where their reports were given; it changes no verdict."""
    numbers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Which run of its work directory each is, counted from 1, by work directory and identifier."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What could not be looked at, and why: nothing is hidden."""

    def count(self, verdict: OutputVerdict) -> int:
        """Return how many outputs have `verdict`."""
        return sum(output.verdict is verdict for output in self.outputs)
