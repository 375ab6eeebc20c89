"""What a user writes under ``apptainer_freshness`` in a workflow's configuration, and the default of each option.

:func:`parse_options` turns what was written into :class:`Options`, or says which key or value is wrong, what is
allowed, and what was probably meant.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.errors import InvalidSettings

LONGEST_TIMEOUT: Final = 3600.0
"""Seconds that a user may give a registry to answer."""
LONGEST_CHECK_EVERY: Final = 24 * 3600.0
"""Seconds for which an answer about a tag may be remembered: no configuration can hide for longer that one moved."""
SITE_FILE: Final = "apptainer-freshness.toml"
"""The policy of a site, beside the main Snakefile or the lock; :mod:`.actions.site` has the other places."""


class Mode(StrEnum):
    """What a run may ask of the network, and may do to the lock file."""

    LOCK = "lock"
    """Resolve what the lock lacks and add it, ask whether tags moved; never move a pin."""
    UPDATE = "update"
    """Resolve every tag; pins move."""
    LOCKED = "locked"
    """Ask whether tags moved; never write the lock; a reference that it lacks is an error."""
    FROZEN = "frozen"
    """No network at all; never write the lock; a reference that it lacks is an error."""
    OFF = "off"

    @property
    def asks_registries(self) -> bool:
        """Whether this mode may use the network."""
        return self in (Mode.LOCK, Mode.UPDATE, Mode.LOCKED)

    @property
    def writes_lock(self) -> bool:
        """Whether this mode may write the lock file."""
        return self in (Mode.LOCK, Mode.UPDATE)


class Reaction(StrEnum):
    """What a finding does to a run."""

    IGNORE = "ignore"
    WARN = "warn"
    ERROR = "error"


class PinKind(StrEnum):
    """Which digest a rule is rewritten to."""

    INDEX = "index"
    """What the tag points at: for a multi-platform image, the index."""
    PLATFORM = "platform"
    """This machine's platform manifest."""


class OnUnverified(StrEnum):
    """What an image file does to a run that is not what its pin names: stale, unbound, altered or corrupt."""

    REPAIR = "repair"
    """Move it aside, and fetch one that is proven."""
    WARN = "warn"
    ERROR = "error"


