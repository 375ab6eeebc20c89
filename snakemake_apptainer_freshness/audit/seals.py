"""Which records of a work directory something vouches for: those that are sealed, and those before them in the chain.

A record names the SHA-256 of the one before it, so a sealed record vouches for all that its chain leads to. Records
that no seal leads to may have been made anew, from the first to the last, by any user who can write the folder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.record.run import Ending, Run
from snakemake_apptainer_freshness.record.seal import Seal, SealState

_BELIEVED: Final = frozenset({SealState.GOOD, SealState.UNCHECKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SealAudit:
    """The seals of one work directory, newest first, the runs that a good seal vouches for, and those `open` without.

    `is_checked` says whether there was a file of allowed signers, without which a seal vouches for nothing.
    """

    workdir: str
    seals: tuple[Seal, ...] = ()
    vouched: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    is_checked: bool = False

    @property
    def text(self) -> str:
        """What vouches for the newest record, in one sentence."""
        best = next((seal for seal in self.seals if seal.state in _BELIEVED), None)
        if best is None:
            return "the newest record is vouched for by nothing: seal it with --seal"
        signer = f"{best.signer} ({best.key})" if best.signer else best.key
        if best.state is SealState.UNCHECKED:
            return (
                f"the record of run {best.run} is signed by {signer}: --allowed-signers FILE says whether that counts"
            )
        since = (
            f"; {len(self.open):,} other than that and those before it are vouched for by nothing" if self.open else ""
        )
        return f"the record of run {best.run} is sealed by {signer}{since}"


def seals(workdir: str, runs: Sequence[Run], check: Callable[[Run], Seal | None], *, is_checked: bool) -> SealAudit:
    """Return what vouches for `runs`, which are those of `workdir`, oldest first; `check` looks at the seal of one."""
    by_hash = {run.sha256: run for run in runs}
    led_to: set[str] = set()
    vouched: set[str] = set()
    checked = []
    for run in reversed(runs):
        if run.id in led_to or (seal := check(run)) is None:
            continue
        checked.append(seal)
        if seal.state in _BELIEVED:
            before = [earlier.id for earlier in _chain(run, by_hash)]
            led_to.update(before)
            vouched.update(before if seal.state is SealState.GOOD else ())
    return SealAudit(
        workdir=workdir,
        seals=tuple(checked),
        vouched=tuple(run.id for run in runs if run.id in vouched),
        open=tuple(run.id for run in runs if run.id not in vouched and run.ending is not Ending.RUNNING),
        is_checked=is_checked,
    )


def to_seal(runs: Sequence[Run]) -> list[Run]:
    """Return the records that no other names, oldest first: to seal them is to seal all.

    A run that goes on is left out, unless there is no other.
    """
    named = {run.previous for run in runs}
    tips = [run for run in runs if run.sha256 not in named]
    return [run for run in tips if run.ending is not Ending.RUNNING] or tips


def _chain(run: Run, by_hash: dict[str, Run]) -> Iterator[Run]:
    """Yield `run` and those before it, as far as each names the record before it."""
    seen: set[str] = set()
    while run.id not in seen:
        seen.add(run.id)
        yield run
        if run.previous not in by_hash:
            return
        run = by_hash[run.previous]
