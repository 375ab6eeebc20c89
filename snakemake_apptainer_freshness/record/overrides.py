"""What a run puts over its images: binds, overlays and variables, as Apptainer's arguments and environment say. Pure.

An image that is what the lock names runs other programs where a file of the host is bound over one of its own, where
an overlay lies over it, or where a variable names other programs first. None of these changes the image file, so each
of them belongs into the record.

* Apptainer takes most options from its command line and from variables, ``APPTAINER_BIND`` as well as ``--bind``, and
  from the ``SINGULARITY_`` names of its older self. All of them count, also where one would hide the other.
* Snakemake puts ``--apptainer-args`` into a command of the shell without quotes, so variables are expanded here, too.
  What only a shell could work out stays as it is written, and may then be any path.
* Only variables that are known to hold no secret are kept with their value; see :func:`kept_environment`.
"""

import csv
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from snakemake_apptainer_freshness.record.command import kept
from snakemake_apptainer_freshness.record.run import Override, OverrideKind, RuntimeSettings
from snakemake_apptainer_freshness.settings import RECORDS

_PREFIXES: Final = ("APPTAINER", "SINGULARITY")
_SHORT: Final = {"B": "--bind", "H": "--home", "S": "--scratch", "W": "--workdir", "o": "--overlay"}
"""The options of ``apptainer exec`` of one letter that take a value."""
_READ: Final = frozenset({"--bind", "--mount", "--overlay", "--scratch", "--home", "--fusemount", "--env"})
_VARIABLES: Final[Mapping[str, str]] = {
    "BIND": "--bind",
    "BINDPATH": "--bind",
    "MOUNT": "--mount",
    "OVERLAY": "--overlay",
    "OVERLAYIMAGE": "--overlay",
    "SCRATCH": "--scratch",
    "SCRATCHDIR": "--scratch",
    "FUSESPEC": "--fusemount",
    "CONTAINLIBS": "--containlibs",
}
"""Variables that do what an option does, by their name without the prefix (``cmd/internal/cli/action_flags.go``)."""
_OTHER_VARIABLES: Final = frozenset(
    {
        "ALLOW_SETUID",
        "ADD_CAPS",
        "APP",
        "APPNAME",
        "CLEANENV",
        "COMPAT",
        "CONFIGDIR",
        "CONTAIN",
        "CONTAINALL",
        "CWD",
        "DROP_CAPS",
        "ENVFILE",
        "FAKEROOT",
        "HOME",
        "HOSTNAME",
        "KEEP_PRIVS",
        "NETWORK",
        "NO_EVAL",
        "NO_HOME",
        "NO_MOUNT",
        "NO_PRIVS",
        "NO_UMASK",
        "NV",
        "NVCCLI",
        "PWD",
        "ROCM",
        "SECURITY",
        "SHELL",
        "TARGET_PWD",
        "UNSHARE_IPC",
        "UNSHARE_NET",
        "UNSHARE_PID",
        "UNSHARE_USERNS",
        "UNSHARE_UTS",
        "USERNS",
        "WORKDIR",
        "WRITABLE",
        "WRITABLE_TMPFS",
    }
)
"""Variables that change how an image runs, and that hold no secret."""
_PROGRAMS_FIRST: Final = frozenset({"PATH", "PREPEND_PATH", "LD_PRELOAD", "LD_LIBRARY_PATH"})
"""Variables of a container that put other programs or libraries before those of its image."""
_HIDDEN: Final = "[redacted]"
_LIBRARIES: Final = "/.singularity.d/libs"
"""Where ``--containlibs`` binds libraries; the first folder in which a program looks for them."""
LOADED_FROM: Final = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc"})
"""Top folders in which programs are looked for, and what they load: something new there changes what runs."""
FILES_BOUND_ANYWAY: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/localtime", "/etc/resolv.conf"})
"""Files that Apptainer itself binds into every container."""
_NAME: Final = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))", re.ASCII)
_COMMA, _COLON = re.compile(r"(?<!\\),"), re.compile(r"(?<!\\):")
_BIND_OPTION: Final = re.compile(r"ro|rw|id=.*|image-src=.*", re.DOTALL)
"""What may follow a comma in a list of binds and belongs to the bind before it."""


def settings_of(arguments: str, environment: Mapping[str, str], *, folder: str) -> RuntimeSettings:
    """Return what Apptainer is told by `arguments` (of Snakemake's ``--apptainer-args``) and by `environment`.

    `folder` is the working directory, an absolute path: relative binds start there.
    """
    read = (*_in_arguments(arguments, environment), *_in_environment(environment))
    overrides = dict.fromkeys(
        Override(kind=kind, path=_place(kind, path, folder), source=_short(source), by=by)
        for kind, path, source, by in read
    )
    return RuntimeSettings(
        arguments=kept(_words(arguments), environment, ours=""),
        environment=kept_environment(environment),
        overrides=_bounded(tuple(overrides)),
    )


def _bounded(overrides: tuple[Override, ...]) -> tuple[Override, ...]:
    """Return `overrides`; the last stands for all that a record has no room for: they may be over anything."""
    if len(overrides) <= RECORDS.arguments:
        return overrides
    rest = Override(kind=OverrideKind.OVERLAY, path="/", source="", by="more than a record holds")
    return (*overrides[: RECORDS.arguments - 1], rest)


