"""The versions that the matrix has run: in order, and the lowest of them may be installed."""

import re
import tomllib

from snakemake_apptainer_freshness.engine import versions
from tests.support import seams as page


def numbers(text):
    return tuple(map(int, text.split(".")))


def test_they_stand_in_order_each_once():
    for known in (versions.SNAKEMAKES, versions.PYTHONS):
        assert list(known) == sorted(set(known), key=numbers)


def test_what_may_be_installed_is_what_the_matrix_has_run_the_lowest_of():
    project = tomllib.loads((page.ROOT / "pyproject.toml").read_text())["project"]

    assert f"snakemake>={versions.SNAKEMAKES[0]},<10" in project["dependencies"]
    assert project["requires-python"] == f">={versions.PYTHONS[0]}"


def test_snakemakes_are_named_to_the_last_number_and_pythons_are_not():
    assert all(re.fullmatch(r"9\.\d+\.\d+", version) for version in versions.SNAKEMAKES)
    assert all(re.fullmatch(r"3\.\d+", version) for version in versions.PYTHONS)
