"""``library://``: images of a container library (Sylabs' or one's own).

The library says which SIF file a tag has now: ``GET /v1/images/<path>:<tag>?arch=<arch>`` has, under ``data.hash``,
``sha256.`` and the SHA-256 of the file. Asked by such a hash, Apptainer's client never compares what it asked for with
what it got; we do. The hash of the file is only known once the file is here, so the pin says what the library promised,
and the fetch holds the file to it.

The library is the one in the reference, else ``APPTAINER_LIBRARY``, else the one of Apptainer's active remote
(``remote.yaml`` of the user, then of the system). Apptainer's default remote has none.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from snakemake_apptainer_freshness.errors import (
    DamagedAnswer,
    Denied,
    InvalidDigest,
    InvalidSettings,
    NotFound,
    Unauthorized,
    Unpullable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import urls
from snakemake_apptainer_freshness.registry.login_places import config_folder
from snakemake_apptainer_freshness.registry.retry import RetryPolicy
from snakemake_apptainer_freshness.registry.transport import (
    FORBIDDEN,
    NOT_FOUND,
    OK,
    UNAUTHORIZED,
    HttpRequest,
    Transport,
)
from snakemake_apptainer_freshness.registry.urls import Url
from snakemake_apptainer_freshness.settings import Limits

MEDIA_TYPE: Final = "application/vnd.sylabs.sif.layer.v1.sif"
SYSTEM_REMOTES: Final = (
    Path("/etc/apptainer/remote.yaml"),
    Path("/usr/local/etc/apptainer/remote.yaml"),
    Path("/etc/singularity/remote.yaml"),
)
SYLABS_REMOTE: Final = "cloud.sylabs.io"
SYLABS_LIBRARY: Final = "https://library.sylabs.io"
_LARGEST_CONFIGURATION: Final = 1024 * 1024


class LibrarySource:
    """References of container libraries."""

    def __init__(
        self,
        transport: Transport,
        patience: RetryPolicy,
        *,
        limits: Limits,
        environ: Mapping[str, str],
        insecure: bool = False,
        system_remotes: Iterable[Path] = SYSTEM_REMOTES,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._limits = limits
        self._environ = environ
        self._insecure = insecure
        self._system_remotes = tuple(system_remotes)

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference` for this machine's architecture.

        Raises
        ------
        DamagedAnswer
            where the library answers for another image than the one that was asked for.
        InvalidSettings
            where no library is configured.
        RegistryError
            where the library cannot be asked, or does not have it.
        """
        digest = self._ask(reference, reference.tag or f"sha256.{reference.digest.hex if reference.digest else ''}")
        if reference.digest is not None and digest != reference.digest:
            raise DamagedAnswer(
                f"{reference.text}: the library answers with another image ({digest})",
                hint="do not use it: the library, or something between it and here, is broken or lying",
            )
        return Entry(
            reference=reference,
            digest=digest,
            media_type=MEDIA_TYPE,
            platforms={Platform.here(): digest},
        )

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """Return what the library says now of `reference`."""
        pin = entry.digest
        if reference.tag is None:
            served = self._is_served(reference, pin)
            return RemoteFact(state=RemoteState.CURRENT if served else RemoteState.LOST)
        try:
            digest = self._ask(reference, reference.tag)
        except NotFound as error:
            state = RemoteState.UNTAGGED if self._is_served(reference, pin) else RemoteState.LOST
            return RemoteFact(state=state, detail=error.message)
        if digest == pin:
            return RemoteFact(state=RemoteState.CURRENT, digest=pin)
        return RemoteFact(
            state=RemoteState.MOVED if self._is_served(reference, pin) else RemoteState.LOST,
            digest=digest,
            platforms={Platform.here(): digest},
        )

    def _is_served(self, reference: Reference, pin: Digest) -> bool:
        try:
            # a library may answer a hash with another image
            return self._ask(reference, f"sha256.{pin.hex}") == pin
        except NotFound:
            return False

    def _ask(self, reference: Reference, tag: str) -> Digest:
        base, token = self._library(reference)
        path = quote(f"/v1/images/{reference.repository}:{tag}", safe="/:")
        target = f"{base.target.rstrip('/')}{path}?arch={quote(Platform.here().architecture)}"
        ask = HttpRequest(
            method="GET",
            url=Url(origin=base.origin, target=target),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limit=self._limits.manifest_size,
        )
        answer = self._patience.ask(base.origin, lambda: self._transport.send(ask))
        if answer.status == OK:
            return read_hash(answer.body)
        if answer.status == NOT_FOUND:
            architecture = Platform.here().architecture
            raise NotFound(f"{reference.text}: the library {base.origin} has no such image for {architecture}")
        if answer.status == UNAUTHORIZED:
            raise Unauthorized(
                f"{reference.text}: the library {base.origin} wants a login", hint="apptainer remote login"
            )
        if answer.status == FORBIDDEN:
            raise Denied(f"{reference.text}: the library {base.origin} refuses it")
        raise DamagedAnswer(f"{reference.text}: the library {base.origin} answered with status {answer.status}")

    def _library(self, reference: Reference) -> tuple[Url, str]:
        """Return the base address of the library, and the token for it.

        A token goes to its own remote's library alone.
        """
        if reference.host:
            scheme = "http" if self._insecure else "https"
            return urls.parse(f"{scheme}://{reference.host}"), ""
        if explicit := self._environ.get("APPTAINER_LIBRARY") or self._environ.get("SINGULARITY_LIBRARY"):
            return urls.parse(explicit), ""
        remote = active_remote(self._environ, self._system_remotes)
        uri = str(remote.get("URI") or "")
        token = str(remote.get("Token") or "")
        if not uri:
            raise _no_library(reference, "no remote is configured")
        if uri == SYLABS_REMOTE:
            return urls.parse(SYLABS_LIBRARY), token
        return self._library_of(reference, uri), token

    def _library_of(self, reference: Reference, uri: str) -> Url:
        """Return the library that the remote `uri` names in its own configuration."""
        url = urls.parse(f"https://{uri}/assets/config/config.prod.json")
        ask = HttpRequest(method="GET", url=url, limit=_LARGEST_CONFIGURATION)
        answer = self._patience.ask(url.origin, lambda: self._transport.send(ask))
        try:
            library = json.loads(answer.body)["libraryAPI"]["uri"] if answer.status == OK else None
        except (ValueError, KeyError, TypeError, RecursionError):
            library = None
        if not isinstance(library, str) or not library:
            raise _no_library(reference, f"the active remote, {uri}, has none")
        return urls.parse(library)


