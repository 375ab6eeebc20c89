"""Attesting: proving that an image on disk is what its pin names, where that costs less than fetching it anew.

What has no fact of content yet (:mod:`.store.facts`) and is a sound SIF is compared with its layers:

* Where its label claims the pin's digest (`bound`), with the layers from Apptainer's cache or the registry: that is the
  same download as to fetch it anew, and needs nothing to be built.
* Where nothing attributes it (`unbound`), with layers from Apptainer's cache alone: it is likely another image, and the
  download would be for nothing.

What cannot be compared stays what it was. Where the mode allows no network, none is asked.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.common.parallel import AS_LONG_AS_IT_TAKES, in_parallel
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_SOUND: Final = frozenset({DiskState.BOUND, DiskState.UNBOUND})
_MEGABYTE: Final = 1_000_000


def may_be_attested(pin: Pin, fact: DiskFact) -> bool:
    """Return whether a comparison could prove the image of `pin`, of which `fact` is known."""
    return pin.pinned.scheme is Scheme.DOCKER and fact.state in _SOUND


class LazyRegistries:
    """Gives manifests and layers that Apptainer's cache lacks: from registries, loaded when first asked.

    `environment` has the logins and settings (None: this process's). May be asked from any thread.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._resolver: Resolver | None = None
        self._documents: dict[Digest, bytes] = {}
        self._asking: dict[Digest, threading.Lock] = {}

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """See :class:`BlobSource`; what hashes to its digest is asked for once."""
        with self._lock:
            asking = self._asking.setdefault(digest, threading.Lock())
        with asking:
            if digest in self._documents:
                return self._documents[digest]
            body = self._ask().manifest(reference, digest)
            if digest.matches(body):
                self._documents[digest] = body
            return body

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """See :class:`BlobSource`."""
        return self._ask().blob(reference, digest, start)

    def close(self) -> None:
        """Abandon what is under way."""
        if self._resolver is not None:
            self._resolver.close()

    def _ask(self) -> "Resolver":
        from snakemake_apptainer_freshness.registry.resolver import Resolver

        with self._lock:
            if self._resolver is None:
                self._resolver = Resolver(environ=self._environment)
            return self._resolver


@dataclass(frozen=True, slots=True)
class _ManifestsOf:
    """The manifests of a `source`, and none of its layers."""

    source: BlobSource

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        return self.source.manifest(reference, digest)

    def blob(self, reference: Reference, digest: Digest, _start: int = 0) -> Generator[bytes, None, None]:
        raise NotComparable(
            f"{digest.short} of {reference.name} is not in Apptainer's cache, and to fetch all is no dearer"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestor:
    """Compares images with their layers, from any thread.

    `source` has what Apptainer's cache lacks; without one, as where the mode allows no network, the cache must do.
    `environment` is Apptainer's (None: this process's); `stop` ends what is under way.
    """

    source: BlobSource | None
    environment: Mapping[str, str] | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def attest(self, pin: Pin, image: Path, fact: DiskFact, *, whole: bool = False) -> DiskFact:
        """Return what the file `image` is to `pin` after a comparison; `fact` is what was known of it before.

        `fact` comes back, with the reason, where the comparison says nothing. `whole` has the layers fetched even where
        nothing binds the image to the pin.

        Raises
        ------
        InterruptedError
            where it was stopped.
        """
        from snakemake_apptainer_freshness.actions.prove import prove

        if not may_be_attested(pin, fact):
            return fact
        source = self.source
        if source is not None and fact.state is not DiskState.BOUND and not whole:
            source = _ManifestsOf(source)
        started = time.monotonic()
        try:
            proof = prove(pin, image, registry=source, environment=self.environment, stop=self.stop)
        except FreshnessError as error:
            return replace(fact, detail=f"{fact.detail}; it could not be compared: {' '.join(error.message.split())}")
        if proof.state is DiskState.UNBOUND:
            return replace(fact, detail=f"{fact.detail}; {proof.detail}")
        if proof.state is not DiskState.VERIFIED:
            return proof.fact
        cost = f"{proof.files} files, {proof.bytes / _MEGABYTE:.0f} MB, {time.monotonic() - started:.1f} s"
        return replace(proof.fact, detail=f"proven by comparison with its layers ({cost})")


def attest_all(
    pins: Iterable[Pin],
    prefix: Path,
    facts: Mapping[str, DiskFact],
    *,
    attestor: Attestor,
    jobs: int,
    begin: Callable[[Pin], None] = lambda _: None,
    end: Callable[[Pin, DiskFact], None] = lambda _pin, _fact: None,
) -> dict[str, DiskFact]:
    """Return what the images of `pins` in `prefix` are after comparing those of `facts` (by url) that are not proven.

    `jobs` are compared at once; `begin` and `end` are told of each, from any thread.
    """
    worth = [pin for pin in pins if may_be_attested(pin, facts[pin.url])]

    def attest_pin(pin: Pin) -> tuple[str, DiskFact]:
        begin(pin)
        fact = attestor.attest(pin, image_path(prefix, pin.url), facts[pin.url])
        end(pin, fact)
        return pin.url, fact

    return dict(
        in_parallel(attest_pin, worth, name="attest", threads=jobs, stop=attestor.stop.set, grace=AS_LONG_AS_IT_TAKES)
    )
