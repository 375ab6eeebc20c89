"""Each verification of an image is what stops its attack: with the verification taken away, the attack succeeds.

Facts, stat keys, hashes that travel to jobs, labels and layers; locks and bundles have files of their own. What a
reader of squashfs refuses is held to be met by an attack in ``test_squashfs_attacks.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.store import clock, facts, pull, state
from snakemake_apptainer_freshness.store.held import held, key_of
from tests.support import digests, sifs
from tests.support.fake_apptainer import FakeApptainer
from tests.support.images import Image
from tests.support.mutations import PACKAGE, Mutation, anything, no, yes
from tests.support.pins import DIGEST, OTHER, REPOSITORY, flip_seven_bytes, pin, put, record, settle
from tests.support.proofs import Served, built, environment, file, layer, pin_of
from tests.support.watched import Dag, Job

CONTENT = Image(layers=(layer(file("data", "agreed")),))
EVIL = Image(layers=(layer(file("data", "evil!!")),))


# --- What an image hashes to, before and after a job ------------------------------------------------------------------


def known(path: Path, *, stat: bool = False) -> FileHash:
    """What a main process knows of the image at `path`."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileHash(sha256=sha256, stat=key_of(path) if stat else None)


def image_of_a_job_rewritten_by_another(folder: Path) -> bool:
    path = put(folder, pin())
    before = known(path)
    flip_seven_bytes(path)
    return held(path, before).state == "verified"


def image_rewritten_with_its_size_and_time(folder: Path) -> bool:
    path = put(folder, pin())
    before = known(path, stat=True)
    os.utime(path)
    flip_seven_bytes(path)
    return held(path, before).state == "verified"


def image_of_a_job_opened_to_everybody(folder: Path) -> bool:
    path = put(folder, pin())
    before = known(path)
    path.chmod(0o777)
    return held(path, before).state == "verified"


def change_within_one_tick_of_the_hashing(folder: Path) -> bool:
    path = put(folder, pin())
    frozen = StatKey.of(path.lstat())
    with (
        mock.patch.object(StatKey, "of", return_value=frozen),
        mock.patch.object(clock, "time_in", return_value=frozen.ctime_ns + 1_900_000_000),
    ):
        fact = held(path, known(path))
        assert fact.known is not None
        flip_seven_bytes(path)
        return held(path, fact.known).state == "verified"


def image_swapped_while_a_job_runs_and_swapped_back(folder: Path) -> bool:
    path, dag, job = put(folder, pin()), Dag(), Job(pin().url)
    watch = ImageWatch(dag, lambda job: job.container_img_url)
    dag.register_running([job])
    key = key_of(path)
    assert key is not None
    watch.looked(pin().url, path, key)
    aside = path.rename(folder / "aside")
    put(folder, pin())
    aside.replace(path)
    os.utime(path)
    with contextlib.suppress(Exception):
        dag.end(job)
    return dag.taken == [job]


# --- Facts and labels -------------------------------------------------------------------------------------------------


def state_of(path: Path) -> str:
    with contextlib.suppress(FreshnessError):
        return check_one(pin(), path).state
    return ""


def facts_in_a_state_folder_that_others_may_write(folder: Path) -> bool:
    path = put(folder, pin())
    record(path, pin())
    state.folder().chmod(0o777)
    state._checked.cache_clear()
    return state_of(path) == "verified"


def fact_that_others_may_write(folder: Path) -> bool:
    path = put(folder, pin())
    record(path, pin())
    for each in state.folder().rglob("*.json"):
        each.chmod(0o666)
    return state_of(path) == "verified"


def fact_of_another_digest_under_the_name_of_this(folder: Path) -> bool:
    path = put(folder, pin())
    made = record(path, pin(OTHER, manifest=None))
    where = facts._own(*facts._folder_of(DIGEST), facts._name_of(made.sha256, made.platform))
    state.write(where, made.dumps())
    return state_of(path) == "verified"


def image_that_anyone_may_write(folder: Path) -> bool:
    path = put(folder, pin())
    record(path, pin())
    path.chmod(0o777)
    settle(path)
    return state_of(path) == "verified"


def image_swapped_with_its_size_and_time(folder: Path) -> bool:
    path = put(folder, pin())
    record(path, pin())
    settle(path)
    os.utime(path)
    flip_seven_bytes(path)
    return state_of(path) == "verified"


