"""References that were named without a workflow, as a workflow."""

from pathlib import Path

from snakemake_apptainer_freshness.actions.workflow import of_references
from snakemake_apptainer_freshness.settings import Options

TOOL, OTHER = "docker://quay.io/team/tool:1.0", "docker://alpine:3"


def made(tmp_path, monkeypatch, references=(TOOL,), locked=()):
    monkeypatch.chdir(tmp_path)
    return of_references(references, locked=locked, lockfile=Path("containers.lock"), prefix=Path("images"))


def test_it_names_what_was_asked_for_and_what_is_locked_each_once_in_order(tmp_path, monkeypatch):
    found = made(tmp_path, monkeypatch, [TOOL, TOOL], [TOOL, OTHER])
    assert list(found.uses.items()) == [(OTHER, ()), (TOOL, ())]


def test_its_paths_are_absolute_and_need_not_be_there(tmp_path, monkeypatch):
    found = made(tmp_path, monkeypatch)
    assert (found.workdir, found.lockfile, found.prefix) == (
        tmp_path, tmp_path / "containers.lock", tmp_path / "images",
    )  # fmt: skip


def test_it_has_no_snakefile_no_outputs_and_the_default_options(tmp_path, monkeypatch):
    found = made(tmp_path, monkeypatch)
    assert (found.snakefile, found.outputs, found.unseen, found.options) == (None, (), (), Options())
