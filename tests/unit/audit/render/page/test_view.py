"""The order of the page: chains, anchors, work directories."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render.page.view import OPEN_ROWS, headline, view
from snakemake_apptainer_freshness.audit.results import OutputVerdict, Severity
from tests.support.audits import SALMON, WORKDIR, large, sample


def test_outputs_of_one_chain_stand_together_the_worst_first():
    shown = view(sample())
    order = list(OutputVerdict)

    assert [chain.verdict for chain in shown.chains] == sorted((c.verdict for c in shown.chains), key=order.index)
    (count,) = [chain for chain in shown.chains if chain.like.rule == "count"]
    assert len(count.rows) == 5
    assert sum(len(chain.rows) for chain in shown.chains) == len(sample().outputs)


def test_outputs_that_differ_in_one_link_alone_have_chains_of_their_own():
    (one,) = [output for output in sample().outputs if output.path == "quants/d.sf"]
    links = ("rule", "run", "reference", "pinned", "digest", "manifest", "sif_sha256", "workdir")
    others = [replace(one, path=link, **{link: "another"}) for link in links]

    assert len(view(replace(sample(), outputs=(one, one, *others))).chains) == 1 + len(links)


def test_a_reason_that_all_share_is_said_once():
    audit = sample()
    outputs = [replace(one, why=f"because of {one.path}") if one.rule == "count" else one for one in audit.outputs]
    own = next(one for one in view(replace(audit, outputs=tuple(outputs))).chains if one.like.rule == "count")
    shared = next(one for one in view(audit).chains if one.like.rule == "count")

    assert (shared.why, {row.why for row in shared.rows}) == (shared.like.why, {""})
    assert own.why == ""
    assert {row.why for row in own.rows} == {f"because of {row.output.path}" for row in own.rows}


def test_bad_verdicts_are_unfolded_and_thousands_of_good_ones_folded():
    chains = view(large()).chains
    bad = [chain for chain in chains if chain.verdict is not OutputVerdict.PROVEN and len(chain.rows) < OPEN_ROWS]

    assert not any(chain.unfolded for chain in chains if chain.verdict is OutputVerdict.PROVEN)
    assert any(chain.verdict is OutputVerdict.BAD_IMAGE for chain in bad)
    assert all(chain.unfolded for chain in bad if chain.verdict is not OutputVerdict.NO_CONTAINER)
    assert {chain.verdict for chain in view(sample()).chains if not chain.unfolded} == {
        OutputVerdict.NO_CONTAINER,
        OutputVerdict.PROVEN,
    }


def test_a_finding_links_to_what_it_is_about_where_that_is_on_the_page():
    links = {
        subject.text: subject.anchor
        for found in view(sample()).findings.values()
        for shown in found
        for subject in shown.subjects
    }

    assert links[SALMON] == "image-1"
    assert links["quants/a.sf"].startswith("output-")
    assert links["run 2 · 3 Mar 08:00"] == "run-1"
    assert "" in links.values()


def test_each_work_directory_has_its_own_counts_and_graph():
    audit = sample()
    other = "/data/projects/other"
    outputs = [replace(one, workdir=other) for one in audit.outputs if one.rule == "quantify"]
    both = replace(audit, workdirs=(WORKDIR, other), outputs=(*audit.outputs, *outputs))
    first, second = view(both).places

    assert (first.outputs, second.outputs) == (14, 4)
    assert [box.node.name for box in second.graph.boxes] == ["quantify"]
    assert [box.node.name for box in first.graph.boxes] == ["count", "legacy", "plot", "quantify", "report", "trim"]
    assert second.graph.boxes[0].node.verdict is OutputVerdict.CHANGED


def test_the_first_line_is_the_worst_severity_and_one_short_sentence():
    first = headline(sample())

    assert (first.severity, first.findings) == (Severity.ERROR, 6)
    assert first.sentence == "7 of 14 outputs proven, 1 without a container"


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ("", "No output is known"),
        ("p", "The only output is proven"),
        ("pp", "All 2 outputs proven"),
        ("b", "0 of 1 output proven"),
        ("pb", "1 of 2 outputs proven"),
        ("pn", "1 of 2 outputs proven, 1 without a container"),
    ],
)
def test_the_sentence_counts_what_is_proven(verdicts, sentence):
    words = {"p": OutputVerdict.PROVEN, "b": OutputVerdict.BAD_IMAGE, "n": OutputVerdict.NO_CONTAINER}
    outputs = tuple(replace(sample().outputs[0], verdict=words[one]) for one in verdicts)
    notes = tuple(one for one in sample().findings if one.severity is Severity.NOTE)

    first = headline(replace(sample(), outputs=outputs, findings=notes))

    assert (first.severity, first.findings, first.sentence) == (None, 0, sentence)


def test_sentences_have_the_names_of_runs_and_no_identifiers():
    texts = [shown.text for found in view(sample()).findings.values() for shown in found]

    assert f"the pin of {SALMON} moved between run 2 · 3 Mar 08:00 and run 3 · 4 Mar 08:00" in texts
    assert not any(run.id in text for run in sample().runs for text in texts)


def test_an_affected_output_links_to_the_files_through_which_it_is():
    rows = [row for chain in view(sample()).chains for row in chain.rows if row.through]

    assert [row.output.path for row in rows] == ["quants/c.sf"]
    assert [(file.text, file.anchor.partition("-")[0]) for file in rows[0].through] == [("trimmed/a.fq", "output")]
    assert view(sample()).affected == sum(chain.affected for chain in view(sample()).chains) == 1
