"""What attacks on a site's fact stores begin with: an image of the attacker, and a store that calls it proven."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.common import trusted
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.store import sites
from tests.support import accounts, pins
from tests.support.accounts import ALICE, BOB, Account
from tests.support.pins import fact_of, pin
from tests.support.stores import publish

SITE = BOB
"""The account of the facility, which a victim's machine lists."""
OWNERS_OF_THE_MACHINE = accounts.owners_of_the_machine()


@pytest.fixture(autouse=True)
def nothing_else_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test names is there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CONFIG_DIRS", "/nonexistent")
    monkeypatch.setattr(sites, "_SYSTEM", Path("/nonexistent"))
    sites._named.cache_clear()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that any account may make names in, as ``/tmp`` is."""
    with accounts.shared_folder() as folder:
        yield folder


@pytest.fixture
def image(shared: Path) -> Path:
    """The victim's image, which the attacker made."""
    return Path(accounts.run(ALICE, pins.put, shared / "images of alice", pin()))


def filled(store: Path, image: Path) -> Path:
    """Publish a store that calls `image` proven."""
    store.mkdir(parents=True, mode=0o755, exist_ok=True)
    publish(store, fact_of(image.read_bytes(), pin()))
    return store


def believes(store: Path, image: Path, owner: Account = SITE) -> str:
    """What the victim's check says, or the error that ends it; her machine names `store` and its `owner`.

    Where the accounts run in a user namespace, its overflow user stands for root, as on a machine of their own.
    """
    if OWNERS_OF_THE_MACHINE:
        trusted.is_unmapped = lambda uid: False  # noqa: ARG005
    os.environ[sites.STORES] = str(store)
    os.environ[sites.OWNERS] = os.pathsep.join(map(str, (owner.uid, *OWNERS_OF_THE_MACHINE)))
    try:
        return check_one(pin(), image).state.value
    except UsageError as error:
        return error.message
