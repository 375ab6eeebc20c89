"""Where a site's policies lie: in places that no configuration of a workflow names, so that none can bypass them.

All that are there hold together, beside the workflow's own: of each rule the strictest.

* what the environment variable :data:`VARIABLE` names, with ``:`` between several; they have to be there
* ``/etc/apptainer-freshness/policy.toml``, and ``apptainer-freshness/policy.toml`` in each folder of
  ``$XDG_CONFIG_DIRS`` (default: ``/etc/xdg``), which can add places and take away none
* ``apptainer-freshness.toml`` beside the main Snakefile, wherever the option ``lockfile`` puts the lock, and beside the
  lock

Only looking is done here, since every run does it: a run without a policy pays for a handful of ``lstat``.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidPolicy, LocalIOError
from snakemake_apptainer_freshness.settings import SITE_FILE

VARIABLE: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_POLICY"
SYSTEM: Final = Path("/etc/apptainer-freshness/policy.toml")
_IN_CONFIG_FOLDER: Final = Path("apptainer-freshness", "policy.toml")
_CONFIG_FOLDERS: Final = "/etc/xdg"


def site_files(
    lockfile: Path, snakefile: Path | None, *, environment: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Return the files with policies that hold for the workflow of `snakefile`, whose lock is `lockfile`; each once.

    Raises
    ------
    InvalidPolicy
        where the environment names a file that is not there.
    LocalIOError
        where it cannot be told whether one is there: a policy that is not seen would be a policy that does not hold.
    """
    environment = os.environ if environment is None else environment
    named = [Path(text) for text in environment.get(VARIABLE, "").split(os.pathsep) if text]
    for path in named:
        if not _is_there(path):
            raise InvalidPolicy(
                f"there is no policy {path}, which the environment variable {VARIABLE} names",
                hint="correct the variable, or ask who runs this machine",
            )
    files = [*named, *(path for path in _elsewhere(lockfile, snakefile, environment) if _is_there(path))]
    return tuple({os.path.realpath(path): path for path in files}.values())


def _elsewhere(lockfile: Path, snakefile: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    yield SYSTEM
    for folder in (environment.get("XDG_CONFIG_DIRS") or _CONFIG_FOLDERS).split(os.pathsep):
        if Path(folder).is_absolute():  # the base directory specification ignores others
            yield folder / _IN_CONFIG_FOLDER
    if snakefile is not None:
        yield snakefile.with_name(SITE_FILE)
    yield lockfile.with_name(SITE_FILE)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LocalIOError(
            f"cannot look for a policy in {path}: {error.strerror}", hint="check the permissions of its folder"
        ) from error
    return True
