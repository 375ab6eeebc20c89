"""Each attack of ``tests/support/attacks.py`` fails. What stops it is shown in ``test_mutations.py``."""

import inspect

import pytest

from tests.support import attacks
from tests.support.lab import Lab

ATTACKS = {
    name: function
    for name, function in vars(attacks).items()
    if inspect.isfunction(function) and list(inspect.signature(function).parameters) == ["lab"] and name[0] != "_"
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_fails(attack, tmp_path):
    with Lab(tmp_path) as lab:
        assert not attack(lab)


@pytest.mark.parametrize("body", attacks.HOSTILE_JSON.values(), ids=attacks.HOSTILE_JSON)
def test_hostile_json_is_refused(body, tmp_path):
    with Lab(tmp_path) as lab:
        assert not attacks.hostile_json(lab, body)
