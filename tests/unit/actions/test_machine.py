"""What decides on this machine how images are fetched and run: told, and no secret with it."""

import base64
import json

import pytest

from snakemake_apptainer_freshness.actions import machine
from snakemake_apptainer_freshness.actions.machine import KnownLogin, Variable
from tests.support.fake_apptainer import FakeApptainer

SECRET = "hunter2-is-no-password"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def auths(*hosts):
    return {"auths": {host: {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()} for host in hosts}}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def environment(home):
    return {"HOME": str(home), "PATH": "/nowhere"}


def test_the_program_that_snakemake_would_run_is_told_with_its_version(tmp_path):
    fake = FakeApptainer(tmp_path / "fake")
    found = {one.name: one for one in machine.versions(fake.environment)}
    assert (found["apptainer"].version, found["apptainer"].is_reproducible) == ("1.4.5", False)
    assert found["apptainer"].path == str(tmp_path / "fake" / "bin" / "apptainer")
    assert found["snakemake"].version[0].isdigit()
    assert found["python"].version.startswith("3.")


def test_what_is_not_there_has_no_version(environment):
    found = {one.name: one.version for one in machine.versions(environment)}
    assert (found["apptainer"], found["squashfuse"]) == ("", "")


def test_the_version_of_another_program_is_the_first_number_that_it_says(tmp_path):
    write(tmp_path / "squashfuse", "#!/bin/sh\necho 'squashfuse 0.5.2 (c) 2012 the author' >&2\n").chmod(0o755)
    found = {one.name: one.version for one in machine.versions({"PATH": f"{tmp_path}:/usr/bin:/bin"})}
    assert found["squashfuse"] == "0.5.2"


def test_variables_that_matter_are_named_and_only_paths_and_switches_shown():
    found = machine.variables(
        {
            "APPTAINER_CACHEDIR": "/cache",
            "APPTAINER_DOCKER_PASSWORD": SECRET,
            "https_proxy": f"http://me:{SECRET}@p/",
            "APPTAINERENV_TOKEN": SECRET,
            "EDITOR": "vi",
        }
    )
    assert found == [
        Variable(name="APPTAINER_CACHEDIR", value="/cache"),
        Variable(name="APPTAINER_DOCKER_PASSWORD", value=None),
        Variable(name="https_proxy", value=None),
    ]


def test_a_login_is_told_by_host_and_place_alone(home, environment):
    path = write(
        home / ".apptainer" / "docker-config.json", auths("https://quay.io/", f"https://me:{SECRET}@ghcr.io/team")
    )
    found, problems = machine.logins(environment)
    assert found == [KnownLogin(host="ghcr.io/team", source=str(path)), KnownLogin(host="quay.io", source=str(path))]
    assert problems == []


def test_a_login_that_apptainer_ignores_is_a_problem_unless_it_has_one_for_that_host(home, environment):
    write(home / ".docker" / "config.json", auths("quay.io", "ghcr.io"))
    write(home / ".apptainer" / "docker-config.json", auths("ghcr.io"))
    found, [problem] = machine.logins(environment)
    assert [(one.host, one.used) for one in found] == [("ghcr.io", True), ("ghcr.io", False), ("quay.io", False)]
    assert "the login for quay.io" in problem.text


def test_a_login_of_the_environment_is_one_for_every_host(home, environment):
    write(home / ".docker" / "config.json", auths("quay.io"))
    given = {"APPTAINER_DOCKER_USERNAME": "me", "APPTAINER_DOCKER_PASSWORD": SECRET}
    found, problems = machine.logins(environment | given)
    assert (found[0].host, found[0].used, problems) == ("*", True, [])
    assert SECRET not in repr(found)


def test_logins_in_docker_s_variable_are_told_without_their_secret(environment):
    value = json.dumps({"auths": {"quay.io": {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()}}})
    [login], [problem] = machine.logins(environment | {"DOCKER_AUTH_CONFIG": value})
    assert login == KnownLogin(host="quay.io", source="DOCKER_AUTH_CONFIG", used=False)
    assert SECRET not in repr(login) + problem.text


def test_a_helper_that_is_not_there_is_a_problem(home, environment, tmp_path):
    write(home / ".apptainer" / "docker-config.json", {"credsStore": "gone"})
    [problem] = machine.logins(environment)[1]
    assert "docker-credential-gone, which is not on PATH" in problem.text
    write(tmp_path / "docker-credential-gone", "#!/bin/sh\n").chmod(0o755)
    assert machine.logins(environment | {"PATH": str(tmp_path)})[1] == []


def test_a_login_file_that_cannot_be_read_is_a_problem(home, environment):
    write(home / ".apptainer" / "docker-config.json", "[")
    assert [problem.kind for problem in machine.logins(environment)[1]] == ["login"]


def test_registries_conf_is_told_line_by_line(home, environment):
    path = home / ".config" / "containers" / "registries.conf"
    write(
        path,
        '[[registry]]\nprefix = "docker.io"\nlocation = "mirror.lab/hub"\ninsecure = true\n'
        '[[registry.mirror]]\nlocation = "near.lab"\n'
        '[[registry]]\nprefix = "bad.io"\nlocation = "bad.io"\nblocked = true\n',
    )
    lines, problems = machine.registries(environment)
    assert "docker.io: asked at mirror.lab/hub, mirror near.lab, plain http allowed" in lines
    assert "bad.io: blocked" in lines
    assert problems == []
    path.write_text("[")
    assert [one.kind for one in machine.registries(environment)[1]] == ["registries.conf"]


def test_a_switch_that_apptainer_would_refuse_is_a_problem():
    [problem] = machine.wrong_values({"APPTAINER_DISABLE_CACHE": "yes", "APPTAINER_NOHTTPS": "1"})
    assert problem.text == "APPTAINER_DISABLE_CACHE is 'yes', which Apptainer refuses"
