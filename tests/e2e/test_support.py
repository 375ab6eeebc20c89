"""The ground that the end-to-end tests stand on: real registry, real Apptainer, images from the builder."""

import random
import re
import subprocess
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.support import images, layers, programs
from tests.support.images import Image, Index
from tests.support.layers import Layer
from tests.support.registry import RealRegistry, RegistryError, TokenAuth, self_signed


@pytest.fixture
def registry(tmp_path):
    with RealRegistry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def apptainer(tmp_path):
    """Runs Apptainer with a home folder of its own; returns what it printed."""
    home = tmp_path / "home"
    home.mkdir()
    settings = programs.environment(home) | {"APPTAINER_NOHTTPS": "1"}

    def run(*arguments, **variables):
        command = [programs.find("apptainer"), *map(str, arguments)]
        result = subprocess.run(
            command, env=settings | variables, capture_output=True, text=True, check=False, timeout=60
        )
        if result.returncode:
            raise AssertionError(f"apptainer {arguments} failed:\n{result.stderr}")
        return result.stdout

    return run


def small(text="content"):
    return Image(layers=(Layer.of({"file": text}),))


def test_an_image_pulled_by_tag_runs_in_bash_and_by_itself(registry, apptainer, tmp_path):
    images.push(images.tiny_image("hello"), registry.host, "team/tool", "1.0")
    sif = tmp_path / "tool.sif"

    apptainer("pull", sif, f"docker://{registry.host}/team/tool:1.0")

    assert (
        apptainer("exec", *programs.apptainer_args(), sif, "bash", "-c", "set -euo pipefail; cat /message") == "hello\n"
    )
    assert apptainer("run", *programs.apptainer_args(), sif) == "hello\n"


def test_an_image_pulled_by_digest_stays_when_its_tag_moves(registry, apptainer, tmp_path):
    digest = images.push(images.tiny_image("original"), registry.host, "team/tool", "1.0")
    moved = images.push(images.tiny_image("changed"), registry.host, "team/tool", "1.0")
    sif = tmp_path / "tool.sif"

    apptainer("pull", sif, f"docker://{registry.host}/team/tool@{digest}")

    assert moved != digest
    assert apptainer("exec", sif, "cat", "/message") == "original\n"


def test_this_machines_image_is_taken_out_of_an_index(registry, apptainer, tmp_path):
    here = images.tiny_image("native")
    other = "arm64" if here.architecture == "amd64" else "amd64"
    foreign = images.tiny_image("foreign", architecture=other)
    index = Index(manifests=(foreign, here, images.attestation(here)))
    images.push(index, registry.host, "team/tool", "1.0")
    sif = tmp_path / "tool.sif"

    apptainer("pull", sif, f"docker://{registry.host}/team/tool:1.0")

    assert apptainer("exec", sif, "cat", "/message") == "native\n"


def test_a_docker_schema_2_image_runs(registry, apptainer, tmp_path):
    image = images.tiny_image("docker", docker=True)
    images.push(image, registry.host, "team/tool", "1.0")
    sif = tmp_path / "tool.sif"

    apptainer("pull", sif, f"docker://{registry.host}/team/tool:1.0")

    assert image.media_type == images.DOCKER_MANIFEST
    assert apptainer("exec", sif, "cat", "/message") == "docker\n"


def test_labels_arrive_in_the_sif(registry, apptainer, tmp_path):
    images.push(images.tiny_image(labels={"org.test.kind": "tiny"}), registry.host, "team/tool", "1.0")
    sif = tmp_path / "tool.sif"

    apptainer("pull", sif, f"docker://{registry.host}/team/tool:1.0")

    assert "org.test.kind: tiny" in apptainer("inspect", sif)


def test_the_registry_serves_the_bytes_that_were_built(registry):
    index = images.multi_arch(small(), "riscv64", attested=True)
    digest = images.push(index, registry.host, "team/tool", "1.0")

    answer = httpx.get(f"{registry.url}/v2/team/tool/manifests/1.0", headers={"Accept": images.OCI_INDEX})

    assert (answer.content, answer.headers["Docker-Content-Digest"]) == (index.manifest, digest)
    assert registry.digest("team/tool", "1.0") == digest


