"""Removals: that the oldest records of a work directory were deleted on purpose, and where the chain goes on.

The records that are left name the SHA-256 of records that are gone. A removal says which those are (its *edges*: the
removed records that one left over, or no other removed one, names), how many went, and which record was the newest
then. With it the chain of what is left holds as before, and what another user cuts off does not fit it: neither one
record more, at either end, nor one that is put in.

A removal that lies beside the records, ``removed.json``, is a claim: who can cut records off can write one. It counts
where this user's own state folder has it (:mod:`.actions.run_records`), or where it is sealed by an allowed signer.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.record.run import Run

VERSION: Final = 1
NAME: Final = "removed.json"
_LONGEST_TEXT: Final = 4096


def path_in(folder: Path) -> Path:
    """Return where the removal lies of the records in `folder`."""
    return folder / NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A removed record at which the chain was cut."""

    id: str
    sha256: str
    ended: str

    @classmethod
    def read(cls, table: Table) -> Self:
        """Return the edge that `table` spells."""
        ended = table.time("ended") if table.text("ended") else ""
        return cls(id=table.name("id"), sha256=table.hex("sha256", may_be_empty=False), ended=ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """That all records up to that of the run `last` were removed, `count` in all, by `user` on `host`, in `workdir`.

    `newest` is the newest record that was left, and `newest_sha256` its hash.
    """

    at: str
    user: str
    host: str
    workdir: str
    count: int
    last: str
    newest: str
    newest_sha256: str
    edges: tuple[Cut, ...]

    def dumps(self) -> bytes:
        """Return the removal as it is written."""
        return (json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n").encode("ascii")

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the removal that `content` spells; raises Damaged where it is none, or of a newer version."""
        table = Table.versioned(read_json(content), VERSION, frozenset(cls.__slots__))
        if not (count := table.number("count")):
            table.refuse("count", "must be more than 0")
        return cls(
            at=table.time("at"),
            user=table.words("user", longest=_LONGEST_TEXT),
            host=table.words("host", longest=_LONGEST_TEXT),
            workdir=table.words("workdir", longest=_LONGEST_TEXT),
            count=count,
            last=table.name("last"),
            newest=table.name("newest"),
            newest_sha256=table.hex("newest_sha256", may_be_empty=False),
            edges=tuple(map(Cut.read, table.children("edges", frozenset(Cut.__slots__)))),
        )


def edges_of(removed: Sequence[Run], left: Iterable[Run], before: Removal | None) -> tuple[Cut, ...]:
    """Return the edges where `removed` are removed and `left` stay; `before` is what was removed earlier."""
    named = {run.previous for run in left}
    inner = {run.previous for run in removed}
    known = [Cut(id=run.id, sha256=run.sha256, ended=run.ended) for run in removed]
    older = [edge for edge in before.edges if edge.sha256 in named] if before is not None else []
    cut = [edge for edge in known if edge.sha256 in named or edge.sha256 not in inner]
    return tuple(sorted((*older, *cut), key=lambda edge: edge.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the chain does not hold: the record of `run` does not go with what lies before it; `text` says why."""

    run: str
    text: str


def chain(runs: Sequence[Run], removal: Removal | None = None) -> list[Break]:
    """Return where the chain of the records of one work directory is broken; `runs` are all of them, oldest first.

    The newest record is vouched for by nothing. A run that began while others were under way names the newest record
    that had ended by then. Where older records were removed, by a `removal` that is believed, what is left has to go
    on from there, and the newest record of then has to be there.
    """
    if removal is None:
        return _breaks(runs, ())
    older = [run for run in runs if run.id <= removal.last]
    later = [run for run in runs if run.id > removal.last]
    genuine = _led_to(older, removal.edges)
    text = f"the records up to that of {removal.last} were removed on {removal.at}, and this is none of them"
    breaks = [Break(run=run.id, text=text) for run in older if run.sha256 not in genuine]
    breaks += _breaks(later, removal.edges)
    if removal.newest_sha256 not in {run.sha256 for run in later}:
        text = f"it was the newest when older ones were removed on {removal.at}; it is gone, or was changed since"
        breaks.append(Break(run=removal.newest, text=text))
    return breaks


def _led_to(runs: Sequence[Run], edges: Iterable[Cut]) -> set[str]:
    """Return the SHA-256 of records to which the chain leads from `edges`: a removal may have been cut short."""
    hashes = {edge.sha256 for edge in edges}
    for run in sorted(runs, key=lambda run: run.id, reverse=True):
        if run.sha256 in hashes:
            hashes.add(run.previous)
    return hashes


def _breaks(runs: Sequence[Run], edges: Sequence[Cut]) -> list[Break]:
    breaks = []
    earlier: list[Run | Cut] = list(edges)
    for run in runs:
        if run.started and (text := _broken(run, earlier)):
            breaks.append(Break(run=run.id, text=text))
        earlier.append(run)
    return breaks


def _broken(run: Run, earlier: Sequence[Run | Cut]) -> str:
    """Return what is wrong with the link from `run` to those before it; empty where it holds."""
    if not earlier:
        return f"the record before it, of SHA-256 {run.previous}, is gone" if run.previous else ""
    for other in reversed(earlier):
        if run.previous == other.sha256:
            return ""
        if other.ended and other.ended <= run.started:
            break
    else:
        if not run.previous:
            return ""
    if not run.previous:
        return f"it says that there was no record before it, and there is that of {earlier[-1].id}"
    if any(run.previous == other.sha256 for other in earlier):
        return f"the record of {earlier[-1].id} was put in before it later"
    return (
        f"the record before it had the SHA-256 {run.previous}, and that of {earlier[-1].id} has {earlier[-1].sha256}: "
        "it was changed, or one in between was removed"
    )


def describe(removal: Removal, *, by: str) -> str:
    """Return a sentence about `removal`; `by` says who vouches for it."""
    return f"{removal.count:,} records up to that of run {removal.last} were removed on {removal.at} by {by}"
