import socket
import subprocess
import sys
import threading
import time

import pytest

from snakemake_apptainer_freshness.common import environment
from snakemake_apptainer_freshness.errors import FreshnessError, NotFound, Offline
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import resolver as module
from snakemake_apptainer_freshness.registry.network import Network
from snakemake_apptainer_freshness.registry.resolver import Resolver
from tests.support.attacks import REPOSITORY, honest
from tests.support.lab import QUICK
from tests.support.pins import lock_entry
from tests.support.replies import Reply


@pytest.fixture
def served(lab):
    return honest(lab)


def test_one_failure_hides_no_other_answer(lab, served):
    registry, reference = served
    texts = [reference, reference + "0", f"docker://{registry.host}/no/such:1", "shub://x/y", "library://a/b/c"]
    answers = lab.ask_all(*texts)
    assert set(answers) == set(texts)
    assert [text for text, answer in answers.items() if isinstance(answer, Entry)] == [reference]
    assert len({answer.message for answer in answers.values() if isinstance(answer, FreshnessError)}) == 4


def test_what_means_the_same_is_asked_for_once(lab, served):
    registry, reference = served
    hub, _ = honest(lab, "registry-1.docker.io")
    hub.publish("library/alpine", "latest", b"x")
    lab.ask_all("docker://alpine", "docker://alpine:latest", "docker://docker.io/library/alpine", reference, reference)
    assert len(hub.requests) == 1
    assert len(registry.requests) == 1


def test_each_text_gets_an_entry_of_its_own(lab):
    honest(lab, "registry-1.docker.io")
    answers = lab.ask_all(f"docker://{REPOSITORY}:1", f"docker://docker.io/{REPOSITORY}:1")
    assert {text: entry.reference.text for text, entry in answers.items()} == {text: text for text in answers}
    assert len({entry.pinned.text for entry in answers.values()}) == 1


def test_asking_starts_at_once(lab, served):
    registry, reference = served
    asked = threading.Event()
    registry.answer("/v2/", lambda _: asked.set())
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:
        answers = resolver.resolve([parse(reference)])
        assert asked.wait(2)
        assert len(list(answers)) == 1


def test_answers_come_as_they_complete(lab, served):
    registry, _ = served
    go = threading.Event()
    registry.answer("/v2/slow/", lambda _: Reply(status=404) if go.wait(0.2) else None)
    slow = f"docker://{registry.host}/slow/one:1"
    other = lab.registry("service.example")
    other.publish(REPOSITORY, "1", b"{}")
    fast = f"docker://{other.host}/{REPOSITORY}:1"
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:
        order = [found.text for found, _ in resolver.resolve(map(parse, [slow, fast]))]
    assert order == [fast, slow]


def test_no_more_requests_are_under_way_than_allowed(lab, monkeypatch):
    running, most, lock = 0, 0, threading.Lock()

    def resolve(self, reference):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1
        raise NotFound("x")

    monkeypatch.setattr(Network, "resolve", resolve)
    with Resolver(limits=QUICK) as resolver:
        assert len(list(resolver.resolve(parse(f"docker://a.test/x{n}") for n in range(100)))) == 100
    assert 2 <= most <= QUICK.concurrency


def test_a_fault_of_our_own_is_not_taken_for_an_answer(monkeypatch):
    def resolve(self, reference):
        raise ZeroDivisionError

    monkeypatch.setattr(Network, "resolve", resolve)
    with Resolver(limits=QUICK) as resolver, pytest.raises(ZeroDivisionError):
        list(resolver.resolve([parse("docker://a.test/x")]))


def test_nothing_to_ask_is_no_work():
    with Resolver(limits=QUICK) as resolver:
        assert list(resolver.resolve([])) == list(resolver.check([])) == []
        assert resolver._threads == 0


def test_what_nobody_waits_for_any_more_is_dropped(lab, monkeypatch):
    asked = []
    gate = threading.Event()

    def resolve(self, reference):
        asked.append(reference)
        gate.wait(0.2)
        raise NotFound("x")

    monkeypatch.setattr(Network, "resolve", resolve)
    with Resolver(limits=QUICK) as resolver:
        answers = resolver.resolve(parse(f"docker://a.test/x{n}") for n in range(100))
        next(answers)
        answers.close()
        gate.set()
    assert len(asked) < 100


def test_one_resolver_serves_many_threads(lab, served):
    _, reference = served
    found = []
    with Resolver(environ=lab.environ, limits=QUICK) as resolver:

        def ask():
            found.extend(answer for _, answer in resolver.resolve([parse(reference)]))

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(map(repr, found))) == 1
    assert len(found) == 10


def test_checks_answer_for_every_entry(lab, served):
    registry, reference = served
    entry = lab.ask(reference)
    registry.answer("/v2/", Reply(status=500))
    assert lab.check(entry).state is RemoteState.UNREACHABLE


def test_the_short_form_returns_an_entry_or_raises(lab, served, monkeypatch):
    _, reference = served
    monkeypatch.setattr("os.environ", lab.environ)
    assert module.resolve(reference).reference.text == reference
    with pytest.raises(NotFound):
        module.resolve(reference + "0")


def test_importing_it_loads_no_network_library():
    code = (
        "import sys\n"
        "import snakemake_apptainer_freshness.registry.resolver\n"
        "assert not {'httpx', 'tenacity', 'ssl', 'yaml', 'click', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def silent_host():
    """A host that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_host_that_never_answers_is_given_up_once_for_all_its_images(silent_host):
    entries = [lock_entry(reference=f"docker://{silent_host}/a/{number}:1") for number in range(200)]
    started = time.monotonic()
    with Resolver(environ={"APPTAINER_NOHTTPS": "1", environment.TIMEOUT: "0.5"}) as resolver:
        facts = [fact for _, fact in resolver.check(entries)]

    assert {fact.state for fact in facts} == {RemoteState.UNREACHABLE}
    assert {fact.detail for fact in facts} == {f"{silent_host} did not answer in time"}
    assert time.monotonic() - started < 5  # seven rounds of 32 that all waited would take twice as long at least


def test_without_a_network_nothing_is_asked_and_nothing_is_unreachable(silent_host):
    reference = parse(f"docker://{silent_host}/a:1")
    with Resolver(environ={environment.OFFLINE: "1"}) as resolver:
        [(_, fact)] = resolver.check([lock_entry(reference=reference.text)])
        [(_, error)] = resolver.resolve([reference])

    assert fact.state is RemoteState.UNCHECKED
    assert isinstance(error, Offline)
