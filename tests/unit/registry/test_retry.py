import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    NameNotFound,
    ProxyRefused,
    RateLimited,
    ServerFailed,
    TimedOut,
    TLSFailed,
)
from snakemake_apptainer_freshness.registry import retry, urls
from snakemake_apptainer_freshness.registry.retry import Budget, RetryPolicy, Stopped
from snakemake_apptainer_freshness.registry.transport import ConnectTimedOut, HttpResponse
from snakemake_apptainer_freshness.settings import Limits

URL = urls.parse("https://registry.example/")
LIMITS = Limits(attempts=3, backoff=0.001, retry_after=5, run_budget=1)


class Script:
    """Answers with one thing after the other: a status, or an error."""

    def __init__(self, *steps, **headers):
        self.steps = list(steps)
        self.headers = {key.replace("_", "-"): value for key, value in headers.items()}
        self.count = 0

    def __call__(self):
        self.count += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return HttpResponse(status=step, url=URL, headers=self.headers)


@pytest.mark.parametrize("failure", [ConnectionFailed("x"), 429, 500, 503], ids=str)
def test_what_may_pass_is_asked_again(failure):
    script = Script(failure, 200)
    assert RetryPolicy(LIMITS).ask(URL.origin, script).status == 200
    assert script.count == 2


@pytest.mark.parametrize(
    "failure",
    [TimedOut("x"), ConnectTimedOut("x"), TLSFailed("x"), NameNotFound("x"), ProxyRefused("x"), DamagedAnswer("x")],
    ids=repr,
)
def test_what_stays_wrong_is_not_asked_again(failure):
    script = Script(failure)
    with pytest.raises(type(failure)):
        RetryPolicy(LIMITS).ask(URL.origin, script)
    assert script.count == 1


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 410])
def test_other_answers_are_answers(status):
    script = Script(status)
    assert RetryPolicy(LIMITS).ask(URL.origin, script).status == status
    assert script.count == 1


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, ServerFailed)])
def test_attempts_are_counted(status, error):
    script = Script(status)
    with pytest.raises(error):
        RetryPolicy(LIMITS).ask(URL.origin, script)
    assert script.count == LIMITS.attempts


def waits(monkeypatch, script, limits=LIMITS):
    """How long a patience would have waited before each attempt."""
    slept = []
    monkeypatch.setattr(RetryPolicy, "_sleep", lambda _, seconds: slept.append(seconds) if seconds > 0 else None)
    with contextlib.suppress(RateLimited, ServerFailed):
        RetryPolicy(limits).ask(URL.origin, script)
    return slept


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(monkeypatch, status):
    assert max(waits(monkeypatch, Script(status, 200, retry_after="1"))) >= 0.99


def test_retry_after_may_be_a_date(monkeypatch):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1.9), usegmt=True)
    assert 0 < max(waits(monkeypatch, Script(503, 200, retry_after=date), LIMITS._replace(run_budget=10))) < 2


def test_a_retry_after_beyond_the_cap_ends_the_matter(monkeypatch):
    script = Script(429, retry_after="6")
    assert waits(monkeypatch, script) == []
    assert script.count == 1


def test_a_wait_beyond_the_budget_ends_the_matter(monkeypatch):
    script = Script(429, retry_after="2")
    assert waits(monkeypatch, script) == []
    assert script.count == 1


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "9" * 400, "Mon, 99 Jan 2024 00:00:00 GMT", "\x00"])
def test_a_retry_after_that_is_not_understood_says_nothing(value):
    assert retry._retry_after(value) == 0


def test_a_host_that_failed_for_good_is_not_asked_again_soon():
    one, two = Script(ConnectionFailed("dead")), Script(200)
    mind = RetryPolicy(LIMITS)
    for script in (one, two):
        with pytest.raises(ConnectionFailed, match="dead"):
            mind.ask(URL.origin, script)
    assert (one.count, two.count) == (LIMITS.attempts, 0)
    assert mind.ask(urls.parse("https://other.example/").origin, two).status == 200


def test_a_host_that_says_nothing_is_given_up_for_all_questions():
    one, two = Script(TimedOut("silent")), Script(200)
    mind = RetryPolicy(LIMITS)
    for script in (one, two):
        with pytest.raises(TimedOut, match="silent"):
            mind.ask(URL.origin, script)
    assert (one.count, two.count) == (1, 0)


def test_a_question_that_a_host_left_open_while_it_answered_others_is_asked_again():
    mind, slow = RetryPolicy(LIMITS), Script(TimedOut("slow"), 200)

    def answer_another_first():
        if slow.count == 0:
            assert mind.ask(URL.origin, Script(200)).status == 200
        return slow()

    assert mind.ask(URL.origin, answer_another_first).status == 200
    assert slow.count == 2
    assert mind.ask(URL.origin, Script(200)).status == 200


def test_a_broken_repository_does_not_make_a_broken_host():
    mind = RetryPolicy(LIMITS)
    with pytest.raises(ServerFailed):
        mind.ask(URL.origin, Script(500))
    assert mind.ask(URL.origin, Script(200)).status == 200


def test_stopping_ends_a_wait_at_once():
    mind = RetryPolicy(Limits(backoff=30, retry_after=60, run_budget=60))
    threading.Timer(0.05, mind.stop).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        mind.ask(URL.origin, Script(503))
    assert time.monotonic() - started < 1


def test_waiting_at_the_same_time_is_counted_once():
    now = 0.0
    budget = Budget(10, clock=lambda: now)
    with budget:
        now = 1
        with budget:
            now = 3
        now = 4
    assert budget.left() == 6
    now = 100
    assert budget.left() == 6
    with budget:
        now = 101
        assert budget.left() == 5


def test_the_limit_is_told_in_words():
    hub = urls.parse("https://registry-1.docker.io/").origin
    with pytest.raises(RateLimited, match=r"100 requests in 6 h") as error:
        RetryPolicy(LIMITS).ask(hub, Script(429, retry_after="99", ratelimit_limit="100;w=21600"))
    assert "docker://docker.io" in error.value.hint
