"""What is believed."""

from __future__ import annotations

import json

from snakemake_apptainer_freshness.errors import DamagedAnswer, FreshnessError
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support import pins
from tests.support.attacks import (
    MANIFESTS,
    OCI_INDEX,
    REPOSITORY,
    honest,
)
from tests.support.digests import sha256
from tests.support.lab import Lab, manifest
from tests.support.replies import Reply
from tests.support.simulator import OCI_MANIFEST


def _pinned_to(answer: Entry | FreshnessError, digest: str) -> bool:
    return isinstance(answer, Entry) and str(answer.digest) == digest


def header_digest_with_other_bytes(lab: Lab) -> bool:
    """The header says D, at HEAD and at GET, and the body is something else."""
    registry, reference = honest(lab)
    headers = [("Content-Type", OCI_MANIFEST), ("Docker-Content-Digest", sha256(manifest()))]
    registry.answer(MANIFESTS, Reply(headers=headers, body=manifest(666)))
    answer = lab.ask(reference)
    return not (isinstance(answer, DamagedAnswer) and "serves other bytes" in answer.message)


def other_bytes_under_a_digest(lab: Lab) -> bool:
    """D is asked for by its digest, and something else is served."""
    registry, reference = honest(lab)
    promised = sha256(manifest())
    registry.answer(MANIFESTS + promised, Reply(headers=[("Content-Type", OCI_MANIFEST)], body=manifest(666)))
    return _pinned_to(lab.ask(f"{reference.removesuffix(':1')}@{promised}"), promised)


def configuration_of_another_image(lab: Lab) -> bool:
    """The platform of a single image is read from a configuration that is not its own."""
    registry, reference = honest(lab)
    own = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    other = json.dumps({"os": "linux", "architecture": "arm64"}).encode()
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(own), "size": len(own)}
    registry.publish(REPOSITORY, "1", manifest(config=config))
    registry.serve(f"/v2/{REPOSITORY}/blobs/{sha256(own)}", other)
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        ((_, answer),) = resolver.resolve_with_platforms([parse(reference)])
    return isinstance(answer, Entry) and "linux/arm64" in map(str, answer.platforms)


def moved_tag_that_is_no_image(lab: Lab) -> bool:
    """A check believes a digest that no registry serves: a false alarm that would make people update."""
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    assert isinstance(entry, Entry)
    lie = f"sha256:{'6' * 64}"
    registry.answer(MANIFESTS + "1", Reply(headers=[("Docker-Content-Digest", lie)]), method="HEAD")
    registry.answer(MANIFESTS + lie, Reply(headers=[("Content-Type", OCI_MANIFEST)], body=manifest(666)))
    return str(lab.check(entry).digest) == lie


def manifest_and_index_at_once(lab: Lab) -> bool:
    """CVE-2021-41190: one program sees an image, another one an index."""
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", manifest(manifests=[]))
    return isinstance(lab.ask(reference), Entry)


def media_type_that_contradicts_the_header(lab: Lab) -> bool:
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", manifest(), OCI_INDEX)
    return isinstance(lab.ask(reference), Entry)


def digest_as_a_path(lab: Lab) -> bool:
    """``sha256:../../x`` as digest: asked for by a client that believes the header."""
    registry, reference = honest(lab)
    pin = sha256(manifest())
    entry = pins.lock_entry(reference, pin, media_type=OCI_MANIFEST)
    for digest in ("sha256:../../../token", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "../../x"):
        registry.answer(MANIFESTS + "1", Reply(headers=[("Docker-Content-Digest", digest)]), method="HEAD", times=1)
        lab.check(entry)
    return any(request.path not in _EXPECTED for request in registry.requests)


_EXPECTED = {MANIFESTS + "1", MANIFESTS + sha256(manifest())}

HOSTILE_JSON = {
    "deep nesting": b"[" * 100_000,
    "duplicate keys": manifest()[:-1] + b', "layers": []}',
    "NaN": manifest()[:-1] + b', "x": NaN}',
    "lone surrogate": manifest()[:-1] + b', "annotations": {"a": "\\ud800"}}',
    "huge number": manifest()[:-1] + b', "x": ' + b"9" * 100_000 + b"}",
    "negative size": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": -1}),
    "size that is no integer": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": 1.5}),
    "absurd size": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": 1 << 62}),
    "not an object": b"[]",
    "not UTF-8": b"\xff\xfe{}",
    "empty": b"",
}


def hostile_json(lab: Lab, body: bytes) -> bool:
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", body)
    return isinstance(lab.ask(reference), Entry)
