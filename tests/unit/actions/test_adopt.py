"""Adopting: what each output of an old project is to the image that its rule is pinned to."""

import hashlib
import json
import os
import time

import pytest

from snakemake_apptainer_freshness.actions.adopt import adopt
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, Workflow
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.errors import ConnectionFailed
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import facts, history
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images, proofs, sifs
from tests.support.digests import sha256
from tests.support.images import Image, multi_arch
from tests.support.pins import lock_entry
from tests.support.proofs import REPOSITORY, Served, file, folder, layer

TAG = f"docker://{REPOSITORY}:1.0"
HERE = str(Platform.here())
ELSEWHERE = "arm64" if images.native_architecture() == "amd64" else "amd64"
CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "one", 0o755)),))
CHANGED = Image(layers=(layer(folder("bin"), file("bin/tool", "two", 0o755)),))
NOW = time.time()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return proofs.built(CONTENT, tmp_path_factory.mktemp("built"))


def entry(content, reference=TAG, platforms=None):
    return lock_entry(reference=reference, digest=content.digest, media_type="x", platforms=platforms or {})


class Down:
    def __init__(self):
        self.asked = 0

    def manifest(self, _reference, _digest):
        self.asked += 1
        raise ConnectionFailed("connection refused")

    blob = manifest


class Project:
    def __init__(self, place):
        self.prefix = place / "prefix"
        self.prefix.mkdir()
        self.place = place
        self.served = Served(content=CONTENT)
        self.outputs = []
        self.entries = [entry(CONTENT)]

    def put(self, source, url=TAG):
        image = image_path(self.prefix, url)
        image.write_bytes(source)
        image.chmod(0o755)
        os.utime(image, (NOW - 60, NOW - 60))
        return image

    def made(self, url, path="a.txt", reference=TAG, started=NOW):
        self.outputs.append(
            ExistingOutput(path=path, rule="read", reference=reference, recorded_url=url, started=started)
        )

    def adopt(self, *, deep=True):
        workflow = Workflow(
            snakefile=self.place / "Snakefile",
            workdir=self.place,
            lockfile=self.place / "containers.lock",
            options=Options(),
            prefix=self.prefix,
            uses={},
            unseen=(),
            outputs=tuple(self.outputs),
        )
        self.adoption = adopt(
            workflow,
            Lock.of(self.entries),
            deep=(lambda: self.served) if deep else None,
            environment=proofs.environment(self.place / "home"),
        )
        return [(one.standing.value, one.detail) for one in self.adoption.outputs]

    def standings(self, **options):
        return [standing for standing, _ in self.adopt(**options)]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_what_its_rule_runs_under_this_name_is_current(project):
    project.made(entry(CONTENT).pinned.text)

    assert project.standings() == ["current"]
    assert project.served.asked == []


def test_a_tags_image_is_compared_with_its_layers_once_for_all_outputs(project, built):
    project.put(built.read_bytes())
    project.made(TAG)
    project.made(TAG, "b.txt")

    assert project.adopt() == [("proven", "proven by comparison with its layers")] * 2
    assert project.served.asked.count(CONTENT.digest) == 1
    [seen] = project.adoption.memory.images(TAG)
    assert seen.sha256 == hashlib.sha256(built.read_bytes()).hexdigest()


def test_what_was_proven_once_needs_neither_image_nor_registry(project, built):
    image = project.put(built.read_bytes())
    project.made(TAG)
    project.adopt()
    history.save(project.adoption.path, project.adoption.memory)
    image.unlink()
    project.served = Down()

    assert project.standings(deep=False) == ["proven"]
    assert project.served.asked == 0


def test_without_going_deep_a_tag_stays_unproven_and_nobody_is_asked_and_nothing_compared(project, built):
    cache = CacheFolder.of(proofs.environment(project.place / "home"))
    for body in (CONTENT.manifest, *CONTENT.blobs):
        blob = cache.blob(Digest.parse(sha256(body)))
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(body)
    project.put(built.read_bytes())
    project.made(TAG)

    assert project.standings(deep=False) == ["unproven"]
    assert project.served.asked == []


