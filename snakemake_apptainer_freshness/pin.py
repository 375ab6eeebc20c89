"""Pin: what one image file has to be, taken from an entry of the lock for one platform. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import PinKind

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.lockfile import Entry  # the processes of jobs read no lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What an image file has to be.

    `pinned` is what the rule says, and names the file; `digest` what that names; `manifest` this platform's manifest
    in it, where the lock knows that. `content` is the SHA-256 of the SIF itself where that is what pins it.
    """

    reference: Reference
    pinned: Reference
    digest: Digest
    platform: Platform
    manifest: Digest | None = None
    content: Digest | None = None

    @classmethod
    def of(cls, entry: "Entry", *, platform: Platform | None = None, kind: PinKind = PinKind.INDEX) -> Self:
        """Return what the file of a lock's `entry` has to be on a machine of `platform`, by default this one's.

        Raises
        ------
        NotLocked
            where a platform's manifest is asked for and the lock has none.
        """
        platform = platform or Platform.here()
        pinned = entry.pinned_to(kind, platform)
        return cls(
            reference=entry.reference,
            pinned=pinned,
            digest=pinned.digest or entry.digest,
            platform=platform,
            manifest=entry.platforms.get(platform),
            content=entry.digest if pinned.scheme.is_content else None,
        )

    @classmethod
    def held_to(cls, *, pinned: Reference, reference: Reference, digest: Digest) -> Self:
        """Return what the file of `pinned` has to be here, where no more is known than the `digest` it is held to."""
        return cls(
            reference=reference,
            pinned=pinned,
            digest=pinned.digest or digest,
            platform=Platform.here(),
            content=digest if pinned.scheme.is_content else None,
        )

    @property
    def url(self) -> str:
        """The text that the rule says, by which Snakemake and Apptainer name the image's file."""
        return self.pinned.text

    def names(self, digest: Digest) -> bool:
        """Return whether an image that was pulled by `digest` is what this pin names."""
        return digest in (self.digest, self.manifest)


def pins_of(entry: "Entry") -> list[Pin]:
    """Return what a run may hold the image of `entry` to: its index, and this platform's manifest."""
    pins = [Pin.of(entry)]
    if pins[0].manifest is not None and entry.platforms:
        pins.append(Pin.of(entry, kind=PinKind.PLATFORM))
    return list({pin.url: pin for pin in pins}.values())
