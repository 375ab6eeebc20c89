"""Pin: what one image file has to be, taken from an entry of the lock for one platform. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Self

from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import PinKind

_LIBRARY_DIGEST: Final = re.compile(r":sha256\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What an image file has to be.

    `url` is what the rule says, and names the file; `digest` what the url names; `manifest` this platform's manifest
    in it, where the lock knows that. `content` is the SHA-256 of the SIF itself where that is what pins it.
    """

    url: str
    reference: str
    digest: Digest
    platform: str
    manifest: Digest | None = None
    content: Digest | None = None

    @classmethod
    def of(cls, entry: Entry, *, platform: str | None = None, kind: PinKind = PinKind.INDEX) -> Self:
        """What the file of a lock's `entry` has to be on a machine of `platform` (``os/architecture``).

        Raises
        ------
        NotLocked
            where a platform's manifest is asked for and the lock has none.
        """
        platform = platform or str(Platform.here())
        url = entry.pinned_to(kind, platform)
        manifest = entry.platforms.get(platform)
        digest = Digest.parse(entry.digest)
        return cls(
            url=url,
            reference=entry.reference,
            digest=_named_by(url) or digest,
            platform=platform,
            manifest=Digest.parse(manifest) if manifest else None,
            content=digest if parse(url).scheme.is_content else None,
        )

    @classmethod
    def held_to(cls, *, url: str, reference: str, digest: Digest) -> Self:
        """What the file of `url` has to be on this machine, where no more is known than the `digest` it is held to."""
        return cls(
            url=url,
            reference=reference,
            digest=_named_by(url) or digest,
            platform=str(Platform.here()),
            content=digest if parse(url).scheme.is_content else None,
        )

    @property
    def scheme(self) -> str:
        """What the url starts with, such as ``docker``."""
        return self.url.partition("://")[0]

    @property
    def architecture(self) -> str:
        """Go's word for the machine's architecture."""
        return self.platform.split("/")[1]

    def names(self, digest: Digest) -> bool:
        """Whether an image that was pulled by `digest` is what this pin names."""
        return digest in (self.digest, self.manifest)


def pins_of(entry: Entry) -> list[Pin]:
    """What a run may hold the image of `entry` to: to the index, and to this platform's manifest where it has one."""
    pins = [Pin.of(entry)]
    if pins[0].manifest is not None and entry.platforms:
        pins.append(Pin.of(entry, kind=PinKind.PLATFORM))
    return list({pin.url: pin for pin in pins}.values())


def _named_by(url: str) -> Digest | None:
    try:
        return Digest.parse(url.rpartition("@")[2])
    except InvalidDigest:
        match = _LIBRARY_DIGEST.search(url)
        return Digest(algorithm="sha256", hex=match[1]) if match else None
