"""Each verification of what a site names is what stops its attack: with it taken away, the attack succeeds."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from snakemake_apptainer_freshness.common import trusted
from tests.security.test_fact_store_attacks import SITE, believes, filled, image, nothing_else_named, shared
from tests.support import accounts
from tests.support.accounts import ALICE, MALLORY

__all__ = ["image", "nothing_else_named", "shared"]  # fixtures


def answers(store, image):
    """What the victim's check says as it is, and with each of what is taken away."""
    return accounts.run(ALICE, believes, store, image)


def test_a_store_of_anybody_counts_where_its_owner_is_not_looked_at(shared, image):
    store = accounts.run(MALLORY, filled, shared / "facts", image)
    assert answers(store, image) != "verified"
    with mock.patch.object(trusted, "_refuse_foreign"):
        assert answers(store, image) == "verified"


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_fact_that_others_may_write_counts_where_modes_are_not_looked_at(shared, image, depth):
    store = accounts.run(SITE, filled, shared / "facts", image)
    [fact] = store.rglob("*.json")
    accounts.run(SITE, [fact, *fact.parents][depth].chmod, 0o777)
    assert answers(store, image) != "verified"
    with mock.patch.object(trusted, "_WRITABLE_BY_OTHERS", 0):
        assert answers(store, image) == "verified"


def test_a_way_that_anybody_may_lead_elsewhere_counts_where_links_are_followed(shared, image):
    honest = accounts.run(SITE, filled, shared / "honest", image)
    link = shared / "facts"
    accounts.run(MALLORY, link.symlink_to, honest)
    assert answers(link, image) != "verified"
    follows = trusted._FOLDER & ~os.O_NOFOLLOW
    with mock.patch.object(trusted, "_FOLDER", follows), mock.patch.object(trusted.stat, "S_ISLNK", return_value=False):
        assert answers(link, image) == "verified"
