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

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.grammar import (
    DIGEST_LIKE,
    DOCKER_HUB,
    SCHEME,
    check_host,
    check_repository,
    check_tag,
    invalid,
    parse_digest,
    refuse_unwritable,
    shown,
    shown_rest,
    split_host,
)
from snakemake_apptainer_freshness.image.scheme import Grammar, Scheme

MAX_NAME_LENGTH: Final = 255
"""Of host and repository together: Apptainer 1.4.5 refuses 256 (newer Go code counts the repository
alone)."""

_OFFICIAL_PREFIX: Final = "library/"
_DEFAULT_TAG: Final = "latest"

_HOST_FOR_ALL: Final = re.compile(r"[.:]")  # what go-containerregistry, too, takes for a host
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")

_LIBRARY_COMPONENT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_LIBRARY_COMPONENTS: Final = 3
# Apptainer gets an address as one argument, past any shell, so that & and ? are safe there.
_URL_PATH: Final = re.compile(r"(?:[/?][A-Za-z0-9._~:/?&=+,%-]*)?")

_SIGNATURE: Final = (
    r"x-(?:amz|goog|oss|cos)-.*|[\w.-]*token|[\w.-]*signature|sig|jwt|auth|authorization|password|passwd|secret"
    r"|[\w.-]*credentials?|(?:[\w.]*[_.-])?(?:api|access|private|secret)[_.-]?key(?:[_.-]?id)?|key-pair-id|googleaccessid"
)
"""Fields of a query that hold a secret, such as the signatures of S3, Google, Azure (``sig``) and CloudFront."""
_SHELL_SAFE: Final = re.compile(r"(?:(?:docker|oras)://\[[0-9a-fA-F:]+\])?[A-Za-z0-9_@%+=:,./-]+")


