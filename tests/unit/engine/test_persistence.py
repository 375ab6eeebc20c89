"""Snakemake's metadata, written by Snakemake's own two backends and read by ours."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.persistence import MetadataRecord
from snakemake.persistence.db import DbPersistence
from snakemake.persistence.file import FilePersistence

from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.record.metadata import NOTHING, MadeBy
from tests.support import records

BACKENDS = {"files": FilePersistence, "database": DbPersistence}
HOSTILE = [
    'it\'s "quoted" & <script>alert(1)</script>.tsv',
    "invoice\u202egpj.tsv",
    "two\nlines\ttab.tsv",
    "🧬/ä.txt",
    "long/" + "x" * 700,
    "s3://bucket/key",
    "/absolute/path",
]
URL = "docker://quay.io/team/tool@sha256:" + "ab" * 32


def made(**changes):
    fields = {
        "rule": "count",
        "input": ["reads/a.fq"],
        "container_img_url": URL,
        "software_stack_hash": "d41d8",
        "starttime": 100.5,
        "endtime": 200.25,
        "incomplete": False,
        "record_format_version": 6,
    }
    return MetadataRecord(**fields | changes)


def snapshot(folder):
    """Every file below, with its bytes and its time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=BACKENDS)
def backend(request, tmp_path):
    return BACKENDS[request.param](path=tmp_path / ".snakemake")


def test_what_snakemake_wrote_is_read(backend, tmp_path):
    backend._write_record("results/a.tsv", made())

    assert read(tmp_path).outputs == {
        "results/a.tsv": MadeBy(
            rule="count", container=URL, software="d41d8", started=100.5, ended=200.25, inputs=("reads/a.fq",)
        )
    }


def test_every_name_is_read_as_snakemake_wrote_it(backend, tmp_path):
    for name in HOSTILE:
        backend._write_record(name, made())

    found = read(tmp_path)

    assert set(found.outputs) == set(HOSTILE)
    assert found.unreadable == ()


def test_a_job_that_goes_on_is_incomplete(backend, tmp_path):
    backend._write_record("done", made())
    backend._mark_incomplete("open", None)

    found = read(tmp_path)

    assert found.incomplete == {"open"}
    assert set(found.outputs) == {"done"}


def test_reading_changes_nothing(backend, tmp_path):
    for name in HOSTILE:
        backend._write_record(name, made())
    before = snapshot(tmp_path)

    read(tmp_path)

    assert snapshot(tmp_path) == before


def test_a_folder_that_nobody_may_write_to_is_read(backend, tmp_path):
    backend._write_record("a", made())
    if isinstance(backend, DbPersistence):
        backend.engine.dispose()
    for path in [tmp_path / ".snakemake", *(tmp_path / ".snakemake").rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)

    assert set(read(tmp_path).outputs) == {"a"}


def test_more_rows_than_one_transaction_reads_are_all_read(tmp_path):
    backend = DbPersistence(path=tmp_path / ".snakemake")
    with backend.engine.connect() as connection:
        rows = [(str(tmp_path / ".snakemake"), f"out/{number:05d}", 6, "{}") for number in range(9000)]
        connection.exec_driver_sql(
            "INSERT INTO snakemake_metadata (namespace, target, record_format_version, input_checksums) "
            "VALUES (?, ?, ?, ?)",
            rows,
        )
        connection.commit()

    assert len(read(tmp_path).outputs) == 9000


def test_a_moved_folder_keeps_its_database(tmp_path):
    (tmp_path / "before").mkdir()
    backend = DbPersistence(path=tmp_path / "before" / ".snakemake")
    backend._write_record("a", made())
    backend.engine.dispose()
    (tmp_path / "before").rename(tmp_path / "after")

    assert set(read(tmp_path / "after").outputs) == {"a"}


