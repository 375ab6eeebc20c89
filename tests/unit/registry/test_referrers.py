"""Signatures beside images are found in all three places where they can lie, and no more is read than is allowed."""

import json

import pytest

from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.signature import Form, Signature
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support import images
from tests.support import signatures as made
from tests.support.attacks import REPOSITORY, honest
from tests.support.registry import RealRegistry
from tests.support.replies import Reply

NOT_FOUND = Reply(status=404, body=b'{"errors": [{"code": "NOT_FOUND"}]}')
BUNDLES = [Signature(form=Form.BUNDLE, content=json.dumps({"number": number}).encode()) for number in range(3)]
SIMPLE = Signature(form=Form.SIMPLE, content=b"payload", signature="AAAA")


class Beside:
    """The signatures of the one image of a registry in the lab."""

    def __init__(self, lab):
        self.lab = lab
        self.registry, self.reference = honest(lab)
        self.digest = self.registry.digest(REPOSITORY, "1")
        self.tag = self.digest.replace(":", "-")
        self.list = f"/v2/{REPOSITORY}/referrers/{self.digest}"

    def publish(self, *signatures, tag=None):
        """Publish what has each of the bundles `signatures`; gives the list of it."""
        image = made.descriptor(b"image", made.OCI_MANIFEST)
        documents = [made.bundle_manifest(one, image) for one in signatures]
        for one, document in zip(signatures, documents, strict=True):
            self.blob(one)
            self.registry.publish(REPOSITORY, None, document)
        listed = made.referrers(*documents)
        if tag is not None:
            self.registry.publish(REPOSITORY, tag, listed, made.OCI_INDEX)
        return listed

    def publish_simple(self, *signatures):
        for one in signatures:
            self.blob(one)
        self.registry.publish(REPOSITORY, f"{self.tag}.sig", made.simple_manifest(signatures))

    def blob(self, signature, served=None):
        digest = made.descriptor(signature.content, "x")["digest"]
        body = signature.content if served is None else served
        self.registry.answer(f"/v2/{REPOSITORY}/blobs/{digest}", Reply(body=body))

    def found(self, **limits):
        with Resolver(environ=self.lab.environ, limits=self.lab.limits._replace(**limits)) as resolver:
            [(_, answer)] = resolver.signatures([(parse(self.reference), Digest.parse(self.digest))])
        if isinstance(answer, FreshnessError):
            raise answer
        return answer


@pytest.fixture
def beside(lab):
    beside = Beside(lab)
    beside.registry.answer(beside.list, NOT_FOUND)
    return beside


def test_an_image_without_signatures_has_none_and_nothing_is_wrong(beside):
    found = beside.found()
    assert (found.signatures, found.problems) == ((), ())


def test_bundles_in_the_registrys_own_list(beside):
    listed = beside.publish(*BUNDLES)
    beside.registry.answer(beside.list, Reply(body=listed))
    assert beside.found().signatures == tuple(BUNDLES)


def test_further_pages_of_the_list_are_read(beside):
    first, second = beside.publish(BUNDLES[0]), beside.publish(BUNDLES[1])
    link = (("Link", f'<{beside.list}?next=1>; rel="next"'),)
    beside.registry.answer(
        beside.list, lambda one: Reply(body=second) if one.query else Reply(body=first, headers=link)
    )
    assert beside.found().signatures == tuple(BUNDLES[:2])


def test_bundles_under_the_tag_that_stands_in_for_the_list(beside):
    beside.publish(*BUNDLES, tag=beside.tag)
    assert beside.found().signatures == tuple(BUNDLES)


def test_a_registry_that_answers_whatever_is_asked_is_asked_by_the_tag(beside):
    beside.registry.answer(beside.list, Reply(body=b"{}"))
    beside.publish(BUNDLES[0], tag=beside.tag)
    assert beside.found().signatures == (BUNDLES[0],)


def test_cosigns_own_tag_is_looked_at_beside_the_list(beside):
    beside.registry.answer(beside.list, Reply(body=beside.publish(BUNDLES[0])))
    beside.publish_simple(SIMPLE)
    assert beside.found().signatures == (BUNDLES[0], SIMPLE)


def test_what_refers_to_an_image_and_is_no_signature_is_not_fetched(beside):
    other = made.descriptor(b"x", made.OCI_MANIFEST, artifactType="application/spdx+json")
    listed = {"schemaVersion": 2, "mediaType": made.OCI_INDEX, "manifests": [other]}
    beside.registry.answer(beside.list, Reply(body=json.dumps(listed).encode()))
    assert beside.found().signatures == ()
    assert beside.registry.asked(f"/v2/{REPOSITORY}/manifests/{other['digest']}") == []


def test_other_bytes_under_a_signatures_digest_are_told_and_left_out(beside):
    beside.registry.answer(beside.list, Reply(body=beside.publish(*BUNDLES[:2])))
    beside.blob(BUNDLES[0], served=b'{"number":9}')
    found = beside.found()
    assert found.signatures == (BUNDLES[1],)
    assert "is something else" in found.problems[0]


def test_a_registry_that_fails_is_an_error_and_not_an_image_without_signatures(beside):
    beside.registry.answer("/v2/", Reply(status=500))
    with pytest.raises(FreshnessError):
        beside.found()


def test_the_reference_registry_gives_what_was_pushed_to_it(tmp_path):
    with RealRegistry(tmp_path / "registry") as registry:
        digest = images.push(images.tiny_image("x"), registry.host, "lab/tool", "1")
        made.push(registry.host, "lab/tool", digest, SIMPLE, *BUNDLES)
        environment = {"HOME": str(tmp_path), "APPTAINER_NOHTTPS": "1"}
        with Resolver(environ=environment) as resolver:
            wanted = (parse(f"docker://{registry.host}/lab/tool:1"), Digest.parse(digest))
            [(_, found)] = resolver.signatures([wanted])
    assert found.signatures == (*BUNDLES, SIMPLE)
    assert found.problems == ()
