"""The platform table of a lock is held to the index that its digest names."""

import pytest

from snakemake_apptainer_freshness.actions.lock_claims import claimed_and_proven, hold, hold_platforms, proven_manifest
from snakemake_apptainer_freshness.errors import DamagedAnswer, InvalidLock, NotFound, NotLocked
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store import facts
from tests.support.images import multi_arch, tiny_image
from tests.support.pins import OTHER, lock_entry, remote_fact

HERE = Platform.parse("linux/amd64")
TEXT = "docker://q.io/team/tool:1"
INDEX = multi_arch(tiny_image("one"), "arm64")
DIGEST = Digest.parse(INDEX.digest)
MANIFEST = Digest.parse(INDEX.children[0].digest)


class Served:
    """A registry with one index; remembers what it was asked for."""

    def __init__(self, body=INDEX.manifest):
        self.body = body
        self.asked = []

    def manifest(self, reference, digest):
        self.asked.append((reference.text, digest))
        if self.body is None:
            raise NotFound("there is no such index")
        return self.body

    def __call__(self):
        return self


def entry(manifest=MANIFEST, digest=DIGEST):
    return lock_entry(TEXT, digest, {"linux/amd64": manifest})


def test_what_the_index_has_is_proven_once_and_then_known():
    served = Served()

    assert proven_manifest(entry(), HERE, served) == MANIFEST
    assert proven_manifest(entry(), HERE, None) == MANIFEST
    assert served.asked == [(f"docker://q.io/team/tool@{DIGEST}", DIGEST)]


def test_a_claim_that_was_not_looked_into_says_nothing():
    assert proven_manifest(entry(), HERE, None) is None
    assert facts.manifest_of(DIGEST, HERE) is None


def test_a_single_image_names_itself():
    assert proven_manifest(entry(DIGEST), HERE, None) == DIGEST


def test_an_index_that_does_not_hash_to_its_digest_proves_nothing():
    with pytest.raises(DamagedAnswer, match="something else is served"):
        proven_manifest(entry(), HERE, Served(tiny_image("evil").manifest))
    assert facts.manifest_of(DIGEST, HERE) is None


def test_a_true_claim_is_held():
    hold(entry(), HERE, Served(), lockfile="containers.lock")
    hold(lock_entry(TEXT, DIGEST), HERE, None, lockfile="containers.lock")


def test_a_false_claim_is_an_error_that_names_its_line(tmp_path):
    path = tmp_path / "containers.lock"
    path.write_text(dumps(Lock.of([lock_entry("docker://q.io/a:1", DIGEST, {"linux/amd64": MANIFEST}), entry(OTHER)])))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if str(OTHER) in text)

    with pytest.raises(InvalidLock, match=f"containers.lock, line {line}, says that {TEXT} is {OTHER} on linux/amd64"):
        hold(entry(OTHER), HERE, Served(), lockfile=str(path))
    with pytest.raises(InvalidLock, match=MANIFEST.short):
        hold(entry(OTHER), HERE, None, lockfile="gone.lock")


def test_where_nothing_is_known_and_nothing_may_be_asked_the_claim_is_not_believed():
    with pytest.raises(NotLocked, match="was not proven here yet"):
        hold(entry(), HERE, None, lockfile="containers.lock")


def test_an_image_that_no_index_has_is_an_error():
    single = tiny_image("single")
    with pytest.raises(InvalidLock, match="what its digest names has"):
        hold(entry(OTHER, Digest.parse(single.digest)), HERE, Served(single.manifest), lockfile="containers.lock")


def test_a_moved_tag_is_looked_into_only_where_the_lock_claims_what_it_points_at_now():
    moved = remote_fact(RemoteState.MOVED, OTHER, {"linux/amd64": MANIFEST})
    served = Served()

    assert claimed_and_proven(entry(OTHER), moved, HERE, served) is None
    assert served.asked == []
    assert claimed_and_proven(entry(), moved, HERE, served) == MANIFEST
    assert claimed_and_proven(entry(), remote_fact(RemoteState.CURRENT), HERE, served) is None


def test_a_registry_that_does_not_answer_makes_nothing_the_same():
    moved = remote_fact(RemoteState.MOVED, OTHER, {"linux/amd64": MANIFEST})
    assert claimed_and_proven(entry(), moved, HERE, Served(None)) is None


OFFERED = frozenset(map(Platform.parse, ("linux/amd64", "linux/arm64/v8")))


def test_a_platform_that_is_not_there_is_an_error_that_names_its_line(tmp_path):
    path = tmp_path / "containers.lock"
    forged = lock_entry(TEXT, DIGEST, {"linux/amd64": MANIFEST, "linux/s390x": OTHER})
    path.write_text(dumps(Lock.of([forged])))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "s390x" in text)

    with pytest.raises(
        InvalidLock, match=f"containers.lock, line {line}, says that {TEXT} has an image for linux/s390x"
    ):
        hold_platforms(forged, OFFERED, lockfile=str(path))


@pytest.mark.parametrize("claimed", [{}, {"linux/amd64": MANIFEST}, {"linux/amd64": MANIFEST, "linux/arm64": OTHER}])
def test_platforms_that_are_there_and_those_that_a_lock_does_not_name_are_let_be(claimed):
    hold_platforms(lock_entry(TEXT, DIGEST, claimed), OFFERED, lockfile="containers.lock")
