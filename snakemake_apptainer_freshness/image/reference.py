"""References: what a workflow calls an image, parsed once and for all.

A reference names a *source* by its scheme. Apptainer's own spelling is the only one: ``docker://``, not
``docker:`` or ``Docker://``. A string without a scheme is a local file, as it is for Snakemake.

``docker://`` follows the grammar of ``github.com/distribution/reference`` (``reference.go``, ``regexp.go``,
``normalize.go``), of which Apptainer uses a fork:

* The first component is a host iff it contains ``.`` or ``:``, is ``localhost``, or has an upper-case letter;
  else the host is ``docker.io``. ``index.docker.io`` is ``docker.io``. A single component on docker.io lies
  in ``library/``.
* A host keeps the case of its letters, as in Go: lowering ``Example/x`` would make ``Example`` a path on
  docker.io, and Apptainer looks mirrors and logins up by the host as it is written.
* Neither tag nor digest means ``latest``. Where both stand, the digest decides what runs and the tag is kept
  for people.
* We refuse more than Go does where nothing could work: an address, a host name or a port that no machine can
  have, a digest that is neither sha256 nor sha512, and a host that Go would quietly take for a part of the
  path.

``oras://`` has the same grammar but for one rule: Apptainer parses it with go-containerregistry
(``pkg/name/repository.go``), for which only ``.`` or ``:`` make a host, so ``oras://localhost/x`` lies on
docker.io. Apptainer 1.4 also *downloads* ``docker://`` with go-containerregistry: it asks ``localhost`` for
the tag of ``docker://localhost/x`` and takes the image from docker.io (seen with 1.4.5). Such a host has no
pinned form.

``library://`` is split as Apptainer does it (``internal/pkg/client/library``, ``NormalizeLibraryRef``): up to
three components have no host, of more the first is the host; its digests are tags, ``sha256.<hex>``. Of the
other sources nothing is interpreted.

**Nothing that a shell, an option parser or Snakemake's wildcards could read as a command gets through.**
Snakemake puts image paths unquoted into a shell command and formats container strings as templates. So a
reference consists of characters from a white-list, and :meth:`Reference.pinned` checks its own result once
more (:func:`is_shell_safe`).

``str()`` gives the canonical form, in which nothing is implied, and ``parse(str(reference)) == reference``.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidDigest, InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest

MAX_LENGTH: Final = 2048
"""Of a whole reference, in characters; the longest valid ``docker://`` reference has about 530."""

MAX_NAME_LENGTH: Final = 255
"""Of host and repository together: Apptainer 1.4.5 refuses 256 (newer Go code counts the repository
alone)."""

DOCKER_HUB: Final = "docker.io"
_LEGACY_DOCKER_HUB: Final = "index.docker.io"
_OFFICIAL_PREFIX: Final = "library/"
_DEFAULT_TAG: Final = "latest"
_MAX_HOST_LENGTH: Final = 253  # RFC 1035, 2.3.4, without the final dot
_MAX_PORT: Final = 65535

_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # 63 characters: RFC 1035, 2.3.4
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?")
_HOST_FOR_ALL: Final = re.compile(r"[.:]")  # what go-containerregistry, too, takes for a host
_PORT: Final = re.compile(r"[0-9]{1,5}")
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")  # RFC 3986, 3.1, as urllib.parse.urlsplit reads it
_DIGEST_LIKE: Final = re.compile(r"[A-Za-z0-9+._-]+:[^@/]*")

_LIBRARY_COMPONENT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_LIBRARY_COMPONENTS: Final = 3
# Apptainer gets an address as one argument, past any shell, so that & and ? are safe there.
_URL_PATH: Final = re.compile(r"(?:[/?][A-Za-z0-9._~:/?&=+,%-]*)?")

_SHELL_SAFE: Final = re.compile(r"(?:(?:docker|oras)://\[[0-9a-fA-F:]+\])?[A-Za-z0-9_@%+=:,./-]+")


