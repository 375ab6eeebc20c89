"""Each verification of an image is what stops its attack: with the verification taken away, the attack succeeds.

Facts, stat keys, hashes that travel to jobs, labels, locks and layers; what a reader of squashfs refuses is held to be
met by an attack in ``test_squashfs_attacks.py``, bundles have a file of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions import lock_claims
from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.actions.policies import Policies
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.engine import handover
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Pinned
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options
from snakemake_apptainer_freshness.store import facts, places, pull, state
from snakemake_apptainer_freshness.store.held import held, key_of
from tests.support import images, sifs
from tests.support.fake_apptainer import FakeApptainer
from tests.support.images import Image
from tests.support.mutations import PACKAGE, Mutation, anything, no, yes
from tests.support.pins import DIGEST, OTHER, REPOSITORY, flip_seven_bytes, lock_entry, pin, put, record, run_as, settle
from tests.support.proofs import Served, built, environment, file, layer, pin_of

AMD = Platform.parse("linux/amd64")
REFERENCE = f"docker://{REPOSITORY}:1.0"
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
        mock.patch.object(places, "clock_of", return_value=frozen.ctime_ns + 1_900_000_000),
    ):
        fact = held(path, known(path))
        assert fact.known is not None
        flip_seven_bytes(path)
        return held(path, fact.known).state == "verified"


class Dag:
    """As much of Snakemake's DAG as is wrapped; `taken` are the jobs whose outputs it took."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def register_running(self, jobs: Any) -> None:
        """Take `jobs` for running."""

    async def check_and_touch_output(self, job: Any) -> None:
        """Take the outputs of `job`."""
        self.taken.append(job)


class Job:
    """As much of a job as is looked at."""

    rule = None
    container_img_url = pin().url

    def is_group(self) -> bool:
        """Say that it is a job."""
        return False


def image_swapped_while_a_job_runs_and_swapped_back(folder: Path) -> bool:
    path, dag, job = put(folder, pin()), Dag(), Job()
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
        asyncio.run(dag.check_and_touch_output(job))
    return dag.taken == [job]


# --- What travels to jobs ---------------------------------------------------------------------------------------------


def handover_of(pins: dict[str, Pinned]) -> handover.Handover:
    return handover.Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR)


def file_of_pins_rewritten(_folder: Path) -> bool:
    evil = handover_of({REFERENCE: run_as(REFERENCE, f"docker://{REPOSITORY}@{OTHER}", OTHER)})
    rows = handover.rows_of(handover_of({REFERENCE: run_as(REFERENCE, f"docker://{REPOSITORY}@{DIGEST}", DIGEST)}))
    name = hashlib.sha256(handover.content_of(rows)).hexdigest()
    word = handover.encode(handover_of({}), file=name)
    try:
        return (
            str(OTHER)
            in handover.decode(word, lambda _: handover.content_of(handover.rows_of(evil))).pins[REFERENCE].url
        )
    except FreshnessError:
        return False


def from_any_file(name: str, read: Callable[[str], bytes]) -> Any:
    """In place of what hashes the file of pins."""
    content = handover._unpacked(read(name)) if name else b"{}"
    return Table({"pins": read_json(content)}, frozenset({"pins"}))


def pin_that_leads_to_another_repository(_folder: Path) -> bool:
    evil = Pinned(reference=parse(REFERENCE), pinned=parse(f"docker://evil.example/x@{DIGEST}"), digest=DIGEST)
    try:
        decoded = handover.decode(handover.encode(handover_of({REFERENCE: evil})), lambda _: b"")
    except FreshnessError:
        return False
    return "evil.example" in decoded.pins[REFERENCE].url


def any_pin(reference: str, url: str, digest: str) -> Pinned:
    """In place of what holds a pin to its reference."""
    return Pinned(reference=parse(reference), pinned=parse(url), digest=Digest.parse(digest))


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


# --- The lock ---------------------------------------------------------------------------------------------------------

INDEX = images.multi_arch(CONTENT, "arm64")
EVIL_MANIFEST = Digest.parse(EVIL.digest)


def platform_entry_of_another_image(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, INDEX.digest, {str(Platform.here()): EVIL.digest})
    try:
        lock_claims.hold(forged, Platform.here(), lambda: Served(content=INDEX), lockfile="containers.lock")
    except FreshnessError:
        return False
    return True


def another_index_served_under_the_digest(_folder: Path) -> bool:
    honest = lock_entry(REFERENCE, INDEX.digest, {"linux/amd64": INDEX.children[0].digest, "linux/arm64": OTHER})
    liar = Served(content=INDEX, lies={INDEX.digest: images.multi_arch(EVIL, "arm64").manifest})
    with contextlib.suppress(FreshnessError):
        return lock_claims.proven_manifest(honest, Platform.here(), lambda: liar) == EVIL_MANIFEST
    return False


def forged_created(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, hints={"created": str(date.today())})  # noqa: DTZ011  any day
    policies = Policies.of(Options(policy={"age": {"at_most": 365}}), [])
    days = policies.days(
        {REFERENCE: forged}, lambda _: {REFERENCE: Details(created="2001-01-01T00:00:00Z")}, platform=AMD
    )
    return policies.of_pins({REFERENCE: forged}, days) == []


def days_of_the_lock(_self: Any, pins: Any, _ask: Any, *, platform: Platform) -> dict[str, date]:
    """In place of what reads an image's configuration."""
    return {text: date.fromisoformat(entry.hints["created"]) for text, entry in pins.items()}


def forged_created_that_is_told(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, hints={"created": "2026-01-01"})
    try:
        lock_claims.hold_created(forged, date(2001, 1, 1), AMD, lockfile="containers.lock")
    except FreshnessError:
        return False
    return True


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
            {CONTENT.digest: EVIL.manifest} | {images.sha256(body): body for body in EVIL.blobs},
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
    Mutation(attack=file_of_pins_rewritten, target="engine.handover._from_file", by=from_any_file),
    Mutation(attack=pin_that_leads_to_another_repository, target="engine.handover._pinned", by=any_pin),
    Mutation(attack=facts_in_a_state_folder_that_others_may_write, target="store.state._refuse_foreign", by=anything),
    Mutation(attack=fact_that_others_may_write, target="store.state._WRITABLE_BY_OTHERS", by=0),
    Mutation(attack=fact_of_another_digest_under_the_name_of_this, target="store.facts._is_of", by=yes),
    Mutation(attack=image_that_anyone_may_write, target="store.classify._exposed", by=no),
    Mutation(attack=image_swapped_with_its_size_and_time, target="common.files.StatKey.same_file", by=yes),
    Mutation(attack=overlay_beside_the_file_system, target="apptainer.sif.Sif.unlike_a_pull", by=""),
    Mutation(attack=image_for_another_machine, target="store.classify.wrong_architecture", by=lambda *_: ""),
    Mutation(attack=another_image_from_the_registry, target="store.pull._examine", by=examined_by_nobody),
    Mutation(
        attack=platform_entry_of_another_image,
        target="actions.lock_claims.proven_manifest",
        by=lambda entry, platform, _source: entry.platforms[platform],
    ),
    Mutation(attack=another_index_served_under_the_digest, target="image.digest.Digest.matches", by=yes),
    Mutation(attack=forged_created, target="actions.policies.Policies.days", by=days_of_the_lock),
    Mutation(attack=forged_created_that_is_told, target="actions.lock_claims.hold_created", by=anything),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.attack.__name__)
def test_without_its_verification_it_succeeds(mutation, tmp_path, monkeypatch):
    assert mutation.holds(tmp_path, monkeypatch)
