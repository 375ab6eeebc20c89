"""What was made of what a bad image made is marked, and says through what."""

import pytest

from snakemake_apptainer_freshness.audit.affected import affected, owner, upstream
from snakemake_apptainer_freshness.audit.results import OutputAudit, OutputVerdict
from snakemake_apptainer_freshness.audit.selection import Selection
from tests.support import records


def output(path, *inputs, verdict=OutputVerdict.PROVEN):
    return OutputAudit(workdir="/w", path=path, verdict=verdict, why="", inputs=inputs)


BAD = OutputVerdict.BAD_IMAGE


def test_outputs_downstream_of_a_bad_image_say_through_what():
    found = affected([output("a", verdict=BAD), output("b", "a"), output("c", "b"), output("d", "reads.fq")])

    assert found == {"b": ("a",), "c": ("b", "a")}


def test_the_shortest_way_is_told():
    assert affected([output("a", verdict=BAD), output("b", "a"), output("c", "b", "a")])["c"] == ("a",)


def test_what_a_bad_image_made_itself_is_not_marked_besides():
    assert affected([output("a", verdict=BAD), output("b", "a", verdict=BAD)]) == {}


def test_a_file_in_a_folder_that_a_bad_image_made_is_its():
    assert affected([output("index", verdict=BAD), output("b", "index/part1")]) == {"b": ("index",)}


def test_outputs_that_take_from_each_other_in_a_circle_end():
    assert affected([output("a", "c", verdict=BAD), output("b", "a", "c"), output("c", "b")])["c"] == ("b", "a")


@pytest.mark.parametrize(
    ("name", "found"), [("a", "a"), ("a/b/c", "a"), ("ab", ""), ("", ""), ("/a", ""), ("/".join("xx" * 99), "")]
)
def test_a_file_is_of_the_output_that_it_lies_in(name, found):
    assert owner(name, {"a"}) == found


def test_upstream_is_all_that_an_output_was_made_of():
    assert upstream(["d"], {"a": ["reads"], "b": ["a"], "c": [], "d": ["b", "d"]}) == {"a", "b", "d"}


def test_one_chosen_output_is_marked_though_the_bad_one_was_not_chosen(work):
    bad, good = work.image(disk="altered"), work.image()
    first, second = work.output("a"), work.output("b")
    for one, inputs in ((first, []), (second, ["a"])):
        work.metadata(one.path, input=inputs, endtime=one.mtime_ns / 1e9)
    work.write(
        work.run(1, records.job(1, "count", first, ran=bad), images=(bad,)),
        work.run(2, records.job(1, "plot", second, ran=good), images=(good,)),
    )

    [found] = work.audit(selection=Selection(files=(str(work.folder / "b"),))).outputs

    assert (found.path, found.verdict, found.affected_by) == ("b", OutputVerdict.PROVEN, ("a",))
    assert found.explanation.endswith("; affected by a bad image through a")
