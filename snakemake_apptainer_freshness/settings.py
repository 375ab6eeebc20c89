"""Every option, cap and timeout of this package, with its default, in one place.

*Options* are what a user writes under ``apptainer_freshness`` in a workflow's configuration; :func:`parse_options`
turns what was written into :class:`Options`, or says which key or value is wrong, what is allowed, and what was
probably meant.
*Limits* bound what a registry, a file or a program can make us do; they are not for users to set. They are named tuples
because every job imports this module: a dataclass of that many fields takes several times as long to make.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.errors import InvalidSettings

LONGEST_TIMEOUT: Final = 3600.0
"""Seconds that a user may give a registry to answer."""
LONGEST_CHECK_EVERY: Final = 24 * 3600.0
"""Seconds for which an answer about a tag may be remembered: no configuration can hide for longer that one moved."""
SITE_FILE: Final = "apptainer-freshness.toml"
"""The policy of a site, beside the main Snakefile or the lock; :mod:`.actions.site` has the other places."""


class Mode(StrEnum):
    """What a run may ask of the network, and may do to the lock file."""

    LOCK = "lock"
    """Resolve what the lock lacks and add it, ask whether tags moved; never move a pin."""
    UPDATE = "update"
    """Resolve every tag; pins move."""
    LOCKED = "locked"
    """Ask whether tags moved; never write the lock; a reference that it lacks is an error."""
    FROZEN = "frozen"
    """No network at all; never write the lock; a reference that it lacks is an error."""
    OFF = "off"

    @property
    def asks_registries(self) -> bool:
        """Whether this mode may use the network."""
        return self in (Mode.LOCK, Mode.UPDATE, Mode.LOCKED)

    @property
    def writes_lock(self) -> bool:
        """Whether this mode may write the lock file."""
        return self in (Mode.LOCK, Mode.UPDATE)


class Reaction(StrEnum):
    """What a finding does to a run."""

    IGNORE = "ignore"
    WARN = "warn"
    ERROR = "error"


class PinKind(StrEnum):
    """Which digest a rule is rewritten to."""

    INDEX = "index"
    """What the tag points at: for a multi-platform image, the index."""
    PLATFORM = "platform"
    """This machine's platform manifest."""


class OnUnverified(StrEnum):
    """What an image file does to a run that is not what its pin names: stale, unbound, altered or corrupt."""

    REPAIR = "repair"
    """Move it aside, and fetch one that is proven."""
    WARN = "warn"
    ERROR = "error"


