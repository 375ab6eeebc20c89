"""The flag: where it may be set, and which place wins.

It may stand in a configuration file of the workflow, in the environment variable ``SNAKEMAKE_APPTAINER_FRESHNESS``,
and on the command line (``--config apptainer_freshness=…``); each of these changes what the one before says. A mode
alone changes the mode and leaves the other options as they are.

What stands on the command line is taken out of Snakemake's configuration before the workflow is parsed: so a workflow
whose configuration schema is closed can be run with the flag, and the pins of a main process never show up in the
``config`` of a job.

A key that is nearly ours (``apptainer-freshness``, ``apptainer_freshnes``) is an error: the user who wrote it believes
to be protected. Where the flag is set to off by its right name, such a key is no error: it belongs to another tool.
"""

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from snakemake_apptainer_freshness import CONFIG_KEY, ENVIRONMENT_VARIABLE

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.settings import Options

PINS_KEY: Final = f"{CONFIG_KEY}_pins"
"""The key under which the main process hands its pins to the processes of jobs."""

PLUGIN: Final = CONFIG_KEY.replace("_", "-")
"""The name of our software deployment plugin."""

PINS_OFF: Final = "off"
"""Stands in place of pins where the main process found the flag turned off."""

_LONGEST_SLIP: Final = 3
"""So many letters more or less may a misspelling have."""
_PARTS: Final = ("fresh", "apptain", "aptain")
"""A misspelling of our key has one of these: everybody else's keys are told apart by a look."""
_CLOSE: Final = 0.85
"""Of the likeness of difflib; ``apptainer_versions`` has 0.76."""


_REFUSED: Final = rf"properties are not allowed \([^)]*'{CONFIG_KEY}'[^)]*unexpected\)"
"""What jsonschema says where a schema is closed."""
_PAST_SCHEMA: Final = (
    f"apptainer-freshness: take {CONFIG_KEY} out of the configuration file, and give it where no schema sees it: "
    f"--config {CONFIG_KEY}=lock, or {ENVIRONMENT_VARIABLE}=lock"
)


class CommandLineFlag(NamedTuple):
    """What stood on the command line: the flag's value (None: nothing), and a main process's pins (None: nothing)."""

    flag: object = None
    pins: str | None = None


def take_from_command_line(settings: Any) -> CommandLineFlag:
    """Take our keys out of Snakemake's ``ConfigSettings``, and return what they were.

    ``config_args``, which Snakemake puts into the command of every job, stays as it is.
    """
    command_line = getattr(settings, "config", None) or {}
    overwrite: MutableMapping[str, Any] = getattr(settings, "overwrite_config", {})
    if PINS_KEY in overwrite:
        del overwrite[PINS_KEY]
    if CONFIG_KEY in command_line and CONFIG_KEY in overwrite:
        del overwrite[CONFIG_KEY]
        overwrite.update(_flag_in_files(settings.configfiles))
    pins = command_line.get(PINS_KEY)
    return CommandLineFlag(flag=command_line.get(CONFIG_KEY), pins=None if pins is None else str(pins))


def _flag_in_files(paths: Any) -> Mapping[str, Any]:
    from snakemake.common.configfile import load_configfile

    flag: dict[str, Any] = {}
    for path in paths:
        loaded = load_configfile(path)
        if CONFIG_KEY in loaded:
            flag = {CONFIG_KEY: loaded[CONFIG_KEY]}
    return flag


def is_wanted(workflow: Any, asked: CommandLineFlag) -> bool:
    """Return whether any configuration names this plugin; cheap, since it is asked for every workflow."""
    return (
        asked.pins is not None
        or asked.flag is not None
        or bool(os.environ.get(ENVIRONMENT_VARIABLE))
        or workflow.config.get(CONFIG_KEY) is not None
        or near_miss(workflow.config) is not None
        or is_chosen(workflow)
    )


def is_chosen(workflow: Any) -> bool:
    """Return whether ``--sdm`` chose our plugin for containers; today's Snakemake knows no such plugins."""
    settings = getattr(workflow, "deployment_settings", None)
    return PLUGIN in getattr(settings, "deployment_methods", ())


def near_miss(keys: Iterable[object]) -> str | None:
    """Return the first of `keys` that is a misspelling of ours.

    Only names that come close at first sight are compared.
    """
    for key in keys:
        if not isinstance(key, str) or abs(len(key) - len(CONFIG_KEY)) > _LONGEST_SLIP or key == CONFIG_KEY:
            continue
        folded = key.lower().replace("-", "_")
        if any(part in folded for part in _PARTS) and _is_close(folded):
            return key
    return None


def _is_close(name: str) -> bool:
    import difflib

    return difflib.SequenceMatcher(None, name, CONFIG_KEY).ratio() >= _CLOSE


