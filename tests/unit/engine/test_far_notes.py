"""The word of a job that shares no folder with its main process travels through the storage of both."""

import logging
from types import SimpleNamespace

import pytest
from snakemake_storage_plugin_fs import StorageProvider

from snakemake_apptainer_freshness.engine.far_notes import FarNotes, far_notes
from snakemake_apptainer_freshness.settings import RECORDS
from tests.support import programs

RUN = "20260101T000000.000000Z"


@pytest.fixture
def provider(tmp_path, monkeypatch):
    """Snakemake's own storage plugin for folders, which runs rsync."""
    monkeypatch.setenv("PATH", programs.environment()["PATH"])
    return StorageProvider(
        local_prefix=tmp_path / "local", logger=logging.getLogger(), wait_for_free_local_storage=None
    )


@pytest.fixture
def storage(tmp_path):
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


def test_a_note_is_left_read_once_and_gone(provider, storage):
    FarNotes(provider, str(storage), RUN).leave("job-1.json", b"word")
    [note] = storage.iterdir()
    assert note.name == f"snakemake-apptainer-freshness.{RUN}.job-1.json"
    main = FarNotes(provider, f"{storage}/", RUN)
    assert main.take("job-1.json") == b"word"
    assert main.take("job-1.json") is None
    assert list(storage.iterdir()) == []


def test_what_is_larger_than_a_note_is_not_fetched(provider, storage):
    far = FarNotes(provider, str(storage), RUN)
    far.leave("job-1.json", b"x" * (RECORDS.note + 1))
    assert far.take("job-1.json") is None
    assert list(storage.iterdir()) == []


def test_a_storage_that_fails_is_no_reason_for_a_job_to_fail(provider, storage):
    far = FarNotes(provider, str(storage / "file"), RUN)
    (storage / "file").write_text("where a folder should be")
    far.leave("job-1.json", b"word")
    assert far.take("job-1.json") is None


@pytest.mark.parametrize(
    ("shared", "has_storage", "is_there"),
    [(["persistence", "sources"], True, False), (["sources"], True, True), ([], True, True), ([], False, False)],
)
def test_notes_travel_so_where_the_folder_is_not_shared_and_there_is_a_storage(provider, shared, has_storage, is_there):
    registry = SimpleNamespace(default_storage_provider=provider if has_storage else None)
    settings = SimpleNamespace(shared_fs_usage=shared, default_storage_prefix=None)
    workflow = SimpleNamespace(storage_settings=settings, storage_registry=registry)
    assert (far_notes(workflow, RUN) is not None) is is_there
