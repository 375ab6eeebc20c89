"""Fact stores of a site, as an administrator publishes them: readable by all, writable by their owner alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store.facts import ContentFact


def publish(
    store: Path, fact: ContentFact, *, indexes: Mapping[Digest, Mapping[Platform, Digest]] | None = None
) -> list[Path]:
    """Put `fact`, and which manifests the `indexes` have, into the fact store `store`; gives the files of the fact."""
    name = f"{fact.sha256}.{str(fact.platform).replace('/', '-')}.json"
    written = [
        _write(store / "contents" / digest.hex[:2] / f"sha256-{digest.hex}" / name, fact.dumps())
        for digest in {fact.digest, fact.manifest or fact.digest}
    ]
    for digest, manifests in (indexes or {}).items():
        table = {"version": 1, "platforms": {str(platform): str(manifest) for platform, manifest in manifests.items()}}
        _write(store / "platforms" / digest.hex[:2] / f"sha256-{digest.hex}.json", json.dumps(table).encode())
    return written


def _write(path: Path, content: bytes) -> Path:
    before = os.umask(0o022)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    finally:
        os.umask(before)
    return path
