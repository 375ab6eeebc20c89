"""The order of the page: chains, anchors, work directories."""

from dataclasses import replace

from snakemake_apptainer_freshness.audit.render.page.view import OPEN_ROWS, view
from snakemake_apptainer_freshness.audit.results import OutputVerdict
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
    assert all(chain.unfolded for chain in view(sample()).chains)


def test_a_finding_links_to_what_it_is_about_where_that_is_on_the_page():
    links = {
        subject.text: subject.anchor
        for found in view(sample()).findings.values()
        for shown in found
        for subject in shown.subjects
    }

    assert links[SALMON] == "image-1"
    assert links["quants/a.sf"].startswith("output-")
    assert links[sample().runs[1].id] == "run-1"
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


def test_an_image_says_how_often_its_pin_moved():
    moves = {shown.image.reference: shown.moves for shown in view(sample()).images}

    assert moves.pop(SALMON) == 1
    assert set(moves.values()) == {0}


def test_runs_that_saw_an_image_alike_share_a_row_of_its_table():
    audit = large(4)
    spells = [shown.spells for shown in view(audit).images]

    assert [[(spell.runs, spell.jobs) for spell in each] for each in spells] == [[(50, 0)], [(50, 0)]]
    assert [spell.runs for spell in view(sample()).images[1].spells] == [1, 1, 1]
