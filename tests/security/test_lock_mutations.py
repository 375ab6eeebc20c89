"""Each verification of a lock, and of the pins that travel to jobs, is what stops its attack."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from snakemake_apptainer_freshness.actions import lock_claims
from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.actions.policies import Policies, offers
from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.engine import handover
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options
from tests.support import images
from tests.support.images import Image
from tests.support.mutations import Mutation, anything, yes
from tests.support.pins import DIGEST, OTHER, REPOSITORY, lock_entry, run_as
from tests.support.proofs import Served, file, layer

AMD = Platform.parse("linux/amd64")
REFERENCE = f"docker://{REPOSITORY}:1.0"
CONTENT = Image(layers=(layer(file("data", "agreed")),))
EVIL = Image(layers=(layer(file("data", "evil!!")),))
INDEX = images.multi_arch(CONTENT, "arm64")
EVIL_MANIFEST = Digest.parse(EVIL.digest)


def handover_of(pins: dict[str, Pinned]) -> handover.Handover:
    return handover.Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR)


def file_of_pins_rewritten(_folder: Path) -> bool:
    evil = handover_of({REFERENCE: run_as(REFERENCE, f"docker://{REPOSITORY}@{OTHER}", OTHER)})
    rows = handover.rows_of(handover_of({REFERENCE: run_as(REFERENCE, f"docker://{REPOSITORY}@{DIGEST}", DIGEST)}))
    name = hashlib.sha256(handover.content_of(rows)).hexdigest()
    word = handover.encode(handover_of({}), file=name)
    try:
        return (
            str(OTHER)
            in handover.decode(word, lambda _: handover.content_of(handover.rows_of(evil))).pins[REFERENCE].url
        )
    except FreshnessError:
        return False


def from_any_file(name: str, read: Callable[[str], bytes]) -> Any:
    """In place of what hashes the file of pins."""
    content = handover._unpacked(read(name)) if name else b"{}"
    return Table({"pins": read_json(content)}, frozenset({"pins"}))


def pin_that_leads_to_another_repository(_folder: Path) -> bool:
    evil = Pinned(reference=parse(REFERENCE), pinned=parse(f"docker://evil.example/x@{DIGEST}"), digest=DIGEST)
    try:
        decoded = handover.decode(handover.encode(handover_of({REFERENCE: evil})), lambda _: b"")
    except FreshnessError:
        return False
    return "evil.example" in decoded.pins[REFERENCE].url


def any_pin(reference: str, url: str, digest: str) -> Pinned:
    """In place of what holds a pin to its reference."""
    return Pinned(reference=parse(reference), pinned=parse(url), digest=Digest.parse(digest))


def platform_entry_of_another_image(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, INDEX.digest, {str(Platform.here()): EVIL.digest})
    try:
        lock_claims.hold(forged, Platform.here(), lambda: Served(content=INDEX), lockfile="containers.lock")
    except FreshnessError:
        return False
    return True


def another_index_served_under_the_digest(_folder: Path) -> bool:
    honest = lock_entry(REFERENCE, INDEX.digest, {"linux/amd64": INDEX.children[0].digest, "linux/arm64": OTHER})
    liar = Served(content=INDEX, lies={INDEX.digest: images.multi_arch(EVIL, "arm64").manifest})
    with contextlib.suppress(FreshnessError):
        return lock_claims.proven_manifest(honest, Platform.here(), lambda: liar) == EVIL_MANIFEST
    return False


def forged_created(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, hints={"created": str(date.today())})  # noqa: DTZ011  any day
    policies = Policies.of(Options(policy={"age": {"at_most": 365}}), [])
    days = policies.days(
        {REFERENCE: forged}, lambda _: {REFERENCE: Details(created="2001-01-01T00:00:00Z")}, platform=AMD
    )
    return policies.of_pins({REFERENCE: forged}, days, {}) == []


def days_of_the_lock(_self: Any, pins: Any, _ask: Any, *, platform: Platform) -> dict[str, date]:
    """In place of what reads an image's configuration."""
    return {text: date.fromisoformat(entry.hints["created"]) for text, entry in pins.items()}


def forged_created_that_is_told(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, hints={"created": "2026-01-01"})
    try:
        lock_claims.hold_created(forged, date(2001, 1, 1), AMD, lockfile="containers.lock")
    except FreshnessError:
        return False
    return True


ALSO = images.multi_arch(CONTENT, "s390x")
WANTS = {"platforms": {"require": ["linux/riscv64"]}}


def forged_platform(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, ALSO.digest, {"linux/riscv64": CONTENT.digest})
    policies = Policies.of(Options(policy=WANTS), [])
    there = policies.offered({REFERENCE: forged}, offers(lambda: Served(content=ALSO)))
    return policies.of_pins({REFERENCE: forged}, {}, there) == []


def platforms_of_the_lock(_self: Any, pins: Any, _ask: Any) -> dict[str, frozenset[Platform]]:
    """In place of what hashes an index."""
    return {text: frozenset(entry.platforms) for text, entry in pins.items()}


def platform_of_another_index_that_is_served(_folder: Path) -> bool:
    claimed = lock_entry(REFERENCE, ALSO.digest)
    policies = Policies.of(Options(policy=WANTS), [])
    liar = Served(content=ALSO, lies={ALSO.digest: images.multi_arch(EVIL, "riscv64").manifest})
    there = policies.offered({REFERENCE: claimed}, offers(lambda: liar))
    return policies.of_pins({REFERENCE: claimed}, {}, there) == []


def forged_platform_that_is_told(_folder: Path) -> bool:
    forged = lock_entry(REFERENCE, ALSO.digest, {"linux/riscv64": CONTENT.digest})
    try:
        lock_claims.hold_platforms(forged, frozenset({AMD}), lockfile="containers.lock")
    except FreshnessError:
        return False
    return True


MUTATIONS = [
    Mutation(attack=file_of_pins_rewritten, target="engine.handover._from_file", by=from_any_file),
    Mutation(attack=pin_that_leads_to_another_repository, target="engine.handover._pinned", by=any_pin),
    Mutation(
        attack=platform_entry_of_another_image,
        target="actions.lock_claims.proven_manifest",
        by=lambda entry, platform, _source: entry.platforms[platform],
    ),
    Mutation(attack=another_index_served_under_the_digest, target="image.digest.Digest.matches", by=yes),
    Mutation(attack=forged_created, target="actions.policies.Policies.days", by=days_of_the_lock),
    Mutation(attack=forged_created_that_is_told, target="actions.lock_claims.hold_created", by=anything),
    Mutation(attack=forged_platform, target="actions.policies.Policies.offered", by=platforms_of_the_lock),
    Mutation(attack=platform_of_another_index_that_is_served, target="image.digest.Digest.matches", by=yes),
    Mutation(attack=forged_platform_that_is_told, target="actions.lock_claims.hold_platforms", by=anything),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.attack.__name__)
def test_without_its_verification_it_succeeds(mutation, tmp_path, monkeypatch):
    assert mutation.holds(tmp_path, monkeypatch)
