"""Three witnesses, one verdict."""

import pytest

from snakemake_apptainer_freshness.freshness import (
    UNCHECKED,
    DiskFact,
    DiskState,
    RemoteFact,
    RemoteState,
    compare,
    decide,
)
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import Options
from tests.support.pins import lock_entry, remote_fact

INDEX, OTHER, HERE, THERE = ("sha256:" + letter * 64 for letter in "abcd")

ENTRY = lock_entry(
    reference="docker://q.io/a:1",
    digest=INDEX,
    media_type="application/vnd.oci.image.index.v1+json",
    platforms={"linux/amd64": HERE},
)


def verdict(remote, disk=None, platform="linux/amd64", manifest=HERE):
    proven = Digest.parse(manifest) if manifest else None
    return compare(ENTRY, remote, disk, platform=Platform.parse(platform), manifest=proven)


def decided(remote, disk=None):
    return decide(verdict(remote, disk), Options())


def moved(**platforms):
    named = {name.replace("_", "/"): digest for name, digest in platforms.items()}
    return remote_fact(RemoteState.MOVED, OTHER, named)


def test_a_current_tag_and_a_proven_image_are_as_agreed():
    current = RemoteFact(state=RemoteState.CURRENT, digest=Digest.parse(INDEX))

    assert decided(current).as_agreed
    assert decided(current, DiskFact(state=DiskState.VERIFIED)).as_agreed


@pytest.mark.parametrize("state", list(RemoteState))
def test_a_registry_that_contradicts_or_does_not_answer_is_not_as_agreed(state):
    contradicts = state in (RemoteState.MOVED, RemoteState.UNTAGGED, RemoteState.LOST)
    said = decided(RemoteFact(state=state))

    assert said.is_finding is contradicts
    assert said.is_unasked is (state is RemoteState.UNREACHABLE)
    assert said.as_agreed is (state in (RemoteState.CURRENT, RemoteState.UNCHECKED))


@pytest.mark.parametrize("state", [state for state in DiskState if state is not DiskState.VERIFIED])
def test_no_other_image_may_run_and_only_one_that_is_not_there_yet_is_as_agreed(state):
    agreed = decided(RemoteFact(state=RemoteState.CURRENT), DiskFact(state=state)).as_agreed

    assert not state.is_proven
    assert agreed is (state is DiskState.ABSENT)


def test_a_tag_that_moved_around_the_same_image_is_told_apart():
    assert verdict(moved(linux_amd64=HERE)).same_platform
    assert not verdict(moved(linux_amd64=THERE)).same_platform
    assert not verdict(moved()).same_platform


def test_a_manifest_that_only_the_lock_names_is_never_the_same():
    assert not verdict(moved(linux_amd64=HERE), manifest=None).same_platform


def test_a_platform_that_neither_has_is_not_the_same():
    assert not verdict(moved(linux_amd64=HERE), platform="linux/s390x").same_platform


def test_a_tag_that_did_not_move_is_not_the_same_platform_but_the_same_image():
    assert not verdict(UNCHECKED).same_platform