class Rerun(StrEnum):
    """What a run does with outputs whose container is named otherwise than when they were made."""

    CONTENT = "content"
    """Keep those that the same image made, provably; leave the others to Snakemake."""
    ALWAYS = "always"
    """Leave all of them to Snakemake, which makes them again."""
    NEVER = "never"
    """Keep all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user sets under ``apptainer_freshness``."""

    mode: Mode = Mode.LOCK
    lockfile: str = "containers.lock"
    """A path; a relative one is taken from the folder of the main Snakefile, or, where that is remote, from the
    working directory.
    """
    on_moved: Reaction = Reaction.WARN
    on_unverified: OnUnverified = OnUnverified.REPAIR
    on_unpinnable: Reaction = Reaction.WARN
    pin: PinKind = PinKind.INDEX
    rerun: Rerun = Rerun.CONTENT
    timeout: float | None = None
    """Seconds without a word after which a registry is given up; None: as :data:`LIMITS` has it."""
    check_every: float = 300.0
    """Seconds for which an answer about a tag is not asked for again (:mod:`.store.answers`); 0: asked in every run."""
    images: tuple[Path, ...] = ()
    """Absolute paths of image libraries (:mod:`.store.library`), beside those of the machine."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """Which images may be named, as it was written; :mod:`.policy` understands it."""


_CHOICES: Final[dict[str, type[StrEnum]]] = {
    "mode": Mode,
    "on_moved": Reaction,
    "on_unverified": OnUnverified,
    "on_unpinnable": Reaction,
    "pin": PinKind,
    "rerun": Rerun,
}
_PERIOD: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([smh]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_NO_PATH: Final = re.compile(r"[-+]?[0-9.]+|(?i:true|false|yes|no|on|off|null|none|~)")
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._/+:@%=,-]*", re.ASCII)
_KEYS: Final = tuple(one.name for one in fields(Options))


def parse_options(value: object, *, source: str, base: Options | None = None) -> Options:
    """Return the options that a configuration's `value` spells, laid over `base`.

    `value` is a truth value, the name of a mode, or a mapping with the keys of :class:`Options`. `source` names where
    it was written, for the error. A truth value and a mode change the mode alone; a mapping changes what it names.

    Raises
    ------
    InvalidSettings
        for an unknown key or value; the message names it, lists what is allowed and suggests the nearest.
    """
    base = base or Options()
    if value is None:
        return replace(base, mode=Mode.OFF)
    if isinstance(value, bool):
        return replace(base, mode=_mode_of(base, on=value))
    if isinstance(value, str):
        return replace(base, mode=_mode_named(value.strip().lower(), source=source, base=base))
    if isinstance(value, Mapping):
        return _parse_mapping(value, source=source, base=base)
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY} must be true, false, a mode or a mapping, not {type(value).__name__}",
        hint=f"modes are {_listed(Mode)}; keys of the mapping are {', '.join(_KEYS)}",
    )


def _mode_of(base: Options, *, on: bool) -> Mode:
    if not on:
        return Mode.OFF
    return Mode.LOCK if base.mode is Mode.OFF else base.mode


def _mode_named(text: str, *, source: str, base: Options) -> Mode:
    if text in ("true", "false"):
        return _mode_of(base, on=text == "true")
    choices = [mode.value for mode in Mode]
    if text in choices:
        return Mode(text)
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY} cannot be {text!r}{_nearest(text, [*choices, 'true', 'false'])}",
        hint=f"it is true, false, one of the modes {_listed(Mode)}, or a mapping",
    )


def _parse_mapping(value: Mapping[Any, Any], *, source: str, base: Options) -> Options:
    changes: dict[str, Any] = {}
    if base.mode is Mode.OFF:
        changes["mode"] = Mode.LOCK
    for key, item in value.items():
        if key not in _KEYS:
            raise InvalidSettings(
                f"{source}: {CONFIG_KEY} has no key {str(key)!r}{_nearest(str(key), _KEYS)}",
                hint=f"its keys are {', '.join(_KEYS)}",
            )
        if key in _CHOICES:
            changes[key] = _CHOICES[key](_choice(key, item, source))
        elif key == "policy":
            changes[key] = _table(key, item, source)
        elif key == "images":
            changes[key] = _folders(item, source)
        elif key == "timeout":
            changes[key] = seconds(item, source=f"{source}: {CONFIG_KEY}.{key}")
        elif key == "check_every":
            changes[key] = period(item, source=f"{source}: {CONFIG_KEY}.{key}")
        elif _is_path(item):
            changes[key] = item
        else:
            raise InvalidSettings(
                f"{source}: {CONFIG_KEY}.{key} must be a path, not {item!r}",
                hint="write ./ before the name of a file that looks like a number or a truth value",
            )
    return replace(base, **changes)


def seconds(value: object, *, source: str) -> float:
    """Return the number of seconds that `value`, a number or a text, spells; `source` names it for the error.

    Raises
    ------
    InvalidSettings
        where it is no number between 0 and :data:`LONGEST_TIMEOUT`.
    """
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST_TIMEOUT:
        raise InvalidSettings(
            f"{source} cannot be {value!r}", hint=f"give the seconds, more than 0 and at most {LONGEST_TIMEOUT:.0f}"
        )
    return number


def period(value: object, *, source: str) -> float:
    """Return the seconds that `value` spells: a number, or a text such as ``15m``; `source` names it for the error.

    Raises
    ------
    InvalidSettings
        where it is none between 0 and :data:`LONGEST_CHECK_EVERY`.
    """
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    found = _PERIOD.fullmatch(text)
    number = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not 0 <= number <= LONGEST_CHECK_EVERY:
        raise InvalidSettings(
            f"{source} cannot be {value!r}", hint="give a time such as 90s, 15m or 2h, at most 24h; 0 asks in every run"
        )
    return number


def _is_path(item: object) -> bool:
    """Return whether `item` can be meant as a path; Snakemake's ``--config`` gives the values of a mapping as texts."""
    if not isinstance(item, str) or not item.strip() or "\0" in item:
        return False
    return not _NO_PATH.fullmatch(item.strip())


