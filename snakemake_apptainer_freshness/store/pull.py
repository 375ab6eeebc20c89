"""The trusted pull: one image, under a temporary name, with a proof of what it is; or an error.

Apptainer would reuse whatever its cache has under a digest's key, and its cache proves nothing. So, for one pin:

1. **Copy** an entry of the cache that hashes to what is known to be this digest's image (:mod:`.store.facts`). That
   needs neither a registry nor Apptainer.
2. Else **make room**: whatever Apptainer would reuse is moved aside, kept under a name that says so. Under our lock
   of that digest, so that two runs do not undo each other's work.
3. **Pull by digest**, into the empty slot. Apptainer (>= 1.4) checks the manifest, and layers as it downloads them;
   but layers that it has already it takes unseen. So what it built from is hashed afterwards; what is damaged is
   moved aside.
4. **Examine** the result: a sound SIF, labelled with this very digest, for this machine; then hash it. Of what it
   hashed to it is known from then on what it is, the cache's entry included, which is the same bytes.

Where the cache is turned off, not ours to write, of a version that keeps no manifests, or got in the way: pull past
it (``--disable-cache``), so that every byte comes from the registry and is checked on the way.
"""

import contextlib
import hashlib
import os
import random
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.apptainer.failures import Again, AttemptFailed
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.files import NotAFile, opened, quarantine, sha256_of, status_of
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.own_folder import folder_of
from snakemake_apptainer_freshness.common.removal import remove_tree
from snakemake_apptainer_freshness.common.sharing import link, replace_by_same, share
from snakemake_apptainer_freshness.errors import CorruptImage, FreshnessError, LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, places, records
from snakemake_apptainer_freshness.store.classify import wrong_architecture
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.places import PlaceFact

_MODE: Final = 0o755

Tell = Callable[[str], None]
"""Is told in one line what a person should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """An image under a temporary name: what it hashes to, and how it came."""

    sha256: str
    size: int
    apptainer: str
    proven_by: ProvenBy
    proven_at: str
    manifest: Digest | None = None
    """The platform's manifest, where it was hashed."""
    known: ContentFact | None = None
    """What a site's fact store says of it, where that is all the proof there is: it stays the site's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Callbacks about the pull of one image.

    `note` is told in one line what is being done, `downloaded` that the registry is needed no more, if that is seen.
    """

    note: Tell
    downloaded: Callable[[], None]


