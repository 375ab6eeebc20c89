"""Which keys of a configuration are ours, and which were meant to be."""

from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.engine.config import CommandLineFlag, is_wanted, near_miss, options
from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.settings import Mode

NOTHING = CommandLineFlag()


def workflow(**config):
    return SimpleNamespace(
        config={key.replace("__", "-"): value for key, value in config.items()}, main_snakefile="Snakefile"
    )


@pytest.mark.parametrize(
    "key",
    [
        "apptainer-freshness",
        "apptainer_freshnes",
        "apptainer_freshenss",
        "aptainer_freshness",
        "apptainer_freshess",
        "appptainer_freshness",
        "Apptainer_Freshness",
        "apptainerfreshness",
        "apptainers_freshness",
    ],
)
def test_a_key_that_is_nearly_ours_is_noticed(key):
    assert near_miss({"samples": 1, key: True}) == key


@pytest.mark.parametrize(
    "key",
    [
        "apptainer_freshness",
        "apptainer_prefix",
        "apptainer_versions",
        "apptainer_args",
        "freshness",
        "samples",
        7,
        "container_fresh_list",
    ],
)
def test_our_key_and_those_of_others_are_no_misspelling(key):
    assert near_miss({key: True}) is None


def test_a_misspelling_is_an_error_that_says_what_was_meant(monkeypatch):
    monkeypatch.delenv("SNAKEMAKE_APPTAINER_FRESHNESS", raising=False)
    misspelt = workflow(apptainer__freshness={"mode": "frozen"})

    assert is_wanted(misspelt, NOTHING)
    with pytest.raises(InvalidSettings, match=r"'apptainer-freshness'.*did you mean 'apptainer_freshness'\?"):
        options(misspelt, NOTHING)


def test_a_misspelling_beside_the_right_name_is_an_error_since_half_of_what_was_meant_is_not_heard():
    with pytest.raises(InvalidSettings, match="does nothing"):
        options(workflow(apptainer_freshnes={"mode": "frozen"}, apptainer_freshness=True), NOTHING)


def test_who_turns_the_flag_off_by_its_name_may_keep_a_key_that_looks_like_it(monkeypatch):
    monkeypatch.delenv("SNAKEMAKE_APPTAINER_FRESHNESS", raising=False)
    assert options(workflow(apptainer_freshnes=1, apptainer_freshness=False), NOTHING).mode is Mode.OFF
    assert options(workflow(apptainer_freshnes=1), CommandLineFlag(flag="off")).mode is Mode.OFF
