"""Newer versions of what a workflow names: told in its own spelling, and what cannot be asked hides no other."""

from dataclasses import dataclass

from snakemake_apptainer_freshness.actions.outdated import outdated
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.platform import Platform
from tests.support.pins import lock_entry

DIGEST = "sha256:" + "a" * 64


@dataclass(frozen=True, kw_only=True)
class Listed:
    tags: tuple[str, ...]
    is_whole: bool = True


class World:
    """A registry with `tags` by repository; of images it says nothing."""

    def __init__(self, **tags):
        self.tag_lists = tags
        self.resolved = []

    def tags(self, references):
        for one in references:
            yield one, self.tag_lists.get(one.repository.rpartition("/")[2]) or NotFound("no such repository")

    def resolve(self, references):
        for one in references:
            self.resolved.append(one.text)
            yield one, lock_entry(one.text, DIGEST)

    def manifest(self, reference, digest):
        raise NotFound("nothing here")

    def blob(self, reference, digest, start=0):
        raise NotFound("nothing here")


def ask(world, *references):
    return {one.reference: one for one in outdated(references, world, platform=Platform.here())}


def test_newer_versions_are_told_in_the_spelling_of_the_workflow_and_only_the_newest_is_looked_at():
    world = World(tool=Listed(tags=("1.0", "1.1", "2.0")), ubuntu=Listed(tags=("24.04", "24.10")))
    found = ask(world, "docker://quay.io/team/tool:1.0", "docker://ubuntu:24.04")

    assert found["docker://quay.io/team/tool:1.0"].references == (
        "docker://quay.io/team/tool:2.0",
        "docker://quay.io/team/tool:1.1",
    )
    assert found["docker://ubuntu:24.04"].references == ("docker://ubuntu:24.10",)
    assert sorted(world.resolved) == ["docker://quay.io/team/tool:2.0", "docker://ubuntu:24.10"]
    assert found["docker://ubuntu:24.04"].newest is None


def test_what_names_the_newest_has_none_and_nothing_more_is_asked():
    world = World(tool=Listed(tags=("1.0", "0.9"), is_whole=False))
    found = ask(world, "docker://q.io/tool:1.0")["docker://q.io/tool:1.0"]

    assert (found.references, found.is_whole, world.resolved) == ((), False, [])


def test_a_tag_that_is_no_version_is_named_and_its_registry_is_not_asked():
    found = ask(World(), "docker://q.io/tool:latest", "docker://q.io/other")

    assert [one.is_version for one in found.values()] == [False, False]
    assert [one.error for one in found.values()] == [None, None]


def test_one_that_cannot_be_asked_hides_no_other():
    found = ask(World(tool=Listed(tags=("2.0",))), "docker://q.io/gone:1.0", "docker://q.io/tool:1.0")

    assert isinstance(found["docker://q.io/gone:1.0"].error, NotFound)
    assert found["docker://q.io/tool:1.0"].references


def test_what_has_no_tag_in_a_registry_is_left_out():
    assert ask(World(), f"docker://q.io/x@{DIGEST}", "https://h.example/x.sif", "x.sif", "docker://Bad/Name:1") == {}
