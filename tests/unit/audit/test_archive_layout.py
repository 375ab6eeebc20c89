"""What an archive says of itself: its table comes back as it was written, and a wrong one is refused by name."""

import json

import pytest

from snakemake_apptainer_freshness.audit.archive_layout import ArchiveTable, readme
from snakemake_apptainer_freshness.errors import InvalidArchive

TABLE = ArchiveTable(
    workdir="/data/work",
    snakefile="project/workflow/Snakefile",
    lock="project/workflow/containers.lock",
    inputs={"b.txt": ["a.txt", "odd\nname"], "a.txt": []},
)


def test_a_table_comes_back_as_it_was_written_sorted_by_output():
    written = TABLE.dumps()
    assert ArchiveTable.loads(written) == TABLE
    assert [row["path"] for row in json.loads(written)["output"]] == ["a.txt", "b.txt"]
    assert written.endswith(b"}\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": "all"}, "output"),
        ({"output": [{"path": "a", "inputs": [1]}]}, "inputs"),
        ({"lock": 7}, "lock"),
        ({"more": 1}, "more"),
    ],
)
def test_a_damaged_table_is_refused_with_what_is_wrong_in_it(changes, said):
    table = json.loads(TABLE.dumps()) | changes
    with pytest.raises(InvalidArchive, match=f"archive.json is damaged: .*{said}") as raised:
        ArchiveTable.loads(json.dumps(table).encode())
    assert raised.value.hint == "copy it again from where it came"


def test_what_is_no_json_is_damaged_and_a_newer_table_wants_a_newer_program():
    with pytest.raises(InvalidArchive, match="is damaged"):
        ArchiveTable.loads(b"\xff{")
    newer = json.loads(TABLE.dumps()) | {"version": 2}
    with pytest.raises(InvalidArchive) as raised:
        ArchiveTable.loads(json.dumps(newer).encode())
    assert raised.value.hint.startswith("upgrade ")


@pytest.mark.parametrize(
    ("snakefile", "command"),
    [
        ("project/Snakefile", "snakemake --sdm apptainer"),
        ("project/workflow/Snakefile", "snakemake -s workflow/Snakefile --sdm apptainer"),
        ("workflow/Snakefile", "snakemake -s ../workflow/Snakefile --sdm apptainer"),
    ],
)
def test_the_readme_says_how_the_workflow_is_run_from_its_folder(snakefile, command):
    table = ArchiveTable(workdir="/w", snakefile=snakefile, lock="project/containers.lock", inputs={})
    text = readme(table, "2 of 2 outputs were made by a proven image.").decode()
    assert f"    {command} " in text
    assert "--lockfile ../project/containers.lock" in text
    assert "2 of 2 outputs were made by a proven image." in text


def test_a_name_that_is_not_utf8_does_not_stop_the_readme():
    table = ArchiveTable(workdir="/w", snakefile="project/caf\udce9", lock="project/l", inputs={})
    assert b"-s caf?" in readme(table, "")