class Scheme(StrEnum):
    """Where an image comes from; the value is Apptainer's word for it."""

    DOCKER = "docker"
    ORAS = "oras"
    LIBRARY = "library"
    HTTP = "http"
    HTTPS = "https"
    SHUB = "shub"
    IPFS = "ipfs"
    DOCKER_ARCHIVE = "docker-archive"
    OCI_ARCHIVE = "oci-archive"
    OCI = "oci"
    DOCKER_DAEMON = "docker-daemon"
    FILE = "file"
    """A SIF file or a sandbox folder of this machine."""

    @property
    def is_registry(self) -> bool:
        """Whether the image lies in an OCI registry, under a host, a repository, and a tag or digest."""
        return self in (Scheme.DOCKER, Scheme.ORAS)

    @property
    def is_content(self) -> bool:
        """Whether what pins it is the hash of the very file that runs."""
        return self in (Scheme.LIBRARY, Scheme.HTTP, Scheme.HTTPS, Scheme.FILE)

    @property
    def is_provable(self) -> bool:
        """Whether an image file can be held to a pin of this source.

        What Apptainer builds of an archive, a layout or an IPFS address says nothing of where it came from.
        """
        return self.is_registry or self.is_content

    @property
    def has_slashes(self) -> bool:
        """Whether ``//`` must follow; behind the others stands a path, or the name of a daemon's image."""
        return self not in (Scheme.DOCKER_ARCHIVE, Scheme.OCI_ARCHIVE, Scheme.OCI, Scheme.DOCKER_DAEMON)


