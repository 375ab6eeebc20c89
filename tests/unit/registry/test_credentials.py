import base64
import json

import pytest

from snakemake_apptainer_freshness.errors import InvalidLogin
from snakemake_apptainer_freshness.registry import credentials, login_places
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.credentials import Credentials
from snakemake_apptainer_freshness.registry.login_places import rules_for
from tests.support.fake_apptainer import FakeApptainer

PLACE = Repository(host="quay.io", repository="team/tool")
HUB = Repository(host="docker.io", repository="library/alpine")


def auth(user, password="secret"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path):
    return tmp_path


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


def find(home, place=PLACE, **environ):
    login = Credentials({"HOME": str(home), "PATH": "/usr/bin:/bin", **environ}).find(place)
    return login and login.username


def test_without_any_file_there_is_no_login(home):
    assert find(home) is None


def test_the_environment_comes_first_and_is_for_every_registry(home):
    write(home / ".apptainer/docker-config.json", {"auths": {"quay.io": auth("file")}})
    pairs = [("APPTAINER_DOCKER", "one"), ("DOCKER", "two"), ("SINGULARITY_DOCKER", "three")]
    environ = {}
    for prefix, name in reversed(pairs):
        environ |= {f"{prefix}_USERNAME": name, f"{prefix}_PASSWORD": "x"}
        assert find(home, **environ) == name


def test_a_user_name_alone_is_no_login(home):
    assert find(home, DOCKER_USERNAME="alice") is None


def test_apptainer_s_own_file_hides_docker_s(home):
    write(home / ".docker/config.json", {"auths": {"quay.io": auth("docker")}})
    assert find(home) == "docker"
    write(home / ".apptainer/docker-config.json", {"auths": {}})
    assert find(home) is None


def test_an_explicit_file_comes_before_both(home):
    write(home / ".apptainer/docker-config.json", {"auths": {"quay.io": auth("own")}})
    explicit = write(home / "explicit.json", {"auths": {"quay.io": auth("explicit")}})
    assert find(home, APPTAINER_AUTH_FILE=explicit) == "explicit"


def test_the_configuration_folder_can_be_elsewhere(home):
    write(home / "conf/docker-config.json", {"auths": {"quay.io": auth("there")}})
    assert find(home, APPTAINER_CONFIGDIR=str(home / "conf")) == "there"


def test_the_configuration_folder_stands_for_docker_s_folder_too(home):
    write(home / ".docker/config.json", {"auths": {"quay.io": auth("home")}})
    write(home / "conf/config.json", {"auths": {"quay.io": auth("conf")}})
    assert find(home, APPTAINER_CONFIGDIR=str(home / "conf")) == "conf"
    assert find(home, SINGULARITY_CONFIGDIR=str(home / "conf")) == "conf"


