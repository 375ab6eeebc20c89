"""Seals: SSH signatures of run records, made and checked by OpenSSH's ``ssh-keygen -Y`` as git does it.

A seal is a file of its own beside the record, ``<id>.json.sig``: an armoured SSH signature of the record's bytes, in a
namespace that is used for nothing else, so that no other signature of the same key can stand for one. Since each record
names the SHA-256 of the one before it, a seal vouches for all records from which its own follows.

* The key never comes near this program: ssh-keygen reads it, asks for its passphrase, or has an agent sign.
* What is checked are the bytes that were judged: the record is read anew and has to have the SHA-256 that it had then.
* A seal may have been put there by another user: it is read by its size and handed on as a file of our own.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small, write_atomically
from snakemake_apptainer_freshness.errors import LocalIOError, MissingProgram, UsageError, one_line
from snakemake_apptainer_freshness.record.run import Ending, Run
from snakemake_apptainer_freshness.settings import DISK, RECORDS

NAMESPACE: Final = "snakemake-apptainer-freshness-record"
"""Of the signature (``PROTOCOL.sshsig`` of OpenSSH)."""
REMOVAL: Final = "snakemake-apptainer-freshness-removal"
"""The same, of what says which records were removed: no seal of a record can stand for one of these."""
SUFFIX: Final = ".sig"
_KEYS: Final = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")
"""The names that ssh-keygen gives to keys, in ``~/.ssh``."""
_KEY: Final = re.compile(r"with (\S+ key \S+)")
_UNTRANSLATED: Final = {"LC_ALL": "C"}


class SealState(StrEnum):
    """What a seal is."""

    GOOD = "good"
    """By an allowed signer."""
    UNCHECKED = "unchecked"
    """By the key that it names; nothing says whose key that is."""
    STRANGER = "stranger"
    """By a key of no allowed signer."""
    BROKEN = "broken"
    """Not of these bytes, or no signature at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The seal of the record of `run`: what it is, by whom as far as that is known, and by which key."""

    run: str
    state: SealState
    signer: str = ""
    key: str = ""
    detail: str = ""


def seal_of(record: Path) -> Path:
    """Return where the seal of `record` lies."""
    return record.with_name(record.name + SUFFIX)


def default_key() -> Path:
    """Return the user's own SSH key: the first of those that ssh-keygen makes by itself.

    Raises
    ------
    UsageError
        where there is none.
    """
    folder = Path.home() / ".ssh"
    for name in _KEYS:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"there is no SSH key in {folder} to seal with",
        hint="name one with --seal-key FILE, or make one: ssh-keygen -t ed25519",
    )


def sign(run: Run, key: Path) -> Path:
    """Seal the record of `run` with the SSH `key` (a private key, or a public one that an agent has); the seal's file.

    Raises
    ------
    UsageError
        where the run goes on, or its record cannot be read.
    MissingProgram
        where ssh-keygen is not there.
    LocalIOError
        where it does not sign, or the seal cannot be written.
    """
    if run.ending is Ending.RUNNING:
        raise UsageError(f"run {run.id} is under way: its record cannot be sealed yet", hint="seal when it has ended")
    if not run.started:
        raise UsageError(f"the record of run {run.id} cannot be sealed: {run.problem}", hint="restore it from a backup")
    return sign_file(Path(run.file), run.sha256, key)


def sign_file(record: Path, sha256: str, key: Path, *, namespace: str = NAMESPACE) -> Path:
    """Seal the file `record`, whose bytes have this `sha256`, in `namespace`; raises as :func:`sign` does."""
    if not key.is_file():
        raise UsageError(f"the SSH key {key} is not a file", hint="name a private key, or a public key of your agent")
    answer = _answer(["sign", "-f", str(key), "-n", namespace], record, sha256, patient=True)
    if answer is None or not answer.agreed:
        why = "it changed meanwhile" if answer is None else answer.why_not
        raise LocalIOError(
            f"cannot seal the record {record} with {key}: {why}",
            hint=f"see whether the key can be used: ssh-keygen -y -f {key}; a public key needs an agent that has it",
        )
    try:
        write_atomically(seal_of(record), answer.printed)
    except OSError as error:
        raise LocalIOError(
            f"cannot write the seal {seal_of(record)}: {error.strerror}", hint="make its folder writable"
        ) from error
    return seal_of(record)


def check(run: Run, allowed: Path | None) -> Seal | None:
    """Return what the seal of the record of `run` is; None where it has none.

    `allowed` is a file of allowed signers (``ssh-keygen(1)``), None where there is none: then whose key it was is open.

    Raises
    ------
    MissingProgram
        where ssh-keygen is not there.
    """
    return check_file(Path(run.file), run.sha256, run.id, allowed)


def check_file(
    record: Path, sha256: str, name: str, allowed: Path | None, *, namespace: str = NAMESPACE
) -> Seal | None:
    """As :func:`check`, for the file `record` of this `sha256`, which the seal calls `name`."""
    try:
        content = read_small(seal_of(record), RECORDS.seal)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, NotAFile) as error:
        return Seal(run=name, state=SealState.BROKEN, detail=f"its seal cannot be read: {one_line(error)}")
    with _file_of_our_own(content) as signature:
        if allowed is not None:
            for signer in _signers(signature, allowed):
                arguments = ["verify", "-f", str(allowed), "-I", signer, "-n", namespace, "-s", str(signature)]
                answer = _answer(arguments, record, sha256)
                if answer is not None and answer.agreed:
                    return Seal(run=name, state=SealState.GOOD, signer=one_line(signer), key=answer.key)
        answer = _answer(["check-novalidate", "-n", namespace, "-s", str(signature)], record, sha256)
    if answer is None or not answer.agreed:
        why = "it changed while it was read" if answer is None else answer.why_not
        return Seal(run=name, state=SealState.BROKEN, detail=why)
    state = SealState.UNCHECKED if allowed is None else SealState.STRANGER
    return Seal(run=name, state=state, key=answer.key)


def _signers(signature: Path, allowed: Path) -> Sequence[str]:
    """Return the allowed signers whose key made `signature`."""
    with _started(["find-principals", "-s", str(signature), "-f", str(allowed)]) as process:
        printed, _ = process.communicate()
    return printed.decode("utf-8", "replace").splitlines() if process.returncode == 0 else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The answer of ssh-keygen."""

    agreed: bool
    printed: bytes
    complaint: bytes

    @property
    def key(self) -> str:
        """The key that it names, such as ``ED25519 key SHA256:…``."""
        match = _KEY.search(self.printed.decode("utf-8", "replace"))
        return one_line(match[1]) if match else ""

    @property
    def why_not(self) -> str:
        """Why it did not agree."""
        return one_line(self.complaint.decode("utf-8", "replace") or self.printed.decode("utf-8", "replace"))


