"""Policies in a run: what they forbid stops it before a job starts, what they frown upon is told.

A workflow and a site without a policy pay for a look at some file names.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.engine.messages import Line
from snakemake_apptainer_freshness.settings import Options

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.policies import Policies
    from snakemake_apptainer_freshness.policy import Violation
    from snakemake_apptainer_freshness.registry.resolver import Resolver


class PolicyCheck:
    """Holds what a run names and pins to the policies that hold for it.

    `files` have the site's policies; `place` gives the rule of a reference and its line in the Snakefile, `registry`
    whoever asks registries.
    """

    def __init__(
        self,
        options: Options,
        files: Sequence[Path],
        *,
        place: Callable[[str], str],
        registry: "Callable[[], Resolver]",
    ) -> None:
        self._options = options
        self._place = place
        self._registry = registry
        self._policies = _policies(options, files)
        self._untold: list[Violation] = []

    def names(self, references: Iterable[str]) -> None:
        """Before anybody is asked for `references`.

        Raises
        ------
        PolicyViolated
            where one of them is forbidden.
        """
        if self._policies is not None:
            self._judge(self._policies.of_names(references))

    def pins(self, references: Iterable[str], pins: Pins) -> None:
        """Once `references` are pinned, before the lock is written.

        Raises
        ------
        PolicyViolated
            where what one of them is pinned to is forbidden.
        """
        if self._policies is None:
            return
        if self._options.mode.writes_lock:
            self._inform(pins)
        met = list(references)
        known = {text: pins.entries.get(text) for text in met if text in pins.entries or text in pins.unpinnable}
        self._judge(self._policies.of_pins(known))

    def lines(self) -> list[Line]:
        """Return a line for each warning of a policy that was not told yet."""
        untold, self._untold = self._untold, []
        texts = (f"{one.reference} ({self._place(one.reference)}): {one.text} ({one.source})" for one in untold)
        return [Line(text=f"  policy: {text}", problem=True) for text in texts]

    def _inform(self, pins: Pins) -> None:
        """Find out what the policies have to know; the lock keeps it."""
        from snakemake_apptainer_freshness.actions.policies import asking

        if self._policies is not None:
            ask = asking(self._registry, platform=pins.platform)
            for entry in self._policies.informed(list(pins.entries.values()), ask):
                pins.entries[entry.reference.text] = entry

    def _judge(self, violations: "list[Violation]") -> None:
        from snakemake_apptainer_freshness.actions.policies import refuse
        from snakemake_apptainer_freshness.policy import Level

        refuse(violations, lambda reference: f"{reference} ({self._place(reference)})")
        self._untold += [one for one in violations if one.level is Level.WARN]


def _policies(options: Options, files: Sequence[Path]) -> "Policies | None":
    if not options.policy and not files:
        return None
    from snakemake_apptainer_freshness.actions.policies import Policies

    return Policies.of(options, files) or None
