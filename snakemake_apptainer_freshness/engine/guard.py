"""The guard of one image: gives its path to a job only while the file there is what its pin names.

It is asked in the process that is about to run the image, right before it does: the file must still have the hash that
was proven. That costs a ``stat``, unless the file was touched.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.errors import UnprovenImage
from snakemake_apptainer_freshness.freshness import (
    Action,
    DiskFact,
    DiskState,
    Evidence,
    FileHash,
    Reason,
    Repairable,
    decide,
)
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store.held import ImageKey, held, key_of

OnImage = Callable[[str, DiskFact, ImageKey | None], None]
"""Is called each time that a job is about to run an image: its url, what its file is, and its key before that."""

WHAT_NEXT: Final = "fetch a proven one with: apptainer-freshness verify --repair"


class Guard:
    """Guards the file at `place`, which has to be what `pin` names; `is_local` where it is a user's own file."""

    def __init__(
        self,
        pin: Pin,
        place: Path,
        *,
        options: Options,
        hashes: dict[str, FileHash],
        on_image: OnImage,
        is_local: bool = False,
        what_next: str = WHAT_NEXT,
    ) -> None:
        """Prepare to guard.

        `hashes` has what the images of this run hashed to when they were proven, by their url; it is its owner's, not a
        copy. `what_next` is what a user can do about an image that is refused.
        """
        self.pin = pin
        self.place = place
        self.is_local = is_local
        self._options = options
        self._on_image = on_image
        self._what_next = what_next
        self._hashes = hashes

    def path(self) -> str:
        """Return where the file is, for a job that is about to run it.

        Raises
        ------
        UnprovenImage
            where it is there, and not what the pin names.
        """
        before: ImageKey | None = key_of(self.place)
        fact = self.fact()
        if fact.state is not DiskState.VERIFIED and not self.is_local:
            served, served_before = self._served()
            if served is not None and (served.state is DiskState.VERIFIED or fact.state is DiskState.ABSENT):
                fact, before = served, served_before
                self._keep(fact)
        self._on_image(self.pin.url, fact, before)
        decision = decide(Evidence(disk=fact), self._options, repairable=Repairable.NOTHING)
        if decision.action is Action.REFUSE and decision.reason is not Reason.MISSING:  # then the job says so itself
            raise UnprovenImage(
                f"will not run the image of {self.pin.reference.text}: {describe(fact)}", hint=self._what_next
            )
        return fact.path if fact.state is DiskState.VERIFIED else str(self.place)

    def where(self) -> Path:
        """Return where the file is, or will be, whatever it is: in its place, or where a site's library has it."""
        if self.is_local or self.place.exists():
            return self.place
        served, _ = self._served()
        return self.place if served is None or served.state is not DiskState.VERIFIED else Path(served.path)

    def fact(self) -> DiskFact:
        """Return what the file is to the pin; what it hashes to once it is proven is kept in memory."""
        known = self._hashes.get(self.pin.url)
        fact = self._checked() if known is None else held(self.place, known)
        self._keep(fact)
        return fact

    # The process of a job got the hash with its pin, and in most runs needs neither of the modules below.

    def _checked(self) -> DiskFact:
        from snakemake_apptainer_freshness.actions.check import check_one

        return check_one(self.pin, self.place)

    def _served(self) -> tuple[DiskFact | None, ImageKey | None]:
        """Return what lies where a site's library had the image, and its key before that; None where none had it."""
        from snakemake_apptainer_freshness.actions.library_images import look_at, place_before

        path = place_before(self.pin, self._options.images)
        if path is None:
            return None, None
        before = key_of(path)
        fact = look_at(self.pin, path, hashed=self._hashes.get(self.pin.url))
        return fact, fact.survey or before

    def _keep(self, fact: DiskFact) -> None:
        if fact.known is not None:
            self._hashes[self.pin.url] = fact.known


def describe(fact: DiskFact) -> str:
    """Return what `fact` says of a file, as a part of a message."""
    return f"{fact.path} is {fact.state}{f': {fact.detail}' if fact.detail else ''}"
