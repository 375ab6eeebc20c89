"""Which program runs the containers, by what is on PATH and what it says of itself."""

from __future__ import annotations

import os

import pytest

from snakemake_apptainer_freshness.common import container_program
from snakemake_apptainer_freshness.errors import MissingProgram
from tests.support.fake_apptainer import FakeApptainer


def test_the_program_is_the_one_that_snakemake_would_run(tmp_path):
    apptainer = FakeApptainer(tmp_path / "a")
    singularity = FakeApptainer(tmp_path / "s", name="singularity", version="singularity-ce version 4.1.0-jammy")
    both = {"PATH": f"{singularity.environment['PATH']}{os.pathsep}{apptainer.environment['PATH']}"}
    assert container_program.find(both).version == "apptainer 1.4.5"
    found = container_program.find({"PATH": f"{tmp_path}/s/bin:/usr/bin:/bin"})
    assert (found.version, found.family, found.release) == ("singularity 4.1.0-jammy", "singularity", (4, 1))


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("apptainer version 1.4.5", "apptainer 1.4.5"),
        ("apptainer version 1.3.6-1.el9", "apptainer 1.3.6-1.el9"),
        ("apptainer version 2.0.0-rc.1", "apptainer 2.0.0-rc.1"),
        ("singularity version 3.8.7-1.el8", "singularity 3.8.7-1.el8"),
        ("singularity-ce version 4.3.0", "singularity 4.3.0"),
    ],
)
def test_versions_are_read_as_they_are_said(tmp_path, said, version):
    assert container_program.find(FakeApptainer(tmp_path / "fake", version=said).environment).version == version


def test_apptainer_under_singularity_s_name_is_apptainer(tmp_path):
    FakeApptainer(tmp_path / "fake", name="singularity", version="apptainer version 1.4.5")
    assert container_program.find({"PATH": f"{tmp_path}/fake/bin:/usr/bin:/bin"}).family == "apptainer"


def test_a_missing_program_is_said_with_what_to_do(tmp_path):
    with pytest.raises(MissingProgram, match=r"neither apptainer nor singularity is on PATH\ninstall"):
        container_program.find({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    "said", ["apptainer version 0.1.2", "singularity version 3.7.4", "singularity version 2.6.1-dist"]
)
def test_a_program_that_is_too_old_is_said(tmp_path, said):
    with pytest.raises(MissingProgram, match="at least"):
        container_program.find(FakeApptainer(tmp_path / "fake", version=said).environment)


def test_a_program_that_says_nothing_is_not_taken(tmp_path):
    with pytest.raises(MissingProgram, match="does not say its version"):
        container_program.find(FakeApptainer(tmp_path / "fake", version="hello").environment)
