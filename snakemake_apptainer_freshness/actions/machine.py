"""The machine: programs, environment, logins and registries, as far as they decide how images are fetched and run.

Facts in, facts out; nothing is changed, no registry is asked, no credential helper is started. **No secret is read
into a fact**: of a login, the host and where it stands; of a variable, the value only where it is on a list of those
that hold a path or a switch.
"""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from snakemake_apptainer_freshness import ENVIRONMENT_VARIABLE
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.environment import OFFLINE, SWITCHES, TIMEOUT, wrong_switches
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidLogin, redact
from snakemake_apptainer_freshness.registry import containers_conf
from snakemake_apptainer_freshness.registry.credentials import LoginFile, from_environment, from_variable, read
from snakemake_apptainer_freshness.registry.login_places import AUTH_CONFIG, LoginRules, files_of_others, rules_here
from snakemake_apptainer_freshness.settings import DISK

DISTRIBUTION: Final = "snakemake-apptainer-freshness"

_OURS: Final = (
    "APPTAINER_", "SINGULARITY_", "DOCKER_", "REGISTRY_AUTH_FILE", "CONTAINERS_", "SSL_CERT_", "SNAKEMAKE_APPTAINER_",
)  # fmt: skip
_ALSO: Final = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "TMPDIR", "XDG_RUNTIME_DIR", "NO_COLOR"}
)
_SHOWN: Final = frozenset(
    {
        ENVIRONMENT_VARIABLE, OFFLINE, TIMEOUT, "TMPDIR", "XDG_RUNTIME_DIR", "NO_COLOR", "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR", "CONTAINERS_REGISTRIES_CONF",
        *(
            f"{family}_{name}"
            for family in ("APPTAINER", "SINGULARITY")
            for name in ("CACHEDIR", "CONFIGDIR", "TMPDIR", "AUTH_FILE", "AUTHFILE", "BIND", *SWITCHES)
        ),
    }
)  # fmt: skip
"""Variables that hold a path or a switch, and no secret."""
_PACKAGES: Final = (DISTRIBUTION, "snakemake")
_PROGRAMS: Final = {"squashfuse": "--help", "squashfuse_ll": "--help"}
_HELPER: Final = "docker-credential-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramVersion:
    """A package or a program; `version` is empty where it is not there, and `path` then says nothing.

    `is_reproducible` says of Apptainer whether it writes the same file each time that it pulls an image, of others
    None.
    """

    name: str
    version: str
    path: str = ""
    is_reproducible: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable that applies; `value` is None where it could be a secret."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLogin:
    """That there is a login for `host` (``*``: every one) in `source`; `used` says whether the program looks there."""

    host: str
    source: str
    used: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProblem:
    """What is wrong with the machine, and what to do about it."""

    kind: str
    text: str
    hint: str


def versions(environment: Mapping[str, str]) -> list[ProgramVersion]:
    """Return what is installed, and which version; apptainer is the one that Snakemake would run."""
    programs = [ProgramVersion(name="python", version=platform.python_version())]
    for name in _PACKAGES:
        try:
            programs.append(ProgramVersion(name=name, version=metadata.version(name)))
        except metadata.PackageNotFoundError:
            programs.append(ProgramVersion(name=name, version=""))
    try:
        apptainer = Apptainer.find(environment)
        family, _, number = apptainer.version.partition(" ")
        programs.append(
            ProgramVersion(
                name=family, version=number, path=apptainer.program, is_reproducible=apptainer.is_reproducible
            )
        )
    except FreshnessError:
        programs.append(ProgramVersion(name="apptainer", version=""))
    return [*programs, *(_program(name, environment) for name in _PROGRAMS)]