def read_hash(body: bytes) -> Digest:
    """Return the digest of the SIF file that a library's answer names.

    Raises
    ------
    DamagedAnswer
        where there is none.
    Unpullable
        where it is not a SHA-256.
    """
    try:
        text = json.loads(body)["data"]["hash"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedAnswer("the library's answer is not understood") from None
    if not isinstance(text, str) or not text.startswith("sha256."):
        raise Unpullable("the library names the image by something else than a SHA-256")
    try:
        return Digest.parse(text.replace(".", ":", 1))
    except InvalidDigest as error:
        raise DamagedAnswer(f"the library's answer is not understood: {error.message}") from None


def active_remote(environ: Mapping[str, str], system_remotes: Iterable[Path] = SYSTEM_REMOTES) -> Mapping[str, Any]:
    """Return the remote that Apptainer uses; empty where there is none (Apptainer, ``internal/pkg/remote``)."""
    folder = config_folder(environ)
    user = {} if folder is None else _read_remotes(folder / "remote.yaml")
    system = next((found for path in system_remotes if (found := _read_remotes(path))), {})
    remotes = {**_mapping(system, "Remotes"), **_mapping(user, "Remotes")}
    exclusive = [name for name, remote in _mapping(system, "Remotes").items() if _is_exclusive(remote)]
    # a remote that the administrator made exclusive comes before the user's choice
    active = exclusive[0] if exclusive else user.get("Active") or system.get("Active")
    remote = remotes.get(str(active))
    return remote if isinstance(remote, dict) else {}


def _read_remotes(path: Path) -> Mapping[str, Any]:
    import yaml  # Snakemake's own; only a library:// without a host needs it

    try:
        with path.open("rb") as file:
            document = yaml.safe_load(file.read(_LARGEST_CONFIGURATION))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise InvalidSettings(f"cannot use {path}: it cannot be read, or is not YAML") from None
    return document if isinstance(document, dict) else {}


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _is_exclusive(remote: object) -> bool:
    return isinstance(remote, dict) and remote.get("Exclusive") is True


def _no_library(reference: Reference, why: str) -> InvalidSettings:
    return InvalidSettings(
        f"{reference.text}: Apptainer has no library to take it from: {why}",
        hint="add one (apptainer remote add --no-login NAME URI; apptainer remote use NAME), or name its host",
    )
