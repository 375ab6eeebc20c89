"""Which image made an output: what proves it, what refutes it, and what says nothing."""

import hashlib
import os
import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.provenance import Origins, Target, targets_of
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import clock, facts, places
from snakemake_apptainer_freshness.store.history import ProvenTag, TagHistory
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins, sifs
from tests.support.pins import lock_entry

TAG = f"docker://{pins.REPOSITORY}:1.0"
HERE = "linux/amd64"
NOW = time.time()


def named(digest, repository=pins.REPOSITORY):
    return f"docker://{repository}@{digest}"


def entry(digest=pins.DIGEST, manifest=pins.MANIFEST, reference=TAG):
    platforms = {HERE: str(manifest)} if manifest else {}
    return lock_entry(reference=reference, digest=str(digest), media_type="x", platforms=platforms)


def proven(*entries):
    """Entries whose indexes this user has hashed."""
    facts.learn(entries)
    return entries


def target(digest=pins.DIGEST, manifest=pins.MANIFEST, kind=PinKind.INDEX):
    [one] = proven(entry(digest, manifest))
    return Target.of(one, kind=kind, platform=Platform.parse(HERE))


def test_a_manifest_that_only_the_lock_names_is_not_the_target():
    target = Target.of(entry(), kind=PinKind.INDEX, platform=Platform.parse(HERE))

    assert (target.digests, target.manifest) == ({pins.DIGEST}, None)
    assert len(target.pins) == 1


class Project:
    def __init__(self, prefix):
        self.prefix = prefix
        self.memory = TagHistory()
        self.prefix.mkdir()

    def origins(self):
        return Origins(self.prefix, self.memory, remember=True)

    def judge(self, url, wanted=None, *, started=NOW, origins=None):
        return (origins or self.origins()).judge(url, started, wanted or target())

    def put(self, content, url=TAG, *, age=60.0):
        image = image_path(self.prefix, url)
        image.write_bytes(content)
        image.chmod(0o755)
        os.utime(image, (NOW - age, NOW - age))
        return image


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "prefix")


@pytest.mark.parametrize("kind", [PinKind.INDEX, PinKind.PLATFORM])
@pytest.mark.parametrize("digest", [pins.DIGEST, pins.MANIFEST])
def test_a_url_that_names_the_index_or_this_platforms_manifest_is_the_same(project, kind, digest):
    assert project.judge(named(digest), target(kind=kind)).answer == "same"


def test_a_digest_is_the_same_wherever_it_came_from(project):
    assert project.judge(named(pins.DIGEST, "mirror.example.org/tool")).answer == "same"


def test_an_index_that_has_the_same_manifest_for_this_platform_is_the_same(project):
    assert project.judge(named(pins.OTHER)).answer == "unknown"
    project.memory.learn_entries(proven(entry(pins.OTHER)))

    judgement = project.judge(named(pins.OTHER))
    assert judgement.answer == "same"
    assert judgement.detail == f"its url names {pins.OTHER.short}, whose image for linux/amd64 is the same"


def test_an_index_that_has_another_manifest_is_another_image(project):
    project.memory.learn_entries(proven(entry(pins.OTHER, pins.OTHER)))

    assert project.judge(named(pins.OTHER)).answer == "other"


def test_an_index_that_was_hashed_says_which_manifest_it_has(project):
    old = pins.pin(pins.OTHER)
    facts.keep_index(pins.OTHER, {Platform.parse(HERE): pins.MANIFEST})

    assert project.judge(old.url).answer == "same"
    assert project.memory.manifest(pins.OTHER, Platform.parse(HERE)) == pins.MANIFEST


def test_a_tag_says_nothing_by_itself(project):
    assert project.judge(TAG).answer == "unknown"
    assert "no longer in" in project.judge(TAG).detail

    project.put(sifs.pulled())
    judgement = project.judge(TAG)
    assert judgement.answer == "unknown"
    assert judgement.detail == "its image is unbound: it was pulled by a tag, quay.io/team/tool:1.0"


def base_digest(digest):
    labels = sifs.labels_of("quay.io/team/tool:1.0", version="1.5.0")
    return sifs.pulled(labels=labels | {"org.opencontainers.image.base.digest": str(digest)}, version="1.5.0")


def test_the_label_of_a_tags_image_is_a_claim_and_proves_nothing(project):
    project.put(base_digest(pins.DIGEST))

    judgement = project.judge(TAG)
    assert judgement.answer == "unknown"
    assert judgement.detail.startswith("its image is bound: its label says")


def test_a_label_that_names_another_digest_proves_nothing(project):
    project.put(base_digest(pins.OTHER))

    assert project.judge(TAG).answer == "unknown"
    assert "its image is stale" in project.judge(TAG).detail


@pytest.mark.parametrize("pinned", [TAG, named(pins.DIGEST)], ids=["tag", "pinned"])
def test_the_record_of_a_tags_image_proves_it_and_that_is_remembered(project, pinned):
    image = project.put(sifs.pulled())
    recorded = pins.record(image, replace(pins.pin(), pinned=parse(pinned)))
    assert project.judge(TAG).answer == "same"
    assert project.memory.images(TAG)[0].sha256 == recorded.sha256

    image.unlink()
    assert project.judge(TAG).answer == "same"


