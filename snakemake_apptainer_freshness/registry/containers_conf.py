"""registries.conf: where a reference is really asked for, as containers/image decides it inside Apptainer.

The rules are those of containers-registries.conf(5), format 2 and the older format 1:

* ``~/.config/containers/registries.conf`` replaces ``/etc/containers/registries.conf``, and then only the user's folder
  of drop-ins counts; otherwise the drop-ins (``registries.conf.d/*.conf``, in order of their names) of the system and
  then of the user are laid over it, a later entry for the same prefix replacing an earlier one.
* The entry with the longest matching prefix counts. A prefix ends at ``/``, ``:`` or ``@``; ``*.example.org`` stands
  for all hosts below ``example.org``.
* The mirrors are asked in order, then the location. ``pull-from-mirror`` and ``mirror-by-digest-only`` skip mirrors.
* ``blocked`` refuses. ``insecure`` allows plain http.

Search lists and short-name aliases are not read: ``docker://`` has no short names.

Apptainer resolves and downloads with two libraries, and the second honours less (``getDockerImage`` in
``internal/pkg/ociimage/sourcesink.go``, 1.4.2 and later): the first mirror of the entry that matches the bare host, and
nothing else. :meth:`RegistriesConf.download_place` says where that leads, so that a difference can be told.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.environment import is_on
from snakemake_apptainer_freshness.errors import InvalidRegistriesConf, PolicyRefused

SYSTEM_FOLDER: Final = Path("/etc/containers")
USER_FOLDER: Final = Path(".config/containers")
MAX_SIZE: Final = 1024 * 1024
"""Of one file, in bytes."""

_RFC_1918: Final = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))

ALL, DIGEST_ONLY, TAG_ONLY = "all", "digest-only", "tag-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where a repository is asked for: a host as it stands in a reference, and the repository there."""

    host: str
    repository: str
    insecure: bool = False
    """Plain http is allowed where https fails."""

    @property
    def api_host(self) -> str:
        """The host that the requests go to."""
        return "registry-1.docker.io" if self.host == "docker.io" else self.host.lower()

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryMirror:
    """A place to ask before the registry itself; `pull` says for which references."""

    location: str
    insecure: bool = False
    pull: str = ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConf:
    """One ``[[registry]]``. `location` is empty where a wildcard keeps the host."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[RegistryMirror, ...] = ()

    def matches(self, name: str) -> bool:
        """Return whether `name`, as in ``quay.io/team/tool``, lies under the prefix."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0].partition(":")[0]
            return host.endswith(self.prefix[1:])
        rest = name.removeprefix(self.prefix)
        return name.startswith(self.prefix) and (not rest or rest[0] in "/:@")

    def rewrite(self, name: str, location: str) -> str:
        """Return `name` with `location` in the place of the prefix."""
        if not location:
            return name
        if self.prefix.startswith("*."):
            host = name.partition("/")[0].partition(":")[0]
            return location + name.removeprefix(host)
        return location + name.removeprefix(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesConf:
    """All entries; `everything_insecure` is Apptainer's ``--no-https``."""

    registries: tuple[RegistryConf, ...] = ()
    everything_insecure: bool = False

    def find(self, name: str) -> RegistryConf | None:
        """Return the entry with the longest prefix that `name` lies under."""
        matching = [registry for registry in self.registries if registry.matches(name)]
        return max(matching, key=lambda registry: len(registry.prefix), default=None)

    def places(self, host: str, repository: str, *, by_digest: bool) -> tuple[Repository, ...]:
        """Return where ``host/repository`` is asked for, in order; `by_digest` where a digest is wanted, not a tag.

        Raises
        ------
        PolicyRefused
            where the registry is blocked.
        InvalidRegistriesConf
            where an entry leads to something that is no repository.
        """
        name = f"{host}/{repository}"
        registry = self.find(name)
        if registry is None:
            return (Repository(host=host, repository=repository, insecure=self.everything_insecure),)
        if registry.blocked:
            raise PolicyRefused(
                f"{name}: the registry {registry.prefix} is blocked in registries.conf",
                hint="use an image of another registry, or ask who set that up",
            )
        skipped = TAG_ONLY if by_digest else DIGEST_ONLY
        mirrors = [mirror for mirror in registry.mirrors if mirror.pull != skipped]
        endpoints = [(mirror.location, mirror.insecure) for mirror in mirrors]
        return tuple(
            self._place(registry.rewrite(name, location), insecure=insecure)
            for location, insecure in [*endpoints, (registry.location, registry.insecure)]
        )

    def download_place(self, host: str, repository: str) -> Repository:
        """Return where Apptainer would download ``host/repository`` from."""
        registry = self.find(host)
        if registry is None or not registry.mirrors:
            return Repository(host=host, repository=repository, insecure=self.everything_insecure)
        mirror = registry.mirrors[0]
        return self._place(f"{mirror.location}/{repository}", insecure=mirror.insecure)

    def _place(self, name: str, *, insecure: bool) -> Repository:
        host, slash, repository = name.partition("/")
        if not slash or not repository or not host:
            raise InvalidRegistriesConf(f"registries.conf leads to {name!r}, which is no repository")
        return Repository(host=host, repository=repository, insecure=insecure or self.everything_insecure)


def load(environ: Mapping[str, str], *, system_folder: Path = SYSTEM_FOLDER) -> RegistriesConf:
    """Return the configuration of this machine and user.

    Raises
    ------
    InvalidRegistriesConf
        where a file cannot be read or understood; Apptainer would refuse to pull, too.
    """
    home = environ.get("HOME", "")
    user_folder = Path(home) / USER_FOLDER if home else None
    if user_folder is not None and (user_folder / "registries.conf").exists():
        files = [user_folder / "registries.conf", *_drop_ins(user_folder)]
    else:
        files = [system_folder / "registries.conf", *_drop_ins(system_folder)]
        files += _drop_ins(user_folder) if user_folder is not None else []
    by_prefix: dict[str, RegistryConf] = {}
    for path in files:
        by_prefix.update({registry.prefix: registry for registry in _read(path)})
    return RegistriesConf(registries=tuple(by_prefix.values()), everything_insecure=no_https(environ))


def parse(text: str, source: str) -> tuple[RegistryConf, ...]:
    """Return the entries that `text` spells; `source` names the file, for errors.

    Raises
    ------
    InvalidRegistriesConf
        where it is not TOML, or breaks a rule of the format.
    """
    import tomllib  # most machines have no such file

    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _invalid(source, f"not valid TOML: {error}") from None
    if isinstance(document.get("registries"), dict):
        if "registry" in document or "unqualified-search-registries" in document:
            raise _invalid(source, "it mixes the formats 1 and 2")
        return _format_1(document["registries"], source)
    tables = _tables(document.get("registry", []), "registry", source)
    registries = tuple(_registry(table, source) for table in tables)
    _refuse_conflicts(registries, source)
    return registries


def _format_1(document: Mapping[str, Any], source: str) -> tuple[RegistryConf, ...]:
    def listed(key: str) -> list[str]:
        table = document.get(key, {})
        names = table.get("registries", []) if isinstance(table, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _invalid(source, f"registries.{key}.registries must be a list of names")
        return [_location(name, source) for name in names]

    insecure, blocked = listed("insecure"), listed("block")
    return tuple(
        RegistryConf(prefix=name, location=name, insecure=name in insecure, blocked=name in blocked)
        for name in dict.fromkeys([*insecure, *blocked])
        if name
    )


def _registry(table: Mapping[str, Any], source: str) -> RegistryConf:
    location = _location(_value(table, "location", str, source), source)
    prefix = _location(_value(table, "prefix", str, source), source) or location
    if not prefix:
        raise _invalid(source, "a [[registry]] needs a location or a prefix")
    if not location and not prefix.startswith("*."):
        raise _invalid(source, f"the [[registry]] of prefix {prefix!r} needs a location")
    digest_only = _value(table, "mirror-by-digest-only", bool, source)
    mirrors = _tables(table.get("mirror", []), "registry.mirror", source)
    return RegistryConf(
        prefix=prefix,
        location=location,
        insecure=_value(table, "insecure", bool, source),
        blocked=_value(table, "blocked", bool, source),
        mirrors=tuple(_mirror(mirror, source, digest_only=digest_only) for mirror in mirrors),
    )


def _mirror(table: Mapping[str, Any], source: str, *, digest_only: bool) -> RegistryMirror:
    location = _location(_value(table, "location", str, source), source)
    if not location:
        raise _invalid(source, "a [[registry.mirror]] needs a location")
    pull = _value(table, "pull-from-mirror", str, source)
    if digest_only and pull:
        raise _invalid(source, f"mirror {location!r}: mirror-by-digest-only and pull-from-mirror exclude each other")
    if pull not in ("", ALL, DIGEST_ONLY, TAG_ONLY):
        raise _invalid(source, f"mirror {location!r}: pull-from-mirror cannot be {pull!r}")
    return RegistryMirror(
        location=location,
        insecure=_value(table, "insecure", bool, source),
        pull=DIGEST_ONLY if digest_only else pull or ALL,
    )


def _refuse_conflicts(registries: Iterable[RegistryConf], source: str) -> None:
    seen: dict[str, RegistryConf] = {}
    for registry in registries:
        name = registry.location or registry.prefix
        other = seen.setdefault(name, registry)
        if (registry.insecure, registry.blocked) != (other.insecure, other.blocked):
            raise _invalid(source, f"{name!r} stands twice, with different insecure or blocked")


def _value(table: Mapping[str, Any], key: str, kind: type, source: str) -> Any:
    value = table.get(key, kind())
    if not isinstance(value, kind):
        raise _invalid(source, f"{key} must be a {'text' if kind is str else 'truth value'}, not {value!r:.80}")
    return value


def _tables(value: object, key: str, source: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise _invalid(source, f"{key} must be an array of tables, written [[{key}]]")
    return value


def _location(text: str, source: str) -> str:
    if text.startswith(("http://", "https://")):
        raise _invalid(source, f"{text[:120]!r} must be written without a scheme")
    return text.rstrip("/")


def _read(path: Path) -> tuple[RegistryConf, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _invalid(str(path), str(error.strerror or error)) from None
    if len(content) > MAX_SIZE:
        raise _invalid(str(path), f"it is larger than {MAX_SIZE} bytes")
    try:
        return parse(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise _invalid(str(path), "it is not UTF-8") from None


def _drop_ins(folder: Path) -> list[Path]:
    try:
        return sorted((folder / "registries.conf.d").glob("*.conf"))
    except OSError:
        return []


def is_local(host: str) -> bool:
    """Return whether go-containerregistry takes plain http for granted at `host` (``pkg/name/registry.go``)."""
    name = host.partition(":")[0]
    try:
        private = any(ipaddress.ip_address(name) in network for network in _RFC_1918)
    except ValueError:
        private = False
    return (
        private
        or host.startswith("localhost:")
        or name.endswith((".local", ".localhost"))
        or "127.0.0.1" in host
        or "::1" in host
    )


def no_https(environ: Mapping[str, str]) -> bool:
    """Return whether ``--no-https`` is set by the environment: what Go's ``strconv.ParseBool`` takes for true."""
    return is_on(environ, "APPTAINER_NOHTTPS", "SINGULARITY_NOHTTPS")


def _invalid(source: str, problem: str) -> InvalidRegistriesConf:
    return InvalidRegistriesConf(
        f"cannot use {source}: {problem}", hint="see containers-registries.conf(5); Apptainer reads the same file"
    )
