"""The network of a run: which source answers for a reference, over which connections, by which configuration.

Everything is made when the first reference needs it, and once: one transport, one client, one look at registries.conf
and at the logins. A resolver that meets only local files imports no network library at all.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.common import environment
from snakemake_apptainer_freshness.errors import Offline
from snakemake_apptainer_freshness.freshness import RemoteFact
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.scheme import Scheme, Source
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import containers_conf
from snakemake_apptainer_freshness.registry.containers_conf import RegistriesConf, Repository
from snakemake_apptainer_freshness.settings import Limits

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.retry import RetryPolicy
    from snakemake_apptainer_freshness.registry.sources import ReferenceSource, RegistrySource
    from snakemake_apptainer_freshness.registry.tokens import Authenticator
    from snakemake_apptainer_freshness.registry.transport import Transport
    from snakemake_apptainer_freshness.registry.web import WebSource

TOKEN_HOSTS: Final = "APPTAINER_FRESHNESS_TOKEN_HOSTS"  # noqa: S105  a variable's name
"""Environment variable: hosts of token services that may see logins, with commas between them. It is not an option of
the workflow's configuration, which other people may have written."""

_ASKED_WITH: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "HOME")
"""By which hosts are reached and trusted; those of proxies in small letters, too."""


def asked_with(environ: Mapping[str, str]) -> bytes:
    """Return what answers depend on here beside what is asked for: logins, mirrors, proxies.

    What was answered to one login is not given to another, who may see other repositories. There are secrets in it: it
    is to be hashed with a key. A helper that keeps logins is not run for that: a login that changes in it is noticed
    where the answer is next asked for.

    Raises
    ------
    InvalidRegistriesConf
        where registries.conf cannot be understood.
    OSError
        where the logins cannot be read.
    """
    from snakemake_apptainer_freshness.common import container_program
    from snakemake_apptainer_freshness.registry import login_places
    from snakemake_apptainer_freshness.registry.credentials import MAX_SIZE

    names = [*_ASKED_WITH, *(name.lower() for name in _ASKED_WITH)]
    parts = [*(environ.get(name, "") for name in names), *login_places.every_variable(environ)]
    parts += [repr(containers_conf.load(environ)), container_program.on_path(environ) or ""]
    for path in login_places.every_file(environ):  # of any program, so that none has to be started
        if path.exists():
            with path.open("rb") as file:
                parts += [str(path), file.read(MAX_SIZE).hex()]
    return "\0".join(parts).encode(errors="surrogateescape")


