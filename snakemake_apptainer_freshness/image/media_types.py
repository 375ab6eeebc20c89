"""The media types that a registry has for manifests, and what is in them.

Schema 1 of Docker is recognised and never asked for: Apptainer cannot pull it, and its digest is not that of its bytes.
"""

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

ACCEPT: Final = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
"""For the ``Accept`` header; without these some registries convert to schema 1, under another digest."""

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
SIF_LAYER: Final = "application/vnd.sylabs.sif.layer.v1.sif"
SIF_LAYER_OLD: Final = "appliciation/vnd.sylabs.sif.layer.tar"
"""Of Singularity before 3.7, typing error included (Apptainer, ``internal/pkg/client/oras``)."""
