"""Whether it could be run again today, asked of registries that serve, moved, lost, or do not answer."""

import json
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.replay import asker
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support import audits, records
from tests.support.audits import kinds
from tests.support.lab import QUICK, Lab, manifest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
HERE, THERE = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def hub(lab):
    return lab.registry("registry.example")


def index(**digests):
    """An index with a manifest for each architecture."""
    entries = [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 100,
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, digest in digests.items()
    ]  # fmt: skip
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


@pytest.fixture
def ran(work, hub):
    """A run with an image whose index has a manifest for each of two machines; the file is not here any more."""
    children = {word: hub.publish("team/tool", None, manifest(n)) for n, word in enumerate(("amd64", "arm64"))}
    digest = hub.publish("team/tool", "1", index(**children), OCI_INDEX)
    image = audits.image(
        f"docker://{hub.host}/team/tool:1",
        pinned=f"docker://{hub.host}/team/tool@{digest}",
        digest=digest,
        manifest=children["amd64"],
        path="/gone.simg",
    )
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))
    return image


def replayed(work, lab, platform=HERE, mirrors=lambda _: ()):
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:
        return work.audit(ask=asker(resolver, platform, mirrors))


def test_what_is_served_as_it_was_could_be_run_again(work, lab, ran):
    found = replayed(work, lab)

    assert found.replay.possible
    assert "still served" in found.replay.because
    assert found.images[0].replay.served
    assert found.images[0].replay.same_platform
    assert found.findings == ()
    assert "could be run again today: yes, because its digest is still served" in found.answer


def test_a_tag_that_moved_away_hides_no_digest(work, lab, ran, hub):
    hub.publish("team/tool", "1", manifest(7))

    assert replayed(work, lab).replay.possible


def test_a_digest_that_is_gone_could_not(work, lab, ran, hub):
    hub.unpublish("team/tool", "1")
    hub.unpublish("team/tool", ran.digest)

    found = replayed(work, lab)

    assert not found.replay.possible
    assert kinds(found) == {"not-repeatable": 1}
    assert "no longer served" in found.replay.because
    assert found.images[0].replay.served is False
    assert not found.replay.unreachable


def test_a_digest_that_is_gone_could_with_a_mirror_that_has_it(work, lab, ran, hub):
    hub.unpublish("team/tool", "1")
    hub.unpublish("team/tool", ran.digest)
    asked = []

    def mirrors(pin):
        asked.append((pin.url, str(pin.digest)))
        return ["/data/mirror"]

    found = replayed(work, lab, mirrors=mirrors)

    assert asked == [(ran.pinned, ran.digest)]
    assert found.images[0].replay.elsewhere == ("/data/mirror",)
    assert found.replay.possible
    assert found.replay.because.endswith(", or had from /data/mirror")
    assert found.findings == ()


def test_no_mirror_is_asked_for_what_is_served_or_ran_on_another_machine(work, lab, ran, hub):
    def mirrors(_):
        raise AssertionError

    replayed(work, lab, mirrors=mirrors)
    hub.unpublish("team/tool", "1")
    hub.unpublish("team/tool", ran.digest)

    assert not replayed(work, lab, THERE, mirrors=mirrors).replay.possible


def test_a_digest_that_is_gone_and_proven_on_this_disk_could(work, lab, hub):
    image = replace(work.image(), reference=f"docker://{hub.host}/team/tool:1")
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))

    found = replayed(work, lab)

    assert found.images[0].replay.on_disk
    assert found.replay.possible
    assert found.findings == ()


def test_an_index_whose_manifest_for_this_machine_is_gone_could_not(work, lab, ran, hub):
    hub.unpublish("team/tool", ran.manifest)

    found = replayed(work, lab)

    assert kinds(found) == {"not-repeatable": 1}
    assert "the manifest for this platform is no longer served" in found.replay.because


def test_another_machine_would_get_another_image(work, lab, ran):
    found = replayed(work, lab, THERE)

    assert not found.replay.possible
    assert "linux/arm64 would get" in found.replay.because


def alone(work, hub, **changes):
    """A run with an image whose digest is that of a single manifest; the file is not here any more."""
    digest = hub.publish("team/alone", "1", manifest(0))
    image = audits.image(
        f"docker://{hub.host}/team/alone:1", pinned=f"docker://{hub.host}/team/alone@{digest}", digest=digest,
        manifest="", path="/gone.simg", **changes,
    )  # fmt: skip
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))


def test_a_single_manifest_of_the_same_digest_is_the_same_image(work, lab, hub):
    alone(work, hub)

    found = replayed(work, lab)

    assert found.replay.possible
    assert found.images[0].replay.same_platform is True


def test_a_single_manifest_that_ran_on_another_machine_is_not_promised_for_this_one(work, lab, hub):
    alone(work, hub)

    found = replayed(work, lab, THERE)

    assert not found.replay.possible
    assert "it ran on linux/amd64" in found.replay.because


def test_a_registry_that_does_not_answer_is_no_no_and_no_yes(work, lab, ran, hub):
    lab.names.clear()

    found = replayed(work, lab)

    assert not found.replay.possible
    assert found.replay.unreachable
    assert found.images[0].replay.served is None
    assert found.findings == ()
    assert "could not be asked for" in found.replay.because


def test_an_index_that_lies_about_itself_is_not_believed(work, lab, ran, hub):
    hub.serve(f"/v2/team/tool/manifests/{ran.digest}", index(amd64=ran.manifest), ("Content-Type", OCI_INDEX))

    found = replayed(work, lab)

    assert found.images[0].replay.served is not True
    assert not found.replay.possible


def test_what_had_no_digest_cannot_be_run_again_for_certain(work, lab):
    image = audits.image(audits.BUSYBOX, pinned=audits.BUSYBOX, digest="", disk="unbound", path="/gone.simg")
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))
    work.output("b")
    work.metadata("b")

    found = replayed(work, lab)

    assert f"{audits.BUSYBOX} names no digest" in found.replay.because
    assert "how 1 output was made was not recorded" in found.replay.because


def test_without_containers_there_is_nothing_to_ask(work, lab, hub):
    work.write(work.run(1, records.job(1, "count", work.output("a"))))

    found = replayed(work, lab)

    assert found.replay.possible
    assert hub.requests == []


def test_a_record_with_a_digest_that_is_none_stops_nothing(work, lab, ran):
    wrong = replace(ran, digest="sha256:zz", reference="docker://x y", pinned="docker://x y")
    work.write(work.run(2, records.job(1, "other", work.output("b"), ran=wrong), images=(wrong,)), chained=False)

    found = replayed(work, lab)

    assert not found.replay.possible


def test_an_audit_alone_asks_nobody(work, lab, ran, hub):
    work.audit()

    assert hub.requests == []
