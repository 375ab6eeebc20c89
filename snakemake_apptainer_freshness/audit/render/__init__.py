"""The forms in which an audit is shown: each module of this folder is a format, found by its name.

A format has the names of :class:`Format`; nothing registers it, and the command line takes its options from it. All of
them are imported for ``audit --help``, so a format imports what is heavy (template engine, library) in its functions.
What helps formats and is none stands in a folder of its own, as in ``page/``.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, cast

from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.common.files import write_atomically
from snakemake_apptainer_freshness.errors import LocalIOError

_BATCH: Final = 1000
More = Mapping[str, Path]
"""The values of a format's further options, by their flags; what was not given is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOption:
    """One option of the command line; `metavar` names its value, a path, and is empty where it takes none."""

    flag: str
    metavar: str
    help: str


class Format(Protocol):
    """What a module has that is a format."""

    @property
    def OPTION(self) -> FormatOption:  # noqa: N802  a constant of a module
        """The option that asks for the format."""
        ...

    @property
    def MORE(self) -> Sequence[FormatOption]:  # noqa: N802
        """Options that say more, and mean nothing without the first."""
        ...

    def check(self, audit: Audit, target: Path | None, more: More) -> None:
        """Refuse what cannot be made, before any format is written.

        Raises
        ------
        FreshnessError
            that says what is wrong, and what can be done.
        """
        ...

    def write(self, audit: Audit, target: Path | None, more: More) -> None:
        """Write `audit` to `target`, whole or not at all; to standard output where the option takes no value.

        Raises
        ------
        LocalIOError
            where it cannot be written.
        """
        ...


def formats() -> Mapping[str, Format]:
    """Return every format by the name of its module, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return {name: cast("Format", importlib.import_module(f"{__name__}.{name}")) for name in names}


def check_file(target: Path | None, what: str) -> None:
    """Refuse the file `target` where it can be seen now that it cannot be written; `what` it is, for people."""
    if target is None:
        return
    if target.is_dir():
        raise LocalIOError(f"cannot write the {what} {target}: it is a folder", hint="name a file")
    if not target.parent.is_dir():
        raise LocalIOError(
            f"cannot write the {what} {target}: there is no folder {target.parent}", hint="make it first"
        )


def write_lines(lines: Iterable[str], target: Path | None, what: str) -> None:
    """Write `lines` to the file `target`, or to standard output without one; `what` it is, for people."""
    if target is None:
        for batch in _batches(lines):
            sys.stdout.write("\n".join(batch) + "\n")
        return
    try:
        write_atomically(target, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
    except OSError as error:
        raise LocalIOError(f"cannot write the {what} {target}: {error.strerror}", hint="name another file") from error


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    source = iter(lines)
    while batch := list(islice(source, _BATCH)):
        yield batch