@pytest.mark.parametrize("variable", ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"])
def test_what_apptainer_ignores_is_not_used_but_named(home, variable):
    document = {"auths": {"quay.io": auth("ignored")}}
    place = {
        "REGISTRY_AUTH_FILE": "f.json",
        "DOCKER_CONFIG": "d/config.json",
        "XDG_RUNTIME_DIR": "x/containers/auth.json",
    }
    write(home / place[variable], document)
    value = {"REGISTRY_AUTH_FILE": "f.json", "DOCKER_CONFIG": "d", "XDG_RUNTIME_DIR": "x"}[variable]
    environ = {"HOME": str(home), variable: str(home / value)}
    assert Credentials(environ).find(PLACE) is None
    assert variable in Credentials(environ).elsewhere(PLACE)
    assert Credentials(environ).elsewhere(Repository(host="other.io", repository="x")) == ""


@pytest.mark.parametrize(
    "key", ["quay.io", "https://quay.io", "http://quay.io/", "https://quay.io/v1/", "quay.io/team", "quay.io/team/tool"]
)
def test_keys_may_be_hosts_urls_and_namespaces(home, key):
    write(home / ".docker/config.json", {"auths": {key: auth("alice")}})
    assert find(home) == "alice"


@pytest.mark.parametrize("key", ["quay.io.evil.example", "io", "sub.quay.io", "quay.io:443", "https://quay.io.evil/"])
def test_keys_of_other_hosts_do_not_count(home, key):
    write(home / ".docker/config.json", {"auths": {key: auth("alice")}})
    assert find(home) is None


def test_the_most_specific_key_counts(home):
    auths = {"quay.io": auth("host"), "quay.io/team": auth("team"), "quay.io/team/tool": auth("tool")}
    write(home / ".docker/config.json", {"auths": auths})
    assert find(home) == "tool"
    assert find(home, Repository(host="quay.io", repository="team/other")) == "team"
    assert find(home, Repository(host="quay.io", repository="x")) == "host"


def test_docker_hub_has_one_key_only(home):
    write(home / ".docker/config.json", {"auths": {"docker.io": auth("wrong"), "docker.io/library": auth("wrong")}})
    assert find(home, HUB) is None
    write(home / ".docker/config.json", {"auths": {"https://index.docker.io/v1/": auth("right")}})
    assert find(home, HUB) == "right"


@pytest.fixture
def singularity(home, monkeypatch):
    """An environment with SingularityCE 4.1 and an account whose home folder is `home`."""
    monkeypatch.setattr(login_places, "account_home", lambda: str(home))
    return FakeApptainer(home / "fake", name="singularity", version="singularity-ce version 4.1.0").environment | {
        "PATH": f"{home}/fake/bin:/usr/bin:/bin"
    }


def test_singularity_has_one_library_so_a_store_alone_is_enough(home, singularity):
    environ = helper(home, "s", 'read key; echo "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"x\\"}"')
    write(home / ".singularity/docker-config.json", {"credsStore": "s"})
    path = f"{environ['PATH']}:{singularity['PATH']}"
    assert Credentials(singularity | {"PATH": path}).find(PLACE).username == "quay.io/team/tool"


def test_singularity_knows_no_namespaces_as_keys(home, singularity):
    write(home / ".singularity/docker-config.json", {"auths": {"quay.io/team/": auth("team")}})
    assert Credentials(singularity).find(PLACE).username == "team"  # a key of the host, whatever follows
    assert Credentials(singularity).find(Repository(host="quay.io", repository="x")).username == "team"


def test_a_login_where_singularity_does_not_look_is_named_with_its_own_words(home, singularity):
    environ = singularity | {"APPTAINER_AUTH_FILE": write(home / "a.json", {"auths": {"quay.io": auth("a")}})}
    found = Credentials(environ)
    assert found.find(PLACE) is None
    assert found.elsewhere(PLACE) == "there is one in APPTAINER_AUTH_FILE, where SingularityCE does not look"
    assert found.rules.login_command == "singularity registry login"


def test_a_login_of_apptainer_s_own_is_named_to_a_user_of_singularity(home, singularity):
    environ = singularity | {"HOME": str(home)}
    write(home / ".apptainer/docker-config.json", {"auths": {"quay.io": auth("a")}})
    assert "~/.apptainer/docker-config.json" in Credentials(environ).elsewhere(PLACE)


def in_variable(*keys, **more):
    return {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {key: auth("variable") for key in keys}, **more})}


def program(home, said):
    """An environment with a program that says this of itself."""
    FakeApptainer(home / "other", name=said.partition(" ")[0].removesuffix("-ce"), version=said)
    return {"HOME": str(home), "PATH": f"{home}/other/bin:/usr/bin:/bin"}


@pytest.mark.parametrize("key", ["quay.io", "quay.io/team/tool"])
def test_docker_s_variable_comes_before_the_file_under_just_its_key(home, key, monkeypatch):
    monkeypatch.setattr(login_places, "account_home", lambda: str(home))
    environ = program(home, "singularity-ce version 4.4.0")
    write(home / ".singularity/docker-config.json", {"auths": {"quay.io": auth("file")}})
    assert Credentials(environ | in_variable(key)).find(PLACE).username == "variable"
    for other in ("https://quay.io/v1/", "other.io"):
        assert Credentials(environ | in_variable(other)).find(PLACE).username == "file"


def test_docker_s_variable_is_no_login_where_what_resolves_does_not_read_it(home):
    environ = program(home, "apptainer version 1.5.3") | in_variable("quay.io")
    assert Credentials(environ).find(PLACE) is None
    assert "the one in DOCKER_AUTH_CONFIG serves only half" in Credentials(environ).elsewhere(PLACE)
    write(home / ".apptainer/docker-config.json", {"auths": {"quay.io": auth("file")}})
    assert Credentials(environ).find(PLACE).username == "file"


@pytest.mark.parametrize(("key", "place"), [("quay.io", PLACE), ("https://index.docker.io/v1/", HUB)])
def test_docker_s_variable_is_named_where_the_program_does_not_read_it(home, key, place):
    environ = program(home, "apptainer version 1.4.5") | in_variable(key)
    assert Credentials(environ).find(place) is None
    assert "there is one in DOCKER_AUTH_CONFIG" in Credentials(environ).elsewhere(place)


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        json.dumps({"auths": {"quay.io": auth("me")}, "credsStore": "s"}),
        json.dumps({"auths": {"quay.io": {"username": "me", "password": "x"}}}),
        json.dumps({"auths": {"quay.io": auth("me") | {"email": "x"}}}),
        json.dumps({"auths": {"quay.io": {"auth": ""}}}),
        json.dumps({"auths": {"quay.io": {"auth": "!"}}}),
        json.dumps({"auths": []}),
        "[" * 100_000,
    ],
)
def test_docker_s_variable_is_left_out_where_docker_refuses_it(value):
    assert credentials.from_variable({"DOCKER_AUTH_CONFIG": value}) == {}


