"""Which of the names in ``engine/seams.py`` an installed Snakemake has; run by the interpreter that has it.

``python tests/support/seam_check.py`` prints a JSON object of its version and whether it has each name.
"""

import importlib
import inspect
import json
import sys
from contextlib import suppress
from typing import Any, Final

from snakemake.common import __version__

from snakemake_apptainer_freshness.engine.seams import SEAMS, Seam

PLACES: Final = {
    "SnakemakeApi": ("snakemake.api",),
    "WorkflowApi": ("snakemake.api",),
    "Workflow": ("snakemake.workflow",),
    "Rule": ("snakemake.rules",),
    "DAG": ("snakemake.dag",),
    "Persistence": ("snakemake.persistence", "snakemake.persistence.file:FilePersistence"),
    "JobScheduler": ("snakemake.scheduler", "snakemake.scheduling.job_scheduler"),
    "ConfigSettings": ("snakemake.settings.types",),
    "StorageSettings": ("snakemake.settings.types",),
    "StorageRegistry": ("snakemake.storage",),
}
"""Where a class is: of several modules, which differ by version, the first that has it."""


def has(seam: Seam) -> bool:
    """Whether this Snakemake has `seam`: an attribute of the class, of its objects, or a name of the module."""
    owner = _owner(seam.name.rpartition(".")[0])
    if hasattr(owner, seam.attribute):
        return True
    sources = [inspect.getsource(one) for one in getattr(owner, "__mro__", ()) if one.__module__.startswith("snake")]
    return any(f"self.{seam.attribute} = " in source for source in sources)


def _owner(name: str) -> Any:
    for place in PLACES.get(name, ()):
        module, _, other = place.partition(":")
        with suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), other or name)
    with suppress(ImportError):
        return importlib.import_module(name)
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    json.dump({"version": __version__, "has": {seam.name: has(seam) for seam in SEAMS}}, sys.stdout)
