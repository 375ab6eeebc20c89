"""Signatures inside SIF files: who signed all that is in one, as ``apptainer verify`` says it.

All objects of the file have to be signed (``--all``): one that is not, such as an overlay that was added later, would
be mounted with the others. Only keys of this user's own keyring count (``--local``): no key server is asked, which
would give out whatever key a file names. What the program does not plainly call good is not.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.errors import MissingProgram, redact
from snakemake_apptainer_freshness.settings import DISK

_FILE_SYSTEM: Final = "FS"
_CHECKS: Final = ("KeyLocal", "KeyCheck", "DataCheck")
_SHOWN: Final = 300


class NotSignedInside(Exception):
    """A SIF file is not signed as a whole; the text says why."""


def signers(program: Apptainer, image: Path) -> frozenset[str]:
    """Return the fingerprints, in upper case, of all keys that have signed what is in the SIF file `image`.

    Raises
    ------
    NotSignedInside
        where an object of it is not signed, or not with a key that this user has.
    MissingProgram
        where the program cannot be started.
    """
    command = [program.program, "verify", "--all", "--local", "--json", str(image)]
    try:
        result = subprocess.run(
            command,
            env=dict(program.environment),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=DISK.verify_timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotSignedInside(f"{program.program} verify did not end in {DISK.verify_timeout:.0f} s") from None
    except OSError as error:
        raise MissingProgram(f"{program.program} does not start: {error.strerror}") from error
    if result.returncode != 0:
        raise NotSignedInside(_reason(result.stderr))
    return parse(result.stdout)


def parse(answer: str) -> frozenset[str]:
    """Return the fingerprints in the `answer` of a program that found nothing wrong; raises as :func:`signers`."""
    try:
        document = json.loads(answer)
        objects = [key["Signer"] for key in document["SignerKeys"]]
        fingerprints = frozenset(str(signer["Fingerprint"]).upper() for signer in objects)
        is_good = all(_is_good(signer) for signer in objects)
        has_system = any(signer["Partition"] == _FILE_SYSTEM for signer in objects)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotSignedInside("the program's answer is not understood") from None
    if not is_good or not has_system:
        raise NotSignedInside("a signature in it is not good, or its file system is not signed")
    return fingerprints


def _is_good(signer: dict[str, Any]) -> bool:
    return all(signer[check] is True for check in _CHECKS)


def _reason(printed: str) -> str:
    """Return the last line of what the program said, without its word for how bad that is."""
    last = next(iter(reversed(redact(printed).strip().splitlines())), "")  # a secret may begin on the line before
    return (last.partition(":")[2].strip() or last)[:_SHOWN] or "the program does not say why"