def test_the_program_is_asked_for_its_version_once(home, singularity, monkeypatch):
    asked = []
    monkeypatch.setattr(
        credentials, "rules_here", lambda environ: asked.append(environ) or rules_for("apptainer", (1, 4))
    )
    found = Credentials(singularity)
    assert [found.find(PLACE), found.find(HUB)] == [None, None]
    assert len(asked) == 1


def test_user_name_and_password_may_stand_in_the_open(home):
    write(home / ".docker/config.json", {"auths": {"quay.io": {"username": "alice", "password": "x"}}})
    assert find(home) == "alice"


def test_an_empty_entry_is_no_login(home):
    write(home / ".docker/config.json", {"auths": {"quay.io": {}}})
    assert find(home) is None


def test_tokens_are_found(home):
    tokens = {"identitytoken": "identity", "registrytoken": "registry"}
    write(home / ".docker/config.json", {"auths": {"quay.io": tokens}})
    login = Credentials({"HOME": str(home)}).find(PLACE)
    assert (login.identity_token, login.registry_token) == ("identity", "registry")


def helper(home, name, script):
    path = home / f"bin/docker-credential-{name}"
    write(path, f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{home}/bin:/usr/bin:/bin"}


def test_a_helper_is_asked_for_its_host(home):
    script = 'read key; test "$1" = get && echo "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"x\\"}"'
    environ = helper(home, "echo", script)
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "echo"}, "auths": {"quay.io": auth("file")}})
    assert find(home, **environ) == "quay.io"
    assert find(home, Repository(host="other.io", repository="x"), **environ) is None


def test_a_store_serves_the_download_alone_and_needs_a_login_for_resolving_beside_it(home):
    environ = helper(home, "s", 'read key; echo "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"x\\"}"')
    write(home / ".docker/config.json", {"credsStore": "s"})
    assert find(home, **environ) is None
    assert "half" in Credentials({"HOME": str(home), **environ}).elsewhere(PLACE)
    write(home / ".docker/config.json", {"credsStore": "s", "auths": {"quay.io": auth("file")}})
    assert find(home, **environ) == "file"


def test_a_store_that_knows_nothing_hides_the_login_in_the_file(home):
    environ = helper(home, "s", "echo credentials not found in native keychain; exit 1")
    write(home / ".docker/config.json", {"credsStore": "s", "auths": {"quay.io": auth("file")}})
    assert find(home, **environ) is None


def test_a_helper_is_asked_once_for_each_key(home):
    script = 'echo x >> "$HOME/count"; echo \'{"Username": "a", "Secret": "b"}\''
    environ = {"HOME": str(home), **helper(home, "s", script)}
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "s"}})
    finder = Credentials(environ)
    assert finder.find(PLACE) == finder.find(Repository(host="quay.io", repository="other"))
    assert (home / "count").read_text(encoding="utf-8") == "x\n"


def test_a_helper_that_knows_nothing_means_no_login(home):
    environ = helper(home, "s", "echo credentials not found in native keychain; exit 1")
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "s"}})
    assert find(home, **environ) is None


def test_a_helper_may_have_an_identity_token(home):
    environ = helper(home, "s", """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "s"}})
    assert Credentials({"HOME": str(home), **environ}).find(PLACE).identity_token == "refresh"


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '{}'", """echo '{"Username": 1, "Secret": 2}'"""])
def test_a_helper_that_fails_is_named(home, script):
    environ = helper(home, "s", script)
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "s"}})
    with pytest.raises(InvalidLogin, match="docker-credential-s"):
        find(home, **environ)


def test_a_helper_that_is_not_there_is_named(home):
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "nowhere"}})
    with pytest.raises(InvalidLogin, match="docker-credential-nowhere"):
        find(home)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"auths": []}',
        '{"auths": {"a": 1}}',
        '{"auths": {"a": {"auth": 1}}}',
        '{"auths": {"a": {"auth": "!"}}}',
        '{"auths": {"a": {"auth": "YWJj"}}}',
        '{"auths": {"a": {"registrytoken": "a b"}}}',
        '{"credsStore": 5}',
        '{"credsStore": "../../x"}',
        '{"credHelpers": {"a": "x;y"}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_understood_is_named_and_not_quoted(text):
    with pytest.raises(InvalidLogin, match="a file"):
        credentials.parse(text.encode(), "a file")


def test_a_file_that_is_too_large_is_refused(home):
    write(home / ".docker/config.json", " " * (credentials.MAX_SIZE + 1))
    with pytest.raises(InvalidLogin, match="larger"):
        find(home)
