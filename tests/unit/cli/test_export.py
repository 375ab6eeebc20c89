"""``apptainer-freshness export``."""

import pytest

from snakemake_apptainer_freshness.actions.export import FORMS
from snakemake_apptainer_freshness.cli import export
from tests.support import pins


def test_the_list_goes_to_standard_output(good):
    answer = good.run("export")

    assert (answer.status, answer.out, answer.err) == (0, f"{pins.pin().url}\n", "")


def test_a_file_is_written_whole_and_what_cannot_be_named_is_told(good):
    answer = good.run("export", "--as", "skopeo", "--output", "sync.yaml")

    assert (answer.status, answer.out) == (0, "")
    assert pins.pin().digest.hex in (good.folder / "sync.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as", "regsync"], "--to says where regsync copies to"),
        (["--to", "mirror.example"], "--to says where regsync copies to"),
        (["--as", "regsync", "--to", "https://mirror.example"], "--to cannot be"),
        (["--output", "containers.lock"], "that is the lock"),
        (["--lockfile", "gone.lock"], "there is no lock file gone.lock"),
        (["--as", "xml"], "Invalid value for '--as'"),
    ],
)
def test_wrong_use_is_one_clear_error(good, arguments, said):
    answer = good.run("export", *arguments)

    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err


def test_a_folder_that_is_not_there_cannot_be_written_into(good):
    assert good.run("export", "--output", "gone/x").status == 3


def test_every_form_can_be_chosen():
    assert tuple(FORMS) == export._FORMS
