"""Cleaning up: what this workflow needs is made known, and what others need is kept.

``snakemake --container-cleanup-images`` deletes every image that the workflow at hand does not use. In a folder that
several workflows share, that takes the others' images, and those of this workflow's other targets. With the flag on it
keeps what any lock needs that is registered there (:mod:`.store.claims`). Snakemake's own method does the deleting: it
is shown the images to keep among those that the workflow uses.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.messages import Line, as_workflow_errors, log_line
from snakemake_apptainer_freshness.engine.seams import CLEAN_UP, when_released
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.store.aliases import Aliases
from snakemake_apptainer_freshness.store.prefix import alias_target, image_name


@dataclass(frozen=True, slots=True)
class _Kept:
    """Stands for one of Snakemake's images that another lock needs."""

    path: str


def aliases_of(workflow: Any) -> Aliases:
    """Return the further names of images that the run of `workflow` may make; they are taken back when it ends."""
    aliases = Aliases(_prefix(workflow))
    when_released(workflow.persistence, aliases.take_back)
    return aliases


def register(workflow: Any, lock_path: Path, lock: Lock, unpinned: Iterable[str]) -> None:
    """Make known in the image folder of `workflow` what `lock` needs, and what is run without a pin."""
    from snakemake_apptainer_freshness.store import claims

    try:
        claims.register(_prefix(workflow), lock_path, lock, unpinned=unpinned)
    except LocalIOError as error:
        log_line(Line(text=f"apptainer-freshness: {error.message}; {error.hint}"))


def protect(workflow: Any, lock: Lock | None = None) -> None:
    """Have a clean-up of images, if `workflow` is about to do one, keep what `lock` and all registered ones need."""
    persistence = workflow.persistence
    if not CLEAN_UP.is_in(persistence):
        return
    clean_up = persistence.cleanup_containers

    def clean_up_unneeded() -> Any:
        from snakemake_apptainer_freshness.store import claims

        prefix, used = _prefix(workflow), workflow.dag.container_imgs
        with as_workflow_errors():
            names = claims.needed(claims.registered(prefix)) | {image_name(url) for url in claims.urls_of(lock or ())}
        in_use = {Path(image.path).name for image in used.values()}
        kept = [name for name in sorted(names - in_use) if (prefix / name).exists()]
        if kept:
            what = "an image that is" if len(kept) == 1 else f"{len(kept)} images that are"
            log_line(Line(text=f"apptainer-freshness: keeping {what} not used here, since a lock needs it"))
        kept += _aliases(prefix, names | in_use)
        workflow.dag.container_imgs = dict(used) | {name: _Kept(str(prefix / name)) for name in kept}
        try:
            return clean_up()
        finally:
            workflow.dag.container_imgs = used

    persistence.cleanup_containers = clean_up_unneeded


def _aliases(prefix: Path, images: set[str]) -> list[str]:
    """Return the links to `images`; others are removed, since Snakemake fails at a link whose image is gone."""
    kept = []
    for path in prefix.glob("*.simg"):
        target = alias_target(path)
        if target in images:
            kept.append(path.name)
        elif target is not None:
            with contextlib.suppress(OSError):
                path.unlink()
    return kept


def _prefix(workflow: Any) -> Path:
    return containers.of(workflow).folder