def _program(name: str, environment: Mapping[str, str]) -> ProgramVersion:
    path = shutil.which(name, path=environment.get("PATH", os.defpath))
    if path is None:
        return ProgramVersion(name=name, version="")
    printed = ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        result = subprocess.run(
            [path, _PROGRAMS[name]], env=dict(environment), capture_output=True, text=True, errors="replace",
            timeout=DISK.program_timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        printed = result.stdout or result.stderr
    words = printed.partition("\n")[0].split()
    number = next((word.strip("(),") for word in words if word[:1].isdigit()), "present")
    return ProgramVersion(name=name, version=redact(number)[:40], path=path)


def variables(environment: Mapping[str, str]) -> list[Variable]:
    """Return the variables that decide how images are fetched and run; without what they put into containers."""
    names = sorted(
        name
        for name in environment
        if name.upper() in _ALSO or (name.startswith(_OURS) and not name.startswith(("APPTAINERENV", "SINGULARITYENV")))
    )
    return [Variable(name=name, value=redact(environment[name]) if name in _SHOWN else None) for name in names]


def logins(environment: Mapping[str, str]) -> tuple[list[KnownLogin], list[MachineProblem]]:
    """Return every login that is there, whether the program uses it or not, and what is wrong with them."""
    rules = rules_here(environment)
    known, problems = [], []
    if from_environment(environment, rules) is not None:
        known.append(KnownLogin(host="*", source="the environment (…DOCKER_USERNAME and …DOCKER_PASSWORD)"))
    serves = rules.reads_auth_config and not rules.resolves_apart  # what resolves does not read it
    known += [KnownLogin(host=_host(key), source=AUTH_CONFIG, used=serves) for key in from_variable(environment)]
    used = rules.file(environment)
    if used is not None:
        try:
            file = read(used)
        except InvalidLogin as error:
            problems.append(MachineProblem(kind="login", text=error.message, hint=error.hint))
        else:
            known += _in_file(file, str(used), used=True)
            problems += _missing_helpers(file, environment, rules)
    for _, path in files_of_others(environment, rules):
        if path != used and path.is_file():
            with contextlib.suppress(InvalidLogin):  # another tool's business
                known += _in_file(read(path), str(path), used=False)
    return known, [*problems, *_only_ignored(known, rules)]


def _in_file(file: LoginFile, source: str, *, used: bool) -> Iterator[KnownLogin]:
    hosts = {_host(key): source for key in file.auths}
    hosts |= {_host(key): f"{_HELPER}{helper}, named in {source}" for key, helper in file.helpers.items()}
    if file.store:
        hosts["*"] = f"{_HELPER}{file.store}, named in {source}"
    yield from (KnownLogin(host=host, source=where, used=used) for host, where in sorted(hosts.items()))


def _host(key: str) -> str:
    """Return the host and namespace of a key that may be a URL, without a user in it."""
    text = key.partition("://")[2] or key
    host, slash, rest = text.partition("/")
    return redact((host.rpartition("@")[2] + slash + rest).rstrip("/"))[:200]


def _missing_helpers(file: LoginFile, environment: Mapping[str, str], rules: LoginRules) -> Iterator[MachineProblem]:
    for helper in sorted({file.store, *file.helpers.values()} - {""}):
        if shutil.which(_HELPER + helper, path=environment.get("PATH", os.defpath)) is None:
            yield MachineProblem(
                kind="login",
                text=f"{file.path} names the helper {_HELPER}{helper}, which is not on PATH",
                hint=f"install it, or take it out of {file.path} and log in with: {rules.login_command}",
            )


def _only_ignored(logins: list[KnownLogin], rules: LoginRules) -> Iterator[MachineProblem]:
    """Hosts that have a login which the program does not see, and none that it does."""
    seen = {login.host for login in logins if login.used}
    if "*" in seen:
        return
    variables = "".join(f", or set {name} to a file of that form" for name in rules.file_variables[:1])
    for host, source in {login.host: login.source for login in logins if not login.used}.items():
        if host not in seen:
            yield MachineProblem(
                kind="login",
                text=f"{rules.name} ignores the login for {'every host' if host == '*' else host} in {source}",
                hint=f"log in with: {rules.login_command}{variables}",
            )


def registries(environment: Mapping[str, str]) -> tuple[list[str], list[MachineProblem]]:
    """Return what registries.conf says that matters here, a line an entry; and what is wrong with it."""
    try:
        configured = containers_conf.load(environment).registries
    except FreshnessError as error:
        return [], [MachineProblem(kind="registries.conf", text=error.message, hint=error.hint)]
    lines = []
    for registry in configured:
        says = ["blocked"] if registry.blocked else []
        if registry.location and registry.location != registry.prefix:
            says.append(f"asked at {registry.location}")
        says += [f"mirror {mirror.location}" for mirror in registry.mirrors]
        says += ["plain http allowed"] if registry.insecure else []
        lines.append(redact(f"{registry.prefix}: {', '.join(says) or 'as it is'}"))
    return lines, []


def wrong_values(environment: Mapping[str, str]) -> Iterator[MachineProblem]:
    """Give a problem for each switch of Apptainer whose value it would refuse."""
    for name in wrong_switches(environment):
        yield MachineProblem(
            kind="environment",
            text=f"{name} is {redact(environment[name])[:40]!r}, which Apptainer refuses",
            hint=f"a switch is 1 or true, 0 or false: export {name}=1, or unset it",
        )