def kept_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of Apptainer in `environment` that change how an image runs, by name.

    The value of a variable that is handed to the container is kept where it names programs, else only its name.
    """
    variables = {}
    for name in sorted(environment):
        prefix, _, rest = name.partition("_")
        if prefix in _PREFIXES and (rest in _VARIABLES or rest in _OTHER_VARIABLES):
            variables[name] = "".join(kept([environment[name]], environment, ours=""))
        elif prefix.removesuffix("ENV") in _PREFIXES and prefix.endswith("ENV"):
            shows = rest in _PROGRAMS_FIRST
            variables[name] = "".join(kept([environment[name]], environment, ours="")) if shows else _HIDDEN
    return variables


_Said = tuple[OverrideKind, str, str, str]
"""An override's kind, path, source, and what says so."""


def _in_arguments(arguments: str, environment: Mapping[str, str]) -> Iterator[_Said]:
    for option, value in _options(iter(_words(arguments))):
        yield from _of_option(option, _expanded(value, environment), by=option)


def _in_environment(environment: Mapping[str, str]) -> Iterator[_Said]:
    for prefix in _PREFIXES:
        for name, option in _VARIABLES.items():
            if value := environment.get(f"{prefix}_{name}"):
                yield from _of_option(option, value, by=f"{prefix}_{name}")
        for name in sorted(_PROGRAMS_FIRST):
            if value := environment.get(f"{prefix}ENV_{name}"):
                yield OverrideKind.VARIABLE, name, value, f"{prefix}ENV_{name}"


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError:  # a quote that is not closed: the shell will refuse it
        return arguments.split()


def _options(words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Give each option of `words` that is read here, by its long name, with its value."""
    for word in words:
        if word.startswith("--"):
            option, has_value, value = word.partition("=")
            if option in _READ:
                yield option, value if has_value else next(words, "")
            elif option == "--workdir" and not has_value:
                next(words, "")
        elif word.startswith("-"):
            at = next((at for at, letter in enumerate(word) if letter in _SHORT), None)
            if at is not None:
                value = word[at + 1 :].removeprefix("=") or next(words, "")
                if (option := _SHORT[word[at]]) in _READ:
                    yield option, value


def _of_option(option: str, value: str, *, by: str) -> Iterator[_Said]:
    """Give what `option` with `value` puts over an image."""
    if option == "--bind":
        yield from ((OverrideKind.BIND, path, source, by) for source, path in _binds(value))
    elif option == "--mount":
        yield from ((OverrideKind.BIND, path, source, by) for source, path in _mounts(value))
    elif option == "--overlay":
        yield OverrideKind.OVERLAY, "/", value, by
    elif option == "--scratch":
        yield from ((OverrideKind.BIND, path, "", by) for path in value.split(",") if path)
    elif option == "--fusemount":
        yield OverrideKind.BIND, value.rsplit(maxsplit=1)[-1] if value.split() else "", value, by
    elif option == "--containlibs":
        yield OverrideKind.BIND, _LIBRARIES, value, by
    elif option == "--home":
        source, _, path = value.partition(":")
        yield OverrideKind.BIND, path or source, source, by
    else:  # --env
        for name, _, text in (pair.partition("=") for pair in value.split(",")):
            if name in _PROGRAMS_FIRST:
                yield OverrideKind.VARIABLE, name, text, by


def _binds(value: str) -> Iterator[tuple[str, str]]:
    """Give source and destination of each of the binds ``source[:destination[:options]],…`` in `value`."""
    for bind in _COMMA.split(value):
        if bind and not _BIND_OPTION.fullmatch(bind):
            source, path, *_ = *(part.replace("\\:", ":").replace("\\,", ",") for part in _COLON.split(bind)), ""
            yield source, path or source


def _mounts(value: str) -> Iterator[tuple[str, str]]:
    """Give source and destination of each of the mounts ``type=bind,source=…,destination=…``, one a line."""
    for row in csv.reader(value.splitlines()):
        fields = dict(field.partition("=")[::2] for field in row)
        path = next((fields[name] for name in ("destination", "dst", "target") if fields.get(name)), "")
        yield next((fields[name] for name in ("source", "src") if fields.get(name)), ""), path


def _expanded(value: str, environment: Mapping[str, str]) -> str:
    """Return `value` as the shell makes it of variables and of a tilde at the start of a path."""
    value = _NAME.sub(lambda match: environment.get(match["braced"] or match["plain"], ""), value)
    home = environment.get("HOME", "~")
    return re.sub(r"(?<![^:,=])~(?=[/:,]|$)", lambda _: home, value)


def _place(kind: OverrideKind, path: str, folder: str) -> str:
    if kind is OverrideKind.VARIABLE or not path or is_open(path):
        return _short(path)
    return _short(posixpath.normpath(posixpath.join("/", folder, path)))


def over_programs(overrides: Iterable[Override]) -> Iterator[str]:
    """Give in words those of `overrides` that put something over what images run, as can be told without any image."""
    for override in overrides:
        top = override.path.split("/")[1] if override.path.startswith("/") else ""
        if override.kind is not OverrideKind.BIND:
            yield f"{override.by} puts {override.source} over all images"
        elif (
            is_open(override.path)
            or override.path == "/"
            or (top in LOADED_FROM and override.path not in FILES_BOUND_ANYWAY)
        ):
            yield f"{override.by} puts {override.source} over {override.path} of all images"


def is_open(path: str) -> bool:
    """Return whether only a shell could say which path this is."""
    return any(mark in path for mark in "$`*?[{")


def _short(text: str) -> str:
    return "".join(kept([text], {}, ours=""))
