"""What breaks, stalls or overloads: each ends soon, with an error that says what it was."""

import json
import time
from unittest import mock

import pytest

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    FreshnessError,
    NameNotFound,
    ProxyRefused,
    RateLimited,
    RegistryError,
    ServerFailed,
    TimedOut,
    TLSFailed,
    Unauthorized,
)
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support.attacks import MANIFESTS, REPOSITORY, honest
from tests.support.lab import PASSWORD, QUICK, Lab, manifest
from tests.support.proxy import Proxy
from tests.support.replies import Reply


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as lab:
        yield lab


def test_a_429_storm_costs_few_requests_and_names_the_limit(lab):
    registry, _ = honest(lab)
    headers = [("Retry-After", "0"), ("RateLimit-Limit", "100;w=21600")]
    registry.answer("/v2/", Reply(status=429, headers=headers))
    answers = lab.ask_all(*[f"docker://{registry.host}/team/tool{number}:1" for number in range(100)])
    assert {type(answer) for answer in answers.values()} == {RateLimited}
    assert all("100 requests in 6 h" in str(answer) and "registry login" in str(answer) for answer in answers.values())
    assert len(registry.requests) <= QUICK.attempts * QUICK.concurrency


def test_a_retry_after_that_is_too_long_is_not_waited_for(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(status=429, headers=[("Retry-After", "3600")]))
    started = time.monotonic()
    assert isinstance(lab.ask(reference), RateLimited)
    assert len(registry.requests) == 1
    assert time.monotonic() - started < 0.5


def test_a_5xx_that_passes_is_waited_for(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(status=503), times=2)
    assert isinstance(lab.ask(reference), Entry)


def test_a_5xx_that_stays_ends_after_a_few_attempts(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(status=500))
    assert isinstance(lab.ask(reference), ServerFailed)
    assert len(registry.requests) == QUICK.attempts


def test_one_flapping_repository_does_not_hide_the_others(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/team/broken", Reply(status=500))
    answers = lab.ask_all(f"docker://{registry.host}/team/broken:1", reference)
    assert [type(answer) for answer in answers.values()].count(Entry) == 1


def test_a_reset_in_the_middle_of_the_body_is_asked_again(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=manifest(), cut=20, reset=True), method="GET", times=1)
    assert isinstance(lab.ask(reference), Entry)


def test_a_reset_before_the_answer_is_asked_again(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(reset=True), times=2)
    assert isinstance(lab.ask(reference), Entry)


def test_a_body_that_is_always_cut_in_the_middle_is_no_answer(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=manifest(), cut=20), method="GET")
    assert isinstance(lab.ask(reference), ConnectionFailed)


def test_a_content_length_that_is_too_long_is_no_answer(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=manifest(), length=100_000), method="GET")
    assert isinstance(lab.ask(reference), ConnectionFailed)


def test_a_content_length_that_is_too_short_is_noticed(lab):
    registry, reference = honest(lab)
    headers = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")]
    registry.answer(MANIFESTS, Reply(headers=headers, body=manifest(), length=20), method="GET")
    assert isinstance(lab.ask(reference), DamagedAnswer)


def test_a_host_that_accepts_and_never_answers_is_not_waited_for_long(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(hang=True))
    started = time.monotonic()
    assert isinstance(lab.ask(reference), TimedOut)
    assert time.monotonic() - started < 1
    assert len(registry.requests) == 1


def test_a_dead_registry_costs_the_patience_for_one_image(lab):
    lab.names["dead.example"] = ["9.9.9.99"]
    lab.limits = QUICK._replace(retry_after=30.0)  # it stays dead for the whole test, however slow the machine is
    answers = lab.ask_all(*[f"docker://dead.example/team/tool{number}:1" for number in range(200)])
    assert {type(answer) for answer in answers.values()} == {ConnectionFailed}
    assert len(lab.connected) <= QUICK.attempts * QUICK.concurrency


def test_the_budget_of_waiting_is_one_for_the_whole_run(lab):
    registry, _ = honest(lab)
    registry.answer("/v2/", Reply(status=500))
    lab.limits = QUICK._replace(backoff=0.1, run_budget=0.15)
    answers = lab.ask_all(*[f"docker://{registry.host}/team/tool{number}:1" for number in range(40)])
    assert {type(answer) for answer in answers.values()} == {ServerFailed}
    assert len(registry.requests) < 2 * len(answers)  # each could be asked for four times


def test_a_registry_that_cannot_be_asked_is_reported_as_unreachable(lab):
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    registry.answer("/v2/", Reply(status=503))
    fact = lab.check(entry)
    assert fact.state is RemoteState.UNREACHABLE
    assert "status 503" in fact.detail
    assert "\n" not in fact.detail


def test_a_clock_set_back_does_not_keep_a_token_alive(lab):
    registry, reference = honest(lab, auth="token")
    registry.token_lifetime = 0.2
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:
        list(resolver.resolve([parse(reference)]))
        with mock.patch("time.time", return_value=time.time() - 3600):
            time.sleep(0.15)
            list(resolver.resolve([parse(reference)]))
    assert len(registry.asked("/token")) == 2


def test_a_token_is_reused_while_it_lives(lab):
    registry, reference = honest(lab, auth="token")
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:
        for _ in range(3):
            list(resolver.resolve([parse(reference)]))
    assert len(registry.asked("/token")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"token",
        b"\xff",
        b'{"token": 1}',
        b'{"token": null}',
        b'{"token": ["x"]}',
        b'{"token": ""}',
        b'{"access_token": {}}',
        b"[" * 50_000,
    ],
)
def test_a_token_answer_of_the_wrong_type_is_refused(lab, body):
    registry, reference = honest(lab, auth="token")
    registry.answer("/token", Reply(body=body))
    assert isinstance(lab.ask(reference), DamagedAnswer)


