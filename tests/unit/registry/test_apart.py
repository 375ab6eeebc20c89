"""Another process checks what it is asked, says what its resolver says, and never outlives who asked."""

import gc
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import DamagedAnswer, InvalidRegistriesConf
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import apart
from snakemake_apptainer_freshness.registry.apart import ApartResolver

DIGEST = "sha256:" + "a" * 64
ENTRY = Entry(
    reference="docker://quay.io/team/tool:1",
    pinned=f"docker://quay.io/team/tool@{DIGEST}",
    digest=DIGEST,
    media_type="application/vnd.oci.image.index.v1+json",
    platforms={"linux/amd64": DIGEST},
    hints={"created": "2026-01-01"},
)


class Resolver:
    """Answers with the number of the process that asks, and all that a fact can hold."""

    warnings = ("a mirror lied",)

    def check(self, entries):
        for entry in entries:
            yield (
                entry,
                RemoteFact(
                    state=RemoteState.MOVED, digest=entry.digest, platforms=entry.platforms, detail=str(os.getpid())
                ),
            )

    def resolve(self, references):
        return ((reference, DamagedAnswer("here")) for reference in references)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def prepared(resolver=Resolver):
    asking = ApartResolver(resolver)
    asking.prepare()
    return asking


def children():
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = children()
    yield
    assert children() <= before
    assert gc.get_freeze_count() == 0


def test_another_process_checks_and_says_all_that_it_found(two_cores):
    asking = prepared()
    [(entry, fact)] = asking.check([ENTRY])
    assert entry is ENTRY
    assert fact.detail not in ("", str(os.getpid()))
    assert (fact.state, fact.digest, fact.platforms) == (RemoteState.MOVED, DIGEST, ENTRY.platforms)
    assert asking.warnings == ("a mirror lied",)


def test_more_is_asked_than_a_pipe_holds(two_cores):
    many = [replace(ENTRY, reference=f"docker://quay.io/team/tool{number}:1") for number in range(2000)]
    assert [entry.reference for entry, _ in prepared().check(many)] == [entry.reference for entry in many]


def test_only_the_first_question_goes_to_the_other_process(two_cores):
    asking = prepared()
    list(asking.check([ENTRY]))
    [(_, fact)] = asking.check([ENTRY])
    assert fact.detail == str(os.getpid())


@pytest.mark.parametrize("cores", [{0}, {0, 1}])
def test_without_a_second_core_or_room_for_a_process_this_one_asks(monkeypatch, cores):
    def no_room():
        raise BlockingIOError

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(os, "fork", no_room)
    [(_, fact)] = prepared().check([ENTRY])
    assert fact.detail == str(os.getpid())


def test_resolving_stays_in_this_process(two_cores):
    asking = prepared()
    assert [str(answer) for _, answer in asking.resolve(["x"])] == ["here"]
    asking.close()


def test_an_error_of_ours_is_handed_over(two_cores):
    class Fails(Resolver):
        def check(self, entries):
            raise InvalidRegistriesConf("registries.conf is damaged", hint="mend it")

    with pytest.raises(Exception, match="is damaged") as raised:
        list(prepared(Fails).check([ENTRY]))
    assert raised.value.hint == "mend it"


def test_a_process_that_dies_has_no_answer(two_cores):
    class Dies(Resolver):
        def check(self, entries):
            os._exit(1)

    assert list(prepared(Dies).check([ENTRY])) == []


def test_a_process_that_says_nothing_is_given_up(two_cores, monkeypatch):
    class Hangs(Resolver):
        def check(self, entries):
            time.sleep(60)
            yield from ()

    monkeypatch.setattr(apart, "_SILENCE", 0.2)
    begun = time.monotonic()
    assert list(prepared(Hangs).check([ENTRY])) == []
    assert time.monotonic() - begun < 30


def test_a_process_that_was_never_asked_ends_when_it_is_closed(two_cores):
    before = children()
    asking = prepared()
    assert children() != before
    asking.close()
    assert children() == before


def test_who_takes_one_answer_and_goes_leaves_no_process(two_cores):
    answers = prepared().check([ENTRY, replace(ENTRY, reference="docker://quay.io/team/other:1")])
    next(answers)
    answers.close()