def overlay_beside_the_file_system(folder: Path) -> bool:
    partition, overlay = (
        sifs.Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra(kind=kind))
        for kind in (2, 4)
    )
    labels = sifs.metadata(sifs.labels_of(f"{REPOSITORY}@{DIGEST}"))
    told = sifs.Object(type=sifs.JSON, content=labels, name="inspect-metadata.json")
    path = put(folder, pin(), sifs.build([told, partition, overlay]))
    return state_of(path) == "bound"


def image_for_another_machine(folder: Path) -> bool:
    path = put(folder, pin(), sifs.pulled(f"{REPOSITORY}@{DIGEST}", architecture=sifs.ARM64))
    return state_of(path) == "bound"


def another_image_from_the_registry(folder: Path) -> bool:
    fake = FakeApptainer(folder / "fake")
    fake.serve(pin(), sifs.pulled(f"{REPOSITORY}@{OTHER}"))
    [result] = fetch([pin()], folder / "images", environment=fake.environment)
    return result.outcome == "pulled"


def examined_by_nobody(_pin: Any, temporary: Path, program: Any) -> pull.Obtained:
    """In place of what holds a pulled image to its pin."""
    content = temporary.read_bytes()
    return pull.Obtained(
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        apptainer=program.version,
        proven_by=facts.ProvenBy.PULLED,
        proven_at=facts.now(),
    )


# --- The deep proof, with the real Apptainer --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image that Apptainer builds of EVIL."""
    return built(EVIL, tmp_path_factory.mktemp("evil"))


def is_proven(image: Path, folder: Path, served: Served) -> bool:
    (folder / "home").mkdir()
    found = prove(pin_of(CONTENT), image, registry=served, environment=environment(folder / "home"), remember=False)
    return found.state == "verified"


@pytest.mark.parametrize(
    ("target", "by", "lies"),
    [
        ("actions.prove.differences", lambda *_: iter(()), {}),
        (
            "actions.image_content.checked",
            lambda pieces, *_: pieces,
            {CONTENT.layers[0].digest: EVIL.layers[0].content},
        ),
        (
            "image.digest.Digest.matches",
            yes,
            {CONTENT.digest: EVIL.manifest} | {digests.sha256(body): body for body in EVIL.blobs},
        ),
    ],
    ids=["trees", "layers", "manifest"],
)
def test_another_image_is_proven_where_it_is_not_compared_or_hashed(evil, tmp_path, target, by, lies):
    served = Served(content=CONTENT, lies=lies)
    for folder in (tmp_path / "with", tmp_path / "without"):
        folder.mkdir()
    with contextlib.suppress(FreshnessError):
        assert not is_proven(evil, tmp_path / "with", served)
    with mock.patch(PACKAGE + target, by):
        assert is_proven(evil, tmp_path / "without", served)


MUTATIONS = [
    Mutation(
        attack=image_of_a_job_rewritten_by_another,
        target="store.held.sha256_of",
        by=lambda _: hashlib.sha256(sifs.pulled(f"{REPOSITORY}@{DIGEST}")).hexdigest(),
    ),
    Mutation(attack=image_rewritten_with_its_size_and_time, target="common.files.StatKey.same_file", by=yes),
    Mutation(attack=image_of_a_job_opened_to_everybody, target="store.held.writable_by_all", by=no),
    Mutation(attack=change_within_one_tick_of_the_hashing, target="common.files.StatKey.settled", by=yes),
    Mutation(
        attack=image_swapped_while_a_job_runs_and_swapped_back, target="engine.watch.ImageWatch._end", by=anything
    ),
    Mutation(attack=facts_in_a_state_folder_that_others_may_write, target="store.state._refuse_foreign", by=anything),
    Mutation(attack=fact_that_others_may_write, target="store.state._WRITABLE_BY_OTHERS", by=0),
    Mutation(attack=fact_of_another_digest_under_the_name_of_this, target="store.facts._is_of", by=yes),
    Mutation(attack=image_that_anyone_may_write, target="store.classify._exposed", by=no),
    Mutation(attack=image_swapped_with_its_size_and_time, target="common.files.StatKey.same_file", by=yes),
    Mutation(attack=overlay_beside_the_file_system, target="apptainer.sif.Sif.unlike_a_pull", by=""),
    Mutation(attack=image_for_another_machine, target="store.classify.wrong_architecture", by=lambda *_: ""),
    Mutation(attack=another_image_from_the_registry, target="store.pull._examine", by=examined_by_nobody),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.attack.__name__)
def test_without_its_verification_it_succeeds(mutation, tmp_path, monkeypatch):
    assert mutation.holds(tmp_path, monkeypatch)