_SCHEMES: Final = tuple(scheme.value for scheme in Scheme)
_PIN_ALGORITHMS: Final[dict[Scheme, tuple[str, ...]]] = {
    Scheme.DOCKER: ("sha256", "sha512"),  # Apptainer 1.4.5 downloads by sha256 alone; others can do both
    Scheme.ORAS: ("sha256",),  # go-containerregistry knows no other
    Scheme.LIBRARY: ("sha256",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a workflow calls an image.

    `text` is what was written; references are equal where they mean the same, however written. `host` and
    `repository` name an image of a registry or a library (whose default host is empty). Every other source
    has a `path`: on this machine, of a daemon, or, behind the `host` of an http(s) address, the rest of it
    with its leading slash.
    """

    text: str = field(compare=False)
    scheme: Scheme
    host: str = ""
    repository: str = ""
    tag: str | None = None
    digest: Digest | None = None
    path: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether the reference itself binds the content; an ``ipfs://`` address is a hash."""
        return self.digest is not None or self.scheme is Scheme.IPFS

    @property
    def name(self) -> str:
        """Host and repository, or host and path: what stays the same when a tag moves."""
        if self.repository:
            return f"{self.host}/{self.repository}" if self.host else self.repository
        return self.host + self.path

    def pinned(self, digest: Digest) -> str:
        """What a rule is rewritten to, so that it names `digest` and nothing else.

        ``docker://host/repository@sha256:…``, ``oras://host/repository@sha256:…`` or
        ``library://path:sha256.<hex>``. The tag goes: Apptainer 1.4.5 refuses a tag beside a digest. The host
        is always written, docker.io too: the reviewer of a lock sees whom it trusts, one image has one pinned
        form, and nothing depends on what a short name means.

        Raises
        ------
        InvalidReference
            where the source has no pinned form, or the result would not be safe in a rule.
        """
        if digest.algorithm not in _PIN_ALGORITHMS.get(self.scheme, ()):
            raise InvalidReference(
                f"{_shown(self.text)} has no form that carries a {digest.algorithm} digest",
                hint="docker:// can carry sha256 and sha512, oras:// and library:// sha256, others none",
            )
        if self.scheme is Scheme.DOCKER and not _HOST_FOR_ALL.search(self.host):
            raise InvalidReference(
                f"{_shown(self.text)}: Apptainer would ask {self.host!r}, but download from docker.io",
                hint=f"write the port: docker://{self.host}:443/{self.repository}",
            )
        return _checked(f"{self.scheme}://{self.name}{_digest_suffix(self.scheme, digest)}")

    def __str__(self) -> str:
        if not self.scheme.has_slashes:
            return f"{self.scheme}:{self.path}"
        tag = f":{self.tag}" if self.tag else ""
        if self.digest is None:
            return f"{self.scheme}://{self.name}{tag}"
        return f"{self.scheme}://{self.name}{tag}{_digest_suffix(self.scheme, self.digest)}"


def is_shell_safe(text: str) -> bool:
    """Whether all of `text` may be written into a rule: one plain word to a shell, no option, no template.

    The characters are those that :func:`shlex.quote` leaves unquoted, and the brackets of an IPv6 host at
    their one place: Apptainer gets a ``docker://`` or ``oras://`` reference as one argument, past any shell.
    """
    return _SHELL_SAFE.fullmatch(text) is not None and not text.startswith("-")


def parse(text: str) -> Reference:
    """The reference that `text` spells.

    Raises
    ------
    InvalidReference
        naming the rule that `text` breaks, and what to write instead.
    """
    text = str(text)  # Snakemake's own strings are a subclass that carries flags
    _refuse_unwritable(text)
    scheme, rest = _split_scheme(text)
    return _PARSERS.get(scheme, _parse_path)(text, scheme, rest)


def _refuse_unwritable(text: str) -> None:
    """Refuse what no reference of any scheme may contain."""
    if not text:
        raise InvalidReference("an empty string names no image", hint="to run a rule without a container write None")
    if len(text) > MAX_LENGTH:
        raise _invalid(text, f"a reference has at most {MAX_LENGTH} characters, this has {len(text)}")
    for character in text:
        if character.isspace():
            raise _invalid(text, f"white space (U+{ord(character):04X}) is not allowed", "remove it")
        if not character.isascii():
            raise _invalid(
                text,
                f"U+{ord(character):04X} is not an ASCII character",
                "it may look like an ordinary letter; type the name instead of pasting it",
            )
        if not character.isprintable():
            raise _invalid(text, f"the control character U+{ord(character):04X} is not allowed", "remove it")
        if character == "\\":
            raise _invalid(text, "a backslash is not allowed", "use /")
        if character in "{}":
            raise _invalid(
                text,
                f"{character} is not allowed",
                "Snakemake would read it as a wildcard that was not filled in",
            )


def _split_scheme(text: str) -> tuple[Scheme, str]:
    """The scheme and what stands behind its ``:`` or ``://``.

    Without a scheme it is a local file, as ``is_local_file`` of ``snakemake/common/__init__.py`` says.
    """
    match = _SCHEME.match(text)
    if match is None:
        return Scheme.FILE, text
    word, rest = match[1], text[match.end() :]
    if word.lower() not in _SCHEMES:
        raise _invalid(
            text,
            f"{_shown_rest(word)}: is not a source that Apptainer knows",
            f"sources are {', '.join(_SCHEMES)}; a file with a colon in its name needs ./ in front",
        )
    if word != word.lower():
        raise _invalid(text, f"the scheme must be lower case, not {word}", f"write {word.lower()}:{_shown_rest(rest)}")
    scheme = Scheme(word)
    if not scheme.has_slashes:
        return scheme, rest
    if not rest.startswith("//"):
        raise _invalid(text, f"{scheme}: must be followed by //", f"write {scheme}://{_shown_rest(rest.lstrip('/'))}")
    return scheme, rest[2:]


def _parse_registry(text: str, scheme: Scheme, rest: str) -> Reference:
    """By ``ParseNormalizedNamed`` and ``TagNameOnly`` of ``distribution/reference/normalize.go``."""
    _refuse_url_parts(text, scheme, rest)
    if _IDENTIFIER.fullmatch(rest):
        raise _invalid(text, "64 hex digits are an identifier, not a name", f"write NAME@sha256:{rest[:12]}…")
    name, at, digest_text = rest.partition("@")
    digest = _parse_digest(text, digest_text) if at else None
    host, remainder = _split_host(name, scheme)
    path, colon, tag = remainder.partition(":")
    repository = _parse_repository(text, path)
    if colon:
        _check_tag(text, tag)
    _check_host(text, host)
    if host == DOCKER_HUB and "/" not in repository:
        repository = _OFFICIAL_PREFIX + repository
    if len(host) + 1 + len(repository) > MAX_NAME_LENGTH:
        raise _invalid(text, f"host and repository have at most {MAX_NAME_LENGTH} characters together")
    if not colon and digest is None:
        tag = _DEFAULT_TAG
    return Reference(text=text, scheme=scheme, host=host, repository=repository, tag=tag or None, digest=digest)


def _refuse_url_parts(text: str, scheme: Scheme, rest: str) -> None:
    """Refuse what belongs to URLs and not to references, each with its own words."""
    if not rest:
        raise _invalid(text, "no image is named", f"write {scheme}://NAME:TAG")
    inner = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", rest)
    if inner is not None:
        raise _invalid(
            text,
            f"{inner[0]} is not allowed inside {scheme}://",
            f"write {scheme}://{_shown_rest(rest[inner.end() :])}",
        )
    for mark, what in (("?", "a query"), ("#", "a fragment")):
        if mark in rest:
            raise _invalid(text, f"{what} ({mark}…) is not allowed", f"remove {mark} and what follows")
    before, at, after = rest.rpartition("@")
    if at and ("@" in before or not _DIGEST_LIKE.fullmatch(after)):
        raise _invalid(
            text,
            "an @ must be followed by a digest; a user name or password is not allowed in a reference",
            "log in with 'apptainer registry login', or write @sha256: and 64 hex digits",
        )


def _parse_digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except InvalidDigest as error:
        raise _invalid(text, error.message) from error


def _split_host(name: str, scheme: Scheme) -> tuple[str, str]:
    """By ``splitDockerDomain`` of ``normalize.go``; ``oras://`` by ``NewRepository`` of go-containerregistry.

    Otherwise ``oras://localhost/x`` would be resolved here, but pulled by Apptainer from docker.io.
    """
    first, slash, remainder = name.partition("/")
    if not slash:
        return DOCKER_HUB, name
    if first == _LEGACY_DOCKER_HUB:
        return DOCKER_HUB, remainder
    if "." in first or ":" in first:
        return first, remainder
    if scheme is Scheme.DOCKER and (first == "localhost" or first != first.lower()):
        return first, remainder
    return DOCKER_HUB, name


def _parse_repository(text: str, path: str) -> str:
    for component in path.split("/"):
        if _COMPONENT.fullmatch(component):
            continue
        if not component:
            raise _invalid(text, "a component of the name is empty", "remove the extra / or :")
        if component != component.lower():
            raise _invalid(
                text,
                f"the name must be lower case, not {_shown_rest(component)!r}",
                f"write {_shown_rest(component).lower()!r}",
            )
        raise _invalid(
            text,
            f"{_shown_rest(component)!r} is not a component of a name",
            "a component has lower-case letters and digits, and between them one . or _, two _, or some -",
        )
    return path


def _check_tag(text: str, tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise _invalid(
            text,
            f"{_shown_rest(tag)!r} is not a tag",
            "a tag has 1 to 128 letters, digits, _ . and -, and does not start with . or -",
        )


def _check_host(text: str, host: str) -> None:
    """``domainAndPort`` of ``regexp.go``, narrowed to what a machine can have.

    Go takes a component that fails here, such as ``my_host.org``, for a part of the path and is left without
    a host.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        raise _invalid(text, f"{_shown_rest(host)!r} is not a host", "write HOST, HOST:PORT or [IPV6]:PORT")
    name, ipv6, port = match["name"], match["ipv6"], match["port"]
    if ipv6 is not None and not _is_ipv6(ipv6):
        raise _invalid(text, f"[{_shown_rest(ipv6)}] is not an IPv6 address", "zones and embedded IPv4 are not allowed")
    if name is not None and not (len(name) <= _MAX_HOST_LENGTH and _HOST_NAME.fullmatch(name)):
        raise _invalid(
            text,
            f"{_shown_rest(name)!r} is not a host name",
            "a host name has letters, digits and - between dots, at most 63 characters between two dots",
        )
    if port is not None and not (_PORT.fullmatch(port) and 0 < int(port) <= _MAX_PORT):
        raise _invalid(text, f"{_shown_rest(port)!r} is not a port", f"a port is a number from 1 to {_MAX_PORT}")


def _is_ipv6(address: str) -> bool:
    """Whether Go's grammar (hex digits, colons) and ``urlsplit``, which Snakemake calls, both take it."""
    if not re.fullmatch(r"[0-9a-fA-F:]+", address):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _parse_library(text: str, scheme: Scheme, rest: str) -> Reference:
    """By ``NormalizeLibraryRef`` of Apptainer's ``internal/pkg/client/library/library.go``."""
    if "@" in rest:
        raise _invalid(
            text,
            "a user name or password is not allowed in a reference",
            "log in with 'apptainer remote login'; a digest is written as :sha256. and 64 hex digits",
        )
    host, path = "", rest
    if rest.count("/") >= _LIBRARY_COMPONENTS:
        host, _, path = rest.partition("/")
    path, colon, tag = path.partition(":")
    components = path.split("/")
    if len(components) > _LIBRARY_COMPONENTS or not all(map(_LIBRARY_COMPONENT.fullmatch, components)):
        raise _invalid(
            text,
            f"{_shown_rest(path)!r} is not a path of a library",
            "write library://ENTITY/COLLECTION/CONTAINER:TAG, with letters, digits, _ . and - in each",
        )
    if host:
        _check_host(text, host)
    if not colon:
        return Reference(text=text, scheme=scheme, host=host, repository=path, tag=_DEFAULT_TAG)
    if tag.lower().startswith("sha256."):
        digest = _parse_digest(text, tag.replace(".", ":", 1))
        return Reference(text=text, scheme=scheme, host=host, repository=path, digest=digest)
    _check_tag(text, tag)
    return Reference(text=text, scheme=scheme, host=host, repository=path, tag=tag)


def _parse_url(text: str, scheme: Scheme, rest: str) -> Reference:
    if "@" in rest:
        raise _invalid(
            text,
            "a user name or password is not allowed in an address",
            "remove it; write any other @ as %40",
        )
    host = re.split(r"[/?]", rest, maxsplit=1)[0]
    path = rest[len(host) :]
    _check_host(text, host)
    if not _URL_PATH.fullmatch(path):
        raise _invalid(
            text,
            "the address has a character that is not safe in a rule",
            "write it as % and its two hex digits; leave a #fragment out",
        )
    return Reference(text=text, scheme=scheme, host=host, path=path)


def _parse_path(text: str, scheme: Scheme, rest: str) -> Reference:
    home = "~/" if scheme is Scheme.FILE and rest.startswith("~/") else ""
    if not rest:
        raise _invalid(text, "no image is named")
    if not is_shell_safe(rest.removeprefix(home)):
        raise _invalid(
            text,
            "it has a character that is not safe in a rule",
            "Snakemake puts it unquoted into a shell command; use letters, digits and / . _ - + = , : @ %",
        )
    return Reference(text=text, scheme=scheme, path=rest)


_PARSERS: Final[dict[Scheme, Callable[[str, Scheme, str], Reference]]] = {
    Scheme.DOCKER: _parse_registry,
    Scheme.ORAS: _parse_registry,
    Scheme.LIBRARY: _parse_library,
    Scheme.HTTP: _parse_url,
    Scheme.HTTPS: _parse_url,
}


def _digest_suffix(scheme: Scheme, digest: Digest) -> str:
    return f":{digest.algorithm}.{digest.hex}" if scheme is Scheme.LIBRARY else f"@{digest}"


def _checked(text: str) -> str:
    if not is_shell_safe(text):
        raise InvalidReference(f"{_shown(text)} is not safe to write into a rule")
    return text


def _invalid(text: str, rule: str, hint: str = "") -> InvalidReference:
    return InvalidReference(f"container reference {_shown(text)}: {rule}", hint=hint)


def _shown(text: str) -> str:
    scheme = re.match(rf"{_SCHEME.pattern}/*", text)
    start = scheme.end() if scheme else 0
    return repr(_shown_rest(text[:start]) + _shown_rest(text[start:]))


def _shown_rest(text: str, limit: int = 160) -> str:
    """`text` for a message: cut short, and without what stands before an ``@``, which may be a password."""
    name, at, digest = text.rpartition("@")
    if not (at and _DIGEST_LIKE.fullmatch(digest)):
        name, at, digest = text, "", ""
    _, user_info, host = name.rpartition("@")
    shown = ("…@" if user_info else "") + host + at + digest
    return shown if len(shown) <= limit else shown[:limit] + "…"
