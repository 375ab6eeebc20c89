"""Where each program reads logins, held to a table that was read in its sources.

Apptainer 1.0.0 to 1.5.3 and SingularityCE 3.8.0 to 4.5.1: ``cmd/internal/cli`` (``commonAuthFileFlag`` and its
``EnvKeys``), ``pkg/cmdline/env.go`` (a value is trimmed, an empty one counts as none), ``pkg/syfs/syfs.go``,
``internal/pkg/util/ociauth`` and ``internal/pkg/remote/credential/ociauth``. Of these programs Apptainer 1.4.5 was run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_apptainer_freshness.registry import login_places
from snakemake_apptainer_freshness.registry.login_places import every_file, rules_for, rules_here
from tests.support.fake_apptainer import FakeApptainer

VARIABLES = ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE", "SINGULARITY_AUTHFILE", "APPTAINER_AUTHFILE")
READ = {  # which variables for a file a program reads, the first that is set before the others
    ("apptainer", (1, 0)): (),
    ("apptainer", (1, 1)): (),
    ("apptainer", (1, 2)): (),
    ("apptainer", (1, 3)): (),
    ("apptainer", (1, 4)): ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE"),
    ("apptainer", (1, 5)): ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE"),
    ("singularity", (3, 8)): (),
    ("singularity", (3, 11)): (),
    ("singularity", (4, 0)): (),
    ("singularity", (4, 1)): ("SINGULARITY_AUTHFILE",),
    ("singularity", (4, 5)): ("SINGULARITY_AUTHFILE",),
}
FOLDERS = {  # what is set, and what each family then reads
    (): (".apptainer", ".singularity"),
    ("APPTAINER_CONFIGDIR",): ("APPTAINER_CONFIGDIR", ".singularity"),
    ("SINGULARITY_CONFIGDIR",): ("SINGULARITY_CONFIGDIR", "SINGULARITY_CONFIGDIR"),
    ("APPTAINER_CONFIGDIR", "SINGULARITY_CONFIGDIR"): ("APPTAINER_CONFIGDIR", "SINGULARITY_CONFIGDIR"),
}


@pytest.fixture(autouse=True)
def account(tmp_path, monkeypatch):
    """The home folder of the account, which SingularityCE takes; HOME is another one."""
    monkeypatch.setattr(login_places, "account_home", lambda: str(tmp_path / "account"))
    return tmp_path / "account"


@pytest.mark.parametrize(("program", "read"), READ.items(), ids=str)
@pytest.mark.parametrize("variable", VARIABLES)
def test_the_variable_of_a_file_is_read_by_the_programs_that_know_it(program, read, variable):
    found = rules_for(*program).file({variable: " /there/a.json ", "HOME": "/home/me"})
    assert (found == Path("/there/a.json")) is (variable in read)


@pytest.mark.parametrize(("program", "read"), READ.items(), ids=str)
def test_of_several_variables_the_program_s_own_counts(program, read):
    environ = {variable: f"/{variable}" for variable in VARIABLES} | {"HOME": "/home/me"}
    found = rules_for(*program).file(environ)
    assert [str(found)] == [f"/{variable}" for variable in read[:1]] if read else "docker" in str(found)


@pytest.mark.parametrize(("set_", "read"), FOLDERS.items(), ids=str)
@pytest.mark.parametrize("family", ["apptainer", "singularity"])
def test_without_it_the_file_lies_in_the_program_s_own_folder(tmp_path, account, family, set_, read):
    environ = {"HOME": str(tmp_path / "home"), **{name: str(tmp_path / name) for name in set_}}
    wanted = read[family == "singularity"]
    home = account if family == "singularity" else tmp_path / "home"
    own = (tmp_path if wanted in set_ else home) / wanted / "docker-config.json"
    own.parent.mkdir(parents=True)
    own.touch()
    assert rules_for(family, (4, 1) if family == "singularity" else (1, 4)).file(environ) == own


def test_docker_s_own_file_is_read_by_apptainer_alone(tmp_path, account):
    environ = {"HOME": str(tmp_path)}
    assert rules_for("apptainer", (1, 4)).file(environ) == tmp_path / ".docker/config.json"
    assert rules_for("singularity", (4, 1)).file(environ) == account / ".singularity/docker-config.json"


def test_without_a_home_folder_there_is_no_file(monkeypatch):
    monkeypatch.setattr(login_places, "account_home", lambda: "")
    assert every_file({}) == []


@pytest.mark.parametrize(
    ("family", "first", "second"),
    [("apptainer", "APPTAINER_DOCKER", "DOCKER"), ("singularity", "SINGULARITY_DOCKER", "DOCKER")],
)
def test_the_pair_of_the_environment_is_the_program_s_own_first(family, first, second):
    rules = rules_for(family, (4, 1))
    both = {f"{prefix}_{what}": prefix for prefix in (first, second) for what in ("USERNAME", "PASSWORD")}
    assert rules.pair(both) == (first, first)
    assert rules.pair({name: value for name, value in both.items() if value == second}) == (second, second)


def test_a_pair_of_apptainer_s_is_none_for_singularity():
    environ = {"APPTAINER_DOCKER_USERNAME": "me", "APPTAINER_DOCKER_PASSWORD": "x"}
    assert rules_for("singularity", (4, 1)).pair(environ) == ("", "")


@pytest.mark.parametrize(
    ("said", "name", "variables"),
    [
        ("apptainer version 1.4.5", "Apptainer", ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE")),
        ("apptainer version 1.3.6", "Apptainer", ()),
        ("singularity-ce version 4.1.0", "SingularityCE", ("SINGULARITY_AUTHFILE",)),
        ("singularity-ce version 4.0.3", "SingularityCE", ()),
        ("hello", "Apptainer", ("APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE")),
    ],
)
def test_the_rules_are_those_of_the_program_on_path(tmp_path, said, name, variables):
    FakeApptainer(tmp_path / "fake", name="singularity", version=said)
    rules = rules_here({"PATH": f"{tmp_path}/fake/bin:/usr/bin:/bin"})
    assert (rules.name, rules.file_variables) == (name, variables)


@pytest.mark.parametrize(
    ("family", "release", "reads"),
    [
        ("apptainer", (1, 3), False),
        ("apptainer", (1, 4), False),
        ("apptainer", (1, 5), True),
        ("singularity", (4, 0), False),
        ("singularity", (4, 3), False),
        ("singularity", (4, 4), True),
        ("singularity", (4, 5), True),
    ],
)
def test_docker_s_own_variable_is_read_where_docker_s_library_is_new_enough(family, release, reads):
    """By ``go.mod``: docker/cli 27.5 in Apptainer 1.4, 29.4 in 1.5; 28.0 in SingularityCE 4.3.0, 29.2 in 4.4.0."""
    assert rules_for(family, release).reads_auth_config is reads


@pytest.mark.parametrize(
    ("family", "release", "command"),
    [
        ("apptainer", (1, 2), "apptainer remote login"),
        ("apptainer", (1, 3), "apptainer registry login"),
        ("singularity", (3, 11), "singularity remote login"),
        ("singularity", (4, 0), "singularity registry login"),
    ],
)
def test_a_hint_names_the_command_that_the_program_has(family, release, command):
    assert rules_for(family, release).login_command == command
