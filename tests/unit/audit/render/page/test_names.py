"""Names of runs are for people, and stand for the identifiers that programs use."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render.page.names import day_and_time, run_names, with_names
from tests.support.audits import WORKDIR, run, sample


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2026-11-25T04:40:10Z", "25 Nov 04:40"),
        ("2025-11-05T04:40:10.123Z", "5 Nov 2025 04:40"),
        ("", ""),
        ("<soon>", "<soon>"),
    ],
)
def test_a_time_has_its_year_where_it_is_not_the_page_s_own(text, name):
    assert day_and_time(text, "2026") == name


def test_runs_are_numbered_in_their_work_directory_and_not_in_the_selection():
    audit = replace(sample(), runs=sample().runs[1:])

    assert list(run_names(audit).values()) == ["run 2 · 3 Mar 08:00", "run 3 · 4 Mar 08:00"]
    assert run_names(replace(audit, numbers={}))[WORKDIR, run(2).id] == "run · 3 Mar 08:00"


def test_names_stand_for_identifiers_in_sentences():
    names = run_names(sample())
    first, second = run(1).id, run(2).id

    assert with_names(f"the record of run {first}: bad", WORKDIR, names) == "the record of run 1 · 2 Mar 08:00: bad"
    assert with_names(f"between runs {first} and {second}", WORKDIR, names) == (
        "between run 1 · 2 Mar 08:00 and run 2 · 3 Mar 08:00"
    )
    assert with_names(f"run {first}", "/elsewhere", names) == f"run {first}"
