import threading
import time

import pytest

from snakemake_apptainer_freshness.errors import RateLimited
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.registry.retry import TOO_LONG, Allowance, QuotaExhausted, QuotaHeader, read
from tests.support.attacks import honest
from tests.support.lab import QUICK, manifest
from tests.support.replies import Reply

POLL = 0.02


def headers(left, **more):
    return {"ratelimit-remaining": str(left), **{f"ratelimit-{key}": str(value) for key, value in more.items()}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, None),
        ({"ratelimit-limit": "100;w=21600"}, None),
        (headers("76;w=21600", limit="100;w=21600"), QuotaHeader(left=76, reset=TOO_LONG, whole=100)),
        (headers(0, reset=7), QuotaHeader(left=0, reset=7.0, whole=None)),
        (
            headers(3, limit=10, reset=1_900_000_000),
            QuotaHeader(left=3, reset=TOO_LONG, whole=10),
        ),  # a date, not seconds
        (headers("-1"), None),
        (headers("9" * 30), None),
        (headers(1, limit="many", reset="soon"), QuotaHeader(left=1, reset=TOO_LONG, whole=None)),
    ],
)
def test_what_headers_say(given, told):
    assert read(given) == told


def test_nothing_is_assumed_of_a_host_that_says_nothing():
    allowance = Allowance()
    assert [allowance.take(POLL) for _ in range(100)] == [0] * 100


def test_no_more_are_under_way_than_are_left():
    allowance = Allowance()
    allowance.hear(headers(2))
    assert [allowance.take(POLL) for _ in range(3)] == [0, 0, POLL]
    allowance.hear(headers(1))
    allowance.give_back()
    assert allowance.take(POLL) == POLL


def test_when_none_is_left_the_reset_is_waited_for():
    now = [100.0]
    allowance = Allowance(lambda: now[0])
    allowance.hear(headers(0, limit=2, reset=7))
    assert allowance.take(POLL) == 7
    now[0] += 7
    assert [allowance.take(POLL) for _ in range(3)] == [0, 0, POLL]


def limited(registry, whole, *, window=0.0):
    """Let `registry` allow `whole` manifests (in `window` seconds, which it then says), and refuse any more."""
    lock, begun, used = threading.Lock(), [time.monotonic()], [0]

    def answer(request):
        with lock:
            if window and time.monotonic() - begun[0] >= window:
                begun[0], used[0] = time.monotonic(), 0
            used[0] += request.method == "GET"
            left = max(0, whole - used[0])
            told = [("RateLimit-Limit", f"{whole};w=21600"), ("RateLimit-Remaining", str(left))]
            if window:
                told.append(("RateLimit-Reset", "1"))
            if used[0] > whole:
                return Reply(status=429, headers=told)
            reply = registry._registry(request)
            return Reply(status=reply.status, headers=[*reply.headers, *told], body=reply.body)

    registry.answer("/v2/", answer)


def images(lab, count):
    registry, _ = honest(lab)
    for number in range(count):
        registry.publish(f"team/tool{number}", "1", manifest(number))
    return registry, [f"docker://{registry.host}/team/tool{number}:1" for number in range(count)]


def test_a_registry_is_not_asked_beyond_its_limit(lab):
    registry, texts = images(lab, 40)
    limited(registry, 12)
    answers = lab.ask_all(*texts)
    entries = [answer for answer in answers.values() if isinstance(answer, Entry)]
    errors = [answer for answer in answers.values() if isinstance(answer, RateLimited)]
    assert (len(entries), len(errors)) == (12, 28)
    assert all("its limit is 12 requests in 6 h" in str(error) and "registry login" in str(error) for error in errors)
    assert len(registry.asked(method="GET")) == 12


def test_what_is_not_counted_is_still_asked(lab):
    registry, texts = images(lab, 4)
    entries = list(lab.ask_all(*texts).values())
    limited(registry, 0)
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        assert {fact.state for _, fact in resolver.check(entries)} == {RemoteState.CURRENT}  # and so it is known
        registry.clear()
        assert {type(answer) for _, answer in resolver.resolve(map(parse, texts))} == {QuotaExhausted}
        assert {fact.state for _, fact in resolver.check(entries)} == {RemoteState.CURRENT}
    assert {request.method for request in registry.requests} == {"HEAD"}


def test_a_reset_that_is_near_is_waited_for(lab):
    lab.limits = QUICK._replace(retry_after=2.0, run_budget=5.0)
    registry, texts = images(lab, 20)
    limited(registry, 12, window=0.9)
    answers = lab.ask_all(*texts)
    assert {type(answer) for answer in answers.values()} == {Entry}
    assert len(registry.asked(method="GET")) == 20
