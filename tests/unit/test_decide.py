"""What a run does about a verdict: every state of registry and disk, every mode, every option."""

from itertools import product

import pytest

from snakemake_apptainer_freshness.freshness import (
    Action,
    Decision,
    DiskFact,
    DiskState,
    Reason,
    RemoteFact,
    RemoteState,
    Repairable,
    Verdict,
    decide,
)
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options, Reaction

UNVERIFIED = [state for state in DiskState if state not in (DiskState.VERIFIED, DiskState.ABSENT)]
ON = [mode for mode in Mode if mode is not Mode.OFF]
NETWORKED = [mode for mode in ON if mode is not Mode.FROZEN]

REMOTE = {
    # state, same platform: what on_moved ignore, warn, error each make of it
    (RemoteState.CURRENT, False): ("run", "run", "run", Reason.AS_AGREED),
    (RemoteState.UNCHECKED, False): ("run", "run", "run", Reason.NOT_ASKED),
    (RemoteState.MOVED, False): ("run", "warn", "refuse", Reason.MOVED),
    (RemoteState.MOVED, True): ("run", "warn", "warn", Reason.SAME_PLATFORM),
    (RemoteState.UNTAGGED, False): ("warn", "warn", "warn", Reason.UNTAGGED),
    (RemoteState.LOST, False): ("warn", "warn", "warn", Reason.LOST),
    (RemoteState.UNREACHABLE, False): ("warn", "warn", "warn", Reason.UNREACHABLE),
}
UNPROVEN = {
    # on_unverified: what may be done about the file, anything, absent, nothing
    OnUnverified.REPAIR: ("repair", "refuse", "refuse"),
    OnUnverified.WARN: ("warn", "warn", "warn"),
    OnUnverified.ERROR: ("refuse", "refuse", "refuse"),
}
SEVERITY = ("run", "warn", "repair", "refuse")


def decided(remote=RemoteState.CURRENT, disk=None, *, same_platform=False, repairable=Repairable.ANYTHING, **options):
    fact = None if disk is None else DiskFact(state=disk)
    verdict = Verdict(
        reference=parse("docker://q.io/a:1"),
        pinned=Digest.parse("sha256:" + "a" * 64),
        remote=RemoteFact(state=remote),
        disk=fact,
        same_platform=same_platform,
    )
    return decide(verdict, Options(**options), repairable=repairable)


def made(action, reason):
    return Decision(action=Action(action), reason=reason)


def of_disk(disk, mode, on_unverified, repairable):
    if disk is DiskState.ABSENT:
        fetched = mode is not Mode.FROZEN and repairable is not Repairable.NOTHING
        return made("repair", Reason.ABSENT) if fetched else made("refuse", Reason.MISSING)
    action = "refuse" if mode is Mode.FROZEN else UNPROVEN[on_unverified][list(Repairable).index(repairable)]
    return made(action, Reason.UNVERIFIED)


def test_the_table_of_registries_has_every_state():
    assert {state for state, _ in REMOTE} == set(RemoteState)


@pytest.mark.parametrize("mode", ON)
def test_every_state_and_option_has_its_row_in_the_table(mode):
    asked = product(REMOTE.items(), [None, *DiskState], Reaction, OnUnverified, Repairable)
    for ((remote, same), row), disk, on_moved, on_unverified, repairable in asked:
        expected = made(row[list(Reaction).index(on_moved)], row[3])
        if disk not in (None, DiskState.VERIFIED):
            on_disk = of_disk(disk, mode, on_unverified, repairable)
            if SEVERITY.index(on_disk.action) >= SEVERITY.index(expected.action):
                expected = on_disk

        decision = decided(
            remote,
            disk,
            same_platform=same,
            repairable=repairable,
            mode=mode,
            on_moved=on_moved,
            on_unverified=on_unverified,
        )

        assert decision == expected, (remote, same, disk, on_moved, on_unverified, repairable)


@pytest.mark.parametrize("disk", [state for state in DiskState if state is not DiskState.VERIFIED])
@pytest.mark.parametrize("on_unverified", list(OnUnverified))
def test_frozen_refuses_all_that_is_not_verified(disk, on_unverified):
    for repairable in Repairable:
        options = {"mode": Mode.FROZEN, "on_unverified": on_unverified}
        assert decided(disk=disk, repairable=repairable, **options).action is Action.REFUSE


@pytest.mark.parametrize("disk", UNVERIFIED)
@pytest.mark.parametrize("mode", NETWORKED)
def test_what_is_not_verified_is_proven_or_fetched_anew_by_default(disk, mode):
    assert decided(disk=disk, mode=mode) == made("repair", Reason.UNVERIFIED)


def test_a_refused_tag_is_refused_whatever_can_be_repaired():
    decision = decided(RemoteState.MOVED, DiskState.STALE, on_moved=Reaction.ERROR)

    assert decision == made("refuse", Reason.MOVED)


@pytest.mark.parametrize("remote", list(RemoteState))
@pytest.mark.parametrize("disk", list(DiskState))
def test_with_the_flag_off_everything_runs(remote, disk):
    assert decided(remote, disk, mode=Mode.OFF) == made("run", Reason.OFF)