class Network:
    """Answers for any reference. Thread-safe."""

    def __init__(self, *, environ: Mapping[str, str], limits: Limits) -> None:
        self._environ = environ
        self._limits = limits
        self._lock = threading.Lock()
        self._sources: dict[Scheme, ReferenceSource] = {}
        self._transport: Transport | None = None
        self._patience: RetryPolicy | None = None
        self._conf: RegistriesConf | None = None
        self._registry: RegistrySource | None = None
        self._answerer: Authenticator | None = None
        self._warnings: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know although it is no error, each once."""
        return tuple(self._warnings)

    def close(self) -> None:
        """End all waiting and drop all connections."""
        with self._lock:
            if self._patience is not None:
                self._patience.stop()
            if self._transport is not None:
                self._transport.close()

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference`."""
        return self._source(reference).resolve(reference)

    def resolve_with_platform(self, reference: Reference) -> Entry:
        """Return the pin of `reference`; a single image's platform is looked up, too."""
        if not reference.scheme.is_registry:
            return self.resolve(reference)
        return self.registry(reference).resolve_with_platform(reference)

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """Return what is served now of `reference`, which `entry` pins."""
        fact = self._source(reference).check(reference, entry)
        if reference.scheme is Scheme.DOCKER and not fact.detail and self._conf is not None:
            fact = replace(fact, detail=self._difference(reference, self._places(reference)[0]))
        return fact

    def registry(self, reference: Reference) -> "RegistrySource":
        """Return the registry that `reference`, of ``docker://`` or ``oras://``, is in."""
        from snakemake_apptainer_freshness.registry.sources import RegistrySource

        source = self._source(reference)
        assert isinstance(source, RegistrySource)  # noqa: S101  of these two schemes
        return source

    def web(self, reference: Reference) -> "WebSource":
        """Return the source for web servers, for the address `reference`."""
        from snakemake_apptainer_freshness.registry.web import WebSource

        source = self._source(reference)
        assert isinstance(source, WebSource)  # noqa: S101  of this scheme
        return source

    def _source(self, reference: Reference) -> "ReferenceSource":
        with self._lock:
            source = self._sources.get(reference.scheme)
            if source is None:
                source = self._sources[reference.scheme] = self._make(reference.scheme)
            return source

    def _make(self, scheme: Scheme) -> "ReferenceSource":
        """Make what answers for references of `scheme`; each imports what it alone needs."""
        return FACTORIES[scheme.rules.source](self)

    def _make_web(self) -> "ReferenceSource":
        from snakemake_apptainer_freshness.registry.web import WebSource

        return WebSource(*self._connect(), limits=self._limits)

    def _make_library(self) -> "ReferenceSource":
        from snakemake_apptainer_freshness.registry.library import LibrarySource

        insecure = containers_conf.no_https(self._environ)
        return LibrarySource(*self._connect(), limits=self._limits, environ=self._environ, insecure=insecure)

    def _make_local(self) -> "ReferenceSource":
        from snakemake_apptainer_freshness.registry.local import FileSource

        return FileSource(limits=self._limits)

    def _make_registry(self) -> "ReferenceSource":
        from snakemake_apptainer_freshness.registry.client import Client
        from snakemake_apptainer_freshness.registry.sources import RegistrySource
        from snakemake_apptainer_freshness.registry.tokens import Authorizations

        if self._registry is None:
            self._conf = containers_conf.load(self._environ)
            transport, patience = self._connect()
            client = Client(
                transport, patience, limits=self._limits, authorizations=Authorizations(self._make_answerer)
            )
            self._registry = RegistrySource(client, self._places, self._warn)
        return self._registry

    def _make_answerer(self) -> "Authenticator":
        from snakemake_apptainer_freshness.registry.credentials import Credentials
        from snakemake_apptainer_freshness.registry.tokens import Authenticator

        with self._lock:
            if self._answerer is None:
                transport, patience = self._connect()
                self._answerer = Authenticator(
                    transport,
                    patience,
                    limits=self._limits,
                    credentials=Credentials(self._environ, limits=self._limits),
                    token_hosts=_token_hosts(self._environ),
                )
            return self._answerer

    def _connect(self) -> "tuple[Transport, RetryPolicy]":
        """Return the one transport and the one patience of this run; raises Offline where no network is wanted."""
        if environment.is_offline(self._environ):
            raise Offline(
                "no registry is asked, since no network is wanted",
                hint=f"to ask, run it without --offline, or unset {environment.OFFLINE}",
            )
        from snakemake_apptainer_freshness.registry.retry import RetryPolicy
        from snakemake_apptainer_freshness.registry.tls import Trusts
        from snakemake_apptainer_freshness.registry.transport import Transport

        if self._transport is None or self._patience is None:
            self._transport = Transport(limits=self._limits, environ=self._environ, trust=Trusts(self._environ).of)
            self._patience = RetryPolicy(self._limits)
        return self._transport, self._patience

    def _places(self, reference: Reference) -> tuple[Repository, ...]:
        assert self._conf is not None  # noqa: S101  made before any source that asks for it
        if reference.scheme is Scheme.ORAS:
            # Apptainer's oras:// does not read registries.conf (internal/pkg/client/oras).
            insecure = self._conf.everything_insecure or containers_conf.is_local(reference.host)
            return (Repository(host=reference.host, repository=reference.repository, insecure=insecure),)
        by_digest = reference.digest is not None
        places = self._conf.places(reference.host, reference.repository, by_digest=by_digest)
        if warning := self._difference(reference, places[0]):
            self._warn(warning)
        return places

    def _warn(self, warning: str) -> None:
        self._warnings[warning] = None

    def _difference(self, reference: Reference, asked: Repository) -> str:
        """Return that Apptainer asks one host for the digest and downloads from another, where it does."""
        assert self._conf is not None  # noqa: S101
        download = self._conf.download_place(reference.host, reference.repository)
        if str(download) == str(asked):
            return ""
        return (
            f"{reference.host}/{reference.repository}: by registries.conf it is resolved at {asked}, "
            f"but Apptainer downloads it from {download}"
        )


FACTORIES: Final[dict[Source, Callable[[Network], "ReferenceSource"]]] = {
    Source.REGISTRY: Network._make_registry,  # noqa: SLF001  of this module
    Source.WEB: Network._make_web,  # noqa: SLF001
    Source.LIBRARY: Network._make_library,  # noqa: SLF001
    Source.LOCAL: Network._make_local,  # noqa: SLF001
}
"""What answers for the references of each source."""


def _token_hosts(environ: Mapping[str, str]) -> frozenset[str]:
    return frozenset(host for text in environ.get(TOKEN_HOSTS, "").split(",") if (host := text.strip().lower()))
