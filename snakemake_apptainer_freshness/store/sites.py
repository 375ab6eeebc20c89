"""Sites: what a machine or its user names beside the user's own: fact stores that are only read, and image libraries.

Named in all of these together:

* ``apptainer-freshness/site.toml`` in ``$XDG_CONFIG_HOME`` (default: ``~/.config``), in each folder of
  ``$XDG_CONFIG_DIRS`` (default: ``/etc/xdg``), and in ``/etc``
* the environment variables :data:`STORES`, :data:`OWNERS` and :data:`IMAGES`, with ``:`` between several

A fact store decides what counts as proven. So no configuration of a workflow can name one, and a ``site.toml`` that
others can have written is an error where it names one. What a store says counts only where root or a user in `owners`
wrote it and no other user could (:mod:`.common.trusted`). A store that is not there says nothing, as a network file
system may be away; one that others can write is an error and not an empty store, since it would hide that proofs were
planted. A library of images needs no trust: an image in it has to be proven like any other.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from snakemake_apptainer_freshness.common.files import NotAFile, opened_target, read_descriptor
from snakemake_apptainer_freshness.common.tables import read_toml
from snakemake_apptainer_freshness.common.trusted import Untrusted, is_unmapped, list_in, named, read_in, trusted_folder
from snakemake_apptainer_freshness.errors import InvalidSettings, LocalIOError, UsageError
from snakemake_apptainer_freshness.settings import DISK, is_plain_path

T = TypeVar("T")

STORES: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_STORES"
OWNERS: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_OWNERS"
IMAGES: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_IMAGES"
_NAME: Final = Path("apptainer-freshness", "site.toml")
_SYSTEM: Final = Path("/etc") / _NAME
_KEYS: Final = ("stores", "owners", "images")
_ROOT: Final = 0
_WRITABLE_BY_OTHERS: Final = 0o022
_OUTSIDE: Final = (
    "run this outside of the container or user namespace, or name no fact store in it: images are then proven as "
    "everywhere (docs/sites.md). To list that user as an owner does not help: it is anybody"
)
_SEEN: Final = ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", STORES, OWNERS, IMAGES)
"""What of the environment decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactStore:
    """A folder of facts that is only read; `owners` are the users (uids) whose word in it counts."""

    path: Path
    owners: frozenset[int]

    def read(self, names: tuple[str, ...], limit: int) -> bytes | None:
        """Return what the file at `names` below the store holds; None where there is none that can be believed.

        Raises
        ------
        UsageError
            where others can write the store itself, or a folder on the way to it.
        """
        try:
            with trusted_folder(self.path, self.owners) as folder:
                return _or_nothing(lambda: read_in(folder, names, self.owners, limit))
        except Untrusted as reason:
            raise self._refused(reason) from None
        except OSError:
            return None

    def names(self, names: tuple[str, ...]) -> list[str]:
        """Return what lies in the folder at `names` below the store; nothing where that cannot be believed."""
        try:
            with trusted_folder(self.path, self.owners) as folder:
                return _or_nothing(lambda: list_in(folder, names, self.owners)) or []
        except Untrusted as reason:
            raise self._refused(reason) from None
        except OSError:
            return []

    def refusal(self) -> UsageError | None:
        """Return why the store cannot be believed; None where it can, or is not there."""
        try:
            with trusted_folder(self.path, self.owners):
                return None
        except Untrusted as reason:
            return self._refused(reason)
        except OSError:
            return None

    def _refused(self, reason: Untrusted) -> UsageError:
        text = f"the fact store {self.path} of this site cannot be believed: {reason}"
        if reason.is_unmapped:
            return UsageError(text, hint=_OUTSIDE)
        return UsageError(
            text,
            hint=f"it counts only where all of its path belongs to root or a user in `owners` or {OWNERS}, and no "
            "other user may write there; mend that, or name the store no more",
        )