@pytest.mark.parametrize("expiry", [None, 0, -5, "soon", True, [], 1e400, float("nan")])
def test_a_token_without_a_usable_expiry_is_used(lab, expiry):
    registry, reference = honest(lab, auth="token")
    registry.token_lifetime = expiry
    assert isinstance(lab.ask(reference), Entry)
    assert len(registry.asked("/token")) == 1


@pytest.mark.parametrize(
    "challenge",
    [
        "Bearer " + "x" * 20_000,
        "Bearer realm=",
        'Bearer realm="',
        'Bearer realm="unclosed',
        'Bearer service="x"',
        'Bearer realm=""',
        'Bearer realm="not a url"',
        'Bearer realm="https://"',
        'Bearer realm="https://a/",realm="https://b/"',
        'Bearer realm="ftp://registry.example/"',
        'Bearer realm="https://registry.example:99999/"',
        'Bearer realm="file:///etc/passwd"',
        ",,,,",
        "",
        "Negotiate",
        '=" ',
        "Bearer " + 'a="b",' * 1000,
    ],
)
def test_a_huge_or_malformed_challenge_ends_the_matter(lab, challenge):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(status=401, headers=[("WWW-Authenticate", challenge)]))
    assert isinstance(lab.ask(reference), RegistryError)
    assert len(registry.requests) == 1


@pytest.mark.parametrize(
    "raw", [b"garbage\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000]
)
def test_an_answer_that_is_not_http_is_damaged(lab, raw):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(raw=raw))
    assert isinstance(lab.ask(reference), DamagedAnswer)


def test_a_name_that_does_not_resolve_says_so(lab):
    assert isinstance(lab.ask("docker://nobody.example/x:1"), NameNotFound)


def test_plain_http_where_https_is_expected_says_what_to_set(lab):
    registry = lab.registry("registry.example", tls=False)
    del lab.environ["APPTAINER_NOHTTPS"]
    answer = lab.ask(f"docker://{registry.host}/x:1")
    assert isinstance(answer, TLSFailed)
    assert "APPTAINER_NOHTTPS" in str(answer)


def test_a_certificate_that_nobody_trusts_is_refused(lab):
    _, reference = honest(lab)
    del lab.environ["SSL_CERT_FILE"]
    answer = lab.ask(reference)
    assert isinstance(answer, TLSFailed)
    assert "SSL_CERT_FILE" in str(answer)


def test_a_certificate_for_another_name_is_refused(lab):
    registry, _ = honest(lab)
    lab.at("9.9.9.50", registry, "other.example")
    assert isinstance(lab.ask(f"docker://other.example/{REPOSITORY}:1"), TLSFailed)


def test_a_proxy_with_a_password_gets_it_and_nobody_else_does(lab):
    registry, reference = honest(lab)
    login = ("proxyuser", PASSWORD)
    with Proxy({"registry.example": registry.port}, login=login) as proxy:
        lab.environ["HTTPS_PROXY"] = proxy.url(login)
        assert isinstance(lab.ask(reference), Entry)
        assert proxy.targets
    assert not lab.saw_secret(registry)
    assert not any(key.startswith("proxy-") for request in registry.requests for key in request.headers)


def test_a_proxy_that_refuses_the_password_is_named_without_it(lab):
    registry, reference = honest(lab)
    with Proxy({"registry.example": registry.port}, login=("proxyuser", "right")) as proxy:
        lab.environ["HTTPS_PROXY"] = proxy.url(("proxyuser", PASSWORD))
        answer = lab.ask(reference)
    assert isinstance(answer, ProxyRefused)
    assert PASSWORD not in repr(answer) + str(answer)


def test_a_proxy_for_plain_http_that_refuses_the_password_is_named_without_it(lab):
    registry, reference = honest(lab, tls=False)
    with Proxy({"registry.example": registry.port}, login=("proxyuser", "right")) as proxy:
        lab.environ["HTTP_PROXY"] = proxy.url(("proxyuser", PASSWORD))
        answer = lab.ask(reference)
    assert isinstance(answer, ProxyRefused)
    assert PASSWORD not in repr(answer) + str(answer)


def test_an_absent_repository_and_a_hidden_one_look_the_same(lab):
    registry, reference = honest(lab)
    header = f'Bearer realm="{registry.url}/token",service="simulator"'
    registry.answer(MANIFESTS, Reply(status=401, headers=[("WWW-Authenticate", header)]))
    answer = lab.ask(reference)
    assert isinstance(answer, Unauthorized)
    assert "does not exist, or needs a login" in str(answer)


def test_a_login_that_is_refused_is_named_and_no_other_is_looked_for(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": "another"})
    lab.log_in(registry.host)
    answer = lab.ask(reference)
    assert isinstance(answer, Unauthorized)
    assert "refused the login from" in answer.message
    assert answer.hint == f"log in: apptainer registry login --username NAME docker://{registry.host}"


def test_closing_does_not_wait_for_a_registry_that_hangs(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/", Reply(hang=True))
    patient = QUICK._replace(read_timeout=30, answer_timeout=30)
    started = time.monotonic()
    with Resolver(environ=lab.environ, limits=patient) as resolver:
        resolver.resolve([parse(reference)])
        while not registry.requests:
            time.sleep(0.005)
    assert time.monotonic() - started < 1


def test_every_error_of_a_fault_is_one_of_ours(lab):
    registry, reference = honest(lab)
    for reply in (Reply(status=418), Reply(status=302), Reply(status=204), Reply(body=json.dumps({}).encode())):
        registry.answer("/v2/", reply, times=4)
        assert isinstance(lab.ask(reference), FreshnessError | Entry)
