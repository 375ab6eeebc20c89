"""What the pictures of an audit say: shares, moves, gaps."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render.page.timeline import MOST_COLUMNS, RunMark, bar, timeline
from snakemake_apptainer_freshness.audit.results import ImageSighting, OutputVerdict


def seen(number, digest="sha256:a", **changes):
    made = ImageSighting(
        run=f"r{number:04}",
        at=f"2026-03-{number % 28 + 1:02}T08:00:00Z",
        digest=digest,
        remote="current",
        points_at=digest,
        disk="verified",
        proof="",
        sha256="",
        jobs=1,
    )
    return replace(made, **changes)


def mark(number, started, name=""):
    return RunMark(
        id=f"r{number:04}", started=started, name=name or f"run {number} · {started}", anchor=f"run-{number}"
    )


def of(sightings, runs=None):
    return timeline(sightings, runs or [RunMark(id=one.run, started=one.at, name=one.run) for one in sightings])


def words(bands):
    return [(band.key.letter if band.key else band.word, band.moved) for band in bands]


def test_equal_neighbours_are_one_band_and_a_move_is_marked():
    picture = of([seen(1), seen(2), seen(3, points_at="sha256:b", remote="moved"), seen(4, "sha256:b")])

    assert words(picture.tag) == [("A", False), ("B", True)]
    assert words(picture.lock) == [("A", False), ("B", True)]
    assert [band.span for band in picture.tag] == [2, 2]
    assert [band.span for band in picture.lock] == [3, 1]
    assert [key.digest for key in picture.keys] == ["sha256:a", "sha256:b"]


def test_what_ran_has_the_letter_of_its_digest_only_where_that_is_proven():
    states = ("verified", "bound", "altered", "absent")
    picture = of([seen(number, disk=state) for number, state in enumerate(states)])

    assert [column.key.letter if column.key else "" for column in picture.columns] == ["A", "", "", ""]


@pytest.mark.parametrize(
    ("remote", "word"),
    [
        ("unchecked", "not asked"),
        ("unreachable", "no answer"),
        ("lost", "lost"),
        ("untagged", "tag gone"),
        ("<other>", "<other>"),
    ],
)
def test_a_tag_without_a_digest_says_why(remote, word):
    assert words(of([seen(1, remote=remote, points_at="")]).tag) == [(word, False)]


def test_a_move_across_a_gap_is_still_a_move():
    picture = of([seen(1), seen(2, points_at="", remote="unreachable"), seen(3, "sha256:b")])

    assert words(picture.tag) == [("A", False), ("no answer", False), ("B", True)]


def test_an_image_without_a_pin_says_so():
    assert words(of([seen(1, "")]).lock) == [("no pin", False)]


def test_a_run_that_did_not_use_the_image_leaves_a_gap():
    picture = of([seen(1), seen(3)], [mark(1, "2026-03-01"), mark(2, "2026-03-02"), mark(3, "2026-03-03")])

    assert [column.sighting is None for column in picture.columns] == [False, True, False]
    assert words(picture.tag) == [("A", False), ("", False), ("A", False)]


def test_a_sighting_of_a_run_whose_record_is_gone_has_a_column_without_a_link():
    picture = of([seen(1)], [mark(2, "2026-03-09")])

    assert [column.first.anchor for column in picture.columns] == ["", "run-2"]


def test_a_thousand_runs_share_columns_where_nothing_changed():
    sightings = [seen(number, "sha256:a" if number < 700 else "sha256:b") for number in range(1000)]
    picture = of(sightings, [mark(number, f"2026-{number:04}") for number in range(1000)])

    assert [(column.runs, column.jobs) for column in picture.columns] == [(700, 700), (300, 300)]
    assert [column.last.id for column in picture.columns] == ["r0699", "r0999"]
    assert words(picture.lock) == [("A", False), ("B", True)]
    assert len(of(sightings[:MOST_COLUMNS]).columns) == MOST_COLUMNS


def test_letters_go_on_after_z():
    picture = of([seen(number, f"sha256:{number}") for number in range(28)])

    assert [key.letter for key in picture.keys][24:] == ["Y", "Z", "AA", "AB"]


def test_a_bar_shows_the_rarest_verdict_and_is_whole():
    segments = bar({OutputVerdict.BAD_IMAGE: 1, OutputVerdict.UNPROVEN: 0, OutputVerdict.PROVEN: 99_999}).segments

    assert [segment.verdict for segment in segments] == [OutputVerdict.PROVEN, OutputVerdict.BAD_IMAGE]
    assert segments[-1].width > 5
    assert abs(sum(segment.width for segment in segments) - 1000) < 0.1
    assert bar({}).segments == ()
