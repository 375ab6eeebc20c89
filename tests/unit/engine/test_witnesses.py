"""What a record says of an image is what the lock, the registry and the disk said, and no more."""

import hashlib

import pytest

from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.engine.witnesses import TimedResolver, Witnesses
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, RemoteState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.policy.verification import Signed
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import facts
from tests.support import pins

TOOL = f"docker://{pins.REPOSITORY}:1.0"
PINNED = f"docker://{pins.REPOSITORY}@{pins.DIGEST}"
GONE = f"docker://{pins.REPOSITORY}:gone"
ENTRY = pins.lock_entry(TOOL, platforms={"linux/amd64": pins.MANIFEST})
RUN = pins.run_as(TOOL, PINNED, pins.DIGEST)


class Registries:
    """A registry that has TOOL alone, with `entry` as its answer."""

    warnings = ("it is slow",)

    def __init__(self, entry=ENTRY):
        self.entry = entry

    def resolve(self, references):
        for reference in references:
            yield reference, self.entry if reference.text == TOOL else NotFound("no such tag")

    def check(self, entries):
        for entry in entries:
            yield entry, pins.remote_fact(RemoteState.MOVED, pins.OTHER, detail="it moved")


def witnesses(*, remote=None, disk=None, **changes):
    known = Pins(
        options=Options(),
        lock=Lock(),
        lockfile="containers.lock",
        platform=Platform.parse("linux/amd64"),
        registries=Registries,
        entries={TOOL: ENTRY},
        unpinnable={"shub://a/b": "its source has no digest"},
    )
    return Witnesses(pins=known, remote=lambda: remote or {}, disk=disk or {}, **changes)


def test_without_a_word_of_anybody_nothing_is_claimed():
    record = witnesses().record(TOOL, RUN)
    assert (record.reference, record.pinned, record.digest) == (TOOL, PINNED, str(pins.DIGEST))
    assert (record.remote, record.points_at, record.asked_at) == ("unchecked", "", "")
    assert (record.disk, record.sha256, record.size, record.signatures) == ("", "", 0, ())


def test_what_has_no_digest_says_why():
    record = witnesses().record("shub://a/b", pins.run_as("shub://a/b"))
    assert (record.pinned, record.digest, record.proof) == ("shub://a/b", "", "its source has no digest")


def test_this_platforms_manifest_is_recorded_where_it_is_proven_and_not_as_the_lock_claims():
    assert witnesses().record(TOOL, RUN).manifest == ""
    facts.learn([ENTRY])
    record = witnesses().record(TOOL, RUN)
    assert (record.platform, record.manifest) == ("linux/amd64", str(pins.MANIFEST))


@pytest.mark.parametrize(
    ("fact", "points_at"),
    [
        (pins.remote_fact(RemoteState.MOVED, pins.OTHER), str(pins.OTHER)),
        (pins.remote_fact(RemoteState.CURRENT), str(pins.DIGEST)),
        (pins.remote_fact(RemoteState.UNREACHABLE, detail="timed out"), ""),
    ],
)
def test_what_the_tag_points_at_is_what_the_registry_said(fact, points_at):
    record = witnesses(remote={TOOL: fact}).record(TOOL, RUN)
    assert (record.remote, record.points_at, record.remote_detail) == (str(fact.state), points_at, fact.detail)


def test_an_image_that_was_resolved_in_this_run_is_current_since_then():
    made = witnesses()
    resolver = made.listening(Registries())
    answers = dict(resolver.resolve([parse(TOOL), parse(GONE)]))
    assert isinstance(answers[parse(GONE)], NotFound)
    record = made.record(TOOL, RUN)
    assert (record.remote, record.points_at) == ("current", str(pins.DIGEST))
    assert record.asked_at.endswith("Z")


def test_what_the_tag_of_an_image_that_was_resolved_points_at_is_the_registrys_word_and_not_the_locks():
    made = witnesses()
    list(made.listening(Registries(pins.lock_entry(TOOL, pins.OTHER))).resolve([parse(TOOL)]))
    assert made.record(TOOL, RUN).points_at == str(pins.OTHER)


def test_whoever_listens_changes_no_answer_and_notes_when_each_came():
    resolver = TimedResolver(Registries())
    [(entry, fact)] = resolver.check([ENTRY])
    assert (entry, fact.state, resolver.warnings) == (ENTRY, RemoteState.MOVED, ("it is slow",))
    assert set(resolver.at) == {ENTRY.reference}
    assert [reference.text for reference, _ in resolver.resolve([parse(GONE)])] == [GONE]
    assert parse(GONE) not in resolver.at


def test_the_hash_of_a_verified_file_is_recorded_and_that_of_another_is_not(tmp_path):
    pin = pins.pin()
    path = pins.put(tmp_path, pin)
    pins.record(path, pin)
    content = path.read_bytes()
    for state, sha256 in ((DiskState.VERIFIED, hashlib.sha256(content).hexdigest()), (DiskState.ALTERED, "")):
        fact = DiskFact(state=state, path=str(path), detail="why")
        record = witnesses(disk={PINNED: fact}).record(TOOL, RUN)
        assert (record.disk, record.proof, record.path) == (str(state), "why", str(path))
        assert (record.sha256, record.size) == (sha256, len(content))


def test_a_file_that_is_gone_has_no_size(tmp_path):
    fact = DiskFact(state=DiskState.ABSENT, path=str(tmp_path / "gone"))
    assert witnesses(disk={PINNED: fact}).record(TOOL, RUN).size == 0


def test_signatures_that_satisfied_a_policy_are_recorded_by_their_signer():
    signed = Signed(digest=pins.DIGEST, by="key sha256:55", signature="7" * 64)
    [found] = witnesses(signed=lambda text: [signed] if text == TOOL else []).record(TOOL, RUN).signatures
    assert (found.by, found.digest, found.signature) == ("key sha256:55", str(pins.DIGEST), "7" * 64)