def test_a_record_of_an_old_digest_proves_a_new_one_with_the_same_manifest(project):
    project_image = project.put(sifs.pulled())
    pins.record(project_image, pins.pin(pins.OTHER), manifest=pins.MANIFEST)

    assert project.judge(TAG).answer == "same"


def test_a_record_whose_image_was_altered_proves_nothing(project):
    image = project.put(sifs.pulled())
    pins.record(image, replace(pins.pin(), pinned=parse(TAG)))
    pins.flip_seven_bytes(image)

    assert project.judge(TAG).answer == "unknown"
    assert "its image is altered" in project.judge(TAG).detail


def test_an_image_that_was_replaced_after_the_job_started_is_not_what_made_the_output(project):
    pins.record(project.put(sifs.pulled(), age=60.0), pins.pin())
    origins = project.origins()

    assert project.judge(TAG, started=NOW - 120.0, origins=origins).answer == "unknown"
    assert "replaced after it was made" in project.judge(TAG, started=NOW - 120.0, origins=origins).detail
    assert project.judge(TAG, started=NOW - 30.0, origins=origins).answer == "same"
    assert project.judge(TAG, started=None, origins=origins).answer == "unknown"


def test_what_is_remembered_speaks_of_its_time_alone(project):
    project.memory.learn(
        ProvenTag(
            url=TAG,
            digest=pins.DIGEST,
            manifest=pins.MANIFEST,
            platform=Platform.parse(HERE),
            since=1000.0,
            until=2000.0,
            proven_by="x",
        )
    )

    assert project.judge(TAG, started=1500.0).answer == "same"
    assert project.judge(TAG, started=500.0).answer == "unknown"
    assert project.judge(TAG, started=2500.0).answer == "unknown"
    assert project.judge(TAG, target(pins.OTHER), started=1500.0).answer == "same"  # its manifest is the same
    assert project.judge(TAG, target(pins.OTHER, pins.OTHER), started=1500.0).answer == "other"


@pytest.fixture
def later(monkeypatch):
    """The clock of the file system is ten seconds ahead, so that what was just written is settled."""
    monkeypatch.setattr(clock, "time_in", lambda _: time.time_ns() + 10_000_000_000)


def test_a_file_that_was_proven_once_is_known_again_by_its_times(project, later):
    image = project.put(sifs.pulled())
    project.origins().learn(TAG, image, pins.pin(), sha256="", proven_by="compared")

    again = project.judge(TAG, started=time.time() + 1)
    assert (again.answer, again.detail) == ("same", "compared")


def test_a_file_that_was_touched_since_is_known_again_by_its_hash(project):
    content = sifs.pulled()
    image = project.put(content)
    digest = hashlib.sha256(content).hexdigest()
    project.origins().learn(TAG, image, pins.pin(), sha256=digest, proven_by="compared")
    project.put(content, age=30.0)

    again = project.judge(TAG, started=time.time() + 1)
    assert (again.answer, again.detail) == ("same", "compared")


def test_a_file_that_is_another_one_now_is_not_taken_for_the_proven_one(project):
    content = sifs.pulled()
    image = project.put(content)
    digest = hashlib.sha256(content).hexdigest()
    project.origins().learn(TAG, image, pins.pin(), sha256=digest, proven_by="compared")
    project.put(sifs.pulled(image_id=b"another image..."), age=30.0)

    assert project.judge(TAG, started=time.time() + 1).answer == "unknown"


def test_an_image_that_anyone_may_write_to_proves_nothing(project):
    project.put(base_digest(pins.DIGEST)).chmod(0o777)

    assert project.judge(TAG).answer == "unknown"


@pytest.mark.parametrize("url", ["", "not a reference !", "/data/tool.sif", "shub://team/tool"])
def test_sources_without_a_digest_are_unknown(project, url):
    assert project.judge(url).answer == "unknown"


def test_nothing_is_kept_of_an_image_where_nothing_is_to_be_remembered(project, later):
    image = project.put(sifs.pulled())
    pins.record(image, replace(pins.pin(), pinned=parse(TAG)))
    before = places.path_of(image).read_bytes()

    assert Origins(project.prefix, project.memory, remember=False).judge(TAG, NOW, target()).answer == "same"
    assert places.path_of(image).read_bytes() == before
    assert project.judge(TAG).answer == "same"
    project.memory = TagHistory()
    assert project.judge(TAG).answer == "same"
    assert places.path_of(image).read_bytes() != before


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        (TAG, True),
        ("docker://quay.io/team/tool:2.0", False),
        (named(pins.OTHER), True),
        (named(pins.DIGEST, "quay.io/team/other"), False),
        ("!", False),
    ],
)
def test_a_url_is_meant_where_the_rule_was_not_given_another_image(url, meant):
    assert target().is_meant_by(url) is meant


def test_two_references_of_one_image_are_one_target():
    other = f"docker://{pins.REPOSITORY}:latest"
    found = targets_of(proven(entry(), entry(reference=other)), kind=PinKind.INDEX, platform=Platform.parse(HERE))

    assert [one.references for one in found.values()] == [(parse(TAG), parse(other))]
    assert found[named(pins.DIGEST)].digests == {pins.DIGEST, pins.MANIFEST}