def test_of_a_database_that_several_folders_share_only_our_own_rows_are_read(tmp_path):
    shared = f"sqlite:///{tmp_path}/.snakemake/metadata.db"
    DbPersistence(path=tmp_path / ".snakemake", db_url=shared)._write_record("ours", made())
    DbPersistence(path=tmp_path / "other" / ".snakemake", db_url=shared)._write_record("theirs", made())

    assert set(read(tmp_path).outputs) == {"ours"}


def test_a_writer_is_not_kept_waiting_and_not_in_the_way(tmp_path):
    backend = DbPersistence(path=tmp_path / ".snakemake")
    backend._write_record("a", made())
    with backend.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

        assert set(read(tmp_path).outputs) == {"a"}


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size=1")
database.execute("BEGIN IMMEDIATE")
for number in range(3000):
    database.execute("UPDATE snakemake_metadata SET rule = 'half-written' || hex(randomblob(400))")
    os.path.exists(sys.argv[1] + "-journal") and number > 20 and os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_change_that_was_cut_off_is_not_believed_and_not_undone(tmp_path):
    backend = DbPersistence(path=tmp_path / ".snakemake")
    for number in range(50):
        backend._write_record(f"out{number}", made())
    backend.engine.dispose()
    database = tmp_path / ".snakemake" / "metadata.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(database)], check=False)
    assert killed.returncode == -signal.SIGKILL
    before = snapshot(tmp_path)

    found = read(tmp_path)

    assert {one.rule for one in found.outputs.values()} == {"count"}
    assert snapshot(tmp_path) == before


def test_a_database_that_is_none_is_one_clear_error(tmp_path):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake" / "metadata.db").write_bytes(b"not a database" * 100)

    with pytest.raises(LocalIOError, match=r"cannot read Snakemake's metadata in .*metadata\.db"):
        read(tmp_path)


def test_nothing_is_found_where_snakemake_never_ran(tmp_path):
    assert read(tmp_path) == NOTHING


def test_a_record_that_is_just_being_written_is_named_and_stops_nothing(tmp_path):
    records.metadata(tmp_path, "good")
    cut = records.metadata(tmp_path, "cut")
    cut.write_text(cut.read_text()[:40])
    (tmp_path / ".snakemake" / "metadata" / "no-base64!").write_text("{}")
    records.metadata(tmp_path, "list").write_text("[]")
    os.mkfifo(tmp_path / ".snakemake" / "metadata" / "cGlwZQ==")

    found = read(tmp_path)

    assert set(found.outputs) == {"good"}
    assert len(found.unreadable) == 4
    assert f".snakemake/metadata/{cut.name}" in found.unreadable


def test_a_name_that_is_not_utf8_is_kept_byte_for_byte(tmp_path):
    records.metadata(tmp_path, b"caf\xe9\xff.tsv")

    assert set(read(tmp_path).outputs) == {os.fsdecode(b"caf\xe9\xff.tsv")}


def test_values_of_other_types_are_not_known_rather_than_believed(tmp_path):
    records.metadata(tmp_path, "a", rule=7, container_img_url=["x"], starttime="soon", input="reads.fq")

    assert read(tmp_path).outputs["a"] == MadeBy(rule="", software="d41d8cd9", ended=1_772_438_681.0)


def test_of_two_backends_the_later_record_counts(tmp_path):
    FilePersistence(path=tmp_path / ".snakemake")._write_record("a", made(rule="old", endtime=1.0))
    DbPersistence(path=tmp_path / ".snakemake")._write_record("a", made(rule="new", endtime=2.0))

    assert read(tmp_path).outputs["a"].rule == "new"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=900))
def test_any_name_comes_back(name, tmp_path):
    shutil.rmtree(tmp_path / ".snakemake", ignore_errors=True)
    Path(tmp_path, ".snakemake").mkdir()
    FilePersistence(path=tmp_path / ".snakemake")._write_record(name, made())

    assert set(read(tmp_path).outputs) == {name}
