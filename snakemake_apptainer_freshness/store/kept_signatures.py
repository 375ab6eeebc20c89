"""Signatures that were good once: kept as they are, by the digest that they sign, and checked anew wherever they count.

They lie in the user's own state folder (:mod:`.store.state`), so that a run without a network finds what an earlier one
has seen. A signature is kept whole and not as a note that it was good: a policy that names another key next year is not
satisfied by this year's check. Of signatures inside a SIF file, which Apptainer alone reads, what it said is kept, by
the file's SHA-256. What lies in a folder that came with a workflow is not looked at.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.signature import Signature
from snakemake_apptainer_freshness.settings import LIMITS
from snakemake_apptainer_freshness.store import state

VERSION: Final = 1
_FOLDER: Final = "signatures"
_SUFFIX: Final = ".json"
_LARGEST: Final = 2 * LIMITS.signature_size
"""As base64, with all that stands around it."""


def keep(digest: Digest, signatures: Iterable[Signature]) -> None:
    """Keep `signatures` of the image `digest`, which were found to be good; raises OSError where it cannot."""
    for signature in signatures:
        path = _folder_of(digest) / f"{signature.sha256}{_SUFFIX}"
        if not path.exists():
            state.write(path, signature.dumps())


def known(digest: Digest) -> tuple[Signature, ...]:
    """Return what is kept of the image `digest`; what cannot be read, or is called otherwise, is left out."""
    signatures: list[Signature] = []
    folder = _folder_of(digest)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder))[: LIMITS.signatures]:  # noqa: PTH208  names are all that is needed
            content = state.read(folder / name, _LARGEST)
            with contextlib.suppress(ValueError):
                signature = Signature.loads(content or b"")
                signatures += [signature] if name == f"{signature.sha256}{_SUFFIX}" else []
    return tuple(signatures)


def keep_inside(sha256: str, fingerprints: Iterable[str]) -> None:
    """Keep that the keys of `fingerprints`, and no others, signed the SIF file `sha256`; raises OSError."""
    table = {"version": VERSION, "signed_by": sorted(fingerprints)}
    state.write(_inside(sha256), (json.dumps(table) + "\n").encode())


def inside(sha256: str) -> frozenset[str]:
    """Return the fingerprints of the keys that are known to have signed the SIF file `sha256`; none where none is."""
    content = state.read(_inside(sha256), _LARGEST)
    with contextlib.suppress(Damaged):
        if content is not None:
            return frozenset(Table.versioned(read_json(content), VERSION, frozenset({"signed_by"})).texts("signed_by"))
    return frozenset()


def _inside(sha256: str) -> Path:
    return state.folder() / _FOLDER / "inside" / sha256[:2] / f"{sha256}{_SUFFIX}"


def _folder_of(digest: Digest) -> Path:
    return state.folder() / _FOLDER / digest.hex[:2] / f"{digest.algorithm}-{digest.hex}"