def _or_nothing(read: Callable[[], T]) -> T | None:
    """Return what `read` gives; None where that cannot be read or believed."""
    try:
        return read()
    except (OSError, ValueError, Untrusted):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is named, each once, in the order of where it stands."""

    stores: tuple[FactStore, ...] = ()
    libraries: tuple[Path, ...] = ()


def site() -> Site:
    """Return what this machine and the environment of this process name.

    Raises
    ------
    InvalidSettings
        where a file or a variable cannot be understood, or names a fact store that its writers may not name.
    LocalIOError
        where a file cannot be read.
    """
    environment = os.environ.get
    return _named(tuple(environment(name, "") for name in _SEEN))


@lru_cache(maxsize=8)
def _named(values: tuple[str, ...]) -> Site:
    """Return what these values of the environment name; a process looks once."""
    environment = dict(zip(_SEEN, values, strict=True))
    tables = [_from_environment(environment), *_from_files(environment)]
    owners = frozenset(uid for table in tables for uid in table.owners) | {_ROOT}
    stores = dict.fromkeys(path for table in tables for path in table.stores)
    libraries = dict.fromkeys(path for table in tables for path in table.images)
    return Site(
        stores=tuple(FactStore(path=path, owners=owners) for path in stores),
        libraries=tuple(libraries),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    stores: tuple[Path, ...]
    owners: tuple[int, ...]
    images: tuple[Path, ...]

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str) -> "_Table":
        """Return what `table`, which stands in `source`, spells."""
        for key, value in table.items():
            if key not in _KEYS:
                raise _invalid(source, f"it has an unknown key {key!r}; its keys are {', '.join(_KEYS)}")
            if not isinstance(value, list) or len(value) > DISK.site_entries:
                raise _invalid(source, f"{key} must be a list of at most {DISK.site_entries}")
        return cls(
            stores=tuple(_path(item, "stores", source) for item in table.get("stores", [])),
            owners=tuple(_user(item, source) for item in table.get("owners", [])),
            images=tuple(_path(item, "images", source) for item in table.get("images", [])),
        )


def _from_environment(environment: Mapping[str, str]) -> _Table:
    texts = {key: environment[name] for key, name in zip(_KEYS, (STORES, OWNERS, IMAGES), strict=True)}
    table = {key: [item for item in text.split(os.pathsep) if item] for key, text in texts.items()}
    return _Table.of(table, f"the environment ({STORES}, {OWNERS}, {IMAGES})")


def _from_files(environment: Mapping[str, str]) -> Iterator[_Table]:
    home = environment["XDG_CONFIG_HOME"] or f"{environment['HOME'] or Path.home()}/.config"
    folders = [home, *(environment["XDG_CONFIG_DIRS"] or "/etc/xdg").split(os.pathsep)]
    paths = [*(Path(folder) / _NAME for folder in folders if Path(folder).is_absolute()), _SYSTEM]
    for path in dict.fromkeys(paths):
        try:
            with opened_target(path) as file:
                status = os.fstat(file.fileno())
                text = read_descriptor(file, path, DISK.record_size).decode()
            table = read_toml(text)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (NotAFile, ValueError) as error:
            raise _invalid(str(path), str(error)) from None
        except OSError as error:
            raise LocalIOError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from None
        if {"stores", "owners"} & table.keys():
            _refuse_foreign(path, status)
        yield _Table.of(table, str(path))


def _refuse_foreign(path: Path, file: os.stat_result) -> None:
    """Refuse a file that names whose word counts, where others than root and this user can have written it."""
    for what, status in ((path, file), (path.parent, path.parent.stat())):
        if is_unmapped(status.st_uid):
            raise _invalid(str(path), f"{what} belongs to {named(status.st_uid)}", hint=_OUTSIDE)
        if status.st_uid not in (_ROOT, os.geteuid()):
            raise _invalid(str(path), f"{what} belongs to user {status.st_uid}, who does not say what is proven here")
        if status.st_mode & _WRITABLE_BY_OTHERS:
            raise _invalid(str(path), f"it names whose proofs count, and others may write to {what}")


def _path(item: object, key: str, source: str) -> Path:
    if not isinstance(item, str) or "\0" in item or not Path(item).is_absolute():
        raise _invalid(source, f"{key} has {item!r}, which is no absolute path")
    if key == "images" and not is_plain_path(item):
        raise _invalid(source, f"images has {item!r}, whose characters Snakemake cannot put into a command")
    return Path(item)


def _user(item: object, source: str) -> int:
    if isinstance(item, int) and not isinstance(item, bool) and item >= 0:
        return item
    if isinstance(item, str) and item.isascii() and item.isdigit():
        return int(item)
    import pwd

    try:
        return pwd.getpwnam(str(item)).pw_uid
    except (KeyError, ValueError):
        raise _invalid(source, f"owners has {item!r}, which is no user of this machine") from None


def _invalid(source: str, problem: str, *, hint: str = "see docs/sites.md") -> InvalidSettings:
    return InvalidSettings(f"cannot use what {source} says of this site: {problem}", hint=hint)