def test_crane_and_oras_agree_on_the_digest(registry):
    digest = images.push(small(), registry.host, "team/tool", "1.0")

    for command in (["crane", "digest"], ["oras", "resolve", "--plain-http"]):
        said = subprocess.run(
            [programs.find(command[0]), *command[1:], f"{registry.host}/team/tool:1.0"],
            env=programs.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == digest


def test_an_unplugged_registry_refuses_and_comes_back_with_what_it_held(registry):
    digest = images.push(small(), registry.host, "team/tool", "1.0")
    host = registry.host

    registry.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{registry.url}/v2/")
    registry.start()

    assert registry.host == host
    assert registry.digest("team/tool", "1.0") == digest


def test_the_access_log_says_who_asked_for_what_and_when(registry):
    httpx.head(f"{registry.url}/v2/team/tool/manifests/1.0?x=1", headers={"User-Agent": "a test/1 (x)"})

    (request,) = registry.requests()

    assert (request.method, request.path, request.query) == ("HEAD", "/v2/team/tool/manifests/1.0", "x=1")
    assert (request.status, request.user_agent) == (404, "a test/1 (x)")
    assert abs(datetime.now(UTC) - request.time) < timedelta(minutes=1)


def test_the_access_log_can_be_cleared_and_survives_a_restart(registry):
    httpx.get(f"{registry.url}/v2/one/tags/list")
    registry.clear()
    httpx.get(f"{registry.url}/v2/two/tags/list")
    registry.stop()
    registry.start()
    httpx.get(f"{registry.url}/v2/three/tags/list")

    assert [request.path for request in registry.requests()] == ["/v2/two/tags/list", "/v2/three/tags/list"]


def test_every_request_answered_so_far_stands_in_the_log(registry):
    for number in range(1, 40):
        httpx.get(f"{registry.url}/v2/repo/tags/list?n={number}")
        assert len(registry.requests()) == number


def test_a_large_answer_stands_in_the_log_too(registry):
    layer = Layer.raw(random.Random(0).randbytes(8_000_000), layers.OCI_LAYER)
    images.push(Image(layers=(layer,)), registry.host, "team/tool", "1.0")
    registry.clear()

    for number in range(1, 10):
        httpx.get(f"{registry.url}/v2/team/tool/blobs/{layer.digest}")
        assert len(registry.requests()) == number


def test_a_deleted_manifest_is_gone_with_its_tag(registry):
    digest = images.push(small(), registry.host, "team/tool", "1.0")

    registry.delete("team/tool", "1.0")

    for reference in ("1.0", digest):
        assert httpx.head(f"{registry.url}/v2/team/tool/manifests/{reference}").status_code == 404


def test_an_untagged_manifest_is_still_served_by_digest(registry):
    digest = images.push(small(), registry.host, "team/tool", "1.0")

    registry.untag("team/tool", "1.0")

    accept = {"Accept": images.OCI_MANIFEST}
    assert httpx.head(f"{registry.url}/v2/team/tool/manifests/1.0", headers=accept).status_code == 404
    assert httpx.head(f"{registry.url}/v2/team/tool/manifests/{digest}", headers=accept).status_code == 200


def test_a_registry_with_passwords_lets_in_who_has_one(tmp_path, apptainer):
    with RealRegistry(tmp_path / "registry", htpasswd={"ada": "s3cret"}) as registry:
        reference = f"docker://{registry.host}/team/tool:1.0"
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            images.push(small(), registry.host, "team/tool", "1.0")
        images.push(images.tiny_image(), registry.host, "team/tool", "1.0", auth=registry.auth)

        with pytest.raises(AssertionError, match="authentication"):
            apptainer("pull", tmp_path / "refused.sif", reference)
        apptainer(
            "pull",
            tmp_path / "tool.sif",
            reference,
            APPTAINER_DOCKER_USERNAME="ada",
            APPTAINER_DOCKER_PASSWORD="s3cret",
        )

        asked = {request.status for request in registry.requests() if request.path.endswith("/manifests/1.0")}
        assert {200, 401} <= asked
        registry.delete("team/tool", "1.0")


def test_a_registry_that_wants_tokens_says_where_they_are(tmp_path):
    certificate, _key = self_signed(tmp_path)
    token = TokenAuth(realm="http://127.0.0.1:1/token", service="tests", issuer="tests", rootcertbundle=certificate)
    with RealRegistry(tmp_path / "registry", token=token) as registry:
        answer = httpx.get(f"{registry.url}/v2/team/tool/manifests/1.0")

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="http://127.0.0.1:1/token",service="tests",scope="repository:team/tool:pull"'
    )


def test_a_registry_with_a_certificate_speaks_https(tmp_path):
    certificate, key = self_signed(tmp_path)
    context = httpx.create_ssl_context(verify=str(certificate))
    with RealRegistry(tmp_path / "registry", tls=(certificate, key)) as registry:
        digest = images.push(small(), registry.host, "team/tool", "1.0", scheme="https", verify=context)

        assert registry.url.startswith("https://")
        assert registry.digest("team/tool", "1.0") == digest


def test_a_registry_that_cannot_start_says_why(tmp_path):
    broken = tmp_path / "no-certificate.pem"

    with pytest.raises(RegistryError, match=r"no-certificate\.pem"):
        RealRegistry(tmp_path / "registry", tls=(broken, broken)).start()


def test_a_registry_is_gone_when_a_test_fails(tmp_path):
    def failing_test():
        with RealRegistry(tmp_path / "registry") as registry:
            urls.append(registry.url)
            raise RuntimeError("the test failed")

    urls = []
    with pytest.raises(RuntimeError):
        failing_test()

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls[0]}/v2/")


def test_the_tiny_image_is_small_and_its_system_is_built_once():
    image, other = images.tiny_image("one"), images.tiny_image("another")

    assert sum(map(len, image.blobs)) < 4_000_000
    assert image.layers[0] is other.layers[0]


def test_a_missing_program_names_the_way_to_get_it():
    with pytest.raises(programs.MissingProgram, match=re.escape("no-such-program") + ".*make tools"):
        programs.find("no-such-program")


def test_a_developers_own_settings_do_not_reach_the_real_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("APPTAINER_DOCKER_PASSWORD", "private")
    monkeypatch.setenv("DOCKER_PASSWORD", "private")

    settings = programs.environment(tmp_path)

    assert "private" not in settings.values()
    assert settings["APPTAINER_CONFIGDIR"].startswith(str(tmp_path))
