"""Checking in a process of its own, so that whoever waits for the answers can compute meanwhile.

Snakemake builds its DAG in one interpreter, of which a thread that asks registries would take as much as it gets. A
copy of this process (``fork``) asks on another core instead: it needs no start-up, loads the client while the lock is
read, and writes each answer into a pipe.

* The copy is made in the calling thread, and only while no other thread works: a process must not be copied else.
* It keeps nothing alive: it ends when its parent does, when it is closed, and where it says nothing for too long.
* It says what its resolver says. Where there cannot be another process, or a second core, this one asks.
"""

import contextlib
import functools
import gc
import json
import logging
import os
import select
import signal
import threading
import time
import warnings as python_warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, NoReturn

from snakemake_apptainer_freshness.settings import LIMITS

if TYPE_CHECKING:  # the copy loads what it needs: it is made before anything else is loaded
    from snakemake_apptainer_freshness.errors import FreshnessError
    from snakemake_apptainer_freshness.freshness import RemoteFact
    from snakemake_apptainer_freshness.image.reference import Reference
    from snakemake_apptainer_freshness.lockfile import Entry
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_SILENCE: Final = LIMITS.run_budget + LIMITS.answer_timeout
"""Seconds without a word after which the copy is given up: it would have ended all waiting by itself."""
_CHUNK: Final = 64 * 1024


class _Copy(NamedTuple):
    """A process that checks: what it is asked by, and what it answers with."""

    process: int
    question: int
    answers: int

    def end(self) -> None:
        """End it, wherever it is: without its question's other end it ends by itself."""
        gc.unfreeze()
        for end in (self.question, self.answers):
            with contextlib.suppress(OSError):
                os.close(end)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)


class ApartResolver:
    """Asks as the :class:`Resolver` that `make` makes, which is made when first needed.

    What is checked first is checked by another process, if :meth:`prepare` could make one.
    """

    def __init__(self, make: "Callable[[], Resolver]") -> None:
        self.resolver = functools.cache(make)
        """The resolver of this process."""
        self._copy: _Copy | None = None
        self._warnings: dict[str, None] = {}

    def prepare(self) -> None:
        """Make the process that is to check, where there is a second core for it; it waits for its question."""
        if self._copy is None and len(os.sched_getaffinity(0)) > 1:
            with contextlib.suppress(OSError):
                self._copy = _copied(self.resolver)

    def close(self) -> None:
        """End the process, if it was never asked."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.end()

    @property
    def warnings(self) -> tuple[str, ...]:
        """As :class:`Resolver` has it."""
        own = self.resolver().warnings if self.resolver.cache_info().currsize else ()
        return tuple(self._warnings | dict.fromkeys(own))

    def resolve(self, references: "Iterable[Reference]") -> "Iterator[tuple[Reference, Entry | FreshnessError]]":
        """As :class:`Resolver` has it."""
        return self.resolver().resolve(references)

    def check(self, entries: "Iterable[Entry]") -> "Iterator[tuple[Entry, RemoteFact]]":
        """As :class:`Resolver` has it; another process is asked once somebody waits for the first answer."""
        copy, self._copy = self._copy, None
        return self.resolver().check(entries) if copy is None else self._received(list(entries), copy)

    def _received(self, asked: "list[Entry]", copy: _Copy) -> "Iterator[tuple[Entry, RemoteFact]]":
        from snakemake_apptainer_freshness.errors import RegistryError
        from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState

        try:
            _ask(copy.question, asked)
            for line in _lines(copy.answers):
                said = json.loads(line)
                if "error" in said:
                    raise RegistryError(said["error"], hint=said["hint"])
                self._warnings |= dict.fromkeys(said.pop("warnings"))
                entry = asked[said.pop("number")]
                yield entry, RemoteFact(**said | {"state": RemoteState(said["state"])})
        finally:
            copy.end()


def _copied(make: "Callable[[], Resolver]") -> _Copy:
    """A copy of this process, which waits to be asked; raises OSError where there is no room for one."""
    ends = [*os.pipe(), *os.pipe()]
    hear, question, answers, tell = ends
    gc.freeze()  # collecting garbage writes to every object, and so would copy what is shared
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore", DeprecationWarning)  # other threads wait; see the docstring
            process = os.fork()
    except OSError:
        gc.unfreeze()
        for end in ends:
            os.close(end)
        raise
    if process == 0:
        os.close(question)
        os.close(answers)
        _be_the_copy(make, hear, tell)
    os.close(hear)
    os.close(tell)
    return _Copy(process, question, answers)


def _ask(question: int, asked: "list[Entry]") -> None:
    text = json.dumps([entry.to_dict() for entry in asked]).encode() + b"\n"
    with contextlib.suppress(OSError):  # it is gone, and has no answer
        while text:
            text = text[os.write(question, text) :]


def _be_the_copy(make: "Callable[[], Resolver]", hear: int, tell: int) -> NoReturn:
    """Load the client, hear the question, answer it, and end without a trace."""
    gc.disable()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        logging.disable()
        _load()
        with open(hear, "rb") as questions, open(tell, "w", encoding="ascii") as answers:
            if question := questions.readline():
                threading.Thread(target=_end_with_parent, args=(questions,), daemon=True).start()
                for said in _said(make(), json.loads(question)):
                    answers.write(json.dumps(said) + "\n")
                    answers.flush()
    finally:
        os._exit(0)


def _load() -> None:
    """Load what asking a registry takes, while nobody waits for it."""
    from snakemake_apptainer_freshness.registry import client, resolver, sources, transport  # noqa: F401


def _said(resolver: "Resolver", question: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    from snakemake_apptainer_freshness.errors import FreshnessError
    from snakemake_apptainer_freshness.lockfile import Entry

    asked = [Entry(**table) for table in question]
    numbers = {entry.reference: number for number, entry in enumerate(asked)}
    try:
        for entry, fact in resolver.check(asked):
            yield {
                "number": numbers[entry.reference],
                "state": fact.state.value,
                "digest": fact.digest,
                "platforms": dict(fact.platforms),
                "detail": fact.detail,
                "warnings": resolver.warnings,
            }
    except FreshnessError as error:
        yield {"error": error.message, "hint": error.hint}


def _end_with_parent(questions: BinaryIO) -> None:
    questions.read(1)
    os._exit(0)


def _lines(answers: int) -> Iterator[bytes]:
    """Each line that comes, until there are no more, or none for too long."""
    rest, until = b"", time.monotonic() + _SILENCE
    while select.select([answers], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(answers, _CHUNK)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        until = time.monotonic() + _SILENCE
