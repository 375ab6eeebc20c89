"""Secrets that must never be seen: in no log line of any level, no error, no traceback, no output."""

import base64
import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import credentials
from snakemake_apptainer_freshness.registry.challenge import Login
from tests.support import attacks
from tests.support.attacks import MANIFESTS, challenge, honest
from tests.support.certificates import authority
from tests.support.lab import PASSWORD, Lab
from tests.support.proxy import Proxy
from tests.support.replies import Reply
from tests.support.simulator import Simulator

CANARIES = (
    PASSWORD,
    base64.b64encode(f"alice:{PASSWORD}".encode()).decode(),
    base64.b64encode(PASSWORD.encode()).decode(),
)


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def everything_logged(caplog):
    """The root logger at its lowest level, with all below it that have none of their own.

    Those of the libraries that we silence are left alone: they may be imported only by the first test.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(1)
    caplog.set_level(1)
    yield caplog
    root.setLevel(level)


def token_with_canary(lab):
    registry, reference = honest(lab, auth="token", users={"alice": PASSWORD})
    lab.log_in(registry.host)
    return lab.ask(reference)


def refused_login(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": "another"})
    lab.log_in(registry.host)
    return lab.ask(reference)


def refused_token(lab):
    registry, reference = honest(lab, auth="token", users={"alice": "another"})
    lab.log_in(registry.host)
    return lab.ask(reference)


def foreign_realm(lab):
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, challenge(thief.url + "/token"))
    return lab.ask(reference)


def login_of_the_environment(lab):
    _, reference = honest(lab, auth="basic", users={"alice": "another"})
    lab.environ |= {"DOCKER_USERNAME": "alice", "DOCKER_PASSWORD": PASSWORD}
    return lab.ask(reference)


def identity_token(lab):
    registry, reference = honest(lab, auth="token", users={"alice": "another"})
    lab.write_logins({"auths": {registry.host: {"identitytoken": PASSWORD}}})
    return lab.ask(reference)


def registry_token(lab):
    registry, reference = honest(lab, auth="token")
    lab.write_logins({"auths": {registry.host: {"registrytoken": PASSWORD}}})
    return lab.ask(reference)


def token_service_that_echoes(lab):
    """The answer that is not understood has the secret in it."""
    registry, reference = honest(lab, auth="token", users={"alice": PASSWORD})
    lab.log_in(registry.host)
    registry.answer("/token", Reply(body=f'{{"token": ["{PASSWORD}"]}}'.encode()))
    return lab.ask(reference)


def registry_that_echoes(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    lab.log_in(registry.host)
    body = f'{{"errors": [{{"code": "{PASSWORD}", "message": "{PASSWORD}"}}]}}'.encode()
    registry.answer(MANIFESTS, lambda request: Reply(status=400, body=body) if request.authorization else None)
    return lab.ask(reference)


def redirect_with_a_signature(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, attacks.redirect(f"http://elsewhere.example/x?X-Amz-Signature={PASSWORD}"))
    return lab.ask(reference)


def helper_that_prints_the_secret_to_stderr(lab):
    lab.helper("leaky", f"echo {PASSWORD} >&2; exit 1")
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    lab.write_logins({"credHelpers": {registry.host: "leaky"}})
    return lab.ask(reference)


def helper_that_prints_the_secret_and_nonsense(lab):
    lab.helper("leaky", f"echo 'password: {PASSWORD}'")
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    lab.write_logins({"credHelpers": {registry.host: "leaky"}})
    return lab.ask(reference)


def login_file_that_is_not_understood(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    lab.write_logins({"auths": {registry.host: {"auth": PASSWORD}}})
    return lab.ask(reference)


def proxy_that_refuses(lab):
    registry, reference = honest(lab)
    with Proxy({"registry.example": registry.port}, login=("alice", "right")) as proxy:
        lab.environ["HTTPS_PROXY"] = proxy.url(("alice", PASSWORD))
        return lab.ask(reference)


def proxy_of_an_unknown_kind(lab):
    _, reference = honest(lab)
    lab.environ["HTTPS_PROXY"] = f"socks5://alice:{PASSWORD}@127.0.0.1:1"
    return lab.ask(reference)


SCENES = [
    token_with_canary,
    refused_login,
    refused_token,
    foreign_realm,
    login_of_the_environment,
    identity_token,
    registry_token,
    token_service_that_echoes,
    registry_that_echoes,
    redirect_with_a_signature,
    helper_that_prints_the_secret_to_stderr,
    helper_that_prints_the_secret_and_nonsense,
    login_file_that_is_not_understood,
    proxy_that_refuses,
    proxy_of_an_unknown_kind,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_no_canary_in_logs_errors_or_tracebacks(scene, lab, everything_logged, capfd):
    answer = scene(lab)
    seen = [record.getMessage() for record in everything_logged.records]
    seen += [repr(answer), str(answer), *capfd.readouterr()]
    if isinstance(answer, FreshnessError):
        seen += ["".join(traceback.format_exception(answer)), answer.hint]
    text = "\n".join(seen)
    assert not [canary for canary in CANARIES if canary in text]
    assert isinstance(answer, Entry) == (scene is token_with_canary)


def test_the_values_that_hold_secrets_do_not_show_them():
    login = Login(username="alice", password=PASSWORD, identity_token=PASSWORD, registry_token=PASSWORD)
    file = credentials.LoginFile(auths={"registry.example": login})
    assert PASSWORD not in repr(login) + repr(file) + str(login)


def test_no_canary_in_the_output_of_the_command(tmp_path):
    with Simulator(tls=authority(), auth="basic", users={"alice": "another"}) as registry:
        auth = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
        logins = tmp_path / "auth.json"
        logins.write_text(f'{{"auths": {{"{registry.host}": {{"auth": "{auth}"}}}}}}', encoding="utf-8")
        environ = {
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SSL_CERT_FILE": str(authority().certificate),
            "APPTAINER_AUTH_FILE": str(logins),
        }
        command = "from snakemake_apptainer_freshness.cli import main; main()"
        for options in ([], ["--json"]):
            result = subprocess.run(
                [sys.executable, "-c", command, "resolve", *options, f"docker://{registry.host}/team/tool:1"],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 3
            assert "refused the login" in result.stderr
            assert not [canary for canary in CANARIES if canary in result.stdout + result.stderr]
