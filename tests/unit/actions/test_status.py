"""Status puts the witnesses side by side, and tells disagreement from what merely is not known."""

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.status import status
from snakemake_apptainer_freshness.actions.workflow import RuleUse, Unseen, Workflow
from snakemake_apptainer_freshness.freshness import DiskState, RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import facts, image_library
from tests.support import pins as made
from tests.support import sifs
from tests.support.pins import lock_entry

NEW = "sha256:" + "f" * 64
PIN = made.pin()
ENTRY = lock_entry(
    reference=PIN.reference,
    digest=str(PIN.digest),
    media_type="application/vnd.oci.image.index.v1+json",
    platforms={"linux/amd64": str(PIN.manifest)},
)
OTHER = replace(
    ENTRY,
    reference=parse("docker://quay.io/team/other:2"),
    digest=made.OTHER,
    platforms={},
)


class World:
    """Registries that say one thing of everything."""

    warnings = ()

    def __init__(self, state=RemoteState.CURRENT, digest=None):
        self.fact = RemoteFact(state=state, digest=digest)

    def check(self, entries):
        for entry in entries:
            yield entry, self.fact


def workflow(*references, unseen=()):
    uses = {text: (RuleUse(rule="a", snakefile="/w/Snakefile", line=3),) for text in references}
    return Workflow(
        snakefile=Path("/w/Snakefile"),
        workdir=Path("/w"),
        lockfile=Path("/w/containers.lock"),
        options=Options(),
        prefix=Path("/w/images"),
        uses=uses,
        unseen=tuple(unseen),
        outputs=(),
    )


def one(tmp_path, world=None, **options):
    [row] = status(Lock.of([ENTRY]), tmp_path, registries=world and (lambda: world), **options)
    return row


def put_verified(prefix):
    made.record(made.put(prefix, PIN), PIN)


def test_what_all_witnesses_agree_on_is_as_agreed(tmp_path):
    put_verified(tmp_path)
    row = one(tmp_path, World())
    assert (row.verdict.remote.state, row.verdict.disk.state) == (RemoteState.CURRENT, DiskState.VERIFIED)
    assert not row.is_finding


def test_without_registries_nobody_is_asked_and_that_is_no_finding(tmp_path):
    row = one(tmp_path)
    assert row.verdict.remote.state is RemoteState.UNCHECKED
    assert not row.is_finding


@pytest.mark.parametrize("state", [RemoteState.MOVED, RemoteState.UNTAGGED, RemoteState.LOST])
def test_a_registry_that_disagrees_is_a_finding(tmp_path, state):
    assert one(tmp_path, World(state, NEW)).is_finding


def test_a_registry_that_cannot_be_asked_is_no_finding(tmp_path):
    row = one(tmp_path, World(RemoteState.UNREACHABLE))
    assert row.is_unasked
    assert not row.is_finding


def test_an_image_that_is_not_there_is_no_finding(tmp_path):
    row = one(tmp_path, World())
    assert row.verdict.disk.state is DiskState.ABSENT
    assert not row.is_finding


def test_an_image_that_may_not_run_is_a_finding(tmp_path):
    made.put(tmp_path, PIN, b"no image")
    row = one(tmp_path, World())
    assert row.verdict.disk.state is DiskState.CORRUPT
    assert row.is_finding


def test_of_the_two_images_that_an_entry_may_have_the_worse_is_told(tmp_path):
    put_verified(tmp_path)
    platform = replace(PIN, pinned=parse(f"docker://quay.io/team/tool@{PIN.manifest}"), digest=PIN.manifest)
    made.put(tmp_path, platform, b"no image")
    assert one(tmp_path).verdict.disk.state is DiskState.CORRUPT


def test_an_image_in_a_library_that_the_workflow_names_is_there(tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    content = sifs.pulled(f"{made.REPOSITORY}@{PIN.digest}")
    (shelf / "tool.sif").write_bytes(content)
    facts.keep(made.fact_of(content, PIN))
    image_library.remember(PIN, shelf / "tool.sif")
    named = workflow(ENTRY.reference.text)

    assert one(tmp_path, workflow=named).verdict.disk.state is DiskState.ABSENT
    assert one(tmp_path, libraries=[shelf]).verdict.disk.state is DiskState.VERIFIED
    named = replace(named, options=Options(images=(shelf,)))
    assert one(tmp_path, workflow=named).verdict.disk.path == str(shelf / "tool.sif")


def test_a_reference_that_the_lock_lacks_is_the_first_row(tmp_path):
    missing = "docker://quay.io/team/new:1"
    rows = status(Lock.of([ENTRY]), tmp_path, workflow=workflow(ENTRY.reference.text, missing))
    assert [row.reference for row in rows] == [missing, ENTRY.reference.text]
    assert rows[0].is_finding
    assert rows[0].verdict is None


def test_an_entry_that_no_rule_names_is_an_orphan_only_where_all_rules_were_seen(tmp_path):
    lock = Lock.of([ENTRY, OTHER])
    orphans = [
        row.reference for row in status(lock, tmp_path, workflow=workflow(ENTRY.reference.text)) if row.is_orphan
    ]
    assert orphans == [OTHER.reference.text]
    half_seen = workflow(ENTRY.reference.text, unseen=[Unseen(rule="b", why="its image depends on a checkpoint")])
    assert not any(row.is_orphan for row in status(lock, tmp_path, workflow=half_seen))


def test_the_worst_comes_first(tmp_path):
    made.record(made.put(tmp_path, PIN), PIN)
    made.flip_seven_bytes(made.put(tmp_path, PIN))
    rows = status(Lock.of([OTHER, ENTRY]), tmp_path)
    assert [row.reference for row in rows] == [ENTRY.reference.text, OTHER.reference.text]


def test_each_answer_of_a_registry_is_told(tmp_path):
    told = []
    status(Lock.of([ENTRY, OTHER]), tmp_path, registries=World, asked=lambda: told.append(1))
    assert len(told) == 2


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (RemoteState.LOST, ("/data/mirror",)),
        (RemoteState.UNREACHABLE, ("/data/mirror",)),
        (RemoteState.CURRENT, ()),
        (RemoteState.UNTAGGED, ()),
    ],
)
def test_mirrors_are_named_for_what_a_registry_does_not_give(tmp_path, state, named):
    asked = []

    def having(pin):
        asked.append(pin.digest)
        return ["/data/mirror"]

    [row] = status(Lock.of([ENTRY]), tmp_path, registries=lambda: World(state), mirrors=having)

    assert row.elsewhere == named
    assert asked == ([PIN.digest] if named else [])