class _Unproven(Exception):
    """What was pulled through the cache cannot be proven; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSource:
    """Where images come from: the program, found when it is first needed, and its cache, if there is one to use."""

    program: Callable[[], Apptainer]
    cache: CacheFolder | None
    stop: threading.Event
    manifest: Callable[[Pin], Digest | None]
    """Gives the manifest of this platform that a pin leads to, as it was hashed; None where that is not known."""


def obtain(pin: Pin, temporary: Path, source: PullSource, watch: Watch) -> Obtained:
    """Put the image of `pin` under the name `temporary`, which must not be there, and prove it.

    Raises
    ------
    PullFailed, MissingProgram, LocalIOError, UnprovenImage
        where that cannot be done; nothing is left under `temporary`.
    InterruptedError
        where the source was stopped.
    """
    try:
        if source.cache is not None and (copied := _copy_proven(pin, temporary, source.cache)):
            return copied
        return _pull(pin, temporary, source, watch)
    except OSError as error:
        _remove(temporary)
        if isinstance(error, InterruptedError):
            raise
        raise LocalIOError(
            f"cannot write the image of {pin.reference.text} to {folder_of(temporary)}: {error.strerror or error}",
            hint="make room there, or choose another folder with --apptainer-prefix",
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def _pull(pin: Pin, temporary: Path, source: PullSource, watch: Watch) -> Obtained:
    program = source.program()
    note = watch.note
    shared = _shareable(pin, source, program)
    for attempt in range(1, DISK.pull_attempts + 1):
        last = attempt == DISK.pull_attempts
        cache = shared if not last else None  # the last attempt does without the cache, in case that it is the cause
        try:
            if cache is None:
                return _pull_past_cache(pin, temporary, source, watch)
            return _pull_through_cache(pin, temporary, cache, source, watch)
        except AttemptFailed as error:
            if last or error.final or (cache is None and error.again is Again.NEVER):
                raise
            note(f"attempt {attempt} failed, trying again: {error.message.splitlines()[0]}")
            if error.again is not Again.NEVER:
                pause = DISK.race_backoff if error.again is Again.SOON else DISK.pull_backoff
                source.stop.wait(pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
            else:  # it would fail again with this cache; past it, it may succeed
                _leave(pin, shared, source, note)
                shared = None
        except _Unproven as reason:
            note(f"pulling past Apptainer's cache: {reason}")
            shared = None
        _remove(temporary)
    raise AssertionError  # the last attempt returns or raises


def _leave(pin: Pin, cache: CacheFolder | None, source: PullSource, note: Tell) -> None:
    """Give a cache up that a pull failed with; if damaged layers were why, they are moved aside."""
    with contextlib.suppress(_Unproven, OSError):
        if cache is not None:
            _prove_blobs(pin, cache, source, note)


def _shareable(pin: Pin, source: PullSource, program: Apptainer) -> CacheFolder | None:
    """Return the cache, where a build through it can be proven and the cache is ours."""
    cache = source.cache
    usable = pin.pinned.scheme is Scheme.DOCKER and program.keeps_manifests and cache is not None and cache.usable
    return cache if usable and source.manifest(pin) is not None else None


def _pull_past_cache(pin: Pin, temporary: Path, source: PullSource, watch: Watch) -> Obtained:
    program = source.program()
    program.pull(pin.url, temporary, use_cache=False, stop=source.stop, downloaded=watch.downloaded)
    return _examine(pin, temporary, program)


def _pull_through_cache(pin: Pin, temporary: Path, cache: CacheFolder, source: PullSource, watch: Watch) -> Obtained:
    program = source.program()
    note = watch.note
    slot = cache.root / "oci-tmp" / pin.digest.hex
    try:
        slot.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(
            slot, waiting=lambda who: note(f"waiting for {who}, which pulls the same image"), stop=source.stop
        ):
            if copied := _copy_proven(pin, temporary, cache):
                return copied
            _make_room(pin, cache, note)
            reused = program.pull(pin.url, temporary, use_cache=True, stop=source.stop, downloaded=watch.downloaded)
            if reused:
                raise _Unproven("another program put an image into it at the same time")
            obtained = _examine(pin, temporary, program)
            _prove_blobs(pin, cache, source, note)
            _remember_entry(pin, cache, obtained)
            _store_once(pin, cache, temporary)
            return obtained
    except (PermissionError, LocalIOError) as error:
        raise _Unproven(f"it is not ours to write ({error})") from None


def _make_room(pin: Pin, cache: CacheFolder, note: Tell) -> None:
    """Move aside what Apptainer would reuse; nothing of it is proven, or it would have been copied."""
    for path in cache.candidates(pin):
        if aside := quarantine(path):
            note(f"Apptainer's cache has an unproven image under this digest; moved aside as {aside.name}")
        places.forget(path)
        with contextlib.suppress(FileNotFoundError):
            records.path_of(path).unlink()


def _prove_blobs(pin: Pin, cache: CacheFolder, source: PullSource, note: Tell) -> None:
    """Hold all that Apptainer built from to what the manifest names; what is not is moved aside."""
    manifest = source.manifest(pin)
    damaged = cache.damaged_blobs(manifest) if manifest is not None else None
    if damaged is None:
        raise _Unproven("it does not hold the manifest that the image was built from")
    for path in damaged:
        if aside := quarantine(path):
            note(f"a layer in Apptainer's cache is not what its name says; moved aside as {aside.name}")
    if damaged:
        for path in cache.candidates(pin):  # Apptainer has just built this entry from them
            quarantine(path)
        raise _Unproven("it holds damaged layers of this image")


def _remember_entry(pin: Pin, cache: CacheFolder, obtained: Obtained) -> None:
    """Keep what we pulled into the cache; Apptainer has copied the file from there, so it is the same bytes."""
    fact = fact_of(pin, obtained)
    with contextlib.suppress(OSError):
        facts.keep(fact)
        for path in cache.candidates(pin):
            places.keep(path, PlaceFact.of(fact))


def _store_once(pin: Pin, cache: CacheFolder, temporary: Path) -> None:
    """Let the cache's entry and the image, which are the same bytes, take their room once, where that can be done.

    The entry is given the image's bytes, which were hashed, and not the other way round: what was put into the cache
    meanwhile by another program could be something else.
    """
    for path in cache.candidates(pin):
        with contextlib.suppress(OSError, NotAFile):
            if status_of(path).st_size == temporary.lstat().st_size:
                replace_by_same(path, temporary)


def _copy_proven(pin: Pin, temporary: Path, cache: CacheFolder) -> Obtained | None:
    """Return a copy of an entry of the cache that is provably what `pin` names; None where there is none."""
    for path in cache.candidates(pin):
        if (copied := copy_image(pin, path, temporary, may_link=True)) is not None:
            return copied
    return None


def copy_image(pin: Pin, path: Path, temporary: Path, *, may_link: bool = False) -> Obtained | None:
    """Return a copy, named `temporary`, of the SIF at `path` where it is known to be what `pin` names; else None.

    `may_link` says that a hard link will do, which changes the times of the file at `path`.
    """
    proven = [fact for fact in facts.about(pin) if not fact.refuted]
    with contextlib.suppress(OSError, NotAFile):
        size = status_of(path).st_size
        if not any(fact.size == size for fact in proven):
            return None
        fact = facts.proving(proven, _copy(path, temporary, may_link=may_link))
        if fact is None:
            _remove(temporary)
            return None
        return Obtained(
            sha256=fact.sha256,
            size=fact.size,
            apptainer=fact.apptainer,
            proven_by=ProvenBy.COPIED,
            proven_at=facts.now(),
            manifest=fact.manifest,
            known=fact if fact.store else None,
        )
    return None


def _copy(path: Path, temporary: Path, *, may_link: bool) -> str:
    """Copy the file at `path`; the SHA-256 of what was copied, empty where it cannot be read."""
    try:
        if may_link and link(path, temporary):
            return _hashed_copy(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)  # an image can be executed
        with open(descriptor, "wb", buffering=0) as copy, opened(path) as file:  # noqa: PTH123  a descriptor
            if share(file.fileno(), descriptor):
                return _hashed_copy(temporary)
            sha256 = _copy_bytes(file, copy.fileno())
    except (NotAFile, CorruptImage, FileNotFoundError, PermissionError):
        _remove(temporary)
        return ""
    _close_to_others(temporary)
    return sha256


def _copy_bytes(file: BinaryIO, copy: int) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(DISK.chunk))
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # an unbuffered file
        digest.update(buffer[:count])
        _write_all(copy, buffer[:count])
    return digest.hexdigest()


def _hashed_copy(temporary: Path) -> str:
    """Return the SHA-256 of a copy that shares its bytes with what it was made of, and is read only now."""
    _close_to_others(temporary)
    with opened(temporary) as file:
        return sha256_of(file)


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _examine(pin: Pin, temporary: Path, program: Apptainer) -> Obtained:
    """Hold what was just pulled to what `pin` names, as far as it can say so.

    Raises
    ------
    UnprovenImage
        where it is not.
    """
    try:
        _close_to_others(temporary)
        image = sif.read(temporary)
    except FileNotFoundError:
        raise _refused(pin, "Apptainer says that it pulled it, but made no file") from None
    except CorruptImage as error:
        raise _refused(pin, error.message) from None
    if problem := wrong_architecture(image, pin):
        raise _refused(pin, problem)
    if pin.pinned.scheme is Scheme.DOCKER and not (image.pulled_digest and pin.names(image.pulled_digest)):
        raise _refused(pin, f"its label says that it was pulled as {image.pulled_reference or 'something else'}")
    with opened(temporary) as file:
        sha256, size = sha256_of(file), os.fstat(file.fileno()).st_size
    if pin.content is not None and sha256 != pin.content.hex:
        raise _refused(pin, f"its SHA-256 is {sha256}, which the reference does not name")
    return Obtained(
        sha256=sha256,
        size=size,
        apptainer=program.version,
        proven_by=ProvenBy.PULLED,
        proven_at=facts.now(),
        manifest=facts.manifest_of(pin.digest, pin.platform),
    )


def _refused(pin: Pin, reason: str) -> FreshnessError:
    return UnprovenImage(
        f"what Apptainer pulled for {pin.url} is not that image: {reason}",
        hint="do not use it; a registry or a mirror in between may serve something else (see registries.conf)",
    )


def fact_of(pin: Pin, obtained: Obtained) -> ContentFact:
    """Return what is known of an image that was obtained for `pin`."""
    return ContentFact(
        sha256=obtained.sha256,
        size=obtained.size,
        digest=pin.digest,
        platform=pin.platform,
        manifest=obtained.manifest,
        pinned=pin.url,
        reference=pin.reference.text,
        proven_by=obtained.proven_by,
        proven_at=obtained.proven_at,
        apptainer=obtained.apptainer,
    )


def _close_to_others(path: Path) -> None:
    """Let no other user write to the file; what Apptainer made follows the umask, which may allow that.

    Raises
    ------
    CorruptImage
        where it is no regular file; what a link in its place leads to keeps its mode.
    OSError
        where it is not there, or belongs to another user.
    """
    try:
        with opened(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & ~_MODE:
                os.fchmod(file.fileno(), mode & _MODE)
    except NotAFile as error:
        raise CorruptImage(f"it is {error}") from None


def _remove(temporary: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            temporary.unlink()
        except IsADirectoryError:  # what a program leaves that is asked for an image is its own choice
            remove_tree(temporary)