_IMAGE_SUFFIXES: Final = (".sif", ".simg", ".img")
_SCHEMES: Final = tuple(scheme.value for scheme in Scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A reference: the name by which a workflow names an image.

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
    def names_no_version(self) -> bool:
        """Whether what it names changes with every release: it has no tag, or the tag ``latest``, and no digest."""
        return self.digest is None and self.scheme.rules.has_tag and self.tag == _DEFAULT_TAG

    @property
    def name(self) -> str:
        """Host and repository, or host and path: what stays the same when a tag moves."""
        if self.repository:
            return f"{self.host}/{self.repository}" if self.host else self.repository
        return self.host + self.path

    def pinned(self, digest: Digest) -> "Reference":
        """Return what a rule is rewritten to, so that it names `digest` and nothing else.

        ``docker://host/repository@sha256:…``, ``oras://host/repository@sha256:…`` or
        ``library://path:sha256.<hex>``. The tag goes: Apptainer 1.4.5 refuses a tag beside a digest. The host
        is always written, docker.io too: the reviewer of a lock sees whom it trusts, one image has one pinned
        form, and nothing depends on what a short name means.

        Raises
        ------
        InvalidReference
            where the source has no pinned form, or the result would not be safe in a rule.
        """
        if digest.algorithm not in self.scheme.rules.algorithms:
            raise InvalidReference(
                f"{shown(self.text)} has no form that carries a {digest.algorithm} digest",
                hint="docker:// can carry sha256 and sha512, oras:// and library:// sha256, others none",
            )
        if self.scheme is Scheme.DOCKER and not _HOST_FOR_ALL.search(self.host):
            raise InvalidReference(
                f"{shown(self.text)}: Apptainer would ask {self.host!r}, but download from docker.io",
                hint=f"write the port: docker://{self.host}:443/{self.repository}",
            )
        return Reference(
            text=_checked(f"{self.scheme}://{self.name}{_digest_suffix(self.scheme, digest)}"),
            scheme=self.scheme,
            host=self.host,
            repository=self.repository,
            digest=digest,
        )

    def __str__(self) -> str:
        if not self.scheme.has_slashes:
            return f"{self.scheme}:{self.path}"
        tag = f":{self.tag}" if self.tag else ""
        if self.digest is None:
            return f"{self.scheme}://{self.name}{tag}"
        return f"{self.scheme}://{self.name}{tag}{_digest_suffix(self.scheme, self.digest)}"


def is_shell_safe(text: str) -> bool:
    """Return whether all of `text` may be written into a rule: one plain word to a shell, no option, no template.

    The characters are those that :func:`shlex.quote` leaves unquoted, and the brackets of an IPv6 host at
    their one place: Apptainer gets a ``docker://`` or ``oras://`` reference as one argument, past any shell.
    """
    return _SHELL_SAFE.fullmatch(text) is not None and not text.startswith("-")


def parse(text: str) -> Reference:
    """Return the reference that `text` spells.

    Raises
    ------
    InvalidReference
        naming the rule that `text` breaks, and what to write instead.
    """
    return _parsed(str(text))  # Snakemake's own strings are a subclass that carries flags


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Reference:
    refuse_unwritable(text)
    scheme, rest = _split_scheme(text)
    return PARSERS[scheme.rules.grammar](text, scheme, rest)


def _split_scheme(text: str) -> tuple[Scheme, str]:
    """Return the scheme and what stands behind its ``:`` or ``://``.

    Without a scheme it is a local file, as ``is_local_file`` of ``snakemake/common/__init__.py`` says.
    """
    match = SCHEME.match(text)
    if match is None:
        return Scheme.FILE, text
    word, rest = match[1], text[match.end() :]
    if word.lower() not in _SCHEMES:
        raise invalid(
            text,
            f"{shown_rest(word)}: is not a source that Apptainer knows",
            f"did you mean {meant}?"
            if (meant := docker_meant(text))
            else f"sources are {', '.join(_SCHEMES)}; a file with a colon in its name needs ./ in front",
        )
    if word != word.lower():
        raise invalid(text, f"the scheme must be lower case, not {word}", f"write {word.lower()}:{shown_rest(rest)}")
    scheme = Scheme(word)
    if not scheme.has_slashes:
        return scheme, rest
    if not rest.startswith("//"):
        raise invalid(text, f"{scheme}: must be followed by //", f"write {scheme}://{shown_rest(rest.lstrip('/'))}")
    return scheme, rest[2:]


def docker_meant(text: str) -> str:
    """Return the ``docker://`` reference that `text` looks like, which lacks the scheme.

    Empty where it looks like a file.
    """
    first, _, _ = text.partition("/")
    if text.endswith(_IMAGE_SUFFIXES) or not (":" in text or "." in first):
        return ""
    try:
        return _parse_registry(f"{Scheme.DOCKER}://{text}", Scheme.DOCKER, text).text
    except InvalidReference:
        return ""


def _parse_registry(text: str, scheme: Scheme, rest: str) -> Reference:
    """By ``ParseNormalizedNamed`` and ``TagNameOnly`` of ``distribution/reference/normalize.go``."""
    _refuse_url_parts(text, scheme, rest)
    if _IDENTIFIER.fullmatch(rest):
        raise invalid(text, "64 hex digits are an identifier, not a name", f"write NAME@sha256:{rest[:12]}…")
    name, at, digest_text = rest.partition("@")
    digest = parse_digest(text, digest_text) if at else None
    host, remainder = split_host(name, as_docker=scheme is Scheme.DOCKER)
    path, colon, tag = remainder.partition(":")
    repository = check_repository(text, path)
    if colon:
        check_tag(text, tag)
    check_host(text, host)
    if host == DOCKER_HUB and "/" not in repository:
        repository = _OFFICIAL_PREFIX + repository
    if len(host) + 1 + len(repository) > MAX_NAME_LENGTH:
        raise invalid(text, f"host and repository have at most {MAX_NAME_LENGTH} characters together")
    if not colon and digest is None:
        tag = _DEFAULT_TAG
    return Reference(text=text, scheme=scheme, host=host, repository=repository, tag=tag or None, digest=digest)


def _refuse_url_parts(text: str, scheme: Scheme, rest: str) -> None:
    """Refuse what belongs to URLs and not to references, each with its own words."""
    if not rest:
        raise invalid(text, "no image is named", f"write {scheme}://NAME:TAG")
    inner = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", rest)
    if inner is not None:
        raise invalid(
            text,
            f"{inner[0]} is not allowed inside {scheme}://",
            f"write {scheme}://{shown_rest(rest[inner.end() :])}",
        )
    for mark, what in (("?", "a query"), ("#", "a fragment")):
        if mark in rest:
            raise invalid(text, f"{what} ({mark}…) is not allowed", f"remove {mark} and what follows")
    before, at, after = rest.rpartition("@")
    if at and ("@" in before or not DIGEST_LIKE.fullmatch(after)):
        raise invalid(
            text,
            "an @ must be followed by a digest; a user name or password is not allowed in a reference",
            "log in with 'apptainer registry login', or write @sha256: and 64 hex digits",
        )


def _parse_library(text: str, scheme: Scheme, rest: str) -> Reference:
    """By ``NormalizeLibraryRef`` of Apptainer's ``internal/pkg/client/library/library.go``."""
    if "@" in rest:
        raise invalid(
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
        raise invalid(
            text,
            f"{shown_rest(path)!r} is not a path of a library",
            "write library://ENTITY/COLLECTION/CONTAINER:TAG, with letters, digits, _ . and - in each",
        )
    if host:
        check_host(text, host)
    if not colon:
        return Reference(text=text, scheme=scheme, host=host, repository=path, tag=_DEFAULT_TAG)
    if tag.lower().startswith("sha256."):
        digest = parse_digest(text, tag.replace(".", ":", 1))
        return Reference(text=text, scheme=scheme, host=host, repository=path, digest=digest)
    check_tag(text, tag)
    return Reference(text=text, scheme=scheme, host=host, repository=path, tag=tag)


def _parse_url(text: str, scheme: Scheme, rest: str) -> Reference:
    if "@" in rest:
        raise invalid(
            text,
            "a user name or password is not allowed in an address",
            "remove it; write any other @ as %40",
        )
    host = re.split(r"[/?]", rest, maxsplit=1)[0]
    path = rest[len(host) :]
    check_host(text, host)
    if not _URL_PATH.fullmatch(path):
        raise invalid(
            text,
            "the address has a character that is not safe in a rule",
            "write it as % and its two hex digits; leave a #fragment out",
        )
    _refuse_signed(text, path.partition("?")[2])
    return Reference(text=text, scheme=scheme, host=host, path=path)


def _refuse_signed(text: str, query: str) -> None:
    """Refuse an address that lets all who read it fetch the file: it would stand in the lock and in records."""
    from urllib.parse import unquote  # few references are addresses

    for parameter in query.split("&"):
        name = unquote(parameter.partition("=")[0])
        if re.fullmatch(_SIGNATURE, name, re.IGNORECASE):
            raise invalid(
                text.partition("?")[0],
                f"its query has {shown_rest(name)!r}, a signature or another secret, which the lock would publish",
                "name a place that needs none, or fetch the file and name it by its path",
            )


def _parse_path(text: str, scheme: Scheme, rest: str) -> Reference:
    home = "~/" if scheme is Scheme.FILE and rest.startswith("~/") else ""
    if not rest:
        raise invalid(text, "no image is named")
    if not is_shell_safe(rest.removeprefix(home)):
        raise invalid(
            text,
            "it has a character that is not safe in a rule",
            "Snakemake puts it unquoted into a shell command; use letters, digits and / . _ - + = , : @ %",
        )
    return Reference(text=text, scheme=scheme, path=rest)


PARSERS: Final[dict[Grammar, Callable[[str, Scheme, str], Reference]]] = {
    Grammar.REGISTRY: _parse_registry,
    Grammar.LIBRARY: _parse_library,
    Grammar.URL: _parse_url,
    Grammar.PATH: _parse_path,
}


def _digest_suffix(scheme: Scheme, digest: Digest) -> str:
    return f":{digest.algorithm}.{digest.hex}" if scheme is Scheme.LIBRARY else f"@{digest}"


def _checked(text: str) -> str:
    if not is_shell_safe(text):
        raise InvalidReference(f"{shown(text)} is not safe to write into a rule")
    return text
