"""The same for many things at once: in order, as results come, and ended by an error or by Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from snakemake_apptainer_freshness.common import parallel
from snakemake_apptainer_freshness.common.parallel import (
    AS_LONG_AS_IT_TAKES,
    Workers,
    in_batches,
    in_parallel,
    made_once,
    stopping_cleanly,
)

LONG = 30


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    first_may_end = threading.Event()
    come = []

    def work(number):
        if number == 0:
            assert first_may_end.wait(LONG)
        if number == 2:
            first_may_end.set()
        return -number

    assert in_parallel(work, range(3), name="test", threads=3, done=come.append) == [0, -1, -2]
    assert sorted(come) == [-2, -1, 0]
    assert come[-1] == 0  # which waited for another one


def test_results_are_told_in_the_thread_of_the_caller():
    threads = set()
    in_parallel(lambda item: item, range(8), name="test", threads=4, done=lambda _: threads.add(threading.get_ident()))

    assert threads == {threading.get_ident()}


def test_of_nothing_there_are_no_results_and_no_threads():
    before = threading.active_count()

    assert in_parallel(str, [], name="test") == []
    assert threading.active_count() == before


def test_no_more_run_at_once_than_were_asked_for():
    counting, running, most = threading.Lock(), [0], [0]

    def work(_):
        with counting:
            running[0] += 1
            most[0] = max(most[0], *running)
        time.sleep(0.001)
        with counting:
            running[0] -= 1

    in_parallel(work, range(50), name="test", threads=3)

    assert 1 <= most[0] <= 3


def test_an_error_in_a_thread_is_raised_and_nothing_more_is_begun():
    begun = []

    def work(number):
        begun.append(number)
        if number == 1:
            raise RuntimeError("in a thread")

    with pytest.raises(RuntimeError, match="in a thread"):
        in_parallel(work, range(10_000), name="test", threads=1)

    assert len(begun) < 10_000


def test_what_runs_is_stopped_and_waited_for_where_it_has_to_clean_up():
    stop, is_cleaned_up = threading.Event(), []

    def work(number):
        if number == 0:
            raise RuntimeError("in a thread")
        assert stop.wait(LONG)
        time.sleep(0.05)
        is_cleaned_up.append(number)

    with pytest.raises(RuntimeError):
        in_parallel(work, range(2), name="test", threads=2, stop=stop.set, grace=AS_LONG_AS_IT_TAKES)

    assert is_cleaned_up in ([1], [])  # not begun, or waited for
    assert stop.is_set()


def test_what_cannot_be_stopped_is_not_waited_for():
    release, begun = threading.Event(), time.monotonic()

    def work(number):
        if number == 0:
            raise RuntimeError("in a thread")
        release.wait(LONG)

    with pytest.raises(RuntimeError):
        in_parallel(work, range(2), name="test", threads=2, grace=0.05)
    release.set()

    assert time.monotonic() - begun < LONG / 2


def test_all_threads_are_gone_when_a_block_has_ended():
    with Workers(3, "gone") as workers:
        for task in [workers.submit(str, number) for number in range(9)]:
            task.result()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gone")]


INTERRUPTED = """if True:
    import os, signal, sys, threading, time
    from snakemake_apptainer_freshness.common.parallel import in_parallel, stopping_cleanly

    def work(number):
        print("begun", flush=True)
        time.sleep(60)

    try:
        with stopping_cleanly(threading.Event()):
            in_parallel(work, range(100), name="test", threads=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_ends_at_once_when_it_is_interrupted_whatever_its_threads_do(number, status):
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, env=os.environ) as process:
        process.stdout.readline()
        begun = time.monotonic()
        process.send_signal(number)
        process.wait(LONG)

        assert process.returncode == status
        assert time.monotonic() - begun < 10
        assert process.stdout.read().count(b"begun") <= 1  # the second thread's first; nothing new


def test_sigterm_is_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stopping_cleanly(threading.Event()):
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_made_once_is_the_same_for_every_thread():
    made = []

    def make():
        time.sleep(0.01)
        made.append(object())
        return made[-1]

    get = made_once(make)
    got = in_parallel(lambda _: get(), range(8), name="test", threads=8)

    assert set(got) == set(made)
    assert len(made) == 1


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_batches_are_answered_in_their_order_on_any_file_system(slow, monkeypatch):
    if slow:
        monkeypatch.setattr(parallel, "PARALLEL", parallel.PARALLEL._replace(slow_file=0.0))
    threads = set()

    def work(names):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return names

    answers = [name for batch in in_batches(range(20_000), work) for name in batch]

    assert answers == list(range(20_000))
    assert (len(threads) > 1) is slow


def test_no_more_batches_are_taken_than_are_soon_asked_for(monkeypatch):
    monkeypatch.setattr(parallel, "PARALLEL", parallel.PARALLEL._replace(slow_file=0.0, batch=1, waiting_threads=2))
    taken = []

    def source():
        for number in range(1000):
            taken.append(number)
            yield number

    answers = in_batches(source(), list)
    next(answers), next(answers)
    answers.close()

    assert len(taken) < 10


def test_loading_it_does_not_load_pythons_own_pools():
    code = "import sys, snakemake_apptainer_freshness.common.parallel; print('concurrent.futures' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], timeout=60) == b"False\n"