class Rerun(StrEnum):
    """What a run does with outputs whose container is named otherwise than when they were made."""

    CONTENT = "content"
    """Keep those that the same image made, provably; leave the others to Snakemake."""
    ALWAYS = "always"
    """Leave all of them to Snakemake, which makes them again."""
    NEVER = "never"
    """Keep all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user sets under ``apptainer_freshness``."""

    mode: Mode = Mode.LOCK
    lockfile: str = "containers.lock"
    """A path; a relative one is taken from the folder of the main Snakefile, or, where that is remote, from the
    working directory.
    """
    on_moved: Reaction = Reaction.WARN
    on_unverified: OnUnverified = OnUnverified.REPAIR
    on_unpinnable: Reaction = Reaction.WARN
    pin: PinKind = PinKind.INDEX
    rerun: Rerun = Rerun.CONTENT
    timeout: float | None = None
    """Seconds without a word after which a registry is given up; None: as :data:`LIMITS` has it."""
    check_every: float = 300.0
    """Seconds for which an answer about a tag is not asked for again (:mod:`.store.answers`); 0: asked in every run."""
    images: tuple[Path, ...] = ()
    """Absolute paths of image libraries (:mod:`.store.image_library`), beside those of the machine."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """Which images may be named, as it was written; :mod:`.policy` understands it."""


_CHOICES: Final[dict[str, type[StrEnum]]] = {
    "mode": Mode,
    "on_moved": Reaction,
    "on_unverified": OnUnverified,
    "on_unpinnable": Reaction,
    "pin": PinKind,
    "rerun": Rerun,
}
_PERIOD: Final = r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([smh]?)"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_NO_PATH: Final = r"[-+]?[0-9.]+|(?i:true|false|yes|no|on|off|null|none|~)"
_PLAIN_PATH: Final = r"/[A-Za-z0-9._/+:@%=,-]*"
_KEYS: Final = tuple(option.name for option in fields(Options))


def parse_options(value: object, *, source: str, base: Options | None = None) -> Options:
    """Return the options that a configuration's `value` spells, laid over `base`.

    `value` is a truth value, the name of a mode, or a mapping with the keys of :class:`Options`. `source` names where
    it was written, for the error. A truth value and a mode change the mode alone; a mapping changes what it names.

    Raises
    ------
    InvalidSettings
        for an unknown key or value; the message names it, lists what is allowed and suggests the nearest.
    """
    base = base or Options()
    if value is None:
        return replace(base, mode=Mode.OFF)
    if isinstance(value, bool):
        return replace(base, mode=_mode_of(base, on=value))
    if isinstance(value, str):
        return replace(base, mode=_mode_named(value.strip().lower(), source=source, base=base))
    if isinstance(value, Mapping):
        return _parse_mapping(value, source=source, base=base)
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY} must be true, false, a mode or a mapping, not {type(value).__name__}",
        hint=f"modes are {_listed(Mode)}; keys of the mapping are {', '.join(_KEYS)}",
    )


def _mode_of(base: Options, *, on: bool) -> Mode:
    if not on:
        return Mode.OFF
    return Mode.LOCK if base.mode is Mode.OFF else base.mode


def _mode_named(text: str, *, source: str, base: Options) -> Mode:
    if text in ("true", "false"):
        return _mode_of(base, on=text == "true")
    choices = [mode.value for mode in Mode]
    if text in choices:
        return Mode(text)
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY} cannot be {text!r}{_nearest(text, [*choices, 'true', 'false'])}",
        hint=f"it is true, false, one of the modes {_listed(Mode)}, or a mapping",
    )


def _parse_mapping(value: Mapping[Any, Any], *, source: str, base: Options) -> Options:
    changes: dict[str, Any] = {}
    if base.mode is Mode.OFF:
        changes["mode"] = Mode.LOCK
    for key, item in value.items():
        if key not in _KEYS:
            raise InvalidSettings(
                f"{source}: {CONFIG_KEY} has no key {str(key)!r}{_nearest(str(key), _KEYS)}",
                hint=f"its keys are {', '.join(_KEYS)}",
            )
        if key in _CHOICES:
            changes[key] = _CHOICES[key](_choice(key, item, source))
        elif key == "policy":
            changes[key] = _table(key, item, source)
        elif key == "images":
            changes[key] = _folders(item, source)
        elif key == "timeout":
            changes[key] = seconds(item, source=f"{source}: {CONFIG_KEY}.{key}")
        elif key == "check_every":
            changes[key] = period(item, source=f"{source}: {CONFIG_KEY}.{key}")
        elif _is_path(item):
            changes[key] = item
        else:
            raise InvalidSettings(
                f"{source}: {CONFIG_KEY}.{key} must be a path, not {item!r}",
                hint="write ./ before the name of a file that looks like a number or a truth value",
            )
    return replace(base, **changes)


def seconds(value: object, *, source: str) -> float:
    """Return the number of seconds that `value`, a number or a text, spells; `source` names it for the error.

    Raises
    ------
    InvalidSettings
        where it is no number between 0 and :data:`LONGEST_TIMEOUT`.
    """
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST_TIMEOUT:
        raise InvalidSettings(
            f"{source} cannot be {value!r}", hint=f"give the seconds, more than 0 and at most {LONGEST_TIMEOUT:.0f}"
        )
    return number


def period(value: object, *, source: str) -> float:
    """Return the seconds that `value` spells: a number, or a text such as ``15m``; `source` names it for the error.

    Raises
    ------
    InvalidSettings
        where it is none between 0 and :data:`LONGEST_CHECK_EVERY`.
    """
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    match = re.fullmatch(_PERIOD, text)
    number = float(match[1]) * _UNITS[match[2]] if match else -1.0
    if not 0 <= number <= LONGEST_CHECK_EVERY:
        raise InvalidSettings(
            f"{source} cannot be {value!r}", hint="give a time such as 90s, 15m or 2h, at most 24h; 0 asks in every run"
        )
    return number


def _is_path(item: object) -> bool:
    """Return whether `item` can be meant as a path; Snakemake's ``--config`` gives the values of a mapping as texts."""
    if not isinstance(item, str) or not item.strip() or "\0" in item:
        return False
    return not re.fullmatch(_NO_PATH, item.strip())


def _table(key: str, value: object, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSettings(f"{source}: {CONFIG_KEY}.{key} must be a mapping, not {type(value).__name__}")
    return dict(value)


def is_plain_path(item: object) -> bool:
    """Return whether `item` is an absolute path in which no shell reads anything."""
    return isinstance(item, str) and re.fullmatch(_PLAIN_PATH, item) is not None


def _folders(value: object, source: str) -> tuple[Path, ...]:
    """Return the absolute paths that `value` spells: a list, or a text with ``:`` between several."""
    items = value.split(":") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(is_plain_path(item) for item in items):
        raise InvalidSettings(
            f"{source}: {CONFIG_KEY}.images cannot be {value!r}",
            hint="give a list of folders by their absolute paths; Snakemake puts them into commands without quotes, so "
            "they may have letters, digits and ._/+:@%=,- in them",
        )
    return tuple(Path(item) for item in items)


def _choice(key: str, value: object, source: str) -> str:
    """Return `value` where it is a choice of `key`.

    YAML 1.1 reads a bare ``off`` as false, which is meant as the mode.
    """
    choices = [member.value for member in _CHOICES[key]]
    if key == "mode" and isinstance(value, bool):
        return Mode.LOCK if value else Mode.OFF
    if isinstance(value, str) and value in choices:
        return value
    raise InvalidSettings(
        f"{source}: {CONFIG_KEY}.{key} cannot be {value!r}{_nearest(str(value), choices)}",
        hint=f"{key} is one of {', '.join(choices)}",
    )


def _nearest(text: str, choices: tuple[str, ...] | list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(text.lower().replace("-", "_"), choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(choices: type[StrEnum]) -> str:
    return ", ".join(member.value for member in choices)