def _answer(arguments: Sequence[str], record: Path, sha256: str, *, patient: bool = False) -> _Answer | None:
    """Return what ``ssh-keygen -Y`` says of the bytes of `record`; None where these have another `sha256` by now.

    It gets as long as a person needs who types a passphrase or touches a token where this is `patient`.
    """
    try:
        with opened(record) as file, _started(arguments, patient=patient) as process:
            digest = hashlib.sha256()
            assert process.stdin is not None  # noqa: S101  a pipe
            while piece := file.read(DISK.chunk):
                digest.update(piece)
                with contextlib.suppress(BrokenPipeError):  # it has seen enough to refuse
                    process.stdin.write(piece)
            printed, complaint = process.communicate()
    except (OSError, NotAFile):
        return None
    if digest.hexdigest() != sha256:
        return None
    return _Answer(agreed=process.returncode == 0, printed=printed, complaint=complaint)


@contextlib.contextmanager
def _started(arguments: Sequence[str], *, patient: bool = False) -> "Iterator[subprocess.Popen[bytes]]":
    """Provide a process ``ssh-keygen -Y``, which is over at the end of the block."""
    try:
        process = subprocess.Popen(
            ["ssh-keygen", "-Y", *arguments],
            env=os.environ | _UNTRANSLATED,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise MissingProgram(
            f"cannot run ssh-keygen: {error.strerror}", hint="seals need OpenSSH 8.2 or later: install its client"
        ) from error
    end = threading.Timer(RECORDS.patient_timeout if patient else RECORDS.seal_timeout, process.kill)
    end.start()
    try:
        with process:
            yield process
    except BaseException:
        process.kill()
        raise
    finally:
        end.cancel()


@contextlib.contextmanager
def _file_of_our_own(content: bytes) -> Iterator[Path]:
    """Provide a file with `content` that no other user can change."""
    with tempfile.NamedTemporaryFile(prefix="apptainer-freshness-", suffix=SUFFIX) as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
