"""Environment variables: Apptainer's, read as Apptainer reads them, and some of our own.

Apptainer is written in Go: a switch is what Go's ``strconv.ParseBool`` takes, and anything else is an error there. What
would be an error for Apptainer turns nothing on here; ``doctor`` names it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.settings import period, seconds

OFFLINE: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_OFFLINE"
"""A switch: ask no registry and fetch nothing, whatever is run."""
TIMEOUT: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_TIMEOUT"
"""Seconds without a word after which a registry is given up."""
CHECK_EVERY: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_CHECK_EVERY"
"""For how long an answer about a tag is not asked for again, such as ``15m``."""

SWITCHES: Final = ("NOHTTPS", "DISABLE_CACHE", "UNSQUASH", "TMP_SANDBOX", "USERNS", "FAKEROOT", "NV", "ROCM")
"""The switches of Apptainer that ``doctor`` looks at, without the family in front."""

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_TMPDIRS: Final = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR")


def parse_bool(text: str) -> bool:
    """Return the truth value that `text` spells, as Go's ``strconv.ParseBool`` has it.

    Raises
    ------
    ValueError
        where it spells none.
    """
    if text not in _TRUE | _FALSE:
        raise ValueError(f"{text!r} is no truth value: write 1 or true, 0 or false")
    return text in _TRUE


def is_on(environ: Mapping[str, str], *names: str) -> bool:
    """Return whether the first of the variables `names` that is set, and not empty, turns something on."""
    return next((value for name in names if (value := environ.get(name))), "") in _TRUE


def wrong_switches(environ: Mapping[str, str]) -> Iterable[str]:
    """Give the names of Apptainer's switches whose value Apptainer would refuse."""
    for name in (f"{family}_{switch}" for family in ("APPTAINER", "SINGULARITY") for switch in SWITCHES):
        if environ.get(name, "") not in _TRUE | _FALSE | {""}:
            yield name


def temporary_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder in which Apptainer makes its temporary files."""
    chosen = next((value for name in _TMPDIRS if (value := environ.get(name))), None)
    if chosen is not None:
        return Path(chosen)
    import tempfile  # every start of Snakemake loads this module

    return Path(tempfile.gettempdir())


def is_offline(environ: Mapping[str, str]) -> bool:
    """Return whether the environment forbids the network.

    Raises
    ------
    InvalidSettings
        where the variable has a value that is no truth value: what was meant to forbid must not allow.
    """
    try:
        return bool(environ.get(OFFLINE)) and parse_bool(environ[OFFLINE])
    except ValueError as error:
        raise InvalidSettings(f"the environment variable {OFFLINE}: {error}") from None


def timeout(environ: Mapping[str, str]) -> float | None:
    """Return the seconds that the environment gives registries to answer, None where it says nothing.

    Raises
    ------
    InvalidSettings
        where it is no number between 0 and :data:`~.settings.LONGEST_TIMEOUT`.
    """
    text = environ.get(TIMEOUT)
    return None if not text else seconds(text, source=f"the environment variable {TIMEOUT}")


def check_every(environ: Mapping[str, str]) -> float | None:
    """Return the seconds for which the environment has answers about tags remembered, None where it says nothing.

    Raises
    ------
    InvalidSettings
        where it is no time between 0 and :data:`~.settings.LONGEST_CHECK_EVERY`.
    """
    text = environ.get(CHECK_EVERY)
    return None if not text else period(text, source=f"the environment variable {CHECK_EVERY}")