def test_another_image_is_told_with_its_first_difference(project, built):
    project.put(built.read_bytes())
    project.entries = [entry(CHANGED)]
    project.served = Served(content=CHANGED)
    project.made(TAG)

    [(standing, detail)] = project.adopt()
    assert standing == "other"
    assert "/bin/tool: its content is another one than in its layers" in detail
    assert project.adoption.memory.images(TAG) == []


def test_an_image_that_was_replaced_meanwhile_is_not_compared(project, built):
    project.put(built.read_bytes())
    project.made(TAG, started=NOW - 120)

    assert project.adopt() == [("unproven", "its image file was replaced after it was made")]
    assert project.served.asked == []


def test_the_registry_is_asked_what_an_old_index_has_for_this_platform(project):
    old, new = multi_arch(CONTENT, ELSEWHERE), multi_arch(CONTENT, ELSEWHERE, "s390x")
    project.entries = [entry(new, platforms={HERE: CONTENT.digest})]
    facts.learn(project.entries)
    project.served = Served(content=old)
    project.made(f"docker://{REPOSITORY}@{old.digest}")

    assert project.standings(deep=False) == ["unproven"]
    assert project.standings() == ["proven"]
    assert project.adoption.memory.manifest(Digest.parse(old.digest), Platform.here()) == Digest.parse(CONTENT.digest)


def test_an_old_index_with_another_image_for_this_platform_is_another_image(project):
    old, new = multi_arch(CHANGED, ELSEWHERE), multi_arch(CONTENT, ELSEWHERE)
    project.entries = [entry(new, platforms={HERE: CONTENT.digest})]
    facts.learn(project.entries)
    project.served = Served(content=old)
    project.made(f"docker://{REPOSITORY}@{old.digest}")

    assert project.standings() == ["other"]


def test_a_registry_that_is_down_leaves_it_unproven_with_an_error_and_is_asked_once(project, built):
    project.put(built.read_bytes())
    project.served = Down()
    project.made(TAG)
    project.made(TAG, "b.txt")

    assert project.adopt() == [("unproven", "it cannot be compared: connection refused")] * 2
    assert project.served.asked == 1
    assert list(project.adoption.errors) == [TAG]


@pytest.mark.parametrize(("altered", "standing"), [(False, "proven"), (True, "other")])
def test_an_oras_tags_image_is_the_one_layer_of_its_manifest(project, altered, standing):
    content = sifs.pulled()
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.sylabs.sif.config.v1+json",
                "digest": f"sha256:{'0' * 64}",
                "size": 1,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
                    "digest": sha256(content),
                    "size": len(content),
                }
            ],
        }
    ).encode()  # fmt: skip
    digest, tag = sha256(body), f"oras://{REPOSITORY}:1.0"
    project.served.lies = {digest: body}
    project.entries = [lock_entry(reference=tag, digest=digest, media_type="x")]
    project.put(content + b"more" * altered, tag)
    project.made(tag, reference=tag)

    assert project.standings() == [standing]


def test_what_the_lock_lacks_is_unlocked(project):
    project.made(TAG, reference=f"docker://{REPOSITORY}:2.0")

    assert project.adopt() == [("unlocked", "lock it first with: apptainer-freshness lock")]


def test_another_spelling_of_the_reference_is_the_same(project):
    project.entries = [entry(CONTENT, "docker://docker.io/library/tool:latest")]
    project.made(project.entries[0].pinned.text, reference="docker://tool")

    assert project.standings() == ["current"]


def test_a_source_without_a_digest_stays_where_nobody_changed_it(project):
    project.made("shub://team/tool", reference="shub://team/tool")
    project.made(TAG, reference="shub://team/tool")

    assert project.standings() == ["current", "unproven"]


def test_what_snakemake_has_no_record_of_it_does_not_ask_about(project):
    project.made("", started=None)
    project.made("")

    assert project.adopt() == [
        ("unrecorded", "Snakemake has no record of it"),
        ("other", "it was made without a container"),
    ]


def test_the_lock_is_remembered_for_the_next_upgrade(project):
    project.entries = [entry(multi_arch(CONTENT, ELSEWHERE), platforms={HERE: CONTENT.digest})]
    project.adopt()
    assert project.adoption.memory.manifest(project.entries[0].digest, Platform.here()) is None
    facts.learn(project.entries)
    project.adopt()

    digest = project.entries[0].digest
    assert project.adoption.memory.manifest(digest, Platform.here()) == Digest.parse(CONTENT.digest)
