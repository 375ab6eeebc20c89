"""What differs between two runs, and what is the same."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.difference import chosen, difference, sentence
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import JobResult, Machine
from tests.support.audits import FASTP, SALMON, digest, image, job, output, run, sample, sha256


def pair(before, after):
    """Two runs that differ in nothing but their images, by `before` and `after`."""
    return run(1, images=before), replace(run(2, images=after), lock=run(1).lock)


def words(found):
    return [(one.kind.value, one.subject, one.word) for one in found.changes]


def test_runs_that_agree_differ_in_nothing():
    first, second = pair((image(),), (image(),))

    found = difference(first, second)

    assert found.changes == ()
    assert sentence(found) == "nothing differs; 1 image and 0 outputs are the same"


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (image(), image(SALMON, "newer"), "pin moved"),
        (image(), image(SALMON, "newer", manifest=digest("salmon amd64")),
         "pin moved; the image for this platform is the same"),
        (image(), image(sha256=sha256("rebuilt")), "same digest, another file"),
        (image(), image(manifest=digest("arm64")), "another platform of the same digest"),
        (image(), image(disk="bound"), "same digest, another state of its file"),
    ],
)  # fmt: skip
def test_an_image_says_how_it_differs(before, after, word):
    assert words(difference(*pair((before,), (after,)))) == [("image", SALMON, word)]


def test_images_of_one_run_alone_are_told():
    found = difference(*pair((image(),), (image(FASTP, "fastp"),)))

    assert words(found) == [("image", FASTP, "only in the second"), ("image", SALMON, "only in the first")]


def test_outputs_of_both_runs_are_compared_as_their_jobs_left_them():
    first = run(1, job(1, "r", "same", "other", "large", "unknown", "mine"))
    left = {one.path: one for one in first.jobs[0].outputs}
    left["other"] = output("other", sha256=sha256("something else"))
    left["large"] = output("large", sha256="", size=7)
    left["unknown"] = output("unknown", sha256="")
    del left["mine"]
    again = replace(job(1, "r"), outputs=(*left.values(), output("theirs")))
    failed = replace(job(2, "r", "same", "never"), result=JobResult.FAILED)

    found = difference(first, replace(run(2, again, failed), lock=first.lock))

    assert {(one.subject, one.word, one.alone) for one in found.changes} == {
        ("large", "another size", False),
        ("mine", "made by the first alone", True),
        ("other", "another content", False),
        ("theirs", "made by the second alone", True),
        ("unknown", "not known whether the same: its record has no SHA-256", False),
    }
    assert sentence(found) == "3 outputs differ; 0 images and 1 output are the same; 2 outputs are of one run alone"


def test_what_runs_were_held_to_and_ran_on_is_compared():
    first = run(1)
    second = replace(
        run(2), mode="update", lock=None, machine=Machine(cpu="another"), source=replace(first.source, dirty=True)
    )

    changes = {one.subject: (one.before, one.after) for one in difference(first, second).changes}

    assert set(changes) == {"mode", "lock", "uncommitted changes", "processor"}
    assert changes["mode"] == ("lock", "update")
    assert changes["uncommitted changes"] == ("no", "yes")


def run_two():
    return sample().runs[1]


@pytest.mark.parametrize("text", ["2", "run 2", run(2).id, "20260303", "20260303t08"])
def test_a_run_is_named_by_its_number_or_its_identifier(text):
    assert chosen(text, sample().runs) == run_two()


@pytest.mark.parametrize("text", ["", "0", "4", "2026", "run", "last", "²"])
def test_a_run_that_is_none_or_several_is_an_error_that_names_them(text):
    with pytest.raises(UsageError) as raised:
        chosen(text, sample().runs)

    assert "a number from 1 to 3" in raised.value.hint
    assert run(2).id in raised.value.hint