def _table(key: str, value: object, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSettings(f"{source}: {CONFIG_KEY}.{key} must be a mapping, not {type(value).__name__}")
    return dict(value)


def is_plain_path(item: object) -> bool:
    """Return whether `item` is an absolute path in which no shell reads anything."""
    return isinstance(item, str) and _PLAIN_PATH.fullmatch(item) is not None


def _folders(value: object, source: str) -> tuple[Path, ...]:
    """Return the absolute paths that `value` spells: a list, or a text with ``:`` between several."""
    items = value.split(":") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(is_plain_path(item) for item in items):
        raise InvalidSettings(
            f"{source}: {CONFIG_KEY}.images cannot be {value!r}",
            hint="give a list of folders by their absolute paths; Snakemake puts them into commands without quotes, so "
            "they may have letters, digits and ._/+:@%=,- in them",
        )
    return tuple(Path(item) for item in items)


def _choice(key: str, value: object, source: str) -> str:
    """Return `value` where it is a choice of `key`.

    YAML 1.1 reads a bare ``off`` as false, which is meant as the mode.
    """
    choices = [member.value for member in _CHOICES[key]]
    if key == "mode" and isinstance(value, bool):
        return Mode.LOCK if value else Mode.OFF
    if isinstance(value, str) and value in choices:
        return value
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY}.{key} cannot be {value!r}{_nearest(str(value), choices)}",
        hint=f"{key} is one of {', '.join(choices)}",
    )


