"""Where logins lie: the variables, and the one file, from which the program that Snakemake runs reads them.

A login that this program does not use would let us see an image that it then cannot pull. What it reads goes by its
family and version (``cmd/internal/cli``: ``--docker-username`` and ``--authfile``; ``pkg/syfs``; ``ociauth``):

===================  ================================================================================================
Apptainer 1.4-       the file ``APPTAINER_AUTH_FILE`` or ``SINGULARITY_AUTH_FILE``; else ``docker-config.json`` in
                     ``APPTAINER_CONFIGDIR`` or ``SINGULARITY_CONFIGDIR`` (``~/.apptainer``); else, only where that does
                     not exist, ``config.json`` in the folder of that variable (``~/.docker``)
SingularityCE 4.1-   the file ``SINGULARITY_AUTHFILE``; else ``docker-config.json`` in ``SINGULARITY_CONFIGDIR``
                     (``.singularity`` in the home folder of the account, whatever ``HOME`` says), and nothing else
===================  ================================================================================================

Earlier versions are taken to read the same but for the variable of a file, which they do not know. Before every file
comes the pair of user name and password in the environment: ``APPTAINER_DOCKER_…`` (Apptainer alone), ``DOCKER_…`` and
``SINGULARITY_DOCKER_…``. What downloads reads ``DOCKER_AUTH_CONFIG`` before the file, too, from Apptainer 1.5 and
SingularityCE 4.4 on (docker/cli 28.3, ``cli/config/configfile``). Where no program is found, the rules are those of the
latest Apptainer.
"""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common import container_program
from snakemake_apptainer_freshness.errors import MissingProgram

_FILE: Final = "docker-config.json"
AUTH_CONFIG: Final = "DOCKER_AUTH_CONFIG"
"""A variable with logins themselves, in the form of a file of Docker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRules:
    """What the programs of one family and age read; of several variables the first that is set counts.

    `pairs` begin the names of the variables for user name and password. `resolves_apart` says that another library
    resolves than downloads, and reads the file in a way of its own. `reads_auth_config` says that what downloads reads
    :data:`AUTH_CONFIG` before the file.
    """

    name: str
    login_command: str
    pairs: tuple[str, ...]
    folder_variables: tuple[str, ...]
    folder: str
    file_variables: tuple[str, ...]
    reads_docker_s: bool
    resolves_apart: bool
    reads_auth_config: bool = True

    def pair(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """Return user name and password, each from the first of its variables that is set."""
        username, password = (
            next((value for prefix in self.pairs if (value := environ.get(f"{prefix}_{what}"))), "")
            for what in ("USERNAME", "PASSWORD")
        )
        return username, password

    def file(self, environ: Mapping[str, str]) -> Path | None:
        """Return the one file that is read, which need not be there; None where there is no home folder."""
        for variable in self.file_variables:
            if named := environ.get(variable, "").strip():
                return Path(named)
        own = self.configuration(environ, self.folder)
        if own is None or not self.reads_docker_s or (own / _FILE).is_file():
            return own and own / _FILE
        docker = self.configuration(environ, ".docker")
        return docker and docker / "config.json"

    def configuration(self, environ: Mapping[str, str], name: str) -> Path | None:
        """Return the folder for a user's configuration, called `name` in the home folder unless a variable says."""
        explicit = next((value for variable in self.folder_variables if (value := environ.get(variable))), "")
        if explicit:
            return Path(explicit)
        home = environ.get("HOME", "") if self.reads_docker_s else account_home()
        return Path(home) / name if home else None


