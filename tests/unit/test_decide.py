"""What a run does about a verdict, and what reports make of it: every state of registry and disk, mode and option."""

from itertools import product

import pytest

from snakemake_apptainer_freshness.freshness import (
    Action,
    Decision,
    DiskFact,
    DiskState,
    Reason,
    ReasonLevel,
    RemoteFact,
    RemoteState,
    Repairable,
    Verdict,
    decide,
    exit_status,
    most_severe,
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
DISPROVEN = (DiskState.STALE, DiskState.ALTERED, DiskState.CORRUPT)
LEVELS = {
    Reason.SAME_PLATFORM: "warning",
    Reason.MOVED: "warning",
    Reason.UNTAGGED: "warning",
    Reason.LOST: "error",
    Reason.UNREACHABLE: "unasked",
    Reason.MISSING: "error",
    Reason.UNVERIFIED: "error",
    Reason.DISPROVEN: "error",
}
SEVERITY = ("run", "warn", "repair", "refuse")


def decided(
    remote=RemoteState.CURRENT,
    disk=None,
    *,
    same_platform=False,
    repairable=Repairable.ANYTHING,
    is_named=True,
    **options,
):
    fact = None if disk is None else DiskFact(state=disk)
    verdict = Verdict(
        reference=parse("docker://q.io/a:1"),
        pinned=Digest.parse("sha256:" + "a" * 64),
        remote=RemoteFact(state=remote),
        disk=fact,
        same_platform=same_platform,
    )
    return decide(verdict, Options(**options), repairable=repairable, is_named=is_named)


def made(action, reason, *others):
    """Return the decision of `action` for `reason`; `others` are what is told before, of the registry."""
    return Decision(action=Action(action), reason=reason, reasons=(*others, reason))


def of_disk(disk, mode, on_unverified, repairable, is_named):
    if not is_named and disk not in DISPROVEN:
        return "run", Reason.NOT_NAMED
    if disk is DiskState.ABSENT:
        fetched = mode is not Mode.FROZEN and repairable is not Repairable.NOTHING
        return ("repair", Reason.ABSENT) if fetched else ("refuse", Reason.MISSING)
    action = "refuse" if mode is Mode.FROZEN else UNPROVEN[on_unverified][list(Repairable).index(repairable)]
    return action, Reason.DISPROVEN if disk in DISPROVEN else Reason.UNVERIFIED


def test_the_table_of_registries_has_every_state():
    assert {state for state, _ in REMOTE} == set(RemoteState)


@pytest.mark.parametrize("mode", ON)
def test_every_state_and_option_has_its_row_in_the_table(mode):
    asked = product(REMOTE.items(), [None, *DiskState], Reaction, OnUnverified, Repairable, (True, False))
    for ((remote, same), row), disk, on_moved, on_unverified, repairable, is_named in asked:
        action, reason = row[list(Reaction).index(on_moved)], row[3]
        reasons = (reason,)
        if disk not in (None, DiskState.VERIFIED):
            on_disk, why = of_disk(disk, mode, on_unverified, repairable, is_named)
            reasons = (reason, why)
            if SEVERITY.index(on_disk) >= SEVERITY.index(action):
                action, reason = on_disk, why

        decision = decided(
            remote,
            disk,
            same_platform=same,
            repairable=repairable,
            is_named=is_named,
            mode=mode,
            on_moved=on_moved,
            on_unverified=on_unverified,
        )

        expected = Decision(action=Action(action), reason=reason, reasons=reasons)
        assert decision == expected, (remote, same, disk, on_moved, on_unverified, repairable, is_named)
        levels = {LEVELS.get(reason, "none") for reason in reasons}
        assert decision.is_finding is bool(levels & {"warning", "error"})
        assert decision.is_unasked is ("unasked" in levels)
        assert decision.as_agreed is (levels == {"none"})
        assert exit_status([decision]) == (1 if decision.is_finding else 3 if decision.is_unasked else 0)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_level(reason):
    assert reason.level is ReasonLevel(LEVELS.get(reason, "none"))


@pytest.mark.parametrize(("remote", "same"), list(REMOTE))
def test_what_a_report_finds_is_the_same_whatever_a_run_was_told_to_ignore(remote, same):
    found = {
        decided(remote, disk, same_platform=same, on_moved=on_moved, on_unverified=on_unverified).reasons
        for disk, on_moved, on_unverified in product([DiskState.STALE], Reaction, OnUnverified)
    }

    assert len(found) == 1


def test_a_finding_counts_before_a_registry_that_was_not_reached():
    found, unasked, fine = decided(RemoteState.MOVED), decided(RemoteState.UNREACHABLE), decided()

    assert exit_status([fine]) == exit_status([]) == 0
    assert exit_status([fine, unasked]) == 3
    assert exit_status([unasked, found, fine]) == 1


def test_of_several_decisions_the_most_severe_counts():
    mild, severe = decided(RemoteState.MOVED), decided(disk=DiskState.ABSENT, mode=Mode.FROZEN)

    assert most_severe([mild, severe, decided()]) == severe
    assert most_severe([mild, decided(RemoteState.LOST)]) == mild


@pytest.mark.parametrize("disk", [state for state in DiskState if state is not DiskState.VERIFIED])
@pytest.mark.parametrize("on_unverified", list(OnUnverified))
def test_frozen_refuses_all_that_is_not_verified(disk, on_unverified):
    for repairable in Repairable:
        options = {"mode": Mode.FROZEN, "on_unverified": on_unverified}
        assert decided(disk=disk, repairable=repairable, **options).action is Action.REFUSE


@pytest.mark.parametrize("disk", UNVERIFIED)
@pytest.mark.parametrize("mode", NETWORKED)
def test_what_is_not_verified_is_proven_or_fetched_anew_by_default(disk, mode):
    why = Reason.DISPROVEN if disk in DISPROVEN else Reason.UNVERIFIED
    assert decided(disk=disk, mode=mode) == made("repair", why, Reason.AS_AGREED)


def test_a_refused_tag_is_refused_whatever_can_be_repaired():
    decision = decided(RemoteState.MOVED, DiskState.STALE, on_moved=Reaction.ERROR)

    assert (decision.action, decision.reason) == (Action.REFUSE, Reason.MOVED)


@pytest.mark.parametrize("remote", list(RemoteState))
@pytest.mark.parametrize("disk", list(DiskState))
def test_with_the_flag_off_everything_runs(remote, disk):
    assert decided(remote, disk, mode=Mode.OFF) == made("run", Reason.OFF)
