"""What a change of the lock means for platforms and for outputs that are there."""

from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.lock import EntryChange, PlatformChange, difference, fates
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Workflow
from snakemake_apptainer_freshness.lockfile import Change
from snakemake_apptainer_freshness.settings import Options
from tests.support.lock_plans import NEW, OLD, TOOL, entry

ONE, TWO, THREE = ("sha256:" + letter * 64 for letter in "cde")
USES = (RuleUse(rule="align", snakefile="/w/Snakefile", line=3),)


def workflow(*urls):
    outputs = [
        ExistingOutput(path=f"{n}.txt", rule="align", reference=TOOL, recorded_url=url) for n, url in enumerate(urls)
    ]
    return Workflow(
        snakefile=Path("/w/Snakefile"),
        workdir=Path("/w"),
        lockfile=Path("/w/containers.lock"),
        options=Options(),
        prefix=Path("/w/images"),
        uses={TOOL: USES},
        unseen=(),
        outputs=tuple(outputs),
    )


def test_each_platform_has_its_fate():
    old, new = entry(OLD, amd64=ONE, arm64=TWO, ppc64le=THREE), entry(NEW, amd64=ONE, arm64=THREE, s390x=ONE)

    assert {str(platform): fate for platform, fate in fates(old, new).items()} == {
        "linux/amd64": PlatformChange.SAME,
        "linux/arm64": PlatformChange.CHANGED,
        "linux/ppc64le": PlatformChange.REMOVED,
        "linux/s390x": PlatformChange.ADDED,
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            entry(ONE),
            entry(NEW, amd64=ONE, arm64=TWO),
            {"linux/amd64": PlatformChange.SAME, "linux/arm64": PlatformChange.ADDED},
        ),
        (
            entry(OLD, amd64=ONE, arm64=TWO),
            entry(ONE),
            {"linux/amd64": PlatformChange.SAME, "linux/arm64": PlatformChange.REMOVED},
        ),
        (entry(OLD), entry(NEW), {}),
    ],
    ids=["index around it", "out of the index", "lone"],
)
def test_a_lone_manifest_is_recognised_in_an_index(old, new, expected):
    assert {str(platform): fate for platform, fate in fates(old, new).items()} == expected


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (None, entry(NEW), EntryChange.ADDED),
        (entry(OLD), entry(NEW), EntryChange.UPDATED),
        (entry(OLD), None, EntryChange.REMOVED),
    ],
)
def test_a_change_adds_updates_or_removes(old, new, what):
    found = difference(Change(reference=TOOL, old=old, new=new), workflow())

    assert (found.what, found.uses, found.outputs) == (what, USES, ())


def test_outputs_of_the_old_image_are_those_that_say_so_by_index_or_platform():
    urls = [f"docker://quay.io/team/tool@{digest}" for digest in (OLD, ONE, NEW)]
    flow = workflow(*urls, TOOL, "", f"docker://quay.io/other/tool@{OLD}")
    found = difference(Change(reference=TOOL, old=entry(OLD, amd64=ONE), new=entry(NEW, amd64=TWO)), flow)

    assert [one.path for one in found.outputs] == ["0.txt", "1.txt"]
