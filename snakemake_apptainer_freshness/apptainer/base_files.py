"""What Apptainer puts into every image that it builds, found out by having it build an empty one.

Apptainer lays its own scripts under ``/.singularity.d`` over the layers: some are always the same, some are written
from the image's configuration (``Env``, ``Entrypoint``, ``Cmd``), and every one of them runs when a container starts.
So they cannot be left out of a proof, and no list of them here could keep up with its versions. Instead the very
program that runs the images builds one from the same configuration and a single layer that holds nothing, which takes
a tenth of a second; what is in it then is what Apptainer inserts (1.4.5: ``internal/pkg/build/sources``,
``conveyorPacker_oci.go`` and ``base_environment.go``).

An image that another version built may have other scripts. That is a difference that cannot be judged.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from snakemake_apptainer_freshness.apptainer import sif, squashfs
from snakemake_apptainer_freshness.apptainer.program import Apptainer, scratch
from snakemake_apptainer_freshness.common.files import opened
from snakemake_apptainer_freshness.common.own_folder import handles
from snakemake_apptainer_freshness.common.strict_json import refusing_equal_keys
from snakemake_apptainer_freshness.errors import CorruptImage, LocalIOError, PullFailed, redact
from snakemake_apptainer_freshness.image.manifest import OCI_CONFIG, OCI_MANIFEST
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.settings import DISK

_EMPTY_LAYER: Final = bytes(1024)
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"


def read(config: bytes, program: Apptainer) -> Node:
    """Return what `program` puts into an image with the configuration `config`, as a tree.

    Raises
    ------
    NotComparable
        where `config` is not plainly a configuration.
    PullFailed, MissingProgram, LocalIOError
        where the program does not build it.
    """
    settings = _settings(config)
    try:
        with scratch(program.environment) as folder:
            layout, image = folder / "layout", folder / "empty.sif"
            _write(layout, settings)
            _build(program, layout, image, temporary=folder)
            content = sif.read(image)
            if content.partition is None:
                raise PullFailed(f"{program.version} built an empty image without a file system")
            with opened(image) as file:
                return squashfs.read(file, content.partition.offset, content.partition.size)
    except (OSError, CorruptImage) as error:
        raise LocalIOError(f"cannot build an empty image with {program.version}: {error}") from error


def _settings(config: bytes) -> dict[str, Any]:
    """Return the part of a configuration that Apptainer writes scripts from.

    Go takes the last of two equal keys, and ``env`` for ``Env``: what has both could mean two things.
    """

    def refuse_twice() -> NoReturn:
        raise NotComparable("its configuration has a key twice")

    try:
        document = json.loads(config, object_pairs_hook=refusing_equal_keys(refuse_twice))
    except (ValueError, RecursionError):
        raise NotComparable("its configuration is not JSON") from None
    if not isinstance(document, dict):
        raise NotComparable("its configuration is not an object")
    settings = {} if document.get("config") is None else document["config"]
    if not isinstance(settings, dict):
        raise NotComparable("its configuration is not an object")
    for level in (document, settings):
        if len({key.casefold() for key in level}) != len(level):
            raise NotComparable("its configuration has a key twice, in capitals and not")
    if "config" not in document and "config" in {key.casefold() for key in document}:
        raise NotComparable("its configuration has a key in capitals")
    return settings


def _write(layout: Path, settings: Mapping[str, Any]) -> None:
    """Make an OCI image layout with one image: these settings, and nothing."""
    layer = _blob(layout, _EMPTY_LAYER, _LAYER_TYPE)
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _blob(layout, json.dumps(config).encode(), OCI_CONFIG),
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "manifests": [_blob(layout, json.dumps(manifest).encode(), OCI_MANIFEST)]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(layout: Path, content: bytes, media_type: str) -> dict[str, Any]:
    name = hashlib.sha256(content).hexdigest()
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}


def _build(program: Apptainer, layout: Path, image: Path, *, temporary: Path) -> None:
    arguments = [program.program, "pull", "--disable-cache", str(image), f"oci:{layout}"]
    try:
        result = subprocess.run(
            arguments, env=program.environment_of_pull(temporary), pass_fds=handles(arguments),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=DISK.program_timeout, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PullFailed(f"{program.version} does not build an empty image: {error}") from error
    if result.returncode != 0:
        last_line = " ".join(redact(result.stderr).strip().splitlines()[-1:])
        raise PullFailed(f"{program.version} does not build an empty image: {last_line}")
