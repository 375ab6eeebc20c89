"""Environment variables, read as Apptainer reads them."""

import pytest

from snakemake_apptainer_freshness.common import environment
from snakemake_apptainer_freshness.errors import InvalidSettings


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("1", "t", "T", "TRUE", "true", "True")]
    + [(text, False) for text in ("0", "f", "F", "FALSE", "false", "False")],
)
def test_a_truth_value_is_what_go_takes_for_one(text, value):
    assert environment.parse_bool(text) is value


@pytest.mark.parametrize("text", ["", "yes", "on", "tRUE", " 1", "1 ", "2", "\u0661"])
def test_what_go_takes_for_none_is_none(text):
    with pytest.raises(ValueError, match="no truth value"):
        environment.parse_bool(text)
    assert not environment.is_on({"APPTAINER_NOHTTPS": text}, "APPTAINER_NOHTTPS")


def test_the_first_variable_that_is_set_decides():
    names = "APPTAINER_NOHTTPS", "SINGULARITY_NOHTTPS"

    assert environment.is_on({"SINGULARITY_NOHTTPS": "true"}, *names)
    assert environment.is_on({"APPTAINER_NOHTTPS": "", "SINGULARITY_NOHTTPS": "true"}, *names)
    assert not environment.is_on({"APPTAINER_NOHTTPS": "0", "SINGULARITY_NOHTTPS": "true"}, *names)


def test_a_switch_that_apptainer_would_refuse_is_named():
    variables = {"APPTAINER_NOHTTPS": "yes", "APPTAINER_USERNS": "1", "SINGULARITY_NV": "on", "APPTAINER_BIND": "yes"}

    assert list(environment.wrong_switches(variables)) == ["APPTAINER_NOHTTPS", "SINGULARITY_NV"]


def test_temporary_files_lie_where_apptainer_puts_them(tmp_path):
    assert environment.temporary_folder({"TMPDIR": "/a", "APPTAINER_TMPDIR": str(tmp_path)}) == tmp_path
    assert str(environment.temporary_folder({"TMPDIR": "/a", "APPTAINER_TMPDIR": ""})) == "/a"
    assert environment.temporary_folder({}).is_dir()


def test_the_network_is_forbidden_by_a_truth_value_alone():
    assert environment.is_offline({environment.OFFLINE: "1"})
    assert not environment.is_offline({environment.OFFLINE: "0"})
    assert not environment.is_offline({})
    with pytest.raises(InvalidSettings, match=r"OFFLINE: 'yes' is no truth value"):
        environment.is_offline({environment.OFFLINE: "yes"})


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "3601"])
def test_a_timeout_is_a_number_of_seconds(text):
    assert environment.timeout({environment.TIMEOUT: "2.5"}) == 2.5
    assert environment.timeout({}) is None
    with pytest.raises(InvalidSettings, match="give the seconds"):
        environment.timeout({environment.TIMEOUT: text})


def test_the_environment_says_for_how_long_answers_are_remembered():
    assert environment.check_every({}) is None
    assert environment.check_every({environment.CHECK_EVERY: "15m"}) == 900.0
    assert environment.check_every({environment.CHECK_EVERY: "0"}) == 0.0
    with pytest.raises(InvalidSettings, match=environment.CHECK_EVERY):
        environment.check_every({environment.CHECK_EVERY: "often"})
