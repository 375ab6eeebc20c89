"""The same configuration, asked by us and pulled by the real Apptainer: both succeed, or both fail.

Where we succeed, Apptainer pulls the form that we pinned.
"""

import base64
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import FreshnessError, Unauthorized
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support import images, programs
from tests.support.digests import sha256
from tests.support.proxy import Proxy
from tests.support.registry import RealRegistry, self_signed
from tests.support.token_service import TokenService

ROOT = Path(__file__).parents[2]
USERS = {"alice": "s3cret"}


_numbers = itertools.count()


class Machine:
    """A user's home folder, and the environment in which both programs run."""

    def __init__(self, home):
        self.home = home
        self.environ = programs.environment(home)
        del self.environ["APPTAINER_CONFIGDIR"]  # where it is set, Apptainer does not look into ~/.docker
        home.mkdir(parents=True, exist_ok=True)

    def write(self, path, content):
        path = self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def registries_conf(self, text):
        self.write(".config/containers/registries.conf", text)

    def helper(self, script):
        """The credential helper ``tests``, on PATH."""
        path = self.write("bin/docker-credential-tests", f"#!/bin/sh\n{script}\n")
        (self.home / "bin/docker-credential-tests").chmod(0o755)
        if not self.environ["PATH"].startswith(str(self.home)):
            self.environ["PATH"] = f"{self.home / 'bin'}:{self.environ['PATH']}"
        return path

    def resolve(self, reference):
        with Resolver(environ=self.environ) as resolver:
            ((_, answer),) = resolver.resolve([parse(reference)])
            self.warnings = resolver.warnings
        return answer

    def pull(self, reference):
        """Let the real Apptainer pull, past whatever it has in its cache."""
        self.environ["APPTAINER_CACHEDIR"] = str(self.home / f"cache{next(_numbers)}")
        command = [str(programs.find("apptainer")), "pull", "--force", str(self.home / "image.sif"), reference]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def both(self, reference):
        """Whether both can have it; an error where only one can."""
        answer = self.resolve(reference)
        ours = isinstance(answer, Entry)
        pulled = self.pull(answer.pinned.text if ours else reference)
        assert ours == (pulled.returncode == 0), f"we said {answer!r}, Apptainer {pulled.stderr}"
        return ours


