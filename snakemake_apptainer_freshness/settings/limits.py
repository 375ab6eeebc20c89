"""Limits: caps and timeouts on what a registry, a file or a program can make us do; they are not for users to set.

They are named tuples because every job imports this module: a dataclass of that many fields takes several times as long
to make.
"""

from typing import Final, NamedTuple


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
    lock_unclaimed: float = 5.0
    """A lock that says for so long not who holds it is removed: its holder was killed before it wrote that."""
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
    """An unfinished file that no process wrote to for this long belongs to no pull any more."""
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
