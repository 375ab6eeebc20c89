"""Facts of place: what the file at a path hashed to when it was last looked at; a cache of hashes and no more.

One small file an image, in the user's state folder (:mod:`.store.state`), under the real path of its folder. It names
the fact of content (:mod:`.store.facts`) that was found to hold, and the stat key under which the file was hashed, so
that the next check is a ``stat``. A key is kept only once the image's times are two seconds older than the hashing by
the clock of the file system itself; until then every check hashes anew.
"""

import contextlib
import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, state
from snakemake_apptainer_freshness.store.facts import ContentFact

VERSION: Final = 1
_PLACES: Final = "places"
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFact:
    """That a file hashed to `sha256`, of which a fact says what it is to `digest` on `platform`.

    `stat` is the key under which it was hashed, where that is to be trusted. `writable_by_all` says that the folder's
    file system gives every file that mode, so that the mode says nothing. Of a sandbox folder `survey` is the key of
    all its files (:func:`.apptainer.sandbox.survey`), in place of `stat`.
    """

    sha256: str
    digest: Digest
    platform: Platform
    stat: StatKey | None = None
    writable_by_all: bool = False
    survey: str = ""

    @classmethod
    def of(
        cls, fact: ContentFact, *, stat: StatKey | None = None, writable_by_all: bool = False, survey: str = ""
    ) -> Self:
        """Return the fact of the place where the SIF of `fact` lies."""
        return cls(
            sha256=fact.sha256,
            digest=fact.digest,
            platform=fact.platform,
            stat=stat,
            writable_by_all=writable_by_all,
            survey=survey,
        )

    @property
    def content(self) -> ContentFact | None:
        """The fact of content that this names, where it is known."""
        return facts.find(self.digest, self.platform, self.sha256)

    def dumps(self) -> bytes:
        """Return the fact as it is written."""
        table = {
            "version": VERSION,
            "sha256": self.sha256,
            "digest": str(self.digest),
            "platform": str(self.platform),
            "stat": self.stat.to_dict() if self.stat else None,
            "writable_by_all": self.writable_by_all,
            "survey": self.survey,
        }
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the fact that `content` spells; raises Damaged where it is none, or of a newer version."""
        table = Table.versioned(read_json(content), VERSION, _KEYS)
        return cls(
            sha256=table.hex("sha256", may_be_empty=False),
            digest=table.parsed("digest", Digest.parse),
            platform=table.parsed("platform", Platform.parse),
            stat=StatKey.read(table, "stat"),
            writable_by_all=table.yes_or_no("writable_by_all"),
            survey=table.hex("survey"),
        )


_KEYS: Final = frozenset(field.name for field in fields(PlaceFact))


def path_of(image: Path) -> Path:
    """Return where the fact of the file `image` lies."""
    return folder_of(image.parent) / f"{image.name}.json"


def folder_of(folder: Path) -> Path:
    """Return where the facts of the files in `folder` lie."""
    return state.folder() / _PLACES / _key_of(str(folder))


@lru_cache(maxsize=256)
def _key_of(folder: str) -> str:
    """Return the key of `folder`, once resolved: where a link is led elsewhere meanwhile, no stat key fits there."""
    return state.key_of(Path(folder).absolute())


def load(image: Path) -> PlaceFact | None:
    """Return what is known of the file at `image`; None where nothing is."""
    content = state.read(path_of(image), DISK.record_size)
    with contextlib.suppress(Damaged):
        return PlaceFact.loads(content) if content is not None else None
    return None


def keep(image: Path, place: PlaceFact) -> None:
    """Keep `place` for the file `image`; raises OSError where that cannot be done."""
    state.write(path_of(image), place.dumps())


def forget(image: Path) -> None:
    """Forget what the file `image` was."""
    with contextlib.suppress(OSError):
        path_of(image).unlink()