def advise(error: Exception) -> None:
    """Add to an `error` of a schema that refuses the flag how to set the flag elsewhere; other errors stay."""
    text = str(error.args[0]) if error.args else ""
    if re.search(_REFUSED, text) and _PAST_SCHEMA not in text:
        error.args = (f"{text.rstrip()}\n{_PAST_SCHEMA}", *error.args[1:])


def is_visible(settings: Any) -> bool:
    """Return whether the flag can be seen before a workflow is parsed."""
    return bool(os.environ.get(ENVIRONMENT_VARIABLE)) or CONFIG_KEY in getattr(settings, "overwrite_config", {})


def options(workflow: Any, asked: CommandLineFlag) -> "Options":
    """Return the options of this workflow.

    Raises
    ------
    InvalidSettings
        for an unknown key or value, and for a key that is nearly ours.
    """
    from snakemake_apptainer_freshness.common import environment
    from snakemake_apptainer_freshness.errors import InvalidSettings
    from snakemake_apptainer_freshness.settings import Mode, Options, parse_options

    configured = workflow.config.get(CONFIG_KEY)
    if configured is None and is_chosen(workflow):
        configured = True
    written = parse_options(configured, source="the workflow's configuration", base=Options(mode=Mode.OFF))
    merged = replace(written, lockfile="")
    if value := os.environ.get(ENVIRONMENT_VARIABLE):
        merged = parse_options(value, source=f"the environment variable {ENVIRONMENT_VARIABLE}", base=merged)
    if (seconds := environment.timeout(os.environ)) is not None:
        merged = replace(merged, timeout=seconds)
    if (every := environment.check_every(os.environ)) is not None:
        merged = replace(merged, check_every=every)
    if asked.flag is not None:
        merged = parse_options(asked.flag, source="--config", base=merged)
    is_off = merged.mode is Mode.OFF and (asked.flag is not None or CONFIG_KEY in workflow.config)
    if not is_off and (key := near_miss(workflow.config)) is not None:
        raise InvalidSettings(
            f"the configuration has a key {key!r}, which does nothing (did you mean {CONFIG_KEY!r}?)",
            hint=f"write {CONFIG_KEY}; where the key is another program's, turn this one off: {CONFIG_KEY}: false",
        )
    if merged.mode is Mode.OFF and is_chosen(workflow):
        raise InvalidSettings(
            f"--sdm {PLUGIN} runs containers as their lock says, and {CONFIG_KEY} is off",
            hint="choose another plugin for containers, such as --sdm container, or take the flag away",
        )
    if environment.is_offline(os.environ):
        merged = _without_network(merged)
    if merged.lockfile:  # who starts the run may have it anywhere
        return merged
    _confine(workflow, written)
    return replace(merged, lockfile=written.lockfile)


def _without_network(options: "Options") -> "Options":
    """Return `options` for a run that may not use the network: what the lock and the disk have runs."""
    from snakemake_apptainer_freshness.common import environment
    from snakemake_apptainer_freshness.errors import UsageError
    from snakemake_apptainer_freshness.settings import Mode

    if options.mode is Mode.UPDATE:
        raise UsageError(
            f"mode {Mode.UPDATE} asks registries, and {environment.OFFLINE} forbids that",
            hint=f"unset {environment.OFFLINE}, or run in another mode",
        )
    return options if options.mode is Mode.OFF else replace(options, mode=Mode.FROZEN)


def lock_path(workflow: Any, options: "Options") -> Path:
    """Return where the lock lies: beside the main Snakefile, or in the working directory where that is remote."""
    snakefile = Path(workflow.main_snakefile)
    folder = snakefile.parent if snakefile.is_file() else Path.cwd()
    return folder / Path(options.lockfile).expanduser()


def _confine(workflow: Any, options: "Options") -> None:
    """Refuse a lock that a workflow's own configuration puts outside of the workflow's and the working directory.

    A workflow that another user wrote could have a run write, or hide a policy, anywhere.
    """
    from snakemake_apptainer_freshness.errors import InvalidSettings

    path = lock_path(workflow, options)
    here = Path(workflow.main_snakefile).parent
    if here.name == "workflow":  # Snakemake's own layout has the Snakefile one folder down
        here = here.parent
    folder = path.parent.resolve()
    if not any(folder.is_relative_to(allowed.resolve()) for allowed in (here, Path.cwd())):
        raise InvalidSettings(
            f"the workflow's configuration: {CONFIG_KEY}.lockfile cannot be {options.lockfile!r}, which lies outside "
            "of the workflow's and the working directory",
            hint=f"if you want it there, say so yourself: --config '{CONFIG_KEY}={{lockfile: {path}}}'",
        )
