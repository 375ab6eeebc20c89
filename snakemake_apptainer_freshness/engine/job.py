"""The pins of a main process, as the process of one of its jobs knows them."""

from collections.abc import Iterable, Mapping
from typing import Any

from snakemake_apptainer_freshness.cache.classify import Pin
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Pinned


class JobPins:
    """Answers from the `table` that the main process handed over, by reference, and asks nobody."""

    def __init__(self, table: Mapping[str, Pinned]) -> None:
        self._table = dict(table)

    def ensure(self, references: Iterable[str]) -> None:
        """Nothing to do: the main process did it."""

    def pinned(self, reference: str) -> str:
        """What the rule that says `reference` runs.

        Raises
        ------
        UsageError
            where the main process handed over no pin for it.
        """
        if reference not in self._table:
            raise UsageError(
                f"the main process of this run pinned no image {reference}",
                hint="does a container function of this workflow give another answer each time it is called?",
            )
        return self._table[reference].url

    def table(self) -> dict[str, Pinned]:
        """What is run for every reference that the main process met."""
        return dict(self._table)

    def images(self) -> dict[str, Pin]:
        """What each image file has to be, by the url that rules run."""
        return {
            pin.url: Pin.held_to(url=pin.url, reference=reference, digest=Digest.parse(pin.digest))
            for reference, pin in self._table.items()
            if pin.digest and parse(reference).scheme.is_provable
        }


def keep_what_main_keeps(workflow: Any) -> None:
    """Have this process make nothing again because of its software; the main process has decided that for all jobs.

    Snakemake builds a DAG in the process of a job, too, and looks in it at other jobs of the same rule: those that the
    main process keeps (:mod:`.rerun`) would be made again here.
    """

    def unchanged(job: Any, file: Any = None) -> Any:  # noqa: ARG001  Snakemake's signature
        return [] if file is None else False

    workflow.persistence.software_stack_changed = unchanged
