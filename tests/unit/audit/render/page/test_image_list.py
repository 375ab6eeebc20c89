"""The images on the page: the worst first, and what never changed folded to a line."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render.page.view import view
from snakemake_apptainer_freshness.audit.results import ImageReplay
from tests.support.audits import BUSYBOX, FASTP, HOSTILE, SALMON, digest, large, sample


def of(audit, reference):
    return next(shown for shown in view(audit).images if shown.image.reference == reference)


def test_the_worst_image_comes_first_and_the_steady_ones_last():
    shown = view(sample()).images

    assert [one.image.reference for one in shown] == [FASTP, SALMON, BUSYBOX, HOSTILE]
    assert [one.steady for one in shown] == [False, False, False, True]


@pytest.mark.parametrize(
    ("now", "seen", "replay"),
    [
        ("altered", {}, None),
        ("absent", {}, None),
        ("verified", {"disk": "bound"}, None),
        ("verified", {"remote": "moved", "points_at": digest("newer")}, None),
        ("verified", {"remote": "lost"}, None),
        ("verified", {}, ImageReplay(digest="sha256:a", served=False, same_platform=None, on_disk=False)),
    ],
)
def test_an_image_that_changed_in_any_way_is_not_folded(now, seen, replay):
    audit = large(4)
    first, *others = audit.images
    sightings = (replace(first.sightings[0], **seen), *first.sightings[1:])
    changed = replace(first, now=now, sightings=sightings, replay=replay)

    assert not of(replace(audit, images=(changed, *others)), first.reference).steady
    assert of(audit, first.reference).steady


def test_an_image_whose_pin_moved_is_not_folded_and_says_how_often():
    moves = {shown.image.reference: shown.moves for shown in view(sample()).images}

    assert moves.pop(SALMON) == 1
    assert set(moves.values()) == {0}
    audit = large(4)
    first = audit.images[0]
    moved = replace(first, sightings=(replace(first.sightings[0], digest=digest("older")), *first.sightings[1:]))
    assert not of(replace(audit, images=(moved,)), first.reference).steady


def test_runs_that_saw_an_image_alike_share_a_row_of_its_table():
    spells = [shown.spells for shown in view(large(4)).images]

    assert [[(spell.runs, spell.jobs) for spell in each] for each in spells] == [[(50, 0)], [(50, 0)]]
    assert [spell.first for spell in of(sample(), SALMON).spells] == [
        "run 1 · 2 Mar 08:00",
        "run 2 · 3 Mar 08:00",
        "run 3 · 4 Mar 08:00",
    ]