def login(host, user="alice", password="s3cret"):
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"auths": {host: {"auth": auth}}}


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path / "home")
    machine.environ["APPTAINER_NOHTTPS"] = "1"
    return machine


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A registry with basic authentication, and a reference in it."""
    with RealRegistry(tmp_path_factory.mktemp("htpasswd"), htpasswd=USERS) as registry:
        images.push(images.tiny_image("locked"), registry.host, "team/tool", "1.0", auth=registry.auth)
        yield registry.host, f"docker://{registry.host}/team/tool:1.0"


def test_basic_authentication_with_apptainer_s_own_login_file(machine, locked):
    host, reference = locked
    assert not machine.both(reference)
    machine.write(".apptainer/docker-config.json", login(host, password="wrong"))
    assert not machine.both(reference)
    machine.write(".apptainer/docker-config.json", login(host))
    assert machine.both(reference)


def test_the_command_uses_the_same_login(machine, locked):
    host, reference = locked
    command = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()", "resolve", reference]
    options = {"env": machine.environ, "cwd": ROOT, "capture_output": True, "text": True}
    refused = subprocess.run(command, check=False, **options)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "apptainer registry login" in refused.stderr
    machine.write(".docker/config.json", login(host))
    assert (
        subprocess.run(command, check=True, **options).stdout
        == f"{reference} → {machine.resolve(reference).pinned.text}\n"
    )


def test_basic_authentication_with_docker_s_login_file(machine, locked):
    host, reference = locked
    machine.write(".docker/config.json", login(host))
    assert machine.both(reference)
    machine.write(".apptainer/docker-config.json", {"auths": {}})
    assert not machine.both(reference)


def test_basic_authentication_with_a_configuration_folder_of_one_s_own(machine, locked):
    host, reference = locked
    machine.environ["APPTAINER_CONFIGDIR"] = str(machine.home / "conf")
    machine.write(".docker/config.json", login(host))
    assert not machine.both(reference)
    machine.write("conf/config.json", login(host))
    assert machine.both(reference)


def test_basic_authentication_with_the_environment(machine, locked):
    machine.environ |= {"DOCKER_USERNAME": "alice", "DOCKER_PASSWORD": "wrong"}
    assert not machine.both(locked[1])
    machine.environ |= {"APPTAINER_DOCKER_USERNAME": "alice", "APPTAINER_DOCKER_PASSWORD": "s3cret"}
    assert machine.both(locked[1])


def test_a_login_file_of_one_s_own(machine, locked):
    host, reference = locked
    machine.environ["APPTAINER_AUTH_FILE"] = machine.write("mine.json", login(host))
    assert machine.both(reference)


def test_a_login_that_apptainer_ignores_is_ignored_and_named(machine, locked):
    host, reference = locked
    machine.environ["REGISTRY_AUTH_FILE"] = machine.write("other.json", login(host))
    assert not machine.both(reference)
    answer = machine.resolve(reference)
    assert isinstance(answer, Unauthorized)
    assert "REGISTRY_AUTH_FILE" in answer.hint


@pytest.mark.parametrize("key", ["http://{}", "https://{}/v2/", "{}/team", "{}/team/tool"])
def test_keys_of_logins_mean_the_same_to_both(machine, locked, key):
    host, reference = locked
    machine.write(".docker/config.json", login(key.format(host)))
    assert machine.both(reference)


def test_a_credential_helper(machine, locked):
    host, reference = locked
    answer = json.dumps({"ServerURL": host, "Username": "alice", "Secret": "s3cret"})
    unknown = "echo credentials not found in native keychain; exit 1"
    machine.helper(f"""read key; [ "$key" = "{host}" ] && echo '{answer}' && exit; {unknown}""")
    machine.write(".docker/config.json", {"credHelpers": {"elsewhere.example": "tests"}})
    assert not machine.both(reference)
    machine.write(".docker/config.json", {"credHelpers": {host: "tests"}})
    assert machine.both(reference)


def test_a_credential_store_serves_only_apptainer_s_download(machine, locked):
    host, reference = locked
    answer = json.dumps({"ServerURL": host, "Username": "alice", "Secret": "s3cret"})
    machine.helper(f"echo '{answer}'")
    machine.write(".docker/config.json", {"credsStore": "tests"})
    assert not machine.both(reference)
    machine.write(".docker/config.json", {"credsStore": "tests", **login(host)})
    assert machine.both(reference)
    machine.helper("echo credentials not found in native keychain; exit 1")
    assert not machine.both(reference)


def test_token_authentication(machine, tmp_path):
    with (
        TokenService(tmp_path / "tokens", USERS) as tokens,
        RealRegistry(tmp_path / "registry", token=tokens.auth) as registry,
    ):
        storage = registry.storage  # filled by a registry without a lock, which shares it
        with RealRegistry(tmp_path / "open") as unlocked:
            images.push(images.tiny_image("token"), unlocked.host, "team/tool", "1.0")
            subprocess.run(["cp", "-r", f"{unlocked.storage}/.", str(storage)], check=True)
        reference = f"docker://{registry.host}/team/tool:1.0"
        assert not machine.both(reference)
        machine.write(".docker/config.json", login(registry.host))
        tokens.asked.clear()
        assert machine.both(reference)
        assert tokens.asked[0].count("scope=repository%3Ateam%2Ftool%3Apull") == 1


def test_a_proxy(machine, shared_registry):
    images.push(images.tiny_image("proxy"), shared_registry.host, "team/proxied", "1.0")
    reference = f"docker://registry.test:{shared_registry.port}/team/proxied:1.0"
    assert not machine.both(reference)
    with Proxy({"registry.test": shared_registry.port}, login=("alice", "s3cret")) as proxy:
        machine.environ["HTTP_PROXY"] = proxy.url(("alice", "wrong"))
        assert not machine.both(reference)
        machine.environ["HTTP_PROXY"] = proxy.url(("alice", "s3cret"))
        assert machine.both(reference)
        machine.environ["NO_PROXY"] = ".test"
        assert not machine.both(reference)


def mirror(host, of):
    return (
        f'[[registry]]\nprefix = "{of}"\nlocation = "{of}"\n[[registry.mirror]]\nlocation = "{host}"\ninsecure = true\n'
    )


@pytest.mark.parametrize(
    ("of", "repository", "reference"),
    [
        ("quay.io", "biocontainers/tool", "docker://quay.io/biocontainers/tool:1.0"),
        ("docker.io", "library/tool", "docker://tool:1.0"),
    ],
)
def test_registries_conf_maps_a_well_known_registry_onto_a_mirror(machine, shared_registry, of, repository, reference):
    del machine.environ["APPTAINER_NOHTTPS"]
    images.push(images.tiny_image(f"mirror of {of}"), shared_registry.host, repository, "1.0")
    machine.registries_conf(mirror(shared_registry.host, of))
    assert machine.both(reference)
    assert not machine.warnings
    assert not machine.both(reference + "0")


def test_registries_conf_blocks(machine, shared_registry):
    images.push(images.tiny_image("blocked"), shared_registry.host, "team/blocked", "1.0")
    machine.registries_conf(f'[[registry]]\nlocation = "{shared_registry.host}"\nblocked = true\n')
    assert not machine.both(f"docker://{shared_registry.host}/team/blocked:1.0")


def test_registries_conf_allows_plain_http(machine, shared_registry):
    del machine.environ["APPTAINER_NOHTTPS"]
    images.push(images.tiny_image("plain"), shared_registry.host, "team/plain", "1.0")
    reference = f"docker://{shared_registry.host}/team/plain:1.0"
    assert not machine.both(reference)
    machine.registries_conf(f'[[registry]]\nlocation = "{shared_registry.host}"\ninsecure = true\n')
    assert machine.both(reference)


def test_a_registries_conf_that_is_broken_stops_both(machine, shared_registry):
    images.push(images.tiny_image("broken"), shared_registry.host, "team/broken", "1.0")
    machine.registries_conf('[[registry]]\nlocation = "https://quay.io"\n')
    assert not machine.both(f"docker://{shared_registry.host}/team/broken:1.0")


def test_a_remap_is_resolved_with_a_warning_because_apptainer_downloads_elsewhere(machine, shared_registry):
    images.push(images.tiny_image("remap"), shared_registry.host, "team/remap", "1.0")
    machine.registries_conf(f'[[registry]]\nprefix = "quay.io"\nlocation = "{shared_registry.host}"\ninsecure = true\n')
    assert isinstance(machine.resolve("docker://quay.io/team/remap:1.0"), Entry)
    (warning,) = machine.warnings
    assert "Apptainer downloads it from quay.io/team/remap" in warning
    assert 'Get "https://quay.io/v2/"' in machine.pull("docker://quay.io/team/remap:1.0").stderr


def test_https_with_an_authority_of_one_s_own(machine, tmp_path):
    del machine.environ["APPTAINER_NOHTTPS"]
    certificate, key = self_signed(tmp_path)
    with RealRegistry(tmp_path / "registry", tls=(certificate, key)) as registry:
        images.push(images.tiny_image("tls"), registry.host, "team/tool", "1.0", scheme="https", verify=False)
        reference = f"docker://{registry.host}/team/tool:1.0"
        assert not machine.both(reference)
        machine.environ["SSL_CERT_FILE"] = str(certificate)
        assert machine.both(reference)


def test_oras_needs_no_permission_for_plain_http_on_this_machine(machine, shared_registry, tmp_path):
    sif = tmp_path / "x.sif"
    images.push(images.tiny_image("sif"), shared_registry.host, "team/sif", "1.0")
    assert machine.pull(f"docker://{shared_registry.host}/team/sif:1.0").returncode == 0
    (machine.home / "image.sif").rename(sif)
    target = f"oras://{shared_registry.host}/team/sif:oras"
    subprocess.run(
        [str(programs.find("apptainer")), "push", "--allow-unsigned", str(sif), target],
        env=machine.environ,
        check=True,
        capture_output=True,
    )
    del machine.environ["APPTAINER_NOHTTPS"]
    assert machine.both(target)
    entry = machine.resolve(target)
    assert entry.hints["layer"] == sha256(sif.read_bytes())


def test_an_image_that_is_not_there(machine, shared_registry):
    assert not machine.both(f"docker://{shared_registry.host}/no/such:1.0")
    answer = machine.resolve(f"docker://{shared_registry.host}/no/such:1.0")
    assert isinstance(answer, FreshnessError)
    assert "no repository" in answer.message
