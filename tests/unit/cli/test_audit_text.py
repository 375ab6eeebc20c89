"""What an audit prints: the same facts for a pipe, whole, and for a person, the worst first."""

from dataclasses import replace

import click
import pytest

from snakemake_apptainer_freshness.audit.results import (
    SENTENCES,
    Acknowledgement,
    ChangeKind,
    OutputVerdict,
    RunChange,
    RunDifference,
)
from snakemake_apptainer_freshness.audit.seals import SealAudit
from snakemake_apptainer_freshness.cli.audit_text import print_audit
from tests.support import audits


@pytest.fixture
def rows(capsys):
    def printed(audit):
        print_audit(audit)
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    return printed


@pytest.fixture
def text(capsys, terminal):
    def printed(audit):
        terminal()
        print_audit(audit)
        return click.unstyle(capsys.readouterr().out)

    return printed


def of_kind(rows, kind):
    return [row[1:] for row in rows if row[0] == kind]


def difference(*changes):
    return RunDifference(
        first="1", second="2", first_workdir="/w", second_workdir="/w", changes=changes, same_images=1, same_outputs=2
    )


def test_a_pipe_gets_every_fact_as_a_row_of_its_kind_the_answer_first(rows):
    audit = audits.sample()
    found = rows(audit)
    assert found[0] == ["answer", audit.answer]
    assert {word: int(count) for word, count in of_kind(found, "count")} == {
        verdict.value: audit.count(verdict) for verdict in OutputVerdict if audit.count(verdict)
    }
    assert len(of_kind(found, "finding")) == len(audit.findings)
    assert len(of_kind(found, "output")) == len(audit.outputs)
    assert [row[:2] for row in of_kind(found, "image")] == [[one.reference, one.now] for one in audit.images]


def test_hostile_names_make_neither_a_row_nor_a_column_and_move_no_cursor(rows):
    """Each row has the columns of its kind, though a path has a line break and a tab in it."""
    found = rows(audits.sample())
    assert {len(row) for row in of_kind(found, "output")} == {5}
    assert not any("\x1b" in cell or "\u202e" in cell for row in found for cell in row)


def test_of_several_folders_each_row_says_whose_it_is(rows):
    audit = replace(audits.sample(), workdirs=(audits.WORKDIR, "/data/other"))
    seal = SealAudit(workdir="/data/other")
    audit = replace(audit, seals=(seal,))
    found = rows(audit)
    assert {row[-1] for row in of_kind(found, "output")} == {one.workdir for one in audit.outputs}
    assert of_kind(found, "seal") == [[seal.text, "/data/other"]]
    assert of_kind(rows(replace(audit, workdirs=("/data/other",))), "seal") == [[seal.text]]


def test_a_finding_that_is_answered_for_says_by_whom(rows, text):
    audit = audits.sample()
    known = Acknowledgement(reason="agreed", who="ada", until="2026-12-31")
    audit = replace(audit, findings=(replace(audit.findings[0], acknowledged=known),))
    [finding] = of_kind(rows(audit), "finding")
    assert finding[-1] == "acknowledged by ada until 2026-12-31: agreed"
    assert "acknowledged by ada until 2026-12-31: agreed" in " ".join(text(audit).split())


def test_a_person_reads_sentences_and_no_output_that_is_good(text):
    audit = audits.sample()
    shown = text(audit)
    assert shown.index(audit.answer[:30]) < shown.index("verdict") < shown.index("finding")
    assert f"proven: {SENTENCES[OutputVerdict.PROVEN]}" in shown
    _, _, listed = shown.partition("\nverdict")
    proven = [one for one in audit.outputs if one.verdict is OutputVerdict.PROVEN]
    affected = [one for one in proven if one.affected_by]
    assert len(proven) > len(affected)
    assert sum(line.startswith("proven ") for line in listed.splitlines()) == len(affected)


def test_a_person_is_shown_thirty_outputs_and_told_of_the_others(text):
    run = audits.run(1, *(audits.job(number, "count", f"out/{number:03}") for number in range(42)))
    bad = tuple(
        audits.audited(job.outputs[0].path, OutputVerdict.UNPROVEN, "nobody proved it", run, job) for job in run.jobs
    )
    shown = text(replace(audits.sample(), outputs=bad, findings=(), images=()))
    assert "out/029" in shown
    assert "out/030" not in shown
    assert "… and 12 more: a pipe, --json and --html have them all" in shown


def test_of_what_a_finding_is_about_a_person_is_shown_thirty(text):
    audit = audits.sample()
    paths = tuple(f"out/{number:03}" for number in range(42))
    audit = replace(audit, outputs=(), images=(), findings=(replace(audit.findings[0], text="many", subjects=paths),))
    shown = text(audit)
    assert "out/029" in shown
    assert "out/030" not in shown
    assert "… and 12 more" in shown


def test_a_difference_takes_the_place_of_files(rows, text):
    changed = RunChange(kind=ChangeKind.SETTING, subject="mode", word="changed", before="lock", after="")
    alone = RunChange(kind=ChangeKind.OUTPUT, subject="b.txt", word="made by the first alone", before="", after="x",
                      alone=True)  # fmt: skip
    audit = replace(audits.sample(), difference=difference(changed, alone))
    found = rows(audit)
    assert of_kind(found, "change") == [
        ["setting", "changed", "mode", "lock", ""],
        ["output", "made by the first alone", "b.txt", "", "x"],
    ]
    assert (of_kind(found, "output"), of_kind(found, "image")) == ([], [])
    shown = text(audit)
    assert "mode: changed\n" in shown
    assert "lock → -" in shown
    assert "b.txt" not in shown


def test_an_audit_of_nothing_is_its_answer(text, rows):
    nothing = replace(audits.sample(), answer="No output was found.", outputs=(), images=(), findings=(), seals=())
    assert rows(nothing) == [["answer", "No output was found."]]
    assert text(nothing).startswith("No output was found.\n")