_APPTAINER: Final = LoginRules(
    name="Apptainer",
    login_command="apptainer registry login",
    pairs=("APPTAINER_DOCKER", "DOCKER", "SINGULARITY_DOCKER"),
    folder_variables=("APPTAINER_CONFIGDIR", "SINGULARITY_CONFIGDIR"),
    folder=".apptainer",
    file_variables=("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE"),
    reads_docker_s=True,
    resolves_apart=True,
)
_SINGULARITY: Final = LoginRules(
    name="SingularityCE",
    login_command="singularity registry login",
    pairs=("SINGULARITY_DOCKER", "DOCKER"),
    folder_variables=("SINGULARITY_CONFIGDIR",),
    folder=".singularity",
    file_variables=("SINGULARITY_AUTHFILE",),
    reads_docker_s=False,
    resolves_apart=False,
)
_OLD_APPTAINER: Final = replace(_APPTAINER, file_variables=(), reads_auth_config=False)
_OLD_SINGULARITY: Final = replace(_SINGULARITY, file_variables=(), reads_auth_config=False, resolves_apart=True)
_LINES: Final[tuple[tuple[str, tuple[int, int], LoginRules], ...]] = (
    ("apptainer", (1, 5), _APPTAINER),
    ("apptainer", (1, 4), replace(_APPTAINER, reads_auth_config=False)),
    ("apptainer", (1, 3), _OLD_APPTAINER),
    ("apptainer", (1, 0), replace(_OLD_APPTAINER, login_command="apptainer remote login")),
    ("singularity", (4, 4), _SINGULARITY),
    ("singularity", (4, 1), replace(_SINGULARITY, reads_auth_config=False)),
    ("singularity", (4, 0), _OLD_SINGULARITY),
    ("singularity", (3, 8), replace(_OLD_SINGULARITY, login_command="singularity remote login")),
)
"""Family, since which release, and what it reads; the latest of a family first. In SingularityCE 4.1 the one
library, go-containerregistry, took over from containers/image (``internal/pkg/ociimage``)."""
_VARIABLES: Final = ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE", "SINGULARITY_AUTHFILE", "APPTAINER_AUTHFILE")
"""For the file of logins, of whichever program; the last is known to none, and easily written by mistake."""


def rules_for(family: str, release: tuple[int, int]) -> LoginRules:
    """Return what a program of `family` and `release` reads."""
    return next((rules for of, since, rules in _LINES if of == family and release >= since), _APPTAINER)


def rules_here(environ: Mapping[str, str]) -> LoginRules:
    """Return what the program on PATH reads, which is started to say its version."""
    try:
        program = container_program.find(environ)
    except MissingProgram:
        return _APPTAINER
    return rules_for(program.family, program.release)


def account_home() -> str:
    """Return the home folder of this process's account; nothing where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def config_folder(environ: Mapping[str, str]) -> Path | None:
    """Return Apptainer's folder for a user's configuration."""
    return _APPTAINER.configuration(environ, _APPTAINER.folder)


def every_variable(environ: Mapping[str, str]) -> list[str]:
    """Return the values, in the order in which they count for Apptainer, of the variables that a login may stand in."""
    pairs = [environ.get(f"{prefix}_{what}", "") for what in ("USERNAME", "PASSWORD") for prefix in _APPTAINER.pairs]
    return [*pairs, environ.get(AUTH_CONFIG, "")]


def every_file(environ: Mapping[str, str]) -> list[Path]:
    """Return each file that a program of some family and version would read here, each once."""
    files = (rules.file(environ) for _, _, rules in _LINES)
    return list(dict.fromkeys(path for path in files if path is not None))


def files_of_others(environ: Mapping[str, str], rules: LoginRules) -> list[tuple[str, Path]]:
    """Return where other tools keep logins, with what a person calls it; `rules` may still name one of them."""
    home = environ.get("HOME", "")
    files = [(name, Path(named)) for name in _VARIABLES if (named := environ.get(name, "").strip())]
    if file := environ.get("REGISTRY_AUTH_FILE"):
        files.append(("REGISTRY_AUTH_FILE", Path(file)))
    if folder := environ.get("DOCKER_CONFIG"):
        files.append(("DOCKER_CONFIG", Path(folder) / "config.json"))
    if folder := environ.get("XDG_RUNTIME_DIR"):
        files.append(("$XDG_RUNTIME_DIR/containers/auth.json", Path(folder) / "containers/auth.json"))
    if home:
        files.append(("~/.config/containers/auth.json", Path(home) / ".config/containers/auth.json"))
        files.append(("~/.docker/config.json", Path(home) / ".docker/config.json"))
    if home and rules.folder != _APPTAINER.folder:
        files.append((f"~/{_APPTAINER.folder}/{_FILE}", Path(home) / _APPTAINER.folder / _FILE))
    return files
