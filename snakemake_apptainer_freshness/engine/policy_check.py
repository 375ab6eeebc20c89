"""Policies in a run: a violation stops it before a job starts, or is logged as a warning.

A workflow and a site without a policy pay for a look at some file names.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_apptainer_freshness.actions.lock_claims import hold_created, hold_platforms
from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.engine.messages import Line
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import Options

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.policies import Configurations, Offers, Policies
    from snakemake_apptainer_freshness.actions.sif_signatures import SifFile
    from snakemake_apptainer_freshness.policy import Violation
    from snakemake_apptainer_freshness.policy.verification import Signed
    from snakemake_apptainer_freshness.registry.resolver import Resolver


class PolicyCheck:
    """Holds what a run names and pins to the policies that hold for it.

    `files` have the site's policies, `folder` what the workflow's own names by relative paths. `place` gives the rule
    of a reference and its line in the Snakefile, `registry` what asks registries. A `dryrun` remembers nothing.
    Where the main process does not see its images (`sees_images`), no signature inside of one can be checked.
    """

    def __init__(
        self,
        options: Options,
        files: Sequence[Path],
        *,
        folder: Path,
        place: Callable[[str], str],
        registry: "Callable[[], Resolver]",
        dryrun: bool,
        sees_images: bool,
    ) -> None:
        self._options = options
        self._place = place
        self._registry = registry
        self._policies = _policies(options, files, folder)
        self._dryrun = dryrun
        self._sees_images = sees_images
        self.signed: dict[str, tuple[Signed, ...]] = {}
        """The signatures that satisfied a policy, by reference."""
        self._seen: set[str] = set()
        """The images whose files were held to the policies."""
        self._untold: list[Violation] = []

    def names(self, references: Iterable[str]) -> None:
        """Hold the names `references` to the policies, before a registry is asked for them.

        Raises
        ------
        PolicyViolated
            where one of them is forbidden.
        """
        if self._policies is not None:
            self._judge(self._policies.of_names(references))

    def pins(self, references: Iterable[str], pins: Pins) -> None:
        """Hold the pins of `references` to the policies, before the lock is written.

        Raises
        ------
        PolicyViolated
            where what one of them is pinned to is forbidden.
        InvalidLock
            where a rule needs to know when an image was made, or for which platforms, and the lock says something else
            than the image.
        """
        if self._policies is None:
            return
        if self._options.mode.writes_lock:
            self._inform(pins)
        met = list(references)
        known = {text: pins.entries.get(text) for text in met if text in pins.entries or text in pins.unpinnable}
        days = self._policies.days(known, self._asking(pins), platform=pins.platform)
        for text, day in days.items():
            if (entry := known[text]) is not None:
                hold_created(entry, day, pins.platform, lockfile=pins.lockfile)
        offered = self._policies.offered(known, self._offers())
        for text, platforms in offered.items():
            if (entry := known[text]) is not None:
                hold_platforms(entry, platforms, lockfile=pins.lockfile)
        self._judge(self._policies.of_pins(known, days, offered))
        self._judge(self._signatures(self._policies, known, pins))

    def _signatures(self, policies: "Policies", known: Mapping[str, Entry | None], pins: Pins) -> "list[Violation]":
        """Return how the signatures of what is `known` break the policies; a dry run remembers none."""
        if not policies.want_signatures:
            return []
        from snakemake_apptainer_freshness.actions.signatures import Held

        held = Held(kind=self._options.pin, platform=pins.platform)
        ask = self._registry if self._options.mode.asks_registries else None
        check = policies.of_signatures(known, held, ask=ask, remember=not self._dryrun, sees_files=self._sees_images)
        self.signed |= check.signed
        return list(check.violations)

    def files(self, files: "Mapping[str, SifFile]") -> None:
        """Hold the proven `files` of images, by reference, to the policies, before a job runs one.

        Raises
        ------
        PolicyViolated
            where one has to be signed inside, and is not.
        """
        new = {text: file for text, file in files.items() if text not in self._seen}
        self._seen |= set(new)
        if self._policies is None or not self._policies.want_signed_files or not new:
            return
        check = self._policies.of_files(new)
        self.signed |= {text: (*self.signed.get(text, ()), *signed) for text, signed in check.signed.items()}
        self._judge(list(check.violations))

    def lines(self) -> list[Line]:
        """Return a line for each warning of a policy that was not logged yet."""
        untold, self._untold = self._untold, []
        texts = (
            f"{violation.reference} ({self._place(violation.reference)}): {violation.text} ({violation.source})"
            for violation in untold
        )
        return [Line(text=f"  policy: {text}", problem=True) for text in texts]

    def _inform(self, pins: Pins) -> None:
        """Look up what the policies need to know of images; the lock keeps it."""
        if self._policies is not None:
            for entry in self._policies.informed(list(pins.entries.values()), self._asking(pins)):
                pins.entries[entry.reference.text] = entry

    def _asking(self, pins: Pins) -> "Configurations":
        """Provide what reads the configurations of images; it asks no registry where the mode forbids it."""
        from snakemake_apptainer_freshness.actions.policies import asking

        return asking(self._registry if self._options.mode.asks_registries else None, platform=pins.platform)

    def _offers(self) -> "Offers":
        """Give who says for which platforms images are there: no registry in a mode that asks none."""
        from snakemake_apptainer_freshness.actions.policies import offers

        return offers(self._registry if self._options.mode.asks_registries else None)

    def _judge(self, violations: "list[Violation]") -> None:
        from snakemake_apptainer_freshness.actions.policies import refuse
        from snakemake_apptainer_freshness.policy.schema import Level

        refuse(violations, lambda reference: f"{reference} ({self._place(reference)})")
        self._untold += [violation for violation in violations if violation.level is Level.WARN]


def _policies(options: Options, files: Sequence[Path], folder: Path) -> "Policies | None":
    if not options.policy and not files:
        return None
    from snakemake_apptainer_freshness.actions.policies import Policies

    return Policies.of(options, files, folder=folder) or None
