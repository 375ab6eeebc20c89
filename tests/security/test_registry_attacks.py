"""Each attack of ``tests/support/attacks`` fails. What stops it is shown in ``test_mutations.py``."""

import pytest

from tests.support.attacks import addresses, attacks_of, beliefs, costs, logins
from tests.support.lab import Lab

ATTACKS = attacks_of(logins, addresses, beliefs, costs)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_fails(attack, tmp_path):
    with Lab(tmp_path) as lab:
        assert not attack(lab)


@pytest.mark.parametrize("body", beliefs.HOSTILE_JSON.values(), ids=beliefs.HOSTILE_JSON)
def test_hostile_json_is_refused(body, tmp_path):
    with Lab(tmp_path) as lab:
        assert not beliefs.hostile_json(lab, body)
