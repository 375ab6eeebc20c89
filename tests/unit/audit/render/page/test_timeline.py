"""What the pictures of an audit say: shares, moves, gaps."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render.page.graph import GraphNode, drawing, short_name
from snakemake_apptainer_freshness.audit.render.page.timeline import MOST_COLUMNS, bar, timeline
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


def of(sightings, runs=None):
    return timeline(sightings, runs or [(one.run, one.at, f"run-{one.run}") for one in sightings])


def words(bands):
    return [(band.key.letter if band.key else band.word, band.moved) for band in bands]


def test_equal_neighbours_are_one_band_and_a_move_is_marked():
    picture = of([seen(1), seen(2), seen(3, points_at="sha256:b", remote="moved"), seen(4, "sha256:b")])

    assert words(picture.tag) == [("A", False), ("B", True)]
    assert words(picture.lock) == [("A", False), ("B", True)]
    assert picture.tag[0].width == 2 * picture.column
    assert picture.lock[0].width == 3 * picture.column
    assert [key.digest for key in picture.keys] == ["sha256:a", "sha256:b"]


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
    runs = [("r0001", "2026-03-01", "run-0"), ("r0002", "2026-03-02", "run-1"), ("r0003", "2026-03-03", "run-2")]
    picture = of([seen(1), seen(3)], runs)

    assert [column.sighting is None for column in picture.columns] == [False, True, False]
    assert len(picture.tag) == 2


def test_a_sighting_of_a_run_whose_record_is_gone_has_a_column_without_a_link():
    picture = of([seen(1)], [("r0002", "2026-03-09", "run-0")])

    assert [column.anchor for column in picture.columns] == ["", "run-0"]


def test_a_thousand_runs_share_columns_where_nothing_changed():
    sightings = [seen(number, "sha256:a" if number < 700 else "sha256:b") for number in range(1000)]
    runs = [(one.run, f"2026-{number:04}", "") for number, one in enumerate(sightings)]
    picture = of(sightings, runs)

    assert [column.runs for column in picture.columns] == [700, 300]
    assert words(picture.lock) == [("A", False), ("B", True)]
    assert len(of(sightings[:MOST_COLUMNS]).columns) == MOST_COLUMNS


def test_runs_of_one_day_are_told_apart_by_their_times():
    morning, noon = seen(1, at="2026-03-02T08:00:00Z"), seen(2, at="2026-03-02T12:30:00Z")

    assert [column.label for column in of([morning, noon]).columns] == ["08:00", "12:30"]
    assert [column.label for column in of([morning, seen(2)]).columns] == ["2026-03-02", "2026-03-03"]
    assert [column.label for column in of([morning]).columns] == ["2026-03-02"]


def test_letters_go_on_after_z():
    picture = of([seen(number, f"sha256:{number}") for number in range(28)])

    assert [key.letter for key in picture.keys][24:] == ["Y", "Z", "AA", "AB"]


def test_a_bar_shows_the_rarest_verdict_and_is_whole():
    segments = bar({OutputVerdict.BAD_IMAGE: 1, OutputVerdict.UNPROVEN: 0, OutputVerdict.PROVEN: 99_999}).segments

    assert [segment.verdict for segment in segments] == [OutputVerdict.PROVEN, OutputVerdict.BAD_IMAGE]
    assert segments[-1].width > 5
    assert abs(sum(segment.width for segment in segments) - 1000) < 0.1
    assert bar({}).segments == ()


def test_a_box_names_its_rule_its_image_and_what_it_takes_from():
    nodes = [
        GraphNode(name="a", images=("docker://q.io/x/salmon:1",), outputs=1, verdict=OutputVerdict.PROVEN),
        GraphNode(name="b" * 40, images=("docker://x", "docker://y"), outputs=2, verdict=None),
        GraphNode(name="c", images=(), outputs=0, verdict=None),
    ]
    picture = drawing(nodes, [("a", "b" * 40), ("b" * 40, "c"), ("c", "a")])

    assert [box.image for box in picture.boxes] == ["salmon:1", "2 images", "no container"]
    assert picture.boxes[1].title.endswith("…")
    assert [box.hue for box in picture.boxes] == [0, 1, None]
    assert picture.boxes[2].takes_from == ("b" * 40,)
    assert len(picture.lines) == 3
    assert all(line.startswith("M") for line in picture.lines)


def test_a_name_is_short_without_registry_and_path():
    assert short_name("docker://quay.io/biocontainers/salmon:1.10") == "salmon:1.10"
    assert short_name("/") == "/"
