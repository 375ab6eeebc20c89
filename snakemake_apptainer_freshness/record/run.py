"""The record of one run: what it was held to, what it ran, and how it ended.

Values only. One run leaves one file (:mod:`.journal` writes and reads it). Times are UTC, ISO 8601, whole seconds or
finer; digests are written ``sha256:…``; SHA-256 of files are 64 hex digits. An empty text or None says that a thing is
not known, never that it is good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

VERSION: Final = 1
"""The major version of the format."""


class JobResult(StrEnum):
    """How a job ended."""

    RUNNING = "running"
    """It was started, and nothing more is known: the run was killed, or still goes on."""
    FINISHED = "finished"
    FAILED = "failed"


class Ending(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    """It still goes on: its process lives."""
    UNKNOWN = "unknown"
    """Its record has no end: it was killed, its machine stopped, or it goes on, on another host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The versions of the programs that took part; Apptainer's is empty where it was not asked for."""

    snakemake: str
    freshness: str
    apptainer: str
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of the main process: what can change the last digit of a result. Empty: not known.

    `system` is the distribution as it calls itself, `kernel` its name and release, `architecture` as ``uname -m`` says
    it, `cpu` the processor's model.
    """

    system: str = ""
    kernel: str = ""
    architecture: str = ""
    cpu: str = ""


class OverrideKind(StrEnum):
    """How something is put over an image."""

    BIND = "bind"
    OVERLAY = "overlay"
    VARIABLE = "variable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One thing that Apptainer is told to put over the images of a run.

    `path` is where in the container, absolute, or the name of a variable; `source` what is put there; `by` the option
    or variable that says so.
    """

    kind: OverrideKind
    path: str
    source: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """What Apptainer was told beside the image and the command, without what looks like a secret."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSource:
    """The workflow: its main Snakefile, and the commit of the repository it lies in (empty: in none).

    `sha256` is the Snakefile's; empty where it is no file here, as with a remote one, and in records that older
    versions made. `dirty` says whether the repository had changes that were not committed; None where that could not
    be asked.
    """

    snakefile: str
    sha256: str = ""
    commit: str = ""
    dirty: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockUsed:
    """The lock file as it was when the first job started: its SHA-256, and whether these bytes were committed.

    `committed` is None where the lock lies in no repository, or that could not be asked.
    """

    path: str
    sha256: str
    committed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRecord:
    """A signature that satisfied a policy: that `by` signed `digest`.

    `signature` is the SHA-256 of the signature, as the user's state folder names it; empty for one inside of a SIF
    file, whose SHA-256 `digest` then is.
    """

    by: str
    digest: str
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image as the three witnesses had it when the run started.

    `reference` is what the rules say, `pinned` the url that ran (they are equal where it could not be pinned, and
    `digest` is empty then). `manifest` is this platform's manifest where it is another digest. `remote` and `disk` are
    words of :class:`~.freshness.RemoteState` and :class:`~.freshness.DiskState`; `points_at` is what the tag pointed at
    when it was asked at `asked_at`. `proof` says in one line how the disk's word is known. `sha256` and `size` (bytes)
    are the SIF's, `path` its place.
    """

    reference: str
    pinned: str
    digest: str = ""
    manifest: str = ""
    platform: str = ""
    remote: str = "unchecked"
    points_at: str = ""
    asked_at: str = ""
    remote_detail: str = ""
    disk: str = ""
    proof: str = ""
    sha256: str = ""
    size: int = 0
    path: str = ""
    signatures: tuple[SignatureRecord, ...] = ()
    """Those that a policy asked for; one that no policy asked for was not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """One output as it was when its job finished: `size` in bytes, `mtime_ns` since the epoch, `sha256` if small.

    Folders and large files have an empty `sha256`. A `temporary` one is deleted by Snakemake when no job needs it any
    more, as its rule says. Where the main process could not see the file, or the job did not finish, both numbers are
    0.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One attempt of one job. `image` is the `pinned` of an :class:`ImageRecord`, empty without a container.

    `host` is where the job's own process ran; empty where it left no word, as where no storage is shared.
    `started` is when it began there, as far as that is known, else when it was handed to its executor.
    """

    id: int
    rule: str
    outputs: tuple[OutputRecord, ...]
    wildcards: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    image: str = ""
    disk: str = ""
    """What the job's own process found at the image's path just before it ran it, where it left word."""
    host: str = ""
    started: str = ""
    ended: str = ""
    attempt: int = 1
    result: JobResult = JobResult.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `id` sorts by time; `previous` is the SHA-256 of the record before it, empty for the first.

    `config_sha256` is that of the workflow's configuration (never the configuration itself), `options` are ours.
    `problem` says what is wrong with the record, where it was cut short or altered. Records of older versions have
    neither `machine` nor `runtime`.
    """

    id: str
    started: str
    ended: str = ""
    ending: Ending = Ending.UNKNOWN
    user: str
    host: str
    workdir: str
    command: tuple[str, ...]
    config_sha256: str
    versions: Versions
    source: WorkflowSource
    mode: str
    options: Mapping[str, str] = field(default_factory=dict)
    lock: LockUsed | None = None
    machine: Machine | None = None
    runtime: RuntimeSettings | None = None
    previous: str = ""
    images: tuple[ImageRecord, ...] = ()
    jobs: tuple[JobRecord, ...] = ()
    file: str = ""
    """The record's own path; not written into it."""
    sha256: str = ""
    """Of the record's own bytes; not written into it."""
    problem: str = ""
    """Not written into it."""
