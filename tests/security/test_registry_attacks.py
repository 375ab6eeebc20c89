"""Each attack of ``tests/support/attacks`` fails. What stops it is shown in ``test_mutations.py``."""

import inspect

import pytest

from tests.support.attacks import addresses, beliefs, costs, logins
from tests.support.lab import Lab

ATTACKS = {
    name: function
    for module in (logins, addresses, beliefs, costs)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and list(inspect.signature(function).parameters) == ["lab"] and name[0] != "_"
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_fails(attack, tmp_path):
    with Lab(tmp_path) as lab:
        assert not attack(lab)


@pytest.mark.parametrize("body", beliefs.HOSTILE_JSON.values(), ids=beliefs.HOSTILE_JSON)
def test_hostile_json_is_refused(body, tmp_path):
    with Lab(tmp_path) as lab:
        assert not beliefs.hostile_json(lab, body)
