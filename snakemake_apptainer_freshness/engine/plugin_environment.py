"""Environments of our software deployment plugin: proving their image, and running that file.

In a workflow the session knows the pins and has the images (:class:`.deployment.PluginContainers`). A caller of the
plugin's classes without one, as the tests of its interface are, gets an :class:`Alone`: the lock in the working
directory, or where the settings have it, and the image folder are all that it needs.
"""

import contextlib
import functools
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from snakemake_apptainer_freshness.engine.guard import WHAT_NEXT, Guard, OnImage
from snakemake_apptainer_freshness.errors import NotLocked, Unpinnable
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import LIMITS, Options
from snakemake_apptainer_freshness.store.prefix import place_of

_UNPROVABLE: Final = "take it from a registry, from a library, or as a file, or run it by another plugin"


class Provider(Protocol):
    """Gives the images of environments, by the reference in the rule."""

    def pinned(self, reference: str) -> Pinned | None:
        """Return what `reference` is pinned to; None where it is not."""

    def pin(self, reference: str) -> Pinned:
        """Return the same, for which a registry may be asked; raises a FreshnessError where it cannot be pinned."""

    def image(self, reference: str) -> Guard:
        """Return the guard of the image; raises a FreshnessError where nothing says what that has to be."""

    def provide(self, reference: str) -> None:
        """Put a proven image in its place; raises a FreshnessError where there can be none."""

    @property
    def arguments(self) -> str:
        """What Apptainer is told besides."""


class Alone:
    """A :class:`Provider` without a workflow: the lock at `lockfile` names images, which lie in `folder`."""

    def __init__(self, *, lockfile: Path | None, folder: Path, arguments: str) -> None:
        self.arguments = arguments
        self._lockfile = lockfile or Path.cwd() / Options().lockfile
        self._folder = folder
        self._guards: dict[str, Guard] = {}

    def pinned(self, reference: str) -> Pinned | None:
        """See :class:`Provider`."""
        pin = self._pin(reference)
        return None if pin is None else Pinned(reference=pin.reference, pinned=pin.pinned, digest=pin.digest)

    def pin(self, reference: str) -> Pinned:
        """Return what `reference` is pinned to; what the lock lacks is asked for, and added to it."""
        if (known := self.pinned(reference)) is not None:
            return known
        from snakemake_apptainer_freshness.actions.lock_io import read_lock, write_lock
        from snakemake_apptainer_freshness.actions.pinning import LazyResolver, Pins
        from snakemake_apptainer_freshness.registry.resolver import Resolver

        lock = read_lock(self._lockfile)
        pins = Pins(
            options=Options(),
            lock=lock,
            lockfile=str(self._lockfile),
            platform=Platform.here(),
            registries=lambda: LazyResolver(lambda: Resolver(limits=LIMITS)),
            quiet=True,
        )
        pins.ensure([reference])
        if reference in pins.unpinnable:
            raise unprovable(reference, pins.unpinnable[reference])
        write_lock(self._lockfile, before=lock, after=pins.new_lock())
        return pins.table()[reference]

    def image(self, reference: str) -> Guard:
        """See :class:`Provider`."""
        pin = self._needed(reference)
        if pin.url not in self._guards:
            self._guards[pin.url] = guard_of(pin, self._folder, Options(), hashes={})
        return self._guards[pin.url]

    def provide(self, reference: str) -> None:
        """Fetch the image, where what lies in its place cannot be proven."""
        from snakemake_apptainer_freshness.actions.fetch import fetch

        pin = self._needed(reference)
        if pin.pinned.scheme is Scheme.FILE:
            self.image(reference).path()
            return
        for result in fetch([pin], self._folder):
            if result.error is not None:
                raise result.error

    def _needed(self, reference: str) -> Pin:
        pin = self._pin(reference)
        if pin is None:
            raise NotLocked(
                f"will not run the image of {reference}: {self._lockfile} does not say what it is",
                hint="add it with 'apptainer-freshness lock', and commit the lock file",
            )
        if not pin.pinned.scheme.is_provable:
            raise unprovable(reference, "no image file can be held to its digest")
        return pin

    def _pin(self, reference: str) -> Pin | None:
        from snakemake_apptainer_freshness.actions.lock_io import read_lock

        entry = read_lock(self._lockfile).get(reference)
        return None if entry is None else Pin.of(entry)


def guard_of(
    pin: Pin,
    folder: Path,
    options: Options,
    *,
    hashes: dict[str, FileHash],
    on_image: OnImage = lambda _url, _fact, _key: None,
) -> Guard:
    """Return a guard of the image of `pin` in the image folder `folder`, or of the user's own file."""
    is_local = pin.pinned.scheme is Scheme.FILE
    return Guard(
        pin,
        place_of(folder, pin.url),
        options=options,
        hashes=hashes,
        on_image=on_image,
        is_local=is_local,
        what_next=what_next(folder),
    )


def what_next(folder: Path) -> str:
    """Return what a user can do about an image in `folder` that is refused."""
    return f"{WHAT_NEXT} --prefix {shlex.quote(str(folder))}"


def unprovable(reference: str, why: str) -> Unpinnable:
    """Return the error for the image of `reference`, of which no file can be proven, and `why`."""
    return Unpinnable(f"will not run the image of {reference}: it cannot be proven: {why}", hint=_UNPROVABLE)


def identity(provider: Provider, reference: str) -> str:
    """Return what tells the image of `reference` from others: its digest; what the rule says where it has none."""
    pinned = provider.pinned(reference)
    return reference if pinned is None else str(pinned.digest or pinned.url)


def place(provider: Provider, reference: str, folder: Path) -> Path:
    """Return where the image of `reference` is, or will lie in `folder`."""
    if provider.pinned(reference) is None:
        return place_of(folder, reference)
    with contextlib.suppress(Unpinnable):
        return provider.image(reference).where()
    return place_of(folder, reference)


def is_file(reference: str) -> bool:
    """Return whether `reference` is a file of this machine, which has not to be deployed."""
    return parse(reference).scheme is Scheme.FILE


def pinfile(provider: Provider, reference: str) -> str:
    """Pin `reference`, and return what Snakemake's own file of the pin says; the lock alone is believed."""
    pinned = provider.pin(reference)
    table = {"reference": reference, "pinned": pinned.url, "digest": str(pinned.digest or "")}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def command(
    shell: str, shell_command: str, *, image: str, arguments: str, mounts: Iterable[Path], variables: Iterable[str]
) -> str:
    """Return the command that has `shell` run `shell_command` in the file `image` as today's Snakemake runs containers.

    `mounts` that are there are bound; `variables` are handed in by the shell, so that their values show nowhere.
    """
    handed = [f'APPTAINERENV_{name}="${{{name}}}"' for name in sorted(variables)]
    bound = [f"--bind {shlex.quote(str(path))}" for path in dict.fromkeys(mounts) if path.exists()]
    words = [shlex.quote(_program()), "exec", "--home", shlex.quote(str(Path.cwd())), *bound, arguments]
    return " ".join([*handed, *filter(None, words), shlex.quote(image), shell, "-c", shlex.quote(shell_command)])


@functools.cache
def _program() -> str:
    from snakemake_apptainer_freshness.apptainer.program import Apptainer

    return Apptainer.find().program


def remove(image: Path, folder: Path) -> None:
    """Remove `image` from the image folder `folder`, unless a lock that is registered there needs it."""
    from snakemake_apptainer_freshness.store import claims

    if image.parent == folder and image.name not in claims.needed(claims.registered(folder)):
        image.unlink(missing_ok=True)