def _nearest(text: str, choices: tuple[str, ...] | list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(text.lower().replace("-", "_"), choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(choices: type[StrEnum]) -> str:
    return ", ".join(member.value for member in choices)


class Limits(NamedTuple):
    """What a registry may make us spend. Sizes in bytes, times in seconds."""

    manifest_size: int = 4 * 1024 * 1024
    """Caps a manifest (distribution specification: registries should accept at least 4 MiB)."""
    tag_pages: int = 20
    """Of the tags of one repository, with 1000 tags each."""
    referrer_pages: int = 5
    """Of what refers to one image."""
    signatures: int = 32
    """Of one image at one place, that are looked at."""
    signature_size: int = 1024 * 1024
    token_size: int = 64 * 1024
    error_size: int = 64 * 1024
    redirects: int = 5
    connect_timeout: float = 5.0
    """For a connection, and for the look-up of a name."""
    read_timeout: float = 5.0
    """Between two chunks of an answer, the first included: a host that says nothing for so long is given up."""
    stall_timeout: float = 20.0
    """The same for a download."""
    answer_timeout: float = 30.0
    """For one whole answer, however it drips."""
    attempts: int = 4
    """Of one request, the first included."""
    backoff: float = 0.25
    """Before the second attempt; doubles, with jitter."""
    retry_after: float = 30.0
    """The longest `Retry-After` that is waited for."""
    run_budget: float = 120.0
    """Of waiting, over all requests of a run; what is missing then is `unreachable`."""
    concurrency: int = 32
    """Requests under way at once, over all hosts."""
    resume_from: int = 4 * 1024 * 1024
    """A download of fewer bytes that breaks off begins anew."""
    download_timeout: float = 1800.0
    """For a file that has to be read whole to be hashed (https:// images); Apptainer's own limit."""
    helper_timeout: float = 10.0
    """For a credential helper's answer."""
    helper_output: int = 64 * 1024

    def waiting(self, seconds: float | None) -> "Limits":
        """Return these limits with `seconds`, where they are given, in place of the time that a host gets to answer."""
        if seconds is None:
            return self
        return self._replace(
            connect_timeout=seconds,
            read_timeout=seconds,
            stall_timeout=max(seconds, self.stall_timeout),
            answer_timeout=max(seconds, self.answer_timeout),
        )


LIMITS: Final = Limits()


class DiskLimits(NamedTuple):
    """What a file or a program on this machine may make us spend. Sizes in bytes, times in seconds."""

    sif_head: int = 64 * 1024
    """Read of a SIF at once; holds all that Apptainer puts before the file system."""
    sif_read: int = 512 * 1024
    """The most that is read of one SIF, whatever it claims."""
    sif_descriptors: int = 256
    """Apptainer makes room for 48."""
    sif_metadata: int = 256 * 1024
    """The largest labels, definition file or configuration that is read."""
    record_size: int = 64 * 1024
    site_entries: int = 100
    """Fact stores, their owners, or image libraries that one file may name."""
    index_from: int = 200
    """So many records that had to be opened are worth an index."""
    index_size: int = 256 * 1024 * 1024
    chunk: int = 1024 * 1024
    """Of a file that is being hashed or copied."""
    settle: float = 2.0
    """A file that was touched less than this before it was hashed is not trusted by its times (FAT: 2 s, ext3: 1 s)."""
    clock_doubt: float = 3600.0
    """So much may the clock of a file system that cannot be written differ from ours."""
    lease: float = 30.0
    """A lock whose holder, on another host, gave no sign of life for so long is broken. All versions must agree on
    it.
    """
    heartbeat: float = 10.0
    """Between two signs of life of a lock's holder."""
    lock_timeout: float = 24 * 3600.0
    lock_patience: float = 1.0
    """After so long a wait for a lock is shown."""
    lock_poll: float = 0.1
    program_poll: float = 0.01
    pull_timeout: float = 6 * 3600.0
    """For one image: large ones take an hour on a slow file system."""
    pull_attempts: int = 4
    """Of one image, the first included."""
    pull_backoff: float = 1.0
    """Before the second attempt; doubles, with jitter."""
    race_backoff: float = 0.1
    """The same, where two pulls met in Apptainer's cache: a matter of milliseconds."""
    pulls_beside: int = 2
    """So many more images than are fetched at once may be under way, while so many others are past their download."""
    program_timeout: float = 60.0
    """For a program that only says its version."""
    verify_timeout: float = 3600.0
    """For Apptainer to check the signatures inside one image."""
    output_size: int = 64 * 1024
    """The end of a program's output, which is kept for the error message."""
    grace: float = 5.0
    """Between asking a program to end and killing it."""
    leftover: float = 24 * 3600.0
    """An unfinished file that nobody wrote to for so long belongs to no pull any more."""
    claim_size: int = 16 * 1024 * 1024
    """The largest claim of a lock on images, and the largest lock that is read for one."""
    claim_grace: int = 30
    """Days for which a lock that is gone keeps its images."""
    contents_size: int = 16 * 1024 * 1024
    """The largest table of contents of a bundle: some 60,000 images."""
    bundle_file: int = 1024**4
    """The largest file in a bundle."""
    bundle_end: int = 1024 * 1024
    """The most zeros that may follow the last file of a bundle."""
    bag_list: int = 256 * 1024 * 1024
    """The largest list of files of an archive: some two million."""


DISK: Final = DiskLimits()


class LibraryLimits(NamedTuple):
    """What looking for an image in a site's library may spend. Sizes in bytes, times in seconds."""

    depth: int = 6
    """Of folders below the library: a registry, a host, a namespace, ..."""
    entries: int = 200_000
    """Files and folders that are listed of one library; the largest that are known have 110,000."""
    heads: int = 2000
    """Images that one search looks into, of those that no search has looked into before."""
    smallest: int = 8192
    """No SIF with a file system in it is as small."""
    settle: float = 600.0
    """What was touched less than this before, by our clock, is not trusted by its times: a library is not written to,
    so the clock of its file system is not known.
    """
    patience: float = 1.0
    """After so long a search is shown."""


LIBRARY: Final = LibraryLimits()


class TreeLimits(NamedTuple):
    """What comparing an image with its layers may spend. Sizes in bytes, times in seconds."""

    entries: int = 2_000_000
    """In all layers together, and in the image: large images have some hundred thousand. One takes about 0.5 KB."""
    size: int = 1024**4
    """Of all layers unpacked, and of all files of the image: what a bomb can unpack to before it is given up."""
    header: int = 1024 * 1024
    """Of one entry of a tar archive, extended headers included."""
    path: int = 4096
    """Of a path (PATH_MAX)."""
    names: int = 256 * 1024 * 1024
    """Of all names and link targets of an image together: 128 for each of two million entries."""
    config: int = 4 * 1024 * 1024
    chunk: int = 1024 * 1024
    timeout: float = 6 * 3600.0
    """For reading one image's file system."""
    pieces: int = 16
    """Of a layer that wait between the network and who reads it."""
    shown: int = 10
    """Differences that are named."""


TREE: Final = TreeLimits()


class ParallelLimits(NamedTuple):
    """How much is done at once, and what ending it may take. Times in seconds."""

    askers: int = 8
    """Threads that wait for answers of registries, where each asks several questions in turn."""
    waiting_threads: int = 16
    """Threads that wait for a network's file system."""
    batch: int = 256
    """Files that one thread looks at in turn."""
    slow_file: float = 0.001
    """For one file, from which on it is worth a thread."""
    grace: float = 0.5
    """For threads to finish what they are writing, when what they do was interrupted."""


PARALLEL: Final = ParallelLimits()


class RecordLimits(NamedTuple):
    """What the record of a run may hold, and what making or reading one may spend. Sizes in bytes, times in seconds."""

    size: int = 4 * 1024**3
    """Of one record: some five million jobs."""
    line: int = 16 * 1024 * 1024
    """Of one event: a job with some 100,000 outputs."""
    text: int = 64 * 1024
    """Of one value, in characters."""
    argument: int = 4096
    """Of the command line, in characters each; longer ones are cut."""
    arguments: int = 2000
    note: int = 4096
    """What a job's process leaves for the main one."""
    hashed: int = 1024 * 1024
    """An output that is larger is known by its size and time alone."""
    repository_timeout: float = 10.0
    """For each question to git, and for its answers when the run ends."""
    lock_size: int = 16 * 1024 * 1024
    removal: int = 16 * 1024 * 1024
    """Of what says which records were removed: some 60,000 runs that went on at once."""
    seal: int = 64 * 1024
    """Of the signature of a record."""
    seal_timeout: float = 60.0
    """For ssh-keygen to check one."""
    patient_timeout: float = 600.0
    """For ssh-keygen to make one: a person may have to type a passphrase, or to touch a token."""


RECORDS: Final = RecordLimits()


class ScanLimits(NamedTuple):
    """What a scanner of vulnerabilities may spend, and what is read of it. Sizes in bytes, times in seconds."""

    report_size: int = 256 * 1024 * 1024
    """Large images have some tens of megabytes."""
    timeout: float = 1800.0
    """For one image, and the first time for the database."""
    message: int = 4096
    """The end of what it says where it fails."""


SCANS: Final = ScanLimits()
