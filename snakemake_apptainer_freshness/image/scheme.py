"""Schemes: where an image can come from, and in one table all that the program asks about each. Pure.

A new scheme is one member of :class:`Scheme` with one entry in :data:`RULES`. The entry names who parses it, what pins
it, who answers for it, what a policy can say of it, and where Apptainer caches it; each of these words is the key of a
table in the room that does the work (:mod:`.image.reference`, :mod:`.registry.network`, :mod:`.apptainer.cache`), and a
test fails where a table lacks one.
"""

from enum import Enum, StrEnum
from typing import Final, NamedTuple


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
    def rules(self) -> "SchemeRules":
        """All that is known of this scheme."""
        return RULES[self]

    @property
    def is_registry(self) -> bool:
        """Whether the image lies in an OCI registry, under a host, a repository, and a tag or digest."""
        return self.rules.source is Source.REGISTRY

    @property
    def is_content(self) -> bool:
        """Whether what pins it is the hash of the very file that runs."""
        return self.rules.pinned_by is PinnedBy.CONTENT

    @property
    def is_provable(self) -> bool:
        """Whether an image file can be held to a pin of this source.

        What Apptainer builds of an archive, a layout or an IPFS address says nothing of where it came from.
        """
        return self.rules.pinned_by in (PinnedBy.MANIFEST, PinnedBy.CONTENT)

    @property
    def has_slashes(self) -> bool:
        """Whether ``//`` must follow; behind the others stands a path, or the name of a daemon's image."""
        return self.rules.has_slashes


class Grammar(Enum):
    """How what follows the scheme is parsed: keys of the parsers in :mod:`.image.reference`."""

    REGISTRY = "registry"
    LIBRARY = "library"
    URL = "url"
    PATH = "path"


class PinnedBy(Enum):
    """What a pin of the scheme is the hash of."""

    MANIFEST = "manifest"
    """An OCI index or manifest: an image file can be compared with its layers."""
    CONTENT = "content"
    """The very file that runs."""
    SOURCE = "source"
    """What Apptainer builds from (archive, layout, IPFS block); no image that it builds can be held to it."""
    NOTHING = "nothing"
    """The source has no digest."""


class Source(Enum):
    """Which room asks about it: keys of the factories in :mod:`.registry.network`."""

    REGISTRY = "registry"
    WEB = "web"
    LIBRARY = "library"
    LOCAL = "local"


class CacheKey(Enum):
    """Under which names Apptainer's cache may hold it: keys of the functions in :mod:`.apptainer.cache`."""

    OCI = "oci"
    LIBRARY = "library"
    UNKNOWN = "unknown"
    """Under a name that cannot be told from the pin alone, or in no cache."""


class SchemeRules(NamedTuple):
    """What the program asks about a scheme.

    `algorithms` are those of the digests that its pinned form can carry; none where it has no such form. `has_tag` and
    `has_host` say whether a policy can rule on its tag, and on its host and repository.
    """

    grammar: Grammar
    pinned_by: PinnedBy
    source: Source
    cache_key: CacheKey = CacheKey.UNKNOWN
    algorithms: tuple[str, ...] = ()
    has_slashes: bool = True
    has_tag: bool = False
    has_host: bool = False


_ARCHIVE: Final = SchemeRules(grammar=Grammar.PATH, pinned_by=PinnedBy.SOURCE, source=Source.LOCAL, has_slashes=False)
_WEB: Final = SchemeRules(grammar=Grammar.URL, pinned_by=PinnedBy.CONTENT, source=Source.WEB, has_host=True)

RULES: Final[dict[Scheme, SchemeRules]] = {
    Scheme.DOCKER: SchemeRules(
        grammar=Grammar.REGISTRY,
        pinned_by=PinnedBy.MANIFEST,
        source=Source.REGISTRY,
        cache_key=CacheKey.OCI,
        algorithms=("sha256", "sha512"),  # Apptainer 1.4.5 downloads by sha256 alone; others can do both
        has_tag=True,
        has_host=True,
    ),
    Scheme.ORAS: SchemeRules(
        grammar=Grammar.REGISTRY,
        pinned_by=PinnedBy.MANIFEST,
        source=Source.REGISTRY,
        algorithms=("sha256",),  # go-containerregistry knows no other
        has_tag=True,
        has_host=True,
    ),
    Scheme.LIBRARY: SchemeRules(
        grammar=Grammar.LIBRARY,
        pinned_by=PinnedBy.CONTENT,
        source=Source.LIBRARY,
        cache_key=CacheKey.LIBRARY,
        algorithms=("sha256",),
        has_tag=True,
        has_host=True,
    ),
    Scheme.HTTP: _WEB,
    Scheme.HTTPS: _WEB,
    # shub:// is dead; what a workflow still says can be refused by its host and tag.
    Scheme.SHUB: SchemeRules(
        grammar=Grammar.PATH, pinned_by=PinnedBy.NOTHING, source=Source.LOCAL, has_tag=True, has_host=True
    ),
    Scheme.IPFS: SchemeRules(grammar=Grammar.PATH, pinned_by=PinnedBy.SOURCE, source=Source.LOCAL),
    Scheme.DOCKER_ARCHIVE: _ARCHIVE,
    Scheme.OCI_ARCHIVE: _ARCHIVE,
    Scheme.OCI: _ARCHIVE,
    Scheme.DOCKER_DAEMON: SchemeRules(
        grammar=Grammar.PATH, pinned_by=PinnedBy.NOTHING, source=Source.LOCAL, has_slashes=False
    ),
    Scheme.FILE: SchemeRules(grammar=Grammar.PATH, pinned_by=PinnedBy.CONTENT, source=Source.LOCAL),
}
"""One entry a scheme."""
